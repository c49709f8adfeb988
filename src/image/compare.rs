//! What is different between two trees of stacked layers, as `docker diff` would list it.

use super::changes::{has_same_attributes, has_same_content};
use super::diff::{join, show};
use super::store::{Image, Store};
use super::union::{Found, Merged, Union};
use crate::sys::depth;
use crate::sys::dir::file_type;
use anyhow::{Context, Result};
use rustix::fs::{FileType, OFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// Its content or its attributes are others, or something below it is.
    Changed,
    /// It is gone.
    Deleted,
}

/// A path that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What became of it.
    pub change: Change,
    /// From the root, without a slash at the beginning.
    pub path: Vec<u8>,
}

impl Store {
    /// What is different in `new`, in the order of a walk. A directory that vanished is told once, a new one with all
    /// that is in it.
    pub fn compare(&self, old: &Image, new: &Image) -> Result<Vec<Difference>> {
        let (old, new) = (Union::new(self.open_layers(old.layers())?), Union::new(self.open_layers(new.layers())?));
        let mut out = Vec::new();
        walk(old.top(), new.top(), Vec::new(), &mut out)?;
        Ok(out)
    }
}

fn walk(old: &Merged, new: &Merged, path: Vec<u8>, out: &mut Vec<Difference>) -> Result<()> {
    let what = || format!("compare {}", show(&path));
    if old.is(new).with_context(what)? {
        return Ok(());
    }
    let (before, now) = (old.names().with_context(what)?, new.names().with_context(what)?);
    for name in before.into_iter().chain(now).collect::<BTreeSet<_>>() {
        let path = join(&path, name.as_bytes());
        let what = || format!("compare {}", show(&path));
        match (old.lookup(&name).with_context(what)?, new.lookup(&name).with_context(what)?) {
            (None, None) => {}
            (Some(_), None) => out.push(Difference { change: Change::Deleted, path }),
            (before, Some(now)) => {
                let at = out.len();
                let same = match &before {
                    Some(before) => is_same((old, before), (new, &now), &name).with_context(what)?,
                    None => false,
                };
                let change = if before.is_some() { Change::Changed } else { Change::Added };
                out.push(Difference { change, path: path.clone() });
                if file_type(&now.stat) == FileType::Directory {
                    let below = match before.filter(|b| file_type(&b.stat) == FileType::Directory) {
                        Some(before) => old.enter(&name, &before).with_context(what)?,
                        None => Merged::default(),
                    };
                    depth::check(&path)?;
                    walk(&below, &new.enter(&name, &now).with_context(what)?, path, out)?;
                }
                if same && out.len() == at + 1 {
                    out.truncate(at);
                }
            }
        }
    }
    Ok(())
}

/// Whether a name means the same in both; of directories only their attributes count.
fn is_same((old, before): (&Merged, &Found), (new, now): (&Merged, &Found), name: &OsStr) -> Result<bool> {
    let identity = |found: &Found| (found.stat.st_dev, found.stat.st_ino);
    if identity(before) == identity(now) {
        return Ok(true);
    }
    let kind = file_type(&now.stat);
    let is_directory = kind == FileType::Directory;
    if !is_directory && before.stat.st_size != now.stat.st_size {
        return Ok(false);
    }
    let holder = new.holder(now);
    if !has_same_attributes(holder, name, &now.stat, old, before)? {
        return Ok(false);
    }
    match kind {
        FileType::Directory => Ok(true),
        FileType::RegularFile => {
            let open = |dir: &crate::sys::dir::Dir| dir.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0);
            Ok(has_same_content(File::from(open(holder)?), File::from(open(old.holder(before))?))?)
        }
        FileType::Symlink => Ok(holder.readlink(name)? == old.holder(before).readlink(name)?),
        _ => Ok(now.stat.st_rdev == before.stat.st_rdev),
    }
}
