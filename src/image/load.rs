//! Loading: the images of an archive enter the store.
//!
//! ```text
//! docker-archive       manifest.json = [{"Config": member, "RepoTags": [names]|null, "Layers": [members]}]
//! OCI image layout     oci-layout, index.json -> (index ->) manifest -> config, layers: all blobs/sha256/<hex>
//! ```
//! An archive that is both is read as the first, whose names are Docker's. Members may stand in any order.

use super::archive::{Archive, Slice};
use super::borrow::{self, NeedsBelow};
use super::config::ImageConfig;
use super::digest::Digest;
use super::feed;
use super::index::{Entry, Names};
use super::layer::{self, Aside, Promise};
use super::manifest::{
    CONTAINERD_NAME, Descriptor, Document, Index, OCI_INDEX, OCI_MANIFEST, REF_NAME, host_architecture, plain_manifest,
};
use super::progress::{Progress, Step, Watched};
use super::reference::Reference;
use super::save::WITHOUT;
use super::store::Store;
use super::together::{self, Stop};
use super::union::Union;
use crate::sys::dir::Dir;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Indexes in indexes in indexes are not followed further.
const DEPTH_LIMIT: usize = 4;

/// What happens while an archive is loaded.
#[derive(Clone, Debug)]
pub enum LoadEvent {
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

/// An image of the archive, with all documents read and checked.
struct Planned {
    config: Vec<u8>,
    layers: Vec<Layer>,
    /// Document and media type; without one it will be made when the layers' sizes are known.
    manifest: Option<(Vec<u8>, String)>,
    names: Vec<Reference>,
}

impl Planned {
    fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }
}

/// Where a layer's stream is and what is known about it.
struct Layer {
    diff_id: Digest,
    member: String,
    stored: Stored,
}

impl Store {
    /// Loads all images of `archive` (a file, a stream like standard input, or a folder), plain or compressed.
    ///
    /// # Errors
    /// Archives of no known kind, and whatever does not match its digest. Nothing of the archive is in the store then.
    pub fn load(
        &self,
        archive: File,
        progress: &dyn Progress,
        on_event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<Loaded>> {
        // Nobody is kept waiting for an archive that comes slowly.
        let archive = Archive::open(&self.root, archive)?;
        let _making = self.root.lock_for_making()?;
        let images = if archive.has("manifest.json") {
            docker(&archive)?
        } else if archive.has("index.json") {
            oci(&archive)?
        } else {
            bail!("the archive holds no images: it has neither manifest.json nor index.json");
        };
        if images.is_empty() {
            bail!("the archive holds no images");
        }
        self.load_layers(&archive, &images, progress)?;
        let mut loaded = Vec::new();
        for image in images {
            self.publish_loaded(image, &mut loaded, on_event)?;
        }
        Ok(loaded)
    }

    /// Unpacks the layers that the store does not have, all at once, and publishes them when all are right.
    fn load_layers(&self, archive: &Archive, images: &[Planned], progress: &dyn Progress) -> Result<()> {
        let mut todo: Vec<(&Layer, Slice)> = Vec::new();
        let mut planned = BTreeSet::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            if planned.insert(layer.diff_id) && !layer::exists(&self.root, &layer.diff_id) {
                let source = archive.member(&layer.member);
                todo.push((layer, source.map_err(|e| left_out(archive, &layer.diff_id, e))?));
            }
        }
        // The longest first: nobody waits for it in the end.
        todo.sort_by_key(|(_, source)| std::cmp::Reverse(source.len()));
        let outcomes =
            together::each(todo, |(layer, source), stop| match self.unpack(layer, source, None, stop, progress) {
                Err(e) if e.downcast_ref::<NeedsBelow>().is_some() => Ok(Err(e)),
                other => other.map(Ok),
            })?;
        let mut unpacked: Vec<Aside> = outcomes.into_iter().flatten().collect();
        for image in images {
            self.unpack_in_order(archive, image, &mut unpacked, progress)?;
        }
        let folder = |layer: &Digest| self.folder_of(layer, &unpacked);
        images.iter().try_for_each(|image| borrow::check(&image.diff_ids(), folder))?;
        layer::publish_all(&self.root, &unpacked)?;
        // Those that were there may still be a build's.
        layer::settle(&self.root, &planned.into_iter().collect::<Vec<_>>())
    }

