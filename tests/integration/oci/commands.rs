//! The commands on a container that is there, and all their flags.

use super::{create, refuses, says, status};
use crate::support::{done, eventually, fixture};
use crate::threats::bundle::Bundle;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn processes(b: &Bundle) -> Vec<i32> {
    serde_json::from_str(&says(b, &["ps", "--format", "json", b.id()])).unwrap()
}

fn detached(b: &Bundle, options: &[&str], args: &[&str]) {
    let all = [&["exec", "-d"], options, &[b.id()], args].concat();
    assert_eq!(b.quietly("exec \"$0\" \"$@\"", &all), 0, "{all:?}");
}

#[test]
fn signals_reach_the_first_process_or_all() {
    let mut b = Bundle::new();
    b.start_through("exec \"$0\" \"$@\"", &["sh", "-c", "trap 'touch /got' USR1; while :; do sleep 0.02; done"]);
    says(&b, &["kill", b.id(), "0"]);
    for (name, n) in [("USR1", 0), ("SIGUSR1", 1), ("sigusr1", 2), ("10", 3)] {
        let got = b.rootfs().join("got");
        eventually("the trap to be set", || {
            says(&b, &["kill", b.id(), name]);
            got.exists()
        });
        std::fs::remove_file(&got).unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    assert!(refuses(&b, 1, &["kill", b.id(), "NOSUCH"]).contains("unknown signal"));
    assert!(refuses(&b, 1, &["kill", b.id(), "99"]).contains("unknown signal"));
    detached(&b, &[], &["sleep", "999"]);
    assert!(says(&b, &["ps", b.id()]).contains("sleep 999"));
    says(&b, &["kill", "--all", b.id(), "KILL"]);
    eventually("all to have ended", || status(&b) == "stopped");
    says(&b, &["kill", "-a", b.id(), "KILL"]);
    assert!(refuses(&b, 1, &["kill", b.id(), "KILL"]).contains("container not running"));
}

#[test]
fn without_a_pid_namespace_nothing_outlives_the_deletion() {
    let mut b = Bundle::new();
    super::namespaces(&mut b, |list| list.retain(|n| n["type"] != "pid"));
    b.start_sleeping();
    detached(&b, &[], &["sleep", "999"]);
    let all = processes(&b);
    assert_eq!(all.len(), 2);
    says(&b, &["kill", b.id(), "KILL"]);
    eventually("the first process to have ended", || status(&b) == "stopped");
    // The other one is still there, and can be told by its container.
    assert_eq!(processes(&b).len(), 1);
    says(&b, &["kill", "--all", b.id(), "0"]);
    says(&b, &["delete", b.id()]);
    eventually("all to have ended", || all.iter().all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists()));
}

#[test]
fn what_is_paused_can_be_looked_at_killed_and_deleted() {
    let mut b = Bundle::new();
    create(&mut b, &["sleep", "1000"]);
    says(&b, &["pause", b.id()]);
    assert_eq!(status(&b), "paused");
    says(&b, &["resume", b.id()]);
    assert_eq!(status(&b), "created");
    says(&b, &["start", b.id()]);
    says(&b, &["pause", b.id()]);
    assert!(refuses(&b, 1, &["start", b.id()]).contains("cannot start an already running container"));
    assert_eq!(processes(&b).len(), 1);
    assert!(refuses(&b, 1, &["delete", b.id()]).contains("is not stopped: paused"));
    let mut waiting = b.oci(&["exec", "--ignore-paused", b.id(), "sh", "-c", "exit 5"]).spawn().unwrap();
    eventually("the process to be there", || processes(&b).len() == 2);
    assert!(waiting.try_wait().unwrap().is_none());
    says(&b, &["resume", b.id()]);
    assert_eq!(waiting.wait().unwrap().code(), Some(5));
    says(&b, &["pause", b.id()]);
    says(&b, &["kill", b.id(), "KILL"]);
    eventually("it to have ended", || status(&b) == "stopped");
    says(&b, &["delete", b.id()]);
    b.start_sleeping();
    says(&b, &["pause", b.id()]);
    says(&b, &["delete", "--force", b.id()]);
    assert!(refuses(&b, 1, &["pause", b.id()]).contains("does not exist"));
}

#[test]
fn a_created_container_can_be_deleted_or_killed_before_it_is_started() {
    let mut b = Bundle::new();
    create(&mut b, &["touch", "/ran"]);
    says(&b, &["delete", b.id()]);
    create(&mut b, &["touch", "/ran"]);
    says(&b, &["kill", b.id(), "KILL"]);
    eventually("it to have ended", || status(&b) == "stopped");
    assert!(refuses(&b, 1, &["start", b.id()]).contains("cannot start a container that has stopped"));
    says(&b, &["delete", b.id()]);
    assert!(!b.rootfs().join("ran").exists());
}

