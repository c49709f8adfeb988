//! Version 1: a directory in each controller's own hierarchy.

use super::files::{self, attempt, explain, make_directory, read, what, write};
use super::limits::{BlockIo, Limits, Rate};
use super::rules::{self, Access};
use super::{Cgroup, Entrance, Member, UNIFIED};
use crate::sys::bpf::DeviceRule;
use crate::sys::errors::errno;
use anyhow::{Context, Error, Result, bail, ensure};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn create(cgroup: &Cgroup, limits: &Limits, existed: bool) -> Result<Entrance> {
    let needed = limits.controllers();
    for name in &needed {
        cgroup.controller(name)?;
    }
    let wanted = |m: &&Member| !m.on_demand || m.hierarchy.names.iter().any(|n| needed.contains(&n.as_str()));
    let mut entrance = Entrance { into: None, tasks: Vec::new() };
    for member in cgroup.members.iter().filter(wanted) {
        if member.hierarchy.names.iter().any(|n| n == "cpuset") {
            make_cpuset(&member.hierarchy.mount, &member.dir, limits)?;
        } else {
            make_directory(&member.hierarchy.mount, &member.dir)?;
        }
        add_entrance(member, &mut entrance)?;
    }
    set_limits(cgroup, limits)?;
    if !limits.devices.is_empty() {
        let dir = cgroup.controller("devices").context("device rules cannot be left out")?;
        let steps = if existed { steps_to(dir, &limits.devices)? } else { limits.devices.clone() };
        set_device_rules(dir, &steps)?;
    }
    Ok(entrance)
}

pub fn open(cgroup: &Cgroup) -> Result<Entrance> {
    let mut entrance = Entrance { into: None, tasks: Vec::new() };
    let mut missing = None;
    for member in &cgroup.members {
        match add_entrance(member, &mut entrance) {
            // It may be in some of the hierarchies only.
            Err(error) if errno(&error) == Some(libc::ENOENT) => missing = missing.or(Some(error)),
            other => other?,
        }
    }
    match missing {
        Some(error) if entrance.into.is_none() && entrance.tasks.is_empty() => Err(error),
        _ => Ok(entrance),
    }
}

fn add_entrance(member: &Member, entrance: &mut Entrance) -> Result<()> {
    let is_unified = member.hierarchy.names.iter().any(|n| n == UNIFIED);
    let path = if is_unified { member.dir.clone() } else { member.dir.join("tasks") };
    let opened = File::options().read(is_unified).write(!is_unified).open(&path);
    let opened = opened.map_err(explain).with_context(|| format!("open {}", path.display()))?;
    match is_unified {
        true => entrance.into = Some(opened),
        false => entrance.tasks.push(opened),
    }
    Ok(())
}

/// A cpuset takes no process before its processors and memory nodes are set, all the way down. The last one gets what
/// is asked for before it inherits: what its parent has may be taken by an exclusive neighbour.
fn make_cpuset(mount: &Path, dir: &Path, limits: &Limits) -> Result<()> {
    let below = dir.strip_prefix(mount).unwrap_or(Path::new(""));
    let mut parent = mount.to_owned();
    for part in below {
        let child = parent.join(part);
        make_directory(mount, &child)?;
        if child == dir {
            set_cpuset(&child, limits)?;
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read(&child, file).unwrap_or_default().is_empty() {
                let above = read(&parent, file).with_context(|| format!("read {}", parent.join(file).display()))?;
                write(&child, file, &above)?;
            }
        }
        parent = child;
    }
    Ok(())
}

