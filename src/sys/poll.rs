//! Waiting for several descriptors at once.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What to wait for on one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Wake when it can be read (or the other end is gone).
    pub read: bool,
    /// Wake when it can be written.
    pub write: bool,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// Data, an end of data, or an error can be read.
    pub read: bool,
    /// A write will not block, or will say that the other end is gone.
    pub write: bool,
}

/// Whether the other end of a connection is gone, even if there is something left to read.
pub fn is_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Waits until a descriptor is ready or the time is up; one answer for each interest, in order.
pub fn wait(interests: &[Interest<'_>], timeout: Option<Duration>) -> io::Result<Vec<Ready>> {
    // The kernel reports hang-ups even to those who asked for nothing: they are left out.
    let asked: Vec<usize> = (0..interests.len()).filter(|i| interests[*i].read || interests[*i].write).collect();
    let mut fds: Vec<PollFd<'_>> = asked
        .iter()
        .map(|i| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, interests[*i].read);
            flags.set(PollFlags::OUT, interests[*i].write);
            PollFd::from_borrowed_fd(interests[*i].fd, flags)
        })
        .collect();
    let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos().into() });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR;
    let mut ready = vec![Ready::default(); interests.len()];
    for (fd, at) in fds.iter().zip(asked) {
        ready[at] = Ready {
            read: interests[at].read && fd.revents().intersects(PollFlags::IN | gone),
            write: interests[at].write && fd.revents().intersects(PollFlags::OUT | gone),
        };
    }
    Ok(ready)
}
