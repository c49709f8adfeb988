//! What a new memory file system covers, copied into it.

use crate::sys::depth::Depth;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result};
use rustix::fs::{FileType, OFlags, Stat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;

/// Copies the content of `from` into the root `to` of a memory file system that was made with these options. What they
/// say of that folder itself stays.
pub fn fill(from: &Dir, to: &Dir, options: &[String]) -> Result<()> {
    let (made, found) = (to.stat_self()?, from.stat_self()?);
    copy(from, to, Depth::default())?;
    let by = |key: &str| if options.iter().any(|option| option.starts_with(key)) { &made } else { &found };
    Ok(to.set_self(by("uid=").st_uid, by("gid=").st_gid, by("mode=").st_mode, time(&found))?)
}

/// Copies the content of `from` into the empty directory `to`, with owners, modes and times; sockets are left out.
fn copy(from: &Dir, to: &Dir, depth: Depth) -> Result<()> {
    for name in from.names()? {
        let what = || format!("copy {name:?}");
        let stat = from.stat(&name).with_context(what)?;
        if file_type(&stat) == FileType::Directory {
            to.mkdir(&name, 0o700).with_context(what)?;
            copy(&from.child(&name)?, &to.child(&name)?, depth.below()?)?;
        } else {
            leaf(from, &name, &stat, to).with_context(what)?;
        }
    }
    let stat = from.stat_self()?;
    Ok(to.set_self(stat.st_uid, stat.st_gid, stat.st_mode, time(&stat))?)
}

fn leaf(from: &Dir, name: &OsStr, stat: &Stat, to: &Dir) -> Result<()> {
    match file_type(stat) {
        FileType::Symlink => to.symlink(&from.readlink(name)?, name)?,
        FileType::RegularFile => {
            // A fifo that took the file's place meanwhile must not hold us up.
            let mut source = File::from(from.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
            io::copy(&mut source, &mut to.create(name, 0o600)?)?;
        }
        FileType::Socket => return Ok(()),
        kind => to.mknod(name, kind, 0o600, stat.st_rdev)?,
    }
    to.chown(name, stat.st_uid, stat.st_gid)?;
    if file_type(stat) != FileType::Symlink {
        to.chmod(name, stat.st_mode)?;
    }
    let (seconds, nanos) = time(stat);
    Ok(to.set_mtime(name, seconds, nanos)?)
}

fn time(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, stat.st_mtime_nsec as u32)
}
