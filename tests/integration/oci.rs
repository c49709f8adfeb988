//! The OCI runtime's command line, and what the runtime specification asks of it.

mod commands;
mod devices;
mod endings;
mod hooks;
mod mounts;
mod namespaces;
mod process;
mod terminals;

use crate::support::{done, eventually, signal};
use crate::threats::bundle::Bundle;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// What a command that must work says on standard output.
fn says(bundle: &Bundle, args: &[&str]) -> String {
    let result = done(&mut bundle.oci(args));
    assert_eq!(result.code, 0, "{args:?}: {result:?}");
    result.out
}

/// What a command that must fail says on standard error.
fn refuses(bundle: &Bundle, status: i32, args: &[&str]) -> String {
    let result = done(&mut bundle.oci(args));
    assert_eq!(result.code, status, "{args:?}: {result:?}");
    result.err
}

fn status(bundle: &Bundle) -> String {
    let state: Value = serde_json::from_str(&says(bundle, &["state", bundle.id()])).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

fn create(bundle: &mut Bundle, args: &[&str]) {
    bundle.set_args(args);
    bundle.save();
    let dir = bundle.dir();
    let code = bundle.quietly("exec \"$0\" \"$@\"", &["create", "-b", dir.to_str().unwrap(), bundle.id()]);
    assert_eq!(code, 0);
}

/// Runs a script of the container's to its end and gives what it wrote.
fn output(bundle: &mut Bundle, script: &str) -> String {
    let result = bundle.run(&["sh", "-c", script]);
    assert_eq!(result.code, 0, "{script}: {result:?}");
    result.out
}

fn namespaces(bundle: &mut Bundle, change: impl FnOnce(&mut Vec<Value>)) {
    change(bundle.config["linux"]["namespaces"].as_array_mut().unwrap());
}

#[test]
fn a_container_goes_through_its_states() {
    let mut b = Bundle::new();
    let id = b.id().to_owned();
    assert!(refuses(&b, 1, &["state", &id]).contains("container does not exist"));
    create(&mut b, &["sleep", "1000"]);
    assert_eq!(status(&b), "created");
    let dir = b.dir();
    assert!(refuses(&b, 1, &["create", "-b", dir.to_str().unwrap(), &id]).contains("already exists"));
    says(&b, &["start", &id]);
    assert_eq!(status(&b), "running");
    assert!(refuses(&b, 1, &["start", &id]).contains("already running"));
    assert!(refuses(&b, 1, &["delete", &id]).contains("is not stopped: running"));
    says(&b, &["pause", &id]);
    assert_eq!(status(&b), "paused");
    assert!(refuses(&b, 255, &["exec", &id, "true"]).contains("cannot exec in a paused container"));
    says(&b, &["resume", &id]);
    assert!(refuses(&b, 1, &["resume", &id]).contains("not paused"));
    let list: Value = serde_json::from_str(&says(&b, &["list", "--format", "json"])).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(id), &json!("running")));
    assert_eq!(says(&b, &["list", "-q"]), format!("{id}\n"));
    says(&b, &["kill", &id, "KILL"]);
    eventually("the container to have stopped", || status(&b) == "stopped");
    assert!(refuses(&b, 1, &["kill", &id]).contains("not running"));
    assert!(refuses(&b, 1, &["start", &id]).contains("has stopped"));
    assert!(refuses(&b, 255, &["exec", &id, "true"]).contains("stopped"));
    says(&b, &["delete", &id]);
    assert!(refuses(&b, 1, &["delete", &id]).contains("does not exist"));
    says(&b, &["delete", "--force", &id]);
}

#[test]
fn a_door_that_nobody_is_behind_is_no_sign_of_a_created_container() {
    let mut b = Bundle::new();
    b.start_sleeping();
    // As a `start` leaves it that is killed when its work is done.
    let door = b.state_root().join(b.id()).join("door");
    drop(std::os::unix::net::UnixListener::bind(&door).unwrap());
    assert!(door.exists());
    assert_eq!(status(&b), "running");
    assert!(refuses(&b, 1, &["start", b.id()]).contains("already running"));
    assert!(refuses(&b, 1, &["delete", b.id()]).contains("is not stopped: running"));
    // To ask is not to start, and nobody waits for one that does not answer.
    let mut b = Bundle::new();
    create(&mut b, &["sleep", "1000"]);
    signal(b.pid(), libc::SIGSTOP);
    assert!((0..100).all(|_| status(&b) == "created"));
    signal(b.pid(), libc::SIGCONT);
    says(&b, &["start", b.id()]);
    assert_eq!(status(&b), "running");
}

