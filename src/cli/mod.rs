//! The engine's face: Docker's command line.
//!
//! Arguments are parsed here, given meaning here, and printed about here; the rooms below know nothing of it.

mod archives;
mod build;
mod build_check;
mod build_live;
mod build_more;
mod build_plain;
mod build_results;
mod build_subject;
mod builder;
mod buildx;
mod client_config;
mod commands;
mod confirm;
mod container_prune;
mod containers;
mod cp;
mod diff;
mod disk;
mod environment;
mod events;
mod exec;
mod filter;
mod generate;
mod glob;
mod history;
mod image_list;
mod image_remove;
mod image_tools;
mod images;
mod info;
mod inspect;
mod inspect_container;
mod inspect_host;
mod inspect_image;
mod inspect_mounts;
mod inspect_network;
mod limits;
mod local;
mod login;
mod logs;
mod manifest;
mod moment;
mod mount_spec;
mod network_options;
mod networks;
mod output;
mod ports;
mod progress;
mod ps;
mod publish;
pub mod reaper;
mod remote;
mod run;
mod run_more;
mod run_options;
mod stats;
mod surroundings;
mod system_df;
mod system_prune;
mod system_volumes;
mod table;
mod template;
mod template_functions;
mod top;
mod units;
mod update;
mod values;
mod volume;
mod web;

use crate::container::options::RunOptions;
use crate::container::supervisor;
use crate::container::task::Waiting;
use crate::layout::Root;
use crate::sys::{process, signal};
use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser};
use commands::{Command, ContainerCommand};
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const DEFAULT_ROOT: &str = "/var/lib/minirun";
const DEFAULT_STATE: &str = "/run/minirun";

/// Containers without a daemon.
#[derive(Debug, Parser)]
#[command(name = "minirun", version, disable_help_subcommand = true, disable_version_flag = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    client: Client,
    #[command(subcommand)]
    command: Command,
}

/// Where everything is.
#[derive(Debug, Args)]
struct Places {
    /// The folder of images, containers and volumes
    #[arg(long, env = "MINIRUN_ROOT", default_value = DEFAULT_ROOT, hide_env_values = true)]
    root: PathBuf,
    /// The folder of what does not outlive a reboot
    #[arg(long, env = "MINIRUN_STATE", default_value = DEFAULT_STATE, hide_env_values = true)]
    state: PathBuf,
    /// Bytes that an archive or a layer may unpack to, also as 500MB or 2GB [default: 90% of what is free]
    #[arg(long, env = "MINIRUN_UNPACK_LIMIT", value_name = "BYTES", value_parser = unpack_limit, hide_env_values = true)]
    unpack_limit: Option<u64>,
}

/// Docker's options before the command.
#[derive(Debug, Default, Args)]
struct Client {
    /// The folder of Docker's client configuration, with the credentials for registries
    #[arg(long, env = "DOCKER_CONFIG", value_name = "FOLDER", value_parser = values::maybe_path())]
    #[arg(hide_env_values = true)]
    config: Option<PathBuf>,
    /// For compatibility: there is one, `default`
    #[arg(short, long, value_parser = ["default"], hide = true)]
    context: Option<String>,
    /// For compatibility: there is no log to be more talkative in
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// For compatibility, as `--debug`
    #[arg(short, long, value_parser = ["debug", "info", "warn", "error", "fatal"], hide = true)]
    log_level: Option<String>,
    /// Show the version
    #[arg(short, short_alias = 'V', long, action = ArgAction::Version)]
    version: (),
}

/// What comes before `run` on its command line: read alone, without the definitions of thirty other commands.
#[derive(Debug, Parser)]
#[command(name = "minirun", disable_help_flag = true, args_override_self = true)]
struct BeforeRun {
    #[command(flatten)]
    places: Places,
}

/// What comes after it.
#[derive(Debug, Parser)]
#[command(name = "minirun", disable_help_flag = true)]
struct AfterRun {
    #[command(flatten)]
    run: run::RunArgs,
}

/// What every command may need.
#[derive(Debug)]
struct App {
    root: Root,
    program: PathBuf,
    /// One that waits for a container already.
    supervisor: Mutex<Option<Waiting>>,
}

impl App {
    /// A supervisor that gets ready for a container with these options.
    fn supervisor(&self, options: &RunOptions) -> Result<Waiting> {
        let waiting = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting.filter(|waiting| supervisor::foretell(waiting, options).is_ok()) {
            return Ok(waiting);
        }
        let supervisor = supervisor::begin(self.root.path())?;
        supervisor::foretell(&supervisor, options)?;
        Ok(supervisor)
    }
}

/// Runs the command line of this process and returns its exit status.
pub fn main(arguments: &[OsString]) -> u8 {
    // The usual way to the other face does not need our command line's definition, which takes longer than it does.
    if arguments.get(1).is_some_and(|word| word == "oci") {
        return crate::oci::as_subcommand(arguments.iter().skip(2).cloned());
    }
    // Like any program in a pipeline: when nobody reads our output, we end.
    signal::default_pipe();
    let understood = match run_alone(arguments) {
        Some(understood) => Ok(understood),
        None => parse(arguments).map(|cli| (cli, None)),
    };
    let (cli, supervisor) = match understood {
        Ok(understood) => understood,
        Err(error) if error.kind() == ErrorKind::DisplayVersion && is_docker(arguments) => {
            return output::line(&info::version_as_docker()).map_or_else(|error| fail(1, &error), |()| 0);
        }
        Err(error) => return usage(&error),
    };
    // A face of its own, with stores of its own: none of ours is opened for it.
    if let Command::Oci(args) = cli.command {
        return args.run();
    }
    if let Some(status) = cli.command.run_alone() {
        return status.unwrap_or_else(|error| fail(1, &error));
    }
    surroundings::remember(cli.client.config.clone());
    disk::remember(vec![cli.places.root.clone(), cli.places.state.clone()]);
    // What `run` says itself has its status already.
    let at_least = if cli.command.is_run() { 125 } else { 1 };
    let status = app(&cli, supervisor).and_then(|app| cli.command.run(&app));
    match status {
        Ok(code) => code,
        Err(error) => fail(run::status_of(&error).max(at_least), &error),
    }
}

