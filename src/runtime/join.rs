//! A further process in a running container.

use super::cgroup::Cgroup;
use super::console;
use super::handshake::{self, ChildEnd, Stage};
use super::launch::{Created, Streams};
use super::process::{self as own, ProcessPlan};
use crate::sys::dir::Dir;
use crate::sys::process::{self, Forked, ProcessId};
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::fd::OwnedFd;

const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP;

/// Creates a process inside the container whose first process is `init`, up to the moment before its program runs.
///
/// The calling process's further children will be in the container's pid namespace too.
pub fn create(init: ProcessId, cgroup: &Cgroup, plan: &ProcessPlan, streams: Option<Streams>) -> Result<Created> {
    let target = init.open().context("the container is not running")?;
    let entrance = cgroup.open()?;
    process::join_namespaces(&target, libc::CLONE_NEWPID).context("join the container's pid namespace")?;
    // From its first moment the child can be seen from inside the container.
    process::forbid_inspection().context("hide from the container")?;
    let (parent, child_end) = handshake::pair()?;
    let child = match process::fork_into(0, entrance.clone_into()).context("make the process")? {
        Forked::Child => {
            drop(parent);
            let (stage, error) = match enter(&target, &entrance, plan, streams.as_ref(), &child_end) {
                Err(failure) => failure,
                Ok(oom) => plan.become_it(Some(&oom), &child_end),
            };
            child_end.send_failure(stage, &error);
            process::exit_now(1)
        }
        Forked::Parent(child) => child,
    };
    drop((child_end, streams));
    Created::joined(child, parent)
}

fn enter(
    target: &OwnedFd,
    entrance: &super::cgroup::Entrance,
    plan: &ProcessPlan,
    streams: Option<&Streams>,
    parent: &ChildEnd,
) -> Result<File, (Stage, anyhow::Error)> {
    let oom = isolate(target, entrance).map_err(|e| (Stage::Isolation, e))?;
    connect(plan, streams, parent).map_err(|e| (Stage::Console, e))?;
    Ok(oom)
}

fn isolate(target: &OwnedFd, entrance: &super::cgroup::Entrance) -> Result<File> {
    entrance.enter().context("join the container's cgroup")?;
    let oom = own::open_oom_score()?;
    rustix::process::setsid().map_err(std::io::Error::from).context("start a session")?;
    process::new_session_keyring(c"_minirun").context("make a session keyring")?;
    process::join_namespaces(target, NAMESPACES).context("join the container's namespaces")?;
    Ok(oom)
}

fn connect(plan: &ProcessPlan, streams: Option<&Streams>, parent: &ChildEnd) -> Result<()> {
    if let Some(streams) = streams {
        return own::take_streams(streams, plan.uid());
    }
    // We are inside now: the path is the container's, and console::open checks what it leads to.
    let devpts = rustix::fs::open("/dev/pts", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let devpts = Dir::from(devpts.map_err(std::io::Error::from).context("open the container's /dev/pts")?);
    let pair = console::open(&devpts, plan.uid(), plan.console_size)?;
    console::take(&pair.slave)?;
    parent.send_console(pair.master)
}
