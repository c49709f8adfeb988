//! The child's page: from clone3 to execve, a flat list of steps.

use super::cgroup::Entrance;
use super::handshake::{ChildEnd, Stage};
use super::launch::Streams;
use super::plan::Plan;
use super::rootfs::Rootfs;
use super::{console, process as own, rootfs};
use crate::sys::{net, process};
use anyhow::{Context, Result};
use std::fs::File;

/// Runs as the container's first process. Never returns: it becomes the program, or reports and exits.
pub fn run(plan: &Plan, entrance: &Entrance, streams: Option<&Streams>, parent: &ChildEnd) -> ! {
    let (stage, error) = match set_up(plan, entrance, streams, parent) {
        Err(failure) => failure,
        Ok(oom) => plan.process.become_it(Some(&oom), parent),
    };
    parent.send_failure(stage, &error);
    process::exit_now(1)
}

fn set_up(
    plan: &Plan,
    entrance: &Entrance,
    streams: Option<&Streams>,
    parent: &ChildEnd,
) -> Result<File, (Stage, anyhow::Error)> {
    isolate(plan, entrance).map_err(|e| (Stage::Isolation, e))?;
    let oom = own::open_oom_score().map_err(|e| (Stage::Isolation, e))?;
    let root = build(plan).map_err(|e| (Stage::Rootfs, e))?;
    connect(plan, &root, streams, parent).map_err(|e| (Stage::Console, e))?;
    rootfs::enter(plan, &root).map_err(|e| (Stage::Rootfs, e))?;
    Ok(oom)
}

/// The cgroup first: everything from here on counts against the container's limits.
fn isolate(plan: &Plan, entrance: &Entrance) -> Result<()> {
    entrance.enter().context("join the cgroup")?;
    if plan.cgroup_namespace {
        process::unshare(libc::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
    }
    rustix::process::setsid().map_err(std::io::Error::from).context("start a session")?;
    // The engine's own umask must not change the modes that are asked for below.
    process::set_umask(0);
    process::new_session_keyring(c"_minirun").context("make a session keyring")?;
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name).with_context(|| format!("set the host name {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        let name = name.as_bytes();
        rustix::system::setdomainname(name).map_err(std::io::Error::from).context("set the domain name")?;
    }
    if plan.namespaces & libc::CLONE_NEWNET as u64 != 0 {
        net::loopback_up().context("bring up the loopback interface")?;
    }
    Ok(())
}

fn build(plan: &Plan) -> Result<Rootfs> {
    let root = rootfs::assemble(plan)?;
    rootfs::make_directory(&root, plan.process.cwd()).context("make the working directory")?;
    Ok(root)
}

fn connect(plan: &Plan, root: &Rootfs, streams: Option<&Streams>, parent: &ChildEnd) -> Result<()> {
    if let Some(streams) = streams {
        return own::take_streams(streams, plan.process.uid());
    }
    let devpts = root.devpts.as_ref().context("a terminal needs a devpts at /dev/pts")?;
    let pair = console::open(devpts, plan.process.uid(), plan.process.console_size)?;
    console::show_as_dev_console(root, &pair.slave)?;
    console::take(&pair.slave)?;
    parent.send_console(pair.master)
}
