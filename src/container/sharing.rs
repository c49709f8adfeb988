//! Namespaces that a container has not for itself.

use super::containers::{Container, Containers};
use super::options::{NetworkMode, RunOptions};
use crate::sys::process::{ProcessId, pidfd_kill};
use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Whose namespace of one kind a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Its own.
    #[default]
    Private,
    /// Its own, which others may join: the same to us.
    Shareable,
    /// Its own; for IPC without a `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// That of another container, by its id.
    Container(String),
}

impl Sharing {
    /// Reads `private`, `host`, `container:X`… among those that `allowed` lists; empty is private.
    pub fn parse(text: &str, allowed: &[&str]) -> Option<Sharing> {
        let word = text.split(':').next().unwrap_or(text);
        if !text.is_empty() && !allowed.contains(&word) {
            return None;
        }
        match (text, text.strip_prefix("container:")) {
            (_, Some(name)) if !name.is_empty() => Some(Sharing::Container(name.to_owned())),
            ("" | "private", _) => Some(Sharing::Private),
            ("shareable", _) => Some(Sharing::Shareable),
            ("none", _) => Some(Sharing::None),
            ("host", _) => Some(Sharing::Host),
            _ => None,
        }
    }

    /// As `inspect` shows it.
    pub fn shown(&self, private: &str) -> String {
        match self {
            Sharing::Private => private.to_owned(),
            Sharing::Shareable => "shareable".to_owned(),
            Sharing::None => "none".to_owned(),
            Sharing::Host => "host".to_owned(),
            Sharing::Container(id) => format!("container:{id}"),
        }
    }

    /// Whether no namespace is made for it.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Sharing::Host | Sharing::Container(_))
    }
}

/// The files of namespaces to join; `None` is the host's or the container's own.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    /// Process numbers.
    pub pid: Option<PathBuf>,
    /// System V and POSIX communication.
    pub ipc: Option<PathBuf>,
    /// Host and domain name.
    pub uts: Option<PathBuf>,
    /// The other container's `/dev/shm`.
    pub shm: Option<PathBuf>,
}

/// What a container shares of running containers, as it is now: a number in a path may be another process's when the
/// container is started again. Namespaces are held open.
#[derive(Debug)]
pub struct Held {
    namespaces: Vec<(LinuxNamespaceType, File)>,
    shm: Option<PathBuf>,
}

impl Held {
    /// Opens them as they are now.
    ///
    /// # Errors
    /// A container that is gone or not running.
    pub fn open(container: &Container) -> Result<Held> {
        let containers = Containers::open(&container.root);
        let options = &container.record.options;
        let network = match &options.network {
            NetworkMode::Container(id) => Sharing::Container(id.clone()),
            _ => Sharing::Private,
        };
        let mut held = Held { namespaces: Vec::new(), shm: None };
        for (kind, file, sharing) in [
            (LinuxNamespaceType::Network, "net", &network),
            (LinuxNamespaceType::Pid, "pid", &options.pid),
            (LinuxNamespaceType::Ipc, "ipc", &options.ipc),
            (LinuxNamespaceType::Uts, "uts", &options.uts),
        ] {
            let Sharing::Container(id) = sharing else { continue };
            let what = || format!("join the {kind} namespace of the container {id}");
            let called = if kind == LinuxNamespaceType::Network { "network" } else { file };
            let init = running(&containers, id, called)?;
            let alive = init.open().with_context(what)?;
            let opened = File::open(format!("/proc/{}/ns/{file}", init.pid)).with_context(what)?;
            // Its number may have been given away before the file was opened.
            pidfd_kill(&alive, 0).with_context(what)?;
            held.namespaces.push((kind, opened));
            if kind == LinuxNamespaceType::Ipc {
                held.shm = Some(format!("/proc/{}/root/dev/shm", init.pid).into());
            }
        }
        Ok(held)
    }

    /// Puts them in the place of those that the specification names.
    pub fn put_into(&self, spec: &mut Spec) {
        let all = spec.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut());
        for namespace in all.into_iter().flatten() {
            if let Some((_, file)) = self.namespaces.iter().find(|(kind, _)| *kind == namespace.typ()) {
                namespace.set_path(Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into()));
            }
        }
        let mounts = spec.mounts_mut().as_mut();
        let is_shm = |mount: &&mut Mount| mount.destination() == Path::new("/dev/shm");
        if let (Some(shm), Some(mount)) = (&self.shm, mounts.and_then(|all| all.iter_mut().find(is_shm))) {
            // It may be a volume of the user's instead.
            let of_container = |source: &PathBuf| source.starts_with("/proc") && source.ends_with("root/dev/shm");
            if mount.source().as_ref().is_some_and(of_container) {
                mount.set_source(Some(shm.clone()));
            }
        }
    }
}

/// The first process of a container whose namespace is joined; `called` names its kind.
fn running(containers: &Containers, id: &str, called: &str) -> Result<ProcessId> {
    let other = containers.find(id).with_context(|| format!("join {called} of another container"))?;
    let init = other.snapshot()?.init();
    init.with_context(|| format!("cannot join {called} of a non running container: {id}"))
}

/// Puts ids in the place of the names that a user gave.
///
/// # Errors
/// A container that is not there.
pub fn by_id(containers: &Containers, options: &mut RunOptions) -> Result<()> {
    for sharing in [&mut options.pid, &mut options.ipc, &mut options.uts] {
        if let Sharing::Container(name) = sharing {
            *name = containers.find(name)?.record.id;
        }
    }
    Ok(())
}

/// Finds the namespaces of the containers that a container shares one with.
///
/// # Errors
/// One that is gone or not running.
pub fn find(container: &Container) -> Result<Joined> {
    let containers = Containers::open(&container.root);
    let file = |sharing: &Sharing, kind: &str| -> Result<Option<PathBuf>> {
        let Sharing::Container(id) = sharing else { return Ok(None) };
        let init = running(&containers, id, kind.rsplit('/').next().unwrap_or(kind))?;
        Ok(Some(PathBuf::from(format!("/proc/{}/{kind}", init.pid))))
    };
    let options = &container.record.options;
    Ok(Joined {
        pid: file(&options.pid, "ns/pid")?,
        ipc: file(&options.ipc, "ns/ipc")?,
        uts: file(&options.uts, "ns/uts")?,
        shm: file(&options.ipc, "root/dev/shm")?,
    })
}
