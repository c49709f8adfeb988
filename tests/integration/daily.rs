//! The commands and flags of every day: stats, top, resume, namespaces that are shared, devices, logs, completions.

use crate::support::{IMAGE, Store, done, eventually, facts, signal};
use std::process::Command;

#[test]
fn a_restarted_guest_joins_its_host_as_it_is_then() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "host", "--ipc", "shareable", IMAGE, "sleep", "1000"]);
    let joins = ["--ipc", "container:host", "--uts", "container:host", "--network", "container:host"];
    store.ok(&[&["run", "-d", "--name", "guest", "--restart", "always"], &joins[..], &[IMAGE, "sleep", "1000"]].concat());
    store.ok(&["restart", "-t", "0", "host"]);
    store.ok(&["exec", "host", "sh", "-c", "echo anew >/dev/shm/file"]);
    let pid = |name: &str| store.inspect(name, "{{.State.Pid}}").parse::<i32>().unwrap();
    let first = pid("guest");
    signal(first, libc::SIGKILL);
    eventually("the guest to be started again", || ![0, first].contains(&pid("guest")));
    for kind in ["ipc", "uts", "net"] {
        let of = |name: &str| std::fs::read_link(format!("/proc/{}/ns/{kind}", pid(name))).unwrap();
        assert_eq!(of("guest"), of("host"), "{kind}");
    }
    assert_eq!(store.ok(&["exec", "guest", "cat", "/dev/shm/file"]), "anew");
}

#[test]
fn stats_tell_what_a_container_uses() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "busy", "-m", "32m", IMAGE, "sh", "-c", "while :; do :; done"]);
    store.ok(&["create", "--name", "idle", IMAGE, "true"]);
    let table = store.ok(&["stats", "--no-stream"]);
    let mut lines = table.lines();
    let heading: Vec<&str> = lines.next().unwrap().split("   ").map(str::trim).filter(|w| !w.is_empty()).collect();
    let expected = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
    assert_eq!(heading, expected);
    assert_eq!(lines.clone().count(), 1, "{table}");
    let row = lines.next().unwrap();
    assert!(row.contains("busy") && row.contains(" / 32MiB") && row.trim_end().ends_with('1'), "{row}");
    let cpu = store.ok(&["stats", "--no-stream", "--format", "{{.CPUPerc}}", "busy"]);
    let percent: f64 = cpu.trim_end_matches('%').parse().unwrap();
    assert!((1.0..150.0).contains(&percent), "{cpu}");
    let idle = store.ok(&["stats", "--no-stream", "-a", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"]);
    assert!(idle.lines().any(|l| l == "idle 0.00% 0B / 0B 0"), "{idle}");
    let id = store.inspect("busy", "{{.Id}}");
    assert_eq!(store.ok(&["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}"]), id);
    assert!(store.fails(1, &["stats", "--no-stream", "nosuch"]).contains("No such container: nosuch"));
    // It goes on until all are gone that were asked for.
    let mut stream = store.spawn(&["stats", "--format", "{{.Name}}", "busy"]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    store.ok(&["rm", "-f", "busy"]);
    eventually("the end of the stream", || stream.try_wait().unwrap().is_some());
    assert!(stream.wait().unwrap().success());
}

#[test]
fn top_takes_the_options_of_ps() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "host", IMAGE, "sh", "-c", "sleep 1001 & sleep 1002 & wait"]);
    eventually("both", || store.ok(&["top", "host"]).lines().count() == 4);
    let plain = store.ok(&["top", "host"]);
    let first = plain.lines().next().unwrap();
    assert_eq!(first.split_ascii_whitespace().collect::<Vec<_>>().join(" "), "UID PID PPID C STIME TTY TIME CMD");
    assert!(first.starts_with("UID                 PID                 PPID"), "{first:?}");
    assert!(plain.lines().nth(1).unwrap().starts_with("root "), "{plain}");
    let pids = store.ok(&["top", "host", "-o", "pid,args"]);
    let pid = store.inspect("host", "{{.State.Pid}}");
    assert!(pids.lines().any(|l| l.starts_with(&pid) && l.ends_with("& wait")), "{pids}");
    let users = store.ok(&["top", "host", "aux"]);
    assert!(users.lines().next().unwrap().starts_with("USER") && users.contains("sleep 1001"), "{users}");
    assert!(store.fails(1, &["top", "host", "-Z"]).contains("is not known here"));
    store.ok(&["stop", "-t", "0", "host"]);
    assert!(store.fails(1, &["top", "host"]).contains("is not running"));
}

