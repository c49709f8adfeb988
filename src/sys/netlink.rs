//! Netlink: requests to the kernel's networking, many in one datagram, and what it answers.
//!
//! The kernel carries a datagram out while it is being sent: when `send` returns, everything is done and all answers
//! are there to be read.

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The part of the kernel that is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Interfaces, addresses, routes.
    Route,
    /// Packet filters.
    Netfilter,
}

/// A connection to the networking of the network namespace that the caller was in when it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A message that the kernel did not carry out.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What it should have done, in the caller's words.
    pub what: &'static str,
    /// Why not.
    pub errno: i32,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Refused {}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused { what: "talk to the kernel's networking", errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// One datagram of messages.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    whats: Vec<&'static str>,
}

/// The attributes of a message, or of one of its attributes.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

impl Request {
    /// Adds a message: its type and flags, its fixed part, its attributes. `what` is for errors.
    pub fn message(
        &mut self,
        what: &'static str,
        (kind, flags): (u16, i32),
        fixed: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(0u64.to_ne_bytes());
        self.bytes.extend(fixed);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.whats.push(what);
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.whats.is_empty()
    }

    /// Numbers the messages, so that answers can be told apart.
    fn number(&mut self, first: u32) {
        let (mut at, mut sequence) = (0, first);
        while at + HEADER <= self.bytes.len() {
            self.bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
            at += word(&self.bytes, at) as usize;
            sequence = sequence.wrapping_add(1);
        }
    }
}

impl Attributes<'_> {
    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        pad(self.0);
        self
    }

    /// Adds a text, with the zero that ends it.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.put(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds a number in the machine's order of bytes.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in the network's order of bytes.
    pub fn big(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that has attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.nest_after(kind, &[], fill)
    }

    /// As [`Attributes::nest`], with a fixed part before them.
    pub fn nest_after(&mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend(0u16.to_ne_bytes());
        self.0.extend((kind | NESTED).to_ne_bytes());
        self.0.extend(fixed);
        pad(self.0);
        fill(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|w| w.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens a connection.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if the kernel has no such part.
    pub fn open(part: Part) -> io::Result<Netlink> {
        let protocol = match part {
            Part::Route => SockProtocol::NetlinkRoute,
            Part::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Netlink { socket, sequence: 1 })
    }

    /// Has all messages carried out, and returns those that were not.
    ///
    /// # Errors
    /// The request did not reach the kernel.
    pub fn transact(&mut self, mut request: Request) -> io::Result<Vec<Refused>> {
        let first = self.send(&mut request)?;
        let mut refused = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let n = match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return Ok(refused),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            for (kind, sequence, body) in messages(&buffer[..n]) {
                let errno = (word(body, 0) as i32).wrapping_neg();
                if kind == libc::NLMSG_ERROR as u16 && errno != 0 {
                    let what = request.whats.get(sequence.wrapping_sub(first) as usize);
                    refused.push(Refused { what: what.copied().unwrap_or("change the network"), errno });
                }
            }
        }
    }

    /// The same where every refusal is an error: the first one.
    pub fn carry_out(&mut self, request: Request) -> Result<(), Refused> {
        self.transact(request)?.into_iter().next().map_or(Ok(()), Err)
    }

    /// Asks for a list: the type and the content of every message of the answer.
    pub fn list(&mut self, mut request: Request) -> Result<Vec<(u16, Vec<u8>)>, Refused> {
        let what = request.whats.first().copied().unwrap_or("list");
        self.send(&mut request)?;
        let mut found = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((n, _)) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(Refused { what, errno: e.raw_os_error() }),
            };
            for (kind, _, body) in messages(&buffer[..n]) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(found),
                    libc::NLMSG_ERROR if word(body, 0) == 0 => return Ok(found),
                    libc::NLMSG_ERROR => return Err(Refused { what, errno: (word(body, 0) as i32).wrapping_neg() }),
                    _ => found.push((kind, body.to_vec())),
                }
            }
        }
    }

    fn send(&mut self, request: &mut Request) -> io::Result<u32> {
        let first = self.sequence;
        request.number(first);
        self.sequence = first.wrapping_add(request.whats.len() as u32);
        loop {
            match rustix::net::send(&self.socket, &request.bytes, SendFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => return Ok(other.map(|_| first)?),
            }
        }
    }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0) as usize;
        let message = bytes.get(..length).filter(|_| length >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((half(message, 4), word(message, 8), &message[HEADER..]))
    })
}

/// The attributes behind the first `fixed` bytes of a message or an attribute: their types and contents.
pub fn attributes(bytes: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0));
        let attribute = rest.get(..length).filter(|_| length >= 4)?;
        let kind = half(attribute, 2) & 0x3fff;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, &attribute[4..]))
    })
}
