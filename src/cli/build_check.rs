//! `build --check`: what is odd about a Dockerfile, without building anything.

use super::output;
use super::table::printable;
use crate::build::dockerfile::Dockerfile;
use anyhow::{Result, bail};
use std::fmt::Write;

/// Whether `--call` asks for the checks.
///
/// # Errors
/// It asks for something else than them or a build.
pub fn is_asked_for(call: Option<&str>) -> Result<bool> {
    match call {
        None | Some("" | "build") => Ok(false),
        Some("check" | "lint") => Ok(true),
        Some(other) => bail!("unknown method {other:?} for --call: build and check are known"),
    }
}

/// Prints all warnings, in Docker's form, and gives the exit status: 1 if there are any.
pub fn report(file: &Dockerfile) -> Result<u8> {
    let mut text = match file.warnings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in &file.warnings {
        let (message, excerpt) = (printable(&warning.message), file.source.excerpt(warning.lines));
        // Writing to a string cannot go wrong.
        let _ = write!(text, "\nWARNING: {}\n{message}\n{excerpt}", warning.rule);
    }
    output::print(&text)?;
    Ok(u8::from(!file.warnings.is_empty()))
}
