//! How the kernel treats a process beside others: processor time, input and output, and what system it pretends to be.

use std::io;

/// Parameters of `sched_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Of the ordinary policies, -20 to 19.
    pub nice: i32,
    /// Of the real-time policies, 1 to 99.
    pub priority: u32,
    /// Nanoseconds, of the deadline policy.
    pub runtime: u64,
    /// Nanoseconds, of the deadline policy.
    pub deadline: u64,
    /// Nanoseconds, of the deadline policy.
    pub period: u64,
}

/// Sets the scheduling of the calling process.
pub fn set_scheduling(s: &Scheduling) -> io::Result<()> {
    /// The second version of the kernel's structure; later ones only add fields.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
        least_use: u32,
        most_use: u32,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: s.policy,
        flags: s.flags,
        nice: s.nice,
        priority: s.priority,
        runtime: s.runtime,
        deadline: s.deadline,
        period: s.period,
        least_use: 0,
        most_use: 0,
    };
    // SAFETY: the structure is valid for the length of the call, which only reads as much of it as it says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Sets the input and output priority of the calling process: class 1 (real time), 2 (best effort) or 3 (idle), and a
/// level of 0 to 7.
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: passes three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << 13) | level) })
}

/// Lets the calling process run on these processors only.
pub fn set_affinity(processors: &[usize]) -> io::Result<()> {
    let highest = processors.iter().copied().max().ok_or(io::ErrorKind::InvalidInput)?;
    let mut mask = vec![0u64; highest / 64 + 1];
    for p in processors {
        mask[p / 64] |= 1 << (p % 64);
    }
    // SAFETY: the mask is valid for the length of the call, which reads the given number of bytes of it.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len() * 8, mask.as_ptr()) })
}

/// Lets the calling process run on every processor.
pub fn run_anywhere() -> io::Result<()> {
    // More than any kernel has; what it does not have is left out.
    const ALL: [u64; 128] = [u64::MAX; 128];
    // SAFETY: the mask is valid for the length of the call, which reads the given number of bytes of it.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&ALL), ALL.as_ptr()) })
}

/// Sets how late timers of the calling process may be, in nanoseconds.
pub fn set_timer_slack(nanoseconds: u64) -> io::Result<()> {
    // SAFETY: passes integers.
    check(i64::from(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) }))
}

/// Sets the execution domain of the calling process (`PER_*`).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: passes an integer.
    check(i64::from(unsafe { libc::personality(domain.into()) }))
}

fn check(result: i64) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
