//! Random bytes from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills an array with random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    let mut filled = 0;
    while filled < N {
        // Before the kernel's pool is initialised the call blocks; an interrupted call is simply repeated.
        if let Ok(n) = getrandom(&mut out[filled..], GetRandomFlags::empty()) {
            filled += n;
        }
    }
    out
}

/// `bytes` random bytes in lower-case hexadecimal.
pub fn hex<const N: usize>() -> String {
    crate::sys::file::hex(&bytes::<N>())
}
