//! The table of packet filters: the same rules for all networks and ports, which are elements of its sets.
//!
//! ```text
//! guard        packets for 127.0.0.0/8 that come from elsewhere than this host: none for a published port, none
//!              from a bridge (which must let the answers to such packets of our own through)
//! from_v6, to_v6   what a program sends from ::1 to a published port of ::1 goes from and to a stand-in instead, an
//!              address that only this host knows, and the answers are turned back: the kernel takes no packet for
//!              ::1 that comes from outside, not even when it was one of its own
//! publish      packets for a published port of this host go to its container
//! forward      bridge to the same bridge: yes, unless its members are kept apart; from or to an internal one: no; out:
//!              yes; in: only by a published port
//! postrouting  what leaves a bridge for other hosts gets this host's address, unless its network is to leave it; so does
//!              what must come back by the way it went: from loopback, and from a container by a published port to its
//!              own network
//! ```

use super::flows;
use super::ledger::{Bridge, Endpoint, Ledger};
use super::ports::Published;
use crate::sys::netlink::{Netlink, Refused};
use crate::sys::nftables::{self, Batch, Chain, Element, Kind, R0, Rule, Set};
use anyhow::{Context, Result, anyhow};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

const BRIDGES: Set = Set { name: "bridges", key: &[Kind::Interface], value: &[] };
const INTERNAL: Set = Set { name: "internal", key: &[Kind::Interface], value: &[] };
const UNMASKED: Set = Set { name: "unmasked", key: &[Kind::Interface], value: &[] };
const SAME: Set = Set { name: "same", key: &[Kind::Interface, Kind::Interface], value: &[] };
const APART: Set = Set { name: "apart", key: &[Kind::Interface, Kind::Interface], value: &[] };
const TO4: &[Kind] = &[Kind::Ipv4, Kind::Port];
const TO6: &[Kind] = &[Kind::Ipv6, Kind::Port];
const PORTS4: Set = Set { name: "ports4", key: &[Kind::Protocol, Kind::Port], value: TO4 };
const PORTS6: Set = Set { name: "ports6", key: &[Kind::Protocol, Kind::Port], value: TO6 };
const BOUND4: Set = Set { name: "bound4", key: &[Kind::Ipv4, Kind::Protocol, Kind::Port], value: TO4 };
const BOUND6: Set = Set { name: "bound6", key: &[Kind::Ipv6, Kind::Protocol, Kind::Port], value: TO6 };
const SELF4: Set = Set { name: "self4", key: &[Kind::Ipv4, Kind::Ipv4], value: &[] };
const SELF6: Set = Set { name: "self6", key: &[Kind::Ipv6, Kind::Ipv6], value: &[] };
const SETS: [&Set; 11] =
    [&BRIDGES, &INTERNAL, &UNMASKED, &SAME, &APART, &PORTS4, &PORTS6, &BOUND4, &BOUND6, &SELF4, &SELF6];

const CHAINS: [Chain; 8] = [
    Chain { name: "from_v6", hook: Some(("filter", libc::NF_INET_LOCAL_OUT, -300)) },
    // After the kernel has put the port that was asked for back in its place.
    Chain { name: "to_v6", hook: Some(("filter", libc::NF_INET_LOCAL_IN, 150)) },
    Chain { name: "guard", hook: Some(("filter", libc::NF_INET_PRE_ROUTING, -300)) },
    Chain { name: "publish", hook: None },
    Chain { name: "prerouting", hook: Some(("nat", libc::NF_INET_PRE_ROUTING, -100)) },
    Chain { name: "output", hook: Some(("nat", libc::NF_INET_LOCAL_OUT, -100)) },
    Chain { name: "forward", hook: Some(("filter", libc::NF_INET_FORWARD, 0)) },
    Chain { name: "postrouting", hook: Some(("nat", libc::NF_INET_POST_ROUTING, 100)) },
];

const V4: i32 = libc::NFPROTO_IPV4;
const V6: i32 = libc::NFPROTO_IPV6;
const LOOPBACK: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The second register of 16 bytes.
const R4: u32 = R0 + 4;

