//! The flags of limits, which `run` and `create` set and `update` changes.

use super::values;
use crate::container::options::{BlockIo, Resources};
use anyhow::{Result, bail, ensure};
use clap::Args;

/// What a container may use.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Relative share of disk time (10 to 1000)
    #[arg(long)]
    blkio_weight: Option<u16>,
    /// Microseconds of a period of processor time
    #[arg(long)]
    cpu_period: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The same two for real-time processes (cgroup version 1)
    #[arg(long, hide = true)]
    cpu_rt_period: Option<u64>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Relative share of processor time (2 to 262144)
    #[arg(short = 'c', long)]
    cpu_shares: Option<u64>,
    /// Number of processors, such as 1.5
    #[arg(long)]
    cpus: Option<String>,
    /// Processors to run on (0-3, 0,1)
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3, 0,1)
    #[arg(long)]
    cpuset_mems: Option<String>,
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
    /// Memory limit (bytes, or with k, m, g)
    #[arg(short, long)]
    memory: Option<String>,
    /// Soft memory limit
    #[arg(long)]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 is without limit
    #[arg(long, allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Limit of processes; -1 is without limit
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
}

impl LimitArgs {
    /// What the flags mean.
    ///
    /// # Errors
    /// Values out of their range, and two flags for the same thing.
    pub fn resources(&self) -> Result<Resources> {
        ensure!(
            self.kernel_memory.is_none(),
            "--kernel-memory is not supported: the kernel has no such limit any more; --memory counts its memory too"
        );
        // Counting the processors costs more than all else here.
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let nano_cpus = self.cpus.as_deref().map(|c| values::cpus(c, processors())).transpose()?;
        if nano_cpus.is_some_and(|n| n > 0) {
            ensure!(self.cpu_period.is_none(), "Conflicting options: Nano CPUs and CPU Period cannot both be set");
            ensure!(self.cpu_quota.is_none(), "Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        Ok(Resources {
            memory: self.memory.as_deref().map(values::memory_limit).transpose()?,
            memory_swap: self.memory_swap.as_deref().map(values::memory_swap).transpose()?,
            memory_reservation: self.memory_reservation.as_deref().map(values::bytes).transpose()?,
            nano_cpus: nano_cpus.filter(|n| *n != 0),
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids_limit: self.pids_limit,
            cpu_period: cpu_period(self.cpu_period)?,
            cpu_quota: cpu_quota(self.cpu_quota)?,
            cpu_realtime_period: self.cpu_rt_period.filter(|n| *n != 0),
            cpu_realtime_runtime: self.cpu_rt_runtime.filter(|n| *n != 0),
            block_io: BlockIo { weight: blkio_weight(self.blkio_weight)?, ..BlockIo::default() },
            ..Resources::default()
        })
    }

    /// The same for a new container, where nothing is known of it but what the flags say.
    ///
    /// # Errors
    /// As [`LimitArgs::resources`], and a limit of memory and swap that is none without, or below, that of memory.
    pub fn of_new_container(&self) -> Result<Resources> {
        let resources = self.resources()?;
        match (resources.memory, resources.memory_swap) {
            (None, Some(swap)) if swap > 0 => {
                bail!("You should always set the Memory limit when using Memoryswap limit")
            }
            (Some(m), Some(swap)) if (0..m).contains(&swap) => {
                bail!("Minimum memoryswap limit should be larger than memory limit, see usage")
            }
            _ => Ok(resources),
        }
    }
}

/// Zero is nothing, here and below.
fn blkio_weight(weight: Option<u16>) -> Result<Option<u16>> {
    ensure!(matches!(weight, None | Some(0 | 10..=1000)), "Range of blkio weight is from 10 to 1000");
    Ok(weight.filter(|w| *w != 0))
}

fn cpu_period(period: Option<u64>) -> Result<Option<u64>> {
    let fits = matches!(period, None | Some(0 | 1000..=1_000_000));
    ensure!(fits, "CPU cfs period cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    Ok(period.filter(|p| *p != 0))
}

fn cpu_quota(quota: Option<i64>) -> Result<Option<i64>> {
    ensure!(!matches!(quota, Some(1..1000)), "CPU cfs quota cannot be less than 1ms (i.e. 1000)");
    Ok(quota.filter(|q| *q != 0))
}
