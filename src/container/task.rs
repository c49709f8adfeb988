//! How a client gets a supervisor: started early and idle, given its task when everything is ready for it.
//!
//! A client that changes its mind, or is killed, just drops the connection, and the supervisor ends.

use crate::sys::file::{in_memory, read_all_limited};
use crate::sys::process::{self, Child};
use crate::sys::socket::Socket;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The client's end of a supervisor that waits for its task.
#[derive(Debug)]
pub struct Waiting(Socket);

/// The largest task in bytes: arguments and environment of a command, mostly.
const LIMIT: u64 = 64 << 20;

/// The client's messages: a container that needs a network namespace will come, and the task, with its text.
const NETWORK: u8 = b'N';
const TASK: u8 = b'T';

impl Waiting {
    /// Starts a supervisor under `name`, which does `task` with its end of the connection. Those who live long enough
    /// reap the child that it is.
    ///
    /// `root` is the store's folder, which those who list processes see.
    pub fn start(name: &str, root: &Path, task: impl FnOnce(OwnedFd) -> i32) -> Result<(Waiting, Child)> {
        let (ours, theirs) = Socket::pair().context("make a socket pair")?;
        let child = process::spawn_self(name, &theirs, root.as_os_str(), task).context("start a supervisor")?;
        Ok((Waiting(ours), child))
    }

    /// Has it make a network namespace while it waits for its task.
    pub fn foretell_network(&self) -> Result<()> {
        self.0.send(&[NETWORK]).context("tell the supervisor what will come")
    }

    /// Gives it its task, with descriptors to keep, and returns the connection to it.
    pub fn give(self, task: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<Socket> {
        let text = in_memory(&serde_json::to_vec(task).context("write the supervisor's task")?)?;
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(text.as_fd()).chain(fds.iter().copied()).collect();
        self.0.send_with(&[IoSlice::new(&[TASK])], &fds).context("give the supervisor its task")?;
        Ok(self.0)
    }
}

/// A supervisor's task, the connection to the client, and what descriptors came with it.
pub type Taken<T> = (T, Socket, std::vec::IntoIter<OwnedFd>);

/// The supervisor's side of [`Waiting`]: waits for the task; `None` if the client has changed its mind. `network` is
/// called if the client foretells that the task will need one.
pub fn take<T: DeserializeOwned>(client: OwnedFd, mut network: impl FnMut()) -> Result<Option<Taken<T>>> {
    let socket = Socket::from(client);
    let mut word = [0];
    let mut fds = loop {
        match socket.receive(&mut word).context("wait for a task")? {
            (0, _) => return Ok(None),
            (_, fds) if word == [TASK] => break fds.into_iter(),
            _ => network(),
        }
    };
    let Some(text) = fds.next() else { bail!("a task without its text") };
    let text = read_all_limited(&mut File::from(text), LIMIT).context("read the task")?;
    Ok(Some((serde_json::from_slice(&text).context("understand the task")?, socket, fds)))
}
