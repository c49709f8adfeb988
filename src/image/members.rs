//! Where saved images go: the members of a tar, or the files of a folder.

use super::diff::marker;
use super::tar::{END, Entry, Kind, encode, padding};
use crate::sys::file::sync_parent;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Named pieces, one after another.
pub trait Members {
    /// Makes a folder, after those that it lies in.
    fn folder(&mut self, name: &str) -> Result<()>;

    /// Makes a file of what `write` writes, which is `size` bytes.
    fn file(&mut self, name: &str, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()>;

    /// Makes a file with this content.
    fn document(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.file(name, data.len() as u64, &mut |out| out.write_all(data).context("write a document"))
    }

    /// Ends it.
    fn complete(&mut self) -> Result<()>;
}

const BUFFER: usize = 1 << 20;

/// A tar archive.
pub struct TarMembers<W: Write>(BufWriter<W>);

impl<W: Write> TarMembers<W> {
    /// Writes the archive to `out`.
    pub fn new(out: W) -> TarMembers<W> {
        TarMembers(BufWriter::with_capacity(BUFFER, out))
    }

    fn head(&mut self, entry: &Entry) -> Result<()> {
        self.0.write_all(&encode(entry)).context("write the archive")
    }
}

impl<W: Write> Members for TarMembers<W> {
    fn folder(&mut self, name: &str) -> Result<()> {
        let path = format!("{name}/").into_bytes();
        self.head(&Entry { kind: Kind::Directory, mode: 0o755, ..marker(path) })
    }

    fn file(&mut self, name: &str, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
        self.head(&Entry { mode: 0o644, size, ..marker(name.as_bytes().to_vec()) })?;
        exactly(size, &mut self.0, write).with_context(|| format!("write {name} to the archive"))?;
        self.0.write_all(&[0; 512][..padding(size)]).context("write the archive")
    }

    fn complete(&mut self) -> Result<()> {
        self.0.write_all(&END).and_then(|()| self.0.flush()).context("write the archive")
    }
}

/// A folder of the host's.
pub struct FolderMembers {
    path: PathBuf,
}

impl FolderMembers {
    /// Makes the folder.
    pub fn new(path: &Path) -> Result<FolderMembers> {
        make_folder(path)?;
        Ok(FolderMembers { path: path.to_owned() })
    }
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().mode(0o755).create(path).with_context(|| format!("make {}", path.display()))
}

impl Members for FolderMembers {
    fn folder(&mut self, name: &str) -> Result<()> {
        make_folder(&self.path.join(name))
    }

    fn file(&mut self, name: &str, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
        let path = self.path.join(name);
        let file = File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let written = exactly(size, &mut out, write).and_then(|()| Ok(out.flush()?));
        written.with_context(|| format!("write {}", path.display()))
    }

    fn complete(&mut self) -> Result<()> {
        sync_parent(&self.path.join("oci-layout")).context("sync the folder")
    }
}

/// Counts what passes, so that a layer of another size than was said does not make a broken archive.
fn exactly(size: u64, out: &mut dyn Write, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
    struct Counted<'a>(&'a mut dyn Write, u64);
    impl Write for Counted<'_> {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let length = self.0.write(data)?;
            self.1 += length as u64;
            Ok(length)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
    let mut counted = Counted(out, 0);
    write(&mut counted)?;
    if counted.1 != size {
        bail!("it has {} bytes, not {size}", counted.1);
    }
    Ok(())
}
