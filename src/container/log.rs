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
    waiting: Vec<PathBuf>,
    current: Option<BufReader<File>>,
    partial: Vec<u8>,
}

impl Reader {
    /// Reads the log at `path` from its beginning.
    pub fn open(path: &Path) -> Reader {
        let older = (1u32..).map(|n| numbered(path, n)).take_while(|p| p.exists());
        let mut waiting = vec![path.to_owned()];
        waiting.extend(older);
        Reader { path: path.to_owned(), waiting, current: None, partial: Vec::new() }
    }

    /// The next entry; `None` when all that has been written so far was read. Call again for more.
    pub fn read(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(file) = &mut self.current else {
                let Some(path) = self.waiting.pop() else { return Ok(None) };
                match File::open(&path) {
                    Ok(file) => self.current = Some(BufReader::new(file)),
                    // Nothing was written yet, or a rotation is under way.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && path == self.path => {
                        self.waiting.push(path);
                        return Ok(None);
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e).with_context(|| format!("open the log {}", path.display())),
                }
                continue;
            };
            file.read_until(b'\n', &mut self.partial).context("read the log")?;
            if self.partial.ends_with(b"\n") {
                let entry = parse(&self.partial);
                self.partial.clear();
                match entry {
                    Some(entry) => return Ok(Some(entry)),
                    None => continue,
                }
            }
            if self.waiting.is_empty() {
                self.waiting = self.newer_files()?;
            }
            if self.waiting.is_empty() {
                return Ok(None);
            }
            self.partial.clear();
            self.current = None;
        }
    }

    /// If the file that we read to its end was rotated away: those that came after it, the newest first.
    fn newer_files(&self) -> Result<Vec<PathBuf>> {
        let Some(file) = &self.current else { return Ok(Vec::new()) };
        let ours = file.get_ref().metadata().context("look at the log")?;
        let files = (0u32..).map(|n| numbered(&self.path, n));
        let files: Vec<PathBuf> = files.take_while(|p| *p == self.path || p.exists()).collect();
        let place = files.iter().position(|p| std::fs::metadata(p).is_ok_and(|m| m.ino() == ours.ino()));
        let more_in_it = ours.len() > io::Seek::stream_position(&mut file.get_ref()).context("read the log")?;
        match place {
            _ if more_in_it => Ok(Vec::new()),
            Some(place) => Ok(files[..place].to_vec()),
            None => Ok(files),
        }
    }
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
