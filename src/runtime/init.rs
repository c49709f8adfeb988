//! The child's page: from clone3 to execve, a flat list of steps.

use super::cgroup::Entrance;
use super::handshake::{ChildEnd, Stage};
use super::hooks::{self, State};
use super::launch::Inheritance;
use super::plan::Plan;
use super::process::{Last, OwnFiles};
use super::rootfs::Rootfs;
use super::{console, namespaces, rootfs, sources, streams};
use crate::sys::{net, process};
use anyhow::{Context, Result};

type Failed = (Stage, anyhow::Error);

/// Runs as the container's first process. Never returns: it becomes the program, or reports and exits.
pub(super) fn run(plan: &Plan, mut inheritance: Inheritance, parent: ChildEnd) -> ! {
    match set_up(plan, &mut inheritance, &parent) {
        Ok(Ready { own, state, groups_stay }) => {
            let hooks = plan.hooks.start_container.as_slice();
            let last = Last {
                manner: plan.manner,
                limited: plan.namespaces.has(libc::CLONE_NEWUSER),
                groups_stay,
                door: inheritance.door.take(),
                filter: inheritance.filter.take(),
                hooks: (!hooks.is_empty()).then_some((hooks, &state)),
            };
            plan.process.become_it(&own, parent, last)
        }
        Err((stage, error)) => {
            parent.send_failure(stage, &error);
            process::exit_now(1)
        }
    }
}

/// What is left to do the last steps with.
struct Ready {
    own: OwnFiles,
    state: State,
    groups_stay: bool,
}

fn set_up(plan: &Plan, inheritance: &mut Inheritance, parent: &ChildEnd) -> Result<Ready, Failed> {
    // While our own files in /proc belong to us.
    let own = plan.process.open_own_files(inheritance.has_score).map_err(|e| (Stage::Isolation, e))?;
    let groups_stay = isolate(plan, &inheritance.entrance, parent).map_err(|e| (Stage::Isolation, e))?;
    // The engine's own umask must not change the modes that are asked for below.
    let umask = process::set_umask(0);
    let opened = inheritance.sources.take();
    let root = build(plan, opened).map_err(|e| (Stage::Rootfs, e))?;
    connect(plan, &root, inheritance, parent).map_err(|e| (Stage::Console, e))?;
    process::set_umask(umask);
    let state = attend(plan, &root, inheritance.attended, parent).map_err(|e| (Stage::Hooks, e))?;
    rootfs::enter(plan, &root).map_err(|e| (Stage::Rootfs, e))?;
    Ok(Ready { own, state, groups_stay })
}

/// The cgroup first: everything from here on counts against the container's limits. Whether supplementary groups stay
/// what they are.
fn isolate(plan: &Plan, entrance: &Entrance, parent: &ChildEnd) -> Result<bool> {
    entrance.enter().context("join the cgroup")?;
    let n = &plan.namespaces;
    if n.maps.is_some() {
        parent.wait_for_maps()?;
    }
    if n.cgroup {
        process::unshare(libc::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
    }
    if let Some(offsets) = &n.time {
        namespaces::enter_time(offsets)?;
    }
    // Until here an ordinary user's child needs its own files in /proc; his parent may take a listener from it only if it
    // does not hide.
    if plan.process.agent().is_none() {
        process::forbid_inspection().context("hide from other containers")?;
    }
    let groups_stay =
        !process::leave_groups(|| process::groups_are_fixed("self")).context("leave supplementary groups")?;
    if n.has(libc::CLONE_NEWUSER) {
        process::become_user(0, 0, None).context("become root of the user namespace")?;
    }
    if n.later() != 0 {
        process::unshare(n.later()).context("make the container's other namespaces")?;
    }
    rustix::process::setsid().map_err(std::io::Error::from).context("start a session")?;
    if !plan.manner.keep_keyring {
        process::new_session_keyring().context("make a session keyring")?;
    }
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name).with_context(|| format!("set the host name {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        let name = name.as_bytes();
        rustix::system::setdomainname(name).map_err(std::io::Error::from).context("set the domain name")?;
    }
    if n.makes(libc::CLONE_NEWNET) {
        net::loopback_up().context("bring up the loopback interface")?;
    }
    Ok(groups_stay)
}

fn build(plan: &Plan, opened: Option<sources::Sources>) -> Result<Rootfs> {
    let root = rootfs::assemble(plan, opened)?;
    rootfs::make_directory(&root, plan.process.cwd()).context("make the working directory")?;
    Ok(root)
}

fn connect(plan: &Plan, root: &Rootfs, inheritance: &Inheritance, parent: &ChildEnd) -> Result<()> {
    if !plan.process.terminal {
        return inheritance.streams.as_ref().map_or(Ok(()), streams::take);
    }
    // Below a /dev of the host's there is the host's.
    let found = root.devpts.is_none().then(|| root.root.dir_in_root("dev/pts")).transpose();
    let found = found.context("a terminal needs a devpts at /dev/pts")?;
    let devpts = root.devpts.as_ref().or(found.as_ref()).context("a terminal needs a devpts at /dev/pts")?;
    let pair = console::open(devpts, plan.process.uid(), plan.process.console_size)?;
    console::show_as_dev_console(root, &pair.slave)?;
    console::take(&pair.slave)?;
    parent.send_console(pair.master)
}

/// The container is there; its hooks are run before anything of it is entered. They are told the number that this process
/// has in the container (runtime-spec, "State").
fn attend(plan: &Plan, root: &Rootfs, attended: bool, parent: &ChildEnd) -> Result<State> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut state = State { pid, ..plan.state.clone() };
    if attended {
        parent.ask_attendance()?;
        // What these name relatively, they look for in the container.
        rustix::process::fchdir(&root.root).map_err(std::io::Error::from).context("change to the root file system")?;
        hooks::run("createContainer", &plan.hooks.create_container, &state)?;
    }
    state.status = "created";
    Ok(state)
}
