//! Signals to all processes of a cgroup.

use super::{Cgroup, Version, files};
use crate::sys::process;
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

impl Cgroup {
    /// Sends every process in it, and in the cgroups below it, a signal. They are stopped meanwhile, so that none is
    /// missed that is just being made.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.kill_at_once() {
            return Ok(());
        }
        let was_frozen = self.is_frozen();
        // Without a freezer, or with processes that do not come to a halt, it is done as well as it can be.
        let frozen = was_frozen || self.freeze(true).is_ok();
        let pids = self.processes().context("list the processes");
        let mut refused = None;
        for pid in pids.iter().flatten() {
            match process::kill(*pid, signal) {
                Err(e) if e.raw_os_error() != Some(libc::ESRCH) => refused = Some((*pid, e)),
                _ => {}
            }
        }
        // A frozen process does not die before it is thawed.
        if frozen && (!was_frozen || signal == libc::SIGKILL) {
            self.freeze(false)?;
        }
        pids?;
        match refused {
            Some((pid, error)) => Err(error).with_context(|| format!("signal process {pid}")),
            None => Ok(()),
        }
    }

    /// Kills every process in it and in the cgroups below it, until there are none.
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut rounds = 0;
        loop {
            let pids = self.processes().context("list the processes")?;
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("processes in the cgroup {self} do not end");
            }
            // Most often the few that are left die at once; those that make others faster than that are stopped first.
            if rounds % 20 == 19 {
                let _ = self.signal_all(libc::SIGKILL);
            } else if !self.kill_at_once() {
                for pid in pids {
                    let _ = process::kill(pid, libc::SIGKILL);
                }
                if self.is_frozen() {
                    let _ = self.freeze(false);
                }
            }
            rounds += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets the kernel kill all, as it can since Linux 5.14 on version 2; frozen ones too.
    fn kill_at_once(&self) -> bool {
        self.version == Version::V2
            && self.unified().is_ok_and(|member| files::attempt(&member.dir, "cgroup.kill", "1").is_ok())
    }
}
