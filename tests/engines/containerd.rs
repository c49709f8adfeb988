//! containerd with minirun behind its shim for runc, by way of `ctr`.

use crate::base::{Done, Store, Terminal, done, eventually, fed};
use crate::support::{IMAGE, Room, runtime_name};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const FOREVER: [&str; 2] = ["sleep", "86000"];

/// A container of a containerd of our own, in the room.
struct Container {
    id: String,
}

fn ctr(args: &[&str]) -> Command {
    let room = Room::get();
    room.command(&[&["ctr", "-a", &room.text("containerd.sock")], args].concat())
}

fn ok(args: &[&str]) -> String {
    let done = done(&mut ctr(args));
    assert_eq!(done.code, 0, "ctr {args:?}: {done:?}");
    done.out.trim_end().to_owned()
}

/// Starts containerd and gives it the image, at the first call.
fn image() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let room = Room::get();
        let settings = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        std::fs::write(room.path("containerd.toml"), settings).unwrap();
        let (config, root) = (room.text("containerd.toml"), room.text("containerd"));
        let (state, socket) = (room.text("containerd-state"), room.text("containerd.sock"));
        let args = ["--config", &config, "--root", &root, "--state", &state, "--address", &socket];
        room.start("containerd", &args, || ctr(&["version"]));
        let scratch = Store::empty();
        ok(&["images", "import", &scratch.archive(IMAGE, "{}")]);
        format!("docker.io/library/{IMAGE}:latest")
    })
}

impl Container {
    fn new() -> Container {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Container { id: format!("of-ctr-{:03}", NUMBER.fetch_add(1, Ordering::Relaxed)) }
    }

