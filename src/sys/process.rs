//! Making, marking, signalling and reaping processes.

use super::file::read_kernel_text;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

/// What [`fork_into`] returns on its two sides.
#[derive(Debug)]
pub enum Forked {
    /// In the new process.
    Child,
    /// In the caller.
    Parent(Child),
}

/// A child process by number and by descriptor.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's pid namespace.
    pub pid: i32,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// A signal of this number killed it.
    Signal(i32),
}

impl Exit {
    /// The status as shells and Docker show it: 128 + n for a signal.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(c) => c,
            Exit::Signal(s) => 128 + s,
        }
    }
}

/// In the second word of the flags, which older headers declare too narrow.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Where clone(2) has the signal among its flags, clone3(2) has flags of its own.
const CLONE_SIGNAL: u64 = 0xff;

/// Forks the calling process with the given `CLONE_NEW*` flags, into `cgroup` (a v2 directory) if one is given.
///
/// # Errors
/// `EINVAL` and `ENOSYS` where the kernel does not know a flag; `EPERM` without the right to make a namespace.
/// A caller with more than one thread gets `EDEADLK`: the child could hang on a lock that another thread held.
pub fn fork_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    clone(namespaces, libc::SIGCHLD, cgroup)
}

/// As [`fork_into`], with the new process in the given network namespace.
pub fn fork_in_network(network: impl AsFd, namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let own = std::fs::File::open("/proc/self/ns/net")?;
    join_namespaces(network, libc::CLONE_NEWNET)?;
    let forked = fork_into(namespaces, cgroup);
    if !matches!(forked, Ok(Forked::Child)) {
        join_namespaces(own, libc::CLONE_NEWNET)?;
    }
    forked
}

/// As [`fork_into`], but the new process is a child of the caller's parent, which must learn of it and reap it.
pub fn fork_sibling_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // With this flag the end of the new process sends what the end of the caller sends.
    clone(namespaces | libc::CLONE_PARENT as u64, 0, cgroup)
}

/// Whether this process has one thread only.
pub(super) fn has_one_thread() -> io::Result<bool> {
    // Each is a folder, which counts as a link of the folder that it is in.
    Ok(std::fs::metadata("/proc/self/task")?.nlink() == 3)
}

