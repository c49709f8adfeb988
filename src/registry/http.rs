//! One request to one host: that host's certificates, proxy and connections. No redirects, no repetition.

use super::address::without_secrets;
use super::errors::{Broken, Refused};
use super::settings::Settings;
use crate::sys::file::read_all_limited;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{Request, Uri, header};
use ureq::{Agent, AsSendBody, Body, SendBody};

/// No error's text is read further.
const ERROR_LIMIT: u64 = 64 << 10;
/// Connections that are kept open to one host.
const IDLE: usize = 16;

pub type Response = ureq::http::Response<Body>;

/// Content that can be sent again.
pub trait Source: Sync {
    /// The content from byte `from` on.
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// What goes with a request.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// So many bytes of a source, from one of them on.
    Part(&'a dyn Source, u64, u64),
}

/// One request.
#[derive(Clone)]
pub struct Ask<'a> {
    pub method: &'static str,
    pub url: Uri,
    pub headers: Vec<(&'static str, String)>,
    pub content: Content<'a>,
}

impl<'a> Ask<'a> {
    pub fn new(method: &'static str, url: Uri) -> Ask<'a> {
        Ask { method, url, headers: Vec::new(), content: Content::Nothing }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub fn content(mut self, content: Content<'a>) -> Ask<'a> {
        self.content = content;
        self
    }

    /// The request as it may be shown.
    pub fn shown(&self) -> String {
        let method = self.method[..1].to_owned() + &self.method[1..].to_lowercase();
        format!("{method} {:?}", without_secrets(&self.url.to_string()))
    }
}

/// The hosts that were talked to.
pub struct Http {
    settings: Settings,
    agents: Mutex<HashMap<String, Agent>>,
}

impl Http {
    pub fn new(settings: Settings) -> Http {
        Http { settings, agents: Mutex::default() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends one request and returns whatever is answered.
    ///
    /// # Errors
    /// [`Broken`] if there is no answer.
    pub fn once(&self, ask: &Ask) -> Result<Response> {
        let agent = self.agent(&ask.url)?;
        let mut request = Request::builder().method(ask.method).uri(&ask.url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let length = match ask.content {
            Content::Nothing => (!matches!(ask.method, "GET" | "HEAD")).then_some(0),
            Content::Bytes(data) => Some(data.len() as u64),
            Content::Part(_, _, length) => Some(length),
        };
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length.to_string());
        }
        let answer = match ask.content {
            Content::Nothing if length.is_some() => run(&agent, request, &b""[..]),
            Content::Nothing => run(&agent, request, ()),
            Content::Bytes(data) => run(&agent, request, data),
            Content::Part(source, from, length) => {
                let mut body = source.open(from).context("read what is to be sent")?.take(length);
                run(&agent, request, SendBody::from_reader(&mut body))
            }
        };
        answer.with_context(|| ask.shown())
    }

    fn agent(&self, url: &Uri) -> Result<Agent> {
        let (scheme, host) = (url.scheme_str().unwrap_or_default(), authority(url));
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&format!("{scheme}://{host}")) {
            return Ok(agent.clone());
        }
        let patience = self.settings.patience();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("minirun/", env!("CARGO_PKG_VERSION")))
            .proxy(self.settings.proxy(scheme == "https", &host)?)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .timeout_connect(Some(patience.min(Duration::from_secs(15))))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience));
        if scheme == "https" {
            config = config.tls_config(self.settings.tls(&host)?);
        }
        let agent = Agent::new_with_config(config.build());
        agents.insert(format!("{scheme}://{host}"), agent.clone());
        Ok(agent)
    }
}

fn run(agent: &Agent, request: ureq::http::request::Builder, body: impl AsSendBody) -> Result<Response> {
    let request = request.body(body).context("put the request together")?;
    agent.run(request).map_err(|e| anyhow!(broken(e)))
}

fn broken(error: ureq::Error) -> Broken {
    use ureq::Error as E;
    let (reason, settled) = match &error {
        E::Io(e) if e.kind() == ErrorKind::ConnectionRefused => ("connection refused".to_owned(), true),
        E::Io(e) => (e.to_string(), e.to_string().contains("certificate")),
        E::HostNotFound => ("no such host".to_owned(), true),
        E::Timeout(_) => ("the server did not answer in time".to_owned(), false),
        E::Rustls(e) => (e.to_string(), e.to_string().contains("certificate")),
        E::BadUri(_) | E::Http(_) | E::InvalidProxyUrl | E::Pem(_) => (error.to_string(), true),
        other => (other.to_string(), false),
    };
    let no_tls = reason.contains("InvalidContentType");
    Broken { settled: settled || no_tls, reason, no_tls }
}

/// Host and port of a URL, without a user.
pub fn authority(url: &Uri) -> String {
    let text = url.authority().map(|a| a.as_str()).unwrap_or_default();
    text.rsplit('@').next().unwrap_or_default().to_lowercase()
}

/// One header as text.
pub fn header_of<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The error that an answer is.
pub fn refused(response: Response) -> Refused {
    let status = response.status().as_u16();
    let seconds = header_of(&response, "retry-after").and_then(|text| text.trim().parse().ok());
    let body = read_all_limited(&mut response.into_body().into_reader(), ERROR_LIMIT).unwrap_or_default();
    Refused::new(status, &body, seconds.map(Duration::from_secs))
}

/// The whole body of an answer that should not exceed `limit` bytes.
pub fn body_of(response: Response, limit: u64) -> Result<Vec<u8>> {
    read_all_limited(&mut response.into_body().into_reader(), limit).map_err(|e| match e.kind() {
        ErrorKind::InvalidData => anyhow!(e),
        _ => anyhow!(Broken { reason: e.to_string(), settled: false, no_tls: false }),
    })
}

/// Where a `Location` leads from `base`.
pub fn join(base: &Uri, location: &str) -> Result<Uri> {
    let host = || format!("{}://{}", base.scheme_str().unwrap_or_default(), authority(base));
    let url = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{}:{location}", base.scheme_str().unwrap_or_default())
    } else if location.starts_with('/') {
        host() + location
    } else {
        let folder = base.path().rfind('/').map_or("/", |at| &base.path()[..=at]);
        host() + folder + location
    };
    let url: Uri = url.parse().with_context(|| format!("understand the location {location:?}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.authority().is_none() {
        bail!("the location {location:?} is not one of the web");
    }
    Ok(url)
}

/// `text` as it may stand in the query of a URL.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => {
                out.push(byte.into())
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_of_all_forms() {
        let base: Uri = "https://reg.example:5000/v2/a/blobs/uploads/".parse().unwrap();
        for (location, wanted) in [
            ("/v2/a/blobs/uploads/1?_state=x", "https://reg.example:5000/v2/a/blobs/uploads/1?_state=x"),
            ("2", "https://reg.example:5000/v2/a/blobs/uploads/2"),
            ("http://other/x", "http://other/x"),
            ("//other/x", "https://other/x"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), wanted);
        }
        assert!(join(&base, "file:///etc/passwd").is_err());
        assert_eq!(encode("repository:a/b:pull,push&x=ü"), "repository:a/b:pull,push%26x%3D%C3%BC");
        assert_eq!(authority(&"https://User@Host:1/".parse().unwrap()), "host:1");
    }
}
