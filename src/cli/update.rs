//! `update`.

use super::limits::LimitArgs;
use super::{App, environment, output, values};
use crate::container::containers::Containers;
use crate::container::update::Change;
use anyhow::{Result, ensure};
use clap::Args;

/// `update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Set a variable from the next start on (NAME=value, or NAME to copy it from here)
    #[arg(short, long)]
    env: Vec<String>,
    /// When to start it again: no, always, unless-stopped, on-failure[:N]
    #[arg(long)]
    restart: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl UpdateArgs {
    fn change(&self) -> Result<Change> {
        let change = Change {
            resources: self.limits.resources()?,
            restart: self.restart.as_deref().map(values::restart).transpose()?,
            env: environment::env(&self.env, &[], &|name| std::env::var(name).ok())?,
        };
        ensure!(change != Change::default(), "You must provide one or more flags when using this command.");
        Ok(change)
    }
}

/// `minirun update`.
pub fn run(app: &App, args: &UpdateArgs) -> Result<u8> {
    let change = args.change()?;
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.containers {
        match containers.find(name).and_then(|mut c| c.update(&change)) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}
