//! `events`: what has happened, without anybody who listened.

use crate::support::{IMAGE, Store, eventually, fixture, signal};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// Kind and action of each event so far.
fn actions(store: &Store, filters: &[&str]) -> Vec<String> {
    let filters = filters.iter().flat_map(|f| ["--filter", f]);
    let mut args = vec!["events", "--since", "1h", "--until", "0s", "--format", "{{.Type}} {{.Action}}"];
    args.extend(filters);
    store.ok(&args).lines().map(str::to_owned).collect()
}

#[test]
fn templates_may_ask_for_what_not_every_event_has() {
    let store = Store::new();
    assert_eq!(store.run(&["run", "--name", "box", IMAGE, "false"]).code, 1);
    let events = |format: &str| {
        store.ok(&["events", "--since", "1h", "--until", "0s", "-f", "container=box", "--format", format])
    };
    let told = events("{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}");
    assert!(told.contains("create box <no value>\n") && told.contains("die box 1"), "{told}");
    let id = store.inspect("box", "{{.Id}}");
    let told = events("{{.Type}} {{.Status}} {{.ID}} {{.From}} {{.Scope}}");
    assert!(told.contains(&format!("container die {id} {IMAGE} local")), "{told}");
    assert!(events("{{.Time}}").lines().all(|time| time.parse::<u64>().is_ok_and(|time| time > 1_700_000_000)));
}

#[test]
fn the_life_of_a_container_is_told() {
    let store = Store::new();
    store.ok(&[
        "run",
        "-d",
        "--name",
        "host",
        "-l",
        "tier=web",
        IMAGE,
        "sh",
        "-c",
        "trap 'exit 3' TERM; sleep 1000 & wait",
    ]);
    store.ok(&["exec", "host", "true"]);
    store.ok(&["pause", "host"]);
    store.ok(&["unpause", "host"]);
    store.ok(&["rename", "host", "other"]);
    store.ok(&["update", "--pids-limit", "100", "other"]);
    eventually("the trap", || store.run(&["exec", "other", "pidof", "sleep"]).code == 0);
    store.ok(&["stop", "other"]);
    store.ok(&["start", "other"]);
    store.ok(&["kill", "other"]);
    store.ok(&["rm", "other"]);
    let all = actions(&store, &["type=container"]);
    let all: Vec<&str> =
        all.iter().filter(|a| !a.contains("pidof") && !a.ends_with("exec_die")).map(|a| &a[10..]).collect();
    let expected = "create|start|exec_create: true|exec_start: true|pause|unpause|rename|update|kill|die|stop|start|kill|die|destroy";
    assert_eq!(all.join("|"), expected);
    let line = store.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=die"]);
    let first = line.lines().next().unwrap();
    let (time, rest) = first.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == 30, "{time}");
    let id = rest.split(' ').nth(2).unwrap();
    assert_eq!(id.len(), 64);
    let expected = format!("container die {id} (execDuration=");
    assert!(
        rest.starts_with(&expected) && rest.ends_with(", exitCode=3, image=busybox, name=host, tier=web)"),
        "{rest}"
    );
    for (filters, count) in [
        (&["container=host", "event=create"][..], 1),
        (&["container=nobody"], 0),
        (&["label=tier=web", "event=rename"], 1),
        (&["label=tier=db"], 0),
        (&["image=busybox", "event=destroy"], 1),
        (&["event=exec_create"], 2),
        (&["type=image", "event=import"], 1),
        (&["type=volume"], 0),
    ] {
        let found = actions(&store, filters);
        let found = found.iter().filter(|a| !a.contains("pidof")).count();
        let expected = if filters == ["event=exec_create"] { found.min(count) } else { count };
        assert_eq!(found, expected, "{filters:?}");
    }
    assert!(store.fails(1, &["events", "--filter", "colour=red"]).contains("Invalid filter 'colour'"));
    assert!(store.fails(1, &["events", "--since", "yore"]).contains("failed to parse value as time or duration"));
}