fn clone(flags: u64, exit_signal: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    if !has_one_thread()? {
        return Err(Errno::DEADLK.into());
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` consists of integers, for all of which zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = exit_signal as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and a stack the call behaves as fork: the child owns a copy of all memory. The
    // process has one thread, so no lock is held by a thread that does not exist in the child.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    // Filters of system calls say that there is no clone3, whose flags they cannot see; so in containers.
    if pid == -1
        && cgroup.is_none()
        && flags & CLONE_SIGNAL == 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
    {
        let flags = args.flags | args.exit_signal;
        // SAFETY: as above.
        pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    }
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        // SAFETY: the kernel has just stored a new descriptor there, which nobody else owns.
        pid => Ok(Forked::Parent(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

/// Starts this program in the background under another name and with an empty environment, to do `task` with `fd`, the
/// only descriptor that it keeps beside its streams, which are empty. `about` only tells those who list processes what
/// it is for.
///
/// It runs from a detached read-only view of the program's file, see [`super::protect`]: usually as a fork of the
/// caller. Where that cannot be, as from a process with several threads, the program is executed anew: `fd`'s number is
/// then its first argument (see [`inherited`]).
///
/// The child may outlive us; a caller that goes on for long reaps it.
pub fn spawn_self(name: &str, fd: impl AsFd, about: &OsStr, task: impl FnOnce(OwnedFd) -> i32) -> io::Result<Child> {
    use super::protect::protected;
    use std::os::unix::process::CommandExt;
    let program = protected()?;
    let words = |fd: RawFd| [name.into(), fd.to_string().into(), "--".into(), about.to_owned()];
    match fork_into(0, None) {
        Ok(Forked::Parent(child)) => Ok(child),
        Ok(Forked::Child) => exit_now(begin_anew(program, fd, words).map_or(1, task)),
        Err(e) if e.raw_os_error() == Some(libc::EDEADLK) => {
            // What the caller left open to us is not for the new process, and a container of its least of all.
            close_on_exec_from(3)?;
            let kept = rustix::io::dup(fd)?;
            let [name, words @ ..] = words(kept.as_raw_fd());
            let mut command = std::process::Command::new(program.path());
            command.arg0(name).args(words);
            command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let pid = command.spawn()?.id() as i32;
            Ok(Child { pid, pidfd: pidfd_open(pid)? })
        }
        Err(e) => Err(e),
    }
}

/// In the child of [`spawn_self`]: forgets the caller, as far as others can see or anything here could use it.
fn begin_anew(
    program: super::protect::Program,
    fd: impl AsFd,
    words: impl Fn(RawFd) -> [OsString; 4],
) -> io::Result<OwnedFd> {
    use rustix::io::{FdFlags, dup, fcntl_setfd};
    use std::os::unix::ffi::OsStringExt;
    let kept = dup(fd)?;
    let of_program = program.descriptor().map(|fd| fd.as_raw_fd() as u32);
    close_all_but(3, &[&[kept.as_raw_fd() as u32], of_program.as_slice()].concat())?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    super::signal::reset();
    super::signal::ignore_pipe();
    super::caller::forget();
    // Whatever folder our starter was in is not to be held.
    rustix::process::chdir("/")?;
    // SAFETY: the process has one thread, so nobody else reads the environment.
    unsafe { libc::clearenv() };
    let words: Vec<CString> =
        words(kept.as_raw_fd()).into_iter().map(|w| CString::new(w.into_vec())).collect::<Result<_, _>>()?;
    let title: Vec<u8> = words.iter().flat_map(|w| w.as_bytes_with_nul()).copied().collect();
    // It is the command line from now on, for as long as the process lives.
    if program.take_over(Some(title.leak())).is_ok() {
        fcntl_setfd(&kept, FdFlags::CLOEXEC)?;
        return Ok(kept);
    }
    Err(exec(&CString::new(program.path())?, &words, &[]))
}

/// The descriptor that [`spawn_self`] left to this process, by its first argument.
///
/// # Errors
/// An argument that is no open descriptor: somebody else has started this program under that name.
pub fn inherited(mut arguments: impl Iterator<Item = OsString>) -> io::Result<OwnedFd> {
    let argument = arguments.next().unwrap_or_default();
    let number = argument.to_str().and_then(|a| a.parse::<RawFd>().ok()).filter(|n| *n > 2);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a number is only looked at; whether it is open is the question.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    super::caller::forget();
    // Whatever folder our starter was in is not to be held.
    rustix::process::chdir("/")?;
    // SAFETY: it is open, our starter opened it for us, and this is the only place that takes it over, once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Opens a pidfd for a process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Sends a signal to the process behind a pidfd; 0 only asks whether it is there.
pub fn pidfd_kill(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: passes two integers, a null pointer that the call allows, and no flags.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of another process, by its number there.
pub fn pidfd_getfd(pidfd: impl AsFd, number: i32) -> io::Result<OwnedFd> {
    let flags = rustix::process::PidfdGetfdFlags::empty();
    Ok(rustix::process::pidfd_getfd(pidfd.as_fd(), number, flags)?)
}

/// Sends a signal to a process by number.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: passes two integers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for a child to end and reaps it.
pub fn reap(child: impl AsFd) -> io::Result<Exit> {
    loop {
        match waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
            Ok(None) => return Err(Errno::CHILD.into()),
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
                });
            }
        }
    }
}

/// Reaps a child if it has ended; whether it is gone.
pub fn try_reap(child: impl AsFd) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::PidFd(child.as_fd()), options), Ok(None) | Err(Errno::INTR))
}

/// Reaps any one child that has ended, if there is one: its number and how it ended.
///
/// # Errors
/// `ECHILD` when there are no children left at all.
pub fn reap_any() -> io::Result<Option<(i32, Exit)>> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing for the length of the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid if libc::WIFSIGNALED(status) => Ok(Some((pid, Exit::Signal(libc::WTERMSIG(status))))),
        pid => Ok(Some((pid, Exit::Code(libc::WEXITSTATUS(status))))),
    }
}

/// Ends the process at once, running no destructors and no exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(code) }
}

/// Waits for a signal that has a handler; others end the process as usual.
pub fn pause() {
    // SAFETY: takes nothing and gives nothing.
    unsafe { libc::pause() };
}

/// Marks every descriptor from `first` up to be closed by execve.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors; owners keep them open.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` up but those kept, whoever in this process believes to own it.
///
/// For a process that has not begun yet, and for one that is about to execute another program: a path through
/// `/proc/self/fd` leads to the host as long as a folder of the host's is open, mark or no mark.
pub fn close_all_but(first: u32, kept: &[u32]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().copied().filter(|n| *n >= first).collect();
    kept.sort_unstable();
    let mut from = first;
    for last in kept.into_iter().chain([u32::MAX]) {
        let to = if last == u32::MAX { last } else { last - 1 };
        if from <= to && last != from {
            // SAFETY: no memory is touched; owners in this process are not heard of again, or not born yet.
            if unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        from = last.saturating_add(1);
    }
    Ok(())
}

/// Joins the namespaces (`CLONE_NEW*` flags) of the process behind a pidfd, or the one behind a namespace file.
pub fn join_namespaces(fd: impl AsFd, flags: i32) -> io::Result<()> {
    let flags = nix::sched::CloneFlags::from_bits_retain(flags);
    Ok(nix::sched::setns(fd.as_fd(), flags)?)
}

/// Makes a network namespace that nobody is in.
///
/// # Errors
/// If the caller could not go back either, it is in the new one.
pub fn new_network() -> io::Result<OwnedFd> {
    let open = || std::fs::File::open("/proc/self/ns/net");
    let own = open()?;
    unshare(libc::CLONE_NEWNET)?;
    let new = open();
    join_namespaces(own, libc::CLONE_NEWNET)?;
    Ok(new?.into())
}

/// Moves the calling process into a new namespace of each kind in `flags` (`CLONE_NEW*`).
pub fn unshare(flags: i32) -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(flags))?)
}

