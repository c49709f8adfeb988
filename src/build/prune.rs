//! What builds keep, how much it is, and how to get rid of it.

use super::cache_mounts::{self, CacheMount};
use crate::image::{CacheEntry, Digest, ImageUse, Store};
use crate::layout::Root;
use anyhow::Result;
use std::time::{Duration, SystemTime};

/// One thing that builds keep.
#[derive(Clone, Debug)]
pub enum Kept {
    /// What came out of a step.
    Step(CacheEntry),
    /// A folder of `RUN --mount=type=cache`.
    Mount(CacheMount),
}

impl Kept {
    /// What it is known by.
    pub fn id(&self) -> String {
        match self {
            Kept::Step(entry) => entry.key.hex(),
            Kept::Mount(mount) => mount.name.clone(),
        }
    }

    /// BuildKit's word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Kept::Step(_) => "regular",
            Kept::Mount(_) => "exec.cachemount",
        }
    }

    /// What it is, for people.
    pub fn description(&self) -> String {
        match self {
            Kept::Step(entry) => entry.step.step.clone(),
            Kept::Mount(mount) => format!("cached mount {}", mount.id),
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Kept::Step(entry) => entry.size,
            Kept::Mount(mount) => mount.size,
        }
    }

    /// When it was last used.
    pub fn last_used(&self) -> SystemTime {
        match self {
            Kept::Step(entry) => entry.last_used,
            Kept::Mount(mount) => mount.last_used,
        }
    }

    /// Whether an image holds the same bytes, so that removing it frees nothing.
    pub fn is_shared(&self) -> bool {
        matches!(self, Kept::Step(entry) if entry.shared)
    }

    /// Whether a build uses it right now.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Kept::Mount(mount) if mount.in_use)
    }
}

/// Numbers for `system df`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Things that are kept.
    pub total: usize,
    /// Of those, how many an image or a build uses.
    pub active: usize,
    /// Bytes of those that no image holds.
    pub size: u64,
    /// Bytes that `builder prune` would free.
    pub reclaimable: u64,
}

/// Everything that builds keep, what was used longest ago first.
pub fn list(root: &Root) -> Result<Vec<Kept>> {
    let mut all: Vec<Kept> = Store::open(root).remembered()?.into_iter().map(Kept::Step).collect();
    all.extend(cache_mounts::list(root)?.into_iter().map(Kept::Mount));
    all.sort_by_key(Kept::last_used);
    Ok(all)
}

/// How much that is.
pub fn usage(kept: &[Kept]) -> Usage {
    let mut usage = Usage::default();
    for kept in kept {
        let is_active = kept.is_shared() || kept.is_in_use();
        usage.total += 1;
        usage.active += usize::from(is_active);
        // What an image holds is counted there.
        usage.size += if kept.is_shared() { 0 } else { kept.size() };
        usage.reclaimable += if is_active { 0 } else { kept.size() };
    }
    usage
}

/// What is to go.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Also what images share.
    pub all: bool,
    /// Only what has not been used for so long.
    pub unused_for: Option<Duration>,
    /// Only these kinds, ids or descriptions; see [`Kept::kind`].
    pub kinds: Vec<String>,
    /// Only what has one of these ids or a beginning of it.
    pub ids: Vec<String>,
    /// So many bytes may stay, those that were used last.
    pub keep: Option<u64>,
}

impl Wish {
    fn covers(&self, kept: &Kept, now: SystemTime) -> bool {
        let age = now.duration_since(kept.last_used()).unwrap_or_default();
        !kept.is_in_use()
            && (self.all || !kept.is_shared())
            && self.unused_for.is_none_or(|limit| age >= limit)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == kept.kind()))
            && (self.ids.is_empty() || self.ids.iter().any(|id| kept.id().starts_with(id.as_str())))
    }
}

/// Removes what is wished and gives what went. `in_use` is asked when nothing can be added any more.
pub fn prune(root: &Root, wish: &Wish, in_use: &dyn Fn() -> Result<Vec<ImageUse>>) -> Result<Vec<Kept>> {
    let store = Store::open(root);
    let all = list(root)?;
    let mut left: u64 = all.iter().map(Kept::size).sum();
    let now = SystemTime::now();
    let (mut gone, mut keys): (Vec<Kept>, Vec<Digest>) = (Vec::new(), Vec::new());
    for kept in all {
        if !wish.covers(&kept, now) || wish.keep.is_some_and(|keep| left <= keep) {
            continue;
        }
        match &kept {
            Kept::Step(entry) => keys.push(entry.key),
            Kept::Mount(mount) if !cache_mounts::remove(root, &mount.name)? => continue,
            Kept::Mount(_) => {}
        }
        left = left.saturating_sub(kept.size());
        gone.push(kept);
    }
    store.forget(&keys)?;
    store.sweep_up(in_use)?;
    Ok(gone)
}
