//! Loading: the images of an archive enter the store.
//!
//! ```text
//! docker-archive       manifest.json = [{"Config": member, "RepoTags": [names]|null, "Layers": [members]}]
//! OCI image layout     oci-layout, index.json -> (index ->) manifest -> config, layers: all blobs/sha256/<hex>
//! ```
//! An archive that is both is read as the first, whose names are Docker's. Members may stand in any order.

use super::archive::Archive;
use super::config::ImageConfig;
use super::digest::Digest;
use super::feed;
use super::index::{Entry, Names};
use super::layer::{self, Promise};
use super::manifest::{
    CONTAINERD_NAME, Descriptor, Document, Index, Manifest, OCI_INDEX, OCI_MANIFEST, REF_NAME, host_architecture,
    plain_manifest,
};
use super::reference::Reference;
use super::store::Store;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs::File;

/// Indexes in indexes in indexes are not followed further.
const DEPTH_LIMIT: usize = 4;

/// What happens while an archive is loaded.
#[derive(Clone, Debug)]
pub enum LoadEvent {
    /// A layer that the store does not have begins; its size in the archive in bytes.
    Layer {
        /// Its diff id.
        layer: Digest,
        /// Bytes to read.
        size: u64,
    },
    /// A name has moved from another image, which stays without it.
    Renamed {
        /// The name.
        reference: Reference,
        /// The image that had it.
        old: Digest,
    },
    /// An image is complete and has this name, or none.
    Image(Loaded),
}

/// One loaded image and one of its names.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image's id.
    pub image: Digest,
    /// Its name, if the archive gives one.
    pub reference: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Store {
    /// Loads all images of `archive` (a file, or a stream like standard input), plain or compressed.
    ///
    /// # Errors
    /// Archives of no known kind, and whatever does not match its digest. Images that were complete before stay.
    pub fn load(&self, archive: File, on_event: &mut dyn FnMut(LoadEvent)) -> Result<Vec<Loaded>> {
        let _making = self.root.lock_for_making()?;
        let archive = Archive::open(&self.root, archive)?;
        let mut loading = Loading { store: self, archive, on_event, loaded: Vec::new() };
        if loading.archive.has("manifest.json") {
            loading.docker()?;
        } else if loading.archive.has("index.json") {
            loading.oci()?;
        } else {
            bail!("the archive holds no images: it has neither manifest.json nor index.json");
        }
        Ok(loading.loaded)
    }
}

struct Loading<'a> {
    store: &'a Store,
    archive: Archive,
    on_event: &'a mut dyn FnMut(LoadEvent),
    loaded: Vec<Loaded>,
}

