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
use super::reference::Reference;
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
        let made = feed::hashing(|sink| {
            place::on_a_thread(&new, |placer| {
                let mut changes = Changes::new(sink, placer);
                changes.walk(&upper, below.top(), Vec::new())?;
                changes.finish()
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
