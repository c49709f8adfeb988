//! Plugging a container in: a pair of interfaces, one end on the bridge, the other in the container's network
//! namespace with its addresses and routes.

use super::bridge::explained;
use super::ledger::{Bridge, Endpoint};
use crate::sys::netlink::{Netlink, Request};
use crate::sys::process::join_namespaces;
use crate::sys::route::{self, Cable, Mac};
use anyhow::{Context, Result};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};

/// Our end's name. It follows from the address, so that two containers with one address cannot both be plugged in.
pub(super) fn cable_name(address: Ipv4Addr) -> String {
    format!("mrv{:08x}", u32::from(address))
}

/// The hardware address that goes with an address: who gets the address later is found where his neighbours look.
pub(super) fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Reads a hardware address.
///
/// # Errors
/// Anything but six bytes for one machine.
pub fn parse_mac(text: &str) -> Result<Mac> {
    let bytes: Option<Vec<u8>> =
        text.split([':', '-']).map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
    let mac =
        bytes.and_then(|b| Mac::try_from(b).ok()).with_context(|| format!("{text} is not a valid mac address"))?;
    if mac[0] & 1 != 0 {
        anyhow::bail!("{text} is not a valid mac address: it stands for a group");
    }
    Ok(mac)
}

/// The routing of a process's network namespace.
fn inside(pid: i32) -> Result<Netlink> {
    let what = "enter the container's network";
    let open = |path: String| File::open(&path).with_context(|| format!("open {path}"));
    let (own, theirs) = (open("/proc/thread-self/ns/net".into())?, open(format!("/proc/{pid}/ns/net"))?);
    join_namespaces(&theirs, libc::CLONE_NEWNET).context(what)?;
    let netlink = route::open().context(what);
    // What this process does next must not happen there.
    join_namespaces(&own, libc::CLONE_NEWNET).context("return from the container's network")?;
    netlink
}

/// Connects a process's network namespace.
pub(super) fn plug(index: u32, bridge: &Bridge, endpoint: &Endpoint, pid: i32, is_main: bool) -> Result<()> {
    let name = cable_name(endpoint.v4);
    let cable = Cable {
        name: &name,
        bridge: index,
        peer: &endpoint.interface,
        pid,
        mac: parse_mac(&endpoint.mac)?,
        mtu: bridge.mtu,
    };
    let mut host = route::open().context("open a connection to the kernel's routing")?;
    let turns_back = turns_back(endpoint);
    let request = || {
        let mut request = Request::default();
        route::add_cable(&mut request, &cable);
        if turns_back {
            route::let_turn_back(&mut request, &name);
        }
        if bridge.apart {
            route::keep_apart(&mut request, &name);
        }
        request
    };
    let mut made = host.transact(request())?;
    if made.first().is_some_and(|r| r.errno == libc::EEXIST) {
        // Of a namespace that the kernel has not taken away yet.
        unplug_by_name(&mut host, &name)?;
        made = host.transact(request())?;
    }
    if let Some(refused) = made.into_iter().next() {
        return Err(explained(refused, "veth"));
    }
    let mut inside = inside(pid)?;
    let own = route::index_of(&inside, &endpoint.interface).context("find the container's interface")?;
    let mut request = Request::default();
    route::add_address(&mut request, own, endpoint.v4.into(), bridge.v4.subnet.prefix_len());
    route::set_up(&mut request, own);
    let is_main = is_main && !bridge.internal;
    if is_main {
        route::add_default_route(&mut request, own, bridge.v4.gateway.into());
    }
    inside.carry_out(request).context("set up the container's interface")?;
    if let (Some(v6), Some(range)) = (endpoint.v6, bridge.v6) {
        plug_v6(&mut inside, own, v6.into(), (range.subnet.prefix_len(), range.gateway.into()), is_main)?;
    }
    Ok(())
}

/// Where packets that stay on a bridge go through the filters all the same, one for a port of the container's own is led
/// back to it there.
fn turns_back(endpoint: &Endpoint) -> bool {
    let filtered = || std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|t| t.starts_with(b"1"));
    !endpoint.ports.is_empty() && filtered()
}

/// Lets a container that has been given ports reach itself by them.
pub(super) fn let_turn_back(endpoint: &Endpoint) -> Result<()> {
    if !turns_back(endpoint) {
        return Ok(());
    }
    let mut host = route::open().context("open a connection to the kernel's routing")?;
    let mut request = Request::default();
    route::let_turn_back(&mut request, &cable_name(endpoint.v4));
    host.carry_out(request).context("lead a container's ports back to itself")
}

/// A container may have switched IPv6 off for itself.
fn plug_v6(inside: &mut Netlink, own: u32, v6: IpAddr, (prefix, gateway): (u8, IpAddr), is_main: bool) -> Result<()> {
    let mut request = Request::default();
    route::add_address(&mut request, own, v6, prefix);
    if is_main {
        route::add_default_route(&mut request, own, gateway);
    }
    let refused = inside.transact(request)?.into_iter().find(|r| ![libc::EACCES, libc::EPERM].contains(&r.errno));
    match refused {
        Some(refused) if is_v6_on_inside(&refused) => Err(refused).context("set up IPv6 in the container"),
        _ => Ok(()),
    }
}

fn is_v6_on_inside(refused: &crate::sys::netlink::Refused) -> bool {
    // What the default route says when there is no address that it could be used with.
    refused.errno != libc::EHOSTUNREACH && refused.errno != libc::ENETUNREACH
}

fn unplug_by_name(host: &mut Netlink, name: &str) -> Result<()> {
    let mut request = Request::default();
    route::remove_link(&mut request, name);
    match host.carry_out(request) {
        Err(refused) if refused.errno != libc::ENODEV => Err(refused).context("remove an old interface"),
        _ => Ok(()),
    }
}

/// Gives a container its way out through a network that it is in, unless it has one.
pub(super) fn lead_out(bridge: &Bridge, endpoint: &Endpoint, pid: i32) -> Result<()> {
    let mut inside = inside(pid)?;
    let own = route::index_of(&inside, &endpoint.interface).context("find the container's interface")?;
    let mut request = Request::default();
    route::add_default_route(&mut request, own, bridge.v4.gateway.into());
    if let Some(v6) = bridge.v6.filter(|_| endpoint.v6.is_some()) {
        route::add_default_route(&mut request, own, v6.gateway.into());
    }
    let refused = inside.transact(request)?.into_iter().find(|r| r.errno != libc::EEXIST && is_v6_on_inside(r));
    refused.map_or(Ok(()), |r| Err(r).context("give the container another way out"))
}

/// Takes a running container out of a network.
pub(super) fn unplug(endpoint: &Endpoint) -> Result<()> {
    let mut host = route::open().context("open a connection to the kernel's routing")?;
    unplug_by_name(&mut host, &cable_name(endpoint.v4))
}
