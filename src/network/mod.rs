//! Networks: bridges, addresses, published ports, and the names of those who share a network.
//!
//! ```text
//! <root>/networks/<name>.json         what a user's network is                          (definition)
//! <state>/network-<tag>/lock          held while the following is changed
//!                       state.json    bridges that are there, endpoints, ports          (ledger)
//! <state>/<id>/hosts                  names, kept current as long as its container runs  (names)
//! ```
//!
//! What is in the kernel follows from that file: a bridge for every network that was ever used since the host came
//! up, one table of packet filters for all of them (`rules`), and a pair of interfaces for every endpoint (`plug`).
//! All of it is made when it is missed, so a reboot or somebody else's clean-up costs nothing but the time to make it.
//! The kernel removes pairs with their network namespaces; nobody waits for that.
//!
//! Several stores may be at work on one host: the names of bridge and table are made of the store's path, and a
//! network without a subnet of its own gets one that no route of the host leads to.

pub mod bridge;
pub mod definition;
pub mod endpoint;
pub mod firewall;
mod flows;
pub mod holder;
pub mod ledger;
pub mod names;
pub mod options;
pub mod plug;
pub mod ports;
pub mod resolver;
pub mod rules;

use crate::layout::Root;
use std::path::{Path, PathBuf};

/// The network of containers that ask for none in particular.
pub const DEFAULT: &str = "bridge";

/// The networks of a store.
#[derive(Clone, Debug)]
pub struct Networks {
    root: Root,
    alive: Alive,
}

/// Whether a container of the store has a supervisor.
pub type Alive = fn(&Root, &str) -> bool;

impl Networks {
    /// The networks of `root`.
    pub fn open(root: &Root, alive: Alive) -> Networks {
        Networks { root: root.clone(), alive }
    }

    /// The name of the default network's bridge, and of the table of packet filters.
    pub fn tag(&self) -> String {
        tag(self.root.path())
    }

    fn hosts_file(&self, container: &str) -> PathBuf {
        self.root.state().join(container).join("hosts")
    }
}

/// What the store at `root` calls the default network's bridge, and its table of packet filters.
pub fn tag(root: &Path) -> String {
    match root.to_str() {
        Some("/var/lib/minirun") => "minirun0".into(),
        _ => format!("mr-{}", &digest(root.as_os_str().as_encoded_bytes())[..8]),
    }
}

/// 64 hexadecimal digits that follow from these bytes.
fn digest(bytes: &[u8]) -> String {
    crate::sys::file::hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
