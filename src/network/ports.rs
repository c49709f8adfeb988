//! Published ports: which port of the host leads to which of a container, and holding them against others.
//!
//! Packets are led by the kernel (see `rules`). The supervisor only holds a listening socket on every published port,
//! on which nothing ever arrives: nobody else can take the port while it is there, and however the supervisor ends,
//! the port is free again.

use super::holder;
use super::ledger::Ledger;
use anyhow::{Result, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// A protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The usual one.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// Streams of messages; the kernel leads it, but nobody holds its ports.
    Sctp,
}

impl Protocol {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
            Protocol::Sctp => libc::IPPROTO_SCTP as u8,
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Protocol, ()> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A port of a container that others shall reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publish {
    /// The address of the host; all of them if there is none.
    pub address: Option<IpAddr>,
    /// The first and the last port of the host that will do; any free one if there are none.
    pub host: Option<(u16, u16)>,
    /// The port of the container.
    pub container: u16,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A port that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The address of the host; all of them if there is none.
    pub address: Option<IpAddr>,
    /// The port of the host.
    pub host: u16,
    /// The port of the container.
    pub container: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Published {
    /// The addresses that it is reached at, IPv4 first: `0.0.0.0` and `::` are all of a family.
    pub fn addresses(&self, ipv6: bool) -> Vec<IpAddr> {
        match self.address {
            Some(one) => vec![one],
            None if ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None => vec![Ipv4Addr::UNSPECIFIED.into()],
        }
    }

    /// Whether the same packets would be led by both.
    pub fn clashes(&self, other: &Published) -> bool {
        let families = |p: &Published| match p.address {
            None => (true, true, None),
            Some(a) if a.is_unspecified() => (a.is_ipv4(), a.is_ipv6(), None),
            Some(a) => (a.is_ipv4(), a.is_ipv6(), Some(a)),
        };
        let ((a4, a6, a), (b4, b6, b)) = (families(self), families(other));
        let same_place = (a4 && b4 || a6 && b6) && (a.is_none() || b.is_none() || a == b);
        self.host == other.host && self.protocol == other.protocol && same_place
    }
}

/// What holds a port: gone with its last descriptor.
pub type Hold = Option<OwnedFd>;

/// What [`claim`] has found.
#[derive(Default)]
pub(super) struct Claimed {
    /// The ports, with what holds them.
    pub ports: Vec<(Published, Hold)>,
    /// Those that were taken from endpoints, by their places in the ledger.
    pub freed: Vec<(usize, Published)>,
}

/// Takes a port of the host for each that is asked for. Ports that the ledger gives to containers that have ended are
/// taken from them, and named in `freed`.
///
/// # Errors
/// Docker's words when somebody else has the port, and who it is.
pub(super) fn claim(
    wanted: &[Publish],
    ledger: &mut Ledger,
    alive: &dyn Fn(&str) -> bool,
    ipv6: bool,
) -> Result<Claimed> {
    let Claimed { ports: mut claimed, mut freed } = Claimed::default();
    for one in wanted {
        let (first, last) = one.host.unwrap_or_else(any_port);
        let searching = first != last;
        let start = if one.host.is_none() { ledger.next_port.clamp(first, last) } else { first };
        let mut found = None;
        for host in (start..=last).chain(first..start) {
            let port = Published { address: one.address, host, container: one.container, protocol: one.protocol };
            if claimed.iter().any(|(c, _)| c.clashes(&port)) {
                continue;
            }
            match hold(&port, ipv6) {
                Ok(hold) => {
                    let owner = owner_of(ledger, &port);
                    if let Some((index, theirs)) = owner {
                        // It holds nothing any more, or its protocol cannot be held.
                        if hold.is_none() && alive(&ledger.endpoints[index].container) {
                            if searching {
                                continue;
                            }
                            bail!(taken(&port, Some(&ledger.endpoints[index].container)));
                        }
                        freed.push((index, theirs));
                    }
                    found = Some((port, hold));
                    break;
                }
                Err(e) if searching && e.raw_os_error() == Some(libc::EADDRINUSE) => {}
                Err(e) => bail!(refusal(&port, &e, ledger)),
            }
        }
        match found {
            Some((port, hold)) => {
                if one.host.is_none() {
                    ledger.next_port = port.host.checked_add(1).unwrap_or(first);
                }
                claimed.push((port, hold));
            }
            None if searching => bail!("all ports are allocated: none of {first}-{last}/{} is free", one.protocol),
            None => bail!("Bind for {}:{first} failed: port is already allocated", shown(one.address)),
        }
    }
    Ok(Claimed { ports: claimed, freed })
}

/// The host's range of ports for nobody in particular.
fn any_port() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().filter_map(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first < last => (first, last),
        _ => (32768, 60999),
    }
}

fn owner_of(ledger: &Ledger, port: &Published) -> Option<(usize, Published)> {
    let clash = |e: &super::ledger::Endpoint| e.ports.iter().copied().find(|p| p.clashes(port));
    ledger.endpoints.iter().enumerate().find_map(|(i, e)| Some((i, clash(e)?)))
}

fn hold(port: &Published, ipv6: bool) -> io::Result<Hold> {
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => return Ok(None),
    };
    let address = match port.address {
        Some(address) => address,
        None if ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        None => Ipv4Addr::UNSPECIFIED.into(),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if address.is_ipv6() {
        // All addresses of both families with one socket.
        sockopt::set_ipv6_v6only(&socket, port.address.is_some())?;
    }
    if port.protocol == Protocol::Tcp {
        // Old connections to who had it before are no hindrance.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port.host))?;
    if port.protocol == Protocol::Tcp {
        listen(&socket, 0)?;
    }
    Ok(Some(socket))
}

fn shown(address: Option<IpAddr>) -> String {
    match address {
        None => "0.0.0.0".into(),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => format!("[{v6}]"),
    }
}

fn taken(port: &Published, holder: Option<&str>) -> String {
    let by = holder.map(|h| format!(": {h} has it")).unwrap_or_default();
    format!("Bind for {}:{} failed: port is already allocated{by}", shown(port.address), port.host)
}

fn refusal(port: &Published, error: &io::Error, ledger: &Ledger) -> String {
    let place = format!("{}:{}", shown(port.address), port.host);
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => taken(port, holder::of(port, ledger).as_deref()),
        Some(Errno::ADDRNOTAVAIL) => {
            format!("Bind for {place} failed: this host has no such address")
        }
        Some(Errno::MFILE) => format!("Bind for {place} failed: {error}: raise the hard limit with ulimit -Hn"),
        _ => format!("Bind for {place} failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: Option<&str>, host: u16) -> Published {
        Published { address: address.map(|a| a.parse().unwrap()), host, container: 80, protocol: Protocol::Tcp }
    }

    #[test]
    fn ports_clash_where_a_packet_could_go_two_ways() {
        for (a, b, clash) in [
            (None, None, true),
            (None, Some("127.0.0.1"), true),
            (None, Some("::1"), true),
            (Some("0.0.0.0"), Some("127.0.0.1"), true),
            (Some("0.0.0.0"), Some("::"), false),
            (Some("0.0.0.0"), Some("::1"), false),
            (Some("127.0.0.1"), Some("127.0.0.2"), false),
            (Some("127.0.0.1"), Some("127.0.0.1"), true),
        ] {
            assert_eq!(port(a, 8080).clashes(&port(b, 8080)), clash, "{a:?} {b:?}");
            assert_eq!(port(b, 8080).clashes(&port(a, 8080)), clash, "{b:?} {a:?}");
            assert!(!port(a, 8080).clashes(&port(b, 8081)));
        }
    }
}
