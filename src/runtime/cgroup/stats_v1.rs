//! The numbers of the version 1 controllers.

use super::{Blkio, BlkioEntry, Cpu, Cpuset, HugePages, Memory, MemoryEntry, Stats, Throttling};
use super::{huge_page_sizes, list, number, number_if_there, pids, table};
use crate::runtime::cgroup::files::{read, read_if_there};
use anyhow::{Context, Result};
use std::path::Path;

/// What the kernel's ticks are to programs, on every architecture of today.
const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / 100;

/// Reads from the directory that each controller has, if it has one.
pub fn collect<'a>(dir: impl Fn(&str) -> Option<&'a Path>) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = dir("cpuacct") {
        cpu_usage(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = dir("cpu") {
        let throttled = table(&read_if_there(dir, "cpu.stat")?.unwrap_or_default());
        let of = |name: &str| throttled.get(name).copied().unwrap_or(0);
        stats.cpu.throttling = Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: of("throttled_time"),
        };
    }
    if let Some(dir) = dir("cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = dir("memory") {
        stats.memory = memory(dir)?;
    }
    if let Some(dir) = dir("pids") {
        stats.pids = pids(dir)?;
    }
    if let Some(dir) = dir("blkio") {
        stats.blkio = blkio(dir)?;
    }
    if let Some(dir) = dir("hugetlb") {
        for size in huge_page_sizes() {
            let pages = HugePages {
                usage: number_if_there(dir, &format!("hugetlb.{size}.usage_in_bytes"))?,
                max: number_if_there(dir, &format!("hugetlb.{size}.max_usage_in_bytes"))?,
                failcnt: number_if_there(dir, &format!("hugetlb.{size}.failcnt"))?,
            };
            stats.hugetlb.insert(size, pages);
        }
    }
    Ok(stats)
}

fn cpu_usage(dir: &Path, cpu: &mut Cpu) -> Result<()> {
    let ticks = table(&read(dir, "cpuacct.stat").context("read cpuacct.stat")?);
    let nanoseconds = |name: &str| ticks.get(name).copied().unwrap_or(0) * NANOSECONDS_PER_TICK;
    cpu.usage.user = nanoseconds("user");
    cpu.usage.kernel = nanoseconds("system");
    cpu.usage.total = number(dir, "cpuacct.usage")?;
    let each = read_if_there(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
    cpu.usage.percpu = each.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    // A heading, then processor, user and kernel.
    for line in read_if_there(dir, "cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let fields: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        if let [_, user, kernel] = fields[..] {
            cpu.usage.percpu_user.push(user);
            cpu.usage.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn cpuset(dir: &Path) -> Result<Cpuset> {
    let lists = |file: &str| list(&read_if_there(dir, file)?.unwrap_or_default());
    let flag = |name: &str| number_if_there(dir, &format!("cpuset.{name}"));
    let level = read_if_there(dir, "cpuset.sched_relax_domain_level")?;
    Ok(Cpuset {
        cpus: lists("cpuset.cpus")?,
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: lists("cpuset.mems")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.parse().ok()).unwrap_or(0),
    })
}

fn memory(dir: &Path) -> Result<Memory> {
    let entry = |name: &str| -> Result<MemoryEntry> {
        // Swap and kernel memory are not accounted by every kernel.
        if name != "memory" && !dir.join(format!("{name}.usage_in_bytes")).exists() {
            return Ok(MemoryEntry::default());
        }
        Ok(MemoryEntry {
            limit: number(dir, &format!("{name}.limit_in_bytes"))?,
            usage: number(dir, &format!("{name}.usage_in_bytes"))?,
            max: number(dir, &format!("{name}.max_usage_in_bytes"))?,
            failcnt: number(dir, &format!("{name}.failcnt"))?,
        })
    };
    let raw = table(&read(dir, "memory.stat").context("read memory.stat")?);
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("memory")?,
        swap: entry("memory.memsw")?,
        kernel: entry("memory.kmem")?,
        kernel_tcp: entry("memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

/// Which files there are depends on the scheduler and on the kernel; the first set that has anything to say counts.
fn blkio(dir: &Path) -> Result<Blkio> {
    for prefix in ["blkio.bfq.", "blkio."] {
        let entries = |name: &str| entries(dir, &format!("{prefix}{name}"));
        let found = Blkio {
            io_service_bytes_recursive: entries("io_service_bytes_recursive")?,
            io_serviced_recursive: entries("io_serviced_recursive")?,
            io_queue_recursive: entries("io_queued_recursive")?,
            io_service_time_recursive: entries("io_service_time_recursive")?,
            io_wait_time_recursive: entries("io_wait_time_recursive")?,
            io_merged_recursive: entries("io_merged_recursive")?,
            io_time_recursive: entries("time_recursive")?,
            sectors_recursive: entries("sectors_recursive")?,
            psi: None,
        };
        if found != Blkio::default() {
            return Ok(found);
        }
    }
    for suffix in ["_recursive", ""] {
        let entries = |name: &str| entries(dir, &format!("blkio.throttle.{name}{suffix}"));
        let found = Blkio {
            io_service_bytes_recursive: entries("io_service_bytes")?,
            io_serviced_recursive: entries("io_serviced")?,
            ..Blkio::default()
        };
        if found != Blkio::default() {
            return Ok(found);
        }
    }
    Ok(Blkio::default())
}

fn entries(dir: &Path, file: &str) -> Result<Vec<BlkioEntry>> {
    Ok(parse_entries(&read_if_there(dir, file)?.unwrap_or_default()))
}

/// Lines like `8:0 Read 4096` or `8:0 4096`; the sum over all devices is left out.
fn parse_entries(text: &str) -> Vec<BlkioEntry> {
    let parse = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (op, value) = rest.split_once(' ').unwrap_or(("", rest));
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.into(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_device_lines_are_parsed() {
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 1, op: op.into(), value };
        assert_eq!(
            parse_entries("8:1 Read 4096\n8:1 Total 4096\nTotal 4096\n"),
            [entry("Read", 4096), entry("Total", 4096)]
        );
        assert_eq!(parse_entries("8:1 12\n"), [entry("", 12)]);
    }
}
