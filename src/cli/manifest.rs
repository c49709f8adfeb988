//! `manifest`: what registries have.

use super::{App, output, surroundings};
use crate::image::{Reference, RemoteManifest, Store};
use crate::registry::Registries;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

/// `manifest …`.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Show the manifest of an image, or the index of several, as a registry has it
    Inspect(InspectArgs),
}

/// `manifest inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Accept any certificate, and no TLS
    #[arg(long)]
    insecure: bool,
    /// Show also the descriptor with the platform, and every manifest of an index
    #[arg(short, long)]
    verbose: bool,
    /// The image's name
    image: String,
}

impl ManifestCommand {
    /// Runs it and returns the exit status.
    pub(super) fn run(&self, app: &App) -> Result<u8> {
        let ManifestCommand::Inspect(args) = self;
        let reference = Reference::parse(&args.image)?;
        let registries = Registries::open(&surroundings::read(args.insecure))?;
        let found = Store::open(&app.root).remote_manifest(&registries, &reference, args.verbose)?;
        output::line(&match (args.verbose, found.is_index()) {
            (false, false) => indented(&found.data, "\t"),
            (false, true) => indented(&found.data, "   "),
            (true, false) => indented(&whole(&reference.to_string(), &found)?, "\t"),
            (true, true) => {
                let name = |child: &RemoteManifest| format!("{reference}@{}", child.descriptor.digest);
                let all = found.children.iter().map(|child| whole(&name(child), child)).collect::<Result<Vec<_>>>()?;
                indented(&format!("[{}]", all.join(",")), "\t")
            }
        })?;
        Ok(0)
    }
}

/// A manifest with what is known of it.
fn whole(name: &str, manifest: &RemoteManifest) -> Result<String> {
    let key = if manifest.descriptor.media_type.contains(".docker.") { "SchemaV2Manifest" } else { "OCIManifest" };
    Ok(format!(
        "{{\"Ref\":{},\"Descriptor\":{},\"Raw\":\"{}\",\"{key}\":{}}}",
        serde_json::to_string(name)?,
        serde_json::to_string(&manifest.descriptor)?,
        STANDARD.encode(&manifest.data),
        manifest.data
    ))
}

/// A JSON document with each of its values on a line, in the order in which it has them.
fn indented(document: &str, step: &str) -> String {
    let mut out = String::with_capacity(2 * document.len());
    let (mut depth, mut in_text, mut is_escaped, mut is_open) = (0, false, false, false);
    let line = |out: &mut String, depth: usize| *out += &format!("\n{}", step.repeat(depth));
    for c in document.chars() {
        if in_text {
            out.push(c);
            in_text = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if c.is_ascii_whitespace() {
            continue;
        }
        depth -= usize::from(closes);
        if closes != is_open {
            line(&mut out, depth);
        }
        is_open = matches!(c, '{' | '[');
        depth += usize::from(is_open);
        in_text = c == '"';
        out.push(c);
        match c {
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn nothing_but_white_space_changes() {
        let text = r#"{"b" :[1,{ }, [],"\",{\\"],"a":{"x":null}}"#;
        let wanted = "{\n \"b\": [\n  1,\n  {},\n  [],\n  \"\\\",{\\\\\"\n ],\n \"a\": {\n  \"x\": null\n }\n}";
        assert_eq!(indented(text, " "), wanted);
    }

    proptest! {
        #[test]
        fn texts_stay_what_they_are(key: String, value: String) {
            let document = serde_json::json!({ key: [value] });
            prop_assert_eq!(serde_json::from_str::<Value>(&indented(&document.to_string(), "\t")).unwrap(), document);
        }
    }
}
