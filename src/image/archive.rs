//! What `load` reads from: an archive, whose members are found by exact names and read in place, never unpacked; or a
//! folder, which nothing leads out of.

use super::feed::{Plain, within};
use super::tar::{Kind, Reader, Source, components};
use crate::layout::{Root, Scratch};
use crate::sys::dir::Dir;
use crate::sys::file::read_all_limited;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

const DOCUMENT_LIMIT: u64 = 16 << 20;
const MEMBER_LIMIT: usize = 1 << 16;
const LINK_LIMIT: usize = 8;

/// Named pieces: the members of an archive, or the files of a folder.
pub enum Archive {
    Tar(TarArchive),
    Folder(Dir),
}

impl Archive {
    /// Opens `file`: an archive, a stream of one, or a folder.
    pub fn open(root: &Root, file: File) -> Result<Archive> {
        if file.metadata().context("read the archive")?.is_dir() {
            return Ok(Archive::Folder(Dir::from(OwnedFd::from(file))));
        }
        TarArchive::open(root, file).map(Archive::Tar)
    }

    /// Whether there is a piece of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Archive::Tar(tar) => tar.place(name.as_bytes(), 0).is_ok(),
            Archive::Folder(folder) => in_folder(folder, name).is_ok(),
        }
    }

    /// A piece's bytes.
    pub fn member(&self, name: &str) -> Result<Slice> {
        let (file, at, end) = match self {
            Archive::Tar(tar) => {
                let (offset, size) = tar.place(name.as_bytes(), 0)?;
                (tar.file.clone(), offset, offset + size)
            }
            Archive::Folder(folder) => {
                let file = in_folder(folder, name)?;
                let end = file.metadata().with_context(|| format!("read {name:?}"))?.len();
                (Arc::new(file), 0, end)
            }
        };
        Ok(Slice { file, at, end, buffer: Vec::new(), used: 0 })
    }

    /// A piece that is a small document.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        let mut member = self.member(name)?;
        read_all_limited(&mut member, DOCUMENT_LIMIT).with_context(|| format!("read {name:?} in the archive"))
    }
}

fn in_folder(folder: &Dir, name: &str) -> Result<File> {
    let parts = components(name.as_bytes()).with_context(|| format!("{name:?} leads outside"))?;
    let path = parts.join(&b'/');
    folder.file_in_root(Path::new(OsStr::from_bytes(&path))).with_context(|| format!("open {name:?} in the folder"))
}

/// An archive whose members are known.
pub struct TarArchive {
    file: Arc<File>,
    members: HashMap<Vec<u8>, Member>,
    /// Holds the archive if it had to be written down first.
    _spool: Option<Scratch>,
}

enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// A link to another member, resolved as a name.
    Link(Vec<u8>),
    Other,
}

impl TarArchive {
    /// Finds the members of `file`. What cannot be read at any place, or is compressed, is written down first.
    fn open(root: &Root, mut file: File) -> Result<TarArchive> {
        let is_file = file.metadata().context("read the archive")?.is_file();
        let start = if is_file { file.stream_position().context("read the archive")? } else { 0 };
        let mut magic = [0u8; 6];
        let is_raw = is_file && {
            let length = file.read_at(&mut magic, start).context("read the archive")?;
            Plain::new(&magic[..length]).context("read the archive")?.is_raw()
        };
        let (file, start, spool) = if is_raw { (file, start, None) } else { spool(root, file)? };
        let length = file.metadata().context("read the archive")?.len();
        if length <= start {
            bail!("the archive is empty");
        }
        let file = Arc::new(file);
        let slice = Slice { file: file.clone(), at: start, end: length, buffer: Vec::new(), used: 0 };
        Ok(TarArchive { file, members: members(slice, start)?, _spool: spool })
    }

    fn place(&self, name: &[u8], links: usize) -> Result<(u64, u64)> {
        let shown = || format!("{:?}", String::from_utf8_lossy(name));
        let name = components(name).map(|parts| parts.join(&b'/')).unwrap_or_default();
        match self.members.get(&name) {
            Some(Member::File { offset, size }) => Ok((*offset, *size)),
            Some(Member::Link(target)) if links < LINK_LIMIT => self.place(target, links + 1),
            Some(_) => bail!("{} in the archive is not a file", shown()),
            None => bail!("{} is not in the archive", shown()),
        }
    }
}

fn members(slice: Slice, start: u64) -> Result<HashMap<Vec<u8>, Member>> {
    let mut reader = Reader::new(slice, ());
    let mut members = HashMap::new();
    while let Some(entry) = reader.next().context("read the archive")? {
        reader.leave_content_out();
        let shown = || format!("{:?}", String::from_utf8_lossy(&entry.path));
        let Some(parts) = components(&entry.path) else { bail!("the archive's member {} leads outside", shown()) };
        let member = match entry.kind {
            Kind::File if entry.segments.is_some() => bail!("the archive's member {} is sparse", shown()),
            Kind::File => Member::File { offset: start + reader.position(), size: entry.size },
            Kind::HardLink => Member::Link(entry.link),
            Kind::Symlink => beside(&parts, &entry.link).map_or(Member::Other, Member::Link),
            _ => Member::Other,
        };
        members.insert(parts.join(&b'/'), member);
        if members.len() > MEMBER_LIMIT {
            bail!("the archive has more than {MEMBER_LIMIT} members");
        }
    }
    Ok(members)
}

/// The name that a symbolic link means, if that is inside the archive.
fn beside(link: &[&[u8]], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut parts = link[..link.len().checked_sub(1)?].to_vec();
    for part in target.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        match part {
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// Writes a stream down, decompressed.
fn spool(root: &Root, source: File) -> Result<(File, u64, Option<Scratch>)> {
    let scratch = root.staging()?;
    let path = scratch.path().join("archive");
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    let mut plain = Plain::new(BufReader::with_capacity(256 << 10, source)).context("read the archive")?;
    let mut buffer = vec![0u8; 256 << 10];
    let mut written = 0u64;
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                written += length as u64;
                within(scratch.limit(), written).context("read the archive")?;
                file.write_all(&buffer[..length]).context("write the archive down")?;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("read the archive"),
        }
    }
    Ok((file, 0, Some(scratch)))
}

/// A part of a file, read without moving the file's own position.
pub struct Slice {
    file: Arc<File>,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Slice {
    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        self.end - self.at + (self.buffer.len() - self.used) as u64
    }

    fn read_direct(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if length == 0 && wanted > 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            return self.read_direct(buffer);
        }
        let length = buffer.len().min(self.buffer.len() - self.used);
        buffer[..length].copy_from_slice(&self.buffer[self.used..self.used + length]);
        self.used += length;
        Ok(length)
    }
}

impl BufRead for Slice {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(4096, 0);
            let length = self.read_direct(&mut buffer)?;
            buffer.truncate(length);
            (self.buffer, self.used) = (buffer, 0);
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}

impl Source for Slice {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let buffered = (self.buffer.len() - self.used) as u64;
        if count <= buffered {
            self.used += count as usize;
            return Ok(());
        }
        self.used = self.buffer.len();
        match self.at.checked_add(count - buffered).filter(|at| *at <= self.end) {
            Some(at) => self.at = at,
            None => return Err(ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}
