//! Further commands in a running container.

use crate::support::{Done, IMAGE, Store, eventually, facts, signal};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};

/// A container that runs until somebody ends it.
fn host(store: &Store, options: &[&str]) -> String {
    store.ok(&[&["run", "-d", "--name", "host"], options, &[IMAGE, "sleep", "1000"]].concat())
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// Whether the container has a process with this command line.
fn runs(store: &Store, command: &str) -> bool {
    store.ok(&["top", "host"]).lines().any(|l| l.ends_with(command))
}

fn probed(store: &Store, flags: &[&str]) -> BTreeMap<String, String> {
    facts(&store.ok(&[&["exec"], flags, &["host", "probe", "all"]].concat()))
}

// ---- output, status, input

#[test]
fn output_errors_and_status_come_back() {
    let store = Store::new();
    host(&store, &[]);
    let done = store.run(&["exec", "host", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
    for (script, code) in [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(store.run(&["exec", "host", "sh", "-c", script]).code, code, "{script}");
    }
    assert_eq!(store.inspect("host", "{{.State.Status}}"), "running");
}

#[test]
fn a_command_that_cannot_be_executed_is_126_and_a_missing_one_127() {
    let store = Store::new();
    host(&store, &[]);
    let error = store.fails(127, &["exec", "host", "nosuch"]);
    assert!(error.contains("nosuch") && error.contains("executable file not found in $PATH"), "{error}");
    let error = store.fails(127, &["exec", "host", "/no/such"]);
    assert!(error.contains("/no/such") && error.to_lowercase().contains("no such file or directory"), "{error}");
    for path in ["/etc/passwd", "/etc"] {
        let error = store.fails(126, &["exec", "host", path]);
        assert!(error.contains(path) && error.to_lowercase().contains("permission denied"), "{error}");
    }
    let error = store.fails(127, &["exec", "-d", "host", "nosuch"]);
    assert!(error.contains("nosuch"), "{error}");
}

#[test]
fn flags_after_the_container_belong_to_the_command() {
    let store = Store::new();
    host(&store, &[]);
    assert_eq!(store.ok(&["exec", "host", "echo", "-e", "-d", "--user", "x"]), "-d --user x");
    assert_eq!(store.ok(&["exec", "-e", "A=1", "host", "sh", "-c", "echo $A $1", "sh", "-e"]), "1 -e");
}

#[test]
fn input_is_passed_to_its_end() {
    let store = Store::new();
    host(&store, &[]);
    let bytes: Vec<u8> = (0..=255u8).cycle().take(3_000_000).collect();
    let done = store.run_with_input(&["exec", "-i", "host", "cat"], &bytes);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.raw == bytes, "{} bytes came back", done.raw.len());
    let done = store.run_with_input(&["exec", "-i", "host", "sh", "-c", "read a; echo $a; exit 5"], b"first\nsecond\n");
    assert_eq!((done.code, done.out.as_str()), (5, "first\n"));
}

#[test]
fn without_i_there_is_no_input() {
    let store = Store::new();
    host(&store, &[]);
    let done = store.run_with_input(&["exec", "host", "cat"], b"unread");
    assert_eq!((done.code, done.out.as_str()), (0, ""));
    assert_eq!(store.ok(&["exec", "host", "readlink", "/proc/self/fd/0"]), "/dev/null");
}

#[test]
fn input_that_stays_open_does_not_hold_up_the_end() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "-i", "host", "sh", "-c", "read l; echo got $l"]);
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "got one\n");
    drop(stdin);
}

#[test]
fn large_output_comes_back_unchanged() {
    let store = Store::new();
    host(&store, &[]);
    let expected = store.ok(&["run", "--rm", IMAGE, "probe", "spew-hash", "20m"]);
    let output = store.command(&["exec", "host", "probe", "spew", "20m"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 20 << 20));
    let done = store.run_with_input(&["exec", "-i", "host", "probe", "cat-hash"], &output.stdout);
    assert_eq!(done.out.trim_end(), expected);
}

