//! All containers of a store: finding, naming, listing, removing.

use super::connection::networks;
use super::options::MountSource;
use super::record::{Record, VERSION};
use super::state::read_json;
use crate::image::ImageUse;
use crate::image::digest::Digest;
use crate::layout::Root;
use crate::sys::depth::STACK;
use crate::sys::dir::Dir;
use crate::sys::file::{Durability, Lock, LockMode, Ownership, write_atomic};
use crate::volume::Volumes;
use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The containers of a store.
#[derive(Clone, Debug)]
pub struct Containers {
    root: Root,
}

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    pub(super) root: Root,
    /// Its record.
    pub record: Record,
}

/// A record that cannot be read.
#[derive(Debug)]
pub struct Damaged {
    /// The container's id.
    pub id: String,
    /// What is wrong.
    pub error: anyhow::Error,
}

/// What the user named is not there; some commands take it lightly.
#[derive(Debug)]
pub struct NoSuchContainer(pub String);

impl std::fmt::Display for NoSuchContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "No such container: {}", self.0)
    }
}

impl std::error::Error for NoSuchContainer {}

impl Containers {
    /// The containers of `root`.
    pub fn open(root: &Root) -> Containers {
        Containers { root: root.clone() }
    }

    /// The store that they are in.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Finds a container by its name, its id or the unique beginning of its id.
    ///
    /// # Errors
    /// [`NoSuchContainer`], or a beginning that fits several.
    pub fn find(&self, text: &str) -> Result<Container> {
        let missing = || anyhow!(NoSuchContainer(text.to_owned()));
        let name = text.strip_prefix('/').unwrap_or(text);
        if !is_name(name) {
            return Err(missing());
        }
        if let Some(id) = self.id_of_name(name)?
            && let Some(container) = self.read(&id)?
        {
            return Ok(container);
        }
        if !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        if name.len() == 64 {
            return self.read(name)?.ok_or_else(missing);
        }
        let mut matching = self.ids()?.into_iter().filter(|id| id.starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(id), None) => self.read(&id)?.ok_or_else(missing),
            (Some(_), Some(_)) => bail!("Multiple IDs found with provided prefix: {text}"),
            _ => Err(missing()),
        }
    }

    /// All containers, newest first, and those that cannot be read.
    pub fn list(&self) -> Result<(Vec<Container>, Vec<Damaged>)> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let ids = self.ids()?;
        for (id, read) in in_parallel(&ids, &|id: &String| self.read(id)) {
            match read {
                Ok(Some(container)) => found.push(container),
                Ok(None) => {}
                Err(error) => damaged.push(Damaged { id: id.clone(), error }),
            }
        }
        found.sort_by(|a, b| b.record.created.cmp(&a.record.created));
        Ok((found, damaged))
    }

    /// Removes a container whose record cannot be read, by its full id.
    pub fn remove_damaged(&self, id: &str) -> Result<()> {
        if id.len() != 64 || !is_name(id) {
            bail!("a damaged container is removed by its full id");
        }
        if Ownership::is_taken(&self.root.join("containers").join(id).join("lock"))? {
            bail!("the container {id} is running");
        }
        self.root.discard(&self.root.join("containers").join(id))
    }

    /// What containers need of images.
    ///
    /// # Errors
    /// A record that cannot be read: its image is not known, so nothing may be removed.
    pub fn image_uses(&self) -> Result<Vec<ImageUse>> {
        let (containers, damaged) = self.list()?;
        if let Some(d) = damaged.into_iter().next() {
            return Err(d.error.context(format!("the container {} is damaged; remove it with rm -f", d.id)));
        }
        let mut uses = Vec::new();
        for c in &containers {
            let running = match c.snapshot() {
                Ok(snapshot) => snapshot.status.is_up(),
                // It was removed meanwhile.
                Err(error) => match c.dir().try_exists() {
                    Ok(false) => continue,
                    _ => return Err(error),
                },
            };
            let use_of = |image, layers: &[Digest]| {
                let (container_id, layers) = (c.record.id.clone(), layers.to_vec());
                ImageUse { container_id, image, running, layers }
            };
            uses.push(use_of(c.record.image, &c.record.base.rootfs.diff_ids));
            for point in &c.record.mounts {
                if let MountSource::Image { decided: Some(tree), .. } = &point.source {
                    uses.push(use_of(tree.id, &tree.layers));
                }
            }
        }
        Ok(uses)
    }

    fn ids(&self) -> Result<Vec<String>> {
        let names = Dir::open(self.root.join("containers")).and_then(|d| d.names()).context("list the containers")?;
        Ok(names.into_iter().filter_map(|n| n.into_string().ok()).collect())
    }

    fn read(&self, id: &str) -> Result<Option<Container>> {
        let path = self.root.join("containers").join(id).join("container.json");
        let Some(record) = read_json::<Record>(&path)? else { return Ok(None) };
        if record.version != VERSION || record.id != id {
            bail!("{} is not a record that this version of minirun knows", path.display());
        }
        Ok(Some(Container { root: self.root.clone(), record }))
    }

    fn id_of_name(&self, name: &str) -> Result<Option<String>> {
        match std::fs::read_link(self.root.join("names").join(name)) {
            Ok(target) => Ok(Some(id_of(&target))),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("look up the name {name}")),
        }
    }

    /// Takes a name for an id that exists or is being made under `tmp`.
    ///
    /// # Errors
    /// Docker's conflict when another container has it.
    pub(super) fn claim_name(&self, name: &str, id: &str) -> Result<()> {
        let _alone = self.lock_records()?;
        self.claim_name_locked(name, id)
    }

    /// Names and records change under it.
    fn lock_records(&self) -> Result<Lock> {
        let lock = self.root.join("names").join(".lock");
        Lock::wait(&lock, LockMode::Exclusive).context("lock the records")
    }

    fn claim_name_locked(&self, name: &str, id: &str) -> Result<()> {
        let link = self.root.join("names").join(name);
        if let Some(owner) = self.id_of_name(name)? {
            // A rename that was killed leaves the old name's link.
            let has_it = self.read(&owner).map_or(true, |known| known.is_some_and(|c| c.record.name == name));
            let in_the_making = || Ownership::is_taken(&self.root.join("tmp").join(&owner).join("lock"));
            if has_it || in_the_making().unwrap_or(true) {
                bail!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have \
                     to remove (or rename) that container to be able to reuse that name."
                );
            }
            std::fs::remove_file(&link).with_context(|| format!("free the name {name}"))?;
        }
        std::os::unix::fs::symlink(target_of(id), &link).with_context(|| format!("take the name {name}"))
    }

    /// Gives a name up if it is this container's.
    pub(super) fn free_name(&self, name: &str, id: &str) -> Result<()> {
        let _alone = self.lock_records()?;
        self.free_name_locked(name, id)
    }

    fn free_name_locked(&self, name: &str, id: &str) -> Result<()> {
        if self.id_of_name(name)?.as_deref() == Some(id) {
            std::fs::remove_file(self.root.join("names").join(name))
                .with_context(|| format!("free the name {name}"))?;
        }
        Ok(())
    }
}

