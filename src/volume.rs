//! Volumes: data that lives outside of every union file system and outlives containers.
//!
//! ```text
//! <root>/volumes/<name>/data        what containers see
//!                       meta.json   when and how it was made
//! <root>/volumes.lock               shared by those who begin to use volumes, exclusive for removing and renaming them
//! ```
//! A volume is made in `tmp/`, with whatever it starts with, and renamed into its place: what is there is whole.

use crate::image::transfer::{Place, Sink, Tar, Way, pack_directory, unpack};
use crate::image::union::Union;
use crate::journal;
use crate::layout::{Root, Scratch};
use crate::sys::dir::{Dir, file_type};
use crate::sys::file::{Durability, Lock, LockMode, read_limited, sync_parent, write_atomic};
use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The label of volumes that nobody gave a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The volumes of a store.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: Root,
}

/// What is known about a volume beside its data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// RFC 3339.
    pub created: String,
    /// What users say about it.
    pub labels: BTreeMap<String, String>,
    /// What is mounted instead of the data: `type`, `device` and `o` as for mount(8).
    pub options: BTreeMap<String, String>,
}

impl Meta {
    /// That of a volume made now.
    pub fn new(labels: BTreeMap<String, String>, options: BTreeMap<String, String>) -> Meta {
        Meta { created: jiff::Timestamp::now().to_string(), labels, options }
    }
}

/// One volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where its data is.
    pub data: PathBuf,
    /// The rest.
    pub meta: Meta,
}

/// What a container mounts for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder of the host.
    Folder {
        /// Where it is.
        path: PathBuf,
        /// As for mount(8), of [`BIND_OPTIONS`].
        options: Vec<String>,
    },
    /// A file system of its own.
    FileSystem {
        /// As in /proc/filesystems.
        kind: String,
        /// What it is on.
        device: String,
        /// As for mount(8).
        options: Vec<String>,
    },
}

impl Volume {
    /// Whether it got a generated name.
    pub fn is_anonymous(&self) -> bool {
        self.meta.labels.contains_key(ANONYMOUS)
    }

    /// What a container mounts for it.
    pub fn source(&self) -> Source {
        let option = |key: &str| self.meta.options.get(key).map_or("", String::as_str);
        let words: Vec<String> = option("o").split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        let is_bind = words.iter().any(|w| w == "bind" || w == "rbind") || matches!(option("type"), "bind" | "none");
        if self.meta.options.is_empty() {
            Source::Folder { path: self.data.clone(), options: Vec::new() }
        } else if is_bind {
            let options = words.into_iter().filter(|w| BIND_OPTIONS.contains(&w.as_str())).collect();
            Source::Folder { path: PathBuf::from(option("device")), options }
        } else {
            Source::FileSystem { kind: option("type").into(), device: option("device").into(), options: words }
        }
    }

    /// Opens the folder with its content.
    ///
    /// # Errors
    /// A volume that is a file system of its own, which only containers mount.
    fn content(&self) -> Result<Dir> {
        match self.source() {
            Source::Folder { path, .. } => Dir::open(&path).with_context(|| format!("open {}", path.display())),
            Source::FileSystem { kind, device, .. } => bail!(
                "the volume {} is a file system ({kind} on {device}) that only containers mount; run one with it",
                self.name
            ),
        }
    }

    /// Bytes of its own regular files, those with several names once: what goes with it. What its options name stays.
    pub fn size(&self) -> Result<u64> {
        let data = Dir::open(&self.data).with_context(|| format!("open the volume {}", self.name))?;
        data.tree_size().with_context(|| format!("measure the volume {}", self.name))
    }

    /// Writes a tar of what is in it.
    pub fn export(&self, out: &mut dyn Write) -> Result<()> {
        let what = || format!("export the volume {}", self.name);
        let data = self.content().with_context(what)?;
        let mut tar = Tar(out);
        pack_directory(&data, b".", &mut tar).and_then(|()| tar.finish()).with_context(what)
    }
}

/// What may be said of a bind mount.
const BIND_OPTIONS: [&str; 23] = [
    "defaults",
    "async",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
];

/// That these options of a driver make sense.
///
/// # Errors
/// Docker's: others than `type`, `device` and `o`, and those without the ones that they need.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(bad) = options.keys().find(|k| !["type", "device", "o"].contains(&k.as_str())) {
        bail!("invalid option: {bad:?}");
    }
    let words = || options.get("o").iter().flat_map(|o| o.split(',')).filter(|w| !w.is_empty()).collect::<Vec<_>>();
    let is_bind = |w: &&str| matches!(*w, "bind" | "rbind");
    let kind = options.get("type").map(String::as_str);
    if words().iter().any(is_bind) || matches!(kind, Some("bind" | "none")) {
        let unknown = words().into_iter().find(|w| !is_bind(w) && !BIND_OPTIONS.contains(w));
        if let Some(unknown) = unknown {
            bail!("invalid option: a bind mount cannot be {unknown:?}");
        }
    }
    match (kind, options.get("device")) {
        _ if options.is_empty() => Ok(()),
        (None, _) => bail!("missing required option: \"type\""),
        (_, None) => bail!("missing required option: \"device\""),
        _ => Ok(()),
    }
}

