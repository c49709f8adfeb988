//! Removing names and images, by Docker's rules, and sweeping up what nothing leads to any more.
//!
//! The index is changed first, then documents go, then layers: a kill in between leaves garbage that the next
//! removal sweeps, as it sweeps what a killed maker has left.

use super::digest::{Digest, Hasher};
use super::index::{Entry, Names};
use super::layer;
use super::reference::Reference;
use super::remote::sweep_partial;
use super::store::{By, Store, resolve};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A container's hold on an image.
#[derive(Clone, Debug)]
pub struct ImageUse {
    /// The container's id.
    pub container_id: String,
    /// The image's id.
    pub image: Digest,
    /// Whether it is running (or paused).
    pub running: bool,
    /// The layers that its root file system stands on; they stay.
    pub layers: Vec<Digest>,
}

/// How thoroughly an image is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveHow {
    /// Although several names or stopped containers need it.
    pub force: bool,
    /// Leave the images without a name that it was made from.
    pub keep_parents: bool,
}

/// One step of a removal, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A name, as users know it.
    Untagged(String),
    /// An image (its id) or a layer (its chain id).
    Deleted(String),
}

impl Store {
    /// Removes what `name` means: a name, and with the last one its image.
    ///
    /// # Errors
    /// `No such image: …`, and Docker's conflicts when something still needs the image.
    ///
    /// `in_use` is asked when nothing can be added any more: a container that was just made counts.
    pub fn remove(
        &self,
        name: &str,
        how: RemoveHow,
        in_use: &dyn Fn() -> Result<Vec<ImageUse>>,
    ) -> Result<Vec<Removal>> {
        self.remove_each(&[name], how, in_use)?.remove(0)
    }

    /// The same for several names, one after the other, of which some may not be removed. What nothing leads to any
    /// more is looked for once.
    pub fn remove_each(
        &self,
        names: &[impl AsRef<str>],
        how: RemoveHow,
        in_use: &dyn Fn() -> Result<Vec<ImageUse>>,
    ) -> Result<Vec<Result<Vec<Removal>>>> {
        let _alone = self.root.lock_for_removing()?;
        let in_use = &in_use()?;
        let mut work = Work::new(self, Names::read(&self.root)?, in_use)?;
        work.keep_parents = how.keep_parents;
        let mut outcomes = Vec::new();
        for name in names {
            let before = work.names.clone();
            let outcome = work.remove_one(name.as_ref(), how.force);
            let done = work.take_done();
            outcomes.push(outcome.map(|()| done).inspect_err(|_| work.names = before));
        }
        let gone = work.finish()?;
        let mut told = BTreeSet::new();
        let mut with_layers = |(mut done, layers): (Vec<Removal>, Vec<(Digest, Digest)>)| {
            done.extend(gone_layers(layers, &gone, &mut told));
            done
        };
        Ok(outcomes.into_iter().map(|outcome| outcome.map(&mut with_layers)).collect())
    }

    /// Takes names from an image, or all of them; the image stays. Returns the names.
    ///
    /// # Errors
    /// `No such image: …`, and a name that is not one of this image; then nothing is changed.
    pub fn untag(&self, image: &str, wanted: &[Reference]) -> Result<Vec<Reference>> {
        let _making = self.root.lock_for_making()?;
        Names::update(&self.root, |names| {
            let Some((entry, _)) = resolve(names, image)? else {
                bail!("No such image: {}", Reference::familiarize(image))
            };
            let own: Vec<Reference> = names.of_image(entry.image).filter_map(|e| e.reference.clone()).collect();
            if let Some(foreign) = wanted.iter().find(|w| !own.contains(w)) {
                bail!("{} is not a name of the image {}", foreign.familiar(), entry.image.short());
            }
            let gone = if wanted.is_empty() { own } else { wanted.to_vec() };
            names.entries.retain(|e| e.reference.as_ref().is_none_or(|r| !gone.contains(r)));
            if names.of_image(entry.image).next().is_none() {
                names.entries.push(Entry { reference: None, ..entry });
            }
            Ok(gone)
        })
    }

    /// Removes what a failed command has left: documents and layers that nothing needs. While others make something
    /// it is left to the next removal.
    pub fn sweep_up(&self, in_use: &dyn Fn() -> Result<Vec<ImageUse>>) -> Result<()> {
        if let Some(_alone) = self.root.try_lock_for_removing()? {
            self.sweep(&in_use()?)?;
        }
        Ok(())
    }

