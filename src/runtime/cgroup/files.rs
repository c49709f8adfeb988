//! Reading, writing and removing in cgroup file systems.

use crate::sys::file::read_kernel_text;
use anyhow::{Context, Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Says beside the error what its reader can do about it.
pub fn explain(error: io::Error) -> Error {
    let advice = match error.raw_os_error() {
        Some(libc::EROFS) => "the cgroup file system is mounted read-only here: remount it writable, or run outside",
        Some(libc::EACCES | libc::EPERM) => {
            "the cgroup belongs to somebody else: run as root, or below a cgroup that was delegated to this user"
        }
        _ => return error.into(),
    };
    Error::new(error).context(advice)
}

/// Writes `value` in one go.
pub fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    attempt(dir, file, value).map_err(explain).with_context(|| what(dir, file, value))
}

/// The same, with the kernel's error for a caller that branches on it.
pub fn attempt(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    write_whole(&std::fs::OpenOptions::new().write(true).open(dir.join(file))?, value)
}

/// The same to a file that is open.
pub fn write_whole(file: &File, value: &str) -> io::Result<()> {
    let written = rustix::io::write(file, value.as_bytes())?;
    if written == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// What a failed write was.
pub fn what(dir: &Path, file: &str, value: &str) -> String {
    format!("write {value:?} to {}", dir.join(file).display())
}

/// The content of a file, without the last line's end.
pub fn read(dir: &Path, file: &str) -> io::Result<String> {
    let mut text = read_kernel_text(dir.join(file))?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// The content of a file that not every kernel has.
pub fn read_if_there(dir: &Path, file: &str) -> Result<Option<String>> {
    match read(dir, file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if is_gone(&e) || e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(explain(e)).with_context(|| format!("read {}", dir.join(file).display())),
    }
}

/// Whether the error says that the cgroup is not there, or not any more.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Makes `dir` below `mount`, with what is missing above it. Another process may remove an empty parent at any time.
pub fn make_directory(mount: &Path, dir: &Path) -> Result<()> {
    attempt_directory(mount, dir).map_err(explain).with_context(|| format!("make {}", dir.display()))
}

fn attempt_directory(mount: &Path, dir: &Path) -> io::Result<()> {
    for _ in 0..100 {
        match std::fs::create_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match dir.parent() {
                Some(parent) if parent != mount && parent.starts_with(mount) => attempt_directory(mount, parent)?,
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The directories directly below one.
pub fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    // The kernel counts them in the number of links: one look tells of the usual case, that there are none.
    if std::fs::metadata(dir)?.nlink() == 2 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a cgroup with all below it. Waits for processes that are just ending. One that is not there is fine.
pub fn remove_directory(dir: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A read-only file system says so even of what is not there.
            Err(_) if !dir.exists() => return Ok(()),
            Err(e) if e.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline => return Err(e),
            Err(_) => {}
        }
        let below = match children(dir) {
            Err(e) if is_gone(&e) => return Ok(()),
            other => other?,
        };
        for child in below {
            remove_directory(&child, deadline)?;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Adds the processes of a cgroup and of all below it.
pub fn processes(dir: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    let text = match read_kernel_text(dir.join("cgroup.procs")) {
        // A threaded cgroup tells only its threads.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => read_kernel_text(dir.join("cgroup.threads")),
        other => other,
    };
    let below = text.and_then(|text| {
        // Those of another pid namespace show as 0, which is everybody to whoever sends a signal there.
        found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
        children(dir)
    });
    match below {
        Ok(below) => below.iter().try_for_each(|child| processes(child, found)),
        Err(e) if is_gone(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The number behind `key` in a file of such lines.
pub fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
