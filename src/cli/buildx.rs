//! `buildx`: the same builds, by the command line of Docker's plugin.

use super::builder::{BuilderGroup, OneBuilder, only_default};
use super::table::Table;
use super::{App, output};
use crate::build::session::host_platform;
use anyhow::Result;
use clap::{Args, Subcommand};

/// `buildx`.
#[derive(Debug, Args)]
pub struct BuildxArgs {
    #[command(flatten)]
    builder: OneBuilder,
    /// For compatibility: there is no log to be more talkative in
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    #[command(subcommand)]
    command: BuildxCommand,
}

#[derive(Debug, Subcommand)]
enum BuildxCommand {
    #[command(flatten)]
    Builder(BuilderGroup),
    /// Show what builds images
    Inspect(InspectArgs),
    /// List what builds images: this program
    Ls(OneBuilder),
    /// Show the version
    Version(OneBuilder),
}

/// `buildx inspect`.
#[derive(Debug, Args)]
struct InspectArgs {
    #[command(flatten)]
    builder: OneBuilder,
    /// For compatibility: there is nothing to start
    #[arg(long, hide = true)]
    bootstrap: bool,
    /// The builder: there is one, `default`
    #[arg(value_parser = only_default)]
    name: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl BuildxArgs {
    /// Runs the command.
    pub fn run(self, app: &App) -> Result<u8> {
        match self.command {
            BuildxCommand::Builder(group) => return group.run(app),
            BuildxCommand::Inspect(_) => output::print(&format!(
                "Name:   default\nDriver: docker\n\nNodes:\nName:      default\nEndpoint:  default\nStatus:    running\n\
                 Buildkit:  minirun {VERSION}\nPlatforms: {}\n",
                host_platform()
            ))?,
            BuildxCommand::Ls(_) => output::print(&list())?,
            BuildxCommand::Version(_) => output::line(&format!("minirun v{VERSION}"))?,
        }
        Ok(0)
    }
}

fn list() -> String {
    let (version, platform) = (format!("minirun {VERSION}"), host_platform());
    let rows = [
        ["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "BUILDKIT", "PLATFORMS"],
        ["default*", "docker", "", "", ""],
        [" \\_ default", " \\_ default", "running", &version, &platform],
    ];
    let mut table = Table::default();
    rows.into_iter().for_each(|row| table.row(row.map(str::to_owned).to_vec()));
    table.render()
}
