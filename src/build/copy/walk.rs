//! Going through the files of an origin: places in it, and what counts there.

use crate::build::ignore::{Ignore, Level, Verdict};
use crate::image::union::{Found, Merged, Union};
use crate::sys::dir::file_type;
use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// Links that are followed for one path.
const LINK_LIMIT: usize = 40;
/// Folders in folders. Each level is open while the walk is in it, once here and once where it is copied to.
const DEPTH: usize = 400;

/// A folder of the origin.
#[derive(Debug)]
pub struct Spot {
    pub merged: Merged,
    /// From the top, without a leading slash.
    pub path: Vec<u8>,
    ignore: Option<(Arc<Ignore>, Level)>,
    parent: Option<Arc<Spot>>,
}

/// Something in a folder that counts.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub found: Found,
    /// A folder that does not count itself, though something in it may.
    pub is_ignored: bool,
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub enum Node {
    Folder(Arc<Spot>),
    Leaf { parent: Arc<Spot>, name: OsString, found: Found },
}

impl Spot {
    pub fn top(tree: &Union, ignore: Option<Arc<Ignore>>) -> Arc<Spot> {
        let ignore = ignore.filter(|ignore| !ignore.is_empty()).map(|ignore| (ignore.clone(), ignore.top()));
        Arc::new(Spot { merged: tree.top().clone(), path: Vec::new(), ignore, parent: None })
    }

    /// What is in it and counts, sorted by name.
    pub fn entries(&self) -> io::Result<Vec<(OsString, Entry)>> {
        let entries = self.merged.entries()?.into_iter();
        Ok(entries.filter_map(|(name, found)| self.judge(&name, found).map(|entry| (name, entry))).collect())
    }

    fn lookup(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        Ok(self.merged.lookup(name)?.and_then(|found| self.judge(name, found)))
    }

    fn judge(&self, name: &OsStr, found: Found) -> Option<Entry> {
        let Some((ignore, level)) = &self.ignore else { return Some(Entry { found, is_ignored: false }) };
        let is_ignored = ignored(ignore.verdict(level, &join(&self.path, name)), &found)?;
        Some(Entry { found, is_ignored })
    }

    /// The folder `name` in this one.
    pub fn enter(self: &Arc<Self>, name: &OsStr, entry: &Entry) -> io::Result<Arc<Spot>> {
        let path = join(&self.path, name);
        let ignore = self.ignore.as_ref().map(|(ignore, level)| (ignore.clone(), ignore.enter(level, &path)));
        let merged = self.merged.enter(name, &entry.found)?;
        Ok(Arc::new(Spot { merged, path, ignore, parent: Some(self.clone()) }))
    }

    /// What `name` in this folder means when links are followed, as if the top were `/`.
    pub fn resolve(self: &Arc<Self>, name: &OsStr) -> io::Result<Option<Node>> {
        let mut at = self.clone();
        let mut todo = VecDeque::from([name.to_owned()]);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                at = at.parent.clone().unwrap_or(at);
                continue;
            }
            let Some(entry) = at.lookup(&name)? else { return Ok(None) };
            match file_type(&entry.found.stat) {
                FileType::Directory => at = at.enter(&name, &entry)?,
                FileType::Symlink => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    let target = at.merged.holder(&entry.found).readlink(&name)?.into_vec();
                    if target.starts_with(b"/") {
                        while let Some(parent) = &at.parent {
                            at = parent.clone();
                        }
                    }
                    let parts = target.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
                    parts.rev().for_each(|part| todo.push_front(OsStr::from_bytes(part).to_owned()));
                }
                _ if todo.is_empty() => return Ok(Some(Node::Leaf { parent: at, name, found: entry.found })),
                _ => return Ok(None),
            }
        }
        Ok(Some(Node::Folder(at)))
    }
}

fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    match path.is_empty() {
        true => name.as_bytes().to_vec(),
        false => [path, b"/", name.as_bytes()].concat(),
    }
}

/// Whether something is ignored itself; `None` if nothing in it counts either.
fn ignored(verdict: Verdict, found: &Found) -> Option<bool> {
    match verdict {
        Verdict::Kept => Some(false),
        Verdict::Ignored if file_type(&found.stat) == FileType::Directory => Some(true),
        _ => None,
    }
}

/// What is told about the tree below a folder.
pub trait Visitor {
    /// A folder, before what is in it.
    fn enter(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<()>;
    /// The end of the folder that was entered last.
    fn leave(&mut self) -> Result<()>;
    /// Anything else.
    fn leaf(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<()>;
}

/// Goes through everything below `top` that counts, names sorted. To `excludes` the folder `top` is `path`.
pub fn walk(top: &Arc<Spot>, excludes: &Ignore, path: &[u8], visitor: &mut dyn Visitor) -> Result<()> {
    let mut walk =
        Walk { excludes: (!excludes.is_empty()).then_some(excludes), visitor, waiting: Vec::new(), depth: 0 };
    walk.folder(top, path, &excludes.level_of(path))
}

struct Walk<'a> {
    excludes: Option<&'a Ignore>,
    visitor: &'a mut dyn Visitor,
    /// Folders that do not count themselves, and of whose content nothing has counted so far.
    waiting: Vec<(Arc<Spot>, OsString, Found)>,
    depth: usize,
}

impl Walk<'_> {
    fn folder(&mut self, spot: &Arc<Spot>, path: &[u8], level: &Level) -> Result<()> {
        let show = || format!("read the folder {:?}", String::from_utf8_lossy(&spot.path));
        for (name, mut entry) in spot.entries().with_context(show)? {
            let mut inner_path = Vec::new();
            let mut inner_level = None;
            if let Some(excludes) = self.excludes {
                inner_path = join(path, &name);
                match ignored(excludes.verdict(level, &inner_path), &entry.found) {
                    None => continue,
                    Some(is_ignored) => entry.is_ignored |= is_ignored,
                }
                inner_level = Some(excludes.enter(level, &inner_path));
            }
            match file_type(&entry.found.stat) {
                FileType::Directory => {
                    self.inner(spot, &name, &entry, &inner_path, inner_level.as_ref().unwrap_or(level))?
                }
                FileType::Socket => {}
                _ => {
                    self.announce()?;
                    self.visitor.leaf(spot, &name, &entry.found)?;
                }
            }
        }
        Ok(())
    }

    fn inner(&mut self, spot: &Arc<Spot>, name: &OsStr, entry: &Entry, path: &[u8], level: &Level) -> Result<()> {
        if self.depth == DEPTH {
            bail!("folders are nested more than {DEPTH} levels deep");
        }
        self.depth += 1;
        let before = self.waiting.len();
        self.waiting.push((spot.clone(), name.to_owned(), entry.found));
        if !entry.is_ignored {
            self.announce()?;
        }
        let inner = spot.enter(name, entry).with_context(|| format!("open the folder {name:?}"))?;
        self.folder(&inner, path, level)?;
        self.depth -= 1;
        match self.waiting.len() > before {
            true => self.waiting.truncate(before),
            false => self.visitor.leave()?,
        }
        Ok(())
    }

    fn announce(&mut self) -> Result<()> {
        for (parent, name, found) in self.waiting.drain(..) {
            self.visitor.enter(&parent, &name, &found)?;
        }
        Ok(())
    }
}
