//! A container's record: facts that do not change while it runs.

use super::options::{MountSource, NetworkMode, RunOptions, Tuning};
use crate::image::config::{ContainerConfig, ImageConfig};
use crate::image::digest::Digest;
use crate::network::DEFAULT;
use crate::network::endpoint::Attachment;
use crate::network::ports::{Protocol, Publish};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of the record's form that this program writes and reads.
pub const VERSION: u32 = 1;

/// What `container.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Of the record's form.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among the containers of a store.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// The image's id.
    pub image: Digest,
    /// The image as the user named it.
    pub image_name: String,
    /// The image's configuration, kept so that the container does not depend on the image's being there.
    pub base: ImageConfig,
    /// What the user asked for.
    pub options: RunOptions,
    /// The user's mounts and the image's volumes, with every volume named.
    pub mounts: Vec<MountPoint>,
    /// The networks that it is in when it runs, the first for its ports.
    #[serde(default)]
    pub networks: Vec<Attachment>,
}

/// One mount of a container, decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountPoint {
    /// Where the data is; never [`MountSource::Anonymous`].
    pub source: MountSource,
    /// The volume got a generated name: it goes with the last container that uses it when asked to.
    #[serde(default)]
    pub anonymous: bool,
    /// Absolute path in the container.
    pub target: String,
    /// Read-only, with everything below.
    pub read_only: bool,
    /// As in [`super::options::MountRequest::propagation`].
    pub propagation: Option<String>,
    /// The rest.
    #[serde(default)]
    pub tuning: Tuning,
}

impl Record {
    /// The part of the image's configuration that concerns containers.
    pub fn config(&self) -> ContainerConfig {
        self.base.config.clone().unwrap_or_default()
    }

    /// The first 12 digits of the id.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Program and arguments after Docker's rules: `--entrypoint` replaces the image's and drops its command, a
    /// command of the user's replaces the image's.
    pub fn command_line(&self) -> Vec<String> {
        let config = self.config();
        let (entrypoint, cmd) = match &self.options.entrypoint {
            Some(e) if e.is_empty() => (Vec::new(), Vec::new()),
            Some(e) => (vec![e.clone()], Vec::new()),
            None => (config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default()),
        };
        let args = if self.options.command.is_empty() { cmd } else { self.options.command.clone() };
        entrypoint.into_iter().chain(args).collect()
    }

    /// The host name inside.
    pub fn hostname(&self) -> String {
        self.options.hostname.clone().unwrap_or_else(|| self.short_id().to_owned())
    }

    /// The labels of the image and of the user, his last.
    pub fn labels(&self) -> std::collections::BTreeMap<String, String> {
        let mut labels = self.config().labels;
        labels.extend(self.options.labels.clone());
        labels
    }

    /// The networks that it was asked to be in.
    pub fn asked_networks(options: &RunOptions) -> Vec<Attachment> {
        let name = match &options.network {
            NetworkMode::Bridge => DEFAULT,
            NetworkMode::Named(name) => name,
            NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) => return Vec::new(),
        };
        let first = Attachment { network: name.to_owned(), ..options.endpoint.clone() };
        std::iter::once(first).chain(options.more_networks.iter().cloned()).collect()
    }

    /// The ports that it is known to serve: the image's, and those that were exposed or published by hand.
    pub fn exposed_ports(&self) -> BTreeSet<(u16, Protocol)> {
        let of_image = self.config().exposed_ports;
        let of_image = of_image.keys().filter_map(|text| {
            let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            Some((number.parse().ok()?, protocol.parse().ok()?))
        });
        let published = self.options.publish.iter().map(|p| (p.container, p.protocol));
        of_image.chain(self.options.expose.iter().copied()).chain(published).collect()
    }

    /// The ports to publish: those that were asked for, and with `-P` all others that are exposed.
    pub fn ports_to_publish(&self) -> Vec<Publish> {
        let mut list = self.options.publish.clone();
        if self.options.publish_all {
            let others = self.exposed_ports().into_iter();
            let asked = |c, p| self.options.publish.iter().any(|o| o.container == c && o.protocol == p);
            list.extend(others.filter(|(c, p)| !asked(*c, *p)).map(|(container, protocol)| Publish {
                address: None,
                host: None,
                container,
                protocol,
            }));
        }
        list
    }

    /// The volumes that it uses, by name.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, bool)> {
        self.mounts.iter().filter_map(|m| match &m.source {
            MountSource::Volume(name) => Some((name.as_str(), m.anonymous)),
            _ => None,
        })
    }
}
