//! Keeping this program's own file out of containers' reach.
//!
//! Until it executes the user's program, a process inside a container runs ours, and whoever can look at it there
//! could reach our file through `/proc/PID/exe` and write to it later. So whatever may start such a process runs
//! from a detached read-only view of the file, which nothing can be written through.

use crate::sys::mount::{self, Attributes};
use crate::sys::process;
use anyhow::{Context, Result};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const STARTERS: [&str; 4] = ["run", "start", "restart", "exec"];
const ORIGIN: &str = "_MINIRUN_PROGRAM";

/// Makes sure of it for commands that start processes, and returns the path of this program's file.
///
/// It executes the program once more at most. Without the right to mount nothing can be started anyway, and the
/// command that tries says so.
pub fn ensure(arguments: &[OsString]) -> Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    let this = std::fs::File::open(own).context("open this program")?;
    if mount::is_read_only(&this).context("look at this program's mount")?
        && let Some(origin) = std::env::var_os(ORIGIN)
    {
        return Ok(origin.into());
    }
    let path = std::fs::read_link(own).context("find this program")?;
    // Only the first words can be the command; a false hit costs half a millisecond.
    if !arguments.iter().take(8).any(|a| STARTERS.iter().any(|s| a == s)) {
        return Ok(path);
    }
    let Ok(view) = mount::copy_tree(own, false) else { return Ok(path) };
    let (ro, none) = (Attributes::MOUNT_ATTR_RDONLY, Attributes::empty());
    mount::set_attributes(&view, ro, none, None, false).context("make the view of this program read-only")?;
    let text = |s: &OsString| CString::new(s.as_bytes()).context("an argument holds a zero byte");
    let args = arguments.iter().map(text).collect::<Result<Vec<_>>>()?;
    let mut env = Vec::new();
    for (key, value) in std::env::vars_os().filter(|(key, _)| key != ORIGIN) {
        env.push(text(&OsString::from_vec([key.as_bytes(), b"=", value.as_bytes()].concat()))?);
    }
    env.push(text(&OsString::from_vec([ORIGIN.as_bytes(), b"=", path.as_os_str().as_bytes()].concat()))?);
    let error = process::exec_fd(&view, &args, &env);
    Err(error).context("execute this program from a read-only view")
}
