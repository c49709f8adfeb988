//! Names: the part of a container's `/etc/hosts` that says who is in its networks.
//!
//! The file is mounted into the container, so it is changed where it is. What the container has written around our
//! part of it stays. Whoever changes who is in a network tells all members before he lets the ledger go; if he is
//! killed meanwhile, the ledger says so, and the next one does it.

use super::Networks;
use super::ledger::{Endpoint, Ledger, Open};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

const FIRST: &str = "# Names in this container's networks, kept current:\n";
/// A container may write anything there; what is larger is left to it.
const LIMIT: u64 = 1 << 20;
const LAST: &str = "# The end of them.\n";

impl Networks {
    /// Has those who share networks with a container know it by another name.
    pub fn rename(&self, container: &str, name: &str) -> Result<()> {
        if self.endpoints_of(container)?.is_empty() {
            return Ok(());
        }
        let mut open = self.open_ledger()?;
        let mut networks = Vec::new();
        for endpoint in open.ledger.endpoints.iter_mut().filter(|e| e.container == container) {
            // Its own name is the first.
            if let Some(first) = endpoint.names.first_mut() {
                name.clone_into(first);
            }
            networks.push(endpoint.network.clone());
        }
        networks.iter().for_each(|network| open.ledger.owe_names(network));
        open.save()?;
        self.tell_names(&mut open)
    }

    /// Tells the members of networks whose names are due, and notes that.
    pub(super) fn tell_names(&self, open: &mut Open) -> Result<()> {
        let due = std::mem::take(&mut open.ledger.names_due);
        let ledger = &open.ledger;
        let mut members: Vec<&str> =
            ledger.endpoints.iter().filter(|e| due.contains(&e.network)).map(|e| e.container.as_str()).collect();
        members.sort_unstable();
        members.dedup();
        for container in members {
            own(self, container, ledger)?;
        }
        if due.is_empty() { Ok(()) } else { open.save() }
    }
}

/// Writes the names that a container has for itself, and of those that it shares networks with.
pub(super) fn own(networks: &Networks, container: &str, ledger: &Ledger) -> Result<()> {
    let elsewhere = ledger.endpoints.iter().find(|e| e.container == container).and_then(|e| e.hosts.clone());
    update(&elsewhere.unwrap_or_else(|| networks.hosts_file(container)), ledger, container)
}

fn update(path: &Path, ledger: &Ledger, container: &str) -> Result<()> {
    let what = || format!("write the names of networks to {}", path.display());
    let mut file = match File::options().read(true).write(true).open(path) {
        // It has ended meanwhile.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(what)?,
    };
    let mut old = Vec::new();
    file.by_ref().take(LIMIT + 1).read_to_end(&mut old).with_context(what)?;
    if old.len() as u64 > LIMIT {
        return Ok(());
    }
    let old = String::from_utf8_lossy(&old).into_owned();
    let mut new = merged(&old, &lines(ledger, container));
    if new == old {
        return Ok(());
    }
    let length = new.len() as u64;
    // A reader in the middle of this sees whole lines: empty ones where the file becomes shorter.
    while new.len() < old.len() {
        new.push('\n');
    }
    file.write_all_at(new.as_bytes(), 0).and_then(|()| file.set_len(length)).with_context(what)
}

/// The file with our part replaced, or added at the end.
fn merged(old: &str, ours: &str) -> String {
    let (before, after) = match old.split_once(FIRST) {
        Some((before, rest)) => (before, rest.split_once(LAST).map_or("", |(_, after)| after)),
        None => (old, ""),
    };
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    match ours {
        "" => format!("{before}{after}"),
        _ => format!("{before}{gap}{FIRST}{ours}{LAST}{after}"),
    }
}

fn lines(ledger: &Ledger, container: &str) -> String {
    let mut text = String::new();
    let mut line = |address: IpAddr, names: &[String]| {
        if !names.is_empty() {
            text.push_str(&format!("{address}\t{}\n", names.join(" ")));
        }
    };
    let addresses = |e: &Endpoint| [Some(IpAddr::from(e.v4)), e.v6.map(IpAddr::from)].into_iter().flatten();
    let mine: Vec<&Endpoint> = ledger.endpoints.iter().filter(|e| e.container == container).collect();
    for endpoint in &mine {
        addresses(endpoint).for_each(|a| line(a, &endpoint.own_names));
    }
    for endpoint in &mine {
        let Some(bridge) = ledger.bridges.get(&endpoint.network).filter(|b| b.named) else { continue };
        let members = || ledger.endpoints.iter().filter(|e| e.network == endpoint.network);
        members().for_each(|member| addresses(member).for_each(|a| line(a, &member.names)));
        // After the others: what a container is called comes before what another one calls itself. And apart: there are
        // readers that know lines up to 512 bytes only.
        for member in members() {
            let host = member.own_names.last().filter(|name| !member.names.contains(name));
            let full = member.names.iter().chain(host).map(|name| format!("{name}.{}", bridge.network));
            let more: Vec<String> = host.cloned().into_iter().chain(full).collect();
            addresses(member).for_each(|a| line(a, &more));
        }
    }
    for endpoint in &mine {
        for link in &endpoint.links {
            let is_meant = |e: &&Endpoint| e.container == link.container || e.names.contains(&link.container);
            let Some(member) = ledger.endpoints.iter().filter(|e| e.network == endpoint.network).find(is_meant) else {
                continue;
            };
            let mut names = vec![link.alias.clone()];
            // Its name and its short id, by which the members of users' networks are known anyway.
            names.extend(member.names.iter().take(2).filter(|name| **name != link.alias).cloned());
            addresses(member).for_each(|a| line(a, &names));
        }
    }
    for endpoint in &mine {
        if let Some(bridge) = ledger.bridges.get(&endpoint.network) {
            line(bridge.v4.gateway.into(), &endpoint.host_names);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_wrote_around_our_part_stays() {
        let first = merged("127.0.0.1\tlocalhost\n", "10.0.0.2\ta\n");
        assert_eq!(first, format!("127.0.0.1\tlocalhost\n{FIRST}10.0.0.2\ta\n{LAST}"));
        let edited = format!("# mine\n{first}1.2.3.4\tx\n");
        let second = merged(&edited, "10.0.0.2\ta\n10.0.0.3\tb\n");
        assert!(second.starts_with("# mine\n127") && second.ends_with("1.2.3.4\tx\n"), "{second}");
        assert_eq!(second.matches("10.0.0.2").count(), 1);
        assert_eq!(merged(&second, ""), "# mine\n127.0.0.1\tlocalhost\n1.2.3.4\tx\n");
        assert_eq!(merged("no line end", "a\n"), format!("no line end\n{FIRST}a\n{LAST}"));
    }
}
