//! What it takes, beside a layer's files, to make its original tar again bit for bit.
//!
//! ```text
//! layers/<diff id>/recipe    zstd, a sequence of
//!     0  length: u32  bytes                      to be written as they are: headers, padding, …
//!     1  length: u32  path  size: u64            the content of fs/<path>, or of kept/<n> if that exists,
//!                                                n being the number of such pieces before this one
//! layers/<diff id>/kept/<n>  content whose name was taken by a later entry of the same tar
//! ```
//! Numbers are little-endian. A tar that is written just as [`super::diff`] writes it needs no recipe.

use super::tar::{END, Entry, Kind, Tap, components, encode, padding};
use crate::sys::dir::Dir;
use anyhow::{Context, Result, bail};
use rustix::fs::Stat;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const LITERAL: u8 = 0;
const CONTENT: u8 = 1;
/// Literals are gathered up to this many bytes.
const GATHERED: usize = 64 << 10;
const KEPT: &str = "kept";
const RECIPE: &str = "recipe";

/// Writes the recipe of a layer while it is unpacked.
pub struct Recorder {
    layer: Dir,
    out: zstd::Encoder<'static, File>,
    literal: Vec<u8>,
    contents: u64,
    /// Which piece of content a file holds, by its inode.
    by_inode: HashMap<u64, u64>,
    kept: Option<Dir>,
    canonical: Option<Canonical>,
}

impl Recorder {
    /// Begins the recipe in a layer's folder.
    pub fn new(layer: &Dir) -> Result<Recorder> {
        let layer = layer.try_clone()?;
        let out = zstd::Encoder::new(layer.create(RECIPE, 0o600).context("make the recipe")?, 1)?;
        Ok(Recorder {
            layer,
            out,
            literal: Vec::with_capacity(GATHERED + 4096),
            contents: 0,
            by_inode: HashMap::new(),
            kept: None,
            canonical: Some(Canonical::default()),
        })
    }

    /// Says that the headers of `entry` have passed.
    pub fn entry(&mut self, entry: &Entry) {
        if self.canonical.as_mut().is_some_and(|c| !c.accepts(entry)) {
            self.canonical = None;
        }
    }

    /// Says that the tar cannot be made again from the tree alone.
    pub fn not_canonical(&mut self) {
        self.canonical = None;
    }

    /// Says that the next `size` bytes are the content of the new file `path`, which has this inode.
    pub fn content(&mut self, inode: u64, path: &[u8], size: u64) -> Result<()> {
        self.flush()?;
        self.out.write_all(&[CONTENT])?;
        self.out.write_all(&u32::try_from(path.len())?.to_le_bytes())?;
        self.out.write_all(path)?;
        self.out.write_all(&size.to_le_bytes())?;
        self.by_inode.insert(inode, self.contents);
        self.contents += 1;
        Ok(())
    }

    /// Moves a file aside whose name is about to be taken, if its content is needed. True if it is out of the way.
    pub fn rescue(&mut self, parent: &Dir, name: &OsStr, stat: &Stat) -> Result<bool> {
        let Some(number) = self.by_inode.get(&stat.st_ino) else { return Ok(false) };
        let number = number.to_string();
        if self.kept.is_none() {
            self.layer.mkdir(KEPT, 0o700)?;
            self.kept = Some(self.layer.child(KEPT)?);
        }
        let Some(kept) = &self.kept else { return Ok(false) };
        if kept.stat_opt(&number)?.is_some() {
            return Ok(false);
        }
        parent.rename(name, kept, &number).context("keep the content of a replaced file")?;
        Ok(true)
    }

    fn flush(&mut self) -> Result<()> {
        if !self.literal.is_empty() {
            self.out.write_all(&[LITERAL])?;
            self.out.write_all(&u32::try_from(self.literal.len())?.to_le_bytes())?;
            self.out.write_all(&self.literal)?;
            self.literal.clear();
        }
        Ok(())
    }

    /// Completes the recipe, or removes it if it says nothing that the tree does not. True if there is one.
    pub fn finish(mut self) -> Result<bool> {
        if self.canonical.as_ref().is_some_and(Canonical::is_complete) {
            self.layer.unlink(RECIPE)?;
            return Ok(false);
        }
        self.flush()?;
        self.out.finish().context("write the recipe")?;
        Ok(true)
    }
}

impl Tap for Recorder {
    fn literal(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let Some(canonical) = &mut self.canonical {
            canonical.pending.extend_from_slice(bytes);
            // More than headers can have: content without a file of its own, or something behind the end.
            if canonical.pending.len() > 2 << 20 {
                self.canonical = None;
            }
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(GATHERED));
            self.literal.extend_from_slice(now);
            if self.literal.len() >= GATHERED {
                self.flush().context("write the recipe")?;
            }
            bytes = later;
        }
        Ok(())
    }
}

/// Follows a tar for as long as it is exactly what [`super::diff`] would write for its tree.
#[derive(Default)]
struct Canonical {
    /// Bytes since the last entry.
    pending: Vec<u8>,
    /// Size of the last entry's content.
    size: u64,
    /// The components of the last path, and whether it was a directory.
    last: Vec<Vec<u8>>,
    in_directory: bool,
    /// Whether that directory's opaque marker has passed.
    marked: bool,
    /// The files so far: what the headers of another name for them must be.
    files: HashMap<Vec<u8>, Entry>,
}

