//! `RUN`: a command in a container on the layers so far; what it changes is the new layer.

use super::cache_mounts::Held;
use super::config;
use super::dockerfile::{Lines, Mount, MountKind, Run, RunNetwork, RunSecurity, Script};
use super::key::Key;
use super::mounts::{self, Mounts, Origin, Wanted};
use super::progress::Step;
use super::sandbox::{Below, Command, Sandbox};
use super::session::Before;
use super::stage::{Builder, Found};
use super::worker::{Ended, NotRun, Running, Task};
use crate::container::options::{MountSource, NetworkMode, Tuning};
use crate::container::record::MountPoint;
use crate::image::{Digest, Remembered};
use crate::sys::poll::{self, Interest};
use anyhow::{Context, Result, anyhow, bail};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Where a script of a heredoc is shown.
const SCRIPTS: &str = "/dev/pipes";
/// How often a running command is looked at for a reason to give it up.
const PATIENCE: Duration = Duration::from_millis(200);

/// Everything about a command that its result depends on.
struct Job {
    command: Command,
    /// A script to be shown to it: its name and content.
    script: Option<(String, String)>,
    wanted: Vec<Wanted>,
    /// Variables that are no part of the key.
    quiet_env: Vec<String>,
    /// For the history.
    told: String,
}

