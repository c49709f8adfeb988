//! The room that engines live in, an engine, and what one test does with it.

use crate::base::{Done, Terminal, done, eventually, fed, fixture, program};
use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The image of the busybox tree that every engine has.
pub const IMAGE: &str = "busybox";

/// Namespaces and cgroups that end with this process, however it ends: the keeper waits for the end of its input.
pub struct Room {
    pub dir: PathBuf,
    pid: u32,
    _keeper: Child,
}

impl Room {
    /// The one room of this process.
    pub fn get() -> &'static Room {
        static ROOM: OnceLock<Room> = OnceLock::new();
        ROOM.get_or_init(Room::open)
    }

    fn open() -> Room {
        assert!(rustix::process::geteuid().is_root(), "the tests with engines need root");
        let dir = std::env::temp_dir().join(format!("mre-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut keeper = Command::new("bash");
        keeper.arg(script()).arg("open").arg(&dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        // An interrupt from the keyboard is for this process alone.
        let mut keeper = keeper.process_group(0).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().parse().expect("the room does not open; its messages are above");
        for name in ["minirun-oci", "runc"] {
            std::fs::create_dir_all(dir.join("bin")).unwrap();
            std::os::unix::fs::symlink(chosen_runtime(), dir.join("bin").join(name)).unwrap();
        }
        Room { dir, pid, _keeper: keeper }
    }

    /// A path in the room's directory, which is the same inside and outside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A path in the room's directory as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The runtime under test.
    pub fn runtime(&self) -> String {
        self.text("bin/minirun-oci")
    }

    /// The words before a command that make it run in the room.
    pub fn words(&self) -> Vec<OsString> {
        let pid = self.pid.to_string();
        vec!["bash".into(), script().into(), "in".into(), self.dir.clone().into(), pid.into()]
    }

    /// A command that runs in the room, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let room = self.words();
        let mut command = Command::new(&room[0]);
        command.args(&room[1..]).args(words).stdin(Stdio::null());
        command
    }

    /// Starts a program in the room that lasts as long as the room, and waits until `probe` succeeds.
    pub fn start(&self, program: &str, args: &[&str], probe: impl FnMut() -> Command) {
        self.start_as(program, program, args, probe);
    }

    /// The same for a program that has another name here, because the room has another one of it.
    pub fn start_as(&self, name: &str, program: &str, args: &[&str], mut probe: impl FnMut() -> Command) {
        let log = self.path(&format!("{name}.log"));
        let mut command = self.command(&[&[program], args].concat());
        // Debian's engines look for `runc` among the programs.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.text("bin")));
        let file = std::fs::File::create(&log).unwrap();
        let mut daemon = command.stdout(file.try_clone().unwrap()).stderr(file).process_group(0).spawn().unwrap();
        eventually(&format!("{name} to answer"), || {
            let ended = daemon.try_wait().unwrap();
            assert!(ended.is_none(), "{name} ended: {}", std::fs::read_to_string(&log).unwrap());
            done(&mut probe()).code == 0
        });
    }

    /// The room's root directory as it can be reached from outside.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// A container's directories in all cgroup hierarchies.
    pub fn cgroups(&self, id: &str) -> Vec<PathBuf> {
        let name = self.dir.file_name().unwrap();
        let hierarchies = entries(Path::new("/sys/fs/cgroup"));
        hierarchies.iter().flat_map(|h| named(&h.join(name), id, 4)).collect()
    }

    /// What is left in the room of a container that was removed.
    pub fn traces(&self, id: &str) -> Vec<String> {
        let mut left: Vec<String> = self.cgroups(id).iter().map(|p| p.display().to_string()).collect();
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).unwrap();
        left.extend(mounts.lines().filter(|l| l.contains(id)).map(str::to_owned));
        for place in
            [self.inside("/run"), self.path("docker-exec"), self.path("containerd-state"), self.path("cri-state")]
        {
            left.extend(named(&place, id, 6).iter().map(|p| p.display().to_string()));
        }
        for process in entries(&self.inside("/proc")) {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(id) {
                left.push(line);
            }
        }
        left
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/room.sh")
}

fn chosen_runtime() -> PathBuf {
    std::env::var_os("MINIRUN_ENGINE_RUNTIME").map_or_else(program, PathBuf::from)
}

/// What the runtime under test calls itself in its messages.
pub fn runtime_name() -> &'static str {
    if chosen_runtime().ends_with("runc") { "runc" } else { "minirun-oci" }
}

/// Whether the runtime under test is runc, which gives up where the host lacks a capability that is asked for.
pub fn refuses_missing_capabilities() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap();
    let has_all = u64::from_str_radix(bounding.trim(), 16).unwrap() == (1 << 41) - 1;
    !has_all && runtime_name() == "runc"
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// The files whose name contains this one.
fn named(dir: &Path, part: &str, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(dir) {
        if path.file_name().unwrap().to_string_lossy().contains(part) {
            found.push(path);
        } else if depth > 0 && path.is_dir() && !path.is_symlink() {
            found.extend(named(&path, part, depth - 1));
        }
    }
    found
}

