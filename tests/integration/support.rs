//! A store for one test, commands on it, a terminal for it, and the check that nothing is left afterwards.

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The image that every store starts with.
pub const IMAGE: &str = "busybox";

/// What a command printed and returned.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub raw: Vec<u8>,
}

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("MINIRUN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_minirun").into(), PathBuf::from)
}

/// A file of the fixtures; `make fixtures` makes them.
pub fn fixture(name: &str) -> PathBuf {
    let dir = std::env::var_os("MINIRUN_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fixtures"), PathBuf::from);
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: run `make fixtures`", path.display());
    path
}

/// A store of its own, with a scratch directory beside it.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// An empty store.
    pub fn empty() -> Store {
        Store::below(std::env::var_os("MINIRUN_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from))
    }

    /// An empty store in memory, where hundreds of layers need no time to reach a disk.
    pub fn in_memory() -> Store {
        Store::below("/dev/shm".into())
    }

    fn below(base: PathBuf) -> Store {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "the integration tests need root");
        let name = format!("mrt-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = base.join(name);
        std::fs::create_dir_all(dir.join("files")).unwrap();
        Store { dir }
    }

    /// A store with the busybox image in it.
    pub fn new() -> Store {
        let store = Store::empty();
        store.ok(&["import", fixture("busybox.tar").to_str().unwrap(), IMAGE]);
        store
    }

    /// The store's root directory.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join("files").join(name)
    }

    /// A path in the scratch directory as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file in the scratch directory and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    /// A command of the engine on this store, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--root").arg(self.root()).arg("--state").arg(self.dir.join("state")).args(args);
        // The host's ways to show things are not the tests'.
        command.env("TZ", "UTC").env("DOCKER_CONFIG", self.path("docker")).stdin(Stdio::null());
        command
    }

    /// Runs a command of the engine to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        done(&mut self.command(args))
    }

    /// Runs a command of the engine with this standard input.
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        fed(self.command(args), input)
    }

    /// Runs a command that must succeed, and returns its standard output without the last line break.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "minirun {args:?} failed: {done:?}");
        done.out.strip_suffix('\n').unwrap_or(&done.out).to_owned()
    }

    /// Runs a command that must fail with this status, and returns its standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, code, "minirun {args:?} should fail with {code}: {done:?}");
        assert!(!done.err.trim().is_empty(), "minirun {args:?} failed without a word");
        done.err
    }

    /// One field of a container or image, by a template.
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "-f", template, name])
    }

    /// Starts a command of the engine on a new pseudo-terminal.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::spawn(self.command(args))
    }

    /// Waits until no process of the store is left. Who has his answer does not wait until the trash is emptied.
    pub fn rests(&self) {
        eventually("all processes of the store to end", || self.processes().is_empty());
    }

    /// The pids of all processes on the host that belong to this store: clients, supervisors.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let needle = self.dir.to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&cmdline).replace('\0', " ");
            if text.contains(needle) && pid != std::process::id() as i32 {
                found.push((pid, text));
            }
        }
        found
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let ids = std::fs::read_dir(self.root().join("containers"));
        let ids: Vec<String> =
            ids.into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        for id in &ids {
            let _ = self.run(&["rm", "-f", "-v", id]);
        }
        // The default network stays until somebody takes it away; users' networks are the test's to remove.
        if self.dir.join("state").join(format!("network-{}", minirun::network::tag(&self.root()))).exists() {
            let _ = self.run(&["network", "prune", "-f"]);
        }
        // A failed test may leave anything; only a test that passed must have left nothing.
        if !std::thread::panicking() {
            self.check_nothing_left(&ids);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Store {
    fn check_nothing_left(&self, ids: &[String]) {
        self.rests();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.to_str().unwrap()), "a mount is left on the host:\n{mounts}");
        let tag = minirun::network::tag(&self.root());
        assert!(!Path::new("/sys/class/net").join(&tag).exists(), "the bridge {tag} is left");
        if let Ok(mut netlink) = minirun::sys::nftables::open() {
            let left = minirun::sys::nftables::has_table(&mut netlink, &tag).unwrap_or(false);
            assert!(!left, "the table of packet filters {tag} is left");
        }
        for id in ids {
            assert!(cgroups_of(id).is_empty(), "left: {:?}", cgroups_of(id));
        }
        for sub in ["tmp", "trash", "containers"] {
            let dir = self.root().join(sub);
            if let Ok(entries) = std::fs::read_dir(&dir) {
                let names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
                assert!(names.is_empty(), "{} still holds {names:?}", dir.display());
            }
        }
        if let Ok(entries) = std::fs::read_dir(self.dir.join("state")) {
            let names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
            assert!(names.is_empty(), "the state directory still holds {names:?}");
        }
    }
}

