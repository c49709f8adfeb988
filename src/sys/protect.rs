//! The program's own file, kept from being written to by those whom it starts.
//!
//! A process that enters a container is this program until it executes the user's. Whoever looks at its
//! `/proc/PID/exe` meanwhile must not get a file that he could change for the host. So it has to run from a detached
//! read-only view of the file, or from a sealed copy.
//!
//! Executing the program once more from the view would do; but then everything that comes before `main` is paid again.
//! The kernel lets a process change what its `exe` leads to once nothing of the old file is mapped any more, so the
//! same pages are mapped again through the view, over the old mappings, while the program runs in them.

use super::file::read_kernel_text;
use super::mount::{Attributes, copy_tree, is_detached, is_read_only, set_attributes};
use super::process::exec;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::mm::{
    MapFlags, MprotectFlags, MremapFlags, ProtFlags, mmap, mmap_anonymous, mprotect, mremap_fixed, munmap,
};
use std::ffi::{CString, OsString, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

const OWN: &str = "/proc/self/exe";
const NAME: &str = "minirun";

/// This program's file as nobody can write to it.
pub enum Program {
    /// The file that it runs from is that already.
    Own,
    /// A detached read-only view of that file.
    View(OwnedFd),
}

/// This program, protected by a view if need be.
///
/// # Errors
/// The kernel allows no view.
pub fn protected() -> io::Result<Program> {
    let file = rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let in_memory = std::fs::read_link(OWN)?.as_os_str().as_encoded_bytes().starts_with(b"/memfd:minirun");
    // What is mounted read-only somewhere can be mounted otherwise.
    // Who runs from such a view already may be unable to make another one, which not every kernel does.
    if in_memory || is_read_only(&file)? && is_detached(&file)? {
        return Ok(Program::Own);
    }
    let view = copy_tree(Path::new(OWN), false)?;
    set_attributes(&view, Attributes::MOUNT_ATTR_RDONLY, Attributes::empty(), None, false)?;
    Ok(Program::View(view))
}

/// Has this process run from a file that nobody can write through, unless it does already. It may have to execute
/// the program again for that, so this is called before anything else is done.
///
/// # Errors
/// The kernel allows neither a view of the file nor a copy in memory.
pub fn own_program() -> io::Result<()> {
    let protected = match protected() {
        Ok(Program::Own) => return Ok(()),
        Ok(program) if program.take_over(None).is_ok() => return Ok(()),
        Ok(program) => program,
        // Without the right to mount, a copy that can no longer be written.
        Err(_) => Program::View(sealed_copy()?),
    };
    let text = |words: &mut dyn Iterator<Item = OsString>| -> io::Result<Vec<CString>> {
        words.map(|w| Ok(CString::new(w.into_vec())?)).collect()
    };
    let args = text(&mut super::entry::arguments().iter().cloned())?;
    let env = text(&mut std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }))?;
    Err(exec(&CString::new(protected.path())?, &args, &env))
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let copy = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = std::fs::File::from(copy);
    io::copy(&mut std::fs::File::open(OWN)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy.into())
}

