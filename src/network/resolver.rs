//! A container's `/etc/resolv.conf`.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;

/// What a user says about name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// `--dns`.
    pub servers: Vec<String>,
    /// `--dns-search`; a single `.` is none at all.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// Servers for a host that has none which a container could reach, as Docker's.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The host's file, or that of the host's resolver if the host itself only asks a resolver of its own.
pub fn host_file() -> String {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let text = read("/etc/resolv.conf");
    let servers = words(&text, "nameserver");
    if !servers.is_empty() && servers.iter().all(|s| s == "127.0.0.53") {
        let upstream = read("/run/systemd/resolve/resolv.conf");
        if !upstream.is_empty() {
            return upstream;
        }
    }
    text
}

/// The container's file. In a network of its own it cannot reach what listens on the host's loopback.
pub fn file(host: &str, wishes: &Resolver, shares_network: bool) -> String {
    if *wishes == Resolver::default() && shares_network {
        return host.to_owned();
    }
    let mut servers = wishes.servers.clone();
    if servers.is_empty() {
        servers = words(host, "nameserver");
        if !shares_network {
            servers.retain(|s| is_reachable(s));
        }
        if servers.is_empty() {
            servers = FALLBACK.map(str::to_owned).to_vec();
        }
    }
    let mut search = if wishes.search.is_empty() { words(host, "search") } else { wishes.search.clone() };
    search.retain(|s| s != ".");
    let options = if wishes.options.is_empty() { words(host, "options") } else { wishes.options.clone() };
    let mut text: String = servers.iter().map(|s| format!("nameserver {s}\n")).collect();
    for (key, list) in [("search", search), ("options", options)] {
        if !list.is_empty() {
            text.push_str(&format!("{key} {}\n", list.join(" ")));
        }
    }
    text
}

/// Neither loopback, nor an address that means something only on one of the host's interfaces.
fn is_reachable(server: &str) -> bool {
    match server.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => !v4.is_loopback(),
        Ok(IpAddr::V6(v6)) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        Err(_) => false,
    }
}

fn words(text: &str, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some(key) {
            continue;
        }
        if key == "search" {
            // Only the last one counts.
            found.clear();
        }
        found.extend(words.take_while(|w| !w.starts_with(['#', ';'])).map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_hosts_loopback_are_left_out() {
        let host = "# c\nnameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver ::1\nnameserver fe80::1%eth0\n\
                    search a.example b.example\noptions ndots:2\n";
        let none = Resolver::default();
        assert_eq!(file(host, &none, true), host);
        let own = file(host, &none, false);
        assert_eq!(own, "nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2\n");
        assert_eq!(file("nameserver 127.0.0.53\n", &none, false), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn wishes_replace_what_the_host_has() {
        let wishes = Resolver { servers: vec!["9.9.9.9".into()], search: vec![".".into()], options: vec![] };
        let text = file("nameserver 192.0.2.1\nsearch x\noptions rotate\n", &wishes, false);
        assert_eq!(text, "nameserver 9.9.9.9\noptions rotate\n");
    }
}
