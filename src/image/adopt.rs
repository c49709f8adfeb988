//! A folder that somebody has filled becomes a layer where it is: nothing of it is copied.
//!
//! One walk compares the folder with what it lies on, takes away what changes nothing there and what only overlayfs
//! understands, and writes the canonical tar to the hashing thread. Then the folder is renamed into its place.

use super::apply::keeps_xattr;
use super::changes::{has_same_attributes, is_same};
use super::config::{History, ImageConfig};
use super::copy::pieces;
use super::diff::{self, Links, describe, join, marker, show};
use super::digest::Digest;
use super::feed::{self, HashSink};
use super::layer::{self, Meta, NewLayer};
use super::reference::Reference;
use super::squash::squash_history;
use super::store::{Image, Store};
use super::tar::{END, Entry, Kind, encode, padding};
use super::union::{Found, Merged, Union};
use crate::layout::Workshop;
use crate::sys::depth;
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, Stat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

/// A layer whose folder its maker fills.
pub struct Draft(NewLayer);

impl Draft {
    /// The folder: an overlay's upper directory, or a tree that is written in overlay form.
    pub fn path(&self) -> std::path::PathBuf {
        self.0.path()
    }

    /// The folder, open.
    pub fn dir(&self) -> &Dir {
        &self.0.fs
    }
}

impl Store {
    /// As [`Store::find`]; the image's layers are the workshop's from then on.
    pub fn find_for(&self, workshop: &Workshop, text: &str) -> Result<Option<Image>> {
        let _making = self.root.lock_for_making()?;
        let found = self.find(text)?;
        if let Some(image) = &found {
            workshop.lease(&image.layers().iter().map(Digest::to_string).collect::<Vec<_>>())?;
        }
        Ok(found)
    }

    /// Puts an image that a build has made into the store, with all of its layers on disk, under these names.
    pub fn publish_built(&self, image: &ImageConfig, names: &[Reference]) -> Result<Digest> {
        let _making = self.root.lock_for_making()?;
        let mut names = names.iter();
        let id = self.publish(image, names.next(), None)?;
        names.try_for_each(|name| self.publish(image, Some(name), None).map(drop))?;
        Ok(id)
    }

    /// The image with everything above its `kept` lowest layers in one layer. No file of it keeps a time after `latest`.
    pub fn squashed(&self, image: &ImageConfig, kept: usize, latest: Option<i64>) -> Result<ImageConfig> {
        let _making = self.root.lock_for_making()?;
        let layers = &image.rootfs.diff_ids;
        let layer = self.squashed_layer(self.open_layers(layers)?, &layers[..kept], latest)?;
        let mut squashed = image.clone();
        squashed.rootfs.diff_ids.truncate(kept);
        squashed.rootfs.diff_ids.extend(layer);
        squash_history(&mut squashed, kept);
        squashed.history.push(History {
            created: image.created.clone(),
            comment: format!("squashed {} layers", layers.len() - kept),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        Ok(squashed)
    }

    /// Begins a layer in a workshop.
    pub fn draft(&self, workshop: &Workshop) -> Result<Draft> {
        Ok(Draft(NewLayer::inside(workshop.scratch()?)?))
    }

    /// Makes a layer of a draft that nobody uses any more. No file of it keeps a time after `latest`.
    ///
    /// It is not synced: [`Store::publish`] does that for all layers of an image at once.
    pub fn adopt(&self, workshop: &Workshop, draft: Draft, below: &Union, latest: Option<i64>) -> Result<Digest> {
        let new = draft.0;
        let ((files, size), diff_id, tar) = feed::hashing(|sink| {
            let mut walk = Walk {
                out: sink,
                levels: Vec::new(),
                links: Links::default(),
                buffer: Vec::new(),
                files: 0,
                size: 0,
                latest,
            };
            walk.directory(&new.fs, below.top(), Vec::new())?;
            walk.out.write_all(&END)?;
            Ok((walk.files, walk.size))
        })
        .context("make a layer of the changes")?;
        new.forget_top().context("give the new layer's top folder its attributes")?;
        let _making = self.root.lock_for_making()?;
        match layer::exists(&self.root, &diff_id) {
            true => new.discard(&self.root)?,
            false => new.publish_unsynced(&self.root, &diff_id, &Meta { size, files, tar })?,
        }
        workshop.lease(&[diff_id.to_string()])?;
        Ok(diff_id)
    }
}

/// A directory on the way to the current one.
struct Level {
    entry: Entry,
    opaque: bool,
    /// Its time was too late.
    clamped: bool,
    is_written: bool,
}

struct Walk<'a> {
    out: &'a mut HashSink,
    levels: Vec<Level>,
    links: Links,
    buffer: Vec<u8>,
    files: u64,
    size: u64,
    latest: Option<i64>,
}

impl Walk<'_> {
    /// Goes through a directory. True if its entries have changed, and its time with them.
    fn directory(&mut self, dir: &Dir, below: &Merged, path: Vec<u8>) -> Result<bool> {
        let mut touched = false;
        for name in dir.names().with_context(|| format!("read the folder {}", show(&path)))? {
            let path = join(&path, name.as_bytes());
            let stat = dir.stat(&name).with_context(|| format!("read {}", show(&path)))?;
            let found = below.lookup(&name)?;
            let what = || format!("take {} into the layer", show(&path));
            let kept = if file_type(&stat) == FileType::Directory {
                depth::check(&path)?;
                let (child, under) = self.enter(dir, &name, &path, &stat, below, found).with_context(what)?;
                let touched = self.directory(&child, &under, path.clone())?;
                self.leave(dir, &name, touched).with_context(what)?
            } else if is_whiteout(&stat) {
                found.map_or(Ok(false), |_| self.whiteout(&path, &name).map(|()| true)).with_context(what)?
            } else {
                self.leaf(dir, &name, &path, &stat, below, found).with_context(what)?
            };
            if !kept {
                dir.remove_tree(&name).with_context(|| format!("leave {} out of the layer", show(&path)))?;
                touched = true;
            }
        }
        Ok(touched)
    }

