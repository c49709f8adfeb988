//! What is to be started again when the host comes up, or after its supervisors were ended.
//!
//! A container that may be has the file `up` in its folder while it runs: when the host has gone down, that is all that
//! is left of the run.

use super::containers::Container;
use super::options::RestartPolicy;
use super::state::{Ended, Snapshot, Status, now};
use crate::sys::file::{Durability, write_atomic};
use anyhow::{Context, Result};
use jiff::Timestamp;
use std::path::PathBuf;

impl Container {
    fn up_path(&self) -> PathBuf {
        self.dir().join("up")
    }

    /// Marks it as running, if that matters to its policy. Its lock is the caller's.
    pub(super) fn mark_up(&self, started_at: &str) -> Result<()> {
        if self.record.options.restart == RestartPolicy::No {
            return Ok(());
        }
        let path = self.up_path();
        match write_atomic(&path, started_at.as_bytes(), Durability::Synced) {
            // That of the run before does as well.
            Err(_) if path.exists() => Ok(()),
            written => written.with_context(|| format!("write {}", path.display())),
        }
    }

    /// Takes the mark away. Can be repeated.
    pub(super) fn unmark_up(&self) {
        let _ = std::fs::remove_file(self.up_path());
    }

    /// How a run ended of which only the mark is left. Its lock is nobody's.
    pub(super) fn ended_with_host(&self) -> Option<Ended> {
        if self.record.options.restart == RestartPolicy::No {
            return None;
        }
        Some(Ended {
            exit_code: 255,
            error: "the host went down while it ran".into(),
            started_at: self.marked_at()?,
            finished_at: now(),
            interrupted: true,
            ..Ended::default()
        })
    }

    /// When the mark was made. A power cut may have taken what was in it.
    fn marked_at(&self) -> Option<String> {
        let path = self.up_path();
        let made: Timestamp = std::fs::metadata(&path).ok()?.modified().ok()?.try_into().ok()?;
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        Some(if written.parse::<Timestamp>().is_ok() { written } else { format!("{made:.9}") })
    }

    /// Whether its policy says that it is to be started when the host comes up.
    pub fn comes_back(&self, snapshot: &Snapshot) -> bool {
        let Some(ended) = snapshot.ended.as_ref().filter(|_| snapshot.status == Status::Exited) else { return false };
        match self.record.options.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !ended.by_user,
            RestartPolicy::OnFailure(limit) => {
                !ended.by_user && ended.exit_code != 0 && (limit == 0 || ended.restarts < limit)
            }
        }
    }
}
