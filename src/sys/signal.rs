//! Signals as readable descriptors, and the clean signal state that a new program expects.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A set of signals, blocked and delivered through a descriptor.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Signals {
    /// Blocks every signal that can be blocked, except the program's own faults, and receives them here.
    pub fn all() -> io::Result<Signals> {
        // SAFETY: a signal set is plain memory that the calls below initialise.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is valid for the length of each call; the new descriptor belongs to nobody else.
        unsafe {
            libc::sigfillset(&raw mut set);
            for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP] {
                libc::sigdelset(&raw mut set, fault);
            }
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Signals(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// The next signal that has arrived, if any.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut info) {
            Ok(n) if n == info.len() => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
            Ok(_) => Ok(None),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// In the order of their numbers, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const OTHER_NAMES: [(&str, &str); 3] = [("IOT", "ABRT"), ("CLD", "CHLD"), ("POLL", "IO")];
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of a signal given as a number or a name, with or without `SIG`, in any case; `RTMIN+n` and `RTMAX-n` too.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some(REAL_TIME.start() + offset(rest, '+')?),
        (_, Some(rest)) => Some(REAL_TIME.end() - offset(rest, '-')?),
        _ => None,
    };
    if let Some(number) = real_time {
        return REAL_TIME.contains(&number).then_some(number);
    }
    let name = OTHER_NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, name)| name);
    Some(NAMES.iter().position(|known| *known == name)? as i32 + 1)
}

/// A signal's name with `SIG`, or its number if it has none.
pub fn name(number: i32) -> String {
    let index = usize::try_from(number - 1).ok();
    index.and_then(|index| NAMES.get(index)).map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}

/// What a signal means, in the words of the C library, in lower case.
pub fn description(number: i32) -> String {
    // SAFETY: the text is the library's own; it is copied before anything else can be called.
    let text = unsafe {
        let text = libc::strsignal(number);
        if text.is_null() { None } else { Some(std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()) }
    };
    text.map_or_else(|| number.to_string(), |t| t.to_lowercase())
}

/// Gives the process the signal state of a fresh one: every disposition default, nothing blocked.
pub fn reset() {
    // As the kernel has it; all zero is the default. The C library would refuse the two signals that it keeps to itself.
    let default = [0u64; 4];
    let none = std::ptr::null_mut::<u64>();
    for signal in 1..=64 {
        // SAFETY: restores a default disposition; numbers that cannot be changed are refused by the kernel.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>()) };
    }
    // SAFETY: the set is plain memory, initialised by sigemptyset before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Has the ends of children told again, whatever the caller of this program ignored.
pub fn default_child() {
    // SAFETY: restores a default disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Lets a write to a closed pipe kill the process again, as programs in a pipeline should; at first it is ignored.
pub fn default_pipe() {
    // SAFETY: restores a default disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Has a write to a closed pipe fail instead of killing the process.
pub fn ignore_pipe() {
    // SAFETY: no handler is set, only a disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Has a write beyond the caller's limit of a file's size fail instead of killing the process.
pub fn ignore_file_limit() {
    // SAFETY: no handler is set, only a disposition.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
