//! The limits of a container: taken from a specification, checked, in the kernel's units.

use super::rules::{self, Access};
use crate::runtime::devices;
use crate::sys::bpf::DeviceRule;
use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::collections::BTreeMap;

/// The limits of a container; what is absent stays as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes; -1 is without limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is without limit.
    pub memory_swap: Option<i64>,
    /// Bytes; -1 is without limit.
    pub memory_reservation: Option<i64>,
    /// 0 to 100; version 1 only.
    pub memory_swappiness: Option<u64>,
    /// Processes out of memory wait instead of being killed; version 1 only.
    pub oom_kill_disable: Option<bool>,
    /// Whether cgroups below count; old kernels only.
    pub use_hierarchy: Option<bool>,
    /// A limit below what is in use is refused instead of enforced by killing.
    pub check_before_update: bool,
    /// Microseconds of processor time in each period; negative is without limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds that may be saved up over periods.
    pub cpu_burst: Option<u64>,
    /// Relative weight, 2 to 262144, default 1024.
    pub cpu_shares: Option<u64>,
    /// 1 runs only when nobody else wants to.
    pub cpu_idle: Option<i64>,
    /// Microseconds of each period for real-time processes; version 1 only.
    pub cpu_realtime_runtime: Option<i64>,
    /// Microseconds; version 1 only.
    pub cpu_realtime_period: Option<u64>,
    /// List of processors, `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// List of memory nodes.
    pub cpuset_mems: Option<String>,
    /// Number of tasks; negative is without limit.
    pub pids: Option<i64>,
    /// Bandwidth of block devices.
    pub block_io: BlockIo,
    /// Huge pages: size as in the file names (`2MB`) and bytes.
    pub huge_pages: Vec<(String, u64)>,
    /// The class of its packets; version 1 only.
    pub network_class: Option<u32>,
    /// The priority of its packets on an interface; version 1 only.
    pub network_priorities: Vec<(String, u32)>,
    /// Handles and objects of each RDMA device.
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of version 2 and what to write there, after all else.
    pub unified: BTreeMap<String, String>,
    /// Access to device nodes; in order, the last match counts. None leaves it as it is.
    pub devices: Vec<DeviceRule>,
}

/// Limits of block devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockIo {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// The same against cgroups below, where the kernel has it.
    pub leaf_weight: Option<u16>,
    /// Weights of one device.
    pub weight_devices: Vec<WeightDevice>,
    /// Rates of one device.
    pub throttles: Vec<Throttle>,
}

/// The weights for one device.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightDevice {
    /// `major:minor`.
    pub device: String,
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// The same against cgroups below.
    pub leaf_weight: Option<u16>,
}

/// The highest rate of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Throttle {
    /// What is counted.
    pub what: Rate,
    /// `major:minor`.
    pub device: String,
    /// A second.
    pub rate: u64,
}

/// What a [`Throttle`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}

/// The limits of one RDMA device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rdma {
    /// Handles.
    pub handles: Option<u32>,
    /// Objects.
    pub objects: Option<u32>,
}

impl Limits {
    /// The limits that a specification asks for; as in other runtimes zero is the same as nothing. Without rules about
    /// devices there are none here either: what is changed by an update leaves them alone.
    ///
    /// # Errors
    /// A value that no kernel takes.
    pub fn from_spec(resources: &LinuxResources) -> Result<Limits> {
        let mut limits = Limits::default();
        if let Some(memory) = resources.memory() {
            limits.take_memory(memory).context("linux.resources.memory")?;
        }
        if let Some(cpu) = resources.cpu() {
            limits.take_cpu(cpu).context("linux.resources.cpu")?;
        }
        if let Some(block_io) = resources.block_io() {
            limits.block_io = BlockIo::from_spec(block_io).context("linux.resources.blockIO")?;
        }
        limits.pids = resources.pids().as_ref().map(|p| p.limit()).filter(|n| *n != 0);
        limits.take_others(resources)?;
        let asked = resources.devices().iter().flatten();
        let asked = asked.map(rules::from_spec).collect::<Result<Vec<_>>>().context("linux.resources.devices")?;
        if !asked.is_empty() {
            limits.devices = with_default_devices(asked.concat())?;
        }
        Ok(limits)
    }

