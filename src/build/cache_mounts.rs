//! Folders that outlive the builds that use them: `RUN --mount=type=cache`.
//!
//! ```text
//! <root>/build/mounts/<digest of the id>[-N]/data       what is mounted
//!                                           /data.new   what is being filled, by whoever holds the lock alone
//!                                           /lock       shared by those who use it together, held alone otherwise
//!                                           /id         the id, for lists
//! ```
//! A `private` cache that is in use gets a sibling: the number `N`.

use super::dockerfile::Sharing;
use crate::image::Digest;
use crate::layout::{Root, mkdir_all};
use crate::sys::dir::Dir;
use crate::sys::file::{Durability, Lock, LockMode, write_atomic};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// The caches that a build has begun with nothing in them, by their folders' names: each once, when its steps use nothing
/// that was there before.
#[derive(Debug, Default)]
pub struct Emptied(Mutex<BTreeSet<String>>);

/// How often a cache that somebody else has is asked for.
const PAUSE: Duration = Duration::from_millis(20);

/// A cache in use; it is free again when this goes.
pub struct Held {
    /// What is mounted.
    pub data: PathBuf,
    lock: Lock,
}

impl Held {
    /// Whoever has a descriptor of it has the cache.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }
}

/// A cache, for lists.
#[derive(Clone, Debug)]
pub struct CacheMount {
    /// The name of its folder.
    pub name: String,
    /// What Dockerfiles call it.
    pub id: String,
    /// Bytes of its regular files.
    pub size: u64,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// When it was last used.
    pub last_used: SystemTime,
}

fn folder(root: &Root) -> PathBuf {
    root.join("build/mounts")
}

/// Takes the cache with this id. One that is missing is made: `fill` gets an empty folder, which others see when it has
/// succeeded. With `emptied`, what is in the cache goes unless the build has seen to that already. While somebody else has
/// the cache, `go_on` is asked again and again.
pub fn hold(
    root: &Root,
    id: &str,
    sharing: Sharing,
    emptied: Option<&Emptied>,
    fill: &dyn Fn(&Path) -> Result<()>,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Held> {
    let name = Digest::of(id.as_bytes()).hex();
    let wanted = if sharing == Sharing::Shared { LockMode::Shared } else { LockMode::Exclusive };
    let mut number = 0;
    loop {
        let name = match number {
            0 => name.clone(),
            n => format!("{name}-{n}"),
        };
        let path = folder(root).join(&name);
        mkdir_all(&path)?;
        let (lock, data) = (path.join("lock"), path.join("data"));
        // Two stages must not both empty it.
        let mut emptied = emptied.map(|emptied| emptied.0.lock().unwrap_or_else(|e| e.into_inner()));
        let is_old = emptied.as_ref().is_some_and(|emptied| !emptied.contains(&name));
        // Whoever empties or fills it is alone.
        let mode = if data.exists() && !is_old { wanted } else { LockMode::Exclusive };
        let held = match Lock::attempt(&lock, mode) {
            // Removed by somebody between our making it and our lock.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(|| format!("lock the cache {id}")),
            Ok(Some(held)) if held.is_of(&lock) => held,
            Ok(Some(_)) => continue,
            Ok(None) if sharing == Sharing::Private => {
                number += 1;
                continue;
            }
            Ok(None) => {
                drop(emptied);
                go_on()?;
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        if let Some(emptied) = emptied.as_mut().filter(|_| is_old) {
            root.discard(&data)?;
            emptied.insert(name);
        }
        drop(emptied);
        if mode == LockMode::Exclusive && !data.exists() {
            make(root, &path, id, fill)?;
        }
        if mode == wanted && data.exists() {
            mark_as_used(&path);
            return Ok(Held { data, lock: held });
        }
    }
}

/// Makes a cache that this process has locked alone.
fn make(root: &Root, path: &Path, id: &str, fill: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let (new, data) = (path.join("data.new"), path.join("data"));
    write_atomic(&path.join("id"), id.as_bytes(), Durability::Atomic).context("name the cache")?;
    // Of somebody who was killed.
    root.discard(&new)?;
    let made = std::fs::create_dir(&new)
        .with_context(|| format!("make {}", new.display()))
        .and_then(|()| fill(&new))
        .and_then(|()| std::fs::rename(&new, &data).context("give the cache its name"));
    if made.is_err() {
        let _ = root.discard(path);
    }
    made
}

/// The time of its id says when it was used.
fn mark_as_used(path: &Path) {
    if let Ok(file) = std::fs::File::open(path.join("id")) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// All caches.
pub fn list(root: &Root) -> Result<Vec<CacheMount>> {
    let entries = match std::fs::read_dir(folder(root)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list the caches of builds")?,
    };
    let mut caches = Vec::new();
    for entry in entries {
        let entry = entry.context("list the caches of builds")?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let id = std::fs::read_to_string(entry.path().join("id")).unwrap_or_default();
        let used = std::fs::metadata(entry.path().join("id")).and_then(|m| m.modified());
        let in_use = !matches!(Lock::attempt(&entry.path().join("lock"), LockMode::Exclusive), Ok(Some(_)));
        // What cannot be read counts as nothing.
        let size = Dir::open(entry.path().join("data")).and_then(|dir| dir.tree_size()).unwrap_or(0);
        caches.push(CacheMount { name, id, size, in_use, last_used: used.unwrap_or(SystemTime::UNIX_EPOCH) });
    }
    Ok(caches)
}

/// Removes a cache unless a build uses it. True if it is gone.
pub fn remove(root: &Root, name: &str) -> Result<bool> {
    let path = folder(root).join(name);
    match Lock::attempt(&path.join("lock"), LockMode::Exclusive) {
        Ok(Some(_alone)) => root.discard(&path).map(|()| true),
        Ok(None) => Ok(false),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e).with_context(|| format!("lock the cache {name}")),
    }
}
