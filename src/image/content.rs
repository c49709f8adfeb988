//! The content of files on its way from an archive to the disk, dense or with holes.

use super::tar::{Reader, Segment, Source, Tap};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Writes all of the current entry's content.
pub fn copy_dense<S: Source, T: Tap>(mut file: &File, reader: &mut Reader<S, T>) -> Result<()> {
    loop {
        let piece = reader.content().context("read the archive")?;
        if piece.is_empty() {
            return Ok(());
        }
        file.write_all(piece).context("write the file")?;
        let length = piece.len();
        reader.consume(length)?;
    }
}

/// Writes the pieces of the current entry where they belong, and makes the file as long as it is with its holes.
pub fn copy_sparse<S: Source, T: Tap>(
    file: &File,
    segments: &[Segment],
    size: u64,
    reader: &mut Reader<S, T>,
) -> Result<()> {
    for segment in segments {
        let mut done = 0;
        while done < segment.length {
            let piece = reader.content().context("read the archive")?;
            let length = piece.len().min(usize::try_from(segment.length - done).unwrap_or(usize::MAX));
            file.write_all_at(&piece[..length], segment.offset + done).context("write the file")?;
            reader.consume(length)?;
            done += length as u64;
        }
    }
    file.set_len(size).context("set the file's size")
}
