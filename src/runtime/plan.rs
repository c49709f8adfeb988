//! From a specification to a plan: everything unpacked, checked and refused once, before anything is made.

use super::cgroup::{Cgroup, Limits};
use super::devices::{self, Device};
use super::mounts::{MountOp, propagation};
use super::process::ProcessPlan;
use super::seccomp::Filter;
use crate::sys::bpf::DeviceRule;
use crate::sys::mount::Propagation;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Linux, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespaceType, LinuxResources, Spec};
use rustix::fs::FileType;
use std::path::{Path, PathBuf};

/// What a container is to be, with nothing left to look up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the root file system is, or is to be mounted.
    pub rootfs: PathBuf,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// Propagation of the host's mounts in the new namespace.
    pub root_propagation: Propagation,
    /// `CLONE_NEW*` flags of all new namespaces but the cgroup one.
    pub namespaces: u64,
    /// A new cgroup namespace, made after the cgroup was joined so that it is the root of it.
    pub cgroup_namespace: bool,
    /// Host name, in a namespace of its own.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// In the order of mounting.
    pub mounts: Vec<MountOp>,
    /// Nodes beyond the default ones.
    pub devices: Vec<Device>,
    /// Paths that show nothing.
    pub masked: Vec<PathBuf>,
    /// Paths that cannot be written.
    pub read_only: Vec<PathBuf>,
    /// Kernel settings of the new namespaces, as paths below /proc/sys.
    pub sysctls: Vec<(PathBuf, String)>,
    /// Where its processes are.
    pub cgroup: Cgroup,
    /// What they may use.
    pub limits: Limits,
    /// The first process.
    pub process: ProcessPlan,
}

impl Plan {
    /// Works out the plan for the specification of the bundle at `bundle`.
    ///
    /// # Errors
    /// What is missing, contradictory, or not supported by this version.
    pub fn resolve(spec: &Spec, bundle: &Path) -> Result<Plan> {
        let linux = spec.linux().as_ref().context("the specification has no linux part")?;
        let root = spec.root().as_ref().context("the specification has no root")?;
        let process = spec.process().as_ref().context("the specification has no process")?;
        refuse_unsupported(spec, linux)?;
        let (namespaces, cgroup_namespace) = namespaces(linux)?;
        let path = linux.cgroups_path().as_deref().context("the specification has no cgroupsPath")?;
        let mounts = spec.mounts().iter().flatten().map(MountOp::from_spec).collect::<Result<Vec<_>>>()?;
        let limits = linux.resources().as_ref().map(limits).transpose()?.unwrap_or_default();
        let has = |flag: i32| namespaces & flag as u64 != 0;
        if (spec.hostname().is_some() || spec.domainname().is_some()) && !has(libc::CLONE_NEWUTS) {
            bail!("a host name needs a UTS namespace of the container's own");
        }
        let root_propagation = linux.rootfs_propagation().as_deref().map_or(Some(Propagation::Private), propagation);
        Ok(Plan {
            rootfs: bundle.join(root.path()),
            read_only_root: root.readonly().unwrap_or(false),
            root_propagation: root_propagation.context("unknown rootfsPropagation")?,
            namespaces,
            cgroup_namespace,
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            mounts,
            devices: linux.devices().iter().flatten().map(device).collect(),
            masked: paths(linux.masked_paths()),
            read_only: paths(linux.readonly_paths()),
            sysctls: sysctls(linux, namespaces)?,
            cgroup: Cgroup::at(path)?,
            limits: Limits { devices: device_rules(linux)?, ..limits },
            process: ProcessPlan::from_spec(process)?.confined(filter(linux)?),
        })
    }
}

/// The filter of system calls, for the first process and those that join it.
///
/// # Errors
/// A filter that cannot be.
pub fn filter(linux: &Linux) -> Result<Option<Filter>> {
    let filter = linux.seccomp().as_ref().map(Filter::compile).transpose().context("linux.seccomp")?;
    if let Some(path) = filter.as_ref().and_then(Filter::listener_path) {
        bail!("linux.seccomp.listenerPath {} is not supported by this version", path.display());
    }
    Ok(filter)
}

/// Silence about a wish that is not fulfilled would be a security hole.
fn refuse_unsupported(spec: &Spec, linux: &Linux) -> Result<()> {
    let hooks = spec.hooks().as_ref().is_some_and(|h| *h != Default::default());
    let process = spec.process().as_ref();
    let wishes = [
        (hooks, "hooks"),
        (linux.uid_mappings().iter().flatten().next().is_some(), "linux.uidMappings"),
        (linux.gid_mappings().iter().flatten().next().is_some(), "linux.gidMappings"),
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.personality().is_some(), "linux.personality"),
        (linux.time_offsets().is_some(), "linux.timeOffsets"),
        (linux.mount_label().as_deref().is_some_and(|l| !l.is_empty()), "linux.mountLabel"),
        (process.is_some_and(|p| p.apparmor_profile().is_some()), "process.apparmorProfile"),
        (process.is_some_and(|p| p.selinux_label().is_some()), "process.selinuxLabel"),
        (process.is_some_and(|p| p.io_priority().is_some()), "process.ioPriority"),
        (process.is_some_and(|p| p.scheduler().is_some()), "process.scheduler"),
        (process.is_some_and(|p| p.exec_cpu_affinity().is_some()), "process.execCPUAffinity"),
    ];
    match wishes.iter().find(|(wished, _)| *wished) {
        Some((_, name)) => bail!("{name} is not supported by this version"),
        None => Ok(()),
    }
}

