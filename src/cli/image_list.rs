//! `images` and `image ls`.

use super::filter::Filters;
use super::glob::Glob;
use super::template::Format;
use super::{App, client_config, local, moment, output, units};
use crate::image::{Digest, Reference, Store, Summary};
use anyhow::{Result, anyhow};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// `images`.
#[derive(Debug, Args)]
#[command(after_help = "\
Filters, each as --filter KEY=VALUE; all must hold, but of several patterns of names one:
  dangling=true|false   images without a name, or with one
  label=KEY[=VALUE]     images with a label
  reference=PATTERN     names such as 'web*', '*/app:v?'
  before=IMAGE          older than this image
  since=IMAGE           newer than this image
  until=MOMENT          older than a moment (2024-05-06T07:08:09) or an age (24h)

Templates know .ID .Repository .Tag .Digest .CreatedSince .CreatedAt .Size .VirtualSize, for example
  minirun images --format '{{.Repository}}:{{.Tag}} {{.Size}}'
  minirun images --format 'table {{.ID}}\\t{{.CreatedAt}}'")]
pub struct ListArgs {
    /// Show also the images without a name that others were made from
    #[arg(short, long)]
    all: bool,
    /// Show the digests of the images' manifests
    #[arg(long)]
    digests: bool,
    /// Show only some images; see below
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `json`, or `table` and a template
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids, one a name
    #[arg(short, long)]
    quiet: bool,
    /// Only images of this name, or whose name fits a pattern such as 'web*'
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// What a row of a listing has.
pub const COLUMNS: [(&str, &str); 11] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const FILTERS: [&str; 6] = ["dangling", "label", "before", "since", "reference", "until"];

/// `minirun images`.
pub fn list(app: &App, args: &ListArgs) -> Result<u8> {
    let default: &[&str] = match args.digests {
        true => &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        false => &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    };
    let template = client_config::format(&args.format, args.quiet, |config| &config.images_format);
    let format = Format::parse(template, &COLUMNS, default)?;
    let store = Store::open(&app.root);
    let images = selected(&store, args)?;
    let id = |image: &Summary| if args.no_trunc { image.id.to_string() } else { image.id.short() };
    if args.quiet {
        output::print(&images.iter().map(|image| id(image) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let rows: Vec<Value> = images.iter().map(|image| row(image, id(image), now)).collect();
    output::print(&format.rows(&rows)?)?;
    Ok(0)
}

/// The images that were asked for, newest first.
fn selected(store: &Store, args: &ListArgs) -> Result<Vec<Summary>> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let dangling = filters.flag("dangling")?;
    let patterns = filters.get("reference").iter().map(|p| Named::parse(p)).collect::<Result<Vec<_>>>()?;
    let wanted = args.repository.as_deref().map(Named::parse).transpose()?;
    let before = moments(store, filters.get("before"))?;
    let since = moments(store, filters.get("since"))?;
    let until = filters.get("until").iter().map(|u| until(u)).collect::<Result<Vec<_>>>()?;
    let mut images = all(store)?;
    fold_digests(&mut images);
    let parents: BTreeSet<Digest> = images.iter().filter_map(|l| l.parent).collect();
    let labels = if args.filter.iter().any(|f| f.trim_start().starts_with("label")) { labels(store)? } else { None };
    images.retain(|image| {
        let nameless = image.reference.is_none();
        let hidden = nameless && !args.all && parents.contains(&image.id);
        let made = created(image);
        let has_labels = || labels.as_ref().is_none_or(|l| l.get(&image.id).is_some_and(|l| filters.allows_labels(l)));
        !hidden
            && dangling.is_none_or(|wanted| wanted == nameless)
            && wanted.as_ref().is_none_or(|w| w.fits(image))
            && (patterns.is_empty() || patterns.iter().any(|p| p.fits(image)))
            && before.iter().all(|moment| made < *moment)
            && since.iter().all(|moment| made > *moment)
            && until.iter().all(|moment| made.is_some_and(|made| made < *moment))
            && has_labels()
    });
    Ok(images)
}

/// A name by digest is shown in the row of its repository's tag, if there is one for the same image.
fn fold_digests(images: &mut Vec<Summary>) {
    let key = |image: &Summary| Some((image.id, image.reference.as_ref()?.name()));
    let by_digest =
        |image: &Summary| image.reference.as_ref().filter(|r| r.tag().is_none()).and_then(Reference::digest);
    let known: BTreeMap<_, _> = images.iter().filter_map(|i| Some((key(i)?, by_digest(i)?))).collect();
    let tagged: BTreeSet<_> = images.iter().filter(|i| by_digest(i).is_none()).filter_map(key).collect();
    images.retain(|i| by_digest(i).is_none() || key(i).is_none_or(|k| !tagged.contains(&k)));
    for image in images {
        if let Some(digest) = by_digest(image).or_else(|| known.get(&key(image)?).copied()) {
            image.manifest = digest;
        }
    }
}

/// All images, newest first; what cannot be read is told about.
pub fn all(store: &Store) -> Result<Vec<Summary>> {
    let found = store.summaries()?;
    for damaged in &found.damaged {
        output::complain(&anyhow!("the image {} cannot be read: {:#}", damaged.name, damaged.error));
    }
    let mut images: Vec<(Option<Timestamp>, String, Summary)> = found
        .images
        .into_iter()
        .map(|i| (created(&i), i.reference.as_ref().map(Reference::familiar).unwrap_or_default(), i))
        .collect();
    images.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Ok(images.into_iter().map(|(_, _, image)| image).collect())
}

/// When an image was made, if it says so.
pub fn created(image: &Summary) -> Option<Timestamp> {
    image.created.as_deref().and_then(|text| text.parse().ok())
}

/// The fields of a row.
pub fn row(image: &Summary, id: String, now: Timestamp) -> Value {
    let (repository, tag) = match &image.reference {
        Some(r) => (r.familiar_name(), r.tag().unwrap_or("<none>").to_owned()),
        None => ("<none>".into(), "<none>".into()),
    };
    let created = created(image);
    let since = created.map(|t| units::age(now.as_second() - t.as_second()) + " ago");
    let at = created.map(local::to_the_second);
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": image.manifest.to_string(),
        "ID": id,
        "CreatedSince": since.unwrap_or_else(|| "N/A".into()),
        "CreatedAt": at.unwrap_or_else(|| "N/A".into()),
        "Size": units::size(image.size),
        "VirtualSize": units::exact_size(image.size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    })
}

/// When the images that a filter names were made.
fn moments(store: &Store, names: &[String]) -> Result<Vec<Option<Timestamp>>> {
    let moment = |name: &String| {
        let image = store.find(name)?.ok_or_else(|| anyhow!("No such image: {name}"))?;
        Ok(image.config.created.as_deref().and_then(|text| text.parse().ok()))
    };
    names.iter().map(moment).collect()
}

/// The moment before which something must have been made.
pub fn until(text: &str) -> Result<Timestamp> {
    moment::time_point(text, Timestamp::now())
}

/// The labels of all images; those of a damaged one are missing.
fn labels(store: &Store) -> Result<Option<BTreeMap<Digest, BTreeMap<String, String>>>> {
    let images = store.list()?.images.into_iter();
    Ok(Some(images.map(|l| (l.image.id, l.image.config.config.unwrap_or_default().labels)).collect()))
}

/// Names by a pattern, or by one name in whatever form.
struct Named {
    glob: Glob,
    name: Option<Reference>,
    has_tag: bool,
}

impl Named {
    fn parse(pattern: &str) -> Result<Named> {
        let has_tag = pattern.rsplit('/').next().unwrap_or(pattern).contains([':', '@']);
        Ok(Named { glob: Glob::parse(pattern)?, name: Reference::parse(pattern).ok(), has_tag })
    }

    fn fits(&self, image: &Summary) -> bool {
        let Some(own) = &image.reference else { return false };
        let is_it = |wanted: &Reference| {
            let same = match wanted.digest() {
                Some(digest) => image.manifest == digest,
                None => !self.has_tag || wanted.tag() == own.tag(),
            };
            same && wanted.same_repository(own)
        };
        self.glob.fits(&own.familiar()) || self.glob.fits(&own.familiar_name()) || self.name.as_ref().is_some_and(is_it)
    }
}
