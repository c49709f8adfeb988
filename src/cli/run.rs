//! `run`, `create`, `start`, `attach`: a container, and the user's terminal while it runs.

use super::remote::{When, pull_for_run};
use super::run_options::ContainerArgs;
use super::values::given;
use super::{App, client_config, environment, output, values};
use crate::container::attach::{Outcome, Terms, converse};
use crate::container::containers::{Container, Containers};
use crate::container::create::{NoSuchImage, create as create_container};
use crate::container::options::RunOptions;
use crate::container::protocol::Request;
use crate::container::start::{AlreadyRunning, Start, start as start_container, wait_until_started};
use crate::container::state::Status;
use crate::image::{Reference, Store, Wanted};
use crate::runtime::handshake::Failure;
use crate::sys::socket::Socket;
use crate::sys::tty;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `run`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct RunArgs {
    #[command(flatten)]
    container: ContainerArgs,
    /// Run in the background and print the id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Pass signals on to the command
    #[arg(long, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
}

/// `create`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct CreateArgs {
    #[command(flatten)]
    container: ContainerArgs,
}

/// `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Connect to its output and pass signals on
    #[arg(short, long)]
    attach: bool,
    #[arg(long, hide = true)]
    checkpoint: Option<String>,
    #[arg(long, hide = true)]
    checkpoint_dir: Option<String>,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Connect to its input
    #[arg(short, long)]
    interactive: bool,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Do not connect to its input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the command
    #[arg(long, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
    /// Name or id
    container: String,
}

/// The exit status for an error: that of a command that could not be started, 1 for anything else.
pub fn status_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|e| e.downcast_ref::<Failure>()).map_or(1, |f| f.exit_status() as u8)
}

/// `minirun run`: status 125 says that the engine failed, anything else is the command's.
pub fn run(app: &App, args: RunArgs) -> Result<u8> {
    let remove = args.container.rm;
    match run_it(app, args) {
        Ok(status) => Ok(status),
        Err(error) => {
            if remove {
                app.root.empty_trash();
            }
            output::complain(&error);
            Ok(status_of(&error).max(125))
        }
    }
}

fn run_it(app: &App, args: RunArgs) -> Result<u8> {
    let options = options_of(&args.container)?;
    let keys = client_config::detach_keys(&args.detach_keys)?;
    let streams = Streams::of(&args.container.more.attach)?;
    if args.detach && streams != Streams::ALL {
        bail!("Conflicting options: -a and -d");
    }
    let feeds = options.interactive && !args.detach && streams.input;
    if feeds && options.tty && !tty::is_terminal(rustix::stdio::stdin()) {
        // Docker's status for this is not the engine's.
        output::note("Error: the input device is not a TTY");
        return Ok(1);
    }
    // It gets ready while we make the container.
    let supervisor = app.supervisor(&options)?;
    let container = make(app, &args.container, options)?;
    let how = Start { attached: !args.detach, feeds, terminal_size: terminal_size(args.container.tty) };
    let tty = container.record.options.tty;
    let socket = start_container(&container, how, &app.program, supervisor).inspect_err(|_| {
        if container.record.options.remove {
            let _ = container.remove(false, true);
        }
    })?;
    // Whoever looks at a container that has lost its supervisor cleans up.
    let look = |_: &anyhow::Error| drop(container.snapshot());
    if args.detach {
        output::line(&container.record.id)?;
        warn(&wait_until_started(&socket).inspect_err(look)?);
        return Ok(0);
    }
    if !streams.output && !streams.errors {
        output::line(&container.record.id)?;
    }
    streams.close_others()?;
    let terms = Terms { stdin: feeds, tty, proxy_signals: args.sig_proxy, detach_keys: keys };
    conclude(converse(&socket, &terms).inspect_err(look)?)
}

/// The streams of `-a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streams {
    input: bool,
    output: bool,
    errors: bool,
}

impl Streams {
    const ALL: Streams = Streams { input: true, output: true, errors: true };