#[test]
fn run_keeps_what_it_is_told_to_keep() {
    let mut b = Bundle::new();
    b.set_args(&["sh", "-c", "exit 4"]);
    b.save();
    let (dir, pid_file, id) = (b.dir(), b.store.path("pid"), b.id().to_owned());
    let place = ["-b", dir.to_str().unwrap(), "--pid-file", pid_file.to_str().unwrap(), &id];
    assert_eq!(done(&mut b.oci(&[&["run", "--keep"], &place[..]].concat())).code, 4);
    assert_eq!(status(&b), "stopped");
    let state: Value = serde_json::from_str(&says(&b, &["state", b.id()])).unwrap();
    assert_eq!((&state["pid"], &state["bundle"]), (&json!(0), &json!(dir)));
    assert!(std::fs::read_to_string(&pid_file).unwrap().parse::<i32>().unwrap() > 1);
    assert!(refuses(&b, 1, &[&["run"], &place[..]].concat()).contains("already exists"));
    says(&b, &["delete", b.id()]);
    b.set_args(&["sleep", "1000"]);
    b.save();
    says_nothing(&b, &[&["run", "--detach"], &place[..]].concat());
    assert_eq!(status(&b), "running");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), b.pid().to_string());
    let table = says(&b, &["list"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(lines[1][..4], [b.id(), &b.pid().to_string(), "running", dir.to_str().unwrap()]);
    assert_eq!(lines[1][5], "root");
}

/// A command after which a process goes on that has its streams.
fn says_nothing(b: &Bundle, args: &[&str]) {
    assert_eq!(b.quietly("exec \"$0\" \"$@\"", args), 0, "{args:?}");
}

#[test]
fn resources_are_read_from_standard_input_and_flags() {
    let mut b = Bundle::new();
    b.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    b.start_sleeping();
    let file = |controller: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", b.pid())).unwrap();
        let line = text.lines().find(|l| l.split(':').nth(1).unwrap().split(',').any(|c| c == controller));
        let path = line?.rsplit(':').next().unwrap();
        let read = std::fs::read_to_string(format!("/sys/fs/cgroup/{controller}{path}/{name}"));
        Some(read.unwrap().trim().to_owned())
    };
    let mut update = b.oci(&["update", "-r", "-", b.id()]).stdin(Stdio::piped()).spawn().unwrap();
    let change = json!({"cpu": {"shares": 200, "quota": 30000, "period": 60000}, "pids": {"limit": 44}});
    update.stdin.take().unwrap().write_all(change.to_string().as_bytes()).unwrap();
    assert!(update.wait().unwrap().success());
    says(&b, &["update", "--cpu-quota", "20000", b.id()]);
    says(&b, &["update", "--memory-reservation", "32M", "--pids-limit", "-1", b.id()]);
    for (controller, name, value) in [
        ("cpu", "cpu.shares", "200"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "60000"),
        ("pids", "pids.max", "max"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.limit_in_bytes", "67108864"),
    ] {
        if let Some(found) = file(controller, name) {
            assert_eq!(found, value, "{name}");
        }
    }
    for (args, wrong) in [
        (&["--l3-cache-schema", "x"][..], "Intel RDT"),
        (&["--mem-bw-schema", "x"], "Intel RDT"),
        (&["--cpuset-cpus", "99999"], "cpuset"),
        (&["-r", "/nosuch"], "read /nosuch"),
        (&["-r", "/etc/passwd"], "understand /etc/passwd"),
    ] {
        let error = refuses(&b, 1, &[&["update"], args, &[b.id()]].concat());
        assert!(error.contains(wrong), "{args:?}: {error}");
    }
}

#[test]
fn events_tell_of_use_lack_of_memory_and_the_end() {
    let mut b = Bundle::new();
    b.config["linux"]["resources"]["memory"] = json!({"limit": 20 << 20, "swap": 20 << 20});
    b.start_sleeping();
    let mut command = b.oci(&["events", "--interval", "100ms", b.id()]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let eater = b.exec(&[], &["sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}"]);
    assert_ne!(eater.code, 0, "{eater:?}");
    says(&b, &["kill", b.id(), "KILL"]);
    let told = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let events: Vec<Value> = told.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(events.iter().all(|e| e["id"] == json!(b.id())), "{told}");
    assert!(events.iter().any(|e| e["type"] == "oom"), "{told}");
    eventually("it to have ended", || status(&b) == "stopped");
    assert!(refuses(&b, 1, &["events", "--stats", b.id()]).contains("is not running"));
}

#[test]
fn exec_can_go_into_a_cgroup_below_and_on_certain_processors() {
    let mut b = Bundle::new();
    b.start_sleeping();
    let missing = refuses(&b, 255, &["exec", "--cgroup", "nosuch", b.id(), "true"]);
    assert!(missing.contains("nosuch/cgroup.procs: no such file"), "{missing}");
    let outside = refuses(&b, 255, &["exec", "--cgroup", "../x", b.id(), "true"]);
    assert!(outside.contains("is not a sub cgroup path"), "{outside}");
    assert!(refuses(&b, 255, &["exec", "--cgroup", "nosuch:x", b.id(), "true"]).contains("nosuch"));
    let process = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"], "cwd": "/",
        "execCPUAffinity": {"initial": "0", "final": "0"}});
    let file = b.store.write("process.json", process.to_string());
    let result = done(&mut b.oci(&["exec", "-p", &file, b.id()]));
    assert_eq!(result.out, "Cpus_allowed_list:\t0\n", "{result:?}");
    for (args, wrong) in [(&["-p", "/nosuch"][..], "read /nosuch"), (&[], "process args cannot be empty")] {
        let error = refuses(&b, 255, &[&["exec"], args, &[b.id()]].concat());
        assert!(error.contains(wrong), "{args:?}: {error}");
    }
    let wrong = b.exec(&["--cwd", "/nosuch"], &["true"]);
    assert!(wrong.code == 255 && wrong.err.contains("chdir to cwd"), "{wrong:?}");
    for (args, code) in [(&["sh", "-c", "exit 126"][..], 126), (&["sh", "-c", "kill -TERM $$"], 143)] {
        assert_eq!(b.exec(&[], args).code, code);
    }
}

