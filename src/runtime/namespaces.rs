//! Which namespaces a container has of its own, and which it shares with others.

use super::idmap::IdMaps;
use crate::sys::process;
use crate::sys::procfs::ProcFs;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The namespaces of a container.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` flags of those made for it.
    pub made: u64,
    /// Made after the cgroup was joined, so that it is the root of it.
    pub cgroup: bool,
    /// Made by the first process, which is then given the offsets.
    pub time: Option<TimeOffsets>,
    /// The maps of a user namespace that is made.
    pub maps: Option<IdMaps>,
    /// Those that exist already.
    pub joined: Vec<Joined>,
}

/// A namespace to join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its `CLONE_NEW*` flag.
    pub flag: i32,
    /// A file that stands for it.
    pub path: PathBuf,
}

/// Lines for the kernel: clock, seconds, nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct TimeOffsets(String);

impl Namespaces {
    /// Understands the namespaces of a specification (runtime-spec, "Namespaces").
    ///
    /// # Errors
    /// One that is named twice or does not fit with the rest of the specification.
    pub fn from_spec(linux: &Linux) -> Result<Namespaces> {
        let mut all = Namespaces::default();
        let mut seen = 0;
        for namespace in linux.namespaces().iter().flatten() {
            let flag = flag(namespace.typ());
            if seen & flag != 0 {
                bail!("the {} namespace is listed twice", namespace.typ());
            }
            seen |= flag;
            match namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
                Some(path) if !path.is_absolute() => bail!("the namespace path {} is not absolute", path.display()),
                Some(path) => all.joined.push(Joined { flag, path: path.clone() }),
                None => match flag {
                    libc::CLONE_NEWCGROUP => all.cgroup = true,
                    libc::CLONE_NEWTIME => all.time = Some(time_offsets(linux)?),
                    flag => all.made |= flag as u64,
                },
            }
        }
        if linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty()) && all.time.is_none() {
            bail!("time offsets need a new time namespace");
        }
        let maps = IdMaps::from_spec(linux.uid_mappings(), linux.gid_mappings())?;
        let user = libc::CLONE_NEWUSER;
        match (maps, all.makes(user), all.joins(user)) {
            (Some(maps), true, _) => all.maps = Some(maps),
            (None, true, _) => bail!("a new user namespace needs user and group id mappings"),
            // The namespace has maps of its own; these only describe it.
            (_, false, true) | (None, false, false) => {}
            (Some(_), false, false) => bail!("user namespace mappings are specified, but there is no user namespace"),
        }
        if !all.has(libc::CLONE_NEWNS) {
            bail!("a container needs a mount namespace of its own");
        }
        Ok(all)
    }

    /// `CLONE_NEW*` flags of those that the first process is born with.
    pub fn at_birth(&self) -> u64 {
        if self.later() == 0 { self.made } else { self.made & !(libc::CLONE_NEWIPC as u64) }
    }

    /// Those that it makes when it is root of its user namespace: what the kernel puts into them is its then.
    pub fn later(&self) -> i32 {
        if self.has(libc::CLONE_NEWUSER) && self.makes(libc::CLONE_NEWIPC) { libc::CLONE_NEWIPC } else { 0 }
    }

    /// Whether a namespace of this kind is made for it.
    pub fn makes(&self, flag: i32) -> bool {
        match flag {
            libc::CLONE_NEWCGROUP => self.cgroup,
            libc::CLONE_NEWTIME => self.time.is_some(),
            _ => self.made & flag as u64 != 0,
        }
    }

    /// Whether a network namespace that somebody else has made is as good as one of its own: it belongs to the user
    /// namespace of its maker.
    pub fn takes_network(&self) -> bool {
        self.makes(libc::CLONE_NEWNET) && !self.has(libc::CLONE_NEWUSER)
    }

    fn joins(&self, flag: i32) -> bool {
        self.joined.iter().any(|j| j.flag == flag)
    }

    /// Whether it is in another namespace of this kind than its starter.
    pub fn has(&self, flag: i32) -> bool {
        self.makes(flag) || self.joins(flag)
    }

    /// Whether that is indeed another one, and not its starter's by a path.
    pub fn differs(&self, flag: i32) -> bool {
        let id = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let own = || id(&Path::new("/proc/self/ns").join(name(flag)));
        let joined = self.joined.iter().find(|j| j.flag == flag);
        self.makes(flag) || joined.is_some_and(|j| id(&j.path) != own())
    }

    /// Opens those that are joined.
    ///
    /// # Errors
    /// A path that is missing or no namespace of its kind.
    pub fn open(&self) -> Result<Vec<(i32, OwnedFd)>> {
        self.joined.iter().map(|j| Ok((j.flag, open(j)?))).collect()
    }
}

fn open(joined: &Joined) -> Result<OwnedFd> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    let what = || format!("open the namespace {}", joined.path.display());
    let fd = rustix::fs::open(&joined.path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .map_err(io::Error::from)
        .with_context(what)?;
    if !crate::sys::mount::is_on(&fd, NSFS_MAGIC).with_context(what)? {
        bail!("{} is not a namespace", joined.path.display());
    }
    Ok(fd)
}

/// Joins namespaces: those of the caller's user first, then the user namespace, then those that only its root may join.
pub fn join(opened: &[(i32, OwnedFd)]) -> Result<()> {
    let (users, others): (Vec<_>, Vec<_>) = opened.iter().partition(|(flag, _)| *flag == libc::CLONE_NEWUSER);
    let mut left = others;
    if !users.is_empty() {
        left.retain(|(flag, fd)| process::join_namespaces(fd, *flag).is_err());
    }
    for (flag, fd) in users.into_iter().chain(left) {
        process::join_namespaces(fd, *flag).with_context(|| format!("join the {} namespace", name(*flag)))?;
    }
    Ok(())
}

/// Makes a time namespace with these offsets and enters it.
pub fn enter_time(offsets: &TimeOffsets) -> Result<()> {
    process::unshare(libc::CLONE_NEWTIME).context("make a time namespace")?;
    if !offsets.0.is_empty() {
        let set = ProcFs::host().and_then(|proc| proc.write("self/timens_offsets", offsets.0.as_bytes()));
        set.context("set the offsets of the clocks")?;
    }
    // So far it is only for children.
    let own = std::fs::File::open("/proc/self/ns/time_for_children").context("open the time namespace")?;
    process::join_namespaces(&own, libc::CLONE_NEWTIME).context("enter the time namespace")
}

fn time_offsets(linux: &Linux) -> Result<TimeOffsets> {
    let mut lines = String::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            bail!("the clock {clock:?} has no offset in a time namespace");
        }
        lines += &format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
    }
    Ok(TimeOffsets(lines))
}

fn flag(kind: LinuxNamespaceType) -> i32 {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    }
}

/// The kinds by their files in `/proc/PID/ns`.
pub const KINDS: [(&str, i32); 8] = [
    ("mnt", libc::CLONE_NEWNS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("uts", libc::CLONE_NEWUTS),
    ("ipc", libc::CLONE_NEWIPC),
    ("user", libc::CLONE_NEWUSER),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("time", libc::CLONE_NEWTIME),
];

fn name(flag: i32) -> &'static str {
    KINDS.iter().find(|(_, f)| *f == flag).map_or("unknown", |(name, _)| name)
}

/// The kinds of namespace that a specification speaks of, as `CLONE_NEW*` flags.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kinds {
    /// All of them.
    all: i32,
    /// Those that were made for the container: nobody else begins in them.
    made: i32,
}

impl Kinds {
    /// Those of a specification.
    pub fn of(linux: &Linux) -> Kinds {
        linux.namespaces().iter().flatten().fold(Kinds::default(), |kinds, namespace| {
            let flag = flag(namespace.typ());
            let is_made = namespace.path().as_ref().is_none_or(|p| p.as_os_str().is_empty());
            // To join the own user namespace is an error, to join another own one is not.
            let is_certain = is_made && flag != libc::CLONE_NEWUSER;
            Kinds { all: kinds.all | flag, made: if is_certain { kinds.made | flag } else { kinds.made } }
        })
    }

    /// Those in which a process of the container is elsewhere than the caller: what was made for it is not looked at. Into
    /// others it went by itself.
    pub fn foreign(self, pid: i32) -> i32 {
        let differs = |name: &str| {
            let of = |who: &str| std::fs::read_link(Path::new("/proc").join(who).join("ns").join(name)).ok();
            let theirs = of(&pid.to_string());
            theirs.is_some() && theirs != of("self")
        };
        let looked_at = KINDS.iter().filter(|(name, flag)| self.all & !self.made & flag != 0 && differs(name));
        looked_at.fold(self.made, |all, (_, flag)| all | flag)
    }
}
