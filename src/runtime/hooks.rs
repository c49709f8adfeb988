//! Hooks: programs of the user's that are run at fixed moments of a container's life (runtime-spec, "POSIX-platform
//! Hooks").

use crate::sys::file::in_memory;
use crate::sys::poll::{self, Interest};
use crate::sys::{process, signal};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Hook as SpecHook, Spec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// All hooks of a container, by their moments.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// In the runtime's namespaces, before those of `create_runtime`.
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, when those of the container are there.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root is entered.
    pub create_container: Vec<Hook>,
    /// In the container, right before the user's program.
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, when the program runs.
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, when the container is deleted.
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Clone, Debug)]
pub struct Hook {
    path: PathBuf,
    args: Vec<String>,
    env: Option<Vec<String>>,
    timeout: Option<Duration>,
}

/// What a hook reads about its container (runtime-spec, "State").
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'static str,
    /// Its first process; 0 if there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path.
    pub bundle: PathBuf,
    /// The specification's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

impl Hooks {
    /// Understands the hooks of a specification.
    ///
    /// # Errors
    /// A path that is not absolute, a time that is not positive.
    pub fn from_spec(spec: &Spec) -> Result<Hooks> {
        let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
        let prestart = hooks.prestart();
        Ok(Hooks {
            prestart: list("prestart", prestart)?,
            create_runtime: list("createRuntime", hooks.create_runtime())?,
            create_container: list("createContainer", hooks.create_container())?,
            start_container: list("startContainer", hooks.start_container())?,
            poststart: list("poststart", hooks.poststart())?,
            poststop: list("poststop", hooks.poststop())?,
        })
    }

    /// Whether it matters to any of them that the container is there, whatever becomes of it afterwards: they are run
    /// then, or undo what it may have done.
    pub fn any_at_creation(&self) -> bool {
        let moments = [&self.prestart, &self.create_runtime, &self.create_container, &self.poststop];
        moments.iter().any(|hooks| !hooks.is_empty())
    }
}

fn list(moment: &str, hooks: &Option<Vec<SpecHook>>) -> Result<Vec<Hook>> {
    hooks.iter().flatten().map(|h| hook(h).with_context(|| format!("{moment} hook"))).collect()
}

fn hook(spec: &SpecHook) -> Result<Hook> {
    if !spec.path().is_absolute() {
        bail!("the path {} is not absolute", spec.path().display());
    }
    let timeout = match spec.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds as u64)),
        Some(seconds) => bail!("a timeout of {seconds} seconds"),
    };
    Ok(Hook {
        path: spec.path().clone(),
        args: spec.args().clone().unwrap_or_default(),
        env: spec.env().clone(),
        timeout,
    })
}

/// Runs hooks one after the other, up to the first that fails.
///
/// # Errors
/// Which one failed, how, and what it wrote.
pub fn run(moment: &str, hooks: &[Hook], state: &State) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        hook.run(moment, state).with_context(|| format!("error running hook #{index} of {moment}"))?;
    }
    Ok(())
}

/// No more of a hook's words is quoted.
const QUOTED: u64 = 16 * 1024;

impl Hook {
    fn run(&self, moment: &str, state: &State) -> Result<()> {
        let mut command = Command::new(&self.path);
        let mut args = self.args.iter();
        if let Some(name) = args.next() {
            command.arg0(name);
        }
        command.args(args);
        // In the container's namespaces there is no such folder, and nothing of the runtime's own is to get there.
        let is_outside = !matches!(moment, "createContainer" | "startContainer");
        if self.env.is_some() || !is_outside {
            command.env_clear().envs(self.env.iter().flatten().filter_map(|e| e.split_once('=')));
        }
        if is_outside && state.bundle.is_dir() {
            command.current_dir(&state.bundle);
        }
        // Files, not pipes: whoever reads or writes as much or as little as he likes, nobody has to wait for him.
        let json = serde_json::to_vec(state).context("write the state")?;
        let [out, err] = [in_memory(b"")?, in_memory(b"")?];
        command.stdin(in_memory(&json)?).stdout(out.try_clone()?).stderr(err.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("start {}", self.path.display()))?;
        let status = self.wait(&mut child)?;
        if status.success() {
            return Ok(());
        }
        Err(anyhow!("{}, stdout: {}, stderr: {}", how(status), said(out)?, said(err)?))
    }

    /// Until it ends or its time is up; then it is killed.
    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let pidfd = process::pidfd_open(child.id() as i32).context("watch the hook")?;
        let deadline = self.timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let interest = Interest { fd: pidfd.as_fd(), read: true, write: false };
            if poll::wait(&[interest], left).context("wait for the hook")?[0].read {
                return child.wait().context("wait for the hook");
            }
            if left.is_some_and(|l| l.is_zero()) {
                let _ = child.kill();
                let _ = child.wait();
                bail!("hook ran past specified timeout of {:.1}s", self.timeout.unwrap_or_default().as_secs_f32());
            }
        }
    }
}

fn said(mut file: File) -> Result<String> {
    let mut words = Vec::new();
    file.rewind()?;
    file.take(QUOTED).read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).trim_end().to_owned())
}

fn how(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal: {}", signal::description(signal.unwrap_or(0))),
    }
}
