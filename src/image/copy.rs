//! Copying single files between directories, with everything that belongs to them, and their holes.

use super::apply::keeps_xattr;
use super::diff::{mtime, xattrs};
use super::tar::Segment;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Files that were copied and have other names: where their copies are.
#[derive(Default)]
pub struct Copied {
    places: HashMap<(u64, u64), (Dir, OsString)>,
    buffer: Vec<u8>,
}

impl Copied {
    /// Copies what is not a directory to a new name in `to`. A second name of something copied before becomes a hard
    /// link. Sockets are left out.
    pub fn copy(&mut self, from: &Dir, name: &OsStr, stat: &Stat, to: &Dir) -> Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some((dir, first)) = self.places.get(&identity) {
                return Ok(to.link(dir, first, name)?);
            }
            self.places.insert(identity, (to.try_clone()?, name.to_owned()));
        }
        match file_type(stat) {
            FileType::RegularFile => self.file(from, name, stat, to)?,
            FileType::Symlink => to.symlink(&from.readlink(name)?, name)?,
            FileType::Directory => bail!("it is a folder"),
            FileType::Socket => {
                self.places.remove(&identity);
                return Ok(());
            }
            kind => to.mknod(name, kind, 0o600, stat.st_rdev)?,
        }
        describe(from, name, stat, to)
    }

    fn file(&mut self, from: &Dir, name: &OsStr, stat: &Stat, to: &Dir) -> Result<()> {
        let target = to.create(name, 0o600)?;
        let size = u64::try_from(stat.st_size)?;
        if size == 0 {
            return Ok(());
        }
        // A fifo that took the file's place meanwhile must not hold us up.
        let source = File::from(from.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
        let mut at = 0;
        pieces(&source, stat, size, &mut self.buffer, &mut |offset, piece| {
            at = offset + piece.len() as u64;
            Ok(target.write_all_at(piece, offset)?)
        })?;
        if at < size {
            target.set_len(size)?;
        }
        Ok(())
    }
}

/// Reads what is not a hole of a file of `size` bytes, piece by piece, each with its offset.
///
/// # Errors
/// Also if the file became shorter.
pub fn pieces(
    file: &File,
    stat: &Stat,
    size: u64,
    buffer: &mut Vec<u8>,
    take: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    buffer.resize(usize::try_from(size).unwrap_or(PIECE).min(PIECE).max(buffer.len()), 0);
    for segment in segments(file, stat, size)? {
        let (mut at, end) = (segment.offset, segment.offset + segment.length);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(buffer.len());
            let length = file.read_at(&mut buffer[..wanted], at)?;
            if length == 0 {
                bail!("the file became shorter while it was read");
            }
            take(at, &buffer[..length])?;
            at += length as u64;
        }
    }
    Ok(())
}

/// The parts of a file that are not holes.
pub fn segments(file: &File, stat: &Stat, size: u64) -> Result<Vec<Segment>> {
    if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) >= size {
        return Ok(vec![Segment { offset: 0, length: size }]);
    }
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(e) => return Err(e).context("look for holes"),
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).context("look for holes")?.min(size);
        segments.push(Segment { offset: start, length: at - start });
    }
    Ok(segments)
}

/// The extended attributes of an open file that a layer keeps, sorted.
pub fn kept_xattrs(file: impl AsFd) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0u8; 256];
    let length = loop {
        match rustix::fs::flistxattr(&file, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 16, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
    };
    let mut found = Vec::new();
    for key in names[..length].split(|b| *b == 0).filter(|key| !key.is_empty() && keeps_xattr(key)) {
        let mut value = vec![0u8; 1 << 16];
        match rustix::fs::fgetxattr(&file, OsStr::from_bytes(key), &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(e) => return Err(e.into()),
        }
        found.push((key.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Gives `name` in `to` the owner, mode, extended attributes and time that it has in `from`.
pub fn describe(from: &Dir, name: &OsStr, stat: &Stat, to: &Dir) -> Result<()> {
    to.chown(name, stat.st_uid, stat.st_gid).context("set the owner")?;
    if file_type(stat) != FileType::Symlink {
        to.chmod(name, stat.st_mode).context("set the mode")?;
    }
    for (key, value) in xattrs(from, name)? {
        let key = OsStr::from_bytes(&key);
        to.set_xattr(name, key, &value).with_context(|| format!("set the attribute {key:?}"))?;
    }
    let (seconds, nanos) = mtime(stat);
    to.set_mtime(name, seconds, nanos).context("set the time")
}

/// As [`describe`] for two open directories.
pub fn describe_self(from: &Dir, to: &Dir) -> Result<()> {
    let stat = from.stat_self()?;
    for (key, value) in xattrs(from, OsStr::new("."))? {
        to.set_xattr(".", OsStr::from_bytes(&key), &value)?;
    }
    Ok(to.set_self(stat.st_uid, stat.st_gid, stat.st_mode, mtime(&stat))?)
}
