//! A directory held by its descriptor, and nothing but `*at` calls below it.
//!
//! Everything inside a root file system, a layer or a build context is reached through [`Dir`]: a path that
//! somebody else controls is never resolved as a string against the host's root.

use super::depth::Depth;
use rustix::fs::{
    AtFlags, FileType, IFlags, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags,
    Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// One directory, by descriptor.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Dir(fd)
    }
}

/// Directories of one tree that are open at once while it is removed.
const DEEP: usize = 200;

/// A directory that is being removed.
struct Removing {
    name: OsString,
    dir: Dir,
    /// What was not removed yet.
    names: Vec<OsString>,
}

impl Removing {
    fn new(name: &OsStr, dir: Dir) -> io::Result<Removing> {
        Ok(Removing { name: name.to_owned(), names: dir.names()?, dir })
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);
/// Neither waits for a fifo nor takes a terminal for our own.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory of the host by path, following links as usual.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Dir> {
        Ok(Dir(rustix::fs::open(path.as_ref(), DIRECTORY, Mode::empty())?))
    }

    /// A second handle to the same directory.
    pub fn try_clone(&self) -> io::Result<Dir> {
        Ok(Dir(self.0.try_clone()?))
    }

    /// Opens the child directory `name` (one component) without following a link.
    pub fn child(&self, name: impl AsRef<OsStr>) -> io::Result<Dir> {
        let name = component(name.as_ref())?;
        Ok(Dir(rustix::fs::openat(&self.0, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// Opens `path` as if this directory were `/`: `..` and absolute links stay inside, magic links are refused.
    pub fn open_in_root(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = in_root(path.as_ref());
        loop {
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, how) {
                // A rename on the way makes the kernel give up; it asks to be called again.
                Err(Errno::AGAIN) => continue,
                other => return Ok(other?),
            }
        }
    }

    /// Opens a directory at `path` as if this directory were `/`.
    pub fn dir_in_root(&self, path: impl AsRef<Path>) -> io::Result<Dir> {
        Ok(Dir(self.open_in_root(path, DIRECTORY, Mode::empty())?))
    }

    /// Opens the directory at the relative `path` if no component of it is a link.
    ///
    /// # Errors
    /// `ELOOP` if there is a link on the way.
    pub fn dir_without_links(&self, path: impl AsRef<Path>) -> io::Result<Dir> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            match rustix::fs::openat2(&self.0, in_root(path.as_ref()), DIRECTORY, Mode::empty(), how) {
                Err(Errno::AGAIN) => continue,
                other => return Ok(Dir(other?)),
            }
        }
    }

    /// Opens a regular file for reading at `path` as if this directory were `/`. What it is is known before it is
    /// opened: devices, fifos and what the kernel makes up as it is read, like its log, are never touched.
    ///
    /// # Errors
    /// `InvalidInput` if it is not a regular file.
    pub fn file_in_root(&self, path: impl AsRef<Path>) -> io::Result<std::fs::File> {
        reopen(&self.place_of_file(path)?)
    }

    /// As [`Dir::file_in_root`] where the caller is in somebody else's root already and has no `/proc` to be trusted.
    /// He must be one who may open nothing that the owner of the files may not: they may change while he looks.
    pub fn file_in_foreign_root(&self, path: impl AsRef<Path>) -> io::Result<std::fs::File> {
        let place = rustix::fs::fstat(&self.place_of_file(path.as_ref())?)?;
        let file = self.open_in_root(path, READ, Mode::empty())?;
        let found = rustix::fs::fstat(&file)?;
        if (found.st_dev, found.st_ino) != (place.st_dev, place.st_ino) {
            return Err(Errno::AGAIN.into());
        }
        Ok(file.into())
    }

    /// A regular file that is not open yet.
    fn place_of_file(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let place = self.open_in_root(path, OFlags::PATH, Mode::empty())?;
        if is_made_up(&place)? {
            return Err(not_regular());
        }
        refuse_other_than_file(&place)?;
        Ok(place)
    }

    /// Opens `name` (one component) without following a link; `mode` counts only for a new file.
    pub fn open_at(&self, name: impl AsRef<OsStr>, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let name = component(name.as_ref())?;
        Ok(rustix::fs::openat(&self.0, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from_raw_mode(mode))?)
    }

    /// Opens the regular file `name` for reading, following no link. What it is is known before it is opened: devices
    /// and fifos are never touched, even if they are put in its place meanwhile.
    ///
    /// # Errors
    /// `InvalidInput` if it is not a regular file.
    pub fn open_regular(&self, name: impl AsRef<OsStr>) -> io::Result<std::fs::File> {
        let place = self.open_at(name, OFlags::PATH, 0)?;
        reopen_regular(&place)
    }

    /// Creates the regular file `name`, which must not exist, and opens it for reading and writing.
    pub fn create(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<std::fs::File> {
        Ok(self.open_at(name, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR, mode)?.into())
    }

    /// Makes the directory `name`.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, component(name.as_ref())?, Mode::from_raw_mode(mode))?)
    }

    /// Asks the file system to give new folders in this one places far from one another and from what is busy, as
    /// ext4 does with those at its top. File systems that know no places do nothing.
    pub fn spread(&self) {
        if let Ok(flags) = rustix::fs::ioctl_getflags(self) {
            let _ = rustix::fs::ioctl_setflags(self, flags | IFlags::TOPDIR);
        }
    }

    /// Makes every missing directory of `path` in-root with `mode` and opens the last one.
    pub fn mkdir_all_in_root(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<Dir> {
        let path = in_root(path.as_ref());
        match self.dir_in_root(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let parent = self.mkdir_all_in_root(parent, mode)?;
        match parent.mkdir(name, mode) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        match parent.child(name) {
            // Somebody else's link: it is resolved inside this root, like any other.
            Err(_) => self.dir_in_root(path),
            opened => opened,
        }
    }

    /// Makes a symbolic link `name` that says `target`.
    pub fn symlink(&self, target: &OsStr, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.0, component(name.as_ref())?)?)
    }

    /// Makes the node `name` (device, fifo, socket); `mode` holds only the permission bits.
    pub fn mknod(&self, name: impl AsRef<OsStr>, kind: FileType, mode: u32, device: u64) -> io::Result<()> {
        let name = component(name.as_ref())?;
        Ok(rustix::fs::mknodat(&self.0, name, kind, Mode::from_raw_mode(mode), device)?)
    }

    /// Makes `name` here another name of `from_name` in `from`, following no link.
    pub fn link(&self, from: &Dir, from_name: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> io::Result<()> {
        let (from_name, name) = (component(from_name.as_ref())?, component(name.as_ref())?);
        Ok(rustix::fs::linkat(&from.0, from_name, &self.0, name, AtFlags::empty())?)
    }

    /// Renames `name` to `to_name` in `to`, replacing a file there.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Dir, to_name: impl AsRef<OsStr>) -> io::Result<()> {
        let (name, to_name) = (component(name.as_ref())?, component(to_name.as_ref())?);
        Ok(rustix::fs::renameat(&self.0, name, &to.0, to_name)?)
    }

    /// The same, but what has the name already keeps it: an error then, as on file systems that cannot do that.
    pub fn rename_new(&self, name: impl AsRef<OsStr>, to: &Dir, to_name: impl AsRef<OsStr>) -> io::Result<()> {
        let (name, to_name) = (component(name.as_ref())?, component(to_name.as_ref())?);
        Ok(rustix::fs::renameat_with(&self.0, name, &to.0, to_name, RenameFlags::NOREPLACE)?)
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, component(name.as_ref())?, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, component(name.as_ref())?, AtFlags::REMOVEDIR)?)
    }

    /// Attributes of `name`, not following a link.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.0, component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// As [`Dir::stat`], with `None` for a name that does not exist.
    pub fn stat_opt(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(s) => Ok(Some(s)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The bytes of this directory's path from the host's root, or more than any path has.
    pub fn path_length(&self) -> io::Result<usize> {
        match rustix::fs::readlink(format!("/proc/self/fd/{}", self.0.as_raw_fd()), Vec::new()) {
            Ok(path) => Ok(path.as_bytes().len()),
            Err(Errno::NAMETOOLONG) => Ok(usize::MAX),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether something is mounted on `name`, here in the mount namespace that this directory was opened in.
    pub fn is_mounted_on(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        let name = component(name.as_ref())?;
        match rustix::fs::statx(&self.0, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
            Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Attributes of this directory itself.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// What the symbolic link `name` says.
    pub fn readlink(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.0, component(name.as_ref())?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Changes the owner of `name`, not following a link.
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        let name = component(name.as_ref())?;
        Ok(rustix::fs::chownat(&self.0, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Changes the permission bits of `name`; the caller knows that it is not a symbolic link.
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let name = component(name.as_ref())?;
        Ok(rustix::fs::chmodat(&self.0, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?)
    }

    /// As [`Dir::chmod`] where somebody else may put a link in the place of `name`.
    ///
    /// # Errors
    /// `ENOTSUP` for a link.
    pub fn chmod_no_link(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let place = self.open_at(name, OFlags::PATH, 0)?;
        if file_type(&rustix::fs::fstat(&place)?) == FileType::Symlink {
            return Err(Errno::OPNOTSUPP.into());
        }
        let path = format!("/proc/self/fd/{}", place.as_raw_fd());
        Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777))?)
    }

    /// Sets the modification time (and the access time to the same) of `name`, not following a link.
    pub fn set_mtime(&self, name: impl AsRef<OsStr>, sec: i64, nsec: u32) -> io::Result<()> {
        let time = Timespec { tv_sec: sec, tv_nsec: nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        let name = component(name.as_ref())?;
        Ok(rustix::fs::utimensat(&self.0, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets owner, permission bits and modification time of this directory itself.
    pub fn set_self(&self, uid: u32, gid: u32, mode: u32, (sec, nsec): (i64, u32)) -> io::Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(&self.0, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode & 0o7777))?;
        let time = Timespec { tv_sec: sec, tv_nsec: nsec.into() };
        Ok(rustix::fs::futimens(&self.0, &Timestamps { last_access: time, last_modification: time })?)
    }

    /// The extended attributes of `name` (or of this directory for `.`), sorted by name.
    pub fn xattrs(&self, name: impl AsRef<OsStr>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let path = self.proc_path(name.as_ref())?;
        let mut names = vec![0u8; 1024];
        let len = loop {
            match rustix::fs::llistxattr(path.as_c_str(), &mut names[..]) {
                Ok(n) => break n,
                Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 8, 0),
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(e) => return Err(e.into()),
            }
        };
        let mut out = Vec::new();
        for key in names[..len].split(|b| *b == 0).filter(|k| !k.is_empty()) {
            let key = OsString::from_vec(key.to_vec());
            if let Some(value) = self.xattr(name.as_ref(), &key)? {
                out.push((key, value));
            }
        }
        out.sort();
        Ok(out)
    }

    /// One extended attribute of `name`, if it is set.
    pub fn xattr(&self, name: impl AsRef<OsStr>, key: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
        let path = self.proc_path(name.as_ref())?;
        let mut value = vec![0u8; 256];
        loop {
            match rustix::fs::lgetxattr(path.as_c_str(), key.as_ref(), &mut value[..]) {
                Ok(n) => {
                    value.truncate(n);
                    return Ok(Some(value));
                }
                Err(Errno::RANGE) if value.len() < 1 << 20 => value.resize(value.len() * 16, 0),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sets an extended attribute of `name` (or of this directory for `.`), not following a link.
    pub fn set_xattr(&self, name: impl AsRef<OsStr>, key: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
        let path = self.proc_path(name.as_ref())?;
        Ok(rustix::fs::lsetxattr(path.as_c_str(), key.as_ref(), value, XattrFlags::empty())?)
    }

    /// Removes an extended attribute of `name` (or of this directory for `.`), not following a link.
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>, key: impl AsRef<OsStr>) -> io::Result<()> {
        let path = self.proc_path(name.as_ref())?;
        Ok(rustix::fs::lremovexattr(path.as_c_str(), key.as_ref())?)
    }

    /// The names in this directory without `.` and `..`, sorted by their bytes.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        // A descriptor of its own, so that the position of this one does not matter.
        let fd = rustix::fs::openat(&self.0, c".", DIRECTORY, Mode::empty())?;
        let mut buffer = vec![MaybeUninit::uninit(); 16 * 1024];
        let mut entries = RawDir::new(fd, &mut buffer);
        let mut out = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                out.push(OsString::from_vec(name.to_vec()));
            }
        }
        out.sort();
        Ok(out)
    }

    /// Removes `name` and, if it is a directory, all below it, following no link. A missing name is fine.
    pub fn remove_tree(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = name.as_ref();
        if self.remove_simple(name)? {
            return Ok(());
        }
        // Whoever has made the tree may have made it deeper than any stack, and than descriptors can be open.
        let mut open = vec![Removing::new(name, self.child(name)?)?];
        while let Some(last) = open.last_mut() {
            let Some(child) = last.names.pop() else {
                let name = open.pop().map(|done| done.name).unwrap_or_default();
                open.last().map_or(self, |parent| &parent.dir).rmdir(&name)?;
                continue;
            };
            if last.dir.remove_simple(&child)? {
                continue;
            }
            if open.len() < DEEP {
                let last = &open[open.len() - 1].dir;
                let child = Removing::new(&child, last.child(&child)?)?;
                open.push(child);
            } else {
                let name = OsString::from(super::random::hex::<16>());
                open[DEEP - 1].dir.rename(&child, &open[0].dir, &name)?;
                open[0].names.push(name);
            }
        }
        Ok(())
    }

    /// Removes what is no directory, or an empty one. False if it is a directory with something in it.
    fn remove_simple(&self, name: &OsStr) -> io::Result<bool> {
        let name = component(name)?;
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
        match rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The bytes of all regular files below, those with several names once. What lies too deep is not counted.
    pub fn tree_size(&self) -> io::Result<u64> {
        self.size_below(&mut BTreeSet::new(), Depth::default())
    }

    fn size_below(&self, seen: &mut BTreeSet<u64>, depth: Depth) -> io::Result<u64> {
        let Ok(below) = depth.below() else { return Ok(0) };
        let mut sum = 0;
        for name in self.names()? {
            // A running container may remove a file or a folder while we look.
            let Some(stat) = self.stat_opt(&name)? else { continue };
            match file_type(&stat) {
                FileType::Directory => {
                    sum += self.child(&name).and_then(|child| child.size_below(seen, below)).unwrap_or(0);
                }
                FileType::RegularFile if stat.st_nlink == 1 || seen.insert(stat.st_ino) => sum += stat.st_size as u64,
                _ => {}
            }
        }
        Ok(sum)
    }

    /// Makes this directory's entries durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// The calls on extended attributes know only paths; `/proc` gives one that starts at our descriptor.
    fn proc_path(&self, name: &OsStr) -> io::Result<CString> {
        let mut path = format!("/proc/self/fd/{}/", self.0.as_raw_fd()).into_bytes();
        path.extend_from_slice(if name == "." { b"." } else { component(name)?.as_bytes() });
        Ok(CString::new(path)?)
    }
}

/// An absolute path without `.`, `..` and needless slashes; `..` stops at the root, whatever the path says.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

fn refuse_other_than_file(place: &OwnedFd) -> io::Result<()> {
    match file_type(&rustix::fs::fstat(place)?) {
        FileType::RegularFile => Ok(()),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Opens for reading what was opened as a place only, by a path or a name of anybody's.
///
/// # Errors
/// `InvalidInput` if it is not a regular file.
pub fn reopen_regular(place: &OwnedFd) -> io::Result<std::fs::File> {
    refuse_other_than_file(place)?;
    reopen(place)
}

/// Opens for reading what was only looked at.
fn reopen(place: &OwnedFd) -> io::Result<std::fs::File> {
    Ok(rustix::fs::open(format!("/proc/self/fd/{}", place.as_raw_fd()), READ, Mode::empty())?.into())
}

/// Whether something is in a file system that the kernel makes up as it is read, where sizes mean nothing.
pub fn is_made_up(place: impl AsFd) -> io::Result<bool> {
    // proc, sysfs, cgroup, cgroup2, devpts, mqueue.
    const KINDS: [i64; 6] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202];
    let kind = rustix::fs::fstatfs(place)?.f_type as i64;
    Ok(KINDS.contains(&kind))
}

/// The type of a file by its attributes.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether these are the attributes of an overlay whiteout: a character device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// A path for an in-root look-up: its leading slashes go, and nothing at all means the root itself.
fn in_root(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    match &bytes[start..] {
        b"" => Path::new("."),
        rest => Path::new(OsStr::from_bytes(rest)),
    }
}

fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a plain file name")));
    }
    Ok(name)
}
