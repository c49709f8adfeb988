//! What has to be in order before this program's own code runs. Rust's own preparations would do it, and take a tenth
//! of a millisecond at each of its many starts for what is not needed here: they look for the end of the stack.

use super::signal;
use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();

/// Has 0-2 lead somewhere, or the first files that we open would be taken for the standard streams; has the ends of
/// children told, and writes to closed pipes and beyond limits fail, whatever the caller has chosen; and keeps the
/// arguments.
///
/// # Safety
/// The arguments are those of a C program's `main`.
pub unsafe fn begin(count: c_int, words: *const *const c_char) {
    for stream in 0..=2 {
        // SAFETY: asks about a number that may be no descriptor.
        let is_open = unsafe { libc::fcntl(stream, libc::F_GETFD) } >= 0;
        // SAFETY: the path is a C string. The lowest free number is the one that was just found to be free.
        if !is_open && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } != stream {
            std::process::abort();
        }
    }
    signal::default_child();
    signal::ignore_pipe();
    signal::ignore_file_limit();
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as the caller says, there are so many pointers, and each leads to a C string that nobody changes.
    let word = |at| unsafe { CStr::from_ptr(*words.add(at)) };
    let words = (0..count).map(|at| OsStr::from_bytes(word(at).to_bytes()).to_owned()).collect();
    // Nobody has begun before.
    let _ = ARGUMENTS.set(words);
}

/// The words of the command line, the program's name first.
pub fn arguments() -> &'static [OsString] {
    ARGUMENTS.get().map_or(&[], Vec::as_slice)
}
