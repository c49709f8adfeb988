//! Somebody else's firewall in the way.

use crate::sys::nftables::{self, BaseChain};
use crate::sys::xtables::Filter;

/// In words, who drops forwarded packets unless told to let them through. `own` is the name of our table.
pub fn obstacle(own: &str, interface: &str) -> Option<String> {
    let (place, advice) = chain_in_the_way(own, interface).or_else(|| older_in_the_way(interface))?;
    Some(format!(
        "the firewall drops forwarded packets ({place}, policy drop): containers may not reach other hosts, nor these \
         published ports; {advice}"
    ))
}

fn chain_in_the_way(own: &str, interface: &str) -> Option<(String, String)> {
    let mut netlink = nftables::open().ok()?;
    let chains = nftables::base_chains(&mut netlink).ok()?;
    let chain = chains.iter().find(|c| is_in_the_way(c, own))?;
    if nftables::mentions(&mut netlink, chain.family, &chain.table, interface).unwrap_or(false) {
        // Somebody has thought of it.
        return None;
    }
    let docker = chains.iter().any(|c| c.name == "DOCKER-USER");
    let first = if docker { "DOCKER-USER" } else { "FORWARD" };
    let advice = match (chain.name.as_str(), chain.family) {
        // What the iptables programs make, and Docker fills.
        ("FORWARD", libc::NFPROTO_IPV4) => advice("iptables", first, interface),
        ("FORWARD", libc::NFPROTO_IPV6) => advice("ip6tables", first, interface),
        _ => format!("let it accept what comes from and goes to the interface {interface}"),
    };
    Some((format!("chain {} of the table {} {}", chain.name, family(chain.family), chain.table), advice))
}

/// The same for the packet filters from before nftables.
fn older_in_the_way(interface: &str) -> Option<(String, String)> {
    [(libc::AF_INET, "iptables-legacy"), (libc::AF_INET6, "ip6tables-legacy")].into_iter().find_map(
        |(family, program)| {
            let filter = Filter::read(family).ok()??;
            let is_in_the_way = filter.drops_forwarded() && !filter.mentions(interface);
            is_in_the_way.then(|| (format!("chain FORWARD of {program}"), advice(program, "FORWARD", interface)))
        },
    )
}

fn advice(program: &str, chain: &str, interface: &str) -> String {
    format!("for example: {program} -I {chain} -i {interface} -j ACCEPT; {program} -I {chain} -o {interface} -j ACCEPT")
}

fn is_in_the_way(chain: &BaseChain, own: &str) -> bool {
    let families = [libc::NFPROTO_INET, libc::NFPROTO_IPV4, libc::NFPROTO_IPV6];
    chain.drops && chain.hook == libc::NF_INET_FORWARD as u32 && families.contains(&chain.family) && chain.table != own
}

fn family(number: i32) -> &'static str {
    match number {
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        _ => "inet",
    }
}
