//! `delete`, and what is left to do when a container is no more.

use super::log::Log;
use super::record::{Container, Status, Store};
use crate::runtime::hooks;
use crate::sys::poll::{self, Interest};
use crate::sys::{errors, process};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The container
    id: String,
    /// Kill it first if it runs; it is no error if it is not there
    #[arg(short, long)]
    force: bool,
}

/// How long a killed process may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a container that has stopped, or was never started.
pub fn delete(store: &Store, args: &DeleteArgs, log: &Log) -> Result<()> {
    let container = match store.find(&args.id) {
        Ok(container) => container,
        Err(error) => return without_record(store, args, error),
    };
    let status = container.status();
    match status {
        Status::Stopped => {}
        Status::Created => kill(&container)?,
        Status::Running | Status::Paused if args.force => kill(&container)?,
        _ => bail!("cannot delete container {} that is not stopped: {status}", args.id),
    }
    destroy(&container, status, log)
}

/// What a killed `create` left has no record; it is only removed by those who insist.
fn without_record(store: &Store, args: &DeleteArgs, error: anyhow::Error) -> Result<()> {
    match (store.folder(&args.id)?, args.force) {
        (Some(dir), true) => store.clear(&dir),
        (None, true) => Ok(()),
        (_, false) => Err(error),
    }
}

fn kill(container: &Container) -> Result<()> {
    let Ok(pidfd) = container.pidfd() else { return Ok(()) };
    process::pidfd_kill(&pidfd, libc::SIGKILL).context("kill the container's first process")?;
    let cgroup = container.cgroup();
    if cgroup.is_frozen() {
        cgroup.freeze(false)?;
    }
    let interest = Interest { fd: pidfd.as_fd(), read: true, write: false };
    if !poll::wait(&[interest], Some(PATIENCE)).context("wait for the container's end")?[0].read {
        bail!("container init still running");
    }
    Ok(())
}

/// Removes everything that belonged to a container whose first process has ended.
pub fn destroy(container: &Container, status: Status, log: &Log) -> Result<()> {
    let cgroup = container.cgroup();
    let is_used = || cgroup.processes().is_ok_and(|others| !others.is_empty());
    let owned = container.owns_cgroup();
    if owned && !container.has_pid_namespace() {
        // The others outlive the first process.
        cgroup.kill_all()?;
    }
    // Those of its pid namespace have ended with the first.
    let are_others = !owned || container.has_pid_namespace();
    let leave = || log.warning(&format!("others are in the cgroup of {}, which stays", container.record.id));
    if are_others && is_used() {
        // Those whose cgroup it is are not waited for; a hierarchy that they are not in is left to nobody.
        for dir in container.record.cgroup_paths.values() {
            let _ = std::fs::remove_dir(dir);
        }
        if owned {
            leave();
        }
    } else if let Err(error) = cgroup.remove() {
        if !is_used() {
            return Err(error);
        }
        leave();
    }
    log.debug(&format!("container {} is deleted; it was {status}", container.record.id));
    forget(container, log)
}

/// Removes what is written down of a container of which nothing else is left.
pub fn forget(container: &Container, log: &Log) -> Result<()> {
    remove_folder(container)?;
    let state = container.state(Status::Stopped);
    // The container is gone already: what goes wrong here is told and changes nothing.
    for hook in container.hooks()?.poststop {
        if let Err(error) = hooks::run("poststop", &[hook], &state) {
            log.warning(&errors::chain(&error));
        }
    }
    Ok(())
}

/// Takes a container away that could not be handed to its caller.
pub fn abandon(container: &Container, log: &Log) {
    let ended = kill(container).and_then(|()| destroy(container, Status::Stopped, log));
    if let Err(error) = ended {
        log.warning(&errors::chain(&error));
    }
}

fn remove_folder(container: &Container) -> Result<()> {
    match std::fs::remove_dir_all(container.dir()) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", container.dir().display())),
    }
}
