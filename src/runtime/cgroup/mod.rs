//! Control groups: one interface over version 1 hierarchies (also hybrid hosts) and version 2.
//!
//! A container's cgroup is named by one path in every hierarchy used.

mod v1;
mod v2;

use crate::sys::bpf::DeviceRule;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the kernel's cgroup file systems are mounted, by convention of every distribution.
const MOUNT: &str = "/sys/fs/cgroup";

/// Which cgroups the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller.
    V1,
    /// Version 1, with a version 2 hierarchy beside it that has hardly any controllers.
    Hybrid,
    /// The unified hierarchy.
    V2,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V1 => "1",
            Version::Hybrid => "1 (hybrid)",
            Version::V2 => "2",
        })
    }
}

/// Looks which cgroups this host has.
pub fn version() -> Version {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    let is_v2 = |path: &Path| {
        let dir = File::open(path);
        dir.and_then(|d| crate::sys::mount::is_on(d, CGROUP2_SUPER_MAGIC)).unwrap_or(false)
    };
    if is_v2(Path::new(MOUNT)) {
        Version::V2
    } else if is_v2(&Path::new(MOUNT).join("unified")) {
        Version::Hybrid
    } else {
        Version::V1
    }
}

/// The limits of a container, in the kernel's units; `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is without limit.
    pub memory_swap: Option<i64>,
    /// Bytes.
    pub memory_reservation: Option<i64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Relative weight, 2 to 262144, default 1024.
    pub cpu_shares: Option<u64>,
    /// List of processors, `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// List of memory nodes.
    pub cpuset_mems: Option<String>,
    /// Number of tasks; zero or less is without limit.
    pub pids: Option<i64>,
    /// Access to device nodes; in order, the last match counts.
    pub devices: Vec<DeviceRule>,
}

/// What a child needs to put itself into a cgroup, opened by its parent.
#[derive(Debug)]
pub enum Entrance {
    /// The directory to clone into.
    V2(File),
    /// The `tasks` file of each hierarchy: a single-threaded process that writes 0 there takes no global lock.
    V1(Vec<File>),
}

impl Entrance {
    /// The directory that clone3 puts the child into, where that is how it works.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Entrance::V2(dir) => Some(dir.as_fd()),
            Entrance::V1(_) => None,
        }
    }

    /// Called by the child: joins whatever clone3 has not joined.
    pub fn enter(&self) -> io::Result<()> {
        if let Entrance::V1(files) = self {
            for file in files {
                rustix::io::write(file, b"0")?;
            }
        }
        Ok(())
    }
}

/// One container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