/// The table of a store, and the connection to the packet filters.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub name: &'a str,
    netlink: Option<Netlink>,
}

/// The one connection of this process, by its number, while nobody uses it. Closing one makes the caller wait until the
/// kernel has forgotten all that was removed by anybody, 10 ms and more; so nobody closes it before the process ends.
static CONNECTION: Mutex<Option<(u32, Netlink)>> = Mutex::new(None);

impl Drop for Table<'_> {
    fn drop(&mut self) {
        if let (Some(netlink), Ok(mut idle)) = (self.netlink.take(), CONNECTION.lock()) {
            *idle = Some((std::process::id(), netlink));
        }
    }
}

impl Table<'_> {
    pub fn open(name: &str) -> Result<Table<'_>> {
        let idle = CONNECTION.lock().ok().and_then(|mut idle| idle.take());
        let netlink = match idle {
            Some((process, netlink)) if process == std::process::id() => netlink,
            other => {
                // A fork has closed what its parent had open: that number may be somebody else's by now.
                std::mem::forget(other);
                nftables::open().map_err(|e| explained(Refused::from(e)))?
            }
        };
        Ok(Table { name, netlink: Some(netlink) })
    }

    fn netlink(&mut self) -> Result<&mut Netlink> {
        self.netlink.as_mut().context("no connection to the packet filters")
    }

    /// Makes the table unless it is there.
    pub fn ensure(&mut self, ledger: &Ledger) -> Result<()> {
        let name = self.name;
        match nftables::has_table(self.netlink()?, name) {
            Ok(true) => Ok(()),
            Ok(false) => self.rebuild(ledger),
            Err(refused) => Err(explained(refused)),
        }
    }

    /// Makes the table anew, whatever was in it, as one change.
    pub fn rebuild(&mut self, ledger: &Ledger) -> Result<()> {
        let mut batch = Batch::new(self.name);
        batch.add_table();
        batch.remove_table();
        batch.add_table();
        for set in SETS {
            batch.add_set(set);
        }
        for chain in &CHAINS {
            batch.add_chain(chain);
        }
        let stand_in = stand_in(self.name).octets();
        guard(&mut batch, &stand_in);
        loopback_v6(&mut batch, &stand_in);
        publish(&mut batch);
        forward(&mut batch);
        postrouting(&mut batch, &stand_in);
        for bridge in ledger.bridges.values() {
            add_bridge(&mut batch, bridge);
        }
        for endpoint in &ledger.endpoints {
            add_endpoint(&mut batch, self.name, endpoint);
        }
        batch.carry_out(self.netlink()?).map_err(explained).context("make the table of packet filters")
    }

    /// Removes the table; a missing one is fine.
    pub fn remove(&mut self) -> Result<()> {
        let mut batch = Batch::new(self.name);
        batch.add_table();
        batch.remove_table();
        batch.carry_out(self.netlink()?).map_err(explained).context("remove the table of packet filters")
    }

    /// Lets a new bridge take part.
    pub fn add_bridge(&mut self, bridge: &Bridge, ledger: &Ledger) -> Result<()> {
        let mut batch = Batch::new(self.name);
        add_bridge(&mut batch, bridge);
        batch.carry_out(self.netlink()?).or_else(|_| self.rebuild(ledger))
    }

    /// Forgets a bridge that is not in the ledger any more.
    pub fn remove_bridge(&mut self, bridge: &Bridge, ledger: &Ledger) -> Result<()> {
        let mut batch = Batch::new(self.name);
        for (set, elements) in bridge_elements(bridge) {
            batch.remove_elements(set, &elements);
        }
        batch.carry_out(self.netlink()?).or_else(|_| self.rebuild(ledger))
    }

    /// Leads the ports of an endpoint to it, `freed` ones no longer to where they led before. The ledger has the new
    /// state already.
    pub fn publish(&mut self, endpoint: &Endpoint, freed: &[(Endpoint, Published)], ledger: &Ledger) -> Result<()> {
        let mut batch = Batch::new(self.name);
        for (set, elements) in freed.iter().flat_map(|(e, p)| elements(self.name, e, &[*p])) {
            batch.remove_elements(set, &elements);
        }
        add_endpoint(&mut batch, self.name, endpoint);
        // Somebody may have emptied the whole ruleset.
        batch.carry_out(self.netlink()?).or_else(|_| self.rebuild(ledger))?;
        flows::lead_to(self.netlink()?, endpoint, ledger);
        Ok(())
    }

    /// Leads them nowhere. The ledger has forgotten the endpoints already.
    pub fn withdraw(&mut self, endpoints: &[Endpoint], ledger: &Ledger) -> Result<()> {
        let mut batch = Batch::new(self.name);
        for endpoint in endpoints.iter().filter(|e| !e.ports.is_empty()) {
            for (set, elements) in elements(self.name, endpoint, &endpoint.ports).into_iter().chain(itself(endpoint)) {
                batch.remove_elements(set, &elements);
            }
        }
        match batch.carry_out(self.netlink()?) {
            // Without a bridge there need be no table.
            Err(_) if !ledger.bridges.is_empty() => self.rebuild(ledger)?,
            _ => {}
        }
        flows::lead_nowhere(self.netlink()?, endpoints);
        Ok(())
    }
}

