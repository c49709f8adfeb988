//! Message sockets: one send is one receive, with descriptors riding along.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The largest message that is sent or received.
pub const MAX_MESSAGE: usize = 32 * 1024;

/// So many descriptors ride with one message at most.
pub const MAX_DESCRIPTORS: usize = 4;

/// One end of a sequenced-packet connection.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Socket(fd)
    }
}

impl Socket {
    /// Two connected ends, closed on exec.
    pub fn pair() -> io::Result<(Socket, Socket)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Socket(a), Socket(b)))
    }

    /// Connects to the listener at `name` in the folder `dir`.
    pub fn connect(dir: &Path, name: &str) -> io::Result<Socket> {
        let dir = super::dir::Dir::open(dir)?;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&fd, &short_address(&dir, name)?)?;
        Ok(Socket(fd))
    }

    /// Reading and writing return `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, true)?)
    }

    /// Reading and writing wait.
    pub fn set_blocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, false)?)
    }

    /// Sends one message, waiting for room unless the socket is non-blocking.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.send_with(&[IoSlice::new(message)], &[])
    }

    /// Sends one message made of several parts, with descriptors.
    pub fn send_with(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            match sendmsg(&self.0, parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Receives one message (an empty one when the other end is gone) and its descriptors. It takes no more memory than
    /// the message needs: most are a few bytes long.
    pub fn receive_message(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let length = loop {
            match recv(&self.0, &mut [0u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC) {
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                other => break other?.1,
            }
        };
        let mut message = vec![0; length];
        let (n, fds) = self.receive(&mut message)?;
        message.truncate(n);
        Ok((message, fds))
    }

    /// Receives one message into `buffer`: its length (0 when the other end is gone) and its descriptors.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                // The peer went with messages of ours unread. That is told once, and before the messages that it had
                // sent; they come next, and then the end.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok((received.bytes, fds))
    }
}

/// A listening sequenced-packet socket in a folder.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    /// Listens at `name` in the folder `dir`, replacing what was there.
    pub fn bind(dir: &Path, name: &str) -> io::Result<Listener> {
        let dir = super::dir::Dir::open(dir)?;
        dir.remove_tree(name)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&fd, &short_address(&dir, name)?)?;
        rustix::net::listen(&fd, 64)?;
        Ok(Listener(fd))
    }

    /// Whether somebody listens at `name` in the folder `dir`. Never waits, not even for one who does not accept.
    pub fn is_at(dir: &Path, name: &str) -> io::Result<bool> {
        let dir = super::dir::Dir::open(dir)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match rustix::net::connect(&fd, &short_address(&dir, name)?) {
            Ok(()) | Err(Errno::AGAIN) => Ok(true),
            Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The next connection, non-blocking, if one is waiting.
    pub fn accept(&self) -> io::Result<Option<Socket>> {
        match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => Ok(Some(Socket(fd))),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Connects to the stream socket at `path` and sends one descriptor with a few words.
pub fn send_descriptor(path: &Path, words: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    Socket(connect_stream(path)?.into()).send_with(&[IoSlice::new(words)], &[fd])
}

/// Connects to the stream socket at `path`, however long that is.
pub fn connect_stream(path: &Path) -> io::Result<UnixStream> {
    let name = path.file_name().and_then(|n| n.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = super::dir::Dir::open(parent)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &short_address(&dir, name)?)?;
    Ok(socket.into())
}

/// Listens for streams at a new socket, `name` in the folder `dir`, however long its path is.
pub fn listen_stream(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let dir = super::dir::Dir::open(dir)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &short_address(&dir, name)?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket.into())
}

/// Socket addresses hold 107 bytes; going through the folder's descriptor makes any path short enough.
fn short_address(dir: &super::dir::Dir, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_fd().as_raw_fd()))?)
}
