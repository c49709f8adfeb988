//! Whose images these are: Docker's `config.json`, Podman's `auth.json`, and credential helpers.
//!
//! ```text
//! { "auths": { "registry:5000": { "auth": base64("user:secret"), "identitytoken": … } },
//!   "credHelpers": { "registry:5000": "name" }, "credsStore": "name", … }     what else is there is kept
//! ```

use super::helper;
use super::settings::Surroundings;
use crate::sys::file::{Durability, read_limited, write_atomic};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const FILE_LIMIT: u64 = 4 << 20;
const HUB: &str = "docker.io";
/// Docker Hub's name in these files.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A name and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// A password, or an identity token.
    pub secret: String,
    /// Whether the secret is an identity token.
    pub is_identity: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.secret)))
    }
}

/// Where credentials were put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// In a file, readable for whoever may read it.
    File(PathBuf),
    /// In the care of a helper.
    Helper(String),
}

/// The user's credentials for all registries.
pub struct CredentialStore {
    docker: PathBuf,
    others: Vec<PathBuf>,
}

impl CredentialStore {
    pub(super) fn open(surroundings: &Surroundings) -> CredentialStore {
        CredentialStore {
            docker: surroundings.docker_config.join("config.json"),
            others: surroundings.auth_files.clone(),
        }
    }

    /// The credentials for a repository.
    pub fn find(&self, domain: &str, path: &str) -> Result<Option<Credentials>> {
        for file in std::iter::once(&self.docker).chain(&self.others) {
            let document = read(file)?;
            if let Some(name) = helper_of(&document, domain)
                && let Some(found) = helper::get(name, server(domain))?
            {
                return Ok(Some(found));
            }
            let found = in_file(&document, domain, path);
            if let Some(found) = found.with_context(|| format!("read {}", file.display()))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Remembers the credentials for a registry, as Docker's configuration wants them to be kept.
    pub fn keep(&self, domain: &str, credentials: &Credentials) -> Result<Kept> {
        let mut document = read(&self.docker)?;
        if let Some(name) = helper_of(&document, domain) {
            helper::store(name, server(domain), credentials)?;
            return Ok(Kept::Helper(name.to_owned()));
        }
        let entry = match credentials.is_identity {
            true => {
                json!({ "identitytoken": credentials.secret, "auth": STANDARD.encode(format!("{}:", credentials.user)) })
            }
            false => json!({ "auth": STANDARD.encode(format!("{}:{}", credentials.user, credentials.secret)) }),
        };
        let auths = document.entry("auths").or_insert_with(|| json!({}));
        match auths.as_object_mut() {
            Some(auths) => auths.insert(server(domain).to_owned(), entry),
            None => bail!("{}: auths is no object", self.docker.display()),
        };
        self.write(&document)?;
        Ok(Kept::File(self.docker.clone()))
    }

    /// Forgets the credentials for a registry. False if there were none.
    pub fn forget(&self, domain: &str) -> Result<bool> {
        let mut document = read(&self.docker)?;
        let mut found = false;
        if let Some(name) = helper_of(&document, domain)
            && helper::get(name, server(domain))?.is_some()
        {
            helper::erase(name, server(domain))?;
            found = true;
        }
        if let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) {
            let before = auths.len();
            auths.retain(|key, _| matches(key, domain, "") != Some(0));
            if auths.len() < before {
                self.write(&document)?;
                found = true;
            }
        }
        Ok(found)
    }

    fn write(&self, document: &Map<String, Value>) -> Result<()> {
        // A link stays one: what it leads to is replaced.
        let path = self.docker.canonicalize().unwrap_or_else(|_| self.docker.clone());
        let context = || format!("write {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(context)?;
        }
        let mut data = serde_json::to_vec_pretty(document)?;
        data.push(b'\n');
        write_atomic(&path, &data, Durability::Synced).with_context(context)
    }
}

/// What a registry is called in these files.
fn server(domain: &str) -> &str {
    if domain == HUB { HUB_KEY } else { domain }
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    match read_limited(path, FILE_LIMIT) {
        Ok(data) if data.trim_ascii().is_empty() => Ok(Map::new()),
        Ok(data) => serde_json::from_slice(&data).with_context(|| format!("read {}", path.display())),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Map::new()),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

fn helper_of<'d>(document: &'d Map<String, Value>, domain: &str) -> Option<&'d str> {
    let helpers = document.get("credHelpers").and_then(Value::as_object);
    let own = helpers.into_iter().flatten().find(|(key, _)| matches(key, domain, "") == Some(0)).map(|(_, name)| name);
    own.or_else(|| document.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty())
}

