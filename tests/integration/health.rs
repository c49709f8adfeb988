//! Health checks: who is asked, when, and what becomes of the answers.

use crate::support::{IMAGE, Store, eventually};

fn health(store: &Store, name: &str) -> String {
    store.inspect(name, "{{.State.Health.Status}}")
}

fn status(store: &Store, name: &str) -> String {
    store.ok(&["ps", "-a", "--filter", &format!("name=^{name}$"), "--format", "{{.Status}}"])
}

#[test]
fn a_container_is_healthy_while_its_check_succeeds() {
    let store = Store::new();
    let mut args = vec!["run", "-d", "--name", "checked", "--health-cmd", "echo said; test -f /well"];
    args.extend(["--health-interval", "50ms", "--health-retries", "2", IMAGE, "sleep", "1000"]);
    store.ok(&args);
    eventually("two failures", || health(&store, "checked") == "unhealthy");
    assert!(status(&store, "checked").ends_with("(unhealthy)"));
    let streak: u32 = store.inspect("checked", "{{.State.Health.FailingStreak}}").parse().unwrap();
    assert!(streak >= 2, "{streak}");
    store.ok(&["exec", "checked", "touch", "/well"]);
    eventually("a success", || health(&store, "checked") == "healthy");
    assert!(status(&store, "checked").ends_with("(healthy)"));
    let log = store.inspect("checked", "{{json .State.Health.Log}}");
    let log: Vec<serde_json::Value> = serde_json::from_str(&log).unwrap();
    assert!((1..=5).contains(&log.len()), "{log:?}");
    let last = log.last().unwrap();
    assert_eq!((last["ExitCode"].as_i64(), last["Output"].as_str()), (Some(0), Some("said\n")));
    assert!(last["Start"].as_str() <= last["End"].as_str());
    for (filter, expected) in [("healthy", 1), ("unhealthy", 0), ("none", 0)] {
        let found = store.ok(&["ps", "-q", "--filter", &format!("health={filter}")]);
        assert_eq!(found.lines().count(), expected, "{filter}");
    }
    assert!(store.fails(1, &["ps", "--filter", "health=well"]).contains("invalid filter 'health=well'"));
    assert_eq!(store.ok(&["healthcheck", "run", "checked"]), "said");
    store.ok(&["exec", "checked", "rm", "/well"]);
    assert_eq!(store.run(&["healthcheck", "run", "checked"]).code, 1);
    store.ok(&["stop", "-t", "0", "checked"]);
    // Who is not there is not well; what was said last can still be read.
    assert_eq!(health(&store, "checked"), "unhealthy");
    assert!(status(&store, "checked").starts_with("Exited"));
    assert!(store.inspect("checked", "{{len .State.Health.Log}}") != "0");
}

#[test]
fn a_check_that_takes_too_long_is_ended_with_all_that_it_started() {
    let store = Store::new();
    let mut args = vec!["run", "-d", "--name", "slow", "--health-cmd", "echo begun; sleep 4242; true"];
    args.extend(["--health-interval", "20ms", "--health-timeout", "1s", "--health-retries", "1"]);
    args.extend([IMAGE, "sleep", "1000"]);
    store.ok(&args);
    eventually("the verdict", || health(&store, "slow") == "unhealthy");
    let log = store.inspect("slow", "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}");
    assert!(log.starts_with("-1 Health check exceeded timeout (1s): begun"), "{log}");
    // The supervisor served its clients all the while, and keeps no dead ones.
    assert_eq!(store.ok(&["exec", "slow", "echo", "here"]), "here");
    let asked = store.inspect("slow", "{{len .State.Health.Log}}");
    eventually("one more check", || store.inspect("slow", "{{len .State.Health.Log}}") > asked);
    let sleeps = store.ok(&["exec", "slow", "ps"]).matches("sleep 4242").count();
    // The shell and what it waits for, of the one check that may be under way.
    assert!(sleeps <= 2, "{sleeps}");
    store.ok(&["stop", "-t", "0", "slow"]);
}

#[test]
fn failures_do_not_count_while_it_starts() {
    let store = Store::new();
    let mut args = vec!["run", "-d", "--name", "starting", "--health-cmd", "echo x >> /asked; false"];
    args.extend(["--health-start-period", "1h", "--health-start-interval", "20ms", "--health-interval", "1h"]);
    args.extend(["--health-retries", "1", IMAGE, "sleep", "1000"]);
    store.ok(&args);
    eventually("five checks", || store.ok(&["exec", "starting", "sh", "-c", "wc -l < /asked || true"]).trim() >= "5");
    assert_eq!(health(&store, "starting"), "starting");
    assert!(status(&store, "starting").ends_with("(health: starting)"));
    assert_eq!(store.inspect("starting", "{{.State.Health.FailingStreak}}"), "0");
}

#[test]
fn the_image_says_how_and_the_user_may_say_otherwise() {
    let store = Store::new();
    store.image("checked", &["HEALTHCHECK --interval=50ms --retries=1 CMD test -d /proc"]);
    store.ok(&["run", "-d", "--name", "image", "checked", "sleep", "1000"]);
    eventually("a success", || health(&store, "image") == "healthy");
    let asked = "{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}}";
    assert_eq!(store.inspect("image", asked), r#"["CMD-SHELL","test -d /proc"] 50000000"#);
    store.ok(&["run", "-d", "--name", "user", "--health-cmd", "false", "checked", "sleep", "1000"]);
    eventually("a failure", || health(&store, "user") == "unhealthy");
    store.ok(&["run", "-d", "--name", "none", "--no-healthcheck", "checked", "sleep", "1000"]);
    assert!(!status(&store, "none").contains("health"));
    assert_eq!(store.inspect("none", "{{json .Config.Healthcheck}}"), r#"{"Test":["NONE"]}"#);
    assert!(store.fails(1, &["healthcheck", "run", "none"]).contains("has no defined healthcheck"));
    let refused = [
        (&["--no-healthcheck", "--health-cmd", "x"][..], "--no-healthcheck conflicts with --health-* options"),
        (&["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (&["--health-timeout", "1us"], "--health-timeout cannot be less than 1ms"),
        (&["--health-retries", "-1"], "--health-retries cannot be negative"),
        (&["--health-interval", "soon"], "invalid argument \"soon\""),
    ];
    for (flags, expected) in refused {
        let err = store.fails(125, &[&["run"], flags, &[IMAGE, "true"]].concat());
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn a_check_is_as_confined_as_the_container_and_rests_while_it_is_paused() {
    let store = Store::new();
    let check = "id -u > /tmp/who; grep CapEff /proc/self/status >> /tmp/who; pwd >> /tmp/who; date +%N >> /tmp/times";
    let mut args = vec!["run", "-d", "--name", "confined", "-u", "1000", "-w", "/tmp", "--tmpfs", "/tmp"];
    args.extend(["--health-cmd", check, "--health-interval", "30ms", IMAGE, "sleep", "1000"]);
    store.ok(&args);
    eventually("a check", || health(&store, "confined") == "healthy");
    let who = store.ok(&["exec", "confined", "cat", "/tmp/who"]);
    assert_eq!(who, "1000\nCapEff:\t0000000000000000\n/tmp");
    store.ok(&["pause", "confined"]);
    let log = || store.inspect("confined", "{{json .State.Health.Log}}");
    let before = log();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let paused = log();
    store.ok(&["unpause", "confined"]);
    // One may have been under way.
    let ends = |log: &str| log.matches("\"ExitCode\":0").count();
    assert_eq!(ends(&before), ends(&paused), "{before} {paused}");
    eventually("checks to go on", || log() != paused);
}
