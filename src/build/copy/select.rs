//! From the words of an instruction to files and folders.

use super::walk::{Node, Spot};
use crate::build::dockerfile::{Transfer, TransferSource};
use crate::build::git::Repository;
use crate::build::glob::Glob;
use crate::build::ignore::Ignore;
use crate::image::union::Union;
use crate::layout::Scratch;
use crate::registry::address::{is_address, without_secrets};
use crate::sys::dir::{Dir, clean, file_type};
use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where files come from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The tree; a folder is a tree of one layer.
    pub tree: Union,
    /// What of it does not count.
    pub ignore: Option<Arc<Ignore>>,
    /// Whether files keep their owner: those of stages and images do, those of a context become root's.
    pub keeps_owner: bool,
    /// What it is, for messages: `the build context`, `the stage build`.
    pub name: String,
}

/// What is asked for, with variables expanded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub transfer: &'a Transfer,
    /// `ADD`: archives are unpacked, addresses are fetched.
    pub is_add: bool,
    /// Where relative destinations start.
    pub workdir: &'a str,
}

/// A file that came from elsewhere.
#[derive(Debug)]
pub struct Fetched {
    /// Its content, from the start.
    pub file: File,
    /// Seconds since 1970, if the server has told.
    pub modified: Option<i64>,
}

/// What is behind an address.
#[derive(Debug)]
pub enum Got {
    File(Fetched),
    /// The files of a repository, and where they are in a folder that has to stay.
    Folder(Scratch, PathBuf),
}

/// One thing to be copied.
#[derive(Debug)]
pub(super) enum Source {
    Tree(Box<Selected>),
    /// A heredoc.
    Text {
        name: String,
        content: String,
    },
    Remote {
        name: String,
        fetched: Fetched,
    },
}

/// A file or a folder of the origin.
#[derive(Debug)]
pub(super) struct Selected {
    pub node: Node,
    /// The last name of the path that was asked for.
    pub base: Vec<u8>,
    /// With `--parents`: the components that are kept, the last one included.
    pub kept: Vec<Vec<u8>>,
    /// And the folders that those components are, as far as they are folders.
    pub folders: Vec<Arc<Spot>>,
}

/// What an instruction is going to do.
#[derive(Debug)]
pub struct Plan {
    pub(super) sources: Vec<Source>,
    pub(super) origin: Origin,
    pub(super) excludes: Ignore,
    pub(super) transfer: Transfer,
    pub(super) is_add: bool,
    /// Absolute and clean.
    pub(super) destination: Vec<Vec<u8>>,
    /// Whether the destination is a folder, whatever is there now.
    pub(super) is_folder: bool,
    /// Folders that sources are in.
    scratches: Vec<Scratch>,
}

/// Finds what an instruction is about. `fetch` gets the content of an address.
///
/// # Errors
/// A source that is not there, and what makes no sense.
pub fn plan(request: &Request, origin: &Origin, fetch: &dyn Fn(&str) -> Result<Got>) -> Result<Plan> {
    let Request { transfer, is_add, workdir } = *request;
    let keyword = if is_add { "ADD" } else { "COPY" };
    let destination = &transfer.destination;
    if destination.is_empty() {
        bail!("{keyword} needs a destination, and its variables leave none");
    }
    let is_named_folder = destination.ends_with('/') || destination == "." || destination.ends_with("/.");
    let absolute = clean(&Path::new("/").join(workdir).join(destination));
    let mut plan = Plan {
        sources: Vec::new(),
        origin: origin.clone(),
        excludes: Ignore::of(transfer.excludes.iter().map(String::as_str)).context("--exclude")?,
        transfer: transfer.clone(),
        is_add,
        destination: components(absolute.as_os_str()),
        is_folder: is_named_folder || destination == "..",
        scratches: Vec::new(),
    };
    for source in &transfer.sources {
        match source {
            TransferSource::Heredoc(heredoc) => {
                plan.sources.push(Source::Text { name: heredoc.name.clone(), content: heredoc.text() });
            }
            TransferSource::Path(address) if is_add && is_remote(address) => {
                let source = plan.remote(address, is_named_folder, fetch)?;
                plan.sources.push(source);
            }
            TransferSource::Path(address) if is_remote(address) => {
                bail!("source can't be a URL for COPY: {}; ADD gets files from the web", without_secrets(address))
            }
            TransferSource::Path(path) => {
                let mut found = local(path, origin, transfer)?;
                found.retain(|selected| !plan.is_excluded(selected));
                plan.sources.extend(found.into_iter().map(|selected| Source::Tree(Box::new(selected))));
            }
        }
    }
    if transfer.checksum.is_some() && plan.sources.iter().any(|s| !matches!(s, Source::Remote { .. })) {
        bail!("--checksum can only be used with an address as the source");
    }
    Ok(plan)
}

/// The components of a path that is already clean.
fn components(path: &OsStr) -> Vec<Vec<u8>> {
    path.as_bytes().split(|b| *b == b'/').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect()
}

fn is_remote(source: &str) -> bool {
    is_address(source) || Repository::parse(source).is_some()
}

impl Plan {
    fn remote(&mut self, address: &str, is_folder: bool, fetch: &dyn Fn(&str) -> Result<Got>) -> Result<Source> {
        let is_repository = Repository::parse(address).is_some();
        let (name, shown) = (file_name(address), without_secrets(address));
        if !is_repository && is_folder && name.is_empty() {
            bail!("{shown} ends with no file name, so the destination must be one");
        }
        let fetched = match fetch(address).with_context(|| format!("get {shown}"))? {
            Got::File(fetched) => fetched,
            Got::Folder(scratch, path) => {
                let tree = Union::new(vec![Dir::open(path).context("open the repository's files")?]);
                self.scratches.push(scratch);
                let node = Node::Folder(Spot::top(&tree, None));
                return Ok(Source::Tree(Box::new(Selected { node, base: Vec::new(), kept: vec![], folders: vec![] })));
            }
        };
        if let Some(checksum) = &self.transfer.checksum {
            let wanted: crate::image::Digest = checksum.parse().with_context(|| format!("--checksum={checksum}"))?;
            let found = super::file::digest_of(&fetched.file).with_context(|| format!("read {shown}"))?;
            if found != wanted {
                bail!("the content of {shown} has the digest {found}, not {wanted}");
            }
        }
        Ok(Source::Remote { name, fetched })
    }
}

