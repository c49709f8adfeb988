//! Stacked layers read as one tree, by the rules of overlayfs but without mounting.
//!
//! A name means what the highest layer that has it says: a whiteout means that there is nothing, directories of
//! several layers are merged down to the first opaque one.

use super::copy::{self, Copied};
use super::diff::is_opaque;
use crate::sys::depth::Depth;
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, Stat};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Links that are followed for one path.
const LINK_LIMIT: usize = 40;

/// Layer directories seen as one tree.
#[derive(Clone, Debug)]
pub struct Union {
    top: Merged,
}

/// One directory of the tree: the directories that it is made of, the highest first.
#[derive(Clone, Debug, Default)]
pub struct Merged(Vec<Arc<Dir>>);

/// A name in a merged directory.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The attributes of what it means.
    pub stat: Stat,
    layer: usize,
}

impl Merged {
    /// Looks a name up.
    pub fn lookup(&self, name: &OsStr) -> io::Result<Option<Found>> {
        for (layer, dir) in self.0.iter().enumerate() {
            if let Some(stat) = dir.stat_opt(name)? {
                return Ok(Some(Found { stat, layer }).filter(|_| !is_whiteout(&stat)));
            }
        }
        Ok(None)
    }

    /// Opens the directory that a name means.
    pub fn enter(&self, name: &OsStr, found: &Found) -> io::Result<Merged> {
        let mut merged = Vec::new();
        for dir in &self.0[found.layer..] {
            match dir.stat_opt(name)? {
                None => continue,
                Some(stat) if file_type(&stat) != FileType::Directory => break,
                Some(_) => {}
            }
            let child = dir.child(name)?;
            let opaque = is_opaque(&child).map_err(io::Error::other)?;
            merged.push(Arc::new(child));
            if opaque {
                break;
            }
        }
        Ok(Merged(merged))
    }

    /// The layer directory in which a found name lies.
    pub fn holder(&self, found: &Found) -> &Dir {
        &self.0[found.layer]
    }

