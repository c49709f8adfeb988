//! What names mean at one moment, for commands that ask about many: the index is read once.

use super::digest::Digest;
use super::index::Names;
use super::reference::Reference;
use super::store::{Store, resolve};
use anyhow::Result;
use std::collections::HashMap;

/// The meaning of all names.
pub struct Lookup {
    by_name: HashMap<Reference, Digest>,
    parents: HashMap<Digest, Option<Digest>>,
    names: Names,
}

impl Store {
    /// Reads what all names mean now.
    pub fn lookup(&self) -> Result<Lookup> {
        let names = Names::read(&self.root)?;
        let mut lookup = Lookup { by_name: HashMap::new(), parents: HashMap::new(), names };
        for entry in &lookup.names.entries {
            if let Some(reference) = &entry.reference {
                lookup.by_name.insert(reference.clone(), entry.image);
            }
            let parent = lookup.parents.entry(entry.image).or_default();
            *parent = parent.or(entry.parent);
        }
        Ok(lookup)
    }
}

impl Lookup {
    /// The image that a name, an id or the unique beginning of an id means.
    ///
    /// # Errors
    /// Several images whose ids begin so.
    pub fn id(&self, text: &str) -> Result<Option<Digest>> {
        let known = Reference::parse(text).ok().and_then(|reference| self.by_name.get(&reference));
        match known {
            Some(id) => Ok(Some(*id)),
            None => Ok(resolve(&self.names, text)?.map(|(entry, _)| entry.image)),
        }
    }

    /// Whether the store has this image.
    pub fn has(&self, image: &Digest) -> bool {
        self.parents.contains_key(image)
    }

    /// The image that another was made from here.
    pub fn parent(&self, image: &Digest) -> Option<Digest> {
        self.parents.get(image).copied().flatten()
    }

    /// Whether another image was made from this one here.
    pub fn has_children(&self, image: &Digest) -> bool {
        self.parents.values().any(|parent| parent.as_ref() == Some(image))
    }

    /// An image and what it was made from here, the newest first. An index that was tampered with may go round in
    /// circles; this does not.
    pub fn lineage(&self, image: Digest) -> impl Iterator<Item = Digest> {
        std::iter::successors(Some(image), |id| self.parent(id)).take(1000)
    }

    /// The names of an image.
    pub fn names(&self, image: Digest) -> impl Iterator<Item = &Reference> {
        self.names.of_image(image).filter_map(|entry| entry.reference.as_ref())
    }

    /// The names of an image, each with the digest of the manifest that it means.
    pub fn entries(&self, image: Digest) -> impl Iterator<Item = (&Reference, Digest)> {
        let entries = self.names.of_image(image);
        entries.filter_map(|entry| Some((entry.reference.as_ref()?, entry.manifest.digest)))
    }
}
