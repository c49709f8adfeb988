//! A further command in a running container, with a small supervisor of its own for as long as it runs.

use super::compose::{add_environment, capabilities, environment, resource_limits, working_directory};
use super::containers::Container;
use super::options::RunOptions;
use super::protocol::Event;
use super::session::{self, Ends, Manners, Session};
use super::start::{require_running, user_of};
use super::supervisor::{MANNER, status_of};
use super::task::{self, Waiting};
use super::tell::Actor;
use super::users::Database;
use super::view::root_of;
use crate::layout::Root;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::hooks::State;
use crate::runtime::join::{self, Visit};
use crate::runtime::launch::Created;
use crate::runtime::namespaces::Kinds;
use crate::runtime::plan::specification;
use crate::runtime::process::ProcessPlan;
use crate::sys::process::{self, Child, ProcessId};
use crate::sys::random;
use crate::sys::socket::Socket;
use anyhow::{Context, Result};
use oci_spec::runtime::{BoxBuilder, Process, ProcessBuilder, UserBuilder};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As long as Docker waits for what others still write that the command left behind.
const LINGERS: Duration = Duration::from_secs(2);

/// What a user asks of `exec`.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Additions to the container's environment.
    pub env: Vec<String>,
    /// Working directory; the container's if `None`.
    pub workdir: Option<String>,
    /// User; the container's if `None`.
    pub user: Option<String>,
    /// With a pseudo-terminal.
    pub tty: bool,
    /// Standard input stays open.
    pub interactive: bool,
    /// Nobody waits for it.
    pub detach: bool,
    /// With all capabilities.
    pub privileged: bool,
    /// Rows and columns of its terminal.
    pub terminal_size: Option<(u16, u16)>,
}

/// Starts a command and returns the connection to its supervisor, with no event read from it yet.
///
/// # Errors
/// A container that is not running, a user that it does not have.
pub fn exec(container: &Container, options: &ExecOptions) -> Result<Socket> {
    let task = task(container, options, Some(Actor::of(&container.record)))?;
    Waiting::start(NAME, container.root.path(), main)?.0.give(&task, &[])
}

/// The same for a check of the container's health, of which the journal does not tell; also for the container's own
/// supervisor, whose child the command's supervisor is then.
pub fn exec_quietly(container: &Container, options: &ExecOptions) -> Result<(Socket, Child)> {
    let task = task(container, options, None)?;
    let (waiting, child) = Waiting::start(NAME, container.root.path(), main)?;
    Ok((waiting.give(&task, &[])?, child))
}

fn task(container: &Container, options: &ExecOptions, actor: Option<Actor>) -> Result<Task> {
    let init = require_running(container, "exec")?.init().context("the container is only starting")?;
    let process = compose_process(container, options, init)?;
    // What can be refused is refused here, where the user is.
    ProcessPlan::from_spec(&process)?;
    let cgroup = super::compose::cgroup_path(&container.record);
    let bundle = container.bundle();
    let (root, state) = (container.root.path().to_owned(), container.root.state().to_owned());
    let places = (root, state);
    let (interactive, detach) = (options.interactive, options.detach);
    Ok(Task { process, init, cgroup, bundle, interactive, detach, actor, places })
}

/// The name that this program runs under as a command's supervisor.
pub const NAME: &str = "minirun-exec";

/// What a client tells the supervisor of a command.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    process: Process,
    init: ProcessId,
    cgroup: PathBuf,
    bundle: PathBuf,
    interactive: bool,
    detach: bool,
    /// Whom the journal is told about.
    actor: Option<Actor>,
    places: (PathBuf, PathBuf),
}

/// The supervisor of a command, with its end of the connection to the client; returns its exit status.
pub fn main(client: OwnedFd) -> i32 {
    process::set_name(c"minirun-exec");
    let done = task::take::<Task>(client, || {}).and_then(|taken| match taken {
        Some((task, client, _)) => supervise(&task, client),
        None => Ok(()),
    });
    // There is nobody to tell: the client hears of failures over its connection.
    i32::from(done.is_err())
}

