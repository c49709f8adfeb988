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
use std::net::IpAddr;

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

pub(super) fn published(endpoints: &[Endpoint]) -> Vec<Published> {
    endpoints.iter().flat_map(|e| e.ports.iter().copied()).collect()
}

fn places(port: &Published) -> Vec<String> {
    port.addresses(ipv6_is_on()).into_iter().map(|a| format!("{}:{}", bracketed(a), port.host)).collect()
}

/// A port in a listing: where it is published, if it is, and what it is in the container.
type Shown = (u16, Option<IpAddr>, u16, Protocol);

/// Consecutive ports with one address and protocol.
type Group = (Option<IpAddr>, Protocol, Vec<(u16, u16)>);

/// The column of `ps`, as Docker writes it: consecutive ports that are not published, or have the same number outside,
/// are folded; then the others one by one.
pub fn column(container: &Container, endpoints: &[Endpoint]) -> String {
    let published = published(endpoints);
    let is_published = |c, p| published.iter().any(|o| o.container == c && o.protocol == p);
    let silent = container.record.exposed_ports().into_iter().filter(|(c, p)| !is_published(*c, *p));
    let mut all: Vec<Shown> = silent.map(|(c, p)| (c, None, 0, p)).collect();
    for port in &published {
        let addresses = port.addresses(ipv6_is_on()).into_iter();
        all.extend(addresses.map(|address| (port.container, Some(address), port.host, port.protocol)));
    }
    all.sort();
    let (other, same): (Vec<Shown>, Vec<Shown>) = all.into_iter().partition(|(c, a, h, _)| a.is_some() && c != h);
    let mut groups: Vec<Group> = Vec::new();
    for (port, address, _, protocol) in same {
        match groups.iter_mut().find(|(a, p, _)| (*a, *p) == (address, protocol)) {
            Some((_, _, spans)) => match spans.last_mut() {
                Some(last) if last.1 + 1 == port => last.1 = port,
                _ => spans.push((port, port)),
            },
            None => groups.push((address, protocol, vec![(port, port)])),
        }
    }
    let span = |(first, last): (u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let mut parts = Vec::new();
    for (address, protocol, spans) in groups {
        parts.extend(spans.into_iter().map(span).map(|span| match address {
            None => format!("{span}/{protocol}"),
            Some(address) => format!("{}:{span}->{span}/{protocol}", bracketed(address)),
        }));
    }
    let one = |(port, address, host, protocol): Shown| {
        format!("{}:{host}->{port}/{protocol}", address.map(bracketed).unwrap_or_default())
    };
    parts.extend(other.into_iter().map(one));
    parts.join(", ")
}

/// As Docker prints it.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) => format!("[{v6}]"),
        other => other.to_string(),
    }
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
