//! Images that the user has mounted on the host, to look into them without a container.
//!
//! ```text
//! <state>/images/<image id>   a read-only overlay of the image's layers
//! <root>/mounts.lock          held alone while mounts come and go
//! ```
//! The mount is its own record: it is at a place that its image's id tells, and is gone after a reboot as the folder
//! is. An image that is mounted is not removed.

use super::digest::Digest;
use super::store::Store;
use crate::layout::mkdir_all;
use crate::sys::dir::Dir;
use crate::sys::file::{Lock, LockMode};
use crate::sys::mount::{Attributes, Overlay, set_attributes};
use anyhow::{Context, Result, bail};
use nix::mount::MntFlags;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

impl Store {
    /// Mounts an image read-only on the host, unless it is already, and tells where.
    pub fn mount(&self, image: &str) -> Result<PathBuf> {
        let _making = self.root.lock_for_making()?;
        let Some(image) = self.find(image)? else { bail!("No such image: {image}") };
        let mut lower = self.layer_dirs(&image)?;
        if lower.is_empty() {
            bail!("the image {} has no layers, so there is nothing to mount", image.id.short());
        }
        let place = self.place_of(&image.id);
        let _alone = self.lock_mounts()?;
        if is_mount(&place)? {
            return Ok(place);
        }
        mkdir_all(&place)?;
        if lower.len() == 1 {
            // An overlay is of two folders at least; this one is empty.
            lower.insert(0, place.clone());
        }
        let overlay = Overlay { lower, upper: None, work: None, volatile: false };
        let mounted = overlay.attach(&place).and_then(|()| restrict(&place));
        if let Err(error) = mounted {
            while nix::mount::umount2(&place, MntFlags::MNT_DETACH).is_ok() {}
            let _ = std::fs::remove_dir(&place);
            let _ = std::fs::remove_dir(self.mounts_folder());
            return Err(error).with_context(|| format!("mount the image on {}", place.display()));
        }
        Ok(place)
    }

    /// Takes an image's mount away, by `force` also if somebody is in it. Returns whether there was one.
    pub fn unmount(&self, image: &Digest, force: bool) -> Result<bool> {
        if !self.mounts_folder().exists() {
            return Ok(false);
        }
        let _alone = self.lock_mounts()?;
        let place = self.place_of(image);
        let is_mounted = is_mount(&place)?;
        // A tall stack of layers is two mounts.
        while is_mount(&place)? {
            let flags = if force { MntFlags::MNT_DETACH } else { MntFlags::empty() };
            nix::mount::umount2(&place, flags)
                .with_context(|| format!("unmount {} (--force takes it from whoever uses it)", place.display()))?;
        }
        // What a killed command left goes, too.
        if let Err(e) = std::fs::remove_dir(&place)
            && e.kind() != ErrorKind::NotFound
        {
            return Err(e).with_context(|| format!("remove {}", place.display()));
        }
        // Others may still be mounted.
        let _ = std::fs::remove_dir(self.mounts_folder());
        Ok(is_mounted)
    }

    /// The images that are mounted, and where.
    pub fn mounted(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let folder = self.mounts_folder();
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("read {}", folder.display()))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("read {}", folder.display()))?.file_name();
            let Some(image) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) else { continue };
            if is_mount(&folder.join(&name))? {
                found.push((image, folder.join(name)));
            }
        }
        found.sort();
        Ok(found)
    }

    fn mounts_folder(&self) -> PathBuf {
        self.root.state().join("images")
    }

    fn place_of(&self, image: &Digest) -> PathBuf {
        self.mounts_folder().join(image.hex())
    }

    fn lock_mounts(&self) -> Result<Lock> {
        Lock::wait(&self.root.join("mounts.lock"), LockMode::Exclusive).context("lock the mounted images")
    }
}

/// What an image brings has no rights on the host.
fn restrict(place: &Path) -> std::io::Result<()> {
    let set = Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV;
    set_attributes(Dir::open(place)?, set, Attributes::empty(), None, false)
}

fn is_mount(path: &Path) -> Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(std::io::Error::from(e)).with_context(|| format!("look at {}", path.display())),
    }
}
