//! What happens to each layer while images are moved, as values: whoever asked shows them, or not.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes done of bytes to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount {
    /// Bytes done.
    pub done: u64,
    /// Bytes to do, if that is known.
    pub total: Option<u64>,
}

/// What a layer has come to. The words that users know are said by `cli`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It will be fetched.
    PullingFsLayer,
    /// It waits for its turn.
    Waiting,
    /// It is being fetched.
    Downloading(Amount),
    /// Its digest is being compared.
    VerifyingChecksum,
    /// It is here and as promised.
    DownloadComplete,
    /// It is being unpacked.
    Extracting(Amount),
    /// It is in the store.
    PullComplete,
    /// It was in the store before.
    AlreadyExists,
    /// It will be sent.
    Preparing,
    /// It is being sent.
    Pushing(Amount),
    /// It has been sent.
    Pushed,
    /// The registry had it before.
    LayerAlreadyExists,
    /// The registry took it from another repository of its own.
    MountedFrom(String),
    /// It is being read from an archive.
    Loading(Amount),
    /// It is being written to an archive.
    Writing(Amount),
    /// A root file system is being read from an archive.
    Importing(Amount),
    /// It is the context of a build, which is being unpacked.
    TransferringContext(Amount),
    /// A root file system is being written to an archive.
    Exporting(Amount),
    /// A container's changes are being read.
    Committing(Amount),
}

/// Who wants to know. Layers are worked on by several threads at once.
pub trait Progress: Sync {
    /// `item` is what stands at the beginning of the layer's line: 12 hexadecimal digits.
    fn step(&self, item: &str, step: Step);
}

/// Nobody wants to know.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _item: &str, _step: Step) {}
}

/// Somebody who may want to know, or nobody: for options that can be copied.
#[derive(Clone, Default)]
pub struct Watcher(Option<Arc<dyn Progress + Send>>);

impl Watcher {
    /// Tells `progress`.
    pub fn new(progress: Arc<dyn Progress + Send>) -> Watcher {
        Watcher(Some(progress))
    }

    /// Tells a step of work that has one item only.
    pub fn step(&self, step: Step) {
        if let Some(progress) = &self.0 {
            progress.step("", step);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "somebody" } else { "nobody" })
    }
}

/// A stream that tells how much of it has passed.
pub struct Watched<'a, S> {
    stream: S,
    progress: &'a dyn Progress,
    item: String,
    amount: Amount,
    told: u64,
    step: fn(Amount) -> Step,
}

/// Bytes after which it is worth telling again.
const WORTH: u64 = 512 << 10;

impl<'a, S> Watched<'a, S> {
    /// Watches `stream`, of which `total` bytes are expected; `step` is what is told.
    pub fn new(
        stream: S,
        progress: &'a dyn Progress,
        item: String,
        total: Option<u64>,
        step: fn(Amount) -> Step,
    ) -> Watched<'a, S> {
        let amount = Amount { done: 0, total };
        progress.step(&item, step(amount));
        Watched { stream, progress, item, amount, told: 0, step }
    }

    fn passed(&mut self, bytes: usize) {
        self.amount.done += bytes as u64;
        let is_end = bytes == 0 || self.amount.total == Some(self.amount.done);
        if self.amount.done - self.told >= WORTH || (is_end && self.amount.done > self.told) {
            self.told = self.amount.done;
            self.progress.step(&self.item, (self.step)(self.amount));
        }
    }
}

impl<S: Read> Read for Watched<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.passed(length);
        Ok(length)
    }
}

impl<S: Write> Write for Watched<'_, S> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(data)?;
        self.passed(length);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