/// The last part of an address, if it can be the name of a file.
fn file_name(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let path = decoded(path);
    let name = path.rsplit('/').next().unwrap_or_default();
    if matches!(name, "." | "..") || name.contains('\0') { String::new() } else { name.to_owned() }
}

/// A part of an address without `%` signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(b'%'));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// What a path or pattern means.
fn local(text: &str, origin: &Origin, transfer: &Transfer) -> Result<Vec<Selected>> {
    let (before, after) = match transfer.parents {
        true => text.split_once("/./").map_or(("", text), |(before, after)| (before, after)),
        false => ("", text),
    };
    let pivot = words(before);
    let kept = words(after);
    let spot = Spot::top(&origin.tree, origin.ignore.clone());
    let pattern: Vec<&str> = pivot.iter().chain(&kept).map(String::as_str).collect();
    let is_pattern = Glob::is_special(text);
    let mut found = Vec::new();
    expand(spot.clone(), &pattern, Vec::new(), &mut found).with_context(|| format!("look for {text:?}"))?;
    let mut seen = BTreeSet::new();
    found.retain(|(path, _)| seen.insert(path.clone()));
    if found.is_empty() && !is_pattern {
        bail!("{:?}: not found in {}{}", format!("/{}", pattern.join("/")), origin.name, why_not(origin, &pattern));
    }
    // A pattern that matches nothing is nothing to copy.
    let select = |(path, node): (Vec<Vec<u8>>, Node)| -> Result<Selected> {
        let base = path.last().cloned().unwrap_or_default();
        let (kept, folders) = match transfer.parents {
            true => (path[pivot.len()..].to_vec(), folders(&spot, &path)?.split_off(pivot.len())),
            false => (Vec::new(), Vec::new()),
        };
        Ok(Selected { node, base, kept, folders })
    };
    found.into_iter().map(select).collect()
}

/// The folders that the components of a path lead to.
fn folders(top: &Arc<Spot>, path: &[Vec<u8>]) -> Result<Vec<Arc<Spot>>> {
    let mut folders: Vec<Arc<Spot>> = Vec::new();
    for name in path {
        match folders.last().unwrap_or(top).resolve(OsStr::from_bytes(name))? {
            Some(Node::Folder(spot)) => folders.push(spot),
            _ => break,
        }
    }
    Ok(folders)
}

impl Plan {
    /// Whether `--exclude` is about a source itself.
    fn is_excluded(&self, selected: &Selected) -> bool {
        match &selected.node {
            _ if !selected.kept.is_empty() => self.excludes.is_ignored(&selected.kept.join(&b'/')),
            Node::Leaf { .. } => self.excludes.is_ignored(&selected.base),
            Node::Folder(_) => false,
        }
    }
}

/// The components of a source: what leads above the top stops there.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split('/') {
        match word {
            "" | "." => {}
            ".." => drop(words.pop()),
            word => words.push(word.to_owned()),
        }
    }
    words
}

fn why_not(origin: &Origin, pattern: &[&str]) -> &'static str {
    let plain = Origin { ignore: None, ..origin.clone() };
    let mut found = Vec::new();
    let spot = Spot::top(&plain.tree, None);
    match origin.ignore.is_some() && expand(spot, pattern, Vec::new(), &mut found).is_ok() && !found.is_empty() {
        true => ": it is excluded by .dockerignore",
        false => "",
    }
}

type Found = Vec<(Vec<Vec<u8>>, Node)>;

/// Follows components from `spot`; each pattern among them may lead to several places.
fn expand(spot: Arc<Spot>, pattern: &[&str], path: Vec<Vec<u8>>, found: &mut Found) -> Result<()> {
    let Some((first, rest)) = pattern.split_first() else {
        found.push((path, Node::Folder(spot)));
        return Ok(());
    };
    if !Glob::is_special(first) {
        let name = unescaped(first);
        let path = [path, vec![name.clone()]].concat();
        return match spot.resolve(OsStr::from_bytes(&name))? {
            None => Ok(()),
            Some(node) => go_on(node, rest, path, found),
        };
    }
    let any = *first == "**";
    if any && !rest.is_empty() {
        expand(spot.clone(), rest, path.clone(), found)?;
    }
    let glob = Glob::new(first)?;
    for (name, entry) in spot.entries()? {
        if !glob.matches(name.as_bytes()) {
            continue;
        }
        let path = [path.clone(), vec![name.as_bytes().to_vec()]].concat();
        if rest.is_empty() {
            if let Some(node) = spot.resolve(&name)? {
                found.push((path, node));
            }
        } else if file_type(&entry.found.stat) == FileType::Directory {
            // Links are not followed here: there may be circles.
            let inner = spot.enter(&name, &entry)?;
            expand(inner, if any { pattern } else { rest }, path, found)?;
        }
    }
    Ok(())
}

fn go_on(node: Node, rest: &[&str], path: Vec<Vec<u8>>, found: &mut Found) -> Result<()> {
    match node {
        Node::Folder(spot) => expand(spot, rest, path, found),
        leaf if rest.is_empty() => {
            found.push((path, leaf));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out.into_bytes()
}
