//! Volumes as `system df` sees them.

use super::{App, units};
use crate::container::containers::Container;
use crate::volume::{Volume, Volumes};
use anyhow::Result;
use serde_json::{Value, json};

/// A volume, and who needs it.
pub struct VolumeUse {
    volume: Volume,
    /// How many containers mount it.
    pub links: usize,
    /// Bytes of the regular files in it.
    pub size: u64,
}

impl VolumeUse {
    /// The fields of a row.
    pub fn row(&self) -> Value {
        let labels: Vec<String> = self.volume.meta.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({
            "Name": self.volume.name,
            "Links": self.links.to_string(),
            "Size": units::exact_size(self.size),
            "Driver": "local",
            "Scope": "local",
            "Labels": labels.join(","),
            "Mountpoint": self.volume.data.display().to_string(),
        })
    }
}

/// All volumes, by their names.
pub fn volume_uses<'a>(app: &App, containers: impl Iterator<Item = &'a Container> + Clone) -> Result<Vec<VolumeUse>> {
    let uses = Volumes::open(&app.root).list()?.into_iter().map(|volume| {
        let links = containers.clone().filter(|c| c.record.volumes().any(|(used, _)| used == volume.name)).count();
        // One that cannot be measured, or has just gone, still counts.
        let size = volume.size().unwrap_or(0);
        VolumeUse { volume, links, size }
    });
    Ok(uses.collect())
}
