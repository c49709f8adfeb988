//! Whoever decides about system calls in a filter's stead.

use super::HANDING_ON;
use crate::runtime::hooks::State;
use crate::sys::socket::send_descriptor;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// A process that listens on a socket for those whose calls it is to decide about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    path: PathBuf,
    metadata: Option<String>,
}

/// What it is told (runtime-spec, "The Container Process State").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Introduction<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a State,
}

impl Agent {
    /// The agent of a filter, if it needs one.
    ///
    /// # Errors
    /// It needs one and names none, or asks for what the agent could not be asked.
    pub fn from_spec(spec: &LinuxSeccomp) -> Result<Option<Agent>> {
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
            (true, Some(path)) => Ok(Some(Agent { path, metadata: spec.listener_metadata().clone() })),
            (true, None) => bail!("SCMP_ACT_NOTIFY needs a listenerPath"),
            (false, _) => Ok(None),
        }
    }

    /// Hands it the listener of the process `pid` of a container.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn introduce(&self, listener: &OwnedFd, pid: i32, state: &State) -> Result<()> {
        let introduction = Introduction {
            oci_version: &state.oci_version,
            fds: ["seccompFd"],
            pid,
            metadata: self.metadata.as_deref(),
            state,
        };
        let words = serde_json::to_vec(&introduction).context("write the state")?;
        send_descriptor(&self.path, &words, listener.as_fd())
            .with_context(|| format!("failed to connect with seccomp agent at {}", self.path.display()))
    }
}