    /// All names, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names: BTreeMap<OsString, bool> = BTreeMap::new();
        for dir in &self.0 {
            for name in dir.names()? {
                if let Entry::Vacant(new) = names.entry(name)
                    // A running container may have removed it meanwhile.
                    && let Some(stat) = dir.stat_opt(new.key())?
                {
                    new.insert(!is_whiteout(&stat));
                }
            }
        }
        Ok(names.into_iter().filter(|(_, visible)| *visible).map(|(name, _)| name).collect())
    }

    /// All names with what they mean, sorted.
    pub fn entries(&self) -> io::Result<Vec<(OsString, Found)>> {
        if let [only] = &self.0[..] {
            let found = |name: OsString| Ok((only.stat(&name)?, name));
            let stats = only.names()?.into_iter().map(found).collect::<io::Result<Vec<_>>>()?.into_iter();
            let visible = stats.filter(|(stat, _)| !is_whiteout(stat));
            return Ok(visible.map(|(stat, name)| (name, Found { stat, layer: 0 })).collect());
        }
        let mut entries: BTreeMap<OsString, Found> = BTreeMap::new();
        for (layer, dir) in self.0.iter().enumerate() {
            for name in dir.names()? {
                if let Entry::Vacant(new) = entries.entry(name) {
                    let stat = dir.stat(new.key())?;
                    new.insert(Found { stat, layer });
                }
            }
        }
        Ok(entries.into_iter().filter(|(_, found)| !is_whiteout(&found.stat)).collect())
    }

    /// The layer directory in which a found name lies, for as long as it is needed.
    pub fn holder_handle(&self, found: &Found) -> Arc<Dir> {
        self.0[found.layer].clone()
    }

    /// The extended attributes of the directory itself that a layer keeps.
    pub fn xattrs(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.0.first().map_or(Ok(Vec::new()), copy::kept_xattrs)
    }

    /// The attributes of the directory itself; `None` if there is none at all.
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        self.0.first().map(|dir| dir.stat_self()).transpose()
    }

    /// Whether both are made of the same directories, and so have the same in them.
    pub fn is(&self, other: &Merged) -> io::Result<bool> {
        if self.0.len() != other.0.len() {
            return Ok(false);
        }
        for (a, b) in self.0.iter().zip(&other.0) {
            let (a, b) = (a.stat_self()?, b.stat_self()?);
            if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Where a path leads.
enum Place {
    Directory(Merged),
    Other { parent: Merged, name: OsString, found: Found },
}

impl Union {
    /// Stacks open directories, the highest first.
    pub fn new(layers: Vec<Dir>) -> Union {
        let mut top = Vec::with_capacity(layers.len());
        for dir in layers {
            let opaque = is_opaque(&dir).unwrap_or(false);
            top.push(Arc::new(dir));
            if opaque {
                break;
            }
        }
        Union { top: Merged(top) }
    }

    /// The top directory.
    pub fn top(&self) -> &Merged {
        &self.top
    }

    /// Attributes of `path`, following links inside the tree; `None` if there is nothing.
    pub fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.attributes(path, true)
    }

    /// As [`Union::stat`], but a link at the end of `path` is not followed.
    pub fn lstat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.attributes(path, false)
    }

    fn attributes(&self, path: &Path, follow: bool) -> io::Result<Option<Stat>> {
        match self.walk(path, follow)? {
            None => Ok(None),
            Some(Place::Directory(merged)) => merged.stat(),
            Some(Place::Other { found, .. }) => Ok(Some(found.stat)),
        }
    }

    /// Opens the regular file at `path` for reading, following links inside the tree.
    ///
    /// # Errors
    /// `NotFound`, and `InvalidInput` for what is not a regular file.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        match self.walk(path, true)? {
            None => Err(ErrorKind::NotFound.into()),
            Some(Place::Other { parent, name, found }) if file_type(&found.stat) == FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                Ok(parent.holder(&found).open_at(&name, flags, 0)?.into())
            }
            Some(_) => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    /// The names in the directory at `path`, sorted.
    pub fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.directory(path)?.names()
    }

    /// What the symbolic link at `path` says.
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        match self.walk(path, false)? {
            None => Err(ErrorKind::NotFound.into()),
            Some(Place::Other { parent, name, found }) => parent.holder(&found).readlink(name),
            Some(Place::Directory(_)) => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// Copies what is in the directory at `path` into `dest`, with owners, modes, times, extended attributes and
    /// hard links, and gives `dest` the directory's own attributes. Links inside are copied, not followed.
    pub fn copy_tree(&self, path: &Path, dest: &Dir) -> Result<()> {
        self.copy_into(path, dest, false)
    }

    /// The same for a folder that may have something in it, and is somebody's: its folders are gone into, its other files
    /// are replaced by those of the same name, and itself it stays as it is.
    ///
    /// # Errors
    /// A folder where a file is to be: it may hold what is nobody's to throw away.
    pub fn copy_tree_over(&self, path: &Path, dest: &Dir) -> Result<()> {
        self.copy_into(path, dest, true)
    }

    fn copy_into(&self, path: &Path, dest: &Dir, replaces: bool) -> Result<()> {
        let from = self.directory(path).with_context(|| format!("open the folder {}", path.display()))?;
        copy_merged(&from, dest, replaces, &mut Copied::default(), Depth::default())
            .with_context(|| format!("copy the folder {}", path.display()))?;
        let Some(own) = from.0.first().filter(|_| !replaces) else { return Ok(()) };
        copy::describe_self(own, dest).context("set the attributes of the copy")
    }

    fn directory(&self, path: &Path) -> io::Result<Merged> {
        match self.walk(path, true)? {
            None => Err(ErrorKind::NotFound.into()),
            Some(Place::Directory(merged)) => Ok(merged),
            Some(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Follows `path` from the top; `..` does not lead out.
    fn walk(&self, path: &Path, follow: bool) -> io::Result<Option<Place>> {
        let mut stack = vec![self.top.clone()];
        let mut todo: VecDeque<OsString> = split(path.as_os_str());
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                stack.truncate(stack.len().saturating_sub(1).max(1));
                continue;
            }
            let Some(current) = stack.last() else { return Ok(None) };
            let Some(found) = current.lookup(&name)? else { return Ok(None) };
            match file_type(&found.stat) {
                FileType::Directory => {
                    let child = current.enter(&name, &found)?;
                    stack.push(child);
                }
                FileType::Symlink if follow || !todo.is_empty() => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    let target = current.holder(&found).readlink(&name)?;
                    if target.as_bytes().starts_with(b"/") {
                        stack.truncate(1);
                    }
                    for part in split(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                _ if todo.is_empty() => return Ok(Some(Place::Other { parent: current.clone(), name, found })),
                _ => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        Ok(stack.pop().map(Place::Directory))
    }
}

fn split(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
    parts.map(|p| OsStr::from_bytes(p).to_owned()).collect()
}

fn copy_merged(from: &Merged, to: &Dir, replaces: bool, copied: &mut Copied, depth: Depth) -> Result<()> {
    for name in from.names()? {
        let Some(found) = from.lookup(&name)? else { continue };
        let holder = from.holder(&found);
        let is_folder = file_type(&found.stat) == FileType::Directory;
        let what = || format!("copy {}", Path::new(&name).display());
        let is_there = replaces && make_way(to, &name, is_folder).with_context(what)?;
        if !is_folder {
            copied.copy(holder, &name, &found.stat, to).with_context(what)?;
            continue;
        }
        if !is_there {
            to.mkdir(&name, 0o700).with_context(what)?;
        }
        let (inner, target) = (from.enter(&name, &found).with_context(what)?, to.child(&name).with_context(what)?);
        // An error from a deep place does not tell all of the way.
        copy_merged(&inner, &target, replaces, copied, depth.below()?)?;
        copy::describe(holder, &name, &found.stat, to).with_context(what)?;
    }
    Ok(())
}

/// Removes what is no folder; true if a folder is there and one is wanted.
fn make_way(to: &Dir, name: &OsStr, wants_folder: bool) -> Result<bool> {
    match to.stat_opt(name)?.map(|stat| file_type(&stat) == FileType::Directory) {
        None => Ok(false),
        Some(true) if wants_folder => Ok(true),
        Some(true) => bail!("there is a folder of this name in its place: remove it first"),
        Some(false) => Ok(to.unlink(name).map(|()| false)?),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, marked_opaque, write};
    use super::*;
    use std::io::Read;

    fn union(folder: &Folder, layers: &[&str]) -> Union {
        Union::new(layers.iter().map(|layer| Dir::open(folder.path(layer)).unwrap()).collect())
    }

    fn text(union: &Union, path: &str) -> io::Result<String> {
        let mut text = String::new();
        union.open_file(Path::new(path))?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn layers() -> Folder {
        let folder = Folder::new();
        write(&folder, "low/etc/passwd", "low");
        write(&folder, "low/etc/gone", "low");
        write(&folder, "low/opt/a", "low");
        write(&folder, "low/usr/bin/sh", "sh");
        write(&folder, "low/was/dir/f", "low");
        write(&folder, "high/etc/group", "high");
        write(&folder, "high/opt/b", "high");
        write(&folder, "high/was", "file");
        marked_opaque(&folder, "high/opt");
        folder.dir("high/etc").mknod("gone", FileType::CharacterDevice, 0, 0).unwrap();
        for (link, target) in
            [("bin", "usr/bin"), ("abs", "/etc/passwd"), ("loop", "loop"), ("out", "../../../etc/group")]
        {
            folder.dir("high").symlink(OsStr::new(target), link).unwrap();
        }
        folder
    }

    #[test]
    fn higher_layers_hide_and_merge() {
        let folder = layers();
        let union = union(&folder, &["high", "low"]);
        assert_eq!(text(&union, "/etc/passwd").unwrap(), "low");
        assert_eq!(union.read_dir(Path::new("etc")).unwrap(), ["group", "passwd"]);
        assert!(union.stat(Path::new("/etc/gone")).unwrap().is_none());
        assert_eq!(union.read_dir(Path::new("/opt")).unwrap(), ["b"]);
        assert_eq!(text(&union, "/was").unwrap(), "file");
        assert!(union.stat(Path::new("/was/dir")).is_err());
    }

    #[test]
    fn links_stay_inside() {
        let folder = layers();
        let union = union(&folder, &["high", "low"]);
        assert_eq!(text(&union, "/bin/sh").unwrap(), "sh");
        assert_eq!(text(&union, "/abs").unwrap(), "low");
        assert_eq!(text(&union, "/out").unwrap(), "high");
        assert_eq!(text(&union, "/etc/../../../bin/sh").unwrap(), "sh");
        assert!(text(&union, "/loop").is_err());
        assert_eq!(file_type(&union.lstat(Path::new("/loop")).unwrap().unwrap()), FileType::Symlink);
    }

    #[test]
    fn a_copy_has_everything() {
        let folder = layers();
        let dir = folder.dir("low/etc");
        dir.link(&dir, "passwd", "shadow").unwrap();
        dir.chown("passwd", 7, 8).unwrap();
        dir.chmod("passwd", 0o4711).unwrap();
        dir.set_xattr("passwd", "user.x", b"\0\xff").unwrap();
        dir.set_mtime("passwd", -5, 7).unwrap();
        folder.dir("low").chmod("etc", 0o1700).unwrap();
        folder.dir("high").chmod("etc", 0o1750).unwrap();
        std::fs::create_dir(folder.path("copy")).unwrap();
        union(&folder, &["high", "low"]).copy_tree(Path::new("/etc"), &folder.dir("copy")).unwrap();
        let copy = folder.dir("copy");
        assert_eq!(copy.names().unwrap(), ["group", "passwd", "shadow"]);
        let stat = copy.stat("passwd").unwrap();
        assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777, stat.st_nlink), (7, 8, 0o4711, 2));
        assert_eq!((stat.st_mtime, stat.st_mtime_nsec), (-5, 7));
        assert_eq!(copy.xattr("passwd", "user.x").unwrap().unwrap(), b"\0\xff");
        assert_eq!(copy.stat_self().unwrap().st_mode & 0o7777, 0o1750);
    }
}
