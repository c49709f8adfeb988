//! A container's root file system as an archive.

use super::containers::Container;
use crate::image::Store;
use crate::image::union::Union;
use crate::sys::dir::Dir;
use anyhow::{Context, Result};
use std::io::Write;

/// Writes the tar of what a container's processes see below `/`: its layers and its changes, without what is mounted.
pub fn export(container: &Container, out: &mut dyn Write) -> Result<()> {
    let open = |path: std::path::PathBuf| Dir::open(&path).with_context(|| format!("open {}", path.display()));
    let mut layers = vec![open(container.upper())?];
    layers.extend(Store::open(&container.root).open_layers(container.layers())?);
    layers.push(open(container.root.join("stubs"))?);
    let exported = Union::new(layers).write_tar(out);
    exported.with_context(|| format!("export the container {}", container.record.name))
}