/// Drops what is not in a set of capabilities, a bit for each number, from the bounding set, as far as the kernel has it.
pub fn limit_capabilities(bounding: u64) -> io::Result<()> {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};
    for number in (0..64).filter(|number| bounding >> number & 1 == 0) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(()),
            // Who may not drop it may be without it already.
            Err(e) => match capability_is_in_bounding_set(capability) {
                Err(Errno::INVAL) => return Ok(()),
                Ok(false) => {}
                _ => return Err(e.into()),
            },
        }
    }
    Ok(())
}

/// Sets three of the caller's sets of capabilities, as far as its permitted set allows, which is the result.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<u64> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let reachable = capabilities(None)?.permitted;
    let within = |set| CapabilitySet::from_bits_retain(set) & reachable;
    let sets =
        CapabilitySets { effective: within(effective), permitted: within(permitted), inheritable: within(inheritable) };
    set_capabilities(None, sets)?;
    Ok(reachable.bits())
}

/// Adds a capability to the ambient set.
pub fn raise_ambient_capability(number: u32) -> io::Result<()> {
    use rustix::thread::{CapabilitySet, configure_capability_in_ambient_set};
    Ok(configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)?)
}

/// Forbids other processes without CAP_SYS_PTRACE to look into this one until its next execve.
pub fn forbid_inspection() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Gets the calling process killed when its parent ends.
pub fn die_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Keeps any later execve from giving privileges.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Keeps the permitted capabilities when the user changes.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}

/// Names the process for `ps` and `top`; 15 bytes count.
pub fn set_name(name: &CStr) {
    // Cosmetic: a kernel that refuses it changes nothing.
    let _ = rustix::thread::set_name(name);
}