impl Program {
    /// A path to execute it by.
    pub fn path(&self) -> String {
        self.descriptor().map_or_else(|| OWN.to_owned(), |fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }

    /// What has to stay open for that.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Program::Own => None,
            Program::View(view) => Some(view.as_fd()),
        }
    }

    /// Maps everything of the program's file through the view, and has `/proc/self/exe` lead there. With `title`, the
    /// process then has that for its command line (words that each end in a zero byte) and an empty environment, as
    /// far as others can see.
    ///
    /// # Errors
    /// A process with several threads; a kernel without checkpoints, or one that finds fault with the new state. The
    /// program then runs on as before: it makes no difference to it which of the two its pages came through.
    pub fn take_over(&self, title: Option<&'static [u8]>) -> io::Result<()> {
        if !super::process::has_one_thread()? {
            return Err(Errno::DEADLK.into());
        }
        let file = match self {
            Program::Own => None,
            Program::View(_) => Some(rustix::fs::open(self.path(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?),
        };
        let map = memory_map(file.as_ref(), title)?;
        if let Some(file) = &file {
            for part in own_mappings()? {
                part.move_to(file)?;
            }
        }
        // SAFETY: the kernel copies the structure, which is valid for the length of the call, and checks it.
        let rc = unsafe {
            libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, (&raw const map).addr(), size_of::<MemoryMap>(), 0)
        };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// A mapping of this program's file, by a line of `/proc/self/maps`.
struct Mapping {
    from: usize,
    length: usize,
    protection: ProtFlags,
    offset: u64,
    /// Nothing has written to it since it was mapped.
    is_pristine: bool,
}

/// The mappings of the file that this very code is in.
fn own_mappings() -> io::Result<Vec<Mapping>> {
    let maps = read_kernel_text("/proc/self/maps")?;
    let here = (own_mappings as *const ()).addr();
    let parsed: Vec<(Mapping, (&str, &str))> = maps.lines().filter_map(parse).collect();
    let own = parsed.iter().find(|(m, _)| (m.from..m.from + m.length).contains(&here)).map(|(_, file)| *file);
    let own = own.ok_or(io::ErrorKind::InvalidData)?;
    Ok(parsed.into_iter().filter(|(_, file)| *file == own).map(|(mapping, _)| mapping).collect())
}

/// A mapping and the device and inode of its file.
fn parse(line: &str) -> Option<(Mapping, (&str, &str))> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let mode = fields.next()?.as_bytes();
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let file = (fields.next()?, fields.next()?);
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    let mut protection = ProtFlags::empty();
    for (letter, flag) in [(b'r', ProtFlags::READ), (b'w', ProtFlags::WRITE), (b'x', ProtFlags::EXEC)] {
        protection.set(flag, mode.contains(&letter));
    }
    let is_pristine = !protection.contains(ProtFlags::WRITE) && to <= super::process::relocated_from();
    Some((Mapping { from, length: to.checked_sub(from)?, protection, offset, is_pristine }, file))
}

impl Mapping {
    fn move_to(&self, file: &OwnedFd) -> io::Result<()> {
        let (place, length) = (self.from as *mut c_void, self.length);
        if self.is_pristine {
            // SAFETY: the same bytes of the same file take the place of themselves, in one step of the kernel's.
            unsafe { mmap(place, length, self.protection, MapFlags::PRIVATE | MapFlags::FIXED, file, self.offset)? };
            return Ok(());
        }
        // SAFETY: asks for memory nobody has.
        let copy = unsafe {
            mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        // SAFETY: the copy is as long as the original, which is readable, and nothing else runs that could write to
        // it: the process has one thread, and neither call below writes to memory of the program's before it has
        // succeeded. Then the copy is where the original was, in one step of the kernel's.
        unsafe {
            std::ptr::copy_nonoverlapping(place.cast::<u8>(), copy.cast::<u8>(), length);
            let moved = mprotect(copy, length, MprotectFlags::from_bits_retain(self.protection.bits()))
                .and_then(|()| mremap_fixed(copy, length, length, MremapFlags::MAYMOVE, place).map(drop));
            if let Err(e) = moved {
                let _ = munmap(copy, length);
                return Err(e.into());
            }
        }
        Ok(())
    }
}

/// `struct prctl_mm_map` of the kernel.
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// The process's memory as it is, but for its file and its title.
fn memory_map(file: Option<&OwnedFd>, title: Option<&'static [u8]>) -> io::Result<MemoryMap> {
    let stat = read_kernel_text("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    // By the numbers of proc(5), which counts from one, with two fields before the parenthesis closes.
    let field = |number: usize| -> io::Result<u64> {
        fields.get(number - 3).and_then(|f| f.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    let (mut arguments, mut environment) = ((field(48)?, field(49)?), (field(50)?, field(51)?));
    if let Some(title) = title {
        let range = title.as_ptr_range();
        arguments = (range.start.addr() as u64, range.end.addr() as u64);
        environment = (arguments.1, arguments.1);
    }
    // SAFETY: with 0 the call only tells where the heap ends.
    let brk = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
    Ok(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        arg_start: arguments.0,
        arg_end: arguments.1,
        env_start: environment.0,
        env_end: environment.1,
        auxv: 0,
        auxv_size: 0,
        // All ones leave the file as it is.
        exe_fd: file.map_or(u32::MAX, |f| f.as_raw_fd() as u32),
    })
}
