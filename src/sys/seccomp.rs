//! seccomp(2): filters of system calls, as the kernel takes them.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of a filter (classic BPF).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions skipped if a condition holds.
    pub jump_true: u8,
    /// Instructions skipped if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

impl Instruction {
    /// Its length as bytes.
    pub const LENGTH: usize = 8;

    /// As the kernel has it in memory.
    pub fn to_bytes(self) -> [u8; Instruction::LENGTH] {
        let mut bytes = [0; Instruction::LENGTH];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[self.jump_true, self.jump_false]);
        bytes[4..].copy_from_slice(&self.operand.to_ne_bytes());
        bytes
    }

    /// From [`Instruction::to_bytes`].
    pub fn from_bytes(bytes: [u8; Instruction::LENGTH]) -> Instruction {
        let [c0, c1, jump_true, jump_false, operand @ ..] = bytes;
        let (code, operand) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes(operand));
        Instruction { code, jump_true, jump_false, operand }
    }
}

/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads of the process get the filter.
pub const TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`: every action but "allow" may be logged.
pub const LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: no mitigation of speculative store bypass.
pub const SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: a descriptor on which calls are announced.
pub const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: a thread that cannot follow is an error, which leaves the result to the listener.
pub const TSYNC_ESRCH: u32 = 1 << 4;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: who waits for an answer can only be killed.
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Puts a filter on the calling process, for good. With [`NEW_LISTENER`] the result is its listener.
///
/// # Errors
/// Neither no_new_privs nor `CAP_SYS_ADMIN`; flags or a program that the kernel does not take.
pub fn install(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the program and its instructions are valid for the length of the call, which only reads them.
    let rc = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    match rc {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: with this flag the kernel returns a new descriptor, which nobody else owns.
        fd if flags & NEW_LISTENER != 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        0 => Ok(None),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// Whether the kernel knows an action (`SECCOMP_RET_*`).
pub fn offers_action(action: u32) -> bool {
    // SAFETY: the action is valid for the length of the call, which only reads it.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}
