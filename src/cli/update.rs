//! `update`.

use super::run_more::{blkio_weight, cpu_period, cpu_quota};
use super::{App, environment, output, values};
use crate::container::containers::Containers;
use crate::container::options::{BlockIo, Resources};
use crate::container::update::Change;
use anyhow::{Result, bail, ensure};
use clap::Args;

/// `update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
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
    /// Set a variable from the next start on (NAME=value, or NAME to copy it from here)
    #[arg(short, long)]
    env: Vec<String>,
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
    /// When to start it again: no, always, unless-stopped, on-failure[:N]
    #[arg(long)]
    restart: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

impl UpdateArgs {
    fn change(&self) -> Result<Change> {
        ensure!(
            self.kernel_memory.is_none(),
            "--kernel-memory is not supported: the kernel has no such limit any more; --memory counts its memory too"
        );
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let nano_cpus = self.cpus.as_deref().map(|c| values::cpus(c, processors)).transpose()?;
        if nano_cpus.is_some_and(|n| n > 0) && (self.cpu_period.is_some() || self.cpu_quota.is_some()) {
            bail!("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set");
        }
        let resources = Resources {
            memory: self.memory.as_deref().map(values::memory_limit).transpose()?,
            memory_swap: self.memory_swap.as_deref().map(values::memory_swap).transpose()?,
            memory_reservation: self.memory_reservation.as_deref().map(values::bytes).transpose()?,
            nano_cpus,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids_limit: self.pids_limit,
            cpu_period: cpu_period(self.cpu_period)?,
            cpu_quota: cpu_quota(self.cpu_quota)?,
            cpu_realtime_period: self.cpu_rt_period,
            cpu_realtime_runtime: self.cpu_rt_runtime,
            block_io: BlockIo { weight: blkio_weight(self.blkio_weight)?, ..BlockIo::default() },
            ..Resources::default()
        };
        let change = Change {
            resources,
            restart: self.restart.as_deref().map(values::restart).transpose()?,
            env: environment::env(&self.env, &[], &|name| std::env::var(name).ok())?,
        };
        ensure!(change != Change::default(), "You must provide one or more flags when using this command.");
        Ok(change)
    }
}

/// `minirun update`.
pub fn run(app: &App, args: &UpdateArgs) -> Result<u8> {
    let change = args.change()?;
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.containers {
        match containers.find(name).and_then(|mut c| c.update(&change)) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}
