//! What was added, changed and deleted above a stack of layers: the names, without their content.

use super::changes::{has_same_attributes, is_same, unless_gone};
use super::diff::{is_opaque, join, show};
use super::union::{Merged, Union};
use crate::sys::depth;
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result};
use rustix::fs::FileType;
use std::os::unix::ffi::OsStrExt;

/// What has become of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is new.
    Added,
    /// It is another than before, or something below it is.
    Changed,
    /// It is gone.
    Deleted,
}

/// One name that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What has become of it.
    pub fate: Fate,
    /// Its path, absolute.
    pub path: Vec<u8>,
}

/// Everything that differs in `upper`, an overlay's upper directory, from what is `below` it: in the order of a walk,
/// a directory before what is in it. What was only copied up is as it was.
pub fn differences(upper: &Dir, below: &Union) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    walk(upper, below.top(), b"", &mut found)?;
    Ok(found)
}

fn walk(upper: &Dir, below: &Merged, path: &[u8], found: &mut Vec<Difference>) -> Result<()> {
    for name in upper.names().with_context(|| format!("list {}", show(path)))? {
        let path = [path, b"/", name.as_bytes()].concat();
        let what = || format!("look at {}", show(&path));
        let Some(stat) = upper.stat_opt(&name).with_context(what)? else { continue };
        let old = below.lookup(&name).with_context(what)?;
        let mut note = |fate| found.push(Difference { fate, path: path.clone() });
        if is_whiteout(&stat) {
            if old.is_some() {
                note(Fate::Deleted);
            }
            continue;
        }
        if file_type(&stat) != FileType::Directory {
            match &old {
                None => note(Fate::Added),
                Some(old) => match unless_gone(is_same(upper, &name, &stat, below, old)).with_context(what)? {
                    Some(false) => note(Fate::Changed),
                    _ => continue,
                },
            }
            // In the place of a directory everything in it is gone.
            if let Some(old) = old.filter(|old| file_type(&old.stat) == FileType::Directory) {
                deleted(&below.enter(&name, &old)?, &path, found)?;
            }
            continue;
        }
        let Some(dir) = unless_gone(upper.child(&name)).with_context(what)? else { continue };
        let opaque = is_opaque(&dir)?;
        let under = match &old {
            Some(old) if file_type(&old.stat) == FileType::Directory => below.enter(&name, old).with_context(what)?,
            _ => Merged::default(),
        };
        depth::check(&path)?;
        let at = found.len();
        let none = Merged::default();
        walk(&dir, if opaque { &none } else { &under }, &path, found)?;
        if opaque {
            gone_below(&dir, &under, &path, found)?;
        }
        let fate = match &old {
            None => Fate::Added,
            // A directory that is as it was stands here for what is in it.
            Some(old) if found.len() == at => {
                match unless_gone(has_same_attributes(upper, &name, &stat, below, old)).with_context(what)? {
                    Some(false) => Fate::Changed,
                    _ => continue,
                }
            }
            Some(_) => Fate::Changed,
        };
        found.insert(at, Difference { fate, path });
    }
    Ok(())
}

/// What was below an opaque directory and is not in it again; what is again has changed rather than come new.
fn gone_below(upper: &Dir, under: &Merged, path: &[u8], found: &mut Vec<Difference>) -> Result<()> {
    for name in under.names()? {
        let path = [path, b"/", name.as_bytes()].concat();
        match upper.stat_opt(&name)?.filter(|stat| !is_whiteout(stat)) {
            None => found.push(Difference { fate: Fate::Deleted, path }),
            Some(_) => found.iter_mut().filter(|d| d.path == path).for_each(|d| d.fate = Fate::Changed),
        }
    }
    Ok(())
}

/// Everything in a directory that is gone.
fn deleted(under: &Merged, path: &[u8], found: &mut Vec<Difference>) -> Result<()> {
    for name in under.names()? {
        found.push(Difference { fate: Fate::Deleted, path: join(path, name.as_bytes()) });
    }
    Ok(())
}
