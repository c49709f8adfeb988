//! From what a user asked for to an OCI specification. Pure: the same inputs give the same `Spec`.
//!
//! All of Docker's rules about what a container looks like inside are here.

use super::device_requests::Granted;
use super::options::{Below, MountSource, NetworkMode, Seccomp};
use super::record::{MountPoint, Record};
use super::resources::resources;
use super::seccomp_profile::{self, Setting, Version};
use super::sharing::{Joined, Sharing};
use super::users::Identity;
use super::volumes::Sources;
use crate::runtime::mounts::SUBPATH;
use crate::sys::mount::join_paths;
use crate::sys::process;
use crate::volume::Source;
use anyhow::{Context, Result, bail};
use oci_spec::runtime as oci;
use oci_spec::runtime::Capability;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What compose must be told about the world.
#[derive(Clone, Debug)]
pub struct World {
    /// Of the image, the lowest first, with the stub layer below all.
    pub layers: Vec<PathBuf>,
    /// The container's folder.
    pub directory: PathBuf,
    /// Where this run's own files are: `hosts` and the others that are mounted over the image's.
    pub bundle: PathBuf,
    /// Where those of its network are: its own or the bundle of the container whose network it shares.
    pub network_files: PathBuf,
    /// Where its root file system is mounted, in its own mount namespace.
    pub mount_point: PathBuf,
    /// Who the process is.
    pub identity: Identity,
    /// What is behind the mounts.
    pub sources: Sources,
    /// This program, to be mounted as the reaper.
    pub program: PathBuf,
    /// The kernel's version.
    pub kernel: Version,
    /// The host's devices, for a privileged container.
    pub devices: Vec<oci::LinuxDevice>,
    /// What it may use of the host's devices.
    pub granted: Granted,
    /// The namespaces of other containers that it is in.
    pub joined: Joined,
}

/// Where the reaper appears in a container with `--init`.
pub const REAPER_PATH: &str = "/sbin/docker-init";

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// What a container cannot read, unless it is privileged.
pub const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What a container cannot write, unless it is privileged.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Composes the specification of a container.
///
/// # Errors
/// What the user must decide: no command, a path that cannot be.
pub fn compose(record: &Record, world: &World) -> Result<oci::Spec> {
    let options = &record.options;
    let root = oci::RootBuilder::default().path(world.mount_point.clone()).readonly(options.read_only).build()?;
    let mut spec = oci::SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .process(process(record, world)?)
        .mounts(mounts(record, world)?)
        .linux(linux(record, world)?)
        .build()?;
    // Names are those of the namespace that it is in.
    let own = !options.uts.is_foreign();
    spec.set_hostname(own.then(|| record.hostname()));
    spec.set_domainname(options.domainname.clone().filter(|_| own));
    if !options.annotations.is_empty() {
        spec.set_annotations(Some(options.annotations.clone().into_iter().collect()));
    }
    Ok(spec)
}

fn process(record: &Record, world: &World) -> Result<oci::Process> {
    let options = &record.options;
    let mut args = record.command_line();
    if args.is_empty() {
        bail!("No command specified");
    }
    if options.init {
        args.splice(0..0, [REAPER_PATH.to_owned(), "--".to_owned()]);
    }
    let user = oci::UserBuilder::default()
        .uid(world.identity.uid)
        .gid(world.identity.gid)
        .additional_gids(world.identity.groups.clone())
        .build()?;
    let mut builder = oci::ProcessBuilder::default()
        .terminal(options.tty)
        .user(user)
        .args(args)
        .env(environment(record, &world.identity.home))
        .cwd(working_directory(record))
        .capabilities(capabilities(record, world.identity.uid)?)
        .rlimits(resource_limits(record)?)
        .no_new_privileges(options.security.no_new_privileges);
    if let Some(score) = options.oom_score_adj {
        builder = builder.oom_score_adj(score);
    }
    if let Some(profile) = &options.security.apparmor {
        builder = builder.apparmor_profile(profile.clone());
    }
    Ok(builder.build()?)
}

/// The user's limits; the others are inherited.
pub fn resource_limits(record: &Record) -> Result<Vec<oci::PosixRlimit>> {
    let limits = record.options.ulimits.iter().map(|u| {
        let name = format!("RLIMIT_{}", u.name.to_uppercase());
        let typ = serde_json::from_value(name.clone().into()).with_context(|| format!("unknown limit {name}"))?;
        let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
        Ok(oci::PosixRlimitBuilder::default()
            .typ::<oci::PosixRlimitType>(typ)
            .soft(number(u.soft))
            .hard(number(u.hard))
            .build()?)
    });
    let mut limits = limits.collect::<Result<Vec<_>>>()?;
    let has_descriptors = record.options.ulimits.iter().any(|u| u.name == "nofile");
    if !has_descriptors && record.ports_to_publish().len() > MANY_PORTS {
        // Its supervisor has more, for a socket a port.
        let (_, hard) = process::rlimit(libc::RLIMIT_NOFILE)?;
        let typ = oci::PosixRlimitType::RlimitNofile;
        limits.push(oci::PosixRlimitBuilder::default().typ(typ).soft(hard.min(1024)).hard(hard).build()?);
    }
    Ok(limits)
}

