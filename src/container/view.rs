//! A container's tree as the container sees it, and an image's: open from outside, by one descriptor.
//!
//! Of a container that is up it is the root of its first process, in its own mount namespace. Of one that is not, its
//! layers and volumes are mounted in a mount namespace that nobody is in, and that goes with the view; to look at
//! them only, changes go into memory, so that nothing of the container is touched and it can be started meanwhile.

use super::containers::Container;
use super::options::{Below, MountSource};
use super::record::MountPoint;
use super::start::reset_work_directory;
use super::state::Status;
use crate::image::transfer::describe_directory;
use crate::image::{Image, Store};
use crate::layout::Root;
use crate::runtime::rootfs::find_or_make;
use crate::sys::dir::{Dir, file_type};
use crate::sys::file::{Lock, Ownership};
use crate::sys::mount::{self, Attributes, Overlay, Propagation};
use crate::sys::process::{self, ProcessId};
use crate::volume::{Source, Volumes};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An open tree.
#[derive(Debug)]
pub struct View {
    /// Its top. Paths must be resolved inside it: `..` and absolute links in it are the container's.
    pub root: Dir,
    /// Mounts of our own, which end with it.
    _namespace: Option<File>,
    /// The container cannot be started while it is written to from outside.
    _ownership: Option<Ownership>,
    /// The image cannot be removed.
    _keeping: Option<Lock>,
}

/// The root of a running container, by its first process.
pub(super) fn root_of(init: ProcessId) -> Result<Dir> {
    let pidfd = init.open().context("the container has just ended")?;
    let root = Dir::open(format!("/proc/{}/root", init.pid)).context("open the container's root")?;
    // Whatever the number means now: while the process lives, what was opened was its own.
    process::pidfd_kill(&pidfd, 0).context("the container has just ended")?;
    Ok(root)
}

