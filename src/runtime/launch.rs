//! The parent's page: one child in new namespaces, created, then started.

use super::handshake::{self, ParentEnd, Report};
use super::init;
use super::plan::Plan;
use crate::sys::process::{self, Child, Forked};
use anyhow::{Context, Result, anyhow};
use std::os::fd::OwnedFd;

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

/// A first process that is all set up and waits for the word to run the program.
#[derive(Debug)]
pub struct Created {
    /// The process.
    pub child: Child,
    /// The master of its pseudo-terminal, if it has one.
    pub console: Option<OwnedFd>,
    parent: ParentEnd,
}

/// Creates the container of a plan up to the moment before its program runs.
///
/// With a terminal in the plan `streams` is `None`. On failure nothing is left: no process, no cgroup, no mount.
///
/// # Errors
/// A [`handshake::Failure`] for what went wrong inside.
pub fn create(plan: &Plan, streams: Option<Streams>) -> Result<Created> {
    let entrance = plan.cgroup.create(&plan.limits)?;
    let (parent, child_end) = handshake::pair()?;
    let forked = process::fork_into(plan.namespaces, entrance.clone_into());
    let child = match forked.context("make the container's first process") {
        Ok(Forked::Child) => {
            drop(parent);
            init::run(plan, &entrance, streams.as_ref(), &child_end)
        }
        Ok(Forked::Parent(child)) => child,
        Err(error) => {
            let _ = plan.cgroup.remove();
            return Err(error);
        }
    };
    // Only the child may hold its end, or its death would go unnoticed.
    drop((child_end, streams));
    let mut created = Created { child, console: None, parent };
    match created.wait_until_ready() {
        Ok(()) => Ok(created),
        Err(error) => {
            created.abandon();
            let _ = plan.cgroup.remove();
            Err(error)
        }
    }
}

impl Created {
    /// A child made elsewhere that keeps to the same protocol.
    pub(super) fn joined(child: Child, parent: ParentEnd) -> Result<Created> {
        let mut created = Created { child, console: None, parent };
        match created.wait_until_ready() {
            Ok(()) => Ok(created),
            Err(error) => {
                created.abandon();
                Err(error)
            }
        }
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        loop {
            match self.parent.next()? {
                Report::Console(master) => self.console = Some(master),
                Report::Ready => return Ok(()),
                Report::End => return Err(anyhow!("the container's first process died while it was set up")),
            }
        }
    }

    /// Runs the program; returns when execve has succeeded.
    ///
    /// # Errors
    /// A [`handshake::Failure`]; the process is gone and reaped then, the cgroup is the caller's to remove.
    pub fn start(&self) -> Result<()> {
        let result = self.parent.go();
        if result.is_err() {
            self.abandon();
        }
        result
    }

    fn abandon(&self) {
        let _ = process::pidfd_kill(&self.child.pidfd, libc::SIGKILL);
        let _ = process::reap(&self.child.pidfd);
    }
}
