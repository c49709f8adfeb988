//! `/dev` of a container: the nodes and links that every program may count on, and those asked for.

use crate::sys::bpf::DeviceRule;
use crate::sys::dir::{Dir, file_type};
use crate::sys::process::is_host_root;
use crate::sys::{errors, mount};
use anyhow::{Context, Result, bail};
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

/// How a device comes into the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// As a node of its own.
    Node,
    /// As the host's node, mounted.
    Bind,
}

/// Makes the default nodes and links in `dev`. Those that are asked for in another form are not made in this one.
pub fn make_defaults(dev: &Dir, asked: &[Device], maker: Maker) -> Result<()> {
    for (name, major, minor) in DEFAULT {
        if asked.iter().any(|device| device.path == Path::new("/dev").join(name)) {
            continue;
        }
        let device = Device {
            path: Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            number: (major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        place(dev, OsStr::new(name), &device, maker)?;
    }
    for (name, target) in LINKS {
        // Where there are no terminals, none of the host's may be found.
        match dev.symlink(OsStr::new(target), name) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other.with_context(|| format!("make the link /dev/{name}"))?,
        }
    }
    Ok(())
}

/// Makes one asked-for node at `path` below `base`, with no link on the way: it could lead into somebody's volume.
pub fn make(base: &Dir, path: &Path, device: &Device, maker: Maker) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} is not a path for a device", device.path.display());
    };
    let what = || format!("make the folder of the device {}", device.path.display());
    base.mkdir_all_in_root(parent, 0o755).with_context(what)?;
    place(&base.dir_without_links(parent).with_context(what)?, name, device, maker)
}

fn place(dir: &Dir, name: &OsStr, device: &Device, maker: Maker) -> Result<()> {
    match (maker, device.kind) {
        // Nobody needs a privilege for a fifo, and there is none of the host's to show.
        (_, FileType::Fifo) => node(dir, name, device),
        // The caller's own user namespace may not be the host's, which is only looked at when it matters.
        (Maker::Node, _) => match node(dir, name, device) {
            Err(e) if errors::errno(&e) == Some(libc::EPERM) && !is_host_root() => bind(dir, name, device),
            other => other,
        },
        (Maker::Bind, _) => bind(dir, name, device),
    }
    .with_context(|| format!("make the device {}", device.path.display()))
}

fn node(dir: &Dir, name: &OsStr, device: &Device) -> Result<()> {
    let number = rustix::fs::makedev(device.number.0, device.number.1);
    match dir.mknod(name, device.kind, device.mode, number) {
        // What the image has there is left alone if it is that very device; a link could lead anywhere.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let stat = dir.stat(name)?;
            if file_type(&stat) != device.kind || (device.kind != FileType::Fifo && stat.st_rdev != number) {
                bail!("something else is there already");
            }
            return Ok(());
        }
        other => other?,
    }
    if device.uid != 0 || device.gid != 0 {
        dir.chown(name, device.uid, device.gid)?;
    }
    // The file mode creation mask had its say in the first place.
    Ok(dir.chmod(name, device.mode)?)
}

fn bind(dir: &Dir, name: &OsStr, device: &Device) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let host = rustix::fs::open(&device.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(std::io::Error::from)
        .context("find the host's")?;
    let stat = rustix::fs::fstat(&host).map_err(std::io::Error::from)?;
    let number = rustix::fs::makedev(device.number.0, device.number.1);
    if file_type(&stat) != device.kind || stat.st_rdev != number {
        bail!("the host's is another one");
    }
    match dir.create(name, 0o644) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    let target = dir.open_at(name, OFlags::PATH, 0)?;
    let tree = mount::copy_of(&host)?;
    Ok(mount::attach(&tree, &target)?)
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
