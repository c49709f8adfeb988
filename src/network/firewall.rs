//! Somebody else's firewall in the way.

use crate::sys::nftables::{self, BaseChain};

/// In words, who drops forwarded packets unless told to let them through. `own` is the name of our table.
pub fn obstacle(own: &str, interface: &str) -> Option<String> {
    let mut netlink = nftables::open().ok()?;
    let chains = nftables::base_chains(&mut netlink).ok()?;
    let chain = chains.iter().find(|c| is_in_the_way(c, own))?;
    if nftables::mentions(&mut netlink, chain.family, &chain.table, interface).unwrap_or(false) {
        // Somebody has thought of it.
        return None;
    }
    let advice = match (chain.name.as_str(), chain.family) {
        // What the iptables programs make, and Docker fills.
        ("FORWARD", libc::NFPROTO_IPV4) => advice("iptables", &chains, interface),
        ("FORWARD", libc::NFPROTO_IPV6) => advice("ip6tables", &chains, interface),
        _ => format!("let it accept what comes from and goes to the interface {interface}"),
    };
    Some(format!(
        "the firewall drops forwarded packets (chain {} of the table {} {}, policy drop): containers may not reach \
         other hosts, nor these published ports; {advice}",
        chain.name,
        family(chain.family),
        chain.table,
    ))
}

fn advice(program: &str, chains: &[BaseChain], interface: &str) -> String {
    let docker = chains.iter().any(|c| c.name == "DOCKER-USER");
    let chain = if docker { "DOCKER-USER" } else { "FORWARD" };
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
