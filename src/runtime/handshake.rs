//! What a launching parent and its child say to each other over one socket pair.
//!
//! ```text
//! helper ── born (pid) ───────────────────────▶ parent     only when namespaces are joined: who the child is
//! child  ◀─ mapped ───────────────────────────  parent     only with a user namespace: its ids mean something
//! child  ── console (with the pty's master) ──▶ parent     only with a terminal
//! child  ── attend ───────────────────────────▶ parent     only when asked for: everything is mounted
//! child  ◀─ attended ─────────────────────────  parent     hooks have run
//! child  ── listener (number) ────────────────▶ parent     only with a seccomp listener, written with write(2)
//! child  ◀─ taken ────────────────────────────  parent     the parent has a copy of it
//! child  ── ready ────────────────────────────▶ parent     everything is set up
//! child  ◀─ go ───────────────────────────────  parent     run the program; or from whoever comes to its door
//! child  ── end of stream ────────────────────▶ that one   execve has succeeded
//! child  ── failed (stage, errno, text) ──────▶ that one   instead of any of its messages
//! ```
//!
//! The word to go may be there before the child is ready, if none of the other messages to it is to come. The listener's
//! messages may come after the word to go: a filter that is installed late has its listener late. The filter itself comes
//! to the child in one message over a pair of its own, whenever the parent has compiled it.

use crate::sys::errors;
use crate::sys::poll::{self, Interest};
use crate::sys::socket::{Listener, Socket};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Which part of the child's work failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Joining cgroups and namespaces.
    Isolation,
    /// Root file system, mounts and devices.
    Rootfs,
    /// The terminal and the standard streams.
    Console,
    /// Limits, user, capabilities.
    Identity,
    /// The user's own programs.
    Hooks,
    /// The working directory.
    WorkingDirectory,
    /// Finding and executing the program.
    Exec,
}

impl Stage {
    fn from_byte(byte: u8) -> Stage {
        match byte {
            1 => Stage::Rootfs,
            2 => Stage::Console,
            3 => Stage::Identity,
            4 => Stage::Hooks,
            5 => Stage::WorkingDirectory,
            6 => Stage::Exec,
            _ => Stage::Isolation,
        }
    }
}

/// A failure of the child, as told to the parent.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// The system's error number, if one was the cause.
    pub errno: Option<i32>,
    /// The whole chain of context.
    pub text: String,
}

