//! What a pull has received of a blob before it was killed or gave up.
//!
//! ```text
//! <root>/partial/<hex of the blob's digest>    its first bytes as they came; locked by whoever receives it
//! ```
//! Two commands that need the same blob take turns: the second one finds the layer there. Nothing here is trusted:
//! the digest is that of the whole.

use super::super::digest::Digest;
use crate::layout::{Root, mkdir_all};
use crate::sys::file::{Lock, LockMode};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What nobody has continued for so long is thrown away.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The file of one blob, ours alone.
pub struct Partial {
    path: PathBuf,
    file: File,
    _alone: Lock,
}

impl Partial {
    /// Waits until nobody else receives this blob.
    pub fn open(root: &Root, blob: &Digest) -> Result<Partial> {
        let folder = root.join("partial");
        mkdir_all(&folder)?;
        let path = folder.join(blob.hex());
        let context = || format!("open {}", path.display());
        loop {
            let alone = Lock::wait(&path, LockMode::Exclusive).with_context(context)?;
            let file = File::options().read(true).append(true).open(&path);
            match file {
                // Whoever had it before was done with it and has removed it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => {
                    let file = other.with_context(context)?;
                    if alone.is_on(&file).with_context(context)? {
                        return Ok(Partial { path, file, _alone: alone });
                    }
                }
            }
        }
    }

    /// Throws away what is kept of a blob, unless somebody receives it.
    pub fn discard(root: &Root, blob: &Digest) {
        let path = root.join("partial").join(blob.hex());
        if path.exists()
            && let Ok(Some(_alone)) = Lock::attempt(&path, LockMode::Exclusive)
        {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    /// The file, for reading at any place.
    pub fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Adds bytes at the end. A disk without room for them is no reason to fail here: the layer itself will tell.
    pub fn append(&mut self, data: &[u8]) -> bool {
        self.file.write_all(data).is_ok()
    }

    /// Begins anew.
    pub fn clear(&self) {
        let _ = self.file.set_len(0);
    }

    /// Is done with it.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Throws away what nobody has continued for a day.
pub fn sweep(root: &Root) {
    let Ok(entries) = std::fs::read_dir(root.join("partial")) else { return };
    for entry in entries.flatten() {
        let changed = entry.metadata().and_then(|m| m.modified());
        let age = changed.ok().and_then(|t| SystemTime::now().duration_since(t).ok());
        if age.is_some_and(|age| age > KEPT)
            && let Ok(Some(_alone)) = Lock::attempt(&entry.path(), LockMode::Exclusive)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
