//! What the files of an instruction are known by: everything that its result depends on, except times.
//!
//! One thread goes through the tree and writes down what it sees; the contents are hashed on others.

use super::file;
use super::memo::Memo;
use super::select::{Plan, Selected, Source};
use super::walk::{Node, Spot, Visitor, walk};
use crate::build::ignore::Ignore;
use crate::image::digest::{Digest, Hasher};
use crate::image::union::Found;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, anyhow};
use rustix::fs::{FileType, Stat};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::SystemTime;

/// Files that one thread takes at once, and how many such batches may wait. Their folders are open meanwhile.
const BATCH: usize = 32;
const WAITING: usize = 4;
/// Bytes after which a batch does not grow.
const BATCH_BYTES: i64 = 4 << 20;

/// A file whose content is to be hashed, and the number of its record.
struct Job {
    holder: Arc<Dir>,
    name: OsString,
    stat: Stat,
    record: usize,
}

type Hashed = Vec<(usize, Stat, Digest)>;

/// A line of the description: where in the text it ends, and the digest of a content.
struct Record {
    end: usize,
    content: Option<Digest>,
}

/// What a plan's files are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The digest of everything that counts.
    pub digest: Digest,
    /// Changes with every change of a file; only for comparing with a later look.
    pub(super) look: u64,
}

impl Plan {
    /// Computes what the files are known by.
    pub fn known_by(&self, memo: Option<&Memo>) -> Result<Known> {
        std::thread::scope(|scope| {
            let mut describer = Describer {
                keeps_owner: self.origin.keeps_owner,
                memo,
                text: Vec::new(),
                records: Vec::new(),
                look: DefaultHasher::new(),
                names: HashMap::new(),
                batch: Vec::new(),
                bytes: 0,
                pool: Pool { scope, sender: None, threads: Vec::new() },
                started: SystemTime::now(),
            };
            for source in &self.sources {
                describer.source(source, &self.excludes)?;
            }
            describer.finish()
        })
    }
}

struct Describer<'scope, 'env> {
    keeps_owner: bool,
    memo: Option<&'env Memo>,
    /// All lines one after another.
    text: Vec<u8>,
    records: Vec<Record>,
    look: DefaultHasher,
    /// Records of the first names of files that have several.
    names: HashMap<(u64, u64), u64>,
    batch: Vec<Job>,
    bytes: i64,
    pool: Pool<'scope, 'env>,
    started: SystemTime,
}

impl Describer<'_, '_> {
    fn source(&mut self, source: &Source, excludes: &Ignore) -> Result<()> {
        match source {
            Source::Text { name, content } => {
                let content = Some(Digest::of(content.as_bytes()));
                self.record(&[b"text", name.as_bytes()], content);
                Ok(())
            }
            Source::Remote { name, fetched } => {
                let content = Some(file::digest_of(&fetched.file)?);
                self.record(&[b"remote", name.as_bytes()], content);
                Ok(())
            }
            Source::Tree(selected) => {
                let Selected { node, base, kept, folders } = &**selected;
                for folder in folders {
                    let attributes = folder.merged.stat()?.map(|stat| self.attributes(&stat)).unwrap_or([0; 20]);
                    let xattrs = flat(folder.merged.xattrs()?);
                    self.record(&[b"parent", &attributes, &xattrs], None);
                }
                let kept = kept.join(&b'/');
                match node {
                    Node::Folder(spot) => {
                        self.record(&[b"tree", &kept], None);
                        walk(spot, excludes, &kept, self)
                    }
                    Node::Leaf { parent, name, found } => {
                        self.record(&[b"file", base, &kept], None);
                        self.leaf(parent, name, found)
                    }
                }
            }
        }
    }

    /// Parts with their lengths, so that no two lists of parts look the same.
    fn record(&mut self, parts: &[&[u8]], content: Option<Digest>) {
        for part in parts {
            self.text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.text.extend_from_slice(part);
        }
        self.records.push(Record { end: self.text.len(), content });
    }

    /// The number of the record, from 1, of the first name of a file that was seen before: names of one file stay
    /// together. Names that are not copied do not matter.
    fn first_name(&mut self, stat: &Stat) -> [u8; 8] {
        let next = self.records.len() as u64 + 1;
        let first = match stat.st_nlink {
            1 => 0,
            _ => *self.names.entry((stat.st_dev, stat.st_ino)).or_insert(next),
        };
        if first == next { [0; 8] } else { first.to_le_bytes() }
    }

    fn attributes(&self, stat: &Stat) -> [u8; 20] {
        let owner = if self.keeps_owner { (stat.st_uid, stat.st_gid) } else { (0, 0) };
        let is_device = matches!(file_type(stat), FileType::CharacterDevice | FileType::BlockDevice);
        let device = if is_device { stat.st_rdev } else { 0 };
        let mut out = [0; 20];
        out[..4].copy_from_slice(&stat.st_mode.to_le_bytes());
        out[4..8].copy_from_slice(&owner.0.to_le_bytes());
        out[8..12].copy_from_slice(&owner.1.to_le_bytes());
        out[12..20].copy_from_slice(&device.to_le_bytes());
        out
    }

