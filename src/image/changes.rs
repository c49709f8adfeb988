//! What a container has changed: a walk over its own directory that leaves out what is as below.
//!
//! What overlayfs copied up but nobody changed is left out, as is a whiteout that hides nothing, and a directory that
//! is itself unchanged and has nothing in it that stays. Each entry that stays is read once and goes two ways: as
//! canonical tar to the thread that computes the diff id, and to the thread that makes the new layer.

use super::copy::pieces;
use super::diff::{self, Links, describe, join, marker, show};
use super::feed::HashSink;
use super::place::{Placer, Step};
use super::tar::{END, Entry, Kind, encode, padding};
use super::union::{Found, Merged};
use crate::sys::depth;
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, Stat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

mod merged;

/// A directory on the way to the current one; it is made when something in it is kept.
struct Level {
    name: OsString,
    entry: Entry,
    opaque: bool,
    is_made: bool,
}

/// The walk.
pub struct Changes<'a> {
    out: &'a mut HashSink,
    placer: Placer,
    levels: Vec<Level>,
    links: Links,
    buffer: Vec<u8>,
    files: u64,
    size: u64,
    /// No entry is newer than this second.
    newest: Option<i64>,
}

impl<'a> Changes<'a> {
    pub fn new(out: &'a mut HashSink, placer: Placer) -> Changes<'a> {
        Changes {
            out,
            placer,
            levels: Vec::new(),
            links: Links::default(),
            buffer: Vec::new(),
            files: 0,
            size: 0,
            newest: None,
        }
    }

    /// Makes times after this second this second.
    pub fn no_newer_than(self, newest: Option<i64>) -> Changes<'a> {
        Changes { newest, ..self }
    }

    fn clamped(&self, entry: Entry) -> Entry {
        match self.newest {
            Some(newest) if entry.mtime >= (newest, 0) => Entry { mtime: (newest, 0), ..entry },
            _ => entry,
        }
    }

    /// Ends the tar; gives the number of entries and the bytes of regular files.
    pub fn finish(mut self) -> Result<(u64, u64)> {
        self.out.write_all(&END)?;
        self.placer.flush()?;
        Ok((self.files, self.size))
    }

    /// Goes through the directory `upper`, above which `path` stands, and compares it with `below`.
    pub fn walk(&mut self, upper: &Dir, below: &Merged, path: Vec<u8>) -> Result<()> {
        for name in upper.names().with_context(|| format!("read the folder {}", show(&path)))? {
            let path = join(&path, name.as_bytes());
            let Some(stat) = upper.stat_opt(&name).with_context(|| format!("read {}", show(&path)))? else { continue };
            let found = below.lookup(&name)?;
            if file_type(&stat) == FileType::Directory {
                self.directory(upper, &name, path, &stat, below, found)?;
            } else if is_whiteout(&stat) {
                if found.is_some() {
                    self.whiteout(path, name)?;
                }
            } else {
                let unchanged = match &found {
                    Some(found) => unless_gone(is_same(upper, &name, &stat, below, found)),
                    None => Ok(Some(false)),
                };
                if unchanged.with_context(|| format!("compare {}", show(&path)))? == Some(false) {
                    self.leaf(upper, &name, &path, &stat).with_context(|| format!("copy {}", show(&path)))?;
                }
            }
        }
        Ok(())
    }

    fn directory(
        &mut self,
        upper: &Dir,
        name: &OsStr,
        path: Vec<u8>,
        stat: &Stat,
        below: &Merged,
        found: Option<Found>,
    ) -> Result<()> {
        let child = unless_gone(upper.child(name)).with_context(|| format!("open the folder {}", show(&path)))?;
        let Some(child) = child else { return Ok(()) };
        if child.xattr(".", "trusted.overlay.redirect")?.is_some() {
            bail!("{} was renamed by overlayfs in a way that a layer cannot hold", show(&path));
        }
        let under = match found.filter(|found| file_type(&found.stat) == FileType::Directory) {
            Some(found) => Some((found, below.enter(name, &found)?)),
            None => None,
        };
        let is_opaque = diff::is_opaque(&child)?;
        // Overlayfs marks every directory that it makes; the mark matters only above something.
        let opaque = is_opaque && under.as_ref().is_some_and(|(_, merged)| merged.names().is_ok_and(|n| !n.is_empty()));
        let entry = unless_gone(describe(upper, name, &path, stat, &mut self.links))?.flatten();
        let same = match &under {
            Some((found, _)) if !opaque => unless_gone(has_same_attributes(upper, name, stat, below, found))?,
            _ => Some(false),
        };
        let (Some(entry), Some(same)) = (entry, same) else { return Ok(()) };
        self.levels.push(Level { name: name.to_owned(), entry: self.clamped(entry), opaque, is_made: false });
        if !same {
            self.make_levels()?;
        }
        let under = under.map(|(_, merged)| merged).filter(|_| !is_opaque).unwrap_or_default();
        depth::check(&path)?;
        self.walk(&child, &under, path)?;
        match self.levels.pop() {
            Some(level) if level.is_made => self.placer.send(Step::Leave(level.name, level.entry)),
            _ => Ok(()),
        }
    }

