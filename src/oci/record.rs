//! The containers that exist: what is written down about each, and what can be seen of it.

use crate::runtime::cgroup::Cgroup;
use crate::runtime::hooks::{Hooks, State};
use crate::runtime::seccomp::{Agent, Filter};
use crate::sys::file::{Aside, Lock, LockMode, read_limited};
use crate::sys::process::{self, ProcessId};
use crate::sys::socket::Listener;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder of all containers of one caller.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// What is written down about a container. Fields that other runtimes have, too, have their names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// Number of its first process.
    pub init_process_pid: i32,
    /// When that started, in clock ticks after boot.
    pub init_process_start: u64,
    /// RFC 3339.
    pub created: String,
    /// Absolute path.
    pub bundle: PathBuf,
    /// Absolute path.
    pub rootfs: PathBuf,
    /// Its cgroup's directories by controller.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// The specification that it was made from, with what was changed since. In the place of a filter that is below is
    /// one that allows nothing.
    pub config: Spec,
    /// Its filter of system calls as it was compiled: for every further process, too.
    #[serde(default)]
    pub filter: Option<Filter>,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Set up; its program does not run yet.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are stopped for a while.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One container.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    /// What is written down.
    pub record: Record,
}

const RECORD: &str = "state.json";
const CGROUP: &str = "cgroup";
/// The name of the socket at which a created container waits.
pub const DOOR: &str = "door";
/// No honest record is larger, in bytes.
const LIMIT: u64 = 64 << 20;

impl Store {
    /// The store in a folder, which need not be there yet.
    pub fn at(root: &Path) -> Store {
        Store { root: root.to_owned() }
    }

    /// Claims a name: the folder of a new container.
    ///
    /// # Errors
    /// A bad name, or one that is taken.
    pub fn claim(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&self.root).with_context(|| self.root.display().to_string())?;
        let dir = self.root.join(id);
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => Ok(dir),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!("container with given ID already exists: {id}"),
            Err(e) => Err(e).with_context(|| format!("make {}", dir.display())),
        }
    }

    /// The folder of a name, whatever is in it; `None` if there is none.
    pub fn folder(&self, id: &str) -> Result<Option<PathBuf>> {
        check_id(id)?;
        let dir = self.root.join(id);
        Ok(dir.is_dir().then_some(dir))
    }

    /// Removes what is left of a container whose making was cut off: its cgroup with whoever is in it, its folder.
    pub fn clear(&self, dir: &Path) -> Result<()> {
        let note = read_limited(&dir.join(CGROUP), LIMIT).ok();
        if let Some(paths) = note.and_then(|note| serde_json::from_slice(&note).ok()) {
            let cgroup = Cgroup::from_paths(&paths);
            cgroup.kill_all()?;
            cgroup.remove()?;
        }
        std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
    }

    /// Finds a container.
    ///
    /// # Errors
    /// There is none of this name, or its record cannot be read.
    pub fn find(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let dir = self.root.join(id);
        let path = dir.join(RECORD);
        let text = match read_limited(&path, LIMIT) {
            Err(e) if e.kind() == ErrorKind::NotFound => bail!("container does not exist"),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        let record = std::str::from_utf8(&text).context("it is not text").and_then(|t| Ok(serde_json::from_str(t)?));
        let record = record.with_context(|| format!("understand {}", path.display()))?;
        Ok(Container { dir, record })
    }

    /// All containers, by name. One that is only being made, or whose record is damaged, is an error of its own.
    pub fn all(&self) -> Result<Vec<Result<Container>>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("list {}", self.root.display()))?,
        };
        let mut ids: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        ids.sort();
        let is_there = |id: &String| self.root.join(id).join(RECORD).exists();
        let found = ids.into_iter().filter(is_there).filter_map(|id| match self.find(&id) {
            // Deleted meanwhile.
            Err(_) if !is_there(&id) => None,
            result => Some(result.with_context(|| id)),
        });
        Ok(found.collect())
    }
}

