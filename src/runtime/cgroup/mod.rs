//! Control groups: one interface over version 1 hierarchies (also hybrid hosts) and version 2.
//!
//! A container has a directory in each hierarchy that it joins. Joining is the slow part of a start where it is done
//! by writing to `cgroup.procs`; so a child is cloned into the version 2 directory, and puts itself into the version 1
//! ones, while it has one thread, through their `tasks` files.

mod events;
mod files;
mod host;
pub mod limits;
mod rules;
mod signals;
pub mod stats;
mod v1;
mod v2;

pub use events::{MemoryEvent, OomWatch};
pub use host::{Hierarchies, Version, controllers, version};
pub use limits::Limits;
pub use stats::Stats;

use crate::sys::file::read_kernel_text;
use anyhow::{Context, Result, bail, ensure};
use files::{explain, remove_directory, value_of};
use host::{Hierarchy, MOUNT, UNIFIED};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a child needs to put itself into a cgroup, opened by its parent.
#[derive(Debug)]
pub struct Entrance {
    /// The version 2 directory to clone into.
    into: Option<File>,
    /// The `tasks` file of each hierarchy: a single-threaded process that writes 0 there takes no global lock.
    tasks: Vec<File>,
}

impl Entrance {
    /// The directory that clone3 puts the child into, where that is how it works.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.into.as_ref().map(AsFd::as_fd)
    }

    /// Called by the child: joins whatever clone3 has not joined.
    pub fn enter(&self) -> io::Result<()> {
        for file in &self.tasks {
            rustix::io::write(file, b"0")?;
        }
        Ok(())
    }
}

/// The directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    hierarchy: Hierarchy,
    dir: PathBuf,
    /// Joined only by those who have a limit there.
    on_demand: bool,
}

/// One container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    version: Version,
    which: Hierarchies,
    members: Vec<Member>,
}

impl Cgroup {
    /// The cgroup at a path, in the hierarchies that a container needs. Nothing is made.
    ///
    /// # Errors
    /// See [`Cgroup::in_hierarchies`].
    pub fn at(path: &Path) -> Result<Cgroup> {
        Cgroup::in_hierarchies(path, Hierarchies::Needed)
    }

    /// The cgroup at a path as `cgroupsPath` of a specification gives it: an absolute one begins at the roots of the
    /// mounted hierarchies, a relative one at the caller's own cgroup. Neither leads above its start by `..`. Nothing
    /// is made.
    ///
    /// # Errors
    /// A path that ends where it starts; a host without cgroups; a caller whose own cgroup cannot be seen.
    pub fn in_hierarchies(path: &Path, which: Hierarchies) -> Result<Cgroup> {
        let below = host::clean(path);
        if below.as_os_str().is_empty() {
            bail!("{:?} is not a path for a container's cgroup", path.display());
        }
        let version = version();
        let own = match path.is_absolute() {
            true => None,
            false => Some(read_kernel_text("/proc/self/cgroup").context("read the own cgroup")?),
        };
        let mut members = Vec::new();
        for hierarchy in host::hierarchies(version, which)? {
            let start = match &own {
                None => hierarchy.mount.clone(),
                Some(own) => start_of_relative(&hierarchy, own, version)?,
            };
            members.push(Member::new(hierarchy, start.join(&below), which));
        }
        Ok(Cgroup { version, which, members })
    }

    /// The cgroups that a process is in.
    ///
    /// # Errors
    /// There is no such process, or it is where this process cannot see.
    pub fn from_pid(pid: i32, which: Hierarchies) -> Result<Cgroup> {
        let file = format!("/proc/{pid}/cgroup");
        let text = read_kernel_text(&file).with_context(|| format!("read {file}"))?;
        let version = version();
        let mut members = Vec::new();
        for hierarchy in host::hierarchies(version, which)? {
            if let Some(path) = hierarchy.names.first().and_then(|name| host::membership(&text, name)) {
                let dir = host::directory(&hierarchy, &path)?;
                members.push(Member::new(hierarchy, dir, which));
            }
        }
        Ok(Cgroup { version, which, members })
    }

    /// The cgroup whose [`Cgroup::paths`] were recorded.
    pub fn from_paths(paths: &BTreeMap<String, PathBuf>) -> Cgroup {
        let mut members: Vec<Member> = Vec::new();
        for (name, dir) in paths {
            match members.iter_mut().find(|m| m.dir == *dir) {
                Some(member) => member.hierarchy.names.push(name.clone()),
                None => members.push(Member {
                    hierarchy: Hierarchy { names: vec![name.clone()], mount: MOUNT.into(), root: "/".into() },
                    dir: dir.clone(),
                    on_demand: false,
                }),
            }
        }
        Cgroup { version: version(), which: Hierarchies::All, members }
    }

