//! The canonical tar of a tree in overlay form: the same tree always gives the same bytes.
//!
//! Entries come in the order of a walk, names sorted by their bytes, a directory before what is in it. A whiteout
//! is written as `.wh.NAME` where NAME would stand, an opaque directory is followed by its `.wh..wh..opq`. The
//! first of several names of a file is the file, the others are hard links. Sockets are left out.

use super::apply::{OPAQUE_XATTR, keeps_xattr};
use super::recipe::copy_exactly;
use super::tar::{END, Entry, Kind, encode, padding};
use crate::sys::depth;
use crate::sys::dir::{Dir, file_type, is_whiteout};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, Stat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a whiteout's name begins with.
pub const WHITEOUT: &[u8] = b".wh.";
/// The name that marks its directory as opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Writes the canonical tar of everything in `fs`.
pub fn write_tree(fs: &Dir, out: &mut dyn Write) -> Result<()> {
    let mut links = Links::default();
    walk(fs, Vec::new(), &mut links, out)?;
    out.write_all(&END).context("write the archive")
}

fn walk(dir: &Dir, path: Vec<u8>, links: &mut Links, out: &mut dyn Write) -> Result<()> {
    if is_opaque(dir)? {
        out.write_all(&encode(&marker(join(&path, OPAQUE)))).context("write the archive")?;
    }
    for name in dir.names().with_context(|| format!("read the folder {}", show(&path)))? {
        let path = join(&path, name.as_bytes());
        let stat = dir.stat(&name).with_context(|| format!("read {}", show(&path)))?;
        let Some(entry) = describe(dir, &name, &path, &stat, links)? else { continue };
        out.write_all(&encode(&entry)).context("write the archive")?;
        match entry.kind {
            Kind::Directory => {
                let child = dir.child(&name).with_context(|| format!("open the folder {}", show(&path)))?;
                depth::check(&path)?;
                walk(&child, path, links, out)?;
            }
            Kind::File if entry.size > 0 => {
                let file = File::from(dir.open_at(&name, OFlags::RDONLY, 0)?);
                copy_exactly(file, entry.size, out).with_context(|| format!("read {}", show(&path)))?;
                out.write_all(&[0; 512][..padding(entry.size)]).context("write the archive")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first names of files that have several.
#[derive(Default)]
pub struct Links(HashMap<(u64, u64), Vec<u8>>);

/// The entry of one name; `None` for what a tar cannot hold.
pub fn describe(dir: &Dir, name: &OsStr, path: &[u8], stat: &Stat, links: &mut Links) -> Result<Option<Entry>> {
    if is_whiteout(stat) {
        let parent = &path[..path.len() - name.len()];
        return Ok(Some(marker([parent, WHITEOUT, name.as_bytes()].concat())));
    }
    if name.as_bytes().starts_with(WHITEOUT) {
        bail!("{}: a name that begins with .wh. cannot be in a layer", show(path));
    }
    describe_as_is(dir, name, path, stat, links)
}

/// As [`describe`] where nothing has the meaning that layers give it.
pub fn describe_as_is(dir: &Dir, name: &OsStr, path: &[u8], stat: &Stat, links: &mut Links) -> Result<Option<Entry>> {
    let kind = match file_type(stat) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    let mut entry = Entry {
        path: path.to_vec(),
        kind,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == Kind::File { u64::try_from(stat.st_size)? } else { 0 },
        mtime: mtime(stat),
        device: if is_device { (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) } else { (0, 0) },
        xattrs: xattrs(dir, name).with_context(|| format!("read the attributes of {}", show(path)))?,
        segments: None,
    };
    match kind {
        Kind::Directory => entry.path.push(b'/'),
        Kind::Symlink => entry.link = dir.readlink(name)?.into_vec(),
        _ => {}
    }
    if kind != Kind::Directory && stat.st_nlink > 1 {
        if let Some(first) = links.0.get(&(stat.st_dev, stat.st_ino)) {
            return Ok(Some(Entry { kind: Kind::HardLink, link: first.clone(), size: 0, device: (0, 0), ..entry }));
        }
        links.0.insert((stat.st_dev, stat.st_ino), path.to_vec());
    }
    Ok(Some(entry))
}

/// An entry that only its name matters of.
pub fn marker(path: Vec<u8>) -> Entry {
    Entry {
        path,
        kind: Kind::File,
        link: Vec::new(),
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (0, 0),
        device: (0, 0),
        xattrs: Vec::new(),
        segments: None,
    }
}

/// The extended attributes that a layer keeps, sorted.
pub fn xattrs(dir: &Dir, name: &OsStr) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let all = dir.xattrs(name)?.into_iter().map(|(key, value)| (key.into_vec(), value));
    Ok(all.filter(|(key, _)| keeps_xattr(key)).collect())
}

/// Whether a directory hides what lower layers have in it.
pub fn is_opaque(dir: &Dir) -> Result<bool> {
    Ok(dir.xattr(".", OPAQUE_XATTR).context("read the attributes of a folder")?.is_some_and(|value| value == b"y"))
}

/// Seconds since 1970 and nanoseconds.
pub fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// `path/name`, or just `name` at the top.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// A path for a message.
pub fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}
