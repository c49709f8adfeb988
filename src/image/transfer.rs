//! Trees outside of layers, moved as streams of entries: what is copied from and to containers, and volumes.
//!
//! ```text
//! pack (walks a tree) ──┐              ┌──▶ Place (makes files)
//!                       ├──▶ entries ──┤
//! unpack (reads a tar) ─┘              └──▶ Tar (writes a tar)
//! ```
//! Whoever owns a tree may change it meanwhile, and may be hostile: nothing is reached but by descriptors and single
//! names, nothing is opened before it is known to be a file, and no link is followed unless the tree's owner meant it.

use super::apply::keeps_xattr;
use super::diff::{Links, describe_as_is, join, show};
use super::feed::{Wanted, with_feed};
use super::tar::{END, Reader, Segment, Source, components, encode, padding};
use crate::sys::depth;
use crate::sys::dir::{Dir, file_type, is_made_up};
use crate::sys::file::read_all_limited;
use crate::sys::random;
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use super::tar::{Entry, Kind};

/// A file that the kernel makes up is not larger.
const MADE_UP_LIMIT: u64 = 16 << 20;

/// Bytes that are moved at once.
const PIECE: usize = 256 << 10;

/// Where entries go.
pub trait Sink {
    /// Takes an entry; of a file, `content` gives its `size` bytes, or those of its segments if it has holes.
    fn put(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()>;
    /// No more entries come.
    fn finish(&mut self) -> Result<()>;
}

/// Sends what is called `name` in `dir`, and all below it, under the path `path`.
///
/// # Errors
/// `NotFound` if there is nothing of this name; what vanishes below it meanwhile is left out.
pub fn pack(dir: &Dir, name: &OsStr, path: &[u8], sink: &mut dyn Sink) -> Result<()> {
    let stat = dir.stat(name).with_context(|| format!("look at {}", show(path)))?;
    Walk { sink, links: Links::default() }.one(dir, name, path, &stat)
}

/// Sends a directory and all below it under the path `path`; `.` makes paths that begin with `./`.
pub fn pack_directory(dir: &Dir, path: &[u8], sink: &mut dyn Sink) -> Result<()> {
    let stat = dir.stat_self().with_context(|| format!("look at {}", show(path)))?;
    let mut walk = Walk { sink, links: Links::default() };
    if let Some(entry) = describe_as_is(dir, OsStr::new("."), path, &stat, &mut walk.links)? {
        walk.sink.put(entry, &mut io::empty())?;
    }
    walk.below(dir, path)
}

struct Walk<'a> {
    sink: &'a mut dyn Sink,
    links: Links,
}

