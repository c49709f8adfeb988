//! The ABIs that programs can call the kernel by, and the numbers of its calls in each.

use oci_spec::runtime::Arch;

/// A way of calling the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// x86 with 64 bits.
    X86_64,
    /// x86 with 32 bits.
    I386,
    /// x86 with 64 bits and short pointers: the audit architecture of [`Abi::X86_64`], and a bit in the number.
    X32,
    /// ARM with 64 bits.
    Aarch64,
    /// ARM with 32 bits (EABI).
    Arm,
}

/// What marks the numbers of x32.
pub const X32_BIT: u32 = 1 << 30;

/// From here on 32-bit ARM has calls of its own, far above those that are added with time.
const ARM_PRIVATE: u32 = 0xf0000;

impl Abi {
    /// In the order of the table's columns.
    #[cfg(test)]
    pub const ALL: [Abi; 5] = [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm];

    /// That of this machine; `None` where there is no table for it.
    pub const fn native() -> Option<Abi> {
        if cfg!(target_arch = "x86_64") {
            Some(Abi::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Abi::Aarch64)
        } else {
            None
        }
    }

    /// The ABI by its name in a specification; `None` if its calls cannot reach a kernel of the `host`'s kind.
    pub fn of(arch: Arch, host: Abi) -> Option<Abi> {
        let abi = match arch {
            Arch::ScmpArchNative => host,
            Arch::ScmpArchX86_64 => Abi::X86_64,
            Arch::ScmpArchX86 => Abi::I386,
            Arch::ScmpArchX32 => Abi::X32,
            Arch::ScmpArchAarch64 => Abi::Aarch64,
            Arch::ScmpArchArm => Abi::Arm,
            _ => return None,
        };
        let intel = |abi| matches!(abi, Abi::X86_64 | Abi::I386 | Abi::X32);
        (intel(abi) == intel(host)).then_some(abi)
    }

    /// `AUDIT_ARCH_*`, as the kernel tells a filter.
    pub const fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether only the low half of an argument counts.
    pub const fn short_arguments(self) -> bool {
        matches!(self, Abi::I386 | Abi::X32 | Abi::Arm)
    }

    /// Whether a number is one that the kernel may get successors of.
    pub const fn counts_as_newest(self, number: u32) -> bool {
        !matches!(self, Abi::Arm) || number < ARM_PRIVATE
    }
}

const ABSENT: u32 = u32::MAX;

/// A call that does the work of many.
#[derive(Clone, Copy, Debug)]
pub enum Multiplexer {
    /// That of sockets.
    Socketcall,
    /// That of System V's message queues, semaphores and shared memory.
    Ipc,
}

impl Multiplexer {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Multiplexer::Socketcall => "socketcall",
            Multiplexer::Ipc => "ipc",
        }
    }

    /// The bits of the first argument that tell the operation; the rest of that of `ipc` is a version.
    pub fn mask(self) -> u64 {
        match self {
            Multiplexer::Socketcall => u64::MAX,
            Multiplexer::Ipc => 0xffff,
        }
    }
}

/// A system call: its number in every ABI.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    name: &'static str,
    numbers: [u32; 5],
    /// Through which other call 32-bit x86 can also make it, and what that one's first argument is then.
    pub multiplexed: Option<(Multiplexer, u64)>,
}

impl Call {
    /// Its name.
    #[cfg(test)]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its number as a filter sees it, if the ABI has it.
    pub fn number(&self, abi: Abi) -> Option<u32> {
        let number = self.numbers[abi as usize];
        match (number, abi) {
            (ABSENT, _) => None,
            (_, Abi::X32) => Some(number | X32_BIT),
            _ => Some(number),
        }
    }
}

