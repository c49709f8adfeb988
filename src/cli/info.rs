//! `info` and `version`.

use super::template::render_one;
use super::values::given;
use super::{App, output, surroundings};
use crate::container::containers::Containers;
use crate::container::state::{Status, now};
use crate::image::Store;
use crate::registry::{HUB_KEY, address};
use crate::runtime::{apparmor, cgroup};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A template
    #[arg(short, long)]
    format: Option<String>,
}

/// `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// A template
    #[arg(short, long)]
    format: Option<String>,
}

/// `minirun info`.
pub fn info(app: &App, args: &InfoArgs) -> Result<u8> {
    let document = information(app)?;
    match given(args.format.as_ref()) {
        Some(template) => output::line(&render_one(template, &document)?)?,
        None => output::print(&plain(&document))?,
    }
    Ok(0)
}

fn information(app: &App) -> Result<Value> {
    let (containers, damaged) = Containers::open(&app.root).list()?;
    let mut counts = [0usize; 3];
    for container in &containers {
        let at = match container.snapshot()?.status {
            Status::Running | Status::Restarting => 0,
            Status::Paused => 1,
            Status::Created | Status::Exited => 2,
        };
        counts[at] += 1;
    }
    let listing = Store::open(&app.root).list()?;
    let images: BTreeSet<_> = listing.images.iter().map(|l| l.image.id).collect();
    let system = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let version = match cgroup::version() {
        cgroup::Version::V2 => "2",
        _ => "1",
    };
    let backing = super::disk::kind_of(app.root.path()).unwrap_or_default();
    let mut security = vec!["name=seccomp,profile=builtin", "name=cgroupns"];
    if apparmor::is_enabled() {
        security.insert(0, "name=apparmor");
    }
    let mut document = json!({
        "Containers": containers.len() + damaged.len(),
        "ContainersRunning": counts[0],
        "ContainersPaused": counts[1],
        "ContainersStopped": counts[2],
        "Images": images.len(),
        "Driver": "overlay",
        "DriverStatus": [["Backing Filesystem", backing]],
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": version,
        "CgroupLayout": cgroup::version().to_string(),
        "Plugins": { "Volume": ["local"], "Network": [], "Authorization": null, "Log": ["json-file", "local", "none"] },
        "SecurityOptions": security,
        "DefaultRuntime": "minirun",
        "Runtimes": { "minirun": { "path": app.program.display().to_string() } },
        "InitBinary": "docker-init",
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "KernelVersion": system.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": system.machine().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory.totalram as u64 * u64::from(memory.mem_unit),
        "Name": system.nodename().to_string_lossy(),
        "ID": "",
        "DockerRootDir": app.root.path().display().to_string(),
        "StateDir": app.root.state().display().to_string(),
        "Debug": false,
        "ExperimentalBuild": false,
        "LiveRestoreEnabled": true,
        "Labels": [],
        "Warnings": [],
        "ClientInfo": { "Debug": false, "Context": "default", "Plugins": [], "Warnings": null },
    });
    for part in [limits(), around()] {
        if let (Value::Object(document), Value::Object(part)) = (&mut document, part) {
            document.extend(part);
        }
    }
    Ok(document)
}

fn around() -> Value {
    json!({
        "IndexServerAddress": HUB_KEY,
        "Isolation": "",
        "SystemTime": now(),
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
                   "RemoteManagers": null },
        "IPv4Forwarding": is_on("ipv4/ip_forward"),
        "BridgeNfIptables": is_on("bridge/bridge-nf-call-iptables"),
        "BridgeNfIp6tables": is_on("bridge/bridge-nf-call-ip6tables"),
        "HttpProxy": proxy("http_proxy"),
        "HttpsProxy": proxy("https_proxy"),
        "NoProxy": proxy("no_proxy"),
    })
}

/// Which limits this host can set.
fn limits() -> Value {
    let controllers = cgroup::controllers();
    let has = |name: &str| controllers.contains(name);
    json!({
        "MemoryLimit": has("memory"),
        "SwapLimit": has("memory") && accounts_for_swap(),
        "OomKillDisable": has("memory") && cgroup::version() != cgroup::Version::V2,
        "PidsLimit": has("pids"),
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
    })
}

/// In the old hierarchy a kernel may be told not to; in the new one it does if it has any.
fn accounts_for_swap() -> bool {
    Path::new(match cgroup::version() {
        cgroup::Version::V2 => "/proc/swaps",
        _ => "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
    })
    .exists()
}

/// Whether a switch of the network is on.
fn is_on(setting: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc/sys/net").join(setting)).is_ok_and(|text| text.trim() == "1")
}

fn proxy(name: &str) -> String {
    address::masked(surroundings::either(&name.to_uppercase(), name).unwrap_or_default())
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |n| n.trim_matches('"').to_owned())
}

/// Docker's lines, as far as they mean something here.
fn plain(info: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(s) => super::table::printable(s),
        other => other.to_string(),
    };
    let lines = [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        (" Backing Filesystem", "/DriverStatus/0/1"),
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Swarm", "/Swarm/LocalNodeState"),
        ("Default Runtime", "DefaultRuntime"),
        ("Init Binary", "InitBinary"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
        ("Total Memory", "MemTotal"),
        ("Name", "Name"),
        ("Docker Root Dir", "DockerRootDir"),
        ("State Dir", "StateDir"),
    ];
    let mut text = String::from("Client:\n Context:    default\n Debug Mode: false\n\nServer:\n");
    for (label, key) in lines {
        let value = if key.starts_with('/') { info.pointer(key) } else { info.get(key) };
        let value = match (key, value.and_then(Value::as_u64)) {
            ("MemTotal", Some(bytes)) => super::units::memory(bytes),
            _ => value.map(word).unwrap_or_default(),
        };
        text += &format!(" {label}: {value}\n");
    }
    text
}

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The version of Docker whose command line this is, and of the interface that it came with: callers refuse to work
/// with what has none. There is no such interface here.
const DOCKER: &str = "28.2.2";
const DOCKER_API: &str = "1.50";

/// What `docker --version` says where this program is called so.
pub fn version_as_docker() -> String {
    format!("Docker version {DOCKER}, build minirun-{}", env!("CARGO_PKG_VERSION"))
}

/// `minirun version`.
pub fn version(args: &VersionArgs) -> Result<u8> {
    let (number, arch) = (env!("CARGO_PKG_VERSION"), architecture());
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let document = json!({
        "Client": {
            "Platform": { "Name": "" },
            "Version": number,
            "ApiVersion": DOCKER_API,
            "DefaultAPIVersion": DOCKER_API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch,
            "BuildTime": "",
            "Context": "default",
            "Experimental": false,
        },
        "Server": {
            "Platform": { "Name": "minirun" },
            "Components": [{ "Name": "Engine", "Version": number }],
            "Version": number,
            "ApiVersion": DOCKER_API,
            "MinAPIVersion": DOCKER_API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch,
            "KernelVersion": kernel,
            "BuildTime": "",
            "Experimental": false,
        },
    });
    match given(args.format.as_ref()) {
        Some(template) => output::line(&render_one(template, &document)?)?,
        None => output::print(&format!(
            "Client: minirun\n Version:           {number}\n OS/Arch:           linux/{arch}\n Context:           default\n\n\
             Server: minirun\n Engine:\n  Version:          {number}\n  OS/Arch:          linux/{arch}\n  \
             Kernel Version:   {kernel}\n"
        ))?,
    }
    Ok(0)
}