    /// All if none is named.
    fn of(names: &[String]) -> Result<Streams> {
        let mut streams =
            if names.is_empty() { Streams::ALL } else { Streams { input: false, output: false, errors: false } };
        for name in names {
            match name.to_lowercase().as_str() {
                "stdin" => streams.input = true,
                "stdout" => streams.output = true,
                "stderr" => streams.errors = true,
                _ => bail!(
                    "invalid argument {name:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                ),
            }
        }
        Ok(streams)
    }

    /// What was not asked for goes nowhere.
    fn close_others(self) -> Result<()> {
        if self == Streams::ALL || (self.output && self.errors) {
            return Ok(());
        }
        let nowhere = std::fs::File::options().write(true).open("/dev/null").context("open /dev/null")?;
        if !self.output {
            rustix::stdio::dup2_stdout(&nowhere).map_err(std::io::Error::from).context("close standard output")?;
        }
        if !self.errors {
            rustix::stdio::dup2_stderr(&nowhere).map_err(std::io::Error::from).context("close standard error")?;
        }
        Ok(())
    }
}

/// `minirun create`.
pub fn create(app: &App, args: CreateArgs) -> Result<u8> {
    let options = options_of(&args.container)?;
    let container = make(app, &args.container, options)?;
    output::line(&container.record.id)?;
    Ok(0)
}

/// What the flags mean, with the proxies that the client's configuration has for containers.
fn options_of(args: &ContainerArgs) -> Result<RunOptions> {
    let mut options = args.options()?;
    environment::add_missing(&mut options.env, client_config::proxies());
    Ok(options)
}

fn make(app: &App, args: &ContainerArgs, options: RunOptions) -> Result<Container> {
    let name = given(args.name.as_ref()).map(values::container_name).transpose()?;
    if args.more.replace {
        let name = name.as_deref().context("cannot replace a container without --name")?;
        match Containers::open(&app.root).find(name) {
            Ok(old) if old.record.name == name => old.remove(true, false)?,
            _ => {}
        }
    }
    let id_file = given(args.cidfile.as_ref()).map(Path::new).map(IdFile::claim).transpose()?;
    let container = made_or_pulled(app, args, name.as_deref(), options)?;
    if let Some(file) = id_file {
        file.write(&container.record.id)?;
    }
    Ok(container)
}

/// Makes the container, and gets its image first if that is asked for or needed.
fn made_or_pulled(app: &App, args: &ContainerArgs, name: Option<&str>, options: RunOptions) -> Result<Container> {
    let image = args.image();
    let platform = given(args.platform.as_ref()).map(Wanted::parse).transpose()?;
    let pull = || pull_for_run(app, image, platform.clone(), args.more.quiet);
    if args.pull == When::Always {
        pull()?;
    } else if let Some(wanted) = &platform
        && let Some(found) = Store::open(&app.root).find(image)?
        && !wanted.is_met(&found.config.os, &found.config.architecture)
    {
        if args.pull == When::Never {
            bail!("the image {image} is there, but not for {wanted}");
        }
        pull()?;
    }
    match create_container(&app.root, image, name, options.clone()) {
        Err(error) if error.is::<NoSuchImage>() && args.pull == When::Missing => {
            let reference = Reference::parse(image)?;
            if !args.more.quiet {
                output::note(&format!("Unable to find image '{}' locally", reference.familiar()));
            }
            pull()?;
            create_container(&app.root, image, name, options)
        }
        other => other,
    }
}

/// The file of `--cidfile`: claimed before there is a container, gone again if there never is one.
struct IdFile {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl IdFile {
    fn claim(path: &Path) -> Result<IdFile> {
        let open = std::fs::File::options().write(true).create_new(true).mode(0o644).open(path);
        match open {
            Ok(file) => Ok(IdFile { path: path.to_owned(), file: Some(file) }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => bail!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ),
            Err(e) => Err(e).with_context(|| format!("make the container ID file {}", path.display())),
        }
    }

