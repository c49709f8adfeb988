//! Connection tracking: which flows the kernel remembers, and forgetting one. The numbers are those of the kernel's
//! `nfnetlink_conntrack.h`.

use super::netlink::{Netlink, Refused, Request, attributes};
use std::net::IpAddr;

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const SOURCE: [u16; 2] = [1, 3];
const DESTINATION: [u16; 2] = [2, 4];
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;

/// Packets between two places that belong together.
#[derive(Clone, Debug)]
pub struct Flow {
    family: u8,
    original: Vec<u8>,
    /// The number of its protocol.
    pub protocol: u8,
    /// Where its first packet was sent to.
    pub to: IpAddr,
    /// The port there.
    pub port: u16,
    /// Where the answers come from.
    pub answered_by: IpAddr,
}

/// All flows of a family (`AF_INET` or `AF_INET6`).
pub fn flows(netlink: &mut Netlink, family: i32) -> Result<Vec<Flow>, Refused> {
    let mut request = Request::default();
    let kind = (SUBSYSTEM | GET, libc::NLM_F_DUMP);
    request.message("list the tracked connections", kind, &header(family as u8), |_| {});
    Ok(netlink.list(request)?.iter().filter_map(|(_, message)| flow(family as u8, message)).collect())
}

/// Has flows forgotten: the next packet of each is looked at as the first of a new one. One that has ended meanwhile is
/// none.
pub fn forget<'a>(netlink: &mut Netlink, flows: impl Iterator<Item = &'a Flow>) -> std::io::Result<()> {
    let mut request = Request::default();
    for flow in flows {
        request.message("forget a tracked connection", (SUBSYSTEM | DELETE, 0), &header(flow.family), |a| {
            a.put(TUPLE_ORIG | libc::NLA_F_NESTED as u16, &flow.original);
        });
    }
    if request.is_empty() { Ok(()) } else { netlink.transact(request).map(drop) }
}

fn header(family: u8) -> [u8; 4] {
    [family, libc::NFNETLINK_V0 as u8, 0, 0]
}

fn flow(family: u8, message: &[u8]) -> Option<Flow> {
    let tuple = |wanted: u16| attributes(message, 4).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let original = tuple(TUPLE_ORIG)?;
    let protocol = part(original, TUPLE_PROTO)?;
    let port = <[u8; 2]>::try_from(part(protocol, PROTO_DST_PORT)?).ok()?;
    Some(Flow {
        family,
        protocol: *part(protocol, PROTO_NUM)?.first()?,
        to: address(original, DESTINATION)?,
        port: u16::from_be_bytes(port),
        answered_by: address(tuple(TUPLE_REPLY)?, SOURCE)?,
        original: original.to_vec(),
    })
}

fn part(value: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(value, 0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The address of a tuple in either family.
fn address(tuple: &[u8], [v4, v6]: [u16; 2]) -> Option<IpAddr> {
    let addresses = part(tuple, TUPLE_IP)?;
    match (part(addresses, v4), part(addresses, v6)) {
        (Some(v4), _) => Some(IpAddr::from(<[u8; 4]>::try_from(v4).ok()?)),
        (_, Some(v6)) => Some(IpAddr::from(<[u8; 16]>::try_from(v6).ok()?)),
        _ => None,
    }
}
