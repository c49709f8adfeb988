//! The place that files are copied to: a new upper directory above the tree that it will lie on.
//!
//! Links of that tree are followed inside of it; whatever folder is written to is first made in the upper directory
//! with the attributes that it has below.

use crate::image::copy::describe;
use crate::image::union::{Found, Merged, Union};
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Stat, Timespec, Timestamps};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::rc::Rc;

/// Links that are followed for one path.
const LINK_LIMIT: usize = 40;

/// Where everything goes.
pub struct Target<'a> {
    upper: &'a Dir,
    lower: Merged,
    /// The time of what is made now.
    pub now: (i64, u32),
    /// Whose the folders are that nobody has described.
    pub owner: (u32, u32),
    /// Times of folders, set at the end: what is made in a folder changes its time.
    times: BTreeMap<Vec<u8>, (i64, u32)>,
}

/// A folder of it that is there in the upper directory.
#[derive(Clone)]
pub struct Folder {
    pub dir: Rc<Dir>,
    /// What lies below it.
    lower: Option<Merged>,
    /// From the top, without a leading slash.
    path: Vec<u8>,
}

impl Folder {
    /// From the top, without a leading slash.
    pub fn path_of(&self, name: &OsStr) -> Vec<u8> {
        join(&self.path, name)
    }
}

/// What a name in a folder means.
enum Meaning {
    Nothing,
    Upper(Stat),
    Lower(Found),
}

/// What a path leads to when links are followed.
pub struct Resolved {
    pub path: Vec<Vec<u8>>,
    pub is_folder: bool,
}

