//! `image squash`, `image diff`, `image mount`, `image unmount` and `image exists`.

use super::{App, output, table};
use crate::image::{Change, Image, Reference, Store};
use crate::sys::depth;
use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;

/// `image squash`.
#[derive(Debug, Args)]
#[command(after_help = "\
The new image reads the same as the old one, which stays. Files that were deleted or replaced on the way take no space
in it any more. Its history has the same steps. The same image squashed again is the same image.

  minirun image squash app:1 app:small                 one layer altogether
  minirun image squash --keep debian:12 app:1 app:small    one layer on those of debian:12, which stay shared")]
pub struct SquashArgs {
    /// Leave the layers of this image, on which the other stands, as they are
    #[arg(long, value_name = "BASE")]
    keep: Option<String>,
    /// The image to squash
    image: String,
    /// The new image's name
    name: Option<String>,
}

/// `image diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line has a path and before it A (it is only in B), C (changed) or D (it is only in A). Contents, owners, modes,
times, links and extended attributes count.")]
pub struct DiffArgs {
    /// A list of lines, or `json`
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// The image to compare with; by its name or id
    #[arg(value_name = "A")]
    old: String,
    /// The image whose differences are shown
    #[arg(value_name = "B")]
    new: String,
}

/// `image mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
The mount is read-only, without devices and set-user-id programs, and stays until `image unmount` or a reboot. A mounted
image is not removed. Without an image the command lists what is mounted.")]
pub struct MountArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// `image unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    /// All that are mounted
    #[arg(short, long)]
    all: bool,
    /// Also if somebody is using it, who keeps what he has open
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    images: Vec<String>,
}

/// `image exists`.
#[derive(Debug, Args)]
#[command(after_help = "Prints nothing; the exit status is 0 if there is such an image and 1 if not.")]
pub struct ExistsArgs {
    /// Name or id
    image: String,
}

fn find(store: &Store, name: &str) -> Result<Image> {
    store.find(name)?.ok_or_else(|| anyhow!("No such image: {name}"))
}

/// `minirun image squash`.
pub fn squash(app: &App, args: &SquashArgs) -> Result<u8> {
    let reference = args.name.as_deref().map(Reference::parse).transpose()?;
    let store = Store::open(&app.root);
    let image = find(&store, &args.image)?;
    let keep = args.keep.as_deref().map(|keep| find(&store, keep)).transpose()?;
    depth::make_room();
    output::line(&store.squash(&image, keep.as_ref(), reference.as_ref())?.to_string())?;
    Ok(0)
}

/// `minirun image diff`.
pub fn diff(app: &App, args: &DiffArgs) -> Result<u8> {
    if !matches!(args.format.as_str(), "" | "json") {
        bail!("{:?} is not a format of this command: it is json or nothing", args.format);
    }
    let store = Store::open(&app.root);
    let (old, new) = (find(&store, &args.old)?, find(&store, &args.new)?);
    depth::make_room();
    let found = store.compare(&old, &new)?;
    let path = |bytes: &[u8]| format!("/{}", String::from_utf8_lossy(bytes));
    if args.format == "json" {
        let of = |change| found.iter().filter(|d| d.change == change).map(|d| path(&d.path)).collect::<Vec<_>>();
        let document = json!({
            "added": of(Change::Added), "changed": of(Change::Changed), "deleted": of(Change::Deleted),
        });
        output::line(&document.to_string())?;
        return Ok(0);
    }
    let mut text = String::new();
    for difference in &found {
        let letter = match difference.change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        };
        text += &format!("{letter} {}\n", table::printable(&path(&difference.path)));
    }
    output::print(&text)?;
    Ok(0)
}

/// `minirun image mount`.
pub fn mount(app: &App, args: &MountArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    if args.images.is_empty() {
        let lookup = store.lookup()?;
        for (image, place) in store.mounted()? {
            let name = lookup.names(image).next().map_or_else(|| image.short(), Reference::familiar);
            output::line(&format!("{name} {}", place.display()))?;
        }
        return Ok(0);
    }
    let mut status = 0;
    for name in &args.images {
        match store.mount(name) {
            Ok(place) => output::line(&String::from_utf8_lossy(place.as_os_str().as_bytes()))?,
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}

/// `minirun image unmount`.
pub fn unmount(app: &App, args: &UnmountArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    let mut wanted = Vec::new();
    let mut status = 0;
    let mut failed = |error: &anyhow::Error| {
        output::complain(error);
        status = 1;
    };
    if args.all {
        wanted.extend(store.mounted()?.into_iter().map(|(image, _)| image));
    }
    for name in &args.images {
        match find(&store, name) {
            Ok(image) => wanted.push(image.id),
            Err(error) => failed(&error),
        }
    }
    for image in wanted {
        match store.unmount(&image, args.force) {
            Ok(true) => output::line(&image.to_string())?,
            Ok(false) => failed(&anyhow!("the image {} is not mounted", image.short())),
            Err(error) => failed(&error),
        }
    }
    Ok(status)
}

/// `minirun image exists`.
pub fn exists(app: &App, args: &ExistsArgs) -> Result<u8> {
    Ok(u8::from(Store::open(&app.root).find(&args.image)?.is_none()))
}

/// The moment that `SOURCE_DATE_EPOCH` asks new images to be made at, in seconds since 1970.
pub fn source_date() -> Result<Option<jiff::Timestamp>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => match text.parse::<i64>().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
            Some(moment) => Ok(Some(moment)),
            None => bail!("SOURCE_DATE_EPOCH is {text:?}, which is not a number of seconds since 1970"),
        },
    }
}
