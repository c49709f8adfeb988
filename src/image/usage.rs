//! How much room images take, and how much of it would be free without some of them.

use super::digest::Digest;
use super::layer;
use super::store::{Listed, Store};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The layers of a set of images, counted.
pub struct LayerUse {
    sizes: BTreeMap<Digest, u64>,
    /// How many images have a layer.
    images: BTreeMap<Digest, usize>,
}

impl Store {
    /// Counts the layers of `images`, each image once however many names it has.
    pub fn layer_use(&self, images: &[Listed]) -> Result<LayerUse> {
        let mut counted = BTreeSet::new();
        let mut layers = LayerUse { sizes: BTreeMap::new(), images: BTreeMap::new() };
        for listed in images.iter().filter(|listed| counted.insert(listed.image.id)) {
            for layer in listed.image.layers().iter().collect::<BTreeSet<_>>() {
                *layers.images.entry(*layer).or_default() += 1;
                if !layers.sizes.contains_key(layer) {
                    layers.sizes.insert(*layer, layer::meta(&self.root, layer).map_or(0, |meta| meta.size));
                }
            }
        }
        Ok(layers)
    }
}

impl LayerUse {
    /// Bytes of all layers, each once.
    pub fn total(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Bytes of those of `layers` that several images have, and of those that only one has.
    pub fn shared_and_unique(&self, layers: &[Digest]) -> (u64, u64) {
        let size = |layer: &&Digest| self.sizes.get(layer).copied().unwrap_or(0);
        let layers: BTreeSet<&Digest> = layers.iter().collect();
        let is_shared = |layer: &&Digest| self.images.get(layer).is_some_and(|count| *count > 1);
        let (shared, unique): (Vec<&Digest>, Vec<&Digest>) = layers.into_iter().partition(is_shared);
        (shared.iter().map(size).sum(), unique.iter().map(size).sum())
    }

    /// Bytes of all layers but these.
    pub fn without(&self, needed: &BTreeSet<Digest>) -> u64 {
        self.sizes.iter().filter(|(layer, _)| !needed.contains(layer)).map(|(_, size)| size).sum()
    }
}