    /// Removes documents and layers that no image and no container needs. Returns the layers.
    fn sweep(&self, in_use: &[ImageUse]) -> Result<BTreeSet<Digest>> {
        sweep_partial(&self.root);
        let names = Names::read(&self.root)?;
        let mut documents = BTreeSet::new();
        let mut layers: BTreeSet<Digest> = in_use.iter().flat_map(|u| u.layers.iter().copied()).collect();
        layers.extend(self.remembered_layers()?);
        layers.extend(self.root.leases()?.iter().filter_map(|lease| lease.parse::<Digest>().ok()));
        for entry in &names.entries {
            let Ok(image) = self.image(entry) else { return Ok(BTreeSet::new()) };
            documents.extend([image.id, image.manifest]);
            layers.extend(image.layers());
        }
        // What a damaged entry needs is not known, so nothing can be called garbage.
        if !names.damaged.is_empty() {
            return Ok(BTreeSet::new());
        }
        for (digest, name) in digests_in(&self.root.join("blobs/sha256"))? {
            if !digest.is_some_and(|d| documents.contains(&d)) {
                self.root.discard(&self.root.join("blobs/sha256").join(name))?;
            }
        }
        let mut gone = BTreeSet::new();
        for (digest, _) in digests_in(&self.root.join("layers"))? {
            if let Some(digest) = digest.filter(|d| !layers.contains(d)) {
                self.root.discard(&layer::folder(&self.root, &digest))?;
                gone.insert(digest);
            }
        }
        Ok(gone)
    }
}

fn digests_in(folder: &Path) -> Result<Vec<(Option<Digest>, std::ffi::OsString)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("read {}", folder.display()))?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("read {}", folder.display()))?.file_name();
        out.push((name.to_str().and_then(|n| Digest::from_hex(n).ok()), name));
    }
    Ok(out)
}

/// Why an image cannot go.
struct Conflict {
    reason: String,
    /// Whether `--force` does not help.
    hard: bool,
    /// Whether a container is the reason.
    used: bool,
}

/// A removal under way: changes of the names, which are written at the end.
pub(super) struct Work<'a> {
    store: &'a Store,
    names: Names,
    in_use: &'a [ImageUse],
    /// Where images are mounted on the host.
    mounted: Vec<(Digest, PathBuf)>,
    keep_parents: bool,
    done: Vec<Removal>,
    /// Layers of the images that went, with their chain ids.
    layers: Vec<(Digest, Digest)>,
}

