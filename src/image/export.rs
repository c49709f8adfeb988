//! Exporting: a stack of layers as the tar of one tree.

use super::diff::{Links, describe, join, show};
use super::tar::{END, Entry, Kind, encode, padding};
use super::union::{Merged, Union};
use crate::sys::depth;
use anyhow::{Context, Result};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

impl Union {
    /// Writes everything in the tree, without the tree's own top folder. A file that shrinks meanwhile is filled up
    /// with zeros, one that grows is cut off.
    pub fn write_tar(&self, out: &mut dyn Write) -> Result<()> {
        walk(self.top(), Vec::new(), &mut Links::default(), out)?;
        out.write_all(&END).and_then(|()| out.flush()).context("write the archive")
    }
}

fn walk(merged: &Merged, path: Vec<u8>, links: &mut Links, out: &mut dyn Write) -> Result<()> {
    for name in merged.names().with_context(|| format!("read the folder {}", show(&path)))? {
        let path = join(&path, name.as_bytes());
        match Content::open(merged, &name, &path, links) {
            Ok(None) => {}
            Ok(Some((entry, content))) => {
                out.write_all(&encode(&entry)).context("write the archive")?;
                content.write(path, &entry, links, out)?;
            }
            // A running container may have removed it meanwhile, or may do so again and again.
            Err(e) if is_missing(&e) || merged.lookup(&name).is_ok_and(|found| found.is_none()) => {}
            Err(e) => return Err(e).with_context(|| format!("read {}", show(&path))),
        }
    }
    Ok(())
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::NotFound)
}

/// What follows the headers of an entry.
enum Content {
    None,
    File(File),
    Folder(Merged),
}

impl Content {
    /// Describes a name and opens what it means, before anything about it is written.
    fn open(merged: &Merged, name: &OsStr, path: &[u8], links: &mut Links) -> Result<Option<(Entry, Content)>> {
        let Some(found) = merged.lookup(name)? else { return Ok(None) };
        let holder = merged.holder(&found);
        let Some(entry) = describe(holder, name, path, &found.stat, links)? else { return Ok(None) };
        let content = match entry.kind {
            Kind::Directory => Content::Folder(merged.enter(name, &found)?),
            Kind::File if entry.size > 0 => {
                Content::File(holder.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?.into())
            }
            _ => Content::None,
        };
        Ok(Some((entry, content)))
    }

    fn write(self, path: Vec<u8>, entry: &Entry, links: &mut Links, out: &mut dyn Write) -> Result<()> {
        match self {
            Content::None => Ok(()),
            Content::Folder(below) => {
                depth::check(&path)?;
                walk(&below, path, links, out)
            }
            Content::File(file) => {
                copy_filled(file, entry.size, out).with_context(|| format!("read {}", show(&path)))?;
                out.write_all(&[0; 512][..padding(entry.size)]).context("write the archive")
            }
        }
    }
}

fn copy_filled(file: File, size: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut source = file.chain(io::repeat(0)).take(size);
    let mut buffer = vec![0u8; usize::try_from(size).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            length => out.write_all(&buffer[..length])?,
        }
    }
}
