//! The store of images: what names mean, which images there are, and where their layers lie.

use super::config::ImageConfig;
use super::digest::Digest;
use super::index::{Entry, Names};
use super::layer;
use super::manifest::{Descriptor, Document, Manifest, OCI_MANIFEST, plain_manifest};
use super::reference::Reference;
use crate::layout::Root;
use crate::sys::dir::Dir;
use crate::sys::file::{Durability, read_limited, write_atomic};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// No manifest or configuration is larger.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// The images of one root. Cheap to make: nothing is read until it is asked for.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) root: Root,
}

/// One image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The image that it was made from on this machine, if that is known.
    pub parent: Option<Digest>,
}

impl Image {
    /// The diff ids of its layers, the lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }
}

/// A name and its image, or an image without a name.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name.
    pub reference: Option<Reference>,
    /// The image.
    pub image: Image,
}

/// Everything in the store.
#[derive(Debug, Default)]
pub struct Listing {
    /// The names and images, in no particular order.
    pub images: Vec<Listed>,
    /// What could not be read; the others are not concerned.
    pub damaged: Vec<Damaged>,
}

/// An image that is named in the store but cannot be read.
#[derive(Debug)]
pub struct Damaged {
    /// Its name, or else its id.
    pub name: String,
    /// What is wrong with it.
    pub error: anyhow::Error,
}

impl Damaged {
    pub(super) fn entry(entry: &Entry, error: anyhow::Error) -> Damaged {
        let name = entry.reference.as_ref().map_or_else(|| entry.image.to_string(), Reference::familiar);
        Damaged { name, error }
    }

    pub(super) fn value(value: &serde_json::Value) -> Damaged {
        let error = anyhow::anyhow!("the entry in index.json makes no sense: {value}");
        Damaged { name: "<unknown>".into(), error }
    }
}

impl Store {
    /// The images of `root`.
    pub fn open(root: &Root) -> Store {
        Store { root: root.clone() }
    }

    /// Looks an image up by what a user typed: a name, `name@digest`, an id, or the unique beginning of an id.
    ///
    /// # Errors
    /// Several images whose ids begin so, and an image that is there but cannot be read.
    pub fn find(&self, text: &str) -> Result<Option<Image>> {
        match resolve(&Names::read(&self.root)?, text)? {
            Some((entry, _)) => Ok(Some(self.image(&entry).with_context(|| format!("read the image {text}"))?)),
            None => Ok(None),
        }
    }

    /// All names and all images without a name.
    pub fn list(&self) -> Result<Listing> {
        let names = Names::read(&self.root)?;
        let mut listing = Listing::default();
        for entry in names.entries {
            match self.image(&entry) {
                Ok(image) => listing.images.push(Listed { reference: entry.reference, image }),
                Err(error) => listing.damaged.push(Damaged::entry(&entry, error)),
            }
        }
        listing.damaged.extend(names.damaged.iter().map(Damaged::value));
        Ok(listing)
    }

    /// The folders of an image's layers, the lowest first, ready to be stacked by overlayfs.
    ///
    /// # Errors
    /// A layer that is missing.
    pub fn layer_dirs(&self, image: &Image) -> Result<Vec<PathBuf>> {
        self.dirs_of(image.layers())
    }

    /// As [`Store::layer_dirs`] for a list of layers, such as a container's record has.
    pub fn dirs_of(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut dirs = Vec::with_capacity(layers.len());
        let mut seen = BTreeSet::new();
        for layer in layers.iter().rev() {
            // A layer that occurs twice adds nothing below itself, and overlayfs refuses the same folder twice.
            if !seen.insert(layer) {
                continue;
            }
            let path = layer::folder(&self.root, layer).join("fs");
            let opaque = layer::hides_all_below(&path).with_context(|| format!("the layer {layer} is missing"))?;
            dirs.push(path);
            // Overlayfs does not look for the mark on a layer's top folder.
            if opaque {
                break;
            }
        }
        dirs.reverse();
        Ok(dirs)
    }

    /// The size of an image in bytes: the regular files of all its layers.
    pub fn size(&self, image: &Image) -> Result<u64> {
        image.layers().iter().try_fold(0u64, |sum, layer| Ok(sum.saturating_add(self.layer_size(layer)?)))
    }

    /// The size of one layer in bytes: its regular files, those with several names once.
    pub fn layer_size(&self, layer: &Digest) -> Result<u64> {
        Ok(layer::meta(&self.root, layer)?.size)
    }

