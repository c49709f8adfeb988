//! The layers of an image that the store lacks, several at once; each is verified and unpacked while it arrives.

use super::download::{Around, Download, Fate, Opener};
use super::origins::{self, Origin};
use super::partial::Partial;
use crate::image::digest::Digest;
use crate::image::layer::{self, Promise};
use crate::image::manifest::Descriptor;
use crate::image::progress::{Progress, Step};
use crate::image::store::Store;
use crate::registry::Repository;
use anyhow::{Context, Error, Result, anyhow, bail};
use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Smaller blobs are not worth being continued.
const KEEP_FROM: u64 = 1 << 20;

/// A pull that ended although nothing was wrong with what came: what has arrived stays, to be continued.
#[derive(Debug)]
pub struct Interrupted(String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// A layer of an image, and the blob that it comes as.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub diff_id: Digest,
    pub blob: &'a Descriptor,
}

/// What all layers of one pull have in common.
pub struct Fetching<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    /// The registry and repository that memories name.
    pub place: String,
    pub progress: &'a dyn Progress,
}

impl Fetching<'_> {
    /// Gets all layers. With the first error the others end.
    pub fn all(&self, wishes: &[Wish]) -> Result<()> {
        let mut seen = HashSet::new();
        let wishes: Vec<&Wish> = wishes.iter().filter(|w| seen.insert(w.diff_id)).collect();
        let (present, missing): (Vec<_>, Vec<_>) =
            wishes.into_iter().partition(|w| layer::exists(&self.store.root, &w.diff_id));
        for wish in &present {
            self.tell(wish, Step::AlreadyExists);
            self.remember(wish);
        }
        missing.iter().for_each(|wish| self.tell(wish, Step::PullingFsLayer));
        let workers = self.repository.settings().parallel().min(missing.len());
        missing.iter().skip(workers).for_each(|wish| self.tell(wish, Step::Waiting));
        let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(wish) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.one(wish, &stop) {
                            // Only the first one is the reason; the others follow from it.
                            if !stop.swap(true, Ordering::Relaxed)
                                && let Ok(mut failure) = failure.lock()
                            {
                                *failure = Some(error);
                            }
                            return;
                        }
                    }
                });
            }
        });
        match failure.into_inner() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => {
                if !error.is::<Interrupted>() {
                    missing.iter().for_each(|wish| Partial::discard(&self.store.root, &wish.blob.digest));
                }
                Err(error)
            }
            Err(_) => bail!("a thread has ended unexpectedly"),
        }
    }

    fn tell(&self, wish: &Wish, step: Step) {
        self.progress.step(&wish.blob.digest.short(), step);
    }

    fn remember(&self, wish: &Wish) {
        let Descriptor { digest, size, media_type, .. } = wish.blob.clone();
        let seen = Origin { digest, size, media_type, places: vec![self.place.clone()] };
        origins::remember(&self.store.root, &wish.diff_id, seen);
    }

    fn one(&self, wish: &Wish, stop: &AtomicBool) -> Result<()> {
        let root = &self.store.root;
        let mut partial = match wish.blob.size >= KEEP_FROM {
            true => Some(Partial::open(root, &wish.blob.digest)?),
            false => None,
        };
        // Another command may have got it while we waited for our turn.
        if layer::exists(root, &wish.diff_id) {
            if let Some(partial) = partial {
                partial.remove();
            }
            self.remember(wish);
            self.tell(wish, Step::AlreadyExists);
            return Ok(());
        }
        let is_continued = partial.as_ref().is_some_and(|p| p.length() > 0);
        let mut result = self.stream(wish, partial.as_mut(), stop);
        // What was kept may be what was wrong.
        if is_continued && result.as_ref().is_err_and(|e| !e.is::<Interrupted>()) {
            result = self.stream(wish, partial.as_mut(), stop);
        }
        let aside = match result {
            Err(error) => {
                if let Some(partial) = partial.filter(|_| !error.is::<Interrupted>()) {
                    partial.remove();
                }
                return Err(error);
            }
            Ok(aside) => aside,
        };
        self.tell(wish, Step::DownloadComplete);
        if let Some(partial) = &partial {
            // Not needed any more, and nothing that the disk should be kept busy with.
            partial.clear();
        }
        aside.sync()?;
        let making = root.lock_for_making()?;
        aside.publish(root)?;
        drop(making);
        // Whoever waits for his turn finds the layer.
        if let Some(partial) = partial {
            partial.remove();
        }
        self.remember(wish);
        self.tell(wish, Step::PullComplete);
        Ok(())
    }

    fn stream(&self, wish: &Wish, mut partial: Option<&mut Partial>, stop: &AtomicBool) -> Result<layer::Aside> {
        let (blob, fate) = (wish.blob, Fate::default());
        let item = blob.digest.short();
        let patience = self.repository.settings().patience();
        let around = Around { progress: self.progress, item: &item, patience, stop, fate: &fate };
        let context = || format!("get the layer {}", blob.digest);
        let download = Download::new(self.opener(blob), blob.size, partial.as_deref_mut(), around);
        let promise = Promise { diff_id: wish.diff_id, stored: Some((blob.digest, Some(blob.size))) };
        let scratch = self.store.root.staging()?;
        let unpacked = layer::unpack_aside(scratch, download.with_context(context)?, promise);
        unpacked.map_err(|error| {
            if fate.gave_up.load(Ordering::Relaxed) {
                return Error::new(Interrupted(format!("{}: {error:#}", context())));
            }
            if let Some(partial) = partial {
                partial.clear();
            }
            error.context(context())
        })
    }

    /// Where the blob comes from: its registry, or an address elsewhere that the manifest gives.
    fn opener<'b>(&'b self, blob: &'b Descriptor) -> Opener<'b> {
        let digest = blob.digest.to_string();
        let urls = blob.other.get("urls").and_then(|v| v.as_array()).cloned().unwrap_or_default();
        let urls: Vec<String> = urls.into_iter().filter_map(|v| v.as_str().map(str::to_owned)).take(8).collect();
        let is_foreign = blob.media_type.contains("foreign") || blob.media_type.contains("nondistributable");
        Box::new(move |from| {
            let mut reason = anyhow!("the layer is kept elsewhere, but its manifest does not say where");
            for url in urls.iter().filter(|_| is_foreign) {
                match self.repository.foreign(url, from) {
                    Err(error) => reason = error,
                    found => return found,
                }
            }
            match self.repository.blob(&digest, from) {
                Err(_) if is_foreign => Err(reason),
                found => found,
            }
        })
    }
}
