//! Which hierarchies the host has, where they are mounted, and where a path leads in each of them.

use crate::sys::file::read_kernel_text;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

/// Where the kernel's cgroup file systems are mounted, by convention of every distribution.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// The version 2 hierarchy among the names of version 1, as `/proc/PID/cgroup` has it.
pub const UNIFIED: &str = "";

/// Every hierarchy that a container may be in, in the order of making.
const ALL: [&str; 16] = [
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
    "freezer",
    "name=systemd",
    UNIFIED,
];

/// The version 1 controllers that a container always gets: for its limits, device rules and pausing.
const ALWAYS: [&str; 5] = ["pids", "memory", "cpu", "devices", "freezer"];
/// The version 1 controllers that are joined for the limits that they enforce.
const ON_DEMAND: [&str; 6] = ["cpuset", "blkio", "hugetlb", "net_cls", "net_prio", "rdma"];

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

/// Which cgroups this host has, looked up once.
pub fn version() -> Version {
    static VERSION: OnceLock<Version> = OnceLock::new();
    *VERSION.get_or_init(look)
}

fn look() -> Version {
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

/// Which of the version 1 hierarchies a container joins; version 2 has one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchies {
    /// Those that limits, device rules and pausing need: the fewer the faster.
    Needed,
    /// Every one that is mounted, as other runtimes do it: whoever watches one of them finds the container there.
    All,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or `name=…`.
    pub names: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The cgroup that the mount shows as its root.
    pub root: PathBuf,
}

impl Hierarchy {
    /// Whether a container of those that join only what they need joins it for a reason of its own.
    pub fn on_demand(&self) -> bool {
        self.names.iter().all(|n| ON_DEMAND.contains(&n.as_str()))
    }
}

/// The mounted hierarchies to choose from.
///
/// # Errors
/// None is mounted.
pub fn hierarchies(version: Version, which: Hierarchies) -> Result<Vec<Hierarchy>> {
    if version == Version::V2 {
        return Ok(vec![Hierarchy { names: vec![UNIFIED.into()], mount: MOUNT.into(), root: "/".into() }]);
    }
    let found = if which == Hierarchies::Needed { conventional(Path::new(MOUNT)) } else { Vec::new() };
    if !found.is_empty() {
        return Ok(found);
    }
    let table = read_kernel_text("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut found = mounted(&table);
    if which == Hierarchies::Needed {
        found.retain(|h| h.names.iter().any(|n| ALWAYS.contains(&n.as_str()) || ON_DEMAND.contains(&n.as_str())));
    }
    if found.iter().all(|h| h.names == [UNIFIED]) {
        bail!("no cgroup hierarchies are mounted: mount cgroup2 on {MOUNT}");
    }
    Ok(found)
}

/// The controllers that this host has; none if it cannot be found out.
pub fn controllers() -> BTreeSet<String> {
    match version() {
        Version::V2 => {
            let text = read_kernel_text(Path::new(MOUNT).join("cgroup.controllers")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        }
        version => {
            let found = hierarchies(version, Hierarchies::All).unwrap_or_default();
            found.into_iter().flat_map(|h| h.names).collect()
        }
    }
}

/// Looks only where every distribution has them. Joint ones (`cpu,cpuacct`, with links to them) count once.
fn conventional(mount: &Path) -> Vec<Hierarchy> {
    let mut found: Vec<(PathBuf, Hierarchy)> = Vec::new();
    // One look at the directory instead of one for each name that might be there: every start of a container pays.
    let entries: Vec<_> = std::fs::read_dir(mount).into_iter().flatten().flatten().collect();
    for name in ALWAYS.iter().chain(&ON_DEMAND) {
        let Some(entry) = entries.iter().find(|e| e.file_name() == *name) else { continue };
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|t| t.is_symlink());
        let real = if is_link { std::fs::read_link(&path).map(|l| mount.join(l)) } else { Ok(path.clone()) };
        let Ok(real) = real else { continue };
        match found.iter_mut().find(|(r, _)| *r == real) {
            Some((_, hierarchy)) => hierarchy.names.push((*name).into()),
            None => found.push((real, Hierarchy { names: vec![(*name).into()], mount: path, root: "/".into() })),
        }
    }
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

/// The hierarchies in a mount table; of one that is mounted twice, the mount at the conventional place counts.
fn mounted(table: &str) -> Vec<Hierarchy> {
    let mut lines: Vec<Mounted> = table.lines().filter_map(Mounted::parse).collect();
    lines.sort_by_key(|m| !m.mount.starts_with(MOUNT));
    let mut found: Vec<Hierarchy> = Vec::new();
    for name in ALL {
        let Some(mount) = lines.iter().find(|m| m.names.iter().any(|n| n == name)) else { continue };
        match found.iter_mut().find(|h| h.mount == mount.mount) {
            Some(hierarchy) => hierarchy.names.push(name.into()),
            None => {
                found.push(Hierarchy { names: vec![name.into()], mount: mount.mount.clone(), root: mount.root.clone() })
            }
        }
    }
    found
}

struct Mounted {
    names: Vec<String>,
    mount: PathBuf,
    root: PathBuf,
}

impl Mounted {
    fn parse(line: &str) -> Option<Mounted> {
        let (left, right) = line.split_once(" - ")?;
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        let names = match right.next()? {
            "cgroup" => right.nth(1)?.split(',').map(str::to_owned).collect(),
            "cgroup2" => vec![UNIFIED.to_owned()],
            _ => return None,
        };
        let root = unescape(left.next()?);
        Some(Mounted { names, mount: unescape(left.next()?), root })
    }
}

/// The mount table writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let octal = text.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// `path` without `.` and `..`, which never lead above where it starts.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// The cgroup that `text`, in the form of `/proc/PID/cgroup`, names in the hierarchy with this name.
pub fn membership(text: &str, name: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        names.split(',').any(|n| n == name).then(|| parts.next().map(PathBuf::from))?
    })
}

