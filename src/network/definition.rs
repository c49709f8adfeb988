//! What users' networks are, as they asked for them.

use super::options::Options;
use super::{DEFAULT, Networks, digest};
use crate::journal;
use crate::layout::Root;
use crate::layout::mkdir_all;
use crate::sys::file::{Durability, Lock, LockMode, read_limited, write_atomic};
use crate::sys::random;
use anyhow::{Context, Result, anyhow, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The version of the form that this program writes and reads.
const VERSION: u32 = 1;

/// A network as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Of the form.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among the networks of a store.
    pub name: String,
    /// RFC 3339; empty for the networks that are always there.
    pub created: String,
    /// `bridge`, or `host` and `null` for the two that are none.
    pub driver: String,
    /// No way out, and none in.
    pub internal: bool,
    /// IPv6 addresses too, if the host has any.
    pub ipv6: bool,
    /// Chosen when the bridge is made if there is none.
    pub v4: Option<Range<Ipv4Net, Ipv4Addr>>,
    /// Likewise.
    pub v6: Option<Range<Ipv6Net, Ipv6Addr>>,
    /// The largest packet; 0 is the kernel's choice.
    #[serde(default)]
    pub mtu: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, as given.
    pub options: BTreeMap<String, String>,
    /// Addresses that no container is given, by what the user calls their owners.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Definition {
    /// Writes down what happens to it: `create`, `destroy`, and with a container's id `connect` and `disconnect`.
    pub fn tell(&self, root: &Root, action: &str, container: Option<&str>) {
        let own = [("name", self.name.as_str()), ("type", &self.driver)];
        let all = own.into_iter().chain(container.map(|id| ("container", id)));
        let attributes = all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        journal::record(root, "network", action, &self.id, attributes);
    }
}

/// A subnet with its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range<Net, Address> {
    /// All addresses.
    pub subnet: Net,
    /// The bridge's own.
    pub gateway: Address,
    /// Those that are given to containers that ask for none in particular.
    pub pool: Option<Net>,
}

/// What a user says about a new network.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `--subnet`, at most one of each family.
    pub subnets: Vec<IpNet>,
    /// `--gateway`.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`.
    pub ranges: Vec<IpNet>,
    /// `--aux-address`, by name.
    pub reserved: BTreeMap<String, IpAddr>,
    /// `--internal`.
    pub internal: bool,
    /// Not with `--ipv6=false`.
    pub ipv6: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
}

/// What the user named is not there.
#[derive(Debug)]
pub struct NoSuchNetwork(pub String);

impl std::fmt::Display for NoSuchNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "No such network: {}", self.0)
    }
}

impl std::error::Error for NoSuchNetwork {}

