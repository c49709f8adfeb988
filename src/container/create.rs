//! Making a container: everything but starting it.

use super::connection::{networks, settle_links};
use super::containers::{Container, Containers};
use super::names;
use super::options::{MountSource, NetworkMode, RunOptions};
use super::record::{Record, VERSION};
use super::sharing::{self, Sharing};
use super::state::now;
use super::volumes;
use crate::image::Store;
use crate::image::union::Union;
use crate::layout::{Root, mkdir_all};
use crate::network::endpoint::Attachment;
use crate::sys::dir::Dir;
use crate::sys::file::Ownership;
use crate::sys::random;
use crate::volume::Volumes;
use anyhow::{Context, Result, anyhow, bail};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The image that a container is to be made from is not in the store.
#[derive(Debug)]
pub struct NoSuchImage(pub String);

impl std::fmt::Display for NoSuchImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "No such image: {}", self.0)
    }
}

impl std::error::Error for NoSuchImage {}

/// Makes a container from the image that `image` names. Without a name it gets a generated one.
///
/// # Errors
/// [`NoSuchImage`]; a name that is taken; a command that is missing; a volume that cannot be made.
pub fn create(root: &Root, image: &str, name: Option<&str>, mut options: RunOptions) -> Result<Container> {
    sharing::by_id(&Containers::open(root), &mut options)?;
    let _making = root.lock_for_making()?;
    let store = Store::open(root);
    let found = store.find(image)?.ok_or_else(|| anyhow!(NoSuchImage(image.to_owned())))?;
    let id = random::hex::<32>();
    let (options, networks) = settle_network(root, options)?;
    let decided = volumes::decide(root, &found, &options)?;
    let mut record = Record {
        version: VERSION,
        name: String::new(),
        created: now(),
        image: found.id,
        image_name: image.to_owned(),
        base: found.config.clone(),
        options,
        mounts: decided.mounts.clone(),
        networks,
        id,
    };
    if record.command_line().is_empty() {
        bail!("No command specified");
    }
    let layers = store.open_layers(record.base.rootfs.diff_ids.as_slice())?;
    let union = Union::new(layers);
    let draft = Draft::new(root, &record.id)?;
    record.name = claim_name(root, name, &record.id)?;
    let made = draft.fill(&record, &union).and_then(|()| volumes::make(root, &record, &union));
    if let Err(error) = made.and_then(|()| draft.publish(root, &record)) {
        for point in record.mounts.iter().filter(|m| m.anonymous && !m.tuning.no_copy) {
            if let MountSource::Volume(name) = &point.source {
                let _ = Volumes::open(root).remove(name);
            }
        }
        let _ = Containers::open(root).free_name(&record.name, &record.id);
        return Err(error);
    }
    let container = Container { root: root.clone(), record };
    container.tell("create", &[]);
    Ok(container)
}

/// The networks to be in, by their names; refuses what is not there, and what cannot be given. Whose network is shared is
/// called by its id. In the host's network a container has the host's name unless it was given one.
fn settle_network(root: &Root, mut options: RunOptions) -> Result<(RunOptions, Vec<Attachment>)> {
    if let NetworkMode::Container(name) = &options.network {
        let owner = Containers::open(root).find(name)?.record;
        options.hostname = Some(owner.hostname());
        options.network = NetworkMode::Container(owner.id);
    }
    if options.network == NetworkMode::Host && !matches!(options.uts, Sharing::Container(_)) {
        let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        options.hostname.get_or_insert_with(own);
    }
    let mut asked = Record::asked_networks(&options);
    for attachment in &mut asked {
        attachment.network = networks(root).check(attachment)?.name;
        settle_links(root, attachment)?;
    }
    Ok((options, asked))
}

fn claim_name(root: &Root, wanted: Option<&str>, id: &str) -> Result<String> {
    let containers = Containers::open(root);
    if let Some(name) = wanted {
        containers.claim_name(name, id)?;
        return Ok(name.to_owned());
    }
    let mut refused = None;
    for attempt in 0..100 {
        let name = names::generate(random::bytes::<8>(), attempt);
        match containers.claim_name(&name, id) {
            Ok(()) => return Ok(name),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused
        .unwrap_or_else(|| anyhow!("no attempt was made"))
        .context("no free name was found; give one with --name"))
}

/// A missing host path is made as a directory if that was asked for.
pub fn prepare_bind(path: &Path, create: bool) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && create => {
            make_host_folder(path).with_context(|| format!("make the volume's host path {}", path.display()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("invalid mount config for type \"bind\": bind source path does not exist: {}", path.display())
        }
        Err(e) => Err(e).with_context(|| format!("look at the volume's host path {}", path.display())),
    }
}

/// As Docker does it: with the same modes whatever the caller's umask is.
fn make_host_folder(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| p.symlink_metadata().is_err()).collect();
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.and_then(|()| std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)))?,
        }
    }
    Ok(())
}

/// A container's folder in the making, owned by us so that its name is not given away.
struct Draft {
    path: PathBuf,
    published: std::cell::Cell<bool>,
    _ownership: Ownership,
}

impl Draft {
    fn new(root: &Root, id: &str) -> Result<Draft> {
        let path = root.join("tmp").join(id);
        mkdir_all(&path)?;
        let taken = Ownership::take(&path.join("lock")).context("take the new container's lock")?;
        let ownership = taken.context("the new container is somebody else's")?;
        Ok(Draft { path, published: false.into(), _ownership: ownership })
    }

    fn fill(&self, record: &Record, union: &Union) -> Result<()> {
        for sub in ["upper", "work"] {
            let path = self.path.join(sub);
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            made.with_context(|| format!("make {}", path.display()))?;
        }
        // The container's / looks as the image's, though it is the upper directory that it shows.
        if let Some(stat) = union.stat(Path::new("/")).context("look at the image's root")? {
            let dir = Dir::open(&self.path)?;
            dir.chown("upper", stat.st_uid, stat.st_gid)?;
            dir.chmod("upper", stat.st_mode)?;
        }
        let json = serde_json::to_vec(record).context("write the container's record")?;
        let path = self.path.join("container.json");
        std::fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        Ok(())
    }

    /// A container that is thrown away anyway need not survive a power cut.
    fn publish(&self, root: &Root, record: &Record) -> Result<()> {
        let target = root.join("containers").join(&record.id);
        let what = || format!("make the container {}", record.name);
        if !record.options.remove {
            std::fs::File::open(self.path.join("container.json")).and_then(|f| f.sync_all()).with_context(what)?;
        }
        std::fs::rename(&self.path, &target).with_context(what)?;
        self.published.set(true);
        if !record.options.remove
            && let Err(error) = crate::sys::file::sync_parent(&target)
        {
            root.discard(&target)?;
            return Err(error).with_context(what);
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published.get()
            && let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name())
            && let Ok(parent) = Dir::open(parent)
        {
            let _ = parent.remove_tree(name);
        }
    }
}
