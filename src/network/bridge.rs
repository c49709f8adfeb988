//! The bridge of a network: made when its first container comes, with its addresses and the kernel's settings for it.
//!
//! The bridge of a user's network goes with the network. That of the default network stays until the store has no
//! container left that uses it and somebody removes a container or prunes the networks.

use super::definition::{Definition, Range, first_v4, touch};
use super::firewall;
use super::ledger::{Bridge, Ledger, Open};
use super::options::Options;
use super::rules::{self, Table};
use super::{DEFAULT, Networks, digest};
use crate::sys::netlink::{Netlink, Refused, Request};
use crate::sys::route::{self, Route};
use anyhow::{Context, Result, anyhow, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where subnets come from: 256 of as many addresses as a bridge has places.
const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 220, 0, 0), 14);
const SUBNET: u8 = 22;

/// A bridge that is there, and what the user should know about it.
pub(super) struct Realized {
    /// The number of its interface.
    pub index: u32,
    /// Something is in the way of its traffic.
    pub warning: Option<String>,
}

impl Networks {
    /// A subnet that no route of the host leads to and no other network has.
    pub(super) fn free_subnet(&self, others: &[Definition]) -> Result<Range<Ipv4Net, Ipv4Addr>> {
        let mut netlink = open()?;
        let routes = route::routes(&mut netlink, false).context("look for a free subnet")?;
        let mut taken: Vec<IpNet> = routes.iter().filter_map(|r| IpNet::new(r.to, r.prefix).ok()).collect();
        taken.extend(others.iter().filter_map(|d| d.v4.map(|v4| IpNet::from(v4.subnet))));
        taken.extend(self.ledger()?.bridges.values().map(|b| IpNet::from(b.v4.subnet)));
        let all: Vec<Ipv4Net> = POOL.subnets(SUBNET)?.collect();
        // Stores begin at different places, so that two of them seldom choose the same at the same moment.
        let start = digest(self.root.path().as_os_str().as_encoded_bytes());
        let start = usize::from_str_radix(&start[..4], 16).unwrap_or(0) % all.len();
        let start = if self.tag() == "minirun0" { 0 } else { start };
        let free = all[start..].iter().chain(&all[..start]).find(|s| !taken.iter().any(|t| touch(*t, (**s).into())));
        let subnet = *free.context("no subnet is free: give one with `network create --subnet`")?;
        Ok(Range { subnet, gateway: first_v4(subnet), pool: None })
    }

    /// Makes what is missing of a network's bridge and of the table of packet filters.
    pub(super) fn realize(&self, definition: &Definition, open_ledger: &mut Open) -> Result<Realized> {
        let mut netlink = open()?;
        let tag = self.tag();
        let ledger = &open_ledger.ledger;
        let known = ledger.bridges.get(&definition.id).cloned();
        if let Some(bridge) = &known
            && bridge.is_whole
            && let Ok(index) = route::index_of(&netlink, &bridge.interface)
        {
            Table::open(&tag)?.ensure(ledger)?;
            return Ok(Realized { index, warning: None });
        }
        // Those that were on a bridge that somebody removed keep their addresses.
        let has_members = ledger.endpoints.iter().any(|e| e.network == definition.id);
        let result = self.make(&mut netlink, definition, known.clone(), has_members, open_ledger).and_then(|made| {
            let (mut bridge, index) = made;
            settings(&bridge)?;
            let ledger = &mut open_ledger.ledger;
            let mut table = Table::open(&tag)?;
            let warning = firewall::obstacle(&tag, &bridge.interface);
            table.ensure(ledger)?;
            table.add_bridge(&bridge, ledger)?;
            bridge.is_whole = true;
            ledger.bridges.insert(definition.id.clone(), bridge);
            open_ledger.save()?;
            Ok(Realized { index, warning })
        });
        if result.is_err() {
            let bridges = &mut open_ledger.ledger.bridges;
            if let Some(bridge) = bridges.remove(&definition.id) {
                let _ = remove(&mut netlink, &bridge.interface);
            }
            if let Some(known) = known.filter(|_| has_members) {
                bridges.insert(definition.id.clone(), Bridge { is_whole: false, ..known });
            }
            if bridges.is_empty() {
                let _ = Table::open(&tag).and_then(|mut table| table.remove());
            }
            let _ = open_ledger.save();
        }
        result
    }

