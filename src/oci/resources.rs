//! `update` and `events`.

use super::print;
use super::record::{Status, Store};
use super::values::{bytes, duration};
use crate::runtime::cgroup::{Limits, MemoryEvent, Stats};
use crate::sys::poll::{self, Interest};
use anyhow::{Context, Result, bail};
use clap::Args;
use oci_spec::runtime::LinuxResources;
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// The container
    id: String,
    /// A file with what is to change, in the form of the specification's linux.resources; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of input and output, 10 to 1000
    #[arg(long)]
    blkio_weight: Option<u16>,
    /// Microseconds of a period in which the quota counts
    #[arg(long)]
    cpu_period: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Microseconds of unused time that may be saved up
    #[arg(long)]
    cpu_burst: Option<u64>,
    /// Relative weight of processor time
    #[arg(long)]
    cpu_share: Option<u64>,
    /// Microseconds of a period of real-time processes
    #[arg(long)]
    cpu_rt_period: Option<u64>,
    /// Microseconds for real-time processes in each period
    #[arg(long, allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processors
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// 1 lets its processes run only when nothing else does
    #[arg(long)]
    cpu_idle: Option<i64>,
    /// Without effect: the kernel has no such limit any more
    #[arg(long, hide = true, value_parser = bytes, allow_hyphen_values = true)]
    kernel_memory: Option<i64>,
    /// Without effect: the kernel has no such limit any more
    #[arg(long, hide = true, value_parser = bytes, allow_hyphen_values = true)]
    kernel_memory_tcp: Option<i64>,
    /// Bytes of memory
    #[arg(long, value_parser = bytes, allow_hyphen_values = true)]
    memory: Option<i64>,
    /// Bytes of memory that are kept when memory is short
    #[arg(long, value_parser = bytes, allow_hyphen_values = true)]
    memory_reservation: Option<i64>,
    /// Bytes of memory and swap together
    #[arg(long, value_parser = bytes, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Number of processes
    #[arg(long, allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Not supported
    #[arg(long, hide = true)]
    l3_cache_schema: Option<String>,
    /// Not supported
    #[arg(long, hide = true)]
    mem_bw_schema: Option<String>,
}

/// Changes what a container may use; what is not named stays.
pub fn update(store: &Store, args: &UpdateArgs) -> Result<()> {
    let mut container = store.find(&args.id)?;
    if args.l3_cache_schema.is_some() {
        bail!("Intel RDT/CAT: l3 cache schema is not enabled");
    }
    if args.mem_bw_schema.is_some() {
        bail!("Intel RDT/MBA: memory bandwidth schema is not enabled");
    }
    if container.status() == Status::Stopped {
        bail!("container not running");
    }
    let change = match &args.resources {
        Some(path) => {
            serde_json::from_slice(&input(path)?).with_context(|| format!("understand {}", path.display()))?
        }
        None => of_flags(args)?,
    };
    let known = container.record.config.linux().as_ref().and_then(|l| l.resources().clone()).unwrap_or_default();
    let change = with_both_cpu_values(change, &known)?;
    let limits = Limits::from_spec(&serde_json::from_value(change.clone()).context("understand the resources")?)?;
    container.cgroup().update(&limits)?;
    let mut all = serde_json::to_value(&known).context("write the resources")?;
    merge(&mut all, change);
    let all: LinuxResources = serde_json::from_value(all).context("write the resources")?;
    if let Some(linux) = container.record.config.linux_mut() {
        linux.set_resources(Some(all));
    }
    container.save()
}

fn input(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut text).context("read the resources from standard input")?;
    } else {
        text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    }
    Ok(text)
}