fn namespaces(linux: &Linux) -> Result<(u64, bool)> {
    let (mut flags, mut cgroup) = (0u64, false);
    for namespace in linux.namespaces().iter().flatten() {
        if let Some(path) = namespace.path() {
            bail!("joining the namespace {} is not supported by this version", path.display());
        }
        flags |= match namespace.typ() {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            LinuxNamespaceType::Cgroup => {
                cgroup = true;
                continue;
            }
            other => bail!("{other:?} namespaces are not supported by this version"),
        } as u64;
    }
    if flags & libc::CLONE_NEWNS as u64 == 0 {
        bail!("a container needs a mount namespace of its own");
    }
    Ok((flags, cgroup))
}

fn limits(resources: &LinuxResources) -> Result<Limits> {
    let (memory, cpu) = (resources.memory().as_ref(), resources.cpu().as_ref());
    if resources.block_io().is_some() || resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        bail!("linux.resources.blockIO and unified are not supported by this version");
    }
    Ok(Limits {
        memory: memory.and_then(|m| m.limit()),
        memory_swap: memory.and_then(|m| m.swap()),
        memory_reservation: memory.and_then(|m| m.reservation()),
        cpu_quota: cpu.and_then(|c| c.quota()),
        cpu_period: cpu.and_then(|c| c.period()),
        cpu_shares: cpu.and_then(|c| c.shares()),
        cpuset_cpus: cpu.and_then(|c| c.cpus().clone()),
        cpuset_mems: cpu.and_then(|c| c.mems().clone()),
        pids: resources.pids().as_ref().map(|p| p.limit()),
        devices: Vec::new(),
    })
}

/// The specification's rules, with the default devices always usable; none at all leaves everything denied but those.
fn device_rules(linux: &Linux) -> Result<Vec<DeviceRule>> {
    let mut rules = devices::default_rules();
    let asked = linux.resources().as_ref().and_then(|r| r.devices().as_ref());
    for rule in asked.into_iter().flatten() {
        rules.push(device_rule(rule)?);
    }
    // A later blanket denial must not take the default devices away, and comes first in its own right.
    if let Some(at) = rules.iter().rposition(|r| !r.allow && r.kind == 'a') {
        let (rest, defaults) = (rules.split_off(at), rules);
        rules = vec![rest[0].clone()];
        rules.extend(defaults.into_iter().filter(|r| r.allow));
        rules.extend(rest.into_iter().skip(1));
    }
    Ok(rules)
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let number = |n: Option<i64>| -> Result<Option<u32>> {
        match n {
            None | Some(-1) => Ok(None),
            Some(n) => Ok(Some(u32::try_from(n).context("a device number is out of range")?)),
        }
    };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => 'a',
        Some(LinuxDeviceType::B) => 'b',
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
        Some(LinuxDeviceType::P) => bail!("a fifo needs no device rule"),
    };
    let access = rule.access().clone().unwrap_or_else(|| "rwm".into());
    if let Some(bad) = access.chars().find(|c| !"rwm".contains(*c)) {
        bail!("unknown device access {bad:?}");
    }
    Ok(DeviceRule { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
}

fn device(device: &oci_spec::runtime::LinuxDevice) -> Device {
    Device {
        path: device.path().clone(),
        kind: match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        },
        number: (device.major() as u32, device.minor() as u32),
        mode: device.file_mode().unwrap_or(0o666),
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    }
}

fn paths(list: &Option<Vec<String>>) -> Vec<PathBuf> {
    list.iter().flatten().map(PathBuf::from).collect()
}

/// Only settings that belong to a namespace of the container's own may be changed.
fn sysctls(linux: &Linux, namespaces: u64) -> Result<Vec<(PathBuf, String)>> {
    let has = |flag: i32| namespaces & flag as u64 != 0;
    let mut out = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let path = key.replace('.', "/");
        let ipc = ["kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall", "kernel/shmmax"];
        let ipc = ipc.contains(&path.as_str())
            || matches!(path.as_str(), "kernel/shmmni" | "kernel/shm_rmid_forced")
            || path.starts_with("fs/mqueue/");
        let allowed = (ipc && has(libc::CLONE_NEWIPC))
            || (path.starts_with("net/") && has(libc::CLONE_NEWNET))
            || (path == "kernel/domainname" && has(libc::CLONE_NEWUTS));
        if !allowed || path.split('/').any(|part| part.is_empty() || part == "..") {
            bail!("sysctl {key:?} is not in a separate kernel namespace");
        }
        out.push((PathBuf::from(path), value.clone()));
    }
    out.sort();
    Ok(out)
}
