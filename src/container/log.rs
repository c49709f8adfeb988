//! A container's log: the line format that Kubernetes' runtimes write (CRI), lossless for any bytes.
//!
//! ```text
//! 2026-01-02T03:04:05.123456789Z stdout F a whole line
//! 2026-01-02T03:04:05.123456789Z stderr P the beginning of a line that was not ended yet
//! ```
//! Files are kept under a size: `log` is rotated to `log.1` and so on.

use super::options::LogOptions;
use super::state::now;
use anyhow::{Context, Result};
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Which of the two output streams a line came from. A terminal has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The writing end, in the supervisor.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    options: LogOptions,
    file: Option<File>,
    size: u64,
    line: Vec<u8>,
}

impl Writer {
    /// Adds to the log at `path`, which is made when there is something to write.
    pub fn new(path: &Path, options: LogOptions) -> Writer {
        Writer { path: path.to_owned(), options, file: None, size: 0, line: Vec::new() }
    }

    /// Adds what was just read from a stream. After an error it may go on: the next call mends the file first.
    pub fn write(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let written = self.append(stream, data);
        if written.is_err() {
            self.file = None;
        }
        written
    }

    fn append(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        self.line.clear();
        let time = now();
        let name = if stream == Stream::Out { "stdout" } else { "stderr" };
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let (tag, text) = match piece.strip_suffix(b"\n") {
                Some(text) => ("F", text),
                None => ("P", piece),
            };
            let before = self.line.len();
            write!(self.line, "{time} {name} {tag} ")?;
            self.line.extend(text);
            self.line.push(b'\n');
            // A file ends where the next line would not fit any more.
            if self.size + before as u64 > 0 && self.size + self.line.len() as u64 > self.options.max_size {
                let next = self.line.split_off(before);
                self.flush()?;
                self.rotate()?;
                self.line = next;
            }
        }
        self.flush()
    }

    fn open(&mut self) -> io::Result<()> {
        let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        self.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.size > 0 {
            file.read_exact_at(&mut last, self.size - 1)?;
        }
        // A writer that was killed in the middle of a line has left it open.
        if last != *b"\n" {
            file.write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(&self.line)?;
        }
        self.size += self.line.len() as u64;
        self.line.clear();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.options.max_files).rev() {
            match std::fs::rename(numbered(&self.path, number - 1), numbered(&self.path, number)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if self.options.max_files <= 1 {
            std::fs::remove_file(&self.path)?;
        }
        self.open()
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 { path.to_owned() } else { path.with_extension(number.to_string()) }
}

/// A piece of output with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was read from the container.
    pub time: Timestamp,
    /// From where.
    pub stream: Stream,
    /// The bytes, with the end of the line if it was ended.
    pub data: Vec<u8>,
}

/// The reading end: all entries that are there, from the oldest file on, and later those that are added.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    current: Option<BufReader<File>>,
    partial: Vec<u8>,
}

impl Reader {
    /// Reads the log at `path` from its beginning.
    pub fn open(path: &Path) -> Reader {
        Reader { path: path.to_owned(), current: None, partial: Vec::new() }
    }

    /// The next entry; `None` when all that has been written so far was read. Call again for more.
    pub fn read(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(file) = &mut self.current {
                file.read_until(b'\n', &mut self.partial).context("read the log")?;
                if self.partial.ends_with(b"\n") {
                    let entry = parse(&self.partial);
                    self.partial.clear();
                    match entry {
                        Some(entry) => return Ok(Some(entry)),
                        None => continue,
                    }
                }
            }
            let Some(next) = self.next_file()? else { return Ok(None) };
            // It may have grown between our last look and its rotation.
            if self.is_read()? {
                self.partial.clear();
                self.current = Some(BufReader::new(next));
            }
        }
    }

    /// Whether nothing more of the current file is to be read.
    fn is_read(&self) -> Result<bool> {
        let Some(file) = &self.current else { return Ok(true) };
        let place = io::Seek::stream_position(&mut file.get_ref()).context("read the log")?;
        Ok(place >= file.get_ref().metadata().context("look at the log")?.len())
    }

    /// The file that came after the current one, or the oldest. Names change meanwhile: it is known by its inode.
    fn next_file(&self) -> Result<Option<File>> {
        let ours = self.current.as_ref().map(|file| file.get_ref().metadata()).transpose();
        let ours = ours.context("look at the log")?.map(|found| found.ino());
        loop {
            let files = present(&self.path).context("look for the files of the log")?;
            // One that is not there any more was older than all others.
            let next = match files.iter().position(|(_, inode)| Some(*inode) == ours) {
                Some(place) => place.checked_sub(1).and_then(|place| files.get(place)),
                None => files.last(),
            };
            let Some((path, inode)) = next else { return Ok(None) };
            match File::open(path) {
                Ok(file) if file.metadata().context("look at the log")?.ino() == *inode => return Ok(Some(file)),
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("open the log {}", path.display()));
                }
                _ => {}
            }
        }
    }
}