/// Whether the program is called by Docker's name. Its callers may read more than a number there.
fn is_docker(arguments: &[OsString]) -> bool {
    arguments.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == "docker"))
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&definition().try_get_matches_from(arguments)?)
}

/// The most frequent command by a short cut of half a millisecond. Whatever is not plainly right takes the long way,
/// which knows how to complain.
///
/// Its supervisor is made before the line is read: there is hardly any memory yet that a fork would have to copy.
fn run_alone(arguments: &[OsString]) -> Option<(Cli, Option<Waiting>)> {
    let mut at = 1;
    while let Some(word) = arguments.get(at).and_then(|a| a.to_str()) {
        match word {
            "run" => break,
            "--root" | "--state" => at += 2,
            _ if word.starts_with("--root=") || word.starts_with("--state=") => at += 1,
            _ => return None,
        }
    }
    // The loop ends at a word that is not text, too.
    arguments.get(at).filter(|word| *word == "run")?;
    let (before, rest) = (arguments.get(..at)?, arguments.get(at + 1..)?);
    // The places are given before the command or not at all.
    if rest.iter().any(|a| [&b"--root"[..], b"--state"].iter().any(|p| a.as_encoded_bytes().starts_with(p))) {
        return None;
    }
    let BeforeRun { places } = BeforeRun::try_parse_from(before).ok()?;
    let supervisor = std::path::absolute(&places.root).ok().and_then(|root| supervisor::begin(&root).ok());
    process::keep_memory();
    // To take its hundred arguments apart again would take as long as to understand the line.
    let mut definition = ManuallyDrop::new(switches_with_values(AfterRun::command()));
    let matches = definition.try_get_matches_from_mut(before.iter().take(1).chain(rest)).ok()?;
    let AfterRun { run } = AfterRun::from_arg_matches(&matches).ok()?;
    let client = Client { config: surroundings::docker_config(), ..Client::default() };
    Some((Cli { places, client, command: Command::Container(ContainerCommand::Run(Box::new(run))) }, supervisor))
}

fn unpack_limit(text: &str) -> Result<u64> {
    u64::try_from(values::bytes(text)?).context("a limit cannot be negative")
}

fn app(cli: &Cli, supervisor: Option<Waiting>) -> Result<App> {
    let program = std::env::current_exe().context("find this program's file")?;
    let opened = Root::open(&cli.places.root, &cli.places.state);
    let opened = match rustix::process::geteuid().is_root() {
        true => opened,
        false => opened.context("minirun's containers and images need root; for others there is `minirun oci`"),
    };
    let root = opened?.with_unpack_limit(cli.places.unpack_limit);
    Ok(App { root, program, supervisor: Mutex::new(supervisor) })
}

fn fail(status: u8, error: &anyhow::Error) -> u8 {
    output::complain(error);
    status
}

/// Help goes to standard output; a wrong flag is status 125, too few or too many words 1, as Docker's.
fn usage(error: &clap::Error) -> u8 {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "-",
    };
    let unknown = word(ContextKind::InvalidArg);
    match error.kind() {
        // Guesses at what was meant would be wrong where Docker has what we do not.
        ErrorKind::UnknownArgument if unknown.starts_with('-') => {
            let usage = error.get(ContextKind::Usage).map(|usage| format!("\n\n{usage}")).unwrap_or_default();
            output::note(&format!("unknown flag: {unknown}{usage}\n\nFor more information, try '--help'."));
        }
        ErrorKind::InvalidSubcommand => {
            let command = word(ContextKind::InvalidSubcommand);
            output::note(&format!("unknown command: {command}\n\nFor more information, try '--help'."));
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => drop(output::print(&error.render().to_string())),
        _ => drop(error.print()),
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::TooFewValues
        | ErrorKind::MissingSubcommand
        | ErrorKind::InvalidSubcommand => 1,
        ErrorKind::UnknownArgument if !unknown.starts_with('-') => 1,
        _ => 125,
    }
}

/// The command line's definition, for what is generated from it.
pub fn definition() -> clap::Command {
    switches_with_values(Cli::command())
}

/// Docker's switches may carry a value: `--rm`, `--rm=true`, `--rm=false`. What follows an option with a value is its
/// value, also if it looks like an option. Of what is given twice, unless it makes a list, the last one counts.
fn switches_with_values(command: clap::Command) -> clap::Command {
    let is_group = command.has_subcommands();
    command
        .args_override_self(true)
        .arg_required_else_help(is_group)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .hide_possible_values(true)
                .value_name("bool"),
            ArgAction::Set | ArgAction::Append if !arg.is_positional() && arg.get_num_args().is_none() => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        })
        .mut_subcommands(switches_with_values)
}
