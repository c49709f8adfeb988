//! Carrying a plan out: files are made in a new upper directory.

use super::digest::{Known, look};
use super::file;
use super::owner::{Chmod, owner};
use super::select::{Plan, Selected, Source};
use super::target::{Folder, Target};
use super::walk::{Node, Spot, Visitor, walk};
use crate::build::ignore::Ignore;
use crate::container::users::Database;
use crate::image::union::{Found, Union};
use crate::image::unpack;
use crate::layout::Scratch;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufReader, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The circumstances of a copy.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Makes the folder in which an archive is unpacked on its way.
    pub scratch: &'a dyn Fn() -> Result<Scratch>,
    /// No file gets a later time, in seconds since 1970.
    pub latest: Option<i64>,
}

impl Plan {
    /// Copies everything into the empty directory `upper`, which will lie on `lower`.
    ///
    /// # Errors
    /// Also if several files would have to share one name, and if the files are not those any more that `known` is about.
    pub fn perform(&self, known: &Known, lower: &Union, upper: &Dir, options: &Options) -> Result<()> {
        let seconds = jiff::Timestamp::now();
        let now = (seconds.as_second(), u32::try_from(seconds.subsec_nanosecond()).unwrap_or(0));
        let now = options.latest.map_or(now, |latest| now.min((latest, 0)));
        let users = || Database::read(|path| lower.open_file(Path::new(path)));
        let chown = match &self.transfer.chown {
            Some(text) => Some(owner(text, &users()?)?),
            None => None,
        };
        let chmod = self.transfer.chmod.as_deref().map(Chmod::parse).transpose()?;
        let empty = Union::new(Vec::new());
        let below = if self.transfer.link { &empty } else { lower };
        let mut writer = Writer {
            target: Target::new(upper, below, now, chown.unwrap_or((0, 0))),
            owner: chown.or((!self.origin.keeps_owner).then_some((0, 0))),
            chmod,
            latest: options.latest,
            replaces: false,
            is_taken: false,
            stack: Vec::new(),
            links: HashMap::new(),
            look: DefaultHasher::new(),
            buffer: Vec::new(),
        };
        for source in &self.sources {
            self.write(source, &mut writer, options)?;
        }
        if writer.look.finish() != known.look {
            bail!("files of {} were changed while they were being copied", self.origin.name);
        }
        writer.target.finish()
    }

    fn write(&self, source: &Source, writer: &mut Writer, options: &Options) -> Result<()> {
        match source {
            Source::Text { name, content } => {
                let (folder, name) = self.place(writer, name.as_bytes())?;
                writer.text(&folder, &name, content).with_context(|| format!("write {name:?}"))
            }
            Source::Remote { name, fetched } => {
                if self.transfer.unpack == Some(true) && is_archive(&fetched.file)? {
                    return self.unpack(&fetched.file, writer, options).with_context(|| format!("unpack {name:?}"));
                }
                let (folder, name) = self.place(writer, name.as_bytes())?;
                let time = fetched.modified.map_or(writer.target.now, |modified| (modified, 0));
                writer.fetched(&folder, &name, &fetched.file, time).with_context(|| format!("write {name:?}"))
            }
            Source::Tree(selected) => self.tree(selected, writer, options),
        }
    }

    fn tree(&self, selected: &Selected, writer: &mut Writer, options: &Options) -> Result<()> {
        let show = || format!("copy {:?}", String::from_utf8_lossy(&selected.base));
        if self.transfer.parents {
            return self.with_parents(selected, writer).with_context(show);
        }
        match &selected.node {
            Node::Folder(spot) => {
                let path = writer.target.resolve(&self.destination)?.path;
                let folder = writer.target.folder(&path)?;
                writer.below(spot, folder, &self.excludes, &[]).with_context(show)
            }
            Node::Leaf { parent, name, found } => {
                if self.may_unpack() && file_type(&found.stat) == FileType::RegularFile && found.stat.st_size > 0 {
                    let file = file::open(parent.merged.holder(found), name).with_context(show)?;
                    if is_archive(&file)? {
                        look(&mut writer.look, &found.stat);
                        return self.unpack(&file, writer, options).with_context(show);
                    }
                }
                let (folder, to) = self.place(writer, &selected.base)?;
                writer.leaf_as(parent, name, found, &folder, &to).with_context(show)
            }
        }
    }

    /// `ADD` unpacks what is in the context, unless it is told otherwise.
    fn may_unpack(&self) -> bool {
        self.is_add && self.transfer.unpack.unwrap_or(true)
    }

