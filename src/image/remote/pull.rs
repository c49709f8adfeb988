//! Pulling: from a name to an image in the store.

use super::download::{Around, Download, Fate};
use super::fetch::{Fetching, Wish};
use super::partial;
use crate::image::borrow;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::feed;
use crate::image::index::{Entry, Names};
use crate::image::layer;
use crate::image::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::image::platform::Wanted;
use crate::image::progress::{Progress, Silent};
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::registry::{Received, Refused, Registries, Repository};
use crate::sys::file::read_all_limited;
use anyhow::{Context, Error, Result, anyhow, bail};
use std::sync::atomic::AtomicBool;

/// Indexes in indexes in indexes are not followed further.
const DEPTH_LIMIT: usize = 4;
const CONFIG_LIMIT: u64 = 16 << 20;
/// How often layers may vanish while others are fetched.
const ROUNDS: usize = 3;

/// How an image is pulled.
pub struct PullOptions<'a> {
    /// The platform that was asked for; this machine's otherwise.
    pub platform: Option<Wanted>,
    /// Hears of each layer.
    pub progress: &'a dyn Progress,
    /// Hears that there is such an image, before its layers come: its tag or digest.
    pub begun: &'a dyn Fn(&str),
}

/// What a pull has brought.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image's id.
    pub image: Digest,
    /// The digest that the registry knows it by.
    pub digest: Digest,
    /// Whether the name meant something else before.
    pub is_new: bool,
}

/// An image at a registry.
struct Found {
    /// The digest of what the name leads to: an index or the manifest itself.
    digest: Digest,
    manifest: Manifest,
    media_type: String,
    data: Vec<u8>,
}

impl Store {
    /// Gets an image from its registry, or a mirror of that.
    ///
    /// # Errors
    /// [`super::Interrupted`] if what has arrived is kept for the next attempt.
    pub fn pull(&self, registries: &Registries, reference: &Reference, options: &PullOptions) -> Result<Pulled> {
        let mut result = Err(anyhow!("there is no registry to ask"));
        for source in registries.sources(reference.domain(), reference.path()) {
            result = source.and_then(|repository| self.pull_from(&repository, reference, options));
            if result.is_ok() {
                break;
            }
        }
        partial::sweep(&self.root);
        result.map_err(|error| in_users_words(error, reference))
    }

    /// The tags of a repository.
    pub fn remote_tags(&self, registries: &Registries, reference: &Reference) -> Result<Vec<Reference>> {
        let mut result = Err(anyhow!("there is no registry to ask"));
        for source in registries.sources(reference.domain(), reference.path()) {
            result = source.and_then(|repository| repository.tags());
            if result.is_ok() {
                break;
            }
        }
        let tags = result.map_err(|error| in_users_words(error, reference))?;
        // A tag of a hostile registry might be anything.
        tags.iter().map(|tag| Reference::parse(&format!("{}:{tag}", reference.name()))).collect()
    }

    fn pull_from(&self, repository: &Repository, reference: &Reference, options: &PullOptions) -> Result<Pulled> {
        let wanted = options.platform.clone().unwrap_or_else(Wanted::host);
        let digest = reference.digest().map(|d| d.to_string());
        let name = digest.as_deref().or(reference.tag()).unwrap_or_default();
        let found = find(repository, name, &wanted)?;
        (options.begun)(name);
        let config_data = self.config_of(repository, &found.manifest.config)?;
        let config: ImageConfig = serde_json::from_slice(&config_data).context("read the image's configuration")?;
        check_platform(&config, &wanted, options.platform.is_some(), reference)?;
        let wishes = wishes(&config, &found.manifest)?;
        // What could not be used in the end need not come.
        self.check_borrowed(&config.rootfs.diff_ids)?;
        let is_here = |id: Digest| {
            let known = Names::read(&self.root).is_ok_and(|names| names.of_image(id).next().is_some());
            known && config.rootfs.diff_ids.iter().all(|layer| layer::exists(&self.root, layer))
        };
        // What has come stays while the rest is on its way, whoever removes images meanwhile.
        let workshop = self.root.workshop()?;
        let making = self.root.lock_for_making()?;
        workshop.lease(&config.rootfs.diff_ids.iter().map(Digest::to_string).collect::<Vec<_>>())?;
        drop(making);
        let place = format!("{}/{}", repository.host(), repository.path());
        let fetching = Fetching { store: self, repository, place, progress: options.progress };
        for round in 0..ROUNDS {
            if round > 0 || !is_here(found.manifest.config.digest) {
                fetching.all(&wishes)?;
            }
            if let Some(pulled) = self.publish_pulled(&found, &config_data, &config, reference)? {
                return Ok(pulled);
            }
        }
        bail!("layers of {} are removed again and again while others are fetched", reference.familiar())
    }

    /// Checks that those of the layers that are here have no files of other ones than the image's.
    fn check_borrowed(&self, layers: &[Digest]) -> Result<()> {
        borrow::check(layers, |layer| layer::folder(&self.root, layer))
    }

    /// The configuration, from the store if it is there.
    pub(super) fn config_of(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if let Ok(data) = self.blob(&descriptor.digest) {
            return Ok(data);
        }
        if descriptor.size > CONFIG_LIMIT {
            bail!("the image's configuration is said to have {} bytes, which is too large", descriptor.size);
        }
        let (stop, fate) = (AtomicBool::new(false), Fate::default());
        let patience = repository.settings().patience();
        let around = Around { progress: &Silent, item: "", patience, stop: &stop, fate: &fate };
        let digest = descriptor.digest.to_string();
        let open = Box::new(|from| repository.blob(&digest, from));
        let mut download = Download::new(open, descriptor.size, None, around)?;
        let data = read_all_limited(&mut download, descriptor.size).context("get the image's configuration")?;
        let promised = (descriptor.digest, Some(descriptor.size));
        feed::check("the image's configuration", promised, Some(Digest::of(&data)), data.len() as u64)?;
        Ok(data)
    }

