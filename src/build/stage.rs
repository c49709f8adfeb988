//! One stage, from its `FROM` to its last instruction.

use super::config;
use super::dockerfile::{Instruction, Kind, Scope, Step as Evaluated, Transfer, TransferSource, parse_trigger};
use super::names::Meaning;
use super::session::{Session, check_platform};
use super::solve::Outcomes;
use crate::image::{ContainerConfig, Digest, History, ImageConfig, Reference, Remembered};
use anyhow::{Context, Result};
use std::sync::Arc;

/// What BuildKit says about each of its steps.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A stage at some point.
#[derive(Clone)]
pub struct State<'s> {
    /// The image that it would be.
    pub image: ImageConfig,
    /// How many of its layers its base image had.
    pub base_layers: usize,
    /// The values of variables.
    pub scope: Scope<'s>,
}

impl State<'_> {
    /// The part of the configuration that concerns containers.
    pub fn config(&self) -> ContainerConfig {
        self.image.config.clone().unwrap_or_default()
    }

    /// Its layers.
    pub fn layers(&self) -> &[Digest] {
        &self.image.rootfs.diff_ids
    }
}

/// A stage that is being built.
pub struct Builder<'s> {
    /// What it shares with the others.
    pub session: &'s Session<'s>,
    /// The others.
    pub outcomes: &'s Outcomes<'s>,
    /// Its number.
    pub index: usize,
    /// Where it stands.
    pub state: State<'s>,
    /// Whether `CMD` was said in this stage.
    has_command: bool,
    /// Parts so far, and of the whole stage.
    done: usize,
    total: usize,
}

/// Builds the stage of this number; earlier ones are waited for when they are needed.
pub fn build<'s>(session: &'s Session<'s>, outcomes: &'s Outcomes<'s>, index: usize) -> Result<State<'s>> {
    let stage = &session.file.stages[index];
    let started = start(session, outcomes, index);
    let (mut builder, instructions) = started.map_err(|error| session.failed("", stage.lines, error, None))?;
    for instruction in &instructions {
        session.go_on()?;
        builder.step(instruction)?;
    }
    Ok(builder.state)
}

/// Instructions that are a part of their own: they may make a layer.
fn is_part(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
}

/// Carries out the `FROM` of a stage, and gives what is to be done on top of it.
fn start<'s>(
    session: &'s Session<'s>,
    outcomes: &'s Outcomes<'s>,
    index: usize,
) -> Result<(Builder<'s>, Vec<Instruction>)> {
    let (name, meaning) = base_of(session, index)?;
    let mut state = match &meaning {
        Meaning::Stage(earlier) => State::clone(&*outcomes.wait(session, *earlier)?),
        Meaning::Scratch | Meaning::Folder(_) => nothing(session),
        Meaning::Image(image) => of_image(session, image)?,
    };
    let instructions = instructions(session, index, &mut state)?;
    state.scope.begin_with(&state.config().env);
    let done = usize::from(matches!(meaning, Meaning::Folder(_) | Meaning::Image(_)));
    let total = done + instructions.iter().filter(|i| is_part(i)).count();
    let mut builder = Builder { session, outcomes, index, state, has_command: false, done, total };
    match &meaning {
        Meaning::Stage(_) | Meaning::Scratch => {}
        Meaning::Folder(_) => builder.begin_with_folder(name)?,
        Meaning::Image(image) => {
            let shown = Reference::parse(image).map_or_else(|_| image.clone(), |reference| reference.to_string());
            session.reporter.begin(format!("{} FROM {shown}", builder.label(1))).cached();
        }
    }
    Ok((builder, instructions))
}

/// The name that a stage is based on, and what it means.
fn base_of(session: &Session<'_>, index: usize) -> Result<(String, Meaning)> {
    let (stage, names) = (&session.file.stages[index], session.names());
    if let (Some(name), Some(replacement)) = (&stage.name, names.replacement(index)) {
        return Ok((name.clone(), replacement));
    }
    let base = session.globals.base(stage)?;
    if let Some(platform) = &base.platform {
        check_platform(platform)?;
    }
    let meaning = names.base(&base.name, index);
    Ok((base.name, meaning))
}

/// The triggers of the base, which are not handed on, and the stage's own instructions; none for what has taken the
/// place of a stage.
fn instructions(session: &Session<'_>, index: usize, state: &mut State) -> Result<Vec<Instruction>> {
    let stage = &session.file.stages[index];
    let triggers = std::mem::take(&mut state.image.config.get_or_insert_default().on_build);
    if session.names().replacement(index).is_some() {
        return Ok(Vec::new());
    }
    let triggers = triggers.iter().map(|text| parse_trigger(text, &session.file.source, stage.lines));
    let own = stage.instructions.iter().cloned().map(Ok);
    Ok(triggers.chain(own).collect::<std::result::Result<_, _>>()?)
}

/// The state of a stage that has nothing below it.
fn nothing<'s>(session: &'s Session<'s>) -> State<'s> {
    let config = ContainerConfig {
        env: vec![config::DEFAULT_PATH.into()],
        working_dir: "/".into(),
        ..ContainerConfig::default()
    };
    let image = ImageConfig {
        architecture: crate::image::host_architecture().into(),
        os: "linux".into(),
        config: Some(config),
        ..ImageConfig::default()
    };
    State { image, base_layers: 0, scope: session.globals.scope() }
}

