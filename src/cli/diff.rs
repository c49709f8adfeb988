//! `diff`: what a container has changed in its tree.

use super::table::printable;
use super::{App, output};
use crate::container::containers::Containers;
use crate::image::Store;
use crate::image::difference::{Fate, differences};
use crate::image::union::Union;
use crate::sys::depth;
use crate::sys::dir::Dir;
use anyhow::{Context, Result};
use clap::Args;

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Name or id
    container: String,
}

/// `minirun diff`.
pub fn run(app: &App, args: &DiffArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    // Comparing with a tall stack of layers keeps a directory of each open.
    depth::make_room();
    let below = Union::new(Store::open(&app.root).open_layers(container.layers())?);
    let upper = Dir::open(container.upper()).context("open the container's layer")?;
    let mut text = String::new();
    for difference in differences(&upper, &below).context("compare the container with its image")? {
        let letter = match difference.fate {
            Fate::Added => 'A',
            Fate::Changed => 'C',
            Fate::Deleted => 'D',
        };
        text.push_str(&format!("{letter} {}\n", printable(&String::from_utf8_lossy(&difference.path))));
    }
    output::print(&text)?;
    Ok(0)
}
