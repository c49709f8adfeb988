//! A socket of a command's own that leads to an ssh agent of the user's.
//!
//! The agent's own socket would serve root alone: whom it belongs to is no command's business, and agents hear nobody
//! but root and their own user. Here whoever may use the command's socket is passed on as root.

use crate::sys::poll::{self, Interest};
use crate::sys::socket;
use anyhow::{Context, Result};
use rustix::pipe::PipeFlags;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Connections at a time: each is a thread.
const LIMIT: usize = 100;

/// A socket that is there for as long as this is.
pub struct Forward {
    /// Where it is.
    pub path: PathBuf,
    /// Its other end tells the threads that nobody needs them any more.
    _stop: OwnedFd,
}

impl Forward {
    /// Makes the socket `name` in `folder`, with this owner and mode, and passes on who connects to it.
    pub fn start(folder: &Path, name: &str, owner: (u32, u32), mode: u32, agent: &Path) -> Result<Forward> {
        let path = folder.join(name);
        let listener = socket::listen_stream(folder, name).with_context(|| format!("listen at {}", path.display()))?;
        chown(&path, Some(owner.0), Some(owner.1)).context("set the owner of the socket")?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).context("set the mode of the socket")?;
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (stopped, stop) = pipe.context("make a pipe")?;
        let agent = agent.to_owned();
        let work = move || accept(&listener, &agent, &Arc::new(stopped));
        std::thread::Builder::new().spawn(work).context("start a thread")?;
        Ok(Forward { path, _stop: stop })
    }
}

/// Passes connections on. Those that cannot be are closed, which is all that can be told.
fn accept(listener: &UnixListener, agent: &Path, stopped: &Arc<OwnedFd>) {
    loop {
        match poll::wait(&[to_read(listener), to_read(stopped)], None) {
            Ok(ready) if ready[1].read => return,
            Ok(ready) if !ready[0].read => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let Ok((client, _)) = listener.accept() else { return };
        // Every thread has one.
        if Arc::strong_count(stopped) > LIMIT {
            continue;
        }
        let (agent, stopped) = (agent.to_owned(), stopped.clone());
        let work = move || socket::connect_stream(&agent).and_then(|agent| relay(&client, &agent, &stopped));
        let _ = std::thread::Builder::new().spawn(work);
    }
}

/// Carries what both say to the other, until the agent has ended or nobody needs it any more.
fn relay(mut client: &UnixStream, mut agent: &UnixStream, stopped: &OwnedFd) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut is_asking = true;
    loop {
        let from_client = Interest { read: is_asking, ..to_read(client) };
        let ready = poll::wait(&[from_client, to_read(&agent), to_read(stopped)], None)?;
        if ready[2].read {
            return Ok(());
        }
        if ready[0].read {
            match client.read(&mut buffer)? {
                0 => {
                    is_asking = false;
                    agent.shutdown(Shutdown::Write)?;
                }
                length => agent.write_all(&buffer[..length])?,
            }
        }
        if ready[1].read {
            match agent.read(&mut buffer)? {
                0 => return Ok(()),
                length => client.write_all(&buffer[..length])?,
            }
        }
    }
}

fn to_read(fd: &impl AsFd) -> Interest<'_> {
    let fd: BorrowedFd<'_> = fd.as_fd();
    Interest { fd, read: true, write: false }
}
