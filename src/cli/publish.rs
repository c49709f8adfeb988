//! Docker's forms of published and exposed ports.

use crate::network::ports::{Protocol, Publish};
use anyhow::{Context, Result, anyhow, bail};
use std::net::IpAddr;

/// `-p`: `[address:][port]:port[/protocol]` with ranges, or `published=…,target=…,protocol=…`.
///
/// # Errors
/// Docker's words for what makes no sense.
pub fn parse(text: &str) -> Result<Vec<Publish>> {
    if text.contains('=') {
        return long_form(text);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (address, host, container) = match parts.as_slice() {
        [container] => (String::new(), "", *container),
        [host, container] => (String::new(), *host, *container),
        [address @ .., host, container] => (address.join(":"), *host, *container),
        [] => (String::new(), "", ""),
    };
    let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let address = match address.as_str() {
        "" => None,
        text => Some(self::address(text).with_context(|| format!("Invalid ip address: {text}"))?),
    };
    if container.is_empty() {
        bail!("No port specified: {text}<empty>");
    }
    let inner = range(container).ok_or_else(|| anyhow!("Invalid containerPort: {container}"))?;
    let outer = match host {
        "" => None,
        text => Some(range(text).ok_or_else(|| anyhow!("Invalid hostPort: {text}"))?),
    };
    unfold(address, outer, inner, self::protocol(protocol)?)
        .ok_or_else(|| anyhow!("Invalid ranges specified for container and host Ports: {container} and {host}"))
}

fn long_form(text: &str) -> Result<Vec<Publish>> {
    let (mut target, mut published, mut kind) = (None, None, Protocol::Tcp);
    for field in text.split(',') {
        match field.split_once('=').unwrap_or((field, "")) {
            ("target", value) => target = Some(range(value).ok_or_else(|| anyhow!("invalid target port {value}"))?),
            ("published", value) => {
                published = Some(range(value).ok_or_else(|| anyhow!("invalid published port {value}"))?);
            }
            ("protocol", value) => kind = protocol(value)?,
            ("mode", "host" | "ingress") => {}
            (key, _) => bail!("invalid field key {key}"),
        }
    }
    let target = target.with_context(|| format!("missing mandatory field \"target\" in {text:?}"))?;
    unfold(None, published, target, kind).ok_or_else(|| anyhow!("the ranges of {text:?} are not of one length"))
}

/// One port of the container may have a choice of the host's; else both ranges are of one length.
fn unfold(
    address: Option<IpAddr>,
    host: Option<(u16, u16)>,
    container: (u16, u16),
    protocol: Protocol,
) -> Option<Vec<Publish>> {
    let host = host.filter(|h| *h != (0, 0));
    let one = |host, container| Publish { address, host, container, protocol };
    let (first, last) = container;
    match host {
        None => Some((first..=last).map(|c| one(None, c)).collect()),
        Some(range) if first == last => Some(vec![one(Some(range), first)]),
        Some((from, to)) if to - from == last - first => {
            Some((first..=last).zip(from..=to).map(|(c, h)| one(Some((h, h)), c)).collect())
        }
        Some(_) => None,
    }
}

/// `--expose`: a port or a range, with a protocol.
///
/// # Errors
/// Docker's words for what makes no sense.
pub fn exposed(text: &str) -> Result<Vec<(u16, Protocol)>> {
    let (ports, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    if text.contains(':') {
        bail!("invalid port format for --expose: {text}");
    }
    let (first, last) = range(ports)
        .filter(|(first, _)| *first > 0)
        .ok_or_else(|| anyhow!("invalid range format for --expose: {text}"))?;
    let kind = protocol(kind)?;
    Ok((first..=last).map(|p| (p, kind)).collect())
}

fn protocol(text: &str) -> Result<Protocol> {
    text.parse().map_err(|()| anyhow!("Invalid proto: {text}"))
}

fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::from),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Publish {
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all[0]
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let plain = Publish { address: None, host: Some((8080, 8080)), container: 80, protocol: Protocol::Tcp };
        assert_eq!(one("8080:80"), plain);
        assert_eq!(one("8080:80/tcp"), plain);
        assert_eq!(one("published=8080,target=80"), plain);
        assert_eq!(one("8080:80/UDP"), Publish { protocol: Protocol::Udp, ..plain });
        assert_eq!(one("127.0.0.1:8080:80"), Publish { address: "127.0.0.1".parse().ok(), ..plain });
        assert_eq!(one("[::1]:8080:80"), Publish { address: "::1".parse().ok(), ..plain });
        assert_eq!(one("80"), Publish { host: None, ..plain });
        assert_eq!(one("0:80"), Publish { host: None, ..plain });
        assert_eq!(one("127.0.0.1::80"), Publish { address: "127.0.0.1".parse().ok(), host: None, ..plain });
        assert_eq!(one("8000-8010:80"), Publish { host: Some((8000, 8010)), ..plain });
        let range = parse("7000-7002:80-82/udp").unwrap();
        assert_eq!(
            range.iter().map(|p| (p.host.unwrap().0, p.container)).collect::<Vec<_>>(),
            [(7000, 80), (7001, 81), (7002, 82)]
        );
    }

    #[test]
    fn nonsense_is_refused_in_dockers_words() {
        for (text, words) in [
            ("99999:80", "Invalid hostPort: 99999"),
            ("80:abc", "Invalid containerPort: abc"),
            ("80:", "No port specified: 80:<empty>"),
            ("1.2.3:80:80", "Invalid ip address: 1.2.3"),
            ("80:80/tls", "Invalid proto: tls"),
            ("80-82:80-81", "Invalid ranges specified for container and host Ports: 80-81 and 80-82"),
            ("82-80:80", "Invalid hostPort: 82-80"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), words, "{text}");
        }
        assert_eq!(exposed("80-70").unwrap_err().to_string(), "invalid range format for --expose: 80-70");
    }
}
