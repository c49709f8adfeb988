//! `/dev` of a container: the nodes and links that every program may count on, and those asked for.

use crate::sys::bpf::DeviceRule;
use crate::sys::dir::Dir;
use anyhow::{Context, Result};
use rustix::fs::FileType;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A device node to make.
#[derive(Clone, Debug)]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// Character device, block device or fifo.
    pub kind: FileType,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The nodes that the specification demands in every container (runtime-spec, "Default Devices").
pub const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the default nodes and links in `dev`, a fresh file system of ours.
pub fn make_defaults(dev: &Dir) -> Result<()> {
    for (name, major, minor) in DEFAULT {
        node(dev, OsStr::new(name), FileType::CharacterDevice, (major, minor), 0o666)?;
    }
    for (name, target) in LINKS {
        match dev.symlink(OsStr::new(target), name) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other.with_context(|| format!("make the link /dev/{name}"))?,
        }
    }
    Ok(())
}

/// Makes one asked-for node below `root`.
pub fn make(root: &Dir, device: &Device) -> Result<()> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        anyhow::bail!("{} is not a path for a device", device.path.display());
    };
    let parent = root.mkdir_all_in_root(parent, 0o755).with_context(|| format!("make {}", parent.display()))?;
    node(&parent, name, device.kind, device.number, device.mode)?;
    parent.chown(name, device.uid, device.gid).with_context(|| format!("own {}", device.path.display()))
}

fn node(dir: &Dir, name: &OsStr, kind: FileType, number: (u32, u32), mode: u32) -> Result<()> {
    let what = || format!("make the device {}", Path::new(name).display());
    match dir.mknod(name, kind, mode, rustix::fs::makedev(number.0, number.1)) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        other => other.with_context(what)?,
    }
    // The file mode creation mask had its say in the first place.
    dir.chmod(name, mode).with_context(what)
}

/// The rules that every container has beside its own: making nodes is harmless, opening them is not.
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access: &str| DeviceRule { allow: true, kind, major, minor, access: access.into() };
    let mut rules = vec![
        DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".into() },
        rule('c', None, None, "m"),
        rule('b', None, None, "m"),
    ];
    rules.extend(DEFAULT.map(|(_, major, minor)| rule('c', Some(major), Some(minor), "rwm")));
    // The console, the multiplexer and the terminals that it gives out.
    rules.push(rule('c', Some(5), Some(1), "rwm"));
    rules.push(rule('c', Some(5), Some(2), "rwm"));
    rules.push(rule('c', Some(136), None, "rwm"));
    rules
}
