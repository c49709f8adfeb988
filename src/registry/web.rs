//! What is at any address of the web: no registry, so there are no tokens, and nobody is told who we are.

use super::address::without_secrets;
use super::errors::Broken;
use super::http::{Ask, Http, authority, header_of, join, refused};
use super::session::patiently;
use super::settings::{Settings, Surroundings};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::{Read, Seek, Write};
use ureq::http::Uri;

const REDIRECTS: usize = 10;
/// Bytes that are received at once.
const PIECE: usize = 64 << 10;

/// The way to the web, by the settings for registries: certificates, proxies, patience.
pub struct Web {
    http: Http,
}

impl Web {
    /// Reads the settings.
    pub fn open(surroundings: &Surroundings) -> Result<Web> {
        Ok(Web { http: Http::new(Settings::read(surroundings)?) })
    }

    /// Writes what is at an address to a file that is empty; gives when it was last changed, in seconds since 1970, if
    /// the server says so. `go_on` hears how many bytes there are, and may put an end to it.
    ///
    /// # Errors
    /// It is not there, or not whole, also after several attempts.
    pub fn get(&self, address: &str, into: &File, go_on: &dyn Fn(u64) -> Result<()>) -> Result<Option<i64>> {
        let url: Uri =
            address.parse().with_context(|| format!("understand the address {:?}", without_secrets(address)))?;
        patiently(|| {
            let mut into = into;
            into.set_len(0).and_then(|()| into.rewind()).context("empty the file again")?;
            self.attempt(&url, into, go_on)
        })
    }

    fn attempt(&self, url: &Uri, mut into: &File, go_on: &dyn Fn(u64) -> Result<()>) -> Result<Option<i64>> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            go_on(0)?;
            // The file is wanted as it is.
            let ask = Ask::new("GET", url.clone()).header("accept-encoding", "identity");
            let response = self.http.once(&ask)?;
            let status = response.status().as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let location = header_of(&response, "location").unwrap_or_default().to_owned();
                url = onward(&url, &location).with_context(|| ask.shown())?;
                drop(refused(response));
                continue;
            }
            if !(200..300).contains(&status) {
                return Err(anyhow!(refused(response)).context(ask.shown()));
            }
            let modified = header_of(&response, "last-modified").and_then(seconds);
            let length = header_of(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
            let mut body = response.into_body().into_reader();
            let (mut buffer, mut received) = (vec![0; PIECE], 0);
            loop {
                let count = body.read(&mut buffer).map_err(|e| broken(&e.to_string())).with_context(|| ask.shown())?;
                if count == 0 {
                    break;
                }
                received += count as u64;
                go_on(received)?;
                into.write_all(&buffer[..count]).context("write down what is received")?;
            }
            if length.is_some_and(|length| length != received) {
                return Err(broken("the server stopped in the middle").context(ask.shown()));
            }
            return Ok(modified);
        }
        bail!("{}: the server sends us on and on", Ask::new("GET", url).shown())
    }
}

fn onward(from: &Uri, location: &str) -> Result<Uri> {
    let to = join(from, location)?;
    if to.scheme_str() == Some("http") && from.scheme_str() == Some("https") {
        bail!("the server sends us to {}, which is not reached by TLS", authority(&to));
    }
    Ok(to)
}

fn broken(reason: &str) -> anyhow::Error {
    anyhow!(Broken { reason: reason.to_owned(), settled: false, no_tls: false })
}

/// A date of HTTP.
fn seconds(date: &str) -> Option<i64> {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(parsed.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn nobody_leads_away_from_tls() {
        let from: Uri = "https://a.example/x".parse().unwrap();
        assert!(onward(&from, "http://a.example/y").is_err());
        assert_eq!(onward(&from, "y").unwrap().to_string(), "https://a.example/y");
    }
}
