//! Version 2: one directory in the unified hierarchy.

use super::files::{attempt, explain, is_gone, make_directory, read, what, write};
use super::limits::{BlockIo, Limits, Rate};
use super::{Cgroup, Entrance, Hierarchies};
use crate::sys::bpf::{attach_device_rules, replace_device_rules};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn create(cgroup: &Cgroup, limits: &Limits, existed: bool) -> Result<Entrance> {
    let member = cgroup.unified()?;
    let (mount, dir) = (&member.hierarchy.mount, &member.dir);
    refuse_version_1_only(limits)?;
    let offered = read(mount, "cgroup.controllers").map_err(explain).context("read cgroup.controllers")?;
    let offered: Vec<&str> = offered.split_ascii_whitespace().collect();
    let mut wanted = needed(limits);
    if cgroup.which == Hierarchies::All {
        wanted.clone_from(&offered);
    } else {
        wanted.extend(["memory", "pids", "cpu"]);
        wanted.retain(|name| offered.contains(name));
    }
    for _ in 0..100 {
        enable_controllers(mount, dir, &wanted)?;
        make_directory(mount, dir)?;
        // Another process may have removed and remade an empty parent meanwhile, without the controllers.
        let has = read(dir, "cgroup.controllers").unwrap_or_default();
        if wanted.iter().all(|n| has.split_ascii_whitespace().any(|h| h == *n)) || cannot_have(mount, dir, &wanted) {
            break;
        }
    }
    refuse_invalid(dir)?;
    set_limits(dir, limits)?;
    let entrance = open(dir)?;
    if let Some(opened) = &entrance.into
        && !limits.devices.is_empty()
    {
        let attach = if existed { replace_device_rules } else { attach_device_rules };
        attach(opened, &limits.devices).map_err(explain).context("attach the device rules")?;
    }
    Ok(entrance)
}

pub fn open(dir: &Path) -> Result<Entrance> {
    let opened = File::open(dir).map_err(explain).with_context(|| format!("open {}", dir.display()))?;
    Ok(Entrance { into: Some(opened), tasks: Vec::new() })
}

pub fn update(cgroup: &Cgroup, limits: &Limits) -> Result<()> {
    let member = cgroup.unified()?;
    refuse_version_1_only(limits)?;
    enable_controllers(&member.hierarchy.mount, &member.dir, &needed(limits))?;
    set_limits(&member.dir, limits)?;
    if !limits.devices.is_empty() {
        let opened = File::open(&member.dir).map_err(explain)?;
        replace_device_rules(&opened, &limits.devices).map_err(explain).context("replace the device rules")?;
    }
    Ok(())
}

