//! What a user can ask of a container, after parsing and before anything is decided.

use super::device_requests::DeviceRequest;
use super::seccomp_profile::Profile;
use super::sharing::Sharing;
use crate::image::Digest;
use crate::network::endpoint::Attachment;
use crate::network::ports::{Protocol, Publish};
use crate::network::resolver::Resolver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that `run` and `create` were asked for. Stored in the container's record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// The command after the image; empty means the image's own.
    pub command: Vec<String>,
    /// `--entrypoint`: `Some("")` clears the image's.
    pub entrypoint: Option<String>,
    /// `NAME=value` pairs, already merged from `--env-file` and `-e` in this order.
    pub env: Vec<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`: `name|uid[:group|gid]`.
    pub user: Option<String>,
    /// `--group-add`: names or numbers.
    pub group_add: Vec<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `-t`: a pseudo-terminal.
    pub tty: bool,
    /// `-i`: standard input stays open.
    pub interactive: bool,
    /// `--rm`: the container goes when it ends.
    pub remove: bool,
    /// `--init`: a reaper as pid 1.
    pub init: bool,
    /// `--read-only`: the root file system.
    pub read_only: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`, as canonical names (`CAP_NET_ADMIN`) or `ALL`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, likewise.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: SecurityOptions,
    /// `-v`, `--mount` and `--tmpfs`, in the order given.
    pub mounts: Vec<MountRequest>,
    /// `--volumes-from`: `container[:mode]`.
    pub volumes_from: Vec<String>,
    /// `--network`.
    pub network: NetworkMode,
    /// How it is in its first network: `--ip`, `--mac-address`, `--network-alias`. The name there is not used.
    pub endpoint: Attachment,
    /// Further networks that it starts in.
    pub more_networks: Vec<Attachment>,
    /// `-p`, ranges unfolded.
    pub publish: Vec<Publish>,
    /// `-P`: every exposed port at a free one of the host.
    pub publish_all: bool,
    /// `--expose`: port and protocol.
    pub expose: Vec<(u16, Protocol)>,
    /// `--dns` and what belongs to it.
    pub resolver: Resolver,
    /// `--add-host name:address`.
    pub extra_hosts: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--stop-signal`, as a number.
    pub stop_signal: Option<i32>,
    /// `--stop-timeout` in seconds; negative waits forever.
    pub stop_timeout: Option<i64>,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// Limits of memory, processor time and processes.
    pub resources: Resources,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--cgroup-parent`: an absolute cgroup path.
    pub cgroup_parent: Option<String>,
    /// `--log-opt max-size` (bytes) and `max-file`.
    pub log: LogOptions,
    /// `--log-driver`.
    pub log_driver: LogDriver,
    /// `--log-opt labels`, `env` and `tag`: what `logs --details` shows.
    pub log_details: LogDetails,
    /// `--health-…`.
    pub health: HealthOptions,
    /// `--pid`.
    pub pid: Sharing,
    /// `--ipc`.
    pub ipc: Sharing,
    /// `--uts`.
    pub uts: Sharing,
    /// `--cgroupns`.
    pub cgroup_namespace: Sharing,
    /// `--device`.
    pub devices: Vec<DeviceRequest>,
    /// `--device-cgroup-rule`.
    pub device_rules: Vec<String>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
}

/// What of `--security-opt` this version knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityOptions {
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `systempaths=unconfined`: nothing below `/proc` and `/sys` is masked or read-only.
    pub unmasked_paths: bool,
    /// `seccomp=`.
    pub seccomp: Seccomp,
    /// `apparmor=`.
    pub apparmor: Option<String>,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Those of the default profile, unless the container is privileged.
    #[default]
    Builtin,
    /// All.
    Unconfined,
    /// Those of a profile that the user wrote.
    Profile(Box<Profile>),
}

/// One volume, bind mount or tmpfs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Where the data is.
    pub source: MountSource,
    /// Absolute path in the container, without `.` and `..`.
    pub target: String,
    /// Read-only, with everything that is mounted below it.
    pub read_only: bool,
    /// Propagation (`rprivate`, `rslave`, `shared`…); `None` is `rprivate`.
    pub propagation: Option<String>,
    /// Do not fill an empty volume with the image's content.
    pub no_copy: bool,
    /// The rest.
    #[serde(default)]
    pub tuning: Tuning,
}

impl MountRequest {
    /// A mount with nothing special about it.
    pub fn new(source: MountSource, target: &str) -> MountRequest {
        let target = target.to_owned();
        let (read_only, propagation, no_copy) = (false, None, false);
        MountRequest { source, target, read_only, propagation, no_copy, tuning: Tuning::default() }
    }
}

/// What is rarely asked of a mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tuning {
    /// Asked for by `--mount`.
    pub by_mount: bool,
    /// The last part of `-v`, as Docker shows it.
    pub mode: String,
    /// What comes of the mounts below a host path.
    pub below: Below,
    /// Only this part of a volume: a relative path.
    pub subpath: Option<String>,
    /// Everything is given to the container's user when it starts.
    pub chown: bool,
    /// What belongs to the owner of the source shows as the container's user's, and the other way round.
    pub map_owner: bool,
    /// The volume belongs to another container, whose image has filled it.
    pub no_copy: bool,
    /// Labels of a volume that is made for it.
    pub volume_labels: BTreeMap<String, String>,
    /// Options of the driver of a volume that is made for it.
    pub volume_options: BTreeMap<String, String>,
}

