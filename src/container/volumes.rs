//! A container's volumes and other mounts: which they are, what is made for them, who else uses them.

use super::containers::Containers;
use super::create::prepare_bind;
use super::options::{ImageTree, MountRequest, MountSource, RunOptions, Tuning};
use super::record::{MountPoint, Record};
use super::users::Identity;
use crate::image::union::Union;
use crate::image::{Image, Store};
use crate::layout::Root;
use crate::sys::depth::Depth;
use crate::sys::dir::{Dir, clean, file_type};
use crate::sys::file::Lock;
use crate::sys::random;
use crate::volume::{self, ANONYMOUS, Meta, Source, Volumes};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The mounts of a container in the making, and the lock that keeps their volumes until it can be seen.
pub(super) struct Decided {
    pub mounts: Vec<MountPoint>,
    _using: Option<Lock>,
}

/// The user's mounts, those of other containers that he wants too, and an anonymous volume for each of the image's
/// volumes where nothing of these is.
pub(super) fn decide(root: &Root, image: &Image, options: &RunOptions) -> Result<Decided> {
    let image_volumes = image.config.config.iter().flat_map(|c| c.volumes.keys());
    if let Some(root) = image_volumes.clone().find(|target| clean(Path::new(target)) == Path::new("/")) {
        bail!("the image wants a volume at {root:?}: invalid specification: destination can't be '/'");
    }
    let needs_lock = image_volumes.clone().next().is_some()
        || !options.volumes_from.is_empty()
        || options.mounts.iter().any(|m| matches!(m.source, MountSource::Volume(_) | MountSource::Anonymous));
    let using = needs_lock.then(|| Volumes::open(root).lock_for_using()).transpose()?;
    let mut points = options.mounts.iter().cloned().map(|m| decide_one(root, m)).collect::<Result<Vec<_>>>()?;
    let own: BTreeSet<String> = points.iter().map(|p| p.target.clone()).collect();
    for spec in &options.volumes_from {
        for point in inherited(root, spec)?.into_iter().filter(|p| !own.contains(&p.target)) {
            // Of several that have something at one place the last one counts.
            points.retain(|p| p.target != point.target);
            points.push(point);
        }
    }
    let taken: BTreeSet<String> = points.iter().map(|p| p.target.clone()).collect();
    for target in image_volumes.filter(|t| !taken.contains(*t)) {
        points.push(decide_one(root, MountRequest::new(MountSource::Anonymous, target))?);
    }
    Ok(Decided { mounts: points, _using: using })
}

fn decide_one(root: &Root, request: MountRequest) -> Result<MountPoint> {
    let anonymous = request.source == MountSource::Anonymous;
    let source = match request.source {
        MountSource::Anonymous => MountSource::Volume(random::hex::<32>()),
        MountSource::Bind { path, create } => {
            prepare_bind(Path::new(&path), create)?;
            MountSource::Bind { path, create }
        }
        MountSource::Image { name, .. } => {
            let missing = || anyhow!("invalid mount config for type \"image\": No such image: {name}");
            let image = Store::open(root).find(&name)?.ok_or_else(missing)?;
            let decided = Some(ImageTree { id: image.id, layers: image.layers().to_vec() });
            MountSource::Image { name, decided }
        }
        other => other,
    };
    let MountRequest { target, read_only, propagation, tuning, .. } = request;
    Ok(MountPoint { source, anonymous, target, read_only, propagation, tuning })
}

/// What `--volumes-from container[:ro|:rw]` brings.
fn inherited(root: &Root, spec: &str) -> Result<Vec<MountPoint>> {
    let (name, mode) = spec.split_once(':').unwrap_or((spec, "rw"));
    let read_only = volumes_from_mode(mode)?;
    let from = Containers::open(root).find(name)?;
    // As Docker's: what `--tmpfs` asked for is nobody else's.
    let is_own = |m: &MountPoint| m.tuning.mode == Tuning::PLAIN_TMPFS && matches!(m.source, MountSource::Tmpfs { .. });
    let points = from.record.mounts.into_iter().filter(|m| !is_own(m)).map(|point| MountPoint {
        read_only: point.read_only || read_only,
        tuning: Tuning { mode: String::new(), no_copy: true, ..point.tuning },
        ..point
    });
    Ok(points.collect())
}

/// Understands the mode of `--volumes-from`: whether it is read-only.
///
/// # Errors
/// Words that are no mode, or one that only a volume of one's own can have.
pub fn volumes_from_mode(mode: &str) -> Result<bool> {
    let words: Vec<&str> = mode.split(',').collect();
    let access = words.iter().filter(|w| ["ro", "rw"].contains(w)).count();
    if access > 1 || words.iter().any(|w| !["ro", "rw", "z", "Z"].contains(w)) {
        bail!("invalid mode: {mode}");
    }
    Ok(words.contains(&"ro"))
}

/// Makes the volumes that are missing. An empty one starts with what the image has at its place.
pub(super) fn make(root: &Root, record: &Record, union: &Union) -> Result<()> {
    let no_copy: BTreeSet<&str> =
        record.options.mounts.iter().filter(|m| m.no_copy).map(|m| m.target.as_str()).collect();
    for point in &record.mounts {
        if let MountSource::Volume(name) = &point.source {
            let is_bare = point.tuning.no_copy || no_copy.contains(point.target.as_str());
            let content = (!is_bare).then_some((union, Path::new(&point.target)));
            Volumes::open(root).ensure(name, || meta_of(point), content)?;
        }
    }
    Ok(())
}

