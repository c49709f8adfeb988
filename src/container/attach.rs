//! The client's side of a session: the user's terminal or pipes on one hand, the supervisor on the other.

use super::protocol::{Event, Request};
use crate::sys::poll::{self, Interest};
use crate::sys::signal::Signals;
use crate::sys::socket::{MAX_MESSAGE, Socket};
use crate::sys::tty::{self, Raw};
use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How the user is connected.
#[derive(Clone, Debug)]
pub struct Terms {
    /// His input goes to the process.
    pub stdin: bool,
    /// The process has a terminal; if he has one too it becomes raw.
    pub tty: bool,
    /// Signals that we get go to the process.
    pub proxy_signals: bool,
    /// The keys that leave the container running.
    pub detach_keys: Vec<u8>,
}

/// Ctrl-P Ctrl-Q.
pub const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

/// How it ended for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the process, and its status.
    Exited(i32),
    /// The process could not be started: status and reason.
    Failed(i32, String),
    /// The user left.
    Detached,
    /// A signal told us to end; the container was not asked.
    Interrupted(i32),
}

/// Carries input, output, signals and window sizes until it is over.
///
/// # Errors
/// A supervisor that is gone without a word.
pub fn converse(socket: &Socket, terms: &Terms) -> Result<Outcome> {
    let signals = Signals::all().context("receive signals")?;
    let raw = match terms.tty && terms.stdin && tty::is_terminal(stdin()) {
        true => Some(Raw::enter(stdin()).context("set the terminal to raw mode")?),
        false => None,
    };
    socket.set_nonblocking().context("make the socket non-blocking")?;
    let mut talk = Conversation {
        socket,
        terms,
        signals,
        raw,
        outgoing: VecDeque::new(),
        output: Vec::new(),
        to_stderr: false,
        reading: terms.stdin,
        keys: Detacher { keys: terms.detach_keys.clone(), matched: 0 },
        buffer: Vec::new(),
        lost: false,
        refused: None,
    };
    talk.send_size();
    loop {
        if let Some(outcome) = talk.turn()? {
            talk.write_rest();
            return Ok(outcome);
        }
    }
}

struct Conversation<'a> {
    socket: &'a Socket,
    terms: &'a Terms,
    signals: Signals,
    raw: Option<Raw>,
    outgoing: VecDeque<Vec<u8>>,
    output: Vec<u8>,
    to_stderr: bool,
    reading: bool,
    keys: Detacher,
    buffer: Vec<u8>,
    lost: bool,
    refused: Option<Errno>,
}