    /// The limits of a new container, which always has rules about devices.
    pub fn for_new(resources: Option<&LinuxResources>) -> Result<Limits> {
        let mut limits = resources.map(Limits::from_spec).transpose()?.unwrap_or_default();
        if limits.devices.is_empty() {
            limits.devices = with_default_devices(Vec::new())?;
        }
        Ok(limits)
    }

    fn take_memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        self.memory = amount("limit", memory.limit())?;
        self.memory_swap = amount("swap", memory.swap())?;
        self.memory_reservation = amount("reservation", memory.reservation())?;
        // Kernel memory has no limits of its own any more; the values are checked and have no effect.
        amount("kernel", memory.kernel())?;
        amount("kernelTCP", memory.kernel_tcp())?;
        if let (Some(limit @ 1..), Some(swap @ 1..)) = (self.memory, self.memory_swap) {
            ensure!(swap >= limit, "memory+swap limit should be >= memory limit, {swap} is less than {limit}");
        }
        // Some callers write -1 for nothing.
        self.memory_swappiness = memory.swappiness().filter(|n| *n != u64::MAX);
        if let Some(n @ 101..) = self.memory_swappiness {
            bail!("invalid value: {n}. valid memory swappiness range is 0-100");
        }
        self.oom_kill_disable = memory.disable_oom_killer();
        self.use_hierarchy = memory.use_hierarchy();
        self.check_before_update = memory.check_before_update().unwrap_or(false);
        Ok(())
    }

    fn take_cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        self.cpu_shares = cpu.shares().filter(|n| *n != 0);
        self.cpu_quota = cpu.quota().filter(|n| *n != 0);
        self.cpu_period = cpu.period().filter(|n| *n != 0);
        self.cpu_burst = cpu.burst();
        self.cpu_idle = cpu.idle();
        self.cpu_realtime_runtime = cpu.realtime_runtime().filter(|n| *n != 0);
        self.cpu_realtime_period = cpu.realtime_period().filter(|n| *n != 0);
        self.cpuset_cpus = list("cpus", cpu.cpus())?;
        self.cpuset_mems = list("mems", cpu.mems())?;
        if let Some(quota @ 1..1000) = self.cpu_quota {
            bail!("a quota of {quota} microseconds is too small, the least is 1000");
        }
        if let Some(period) = self.cpu_period {
            ensure!((1000..=1_000_000).contains(&period), "the period {period} is not between 1000 and 1000000");
        }
        if let Some(idle) = self.cpu_idle {
            ensure!(matches!(idle, 0 | 1), "idle is 0 or 1, not {idle}");
        }
        Ok(())
    }

    fn take_others(&mut self, resources: &LinuxResources) -> Result<()> {
        for limit in resources.hugepage_limits().iter().flatten() {
            let size = limit.page_size();
            let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit)).unwrap_or("");
            ensure!(
                number.parse::<u32>().is_ok_and(|n| n > 0) && number.bytes().all(|b| b.is_ascii_digit()),
                "linux.resources.hugepageLimits: {size:?} is not a page size like 2MB"
            );
            let bytes = u64::try_from(limit.limit()).context("linux.resources.hugepageLimits: a limit is negative")?;
            self.huge_pages.push((size.clone(), bytes));
        }
        if let Some(network) = resources.network() {
            self.network_class = network.class_id().filter(|n| *n != 0);
            for entry in network.priorities().iter().flatten() {
                let name = entry.name();
                ensure!(is_word(name), "linux.resources.network.priorities: {name:?} is not an interface");
                self.network_priorities.push((name.clone(), entry.priority()));
            }
        }
        for (device, limit) in resources.rdma().iter().flatten() {
            ensure!(is_word(device), "linux.resources.rdma: {device:?} is not a device");
            let limit = Rdma { handles: limit.hca_handles(), objects: limit.hca_objects() };
            if limit != Rdma::default() {
                self.rdma.insert(device.clone(), limit);
            }
        }
        for (file, value) in resources.unified().iter().flatten() {
            ensure!(!file.contains('/'), "unified resource {file:?} must be a file name (no slashes)");
            let is_well_formed = file.split_once('.').is_some_and(|(c, p)| is_word(c) && is_word(p));
            ensure!(is_well_formed, "unified resource {file:?} must be in the form CONTROLLER.PARAMETER");
            self.unified.insert(file.clone(), value.clone());
        }
        Ok(())
    }

    /// The controllers that these limits need, by their version 1 names.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        let memory = self.memory.is_some()
            || self.memory_swap.is_some()
            || self.memory_reservation.is_some()
            || self.memory_swappiness.is_some()
            || self.oom_kill_disable == Some(true);
        let cpu = self.cpu_quota.is_some()
            || self.cpu_period.is_some()
            || self.cpu_burst.is_some()
            || self.cpu_shares.is_some()
            || self.cpu_idle.is_some()
            || self.cpu_realtime_runtime.is_some()
            || self.cpu_realtime_period.is_some();
        let needs = [
            ("memory", memory),
            ("cpu", cpu),
            ("cpuset", self.cpuset_cpus.is_some() || self.cpuset_mems.is_some()),
            ("pids", self.pids.is_some()),
            ("blkio", self.block_io != BlockIo::default()),
            ("hugetlb", !self.huge_pages.is_empty()),
            ("net_cls", self.network_class.is_some()),
            ("net_prio", !self.network_priorities.is_empty()),
            ("rdma", !self.rdma.is_empty()),
        ];
        needs.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name).collect()
    }
}

