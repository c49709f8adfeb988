//! What a running container uses at one moment.

use super::containers::Container;
use super::options::NetworkMode;
use crate::runtime::cgroup::stats::BlkioEntry;
use anyhow::Result;
use std::time::Instant;

/// Sums since the container was started, and what it has now.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Bytes now, without what the kernel could drop at once.
    pub memory: u64,
    /// Bytes at most; the host's memory if that is less.
    pub memory_limit: u64,
    /// Bytes received and sent by its own interfaces.
    pub network: (u64, u64),
    /// Bytes read from and written to block devices.
    pub disk: (u64, u64),
    /// Processes and threads now.
    pub tasks: u64,
}

impl Sample {
    /// Percent of one processor that was used since an earlier sample.
    pub fn cpu_percent(&self, earlier: &Sample) -> f64 {
        let time = self.at.saturating_duration_since(earlier.at).as_nanos();
        if time == 0 { 0.0 } else { self.cpu.saturating_sub(earlier.cpu) as f64 * 100.0 / time as f64 }
    }

    /// Percent of the limit.
    pub fn memory_percent(&self) -> f64 {
        if self.memory_limit == 0 { 0.0 } else { self.memory as f64 * 100.0 / self.memory_limit as f64 }
    }
}

impl Container {
    /// What it uses now; `None` if it is not up.
    pub fn sample(&self) -> Result<Option<Sample>> {
        let snapshot = self.snapshot()?;
        let Some(init) = snapshot.init() else { return Ok(None) };
        let cgroup = self.cgroup()?;
        let Ok(stats) = cgroup.stats() else {
            // It has just ended.
            return if self.snapshot()?.status.is_up() { cgroup.stats().map(|_| None) } else { Ok(None) };
        };
        let raw = |name: &str| stats.memory.raw.get(name).copied();
        let droppable = raw("total_inactive_file").or(raw("inactive_file")).unwrap_or(0);
        let host = rustix::system::sysinfo();
        let host = host.totalram as u64 * u64::from(host.mem_unit);
        let (mut cpu, mut disk) = (stats.cpu.usage.total, disk(&stats.blkio.io_service_bytes_recursive));
        // Hierarchies of version 1 that it has not joined know nothing; its processes know nearly all.
        if cpu == 0 || disk == (0, 0) {
            let own = cgroup.processes().unwrap_or_default().into_iter().filter_map(of_process);
            let sum = own.fold((0, (0, 0)), |(cpu, (r, w)), (c, (cr, cw))| (cpu + c, (r + cr, w + cw)));
            cpu = if cpu == 0 { sum.0 } else { cpu };
            disk = if disk == (0, 0) { sum.1 } else { disk };
        }
        let of_host = self.record.options.network == NetworkMode::Host;
        Ok(Some(Sample {
            at: Instant::now(),
            cpu,
            memory: stats.memory.usage.usage.saturating_sub(droppable),
            memory_limit: stats.memory.usage.limit.min(host),
            network: if of_host { (0, 0) } else { network(init.pid) },
            disk,
            tasks: stats.pids.current,
        }))
    }
}

fn disk(entries: &[BlkioEntry]) -> (u64, u64) {
    let sum = |op: &str| entries.iter().filter(|e| e.op.eq_ignore_ascii_case(op)).map(|e| e.value).sum();
    (sum("read"), sum("write"))
}

/// Processor time and disk traffic of a process and of all its children that it has waited for.
fn of_process(pid: i32) -> Option<(u64, (u64, u64))> {
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|f| f.parse::<u64>().ok()).sum();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let value = |name: &str| io.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    Some((ticks * NANOSECONDS_PER_TICK, (value("read_bytes:"), value("write_bytes:"))))
}

fn network(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let of_line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        if name.trim() == "lo" { None } else { Some((*numbers.first()?, *numbers.get(8)?)) }
    };
    text.lines().filter_map(of_line).fold((0, 0), |(r, s), (received, sent)| (r + received, s + sent))
}
