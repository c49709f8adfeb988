//! Why the kernel does not run a file: it says no more than "no such file or directory" about a program that is there,
//! and "exec format error" about many things.

use rustix::fs::FileType;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What is wrong with the file at `path`, as the calling process would find it; `None` if nothing stands out.
pub fn of(error: &io::Error, path: &Path) -> Option<String> {
    match error.raw_os_error()? {
        libc::EACCES | libc::EPERM => access(path),
        libc::ENOENT => Some(missing(path)),
        libc::ENOEXEC | libc::ELIBBAD | libc::EINVAL => format(path),
        _ => None,
    }
}

fn access(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    if metadata.is_dir() {
        return Some("it is a directory".into());
    }
    if !metadata.is_file() {
        return Some("it is not a regular file".into());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        let mode = metadata.permissions().mode() & 0o7777;
        return Some(format!("the file is not executable (its mode is {mode:04o}): add the x bit with chmod +x"));
    }
    if is_noexec(path) {
        return Some("it is on a file system that is mounted with noexec".into());
    }
    // The file may be fine, and what it names is not.
    if let Some(interpreter) = interpreter_of(path) {
        let found = interpreter.path.metadata();
        if found.as_ref().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
            && !is_noexec(&interpreter.path)
        {
            return owner_note(path);
        }
        let reason = match found {
            Ok(m) if m.is_dir() => "is a directory",
            Ok(m) if m.permissions().mode() & 0o111 == 0 => "is not executable",
            Ok(_) => "is on a file system that is mounted with noexec",
            Err(_) => "cannot be reached by this user",
        };
        return Some(format!("{} {} {reason}", interpreter.role, interpreter.path.display()));
    }
    owner_note(path)
}

/// Others may run it, but not this user.
fn owner_note(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let user = rustix::process::geteuid().as_raw();
    (metadata.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_err())
        .then(|| format!("user {user} may not run it (owner {}:{}, mode {mode:04o})", metadata.uid(), metadata.gid()))
}

fn is_noexec(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|s| s.f_flag.bits() & libc::ST_NOEXEC != 0)
}

/// A file that is there and "was not found": it is what it names that is missing.
fn missing(path: &Path) -> String {
    match interpreter_of(path) {
        Some(interpreter) => {
            let Interpreter { role, path: named, returned } = interpreter;
            if returned {
                return format!(
                    "the file exists, but its first line ends in a carriage return, so {role} is {:?}, which does not \
                     exist: the file has Windows line endings",
                    format!("{}\r", named.display())
                );
            }
            if named.exists() {
                return match interpreter_of(&named) {
                    Some(next) if !next.path.exists() => format!(
                        "the file exists, and {role} {} does, but not {} {} that this one needs",
                        named.display(),
                        next.role,
                        next.path.display()
                    ),
                    _ => "the file exists, but something that it needs does not".into(),
                };
            }
            let hint = match role {
                LOADER => {
                    ": the program was built for another C library or distribution, or with shared libraries that \
                           the image lacks"
                }
                _ => "",
            };
            format!("the file exists, but {role} {} does not{hint}", named.display())
        }
        None => "the file exists, but the interpreter or loader that it names does not".into(),
    }
}

const SHEBANG: &str = "the interpreter of its first line";
const LOADER: &str = "the ELF loader";

struct Interpreter {
    role: &'static str,
    path: PathBuf,
    /// The name ends in a carriage return, which is left out here.
    returned: bool,
}

const LOOKED_AT: usize = 256;

fn beginning(path: &Path) -> Option<(File, Vec<u8>)> {
    // It may be a fifo by now; nobody waits for its writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    if FileType::from_raw_mode(file.metadata().ok()?.mode()) != FileType::RegularFile {
        return None;
    }
    let mut head = Vec::new();
    (&file).take(LOOKED_AT as u64).read_to_end(&mut head).ok()?;
    Some((file, head))
}

fn interpreter_of(path: &Path) -> Option<Interpreter> {
    let (file, head) = beginning(path)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?;
        let line = line.trim_ascii_start();
        let returned = line.ends_with(b"\r") && !line.trim_ascii().contains(&b' ');
        let word = line.split(|b| matches!(b, b' ' | b'\t' | b'\r')).next().filter(|w| !w.is_empty())?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(word));
        return Some(Interpreter { role: SHEBANG, path, returned });
    }
    let path = Elf::read(&head)?.loader(&file)?;
    Some(Interpreter { role: LOADER, path, returned: false })
}

/// What of an ELF header says what it is for.
struct Elf {
    wide: bool,
    little: bool,
    kind: u16,
    machine: u16,
    table: u64,
    entry_size: u16,
    entries: u16,
}

impl Elf {
    fn read(head: &[u8]) -> Option<Elf> {
        if !head.starts_with(b"\x7fELF") || head.len() < 52 {
            return None;
        }
        let (wide, little) = (head[4] == 2, head[5] == 1);
        let half = |at: usize| number(head.get(at..at + 2)?, little).try_into().ok();
        let (table, sizes) = match wide {
            true => (number(head.get(32..40)?, little), 54),
            false => (number(head.get(28..32)?, little), 42),
        };
        let (entry_size, entries) = (half(sizes)?, half(sizes + 2)?);
        Some(Elf { wide, little, kind: half(16)?, machine: half(18)?, table, entry_size, entries })
    }

