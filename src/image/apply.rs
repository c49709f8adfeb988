//! Applying: the entries of a tar become files of a layer, in overlay form.
//!
//! Nothing is reached by a path string: the folder of each entry is opened inside the layer (a link on the way is
//! resolved as if the layer were the root), and names are made in it with exclusive creation. A whiteout
//! `.wh.NAME` becomes a character device 0:0, `.wh..wh..opq` the attribute `trusted.overlay.opaque`; both are about
//! lower layers only, wherever in the tar they stand.

use super::borrow::{NeedsBelow, bring_up};
use super::content::{copy_dense, copy_sparse};
use super::diff::{OPAQUE, WHITEOUT, show};
use super::feed::within;
use super::recipe::Recorder;
use super::tar::{Entry, Kind, Reader, Source, Tap, components};
use super::union::Union;
use crate::sys::depth::PATH_LIMIT;
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// The attribute that makes a directory hide what is below it.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Open folders that are remembered.
const OPEN_FOLDERS: usize = 256;

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all regular files as they are now.
    pub size: u64,
    /// Entries made.
    pub files: u64,
}

/// What sees the archive beside the unpacking.
pub trait Observer: Tap {
    /// The headers of `entry` have passed.
    fn entry(&mut self, _entry: &Entry) {}
    /// The coming content is that of the new file `path`.
    fn content(&mut self, _inode: u64, _path: &[u8], _size: u64) -> Result<()> {
        Ok(())
    }
    /// The file `name` is about to be replaced. True if it was moved away.
    fn rescue(&mut self, _parent: &Dir, _name: &OsStr, _stat: &Stat) -> Result<bool> {
        Ok(false)
    }
    /// Something in the archive has left no trace in the tree.
    fn not_canonical(&mut self) {}
    /// Whether content is wanted by reference.
    fn records(&self) -> bool {
        false
    }
}

impl Observer for () {}

impl Observer for Recorder {
    fn entry(&mut self, entry: &Entry) {
        Recorder::entry(self, entry);
    }
    fn content(&mut self, inode: u64, path: &[u8], size: u64) -> Result<()> {
        Recorder::content(self, inode, path, size)
    }
    fn rescue(&mut self, parent: &Dir, name: &OsStr, stat: &Stat) -> Result<bool> {
        Recorder::rescue(self, parent, name, stat)
    }
    fn not_canonical(&mut self) {
        Recorder::not_canonical(self);
    }
    fn records(&self) -> bool {
        true
    }
}

/// Unpacks the tar in `source` into the empty folder `fs` and reads `source` to its end. There may be up to `limit` bytes
/// of files that the tar does not hold: holes, which whoever reads the files takes for zeros, and files of the layers
/// `below` that it links to, each of which comes once for each of its names.
///
/// # Errors
/// [`super::borrow::NeedsBelow`] for a hard link to a file that is neither in the tar nor in `below`.
pub fn unpack<S: Source, T: Observer>(
    source: S,
    fs: &Dir,
    below: Option<&Union>,
    limit: u64,
    observer: T,
) -> Result<(Unpacked, T)> {
    let mut reader = Reader::new(source, observer);
    let mut unpacker = Unpacker {
        fs,
        below,
        limit,
        claimed: 0,
        folders: HashMap::new(),
        last: None,
        times: Vec::new(),
        sizes: HashMap::new(),
        unpacked: Unpacked::default(),
    };
    while let Some(entry) = reader.next()? {
        let result = unpacker.place(&entry, &mut reader);
        result.with_context(|| format!("unpack {:?}", String::from_utf8_lossy(&entry.path)))?;
    }
    unpacker.set_folder_times()?;
    unpacker.unpacked.size = unpacker.sizes.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
    Ok((unpacker.unpacked, reader.finish()?))
}