fn in_file(document: &Map<String, Value>, domain: &str, path: &str) -> Result<Option<Credentials>> {
    let Some(auths) = document.get("auths").and_then(Value::as_object) else { return Ok(None) };
    let mut best: Option<(usize, &str, &Value)> = None;
    for (key, value) in auths {
        if let Some(rank) = matches(key, domain, path)
            && best.is_none_or(|(other, ..)| rank > other)
        {
            best = Some((rank, key, value));
        }
    }
    let Some((_, key, entry)) = best else { return Ok(None) };
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut user, mut secret) = (text("username"), text("password"));
    let auth = text("auth");
    if !auth.is_empty() {
        let bytes = STANDARD.decode(auth.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let pair = bytes.as_deref().and_then(|t| t.split_once(':'));
        let Some((name, word)) = pair else {
            bail!("the entry of {key} in auths is not in base64, or not name:secret")
        };
        (user, secret) = (name.to_owned(), word.trim_end_matches('\0').to_owned());
    }
    let identity = text("identitytoken");
    if !identity.is_empty() {
        return Ok(Some(Credentials { user, secret: identity, is_identity: true }));
    }
    // An empty entry only says that a helper has it.
    Ok((!user.is_empty()).then_some(Credentials { user, secret, is_identity: false }))
}

/// Whether a key of these files means a repository: how much of its path it names.
fn matches(key: &str, domain: &str, path: &str) -> Option<usize> {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, rest) = bare.split_once('/').unwrap_or((bare, ""));
    let is_host = match domain {
        HUB => matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io"),
        _ => host == domain,
    };
    if !is_host {
        return None;
    }
    // Docker's old keys name a version, Podman's a part of the path.
    if matches!(rest, "" | "v1" | "v2") {
        return Some(0);
    }
    let is_within = path == rest || path.strip_prefix(rest).is_some_and(|p| p.starts_with('/'));
    is_within.then_some(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_entry_counts() {
        let document = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:a:b") },
            "reg:5000": { "username": "all", "password": "1" },
            "reg:5000/team": { "auth": STANDARD.encode("team:2") },
            "https://other.example": { "auth": STANDARD.encode("o:"), "identitytoken": "idt" },
            "empty": {},
        }});
        let document = document.as_object().unwrap();
        let find = |domain, path| in_file(document, domain, path).unwrap().map(|c| (c.user, c.secret, c.is_identity));
        assert_eq!(find("docker.io", "library/x"), Some(("hub".into(), "a:b".into(), false)));
        assert_eq!(find("reg:5000", "teams/x"), Some(("all".into(), "1".into(), false)));
        assert_eq!(find("reg:5000", "team/x"), Some(("team".into(), "2".into(), false)));
        assert_eq!(find("other.example", "x"), Some(("o".into(), "idt".into(), true)));
        assert_eq!(find("empty", "x"), None);
        assert_eq!(find("reg", "x"), None);
    }

    #[test]
    fn helpers_are_found_by_registry() {
        let document = json!({ "credsStore": "all", "credHelpers": { "reg": "one" } });
        let document = document.as_object().unwrap();
        assert_eq!((helper_of(document, "reg"), helper_of(document, "docker.io")), (Some("one"), Some("all")));
        assert_eq!(helper_of(&Map::new(), "reg"), None);
    }
}