fn set_limits(cgroup: &Cgroup, limits: &Limits) -> Result<()> {
    ensure!(limits.unified.is_empty(), "invalid configuration: cannot use unified on cgroup v1");
    for name in limits.controllers() {
        let dir = cgroup.controller(name)?;
        match name {
            "memory" => set_memory(dir, limits),
            "cpu" => set_cpu(dir, limits),
            "cpuset" => set_cpuset(dir, limits),
            "pids" => write(dir, "pids.max", &limits.pids.filter(|n| *n > 0).map_or("max".into(), |n| n.to_string())),
            "blkio" => set_block_io(dir, &limits.block_io),
            "hugetlb" => set_huge_pages(dir, &limits.huge_pages),
            "net_cls" => write(dir, "net_cls.classid", &limits.network_class.unwrap_or(0).to_string()),
            "net_prio" => set_priorities(dir, &limits.network_priorities),
            _ => super::v2::set_rdma(dir, limits),
        }?;
    }
    Ok(())
}

pub fn update(cgroup: &Cgroup, limits: &Limits) -> Result<()> {
    let needed = limits.controllers();
    let missing = |m: &&Member| m.hierarchy.names.iter().any(|n| needed.contains(&n.as_str())) && !m.dir.exists();
    let late: Vec<&Member> = cgroup.members.iter().filter(missing).collect();
    for member in &late {
        if member.hierarchy.names.iter().any(|n| n == "cpuset") {
            make_cpuset(&member.hierarchy.mount, &member.dir, limits)?;
        } else {
            make_directory(&member.hierarchy.mount, &member.dir)?;
        }
    }
    set_limits(cgroup, limits)?;
    for member in late {
        join_all(cgroup, &member.dir)?;
    }
    if !limits.devices.is_empty() {
        let dir = cgroup.controller("devices")?;
        set_device_rules(dir, &steps_to(dir, &limits.devices)?)?;
    }
    Ok(())
}