impl Container {
    /// Opens its tree. Without `writing`, what is written into it may be lost.
    ///
    /// # Errors
    /// A container whose supervisor is between two runs of it cannot be written to.
    pub fn view(&self, writing: bool) -> Result<View> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let snapshot = self.snapshot()?;
            if let Some(init) = snapshot.init() {
                let root = root_of(init)?;
                return Ok(View { root, _namespace: None, _ownership: None, _keeping: None });
            }
            if !writing {
                return self.view_at_rest(None);
            }
            match Ownership::take(&self.lock_path()).context("take the container's lock")? {
                Some(ownership) => return self.view_at_rest(Some(ownership)),
                None if snapshot.status == Status::Restarting || Instant::now() > deadline => {
                    bail!("container {} is being started or ended; wait until it is running", self.record.name)
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn view_at_rest(&self, ownership: Option<Ownership>) -> Result<View> {
        let mut lower = vec![self.root.join("stubs")];
        lower.extend(Store::open(&self.root).dirs_of(self.layers())?);
        let upper = match ownership {
            Some(_) => {
                reset_work_directory(self)?;
                Some((self.upper(), self.dir().join("work")))
            }
            None => {
                lower.push(self.upper());
                None
            }
        };
        let mounts = Mounts { lower, upper, points: self.places()?, at: self.root.join("rootfs") };
        let (root, namespace) = mounts.assemble()?;
        Ok(View { root, _namespace: Some(namespace), _ownership: ownership, _keeping: None })
    }

    /// What is mounted in it, the outer before the inner; memory has nothing in it while it is not running.
    fn places(&self) -> Result<Vec<(MountPoint, PathBuf)>> {
        let volumes = Volumes::open(&self.root);
        let mut places = Vec::new();
        for point in &self.record.mounts {
            let mut point = point.clone();
            let path = match &point.source {
                MountSource::Bind { path, .. } => PathBuf::from(path),
                MountSource::Volume(name) => match volumes.get(name).map(|v| v.source()) {
                    Some(Source::Folder { path, options }) => {
                        point.read_only |= options.iter().any(|o| o == "ro");
                        path
                    }
                    _ => continue,
                },
                _ => continue,
            };
            // A start would make it, or complain.
            if path.exists() {
                places.push((point, path));
            }
        }
        places.sort_by_key(|(point, _)| Path::new(&point.target).components().count());
        Ok(places)
    }
}

/// Opens the tree of an image, which is not removed meanwhile.
pub fn of_image(root: &Root, image: &Image) -> Result<View> {
    let keeping = root.lock_for_making()?;
    let lower = Store::open(root).layer_dirs(image)?;
    if lower.is_empty() {
        bail!("the image {} has no layers", image.id);
    }
    let mounts = Mounts { lower, upper: None, points: Vec::new(), at: root.join("rootfs") };
    let (root, namespace) = mounts.assemble()?;
    Ok(View { root, _namespace: Some(namespace), _ownership: None, _keeping: Some(keeping) })
}

/// What is to be mounted.
struct Mounts {
    /// The lowest first.
    lower: Vec<PathBuf>,
    /// Upper and work directory; without them changes go into memory.
    upper: Option<(PathBuf, PathBuf)>,
    points: Vec<(MountPoint, PathBuf)>,
    /// An empty folder.
    at: PathBuf,
}

impl Mounts {
    /// Mounts it in a new mount namespace: on a thread, since the namespace would be that of the whole process.
    fn assemble(self) -> Result<(Dir, File)> {
        let mounting = std::thread::Builder::new().spawn(move || self.mount()).context("start a thread")?;
        mounting.join().map_err(|_| anyhow!("a thread has ended unexpectedly"))?
    }

    fn mount(&self) -> Result<(Dir, File)> {
        process::unshare(libc::CLONE_NEWNS).context("make a mount namespace")?;
        let kept = mount::set_propagation(Path::new("/"), Propagation::Private, true);
        kept.context("make the host's mounts private")?;
        let root = self.mount_layers().context("mount the layers")?;
        for (point, source) in &self.points {
            place(&root, point, source).with_context(|| format!("mount {}", point.target))?;
        }
        let namespace = File::open("/proc/thread-self/ns/mnt").context("hold the mount namespace")?;
        Ok((root, namespace))
    }

    fn mount_layers(&self) -> Result<Dir> {
        let overlay = |upper: PathBuf, work: PathBuf| Overlay {
            lower: self.lower.clone(),
            upper: Some(upper),
            work: Some(work),
            // Taking it away again must not wait for the disk.
            volatile: true,
        };
        if let Some((upper, work)) = self.upper.clone() {
            overlay(upper, work).attach(&self.at)?;
            return Ok(Dir::open(&self.at)?);
        }
        let memory = mount::new_file_system("tmpfs", "minirun", &["mode=700".into()], Attributes::empty())?;
        mount::attach(&memory, Dir::open(&self.at)?)?;
        let scratch = Dir::open(&self.at)?;
        for name in ["upper", "work", "merged"] {
            scratch.mkdir(name, 0o755)?;
        }
        if let Some(top) = self.lower.last() {
            describe_directory(&Dir::open(top)?, &scratch.child("upper")?)?;
        }
        let merged = self.at.join("merged");
        overlay(self.at.join("upper"), self.at.join("work")).attach(&merged)?;
        Ok(Dir::open(merged)?)
    }
}

fn place(root: &Dir, point: &MountPoint, source: &Path) -> Result<()> {
    let tree = match &point.tuning.subpath {
        Some(part) => mount::copy_of(Dir::open(source)?.open_in_root(part, OFlags::PATH, Mode::empty())?)?,
        None => mount::copy_tree(source, point.tuning.below != Below::Missing)?,
    };
    let is_file = file_type(&rustix::fs::fstat(&tree).map_err(std::io::Error::from)?) != FileType::Directory;
    mount::attach(&tree, find_or_make(root, Path::new(&point.target), is_file)?)?;
    if point.read_only {
        let none = Attributes::empty();
        mount::set_attributes(&tree, Attributes::MOUNT_ATTR_RDONLY, none, None, true)?;
    }
    Ok(())
}
