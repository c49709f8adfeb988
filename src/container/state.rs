//! What becomes of a container: facts on disk, and the status that follows from them.
//!
//! Nothing stores "running". A container runs if somebody owns its lock; if nobody does but its processes are
//! still on record, its supervisor was killed, and whoever looks first cleans up.

use super::containers::{Container, NoSuchContainer};
use crate::runtime::cgroup::Cgroup;
use crate::sys::file::{Aside, Durability, Ownership, read_limited, write_atomic};
use crate::sys::process::ProcessId;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;

/// `run.json`: the processes of a running container. Lost at a reboot, as they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    /// Its supervisor.
    pub supervisor: ProcessId,
    /// Its first process; `None` before the first start and while it waits for its next one.
    pub init: Option<ProcessId>,
    /// When the program was last started, RFC 3339.
    pub started_at: String,
    /// How often it was restarted by its policy.
    pub restarts: u32,
    /// Its cgroup.
    pub cgroup: String,
    /// The status that it last ended with, while it waits for its next start.
    pub last_exit: Option<i32>,
    /// How it ended, if there was no room on the store's disk to write that down.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// `exit.json`: how a container last ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// As shells show it.
    pub exit_code: i32,
    /// Why it could not be started, or what happened to it.
    pub error: String,
    /// The kernel killed one of its processes for lack of memory.
    pub oom_killed: bool,
    /// RFC 3339, empty if it never ran.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// How often it was restarted by its policy.
    pub restarts: u32,
    /// The user stopped it: it is not started again after a reboot.
    pub by_user: bool,
    /// The host was shut down, or whoever did it wanted so: it may be started again after that.
    #[serde(default)]
    pub interrupted: bool,
}

/// A container's state as users know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never started, or it could not be.
    Created,
    /// Its first process is there.
    Running,
    /// Running, but frozen.
    Paused,
    /// Waiting for its next start.
    Restarting,
    /// Ended.
    Exited,
}

impl Status {
    /// The word that `inspect` and filters use.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }

    /// It has a supervisor.
    pub fn is_up(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }
}

/// A container's status with the facts behind it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The status.
    pub status: Status,
    /// While it is up.
    pub running: Option<Running>,
    /// The last end, also while it is up again.
    pub ended: Option<Ended>,
}

impl Snapshot {
    /// The first process, if the container is running or paused.
    pub fn init(&self) -> Option<ProcessId> {
        self.running.as_ref().and_then(|r| r.init)
    }
}