impl BlockIo {
    fn from_spec(spec: &LinuxBlockIo) -> Result<BlockIo> {
        let mut block_io = BlockIo {
            weight: weight("weight", spec.weight())?,
            leaf_weight: weight("leafWeight", spec.leaf_weight())?,
            ..BlockIo::default()
        };
        for entry in spec.weight_device().iter().flatten() {
            block_io.weight_devices.push(WeightDevice {
                device: device(entry.major(), entry.minor())?,
                weight: weight("weightDevice", entry.weight())?,
                leaf_weight: weight("weightDevice", entry.leaf_weight())?,
            });
        }
        let throttles = [
            (Rate::ReadBytes, spec.throttle_read_bps_device()),
            (Rate::WriteBytes, spec.throttle_write_bps_device()),
            (Rate::Reads, spec.throttle_read_iops_device()),
            (Rate::Writes, spec.throttle_write_iops_device()),
        ];
        for (what, entries) in throttles {
            let entries: &[LinuxThrottleDevice] = entries.as_deref().unwrap_or_default();
            for entry in entries {
                let device = device(entry.major(), entry.minor())?;
                block_io.throttles.push(Throttle { what, device, rate: entry.rate() });
            }
        }
        Ok(block_io)
    }
}

/// The specification's rules between a blanket denial and the default devices, which are always usable.
fn with_default_devices(asked: Vec<DeviceRule>) -> Result<Vec<DeviceRule>> {
    let (mut rules, allowed): (Vec<_>, Vec<_>) = devices::default_rules().into_iter().partition(|r| !r.allow);
    rules.extend(asked);
    rules.extend(allowed);
    Ok(Access::of(&rules).context("linux.resources.devices")?.rules())
}

fn amount(name: &str, value: Option<i64>) -> Result<Option<i64>> {
    if let Some(bytes @ ..-1) = value {
        bail!("invalid {name} value: {bytes}");
    }
    Ok(value.filter(|bytes| *bytes != 0))
}