/// Finds a call by its name, whatever ABI has it.
pub fn find(name: &str) -> Option<&'static Call> {
    let mut slot = hash(name.as_bytes());
    loop {
        let call = &CALLS[usize::from(SLOTS[slot].checked_sub(1)?)];
        if call.name == name {
            return Some(call);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

const TEXT: &str = include_str!("syscalls.txt");
const COUNT: usize = count_lines(TEXT.as_bytes());

/// The table, read while the program is compiled.
pub static CALLS: [Call; COUNT] = parse(TEXT.as_bytes());

/// Places in the table plus one, by hash; 0 is an empty slot.
static SLOTS: [u16; 2048] = index(&CALLS);

const fn index(calls: &[Call; COUNT]) -> [u16; 2048] {
    let mut slots = [0; 2048];
    let mut i = 0;
    while i < COUNT {
        let mut slot = hash(calls[i].name.as_bytes());
        while slots[slot] != 0 {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = i as u16 + 1;
        i += 1;
    }
    slots
}

/// Fowler, Noll and Vo's, folded to a slot.
const fn hash(bytes: &[u8]) -> usize {
    let (mut hash, mut i) = (0x811c_9dc5_u32, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ hash >> 16) as usize % 2048
}

const fn count_lines(text: &[u8]) -> usize {
    let (mut i, mut count, mut start) = (0, 0, true);
    while i < text.len() {
        if start && text[i] != b'#' {
            count += 1;
        }
        start = text[i] == b'\n';
        i += 1;
    }
    count
}

const fn parse(text: &'static [u8]) -> [Call; COUNT] {
    let mut calls = [Call { name: "", numbers: [ABSENT; 5], multiplexed: None }; COUNT];
    let (mut rest, mut count) = (text, 0);
    while !rest.is_empty() {
        let (line, after) = split(rest, b'\n');
        rest = after;
        if line[0] == b'#' {
            continue;
        }
        let (name, mut fields) = split(line, b' ');
        calls[count].name = match std::str::from_utf8(name) {
            Ok(name) => name,
            Err(_) => panic!("a name that is not text"),
        };
        calls[count].multiplexed = multiplexed(name);
        let mut column = 0;
        while column < 5 {
            let (field, after) = split(fields, b' ');
            calls[count].numbers[column] = number(field);
            fields = after;
            column += 1;
        }
        count += 1;
    }
    calls
}

/// What is before the first `separator`, and what is after it.
const fn split(text: &'static [u8], separator: u8) -> (&'static [u8], &'static [u8]) {
    let mut i = 0;
    while i < text.len() && text[i] != separator {
        i += 1;
    }
    let (head, tail) = text.split_at(i);
    match tail {
        [] => (head, tail),
        [_, rest @ ..] => (head, rest),
    }
}

const fn number(field: &[u8]) -> u32 {
    if matches!(field, [b'-']) {
        return ABSENT;
    }
    let (mut value, mut i) = (0, 0);
    while i < field.len() {
        assert!(field[i].is_ascii_digit(), "a number that is none");
        value = value * 10 + (field[i] - b'0') as u32;
        i += 1;
    }
    value
}

const fn multiplexed(name: &[u8]) -> Option<(Multiplexer, u64)> {
    let mut i = 0;
    while i < MULTIPLEXED.len() {
        let (candidate, by, operation) = MULTIPLEXED[i];
        if is_same(candidate.as_bytes(), name) {
            return Some((by, operation));
        }
        i += 1;
    }
    None
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// The names of those calls, with the numbers of their operations.
const MULTIPLEXED: [(&str, Multiplexer, u64); 32] = [
    ("socket", Multiplexer::Socketcall, 1),
    ("bind", Multiplexer::Socketcall, 2),
    ("connect", Multiplexer::Socketcall, 3),
    ("listen", Multiplexer::Socketcall, 4),
    ("accept", Multiplexer::Socketcall, 5),
    ("getsockname", Multiplexer::Socketcall, 6),
    ("getpeername", Multiplexer::Socketcall, 7),
    ("socketpair", Multiplexer::Socketcall, 8),
    ("send", Multiplexer::Socketcall, 9),
    ("recv", Multiplexer::Socketcall, 10),
    ("sendto", Multiplexer::Socketcall, 11),
    ("recvfrom", Multiplexer::Socketcall, 12),
    ("shutdown", Multiplexer::Socketcall, 13),
    ("setsockopt", Multiplexer::Socketcall, 14),
    ("getsockopt", Multiplexer::Socketcall, 15),
    ("sendmsg", Multiplexer::Socketcall, 16),
    ("recvmsg", Multiplexer::Socketcall, 17),
    ("accept4", Multiplexer::Socketcall, 18),
    ("recvmmsg", Multiplexer::Socketcall, 19),
    ("sendmmsg", Multiplexer::Socketcall, 20),
    ("semop", Multiplexer::Ipc, 1),
    ("semget", Multiplexer::Ipc, 2),
    ("semctl", Multiplexer::Ipc, 3),
    ("semtimedop", Multiplexer::Ipc, 4),
    ("msgsnd", Multiplexer::Ipc, 11),
    ("msgrcv", Multiplexer::Ipc, 12),
    ("msgget", Multiplexer::Ipc, 13),
    ("msgctl", Multiplexer::Ipc, 14),
    ("shmat", Multiplexer::Ipc, 21),
    ("shmdt", Multiplexer::Ipc, 22),
    ("shmget", Multiplexer::Ipc, 23),
    ("shmctl", Multiplexer::Ipc, 24),
];
