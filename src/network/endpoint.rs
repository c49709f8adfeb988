//! Connecting containers: from what was asked for to a place in the ledger and interfaces in the kernel.

use super::bridge::ipv6_is_on;
use super::definition::Definition;
use super::ledger::{Bridge, Endpoint, Ledger, Open};
use super::plug;
use super::ports::{self, Publish, Published};
use super::rules::Table;
use super::{Networks, names};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;

/// A container's wish to be in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network's name or id.
    pub network: String,
    /// `--ip`.
    pub ip: Option<Ipv4Addr>,
    /// `--ip6`.
    pub ip6: Option<Ipv6Addr>,
    /// `--mac-address`.
    pub mac: Option<String>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--link`.
    pub links: Vec<Link>,
}

/// What a container calls another one that it shares a network with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The other's id, or its name if it was not there yet.
    pub container: String,
    /// What it is called.
    pub alias: String,
}

/// A container as the networks see it.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What it calls itself, its full name first.
    pub own_names: &'a [String],
    /// The ports that it publishes.
    pub ports: &'a [Publish],
    /// What it calls the host.
    pub host_names: &'a [String],
    /// Its file of names, if that is not where those of containers are.
    pub hosts: Option<&'a Path>,
}

/// What holds a running container's place: its ports are free when this is gone.
#[derive(Debug, Default)]
pub struct Connection {
    holds: Vec<OwnedFd>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Connection {
    /// Holds the ports of these descriptors, too.
    pub fn hold(&mut self, holds: Vec<OwnedFd>) {
        self.holds.extend(holds);
    }

    /// Lets go of all ports.
    pub fn free_ports(&mut self) {
        self.holds = Vec::new();
    }

    /// What holds the ports, for somebody else to do so.
    pub fn holds(&self) -> &[OwnedFd] {
        &self.holds
    }
}

struct Place {
    bridge: Bridge,
    index: u32,
    endpoint: Endpoint,
}

impl Networks {
    /// Gives a container, whose first process is `pid`, its places in networks, the first of which has its ports and its
    /// way out. Places that it had before are given up.
    ///
    /// # Errors
    /// Docker's words for a port or address that somebody else has. Nothing is left then.
    pub fn connect(&self, guest: &Guest<'_>, wanted: &[Attachment], pid: i32) -> Result<Connection> {
        let mut connection = Connection::default();
        let done = self.try_connect(guest, wanted, pid, &mut connection);
        if done.is_err() {
            let _ = self.release(guest.id);
        }
        done.map(|()| connection)
    }

    /// Connects a container that starts again by the places that it still has; `false` if these are not those that it
    /// should have.
    pub fn reconnect(&self, guest: &Guest<'_>, wanted: &[Attachment], pid: i32) -> Result<bool> {
        let places = self.endpoints_of(guest.id)?;
        if places.len() != wanted.len() {
            return Ok(false);
        }
        let definitions = wanted.iter().map(|w| self.find_for(w)).collect::<Result<Vec<_>>>()?;
        if !definitions.iter().zip(&places).all(|(d, p)| d.id == p.network) {
            return Ok(false);
        }
        let mut open = self.open_for(&definitions)?;
        let outward = definitions.iter().position(|d| !d.internal).unwrap_or(0);
        for (number, (definition, endpoint)) in definitions.iter().zip(&places).enumerate() {
            let index = self.realize(definition, &mut open)?.index;
            let bridge = open.ledger.bridges.get(&definition.id).context("a network without a bridge")?;
            plug::plug(index, bridge, endpoint, pid, number == outward)
                .with_context(|| format!("connect to the network {}", definition.name))?;
        }
        names::own(self, guest.id, &open.ledger)?;
        Ok(true)
    }

    /// The network of an attachment; refuses one that is not there or has no such place.
    pub fn check(&self, attachment: &Attachment) -> Result<Definition> {
        let definition = self.find_for(attachment)?;
        if let Some(mac) = &attachment.mac {
            plug::parse_mac(mac)?;
        }
        if definition.name == super::DEFAULT {
            if attachment.ip.is_some() || attachment.ip6.is_some() {
                bail!("user specified IP address is supported on user defined networks only");
            }
            if !attachment.aliases.is_empty() {
                bail!("network-scoped alias is supported only for containers in user defined networks");
            }
        }
        Ok(definition)
    }

    fn try_connect(
        &self,
        guest: &Guest<'_>,
        wanted: &[Attachment],
        pid: i32,
        connection: &mut Connection,
    ) -> Result<()> {
        let definitions = wanted.iter().map(|w| self.find_for(w)).collect::<Result<Vec<_>>>()?;
        let mut open = self.open_for(&definitions)?;
        self.strike_off(guest.id, &mut open.ledger)?;
        let outward = definitions.iter().position(|d| !d.internal).unwrap_or(0);
        let mut places = Vec::new();
        for (attachment, definition) in wanted.iter().zip(&definitions) {
            let realized = self.realize(definition, &mut open)?;
            connection.warnings.extend(realized.warning);
            let endpoint = self.endpoint(guest, attachment, definition, &mut open.ledger)?;
            let bridge = open.ledger.bridges.get(&definition.id).context("a network without a bridge")?.clone();
            open.ledger.endpoints.push(endpoint.clone());
            places.push(Place { bridge, index: realized.index, endpoint });
        }
        let leads = places.get(outward).is_some_and(|p| !p.bridge.internal) && !guest.ports.is_empty();
        if let (true, Some(place)) = (leads, places.get_mut(outward)) {
            place.endpoint = self.lead_ports(guest, &place.endpoint.network, &mut open.ledger, connection)?;
        }
        places.iter().for_each(|p| open.ledger.owe_names(&p.endpoint.network));
        open.save()?;
        names::own(self, guest.id, &open.ledger)?;
        self.tell_names(&mut open)?;
        drop(open);
        for (number, place) in places.iter().enumerate() {
            plug::plug(place.index, &place.bridge, &place.endpoint, pid, number == outward)
                .with_context(|| format!("connect to the network {}", place.bridge.network))?;
        }
        Ok(())
    }

    /// Leads a container's ports to it through one of its networks, and gives its place there.
    fn lead_ports(
        &self,
        guest: &Guest<'_>,
        network: &str,
        ledger: &mut Ledger,
        connection: &mut Connection,
    ) -> Result<Endpoint> {
        let alive = |id: &str| (self.alive)(&self.root, id);
        let binding = ledger.bridges.get(network).and_then(|bridge| bridge.binding).map(IpAddr::from);
        let wanted: Vec<Publish> =
            guest.ports.iter().map(|port| Publish { address: port.address.or(binding), ..*port }).collect();
        let claimed = ports::claim(&wanted, ledger, &alive, ipv6_is_on()).with_context(|| {
            format!("driver failed programming external connectivity on endpoint {} ({})", guest.name, guest.id)
        })?;
        let mut led_elsewhere = Vec::new();
        for (index, port) in claimed.freed {
            let owner = &mut ledger.endpoints[index];
            led_elsewhere.push((owner.clone(), port));
            owner.ports.retain(|p| *p != port);
        }
        let published: Vec<Published> = claimed.ports.iter().map(|(p, _)| *p).collect();
        connection.holds.extend(claimed.ports.into_iter().filter_map(|(_, hold)| hold));
        let mine = |e: &&mut Endpoint| e.container == guest.id && e.network == network;
        let endpoint = ledger.endpoints.iter_mut().find(mine).context("ports without a place in a network")?;
        endpoint.ports = published;
        let endpoint = endpoint.clone();
        Table::open(&self.tag())?.publish(&endpoint, &led_elsewhere, ledger)?;
        Ok(endpoint)
    }

    /// Publishes the ports of a running container through the first of its networks that is not internal, unless they
    /// are published, and gives what its supervisor is to hold. Without such a network they stay as they are.
    ///
    /// # Errors
    /// Docker's words for a port that somebody else has.
    pub fn publish(&self, guest: &Guest<'_>) -> Result<Connection> {
        let mut connection = Connection::default();
        if guest.ports.is_empty() {
            return Ok(connection);
        }
        let mut open = self.open_ledger()?;
        let are_led = open.ledger.endpoints.iter().any(|e| e.container == guest.id && !e.ports.is_empty());
        if let (false, Some(place)) = (are_led, outward(&open.ledger, guest.id)) {
            let network = open.ledger.endpoints[place].network.clone();
            let endpoint = self.lead_ports(guest, &network, &mut open.ledger, &mut connection)?;
            open.save()?;
            plug::let_turn_back(&endpoint)?;
        }
        Ok(connection)
    }

    /// Opens the ledger to connect somebody to these networks: as long as it is open nobody removes them.
    ///
    /// # Errors
    /// One of them was removed before.
    fn open_for(&self, networks: &[Definition]) -> Result<Open> {
        let open = self.open_ledger()?;
        for network in networks {
            if !self.is_there(network)? {
                self.close(open)?;
                bail!("network {} not found", network.name);
            }
        }
        Ok(open)
    }

    /// The network of an attachment.
    fn find_for(&self, attachment: &Attachment) -> Result<Definition> {
        let found =
            self.find(&attachment.network).map_err(|error| match error.is::<super::definition::NoSuchNetwork>() {
                true => anyhow::anyhow!("network {} not found", attachment.network),
                false => error,
            })?;
        if found.driver != "bridge" {
            bail!("a container cannot be in the network {} and in others", found.name);
        }
        Ok(found)
    }

    fn endpoint(
        &self,
        guest: &Guest<'_>,
        attachment: &Attachment,
        definition: &Definition,
        ledger: &mut Ledger,
    ) -> Result<Endpoint> {
        if ledger.endpoints.iter().any(|e| e.container == guest.id && e.network == definition.id) {
            bail!("endpoint with name {} already exists in network {}", guest.name, definition.name);
        }
        if self.owner_is_dead(attachment, &definition.id, ledger) {
            self.forget_dead(ledger)?;
        }
        let v4 = match self.address(attachment, definition, ledger) {
            Err(_) if attachment.ip.is_none() => {
                // Containers that have ended without anybody's clean-up still have theirs.
                self.forget_dead(ledger)?;
                self.address(attachment, definition, ledger)
            }
            other => other,
        }?;
        let bridge = ledger.bridges.get(&definition.id).context("a network without a bridge")?;
        let v6 = address_v6(attachment, bridge, v4, definition, ledger)?;
        let is_first = !ledger.endpoints.iter().any(|e| e.container == guest.id);
        let is_used = |name: &String| ledger.endpoints.iter().any(|e| e.container == guest.id && e.interface == *name);
        let interface = (0..).map(|n| format!("{}{n}", bridge.prefix)).find(|name| !is_used(name)).unwrap_or_default();
        let mut own = vec![guest.name.to_owned(), guest.id.get(..12).unwrap_or(guest.id).to_owned()];
        own.extend(attachment.aliases.iter().cloned());
        Ok(Endpoint {
            container: guest.id.to_owned(),
            network: definition.id.clone(),
            interface,
            v4,
            v6,
            mac: attachment.mac.clone().unwrap_or_else(|| plug::mac_of(v4)),
            names: own,
            own_names: guest.own_names.to_vec(),
            host_names: if is_first { guest.host_names.to_vec() } else { Vec::new() },
            links: attachment.links.clone(),
            hosts: guest.hosts.map(Path::to_owned),
            ports: Vec::new(),
        })
    }

    /// Whether an address that is asked for belongs to a container that has ended without anybody's clean-up.
    fn owner_is_dead(&self, attachment: &Attachment, network: &str, ledger: &Ledger) -> bool {
        let is_wanted = |e: &&Endpoint| {
            let v6 = attachment.ip6.is_some() && e.v6 == attachment.ip6;
            e.network == network && (v6 || Some(e.v4) == attachment.ip)
        };
        ledger.endpoints.iter().filter(is_wanted).any(|owner| !(self.alive)(&self.root, &owner.container))
    }

    fn address(&self, attachment: &Attachment, definition: &Definition, ledger: &mut Ledger) -> Result<Ipv4Addr> {
        let network = definition.id.as_str();
        let mut taken: std::collections::BTreeSet<Ipv4Addr> =
            ledger.endpoints.iter().filter(|e| e.network == network).map(|e| e.v4).collect();
        let reserved = definition.reserved.values();
        taken.extend(reserved.filter_map(|a| if let IpAddr::V4(v4) = a { Some(*v4) } else { None }));
        let bridge = ledger.bridges.get_mut(network).context("a network without a bridge")?;
        let subnet = bridge.v4.subnet;
        if let Some(wanted) = attachment.ip {
            if !subnet.contains(&wanted) || wanted == subnet.network() || wanted == subnet.broadcast() {
                bail!("Invalid address {wanted}: It does not belong to any of this network's subnets");
            }
            if taken.contains(&wanted) || wanted == bridge.v4.gateway {
                bail!("Address already in use: {wanted}");
            }
            return Ok(wanted);
        }
        let pool = bridge.v4.pool.unwrap_or(subnet);
        let (base, size) = (u32::from(pool.network()), 1u64 << (32 - pool.prefix_len()));
        for step in 0..size {
            let offset = ((u64::from(bridge.next) + step) % size) as u32;
            let address = Ipv4Addr::from(base + offset);
            let is_free = address != subnet.network()
                && address != subnet.broadcast()
                && address != bridge.v4.gateway
                && !taken.contains(&address);
            if is_free {
                bridge.next = offset.wrapping_add(1);
                return Ok(address);
            }
        }
        bail!("no available IPv4 addresses on this network's address pools: {} ({network})", bridge.network)
    }

    /// Gives up the places of a container. Can be repeated.
    pub fn release(&self, container: &str) -> Result<()> {
        if !self.ledger()?.endpoints.iter().any(|e| e.container == container) {
            return Ok(());
        }
        let mut open = self.open_ledger()?;
        let networks = self.strike_off(container, &mut open.ledger)?;
        networks.iter().for_each(|n| open.ledger.owe_names(n));
        open.save()?;
        self.tell_names(&mut open)
    }

    /// Removes the endpoints of a container from the ledger, and what leads to them; returns their networks.
    fn strike_off(&self, container: &str, ledger: &mut Ledger) -> Result<Vec<String>> {
        let (gone, left): (Vec<_>, Vec<_>) = ledger.endpoints.drain(..).partition(|e| e.container == container);
        ledger.endpoints = left;
        if gone.iter().any(|e| !e.ports.is_empty()) {
            Table::open(&self.tag())?.withdraw(&gone, ledger)?;
        }
        Ok(gone.into_iter().map(|e| e.network).collect())
    }

    /// Connects a running container to one more network.
    pub fn join(&self, guest: &Guest<'_>, attachment: &Attachment, pid: i32) -> Result<()> {
        let definition = self.find_for(attachment)?;
        let mut open = self.open_for(std::slice::from_ref(&definition))?;
        let realized = self.realize(&definition, &mut open)?;
        let has_way_out = outward(&open.ledger, guest.id).is_some();
        let endpoint = self.endpoint(guest, attachment, &definition, &mut open.ledger)?;
        let bridge = open.ledger.bridges.get(&definition.id).context("a network without a bridge")?.clone();
        open.ledger.endpoints.push(endpoint.clone());
        open.ledger.owe_names(&definition.id);
        open.save()?;
        let plugged = plug::plug(realized.index, &bridge, &endpoint, pid, !has_way_out);
        if plugged.is_err() {
            open.ledger.endpoints.retain(|e| !(e.container == guest.id && e.network == definition.id));
            open.save()?;
        }
        names::own(self, guest.id, &open.ledger)?;
        self.tell_names(&mut open)?;
        plugged.with_context(|| format!("connect to the network {}", definition.name))
    }

    /// Takes a running container out of a network.
    ///
    /// `pid` is its first process. If it had its way out and its ports there, it gets the next network's; `true` if
    /// there is none that has the same ports: they lead nowhere then, and are to be let go.
    pub fn leave(&self, guest: &Guest<'_>, network: &Definition, pid: i32) -> Result<bool> {
        let mut open = self.open_ledger()?;
        let is_it = |e: &Endpoint| e.container == guest.id && e.network == network.id;
        let (gone, left): (Vec<_>, Vec<_>) = open.ledger.endpoints.drain(..).partition(is_it);
        open.ledger.endpoints = left;
        let binding = |network: &str| open.ledger.bridges.get(network).and_then(|bridge| bridge.binding);
        let ports: Vec<Published> = gone.iter().flat_map(|e| e.ports.iter().copied()).collect();
        let next = outward(&open.ledger, guest.id);
        let moves = next.is_some_and(|n| binding(&open.ledger.endpoints[n].network) == binding(&network.id));
        if !ports.is_empty() {
            let tag = self.tag();
            let mut table = Table::open(&tag)?;
            table.withdraw(&gone, &open.ledger)?;
            if let Some(next) = next.filter(|_| moves) {
                open.ledger.endpoints[next].ports.clone_from(&ports);
                table.publish(&open.ledger.endpoints[next], &[], &open.ledger)?;
            }
        }
        if let Some(first) = open.ledger.endpoints.iter_mut().find(|e| e.container == guest.id) {
            first.host_names = guest.host_names.to_vec();
        }
        open.ledger.owe_names(&network.id);
        open.save()?;
        names::own(self, guest.id, &open.ledger)?;
        self.tell_names(&mut open)?;
        gone.iter().try_for_each(plug::unplug)?;
        let Some(next) = next.map(|next| &open.ledger.endpoints[next]) else { return Ok(!ports.is_empty()) };
        plug::let_turn_back(next)?;
        if let Some(bridge) = open.ledger.bridges.get(&next.network) {
            plug::lead_out(bridge, next, pid)?;
        }
        Ok(!ports.is_empty() && !moves)
    }
}

/// The first place of a container in a network that is not internal.
fn outward(ledger: &Ledger, container: &str) -> Option<usize> {
    let leads_out = |e: &Endpoint| ledger.bridges.get(&e.network).is_some_and(|bridge| !bridge.internal);
    ledger.endpoints.iter().position(|e| e.container == container && leads_out(e))
}

/// The address with the same number in the IPv6 subnet, or the one that was asked for.
fn address_v6(
    attachment: &Attachment,
    bridge: &Bridge,
    v4: Ipv4Addr,
    definition: &Definition,
    ledger: &Ledger,
) -> Result<Option<Ipv6Addr>> {
    let Some(range) = bridge.v6 else {
        return match attachment.ip6 {
            Some(_) => bail!("the network {} has no IPv6 addresses", bridge.network),
            None => Ok(None),
        };
    };
    let taken = |a: Ipv6Addr| {
        a == range.gateway
            || definition.reserved.values().any(|reserved| *reserved == IpAddr::from(a))
            || ledger.endpoints.iter().any(|e| e.network == definition.id && e.v6 == Some(a))
    };
    if let Some(wanted) = attachment.ip6 {
        if !range.subnet.contains(&wanted) {
            bail!("Invalid address {wanted}: It does not belong to any of this network's subnets");
        }
        if taken(wanted) {
            bail!("Address already in use: {wanted}");
        }
        return Ok(Some(wanted));
    }
    let number = u128::from(u32::from(v4) - u32::from(bridge.v4.subnet.network()));
    let base = u128::from(range.subnet.network());
    let all = (0..1 << 16).map(|step| Ipv6Addr::from(base.wrapping_add(number + step)));
    let free = all.into_iter().find(|a| range.subnet.contains(a) && !taken(*a));
    free.map(Some).with_context(|| format!("no available IPv6 addresses on the network {}", bridge.network))
}