impl Walk<'_> {
    fn one(&mut self, dir: &Dir, name: &OsStr, path: &[u8], stat: &Stat) -> Result<()> {
        let what = || format!("read {}", show(path));
        match file_type(stat) {
            FileType::Directory => {
                let Some(child) = unless_gone(dir.child(name)).with_context(what)? else { return Ok(()) };
                let stat = child.stat_self().with_context(what)?;
                let entry = describe_as_is(&child, OsStr::new("."), path, &stat, &mut self.links).with_context(what)?;
                if let Some(entry) = entry {
                    self.sink.put(entry, &mut io::empty())?;
                }
                // The kernel's views are no files of anybody's.
                let is_view = stat.st_dev != dir.stat_self()?.st_dev && is_made_up(&child).with_context(what)?;
                if is_view { Ok(()) } else { self.below(&child, path) }
            }
            FileType::RegularFile => {
                let Some(mut file) = unless_gone(dir.open_regular(name)).with_context(what)? else { return Ok(()) };
                let stat = rustix::fs::fstat(&file).map_err(io::Error::from).with_context(what)?;
                let entry = describe_as_is(dir, name, path, &stat, &mut self.links).with_context(what)?;
                let Some(mut entry) = entry else { return Ok(()) };
                if entry.size == 0 && entry.kind == Kind::File && is_made_up(&file).with_context(what)? {
                    let text = read_all_limited(&mut file, MADE_UP_LIMIT).with_context(what)?;
                    entry.size = text.len() as u64;
                    return self.sink.put(entry, &mut text.as_slice());
                }
                self.sink.put(entry, &mut file)
            }
            _ => {
                let entry = describe_as_is(dir, name, path, stat, &mut self.links).with_context(what)?;
                entry.map_or(Ok(()), |entry| self.sink.put(entry, &mut io::empty()))
            }
        }
    }

    fn below(&mut self, dir: &Dir, path: &[u8]) -> Result<()> {
        depth::check(path)?;
        for name in dir.names().with_context(|| format!("list {}", show(path)))? {
            let path = join(path, name.as_bytes());
            let Some(stat) = dir.stat_opt(&name).with_context(|| format!("look at {}", show(&path)))? else { continue };
            self.one(dir, &name, &path, &stat)?;
        }
        Ok(())
    }
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Sends the entries of a tar (plain or compressed) and reads it to its end.
///
/// # Errors
/// What is no archive; an empty stream is none either.
pub fn unpack(source: impl Read + Send, sink: &mut dyn Sink) -> Result<()> {
    let ((), seen) = with_feed(source, Wanted::default(), u64::MAX, |feed| {
        let mut reader = Reader::new(feed, ());
        while let Some(entry) = reader.next()? {
            sink.put(entry, &mut Content(&mut reader))?;
        }
        reader.finish()
    })?;
    if seen.plain_bytes == 0 {
        bail!("unexpected EOF: the archive is empty");
    }
    sink.finish()
}

/// What an archive stores of its current entry.
struct Content<'a, S>(&'a mut Reader<S, ()>);

impl<S: Source> Read for Content<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.content()?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.0.consume(length).map_err(io::Error::other)?;
        Ok(length)
    }
}

/// Bytes that an entry takes in a tar, with its time in whole seconds as most tars have it.
pub fn tar_size(entry: &Entry) -> u64 {
    let plain = Entry { mtime: (entry.mtime.0, 0), ..entry.clone() };
    encode(&plain).len() as u64 + entry.size + padding(entry.size) as u64
}

/// Writes a tar.
#[derive(Debug)]
pub struct Tar<W: Write>(pub W);

impl<W: Write> Sink for Tar<W> {
    fn put(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()> {
        self.0.write_all(&encode(&entry)).context("write the archive")?;
        let mut content = content.take(entry.size);
        let mut buffer = vec![0u8; usize::try_from(entry.size).unwrap_or(PIECE).min(PIECE)];
        let mut left = entry.size;
        while left > 0 {
            let length = content.read(&mut buffer).with_context(|| format!("read {}", show(&entry.path)))?;
            if length == 0 {
                bail!("{} became shorter while it was read", show(&entry.path));
            }
            self.0.write_all(&buffer[..length]).context("write the archive")?;
            left -= length as u64;
        }
        self.0.write_all(&[0u8; 512][..padding(entry.size)]).context("write the archive")
    }

    fn finish(&mut self) -> Result<()> {
        self.0.write_all(&END).and_then(|()| self.0.flush()).context("write the archive")
    }
}

/// How the folders on the way to an entry are found.
#[derive(Debug)]
pub enum Way {
    /// Every one came as an entry before, so no link is among them.
    Made,
    /// As in the tree `root`, in which the base is at this path: links there lead where they lead in it, and folders
    /// that are missing are made.
    InTree {
        /// The top of the tree.
        root: Dir,
        /// Where in it the base is.
        at: PathBuf,
    },
}

/// Makes files below a folder.
#[derive(Debug)]
pub struct Place {
    base: Dir,
    way: Way,
    /// How the folder is called in messages.
    shown: String,
    makes_parents: bool,
    /// Who owns what is made; `None` leaves it as the entries say.
    owner: Option<(u32, u32)>,
    last: Option<(Vec<u8>, Rc<Dir>)>,
    /// Times of directories, set when nothing is made in them any more.
    times: Vec<(Vec<u8>, (i64, u32))>,
}

impl Place {
    /// A sink that fills the folder `base`, which messages call `shown`.
    pub fn new(base: Dir, way: Way, shown: &str, owner: Option<(u32, u32)>) -> Place {
        Place { base, way, shown: shown.to_owned(), makes_parents: false, owner, last: None, times: Vec::new() }
    }

