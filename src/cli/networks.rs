//! `network …`.

use super::confirm::confirm;
use super::filter::Filters;
use super::image_list::until;
use super::network_options::link;
use super::template::Format;
use super::{App, client_config, environment, inspect, local, output};
use crate::container::connection::networks;
use crate::container::containers::Containers;
use crate::network::definition::{Definition, NoSuchNetwork, Wishes};
use crate::network::endpoint::Attachment;
use crate::network::ledger::Ledger;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The commands about networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make a network
    Create(CreateArgs),
    /// List networks
    #[command(alias = "list")]
    Ls(ListArgs),
    /// Show details of networks
    Inspect(InspectArgs),
    /// Remove networks
    #[command(alias = "remove")]
    Rm(RemoveArgs),
    /// Remove all networks that no container uses
    Prune(PruneArgs),
    /// Connect a container to a network
    Connect(ConnectArgs),
    /// Take a container out of a network
    Disconnect(DisconnectArgs),
    /// Tell by the exit status whether there is a network
    Exists(ExistsArgs),
}

/// `network create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    attachable: bool,
    /// Give this address to no container that does not ask for another (name=address)
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// The kind of network: only bridge
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// The host's address in it
    #[arg(long)]
    gateway: Vec<IpAddr>,
    /// No way out, and none in
    #[arg(long)]
    internal: bool,
    /// Give containers addresses of this part of the subnet
    #[arg(long)]
    ip_range: Vec<IpNet>,
    /// Where addresses come from: only default
    #[arg(long, hide = true, default_value = "default")]
    ipam_driver: String,
    /// IPv6 addresses too
    #[arg(long, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    ipv6: bool,
    /// Set a label (name=value)
    #[arg(long)]
    label: Vec<String>,
    /// Set an option of the driver (mtu=1400, com.docker.network.bridge.name=…)
    #[arg(short, long)]
    opt: Vec<String>,
    /// Where it is known: only local
    #[arg(long, hide = true, default_value = "local")]
    scope: String,
    /// Its addresses, such as 10.1.2.0/24
    #[arg(long)]
    subnet: Vec<IpNet>,
    /// Its name
    name: String,
}

/// `network ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some (name=…, id=…, driver=…, label=…, type=custom|builtin, dangling=…)
    #[arg(short, long)]
    filter: Vec<String>,
    /// A template, `json`, or `table` with a template
    #[arg(long, default_value = "")]
    format: String,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

/// `network inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A template for each network
    #[arg(short, long)]
    format: Option<String>,
    /// Accepted for compatibility
    #[arg(short, long, hide = true)]
    verbose: bool,
    /// Names or ids
    #[arg(required = true)]
    networks: Vec<String>,
}

/// `network rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true)]
    networks: Vec<String>,
}

/// `network prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only some (until=24h, label=…)
    #[arg(long)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// `network connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// A further name for it there
    #[arg(long)]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<Ipv6Addr>,
    /// Have it know a container there by another name (NAME[:ALIAS])
    #[arg(long)]
    link: Vec<String>,
    /// Name or id
    network: String,
    /// Name or id
    container: String,
}

/// `network disconnect`.
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// Accepted for compatibility
    #[arg(short, long, hide = true)]
    force: bool,
    /// Name or id
    network: String,
    /// Name or id
    container: String,
}

/// `network exists`.
#[derive(Debug, Args)]
pub struct ExistsArgs {
    /// Name or id
    network: String,
}

/// `minirun network`.
pub fn run(app: &App, command: &NetworkCommand) -> Result<u8> {
    match command {
        NetworkCommand::Create(a) => create(app, a),
        NetworkCommand::Ls(a) => list(app, a),
        NetworkCommand::Inspect(a) => inspect(app, a),
        NetworkCommand::Rm(a) => remove(app, a),
        NetworkCommand::Prune(a) => prune(app, a),
        NetworkCommand::Connect(a) => connect(app, a),
        NetworkCommand::Disconnect(a) => {
            Containers::open(&app.root).find(&a.container)?.leave_network(&a.network)?;
            Ok(0)
        }
        NetworkCommand::Exists(a) => match networks(&app.root).find(&a.network) {
            Ok(_) => Ok(0),
            Err(error) if error.is::<NoSuchNetwork>() => Ok(1),
            Err(error) => Err(error),
        },
    }
}

