//! Copying on real folders. These tests run as root.

mod archives;
mod attributes;
mod destinations;
mod digests;
mod sources;

use super::*;
use crate::build::dockerfile::{self, Dockerfile, Kind, Source};
use crate::build::ignore::Ignore;
use crate::image::tests::{Folder, write};
use crate::image::union::Union;
use crate::layout::Root;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Result, bail};
use rustix::fs::FileType;
use std::path::Path;
use std::sync::Arc;

/// A context `ctx`, what lies below the new layer `low`, and the layer `up`.
struct Bench {
    folder: Folder,
    ignore: Option<Arc<Ignore>>,
    keeps_owner: bool,
    latest: Option<i64>,
}

impl Bench {
    /// With these files in the context: `path`, or `path=content`, or `path->target`, or `path/`.
    fn new(context: &[&str], low: &[&str]) -> Bench {
        let folder = Folder::new();
        for (top, entries) in [("ctx", context), ("low", low), ("up", &[])] {
            std::fs::create_dir(folder.path(top)).unwrap();
            entries.iter().for_each(|entry| make(&folder, &format!("{top}/{entry}")));
        }
        Bench { folder, ignore: None, keeps_owner: false, latest: None }
    }

    fn ignoring(mut self, patterns: &str) -> Bench {
        self.ignore = Some(Arc::new(Ignore::parse(patterns).unwrap()));
        self
    }

    fn union(&self, folder: &str) -> Union {
        Union::new(vec![self.folder.dir(folder)])
    }

    fn plan(&self, text: &str) -> Result<Plan> {
        let file = parsed(text);
        let (transfer, is_add) = match &file.stages[0].instructions[0].kind {
            Kind::Copy(transfer) => (transfer, false),
            Kind::Add(transfer) => (transfer, true),
            other => panic!("{other:?}"),
        };
        let request = Request { transfer, is_add, workdir: "/work" };
        let origin = Origin {
            tree: self.union("ctx"),
            ignore: self.ignore.clone(),
            keeps_owner: self.keeps_owner,
            name: "the build context".into(),
        };
        plan(&request, &origin, &|address| {
            let path = address.split('?').next().and_then(|address| address.strip_prefix("http://files/"));
            let Some(path) = path else { bail!("no such host") };
            let file = std::fs::File::open(self.folder.path(path))?;
            Ok(Got::File(Fetched { file, modified: Some(1_000_000_000) }))
        })
    }

    fn known(&self, text: &str) -> Known {
        self.plan(text).unwrap().known_by(None).unwrap()
    }

    fn perform(&self, text: &str) -> Result<()> {
        let plan = self.plan(text)?;
        let root = Root::open(&self.folder.path("root"), &self.folder.path("state"))?;
        let options = Options { scratch: &|| root.scratch(), latest: self.latest };
        plan.perform(&plan.known_by(None)?, &self.union("low"), &self.folder.dir("up"), &options)
    }

    /// What an instruction makes: paths in the notation of [`Bench::new`].
    fn copy(&self, text: &str) -> Vec<String> {
        self.perform(text).unwrap_or_else(|e| panic!("{text}: {e:#}"));
        let mut found = Vec::new();
        list(&self.folder.dir("up"), "", &mut found);
        found
    }

    /// Why an instruction cannot be carried out; nothing of it must be there.
    fn refused(&self, text: &str) -> String {
        let Err(error) = self.perform(text) else { panic!("{text} was carried out") };
        format!("{error:#}")
    }

    fn stat(&self, path: &str) -> rustix::fs::Stat {
        rustix::fs::lstat(self.folder.path(path)).unwrap()
    }
}

fn parsed(text: &str) -> Dockerfile {
    dockerfile::parse(Source::new("Dockerfile", format!("FROM scratch\n{text}\n"))).unwrap()
}

fn make(folder: &Folder, entry: &str) {
    if let Some((path, target)) = entry.split_once("->") {
        let path = folder.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    } else if let Some(path) = entry.strip_suffix('/') {
        std::fs::create_dir_all(folder.path(path)).unwrap();
    } else {
        let (path, content) = entry.split_once('=').unwrap_or((entry, entry));
        write(folder, path, content.trim_start_matches("ctx/"));
    }
}

fn list(dir: &Dir, path: &str, found: &mut Vec<String>) {
    for name in dir.names().unwrap() {
        let path = format!("{path}{}", name.to_str().unwrap());
        match file_type(&dir.stat(&name).unwrap()) {
            FileType::Directory => {
                found.push(format!("{path}/"));
                list(&dir.child(&name).unwrap(), &format!("{path}/"), found);
            }
            FileType::Symlink => found.push(format!("{path}->{}", dir.readlink(&name).unwrap().to_str().unwrap())),
            _ => {
                let mut file = dir.file_in_root(Path::new(&name)).unwrap();
                let content = std::io::read_to_string(&mut file).unwrap();
                found.push(format!("{path}={content}"));
            }
        }
    }
}
