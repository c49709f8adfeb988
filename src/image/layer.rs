//! One unpacked layer on disk.
//!
//! ```text
//! <root>/layers/<diff id>/fs/         the tree in overlay form: a lowerdir; never changed once it is here
//! <root>/layers/<diff id>/meta.json   sizes
//! <root>/layers/<diff id>/recipe      how to make the original tar again, see [`super::recipe`]
//! <root>/layers/<diff id>/kept/       content that only the recipe needs
//! <root>/layers/<diff id>/unsynced    a link that says which run of the kernel made it, until it is on disk
//! ```
//! A layer is made in `tmp/`, synced, and renamed here: what is here is whole. Only a build, which makes many at once,
//! leaves the syncing to the end: its layers are whole for as long as the kernel that made them runs.

use super::apply::{self, Unpacked};
use super::diff;
use super::digest::Digest;
use super::feed::{self, Wanted, with_feed};
use super::recipe::{self, Recorder};
use super::store::Store;
use super::union::Union;
use crate::layout::{Root, Scratch};
use crate::sys::dir::{Dir, file_type};
use crate::sys::file::{Durability, sync_file_system, sync_parent, write_atomic};
use crate::sys::procfs::boot_id;
use crate::sys::random;
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

const UNSYNCED: &str = "unsynced";

/// Whether the store has a layer.
pub fn exists(root: &Root, layer: &Digest) -> bool {
    let folder = folder(root, layer);
    folder.join("fs").exists() && !is_stale(&folder)
}

/// Whether a layer was not on disk when its machine stopped: nobody knows what of it is there.
fn is_stale(folder: &Path) -> bool {
    std::fs::read_link(folder.join(UNSYNCED)).is_ok_and(|made| made != Path::new(boot_id()))
}