#[test]
fn a_slow_reader_loses_nothing() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "host", "seq", "1", "200000"]);
    // The command has long filled every buffer on the way when the reading begins.
    eventually("the command to wait for its reader", || runs(&store, "seq 1 200000"));
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(out.lines().map(|l| l.parse::<u32>().unwrap()).eq(1..=200_000));
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn a_terminal_is_given_when_asked_for() {
    let store = Store::new();
    host(&store, &[]);
    let done = store.run(&["exec", "-t", "host", "sh", "-c", "probe tty; echo $TERM"]);
    let text = done.out.replace('\r', "");
    let found = facts(&text);
    assert_eq!((found["stdin"].as_str(), found["controlling"].as_str()), ("yes", "yes"), "{done:?}");
    assert!(text.ends_with("xterm\n") && done.out.ends_with("\r\n"), "{done:?}");
    assert_eq!(facts(&store.ok(&["exec", "host", "probe", "tty"]))["stdout"], "no");
    let mut terminal = store.terminal(&["exec", "-it", "host", "sh"]);
    terminal.expect("# ");
    terminal.send("exit 11\n");
    assert_eq!(terminal.wait(), 11);
    assert!(!terminal.is_raw());
}

// ---- the process

#[test]
fn the_command_shares_the_containers_world() {
    let store = Store::new();
    let options = ["--ulimit", "nofile=77:88", "--cap-drop", "CHOWN", "--oom-score-adj", "300", "--hostname", "inside"];
    store
        .ok(&[&["run", "-d", "--name", "host"], &options[..], &[IMAGE, "sh", "-c", "probe all; exec sleep 1000"]]
            .concat());
    eventually("the container's facts", || store.ok(&["logs", "host"]).contains("env.HOME="));
    let mut own = facts(&store.ok(&["logs", "host"]));
    // The shell's own.
    own.retain(|k, _| !["env.PWD", "env.SHLVL", "env._"].contains(&k.as_str()));
    let found = probed(&store, &[]);
    let keys = |facts: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let same = |k: &String| {
            let begins = ["ns.", "rlimit.", "Cap", "Seccomp", "NoNewPrivs", "env.", "uid", "gid", "groups", "umask"];
            let others = ["cgroup", "oom_score_adj", "hostname", "cwd", "SigBlk", "SigIgn"];
            begins.iter().any(|b| k.starts_with(b)) || others.contains(&k.as_str())
        };
        facts.iter().filter(|(k, _)| same(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    assert!(keys(&own).len() > 30, "{own:?}");
    assert_eq!(keys(&found), keys(&own));
    assert_eq!((found["rlimit.NOFILE"].as_str(), found["hostname"].as_str()), ("77:88", "inside"));
    assert_ne!(found["pid"], "1");
    // Only the three streams are open.
    let open: Vec<&String> = found.keys().filter(|k| k.starts_with("fd.")).collect();
    assert_eq!(open, ["fd.0", "fd.1", "fd.2"]);
}

#[test]
fn variables_are_added_and_replaced() {
    let store = Store::new();
    host(&store, &["-e", "A=of-container", "-e", "B=kept"]);
    let list = store.write("list", "# remark\nC=from file\nA=from-file\nCOPIED\nMISSING_HERE\n\nD=\"q\"\n");
    let args = ["exec", "--env-file", &list, "-e", "A=of-flag", "-e", "TAKEN", "-e", "E=", "host", "env"];
    let output = store.command(&args).env("TAKEN", "from here").env("COPIED", "also").output().unwrap();
    let env = facts(&String::from_utf8_lossy(&output.stdout));
    let expected = [("A", "of-flag"), ("B", "kept"), ("C", "from file"), ("COPIED", "also"), ("D", "\"q\"")];
    for (key, value) in expected.into_iter().chain([("TAKEN", "from here"), ("E", ""), ("HOME", "/root")]) {
        assert_eq!(env.get(key).map(String::as_str), Some(value), "{key} in {env:?}");
    }
    assert!(!env.contains_key("MISSING_HERE"));
    // Nothing of it stays.
    assert_eq!(store.ok(&["exec", "host", "sh", "-c", "echo $A $C"]), "of-container");
    let error = store.fails(1, &["exec", "--env-file", "/no/such", "host", "env"]);
    assert!(error.contains("/no/such"), "{error}");
}

#[test]
fn the_working_directory_is_the_containers_or_the_given_one() {
    let store = Store::new();
    host(&store, &["-w", "/usr/bin"]);
    assert_eq!(store.ok(&["exec", "host", "pwd"]), "/usr/bin");
    assert_eq!(store.ok(&["exec", "-w", "/etc", "host", "pwd"]), "/etc");
    assert_eq!(store.ok(&["exec", "--workdir=/tmp", "host", "pwd"]), "/tmp");
    let error = store.fails(126, &["exec", "-w", "/no/such", "host", "pwd"]);
    assert!(error.contains("/no/such") && error.to_lowercase().contains("no such file or directory"), "{error}");
    let error = store.fails(126, &["exec", "-w", "/etc/passwd", "host", "pwd"]);
    assert!(error.contains("/etc/passwd"), "{error}");
    assert_ne!(store.run(&["exec", "host", "test", "-e", "/no"]).code, 0);
}

#[test]
fn the_user_is_the_containers_or_the_given_one() {
    let store = Store::new();
    host(&store, &["-u", "33:44"]);
    let id = |flags: &[&str]| {
        let found = probed(&store, flags);
        format!("{}:{} {} {}", found["uid"], found["gid"], found["groups"], found["CapEff"])
    };
    let none = "0000000000000000";
    assert_eq!(id(&[]), format!("33:44 44 {none}"));
    assert_eq!(id(&["-u", "1234"]), format!("1234:0 0 {none}"));
    assert_eq!(id(&["-u", "1234:99"]), format!("1234:99 99 {none}"));
    assert!(id(&["-u", "0"]).starts_with("0:0"), "{}", id(&["-u", "0"]));
    assert_ne!(probed(&store, &["-u", "root"])["CapEff"], none);
    let done = store.run(&["exec", "-u", "nosuch", "host", "true"]);
    assert_ne!(done.code, 0);
    assert!(done.err.contains("unable to find user nosuch: no matching entries in passwd file"), "{done:?}");
    let done = store.run(&["exec", "-u", "0:nosuch", "host", "true"]);
    assert_ne!(done.code, 0);
    assert!(done.err.contains("unable to find group nosuch"), "{done:?}");
}

#[test]
fn users_come_from_the_containers_own_files_as_they_are_now() {
    let store = Store::new();
    host(&store, &[]);
    assert_ne!(store.run(&["exec", "-u", "fresh", "host", "true"]).code, 0);
    let script = "echo fresh:x:4321:4322::/home/fresh:/bin/sh >> /etc/passwd; echo fellows:x:4323:fresh >> /etc/group";
    store.ok(&["exec", "host", "sh", "-c", script]);
    let found = probed(&store, &["-u", "fresh"]);
    let got = (found["uid"].as_str(), found["gid"].as_str(), found["groups"].as_str(), found["env.HOME"].as_str());
    assert_eq!(got, ("4321", "4322", "4322,4323", "/home/fresh"));
    let found = probed(&store, &["-u", "fresh:fellows"]);
    assert_eq!((found["gid"].as_str(), found["groups"].as_str()), ("4323", "4323"));
}

#[test]
fn a_hostile_passwd_file_does_no_harm() {
    let store = Store::new();
    host(&store, &[]);
    // A link out of the container is looked up inside it, and what is no file is not waited for.
    store.ok(&["exec", "host", "sh", "-c", "rm /etc/passwd; ln -s ../../../../../../etc/hostname /etc/passwd"]);
    assert_eq!(store.ok(&["exec", "-u", "0", "host", "id", "-u"]), "0");
    store.ok(&["exec", "host", "sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd"]);
    let done = store.run(&["exec", "-u", "somebody", "host", "id", "-u"]);
    assert!(done.code != 0 && done.err.contains("somebody"), "{done:?}");
}

#[test]
fn privileged_commands_have_all_capabilities() {
    let store = Store::new();
    host(&store, &[]);
    let plain = probed(&store, &[]);
    assert_eq!(plain["CapEff"], "00000000a80425fb");
    let mine = std::fs::read_to_string("/proc/self/status").unwrap();
    let mine = mine.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap().trim();
    for flag in ["--privileged", "--privileged=true"] {
        assert_eq!(probed(&store, &[flag])["CapEff"], mine);
    }
    assert_eq!(probed(&store, &["--privileged=false"])["CapEff"], plain["CapEff"]);
}

// ---- the container

#[test]
fn a_container_that_does_not_run_refuses() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "idle", IMAGE, "true"]);
    for _ in 0..2 {
        let error = store.fails(1, &["exec", "idle", "true"]);
        assert!(error.contains(&format!("Container {id} is not running")), "{error}");
        store.ok(&["start", "-a", "idle"]);
    }
    assert!(store.fails(1, &["exec", "nosuch", "true"]).contains("No such container: nosuch"));
    assert_eq!(store.run(&["exec", "idle"]).code, 1);
    assert_eq!(store.run(&["exec"]).code, 1);
}

