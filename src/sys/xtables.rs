//! The packet filters from before nftables, as far as to see what stands in the way: the policy of forwarding. The layout
//! is that of the kernel's `ip_tables.h` and `ip6_tables.h`.

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `IPT_SO_GET_INFO`, which is the same for both families, as is the next.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const NAME: usize = 32;
const INFO: usize = 84;
/// `struct ipt_get_entries` without the entries, whose place is a multiple of eight.
const HEAD: usize = 40;
const FORWARD: usize = libc::NF_INET_FORWARD as usize;
/// No honest ruleset is larger.
const LIMIT: usize = 64 << 20;

/// The table `filter` of one family.
#[derive(Debug)]
pub struct Filter {
    entries: Vec<u8>,
    /// Where the rule is that is the policy of forwarding.
    policy: usize,
    /// Where in a rule the place of its target is.
    target_offset: usize,
}

impl Filter {
    /// Reads it for `AF_INET` or `AF_INET6`; `None` if nobody has made one, which this does not change.
    pub fn read(family: i32) -> io::Result<Option<Filter>> {
        let (names, domain, level, target_offset) = match family {
            libc::AF_INET => ("/proc/net/ip_tables_names", AddressFamily::Inet, libc::IPPROTO_IP, 88),
            _ => ("/proc/net/ip6_tables_names", AddressFamily::Inet6, libc::IPPROTO_IPV6, 140),
        };
        let is_there = std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"));
        if !is_there {
            return Ok(None);
        }
        let socket = socket(domain, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
        let mut info = vec![0; INFO];
        info[..6].copy_from_slice(b"filter");
        get(&socket, level, GET_INFO, &mut info)?;
        let word = |at: usize| info.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_ne_bytes);
        // Behind the name: the valid hooks, five entries, five underflows, the count and the size of the rules.
        let (policy, size) = (word(NAME + 24 + 4 * FORWARD) as usize, word(INFO - 4));
        if size as usize > LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut all = vec![0; HEAD + size as usize];
        all[..6].copy_from_slice(b"filter");
        all[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        get(&socket, level, GET_ENTRIES, &mut all)?;
        Ok(Some(Filter { entries: all.split_off(HEAD), policy, target_offset }))
    }

    /// Whether what no rule decides about is not forwarded.
    pub fn drops_forwarded(&self) -> bool {
        let part = |at: usize, length: usize| self.entries.get(at..at + length);
        let target = part(self.policy + self.target_offset, 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
        // A standard target is a header of 32 bytes and the verdict.
        let verdict = part(self.policy + usize::from(target) + 32, 4).and_then(|b| b.try_into().ok());
        verdict.map(i32::from_ne_bytes) == Some(-libc::NF_DROP - 1)
    }

    /// Whether a rule names this interface.
    pub fn mentions(&self, interface: &str) -> bool {
        let name = [interface.as_bytes(), &[0]].concat();
        self.entries.windows(name.len()).any(|part| part == name)
    }
}

fn get(socket: &OwnedFd, level: i32, option: i32, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes no more than `length` bytes, which the buffer has, and any bytes are valid in it.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &mut length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
