//! A process inside a container: what it is to be, and how a child of ours becomes it.
//!
//! Used by a container's first process and by every process that joins it later.

use super::capabilities::Capabilities;
use super::handshake::{ChildEnd, Stage};
use super::seccomp::Filter;
use crate::sys::{process, signal};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::Process;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Everything about one process, checked.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: PathBuf,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    capabilities: Capabilities,
    no_new_privs: bool,
    filter: Option<Filter>,
    rlimits: Vec<Rlimit>,
    oom_score_adj: Option<i32>,
    /// Whether it gets a pseudo-terminal.
    pub terminal: bool,
    /// Rows and columns that the terminal starts with.
    pub console_size: Option<(u16, u16)>,
}

#[derive(Clone, Debug)]
struct Rlimit {
    name: String,
    resource: u32,
    soft: u64,
    hard: u64,
}

/// The longest command or environment that we pass on; the kernel has limits of its own below this.
const MAX_STRINGS: usize = 64 * 1024;

impl ProcessPlan {
    /// Understands the process of a specification (runtime-spec, "Process").
    ///
    /// # Errors
    /// What cannot be carried out, before anything is started.
    pub fn from_spec(spec: &Process) -> Result<ProcessPlan> {
        let args = strings(spec.args().as_deref().unwrap_or_default()).context("the arguments")?;
        if args.is_empty() {
            bail!("no command specified");
        }
        if !spec.cwd().is_absolute() {
            bail!("the working directory {:?} is not an absolute path", spec.cwd());
        }
        let rlimits = spec.rlimits().iter().flatten().map(|limit| {
            let name = limit.typ().to_string();
            let resource = rlimit_number(&name).ok_or_else(|| anyhow!("unknown resource limit {name}"))?;
            Ok(Rlimit { name, resource, soft: limit.soft(), hard: limit.hard() })
        });
        let capabilities = match spec.capabilities() {
            Some(sets) => Capabilities::from_spec(sets)?,
            None => Capabilities::default(),
        };
        let size = spec.console_size();
        Ok(ProcessPlan {
            args,
            env: strings(spec.env().as_deref().unwrap_or_default()).context("the environment")?,
            cwd: spec.cwd().clone(),
            uid: spec.user().uid(),
            gid: spec.user().gid(),
            groups: spec.user().additional_gids().clone().unwrap_or_default(),
            umask: spec.user().umask().unwrap_or(0o022),
            capabilities,
            no_new_privs: spec.no_new_privileges().unwrap_or(false),
            filter: None,
            rlimits: rlimits.collect::<Result<_>>()?,
            oom_score_adj: spec.oom_score_adj(),
            terminal: spec.terminal().unwrap_or(false),
            console_size: size.map(|s| (s.height() as u16, s.width() as u16)),
        })
    }

    /// The same process behind a filter of system calls.
    pub fn confined(self, filter: Option<Filter>) -> ProcessPlan {
        ProcessPlan { filter, ..self }
    }

    /// Its user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Where it starts.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Turns the calling process, already inside the container, into this one. Returns only on failure.
    pub fn become_it(&self, oom: Option<&File>, parent: &ChildEnd) -> (Stage, anyhow::Error) {
        match self.prepare(oom) {
            Err(failure) => failure,
            Ok(()) => {
                if let Err(error) = parent.wait_for_go() {
                    return (Stage::Exec, error);
                }
                (Stage::Exec, self.exec())
            }
        }
    }

    fn prepare(&self, oom: Option<&File>) -> Result<(), (Stage, anyhow::Error)> {
        replace_null().map_err(|e| (Stage::Console, e))?;
        self.set_limits(oom).map_err(|e| (Stage::Identity, e))?;
        // Without no_new_privs it takes a capability that may be gone afterwards.
        if !self.no_new_privs {
            self.install_filter().map_err(|e| (Stage::Identity, e))?;
        }
        self.change_identity().map_err(|e| (Stage::Identity, e))?;
        self.enter_directory().map_err(|e| (Stage::WorkingDirectory, e))?;
        self.finish().map_err(|e| (Stage::Identity, e))
    }