    /// The cgroup of a container that stays in its starter's.
    pub fn nowhere() -> Cgroup {
        Cgroup::from_paths(&BTreeMap::new())
    }

    /// Whether it is one.
    pub fn is_nowhere(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the caller may make it where it is not there yet.
    pub fn can_be_made(&self) -> bool {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        self.members.iter().filter(|m| !m.on_demand).all(|m| {
            let there = m.dir.ancestors().find(|dir| dir.exists());
            there.is_some_and(|dir| accessat(CWD, dir, Access::WRITE_OK, AtFlags::EACCESS).is_ok())
        })
    }

    /// Its directories by controller, as other runtimes record them: on version 2 one without a name.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let there = self.members.iter().filter(|m| !m.on_demand || m.dir.exists());
        there.flat_map(|m| m.hierarchy.names.iter().map(|name| (name.clone(), m.dir.clone()))).collect()
    }

    /// Which kind of cgroups it is in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its directory in each hierarchy that it is in, with the name of the hierarchy's directory (none on version 2).
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        let named = |m: &Member| match self.version {
            Version::V2 => Some((String::new(), m.dir.clone())),
            _ => Some((m.hierarchy.mount.file_name()?.to_str()?.to_owned(), m.dir.clone())),
        };
        self.members.iter().filter_map(named).filter(|(_, dir)| dir.exists()).collect()
    }

    /// Where the version 2 hierarchy is mounted.
    ///
    /// # Errors
    /// The host has none.
    pub fn mount(&self) -> Result<&Path> {
        match self.version {
            Version::V2 => Ok(Path::new(MOUNT)),
            _ => Ok(&self.unified()?.hierarchy.mount),
        }
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.listing().is_some()
    }

    /// Whether processes can be in it: on version 2 not any more when it hands controllers down to cgroups below it.
    pub fn takes_processes(&self) -> bool {
        self.version != Version::V2
            || self.members.iter().all(|m| files::read(&m.dir, "cgroup.subtree_control").is_ok_and(|c| c.is_empty()))
    }

    /// Makes the cgroup with its limits. One that is left from a killed process is used again if it is empty.
    ///
    /// # Errors
    /// One with processes in it, a frozen one, a limit that cannot be set.
    pub fn create(&self, limits: &Limits) -> Result<Entrance> {
        let existed = self.exists();
        if existed && let count @ 1.. = self.processes().context("list the processes")?.len() {
            bail!("container's cgroup is not empty: {count} process(es) found");
        }
        self.make(limits, existed)
    }

    /// Makes the cgroup with its limits, or gives one that has processes already these limits.
    ///
    /// # Errors
    /// A frozen one, a limit that cannot be set.
    pub fn create_or_share(&self, limits: &Limits) -> Result<Entrance> {
        self.make(limits, self.exists())
    }

    fn make(&self, limits: &Limits, existed: bool) -> Result<Entrance> {
        if existed && self.is_frozen() {
            bail!("container's cgroup unexpectedly frozen");
        }
        let made = match self.version {
            _ if self.is_nowhere() => return Ok(Entrance { into: None, tasks: Vec::new() }),
            Version::V2 => v2::create(self, limits, existed),
            _ => v1::create(self, limits, existed),
        };
        if made.is_err() && !existed {
            let _ = self.remove();
        }
        made.with_context(|| format!("make the cgroup {self}"))
    }

    /// Opens the way into the existing cgroup.
    pub fn open(&self) -> Result<Entrance> {
        let entrance = match self.version {
            _ if self.is_nowhere() => return Ok(Entrance { into: None, tasks: Vec::new() }),
            Version::V2 => v2::open(&self.unified()?.dir),
            _ => v1::open(self),
        };
        entrance.with_context(|| format!("open the cgroup {self}"))
    }

    /// Changes those limits of the existing cgroup that are set, and device rules if there are any.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        match self.version {
            Version::V2 => v2::update(self, limits),
            _ => v1::update(self, limits),
        }
        .with_context(|| format!("change the limits of the cgroup {self}"))
    }

    /// Stops or resumes all processes, and waits until they are. What is gone has nothing left to resume.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let done = match self.version {
            Version::V2 => v2::freeze(&self.unified()?.dir, frozen),
            _ => self.controller("freezer").and_then(|dir| v1::freeze(dir, frozen)),
        };
        if !frozen && done.is_err() && !self.exists() {
            return Ok(());
        }
        done.with_context(|| format!("{} the cgroup {self}", if frozen { "freeze" } else { "thaw" }))
    }

    /// Whether its processes are stopped, or about to be, by its own setting.
    pub fn is_frozen(&self) -> bool {
        match self.version {
            Version::V2 => self.members.iter().any(|m| v2::is_frozen(&m.dir)),
            _ => self.controller("freezer").is_ok_and(v1::is_frozen),
        }
    }

    /// The numbers of all processes in it and in the cgroups below it, as the host counts.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        if let Some(dir) = self.listing() {
            files::processes(dir, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// How many times the kernel killed a process of it for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        let text = self.controller("memory").map(|dir| files::read(dir, file).unwrap_or_default());
        text.ok().and_then(|t| value_of(&t, "oom_kill")).unwrap_or(0)
    }

    /// A descriptor that tells when the kernel kills for lack of memory.
    pub fn oom_watch(&self) -> Result<OomWatch> {
        let dir = self.controller("memory")?;
        match self.version {
            Version::V2 => OomWatch::v2(dir),
            _ => OomWatch::v1(dir),
        }
        .with_context(|| format!("watch the memory of the cgroup {self}"))
    }

    /// What it has used.
    pub fn stats(&self) -> Result<Stats> {
        self.must_be_somewhere()?;
        match self.version {
            Version::V2 => stats::v2(&self.unified()?.dir),
            _ => stats::v1(|name| self.controller(name).ok().filter(|dir| dir.exists())),
        }
        .with_context(|| format!("read the use of the cgroup {self}"))
    }

    /// Removes the cgroup with all cgroups below it. Can be repeated.
    ///
    /// # Errors
    /// The first of the directories that cannot be removed; the others are removed nevertheless.
    pub fn remove(&self) -> Result<()> {
        let (mut result, deadline) = (Ok(()), Instant::now() + Duration::from_secs(5));
        for member in &self.members {
            let removed = remove_directory(&member.dir, deadline).map_err(explain);
            result = result.and(removed.with_context(|| format!("remove the cgroup {}", member.dir.display())));
        }
        result
    }

    fn must_be_somewhere(&self) -> Result<()> {
        ensure!(!self.is_nowhere(), "who started it may make no cgroups");
        Ok(())
    }

    /// A directory that lists the processes, if there is one.
    fn listing(&self) -> Option<&Path> {
        const ORDER: [&str; 6] = ["devices", "pids", "memory", "freezer", "cpu", UNIFIED];
        let others = self.members.iter().filter(|m| !m.on_demand);
        let others = others.filter(|m| m.hierarchy.names.iter().all(|n| !ORDER.contains(&n.as_str())));
        let preferred = ORDER.iter().filter_map(|name| self.member(name)).chain(others);
        preferred.map(|m| m.dir.as_path()).find(|dir| dir.exists())
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.hierarchy.names.iter().any(|n| n == name))
    }

    fn unified(&self) -> Result<&Member> {
        self.must_be_somewhere()?;
        self.member(UNIFIED).context("the cgroup is in no version 2 hierarchy")
    }

    /// Its directory in the hierarchy of a controller.
    fn controller(&self, name: &str) -> Result<&Path> {
        self.must_be_somewhere()?;
        let member = if self.version == Version::V2 { self.member(UNIFIED) } else { self.member(name) };
        let dir = member.map(|m| m.dir.as_path());
        dir.with_context(|| format!("this host has no {name} controller: it is not mounted below {MOUNT}"))
    }
}

