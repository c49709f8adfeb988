//! Mounts by descriptor: made detached, given their attributes, attached last.

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Attributes of one mount, as `MOUNT_ATTR_*` bits.
pub use rustix::mount::MountAttrFlags as Attributes;

/// How mount events travel between a mount and its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Into this mount only.
    Slave,
    /// Both ways.
    Shared,
    /// Not at all, and it cannot be bind-mounted.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A detached copy of the mount at `path` of the host, with all mounts below it if `recursive`.
pub fn copy_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(CWD, path, flags)?)
}

/// A detached copy of the mount that an open file or directory is in, starting there.
pub fn copy_of(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(fd, "", flags)?)
}

/// The same with all mounts below it.
pub fn copy_with_all_below(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(fd, "", flags | OpenTreeFlags::AT_RECURSIVE)?)
}

/// Attaches a detached mount over an open file or directory.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

/// Sets and clears attributes of a mount, or of it and all below it, and optionally its propagation.
pub fn set_attributes(
    tree: impl AsFd,
    set: Attributes,
    clear: Attributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set.bits().into(),
        attr_clr: clear.bits().into(),
        propagation: propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let fd = tree.as_fd().as_raw_fd();
    // SAFETY: `attr` and the empty path are valid for the length of the call, which only reads them.
    let rc =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size_of_val(&attr)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Shows the owners of a detached mount (and of all below it if `recursive`) through the maps of a user namespace.
///
/// # Errors
/// `EINVAL` for a file system that cannot be mapped; `EPERM` without CAP_SYS_ADMIN where the file system was mounted.
pub fn set_id_map(tree: impl AsFd, user_namespace: impl AsFd, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_fd().as_raw_fd() as u64,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let fd = tree.as_fd().as_raw_fd();
    // SAFETY: `attr` and the empty path are valid for the length of the call, which only reads them.
    let rc =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size_of_val(&attr)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A file system of `kind` with options (`key=value`, or a flag), mounted detached.
pub fn new_file_system(kind: &str, source: &str, options: &[String], attributes: Attributes) -> io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !source.is_empty() {
        fsconfig_set_string(&fs, "source", source)?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value),
            None => fsconfig_set_flag(&fs, option.as_str()),
        }
        .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("option {option:?}: {}", said(&fs, e))))?;
    }
    fsconfig_create(&fs).map_err(|e| explained(&fs, e))?;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// An overlay: read-only directories, the upper one of a writable layer, and its work directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Lowest first.
    pub lower: Vec<PathBuf>,
    /// Where changes go; `None` makes a read-only overlay.
    pub upper: Option<PathBuf>,
    /// An empty directory on the file system of `upper`.
    pub work: Option<PathBuf>,
    /// Never sync the upper directory: for containers that are thrown away.
    pub volatile: bool,
}

impl Overlay {
    /// Mounts the overlay at `target`.
    ///
    /// The kernel stacks no more than 500 directories. The lowest ones of a taller stack become an overlay of their
    /// own, which is mounted below this one.
    pub fn attach(&self, target: &Path) -> io::Result<()> {
        if self.lower.len() <= STACK_LIMIT {
            return self.attach_one(target);
        }
        if self.lower.len() >= 2 * STACK_LIMIT {
            let text = format!(
                "{} layers are more than the kernel can stack; `image squash` makes one of them",
                self.lower.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (below, above) = self.lower.split_at(self.lower.len() - (STACK_LIMIT - 1));
        let below = Overlay { lower: below.into(), upper: None, work: None, volatile: false };
        below.attach_one(target)?;
        let lower = std::iter::once(target).chain(above.iter().map(PathBuf::as_path)).map(Path::to_owned).collect();
        Overlay { lower, ..self.clone() }.attach_one(target)
    }

    /// Kernels before 6.5 know no `lowerdir+`; they get the old call, whose options must fit into one page, so layers
    /// are named there by open descriptors.
    fn attach_one(&self, target: &Path) -> io::Result<()> {
        // Asking the kernel itself takes a whole attempt: an older one says only at its end that it did not understand.
        if !kernel_is_at_least(6, 5) {
            return self.attach_old(target);
        }
        let tree = self.detached()?;
        Ok(move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }

    fn detached(&self) -> io::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "overlay")?;
        let mut held = Vec::new();
        let mut set = |key: &str, dir: &Path| {
            let result = fsconfig_set_string(&fs, key, short(dir, &mut held)?.as_os_str());
            result.map_err(|e| named(dir, explained(&fs, e)))
        };
        for dir in self.lower.iter().rev() {
            set("lowerdir+", dir)?;
        }
        for (key, dir) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(dir) = dir {
                set(key, dir)?;
            }
        }
        if self.volatile {
            fsconfig_set_flag(&fs, "volatile")?;
        }
        for (key, value) in FEATURES_OFF {
            fsconfig_set_string(&fs, key, value).map_err(|e| explained(&fs, e))?;
        }
        fsconfig_create(&fs).map_err(|e| explained(&fs, e))?;
        Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    }