/// Leaves all supplementary groups; `false` if they stay what they are for all processes of the user namespace, which
/// `are_fixed` tells if it is refused.
pub fn leave_groups(are_fixed: impl FnOnce() -> bool) -> io::Result<bool> {
    match nix::unistd::setgroups(&[]) {
        Err(nix::errno::Errno::EPERM) if are_fixed() => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Whether the user namespace of a process (its number, or `self`) has given up changing supplementary groups for good,
/// as that of an ordinary user must.
pub fn groups_are_fixed(process: &str) -> bool {
    let said = read_kernel_text(format!("/proc/{process}/setgroups"));
    said.is_ok_and(|word| word.trim() == "deny")
}

/// Replaces the group and the user of the process, for good, and its supplementary groups if there are any given.
///
/// # Errors
/// The number that the kernel takes for "as it is".
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    if uid == u32::MAX || gid == u32::MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if let Some(groups) = groups {
        setgroups(&groups.iter().map(|g| Gid::from_raw(*g)).collect::<Vec<_>>())?;
    }
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// Whether this process is root, and that of no user namespace but the host's.
pub fn is_host_root() -> bool {
    let all = |map: String| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    rustix::process::geteuid().is_root() && read_kernel_text("/proc/self/uid_map").is_ok_and(all)
}

/// Sets a resource limit, by its number, of the process `pid` (0 is the caller); both values in the kernel's units.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is valid for reading for the length of the call, and the old value is not asked for.
    let rc = unsafe { libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The soft and the hard resource limit of the calling process, by its number.
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing for the length of the call.
    let rc = unsafe { libc::prlimit(0, resource, std::ptr::null(), &raw mut limit) };
    if rc == 0 { Ok((limit.rlim_cur, limit.rlim_max)) } else { Err(io::Error::last_os_error()) }
}

/// Lets this process open as many descriptors as its hard limit allows. Not for processes that start others: the
/// limit is inherited, and some programs still walk through all numbers up to it.
pub fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // With the limit as it is, most things still work.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// Sets the file mode creation mask. The result is what it was.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Which capabilities of a set, a bit for each number, the caller can never have: his bounding set lacks them.
pub fn unreachable_capabilities(set: u64) -> u64 {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
    let lacks = |number: &u64| {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        set >> number & 1 != 0 && !capability_is_in_bounding_set(capability).unwrap_or(false)
    };
    (0..64).filter(lacks).fold(0, |all, number| all | 1 << number)
}

/// Replaces the program by the one at `path`.
pub fn exec(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execve(path, args, env) {
        Err(e) => e.into(),
        Ok(never) => match never {},
    }
}

/// A process by something stronger than its number: numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// Number in the host's pid namespace.
    pub pid: i32,
    /// Start time in clock ticks after boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

impl ProcessId {
    /// The identity of the process that has this number now.
    pub fn of(pid: i32) -> io::Result<ProcessId> {
        let stat = read_kernel_text(format!("/proc/{pid}/stat"))?;
        // The second field is a name in parentheses that may hold anything.
        let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
        let start = start.and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(ProcessId { pid, start })
    }

    /// A pidfd, if this very process is still there.
    pub fn open(self) -> io::Result<OwnedFd> {
        let fd = pidfd_open(self.pid)?;
        // Checked after the descriptor is open: from then on the number cannot be taken over unseen.
        if ProcessId::of(self.pid)? == self { Ok(fd) } else { Err(Errno::SRCH.into()) }
    }
}

/// Whether this very process is there and has not ended: one that only waits to be reaped has.
pub fn is_alive(process: ProcessId) -> bool {
    let Ok(stat) = read_kernel_text(format!("/proc/{}/stat", process.pid)) else { return false };
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_ascii_whitespace();
    let ended = matches!(fields.next(), None | Some("Z" | "X"));
    !ended && fields.nth(18).and_then(|s| s.parse().ok()) == Some(process.start)
}

/// The numbers of the processes in the same pid namespace as a process, which must not be the caller's; those that
/// cannot be looked at are left out.
///
/// # Errors
/// That process is gone, or cannot be looked at.
pub fn in_pid_namespace_of(process: ProcessId) -> io::Result<Vec<i32>> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    let alive = process.open()?;
    let wanted = namespace(process.pid)?;
    // Its number may have been given away before the link was read.
    pidfd_kill(&alive, 0)?;
    if wanted == std::fs::read_link("/proc/self/ns/pid")? {
        return Err(io::Error::other("it is in the caller's own pid namespace"));
    }
    let numbers = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<i32> = numbers.filter(|pid| namespace(*pid).is_ok_and(|other| other == wanted)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Gives freed heap memory back to the kernel.
pub fn trim_heap() {
    // SAFETY: the allocator's own call; it takes its locks itself.
    unsafe { libc::malloc_trim(0) };
}

/// Has the heap keep what is freed, for a process that soon needs it again: each page costs a fault anew, and two
/// microseconds. [`trim_heap`] gives it back nevertheless.
pub fn keep_memory() {
    // SAFETY: sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX) };
}

/// Drops this process's mappings of its program's file; pages come back from the page cache when they are used.
pub fn release_program_pages() {
    let Ok(maps) = read_kernel_text("/proc/self/maps") else { return };
    // The file's mappings come first; the first that is writable ends those that nothing has ever written to.
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(mode), Some(inode)) = (fields.next(), fields.next(), fields.nth(2)) else { return };
        let Some((from, to)) = range.split_once('-') else { return };
        let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)) else { return };
        if inode == "0" || !(mode.starts_with("r--") || mode.starts_with("r-x")) || to > relocated_from() {
            return;
        }
        // SAFETY: these are constants and code, mapped from the program's file and never written to; using them
        // again faults the same bytes back in.
        unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
    }
}

/// Where what is written to begins: variables, and constants that were relocated before they became read-only.
/// Linkers lay them behind everything else.
pub(super) fn relocated_from() -> usize {
    // SAFETY: asks for what the kernel told this program about itself.
    let (table, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if table == 0 {
        return 0;
    }
    // SAFETY: the table of this program's own segments, which is part of its file and mapped as long as it runs.
    let segments = unsafe { std::slice::from_raw_parts(table as *const libc::Elf64_Phdr, count as usize) };
    let itself = segments.iter().find(|s| s.p_type == libc::PT_PHDR);
    let moved_by = itself.map_or(0, |s| table - s.p_vaddr);
    let written = segments.iter().filter(|s| s.p_type == libc::PT_LOAD && s.p_flags & libc::PF_W != 0);
    written.map(|s| s.p_vaddr + moved_by).min().unwrap_or(0) as usize & !4095
}

/// Gives the process a session keyring of its own, so that it cannot use its starter's keys. It has no name: by a name
/// the kernel would give it that of whoever has chosen the same and lets others in.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: the call reads no memory: there is no name.
    let rc = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match rc {
        -1 => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            e => Err(e),
        },
        _ => Ok(()),
    }
}
