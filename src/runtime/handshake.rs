//! What a launching parent and its child say to each other over one socket pair.
//!
//! ```text
//! child  ── console (with the pty's master) ──▶ parent     only with a terminal
//! child  ── ready ────────────────────────────▶ parent     everything is set up
//! child  ◀─ go ────────────────────────────────  parent    run the program
//! child  ── end of stream ────────────────────▶ parent     execve has succeeded
//! child  ── failed (stage, errno, text) ──────▶ parent     instead of any of its messages
//! ```

use crate::sys::socket::Socket;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

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
            4 => Stage::WorkingDirectory,
            5 => Stage::Exec,
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

const CONSOLE: u8 = b'c';
const READY: u8 = b'r';
const GO: u8 = b'g';
const FAILED: u8 = b'f';

/// The child's end.
#[derive(Debug)]
pub struct ChildEnd(Socket);

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

    /// Says that all is set up, and waits for the word to go.
    ///
    /// # Errors
    /// If the parent has gone or changed its mind: nothing may be executed then.
    pub fn wait_for_go(&self) -> Result<()> {
        self.0.send(&[READY]).context("report to the parent")?;
        let mut word = [0];
        let (n, _) = self.0.receive(&mut word).context("wait for the parent")?;
        if n != 1 || word[0] != GO {
            bail!("the parent is gone");
        }
        Ok(())
    }

    /// Tells the parent what went wrong. There is nobody else to tell if this fails too.
    pub fn send_failure(&self, stage: Stage, error: &anyhow::Error) {
        let errno = error.chain().find_map(|cause| {
            let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
            io.or_else(|| cause.downcast_ref::<nix::Error>().map(|e| *e as i32))
        });
        let mut text = format!("{error:#}");
        text.truncate(text.floor_char_boundary(16 * 1024));
        let mut head = vec![FAILED, stage as u8];
        head.extend(errno.unwrap_or(0).to_ne_bytes());
        let _ = self.0.send_with(&[IoSlice::new(&head), IoSlice::new(text.as_bytes())], &[]);
    }
}

/// What the parent hears before the program runs.
#[derive(Debug)]
pub enum Report {
    /// The pty's master.
    Console(OwnedFd),
    /// Set up; waiting for the word to go.
    Ready,
    /// The conversation is over: executed, or dead without a word.
    End,
}

impl ParentEnd {
    /// The child's next message.
    ///
    /// # Errors
    /// A [`Failure`] that the child reported.
    pub fn next(&self) -> Result<Report> {
        let mut buffer = vec![0u8; 17 * 1024];
        let (n, mut fds) = self.0.receive(&mut buffer).context("hear from the container's first process")?;
        match (&buffer[..n], fds.pop()) {
            ([], _) => Ok(Report::End),
            ([READY], None) => Ok(Report::Ready),
            ([CONSOLE], Some(master)) => Ok(Report::Console(master)),
            ([FAILED, stage, e0, e1, e2, e3, text @ ..], _) => Err(Failure {
                stage: Stage::from_byte(*stage),
                errno: Some(i32::from_ne_bytes([*e0, *e1, *e2, *e3])).filter(|e| *e != 0),
                text: String::from_utf8_lossy(text).into_owned(),
            }
            .into()),
            _ => bail!("the container's first process said something unknown"),
        }
    }

    /// Lets the child execute the program and waits until it has.
    ///
    /// # Errors
    /// A [`Failure`] if it could not.
    pub fn go(&self) -> Result<()> {
        self.0.send(&[GO]).context("start the container's first process")?;
        match self.next()? {
            Report::End => Ok(()),
            other => bail!("the container's first process said {other:?} instead of starting"),
        }
    }
}
