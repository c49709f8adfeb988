//! What happens to each layer while images are moved, as values: whoever asked shows them, or not.

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
