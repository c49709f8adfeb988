//! `build -o`: where the result of a build goes.

use super::App;
use super::archives::Target;
use super::build::tag;
use super::progress::Lines;
use crate::build::output::Output;
use crate::image::{Digest, Reference, Saving, Store, TarMembers};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// An archive of the image, written when there is one.
struct Archive {
    target: Target,
    names: Vec<Reference>,
    for_docker: bool,
}

/// Everything that was asked for.
#[derive(Default)]
pub struct Results {
    outputs: Vec<Output>,
    archives: Vec<Archive>,
    /// Tar archives of files, which appear when they are whole.
    tars: Vec<Target>,
}

impl Results {
    /// Reads the values of `-o`; without any, the result is an image of these names in the store.
    pub fn parse(list: &[String], names: Vec<Reference>) -> Result<Results> {
        let mut results = Results::default();
        if list.is_empty() {
            results.outputs.push(Output::Image(names));
            return Ok(results);
        }
        for text in list {
            results.add(text, &names).with_context(|| format!("the output {text:?}"))?;
        }
        let has_image = results.outputs.iter().any(|output| matches!(output, Output::Image(_)));
        if !results.archives.is_empty() && !has_image {
            results.outputs.push(Output::Image(Vec::new()));
        }
        Ok(results)
    }

    fn add(&mut self, text: &str, names: &[Reference]) -> Result<()> {
        if !text.contains('=') {
            match text {
                "-" => return self.tar(None),
                folder => self.outputs.push(Output::Folder(PathBuf::from(folder))),
            }
            return Ok(());
        }
        let (mut kind, mut dest, mut names) = ("", None, names.to_vec());
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = value,
                Some(("dest", value)) => dest = Some(PathBuf::from(value)),
                Some(("name", value)) => names.push(tag(value)?),
                _ => bail!("unexpected field {field:?}: type, dest and name are known"),
            }
        }
        let dest = dest.as_deref();
        match (kind, dest) {
            ("cacheonly", None) => {}
            ("cacheonly", Some(_)) => bail!("the type cacheonly writes nothing, so it has no dest"),
            ("docker" | "image", None) => self.outputs.push(Output::Image(names)),
            ("local", Some(folder)) => self.outputs.push(Output::Folder(folder.to_owned())),
            ("tar", Some(_)) => return self.tar(dest),
            ("docker" | "oci", Some(_)) => {
                let target = Target::open(not_stream(dest))?;
                self.archives.push(Archive { target, names, for_docker: kind == "docker" });
            }
            ("oci" | "tar" | "local", None) => bail!("dest is required for the type {kind}"),
            (other, _) => bail!("unknown type {other:?}: docker, oci, tar, local and cacheonly are known"),
        }
        Ok(())
    }

    fn tar(&mut self, dest: Option<&Path>) -> Result<()> {
        let target = Target::open(not_stream(dest))?;
        self.outputs.push(Output::Tar(target.file().try_clone().context("use the archive twice")?));
        self.tars.push(target);
        Ok(())
    }

    /// What the build is to make.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Writes what is made of the image, and lets files appear.
    pub fn finish(self, app: &App, image: Option<Digest>) -> Result<()> {
        self.tars.into_iter().try_for_each(Target::publish)?;
        let Some(image) = image.filter(|_| !self.archives.is_empty()) else { return Ok(()) };
        let store = Store::open(&app.root);
        let mut selected = store.select(&[image.to_string()])?;
        for Archive { target, names, for_docker } in self.archives {
            selected.iter_mut().for_each(|image| image.names.clone_from(&names));
            let saving = Saving { images: &selected, without: &[], for_docker };
            store.save(saving, &mut TarMembers::new(target.file()), &Lines::passing())?;
            target.publish()?;
        }
        Ok(())
    }
}

/// `-` is the standard output.
fn not_stream(dest: Option<&Path>) -> Option<&Path> {
    dest.filter(|path| path.as_os_str() != "-")
}
