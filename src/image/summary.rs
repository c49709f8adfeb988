//! What a list of images shows, without reading a document of each.
//!
//! ```text
//! <root>/summaries.json   { "<manifest>": { image, created, size, documents } }
//! ```
//! The file is derived: it may be missing, old or unreadable, and is made anew by the listing that misses something.
//! What it says of an image holds as long as the image's two documents are the same files; those are looked at, not
//! read.

use super::digest::Digest;
use super::index::{Entry, Names};
use super::reference::Reference;
use super::store::{Damaged, Store};
use crate::sys::file::{Durability, read_limited, write_atomic};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

const FILE: &str = "summaries.json";
const LIMIT: u64 = 64 << 20;

/// A name and what a list shows of its image, or an image without a name.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The name.
    pub reference: Option<Reference>,
    /// The digest of the image's configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The image that it was made from on this machine, if that is known.
    pub parent: Option<Digest>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes of the regular files of all its layers.
    pub size: u64,
}

/// All names and images without a name, and what of them could not be read.
#[derive(Debug, Default)]
pub struct Summaries {
    /// In no particular order.
    pub images: Vec<Summary>,
    /// The others are not concerned.
    pub damaged: Vec<Damaged>,
}

/// What the file knows of one manifest.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    image: Digest,
    created: Option<String>,
    size: u64,
    documents: [Stamp; 2],
}

/// A document's inode, length and time: changed content changes them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Stamp(u64, u64, i64, i64);

impl Store {
    /// What a list of all images shows.
    pub fn summaries(&self) -> Result<Summaries> {
        let names = Names::read(&self.root)?;
        let mut old = self.read_known();
        let mut known: HashMap<Digest, Known> = HashMap::new();
        let (mut out, mut changed) = (Summaries::default(), false);
        for entry in names.entries {
            let manifest = entry.manifest.digest;
            if known.get(&manifest).is_none_or(|k| k.image != entry.image) {
                let found = match old.remove(&manifest).filter(|k| self.is_true(k, &entry)) {
                    Some(known) => known,
                    None => match self.learn(&entry) {
                        Ok(new) => {
                            changed = true;
                            new
                        }
                        Err(error) => {
                            out.damaged.push(Damaged::entry(&entry, error));
                            continue;
                        }
                    },
                };
                known.insert(manifest, found);
            }
            let Some(Known { created, size, .. }) = known.get(&manifest) else { continue };
            let Entry { reference, image: id, parent, .. } = entry;
            out.images.push(Summary { reference, id, manifest, parent, created: created.clone(), size: *size });
        }
        out.damaged.extend(names.damaged.iter().map(Damaged::value));
        if changed || !old.is_empty() {
            // Nobody needs it.
            let _ = self.write_known(&known);
        }
        Ok(out)
    }

    fn read_known(&self) -> HashMap<Digest, Known> {
        let data = read_limited(&self.root.join(FILE), LIMIT).ok();
        data.and_then(|data| serde_json::from_slice(&data).ok()).unwrap_or_default()
    }

    fn write_known(&self, known: &HashMap<Digest, Known>) -> Result<()> {
        Ok(write_atomic(&self.root.join(FILE), &serde_json::to_vec(known)?, Durability::Atomic)?)
    }

    fn learn(&self, entry: &Entry) -> Result<Known> {
        let documents = self.stamps(entry)?;
        let image = self.image(entry)?;
        let size = self.size(&image)?;
        Ok(Known { image: image.id, created: image.config.created, size, documents })
    }

    fn is_true(&self, known: &Known, entry: &Entry) -> bool {
        known.image == entry.image && self.stamps(entry).is_ok_and(|now| now == known.documents)
    }

    fn stamps(&self, entry: &Entry) -> Result<[Stamp; 2]> {
        Ok([self.stamp(&entry.manifest.digest)?, self.stamp(&entry.image)?])
    }

    fn stamp(&self, document: &Digest) -> Result<Stamp> {
        let found = std::fs::symlink_metadata(self.blob_path(document)).with_context(|| format!("read {document}"))?;
        Ok(Stamp(found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    }
}