/// The cgroup directories of a container, in whatever hierarchies the host has.
pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let mut candidates = vec![base.join(format!("minirun-{id}"))];
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        candidates.push(entry.path().join(format!("minirun-{id}")));
    }
    candidates.into_iter().filter(|c| c.exists()).collect()
}

/// Runs any command to its end.
pub fn done(command: &mut Command) -> Done {
    from_output(command.output().unwrap())
}

/// Runs any command to its end with this standard input.
pub fn fed(mut command: Command, input: &[u8]) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    from_output(output)
}

pub fn from_output(output: std::process::Output) -> Done {
    use std::os::unix::process::ExitStatusExt;
    Done {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        raw: output.stdout,
    }
}

/// Waits until something is true. Emulated machines are slow, so the limit is generous; it is no measure of speed.
pub fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !test() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command on a pseudo-terminal, as a user would have it.
pub struct Terminal {
    pub child: Child,
    pub master: OwnedFd,
    slave: OwnedFd,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts a command on a new pseudo-terminal.
    pub fn spawn(mut command: Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Terminal { child, master, slave, seen: Vec::new() }
    }

    /// Types.
    pub fn send(&mut self, keys: impl AsRef<[u8]>) {
        let mut keys = keys.as_ref();
        while !keys.is_empty() {
            match rustix::io::write(&self.master, keys) {
                Ok(n) => keys = &keys[n..],
                Err(rustix::io::Errno::AGAIN) => self.read(),
                Err(e) => panic!("cannot type: {e}"),
            }
        }
    }

