//! The options of a network's driver, by Docker's names, and what they mean.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const BRIDGE: &str = "com.docker.network.bridge.name";
const TOGETHER: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];
/// These may only say what is so anyway.
const OFF: [&str; 2] = ["com.docker.network.bridge.default_bridge", "com.docker.network.bridge.inhibit_ipv4"];

/// What a network's driver is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The largest packet; 0 is the kernel's choice.
    pub mtu: u32,
    /// The bridge's name.
    pub bridge: Option<String>,
    /// Where ports are published that are given no address; everywhere if there is none.
    pub binding: Option<Ipv4Addr>,
    /// Members do not reach one another.
    pub apart: bool,
    /// What goes out has its sender's address.
    pub unmasked: bool,
    /// What the interfaces in containers are called, before their numbers.
    pub prefix: String,
}

impl Options {
    /// Gives options their meaning.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn read(given: &BTreeMap<String, String>) -> Result<Options> {
        let get = |key: &str| given.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let mtu = MTU.iter().find_map(|key| get(key));
        let flag = |key: &str| get(key).map(|value| truth(key, value)).transpose();
        let binding = get(BINDING).map(|value| {
            value.parse::<Ipv4Addr>().ok().with_context(|| refused(BINDING, value, "an IPv4 address of this host"))
        });
        for key in OFF {
            if flag(key)? == Some(true) {
                bail!("the option {key}=true of a network is not supported");
            }
        }
        Ok(Options {
            mtu: mtu.map(self::mtu).transpose()?.unwrap_or(0),
            bridge: get(BRIDGE).map(|name| interface(BRIDGE, name, 15)).transpose()?,
            binding: binding.transpose()?.filter(|address| !address.is_unspecified()),
            apart: flag(TOGETHER)? == Some(false),
            unmasked: flag(MASQUERADE)? == Some(false),
            prefix: get(PREFIX).map_or(Ok("eth".to_owned()), |name| interface(PREFIX, name, 12))?,
        })
    }

    /// Refuses options that mean nothing here.
    pub fn refuse_unknown(given: &BTreeMap<String, String>) -> Result<()> {
        let known = [BRIDGE, TOGETHER, MASQUERADE, BINDING, PREFIX];
        let is_known = |key: &str| known.iter().chain(&MTU).chain(&OFF).any(|k| *k == key);
        match given.keys().find(|key| !is_known(key)) {
            Some(key) => bail!("the driver bridge has no option {key} in this version"),
            None => Ok(()),
        }
    }
}

fn refused(key: &str, value: &str, wanted: &str) -> String {
    format!("invalid value {value:?} of the option {key}: it is {wanted}")
}

fn mtu(text: &str) -> Result<u32> {
    text.parse().ok().filter(|m| (68..=65535).contains(m)).with_context(|| format!("invalid mtu {text:?}"))
}

/// As Go reads it.
fn truth(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!(refused(key, value, "true or false")),
    }
}

/// The name of an interface, or the beginning of one. `all` and `default` are the kernel's words for all of them.
fn interface(key: &str, name: &str, longest: usize) -> Result<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.len() > longest || !name.bytes().all(fits) || [".", "..", "all", "default"].contains(&name) {
        bail!(refused(key, name, &format!("up to {longest} letters, digits, -, _ and .")));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_mean_what_docker_means() {
        let plain = Options::read(&given(&[])).unwrap();
        assert_eq!((plain.mtu, plain.prefix.as_str(), plain.apart, plain.unmasked), (0, "eth", false, false));
        let same = [(BINDING, "0.0.0.0"), (TOGETHER, "true"), (MASQUERADE, "1"), (OFF[0], "false"), (BRIDGE, "")];
        assert_eq!(Options::read(&given(&same)).unwrap(), plain);
        let other = Options::read(&given(&[(BINDING, "127.0.0.1"), (TOGETHER, "f"), (MASQUERADE, "False")])).unwrap();
        assert_eq!((other.binding, other.apart, other.unmasked), (Some(Ipv4Addr::LOCALHOST), true, true));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (key, value) in [
            (BINDING, "::1"),
            (BINDING, "localhost"),
            (TOGETHER, "no"),
            (MASQUERADE, "2"),
            (BRIDGE, "sixteen-letters-"),
            (BRIDGE, "a/b"),
            (BRIDGE, "all"),
            (PREFIX, "a b"),
            (OFF[1], "true"),
        ] {
            let error = Options::read(&given(&[(key, value)])).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(Options::read(&given(&[("mtu", "20")])).is_err());
        let error = Options::refuse_unknown(&given(&[("com.docker.network.bridge.trusted", "")])).unwrap_err();
        assert!(error.to_string().contains("bridge.trusted"), "{error}");
    }
}
