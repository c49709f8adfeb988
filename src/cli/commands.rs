//! All commands, and what carries each of them out.

use super::{
    App, archives, build, builder, buildx, container_prune, containers, cp, diff, events, exec, generate, history,
    image_list, image_remove, image_tools, images, info, inspect, login, logs, manifest, networks, ports, ps, remote,
    run, stats, system_df, system_prune, top, update, volume,
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::ffi::OsString;

#[derive(Debug, Subcommand)]
pub enum Command {
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
pub struct HelpArgs {
    /// The words of a command; all commands if there are none
    command: Vec<OsString>,
}

/// Everything that the other face understands.
#[derive(Debug, Args)]
pub struct OciArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<OsString>,
}

impl HelpArgs {
    fn run(&self) -> Result<u8> {
        let mut definition = super::definition();
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
    /// Becomes the other face.
    pub fn run(self) -> u8 {
        crate::oci::as_subcommand(self.words.into_iter())
    }
}

/// Commands about containers, at the top and under `container`.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
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
pub enum HealthcheckGroup {
    /// Run a container's health check now
    Run(containers::HealthcheckArgs),
}

#[derive(Debug, Subcommand)]
pub enum ContainerGroup {
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
pub enum ImageCommand {
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
pub enum ImageGroup {
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
pub enum SystemGroup {
    /// Show what takes room on the disk
    Df(system_df::DfArgs),
    /// Remove everything that nobody needs
    Prune(system_prune::PruneArgs),
    /// Show what this installation is and where it keeps things
    Info(info::InfoArgs),
    /// Tell what happens to containers, images, volumes and networks
    Events(events::EventsArgs),
}

impl Command {
    /// Runs what needs no store.
    pub fn run_alone(&self) -> Option<Result<u8>> {
        match self {
            Command::Completion(a) => Some(generate::completion(a)),
            Command::Man(a) => Some(generate::man(a)),
            Command::Help(a) => Some(a.run()),
            _ => None,
        }
    }

    /// Whether the exit status is that of the container's command, with 125 for failures of ours.
    pub fn is_run(&self) -> bool {
        let (Command::Container(command) | Command::ContainerGroup(ContainerGroup::Command(command))) = self else {
            return false;
        };
        matches!(command, ContainerCommand::Run(_))
    }

    /// Runs it and returns the exit status.
    pub fn run(self, app: &App) -> Result<u8> {
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
