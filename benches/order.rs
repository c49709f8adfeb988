//! Which functions of a program its frequent commands execute, and in what order; and the linker script that lays
//! them side by side in that order. `benches/order.sh` runs it.
//!
//! ```text
//! order mark PROGRAM MARKED          a copy of PROGRAM that stops at the beginning of each of its functions
//! order trace PROGRAM OUT COMMAND..  runs a command, and all that come from it, until the last has ended; writes the
//!                                    addresses at which MARKED stopped, each once, to OUT
//! order script MAP OUT OUT OUT..     from what was traced and the linker's map of PROGRAM: the script; the first three
//!                                    commands have what they execute in as few pieces as can be
//! ```
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::ffi::{CString, c_void};
use std::fmt::Write;
use std::fs;
use std::ptr::null_mut;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SECTION: &str = ".text.";
const BREAKPOINT: u8 = 0xcc;
/// Where that register is in the kernel's `struct user`.
const INSTRUCTION_POINTER: u64 = 128;
const OPTIONS: i32 = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

const BIRTHS: [i32; 3] = [libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_VFORK, libc::PTRACE_EVENT_CLONE];

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mark", program, marked] => mark(program, marked),
        ["trace", program, out, command @ ..] if !command.is_empty() => trace(program, out, command),
        ["script", map, traces @ ..] => script(map, traces),
        // `cargo bench` without a purpose of its own.
        [] => Ok(()),
        _ => Err("see the comment at the top of order.rs".into()),
    }
}

/// What is read of an executable for this machine.
struct Elf {
    data: Vec<u8>,
}

impl Elf {
    fn read(path: &str) -> Outcome<Self> {
        let data = fs::read(path)?;
        let elf = data.starts_with(b"\x7fELF\x02\x01");
        if elf { Ok(Self { data }) } else { Err(format!("{path}: not a 64-bit ELF file").into()) }
    }

    /// A little-endian number of so many bytes.
    fn number(&self, at: usize, bytes: usize) -> Outcome<usize> {
        let found = self.data.get(at..at + bytes).ok_or("the file ends early")?;
        Ok(found.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// The functions: their addresses, and where in the file they begin.
    fn functions(&self) -> Outcome<BTreeMap<u64, usize>> {
        let (segments, sections) = (self.number(0x20, 8)?, self.number(0x28, 8)?);
        let mut code = Vec::new();
        for segment in (0..self.number(0x38, 2)?).map(|i| segments + i * 56) {
            let (load, executable) = (self.number(segment, 4)? == 1, self.number(segment + 4, 4)? & 1 != 0);
            if load && executable {
                code.push((self.number(segment + 8, 8)?, self.number(segment + 16, 8)?, self.number(segment + 32, 8)?));
            }
        }
        let mut found = BTreeMap::new();
        for section in (0..self.number(0x3c, 2)?).map(|i| sections + i * 64) {
            if self.number(section + 4, 4)? != 2 {
                continue;
            }
            let (from, length) = (self.number(section + 24, 8)?, self.number(section + 32, 8)?);
            for symbol in (from..from + length).step_by(24) {
                let (kind, address) = (self.number(symbol + 4, 1)? & 0xf, self.number(symbol + 8, 8)?);
                let within = code.iter().find(|(_, start, size)| (*start..start + size).contains(&address));
                if let (2 | 10, Some((offset, start, _))) = (kind, within) {
                    found.insert(address as u64, offset + address - start);
                }
            }
        }
        if found.is_empty() { Err("no functions: has the program been stripped?".into()) } else { Ok(found) }
    }
}

fn mark(program: &str, marked: &str) -> Outcome<()> {
    let elf = Elf::read(program)?;
    let functions = elf.functions()?;
    let mut data = elf.data;
    functions.values().for_each(|at| data[*at] = BREAKPOINT);
    fs::write(marked, data)?;
    fs::set_permissions(marked, fs::metadata(program)?.permissions())?;
    Ok(())
}

fn ptrace(request: u32, pid: i32, address: u64, data: u64) -> i64 {
    unsafe { libc::ptrace(request, pid, address as *mut c_void, data as *mut c_void) }
}

/// Starts a command that waits to be traced before it is executed.
fn start(command: &[&str]) -> Outcome<i32> {
    let words = command.iter().map(|w| CString::new(*w)).collect::<Result<Vec<_>, _>>()?;
    let pointers: Vec<_> = words.iter().map(|w| w.as_ptr()).chain([std::ptr::null()]).collect();
    let mut pipe = [0; 2];
    unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) };
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        unsafe {
            libc::read(pipe[0], [0u8].as_mut_ptr().cast(), 1);
            libc::execvp(pointers[0], pointers.as_ptr());
            libc::_exit(127);
        }
    }
    if ptrace(libc::PTRACE_SEIZE, pid, 0, OPTIONS as u64) != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    unsafe { libc::write(pipe[1], [0u8].as_ptr().cast(), 1) };
    Ok(pid)
}

