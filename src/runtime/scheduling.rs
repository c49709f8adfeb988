//! Scheduling, processors, input and output priority, and execution domain of a process.

use crate::sys::schedule::{self, Scheduling};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process,
    Scheduler,
};

/// What a process asks for beyond the kernel's defaults.
#[derive(Clone, Debug, Default)]
pub struct Treatment {
    scheduling: Option<Scheduling>,
    io_priority: Option<(u32, u32)>,
    /// Before and after a process that joins a container is in its cgroup.
    affinity: [Option<Vec<usize>>; 2],
    domain: Option<u32>,
}

impl Treatment {
    /// Understands the parts of a process's specification that are about this.
    ///
    /// # Errors
    /// Values out of their ranges.
    pub fn from_spec(process: &Process) -> Result<Treatment> {
        let affinity = process.exec_cpu_affinity().as_ref();
        let list = |text: Option<&String>| text.map(|t| processors(t)).transpose().context("execCPUAffinity");
        Ok(Treatment {
            scheduling: process.scheduler().as_ref().map(scheduling).transpose().context("process.scheduler")?,
            io_priority: process.io_priority().map(|p| io_priority(p.class(), p.priority())).transpose()?,
            affinity: [
                list(affinity.and_then(|a| a.initial().as_ref()))?,
                list(affinity.and_then(|a| a.cpu_affinity_final().as_ref()))?,
            ],
            domain: None,
        })
    }

    /// With an execution domain.
    ///
    /// # Errors
    /// Flags, which the specification knows none of.
    pub fn with_personality(self, personality: Option<&LinuxPersonality>) -> Result<Treatment> {
        const PER_LINUX32: u32 = 0x0008;
        let Some(personality) = personality else { return Ok(self) };
        if personality.flags().iter().flatten().next().is_some() {
            bail!("linux.personality.flags are not supported");
        }
        let domain = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
        };
        Ok(Treatment { domain: Some(domain), ..self })
    }

    /// Applies what counts before a joining process is in the container's cgroup.
    pub fn begin(&self) -> Result<()> {
        self.affinity[0].as_deref().map_or(Ok(()), affine)
    }

    /// Applies the rest to the calling process, while it still may.
    pub fn apply(&self) -> Result<()> {
        if let Some(processors) = &self.affinity[1] {
            affine(processors)?;
        }
        if let Some(scheduling) = &self.scheduling {
            schedule::set_scheduling(scheduling).with_context(|| format!("set the scheduling {scheduling:?}"))?;
        }
        if let Some((class, level)) = self.io_priority {
            schedule::set_io_priority(class, level).context("set the input and output priority")?;
        }
        if let Some(domain) = self.domain {
            schedule::set_personality(domain).context("set the execution domain")?;
        }
        Ok(())
    }
}

fn affine(processors: &[usize]) -> Result<()> {
    schedule::set_affinity(processors).with_context(|| format!("set the processors {processors:?}"))
}

fn io_priority(class: IOPriorityClass, level: i64) -> Result<(u32, u32)> {
    let class = match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(level) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => bail!("process.ioPriority: {level} is not between 0 and 7"),
    }
}

fn scheduling(spec: &Scheduler) -> Result<Scheduling> {
    let policy = match spec.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => bail!("the kernel has no policy SCHED_ISO"),
    };
    let flags = spec.flags().iter().flatten().fold(0, |all, f| all | flag(*f));
    let priority = spec.priority().unwrap_or(0);
    let nice = spec.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        bail!("a nice value of {nice}");
    }
    Ok(Scheduling {
        policy: policy as u32,
        flags,
        nice,
        priority: u32::try_from(priority).map_err(|_| anyhow!("a priority of {priority}"))?,
        runtime: spec.runtime().unwrap_or(0),
        deadline: spec.deadline().unwrap_or(0),
        period: spec.period().unwrap_or(0),
    })
}

fn flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => libc::SCHED_FLAG_RESET_ON_FORK as u64,
        LinuxSchedulerFlag::SchedFlagReclaim => libc::SCHED_FLAG_RECLAIM as u64,
        LinuxSchedulerFlag::SchedFlagDLOverrun => libc::SCHED_FLAG_DL_OVERRUN as u64,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => libc::SCHED_FLAG_KEEP_POLICY as u64,
        LinuxSchedulerFlag::SchedFlagKeepParams => libc::SCHED_FLAG_KEEP_PARAMS as u64,
        // The specification has no fields for their values; other runtimes give 0, too.
        LinuxSchedulerFlag::SchedFlagUtilClampMin => libc::SCHED_FLAG_UTIL_CLAMP_MIN as u64,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => libc::SCHED_FLAG_UTIL_CLAMP_MAX as u64,
    }
}

/// A list like `0-3,5`.
fn processors(list: &str) -> Result<Vec<usize>> {
    const HIGHEST: usize = 8191;
    let number = |text: &str| match text.trim().parse::<usize>() {
        Ok(n) if n <= HIGHEST => Ok(n),
        _ => bail!("{list:?} is not a list of processors"),
    };
    let mut all = Vec::new();
    for part in list.split(',').filter(|p| !p.trim().is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        all.extend(number(from)?..=number(to)?);
    }
    if all.is_empty() {
        bail!("{list:?} names no processor");
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_numbers_and_ranges() {
        assert_eq!(processors("0-2,5").unwrap(), [0, 1, 2, 5]);
        for bad in ["", "x", "1-", "99999999", "3-1"] {
            assert!(processors(bad).is_err(), "{bad}");
        }
    }
}