impl Cgroup {
    /// The cgroup at an absolute path below the root of the hierarchies. Nothing is made.
    ///
    /// # Errors
    /// A path with `..`, or one that is the root itself.
    pub fn at(path: &Path) -> Result<Cgroup> {
        use std::path::Component;
        let mut relative = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => relative.push(name),
                Component::RootDir | Component::CurDir => {}
                _ => bail!("{} is not a cgroup path", path.display()),
            }
        }
        if relative.as_os_str().is_empty() {
            bail!("a container cannot be in the root cgroup");
        }
        Ok(Cgroup { path: relative, version: version() })
    }

    /// Which kind of cgroups it is in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its directory in each hierarchy that it is in, with the hierarchy's name (none on version 2).
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        let named = |h: PathBuf| Some((h.file_name()?.to_str()?.to_owned(), h.join(&self.path)));
        match self.version {
            Version::V2 => vec![(String::new(), self.directory())],
            _ => v1::hierarchies().into_iter().filter_map(named).filter(|(_, dir)| dir.exists()).collect(),
        }
    }

    /// Makes the cgroup with its limits. One that is left from a killed process is used again if it is empty.
    pub fn create(&self, limits: &Limits) -> Result<Entrance> {
        let made = match self.version {
            Version::V2 => v2::create(&self.path, limits).map(Entrance::V2),
            _ => v1::create(&self.path, limits).map(Entrance::V1),
        };
        if made.is_err() {
            let _ = self.remove();
        }
        made.with_context(|| format!("make the cgroup /{}", self.path.display()))
    }

    /// Opens the way into the existing cgroup.
    pub fn open(&self) -> Result<Entrance> {
        let entrance = match self.version {
            Version::V2 => v2::open(&self.path).map(Entrance::V2),
            _ => v1::open(&self.path).map(Entrance::V1),
        };
        entrance.with_context(|| format!("open the cgroup /{}", self.path.display()))
    }

    /// Changes limits of the existing cgroup; device rules stay.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        match self.version {
            Version::V2 => v2::set_limits(&self.path, limits),
            _ => v1::set_limits(&self.path, limits),
        }
    }

    /// Stops or resumes all processes, and waits until they are.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        match self.version {
            Version::V2 => v2::freeze(&self.path, frozen),
            _ => v1::freeze(&self.path, frozen),
        }
        .with_context(|| format!("{} the cgroup /{}", if frozen { "freeze" } else { "thaw" }, self.path.display()))
    }

    /// Whether its processes are stopped.
    pub fn is_frozen(&self) -> bool {
        match self.version {
            Version::V2 => v2::is_frozen(&self.path),
            _ => v1::is_frozen(&self.path),
        }
    }

    /// The numbers of all processes in it, as the host counts.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let file = self.directory().join("cgroup.procs");
        let text = match std::fs::read_to_string(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        Ok(text.lines().filter_map(|l| l.parse().ok()).collect())
    }

    /// How many times the kernel killed a process of it for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let (dir, file) = match self.version {
            Version::V2 => (self.directory(), "memory.events"),
            _ => (Path::new(MOUNT).join("memory").join(&self.path), "memory.oom_control"),
        };
        let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }

    /// Kills every process in it, until there are none.
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let pids = self.processes().context("list the processes of the container")?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                let _ = crate::sys::process::kill(pid, libc::SIGKILL);
            }
            // A frozen process does not die before it is thawed.
            if self.is_frozen() {
                let _ = self.freeze(false);
            }
            if Instant::now() > deadline {
                bail!("processes in the cgroup /{} do not end", self.path.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the cgroup with all cgroups below it. Can be repeated.
    pub fn remove(&self) -> Result<()> {
        let hierarchies = match self.version {
            Version::V2 => vec![PathBuf::from(MOUNT)],
            _ => v1::hierarchies(),
        };
        for hierarchy in hierarchies {
            let dir = hierarchy.join(&self.path);
            remove_directory(&dir).with_context(|| format!("remove the cgroup {}", dir.display()))?;
        }
        Ok(())
    }

    /// A directory that lists the processes.
    fn directory(&self) -> PathBuf {
        match self.version {
            Version::V2 => Path::new(MOUNT).join(&self.path),
            _ => Path::new(MOUNT).join("pids").join(&self.path),
        }
    }
}

/// Makes `relative` below a hierarchy. Another process may remove an empty parent at any time.
fn make_directory(hierarchy: &Path, relative: &Path) -> io::Result<PathBuf> {
    let dir = hierarchy.join(relative);
    for _ in 0..100 {
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(dir),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match relative.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => make_directory(hierarchy, parent)?,
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        };
    }
    Err(io::ErrorKind::NotFound.into())
}

fn remove_directory(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline => return Err(e),
            Err(_) => {}
        }
        // Busy: with cgroups that the container made itself, or with processes that are just ending.
        for entry in std::fs::read_dir(dir)?.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                remove_directory(&entry.path())?;
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    let path = dir.join(file);
    let open = std::fs::OpenOptions::new().write(true).open(&path);
    open.and_then(|f| Ok(rustix::io::write(&f, value.as_bytes())?))
        .with_context(|| format!("write {value:?} to {}", path.display()))?;
    Ok(())
}