    /// The folder and the name of a file whose own name is `base`.
    fn place(&self, writer: &mut Writer, base: &[u8]) -> Result<(Folder, OsString)> {
        let resolved = writer.target.resolve(&self.destination)?;
        let (folder, name) = match resolved.path.split_last() {
            Some((name, parents)) if !self.is_folder && !resolved.is_folder => {
                if std::mem::replace(&mut writer.is_taken, true) {
                    let keyword = if self.is_add { "ADD" } else { "COPY" };
                    bail!(
                        "when using {keyword} with more than one source file, the destination must be a directory \
                         and end with a /"
                    );
                }
                (parents, name.as_slice())
            }
            _ => (resolved.path.as_slice(), base),
        };
        if name.is_empty() || name.contains(&b'/') {
            bail!("the file to make has no name: give the whole path as the destination");
        }
        Ok((writer.target.folder(folder)?, OsStr::from_bytes(name).to_owned()))
    }

    /// `--parents`: the folders on the way to the source are made, too, as they are there.
    fn with_parents(&self, selected: &Selected, writer: &mut Writer) -> Result<()> {
        let destination = writer.target.resolve(&self.destination)?.path;
        let mut folder = writer.target.folder(&destination)?;
        for (name, spot) in selected.kept.iter().zip(&selected.folders) {
            folder = writer.folder_like(spot, &folder, OsStr::from_bytes(name))?;
        }
        match &selected.node {
            Node::Folder(spot) => writer.below(spot, folder, &self.excludes, &selected.kept.join(&b'/')),
            Node::Leaf { parent, name, found } => {
                writer.leaf_as(parent, name, found, &folder, OsStr::from_bytes(&selected.base))
            }
        }
    }

    fn unpack(&self, file: &File, writer: &mut Writer, options: &Options) -> Result<()> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        let scratch = (options.scratch)()?;
        let dir = Dir::open(scratch.path())?;
        unpack::unpack_archive(file, &dir, scratch.limit())?;
        let path = writer.target.resolve(&self.destination)?.path;
        let folder = writer.target.folder(&path)?;
        let tree = Union::new(vec![dir]);
        let outer = (writer.owner, writer.chmod.take(), writer.look.clone());
        writer.owner = self.transfer.chown.as_ref().and(writer.owner);
        writer.replaces = true;
        let result = writer.below(&Spot::top(&tree, None), folder, &Ignore::default(), &[]);
        (writer.owner, writer.chmod, writer.look) = outer;
        writer.replaces = false;
        writer.links.clear();
        result
    }
}

fn is_archive(file: &File) -> Result<bool> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(unpack::is_archive(BufReader::new(file)))
}

struct Writer<'a> {
    target: Target<'a>,
    /// Whose everything will be; `None` keeps the owners.
    owner: Option<(u32, u32)>,
    chmod: Option<Chmod>,
    latest: Option<i64>,
    /// Whether files take the place of folders, and folders that of files, as archives have it.
    replaces: bool,
    /// Whether a file has become the destination itself.
    is_taken: bool,
    /// The folders that the walk is in.
    stack: Vec<Folder>,
    /// Files that have several names: where their copies are.
    links: HashMap<(u64, u64), Linked>,
    look: DefaultHasher,
    buffer: Vec<u8>,
}

/// The copy of a file that has several names.
struct Linked {
    dir: Rc<Dir>,
    name: OsString,
    path: Vec<u8>,
}