fn of_flags(args: &UpdateArgs) -> Result<Value> {
    let mut groups: [(&str, Map<String, Value>); 4] = ["memory", "cpu", "blockIO", "pids"].map(|n| (n, Map::new()));
    let mut set = |group: usize, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            groups[group].1.insert(key.to_owned(), value);
        }
    };
    set(0, "limit", args.memory.map(Value::from));
    set(0, "reservation", args.memory_reservation.map(Value::from));
    set(0, "swap", args.memory_swap.map(Value::from));
    set(0, "kernel", args.kernel_memory.map(Value::from));
    set(0, "kernelTCP", args.kernel_memory_tcp.map(Value::from));
    set(1, "shares", args.cpu_share.map(Value::from));
    set(1, "quota", args.cpu_quota.map(Value::from));
    set(1, "burst", args.cpu_burst.map(Value::from));
    set(1, "period", args.cpu_period.map(Value::from));
    set(1, "realtimeRuntime", args.cpu_rt_runtime.map(Value::from));
    set(1, "realtimePeriod", args.cpu_rt_period.map(Value::from));
    set(1, "cpus", args.cpuset_cpus.clone().map(Value::from));
    set(1, "mems", args.cpuset_mems.clone().map(Value::from));
    set(1, "idle", args.cpu_idle.map(Value::from));
    set(2, "weight", args.blkio_weight.map(Value::from));
    set(3, "limit", args.pids_limit.map(Value::from));
    let all = groups.into_iter().filter(|(_, group)| !group.is_empty());
    Ok(Value::Object(all.map(|(name, group)| (name.to_owned(), Value::Object(group))).collect()))
}

/// Quota and period are one setting of the kernel's: who changes one of them keeps the other.
fn with_both_cpu_values(mut change: Value, known: &LinuxResources) -> Result<Value> {
    if !change.is_object() || change.get("cpu").is_some_and(|cpu| !cpu.is_object() && !cpu.is_null()) {
        bail!("resources are an object, and cpu in it is another one");
    }
    let given = |key: &str| change["cpu"][key].as_i64().filter(|n| *n != 0);
    let cpu = known.cpu().as_ref();
    let missing = match (given("quota"), given("period")) {
        (Some(_), None) => cpu.and_then(|c| c.period()).map(|p| ("period", Value::from(p))),
        (None, Some(_)) => cpu.and_then(|c| c.quota()).map(|q| ("quota", Value::from(q))),
        _ => None,
    };
    if let (Some((key, value)), Some(cpu)) = (missing, change["cpu"].as_object_mut()) {
        cpu.insert(key.to_owned(), value);
    }
    if change["cpu"].is_null()
        && let Some(all) = change.as_object_mut()
    {
        all.remove("cpu");
    }
    Ok(change)
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// The container
    id: String,
    /// How often its use is shown
    #[arg(long, default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// Show its use once
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Shows what a container uses, and when the kernel kills in it for lack of memory, until it ends.
pub fn events(store: &Store, args: &EventsArgs) -> Result<()> {
    let container = store.find(&args.id)?;
    if container.status() == Status::Stopped {
        bail!("container with id {} is not running", args.id);
    }
    let cgroup = container.cgroup();
    let tell = |kind: &'static str, data: Option<Stats>| {
        let event = Event { kind, id: &args.id, data };
        print(&(serde_json::to_string(&event).context("write an event")? + "\n"))
    };
    if args.stats {
        return tell("stats", Some(cgroup.stats()?));
    }
    let mut watch = cgroup.oom_watch()?;
    let pidfd = container.pidfd()?;
    let after = |moment: Instant| moment.checked_add(args.interval).context("the interval is too long");
    let mut next = after(Instant::now())?;
    loop {
        let interests = [
            Interest { fd: pidfd.as_fd(), read: true, write: false },
            Interest { fd: watch.as_fd(), read: true, write: false },
        ];
        let left = next.saturating_duration_since(Instant::now());
        let ready = poll::wait(&interests, Some(left)).context("wait for events")?;
        if ready[1].read {
            for news in watch.news().context("hear of the memory")? {
                match news {
                    MemoryEvent::OutOfMemory => tell("oom", None)?,
                    MemoryEvent::Ended => return Ok(()),
                }
            }
        }
        if ready[0].read {
            return Ok(());
        }
        if Instant::now() >= next {
            tell("stats", Some(cgroup.stats()?))?;
            next += args.interval;
        }
    }
}
