//! From a specification to a plan: everything unpacked, checked and refused once, before anything is made.

use super::cgroup::{Cgroup, Hierarchies, Limits};
use super::devices::Device;
use super::hooks::{Hooks, State};
use super::mounts::{MountKind, MountOp, propagation};
use super::namespaces::Namespaces;
use super::process::{Manner, ProcessPlan};
use crate::sys::dir::clean;
use crate::sys::mount::Propagation;
use crate::sys::process::is_host_root;
use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxDeviceType, Process, Spec};
use rustix::fs::FileType;
use std::path::{Path, PathBuf};

/// The specification in a bundle of our own making.
///
/// # Errors
/// There is none, or it is not one.
pub fn specification(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    // As text, whose strings need not be checked one by one.
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

/// What a container is to be, with nothing left to look up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the root file system is, or is to be mounted.
    pub rootfs: PathBuf,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// Propagation of the host's mounts in the new namespace.
    pub root_propagation: Propagation,
    /// Its own and those that it joins.
    pub namespaces: Namespaces,
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
    /// The user's programs at fixed moments.
    pub hooks: Hooks,
    /// What they are told.
    pub state: State,
    /// What its starter wants.
    pub manner: Manner,
}

/// For whom a plan is made.
#[derive(Clone, Copy, Debug)]
pub struct Face<'a> {
    /// The container's name.
    pub id: &'a str,
    /// Which cgroup hierarchies it joins.
    pub hierarchies: Hierarchies,
    /// Whether a cgroup that the specification neither names nor needs is done without where the caller may make none;
    /// without an answer, if he is not the host's root.
    pub may_lack_cgroup: Option<bool>,
    /// What is wanted beside the specification.
    pub manner: Manner,
}

impl Plan {
    /// Works out the plan for the specification of the bundle at `bundle`, and takes the filter of system calls out of
    /// that: hundreds of names are not copied.
    ///
    /// # Errors
    /// What is missing, contradictory, or not supported by this version.
    pub fn resolve(spec: &mut Spec, bundle: &Path, face: &Face<'_>) -> Result<Plan> {
        let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().take());
        let linux = spec.linux().as_ref().context("the specification has no linux part")?;
        let root = spec.root().as_ref().context("the specification has no root")?;
        let process = spec.process().as_ref().context("the specification has no process")?;
        refuse_unsupported(linux)?;
        refuse_labels(process)?;
        let namespaces = Namespaces::from_spec(linux)?;
        let hostnames = spec.hostname().iter().chain(spec.domainname());
        if hostnames.filter(|n| !n.is_empty()).count() > 0 && !namespaces.has(libc::CLONE_NEWUTS) {
            bail!("unable to set hostname without a private UTS namespace");
        }
        let mounts = spec.mounts().iter().flatten().map(|m| MountOp::from_spec(m, bundle));
        let mounts = mounts.collect::<Result<Vec<_>>>()?;
        mounts.iter().try_for_each(refuse_inside_proc)?;
        let root_propagation = linux.rootfs_propagation().as_deref().filter(|p| !p.is_empty());
        let root_propagation = root_propagation.map_or(Some(Propagation::Private), propagation);
        let limits = Limits::for_new(linux.resources().as_ref())?;
        let asked = linux.cgroups_path().as_deref().filter(|p| !p.as_os_str().is_empty());
        // Below the caller's own, as other runtimes do it.
        let mut cgroup = Cgroup::in_hierarchies(asked.unwrap_or(Path::new(face.id)), face.hierarchies);
        let may_lack_it = || face.may_lack_cgroup.unwrap_or_else(|| !is_host_root());
        if asked.is_none() && may_lack_it() && !cgroup.as_ref().is_ok_and(Cgroup::can_be_made) {
            ensure!(
                limits == Limits::for_new(None)?,
                "linux.resources needs a cgroup, and none can be made: name one in linux.cgroupsPath that you own"
            );
            cgroup = Ok(Cgroup::nowhere());
        }
        Ok(Plan {
            rootfs: bundle.join(root.path()),
            read_only_root: root.readonly().unwrap_or(false),
            root_propagation: root_propagation.context("unknown rootfsPropagation")?,
            hostname: spec.hostname().clone().filter(|n| !n.is_empty()),
            domainname: spec.domainname().clone().filter(|n| !n.is_empty()),
            mounts,
            devices: linux.devices().iter().flatten().map(device).collect(),
            masked: paths(linux.masked_paths()),
            read_only: paths(linux.readonly_paths()),
            sysctls: sysctls(linux, &namespaces)?,
            cgroup: cgroup?,
            limits,
            process: ProcessPlan::from_spec(process)?.in_container(linux, seccomp)?,
            hooks: Hooks::from_spec(spec)?,
            state: State {
                oci_version: spec.version().clone(),
                id: face.id.to_owned(),
                status: "creating",
                pid: 0,
                bundle: bundle.to_owned(),
                annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            },
            manner: face.manner,
            namespaces,
        })
    }
}

