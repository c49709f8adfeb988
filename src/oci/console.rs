//! Terminals: sent to whoever asked for them, or relayed to the caller's own.

use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Exit};
use crate::sys::signal::Signals;
use crate::sys::socket;
use crate::sys::tty;
use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A terminal needs somebody who holds its other end.
pub fn check_socket(terminal: bool, detached: bool, socket: Option<&Path>) -> Result<()> {
    match (terminal, detached, socket) {
        (true, true, None) => bail!("cannot allocate tty if minirun-oci will detach without setting console socket"),
        (false, _, Some(_)) | (_, false, Some(_)) => {
            bail!("cannot use console socket if minirun-oci will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}

/// Sends a terminal's master over a listening socket. The name goes with it, as in other runtimes.
pub fn send(path: &Path, master: &OwnedFd) -> Result<()> {
    socket::send_descriptor(path, b"/dev/ptmx", master.as_fd())
        .with_context(|| format!("send the terminal to {}", path.display()))
}

/// The caller's end of a process in the foreground.
#[derive(Debug)]
pub struct Relay<'a> {
    master: Option<&'a OwnedFd>,
    raw: Option<tty::Raw>,
}

impl<'a> Relay<'a> {
    /// With a terminal the caller's own becomes raw until the end.
    pub fn new(master: Option<&'a OwnedFd>) -> Result<Relay<'a>> {
        let mut raw = None;
        if let Some(master) = master {
            tty::unprocessed_newlines(master).context("set the terminal up")?;
            let stdin = rustix::stdio::stdin();
            if tty::is_terminal(stdin) {
                raw = Some(tty::Raw::enter(stdin).context("make the terminal raw")?);
                resize(master);
            }
        }
        Ok(Relay { master, raw })
    }

    /// Passes data and signals on until the process ends, and reaps it.
    pub fn serve(self, pidfd: &OwnedFd, signals: &Signals) -> Result<Exit> {
        let mut input_open = self.master.is_some();
        let mut output_open = self.master.is_some();
        loop {
            let stdin = rustix::stdio::stdin();
            let master = self.master.map_or(pidfd.as_fd(), AsFd::as_fd);
            let interests = [
                Interest { fd: pidfd.as_fd(), read: true, write: false },
                Interest { fd: signals.as_fd(), read: true, write: false },
                Interest { fd: master, read: output_open, write: false },
                Interest { fd: stdin, read: input_open, write: false },
            ];
            let ready = poll::wait(&interests, None).context("wait for the container")?;
            if ready[2].read {
                output_open = copy(master, rustix::stdio::stdout())?;
            }
            if ready[3].read {
                input_open = copy(stdin, master)?;
            }
            while let Some(signal) = signals.next().context("receive a signal")? {
                self.pass_on(signal, pidfd);
            }
            if ready[0].read && !ready[2].read {
                break;
            }
        }
        drop(self.raw);
        process::reap(pidfd).context("reap the process")
    }

    fn pass_on(&self, signal: i32, pidfd: &OwnedFd) {
        match (signal, self.master) {
            (libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG, _) => {}
            (libc::SIGWINCH, Some(master)) => resize(master),
            _ => {
                let _ = process::pidfd_kill(pidfd, signal);
            }
        }
    }
}

fn resize(master: &OwnedFd) {
    if let Ok(size) = tty::size(rustix::stdio::stdin()) {
        let _ = tty::set_size(master, size);
    }
}

/// Moves what is there; whether there can be more.
fn copy(from: impl AsFd, to: impl AsFd) -> Result<bool> {
    let mut buffer = [0u8; 16 * 1024];
    let n = match rustix::io::read(from, &mut buffer) {
        // A terminal that nobody has open any more says so.
        Ok(0) | Err(Errno::IO) => return Ok(false),
        Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
        other => other.map_err(io::Error::from).context("read from the terminal")?,
    };
    let mut rest = &buffer[..n];
    while !rest.is_empty() {
        match rustix::io::write(&to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll::wait(&[Interest { fd: to.as_fd(), read: false, write: true }], None)?;
            }
            Err(Errno::PIPE | Errno::IO) => return Ok(false),
            Err(e) => return Err(io::Error::from(e)).context("write to the terminal"),
        }
    }
    Ok(true)
}
