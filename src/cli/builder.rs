//! Commands about what builds keep.

use super::confirm::confirm;
use super::filter::Filters;
use super::moment::time_point;
use super::table::{Table, printable};
use super::{App, build, output, units, values};
use crate::build::prune::{Kept, Wish, list, prune};
use crate::container::containers::Containers;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use std::time::{Duration, SystemTime};

/// `builder`.
#[derive(Debug, Subcommand)]
pub enum BuilderGroup {
    /// Make an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Show what builds keep
    Du(DuArgs),
    /// Remove what builds keep
    Prune(PruneArgs),
}

/// There is nothing to choose from.
#[derive(Debug, Args)]
pub struct OneBuilder {
    /// For compatibility: there is one, `default`
    #[arg(long, value_parser = only_default, hide = true)]
    builder: Option<String>,
}

/// The name of the only builder, or none.
///
/// # Errors
/// The name of another one.
pub fn only_default(name: &str) -> Result<String> {
    match name {
        "" | "default" => Ok(name.to_owned()),
        other => bail!("no builder {other:?} found: there is one, default"),
    }
}

/// `builder du`.
#[derive(Debug, Args)]
pub struct DuArgs {
    #[command(flatten)]
    builder: OneBuilder,
    /// Show only some (id=, type=regular|exec.cachemount)
    #[arg(long)]
    filter: Vec<String>,
}

/// `builder prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    #[command(flatten)]
    builder: OneBuilder,
    /// Also what images share
    #[arg(short, long)]
    all: bool,
    /// Remove only some (until=24h or unused-for=24h, id=, type=regular|exec.cachemount)
    #[arg(long)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Bytes that may stay, such as 10GB
    #[arg(long, visible_alias = "reserved-space")]
    keep_storage: Option<String>,
}

impl BuilderGroup {
    /// Runs the command.
    pub fn run(self, app: &App) -> Result<u8> {
        match self {
            BuilderGroup::Build(args) => build::run(app, *args),
            BuilderGroup::Du(args) => du(app, &args),
            BuilderGroup::Prune(args) => remove(app, &args),
        }
    }
}

const FILTERS: [&str; 4] = ["until", "unused-for", "id", "type"];

fn wish(filter: &[String], all: bool, keep: Option<&str>) -> Result<Wish> {
    let filters = Filters::parse(filter, &FILTERS)?;
    let ages = filters.get("until").iter().chain(filters.get("unused-for")).map(|text| age(text));
    let keep = keep.map(values::bytes).transpose()?;
    Ok(Wish {
        all,
        unused_for: ages.collect::<Result<Vec<_>>>()?.into_iter().max(),
        kinds: filters.get("type").to_vec(),
        ids: filters.get("id").to_vec(),
        keep: keep.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
    })
}

fn age(text: &str) -> Result<Duration> {
    let now = Timestamp::now();
    let age = now.duration_since(time_point(text, now)?);
    match Duration::try_from(age) {
        Ok(age) => Ok(age),
        Err(_) => bail!("{text:?} lies in the future"),
    }
}

fn du(app: &App, args: &DuArgs) -> Result<u8> {
    let wish = wish(&args.filter, true, None)?;
    let is_wanted = |kept: &Kept| {
        (wish.kinds.is_empty() || wish.kinds.iter().any(|kind| kind == kept.kind()))
            && (wish.ids.is_empty() || wish.ids.iter().any(|id| kept.id().starts_with(id.as_str())))
    };
    let kept: Vec<Kept> = list(&app.root)?.into_iter().filter(is_wanted).collect();
    let mut table = Table::default();
    table.row(["ID", "TYPE", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "DESCRIPTION"].map(str::to_owned).to_vec());
    for kept in &kept {
        let age = SystemTime::now().duration_since(kept.last_used()).unwrap_or_default().as_secs();
        table.row(vec![
            short(&kept.id()),
            kept.kind().to_owned(),
            (!kept.is_shared() && !kept.is_in_use()).to_string(),
            units::size(kept.size()),
            units::age(i64::try_from(age).unwrap_or(0)) + " ago",
            shortened(&kept.description()),
        ]);
    }
    let total: u64 = kept.iter().map(Kept::size).sum();
    let reclaimable: u64 = kept.iter().filter(|k| !k.is_shared() && !k.is_in_use()).map(Kept::size).sum();
    let sums = format!("Reclaimable:\t{}\nTotal:\t\t{}\n", units::size(reclaimable), units::size(total));
    output::print(&(table.render() + &sums))?;
    Ok(0)
}

fn remove(app: &App, args: &PruneArgs) -> Result<u8> {
    let wish = wish(&args.filter, args.all, args.keep_storage.as_deref())?;
    let warning = match args.all {
        true => "This will remove all build cache.",
        false => "This will remove all dangling build cache.",
    };
    if !args.force && !confirm(warning)? {
        return Ok(0);
    }
    let gone = take_what(app, &wish)?;
    output::print(&(told(&gone) + &format!("Total reclaimed space: {}\n", units::size(freed(&gone)))))?;
    app.root.empty_trash();
    Ok(0)
}

fn take_what(app: &App, wish: &Wish) -> Result<Vec<Kept>> {
    let containers = Containers::open(&app.root);
    prune(&app.root, wish, &|| containers.image_uses())
}

/// Removes what builds keep, as a part of a larger cleaning.
pub fn take(app: &App, all: bool, until: &[String]) -> Result<Vec<Kept>> {
    let filters: Vec<String> = until.iter().map(|moment| format!("until={moment}")).collect();
    take_what(app, &wish(&filters, all, None)?)
}

/// What was removed, in Docker's words.
pub fn told(gone: &[Kept]) -> String {
    if gone.is_empty() {
        return String::new();
    }
    let ids: String = gone.iter().map(|kept| short(&kept.id()) + "\n").collect();
    format!("Deleted build cache objects:\n{ids}\n")
}

/// Bytes that are free now.
pub fn freed(gone: &[Kept]) -> u64 {
    gone.iter().filter(|kept| !kept.is_shared()).map(Kept::size).sum()
}

fn short(id: &str) -> String {
    id.chars().take(25).collect()
}

fn shortened(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