/// What the kernel means by its short answers.
fn explained(refused: Refused) -> anyhow::Error {
    match refused.errno {
        libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT => anyhow!(refused).context(
            "this kernel lacks packet filters for networks: load the modules nf_tables, nft_chain_nat, nft_masq, \
             nft_ct and nft_fib_inet, or use --network none or host",
        ),
        libc::EPERM => anyhow!(refused)
            .context("changing packet filters needs the capability CAP_NET_ADMIN; --network none or host does not"),
        _ => anyhow!(refused),
    }
}

fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn bridge_elements(bridge: &Bridge) -> Vec<(&'static Set, Vec<Element>)> {
    let name = interface(&bridge.interface);
    let twice = [name.clone(), name.clone()].concat();
    let mut all = vec![(&BRIDGES, vec![(name.clone(), Vec::new())]), (&SAME, vec![(twice.clone(), Vec::new())])];
    if bridge.internal {
        all.push((&INTERNAL, vec![(name.clone(), Vec::new())]));
    }
    if bridge.apart {
        all.push((&APART, vec![(twice, Vec::new())]));
    }
    if bridge.unmasked {
        all.push((&UNMASKED, vec![(name, Vec::new())]));
    }
    all
}

fn add_bridge(batch: &mut Batch, bridge: &Bridge) {
    for (set, elements) in bridge_elements(bridge) {
        batch.add_elements(set, &elements);
    }
}

fn add_endpoint(batch: &mut Batch, table: &str, endpoint: &Endpoint) {
    if endpoint.ports.is_empty() {
        return;
    }
    for (set, elements) in elements(table, endpoint, &endpoint.ports).into_iter().chain(itself(endpoint)) {
        batch.add_elements(set, &elements);
    }
}

/// From an endpoint to itself.
fn itself(endpoint: &Endpoint) -> Vec<(&'static Set, Vec<Element>)> {
    let v4 = endpoint.v4.octets();
    let mut all = vec![(&SELF4, vec![([v4, v4].concat(), Vec::new())])];
    if let Some(v6) = endpoint.v6.map(|a| a.octets()) {
        all.push((&SELF6, vec![([v6, v6].concat(), Vec::new())]));
    }
    all
}