impl Conversation<'_> {
    fn turn(&mut self) -> Result<Option<Outcome>> {
        let sink: BorrowedFd<'static> = if self.to_stderr { stderr() } else { stdout() };
        let reading = self.reading && self.outgoing.is_empty();
        let interests = [
            Interest { fd: self.signals.as_fd(), read: true, write: false },
            Interest { fd: self.socket.as_fd(), read: self.output.is_empty(), write: !self.outgoing.is_empty() },
            Interest { fd: sink, read: false, write: !self.output.is_empty() },
            Interest { fd: stdin(), read: reading, write: false },
        ];
        let ready = poll::wait(&interests, None).context("wait for the container")?;
        let (signal, answer, sink_ready, input) = (ready[0].read, ready[1], ready[2].write, ready[3].read);
        if signal && let Some(outcome) = self.take_signals()? {
            return Ok(Some(outcome));
        }
        if sink_ready {
            self.write_some();
        }
        // Nobody reads our output. We end like any program in a pipeline; the container does not have to know.
        match self.refused {
            None => {}
            Some(Errno::PIPE) => return Ok(Some(Outcome::Interrupted(libc::SIGPIPE))),
            Some(error) => return Err(io::Error::from(error)).context("write the container's output"),
        }
        if answer.write {
            self.send_queued();
        }
        if input && let Some(outcome) = self.take_input() {
            return Ok(Some(outcome));
        }
        if answer.read && self.output.is_empty() {
            return self.take_event();
        }
        Ok(None)
    }

    fn take_signals(&mut self) -> Result<Option<Outcome>> {
        while let Some(signal) = self.signals.next().context("receive signals")? {
            match signal {
                libc::SIGWINCH if self.terms.tty => self.send_size(),
                libc::SIGCONT if self.terms.tty => {
                    // The shell that resumed us set the terminal to its own taste; one that has hung up has none.
                    let _ = self.raw.as_ref().map(Raw::again);
                    self.send_size();
                }
                libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG => {}
                signal if self.terms.proxy_signals => {
                    self.queue(&Request::Signal { signal, final_one: false });
                }
                libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => {
                    self.queue(&Request::Detach);
                    return Ok(Some(Outcome::Interrupted(signal)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn send_size(&mut self) {
        if self.terms.tty
            && let Ok(size) = tty::size(stdin()).or_else(|_| tty::size(stdout()))
        {
            self.queue(&Request::Resize(size));
        }
    }

    fn take_input(&mut self) -> Option<Outcome> {
        self.buffer.resize(MAX_MESSAGE - 1, 0);
        match rustix::io::read(stdin(), &mut self.buffer[..]) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => {
                self.reading = false;
                self.queue(&Request::EndOfInput);
            }
            Ok(n) => {
                let data = self.buffer[..n].to_vec();
                if self.raw.is_none() {
                    self.queue(&Request::Input(&data));
                    return None;
                }
                let (pass, detach) = self.keys.filter(&data);
                if !pass.is_empty() {
                    self.queue(&Request::Input(&pass));
                }
                if detach {
                    self.queue(&Request::Detach);
                    return Some(Outcome::Detached);
                }
            }
        }
        None
    }

    fn take_event(&mut self) -> Result<Option<Outcome>> {
        let message = match self.socket.receive_message() {
            Ok((message, _)) => message,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e).context("hear from the supervisor"),
        };
        if message.is_empty() {
            anyhow::bail!("the container's supervisor is gone");
        }
        match Event::decode(&message) {
            Some(Event::Output(data)) => {
                self.output = data.to_vec();
                self.to_stderr = false;
            }
            Some(Event::ErrorOutput(data)) => {
                self.output = data.to_vec();
                self.to_stderr = true;
            }
            Some(Event::Warning(text)) => {
                self.output = format!("WARNING: {text}\n").into_bytes();
                self.to_stderr = true;
            }
            Some(Event::Exited(status)) => return Ok(Some(Outcome::Exited(status))),
            Some(Event::Failed(status, text)) => return Ok(Some(Outcome::Failed(status, text.to_owned()))),
            Some(Event::Started) | None => {}
        }
        self.write_some();
        Ok(None)
    }

    /// Writes what surely does not block: one page at a time when the other side is a pipe.
    fn write_some(&mut self) {
        const PAGE: usize = 4096;
        if self.output.is_empty() {
            return;
        }
        let sink = if self.to_stderr { stderr() } else { stdout() };
        let is_ready = || {
            let interest = [Interest { fd: sink, read: false, write: true }];
            poll::wait(&interest, Some(std::time::Duration::ZERO)).is_ok_and(|r| r[0].write)
        };
        while !self.output.is_empty() && is_ready() {
            let some = &self.output[..self.output.len().min(PAGE)];
            match rustix::io::write(sink, some) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(error) => {
                    self.output.clear();
                    self.refused = Some(error);
                }
            }
        }
    }

    /// The last output and the last request, however long the other side takes.
    fn write_rest(&mut self) {
        let sink = if self.to_stderr { stderr() } else { stdout() };
        while !self.output.is_empty() {
            let interest = [Interest { fd: sink, read: false, write: true }];
            let _ = poll::wait(&interest, None);
            self.write_some();
        }
        while !self.outgoing.is_empty() && !self.lost {
            let interest = [Interest { fd: self.socket.as_fd(), read: false, write: true }];
            let _ = poll::wait(&interest, None);
            self.send_queued();
        }
    }

    fn queue(&mut self, request: &Request<'_>) {
        self.outgoing.push_back(request.encode());
        self.send_queued();
    }

    fn send_queued(&mut self) {
        while let Some(packet) = self.outgoing.front() {
            match self.socket.send(packet) {
                Ok(()) => drop(self.outgoing.pop_front()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Why it is gone is heard by reading.
                Err(_) => {
                    self.outgoing.clear();
                    self.lost = true;
                }
            }
        }
    }
}

/// Looks for the detach keys in what is typed, and holds back only what may be their beginning.
#[derive(Debug)]
struct Detacher {
    keys: Vec<u8>,
    matched: usize,
}

impl Detacher {
    /// What goes on to the container, and whether the keys are complete.
    fn filter(&mut self, data: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(data.len());
        for byte in data {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (pass, true);
                }
                continue;
            }
            pass.extend(&self.keys[..self.matched]);
            self.matched = usize::from(!self.keys.is_empty() && self.keys[0] == *byte);
            if self.matched == 0 {
                pass.push(*byte);
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_else_passed_on() {
        let mut d = Detacher { keys: DETACH_KEYS.to_vec(), matched: 0 };
        assert_eq!(d.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(d.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(d.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(d.filter(b"\x11rest"), (Vec::new(), true));
        let mut none = Detacher { keys: Vec::new(), matched: 0 };
        assert_eq!(none.filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
