//! Exporting: a stack of layers as the tar of one tree.

use super::diff::{Links, describe, join, show};
use super::tar::{END, Kind, encode, padding};
use super::union::{Merged, Union};
use anyhow::{Context, Result};
use rustix::fs::OFlags;
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
        // A running container may have removed it meanwhile.
        let Some(found) = merged.lookup(&name).with_context(|| format!("read {}", show(&path)))? else { continue };
        let holder = merged.holder(&found);
        let entry = match describe(holder, &name, &path, &found.stat, links) {
            Err(_) if holder.stat_opt(&name)?.is_none() => continue,
            other => other?,
        };
        let Some(entry) = entry else { continue };
        out.write_all(&encode(&entry)).context("write the archive")?;
        match entry.kind {
            Kind::Directory => {
                let below = merged.enter(&name, &found).with_context(|| format!("open the folder {}", show(&path)))?;
                walk(&below, path, links, out)?;
            }
            Kind::File if entry.size > 0 => {
                let file = holder.open_at(&name, OFlags::RDONLY | OFlags::NONBLOCK, 0);
                let file = file.with_context(|| format!("open {}", show(&path)))?;
                copy_filled(File::from(file), entry.size, out).with_context(|| format!("read {}", show(&path)))?;
                out.write_all(&[0; 512][..padding(entry.size)]).context("write the archive")?;
            }
            _ => {}
        }
    }
    Ok(())
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