/// The elements by which ports lead to an endpoint.
fn elements(table: &str, endpoint: &Endpoint, ports: &[Published]) -> Vec<(&'static Set, Vec<Element>)> {
    let mut all: [(&'static Set, Vec<Element>); 4] =
        [(&PORTS4, vec![]), (&PORTS6, vec![]), (&BOUND4, vec![]), (&BOUND6, vec![])];
    for port in ports {
        let place = |number: u16| {
            let [a, b] = number.to_be_bytes();
            [a, b, 0, 0]
        };
        let key = [[port.protocol.number(), 0, 0, 0], place(port.host)].concat();
        let to4 = [&endpoint.v4.octets()[..], &place(port.container)].concat();
        let to6 = endpoint.v6.map(|v6| [&v6.octets()[..], &place(port.container)].concat());
        let any4 = port.address.is_none_or(|a| a == IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let any6 = port.address.is_none_or(|a| a == IpAddr::from(Ipv6Addr::UNSPECIFIED));
        if any4 {
            all[0].1.push((key.clone(), to4.clone()));
        }
        if let (true, Some(to6)) = (any6, &to6) {
            all[1].1.push((key.clone(), to6.clone()));
        }
        match (port.address, to6) {
            (Some(IpAddr::V4(v4)), _) if !any4 => all[2].1.push(([&v4.octets()[..], &key].concat(), to4)),
            (Some(IpAddr::V6(v6)), Some(to6)) if !any6 => {
                if v6 == Ipv6Addr::LOCALHOST {
                    all[3].1.push(([&stand_in(table).octets()[..], &key].concat(), to6.clone()));
                }
                all[3].1.push(([&v6.octets()[..], &key].concat(), to6));
            }
            _ => {}
        }
    }
    all.into_iter().filter(|(_, elements)| !elements.is_empty()).collect()
}

fn family<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>, family: i32) -> &'r mut Rule<'a, 'b> {
    rule.meta(libc::NFT_META_NFPROTO, R0).is(R0, &[family as u8])
}

/// Loads protocol and destination port.
fn service<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>, register: u32) -> &'r mut Rule<'a, 'b> {
    rule.meta(libc::NFT_META_L4PROTO, register).payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register + 1)
}

fn for_loopback<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>) -> &'r mut Rule<'a, 'b> {
    let rule = family(rule, V4).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4, R0);
    rule.mask(R0, [255, 0, 0, 0]).is(R0, &[127, 0, 0, 0])
}

/// What stands in for ::1 on the way to a container.
pub(super) fn stand_in(table: &str) -> Ipv6Addr {
    let bits = u128::from_str_radix(&super::digest(table.as_bytes())[..14], 16).unwrap_or(0);
    Ipv6Addr::from(0xfd << 120 | bits << 64 | 1)
}

fn from_elsewhere<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>) -> &'r mut Rule<'a, 'b> {
    rule.meta(libc::NFT_META_IIFNAME, R0).is_not(R0, &LOOPBACK)
}

/// Goes on only if the packet's IPv6 addresses are this one, both.
fn from_and_to<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>, address: &[u8; 16]) -> &'r mut Rule<'a, 'b> {
    let rule = family(rule, V6).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 8, 16, R0).is(R0, address);
    rule.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 24, 16, R0).is(R0, address)
}

fn readdress<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>, address: &[u8; 16]) -> &'r mut Rule<'a, 'b> {
    rule.load(address, R0).set_address(8, 16, R0).set_address(24, 16, R0)
}

fn loopback_v6(batch: &mut Batch, stand_in: &[u8; 16]) {
    let loopback = Ipv6Addr::LOCALHOST.octets();
    batch.add_rule("from_v6", |r| {
        let r = service(from_and_to(r, &loopback), R0).map(R0, &PORTS6);
        readdress(r, stand_in).accept();
    });
    batch.add_rule("from_v6", |r| {
        let r = service(from_and_to(r, &loopback), R0 + 4).map(R0, &BOUND6);
        readdress(r, stand_in).accept();
    });
    batch.add_rule("to_v6", |r| {
        readdress(from_and_to(r, stand_in), &loopback);
    });
}

fn guard(batch: &mut Batch, stand_in: &[u8; 16]) {
    batch.add_rule("guard", |r| {
        let r = family(from_elsewhere(r), V6).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 24, 16, R0);
        r.is(R0, stand_in).drop();
    });
    batch.add_rule("guard", |r| {
        for_loopback(r).meta(libc::NFT_META_IIFNAME, R0).within(R0, &BRIDGES).drop();
    });
    batch.add_rule("guard", |r| {
        let r = from_elsewhere(for_loopback(r));
        service(r.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4, R0), R0 + 1).map(R0, &BOUND4).drop();
    });
}

