//! The container that a command of a build runs in: what `run` would make, on the layers so far, with a fresh layer
//! above them that is kept when the command has succeeded.

use super::mounts::Mounts;
use super::session::Session;
use super::worker::Task;
use crate::container::compose::{self, World};
use crate::container::connection::{VISITOR, Visitor};
use crate::container::create::prepare_bind;
use crate::container::device_requests::Granted;
use crate::container::options::{MountSource, NetworkMode, RunOptions};
use crate::container::record::{MountPoint, Record, VERSION};
use crate::container::seccomp_profile;
use crate::container::sharing::Joined;
use crate::container::start::{write_network_files, write_new};
use crate::container::users::{Database, Identity};
use crate::container::volumes;
use crate::image::digest::Digest;
use crate::image::union::Union;
use crate::image::{ContainerConfig, ImageConfig, Store};
use crate::layout::{Scratch, Workshop};
use crate::sys::dir::{Dir, clean, file_type};
use crate::sys::random;
use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The host name of every command, so that what is built does not depend on it.
const HOSTNAME: &str = "build";

/// Links that are followed for one path.
const LINK_LIMIT: usize = 40;

/// What is run.
#[derive(Clone, Debug)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<String>,
    /// What the image's variables are for the command, complete.
    pub env: Vec<String>,
    /// `name|uid[:group|gid]`.
    pub user: String,
    /// Absolute.
    pub workdir: String,
    /// The network.
    pub network: NetworkMode,
    /// With all rights.
    pub privileged: bool,
    /// Beside those that the whole build has.
    pub mounts: Vec<MountPoint>,
}

/// Folders of a command that is about to run, beside the layer that it makes.
pub struct Sandbox {
    scratch: Scratch,
    id: String,
}

impl Sandbox {
    /// Makes the folders in a workshop.
    pub fn new(workshop: &Workshop) -> Result<Sandbox> {
        let scratch = workshop.scratch()?;
        let dir = Dir::open(scratch.path()).context("open the command's folder")?;
        for sub in ["work", "bundle", "places"] {
            dir.mkdir(sub, 0o755).with_context(|| format!("make the command's {sub}"))?;
        }
        dir.chmod("places", 0o755)?;
        Ok(Sandbox { scratch, id: random::hex::<32>() })
    }

    /// A new empty folder of this name.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Where its own files are.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes the bundle for a command whose changes go to `upper`.
    ///
    /// # Errors
    /// A user that the image does not have, a mount that cannot be.
    pub fn task(
        &self,
        session: &Session<'_>,
        below: &Below,
        upper: &Path,
        command: Command,
        mounts: &mut Mounts,
    ) -> Result<Task> {
        let (root, shared) = (session.root, &session.wishes.container);
        let record = self.record(&command, shared)?;
        self.make_places(&record.mounts, &below.union, &mounts.files)?;
        let prepared = std::mem::take(&mut mounts.prepared);
        let identity = identify(&below.union, &command.user, &shared.group_add)?;
        let mut layers = vec![root.join("stubs"), self.scratch.path().join("places")];
        layers.extend(below.dirs.iter().cloned());
        let bundle = self.scratch.path().join("bundle");
        let world = World {
            layers,
            directory: self.link_upper(upper)?,
            bundle: bundle.clone(),
            network_files: bundle.clone(),
            mount_point: root.join("rootfs"),
            // The sources of the others are made when it is run.
            sources: volumes::prepare(root, &record.mounts[..shared.mounts.len()], &identity)?,
            identity,
            program: PathBuf::new(),
            kernel: seccomp_profile::running_kernel(),
            devices: Vec::new(),
            granted: Granted::default(),
            joined: Joined::default(),
        };
        let spec = compose::compose(&record, &world)?;
        write_network_files(&record, &bundle)?;
        let json = serde_json::to_vec(&spec).context("write the bundle's config.json")?;
        write_new(&bundle.join("config.json"), &json, 0o600)?;
        Ok(Task {
            id: record.id.clone(),
            network: Visitor::of(&record, bundle.join("hosts")),
            bundle,
            root: root.path().to_owned(),
            state: root.state().to_owned(),
            env: std::mem::take(&mut mounts.env),
            prepared,
        })
    }

    /// The upper directory is where the new layer is, the work directory here; a container's folder has both.
    fn link_upper(&self, upper: &Path) -> Result<PathBuf> {
        std::os::unix::fs::symlink(upper, self.scratch.path().join("upper")).context("link the command's layer")?;
        Ok(self.scratch.path().to_owned())
    }

