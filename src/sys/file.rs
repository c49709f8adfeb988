//! Atomic files, locks and other small things about files of our own.

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether a write must survive a power cut before the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Atomic against kills of any process; a power cut may lose it.
    Atomic,
    /// Also on disk: the file before its rename, the directory after it.
    Synced,
}

/// Puts `data` at `path` as one rename: a reader sees the old content or the new one.
pub fn write_atomic(path: &Path, data: &[u8], durability: Durability) -> io::Result<()> {
    let aside = aside(path)?;
    let result = (|| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(data)?;
        if durability == Durability::Synced {
            file.sync_data()?;
        }
        std::fs::rename(&aside, path)?;
        if durability == Durability::Synced { sync_parent(path) } else { Ok(()) }
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    result
}

/// A name beside `path` for what will be renamed to it.
pub fn aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(format!(".{}", super::random::hex::<6>()));
    Ok(path.with_file_name(aside))
}

/// A new file that gets its name when it is whole. Until then it has none where the file system can do that, so that
/// nothing is left of it when we are killed.
#[derive(Debug)]
pub struct Aside {
    file: File,
    path: PathBuf,
    aside: PathBuf,
    has_name: bool,
}

impl Aside {
    /// Makes the file, for its owner's eyes only.
    pub fn new(path: &Path) -> io::Result<Aside> {
        let aside = aside(path)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, has_name) = match rustix::fs::open(parent, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => (File::from(fd), false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                (File::options().write(true).create_new(true).mode(0o600).open(&aside)?, true)
            }
            Err(e) => return Err(e.into()),
        };
        Ok(Aside { file, path: path.to_owned(), aside, has_name })
    }

    /// The same with all its content, under a name: it is in a directory that goes as a whole.
    pub fn holding(path: &Path, data: &[u8]) -> io::Result<Aside> {
        let aside = aside(path)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
        let written = file.write_all(data);
        let aside = Aside { file, path: path.to_owned(), aside, has_name: true };
        written.map(|()| aside)
    }

    /// The file, to be written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name; what had it before is gone.
    pub fn publish(mut self) -> io::Result<()> {
        if !self.has_name {
            rustix::fs::linkat(&self.file, c"", rustix::fs::CWD, &self.aside, AtFlags::EMPTY_PATH)?;
            self.has_name = true;
        }
        std::fs::rename(&self.aside, &self.path)?;
        self.has_name = false;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if self.has_name {
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

/// Makes the directory entry of `path` durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Makes everything written to the file system that holds `file` durable.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Reads a file of the kernel's, whose size nobody knows before, with as few calls as it has pages.
pub fn read_kernel_text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::with_capacity(4096);
    // Bounded by nothing: it only keeps the library from asking for the size, which is 0.
    File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a whole file that should not exceed `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_all_limited(&mut File::open(path)?, limit)
}

/// The same for a path that somebody else may have put anything at: what it is is known before it is opened, so that no
/// fifo is waited for and no device touched.
///
/// # Errors
/// `InvalidInput` if it is not a regular file.
pub fn read_regular_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    read_all_limited(&mut super::dir::reopen_regular(&place)?, limit)
}

/// Reads the rest of a stream that should not exceed `limit` bytes.
pub fn read_all_limited(source: &mut impl Read, limit: u64) -> io::Result<Vec<u8>> {
    // Most documents are smaller, and need no second read but the one that finds their end.
    let mut out = Vec::with_capacity(8192);
    source.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit} bytes")));
    }
    Ok(out)
}

/// A `flock` on a file, freed by the kernel when the last process that holds this descriptor is gone.
#[derive(Debug)]
pub struct Lock(File);

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How a lock is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

impl Lock {
    /// Waits for the lock on `path`, making the file if it is missing.
    pub fn wait(path: &Path, mode: LockMode) -> io::Result<Lock> {
        Lock::wait_on(open_lock(path)?, mode)
    }

    /// The same, alone, for a folder that is there.
    pub fn wait_folder(path: &Path) -> io::Result<Lock> {
        Lock::wait_on(open_folder(path)?, LockMode::Exclusive)
    }

    fn wait_on(file: File, mode: LockMode) -> io::Result<Lock> {
        let operation = match mode {
            LockMode::Shared => FlockOperation::LockShared,
            LockMode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(Errno::INTR) => continue,
                other => return Ok(other.map(|()| Lock(file))?),
            }
        }
    }

    /// Takes the lock on `path` if it is free; `None` if somebody holds it.
    pub fn attempt(path: &Path, mode: LockMode) -> io::Result<Option<Lock>> {
        Lock::attempt_on(open_lock(path)?, mode)
    }

    /// The same for a folder that is there.
    pub fn attempt_folder(path: &Path, mode: LockMode) -> io::Result<Option<Lock>> {
        Lock::attempt_on(open_folder(path)?, mode)
    }

    /// Frees the lock, also where children have inherited it.
    pub fn free(self) -> io::Result<()> {
        Ok(rustix::fs::flock(&self.0, FlockOperation::Unlock)?)
    }

    /// Whether `file` is the one that is locked: a name may have got another file meanwhile.
    pub fn is_on(&self, file: &File) -> io::Result<bool> {
        let (own, other) = (rustix::fs::fstat(&self.0)?, rustix::fs::fstat(file)?);
        Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
    }

    fn attempt_on(file: File, mode: LockMode) -> io::Result<Option<Lock>> {
        let operation = match mode {
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the file at `path` is still the one that was locked: another one may have taken its place meanwhile.
    pub fn is_of(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let id = |m: std::fs::Metadata| (m.dev(), m.ino());
        let there = std::fs::metadata(path).map(id);
        there.is_ok_and(|there| self.0.metadata().is_ok_and(|own| id(own) == there))
    }
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?.into())
}

/// A file in memory with this content, to be handed to another process.
pub fn in_memory(content: &[u8]) -> io::Result<File> {
    use std::io::Seek;
    let mut file = File::from(rustix::fs::memfd_create("minirun", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// Ownership of something by a process and the children that inherit it: free when the last of them is gone,
/// however it ends, and visible to others without their taking it.
#[derive(Debug)]
pub struct Ownership(File);

impl AsFd for Ownership {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Ownership {
    /// Takes the ownership recorded at `path`; `None` if somebody has it.
    pub fn take(path: &Path) -> io::Result<Option<Ownership>> {
        use nix::fcntl::{FcntlArg, fcntl};
        let file = open_lock(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Some(Ownership(file))),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// An ownership that another process took and handed over with its descriptor.
    pub fn inherited(fd: std::os::fd::OwnedFd) -> Ownership {
        Ownership(fd.into())
    }

    /// Whether anybody has the ownership recorded at `path`.
    pub fn is_taken(path: &Path) -> io::Result<bool> {
        use nix::fcntl::{FcntlArg, fcntl};
        let file = match File::options().read(true).write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

fn whole_file() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}
