//! What Docker and Podman both do, with the same words.

use crate::base::{eventually, facts, fed, signal};
use crate::support::{Engine, IMAGE, Room, Test, runtime_name};

/// Makes a test of an engine from each of these functions.
macro_rules! behaviours {
    ($engine:path: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            crate::commands::$name(&crate::support::Test::new($engine()));
        })*
    };
}
pub(crate) use behaviours;

pub use crate::registry::images_travel_by_a_registry;

const FOREVER: [&str; 2] = ["sleep", "86000"];

// ---- run

pub fn output_and_status_come_back(t: &Test) {
    let done = t.once(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
}

pub fn what_cannot_be_executed_is_told(t: &Test) {
    let missing = t.once(&[], &["/no/such"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.err.contains("/no/such") && missing.err.contains("no such file"), "{}", missing.err);
    assert!(missing.err.contains(&format!("{} create failed", runtime_name())), "{}", missing.err);
    let missing = t.once(&[], &["not-in-path"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.err.contains("not-in-path") && missing.err.contains("not found"), "{}", missing.err);
    for path in ["/etc", "/etc/passwd"] {
        let denied = t.once(&[], &[path]);
        assert_eq!(denied.code, 126, "{denied:?}");
        assert!(denied.err.contains(path) && denied.err.to_lowercase().contains("permission denied"), "{}", denied.err);
    }
}

pub fn input_is_read_to_its_end(t: &Test) {
    let input: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let done = t.once_with(&["-i"], &["cat"], &input);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.raw == input, "{} bytes came back of {}", done.raw.len(), input.len());
}

pub fn a_shell_runs_on_a_terminal(t: &Test) {
    let name = t.name("shell");
    let mut terminal = t.terminal(&t.arguments(&name, &["-it"], &["sh"]));
    terminal.expect("# ");
    assert!(terminal.is_raw());
    // The engine tells the size after the start.
    eventually("the size", || {
        terminal.send("stty size; echo done-$((1+1))\n");
        terminal.expect("done-2\r").contains("33 101")
    });
    terminal.resize(50, 132);
    eventually("the new size", || {
        terminal.send("stty size; echo again-$((1+1))\n");
        terminal.expect("again-2\r").contains("50 132")
    });
    terminal.send("probe tty; echo end-$((1+1))\n");
    let told = facts(&terminal.expect("end-2").replace('\r', ""));
    for key in ["stdin", "stdout", "stderr", "controlling"] {
        assert_eq!(told[key], "yes", "{key}: {told:?}");
    }
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait(), 3);
    assert!(!terminal.is_raw());
}

pub fn a_terminal_is_left_and_attached_again(t: &Test) {
    let name = t.start("left", &["-it"], &["sh"]);
    let mut terminal = t.terminal(&["attach", &name]);
    eventually("an answer", || {
        terminal.send("echo here-$((1+1))\n");
        terminal.expect("$((1+1))");
        terminal.expect("here-2").contains("here-2")
    });
    terminal.send("\x10\x11");
    terminal.wait();
    assert_eq!(t.inspect(&name, "{{.State.Status}}"), "running");
    let mut terminal = t.terminal(&["attach", &name]);
    terminal.send("exit 4\n");
    assert_eq!(terminal.wait(), 4);
    t.reaches(&name, "exited");
}

pub fn the_user_and_the_directory_are_chosen(t: &Test) {
    let id = t.output(&["-u", "1000:1001", "--group-add", "5"], &["sh", "-c", "id -u; id -g; id -G"]);
    let lines: Vec<&str> = id.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1000", "1001"), "{id}");
    assert!(lines[2].split(' ').any(|g| g == "5"), "{id}");
    assert_eq!(t.output(&["-u", "nobody"], &["id", "-un"]), "nobody");
    assert_eq!(t.output(&["-w", "/usr/bin"], &["pwd"]), "/usr/bin");
    assert_eq!(t.output(&["-e", "A=b c", "-h", "called"], &["sh", "-c", "echo $A; hostname"]), "b c\ncalled");
}

pub fn volumes_are_seen(t: &Test) {
    let (dir, file) = (t.path("dir"), t.path("dir/file"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&file, "from outside\n").unwrap();
    let bind = format!("{dir}:/data");
    let text = t.output(&["-v", &bind], &["sh", "-c", "cat /data/file; echo from inside > /data/new"]);
    assert_eq!(text, "from outside");
    assert_eq!(std::fs::read_to_string(t.path("dir/new")).unwrap(), "from inside\n");
    let done = t.once(&["-v", &format!("{dir}:/data:ro")], &["touch", "/data/x"]);
    assert!(done.code == 1 && done.err.contains("Read-only"), "{done:?}");
    assert_eq!(t.output(&["-v", &format!("{file}:/etc/motd")], &["cat", "/etc/motd"]), "from outside");
    let volume = format!("{}:/keep", t.name("volume"));
    t.output(&["-v", &volume], &["sh", "-c", "echo kept > /keep/file"]);
    assert_eq!(t.output(&["-v", &volume], &["cat", "/keep/file"]), "kept");
    t.ok(&["volume", "rm", &t.name("volume")]);
}

pub fn a_read_only_tree_has_writable_places(t: &Test) {
    let script = "touch /x 2>/dev/null; echo $?; touch /t/x; echo $?; touch /dev/shm/x; echo $?";
    assert_eq!(t.output(&["--read-only", "--tmpfs", "/t"], &["sh", "-c", script]), "1\n0\n0");
}

pub fn the_namespaces_of_another_container_are_joined(t: &Test) {
    let first = t.start("first", &["--ipc", "shareable"], &FOREVER);
    let of = |kind: &str| format!("{kind}=container:{first}");
    let (net, pid, ipc) = (of("--network"), of("--pid"), of("--ipc"));
    let script = "for n in net pid ipc mnt; do readlink /proc/self/ns/$n; done; ps";
    let joined = t.output(&[&net, &pid, &ipc], &["sh", "-c", script]);
    let own = t.ok(&["exec", &first, "sh", "-c", script]);
    let (joined, own): (Vec<&str>, Vec<&str>) = (joined.lines().collect(), own.lines().collect());
    assert_eq!(joined[..3], own[..3]);
    assert_ne!(joined[3], own[3]);
    assert!(joined.iter().any(|l| l.contains("sleep 86000")), "{joined:?}");
}

pub fn namespaces_of_the_host_are_kept(t: &Test) {
    let outside = |kind: &str| std::fs::read_link(Room::get().inside("/proc/1/ns").join(kind)).unwrap();
    let options = ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host"];
    let script = "for n in net pid ipc uts; do readlink /proc/self/ns/$n; done";
    let inside = t.output(&options, &["sh", "-c", script]);
    let expected: Vec<_> = ["net", "pid", "ipc", "uts"].iter().map(|k| outside(k).display().to_string()).collect();
    assert_eq!(inside.lines().collect::<Vec<_>>(), expected);
}

pub fn networks_are_none_or_a_bridge(t: &Test) {
    let none = t.output(&["--network", "none"], &["ls", "/sys/class/net"]);
    assert_eq!(none, "lo");
    let script = "while :; do echo HELLO | nc -l -p 80; done";
    let server = t.start("server", &[], &["sh", "-c", script]);
    let address = t.inspect(&server, "{{.NetworkSettings.IPAddress}}");
    let script = format!("until nc {address} 80 </dev/null | grep HELLO; do usleep 10000; done");
    assert_eq!(t.output(&[], &["sh", "-c", &script]), "HELLO");
}

pub fn confinement_is_asked_for(t: &Test) {
    let script =
        "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; touch /proc/sys/kernel/x; cat /proc/kcore | wc -c;
        mount -t tmpfs none /mnt || echo denied";
    let text = t.output(
        &["--cap-drop", "all", "--cap-add", "chown", "--security-opt", "no-new-privileges"],
        &["sh", "-c", script],
    );
    for line in ["CapEff:\t0000000000000001", "CapBnd:\t0000000000000001", "Seccomp:\t2", "NoNewPrivs:\t1", "denied"] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    assert!(text.lines().any(|l| l.trim() == "0"), "{text}");
    let unconfined = t.output(&["--security-opt", "seccomp=unconfined"], &["grep", "Seccomp:", "/proc/self/status"]);
    assert_eq!(unconfined, "Seccomp:\t0");
    let options = [
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "nproc=100:200",
        "--shm-size",
        "8m",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_default_ttl; ulimit -Sn; ulimit -Hn; df -k /dev/shm | tail -n 1";
    let text = t.output(&options, &["sh", "-c", script]);
    assert!(text.starts_with("77\n100\n200\n") && text.contains(" 8192 "), "{text}");
    let device = ["--device", "/dev/loop-control:/dev/looped:r"];
    assert_eq!(t.output(&device, &["sh", "-c", "exec 3</dev/looped && echo open"]), "open");
    let denied = t.once(&device, &["sh", "-c", "exec 3<>/dev/looped"]);
    assert!(denied.code != 0 && denied.err.contains("not permitted"), "{denied:?}");
}

pub fn an_init_reaps(t: &Test) {
    let catatonit: &[&str] = &["--init", "--init-path", "/usr/bin/catatonit"];
    let options = if t.engine.name == "podman" { catatonit } else { &["--init"] };
    let name = t.start("reaped", options, &["sh", "-c", "(usleep 1 & exec true); exec sleep 86000"]);
    let first = t.ok(&["exec", &name, "cat", "/proc/1/cmdline"]);
    assert!(!first.starts_with("sh") && !first.starts_with("sleep"), "{first}");
    eventually("the orphan to be reaped", || !t.ok(&["exec", &name, "ps", "-o", "stat,args"]).contains("\nZ"));
    t.ok(&["stop", "-t", "30", &name]);
    assert_eq!(t.inspect(&name, "{{.State.ExitCode}}"), "143");
}

// ---- a running container

pub fn commands_are_executed_in_it(t: &Test) {
    let name = t.start("host", &["-w", "/usr"], &FOREVER);
    let done = t.run(&["exec", &name, "sh", "-c", "pwd; echo err >&2; exit 9"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (9, "/usr\n", "err\n"));
    let script = "id -u; pwd; echo $A";
    assert_eq!(t.ok(&["exec", "-u", "33", "-w", "/etc", "-e", "A=x y", &name, "sh", "-c", script]), "33\n/etc\nx y");
    let input = vec![b'i'; 300_000];
    let done = fed(t.engine.command(&["exec", "-i", &name, "cat"]), &input);
    assert!(done.code == 0 && done.raw == input, "{} {} bytes {}", done.code, done.raw.len(), done.err);
    t.ok(&["exec", "-d", &name, "sh", "-c", "echo done > /file"]);
    eventually("the detached command", || t.run(&["exec", &name, "cat", "/file"]).out == "done\n");
    let script = "cat /proc/self/cgroup; grep -E '^(Cap|Seccomp:)' /proc/self/status";
    let (of_exec, of_init) = (t.ok(&["exec", &name, "sh", "-c", script]), "grep -E '^(Cap|Seccomp:)' /proc/1/status");
    let status = t.ok(&["exec", &name, "sh", "-c", of_init]);
    assert!(of_exec.ends_with(&status), "{of_exec}\n{status}");
}

pub fn what_cannot_be_executed_in_it_is_told(t: &Test) {
    let name = t.start("refuses", &[], &FOREVER);
    let missing = t.run(&["exec", &name, "/no/such"]);
    // Docker has its own reading of the message.
    assert!(missing.code == 127 || t.engine.name == "docker" && missing.code == 126, "{missing:?}");
    assert!(format!("{missing:?}").contains("no such file"), "{missing:?}");
    let missing = t.run(&["exec", &name, "not-in-path"]);
    assert!(missing.code == 127 || t.engine.name == "docker" && missing.code == 126, "{missing:?}");
    assert!(format!("{missing:?}").contains("executable file not found"), "{missing:?}");
    let denied = t.run(&["exec", &name, "/etc/passwd"]);
    assert_eq!(denied.code, 126, "{denied:?}");
    assert!(format!("{denied:?}").to_lowercase().contains("permission denied"), "{denied:?}");
    assert_eq!(t.ok(&["exec", &name, "echo", "well"]), "well");
}

pub fn a_shell_in_it_has_a_terminal(t: &Test) {
    let name = t.start("with-shell", &[], &FOREVER);
    let mut terminal = t.terminal(&["exec", "-it", &name, "sh"]);
    terminal.expect("# ");
    eventually("the size", || {
        terminal.send("stty size; echo done-$((1+1))\n");
        terminal.expect("done-2\r").contains("33 101")
    });
    terminal.send("\x03");
    terminal.expect("# ");
    terminal.send("exit 6\n");
    assert_eq!(terminal.wait(), 6);
    assert_eq!(t.inspect(&name, "{{.State.Status}}"), "running");
}

pub fn stopping_asks_first(t: &Test) {
    let polite = t.start("polite", &[], &["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do usleep 1000; done"]);
    t.says(&polite, "ready");
    t.ok(&["stop", "-t", "60", &polite]);
    assert_eq!(t.inspect(&polite, "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
    let deaf = t.start("deaf", &[], &FOREVER);
    t.ok(&["stop", "-t", "0", &deaf]);
    assert_eq!(t.inspect(&deaf, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    t.ok(&["start", &deaf]);
    assert_eq!(t.inspect(&deaf, "{{.State.Status}}"), "running");
    t.ok(&["restart", "-t", "0", &deaf]);
    assert_eq!(t.inspect(&deaf, "{{.State.Status}}"), "running");
}

pub fn signals_reach_it(t: &Test) {
    let script = "trap 'echo got it' USR1; echo ready; while :; do usleep 1000; done";
    let name = t.start("signalled", &[], &["sh", "-c", script]);
    t.says(&name, "ready");
    t.ok(&["kill", "-s", "USR1", &name]);
    t.says(&name, "got it");
    t.ok(&["kill", &name]);
    t.reaches(&name, "exited");
    assert_eq!(t.inspect(&name, "{{.State.ExitCode}}"), "137");
    assert_eq!(t.ok(&["wait", &name]), "137");
    assert_ne!(t.run(&["kill", &name]).code, 0);
}

pub fn a_paused_one_stands_still(t: &Test) {
    let name = t.start("still", &[], &FOREVER);
    t.ok(&["pause", &name]);
    assert_eq!(t.inspect(&name, "{{.State.Status}}"), "paused");
    let frozen = || {
        let dirs = Room::get().cgroups(&t.inspect(&name, "{{.Id}}"));
        let states = dirs.iter().filter_map(|d| std::fs::read_to_string(d.join("freezer.state")).ok());
        let states: Vec<String> =
            states.chain(dirs.iter().filter_map(|d| std::fs::read_to_string(d.join("cgroup.freeze")).ok())).collect();
        states.iter().any(|s| s == "FROZEN\n" || s == "1\n")
    };
    assert!(frozen());
    assert_ne!(t.run(&["exec", &name, "true"]).code, 0);
    t.ok(&["unpause", &name]);
    assert!(!frozen());
    assert_eq!(t.ok(&["exec", &name, "echo", "moves"]), "moves");
    t.ok(&["pause", &name]);
    t.ok(&["rm", "-f", &name]);
}

pub fn its_processes_and_use_are_told(t: &Test) {
    let name = t.start("watched", &["-m", "64m"], &["sh", "-c", "sleep 85000 & sleep 86000"]);
    eventually("all processes", || {
        let top = t.ok(&["top", &name]);
        top.contains("sleep 85000") && top.contains("sleep 86000")
    });
    let stats = t.ok(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", &name]);
    let (count, memory) = stats.split_once(' ').unwrap();
    assert!((2..=3).contains(&count.parse().unwrap()), "{stats}");
    assert!(memory.contains("64MiB") || memory.contains("67.11MB"), "{stats}");
    assert!(!memory.starts_with("0B"), "{stats}");
}

pub fn its_output_is_kept(t: &Test) {
    let script = "for i in $(seq 1000); do echo line $i; done; echo other >&2";
    let name = t.start("talker", &[], &["sh", "-c", script]);
    t.reaches(&name, "exited");
    let done = t.run(&["logs", &name]);
    assert_eq!((done.out.lines().count(), done.out.lines().last()), (1000, Some("line 1000")));
    assert_eq!(done.err, "other\n");
    let tail = t.run(&["logs", "-f", "--tail", "3", &name]);
    assert_eq!(tail.out.lines().count() + tail.err.lines().count(), 3, "{tail:?}");
}

// ---- limits and restarts

pub fn limits_are_set(t: &Test) {
    let options = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpu-shares", "512", "--cpuset-cpus", "0"];
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
        pids/pids.max cpu/cpu.shares cpuset/cpuset.cpus";
    assert_eq!(t.output(&options, &["sh", "-c", script]), "67108864\n50000\n100000\n20\n512\n0");
    let many = t.once(&["--pids-limit", "8"], &["sh", "-c", "for i in $(seq 20); do sleep 1000 & done; echo all"]);
    assert!(!many.out.contains("all") || many.err.contains("fork"), "{many:?}");
}

pub fn too_much_memory_ends_it(t: &Test) {
    // Engines hear of the end by one way and of its reason by another. On a busy host the reason may come too late for
    // them, with podman on cgroup v1 always.
    let is_told = |name: &str| {
        let name = t.start(name, &["-m", "16m", "--memory-swap", "16m"], &["tail", "/dev/zero"]);
        t.reaches(&name, "exited");
        assert_eq!(t.inspect(&name, "{{.State.ExitCode}}"), "137");
        t.engine.name == "podman" || t.inspect(&name, "{{.State.OOMKilled}}") == "true"
    };
    assert!(["greedy", "greedier", "greediest"].into_iter().any(is_told));
}

pub fn restart_policies_are_followed(t: &Test) {
    let failing = t.start("failing", &["--restart", "on-failure:2"], &["sh", "-c", "echo again; exit 3"]);
    eventually("two restarts", || t.ok(&["logs", &failing]).lines().count() == 3);
    t.reaches(&failing, "exited");
    assert_eq!(t.inspect(&failing, "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    let always = t.start("always", &["--restart", "always"], &FOREVER);
    let pid = || t.inspect(&always, "{{.State.Pid}}");
    let first = pid();
    let host = host_pid(&first);
    signal(host, libc::SIGKILL);
    eventually("the restart", || pid() != first && t.inspect(&always, "{{.State.Status}}") == "running");
}

/// The pid that a process of the room has outside.
fn host_pid(inside: &str) -> i32 {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let pids = status.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap_or_default();
        let pids: Vec<&str> = pids.split_whitespace().collect();
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let room = Room::get().dir.file_name().unwrap().to_string_lossy().into_owned();
        if pids.get(1) == Some(&inside) && cgroup.contains(&room) {
            return pids[0].parse().unwrap();
        }
    }
    panic!("no process {inside} in the room");
}

// ---- images

pub fn an_image_is_made_of_a_container(t: &Test) {
    let name = t.start("source", &[], &["sh", "-c", "echo made > /made; rm /etc/passwd"]);
    t.reaches(&name, "exited");
    let image = t.name("image");
    t.ok(&["commit", "-c", "ENV MADE=yes", &name, &image]);
    let script = "cat /made; echo $MADE; test -e /etc/passwd || echo gone";
    assert_eq!(t.ok(&["run", "--rm", &image, "sh", "-c", script]), "made\nyes\ngone");
    t.ok(&["rmi", &image]);
}

pub fn an_image_is_built(t: &Test) {
    let dir = t.path("context");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(t.path("context/file"), "copied\n").unwrap();
    let text = format!(
        "FROM {IMAGE}\nENV A=b\nCOPY file /file\nRUN cat /file > /built && echo $A >> /built && id -u >> /built\n\
         USER 33\nWORKDIR /work\nRUN id -u; touch /tmp/by-33\nCMD [\"cat\", \"/built\"]\n"
    );
    std::fs::write(t.path("context/Dockerfile"), text).unwrap();
    let image = t.name("built");
    t.ok(&["build", "-t", &image, &dir]);
    assert_eq!(t.ok(&["run", "--rm", &image]), "copied\nb\n0");
    assert_eq!(t.ok(&["run", "--rm", &image, "stat", "-c", "%u", "/tmp/by-33"]), "33");
    t.ok(&["rmi", &image]);
    std::fs::write(t.path("context/Dockerfile"), format!("FROM {IMAGE}\nRUN exit 11\n")).unwrap();
    let failed = t.run(&["build", "--no-cache", "-t", &image, &dir]);
    assert!(failed.code != 0 && format!("{failed:?}").contains("11"), "{failed:?}");
}

pub fn many_run_at_once(t: &Test) {
    let engine: &'static Engine = t.engine;
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let args = ["run", "--rm", IMAGE, "sh", "-c", "echo $0; exit $0", &n.to_string()].map(str::to_owned);
            std::thread::spawn(move || {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let done = crate::base::done(&mut engine.command(&args));
                assert_eq!((done.code, done.out.trim()), (n, n.to_string().as_str()), "{done:?}");
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