/// What the link of a name says: the id in 43 characters. A target of less than 60 is kept in the inode itself; the 64
/// of the id would cost a block of the disk each, and its release when a container ends.
fn target_of(id: &str) -> String {
    Digest::from_hex(id).map_or_else(|_| id.to_owned(), |id| URL_SAFE_NO_PAD.encode(id.bytes()))
}

fn id_of(target: &Path) -> String {
    let target = target.to_string_lossy();
    let bytes = URL_SAFE_NO_PAD.decode(target.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map_or_else(|| target.into_owned(), |bytes| Digest::from_bytes(bytes).hex())
}

impl Container {
    /// Its folder in the store.
    pub fn dir(&self) -> PathBuf {
        self.root.join("containers").join(&self.record.id)
    }

    /// Its folder of volatile state.
    pub fn state_dir(&self) -> PathBuf {
        self.root.state().join(&self.record.id)
    }

    /// Its bundle: the specification and the files of its current run.
    pub fn bundle(&self) -> PathBuf {
        self.state_dir()
    }

    /// Its own layer.
    pub fn upper(&self) -> PathBuf {
        self.dir().join("upper")
    }

    /// Where its output is kept.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("log")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.dir().join("lock")
    }

    /// Its image's layers.
    pub fn layers(&self) -> &[Digest] {
        &self.record.base.rootfs.diff_ids
    }

    /// Bytes of the regular files in its own layer, those with several names once.
    pub fn writable_size(&self) -> Result<u64> {
        let upper = Dir::open(self.upper()).context("open the container's layer")?;
        upper.tree_size().context("measure the container's layer")
    }

    /// Changes its record on disk and here, unless `change` fails.
    pub(super) fn rewrite<T>(&mut self, change: impl FnOnce(&mut Record) -> Result<T>) -> Result<T> {
        let _alone = Containers::open(&self.root).lock_records()?;
        self.rewrite_locked(change)
    }

    fn rewrite_locked<T>(&mut self, change: impl FnOnce(&mut Record) -> Result<T>) -> Result<T> {
        // Somebody may have changed something else of it.
        let known = Containers::open(&self.root).read(&self.record.id)?;
        let mut record = known.with_context(|| NoSuchContainer(self.record.name.clone()))?.record;
        let done = change(&mut record)?;
        let path = self.dir().join("container.json");
        let json = serde_json::to_vec(&record).context("write the container's record")?;
        write_atomic(&path, &json, Durability::Synced).with_context(|| format!("write {}", path.display()))?;
        self.record = record;
        Ok(done)
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// A name that another container has.
    pub fn rename(&mut self, name: &str) -> Result<()> {
        let containers = Containers::open(&self.root);
        if self.record.name == name {
            bail!("Renaming a container with the same name as its current name");
        }
        let alone = containers.lock_records()?;
        containers.claim_name_locked(name, &self.record.id)?;
        let renamed = self.rewrite_locked(|r| Ok(std::mem::replace(&mut r.name, name.to_owned())));
        let free = if let Ok(old) = &renamed { old } else { name };
        let freed = containers.free_name_locked(free, &self.record.id);
        drop(alone);
        self.tell("rename", &[("oldName", format!("/{}", renamed?))]);
        freed?;
        networks(&self.root).rename(&self.record.id, name)
    }

    /// Removes everything of a container that is not up, its anonymous volumes too if asked. Can be repeated.
    ///
    /// The files are only moved out of sight; [`Root::empty_trash`] deletes them.
    pub(super) fn remove_files(&self, volumes: bool) -> Result<()> {
        let containers = Containers::open(&self.root);
        let existed = self.dir().try_exists().context("look for the container's folder")?;
        // In this order: a name that leads to nobody can be taken by others, a container without its name cannot be found.
        self.root.discard(&self.dir())?;
        containers.free_name(&self.record.name, &self.record.id)?;
        if existed {
            self.tell("destroy", &[]);
        }
        if !volumes {
            return Ok(());
        }
        let mine: Vec<&str> = self.record.volumes().filter(|(_, anonymous)| *anonymous).map(|(n, _)| n).collect();
        if mine.is_empty() {
            return Ok(());
        }
        let volumes = Volumes::open(&self.root);
        // Somebody may just be making a container that inherits them.
        let _alone = volumes.lock_for_removing()?;
        let (others, damaged) = containers.list()?;
        for name in mine {
            // What a container uses whose record cannot be read is not known.
            if damaged.is_empty() && !others.iter().any(|c| c.record.volumes().any(|(n, _)| n == name)) {
                volumes.remove(name)?;
            }
        }
        Ok(())
    }
}

/// Does the same for each item, on all processors if there are many.
pub fn in_parallel<'a, T: Sync, R: Send>(items: &'a [T], work: &(dyn Fn(&T) -> R + Sync)) -> Vec<(&'a T, R)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len() / FEW);
    if threads < 2 {
        return items.iter().map(|item| (item, work(item))).collect();
    }
    std::thread::scope(|scope| {
        let do_part = |part: &'a [T]| part.iter().map(|item| (item, work(item))).collect::<Vec<_>>();
        let parts: Vec<_> = items.chunks(items.len().div_ceil(threads)).collect();
        let begin =
            |part| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || do_part(part)).ok();
        let running: Vec<_> = parts.iter().map(|&part| begin(part)).collect();
        // A part that no thread could do is done here.
        let ended = running.into_iter().zip(parts).map(|(thread, part)| {
            let done = thread.and_then(|thread| thread.join().ok());
            done.unwrap_or_else(|| do_part(part))
        });
        ended.flatten().collect()
    })
}

/// So many are done before a thread would have started.
const FEW: usize = 64;

/// Whether a text can be the name of a container, and so a file name of ours.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text.len() <= 200
}
