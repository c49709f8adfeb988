//! Writing to `/proc`: only to what is a process file system, with nothing mounted over it and no link on the way.
//!
//! A write that lands in another file (a label, a limit, a map of users) is a protection that silently is not there.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The number of the root folder in every procfs.
const ROOT_INODE: u64 = 1;

/// The root of a procfs, checked.
#[derive(Debug)]
pub struct ProcFs(OwnedFd);

impl ProcFs {
    /// The one at `/proc`.
    ///
    /// # Errors
    /// What is there is something else, or only a part of one.
    pub fn host() -> io::Result<ProcFs> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        ProcFs::at(rustix::fs::open("/proc", flags, Mode::empty())?)
    }

    /// The one whose root this folder must be.
    pub fn at(root: OwnedFd) -> io::Result<ProcFs> {
        if !is_proc(&root)? || rustix::fs::fstat(&root)?.st_ino != ROOT_INODE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no procfs"));
        }
        Ok(ProcFs(root))
    }

    /// Opens a file for writing, by its path below the root.
    ///
    /// # Errors
    /// `EXDEV` if something is mounted over it or over a folder on the way, `ELOOP` for magic links.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            match rustix::fs::openat2(&self.0, path.as_ref(), flags, Mode::empty(), how) {
                Err(Errno::AGAIN) => continue,
                other => return Ok(other?.into()),
            }
        }
    }

    /// Writes a value to a file in one piece.
    pub fn write(&self, path: impl AsRef<Path>, value: &[u8]) -> io::Result<()> {
        self.open(path)?.write_all(value)
    }
}

/// Whether a file is on a procfs.
pub fn is_proc(fd: impl AsFd) -> io::Result<bool> {
    super::mount::is_on(fd, PROC_SUPER_MAGIC)
}

/// What tells this run of the kernel from all others.
pub fn boot_id() -> &'static str {
    static ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ID.get_or_init(|| {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        // Without one nothing is known to be of this run.
        read.map_or_else(|_| super::random::hex::<16>(), |id| id.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount::{self, Attributes, Propagation};
    use std::os::fd::OwnedFd;

    /// A thread with mounts of its own, which needs root; nothing is left when it ends.
    fn apart(test: impl FnOnce() + Send + 'static) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let thread = std::thread::spawn(|| {
            crate::sys::process::unshare(libc::CLONE_NEWNS).unwrap();
            mount::set_propagation(Path::new("/"), Propagation::Private, true).unwrap();
            test();
        });
        thread.join().unwrap();
    }

    fn place(path: &str) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_write_cannot_be_led_to_another_file() {
        apart(|| {
            let own = format!("/proc/{}/oom_score_adj", std::process::id());
            let scratch = tempfile();
            ProcFs::host().unwrap().open("self/oom_score_adj").unwrap();
            mount::attach(mount::copy_of(place(&scratch)).unwrap(), place(&own)).unwrap();
            let error = ProcFs::host().unwrap().write("self/oom_score_adj", b"7").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
            assert_eq!(std::fs::read(&scratch).unwrap(), b"");
            // A plain path goes where it is led.
            std::fs::write("/proc/self/oom_score_adj", b"7").unwrap();
            assert_eq!(std::fs::read(&scratch).unwrap(), b"7");
            let error = ProcFs::host().unwrap().open("self/fd/0").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
            let error = ProcFs::host().unwrap().open("../etc/passwd").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
            std::fs::remove_file(&scratch).unwrap();
        });
    }

    #[test]
    fn what_is_no_procfs_is_not_taken_for_one() {
        apart(|| {
            let tmpfs = mount::new_file_system("tmpfs", "none", &[], Attributes::empty()).unwrap();
            let part = mount::copy_of(place("/proc/sys")).unwrap();
            mount::attach(&tmpfs, place("/proc")).unwrap();
            assert_eq!(ProcFs::host().unwrap_err().kind(), io::ErrorKind::InvalidData);
            mount::attach(&part, place("/proc")).unwrap();
            assert_eq!(ProcFs::host().unwrap_err().kind(), io::ErrorKind::InvalidData);
        });
    }

    fn tempfile() -> String {
        let path = std::env::temp_dir().join(format!("minirun-procfs-{}", crate::sys::random::hex::<6>()));
        std::fs::write(&path, b"").unwrap();
        path.to_str().unwrap().to_owned()
    }
}
