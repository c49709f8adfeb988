//! The user's program: found before it is run, so that what can be known early is told early.

use super::diagnosis;
use crate::sys::process;
use anyhow::{Context, Result, anyhow};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The file that a command names, searched for like a shell does, as the calling process would find it.
///
/// # Errors
/// `ENOENT` (somewhere in the chain) if there is none, `EACCES` if what is there cannot be executed.
pub fn find(args: &[CString], env: &[CString]) -> Result<CString> {
    let name = &args[0];
    let shown = name.to_string_lossy();
    let exec = || format!("exec: {shown:?}");
    if name.as_bytes().contains(&b'/') {
        return match check(name) {
            Ok(()) => Ok(name.clone()),
            Err(e) if e.kind() == io::ErrorKind::NotFound && rustix::fs::lstat(name.as_c_str()).is_err() => {
                Err(e).with_context(|| format!("stat {shown}")).with_context(exec)
            }
            Err(e) => Err(explain(e, name)).with_context(exec),
        };
    }
    let mut refused = None;
    for dir in search_path(env) {
        let Ok(candidate) = CString::new([dir.as_bytes(), b"/", name.as_bytes()].concat()) else { continue };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(_) if is_directory(&candidate) => {}
            Err(e) => refused = Some((e, candidate)),
        }
    }
    match refused {
        Some((e, candidate)) => Err(explain(e, &candidate)).with_context(exec),
        None => {
            let missing = io::Error::from_raw_os_error(libc::ENOENT);
            Err(anyhow::Error::new(missing).context(format!("exec: {shown:?}: executable file not found in $PATH")))
        }
    }
}

/// Executes the file that [`find`] found. Returns only on failure.
pub fn execute(file: &CStr, args: &[CString], env: &[CString]) -> anyhow::Error {
    let error = process::exec(file, args, env);
    explain(error, file).context(format!("exec: {:?}", args[0].to_string_lossy()))
}

fn check(path: &CStr) -> io::Result<()> {
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    if is_directory(path) { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { Ok(()) }
}

fn search_path(env: &[CString]) -> Vec<&OsStr> {
    let path = env.iter().rev().find_map(|e| e.as_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let dirs = path.split(|b| *b == b':');
    dirs.map(|d| if d.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(d) }).collect()
}

fn is_directory(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok_and(|s| crate::sys::dir::file_type(&s) == FileType::Directory)
}

/// The system's error with what stands behind it, as far as it can be seen from here.
fn explain(error: io::Error, path: &CStr) -> anyhow::Error {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let reason = diagnosis::of(&error, path);
    match (error.raw_os_error(), reason) {
        // A missing interpreter is not a missing command: the status must be 126, not 127.
        (Some(libc::ENOENT), reason) => anyhow!("no such file or directory: {}", reason.unwrap_or_default()),
        (Some(libc::ENOEXEC), Some(reason)) => {
            anyhow::Error::new(error).context(format!("exec format error: {reason}"))
        }
        (_, Some(reason)) => anyhow::Error::new(error).context(reason),
        (_, None) => anyhow::Error::new(error),
    }
}