/// Brings all processes into a hierarchy that had no limits for them so far. Those that are made meanwhile are where
/// their parents were, so it is done until there is nobody new.
fn join_all(cgroup: &Cgroup, dir: &Path) -> Result<()> {
    for _ in 0..100 {
        let mut there = Vec::new();
        files::processes(dir, &mut there).with_context(|| format!("list the processes of {}", dir.display()))?;
        let all = cgroup.processes().context("list the processes")?;
        let absent: Vec<i32> = all.into_iter().filter(|pid| !there.contains(pid)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        for pid in absent {
            match attempt(dir, "cgroup.procs", &pid.to_string()) {
                // It has just ended.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                other => other.map_err(explain).with_context(|| what(dir, "cgroup.procs", &pid.to_string()))?,
            }
        }
    }
    bail!("the processes multiply faster than they can be moved")
}

const MEMORY: &str = "memory.limit_in_bytes";
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";

fn set_memory(dir: &Path, limits: &Limits) -> Result<()> {
    let total = match (limits.memory, limits.memory_swap) {
        // Without limit means swap too, where nothing is said about it.
        (Some(-1), None) => Some(-1),
        (_, total) => total,
    };
    // Without accounting there is nothing that could exceed a limit.
    let total = total.filter(|_| dir.join(MEMORY_AND_SWAP).exists()).map(|n| n.to_string());
    if let Some(bytes) = limits.memory {
        if limits.check_before_update {
            refuse_below_use(dir, "memory.usage_in_bytes", bytes)?;
        }
        let value = bytes.to_string();
        let mut result = attempt(dir, MEMORY, &value);
        // Memory and swap together may never be below memory alone: raise it first, lower it last.
        if let (Err(e), Some(total)) = (&result, &total)
            && e.raw_os_error() == Some(libc::EINVAL)
        {
            write(dir, MEMORY_AND_SWAP, total)?;
            result = attempt(dir, MEMORY, &value);
        }
        result.map_err(|e| explain_memory(dir, e)).with_context(|| what(dir, MEMORY, &value))?;
    }
    if let Some(total) = total {
        let result = attempt(dir, MEMORY_AND_SWAP, &total).map_err(|e| explain_memory(dir, e));
        result.with_context(|| what(dir, MEMORY_AND_SWAP, &total))?;
    }
    if let Some(bytes) = limits.memory_reservation {
        write(dir, "memory.soft_limit_in_bytes", &bytes.to_string())?;
    }
    if let Some(disable) = limits.oom_kill_disable.filter(|d| *d || read(dir, "memory.oom_control").is_ok()) {
        write(dir, "memory.oom_control", if disable { "1" } else { "0" })?;
    }
    if let Some(hierarchical) = limits.use_hierarchy {
        let value = if hierarchical { "1" } else { "0" };
        // Newer kernels know only one way, and refuse to be told even that.
        if read(dir, "memory.use_hierarchy").is_ok_and(|now| now != value) {
            write(dir, "memory.use_hierarchy", value)?;
        }
    }
    match limits.memory_swappiness {
        Some(n) => write(dir, "memory.swappiness", &n.to_string()),
        None => Ok(()),
    }
}

/// The kernel's "busy" means that the limit is below what is in use.
fn explain_memory(dir: &Path, error: io::Error) -> Error {
    if error.raw_os_error() != Some(libc::EBUSY) {
        return explain(error);
    }
    let number = |file| read(dir, file).unwrap_or_else(|_| "unknown".into());
    let (now, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
    Error::new(error).context(format!("unable to set memory limit (current usage: {now}, peak usage: {peak})"))
}

pub fn refuse_below_use(dir: &Path, file: &str, limit: i64) -> Result<()> {
    let used: i64 = read(dir, file).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    ensure!(limit < 0 || limit >= used, "rejecting memory limit {limit} < usage {used}");
    Ok(())
}

fn set_cpu(dir: &Path, limits: &Limits) -> Result<()> {
    if let Some(shares) = limits.cpu_shares {
        write(dir, "cpu.shares", &shares.to_string())?;
        let set = read(dir, "cpu.shares")?.parse::<u64>().context("read cpu.shares")?;
        ensure!(shares <= set, "the maximum allowed cpu-shares is {set}");
        ensure!(shares >= set, "the minimum allowed cpu-shares is {set}");
    }
    // An old quota over the new period, or an old quota below the new burst, may be what the kernel refuses: once more
    // after the quota is set.
    let early = [
        ("cpu.cfs_burst_us", limits.cpu_burst.filter(|n| *n != 0 || dir.join("cpu.cfs_burst_us").exists())),
        ("cpu.cfs_period_us", limits.cpu_period),
    ];
    let early = early.map(|(file, value)| (file, value.map(|n| n.to_string())));
    let mut late = Vec::new();
    for (file, value) in &early {
        let Some(value) = value else { continue };
        match attempt(dir, file, value) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => late.push((*file, value)),
            other => other.map_err(explain).with_context(|| what(dir, file, value))?,
        }
    }
    if let Some(quota) = limits.cpu_quota {
        write(dir, "cpu.cfs_quota_us", &quota.max(-1).to_string())?;
    }
    for (file, value) in late {
        write(dir, file, value)?;
    }
    let others = [
        ("cpu.rt_period_us", limits.cpu_realtime_period.map(|n| n.to_string())),
        ("cpu.rt_runtime_us", limits.cpu_realtime_runtime.map(|n| n.to_string())),
        ("cpu.idle", limits.cpu_idle.filter(|n| *n != 0 || dir.join("cpu.idle").exists()).map(|n| n.to_string())),
    ];
    others.iter().filter_map(|(file, v)| Some((file, v.as_ref()?))).try_for_each(|(file, v)| write(dir, file, v))
}

fn set_cpuset(dir: &Path, limits: &Limits) -> Result<()> {
    for (file, list) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        if let Some(list) = list {
            write(dir, file, list)?;
        }
    }
    Ok(())
}