/// Docker or Podman, ready to run [`IMAGE`].
pub struct Engine {
    pub name: &'static str,
    pub words: Vec<OsString>,
}

impl Engine {
    /// A command of the engine, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(args).stdin(Stdio::null());
        command
    }

    /// Brings the busybox tree in.
    pub fn import(&self) {
        self.import_from(&fixture("busybox.tar"));
    }

    /// Brings it in from a copy of its archive.
    pub fn import_from(&self, archive: &Path) {
        let done = done(&mut self.command(&["import", archive.to_str().unwrap(), IMAGE]));
        assert_eq!(done.code, 0, "{} cannot import: {done:?}", self.name);
    }
}

/// The containers of one test. Dropping them checks that nothing of them is left.
pub struct Test {
    pub engine: &'static Engine,
    prefix: String,
    ids: RefCell<Vec<String>>,
}

impl Test {
    /// No containers yet.
    pub fn new(engine: &'static Engine) -> Test {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}-", NUMBER.fetch_add(1, Ordering::Relaxed));
        let files = Room::get().path(&format!("{prefix}files"));
        std::fs::create_dir(&files).unwrap();
        // Some engines are an ordinary user's.
        std::fs::set_permissions(&files, PermissionsExt::from_mode(0o777)).unwrap();
        Test { engine, prefix, ids: RefCell::default() }
    }

    /// The name of a container, image or volume of this test's own.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A path in a directory of this test's own.
    pub fn path(&self, name: &str) -> String {
        Room::get().text(&format!("{}files/{name}", self.prefix))
    }

    /// Runs a command of the engine.
    pub fn run(&self, args: &[&str]) -> Done {
        done(&mut self.engine.command(args))
    }

    /// Runs a command that must succeed, and returns its output without the last line break.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{} {args:?} failed: {done:?}", self.engine.name);
        done.out.trim_end().to_owned()
    }

    /// The arguments of `run` for a container that this test knows: options, command.
    pub fn arguments<'a>(&self, name: &'a str, options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--name", name], options, &[IMAGE], command].concat()
    }

    /// `run -d` with options and a command; returns the container's name.
    pub fn start(&self, name: &str, options: &[&str], command: &[&str]) -> String {
        let name = self.name(name);
        let id = self.ok(&self.arguments(&name, &[&["-d"], options].concat(), command));
        self.ids.borrow_mut().push(id);
        name
    }

    /// `run --rm` with options and a command.
    pub fn once(&self, options: &[&str], command: &[&str]) -> Done {
        self.once_with(options, command, b"")
    }

    /// `run --rm` with this standard input.
    pub fn once_with(&self, options: &[&str], command: &[&str], input: &[u8]) -> Done {
        let number = self.ids.borrow().len();
        let file = self.path(&format!("cid-{number}"));
        let args = [&["run", "--rm", "--cidfile", &file], options, &[IMAGE], command].concat();
        let done = fed(self.engine.command(&args), input);
        self.ids.borrow_mut().extend(std::fs::read_to_string(&file).ok().map(|id| id.trim().to_owned()));
        done
    }

    /// The output of `run --rm`, which must succeed.
    pub fn output(&self, options: &[&str], command: &[&str]) -> String {
        let done = self.once(options, command);
        assert_eq!(done.code, 0, "{} run {options:?} {command:?}: {done:?}", self.engine.name);
        done.out.trim_end().to_owned()
    }

    /// Starts a command of the engine on a terminal of its own session, whose news reach all of its processes.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        let inner = self.engine.command(args);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(inner.get_program()).args(inner.get_args());
        Terminal::spawn(command)
    }

    /// A field of a container.
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "--type", "container", "-f", template, name])
    }

    /// Waits until a container is in this state.
    pub fn reaches(&self, name: &str, state: &str) {
        eventually(&format!("{name} to be {state}"), || self.inspect(name, "{{.State.Status}}") == state);
    }

    /// Waits until the container has said this.
    pub fn says(&self, name: &str, text: &str) {
        eventually(&format!("{name} to say {text}"), || self.ok(&["logs", name]).contains(text));
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let ours = format!("name=^/?{}", self.prefix);
        let list = self.run(&["ps", "-aq", "--no-trunc", "--filter", &ours]).out;
        let mut ids = self.ids.take();
        for id in list.split_whitespace() {
            let _ = self.run(&["rm", "-f", "-v", id]);
            ids.push(id.to_owned());
        }
        if !std::thread::panicking() {
            assert_eq!(self.run(&["ps", "-aq", "--filter", &ours]).out, "");
            for id in ids {
                eventually(&format!("{:?} to go", Room::get().traces(&id)), || Room::get().traces(&id).is_empty());
            }
        }
    }
}