impl Member {
    fn new(hierarchy: Hierarchy, dir: PathBuf, which: Hierarchies) -> Member {
        let on_demand = which == Hierarchies::Needed && hierarchy.on_demand();
        Member { hierarchy, dir, on_demand }
    }
}

/// A relative path begins at the caller's cgroup; on version 2 beside it, because a cgroup with processes of its own
/// cannot have limits for those below it.
fn start_of_relative(hierarchy: &Hierarchy, own: &str, version: Version) -> Result<PathBuf> {
    let name = hierarchy.names.first().map_or("", String::as_str);
    if name == UNIFIED && version == Version::Hybrid {
        // No controllers there that could care, and other runtimes put their containers there.
        return Ok(hierarchy.mount.clone());
    }
    let cgroup = host::membership(own, name).with_context(|| format!("/proc/self/cgroup names no {name} cgroup"))?;
    let cgroup = if version == Version::V2 { cgroup.parent().unwrap_or(&cgroup).to_owned() } else { cgroup };
    host::directory(hierarchy, &cgroup)
}

impl std::fmt::Display for Cgroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.members.first() {
            Some(m) => {
                let below = m.dir.strip_prefix(&m.hierarchy.mount).unwrap_or(&m.dir);
                write!(f, "/{}", below.display())
            }
            None => f.write_str("of a container that has none"),
        }
    }
}

#[cfg(test)]
mod tests;
