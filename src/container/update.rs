//! Changing what a container may use, and when it is started again; it may be running.

use super::containers::Container;
use super::device_requests::block_io;
use super::options::{Resources, RestartPolicy, RunOptions};
use super::resources::limits;
use crate::runtime::cgroup::Limits;
use crate::runtime::plan::specification;
use crate::sys::errors;
use crate::sys::file::{Durability, Ownership, write_atomic};
use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::LinuxResources;

/// What is to be changed; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Limits.
    pub resources: Resources,
    /// The restart policy.
    pub restart: Option<RestartPolicy>,
    /// Variables, for the next start: `NAME=value`, and `NAME` alone to take one away.
    pub env: Vec<String>,
}

impl Change {
    /// Changes what is recorded; returns what was, and the limits to set.
    fn record(&self, options: &mut RunOptions) -> Result<(RunOptions, LinuxResources)> {
        let before = options.clone();
        let wanted = merged(&options.resources, &self.resources)?;
        let mut new = limits(&wanted)?;
        if self.resources.block_io.weight.is_some() {
            new.set_block_io(block_io(&wanted.block_io)?);
        }
        options.resources = wanted;
        options.restart = self.restart.unwrap_or(options.restart);
        super::compose::add_environment(&mut options.env, &self.env);
        Ok((before, new))
    }
}

impl Container {
    /// Changes its record, and if it is up its cgroup and its bundle.
    ///
    /// # Errors
    /// Limits that contradict each other or those that it has; then nothing is changed.
    pub fn update(&mut self, change: &Change) -> Result<()> {
        let what = format!("Cannot update container {}", self.record.id);
        if self.record.options.remove && change.restart.is_some_and(|r| r != RestartPolicy::No) {
            bail!("{what}: Restart policy cannot be updated because AutoRemove is enabled for the container");
        }
        let (before, new) = self.rewrite(|record| change.record(&mut record.options)).context(what.clone())?;
        let to_set = Limits::from_spec(&new);
        let applied = match self.snapshot()?.init() {
            Some(_) => to_set.and_then(|to_set| self.apply(&new, &to_set)),
            None => to_set.map(drop),
        };
        if let Err(error) = applied {
            self.rewrite(|record| {
                let now = &mut record.options;
                (now.resources, now.restart, now.env) = (before.resources, before.restart, before.env);
                Ok(())
            })?;
            return Err(error.context(what));
        }
        self.mark_anew(change)?;
        self.tell("update", &[]);
        Ok(())
    }

    /// The mark that tells of a run when the host has gone down.
    fn mark_anew(&self, change: &Change) -> Result<()> {
        if let (Some(_), Some(running)) = (change.restart, self.snapshot()?.running) {
            self.unmark_up();
            self.mark_up(&running.started_at)?;
            // It may have ended meanwhile, and who has its lock takes the mark away only once.
            if !Ownership::is_taken(&self.lock_path()).context("look at the container's lock")? {
                self.unmark_up();
            }
        }
        Ok(())
    }

    fn apply(&self, new: &LinuxResources, to_set: &Limits) -> Result<()> {
        self.cgroup()?.update(to_set)?;
        // From which its supervisor starts it again.
        let path = self.bundle().join("config.json");
        let mut spec = match specification(&self.bundle()) {
            Err(e) if errors::errno(&e) == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        };
        if let Some(linux) = spec.linux_mut() {
            let mut all = linux.resources().clone().unwrap_or_default();
            all.set_memory(*new.memory()).set_cpu(new.cpu().clone()).set_pids(*new.pids());
            if let Some(block_io) = new.block_io() {
                all.set_block_io(Some(block_io.clone()));
            }
            linux.set_resources(Some(all));
        }
        let json = serde_json::to_vec(&spec).context("write the bundle's config.json")?;
        write_atomic(&path, &json, Durability::Atomic).with_context(|| format!("write {}", path.display()))
    }
}

/// The limits that a container has afterwards.
fn merged(old: &Resources, change: &Resources) -> Result<Resources> {
    let mut new = old.clone();
    if let Some(memory) = change.memory {
        let total = change.memory_swap.or(old.total_memory()).unwrap_or(0);
        ensure!(
            total <= 0 || memory <= total,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        );
        // What was twice the old memory stays what it was, as long as there was a limit.
        new.memory_swap = change.memory_swap.or(old.total_memory());
        new.memory = Some(memory);
    } else if let Some(swap) = change.memory_swap {
        let memory = old.memory.unwrap_or(0);
        ensure!(
            memory > 0 || swap <= 0,
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        ensure!(swap <= 0 || swap >= memory, "Minimum memoryswap limit should be larger than memory limit, see usage");
        new.memory_swap = Some(swap);
    }
    let cfs = change.cpu_period.is_some() || change.cpu_quota.is_some();
    let old_nano = old.nano_cpus.is_some_and(|n| n > 0);
    let old_cfs = old.cpu_period.is_some() || old.cpu_quota.is_some();
    ensure!(
        !(cfs && old_nano),
        "Conflicting options: CPU Period and Quota cannot be updated as NanoCPUs has already been set"
    );
    let new_nano = change.nano_cpus.is_some_and(|n| n > 0);
    ensure!(
        !(new_nano && old_cfs),
        "Conflicting options: Nano CPUs cannot be updated as CPU Period or Quota has already been set"
    );
    macro_rules! take {
        ($($field:ident),*) => { $(if change.$field.is_some() { new.$field.clone_from(&change.$field); })* };
    }
    take!(
        memory_reservation,
        nano_cpus,
        cpu_shares,
        cpuset_cpus,
        cpuset_mems,
        pids_limit,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime
    );
    if change.block_io.weight.is_some() {
        new.block_io.weight = change.block_io.weight;
    }
    if let (Some(memory), Some(reservation)) = (new.memory, new.memory_reservation) {
        ensure!(
            memory <= 0 || reservation <= memory,
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        );
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory: Option<i64>, memory_swap: Option<i64>) -> Resources {
        Resources { memory, memory_swap, ..Resources::default() }
    }

    #[test]
    fn memory_never_exceeds_memory_and_swap() {
        let old = memory(Some(100), None);
        assert_eq!(merged(&old, &memory(Some(200), None)).unwrap(), memory(Some(200), Some(200)));
        assert!(merged(&old, &memory(Some(201), None)).unwrap_err().to_string().contains("already set memoryswap"));
        assert_eq!(merged(&old, &memory(Some(300), Some(-1))).unwrap(), memory(Some(300), Some(-1)));
        assert!(merged(&old, &memory(None, Some(99))).is_err());
        assert_eq!(merged(&Resources::default(), &memory(Some(7), None)).unwrap(), memory(Some(7), None));
        assert!(merged(&Resources::default(), &memory(None, Some(7))).is_err());
    }
}
