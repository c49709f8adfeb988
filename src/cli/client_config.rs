//! What Docker's `config.json` says about its client: formats of listings, detach keys, proxies of containers.

use super::{output, surroundings, values};
use crate::sys::file::read_limited;
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::OnceLock;

const FILE_LIMIT: u64 = 4 << 20;

/// What the file says; credentials are read elsewhere.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    /// `ps` without `--format`.
    pub ps_format: Option<String>,
    /// `images` without `--format`.
    pub images_format: Option<String>,
    /// `network ls` without `--format`.
    pub networks_format: Option<String>,
    /// `volume ls` without `--format`.
    pub volumes_format: Option<String>,
    /// `stats` without `--format`.
    pub stats_format: Option<String>,
    detach_keys: Option<String>,
    proxies: Option<BTreeMap<String, Option<Proxies>>>,
}

/// The proxies for containers, by the daemon; there is none here, so only `default` counts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    ftp_proxy: Option<String>,
    all_proxy: Option<String>,
}

/// What the file says: read once, when it is first asked for. One that is no good is told about.
fn config() -> &'static ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let path = surroundings::config_folder().join("config.json");
        let warn = |what: &str, error: &dyn std::fmt::Display| {
            output::note(&format!("WARNING: Error {what} config file ({}): {error}", path.display()));
            ClientConfig::default()
        };
        match read_limited(&path, FILE_LIMIT) {
            Ok(data) if data.trim_ascii().is_empty() => ClientConfig::default(),
            Ok(data) => serde_json::from_slice(&data).unwrap_or_else(|error| warn("parsing", &error)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => ClientConfig::default(),
            Err(error) => warn("loading", &error),
        }
    })
}

/// The template of a listing: what the command line gives, or what the file says unless only ids are wanted.
pub fn format(given: &str, quiet: bool, of: fn(&ClientConfig) -> &Option<String>) -> &str {
    if quiet || !given.is_empty() { given } else { of(config()).as_deref().unwrap_or_default() }
}

/// The keys that leave a container: of the command line, the file, or Docker's.
///
/// # Errors
/// They are no keys.
pub fn detach_keys(given: &str) -> Result<Vec<u8>> {
    let given = if given.is_empty() { config().detach_keys.as_deref().unwrap_or_default() } else { given };
    values::detach_keys(given)
}

/// The variables of the proxies that containers and builds shall use, in both spellings.
pub fn proxies() -> impl Iterator<Item = (String, &'static str)> {
    let proxies = config().proxies.as_ref().and_then(|all| all.get("default")?.as_ref());
    let each = proxies.map(|p| {
        [
            ("HTTP_PROXY", &p.http_proxy),
            ("HTTPS_PROXY", &p.https_proxy),
            ("NO_PROXY", &p.no_proxy),
            ("FTP_PROXY", &p.ftp_proxy),
            ("ALL_PROXY", &p.all_proxy),
        ]
    });
    let set = each.into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    set.filter(|(_, value)| !value.is_empty())
        .flat_map(|(name, value)| [(name.to_owned(), value), (name.to_lowercase(), value)])
}