    fn set_limits(&self, oom: Option<&File>) -> Result<()> {
        if let (Some(score), Some(mut file)) = (self.oom_score_adj, oom) {
            write!(file, "{score}").with_context(|| format!("set the OOM score adjustment to {score}"))?;
        }
        for limit in &self.rlimits {
            process::set_rlimit(limit.resource, limit.soft, limit.hard).with_context(|| {
                let hint = "raising a hard limit needs CAP_SYS_RESOURCE";
                format!("set {} to {}:{} ({hint})", limit.name, limit.soft, limit.hard)
            })?;
        }
        Ok(())
    }

    /// Bounding set while we still may, then groups and user, then the sets that the change of user emptied.
    fn change_identity(&self) -> Result<()> {
        self.capabilities.limit()?;
        let keep = self.uid != 0 && self.capabilities.any_permitted();
        process::keep_capabilities(keep).context("keep capabilities over the change of user")?;
        process::become_user(self.uid, self.gid, &self.groups)
            .with_context(|| format!("become user {} in group {}", self.uid, self.gid))?;
        self.capabilities.apply()?;
        process::keep_capabilities(false).context("stop keeping capabilities")
    }

    /// As the container's user, so that a directory he may not enter is refused; and it must be a real place.
    fn enter_directory(&self) -> Result<()> {
        let what = || format!("change to the working directory {}", self.cwd.display());
        rustix::process::chdir(&self.cwd).map_err(io::Error::from).with_context(what)?;
        let reached = rustix::process::getcwd(Vec::new()).map_err(io::Error::from).with_context(what)?;
        if !reached.as_bytes().starts_with(b"/") {
            bail!("{}: it leads out of the container", what());
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        process::set_umask(self.umask);
        if self.no_new_privs {
            process::set_no_new_privs().context("forbid new privileges")?;
        }
        signal::reset();
        // A change of user clears it, so it is set here; only a container that dies with its keeper is ever found.
        process::die_with_parent().context("tie the container to its supervisor")?;
        process::close_on_exec_from(3).context("close inherited descriptors")
    }

    fn install_filter(&self) -> Result<()> {
        self.filter.as_ref().map_or(Ok(()), |filter| filter.install().map(drop))
    }

    fn exec(&self) -> anyhow::Error {
        let name = &self.args[0];
        let shown = name.to_string_lossy();
        // A strict filter may not even let us look for the program.
        let candidates = self.candidates();
        if self.no_new_privs
            && let Err(error) = self.install_filter()
        {
            return error;
        }
        if name.as_bytes().contains(&b'/') {
            let error = process::exec(name, &self.args, &self.env);
            if error.kind() == io::ErrorKind::NotFound && !exists(name) {
                return anyhow::Error::new(error).context(format!("stat {shown}"));
            }
            return explain(error, &shown, name);
        }
        let mut refused = None;
        for candidate in candidates {
            let error = process::exec(&candidate, &self.args, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT) => return explain(error, &shown, &candidate),
                Some(libc::ENOTDIR) => {}
                Some(libc::EACCES) if is_directory(&candidate) => {}
                _ => refused = Some((error, candidate)),
            }
        }
        match refused {
            Some((error, candidate)) => explain(error, &shown, &candidate),
            None => anyhow::Error::new(io::Error::from_raw_os_error(libc::ENOENT))
                .context(format!("exec: {shown:?}: executable file not found in $PATH")),
        }
    }

    /// What is there under the program's name in the directories of PATH.
    fn candidates(&self) -> Vec<CString> {
        let name = self.args[0].as_bytes();
        let paths = self.search_path().into_iter().map(|dir| [dir.as_bytes(), b"/", name].concat());
        paths.filter_map(|path| CString::new(path).ok()).filter(|path| exists(path)).collect()
    }

    fn search_path(&self) -> Vec<&OsStr> {
        let path = self.env.iter().rev().find_map(|e| e.as_bytes().strip_prefix(b"PATH="));
        let path = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let dirs = path.split(|b| *b == b':');
        dirs.map(|d| if d.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(d) }).collect()
    }
}

