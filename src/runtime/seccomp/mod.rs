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
mod agent;
mod program;
mod rules;
#[cfg(test)]
mod tests;

use crate::sys::seccomp::{self, Instruction};
use abi::Abi;
pub use agent::Agent;
use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use std::os::fd::OwnedFd;

/// A filter, ready to be installed.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
    agent: Option<Agent>,
}

/// Needed before and after a filter with a listener is in place, to hand that listener on.
const HANDING_ON: [&str; 1] = ["write"];

impl Filter {
    /// Compiles the filter of a specification.
    ///
    /// # Errors
    /// What the kernel cannot carry out, and a machine that we know no system calls of.
    pub fn compile(spec: &LinuxSeccomp) -> Result<Filter> {
        let host = Abi::native().context("seccomp is not supported on this architecture")?;
        let agent = Agent::from_spec(spec)?;
        Ok(Filter { program: compile_for(spec, host)?, flags: flags(spec, agent.is_some()), agent })
    }

    /// Puts the filter on the calling process, which has no other thread, for good.
    ///
    /// The result is the listener's descriptor if there is one, for the [`Filter::agent`].
    ///
    /// # Errors
    /// What the kernel says: without no_new_privs it takes `CAP_SYS_ADMIN`.
    pub fn install(&self) -> Result<Option<OwnedFd>> {
        seccomp::install(&self.program, self.flags).context("install the seccomp filter")
    }

    /// Who decides about the calls whose action is `SCMP_ACT_NOTIFY`.
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }
}

fn compile_for(spec: &LinuxSeccomp, host: Abi) -> Result<Vec<Instruction>> {
    program::assemble(&rules::policies(spec, host)?)
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
