//! User and group id maps: of user namespaces, and of mounts that show files under other owners.

use crate::sys::process::{self, Forked};
use crate::sys::procfs::ProcFs;
use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::LinuxIdMapping;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// The maps of one user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

/// Ids from `inside` on are ids from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    size: u32,
}

/// The kernel takes no more lines in a map.
const MAX_RANGES: usize = 340;

impl IdMaps {
    /// Understands a pair of maps of the specification; `None` if there are none.
    ///
    /// # Errors
    /// Only one of the two, empty or overflowing ranges, more ranges than the kernel takes.
    pub fn from_spec(uids: &Option<Vec<LinuxIdMapping>>, gids: &Option<Vec<LinuxIdMapping>>) -> Result<Option<IdMaps>> {
        let maps = IdMaps { uids: ranges(uids).context("uidMappings")?, gids: ranges(gids).context("gidMappings")? };
        match (maps.uids.is_empty(), maps.gids.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(maps)),
            _ => bail!("user and group id mappings go together: one of the two is missing"),
        }
    }

    /// The host's user of the container's root, if there is one.
    pub fn root(&self) -> Option<(u32, u32)> {
        let of = |ranges: &[Range]| ranges.iter().find(|r| r.inside == 0).map(|r| r.outside);
        Some((of(&self.uids)?, of(&self.gids)?))
    }

    /// Gives the maps to the user namespace of a process that was made with it. An ordinary user may only map himself;
    /// for the ids that he was given beside his own (subuid(5), subgid(5)) the host's programs are asked.
    pub fn write(&self, pid: i32) -> Result<()> {
        let proc = ProcFs::host().context("open /proc")?;
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let put = |file: &str, text: &str| {
            let path = format!("{pid}/{file}");
            proc.write(&path, text.as_bytes()).with_context(|| format!("write {text:?} to /proc/{path}"))
        };
        if user.is_root() {
            put("uid_map", &text(&self.uids))?;
            return put("gid_map", &text(&self.gids));
        }
        match only(&self.uids, user.as_raw()) {
            true => put("uid_map", &text(&self.uids))?,
            false => run_mapper("newuidmap", pid, &self.uids)?,
        }
        if !only(&self.gids, group.as_raw()) {
            return run_mapper("newgidmap", pid, &self.gids);
        }
        // A map of groups is only taken from those who have given up changing groups.
        put("setgroups", "deny")?;
        put("gid_map", &text(&self.gids))
    }

    /// A user namespace with these maps that nobody is in.
    pub fn namespace(&self) -> Result<OwnedFd> {
        let forked = process::fork_into(libc::CLONE_NEWUSER as u64, None).context("make a user namespace")?;
        let child = match forked {
            Forked::Child => {
                // Ends with its parent, or by its hand: whatever comes first.
                let _ = process::die_with_parent();
                loop {
                    process::pause();
                }
            }
            Forked::Parent(child) => child,
        };
        let opened = self.write(child.pid).and_then(|()| {
            let path = format!("/proc/{}/ns/user", child.pid);
            Ok(File::open(&path).with_context(|| format!("open {path}"))?.into())
        });
        let _ = process::pidfd_kill(&child.pidfd, libc::SIGKILL);
        let _ = process::reap(&child.pidfd);
        opened
    }
}

fn ranges(list: &Option<Vec<LinuxIdMapping>>) -> Result<Vec<Range>> {
    let list = list.as_deref().unwrap_or_default();
    if list.len() > MAX_RANGES {
        bail!("more than {MAX_RANGES} ranges");
    }
    list.iter()
        .map(|m| {
            let range = Range { inside: m.container_id(), outside: m.host_id(), size: m.size() };
            let fits = |start: u32| start.checked_add(range.size).is_some();
            if range.size == 0 || !fits(range.inside) || !fits(range.outside) {
                bail!("{} ids from {} on at {} are no range", range.size, range.outside, range.inside);
            }
            Ok(range)
        })
        .collect()
}

fn only(ranges: &[Range], id: u32) -> bool {
    matches!(ranges, [Range { outside, size: 1, .. }] if *outside == id)
}

/// These programs have the privilege that an ordinary user lacks, and see to it that he uses it for his own ids only.
fn run_mapper(program: &str, pid: i32, ranges: &[Range]) -> Result<()> {
    let numbers = ranges.iter().flat_map(|r| [r.inside, r.outside, r.size]).map(|n| n.to_string());
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(numbers).stdin(Stdio::null());
    let output = command.output().with_context(|| {
        format!("map the ids of the container: run {program} (an ordinary user may map others than himself only by it)")
    })?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "map the ids of the container: {}", why.trim());
    Ok(())
}

fn text(ranges: &[Range]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxIdMappingBuilder;

    fn list(ranges: &[(u32, u32, u32)]) -> Option<Vec<LinuxIdMapping>> {
        let one = |r: &(u32, u32, u32)| {
            LinuxIdMappingBuilder::default().container_id(r.0).host_id(r.1).size(r.2).build().unwrap()
        };
        Some(ranges.iter().map(one).collect())
    }

    #[test]
    fn maps_are_pairs_of_sound_ranges() {
        assert_eq!(IdMaps::from_spec(&None, &Some(vec![])).unwrap(), None);
        assert!(IdMaps::from_spec(&list(&[(0, 1000, 1)]), &None).is_err());
        for bad in [(0, 0, 0), (u32::MAX, 0, 2), (0, u32::MAX, 2)] {
            assert!(IdMaps::from_spec(&list(&[bad]), &list(&[(0, 0, 1)])).is_err(), "{bad:?}");
        }
        let maps = IdMaps::from_spec(&list(&[(0, 1000, 10), (10, 5000, 5)]), &list(&[(0, 2000, 9)])).unwrap().unwrap();
        assert_eq!(maps.root(), Some((1000, 2000)));
        assert_eq!(text(&maps.uids), "0 1000 10\n10 5000 5\n");
    }
}
