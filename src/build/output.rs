//! What a build gives: an image in the store, and what else was asked for.

use super::sandbox::Below;
use super::session::Session;
use super::stage::State;
use crate::image::{Digest, ImageConfig, Reference};
use crate::sys::dir::Dir;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where the result goes.
#[derive(Debug)]
pub enum Output {
    /// An image in the store under these names.
    Image(Vec<Reference>),
    /// The files of the last stage in a folder of the host.
    Folder(PathBuf),
    /// The files of the last stage as a tar archive.
    Tar(File),
}

/// The configuration as it is written down: every step of the history has a time, and nothing is younger than the
/// epoch that the user has set.
pub fn finished(image: &ImageConfig, epoch: &Option<i64>) -> Result<ImageConfig> {
    let mut image = image.clone();
    let limit = epoch.map(jiff::Timestamp::from_second).transpose().context("read SOURCE_DATE_EPOCH")?;
    // Steps that only change the configuration happen with the layer before them, the first ones with the one after.
    let mut known = image.history.iter().find_map(|step| step.created.clone());
    for step in &mut image.history {
        match &step.created {
            Some(created) => known = Some(created.clone()),
            None => step.created.clone_from(&known),
        }
    }
    if known.is_none() {
        let now = limit.unwrap_or_else(jiff::Timestamp::now).to_string();
        image.history.iter_mut().for_each(|step| step.created = Some(now.clone()));
        known = Some(now);
    }
    image.created = known;
    if let Some(limit) = limit {
        let younger = |time: &String| time.parse::<jiff::Timestamp>().is_ok_and(|time| time > limit);
        let times = image.history.iter_mut().map(|step| &mut step.created).chain([&mut image.created]);
        times.flatten().filter(|time| younger(time)).for_each(|time| *time = limit.to_string());
    }
    Ok(image)
}

/// Puts the image into the store; gives its id.
pub fn image(session: &Session<'_>, state: &State<'_>, names: &[Reference]) -> Result<Digest> {
    let step = session.reporter.begin("exporting to image");
    let id = finish(session, state).and_then(|image| {
        step.note("exporting layers done");
        let id = session.store.publish_built(&image, names)?;
        step.note(format!("writing image {id} done"));
        names.iter().for_each(|name| step.note(format!("naming to {name} done")));
        Ok(id)
    });
    match id {
        Ok(id) => {
            step.done();
            Ok(id)
        }
        Err(error) => {
            step.failed(format!("{error:#}"));
            Err(error.context("export the image"))
        }
    }
}

/// The image as it is to be, with the labels of the command line.
fn finish(session: &Session<'_>, state: &State<'_>) -> Result<ImageConfig> {
    let mut image = finished(&state.image, &session.wishes.epoch)?;
    if session.wishes.squash {
        image = session.store.squashed(&image, state.base_layers, session.wishes.epoch).context("squash the layers")?;
    }
    if !session.wishes.labels.is_empty() {
        super::config::add_labels(image.config.get_or_insert_default(), &session.wishes.labels);
    }
    Ok(image)
}

/// Writes the files of the last stage into a folder.
pub fn folder(session: &Session<'_>, state: &State<'_>, path: &Path) -> Result<()> {
    let write = || -> Result<()> {
        std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        let target = Dir::open(path).with_context(|| format!("open {}", path.display()))?;
        Below::open(&session.store, state.layers())?.union.copy_tree_over(Path::new("/"), &target)
    };
    step(session, "exporting to client directory", write)
}

/// Writes them as a tar archive.
pub fn tar(session: &Session<'_>, state: &State<'_>, file: &File) -> Result<()> {
    step(session, "exporting to client tarball", || {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        Below::open(&session.store, state.layers())?.union.write_tar(&mut out)?;
        out.flush().context("write the archive")
    })
}

fn step(session: &Session<'_>, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let step = session.reporter.begin(name);
    match work() {
        Ok(()) => {
            step.done();
            Ok(())
        }
        Err(error) => {
            step.failed(format!("{error:#}"));
            Err(error)
        }
    }
}
