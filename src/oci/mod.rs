//! The OCI runtime's face: runc's command line, for engines that run their containers on us.
//!
//! ```text
//! ROOT/<id>/cgroup        the cgroup that is made for the container, for those who find it half made
//! ROOT/<id>/state.json    what is known of the container; written before any of its hooks runs
//! ROOT/<id>/door          where a created container waits to be started; gone when it was
//! ```
//! Status is derived: from the first process, the door, the freezer.

mod console;
mod create;
mod delete;
mod exec;
mod features;
mod list;
mod log;
mod record;
mod resources;
mod signal;
mod spec;
mod start;
mod values;

use crate::sys::{process, protect};
use anyhow::{Context, Result, bail};
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use record::Store;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;

/// The names that this program runs under as an OCI runtime; the second for those who replace that program by it.
pub const NAMES: [&str; 2] = ["minirun-oci", "runc"];

/// As callers of other runtimes expect it.
const HELP: &str = "NAME:\n   {name} - {about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Open Container Initiative runtime
#[derive(Debug, Parser)]
// Engines put the user's options behind their own: the last one counts.
#[command(disable_help_subcommand = true, disable_version_flag = true, max_term_width = 100)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Users have a volatile folder of their own, also as root of their user namespace; who calls himself root has not.
fn default_root() -> PathBuf {
    let is_root = rustix::process::geteuid().is_root();
    let called_root = || std::env::var_os("USER").is_some_and(|user| user == "root");
    let is_users = || !is_root || !called_root() && !process::is_host_root();
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty() && is_users());
    own.map_or("/run".into(), PathBuf::from).join(NAMES[0])
}

#[derive(Debug, Args)]
struct Global {
    /// The folder of the containers' state
    #[arg(long, value_name = "FOLDER", default_value_os_t = default_root())]
    root: PathBuf,
    /// A file for messages; standard error if there is none
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How messages are written
    #[arg(long, default_value = "text", value_name = "text|json")]
    log_format: log::Format,
    /// Say more
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    debug: bool,
    /// Let systemd manage the cgroups (not supported)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    systemd_cgroup: bool,
    /// Whether to expect no privileges; found out by itself
    #[arg(long, default_value = "auto", value_name = "true|false|auto")]
    rootless: String,
    /// Ignored: for callers that name it
    #[arg(long, hide = true)]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short, long, visible_short_alias = 'V', action = clap::ArgAction::SetTrue)]
    version: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a container
    Create(create::CreateArgs),
    /// Run the program of a created container
    Start(start::StartArgs),
    /// Create a container and run its program
    Run(create::RunArgs),
    /// Show the state of a container
    State(list::StateArgs),
    /// Send a signal to a container
    Kill(signal::KillArgs),
    /// Delete what a container holds
    Delete(delete::DeleteArgs),
    /// Run a further process in a container
    Exec(Box<exec::ExecArgs>),
    /// List the processes of a container
    Ps(list::PsArgs),
    /// List containers
    List(list::ListArgs),
    /// Stop all processes of a container for a while
    Pause(signal::PauseArgs),
    /// Let the processes of a paused container go on
    Resume(signal::PauseArgs),
    /// Change what a container may use
    Update(Box<resources::UpdateArgs>),
    /// Show what happens in a container and what it uses
    Events(resources::EventsArgs),
    /// Write a specification to begin with
    Spec(spec::SpecArgs),
    /// Show what this runtime can do
    Features,
    /// Not supported
    #[command(hide = true)]
    Checkpoint(Whatever),
    /// Not supported
    #[command(hide = true)]
    Restore(Whatever),
}

/// The command line of one of the commands that have to be fast, without those of the others to build first.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, disable_help_flag = true, disable_version_flag = true)]
#[command(args_override_self = true)]
struct Short<C: Subcommand> {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: C,
}

#[derive(Debug, Subcommand)]
enum ShortCreate {
    Create(create::CreateArgs),
}

#[derive(Debug, Subcommand)]
enum ShortStart {
    Start(start::StartArgs),
}

#[derive(Debug, Subcommand)]
enum ShortRun {
    Run(create::RunArgs),
}

#[derive(Debug, Subcommand)]
enum ShortExec {
    Exec(Box<exec::ExecArgs>),
}

/// Understands a line that is right, of one of those commands. What is right the long way is so here, and the same.
fn short(arguments: &[OsString]) -> Option<Cli> {
    fn parse<C: Subcommand>(arguments: &[OsString], command: fn(C) -> Command) -> Option<Cli> {
        // It is not taken apart again: that would take as long as to understand the line.
        let mut definition = ManuallyDrop::new(Short::<C>::command());
        let matches = definition.try_get_matches_from_mut(arguments).ok()?;
        let parsed = Short::<C>::from_arg_matches(&matches).ok().filter(|short| !short.global.version)?;
        Some(Cli { global: parsed.global, command: Some(command(parsed.command)) })
    }
    // A word that only looks like the command leads to a line that is wrong, and so the long way.
    let command = arguments.iter().skip(1).find_map(|a| a.to_str().filter(|a| FAST.contains(a)))?;
    match command {
        "create" => parse(arguments, |ShortCreate::Create(a)| Command::Create(a)),
        "start" => parse(arguments, |ShortStart::Start(a)| Command::Start(a)),
        "run" => parse(arguments, |ShortRun::Run(a)| Command::Run(a)),
        _ => parse(arguments, |ShortExec::Exec(a)| Command::Exec(a)),
    }
}

const FAST: [&str; 4] = ["create", "start", "run", "exec"];

