//! What is at an address of the web, for commands that take one instead of a file.

use super::{App, surroundings};
use crate::registry::Web;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Seek;

/// Gets what is at an address: a file without a name, at its beginning.
///
/// # Errors
/// It is not there, or larger than what may be unpacked.
pub fn get(app: &App, address: &str) -> Result<File> {
    let scratch = app.root.staging()?;
    let path = scratch.path().join("content");
    let mut file = File::options().read(true).write(true).create_new(true).open(path).context("make a file for it")?;
    let limit = scratch.limit();
    let go_on = |received: u64| match received > limit {
        true => bail!("it is larger than {limit} bytes, the limit for what is unpacked"),
        false => Ok(()),
    };
    Web::open(&surroundings::read(false))?.get(address, &file, &go_on)?;
    file.rewind().context("read what was received")?;
    Ok(file)
}
