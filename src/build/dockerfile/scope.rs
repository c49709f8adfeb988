//! The values of variables, from the top of a file to the end of a stage.

use super::ast::*;
use super::expand;
use super::mount;
use super::source::{Lines, Problem, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Arguments that need no `ARG`; `RUN` gets them, and they are no part of what it is cached by.
const PROXIES: [[&str; 2]; 5] = [
    ["HTTP_PROXY", "http_proxy"],
    ["HTTPS_PROXY", "https_proxy"],
    ["FTP_PROXY", "ftp_proxy"],
    ["NO_PROXY", "no_proxy"],
    ["ALL_PROXY", "all_proxy"],
];

/// What all texts of a file may grow to together.
const TOTAL: usize = 64 << 20;

/// Platforms as `os/arch[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platforms {
    /// Of this machine.
    pub build: String,
    /// Of the image that is made.
    pub target: String,
    /// The stage that is built, for `TARGETSTAGE`.
    pub stage: String,
}

/// What `FROM` says when its variables are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub name: String,
    pub platform: Option<String>,
}

/// What is the same for all stages: the arguments before the first `FROM`, and those that the user gave.
#[derive(Debug)]
pub struct Globals {
    source: Arc<Source>,
    escape: char,
    values: BTreeMap<String, String>,
    given: BTreeMap<String, String>,
    /// How long all expanded texts are together, those of the stages included.
    length: AtomicUsize,
}

impl Globals {
    /// Evaluates the global `ARG`s; `given` are the user's `--build-arg`s.
    pub fn new(file: &Dockerfile, given: &BTreeMap<String, String>, platforms: &Platforms) -> Result<Globals, Problem> {
        let mut values = predefined(platforms);
        for (name, value) in &mut values {
            if let Some(given) = given.get(name) {
                value.clone_from(given);
            }
        }
        let escape = file.directives.escape;
        let mut globals =
            Globals { source: file.source.clone(), escape, values, given: given.clone(), length: AtomicUsize::new(0) };
        for GlobalArg { arg, lines } in &file.global_args {
            let value = match (globals.given.get(&arg.name), &arg.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(globals.word(default, *lines)?),
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.values.insert(arg.name.clone(), value);
            }
        }
        Ok(globals)
    }

    /// What a stage starts from.
    pub fn base(&self, stage: &Stage) -> Result<Base, Problem> {
        let name = self.word(&stage.base, stage.lines)?;
        if name.is_empty() {
            let message = format!(
                "base name ({}) should not be blank: the ARG that it names has no value before the first FROM",
                stage.base
            );
            return Err(self.problem(message, stage.lines));
        }
        let platform = match &stage.platform {
            None => None,
            Some(text) => Some(self.word(text, stage.lines)?),
        };
        match (platform, &stage.platform) {
            (Some(empty), Some(text)) if empty.is_empty() => {
                Err(self.problem(format!("empty platform value from expression {text}"), stage.lines))
            }
            (platform, _) => Ok(Base { name, platform }),
        }
    }

    /// No values yet: those of a base are set by [`Scope::begin_with`].
    pub fn scope(&self) -> Scope<'_> {
        Scope { globals: self, variables: Vec::new(), args: Vec::new() }
    }

    /// The user's arguments that no `ARG` of the file asks for.
    pub fn unused(&self, file: &Dockerfile) -> Vec<&str> {
        let of_stages = file.stages.iter().flat_map(|stage| &stage.instructions).flat_map(|i| match &i.kind {
            Kind::Arg(args) => args.as_slice(),
            _ => &[],
        });
        let asked: BTreeSet<&str> =
            file.global_args.iter().map(|global| &global.arg).chain(of_stages).map(|arg| arg.name.as_str()).collect();
        let is_used = |name: &str| {
            asked.contains(name)
                || PROXIES.as_flattened().contains(&name)
                || self.values.contains_key(name)
                || name == "SOURCE_DATE_EPOCH"
                || name.starts_with("BUILDKIT_")
        };
        self.given.keys().map(String::as_str).filter(|name| !is_used(name)).collect()
    }

    fn word(&self, text: &str, lines: Lines) -> Result<String, Problem> {
        let lookup = |name: &str| self.values.get(name).cloned();
        let word = expand::word(text, self.escape, &lookup).and_then(|word| self.counted(word));
        word.map_err(|message| self.problem(message, lines))
    }

    /// Variables that contain variables that contain variables make much out of little.
    fn counted(&self, text: String) -> Result<String, String> {
        match self.length.fetch_add(text.len(), Ordering::Relaxed).saturating_add(text.len()) > TOTAL {
            true => Err(format!("the expanded texts of the Dockerfile are together longer than {TOTAL} bytes")),
            false => Ok(text),
        }
    }

    fn problem(&self, message: String, lines: Lines) -> Problem {
        Problem { source: self.source.clone(), lines: Some(lines), message, is_syntax: false }
    }
}

