//! Copying files between the host, containers and images, by Docker's rules about paths.
//!
//! Both sides are trees that are open by a descriptor, the host's too. A path is followed once, inside its tree, to a
//! folder that is then held open; from there on there are single names only.

use crate::image::transfer::{Entry, Place, Sink, Tar, Way, pack, pack_directory, tar_size, unpack};
use crate::sys::dir::{Dir, clean, file_type};
use crate::sys::mount::is_read_only;
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FileType, Stat};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Links that are followed at the end of one path.
const LINK_LIMIT: usize = 40;

/// A path as it was said, in an open tree.
#[derive(Debug)]
pub struct End<'a> {
    /// The top of the tree.
    pub root: &'a Dir,
    /// The path, from the top of the tree.
    pub path: &'a str,
    /// What tree it is.
    pub side: Side<'a>,
}

/// The sides of a copy.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// This machine.
    Host,
    /// A container (or image) of this name.
    Inside {
        /// As the user called it.
        name: &'a str,
        /// Nothing may be written into its layers.
        read_only: bool,
    },
}

/// What `cp` does with what it finds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// A link at the end of the source is followed.
    pub follow: bool,
    /// Everything made belongs to this user and group; `None` keeps owners.
    pub owner: Option<(u32, u32)>,
}

/// What a path leads to.
enum Found {
    Directory(Dir),
    Other {
        parent: Dir,
        name: OsString,
        stat: Stat,
    },
    /// Nothing; the path is that of what would have to be made.
    Missing(PathBuf),
}

/// A source: what there is, and how it is called.
struct Source {
    found: Found,
    name: Vec<u8>,
}

impl End<'_> {
    /// The path without `.` and `..`.
    fn clean(&self) -> PathBuf {
        clean(Path::new(self.path))
    }

    /// What comes in a folder is meant, and not the folder.
    fn means_content(&self) -> bool {
        self.path == "." || self.path.ends_with("/.") || self.clean() == Path::new("/")
    }

    /// Only a folder can be meant.
    fn means_directory(&self) -> bool {
        self.path.ends_with('/') || self.means_content()
    }

    fn missing(&self, path: &Path) -> anyhow::Error {
        match self.side {
            Side::Host => anyhow!("lstat {}: no such file or directory", path.display()),
            Side::Inside { name, .. } => anyhow!("No such container:path: {name}:{}", path.display()),
        }
    }

    fn shown(&self) -> String {
        match self.side {
            Side::Host => self.path.to_owned(),
            Side::Inside { name, .. } => format!("{name}:{}", self.path),
        }
    }

    fn find(&self, path: &Path, follow: bool) -> Result<Found> {
        find(self.root, path, follow).with_context(|| format!("look at {}", self.shown()))
    }

    fn source(&self, follow: bool) -> Result<Source> {
        let path = self.clean();
        let found = self.find(&path, follow || self.means_directory())?;
        match &found {
            Found::Missing(_) => return Err(self.missing(Path::new(self.path))),
            Found::Other { .. } if self.means_directory() => bail!("{}: not a directory", self.shown()),
            _ => {}
        }
        let name = path.file_name().filter(|_| !self.means_content()).map_or(b".".to_vec(), |n| n.as_bytes().to_vec());
        Ok(Source { found, name })
    }
}

/// Follows a path inside a tree, its last component only if asked.
fn find(root: &Dir, path: &Path, follow: bool) -> io::Result<Found> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Found::Directory(root.dir_in_root(&path)?));
        };
        let parent = match root.dir_in_root(parent) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Missing(path)),
            other => other?,
        };
        let Some(stat) = parent.stat_opt(name)? else { return Ok(Found::Missing(path)) };
        match file_type(&stat) {
            FileType::Directory => return Ok(Found::Directory(parent.child(name)?)),
            FileType::Symlink if follow => {
                let target = parent.readlink(name)?;
                path = path.parent().unwrap_or(Path::new("/")).join(target);
            }
            _ => return Ok(Found::Other { name: name.to_owned(), parent, stat }),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

impl Source {
    fn is_directory(&self) -> bool {
        matches!(self.found, Found::Directory(_))
    }

    fn send(&self, name: &[u8], sink: &mut dyn Sink) -> Result<()> {
        match &self.found {
            Found::Directory(dir) => pack_directory(dir, name, sink)?,
            Found::Other { parent, name: there, .. } => pack(parent, there, name, sink)?,
            Found::Missing(_) => {}
        }
        sink.finish()
    }
}

/// Copies from one tree to another; gives the bytes that a tar of it has.
///
/// # Errors
/// Docker's, in its words: what is missing, what is no folder, what may not be overwritten.
pub fn copy(from: &End<'_>, to: &End<'_>, manner: Manner) -> Result<u64> {
    let source = from.source(manner.follow)?;
    let target = Target::of(to, &source)?;
    to.refuse_read_only(&target.dir)?;
    let place = Place::new(target.dir, Way::Made, &target.path.to_string_lossy(), manner.owner);
    let mut counted = Counted { sink: place, bytes: 1024 };
    source.send(&target.name, &mut counted)?;
    Ok(counted.bytes)
}

/// Writes a tar of what is at `from`.
pub fn copy_out(from: &End<'_>, follow: bool, out: &mut dyn Write) -> Result<()> {
    let source = from.source(follow)?;
    source.send(&source.name, &mut Tar(out))
}

/// Puts what is in a tar into the folder at `to`.
pub fn copy_in(tar: impl Read + Send, to: &End<'_>, manner: Manner) -> Result<u64> {
    let path = to.clean();
    let Found::Directory(dir) = to.find(&path, true)? else {
        bail!("destination \"{}\" must be a directory", to.shown());
    };
    to.refuse_read_only(&dir)?;
    let way = Way::InTree { root: to.root.try_clone()?, at: path.clone() };
    let place = Place::new(dir, way, &path.to_string_lossy(), manner.owner);
    let mut counted = Counted { sink: place, bytes: 1024 };
    unpack(tar, &mut counted)?;
    Ok(counted.bytes)
}

impl End<'_> {
    fn refuse_read_only(&self, dir: &Dir) -> Result<()> {
        let Side::Inside { read_only, .. } = self.side else { return Ok(()) };
        let is_layer = dir.stat_self()?.st_dev == self.root.stat_self()?.st_dev;
        match is_layer {
            true if read_only => bail!("container rootfs is marked read-only"),
            false if is_read_only(dir)? => bail!("mounted volume is marked read-only"),
            _ => Ok(()),
        }
    }
}

