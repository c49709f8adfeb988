//! Pushing: an image's layers, its configuration, and then its manifest, go to a registry.

use super::provide::{Document, GZIP_LAYER, Providing};
use crate::image::digest::Digest;
use crate::image::index::{Entry, Names};
use crate::image::manifest::{
    DOCKER_CONFIG, DOCKER_MANIFEST, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST,
};
use crate::image::progress::{Progress, Step};
use crate::image::reference::Reference;
use crate::image::store::{Image, Store};
use crate::image::together::{Stop, each_of};
use crate::registry::{Refused, Registries, Repository, Rights};
use anyhow::{Context, Result, bail};
use serde_json::Map;
use std::collections::HashMap;

const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// What was pushed.
#[derive(Clone, Copy, Debug)]
pub struct Pushed {
    /// The image's id.
    pub image: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: usize,
}

impl Store {
    /// The tags that a repository has here.
    pub fn local_tags(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let names = Names::read(&self.root)?.entries.into_iter().filter_map(|e| e.reference);
        let mut tags: Vec<_> =
            names.filter(|r| r.same_repository(reference) && r.digest().is_none() && r.tag().is_some()).collect();
        tags.sort();
        Ok(tags)
    }

    /// Sends the image of a name to the registry in the name.
    pub fn push(&self, registries: &Registries, reference: &Reference, progress: &dyn Progress) -> Result<Pushed> {
        let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) else {
            bail!("cannot push a digest reference");
        };
        let names = Names::read(&self.root)?;
        let Some(entry) = names.entries.iter().find(|e| e.reference.as_ref() == Some(reference)) else {
            bail!("An image does not exist locally with the tag: {}", reference.familiar_name());
        };
        let image = self.image(entry).with_context(|| format!("read the image {}", reference.familiar()))?;
        let repository = registries.repository(reference.domain(), reference.path(), Rights::Push)?;
        let old = self.manifest(&entry.manifest)?;
        if old.layers.len() != image.layers().len() {
            bail!("the manifest of {} does not fit its configuration", reference.familiar());
        }
        let layers = self.provide_layers(&repository, &image, &old, progress)?;
        let config = self.blob(&image.id)?;
        let digest = image.id.to_string();
        if !repository.has_blob(&digest)? {
            let sent = repository.upload(&digest, config.len() as u64, &Document(&config), &|_| ());
            sent.context("send the image's configuration")?;
        }
        let (descriptor, data) = self.put_manifest(&repository, tag, entry, &old, layers)?;
        self.remember_push(reference, &image, &descriptor, &data)?;
        Ok(Pushed { image: image.id, digest: descriptor.digest, size: data.len() })
    }

    /// Each layer of the image as a blob that the repository has.
    fn provide_layers(
        &self,
        repository: &Repository,
        image: &Image,
        old: &Manifest,
        progress: &dyn Progress,
    ) -> Result<Vec<Descriptor>> {
        let known: HashMap<Digest, &Descriptor> = image.layers().iter().copied().zip(&old.layers).collect();
        let mut wanted: Vec<Digest> = known.keys().copied().collect();
        wanted.sort_by_key(|layer| image.layers().iter().position(|l| l == layer));
        wanted.iter().for_each(|layer| progress.step(&layer.short(), Step::Preparing));
        let workers = repository.settings().parallel().min(wanted.len());
        wanted.iter().skip(workers).for_each(|layer| progress.step(&layer.short(), Step::Waiting));
        let providing = Providing { store: self, repository, progress };
        let provide = |layer: Digest, _: &Stop| Ok((layer, providing.layer(&layer, known[&layer])?));
        let results: HashMap<Digest, Descriptor> = each_of(wanted, workers, provide)?.into_iter().collect();
        let blobs = image.layers().iter().map(|layer| results.get(layer).cloned());
        blobs.collect::<Option<Vec<_>>>().context("a layer was not sent")
    }

    /// Puts the manifest: the one that the image came with if it names the very blobs that the registry has, and a
    /// new one otherwise.
    fn put_manifest(
        &self,
        repository: &Repository,
        tag: &str,
        entry: &Entry,
        old: &Manifest,
        layers: Vec<Descriptor>,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let is_same = old.layers.iter().map(|l| l.digest).eq(layers.iter().map(|l| l.digest));
        if is_same {
            let data = self.blob(&entry.manifest.digest)?;
            repository.put_manifest(tag, &entry.manifest.media_type, &data).context("send the manifest")?;
            return Ok((Descriptor::of(&entry.manifest.media_type, &data), data));
        }
        let is_docker = old.config.media_type == DOCKER_CONFIG && !layers.iter().any(is_zstd);
        let mut kinds = if is_docker { vec![true] } else { vec![false, true] };
        kinds.retain(|docker| !*docker || !layers.iter().any(is_zstd));
        let mut result = None;
        for docker in kinds {
            let (media_type, data) = new_manifest(old, &layers, docker)?;
            match repository.put_manifest(tag, media_type, &data) {
                Ok(()) => return Ok((Descriptor::of(media_type, &data), data)),
                // An old registry may not know the newer kind.
                Err(e) if e.downcast_ref::<Refused>().is_some_and(|r| matches!(r.status, 400 | 415)) => {
                    result.get_or_insert(e);
                }
                Err(e) => return Err(e.context("send the manifest")),
            }
        }
        Err(result.context("no kind of manifest fits")?.context("send the manifest"))
    }

    /// Remembers what the registry has: the image gets that manifest, and its name by digest.
    fn remember_push(&self, reference: &Reference, image: &Image, manifest: &Descriptor, data: &[u8]) -> Result<()> {
        let _making = self.root.lock_for_making()?;
        self.put_blob(data)?;
        let by_digest = Reference::parse(&format!("{}@{}", reference.name(), manifest.digest))?;
        Names::update(&self.root, |names| {
            let means = |e: &Entry| e.image == image.id && e.reference.as_ref() == Some(reference);
            // It may have been removed or renamed while it was sent.
            let Some(entry) = names.entries.iter().find(|e| means(e)).cloned() else { return Ok(()) };
            for name in [reference.clone(), by_digest] {
                names.put(Entry { reference: Some(name), manifest: manifest.clone(), ..entry.clone() });
            }
            Ok(())
        })
    }
}

fn is_zstd(layer: &Descriptor) -> bool {
    layer.media_type.ends_with("zstd")
}

/// A manifest of one kind over blobs that may have been named by the other.
fn new_manifest(old: &Manifest, layers: &[Descriptor], docker: bool) -> Result<(&'static str, Vec<u8>)> {
    let media_type = if docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
    let layer_type = |layer: &Descriptor| {
        let is_gzip = layer.media_type.ends_with("gzip");
        match (docker, is_gzip, is_zstd(layer)) {
            (true, true, _) => DOCKER_GZIP,
            (true, false, _) => DOCKER_TAR,
            (false, true, _) => GZIP_LAYER,
            (false, _, true) => ZSTD_LAYER,
            (false, false, false) => OCI_LAYER,
        }
    };
    let config_type = if docker { DOCKER_CONFIG } else { OCI_CONFIG };
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type.into(),
        config: Descriptor::new(config_type, old.config.digest, old.config.size),
        layers: layers.iter().map(|l| Descriptor::new(layer_type(l), l.digest, l.size)).collect(),
        other: Map::new(),
    };
    Ok((media_type, serde_json::to_vec(&manifest)?))
}
