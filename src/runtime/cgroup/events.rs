//! News of a cgroup's memory, as a descriptor to wait on.

use super::files::{explain, read, value_of};
use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What an [`OomWatch`] has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryEvent {
    /// The kernel has killed for lack of memory, or would have.
    OutOfMemory,
    /// The cgroup has no processes any more, or is gone.
    Ended,
}

/// Readable when there is news: wait for the descriptor, then take what [`OomWatch::news`] has.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    dir: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Counter,
    Files { kills: u64 },
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OomWatch {
    /// Version 1 counts into an eventfd that was registered.
    pub(super) fn v1(dir: &Path) -> Result<OomWatch> {
        let control = std::fs::File::open(dir.join("memory.oom_control")).map_err(explain);
        let control = control.with_context(|| format!("open {}/memory.oom_control", dir.display()))?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        super::files::write(dir, "cgroup.event_control", &format!("{} {}", fd.as_raw_fd(), control.as_raw_fd()))?;
        Ok(OomWatch { fd, dir: dir.to_owned(), kind: Kind::Counter })
    }

    /// Version 2 changes files that can be watched.
    pub(super) fn v2(dir: &Path) -> Result<OomWatch> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(io::Error::from).context("make an inotify descriptor")?;
        for file in ["memory.events", "cgroup.events"] {
            let path = dir.join(file);
            inotify::add_watch(&fd, &path, inotify::WatchFlags::MODIFY)
                .map_err(io::Error::from)
                .with_context(|| format!("watch {}", path.display()))?;
        }
        let kills = kills(dir)?;
        Ok(OomWatch { fd, dir: dir.to_owned(), kind: Kind::Files { kills } })
    }

    /// The news since the last call; none if a wake-up was about something else.
    pub fn news(&mut self) -> io::Result<Vec<MemoryEvent>> {
        let mut buffer = [0u8; 4096];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
        let (killed, ended) = match &mut self.kind {
            // The removal of the cgroup counts as well.
            Kind::Counter => {
                let gone = !self.dir.join("cgroup.event_control").exists();
                (!gone, gone)
            }
            Kind::Files { kills: known } => {
                let before = *known;
                *known = kills(&self.dir).unwrap_or(before);
                let populated = read(&self.dir, "cgroup.events").ok().and_then(|t| value_of(&t, "populated"));
                (*known > before, populated != Some(1))
            }
        };
        let news = [(killed, MemoryEvent::OutOfMemory), (ended, MemoryEvent::Ended)];
        Ok(news.into_iter().filter(|(happened, _)| *happened).map(|(_, event)| event).collect())
    }
}

fn kills(dir: &Path) -> io::Result<u64> {
    let text = read(dir, "memory.events")?;
    value_of(&text, "oom_kill").ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
