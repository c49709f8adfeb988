//! The image's configuration document: the OCI image specification's fields and Docker's additions.
//!
//! Fields that this version does not know are kept, so that an image derived from another loses nothing.

use super::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An image's configuration; its digest is the image's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The processor, in Go's names: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// The operating system, in Go's names.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// What a container of this image starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// The layers.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// How it came to be, first step first.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// Digests of the layers' uncompressed tars, the lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A remark.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a container of the image starts with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `name|uid[:group|gid]`; empty means root.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Keys like `80/tcp`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value` pairs.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments; `None` and empty are the same to a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or the default arguments of the entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Keys are absolute paths that get an anonymous volume.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the container to stop, as a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds to wait after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to find out whether the container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell forms; `None` means `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for a build that starts from this image.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A health check; times are in nanoseconds, and 0 means inherited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `[]` inherits, `["NONE"]` is off, `["CMD", …]` runs a program, `["CMD-SHELL", text]` a shell.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long one check may take.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long failures do not count after the start.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Failures in a row until the container counts as unhealthy.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The value of Go's sets: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Go writes `null` for an empty list, map or string.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_tolerated_and_unknown_fields_kept() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","container":"abc","history":null,
            "config":{"Hostname":"","Env":null,"Cmd":["sh"],"Volumes":null,"ExposedPorts":{"80/tcp":{}},
            "Entrypoint":null,"OnBuild":null,"Labels":null,"ArgsEscaped":true},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let image: ImageConfig = serde_json::from_str(text).unwrap();
        let config = image.config.clone().unwrap();
        assert_eq!(config.cmd, Some(vec!["sh".to_string()]));
        assert!(config.entrypoint.is_none() && config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(config.other["ArgsEscaped"], true);
        let again: ImageConfig = serde_json::from_str(&serde_json::to_string(&image).unwrap()).unwrap();
        assert_eq!(again, image);
        assert_eq!(again.other["os.version"], "1");
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        let text = r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc"]}}"#;
        assert!(serde_json::from_str::<ImageConfig>(text).is_err());
    }
}
