//! Which stages are needed, and building them at the same time.

use super::dockerfile::{Dockerfile, Instruction, Kind};
use super::names::{Meaning, stage_called};
use super::session::{Canceled, Session};
use super::stage::{self, Shared, State};
use crate::sys::depth;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};

/// What became of a stage.
enum Outcome<'s> {
    /// Nobody is known to need it.
    Unplanned,
    Done(Shared<'s>),
    Failed,
}

/// What became of each stage so far.
pub struct Outcomes<'s> {
    slots: Mutex<Vec<Option<Outcome<'s>>>>,
    changed: Condvar,
}

impl<'s> Outcomes<'s> {
    /// Waits for a stage. One that only a trigger of a base image asks for is built on the spot.
    ///
    /// # Errors
    /// [`Canceled`] if it has failed.
    pub fn wait(&'s self, session: &'s Session<'s>, index: usize) -> Result<Shared<'s>> {
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            match &slots[index] {
                Some(Outcome::Done(state)) => return Ok(state.clone()),
                Some(Outcome::Failed) => return Err(Canceled.into()),
                Some(Outcome::Unplanned) => {
                    slots[index] = None;
                    drop(slots);
                    let built = stage::build(session, self, index).map(Arc::new);
                    self.put(index, built.as_ref().map_or(Outcome::Failed, |state| Outcome::Done(state.clone())));
                    return built;
                }
                None => slots = self.changed.wait(slots).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }

    fn plan(&self, needed: &BTreeSet<usize>) {
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        needed.iter().for_each(|index| slots[*index] = None);
    }

    fn put(&self, index: usize, outcome: Outcome<'s>) {
        self.slots.lock().unwrap_or_else(|e| e.into_inner())[index] = Some(outcome);
        self.changed.notify_all();
    }
}

/// The stage that is to be built.
pub fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let count = file.stages.len();
    let number = || wanted.and_then(|name| name.parse().ok()).filter(|number| *number < count);
    match wanted {
        None => count.checked_sub(1).context("there is no stage"),
        Some(name) => stage_called(file, name, count).or_else(number).with_context(|| {
            let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            match names.is_empty() {
                true => format!("target stage {name:?} could not be found: no stage of the file has a name"),
                false => format!("target stage {name:?} could not be found; there are {}", names.join(", ")),
            }
        }),
    }
}

/// The stages that one needs, itself included.
fn needed(session: &Session<'_>, target: usize) -> Result<BTreeSet<usize>> {
    let names = session.names();
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if !needed.insert(index) || names.replacement(index).is_some() {
            continue;
        }
        let stage = &session.file.stages[index];
        let base = names.base(&session.globals.base(stage)?.name, index);
        // What has no meaning is told when it is that instruction's turn.
        let sources = stage.instructions.iter().flat_map(sources).filter_map(|name| names.source(name, index).ok());
        open.extend(sources.chain([base]).filter_map(|meaning| match meaning {
            Meaning::Stage(earlier) => Some(earlier),
            _ => None,
        }));
    }
    Ok(needed)
}

/// The names that an instruction takes files from.
fn sources(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        Kind::Copy(transfer) => transfer.from.as_deref().into_iter().collect(),
        Kind::Run(run) => {
            let fields = run.mounts.iter().flat_map(|mount| &mount.fields);
            fields.filter(|(key, _)| key == "from").filter_map(|(_, value)| value.as_deref()).collect()
        }
        _ => Vec::new(),
    }
}

/// Builds the stage `target` and what it needs.
pub fn solve<'s>(session: &'s Session<'s>, outcomes: &'s Outcomes<'s>, target: usize) -> Result<State<'s>> {
    let needed = needed(session, target)?;
    outcomes.plan(&needed);
    let errors = Mutex::new(Vec::new());
    let build = |index: usize| {
        let result = stage::build(session, outcomes, index);
        let outcome = match result {
            Ok(state) => Outcome::Done(Arc::new(state)),
            Err(error) => {
                session.cancel();
                errors.lock().unwrap_or_else(|e| e.into_inner()).push(error);
                Outcome::Failed
            }
        };
        outcomes.put(index, outcome);
    };
    let build = &build;
    std::thread::scope(|scope| -> Result<()> {
        for index in needed.into_iter().filter(|index| *index != target) {
            let started =
                std::thread::Builder::new().stack_size(depth::STACK).spawn_scoped(scope, move || build(index));
            if let Err(error) = started {
                session.cancel();
                outcomes.put(index, Outcome::Failed);
                return Err(error).context("start a thread");
            }
        }
        build(target);
        Ok(())
    })?;
    let mut errors = errors.into_inner().unwrap_or_else(|e| e.into_inner());
    // What was given up because of a failure is not the failure.
    if let Some(at) = errors.iter().position(|error| !error.is::<Canceled>()) {
        return Err(errors.swap_remove(at));
    }
    if !errors.is_empty() {
        bail!("the build was canceled");
    }
    let done = outcomes.wait(session, target).map_err(|_| anyhow!("the build was canceled"))?;
    Ok(State::clone(&*done))
}

/// Nothing is known about any stage of the file yet.
pub fn outcomes<'s>(file: &Dockerfile) -> Outcomes<'s> {
    let slots = file.stages.iter().map(|_| Some(Outcome::Unplanned)).collect();
    Outcomes { slots: Mutex::new(slots), changed: Condvar::new() }
}
