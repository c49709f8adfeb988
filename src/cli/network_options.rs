//! The flags of `run` and `create` that are about networks.

use super::publish;
use crate::container::connection::HOST_GATEWAY;
use crate::container::options::{NetworkMode, RunOptions};
use crate::network::endpoint::{Attachment, Link};
use crate::network::plug::parse_mac;
use crate::network::resolver::Resolver;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks, ports and names.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Add a line to /etc/hosts (name:address; the address host-gateway is the host's)
    #[arg(long)]
    add_host: Vec<String>,
    /// Ask this name server
    #[arg(long)]
    dns: Vec<String>,
    /// Set an option of the resolver
    #[arg(long, alias = "dns-opt")]
    dns_option: Vec<String>,
    /// Look names up in this domain; . is none
    #[arg(long)]
    dns_search: Vec<String>,
    /// Say that it serves a port or a range of ports
    #[arg(long)]
    expose: Vec<String>,
    /// IPv4 address in its network
    #[arg(long)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address in its network
    #[arg(long)]
    ip6: Option<Ipv6Addr>,
    /// Have it know a container of its network by another name (NAME[:ALIAS])
    #[arg(long)]
    link: Vec<String>,
    /// Hardware address in its network
    #[arg(long)]
    mac_address: Option<String>,
    /// Connect it to a network: bridge, none, host, container:NAME, or a name from `network ls`
    #[arg(long, alias = "net")]
    network: Vec<String>,
    /// A further name for it in its network
    #[arg(long, alias = "net-alias")]
    network_alias: Vec<String>,
    /// Publish a port ([address:][port]:port[/protocol])
    #[arg(short, long)]
    publish: Vec<String>,
    /// Publish all exposed ports at free ones of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
}

impl NetworkArgs {
    /// `--add-host`, checked.
    ///
    /// # Errors
    /// A line without an address.
    pub fn extra_hosts(&self) -> Result<Vec<String>> {
        for entry in &self.add_host {
            let (name, address) = entry
                .split_once(['=', ':'])
                .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace))
                .with_context(|| format!("bad format for add-host: {entry:?}"))?;
            if address != HOST_GATEWAY && bare(address).is_none() {
                bail!("invalid IP address in add-host: {address:?} for {name}");
            }
        }
        Ok(self.add_host.iter().map(|e| e.replace(['[', ']'], "")).collect())
    }

    /// Gives the flags their meaning.
    ///
    /// # Errors
    /// A value that makes no sense, and wishes that contradict each other.
    pub fn apply(&self, options: &mut RunOptions) -> Result<()> {
        for server in &self.dns {
            if server.parse::<IpAddr>().is_err() {
                bail!("{server} is not an ip address");
            }
        }
        options.resolver =
            Resolver { servers: self.dns.clone(), search: self.dns_search.clone(), options: self.dns_option.clone() };
        options.publish_all = self.publish_all;
        for text in &self.publish {
            options.publish.extend(publish::parse(text)?);
        }
        for text in &self.expose {
            options.expose.extend(publish::exposed(text)?);
        }
        if let Some(mac) = &self.mac_address {
            parse_mac(mac)?;
        }
        let mut networks = self.network.iter().map(|n| attachment(n)).collect::<Result<Vec<_>>>()?.into_iter();
        let mut first = networks.next().unwrap_or_default();
        first.ip = first.ip.or(self.ip);
        first.ip6 = first.ip6.or(self.ip6);
        first.mac = first.mac.or_else(|| self.mac_address.clone());
        first.aliases.extend(self.network_alias.iter().cloned());
        first.links = self.link.iter().map(|text| link(text)).collect::<Result<_>>()?;
        options.network = mode(&first.network);
        options.endpoint = Attachment { network: String::new(), ..first };
        options.more_networks = networks.collect();
        self.check(options)
    }

    fn check(&self, options: &RunOptions) -> Result<()> {
        if let NetworkMode::Container(_) = options.network {
            let conflicts = [
                (options.hostname.is_some(), "hostname"),
                (!self.dns.is_empty(), "dns"),
                (!self.add_host.is_empty(), "custom host-to-IP mapping"),
                (self.mac_address.is_some(), "mac-address"),
            ];
            if let Some((_, what)) = conflicts.iter().find(|(given, _)| *given) {
                bail!("conflicting options: {what} and the network mode");
            }
            if !self.publish.is_empty() || self.publish_all {
                bail!("conflicting options: port publishing and the container type network mode");
            }
            if !self.expose.is_empty() {
                bail!("conflicting options: port exposing and the container type network mode");
            }
        }
        let has_networks = matches!(options.network, NetworkMode::Bridge | NetworkMode::Named(_));
        if !has_networks && !self.link.is_empty() {
            bail!("conflicting options: links and the network mode {}", options.network.word());
        }
        let is_user_network = matches!(options.network, NetworkMode::Named(_));
        if !is_user_network && (self.ip.is_some() || self.ip6.is_some()) {
            bail!("user specified IP address is supported on user defined networks only");
        }
        if !is_user_network && !options.endpoint.aliases.is_empty() {
            bail!("network-scoped alias is supported only for containers in user defined networks");
        }
        let others = options.more_networks.iter().map(|n| mode(&n.network));
        for other in others {
            if !has_networks || !matches!(other, NetworkMode::Bridge | NetworkMode::Named(_)) {
                bail!(
                    "container cannot be connected to multiple networks with one of the networks in {} mode",
                    if has_networks { other.word() } else { options.network.word() }
                );
            }
        }
        if options.network == NetworkMode::Host && (!self.publish.is_empty() || self.publish_all) {
            super::output::note("WARNING: Published ports are discarded when using host network mode");
        }
        Ok(())
    }
}

fn bare(address: &str) -> Option<IpAddr> {
    address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address).parse().ok()
}

fn mode(name: &str) -> NetworkMode {
    match name {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        name => match name.strip_prefix("container:") {
            Some(container) => NetworkMode::Container(container.to_owned()),
            None => NetworkMode::Named(name.to_owned()),
        },
    }
}

/// `--link`: a name, and after a colon what it is called.
///
/// # Errors
/// A name that no line of `/etc/hosts` can have.
pub fn link(text: &str) -> Result<Link> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let container = container.strip_prefix('/').unwrap_or(container);
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !is_name(container) || !is_name(alias) {
        bail!("bad format for links: {text}");
    }
    Ok(Link { container: container.to_owned(), alias: alias.to_owned() })
}

/// A name, or `name=…,alias=…,ip=…,ip6=…,mac-address=…`.
fn attachment(text: &str) -> Result<Attachment> {
    if !text.contains('=') {
        return Ok(Attachment { network: text.to_owned(), ..Attachment::default() });
    }
    let mut found = Attachment::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').with_context(|| format!("invalid field {field}"))?;
        match key.to_ascii_lowercase().as_str() {
            "name" => found.network = value.to_owned(),
            "alias" => found.aliases.push(value.to_owned()),
            "ip" => found.ip = Some(value.parse().with_context(|| format!("invalid IPv4 address: {value}"))?),
            "ip6" => found.ip6 = Some(value.parse().with_context(|| format!("invalid IPv6 address: {value}"))?),
            "mac-address" => {
                parse_mac(value)?;
                found.mac = Some(value.to_owned());
            }
            _ => bail!("invalid field key {key}"),
        }
    }
    if found.network.is_empty() {
        bail!("network name missing in {text:?}");
    }
    Ok(found)
}
