//! The four ways in which a file with holes is stored: GNU's old one (type `S`) and pax 0.0, 0.1 and 1.0.

use super::header::{Block, number};
use super::pax::{Said, decimal};
use super::{BLOCK, Segment};
use anyhow::{Context, Result, bail};
use std::io;

/// A file of more pieces is not read.
const SEGMENT_LIMIT: usize = 1 << 17;

/// The size of the whole file and its pieces.
pub type Map = (u64, Vec<Segment>);

/// The map of an old GNU entry; `more` reads the next block.
pub fn old_gnu(block: &Block, mut more: impl FnMut() -> Result<Block>) -> Result<Map> {
    let size = unsigned(&block[483..495])?;
    let mut segments = Vec::new();
    table(&block[386..482], &mut segments)?;
    let mut continues = block[482] != 0;
    while continues {
        let block = more()?;
        table(&block[..504], &mut segments)?;
        continues = block[504] != 0;
    }
    Ok((size, segments))
}

fn table(entries: &[u8], segments: &mut Vec<Segment>) -> Result<()> {
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 || entry[12] == 0 {
            break;
        }
        push(segments, Segment { offset: unsigned(&entry[..12])?, length: unsigned(&entry[12..])? })?;
    }
    Ok(())
}

fn unsigned(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).context("a sparse map has a negative number")
}

fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<()> {
    if segments.len() == SEGMENT_LIMIT {
        bail!("a sparse file has more than {SEGMENT_LIMIT} pieces");
    }
    segments.push(segment);
    Ok(())
}

/// The map that pax records describe, if they do; `line` reads the next line of the content for version 1.0.
pub fn pax(records: Said, mut line: impl FnMut() -> io::Result<Vec<u8>>) -> Result<Option<Map>> {
    let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
    let real_size = match records.number("GNU.sparse.realsize")? {
        Some(size) => Some(size),
        None => records.number("GNU.sparse.size")?,
    };
    let mut segments = Vec::new();
    match version {
        (Some(b"1"), Some(b"0")) => {
            let count = decimal(&line()?)?;
            for _ in 0..count {
                push(&mut segments, Segment { offset: decimal(&line()?)?, length: decimal(&line()?)? })?;
            }
        }
        (None, None) | (Some(b"0"), Some(b"0" | b"1")) => match records.get("GNU.sparse.map") {
            Some(map) => pairs(map.split(|b| *b == b','), &mut segments)?,
            None if real_size.is_some() => pairs(records.pieces(), &mut segments)?,
            None => return Ok(None),
        },
        _ => bail!("a sparse file has an unknown format"),
    }
    let size = real_size.context("a sparse file has no size")?;
    Ok(Some((size, segments)))
}

fn pairs<'a>(mut numbers: impl Iterator<Item = &'a [u8]>, segments: &mut Vec<Segment>) -> Result<()> {
    while let Some(offset) = numbers.next() {
        let length = numbers.next().context("a sparse map is incomplete")?;
        push(segments, Segment { offset: decimal(offset)?, length: decimal(length)? })?;
    }
    Ok(())
}

/// Checks that the pieces are in order, inside the file and together as long as the `stored` bytes.
pub fn check((size, segments): &Map, stored: u64) -> Result<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for segment in segments {
        let stop = segment.offset.checked_add(segment.length);
        match stop {
            Some(stop) if segment.offset >= end && stop <= *size => end = stop,
            _ => bail!("a sparse map is out of order"),
        }
        sum += segment.length;
    }
    if sum != stored || i64::try_from(*size).is_err() {
        bail!("a sparse map does not fit the stored content");
    }
    Ok(())
}

/// The bytes that a map of `length` bytes in front of the content takes.
pub fn padded(length: u64) -> u64 {
    length.next_multiple_of(BLOCK as u64)
}
