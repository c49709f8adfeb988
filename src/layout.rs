//! The two folders that minirun owns, and the rules that keep them whole.
//!
//! ```text
//! <root>/format        version of this layout
//! <root>/lock          shared by makers of content, exclusive for removing content and for sweeping
//! <root>/blobs/sha256  OCI content               (image room)
//! <root>/index.json    references                (image room)
//! <root>/reserve       room on the disk for removing images when it is full  (image room)
//! <root>/layers        unpacked layers           (image room)
//! <root>/containers    one folder a container    (container room)
//! <root>/names         container name -> id      (container room)
//! <root>/volumes       one folder a volume       (volume room)
//! <root>/networks      one file a network        (network room)
//! <root>/volumes.lock  shared by those who begin to use volumes, exclusive for removing them
//! <root>/stubs         the places that every container has mounts on; below all images' layers
//! <root>/rootfs        where every container's root is mounted, each in its own mount namespace
//! <root>/partial       blobs that a pull has received in part, to be continued  (image room)
//! <root>/build         what builds keep: records of steps, cache mounts, hashes  (build room)
//! <root>/tmp           everything half made; whole things are renamed out of it
//! <root>/events        what has happened        (journal room)
//! <root>/trash         what is being deleted: renamed here first, emptied later
//! <state>/network-…    addresses and ports in use (network room)
//! <state>/<id>         pids, sockets and bundles of running containers; lost at reboot
//! ```

use crate::sys::dir::Dir;
use crate::sys::file::{Lock, LockMode};
use crate::sys::random;
use anyhow::{Context, Result, bail};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const FORMAT: &str = "minirun layout 1\n";

/// The store's folder, checked and ready, and the folder of volatile state.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    state: PathBuf,
    unpack_limit: Option<u64>,
}

