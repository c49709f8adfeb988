//! Hard links to files of lower layers: the file is copied up, as overlayfs would do it, and then linked.
//!
//! Such a layer is no longer made of its own tar alone. It remembers what it stands on, and is not used elsewhere:
//!
//! ```text
//! <root>/layers/<diff id>/on    the chain id of the layers below it
//! ```

use super::copy::{Copied, describe};
use super::diff::{is_opaque, mtime, show};
use super::digest::Digest;
use super::remove::chain;
use super::union::Union;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Stat};
use std::ffi::OsStr;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const ON: &str = "on";

/// A hard link whose target is not in the same layer.
#[derive(Debug)]
pub struct NeedsBelow(pub Vec<u8>);

impl fmt::Display for NeedsBelow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its target {} is not in the same layer", show(&self.0))
    }
}

impl std::error::Error for NeedsBelow {}

/// A directory that was made on the way: path, inode and time.
pub type Made = (Vec<u8>, u64, (i64, u32));

/// Copies the file at `parts` from the layers below into the layer `fs`, with the folders that it lies in. Links on
/// the way are not followed. `allow` is asked first.
pub fn bring_up(
    below: &Union,
    parts: &[&[u8]],
    fs: &Dir,
    allow: &mut dyn FnMut(&Stat) -> std::io::Result<()>,
) -> Result<(Stat, Vec<Made>)> {
    let missing = || NeedsBelow(parts.join(&b'/'));
    let (name, parents) = parts.split_last().with_context(missing)?;
    let (mut from, mut to) = (below.top().clone(), fs.try_clone()?);
    let mut made = Vec::new();
    for (depth, part) in parents.iter().enumerate() {
        let part = OsStr::from_bytes(part);
        let found = from.lookup(part)?.filter(|found| file_type(&found.stat) == FileType::Directory);
        let found = found.with_context(missing)?;
        if to.stat_opt(part)?.is_none() {
            to.mkdir(part, 0o700)?;
            describe(from.holder(&found), part, &found.stat, &to)?;
            made.push((parents[..=depth].join(&b'/'), to.stat(part)?.st_ino, mtime(&found.stat)));
        }
        from = from.enter(part, &found)?;
        to = to.child(part).with_context(missing)?;
        if is_opaque(&to)? {
            bail!(missing());
        }
    }
    let name = OsStr::from_bytes(name);
    let found = from.lookup(name)?.filter(|found| file_type(&found.stat) != FileType::Directory);
    let found = found.with_context(missing)?;
    allow(&found.stat)?;
    Copied::default().copy(from.holder(&found), name, &found.stat, &to)?;
    Ok((to.stat(name)?, made))
}

/// Notes in a layer's folder what it stands on.
pub fn note(folder: &Path, below: &[Digest]) -> Result<()> {
    let Some((_, on)) = chain(below).pop() else { return Ok(()) };
    std::fs::write(folder.join(ON), on.to_string()).context("note what the layer stands on")
}

/// Checks that no layer of an image, each in its folder, has files of other layers than those below it.
///
/// # Errors
/// A layer that was unpacked on others.
pub fn check(layers: &[Digest], folder: impl Fn(&Digest) -> PathBuf) -> Result<()> {
    for (at, layer) in layers.iter().enumerate() {
        let path = folder(layer).join(ON);
        let on = match std::fs::read_to_string(&path) {
            Ok(on) => on,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        };
        if chain(&layers[..at]).pop().map(|(_, chain)| chain.to_string()) != Some(on) {
            bail!("the layer {layer} links to files of the layers below it, and is in the store on other ones");
        }
    }
    Ok(())
}
