//! Commands about images.

use super::filter::Filters;
use super::template::Format;
use super::{App, output, units};
use crate::container::commit::{CommitOptions, commit as commit_container};
use crate::container::containers::Containers;
use crate::image::{Digest, Image, ImportOptions, LoadEvent, Reference, Removal, Store};
use crate::journal;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

/// `images`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show also the images without a name that others were made from
    #[arg(short, long)]
    all: bool,
    /// Show the manifests' digests
    #[arg(long)]
    digests: bool,
    /// Show only some (dangling=true, label=k=v)
    #[arg(short, long)]
    filter: Vec<String>,
    /// A template, `json`, or `table` with a template
    #[arg(long, default_value = "")]
    format: String,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only this repository, or this name
    repository: Option<String>,
}

/// `rmi`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove even if stopped containers or several names need it
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Change the configuration by a Dockerfile instruction
    #[arg(short, long, allow_hyphen_values = true)]
    change: Vec<String>,
    /// A remark for the history
    #[arg(short, long)]
    message: Option<String>,
    /// The archive (tar, also with gzip or zstd), or - for standard input
    source: PathBuf,
    /// The image's name
    name: Option<String>,
}

/// `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// The archive; standard input if it is not given
    #[arg(short, long)]
    input: Option<PathBuf>,
    /// Say only what was loaded
    #[arg(short, long)]
    quiet: bool,
}

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
    /// Name or id
    container: String,
    /// The image's name
    name: Option<String>,
}

const COLUMNS: [(&str, &str); 7] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
];

