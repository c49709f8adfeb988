//! `container prune` and `container exists`.

use super::confirm::confirm;
use super::filter::Filters;
use super::image_list::until;
use super::image_remove::PRUNE_FILTERS;
use super::{App, output, units};
use crate::container::containers::{Container, Containers, NoSuchContainer};
use crate::container::prune::PrunedContainers;
use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

/// `container prune`.
#[derive(Debug, Args)]
#[command(after_help = PRUNE_FILTERS)]
pub struct PruneArgs {
    /// Remove only some; see below
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// `container exists`.
#[derive(Debug, Args)]
#[command(after_help = "Prints nothing; the exit status is 0 if there is such a container and 1 if not.")]
pub struct ExistsArgs {
    /// Name or id
    container: String,
}

/// `minirun container prune`.
pub fn prune(app: &App, args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?;
    let fits = by(&filters)?;
    let pruned = match args.force || confirm("This will remove all stopped containers.")? {
        true => Containers::open(&app.root).prune(&fits)?,
        false => PrunedContainers::default(),
    };
    output::print(&told(&pruned))?;
    output::line(&format!("Total reclaimed space: {}", units::exact_size(pruned.reclaimed)))?;
    app.root.empty_trash();
    Ok(complained(&pruned))
}

/// Tells what went wrong, and gives the exit status.
pub fn complained(pruned: &PrunedContainers) -> u8 {
    pruned.errors.iter().for_each(output::complain);
    u8::from(!pruned.errors.is_empty())
}

/// What a prune says of containers, with an empty line at the end if there is anything.
pub fn told(pruned: &PrunedContainers) -> String {
    match pruned.ids.is_empty() {
        true => String::new(),
        false => format!("Deleted Containers:\n{}\n\n", pruned.ids.join("\n")),
    }
}

/// Whether a container fits the filters of a prune.
pub fn by(filters: &Filters) -> Result<impl Fn(&Container) -> bool + use<'_>> {
    let moments = filters.get("until").iter().map(|text| until(text)).collect::<Result<Vec<Timestamp>>>()?;
    Ok(move |container: &Container| {
        let made: Option<Timestamp> = container.record.created.parse().ok();
        moments.iter().all(|moment| made.is_none_or(|made| made < *moment))
            && filters.allows_labels(&container.record.labels())
    })
}

/// `minirun container exists`.
pub fn exists(app: &App, args: &ExistsArgs) -> Result<u8> {
    match Containers::open(&app.root).find(&args.container) {
        Ok(_) => Ok(0),
        Err(error) if error.is::<NoSuchContainer>() => Ok(1),
        Err(error) => Err(error),
    }
}
