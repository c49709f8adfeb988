//! Version 2: one directory in the unified hierarchy.

use super::{Limits, MOUNT, make_directory, write};
use crate::sys::bpf::attach_device_rules;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn create(path: &Path, limits: &Limits) -> Result<File> {
    let root = Path::new(MOUNT);
    let mut needed = vec!["memory", "pids", "cpu"];
    if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
        needed.push("cpuset");
    }
    for _ in 0..100 {
        enable_controllers(root, path.parent().unwrap_or(Path::new("")), &needed)?;
        make_directory(root, path)?;
        // Another process may have removed and remade an empty parent meanwhile, without the controllers.
        let has = std::fs::read_to_string(root.join(path).join("cgroup.controllers")).unwrap_or_default();
        if needed.iter().all(|n| has.split_ascii_whitespace().any(|h| h == *n)) {
            break;
        }
    }
    set_limits(path, limits)?;
    let dir = open(path)?;
    attach_device_rules(&dir, &limits.devices).context("attach the device rules")?;
    Ok(dir)
}

pub fn open(path: &Path) -> Result<File> {
    let dir = Path::new(MOUNT).join(path);
    File::open(&dir).with_context(|| format!("open {}", dir.display()))
}

/// Hands controllers down, from the root to `parent`. One that the host does not have shows when it is used.
fn enable_controllers(root: &Path, parent: &Path, controllers: &[&str]) -> Result<()> {
    let mut dir = root.to_owned();
    let mut below = parent.iter();
    loop {
        let control = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        for name in controllers {
            if !control.split_ascii_whitespace().any(|c| c == *name) {
                let _ = write(&dir, "cgroup.subtree_control", &format!("+{name}"));
            }
        }
        let Some(part) = below.next() else { return Ok(()) };
        dir.push(part);
        let relative = dir.strip_prefix(root).unwrap_or(Path::new(""));
        make_directory(root, relative).with_context(|| format!("make {}", dir.display()))?;
    }
}

pub fn set_limits(path: &Path, limits: &Limits) -> Result<()> {
    let dir = Path::new(MOUNT).join(path);
    let amount = |n: i64| if n < 0 { "max".into() } else { n.to_string() };
    if let Some(bytes) = limits.memory {
        write(&dir, "memory.max", &amount(bytes))?;
    }
    if let Some(total) = limits.memory_swap
        && dir.join("memory.swap.max").exists()
    {
        let swap = if total < 0 { -1 } else { (total - limits.memory.unwrap_or(0)).max(0) };
        write(&dir, "memory.swap.max", &amount(swap))?;
    }
    if let Some(bytes) = limits.memory_reservation {
        write(&dir, "memory.low", &amount(bytes))?;
    }
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = limits.cpu_quota.filter(|q| *q > 0).map_or("max".into(), |q| q.to_string());
        write(&dir, "cpu.max", &format!("{quota} {}", limits.cpu_period.unwrap_or(100_000)))?;
    }
    if let Some(shares) = limits.cpu_shares {
        write(&dir, "cpu.weight", &weight(shares).to_string())?;
    }
    for (file, list) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        if let Some(list) = list {
            write(&dir, file, list)?;
        }
    }
    if let Some(pids) = limits.pids {
        write(&dir, "pids.max", &amount(if pids > 0 { pids } else { -1 }))?;
    }
    Ok(())
}

/// Shares of 2 to 262144 as a weight of 1 to 10000, the way other runtimes convert them.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

pub fn freeze(path: &Path, frozen: bool) -> Result<()> {
    let dir = Path::new(MOUNT).join(path);
    write(&dir, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_frozen(path) != frozen {
        if Instant::now() > deadline {
            bail!("the processes did not come to a halt");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub fn is_frozen(path: &Path) -> bool {
    let events = std::fs::read_to_string(Path::new(MOUNT).join(path).join("cgroup.events")).unwrap_or_default();
    events.lines().any(|l| l == "frozen 1")
}