#[test]
fn a_paused_container_refuses() {
    let store = Store::new();
    host(&store, &[]);
    store.ok(&["pause", "host"]);
    let error = store.fails(1, &["exec", "host", "true"]);
    assert!(error.contains("Container host is paused, unpause the container before exec"), "{error}");
}

#[test]
fn the_end_of_the_container_ends_its_commands() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "host", "sh", "-c", "echo ready; exec sleep 2000"]);
    assert_eq!(line(&mut BufReader::new(client.stdout.take().unwrap())), "ready\n");
    store.ok(&["exec", "-d", "host", "sleep", "3000"]);
    store.ok(&["kill", "host"]);
    assert_eq!(client.wait().unwrap().code(), Some(137));
    store.rests();
    store.ok(&["start", "host"]);
    assert_eq!(store.ok(&["top", "host"]).lines().count(), 2);
    assert_eq!(store.ok(&["exec", "host", "echo", "again"]), "again");
}

#[test]
fn pausing_freezes_a_command_too() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "-i", "host", "sh", "-c", "echo ready; read l; echo got $l"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "ready\n");
    store.ok(&["pause", "host"]);
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"word\n").unwrap();
    store.ok(&["unpause", "host"]);
    assert_eq!(line(&mut output), "got word\n");
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn twenty_commands_run_at_once() {
    let store = Store::new();
    host(&store, &[]);
    let all: Vec<(usize, Done)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|n| {
                let store = &store;
                let script = format!("echo out-{n}; echo err-{n} >&2; exit {n}");
                scope.spawn(move || (n, store.run(&["exec", "host", "sh", "-c", &script])))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (n, done) in &all {
        let expected = (*n as i32, format!("out-{n}\n"), format!("err-{n}\n"));
        assert_eq!((done.code, done.out.clone(), done.err.clone()), expected);
    }
    eventually("only the container's own process to be left", || store.ok(&["top", "host"]).lines().count() == 2);
}

// ---- the client

#[test]
fn a_detached_command_goes_on_without_its_client() {
    let store = Store::new();
    host(&store, &[]);
    let done = store.run(&["exec", "-d", "host", "sh", "-c", "until test -e /go; do sleep 0.05; done; echo x > /went"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
    store.ok(&[
        "exec",
        "-d",
        "-e",
        "V=1",
        "-w",
        "/tmp",
        "-u",
        "33",
        "host",
        "sh",
        "-c",
        "echo $V $(pwd) $(id -u) > out",
    ]);
    store.ok(&["exec", "host", "touch", "/go"]);
    eventually("its work", || store.run(&["exec", "host", "cat", "/went"]).out == "x\n");
    eventually("the other's work", || store.run(&["exec", "host", "cat", "/tmp/out"]).out == "1 /tmp 33\n");
}

#[test]
fn a_command_dies_with_its_killed_client() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "host", "sh", "-c", "echo ready; exec sleep 2222"]);
    assert_eq!(line(&mut BufReader::new(client.stdout.take().unwrap())), "ready\n");
    eventually("the command", || runs(&store, "sleep 2222"));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the command to die", || !runs(&store, "sleep 2222"));
    assert_eq!(store.inspect("host", "{{.State.Status}}"), "running");
}

