//! What a build is given: its context, its Dockerfile, and what of the context does not count.
//!
//! The context is opened once and reached by its descriptor; links in it do not lead out.

use super::copy::Origin;
use super::dockerfile::Source;
use super::git::{Repository, Rights};
use super::ignore::Ignore;
use crate::image::union::Union;
use crate::image::unpack;
use crate::layout::Scratch;
use crate::sys::dir::{Dir, clean};
use crate::sys::file::{read_all_limited, read_limited, read_regular_limited};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Nobody's honest Dockerfile is larger.
const LIMIT: u64 = 16 << 20;
/// Bytes from which an archive is told from a Dockerfile.
const START: u64 = 64 << 10;

/// The files that a build is about.
#[derive(Debug)]
pub struct Context {
    tree: Union,
    /// Where it lies, if it is a folder of the host.
    path: Option<PathBuf>,
    ignore: Option<Arc<Ignore>>,
    /// The folder that it was put into otherwise, which goes with it, and where it is in there.
    unpacked: Option<(Scratch, PathBuf)>,
}

/// Which file is the Dockerfile.
#[derive(Clone, Copy, Debug)]
pub enum DockerfileAt<'a> {
    /// The context's `Dockerfile`.
    Default,
    /// A file of the host, as `-f` says; for a context that is no folder, a file in it.
    Path(&'a Path),
    /// This text.
    Text(&'a str),
}

/// What came by standard input or from the web.
pub enum Stream<R> {
    /// A context, to be read from its start.
    Archive(std::io::Chain<Cursor<Vec<u8>>, R>),
    /// The text of a Dockerfile.
    Dockerfile(String),
}

/// Tells an archive, in any compression that we know, from a Dockerfile.
pub fn tell_apart<R: Read>(mut stream: R) -> Result<Stream<R>> {
    let mut start = Vec::new();
    stream.by_ref().take(START).read_to_end(&mut start).context("read the context")?;
    if start.is_empty() {
        bail!("there is nothing: a Dockerfile or a tar archive was expected");
    }
    let magics: [&[u8]; 4] = [&[0x1f, 0x8b], b"BZh", b"\xfd7zXZ\0", &[0x28, 0xb5, 0x2f, 0xfd]];
    if magics.iter().any(|magic| start.starts_with(magic)) || unpack::is_archive(&start[..]) {
        return Ok(Stream::Archive(Cursor::new(start).chain(stream)));
    }
    let mut rest = Cursor::new(start).chain(stream);
    let text = read_all_limited(&mut rest, LIMIT).context("read the Dockerfile")?;
    Ok(Stream::Dockerfile(String::from_utf8_lossy(&text).into_owned()))
}

impl Context {
    /// A folder of the host.
    pub fn directory(path: &Path) -> Result<Context> {
        let dir = match Dir::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                bail!("unable to prepare context: path {:?} not found", path.display().to_string())
            }
            other => other.with_context(|| format!("unable to prepare context: open {}", path.display()))?,
        };
        Ok(Context { path: Some(path.to_owned()), ..Context::of(Union::new(vec![dir]), None) })
    }

    /// A folder of the host beside the context proper, without what its own `.dockerignore` says.
    pub fn named(path: &Path) -> Result<Context> {
        let mut context = Context::directory(path)?;
        context.ignore = context.own_ignore()?.map(Arc::new);
        Ok(context)
    }

    /// A tar archive, in any compression that we know, unpacked into an empty folder.
    pub fn archive(scratch: Scratch, stream: impl Read + Send) -> Result<Context> {
        let dir = Dir::open(scratch.path()).context("open the folder for the context")?;
        unpack::unpack_archive(stream, &dir, scratch.limit())
            .context("unable to prepare context: unpack the archive")?;
        let path = scratch.path().to_owned();
        Ok(Context::of(Union::new(vec![dir]), Some((scratch, path))))
    }

    /// A git repository, got into an empty folder.
    pub fn repository(scratch: Scratch, repository: &Repository, keeps_git: bool) -> Result<Context> {
        let path =
            repository.get(&scratch, keeps_git, Rights::Users, &|| Ok(())).context("unable to prepare context")?;
        let dir = Dir::open(&path).context("open the folder for the context")?;
        Ok(Context::of(Union::new(vec![dir]), Some((scratch, path))))
    }

    /// No files at all.
    pub fn empty() -> Context {
        Context::of(Union::new(Vec::new()), None)
    }

    fn of(tree: Union, unpacked: Option<(Scratch, PathBuf)>) -> Context {
        Context { tree, path: None, ignore: None, unpacked }
    }

    /// Reads the Dockerfile, and which files the context is without: what `<Dockerfile>.dockerignore` beside it says,
    /// or else `.dockerignore` in the context.
    pub fn read_dockerfile(&mut self, at: DockerfileAt) -> Result<Arc<Source>> {
        let (name, text, ignore) = match (at, &self.path) {
            (DockerfileAt::Text(text), _) => ("Dockerfile".to_owned(), text.to_owned(), None),
            (DockerfileAt::Path(path), Some(_)) if path.exists() => {
                // The user's own pipes are fine, but not those that somebody has put into the context.
                let is_foreign = self.path.as_deref().is_some_and(|context| lies_in(path, context));
                let read = if is_foreign { read_regular_limited } else { read_limited };
                let text = read(path, LIMIT).with_context(|| format!("read the Dockerfile {}", path.display()));
                let ignore = match read_regular_limited(&beside(path), LIMIT) {
                    Ok(text) => Some(text),
                    Err(e) if e.kind() == ErrorKind::NotFound => None,
                    Err(e) => return Err(e).with_context(|| format!("read {}", beside(path).display())),
                };
                (path.display().to_string(), lossy(text?), ignore.map(lossy))
            }
            (DockerfileAt::Path(path), _) => self.inside(&[path])?,
            (DockerfileAt::Default, _) => self.inside(&[Path::new("Dockerfile"), Path::new("dockerfile")])?,
        };
        let ignore = match ignore {
            Some(text) => Some(parsed(&format!("{name}.dockerignore"), &text)?),
            None => self.own_ignore()?,
        };
        self.ignore = ignore.map(Arc::new);
        Ok(Source::new(name, text))
    }

    fn own_ignore(&self) -> Result<Option<Ignore>> {
        let name = ".dockerignore";
        self.text(Path::new(name))?.map(|text| parsed(name, &text)).transpose()
    }

    /// The first of these files that the context has, with what is ignored because of it.
    fn inside(&self, names: &[&Path]) -> Result<(String, String, Option<String>)> {
        for name in names {
            if let Some(text) = self.text(name)? {
                return Ok((name.display().to_string(), text, self.text(&beside(name))?));
            }
        }
        let place = self.path.as_deref().unwrap_or(Path::new("the context")).join(names[0]);
        bail!("read the Dockerfile {}: no such file or directory", place.display())
    }

    fn text(&self, path: &Path) -> Result<Option<String>> {
        match self.tree.open_file(path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            opened => {
                let read = opened.and_then(|mut file| read_all_limited(&mut file, LIMIT));
                Ok(Some(lossy(read.with_context(|| format!("read {} in the context", path.display()))?)))
            }
        }
    }

    /// Its files as an origin of `COPY`.
    pub fn origin(&self) -> Origin {
        let (tree, ignore) = (self.tree.clone(), self.ignore.clone());
        Origin { tree, ignore, keeps_owner: false, name: "the build context".into() }
    }

    /// Its files.
    pub fn tree(&self) -> &Union {
        &self.tree
    }

    /// The folder of the host that it is, or into which it was unpacked.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref().or(self.unpacked.as_ref().map(|(_, path)| path.as_path()))
    }
}

