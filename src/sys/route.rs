//! Interfaces, addresses and routes: the messages of rtnetlink that an engine needs.

use super::netlink::{Attributes, Netlink, Part, Refused, Request, attributes};
use std::io;
use std::net::IpAddr;

const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const UP: u32 = libc::IFF_UP as u32;
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// A hardware address.
pub type Mac = [u8; 6];

/// The number of an interface in the namespace that `netlink` was opened in.
///
/// # Errors
/// `ENODEV` if there is none of this name.
pub fn index_of(netlink: &Netlink, name: &str) -> io::Result<u32> {
    Ok(rustix::net::netdevice::name_to_index(netlink, name)?)
}

fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// A bridge that is up and has one hardware address for its whole life, whoever joins it. It takes no part in the
/// housekeeping of multicast groups: everything for a group goes to everybody.
pub fn add_bridge(request: &mut Request, name: &str, mac: Mac) {
    request.message("make the bridge", (libc::RTM_NEWLINK, NEW), &link_header(0, UP), |a| {
        a.text(libc::IFLA_IFNAME, name).put(libc::IFLA_ADDRESS, &mac).nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "bridge").nest(libc::IFLA_INFO_DATA, |data| {
                data.put(IFLA_BR_MCAST_SNOOPING, &[0]);
            });
        });
    });
}

/// The two ends of a cable.
#[derive(Clone, Copy, Debug)]
pub struct Cable<'a> {
    /// Our end.
    pub name: &'a str,
    /// The bridge that it is plugged into.
    pub bridge: u32,
    /// The other end.
    pub peer: &'a str,
    /// A process in the network namespace where that one is.
    pub pid: i32,
    /// Its hardware address.
    pub mac: Mac,
    /// The largest packet; 0 is the kernel's choice.
    pub mtu: u32,
}

/// A cable with its far end in another namespace from the start: moving one there would wait for all processors.
pub fn add_cable(request: &mut Request, cable: &Cable<'_>) {
    let one_queue = |a: &mut Attributes<'_>| {
        a.number(libc::IFLA_NUM_TX_QUEUES, 1).number(libc::IFLA_NUM_RX_QUEUES, 1);
        if cable.mtu != 0 {
            a.number(libc::IFLA_MTU, cable.mtu);
        }
    };
    request.message("make the pair of interfaces", (libc::RTM_NEWLINK, NEW), &link_header(0, UP), |a| {
        one_queue(a.text(libc::IFLA_IFNAME, cable.name).number(libc::IFLA_MASTER, cable.bridge));
        a.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
                data.nest_after(VETH_INFO_PEER, &link_header(0, 0), |peer| {
                    one_queue(peer.text(libc::IFLA_IFNAME, cable.peer).put(libc::IFLA_ADDRESS, &cable.mac));
                    peer.number(libc::IFLA_NET_NS_PID, cable.pid as u32);
                });
            });
        });
    });
}

/// Lets the bridge send frames back to where they came from, by the name of the interface that is plugged into it.
pub fn let_turn_back(request: &mut Request, name: &str) {
    const IFLA_BRPORT_MODE: u16 = 4;
    switch_on(request, "let frames turn back", name, IFLA_BRPORT_MODE);
}

/// Lets the bridge pass no frames between this interface and others that are kept apart.
pub fn keep_apart(request: &mut Request, name: &str) {
    const IFLA_BRPORT_ISOLATED: u16 = 33;
    switch_on(request, "keep interfaces apart", name, IFLA_BRPORT_ISOLATED);
}

fn switch_on(request: &mut Request, what: &'static str, name: &str, setting: u16) {
    const IFLA_INFO_SLAVE_KIND: u16 = 4;
    const IFLA_INFO_SLAVE_DATA: u16 = 5;
    request.message(what, (libc::RTM_NEWLINK, 0), &link_header(0, 0), |a| {
        a.text(libc::IFLA_IFNAME, name).nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.put(setting, &[1]);
            });
        });
    });
}

/// Sets an interface up.
pub fn set_up(request: &mut Request, index: u32) {
    request.message("set the interface up", (libc::RTM_NEWLINK, 0), &link_header(index, UP), |_| {});
}

/// Removes an interface by its name.
pub fn remove_link(request: &mut Request, name: &str) {
    request.message("remove the interface", (libc::RTM_DELLINK, 0), &link_header(0, 0), |a| {
        a.text(libc::IFLA_IFNAME, name);
    });
}

/// Gives an interface an address, to be used at once: nobody is asked whether he has it already.
pub fn add_address(request: &mut Request, index: u32, address: IpAddr, prefix: u8) {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let flags = if address.is_ipv4() { 0 } else { libc::IFA_F_NODAD };
    let mut header = [family as u8, prefix, flags as u8, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    request.message("add the address", (libc::RTM_NEWADDR, NEW), &header, |a| {
        a.put(libc::IFA_LOCAL, &octets(address)).put(libc::IFA_ADDRESS, &octets(address));
        if let IpAddr::V4(v4) = address
            && prefix < 31
        {
            let broadcast = u32::from(v4) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            a.put(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
        }
    });
}

fn route_header(address: IpAddr, prefix: u8, table: u8, kind: u8) -> [u8; 12] {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut header = [0; 12];
    header[0] = family as u8;
    header[1] = prefix;
    header[4] = table;
    header[5] = libc::RTPROT_BOOT;
    header[7] = kind;
    header
}

/// Sends through `gateway` what nobody else is for.
pub fn add_default_route(request: &mut Request, index: u32, gateway: IpAddr) {
    let header = route_header(gateway, 0, libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
    request.message("add the default route", (libc::RTM_NEWROUTE, NEW), &header, |a| {
        a.put(libc::RTA_GATEWAY, &octets(gateway)).number(libc::RTA_OIF, index);
    });
}

/// A route of the host.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Where to.
    pub to: IpAddr,
    /// How many bits of that count.
    pub prefix: u8,
    /// The interface that it goes through; 0 if there is no single one.
    pub interface: u32,
}

/// The routes of all tables, the default routes left out.
pub fn routes(netlink: &mut Netlink, v6: bool) -> Result<Vec<Route>, Refused> {
    let mut request = Request::default();
    let mut header = [0; 12];
    header[0] = if v6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    request.message("list the routes", (libc::RTM_GETROUTE, libc::NLM_F_DUMP), &header, |_| {});
    let route = |(_, body): (u16, Vec<u8>)| {
        let mut found = Route { to: IpAddr::from([0; 4]), prefix: *body.get(1)?, interface: 0 };
        let mut has_target = false;
        for (kind, value) in attributes(&body, 12) {
            match kind {
                libc::RTA_DST => {
                    found.to = address(value)?;
                    has_target = true;
                }
                libc::RTA_OIF => found.interface = u32::from_ne_bytes(value.try_into().ok()?),
                _ => {}
            }
        }
        (has_target && found.prefix > 0).then_some(found)
    };
    Ok(netlink.list(request)?.into_iter().filter_map(route).collect())
}

/// A connection to the routing of the caller's network namespace.
pub fn open() -> io::Result<Netlink> {
    Netlink::open(Part::Route)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}
