//! What a registry refuses, and what may work the next time.

use anyhow::Error;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// An answer with an error status.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The registry's code, such as `MANIFEST_UNKNOWN`, if it gave one.
    pub code: String,
    /// The registry's words.
    pub message: String,
    /// How long the registry wants to be left alone.
    pub pause: Option<Duration>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refused {
    /// Reads the body of an error answer.
    pub(super) fn new(status: u16, body: &[u8], pause: Option<Duration>) -> Refused {
        let parsed: Option<Body> = serde_json::from_slice(body).ok();
        let first = parsed.as_ref().and_then(|b| b.errors.first());
        let details = parsed.as_ref().and_then(|b| b.details.clone());
        Refused {
            status,
            code: first.map(|e| e.code.clone()).unwrap_or_default(),
            message: first.map(|e| e.message.clone()).or(details).unwrap_or_default(),
            pause,
        }
    }

    /// Whether the registry does not know what was asked for.
    pub fn is_unknown(&self) -> bool {
        self.status == 404
    }

    /// Whether the registry wants somebody else to ask.
    pub fn is_denied(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        let status = || match self.status {
            401 => "unauthorized: authentication required".to_owned(),
            403 => "denied: requested access to the resource is denied".to_owned(),
            404 => "not found".to_owned(),
            429 => "toomanyrequests: the registry is asked too often".to_owned(),
            status => format!("received unexpected HTTP status {status}"),
        };
        match (code.is_empty(), self.message.is_empty()) {
            (true, true) => f.write_str(&status()),
            (true, false) => f.write_str(&self.message),
            (false, true) => f.write_str(&code),
            (false, false) => write!(f, "{code}: {}", self.message),
        }
    }
}

impl std::error::Error for Refused {}

/// A connection that could not be made or did not hold.
#[derive(Debug)]
pub(super) struct Broken {
    pub reason: String,
    /// Whether trying again is pointless: nobody listens, or is not whom we want.
    pub settled: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Broken {}

/// Whether an error may be gone when the same is tried again.
pub fn is_passing(error: &Error) -> bool {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return refused.is_passing();
    }
    error.downcast_ref::<Broken>().is_some_and(|b| !b.settled)
}

/// How long to wait before the attempt after `attempt`, which began with 0.
pub fn pause(error: &Error, attempt: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(60);
    let own = Duration::from_millis(200 << attempt.min(6));
    let asked = error.downcast_ref::<Refused>().and_then(|r| r.pause);
    asked.unwrap_or(own).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_words_are_shown_as_docker_shows_them() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(Refused::new(404, body, None).to_string(), "manifest unknown: manifest unknown");
        assert_eq!(Refused::new(401, b"<html>", None).to_string(), "unauthorized: authentication required");
        assert_eq!(Refused::new(418, b"", None).to_string(), "received unexpected HTTP status 418");
        let error = Error::new(Refused::new(503, b"", Some(Duration::from_secs(7)))).context("get it");
        assert!(is_passing(&error));
        assert_eq!(pause(&error, 0), Duration::from_secs(7));
        assert!(!is_passing(&Error::new(Refused::new(404, b"", None))));
    }
}