impl Container {
    /// Looks at the container now, cleaning up after a supervisor that was killed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        for _ in 0..3 {
            let taken = Ownership::is_taken(&self.lock_path()).context("look at the container's lock")?;
            let running = self.running(taken)?;
            // It is not worth losing the container: a power cut may have taken what was in the file.
            let mut ended: Option<Ended> = read_json(&self.dir().join("exit.json"))
                .unwrap_or_else(|error| Some(Ended { error: format!("{error:#}"), ..Ended::default() }));
            let status = match (&running, taken) {
                (Some(r), true) if r.init.is_none() && r.last_exit.is_some() => Status::Restarting,
                (Some(r), true) if r.init.is_some() => {
                    let frozen = Cgroup::at(Path::new(&r.cgroup)).is_ok_and(|c| c.is_frozen());
                    if frozen { Status::Paused } else { Status::Running }
                }
                (_, true) => Status::Created,
                (Some(Running { ended: Some(kept), .. }), false) => {
                    if self.record_kept_end(kept).is_ok() {
                        continue;
                    }
                    ended = Some(kept.clone());
                    ended_status(ended.as_ref())
                }
                (Some(_), false) => {
                    self.clean_up_after_crash()?;
                    continue;
                }
                (None, false) if self.ended_with_host().is_some() => {
                    self.clean_up_after_host()?;
                    continue;
                }
                // Killed in the middle of a start.
                (None, false) if self.state_dir().exists() => {
                    self.clean_up_after_crash()?;
                    continue;
                }
                (None, false) => ended_status(ended.as_ref()),
            };
            let running = if status.is_up() { running } else { None };
            return Ok(Snapshot { status, running, ended });
        }
        bail!("the container {} changes too fast to look at", self.record.name)
    }

    /// What is on record of its processes, while somebody answers for it or not.
    fn running(&self, taken: bool) -> Result<Option<Running>> {
        match read_json(&self.state_dir().join("run.json")) {
            // It is as good as none: nobody is left whom it could tell about.
            Err(_) if !taken => Ok(None),
            other => other,
        }
    }

    /// Ends what a killed supervisor left running and records what is known about it: nothing if it had not come so far
    /// as to write its processes down.
    fn clean_up_after_crash(&self) -> Result<()> {
        let Some(_ownership) = Ownership::take(&self.lock_path()).context("take the container's lock")? else {
            return Ok(());
        };
        // Since we looked it may have been started, and have ended as it should.
        let left = self.running(false)?;
        let has_ended = left.as_ref().is_some_and(|left| left.ended.is_some());
        if has_ended || (left.is_none() && !self.state_dir().exists()) {
            return Ok(());
        }
        let cgroup = match &left {
            Some(left) => Cgroup::at(Path::new(&left.cgroup))?,
            None => self.cgroup()?,
        };
        cgroup.kill_all()?;
        cgroup.remove()?;
        // What it cannot give back now, the networks take from the dead when they need it.
        let _ = self.release_networks();
        let (exit_code, error) = (137, "its supervisor was killed".to_owned());
        let ended = match &left {
            Some(left) => Ended {
                exit_code,
                error,
                started_at: left.started_at.clone(),
                finished_at: now(),
                restarts: left.restarts,
                ..Ended::default()
            },
            None => self.failed_start(exit_code, error),
        };
        self.record_end(&ended)?;
        if left.is_some() {
            self.tell("die", &[("exitCode", exit_code.to_string())]);
        }
        self.forget_running();
        if self.record.options.remove {
            self.remove_files(true)?;
            bail!(NoSuchContainer(self.record.name.clone()));
        }
        Ok(())
    }

    /// The end of a start that did not come so far as to run the program. When that ran before stays known.
    pub(super) fn failed_start(&self, exit_code: i32, error: String) -> Ended {
        let before: Option<Ended> = read_json(&self.dir().join("exit.json")).ok().flatten();
        let before = before.unwrap_or_default();
        let Ended { started_at, finished_at, .. } = before;
        Ended { exit_code, error, started_at, finished_at, ..Ended::default() }
    }

    /// Writes down an end for which there was no room before.
    fn record_kept_end(&self, ended: &Ended) -> Result<()> {
        let Some(_ownership) = Ownership::take(&self.lock_path()).context("take the container's lock")? else {
            return Ok(());
        };
        self.record_end(ended)?;
        self.forget_running();
        Ok(())
    }

    /// Records the end of a run that a shutdown or a power cut has ended.
    fn clean_up_after_host(&self) -> Result<()> {
        let Some(_ownership) = Ownership::take(&self.lock_path()).context("take the container's lock")? else {
            return Ok(());
        };
        self.ended_with_host().map_or(Ok(()), |ended| self.record_end(&ended))
    }

    /// Writes `exit.json`.
    pub(super) fn record_end(&self, ended: &Ended) -> Result<()> {
        let written = self.write_end(ended);
        // Also when there was no room for it: what the user has stopped does not come back.
        self.unmark_up();
        written
    }

    /// The same between two runs, while it still counts as up.
    pub(super) fn write_end(&self, ended: &Ended) -> Result<()> {
        let path = self.dir().join("exit.json");
        let json = serde_json::to_vec(ended).context("write down how it ended")?;
        write_atomic(&path, &json, Durability::Atomic).with_context(|| format!("write {}", path.display()))
    }

    /// Writes `run.json`.
    pub(super) fn record_running(&self, running: &Running) -> Result<()> {
        self.stage_running(running)?.publish().context("write down its processes")
    }

    /// The same for nobody to see yet.
    pub(super) fn stage_running(&self, running: &Running) -> Result<Aside> {
        let path = self.state_dir().join("run.json");
        let json = serde_json::to_vec(running).context("write down its processes")?;
        Aside::holding(&path, &json).with_context(|| format!("write {}", path.display()))
    }

    /// Removes the volatile state, its bundle with it. Can be repeated.
    pub(super) fn forget_running(&self) {
        let dir = self.state_dir();
        for file in ["config.json", "hosts", "hostname", "resolv.conf", "run.json", "socket"] {
            let _ = std::fs::remove_file(dir.join(file));
        }
        // A writer that was killed has left more.
        if std::fs::remove_dir(&dir).is_err() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// Of a container that is not up.
fn ended_status(ended: Option<&Ended>) -> Status {
    if ended.is_some_and(|e| !e.started_at.is_empty()) { Status::Exited } else { Status::Created }
}

/// This moment, RFC 3339 with nanoseconds.
pub fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// Reads a small record; `None` if there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_limited(path, 16 << 20) {
        Ok(data) => {
            let value = serde_json::from_slice(&data).with_context(|| format!("{} is damaged", path.display()))?;
            Ok(Some(value))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}
