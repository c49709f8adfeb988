//! Flags of `build` that came with buildx and that are about what does not exist here: taken where the image is the same
//! without it, and refused elsewhere.

use super::output;
use anyhow::{Result, bail};
use clap::Args;

/// Attestations, annotations and caches that are elsewhere.
#[derive(Debug, Args)]
pub struct MoreArgs {
    #[arg(long, hide = true)]
    annotation: Vec<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[arg(long, hide = true)]
    cache_from: Vec<String>,
    #[arg(long, hide = true)]
    cache_to: Vec<String>,
    /// For compatibility: no attestation is made, which is `false`
    #[arg(long, hide = true)]
    provenance: Option<String>,
    #[arg(long, hide = true)]
    sbom: Option<String>,
}

impl MoreArgs {
    /// Refuses what the image would lack, and tells, unless it is to be `quiet`, what has no effect.
    ///
    /// # Errors
    /// The flag that asks for something.
    pub fn check(&self, quiet: bool) -> Result<()> {
        let is_given = |text: &&String| !text.is_empty();
        if let Some(text) = self.annotation.iter().find(is_given) {
            bail!("--annotation {text}: manifests with annotations are not made; --label is kept with the image");
        }
        for (flag, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            if let Some(value) = value.as_ref().filter(|value| !is_false(value)) {
                bail!("--{flag}={value}: attestations are not made; give --{flag}=false");
            }
        }
        if let Some(text) = self.attest.iter().filter(is_given).find(|text| !has_field(text, "disabled", "true")) {
            bail!("--attest {text}: attestations are not made");
        }
        if let Some(text) = self.cache_to.iter().filter(is_given).find(|text| !has_field(text, "type", "inline")) {
            bail!("--cache-to {text}: caches are not exported; what builds keep is in the store");
        }
        for (flag, values) in [("cache-from", &self.cache_from), ("cache-to", &self.cache_to)] {
            if !quiet && values.iter().any(|text| !text.is_empty()) {
                output::note(&format!("[Warning] --{flag} has no effect: what builds keep is in the store"));
            }
        }
        Ok(())
    }
}

fn is_false(text: &str) -> bool {
    matches!(text, "" | "0" | "f" | "F" | "false" | "False" | "FALSE")
}

fn has_field(text: &str, key: &str, value: &str) -> bool {
    text.split(',').any(|field| field.split_once('=') == Some((key, value)))
}