#[test]
fn a_command_on_a_terminal_dies_with_its_killed_client() {
    let store = Store::new();
    host(&store, &[]);
    let mut terminal = store.terminal(&["exec", "-it", "host", "sleep", "2222"]);
    eventually("the command", || runs(&store, "sleep 2222"));
    terminal.child.kill().unwrap();
    terminal.wait();
    eventually("the command to die", || !runs(&store, "sleep 2222"));
}

#[test]
fn a_detached_command_does_not_die_with_its_killed_client() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "-d", "host", "sleep", "2222"]);
    eventually("the command", || runs(&store, "sleep 2222"));
    let _ = client.kill();
    client.wait().unwrap();
    assert!(runs(&store, "sleep 2222"));
    assert_eq!(store.ok(&["exec", "host", "echo", "alive"]), "alive");
    assert!(runs(&store, "sleep 2222"));
}

#[test]
fn signals_to_the_client_are_passed_on() {
    let store = Store::new();
    host(&store, &[]);
    let mut client = store.spawn(&["exec", "host", "probe", "trap"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "ready\n");
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGTERM] {
        signal(client.id() as i32, number);
        assert_eq!(line(&mut output), format!("signal {number}\n"));
    }
    assert_eq!(client.wait().unwrap().code(), Some(40));
    // One without a handler dies of it: it is no first process.
    let mut client = store.spawn(&["exec", "host", "sh", "-c", "echo ready; exec sleep 2222"]);
    assert_eq!(line(&mut BufReader::new(client.stdout.take().unwrap())), "ready\n");
    eventually("the command", || runs(&store, "sleep 2222"));
    signal(client.id() as i32, libc::SIGTERM);
    assert_eq!(client.wait().unwrap().code(), Some(143));
    assert!(!runs(&store, "sleep 2222"));
}