#[test]
fn after_a_reboot_containers_come_back_as_their_policies_say() {
    let store = Store::new();
    for (name, policy) in
        [("always", "always"), ("unless", "unless-stopped"), ("never", "no"), ("by-hand", "unless-stopped")]
    {
        store.ok(&["run", "-d", "--name", name, "--restart", policy, IMAGE, "sleep", "1000"]);
    }
    store.ok(&["create", "--name", "unborn", "--restart", "always", IMAGE, "sleep", "1000"]);
    store.ok(&["stop", "-t", "0", "by-hand"]);
    store.ok(&["run", "-d", "--name", "hand-always", "--restart", "always", IMAGE, "sleep", "1000"]);
    store.ok(&["stop", "-t", "0", "hand-always"]);
    assert_eq!(store.ok(&["resume"]), "hand-always");
    store.ok(&["stop", "-t", "0", "hand-always"]);
    // The host goes down without a word: the processes are gone, and so is all volatile state.
    for name in ["always", "unless", "never"] {
        signal(store.supervisor(name), libc::SIGKILL);
        let state = store.root().with_file_name("state").join(store.inspect_id(name));
        eventually("the supervisor to be gone", || std::fs::remove_dir_all(&state).is_ok() || !state.exists());
    }
    let mut due: Vec<String> = store.ok(&["resume", "--dry-run"]).lines().map(str::to_owned).collect();
    due.sort();
    assert_eq!(due, ["always", "hand-always", "unless"]);
    assert_eq!(store.inspect("always", "{{.State.Status}} {{.State.ExitCode}}"), "exited 255");
    store.ok(&["resume"]);
    let up = store.ok(&["ps", "--format", "{{.Names}}"]);
    let mut up: Vec<&str> = up.lines().collect();
    up.sort_unstable();
    assert_eq!(up, ["always", "hand-always", "unless"]);
    assert_eq!(store.ok(&["resume"]), "");
    // A shutdown asks the supervisors to end, and that is no wish of the user's.
    signal(store.supervisor("unless"), libc::SIGTERM);
    store.ok(&["kill", "unless"]);
    assert_eq!(store.ok(&["resume", "--dry-run"]), "");
}

#[test]
fn a_supervisor_that_is_asked_to_end_leaves_its_container_to_resume() {
    let store = Store::new();
    let script = "trap 'exit 0' TERM; sleep 1000 & wait";
    store.ok(&["run", "-d", "--name", "unless", "--restart", "unless-stopped", IMAGE, "sh", "-c", script]);
    eventually("the trap", || store.run(&["exec", "unless", "pidof", "sleep"]).code == 0);
    signal(store.supervisor("unless"), libc::SIGTERM);
    eventually("its end", || store.inspect("unless", "{{.State.Status}}") == "exited");
    assert_eq!(store.ok(&["resume"]), "unless");
    assert_eq!(store.inspect("unless", "{{.State.Status}}"), "running");
}