    fn record(&self, command: &Command, shared: &RunOptions) -> Result<Record> {
        let mut mounts = Vec::new();
        for request in &shared.mounts {
            match &request.source {
                // Before the mount points are made: it may be a file.
                MountSource::Bind { path, create } => prepare_bind(Path::new(path), *create)?,
                MountSource::Image { .. } => bail!("images are mounted by RUN --mount=from="),
                MountSource::Anonymous => bail!("a volume without a name would be lost with the step at once"),
                _ => {}
            }
            let request = request.clone();
            mounts.push(MountPoint {
                source: request.source,
                anonymous: false,
                target: request.target,
                read_only: request.read_only,
                propagation: request.propagation,
                tuning: request.tuning,
            });
        }
        mounts.extend(command.mounts.iter().cloned());
        let options = RunOptions {
            command: command.args.clone(),
            entrypoint: Some(String::new()),
            workdir: Some(command.workdir.clone()),
            user: Some(command.user.clone()),
            hostname: Some(HOSTNAME.into()),
            network: command.network.clone(),
            privileged: command.privileged,
            remove: true,
            mounts: Vec::new(),
            ..shared.clone()
        };
        let networks = Record::asked_networks(&options);
        let config = ContainerConfig { env: command.env.clone(), ..ContainerConfig::default() };
        Ok(Record {
            version: VERSION,
            id: format!("{VISITOR}{}", self.id),
            name: String::new(),
            created: String::new(),
            image: Digest::of(b""),
            image_name: String::new(),
            base: ImageConfig { config: Some(config), ..ImageConfig::default() },
            options,
            mounts,
            networks,
        })
    }

    /// Makes the places that are mounted on in a layer below the image's: where the image has none they are seen, and
    /// the command's own layer stays free of them.
    fn make_places(&self, mounts: &[MountPoint], union: &Union, files: &[PathBuf]) -> Result<()> {
        let places = Dir::open(self.scratch.path().join("places")).context("open the mount points")?;
        // What containers have there is for a command to make.
        let etc = places.mkdir_all_in_root("etc", 0o755).context("make /etc")?;
        etc.mknod("mtab", FileType::CharacterDevice, 0, 0).context("hide /etc/mtab")?;
        for mount in mounts {
            let place = resolve(union, Path::new(&mount.target)).with_context(|| format!("find {}", mount.target))?;
            let is_file = match &mount.source {
                // What the worker has yet to make cannot be looked at.
                MountSource::Bind { path, .. } => {
                    let path = Path::new(path);
                    files.iter().any(|file| file == path) || std::fs::metadata(path).is_ok_and(|m| !m.is_dir())
                }
                _ => false,
            };
            let what = || format!("make the mount point {}", mount.target);
            match (is_file, place.parent(), place.file_name()) {
                (true, Some(parent), Some(name)) => {
                    let parent = places.mkdir_all_in_root(parent, 0o755).with_context(what)?;
                    if parent.stat_opt(name)?.is_none() {
                        parent.create(name, 0o644).with_context(what)?;
                    }
                }
                _ => drop(places.mkdir_all_in_root(&place, 0o755).with_context(what)?),
            }
        }
        Ok(())
    }
}

/// What a command runs on.
pub struct Below {
    /// The layers as one tree.
    pub union: Union,
    /// Their folders, the lowest first.
    pub dirs: Vec<PathBuf>,
}

impl Below {
    /// Opens layers.
    pub fn open(store: &Store, layers: &[Digest]) -> Result<Below> {
        Ok(Below { union: Union::new(store.open_layers(layers)?), dirs: store.dirs_of(layers)? })
    }
}

/// Who a user is by the files of a tree.
pub fn identify(union: &Union, user: &str, groups: &[String]) -> Result<Identity> {
    Database::read(|path| union.open_file(Path::new(path)))?.resolve(user, groups)
}

/// Where a path leads in a tree, also below what does not exist.
pub fn resolve(union: &Union, path: &Path) -> Result<PathBuf> {
    let mut reached = PathBuf::from("/");
    let split = |path: &Path| path.iter().map(OsString::from).collect::<VecDeque<_>>();
    let mut todo = split(&clean(path));
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        match name.to_str() {
            Some("/") => reached = PathBuf::from("/"),
            Some(".") => {}
            Some("..") => drop(reached.pop()),
            _ => {
                let next = reached.join(&name);
                let stat = match union.lstat(&next) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => None,
                    other => other?,
                };
                if !stat.is_some_and(|s| file_type(&s) == FileType::Symlink) {
                    reached = next;
                    continue;
                }
                links += 1;
                if links > LINK_LIMIT {
                    return Err(std::io::Error::from(rustix::io::Errno::LOOP).into());
                }
                let target = union.read_link(&next)?;
                for part in split(Path::new(&target)).into_iter().rev() {
                    todo.push_front(part);
                }
            }
        }
    }
    Ok(reached)
}
