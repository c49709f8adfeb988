//! One unpacked layer on disk.
//!
//! ```text
//! <root>/layers/<diff id>/fs/         the tree in overlay form: a lowerdir; never changed once it is here
//! <root>/layers/<diff id>/meta.json   sizes
//! <root>/layers/<diff id>/recipe      how to make the original tar again, see [`super::recipe`]
//! <root>/layers/<diff id>/kept/       content that only the recipe needs
//! ```
//! A layer is made in `tmp/`, synced, and renamed here: what is here is whole.

use super::apply::{self, Unpacked};
use super::diff;
use super::digest::Digest;
use super::feed::{self, Wanted, with_feed};
use super::recipe::{self, Recorder};
use super::store::Store;
use crate::layout::{Root, Scratch};
use crate::sys::dir::{Dir, file_type};
use crate::sys::file::{Durability, sync_file_system, sync_parent, write_atomic};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Layers of up to so many entries are synced file by file, others with everything else on the file system.
const FEW: u64 = 32;

/// What is known about a layer without looking into it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Bytes of its regular files.
    pub size: u64,
    /// Number of its entries.
    pub files: u64,
    /// Bytes of its tar.
    pub tar: u64,
}

/// Where a layer is, or would be.
pub fn folder(root: &Root, layer: &Digest) -> PathBuf {
    root.join("layers").join(layer.hex())
}

/// Whether the store has a layer.
pub fn exists(root: &Root, layer: &Digest) -> bool {
    folder(root, layer).join("fs").exists()
}

/// Reads what is known about a layer.
pub fn meta(root: &Root, layer: &Digest) -> Result<Meta> {
    let path = folder(root, layer).join("meta.json");
    let data = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&data).with_context(|| format!("read {}", path.display()))
}

/// Whether the folder `fs` of a layer is opaque as a whole.
pub fn hides_all_below(fs: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    let mut value = [0u8; 8];
    match rustix::fs::lgetxattr(fs, apply::OPAQUE_XATTR, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A layer in the making; it vanishes unless it is published.
pub struct NewLayer {
    scratch: Scratch,
    pub folder: Dir,
    pub fs: Dir,
}

impl NewLayer {
    /// Bytes that may be written to it.
    pub fn limit(&self) -> u64 {
        self.scratch.limit()
    }

    pub fn begin(root: &Root) -> Result<NewLayer> {
        NewLayer::inside(root.scratch()?)
    }

    fn inside(scratch: Scratch) -> Result<NewLayer> {
        let folder = Dir::open(scratch.path()).context("open the new layer")?;
        folder.mkdir("fs", 0o755).context("make the new layer")?;
        // Whatever the caller's umask: this becomes the top folder of a root file system.
        folder.chmod("fs", 0o755)?;
        let fs = folder.child("fs")?;
        Ok(NewLayer { scratch, folder, fs })
    }

    /// Makes the layer durable; publishing it then is a rename.
    pub fn sync(&self, files: u64) -> Result<()> {
        let synced = if files <= FEW {
            sync_each(&self.folder)
        } else {
            File::open(self.scratch.path()).and_then(|folder| sync_file_system(&folder))
        };
        synced.context("sync the new layer")
    }

    /// Puts the synced layer in its place. If another command was faster, its layer is as good.
    pub fn publish(self, root: &Root, layer: &Digest, meta: &Meta) -> Result<()> {
        let path = self.scratch.path().join("meta.json");
        write_atomic(&path, &serde_json::to_vec(meta)?, Durability::Synced).context("describe the new layer")?;
        let place = folder(root, layer);
        match std::fs::rename(self.scratch.path(), &place) {
            Err(e) if !matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Err(e).with_context(|| format!("put the layer at {}", place.display()))
            }
            _ => sync_parent(&place).context("sync the folder of layers"),
        }
    }
}

fn sync_each(dir: &Dir) -> io::Result<()> {
    for name in dir.names()? {
        match file_type(&dir.stat(&name)?) {
            FileType::Directory => sync_each(&dir.child(&name)?)?,
            FileType::RegularFile => File::from(dir.open_at(&name, OFlags::RDONLY, 0)?).sync_data()?,
            _ => {}
        }
    }
    dir.sync()
}

/// Promises about a stream that holds a layer.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Digest and size of the stream itself, if they are known.
    pub stored: Option<(Digest, Option<u64>)>,
}