    /// The path in its INTERP segment.
    fn loader(&self, file: &File) -> Option<PathBuf> {
        const INTERP: u64 = 3;
        for entry in 0..u64::from(self.entries.min(128)) {
            let at = self.table.checked_add(entry * u64::from(self.entry_size))?;
            let mut header = [0; 56];
            let size = if self.wide { 56 } else { 32 };
            file.read_exact_at(&mut header[..size], at).ok()?;
            if number(&header[..4], self.little) != INTERP {
                continue;
            }
            let (offset, length) = match self.wide {
                true => (number(&header[8..16], self.little), number(&header[32..40], self.little)),
                false => (number(&header[4..8], self.little), number(&header[16..20], self.little)),
            };
            let mut name = vec![0; usize::try_from(length).ok().filter(|n| (2..=4096).contains(n))?];
            file.read_exact_at(&mut name, offset).ok()?;
            name.truncate(name.iter().position(|b| *b == 0)?);
            return Some(PathBuf::from(std::ffi::OsStr::from_bytes(&name)));
        }
        None
    }
}

fn number(bytes: &[u8], little: bool) -> u64 {
    let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
    if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) }
}

/// The numbers of ELF's `e_machine` that images have.
const MACHINES: [(u16, &str); 10] = [
    (3, "i386"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

fn format(path: &Path) -> Option<String> {
    const RUNNABLE: [u16; 2] = [2, 3];
    let (file, head) = beginning(path)?;
    if head.is_empty() {
        return Some("the file is empty".into());
    }
    if let Some(elf) = Elf::read(&head) {
        let name = MACHINES.iter().find(|(n, _)| *n == elf.machine).map_or("unknown", |(_, name)| *name);
        let own = std::env::consts::ARCH;
        let own_kinds: &[&str] = if own == "x86_64" { &["x86_64", "i386"] } else { &[own] };
        if !own_kinds.contains(&name) {
            return Some(format!(
                "the program is for another kind of processor ({name}), and this machine is {own}: use an image for it, \
                 or install an emulator (binfmt_misc)"
            ));
        }
        if !RUNNABLE.contains(&elf.kind) {
            return Some("it is an ELF file, but no program (an object file or a core dump)".into());
        }
        if file.metadata().is_ok_and(|m| m.len() < elf.table) {
            return Some("the program is cut off: it is shorter than its own header says".into());
        }
        return Some(format!("it is a program for {name}, but the kernel does not take it: it may be damaged"));
    }
    if head.starts_with(b"\x7fELF") {
        return Some("the program is cut off: it has no whole ELF header".into());
    }
    if head.starts_with(b"\xef\xbb\xbf#!") {
        return Some("its first line begins with a byte order mark before the #!: save the script without it".into());
    }
    if head.starts_with(b"MZ") {
        return Some("it is a program for Windows".into());
    }
    if head.starts_with(b"#!") {
        let shebang = interpreter_of(path);
        return Some(match shebang {
            Some(i) if format(&i.path).is_some() && !is_script(&i.path) => {
                format!("{SHEBANG} {} cannot be run: {}", i.path.display(), format(&i.path).unwrap_or_default())
            }
            Some(i) => format!("{SHEBANG} {} cannot be run", i.path.display()),
            None => "its first line is a #! without an interpreter".into(),
        });
    }
    let is_text = head.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..));
    Some(match is_text {
        true => "it is a script without a first line such as #!/bin/sh".into(),
        false => "it is neither a program for this machine nor a script that starts with #!".into(),
    })
}

fn is_script(path: &Path) -> bool {
    beginning(path).is_some_and(|(_, head)| head.starts_with(b"#!"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_file<T>(name: &str, content: &[u8], test: impl FnOnce(&Path) -> T) -> T {
        let path = std::env::temp_dir().join(format!("minirun-diagnosis-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let result = test(&path);
        std::fs::remove_file(&path).unwrap();
        result
    }

    fn elf(machine: u8, kind: u8) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        (elf[16], elf[18]) = (kind, machine);
        elf
    }

    #[test]
    fn what_is_no_program_is_told_apart() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "the file is empty"),
            (b"echo hi\n", "it is a script without a first line"),
            (b"\x00\x01\x02", "it is neither a program"),
            (b"MZ\x90\x00", "it is a program for Windows"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
            (b"\x7fELF\x02", "no whole ELF header"),
            (&elf(62, 1), "an object file"),
            (&elf(183, 2), if cfg!(target_arch = "aarch64") { "damaged" } else { "processor (aarch64)" }),
        ];
        for (number, (content, expected)) in cases.into_iter().enumerate() {
            let found = with_file(&format!("f{number}"), content, format).unwrap();
            assert!(found.contains(expected), "{found} / {expected}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases: [(&[u8], &str); 3] = [
            (b"#!/no/such/sh -e\n", "the interpreter of its first line /no/such/sh does not"),
            (b"#! /bin/sh\r\necho\r\n", "carriage return"),
            (b"\x7fELF", "the interpreter or loader that it names does not"),
        ];
        for (number, (content, expected)) in cases.into_iter().enumerate() {
            let found = with_file(&format!("m{number}"), content, missing);
            assert!(found.contains(expected), "{found} / {expected}");
        }
    }

    proptest! {
        #[test]
        fn no_file_is_dangerous(mut content in prop::collection::vec(any::<u8>(), 0..300), is_elf: bool) {
            if is_elf {
                content.splice(0..content.len().min(4), *b"\x7fELF");
            }
            with_file("any", &content, |path| {
                let _ = (format(path), missing(path), access(path));
            });
        }
    }
}