impl Writer<'_> {
    /// Copies what is in the folder `spot`.
    fn below(&mut self, spot: &Arc<Spot>, folder: Folder, excludes: &Ignore, path: &[u8]) -> Result<()> {
        self.stack.push(folder);
        let result = walk(spot, excludes, path, self);
        self.stack.clear();
        result
    }

    /// Makes the folder `name` in `parent` like `spot`.
    fn folder_like(&mut self, spot: &Arc<Spot>, parent: &Folder, name: &OsStr) -> Result<Folder> {
        let (folder, _) = self.target.enter(parent, name, self.replaces)?;
        if let Some(stat) = spot.merged.stat()? {
            for (key, value) in spot.merged.xattrs()? {
                self.set_xattr(&folder.dir, &key, &value)?;
            }
            self.describe_folder(&folder, &stat)?;
        }
        Ok(folder)
    }

    fn describe_folder(&mut self, folder: &Folder, stat: &Stat) -> Result<()> {
        let (uid, gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        rustix::fs::fchown(&folder.dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&folder.dir, Mode::from_raw_mode(self.mode(stat.st_mode, true)))?;
        self.target.set_time(folder, self.time(stat));
        Ok(())
    }

    fn mode(&self, mode: u32, is_folder: bool) -> u32 {
        self.chmod.as_ref().map_or(mode & 0o7777, |chmod| chmod.apply(mode, is_folder))
    }

    fn time(&self, stat: &Stat) -> (i64, u32) {
        self.not_later((stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
    }

    fn not_later(&self, time: (i64, u32)) -> (i64, u32) {
        self.latest.map_or(time, |latest| time.min((latest, 0)))
    }

    /// The file systems of sources know attributes that ours may not: those are left out.
    fn set_xattr(&self, to: impl std::os::fd::AsFd, key: &[u8], value: &[u8]) -> Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fsetxattr(to, OsStr::from_bytes(key), value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
            other => other.with_context(|| format!("set the attribute {:?}", String::from_utf8_lossy(key))),
        }
    }

    fn make_way(&mut self, folder: &Folder, name: &OsStr, replaces: bool) -> Result<()> {
        if self.target.make_way(folder, name, replaces)? {
            // What was there may be what other names were to be linked to.
            let gone = folder.path_of(name);
            let is_gone = |path: &[u8]| matches!(path.strip_prefix(&*gone), Some([] | [b'/', ..]));
            self.links.retain(|_, first| !is_gone(&first.path));
        }
        Ok(())
    }

    fn leaf_as(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found, folder: &Folder, to: &OsStr) -> Result<()> {
        look(&mut self.look, &found.stat);
        self.make_way(folder, to, self.replaces)?;
        let (stat, dir) = (&found.stat, parent.merged.holder(found));
        if stat.st_nlink == 1 {
            return self.copy(dir, name, stat, folder, to);
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&identity) {
            return folder.dir.link(&first.dir, &first.name, to).context("make the hard link");
        }
        self.links.insert(identity, Linked { dir: folder.dir.clone(), name: to.to_owned(), path: folder.path_of(to) });
        self.copy(dir, name, stat, folder, to)
    }

    fn copy(&mut self, dir: &Dir, name: &OsStr, stat: &Stat, folder: &Folder, to: &OsStr) -> Result<()> {
        match file_type(stat) {
            FileType::RegularFile => return self.file(dir, name, stat, folder, to),
            FileType::Symlink => folder.dir.symlink(&dir.readlink(name)?, to).context("make the link")?,
            kind => folder.dir.mknod(to, kind, 0o600, stat.st_rdev).context("make the node")?,
        }
        let (uid, gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        folder.dir.chown(to, uid, gid)?;
        if file_type(stat) != FileType::Symlink {
            folder.dir.chmod(to, self.mode(stat.st_mode, false))?;
        }
        let (seconds, nanos) = self.time(stat);
        Ok(folder.dir.set_mtime(to, seconds, nanos)?)
    }

    fn file(&mut self, dir: &Dir, name: &OsStr, stat: &Stat, folder: &Folder, to: &OsStr) -> Result<()> {
        let source = file::open(dir, name)?;
        let file = folder.dir.create(to, 0o600).context("make the file")?;
        file::copy(&source, stat, &file, &mut self.buffer)?;
        let owner = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let mode = self.mode(stat.st_mode, false);
        let time = self.time(stat);
        self.describe(&file, owner, mode, time)?;
        for (key, value) in crate::image::copy::kept_xattrs(&source)? {
            self.set_xattr(&file, &key, &value)?;
        }
        Ok(())
    }

    /// The mode after the owner, whose change clears bits of it.
    fn describe(&self, file: &File, (uid, gid): (u32, u32), mode: u32, (seconds, nanos): (i64, u32)) -> Result<()> {
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context("set the owner")?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).context("set the mode")?;
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(file, &times).context("set the time")
    }

    fn text(&mut self, folder: &Folder, name: &OsStr, content: &str) -> Result<()> {
        self.make_way(folder, name, false)?;
        let mut file = folder.dir.create(name, 0o600)?;
        file.write_all(content.as_bytes())?;
        self.describe(&file, self.owner.unwrap_or((0, 0)), self.mode(0o644, false), self.target.now)
    }

    fn fetched(&mut self, folder: &Folder, name: &OsStr, from: &File, time: (i64, u32)) -> Result<()> {
        self.make_way(folder, name, false)?;
        let file = folder.dir.create(name, 0o600)?;
        let stat = rustix::fs::fstat(from)?;
        file::copy(from, &stat, &file, &mut self.buffer)?;
        let owner = self.owner.unwrap_or((0, 0));
        self.describe(&file, owner, self.mode(0o600, false), self.not_later(time))
    }
}

impl Visitor for Writer<'_> {
    fn enter(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<()> {
        let outer = self.stack.last().context("the walk has left its folder")?.clone();
        let (folder, _) = self.target.enter(&outer, name, self.replaces)?;
        let source = parent.merged.holder(found).child(name)?;
        for (key, value) in crate::image::copy::kept_xattrs(&source)? {
            self.set_xattr(&folder.dir, &key, &value)?;
        }
        self.describe_folder(&folder, &found.stat)?;
        self.stack.push(folder);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.stack.pop();
        Ok(())
    }

    fn leaf(&mut self, parent: &Arc<Spot>, name: &OsStr, found: &Found) -> Result<()> {
        let folder = self.stack.last().context("the walk has left its folder")?.clone();
        self.leaf_as(parent, name, found, &folder, name)
            .with_context(|| format!("copy {:?}", String::from_utf8_lossy(&parent.path) + "/" + name.to_string_lossy()))
    }
}