    fn write(mut self, id: &str) -> Result<()> {
        let result = self.file.as_mut().map_or(Ok(()), |f| f.write_all(id.as_bytes()));
        result.with_context(|| format!("write {}", self.path.display()))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The window that a new terminal starts with.
pub(super) fn terminal_size(wanted: bool) -> Option<(u16, u16)> {
    let size = || tty::size(rustix::stdio::stdin()).or_else(|_| tty::size(rustix::stdio::stdout())).ok();
    wanted.then(size).flatten().map(|s| (s.rows, s.columns))
}

/// What the user's command returns when the conversation is over.
pub(super) fn conclude(outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Exited(status) => Ok(status as u8),
        Outcome::Failed(status, text) => {
            output::complain(&anyhow::anyhow!(text));
            Ok(status as u8)
        }
        Outcome::Detached => {
            output::note("read escape sequence");
            Ok(0)
        }
        Outcome::Interrupted(signal) => Ok((128 + signal) as u8),
    }
}

/// The same for who only came along: to leave by the keys is status 1 for him.
pub(super) fn conclude_apart(outcome: Outcome) -> Result<u8> {
    let is_over = outcome != Outcome::Detached;
    conclude(outcome).map(|status| if is_over { status } else { 1 })
}

/// `minirun start`.
pub fn start(app: &App, args: &StartArgs) -> Result<u8> {
    if args.checkpoint.is_some() || args.checkpoint_dir.is_some() {
        bail!("checkpoints are not supported by this version");
    }
    let containers = Containers::open(&app.root);
    if args.attach || args.interactive {
        let [name] = args.containers.as_slice() else {
            bail!("you cannot start and attach multiple containers at once");
        };
        // As Docker, whatever it would be for `run`.
        return start_attached(app, &containers.find(name)?, args).map_err(|error| anyhow!("{error:#}"));
    }
    let mut failed = Vec::new();
    for name in &args.containers {
        match start_detached(app, &containers, name) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::complain(&error);
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    output::note(&format!("Error: failed to start containers: {}", failed.join(", ")));
    Ok(1)
}

/// Starts a container unless it is up.
pub(super) fn start_detached(app: &App, containers: &Containers, name: &str) -> Result<()> {
    let container = containers.find(name)?;
    match container.snapshot()?.status {
        Status::Running | Status::Restarting => return Ok(()),
        Status::Paused => bail!("cannot start a paused container, try unpause instead"),
        _ => {}
    }
    let size = terminal_size(container.record.options.tty);
    let how = Start { attached: false, feeds: false, terminal_size: size };
    let supervisor = app.supervisor(&container.record.options)?;
    match start_container(&container, how, &app.program, supervisor) {
        Ok(socket) => warn(&wait_until_started(&socket)?),
        Err(error) if error.is::<AlreadyRunning>() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn warn(texts: &[String]) {
    for text in texts {
        output::note(&format!("WARNING: {text}"));
    }
}

fn start_attached(app: &App, container: &Container, args: &StartArgs) -> Result<u8> {
    let options = &container.record.options;
    let feeds = args.interactive && options.interactive;
    let how = Start { attached: true, feeds, terminal_size: terminal_size(options.tty) };
    let keys = client_config::detach_keys(&args.detach_keys)?;
    let terms = Terms { stdin: feeds, tty: options.tty, proxy_signals: !options.tty, detach_keys: keys };
    if container.snapshot()?.status == Status::Running {
        return join(container, &terms, conclude);
    }
    let supervisor = app.supervisor(options)?;
    match start_container(container, how, &app.program, supervisor) {
        Ok(socket) => match converse(&socket, &terms)? {
            Outcome::Failed(_, text) => Err(anyhow!(text)),
            outcome => conclude(outcome),
        },
        Err(error) if error.is::<AlreadyRunning>() => join(container, &terms, conclude),
        Err(error) => Err(error),
    }
}

/// `minirun attach`.
pub fn attach(app: &App, args: &AttachArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    match container.snapshot()?.status {
        Status::Running => {}
        Status::Paused => bail!("You cannot attach to a paused container, unpause it first"),
        Status::Restarting => bail!("You cannot attach to a restarting container, wait until it is running"),
        _ => bail!("You cannot attach to a stopped container, start it first"),
    }
    let options = &container.record.options;
    let feeds = options.interactive && !args.no_stdin;
    if feeds && options.tty && !tty::is_terminal(rustix::stdio::stdin()) {
        bail!("the input device is not a TTY");
    }
    let keys = client_config::detach_keys(&args.detach_keys)?;
    let proxy_signals = args.sig_proxy && !options.tty;
    join(&container, &Terms { stdin: feeds, tty: options.tty, proxy_signals, detach_keys: keys }, conclude_apart)
}

/// Connects to a running container.
fn join(container: &Container, terms: &Terms, conclude: fn(Outcome) -> Result<u8>) -> Result<u8> {
    let socket = container.connect()?.context("the container has just ended")?;
    socket.send(&Request::Attach { stdin: terms.stdin }.encode()).context("attach to the container")?;
    container.tell("attach", &[]);
    if terms.tty {
        redraw(&socket);
    }
    conclude(converse(&socket, terms)?)
}

/// A program redraws its screen when its window changes; the true size follows at once.
fn redraw(socket: &Socket) {
    if let Some((rows, columns)) = terminal_size(true) {
        let other = tty::Size { rows: rows.saturating_add(1), columns };
        let _ = socket.send(&Request::Resize(other).encode());
    }
}
