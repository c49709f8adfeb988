//! `login` and `logout`.

use super::remote::Safety;
use super::{App, output, surroundings};
use crate::registry::{CredentialStore, Credentials, Kept, Registries};
use crate::sys::file::read_all_limited;
use crate::sys::tty::{Hidden, is_terminal};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{self, Write};

const HUB: &str = "docker.io";
const SECRET_LIMIT: u64 = 1 << 20;

/// `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The password
    #[arg(short, long)]
    password: Option<String>,
    /// Take the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// The user
    #[arg(short, long)]
    username: Option<String>,
    #[command(flatten)]
    safety: Safety,
    /// The registry; Docker Hub if it is not given
    server: Option<String>,
}

/// `logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry; Docker Hub if it is not given
    server: Option<String>,
}

/// `minirun login`.
pub fn login(_app: &App, args: &LoginArgs) -> Result<u8> {
    let domain = domain(args.server.as_deref())?;
    let registries = args.safety.registries()?;
    if args.password.is_some() {
        output::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if args.password_stdin && args.username.is_none() {
        bail!("Must provide --username with --password-stdin");
    }
    let known = registries.credentials().find(&domain, "")?;
    if let (Some(known), None, None) = (&known, &args.username, &args.password) {
        output::note("Authenticating with existing credentials...");
        if registries.check(&domain, known.clone()).is_ok() {
            return succeeded();
        }
        output::note("Login did not succeed, the credentials are asked for anew");
    }
    let credentials = ask(args, &domain)?;
    registries.check(&domain, credentials.clone()).with_context(|| format!("log in to {domain}"))?;
    tell_where(&registries.credentials().keep(&domain, &credentials)?);
    succeeded()
}

fn succeeded() -> Result<u8> {
    output::line("Login Succeeded")?;
    Ok(0)
}

fn tell_where(kept: &Kept) {
    if let Kept::File(path) = kept {
        output::note(&format!(
            "WARNING! Your password will be stored unencrypted in {}.\nConfigure a credential helper to remove this \
             warning: credsStore or credHelpers in that file.\n",
            path.display()
        ));
    }
}

fn ask(args: &LoginArgs, domain: &str) -> Result<Credentials> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => typed(&format!("Username for {domain}: "), false)?,
    };
    let secret = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let data = read_all_limited(&mut io::stdin().lock(), SECRET_LIMIT).context("read the password")?;
            let text = String::from_utf8(data).context("the password is not in UTF-8")?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
        None => typed("Password: ", true)?,
    };
    if user.is_empty() || user.contains(':') {
        bail!("the user name {user:?} cannot be used: it is empty or has a colon");
    }
    if secret.is_empty() {
        bail!("password required");
    }
    Ok(Credentials { user, secret, is_identity: false })
}

fn typed(question: &str, hidden: bool) -> Result<String> {
    let stdin = io::stdin();
    if !is_terminal(&stdin) {
        bail!("Cannot perform an interactive login from a non TTY device");
    }
    let mut out = io::stderr();
    let _ = out.write_all(question.as_bytes());
    let _hidden = hidden.then(|| Hidden::begin(&stdin)).transpose().context("hide what is typed")?;
    let mut line = String::new();
    stdin.read_line(&mut line).context("read what is typed")?;
    if hidden {
        output::note("");
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// `minirun logout`.
pub fn logout(_app: &App, args: &LogoutArgs) -> Result<u8> {
    let domain = domain(args.server.as_deref())?;
    let registries = Registries::open(&surroundings::read(false))?;
    let store: &CredentialStore = registries.credentials();
    match store.forget(&domain)? {
        true => output::line(&format!("Removing login credentials for {domain}"))?,
        false => output::line(&format!("Not logged in to {domain}"))?,
    }
    Ok(0)
}

/// The registry of an argument, which may be a URL.
fn domain(server: Option<&str>) -> Result<String> {
    let Some(server) = server else { return Ok(HUB.into()) };
    let bare = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or_default();
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@\\\"".contains(c)) {
        bail!("{server:?} is no name of a registry");
    }
    Ok(match host {
        "index.docker.io" | "registry-1.docker.io" => HUB.into(),
        host => host.to_owned(),
    })
}