#[test]
fn a_start_tells_its_stages_to_those_who_ask() {
    let mut b = Bundle::new();
    let log = b.store.path("log");
    let told = |command: &[&str], b: &Bundle| {
        let _ = std::fs::remove_file(&log);
        says(b, &[&["--debug", "--log", log.to_str().unwrap(), "--log-format", "json"], command].concat());
        let lines = std::fs::read_to_string(&log).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|l| l["level"] == "debug").map(|l| l["msg"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // In the order in which they happen.
    let stages = |told: &[String], words: &[&str]| {
        let mut at = told.iter();
        words.iter().all(|word| at.any(|line| line.contains(word)))
    };
    b.set_args(&["true"]);
    b.save();
    let dir = b.dir();
    let run = told(&["run", "-b", dir.to_str().unwrap(), b.id()], &b);
    assert!(stages(&run, &["container setup", "child process in init()", "signal completion"]), "{run:?}");
    b.start_sleeping();
    let exec = told(&["exec", b.id(), "true"], &b);
    assert!(stages(&exec, &["container setup", "child process in init()", "about to exec"]), "{exec:?}");
}

#[test]
fn the_exit_status_is_the_programs_and_a_failure_names_its_cause() {
    let mut b = Bundle::new();
    assert_eq!(b.run(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(b.run(&["sh", "-c", "trap - TERM; (sleep 0.1; kill -9 $$) & exec sh -c 'kill -9 $$; exit 3'"]).code, 3);
    let missing = b.run(&["nosuch"]);
    assert!(missing.code == 1 && missing.err.contains("executable file not found in $PATH"), "{missing:?}");
    let not_executable = b.run(&["/etc/passwd"]);
    for words in ["exec: \\\"/etc/passwd\\\": the file is not executable", ": permission denied"] {
        assert!(not_executable.err.contains(words), "{not_executable:?}");
    }
    b.start_sleeping();
    assert_eq!(b.exec(&[], &["sh", "-c", "exit 9"]).code, 9);
    let missing = b.exec(&[], &["nosuch"]);
    assert!(missing.code == 255 && missing.err.contains("executable file not found"), "{missing:?}");
}

#[test]
fn messages_go_where_and_how_they_are_asked_for() {
    let mut b = Bundle::new();
    let log = b.store.path("log");
    let args = ["--log", log.to_str().unwrap(), "--log-format", "json", "state", b.id()];
    refuses(&b, 1, &args);
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container does not exist")));
    assert!(refuses(&b, 1, &["--systemd-cgroup", "list"]).contains("--systemd-cgroup is not supported"));
    assert!(refuses(&b, 1, &["checkpoint", "--image-path", "/x", b.id()]).contains("not supported"));
    assert!(refuses(&b, 1, &["state", "../x"]).contains("invalid container ID"));
    let features: Value = serde_json::from_str(&says(&b, &["features"])).unwrap();
    assert_eq!(features["linux"]["apparmor"]["enabled"], json!(true));
    // What is said about filters is what is taken.
    let seccomp = &features["linux"]["seccomp"];
    let list = |key: &str| seccomp[key].as_array().unwrap().clone();
    for action in list("actions").iter().filter(|action| *action != "SCMP_ACT_NOTIFY") {
        let rules: Vec<Value> = list("operators")
            .iter()
            .map(
                |op| json!({"names": ["getpriority"], "action": action, "args": [{"index": 0, "value": 77, "op": op}]}),
            )
            .collect();
        b.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": seccomp["archs"],
            "flags": seccomp["supportedFlags"], "syscalls": rules});
        if action == "SCMP_ACT_ALLOW" {
            b.config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_LOG");
        }
        let run = b.run(&["true"]);
        assert_eq!(run.code, 0, "{action}: {run:?}");
    }
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("time")));
}

#[test]
fn a_process_can_be_described_in_all_its_parts() {
    let mut b = Bundle::new();
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o27});
    b.config["process"]["oomScoreAdj"] = json!(123);
    b.config["process"]["cwd"] = json!("/new/dir");
    b.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    b.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    b.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    let out = output(
        &mut b,
        "id -u; id -g; id -G; umask; cat /proc/self/oom_score_adj; pwd; echo $HOME; uname -m; \
         cut -d ' ' -f 19,41 /proc/self/stat; ionice -p $$",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..8], ["1000", "1001", "1001 7 8", "0027", "123", "/new/dir", "/home/tim", "i686"], "{out}");
    assert!(lines[8] == "5 3" && lines[9] == "best-effort: prio 6", "{out}");
}

