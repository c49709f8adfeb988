//! The tar format, read as the common tools write it and written in one way only.
//!
//! ```text
//! 512-byte block   offset length           offset length            offset length
//!   name                0    100   mtime     136     12   version     263      2
//!   mode              100      8   checksum  148      8   user, group 265  32+32
//!   uid               108      8   type      156      1   dev major   329      8
//!   gid               116      8   link      157    100   dev minor   337      8
//!   size              124     12   magic     257      6   prefix      345    155
//! ```
//! Records of type `x` and `g` (POSIX pax) and `L` and `K` (GNU) come before the entry that they are about.

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Reader, Source, Tap};
pub use writer::{END, encode, padding};

/// The unit of the format.
pub const BLOCK: usize = 512;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, with everything that its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it stands in the archive: not checked in any way.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// The target of a link, not checked either.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The file's size; for a sparse one this counts its holes.
    pub size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    /// Names and values, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes of a sparse file belong, in order; `None` for an ordinary file.
    pub segments: Option<Vec<Segment>>,
}

/// A piece of a sparse file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The components of an archive's path: no empty ones and no `.`; `None` if there is a `..` or a zero byte.
pub fn components(path: &[u8]) -> Option<Vec<&[u8]>> {
    if path.contains(&0) {
        return None;
    }
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    if parts.contains(&b"..".as_slice()) { None } else { Some(parts) }
}