impl Tuning {
    /// The mode of what `--tmpfs` asked for, to tell it from `--mount type=tmpfs`.
    pub const PLAIN_TMPFS: &str = "tmpfs";
}

/// Mounts below a mount's source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Below {
    /// They come along, read-only if the mount is.
    #[default]
    Same,
    /// They come along and stay writable.
    Writable,
    /// They do not come along.
    Missing,
}

/// An image that is mounted in a container: it is needed as long as the container is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageTree {
    /// Its id.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Digest>,
}

/// Where the data of a mount is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path.
        path: String,
        /// `-v` makes a missing directory, `--mount` does not.
        create: bool,
    },
    /// A named volume, made on first use.
    Volume(String),
    /// A volume with a generated name.
    Anonymous,
    /// An image's tree, read-only.
    Image {
        /// As the user named it.
        name: String,
        /// Its id and its layers, decided when the container is made.
        #[serde(default)]
        decided: Option<ImageTree>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; `None` is the kernel's default of half the memory.
        size: Option<u64>,
        /// Permission bits of its root; `None` is those of the image's folder there, or 1777.
        mode: Option<u32>,
        /// Mount options beyond size and mode, e.g. `exec`.
        options: Vec<String>,
    },
}

/// How a container is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// In the default network.
    #[default]
    Bridge,
    /// A network namespace with nothing but its loopback.
    None,
    /// The host's own network.
    Host,
    /// The network of another container, by its id.
    Container(String),
    /// In a user's network, by its name.
    Named(String),
}

impl NetworkMode {
    /// As `inspect` shows it.
    pub fn word(&self) -> String {
        match self {
            NetworkMode::Bridge => "bridge".into(),
            NetworkMode::None => "none".into(),
            NetworkMode::Host => "host".into(),
            NetworkMode::Container(id) => format!("container:{id}"),
            NetworkMode::Named(name) => name.clone(),
        }
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whatever it ended with.
    Always,
    /// As `Always`, but not after a reboot if it had been stopped by hand.
    UnlessStopped,
    /// Only after a non-zero exit status; at most so many times (0: no limit).
    OnFailure(u32),
}

/// Limits enforced by cgroups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `--memory`, bytes.
    pub memory: Option<i64>,
    /// `--memory-swap`, bytes of memory and swap together; -1 is without limit.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<i64>,
    /// `--cpus`, in billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; zero or less is without limit.
    pub pids_limit: Option<i64>,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, microseconds.
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period`, microseconds.
    pub cpu_realtime_period: Option<u64>,
    /// `--cpu-rt-runtime`, microseconds.
    pub cpu_realtime_runtime: Option<i64>,
    /// `--blkio-…` and `--device-…-bps`.
    pub block_io: BlockIo,
}

/// Limits of block devices, by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// `--blkio-weight`, 10 to 1000.
    pub weight: Option<u16>,
    /// `--blkio-weight-device`.
    pub weight_devices: Vec<(String, u16)>,
    /// Bytes a second.
    pub read_bps: Vec<(String, u64)>,
    /// Bytes a second.
    pub write_bps: Vec<(String, u64)>,
    /// Reads a second.
    pub read_iops: Vec<(String, u64)>,
    /// Writes a second.
    pub write_iops: Vec<(String, u64)>,
}

/// One `--ulimit name=soft[:hard]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower-case name without `RLIMIT_`, e.g. `nofile`.
    pub name: String,
    /// Soft limit; -1 is without limit.
    pub soft: i64,
    /// Hard limit; -1 is without limit.
    pub hard: i64,
}

/// Where a container's output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// In the container's log.
    #[default]
    JsonFile,
    /// Likewise: there is one format.
    Local,
    /// Nowhere.
    None,
}

/// What is told about a container beside its output when asked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogDetails {
    /// Names of labels.
    pub labels: Vec<String>,
    /// A regular expression for names of labels.
    pub labels_regex: Option<String>,
    /// Names of variables.
    pub env: Vec<String>,
    /// A regular expression for names of variables.
    pub env_regex: Option<String>,
    /// A template.
    pub tag: Option<String>,
}

/// `--health-…`: what is absent is the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthOptions {
    /// `--no-healthcheck`.
    pub off: bool,
    /// `--health-cmd`: a line for the shell.
    pub command: Option<String>,
    /// Nanoseconds.
    pub interval: Option<i64>,
    /// Nanoseconds.
    pub timeout: Option<i64>,
    /// Failures in a row.
    pub retries: Option<i64>,
    /// Nanoseconds.
    pub start_period: Option<i64>,
    /// Nanoseconds.
    pub start_interval: Option<i64>,
}

/// Rotation of a container's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// A file is rotated when it would grow past so many bytes.
    pub max_size: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { max_size: 10_000_000, max_files: 3 }
    }
}