    fn attach_old(&self, target: &Path) -> io::Result<()> {
        let mut held = Vec::new();
        let mut options = String::from("lowerdir=");
        for (index, dir) in self.lower.iter().rev().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            options.push_str(&format!("{separator}{}", by_descriptor(dir, &mut held)?));
        }
        for (key, dir) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(dir) = dir {
                options.push_str(&format!(",{key}={}", by_descriptor(dir, &mut held)?));
            }
        }
        if self.volatile {
            options.push_str(",volatile");
        }
        for (key, value) in FEATURES_OFF {
            options.push_str(&format!(",{key}={value}"));
        }
        let flags = nix::mount::MsFlags::empty();
        // Where a descriptor's path is its number alone.
        let back = open_directory(Path::new("."))?;
        rustix::process::chdir(DESCRIPTORS)?;
        let mounted = nix::mount::mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()));
        rustix::process::fchdir(back)?;
        Ok(mounted?)
    }
}

/// As many directories the kernel stacks at most.
const STACK_LIMIT: usize = 500;

const DESCRIPTORS: &str = "/proc/self/fd";

/// Whether the running kernel is of this version or newer.
fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// A layer must mean the same on every host, so nothing may be stored in it that plain files cannot say.
const FEATURES_OFF: [(&str, &str); 3] = [("redirect_dir", "nofollow"), ("index", "off"), ("metacopy", "off")];

/// One mount option holds 255 bytes.
fn short(dir: &Path, held: &mut Vec<OwnedFd>) -> io::Result<PathBuf> {
    match dir.as_os_str().len() < 255 {
        true => Ok(dir.into()),
        false => Ok(Path::new(DESCRIPTORS).join(by_descriptor(dir, held)?)),
    }
}

/// The number of a descriptor of a directory.
fn by_descriptor(dir: &Path, held: &mut Vec<OwnedFd>) -> io::Result<String> {
    let fd = open_directory(dir).map_err(|e| named(dir, e))?;
    let number = fd.as_raw_fd().to_string();
    held.push(fd);
    Ok(number)
}

fn open_directory(dir: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn explained(fs: &OwnedFd, error: Errno) -> io::Error {
    let text = said(fs, error);
    io::Error::new(io::Error::from(error).kind(), text)
}

/// What the kernel wrote into the context's log, or else the plain error.
fn said(fs: &OwnedFd, error: Errno) -> String {
    let mut text = [0u8; 512];
    match rustix::io::read(fs, &mut text) {
        Ok(n) => String::from_utf8_lossy(&text[..n]).trim_end().trim_start_matches("e ").to_owned(),
        Err(_) => io::Error::from(error).to_string(),
    }
}

/// Sets the propagation of the mount at `path` and all below it.
pub fn set_propagation(path: &Path, propagation: Propagation, recursive: bool) -> io::Result<()> {
    use nix::mount::MsFlags;
    let mut flags = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
    };
    flags.set(MsFlags::MS_REC, recursive);
    Ok(nix::mount::mount(None::<&str>, path, None::<&str>, flags, None::<&str>)?)
}