impl Builder<'_> {
    /// Carries a `RUN` out, or finds what came out of it before.
    pub fn run(&mut self, name: &str, lines: Lines, run: &Run, mounts: Vec<Mount>) -> Result<()> {
        // Stages that it mounts something of are waited for before it begins.
        let job = self.job(run, mounts);
        let step = self.session.reporter.begin(name);
        let found = job.and_then(|mut job| self.look_up(&mut job).map(|found| (job, found)));
        let (job, (keys, known)) = match found {
            Ok(found) => found,
            Err(error) => return Err(self.give_up(step, name, lines, error, None)),
        };
        if let Some(known) = known {
            self.tell(job.told, Some(&known));
            step.cached();
            return Ok(());
        }
        let told = job.told.clone();
        let env = job.command.env.clone();
        match self.carry_out(job, &step) {
            Ok(layer) => {
                let known = self.remember(&keys, name, layer)?;
                self.tell(told, Some(&known));
                step.done();
                Ok(())
            }
            Err(error) => Err(self.give_up(step, name, lines, error, Some(env))),
        }
    }

    /// What a command is known by, and what came out of it before. As long as stages are the same, what is mounted of
    /// them need not be looked at.
    fn look_up(&self, job: &mut Job) -> Result<(Vec<Digest>, Option<Remembered>)> {
        let quick = self.key(job);
        let known = self.recall(&quick)?;
        if known.is_some() || !self.know_by_content(&mut job.wanted)? {
            return Ok((vec![quick], known));
        }
        let by_content = self.key(job);
        let known = self.recall(&by_content)?;
        if let Some(known) = &known {
            self.session.store.remember(&quick, known)?;
        }
        Ok((vec![quick, by_content], known))
    }

    /// Looks at what is mounted of stages and images, until now known by their layers; whether there is anything.
    fn know_by_content(&self, wanted: &mut [Wanted]) -> Result<bool> {
        let mut is_changed = false;
        for Wanted { mount, target, origin, content } in wanted {
            let Some(Origin::Tree(below)) = origin else { continue };
            let (from, source) = (mount.from.as_deref().unwrap_or_default(), mounts::source(mount));
            let digest = self.digest_of_tree(&below.union, from, source);
            *content = Some(digest.with_context(|| format!("mount {target}"))?);
            is_changed = true;
        }
        Ok(is_changed)
    }

    fn give_up(
        &self,
        step: Step<'_>,
        name: &str,
        lines: Lines,
        error: anyhow::Error,
        env: Option<Vec<String>>,
    ) -> anyhow::Error {
        if error.is::<super::session::Canceled>() {
            return error;
        }
        step.failed(format!("{error:#}"));
        // The state before is worth more than a complaint about it.
        let before = env.and_then(|env| self.keep_state().ok().map(|image| Before { image, env: self.beside(env) }));
        self.session.failed(name, lines, error, before)
    }

    /// An image of where the stage stands.
    fn keep_state(&self) -> Result<Digest> {
        let image = super::output::finished(&self.state.image, &self.session.wishes.epoch)?;
        self.session.store.publish_built(&image, &[])
    }

    /// What of an environment the image does not say itself.
    fn beside(&self, env: Vec<String>) -> Vec<String> {
        let own = self.state.config().env;
        env.into_iter().filter(|entry| !own.contains(entry)).collect()
    }

    fn job(&self, run: &Run, mounts: Vec<Mount>) -> Result<Job> {
        let config = self.state.config();
        let (args, script) = match run.script() {
            Script::Exec(words) => (words, None),
            Script::Shell(text) => ([config::shell(&config), vec![text]].concat(), None),
            Script::File { name, content } => (vec![format!("{SCRIPTS}/{name}")], Some((name, content))),
        };
        if !run.devices.is_empty() {
            bail!("devices cannot be given to a RUN");
        }
        let shared = &self.session.wishes.container;
        let network = match run.network {
            None | Some(RunNetwork::Default) => shared.network.clone(),
            Some(RunNetwork::None) => NetworkMode::None,
            Some(RunNetwork::Host) => {
                if shared.network != NetworkMode::Host {
                    self.require("network.host")?;
                }
                NetworkMode::Host
            }
        };
        if run.security == Some(RunSecurity::Insecure) {
            self.require("security.insecure")?;
        }
        let entry = |(name, value): (&str, &str)| format!("{name}={value}");
        let scope = &self.state.scope;
        let args_in_effect: Vec<String> = scope.args().map(entry).collect();
        let quiet_env = scope.proxies().map(entry).collect();
        let told = told(&args, &args_in_effect);
        let wanted = self.wanted(mounts, &config.working_dir)?;
        let command = Command {
            args,
            env: scope.variables().iter().map(|(name, value)| format!("{name}={value}")).collect(),
            user: config.user,
            workdir: if config.working_dir.is_empty() { "/".into() } else { config.working_dir },
            network,
            privileged: run.security == Some(RunSecurity::Insecure),
            mounts: Vec::new(),
        };
        Ok(Job { command, script, wanted, quiet_env, told })
    }

    /// A Dockerfile may be somebody else's: what it is not confined in is the user's to allow.
    fn require(&self, right: &str) -> Result<()> {
        match self.session.wishes.allow.contains(right) {
            true => Ok(()),
            false => bail!("{right} is not allowed: give --allow {right} if you trust this Dockerfile"),
        }
    }

    /// Finds where the sources of mounts are.
    fn wanted(&self, mounts: Vec<Mount>, workdir: &str) -> Result<Vec<Wanted>> {
        let mut agents = 0;
        let mut all = Vec::new();
        for mount in mounts {
            let target = match mount.target.as_str() {
                "" => mounts::default_target(&mount, agents),
                relative => Path::new("/").join(workdir).join(relative).to_string_lossy().into_owned(),
            };
            agents += usize::from(mount.kind == MountKind::Ssh);
            let target = crate::sys::dir::clean(Path::new(&target)).to_string_lossy().into_owned();
            if target == "/" {
                bail!("invalid mount target {target:?}: it would hide all files of the image");
            }
            let (origin, content) = match (mount.kind, &mount.from) {
                (MountKind::Bind | MountKind::Cache, Some(from)) => {
                    let (origin, content) = self.origin_of_mount(from, &mount)?;
                    (Some(origin), Some(content))
                }
                (MountKind::Bind, None) => {
                    let (origin, content) = self.context_of_mount(&mount)?;
                    (Some(origin), Some(content))
                }
                _ => (None, None),
            };
            all.push(Wanted { mount, target, origin, content });
        }
        Ok(all)
    }

    fn origin_of_mount(&self, from: &str, mount: &Mount) -> Result<(Origin, String)> {
        match self.origin(from)? {
            Found::Layers(layers) => {
                let content = layers.iter().map(Digest::to_string).collect::<Vec<_>>().join(" ");
                let below = Below::open(&self.session.store, &layers)?;
                Ok((Origin::Tree(below), content))
            }
            Found::Folder(folder) => {
                let content = self.digest_of_folder(&folder, mounts::source(mount))?;
                Ok((Origin::Folder(folder), content))
            }
        }
    }

    fn key(&self, job: &Job) -> Digest {
        let wishes = self.session.wishes;
        let Command { args, env, user, workdir, network, privileged, .. } = &job.command;
        let mut key = Key::new("RUN", self.state.layers());
        key.list("args", args);
        key.list("env", env);
        key.part("user", user);
        key.part("workdir", workdir);
        key.part("network", format!("{network:?}"));
        key.part("privileged", privileged.to_string());
        key.part("script", job.script.as_ref().map_or("", |(_, content)| content));
        key.list("hosts", &wishes.container.extra_hosts);
        key.list("volumes", wishes.container.mounts.iter().map(|mount| format!("{mount:?}")));
        key.part("epoch", format!("{:?}", wishes.epoch));
        job.wanted.iter().for_each(|wanted| mounts::add_to_key(&mut key, wanted));
        key.finish()
    }

    fn carry_out(&self, job: Job, step: &Step<'_>) -> Result<Digest> {
        let session = self.session;
        let below = Below::open(&session.store, self.state.layers())?;
        let sandbox = Sandbox::new(&session.workshop)?;
        let mut mounts = Mounts::make(session, &sandbox, job.wanted, self.is_anew())?;
        let mut command = job.command;
        command.env.extend(job.quiet_env);
        if let Some((name, content)) = &job.script {
            mounts.points.push(script(&sandbox, name, content)?);
        }
        command.mounts = std::mem::take(&mut mounts.points);
        let draft = session.store.draft(&session.workshop)?;
        let named = command.args.join(" ");
        let task = sandbox.task(session, &below, &draft.path(), command, &mut mounts)?;
        let ended = self.execute(task, &mounts, step).map_err(|error| explain(error, &named))?;
        drop(mounts);
        match ended {
            Ended { status: 0, .. } => {
                session.store.adopt(&session.workshop, draft, &below.union, session.wishes.epoch)
            }
            Ended { status, out_of_memory } => {
                let why = if out_of_memory { " (the memory limit was reached)" } else { "" };
                bail!("process {named:?} did not complete successfully: exit code: {status}{why}")
            }
        }
    }

    /// Runs a command. When this returns, nothing of it is left.
    fn execute(&self, task: Task, mounts: &Mounts, step: &Step<'_>) -> Result<Ended> {
        let caches = mounts.held.values().map(Held::lock);
        let running = self.session.workers.start(task, &self.session.workshop, caches)?;
        match self.follow(&running, step) {
            Ok(()) => self.session.workers.finish(running),
            Err(error) => {
                running.abandon();
                Err(error)
            }
        }
    }

    /// Tells what a command writes, until it has ended.
    fn follow(&self, running: &Running, step: &Step<'_>) -> Result<()> {
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let interest = Interest { fd: running.output.as_fd(), read: true, write: false };
            let ready = poll::wait(&[interest], Some(PATIENCE)).context("wait for the command's output")?;
            self.session.go_on()?;
            if !ready[0].read {
                continue;
            }
            match rustix::io::read(&running.output, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => step.output(&buffer[..length]),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e)).context("read the command's output"),
            }
        }
    }
}