/// Where a copy goes: into a folder, under a name.
struct Target {
    dir: Dir,
    path: PathBuf,
    name: Vec<u8>,
}

impl Target {
    fn of(to: &End<'_>, source: &Source) -> Result<Target> {
        if to.path.is_empty() {
            bail!("no such directory");
        }
        let path = to.clean();
        let parent_of = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
        let found = to.find(&path, true)?;
        // A link of the host's that leads to no folder may have come out of the container by an earlier copy, and lead
        // to any file of the host's: it is replaced itself.
        if matches!(to.side, Side::Host)
            && !matches!(found, Found::Directory(_))
            && let Found::Other { parent, name, stat } = to.find(&path, false)?
            && file_type(&stat) == FileType::Symlink
        {
            if source.is_directory() {
                bail!("cannot copy directory");
            }
            // The host's own links to streams: whoever names one wants the content there.
            if Path::new(&parent.readlink(&name)?).starts_with("/proc") {
                bail!(
                    "invalid output path: {:?} is a link into /proc: the destination - writes a tar to standard output",
                    to.path
                );
            }
            return Ok(Target { dir: parent, path: parent_of(&path), name: name.as_bytes().to_vec() });
        }
        match found {
            Found::Directory(dir) => Ok(Target { dir, path, name: source.name.clone() }),
            Found::Other { stat, .. } if file_type(&stat) != FileType::RegularFile => Err(to.special(&stat)),
            Found::Other { .. } if source.is_directory() => bail!("cannot copy directory"),
            Found::Other { .. } if to.means_directory() => bail!("{}: not a directory", to.shown()),
            Found::Other { parent, name, .. } => {
                Ok(Target { dir: parent, path: parent_of(&path), name: name.as_bytes().to_vec() })
            }
            Found::Missing(_) if to.means_directory() && !source.is_directory() => bail!("no such directory"),
            Found::Missing(path) => {
                let parent = parent_of(&path);
                let Some(name) = path.file_name() else { bail!("no such directory") };
                match to.find(&parent, true)? {
                    Found::Directory(dir) => Ok(Target { dir, path: parent, name: name.as_bytes().to_vec() }),
                    Found::Missing(_) => Err(to.no_parent(&parent)),
                    Found::Other { .. } => bail!("{}: not a directory", parent.display()),
                }
            }
        }
    }
}

impl End<'_> {
    fn no_parent(&self, parent: &Path) -> anyhow::Error {
        match self.side {
            Side::Host => anyhow!("invalid output path: directory \"{}\" does not exist", parent.display()),
            Side::Inside { .. } => self.missing(parent),
        }
    }

    fn special(&self, stat: &Stat) -> anyhow::Error {
        let what = match file_type(stat) {
            FileType::CharacterDevice | FileType::BlockDevice => "got a device",
            _ => "got an irregular file",
        };
        let place = match self.side {
            Side::Host => format!("invalid output path: \"{}\"", self.shown()),
            Side::Inside { .. } => format!("destination \"{}\"", self.shown()),
        };
        anyhow!("{place} must be a directory or a regular file: {what}")
    }
}

/// Counts what goes by, as a tar would have it.
struct Counted<S> {
    sink: S,
    bytes: u64,
}

impl<S: Sink> Sink for Counted<S> {
    fn put(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()> {
        self.bytes = self.bytes.saturating_add(tar_size(&entry));
        self.sink.put(entry, content)
    }

    fn finish(&mut self) -> Result<()> {
        self.sink.finish()
    }
}
