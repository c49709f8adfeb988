//! Saving: images leave the store as one archive or folder, each layer once.
//!
//! ```text
//! oci-layout, index.json             the OCI image layout; what is not `docker-archive` ends here
//! manifest.json, repositories        the same images and layers in Docker's words
//! blobs/sha256/<hex>                 manifests, configurations byte for byte, layers uncompressed
//! ```
//! Docker from 1.10 on, Podman and skopeo read the second line, newer ones the first; umoci reads it once unpacked.
//! Everything is in one order and without times, so that the same images make the same bytes.

use super::digest::Digest;
use super::index::Names;
use super::layer;
use super::manifest::{
    CONTAINERD_NAME, Descriptor, Index, OCI_INDEX, OCI_MANIFEST, Platform, REF_NAME, plain_manifest,
};
use super::members::Members;
use super::progress::{Progress, Step, Watched};
use super::reference::Reference;
use super::store::{By, Image, Store, resolve};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What an index says about layers that were left out: the names of images that have them.
pub const WITHOUT: &str = "org.minirun.without";

/// An image that was asked for, and its names that go with it.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The image.
    pub image: Image,
    /// Names with tags.
    pub names: Vec<Reference>,
}

/// What goes into the archive.
#[derive(Clone, Copy, Debug)]
pub struct Saving<'a> {
    /// The images, each once.
    pub images: &'a [Selected],
    /// Whose layers the reader has already.
    pub without: &'a [Selected],
    /// Whether Docker's own documents are wanted beside those of the OCI.
    pub for_docker: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Finds images by what a user typed. A repository without a tag means all of its tags.
    ///
    /// # Errors
    /// `No such image: …`
    pub fn select(&self, texts: &[String]) -> Result<Vec<Selected>> {
        let names = Names::read(&self.root)?;
        let mut selected: Vec<Selected> = Vec::new();
        for text in texts {
            for (entry, name) in matches(&names, text)? {
                let at = match selected.iter().position(|s| s.image.id == entry.image) {
                    Some(at) => at,
                    None => {
                        let image = self.image(&entry).with_context(|| format!("read the image {text}"))?;
                        selected.push(Selected { image, names: Vec::new() });
                        selected.len() - 1
                    }
                };
                let known = &mut selected[at].names;
                known.extend(name.filter(|name| !known.contains(name)));
            }
        }
        Ok(selected)
    }

    /// Writes images with everything that it takes to have them elsewhere.
    ///
    /// # Errors
    /// A layer whose files were changed in the store: what was written then is no good.
    pub fn save(&self, saving: Saving, out: &mut dyn Members, progress: &dyn Progress) -> Result<()> {
        // Nothing is removed meanwhile.
        let _making = self.root.lock_for_making()?;
        let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let mut documents = BTreeMap::new();
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        let left_out: BTreeSet<Digest> = saving.without.iter().flat_map(|s| s.image.layers().iter().copied()).collect();
        for selected in saving.images {
            let config = self.blob(&selected.image.id)?;
            let sizes = selected.image.layers().iter().map(|id| Ok((*id, layer::meta(&self.root, id)?.tar)));
            let sizes = sizes.collect::<Result<Vec<_>>>()?;
            let manifest = plain_manifest(&config, &sizes)?;
            descriptors.push(describe(selected, &manifest));
            documents.insert(selected.image.id, config);
            documents.insert(Digest::of(&manifest), manifest);
            for (layer, size) in sizes {
                if !left_out.contains(&layer) && !layers.contains(&(layer, size)) {
                    layers.push((layer, size));
                }
            }
        }
        out.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        out.document("index.json", &serde_json::to_vec(&index(saving, descriptors))?)?;
        if saving.for_docker {
            let images = saving.images.iter().map(docker_image).collect::<Vec<_>>();
            out.document("manifest.json", &serde_json::to_vec(&images)?)?;
            out.document("repositories", &serde_json::to_vec(&repositories(saving.images))?)?;
        }
        out.folder("blobs")?;
        out.folder("blobs/sha256")?;
        for (digest, data) in &documents {
            out.document(&blob(digest), data)?;
        }
        for (layer, size) in layers {
            out.file(&blob(&layer), size, &mut |out| {
                let mut out = Watched::new(out, progress, layer.short(), Some(size), Step::Writing);
                self.write_layer_tar(&layer, &mut out)
            })?;
        }
        out.complete()
    }
}