impl<'a> Target<'a> {
    pub fn new(upper: &'a Dir, lower: &Union, now: (i64, u32), owner: (u32, u32)) -> Target<'a> {
        Target { upper, lower: lower.top().clone(), now, owner, times: BTreeMap::new() }
    }

    fn top(&self) -> Result<Folder> {
        let dir = Rc::new(self.upper.try_clone()?);
        Ok(Folder { dir, lower: Some(self.lower.clone()), path: Vec::new() })
    }

    /// Follows the links of a path.
    pub fn resolve(&self, path: &[Vec<u8>]) -> Result<Resolved> {
        type At = (Option<Rc<Dir>>, Option<Merged>);
        let top: At = (Some(Rc::new(self.upper.try_clone()?)), Some(self.lower.clone()));
        let mut stack: Vec<(Vec<u8>, At)> = Vec::new();
        let mut todo: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut links = 0;
        let mut is_folder = true;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                stack.pop();
                is_folder = true;
                continue;
            }
            let (upper, lower) = stack.last().map_or(&top, |(_, at)| at);
            let key = OsStr::from_bytes(&name);
            let (kind, link) = match meaning(upper.as_deref(), lower.as_ref(), key)? {
                Meaning::Nothing => (None, None),
                Meaning::Upper(stat) => (Some(file_type(&stat)), upper.as_ref().and_then(|dir| dir.readlink(key).ok())),
                Meaning::Lower(found) => {
                    (Some(file_type(&found.stat)), lower.as_ref().and_then(|l| l.holder(&found).readlink(key).ok()))
                }
            };
            if let Some(link) = link {
                links += 1;
                if links > LINK_LIMIT {
                    bail!("too many links at {:?}", String::from_utf8_lossy(&name));
                }
                let link = link.into_vec();
                if link.starts_with(b"/") {
                    stack.clear();
                }
                let parts = link.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
                parts.rev().for_each(|part| todo.push_front(part.to_vec()));
                continue;
            }
            let at = match kind {
                Some(FileType::Directory) => {
                    let below = match lower.as_ref().map(|l| (l, l.lookup(key))) {
                        Some((lower, Ok(Some(found)))) => lower.enter(key, &found).ok(),
                        _ => None,
                    };
                    (upper.as_ref().and_then(|dir| dir.child(key).ok()).map(Rc::new), below)
                }
                Some(_) if !todo.is_empty() => bail!("{:?} is not a folder", String::from_utf8_lossy(&name)),
                _ => (None, None),
            };
            is_folder = kind == Some(FileType::Directory);
            stack.push((name, at));
        }
        Ok(Resolved { path: stack.into_iter().map(|(name, _)| name).collect(), is_folder })
    }

    /// The folder at a path without links, made as far as it is missing.
    pub fn folder(&mut self, path: &[Vec<u8>]) -> Result<Folder> {
        let mut at = self.top()?;
        for name in path {
            let (inner, is_new) = self.enter(&at, OsStr::from_bytes(name), false)?;
            if is_new {
                let name = OsStr::from_bytes(name);
                at.dir.chown(name, self.owner.0, self.owner.1)?;
                at.dir.chmod(name, 0o755)?;
            }
            at = inner;
        }
        Ok(at)
    }

    /// The folder `name` in another one, and whether it is new. With `replaces` it takes the place of what is none.
    pub fn enter(&mut self, parent: &Folder, name: &OsStr, replaces: bool) -> Result<(Folder, bool)> {
        let path = join(&parent.path, name);
        let under = match &parent.lower {
            Some(lower) => lower.lookup(name)?.map(|found| (lower, found)),
            None => None,
        };
        let under = under.filter(|(_, found)| file_type(&found.stat) == FileType::Directory || !replaces);
        let refuse = || bail!("cannot copy to non-directory: {:?}", format!("/{}", String::from_utf8_lossy(&path)));
        let mut is_new = false;
        match parent.dir.stat_opt(name)? {
            Some(stat) if file_type(&stat) == FileType::Directory => {}
            Some(_) if !replaces => return refuse(),
            upper => {
                if upper.is_some() {
                    parent.dir.unlink(name)?;
                }
                parent.dir.mkdir(name, 0o700).context("make the folder")?;
                match &under {
                    None => is_new = true,
                    Some((_, found)) if file_type(&found.stat) != FileType::Directory => {
                        parent.dir.rmdir(name)?;
                        return refuse();
                    }
                    Some((lower, found)) => describe(lower.holder(found), name, &found.stat, &parent.dir)?,
                }
            }
        }
        self.times.insert(path.clone(), self.now);
        let lower = under.map(|(lower, found)| lower.enter(name, &found)).transpose()?;
        Ok((Folder { dir: Rc::new(parent.dir.child(name)?), lower, path }, is_new))
    }

    /// Says which time a folder is to have.
    pub fn set_time(&mut self, folder: &Folder, time: (i64, u32)) {
        self.times.insert(folder.path.clone(), time);
    }

    /// Makes sure that `name` can be made in a folder as something that is none; true if it took something away.
    pub fn make_way(&self, parent: &Folder, name: &OsStr, replaces: bool) -> Result<bool> {
        let is_folder = |stat: &Stat| file_type(stat) == FileType::Directory;
        let lower = parent.lower.as_ref().map(|lower| lower.lookup(name)).transpose()?.flatten();
        let upper = parent.dir.stat_opt(name)?;
        if !replaces && (lower.is_some_and(|found| is_folder(&found.stat)) || upper.as_ref().is_some_and(is_folder)) {
            let path = format!("/{}", String::from_utf8_lossy(&join(&parent.path, name)));
            bail!("cannot replace the directory {path:?} with a file");
        }
        match upper {
            None => Ok(false),
            Some(_) => Ok(parent.dir.remove_tree(name).map(|()| true)?),
        }
    }

    /// Sets the times of all folders. Nothing is made in them any more.
    pub fn finish(self) -> Result<()> {
        for (path, (seconds, nanos)) in self.times {
            // What was made as a folder may have been replaced since.
            let Ok(dir) = self.upper.dir_without_links(Path::new(OsStr::from_bytes(&path))) else { continue };
            let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
            rustix::fs::futimens(&dir, &Timestamps { last_access: time, last_modification: time })
                .context("set the time of a folder")?;
        }
        Ok(())
    }
}

fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    match path.is_empty() {
        true => name.as_bytes().to_vec(),
        false => [path, b"/", name.as_bytes()].concat(),
    }
}

fn meaning(upper: Option<&Dir>, lower: Option<&Merged>, name: &OsStr) -> Result<Meaning> {
    if let Some(stat) = upper.map(|dir| dir.stat_opt(name)).transpose()?.flatten() {
        return Ok(Meaning::Upper(stat));
    }
    Ok(lower.map(|lower| lower.lookup(name)).transpose()?.flatten().map_or(Meaning::Nothing, Meaning::Lower))
}