fn exists(path: &CStr) -> bool {
    rustix::fs::lstat(path).is_ok()
}

fn is_directory(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok_and(|s| crate::sys::dir::file_type(&s) == rustix::fs::FileType::Directory)
}

/// A file that exists but "was not found" names an interpreter or loader that does not.
fn explain(error: io::Error, shown: &str, path: &CStr) -> anyhow::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT) => ": the file exists, but the interpreter or loader that it names does not",
        Some(libc::ENOEXEC) => ": it is neither a program for this machine nor a script that starts with #!",
        Some(libc::EACCES) if is_directory(path) => ": it is a directory",
        _ => "",
    };
    // A missing interpreter is not a missing command: the status must be 126, not 127.
    let error = match error.raw_os_error() {
        Some(libc::ENOENT) => anyhow!("no such file or directory{hint}"),
        _ => anyhow::Error::new(error).context(format!("permission denied or not executable{hint}")),
    };
    error.context(format!("exec: {shown:?}"))
}

fn strings(list: &[String]) -> Result<Vec<CString>> {
    if list.len() > MAX_STRINGS {
        bail!("more than {MAX_STRINGS} strings");
    }
    list.iter().map(|s| CString::new(s.as_bytes()).with_context(|| format!("{s:?} holds a zero byte"))).collect()
}

/// The number of a limit by its name in the specification.
pub fn rlimit_number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

/// The file through which a process sets its own OOM score adjustment, opened while `/proc` is still the host's.
pub fn open_oom_score() -> Result<File> {
    let path = Path::new("/proc/self/oom_score_adj");
    File::options().write(true).open(path).with_context(|| format!("open {}", path.display()))
}

/// A null device among the standard streams is the host's, and whoever has it open can change its mode and owner there:
/// the container's takes its place. Input that is as empty does as well.
fn replace_null() -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
    let [input, output, errors] = [stdin(), stdout(), stderr()].map(is_null);
    if !(input || output || errors) {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let own = rustix::fs::open("/dev/null", flags, Mode::empty()).ok().filter(|fd| is_null(fd.as_fd()));
    let null = match (own, output || errors) {
        (Some(null), _) => null,
        (None, false) => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?.0,
        (None, true) => bail!("the container's /dev/null is not the null device"),
    };
    let what = "replace the host's null device";
    if input {
        dup2_stdin(&null).map_err(io::Error::from).context(what)?;
    }
    if output {
        dup2_stdout(&null).map_err(io::Error::from).context(what)?;
    }
    if errors {
        dup2_stderr(&null).map_err(io::Error::from).context(what)?;
    }
    Ok(())
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::fstat(fd)
        .is_ok_and(|s| s.st_rdev == device && crate::sys::dir::file_type(&s) == rustix::fs::FileType::CharacterDevice)
}

/// Makes three descriptors the standard streams of the calling process and lets the user own those of ours.
pub fn take_streams(streams: &super::launch::Streams, uid: u32) -> Result<()> {
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
    dup2_stdin(streams.stdin.as_fd()).map_err(io::Error::from).context("set standard input")?;
    dup2_stdout(streams.stdout.as_fd()).map_err(io::Error::from).context("set standard output")?;
    dup2_stderr(streams.stderr.as_fd()).map_err(io::Error::from).context("set standard error")?;
    if uid == 0 {
        return Ok(());
    }
    for fd in [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()] {
        let stat = rustix::fs::fstat(fd).map_err(io::Error::from).context("look at the standard streams")?;
        // A program that opens /dev/stdout anew needs the right to; a device of the host is not ours to give.
        if crate::sys::dir::file_type(&stat) == rustix::fs::FileType::Fifo {
            let owner = Some(rustix::fs::Uid::from_raw(uid));
            rustix::fs::fchown(fd, owner, None).map_err(io::Error::from).context("own the standard streams")?;
        }
    }
    Ok(())
}
