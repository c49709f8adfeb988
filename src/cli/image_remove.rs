//! `rmi`, `untag` and `image prune`.

use super::confirm::confirm;
use super::filter::Filters;
use super::image_list::until;
use super::{App, output, units};
use crate::container::containers::Containers;
use crate::image::{ImageConfig, PruneChoice, Pruned, Reference, Removal, RemoveHow, Store};
use crate::journal;
use anyhow::{Result, anyhow};
use clap::Args;
use jiff::Timestamp;

/// `rmi`.
#[derive(Debug, Args)]
#[command(after_help = "\
A name is taken from its image; the image goes with its last name. An id removes the image with its name, but not one
with several names, or one that a container was made from: those need --force. What a running container uses, what
other images were made from, and what is mounted on the host stays in any case.")]
pub struct RemoveArgs {
    /// Remove even if stopped containers or several names need it, and do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// Leave the images without a name that it was made from
    #[arg(long)]
    no_prune: bool,
    /// Names, names with a digest, or ids and their unique beginnings
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `untag`.
#[derive(Debug, Args)]
pub struct UntagArgs {
    /// Name or id
    image: String,
    /// The names to take from it; all if none is given
    names: Vec<String>,
}

/// `image prune`.
#[derive(Debug, Args)]
#[command(after_help = PRUNE_FILTERS)]
pub struct PruneArgs {
    /// Remove all images that no container was made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove only some; see below
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// What `--filter` of the prune commands knows.
pub const PRUNE_FILTERS: &str = "\
Filters, each as --filter KEY=VALUE:
  until=MOMENT          what is older than a moment (2024-05-06T07:08:09) or an age (24h)
  label=KEY[=VALUE]     what has a label
  label!=KEY[=VALUE]    what does not have it";

/// `minirun rmi`.
pub fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    let containers = Containers::open(&app.root);
    let how = RemoveHow { force: args.force, keep_parents: args.no_prune };
    let mut status = 0;
    for outcome in store.remove_each(&args.images, how, &|| containers.image_uses())? {
        match outcome {
            Ok(steps) => {
                for step in steps {
                    note(app, &step);
                    output::line(&match step {
                        Removal::Untagged(name) => format!("Untagged: {name}"),
                        Removal::Deleted(id) => format!("Deleted: {id}"),
                    })?;
                }
            }
            Err(error) => {
                output::complain(&error);
                let missing = error.to_string().starts_with("No such image");
                status = if args.force && missing { status } else { 1 };
            }
        }
    }
    app.root.empty_trash();
    Ok(status)
}

/// `minirun untag`.
pub fn untag(app: &App, args: &UntagArgs) -> Result<u8> {
    let names = args.names.iter().map(|name| {
        Reference::parse(name).map_err(|e| anyhow!("Error parsing reference: {name:?} is not a valid name: {e:#}"))
    });
    let names = names.collect::<Result<Vec<_>>>()?;
    for gone in Store::open(&app.root).untag(&args.image, &names)? {
        note(app, &Removal::Untagged(gone.familiar()));
        output::line(&format!("Untagged: {}", gone.familiar()))?;
    }
    Ok(0)
}

/// `minirun image prune`.
pub fn prune(app: &App, args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?;
    let fits = by(&filters)?;
    let warning = match args.all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    let pruned = match args.force || confirm(warning)? {
        true => take(app, args.all, &fits)?,
        false => Pruned::default(),
    };
    output::print(&told(&pruned))?;
    output::line(&format!("Total reclaimed space: {}", units::exact_size(pruned.reclaimed)))?;
    app.root.empty_trash();
    Ok(0)
}

/// Writes a step into the journal.
fn note(app: &App, step: &Removal) {
    match step {
        Removal::Untagged(name) => journal::image(&app.root, "untag", name, name),
        Removal::Deleted(id) => journal::image(&app.root, "delete", id, id),
    }
}

/// Removes images that no container uses, and fit.
pub fn take(app: &App, all: bool, fits: &dyn Fn(&ImageConfig) -> bool) -> Result<Pruned> {
    let containers = Containers::open(&app.root);
    let pruned = Store::open(&app.root).prune(&PruneChoice { all, fits }, &|| containers.image_uses())?;
    pruned.removals.iter().for_each(|step| note(app, step));
    Ok(pruned)
}

/// What a prune says of images, with an empty line at the end if there is anything.
pub fn told(pruned: &Pruned) -> String {
    if pruned.removals.is_empty() {
        return String::new();
    }
    let mut text = String::from("Deleted Images:\n");
    for step in &pruned.removals {
        text += &match step {
            Removal::Untagged(name) => format!("untagged: {name}\n"),
            Removal::Deleted(id) => format!("deleted: {id}\n"),
        };
    }
    text + "\n"
}

/// Whether an image fits the filters of a prune.
pub fn by(filters: &Filters) -> Result<impl Fn(&ImageConfig) -> bool + use<'_>> {
    let moments = filters.get("until").iter().map(|text| until(text)).collect::<Result<Vec<Timestamp>>>()?;
    Ok(move |image: &ImageConfig| {
        let made: Option<Timestamp> = image.created.as_deref().and_then(|text| text.parse().ok());
        let labels = image.config.as_ref().map(|c| c.labels.clone()).unwrap_or_default();
        moments.iter().all(|moment| made.is_none_or(|made| made < *moment)) && filters.allows_labels(&labels)
    })
}
