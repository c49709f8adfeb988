//! Asking before something is removed.

use super::output;
use anyhow::{Context, Result};
use std::io::BufRead;

/// Shows a warning and asks whether to go on. Only a line that begins with `y` or `Y` is a yes.
pub fn confirm(warning: &str) -> Result<bool> {
    output::print(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    Ok(answer.trim().to_lowercase() == "y")
}
