//! Talking with one registry: by TLS or not, with tokens, through redirects, and again after what passes.

use super::challenge::{self, Challenge};
use super::credentials::{CredentialStore, Credentials};
use super::errors::{Broken, Refused, is_passing, pause};
use super::http::{Ask, Http, Response, authority, header_of, join, refused};
use super::repository::Repository;
use super::settings::{Settings, Surroundings};
use super::token::{self, Token, Wish};
use anyhow::{Context, Error, Result, anyhow, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use ureq::http::Uri;

/// How often something is tried.
pub(super) const ATTEMPTS: u32 = 5;
const REDIRECTS: usize = 5;

/// What is going to be done in a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// The way to all registries.
pub struct Registries {
    http: Arc<Http>,
    credentials: CredentialStore,
}

impl Registries {
    /// Reads the settings. Credentials are read when they are asked for.
    pub fn open(surroundings: &Surroundings) -> Result<Registries> {
        let http = Arc::new(Http::new(Settings::read(surroundings)?));
        Ok(Registries { http, credentials: CredentialStore::open(surroundings) })
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        self.http.settings()
    }

    /// The user's credentials.
    pub fn credentials(&self) -> &CredentialStore {
        &self.credentials
    }

    /// Connects to a repository.
    pub fn repository(&self, domain: &str, path: &str, rights: Rights) -> Result<Repository> {
        let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let credentials = self.credentials.find(domain, path)?;
        let session = Session::connect(self.http.clone(), host, "", credentials)?;
        Ok(Repository::new(session, path, rights))
    }

    /// Where a repository can be read, the mirrors first: each is connected to when its turn has come.
    pub fn sources(&self, domain: &str, path: &str) -> impl Iterator<Item = Result<Repository>> {
        let mirrors = self.settings().mirrors(domain).iter().map(|mirror| self.mirror(mirror, path));
        mirrors.chain(std::iter::once_with(move || self.repository(domain, path, Rights::Pull)))
    }

    fn mirror(&self, address: &str, path: &str) -> Result<Repository> {
        let (scheme, rest) = address.split_once("://").with_context(|| format!("the mirror {address:?} is no URL"))?;
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let path = if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") };
        let credentials = self.credentials.find(host, &path)?;
        let session = Session::connect(self.http.clone(), host, scheme, credentials)?;
        Ok(Repository::new(session, &path, Rights::Pull))
    }

    /// Finds out whether a registry knows these credentials.
    pub fn check(&self, domain: &str, credentials: Credentials) -> Result<()> {
        let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let session = Session::connect(self.http.clone(), host, "", Some(credentials))?;
        let url = session.url("")?;
        patiently(|| session.ask(&Ask::new("GET", url.clone()), &[])).map(drop)
    }
}

/// Tries something again, after a pause, as long as its error may pass.
pub(super) fn patiently<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 0;
    loop {
        match work() {
            Err(error) if attempt + 1 < ATTEMPTS && is_passing(&error) => {
                std::thread::sleep(pause(&error, attempt));
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// One registry.
pub(super) struct Session {
    http: Arc<Http>,
    scheme: &'static str,
    host: String,
    credentials: Option<Credentials>,
    ways: Mutex<Vec<Challenge>>,
    tokens: Mutex<HashMap<Vec<String>, Token>>,
}

impl Session {
    /// Finds out how a registry is talked to. `scheme` is empty if that is open.
    fn connect(http: Arc<Http>, host: &str, scheme: &str, credentials: Option<Credentials>) -> Result<Session> {
        let (may_plain, must_plain) = http.settings().plain(host);
        let new = |scheme| Session {
            http: http.clone(),
            scheme,
            host: host.to_owned(),
            credentials: credentials.clone(),
            ways: Mutex::default(),
            tokens: Mutex::default(),
        };
        match scheme {
            "http" if !may_plain => {
                bail!("{host} would be asked without TLS: set plainHttp for it, or give it a certificate")
            }
            "" | "http" | "https" => {}
            other => bail!("{host} cannot be reached by {other:?}"),
        }
        if scheme == "http" || (must_plain && scheme.is_empty()) {
            return new("http").greeted();
        }
        if scheme.is_empty() && may_plain {
            // Once: whoever does not speak TLS will not learn it.
            return match new("https").greeted_once() {
                Err(error) if speaks_no_tls(&error) => new("http").greeted(),
                Err(error) if is_passing(&error) => new("https").greeted(),
                other => other,
            };
        }
        match new("https").greeted() {
            Err(error) if format!("{error:#}").contains("InvalidContentType") => Err(error.context(format!(
                "{host} does not speak TLS; if that is right, set plainHttp for it or use --tls-verify=false"
            ))),
            other => other,
        }
    }

    /// Asks for the front page, which tells how to get in.
    fn greeted(self) -> Result<Session> {
        patiently(|| self.greet())?;
        Ok(self)
    }

    fn greeted_once(self) -> Result<Session> {
        self.greet()?;
        Ok(self)
    }

    fn greet(&self) -> Result<()> {
        let ask = Ask::new("GET", self.url("")?);
        let response = self.http.once(&ask)?;
        let status = response.status().as_u16();
        if status == 429 || status >= 500 {
            return Err(anyhow!(refused(response)).context(ask.shown()));
        }
        self.remember_ways(&response);
        if status == 404 && header_of(&response, "docker-distribution-api-version").is_none() {
            bail!("{} is no registry: it has no /v2/", self.host);
        }
        // Read to its end, so that the connection can be used again.
        drop(refused(response));
        Ok(())
    }

    /// A URL below `/v2/`.
    pub fn url(&self, rest: &str) -> Result<Uri> {
        let text = format!("{}://{}/v2/{rest}", self.scheme, self.host);
        text.parse().with_context(|| format!("put the address {text:?} together"))
    }

    /// Whom mounts and memories of this registry belong to.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn settings(&self) -> &Settings {
        self.http.settings()
    }

    /// Sends a request with what the registry wants to see, follows where it leads, and gives an answer that is none
    /// of an error.
    ///
    /// # Errors
    /// [`Refused`], and everything of [`Http::once`].
    pub fn ask(&self, ask: &Ask, scopes: &[String]) -> Result<Response> {
        let mut response = self.once(ask, scopes)?;
        if response.status().as_u16() == 401 && self.is_ours(&ask.url) {
            let wanted = self.wanted_scopes(&response, scopes);
            self.remember_ways(&response);
            self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
            if self.ways.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Err(anyhow!(refused(response)).context(ask.shown()));
            }
            drop(refused(response));
            response = self.once(ask, &wanted)?;
        }
        let mut from = ask.clone();
        for _ in 0..REDIRECTS {
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return answer(response).with_context(|| ask.shown());
            }
            if !matches!(ask.method, "GET" | "HEAD") {
                bail!("{}: the registry sends us on, which is not allowed here", ask.shown());
            }
            let location = header_of(&response, "location").unwrap_or_default().to_owned();
            from.url = self.onward(&from.url, &location).with_context(|| ask.shown())?;
            drop(refused(response));
            response = self.once(&from, scopes)?;
        }
        bail!("{}: the registry sends us on and on", ask.shown())
    }

    /// Where an answer from `from` sends us; not from TLS to where there is none.
    pub fn onward(&self, from: &Uri, location: &str) -> Result<Uri> {
        let to = join(from, location)?;
        if to.scheme_str() == Some("http")
            && from.scheme_str() == Some("https")
            && !self.settings().plain(&authority(&to)).0
        {
            bail!("the registry sends us to {}, which is not reached by TLS", authority(&to));
        }
        Ok(to)
    }

    /// Whether a URL is the registry's own: only then our credentials go with the request.
    fn is_ours(&self, url: &Uri) -> bool {
        url.scheme_str() == Some(self.scheme) && authority(url) == self.host.to_lowercase()
    }

    fn once(&self, ask: &Ask, scopes: &[String]) -> Result<Response> {
        let mut ask = ask.clone();
        if self.is_ours(&ask.url)
            && let Some(value) = self.authorization(scopes)?
        {
            ask = ask.header("authorization", value);
        }
        self.http.once(&ask)
    }

    fn remember_ways(&self, response: &Response) {
        let headers = response.headers().get_all("www-authenticate");
        let ways = challenge::parse(headers.iter().filter_map(|v| v.to_str().ok()));
        if !ways.is_empty() {
            *self.ways.lock().unwrap_or_else(PoisonError::into_inner) = ways;
        }
    }

    /// What the registry says that is needed, beside what we know is.
    fn wanted_scopes(&self, response: &Response, scopes: &[String]) -> Vec<String> {
        let headers = response.headers().get_all("www-authenticate");
        let mut wanted = scopes.to_vec();
        for way in challenge::parse(headers.iter().filter_map(|v| v.to_str().ok())) {
            if let Challenge::Bearer { scope, .. } = way {
                let named = scope.split(' ').filter(|s| !s.is_empty()).map(str::to_owned);
                for scope in named.collect::<Vec<_>>() {
                    if !wanted.contains(&scope) {
                        wanted.push(scope);
                    }
                }
            }
        }
        wanted
    }

    fn authorization(&self, scopes: &[String]) -> Result<Option<String>> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for way in &ways {
            match (way, &self.credentials) {
                (Challenge::Bearer { realm, service, .. }, credentials) => {
                    let wish = Wish { realm, service, scopes, by_tls: self.scheme == "https" };
                    return Ok(Some(format!("Bearer {}", self.token(&wish, credentials.as_ref())?)));
                }
                (Challenge::Basic, Some(credentials)) if !credentials.is_identity => {
                    return Ok(Some(credentials.basic()));
                }
                (Challenge::Basic, _) => {}
            }
        }
        Ok(None)
    }

    fn token(&self, wish: &Wish, credentials: Option<&Credentials>) -> Result<String> {
        // Held while the token is got: others that need the same one wait for it.
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(wish.scopes).filter(|t| t.until > Instant::now()) {
            return Ok(token.value.clone());
        }
        let token = patiently(|| token::get(&self.http, wish, credentials))?;
        tokens.insert(wish.scopes.to_vec(), token.clone());
        Ok(token.value)
    }
}

fn answer(response: Response) -> Result<Response> {
    if response.status().as_u16() < 400 { Ok(response) } else { Err(Refused::into(refused(response))) }
}

/// Whether an error of the first contact may be that of somebody who does not speak TLS.
fn speaks_no_tls(error: &Error) -> bool {
    error.downcast_ref::<Broken>().is_some_and(|b| !b.settled || b.no_tls)
}