#[test]
fn a_root_can_be_moved_where_it_cannot_be_pivoted() {
    let mut b = Bundle::new();
    b.set_args(&["sh", "-c", "ls -d /bin /home; wc -l < /proc/self/mountinfo; ls /proc/1/root/bin | wc -l"]);
    // By another name than the kernel's.
    std::os::unix::fs::symlink("rootfs", b.dir().join("link")).unwrap();
    b.config["root"]["path"] = json!("link");
    b.save();
    let dir = b.dir();
    let runs = |option: &[&str]| says(&b, &[&["run"], option, &["-b", dir.to_str().unwrap(), b.id()]].concat());
    assert_eq!(runs(&["--no-pivot"]), runs(&[]));
}

#[test]
fn the_session_keyring_is_new_unless_it_is_to_be_kept() {
    let mut b = Bundle::new();
    let number = libc::SYS_keyctl.to_string();
    // Which one is it?
    let ask = ["syscall", &number, "0", "-3", "0"];
    b.set_args(&[&["probe"], &ask[..]].concat());
    b.save();
    let dir = b.dir();
    let runs = |option: &[&str]| says(&b, &[&["run"], option, &["-b", dir.to_str().unwrap(), b.id()]].concat());
    let own = done(Command::new(fixture("probe")).args(ask)).out;
    assert!(own.trim().parse::<i64>().is_ok_and(|id| id > 0), "{own}");
    assert_eq!(runs(&["--no-new-keyring"]), own);
    let [one, other] = [runs(&[]), runs(&[])];
    assert!(one != own && other != own && one != other, "{own} {one} {other}");
}