/// Makes those of `layers` durable that are not yet, all with one call.
pub fn settle(root: &Root, layers: &[Digest]) -> Result<()> {
    let marks: Vec<PathBuf> = layers.iter().map(|layer| folder(root, layer).join(UNSYNCED)).collect();
    let marks: Vec<&PathBuf> = marks.iter().filter(|mark| mark.symlink_metadata().is_ok()).collect();
    if marks.is_empty() {
        return Ok(());
    }
    let what = "sync the new layers";
    File::open(root.path()).and_then(|folder| sync_file_system(&folder)).context(what)?;
    for mark in marks {
        match std::fs::remove_file(mark) {
            // Somebody else who needs it has done the same.
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context(what),
            _ => {}
        }
    }
    Ok(())
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

    /// In an empty folder of the caller's.
    pub fn inside(scratch: Scratch) -> Result<NewLayer> {
        let folder = Dir::open(scratch.path()).context("open the new layer")?;
        // ext4 makes files slowly where as many have just been deleted: a layer gets a place of its own. The place
        // is chosen by the name, too.
        folder.spread();
        let name = random::hex::<8>();
        folder.mkdir(&name, 0o755).context("make the new layer")?;
        folder.rename(&name, &folder, "fs").context("name the new layer")?;
        // Whatever the caller's umask: this becomes the top folder of a root file system.
        folder.chmod("fs", 0o755)?;
        let fs = folder.child("fs")?;
        Ok(NewLayer { scratch, folder, fs })
    }

    /// Gives its top folder the attributes that each has: a tar says nothing of it, and another layer with the same tar
    /// must not differ.
    pub fn forget_top(&self) -> io::Result<()> {
        for (key, _) in self.fs.xattrs(".")? {
            self.fs.remove_xattr(".", &key)?;
        }
        self.fs.set_self(0, 0, 0o755, (0, 0))
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

    /// Puts it out of sight, to be deleted when there is time.
    pub fn discard(self, root: &Root) -> Result<()> {
        root.discard(self.scratch.path())
    }

    /// Where the tree is that becomes the layer.
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("fs")
    }

    /// Puts the synced layer in its place. If another command was faster, its layer is as good.
    pub fn publish(self, root: &Root, layer: &Digest, meta: &Meta) -> Result<()> {
        self.describe(meta, Durability::Synced)?;
        self.place(root, layer)?;
        sync_parent(&folder(root, layer)).context("sync the folder of layers")
    }

    /// The same without any syncing; [`settle`] is for later.
    pub fn publish_unsynced(self, root: &Root, layer: &Digest, meta: &Meta) -> Result<()> {
        self.describe(meta, Durability::Atomic)?;
        self.folder.symlink(boot_id().as_ref(), UNSYNCED).context("mark the new layer as not synced")?;
        self.place(root, layer)
    }

    fn describe(&self, meta: &Meta, durability: Durability) -> Result<()> {
        let path = self.scratch.path().join("meta.json");
        write_atomic(&path, &serde_json::to_vec(meta)?, durability).context("describe the new layer")
    }

    fn place(&self, root: &Root, layer: &Digest) -> Result<()> {
        let place = folder(root, layer);
        if is_stale(&place) {
            root.discard(&place)?;
        }
        match std::fs::rename(self.scratch.path(), &place) {
            Err(e) if !matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Err(e).with_context(|| format!("put the layer at {}", place.display()))
            }
            _ => Ok(()),
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
    /// The layer's diff id.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// Its folder as long as it is not published.
    pub fn path(&self) -> &Path {
        self.layer.scratch.path()
    }

    /// Makes it durable.
    pub fn sync(&self) -> Result<()> {
        self.layer.sync(self.meta.files)
    }

    /// Puts it, synced, in its place. The caller holds the store's lock as a maker.
    pub fn publish(self, root: &Root) -> Result<Meta> {
        self.layer.place(root, &self.diff_id)?;
        sync_parent(&folder(root, &self.diff_id)).context("sync the folder of layers")?;
        Ok(self.meta)
    }
}

/// Makes layers durable and puts them in their places, together. The caller holds the store's lock as a maker.
pub fn publish_all(root: &Root, layers: &[Aside]) -> Result<()> {
    let Some(first) = layers.first() else { return Ok(()) };
    if layers.iter().map(|layer| layer.meta.files).sum::<u64>() <= FEW {
        layers.iter().try_for_each(Aside::sync)?;
    } else {
        File::open(root.path()).and_then(|folder| sync_file_system(&folder)).context("sync the new layers")?;
    }
    layers.iter().try_for_each(|layer| layer.layer.place(root, &layer.diff_id))?;
    sync_parent(&folder(root, &first.diff_id)).context("sync the folder of layers")
}

/// Unpacks a layer in a scratch folder.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_aside(scratch: Scratch, source: impl Read + Send, promise: Promise) -> Result<Aside> {
    unpack_into(scratch, source, promise, None)
}

/// The same for a layer that links to files of the layers `below` it.
///
/// # Errors
/// As [`unpack_aside`].
pub fn unpack_over(scratch: Scratch, source: impl Read + Send, promise: Promise, below: &Union) -> Result<Aside> {
    unpack_into(scratch, source, promise, Some(below))
}

fn unpack_into(scratch: Scratch, source: impl Read + Send, promise: Promise, below: Option<&Union>) -> Result<Aside> {
    let layer = NewLayer::inside(scratch)?;
    let recorder = Recorder::new(&layer.folder)?;
    let stored = promise.stored.filter(|(digest, _)| *digest != promise.diff_id);
    let wanted = Wanted { stored: stored.is_some(), plain: true };
    let limit = layer.scratch.limit();
    let ((unpacked, recorder), seen) =
        with_feed(source, wanted, limit, |feed| apply::unpack(feed, &layer.fs, below, limit, recorder))?;
    if let Some((digest, size)) = promise.stored {
        feed::check("the layer", (digest, size), seen.stored, seen.stored_bytes)?;
        // Without a hash of its own the stream must be the uncompressed tar itself.
        if stored.is_none() {
            feed::check("the layer", (digest, Some(seen.plain_bytes)), None, seen.stored_bytes)?;
        }
    }
    feed::check("the uncompressed layer", (promise.diff_id, None), seen.plain, seen.plain_bytes)?;
    recorder.finish()?;
    let Unpacked { size, files } = unpacked;
    let meta = Meta { size, files, tar: seen.plain_bytes };
    // It becomes durable with everything else.
    let path = layer.scratch.path().join("meta.json");
    std::fs::write(path, serde_json::to_vec(&meta)?).context("describe the new layer")?;
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
