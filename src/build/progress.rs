//! What a build tells while it works, as values: whoever asked shows them, or not.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A part of a build, from 1 in the order in which they begin.
pub type StepId = usize;

/// What happens to a part of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins; its name is as BuildKit's: `[stage 2/5] RUN make`.
    Started(String),
    /// It need not be done: what comes out of it is known.
    Cached,
    /// Its command has written this.
    Output(Vec<u8>),
    /// Something in it is done, or worth knowing.
    Note(String),
    /// It is done.
    Done,
    /// It has failed.
    Failed(String),
    /// It was given up because another one has failed.
    Canceled,
}

/// Who wants to know. Stages are built by several threads at once.
pub trait Progress: Sync {
    /// Something happened to a part of the build.
    fn tell(&self, step: StepId, event: Event);

    /// Something that the user should know about his Dockerfile.
    fn warn(&self, text: &str);
}

/// Numbers the parts of a build and tells about them.
pub struct Reporter<'a> {
    progress: &'a dyn Progress,
    last: AtomicUsize,
}

impl<'a> Reporter<'a> {
    /// Nothing has begun yet.
    pub fn new(progress: &'a dyn Progress) -> Reporter<'a> {
        Reporter { progress, last: AtomicUsize::new(0) }
    }

    /// A part begins.
    pub fn begin(&self, name: impl Into<String>) -> Step<'_> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.tell(id, Event::Started(name.into()));
        Step { progress: self.progress, id, is_over: false }
    }

    /// Something that the user should know.
    pub fn warn(&self, text: &str) {
        self.progress.warn(text);
    }
}

/// A part of a build that has begun. Dropped without a word it was given up.
pub struct Step<'a> {
    progress: &'a dyn Progress,
    id: StepId,
    is_over: bool,
}

impl Step<'_> {
    /// Its command has written this.
    pub fn output(&self, bytes: &[u8]) {
        self.progress.tell(self.id, Event::Output(bytes.to_vec()));
    }

    /// Something in it is done.
    pub fn note(&self, text: impl Into<String>) {
        self.progress.tell(self.id, Event::Note(text.into()));
    }

    /// It need not be done.
    pub fn cached(mut self) {
        self.end(Event::Cached);
    }

    /// It is done.
    pub fn done(mut self) {
        self.end(Event::Done);
    }

    /// It has failed.
    pub fn failed(mut self, why: impl Into<String>) {
        self.end(Event::Failed(why.into()));
    }

    fn end(&mut self, event: Event) {
        self.is_over = true;
        self.progress.tell(self.id, event);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(Event::Canceled);
        }
    }
}