fn publish(batch: &mut Batch) {
    const DESTINATION: [(i32, u32, u32, &Set, &Set); 2] =
        [(V4, 16, 4, &BOUND4, &PORTS4), (V6, 24, 16, &BOUND6, &PORTS6)];
    for (number, offset, length, bound, ports) in DESTINATION {
        let words = length / 4;
        batch.add_rule("publish", |r| {
            let r = family(r, number).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length, R0);
            service(r, R0 + words).map(R0, bound).redirect_to(number, R0, R0 + words);
        });
        batch.add_rule("publish", |r| {
            let r = family(r, number).destination_type(R0).is(R0, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
            service(r, R0).map(R0, ports).redirect_to(number, R0, R0 + words);
        });
    }
    for chain in ["prerouting", "output"] {
        batch.add_rule(chain, |r| {
            r.jump("publish");
        });
    }
}

fn between<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>) -> &'r mut Rule<'a, 'b> {
    rule.meta(libc::NFT_META_IIFNAME, R0).meta(libc::NFT_META_OIFNAME, R4)
}

/// The connection was led to a container by a published port.
fn is_led<'r, 'a, 'b>(rule: &'r mut Rule<'a, 'b>) -> &'r mut Rule<'a, 'b> {
    const IPS_DST_NAT: u32 = 1 << 5;
    let rule = rule.connection(libc::NFT_CT_STATUS, R0).mask(R0, IPS_DST_NAT.to_ne_bytes());
    rule.is_not(R0, &[0; 4])
}

fn forward(batch: &mut Batch) {
    const ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;
    batch.add_rule("forward", |r| {
        let r = r.connection(libc::NFT_CT_STATE, R0).mask(R0, ESTABLISHED_OR_RELATED.to_ne_bytes());
        r.is_not(R0, &[0; 4]).accept();
    });
    batch.add_rule("forward", |r| {
        between(r).within(R0, &APART).drop();
    });
    batch.add_rule("forward", |r| {
        between(r).within(R0, &SAME).accept();
    });
    for key in [libc::NFT_META_IIFNAME, libc::NFT_META_OIFNAME] {
        batch.add_rule("forward", |r| {
            r.meta(key, R0).within(R0, &INTERNAL).drop();
        });
    }
    batch.add_rule("forward", |r| {
        r.meta(libc::NFT_META_OIFNAME, R0).without(R0, &BRIDGES).accept();
    });
    batch.add_rule("forward", |r| {
        is_led(r).accept();
    });
    batch.add_rule("forward", |r| {
        r.drop();
    });
}

fn postrouting(batch: &mut Batch, stand_in: &[u8; 16]) {
    batch.add_rule("postrouting", |r| {
        let r = r.meta(libc::NFT_META_OIFNAME, R0).within(R0, &BRIDGES);
        let r = family(r, V4).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 12, 4, R0);
        r.mask(R0, [255, 0, 0, 0]).is(R0, &[127, 0, 0, 0]).masquerade();
    });
    batch.add_rule("postrouting", |r| {
        let r = r.meta(libc::NFT_META_OIFNAME, R0).within(R0, &BRIDGES);
        let r = family(r, V6).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 8, 16, R0);
        r.is(R0, stand_in).masquerade();
    });
    batch.add_rule("postrouting", |r| {
        is_led(between(r).within(R0, &SAME)).masquerade();
    });
    // The same where the kernel filters what stays on a bridge: it comes from nowhere then.
    for (number, offset, length, set) in [(V4, 12, 8, &SELF4), (V6, 8, 32, &SELF6)] {
        batch.add_rule("postrouting", |r| {
            let r = family(r, number).payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length, R0);
            r.within(R0, set).masquerade();
        });
    }
    batch.add_rule("postrouting", |r| {
        let r = r.meta(libc::NFT_META_IIFNAME, R0).within(R0, &BRIDGES).without(R0, &UNMASKED);
        r.meta(libc::NFT_META_OIFNAME, R0).without(R0, &BRIDGES).masquerade();
    });
}