impl Volumes {
    /// The volumes of `root`.
    pub fn open(root: &Root) -> Volumes {
        Volumes { root: root.clone() }
    }

    /// Where the data of a volume is.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder(name).join("data")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// Keeps volumes from being removed and renamed until somebody who can be seen uses them.
    pub fn lock_for_using(&self) -> Result<Lock> {
        Lock::wait(&self.root.join("volumes.lock"), LockMode::Shared).context("lock the volumes")
    }

    /// Keeps everybody from beginning to use a volume.
    pub fn lock_for_removing(&self) -> Result<Lock> {
        Lock::wait(&self.root.join("volumes.lock"), LockMode::Exclusive).context("lock the volumes")
    }

    /// Whether there is a volume of this name.
    pub fn exists(&self, name: &str) -> bool {
        self.data(name).exists()
    }

    /// A volume by its name.
    pub fn get(&self, name: &str) -> Option<Volume> {
        let (folder, data) = (self.folder(name), self.data(name));
        let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        // The data is what counts: what is known about it may have been lost in a power cut.
        let meta = || {
            let text = read_limited(&folder.join("meta.json"), 1 << 20).ok();
            text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
        };
        (is_plain && data.exists()).then(|| Volume { name: name.to_owned(), data: data.clone(), meta: meta() })
    }

