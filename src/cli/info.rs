//! `info` and `version`.

use super::template::render_one;
use super::{App, output};
use crate::container::containers::Containers;
use crate::container::state::Status;
use crate::image::Store;
use crate::runtime::cgroup;
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeSet;

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
    let document = json!({
        "Containers": containers.len() + damaged.len(),
        "ContainersRunning": counts[0],
        "ContainersPaused": counts[1],
        "ContainersStopped": counts[2],
        "Images": images.len(),
        "Driver": "overlay",
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "CgroupVersion": cgroup::version().to_string(),
        "KernelVersion": system.release().to_string_lossy(),
        "Architecture": system.machine().to_string_lossy(),
        "OSType": "linux",
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory.totalram * u64::from(memory.mem_unit),
        "DockerRootDir": app.root.path().display().to_string(),
        "StateDir": app.root.state().display().to_string(),
    });
    match &args.format {
        Some(template) => output::line(&render_one(template, &document)?)?,
        None => output::print(&plain(&document))?,
    }
    Ok(0)
}

fn plain(info: &Value) -> String {
    let word = |key: &str| match &info[key] {
        Value::String(s) => super::table::printable(s),
        other => other.to_string(),
    };
    format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nVersion: {}\nStorage Driver: {}\n\
         Cgroup Version: {}\nKernel Version: {}\nArchitecture: {}\nCPUs: {}\nTotal Memory: {}\nRoot Dir: {}\nState Dir: {}\n",
        word("Containers"),
        word("ContainersRunning"),
        word("ContainersPaused"),
        word("ContainersStopped"),
        word("Images"),
        word("ServerVersion"),
        word("Driver"),
        word("CgroupVersion"),
        word("KernelVersion"),
        word("Architecture"),
        word("NCPU"),
        super::units::memory(info["MemTotal"].as_u64().unwrap_or(0)),
        word("DockerRootDir"),
        word("StateDir"),
    )
}

/// `minirun version`.
pub fn version(args: &VersionArgs) -> Result<u8> {
    let version = json!({ "Version": env!("CARGO_PKG_VERSION"), "Os": "linux", "Arch": std::env::consts::ARCH });
    let document = json!({ "Client": version, "Server": version });
    match &args.format {
        Some(template) => output::line(&render_one(template, &document)?)?,
        None => output::line(&format!("minirun {}", env!("CARGO_PKG_VERSION")))?,
    }
    Ok(0)
}
