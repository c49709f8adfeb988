//! Terminals: sent to whoever asked for them, or relayed to the caller's own.

use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Exit};
use crate::sys::signal::Signals;
use crate::sys::socket;
use crate::sys::tty;
use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

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
///
/// Nothing but readiness is waited for: a program that does not read does not keep its output from being shown, and a
/// reader who does not read does not keep a signal from being passed on.
#[derive(Debug)]
pub struct Relay<'a> {
    master: Option<&'a OwnedFd>,
    raw: Option<tty::Raw>,
    input: Flow,
    output: Flow,
}

/// One direction of the talk: what is on its way, and whether more can come.
#[derive(Debug, Default)]
struct Flow {
    open: bool,
    /// What nobody wants to have any more is taken nevertheless, and thrown away.
    drains: bool,
    gone: bool,
    waiting: Vec<u8>,
}

impl<'a> Relay<'a> {
    /// With a terminal the caller's own becomes raw until the end.
    pub fn new(master: Option<&'a OwnedFd>) -> Result<Relay<'a>> {
        let open = master.is_some();
        let input = Flow { open, ..Flow::default() };
        let mut relay = Relay { master, raw: None, input, output: Flow { open, drains: true, ..Flow::default() } };
        let Some(master) = master else { return Ok(relay) };
        // Lines end as in a file; whoever shows them is a terminal himself.
        tty::unprocessed_newlines(master).context("set the terminal up")?;
        rustix::io::ioctl_fionbio(master, true).map_err(io::Error::from).context("set the terminal up")?;
        if let Some(own) = own_terminal() {
            relay.raw = Some(tty::Raw::enter_for_input(own).context("make the terminal raw")?);
            resize(master);
        }
        Ok(relay)
    }

    /// Passes data and signals on until the process ends, and reaps it.
    pub fn serve(mut self, pidfd: &OwnedFd, signals: &Signals) -> Result<Exit> {
        let mut ended = false;
        loop {
            let master = self.master.map_or(pidfd.as_fd(), AsFd::as_fd);
            let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
            let takes = self.output.wants();
            let interests = [
                Interest { fd: pidfd.as_fd(), read: !ended, write: false },
                Interest { fd: signals.as_fd(), read: true, write: false },
                Interest { fd: stdin, read: self.input.wants() && !ended, write: false },
                Interest { fd: master, read: false, write: !self.input.waiting.is_empty() && !ended },
                Interest { fd: master, read: takes, write: false },
                Interest { fd: stdout, read: false, write: !self.output.waiting.is_empty() },
            ];
            // What the terminal holds when the process has ended is all that there will be.
            let patience = (ended && self.output.waiting.is_empty()).then_some(Duration::ZERO);
            let ready = poll::wait(&interests, patience).context("wait for the container")?;
            while let Some(signal) = signals.next().context("receive a signal")? {
                self.pass_on(signal, pidfd);
            }
            if patience.is_some() && !ready[4].read {
                break;
            }
            self.input.move_on(stdin, master, ready[2].read, ready[3].write);
            self.output.move_on(master, stdout, ready[4].read, ready[5].write);
            ended |= ready[0].read;
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

impl Flow {
    fn wants(&self) -> bool {
        self.open && self.waiting.is_empty() && (self.drains || !self.gone)
    }

    /// Takes in what is there, gives out what is taken.
    fn move_on(&mut self, from: impl AsFd, to: impl AsFd, readable: bool, writable: bool) {
        if readable {
            let mut buffer = vec![0u8; 16 * 1024];
            match rustix::io::read(from, &mut buffer[..]) {
                Ok(n @ 1..) if !self.gone => self.waiting.extend(&buffer[..n]),
                Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
                // A terminal that nobody has open any more says so by an error.
                Ok(_) | Err(_) => self.open = false,
            }
        }
        if writable {
            // So much can be written to a pipe that is ready without waiting for its reader.
            let part = &self.waiting[..self.waiting.len().min(libc::PIPE_BUF)];
            match rustix::io::write(to, part) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    self.waiting.clear();
                }
            }
        }
    }
}

/// The caller's terminal: the first of its standard streams that is one.
fn own_terminal() -> Option<BorrowedFd<'static>> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    streams.into_iter().find(|fd| tty::is_terminal(fd))
}

fn resize(master: &OwnedFd) {
    if let Some(size) = own_terminal().and_then(|own| tty::size(own).ok()) {
        let _ = tty::set_size(master, size);
    }
}
