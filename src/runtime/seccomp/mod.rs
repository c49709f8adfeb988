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
use crate::sys::socket::Socket;
use abi::Abi;
pub use agent::Agent;
use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;

/// A filter, ready to be installed. Written down, it is for this kind of machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Filter {
    #[serde(with = "text")]
    program: Vec<Instruction>,
    flags: u32,
    agent: Option<Agent>,
}

/// A filter that is yet to be compiled: by a parent, while its child sets itself up, and then sent there.
#[derive(Clone, Debug)]
pub struct Draft {
    spec: LinuxSeccomp,
    agent: Option<Agent>,
}

impl Draft {
    /// The filter of a specification.
    ///
    /// # Errors
    /// A machine that we know no system calls of; an agent that is needed and not there.
    pub fn of(spec: LinuxSeccomp) -> Result<Draft> {
        Abi::native().context(UNSUPPORTED)?;
        Ok(Draft { agent: Agent::from_spec(&spec)?, spec })
    }

    /// See [`Filter::compile`].
    pub fn compile(&self) -> Result<Filter> {
        Filter::compile(&self.spec)
    }

    /// See [`Filter::agent`].
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// The filter that a parent has compiled of it and sent by [`Filter::send`].
    ///
    /// # Errors
    /// The parent is gone.
    pub fn receive(&self, from: &Socket) -> Result<Filter> {
        let (bytes, _) = from.receive_message().context("receive the seccomp filter")?;
        let program =
            program::from_bytes(&bytes).filter(|program| !program.is_empty()).context("the parent is gone")?;
        Ok(Filter { program, flags: flags(&self.spec, self.agent.is_some()), agent: self.agent.clone() })
    }
}

const UNSUPPORTED: &str = "seccomp is not supported on this architecture";

/// Instructions as base64.
mod text {
    use super::{Instruction, program};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(program: &[Instruction], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(program::to_bytes(program)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Instruction>, D::Error> {
        let bytes = BASE64.decode(String::deserialize(from)?).map_err(D::Error::custom)?;
        program::from_bytes(&bytes).ok_or_else(|| D::Error::custom("a filter ends in the middle of an instruction"))
    }
}

/// Needed before and after a filter with a listener is in place, to hand that listener on.
const HANDING_ON: [&str; 1] = ["write"];

impl Filter {
    /// Compiles the filter of a specification.
    ///
    /// # Errors
    /// What the kernel cannot carry out, and a machine that we know no system calls of.
    pub fn compile(spec: &LinuxSeccomp) -> Result<Filter> {
        let host = Abi::native().context(UNSUPPORTED)?;
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

    /// Sends its program to a child that has the [`Draft`], in one message, which waits there for it.
    ///
    /// # Errors
    /// The child is gone.
    pub fn send(&self, to: &Socket) -> io::Result<()> {
        to.send(&program::to_bytes(&self.program))
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