    /// Where a layer is now.
    fn folder_of(&self, layer: &Digest, unpacked: &[Aside]) -> PathBuf {
        let aside = unpacked.iter().find(|aside| aside.diff_id() == *layer);
        aside.map_or_else(|| layer::folder(&self.root, layer), |aside| aside.path().to_owned())
    }

    /// Unpacks those layers of an image that need what is below them.
    fn unpack_in_order(
        &self,
        archive: &Archive,
        image: &Planned,
        unpacked: &mut Vec<Aside>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut below = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            if !self.folder_of(&layer.diff_id, unpacked).exists() {
                let union = Union::new(below.iter().rev().map(Dir::open).collect::<io::Result<_>>()?);
                let source = archive.member(&layer.member)?;
                let made = self.unpack(layer, source, Some(&union), &Stop::default(), progress)?;
                borrow::note(made.path(), &image.diff_ids()[..at])?;
                unpacked.push(made);
            }
            let folder = self.folder_of(&layer.diff_id, unpacked);
            below.push(folder.join("fs"));
        }
        Ok(())
    }

    fn unpack(
        &self,
        layer: &Layer,
        source: Slice,
        below: Option<&Union>,
        stop: &Stop,
        progress: &dyn Progress,
    ) -> Result<Aside> {
        let (total, item) = (Some(source.len()), layer.diff_id.short());
        let source = stop.watch(Watched::new(source, progress, item, total, Step::Loading));
        let promise = Promise { diff_id: layer.diff_id, stored: layer.stored };
        let scratch = self.root.scratch()?;
        let unpacked = match below {
            None => layer::unpack_aside(scratch, source, promise),
            Some(below) => layer::unpack_over(scratch, source, promise, below),
        };
        unpacked.with_context(|| format!("read the layer {}", layer.member))
    }

    /// Stores an image's documents as they are and gives it its names.
    fn publish_loaded(
        &self,
        planned: Planned,
        loaded: &mut Vec<Loaded>,
        on_event: &mut dyn FnMut(LoadEvent),
    ) -> Result<()> {
        let (manifest, media_type) = match planned.manifest {
            Some(manifest) => manifest,
            None => {
                let sizes = planned.diff_ids().into_iter().map(|id| Ok((id, layer::meta(&self.root, &id)?.tar)));
                (plain_manifest(&planned.config, &sizes.collect::<Result<Vec<_>>>()?)?, OCI_MANIFEST.into())
            }
        };
        let image = self.put_blob(&planned.config)?;
        self.put_blob(&manifest)?;
        let manifest = Descriptor::of(&media_type, &manifest);
        let entry = |reference| Entry { reference, manifest: manifest.clone(), image, parent: None };
        let names = planned.names;
        let losers = Names::update(&self.root, |stored| {
            if names.is_empty() {
                stored.put(entry(None));
            }
            Ok(names.iter().map(|name| stored.put(entry(Some(name.clone())))).collect::<Vec<_>>())
        })?;
        for (name, loser) in names.iter().zip(losers) {
            if let Some(old) = loser {
                on_event(LoadEvent::Renamed { reference: name.clone(), old });
            }
        }
        let unnamed = names.is_empty().then_some(None);
        for reference in names.into_iter().map(Some).chain(unnamed) {
            let one = Loaded { image, reference };
            on_event(LoadEvent::Image(one.clone()));
            loaded.push(one);
        }
        Ok(())
    }
}

/// The images that Docker's `manifest.json` lists.
fn docker(archive: &Archive) -> Result<Vec<Planned>> {
    let images: Vec<DockerImage> =
        serde_json::from_slice(&archive.document("manifest.json")?).context("read manifest.json")?;
    let mut planned = Vec::new();
    for image in images {
        let names = image
            .repo_tags
            .iter()
            .flatten()
            .map(|name| Reference::parse(name).with_context(|| format!("read the image name {name:?}")));
        let names = names.collect::<Result<Vec<_>>>()?;
        let config = archive.document(&image.config)?;
        if let Some(promised) = digest_in(&image.config) {
            feed::check(&image.config, (promised, None), Some(Digest::of(&config)), 0)?;
        }
        let members = image.layers.unwrap_or_default();
        let layers = members.into_iter().map(|member| (blob_digest(&member).map(|d| (d, None)), member));
        planned.push(plan(config, layers.collect(), None, names)?);
    }
    Ok(planned)
}