/// The directory of a cgroup named as in `/proc/PID/cgroup`.
///
/// # Errors
/// One that is not below what the mount shows.
pub fn directory(hierarchy: &Hierarchy, cgroup: &Path) -> Result<PathBuf> {
    let (cgroup, root) = (clean(cgroup), clean(&hierarchy.root));
    match cgroup.strip_prefix(&root) {
        Ok(below) => Ok(hierarchy.mount.join(below)),
        Err(_) => bail!(
            "the cgroup /{} does not show below {}, which begins at /{}",
            cgroup.display(),
            hierarchy.mount.display(),
            root.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
30 31 0:30 / /mnt/with\\040blank rw - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
34 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
36 31 0:39 / /sys/fs/cgroup/other rw,relatime - cgroup cgroup rw,name=other
37 31 0:40 / /proc rw - proc proc rw
38 31 0:41 / /opt/freezer\\134x rw - cgroup none rw,freezer
";

    #[test]
    fn the_mount_table_tells_the_hierarchies() {
        let found = mounted(TABLE);
        let told: Vec<(String, &str)> = found.iter().map(|h| (h.names.join("+"), h.mount.to_str().unwrap())).collect();
        let expected = [
            ("memory", "/sys/fs/cgroup/memory"),
            ("cpu+cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
            ("freezer", "/opt/freezer\\x"),
            ("name=systemd", "/sys/fs/cgroup/systemd"),
            ("", "/sys/fs/cgroup/unified"),
        ];
        assert_eq!(told, expected.map(|(names, mount)| (names.to_owned(), mount)));
        assert_eq!(found[0].root, Path::new("/docker/abc"));
        assert_eq!(unescape("/mnt/with\\040blank"), Path::new("/mnt/with blank"));
        assert_eq!(unescape("/odd\\9"), Path::new("/odd\\9"));
    }

    #[test]
    fn a_path_never_leads_above_its_start() {
        for (path, expected) in
            [("/a/b", "a/b"), ("a/./b", "a/b"), ("/../../a", "a"), ("../a/../../b", "b"), ("/a/..", ""), ("..", "")]
        {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_cgroup_is_found_below_the_root_of_its_mount() {
        let own = "9:name=systemd:/\n4:memory:/docker/abc/x\n2:cpu,cpuacct:/a:b\n0::/user\n";
        assert_eq!(membership(own, "cpuacct").unwrap(), Path::new("/a:b"));
        assert_eq!(membership(own, "").unwrap(), Path::new("/user"));
        assert_eq!(membership(own, "pids"), None);
        let memory = &mounted(TABLE)[0];
        assert_eq!(directory(memory, Path::new("/docker/abc/x")).unwrap(), Path::new("/sys/fs/cgroup/memory/x"));
        assert_eq!(directory(memory, Path::new("/docker/abc")).unwrap(), Path::new("/sys/fs/cgroup/memory"));
        assert!(directory(memory, Path::new("/docker/abcd")).is_err());
        let outer = Hierarchy { root: "/..".into(), ..memory.clone() };
        assert_eq!(directory(&outer, Path::new("/x")).unwrap(), Path::new("/sys/fs/cgroup/memory/x"));
    }
}
