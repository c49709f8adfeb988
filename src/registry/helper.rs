//! Programs that keep secrets: `docker-credential-NAME get|store|erase`.
//!
//! `get` and `erase` read the server from standard input, `store` a document; `get` answers with one.

use super::credentials::Credentials;
use crate::sys::file::read_all_limited;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

const ANSWER_LIMIT: u64 = 1 << 20;
/// The user name of a secret that is an identity token.
const IDENTITY: &str = "<token>";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks a helper for the credentials of a server.
pub fn get(name: &str, server: &str) -> Result<Option<Credentials>> {
    let (ok, answer) = call(name, "get", server.as_bytes())?;
    if !ok {
        let words = String::from_utf8_lossy(&answer).trim().to_owned();
        return match words.contains("credentials not found") {
            true => Ok(None),
            false => bail!("docker-credential-{name} does not give the credentials of {server}: {words}"),
        };
    }
    let document: Document =
        serde_json::from_slice(&answer).with_context(|| format!("understand docker-credential-{name}"))?;
    let is_identity = document.username == IDENTITY;
    Ok(Some(Credentials { user: document.username, secret: document.secret, is_identity }))
}

/// Gives credentials to a helper.
pub fn store(name: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let username = if credentials.is_identity { IDENTITY } else { &credentials.user };
    let document =
        Document { server_url: server.into(), username: username.into(), secret: credentials.secret.clone() };
    finished(name, "store", &serde_json::to_vec(&document)?)
}

/// Makes a helper forget a server.
pub fn erase(name: &str, server: &str) -> Result<()> {
    finished(name, "erase", server.as_bytes())
}

fn finished(name: &str, verb: &str, input: &[u8]) -> Result<()> {
    let (ok, answer) = call(name, verb, input)?;
    if !ok {
        bail!("docker-credential-{name} {verb}: {}", String::from_utf8_lossy(&answer).trim());
    }
    Ok(())
}

fn call(name: &str, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>)> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        bail!("{name:?} is no name of a credential helper");
    }
    let program = format!("docker-credential-{name}");
    let context = || format!("run the credential helper {program}");
    let mut command = Command::new(&program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(context)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // It may know its answer without reading.
            Err(e) if e.kind() != ErrorKind::BrokenPipe => return Err(e).with_context(context),
            _ => {}
        }
    }
    let answer = match child.stdout.take() {
        Some(mut stdout) => read_all_limited(&mut stdout, ANSWER_LIMIT),
        None => Ok(Vec::new()),
    };
    let status = child.wait().with_context(context)?;
    Ok((status.success(), answer.with_context(context)?))
}
