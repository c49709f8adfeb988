//! The terminal of a container: a pseudo-terminal of its own devpts, or of what somebody has mounted in its place.

use super::rootfs::Rootfs;
use crate::sys::dir::{Dir, file_type};
use crate::sys::{mount, tty};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Both ends of a new pseudo-terminal.
#[derive(Debug)]
pub struct Console {
    /// For the supervisor.
    pub master: OwnedFd,
    /// For the container's process.
    pub slave: OwnedFd,
}

/// Opens a pair in a devpts, owned by `uid`, with the given rows and columns.
pub fn open(devpts: &Dir, uid: u32, size: Option<(u16, u16)>) -> Result<Console> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    if !mount::is_on(devpts, DEVPTS_SUPER_MAGIC)? {
        bail!("/dev/pts is not a devpts");
    }
    let master = devpts.open_at("ptmx", OFlags::RDWR | OFlags::NOCTTY, 0).context("open /dev/pts/ptmx")?;
    // Whoever may mount in the container can put something else there.
    let is_multiplexer = rustix::fs::fstat(&master).is_ok_and(|s| s.st_rdev == rustix::fs::makedev(5, 2));
    if !is_multiplexer || !mount::is_on(&master, DEVPTS_SUPER_MAGIC)? {
        bail!("/dev/pts/ptmx is not the multiplexer of terminals");
    }
    let slave = tty::peer(&master).context("open the terminal")?;
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)
        .map_err(io::Error::from)
        .context("own the terminal")?;
    if let Some((rows, columns)) = size {
        tty::set_size(&master, tty::Size { rows, columns }).context("set the terminal's size")?;
    }
    Ok(Console { master, slave })
}

/// Shows the terminal as `/dev/console`, where some programs look for it.
pub fn show_as_dev_console(rootfs: &Rootfs, slave: impl AsFd) -> Result<()> {
    let dev = rootfs.dev()?;
    if dev.stat_opt("console")?.is_none() {
        dev.create("console", 0o620).context("make /dev/console")?;
    }
    if file_type(&dev.stat("console")?) != FileType::RegularFile {
        return Ok(());
    }
    let target = dev.open_at("console", OFlags::PATH, 0)?;
    let tree = mount::copy_of(slave).context("copy the terminal's mount")?;
    mount::attach(&tree, &target).context("mount /dev/console")
}

/// Makes the terminal the controlling one of a new session, and the three standard streams.
pub fn take(slave: &OwnedFd) -> Result<()> {
    tty::take_control(slave).context("take the terminal")?;
    let io = |e| io::Error::from(e);
    rustix::stdio::dup2_stdin(slave).map_err(io).context("set standard input")?;
    rustix::stdio::dup2_stdout(slave).map_err(io).context("set standard output")?;
    rustix::stdio::dup2_stderr(slave).map_err(io).context("set standard error")
}
