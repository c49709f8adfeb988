//! From a container to an image.

use super::commit_volumes;
use super::compose::add_environment;
use super::containers::Container;
use super::options::{HealthOptions, MountSource};
use super::record::Record;
use super::state::Status;
use crate::image::Store;
use crate::image::config::{ContainerConfig, Empty, Healthcheck};
use crate::image::digest::Digest;
use crate::image::progress::Watcher;
use crate::image::reference::Reference;
use crate::image::{CommitSource, NewImage};
use crate::runtime::cgroup::Cgroup;
use crate::sys::process::{self, Child, Forked};
use crate::sys::signal;
use anyhow::{Context, Result};
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::OwnedFd;

/// What a user asks of `commit`.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Who made it.
    pub author: String,
    /// A remark.
    pub message: String,
    /// What the image says of containers, mostly what [`config`] says.
    pub config: ContainerConfig,
    /// Freeze the container meanwhile, so that the layer is one moment of it.
    pub pause: bool,
    /// The image's name.
    pub reference: Option<Reference>,
    /// Make one layer of the changes and of the image's layers, but for so many of the lowest.
    pub squash_above: Option<usize>,
    /// When the image says it was made, so that the same changes make the same image; without it that is now.
    pub date: Option<jiff::Timestamp>,
    /// Add a layer with what is in the container's volumes.
    pub with_volumes: bool,
    /// Who wants to know how far it is.
    pub watcher: Watcher,
}

/// Makes an image of a container's changes; volumes are part of it only if that is asked for. Returns the image's id.
pub fn commit(container: &Container, options: &CommitOptions) -> Result<Digest> {
    let record = &container.record;
    let frozen = match options.pause && container.snapshot()?.status == Status::Running {
        true => Some(Frozen::new(container.cgroup()?)?),
        false => None,
    };
    let upper = container.upper();
    let source = CommitSource { upper: &upper, base: &record.base, base_id: record.image };
    let image = NewImage {
        config: options.config.clone(),
        author: options.author.clone(),
        message: options.message.clone(),
        created_by: record.command_line().join(" "),
        // What is to be the same each time says nothing of whose changes they were.
        container: if options.date.is_some() { String::new() } else { record.id.clone() },
        squash_above: options.squash_above,
        date: options.date,
        watcher: options.watcher.clone(),
    };
    let with_volumes = options.with_volumes && record.volumes().next().is_some();
    let reference = options.reference.as_ref();
    let own = Store::open(&container.root).commit(source, image, reference.filter(|_| !with_volumes));
    let result = match own {
        Ok(id) if with_volumes => commit_volumes::add(container, id, reference),
        other => other,
    };
    let thawed = frozen.map_or(Ok(()), |frozen| frozen.cgroup.freeze(false));
    if let Ok(id) = &result {
        let name = options.reference.as_ref().map(Reference::familiar).unwrap_or_default();
        let comment = options.message.clone();
        container.tell("commit", &[("comment", comment), ("imageID", id.to_string()), ("imageRef", name)]);
    }
    result
        .and_then(|id| thawed.map(|()| id).context("the image was made, but its container is still paused: unpause it"))
}

/// The image's configuration with what the container was started with.
pub fn config(record: &Record) -> ContainerConfig {
    let mut config = record.config();
    let options = &record.options;
    add_environment(&mut config.env, &options.env);
    match &options.entrypoint {
        Some(e) if e.is_empty() => (config.entrypoint, config.cmd) = (None, None),
        Some(e) => (config.entrypoint, config.cmd) = (Some(vec![e.clone()]), None),
        None => {}
    }
    if !options.command.is_empty() {
        config.cmd = Some(options.command.clone());
    }
    if let Some(dir) = &options.workdir {
        config.working_dir.clone_from(dir);
    }
    if let Some(user) = &options.user {
        config.user.clone_from(user);
    }
    if let Some(signal) = options.stop_signal {
        config.stop_signal = Some(signal::name(signal));
    }
    for (port, protocol) in record.exposed_ports() {
        config.exposed_ports.insert(format!("{port}/{protocol}"), Empty {});
    }
    config.healthcheck = healthcheck(record, config.healthcheck);
    config.labels.extend(options.labels.clone());
    for mount in options.mounts.iter().filter(|m| m.source == MountSource::Anonymous) {
        config.volumes.insert(mount.target.clone(), Empty {});
    }
    config
}

/// The image's check with the user's wishes over it.
fn healthcheck(record: &Record, of_image: Option<Healthcheck>) -> Option<Healthcheck> {
    let wishes = &record.options.health;
    if wishes.off {
        return Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
    }
    if *wishes == HealthOptions::default() {
        return of_image;
    }
    let mut check = of_image.unwrap_or_default();
    if let Some(line) = &wishes.command {
        check.test = vec!["CMD-SHELL".into(), line.clone()];
    }
    check.interval = wishes.interval.unwrap_or(check.interval);
    check.timeout = wishes.timeout.unwrap_or(check.timeout);
    check.start_period = wishes.start_period.unwrap_or(check.start_period);
    check.retries = wishes.retries.unwrap_or(check.retries);
    if let Some(interval) = wishes.start_interval {
        check.other.insert("StartInterval".into(), interval.into());
    }
    Some(check)
}

/// A frozen container, thawed again when this is dropped, and also when we are killed before.
struct Frozen {
    cgroup: Cgroup,
    guard: Child,
    line: Option<OwnedFd>,
}

impl Frozen {
    fn new(cgroup: Cgroup) -> Result<Frozen> {
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (ear, line) = pipe.context("make a pipe")?;
        match process::fork_into(0, None).context("make a guard for the frozen container")? {
            Forked::Child => {
                drop(line);
                guard(&cgroup, &ear)
            }
            Forked::Parent(guard) => {
                let frozen = Frozen { cgroup, guard, line: Some(line) };
                frozen.cgroup.freeze(true)?;
                Ok(frozen)
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(line) = self.line.take()
            && self.cgroup.freeze(false).is_ok()
        {
            let _ = rustix::io::write(&line, b"done");
        }
        // Without that word it tries once more.
        let _ = process::reap(&self.guard.pidfd);
    }
}

/// Outlives whoever froze the container, in a session of its own where no key reaches it, and thaws it unless that
/// was done.
fn guard(cgroup: &Cgroup, ear: &OwnedFd) -> ! {
    process::set_name(c"minirun-guard");
    let _ = rustix::process::setsid();
    if !matches!(rustix::io::read(ear, &mut [0u8; 4]), Ok(n) if n > 0) {
        let _ = cgroup.freeze(false);
    }
    process::exit_now(0)
}