#[test]
fn exec_has_its_own_user_environment_and_description() {
    let mut b = Bundle::new();
    b.start_sleeping();
    let options = ["--user", "5:6", "-g", "7", "--env", "A=b", "--cwd", "/tmp", "--no-new-privs"];
    let result = b.exec(&options, &["sh", "-c", "id -u; id -G; echo $A; pwd; grep NoNewPrivs /proc/self/status"]);
    assert_eq!(result.out, "5\n6 7\nb\n/tmp\nNoNewPrivs:\t1\n", "{result:?}");
    let file = b.store.path("process.json");
    std::fs::write(
        &file,
        json!({"args": ["sh", "-c", "echo $X"], "env": ["X=y", "PATH=/bin"], "cwd": "/"}).to_string(),
    )
    .unwrap();
    let result = done(&mut b.oci(&["exec", "--process", file.to_str().unwrap(), b.id()]));
    assert_eq!(result.out, "y\n", "{result:?}");
    let pid_file = b.store.path("pid");
    let code = b.quietly(
        "exec \"$0\" \"$@\"",
        &["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), b.id(), "sleep", "999"],
    );
    assert_eq!(code, 0);
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let listed: Vec<i32> = serde_json::from_str(&says(&b, &["ps", "--format", "json", b.id()])).unwrap();
    assert!(listed.len() == 2 && listed.contains(&pid), "{listed:?}");
    assert!(says(&b, &["ps", b.id()]).contains("sleep 999"));
}

#[test]
fn namespaces_can_be_those_of_another_container() {
    let mut owner = Bundle::new();
    owner.start_sleeping();
    let pid = owner.pid();
    let mut guest = Bundle::new();
    namespaces(&mut guest, |list| {
        for n in list.iter_mut() {
            let file = match n["type"].as_str().unwrap() {
                "network" => "net",
                kind @ ("ipc" | "uts" | "pid") => kind,
                _ => continue,
            };
            n["path"] = json!(format!("/proc/{pid}/ns/{file}"));
        }
    });
    guest.config.as_object_mut().unwrap().remove("hostname");
    let inside = output(&mut guest, "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; ps");
    let of_owner = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let lines: Vec<&str> = inside.lines().collect();
    for (line, kind) in lines.iter().zip(["net", "ipc", "uts", "pid"]) {
        assert_eq!(Path::new(line), of_owner(kind));
    }
    assert_ne!(Path::new(lines[4]), of_owner("mnt"));
    assert!(inside.contains("sleep 1000"), "the owner's processes are seen:\n{inside}");
    namespaces(&mut guest, |list| list[0]["path"] = json!("/etc/passwd"));
    let refused = guest.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("is not a namespace"), "{refused:?}");
}

pub fn in_user_namespace(b: &mut Bundle) {
    namespaces(b, |list| list.push(json!({"type": "user"})));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    b.config["linux"]["uidMappings"] = map.clone();
    b.config["linux"]["gidMappings"] = map;
    b.change("chown -R 100000:100000 .");
    // The way to it must be open for somebody else.
    for dir in b.dir().ancestors().take_while(|d| *d != Path::new("/tmp")) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn root_of_a_user_namespace_is_nobody_outside() {
    let mut b = Bundle::new();
    in_user_namespace(&mut b);
    b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    let out = output(
        &mut b,
        "id -u; cat /proc/self/uid_map; echo x > /f; echo y > /dev/null; head -c 1 /dev/zero | wc -c; ulimit -n; \
         ulimit -Hn; mount | grep -c ' /dev/null '; readlink /proc/self/ns/user",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "0");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(lines[2..6], ["1", "100", "200", "1"], "{out}");
    assert_ne!(Path::new(lines[6]), std::fs::read_link("/proc/self/ns/user").unwrap());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(b.rootfs().join("f")).unwrap().uid(), 100_000);
    b.start_sleeping();
    let result = b.exec(
        &[],
        &["sh", "-c", "id -u; [ $(readlink /proc/self/ns/user) = $(readlink /proc/1/ns/user) ] && echo same"],
    );
    assert_eq!(result.out, "0\nsame\n", "{result:?}");
    b.config["linux"]["gidMappings"] = json!([]);
    b.delete();
    let refused = b.run(&["true"]);
    assert!(refused.err.contains("user and group id mappings go together"), "{refused:?}");
}

