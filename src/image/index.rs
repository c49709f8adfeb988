//! `<root>/index.json`: which names there are and what they mean.
//!
//! An OCI index with one entry a name. An image without a name has one entry without one, so that every image in
//! the store has an entry and whatever no entry leads to is garbage.
//!
//! ```text
//! { "schemaVersion": 2, "manifests": [
//!     { "mediaType": …, "digest": "sha256:<manifest>", "size": …, "annotations": {
//!         "org.opencontainers.image.ref.name": "docker.io/library/busybox:latest",
//!         "org.minirun.image":  "sha256:<config>",      the image's id, to find it by a prefix without reading more
//!         "org.minirun.parent": "sha256:<config>" } } ] }   the image that this one was made from here
//! ```

use super::digest::Digest;
use super::manifest::{Descriptor, OCI_INDEX, REF_NAME};
use super::reference::Reference;
use crate::layout::Root;
use crate::sys::file::{Durability, Lock, LockMode, read_limited, write_atomic};
use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

const IMAGE: &str = "org.minirun.image";
const PARENT: &str = "org.minirun.parent";
const LIMIT: u64 = 64 << 20;
/// A file that is removed when there is no room to remove anything else.
const RESERVE: &str = "reserve";
/// Its size in bytes.
const RESERVED: u64 = 256 << 10;

/// One name, or one image without a name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub reference: Option<Reference>,
    /// The manifest; only media type, digest and size count.
    pub manifest: Descriptor,
    pub image: Digest,
    pub parent: Option<Digest>,
}

/// The whole file.
#[derive(Clone, Default)]
pub struct Names {
    pub entries: Vec<Entry>,
    /// Entries that make no sense to this version: kept as they are and reported.
    pub damaged: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<Value>,
}

impl Names {
    /// Reads the file; a missing one is empty.
    pub fn read(root: &Root) -> Result<Names> {
        let path = root.join("index.json");
        let data = match read_limited(&path, LIMIT) {
            Ok(data) => data,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Names::default()),
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        };
        let file: File = serde_json::from_slice(&data).with_context(|| format!("read {}", path.display()))?;
        let mut names = Names::default();
        for value in file.manifests {
            match entry(&value) {
                Ok(entry) => names.entries.push(entry),
                Err(_) => names.damaged.push(value),
            }
        }
        Ok(names)
    }

    /// Changes the file alone: no other command can write between the read and the write.
    pub fn update<T>(root: &Root, change: impl FnOnce(&mut Names) -> Result<T>) -> Result<T> {
        let _alone = Lock::wait(&root.join("index.lock"), LockMode::Exclusive).context("lock the image names")?;
        let mut names = Names::read(root)?;
        let result = change(&mut names)?;
        let file = File {
            schema_version: 2,
            media_type: OCI_INDEX.into(),
            manifests: names.entries.iter().map(value).chain(names.damaged).collect(),
        };
        let json = serde_json::to_vec(&file)?;
        let path = root.join("index.json");
        let write = || write_atomic(&path, &json, Durability::Synced);
        let frees_room = std::fs::metadata(&path).is_ok_and(|before| before.len() > json.len() as u64);
        match write() {
            Err(e) if e.kind() == io::ErrorKind::StorageFull && frees_room => {
                let _ = std::fs::remove_file(root.join(RESERVE));
                write()
            }
            other => other,
        }
        .with_context(|| format!("write {}", path.display()))?;
        keep_reserve(root);
        Ok(result)
    }

    /// All entries of one image.
    pub fn of_image(&self, image: Digest) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.image == image)
    }

    /// Makes `entry` the meaning of its name. What had the name before stays, without a name if need be.
    ///
    /// Returns the image that lost the name.
    pub fn put(&mut self, mut entry: Entry) -> Option<Digest> {
        if entry.parent.is_none() {
            entry.parent = self.of_image(entry.image).find_map(|e| e.parent);
        }
        let Some(reference) = &entry.reference else {
            if self.of_image(entry.image).next().is_none() {
                self.entries.push(entry);
            }
            return None;
        };
        let before = self.entries.iter().position(|e| e.reference.as_ref() == Some(reference));
        let loser = before.map(|at| self.entries.remove(at)).filter(|old| old.image != entry.image);
        self.entries.retain(|e| e.image != entry.image || e.reference.is_some());
        self.entries.push(entry);
        let loser = loser?;
        let image = loser.image;
        if self.of_image(image).next().is_none() {
            self.entries.push(Entry { reference: None, ..loser });
        }
        Some(image)
    }
}

/// Sees to it that an image can be removed when the disk is full: that takes a new file of names before anything is free.
fn keep_reserve(root: &Root) {
    let path = root.join(RESERVE);
    if path.exists() {
        return;
    }
    let make = || -> io::Result<()> {
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVED)?)
    };
    // One that is not whole would be of no use, and nobody would make it anew.
    if make().is_err() {
        let _ = std::fs::remove_file(&path);
    }
}

fn entry(value: &Value) -> Result<Entry> {
    let mut manifest: Descriptor = serde_json::from_value(value.clone())?;
    let annotations = std::mem::take(&mut manifest.annotations);
    let digest = |key: &str| annotations.get(key).map(|text| text.parse()).transpose();
    Ok(Entry {
        reference: annotations.get(REF_NAME).map(|text| Reference::parse(text)).transpose()?,
        image: digest(IMAGE)?.ok_or_else(|| anyhow!("the image's id is missing"))?,
        parent: digest(PARENT)?,
        manifest,
    })
}

fn value(entry: &Entry) -> Value {
    let mut manifest = entry.manifest.clone();
    if let Some(reference) = &entry.reference {
        manifest.annotations.insert(REF_NAME.into(), reference.to_string());
    }
    manifest.annotations.insert(IMAGE.into(), entry.image.to_string());
    if let Some(parent) = &entry.parent {
        manifest.annotations.insert(PARENT.into(), parent.to_string());
    }
    // A descriptor has only string keys and no floats, so this cannot fail.
    serde_json::to_value(manifest).unwrap_or_default()
}
