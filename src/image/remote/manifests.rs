//! Manifests at a registry, looked at without getting what they describe.

use super::pull::receive;
use crate::image::config::ImageConfig;
use crate::image::manifest::{DOCKER_INDEX, Descriptor, Index, Manifest, OCI_INDEX, Platform};
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::registry::{Refused, Registries, Repository};
use anyhow::{Context, Error, Result, anyhow};
use serde_json::{Map, Value};

/// A manifest or an index as a registry has it.
#[derive(Clone, Debug)]
pub struct RemoteManifest {
    /// What it is known by; with the platform, if that was asked for and is known.
    pub descriptor: Descriptor,
    /// Its bytes: JSON.
    pub data: String,
    /// The manifests of an index, if they were asked for.
    pub children: Vec<RemoteManifest>,
}

impl RemoteManifest {
    /// Whether it is an index.
    pub fn is_index(&self) -> bool {
        matches!(self.descriptor.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
    }
}

impl Store {
    /// The manifest or the index that a name leads to; with the platforms and the manifests of an index, if the look
    /// is `deep`.
    ///
    /// # Errors
    /// `no such manifest: …`
    pub fn remote_manifest(
        &self,
        registries: &Registries,
        reference: &Reference,
        deep: bool,
    ) -> Result<RemoteManifest> {
        let mut result = Err(anyhow!("there is no registry to ask"));
        for source in registries.sources(reference.domain(), reference.path()) {
            result = source.and_then(|repository| self.look(&repository, reference, deep));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn look(&self, repository: &Repository, reference: &Reference, deep: bool) -> Result<RemoteManifest> {
        let digest = reference.digest().map(|d| d.to_string());
        let name = digest.as_deref().or(reference.tag()).unwrap_or_default();
        let mut found = get(repository, name, None).map_err(|error| in_users_words(error, &reference.to_string()))?;
        if deep && found.is_index() {
            let index: Index = serde_json::from_str(&found.data).context("read the index")?;
            let child = |child: &Descriptor| {
                let got = get(repository, &child.digest.to_string(), Some(child));
                got.map_err(|error| in_users_words(error, &format!("{reference}@{}", child.digest)))
            };
            found.children = index.manifests.iter().map(child).collect::<Result<_>>()?;
        } else if deep {
            let manifest: Manifest = serde_json::from_str(&found.data).context("read the manifest")?;
            let config = self.config_of(repository, &manifest.config)?;
            let config: ImageConfig = serde_json::from_slice(&config).context("read the image's configuration")?;
            let variant = config.other.get("variant").and_then(Value::as_str).unwrap_or_default().to_owned();
            let platform = Platform { architecture: config.architecture, os: config.os, variant, other: Map::new() };
            found.descriptor.platform = Some(platform);
        }
        Ok(found)
    }
}

/// Gets a document by its tag or digest. What an index says of it counts.
fn get(repository: &Repository, name: &str, listed: Option<&Descriptor>) -> Result<RemoteManifest> {
    let (digest, received) = receive(repository, name, listed.map(|d| d.size))?;
    let document: Value = serde_json::from_slice(&received.data).context("read the manifest")?;
    let own = document.get("mediaType").and_then(Value::as_str).unwrap_or(&received.media_type);
    let mut descriptor = Descriptor::new(own, digest, received.data.len() as u64);
    if let Some(listed) = listed {
        descriptor = listed.clone();
    }
    let data = String::from_utf8(received.data).context("read the manifest")?;
    Ok(RemoteManifest { descriptor, data, children: Vec::new() })
}

fn in_users_words(error: Error, name: &str) -> Error {
    match error.downcast_ref::<Refused>() {
        Some(refused) if refused.is_unknown() => anyhow!("no such manifest: {name}"),
        _ => error,
    }
}
