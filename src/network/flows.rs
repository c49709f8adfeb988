//! Flows of datagrams that the kernel remembers a former way for.
//!
//! A client that goes on sending keeps its flow, and thus the address to which its first packet was led, for ever: that of
//! a container that has ended, or the host's own from before the port was published. TCP notices; UDP has nobody who
//! would.

use super::ledger::{Endpoint, Ledger};
use super::ports::Protocol;
use crate::sys::conntrack::{self, Flow};
use crate::sys::netlink::Netlink;
use std::net::IpAddr;

/// Has those forgotten that lead elsewhere than to this endpoint, whose ports have just been published.
pub fn lead_to(netlink: &mut Netlink, endpoint: &Endpoint, ledger: &Ledger) {
    let ports: Vec<u16> = datagrams(endpoint).collect();
    if ports.is_empty() {
        return;
    }
    let own = [Some(IpAddr::from(endpoint.v4)), endpoint.v6.map(IpAddr::from)];
    let is_ours = |address: IpAddr| {
        ledger.bridges.values().any(|bridge| match address {
            IpAddr::V4(v4) => bridge.v4.subnet.contains(&v4),
            IpAddr::V6(v6) => bridge.v6.is_some_and(|range| range.subnet.contains(&v6)),
        })
    };
    forget(netlink, |flow| {
        let is_led_elsewhere = flow.answered_by == flow.to || is_ours(flow.answered_by);
        ports.contains(&flow.port) && is_led_elsewhere && !own.contains(&Some(flow.answered_by))
    });
}

/// Has those forgotten that lead to endpoints that have published ports no longer.
pub fn lead_nowhere(netlink: &mut Netlink, endpoints: &[Endpoint]) {
    let gone: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| datagrams(endpoint).next().is_some()).collect();
    if gone.is_empty() {
        return;
    }
    forget(netlink, |flow| {
        gone.iter().any(|e| match flow.answered_by {
            IpAddr::V4(v4) => v4 == e.v4,
            IpAddr::V6(v6) => Some(v6) == e.v6,
        })
    });
}

fn datagrams(endpoint: &Endpoint) -> impl Iterator<Item = u16> {
    endpoint.ports.iter().filter(|port| port.protocol == Protocol::Udp).map(|port| port.host)
}

/// A kernel that cannot tell has nothing forgotten: it is an aid.
fn forget(netlink: &mut Netlink, is_meant: impl Fn(&Flow) -> bool) {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let Ok(flows) = conntrack::flows(netlink, family) else { continue };
        let is_meant = |flow: &&Flow| i32::from(flow.protocol) == libc::IPPROTO_UDP && is_meant(flow);
        let _ = conntrack::forget(netlink, flows.iter().filter(is_meant));
    }
}