fn meta_of(point: &MountPoint) -> Meta {
    let mut labels = point.tuning.volume_labels.clone();
    if point.anonymous {
        labels.insert(ANONYMOUS.into(), String::new());
    }
    Meta::new(labels, point.tuning.volume_options.clone())
}

/// What a start needs to know about a container's mounts.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What is mounted for each volume.
    pub volumes: BTreeMap<String, Source>,
    /// The folders of an image's layers, the lowest first, by target.
    pub images: BTreeMap<String, Vec<PathBuf>>,
    /// Who owns what is mounted, by target, where that is to show as somebody else's.
    pub owners: BTreeMap<String, (u32, u32)>,
}

/// Makes what is missing, changes owners where that was asked for, and looks at what is there.
pub fn prepare(root: &Root, mounts: &[MountPoint], identity: &Identity) -> Result<Sources> {
    let mut sources = Sources::default();
    let volumes = Volumes::open(root);
    for point in mounts {
        let place = match &point.source {
            MountSource::Bind { path, create } => {
                prepare_bind(Path::new(path), *create)?;
                Path::new(path).to_owned()
            }
            MountSource::Volume(name) => {
                volumes.ensure(name, || meta_of(point), None)?;
                let source = volumes.get(name).with_context(|| format!("open the volume {name}"))?.source();
                sources.volumes.insert(name.clone(), source.clone());
                match source {
                    Source::Folder { path, .. } => path,
                    Source::FileSystem { .. } => continue,
                }
            }
            MountSource::Image { decided: Some(tree), .. } => {
                let layers = Store::open(root).dirs_of(&tree.layers)?;
                sources.images.insert(point.target.clone(), layers);
                continue;
            }
            _ => continue,
        };
        let what = || format!("the source of {}", point.target);
        if point.tuning.chown {
            give_away(&place, identity.uid, identity.gid).with_context(|| format!("change the owner of {}", what()))?;
        }
        if point.tuning.map_owner {
            use std::os::unix::fs::MetadataExt;
            let meta = std::fs::metadata(&place).with_context(|| format!("look at {}", what()))?;
            sources.owners.insert(point.target.clone(), (meta.uid(), meta.gid()));
        }
    }
    Ok(sources)
}

/// Gives a file, or a folder with all that is in it, to somebody; links are given, not followed.
fn give_away(place: &Path, uid: u32, gid: u32) -> Result<()> {
    std::os::unix::fs::chown(place, Some(uid), Some(gid))?;
    match Dir::open(place) {
        Ok(dir) => Ok(give_below(&dir, uid, gid, Depth::default())?),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn give_below(dir: &Dir, uid: u32, gid: u32, depth: Depth) -> std::io::Result<()> {
    for name in dir.names()? {
        let Some(stat) = dir.stat_opt(&name)? else { continue };
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            dir.chown(&name, uid, gid)?;
        }
        if file_type(&stat) == FileType::Directory {
            give_below(&dir.child(&name)?, uid, gid, depth.below()?)?;
        }
    }
    Ok(())
}

/// A volume that containers use cannot be removed.
#[derive(Debug)]
pub struct InUse {
    /// The volume.
    pub volume: String,
    /// The containers' ids.
    pub users: Vec<String>,
}

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volume is in use - [{}]", self.users.join(", "))
    }
}

impl std::error::Error for InUse {}

impl Containers {
    /// The ids of the containers that use each volume.
    ///
    /// # Errors
    /// A record that cannot be read: what it uses is not known.
    pub fn volume_users(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let (containers, damaged) = self.list()?;
        if let Some(d) = damaged.into_iter().next() {
            return Err(d.error.context(format!("the container {} is damaged; remove it with rm -f", d.id)));
        }
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in containers {
            let names: BTreeSet<&str> = container.record.volumes().map(|(name, _)| name).collect();
            for name in names {
                users.entry(name.to_owned()).or_default().push(container.record.id.clone());
            }
        }
        Ok(users)
    }

    /// Removes a volume that no container uses. False if there was none.
    ///
    /// # Errors
    /// [`InUse`].
    pub fn remove_volume(&self, name: &str) -> Result<bool> {
        let volumes = Volumes::open(self.root());
        let _alone = volumes.lock_for_removing()?;
        if volumes.get(name).is_none() {
            return Ok(false);
        }
        self.refuse_used(name)?;
        volumes.remove(name).map(|()| true)
    }

    /// Gives a volume that no container uses another name.
    ///
    /// # Errors
    /// [`InUse`]; a name that is taken.
    pub fn rename_volume(&self, old: &str, new: &str) -> Result<()> {
        let volumes = Volumes::open(self.root());
        let _alone = volumes.lock_for_removing()?;
        self.refuse_used(old)?;
        volumes.rename(old, new)
    }

    fn refuse_used(&self, name: &str) -> Result<()> {
        match self.volume_users()?.remove(name) {
            Some(users) => Err(InUse { volume: name.to_owned(), users }.into()),
            None => Ok(()),
        }
    }

    /// Removes the volumes that no container uses and that `wanted` chooses; gives their names and how much they held.
    pub fn prune_volumes(&self, wanted: &dyn Fn(&volume::Volume) -> bool) -> Result<(Vec<String>, u64)> {
        let volumes = Volumes::open(self.root());
        let _alone = volumes.lock_for_removing()?;
        let users = self.volume_users()?;
        let (mut names, mut freed) = (Vec::new(), 0);
        for volume in volumes.list()?.into_iter().filter(|v| !users.contains_key(&v.name) && wanted(v)) {
            freed += volume.size().unwrap_or(0);
            volumes.remove(&volume.name)?;
            names.push(volume.name);
        }
        Ok((names, freed))
    }
}