fn trace(program: &str, out: &str, command: &[&str]) -> Outcome<()> {
    let elf = Elf::read(program)?;
    let functions = elf.functions()?;
    let first = start(command)?;
    let (mut order, mut seen, mut code) = (String::new(), HashSet::new(), 0);
    let mut traced = HashSet::from([first]);
    while !traced.is_empty() {
        let mut status = 0;
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
        if pid < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        if !libc::WIFSTOPPED(status) {
            traced.remove(&pid);
            if pid == first {
                code = status;
            }
            continue;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if BIRTHS.contains(&event) {
            let mut born: libc::c_ulong = 0;
            unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, null_mut::<c_void>(), &raw mut born) };
            traced.insert(i32::try_from(born)?);
        }
        let stopped = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
        if event == libc::PTRACE_EVENT_STOP && stopped {
            ptrace(libc::PTRACE_LISTEN, pid, 0, 0);
            continue;
        }
        let mut passed = if event == 0 { signal } else { 0 };
        if passed == libc::SIGTRAP {
            let address = (ptrace(libc::PTRACE_PEEKUSER, pid, INSTRUCTION_POINTER, 0) - 1) as u64;
            if let Some(at) = functions.get(&address) {
                let word = ptrace(libc::PTRACE_PEEKTEXT, pid, address, 0) as u64;
                let whole = word & !0xff | u64::from(elf.data[*at]);
                ptrace(libc::PTRACE_POKETEXT, pid, address, whole);
                ptrace(libc::PTRACE_POKEUSER, pid, INSTRUCTION_POINTER, address);
                if seen.insert(address) {
                    writeln!(order, "{address:x}")?;
                }
                passed = 0;
            }
        }
        ptrace(libc::PTRACE_CONT, pid, 0, passed as u64);
    }
    fs::write(out, order)?;
    eprintln!("{} functions: {}", seen.len(), command.join(" "));
    if code == 0 { Ok(()) } else { Err(format!("the command ended with status {code:#x}").into()) }
}

/// A pattern for a file of functions that are not Rust's: an object, or a member of an archive, without the hashes in
/// their names.
fn object(file: &str) -> String {
    let plain = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name);
        let is_hash = |word: &&str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let words = name.split_inclusive(['-', '.']).map(|word| match word.strip_suffix(['-', '.']) {
            Some(hash) if is_hash(&hash) => format!("*{}", &word[hash.len()..]),
            _ => word.to_owned(),
        });
        words.collect::<String>()
    };
    match file.strip_suffix(')').and_then(|f| f.rsplit_once('(')) {
        Some((archive, member)) => format!("*{}:{}", plain(archive), plain(member)),
        None => format!("*{}", plain(file)),
    }
}

