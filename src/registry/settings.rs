//! What differs from registry to registry: our own file, folders of certificates, proxies.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

const FILE_LIMIT: u64 = 4 << 20;
/// Where distributions keep the certificates that everybody trusts.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Folders with one folder a registry, in Docker's form.
const CERTIFICATES: [&str; 3] = ["/etc/minirun/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"];

/// What the user's surroundings say; only the face reads them.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The settings file; a missing one is empty.
    pub settings: PathBuf,
    /// Docker's client configuration, which is also written.
    pub docker_config: PathBuf,
    /// Podman's files, which are only read.
    pub auth_files: Vec<PathBuf>,
    /// Certificates to trust instead of the system's.
    pub roots: Option<PathBuf>,
    /// The proxy for plain HTTP.
    pub http_proxy: Option<String>,
    /// The proxy for TLS.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy.
    pub no_proxy: String,
    /// Whether the command line says to do without the check of certificates.
    pub unverified: bool,
}

/// The settings file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
    certificates: Option<Vec<PathBuf>>,
    parallel: Option<usize>,
    patience: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Registry {
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    plain_http: bool,
    tls_verify: Option<bool>,
    ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// Everything that was set, read once.
#[derive(Clone, Debug)]
pub struct Settings {
    file: File,
    surroundings: Surroundings,
}

impl Settings {
    /// Reads the settings file.
    ///
    /// # Errors
    /// A file that makes no sense; words that are not known are told.
    pub fn read(surroundings: &Surroundings) -> Result<Settings> {
        let path = &surroundings.settings;
        let file = match crate::sys::file::read_limited(path, FILE_LIMIT) {
            Ok(data) => {
                serde_json::from_slice(&data).with_context(|| format!("read the settings {}", path.display()))?
            }
            Err(e) if e.kind() == ErrorKind::NotFound => File::default(),
            Err(e) => return Err(e).with_context(|| format!("read the settings {}", path.display())),
        };
        Ok(Settings { file, surroundings: surroundings.clone() })
    }

    /// How many layers are moved at once.
    pub fn parallel(&self) -> usize {
        self.file.parallel.unwrap_or(4).clamp(1, 64)
    }

    /// How long a registry may be silent.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.file.patience.unwrap_or(60).max(1))
    }

    /// The mirrors of a registry: addresses with a scheme.
    pub(super) fn mirrors(&self, domain: &str) -> &[String] {
        self.registry(domain).map_or(&[], |r| &r.mirrors)
    }

    fn registry(&self, host: &str) -> Option<&Registry> {
        self.file.registries.get(host).or_else(|| self.file.registries.get(domain_of(host)))
    }

    fn unverified(&self, host: &str) -> bool {
        self.registry(host).and_then(|r| r.tls_verify).map_or(self.surroundings.unverified, |verify| !verify)
    }

    /// Whether a host may be talked to without TLS, and whether it must.
    pub(super) fn plain(&self, host: &str) -> (bool, bool) {
        let must = self.registry(host).is_some_and(|r| r.plain_http);
        (must || self.unverified(host) || is_loopback(host), must)
    }

    /// Whom a host is believed to be, and who we are to it.
    pub(super) fn tls(&self, host: &str) -> Result<TlsConfig> {
        let own = self.registry(host).cloned().unwrap_or_default();
        let mut roots = Vec::new();
        let mut client = match (&own.client_certificate, &own.client_key) {
            (Some(certificate), Some(key)) => Some(client_certificate(certificate, key)?),
            (None, None) => None,
            _ => bail!("the settings of {host} need both clientCertificate and clientKey"),
        };
        if let Some(path) = &own.ca {
            roots.extend(certificates(path)?);
        }
        for folder in self.folders(host) {
            let (more, pair) = from_folder(&folder)?;
            roots.extend(more);
            client = client.or(pair);
        }
        let roots = self.with_system_roots(roots)?;
        let unverified = self.unverified(host);
        Ok(TlsConfig::builder().root_certs(roots).client_cert(client).disable_verification(unverified).build())
    }

    fn folders(&self, host: &str) -> Vec<PathBuf> {
        let default = || CERTIFICATES.iter().map(PathBuf::from).collect();
        let bases = self.file.certificates.clone().unwrap_or_else(default);
        // A host comes out of a reference or a URL and has no slash, but it might be `..`.
        let is_name = !host.is_empty() && !host.starts_with('.') && !host.contains('/');
        bases.into_iter().filter(|_| is_name).map(|base| base.join(domain_of(host))).collect()
    }

    fn with_system_roots(&self, mut own: Vec<Certificate<'static>>) -> Result<RootCerts> {
        match &self.surroundings.roots {
            Some(path) => own.extend(certificates(path)?),
            None => {
                let system = SYSTEM_ROOTS.iter().find_map(|path| certificates(Path::new(path)).ok());
                own.extend(system.into_iter().flatten());
            }
        }
        Ok(if own.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&own) })
    }

    /// The proxy on the way to a host, if any.
    pub(super) fn proxy(&self, tls: bool, host: &str) -> Result<Option<ureq::Proxy>> {
        let s = &self.surroundings;
        let wanted = if tls { &s.https_proxy } else { &s.http_proxy };
        let Some(url) = wanted.as_deref().filter(|u| !u.is_empty()) else { return Ok(None) };
        if is_loopback(host) || is_excepted(&s.no_proxy, host) {
            return Ok(None);
        }
        let proxy = ureq::Proxy::new(url);
        Ok(Some(proxy.map_err(|e| anyhow::anyhow!("the proxy {:?} makes no sense: {e}", without_secret(url)))?))
    }
}