/// The images of an OCI layout that this machine runs.
fn oci(archive: &Archive) -> Result<Vec<Planned>> {
    let index = match Document::parse(&archive.document("index.json")?, "")? {
        Document::Index(index) => index,
        Document::Manifest(_) => bail!("index.json is not an index"),
    };
    let images: Vec<Descriptor> = index.manifests.into_iter().filter(|d| !d.is_attestation()).collect();
    let mut planned = Vec::new();
    for descriptor in &images {
        let name = name_of(descriptor)?;
        let is_foreign = descriptor.platform.as_ref().is_some_and(|p| !p.is_host());
        let has_better = |other: &Descriptor| {
            other.platform.as_ref().is_some_and(|p| p.is_host()) && name_of(other).is_ok_and(|n| n == name)
        };
        if is_foreign && images.iter().any(has_better) {
            continue;
        }
        planned.push(oci_image(archive, descriptor, name, 0)?);
    }
    Ok(planned)
}

/// Follows a descriptor to the image that this machine runs.
fn oci_image(archive: &Archive, descriptor: &Descriptor, name: Option<Reference>, depth: usize) -> Result<Planned> {
    let data = oci_document(archive, descriptor)?;
    match Document::parse(&data, &descriptor.media_type).with_context(|| format!("read {}", descriptor.digest))? {
        Document::Manifest(manifest) => {
            let config = oci_document(archive, &manifest.config)?;
            let layers = manifest.layers.iter().map(|layer| {
                if !layer.media_type.contains(".tar") || layer.media_type.ends_with("encrypted") {
                    bail!("a layer of the type {} is not supported", layer.media_type);
                }
                Ok((Some((layer.digest, Some(layer.size))), blob_name(&layer.digest)))
            });
            let manifest = Some((data, descriptor.media_type.clone()));
            plan(config, layers.collect::<Result<_>>()?, manifest, name.into_iter().collect())
        }
        Document::Index(_) if depth == DEPTH_LIMIT => bail!("the archive's indexes lie too deep in each other"),
        Document::Index(index) => {
            let child = choose(&index).with_context(|| format!("read the index {}", descriptor.digest))?;
            oci_image(archive, child, name, depth + 1)
        }
    }
}

fn oci_document(archive: &Archive, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let name = blob_name(&descriptor.digest);
    let data = archive.document(&name)?;
    let promised = (descriptor.digest, Some(descriptor.size));
    feed::check(&name, promised, Some(Digest::of(&data)), data.len() as u64)?;
    Ok(data)
}

/// Digest and size of a stream, as far as they are promised.
type Stored = Option<(Digest, Option<u64>)>;

fn plan(
    config: Vec<u8>,
    layers: Vec<(Stored, String)>,
    manifest: Option<(Vec<u8>, String)>,
    names: Vec<Reference>,
) -> Result<Planned> {
    let diff_ids = parse_config(&config)?.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        bail!("the image has {} layers but {} diff ids", layers.len(), diff_ids.len());
    }
    let layers = diff_ids.into_iter().zip(layers);
    let layers = layers.map(|(diff_id, (stored, member))| Layer { diff_id, member, stored }).collect();
    Ok(Planned { config, layers, manifest, names })
}

/// Why a layer is nowhere, if whoever saved the archive has left it out.
fn left_out(archive: &Archive, layer: &Digest, error: anyhow::Error) -> anyhow::Error {
    let index = archive.document("index.json").ok().and_then(|data| serde_json::from_slice::<Index>(&data).ok());
    let names = index.as_ref().and_then(|index| index.other.get("annotations")?.get(WITHOUT)?.as_str());
    match names {
        Some(names) => error.context(format!(
            "the archive was saved without the layers of {names}, and the store does not have {layer}: load that first"
        )),
        None => error,
    }
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

/// The image's name by an index's annotations. A bare tag alone, which some tools write, is no name; beside a name that
/// some other tool has left it says the tag.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let named = |key: &str| descriptor.annotations.get(key).filter(|name| !name.is_empty());
    let parse = |name: &String| Reference::parse(name).with_context(|| format!("read the image name {name:?}"));
    let given = named(REF_NAME);
    let has_repository = |name: &&String| name.contains([':', '/']);
    let name = match named(CONTAINERD_NAME).map(parse).transpose()? {
        Some(name) => match given.filter(|tag| !has_repository(tag) && name.tag() != Some(tag)) {
            Some(tag) => Some(Reference::parse(&format!("{}:{tag}", name.name())).unwrap_or(name)),
            None => Some(name),
        },
        None => given.filter(has_repository).map(parse).transpose()?,
    };
    Ok(name.filter(|reference| reference.tag().is_some()))
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
