//! What has happened in a store: one line a happening, for `events`. Nobody runs all the time to be told, so everybody
//! who does something writes it down, and who wants to know reads it and watches the file.
//!
//! ```text
//! <root>/events      JSON, one object a line, in the order of writing
//! <root>/events.1    what was there before it, when it had grown to its limit
//! ```
//! A line is one append, so lines of writers at the same time do not mix. It also begins with a line break: what a
//! full disk cut off spoils no other line. Nothing is synced, and a happening that cannot be written down happens
//! nevertheless.

use crate::layout::Root;
use crate::sys::file::{Lock, LockMode};
use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::inotify;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a file is set aside for a new one; with the one before it there are never more than two.
const LIMIT: u64 = 2 << 20;

/// One happening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Nanoseconds since 1970.
    #[serde(rename = "t")]
    pub time: i64,
    /// `container`, `image`, `volume` or `network`.
    #[serde(rename = "k")]
    pub kind: String,
    /// In Docker's words: `create`, `start`, `die`…
    #[serde(rename = "a")]
    pub action: String,
    /// Whose id or name.
    #[serde(rename = "i")]
    pub id: String,
    /// What else there is to know.
    #[serde(rename = "m")]
    pub attributes: BTreeMap<String, String>,
}

/// Writes down what happens now.
pub fn record(root: &Root, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
    let time = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let happening = Happening { time, kind: kind.into(), action: action.into(), id: id.into(), attributes };
    let _ = append(&place(root), &happening);
}

/// Writes down that something happens to an image: `pull`, `push`, `tag`, `untag`, `delete`, `import`, `load`, `save`.
/// For the first two the id is the name with its tag, as Docker's.
pub fn image(root: &Root, action: &str, id: &str, name: &str) {
    let name = Some(name).filter(|n| !n.is_empty()).map(|n| ("name".to_owned(), n.to_owned()));
    record(root, "image", action, id, name.into_iter().collect());
}

fn place(root: &Root) -> PathBuf {
    root.join("events")
}

fn append(path: &Path, happening: &Happening) -> io::Result<()> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, happening)?;
    line.push(b'\n');
    let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() >= LIMIT {
        file = set_aside(path, file)?;
    }
    file.write_all(&line)
}

/// A new file, made by whoever comes first.
fn set_aside(path: &Path, full: File) -> io::Result<File> {
    let Some(_alone) = Lock::attempt(&path.with_extension("lock"), LockMode::Exclusive)? else { return Ok(full) };
    // Somebody may have been faster.
    if path.metadata().is_ok_and(|m| m.ino() == full.metadata().map_or(0, |f| f.ino())) {
        std::fs::rename(path, older(path))?;
    }
    File::options().append(true).create(true).mode(0o600).open(path)
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// Reads what has happened, from the oldest that is known on, and later what has been added.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    files: Vec<BufReader<File>>,
    line: Vec<u8>,
    over: bool,
}

impl Reader {
    /// Reads the journal of `root` from its beginning.
    ///
    /// # Errors
    /// A file that is there and cannot be opened.
    pub fn open(root: &Root) -> Result<Reader> {
        let path = place(root);
        let mut reader = Reader { files: Vec::new(), line: Vec::new(), over: false, path };
        for file in [reader.path.clone(), older(&reader.path)] {
            reader.files.extend(open(&file)?);
        }
        // It may have been set aside between the two looks.
        let number = |file: &BufReader<File>| file.get_ref().metadata().map_or(0, |m| m.ino());
        reader.files.dedup_by_key(|file| number(file));
        Ok(reader)
    }

    /// The next happening; `None` when all that is there was read. Lines that are damaged are passed over.
    pub fn read(&mut self) -> Result<Option<Happening>> {
        loop {
            let is_current = self.files.len() == 1;
            let Some(file) = self.files.last_mut() else {
                match open(&self.path)? {
                    Some(file) => self.files.push(file),
                    None => return Ok(None),
                }
                continue;
            };
            file.read_until(b'\n', &mut self.line).context("read the journal")?;
            if self.line.ends_with(b"\n") {
                let found = serde_json::from_slice(&self.line);
                self.line.clear();
                match found {
                    Ok(happening) => return Ok(Some(happening)),
                    Err(_) => continue,
                }
            }
            if is_current && !self.over {
                let current = file.get_ref().metadata().map(|m| m.ino()).ok();
                let named = self.path.metadata().map(|m| m.ino()).ok();
                if named.is_none() || named == current {
                    return Ok(None);
                }
                // More may have come into it before it was set aside.
                self.over = true;
                continue;
            }
            self.over = false;
            self.line.clear();
            self.files.pop();
        }
    }
}

fn open(path: &Path) -> Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("open the journal {}", path.display())),
    }
}

/// Readable when there may be more to read.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    /// Watches the journal of `root`, which need not be there yet.
    pub fn new(root: &Root) -> Result<Watch> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(io::Error::from).context("make an inotify descriptor")?;
        let changes = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        inotify::add_watch(&fd, root.path(), changes)
            .map_err(io::Error::from)
            .with_context(|| format!("watch {}", root.path().display()))?;
        Ok(Watch(fd))
    }

    /// Forgets what it has told.
    pub fn reset(&self) -> io::Result<()> {
        let mut buffer = [0u8; 4096];
        loop {
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(n) if n > 0 => {}
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(number: i64) -> Happening {
        let attributes = BTreeMap::from([("name".to_owned(), "n".repeat(200))]);
        Happening { time: number, kind: "container".into(), action: "start".into(), id: "c".into(), attributes }
    }

    #[test]
    fn it_stays_small_and_a_reader_loses_nothing_of_what_is_kept() {
        let dir = std::env::temp_dir().join(format!("minirun-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("events");
        append(&path, &happening(0)).unwrap();
        // What a full disk has cut off.
        File::options().append(true).open(&path).unwrap().write_all(br#"{"t":77,"k":"conta"#).unwrap();
        let mut reader = Reader { path: path.clone(), files: Vec::new(), line: Vec::new(), over: false };
        let mut read = Vec::new();
        for number in 1..20_000 {
            append(&path, &happening(number)).unwrap();
            if number % 1000 == 0 {
                while let Some(found) = reader.read().unwrap() {
                    read.push(found.time);
                }
            }
        }
        while let Some(found) = reader.read().unwrap() {
            read.push(found.time);
        }
        assert_eq!(read, (0..20_000).collect::<Vec<_>>());
        let size = |p: &Path| p.metadata().unwrap().len();
        assert!(size(&path) + size(&older(&path)) < 2 * LIMIT + 1000);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
