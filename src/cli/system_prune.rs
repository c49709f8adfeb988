//! `system prune`: everything that nobody needs, at once.

use super::builder;
use super::confirm::confirm;
use super::filter::Filters;
use super::image_remove::PRUNE_FILTERS;
use super::{App, container_prune, image_remove, networks, output, units, volume};
use crate::container::containers::Containers;
use crate::container::prune::PrunedContainers;
use crate::volume::Volume;
use anyhow::{Result, bail};
use clap::Args;

/// `system prune`.
#[derive(Debug, Args)]
#[command(after_help = PRUNE_FILTERS)]
pub struct PruneArgs {
    /// Remove all images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove also anonymous volumes that no container mounts
    #[arg(long)]
    volumes: bool,
    /// Remove only some; see below
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// `minirun system prune`.
pub fn run(app: &App, args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?;
    if args.volumes && !filters.get("until").is_empty() {
        bail!("The \"until\" filter is not supported with \"--volumes\"");
    }
    let (fitting_containers, fitting_images) = (container_prune::by(&filters)?, image_remove::by(&filters)?);
    let fitting_networks = networks::by(&filters)?;
    if !args.force && !confirm(&warning(args))? {
        return Ok(0);
    }
    // In this order: what was removed first needs nothing of the rest any more.
    let containers: PrunedContainers = Containers::open(&app.root).prune(&fitting_containers)?;
    output::print(&container_prune::told(&containers))?;
    let mut reclaimed = containers.reclaimed;
    if args.volumes {
        let wanted = |volume: &Volume| volume.is_anonymous() && filters.allows_labels(&volume.meta.labels);
        let (names, freed) = Containers::open(&app.root).prune_volumes(&wanted)?;
        output::print(&volume::told(&names))?;
        reclaimed += freed;
    }
    output::print(&networks::told(&networks::take(app, &fitting_networks)?))?;
    let images = image_remove::take(app, args.all, &fitting_images)?;
    output::print(&image_remove::told(&images))?;
    // Labels are those of images and containers.
    let is_fitting = filters.get("label").is_empty() && filters.get("label!").is_empty();
    let cache = if is_fitting { builder::take(app, args.all, filters.get("until"))? } else { Vec::new() };
    output::print(&builder::told(&cache))?;
    reclaimed += images.reclaimed + builder::freed(&cache);
    output::line(&format!("Total reclaimed space: {}", units::exact_size(reclaimed)))?;
    app.root.empty_trash();
    Ok(container_prune::complained(&containers))
}

fn warning(args: &PruneArgs) -> String {
    let mut what = vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.extend(match args.all {
        true => ["all images without at least one container associated to them", "all build cache"],
        false => ["all dangling images", "all dangling build cache"],
    });
    let mut text = String::from("This will remove:\n");
    what.iter().for_each(|what| text += &format!("  - {what}\n"));
    let filters: Vec<&String> = args.filter.iter().collect();
    if !filters.is_empty() {
        text += "\n  Items to be pruned will be filtered with:\n";
        filters.iter().for_each(|filter| text += &format!("  - {filter}\n"));
    }
    text
}
