//! Committing: a container's changes become a layer, and with its configuration an image.
//!
//! The container's own directory is walked once. What overlayfs copied up but nobody changed is left out, as is a
//! whiteout that hides nothing. Each entry that stays goes two ways: into the new layer's folder, and as canonical
//! tar to the thread that computes its diff id.

use super::apply::OPAQUE_XATTR;
use super::config::{ContainerConfig, History, ImageConfig};
use super::copy::{self, Copied};
use super::diff::{self, Links, describe, join, marker, show};
use super::digest::Digest;
use super::feed;
use super::index::Names;
use super::layer::{self, Meta, NewLayer, WriteBehind};
use super::reference::Reference;
use super::store::Store;
use super::tar::{END, Entry, Kind, encode, padding};
use super::union::{Found, Merged, Union};
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, Stat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a commit starts from.
#[derive(Clone, Copy, Debug)]
pub struct CommitSource<'a> {
    /// The container's own layer: an overlay upper directory that nobody changes meanwhile.
    pub upper: &'a Path,
    /// The configuration of the image that the container was made from: its layers and its history.
    pub base: &'a ImageConfig,
    /// The id of that image.
    pub base_id: Digest,
}

/// What the new image says about itself.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// What its containers start with.
    pub config: ContainerConfig,
    /// Who made it.
    pub author: String,
    /// A remark for the history.
    pub message: String,
    /// The command that made the changes.
    pub created_by: String,
    /// The container's id.
    pub container: String,
}

impl Store {
    /// Makes an image of a container's changes and returns its id. Without a reference it has no name.
    pub fn commit(&self, source: CommitSource, new: NewImage, reference: Option<&Reference>) -> Result<Digest> {
        let _making = self.root.lock_for_making()?;
        let layer = self.layer_of_changes(source.upper, &source.base.rootfs.diff_ids)?;
        let created = Some(jiff::Timestamp::now().to_string());
        let mut image = source.base.clone();
        image.created = created.clone();
        image.author = new.author.clone();
        image.config = Some(new.config);
        image.rootfs.diff_ids.extend(layer);
        if !new.container.is_empty() {
            image.other.insert("container".into(), new.container.into());
        }
        image.history.push(History {
            created,
            created_by: new.created_by,
            author: new.author,
            comment: new.message,
            empty_layer: layer.is_none(),
            ..History::default()
        });
        let is_here = Names::read(&self.root)?.of_image(source.base_id).next().is_some();
        self.publish(&image, reference, is_here.then_some(source.base_id))
    }

    /// Makes a layer of what `upper` changes in the tree of `layers`; `None` if that is nothing. The caller holds
    /// the store's lock as a maker.
    fn layer_of_changes(&self, upper: &Path, layers: &[Digest]) -> Result<Option<Digest>> {
        let below = Union::new(self.open_layers(layers)?);
        let upper = Dir::open(upper).with_context(|| format!("open {}", upper.display()))?;
        let new = NewLayer::begin(&self.root)?;
        let made = std::thread::scope(|scope| {
            let behind = WriteBehind::start(scope, &new)?;
            feed::hashing(|sink| {
                let mut changes = Changes::new(sink, &new.fs, behind)?;
                changes.walk(&upper, below.top(), Vec::new())?;
                changes.out.write_all(&END)?;
                Ok((changes.files, changes.size))
            })
        });
        let ((files, size), diff_id, tar) = made.context("read the container's changes")?;
        if files == 0 {
            return Ok(None);
        }
        if !layer::exists(&self.root, &diff_id) {
            new.sync(files)?;
            new.publish(&self.root, &diff_id, &Meta { size, files, tar })?;
        }
        Ok(Some(diff_id))
    }
}

/// A directory on the way to the current one; it is made when something in it is kept.
struct Level {
    name: OsString,
    entry: Entry,
    opaque: bool,
    target: Option<Dir>,
}

struct Changes<'a> {
    out: &'a mut feed::HashSink,
    /// The new layer's folder.
    top: Dir,
    levels: Vec<Level>,
    links: Links,
    copied: Copied,
    behind: WriteBehind,
    files: u64,
    size: u64,
}

