//! The numbers of version 2, told in the words of version 1.

use super::{Blkio, BlkioEntry, Cpu, CpuUsage, HugePages, Memory, MemoryEntry, Stats, Throttling};
use super::{huge_page_sizes, list, number_if_there, pids, pressure, table};
use crate::runtime::cgroup::files::{explain, processes, read, read_if_there, value_of};
use anyhow::{Context, Result};
use std::path::Path;

/// Reads from the directory of the cgroup; a controller that it does not have leaves zeros.
pub fn collect(dir: &Path) -> Result<Stats> {
    read(dir, "cgroup.controllers").map_err(explain).with_context(|| format!("read {}", dir.display()))?;
    let mut stats = Stats { cpu: cpu(dir)?, memory: memory(dir)?, pids: pids(dir)?, ..Stats::default() };
    if stats.pids.current == 0 {
        // Without its controller they are counted one by one.
        let mut found = Vec::new();
        processes(dir, &mut found).with_context(|| format!("list the processes of {}", dir.display()))?;
        stats.pids.current = found.len() as u64;
    }
    stats.cpuset.cpus = list(&read_if_there(dir, "cpuset.cpus")?.unwrap_or_default())?;
    stats.cpuset.mems = list(&read_if_there(dir, "cpuset.mems")?.unwrap_or_default())?;
    stats.blkio = blkio(&read_if_there(dir, "io.stat")?.unwrap_or_default());
    stats.blkio.psi = pressure(dir, "io.pressure")?;
    for size in huge_page_sizes() {
        let Some(events) = read_if_there(dir, &format!("hugetlb.{size}.events"))? else { continue };
        let usage = number_if_there(dir, &format!("hugetlb.{size}.current"))?;
        let failcnt = value_of(&events, "max").unwrap_or(0);
        stats.hugetlb.insert(size, HugePages { usage, max: 0, failcnt });
    }
    Ok(stats)
}

fn cpu(dir: &Path) -> Result<Cpu> {
    let times = table(&read_if_there(dir, "cpu.stat")?.unwrap_or_default());
    let of = |name: &str| times.get(name).copied().unwrap_or(0);
    Ok(Cpu {
        usage: CpuUsage {
            total: of("usage_usec") * 1000,
            user: of("user_usec") * 1000,
            kernel: of("system_usec") * 1000,
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: of("throttled_usec") * 1000,
        },
        psi: pressure(dir, "cpu.pressure")?,
    })
}

fn memory(dir: &Path) -> Result<Memory> {
    let Some(text) = read_if_there(dir, "memory.stat")? else { return Ok(Memory::default()) };
    let raw = table(&text);
    let usage = MemoryEntry {
        limit: number_if_there(dir, "memory.max")?,
        usage: number_if_there(dir, "memory.current")?,
        // Since Linux 5.19.
        max: number_if_there(dir, "memory.peak")?,
        failcnt: read_if_there(dir, "memory.events")?.and_then(|t| value_of(&t, "max")).unwrap_or(0),
    };
    let mut swap = MemoryEntry::default();
    if read_if_there(dir, "memory.swap.max")?.is_some() {
        // Version 1 counts memory and swap together.
        swap.usage = number_if_there(dir, "memory.swap.current")? + usage.usage;
        swap.limit = number_if_there(dir, "memory.swap.max")?.saturating_add(usage.limit);
    }
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: pressure(dir, "memory.pressure")?,
        ..Memory::default()
    })
}

/// Lines like `8:0 rbytes=90112 wbytes=0 rios=22 wios=0 dbytes=0 dios=0`.
fn blkio(text: &str) -> Blkio {
    let mut out = Blkio::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let device = words.next().and_then(|d| d.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut out.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut out.io_service_bytes_recursive, "Write"),
                "rios" => (&mut out.io_serviced_recursive, "Read"),
                "wios" => (&mut out.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.extend(value.parse().ok().map(|value| BlkioEntry { major, minor, op: op.into(), value }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_told_in_the_words_of_version_1() {
        let found = blkio("8:16 rbytes=90112 wbytes=4096 rios=22 wios=1 dbytes=0 dios=0\n");
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 16, op: op.into(), value };
        assert_eq!(found.io_service_bytes_recursive, [entry("Read", 90112), entry("Write", 4096)]);
        assert_eq!(found.io_serviced_recursive, [entry("Read", 22), entry("Write", 1)]);
        assert_eq!(blkio("nonsense\n"), Blkio::default());
    }
}
