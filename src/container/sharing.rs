//! Namespaces that a container has not for itself.

use super::containers::{Container, Containers};
use super::options::RunOptions;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
        let other = containers.find(id).with_context(|| format!("join the {kind} namespace of another container"))?;
        match other.snapshot()?.init() {
            Some(init) => Ok(Some(PathBuf::from(format!("/proc/{}/{kind}", init.pid)))),
            None => bail!("cannot join {} of a non running container: {id}", kind.rsplit('/').next().unwrap_or(kind)),
        }
    };
    let options = &container.record.options;
    Ok(Joined {
        pid: file(&options.pid, "ns/pid")?,
        ipc: file(&options.ipc, "ns/ipc")?,
        uts: file(&options.uts, "ns/uts")?,
        shm: file(&options.ipc, "root/dev/shm")?,
    })
}