/// What BuildKit writes into the history.
fn told(args: &[String], args_in_effect: &[String]) -> String {
    let args = args.join(" ");
    match args_in_effect.len() {
        0 => format!("RUN {args} # buildkit"),
        count => format!("RUN |{count} {} {args} # buildkit", args_in_effect.join(" ")),
    }
}

/// Shows a script to the command, for it to execute but not to change.
fn script(sandbox: &Sandbox, name: &str, content: &str) -> Result<MountPoint> {
    if name.contains('/') || name.starts_with('.') {
        return Err(anyhow!("{name:?} cannot be the name of a script"));
    }
    let path = sandbox.folder("scripts")?.join(name);
    std::fs::write(&path, content).context("write the script down")?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o555)).context("write the script down")?;
    let path = path.to_str().context("the store's path is not UTF-8")?.to_owned();
    Ok(MountPoint {
        source: MountSource::Bind { path, create: false },
        anonymous: false,
        target: format!("{SCRIPTS}/{name}"),
        read_only: true,
        propagation: None,
        tuning: Tuning::default(),
    })
}

fn explain(error: anyhow::Error, named: &str) -> anyhow::Error {
    match error.downcast_ref::<NotRun>() {
        Some(not_run) if not_run.status != 125 => {
            let (status, text) = (not_run.status, not_run.text.clone());
            anyhow!("process {named:?} did not complete successfully: exit code: {status}: {text}")
        }
        _ => error,
    }
}
