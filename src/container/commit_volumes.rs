//! What a container's volumes hold as a layer of an image, for those who ask for it.

use super::containers::Container;
use super::options::MountSource;
use crate::image::digest::Digest;
use crate::image::union::Union;
use crate::image::{CommitSource, ImageConfig, NewImage, Reference, Store};
use crate::layout::Scratch;
use crate::sys::dir::{Dir, clean, file_type};
use crate::volume::{Source, Volumes};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Stat};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Links that are followed for one path.
const LINK_LIMIT: usize = 40;

/// Puts a layer with the volumes' content on the image that was made of the container's own changes.
pub(super) fn add(container: &Container, base_id: Digest, reference: Option<&Reference>) -> Result<Digest> {
    let store = Store::open(&container.root);
    let base = store.find(&base_id.to_string())?.context("the image is gone that was just made")?;
    let _making = container.root.lock_for_making()?;
    let scratch = container.root.scratch()?;
    let upper = tree(container, &base.config, &scratch).context("copy the volumes")?;
    let source = CommitSource { upper: &upper, base: &base.config, base_id };
    let mut image = NewImage {
        config: base.config.config.clone().unwrap_or_default(),
        message: "volumes".into(),
        created_by: format!("volumes of {}", container.record.short_id()),
        container: container.record.id.clone(),
        ..NewImage::default()
    };
    image.author.clone_from(&base.config.author);
    store.commit(source, image, reference)
}

/// Makes what an overlay would have as its upper directory if the volumes' content were no volumes'.
fn tree(container: &Container, base: &ImageConfig, scratch: &Scratch) -> Result<PathBuf> {
    let path = scratch.path().join("upper");
    std::fs::create_dir(&path)?;
    let top = Dir::open(&path)?;
    let below = Union::new(Store::open(&container.root).open_layers(&base.rootfs.diff_ids)?);
    let mut parents = BTreeMap::new();
    let mut points: Vec<_> = container.record.mounts.iter().collect();
    points.sort_by_key(|p| Path::new(&p.target).components().count());
    for point in points {
        let MountSource::Volume(name) = &point.source else { continue };
        let Some(Source::Folder { path: data, .. }) = Volumes::open(&container.root).get(name).map(|v| v.source())
        else {
            continue;
        };
        let what = || format!("copy the volume {name}");
        let data = Dir::open(data).with_context(what)?;
        let data = point.tuning.subpath.as_ref().map_or(Ok(data.try_clone()?), |part| data.dir_in_root(part));
        let target = resolve(&below, Path::new(&point.target)).with_context(what)?;
        let (Some(parent), Some(file_name)) = (target.parent(), target.file_name()) else { continue };
        let folder = make_parents(&top, &below, parent, &mut parents).with_context(what)?;
        // An outer volume may have the place of an inner one in it.
        folder.remove_tree(file_name).with_context(what)?;
        folder.mkdir(file_name, 0o700).with_context(what)?;
        let copy = folder.child(file_name)?;
        Union::new(vec![data.with_context(what)?]).copy_tree(Path::new("/"), &copy).with_context(what)?;
        // What the image has there was not seen in the container.
        copy.set_xattr(".", "trusted.overlay.opaque", b"y").with_context(what)?;
    }
    for (path, stat) in parents.iter().rev() {
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        top.dir_without_links(path)?.set_self(stat.st_uid, stat.st_gid, stat.st_mode, (stat.st_mtime, nanos))?;
    }
    Ok(path)
}

/// Opens a folder, making it with what leads to it; those that are below too get their attributes later.
fn make_parents(top: &Dir, below: &Union, path: &Path, known: &mut BTreeMap<PathBuf, Stat>) -> Result<Dir> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(top.try_clone()?) };
    let parent = make_parents(top, below, parent, known)?;
    match parent.mkdir(name, 0o755) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => {
            other?;
            if let Some(stat) = below.lstat(path)?.filter(|s| file_type(s) == FileType::Directory) {
                known.insert(path.strip_prefix("/")?.to_owned(), stat);
            }
        }
    }
    Ok(parent.child(name)?)
}

/// A path without links, as it is in the image.
fn resolve(image: &Union, path: &Path) -> Result<PathBuf> {
    let mut path = clean(path);
    'again: for _ in 0..LINK_LIMIT {
        let mut seen = PathBuf::from("/");
        for part in path.components().skip(1) {
            let rest = path.strip_prefix(seen.join(part)).map(Path::to_owned);
            let stat = image.lstat(&seen.join(part)).unwrap_or(None);
            if stat.is_some_and(|s| file_type(&s) == FileType::Symlink) {
                let target = image.read_link(&seen.join(part))?;
                path = clean(&seen.join(OsStr::new(&target)).join(rest?));
                continue 'again;
            }
            seen.push(part);
        }
        return Ok(path);
    }
    bail!("too many links on the way to {}", path.display())
}