/// A pattern for the section of a Rust function, without what is another one after each change of a compiler or of
/// the code: the hash of a crate, and of the unit that the function was compiled in.
fn mangled(section: &str) -> Option<String> {
    let name = section.split_once(".llvm.").map_or(section, |(name, _)| name);
    let (name, rest) = name.split_once("_R").filter(|(name, _)| name.starts_with(SECTION))?;
    let mut parts = rest.split("Cs");
    let mut pattern = format!("{name}_R{}", parts.next()?);
    for part in parts {
        let hash = part.find('_').filter(|at| part[..*at].bytes().all(|b| b.is_ascii_alphanumeric()));
        pattern += &hash.map_or_else(|| format!("Cs{part}"), |at| format!("Cs*{}", &part[at..]));
    }
    Some(pattern + "*")
}

/// Whether a name is one of a pattern's; `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The pattern without as much of its middle as is not needed to tell its names from all the others.
fn shortened(pattern: &str, names: &[&str]) -> String {
    let wanted = |short: &str| names.iter().all(|name| !matches(short, name) || matches(pattern, name));
    let ends = [8, 12, 16, 24, 32, 48, 64, 96].into_iter().filter(|end| pattern.len() > SECTION.len() + 2 * end + 1);
    let around = |end: usize| (&pattern[..SECTION.len() + end], &pattern[pattern.len() - end..]);
    let short = ends.map(|end| format!("{}*{}", around(end).0, around(end).1).replace("**", "*"));
    short.into_iter().find(|short| wanted(short)).unwrap_or_else(|| pattern.to_owned())
}

/// Where a function belongs that these of the three first commands execute: each set is next to those that differ from
/// it by one command, so the first two commands have one piece of the program each, and the third has two.
fn place(first: bool, second: bool, third: bool) -> usize {
    const NEIGHBOURS: [[bool; 3]; 8] = [
        [true, false, false],
        [true, false, true],
        [true, true, true],
        [true, true, false],
        [false, true, false],
        [false, true, true],
        [false, false, true],
        [false, false, false],
    ];
    NEIGHBOURS.iter().take_while(|set| **set != [first, second, third]).count()
}

fn script(map: &str, traces: &[&str]) -> Outcome<()> {
    let text = fs::read_to_string(map)?;
    let mut sections = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let mut number = |radix| u64::from_str_radix(fields.next()?, radix).ok();
        let (Some(address), Some(_), Some(size)) = (number(16), number(16), number(16)) else { continue };
        if let (true, Some((file, section))) =
            (size > 0, fields.nth(1).and_then(|f| f.strip_suffix(')')?.split_once(":(")))
        {
            sections.insert(address, (size, file, section));
        }
    }
    let (mut found, mut users) = (Vec::new(), HashMap::<_, HashSet<usize>>::new());
    for (user, trace) in traces.iter().enumerate() {
        for address in fs::read_to_string(trace)?.lines() {
            let address = u64::from_str_radix(address, 16)?;
            let within = sections.range(..=address).next_back();
            let Some((_, section)) = within.filter(|(from, (size, ..))| address < *from + size) else { continue };
            let users = users.entry(section).or_default();
            if users.is_empty() {
                found.push(section);
            }
            users.insert(user);
        }
    }
    // In one piece what most execute comes first, then what is executed first.
    found.sort_by_key(|section| {
        let users = &users[section];
        let is_of = |user| users.contains(&user);
        (place(is_of(0), is_of(1), is_of(2)), Reverse(users.len()))
    });
    let names: Vec<&str> = sections.values().map(|(_, _, section)| *section).collect();
    let (mut patterns, mut left) = (Vec::new(), 0);
    for (size, file, section) in found {
        let pattern = match mangled(section) {
            Some(pattern) => format!("*({})", shortened(&pattern, &names)),
            None if section.starts_with(".text") && file.ends_with([')', 'o']) => {
                format!("{}({section})", object(file))
            }
            None => {
                left += size;
                continue;
            }
        };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    println!("/* Made by `make order`: the functions that frequent commands execute, side by side. */");
    println!("SECTIONS {{\n.text.first : {{\n{}\n}}\n}}\nINSERT BEFORE .text;", patterns.join("\n"));
    eprintln!("{} patterns; {left} bytes of other kinds stay where they are", patterns.len());
    Ok(())
}
