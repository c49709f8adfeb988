//! The short commands about containers: each takes names and reports them one by one.

use super::run::start_detached;
use super::values::given;
use super::{App, output, values};
use crate::container::containers::{Container, Containers, NoSuchContainer};
use crate::container::health::check_now;
use crate::container::state::Status;
use anyhow::{Result, anyhow, bail};
use clap::Args;

/// Names or ids, at least one.
#[derive(Debug, Args)]
pub struct Names {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Names or ids, or all.
#[derive(Debug, Args)]
pub struct NamesOrAll {
    /// All for which it makes sense
    #[arg(short, long)]
    all: bool,
    /// Names or ids
    #[arg(required_unless_present = "all")]
    containers: Vec<String>,
}

/// `stop` and `restart`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// All that are up
    #[arg(short, long)]
    all: bool,
    /// Do not mind missing ones
    #[arg(long)]
    ignore: bool,
    /// The signal that asks to stop, instead of the container's own
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds until it is killed; negative waits forever
    #[arg(short, long, alias = "timeout", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Names or ids
    #[arg(required_unless_present = "all")]
    containers: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// All that are running
    #[arg(short, long)]
    all: bool,
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required_unless_present = "all")]
    containers: Vec<String>,
}

/// `rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// All of them
    #[arg(short, long)]
    all: bool,
    /// Kill running containers, and do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// Do not mind missing ones
    #[arg(short, long)]
    ignore: bool,
    #[arg(short, long, hide = true)]
    link: bool,
    /// With --force: seconds to stop in before it is killed
    #[arg(short, long, allow_hyphen_values = true)]
    time: Option<i64>,
    /// Remove the containers' anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required_unless_present = "all")]
    containers: Vec<String>,
}

/// `rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Name or id
    container: String,
    /// The new name
    name: String,
}

/// `healthcheck run`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Name or id
    container: String,
}

/// `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Only show what would be started
    #[arg(long)]
    dry_run: bool,
}

/// Does something to each container and prints its name; goes on after an error, and returns 1 then.
fn each(app: &App, names: &[String], action: impl Fn(&Container) -> Result<()>) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in names {
        status = status.max(report(name, containers.find(name).and_then(|c| action(&c)))?);
    }
    Ok(status)
}

/// Tells how it went with one container, and gives the exit status.
fn report(name: &str, outcome: Result<()>) -> Result<u8> {
    match outcome {
        Ok(()) => output::line(name).map(|()| 0),
        Err(error) => {
            output::complain(&error);
            Ok(1)
        }
    }
}

/// As [`each`], for an action that waits: all wait at the same time, so many at most.
fn each_at_once(app: &App, names: &[String], action: impl Fn(&Container) -> Result<()> + Sync) -> Result<u8> {
    const AT_ONCE: usize = 50;
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for names in names.chunks(AT_ONCE) {
        let act = |name| containers.find(name).and_then(|c| action(&c));
        let told: Result<()> = std::thread::scope(|scope| {
            let begin = |name| std::thread::Builder::new().spawn_scoped(scope, move || act(name)).ok();
            let running: Vec<_> = names.iter().map(|name| (name, begin(name))).collect();
            for (name, thread) in running {
                let outcome = match thread {
                    Some(thread) => thread.join().unwrap_or_else(|_| Err(anyhow!("its thread has ended unexpectedly"))),
                    // None could be made; it has to wait for its turn.
                    None => act(name),
                };
                status = status.max(report(name, outcome)?);
            }
            Ok(())
        });
        told?;
    }
    Ok(status)
}