impl Failure {
    /// The exit status by which shells and Docker tell the kinds of failure apart.
    pub fn exit_status(&self) -> i32 {
        match (self.stage, self.errno) {
            (Stage::Exec, Some(libc::ENOENT)) => 127,
            (Stage::Exec, _) => 126,
            (Stage::WorkingDirectory, _) => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

const BORN: u8 = b'b';
const MAPPED: u8 = b'm';
const CONSOLE: u8 = b'c';
const ATTEND: u8 = b'a';
const ATTENDED: u8 = b'A';
const LISTENER: u8 = b'l';
const TAKEN: u8 = b't';
const READY: u8 = b'r';
const GO: u8 = b'g';
const LET_IN: u8 = b'i';
const FAILED: u8 = b'f';

/// The child's end.
#[derive(Debug)]
pub struct ChildEnd(Socket);

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The parent's end.
#[derive(Debug)]
pub struct ParentEnd(Socket);

/// Both ends of a new conversation.
pub fn pair() -> Result<(ParentEnd, ChildEnd)> {
    let (a, b) = Socket::pair().context("make a socket pair")?;
    Ok((ParentEnd(a), ChildEnd(b)))
}

impl ChildEnd {
    /// Hands the master of the container's pty to the parent.
    pub fn send_console(&self, master: OwnedFd) -> Result<()> {
        self.0.send_with(&[IoSlice::new(&[CONSOLE])], &[master.as_fd()]).context("send the terminal")
    }

    /// Tells the parent which process its child is.
    pub fn announce(&self, pid: i32) -> Result<()> {
        self.0.send(&numbered(BORN, pid)).context("announce the container's first process")
    }

    /// Waits until the ids of the user namespace are mapped.
    pub fn wait_for_maps(&self) -> Result<()> {
        let mut word = [0];
        match self.hear(&mut word) {
            Some(_) if word[0] == MAPPED => Ok(()),
            _ => bail!("the parent is gone"),
        }
    }

    /// Has the parent do what is to be done when the container is there, but not yet entered.
    pub fn ask_attendance(&self) -> Result<()> {
        self.0.send(&[ATTEND]).context("report to the parent")?;
        let mut word = [0];
        match self.hear(&mut word) {
            Some(_) if word[0] == ATTENDED => Ok(()),
            _ => bail!("the parent is gone"),
        }
    }

    /// Lets the parent take a copy of the seccomp listener. The word goes by write(2), which no filter with a listener
    /// may hold up; whoever holds up what comes then is asked by somebody who has the listener already.
    pub fn hand_listener(&self, listener: &OwnedFd) -> Result<()> {
        let word = numbered(LISTENER, listener.as_raw_fd());
        rustix::io::write(&self.0, &word).map_err(std::io::Error::from).context("report the seccomp listener")?;
        let mut word = [0];
        match rustix::io::read(&self.0, &mut word) {
            Ok(1) if word[0] == TAKEN => Ok(()),
            _ => bail!("nobody has taken the seccomp listener"),
        }
    }

    /// Says that all is set up, and waits for the word to go: from the parent, or from the first who comes to `door`
    /// and says it; the conversation goes on with that one.
    ///
    /// # Errors
    /// If the parent has gone or changed its mind: nothing may be executed then.
    pub fn wait_for_go(&mut self, door: Option<Listener>) -> Result<()> {
        self.0.send(&[READY]).context("report to the parent")?;
        let mut word = [0];
        let Some(door) = door else {
            return match self.hear(&mut word) {
                Some(_) if word[0] == GO => Ok(()),
                _ => bail!("the parent is gone"),
            };
        };
        loop {
            let interest = Interest { fd: door.as_fd(), read: true, write: false };
            poll::wait(&[interest], None).context("wait for somebody to start the container")?;
            let Some(visitor) = door.accept().context("hear who starts the container")? else { continue };
            visitor.set_blocking().context("talk to who starts the container")?;
            self.0 = visitor;
            if self.hear(&mut word).is_some() && word[0] == GO {
                // Others who came are to see at once that they are too late. By write(2), as above.
                drop(door);
                rustix::io::write(&self.0, &[LET_IN]).map_err(std::io::Error::from).context("answer who starts it")?;
                return Ok(());
            }
        }
    }

    /// The length of the parent's next message; `None` if there is none.
    fn hear(&self, buffer: &mut [u8]) -> Option<usize> {
        self.0.receive(buffer).ok().map(|(n, _)| n).filter(|n| *n > 0)
    }

    /// Tells the parent what went wrong. There is nobody else to tell if this fails too.
    pub fn send_failure(&self, stage: Stage, error: &anyhow::Error) {
        let errno = errors::errno(error);
        let mut text = errors::chain(error);
        text.truncate(text.floor_char_boundary(16 * 1024));
        let mut head = vec![FAILED, stage as u8];
        head.extend(errno.unwrap_or(0).to_ne_bytes());
        let _ = self.0.send_with(&[IoSlice::new(&head), IoSlice::new(text.as_bytes())], &[]);
    }
}

fn numbered(word: u8, number: i32) -> [u8; 5] {
    let n = number.to_ne_bytes();
    [word, n[0], n[1], n[2], n[3]]
}

/// What the parent hears before the program runs.
#[derive(Debug)]
pub enum Report {
    /// The number of the child that a helper has made.
    Born(i32),
    /// Everything is mounted; the child waits for [`ParentEnd::attended`].
    Attend,
    /// The number of the seccomp listener among the child's descriptors; it waits for [`ParentEnd::taken`].
    Listener(i32),
    /// The pty's master.
    Console(OwnedFd),
    /// Set up; waiting for the word to go.
    Ready,
    /// Who came to the door is the one who starts it.
    LetIn,
    /// The conversation is over: executed, or dead without a word.
    End,
}

impl ParentEnd {
    /// The child's next message.
    ///
    /// # Errors
    /// A [`Failure`] that the child reported.
    pub fn next(&self) -> Result<Report> {
        let (message, mut fds) = self.0.receive_message().context("hear from the container's first process")?;
        match (message.as_slice(), fds.pop()) {
            ([], _) => Ok(Report::End),
            ([READY], None) => Ok(Report::Ready),
            ([LET_IN], None) => Ok(Report::LetIn),
            ([CONSOLE], Some(master)) => Ok(Report::Console(master)),
            ([ATTEND], None) => Ok(Report::Attend),
            ([BORN, rest @ ..], None) if rest.len() == 4 => Ok(Report::Born(number(rest))),
            ([LISTENER, rest @ ..], None) if rest.len() == 4 => Ok(Report::Listener(number(rest))),
            ([FAILED, stage, e0, e1, e2, e3, text @ ..], _) => Err(Failure {
                stage: Stage::from_byte(*stage),
                errno: Some(i32::from_ne_bytes([*e0, *e1, *e2, *e3])).filter(|e| *e != 0),
                text: String::from_utf8_lossy(text).into_owned(),
            }
            .into()),
            _ => bail!("the container's first process said something unknown"),
        }
    }

    /// Says that the ids of the child's user namespace are mapped.
    pub fn mapped(&self) -> Result<()> {
        self.0.send(&[MAPPED]).context("answer the container's first process")
    }

    /// Says that what was to be done for the container is done.
    pub fn attended(&self) -> Result<()> {
        self.0.send(&[ATTENDED]).context("answer the container's first process")
    }

    /// Says that the seccomp listener is in good hands.
    pub fn taken(&self) -> Result<()> {
        self.0.send(&[TAKEN]).context("answer the container's first process")
    }

    /// The way to a child that waits at a door, to be followed by [`ParentEnd::go`].
    ///
    /// # Errors
    /// `ConnectionRefused` or `NotFound` if nobody waits there.
    pub fn visit(dir: &Path, name: &str) -> std::io::Result<ParentEnd> {
        Ok(ParentEnd(Socket::connect(dir, name)?))
    }

    /// Lets the child execute the program. The next report is the end, or a listener first.
    pub fn go(&self) -> Result<()> {
        self.0.send(&[GO]).context("start the container's first process")
    }
}

fn number(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_ne_bytes)
}
