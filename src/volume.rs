//! Volumes: data that lives outside of every union file system and outlives containers.
//!
//! ```text
//! <root>/volumes/<name>/data        what containers see
//!                       meta.json   when and how it was made
//! ```

use crate::image::union::Union;
use crate::layout::{Root, Scratch};
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The volumes of a store.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: Root,
}

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    created: String,
}

impl Volumes {
    /// The volumes of `root`.
    pub fn open(root: &Root) -> Volumes {
        Volumes { root: root.clone() }
    }

    /// Where the data of a volume is.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name).join("data")
    }

    /// Whether there is a volume of this name.
    pub fn exists(&self, name: &str) -> bool {
        self.data(name).exists()
    }

    /// Makes a volume, unless it is there, and returns where its data is.
    pub fn ensure(&self, name: &str) -> Result<PathBuf> {
        let data = self.data(name);
        if data.exists() {
            return Ok(data);
        }
        let what = || format!("make the volume {name}");
        let scratch = self.root.scratch().with_context(what)?;
        let fresh = scratch.path().join("data");
        std::fs::create_dir(&fresh).with_context(what)?;
        set_mode(&fresh).with_context(what)?;
        let meta = serde_json::to_vec(&Meta { created: jiff::Timestamp::now().to_string() }).with_context(what)?;
        std::fs::write(scratch.path().join("meta.json"), meta).with_context(what)?;
        match publish(&scratch, &self.root.join("volumes").join(name)) {
            // Somebody else was faster: his volume is as good.
            Err(_) if data.exists() => Ok(data),
            Err(e) => Err(e).with_context(what),
            Ok(()) => Ok(data),
        }
    }

    /// Fills an empty volume with what the image has at `target`: content, owner, mode.
    pub fn fill(&self, name: &str, image: &Union, target: &Path) -> Result<()> {
        let what = || format!("fill the volume {name} from the image");
        let data = Dir::open(self.data(name)).with_context(what)?;
        if !data.names().with_context(what)?.is_empty() {
            return Ok(());
        }
        match image.stat(target).with_context(what)? {
            Some(stat) if file_type(&stat) == FileType::Directory => image.copy_tree(target, &data).with_context(what),
            _ => Ok(()),
        }
    }

    /// Removes a volume; the data is deleted when the trash is emptied. A missing one is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.root.discard(&self.root.join("volumes").join(name)).with_context(|| format!("remove the volume {name}"))
    }
}

fn publish(scratch: &Scratch, to: &Path) -> std::io::Result<()> {
    match std::fs::rename(scratch.path(), to) {
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Err(ErrorKind::AlreadyExists.into()),
        other => other,
    }
}

fn set_mode(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))
}
