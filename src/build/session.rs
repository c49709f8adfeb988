//! One build: what was asked for, what it works with, and what its stages share.

use super::Subject;
use super::cache_mounts::Emptied;
use super::context::Context;
use super::copy::Memo;
use super::dockerfile::{Dockerfile, Globals, Lines, Problem};
use super::mounts::Secrets;
use super::names::Names;
use super::progress::Reporter;
use super::worker::Workers;
use crate::container::options::RunOptions;
use crate::image::{Digest, Image, Reference, Store};
use crate::layout::{Root, Workshop, mkdir_all};
use crate::sys::depth;
use anyhow::{Context as _, Result, anyhow, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where it is kept what files were known by.
const HASHES: &str = "build/hashes";

/// Brings in what is elsewhere.
pub trait Fetch: Sync {
    /// Brings the image of this name in, or looks whether there is a newer one.
    ///
    /// # Errors
    /// There is none, or it cannot be had.
    fn fetch(&self, name: &Reference) -> Result<()>;

    /// Writes the content of an address to an empty file; gives when it was last changed, in seconds since 1970, if that
    /// is known. `go_on` hears how many bytes there are, and may put an end to it.
    ///
    /// # Errors
    /// It cannot be had.
    fn download(&self, address: &str, into: &File, go_on: &dyn Fn(u64) -> Result<()>) -> Result<Option<i64>>;
}

/// What a build was asked for, beside its Dockerfile and context.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--target`: a stage by name or number; the last one if `None`.
    pub target: Option<String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: the same for the stages of these names, in any case.
    pub no_cache_filter: Vec<String>,
    /// `--pull`.
    pub pull: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--secret` and `--ssh`.
    pub secrets: Secrets,
    /// `--build-context name=…`.
    pub named: BTreeMap<String, Named>,
    /// What the containers of all commands have in common.
    pub container: RunOptions,
    /// `SOURCE_DATE_EPOCH`: nothing in the image is younger.
    pub epoch: Option<i64>,
    /// `--allow`: what commands may be that are not confined.
    pub allow: BTreeSet<String>,
    /// `--squash`: the layers of the build become one.
    pub squash: bool,
}

/// What a name means that a build was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A folder of the host.
    Folder(PathBuf),
    /// An image.
    Image(String),
}

/// What the stages of a build share.
pub struct Session<'a> {
    /// The store.
    pub root: &'a Root,
    /// Its images.
    pub store: Store,
    /// Where everything half made is.
    pub workshop: Workshop,
    /// Its files.
    pub context: Context,
    /// What files of contexts were known by.
    pub memo: Memo,
    /// Who runs commands.
    pub workers: Workers,
    /// Who hears of it.
    pub reporter: Reporter<'a>,
    /// What was asked for.
    pub wishes: &'a Wishes,
    /// The file.
    pub file: &'a Dockerfile,
    /// Its variables.
    pub globals: &'a Globals,
    /// Who brings images.
    pub fetch: &'a dyn Fetch,
    /// The caches that it has begun anew.
    pub emptied: Emptied,
    canceled: AtomicBool,
    images: Mutex<BTreeMap<String, Image>>,
}

/// Somebody else has failed, so this was given up.
#[derive(Debug)]
pub struct Canceled;

impl std::fmt::Display for Canceled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("canceled")
    }
}

impl std::error::Error for Canceled {}

/// Why a build has failed, as far as a part of the Dockerfile is to blame.
#[derive(Debug)]
pub struct Failed {
    /// The name of the part as [`super::progress`] knows it; empty if none had begun.
    pub step: String,
    /// Which lines, and why.
    pub problem: Problem,
    /// The state before it, to look around in.
    pub before: Option<Before>,
}

/// The state before a command that has failed.
#[derive(Clone, Debug)]
pub struct Before {
    /// An image without a name.
    pub image: Digest,
    /// Variables that the command had beside those of the image.
    pub env: Vec<String>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Failed {}

impl<'a> Session<'a> {
    /// Nothing is done yet.
    pub fn new(
        root: &'a Root,
        subject: Subject,
        reporter: Reporter<'a>,
        wishes: &'a Wishes,
        file: &'a Dockerfile,
        globals: &'a Globals,
        fetch: &'a dyn Fetch,
    ) -> Session<'a> {
        // Comparing with a tall stack of layers keeps a directory of each open.
        depth::make_room();
        Session {
            root,
            store: Store::open(root),
            workshop: subject.workshop,
            context: subject.context,
            memo: Memo::open(&root.join(HASHES)),
            workers: Workers::new(root),
            reporter,
            wishes,
            file,
            globals,
            fetch,
            emptied: Emptied::default(),
            canceled: AtomicBool::new(false),
            images: Mutex::default(),
        }
    }

    /// Keeps what files were known by.
    pub fn save_hashes(&self) -> Result<()> {
        mkdir_all(&self.root.join("build"))?;
        self.memo.save().context("keep what files are known by")
    }

    /// Gives up everything that is going on.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Canceled`] if somebody has.
    pub fn go_on(&self) -> Result<()> {
        if self.canceled.load(Ordering::Relaxed) { Err(Canceled.into()) } else { Ok(()) }
    }

    /// What names of the file mean.
    pub fn names(&self) -> Names<'a> {
        Names { file: self.file, contexts: &self.wishes.named }
    }

    /// The image of this name, brought in if it is missing or if newer ones are wanted.
    pub fn image(&self, name: &str) -> Result<Image> {
        // One at a time: several stages often want the same one.
        let mut images = self.images.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(image) = images.get(name) {
            return Ok(image.clone());
        }
        let parsed = Reference::parse(name);
        let shown = parsed.as_ref().map_or_else(|_| name.to_owned(), Reference::to_string);
        let step = self.reporter.begin(format!("[internal] load metadata for {shown}"));
        let found = self.find_image(name, parsed);
        match found {
            Ok(image) => {
                step.done();
                images.insert(name.to_owned(), image.clone());
                Ok(image)
            }
            Err(error) => {
                step.failed(format!("{error:#}"));
                Err(error)
            }
        }
    }

    fn find_image(&self, name: &str, parsed: Result<Reference>) -> Result<Image> {
        // A whole id is nobody's name. The beginning of one may well be, and then it is the name.
        if Digest::from_hex(name.strip_prefix("sha256:").unwrap_or(name)).is_ok() {
            return self.store.find_for(&self.workshop, name)?.with_context(|| format!("{name}: not found"));
        }
        let reference = parsed.with_context(|| format!("{name:?} is not the name of an image"))?;
        let find = || self.store.find_for(&self.workshop, &reference.to_string());
        if let Some(image) = find()?.filter(|_| !self.wishes.pull) {
            return Ok(image);
        }
        match (self.fetch.fetch(&reference), find()?) {
            (Ok(()), Some(image)) => Ok(image),
            (Ok(()), None) => Err(anyhow!("{name} was brought in but is not there")),
            (Err(error), _) => Err(error).with_context(|| format!("{}: not found", reference.familiar())),
        }
    }

    /// A failure that some lines of the file are to blame for.
    pub fn failed(&self, step: &str, lines: Lines, error: anyhow::Error, before: Option<Before>) -> anyhow::Error {
        if error.is::<Canceled>() || error.is::<Failed>() {
            return error;
        }
        let problem = match error.downcast::<Problem>() {
            Ok(problem) => problem,
            Err(error) => Problem {
                source: self.file.source.clone(),
                lines: Some(lines),
                message: format!("{error:#}"),
                is_syntax: false,
            },
        };
        Failed { step: step.to_owned(), problem, before }.into()
    }
}

/// Refuses platforms that this machine cannot run.
pub fn check_platform(platform: &str) -> Result<()> {
    let own = host_platform();
    let (os, rest) = platform.split_once('/').unwrap_or(("linux", platform));
    let architecture = match rest.split('/').next().unwrap_or(rest) {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    if format!("{os}/{architecture}") == own || platform == "linux" || platform == "local" {
        return Ok(());
    }
    bail!("the platform {platform} is not this machine's, which is {own}: images are built only for the machine itself")
}

/// This machine's platform.
pub fn host_platform() -> String {
    format!("linux/{}", crate::image::host_architecture())
}