fn create(app: &App, args: &CreateArgs) -> Result<u8> {
    if args.driver != "bridge" {
        bail!("plugin \"{}\" not found: this version knows the driver bridge", args.driver);
    }
    if args.ipam_driver != "default" {
        bail!(
            "could not resolve driver {:?} in ipam registry: this version knows the driver default",
            args.ipam_driver
        );
    }
    if args.scope != "local" {
        bail!("networks of the scope {:?} are not supported: this version knows the scope local", args.scope);
    }
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    let wishes = Wishes {
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        ranges: args.ip_range.clone(),
        reserved: args.aux_address.iter().map(|text| reserved(text)).collect::<Result<_>>()?,
        internal: args.internal,
        ipv6: args.ipv6,
        labels: environment::labels(&args.label, &[])?,
        options: args.opt.iter().map(pair).collect(),
    };
    let made = networks(&app.root).create(&args.name, wishes)?;
    made.tell(&app.root, "create", None);
    output::line(&made.id)?;
    Ok(0)
}

/// `--aux-address`.
fn reserved(text: &str) -> Result<(String, IpAddr)> {
    let (name, address) =
        text.split_once('=').with_context(|| format!("invalid aux-address {text:?}: name=address"))?;
    Ok((name.to_owned(), address.parse().with_context(|| format!("invalid aux-address {text:?}"))?))
}

