//! Names of images, by the grammar of Docker's distribution/reference.
//!
//! ```text
//! reference := name [":" tag] ["@" digest]
//! name      := [domain "/"] path      domain: has a "." or ":" or is "localhost"
//! path      := component ("/" component)*
//! component := alnum+ (("." | "_" | "__" | "-"+) alnum+)*      lower case
//! tag       := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! ```

use super::digest::Digest;
use anyhow::{Result, bail};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const NAME_LIMIT: usize = 255;

/// The full name of an image, with what the user left out filled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as a user writes it. Without tag and digest the tag is `latest`.
    ///
    /// # Errors
    /// Docker's: `invalid reference format` and its variants.
    pub fn parse(text: &str) -> Result<Reference> {
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            bail!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
            None => (rest, None),
        };
        let (domain, path) = split_domain(name);
        check_path(&path)?;
        if !is_domain(&domain) || tag.is_some_and(|t| !is_tag(t)) {
            bail!("invalid reference format");
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            bail!("repository name must not be more than {NAME_LIMIT} characters");
        }
        let digest = match digest {
            Some(text) => Some(text.parse().map_err(|_| anyhow::anyhow!("invalid reference format"))?),
            None => None,
        };
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Reference { domain, path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry's host, with `docker.io` for Docker Hub.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository at the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag; `None` only if there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest, if the name has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as users know it, without tag and digest: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let official = self.path.strip_prefix("library/").filter(|rest| !rest.contains('/'));
        official.unwrap_or(&self.path).to_owned()
    }

    /// The name as users know it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// What somebody wrote in the words of [`Reference::familiar`], unchanged if it is not a name.
    pub fn familiarize(text: &str) -> String {
        Reference::parse(text).map_or_else(|_| text.to_owned(), |reference| reference.familiar())
    }

    /// Whether both name the same repository.
    pub fn same_repository(&self, other: &Reference) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Reference> {
        Reference::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, rest) = match name.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || has_upper_case(first) => {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain.to_owned(), format!("library/{rest}"));
    }
    (domain.to_owned(), rest.to_owned())
}

fn has_upper_case(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_path(path: &str) -> Result<()> {
    if has_upper_case(path) {
        bail!("invalid reference format: repository name must be lowercase");
    }
    if !path.split('/').all(is_component) {
        bail!("invalid reference format");
    }
    Ok(())
}

/// Runs of lower-case letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_component(text: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(is_word) || !bytes.last().is_some_and(is_word) {
        return false;
    }
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_domain(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
        return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_was_left_out() {
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("xpu/tomcat_02:1.2", "docker.io/xpu/tomcat_02:1.2", "xpu/tomcat_02:1.2"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("quay.io/a__b-c.d---e", "quay.io/a__b-c.d---e:latest", "quay.io/a__b-c.d---e:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse(canonical).unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"x");
        let reference = Reference::parse(&format!("busybox@{digest}")).unwrap();
        assert_eq!((reference.tag(), reference.digest()), (None, Some(digest)));
        assert_eq!(reference.familiar(), format!("busybox@{digest}"));
        let both = Reference::parse(&format!("busybox:1@{digest}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(digest)));
    }

    #[test]
    fn refuses_with_dockers_words() {
        let error = |text: &str| Reference::parse(text).unwrap_err().to_string();
        assert_eq!(error("X:y"), "invalid reference format: repository name must be lowercase");
        for bad in ["", ":", "a:", "a:.b", "a/", "/a", "a//b", "a___b", "-a", "a@sha256:12", "a..b", "a b", "ä"] {
            assert!(error(bad).starts_with("invalid reference format"), "{bad}");
        }
        assert!(error(&"a".repeat(64)).contains("64-byte hexadecimal"));
        assert!(error(&format!("a:{}", "t".repeat(129))).starts_with("invalid reference format"));
        assert!(error(&"a/".repeat(130)).starts_with("invalid reference format"));
    }
}