/// The names that were given, or the ids of all containers with one of these states.
fn named_or_all(app: &App, names: &[String], all: bool, fits: impl Fn(Status) -> bool) -> Result<Vec<String>> {
    if !all {
        return Ok(names.to_vec());
    }
    if !names.is_empty() {
        bail!("--all and names of containers exclude each other");
    }
    let mut ids = Vec::new();
    for container in Containers::open(&app.root).list()?.0 {
        match container.snapshot() {
            Ok(snapshot) if fits(snapshot.status) => ids.push(container.record.id),
            Ok(_) => {}
            // It was removed while we looked.
            Err(_) if !container.dir().exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ids)
}

/// Without those that are not there.
fn present(app: &App, names: Vec<String>, ignore: bool) -> Vec<String> {
    let containers = Containers::open(&app.root);
    let missing = |name: &String| containers.find(name).is_err_and(|e| e.is::<NoSuchContainer>());
    names.into_iter().filter(|name| !(ignore && missing(name))).collect()
}

/// `minirun stop`.
pub fn stop(app: &App, args: &StopArgs) -> Result<u8> {
    let signal = given(args.signal.as_ref()).map(values::signal).transpose()?;
    let names = present(app, named_or_all(app, &args.containers, args.all, Status::is_up)?, args.ignore);
    each_at_once(app, &names, |c| c.stop(signal, args.time))
}

/// `minirun kill`.
pub fn kill(app: &App, args: &KillArgs) -> Result<u8> {
    let signal = given(Some(&args.signal)).map_or(Ok(libc::SIGKILL), values::signal)?;
    each(app, &named_or_all(app, &args.containers, args.all, Status::is_up)?, |c| c.kill(signal))
}

/// `minirun restart`.
pub fn restart(app: &App, args: &StopArgs) -> Result<u8> {
    let signal = given(args.signal.as_ref()).map(values::signal).transpose()?;
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &present(app, named_or_all(app, &args.containers, args.all, Status::is_up)?, args.ignore) {
        let again = containers
            .find(name)
            .and_then(|c| c.stop_for_restart(signal, args.time))
            .and_then(|()| start_detached(app, &containers, name))
            .and_then(|()| containers.find(name));
        status = status.max(report(name, again.map(|c| c.tell("restart", &[])))?);
    }
    Ok(status)
}

/// `minirun rm`.
pub fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    if args.link {
        bail!("rm --link is not supported: containers are not linked, they are on networks");
    }
    let containers = Containers::open(&app.root);
    let mut names = present(app, named_or_all(app, &args.containers, args.all, |_| true)?, args.ignore);
    if args.all {
        names.extend(containers.list()?.1.into_iter().map(|damaged| damaged.id));
    }
    let mut status = 0;
    for name in &names {
        let removed = match containers.find(name) {
            Ok(container) => match args.time.filter(|_| args.force) {
                Some(time) => container.stop(None, Some(time)),
                None => Ok(()),
            }
            .and_then(|()| container.remove(args.force, args.volumes)),
            // What cannot be read can still be removed.
            Err(error) if args.force && !error.is::<NoSuchContainer>() => {
                containers.remove_damaged(name).map_err(|_| error)
            }
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::complain(&error);
                // It may also have gone while we looked at it.
                if !(args.force && error.is::<NoSuchContainer>()) {
                    status = 1;
                }
            }
        }
    }
    crate::container::connection::tidy(&app.root);
    app.root.empty_trash();
    Ok(status)
}

/// `minirun wait`.
pub fn wait(app: &App, args: &Names) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.containers {
        match containers.find(name).and_then(|c| c.wait()) {
            Ok(code) => output::line(&code.to_string())?,
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}

/// `minirun healthcheck run`: what the check says is its output and its status.
pub fn healthcheck(app: &App, args: &HealthcheckArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    let answer = check_now(&container)?;
    output::print(&answer.output)?;
    if answer.exit_code == 0 {
        return Ok(0);
    }
    output::line("unhealthy")?;
    Ok(1)
}

/// `minirun resume`: after a reboot, the containers whose policy says so; those that were made first are started first.
pub fn resume(app: &App, args: &ResumeArgs) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let (list, damaged) = containers.list()?;
    let mut status = 0;
    for d in &damaged {
        output::complain(&anyhow::anyhow!("the container {} cannot be read: {:#}", d.id, d.error));
        status = 1;
    }
    for container in list.iter().rev() {
        let resumed = container.snapshot().and_then(|snapshot| {
            let due = container.comes_back(&snapshot);
            if due && !args.dry_run {
                start_detached(app, &containers, &container.record.id)?;
            }
            Ok(due)
        });
        match resumed {
            Ok(true) => output::line(&container.record.name)?,
            Ok(false) => {}
            Err(error) => {
                output::complain(&error.context(format!("start {} again", container.record.name)));
                status = 1;
            }
        }
    }
    Ok(status)
}

/// `minirun rename`.
pub fn rename(app: &App, args: &RenameArgs) -> Result<u8> {
    let name = values::container_name(&args.name)?;
    Containers::open(&app.root).find(&args.container)?.rename(&name)?;
    Ok(0)
}

/// `minirun pause`.
pub fn pause(app: &App, args: &NamesOrAll) -> Result<u8> {
    let names = named_or_all(app, &args.containers, args.all, |s| s == Status::Running)?;
    each(app, &names, Container::pause)
}

/// `minirun unpause`.
pub fn unpause(app: &App, args: &NamesOrAll) -> Result<u8> {
    let names = named_or_all(app, &args.containers, args.all, |s| s == Status::Paused)?;
    each(app, &names, Container::unpause)
}
