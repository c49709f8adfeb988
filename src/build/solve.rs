//! Which stages are needed, and building them at the same time.

use super::dockerfile::{Dockerfile, Globals, Kind};
use super::session::{Canceled, Session};
use super::stage::{self, Shared, State};
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

    /// The stage before `index` that a name or a number means.
    pub fn stage_named(&self, file: &Dockerfile, name: &str, index: usize) -> Option<usize> {
        stage_named(file, name, index)
    }
}

fn stage_named(file: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let wanted = name.to_lowercase();
    let by_name = file.stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(wanted.as_str()));
    by_name.or_else(|| name.parse().ok().filter(|number| *number < before))
}

/// The stage that is to be built.
pub fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let count = file.stages.len();
    match wanted {
        None => count.checked_sub(1).context("there is no stage"),
        Some(name) => stage_named(file, name, count).with_context(|| {
            let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            match names.is_empty() {
                true => format!("target stage {name:?} could not be found: no stage of the file has a name"),
                false => format!("target stage {name:?} could not be found; there are {}", names.join(", ")),
            }
        }),
    }
}

/// The stages that one needs, itself included.
fn needed(file: &Dockerfile, globals: &Globals, target: usize) -> Result<BTreeSet<usize>> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if !needed.insert(index) {
            continue;
        }
        let stage = &file.stages[index];
        let mut names = vec![globals.base(stage)?.name];
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Copy(transfer) | Kind::Add(transfer) => names.extend(transfer.from.clone()),
                Kind::Run(run) => {
                    let fields = run.mounts.iter().flat_map(|mount| &mount.fields);
                    names.extend(fields.filter(|(key, _)| key == "from").filter_map(|(_, value)| value.clone()));
                }
                _ => {}
            }
        }
        open.extend(names.iter().filter_map(|name| stage_named(file, name, index)));
    }
    Ok(needed)
}

/// Builds the stage `target` and what it needs.
pub fn solve<'s>(session: &'s Session<'s>, outcomes: &'s Outcomes<'s>, target: usize) -> Result<State<'s>> {
    let needed = needed(session.file, session.globals, target)?;
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
            let started = std::thread::Builder::new().spawn_scoped(scope, move || build(index));
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