    /// Gives the image its names, if all its layers are (still) there.
    fn publish_pulled(
        &self,
        found: &Found,
        config_data: &[u8],
        config: &ImageConfig,
        reference: &Reference,
    ) -> Result<Option<Pulled>> {
        let _making = self.root.lock_for_making()?;
        if !config.rootfs.diff_ids.iter().all(|layer| layer::exists(&self.root, layer)) {
            return Ok(None);
        }
        // Another command may have unpacked the same ones on others.
        self.check_borrowed(&config.rootfs.diff_ids)?;
        // Those that were here may still be a build's.
        layer::settle(&self.root, &config.rootfs.diff_ids)?;
        let image = self.put_blob(config_data)?;
        self.put_blob(&found.data)?;
        let manifest = Descriptor::of(&found.media_type, &found.data);
        let by_digest = Reference::parse(&format!("{}@{}", reference.name(), found.digest))?;
        let tagged = reference.digest().is_none().then(|| reference.clone());
        let is_new = Names::update(&self.root, |names| {
            let means =
                |name: &Reference| names.entries.iter().any(|e| e.image == image && e.reference.as_ref() == Some(name));
            let is_new = !(means(&by_digest) && tagged.as_ref().is_none_or(means));
            for name in tagged.into_iter().chain([by_digest]) {
                names.put(Entry { reference: Some(name), manifest: manifest.clone(), image, parent: None });
            }
            Ok(is_new)
        })?;
        Ok(Some(Pulled { image, digest: found.digest, is_new }))
    }
}

/// Gets a manifest or an index by a tag or a digest, of so many bytes if that is known.
pub(super) fn receive(repository: &Repository, name: &str, size: Option<u64>) -> Result<(Digest, Received)> {
    let received = repository.manifest(name)?;
    let digest = Digest::of(&received.data);
    let promised: Option<Digest> = name.parse().ok();
    if let Some(promised) = promised.filter(|p| *p != digest) {
        bail!("the manifest is not what its digest {promised} says: it is {digest}");
    }
    if let Some(size) = size.filter(|size| *size != received.data.len() as u64) {
        bail!("the manifest {digest} has {} bytes, not {size}", received.data.len());
    }
    if let Some(said) = received.digest.as_ref().filter(|said| **said != digest.to_string()) {
        bail!("the registry sends a manifest as {said}, but it is {digest}");
    }
    Ok((digest, received))
}

/// Follows a tag or a digest to the manifest that is wanted.
fn find(repository: &Repository, name: &str, wanted: &Wanted) -> Result<Found> {
    let mut name = name.to_owned();
    let mut expected: Option<Descriptor> = None;
    let mut top = None;
    for _ in 0..DEPTH_LIMIT {
        let (digest, received) = receive(repository, &name, expected.as_ref().map(|d| d.size))?;
        top = top.or(Some(digest));
        let known = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST];
        let media_type = if known.contains(&received.media_type.as_str()) { &received.media_type } else { "" };
        match Document::parse(&received.data, media_type)? {
            Document::Manifest(manifest) => {
                let own = manifest.media_type.clone();
                let media_type = [media_type.to_owned(), own, OCI_MANIFEST.to_owned()];
                let media_type = media_type.into_iter().find(|t| !t.is_empty()).unwrap_or_default();
                let digest = top.unwrap_or(digest);
                return Ok(Found { digest, manifest: *manifest, media_type, data: received.data });
            }
            Document::Index(index) => {
                let child = wanted.choose(&index)?.clone();
                name = child.digest.to_string();
                expected = Some(child);
            }
        }
    }
    bail!("the registry's indexes lie too deep in each other")
}

fn check_platform(config: &ImageConfig, wanted: &Wanted, asked: bool, reference: &Reference) -> Result<()> {
    if asked && !wanted.is_met(&config.os, &config.architecture) {
        bail!(
            "image with reference {} was found but does not match the specified platform: wanted {wanted}, actual: \
             {}/{}",
            reference.familiar(),
            config.os,
            config.architecture
        );
    }
    if !config.os.is_empty() && config.os != "linux" {
        bail!("image operating system {:?} cannot be used on this platform", config.os);
    }
    Ok(())
}

fn wishes<'m>(config: &ImageConfig, manifest: &'m Manifest) -> Result<Vec<Wish<'m>>> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        bail!("the image has {} layers but {} diff ids", manifest.layers.len(), diff_ids.len());
    }
    for blob in &manifest.layers {
        if !blob.media_type.contains(".tar") || blob.media_type.ends_with("encrypted") {
            bail!("a layer of the type {} is not supported", blob.media_type);
        }
    }
    Ok(diff_ids.iter().zip(&manifest.layers).map(|(diff_id, blob)| Wish { diff_id: *diff_id, blob }).collect())
}

/// What registries say about names, as users know it.
fn in_users_words(error: Error, reference: &Reference) -> Error {
    let Some(refused) = error.downcast_ref::<Refused>() else { return error };
    if refused.is_denied() || (refused.is_unknown() && refused.code == "NAME_UNKNOWN") {
        return anyhow!(
            "pull access denied for {}, repository does not exist or may require 'minirun login': {refused}",
            reference.familiar_name()
        );
    }
    if refused.is_unknown() && refused.code != "BLOB_UNKNOWN" {
        return anyhow!("manifest for {} not found: {refused}", reference.familiar());
    }
    error
}
