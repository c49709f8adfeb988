//! A mount of another container's: opened by a child that has entered that container's mount namespace, and handed
//! over as a detached copy. A path through `/proc/PID/root` leads there, too, but the kernel copies no mount of another
//! namespace.

use crate::sys::dir::Dir;
use crate::sys::mount;
use crate::sys::process::{self, Forked};
use crate::sys::socket::Socket;
use anyhow::{Context, Result, bail};
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The process and the path in its root that a source like `/proc/12/root/dev/shm` stands for.
pub fn place(source: &Path) -> Option<(i32, PathBuf)> {
    let below = source.strip_prefix("/proc").ok()?;
    let mut parts = below.components();
    let pid = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    (parts.next()?.as_os_str() == "root").then(|| (pid, parts.as_path().to_owned()))
}

/// A detached copy of the mount at `path` of that process's root. No link is followed: the container could have made
/// it.
pub fn copy_of(pid: i32, path: &Path) -> Result<OwnedFd> {
    let (ours, theirs) = Socket::pair().context("make a socket pair")?;
    match process::fork_into(0, None).context("make a helper")? {
        Forked::Child => {
            drop(ours);
            let answer = copy_there(pid, path);
            let sent = match &answer {
                Ok(tree) => theirs.send_with(&[IoSlice::new(b"t")], &[tree.as_fd()]),
                Err(error) => theirs.send(format!("e{error:#}").as_bytes()),
            };
            process::exit_now(i32::from(sent.is_err()))
        }
        Forked::Parent(child) => {
            drop(theirs);
            let mut buffer = [0; 4096];
            let heard = ours.receive(&mut buffer);
            let _ = process::reap(&child.pidfd);
            let (n, mut fds) = heard.context("hear from the helper")?;
            match (buffer.get(..n), fds.pop()) {
                (Some([b't']), Some(tree)) => Ok(tree),
                (Some([b'e', text @ ..]), _) => bail!("{}", String::from_utf8_lossy(text)),
                _ => bail!("the helper died"),
            }
        }
    }
}

fn copy_there(pid: i32, path: &Path) -> Result<OwnedFd> {
    process::forbid_inspection().context("hide from the other container")?;
    let pidfd = process::pidfd_open(pid).context("find the other container")?;
    process::join_namespaces(&pidfd, libc::CLONE_NEWNS).context("enter the other container's mounts")?;
    let (parent, name) = (path.parent().context("no parent")?, path.file_name().context("no name")?);
    let parent = Dir::open("/").and_then(|root| root.dir_without_links(parent));
    let place = parent.and_then(|dir| dir.child(name)).with_context(|| format!("open /{}", path.display()))?;
    Ok(mount::copy_of(&place)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roots_of_processes_are_elsewhere() {
        assert_eq!(place(Path::new("/proc/12/root/dev/shm")), Some((12, PathBuf::from("dev/shm"))));
        for other in ["/proc/12/cwd/x", "/proc/self/root/x", "/dev/shm", "/proc", "/proc/12"] {
            assert_eq!(place(Path::new(other)), None, "{other}");
        }
    }
}
