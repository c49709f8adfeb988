//! `build -o`: where the result of a build goes.

use super::App;
use super::archives::Target;
use super::build::tag;
use super::progress::Lines;
use super::remote::push_built;
use super::values::boolean;
use crate::build::output::Output;
use crate::image::{Digest, Reference, Saving, Store, TarMembers};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// An archive of the image, written when there is one.
struct Archive {
    target: Target,
    names: Vec<Reference>,
    for_docker: bool,
}

/// What is wanted of the image beside `-o`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Also {
    /// `--load`: it is in the store in any case.
    pub load: bool,
    /// `--push`: it is in the store and goes to the registries of its names.
    pub push: bool,
}

/// Everything that was asked for.
#[derive(Default)]
pub struct Results {
    /// The names to push.
    pushed: Vec<Reference>,
    outputs: Vec<Output>,
    archives: Vec<Archive>,
    /// Tar archives of files, which appear when they are whole.
    tars: Vec<Target>,
}

impl Results {
    /// Reads the values of `-o`; without any, the result is an image of these names in the store.
    pub fn parse(list: &[String], names: Vec<Reference>, also: Also) -> Result<Results> {
        let mut results = Results::default();
        let list: Vec<&String> = list.iter().filter(|text| !text.is_empty()).collect();
        for text in &list {
            results.add(text, &names).with_context(|| format!("the output {text:?}"))?;
        }
        let has_image = results.outputs.iter().any(|output| matches!(output, Output::Image(_)));
        if !has_image && (list.is_empty() || also.load || also.push) {
            results.outputs.push(Output::Image(names));
        } else if !has_image && !results.archives.is_empty() {
            results.outputs.push(Output::Image(Vec::new()));
        }
        if also.push {
            results.pushed = results.names().cloned().collect();
            if results.pushed.is_empty() {
                bail!("--push needs a name that says where to: give one with --tag");
            }
        }
        Ok(results)
    }

    /// The names that the image gets in the store.
    fn names(&self) -> impl Iterator<Item = &Reference> {
        self.outputs.iter().flat_map(|output| match output {
            Output::Image(names) => names.as_slice(),
            _ => &[],
        })
    }

    fn add(&mut self, text: &str, names: &[Reference]) -> Result<()> {
        if !text.contains('=') {
            match text {
                "-" => return self.tar(None),
                folder => self.outputs.push(Output::Folder(PathBuf::from(folder))),
            }
            return Ok(());
        }
        let (mut kind, mut dest, mut names, mut push) = ("", None, names.to_vec(), false);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = value,
                Some(("dest", value)) => dest = Some(PathBuf::from(value)),
                Some(("name", value)) => names.push(tag(value)?),
                Some(("push", value)) => push = boolean(value).with_context(|| format!("{value:?} is no bool"))?,
                _ => bail!("unexpected field {field:?}: type, dest, name and push are known"),
            }
        }
        let dest = dest.as_deref();
        if push && kind != "image" {
            bail!("push is for the type image");
        }
        match (kind, dest) {
            ("cacheonly", None) => {}
            ("cacheonly", Some(_)) => bail!("the type cacheonly writes nothing, so it has no dest"),
            ("image" | "registry", None) if push || kind == "registry" => {
                if names.is_empty() {
                    bail!("it needs a name that says where to: give one with --tag");
                }
                self.pushed.extend(names.iter().cloned());
                self.outputs.push(Output::Image(names));
            }
            ("docker" | "image", None) => self.outputs.push(Output::Image(names)),
            ("local", Some(folder)) => self.outputs.push(Output::Folder(folder.to_owned())),
            ("tar", Some(_)) => return self.tar(dest),
            ("docker" | "oci", Some(_)) => {
                let target = Target::open(not_stream(dest))?;
                self.archives.push(Archive { target, names, for_docker: kind == "docker" });
            }
            ("oci" | "tar" | "local", None) => bail!("dest is required for the type {kind}"),
            (other, _) => {
                bail!("unknown type {other:?}: docker, image, registry, oci, tar, local and cacheonly are known")
            }
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

    /// Writes what is made of the image, lets files appear, and pushes. Gives the digest of the manifest that was pushed
    /// last.
    pub fn finish(&mut self, app: &App, image: Option<Digest>, quiet: bool) -> Result<Option<Digest>> {
        std::mem::take(&mut self.tars).into_iter().try_for_each(Target::publish)?;
        let Some(image) = image else { return Ok(None) };
        self.write_archives(app, image)?;
        push_built(app, &self.pushed, quiet)
    }

    fn write_archives(&mut self, app: &App, image: Digest) -> Result<()> {
        let archives = std::mem::take(&mut self.archives);
        if archives.is_empty() {
            return Ok(());
        }
        let store = Store::open(&app.root);
        let mut selected = store.select(&[image.to_string()])?;
        for Archive { target, names, for_docker } in archives {
            selected.iter_mut().for_each(|image| image.names.clone_from(&names));
            let saving = Saving { images: &selected, without: &[], for_docker };
            store.save(saving, &mut TarMembers::new(target.file()), &Lines::passing())?;
            target.publish()?;
        }
        Ok(())
    }

    /// What `--metadata-file` tells.
    pub fn metadata(&self, app: &App, image: Option<Digest>, pushed: Option<Digest>) -> Result<Value> {
        let Some(image) = image else { return Ok(json!({})) };
        let stored = || Store::open(&app.root).select(&[image.to_string()]);
        let manifest = match pushed {
            Some(manifest) => Some(manifest),
            None => stored()?.first().map(|selected| selected.image.manifest),
        };
        let mut told = json!({
            "containerimage.config.digest": image.to_string(),
            "containerimage.digest": manifest.unwrap_or(image).to_string(),
        });
        let names: Vec<String> = self.names().map(Reference::to_string).collect();
        if !names.is_empty() {
            told["image.name"] = names.join(",").into();
        }
        Ok(told)
    }
}

/// `-` is the standard output.
fn not_stream(dest: Option<&Path>) -> Option<&Path> {
    dest.filter(|path| path.as_os_str() != "-")
}