    /// Makes the interface. It is in the ledger before it is in the kernel, or nobody would find what a kill left.
    fn make(
        &self,
        netlink: &mut Netlink,
        definition: &Definition,
        mut known: Option<Bridge>,
        has_members: bool,
        open_ledger: &mut Open,
    ) -> Result<(Bridge, u32)> {
        let options = Options::read(&definition.options)
            .with_context(|| format!("make the bridge of the network {}", definition.name))?;
        let interface = self.interface_of(definition);
        if options.bridge.is_some() && known.is_none() {
            self.refuse_foreign(&interface, &[])?;
        }
        let mut others = self.list()?;
        for _ in 0..16 {
            let v4 = match (&known, definition.v4) {
                (Some(known), _) => known.v4,
                (None, Some(v4)) => v4,
                (None, None) => self.free_subnet(&others)?,
            };
            let v6 = self.next_v6(definition);
            let bridge = Bridge {
                network: definition.name.clone(),
                interface: interface.clone(),
                v4,
                v6,
                internal: definition.internal,
                named: definition.name != DEFAULT,
                mtu: definition.mtu,
                binding: options.binding,
                apart: options.apart,
                unmasked: options.unmasked,
                prefix: options.prefix.clone(),
                next: known.as_ref().map_or(0, |k| k.next),
                is_whole: false,
            };
            open_ledger.ledger.bridges.insert(definition.id.clone(), bridge.clone());
            open_ledger.save()?;
            let index = self.add(netlink, &bridge)?;
            let chosen = definition.v4.is_none() && !has_members;
            let rival = if chosen { rival(netlink, v4.subnet, index)? } else { None };
            let Some(rival) = rival else { return Ok((bridge, index)) };
            remove(netlink, &bridge.interface)?;
            // Another store was as fast: the one with the younger interface looks further.
            others.push(Definition {
                v4: Some(v4),
                name: format!("interface {}", rival.interface),
                ..definition.clone()
            });
            known = None;
        }
        bail!("no subnet is free for the network {}", definition.name)
    }

    /// The IPv4 addresses of a network, or those that it gets if its bridge is made now: until then the subnet may become
    /// somebody else's, if nobody has chosen it.
    pub fn range_v4(&self, definition: &Definition, ledger: &Ledger) -> Option<Range<Ipv4Net, Ipv4Addr>> {
        match ledger.bridges.get(&definition.id) {
            Some(bridge) => Some(bridge.v4),
            None if definition.driver != "bridge" => None,
            None => definition.v4.or_else(|| self.free_subnet(&self.list().ok()?).ok()),
        }
    }

    /// Its IPv6 addresses, likewise; none where the host has none.
    pub fn range_v6(&self, definition: &Definition, ledger: &Ledger) -> Option<Range<Ipv6Net, Ipv6Addr>> {
        ledger.bridges.get(&definition.id).map_or_else(|| self.next_v6(definition), |bridge| bridge.v6)
    }

    fn next_v6(&self, definition: &Definition) -> Option<Range<Ipv6Net, Ipv6Addr>> {
        let has_it = definition.ipv6 && ipv6_is_on();
        has_it.then(|| definition.v6.unwrap_or_else(|| self.own_v6(definition)))
    }

    /// What a network's bridge is called.
    pub fn interface_of(&self, definition: &Definition) -> String {
        match Options::read(&definition.options).ok().and_then(|options| options.bridge) {
            Some(name) => name,
            None if definition.name == DEFAULT => self.tag(),
            None => format!("mr-{}", &definition.id[..12]),
        }
    }

    /// Refuses a bridge's name that another network's has, or an interface that is not ours.
    pub(super) fn refuse_foreign(&self, name: &str, others: &[Definition]) -> Result<()> {
        if let Some(other) = others.iter().find(|other| self.interface_of(other) == name) {
            bail!("the bridge {name} is that of the network {}", other.name);
        }
        match route::index_of(&open()?, name) {
            Ok(_) => bail!("the bridge {name} cannot be made: this host has an interface of that name"),
            Err(_) => Ok(()),
        }
    }