/// The definition of a network cannot be read.
#[derive(Debug)]
struct Damaged(String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

impl Networks {
    /// The three that are always there.
    pub fn predefined(&self) -> [Definition; 3] {
        [self.fixed(DEFAULT, "bridge"), self.fixed("host", "host"), self.fixed("none", "null")]
    }

    fn fixed(&self, name: &str, driver: &str) -> Definition {
        Definition {
            version: VERSION,
            id: digest(format!("{}\0{name}", self.root.path().display()).as_bytes()),
            name: name.to_owned(),
            created: String::new(),
            driver: driver.to_owned(),
            internal: false,
            ipv6: driver == "bridge",
            v4: None,
            v6: None,
            mtu: 0,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            reserved: BTreeMap::new(),
        }
    }

    /// All networks, by name. One whose definition is damaged is none; [`Networks::remove`] takes it away.
    pub fn list(&self) -> Result<Vec<Definition>> {
        let mut found = self.predefined().to_vec();
        match std::fs::read_dir(self.folder()) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).context("list the networks"),
            Ok(entries) => {
                let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
                for name in names.filter_map(|n| n.strip_suffix(".json").map(str::to_owned)) {
                    match self.read(&name) {
                        Err(error) if error.is::<Damaged>() => {}
                        other => found.extend(other?),
                    }
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Finds a network by its name, its id or the unique beginning of its id.
    ///
    /// # Errors
    /// [`NoSuchNetwork`], or a beginning that fits several.
    pub fn find(&self, text: &str) -> Result<Definition> {
        if let Some(found) = self.predefined().into_iter().find(|d| d.name == text) {
            return Ok(found);
        }
        if is_name(text)
            && let Some(found) = self.read(text)?
        {
            return Ok(found);
        }
        let mut matching = self.list()?.into_iter().filter(|d| !text.is_empty() && d.id.starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => bail!("network {text} is ambiguous: several ids begin so"),
            _ => Err(anyhow!(NoSuchNetwork(text.to_owned()))),
        }
    }

    /// Makes a network.
    ///
    /// # Errors
    /// A name that is taken; addresses that do not fit together, or with those of other networks.
    pub fn create(&self, name: &str, wishes: Wishes) -> Result<Definition> {
        if !is_name(name) {
            bail!("Invalid network name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed");
        }
        if ["default", "container"].contains(&name) {
            bail!("operation is not permitted on predefined {name} network");
        }
        mkdir_all(&self.folder())?;
        let lock = self.folder().join(".lock");
        let _alone = Lock::wait(&lock, LockMode::Exclusive).context("lock the networks")?;
        let others = self.list()?;
        if others.iter().any(|d| d.name == name) || self.read(name)?.is_some() {
            bail!("network with name {name} already exists");
        }
        Options::refuse_unknown(&wishes.options)?;
        let options = Options::read(&wishes.options)?;
        let mut definition = Definition {
            version: VERSION,
            id: random::hex::<32>(),
            name: name.to_owned(),
            created: jiff::Timestamp::now().to_string(),
            driver: "bridge".into(),
            internal: wishes.internal,
            ipv6: wishes.ipv6,
            v4: None,
            v6: None,
            mtu: options.mtu,
            labels: wishes.labels.clone(),
            options: wishes.options.clone(),
            reserved: wishes.reserved.clone(),
        };
        if let Some(bridge) = &options.bridge {
            self.refuse_foreign(bridge, &others)?;
        }
        ranges(&mut definition, &wishes)?;
        if definition.v4.is_none() {
            definition.v4 = Some(self.free_subnet(&others)?);
        }
        if let Some(other) = others.iter().find(|o| overlap(o, &definition)) {
            bail!("Pool overlaps with other one on this address space: the network {} has it", other.name);
        }
        let json = serde_json::to_vec(&definition).context("write the network's definition")?;
        let path = self.folder().join(format!("{name}.json"));
        write_atomic(&path, &json, Durability::Synced).with_context(|| format!("write {}", path.display()))?;
        Ok(definition)
    }

    /// Removes a user's network, with its bridge.
    ///
    /// # Errors
    /// One that is always there, or has containers running in it.
    pub fn remove(&self, text: &str) -> Result<Definition> {
        let _alone = match Lock::wait(&self.folder().join(".lock"), LockMode::Exclusive) {
            // Without a folder there are no networks of users.
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            other => Some(other.context("lock the networks")?),
        };
        let found = match self.find(text) {
            Err(error) if error.is::<Damaged>() => self.fixed(text, "bridge"),
            other => other?,
        };
        if self.predefined().iter().any(|d| d.name == found.name) {
            bail!("{} is a pre-defined network and cannot be removed", found.name);
        }
        let path = self.folder().join(format!("{}.json", found.name));
        self.take_down(&found, &|| std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display())))?;
        Ok(found)
    }

    /// Whether a network is still the one that was found.
    pub(super) fn is_there(&self, found: &Definition) -> Result<bool> {
        let is_fixed = self.predefined().iter().any(|d| d.id == found.id);
        Ok(is_fixed || self.read(&found.name)?.is_some_and(|d| d.id == found.id))
    }

    fn read(&self, name: &str) -> Result<Option<Definition>> {
        let path = self.folder().join(format!("{name}.json"));
        let text = match read_limited(&path, 1 << 20) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        let found: Definition = serde_json::from_slice(&text)
            .map_err(|error| anyhow!(error).context(Damaged(format!("{} is damaged", path.display()))))?;
        if found.version != VERSION || found.name != name {
            bail!("{} is no network that this version of minirun knows", path.display());
        }
        Ok(Some(found))
    }

    fn folder(&self) -> PathBuf {
        self.root.join("networks")
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text.len() <= 200
}

/// Puts the user's subnets, gateways and ranges together.
fn ranges(definition: &mut Definition, wishes: &Wishes) -> Result<()> {
    for subnet in &wishes.subnets {
        let gateways: Vec<IpAddr> = wishes.gateways.iter().copied().filter(|g| subnet.contains(g)).collect();
        let pools: Vec<IpNet> = wishes.ranges.iter().copied().filter(|r| subnet.contains(r)).collect();
        if gateways.len() > 1 || pools.len() > 1 {
            bail!("the subnet {subnet} can have one gateway and one range");
        }
        let (gateway, pool) = (gateways.first(), pools.first());
        match subnet {
            IpNet::V4(_) if definition.v4.is_some() => bail!("a network has one IPv4 subnet"),
            IpNet::V4(net) => {
                if net.prefix_len() > 30 {
                    bail!("the subnet {net} has no room for a gateway and a container");
                }
                let gateway = match gateway {
                    Some(IpAddr::V4(given)) => *given,
                    _ => first_v4(net.trunc()),
                };
                let pool = pool.and_then(|p| if let IpNet::V4(p) = p { Some(p.trunc()) } else { None });
                definition.v4 = Some(Range { subnet: net.trunc(), gateway, pool });
            }
            IpNet::V6(_) if definition.v6.is_some() => bail!("a network has one IPv6 subnet"),
            IpNet::V6(net) => {
                if net.prefix_len() > 120 {
                    bail!("the subnet {net} is too small: an IPv6 subnet is a /120 at least");
                }
                let gateway = match gateway {
                    Some(IpAddr::V6(given)) => *given,
                    _ => Ipv6Addr::from(u128::from(net.network()) + 1),
                };
                definition.v6 = Some(Range { subnet: net.trunc(), gateway, pool: None });
                definition.ipv6 = true;
            }
        }
    }
    let fits = |a: &IpAddr| wishes.subnets.iter().any(|s| s.contains(a));
    if let Some(stray) = wishes.gateways.iter().find(|g| !fits(g)) {
        bail!("no matching subnet for gateway {stray}");
    }
    if let Some(stray) = wishes.reserved.values().find(|r| !fits(r)) {
        bail!("no matching subnet for aux-address {stray}");
    }
    let v4 = definition.v4.map(|range| IpAddr::V4(range.gateway));
    let v6 = definition.v6.map(|range| IpAddr::V6(range.gateway));
    if let Some(taken) = wishes.reserved.values().find(|r| v4 == Some(**r) || v6 == Some(**r)) {
        bail!("the aux-address {taken} is the gateway's");
    }
    if let Some(stray) = wishes.ranges.iter().find(|r| !wishes.subnets.iter().any(|s| s.contains(*r))) {
        bail!("no matching subnet for range {stray}");
    }
    Ok(())
}

/// The first address of a subnet that a host may have.
pub(super) fn first_v4(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + 1)
}

fn overlap(a: &Definition, b: &Definition) -> bool {
    let v4 = a.v4.zip(b.v4).is_some_and(|(a, b)| touch(a.subnet.into(), b.subnet.into()));
    v4 || a.v6.zip(b.v6).is_some_and(|(a, b)| touch(a.subnet.into(), b.subnet.into()))
}

/// Whether two subnets have addresses in common.
pub(super) fn touch(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
