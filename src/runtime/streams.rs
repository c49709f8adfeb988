//! The standard streams of a process in a container.

use super::launch::Streams;
use crate::sys::dir::file_type;
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A folder of the host's among the standard streams would be a way out of the container.
pub fn refuse_directories() -> Result<()> {
    for (fd, name) in [(stdin(), "input"), (stdout(), "output"), (stderr(), "error")] {
        if rustix::fs::fstat(fd).is_ok_and(|s| file_type(&s) == FileType::Directory) {
            bail!("standard {name} is a directory");
        }
    }
    Ok(())
}

/// A null device among the standard streams is the host's, and whoever has it open can change its mode and owner there:
/// the container's takes its place. Input that is as empty does as well.
pub fn replace_null() -> Result<()> {
    let [input, output, errors] = [stdin(), stdout(), stderr()].map(is_null);
    if !(input || output || errors) {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let own = rustix::fs::open("/dev/null", flags, Mode::empty()).ok().filter(|fd| is_null(fd.as_fd()));
    let null = match (own, output || errors) {
        (Some(null), _) => null,
        (None, false) => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?.0,
        (None, true) => bail!("the container's /dev/null is not the null device"),
    };
    let what = "replace the host's null device";
    if input {
        dup2_stdin(&null).map_err(io::Error::from).context(what)?;
    }
    if output {
        dup2_stdout(&null).map_err(io::Error::from).context(what)?;
    }
    if errors {
        dup2_stderr(&null).map_err(io::Error::from).context(what)?;
    }
    Ok(())
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::fstat(fd).is_ok_and(|s| s.st_rdev == device && file_type(&s) == FileType::CharacterDevice)
}

/// Makes three descriptors the standard streams of the calling process.
pub fn take(streams: &Streams) -> Result<()> {
    dup2_stdin(streams.stdin.as_fd()).map_err(io::Error::from).context("set standard input")?;
    dup2_stdout(streams.stdout.as_fd()).map_err(io::Error::from).context("set standard output")?;
    dup2_stderr(streams.stderr.as_fd()).map_err(io::Error::from).context("set standard error")
}

/// Lets the user own the pipes among the standard streams: a program that opens /dev/stdout anew needs the right to.
/// A file or a device of the host's is not ours to give.
pub fn give_to(uid: u32) -> Result<()> {
    if uid == 0 {
        return Ok(());
    }
    for fd in [stdin(), stdout(), stderr()] {
        // One of them may be closed.
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        if file_type(&stat) == FileType::Fifo && stat.st_uid != uid {
            let owner = Some(rustix::fs::Uid::from_raw(uid));
            match rustix::fs::fchown(fd, owner, None) {
                // A pipe from outside the container's user namespace belongs to somebody who has no number inside.
                Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(io::Error::from(e)).context("own the standard streams"),
            }
        }
    }
    Ok(())
}