impl<'a> Changes<'a> {
    fn new(out: &'a mut feed::HashSink, fs: &Dir, behind: WriteBehind) -> Result<Changes<'a>> {
        let (levels, links, copied) = (Vec::new(), Links::default(), Copied::default());
        Ok(Changes { out, top: fs.try_clone()?, levels, links, copied, behind, files: 0, size: 0 })
    }

    fn walk(&mut self, upper: &Dir, below: &Merged, path: Vec<u8>) -> Result<()> {
        for name in upper.names().with_context(|| format!("read the folder {}", show(&path)))? {
            let path = join(&path, name.as_bytes());
            let stat = upper.stat(&name).with_context(|| format!("read {}", show(&path)))?;
            let found = below.lookup(&name)?;
            if file_type(&stat) == FileType::Directory {
                self.directory(upper, &name, path, &stat, below, found)?;
            } else if is_whiteout(&stat) {
                if found.is_some() {
                    self.whiteout(path, &name)?;
                }
            } else {
                let unchanged = match &found {
                    Some(found) => is_same(upper, &name, &stat, below, found),
                    None => Ok(false),
                };
                if !unchanged.with_context(|| format!("compare {}", show(&path)))? {
                    self.leaf(upper, &name, &path, &stat).with_context(|| format!("copy {}", show(&path)))?;
                }
            }
        }
        Ok(())
    }

    fn directory(
        &mut self,
        upper: &Dir,
        name: &OsStr,
        path: Vec<u8>,
        stat: &Stat,
        below: &Merged,
        found: Option<Found>,
    ) -> Result<()> {
        if upper.xattr(name, "trusted.overlay.redirect")?.is_some() {
            bail!("{} was renamed by overlayfs in a way that a layer cannot hold", show(&path));
        }
        let child = upper.child(name).with_context(|| format!("open the folder {}", show(&path)))?;
        let under = match found.filter(|found| file_type(&found.stat) == FileType::Directory) {
            Some(found) => Some((found, below.enter(name, &found)?)),
            None => None,
        };
        let is_opaque = diff::is_opaque(&child)?;
        // Overlayfs marks every directory that it makes; the mark matters only above something.
        let opaque = is_opaque && under.as_ref().is_some_and(|(_, merged)| merged.names().is_ok_and(|n| !n.is_empty()));
        let Some(entry) = describe(upper, name, &path, stat, &mut self.links)? else { return Ok(()) };
        let changed = match &under {
            Some((found, _)) => opaque || !has_same_attributes(upper, name, stat, below, found)?,
            None => true,
        };
        self.levels.push(Level { name: name.to_owned(), entry, opaque, target: None });
        if changed {
            self.target()?;
        }
        let under = under.map(|(_, merged)| merged).filter(|_| !is_opaque).unwrap_or_default();
        self.walk(&child, &under, path)?;
        if let Some(level) = self.levels.pop()
            && level.target.is_some()
        {
            let parent = self.levels.last().and_then(|l| l.target.as_ref()).unwrap_or(&self.top);
            copy::describe(upper, name, stat, parent)?;
        }
        Ok(())
    }

    /// The new layer's counterpart of the current directory, made if it is not there yet.
    fn target(&mut self) -> Result<&Dir> {
        for at in 0..self.levels.len() {
            let (above, rest) = self.levels.split_at_mut(at);
            let Some(level) = rest.first_mut().filter(|level| level.target.is_none()) else { continue };
            let parent = above.last().and_then(|l| l.target.as_ref()).unwrap_or(&self.top);
            parent.mkdir(&level.name, 0o700).with_context(|| format!("make {}", show(&level.entry.path)))?;
            let dir = parent.child(&level.name)?;
            self.out.write_all(&encode(&level.entry))?;
            if level.opaque {
                dir.set_xattr(".", OPAQUE_XATTR, b"y")?;
                let path = [level.entry.path.as_slice(), diff::OPAQUE].concat();
                self.out.write_all(&encode(&marker(path)))?;
            }
            level.target = Some(dir);
            self.files += 1;
        }
        Ok(self.levels.last().and_then(|l| l.target.as_ref()).unwrap_or(&self.top))
    }

    fn whiteout(&mut self, path: Vec<u8>, name: &OsStr) -> Result<()> {
        let target = self.target()?;
        target.mknod(name, FileType::CharacterDevice, 0, 0).context("make a whiteout")?;
        target.set_mtime(name, 0, 0)?;
        self.files += 1;
        let parent = &path[..path.len() - name.len()];
        self.out.write_all(&encode(&marker([parent, diff::WHITEOUT, name.as_bytes()].concat())))?;
        Ok(())
    }

    fn leaf(&mut self, upper: &Dir, name: &OsStr, path: &[u8], stat: &Stat) -> Result<()> {
        let has_no_content = stat.st_size > 0 && stat.st_blocks == 0 && file_type(stat) == FileType::RegularFile;
        if has_no_content && upper.xattr(name, "trusted.overlay.metacopy")?.is_some() {
            bail!("overlayfs has not copied its content up");
        }
        let Some(entry) = describe(upper, name, path, stat, &mut self.links)? else { return Ok(()) };
        self.target()?;
        self.out.write_all(&encode(&entry))?;
        let target = self.levels.last().and_then(|l| l.target.as_ref()).unwrap_or(&self.top);
        self.copied.copy(upper, name, stat, target, self.out)?;
        if entry.kind == Kind::File {
            self.out.write_all(&[0; 512][..padding(entry.size)])?;
            self.size += entry.size;
            self.behind.wrote(entry.size);
        }
        self.files += 1;
        Ok(())
    }
}

/// Whether a name means the same above as below: attributes, and then content.
fn is_same(upper: &Dir, name: &OsStr, stat: &Stat, below: &Merged, found: &Found) -> Result<bool> {
    // Names that were linked in the container stay linked.
    let is_linked = stat.st_nlink > 1;
    if is_linked || stat.st_size != found.stat.st_size || !has_same_attributes(upper, name, stat, below, found)? {
        return Ok(false);
    }
    let lower = below.holder(found);
    match file_type(stat) {
        FileType::RegularFile => {
            let open = |dir: &Dir| dir.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0).map(File::from);
            Ok(has_same_content(open(upper)?, open(lower)?)?)
        }
        FileType::Symlink => Ok(upper.readlink(name)? == lower.readlink(name)?),
        _ => Ok(stat.st_rdev == found.stat.st_rdev),
    }
}

fn has_same_attributes(upper: &Dir, name: &OsStr, stat: &Stat, below: &Merged, found: &Found) -> Result<bool> {
    let key = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    Ok(key(stat) == key(&found.stat) && diff::xattrs(upper, name)? == diff::xattrs(below.holder(found), name)?)
}

fn has_same_content(mut a: File, mut b: File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0u8; 128 << 10], vec![0u8; 128 << 10]);
    loop {
        let length = a.read(&mut left)?;
        if length == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        if b.read_exact(&mut right[..length]).is_err() || left[..length] != right[..length] {
            return Ok(false);
        }
    }
}
