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
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

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
    #[arg(long, env = "MINIRUN_ROOT", default_value = "/var/lib/minirun", hide_env_values = true)]
    root: PathBuf,
    /// The folder of what does not outlive a reboot
    #[arg(long, env = "MINIRUN_STATE", default_value = "/run/minirun", hide_env_values = true)]
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
#[command(name = "minirun", disable_help_flag = true)]
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

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Container(ContainerCommand),
    /// List images
    Images(image_list::ListArgs),
    /// Remove images
    Rmi(image_remove::RemoveArgs),
    /// Log in to a registry
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    #[command(flatten)]
    Image(ImageCommand),
    /// Show details of containers and images
    Inspect(inspect::InspectArgs),
    /// Show what this installation is and where it keeps things
    Info(info::InfoArgs),
    /// Show the version
    Version(info::VersionArgs),
    /// Show what happens to containers and images
    Events(events::EventsArgs),
    /// Start what its restart policy wants up, after the host has come up
    Resume(containers::ResumeArgs),
    /// Print a completion script for a shell
    Completion(generate::CompletionArgs),
    /// Write man pages to a folder
    #[command(hide = true)]
    Man(generate::ManArgs),
    /// Manage health checks
    #[command(subcommand, name = "healthcheck")]
    Healthcheck(HealthcheckGroup),
    /// Show help
    Help(HelpArgs),
    /// Be an OCI runtime: runc's command line
    #[command(disable_help_flag = true)]
    Oci(OciArgs),
    /// Manage containers
    #[command(subcommand, name = "container")]
    ContainerGroup(ContainerGroup),
    /// Manage images
    #[command(subcommand, name = "image")]
    ImageGroup(ImageGroup),
    /// Manage builds and what they keep
    #[command(subcommand, name = "builder")]
    BuilderGroup(builder::BuilderGroup),
    /// Look at what registries have
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    /// Build images, by the command line of Docker's plugin
    Buildx(buildx::BuildxArgs),
    /// Manage networks
    #[command(subcommand)]
    Network(networks::NetworkCommand),
    /// Look after the whole installation
    #[command(subcommand, name = "system")]
    SystemGroup(SystemGroup),
    /// Manage volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
}

/// `help`.
#[derive(Debug, Args)]
struct HelpArgs {
    /// The words of a command; all commands if there are none
    command: Vec<OsString>,
}

/// Everything that the other face understands.
#[derive(Debug, Args)]
struct OciArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<OsString>,
}

impl HelpArgs {
    fn run(&self) -> Result<u8> {
        let mut definition = definition();
        definition.build();
        let mut command = &mut definition;
        for word in &self.command {
            let found = command.find_subcommand_mut(word);
            command = found.with_context(|| format!("unknown help topic: {}", word.display()))?;
        }
        // As `--help` chooses.
        let is_long = command.get_arguments().any(|arg| {
            arg.get_long_help().is_some() || arg.get_possible_values().iter().any(|value| value.get_help().is_some())
        });
        if is_long { command.print_long_help() } else { command.print_help() }.context("write the help")?;
        Ok(0)
    }
}

impl OciArgs {
    fn run(self) -> u8 {
        crate::oci::as_subcommand(self.words.into_iter())
    }
}

/// Commands about containers, at the top and under `container`.
#[derive(Debug, Subcommand)]
enum ContainerCommand {
    /// Make a container from an image and run a command in it
    Run(Box<run::RunArgs>),
    /// Make a container without starting it
    Create(Box<run::CreateArgs>),
    /// Start containers that are not running
    Start(run::StartArgs),
    /// Stop running containers
    Stop(containers::StopArgs),
    /// Send a signal to running containers
    Kill(containers::KillArgs),
    /// Stop containers and start them again
    Restart(containers::StopArgs),
    /// Remove containers
    Rm(containers::RemoveArgs),
    /// List containers
    Ps(ps::PsArgs),
    /// Show what a container wrote
    Logs(logs::LogsArgs),
    /// Run a further command in a running container
    Exec(exec::ExecArgs),
    /// Connect to a running container's input and output
    Attach(run::AttachArgs),
    /// Wait for containers to end and print their exit statuses
    Wait(containers::Names),
    /// Give a container another name
    Rename(containers::RenameArgs),
    /// Freeze all processes of containers
    Pause(containers::NamesOrAll),
    /// Let the processes of paused containers run again
    Unpause(containers::NamesOrAll),
    /// Show the processes of a container
    Top(top::TopArgs),
    /// Make an image of a container's changes
    Commit(images::CommitArgs),
    /// Show the ports that lead to a container
    Port(ports::PortArgs),
    /// Write a container's root file system to an archive
    Export(archives::ExportArgs),
    /// Show what containers use
    Stats(stats::StatsArgs),
    /// Change what containers may use
    Update(Box<update::UpdateArgs>),
    /// Copy files from and to containers, and out of images
    Cp(cp::CopyArgs),
    /// Show what a container has changed
    Diff(diff::DiffArgs),
}

