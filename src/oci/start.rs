//! `start`.

use super::create::starting;
use super::log::Log;
use super::record::{Container, DOOR, Status, Store};
use crate::runtime::hooks;
use crate::runtime::launch::Created;
use crate::sys::process::{self, Child};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::ErrorKind;

#[derive(Debug, Args)]
pub struct StartArgs {
    /// The container
    id: String,
}

/// Lets a created container run its program.
pub fn start(store: &Store, args: &StartArgs, log: &Log) -> Result<()> {
    let container = store.find(&args.id)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Running | Status::Paused => bail!("cannot start an already running container"),
    }
    let child = Child { pid: container.record.init_process_pid, pidfd: container.pidfd()? };
    let agent = container.agent()?;
    let agent = agent.map(|agent| (agent, container.state(Status::Created)));
    let created = match Created::at_door(child, container.dir(), DOOR, agent) {
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            bail!("cannot start an already running container")
        }
        other => other.context("knock at the container's door")?,
    };
    begin(&container, &created, log).map_err(starting)
}

/// Has a container that is set up run its program, and runs what is to follow.
pub fn begin(container: &Container, created: &Created, log: &Log) -> Result<()> {
    created.start()?;
    log.debug("init: closing the pipe to signal completion: the program runs");
    let door = container.dir().join(DOOR);
    match std::fs::remove_file(&door) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context("close the container's door"),
        _ => {}
    }
    let poststart = container.hooks()?.poststart;
    if poststart.is_empty() {
        return Ok(());
    }
    hooks::run("poststart", &poststart, &container.state(Status::Running)).inspect_err(|_| {
        // In another's cgroup are others.
        let _ = match container.owns_cgroup() {
            true => container.cgroup().kill_all().map_err(drop),
            false => container.pidfd().and_then(|fd| Ok(process::pidfd_kill(&fd, libc::SIGKILL)?)).map_err(drop),
        };
    })
}