#[test]
fn numbers_and_documents_that_make_no_sense_are_refused() {
    let mut b = Bundle::new();
    b.start_sleeping();
    for text in ["[]", "1", "{\"cpu\": []}"] {
        let file = b.store.write("resources", text);
        let error = refuses(&b, 1, &["update", "-r", &file, b.id()]);
        assert!(!error.contains("panicked"), "{text}: {error}");
    }
    let error = refuses(&b, 1, &["events", "--interval", "5000000000000000h", b.id()]);
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn a_process_from_a_file_has_the_containers_capabilities_unless_it_has_others() {
    let mut b = Bundle::new();
    b.start_sleeping();
    let own = b.exec(&[], &["grep", "CapBnd", "/proc/self/status"]);
    let process = json!({"args": ["grep", "CapBnd", "/proc/self/status"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "env": ["PATH=/bin"]});
    let file = b.store.write("process.json", process.to_string());
    assert_eq!(says(&b, &["exec", "--process", &file, b.id()]), own.out);
}

#[test]
fn an_option_given_twice_has_its_last_value_and_lists_grow() {
    let mut b = Bundle::new();
    b.set_args(&["sh", "-c", "exit 3"]);
    b.save();
    let (dir, log) = (b.dir(), b.store.path("log"));
    let (dir, log) = (dir.to_str().unwrap(), log.to_str().unwrap());
    let twice = ["--debug", "--debug", "--log", "/nosuch/log", "--log", log, "--log-format", "text"];
    let run = ["--log-format", "json", "run", "-b", "/nosuch", "--bundle", dir, "--keep", "--keep", b.id()];
    let run = done(&mut b.oci(&[&twice[..], &run].concat()));
    assert_eq!(run.code, 3, "{run:?}");
    assert!(std::fs::read_to_string(log).unwrap().lines().all(|l| serde_json::from_str::<Value>(l).is_ok()));
    says(&b, &["delete", "-f", "--force", b.id()]);
    b.start_sleeping();
    let options = ["--cwd", "/etc", "--cwd", "/tmp", "-u", "5", "--user", "6:7", "-e", "A=1", "-e", "B=2"];
    let all = b.exec(&options, &["sh", "-c", "pwd; id -u; echo $A$B"]);
    assert_eq!(all.out, "/tmp\n6\n12\n", "{all:?}");
    let list = says(&b, &["list", "-q", "--format", "table", "--format", "json", "--quiet"]);
    assert_eq!(list, format!("{}\n", b.id()));
    says(&b, &["update", "--pids-limit", "50", "--pids-limit", "60", b.id()]);
    let stats: Value = serde_json::from_str(&says(&b, &["events", "--stats", b.id()])).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], json!(60));
}

#[test]
fn a_line_that_is_not_understood_is_told_in_the_log_that_it_names() {
    let b = Bundle::new();
    let log = b.store.path("log");
    let path = log.to_str().unwrap();
    let by_equals = format!("--log={path}");
    let cases: [(&[&str], &str); 6] = [
        (&["--log", path, "--log-format", "json", "create", "--nosuch", "x"], "unexpected argument '--nosuch' found"),
        (&["--nosuch", &by_equals, "--log-format=json", "list"], "unexpected argument '--nosuch' found"),
        (&["--debug", "--log", path, "--log-format", "json", "nosuch"], "unrecognized subcommand 'nosuch'"),
        (&["--log", path, "--log-format", "json", "start"], "required arguments were not provided: <ID>"),
        (&["--log", path, "--log-format", "json", "exec", "--preserve-fds", "x", "y"], "invalid value 'x' for"),
        (&["--log", "/nosuch/log", "--log", path, "--log-format", "json", "kill"], "were not provided: <ID>"),
    ];
    for (args, wrong) in cases {
        let _ = std::fs::remove_file(&log);
        let told = refuses(&b, 1, args);
        assert!(told.contains("Usage: ") || told.contains("--help"), "{args:?}: {told}");
        let text = std::fs::read_to_string(&log).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"));
        assert_eq!(line["level"], json!("error"), "{args:?}: {text}");
        assert!(line["msg"].as_str().unwrap().contains(wrong), "{args:?}: {text}");
    }
    std::fs::remove_file(&log).unwrap();
    refuses(&b, 1, &["--log", path, "state"]);
    assert!(std::fs::read_to_string(&log).unwrap().contains("level=error msg=\"the following required arguments"));
    // What belongs to the command names no log; neither does a line that only asks for help.
    std::fs::remove_file(&log).unwrap();
    refuses(&b, 1, &["list", "--log", path]);
    says(&b, &["--log", path, "run", "--help"]);
    assert!(!log.exists());
}

#[test]
fn a_container_that_cannot_be_read_is_told_of_beside_the_others() {
    let mut b = Bundle::new();
    b.start_sleeping();
    let damaged = b.state_root().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("state.json"), "{").unwrap();
    let list = done(&mut b.oci(&["list", "-q"]));
    assert_eq!((list.code, list.out), (0, format!("{}\n", b.id())));
    assert!(list.err.contains("level=warning msg=\"load container damaged: "), "{}", list.err);
    let log = b.store.path("log");
    let list = done(&mut b.oci(&["--log", log.to_str().unwrap(), "list", "--format", "json"]));
    let found: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!((found.as_array().unwrap().len(), list.err.as_str()), (1, ""));
    assert!(std::fs::read_to_string(&log).unwrap().contains("load container damaged: "));
    std::fs::remove_dir_all(&damaged).unwrap();
}
