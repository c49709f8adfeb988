//! Squashing: several layers become one that reads the same.

use super::changes::Changes;
use super::config::{History, ImageConfig};
use super::digest::Digest;
use super::progress::Watcher;
use super::reference::Reference;
use super::store::{Image, Store};
use super::union::Union;
use crate::sys::dir::Dir;
use anyhow::{Result, bail};

impl Store {
    /// Makes an image whose layers above those of `keep` are one layer; without `keep` it has only one. Everything
    /// else, also when it was made, stays, so the same image always gives the same.
    ///
    /// # Errors
    /// `keep` is not an image that this one stands on.
    pub fn squash(&self, image: &Image, keep: Option<&Image>, reference: Option<&Reference>) -> Result<Digest> {
        let _making = self.root.lock_for_making()?;
        let kept = kept_layers(image.layers(), keep)?;
        let layer = self.squashed_layer(self.open_layers(image.layers())?, &image.layers()[..kept], None)?;
        let mut config = image.config.clone();
        let count = image.layers().len() - kept;
        config.rootfs.diff_ids.truncate(kept);
        config.rootfs.diff_ids.extend(layer);
        squash_history(&mut config, kept);
        config.history.push(History {
            created: image.config.created.clone(),
            comment: format!("squashed {count} layers"),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        self.publish(&config, reference, None)
    }

    /// One layer of everything that `stack`, the highest first, has above the layers `below`; `None` if that is
    /// nothing. The caller holds the store's lock as a maker.
    pub(super) fn squashed_layer(
        &self,
        stack: Vec<Dir>,
        below: &[Digest],
        newest: Option<i64>,
    ) -> Result<Option<Digest>> {
        let (new, old) = (Union::new(stack), Union::new(self.open_layers(below)?));
        self.layer_of(newest, &Watcher::default(), &|changes: &mut Changes| {
            changes.walk_merged(new.top(), old.top(), Vec::new())
        })
    }
}

/// How many layers of an image are those of `keep`.
pub fn kept_layers(layers: &[Digest], keep: Option<&Image>) -> Result<usize> {
    let Some(keep) = keep else { return Ok(0) };
    if !layers.starts_with(keep.layers()) {
        bail!("the image does not stand on {}: its lowest layers are others", keep.id.short());
    }
    Ok(keep.layers().len())
}

/// The steps stay in the history, but those above the `kept` layers have none of their own any more.
pub(super) fn squash_history(config: &mut ImageConfig, kept: usize) {
    let mut seen = 0;
    for step in config.history.iter_mut().filter(|step| !step.empty_layer) {
        seen += 1;
        step.empty_layer = seen > kept;
    }
}