    fn add(&self, netlink: &mut Netlink, bridge: &Bridge) -> Result<u32> {
        let what = || format!("make the bridge {} of the network {}", bridge.interface, bridge.network);
        let [.., a, b, c, d] = bridge.v4.gateway.octets();
        let mut request = Request::default();
        route::add_bridge(&mut request, &bridge.interface, [0x02, 0x42, a, b, c, d]);
        let mut made = netlink.transact(request)?;
        if made.first().is_some_and(|r| r.errno == libc::EEXIST) {
            // From before the ledger was lost.
            remove(netlink, &bridge.interface)?;
            let mut request = Request::default();
            route::add_bridge(&mut request, &bridge.interface, [0x02, 0x42, a, b, c, d]);
            made = netlink.transact(request)?;
        }
        if let Some(refused) = made.into_iter().next() {
            return Err(explained(refused, "bridge")).with_context(what);
        }
        let index = route::index_of(netlink, &bridge.interface).with_context(what)?;
        let mut request = Request::default();
        let v4 = bridge.v4;
        route::add_address(&mut request, index, v4.gateway.into(), v4.subnet.prefix_len());
        if let Some(v6) = bridge.v6 {
            route::add_address(&mut request, index, v6.gateway.into(), v6.subnet.prefix_len());
            route::add_address(&mut request, index, rules::stand_in(&self.tag()).into(), 128);
        }
        let added = netlink.carry_out(request).with_context(what);
        if added.is_err() {
            let _ = remove(netlink, &bridge.interface);
        }
        added.map(|()| index)
    }

    /// A unique local subnet that follows from the store and the network.
    fn own_v6(&self, definition: &Definition) -> Range<Ipv6Net, Ipv6Addr> {
        let seed = digest(format!("{}\0{}\0{}", machine(), self.root.path().display(), definition.id).as_bytes());
        let bits = u128::from_str_radix(&seed[..14], 16).unwrap_or(0);
        let network = 0xfd << 120 | bits << 64;
        let subnet = Ipv6Net::new_assert(Ipv6Addr::from(network), 64);
        Range { subnet, gateway: Ipv6Addr::from(network + 1), pool: None }
    }

    /// Removes the bridge of a network.
    ///
    /// # Errors
    /// Containers that run in it.
    pub(super) fn take_down(&self, definition: &Definition, forget: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut open_ledger = self.open_ledger()?;
        self.forget_dead(&mut open_ledger.ledger)?;
        if open_ledger.ledger.endpoints.iter().any(|e| e.network == definition.id) {
            bail!(
                "error while removing network: network {} id {} has active endpoints",
                definition.name,
                definition.id
            );
        }
        // In this order, a kill leaves nothing but a bridge that the next one takes away. Whoever connects a container
        // looks for the network once more when he has the ledger.
        forget()?;
        self.remove_bridge(&definition.id, &mut open_ledger)?;
        self.remove_orphans(&mut open_ledger);
        self.close(open_ledger)
    }

    /// Removes the bridges of networks that are no more. One that cannot be removed is left to the next one.
    fn remove_orphans(&self, open_ledger: &mut Open) {
        let Ok(known) = self.list() else { return };
        let known: Vec<String> = known.into_iter().map(|definition| definition.id).collect();
        let ledger = &open_ledger.ledger;
        let is_orphan =
            |id: &&String| !known.contains(id) && !ledger.endpoints.iter().any(|endpoint| endpoint.network == **id);
        let orphans: Vec<String> = ledger.bridges.keys().filter(is_orphan).cloned().collect();
        orphans.iter().for_each(|id| drop(self.remove_bridge(id, open_ledger)));
    }

    /// Removes the default network's bridge if nobody is in it, and all that is left of ours in the kernel with the
    /// last bridge.
    pub fn release_idle(&self) -> Result<()> {
        if !self.in_use() {
            return Ok(());
        }
        let mut open_ledger = self.open_ledger()?;
        self.forget_dead(&mut open_ledger.ledger)?;
        let [default, ..] = self.predefined();
        if !open_ledger.ledger.endpoints.iter().any(|e| e.network == default.id) {
            self.remove_bridge(&default.id, &mut open_ledger)?;
        }
        self.remove_orphans(&mut open_ledger);
        self.close(open_ledger)
    }