/// Unpacks a layer that the store does not have and publishes it. The caller holds the store's lock as a maker.
///
/// # Errors
/// A stream that is not what was promised leaves nothing behind.
#[cfg(test)]
pub fn unpack(root: &Root, source: impl Read + Send, promise: Promise) -> Result<Meta> {
    let unpacked = unpack_aside(root.scratch()?, source, promise)?;
    unpacked.sync()?;
    unpacked.publish(root)
}

/// A layer that is as was promised, but not yet in its place.
pub struct Aside {
    layer: NewLayer,
    diff_id: Digest,
    meta: Meta,
}

impl Aside {
    /// Makes it durable.
    pub fn sync(&self) -> Result<()> {
        self.layer.sync(self.meta.files)
    }

    /// Puts it, synced, in its place. The caller holds the store's lock as a maker.
    pub fn publish(self, root: &Root) -> Result<Meta> {
        self.layer.publish(root, &self.diff_id, &self.meta)?;
        Ok(self.meta)
    }
}

/// Makes layers durable together.
pub fn sync_all(root: &Root, layers: &[Aside]) -> Result<()> {
    if layers.iter().map(|layer| layer.meta.files).sum::<u64>() <= FEW {
        return layers.iter().try_for_each(Aside::sync);
    }
    File::open(root.path()).and_then(|folder| sync_file_system(&folder)).context("sync the new layers")
}

/// Unpacks a layer in a scratch folder.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_aside(scratch: Scratch, source: impl Read + Send, promise: Promise) -> Result<Aside> {
    let layer = NewLayer::inside(scratch)?;
    let recorder = Recorder::new(&layer.folder)?;
    let stored = promise.stored.filter(|(digest, _)| *digest != promise.diff_id);
    let wanted = Wanted { stored: stored.is_some(), plain: true };
    let ((unpacked, recorder), seen) =
        with_feed(source, wanted, layer.scratch.limit(), |feed| apply::unpack(feed, &layer.fs, recorder))?;
    if let Some((digest, size)) = promise.stored {
        // Without a hash of its own the stream must be the uncompressed tar itself.
        let size = if stored.is_some() { size } else { size.or(Some(seen.plain_bytes)) };
        feed::check("the layer", (digest, size), seen.stored, seen.stored_bytes)?;
    }
    feed::check("the uncompressed layer", (promise.diff_id, None), seen.plain, seen.plain_bytes)?;
    recorder.finish()?;
    let Unpacked { size, files } = unpacked;
    let meta = Meta { size, files, tar: seen.plain_bytes };
    Ok(Aside { layer, diff_id: promise.diff_id, meta })
}

impl Store {
    /// Whether the store has this layer.
    pub fn has_layer(&self, layer: &Digest) -> bool {
        exists(&self.root, layer)
    }

    /// The length of a layer's tar in bytes.
    pub fn layer_tar_size(&self, layer: &Digest) -> Result<u64> {
        Ok(meta(&self.root, layer)?.tar)
    }

    /// Writes the tar of a layer, bit for bit as its digest says.
    ///
    /// # Errors
    /// A layer whose tar does not come out as it went in: somebody has changed its files.
    pub fn write_layer_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()> {
        let path = folder(&self.root, layer);
        let ((), digest, _) = feed::hashing(|sink| {
            let mut both = Both { out, sink };
            let dir = Dir::open(&path).with_context(|| format!("open {}", path.display()))?;
            match recipe::replay(&dir, &mut both)? {
                Some(()) => Ok(()),
                None => diff::write_tree(&dir.child("fs").context("open the layer's files")?, &mut both),
            }
        })
        .with_context(|| format!("write the layer {layer}"))?;
        if digest != *layer {
            bail!("the layer {layer} has been damaged: its files now give {digest}");
        }
        Ok(())
    }
}

struct Both<'a> {
    out: &'a mut dyn Write,
    sink: &'a mut feed::HashSink,
}

impl Write for Both<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = self.out.write(data)?;
        self.sink.write_all(&data[..length])?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