/// Whether a path is one in the folder, by its words or by the links in them.
fn lies_in(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| path.canonicalize();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let words = |path: &Path| std::path::absolute(path).map(|path| clean(&path));
    let is_below =
        |a: std::io::Result<PathBuf>, b: std::io::Result<PathBuf>| a.is_ok_and(|a| b.is_ok_and(|b| a.starts_with(b)));
    is_below(words(path), words(folder)) || is_below(real(parent), real(folder))
}

fn parsed(file: &str, text: &str) -> Result<Ignore> {
    Ignore::parse(text).with_context(|| format!("read {file}"))
}

fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".dockerignore");
    name.into()
}

fn lossy(text: Vec<u8>) -> String {
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{Folder, write};
    use crate::layout::Root;
    use std::process::Command;

    fn folder() -> Folder {
        let folder = Folder::new();
        write(&folder, "ctx/Dockerfile", "FROM in");
        write(&folder, "ctx/sub/My", "FROM sub");
        write(&folder, "ctx/.dockerignore", "a");
        write(&folder, "ctx/a", "a");
        write(&folder, "other/My", "FROM other");
        folder
    }

    fn read(context: &mut Context, at: DockerfileAt) -> (String, bool) {
        let source = context.read_dockerfile(at).unwrap();
        let is_ignored = context.origin().ignore.is_some_and(|ignore| ignore.is_ignored(b"a"));
        (source.text.clone(), is_ignored)
    }

    #[test]
    fn dockerfiles_and_what_is_ignored_because_of_them() {
        let folder = folder();
        let mut context = Context::directory(&folder.path("ctx")).unwrap();
        assert_eq!(read(&mut context, DockerfileAt::Default), ("FROM in".into(), true));
        assert_eq!(read(&mut context, DockerfileAt::Text("FROM x")), ("FROM x".into(), true));
        let other = folder.path("other/My");
        assert_eq!(read(&mut context, DockerfileAt::Path(&other)), ("FROM other".into(), true));
        write(&folder, "other/My.dockerignore", "b");
        assert_eq!(read(&mut context, DockerfileAt::Path(&other)), ("FROM other".into(), false));
        assert_eq!(read(&mut context, DockerfileAt::Path(Path::new("sub/My"))), ("FROM sub".into(), true));
        std::fs::rename(folder.path("ctx/Dockerfile"), folder.path("ctx/dockerfile")).unwrap();
        assert_eq!(read(&mut context, DockerfileAt::Default).0, "FROM in");
        let error = context.read_dockerfile(DockerfileAt::Path(Path::new("nope"))).unwrap_err();
        assert!(error.to_string().ends_with("ctx/nope: no such file or directory"), "{error:#}");
        write(&folder, "ctx/.dockerignore", "a\n[");
        let error = context.read_dockerfile(DockerfileAt::Default).unwrap_err();
        assert!(format!("{error:#}").starts_with("read .dockerignore: line 2: "), "{error:#}");
        let error = Context::directory(&folder.path("nope")).unwrap_err();
        assert!(error.to_string().contains("unable to prepare context: path"), "{error:#}");
    }

    #[test]
    fn only_the_users_own_pipes_are_read() {
        let folder = folder();
        for place in ["ctx/fifo", "other/fifo"] {
            assert!(Command::new("mkfifo").arg(folder.path(place)).status().unwrap().success());
        }
        std::os::unix::fs::symlink("../other/fifo", folder.path("ctx/link")).unwrap();
        std::os::unix::fs::symlink("ctx/sub", folder.path("way")).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path("ctx/sub/null")).unwrap();
        let mut context = Context::directory(&folder.path("ctx")).unwrap();
        for inside in ["ctx/fifo", "ctx/link", "ctx/sub", "ctx/sub/null", "way/null", "other/../ctx/fifo"] {
            let error = context.read_dockerfile(DockerfileAt::Path(&folder.path(inside))).unwrap_err();
            assert!(format!("{error:#}").ends_with(": not a regular file"), "{inside}: {error:#}");
        }
        let own = folder.path("ctx/../other/fifo");
        std::thread::scope(|scope| {
            scope.spawn(|| std::fs::write(&own, "FROM pipe").unwrap());
            assert_eq!(read(&mut context, DockerfileAt::Path(&own)).0, "FROM pipe");
        });
        assert!(Command::new("mkfifo").arg(folder.path("other/My.dockerignore")).status().unwrap().success());
        assert!(context.read_dockerfile(DockerfileAt::Path(&folder.path("other/My"))).is_err());
    }

    #[test]
    fn a_dockerfile_that_leads_out_is_not_read() {
        let folder = folder();
        std::fs::remove_file(folder.path("ctx/Dockerfile")).unwrap();
        std::os::unix::fs::symlink("../other/My", folder.path("ctx/Dockerfile")).unwrap();
        let mut context = Context::directory(&folder.path("ctx")).unwrap();
        assert!(context.read_dockerfile(DockerfileAt::Default).is_err());
    }

    #[test]
    fn archives_and_dockerfiles_are_told_apart() {
        let folder = folder();
        let root = Root::open(&folder.path("root"), &folder.path("state")).unwrap();
        for flag in ["-v", "-z", "--zstd"] {
            let archive = folder.path("ctx.tar");
            let mut tar = Command::new("tar");
            tar.arg(flag).arg("-cf").arg(&archive).arg("-C").arg(folder.path("ctx")).arg(".");
            assert!(tar.status().unwrap().success());
            let Stream::Archive(stream) = tell_apart(std::fs::File::open(&archive).unwrap()).unwrap() else {
                panic!("{flag}: taken for a Dockerfile")
            };
            let mut context = Context::archive(root.scratch().unwrap(), stream).unwrap();
            assert_eq!(read(&mut context, DockerfileAt::Default), ("FROM in".into(), true));
            assert_eq!(read(&mut context, DockerfileAt::Path(Path::new("sub/My"))).0, "FROM sub");
        }
        assert_eq!(std::fs::read_dir(folder.path("root/tmp")).unwrap().count(), 0);
        for text in ["FROM a\nRUN b", &"# long\n".repeat(100_000)] {
            assert!(matches!(tell_apart(text.as_bytes()).unwrap(), Stream::Dockerfile(found) if found == text));
        }
        assert!(tell_apart(&b""[..]).is_err());
        let mut empty = Context::empty();
        assert_eq!(read(&mut empty, DockerfileAt::Text("FROM x")), ("FROM x".into(), false));
        assert!(empty.read_dockerfile(DockerfileAt::Default).is_err());
    }
}