    /// Gives an image another name. An image that had the name before keeps its entry, if need be without a name.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<()> {
        let _making = self.root.lock_for_making()?;
        if reference.digest().is_some() {
            bail!("refusing to create a tag with a digest reference");
        }
        Names::update(&self.root, |names| {
            // One image may be here with several manifests: what was found is what gets the name.
            let is_found = |e: &&Entry| e.manifest.digest == image.manifest;
            let found = names.of_image(image.id).find(is_found).or_else(|| names.of_image(image.id).next());
            let Some(entry) = found.cloned() else {
                bail!("No such image: {}", image.id);
            };
            names.put(Entry { reference: Some(reference.clone()), ..entry });
            Ok(())
        })
    }

    /// Puts an image whose layers are in the store into it, and gives it a name as the last step.
    pub(super) fn publish(
        &self,
        image: &ImageConfig,
        reference: Option<&Reference>,
        parent: Option<Digest>,
    ) -> Result<Digest> {
        layer::settle(&self.root, &image.rootfs.diff_ids)?;
        let config = serde_json::to_vec(image)?;
        let layers = image.rootfs.diff_ids.iter().map(|layer| Ok((*layer, layer::meta(&self.root, layer)?.tar)));
        let manifest = plain_manifest(&config, &layers.collect::<Result<Vec<_>>>()?)?;
        let id = self.put_blob(&config)?;
        self.put_blob(&manifest)?;
        let manifest = Descriptor::of(OCI_MANIFEST, &manifest);
        let entry = Entry { reference: reference.cloned(), manifest, image: id, parent };
        Names::update(&self.root, |names| Ok(names.put(entry)))?;
        Ok(id)
    }

    /// The image of an entry; its documents are checked against their digests.
    pub(super) fn image(&self, entry: &Entry) -> Result<Image> {
        let manifest = self.manifest(&entry.manifest)?;
        if manifest.config.digest != entry.image {
            bail!("the manifest {} is that of another image", entry.manifest.digest);
        }
        let config = serde_json::from_slice(&self.blob(&entry.image)?)
            .with_context(|| format!("read the configuration {}", entry.image))?;
        Ok(Image { id: entry.image, manifest: entry.manifest.digest, config, parent: entry.parent })
    }

    pub(super) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        match Document::parse(&self.blob(&descriptor.digest)?, &descriptor.media_type)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => bail!("{} is an index", descriptor.digest),
        }
    }

    /// A document of the store, checked against its digest.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let data = read_limited(&self.blob_path(digest), DOCUMENT_LIMIT).with_context(|| format!("read {digest}"))?;
        if Digest::of(&data) != *digest {
            bail!("{digest} is damaged");
        }
        Ok(data)
    }

    /// Puts a document into the store, durably.
    pub(super) fn put_blob(&self, data: &[u8]) -> Result<Digest> {
        let digest = Digest::of(data);
        let path = self.blob_path(&digest);
        // What is there but damaged is replaced.
        if read_limited(&path, DOCUMENT_LIMIT).is_ok_and(|old| old == data) {
            return Ok(digest);
        }
        write_atomic(&path, data, Durability::Synced).with_context(|| format!("write {}", path.display()))?;
        Ok(digest)
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// An open folder for each of `layers`, the highest first, as [`super::union::Union`] wants them.
    pub fn open_layers(&self, layers: &[Digest]) -> Result<Vec<Dir>> {
        let dirs = self.dirs_of(layers)?;
        dirs.iter().rev().map(|path| Dir::open(path).with_context(|| format!("open {}", path.display()))).collect()
    }
}

/// How an image was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Name,
    Id,
}

/// Finds the entry that `text` means.
pub(super) fn resolve(names: &Names, text: &str) -> Result<Option<(Entry, By)>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64
        && let Ok(id) = Digest::from_hex(digits)
    {
        return Ok(names.of_image(id).next().map(|e| (e.clone(), By::Id)));
    }
    if let Ok(reference) = Reference::parse(text) {
        let meant = || names.entries.iter().filter(|e| is_meant(e, &reference));
        // A tag of what a digest names is not that name.
        let by_digest = meant().find(|e| e.reference.as_ref().is_some_and(|own| own.digest() == reference.digest()));
        if let Some(entry) = by_digest.or_else(|| meant().next()) {
            return Ok(Some((entry.clone(), By::Name)));
        }
    }
    if digits.is_empty() || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let images: BTreeSet<Digest> =
        names.entries.iter().map(|e| e.image).filter(|id| id.hex().starts_with(digits)).collect();
    if images.len() > 1 {
        bail!("multiple images found with provided prefix: {text}");
    }
    Ok(images.first().and_then(|id| names.of_image(*id).next()).map(|e| (e.clone(), By::Id)))
}

fn is_meant(entry: &Entry, wanted: &Reference) -> bool {
    let Some(own) = &entry.reference else { return false };
    match wanted.digest() {
        None => own == wanted,
        Some(digest) => {
            own.same_repository(wanted) && (own.digest() == Some(digest) || entry.manifest.digest == digest)
        }
    }
}
