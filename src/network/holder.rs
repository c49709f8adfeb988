//! Who has a port that is wanted.

use super::ledger::Ledger;
use super::ports::{Protocol, Published};
use crate::sys::process::ProcessId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// In words: a container of ours, or a program with its process's number. `None` if nobody can be found.
pub fn of(port: &Published, ledger: &Ledger) -> Option<String> {
    if let Some(endpoint) = ledger.endpoints.iter().find(|e| e.ports.iter().any(|p| p.clashes(port))) {
        return Some(format!("the container {}", endpoint.names.first().unwrap_or(&endpoint.container)));
    }
    let inodes = sockets(port);
    if inodes.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    // The first of those that have it: the others are its children, maybe of this very moment.
    let started = |pid: &u32| ProcessId::of(*pid as i32).map_or(u64::MAX, |process| process.start);
    let pid = pids.filter(|pid| holds(*pid, &inodes)).min_by_key(started)?;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (name, line) = (read("comm"), read("cmdline"));
    let words: Vec<&str> = line.split('\0').collect();
    // A supervisor of another store says which one.
    match (name.trim_end(), words.get(3)) {
        ("minirun-super", Some(store)) => Some(format!("a container of the store {store}")),
        (name, _) => Some(format!("the process {name} (pid {pid})")),
    }
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| {
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|i| inodes.iter().any(|wanted| wanted == i))
    })
}

/// The inodes of the sockets that are bound to the port.
fn sockets(port: &Published) -> Vec<String> {
    let files = match port.protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Protocol::Sctp => return Vec::new(),
    };
    let mut found = Vec::new();
    for file in files.map(Path::new) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| socket(line, port)));
    }
    found
}

fn socket(line: &str, port: &Published) -> Option<String> {
    const LISTENING: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, number) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(number, 16).ok()? != port.host {
        return None;
    }
    if port.protocol == Protocol::Tcp && *fields.get(3)? != LISTENING {
        return None;
    }
    let address = parse(address)?;
    // An IPv6 socket for all addresses takes IPv4 as well, as a rule.
    let everywhere = address.is_unspecified() || port.address.is_none_or(|a| a.is_unspecified());
    (everywhere || Some(address) == port.address).then(|| fields.get(9).map(|i| (*i).to_owned()))?
}

/// Addresses are shown as words in the machine's order of bytes.
fn parse(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|w| u32::from_str_radix(std::str::from_utf8(w).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