/// How many times a log may be rotated while its files are looked for.
const MORE: u32 = 8;

/// The files of a log that are there, the newest first, with their inodes. A rotation that is under way gives files
/// higher numbers, the highest first: who looks at lower numbers before misses none.
fn present(path: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let mut highest = 0u32;
    let entries = match std::fs::read_dir(folder) {
        // The container was removed.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?.file_name();
        let entry = Path::new(&entry);
        if entry.file_stem() == Some(name) {
            let number = entry.extension().and_then(|number| number.to_str()?.parse().ok());
            highest = highest.max(number.unwrap_or(0));
        }
    }
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    for number in 0..=highest.saturating_add(MORE) {
        let path = numbered(path, number);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if files.last().is_none_or(|(_, inode)| *inode != found.ino()) => files.push((path, found.ino())),
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(files)
}

fn parse(line: &[u8]) -> Option<Entry> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let stream = if parts.next()? == b"stderr" { Stream::Err } else { Stream::Out };
    let whole = parts.next()? == b"F";
    let text = parts.next()?;
    let data = if whole { text.to_vec() } else { text.strip_suffix(b"\n")?.to_vec() };
    Some(Entry { time, stream, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_misses_nothing_of_what_is_rotated_meanwhile() {
        let dir = std::env::temp_dir().join(format!("minirun-log-{}", crate::sys::random::hex::<6>()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("log");
        let mut writer = Writer::new(&path, LogOptions { max_size: 200, max_files: 1000 });
        let mut write = |n: u32| writer.write(Stream::Out, format!("line {n}\n").as_bytes()).unwrap();
        let lines = |reader: &mut Reader, count: usize| -> Vec<String> {
            let next = || reader.read().unwrap().map(|entry| String::from_utf8(entry.data).unwrap());
            std::iter::from_fn(next).take(count).collect()
        };
        (0..50).for_each(&mut write);
        let mut reader = Reader::open(&path);
        let mut read = lines(&mut reader, 20);
        (50..100).for_each(&mut write);
        // A rotation is under way: a file has its new name, the one after it not yet.
        let gap = dir.join("log.3");
        std::fs::rename(&gap, dir.join("aside")).unwrap();
        assert_eq!(lines(&mut Reader::open(&path), 1), ["line 0\n"]);
        std::fs::rename(dir.join("aside"), &gap).unwrap();
        read.extend(lines(&mut reader, 1000));
        (100..130).for_each(&mut write);
        read.extend(lines(&mut reader, 1000));
        assert_eq!(read, (0..130).map(|n| format!("line {n}\n")).collect::<Vec<_>>());
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(reader.read().unwrap().is_none());
    }

    #[test]
    fn bytes_survive_rotation_in_the_middle_of_lines() {
        let dir = std::env::temp_dir().join(format!("minirun-log-{}", crate::sys::random::hex::<6>()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("log");
        let mut writer = Writer::new(&path, LogOptions { max_size: 400, max_files: 100 });
        let mut reader = Reader::open(&path);
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for n in 0u8..60 {
            let end: &[u8] = if n % 3 == 0 { b"\n" } else { b"" };
            let piece = [&b"line "[..], &[n, 0xff], end].concat();
            writer.write(Stream::Out, &piece).unwrap();
            written.extend(piece);
            if n % 7 == 0 {
                while let Some(entry) = reader.read().unwrap() {
                    read.extend(entry.data);
                }
            }
        }
        let mut fresh = Reader::open(&path);
        let mut all = Vec::new();
        while let Some(entry) = fresh.read().unwrap() {
            assert_eq!(entry.stream, Stream::Out);
            all.extend(entry.data);
        }
        assert!(dir.join("log.3").exists());
        assert_eq!(all, written);
        assert!(written.starts_with(&read) && !read.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