/// Whether a layer keeps this extended attribute: not those that steer overlayfs or belong to one host's policy.
pub fn keeps_xattr(name: &[u8]) -> bool {
    let mut parts = name.splitn(3, |b| *b == b'.').skip(1);
    parts.next() != Some(b"overlay") && !matches!(name, b"security.selinux" | b"security.ima" | b"security.evm")
}

/// A folder of the layer, and whether its path has no link in it.
#[derive(Clone)]
struct Folder {
    dir: Rc<Dir>,
    is_plain: bool,
}

impl Folder {
    /// Links on links lead to any depth, and what is too deep could not even be removed again.
    fn within_reach(self) -> Result<Folder> {
        if !self.is_plain && self.dir.path_length()? >= PATH_LIMIT {
            bail!("a folder lies too deep, behind links");
        }
        Ok(self)
    }
}

struct Unpacker<'a> {
    fs: &'a Dir,
    below: Option<&'a Union>,
    limit: u64,
    /// Bytes of sparse files and of those that were copied from below.
    claimed: u64,
    folders: HashMap<Vec<u8>, Folder>,
    last: Option<(Vec<u8>, Folder)>,
    /// Directories whose time is set when nothing is made in them any more: path, inode, time.
    times: Vec<(Vec<u8>, u64, (i64, u32))>,
    /// Sizes of the regular files that are there, by inode.
    sizes: HashMap<u64, u64>,
    unpacked: Unpacked,
}

