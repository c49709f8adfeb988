//! Manifests and indexes: the documents between a name and an image's configuration.
//!
//! OCI image specification, `manifest.md`, `image-index.md` and `descriptor.md`; Docker's schema 2 is the same
//! under other media types.

use super::digest::Digest;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The annotation that holds an image's name in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same as containerd and BuildKit write it: always the full name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A reference to some content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// Describes `data`.
    pub fn of(media_type: &str, data: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(data), data.len() as u64)
    }

    /// Describes content known by digest and size in bytes.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
            other: Map::new(),
        }
    }

    /// Whether it is a BuildKit attestation, which stands beside the images in an index.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|t| t == "attestation-manifest")
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Platform {
    /// Whether this machine runs it.
    pub fn is_host(&self) -> bool {
        self.os == "linux" && self.architecture == host_architecture()
    }
}

/// This machine's processor in Go's words.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Either document.
pub enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

impl Document {
    /// Reads a manifest or an index, told apart by their fields.
    ///
    /// # Errors
    /// A document that is both or neither is refused, as is one that contradicts the media type `expected`.
    pub fn parse(data: &[u8], expected: &str) -> Result<Document> {
        let value: Value = serde_json::from_slice(data).context("read the manifest")?;
        let (lists, describes) = (value.get("manifests").is_some(), value.get("layers").is_some());
        let says_index = expected == OCI_INDEX || expected == DOCKER_INDEX;
        let own = value.get("mediaType").and_then(Value::as_str);
        if own.is_some_and(|own| own != expected && !expected.is_empty()) {
            bail!("the manifest says {}, its descriptor {expected}", own.unwrap_or_default());
        }
        if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            bail!("image manifests of schema 1 are not supported");
        }
        match (lists, describes || value.get("config").is_some()) {
            (true, true) => bail!("the document is both an index and a manifest"),
            (true, false) => Ok(Document::Index(serde_json::from_value(value).context("read the index")?)),
            (false, true) if !says_index => {
                let manifest: Manifest = serde_json::from_value(value).context("read the manifest")?;
                let kind = manifest.config.media_type.as_str();
                if kind != OCI_CONFIG && kind != DOCKER_CONFIG {
                    bail!("the manifest is not that of a container image: its config is {kind}");
                }
                Ok(Document::Manifest(Box::new(manifest)))
            }
            _ => bail!("the document is neither an index nor a manifest"),
        }
    }
}

/// The manifest of an image whose layers are known by their uncompressed tars: digest and size in bytes.
pub fn plain_manifest(config: &[u8], layers: &[(Digest, u64)]) -> Result<Vec<u8>> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: Descriptor::of(OCI_CONFIG, config),
        layers: layers.iter().map(|(digest, size)| Descriptor::new(OCI_LAYER, *digest, *size)).collect(),
        other: Map::new(),
    };
    Ok(serde_json::to_vec(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#;
        assert!(Document::parse(both, "").is_err());
        assert!(Document::parse(b"{}", "").is_err());
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(index, OCI_INDEX), Ok(Document::Index(_))));
        let manifest = plain_manifest(b"{}", &[(Digest::of(b""), 0)]).unwrap();
        assert!(matches!(Document::parse(&manifest, OCI_MANIFEST), Ok(Document::Manifest(_))));
        assert!(Document::parse(&manifest, OCI_INDEX).is_err());
    }
}
