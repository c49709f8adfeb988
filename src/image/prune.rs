//! Removing what nobody needs, by the image.

use super::config::ImageConfig;
use super::digest::Digest;
use super::index::{Entry, Names};
use super::layer;
use super::remove::{ImageUse, Removal, Work, gone_layers};
use super::store::Store;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Which images `prune` takes.
pub struct PruneChoice<'a> {
    /// Also those with a name, if no container uses them.
    pub all: bool,
    /// What else must be true of an image.
    pub fits: &'a dyn Fn(&ImageConfig) -> bool,
}

/// What `prune` has done.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Step by step.
    pub removals: Vec<Removal>,
    /// Bytes of the layers that went.
    pub reclaimed: u64,
}

impl Store {
    /// Removes images that no container uses: those without a name that no other was made from, or all.
    ///
    /// `in_use` is asked when nothing can be added any more.
    pub fn prune(&self, choice: &PruneChoice, in_use: &dyn Fn() -> Result<Vec<ImageUse>>) -> Result<Pruned> {
        let _alone = self.root.lock_for_removing()?;
        let in_use = &in_use()?;
        let names = Names::read(&self.root)?;
        let mounted = self.mounted()?.into_iter().map(|(image, _)| image);
        let used: BTreeSet<Digest> = in_use.iter().map(|u| u.image).chain(mounted).collect();
        let mut images: Vec<(Option<String>, Entry)> = Vec::new();
        for entry in &names.entries {
            // What cannot be read is left to `rmi`, whose user knows what he does.
            let Ok(image) = self.image(entry) else { continue };
            let is_chosen = choice.all || entry.reference.is_none();
            if is_chosen && !used.contains(&entry.image) && (choice.fits)(&image.config) {
                images.push((image.config.created, entry.clone()));
            }
        }
        // What was made from others goes before them.
        images.sort_by(|a, b| b.0.cmp(&a.0));
        let mut work = Work::new(self, names, in_use)?;
        for (_, entry) in images {
            // Those that are needed by others stay.
            let _ = match &entry.reference {
                Some(reference) => work.remove_name(&reference.familiar(), &entry, false),
                None if work.has(entry.image) => work.delete(entry.image, &entry, false, true),
                None => Ok(()),
            };
        }
        let (mut removals, layers) = work.take_done();
        let size = |layer: &Digest| layer::meta(&self.root, layer).map_or(0, |meta| meta.size);
        let sizes: BTreeMap<Digest, u64> = layers.iter().map(|(layer, _)| (*layer, size(layer))).collect();
        let gone = work.finish()?;
        removals.extend(gone_layers(layers, &gone, &mut BTreeSet::new()));
        let reclaimed = sizes.iter().filter(|(layer, _)| gone.contains(layer)).map(|(_, size)| size).sum();
        Ok(Pruned { removals, reclaimed })
    }
}