/// The state of a stage that an image is below.
fn of_image<'s>(session: &'s Session<'s>, name: &str) -> Result<State<'s>> {
    let mut image = session.image(name)?.config;
    // What else an image says about the container that it was committed from is not about the new one.
    image.other.remove("container");
    image.other.remove("container_config");
    let config = image.config.get_or_insert_default();
    if !config.env.iter().any(|e| e.starts_with("PATH=")) {
        config.env.push(config::DEFAULT_PATH.into());
    }
    Ok(State { base_layers: image.rootfs.diff_ids.len(), image, scope: session.globals.scope() })
}

impl<'s> Builder<'s> {
    /// `[build 2/5]`.
    fn label(&self, number: usize) -> String {
        let file = self.session.file;
        let stage = match &file.stages[self.index].name {
            Some(name) => format!("{name} "),
            None if file.stages.len() > 1 => format!("stage-{} ", self.index),
            None => String::new(),
        };
        format!("[{stage}{number}/{}]", self.total)
    }

    /// A stage whose base is a folder of the host begins with a copy of it.
    fn begin_with_folder(&mut self, name: String) -> Result<()> {
        let step = format!("{} FROM {name}", self.label(1));
        let sources = vec![TransferSource::Path("/".into())];
        self.transfer(
            &step,
            "COPY",
            &Transfer { sources, destination: "/".into(), from: Some(name), ..Transfer::default() },
        )
    }

    fn step(&mut self, instruction: &Instruction) -> Result<()> {
        let mut name = String::new();
        if is_part(instruction) {
            self.done += 1;
            name = format!("{} {}", self.label(self.done), shown(&instruction.original));
        }
        let lines = instruction.lines;
        let evaluated = self.state.scope.evaluate(instruction).map_err(anyhow::Error::from);
        let result = evaluated.and_then(|step| match step {
            Evaluated::Run { run, mounts } => self.run(&name, lines, &run, mounts),
            Evaluated::Copy(transfer) => self.transfer(&name, "COPY", &transfer),
            Evaluated::Add(transfer) => self.transfer(&name, "ADD", &transfer),
            Evaluated::Workdir(path) => self.workdir(&name, &path),
            other => self.configure(&other),
        });
        result.map_err(|error| self.session.failed(&name, lines, error, None))
    }

    /// Instructions that change nothing but the configuration.
    fn configure(&mut self, step: &Evaluated) -> Result<()> {
        if let Evaluated::Maintainer(name) = step {
            self.state.image.author.clone_from(name);
        }
        let has_command = self.has_command;
        self.has_command |= matches!(step, Evaluated::Cmd(_));
        let config = self.state.image.config.get_or_insert_default();
        let told = config::apply(config, step, has_command)?;
        // Of a trigger the history tells where it runs.
        if !matches!(step, Evaluated::OnBuild(_)) {
            self.tell(told, None);
        }
        Ok(())
    }

    /// Adds to the history, with the layer if there is one.
    pub fn tell(&mut self, created_by: String, layer: Option<&Remembered>) {
        self.state.image.rootfs.diff_ids.extend(layer.map(|step| step.layer));
        self.state.image.history.push(History {
            created: layer.map(|step| step.created.clone()),
            created_by,
            comment: COMMENT.into(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
    }

    /// What is known about the step with this key, unless nothing is to be reused.
    pub fn recall(&self, key: &Digest) -> Result<Option<Remembered>> {
        match self.is_anew() {
            true => Ok(None),
            false => self.session.store.recall(&self.session.workshop, key),
        }
    }

    /// Whether the stage uses nothing that earlier builds have made.
    pub fn is_anew(&self) -> bool {
        let (wishes, name) = (self.session.wishes, &self.session.file.stages[self.index].name);
        let is_it = |wanted: &String| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        wishes.no_cache || wishes.no_cache_filter.iter().any(is_it)
    }

    /// Writes down what a step has made.
    pub fn remember(&self, keys: &[Digest], name: &str, layer: Digest) -> Result<Remembered> {
        let created = match self.session.wishes.epoch {
            Some(epoch) => jiff::Timestamp::from_second(epoch).context("read SOURCE_DATE_EPOCH")?,
            None => jiff::Timestamp::now(),
        };
        let step = Remembered { layer, created: created.to_string(), step: name.to_owned() };
        keys.iter().try_for_each(|key| self.session.store.remember(key, &step))?;
        Ok(step)
    }

    /// Where a name after `--from=` or `from=` leads.
    pub fn origin(&self, name: &str) -> Result<Found> {
        let session = self.session;
        let layers = match session.names().source(name, self.index)? {
            Meaning::Folder(folder) => return Ok(Found::Folder(folder)),
            Meaning::Stage(earlier) => self.outcomes.wait(session, earlier)?.layers().to_vec(),
            Meaning::Image(image) => session.image(&image)?.layers().to_vec(),
            Meaning::Scratch => Vec::new(),
        };
        Ok(Found::Layers(layers))
    }
}

/// What a name after `--from=` means.
pub enum Found {
    /// A stage or an image.
    Layers(Vec<Digest>),
    /// A folder of the host.
    Folder(std::path::PathBuf),
}

/// A finished stage, for all that need it.
pub type Shared<'s> = Arc<State<'s>>;

/// An instruction on one line.
fn shown(text: &str) -> String {
    text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ")
}
