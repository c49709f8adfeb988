//! Providing one layer to a registry: it has it, takes it from a neighbour, or gets it compressed.

use super::gzip;
use super::origins::{self, Origin};
use crate::image::digest::{Digest, Hasher};
use crate::image::manifest::Descriptor;
use crate::image::progress::{Amount, Progress, Step};
use crate::image::store::Store;
use crate::layout::Scratch;
use crate::registry::{Repository, Source};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

pub const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Blobs and neighbours that are tried.
const TRIES: usize = 4;
/// Bytes between two reports.
const REPORT: u64 = 128 << 10;

/// What all layers of one push have in common.
pub struct Providing<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    pub progress: &'a dyn Progress,
}

impl Providing<'_> {
    /// Makes sure that the repository has a layer. `known` is the blob of it that the image's manifest names.
    pub fn layer(&self, diff_id: &Digest, known: &Descriptor) -> Result<Descriptor> {
        let item = diff_id.short();
        let root = &self.store.root;
        let blobs = candidates(origins::read(root, diff_id), known, diff_id);
        for blob in blobs.iter().take(TRIES) {
            if self.repository.has_blob(&blob.digest.to_string())? {
                self.progress.step(&item, Step::LayerAlreadyExists);
                return Ok(self.provided(diff_id, blob));
            }
        }
        for blob in blobs.iter().take(TRIES) {
            for neighbour in self.neighbours(blob).take(TRIES) {
                if self.repository.mount(&blob.digest.to_string(), neighbour)? {
                    self.progress.step(&item, Step::MountedFrom(neighbour.to_owned()));
                    return Ok(self.provided(diff_id, blob));
                }
            }
        }
        self.send(diff_id, &item)
    }

    /// Other repositories of the same registry in which a blob was seen.
    fn neighbours<'o>(&'o self, blob: &'o Origin) -> impl Iterator<Item = &'o str> {
        let of_this_host = |place: &'o String| place.strip_prefix(self.repository.host())?.strip_prefix('/');
        blob.places.iter().filter_map(of_this_host).filter(|path| *path != self.repository.path())
    }

    fn provided(&self, diff_id: &Digest, blob: &Origin) -> Descriptor {
        let place = format!("{}/{}", self.repository.host(), self.repository.path());
        origins::remember(&self.store.root, diff_id, Origin { places: vec![place], ..blob.clone() });
        Descriptor::new(&blob.media_type, blob.digest, blob.size)
    }

    fn send(&self, diff_id: &Digest, item: &str) -> Result<Descriptor> {
        let total = self.store.layer_tar_size(diff_id)?;
        self.progress.step(item, Step::Pushing(Amount { done: 0, total: Some(total) }));
        let spool = Spool::fill(self.store, diff_id).with_context(|| format!("compress the layer {diff_id}"))?;
        let blob = Origin { digest: spool.digest, size: spool.size, media_type: GZIP_LAYER.into(), places: Vec::new() };
        let digest = spool.digest.to_string();
        // Somebody may have pushed the same with other memories.
        if self.repository.has_blob(&digest)? {
            self.progress.step(item, Step::LayerAlreadyExists);
            return Ok(self.provided(diff_id, &blob));
        }
        let told = AtomicU64::new(0);
        let sent = |done: u64| {
            let before = told.load(Ordering::Relaxed);
            if done < before || done - before >= REPORT || done == spool.size {
                told.store(done, Ordering::Relaxed);
                self.progress.step(item, Step::Pushing(Amount { done, total: Some(spool.size) }));
            }
        };
        let uploaded = self.repository.upload(&digest, spool.size, &spool, &sent);
        uploaded.with_context(|| format!("send the layer {diff_id}"))?;
        self.progress.step(item, Step::Pushed);
        Ok(self.provided(diff_id, &blob))
    }
}

/// The blobs that a layer is known as, that of the manifest first. A plain tar is not worth being sent.
fn candidates(origins: Vec<Origin>, known: &Descriptor, diff_id: &Digest) -> Vec<Origin> {
    let places = |digest: Digest| origins.iter().find(|o| o.digest == digest).map(|o| o.places.clone());
    let first = Origin {
        digest: known.digest,
        size: known.size,
        media_type: known.media_type.clone(),
        places: places(known.digest).unwrap_or_default(),
    };
    let is_useful = |blob: &Origin| blob.digest != *diff_id || !blob.places.is_empty();
    let others = origins.iter().filter(|o| o.digest != known.digest).cloned();
    std::iter::once(first).chain(others).filter(is_useful).collect()
}

/// A compressed layer in a scratch folder.
struct Spool {
    file: File,
    digest: Digest,
    size: u64,
    _scratch: Scratch,
}

impl Spool {
    fn fill(store: &Store, diff_id: &Digest) -> Result<Spool> {
        let scratch = store.root.staging()?;
        let path = scratch.path().join("blob");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let mut out = Hashed { file: BufWriter::with_capacity(256 << 10, file), hasher: Hasher::new(), size: 0 };
        gzip::compress(&mut out, |blocks| store.write_layer_tar(diff_id, blocks))?;
        let file = out.file.into_inner().map_err(io::IntoInnerError::into_error).context("write the blob down")?;
        Ok(Spool { file, digest: out.hasher.finish(), size: out.size, _scratch: scratch })
    }
}

impl Source for Spool {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(At { file: &self.file, at: from }))
    }
}

struct Hashed {
    file: BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write_all(data)?;
        self.hasher.update(data);
        self.size += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file read from a place on, without moving the file's own.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// A document in memory as a source.
pub struct Document<'a>(pub &'a [u8]);

impl Source for Document<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(self.0.len());
        Ok(Box::new(&self.0[from..]))
    }
}
