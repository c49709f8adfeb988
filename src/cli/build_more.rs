//! Flags of Docker's builders about what does not exist here: taken where the image is the same without it, and refused
//! elsewhere.

use super::builder::OneBuilder;
use super::output;
use anyhow::{Result, bail};
use clap::Args;

/// Attestations, annotations, caches that are elsewhere, and what there is to choose or to clean up.
#[derive(Debug, Args)]
pub struct MoreArgs {
    #[arg(long, hide = true)]
    annotation: Vec<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[command(flatten)]
    builder: OneBuilder,
    #[arg(long, hide = true)]
    cache_from: Vec<String>,
    #[arg(long, hide = true)]
    cache_to: Vec<String>,
    #[arg(long, hide = true)]
    compress: bool,
    /// For compatibility: there is nothing to be more talkative about
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    // What the classic builder of Docker left behind does not exist here.
    #[arg(long, hide = true)]
    force_rm: bool,
    #[arg(long, hide = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    rm: bool,
    /// For compatibility: other systems have a choice
    #[arg(long, value_parser = ["", "default"], hide = true)]
    isolation: Option<String>,
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
