//! Published ports, as users see them: `port`, the column of `ps`, the maps of `inspect`.

use super::{App, output};
use crate::container::connection::networks;
use crate::container::containers::{Container, Containers};
use crate::network::bridge::ipv6_is_on;
use crate::network::ledger::Endpoint;
use crate::network::ports::{Protocol, Published};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// `port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Name or id
    container: String,
    /// A port of the container: 80 or 80/udp
    port: Option<String>,
}

/// `minirun port`.
pub fn run(app: &App, args: &PortArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    let mut ports = published(&networks(&app.root).endpoints_of(&container.record.id)?);
    ports.sort_by_key(|p| (p.container, p.protocol, p.address, p.host));
    let Some(wanted) = &args.port else {
        for port in &ports {
            for place in places(port) {
                output::line(&format!("{}/{} -> {place}", port.container, port.protocol))?;
            }
        }
        return Ok(0);
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let number: u16 = number.parse().map_err(|_| anyhow!("Invalid containerPort: {number}"))?;
    let protocol: Protocol = protocol.parse().map_err(|()| anyhow!("Invalid proto: {protocol}"))?;
    ports.retain(|p| p.container == number && p.protocol == protocol);
    if ports.is_empty() {
        bail!("No public port '{number}/{protocol}' published for {}", args.container);
    }
    for place in ports.iter().flat_map(places) {
        output::line(&place)?;
    }
    Ok(0)
}

fn published(endpoints: &[Endpoint]) -> Vec<Published> {
    endpoints.iter().flat_map(|e| e.ports.iter().copied()).collect()
}

fn places(port: &Published) -> Vec<String> {
    let place = |address| match address {
        // As Docker prints it, without the brackets.
        IpAddr::V6(v6) if v6.is_unspecified() => format!(":::{}", port.host),
        address => SocketAddr::new(address, port.host).to_string(),
    };
    port.addresses(ipv6_is_on()).into_iter().map(place).collect()
}

/// The column of `ps`: what leads to a running container, and what else it serves; ranges folded.
pub fn column(container: &Container, endpoints: &[Endpoint]) -> String {
    let ports = published(endpoints);
    let mut groups: Vec<(Option<IpAddr>, Vec<Published>)> = Vec::new();
    for port in &ports {
        for address in port.addresses(ipv6_is_on()) {
            match groups.iter_mut().find(|(a, _)| *a == Some(address)) {
                Some((_, list)) => list.push(*port),
                None => groups.push((Some(address), vec![*port])),
            }
        }
    }
    let is_published = |c, p| ports.iter().any(|o| o.container == c && o.protocol == p);
    let silent: BTreeSet<_> = container.record.exposed_ports();
    let silent = silent.into_iter().filter(|(c, p)| !is_published(*c, *p));
    let silent: Vec<Published> =
        silent.map(|(container, protocol)| Published { address: None, host: 0, container, protocol }).collect();
    groups.push((None, silent));
    groups.into_iter().flat_map(|(address, list)| folded(address, list)).collect::<Vec<_>>().join(", ")
}

fn folded(address: Option<IpAddr>, mut list: Vec<Published>) -> Vec<String> {
    list.sort_by_key(|p| (p.protocol, p.container, p.host));
    let mut runs: Vec<(Published, Published)> = Vec::new();
    for port in list {
        match runs.last_mut() {
            Some((_, last))
                if last.protocol == port.protocol
                    && last.container + 1 == port.container
                    && (address.is_none() || last.host + 1 == port.host) =>
            {
                *last = port;
            }
            _ => runs.push((port, port)),
        }
    }
    let span = |a: u16, b: u16| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let text = |(first, last): (Published, Published)| {
        let inner = format!("{}/{}", span(first.container, last.container), first.protocol);
        match address {
            None => inner,
            Some(IpAddr::V6(v6)) if !v6.is_unspecified() => format!("[{v6}]:{}->{inner}", span(first.host, last.host)),
            Some(address) => format!("{address}:{}->{inner}", span(first.host, last.host)),
        }
    };
    runs.into_iter().map(text).collect()
}

/// `NetworkSettings` of a container.
pub fn settings(app: &App, container: &Container) -> Result<Value> {
    let networks = networks(&app.root);
    let ledger = networks.ledger()?;
    let endpoints = networks.endpoints_of(&container.record.id)?;
    let mut ports = Map::new();
    if !endpoints.is_empty() {
        for (number, protocol) in container.record.exposed_ports() {
            ports.insert(format!("{number}/{protocol}"), Value::Null);
        }
    }
    for port in published(&endpoints) {
        let entry = ports.entry(format!("{}/{}", port.container, port.protocol)).or_insert(Value::Null);
        let mut list = entry.as_array().cloned().unwrap_or_default();
        for address in port.addresses(ipv6_is_on()) {
            list.push(json!({ "HostIp": address.to_string(), "HostPort": port.host.to_string() }));
        }
        *entry = list.into();
    }
    let mut connected = Map::new();
    for attachment in &container.record.networks {
        let Ok(definition) = networks.find(&attachment.network) else { continue };
        let place = endpoints.iter().find(|e| e.network == definition.id);
        let bridge = place.and_then(|_| ledger.bridges.get(&definition.id));
        let v4 = bridge.map(|b| b.v4);
        let v6 = bridge.and_then(|b| b.v6);
        let text = |value: Option<String>| value.unwrap_or_default();
        let details = json!({
            "IPAMConfig": { "IPv4Address": text(attachment.ip.map(|a| a.to_string())) },
            "Links": null,
            "Aliases": attachment.aliases,
            "NetworkID": definition.id,
            "EndpointID": text(place.map(|p| p.container.clone())),
            "Gateway": text(v4.map(|r| r.gateway.to_string())),
            "IPAddress": text(place.map(|p| p.v4.to_string())),
            "IPPrefixLen": v4.map_or(0, |r| r.subnet.prefix_len()),
            "IPv6Gateway": text(v6.map(|r| r.gateway.to_string())),
            "GlobalIPv6Address": text(place.and_then(|p| p.v6).map(|a| a.to_string())),
            "GlobalIPv6PrefixLen": v6.map_or(0, |r| r.subnet.prefix_len()),
            "MacAddress": text(place.map(|p| p.mac.clone())),
            "DNSNames": place.map(|p| p.names.clone()).unwrap_or_default(),
        });
        connected.insert(definition.name, details);
    }
    if container.record.networks.is_empty() {
        let empty = json!({ "IPAddress": "", "Gateway": "", "MacAddress": "" });
        let mode = container.record.options.network.word();
        if !mode.starts_with("container:") {
            connected.insert(mode, empty);
        }
    }
    Ok(with_default(ports, connected))
}

/// What the default network gives is repeated one level up, as Docker does for old templates.
fn with_default(ports: Map<String, Value>, connected: Map<String, Value>) -> Value {
    let mut all = json!({ "Bridge": "", "SandboxID": "", "Ports": ports });
    let default = connected.get(crate::network::DEFAULT).cloned().unwrap_or_default();
    for key in ["EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"] {
        all[key] = default.get(key).cloned().unwrap_or_else(|| "".into());
    }
    for key in ["GlobalIPv6PrefixLen", "IPPrefixLen"] {
        all[key] = default.get(key).cloned().unwrap_or_else(|| 0.into());
    }
    all["Networks"] = connected.into();
    all
}

/// `PortBindings` of a container's `HostConfig`: what was asked for.
pub fn bindings(container: &Container) -> Value {
    let mut all = Map::new();
    for port in &container.record.options.publish {
        let host = match port.host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = port.address.map(|a| a.to_string()).unwrap_or_default();
        let entry = all.entry(format!("{}/{}", port.container, port.protocol)).or_insert_with(|| json!([]));
        if let Some(list) = entry.as_array_mut() {
            list.push(json!({ "HostIp": address, "HostPort": host }));
        }
    }
    all.into()
}