    fn remove_bridge(&self, network: &str, open_ledger: &mut Open) -> Result<()> {
        let ledger = &mut open_ledger.ledger;
        if let Some(bridge) = ledger.bridges.get(network).cloned() {
            remove(&mut open()?, &bridge.interface)
                .with_context(|| format!("remove the bridge {}", bridge.interface))?;
            ledger.bridges.remove(network);
            if !ledger.bridges.is_empty() {
                Table::open(&self.tag())?.remove_bridge(&bridge, ledger)?;
            }
        }
        Ok(())
    }

    /// Writes the ledger, or removes it and the table with the last bridge.
    pub(super) fn close(&self, mut open_ledger: Open) -> Result<()> {
        if !open_ledger.ledger.bridges.is_empty() {
            return open_ledger.save();
        }
        Table::open(&self.tag())?.remove()?;
        open_ledger.remove();
        Ok(())
    }

    /// Strikes endpoints off whose containers have ended without anybody's clean-up.
    pub(super) fn forget_dead(&self, ledger: &mut Ledger) -> Result<()> {
        let is_dead = |e: &super::ledger::Endpoint| !(self.alive)(&self.root, &e.container);
        let (dead, living): (Vec<_>, Vec<_>) = ledger.endpoints.drain(..).partition(is_dead);
        ledger.endpoints = living;
        if dead.iter().any(|e| !e.ports.is_empty()) {
            Table::open(&self.tag())?.withdraw(&dead, ledger)?;
        }
        Ok(())
    }
}

/// Whether the host uses IPv6.
pub fn ipv6_is_on() -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{file}/disable_ipv6"));
    ["all", "default", "lo"].iter().all(|f| read(f).is_ok_and(|t| t.trim() == "0"))
}

fn machine() -> String {
    std::fs::read_to_string("/etc/machine-id").unwrap_or_default()
}

fn open() -> Result<Netlink> {
    route::open().context("open a connection to the kernel's routing")
}

fn remove(netlink: &mut Netlink, interface: &str) -> Result<(), Refused> {
    let mut request = Request::default();
    route::remove_link(&mut request, interface);
    match netlink.carry_out(request) {
        Err(refused) if refused.errno != libc::ENODEV => Err(refused),
        _ => Ok(()),
    }
}

/// An older interface with a route into the same subnet.
fn rival(netlink: &mut Netlink, subnet: Ipv4Net, index: u32) -> Result<Option<Route>> {
    let routes = route::routes(netlink, false).context("look at the routes")?;
    let touches = |r: &Route| match (r.to, IpNet::new(r.to, r.prefix)) {
        (IpAddr::V4(_), Ok(net)) => touch(net, subnet.into()),
        _ => false,
    };
    Ok(routes.into_iter().find(|r| r.interface != 0 && r.interface < index && touches(r)))
}

/// What the kernel means by its short answers.
pub(super) fn explained(refused: Refused, module: &str) -> anyhow::Error {
    match refused.errno {
        libc::EOPNOTSUPP => anyhow!(refused).context(format!(
            "this kernel has no interfaces of the kind {module}: load the module {module}, or use --network none or host"
        )),
        libc::EPERM => anyhow!(refused)
            .context("making interfaces needs the capability CAP_NET_ADMIN; --network none or host does not"),
        _ => anyhow!(refused),
    }
}

/// Forwarding for the host, and loopback's way to a published port for the bridge.
fn settings(bridge: &Bridge) -> Result<()> {
    let name = &bridge.interface;
    set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    if bridge.internal {
        return Ok(());
    }
    set("ipv4/ip_forward", "1")?;
    if bridge.v6.is_some() && get("ipv6/conf/all/forwarding").as_deref() != Some("1") {
        keep_advertised_routes();
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards ignores advertised routes, its own default route among them, unless told otherwise.
fn keep_advertised_routes() {
    for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let setting = format!("ipv6/conf/{}/accept_ra", entry.file_name().to_string_lossy());
        if get(&setting).as_deref() == Some("1") {
            let _ = set(&setting, "2");
        }
    }
}

fn get(setting: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/net/{setting}")).ok().map(|t| t.trim().to_owned())
}

fn set(setting: &str, value: &str) -> Result<()> {
    if get(setting).as_deref() == Some(value) {
        return Ok(());
    }
    std::fs::write(format!("/proc/sys/net/{setting}"), value)
        .with_context(|| format!("set the kernel parameter net.{} to {value}", setting.replace('/', ".")))
}