fn predefined(platforms: &Platforms) -> BTreeMap<String, String> {
    let mut values = BTreeMap::from([("TARGETSTAGE".to_owned(), platforms.stage.clone())]);
    for (prefix, platform) in [("BUILD", &platforms.build), ("TARGET", &platforms.target)] {
        let mut parts = platform.splitn(3, '/');
        values.insert(format!("{prefix}PLATFORM"), platform.clone());
        for name in ["OS", "ARCH", "VARIANT"] {
            values.insert(format!("{prefix}{name}"), parts.next().unwrap_or_default().to_owned());
        }
    }
    values
}

/// The values at one point of a stage.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    globals: &'a Globals,
    /// What `ENV` and `ARG` have set: whichever came last counts.
    variables: Vec<(String, String)>,
    /// The names that `ARG` has declared, with a value or without.
    args: Vec<String>,
}

/// An instruction with its variables expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Add(Transfer),
    /// Names and values in effect.
    Arg(Vec<(String, Option<String>)>),
    Cmd(Command),
    Copy(Transfer),
    Entrypoint(Command),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<(String, String)>),
    Maintainer(String),
    OnBuild(String),
    Run {
        run: Run,
        mounts: Vec<Mount>,
    },
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

impl Scope<'_> {
    /// A stage begins: the environment of its base, `NAME=value`, is set, over what arguments of a stage below have set.
    pub fn begin_with(&mut self, env: &[String]) {
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(name, value.to_owned());
        }
    }

    /// All variables, in the order in which they were first set: the environment of `RUN`.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The stage's arguments and what their names mean now, in the order of their declaration.
    pub fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args.iter().map(|name| (name.as_str(), self.get(name).unwrap_or_default()))
    }

    /// Proxy settings that the user gave and no `ARG` asks for: for the environment of `RUN`, not for its cache key. What
    /// was given in one spelling counts in both, as programs disagree on them.
    pub fn proxies(&self) -> impl Iterator<Item = (&str, &str)> {
        let given = |name: &str| self.globals.given.get(name).map(String::as_str);
        let both = PROXIES.iter().flat_map(move |[upper, lower]| {
            let (of_upper, of_lower) = (given(upper), given(lower));
            [(*upper, of_upper.or(of_lower)), (*lower, of_lower.or(of_upper))]
        });
        both.filter_map(|(name, value)| Some((name, value?))).filter(|(name, _)| self.get(name).is_none())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.variables.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    /// Expands an instruction with the values before it. What it defines counts from the next one on, but what an `ARG`
    /// defines already for the arguments behind it.
    pub fn evaluate(&mut self, instruction: &Instruction) -> Result<Step, Problem> {
        let step = self.step(&instruction.kind).map_err(|message| self.globals.problem(message, instruction.lines))?;
        if let Step::Env(pairs) = &step {
            pairs.iter().for_each(|(name, value)| self.set(name, value.clone()));
        }
        Ok(step)
    }

    fn step(&mut self, kind: &Kind) -> Result<Step, String> {
        Ok(match kind {
            Kind::Arg(args) => Step::Arg(args.iter().map(|arg| self.declare(arg)).collect::<Result<_, _>>()?),
            Kind::Add(transfer) => Step::Add(self.transfer(transfer)?),
            Kind::Copy(transfer) => Step::Copy(self.transfer(transfer)?),
            Kind::Env(pairs) => Step::Env(self.pairs(pairs, "ENV")?),
            Kind::Label(pairs) => Step::Label(self.pairs(pairs, "LABEL")?),
            Kind::Expose(ports) => {
                let split = |text: &String| expand::words(text, self.globals.escape, &self.lookup());
                let words = ports.iter().map(split).collect::<Result<Vec<_>, _>>()?.concat().into_iter();
                Step::Expose(words.map(|word| self.globals.counted(word)).collect::<Result<_, _>>()?)
            }
            Kind::Run(run) => {
                let mounts = run.mounts.iter().map(|text| mount::resolve(text, |value| self.word(value)));
                Step::Run { run: run.clone(), mounts: mounts.collect::<Result<_, _>>()? }
            }
            Kind::StopSignal(text) => Step::StopSignal(self.word(text)?),
            Kind::User(text) => Step::User(self.word(text)?),
            Kind::Volume(paths) => Step::Volume(self.all(paths)?),
            Kind::Workdir(text) => Step::Workdir(self.word(text)?),
            Kind::Cmd(command) => Step::Cmd(command.clone()),
            Kind::Entrypoint(command) => Step::Entrypoint(command.clone()),
            Kind::Healthcheck(check) => Step::Healthcheck(check.clone()),
            Kind::Maintainer(name) => Step::Maintainer(name.clone()),
            Kind::OnBuild(text) => Step::OnBuild(text.clone()),
            Kind::Shell(words) => Step::Shell(words.clone()),
        })
    }

    fn transfer(&self, transfer: &Transfer) -> Result<Transfer, String> {
        if transfer.from.as_ref().is_some_and(|from| from.contains('$')) {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG \
                           from global scope as a workaround";
            return Err(message.into());
        }
        let source = |source: &TransferSource| match source {
            TransferSource::Path(path) => self.word(path).map(TransferSource::Path),
            TransferSource::Heredoc(heredoc) if heredoc.expand => {
                let content = self.globals.counted(expand::heredoc(&heredoc.content, &self.lookup())?)?;
                Ok(TransferSource::Heredoc(Heredoc { content, ..heredoc.clone() }))
            }
            TransferSource::Heredoc(heredoc) => Ok(TransferSource::Heredoc(heredoc.clone())),
        };
        let optional = |text: &Option<String>| text.as_deref().map(|text| self.word(text)).transpose();
        Ok(Transfer {
            sources: transfer.sources.iter().map(source).collect::<Result<_, _>>()?,
            destination: self.word(&transfer.destination)?,
            chown: optional(&transfer.chown)?,
            chmod: optional(&transfer.chmod)?,
            checksum: optional(&transfer.checksum)?,
            excludes: self.all(&transfer.excludes)?,
            ..transfer.clone()
        })
    }

    /// An argument gets the user's value, its default, or what a global `ARG` of this name says. Without any of them
    /// the name keeps the value that it has.
    fn declare(&mut self, arg: &Arg) -> Result<(String, Option<String>), String> {
        let name = self.word(&arg.name)?;
        let value = match (self.globals.given.get(&name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.word(default)?),
            (None, None) => self.globals.values.get(&name).cloned(),
        };
        if let Some(value) = &value {
            self.set(&name, value.clone());
        }
        if !self.args.contains(&name) {
            self.args.push(name.clone());
        }
        Ok((name, value))
    }

    fn pairs(&self, pairs: &[Pair], keyword: &str) -> Result<Vec<(String, String)>, String> {
        let expanded = pairs.iter().map(|pair| match self.word(&pair.name)? {
            empty if empty.is_empty() => Err(format!("{keyword} names can not be blank")),
            name => Ok((name, self.word(&pair.value)?)),
        });
        expanded.collect()
    }

    fn all(&self, texts: &[String]) -> Result<Vec<String>, String> {
        texts.iter().map(|text| self.word(text)).collect()
    }

    fn word(&self, text: &str) -> Result<String, String> {
        self.globals.counted(expand::word(text, self.globals.escape, &self.lookup())?)
    }

    fn lookup(&self) -> impl Fn(&str) -> Option<String> {
        |name| self.get(name).map(str::to_owned)
    }
}
