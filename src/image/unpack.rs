//! Archives that are no layers: what they hold becomes the content of a folder.

use super::apply;
use super::feed::{Plain, Wanted, with_feed};
use super::tar::{Reader, Source};
use crate::sys::dir::Dir;
use anyhow::Result;
use std::io::{BufRead, BufReader, Read};

impl<R: Read> Source for BufReader<R> {}

/// Whether a stream, decompressed, begins with an entry of a tar archive.
pub fn is_archive(source: impl BufRead) -> bool {
    let Ok(plain) = Plain::new(source) else { return false };
    matches!(Reader::new(BufReader::new(plain), ()).next(), Ok(Some(_)))
}

/// Unpacks a tar archive in any compression that we know, of up to `limit` bytes, into an empty folder; nothing in it
/// leads outside.
pub fn unpack_archive(source: impl Read + Send, into: &Dir, limit: u64) -> Result<()> {
    with_feed(source, Wanted::default(), limit, |feed| apply::unpack(feed, into, None, limit, ())).map(drop)
}