const COLUMNS: [(&str, &str); 8] = [
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

fn list(app: &App, args: &ListArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["name", "id", "driver", "label", "type", "scope", "dangling"])?;
    if let Some(bad) = filters.get("type").iter().find(|kind| !["builtin", "custom"].contains(&kind.as_str())) {
        bail!("invalid filter 'type={bad}'");
    }
    let template = client_config::format(&args.format, args.quiet, |config| &config.networks_format);
    let format = Format::parse(template, &COLUMNS, &["ID", "Name", "Driver", "Scope"])?;
    let used = used_networks(app)?;
    let dangling = filters.flag("dangling")?;
    let networks = networks(&app.root);
    let ledger = networks.ledger()?;
    let all = networks.list()?.into_iter().filter(|d| {
        let kind = if is_predefined(d) { "builtin" } else { "custom" };
        filters.allows_name(&d.name)
            && filters.allows_by("id", |wanted| d.id.starts_with(wanted))
            && filters.allows("driver", &d.driver)
            && filters.allows("scope", "local")
            && filters.allows("type", kind)
            && filters.allows_labels(&d.labels)
            && dangling.is_none_or(|wanted| wanted == (!is_predefined(d) && !used.contains_key(&d.name)))
    });
    let id = |d: &Definition| if args.no_trunc { d.id.clone() } else { d.id[..12].to_owned() };
    if args.quiet {
        output::print(&all.map(|d| id(&d) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let row = |d: Definition| {
        let labels: Vec<String> = d.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        json!({
            "ID": id(&d), "Name": d.name, "Driver": d.driver, "Scope": "local", "IPv6": networks.range_v6(&d, &ledger).is_some().to_string(),
            "Internal": d.internal.to_string(), "Labels": labels.join(","), "CreatedAt": d.created.parse().map(local::full).unwrap_or_default(),
        })
    };
    output::print(&format.rows(&all.map(row).collect::<Vec<_>>())?)?;
    Ok(0)
}

fn is_predefined(definition: &Definition) -> bool {
    definition.created.is_empty()
}

/// The networks that containers, running or not, shall be in, with these.
fn used_networks(app: &App) -> Result<BTreeMap<String, Vec<String>>> {
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = networks(&app.root).list()?;
    for container in Containers::open(&app.root).list()?.0 {
        for attachment in &container.record.networks {
            let names = all.iter().filter(|d| d.name == attachment.network || d.id == attachment.network);
            for name in names.map(|d| d.name.clone()) {
                used.entry(name).or_default().push(container.record.id.clone());
            }
        }
    }
    Ok(used)
}

fn inspect(app: &App, args: &InspectArgs) -> Result<u8> {
    let (mut found, mut status) = (Vec::new(), 0);
    let networks = networks(&app.root);
    let ledger = networks.ledger()?;
    for name in &args.networks {
        match networks.find(name) {
            Ok(definition) => found.push(document(app, &definition, &ledger)),
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    inspect::show(found, args.format.as_deref())?;
    Ok(status)
}

/// The document of the network with this name or id.
///
/// # Errors
/// There is none.
pub(super) fn document_of(app: &App, name: &str) -> Result<Value> {
    let networks = networks(&app.root);
    Ok(document(app, &networks.find(name)?, &networks.ledger()?))
}

fn document(app: &App, definition: &Definition, ledger: &Ledger) -> Value {
    let networks = networks(&app.root);
    let (v4, v6) = (networks.range_v4(definition, ledger), networks.range_v6(definition, ledger));
    let range = |subnet: IpNet, gateway: String, pool: Option<String>| {
        let mut range = json!({ "Subnet": subnet.to_string(), "Gateway": gateway });
        let reserved = definition.reserved.iter().filter(|(_, address)| subnet.contains(*address));
        let reserved: Map<String, Value> =
            reserved.map(|(n, address)| (n.clone(), address.to_string().into())).collect();
        if !reserved.is_empty() {
            range["AuxiliaryAddresses"] = reserved.into();
        }
        if let Some(pool) = pool {
            range["IPRange"] = pool.into();
        }
        range
    };
    let mut ranges = Vec::new();
    ranges.extend(v4.map(|r| range(r.subnet.into(), r.gateway.to_string(), r.pool.map(|p| p.to_string()))));
    ranges.extend(v6.map(|r| range(r.subnet.into(), r.gateway.to_string(), None)));
    let mut containers = Map::new();
    let all = Containers::open(&app.root);
    for endpoint in ledger.endpoints.iter().filter(|e| e.network == definition.id) {
        let Ok(container) = all.find(&endpoint.container) else { continue };
        let prefix = |length: Option<u8>| length.unwrap_or(0);
        let (p4, p6) = (v4.map(|r| r.subnet.prefix_len()), v6.map(|r| r.subnet.prefix_len()));
        let one = json!({
            "Name": container.record.name,
            "EndpointID": endpoint.container,
            "MacAddress": endpoint.mac,
            "IPv4Address": format!("{}/{}", endpoint.v4, prefix(p4)),
            "IPv6Address": endpoint.v6.map(|a| format!("{a}/{}", prefix(p6))).unwrap_or_default(),
        });
        containers.insert(endpoint.container.clone(), one);
    }
    let mut options: BTreeMap<String, String> = definition.options.clone();
    if definition.driver == "bridge" {
        let bridge = ledger.bridges.get(&definition.id).map(|bridge| bridge.interface.clone());
        let name = bridge.unwrap_or_else(|| networks.interface_of(definition));
        options.insert("com.docker.network.bridge.name".into(), name);
    }
    json!({
        "Name": definition.name,
        "Id": definition.id,
        "Created": if definition.created.is_empty() { "0001-01-01T00:00:00Z" } else { &definition.created },
        "Scope": "local",
        "Driver": definition.driver,
        "EnableIPv6": v6.is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": ranges },
        "Internal": definition.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": options,
        "Labels": definition.labels,
    })
}

fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    let mut status = 0;
    for name in &args.networks {
        match networks(&app.root).remove(name) {
            Ok(removed) => {
                removed.tell(&app.root, "destroy", None);
                output::line(name)?;
            }
            Err(error) if args.force && error.is::<NoSuchNetwork>() => {}
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}

fn prune(app: &App, args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?;
    let fits = by(&filters)?;
    if args.force || confirm("This will remove all custom networks not used by at least one container.")? {
        output::print(&told(&take(app, &fits)?))?;
    }
    Ok(0)
}

/// Whether a network fits the filters of a prune.
pub fn by(filters: &Filters) -> Result<impl Fn(&Definition) -> bool + use<'_>> {
    let moments = filters.get("until").iter().map(|text| until(text)).collect::<Result<Vec<Timestamp>>>()?;
    Ok(move |definition: &Definition| {
        let made: Option<Timestamp> = definition.created.parse().ok();
        moments.iter().all(|moment| made.is_none_or(|made| made < *moment)) && filters.allows_labels(&definition.labels)
    })
}

/// Removes the networks that no container is in, running or not, and returns their names.
pub fn take(app: &App, fits: &dyn Fn(&Definition) -> bool) -> Result<Vec<String>> {
    let used = used_networks(app)?;
    let networks = networks(&app.root);
    let mut gone = Vec::new();
    for definition in networks.list()? {
        let is_used = is_predefined(&definition) || used.contains_key(&definition.name);
        if is_used || !fits(&definition) {
            continue;
        }
        match networks.remove(&definition.name) {
            Ok(removed) => {
                removed.tell(&app.root, "destroy", None);
                gone.push(removed.name);
            }
            Err(error) => output::complain(&error),
        }
    }
    networks.release_idle()?;
    Ok(gone)
}

/// What a prune says of networks, with an empty line at the end if there is anything.
pub fn told(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("Deleted Networks:\n{}\n\n", names.join("\n")),
    }
}

fn connect(app: &App, args: &ConnectArgs) -> Result<u8> {
    let attachment = Attachment {
        network: args.network.clone(),
        ip: args.ip,
        ip6: args.ip6,
        mac: None,
        aliases: args.alias.clone(),
        links: args.link.iter().map(|text| link(text)).collect::<Result<_>>()?,
    };
    Containers::open(&app.root).find(&args.container)?.join_network(attachment)?;
    Ok(0)
}