impl<'a> Work<'a> {
    /// The caller holds the store's lock alone.
    pub(super) fn new(store: &'a Store, names: Names, in_use: &'a [ImageUse]) -> Result<Work<'a>> {
        let mounted = store.mounted()?;
        Ok(Work { store, names, in_use, mounted, keep_parents: false, done: Vec::new(), layers: Vec::new() })
    }

    /// Whether an image is still there.
    pub(super) fn has(&self, image: Digest) -> bool {
        self.names.of_image(image).next().is_some()
    }

    /// What has been done so far, and the layers of the images that went.
    pub(super) fn take_done(&mut self) -> (Vec<Removal>, Vec<(Digest, Digest)>) {
        (std::mem::take(&mut self.done), std::mem::take(&mut self.layers))
    }

    /// Writes the names and deletes what they do not lead to any more. Returns the layers that went.
    pub(super) fn finish(self) -> Result<BTreeSet<Digest>> {
        let Work { store, names, in_use, .. } = self;
        Names::update(&store.root, |stored| {
            *stored = names;
            Ok(())
        })?;
        store.sweep(in_use)
    }

    fn remove_one(&mut self, name: &str, force: bool) -> Result<()> {
        match resolve(&self.names, name)? {
            None => bail!("No such image: {}", Reference::familiarize(name)),
            Some((entry, By::Name)) => self.remove_name(name, &entry, force),
            Some((entry, By::Id)) => self.remove_id(&entry, force),
        }
    }

    pub(super) fn remove_name(&mut self, text: &str, entry: &Entry, force: bool) -> Result<()> {
        // Nor is a tag meant by a digest that has been forgotten.
        let by_digest = Reference::parse(text).is_ok_and(|asked| asked.digest().is_some());
        let meant = entry.reference.clone().filter(|own| own.digest().is_some() || !by_digest);
        let Some(reference) = meant else { bail!("No such image: {}", Reference::familiarize(text)) };
        let image = entry.image;
        let user = self.in_use.iter().find(|u| u.image == image);
        if let Some(user) = user.filter(|_| !force && self.is_one_name(image)) {
            bail!(
                "conflict: unable to remove repository reference {text:?} (must force) - container {} is using its \
                 referenced image {}",
                short(&user.container_id),
                image.short()
            );
        }
        self.untag(&reference);
        let left: Vec<Reference> = self.references(image).collect();
        // A name by digest alone goes with the last tag of its repository.
        let has_tag = left.iter().any(|r| r.same_repository(&reference) && r.digest().is_none());
        if reference.digest().is_none() && !has_tag {
            left.iter().filter(|r| r.same_repository(&reference)).for_each(|r| self.untag(r));
        }
        if self.references(image).next().is_some() {
            return Ok(());
        }
        self.delete(image, entry, force, true)
    }

    fn remove_id(&mut self, entry: &Entry, force: bool) -> Result<()> {
        let image = entry.image;
        if self.is_one_name(image) {
            if let Some(conflict) = self.conflict(image, !force, false) {
                return Err(refusal(image, &conflict));
            }
            for reference in self.references(image).collect::<Vec<_>>() {
                self.untag(&reference);
            }
        }
        self.delete(image, entry, force, false)
    }

    fn references(&self, image: Digest) -> impl Iterator<Item = Reference> {
        self.names.of_image(image).filter_map(|e| e.reference.clone())
    }

    /// Whether all of an image's names are one tag and the digests of its repository.
    fn is_one_name(&self, image: Digest) -> bool {
        let all: Vec<Reference> = self.references(image).collect();
        let tags = all.iter().filter(|r| r.digest().is_none()).count();
        all.len() <= 1 || (tags <= 1 && all.iter().all(|r| r.same_repository(&all[0])))
    }

    fn untag(&mut self, reference: &Reference) {
        let is_it = |e: &Entry| e.reference.as_ref() == Some(reference);
        if let Some(at) = self.names.entries.iter().position(is_it) {
            let entry = self.names.entries.remove(at);
            if self.names.of_image(entry.image).next().is_none() {
                self.names.entries.push(Entry { reference: None, ..entry });
            }
            self.done.push(Removal::Untagged(reference.familiar()));
        }
    }

    /// Deletes an image and then its parents that nobody needs. `quietly`, what is still needed just stays.
    pub(super) fn delete(&mut self, image: Digest, entry: &Entry, force: bool, quietly: bool) -> Result<()> {
        if let Some(conflict) = self.conflict(image, !force, true) {
            let is_dangling = self.references(image).next().is_none() && !self.has_children(image);
            if quietly && (!is_dangling || conflict.used) {
                return Ok(());
            }
            return Err(refusal(image, &conflict));
        }
        for reference in self.references(image).collect::<Vec<_>>() {
            self.untag(&reference);
        }
        // A damaged image has no layers to tell about.
        if let Ok(read) = self.store.image(entry) {
            self.layers.extend(chain(read.layers()));
        }
        self.names.entries.retain(|e| e.image != image);
        self.done.push(Removal::Deleted(image.to_string()));
        let parent = entry.parent.and_then(|id| self.names.of_image(id).next().cloned());
        match parent.filter(|p| p.reference.is_none() && !self.keep_parents) {
            Some(parent) => self.delete(parent.image, &parent, false, true),
            None => Ok(()),
        }
    }

    fn has_children(&self, image: Digest) -> bool {
        self.names.entries.iter().any(|e| e.parent == Some(image))
    }

    /// The first conflict; `soft` ones are those that force overcomes.
    fn conflict(&self, image: Digest, soft: bool, names: bool) -> Option<Conflict> {
        let hard = |reason: String, used| Some(Conflict { reason, hard: true, used });
        let user = |running| self.in_use.iter().find(move |u| u.image == image && u.running == running);
        if self.has_children(image) {
            return hard("image has dependent child images".into(), false);
        }
        if let Some((_, place)) = self.mounted.iter().find(|(mounted, _)| *mounted == image) {
            return hard(format!("image is mounted on {}: unmount it first", place.display()), true);
        }
        if let Some(user) = user(true) {
            return hard(format!("image is being used by running container {}", short(&user.container_id)), true);
        }
        if !soft {
            return None;
        }
        if names && self.references(image).next().is_some() {
            let reason = "image is referenced in multiple repositories".into();
            return Some(Conflict { reason, hard: false, used: false });
        }
        let user = user(false)?;
        let reason = format!("image is being used by stopped container {}", short(&user.container_id));
        Some(Conflict { reason, hard: false, used: true })
    }
}

fn refusal(image: Digest, conflict: &Conflict) -> anyhow::Error {
    let force = if conflict.hard { "cannot be forced" } else { "must be forced" };
    anyhow::anyhow!("conflict: unable to delete {} ({force}) - {}", image.short(), conflict.reason)
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Those of an image's layers that went, by their chain ids and the highest first; each is told once.
pub(super) fn gone_layers(
    layers: Vec<(Digest, Digest)>,
    gone: &BTreeSet<Digest>,
    told: &mut BTreeSet<Digest>,
) -> Vec<Removal> {
    let gone = layers.into_iter().rev().filter(|(layer, chain)| gone.contains(layer) && told.insert(*chain));
    gone.map(|(_, chain)| Removal::Deleted(chain.to_string())).collect()
}

/// Each layer with its chain id: the digest of everything from the bottom up to it.
pub(super) fn chain(layers: &[Digest]) -> Vec<(Digest, Digest)> {
    let mut out: Vec<(Digest, Digest)> = Vec::new();
    for layer in layers {
        let chain = match out.last() {
            None => *layer,
            Some((_, below)) => {
                let mut hasher = Hasher::new();
                hasher.update(format!("{below} {layer}").as_bytes());
                hasher.finish()
            }
        };
        out.push((*layer, chain));
    }
    out
}
