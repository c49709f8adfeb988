//! Removing containers that are not up.

use super::containers::{Container, Containers};
use crate::sys::file::Ownership;
use anyhow::Result;

/// What a prune has done.
#[derive(Debug, Default)]
pub struct PrunedContainers {
    /// The ids of the containers that went.
    pub ids: Vec<String>,
    /// Bytes of their own layers.
    pub reclaimed: u64,
    /// Why others did not go.
    pub errors: Vec<anyhow::Error>,
}

impl Containers {
    /// Removes the containers that are not up and fit. Their volumes stay.
    pub fn prune(&self, fits: &dyn Fn(&Container) -> bool) -> Result<PrunedContainers> {
        let mut done = PrunedContainers::default();
        let (containers, _) = self.list()?;
        for container in containers.iter().filter(|container| fits(container)) {
            match take(container) {
                Ok(Some(size)) => {
                    done.ids.push(container.record.id.clone());
                    done.reclaimed += size;
                }
                Ok(None) => {}
                Err(error) => done.errors.push(error.context(format!("remove the container {}", container.record.id))),
            }
        }
        Ok(done)
    }
}

fn take(container: &Container) -> Result<Option<u64>> {
    // One that somebody is just starting or removing is in his hands.
    if !container.dir().exists() || container.snapshot()?.status.is_up() || is_owned(container) {
        return Ok(None);
    }
    let size = container.writable_size().unwrap_or(0);
    match container.remove(false, false) {
        Err(_) if container.snapshot().is_ok_and(|now| now.status.is_up()) => Ok(None),
        other => other.map(|()| Some(size)),
    }
}

fn is_owned(container: &Container) -> bool {
    Ownership::is_taken(&container.lock_path()).unwrap_or(false)
}
