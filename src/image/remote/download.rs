//! One blob as a stream: what is kept of it first, then the rest from the registry, again and again if need be.

use super::partial::Partial;
use crate::image::progress::{Amount, Progress, Step};
use crate::registry::{Part, is_passing, pause};
use anyhow::{Result, anyhow};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often in a row a connection may break.
const ATTEMPTS: u32 = 5;
/// A connection that brought so much was worth it.
const WORTH: u64 = 256 << 10;
/// Slower than this, in bytes a second, is as good as broken.
const SLOWEST: u64 = 256;
/// Bytes between two reports.
const REPORT: u64 = 128 << 10;

/// Begins the blob at a byte.
pub type Opener<'a> = Box<dyn FnMut(u64) -> Result<Part> + Send + 'a>;

/// What a download has come to, for the one who waits for it.
#[derive(Default)]
pub struct Fate {
    /// It has given up although nothing was wrong with what it got.
    pub gave_up: AtomicBool,
}

/// What stands around a download.
pub struct Around<'a> {
    pub progress: &'a dyn Progress,
    pub item: &'a str,
    pub patience: Duration,
    /// Somebody else has failed: it is all for nothing.
    pub stop: &'a AtomicBool,
    pub fate: &'a Fate,
}

/// A blob on its way.
pub struct Download<'a> {
    open: Opener<'a>,
    around: Around<'a>,
    size: u64,
    at: u64,
    kept: Option<(File, u64)>,
    partial: Option<&'a mut Partial>,
    body: Option<Box<dyn Read + Send>>,
    attempt: u32,
    began_at: u64,
    window: (Instant, u64),
    reported: u64,
    complete: bool,
}

impl<'a> Download<'a> {
    /// A blob of `size` bytes. Without `partial` nothing of it is kept.
    pub fn new(open: Opener<'a>, size: u64, partial: Option<&'a mut Partial>, around: Around<'a>) -> io::Result<Self> {
        let kept = partial.as_ref().map(|p| Ok::<_, io::Error>((p.reader()?, p.length()))).transpose()?;
        // More than there should be is not ours.
        let kept = kept.filter(|(_, length)| *length > 0 && *length <= size);
        if kept.is_none()
            && let Some(partial) = &partial
        {
            partial.clear();
        }
        around.progress.step(around.item, Step::Downloading(Amount { done: 0, total: Some(size) }));
        Ok(Download {
            open,
            around,
            size,
            at: 0,
            kept,
            partial,
            body: None,
            attempt: 0,
            began_at: 0,
            window: (Instant::now(), 0),
            reported: 0,
            complete: false,
        })
    }

    fn read_kept(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some((file, length)) = &self.kept else { return Ok(None) };
        let wanted = buffer.len().min(usize::try_from(length - self.at).unwrap_or(usize::MAX));
        if wanted == 0 {
            self.kept = None;
            return Ok(None);
        }
        let count = file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "what was kept of the blob has vanished"));
        }
        Ok(Some(count))
    }

    fn read_network(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.around.stop.load(Ordering::Relaxed) {
                return Err(self.give_up(anyhow!("another part of the pull has failed")));
            }
            let error = match self.try_network(buffer) {
                Ok(0) if self.at < self.size => {
                    anyhow!("the connection ended")
                }
                Ok(count) if count as u64 > self.size - self.at => {
                    return Err(io::Error::other(format!("the blob is larger than the {} bytes promised", self.size)));
                }
                Ok(count) => return Ok(count),
                Err(Trouble::Passing(error)) => error,
                Err(Trouble::Lasting(error)) => return Err(io::Error::other(format!("{error:#}"))),
            };
            self.body = None;
            if self.at - self.began_at >= WORTH {
                self.attempt = 0;
            }
            self.began_at = self.at;
            if self.attempt + 1 >= ATTEMPTS {
                return Err(self.give_up(error));
            }
            std::thread::sleep(pause(&error, self.attempt));
            self.attempt += 1;
        }
    }

    fn give_up(&mut self, error: anyhow::Error) -> io::Error {
        self.around.fate.gave_up.store(true, Ordering::Relaxed);
        io::Error::other(format!("{error:#}, after {} of {} bytes", self.at, self.size))
    }

    fn try_network(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        if self.body.is_none() {
            let part = (self.open)(self.at);
            let part = part.map_err(|e| if is_passing(&e) { Trouble::Passing(e) } else { Trouble::Lasting(e) })?;
            self.began_at = self.at;
            self.window = (Instant::now(), self.at);
            let mut body = part.body;
            let skip = self.at.saturating_sub(part.from);
            let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
            match skipped {
                Ok(skipped) if skipped == skip => self.body = Some(body),
                Ok(_) => return Err(Trouble::Passing(anyhow!("the connection ended too early"))),
                Err(e) => return Err(Trouble::Passing(e.into())),
            }
        }
        let Some(body) = &mut self.body else { return Ok(0) };
        let count = loop {
            match body.read(buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(|e| Trouble::Passing(e.into()))?,
            }
        };
        self.watch_speed(count)?;
        Ok(count)
    }

    fn watch_speed(&mut self, count: usize) -> Result<(), Trouble> {
        let (since, from) = self.window;
        let elapsed = since.elapsed();
        if elapsed < self.around.patience {
            return Ok(());
        }
        let received = self.at + count as u64 - from;
        self.window = (Instant::now(), self.at + count as u64);
        if received < SLOWEST * elapsed.as_secs().max(1) {
            let message = format!("only {received} bytes came in {} seconds", elapsed.as_secs());
            return Err(Trouble::Passing(anyhow!(message)));
        }
        Ok(())
    }

    fn report(&mut self) {
        let is_end = self.at == self.size;
        if self.at - self.reported >= REPORT || is_end {
            self.reported = self.at;
            let amount = Amount { done: self.at, total: Some(self.size) };
            self.around.progress.step(self.around.item, Step::Downloading(amount));
        }
    }
}

enum Trouble {
    Passing(anyhow::Error),
    Lasting(anyhow::Error),
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.complete || buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.read_kept(buffer)? {
            Some(count) => count,
            None if self.at == self.size && self.body.is_none() => 0,
            None => {
                let count = self.read_network(buffer)?;
                if let Some(partial) = &mut self.partial
                    && !partial.append(&buffer[..count])
                {
                    partial.clear();
                    self.partial = None;
                }
                count
            }
        };
        self.at += count as u64;
        if count == 0 {
            self.complete = true;
            self.around.progress.step(self.around.item, Step::VerifyingChecksum);
        } else {
            self.report();
        }
        Ok(count)
    }
}