/// The controllers that the limits need.
fn needed(limits: &Limits) -> Vec<&str> {
    let version_1 = limits.controllers().into_iter().map(|name| if name == "blkio" { "io" } else { name });
    let unified = limits.unified.keys().filter_map(|file| file.split_once('.')).map(|(name, _)| name);
    let mut all: Vec<&str> = version_1.chain(unified.filter(|name| *name != "cgroup")).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What this version has no way to do must not go unnoticed.
fn refuse_version_1_only(limits: &Limits) -> Result<()> {
    let block_io = &limits.block_io;
    let leaf = block_io.leaf_weight.is_some() || block_io.weight_devices.iter().any(|d| d.leaf_weight.is_some());
    let wishes = [
        (limits.memory_swappiness.is_some(), "memory.swappiness"),
        (limits.oom_kill_disable == Some(true), "memory.disableOOMKiller"),
        (limits.use_hierarchy == Some(false), "memory.useHierarchy false"),
        (limits.cpu_realtime_runtime.is_some(), "cpu.realtimeRuntime"),
        (limits.cpu_realtime_period.is_some(), "cpu.realtimePeriod"),
        (leaf, "blockIO.leafWeight"),
        (limits.network_class.is_some(), "network.classID"),
        (!limits.network_priorities.is_empty(), "network.priorities"),
    ];
    match wishes.iter().find(|(wished, _)| *wished) {
        Some((_, name)) => bail!("linux.resources.{name} is not available with cgroup v2"),
        None => Ok(()),
    }
}

/// Hands controllers down, from the root to the parent of `dir`. One that cannot be had shows when it is used.
fn enable_controllers(mount: &Path, dir: &Path, controllers: &[&str]) -> Result<()> {
    let parent = dir.parent().and_then(|p| p.strip_prefix(mount).ok()).unwrap_or(Path::new(""));
    let mut at = mount.to_owned();
    let mut below = parent.iter();
    loop {
        let control = read(&at, "cgroup.subtree_control").unwrap_or_default();
        for name in controllers {
            if !control.split_ascii_whitespace().any(|c| c == *name) {
                let _ = attempt(&at, "cgroup.subtree_control", &format!("+{name}"));
            }
        }
        let Some(part) = below.next() else { return Ok(()) };
        at.push(part);
        make_directory(mount, &at)?;
    }
}

/// Whether a cgroup on the way has processes of its own or lacks a controller for another lasting reason.
fn cannot_have(mount: &Path, dir: &Path, controllers: &[&str]) -> bool {
    let parents = dir.ancestors().skip(1).take_while(|p| p.starts_with(mount) && *p != mount);
    parents.chain([mount]).any(|parent| {
        let control = read(parent, "cgroup.subtree_control").unwrap_or_default();
        let lacking = controllers.iter().find(|n| !control.split_ascii_whitespace().any(|c| c == **n));
        let error = lacking.map(|name| attempt(parent, "cgroup.subtree_control", &format!("+{name}")));
        matches!(error, Some(Err(e)) if !is_gone(&e))
    })
}

fn refuse_invalid(dir: &Path) -> Result<()> {
    let kind = read(dir, "cgroup.type").unwrap_or_default();
    ensure!(
        kind != "domain invalid",
        "cannot enter cgroupv2 {:?}: it is in an invalid state, a cgroup above it has processes of its own",
        dir.display()
    );
    Ok(())
}

fn amount(n: i64) -> String {
    if n < 0 { "max".into() } else { n.to_string() }
}

fn set_limits(dir: &Path, limits: &Limits) -> Result<()> {
    let result = (|| {
        set_memory(dir, limits)?;
        set_block_io(dir, &limits.block_io)?;
        set_cpu(dir, limits)?;
        for (file, list) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
            if let Some(list) = list {
                write(dir, file, list)?;
            }
        }
        if let Some(pids) = limits.pids {
            write(dir, "pids.max", &amount(if pids > 0 { pids } else { -1 }))?;
        }
        for (size, bytes) in &limits.huge_pages {
            write(dir, &format!("hugetlb.{size}.max"), &bytes.to_string())?;
            let reserved = format!("hugetlb.{size}.rsvd.max");
            if dir.join(&reserved).exists() {
                write(dir, &reserved, &bytes.to_string())?;
            }
        }
        set_rdma(dir, limits)
    })();
    result.map_err(|e| name_missing(dir, limits, e))?;
    limits.unified.iter().try_for_each(|(file, value)| set_unified(dir, file, value))
}

/// A file that is not there most often means a controller that the cgroup does not have.
fn name_missing(dir: &Path, limits: &Limits, error: anyhow::Error) -> anyhow::Error {
    let has = read(dir, "cgroup.controllers").unwrap_or_default();
    let has: Vec<&str> = has.split_ascii_whitespace().collect();
    match needed(limits).iter().find(|name| !has.contains(*name)) {
        Some(name) => error.context(format!("the {name} controller is not available here")),
        None => error,
    }
}

fn set_memory(dir: &Path, limits: &Limits) -> Result<()> {
    let current = || read(dir, "memory.max").ok().and_then(|text| text.parse().ok());
    let swap = match (limits.memory, limits.memory_swap) {
        (Some(-1), None) | (_, Some(-1)) => Some(-1),
        (_, None) => None,
        // Memory without limit: there is nothing to take away.
        (Some(-1), Some(total)) => Some(total),
        (memory, Some(total)) => {
            let memory = memory.or_else(current).context("unable to set swap limit without memory limit")?;
            ensure!(total >= memory, "memory+swap limit should be >= memory limit, {total} is less than {memory}");
            Some(total - memory)
        }
    };
    if let Some(bytes) = limits.memory.filter(|_| limits.check_before_update) {
        super::v1::refuse_below_use(dir, "memory.current", bytes)?;
    }
    // Without accounting there is nothing that could exceed a limit.
    if let Some(swap) = swap.filter(|_| dir.join("memory.swap.max").exists() || !dir.join("memory.max").exists()) {
        write(dir, "memory.swap.max", &amount(swap))?;
    }
    if let Some(bytes) = limits.memory {
        write(dir, "memory.max", &amount(bytes))?;
    }
    match limits.memory_reservation {
        Some(bytes) => write(dir, "memory.low", &amount(bytes)),
        None => Ok(()),
    }
}

