//! The parent's page: one child in new namespaces, created, then started.

use super::cgroup::Entrance;
use super::handshake::{self, ChildEnd, ParentEnd, Report};
use super::hooks::State;
use super::plan::Plan;
use super::process::ProcessPlan;
use super::seccomp::{Agent, Filter};
use super::sources::{self, Sources};
use super::{hooks, init, namespaces};
use crate::sys::process::{self, Child, Exit, Forked};
use crate::sys::socket::{Listener, Socket};
use anyhow::{Context, Result, anyhow, bail};
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The standard streams of a process without a terminal.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// What a face contributes to the creation of a container.
#[derive(Default)]
pub struct Company<'a> {
    /// The process's streams if it has no terminal; the caller's own if there are none.
    pub streams: Option<Streams>,
    /// Where somebody will come and let the program run; the caller does if there is none.
    pub door: Option<Listener>,
    /// A network namespace for it that the caller has made beforehand; without it one is made if the plan says so.
    pub network: Option<OwnedFd>,
    /// Others may be in its cgroup already; they are left alone, whatever happens.
    pub shares_cgroup: bool,
    /// Whether its name still is this container's; somebody may have deleted it and made another one meanwhile.
    pub is_ours: Option<&'a dyn Fn() -> bool>,
    /// Called with the first process as soon as it has its namespaces, while it goes on setting itself up; its program
    /// runs only when this has succeeded.
    pub beside: Option<&'a mut Beside<'a>>,
    /// Called when the container is there, before any hook.
    pub attend: Option<&'a mut dyn FnMut() -> Result<()>>,
    /// Nothing is left to do between its creation and its start: where nobody else has a say, the program runs as soon
    /// as it can, and does not wait for [`Created::start`].
    pub at_once: bool,
}

/// What is done beside a child that sets itself up: with its number, and the filter that was compiled for it.
pub type Beside<'a> = dyn FnMut(i32, Option<&Filter>) -> Result<()> + 'a;

/// A first process that is all set up and waits for the word to run the program.
#[derive(Debug)]
pub struct Created {
    /// The process.
    pub child: Child,
    /// The master of its pseudo-terminal, if it has one.
    pub console: Option<OwnedFd>,
    parent: ParentEnd,
    word: Word,
    agent: Option<(Agent, State)>,
}

/// How the child hears that it may run the program.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// From us, in [`Created::start`].
    Unsaid,
    /// It has heard it from us.
    Said,
    /// At its door, where others may have come, too.
    AtDoor,
}

/// What the child is given.
pub(super) struct Inheritance {
    pub entrance: Entrance,
    pub streams: Option<Streams>,
    pub door: Option<Listener>,
    pub sources: Option<Sources>,
    pub attended: bool,
    /// The OOM score is inherited, or the parent's to set.
    pub has_score: bool,
    /// Where the filter comes from that it awaits.
    pub filter: Option<Socket>,
}

/// Creates the container of a plan up to the moment before its program runs.
///
/// On failure nothing is left: no process, no cgroup, no mount.
///
/// # Errors
/// A [`handshake::Failure`] for what went wrong inside.
pub fn create(plan: &Plan, company: Company<'_>) -> Result<Created> {
    let joined = plan.namespaces.open()?;
    let sources = sources::open_in_parent(plan)?;
    let entrance = match company.shares_cgroup {
        false => plan.cgroup.create(&plan.limits),
        true => plan.cgroup.create_or_share(&plan.limits),
    }?;
    // Who waits at a door is not left there by a parent that has died before it told anybody.
    let attended = plan.hooks.any_at_creation() || company.door.is_some();
    // The child takes its messages in their order, so that none may follow this word; and one that outlives us waits until
    // all is done.
    let is_free = !attended && !plan.process.terminal && plan.process.agent().is_none();
    let at_once = company.at_once && is_free && plan.manner.tied;
    let is_root = rustix::process::geteuid().is_root();
    let has_score = if is_root { plan.namespaces.has(libc::CLONE_NEWUSER) } else { plan.namespaces.maps.is_none() };
    let (streams, door) = (company.streams, company.door);
    let (ours, filter) = way_for_filter(&plan.process)?;
    let inheritance = Inheritance { entrance, streams, door, sources, attended, has_score, filter };
    let (beside, attend, is_ours) = (company.beside, company.attend, company.is_ours);
    let forked = fork(plan, inheritance, &joined, company.network.as_ref(), ours);
    let created = forked.and_then(|(mut created, ours)| {
        let settled = created.prepare(plan, ours, beside).and_then(|()| {
            if at_once {
                created.go_at_once();
            }
            created.settle(plan, attend)
        });
        match settled {
            Ok(()) => Ok(created),
            Err(error) => {
                created.abandon();
                // In another's cgroup somebody else may have been meant.
                let is_short = !company.shares_cgroup && plan.cgroup.oom_kills() > 0;
                Err(if is_short { anyhow!("container init was OOM-killed (memory limit too low?)") } else { error })
            }
        }
    });
    if created.is_err() && !company.shares_cgroup && is_ours.is_none_or(|is_ours| is_ours()) {
        let _ = plan.cgroup.kill_all();
        let _ = plan.cgroup.remove();
    }
    created
}

