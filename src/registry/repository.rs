//! One repository: its manifests, blobs and tags.

use super::errors::Refused;
use super::http::{Ask, Content, body_of, header_of};
use super::session::{Rights, Session, patiently};
use super::settings::Settings;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::io::Read;
use ureq::http::Uri;

/// The distribution specification's own limit for manifests.
const MANIFEST_LIMIT: u64 = 4 << 20;
const TAGS_LIMIT: u64 = 4 << 20;
const PAGES: usize = 1000;

/// What we read; the registry chooses among what it has.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A manifest or an index as it came.
#[derive(Debug)]
pub struct Received {
    /// What the registry says it is.
    pub media_type: String,
    /// What the registry says that its digest is.
    pub digest: Option<String>,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A blob on its way, or the rest of one.
pub struct Part {
    /// Its bytes.
    pub body: Box<dyn Read + Send>,
    /// The first byte's place in the blob: 0 if the registry cannot begin elsewhere.
    pub from: u64,
}

/// A repository at a registry.
pub struct Repository {
    pub(super) session: Session,
    pub(super) path: String,
    pub(super) scopes: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    pub(super) fn new(session: Session, path: &str, rights: Rights) -> Repository {
        let actions = if rights == Rights::Push { "pull,push" } else { "pull" };
        let scopes = vec![format!("repository:{path}:{actions}")];
        Repository { session, path: path.to_owned(), scopes }
    }

    /// The registry's host, to which memories of what it has belong.
    pub fn host(&self) -> &str {
        self.session.host()
    }

    /// The repository's name there.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        self.session.settings()
    }

    pub(super) fn url(&self, rest: &str) -> Result<Uri> {
        self.session.url(&format!("{}/{rest}", self.path))
    }

    /// Gets a manifest or an index by a tag or a digest. Its digest is for the caller to compare.
    pub fn manifest(&self, reference: &str) -> Result<Received> {
        let mut ask = Ask::new("GET", self.url(&format!("manifests/{reference}"))?);
        ask = ask.header("accept", MANIFESTS.join(", "));
        patiently(|| {
            let response = self.session.ask(&ask, &self.scopes)?;
            let content_type = header_of(&response, "content-type").unwrap_or_default();
            let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
            let digest = header_of(&response, "docker-content-digest").filter(|d| d.starts_with("sha256:"));
            let digest = digest.map(|d| d.trim().to_owned());
            let data = body_of(response, MANIFEST_LIMIT);
            Ok(Received { media_type, digest, data: data.context("read the manifest")? })
        })
    }

    /// Begins to get a blob from byte `from` on. Neither its length nor its digest is checked here.
    pub fn blob(&self, digest: &str, from: u64) -> Result<Part> {
        self.part(self.url(&format!("blobs/{digest}"))?, from)
    }

    /// Begins to get content that is kept outside of the registry.
    pub fn foreign(&self, address: &str, from: u64) -> Result<Part> {
        let url: Uri = address.parse().with_context(|| format!("understand the address {address:?}"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            bail!("the layer's address {address:?} is not one of the web");
        }
        let url = self.session.onward(&self.url("")?, address).with_context(|| format!("the layer at {address:?}"))?;
        self.part(url, from)
    }

    fn part(&self, url: Uri, from: u64) -> Result<Part> {
        let mut ask = Ask::new("GET", url);
        if from > 0 {
            ask = ask.header("range", format!("bytes={from}-"));
        }
        let response = match self.session.ask(&ask, &self.scopes) {
            // It knows of no such byte; then let us see the whole.
            Err(e) if from > 0 && e.downcast_ref::<Refused>().is_some_and(|r| r.status == 416) => {
                return self.part(ask.url, 0);
            }
            other => other?,
        };
        let is_rest = response.status().as_u16() == 206;
        if is_rest && !begins_at(header_of(&response, "content-range"), from) {
            bail!("{}: the registry sends another part than was asked for", ask.shown());
        }
        let from = if is_rest { from } else { 0 };
        Ok(Part { body: Box::new(response.into_body().into_reader()), from })
    }

    /// Whether the repository has a blob.
    pub fn has_blob(&self, digest: &str) -> Result<bool> {
        let ask = Ask::new("HEAD", self.url(&format!("blobs/{digest}"))?);
        match patiently(|| self.session.ask(&ask, &self.scopes)) {
            Ok(_) => Ok(true),
            Err(e) if e.downcast_ref::<Refused>().is_some_and(Refused::is_unknown) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// All tags.
    pub fn tags(&self) -> Result<Vec<String>> {
        let mut url = self.url("tags/list?n=1000")?;
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let ask = Ask::new("GET", url.clone());
            let (data, next) = patiently(|| {
                let response = self.session.ask(&ask, &self.scopes)?;
                let next = header_of(&response, "link").and_then(next_page).map(str::to_owned);
                let data = body_of(response, TAGS_LIMIT);
                Ok((data.context("read the list of tags")?, next))
            })?;
            let page: Tags = serde_json::from_slice(&data).context("read the list of tags")?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => url = self.session.onward(&url, &next)?,
                None => return Ok(all),
            }
        }
        bail!("the list of tags does not end")
    }

    /// Puts a manifest under a tag or its digest.
    pub fn put_manifest(&self, reference: &str, media_type: &str, data: &[u8]) -> Result<()> {
        let ask = Ask::new("PUT", self.url(&format!("manifests/{reference}"))?)
            .header("content-type", media_type)
            .content(Content::Bytes(data));
        patiently(|| self.session.ask(&ask, &self.scopes).map(drop))
    }
}

fn begins_at(range: Option<&str>, from: u64) -> bool {
    let first = range.and_then(|r| r.trim().strip_prefix("bytes")).and_then(|r| r.trim().split('-').next());
    first.and_then(|text| text.parse().ok()) == Some(from)
}

/// The address in `<…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.replace(['"', ' '], "").contains("rel=next").then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_parts_and_pages() {
        assert!(begins_at(Some("bytes 10-19/20"), 10));
        assert!(!begins_at(Some("bytes 0-19/20"), 10) && !begins_at(None, 10) && !begins_at(Some("x"), 0));
        assert_eq!(next_page("</v2/a/tags/list?last=b&n=1>; rel=\"next\""), Some("/v2/a/tags/list?last=b&n=1"));
        assert_eq!(next_page("</x>; rel=prev"), None);
    }
}
