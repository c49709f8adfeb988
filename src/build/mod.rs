//! The build room: from a Dockerfile and a context to an image.
//!
//! ```text
//! solve        which stages are needed; they are built at the same time
//! stage        one stage from its FROM to its last instruction; config, workdir, run
//! output       the image, or whatever else the result is to be
//! session      what the stages of one build share; progress is what it tells
//! run          a command in a container: sandbox composes it, mounts gets its sources ready, worker runs it
//! key          what steps are known by; what came out of them is remembered in the image room
//! prune        what builds keep: remembered steps and cache_mounts
//! dockerfile   text -> instructions with their positions; variables; `Scope` evaluates one after another
//! ```

mod cache_mounts;
mod config;
pub mod dockerfile;
mod key;
mod mounts;
pub mod output;
pub mod progress;
pub mod prune;
mod run;
mod sandbox;
pub mod session;
mod solve;
mod stage;
pub mod worker;
mod workdir;

use crate::image::Digest;
use crate::layout::Root;
use anyhow::Result;
use dockerfile::{Dockerfile, Globals, Kind, Platforms};
use output::Output;
use progress::{Progress, Reporter};
use session::{Fetch, Session, Wishes};

pub use mounts::Secrets;

/// Builds an image and gives its id, if the result is one.
///
/// # Errors
/// A [`session::Failed`] for what a part of the Dockerfile is to blame for.
pub fn build(
    root: &Root,
    file: &Dockerfile,
    wishes: &Wishes,
    outputs: &[Output],
    progress: &dyn Progress,
    fetch: &dyn Fetch,
) -> Result<Option<Digest>> {
    let reporter = Reporter::new(progress);
    let target = solve::target(file, wishes.target.as_deref())?;
    let stage = file.stages[target].name.clone().unwrap_or_else(|| target.to_string());
    let platforms = Platforms { build: session::host_platform(), target: session::host_platform(), stage };
    let globals = Globals::new(file, &wishes.args, &platforms)?;
    for warning in &file.warnings {
        reporter.warn(&format!("WARN: {}: {} (line {})", warning.rule, warning.message, warning.lines));
    }
    let unused = globals.unused(file);
    if !unused.is_empty() {
        reporter.warn(&format!("[Warning] One or more build-args [{}] were not consumed", unused.join(" ")));
    }
    let session = Session::new(root, reporter, wishes, file, &globals, fetch)?;
    if file.stages.iter().flat_map(|s| &s.instructions).any(|i| matches!(i.kind, Kind::Run(_))) {
        // It gets ready while we find out what there is to do.
        session.workers.prepare()?;
    }
    let outcomes = solve::outcomes(file);
    let state = solve::solve(&session, &outcomes, target)?;
    let mut id = None;
    for output in outputs {
        match output {
            Output::Image(names) => id = Some(output::image(&session, &state, names)?),
            Output::Folder(path) => output::folder(&session, &state, path)?,
        }
    }
    Ok(id)
}
