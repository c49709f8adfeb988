//! Version 1: a directory in each controller's own hierarchy.

use super::{Limits, MOUNT, make_directory, write};
use crate::sys::bpf::DeviceRule;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The controllers that a container always gets: for its limits, device rules and pausing.
const ALWAYS: [&str; 5] = ["pids", "memory", "cpu", "devices", "freezer"];
/// The controller that is joined only when asked for.
const CPUSET: &str = "cpuset";

/// The mounted hierarchies that a container may be in. Joint ones (`cpu,cpuacct`) count once.
pub fn hierarchies() -> Vec<PathBuf> {
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for name in ALWAYS.iter().chain([&CPUSET]) {
        let path = Path::new(MOUNT).join(name);
        if let Ok(real) = std::fs::read_link(&path).or_else(|_| std::fs::metadata(&path).map(|_| path.clone()))
            && !found.iter().any(|(r, _)| *r == real)
        {
            found.push((real, path));
        }
    }
    found.into_iter().map(|(_, path)| path).collect()
}

fn controller(name: &str, path: &Path) -> PathBuf {
    Path::new(MOUNT).join(name).join(path)
}

pub fn create(path: &Path, limits: &Limits) -> Result<Vec<File>> {
    let needs_cpuset = limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some();
    let mut entrances = Vec::new();
    for hierarchy in hierarchies() {
        if hierarchy.ends_with(CPUSET) {
            if !needs_cpuset {
                continue;
            }
            make_cpuset(&hierarchy, path)?;
        }
        let dir = make_directory(&hierarchy, path).with_context(|| format!("in {}", hierarchy.display()))?;
        entrances.push(tasks(&dir)?);
    }
    if entrances.is_empty() {
        bail!("no cgroup hierarchies are mounted below {MOUNT}");
    }
    set_limits(path, limits)?;
    set_device_rules(&controller("devices", path), &limits.devices)?;
    Ok(entrances)
}

pub fn open(path: &Path) -> Result<Vec<File>> {
    let dirs = hierarchies().into_iter().map(|h| h.join(path)).filter(|d| d.exists());
    dirs.map(|dir| tasks(&dir)).collect()
}

fn tasks(dir: &Path) -> Result<File> {
    let path = dir.join("tasks");
    File::options().write(true).open(&path).with_context(|| format!("open {}", path.display()))
}

/// A cpuset takes no process before its processors and memory nodes are set, all the way down.
fn make_cpuset(hierarchy: &Path, path: &Path) -> Result<()> {
    let mut parent = hierarchy.to_owned();
    let mut made = PathBuf::new();
    for part in path {
        made.push(part);
        let dir = make_directory(hierarchy, &made)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
            if own.trim().is_empty() {
                let above = std::fs::read_to_string(parent.join(file)).context("read the parent's cpuset")?;
                write(&dir, file, above.trim())?;
            }
        }
        parent = dir;
    }
    Ok(())
}

pub fn set_limits(path: &Path, limits: &Limits) -> Result<()> {
    let memory = controller("memory", path);
    let total = limits.memory_swap.filter(|_| memory.join("memory.memsw.limit_in_bytes").exists());
    if let Some(bytes) = limits.memory {
        // Memory and swap together may never be below memory alone: raise it first, lower it last.
        if write(&memory, "memory.limit_in_bytes", &bytes.to_string()).is_err() {
            if let Some(total) = total {
                write(&memory, "memory.memsw.limit_in_bytes", &total.to_string())?;
            }
            write(&memory, "memory.limit_in_bytes", &bytes.to_string())?;
        }
    }
    if let Some(total) = total {
        write(&memory, "memory.memsw.limit_in_bytes", &total.to_string())?;
    }
    if let Some(bytes) = limits.memory_reservation {
        write(&memory, "memory.soft_limit_in_bytes", &bytes.to_string())?;
    }
    let cpu = controller("cpu", path);
    if let Some(period) = limits.cpu_period {
        write(&cpu, "cpu.cfs_period_us", &period.to_string())?;
    }
    if let Some(quota) = limits.cpu_quota {
        write(&cpu, "cpu.cfs_quota_us", &quota.to_string())?;
    }
    if let Some(shares) = limits.cpu_shares {
        write(&cpu, "cpu.shares", &shares.to_string())?;
    }
    let cpuset = controller(CPUSET, path);
    for (file, list) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        if let Some(list) = list {
            write(&cpuset, file, list)?;
        }
    }
    if let Some(pids) = limits.pids {
        let value = if pids > 0 { pids.to_string() } else { "max".into() };
        write(&controller("pids", path), "pids.max", &value)?;
    }
    Ok(())
}

fn set_device_rules(dir: &Path, rules: &[DeviceRule]) -> Result<()> {
    for rule in rules {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        let number = |n: Option<u32>| n.map_or("*".into(), |n| n.to_string());
        let text = match rule.kind {
            'a' => "a".into(),
            kind => format!("{kind} {}:{} {}", number(rule.major), number(rule.minor), rule.access),
        };
        write(dir, file, &text)?;
    }
    Ok(())
}

pub fn freeze(path: &Path, frozen: bool) -> Result<()> {
    let dir = controller("freezer", path);
    let (word, deadline) = (if frozen { "FROZEN" } else { "THAWED" }, Instant::now() + Duration::from_secs(10));
    loop {
        // The word is written again each time: a process that forked meanwhile can hold the change up.
        write(&dir, "freezer.state", word)?;
        let state = std::fs::read_to_string(dir.join("freezer.state")).context("read freezer.state")?;
        if state.trim() == word {
            return Ok(());
        }
        if Instant::now() > deadline {
            let _ = write(&dir, "freezer.state", "THAWED");
            bail!("the processes did not come to a halt");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn is_frozen(path: &Path) -> bool {
    let state = std::fs::read_to_string(controller("freezer", path).join("freezer.state"));
    state.is_ok_and(|s| s.trim() != "THAWED")
}
