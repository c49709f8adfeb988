//! Volumes as `system df` and `system prune` see them.

use super::{App, units};
use crate::container::containers::Container;
use crate::sys::dir::{Dir, file_type};
use crate::volume::Volumes;
use anyhow::{Context, Result};
use rustix::fs::FileType;
use serde_json::{Value, json};

/// A volume, and who needs it.
pub struct VolumeUse {
    /// Its name.
    pub name: String,
    /// How many containers mount it.
    pub links: usize,
    /// Bytes of the regular files in it.
    pub size: u64,
    place: String,
}

impl VolumeUse {
    /// The fields of a row.
    pub fn row(&self) -> Value {
        json!({
            "Name": self.name,
            "Links": self.links.to_string(),
            "Size": units::exact_size(self.size),
            "Driver": "local",
            "Scope": "local",
            "Labels": "",
            "Mountpoint": self.place,
        })
    }
}

/// All volumes, by their names.
pub fn volume_uses<'a>(app: &App, containers: impl Iterator<Item = &'a Container> + Clone) -> Result<Vec<VolumeUse>> {
    let volumes = Volumes::open(&app.root);
    let names = Dir::open(app.root.join("volumes")).and_then(|dir| dir.names()).context("list the volumes")?;
    let mut out = Vec::new();
    for name in names.into_iter().filter_map(|name| name.into_string().ok()) {
        let data = volumes.data(&name);
        let Ok(dir) = Dir::open(&data) else { continue };
        let links = containers.clone().filter(|c| c.record.volumes().any(|(used, _)| used == name)).count();
        let size = tree_size(&dir).with_context(|| format!("measure the volume {name}"))?;
        out.push(VolumeUse { name, links, size, place: data.display().to_string() });
    }
    Ok(out)
}

fn tree_size(dir: &Dir) -> std::io::Result<u64> {
    let mut sum = 0;
    for name in dir.names()? {
        let Some(stat) = dir.stat_opt(&name)? else { continue };
        match file_type(&stat) {
            FileType::Directory => sum += dir.child(&name).and_then(|child| tree_size(&child)).unwrap_or(0),
            FileType::RegularFile => sum += stat.st_size as u64 / u64::from(stat.st_nlink.max(1) as u32),
            _ => {}
        }
    }
    Ok(sum)
}
