//! `cp`: files between this machine and containers, and out of images.

use super::{App, output, units};
use crate::container::containers::{Containers, NoSuchContainer};
use crate::container::copy::{End, Manner, Side, copy, copy_in, copy_out};
use crate::container::view::{self, View};
use crate::image::Store;
use crate::sys::depth;
use crate::sys::dir::Dir;
use crate::sys::tty;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsFd;

/// `cp`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Keep users and groups
    #[arg(short, long)]
    archive: bool,
    /// Follow a link at the end of the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not tell what was copied
    #[arg(short, long)]
    quiet: bool,
    /// A path, container:path, image:path, or - for a tar archive on standard input
    source: String,
    /// A path, container:path, or - for a tar archive on standard output
    destination: String,
}

/// `minirun cp`.
pub fn run(app: &App, args: &CopyArgs) -> Result<u8> {
    for (which, text) in [("source", &args.source), ("destination", &args.destination)] {
        if text.is_empty() {
            bail!("{which} can not be empty");
        }
    }
    let bytes = match (inside(&args.source), inside(&args.destination)) {
        (true, true) => bail!("copying between containers is not supported"),
        (false, false) => bail!("must specify at least one container source"),
        (true, false) => take_out(app, args)?,
        (false, true) => Some(put_in(app, args)?),
    };
    // In a script it would be noise.
    if let Some(bytes) = bytes.filter(|_| !args.quiet && tty::is_terminal(std::io::stdout())) {
        let place = match inside(&args.destination) {
            true => args.destination.clone(),
            false => on_host(&args.destination)?,
        };
        output::note(&format!("Successfully copied {} to {place}", units::size(bytes)));
    }
    Ok(0)
}

/// Whether a text is `container:path` and not a path of this machine.
fn inside(text: &str) -> bool {
    !text.starts_with(['/', '.']) && text.contains(':')
}

/// What a text names, and the path in it.
struct Named<'a> {
    name: &'a str,
    path: &'a str,
    view: View,
    read_only: bool,
}

impl Named<'_> {
    fn end(&self) -> End<'_> {
        let side = Side::Inside { name: self.name, read_only: self.read_only };
        End { root: &self.view.root, path: self.path, side }
    }
}

fn open<'a>(app: &App, text: &'a str, writing: bool) -> Result<Named<'a>> {
    let (name, path) = text.split_once(':').unwrap_or((text, ""));
    let missing = match Containers::open(&app.root).find(name) {
        Ok(container) => {
            let read_only = container.record.options.read_only;
            return Ok(Named { name, path, view: container.view(writing)?, read_only });
        }
        Err(error) if error.is::<NoSuchContainer>() => error,
        Err(error) => return Err(error),
    };
    // The name of an image may have colons itself.
    let store = Store::open(&app.root);
    for (at, _) in text.rmatch_indices(':') {
        let (name, path) = (&text[..at], &text[at + 1..]);
        if let Some(image) = store.find(name).unwrap_or(None) {
            // A container's name that was mistyped may look like the beginning of an id.
            if name.len() < 12 && image.id.hex().starts_with(name) {
                continue;
            }
            if writing {
                bail!("{name} is an image, which nothing can be copied into");
            }
            return Ok(Named { name, path, view: view::of_image(&app.root, &image)?, read_only: true });
        }
    }
    Err(missing)
}

fn take_out(app: &App, args: &CopyArgs) -> Result<Option<u64>> {
    depth::make_room();
    let named = open(app, &args.source, false)?;
    if args.destination == "-" {
        let stdout = std::io::stdout().lock();
        copy_out(&named.end(), args.follow_link, &mut BufWriter::with_capacity(256 << 10, stdout))?;
        return Ok(None);
    }
    let (host, path) = (host()?, on_host(&args.destination)?);
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let manner = Manner { follow: args.follow_link, owner: (!args.archive).then_some(me) };
    copy(&named.end(), &End { root: &host, path: &path, side: Side::Host }, manner).map(Some)
}

fn put_in(app: &App, args: &CopyArgs) -> Result<u64> {
    depth::make_room();
    let manner = Manner { follow: args.follow_link, owner: None };
    if args.source == "-" {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("read standard input")?;
        let named = open(app, &args.destination, true)?;
        return copy_in(File::from(stdin), &named.end(), manner);
    }
    let (host, path) = (host()?, on_host(&args.source)?);
    let from = End { root: &host, path: &path, side: Side::Host };
    let named = open(app, &args.destination, true)?;
    copy(&from, &named.end(), manner)
}

fn host() -> Result<Dir> {
    Dir::open("/").context("open /")
}

/// A path from the top of this machine's tree; how it ends has a meaning and is kept.
fn on_host(text: &str) -> Result<String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let here = std::env::current_dir().context("find the current directory")?;
    let here = here.to_str().with_context(|| format!("{} is not UTF-8", here.display()))?;
    Ok(format!("{}/{text}", here.trim_end_matches('/')))
}
