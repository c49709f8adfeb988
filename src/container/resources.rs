//! The limits that a user asked for, in the specification's form.

use super::device_requests::Granted;
use super::options::{Resources, RunOptions};
use anyhow::Result;
use oci_spec::runtime as oci;

/// All that a container may use.
pub fn resources(options: &RunOptions, granted: &Granted) -> Result<oci::LinuxResources> {
    let rule = oci::LinuxDeviceCgroupBuilder::default().allow(options.privileged).access("rwm").build()?;
    let mut limits = limits(&options.resources)?;
    limits.set_devices(Some([&[rule], &granted.rules[..]].concat()));
    limits.set_block_io(granted.block_io.clone());
    Ok(limits)
}

/// Those of memory, processor time and processes. Docker's rule for swap: twice the memory, unless said otherwise.
pub fn limits(r: &Resources) -> Result<oci::LinuxResources> {
    let mut out = oci::LinuxResources::default();
    let mut memory = oci::LinuxMemory::default();
    memory.set_limit(r.memory);
    memory.set_swap(r.total_memory());
    memory.set_reservation(r.memory_reservation);
    memory.set_swappiness(r.memory_swappiness);
    memory.set_disable_oom_killer(r.oom_kill_disable.then_some(true));
    out.set_memory(Some(memory).filter(|m| *m != oci::LinuxMemory::default()));
    let mut cpu = oci::LinuxCpu::default();
    cpu.set_period(r.cpu_period);
    cpu.set_quota(r.cpu_quota);
    if let Some(nano) = r.nano_cpus.filter(|n| *n > 0) {
        cpu.set_period(Some(100_000));
        cpu.set_quota(Some(nano / 10_000));
    }
    cpu.set_realtime_period(r.cpu_realtime_period);
    cpu.set_realtime_runtime(r.cpu_realtime_runtime);
    cpu.set_shares(r.cpu_shares);
    cpu.set_cpus(r.cpuset_cpus.clone());
    cpu.set_mems(r.cpuset_mems.clone());
    out.set_cpu(Some(cpu).filter(|c| *c != oci::LinuxCpu::default()));
    if let Some(limit) = r.pids_limit {
        out.set_pids(Some(oci::LinuxPidsBuilder::default().limit(limit).build()?));
    }
    Ok(out)
}

impl Resources {
    /// Bytes of memory and swap together.
    pub fn total_memory(&self) -> Option<i64> {
        self.memory_swap.or(self.memory.map(|m| m.saturating_mul(2)))
    }
}
