//! What `build` is given: a folder, the standard input, something on the web.

use super::progress::{Lines, Stream as Output};
use super::{App, web};
use crate::build::context::{DockerfileAt, Stream, tell_apart};
use crate::build::git::Repository;
use crate::build::{ContextAt, Subject};
use crate::image::progress::{Step, Watched};
use crate::registry::address::{is_address as is_web_address, without_secrets};
use crate::sys::tty;
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;

/// Nobody's honest Dockerfile is larger.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// Opens the context at `path`, with the Dockerfile that `-f` names. `keeps_git` is for repositories.
pub fn open_subject(app: &App, file: Option<&Path>, path: &Path, keeps_git: bool, quiet: bool) -> Result<Subject> {
    let is_stream = |path: &Path| path.as_os_str() == "-";
    let file_is_stream = file.is_some_and(is_stream);
    if file_is_stream && is_stream(path) {
        bail!("the context and the Dockerfile cannot both come from the standard input");
    }
    if is_stream(path) {
        if tty::is_terminal(rustix::stdio::stdin()) {
            bail!("a context or a Dockerfile was expected at the standard input, but that is a terminal");
        }
        return from_stream(app, file, std::io::stdin(), quiet).context("from the standard input");
    }
    if let Some(address) = path.to_str().filter(|text| is_address(text)) {
        if file_is_stream {
            bail!(
                "the Dockerfile cannot come from the standard input when the context is {}",
                without_secrets(address)
            );
        }
        let opened = match Repository::parse(&whole(address)) {
            Some(repository) => {
                let context = ContextAt::Repository(&repository, keeps_git);
                Subject::open(&app.root, context, dockerfile_at(file))
            }
            None => from_web(app, file, address, quiet),
        };
        return opened.with_context(|| format!("the context {}", without_secrets(address)));
    }
    let context = ContextAt::Folder(path);
    if file_is_stream {
        let mut text = Vec::new();
        std::io::stdin().lock().take(DOCKERFILE_LIMIT).read_to_end(&mut text).context("read the Dockerfile")?;
        return Subject::open(&app.root, context, DockerfileAt::Text(&String::from_utf8_lossy(&text)));
    }
    Subject::open(&app.root, context, dockerfile_at(file))
}

fn dockerfile_at(file: Option<&Path>) -> DockerfileAt<'_> {
    file.map_or(DockerfileAt::Default, DockerfileAt::Path)
}

fn from_web(app: &App, file: Option<&Path>, address: &str, quiet: bool) -> Result<Subject> {
    from_stream(app, file, web::get(app, address)?, quiet)
}

/// An archive with the context, or a Dockerfile without one.
fn from_stream(app: &App, file: Option<&Path>, stream: impl Read + Send, quiet: bool) -> Result<Subject> {
    // While it is read there is something to see on a terminal; a folder is used where it is.
    let lines = if quiet { Lines::new(Output::Errors, true) } else { Lines::passing() };
    let stream = Watched::new(stream, &lines, String::new(), None, Step::TransferringContext);
    match tell_apart(stream)? {
        Stream::Archive(stream) => Subject::open(&app.root, ContextAt::Archive(Box::new(stream)), dockerfile_at(file)),
        Stream::Dockerfile(_) if file.is_some() => {
            bail!("-f names a file in the context, but there is none, only a Dockerfile")
        }
        Stream::Dockerfile(text) => Subject::open(&app.root, ContextAt::Nowhere, DockerfileAt::Text(&text)),
    }
}

fn is_address(text: &str) -> bool {
    is_web_address(text) || Repository::parse(&whole(text)).is_some()
}

/// Of one place people leave out how it is reached, and that it is a repository.
fn whole(address: &str) -> String {
    let (place, part) = address.split_once('#').map_or((address, None), |(place, part)| (place, Some(part)));
    if !place.starts_with("github.com/") {
        return address.to_owned();
    }
    let place = format!("https://{}.git", place.trim_end_matches(".git").trim_end_matches('/'));
    part.map_or(place.clone(), |part| format!("{place}#{part}"))
}