#[test]
fn namespaces_are_shared_with_the_host_and_with_containers() {
    let store = Store::new();
    store.ok(&[
        "run",
        "-d",
        "--name",
        "first",
        "--hostname",
        "of-first",
        IMAGE,
        "sh",
        "-c",
        "echo shared > /dev/shm/x; exec sleep 1234",
    ]);
    eventually("the file", || store.run(&["exec", "first", "test", "-s", "/dev/shm/x"]).code == 0);
    let with =
        |flags: &[&str], command: &str| store.ok(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", command]].concat());
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let of_first = |kind: &str| store.ok(&["exec", "first", "readlink", &format!("/proc/self/ns/{kind}")]);
    for kind in ["pid", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(with(&[&format!("--{kind}"), "host"], &link), own(kind), "{kind}");
        assert_eq!(with(&[&format!("--{kind}"), "container:first"], &link), of_first(kind), "{kind}");
        let private = with(&[], &link);
        assert!(private != own(kind) && private != of_first(kind), "{kind}");
    }
    assert_eq!(with(&["--cgroupns", "host"], "readlink /proc/self/ns/cgroup"), own("cgroup"));
    assert_eq!(with(&["--uts", "container:first"], "hostname"), "of-first");
    assert!(with(&["--pid", "container:first"], "ps").contains("sleep 1234"));
    assert_eq!(with(&["--ipc", "container:first"], "cat /dev/shm/x; echo more > /dev/shm/y"), "shared");
    assert_eq!(store.ok(&["exec", "first", "cat", "/dev/shm/y"]), "more");
    assert_eq!(with(&["--ipc", "none"], "grep -c ' /dev/shm ' /proc/mounts || true"), "0");
    assert_eq!(
        store.ok(&["run", "--rm", "--pid", "host", "--name", "there", IMAGE, "sh", "-c", "readlink /proc/$$/ns/pid"]),
        own("pid")
    );
    store.ok(&["create", "--name", "asleep", "--pid", "container:first", IMAGE, "true"]);
    store.ok(&["rename", "first", "renamed"]);
    store.ok(&["start", "-a", "asleep"]);
    store.ok(&["stop", "-t", "0", "renamed"]);
    assert!(store.fails(1, &["start", "asleep"]).contains("cannot join pid of a non running container"));
    for (flags, expected) in [
        (&["--pid", "container:nosuch"][..], "No such container: nosuch"),
        (&["--pid", "mine"], "--pid: invalid mode"),
        (&["--uts", "host", "--hostname", "x"], "Conflicting options: hostname and the UTS mode"),
        (&["--userns", "keep-id"], "--userns: \"keep-id\" is not supported"),
        (&["--cgroupns", "container:renamed"], "--cgroupns: invalid mode"),
    ] {
        let err = store.fails(125, &[&["run"], flags, &[IMAGE, "true"]].concat());
        assert!(err.contains(expected), "{flags:?}: {err}");
    }
}

#[test]
fn devices_are_what_was_asked_for_and_no_more() {
    let store = Store::new();
    let run =
        |flags: &[&str], command: &str| store.run(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", command]].concat());
    let given = run(&["--device", "/dev/kmsg:/dev/new:w"], "ls -l /dev/new; : > /dev/new && echo can; : < /dev/new");
    assert!(given.out.contains("1,  11") && given.out.contains("can"), "{given:?}");
    assert!(given.err.contains("Operation not permitted"), "{given:?}");
    let made = "mknod /dev/new c 1 11 && : > /dev/new && echo can";
    assert!(!run(&[], made).out.contains("can"));
    assert!(run(&["--device-cgroup-rule", "c 1:11 w"], made).out.contains("can"));
    for (flags, expected) in [
        (
            &["--device", "/dev/nosuch"][..],
            "error gathering device information while adding custom device \"/dev/nosuch\"",
        ),
        (&["--device", "/etc/passwd"], "not a device node"),
        (&["--device", "kmsg"], "is not an absolute path"),
        (&["--device-cgroup-rule", "c 1:11 x"], "invalid device cgroup format 'c 1:11 x'"),
        (&["--device-read-bps", "/dev/nosuch:1m"], "look at the block device /dev/nosuch"),
        (&["--device-read-bps", "/dev/nosuch"], "bad format"),
        (&["--blkio-weight", "5"], "Range of blkio weight is from 10 to 1000"),
    ] {
        let done = run(flags, "true");
        assert_eq!(done.code, 125, "{flags:?}");
        assert!(done.err.contains(expected), "{flags:?}: {}", done.err);
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let store = Store::new();
    for (flags, expected) in [
        (&["--gpus", "all"][..], "--gpus is not supported"),
        (&["--runtime", "runsc"], "unknown or invalid runtime name: runsc"),
        (&["--isolation", "hyperv"], "invalid isolation"),
        (&["--storage-opt", "size=1g"], "--storage-opt is not supported"),
        (&["--cpu-count", "1"], "is for Windows containers only"),
        (&["--kernel-memory", "1g"], "--kernel-memory is not supported"),
        (&["--disable-content-trust=false"], "content trust is not supported"),
        (&["--use-api-socket"], "--use-api-socket is not supported"),
        (&["--log-driver", "syslog"], "the log driver \"syslog\" is not supported"),
        (&["--log-opt", "compress=true"], "rotated logs are kept as they are"),
        (&["--memory-swappiness", "101"], "valid memory swappiness range is 0-100"),
        (&["--cpu-period", "5"], "CPU cfs period cannot be less than 1ms"),
        (&["--cpus", "1", "--cpu-quota", "50000"], "CPU Quota cannot both be set"),
        (&["-d", "-a", "stdout"], "Conflicting options: -a and -d"),
        (&["-a", "stdfoo"], "valid streams are STDIN, STDOUT and STDERR"),
    ] {
        let err = store.fails(125, &[&["run"], flags, &[IMAGE, "true"]].concat());
        assert!(err.contains(expected), "{flags:?}: {err}");
    }
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    store.ok(&["run", "--rm", "--disable-content-trust", "--isolation", "default", "--userns", "host", IMAGE, "true"]);
}

#[test]
fn annotations_and_limits_arrive() {
    let store = Store::new();
    let mut args = vec!["run", "--rm", "--annotation", "a.b=c", "--cpu-period", "50000", "--cpu-quota", "25000"];
    args.extend(["--oom-score-adj", "300", "--sysctl", "net.ipv4.ip_forward=1", "--shm-size", "8m", IMAGE, "sh", "-c"]);
    args.push("cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; df -k /dev/shm | tail -n 1");
    let out = store.ok(&args);
    assert!(out.starts_with("300\n1\n") && out.contains("8192"), "{out}");
    store.ok(&["create", "--name", "made", "--annotation", "a.b=c", "--cpu-quota", "25000", IMAGE, "true"]);
    let shown = store
        .inspect("made", "{{index .HostConfig.Annotations \"a.b\"}} {{.HostConfig.CpuQuota}} {{.HostConfig.IpcMode}}");
    assert_eq!(shown, "c 25000 private");
    let known = facts(&store.inspect("made", "type={{.HostConfig.LogConfig.Type}}"));
    assert_eq!(known["type"], "json-file");
}

#[test]
fn logs_of_other_drivers() {
    let store = Store::new();
    assert_eq!(store.ok(&["run", "--name", "silent", "--log-driver", "none", IMAGE, "echo", "heard"]), "heard");
    let err = store.fails(1, &["logs", "silent"]);
    assert!(err.contains("configured logging driver does not support reading"), "{err}");
    let mut args = vec!["run", "--name", "told", "--log-driver", "local", "--log-opt", "labels=tier,none"];
    args.extend(["--log-opt", "env=COLOUR", "-l", "tier=a b", "-e", "COLOUR=red", IMAGE, "echo", "line"]);
    store.ok(&args);
    assert_eq!(store.ok(&["logs", "told"]), "line");
    assert_eq!(store.ok(&["logs", "--details", "told"]), "COLOUR=red,tier=a+b line");
    assert_eq!(store.inspect("told", "{{.HostConfig.LogConfig.Type}}"), "local");

    let mut args = vec!["run", "--name", "matched", "--log-opt", "labels-regex=^ti", "--log-opt", "env-regex=^CO"];
    args.extend(["--log-opt", "tag={{.Name}}/{{.ImageName}}/{{len .ID}}", "-l", "tier=a", "-l", "other=b"]);
    args.extend(["-e", "COLOUR=red", "-e", "SHAPE=round", IMAGE, "echo", "line"]);
    store.ok(&args);
    let tag = format!("matched%2F{IMAGE}%2F12").replace(':', "%3A");
    assert_eq!(store.ok(&["logs", "--details", "matched"]), format!("COLOUR=red,tag={tag},tier=a line"));
    // It is read with ids of their full length; a template without sense for this container stays as it is.
    for (tag, shown) in [
        ("{{slice .ID 0 4}}.", None),
        ("json", Some("json")),
        ("{{slice .Name 0 5}}", Some("%7B%7Bslice+.Name+0+5%7D%7D")),
    ] {
        let id = store.ok(&["create", "--name", "cut", "--log-opt", &format!("tag={tag}"), IMAGE, "echo", "line"]);
        store.ok(&["start", "-a", "cut"]);
        let shown = shown.map_or_else(|| format!("{}.", &id[..4]), str::to_owned);
        assert_eq!(store.ok(&["logs", "--details", "cut"]), format!("tag={shown} line"));
        store.ok(&["rm", "cut"]);
    }
    for bad in ["tag={{.Nonsense}}", "env-regex=("] {
        store.fails(125, &["run", "--log-opt", bad, IMAGE, "true"]);
    }
}

#[test]
fn only_the_attached_streams_are_shown() {
    let store = Store::new();
    let run = |flags: &[&str]| {
        store.run(&[&["run", "--name", "both"], flags, &[IMAGE, "sh", "-c", "echo out; echo err >&2"]].concat())
    };
    let only_out = run(&["-a", "stdout"]);
    assert_eq!((only_out.out.as_str(), only_out.err.as_str()), ("out\n", ""));
    let again = run(&["--replace", "-a", "stderr"]);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", "err\n"));
    let input = run(&["--replace", "-i", "-a", "stdin"]);
    assert_eq!((input.out.trim().len(), input.err.as_str()), (64, ""));
    assert_eq!(store.ok(&["ps", "-aq"]).lines().count(), 1);
    assert!(
        store.fails(125, &["run", "--replace", IMAGE, "true"]).contains("cannot replace a container without --name")
    );
}

#[test]
fn all_and_those_that_may_be_missing() {
    let store = Store::new();
    for name in ["one", "two"] {
        store.ok(&["run", "-d", "--name", name, IMAGE, "sleep", "1000"]);
    }
    store.ok(&["create", "--name", "new", IMAGE, "true"]);
    assert_eq!(store.ok(&["ps", "--noheading"]).lines().count(), 2);
    assert_eq!(store.ok(&["pause", "-a"]).lines().count(), 2);
    assert_eq!(store.ok(&["unpause", "--all"]).lines().count(), 2);
    assert_eq!(store.ok(&["kill", "-a"]).lines().count(), 2);
    assert_eq!(store.ok(&["stop", "-a"]), "");
    assert_eq!(store.ok(&["stop", "--ignore", "nosuch"]), "");
    assert_eq!(store.ok(&["rm", "--ignore", "nosuch", "one"]), "one");
    assert!(store.fails(1, &["rm", "-a", "two"]).contains("exclude each other"));
    store.fails(1, &["rm"]);
    store.ok(&["start", "two"]);
    assert_eq!(store.ok(&["rm", "-f", "-t", "0", "-a"]).lines().count(), 2);
    assert_eq!(store.ok(&["rm", "-a"]), "");
}

#[test]
fn shells_complete_and_pages_are_written() {
    let store = Store::empty();
    let bash = store.write("minirun.bash", store.run(&["completion", "bash"]).raw);
    let script =
        "source \"$1\"; COMP_WORDS=(minirun sta); COMP_CWORD=1; _minirun minirun sta minirun; echo \"${COMPREPLY[@]}\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash", &bash]);
    assert_eq!(done(&mut command).out, "start stats\n");
    for (shell, word) in [("zsh", "#compdef minirun"), ("fish", "complete -c minirun")] {
        assert!(store.ok(&["completion", shell]).contains(word), "{shell}");
    }
    store.fails(125, &["completion", "tcsh"]);
    store.ok(&["man", &store.text("man")]);
    let page = std::fs::read_to_string(store.path("man/minirun-run.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("\\-\\-health\\-cmd"), "{page}");
    // Neither needs a store, and neither makes one.
    assert!(!store.root().exists());
}

#[test]
fn version_and_info_answer_templates() {
    let store = Store::new();
    let version = store.ok(&["version", "--format", "{{.Server.Version}}"]);
    assert!(version.split('.').count() == 3 && version == store.ok(&["info", "-f", "{{.ServerVersion}}"]), "{version}");
    let plain = store.ok(&["version"]);
    assert!(plain.starts_with("Client:") && plain.contains(&format!(" Version:           {version}\n")), "{plain}");
    store.ok(&["create", IMAGE, "true"]);
    let info = store.ok(&["info"]);
    for line in [
        " Containers: 1\n",
        "  Stopped: 1\n",
        " Images: 1\n",
        " Storage Driver: overlay\n",
        " Logging Driver: json-file\n",
    ] {
        assert!(info.contains(line), "{line:?} in {info}");
    }
    let group = store.ok(&["info", "-f", "{{.CgroupVersion}} {{.CgroupDriver}} {{.DockerRootDir}}"]);
    assert!(matches!(group.split(' ').next(), Some("1" | "2")), "{group}");
    assert!(group.ends_with(store.root().to_str().unwrap()), "{group}");
    let asked = "{{.Swarm.LocalNodeState}} {{.MemoryLimit}} {{.IndexServerAddress}}{{.Isolation}}";
    assert_eq!(store.ok(&["info", "-f", asked]), "inactive true https://index.docker.io/v1/");
    assert_eq!(
        store.ok(&["version", "-f", "{{.Server.APIVersion}} {{.Client.APIVersion}}{{.Client.GitCommit}}"]),
        "1.50 1.50"
    );
    assert_eq!((store.ok(&["info", "-f", ""]), store.ok(&["version", "-f", ""])), (store.ok(&["info"]), plain));
}

#[test]
fn help_and_dockers_options_come_before_the_command() {
    let store = Store::new();
    let version = store.ok(&["-v"]);
    assert!(version.starts_with("minirun ") && version == store.ok(&["--version"]), "{version}");
    assert_eq!(store.ok(&["help", "image", "ls"]), store.ok(&["image", "ls", "--help"]));
    assert_eq!(store.ok(&["help"]), store.ok(&["--help"]));
    for words in [&["nonsense"][..], &["run", IMAGE, "touch"], &["exec", "box", "true"], &["image", "nonsense"]] {
        let error = store.fails(1, &[&["help"], words].concat());
        assert!(error.contains(&format!("unknown help topic: {}", words[words.len().min(2) - 1])), "{error}");
    }
    assert_eq!(store.ok(&["help", "run"]), store.ok(&["run", "--help"]));
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    assert_eq!(done(store.command(&["images"]).env("DOCKER_CONFIG", "")).code, 0);
    let quiet = store.ok(&["images", "-q"]);
    for options in [&["-D"][..], &["-l", "error"], &["--log-level=debug", "--debug"], &["-c", "default"]] {
        assert_eq!(store.ok(&[options, &["images", "-q"]].concat()), quiet, "{options:?}");
    }
    store.fails(125, &["--context", "elsewhere", "images"]);
    // One word too many is no wrong flag.
    store.fails(1, &["history", IMAGE, "more"]);
    store.fails(125, &["history", "--nonsense", IMAGE]);
    for group in ["image", "network"] {
        assert_eq!(store.run(&[group]).code, 0, "{group}");
    }
}

#[test]
fn times_are_those_of_the_readers_zone() {
    let store = Store::empty();
    let tar = crate::support::fixture("busybox.tar");
    let mut import = store.command(&["import", tar.to_str().unwrap(), "old"]);
    assert_eq!(done(import.env("SOURCE_DATE_EPOCH", "1000000000")).code, 0);
    store.ok(&["run", "--name", "one", "old", "echo", "said"]);
    store.ok(&["network", "create", "mrt-zone"]);
    let at = |zone: &str, args: &[&str]| {
        let done = done(store.command(args).env("TZ", zone));
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done.out.trim_end().to_owned()
    };
    let tokyo = |args: &[&str]| at("Asia/Tokyo", args);
    let images = ["images", "--format", "{{.CreatedAt}}"];
    for (zone, shown) in [
        ("Asia/Tokyo", "2001-09-09 10:46:40 +0900 JST"),
        (":America/New_York", "2001-09-08 21:46:40 -0400 EDT"),
        ("/usr/share/zoneinfo/Asia/Kolkata", "2001-09-09 07:16:40 +0530 IST"),
        ("America/Sao_Paulo", "2001-09-08 22:46:40 -0300 -03"),
        ("", "2001-09-09 01:46:40 +0000 UTC"),
        ("No/Where", "2001-09-09 01:46:40 +0000 UTC"),
    ] {
        assert_eq!(at(zone, &images), shown, "{zone}");
    }
    let history = ["history", "-H=false", "--format", "{{.CreatedAt}} {{.CreatedSince}}", "old"];
    assert_eq!(tokyo(&history), "2001-09-09T10:46:40+09:00 2001-09-09T10:46:40+09:00");
    // The same moment as in the documents, which stay in UTC.
    let second =
        |text: &str| jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S %z JST", text).unwrap().to_timestamp().unwrap();
    let created = store.inspect("one", "{{.Created}}");
    assert!(created.ends_with('Z') && created == tokyo(&["inspect", "-f", "{{.Created}}", "one"]), "{created}");
    let shown = tokyo(&["ps", "-a", "--format", "{{.CreatedAt}}"]);
    assert_eq!(second(&shown).as_second(), created.parse::<jiff::Timestamp>().unwrap().as_second());
    let shown = tokyo(&["network", "ls", "-f", "name=mrt-zone", "--format", "{{.CreatedAt}}"]);
    assert!(shown.contains('.') && shown.ends_with(" +0900 JST"), "{shown}");
    let events = tokyo(&["events", "--since", "1h", "--until", "0s", "-f", "event=die"]);
    let (time, _) = events.split_once(' ').unwrap();
    assert!(time.len() == 35 && time.ends_with("+09:00"), "{events}");
    let nanoseconds =
        store.ok(&["events", "--since", "1h", "--until", "0s", "-f", "event=die", "--format", "{{.timeNano}}"]);
    assert_eq!(time.parse::<jiff::Timestamp>().unwrap().as_nanosecond().to_string(), nanoseconds);
    let logs = tokyo(&["logs", "-t", "one"]);
    assert!(logs.split_once(' ').unwrap().0.ends_with('Z'), "{logs}");
    // What has no zone is read as it is shown.
    for (until, count) in
        [("2001-09-09T10:46", 0), ("2001-09-09T10:47", 1), ("2001-09-09T01:46Z", 0), ("2001-09-09T01:47Z", 1)]
    {
        let filter = format!("until={until}");
        assert_eq!(tokyo(&["images", "-q", "-f", &filter]).lines().count(), count, "{until}");
    }
    store.ok(&["network", "rm", "mrt-zone"]);
}

#[test]
fn info_hides_who_asks_a_proxy() {
    let store = Store::empty();
    for (set, shown) in [
        ("http://user:secret@proxy:3128/x", "http://xxxxx:xxxxx@proxy:3128/x"),
        ("http://proxy:3128/@", "http://proxy:3128/@"),
    ] {
        let mut info = store.command(&["info", "-f", "{{.HttpProxy}}"]);
        assert_eq!(done(info.env("http_proxy", set)).out.trim_end(), shown);
    }
}

#[test]
fn a_command_is_quoted_as_gos() {
    let store = Store::new();
    store.ok(&["create", IMAGE, "echo", "\x1b[1m\x07\t\x7f\\u{1b}é\""]);
    let shown = store.ok(&["ps", "-a", "--no-trunc", "--format", "{{.Command}}"]);
    assert_eq!(shown, r#""echo \x1b[1m\a\t\x7f\\u{1b}é\"""#);
}

#[test]
fn of_what_is_given_twice_the_last_counts_and_lists_grow() {
    let store = Store::new();
    let root = store.root().display().to_string();
    let twice = [
        "run",
        "--rm",
        "--rm",
        "-w",
        "/",
        "-w",
        "/tmp",
        "-u",
        "7",
        "--user=8",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "-i",
        "--interactive=false",
        "--name",
        "other",
        "--name",
        "named",
        IMAGE,
        "sh",
        "-c",
        "pwd; id -u; echo $A$B",
    ];
    assert_eq!(store.ok(&twice), "/tmp\n8\n12");
    // Also where the line is not read by the short cut.
    assert_eq!(store.ok(&[&["container"], &twice[..]].concat()), "/tmp\n8\n12");
    store.ok(&["--root", "/nosuch", "--root", &root, "run", "-d", "--name", "up", IMAGE, "sleep", "1000"]);
    assert_eq!(store.ok(&["ps", "--format", "{{.ID}}", "-a", "-a", "--format", "{{.Names}}"]), "up");
    assert_eq!(store.ok(&["exec", "-w", "/", "-w", "/etc", "up", "pwd"]), "/etc");
    store.ok(&["stop", "-t", "100", "-t", "0", "up"]);
    store.ok(&["rm", "-f", "-f", "up"]);
}

#[test]
fn callers_of_docker_are_told_a_version_that_they_know() {
    let store = Store::new();
    let docker = store.path("docker-cli/docker");
    std::fs::create_dir(docker.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(crate::support::program(), &docker).unwrap();
    for word in ["-v", "--version"] {
        let said = done(Command::new(&docker).arg(word)).out;
        assert!(said.starts_with("Docker version 28.2.2, build minirun-"), "{said}");
    }
    assert!(store.ok(&["--version"]).starts_with("minirun "));
}

#[test]
fn what_is_unknown_is_named_without_a_guess_at_what_was_meant() {
    let store = Store::new();
    let said = store.fails(125, &["run", "--volume-drivers", "local", IMAGE, "true"]);
    assert!(
        said.starts_with("unknown flag: --volume-drivers\n\nUsage: minirun run") && !said.contains("tip"),
        "{said}"
    );
    let said = store.fails(1, &["compose", "up"]);
    assert!(said.starts_with("unknown command: compose\n") && !said.contains("tip"), "{said}");
    let done = done(Command::new(crate::support::program()).arg("image"));
    assert!(done.code == 0 && done.out.contains("Usage: minirun image"), "{done:?}");
}

#[test]
fn the_files_of_a_running_container_are_seen_from_the_host() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "up", IMAGE, "sh", "-c", "echo inside > /file; exec sleep 1000"]);
    let file = std::path::PathBuf::from(store.inspect("up", "{{.GraphDriver.Data.MergedDir}}")).join("file");
    eventually("the file", || std::fs::read_to_string(&file).is_ok_and(|text| text == "inside\n"));
    store.ok(&["stop", "-t", "0", "up"]);
    assert_eq!(store.inspect("up", "{{.GraphDriver.Data.MergedDir}}"), "");
}