    /// All volumes, by name.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let names = Dir::open(self.root.join("volumes")).and_then(|d| d.names()).context("list the volumes")?;
        Ok(names.into_iter().filter_map(|n| self.get(n.to_str()?)).collect())
    }

    /// Makes a volume, unless it is there. A new one starts with what the image has at `content`: files, owner, mode.
    pub fn ensure(&self, name: &str, meta: impl FnOnce() -> Meta, content: Option<(&Union, &Path)>) -> Result<()> {
        if self.exists(name) {
            return content.map_or(Ok(()), |(image, target)| self.fill(name, image, target));
        }
        let what = || format!("make the volume {name}");
        let draft = self.draft(&meta()).with_context(what)?;
        if let Some((image, target)) = content {
            fill_from(image, target, &draft.data).with_context(|| format!("fill the volume {name} from the image"))?;
        }
        match (self.publish(&draft, name).with_context(what)?, content) {
            // Somebody else was faster, perhaps without content.
            (false, Some((image, target))) => self.fill(name, image, target),
            _ => Ok(()),
        }
    }

    /// A volume in the making.
    fn draft(&self, meta: &Meta) -> Result<Draft> {
        let making = self.root.lock_for_making()?;
        let scratch = self.root.scratch()?;
        let data = scratch.path().join("data");
        std::fs::create_dir(&data)?;
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755))?;
        // What is mounted for the volume must not be lost, or data would go to the wrong place.
        let lasting = !meta.options.is_empty();
        let durability = if lasting { Durability::Synced } else { Durability::Atomic };
        write_atomic(&scratch.path().join("meta.json"), &serde_json::to_vec(meta)?, durability)?;
        Ok(Draft { data: Dir::open(&data)?, scratch, lasting, _making: making })
    }

    /// Puts it in its place. False if there is a volume of this name.
    fn publish(&self, draft: &Draft, name: &str) -> Result<bool> {
        match std::fs::rename(draft.scratch.path(), self.folder(name)) {
            Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => Ok(false),
            other => {
                other?;
                if draft.lasting {
                    sync_parent(&self.folder(name))?;
                }
                self.tell("create", name);
                Ok(true)
            }
        }
    }

    fn publish_new(&self, draft: &Draft, name: &str) -> Result<()> {
        match self.publish(draft, name)? {
            true => Ok(()),
            false => bail!("a volume named {name} already exists"),
        }
    }

    fn tell(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        journal::record(&self.root, "volume", action, name, attributes);
    }

    /// Fills an empty volume with what the image has at `target`.
    fn fill(&self, name: &str, image: &Union, target: &Path) -> Result<()> {
        let what = || format!("fill the volume {name} from the image");
        let _filling = self.lock_for_filling(name)?;
        let Some(Source::Folder { path: folder, options }) = self.get(name).map(|v| v.source()) else { return Ok(()) };
        if options.iter().any(|o| o == "ro") {
            return Ok(());
        }
        let data = Dir::open(folder).with_context(what)?;
        if !data.names().with_context(what)?.is_empty() {
            return Ok(());
        }
        // Copied aside, and then moved as fast as can be: half of it would pass for the user's own.
        let draft = self.draft(&Meta::default()).with_context(what)?;
        if !fill_from(image, target, &draft.data).with_context(what)? {
            return Ok(());
        }
        // A container that fills nothing may have written meanwhile.
        let is_empty = || data.names().with_context(what).map(|names| names.is_empty());
        if is_empty()? && !move_all(&draft.data, &data).with_context(what)? && is_empty()? {
            pour(&draft.data, data).with_context(what)?;
        }
        Ok(())
    }

    /// Of those who find a volume empty only one puts something in; the others see it then.
    fn lock_for_filling(&self, name: &str) -> Result<Lock> {
        Lock::wait_folder(&self.folder(name)).with_context(|| format!("lock the volume {name}"))
    }

    /// Removes a volume; the data is deleted when the trash is emptied. A missing one is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        let existed = self.exists(name);
        self.root.discard(&self.folder(name)).with_context(|| format!("remove the volume {name}"))?;
        if existed {
            self.tell("destroy", name);
        }
        Ok(())
    }

    /// Gives a volume another name. The caller holds the volumes' lock alone.
    ///
    /// # Errors
    /// A name that another volume has.
    pub fn rename(&self, old: &str, new: &str) -> Result<()> {
        if self.exists(new) {
            bail!("a volume named {new} already exists");
        }
        std::fs::rename(self.folder(old), self.folder(new)).with_context(|| format!("rename the volume {old} to {new}"))
    }

    /// Makes a volume with what another one has in it.
    ///
    /// # Errors
    /// A name that a volume has already.
    pub fn clone_volume(&self, from: &Volume, name: &str) -> Result<()> {
        let what = || format!("clone the volume {} as {name}", from.name);
        // The content becomes its own, whatever place the options of the first one name.
        let mut meta = Meta::new(from.meta.labels.clone(), BTreeMap::new());
        meta.labels.remove(ANONYMOUS);
        let data = from.content().with_context(what)?;
        let draft = self.draft(&meta).with_context(what)?;
        let tree = Union::new(vec![data]);
        tree.copy_tree(Path::new("/"), &draft.data).with_context(what)?;
        self.publish_new(&draft, name).with_context(what)
    }

    /// Adds what is in a tar to a volume, which is made if it is missing.
    ///
    /// # Errors
    /// A broken archive changes nothing.
    pub fn import(&self, name: &str, source: impl Read + Send) -> Result<()> {
        let what = || format!("import into the volume {name}");
        let draft = self.draft(&Meta::new(BTreeMap::new(), BTreeMap::new())).with_context(what)?;
        let mut place = Place::new(draft.data.try_clone()?, Way::Made, "the volume", None);
        place.make_parents();
        unpack(source, &mut place).with_context(what)?;
        let _using = self.lock_for_using()?;
        if !self.exists(name) {
            return self.publish_new(&draft, name).with_context(what);
        }
        let _filling = self.lock_for_filling(name)?;
        let volume = self.get(name).with_context(what)?;
        let data = volume.content().with_context(what)?;
        if data.names().with_context(what)?.is_empty() && move_all(&draft.data, &data).with_context(what)? {
            return Ok(());
        }
        pour(&draft.data, data).with_context(what)
    }
}

/// A volume in the making; it vanishes unless it is published.
struct Draft {
    data: Dir,
    scratch: Scratch,
    /// It is to be on disk when it is there.
    lasting: bool,
    /// Nobody sweeps it away.
    _making: Lock,
}

/// Copies what the image has at `target`, if that is a folder. True if there was anything.
fn fill_from(image: &Union, target: &Path, to: &Dir) -> Result<bool> {
    match image.stat(target)? {
        Some(stat) if file_type(&stat) == FileType::Directory => image.copy_tree(target, to).map(|()| true),
        _ => Ok(false),
    }
}

/// Adds what is in one folder to another, which gets its attributes.
fn pour(from: &Dir, to: Dir) -> Result<()> {
    let mut place = Place::new(to, Way::Made, "the volume", None);
    pack_directory(from, b".", &mut place)?;
    place.finish()
}

/// Moves everything from one folder into another, which gets its attributes. False if that cannot be, and some was not
/// moved: somebody has put something there meanwhile, or it is elsewhere.
fn move_all(from: &Dir, to: &Dir) -> Result<bool> {
    for name in from.names()? {
        match from.rename_new(&name, to, &name) {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::CrossesDevices | ErrorKind::InvalidInput
                ) =>
            {
                return Ok(false);
            }
            other => other?,
        }
    }
    crate::image::transfer::describe_directory(from, to)?;
    Ok(true)
}
