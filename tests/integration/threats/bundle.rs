//! A bundle of the busybox tree, the OCI face on it, and the check that nothing is left afterwards.

use crate::support::{Done, Store, done, eventually, facts, fixture, program};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The container that every test of this kind has.
pub const ID: &str = "threat";

/// A bundle in the scratch folder of a store.
pub struct Bundle {
    pub store: Store,
    /// What `config.json` will say.
    pub config: Value,
    runtime: PathBuf,
    name: String,
}

impl Bundle {
    /// The busybox tree with the configuration that `spec` writes, without a terminal.
    pub fn new() -> Bundle {
        let store = Store::empty();
        let runtime = store.path("minirun-oci");
        std::os::unix::fs::symlink(program(), &runtime).unwrap();
        Bundle::with_program(store, runtime)
    }

    /// As [`Bundle::new`], run by a copy of the program that this test alone has.
    pub fn with_own_program() -> Bundle {
        let store = Store::empty();
        let runtime = store.path("minirun-oci");
        std::fs::copy(program(), &runtime).unwrap();
        Bundle::with_program(store, runtime)
    }

    fn with_program(store: Store, runtime: PathBuf) -> Bundle {
        // Cgroups are the host's, so containers of tests that run at once need names of their own.
        let name = format!("{ID}-{}", store.root().parent().unwrap().file_name().unwrap().to_str().unwrap());
        let mut bundle = Bundle { store, config: Value::Null, runtime, name };
        std::fs::create_dir_all(bundle.rootfs()).unwrap();
        let mut tar = Command::new("tar");
        let unpacked = done(tar.arg("-xf").arg(fixture("busybox.tar")).arg("-C").arg(bundle.rootfs()));
        assert_eq!(unpacked.code, 0, "{unpacked:?}");
        let written = done(&mut bundle.oci(&["spec", "-b", bundle.dir().to_str().unwrap()]));
        assert_eq!(written.code, 0, "{written:?}");
        bundle.config = serde_json::from_slice(&std::fs::read(bundle.dir().join("config.json")).unwrap()).unwrap();
        bundle.config["process"]["terminal"] = json!(false);
        bundle.config["root"]["readonly"] = json!(false);
        bundle
    }

    pub fn dir(&self) -> PathBuf {
        self.store.path("bundle")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("rootfs")
    }

    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    pub fn id(&self) -> &str {
        &self.name
    }

    /// The folder of the containers' state.
    pub fn state_root(&self) -> PathBuf {
        self.store.path("state")
    }

    /// A command of the OCI face.
    pub fn oci(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.state_root()).args(args).stdin(Stdio::null());
        command
    }

    /// A command of the OCI face of another copy of the program, which so does not keep the test's own busy.
    pub fn oci_by_other(&self, args: &[&str]) -> Command {
        let other = self.store.path("other");
        if !other.exists() {
            std::fs::create_dir(&other).unwrap();
            std::os::unix::fs::symlink(program(), other.join("minirun-oci")).unwrap();
        }
        let mut command = Command::new(other.join("minirun-oci"));
        command.args(self.oci(args).get_args()).stdin(Stdio::null());
        command
    }

    /// A command of the OCI face inside a shell script of the host's, which calls it as `"$0" "$@"`.
    pub fn through_shell(&self, script: &str, args: &[&str]) -> Command {
        let inner = self.oci(args);
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
        command
    }

    /// Changes the rootfs by a shell script whose current directory it is.
    pub fn change(&self, script: &str) {
        let changed = done(Command::new("sh").current_dir(self.rootfs()).args(["-ec", script]));
        assert_eq!(changed.code, 0, "{script}: {changed:?}");
    }

    pub fn set_args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    pub fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// A bind mount of a folder of the host's at `destination`.
    pub fn add_bind(&mut self, source: &Path, destination: &str) {
        self.add_mount(json!({
            "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rw"]
        }));
    }

    pub fn save(&self) {
        let text = serde_json::to_vec_pretty(&self.config).unwrap();
        std::fs::write(self.dir().join("config.json"), text).unwrap();
    }

    /// `run` with this command, to its end.
    pub fn run(&mut self, args: &[&str]) -> Done {
        self.run_through("exec \"$0\" \"$@\"", args)
    }

    /// `run` with this command inside a shell script of the host's.
    pub fn run_through(&mut self, script: &str, args: &[&str]) -> Done {
        self.set_args(args);
        self.save();
        let dir = self.dir();
        done(&mut self.through_shell(script, &["run", "-b", dir.to_str().unwrap(), self.id()]))
    }

    /// `create` and `start` with this command inside a shell script of the host's.
    pub fn start_through(&mut self, script: &str, args: &[&str]) {
        self.set_args(args);
        self.save();
        let dir = self.dir();
        for args in [&["create", "-b", dir.to_str().unwrap(), self.id()][..], &["start", self.id()]] {
            let result = self.quietly(script, args);
            assert_eq!(result, 0, "{args:?}");
        }
    }

    /// A container that sleeps.
    pub fn start_sleeping(&mut self) {
        self.start_through("exec \"$0\" \"$@\"", &["sleep", "1000"]);
    }

    /// Runs a command whose streams a container may keep open: nothing of them is waited for.
    pub fn quietly(&self, script: &str, args: &[&str]) -> i32 {
        let mut command = self.through_shell(script, args);
        command.stdout(Stdio::null()).status().unwrap().code().unwrap_or(-1)
    }

    /// `exec` of this command.
    pub fn exec(&self, options: &[&str], args: &[&str]) -> Done {
        done(&mut self.oci(&[&["exec"], options, &[self.id()], args].concat()))
    }

    /// What the probe says of itself, by `run`, and by `exec` in a container that sleeps.
    pub fn probe_both(&mut self, script: &str) -> [BTreeMap<String, String>; 2] {
        let run = self.run_through(script, &["probe", "all"]);
        assert_eq!(run.code, 0, "{run:?}");
        self.start_sleeping();
        let exec = done(&mut self.through_shell(script, &["exec", self.id(), "probe", "all"]));
        assert_eq!(exec.code, 0, "{exec:?}");
        self.delete();
        [facts(&run.out), facts(&exec.out)]
    }

    /// The number of the container's first process.
    pub fn pid(&self) -> i32 {
        let state = done(&mut self.oci(&["state", self.id()]));
        let state: Value = serde_json::from_str(&state.out).unwrap();
        state["pid"].as_i64().unwrap() as i32
    }

    pub fn delete(&self) {
        let deleted = done(&mut self.oci(&["delete", "--force", self.id()]));
        assert_eq!(deleted.code, 0, "{deleted:?}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = done(&mut self.oci(&["delete", "--force", self.id()]));
        if std::thread::panicking() {
            return;
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir().to_str().unwrap()), "a mount is left on the host:\n{mounts}");
        eventually("the cgroups to be gone", || cgroups(self.id()).is_empty());
        let left: Vec<_> = std::fs::read_dir(self.state_root()).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "the state still holds {left:?}");
    }
}

/// The cgroup directories of this name at the roots of the host's hierarchies.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(base).into_iter().flatten().flatten().map(|e| e.path());
    hierarchies.chain([base.to_owned()]).map(|h| h.join(name)).filter(|d| d.exists()).collect()
}
