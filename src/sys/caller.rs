//! What a process has from whoever started it, and a container is not to have: limits, priorities, processors.

use super::file::read_kernel_text;
use super::process::{rlimit, set_rlimit};
use super::procfs::ProcFs;
use super::schedule::{Scheduling, run_anywhere, set_io_priority, set_personality, set_scheduling, set_timer_slack};
use std::io;

const UNLIMITED: u64 = libc::RLIM_INFINITY;
/// What services get from an init system that was told nothing: soft and hard limits in the kernel's units.
const LIMITS: [(u32, u64, u64); 15] = [
    (libc::RLIMIT_CPU, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_FSIZE, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_DATA, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_STACK, 8 << 20, UNLIMITED),
    (libc::RLIMIT_CORE, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_RSS, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_NPROC, UNLIMITED, UNLIMITED),
    // Some programs walk through all numbers up to the soft limit.
    (libc::RLIMIT_NOFILE, 1024, 524_288),
    (libc::RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
    (libc::RLIMIT_AS, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_LOCKS, UNLIMITED, UNLIMITED),
    (libc::RLIMIT_MSGQUEUE, 819_200, 819_200),
    (libc::RLIMIT_NICE, 0, 0),
    (libc::RLIMIT_RTPRIO, 0, 0),
    (libc::RLIMIT_RTTIME, UNLIMITED, UNLIMITED),
];

/// Makes this process one that nobody in particular has started. What we have no right to change stays. Without the right
/// to raise hard limits they are left as they are: what is asked for later may need them.
pub fn forget() {
    let may_raise = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap_or(false);
    for (resource, soft, hard) in LIMITS {
        let Ok((_, ours)) = rlimit(resource) else { continue };
        let hard = if may_raise { hard } else { ours };
        let _ = set_rlimit(0, resource, soft.min(hard), hard);
    }
    let _ = set_scheduling(&Scheduling::default());
    let _ = run_anywhere();
    let _ = set_io_priority(0, 0);
    let _ = set_personality(0);
    let _ = set_timer_slack(50_000);
    let _ = forget_oom_score();
}

fn forget_oom_score() -> io::Result<()> {
    match read_kernel_text("/proc/self/oom_score_adj")?.trim() {
        "0" => Ok(()),
        _ => ProcFs::host()?.write("self/oom_score_adj", b"0"),
    }
}
