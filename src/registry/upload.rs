//! Sending a blob: mounted from a neighbour, whole, or in pieces that can be continued.

use super::errors::{Refused, is_passing, pause};
use super::http::{Ask, Content, Source, encode, header_of};
use super::repository::Repository;
use super::session::{ATTEMPTS, patiently};
use anyhow::{Context, Result, bail};
use std::io::{self, Read};
use ureq::http::Uri;

/// Larger blobs go in pieces from the first attempt on.
const WHOLE_LIMIT: u64 = 1 << 30;
const PIECE: u64 = 16 << 20;

/// A blob to be sent.
struct Blob<'a> {
    digest: &'a str,
    size: u64,
    source: &'a dyn Source,
    sent: &'a (dyn Fn(u64) + Sync),
}

impl Repository {
    /// Lets the registry take a blob from another of its repositories. False if it does not.
    pub fn mount(&self, digest: &str, from: &str) -> Result<bool> {
        let rest = format!("blobs/uploads/?mount={}&from={}", encode(digest), encode(from));
        let ask = Ask::new("POST", self.url(&rest)?);
        let mut scopes = self.scopes.clone();
        scopes.push(format!("repository:{from}:pull"));
        let response = match patiently(|| self.session.ask(&ask, &scopes)) {
            // It is only a try: whoever may not read there sends the blob.
            Err(e) if e.downcast_ref::<Refused>().is_some_and(|r| r.status < 500) => return Ok(false),
            other => other?,
        };
        let is_mounted = response.status().as_u16() == 201;
        if !is_mounted && let Ok(place) = self.location(&ask.url, header_of(&response, "location")) {
            // The registry has begun an upload instead, which nobody needs.
            let _ = self.session.ask(&Ask::new("DELETE", place), &self.scopes);
        }
        Ok(is_mounted)
    }

    /// Sends a blob of `size` bytes. `sent` hears how many bytes are on their way.
    pub fn upload(&self, digest: &str, size: u64, source: &dyn Source, sent: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let blob = Blob { digest, size, source, sent };
        let mut in_pieces = size > WHOLE_LIMIT;
        let mut attempt = 0;
        loop {
            let result = if in_pieces { self.send_pieces(&blob) } else { self.send_whole(&blob) };
            let Err(error) = result else { return Ok(()) };
            let is_odd =
                in_pieces && error.downcast_ref::<Refused>().is_some_and(|r| matches!(r.status, 404 | 405 | 416));
            if attempt + 1 == ATTEMPTS || !(is_passing(&error) || is_odd) {
                return Err(error);
            }
            std::thread::sleep(pause(&error, attempt));
            attempt += 1;
            // It may have arrived although we did not hear of it.
            if self.has_blob(digest)? {
                return Ok(());
            }
            // A connection that breaks is better served with pieces, unless the registry takes none.
            in_pieces = !is_odd;
        }
    }

    fn location(&self, base: &Uri, header: Option<&str>) -> Result<Uri> {
        self.session.onward(base, header.context("the registry does not say where to send the blob")?)
    }

    fn begin(&self) -> Result<Uri> {
        let ask = Ask::new("POST", self.url("blobs/uploads/")?);
        let response = patiently(|| self.session.ask(&ask, &self.scopes))?;
        self.location(&ask.url, header_of(&response, "location"))
    }

    fn send_whole(&self, blob: &Blob) -> Result<()> {
        let place = self.begin()?;
        let telling = Telling { blob };
        let ask = Ask::new("PUT", with_digest(&place, blob.digest)?)
            .header("content-type", "application/octet-stream")
            .content(Content::Part(&telling, 0, blob.size));
        self.session.ask(&ask, &self.scopes).map(drop)
    }

    fn send_pieces(&self, blob: &Blob) -> Result<()> {
        let mut place = self.begin()?;
        let (mut at, mut attempt) = (0, 0);
        while at < blob.size {
            let length = PIECE.min(blob.size - at);
            let telling = Telling { blob };
            let ask = Ask::new("PATCH", place.clone())
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{at}-{}", at + length - 1))
                .content(Content::Part(&telling, at, length));
            match self.session.ask(&ask, &self.scopes) {
                Ok(response) => {
                    place = self.location(&place, header_of(&response, "location"))?;
                    (at, attempt) = (at + length, 0);
                }
                Err(error) if attempt + 1 < ATTEMPTS && is_passing(&error) => {
                    std::thread::sleep(pause(&error, attempt));
                    attempt += 1;
                    (place, at) = self.arrived(&place, blob.size)?;
                }
                Err(error) => return Err(error),
            }
        }
        let ask = Ask::new("PUT", with_digest(&place, blob.digest)?);
        self.session.ask(&ask, &self.scopes).map(drop)
    }

    /// How much of an upload has arrived, and where the rest goes.
    fn arrived(&self, place: &Uri, size: u64) -> Result<(Uri, u64)> {
        let ask = Ask::new("GET", place.clone());
        let response = patiently(|| self.session.ask(&ask, &self.scopes))?;
        let range = header_of(&response, "range").unwrap_or("0-0").trim_start_matches("bytes=");
        let last: u64 = range.split('-').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        // `0-0` is what registries say when nothing has arrived.
        let arrived = if last == 0 { 0 } else { last + 1 };
        if arrived > size {
            bail!("the registry has received more than was sent");
        }
        let next = match header_of(&response, "location") {
            Some(location) => self.session.onward(place, location)?,
            None => place.clone(),
        };
        Ok((next, arrived))
    }
}

fn with_digest(place: &Uri, digest: &str) -> Result<Uri> {
    let separator = if place.query().is_some() { '&' } else { '?' };
    format!("{place}{separator}digest={}", encode(digest)).parse().context("put the upload's address together")
}

/// A source that tells how far it was read.
struct Telling<'a> {
    blob: &'a Blob<'a>,
}

impl Source for Telling<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Counted { source: self.blob.source.open(from)?, at: from, sent: self.blob.sent }))
    }
}

struct Counted<'a> {
    source: Box<dyn Read + Send + 'a>,
    at: u64,
    sent: &'a (dyn Fn(u64) + Sync),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.at += length as u64;
        (self.sent)(self.at);
        Ok(length)
    }
}