    /// Lets folders that no entry made be made on the way.
    pub fn make_parents(&mut self) {
        self.makes_parents = true;
    }

    fn folder(&mut self, parts: &[&[u8]]) -> Result<Rc<Dir>> {
        let path = parts.join(&b'/');
        if let Some((last, dir)) = &self.last
            && *last == path
        {
            return Ok(dir.clone());
        }
        let relative = Path::new(OsStr::from_bytes(&path));
        let opened = match &self.way {
            _ if path.is_empty() => self.base.try_clone(),
            Way::Made => match self.base.dir_without_links(relative) {
                Err(e) if self.makes_parents && e.kind() == ErrorKind::NotFound => make_all(&self.base, parts),
                opened => opened,
            },
            Way::InTree { root, at } => root.mkdir_all_in_root(at.join(relative), 0o755),
        };
        let dir = Rc::new(opened.with_context(|| format!("open the folder {} in {}", show(&path), self.shown))?);
        self.last = Some((path, dir.clone()));
        Ok(dir)
    }

    fn full(&self, path: &[u8]) -> String {
        format!("{:?}", Path::new(&self.shown).join(OsStr::from_bytes(path)))
    }

    fn directory(&mut self, parent: &Dir, name: &OsStr, entry: &Entry) -> Result<()> {
        match parent.mkdir(name, 0o700) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let dir = parent.child(name)?;
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        dir.set_self(uid, gid, entry.mode, entry.mtime)?;
        set_xattrs(entry, |key, value| dir.set_xattr(".", key, value))
    }

    fn other(&mut self, parent: &Dir, name: &OsStr, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        // Renaming over it would take the mount away from those who see it.
        if parent.is_mounted_on(name)? {
            bail!("device or resource busy: something is mounted there");
        }
        let aside = format!(".minirun-{}", random::hex::<6>());
        let made = match entry.kind {
            Kind::File => self.file(parent, OsStr::new(&aside), entry, content),
            Kind::HardLink => self.hard_link(parent, OsStr::new(&aside), entry),
            _ => self.special(parent, OsStr::new(&aside), entry),
        };
        let placed = made.and_then(|()| Ok(parent.rename(&aside, parent, name)?));
        // Two names of one file cannot replace each other.
        if placed.is_err() || entry.kind == Kind::HardLink {
            let _ = parent.unlink(&aside);
        }
        placed
    }

    fn file(&self, parent: &Dir, aside: &OsStr, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let file = parent.create(aside, 0o600)?;
        match &entry.segments {
            None => fill(&file, content, Segment { offset: 0, length: entry.size })?,
            // A few bytes may tell of any number of zeros: holes are not read.
            Some(segments) => segments.iter().try_for_each(|segment| fill(&file, content, *segment))?,
        }
        file.set_len(entry.size).context("set its size")?;
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        let io = io::Error::from;
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(io)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(io)?;
        set_xattrs(entry, |key, value| Ok(rustix::fs::fsetxattr(&file, key, value, XattrFlags::empty())?))?;
        let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::futimens(&file, &times).map_err(io)?)
    }

    fn hard_link(&mut self, parent: &Dir, aside: &OsStr, entry: &Entry) -> Result<()> {
        let parts = components(&entry.link);
        let Some((name, folders)) = parts.as_deref().and_then(|p| p.split_last()) else {
            bail!("the link's target {} is outside of {}", show(&entry.link), self.shown);
        };
        let from = self.folder(folders)?;
        Ok(parent.link(&from, OsStr::from_bytes(name), aside)?)
    }

