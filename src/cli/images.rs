//! Commands that bring images in, name them and make them of containers.

use super::image_tools::source_date;
use super::progress::Lines;
use super::{App, output};
use crate::build::change::apply_changes;
use crate::container::commit::{CommitOptions, commit as commit_container, config};
use crate::container::containers::Containers;
use crate::image::progress::Watcher;
use crate::image::{Reference, Store, kept_layers};
use crate::journal;
use crate::sys::depth;
use anyhow::{Result, anyhow};
use clap::Args;
use std::sync::Arc;

/// `tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Name or id
    image: String,
    /// The new name
    name: String,
}

/// `commit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Volumes and bind mounts are not part of the image. What --change knows: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
ONBUILD, USER, VOLUME, WORKDIR. With SOURCE_DATE_EPOCH in the environment, in seconds since 1970, the image
says it was made then and no file in its layer is newer: the same changes make the same image.")]
pub struct CommitArgs {
    /// Who made it
    #[arg(short, long, default_value = "")]
    author: String,
    /// Change the configuration by a Dockerfile instruction
    #[arg(short, long, allow_hyphen_values = true)]
    change: Vec<String>,
    /// A remark for the history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Freeze the container meanwhile
    #[arg(short, long, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    pause: bool,
    /// Make one layer of all
    #[arg(short, long)]
    squash: bool,
    /// With --squash, leave the layers of this image, on which the container stands, as they are
    #[arg(long, value_name = "BASE", requires = "squash")]
    keep: Option<String>,
    /// Add what is in its volumes, as a layer of its own
    #[arg(long)]
    with_volumes: bool,
    /// Name or id
    container: String,
    /// The image's name
    name: Option<String>,
}

/// `minirun tag`.
pub fn tag(app: &App, args: &TagArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    let reference = Reference::parse(&args.name)
        .map_err(|e| anyhow!("Error parsing reference: {:?} is not a valid repository/tag: {e:#}", args.name))?;
    let missing = || anyhow!("No such image: {}", Reference::familiarize(&args.image));
    let image = store.find(&args.image)?.ok_or_else(missing)?;
    store.tag(&image, &reference)?;
    journal::image(&app.root, "tag", &image.id.to_string(), &reference.familiar());
    Ok(0)
}

/// `minirun commit`.
pub fn commit(app: &App, args: &CommitArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    let store = Store::open(&app.root);
    let find = |name: &String| store.find(name)?.ok_or_else(|| anyhow!("No such image: {name}"));
    let keep = args.keep.as_ref().map(find).transpose()?;
    let kept = kept_layers(container.layers(), keep.as_ref())?;
    let of_container = config(&container.record);
    let mut config = of_container.clone();
    apply_changes(&mut config, &args.change)?;
    // What the changes leave without a program keeps the container's.
    if config.entrypoint.is_none() {
        config.entrypoint = of_container.entrypoint;
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd = of_container.cmd;
        }
    }
    let options = CommitOptions {
        author: args.author.clone(),
        message: args.message.clone(),
        config,
        pause: args.pause,
        with_volumes: args.with_volumes,
        reference: args.name.as_deref().map(Reference::parse).transpose()?,
        squash_above: args.squash.then_some(kept),
        date: source_date()?,
        watcher: Watcher::new(Arc::new(Lines::passing())),
    };
    // Comparing with a tall stack of layers keeps a directory of each open.
    depth::make_room();
    let id = commit_container(&container, &options)?;
    // With it goes what stands on the terminal.
    drop(options);
    output::line(&id.to_string())?;
    Ok(0)
}
