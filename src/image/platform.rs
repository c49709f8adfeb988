//! Which image of an index is wanted: `os/architecture/variant` in Go's words.

use super::manifest::{Descriptor, Index, Platform, host_architecture};
use anyhow::{Result, bail};
use std::fmt;

/// A platform that an image is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) variant: String,
}

impl Wanted {
    /// This machine.
    pub fn host() -> Wanted {
        Wanted { os: "linux".into(), architecture: host_architecture().into(), variant: String::new() }
    }

    /// Reads `os/architecture[/variant]`, `os`, or `architecture`, with the names that kernels use as well.
    pub fn parse(text: &str) -> Result<Wanted> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |p: &&str| {
            p.starts_with(|c: char| c.is_ascii_alphanumeric())
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if parts.len() > 3 || !parts.iter().all(is_word) {
            bail!("{text:?} is an invalid platform: give os/architecture or os/architecture/variant");
        }
        let host = Wanted::host();
        let (os, architecture, variant) = match parts.as_slice() {
            ["linux"] => return Ok(host),
            [architecture] => ("linux", *architecture, ""),
            [os, architecture] => (*os, *architecture, ""),
            [os, architecture, variant] => (*os, *architecture, *variant),
            _ => bail!("{text:?} is an invalid platform"),
        };
        let (architecture, implied) = known_as(&architecture.to_lowercase());
        let variant = if variant.is_empty() { implied } else { variant.to_lowercase() };
        Ok(Wanted { os: os.to_lowercase(), architecture, variant })
    }

    /// Whether an image that says this about itself is what is wanted.
    pub fn is_met(&self, os: &str, architecture: &str) -> bool {
        let os_fits = os.is_empty() || os == self.os;
        os_fits && (architecture.is_empty() || known_as(architecture).0 == self.architecture)
    }

    /// The best image of an index.
    ///
    /// # Errors
    /// `no matching manifest for …`
    pub fn choose<'i>(&self, index: &'i Index) -> Result<&'i Descriptor> {
        let images: Vec<&Descriptor> = index.manifests.iter().filter(|d| !d.is_attestation()).collect();
        let mut best: Option<(u32, &Descriptor)> = None;
        for image in &images {
            let Some(rank) = image.platform.as_ref().and_then(|p| self.rank(p)) else { continue };
            // Of equals the first one counts.
            if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, image));
            }
        }
        match (best, images.as_slice()) {
            (Some((_, image)), _) => Ok(image),
            (None, [image]) if image.platform.is_none() => Ok(image),
            _ => bail!("no matching manifest for {self} in the manifest list entries"),
        }
    }

    /// How well a platform fits, if it does.
    fn rank(&self, offered: &Platform) -> Option<u32> {
        let (architecture, implied) = known_as(&offered.architecture);
        if offered.os != self.os || architecture != self.architecture {
            return None;
        }
        let level = |variant: &str| variant.trim_start_matches('v').split('.').next()?.parse::<u32>().ok();
        let normal = |variant: &str, implied: &str| match (self.architecture.as_str(), variant, implied) {
            ("arm64", "", _) => "v8".to_owned(),
            ("arm", "", "") => "v7".to_owned(),
            ("amd64", "", _) => "v1".to_owned(),
            (_, "", implied) => implied.to_owned(),
            (_, variant, _) => variant.to_owned(),
        };
        let (own, other) = (normal(&self.variant, ""), normal(&offered.variant, &implied));
        match (level(&own), level(&other)) {
            _ if own == other => Some(u32::MAX),
            // A processor runs what was made for its elders.
            (Some(own), Some(other)) if other <= own => Some(other),
            _ => None,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// A processor's name in Go's words, and the variant that its other name implies.
fn known_as(name: &str) -> (String, String) {
    let (name, variant) = match name {
        "x86_64" | "x86-64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "i386" | "i686" | "x86" => ("386", ""),
        "armhf" => ("arm", "v7"),
        "armel" => ("arm", "v6"),
        other => (other, ""),
    };
    (name.to_owned(), variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, &str)]) -> Index {
        let manifests = platforms.iter().enumerate().map(|(n, (os, architecture, variant))| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": n,
                "digest": format!("sha256:{n:064}"),
                "platform": { "os": os, "architecture": architecture, "variant": variant },
            })
        });
        let document = serde_json::json!({ "schemaVersion": 2, "manifests": manifests.collect::<Vec<_>>() });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn the_nearest_variant_is_chosen() {
        let index = index(&[
            ("unknown", "unknown", ""),
            ("linux", "arm", "v5"),
            ("linux", "arm", "v6"),
            ("linux", "arm64", "v8"),
            ("linux", "amd64", "v3"),
            ("linux", "amd64", ""),
            ("windows", "amd64", ""),
        ]);
        let chosen = |text: &str| Wanted::parse(text).unwrap().choose(&index).map(|d| d.size);
        assert_eq!(chosen("linux/amd64").unwrap(), 5);
        assert_eq!(chosen("linux/amd64/v3").unwrap(), 4);
        assert_eq!(chosen("linux/amd64/v2").unwrap(), 5);
        assert_eq!(chosen("linux/arm").unwrap(), 2);
        assert_eq!(chosen("linux/arm/v5").unwrap(), 1);
        assert_eq!(chosen("aarch64").unwrap(), 3);
        assert_eq!(chosen("windows/amd64").unwrap(), 6);
        let error = chosen("linux/s390x").unwrap_err().to_string();
        assert_eq!(error, "no matching manifest for linux/s390x in the manifest list entries");
    }

    #[test]
    fn what_is_no_platform() {
        for bad in ["", "/", "a/b/c/d", "linux/", "lin ux/amd64", "../x"] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }
}