#[derive(Debug, Subcommand)]
enum HealthcheckGroup {
    /// Run a container's health check now
    Run(containers::HealthcheckArgs),
}

#[derive(Debug, Subcommand)]
enum ContainerGroup {
    #[command(flatten)]
    Command(ContainerCommand),
    /// List containers
    #[command(alias = "list")]
    Ls(ps::PsArgs),
    /// Show details of containers
    Inspect(inspect::InspectArgs),
    /// Remove containers that are not running
    Prune(container_prune::PruneArgs),
    /// Tell by the exit status whether there is a container
    Exists(container_prune::ExistsArgs),
}

/// Commands about images, at the top and under `image`.
#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Make an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Make an image of a root file system in a tar archive
    Import(archives::ImportArgs),
    /// Load images from an archive of `docker save` or an OCI layout
    Load(archives::LoadArgs),
    /// Write images to an archive
    Save(archives::SaveArgs),
    /// Get an image from a registry
    Pull(remote::PullArgs),
    /// Send an image to a registry
    Push(remote::PushArgs),
    /// Give an image another name
    Tag(images::TagArgs),
    /// Show how an image came to be, step by step
    History(history::HistoryArgs),
    /// Take names from an image, which stays
    Untag(image_remove::UntagArgs),
}

#[derive(Debug, Subcommand)]
enum ImageGroup {
    #[command(flatten)]
    Command(ImageCommand),
    /// List images
    #[command(alias = "list")]
    Ls(image_list::ListArgs),
    /// Remove images
    #[command(alias = "remove")]
    Rm(image_remove::RemoveArgs),
    /// Show details of images
    Inspect(inspect::InspectArgs),
    /// Remove images that nobody needs
    Prune(image_remove::PruneArgs),
    /// Make one layer of several
    Squash(image_tools::SquashArgs),
    /// Show what is different between the trees of two images
    Diff(image_tools::DiffArgs),
    /// Mount images on the host, read-only, or list those that are
    Mount(image_tools::MountArgs),
    /// Take mounts of images away
    #[command(alias = "umount")]
    Unmount(image_tools::UnmountArgs),
    /// Tell by the exit status whether there is an image
    Exists(image_tools::ExistsArgs),
}

#[derive(Debug, Subcommand)]
enum SystemGroup {
    /// Show what takes room on the disk
    Df(system_df::DfArgs),
    /// Remove everything that nobody needs
    Prune(system_prune::PruneArgs),
    /// Show what this installation is and where it keeps things
    Info(info::InfoArgs),
    /// Tell what happens to containers, images, volumes and networks
    Events(events::EventsArgs),
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
    let (cli, supervisor) = match run_alone(arguments).map_or_else(|| Ok((parse(arguments)?, None)), Ok) {
        Ok(understood) => understood,
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
    let status = app(&cli, supervisor).and_then(|app| cli.command.run(&app));
    match status {
        Ok(code) => code,
        Err(error) => fail(run::status_of(&error), &error),
    }
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
    let root = Root::open(&cli.places.root, &cli.places.state)?.with_unpack_limit(cli.places.unpack_limit);
    Ok(App { root, program, supervisor: Mutex::new(supervisor) })
}

impl Command {
    /// Runs what needs no store.
    fn run_alone(&self) -> Option<Result<u8>> {
        match self {
            Command::Completion(a) => Some(generate::completion(a)),
            Command::Man(a) => Some(generate::man(a)),
            Command::Help(a) => Some(a.run()),
            _ => None,
        }
    }

