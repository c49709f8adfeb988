//! Commands that bring images in, name them and make them of containers.

use super::image_tools::source_date;
use super::{App, output};
use crate::container::commit::{CommitOptions, commit as commit_container};
use crate::container::containers::Containers;
use crate::image::{ImportOptions, LoadEvent, Reference, Store, kept_layers};
use crate::journal;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use std::fs::File;
use std::path::PathBuf;

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
    /// Name or id
    container: String,
    /// The image's name
    name: Option<String>,
}

/// `minirun import`.
pub fn import(app: &App, args: ImportArgs) -> Result<u8> {
    let reference = args.name.as_deref().map(Reference::parse).transpose()?;
    let source = if args.source.as_os_str() == "-" { standard_input()? } else { open(&args.source)? };
    let options = ImportOptions { reference, changes: args.change, message: args.message, date: source_date()? };
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
    let container = Containers::open(&app.root).find(&args.container)?;
    let store = Store::open(&app.root);
    let find = |name: &String| store.find(name)?.ok_or_else(|| anyhow!("No such image: {name}"));
    let keep = args.keep.as_ref().map(find).transpose()?;
    let kept = kept_layers(container.layers(), keep.as_ref())?;
    let options = CommitOptions {
        author: args.author.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        pause: args.pause,
        reference: args.name.as_deref().map(Reference::parse).transpose()?,
        squash_above: args.squash.then_some(kept),
        date: source_date()?,
    };
    // Comparing with a tall stack of layers keeps a directory of each open.
    crate::sys::process::raise_descriptor_limit();
    let id = commit_container(&container, &options)?;
    output::line(&id.to_string())?;
    Ok(0)
}
