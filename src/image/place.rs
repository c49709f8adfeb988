//! Making a new layer's folder on a thread of its own, step by step as a walk finds what belongs into it.

use super::apply::OPAQUE_XATTR;
use super::layer::NewLayer;
use super::tar::{Entry, Kind};
use crate::sys::dir::Dir;
use anyhow::{Context, Result, anyhow};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

/// Steps go in batches: waking the thread for each of a hundred thousand small ones costs more than their work.
const BATCH: usize = 256;
/// Bytes of content that make a batch full.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait.
const WAITING: usize = 4;

/// One step in the current directory.
pub enum Step {
    /// Makes a directory and goes into it.
    Enter {
        name: OsString,
        opaque: bool,
    },
    /// Goes out of a directory and gives it its attributes.
    Leave(OsString, Entry),
    Whiteout(OsString),
    /// Makes anything else. What has several names brings an identity.
    Make {
        name: OsString,
        entry: Entry,
        linked: Option<(u64, u64)>,
    },
    /// Bytes of the file that was just made, and where they belong.
    Content(u64, Vec<u8>),
    /// The file has all of its content.
    Complete,
}

/// The way to the thread.
pub struct Placer {
    sender: SyncSender<Vec<Step>>,
    batch: Vec<Step>,
    bytes: usize,
}

impl Placer {
    /// # Errors
    /// The thread has stopped; [`on_a_thread`] knows why.
    pub fn send(&mut self, step: Step) -> Result<()> {
        if let Step::Content(_, bytes) = &step {
            self.bytes += bytes.len();
        }
        self.batch.push(step);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what has not been sent yet.
    ///
    /// # Errors
    /// As [`Placer::send`].
    pub fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender.send(batch).map_err(|_| anyhow!("the new layer cannot be made"))
    }
}

/// Makes what `work` says (and has flushed) in the folder of `layer`. An error of the making is the one that counts.
pub fn on_a_thread<T>(layer: &NewLayer, work: impl FnOnce(Placer) -> Result<T>) -> Result<T> {
    std::thread::scope(|scope| {
        let (sender, steps) = sync_channel(WAITING);
        let making = Builder::new().spawn_scoped(scope, move || Making::new(&layer.fs)?.run(&steps));
        let making = making.context("start a thread")?;
        let result = work(Placer { sender, batch: Vec::with_capacity(BATCH), bytes: 0 });
        making.join().map_err(|_| anyhow!("a thread has ended unexpectedly"))??;
        result
    })
}

/// The file whose content is coming.
struct Open {
    file: File,
    name: OsString,
    entry: Entry,
    /// Where the content that has come ends.
    end: u64,
}

struct Making {
    /// The current directory is the last one.
    folders: Vec<Dir>,
    /// The first names of what has several.
    linked: HashMap<(u64, u64), (Dir, OsString)>,
    open: Option<Open>,
}

impl Making {
    fn new(top: &Dir) -> Result<Making> {
        Ok(Making { folders: vec![top.try_clone()?], linked: HashMap::new(), open: None })
    }

    fn run(mut self, steps: &Receiver<Vec<Step>>) -> Result<()> {
        steps.iter().flatten().try_for_each(|step| self.step(step)).context("make the new layer")
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let here = self.folders.last().context("there is no folder")?;
        match step {
            Step::Enter { name, opaque } => {
                here.mkdir(&name, 0o700).with_context(|| format!("make {}", shown(&name)))?;
                let dir = here.child(&name)?;
                if opaque {
                    dir.set_xattr(".", OPAQUE_XATTR, b"y")?;
                }
                self.folders.push(dir);
            }
            Step::Leave(name, entry) => {
                self.folders.pop();
                let parent = self.folders.last().context("there is no folder")?;
                describe(parent, &name, &entry)?;
            }
            Step::Whiteout(name) => {
                here.mknod(&name, FileType::CharacterDevice, 0, 0).context("make a whiteout")?;
                here.set_mtime(&name, 0, 0)?;
            }
            Step::Make { name, entry, linked } => self.make(name, entry, linked)?,
            Step::Content(at, bytes) => {
                let open = self.open.as_mut().context("there is no file")?;
                open.file.write_all_at(&bytes, at).with_context(|| format!("write {}", shown(&open.name)))?;
                open.end = at + bytes.len() as u64;
            }
            Step::Complete => {
                let Open { file, name, entry, end } = self.open.take().context("there is no file")?;
                if end < entry.size {
                    file.set_len(entry.size).context("set the file's size")?;
                }
                describe_file(&file, here, &name, &entry)?;
            }
        }
        Ok(())
    }

    fn make(&mut self, name: OsString, entry: Entry, linked: Option<(u64, u64)>) -> Result<()> {
        let here = self.folders.last().context("there is no folder")?;
        if let Some(identity) = linked {
            if let Some((dir, first)) = self.linked.get(&identity) {
                return here.link(dir, first, &name).with_context(|| format!("link {}", shown(&name)));
            }
            self.linked.insert(identity, (here.try_clone()?, name.clone()));
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let made = match entry.kind {
            Kind::File if entry.size > 0 => {
                let file = here.create(&name, entry.mode & 0o777).with_context(|| format!("make {}", shown(&name)))?;
                self.open = Some(Open { file, name, entry, end: 0 });
                return Ok(());
            }
            Kind::File => here.create(&name, 0o600).map(drop),
            Kind::Symlink => here.symlink(OsStr::from_bytes(&entry.link), &name),
            Kind::Fifo => here.mknod(&name, FileType::Fifo, 0o600, 0),
            Kind::CharDevice => here.mknod(&name, FileType::CharacterDevice, 0o600, device),
            Kind::BlockDevice => here.mknod(&name, FileType::BlockDevice, 0o600, device),
            Kind::Directory | Kind::HardLink => return Err(anyhow!("{} comes out of order", shown(&name))),
        };
        made.with_context(|| format!("make {}", shown(&name)))?;
        describe(here, &name, &entry)
    }
}

/// Sets owner, mode, extended attributes and time.
fn describe(dir: &Dir, name: &OsStr, entry: &Entry) -> Result<()> {
    dir.chown(name, entry.uid, entry.gid).context("set the owner")?;
    if entry.kind != Kind::Symlink {
        dir.chmod(name, entry.mode).context("set the mode")?;
    }
    set_xattrs(dir, name, entry)?;
    dir.set_mtime(name, entry.mtime.0, entry.mtime.1).context("set the time")
}

/// As [`describe`] for a file that is open and was made with its mode: what is right already is not written again.
fn describe_file(file: &File, dir: &Dir, name: &OsStr, entry: &Entry) -> Result<()> {
    use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid};
    let io = std::io::Error::from;
    let stat = rustix::fs::fstat(file).map_err(io)?;
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(io).context("set the owner")?;
    }
    if stat.st_mode & 0o7777 != entry.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(io).context("set the mode")?;
    }
    set_xattrs(dir, name, entry)?;
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(file, &times).map_err(io).context("set the time")
}

fn set_xattrs(dir: &Dir, name: &OsStr, entry: &Entry) -> Result<()> {
    entry.xattrs.iter().try_for_each(|(key, value)| {
        let key = OsStr::from_bytes(key);
        dir.set_xattr(name, key, value).with_context(|| format!("set the attribute {key:?}"))
    })
}

fn shown(name: &OsStr) -> impl std::fmt::Display + '_ {
    Path::new(name).display()
}
