//! The build room: from a Dockerfile and a context to an image.
//!
//! ```text
//! solve        which stages are needed; they are built at the same time
//! stage        one stage from its FROM to its last instruction; config, workdir, run
//! names        what a name after FROM and --from= means: a named context, a stage or an image
//! output       the image, or whatever else the result is to be
//! session      what the stages of one build share; progress is what it tells
//! run          a command in a container: sandbox composes it, mounts gets its sources ready (agent: ssh), worker runs it
//! change       instructions on the command line of `commit` and `import`
//! key          what steps are known by; what came out of them is remembered in the image room
//! transfer     COPY and ADD: copy does the work, from a context, a stage or an image into a new layer
//! prune        what builds keep: remembered steps and cache_mounts
//! context      the folder or archive, its Dockerfile and .dockerignore
//! git          repositories as contexts and sources
//! ignore, glob `.dockerignore`, and patterns for paths
//! dockerfile   text -> instructions with their positions; variables; `Scope` evaluates one after another
//! ```

mod agent;
mod cache_mounts;
pub mod change;
mod config;
pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod git;
mod glob;
pub mod ignore;
mod key;
mod mounts;
mod names;
pub mod output;
pub mod progress;
pub mod prune;
mod run;
mod sandbox;
pub mod session;
mod solve;
mod stage;
mod transfer;
mod workdir;
pub mod worker;

use crate::image::Digest;
use crate::layout::{Root, Workshop};
use anyhow::{Context as _, Result, bail};
use context::{Context, DockerfileAt};
use dockerfile::{Dockerfile, Globals, Kind, Platforms, Problem, Source};
use git::Repository;
use output::Output;
use progress::{Progress, Reporter};
use session::{Fetch, Session, Wishes};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub use mounts::Secrets;

/// Where the files of a build are.
pub enum ContextAt<'a> {
    /// A folder of the host.
    Folder(&'a Path),
    /// A git repository; whether its `.git` is a part of the context.
    Repository(&'a Repository, bool),
    /// A stream of a tar archive.
    Archive(Box<dyn Read + Send + 'a>),
    /// There are none.
    Nowhere,
}

/// What a build is about, opened and read.
pub struct Subject {
    workshop: Workshop,
    context: Context,
    source: Arc<Source>,
}

impl Subject {
    /// Opens a context and reads the Dockerfile.
    ///
    /// # Errors
    /// There is no such context, or no Dockerfile.
    pub fn open(root: &Root, context: ContextAt<'_>, dockerfile: DockerfileAt<'_>) -> Result<Subject> {
        let context = match context {
            ContextAt::Folder(path) => Context::directory(path).map(|context| (None, context)),
            ContextAt::Repository(repository, keeps_git) => {
                let workshop = root.workshop()?;
                Context::repository(workshop.scratch()?, repository, keeps_git).map(|context| (Some(workshop), context))
            }
            ContextAt::Nowhere => Ok((None, Context::empty())),
            ContextAt::Archive(stream) => {
                let workshop = root.workshop()?;
                Context::archive(workshop.scratch()?, stream).map(|context| (Some(workshop), context))
            }
        };
        let (workshop, mut context) = context?;
        let source = context.read_dockerfile(dockerfile)?;
        if source.text.trim().is_empty() {
            bail!("the Dockerfile ({}) cannot be empty", source.name);
        }
        let workshop = workshop.map_or_else(|| root.workshop(), Ok).context("begin the build")?;
        Ok(Subject { workshop, context, source })
    }

    /// The Dockerfile, with what is odd about it.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn dockerfile(&self) -> Result<Dockerfile, Problem> {
        dockerfile::parse(self.source.clone())
    }
}

/// Builds an image and gives its id, if the result is one.
///
/// # Errors
/// A [`session::Failed`] or a [`dockerfile::Problem`] for what a part of the Dockerfile is to blame for.
pub fn build(
    root: &Root,
    subject: Subject,
    wishes: &Wishes,
    outputs: &[Output],
    progress: &dyn Progress,
    fetch: &dyn Fetch,
) -> Result<Option<Digest>> {
    let reporter = Reporter::new(progress);
    let step = reporter.begin(format!("[internal] load build definition from {}", subject.source.name));
    let file = match subject.dockerfile() {
        Ok(file) => file,
        Err(problem) => {
            step.failed(problem.to_string());
            return Err(problem.into());
        }
    };
    step.done();
    let target = solve::target(&file, wishes.target.as_deref())?;
    let stage = file.stages[target].name.clone().unwrap_or_else(|| target.to_string());
    let platforms = Platforms { build: session::host_platform(), target: session::host_platform(), stage };
    let globals = Globals::new(&file, &wishes.args, &platforms)?;
    warn(&reporter, &file, &globals, wishes);
    let session = Session::new(root, subject, reporter, wishes, &file, &globals, fetch);
    if file.stages.iter().flat_map(|s| &s.instructions).any(|i| matches!(i.kind, Kind::Run(_))) {
        // It gets ready while we find out what there is to do.
        session.workers.prepare()?;
    }
    let outcomes = solve::outcomes(&file);
    let state = solve::solve(&session, &outcomes, target);
    // What was read need not be read again, whatever came of it.
    let saved = session.save_hashes();
    let state = state?;
    saved?;
    let mut id = None;
    for output in outputs {
        match output {
            Output::Image(names) => id = Some(output::image(&session, &state, names)?),
            Output::Folder(path) => output::folder(&session, &state, path)?,
            Output::Tar(file) => output::tar(&session, &state, file)?,
        }
    }
    Ok(id)
}

fn warn(reporter: &Reporter<'_>, file: &Dockerfile, globals: &Globals, wishes: &Wishes) {
    for warning in &file.warnings {
        reporter.warn(&format!("WARN: {}: {} (line {})", warning.rule, warning.message, warning.lines));
    }
    let unused = globals.unused(file);
    if !unused.is_empty() {
        reporter.warn(&format!("[Warning] One or more build-args [{}] were not consumed", unused.join(" ")));
    }
    let has = |wanted: &str| file.stages.iter().filter_map(|s| s.name.as_ref()).any(|s| s.eq_ignore_ascii_case(wanted));
    for name in wishes.no_cache_filter.iter().filter(|name| !has(name)) {
        reporter.warn(&format!("[Warning] no stage is called {name}, as --no-cache-filter says"));
    }
}