/// Writes down which cgroup is about to be made for the container of this folder alone. Whoever is killed while he
/// writes has not made it yet.
pub fn note_cgroup(dir: &Path, cgroup: &Cgroup) -> Result<()> {
    let text = serde_json::to_vec(&cgroup.paths()).context("write the cgroup's paths")?;
    let path = dir.join(CGROUP);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Names become parts of paths.
fn check_id(id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.chars().all(fine) {
        bail!("invalid container ID format: {id:?}");
    }
    Ok(())
}

impl Container {
    /// A new container in a claimed folder. Nothing is written yet.
    pub fn new(dir: PathBuf, record: Record) -> Container {
        Container { dir, record }
    }

    /// Writes the record down.
    pub fn save(&self) -> Result<()> {
        let staged = self.stage()?;
        staged.publish().with_context(|| format!("write {}", self.dir.join(RECORD).display()))
    }

    /// Writes the record down for nobody to see yet.
    pub fn stage(&self) -> Result<Aside> {
        let path = self.dir.join(RECORD);
        let text = serde_json::to_vec(&self.record).context("write the state")?;
        Aside::holding(&path, &text).with_context(|| format!("write {}", path.display()))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> Cgroup {
        Cgroup::from_paths(&self.record.cgroup_paths)
    }

    /// The numbers of its processes, as the host counts: those of its cgroup; without one, those that share the first
    /// one's pid namespace, if that is its own.
    pub fn processes(&self) -> std::io::Result<Vec<i32>> {
        let cgroup = self.cgroup();
        if !cgroup.is_nowhere() {
            return cgroup.processes();
        }
        let init = self.init();
        match self.has_pid_namespace() {
            true => process::in_pid_namespace_of(init),
            false => Ok(Some(init.pid).filter(|_| process::is_alive(init)).into_iter().collect()),
        }
    }

    /// Whether it is known, but not whole: its first process may still be in the host's root.
    pub fn is_being_made(&self) -> Result<bool> {
        let lock = Lock::attempt_folder(&self.dir, LockMode::Shared).context("look whether somebody is making it")?;
        Ok(lock.is_none())
    }

    /// Its first process.
    pub fn init(&self) -> ProcessId {
        ProcessId { pid: self.record.init_process_pid, start: self.record.init_process_start }
    }

    /// A descriptor of its first process.
    pub fn pidfd(&self) -> Result<OwnedFd> {
        self.init().open().context("container not running")
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        if !process::is_alive(self.init()) {
            return Status::Stopped;
        }
        if self.cgroup().is_frozen() {
            return Status::Paused;
        }
        // A `start` that was killed may have left a door that nobody is behind. Who comes and says nothing is let go.
        match Listener::is_at(&self.dir, DOOR) {
            Ok(true) => Status::Created,
            _ => Status::Running,
        }
    }

    /// Its state as the specification describes it.
    pub fn state(&self, status: Status) -> State {
        let annotations = self.record.config.annotations().clone().unwrap_or_default();
        State {
            oci_version: self.record.config.version().clone(),
            id: self.record.id.clone(),
            status: status.word(),
            pid: if status == Status::Stopped { 0 } else { self.record.init_process_pid },
            bundle: self.record.bundle.clone(),
            annotations: annotations.into_iter().collect(),
        }
    }

    /// Whether all its processes end with the first one.
    pub fn has_pid_namespace(&self) -> bool {
        let namespaces = self.record.config.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        namespaces.into_iter().flatten().any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none())
    }

    /// Whether its cgroup was made for it alone: who is in another's cgroup does not end with this container.
    pub fn owns_cgroup(&self) -> bool {
        self.dir.join(CGROUP).exists()
    }

    /// Who is asked about system calls that its filter does not decide.
    pub fn agent(&self) -> Result<Option<Agent>> {
        if let Some(filter) = &self.record.filter {
            return Ok(filter.agent().cloned());
        }
        // As it was written down before filters were.
        let seccomp = self.record.config.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        Ok(seccomp.map(Agent::from_spec).transpose()?.flatten())
    }

    /// Its hooks.
    pub fn hooks(&self) -> Result<Hooks> {
        Hooks::from_spec(&self.record.config)
    }

    /// Whose containers these are, by name.
    pub fn owner(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let Ok(uid) = std::fs::metadata(&self.dir).map(|m| m.uid()) else { return String::new() };
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let of = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            (fields.nth(1)? == uid.to_string()).then_some(name)
        };
        users.lines().find_map(of).unwrap_or_else(|| format!("#{uid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn names_stay_inside_their_folder() {
        for good in ["a", "0123abc", "_x", "a.b-c+d"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../a", "a b", "ä", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