#[test]
fn what_children_write_soon_after_the_command_has_ended_is_heard() {
    let store = Store::new();
    host(&store, &[]);
    let done = store.run(&["exec", "host", "sh", "-c", "(sleep 0.5; echo late; echo later >&2) & echo done; exit 3"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (3, "done\nlate\n", "later\n"));
}

#[test]
fn a_command_that_left_children_behind_ends_all_the_same() {
    let store = Store::new();
    host(&store, &[]);
    // The child holds the output pipe open.
    let done = store.run(&["exec", "host", "sh", "-c", "sleep 2222 & echo done; exit 3"]);
    assert_eq!((done.code, done.out.as_str()), (3, "done\n"));
    eventually("the child", || runs(&store, "sleep 2222"));
}

#[test]
fn a_list_of_users_that_is_no_file_is_never_opened() {
    let store = Store::new();
    // Whoever opens a fifo for reading lets the writer go on.
    let script =
        "rm /etc/passwd; mkfifo /etc/passwd; (echo x > /etc/passwd; touch /opened) 2>/dev/null & exec sleep 1000";
    store.ok(&[
        "run",
        "-d",
        "--name",
        "host",
        "--health-cmd",
        "true",
        "--health-interval",
        "0.1s",
        IMAGE,
        "sh",
        "-c",
        script,
    ]);
    eventually("the fifo", || store.run(&["exec", "host", "test", "-p", "/etc/passwd"]).code == 0);
    eventually("a health check", || store.inspect("host", "{{.State.Health.Status}}") == "healthy");
    store.ok(&["exec", "host", "test", "!", "-e", "/opened"]);
    // Nor is what the kernel makes up, like its log, which is gone when it was read.
    store.ok(&["exec", "host", "sh", "-c", "rm /etc/passwd; ln -s /proc/self/environ /etc/passwd"]);
    let said = store.run(&["exec", "-u", "nobody", "host", "true"]);
    assert!(said.code != 0 && said.err.contains("unable to find user nobody"), "{said:?}");
    store.ok(&["exec", "host", "true"]);
}
