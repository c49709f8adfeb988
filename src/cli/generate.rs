//! What is generated from the command line's definition: completions for shells, and man pages.

use super::{definition, output};
use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write them to
    folder: PathBuf,
}

/// `minirun completion`: a script for the shell to read.
pub fn completion(args: &CompletionArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "minirun", &mut script);
    output::print(&String::from_utf8(script).context("write the completion script")?)?;
    Ok(0)
}

/// `minirun man`: one page a command.
pub fn man(args: &ManArgs) -> Result<u8> {
    let folder = args.folder.display();
    std::fs::create_dir_all(&args.folder).with_context(|| format!("make {folder}"))?;
    clap_mangen::generate_to(definition(), &args.folder).with_context(|| format!("write man pages to {folder}"))?;
    Ok(0)
}
