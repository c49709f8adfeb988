//! What is at an address of the web, for commands that take one instead of a file.

use super::{App, surroundings};
use crate::registry::Web;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Seek;
use std::ops::Range;

/// Whether a source is an address of the web.
pub fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|start| text.starts_with(start))
}

/// Where an address says who asks: a user and a password, with the `@` behind them.
fn user_info(address: &str) -> Option<Range<usize>> {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let host = address[start..].split(['/', '?', '#']).next()?;
    Some(start..start + host.rfind('@')? + 1)
}

/// An address without user, password and query: what may be kept and shown.
pub fn without_secrets(address: &str) -> String {
    let mut shown = address.split(['?', '#']).next().unwrap_or_default().to_owned();
    if let Some(range) = user_info(&shown) {
        shown.replace_range(range, "");
    }
    shown
}

/// An address with its user and password made unreadable, as Docker does it.
pub fn masked(mut address: String) -> String {
    if let Some(range) = user_info(&address) {
        address.replace_range(range, "xxxxx:xxxxx@");
    }
    address
}

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
