//! What is mounted from the host, opened before anything of the container's is in sight.

use super::elsewhere;
use super::mounts::{MountKind, MountOp};
use super::plan::Plan;
use crate::sys::dir::Dir;
use crate::sys::errors;
use crate::sys::mount::{self, Attributes, Propagation};
use crate::sys::process::is_host_root;
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// One detached mount for each operation that mounts something of the host's.
pub type Sources = Vec<Option<OwnedFd>>;

/// Opens them where only the parent can: root of a user namespace may neither map owners nor enter every folder.
/// `None` leaves it to the child, whose copies of the host's mounts are private already.
pub fn open_in_parent(plan: &Plan) -> Result<Option<Sources>> {
    let own_users = plan.namespaces.has(libc::CLONE_NEWUSER);
    let of_others =
        |op: &MountOp| matches!(&op.kind, MountKind::Bind { source, .. } if elsewhere::place(source).is_some());
    let only_here = plan.mounts.iter().any(|op| of_others(op) || op.idmap.is_some());
    if !own_users && !only_here {
        return Ok(None);
    }
    let sources = match open(&plan.mounts, &|_| true) {
        // Who may not mount here may in the user namespace that he makes.
        Err(e) if !only_here && errors::errno(&e) == Some(libc::EPERM) && !is_host_root() => return Ok(None),
        other => other?,
    };
    for (op, source) in plan.mounts.iter().zip(&sources) {
        let Some(source) = source else { continue };
        let none = Attributes::empty();
        mount::set_attributes(source, none, none, Some(Propagation::Private), true).context("make a mount private")?;
        if op.idmap.is_some() {
            map_owners(plan, op, source).with_context(|| format!("map the owners of {}", op.destination.display()))?;
        }
    }
    Ok(Some(sources))
}

/// Opens those that are `wanted`.
pub fn open(ops: &[MountOp], wanted: &dyn Fn(&MountOp) -> bool) -> Result<Sources> {
    ops.iter()
        .map(|op| match &op.kind {
            _ if !wanted(op) => Ok(None),
            MountKind::Bind { source, recursive: _, part: Some(part) } => part_of(source, part)
                .map(Some)
                .with_context(|| format!("cannot access path {}", source.join(part).display())),
            MountKind::Bind { source, recursive, part: None } => match elsewhere::place(source) {
                Some((pid, path)) => elsewhere::copy_of(pid, &path),
                None => mount::copy_tree(source, *recursive).map_err(Into::into),
            }
            .map(Some)
            .with_context(|| format!("open the mount source {}", source.display())),
            _ => Ok(None),
        })
        .collect()
}

/// Others may change what is in a volume while we look: the path is followed once, and never leads out.
fn part_of(source: &Path, part: &Path) -> io::Result<OwnedFd> {
    mount::copy_of(Dir::open(source)?.open_in_root(part, OFlags::PATH, Mode::empty())?)
}

fn map_owners(plan: &Plan, op: &MountOp, source: &OwnedFd) -> Result<()> {
    let Some(idmap) = &op.idmap else { return Ok(()) };
    let namespace = match (&idmap.maps, &plan.namespaces.maps) {
        (Some(maps), _) | (None, Some(maps)) => maps.namespace()?,
        (None, None) => {
            let opened = plan.namespaces.open()?.into_iter().find(|(flag, _)| *flag == libc::CLONE_NEWUSER);
            opened.context("an id-mapped mount needs mappings or a user namespace")?.1
        }
    };
    mount::set_id_map(source, &namespace, idmap.recursive).map_err(|e| match e.raw_os_error() {
        Some(libc::EINVAL) => anyhow::Error::new(e).context("its file system cannot be mounted with id mappings"),
        _ => e.into(),
    })
}