    /// Waits until a text has appeared since the last one that was waited for, and returns all before and with it.
    pub fn expect(&mut self, text: &str) -> String {
        let mut found = None;
        let until = Instant::now() + Duration::from_secs(60);
        while found.is_none() {
            self.read();
            found = self.seen.windows(text.len()).position(|w| w == text.as_bytes());
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            assert!(found.is_some() || Instant::now() < until, "no {text:?} on the terminal, but {seen:?}");
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let rest = self.seen.split_off(found.unwrap() + text.len());
        let before = std::mem::replace(&mut self.seen, rest);
        String::from_utf8_lossy(&before).into_owned()
    }

    /// What has appeared and was not waited for.
    pub fn output(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Changes the window size; tell the client with a SIGWINCH as a terminal emulator's kernel would.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
        signal(self.child.id() as i32, libc::SIGWINCH);
    }

    /// Whether the terminal is in raw mode.
    pub fn is_raw(&self) -> bool {
        let mode = rustix::termios::tcgetattr(self.slave.as_fd()).unwrap();
        !mode.local_modes.contains(rustix::termios::LocalModes::ICANON)
    }

    /// Waits for the end of the command.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        eventually("the command on the terminal to end", || {
            self.read();
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(n) = rustix::io::read(&self.master, &mut buffer) {
            if n == 0 {
                return;
            }
            self.seen.extend(&buffer[..n]);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of the test's own.
pub fn signal(pid: i32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

impl Store {
    /// An image of the busybox tree whose configuration these Dockerfile instructions make.
    pub fn image(&self, name: &str, changes: &[&str]) {
        let mut args = vec!["import"];
        args.extend(changes.iter().flat_map(|c| ["-c", c]));
        let tar = fixture("busybox.tar");
        args.extend([tar.to_str().unwrap(), name]);
        self.ok(&args);
    }

    /// An image of the busybox tree after a shell script of the host's has changed it; its current directory is the
    /// tree.
    pub fn changed_image(&self, name: &str, script: &str) {
        let tree = self.path(&format!("tree-{}", name.replace('/', "-")));
        std::fs::create_dir(&tree).unwrap();
        let script = format!("set -e; tar -xf \"$1\"; {script}\ntar --xattrs -cf ../changed.tar .");
        let mut command = Command::new("sh");
        command.current_dir(&tree).args(["-c", &script, "sh", fixture("busybox.tar").to_str().unwrap()]);
        let made = done(&mut command);
        assert_eq!(made.code, 0, "{made:?}");
        self.ok(&["import", &self.text("changed.tar"), name]);
        std::fs::remove_dir_all(&tree).unwrap();
    }

    /// An image of what a shell script has left in a container of `base`.
    pub fn committed_image(&self, base: &str, name: &str, script: &str) {
        self.ok(&["run", "--name", "to-commit", base, "sh", "-ec", script]);
        self.ok(&["commit", "to-commit", name]);
        self.ok(&["rm", "-v", "to-commit"]);
    }

    /// A command of the engine inside a shell script of the host's, which calls it as `"$0" "$@"`.
    pub fn through_shell(&self, script: &str, args: &[&str]) -> Command {
        let inner = self.command(args);
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
        command
    }
}

/// What the probe says in lines of `key=value`.
pub fn facts(text: &str) -> std::collections::BTreeMap<String, String> {
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// All that a file holds.
pub fn slurp(path: impl AsRef<Path>) -> Vec<u8> {
    let mut out = Vec::new();
    File::open(path.as_ref()).unwrap().read_to_end(&mut out).unwrap();
    out
}

impl Store {
    /// Starts a command of the engine as the leader of a session whose terminal it is on, as a login shell's `exec`
    /// would: it hears of the terminal's end.
    pub fn session_terminal(&self, args: &[&str]) -> Terminal {
        let inner = self.command(args);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(inner.get_program()).args(inner.get_args());
        Terminal::spawn(command)
    }

    /// The supervisor of a container that is up.
    pub fn supervisor(&self, name: &str) -> i32 {
        let file = self.dir.join("state").join(self.inspect(name, "{{.Id}}")).join("run.json");
        let run: serde_json::Value = serde_json::from_slice(&slurp(file)).unwrap();
        run["supervisor"]["pid"].as_i64().unwrap() as i32
    }

    /// Starts a command of the engine with all its streams captured; the caller ends or awaits it.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Terminal {
    /// Closes the terminal, as its window would.
    pub fn hang_up(&mut self) {
        let null = || File::open("/dev/null").unwrap().into();
        self.slave = null();
        self.master = null();
    }
}

impl Store {
    /// An image of the busybox tree with this `config` section, which only archives can bring in.
    pub fn loaded_image(&self, name: &str, config: &str) {
        self.ok(&["load", "-i", &self.archive(name, config)]);
    }

    /// An archive as `docker save` writes it, of the busybox tree with this `config` section.
    pub fn archive(&self, name: &str, config: &str) -> String {
        let dir = self.path(&format!("archive-{name}"));
        std::fs::create_dir(&dir).unwrap();
        let script = "set -e; cp \"$1\" layer.tar; diff=$(sha256sum < layer.tar | cut -d' ' -f1)
            echo '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":'\"$3\"',' > config.json
            echo '\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:'$diff'\"]}}' >> config.json
            echo '[{\"Config\":\"config.json\",\"RepoTags\":[\"'\"$2\"':latest\"],\"Layers\":[\"layer.tar\"]}]' > manifest.json
            tar -cf ../\"$2\".tar manifest.json config.json layer.tar";
        let tar = fixture("busybox.tar");
        let mut command = Command::new("bash");
        command.current_dir(&dir).args(["-c", script, "sh", tar.to_str().unwrap(), name, config]);
        let made = done(&mut command);
        assert_eq!(made.code, 0, "{made:?}");
        std::fs::remove_dir_all(&dir).unwrap();
        self.text(&format!("{name}.tar"))
    }
}

impl Store {
    /// A container's full id, without looking at its state.
    pub fn inspect_id(&self, name: &str) -> String {
        let mut records = std::fs::read_dir(self.root().join("containers")).unwrap().flatten().filter_map(|folder| {
            let text = std::fs::read(folder.path().join("container.json")).ok()?;
            serde_json::from_slice::<serde_json::Value>(&text).ok()
        });
        let record = records.find(|record| record["name"] == name).unwrap();
        record["id"].as_str().unwrap().to_owned()
    }
}