fn compose_process(container: &Container, options: &ExecOptions, init: ProcessId) -> Result<Process> {
    let record = &container.record;
    // What is mounted over the files counts, too, so they are read where the container's processes read them.
    let root = root_of(init)?;
    let database = Database::read(|path| root.file_in_root(Path::new(path)))?;
    let wanted = options.user.clone().unwrap_or_else(|| user_of(record));
    let identity = database.resolve(&wanted, &record.options.group_add)?;
    let mut env = environment(record, &identity.home);
    if options.user.is_some() && !record.options.env.iter().any(|e| e.starts_with("HOME=")) {
        add_environment(&mut env, [&format!("HOME={}", identity.home)]);
    }
    if options.tty {
        env.retain(|e| !e.starts_with("TERM="));
        env.push("TERM=xterm".into());
    }
    add_environment(&mut env, &options.env);
    let cwd = options.workdir.as_ref().map_or_else(|| working_directory(record), |w| Path::new("/").join(w));
    let mut of = record.clone();
    if options.privileged {
        of.options = RunOptions { privileged: true, ..of.options };
    }
    let user =
        UserBuilder::default().uid(identity.uid).gid(identity.gid).additional_gids(identity.groups.clone()).build()?;
    let mut process = ProcessBuilder::default()
        .terminal(options.tty)
        .user(user)
        .args(options.command.clone())
        .env(env)
        .cwd(PathBuf::from(&cwd))
        .capabilities(capabilities(&of, identity.uid)?)
        .rlimits(resource_limits(record)?)
        .no_new_privileges(record.options.security.no_new_privileges)
        .build()?;
    process.set_oom_score_adj(record.options.oom_score_adj);
    process.set_apparmor_profile(record.options.security.apparmor.clone());
    if let Some((rows, columns)) = options.terminal_size {
        process.set_console_size(Some(BoxBuilder::default().height(rows).width(columns).build()?));
    }
    Ok(process)
}

fn supervise(task: &Task, client: Socket) -> Result<()> {
    rustix::process::setsid().map_err(std::io::Error::from).context("start a session")?;
    let is_check = task.actor.is_none();
    let manners = Manners {
        input_once: true,
        dies_with_client: !task.detach,
        group_dies_with_client: is_check,
        lingers: if is_check { Duration::ZERO } else { LINGERS },
    };
    let mut session = Session::new(None, None, manners, (libc::SIGTERM, 10))?;
    session.add_client(client, !task.detach, task.interactive && !task.detach)?;
    let teller = Teller::new(task);
    teller.tell("exec_create", true, &[]);
    let result = begin(task).and_then(|(created, ends)| {
        teller.tell("exec_start", true, &[]);
        session.announce(&Event::Started);
        session.serve(&created, ends, None)
    });
    if let Ok(exit) = &result {
        teller.tell("exec_die", false, &[("exitCode", exit.status().to_string())]);
    }
    match &result {
        Ok(exit) => session.announce(&Event::Exited(exit.status())),
        Err(error) => session.announce(&Event::Failed(status_of(error), &format!("{error:#}"))),
    }
    session.finish()
}

/// Tells the journal about one command.
struct Teller<'a> {
    task: &'a Task,
    id: String,
    root: Option<Root>,
}

impl Teller<'_> {
    fn new(task: &Task) -> Teller<'_> {
        let root = task.actor.as_ref().and_then(|_| Root::open(&task.places.0, &task.places.1).ok());
        Teller { task, id: random::hex::<32>(), root }
    }

    fn tell(&self, action: &str, with_command: bool, more: &[(&str, String)]) {
        let (Some(actor), Some(root)) = (&self.task.actor, &self.root) else { return };
        let words = self.task.process.args().as_deref().unwrap_or_default().join(" ");
        let action = if with_command { format!("{action}: {words}") } else { action.to_owned() };
        actor.tell(root, &action, &[&[("execID", self.id.clone())], more].concat());
    }
}

fn begin(task: &Task) -> Result<(Created, Ends)> {
    let mut spec = specification(&task.bundle)?;
    let linux = spec.linux_mut().as_mut().context("the bundle's config.json has no linux part")?;
    let seccomp = linux.seccomp_mut().take();
    let plan = ProcessPlan::from_spec(&task.process)?.in_container(linux, seccomp)?;
    let cgroup = Cgroup::at(&task.cgroup)?;
    let state = State::default();
    let kinds = Kinds::of(linux);
    let target = task.init.open().context("the container is not running")?;
    let init = task.init.pid;
    let visit = Visit { target, init, kinds, cgroup: &cgroup, plan: &plan, manner: MANNER, state: &state };
    let (created, ends) = if plan.terminal {
        let mut created = join::create(visit, None)?;
        let master = created.console.take().context("the command made no terminal")?;
        (created, Ends::terminal(master)?)
    } else {
        let (ends, streams) = session::pipes(task.interactive && !task.detach)?;
        (join::create(visit, Some(streams))?, ends)
    };
    created.start()?;
    Ok((created, ends))
}