#[test]
fn clocks_can_be_moved() {
    let mut b = Bundle::new();
    namespaces(&mut b, |list| list.push(json!({"type": "time"})));
    b.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 10_000_000}, "monotonic": {"secs": 5}});
    let out = output(&mut b, "cut -d . -f 1 /proc/uptime; readlink /proc/self/ns/time");
    let (uptime, namespace) = out.trim().split_once('\n').unwrap();
    assert!(uptime.parse::<u64>().unwrap() >= 10_000_000, "{out}");
    assert_ne!(Path::new(namespace), std::fs::read_link("/proc/self/ns/time").unwrap());
    b.config["linux"]["timeOffsets"] = json!({"realtime": {"secs": 1}});
    assert!(b.run(&["true"]).err.contains("has no offset"));
}

#[test]
fn mounts_are_as_their_options_say() {
    let mut b = Bundle::new();
    let shared = b.dir().join("shared");
    std::fs::create_dir_all(shared.join("below")).unwrap();
    std::fs::write(shared.join("file"), "x").unwrap();
    b.change("mkdir -p full && echo inside > full/file && chmod 750 full");
    b.add_mount(json!({"destination": "/relative", "type": "bind", "source": "shared", "options": ["rbind", "rro"]}));
    b.add_mount(json!({"destination": "/owned", "type": "bind", "source": "shared", "options": ["bind"],
        "uidMappings": [{"containerID": 0, "hostID": 500, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 600, "size": 10}]}));
    b.add_mount(
        json!({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "noexec"]}),
    );
    b.add_mount(json!({"destination": "/one", "type": "bind", "source": "shared/file", "options": ["bind", "ro"]}));
    let out = output(
        &mut b,
        "touch /relative/x 2>/dev/null || echo ro; stat -c '%u:%g' /owned/file; cat /full/file; stat -c %a /full; \
         cat /one; (echo > /one) 2>/dev/null || echo ro; grep ' /full ' /proc/mounts | grep -c noexec",
    );
    assert_eq!(out, "ro\n500:600\ninside\n750\nxro\n1\n");
    b.add_mount(json!({"destination": "/proc/self", "type": "bind", "source": "shared"}));
    assert!(b.run(&["true"]).err.contains("inside /proc"));
}

#[test]
fn limits_are_set_changed_and_shown() {
    let mut b = Bundle::new();
    b.config["linux"]["resources"]["pids"] = json!({"limit": 77});
    b.config["linux"]["resources"]["memory"] = json!({"limit": 100 << 20});
    b.start_sleeping();
    let stats = || -> Value { serde_json::from_str(&says(&b, &["events", "--stats", b.id()])).unwrap() };
    assert_eq!(stats()["data"]["pids"]["limit"], json!(77));
    says(&b, &["update", "--pids-limit", "55", "--memory", "64M", b.id()]);
    let changed = stats();
    assert_eq!(changed["data"]["pids"]["limit"], json!(55));
    assert_eq!(changed["data"]["memory"]["usage"]["limit"], json!(64 << 20));
    let file = b.store.path("resources.json");
    std::fs::write(&file, r#"{"pids": {"limit": 33}}"#).unwrap();
    says(&b, &["update", "-r", file.to_str().unwrap(), b.id()]);
    assert_eq!(stats()["data"]["pids"]["limit"], json!(33));
    assert!(refuses(&b, 1, &["update", "--memory", "many", b.id()]).contains("many"));
}

#[test]
fn what_cannot_be_carried_out_is_refused_before_anything_is_made() {
    let cases = [
        ("/process/selinuxLabel", json!("x"), "SELinux"),
        ("/linux/intelRdt", json!({"closID": "x"}), "intelRdt"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "not in a separate kernel namespace"),
        ("/linux/sysctl", json!({"kernel.hostname": "x"}), "kernel.hostname"),
        ("/linux/rootfsPropagation", json!("sideways"), "rootfsPropagation"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1u64 << 40}]), "CAP_SYS_RESOURCE"),
        ("/process/cwd", json!("relative"), "not an absolute path"),
        ("/process/args", json!([]), "no command"),
    ];
    for (place, value, wrong) in cases {
        let mut b = Bundle::new();
        b.set_args(&["true"]);
        let (parent, key) = place.rsplit_once('/').unwrap();
        b.config.pointer_mut(parent).unwrap()[key] = value;
        b.save();
        let dir = b.dir();
        let error = refuses(&b, 1, &["run", "-b", dir.to_str().unwrap(), b.id()]);
        assert!(error.contains(wrong), "{place}: {error}");
    }
}