#[derive(Debug, Args)]
struct Whatever {
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

/// How a failure ends the program: as an exit status that callers know.
const FAILED: u8 = 1;
/// The status of an `exec` that could not be done.
const EXEC_FAILED: u8 = 255;

/// Runs the command line of this process and returns its exit status.
pub fn main(arguments: &[OsString]) -> u8 {
    let name = arguments.first().map(PathBuf::from).and_then(|p| Some(p.file_name()?.to_str()?.to_owned()));
    let name = name.unwrap_or_else(|| NAMES[0].to_owned());
    if arguments.iter().any(|a| a == "create" || a == "run" || a == "exec") {
        process::keep_memory();
        // Before anything else is done: what has been used of the program so far has to be found again afterwards.
        if let Err(error) = protect::own_program() {
            return early_failure(arguments, &format!("protect the own executable: {error}"));
        }
    }
    let parsed = match short(arguments) {
        Some(cli) => Ok(cli),
        None => definition(&name).try_get_matches_from(arguments).and_then(|m| Cli::from_arg_matches(&m)),
    };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(arguments, &error),
    };
    if cli.global.version {
        return version(&name);
    }
    let Some(command) = cli.command else {
        let _ = definition(&name).print_help();
        return 0;
    };
    if let Err(error) = command.close_inherited() {
        return early_failure(arguments, &format!("close what the caller left open: {error}"));
    }
    let log = match log::Log::open(cli.global.log.as_deref(), cli.global.log_format, cli.global.debug) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("{error:#}"));
            return FAILED;
        }
    };
    let status = if matches!(command, Command::Exec(_)) { EXEC_FAILED } else { FAILED };
    match command.run(&cli.global, &log) {
        Ok(code) => code,
        Err(error) => {
            log.failure(&error);
            status
        }
    }
}

fn usage(arguments: &[OsString], error: &clap::Error) -> u8 {
    let _ = error.print();
    if let (ErrorKind::InvalidSubcommand, Some(word)) = (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        complain(&format!("No help topic for '{word}'"));
    }
    if error.kind() == ErrorKind::DisplayHelp {
        return 0;
    }
    let text = error.render().to_string();
    // What follows are the line that would be right, and hints.
    let reason = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    log::note(arguments, &reason.split_whitespace().collect::<Vec<_>>().join(" "));
    FAILED
}

/// Ends the program before there is a log.
fn early_failure(arguments: &[OsString], text: &str) -> u8 {
    complain(text);
    log::note(arguments, text);
    FAILED
}

impl Command {
    /// Closes what the caller left open by mistake: a container could find a way out through it. Nothing is open yet
    /// that is ours.
    fn close_inherited(&self) -> std::io::Result<()> {
        let meant = match self {
            Command::Create(a) => a.preserved_fds(),
            Command::Run(a) => a.preserved_fds(),
            Command::Exec(a) => a.preserved_fds(),
            _ => 0,
        };
        // A shell's `<(…)` is a descriptor by its path.
        let named = if let Command::Exec(a) = self { a.process_descriptor() } else { None };
        process::close_all_but(3u32.saturating_add(meant), named.as_slice())
    }
}

fn version(name: &str) -> u8 {
    let text =
        format!("{name} version {}\ncommit: minirun\nspec: {}\n", env!("CARGO_PKG_VERSION"), features::SPECIFICATION);
    if print(&text).is_ok() { 0 } else { FAILED }
}

impl Command {
    fn run(self, global: &Global, log: &log::Log) -> Result<u8> {
        if global.systemd_cgroup {
            bail!("--systemd-cgroup is not supported: cgroups are made directly; leave the option away");
        }
        let rootless = match global.rootless.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            "auto" => None,
            other => bail!("invalid value for --rootless: {other:?} is none of true, false, auto"),
        };
        let store = Store::at(&global.root);
        let done = |result: Result<()>| result.map(|()| 0);
        match self {
            Command::Create(a) => create::create(&store, &a, rootless, log).map(|never| match never {}),
            Command::Start(a) => done(start::start(&store, &a, log)),
            Command::Run(a) => create::run(&store, &a, rootless, log).map(|never| match never {}),
            Command::State(a) => done(list::state(&store, &a)),
            Command::Kill(a) => done(signal::kill(&store, &a)),
            Command::Delete(a) => done(delete::delete(&store, &a, log)),
            Command::Exec(a) => exec::exec(&store, &a, log).map(|never| match never {}),
            Command::Ps(a) => done(list::ps(&store, &a)),
            Command::List(a) => done(list::list(&store, &a, log)),
            Command::Pause(a) => done(signal::pause(&store, &a)),
            Command::Resume(a) => done(signal::resume(&store, &a)),
            Command::Update(a) => done(resources::update(&store, &a)),
            Command::Events(a) => done(resources::events(&store, &a)),
            Command::Spec(a) => done(spec::spec(&a)),
            Command::Features => done(features::features()),
            Command::Checkpoint(_) | Command::Restore(_) => {
                bail!("checkpoint and restore are not supported: they need CRIU, which this runtime does not use")
            }
        }
    }
}

/// Writes to standard output.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Writes to standard error what comes before there is a log. If that is closed there is nobody to tell.
fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs this face's command line as a subcommand of the engine's.
pub fn as_subcommand(arguments: impl Iterator<Item = OsString>) -> u8 {
    let all: Vec<OsString> = std::iter::once(NAMES[0].into()).chain(arguments).collect();
    main(&all)
}

/// The command line's definition, for what is generated from it.
pub fn definition(name: &str) -> clap::Command {
    let known = NAMES.into_iter().find(|n| *n == name).unwrap_or(NAMES[0]);
    Cli::command().name(known).bin_name(known).help_template(HELP).mut_subcommands(|c| {
        let full = format!("{known} {}", c.get_name());
        c.display_name(full).help_template(HELP)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::definition("minirun-oci").debug_assert();
    }
}