/// Both ends of the way for the filter that a process awaits, if it does: the parent's, the child's.
pub(super) fn way_for_filter(process: &ProcessPlan) -> Result<(Option<Socket>, Option<Socket>)> {
    let made = process.awaits_filter().then(Socket::pair).transpose().context("make a way for the seccomp filter")?;
    Ok(made.unzip())
}

/// The child, and in its parent the way for its filter.
fn fork(
    plan: &Plan,
    inheritance: Inheritance,
    joined: &[(i32, OwnedFd)],
    network: Option<&OwnedFd>,
    ours: Option<Socket>,
) -> Result<(Created, Option<Socket>)> {
    let (parent, child_end) = handshake::pair()?;
    let into = inheritance.entrance.clone_into();
    let agent = plan.process.agent().map(|agent| (agent.clone(), plan.state.clone()));
    let what = "make the container's first process";
    let is_root = rustix::process::geteuid().is_root();
    if inheritance.has_score && !is_root {
        plan.process.share_oom_score()?;
    }
    // Its pid namespace may be another container's, whose processes see it from its first moment. An ordinary user can
    // map ids only for those who do not hide yet.
    if is_root || plan.namespaces.maps.is_none() {
        process::forbid_inspection().context("hide from other containers")?;
    }
    let made = plan.namespaces.at_birth();
    let forked = match (joined, network.filter(|_| plan.namespaces.takes_network())) {
        ([], Some(network)) => {
            process::fork_in_network(network, made & !(libc::CLONE_NEWNET as u64), into).context(what)?
        }
        ([], None) => process::fork_into(made, into).context(what)?,
        _ => process::fork_into(0, None).context("make a helper")?,
    };
    match forked {
        Forked::Child => {
            // Who holds it himself would never see its end.
            drop((parent, ours));
            match joined {
                [] => init::run(plan, inheritance, child_end),
                _ => helper(plan, inheritance, joined, child_end),
            }
        }
        Forked::Parent(child) if joined.is_empty() => {
            Ok((Created { child, console: None, parent, word: Word::Unsaid, agent }, ours))
        }
        Forked::Parent(helper) => {
            // Only the child may hold its end, or its death would go unnoticed.
            drop((child_end, inheritance));
            let born = parent.next();
            let _ = process::reap(&helper.pidfd);
            match born? {
                Report::Born(pid) => {
                    let pidfd = process::pidfd_open(pid).context(what)?;
                    let child = Child { pid, pidfd };
                    Ok((Created { child, console: None, parent, word: Word::Unsaid, agent }, ours))
                }
                other => bail!("the helper said {other:?} instead of making the container's first process"),
            }
        }
    }
}

/// Joins what is joined, for the children that it makes, and makes one, which is its parent's. The parent itself must
/// stay where it is: hooks are run there.
fn helper(plan: &Plan, inheritance: Inheritance, joined: &[(i32, OwnedFd)], parent: ChildEnd) -> ! {
    let born = (|| {
        // In a user namespace that is joined there is no right to raise a limit any more, nor to lower the OOM score.
        if joined.iter().any(|(flag, _)| *flag == libc::CLONE_NEWUSER) {
            plan.process.limit(0)?;
            if rustix::process::geteuid().is_root() {
                plan.process.share_oom_score()?;
            }
        }
        namespaces::join(joined)?;
        let announced = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).context("make a pipe")?;
        let forked = process::fork_sibling_into(plan.namespaces.at_birth(), inheritance.entrance.clone_into());
        Ok((forked.context("make the container's first process")?, announced))
    })();
    match born {
        Ok((Forked::Child, (announced, to_announce))) => {
            // The parent must hear of the child before it hears from it.
            drop(to_announce);
            let _ = rustix::io::read(&announced, &mut [0u8]);
            drop(announced);
            init::run(plan, inheritance, parent)
        }
        Ok((Forked::Parent(child), _)) => {
            let _ = parent.announce(child.pid);
        }
        Err(error) => parent.send_failure(handshake::Stage::Isolation, &error),
    }
    process::exit_now(0)
}

impl Created {
    /// A child made elsewhere that keeps to the same protocol, and awaits its filter maybe. It is told beforehand that it
    /// may go if nobody else has a say.
    pub(super) fn joined(
        child: Child,
        parent: ParentEnd,
        agent: Option<(Agent, State)>,
        has_terminal: bool,
        filter: impl FnOnce() -> Result<()>,
    ) -> Result<Created> {
        let is_free = !has_terminal && agent.is_none();
        let mut created = Created { child, console: None, parent, word: Word::Unsaid, agent };
        let settled = filter().and_then(|()| {
            if is_free {
                created.go_at_once();
            }
            created.wait_until_ready(&mut || Ok(()))
        });
        match settled {
            Ok(()) => Ok(created),
            Err(error) => {
                created.abandon();
                Err(error)
            }
        }
    }

