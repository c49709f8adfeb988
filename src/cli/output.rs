//! Writing for people and scripts.

use anyhow::{Context, Result};
use std::io::{self, Write};

/// Writes to standard output.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Writes a line to standard output.
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Tells the user what went wrong, on standard error.
pub fn complain(error: &anyhow::Error) {
    // Names in it may come from a hostile image; line breaks are our own.
    let mut text = format!("{error:#}");
    if let Some(more) = super::disk::explain(&text) {
        text += &format!("\n{more}");
    }
    let lines: Vec<String> = text.lines().map(super::table::printable).collect();
    let text = lines.join("\n");
    // If even this cannot be written there is nobody to tell.
    let _ = writeln!(io::stderr(), "Error: {text}");
}

/// Tells the user something that is no result, on standard error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
