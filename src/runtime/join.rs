//! A further process in a running container.

use super::cgroup::{Cgroup, Entrance};
use super::console;
use super::handshake::{self, ChildEnd, Stage};
use super::hooks::State;
use super::launch::{self, Created, Streams};
use super::namespaces::Kinds;
use super::process::{Last, Manner, OwnFiles, ProcessPlan};
use super::streams as standard;
use crate::sys::dir::Dir;
use crate::sys::process::{self, Forked};
use crate::sys::socket::Socket;
use anyhow::{Context, Result};
use std::os::fd::OwnedFd;

/// Where a further process goes, and as what.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The container's first process: a descriptor of it, and its number.
    pub target: OwnedFd,
    pub init: i32,
    /// The kinds of namespaces that its specification speaks of.
    pub kinds: Kinds,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// What it is to be.
    pub plan: &'a ProcessPlan,
    /// What its starter wants.
    pub manner: Manner,
    /// The container's.
    pub state: &'a State,
}

/// Creates a process inside a container, up to the moment before its program runs. Without a terminal and without
/// streams of its own it gets the caller's.
///
/// Where nobody else has a say, its program runs as soon as it can, and does not wait for [`Created::start`].
///
/// The calling process's further children will be in the container's pid namespace too.
pub fn create(visit: Visit<'_>, streams: Option<Streams>) -> Result<Created> {
    let Visit { target, init, kinds, cgroup, plan, manner, state } = visit;
    let foreign = kinds.foreign(init);
    let entrance = cgroup.open()?;
    plan.begin()?;
    let (user, mut joined) = (libc::CLONE_NEWUSER, 0);
    let groups_are_fixed = foreign & user != 0 && process::groups_are_fixed(&init.to_string());
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        plan.share_oom_score()?;
    }
    // From its first moment the child can be seen from inside the container.
    process::forbid_inspection().context("hide from the container")?;
    if foreign & user != 0 && !is_root {
        // Only there an ordinary user may join the others.
        process::join_namespaces(&target, user).context("join the container's user namespace")?;
        joined = user;
    }
    if foreign & libc::CLONE_NEWPID != 0 {
        joined |= libc::CLONE_NEWPID;
        process::join_namespaces(&target, libc::CLONE_NEWPID).context("join the container's pid namespace")?;
    }
    let (ours, filter) = launch::way_for_filter(plan)?;
    let (parent, child_end) = handshake::pair()?;
    let child = match process::fork_into(0, entrance.clone_into()).context("make the process")? {
        Forked::Child => {
            drop((parent, ours));
            let entered =
                Entered { target, foreign, joined, groups_are_fixed, has_score: !is_root, entrance, plan, manner };
            entered.run(streams.as_ref(), filter, child_end)
        }
        Forked::Parent(child) => child,
    };
    drop((child_end, streams, filter));
    let agent = plan.agent().map(|agent| (agent.clone(), state.clone()));
    Created::joined(child, parent, agent, plan.terminal, || plan.send_filter(ours).map(drop))
}

/// What the child works with.
struct Entered<'a> {
    target: OwnedFd,
    /// Kinds of namespaces that are not the caller's, as flags.
    foreign: i32,
    /// Those of them that are joined already.
    joined: i32,
    /// In the container's user namespace, if that is joined.
    groups_are_fixed: bool,
    /// The OOM score is its parent's.
    has_score: bool,
    entrance: Entrance,
    plan: &'a ProcessPlan,
    manner: Manner,
}

impl Entered<'_> {
    fn run(&self, streams: Option<&Streams>, filter: Option<Socket>, parent: ChildEnd) -> ! {
        let entered = self.isolate().map_err(|e| (Stage::Isolation, e));
        let connected = entered.and_then(|own| match self.connect(streams, &parent) {
            Ok(()) => Ok(own),
            Err(e) => Err((Stage::Console, e)),
        });
        match connected {
            Ok((own, groups_stay)) => {
                let limited = self.in_user_namespace();
                let last = Last { manner: self.manner, limited, groups_stay, filter, ..Last::default() };
                self.plan.become_it(&own, parent, last)
            }
            Err((stage, error)) => {
                parent.send_failure(stage, &error);
                process::exit_now(1)
            }
        }
    }

    fn in_user_namespace(&self) -> bool {
        self.foreign & libc::CLONE_NEWUSER != 0
    }

    /// Its own files, and whether supplementary groups stay what they are.
    fn isolate(&self) -> Result<(OwnFiles, bool)> {
        self.entrance.enter().context("join the container's cgroup")?;
        let inherits = self.has_score || self.in_user_namespace();
        let own = self.plan.open_own_files(inherits)?;
        rustix::process::setsid().map_err(std::io::Error::from).context("start a session")?;
        if !self.manner.keep_keyring {
            process::new_session_keyring().context("make a session keyring")?;
        }
        if self.in_user_namespace() {
            // There will be no right to raise a limit any more, nor to lower the OOM score.
            self.plan.limit(0)?;
            if !self.has_score {
                self.plan.share_oom_score()?;
            }
        }
        let leave =
            |are_fixed: &dyn Fn() -> bool| process::leave_groups(are_fixed).context("leave supplementary groups");
        // Whether the own user namespace lets it is told by a file that is not seen from inside the others.
        let left = if self.in_user_namespace() { None } else { Some(leave(&|| process::groups_are_fixed("self"))?) };
        process::join_namespaces(&self.target, self.foreign & !self.joined)
            .context("join the container's namespaces")?;
        let left = left.map_or_else(|| leave(&|| self.groups_are_fixed), Ok)?;
        if self.in_user_namespace() {
            process::become_user(0, 0, None).context("become root of the container")?;
        }
        Ok((own, !left))
    }

    fn connect(&self, streams: Option<&Streams>, parent: &ChildEnd) -> Result<()> {
        if !self.plan.terminal {
            return streams.map_or(Ok(()), standard::take);
        }
        // We are inside now: the path is the container's, and console::open checks what it leads to.
        let devpts = Dir::open("/").and_then(|root| root.dir_in_root("dev/pts"));
        let devpts = devpts.context("open the container's /dev/pts")?;
        let pair = console::open(&devpts, self.plan.uid(), self.plan.console_size)?;
        console::take(&pair.slave)?;
        parent.send_console(pair.master)
    }
}
