//! `WORKDIR`: a part of the configuration, and a directory if there is none yet.

use super::config;
use super::key::Key;
use super::sandbox::{Below, identify, resolve};
use super::stage::Builder;
use crate::image::Digest;
use crate::image::union::Union;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

impl Builder<'_> {
    /// Carries a `WORKDIR` out.
    pub fn workdir(&mut self, name: &str, path: &str) -> Result<()> {
        let step = self.session.reporter.begin(name);
        let config = self.state.image.config.get_or_insert_default();
        let told = config::workdir(config, path);
        let (directory, user) = (PathBuf::from(&config.working_dir), config.user.clone());
        let mut key = Key::new("WORKDIR", self.state.layers());
        key.part("directory", directory.as_os_str().as_encoded_bytes());
        key.part("user", &user);
        key.part("epoch", format!("{:?}", self.session.wishes.epoch));
        let key = key.finish();
        if let Some(known) = self.recall(&key)? {
            self.tell(told, Some(&known));
            step.cached();
            return Ok(());
        }
        let made = self.make_directory(&directory, &user).with_context(|| format!("make {}", directory.display()));
        match made {
            Ok(Some(layer)) => {
                let known = self.remember(&[key], name, layer)?;
                self.tell(told, Some(&known));
                step.done();
                Ok(())
            }
            // It is there: there is nothing to be done, now or the next time.
            Ok(None) => {
                self.tell(told, None);
                step.cached();
                Ok(())
            }
            Err(error) => {
                step.failed(format!("{error:#}"));
                Err(error)
            }
        }
    }

    /// A layer with the directory, unless it is there.
    fn make_directory(&self, directory: &Path, user: &str) -> Result<Option<Digest>> {
        let session = self.session;
        let below = Below::open(&session.store, self.state.layers())?;
        let place = resolve(&below.union, directory)?;
        if let Some(stat) = below.union.stat(&place)? {
            return match file_type(&stat) {
                FileType::Directory => Ok(None),
                _ => bail!("it is there and no directory"),
            };
        }
        let owner = identify(&below.union, user, &[])?;
        let draft = session.store.draft(&session.workshop)?;
        make_path(&below.union, draft.dir(), &place, (owner.uid, owner.gid))?;
        session.store.adopt(&session.workshop, draft, &below.union, session.wishes.epoch).map(Some)
    }
}

/// Makes a path in a layer: what is below it already looks as there, what is not belongs to `owner`.
fn make_path(below: &Union, top: &Dir, path: &Path, owner: (u32, u32)) -> Result<()> {
    let mut parents = Vec::new();
    let mut here = top.try_clone()?;
    let mut under = Some(below.top().clone());
    for name in path.strip_prefix("/").unwrap_or(path) {
        here.mkdir(name, 0o700).with_context(|| format!("make the folder {}", name.display()))?;
        let next = here.child(name)?;
        under = match under {
            Some(outer) => outer.lookup(name)?.map(|found| outer.enter(name, &found)).transpose()?,
            None => None,
        };
        let mut looks = (owner.0, owner.1, 0o755, None);
        if let Some(under) = &under
            && let Some(stat) = under.stat()?
        {
            for (key, value) in under.xattrs()? {
                next.set_xattr(".", OsStr::from_bytes(&key), &value)?;
            }
            let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
            looks = (stat.st_uid, stat.st_gid, stat.st_mode, Some(time));
        }
        parents.push((next.try_clone()?, looks));
        here = next;
    }
    // The deepest first: what is made in a directory changes its time.
    for (dir, (uid, gid, mode, time)) in parents.into_iter().rev() {
        let now = dir.stat_self()?;
        let now = (now.st_mtime, u32::try_from(now.st_mtime_nsec).unwrap_or(0));
        dir.set_self(uid, gid, mode, time.unwrap_or(now))?;
    }
    Ok(())
}
