//! Digests of files that were computed before, known by what changes when a file changes.
//!
//! ```text
//! "minirun digests 1\n"   then for each file: 7 numbers of 8 bytes, digest of 32; then the digest of all before it
//! ```
//! A file that was changed just before it was read is not remembered: it could be changed once more within the same
//! tick of the clock and would look the same.

use crate::image::Digest;
use crate::sys::file::{Durability, read_limited, write_atomic};
use anyhow::{Context, Result};
use rustix::fs::Stat;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAGIC: &[u8] = b"minirun digests 1\n";
const RECORD: usize = 7 * 8 + 32;
/// Files that are remembered.
const LIMIT: usize = 200_000;
/// How old a change must be.
const SETTLED: Duration = Duration::from_secs(2);

type Key = [u64; 7];

/// What is remembered, and where.
#[derive(Debug)]
pub struct Memo {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Digests, and whether this build has used them.
    known: Known,
    has_news: bool,
}

type Known = HashMap<Key, (Digest, bool), BuildHasherDefault<Mixer>>;

/// A quick hash: nobody can choose inode numbers and times so that many of them meet.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..piece.len()].copy_from_slice(piece);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

impl Memo {
    /// Reads what is remembered in the file `path`. What cannot be read is as good as nothing.
    pub fn open(path: &Path) -> Memo {
        let data = read_limited(path, (LIMIT * RECORD + 1024) as u64).unwrap_or_default();
        let known = decode(&data).unwrap_or_default();
        Memo { path: path.to_owned(), state: Mutex::new(State { known, ..State::default() }) }
    }

    /// The digest of a file that looks like this.
    pub fn get(&self, stat: &Stat) -> Option<Digest> {
        let key = super::file::identity(stat);
        let mut state = self.state();
        let (digest, is_used) = state.known.get_mut(&key)?;
        *is_used = true;
        Some(*digest)
    }

    /// Remembers a digest that was computed from `started` on.
    pub fn put(&self, stat: &Stat, digest: Digest, started: SystemTime) {
        let changed = |seconds: i64, nanos: u64| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanos).unwrap_or(0))
        };
        let key = super::file::identity(stat);
        let latest = changed(stat.st_mtime, key[4]).max(changed(stat.st_ctime, key[6]));
        if latest + SETTLED > started {
            return;
        }
        let mut state = self.state();
        state.known.insert(key, (digest, true));
        state.has_news = true;
    }

    /// Writes what is new. Two builds that do it at once forget some of what the other knew, and nothing worse.
    pub fn save(&self) -> Result<()> {
        let mut state = self.state();
        if !std::mem::take(&mut state.has_news) {
            return Ok(());
        }
        let (used, unused): (Vec<_>, Vec<_>) = state.known.iter().partition(|(_, (_, is_used))| *is_used);
        let mut data = MAGIC.to_vec();
        for (key, (digest, _)) in used.into_iter().chain(unused).take(LIMIT) {
            key.iter().for_each(|number| data.extend_from_slice(&number.to_le_bytes()));
            data.extend_from_slice(digest.bytes());
        }
        data.extend_from_slice(Digest::of(&data).bytes());
        write_atomic(&self.path, &data, Durability::Atomic).with_context(|| format!("write {}", self.path.display()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode(data: &[u8]) -> Option<Known> {
    let (content, digest) = data.split_at_checked(data.len().checked_sub(32)?)?;
    if Digest::of(content).bytes() != digest {
        return None;
    }
    let records = content.strip_prefix(MAGIC)?.chunks_exact(RECORD);
    let record = |record: &[u8]| {
        let (numbers, digest) = record.split_at_checked(7 * 8)?;
        let mut key = [0; 7];
        for (number, bytes) in key.iter_mut().zip(numbers.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some((key, (Digest::from_bytes(digest.try_into().ok()?), false)))
    };
    records.map(record).collect()
}
