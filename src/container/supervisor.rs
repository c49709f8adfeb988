//! The supervisor: one small process a running container, from its first start to its last end.

use super::containers::{Container, Containers};
use super::health::Monitor;
use super::log::Writer;
use super::options::{LogDriver, NetworkMode, RestartPolicy, RunOptions};
use super::protocol::Event;
use super::session::{self, Ends, Manners, Session, Wishes};
use super::sharing::Held;
use super::start::{Start, stop_settings};
use super::state::{Ended, Running, now};
use super::task::{self, Waiting};
use crate::layout::Root;
use crate::network::endpoint::Connection;
use crate::runtime::cgroup::{Cgroup, Hierarchies};
use crate::runtime::handshake::Failure;
use crate::runtime::launch::{self, Company, Created};
use crate::runtime::plan::{Face, Plan, specification};
use crate::runtime::process::Manner;
use crate::runtime::seccomp::Filter;
use crate::sys::file::{Aside, Ownership};
use crate::sys::process::{self, ProcessId};
use crate::sys::socket::{Listener, Socket};
use anyhow::{Context, Result};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name that this program runs under as a supervisor.
pub const NAME: &str = "minirun-supervisor";

/// What a client tells the supervisor that it starts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The store.
    pub root: PathBuf,
    /// The volatile state.
    pub state: PathBuf,
    /// The container.
    pub id: String,
    /// How it is started.
    pub start: Start,
}

/// Starts a supervisor that waits for its task: a container of the store in this folder.
pub fn begin(root: &Path) -> Result<Waiting> {
    Ok(Waiting::start(NAME, root, main)?.0)
}

/// Has a supervisor that waits make what takes the kernel longest, if a container with these options will need it: a
/// network namespace.
pub fn foretell(supervisor: &Waiting, options: &RunOptions) -> Result<()> {
    match options.network {
        NetworkMode::Host | NetworkMode::Container(_) => Ok(()),
        _ => supervisor.foretell_network(),
    }
}

/// The supervisor process, with its end of the connection to the client; returns its exit status.
pub fn main(client: OwnedFd) -> i32 {
    process::set_name(c"minirun-super");
    process::keep_memory();
    // There is nobody to tell: the client hears of failures over its connection.
    i32::from(take_task(client).is_err())
}

fn take_task(client: OwnedFd) -> Result<()> {
    let mut network = None;
    // Without it the namespace is made with the others, and whatever is in the way is told there.
    let taken = task::take::<Task>(client, || network = process::new_network().ok())?;
    let Some((task, client, mut fds)) = taken else { return Ok(()) };
    let ownership = fds.next().context("the supervisor was given no lock")?;
    let found = Root::open(&task.root, &task.state).and_then(|root| Containers::open(&root).find(&task.id));
    match found {
        Ok(container) => supervise(container, task.start, client, Ownership::inherited(ownership), network),
        Err(error) => {
            let _ = client.send(&Event::Failed(125, &format!("{error:#}")).encode());
            Err(error)
        }
    }
}

fn supervise(
    container: Container,
    start: Start,
    client: Socket,
    ownership: Ownership,
    mut network: Option<OwnedFd>,
) -> Result<()> {
    let (mut session, end) = match open_session(&container, &start) {
        Ok(mut session) => {
            session.add_client(client, start.attached, start.feeds)?;
            let end = run_until_done(&container, &mut session, &mut network, start.terminal_size);
            (session, end)
        }
        Err(error) => {
            let packet = Event::Failed(125, &format!("{error:#}")).encode();
            let cleaned = clean_up(&container, Err(error), container.record.options.remove);
            container.forget_running();
            let _ = client.send(&packet);
            return cleaned;
        }
    };
    let announcement = match &end {
        Ok(ended) => Ok(ended.exit_code),
        Err(error) => Err((status_of(error), format!("{error:#}"))),
    };
    let remove = container.record.options.remove && !session.wishes.restart;
    let cleaned = clean_up(&container, end, remove);
    // Its ports lead nowhere any more; now others may have them.
    session.connection.free_ports();
    drop(ownership);
    match &announcement {
        Ok(code) => session.announce(&Event::Exited(*code)),
        Err((status, text)) => session.announce(&Event::Failed(*status, text)),
    }
    // Of a container that is gone; nobody waits for this.
    if remove {
        container.forget_running();
    }
    session.finish()?;
    container.root.empty_trash();
    cleaned
}

