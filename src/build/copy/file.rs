//! Single files: their digest, their copy.

use crate::image::copy::{kept_xattrs, segments};
use crate::image::digest::{Digest, Hasher};
use crate::sys::dir::Dir;
use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// Opens a file for reading.
pub fn open(dir: &Dir, name: &OsStr) -> Result<File> {
    // A fifo that took the file's place meanwhile must not hold us up.
    Ok(File::from(dir.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME, 0).or_else(|e| {
        // Only the owner may leave the access time alone.
        match e.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
            true => dir.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0),
            false => Err(e),
        }
    })?))
}

/// # Errors
/// If a file is not as it was when `stat` was taken.
fn is_unchanged(file: &File, stat: &Stat) -> Result<()> {
    match identity(&rustix::fs::fstat(file)?) == identity(stat) {
        true => Ok(()),
        false => bail!("it was changed while the build was reading it"),
    }
}

/// What changes when a file changes.
pub fn identity(stat: &Stat) -> [u64; 7] {
    let signed = |number: i64| number.cast_unsigned();
    [
        stat.st_dev,
        stat.st_ino,
        signed(stat.st_size),
        signed(stat.st_mtime),
        stat.st_mtime_nsec,
        signed(stat.st_ctime),
        stat.st_ctime_nsec,
    ]
}

/// The digest of a file's content and extended attributes.
pub fn hash(file: &File, stat: &Stat, buffer: &mut Vec<u8>) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let size = u64::try_from(stat.st_size)?;
    buffer.resize(PIECE, 0);
    let mut at = 0;
    while at < size {
        let length = file.read_at(buffer, at)?;
        if length == 0 {
            bail!("it became shorter while the build was reading it");
        }
        hasher.update(&buffer[..length]);
        at += length as u64;
    }
    for (key, value) in kept_xattrs(file)? {
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(&key);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(&value);
    }
    is_unchanged(file, stat)?;
    Ok(hasher.finish())
}

/// The digest of a file's content alone.
pub fn digest_of(file: &File) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok(hasher.finish()),
            length => {
                hasher.update(&buffer[..length]);
                at += length as u64;
            }
        }
    }
}

/// Copies `size` bytes to an empty file: within the file system if that is possible, and without filling holes.
pub fn copy(from: &File, stat: &Stat, to: &File, buffer: &mut Vec<u8>) -> Result<()> {
    let size = u64::try_from(stat.st_size)?;
    if size > PIECE as u64 && rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return is_unchanged(from, stat);
    }
    let mut at = 0;
    for segment in segments(from, stat, size)? {
        at = segment.offset;
        let end = segment.offset + segment.length;
        if segment.length > PIECE as u64 {
            at = copy_range(from, to, at, end)?;
        }
        buffer.resize(PIECE, 0);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let length = from.read_at(&mut buffer[..wanted], at)?;
            if length == 0 {
                bail!("it became shorter while the build was reading it");
            }
            to.write_all_at(&buffer[..length], at)?;
            at += length as u64;
        }
    }
    if at < size {
        to.set_len(size)?;
    }
    is_unchanged(from, stat)
}

/// Lets the kernel copy; gives how far it came.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> Result<u64> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let wanted = usize::try_from(end - source).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), wanted) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::IO) => break,
            Err(e) => return Err(e).context("copy the content"),
        }
    }
    Ok(target)
}
