//! `exec`.

use super::run::{conclude_apart, terminal_size};
use super::values::given;
use super::{App, client_config, environment};
use crate::container::attach::{Terms, converse};
use crate::container::containers::Containers;
use crate::container::exec::{ExecOptions, exec};
use crate::container::start::wait_until_started;
use crate::sys::tty;
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;

/// `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the command running [default: ctrl-p,ctrl-q]
    #[arg(long, default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Set a variable (NAME=value, or NAME to copy it from here)
    #[arg(short, long)]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long)]
    env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// With all capabilities
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group (name|uid[:group|gid])
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory
    #[arg(short, long)]
    workdir: Option<String>,
    /// Name or id, and the command with its arguments, whose flags are its own
    // One argument: behind the first word of a trailing one nothing is taken for a flag of ours.
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    container_and_command: Vec<String>,
}

/// `minirun exec`.
pub fn run(app: &App, args: ExecArgs) -> Result<u8> {
    let mut words = args.container_and_command.into_iter();
    let container = Containers::open(&app.root).find(&words.next().unwrap_or_default())?;
    let feeds = args.interactive && !args.detach;
    if feeds && args.tty && !tty::is_terminal(rustix::stdio::stdin()) {
        bail!("the input device is not a TTY");
    }
    let keys = client_config::detach_keys(&args.detach_keys)?;
    let options = ExecOptions {
        command: words.collect(),
        env: environment::env(&args.env, &args.env_file, &environment::of_host)?,
        workdir: given(args.workdir.as_ref()).map(str::to_owned),
        user: given(args.user.as_ref()).map(str::to_owned),
        tty: args.tty,
        interactive: args.interactive,
        detach: args.detach,
        privileged: args.privileged,
        terminal_size: terminal_size(args.tty),
    };
    let socket = exec(&container, &options)?;
    if args.detach {
        wait_until_started(&socket)?;
        return Ok(0);
    }
    let terms = Terms { stdin: feeds, tty: args.tty, proxy_signals: !args.tty, detach_keys: keys };
    conclude_apart(converse(&socket, &terms)?)
}
