//! The layers of an image that the store lacks, several at once; each is verified and unpacked while it arrives. Only
//! those that link to files of others wait for them, and are unpacked in their order.

use super::download::{Around, Download, Fate, Opener};
use super::origins::{self, Origin};
use super::partial::Partial;
use crate::image::borrow::{self, NeedsBelow};
use crate::image::digest::Digest;
use crate::image::layer::{self, Promise};
use crate::image::manifest::Descriptor;
use crate::image::progress::{Progress, Step};
use crate::image::store::Store;
use crate::image::union::Union;
use crate::registry::Repository;
use crate::sys::depth::STACK;
use anyhow::{Context, Error, Result, anyhow, bail};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

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
    /// Gets all layers of an image, the lowest first. With the first error the others end.
    pub fn all(&self, wishes: &[Wish]) -> Result<()> {
        let mut seen = HashSet::new();
        let distinct: Vec<(usize, &Wish)> = wishes.iter().enumerate().filter(|(_, w)| seen.insert(w.diff_id)).collect();
        let (present, missing): (Vec<_>, Vec<_>) =
            distinct.into_iter().partition(|(_, w)| layer::exists(&self.store.root, &w.diff_id));
        for (_, wish) in &present {
            self.tell(wish, Step::AlreadyExists);
            self.recognise(wish);
            // Of a pull that was killed when it had just been done with it.
            Partial::discard(&self.store.root, &wish.blob.digest);
        }
        missing.iter().for_each(|(_, wish)| self.tell(wish, Step::PullingFsLayer));
        let fetched = self.at_once(&missing).and_then(|mut later| {
            later.sort_unstable();
            let layers: Vec<Digest> = wishes.iter().map(|wish| wish.diff_id).collect();
            later.into_iter().try_for_each(|at| self.over(&wishes[at], &layers[..at]))
        });
        fetched.inspect_err(|error| {
            if !error.is::<Interrupted>() {
                missing.iter().for_each(|(_, wish)| Partial::discard(&self.store.root, &wish.blob.digest));
            }
        })
    }

    /// Gets those of the layers that stand alone, and says where the others are.
    fn at_once(&self, missing: &[(usize, &Wish)]) -> Result<Vec<usize>> {
        let workers = self.repository.settings().parallel().min(missing.len());
        missing.iter().skip(workers).for_each(|(_, wish)| self.tell(wish, Step::Waiting));
        let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let later = Mutex::new(Vec::new());
        let work = || {
            while let Some((at, wish)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.alone(wish, &stop) {
                    Err(error) if error.is::<NeedsBelow>() => {
                        later.lock().unwrap_or_else(PoisonError::into_inner).push(*at);
                    }
                    Err(error) => {
                        // Only the first one is the reason; the others follow from it.
                        if !stop.swap(true, Ordering::Relaxed) {
                            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        }
                        return;
                    }
                    Ok(()) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            let start = |_| Builder::new().stack_size(STACK).spawn_scoped(scope, work).context("start a thread");
            let threads = (0..workers).map(start).collect::<Result<Vec<_>>>().inspect_err(|_| {
                stop.store(true, Ordering::Relaxed);
            })?;
            let ended = threads.into_iter().map(|thread| thread.join().is_ok()).collect::<Vec<_>>();
            if ended.contains(&false) { bail!("a thread has ended unexpectedly") } else { Ok(()) }
        })?;
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(later.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn tell(&self, wish: &Wish, step: Step) {
        self.progress.step(&wish.blob.digest.short(), step);
    }

    /// A layer that was here before came from somewhere else: that it is this blob, too, is only what the manifest
    /// says, unless it has been seen. Who pushes an image on it must not send others to what nobody has looked at.
    fn recognise(&self, wish: &Wish) {
        let blob = wish.blob.digest;
        if blob == wish.diff_id || origins::read(&self.store.root, &wish.diff_id).iter().any(|o| o.digest == blob) {
            self.remember(wish);
        }
    }

    fn remember(&self, wish: &Wish) {
        let Descriptor { digest, size, media_type, .. } = wish.blob.clone();
        let seen = Origin { digest, size, media_type, places: vec![self.place.clone()] };
        origins::remember(&self.store.root, &wish.diff_id, seen);
    }

    /// Gets a layer that needs no other one.
    fn alone(&self, wish: &Wish, stop: &AtomicBool) -> Result<()> {
        let root = &self.store.root;
        let mut partial = match wish.blob.size >= KEEP_FROM {
            true => Some(Partial::open(root, &wish.blob.digest)?),
            false => None,
        };
        // Another command may have got it while we waited for our turn.
        if layer::exists(root, &wish.diff_id) {
            self.found(wish, partial);
            return Ok(());
        }
        let aside = match self.unpack(wish, partial.as_mut(), stop, None) {
            Err(error) => {
                let is_useful = error.is::<Interrupted>() || error.is::<NeedsBelow>();
                if let Some(partial) = partial.filter(|_| !is_useful) {
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
        self.arrived(wish, partial);
        Ok(())
    }

    /// Gets a layer that links to files of those `below` it. They may be removed at any time, so it comes as a whole
    /// before it is unpacked under the store's lock. Nothing is done if one is gone: who asked will ask again.
    fn over(&self, wish: &Wish, below: &[Digest]) -> Result<()> {
        let root = &self.store.root;
        let stop = AtomicBool::new(false);
        let mut partial = Partial::open(root, &wish.blob.digest)?;
        if layer::exists(root, &wish.diff_id) {
            self.found(wish, Some(partial));
            return Ok(());
        }
        self.receive(wish, &mut partial, &stop)?;
        self.tell(wish, Step::DownloadComplete);
        let making = root.lock_for_making()?;
        if !below.iter().all(|layer| layer::exists(root, layer)) {
            return Ok(());
        }
        let union = Union::new(self.store.open_layers(below)?);
        let aside = self.unpack(wish, Some(&mut partial), &stop, Some(&union))?;
        borrow::note(aside.path(), below)?;
        partial.clear();
        aside.sync()?;
        aside.publish(root)?;
        drop(making);
        self.arrived(wish, Some(partial));
        Ok(())
    }

    fn found(&self, wish: &Wish, partial: Option<Partial>) {
        if let Some(partial) = partial {
            partial.remove();
        }
        self.recognise(wish);
        self.tell(wish, Step::AlreadyExists);
    }

    fn arrived(&self, wish: &Wish, partial: Option<Partial>) {
        // Whoever waits for his turn finds the layer.
        if let Some(partial) = partial {
            partial.remove();
        }
        self.remember(wish);
        self.tell(wish, Step::PullComplete);
    }

    fn unpack(
        &self,
        wish: &Wish,
        mut partial: Option<&mut Partial>,
        stop: &AtomicBool,
        below: Option<&Union>,
    ) -> Result<layer::Aside> {
        let is_continued = partial.as_ref().is_some_and(|p| p.length() > 0);
        let result = self.stream(wish, partial.as_deref_mut(), stop, below);
        // What was kept may be what was wrong.
        let is_doubtful = |e: &Error| !e.is::<Interrupted>() && !e.is::<NeedsBelow>();
        if is_continued && result.as_ref().is_err_and(is_doubtful) {
            return self.stream(wish, partial, stop, below);
        }
        result
    }

    fn stream(
        &self,
        wish: &Wish,
        mut partial: Option<&mut Partial>,
        stop: &AtomicBool,
        below: Option<&Union>,
    ) -> Result<layer::Aside> {
        let fate = Fate::default();
        let promise = Promise { diff_id: wish.diff_id, stored: Some((wish.blob.digest, Some(wish.blob.size))) };
        let scratch = self.store.root.staging()?;
        let unpacked = self.download(wish, partial.as_deref_mut(), stop, &fate, |download| match below {
            None => layer::unpack_aside(scratch, download, promise),
            Some(below) => layer::unpack_over(scratch, download, promise, below),
        });
        unpacked.inspect_err(|error| {
            if let Some(partial) = partial.filter(|_| !error.is::<Interrupted>() && !error.is::<NeedsBelow>()) {
                partial.clear();
            }
        })
    }

    /// Keeps the whole blob without looking into it.
    fn receive(&self, wish: &Wish, partial: &mut Partial, stop: &AtomicBool) -> Result<()> {
        let through = |mut download: Download| Ok(io::copy(&mut download, &mut io::sink()).map(drop)?);
        self.download(wish, Some(partial), stop, &Fate::default(), through)
    }

    fn download<'d, T>(
        &'d self,
        wish: &'d Wish,
        partial: Option<&'d mut Partial>,
        stop: &'d AtomicBool,
        fate: &'d Fate,
        work: impl FnOnce(Download<'_>) -> Result<T>,
    ) -> Result<T> {
        let blob = wish.blob;
        let item = blob.digest.short();
        let patience = self.repository.settings().patience();
        let around = Around { progress: self.progress, item: &item, patience, stop, fate };
        let context = || format!("get the layer {}", blob.digest);
        let download = Download::new(self.opener(blob), blob.size, partial, around).with_context(context)?;
        work(download).map_err(|error| match fate.gave_up.load(Ordering::Relaxed) {
            true => Error::new(Interrupted(format!("{}: {error:#}", context()))),
            false => error.context(context()),
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