/// Silence about a wish that is not fulfilled would be a security hole.
fn refuse_unsupported(linux: &Linux) -> Result<()> {
    let wishes = [
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy"),
        (linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()), "linux.netDevices"),
        (linux.mount_label().as_deref().is_some_and(|l| !l.is_empty()), "linux.mountLabel"),
    ];
    match wishes.iter().find(|(wished, _)| *wished) {
        Some((_, name)) => bail!("{name} is not supported by this version"),
        None => Ok(()),
    }
}

/// Labels of a security module that this program does not speak to.
pub fn refuse_labels(process: &Process) -> Result<()> {
    if process.selinux_label().as_deref().is_some_and(|label| !label.is_empty()) {
        bail!("process.selinuxLabel is set, but SELinux is not supported by this version");
    }
    Ok(())
}

/// What programs believe about their system is in `/proc`: only what resource views replace may be covered, or anything by
/// memory, which hides and does not deceive.
fn refuse_inside_proc(op: &MountOp) -> Result<()> {
    const REPLACEABLE: [&str; 10] = [
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
        "sys/kernel/ns_last_pid",
    ];
    let Ok(below) = op.destination.strip_prefix("/proc") else { return Ok(()) };
    let is_proc = matches!(&op.kind, MountKind::FileSystem { kind, .. } if kind == "proc");
    let itself = below.as_os_str().is_empty();
    let is_bind = matches!(op.kind, MountKind::Bind { .. });
    let is_memory = matches!(&op.kind, MountKind::FileSystem { kind, .. } if kind == "tmpfs");
    if is_proc || (is_memory && !itself) || (itself && is_bind) || REPLACEABLE.iter().any(|r| below == Path::new(r)) {
        return Ok(());
    }
    bail!("{} cannot be mounted because it is inside /proc", op.destination.display())
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
    list.iter().flatten().map(|path| clean(Path::new(path))).collect()
}

/// Only settings that belong to a namespace of the container's own may be changed.
fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(PathBuf, String)>> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let mut out = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        // Names of network interfaces may hold dots; then the parts are separated by slashes.
        let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
        let ipc = path.strip_prefix("kernel/").is_some_and(|k| IPC.contains(&k)) || path.starts_with("fs/mqueue/");
        let allowed = (ipc && namespaces.differs(libc::CLONE_NEWIPC))
            || (path.starts_with("net/") && namespaces.differs(libc::CLONE_NEWNET))
            || (path == "kernel/domainname" && namespaces.differs(libc::CLONE_NEWUTS));
        if path == "kernel/hostname" {
            bail!("sysctl {key:?} is not allowed: the specification has a field for the host name");
        }
        if !allowed || path.split('/').any(|part| part.is_empty() || part == "..") {
            bail!("sysctl {key:?} is not in a separate kernel namespace");
        }
        out.push((PathBuf::from(path), value.clone()));
    }
    out.sort();
    Ok(out)
}
