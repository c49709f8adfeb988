//! What a cgroup has used, in the form in which `events --stats` of OCI runtimes tells it.

#[path = "stats_v1.rs"]
mod version_1;
#[path = "stats_v2.rs"]
mod version_2;

pub use version_1::collect as v1;
pub use version_2::collect as v2;

use super::files::{explain, read, read_if_there};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, HugePages>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time held back by a quota.
    pub throttling: Throttling,
    /// Time waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// By all processors.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By each, in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By each, outside the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// By all, in the kernel.
    pub kernel: u64,
    /// By all, outside the kernel.
    pub user: u64,
}

/// The effect of a quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which it was held back.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// The files of the cpuset controller; version 1 has the flags.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// Of the kernel.
    pub kernel: MemoryEntry,
    /// Of the kernel, for TCP.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// What `memory.stat` says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Time waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Bytes; the greatest number is without limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// At most; zero is without limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// One number of a block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write` and so on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Numbers of block devices, with those of the cgroups below.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_queue_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HugePages {
    /// Bytes now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Bytes at most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Time for which tasks waited for something (pressure stall information).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one of them.
    pub some: Stall,
    /// All of them.
    pub full: Stall,
}

/// Percents of the last 10, 60 and 300 seconds, and microseconds in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Stall {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A file with one number; `max` is the greatest.
fn number(dir: &Path, file: &str) -> Result<u64> {
    let place = || format!("read {}", dir.join(file).display());
    let text = read(dir, file).map_err(explain).with_context(place)?;
    parse(&text).with_context(place)
}

/// The same of a file that not every kernel has, which counts as 0.
fn number_if_there(dir: &Path, file: &str) -> Result<u64> {
    match read_if_there(dir, file)? {
        Some(text) => parse(&text).with_context(|| format!("read {}", dir.join(file).display())),
        None => Ok(0),
    }
}

fn parse(text: &str) -> Result<u64> {
    match text {
        "max" | "-1" => Ok(u64::MAX),
        text => text.parse().with_context(|| format!("{text:?} is not a number")),
    }
}

/// Lines of a name and a number.
fn table(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn pids(dir: &Path) -> Result<Pids> {
    let limit = number_if_there(dir, "pids.max")?;
    Ok(Pids { current: number_if_there(dir, "pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } })
}

/// A list like `0-2,5`.
fn list(text: &str) -> Result<Vec<u16>> {
    let mut out = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |n: &str| n.parse::<u16>().with_context(|| format!("{text:?} is not a list of numbers"));
        out.extend(parse(first)?..=parse(last)?);
    }
    Ok(out)
}

/// The sizes of huge pages that this kernel has, as the names of files have them.
fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let size = |name: &str| {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kilobytes {
            n if n >= 1 << 20 => format!("{}GB", n >> 20),
            n if n >= 1 << 10 => format!("{}MB", n >> 10),
            n => format!("{n}KB"),
        })
    };
    entries.filter_map(|e| size(e.file_name().to_str()?)).collect()
}

/// A pressure file; `None` where the kernel has none or does not account.
fn pressure(dir: &Path, file: &str) -> Result<Option<Pressure>> {
    Ok(read_if_there(dir, file)?.filter(|text| !text.is_empty()).map(|text| parse_pressure(&text)))
}

fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let stall = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().unwrap_or_default(),
                "avg60" => stall.avg60 = value.parse().unwrap_or_default(),
                "avg300" => stall.avg300 = value.parse().unwrap_or_default(),
                "total" => stall.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_where_other_runtimes_leave_them_out() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        let entry = r#"{"limit":0,"failcnt":0}"#;
        let expected = format!(
            r#"{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},"cpuset":{{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}},"memory":{{"usage":{entry},"swap":{entry},"kernel":{entry},"kernelTCP":{entry}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}}}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn files_are_parsed() {
        assert_eq!(list("0-2,5").unwrap(), [0, 1, 2, 5]);
        assert_eq!(list("").unwrap(), [0u16; 0]);
        assert!(list("0-x").is_err() && list("1-2-3").is_err());
        assert_eq!(parse("max").unwrap(), u64::MAX);
        assert!(parse("").is_err());
        let psi = parse_pressure(
            "some avg10=1.50 avg60=0.20 avg300=0.00 total=148757\nfull avg10=0.00 avg60=0.00 avg300=3.25 total=7\n",
        );
        assert_eq!(psi.some, Stall { avg10: 1.5, avg60: 0.2, avg300: 0.0, total: 148_757 });
        assert_eq!((psi.full.avg300, psi.full.total), (3.25, 7));
    }
}
