//! Device access rules of cgroup v2: a small program in the kernel, written and attached without a library.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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
fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
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
    program
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
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

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
    rest: [u64; 12],
}

/// Attaches `rules` to a cgroup v2 directory; they go when it goes. A device that no rule names is denied.
pub fn attach_device_rules(cgroup: impl AsFd, rules: &[DeviceRule]) -> io::Result<()> {
    let program = load(&compile(rules))?;
    let arguments = AttachArguments {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        rest: [0; 12],
    };
    // SAFETY: the arguments are valid for the length of the call, which only reads them.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const arguments, size_of_val(&arguments)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let arguments = LoadArguments {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the arguments and what they point to are valid for the length of the call, which only reads them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const arguments, size_of_val(&arguments)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would: 1 allows, 0 denies.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> i32 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u32; 11];
        let mut at = 0;
        loop {
            let i = program[at];
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
                EXIT => return registers[0] as i32,
                other => panic!("unknown instruction {other:#x}"),
            };
            if jump {
                at += i.offset as usize;
            }
        }
    }

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
        assert_eq!(run(&program, char, read | write, 1, 3), 1);
        assert_eq!(run(&program, char, read, 1, 4), 0);
        assert_eq!(run(&program, char, mknod, 99, 4), 1);
        assert_eq!(run(&program, block, mknod, 99, 4), 0);
        assert_eq!(run(&program, block, read, 8, 1), 1);
        assert_eq!(run(&program, block, read | write, 8, 1), 0);
        assert_eq!(run(&compile(&[]), char, read, 1, 3), 0);
    }
}