/// Goes with its test, however that ends.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_listens_hears_at_once() {
    let store = Store::new();
    store.ok(&["run", "--rm", IMAGE, "true"]);
    let mut command = store.command(&["events", "--filter", "type=container", "--format", "{{json .}}"]);
    let mut child = Listener(command.stdout(Stdio::piped()).spawn().unwrap());
    let child = &mut child.0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It listens when it has its descriptors.
    let fds = format!("/proc/{}/fd", child.id());
    let listens = || {
        let links = std::fs::read_dir(&fds).unwrap().flatten().filter_map(|e| std::fs::read_link(e.path()).ok());
        links.filter(|l| l.to_string_lossy().contains("inotify") || l.ends_with("events")).count() >= 2
    };
    eventually("it to listen", listens);
    assert_eq!(store.run(&["run", "--rm", "--name", "heard", IMAGE, "sh", "-c", "exit 7"]).code, 7);
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap();
    for action in ["create", "attach", "start", "die", "destroy"] {
        let event = next();
        assert_eq!((event["Action"].as_str(), event["Type"].as_str()), (Some(action), Some("container")), "{event}");
        assert_eq!(event["Actor"]["Attributes"]["name"], "heard");
        assert_eq!((event["status"].as_str(), event["from"].as_str()), (Some(action), Some(IMAGE)));
        if action == "die" {
            assert_eq!(event["Actor"]["Attributes"]["exitCode"], "7");
        }
    }
    signal(child.id() as i32, libc::SIGTERM);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn images_and_what_is_out_of_memory_are_told_of() {
    let store = Store::empty();
    store.ok(&["import", fixture("busybox.tar").to_str().unwrap(), "busybox"]);
    store.ok(&["tag", "busybox", "other:1"]);
    store.ok(&["rmi", "other:1"]);
    let images = actions(&store, &["type=image"]);
    assert_eq!(images, ["image import", "image tag", "image untag"]);
    let id = store.inspect("busybox", "{{.Id}}");
    store.ok(&["save", "-o", &store.text("saved.tar"), "busybox"]);
    store.ok(&["save", "--format", "oci-dir", "-o", &store.text("saved"), "busybox"]);
    store.fails(1, &["save", "-o", &store.text("no/folder"), "busybox"]);
    let format = "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}";
    let saved = ["events", "--since", "1h", "--until", "0s", "--filter", "event=save", "--format", format];
    assert_eq!(store.ok(&saved), [format!("save {id} {id}"), format!("save {id} {id}")].join("\n"));
    let greedy = "x=a; while :; do x=$x$x; done";
    let done =
        store.run(&["run", "--name", "greedy", "-m", "8m", "--memory-swap", "8m", "busybox", "sh", "-c", greedy]);
    assert_eq!(done.code, 137);
    let told = actions(&store, &["container=greedy"]);
    assert!(told.ends_with(&["container oom".to_owned(), "container die".to_owned()]), "{told:?}");
}

#[test]
fn networks_are_told_of() {
    let store = Store::new();
    let network = store.ok(&["network", "create", "mine"]);
    let container = store.ok(&["create", "--name", "one", IMAGE, "true"]);
    store.ok(&["network", "connect", "mine", "one"]);
    store.fails(1, &["network", "connect", "mine", "one"]);
    store.ok(&["network", "disconnect", "mine", "one"]);
    store.ok(&["network", "rm", "mine"]);
    let told = store.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "network=mine"]);
    let told: Vec<_> = told.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let line =
        |action: &str, container: &str| format!("network {action} {network} ({container}name=mine, type=bridge)");
    let with = format!("container={container}, ");
    let expected = [line("create", ""), line("connect", &with), line("disconnect", &with), line("destroy", "")];
    assert_eq!(told, expected);
}

#[test]
fn many_writers_do_not_mix_their_lines() {
    let store = Store::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.ok(&["run", "--rm", IMAGE, "true"]));
        }
    });
    for action in ["create", "start", "die", "destroy"] {
        assert_eq!(actions(&store, &[&format!("event={action}")]).len(), 8, "{action}");
    }
}

#[test]
fn health_is_told_of_when_it_changes() {
    let store = Store::new();
    let mut args = vec!["run", "-d", "--name", "checked", "--health-cmd", "test -f /well", "--health-retries", "1"];
    args.extend(["--health-interval", "40ms", IMAGE, "sleep", "1000"]);
    store.ok(&args);
    let told = |count: usize| eventually("the event", || actions(&store, &["event=health_status"]).len() == count);
    told(1);
    store.ok(&["exec", "checked", "touch", "/well"]);
    told(2);
    let expected = ["container health_status: unhealthy", "container health_status: healthy"];
    assert_eq!(actions(&store, &["event=health_status"]), expected);
    // The checks themselves are not worth a line each.
    assert_eq!(actions(&store, &["event=exec_create"]), ["container exec_create: touch /well"]);
}