    /// Makes the directories down to the current one that are not there yet.
    fn make_levels(&mut self) -> Result<()> {
        for level in self.levels.iter_mut().filter(|level| !level.is_made) {
            self.out.write_all(&encode(&level.entry))?;
            if level.opaque {
                let path = [level.entry.path.as_slice(), diff::OPAQUE].concat();
                self.out.write_all(&encode(&marker(path)))?;
            }
            self.placer.send(Step::Enter { name: level.name.clone(), opaque: level.opaque })?;
            level.is_made = true;
            self.files += 1;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: Vec<u8>, name: OsString) -> Result<()> {
        self.make_levels()?;
        let parent = &path[..path.len() - name.len()];
        self.out.write_all(&encode(&marker([parent, diff::WHITEOUT, name.as_bytes()].concat())))?;
        self.files += 1;
        self.placer.send(Step::Whiteout(name))
    }

    fn leaf(&mut self, upper: &Dir, name: &OsStr, path: &[u8], stat: &Stat) -> Result<()> {
        let is_file = file_type(stat) == FileType::RegularFile;
        let has_no_content = is_file && stat.st_size > 0 && stat.st_blocks == 0;
        // A fifo that took the file's place meanwhile must not hold us up.
        let open = || upper.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0).map(File::from);
        let source = match is_file && stat.st_size > 0 {
            true => unless_gone(open())?.map(Some),
            false => Some(None),
        };
        let Some(source) = source else { return Ok(()) };
        if has_no_content && unless_gone(upper.xattr(name, "trusted.overlay.metacopy"))?.flatten().is_some() {
            bail!("overlayfs has not copied its content up");
        }
        let entry = unless_gone(describe(upper, name, path, stat, &mut self.links))?.flatten();
        let Some(entry) = entry.map(|entry| self.clamped(entry)) else { return Ok(()) };
        self.make_levels()?;
        self.out.write_all(&encode(&entry))?;
        self.files += 1;
        let linked = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        let size = entry.size;
        let source = source.filter(|_| entry.kind == Kind::File);
        self.placer.send(Step::Make { name: name.to_owned(), entry, linked })?;
        if let Some(source) = source {
            self.content(&source, stat, size)?;
            self.placer.send(Step::Complete)?;
            self.size += size;
        }
        Ok(())
    }

    /// Reads a file once, for the tar and for the layer; only the tar gets its holes.
    fn content(&mut self, source: &File, stat: &Stat, size: u64) -> Result<()> {
        let mut at = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        pieces(source, stat, size, &mut buffer, &mut |offset, piece| {
            self.zeros(offset - at)?;
            at = offset + piece.len() as u64;
            self.out.write_all(piece)?;
            self.placer.send(Step::Content(offset, piece.to_vec()))
        })?;
        self.buffer = buffer;
        self.zeros(size - at + padding(size) as u64)
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        std::io::copy(&mut std::io::repeat(0).take(count), self.out)?;
        Ok(())
    }
}

/// What a running container has removed while we were about to look at it is not among its changes.
pub fn unless_gone<T, E: Into<anyhow::Error>>(result: Result<T, E>) -> Result<Option<T>> {
    let is_gone = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    };
    match result.map_err(Into::into) {
        Err(error) if error.chain().any(is_gone) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether a name means the same above as below: attributes, and then content.
pub fn is_same(upper: &Dir, name: &OsStr, stat: &Stat, below: &Merged, found: &Found) -> Result<bool> {
    // Names that were linked in the container stay linked.
    let is_linked = stat.st_nlink > 1;
    if is_linked || stat.st_size != found.stat.st_size || !has_same_attributes(upper, name, stat, below, found)? {
        return Ok(false);
    }
    let lower = below.holder(found);
    match file_type(stat) {
        FileType::RegularFile => {
            let open = |dir: &Dir| dir.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0).map(File::from);
            Ok(has_same_content(open(upper)?, open(lower)?)?)
        }
        FileType::Symlink => Ok(upper.readlink(name)? == lower.readlink(name)?),
        _ => Ok(stat.st_rdev == found.stat.st_rdev),
    }
}

pub fn has_same_attributes(upper: &Dir, name: &OsStr, stat: &Stat, below: &Merged, found: &Found) -> Result<bool> {
    let key = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    Ok(key(stat) == key(&found.stat) && diff::xattrs(upper, name)? == diff::xattrs(below.holder(found), name)?)
}

pub(super) fn has_same_content(mut a: File, mut b: File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0u8; 128 << 10], vec![0u8; 128 << 10]);
    loop {
        let length = a.read(&mut left)?;
        if length == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        if b.read_exact(&mut right[..length]).is_err() || left[..length] != right[..length] {
            return Ok(false);
        }
    }
}
