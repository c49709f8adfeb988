//! Tests of this room as a whole, and what all its tests share. They run as root.

mod hostile;
mod images;
mod trees;

use super::store::Store;
use crate::layout::Root;
use crate::sys::dir::Dir;
use crate::sys::random;
use std::ffi::OsStr;
use std::path::PathBuf;

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("minirun-image-{}", random::hex::<8>()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// The same on a file system on which it does not matter how much there is.
    pub fn in_memory() -> Folder {
        let path = PathBuf::from(format!("/dev/shm/minirun-image-{}", random::hex::<8>()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, sub: &str) -> PathBuf {
        self.0.join(sub)
    }

    pub fn dir(&self, sub: &str) -> Dir {
        Dir::open(self.path(sub)).unwrap()
    }

    /// A store below it.
    pub fn store(&self) -> Store {
        Store::open(&Root::open(&self.path("root"), &self.path("state")).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a file and makes its missing folders.
pub fn write(folder: &Folder, path: &str, text: &str) {
    let path = folder.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub fn marked_opaque(folder: &Folder, path: &str) {
    folder.dir(path).set_xattr(".", OsStr::new("trusted.overlay.opaque"), b"y").unwrap();
}

/// A tar of entries and contents, in the order given.
pub fn tar_of(entries: &[(super::tar::Entry, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (entry, content) in entries {
        let entry = super::tar::Entry { size: content.len() as u64, ..entry.clone() };
        out.extend(super::tar::encode(&entry));
        out.extend_from_slice(content);
        out.resize(out.len() + super::tar::padding(entry.size), 0);
    }
    out.extend(super::tar::END);
    out
}

/// An entry of a kind with a link target and ordinary attributes.
pub fn entry(kind: super::tar::Kind, path: &str, link: &str) -> super::tar::Entry {
    let link = link.as_bytes().to_vec();
    super::tar::Entry { kind, mode: 0o755, link, mtime: (1, 0), ..super::diff::marker(path.as_bytes().to_vec()) }
}