#[test]
fn asked_for_descriptors_are_preserved_and_no_others() {
    let mut b = Bundle::new();
    b.set_args(&["sh", "-c", "cat <&3; ls /proc/self/fd"]);
    b.save();
    let file = b.store.path("three");
    std::fs::write(&file, "given\n").unwrap();
    let script = format!("exec 3<{0} 4<{0}; exec \"$0\" \"$@\"", file.display());
    let dir = b.dir();
    let args = ["run", "--preserve-fds", "1", "-b", dir.to_str().unwrap(), b.id()];
    let result = done(&mut b.through_shell(&script, &args));
    // The last one is the listed folder.
    assert_eq!(result.out, "given\n0\n1\n2\n3\n4\n", "{result:?}");
    let args = ["run", "--preserve-fds", "9", "-b", dir.to_str().unwrap(), b.id()];
    let result = done(&mut b.through_shell(&script, &args));
    assert!(result.code == 1 && result.err.contains("preserved-fd"), "{result:?}");
    b.start_sleeping();
    let exec = |script: &str, count: &str| {
        let command = ["sh", "-c", "cat <&3; ls /proc/self/fd"];
        let args = [&["exec", "--preserve-fds", count, b.id()], &command[..]].concat();
        done(&mut b.through_shell(script, &args))
    };
    assert_eq!(exec(&script, "1").out, "given\n0\n1\n2\n3\n4\n");
    // One of the runtime's own is not taken for it.
    let missing = exec("exec 3<&- 4<&-; exec \"$0\" \"$@\"", "1");
    assert!(missing.code == 255 && missing.err.contains("preserved-fd 0 (of 1)"), "{missing:?}");
}

#[test]
fn who_shares_a_cgroup_outlives_the_guest() {
    let mut owner = Bundle::new();
    owner.start_sleeping();
    let mut guest = Bundle::new();
    guest.config["linux"]["cgroupsPath"] = json!(format!("/{}", owner.id()));
    // Without a pid namespace, whose end would be the end of all in it.
    namespaces(&mut guest, |list| list.retain(|n| n["type"] != "pid"));
    let told = guest.run(&["true"]);
    assert!(told.code == 0 && told.err.contains("container's cgroup is not empty"), "{told:?}");
    assert_eq!(status(&owner), "running");
    assert_eq!(owner.exec(&[], &["true"]).code, 0);
    // And the guest the owner, who leaves it the cgroup.
    guest.start_sleeping();
    let told = done(&mut owner.oci(&["delete", "--force", owner.id()]));
    assert!(told.code == 0 && told.err.contains("others are in the cgroup"), "{told:?}");
    assert_eq!(status(&guest), "running");
    assert_eq!(guest.exec(&[], &["true"]).code, 0);
}

#[test]
fn a_process_without_a_user_is_roots() {
    let mut b = Bundle::new();
    b.config["process"].as_object_mut().unwrap().remove("user");
    assert_eq!(output(&mut b, "id -u; id -g"), "0\n0\n");
    b.config["process"]["user"] = json!({"gid": 7});
    assert_eq!(output(&mut b, "id -u; id -g"), "0\n7\n");
    b.config["process"]["user"] = json!({"uid": "me"});
    let wrong = b.run(&["true"]);
    assert!(wrong.code == 1 && wrong.err.contains("line"), "{wrong:?}");
}

#[test]
fn a_template_can_be_had_once() {
    let b = Bundle::new();
    let dir = b.store.path("fresh");
    std::fs::create_dir(&dir).unwrap();
    says(&b, &["spec", "--bundle", dir.to_str().unwrap(), "--rootless"]);
    let spec: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["terminal"], json!(true));
    assert_eq!(spec["linux"]["uidMappings"][0]["size"], json!(1));
    assert!(refuses(&b, 1, &["spec", "--bundle", dir.to_str().unwrap()]).contains("exists"));
    let whole = done(Command::new(crate::support::program()).args(["oci", "--version"]));
    assert!(whole.code == 0 && whole.out.contains("spec: 1.2"), "{whole:?}");
}