    fn special(&self, parent: &Dir, aside: &OsStr, entry: &Entry) -> Result<()> {
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        match entry.kind {
            Kind::Symlink => parent.symlink(OsStr::from_bytes(&entry.link), aside)?,
            Kind::Fifo => parent.mknod(aside, FileType::Fifo, 0o600, 0)?,
            Kind::CharDevice => parent.mknod(aside, FileType::CharacterDevice, 0o600, device)?,
            _ => parent.mknod(aside, FileType::BlockDevice, 0o600, device)?,
        }
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        parent.chown(aside, uid, gid)?;
        if entry.kind != Kind::Symlink {
            parent.chmod_no_link(aside, entry.mode)?;
        }
        set_xattrs(entry, |key, value| parent.set_xattr(aside, key, value))?;
        Ok(parent.set_mtime(aside, entry.mtime.0, entry.mtime.1)?)
    }
}

impl Sink for Place {
    fn put(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()> {
        let Some(parts) = components(&entry.path) else {
            bail!("{} is outside of {:?}", show(&entry.path), self.shown);
        };
        let is_directory = entry.kind == Kind::Directory;
        let Some((name, parents)) = parts.split_last() else {
            return if is_directory { Ok(()) } else { bail!("an entry of the archive has no name") };
        };
        let parent = self.folder(parents)?;
        let file_name = OsStr::from_bytes(name);
        let existing = parent.stat_opt(file_name).with_context(|| format!("look at {}", show(&entry.path)))?;
        let shown = || self.full(&parts.join(&b'/'));
        match existing.map(|stat| file_type(&stat) == FileType::Directory) {
            Some(true) if !is_directory => {
                bail!("cannot overwrite directory {} with non-directory {:?}", shown(), self.shown)
            }
            Some(false) if is_directory => {
                bail!("cannot overwrite non-directory {} with directory {:?}", shown(), self.shown)
            }
            _ => {}
        }
        let shown = shown();
        if !is_directory {
            return self.other(&parent, file_name, &entry, content).with_context(|| format!("make {shown}"));
        }
        self.directory(&parent, file_name, &entry).with_context(|| format!("make the folder {shown}"))?;
        self.times.push((parts.join(&b'/'), entry.mtime));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.times) {
            let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
            let Some((name, parents)) = parts.split_last() else { continue };
            let set = self.folder(parents)?.set_mtime(OsStr::from_bytes(name), time.0, time.1);
            set.with_context(|| format!("set the time of the folder {}", show(&path)))?;
        }
        Ok(())
    }
}

/// Makes the folders of a path that are missing; links on the way are refused.
fn make_all(base: &Dir, parts: &[&[u8]]) -> io::Result<Dir> {
    parts.iter().try_fold(base.try_clone()?, |dir, name| {
        let name = OsStr::from_bytes(name);
        match dir.mkdir(name, 0o755) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => dir.child(name),
        }
    })
}

/// Gives one open directory the owner, mode, attributes and time of another.
pub fn describe_directory(from: &Dir, to: &Dir) -> Result<()> {
    super::copy::describe_self(from, to)
}

/// Writes one piece of a file's content; zeros in it become holes.
fn fill(file: &File, content: &mut dyn Read, Segment { offset, length: size }: Segment) -> Result<()> {
    let mut buffer = vec![0u8; usize::try_from(size).unwrap_or(PIECE).min(PIECE)];
    let mut done = 0;
    while done < size {
        let wanted = usize::try_from(size - done).unwrap_or(PIECE).min(buffer.len());
        let length = content.read(&mut buffer[..wanted]).context("read its content")?;
        if length == 0 {
            bail!("it became shorter while it was read");
        }
        let is_hole = length >= 4096 && buffer[..length].iter().all(|b| *b == 0);
        if !is_hole {
            file.write_all_at(&buffer[..length], offset + done).context("write its content")?;
        }
        done += length as u64;
    }
    Ok(())
}

/// An attribute that the file system cannot hold is dropped, except one that security rests on.
fn set_xattrs(entry: &Entry, set: impl Fn(&OsStr, &[u8]) -> io::Result<()>) -> Result<()> {
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| keeps_xattr(key)) {
        match set(OsStr::from_bytes(key), value) {
            Err(e)
                if key != b"security.capability"
                    && matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {}
            other => other.with_context(|| format!("set the attribute {}", show(key)))?,
        }
    }
    Ok(())
}