/// Makes `root`, which must be a mount, the root of the mount namespace, and detaches everything above it.
pub fn pivot_into(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    // The old root now covers the new one at the same place; taking it away uncovers the new one.
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Moves `root`, which must be a mount, over the root of the mount namespace and changes into it: what remains where
/// [`pivot_into`] is impossible, because the root is the kernel's initial memory file system.
pub fn move_into(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(&root)?;
    let place =
        rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    attach(&root, &place)?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Detaches every whole procfs and sysfs of the mount namespace that is not below `except`; what cannot be detached is
/// covered.
pub fn detach_kernel_views(except: &Path) -> io::Result<()> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut places: Vec<PathBuf> = table.split(|b| *b == b'\n').filter_map(kernel_view).collect();
    places.retain(|place| !place.starts_with(except));
    for place in places.iter().rev() {
        match nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::EPERM) => {
                let cover = new_file_system("tmpfs", "tmpfs", &["size=0".into()], Attributes::MOUNT_ATTR_RDONLY)?;
                move_mount(&cover, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            }
            // Gone with one that it was in.
            Err(nix::Error::ENOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Where a line of mountinfo has a procfs or sysfs that shows all there is.
fn kernel_view(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|b| *b == b' ');
    let (root, place) = (fields.nth(3)?, fields.next()?);
    let kind = fields.skip_while(|f| *f != b"-").nth(1)?;
    if root != b"/" || !matches!(kind, b"proc" | b"sysfs") {
        return None;
    }
    let mut path = Vec::new();
    let mut rest = place;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *byte == b'\\').and_then(|o| std::str::from_utf8(o).ok());
        match octal.and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(escaped) => {
                path.push(escaped);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(OsStr::from_bytes(&path)))
}

/// Whether the mount that holds this file is read-only.
pub fn is_read_only(fd: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatvfs(fd)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Whether the mount that holds this file is nowhere to be seen.
pub fn is_detached(fd: impl AsFd) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxFlags};
    let id = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id.to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(!mounts.lines().any(|line| line.split(' ').next() == Some(&id)))
}

/// Whether an open file is on a file system of this magic number.
pub fn is_on(fd: impl AsFd, magic: i64) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as i64 == magic)
}

/// Splits an option list of the kind `lowerdir=/a:/b` at colons that are not escaped.
pub fn split_paths(list: &str) -> Vec<PathBuf> {
    let mut out = vec![Vec::new()];
    let mut bytes = list.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b':' => out.push(Vec::new()),
            b'\\' => out.last_mut().into_iter().for_each(|p: &mut Vec<u8>| p.extend(bytes.next())),
            b => out.last_mut().into_iter().for_each(|p| p.push(b)),
        }
    }
    out.into_iter().filter(|p| !p.is_empty()).map(|p| PathBuf::from(OsStr::from_bytes(&p))).collect()
}

/// The inverse of [`split_paths`].
pub fn join_paths<'a>(paths: impl IntoIterator<Item = &'a Path>) -> String {
    let escaped: Vec<String> =
        paths.into_iter().map(|p| p.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:")).collect();
    escaped.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_views_of_the_kernel_are_found() {
        let line = |text: &str| kernel_view(text.as_bytes());
        assert_eq!(line("24 29 0:22 / /a\\040b rw,relatime shared:5 - proc proc rw"), Some("/a b".into()));
        assert_eq!(line("24 29 0:22 /sys /x rw - proc proc rw"), None);
        assert_eq!(line("24 29 0:22 / /x rw - tmpfs proc rw"), None);
        assert_eq!(line(""), None);
    }

    #[test]
    fn path_lists_survive_colons_and_backslashes() {
        let paths = [Path::new("/a:b"), Path::new("/c\\d"), Path::new("/e")];
        assert_eq!(split_paths(&join_paths(paths)), paths);
        assert!(split_paths("").is_empty());
    }
}
