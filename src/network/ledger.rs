//! Who has which address and which port: one small file that is changed under a lock.

use super::Networks;
use super::definition::Range;
use super::endpoint::Link;
use super::ports::Published;
use crate::layout::mkdir_all;
use crate::sys::file::{Durability, Lock, LockMode, read_limited, write_atomic};
use anyhow::{Context, Result};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// What `state.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The bridges that were made since the host came up, by their networks' ids.
    pub bridges: BTreeMap<String, Bridge>,
    /// The places of running containers in networks.
    pub endpoints: Vec<Endpoint>,
    /// Where the search for a free port goes on.
    pub next_port: u16,
    /// Networks whose members have not all been told the names yet.
    pub names_due: Vec<String>,
}

/// A network that has a bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bridge {
    /// Its network's name.
    pub network: String,
    /// Its interface.
    pub interface: String,
    /// IPv4.
    pub v4: Range<Ipv4Net, Ipv4Addr>,
    /// IPv6, where the host has it.
    pub v6: Option<Range<Ipv6Net, Ipv6Addr>>,
    /// No way out, and none in.
    pub internal: bool,
    /// Its members know one another by name.
    pub named: bool,
    /// The largest packet; 0 is the kernel's choice.
    pub mtu: u32,
    /// Where ports are published that are given no address; everywhere if there is none.
    #[serde(default)]
    pub binding: Option<Ipv4Addr>,
    /// Its members do not reach one another.
    #[serde(default)]
    pub apart: bool,
    /// What goes out has its sender's address.
    #[serde(default)]
    pub unmasked: bool,
    /// What its interfaces in containers are called, before their numbers.
    #[serde(default = "eth")]
    pub prefix: String,
    /// Where the search for a free address goes on: an address is not used again at once, because who had it before
    /// is still being taken away by the kernel.
    pub next: u32,
    /// Its interface has all that it needs. Otherwise whoever was making it was killed, and it is made anew.
    #[serde(default)]
    pub is_whole: bool,
}

fn eth() -> String {
    "eth".into()
}

/// The place of a running container in a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The container's id.
    pub container: String,
    /// The network's id.
    pub network: String,
    /// Its interface in the container.
    pub interface: String,
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Hardware address in hexadecimal, with colons.
    pub mac: String,
    /// Under which names others know it here.
    pub names: Vec<String>,
    /// What it calls itself.
    pub own_names: Vec<String>,
    /// What it calls the host.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// What it calls others in the network.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Its file of names, if that is not where those of containers are.
    #[serde(default)]
    pub hosts: Option<PathBuf>,
    /// The ports that lead to it.
    pub ports: Vec<Published>,
}

/// The ledger, with its lock.
#[derive(Debug)]
pub struct Open {
    /// To be changed, and then written by [`Open::save`].
    pub ledger: Ledger,
    path: PathBuf,
    written: Vec<u8>,
    _lock: Lock,
}

impl Networks {
    /// Several stores may have their state in one place.
    fn ledger_folder(&self) -> PathBuf {
        self.root.state().join(format!("network-{}", self.tag()))
    }

    /// Whether anything of a network is there since the host came up.
    pub fn in_use(&self) -> bool {
        self.ledger_folder().exists()
    }

    /// Opens the ledger to change it.
    pub(super) fn open_ledger(&self) -> Result<Open> {
        let folder = self.ledger_folder();
        let lock = loop {
            mkdir_all(&folder)?;
            match Lock::wait(&folder.join("lock"), LockMode::Exclusive) {
                // Whoever took the last bridge away took the folder too.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => {
                    let lock = other.context("lock the networks")?;
                    if lock.is_of(&folder.join("lock")) {
                        break lock;
                    }
                }
            }
        };
        let path = folder.join("state.json");
        let (ledger, written) = read(&path)?;
        Ok(Open { ledger, path, written, _lock: lock })
    }

    /// What the ledger says now.
    pub fn ledger(&self) -> Result<Ledger> {
        Ok(read(&self.ledger_folder().join("state.json"))?.0)
    }

    /// The places of a running container, in the order in which it got them.
    pub fn endpoints_of(&self, container: &str) -> Result<Vec<Endpoint>> {
        let mut endpoints = self.ledger()?.endpoints;
        endpoints.retain(|e| e.container == container);
        Ok(endpoints)
    }
}

fn read(path: &std::path::Path) -> Result<(Ledger, Vec<u8>)> {
    let text = match read_limited(path, 64 << 20) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Default::default()),
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    // It says what is in the kernel, no more: without it everything is made anew.
    Ok((serde_json::from_slice(&text).unwrap_or_default(), text))
}

impl Ledger {
    /// The members of this network are to be told who is in it, if they want to know.
    pub(super) fn owe_names(&mut self, network: &str) {
        let named = self.bridges.get(network).is_some_and(|b| b.named);
        let has_links = || self.endpoints.iter().any(|e| e.network == network && !e.links.is_empty());
        if (named || has_links()) && !self.names_due.iter().any(|n| n == network) {
            self.names_due.push(network.to_owned());
        }
    }
}

impl Open {
    /// Writes it down.
    pub fn save(&mut self) -> Result<()> {
        let json = serde_json::to_vec(&self.ledger).context("write down the networks' state")?;
        if json != self.written {
            write_atomic(&self.path, &json, Durability::Atomic)
                .with_context(|| format!("write {}", self.path.display()))?;
            self.written = json;
        }
        Ok(())
    }

    /// Removes the folder: there is nothing left to write down. Writers that were killed may have left more in it than
    /// the file; whoever has the lock is the only writer.
    pub fn remove(self) {
        let Some(folder) = self.path.parent() else { return };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.file_name() != "lock") {
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_file(folder.join("lock"));
        let _ = std::fs::remove_dir(folder);
    }
}
