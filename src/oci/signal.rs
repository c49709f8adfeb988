//! `kill`, `pause` and `resume`.

use super::record::{Container, Status, Store};
use crate::sys::{process, signal};
use anyhow::{Context, Result, bail};
use clap::Args;

#[derive(Debug, Args)]
pub struct KillArgs {
    /// The container
    id: String,
    /// The signal, by name or number
    #[arg(default_value = "SIGTERM")]
    signal: String,
    /// To every process of the container
    #[arg(short, long)]
    all: bool,
}

/// Sends a signal.
pub fn kill(store: &Store, args: &KillArgs) -> Result<()> {
    let container = store.find(&args.id)?;
    let signal = match args.signal.as_str() {
        // Only asks whether there is somebody.
        "0" => Some(0),
        name => signal::number(name),
    };
    let signal = signal.with_context(|| format!("unknown signal {:?}", args.signal))?;
    let status = container.status();
    if args.all {
        return match status {
            // There may be nobody left to get it.
            Status::Stopped if !container.cgroup().exists() => Ok(()),
            _ => send_all(&container, signal),
        };
    }
    if status == Status::Stopped {
        bail!("container not running");
    }
    process::pidfd_kill(container.pidfd()?, signal).with_context(|| format!("send signal {signal}"))?;
    if signal == libc::SIGKILL && status == Status::Paused {
        // What does not run does not die.
        container.cgroup().freeze(false)?;
    }
    Ok(())
}

fn send_all(container: &Container, signal: i32) -> Result<()> {
    let cgroup = container.cgroup();
    if cgroup.is_nowhere() {
        let others = container.processes().context("list the container's processes")?;
        return others.into_iter().try_for_each(|pid| match process::kill(pid, signal) {
            // Who has ended meanwhile has no use for it.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.with_context(|| format!("signal process {pid}")),
        });
    }
    cgroup.signal_all(signal)?;
    if signal == libc::SIGKILL && cgroup.is_frozen() {
        cgroup.freeze(false)?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The container
    id: String,
}

/// Stops all processes for a while.
pub fn pause(store: &Store, args: &PauseArgs) -> Result<()> {
    let container = store.find(&args.id)?;
    match container.status() {
        Status::Created | Status::Running => container.cgroup().freeze(true),
        status => bail!("container not running or created: {status}"),
    }
}

/// Lets them go on.
pub fn resume(store: &Store, args: &PauseArgs) -> Result<()> {
    let container = store.find(&args.id)?;
    match container.status() {
        Status::Paused => container.cgroup().freeze(false),
        _ => bail!("container not paused"),
    }
}