/// The entries that a word of the user means, with the names that go with them.
fn matches(names: &Names, text: &str) -> Result<Vec<(super::index::Entry, Option<Reference>)>> {
    if let Ok(reference) = Reference::parse(text)
        && reference.digest().is_none()
        && !text.rsplit('/').next().is_some_and(|last| last.contains(':'))
    {
        let is_tag = |r: &Reference| r.same_repository(&reference) && r.digest().is_none();
        let tags = names.entries.iter().filter(|e| e.reference.as_ref().is_some_and(is_tag));
        let mut tags: Vec<_> = tags.map(|e| (e.clone(), e.reference.clone())).collect();
        tags.sort_by(|a, b| a.1.cmp(&b.1));
        if !tags.is_empty() {
            return Ok(tags);
        }
    }
    match resolve(names, text)? {
        Some((entry, By::Name)) => {
            let name = entry.reference.clone().filter(|name| name.digest().is_none());
            Ok(vec![(entry, name)])
        }
        Some((entry, By::Id)) => Ok(vec![(entry, None)]),
        None => bail!("No such image: {}", Reference::familiarize(text)),
    }
}

/// The descriptors of one image, one a name.
fn describe(selected: &Selected, manifest: &[u8]) -> Vec<Descriptor> {
    let mut plain = Descriptor::of(OCI_MANIFEST, manifest);
    let config = &selected.image.config;
    plain.platform = Some(Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.other.get("variant").and_then(Value::as_str).unwrap_or_default().into(),
        other: Map::new(),
    });
    if selected.names.is_empty() {
        return vec![plain];
    }
    let named = selected.names.iter().map(|name| {
        let mut descriptor = plain.clone();
        descriptor.annotations.insert(CONTAINERD_NAME.into(), name.to_string());
        descriptor.annotations.insert(REF_NAME.into(), name.tag().unwrap_or_default().into());
        descriptor
    });
    named.collect()
}

fn index(saving: Saving, descriptors: Vec<Vec<Descriptor>>) -> Index {
    let mut manifests: Vec<Descriptor> = descriptors.into_iter().flatten().collect();
    // Tools choose by the tag. Where that is not enough, they need the whole name.
    let tags: Vec<Option<String>> = manifests.iter().map(|d| d.annotations.get(REF_NAME).cloned()).collect();
    for (at, descriptor) in manifests.iter_mut().enumerate() {
        let is_shared = tags.iter().enumerate().any(|(other, tag)| other != at && tag.is_some() && *tag == tags[at]);
        if let Some(name) = descriptor.annotations.get(CONTAINERD_NAME).filter(|_| is_shared).cloned() {
            descriptor.annotations.insert(REF_NAME.into(), name);
        }
    }
    let mut other = Map::new();
    if !saving.without.is_empty() {
        let names = saving.without.iter().map(|s| match s.names.first() {
            Some(name) => name.familiar(),
            None => s.image.id.to_string(),
        });
        other.insert("annotations".into(), json!({ WITHOUT: names.collect::<Vec<_>>().join(", ") }));
    }
    Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests, other }
}

fn docker_image(selected: &Selected) -> DockerImage {
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let tags: Vec<String> = selected.names.iter().map(Reference::familiar).collect();
    DockerImage {
        config: blob(&selected.image.id),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: selected.image.layers().iter().map(blob).collect(),
    }
}

/// Repository → tag → top layer, as the oldest readers know it.
fn repositories(images: &[Selected]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut out: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for selected in images {
        let Some(top) = selected.image.layers().last() else { continue };
        for name in &selected.names {
            let tag = name.tag().unwrap_or_default().to_owned();
            out.entry(name.familiar_name()).or_default().insert(tag, top.hex());
        }
    }
    out
}