    /// If it is dead by now, its last words are read next.
    fn go_at_once(&mut self) {
        if self.parent.go().is_ok() {
            self.word = Word::Said;
        }
    }

    /// The first process of a container that was created earlier, maybe by another process, and waits at its door.
    ///
    /// # Errors
    /// Nobody waits there.
    pub fn at_door(child: Child, dir: &Path, name: &str, agent: Option<(Agent, State)>) -> std::io::Result<Created> {
        Ok(Created { child, console: None, parent: ParentEnd::visit(dir, name)?, word: Word::AtDoor, agent })
    }

    /// What the child waits for first, and what is done while it sets itself up.
    fn prepare(&mut self, plan: &Plan, to: Option<Socket>, beside: Option<&mut Beside<'_>>) -> Result<()> {
        if let Some(maps) = &plan.namespaces.maps {
            maps.write(self.child.pid)?;
            plan.process.limit(self.child.pid)?;
            if rustix::process::geteuid().is_root() {
                plan.process.give_oom_score(&self.child.pid.to_string())?;
            }
            self.parent.mapped()?;
        }
        let filter = plan.process.send_filter(to)?;
        let done = beside.map_or(Ok(()), |beside| beside(self.child.pid, filter.as_ref()));
        let Err(error) = done else { return Ok(()) };
        // What happened to a child that has ended is the reason for what could not be done to it.
        let mut lives = false;
        let reason = self.wait_until_ready(&mut || {
            lives = true;
            bail!("it lives")
        });
        Err(reason.err().filter(|_| !lives).unwrap_or(error))
    }

    fn settle(&mut self, plan: &Plan, mut attend: Option<&mut dyn FnMut() -> Result<()>>) -> Result<()> {
        let pid = self.child.pid;
        let mut attend = || attend.take().map_or(Ok(()), |attend| attend());
        self.wait_until_ready(&mut || {
            attend()?;
            let state = State { pid, ..plan.state.clone() };
            hooks::run("prestart", &plan.hooks.prestart, &state)?;
            hooks::run("createRuntime", &plan.hooks.create_runtime, &state)
        })?;
        attend()
    }

    /// `hooks` are run when the container is there, but nothing in it has seen its root yet.
    fn wait_until_ready(&mut self, hooks: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        loop {
            match self.parent.next()? {
                Report::Console(master) => self.console = Some(master),
                Report::Attend => {
                    hooks()?;
                    self.parent.attended()?;
                }
                Report::Listener(number) => self.take_listener(number)?,
                Report::Ready => return Ok(()),
                Report::End => return Err(anyhow!("the container's first process died while it was set up")),
                other => bail!("the container's first process said {other:?} while it was set up"),
            }
        }
    }

    /// Runs the program; returns when execve has succeeded.
    ///
    /// # Errors
    /// A [`handshake::Failure`]; the process is gone and, if it is the caller's child, reaped then. The cgroup is the
    /// caller's to remove.
    pub fn start(&self) -> Result<()> {
        let begun = match self.word {
            Word::AtDoor => Ok(self.enter()?),
            Word::Unsaid => self.parent.go(),
            Word::Said => Ok(()),
        };
        let result = begun.and_then(|()| {
            loop {
                match self.parent.next()? {
                    Report::End => return Ok(()),
                    Report::Listener(number) => self.take_listener(number)?,
                    other => bail!("the container's first process said {other:?} instead of starting"),
                }
            }
        });
        if result.is_err() {
            self.abandon();
        }
        result
    }

    /// Says the word at the door.
    ///
    /// # Errors
    /// Somebody else was faster.
    fn enter(&self) -> Result<()> {
        match self.parent.go().and_then(|()| self.parent.next()) {
            Ok(Report::LetIn) => Ok(()),
            _ => bail!("cannot start an already running container"),
        }
    }

    fn take_listener(&self, number: i32) -> Result<()> {
        let (agent, state) = self.agent.as_ref().context("nobody is named who takes the seccomp listener")?;
        let listener = process::pidfd_getfd(&self.child.pidfd, number).context("take the seccomp listener")?;
        agent.introduce(&listener, self.child.pid, &State { pid: self.state_pid(state), ..state.clone() })?;
        self.parent.taken()
    }

    /// A container that is only being created is known by the process that it will have.
    fn state_pid(&self, state: &State) -> i32 {
        if state.pid == 0 { self.child.pid } else { state.pid }
    }

    /// Ends the process, and reaps it if it is the caller's child; gives how it ended.
    pub fn abandon(&self) -> Exit {
        let _ = process::pidfd_kill(&self.child.pidfd, libc::SIGKILL);
        process::reap(&self.child.pidfd).unwrap_or(Exit::Signal(libc::SIGKILL))
    }
}
