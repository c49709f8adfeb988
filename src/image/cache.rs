//! What came out of the steps of builds, so that they need not be done again.
//!
//! ```text
//! <root>/build/cache/<key>   one record: the layer that the step with this key has made; its time says when it was used
//! ```
//! A record is one atomic write and holds its layer: whoever removes content asks here what is remembered. After a
//! power cut a record may be torn or name a layer that was not on disk; it then counts as none.

use super::digest::Digest;
use super::index::Names;
use super::layer;
use super::store::Store;
use crate::layout::{Workshop, mkdir_all};
use crate::sys::file::{Durability, read_limited, write_atomic};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// No record is larger.
const LIMIT: u64 = 1 << 20;
/// A record that was used more recently is not marked again.
const MARK_AFTER: Duration = Duration::from_secs(1);

/// What is remembered about a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The layer that it has made.
    pub layer: Digest,
    /// When it was done, RFC 3339.
    pub created: String,
    /// What it was, for people.
    pub step: String,
}

/// A record of the cache, for lists.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// Its key.
    pub key: Digest,
    /// What is remembered.
    pub step: Remembered,
    /// Bytes of the layer; 0 for a layer that another record of the list has already been charged for.
    pub size: u64,
    /// Whether an image has the layer, too.
    pub shared: bool,
    /// When it was last used.
    pub last_used: SystemTime,
}

impl Store {
    /// What is remembered under a key. Its layer is the workshop's from then on.
    pub fn recall(&self, workshop: &Workshop, key: &Digest) -> Result<Option<Remembered>> {
        let path = self.record_path(key);
        let Ok(data) = read_limited(&path, LIMIT) else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Remembered>(&data) else { return Ok(None) };
        let _making = self.root.lock_for_making()?;
        if !layer::exists(&self.root, &record.layer) {
            return Ok(None);
        }
        workshop.lease(&[record.layer.to_string()])?;
        mark_used(&path);
        Ok(Some(record))
    }

    /// Remembers what came out of the step with this key.
    pub fn remember(&self, key: &Digest, step: &Remembered) -> Result<()> {
        let path = self.record_path(key);
        mkdir_all(&self.root.join("build/cache"))?;
        let data = serde_json::to_vec(step)?;
        write_atomic(&path, &data, Durability::Atomic).with_context(|| format!("write {}", path.display()))
    }

    /// Everything that is remembered, what was used longest ago first.
    pub fn remembered(&self) -> Result<Vec<CacheEntry>> {
        let of_images = self.layers_of_images()?;
        let mut entries = Vec::new();
        for (key, path, record) in self.records()? {
            let used = std::fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let size = layer::meta(&self.root, &record.layer).map_or(0, |meta| meta.size);
            let shared = of_images.contains(&record.layer);
            entries.push(CacheEntry { key, step: record, size, shared, last_used: used });
        }
        entries.sort_by(|a, b| a.last_used.cmp(&b.last_used).then_with(|| a.key.cmp(&b.key)));
        let mut charged = BTreeSet::new();
        for entry in entries.iter_mut().filter(|e| !charged.insert(e.step.layer)) {
            entry.size = 0;
        }
        Ok(entries)
    }

    /// Forgets what is remembered under these keys. Layers that nothing else needs go with the next sweep.
    pub fn forget(&self, keys: &[Digest]) -> Result<()> {
        for key in keys {
            match std::fs::remove_file(self.record_path(key)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context("forget a step of a build"),
                _ => {}
            }
        }
        Ok(())
    }

    /// The layers that records hold.
    pub(super) fn remembered_layers(&self) -> Result<BTreeSet<Digest>> {
        Ok(self.records()?.into_iter().map(|(_, _, record)| record.layer).collect())
    }

    fn records(&self) -> Result<Vec<(Digest, PathBuf, Remembered)>> {
        let folder = self.root.join("build/cache");
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("read {}", folder.display()))?,
        };
        let mut records = BTreeMap::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", folder.display()))?;
            let key = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
            let record = read_limited(&entry.path(), LIMIT).ok().and_then(|data| serde_json::from_slice(&data).ok());
            if let (Some(key), Some(record)) = (key, record) {
                records.insert(key, (entry.path(), record));
            }
        }
        Ok(records.into_iter().map(|(key, (path, record))| (key, path, record)).collect())
    }

    fn layers_of_images(&self) -> Result<BTreeSet<Digest>> {
        let names = Names::read(&self.root)?;
        let images = names.entries.iter().filter_map(|entry| self.image(entry).ok());
        Ok(images.flat_map(|image| image.config.rootfs.diff_ids).collect())
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.root.join("build/cache").join(key.hex())
    }
}

/// Which records go first when space is short is decided by this; that it may fail changes nothing else.
fn mark_used(path: &std::path::Path) {
    let now = SystemTime::now();
    let Ok(file) = std::fs::File::options().write(true).open(path) else { return };
    let last = file.metadata().and_then(|m| m.modified()).unwrap_or(now);
    if now.duration_since(last).is_ok_and(|age| age > MARK_AFTER) {
        let _ = file.set_modified(now);
    }
}
