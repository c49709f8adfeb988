//! Committing: a container's changes become a layer, and with its configuration an image.
//!
//! ```text
//! upper ──▶ changes: walk, compare, read ──┬──▶ feed:  canonical tar -> diff id   (hashing thread)
//!                          (this thread)   └──▶ place: the new layer's folder     (placing thread)
//! ```

use super::changes::Changes;
use super::config::{ContainerConfig, History, ImageConfig};
use super::digest::Digest;
use super::feed;
use super::index::Names;
use super::layer::{self, Meta, NewLayer};
use super::place;
use super::progress::Watcher;
use super::reference::Reference;
use super::squash::squash_history;
use super::store::Store;
use super::union::Union;
use crate::sys::dir::Dir;
use anyhow::{Context, Result};
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
    /// Make one layer of the changes and of all layers above so many of the lowest ones.
    pub squash_above: Option<usize>,
    /// When the image says it was made, and no file is newer; without it that is now.
    pub date: Option<jiff::Timestamp>,
    /// Who wants to know how far it is.
    pub watcher: Watcher,
}

impl Store {
    /// Makes an image of a container's changes and returns its id. Without a reference it has no name.
    pub fn commit(&self, source: CommitSource, new: NewImage, reference: Option<&Reference>) -> Result<Digest> {
        let _making = self.root.lock_for_making()?;
        let layers = &source.base.rootfs.diff_ids;
        let newest = new.date.map(|date| date.as_second());
        let kept = new.squash_above.unwrap_or(layers.len()).min(layers.len());
        let layer = match new.squash_above {
            Some(_) => {
                let mut stack = self.open_layers(layers)?;
                stack.insert(0, open_upper(source.upper)?);
                self.squashed_layer(stack, &layers[..kept], newest)?
            }
            None => self.layer_of_changes(source.upper, layers, newest, &new.watcher)?,
        };
        let created = Some(new.date.unwrap_or_else(jiff::Timestamp::now).to_string());
        let mut image = source.base.clone();
        image.created = created.clone();
        image.author = new.author.clone();
        image.config = Some(new.config);
        squash_history(&mut image, kept);
        image.rootfs.diff_ids.truncate(kept);
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
        // What was squashed does not stand on the image that it came from.
        let is_here = new.squash_above.is_none() && Names::read(&self.root)?.of_image(source.base_id).next().is_some();
        self.publish(&image, reference, is_here.then_some(source.base_id))
    }

    /// Makes a layer of what `upper` changes in the tree of `layers`; `None` if that is nothing. The caller holds
    /// the store's lock as a maker.
    fn layer_of_changes(
        &self,
        upper: &Path,
        layers: &[Digest],
        newest: Option<i64>,
        watcher: &Watcher,
    ) -> Result<Option<Digest>> {
        let below = Union::new(self.open_layers(layers)?);
        let upper = open_upper(upper)?;
        self.layer_of(newest, watcher, &|changes: &mut Changes| changes.walk(&upper, below.top(), Vec::new()))
    }

    /// Makes a layer of what `walk` finds.
    pub(super) fn layer_of(
        &self,
        newest: Option<i64>,
        watcher: &Watcher,
        walk: &dyn Fn(&mut Changes) -> Result<()>,
    ) -> Result<Option<Digest>> {
        let new = NewLayer::begin(&self.root)?;
        let made = feed::hashing(|sink| {
            sink.watched_by(watcher);
            place::on_a_thread(&new, |placer| {
                let mut changes = Changes::new(sink, placer).no_newer_than(newest);
                walk(&mut changes)?;
                changes.finish()
            })
        });
        let ((files, size), diff_id, tar) = made.context("read what has changed")?;
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

fn open_upper(upper: &Path) -> Result<Dir> {
    Dir::open(upper).with_context(|| format!("open {}", upper.display()))
}
