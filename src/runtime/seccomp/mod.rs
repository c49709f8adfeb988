//! Filters of system calls: `linux.seccomp` of a specification, compiled to the kernel's instructions by code of our own.
//!
//! ```text
//! LinuxSeccomp ──rules──▶ a verdict per ABI and number ──program──▶ instructions ──install──▶ the kernel
//!                 abi: names and numbers
//! ```
//! The meaning is that of runc with libseccomp: rules of one entry's arguments must all hold, a rule without any makes
//! the others of its call void, names that nobody knows are ignored, an architecture that is not listed is killed, and
//! calls newer than all that are named do not exist. Where several rules with arguments match, the first one counts;
//! libseccomp leaves that open.

mod abi;
mod program;
mod rules;
#[cfg(test)]
mod tests;

use crate::sys::seccomp::{self, Instruction};
use abi::Abi;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A filter, ready to be installed.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
    listener: Option<Listener>,
}

/// Who decides about calls whose action is `SCMP_ACT_NOTIFY`.
#[derive(Clone, Debug)]
struct Listener {
    path: PathBuf,
    metadata: Option<String>,
}

/// Needed before and after a filter with a listener is in place, to hand that listener on.
const HANDING_ON: [&str; 2] = ["write", "sendmsg"];

impl Filter {
    /// Compiles the filter of a specification.
    ///
    /// # Errors
    /// What the kernel cannot carry out, and a machine that we know no system calls of.
    pub fn compile(spec: &LinuxSeccomp) -> Result<Filter> {
        let host = Abi::native().context("seccomp is not supported on this architecture")?;
        let listener = listener(spec)?;
        Ok(Filter { program: compile_for(spec, host)?, flags: flags(spec, listener.is_some()), listener })
    }

    /// Puts the filter on the calling process, which has no other thread, for good.
    ///
    /// The result is the listener's descriptor if there is one, see [`Filter::listener_path`].
    ///
    /// # Errors
    /// What the kernel says: without no_new_privs it takes `CAP_SYS_ADMIN`.
    pub fn install(&self) -> Result<Option<OwnedFd>> {
        seccomp::install(&self.program, self.flags).context("install the seccomp filter")
    }

    /// The socket that the listener's descriptor is to be sent to, if a rule needs a listener.
    pub fn listener_path(&self) -> Option<&Path> {
        self.listener.as_ref().map(|l| l.path.as_path())
    }

    /// What is to be sent along with the descriptor.
    pub fn listener_metadata(&self) -> Option<&str> {
        self.listener.as_ref().and_then(|l| l.metadata.as_deref())
    }
}

fn compile_for(spec: &LinuxSeccomp, host: Abi) -> Result<Vec<Instruction>> {
    program::assemble(&rules::policies(spec, host)?)
}

fn listener(spec: &LinuxSeccomp) -> Result<Option<Listener>> {
    if spec.default_action() == LinuxSeccompAction::ScmpActNotify {
        bail!("SCMP_ACT_NOTIFY cannot be used as default action");
    }
    let rules = spec.syscalls().iter().flatten().filter(|s| s.action() == LinuxSeccompAction::ScmpActNotify);
    let mut needed = false;
    for rule in rules {
        needed = true;
        // Until the listener has been handed on nobody could answer.
        if let Some(name) = rule.names().iter().find(|n| HANDING_ON.contains(&n.as_str())) {
            bail!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall");
        }
    }
    let path = spec.listener_path().clone().filter(|p| !p.as_os_str().is_empty());
    match (needed, path) {
        (true, Some(path)) => Ok(Some(Listener { path, metadata: spec.listener_metadata().clone() })),
        (true, None) => bail!("SCMP_ACT_NOTIFY needs a listenerPath"),
        (false, _) => Ok(None),
    }
}

fn flags(spec: &LinuxSeccomp, listens: bool) -> u32 {
    let mut flags = if listens { seccomp::NEW_LISTENER } else { 0 };
    for flag in spec.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => seccomp::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => seccomp::SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync if listens => seccomp::TSYNC | seccomp::TSYNC_ESRCH,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => seccomp::TSYNC,
            // Without a listener nobody ever waits, and the kernel takes the flag only with one.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listens => seccomp::WAIT_KILLABLE_RECV,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    flags
}