impl Root {
    /// Opens the store at `path`, laying it out if it is new.
    ///
    /// # Errors
    /// A layout of another version is refused and not touched.
    pub fn open(path: &Path, state: &Path) -> Result<Root> {
        let root = Root { path: absolute(path)?, state: absolute(state)?, unpack_limit: None };
        match std::fs::read_to_string(root.path.join("format")) {
            Ok(text) if text == FORMAT => {}
            Ok(text) => bail!(
                "{} has the layout {:?}, which this version of minirun does not know",
                root.path.display(),
                text.trim()
            ),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                root.lay_out().with_context(|| format!("prepare the store {}", root.path.display()))?
            }
            Err(e) => return Err(e).with_context(|| format!("read the store {}", root.path.display())),
        }
        Ok(root)
    }

    fn lay_out(&self) -> Result<()> {
        let has_other_content = match std::fs::read_dir(&self.path) {
            Ok(mut entries) => entries.any(|e| e.is_ok_and(|e| !is_ours(&e.file_name()))),
            Err(_) => false,
        };
        // Whoever was faster may already have files in the making.
        if has_other_content && self.path.join("format").exists() {
            return Ok(());
        }
        if has_other_content {
            bail!("the folder is not empty and was not made by minirun");
        }
        mkdir_all(&self.path)?;
        for sub in SUBFOLDERS {
            mkdir_all(&self.path.join(sub))?;
        }
        make_stubs(&self.path.join("stubs"))?;
        use crate::sys::file::{Durability, write_atomic};
        Ok(write_atomic(&self.path.join("format"), FORMAT.as_bytes(), Durability::Synced)?)
    }

    /// Sets how many bytes one archive or layer may unpack to. Without a limit of the user's it is most of what is free.
    pub fn with_unpack_limit(self, limit: Option<u64>) -> Root {
        Root { unpack_limit: limit, ..self }
    }

    fn unpack_limit(&self) -> u64 {
        let free = || rustix::fs::statvfs(&self.path).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        self.unpack_limit.unwrap_or_else(|| free().map_or(u64::MAX, |free| free / 10 * 9))
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the store's folder.
    pub fn join(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.path.join(sub)
    }

    /// The folder of volatile state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Takes the store's lock as a maker of content and, if nobody else is at work, sweeps what killed makers left.
    pub fn lock_for_making(&self) -> Result<Lock> {
        let path = self.path.join("lock");
        if let Some(_alone) = Lock::attempt(&path, LockMode::Exclusive).context("lock the store")? {
            self.sweep();
        }
        Lock::wait(&path, LockMode::Shared).context("lock the store")
    }

    /// Takes the store's lock alone, to remove content.
    pub fn lock_for_removing(&self) -> Result<Lock> {
        Lock::wait(&self.path.join("lock"), LockMode::Exclusive).context("lock the store")
    }

    /// The same if nobody else is at work, and nothing otherwise.
    pub fn try_lock_for_removing(&self) -> Result<Option<Lock>> {
        Lock::attempt(&self.path.join("lock"), LockMode::Exclusive).context("lock the store")
    }

    /// A new empty folder below `tmp`. It is removed again unless it was renamed away.
    pub fn scratch(&self) -> Result<Scratch> {
        let path = self.path.join("tmp").join(random::hex::<8>());
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch { path, limit: self.unpack_limit(), _held: None })
    }

    /// The same for work that takes long: it is not swept while this process lives, also without the store's lock.
    pub fn staging(&self) -> Result<Scratch> {
        // While it is being made nobody sweeps.
        let _making = self.lock_for_making()?;
        let mut scratch = self.scratch()?;
        let held = Lock::attempt_folder(&scratch.path, LockMode::Exclusive).context("hold a scratch folder")?;
        scratch._held = Some(held.context("a new scratch folder is held by somebody else")?);
        Ok(scratch)
    }

    /// A new folder below `tmp` for work that takes long: it holds no lock of the store's, but one of its own.
    pub fn workshop(&self) -> Result<Workshop> {
        let _making = self.lock_for_making()?;
        let scratch = self.scratch()?;
        let lock = Lock::wait(&scratch.path.join(WORKSHOP_LOCK), LockMode::Exclusive).context("lock the workshop")?;
        Ok(Workshop { scratch, lock })
    }

    /// What the owners of workshops that are alive said by [`Workshop::lease`], one by one.
    pub fn leases(&self) -> Result<Vec<String>> {
        let mut leases = Vec::new();
        let tmp = Dir::open(self.path.join("tmp")).context("open the store's tmp")?;
        for name in tmp.names().context("read the store's tmp")? {
            let folder = self.path.join("tmp").join(name);
            if is_owned(&folder) {
                let text = std::fs::read_to_string(folder.join(LEASES)).unwrap_or_default();
                leases.extend(text.lines().map(str::to_owned));
            }
        }
        Ok(leases)
    }

    /// Renames `path` out of sight, to be deleted by [`Root::empty_trash`]. A missing path is fine.
    pub fn discard(&self, path: &Path) -> Result<()> {
        match std::fs::rename(path, self.path.join("trash").join(random::hex::<8>())) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is anything for [`Root::empty_trash`] to do.
    pub fn has_trash(&self) -> bool {
        self.path.join("trash").read_dir().is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Deletes what was discarded. Call it when the user has his answer: it can be slow.
    ///
    /// One at a time: two that delete the same trees only get in each other's way. Who finds somebody at it leaves all to
    /// him and does not wait, as the trees of others may take long: who has had the lock looks once more when it is free
    /// again, and finds what was discarded before anybody asked for it.
    pub fn empty_trash(&self) {
        // Nobody cleans up after others for ever.
        const ROUNDS: usize = 100;
        let Ok(trash) = Dir::open(self.path.join("trash")) else { return };
        let mut before = Vec::new();
        for _ in 0..ROUNDS {
            let lock = Lock::attempt(&self.path.join("trash.lock"), LockMode::Exclusive);
            let Ok(Some(alone)) = lock else { return };
            let names = trash.names().unwrap_or_default();
            for name in &names {
                let _ = trash.remove_tree(name);
            }
            drop(alone);
            // What cannot be deleted now stays for the next one.
            if !self.has_trash() || (names == before && !names.is_empty()) {
                return;
            }
            before = names;
        }
    }

    /// Moves everything in `tmp` to the trash. The caller holds the lock alone, so nobody is making anything.
    fn sweep(&self) {
        let Ok(tmp) = Dir::open(self.path.join("tmp")) else { return };
        for name in tmp.names().unwrap_or_default() {
            let path = self.path.join("tmp").join(name);
            // Somebody works in there without the store's lock.
            if path.is_dir() && matches!(Lock::attempt_folder(&path, LockMode::Exclusive), Ok(None)) {
                continue;
            }
            if !is_owned(&path) {
                let _ = self.discard(&path);
            }
        }
    }
}

const WORKSHOP_LOCK: &str = "lock";
const LEASES: &str = "leases";

/// Whether a folder below `tmp` is the workshop of somebody who lives.
fn is_owned(folder: &Path) -> bool {
    let lock = folder.join(WORKSHOP_LOCK);
    lock.exists() && matches!(Lock::attempt(&lock, LockMode::Shared), Ok(None))
}

/// A folder below `tmp` that stays while its owner lives, whoever removes content meanwhile.
#[derive(Debug)]
pub struct Workshop {
    scratch: Scratch,
    lock: Lock,
}

impl Workshop {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Its lock, for a process that is to share the ownership.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// A new empty folder in it.
    pub fn scratch(&self) -> Result<Scratch> {
        let path = self.path().join(random::hex::<8>());
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch { path, limit: self.scratch.limit, _held: None })
    }

    /// Writes down what the owner needs of the store. The caller holds the store's lock as a maker, so that nobody
    /// who removes content misses it.
    pub fn lease(&self, what: &[String]) -> Result<()> {
        use std::io::Write;
        let text: String = what.iter().map(|line| format!("{line}\n")).collect();
        let file = std::fs::File::options().append(true).create(true).open(self.path().join(LEASES));
        file.and_then(|mut file| file.write_all(text.as_bytes())).context("write down what is in use")
    }
}

