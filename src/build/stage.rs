//! One stage, from its `FROM` to its last instruction.

use super::config;
use super::dockerfile::{Instruction, Kind, Scope, Stage, Step as Evaluated, parse_trigger};
use super::session::{Session, check_platform};
use super::solve::Outcomes;
use crate::image::{ContainerConfig, Digest, History, ImageConfig, Remembered};
use anyhow::{Context, Result, bail};
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
    let started = start(session, outcomes, index, stage);
    let (mut builder, triggers) = started.map_err(|error| session.failed("", stage.lines, error, None))?;
    for instruction in triggers.iter().chain(&stage.instructions) {
        session.go_on()?;
        builder.step(instruction)?;
    }
    Ok(builder.state)
}

/// Instructions that are a part of their own: they may make a layer.
fn is_part(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
}

fn start<'s>(
    session: &'s Session<'s>,
    outcomes: &'s Outcomes<'s>,
    index: usize,
    stage: &'s Stage,
) -> Result<(Builder<'s>, Vec<Instruction>)> {
    let base = session.globals.base(stage)?;
    if let Some(platform) = &base.platform {
        check_platform(platform)?;
    }
    let own = stage.instructions.iter().filter(|i| is_part(i)).count();
    let builder = |state, done, total| Builder { session, outcomes, index, state, has_command: false, done, total };
    if let Some(earlier) = outcomes.stage_named(session.file, &base.name, index) {
        let mut state = State::clone(&*outcomes.wait(session, earlier)?);
        let triggers = take_triggers(session, stage, &mut state.image)?;
        state.scope.begin_with(&state.config().env);
        let total = own + triggers.iter().filter(|i| is_part(i)).count();
        return Ok((builder(state, 0, total), triggers));
    }
    if base.name == "scratch" {
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
        let scope = session.globals.scope(&[config::DEFAULT_PATH.into()]);
        return Ok((builder(State { image, base_layers: 0, scope }, 0, own), Vec::new()));
    }
    let (mut image, shown) = base_image(session, &base.name)?;
    let mut config = image.config.take().unwrap_or_default();
    if !config.env.iter().any(|e| e.starts_with("PATH=")) {
        config.env.push(config::DEFAULT_PATH.into());
    }
    let scope = session.globals.scope(&config.env);
    image.config = Some(config);
    let triggers = take_triggers(session, stage, &mut image)?;
    let total = 1 + own + triggers.iter().filter(|i| is_part(i)).count();
    let state = State { base_layers: image.rootfs.diff_ids.len(), image, scope };
    let builder = builder(state, 1, total);
    session.reporter.begin(format!("{} FROM {shown}", builder.label(1))).cached();
    Ok((builder, triggers))
}

/// The triggers that a base brings; they are not handed on.
fn take_triggers(session: &Session<'_>, stage: &Stage, base: &mut ImageConfig) -> Result<Vec<Instruction>> {
    let texts = std::mem::take(&mut base.config.get_or_insert_default().on_build);
    let parse = |text: &String| parse_trigger(text, &session.file.source, stage.lines);
    Ok(texts.iter().map(parse).collect::<std::result::Result<_, _>>()?)
}

fn base_image(session: &Session<'_>, name: &str) -> Result<(ImageConfig, String)> {
    let name = match session.wishes.named.get(name) {
        None => name,
        Some(super::session::Named::Image(other)) => other,
        Some(super::session::Named::Folder(_)) => bail!("{name} is a folder and cannot be a stage's base"),
    };
    let image = session.image(name)?;
    let shown = crate::image::Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.to_string());
    // What else an image says about the container that it was committed from is not about the new one.
    let mut config = image.config;
    config.other.remove("container");
    config.other.remove("container_config");
    Ok((config, shown))
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
        let told = match step {
            Evaluated::Arg(args) => args.iter().fold("ARG".to_owned(), |told, (name, value)| match value {
                Some(value) => format!("{told} {name}={value}"),
                None => format!("{told} {name}"),
            }),
            Evaluated::Cmd(command) => config::cmd(config, command),
            Evaluated::Entrypoint(command) => config::entrypoint(config, command, has_command),
            Evaluated::Env(pairs) => config::env(config, pairs),
            Evaluated::Expose(ports) => config::ports(config, ports)?,
            Evaluated::Healthcheck(check) => config::healthcheck(config, check),
            Evaluated::Label(pairs) => config::label(config, pairs),
            Evaluated::Maintainer(name) => format!("MAINTAINER {name}"),
            Evaluated::OnBuild(text) => config::on_build(config, text),
            Evaluated::Shell(words) => config::set_shell(config, words),
            Evaluated::StopSignal(name) => config::stop_signal(config, name)?,
            Evaluated::User(user) => config::user(config, user),
            Evaluated::Volume(paths) => config::volumes(config, paths)?,
            Evaluated::Add(_) | Evaluated::Copy(_) | Evaluated::Run { .. } | Evaluated::Workdir(_) => {
                bail!("a step was taken for one that makes no layer")
            }
        };
        self.tell(told, None);
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
        match self.session.wishes.no_cache {
            true => Ok(None),
            false => self.session.store.recall(&self.session.workshop, key),
        }
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
        if let Some(earlier) = self.outcomes.stage_named(self.session.file, name, self.index) {
            return Ok(Found::Layers(self.outcomes.wait(self.session, earlier)?.layers().to_vec()));
        }
        match self.session.wishes.named.get(name) {
            Some(super::session::Named::Folder(folder)) => Ok(Found::Folder(folder.clone())),
            Some(super::session::Named::Image(image)) => {
                Ok(Found::Layers(self.session.image(image)?.layers().to_vec()))
            }
            None if name == "scratch" => Ok(Found::Layers(Vec::new())),
            None => Ok(Found::Layers(self.session.image(name)?.layers().to_vec())),
        }
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