fn list(name: &str, value: &Option<String>) -> Result<Option<String>> {
    let value = value.as_deref().map(str::trim).filter(|v| !v.is_empty());
    if let Some(bad) = value.filter(|v| v.contains(|c: char| !c.is_ascii_digit() && !",-:/ ".contains(c))) {
        bail!("{name}: {bad:?} is not a list of numbers");
    }
    Ok(value.map(str::to_owned))
}

fn weight(name: &str, value: Option<u16>) -> Result<Option<u16>> {
    if let Some(weight @ (1..=9 | 1001..)) = value {
        bail!("{name} {weight} is not in the range 10 to 1000");
    }
    Ok(value.filter(|weight| *weight != 0))
}

fn device(major: i64, minor: i64) -> Result<String> {
    ensure!(u32::try_from(major).is_ok() && u32::try_from(minor).is_ok(), "there is no device {major}:{minor}");
    Ok(format!("{major}:{minor}"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Limits> {
        Limits::from_spec(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn nothing_and_zero_ask_for_nothing() {
        let zeros = r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":0,"swappiness":18446744073709551615},
            "cpu":{"shares":0,"quota":0,"period":0,"realtimeRuntime":0,"realtimePeriod":0,"cpus":"","mems":""},
            "blockIO":{"weight":0},"pids":{"limit":0},"devices":[],"unified":{}}"#;
        for text in ["{}", zeros] {
            let limits = parse(text).unwrap();
            assert_eq!(limits, Limits::default());
            assert!(limits.controllers().is_empty());
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (text, expected) in [
            (r#"{"memory":{"limit":-2}}"#, "linux.resources.memory: invalid limit value: -2"),
            (r#"{"memory":{"limit":9,"swap":8}}"#, "memory+swap limit should be >= memory limit"),
            (r#"{"memory":{"swappiness":101}}"#, "valid memory swappiness range is 0-100"),
            (r#"{"cpu":{"quota":999}}"#, "too small"),
            (r#"{"cpu":{"period":999}}"#, "not between 1000 and 1000000"),
            (r#"{"cpu":{"idle":2}}"#, "idle is 0 or 1"),
            (r#"{"cpu":{"cpus":"0;1"}}"#, "cpus: \"0;1\" is not a list"),
            (r#"{"blockIO":{"weight":9}}"#, "weight 9 is not in the range 10 to 1000"),
            (r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#, "there is no device -1:0"),
            (r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#, "not a page size"),
            (r#"{"network":{"priorities":[{"name":"a b","priority":1}]}}"#, "not an interface"),
            (r#"{"rdma":{"a\nb":{"hcaHandles":1}}}"#, "not a device"),
            (r#"{"unified":{"../x.y":"1"}}"#, "unified resource \"../x.y\" must be a file name (no slashes)"),
            (r#"{"unified":{"memory":"1"}}"#, "must be in the form CONTROLLER.PARAMETER"),
            (r#"{"unified":{"..":"1"}}"#, "must be in the form CONTROLLER.PARAMETER"),
            (r#"{"devices":[{"allow":true,"type":"c","major":1,"access":"x"}]}"#, "unknown device access \"x\""),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_new_container_has_the_default_devices_whatever_is_asked_for() {
        let null = |l: &Limits| l.devices.iter().any(|r| r.allow && (r.major, r.minor) == (Some(1), Some(3)));
        let denied = r#"{"devices":[{"allow":false,"type":"c","major":1,"minor":3},{"allow":false}]}"#;
        for resources in [None, Some("{}"), Some(denied)] {
            let resources = resources.map(|text| serde_json::from_str(text).unwrap());
            let limits = Limits::for_new(resources.as_ref()).unwrap();
            assert!(null(&limits) && !limits.devices[0].allow && limits.devices[0].kind == 'a');
        }
        assert!(parse("{}").unwrap().devices.is_empty());
        let all: Limits = parse(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).unwrap();
        assert!(all.devices.len() == 1 && all.devices[0].allow);
    }
}