/// A folder below `tmp` that vanishes with this value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    limit: u64,
    _held: Option<Lock>,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that one archive may unpack to in here.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name())
            && let Ok(parent) = Dir::open(parent)
        {
            let _ = parent.remove_tree(name);
        }
    }
}

const SUBFOLDERS: [&str; 8] = ["blobs/sha256", "layers", "containers", "names", "volumes", "rootfs", "tmp", "trash"];

fn is_ours(name: &std::ffi::OsStr) -> bool {
    let known = [
        "blobs",
        "layers",
        "containers",
        "names",
        "volumes",
        "networks",
        "volumes.lock",
        "stubs",
        "rootfs",
        "partial",
        "tmp",
        "trash",
        "trash.lock",
        "lock",
        "index.json",
        "index.lock",
        "summaries.json",
        "reserve",
        "mounts.lock",
        "build",
        "events",
        "events.1",
        "events.lock",
        "lost+found",
    ];
    known.iter().any(|k| name == *k) || name.as_encoded_bytes().starts_with(b".format.")
}

/// The lowest layer of every container: an image without these places, and without the link that programs look for mounts
/// by, gets them from here, and its own layers and the container's changes stay free of them.
fn make_stubs(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for directory in ["", "dev", "etc", "proc", "sys"] {
        let directory = path.join(directory);
        mkdir_all(&directory)?;
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755))?;
    }
    for file in [".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        let file = path.join(file);
        std::fs::File::create(&file)?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644))?;
    }
    // Who makes a store and is killed may leave it to the next.
    match std::os::unix::fs::symlink("/proc/mounts", path.join("etc/mtab")) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e.into()),
        _ => Ok(()),
    }
}

/// Makes a folder and its missing parents, for root's eyes only.
pub fn mkdir_all(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn nobody_waits_for_the_trash_of_others_and_nothing_stays_in_it() {
        let folder = std::env::temp_dir().join(format!("minirun-layout-{}", random::hex::<8>()));
        let root = Root::open(&folder.join("root"), &folder.join("state")).unwrap();
        let discard = |name: &str| {
            std::fs::create_dir(folder.join(name)).unwrap();
            root.discard(&folder.join(name)).unwrap();
        };
        discard("first");
        let busy = Lock::attempt(&root.join("trash.lock"), LockMode::Exclusive).unwrap();
        std::thread::scope(|scope| {
            let (done, is_done) = channel();
            let root = &root;
            scope.spawn(move || {
                root.empty_trash();
                done.send(()).unwrap();
            });
            let returned = is_done.recv_timeout(Duration::from_secs(20));
            drop(busy);
            assert!(returned.is_ok(), "it waits for who has the lock");
        });
        assert!(root.has_trash());
        // Many that discard and leave it to one another.
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (discard, root) = (&discard, &root);
                scope.spawn(move || {
                    for n in 0..50 {
                        discard(&format!("{thread}-{n}"));
                        root.empty_trash();
                    }
                });
            }
        });
        assert!(!root.has_trash());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