    fn file(&mut self, holder: Arc<Dir>, name: &OsStr, stat: Stat) -> Result<()> {
        let record = self.records.len() - 1;
        if let Some(digest) = self.memo.and_then(|memo| memo.get(&stat)) {
            self.records[record].content = Some(digest);
            return Ok(());
        }
        self.batch.push(Job { holder, name: name.to_owned(), stat, record });
        self.bytes = self.bytes.saturating_add(stat.st_size);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.bytes = 0;
            self.pool.hash(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Known> {
        // What is left is hashed here: for a few files no thread is started.
        let mut hashed = hash_all(std::mem::take(&mut self.batch), &mut Vec::new())?;
        hashed.extend(self.pool.finish()?);
        for (record, stat, digest) in hashed {
            self.records[record].content = Some(digest);
            if let Some(memo) = self.memo {
                memo.put(&stat, digest, self.started);
            }
        }
        let mut hasher = Hasher::new();
        let mut start = 0;
        for record in &self.records {
            hasher.update(&((record.end - start) as u64).to_le_bytes());
            hasher.update(&self.text[start..record.end]);
            start = record.end;
            hasher.update(record.content.as_ref().map_or(&[0; 32], Digest::bytes).as_slice());
        }
        Ok(Known { digest: hasher.finish(), look: self.look.finish() })
    }
}

impl Visitor for Describer<'_, '_> {
    fn enter(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<()> {
        let attributes = self.attributes(&found.stat);
        let xattrs = xattrs(parent, name, found)?;
        self.record(&[b"enter", name.as_bytes(), &attributes, &xattrs], None);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.record(&[b"leave"], None);
        Ok(())
    }

    fn leaf(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<()> {
        look(&mut self.look, &found.stat);
        let attributes = [self.attributes(&found.stat).as_slice(), &self.first_name(&found.stat)].concat();
        match file_type(&found.stat) {
            FileType::RegularFile => {
                self.record(&[b"leaf", name.as_bytes(), &attributes], None);
                self.file(parent.merged.holder_handle(found), name, found.stat)
            }
            FileType::Symlink => {
                let target = parent.merged.holder(found).readlink(name)?;
                self.record(&[b"link", name.as_bytes(), &attributes, target.as_bytes()], None);
                Ok(())
            }
            _ => {
                self.record(&[b"node", name.as_bytes(), &attributes], None);
                Ok(())
            }
        }
    }
}

/// Takes a file into a look at the tree.
pub(super) fn look(hasher: &mut DefaultHasher, stat: &Stat) {
    file::identity(stat).hash(hasher);
}

/// The extended attributes of a folder, as a part of its record.
fn xattrs(parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<Vec<u8>> {
    let folder = parent.merged.holder(found).child(name)?;
    Ok(flat(crate::image::copy::kept_xattrs(&folder)?))
}

fn flat(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut text = Vec::new();
    for part in pairs.into_iter().flat_map(|(key, value)| [key, value]) {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend(part);
    }
    text
}

fn hash_all(jobs: Vec<Job>, buffer: &mut Vec<u8>) -> Result<Hashed> {
    let hash = |job: Job, buffer: &mut Vec<u8>| -> Result<(usize, Stat, Digest)> {
        let file = file::open(&job.holder, &job.name)?;
        Ok((job.record, job.stat, file::hash(&file, &job.stat, buffer)?))
    };
    let mut hashed = Vec::with_capacity(jobs.len());
    for job in jobs {
        let name = job.name.clone();
        hashed.push(hash(job, buffer).with_context(|| format!("read the file {name:?}"))?);
    }
    Ok(hashed)
}

/// Threads that hash, started when there is something for them.
struct Pool<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    sender: Option<SyncSender<Vec<Job>>>,
    threads: Vec<ScopedJoinHandle<'scope, Result<Hashed>>>,
}

impl Pool<'_, '_> {
    fn hash(&mut self, jobs: Vec<Job>) -> Result<()> {
        if self.sender.is_none() {
            let (sender, receiver) = sync_channel(WAITING);
            let receiver = Arc::new(Mutex::new(receiver));
            let count = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
            for _ in 0..count {
                let receiver = receiver.clone();
                let thread = std::thread::Builder::new().spawn_scoped(self.scope, move || work(&receiver));
                self.threads.push(thread.context("start a thread")?);
            }
            self.sender = Some(sender);
        }
        // If nobody listens any more, the threads tell why when they are asked.
        let _ = self.sender.as_ref().map(|sender| sender.send(jobs));
        Ok(())
    }

    fn finish(&mut self) -> Result<Hashed> {
        self.sender = None;
        let mut hashed = Vec::new();
        for thread in self.threads.drain(..) {
            hashed.extend(thread.join().map_err(|_| anyhow!("a thread has ended unexpectedly"))??);
        }
        Ok(hashed)
    }
}

fn work(receiver: &Mutex<Receiver<Vec<Job>>>) -> Result<Hashed> {
    let mut hashed = Vec::new();
    let mut buffer = Vec::new();
    loop {
        let jobs = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(jobs) = jobs else { return Ok(hashed) };
        match hash_all(jobs, &mut buffer) {
            Ok(more) => hashed.extend(more),
            Err(error) => {
                // The others must not wait for a thread that has given up.
                while receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok() {}
                return Err(error);
            }
        }
    }
}