impl Canonical {
    fn accepts(&mut self, entry: &Entry) -> bool {
        let Some(expected) = self.expected(entry) else { return false };
        let zeros = padding(self.size);
        let fits = self.pending.len() == zeros + expected.len()
            && self.pending[..zeros].iter().all(|b| *b == 0)
            && self.pending[zeros..] == expected;
        self.pending.clear();
        self.size = entry.size;
        fits
    }

    fn is_complete(&self) -> bool {
        self.pending.len() == padding(self.size) + END.len() && self.pending.iter().all(|b| *b == 0)
    }

    /// The headers that the writer makes for what this entry leaves in the tree, if it belongs here at all.
    fn expected(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let parts = components(&entry.path)?;
        let (name, parents) = parts.split_last()?;
        let mut path = parts.join(&b'/');
        if *name == super::diff::OPAQUE {
            let follows = self.in_directory && self.last.iter().eq(parents.iter());
            return (follows && !std::mem::replace(&mut self.marked, true)).then(|| encode(&super::diff::marker(path)));
        }
        let whiteout = name.strip_prefix(super::diff::WHITEOUT);
        self.advance(parents, whiteout.unwrap_or(name), entry.kind == Kind::Directory)?;
        if whiteout.is_some() {
            return Some(encode(&super::diff::marker(path)));
        }
        if entry.kind == Kind::Directory {
            path.push(b'/');
        }
        if entry.kind == Kind::HardLink {
            let file = self.files.get(&entry.link)?;
            let link =
                Entry { path, kind: Kind::HardLink, link: entry.link.clone(), size: 0, device: (0, 0), ..file.clone() };
            return Some(encode(&link));
        }
        let mut plain = Entry { path, segments: None, ..entry.clone() };
        plain.xattrs.retain(|(key, _)| super::apply::keeps_xattr(key));
        if entry.kind == Kind::Symlink {
            plain.mode = 0o777;
        } else {
            plain.link.clear();
        }
        let bytes = encode(&plain);
        if entry.kind != Kind::Directory {
            self.files.insert(plain.path.clone(), plain);
        }
        Some(bytes)
    }

    /// Moves on in the order of a walk: each name after its elder siblings, below a directory that was there.
    fn advance(&mut self, parents: &[&[u8]], name: &[u8], is_directory: bool) -> Option<()> {
        let depth = parents.len();
        let is_new_child = depth == self.last.len() && (self.in_directory || depth == 0);
        if !is_new_child && (depth >= self.last.len() || self.last[depth].as_slice() >= name) {
            return None;
        }
        if !self.last.iter().take(depth).eq(parents.iter()) {
            return None;
        }
        self.last.truncate(depth);
        self.last.push(name.to_vec());
        self.in_directory = is_directory;
        self.marked = false;
        Some(())
    }
}

/// Makes the tar of a layer again from its recipe; `None` if it has none.
pub fn replay(layer: &Dir, out: &mut dyn Write) -> Result<Option<()>> {
    let recipe = match layer.open_at(RECIPE, rustix::fs::OFlags::RDONLY, 0) {
        Ok(fd) => File::from(fd),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context("open the recipe"),
    };
    let fs = layer.child("fs").context("open the layer's files")?;
    let kept = layer.child(KEPT).ok();
    let mut input = io::BufReader::new(zstd::Decoder::new(recipe).context("read the recipe")?);
    let mut number = 0u64;
    let mut bytes = Vec::new();
    let mut tag = [0u8];
    while input.read(&mut tag).context("read the recipe")? > 0 {
        let mut length = [0u8; 4];
        input.read_exact(&mut length).context("read the recipe")?;
        bytes.resize(u32::from_le_bytes(length) as usize, 0);
        input.read_exact(&mut bytes).context("read the recipe")?;
        match tag[0] {
            LITERAL => out.write_all(&bytes).context("write the layer")?,
            CONTENT => {
                let mut size = [0u8; 8];
                input.read_exact(&mut size).context("read the recipe")?;
                let path = Path::new(OsStr::from_bytes(&bytes));
                let file = match kept.as_ref().and_then(|k| k.file_in_root(number.to_string()).ok()) {
                    Some(file) => file,
                    None => fs.file_in_root(path).with_context(|| format!("open {}", path.display()))?,
                };
                copy_exactly(file, u64::from_le_bytes(size), out)
                    .with_context(|| format!("read {}", path.display()))?;
                number += 1;
            }
            other => bail!("the recipe has an unknown step {other}"),
        }
    }
    Ok(Some(()))
}

/// Copies a file of a known size.
pub fn copy_exactly(file: File, size: u64, out: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0u8; usize::try_from(size).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
    let mut source = file.take(size);
    let mut copied = 0u64;
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        copied += length as u64;
        out.write_all(&buffer[..length])?;
    }
    if copied != size {
        bail!("the file has {copied} bytes, not {size}");
    }
    Ok(())
}
