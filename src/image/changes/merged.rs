//! The same walk over two stacks of layers: what must be laid over the old one so that it reads as the new one.
//!
//! Nothing is opaque here: what vanished from a directory is a whiteout each.

use super::{Changes, Level, has_same_attributes, is_same};
use crate::image::diff::{describe, join, show};
use crate::image::place::Step;
use crate::image::union::{Found, Merged};
use crate::sys::depth;
use crate::sys::dir::file_type;
use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

impl Changes<'_> {
    /// Goes through the directory `new`, above which `path` stands, and compares it with `old`.
    pub fn walk_merged(&mut self, new: &Merged, old: &Merged, path: Vec<u8>) -> Result<()> {
        let read = || Ok::<_, std::io::Error>((new.names()?, old.names()?));
        let (now, before) = read().with_context(|| format!("read the folder {}", show(&path)))?;
        for name in now.into_iter().chain(before).collect::<BTreeSet<_>>() {
            let path = join(&path, name.as_bytes());
            let look = || Ok::<_, std::io::Error>((new.lookup(&name)?, old.lookup(&name)?));
            match look().with_context(|| format!("read {}", show(&path)))? {
                (None, None) => {}
                (None, Some(_)) => self.whiteout(path, name)?,
                (Some(found), before) if file_type(&found.stat) == FileType::Directory => {
                    self.merged_directory(new, &name, &path, &found, (old, before))?;
                }
                (Some(found), before) => {
                    let holder = new.holder(&found);
                    let unchanged = match &before {
                        Some(before) => is_same(holder, &name, &found.stat, old, before),
                        None => Ok(false),
                    };
                    if !unchanged.with_context(|| format!("compare {}", show(&path)))? {
                        self.leaf(holder, &name, &path, &found.stat)
                            .with_context(|| format!("copy {}", show(&path)))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn merged_directory(
        &mut self,
        new: &Merged,
        name: &OsStr,
        path: &[u8],
        found: &Found,
        (old, before): (&Merged, Option<Found>),
    ) -> Result<()> {
        let holder = new.holder(found);
        let open = || format!("open the folder {}", show(path));
        let child = new.enter(name, found).with_context(open)?;
        if holder.child(name).with_context(open)?.xattr(".", "trusted.overlay.redirect")?.is_some() {
            bail!("{} was renamed by overlayfs in a way that a layer cannot hold", show(path));
        }
        let under = match before.filter(|before| file_type(&before.stat) == FileType::Directory) {
            Some(before) => Some((before, old.enter(name, &before).with_context(open)?)),
            None => None,
        };
        if let Some((_, under)) = &under
            && child.is(under).with_context(open)?
        {
            return Ok(());
        }
        let Some(entry) = describe(holder, name, path, &found.stat, &mut self.links)? else { return Ok(()) };
        let same = match &under {
            Some((before, _)) => has_same_attributes(holder, name, &found.stat, old, before)?,
            None => false,
        };
        self.levels.push(Level { name: name.to_owned(), entry: self.clamped(entry), opaque: false, is_made: false });
        if !same {
            self.make_levels()?;
        }
        let under = under.map(|(_, merged)| merged).unwrap_or_default();
        depth::check(path)?;
        self.walk_merged(&child, &under, path.to_vec())?;
        match self.levels.pop() {
            Some(level) if level.is_made => self.placer.send(Step::Leave(level.name, level.entry)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::image::tests::{Folder, marked_opaque, write};
    use crate::image::union::Union;
    use crate::sys::dir::Dir;
    use rustix::fs::FileType;

    #[test]
    fn a_merged_directory_of_the_same_folders_is_the_same() {
        let folder = Folder::new();
        for layer in ["a", "b", "c"] {
            write(&folder, &format!("{layer}/etc/{layer}"), layer);
        }
        marked_opaque(&folder, "b/etc");
        folder.dir("c").mknod("gone", FileType::CharacterDevice, 0, 0).unwrap();
        let union = |layers: &[&str]| Union::new(layers.iter().map(|l| Dir::open(folder.path(l)).unwrap()).collect());
        let enter = |union: &Union| {
            let found = union.top().lookup("etc".as_ref()).unwrap().unwrap();
            union.top().enter("etc".as_ref(), &found).unwrap()
        };
        let (low, high) = (union(&["a"]), union(&["b", "a"]));
        assert!(!enter(&low).is(&enter(&high)).unwrap());
        assert!(enter(&high).is(&enter(&union(&["b"]))).unwrap(), "the opaque folder hides the lower one");
        assert!(!low.top().is(high.top()).unwrap());
        assert!(low.top().is(union(&["a"]).top()).unwrap());
    }
}