    /// Runs it and returns the exit status.
    fn run(self, app: &App) -> Result<u8> {
        match self {
            Command::Container(c) => c.run(app),
            Command::Login(a) => login::login(app, &a),
            Command::Logout(a) => login::logout(app, &a),
            Command::Images(a) | Command::ImageGroup(ImageGroup::Ls(a)) => image_list::list(app, &a),
            Command::Rmi(a) | Command::ImageGroup(ImageGroup::Rm(a)) => image_remove::remove(app, &a),
            Command::Image(c) | Command::ImageGroup(ImageGroup::Command(c)) => c.run(app),
            Command::Inspect(a) => inspect::run(app, &a, None),
            Command::ContainerGroup(ContainerGroup::Inspect(a)) => inspect::run(app, &a, Some("container")),
            Command::ImageGroup(ImageGroup::Inspect(a)) => inspect::run(app, &a, Some("image")),
            Command::Manifest(c) => c.run(app),
            Command::Network(c) => networks::run(app, &c),
            Command::ImageGroup(ImageGroup::Prune(a)) => image_remove::prune(app, &a),
            Command::ImageGroup(ImageGroup::Squash(a)) => image_tools::squash(app, &a),
            Command::ImageGroup(ImageGroup::Diff(a)) => image_tools::diff(app, &a),
            Command::ImageGroup(ImageGroup::Mount(a)) => image_tools::mount(app, &a),
            Command::ImageGroup(ImageGroup::Unmount(a)) => image_tools::unmount(app, &a),
            Command::ImageGroup(ImageGroup::Exists(a)) => image_tools::exists(app, &a),
            Command::ContainerGroup(ContainerGroup::Prune(a)) => container_prune::prune(app, &a),
            Command::ContainerGroup(ContainerGroup::Exists(a)) => container_prune::exists(app, &a),
            Command::SystemGroup(SystemGroup::Df(a)) => system_df::run(app, &a),
            Command::SystemGroup(SystemGroup::Prune(a)) => system_prune::run(app, &a),
            Command::Info(a) | Command::SystemGroup(SystemGroup::Info(a)) => info::info(app, &a),
            Command::Version(a) => info::version(&a),
            Command::BuilderGroup(c) => c.run(app),
            Command::Buildx(a) => a.run(app),
            // They are done before there is a store.
            Command::Completion(_) | Command::Man(_) | Command::Help(_) => Ok(0),
            Command::Events(a) | Command::SystemGroup(SystemGroup::Events(a)) => events::run(app, &a),
            Command::Resume(a) => containers::resume(app, &a),
            Command::Healthcheck(HealthcheckGroup::Run(a)) => containers::healthcheck(app, &a),
            Command::Oci(a) => Ok(a.run()),
            Command::Volume(c) => c.run(app),
            Command::ContainerGroup(ContainerGroup::Command(c)) => c.run(app),
            Command::ContainerGroup(ContainerGroup::Ls(a)) => ps::run(app, &a),
        }
    }
}

impl ContainerCommand {
    fn run(self, app: &App) -> Result<u8> {
        match self {
            ContainerCommand::Run(a) => run::run(app, *a),
            ContainerCommand::Create(a) => run::create(app, *a),
            ContainerCommand::Start(a) => run::start(app, &a),
            ContainerCommand::Stop(a) => containers::stop(app, &a),
            ContainerCommand::Kill(a) => containers::kill(app, &a),
            ContainerCommand::Restart(a) => containers::restart(app, &a),
            ContainerCommand::Rm(a) => containers::remove(app, &a),
            ContainerCommand::Ps(a) => ps::run(app, &a),
            ContainerCommand::Logs(a) => logs::run(app, &a),
            ContainerCommand::Exec(a) => exec::run(app, a),
            ContainerCommand::Attach(a) => run::attach(app, &a),
            ContainerCommand::Wait(a) => containers::wait(app, &a),
            ContainerCommand::Rename(a) => containers::rename(app, &a),
            ContainerCommand::Pause(a) => containers::pause(app, &a),
            ContainerCommand::Unpause(a) => containers::unpause(app, &a),
            ContainerCommand::Top(a) => top::run(app, &a),
            ContainerCommand::Commit(a) => images::commit(app, &a),
            ContainerCommand::Port(a) => ports::run(app, &a),
            ContainerCommand::Cp(a) => cp::run(app, &a),
            ContainerCommand::Diff(a) => diff::run(app, &a),
            ContainerCommand::Stats(a) => stats::run(app, &a),
            ContainerCommand::Update(a) => update::run(app, &a),
            ContainerCommand::Export(a) => archives::export(app, &a),
        }
    }
}

impl ImageCommand {
    fn run(self, app: &App) -> Result<u8> {
        match self {
            ImageCommand::Build(a) => build::run(app, *a),
            ImageCommand::Pull(a) => remote::pull(app, &a),
            ImageCommand::Push(a) => remote::push(app, &a),
            ImageCommand::Import(a) => archives::import(app, a),
            ImageCommand::Load(a) => archives::load(app, &a),
            ImageCommand::Save(a) => archives::save(app, &a),
            ImageCommand::Tag(a) => images::tag(app, &a),
            ImageCommand::History(a) => history::run(app, &a),
            ImageCommand::Untag(a) => image_remove::untag(app, &a),
        }
    }
}

fn fail(status: u8, error: &anyhow::Error) -> u8 {
    output::complain(error);
    status
}

/// Help goes to standard output; a wrong flag is status 125, too few or too many words 1, as Docker's.
fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "-",
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::TooFewValues
        | ErrorKind::MissingSubcommand
        | ErrorKind::InvalidSubcommand => 1,
        ErrorKind::UnknownArgument if !word.starts_with('-') => 1,
        _ => 125,
    }
}

/// The command line's definition, for what is generated from it.
pub fn definition() -> clap::Command {
    switches_with_values(Cli::command())
}

/// Docker's switches may carry a value: `--rm`, `--rm=true`, `--rm=false`. What follows an option with a value is its
/// value, also if it looks like an option.
fn switches_with_values(command: clap::Command) -> clap::Command {
    command
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