fn set_block_io(dir: &Path, limits: &BlockIo) -> Result<()> {
    // Which of two schedulers the kernel has shows in the names.
    let plain = dir.join("blkio.weight").exists();
    let (weight, weight_device) = match plain {
        true => ("blkio.weight", "blkio.weight_device"),
        false => ("blkio.bfq.weight", "blkio.bfq.weight_device"),
    };
    let mut values = Vec::new();
    values.extend(limits.weight.map(|n| (weight, n.to_string())));
    values.extend(limits.leaf_weight.map(|n| ("blkio.leaf_weight", n.to_string())));
    for entry in &limits.weight_devices {
        values.extend(entry.weight.map(|n| (weight_device, format!("{} {n}", entry.device))));
        values.extend(entry.leaf_weight.map(|n| ("blkio.leaf_weight_device", format!("{} {n}", entry.device))));
    }
    for entry in &limits.throttles {
        let file = match entry.what {
            Rate::ReadBytes => "blkio.throttle.read_bps_device",
            Rate::WriteBytes => "blkio.throttle.write_bps_device",
            Rate::Reads => "blkio.throttle.read_iops_device",
            Rate::Writes => "blkio.throttle.write_iops_device",
        };
        values.push((file, format!("{} {}", entry.device, entry.rate)));
    }
    values.iter().try_for_each(|(file, value)| write(dir, file, value))
}

fn set_huge_pages(dir: &Path, limits: &[(String, u64)]) -> Result<()> {
    for (size, bytes) in limits {
        write(dir, &format!("hugetlb.{size}.limit_in_bytes"), &bytes.to_string())?;
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        // Reserving is counted since Linux 5.7.
        if dir.join(&reserved).exists() {
            write(dir, &reserved, &bytes.to_string())?;
        }
    }
    Ok(())
}

fn set_priorities(dir: &Path, priorities: &[(String, u32)]) -> Result<()> {
    priorities.iter().try_for_each(|(name, n)| write(dir, "net_prio.ifpriomap", &format!("{name} {n}")))
}

/// What leads from the rules that a cgroup has to others.
fn steps_to(dir: &Path, rules: &[DeviceRule]) -> Result<Vec<DeviceRule>> {
    let listed = read(dir, "devices.list").map_err(explain).context("read devices.list")?;
    Ok(Access::from_list(&listed)?.transition(&Access::of(rules)?))
}

fn set_device_rules(dir: &Path, rules: &[DeviceRule]) -> Result<()> {
    // Opening costs more than writing, and there are a dozen rules.
    let mut opened: [Option<File>; 2] = [None, None];
    rules.iter().try_for_each(|rule| {
        let (file, slot) = if rule.allow { ("devices.allow", 0) } else { ("devices.deny", 1) };
        let text = rules::text(rule);
        let written = match &mut opened[slot] {
            Some(open) => files::write_whole(open, &text),
            empty => {
                let open = File::options().write(true).open(dir.join(file));
                open.and_then(|open| files::write_whole(empty.insert(open), &text))
            }
        };
        written.map_err(explain).with_context(|| what(dir, file, &text))
    })
}

pub fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    let (word, deadline) = (if frozen { "FROZEN" } else { "THAWED" }, Instant::now() + Duration::from_secs(10));
    for round in 1u32.. {
        // The word is written again each time: a process that forked meanwhile can hold the change up. To let all go
        // for a moment helps if they fork all the time.
        if frozen && round.is_multiple_of(50) {
            write(dir, "freezer.state", "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        write(dir, "freezer.state", word)?;
        let state = read(dir, "freezer.state").context("read freezer.state")?;
        if state == word || (!frozen && !is_frozen(dir)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_micros(if round < 20 { 50 } else { 1000 }));
    }
    let _ = write(dir, "freezer.state", "THAWED");
    bail!("the processes did not come to a halt");
}

/// A cgroup above may be frozen, which is not this one's affair.
pub fn is_frozen(dir: &Path) -> bool {
    match read(dir, "freezer.self_freezing") {
        Ok(own) => own == "1",
        Err(_) => files::read(dir, "freezer.state").is_ok_and(|state| state != "THAWED"),
    }
}