/// So many published ports need more descriptors than a process usually may have.
pub const MANY_PORTS: usize = 500;

/// Docker's order: what every container has, the image's, the user's; a later value takes the earlier one's place.
pub fn environment(record: &Record, home: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", record.hostname())];
    if record.options.tty {
        env.push("TERM=xterm".into());
    }
    add_environment(&mut env, record.config().env.iter().chain(&record.options.env));
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Sets variables in a list; an entry without `=` removes one.
pub fn add_environment<'a>(env: &mut Vec<String>, more: impl IntoIterator<Item = &'a String>) {
    for entry in more {
        let name = entry.split('=').next().unwrap_or(entry);
        let place = env.iter().position(|e| e.split('=').next() == Some(name));
        match (place, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

/// The user's directory, or the image's; always absolute.
pub fn working_directory(record: &Record) -> PathBuf {
    let asked = record.options.workdir.clone().unwrap_or(record.config().working_dir);
    Path::new("/").join(asked)
}

/// Docker's default set, changed by the user's wishes. An ordinary user has them only in the bounding set.
pub fn capabilities(record: &Record, uid: u32) -> Result<oci::LinuxCapabilities> {
    let options = &record.options;
    let mut set: HashSet<Capability> = DEFAULT_CAPABILITIES.into();
    let named = |name: &String| -> Result<Capability> {
        name.trim_start_matches("CAP_").parse().ok().with_context(|| format!("unknown capability {name}"))
    };
    let has_all = |list: &[String]| list.iter().any(|c| c == "ALL");
    if options.privileged || has_all(&options.cap_add) {
        set = all_capabilities();
    }
    if has_all(&options.cap_drop) && !options.privileged {
        set.clear();
        if has_all(&options.cap_add) {
            set = all_capabilities();
        }
    }
    for name in options.cap_drop.iter().filter(|c| *c != "ALL") {
        set.remove(&named(name)?);
    }
    for name in options.cap_add.iter().filter(|c| *c != "ALL") {
        set.insert(named(name)?);
    }
    let mut builder = oci::LinuxCapabilitiesBuilder::default().bounding(set.clone());
    let effective = if uid == 0 { set } else { HashSet::new() };
    builder = builder.effective(effective.clone()).permitted(effective);
    Ok(builder.inheritable(HashSet::new()).ambient(HashSet::new()).build()?)
}

fn all_capabilities() -> HashSet<Capability> {
    caps::all().iter().filter_map(|c| c.to_string().trim_start_matches("CAP_").parse().ok()).collect()
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Result<oci::Mount> {
    let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
    Ok(oci::MountBuilder::default().destination(target).typ(kind).source(source).options(options).build()?)
}

fn mounts(record: &Record, world: &World) -> Result<Vec<oci::Mount>> {
    let options = &record.options;
    let writable = options.privileged || options.security.unmasked_paths;
    let ro = if writable { "rw" } else { "ro" };
    let shm = format!("size={}", options.shm_size.unwrap_or(64 << 20));
    let mut list = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"])?,
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", if options.privileged { "rw" } else { "ro" }])?,
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", ro])?,
    ];
    match (&options.ipc, &world.joined.shm) {
        (Sharing::None, _) => {}
        (Sharing::Host, _) => list.push(mount("bind", "/dev/shm", "/dev/shm", &["rbind", "rprivate", "rw"])?),
        (_, Some(other)) => list.push(mount("bind", &text(other)?, "/dev/shm", &["bind", "rprivate", "rw"])?),
        _ => list.push(mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm])?),
    }
    let etc_ro = if options.read_only { "ro" } else { "rw" };
    for file in ["resolv.conf", "hostname", "hosts"] {
        let source = world.network_files.join(file);
        list.push(mount("bind", &text(&source)?, &format!("/etc/{file}"), &["rbind", "rprivate", etc_ro])?);
    }
    if options.init {
        list.push(mount("bind", &text(&world.program)?, REAPER_PATH, &["bind", "rprivate", "ro"])?);
    }
    // A mount of the user's replaces a default one at the same place. What is below a /dev of the user's is his, too; so
    // is what is below a /sys, unless the cgroups there could be written to.
    let replaces = |u: &MountPoint, m: &oci::Mount| {
        let covers = match u.target.as_str() {
            "/dev" => true,
            "/sys" => u.read_only || options.privileged || !is_hosts_sys(u),
            _ => false,
        };
        let target = Path::new(&u.target);
        target == m.destination() || (covers && m.destination().starts_with(target))
    };
    list.retain(|m| !record.mounts.iter().any(|u| replaces(u, m)));
    for user in &record.mounts {
        list.push(user_mount(user, world)?);
    }
    // Outer before inner, and else in the order of asking.
    list.sort_by_key(|m| m.destination().components().count());
    list.insert(0, overlay(record, world)?);
    Ok(list)
}

fn is_hosts_sys(point: &MountPoint) -> bool {
    matches!(&point.source, MountSource::Bind { path, .. } if path == "/sys")
}

fn overlay(record: &Record, world: &World) -> Result<oci::Mount> {
    let path = |name: &str| text(&world.directory.join(name)).map(|p| join_paths([Path::new(&p)]));
    let mut options = vec![
        format!("lowerdir={}", join_paths(world.layers.iter().rev().map(PathBuf::as_path))),
        format!("upperdir={}", path("upper")?),
        format!("workdir={}", path("work")?),
    ];
    if record.options.remove {
        options.push("volatile".into());
    }
    Ok(oci::MountBuilder::default().destination("/").typ("overlay").source("overlay").options(options).build()?)
}

/// What a mount's own access decides.
const ACCESS: [&str; 2] = ["ro", "rw"];

fn user_mount(point: &MountPoint, world: &World) -> Result<oci::Mount> {
    match &point.source {
        MountSource::Bind { path, .. } => bind(point, Path::new(path), world),
        MountSource::Volume(name) => match world.sources.volumes.get(name).context("a volume without a place")? {
            Source::Folder { path, options } => {
                let read_only = point.read_only || options.iter().any(|o| o == "ro");
                let mut made = bind(&MountPoint { read_only, ..point.clone() }, path, world)?;
                let flags = options.iter().filter(|o| !ACCESS.contains(&o.as_str())).cloned();
                made.set_options(Some(made.options().iter().flatten().cloned().chain(flags).collect()));
                Ok(made)
            }
            Source::FileSystem { kind, device, options } => {
                let access = if point.read_only || options.iter().any(|o| o == "ro") { "ro" } else { "rw" };
                let options: Vec<&str> = options.iter().map(String::as_str).chain([access]).collect();
                mount(kind, device, &point.target, &options)
            }
        },
        MountSource::Anonymous => bail!("a volume without a name"),
        MountSource::Image { .. } => image(point, world),
        MountSource::Tmpfs { size, mode, options } => {
            let mut list = vec!["nosuid".to_owned(), "nodev".to_owned(), "noexec".to_owned()];
            list.extend(mode.map(|mode| format!("mode={mode:o}")));
            list.extend(size.map(|s| format!("size={s}")));
            list.extend(options.iter().cloned());
            if point.read_only {
                list.push("ro".into());
            }
            let list: Vec<&str> = list.iter().map(String::as_str).collect();
            mount("tmpfs", "tmpfs", &point.target, &list)
        }
    }
}

fn bind(point: &MountPoint, source: &Path, world: &World) -> Result<oci::Mount> {
    let tuning = &point.tuning;
    // Read-only means all that is below, too: a nested mount must not be a way round it.
    let (recursion, access) = match (tuning.below, point.read_only) {
        (Below::Same, true) => ("rbind", "rro"),
        (Below::Writable, true) => ("rbind", "ro"),
        (Below::Missing, true) => ("bind", "ro"),
        (Below::Missing, false) => ("bind", "rw"),
        (_, false) => ("rbind", "rw"),
    };
    let propagation = point.propagation.as_deref().unwrap_or("rprivate");
    let part = tuning.subpath.as_ref().map(|path| format!("{SUBPATH}{path}"));
    let options = [Some(recursion), Some(access), Some(propagation), part.as_deref()];
    let options: Vec<&str> = options.into_iter().flatten().collect();
    let mut made = mount("bind", &text(source)?, &point.target, &options)?;
    if let Some((uid, gid)) = world.sources.owners.get(&point.target) {
        made.set_uid_mappings(Some(swapped(*uid, world.identity.uid)?));
        made.set_gid_mappings(Some(swapped(*gid, world.identity.gid)?));
    }
    Ok(made)
}

/// The layers of an image by themselves: nothing can be written there.
fn image(point: &MountPoint, world: &World) -> Result<oci::Mount> {
    let layers = world.sources.images.get(&point.target).context("an image without a place")?;
    match (layers.as_slice(), &point.tuning.subpath) {
        ([], _) => bail!("the image at {} has no layers", point.target),
        ([one], _) => bind(point, one, world),
        (_, Some(_)) => bail!("only of an image of one layer a part can be mounted"),
        (_, None) => {
            let mut options = Vec::with_capacity(layers.len() + 1);
            for layer in layers.iter().rev() {
                options.push(format!("lowerdir+={}", text(layer)?));
            }
            options.push("ro".into());
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            mount("overlay", "overlay", &point.target, &options)
        }
    }
}

/// A map of all ids in which two have changed places.
fn swapped(one: u32, other: u32) -> Result<Vec<oci::LinuxIdMapping>> {
    let (low, high) = (one.min(other), one.max(other));
    let mut ranges = vec![(0, 0, low), (low, high, 1)];
    if low != high {
        ranges.extend([(low + 1, low + 1, high - low - 1), (high, low, 1)]);
    }
    ranges.push((high.saturating_add(1), high.saturating_add(1), u32::MAX.saturating_sub(high).saturating_sub(1)));
    let build = |(container, host, size)| {
        oci::LinuxIdMappingBuilder::default().container_id(container).host_id(host).size(size).build()
    };
    Ok(ranges.into_iter().filter(|r: &(u32, u32, u32)| r.2 > 0).map(build).collect::<std::result::Result<_, _>>()?)
}

fn linux(record: &Record, world: &World) -> Result<oci::Linux> {
    let options = &record.options;
    use oci::LinuxNamespaceType as Kind;
    let mut kinds = vec![(Kind::Mount, None)];
    let mut add = |kind, sharing: &Sharing, joined: &Option<PathBuf>| {
        if *sharing != Sharing::Host {
            kinds.push((kind, joined.clone()));
        }
    };
    add(Kind::Pid, &options.pid, &world.joined.pid);
    add(Kind::Ipc, &options.ipc, &world.joined.ipc);
    add(Kind::Uts, &options.uts, &world.joined.uts);
    add(Kind::Cgroup, &options.cgroup_namespace, &None);
    // Which namespace of another container it is only its supervisor finds out, anew for each run.
    if options.network != NetworkMode::Host {
        kinds.push((Kind::Network, None));
    }
    let namespace = |(kind, path): (Kind, Option<PathBuf>)| {
        let mut namespace = oci::LinuxNamespaceBuilder::default().typ(kind).build()?;
        namespace.set_path(path);
        Ok(namespace)
    };
    let namespaces = kinds.into_iter().map(namespace).collect::<Result<Vec<_>>>()?;
    let confined = !options.privileged && !options.security.unmasked_paths;
    let list = |paths: &[&str]| -> Vec<String> {
        if confined { paths.iter().map(|p| (*p).to_owned()).collect() } else { Vec::new() }
    };
    let mut sysctls: HashMap<String, String> = HashMap::new();
    if !matches!(options.network, NetworkMode::Host | NetworkMode::Container(_)) {
        // As Docker: ordinary users may ping and use low ports in a network of the container's own.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        sysctls.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    sysctls.extend(options.sysctls.clone());
    let mut linux = oci::LinuxBuilder::default()
        .namespaces(namespaces)
        .cgroups_path(cgroup_path(record))
        .resources(resources(options, &world.granted)?)
        .sysctl(sysctls)
        .masked_paths(list(&MASKED))
        .readonly_paths(list(&READ_ONLY))
        .devices(if options.privileged { world.devices.clone() } else { world.granted.devices.clone() })
        .build()?;
    linux.set_seccomp(seccomp(record, world)?);
    Ok(linux)
}

/// A profile of the user's own is for a privileged container, too; the builtin one is not.
fn seccomp(record: &Record, world: &World) -> Result<Option<oci::LinuxSeccomp>> {
    let capabilities = capabilities(record, world.identity.uid)?;
    let granted = capabilities.bounding().clone().unwrap_or_default();
    let setting = Setting { capabilities: &granted, machine: seccomp_profile::MACHINE, kernel: world.kernel };
    Ok(match &record.options.security.seccomp {
        Seccomp::Profile(profile) => Some(profile.resolve(&setting)),
        Seccomp::Builtin if !record.options.privileged => Some(seccomp_profile::builtin(&setting)?),
        Seccomp::Builtin | Seccomp::Unconfined => None,
    })
}

/// Where the container's processes are.
pub fn cgroup_path(record: &Record) -> PathBuf {
    match &record.options.cgroup_parent {
        Some(parent) => Path::new("/").join(parent).join(&record.id),
        // No directory of our own above it: it would be made and removed with each container that is alone.
        None => Path::new("/").join(format!("minirun-{}", record.id)),
    }
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?.to_owned())
}
