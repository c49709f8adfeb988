//! Tokens: what a registry's own authority gives for a name and a password, or for nothing.

use super::credentials::Credentials;
use super::http::{Ask, Content, Http, authority, body_of, encode, refused};
use super::settings::is_loopback;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::time::{Duration, Instant};
use ureq::http::Uri;

const ANSWER_LIMIT: u64 = 1 << 20;
const CLIENT: &str = "minirun";

/// A token and how long it is good.
#[derive(Clone)]
pub struct Token {
    pub value: String,
    pub until: Instant,
}

/// Whom to ask, and for what.
pub struct Wish<'a> {
    pub realm: &'a str,
    pub service: &'a str,
    pub scopes: &'a [String],
    /// Whether the registry itself is reached by TLS.
    pub by_tls: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

/// Gets a token.
///
/// # Errors
/// A realm that would carry secrets in the clear is not asked.
pub fn get(http: &Http, wish: &Wish, credentials: Option<&Credentials>) -> Result<Token> {
    let realm: Uri = wish.realm.parse().with_context(|| format!("understand the realm {:?}", wish.realm))?;
    let host = authority(&realm);
    match realm.scheme_str() {
        Some("https") => {}
        Some("http") if !wish.by_tls || is_loopback(&host) => {}
        _ => bail!("the registry wants its tokens to be got from {:?}, which is not safe", wish.realm),
    }
    let context = || format!("get a token from {host}");
    let answer = match credentials {
        Some(c) if c.is_identity => renew(http, &realm, wish, c),
        other => plain(http, &realm, wish, other),
    };
    let began = Instant::now();
    let answer = answer.with_context(context)?;
    let value = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
        bail!("{host} gave no usable token");
    }
    // Renewed a little before its end, so that it does not end on the way.
    let seconds = answer.expires_in.unwrap_or(60).clamp(1, 86_400);
    Ok(Token { value, until: began + Duration::from_millis(seconds * 900) })
}

fn plain(http: &Http, realm: &Uri, wish: &Wish, credentials: Option<&Credentials>) -> Result<Answer> {
    let mut url = realm.to_string();
    let mut separator = if url.contains('?') { '&' } else { '?' };
    let account = credentials.map(|c| ("account", c.user.as_str()));
    let service = Some(("service", wish.service)).filter(|(_, s)| !s.is_empty());
    let scopes = wish.scopes.iter().map(|s| ("scope", s.as_str()));
    for (key, value) in account.into_iter().chain(service).chain(scopes) {
        url.push_str(&format!("{separator}{key}={}", encode(value)));
        separator = '&';
    }
    let mut ask = Ask::new("GET", url.parse().context("put the token's address together")?);
    if let Some(credentials) = credentials {
        ask = ask.header("authorization", credentials.basic());
    }
    read(http, &ask)
}

/// OAuth 2: an identity token for an access token.
fn renew(http: &Http, realm: &Uri, wish: &Wish, credentials: &Credentials) -> Result<Answer> {
    let form = format!(
        "grant_type=refresh_token&service={}&client_id={CLIENT}&scope={}&refresh_token={}",
        encode(wish.service),
        encode(&wish.scopes.join(" ")),
        encode(&credentials.secret)
    );
    let ask = Ask::new("POST", realm.clone())
        .header("content-type", "application/x-www-form-urlencoded")
        .content(Content::Bytes(form.as_bytes()));
    read(http, &ask)
}

fn read(http: &Http, ask: &Ask) -> Result<Answer> {
    let response = http.once(ask)?;
    if response.status().as_u16() != 200 {
        return Err(refused(response).into());
    }
    let data = body_of(response, ANSWER_LIMIT).context("read the token")?;
    serde_json::from_slice(&data).context("understand the token")
}