impl Loading<'_> {
    fn docker(&mut self) -> Result<()> {
        let images: Vec<DockerImage> =
            serde_json::from_slice(&self.archive.document("manifest.json")?).context("read manifest.json")?;
        for image in images {
            let names = image
                .repo_tags
                .iter()
                .flatten()
                .map(|name| Reference::parse(name).with_context(|| format!("read the image name {name:?}")));
            let names = names.collect::<Result<Vec<_>>>()?;
            let data = self.archive.document(&image.config)?;
            if let Some(promised) = digest_in(&image.config) {
                feed::check(&image.config, (promised, None), Some(Digest::of(&data)), 0)?;
            }
            let config = parse_config(&data)?;
            let members = image.layers.unwrap_or_default();
            let layers: Vec<Layer> = members
                .into_iter()
                .map(|member| Layer { stored: blob_digest(&member).map(|d| (d, None)), member })
                .collect();
            self.layers(&config, &layers)?;
            let sizes = config.rootfs.diff_ids.iter().map(|id| Ok((*id, layer::meta(&self.store.root, id)?.tar)));
            let manifest = plain_manifest(&data, &sizes.collect::<Result<Vec<_>>>()?)?;
            self.publish(&data, &manifest, OCI_MANIFEST, &names)?;
        }
        Ok(())
    }

    fn oci(&mut self) -> Result<()> {
        let index = match Document::parse(&self.archive.document("index.json")?, "")? {
            Document::Index(index) => index,
            Document::Manifest(_) => bail!("index.json is not an index"),
        };
        let images: Vec<Descriptor> = index.manifests.into_iter().filter(|d| !d.is_attestation()).collect();
        for descriptor in &images {
            let name = name_of(descriptor)?;
            let is_foreign = descriptor.platform.as_ref().is_some_and(|p| !p.is_host());
            let has_better = |other: &Descriptor| {
                other.platform.as_ref().is_some_and(|p| p.is_host()) && name_of(other).is_ok_and(|n| n == name)
            };
            if is_foreign && images.iter().any(has_better) {
                continue;
            }
            self.oci_image(descriptor, name.as_ref(), 0)?;
        }
        if self.loaded.is_empty() {
            bail!("the archive holds no images");
        }
        Ok(())
    }

    /// Follows a descriptor to the image that this machine runs.
    fn oci_image(&mut self, descriptor: &Descriptor, name: Option<&Reference>, depth: usize) -> Result<()> {
        let data = self.oci_document(descriptor)?;
        match Document::parse(&data, &descriptor.media_type).with_context(|| format!("read {}", descriptor.digest))? {
            Document::Manifest(manifest) => self.oci_manifest(&data, &manifest, &descriptor.media_type, name),
            Document::Index(_) if depth == DEPTH_LIMIT => bail!("the archive's indexes lie too deep in each other"),
            Document::Index(index) => {
                let child = choose(&index).with_context(|| format!("read the index {}", descriptor.digest))?;
                self.oci_image(child, name, depth + 1)
            }
        }
    }

    fn oci_manifest(
        &mut self,
        data: &[u8],
        manifest: &Manifest,
        media_type: &str,
        name: Option<&Reference>,
    ) -> Result<()> {
        let config_data = self.oci_document(&manifest.config)?;
        let config = parse_config(&config_data)?;
        let mut layers = Vec::new();
        for descriptor in &manifest.layers {
            if !descriptor.media_type.contains(".tar") || descriptor.media_type.ends_with("encrypted") {
                bail!("a layer of the type {} is not supported", descriptor.media_type);
            }
            let stored = Some((descriptor.digest, Some(descriptor.size)));
            layers.push(Layer { member: blob_name(&descriptor.digest), stored });
        }
        self.layers(&config, &layers)?;
        self.publish(&config_data, data, media_type, name.map_or(&[], std::slice::from_ref))
    }

    fn oci_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = blob_name(&descriptor.digest);
        let data = self.archive.document(&name)?;
        let promised = (descriptor.digest, Some(descriptor.size));
        feed::check(&name, promised, Some(Digest::of(&data)), data.len() as u64)?;
        Ok(data)
    }

    /// Unpacks the layers that the store does not have.
    fn layers(&mut self, config: &ImageConfig, layers: &[Layer]) -> Result<()> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            bail!("the image has {} layers but {} diff ids", layers.len(), diff_ids.len());
        }
        for (diff_id, layer) in diff_ids.iter().zip(layers) {
            if layer::exists(&self.store.root, diff_id) {
                continue;
            }
            let source = self.archive.member(&layer.member)?;
            (self.on_event)(LoadEvent::Layer { layer: *diff_id, size: source.len() });
            layer::unpack(&self.store.root, source, Promise { diff_id: *diff_id, stored: layer.stored })
                .with_context(|| format!("read the layer {}", layer.member))?;
        }
        layer::settle(&self.store.root, diff_ids)
    }

    /// Stores an image's documents as they are and gives it its names.
    fn publish(&mut self, config: &[u8], manifest: &[u8], media_type: &str, names: &[Reference]) -> Result<()> {
        let image = self.store.put_blob(config)?;
        self.store.put_blob(manifest)?;
        let manifest = Descriptor::of(media_type, manifest);
        let entry = |reference| Entry { reference, manifest: manifest.clone(), image, parent: None };
        let losers = Names::update(&self.store.root, |stored| {
            if names.is_empty() {
                stored.put(entry(None));
            }
            Ok(names.iter().map(|name| stored.put(entry(Some(name.clone())))).collect::<Vec<_>>())
        })?;
        for (name, loser) in names.iter().zip(losers) {
            if let Some(old) = loser {
                (self.on_event)(LoadEvent::Renamed { reference: name.clone(), old });
            }
        }
        let unnamed = names.is_empty().then_some(None);
        for reference in names.iter().cloned().map(Some).chain(unnamed) {
            let loaded = Loaded { image, reference };
            (self.on_event)(LoadEvent::Image(loaded.clone()));
            self.loaded.push(loaded);
        }
        Ok(())
    }
}

/// Where a layer's stream is and what is known about it.
struct Layer {
    member: String,
    stored: Option<(Digest, Option<u64>)>,
}

fn parse_config(data: &[u8]) -> Result<ImageConfig> {
    let config: ImageConfig = serde_json::from_slice(data).context("read the image's configuration")?;
    if !config.os.is_empty() && config.os != "linux" {
        bail!("image operating system {:?} cannot be used on this platform", config.os);
    }
    Ok(config)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn blob_digest(member: &str) -> Option<Digest> {
    member.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok())
}

/// The digest that the name of a configuration promises.
fn digest_in(member: &str) -> Option<Digest> {
    blob_digest(member).or_else(|| Digest::from_hex(member.strip_suffix(".json")?).ok())
}

/// The image's name by an index's annotations. A bare tag, which some tools write, is no name.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let named = |key: &str| descriptor.annotations.get(key).filter(|name| !name.is_empty());
    let name = named(CONTAINERD_NAME).or_else(|| named(REF_NAME).filter(|name| name.contains([':', '/'])));
    let parsed = name.map(|name| Reference::parse(name).with_context(|| format!("read the image name {name:?}")));
    Ok(parsed.transpose()?.filter(|reference| reference.tag().is_some()))
}

/// The image of an index that this machine runs.
fn choose(index: &Index) -> Result<&Descriptor> {
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|d| !d.is_attestation()).collect();
    let host = images.iter().find(|d| d.platform.as_ref().is_some_and(|p| p.is_host()));
    match (host, images.as_slice()) {
        (Some(image), _) => Ok(image),
        (None, [image]) if image.platform.is_none() || image.media_type == OCI_INDEX => Ok(image),
        _ => bail!("no matching manifest for linux/{} in the manifest list entries", host_architecture()),
    }
}