/// `minirun images`.
pub fn list(app: &App, args: &ListArgs) -> Result<u8> {
    let default: &[&str] = match args.digests {
        true => &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        false => &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    };
    let format = Format::parse(&args.format, &COLUMNS, default)?;
    let wanted = args.repository.as_deref().map(Reference::parse).transpose()?;
    let has_tag = args.repository.as_deref().is_some_and(|r| r.rsplit('/').next().unwrap_or(r).contains([':', '@']));
    let store = Store::open(&app.root);
    let listing = store.list()?;
    for damaged in &listing.damaged {
        output::complain(&anyhow!("the image {} cannot be read: {:#}", damaged.name, damaged.error));
    }
    let filters = Filters::parse(&args.filter, &["dangling", "label"])?;
    let dangling = filters.flag("dangling")?;
    let parents: BTreeSet<Digest> = listing.images.iter().filter_map(|l| l.image.parent).collect();
    let mut images = listing.images;
    images.retain(|l| {
        let nameless = l.reference.is_none();
        let hidden = nameless && !args.all && parents.contains(&l.image.id);
        let labels = l.image.config.config.as_ref().map(|c| &c.labels);
        !hidden
            && dangling.is_none_or(|wanted| wanted == nameless)
            && filters.allows_labels(labels.unwrap_or(&BTreeMap::new()))
    });
    images.retain(|l| match (&wanted, &l.reference) {
        (None, _) => true,
        (Some(w), Some(r)) => w.same_repository(r) && (!has_tag || w.tag() == r.tag()),
        (Some(_), None) => false,
    });
    let created = |i: &Image| i.config.created.as_deref().and_then(|c| c.parse::<Timestamp>().ok());
    let name = |r: &Option<Reference>| r.as_ref().map(Reference::familiar).unwrap_or_default();
    images.sort_by(|a, b| {
        created(&b.image).cmp(&created(&a.image)).then_with(|| name(&a.reference).cmp(&name(&b.reference)))
    });
    let id = |image: &Image| if args.no_trunc { image.id.to_string() } else { image.id.short() };
    if args.quiet {
        output::print(&images.iter().map(|l| id(&l.image) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let rows = images.iter().map(|l| {
        let (repository, tag) = match &l.reference {
            Some(r) => (r.familiar_name(), r.tag().unwrap_or("<none>").to_owned()),
            None => ("<none>".into(), "<none>".into()),
        };
        let created = created(&l.image);
        let since = created.map(|t| units::age(Timestamp::now().as_second() - t.as_second()) + " ago");
        let at = created.map(|t| t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string());
        Ok(json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": l.image.manifest.to_string(),
            "ID": id(&l.image),
            "CreatedSince": since.unwrap_or_else(|| "N/A".into()),
            "CreatedAt": at.unwrap_or_else(|| "N/A".into()),
            "Size": units::size(store.size(&l.image)?),
        }))
    });
    output::print(&format.rows(&rows.collect::<Result<Vec<Value>>>()?)?)?;
    Ok(0)
}

/// `minirun rmi`.
pub fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.images {
        match store.remove(name, args.force, &|| containers.image_uses()) {
            Ok(steps) => {
                for step in steps {
                    match &step {
                        Removal::Untagged(name) => journal::image(&app.root, "untag", name, name),
                        Removal::Deleted(id) => journal::image(&app.root, "delete", &id.to_string(), &id.to_string()),
                    }
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

/// `minirun import`.
pub fn import(app: &App, args: ImportArgs) -> Result<u8> {
    let reference = args.name.as_deref().map(Reference::parse).transpose()?;
    let source = if args.source.as_os_str() == "-" { standard_input()? } else { open(&args.source)? };
    let options = ImportOptions { reference, changes: args.change, message: args.message };
    let id = Store::open(&app.root).import(source, options)?;
    journal::image(&app.root, "import", &id.to_string(), args.name.as_deref().unwrap_or(""));
    output::line(&id.to_string())?;
    Ok(0)
}

/// `minirun load`.
pub fn load(app: &App, args: &LoadArgs) -> Result<u8> {
    let source = match &args.input {
        Some(path) => open(path)?,
        None => standard_input()?,
    };
    let mut complaint = Ok(());
    let mut tell = |event: LoadEvent| {
        if let LoadEvent::Image(loaded) = &event {
            let name = loaded.reference.as_ref().map(Reference::familiar).unwrap_or_default();
            journal::image(&app.root, "load", &loaded.image.to_string(), &name);
        }
        let text = match event {
            LoadEvent::Image(loaded) => match &loaded.reference {
                Some(reference) => format!("Loaded image: {}", reference.familiar()),
                None => format!("Loaded image ID: {}", loaded.image),
            },
            LoadEvent::Renamed { reference, old } if !args.quiet => format!(
                "The image {} already exists, renaming the old one with ID {old} to empty string",
                reference.familiar()
            ),
            _ => return,
        };
        complaint = output::line(&text);
    };
    let store = Store::open(&app.root);
    if let Err(error) = store.load(source, &mut tell) {
        // Layers that came before what was wrong; the error is what counts.
        let _ = store.sweep_up(&|| Containers::open(&app.root).image_uses());
        app.root.empty_trash();
        return Err(error);
    }
    complaint?;
    Ok(0)
}

fn open(path: &PathBuf) -> Result<File> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    if file.metadata().with_context(|| format!("look at {}", path.display()))?.is_dir() {
        bail!("{} is a directory, not an archive", path.display());
    }
    Ok(file)
}

fn standard_input() -> Result<File> {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin();
    if crate::sys::tty::is_terminal(&stdin) {
        bail!("requested to read an archive from standard input, but that is a terminal");
    }
    Ok(stdin.as_fd().try_clone_to_owned().context("read standard input")?.into())
}

/// `minirun tag`.
pub fn tag(app: &App, args: &TagArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    let reference = Reference::parse(&args.name)
        .map_err(|e| anyhow!("Error parsing reference: {:?} is not a valid repository/tag: {e:#}", args.name))?;
    let image = store.find(&args.image)?.ok_or_else(|| anyhow!("No such image: {}", args.image))?;
    store.tag(&image, &reference)?;
    journal::image(&app.root, "tag", &image.id.to_string(), &reference.familiar());
    Ok(0)
}

/// `minirun commit`.
pub fn commit(app: &App, args: &CommitArgs) -> Result<u8> {
    let options = CommitOptions {
        author: args.author.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        pause: args.pause,
        reference: args.name.as_deref().map(Reference::parse).transpose()?,
    };
    let container = Containers::open(&app.root).find(&args.container)?;
    // Comparing with a tall stack of layers keeps a directory of each open.
    crate::sys::process::raise_descriptor_limit();
    let id = commit_container(&container, &options)?;
    output::line(&id.to_string())?;
    Ok(0)
}
