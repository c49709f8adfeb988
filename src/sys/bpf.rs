//! Device access rules of cgroup v2: a small program in the kernel, written and attached without a library.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One rule about device nodes; of several that match, the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// `a` (both), `b` or `c`.
    pub kind: char,
    /// `None` is every major number.
    pub major: Option<u32>,
    /// `None` is every minor number.
    pub minor: Option<u32>,
    /// Any of `r`, `w` and `m`.
    pub access: String,
}

/// A compiled list of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: src << 4 | dst, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOV_IMM: u8 = 0xb7;
const MOV32_REG: u8 = 0xbc;
const AND32_IMM: u8 = 0x54;
const RSH32_IMM: u8 = 0x74;
const JEQ_IMM: u8 = 0x15;
const JNE_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The program: registers 2 to 5 hold type, access, major and minor; rules are tried from the last to the first.
pub fn compile(rules: &[DeviceRule]) -> Program {
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(AND32_IMM, 2, 0, 0, 0xffff),
        op(LOAD_WORD, 3, 1, 0, 0),
        op(RSH32_IMM, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule));
    }
    program.extend([op(MOV_IMM, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    Program(program)
}

fn block(rule: &DeviceRule) -> Vec<Instruction> {
    // Jumps with offset 0 are patched to the end of the block below.
    let mut block = Vec::new();
    let mut to_end = Vec::new();
    let mut leave = |block: &mut Vec<Instruction>, instruction| {
        to_end.push(block.len());
        block.push(instruction);
    };
    match rule.kind {
        'b' => leave(&mut block, op(JNE_IMM, 2, 0, 0, 1)),
        'c' => leave(&mut block, op(JNE_IMM, 2, 0, 0, 2)),
        _ => {}
    }
    let access = [('m', 1), ('r', 2), ('w', 4)]
        .iter()
        .filter(|(letter, _)| rule.access.contains(*letter))
        .fold(0, |bits, (_, bit)| bits | bit);
    block.push(op(MOV32_REG, 1, 3, 0, 0));
    if rule.allow {
        // Allowed only if nothing is asked for beyond what the rule gives.
        block.push(op(AND32_IMM, 1, 0, 0, !access & 7));
        leave(&mut block, op(JNE_IMM, 1, 0, 0, 0));
    } else {
        block.push(op(AND32_IMM, 1, 0, 0, access));
        leave(&mut block, op(JEQ_IMM, 1, 0, 0, 0));
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            leave(&mut block, op(JNE_IMM, register, 0, 0, number as i32));
        }
    }
    block.extend([op(MOV_IMM, 0, 0, 0, rule.allow.into()), op(EXIT, 0, 0, 0, 0)]);
    let end = block.len();
    for at in to_end {
        block[at].offset = (end - at - 1) as i16;
    }
    block
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// The kernel lets no more programs be attached to one cgroup.
const MAX_PROGRAMS: usize = 64;

#[repr(C)]
struct LoadArguments {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    rest: [u64; 12],
}

#[repr(C)]
struct AttachArguments {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
    rest: [u32; 23],
}

#[repr(C)]
struct QueryArguments {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    rest: [u32; 21],
}

#[repr(C)]
struct GetArguments {
    id: u32,
    rest: [u32; 3],
}

/// Calls the kernel with one structure of arguments.
fn bpf<T>(command: i32, arguments: &mut T) -> io::Result<i32> {
    // SAFETY: each structure above begins with the fields that its command takes and is zero behind them; what its
    // pointers lead to lives in the calling function.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(arguments), size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as i32) }
}

/// Attaches `rules` to a new cgroup v2 directory; they go when it goes. A device that no rule names is denied.
pub fn attach_device_rules(cgroup: impl AsFd, rules: &[DeviceRule]) -> io::Result<()> {
    change(cgroup.as_fd(), PROG_ATTACH, &load(&compile(rules))?, ALLOW_MULTI, None)
}

/// Puts `rules` in the place of those that a cgroup v2 directory has. There is no moment without either.
pub fn replace_device_rules(cgroup: impl AsFd, rules: &[DeviceRule]) -> io::Result<()> {
    let (cgroup, program) = (cgroup.as_fd(), load(&compile(rules))?);
    let attached = attached(cgroup)?;
    if let [only] = attached.as_slice()
        && change(cgroup, PROG_ATTACH, &program, ALLOW_MULTI | REPLACE, Some(only)).is_ok()
    {
        return Ok(());
    }
    // Of several programs all must allow an access: what only the new one allows has to wait for the old ones to go.
    change(cgroup, PROG_ATTACH, &program, ALLOW_MULTI, None)?;
    attached.iter().try_for_each(|old| change(cgroup, PROG_DETACH, old, 0, None))
}

/// Whether device rules are attached to a cgroup v2 directory, and how many sets of them.
pub fn count_device_rules(cgroup: impl AsFd) -> io::Result<usize> {
    Ok(attached(cgroup.as_fd())?.len())
}

fn change(
    cgroup: BorrowedFd<'_>,
    command: i32,
    program: &OwnedFd,
    flags: u32,
    replaced: Option<&OwnedFd>,
) -> io::Result<()> {
    let mut arguments = AttachArguments {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags,
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
        rest: [0; 23],
    };
    bpf(command, &mut arguments).map(drop)
}

/// The programs attached to the cgroup itself.
fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = QueryArguments {
        target: cgroup.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        rest: [0; 21],
    };
    bpf(PROG_QUERY, &mut query)?;
    let opened = ids.iter().take(query.count as usize).map(|id| {
        let fd = bpf(PROG_GET_FD_BY_ID, &mut GetArguments { id: *id, rest: [0; 3] })?;
        // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    });
    opened.collect()
}

fn load(program: &Program) -> io::Result<OwnedFd> {
    let mut arguments = LoadArguments {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.0.len() as u32,
        instructions: program.0.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 12],
    };
    let fd = bpf(PROG_LOAD, &mut arguments)?;
    // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a program as the kernel would; `kind` 1 is a block device, 2 a character device, `access` the sum of 1 for
/// making, 2 for reading and 4 for writing.
#[cfg(test)]
pub fn simulate(program: &Program, kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0u32; 11];
    let mut at = 0;
    loop {
        let i = program.0[at];
        let (dst, src) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
        at += 1;
        let jump = match i.code {
            LOAD_WORD => {
                registers[dst] = context[i.offset as usize / 4];
                false
            }
            MOV_IMM => {
                registers[dst] = i.immediate as u32;
                false
            }
            MOV32_REG => {
                registers[dst] = registers[src];
                false
            }
            AND32_IMM => {
                registers[dst] &= i.immediate as u32;
                false
            }
            RSH32_IMM => {
                registers[dst] >>= i.immediate;
                false
            }
            JEQ_IMM => registers[dst] == i.immediate as u32,
            JNE_IMM => registers[dst] != i.immediate as u32,
            EXIT => return registers[0] == 1,
            other => panic!("unknown instruction {other:#x}"),
        };
        if jump {
            at += i.offset as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_rule_counts_and_the_default_is_deny() {
        let rule =
            |allow, kind, major, minor, access: &str| DeviceRule { allow, kind, major, minor, access: access.into() };
        let program = compile(&[
            rule(false, 'a', None, None, "rwm"),
            rule(true, 'c', None, None, "m"),
            rule(true, 'c', Some(1), Some(3), "rwm"),
            rule(true, 'b', Some(8), None, "r"),
        ]);
        let (block, char) = (1, 2);
        let (mknod, read, write) = (1, 2, 4);
        assert!(simulate(&program, char, read | write, 1, 3));
        assert!(!simulate(&program, char, read, 1, 4));
        assert!(simulate(&program, char, mknod, 99, 4));
        assert!(!simulate(&program, block, mknod, 99, 4));
        assert!(simulate(&program, block, read, 8, 1));
        assert!(!simulate(&program, block, read | write, 8, 1));
        assert!(!simulate(&compile(&[]), char, read, 1, 3));
    }
}
