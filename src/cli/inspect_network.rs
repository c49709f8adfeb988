//! The part of a container's document that is about its network.

use super::App;
use super::ports::published;
use crate::container::connection::networks;
use crate::container::containers::Container;
use crate::container::options::NetworkMode;
use crate::network::bridge::ipv6_is_on;
use crate::network::endpoint::Attachment;
use anyhow::Result;
use serde_json::{Map, Value, json};

/// `NetworkSettings`; `init` is the number of the first process, if there is one.
pub fn network_settings(app: &App, container: &Container, init: Option<i32>) -> Result<Value> {
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
        let mut details = endpoint();
        let known = json!({
            "IPAMConfig": { "IPv4Address": text(attachment.ip.map(|a| a.to_string())) },
            "Links": links(attachment),
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
        overlay(&mut details, known);
        connected.insert(definition.name, details);
    }
    let mode = &container.record.options.network;
    if matches!(mode, NetworkMode::None | NetworkMode::Host) {
        connected.insert(mode.word(), endpoint());
    }
    let mut settings = with_default(ports, connected);
    if let Some(pid) = init {
        settings["SandboxKey"] = format!("/proc/{pid}/ns/net").into();
    }
    Ok(settings)
}

/// As they were asked for; null if there are none.
fn links(attachment: &Attachment) -> Value {
    let shown = attachment.links.iter().map(|link| format!("{}:{}", link.container, link.alias));
    if attachment.links.is_empty() { Value::Null } else { shown.collect() }
}

/// What the default network gives is repeated one level up, as Docker does for old templates.
fn with_default(ports: Map<String, Value>, connected: Map<String, Value>) -> Value {
    let mut all = json!({
        "Bridge": "", "SandboxID": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "Ports": ports, "SandboxKey": "", "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
    });
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

/// One of `NetworkSettings.Networks`, as it is without an address.
fn endpoint() -> Value {
    json!({
        "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "", "EndpointID": "", "Gateway": "",
        "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "MacAddress": "", "DriverOpts": null,
    })
}

fn overlay(document: &mut Value, known: Value) {
    if let (Value::Object(document), Value::Object(known)) = (document, known) {
        document.extend(known);
    }
}