    /// The arguments of `ctr run` with the runtime under test.
    fn arguments(&self, options: &[&str], command: &[&str]) -> Vec<String> {
        let runtime = Room::get().runtime();
        let args = [&["run", "--runc-binary", &runtime], options, &[image(), &self.id], command].concat();
        args.into_iter().map(str::to_owned).collect()
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Done {
        let args = self.arguments(&[&["--rm"], options].concat(), command);
        done(&mut ctr(&args.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn output(&self, options: &[&str], command: &[&str]) -> String {
        let done = self.run(options, command);
        assert_eq!(done.code, 0, "ctr run {options:?} {command:?}: {done:?}");
        done.out.trim_end().to_owned()
    }

    fn start(&self, options: &[&str]) {
        let args = self.arguments(&[&["-d"], options].concat(), &FOREVER);
        ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// The state that containerd tells, if it knows the task.
    fn state(&self) -> Option<String> {
        let list = ok(&["tasks", "ls"]);
        let line = list.lines().find(|l| l.starts_with(&self.id))?;
        line.split_whitespace().last().map(str::to_owned)
    }

    fn exec(&self, name: &str, args: &[&str]) -> Command {
        let id = format!("{}-{name}", self.id);
        let options = ["tasks", "exec", "--exec-id", &id];
        let at = args.iter().position(|a| !a.starts_with('-')).unwrap();
        ctr(&[&options[..], &args[..at], &[&self.id], &args[at..]].concat())
    }

    fn kill(&self) {
        ok(&["tasks", "kill", "-s", "KILL", &self.id]);
        eventually("the end", || self.state().as_deref() == Some("STOPPED"));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = done(&mut ctr(&["tasks", "rm", "-f", &self.id]));
        let _ = done(&mut ctr(&["containers", "rm", &self.id]));
        if !std::thread::panicking() {
            assert_eq!(self.state(), None);
            let traces = || Room::get().traces(&self.id);
            eventually(&format!("{:?} to go", traces()), || traces().is_empty());
        }
    }
}

#[test]
fn output_and_status_come_back() {
    let c = Container::new();
    let done = c.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
}

#[test]
fn what_cannot_be_executed_is_told() {
    for (path, message) in [("/no/such", "no such file or directory"), ("/etc/passwd", "permission denied")] {
        let c = Container::new();
        let done = c.run(&[], &[path]);
        assert_ne!(done.code, 0, "{done:?}");
        assert!(done.err.contains(&format!("{} create failed", runtime_name())), "{}", done.err);
        assert!(done.err.contains(path) && done.err.contains(message), "{}", done.err);
    }
}

#[test]
fn a_terminal_works_both_ways() {
    let c = Container::new();
    let args = c.arguments(&["--rm", "-t"], &["sh"]);
    let mut terminal = Terminal::spawn(ctr(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    terminal.expect("# ");
    eventually("the size", || {
        terminal.send("stty size; echo done-$((1+1))\n");
        terminal.expect("done-2\r").contains("33 101")
    });
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait(), 3);
}

#[test]
fn it_is_created_started_entered_killed_and_deleted() {
    let c = Container::new();
    // Without a path, the shim takes the `runc` that it finds: the runtime under test by that name.
    let args = [&["containers", "create", image(), &c.id], &FOREVER[..]].concat();
    ok(&args);
    assert_eq!(c.state(), None);
    ok(&["tasks", "start", "-d", &c.id]);
    assert_eq!(c.state().as_deref(), Some("RUNNING"));
    assert_eq!(done(&mut c.exec("e", &["cat", "/proc/1/cmdline"])).out, "sleep\x0086000\0");
    c.kill();
    let deleted = done(&mut ctr(&["tasks", "delete", &c.id]));
    assert!(deleted.err.contains("137"), "{deleted:?}");
    assert_eq!(c.state(), None);
    // Again, with the same container.
    ok(&["tasks", "start", "-d", &c.id]);
    assert_eq!(c.state().as_deref(), Some("RUNNING"));
}

#[test]
fn commands_are_executed_in_it() {
    let c = Container::new();
    c.start(&[]);
    let result = done(&mut c.exec("b", &["--cwd=/usr", "--user=33", "sh", "-c", "pwd; id -u; echo err >&2; exit 9"]));
    assert_eq!((result.code, result.out.as_str(), result.err.as_str()), (9, "/usr\n33\n", "err\n"), "{result:?}");
    let result = fed(c.exec("c", &["cat"]), b"some input");
    assert_eq!((result.code, result.out.as_str()), (0, "some input"), "{result:?}");
    let missing = done(&mut c.exec("d", &["/no/such"]));
    assert!(missing.code != 0 && missing.err.contains("no such file or directory"), "{missing:?}");
    let mut terminal = Terminal::spawn(c.exec("t", &["-t", "sh"]));
    terminal.expect("# ");
    terminal.send("tty; exit 6\n");
    terminal.expect("/dev/pts/");
    assert_eq!(terminal.wait(), 6);
}

#[test]
fn it_is_paused_and_resumed() {
    let c = Container::new();
    c.start(&[]);
    ok(&["tasks", "pause", &c.id]);
    assert_eq!(c.state().as_deref(), Some("PAUSED"));
    ok(&["tasks", "resume", &c.id]);
    assert_eq!(c.state().as_deref(), Some("RUNNING"));
    assert_eq!(done(&mut c.exec("e", &["echo", "moves"])).out, "moves\n");
}

#[test]
fn its_processes_and_use_are_told() {
    let c = Container::new();
    c.start(&["--memory-limit", "67108864"]);
    let processes = ok(&["tasks", "ps", &c.id]);
    assert_eq!(processes.lines().count(), 2, "{processes}");
    let metrics = ok(&["tasks", "metrics", &c.id]);
    let line = metrics.lines().find(|l| l.starts_with("memory.limit_in_bytes")).unwrap_or_default();
    assert!(line.ends_with("67108864") || line.contains("67108864 "), "{metrics}");
    assert!(metrics.contains("pids.current"), "{metrics}");
}

#[test]
fn signals_reach_it() {
    let c = Container::new();
    c.start(&[]);
    let asleep = done(&mut c.exec("e", &["sh", "-c", "kill -0 1"]));
    assert_eq!(asleep.code, 0, "{asleep:?}");
    c.kill();
    let done = done(&mut ctr(&["tasks", "kill", &c.id]));
    assert!(done.code != 0, "a stopped task cannot be signalled: {done:?}");
}

#[test]
fn the_configuration_is_carried_out() {
    let file = Room::get().path("seen-by-ctr");
    std::fs::write(&file, "seen\n").unwrap();
    let mount = format!("type=bind,src={},dst=/seen,options=rbind:ro", file.display());
    let options = ["--env", "A=b", "--cwd", "/tmp", "--mount", &mount, "--read-only"];
    let c = Container::new();
    let script = "echo $A; pwd; cat /seen; touch /tmp/x 2>/dev/null || echo read-only; hostname";
    let text = c.output(&options, &["sh", "-c", script]);
    assert!(text.starts_with("b\n/tmp\nseen\nread-only"), "{text}");
    let filtered = Container::new();
    assert_eq!(filtered.output(&["--seccomp"], &["grep", "Seccomp:", "/proc/self/status"]), "Seccomp:\t2");
}

#[test]
fn a_namespace_is_joined_by_its_path() {
    let c = Container::new();
    let net = Room::get().inside("/proc/1/ns/net");
    let text = c.output(&["--with-ns", "network:/proc/1/ns/net"], &["readlink", "/proc/self/ns/net"]);
    assert_eq!(text, std::fs::read_link(net).unwrap().display().to_string());
}