impl Unpacker<'_> {
    fn place<S: Source, T: Observer>(&mut self, entry: &Entry, reader: &mut Reader<S, T>) -> Result<()> {
        reader.tap().entry(entry);
        let parts = components(&entry.path).context("the path leads outside")?;
        let Some((name, parents)) = parts.split_last() else {
            // The root's own attributes are those of the container, not of a layer.
            reader.tap().not_canonical();
            return if entry.kind == Kind::Directory { Ok(()) } else { bail!("the path is empty") };
        };
        if parents.iter().any(|p| p.starts_with(b".wh..wh.")) || is_aufs_metadata(name) {
            reader.tap().not_canonical();
            return Ok(());
        }
        if parents.iter().any(|p| p.starts_with(WHITEOUT)) {
            bail!("the path goes through a whiteout");
        }
        let parent = self.folder(parents, entry.mtime)?;
        if *name == OPAQUE {
            return Ok(parent.dir.set_xattr(".", OPAQUE_XATTR, b"y")?);
        }
        self.unpacked.files += 1;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&parent.dir, hidden);
        }
        let path = parts.join(&b'/');
        let name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::File => self.file(&parent, name, &path, entry, reader),
            Kind::Directory => self.directory(&parent.dir, name, path, entry, reader),
            Kind::HardLink => self.hard_link(&parent.dir, name, entry, reader),
            Kind::Symlink | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                self.special(&parent.dir, name, entry, reader)
            }
        }
    }

    /// Opens the folder at `parts`, making what is missing of it.
    fn folder(&mut self, parts: &[&[u8]], time: (i64, u32)) -> Result<Folder> {
        let path = parts.join(&b'/');
        if let Some((last, folder)) = &self.last
            && *last == path
        {
            return Ok(folder.clone());
        }
        let folder = match self.folders.get(&path) {
            Some(folder) => folder.clone(),
            None => {
                let folder = self.open_folder(parts, &path, time)?;
                if self.folders.len() >= OPEN_FOLDERS {
                    self.folders.clear();
                }
                self.folders.insert(path.clone(), folder.clone());
                folder
            }
        };
        self.last = Some((path, folder.clone()));
        Ok(folder)
    }

    fn open_folder(&mut self, parts: &[&[u8]], path: &[u8], time: (i64, u32)) -> Result<Folder> {
        if path.len() >= PATH_LIMIT {
            bail!("the path is longer than {PATH_LIMIT} bytes");
        }
        // The deepest folder that is there: if one is missing, all below it are.
        let (mut there, mut missing) = (0, parts.len() + 1);
        let mut folder = self.existing_folder(b"")?.context("the layer's folder is gone")?;
        let mut next = parts.len();
        while there + 1 < missing {
            match self.existing_folder(&parts[..next].join(&b'/'))? {
                Some(found) => (folder, there) = (found, next),
                None => missing = next,
            }
            next = there.midpoint(missing);
        }
        // A tree may be deeper than a stack, so the rest is made one after the other.
        for depth in there..parts.len() {
            folder = self.make_folder(&folder, &parts[..=depth], time)?;
        }
        Ok(folder)
    }

    /// Opens the folder at `path`; `None` if it is missing, or a whiteout stands where a folder should be.
    fn existing_folder(&self, path: &[u8]) -> Result<Option<Folder>> {
        let at = Path::new(OsStr::from_bytes(path));
        match self.fs.dir_without_links(at) {
            Ok(dir) => Ok(Some(Folder { dir: Rc::new(dir), is_plain: true })),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                // A link to a folder that was there before; where it leads to nothing, what is missing is an error.
                let found = self.fs.dir_in_root(at).ok().map(|dir| Folder { dir: Rc::new(dir), is_plain: false });
                found.map(Folder::within_reach).transpose()
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("open the folder {}", at.display())),
        }
    }

    /// Makes the last folder of `parts` in its parent.
    fn make_folder(&mut self, parent: &Folder, parts: &[&[u8]], time: (i64, u32)) -> Result<Folder> {
        let path = parts.join(&b'/');
        let name = OsStr::from_bytes(parts.last().context("the layer's folder is gone")?);
        let is_hidden = parent.dir.stat_opt(name)?.is_some_and(|stat| is_whiteout(&stat));
        if is_hidden {
            parent.dir.unlink(name)?;
        }
        let made = parent.dir.mkdir(name, 0o755);
        made.with_context(|| format!("make the folder {}", Path::new(OsStr::from_bytes(&path)).display()))?;
        parent.dir.chown(name, 0, 0)?;
        parent.dir.chmod(name, 0o755)?;
        let dir = parent.dir.child(name)?;
        self.unpacked.files += 1;
        if is_hidden {
            dir.set_xattr(".", OPAQUE_XATTR, b"y")?;
        }
        let inode = dir.stat_self()?.st_ino;
        self.times.push((path, inode, time));
        Folder { dir: Rc::new(dir), is_plain: parent.is_plain }.within_reach()
    }

    fn whiteout(&mut self, parent: &Dir, hidden: &[u8]) -> Result<()> {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            bail!("the whiteout hides nothing that has a name");
        }
        let name = OsStr::from_bytes(hidden);
        match parent.stat_opt(name)? {
            None => {
                parent.mknod(name, FileType::CharacterDevice, 0, 0).context("make a whiteout")?;
                // The folder may hand its group down.
                parent.chown(name, 0, 0)?;
                Ok(parent.set_mtime(name, 0, 0)?)
            }
            Some(stat) if file_type(&stat) == FileType::Directory => {
                Ok(parent.child(name)?.set_xattr(".", OPAQUE_XATTR, b"y")?)
            }
            // Anything else of this layer hides what is below it anyway.
            Some(_) => Ok(()),
        }
    }

    /// Makes way for a new `name`. True if a whiteout was there.
    fn clear<T: Observer>(&mut self, parent: &Dir, name: &OsStr, observer: &mut T) -> Result<bool> {
        observer.not_canonical();
        let stat = parent.stat(name)?;
        match file_type(&stat) {
            FileType::Directory => {
                let dir = parent.child(name)?;
                for child in dir.names()? {
                    self.clear(&dir, &child, observer)?;
                }
                parent.rmdir(name)?;
                self.forget_folders();
            }
            kind => {
                if kind == FileType::RegularFile && stat.st_nlink == 1 {
                    self.sizes.remove(&stat.st_ino);
                }
                if kind == FileType::Symlink {
                    self.forget_folders();
                }
                if kind != FileType::RegularFile || !observer.rescue(parent, name, &stat)? {
                    parent.unlink(name)?;
                }
            }
        }
        Ok(is_whiteout(&stat))
    }

    /// What was opened may lie under another name now, or under none.
    fn forget_folders(&mut self) {
        self.folders.clear();
        self.last = None;
    }

    fn file<S: Source, T: Observer>(
        &mut self,
        parent: &Folder,
        name: &OsStr,
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<S, T>,
    ) -> Result<()> {
        if entry.segments.is_some() {
            claim(self.limit, &mut self.claimed, entry.size)?;
        }
        let file = match parent.dir.create(name, 0o600) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                self.clear(&parent.dir, name, reader.tap())?;
                parent.dir.create(name, 0o600)
            }
            other => other,
        };
        let file = file.context("make the file")?;
        let inode = if entry.size > 0 || reader.tap().records() { rustix::fs::fstat(&file)?.st_ino } else { 0 };
        if entry.size > 0 {
            self.sizes.insert(inode, entry.size);
            if entry.segments.is_none() && parent.is_plain && reader.tap().records() {
                reader.tap().content(inode, path, entry.size)?;
                reader.leave_content_out();
            }
        }
        match &entry.segments {
            None => copy_dense(&file, reader)?,
            Some(segments) => copy_sparse(&file, segments, entry.size, reader)?,
        }
        rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .context("set the owner")?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).context("set the mode")?;
        for (key, value) in &entry.xattrs {
            if keeps_xattr(key) {
                let set = rustix::fs::fsetxattr(&file, OsStr::from_bytes(key), value, XattrFlags::empty());
                tolerate(key, set.map_err(io::Error::from), reader.tap())?;
            }
        }
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).context("set the time")?;
        Ok(())
    }

    fn directory<S: Source, T: Observer>(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        path: Vec<u8>,
        entry: &Entry,
        reader: &mut Reader<S, T>,
    ) -> Result<()> {
        match parent.mkdir(name, 0o700) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                reader.tap().not_canonical();
                if file_type(&parent.stat(name)?) != FileType::Directory {
                    let was_hidden = self.clear(parent, name, reader.tap())?;
                    parent.mkdir(name, 0o700).context("make the folder")?;
                    if was_hidden {
                        parent.set_xattr(name, OPAQUE_XATTR, b"y")?;
                    }
                }
            }
            Err(e) => return Err(e).context("make the folder"),
        }
        self.describe(parent, name, entry, reader.tap())?;
        let inode = parent.stat(name)?.st_ino;
        self.times.push((path, inode, entry.mtime));
        Ok(())
    }

    fn special<S: Source, T: Observer>(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        entry: &Entry,
        reader: &mut Reader<S, T>,
    ) -> Result<()> {
        if parent.stat_opt(name)?.is_some() {
            self.clear(parent, name, reader.tap())?;
        }
        let (major, minor) = entry.device;
        let node = |kind| parent.mknod(name, kind, 0o600, rustix::fs::makedev(major, minor)).context("make the node");
        match entry.kind {
            Kind::Symlink => parent.symlink(OsStr::from_bytes(&entry.link), name).context("make the link")?,
            Kind::Fifo => parent.mknod(name, FileType::Fifo, 0o600, 0).context("make the fifo")?,
            _ if entry.device == (0, 0) => bail!("the device 0:0 is not allowed in a layer"),
            Kind::CharDevice => node(FileType::CharacterDevice)?,
            _ => node(FileType::BlockDevice)?,
        }
        self.describe(parent, name, entry, reader.tap())?;
        Ok(parent.set_mtime(name, entry.mtime.0, entry.mtime.1)?)
    }

    /// Sets owner, mode and extended attributes; the mode after the owner, whose change clears bits of it.
    fn describe<T: Observer>(&self, parent: &Dir, name: &OsStr, entry: &Entry, observer: &mut T) -> Result<()> {
        parent.chown(name, entry.uid, entry.gid).context("set the owner")?;
        if entry.kind != Kind::Symlink {
            parent.chmod(name, entry.mode).context("set the mode")?;
        }
        for (key, value) in &entry.xattrs {
            if keeps_xattr(key) {
                tolerate(key, parent.set_xattr(name, OsStr::from_bytes(key), value), observer)?;
            }
        }
        Ok(())
    }

    fn hard_link<S: Source, T: Observer>(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        entry: &Entry,
        reader: &mut Reader<S, T>,
    ) -> Result<()> {
        let parts = components(&entry.link).context("the link's target leads outside")?;
        let (target, folders) = parts.split_last().context("the link has no target")?;
        let target = OsStr::from_bytes(target);
        let open = |unpacker: &Self| unpacker.fs.dir_in_root(Path::new(OsStr::from_bytes(&folders.join(&b'/'))));
        let there = open(self).ok().map(|dir| dir.stat_opt(target)).transpose()?.flatten();
        let found = match there {
            Some(found) if !is_whiteout(&found) => found,
            Some(_) => return Err(NeedsBelow(entry.link.clone()).into()),
            None => self.bring_up(&parts, reader.tap())?,
        };
        let from = open(self).with_context(|| format!("open the folder of {}", show(&entry.link)))?;
        if let Some(old) = parent.stat_opt(name)? {
            if (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino) {
                reader.tap().not_canonical();
                return Ok(());
            }
            self.clear(parent, name, reader.tap())?;
        }
        parent.link(&from, target, name).context("make the hard link")
    }

    fn bring_up<T: Observer>(&mut self, parts: &[&[u8]], observer: &mut T) -> Result<Stat> {
        let Some(below) = self.below else { return Err(NeedsBelow(parts.join(&b'/')).into()) };
        observer.not_canonical();
        let (stat, made) = bring_up(below, parts, self.fs, &mut |stat| {
            claim(self.limit, &mut self.claimed, u64::try_from(stat.st_size).unwrap_or(0))
        })?;
        self.forget_folders();
        self.times.extend(made);
        self.sizes.insert(stat.st_ino, u64::try_from(stat.st_size).unwrap_or(0));
        self.unpacked.files += 1;
        Ok(stat)
    }

    /// Times of directories come last: making things in them would change them again.
    fn set_folder_times(&mut self) -> Result<()> {
        let times = std::mem::take(&mut self.times);
        self.forget_folders();
        // Of several entries about one directory the last one counts.
        for (path, inode, time) in &times {
            let (parents, name) = match path.iter().rposition(|b| *b == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&path[..0], &path[..]),
            };
            let parts: Vec<&[u8]> = parents.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
            // A directory that was replaced later has no time to set.
            if self.fs.dir_in_root(Path::new(OsStr::from_bytes(parents))).is_err() {
                continue;
            }
            let parent = self.folder(&parts, (0, 0))?;
            let name = OsStr::from_bytes(name);
            if parent.dir.stat_opt(name)?.is_some_and(|stat| stat.st_ino == *inode) {
                parent.dir.set_mtime(name, time.0, time.1).context("set the time of a folder")?;
            }
        }
        Ok(())
    }
}

/// Counts bytes that a few of the archive stand for.
fn claim(limit: u64, claimed: &mut u64, bytes: u64) -> io::Result<()> {
    *claimed = claimed.saturating_add(bytes);
    within(limit, *claimed)
}

/// `.wh..wh.plnk` and the like, which AUFS kept beside the files.
fn is_aufs_metadata(name: &[u8]) -> bool {
    name.starts_with(b".wh..wh.") && name != OPAQUE
}

/// An attribute that the store's file system cannot hold is dropped, except one that security rests on.
fn tolerate<T: Observer>(key: &[u8], set: io::Result<()>, observer: &mut T) -> Result<()> {
    match set {
        Err(e)
            if key != b"security.capability"
                && matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) =>
        {
            observer.not_canonical();
            Ok(())
        }
        other => other.with_context(|| format!("set the attribute {:?}", String::from_utf8_lossy(key))),
    }
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