/// What a user calls the registry at a host.
pub(super) fn domain_of(host: &str) -> &str {
    if host == "registry-1.docker.io" { "docker.io" } else { host }
}

fn without_secret(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

/// A host without its port.
pub(super) fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

pub(super) fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// `NO_PROXY`: names (and whatever ends with them), addresses, networks, `*`.
fn is_excepted(list: &str, host: &str) -> bool {
    let name = bare(host).to_lowercase();
    list.split(',').map(|item| item.trim().to_lowercase()).filter(|item| !item.is_empty()).any(|item| {
        let item_name = if item.contains('/') { item.as_str() } else { bare(&item) };
        let suffix = item_name.trim_start_matches('*').trim_start_matches('.');
        item == "*"
            || item == host
            || (!suffix.is_empty() && (name == suffix || name.ends_with(&format!(".{suffix}"))))
            || is_in_network(&name, item_name)
    })
}

fn is_in_network(name: &str, network: &str) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(a) => (u128::from(a.to_bits()), 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    };
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(address), Ok(base), Ok(length)) = (name.parse(), base.parse(), length.parse::<u32>()) else {
        return false;
    };
    let ((address, width), (base, base_width)) = (bits(address), bits(base));
    width == base_width && length <= width && (length == 0 || (address ^ base) >> (width - length) == 0)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let shown = || format!("read the certificates {}", path.display());
    let data = crate::sys::file::read_limited(path, FILE_LIMIT).with_context(shown)?;
    let mut found = Vec::new();
    for item in parse_pem(&data) {
        if let PemItem::Certificate(certificate) = item.with_context(shown)? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        bail!("{} holds no certificate", path.display());
    }
    Ok(found)
}

fn client_certificate(certificate: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(certificate)?;
    let data = std::fs::read(key).with_context(|| format!("read the key {}", key.display()))?;
    let key = PrivateKey::from_pem(&data).with_context(|| format!("read the key {}", key.display()))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// Docker's form: `*.crt` are authorities, `*.cert` with `*.key` is who we are. A missing folder is empty.
fn from_folder(folder: &Path) -> Result<(Vec<Certificate<'static>>, Option<ClientCert>)> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok((Vec::new(), None)),
        other => other.with_context(|| format!("read {}", folder.display()))?,
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let (mut roots, mut client) = (Vec::new(), None);
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => roots.extend(certificates(&path)?),
            Some("cert") => client = Some(client_certificate(&path, &path.with_extension("key"))?),
            _ => {}
        }
    }
    Ok((roots, client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_cannot_leave_the_machine() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "127.0.0.1.example:80", "[::2]:5000", "example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn exceptions_from_the_proxy() {
        let list = "example.com, .corp,10.0.0.0/8,*.lan,192.168.1.1";
        for host in ["example.com:5000", "a.example.com", "x.corp", "10.1.2.3:80", "nas.lan", "192.168.1.1"] {
            assert!(is_excepted(list, host), "{host}");
        }
        for host in ["badexample.com", "11.0.0.1", "lan.example", "192.168.1.2"] {
            assert!(!is_excepted(list, host), "{host}");
        }
        assert!(is_excepted("*", "anything") && !is_excepted("", "anything"));
    }
}