    /// Opens a directory and what lies below it.
    fn enter(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
        below: &Merged,
        found: Option<Found>,
    ) -> Result<(Dir, Merged)> {
        let child = parent.child(name)?;
        if child.xattr(".", "trusted.overlay.redirect")?.is_some() {
            bail!("it was renamed by overlayfs in a way that a layer cannot hold");
        }
        let under = match found.filter(|found| file_type(&found.stat) == FileType::Directory) {
            Some(found) => Some((found, below.enter(name, &found)?)),
            None => None,
        };
        let is_opaque = diff::is_opaque(&child)?;
        let hides = match &under {
            Some((_, merged)) if is_opaque => !merged.names()?.is_empty(),
            _ => false,
        };
        self.strip(&child, OsStr::new("."), hides)?;
        let entry = describe(parent, name, path, stat, &mut self.links)?;
        let mut entry = entry.context("it is no folder any more")?;
        let same = match &under {
            Some((found, _)) if !hides => has_same_attributes(parent, name, stat, below, found)?,
            _ => false,
        };
        let clamped = self.clamp(&mut entry);
        self.levels.push(Level { entry, opaque: hides, clamped, is_written: false });
        if !same {
            self.write_levels()?;
        }
        Ok((child, under.map(|(_, merged)| merged).filter(|_| !is_opaque).unwrap_or_default()))
    }

    /// Ends the directory that was entered last. True if it stays.
    fn leave(&mut self, parent: &Dir, name: &OsStr, touched: bool) -> Result<bool> {
        let Some(level) = self.levels.pop().filter(|level| level.is_written) else { return Ok(false) };
        if touched || level.clamped {
            let time = level.entry.mtime;
            parent.set_mtime(name, time.0, time.1).context("set the time")?;
        }
        Ok(true)
    }

    /// Writes the directories down to the current one that are not in the tar yet.
    fn write_levels(&mut self) -> Result<()> {
        for level in self.levels.iter_mut().filter(|level| !level.is_written) {
            self.out.write_all(&encode(&level.entry))?;
            if level.opaque {
                let path = [level.entry.path.as_slice(), diff::OPAQUE].concat();
                self.out.write_all(&encode(&marker(path)))?;
            }
            level.is_written = true;
            self.files += 1;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], name: &OsStr) -> Result<()> {
        self.write_levels()?;
        let parent = &path[..path.len() - name.len()];
        self.out.write_all(&encode(&marker([parent, diff::WHITEOUT, name.as_bytes()].concat())))?;
        self.files += 1;
        Ok(())
    }

    fn leaf(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
        below: &Merged,
        found: Option<Found>,
    ) -> Result<bool> {
        if let Some(found) = found
            && is_same(dir, name, stat, below, &found)?
        {
            return Ok(false);
        }
        let is_file = file_type(stat) == FileType::RegularFile && stat.st_size > 0;
        if is_file && stat.st_blocks == 0 && dir.xattr(name, "trusted.overlay.metacopy")?.is_some() {
            bail!("overlayfs has not copied its content up");
        }
        let Some(mut entry) = describe(dir, name, path, stat, &mut self.links)? else { return Ok(false) };
        self.strip(dir, name, false)?;
        if self.clamp(&mut entry) {
            dir.set_mtime(name, entry.mtime.0, entry.mtime.1).context("set the time")?;
        }
        self.write_levels()?;
        self.out.write_all(&encode(&entry))?;
        self.files += 1;
        if is_file && entry.kind == Kind::File {
            let source = File::from(dir.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
            self.content(&source, stat, entry.size)?;
            self.size += entry.size;
        }
        Ok(true)
    }

    fn content(&mut self, source: &File, stat: &Stat, size: u64) -> Result<()> {
        let mut at = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        pieces(source, stat, size, &mut buffer, &mut |offset, piece| {
            self.zeros(offset - at)?;
            at = offset + piece.len() as u64;
            Ok(self.out.write_all(piece)?)
        })?;
        self.buffer = buffer;
        self.zeros(size - at + padding(size) as u64)
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        std::io::copy(&mut std::io::repeat(0).take(count), self.out)?;
        Ok(())
    }

    fn clamp(&self, entry: &mut Entry) -> bool {
        match self.latest {
            Some(latest) if entry.mtime > (latest, 0) => {
                entry.mtime = (latest, 0);
                true
            }
            _ => false,
        }
    }

    /// Takes away what overlayfs has noted for itself.
    fn strip(&self, dir: &Dir, name: &OsStr, keep_opaque: bool) -> Result<()> {
        for (key, _) in dir.xattrs(name)? {
            let is_mark = key.as_bytes() == super::apply::OPAQUE_XATTR.as_bytes();
            if !keeps_xattr(key.as_bytes())
                && key.as_bytes().starts_with(b"trusted.overlay.")
                && !(is_mark && keep_opaque)
            {
                dir.remove_xattr(name, &key).context("remove an attribute of overlayfs")?;
            }
        }
        Ok(())
    }
}