fn open_session(container: &Container, start: &Start) -> Result<Session> {
    rustix::process::setsid().map_err(std::io::Error::from).context("start a session")?;
    let options = &container.record.options;
    let listener = Listener::bind(&container.state_dir(), "socket").context("listen for clients")?;
    let logged = options.log_driver != LogDriver::None;
    let log = logged.then(|| Writer::new(&container.log_path(), options.log));
    let manners = Manners { input_once: options.interactive && start.attached, ..Manners::default() };
    Session::new(log, Some(listener), manners, stop_settings(&container.record))
}

/// The exit status of `run` when the program could not be started.
pub fn status_of(error: &anyhow::Error) -> i32 {
    error.chain().find_map(|e| e.downcast_ref::<Failure>()).map_or(125, Failure::exit_status)
}

/// Starts it as often as its policy says, the first time in `network`. An error is a first start that failed.
fn run_until_done(
    container: &Container,
    session: &mut Session,
    network: &mut Option<OwnedFd>,
    size: Option<(u16, u16)>,
) -> Result<Ended> {
    let mut running = not_started(container)?;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = match run_once(container, session, network.take(), &mut running, size) {
            Err(error) if running.restarts == 0 => return Err(error),
            Err(error) => failed_restart(&running, &error),
            Ok(ended) => ended,
        };
        if ended.by_user || ended.interrupted || !starts_again(policy_now(container), &ended) {
            return Ok(ended);
        }
        if began.elapsed() > STEADY {
            pause = FIRST_PAUSE;
        }
        running.init = None;
        running.last_exit = Some(ended.exit_code);
        running.restarts += 1;
        // A full disk is no reason to stop restarting.
        let _ = container.write_end(&ended);
        let _ = container.record_running(&running);
        session.announce(&Event::Exited(ended.exit_code));
        session.idle(pause)?;
        let Wishes { by_user, interrupted, .. } = session.wishes;
        if by_user || interrupted {
            return Ok(Ended { by_user, interrupted, ..ended });
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn not_started(container: &Container) -> Result<Running> {
    Ok(Running {
        supervisor: ProcessId::of(rustix::process::getpid().as_raw_nonzero().get()).context("find out who we are")?,
        init: None,
        started_at: String::new(),
        restarts: 0,
        cgroup: super::compose::cgroup_path(&container.record).to_string_lossy().into_owned(),
        last_exit: None,
        ended: None,
    })
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length makes the next pause a short one again.
const STEADY: Duration = Duration::from_secs(10);

/// A user may have changed it meanwhile, but for a container that is removed when it ends.
fn policy_now(container: &Container) -> RestartPolicy {
    if container.record.options.remove {
        return RestartPolicy::No;
    }
    let known = Containers::open(&container.root).find(&container.record.id);
    known.map_or(container.record.options.restart, |c| c.record.options.restart)
}

fn starts_again(policy: RestartPolicy, ended: &Ended) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(limit) => ended.exit_code != 0 && (limit == 0 || ended.restarts < limit),
    }
}

fn failed_restart(running: &Running, error: &anyhow::Error) -> Ended {
    Ended {
        exit_code: status_of(error),
        error: format!("{error:#}"),
        started_at: running.started_at.clone(),
        finished_at: now(),
        restarts: running.restarts,
        ..Ended::default()
    }
}

fn run_once(
    container: &Container,
    session: &mut Session,
    network: Option<OwnedFd>,
    running: &mut Running,
    size: Option<(u16, u16)>,
) -> Result<Ended> {
    running.started_at = now();
    running.last_exit = None;
    let Made { created, ends, cgroup, spent } = create(container, (&mut session.connection, network), running, size)?;
    for text in std::mem::take(&mut session.connection.warnings) {
        session.announce(&Event::Warning(&text));
    }
    if let Err(error) = container.mark_up(&running.started_at).and_then(|()| created.start()) {
        created.abandon();
        let _ = cgroup.remove();
        return Err(error);
    }
    container.tell("start", &[]);
    session.announce(&Event::Started);
    // Not before the program runs: until then the child shares it, and it would be copied to be taken apart.
    drop(spent);
    let began = Instant::now();
    session.set_cgroup(cgroup.clone());
    let mut monitor = Monitor::new(container);
    let served = session.serve(&created, ends, monitor.as_mut());
    let (exit, failure) = served.map_or_else(|error| (created.abandon(), Some(error)), |exit| (exit, None));
    let oom_killed = cgroup.oom_kills() > 0;
    if let Some(monitor) = monitor {
        monitor.end();
    }
    // How the program ended counts more than what is in the way of its cgroup's end.
    let killed = cgroup.kill_all();
    let removed = cgroup.remove();
    let error = failure.map_or_else(|| killed.and(removed), Err).err();
    if session.wishes.lost_patience {
        container.tell("kill", &[("signal", libc::SIGKILL.to_string())]);
    }
    if oom_killed {
        container.tell("oom", &[]);
    }
    let told = [("exitCode", exit.status().to_string()), ("execDuration", began.elapsed().as_secs().to_string())];
    container.tell("die", &told);
    let error = error.map_or_else(String::new, |error| format!("{error:#}"));
    let Wishes { by_user, interrupted, .. } = session.wishes;
    Ok(Ended {
        exit_code: exit.status(),
        error,
        oom_killed,
        started_at: running.started_at.clone(),
        finished_at: now(),
        restarts: running.restarts,
        by_user,
        interrupted,
    })
}

/// A container does not outlive its supervisor: only one that has died is ever found and cleaned up.
pub const MANNER: Manner = Manner { tied: true, preserved_fds: 0, keep_keyring: false, no_pivot: false };

/// A container that waits to be started.
struct Made {
    created: Created,
    ends: Ends,
    cgroup: Cgroup,
    /// What was only needed to make it.
    spent: Box<(Spec, Plan)>,
}

fn create(
    container: &Container,
    (connection, network): (&mut Connection, Option<OwnedFd>),
    running: &mut Running,
    size: Option<(u16, u16)>,
) -> Result<Made> {
    let bundle = container.bundle();
    let mut spec = specification(&bundle)?;
    if let (Some((rows, columns)), Some(process)) = (size, spec.process_mut()) {
        let size = oci_spec::runtime::BoxBuilder::default().height(rows).width(columns).build()?;
        process.set_console_size(Some(size));
    }
    let held = Held::open(container)?;
    held.put_into(&mut spec);
    let face = Face {
        id: &container.record.id,
        hierarchies: Hierarchies::Needed,
        may_lack_cgroup: Some(false),
        manner: MANNER,
    };
    let plan = Plan::resolve(&mut spec, &bundle, &face)?;
    let staged = Cell::new(None);
    let mut beside = |pid, _: Option<&Filter>| {
        if !container.record.networks.is_empty() {
            container.connect_networks(pid, connection)?;
        }
        running.init = Some(ProcessId::of(pid).context("find the container's first process")?);
        staged.set(Some(container.stage_running(running)?));
        Ok(())
    };
    // Not before it is there: nobody may enter what has not yet left the host's root.
    let mut attend = || staged.take().map_or(Ok(()), Aside::publish).context("write down its processes");
    let (beside, attend) = (Some(&mut beside as &mut launch::Beside<'_>), Some(&mut attend as _));
    // Its mark comes between the two, if there is one.
    let at_once = container.record.options.restart == RestartPolicy::No;
    let company = Company { network, beside, attend, at_once, ..Company::default() };
    let (created, ends) = if plan.process.terminal {
        let mut created = launch::create(&plan, company)?;
        let master = created.console.take().context("the container made no terminal")?;
        (created, Ends::terminal(master)?)
    } else {
        let (ends, streams) = session::pipes(container.record.options.interactive)?;
        (launch::create(&plan, Company { streams: Some(streams), ..company })?, ends)
    };
    Ok(Made { created, ends, cgroup: plan.cgroup.clone(), spent: Box::new((spec, plan)) })
}

/// Writes down the end and takes away what belonged to the run, or the whole container.
fn clean_up(container: &Container, end: Result<Ended>, remove: bool) -> Result<()> {
    let released = container.release_networks();
    if remove {
        return container.remove_files(true);
    }
    let ended = end.unwrap_or_else(|error| container.failed_start(status_of(&error), format!("{error:#}")));
    if container.record_end(&ended).is_err() {
        // The volatile state is on another disk, mostly; whoever looks next writes it down where it belongs.
        container.record_running(&Running { ended: Some(ended), ..not_started(container)? })?;
        return released;
    }
    container.forget_running();
    released
}