fn set_cpu(dir: &Path, limits: &Limits) -> Result<()> {
    // The kernel refuses a weight of its own for what is idle.
    if let Some(shares) = limits.cpu_shares.filter(|_| limits.cpu_idle != Some(1)) {
        write(dir, "cpu.weight", &weight(shares).to_string())?;
    }
    if let Some(idle) = limits.cpu_idle.filter(|n| *n != 0 || dir.join("cpu.idle").exists()) {
        write(dir, "cpu.idle", &idle.to_string())?;
    }
    let burst = limits.cpu_burst.filter(|n| *n != 0 || dir.join("cpu.max.burst").exists()).map(|n| n.to_string());
    let mut late = None;
    if let Some(burst) = &burst {
        // A burst may be no more than the quota, which may be about to change.
        match attempt(dir, "cpu.max.burst", burst) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => late = Some(burst),
            other => other.map_err(explain).with_context(|| what(dir, "cpu.max.burst", burst))?,
        }
    }
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        // One file has both; what is not asked for stays.
        let now = read(dir, "cpu.max").unwrap_or_default();
        let (quota_now, period_now) = now.split_once(' ').unwrap_or(("max", "100000"));
        let quota = limits.cpu_quota.map_or(quota_now.to_owned(), amount);
        let period = limits.cpu_period.map_or(period_now.to_owned(), |n| n.to_string());
        write(dir, "cpu.max", &format!("{quota} {period}"))?;
    }
    late.map_or(Ok(()), |burst| write(dir, "cpu.max.burst", burst))
}

/// Shares of 2 to 262144 as a weight of 1 to 10000, the way other runtimes convert them.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// A weight of 10 to 1000 as one of 1 to 10000, the way other runtimes convert them.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

fn set_block_io(dir: &Path, limits: &BlockIo) -> Result<()> {
    let bfq = dir.join("io.bfq.weight").exists();
    let (file, convert): (_, fn(u16) -> u64) =
        if bfq { ("io.bfq.weight", u64::from) } else { ("io.weight", io_weight) };
    if let Some(weight) = limits.weight {
        write(dir, file, &convert(weight).to_string())?;
    }
    for entry in &limits.weight_devices {
        if let Some(weight) = entry.weight {
            write(dir, file, &format!("{} {}", entry.device, convert(weight)))?;
        }
    }
    for entry in &limits.throttles {
        let key = match entry.what {
            Rate::ReadBytes => "rbps",
            Rate::WriteBytes => "wbps",
            Rate::Reads => "riops",
            Rate::Writes => "wiops",
        };
        // Zero takes the limit away on version 1.
        let rate = if entry.rate == 0 { "max".into() } else { entry.rate.to_string() };
        write(dir, "io.max", &format!("{} {key}={rate}", entry.device))?;
    }
    Ok(())
}

/// The file is the same in both versions.
pub fn set_rdma(dir: &Path, limits: &Limits) -> Result<()> {
    for (device, limit) in &limits.rdma {
        let parts = [("hca_handle", limit.handles), ("hca_object", limit.objects)];
        let parts = parts.into_iter().filter_map(|(key, n)| n.map(|n| format!(" {key}={n}")));
        write(dir, "rdma.max", &format!("{device}{}", parts.collect::<String>()))?;
    }
    Ok(())
}

/// A value of several lines is as many writes: the kernel takes one device at a time.
fn set_unified(dir: &Path, file: &str, value: &str) -> Result<()> {
    let lines: Vec<&str> = if value.contains('\n') { value.lines().collect() } else { vec![value] };
    for line in lines.iter().filter(|l| !l.is_empty() || lines.len() == 1) {
        let Err(error) = attempt(dir, file, line) else { continue };
        let controller = file.split_once('.').map_or(file, |(controller, _)| controller);
        let has = read(dir, "cgroup.controllers").unwrap_or_default();
        let available = controller == "cgroup" || has.split_ascii_whitespace().any(|c| c == controller);
        if !available && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES | libc::EPERM)) {
            bail!("unified resource {file:?} can't be set: controller {controller:?} not available");
        }
        return Err(explain(error))
            .with_context(|| what(dir, file, line))
            .with_context(|| format!("unable to set unified resource {file:?}"));
    }
    Ok(())
}

pub fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    let deadline = Instant::now() + Duration::from_secs(10);
    // That of a cgroup above may keep it frozen, which is not this one's affair.
    while frozen && !read(dir, "cgroup.events").unwrap_or_default().lines().any(|l| l == "frozen 1") {
        if Instant::now() > deadline {
            let _ = attempt(dir, "cgroup.freeze", "0");
            bail!("the processes did not come to a halt");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

pub fn is_frozen(dir: &Path) -> bool {
    read(dir, "cgroup.freeze").is_ok_and(|own| own == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_converted_as_elsewhere() {
        let shares = [2, 1024, 262_144, 0, 1 << 40];
        assert_eq!(shares.map(weight), [1, 39, 10_000, 1, 10_000]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }
}
