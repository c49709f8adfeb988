//! `exec`.

use super::console::{self, Relay};
use super::create::{check_descriptors, starting, write_pid};
use super::log::Log;
use super::record::{Container, Status, Store};
use super::values::{self, capability, user};
use crate::runtime::cgroup::{Cgroup, Hierarchies, Version};
use crate::runtime::join::{self, Visit};
use crate::runtime::launch::Created;
use crate::runtime::namespaces::Kinds;
use crate::runtime::plan::refuse_labels;
use crate::runtime::process::{Manner, ProcessPlan};
use crate::sys::dir::clean;
use crate::sys::process::{self, Exit};
use crate::sys::signal::Signals;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, Process};
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The container
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// A socket to which the terminal is sent
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// The working directory
    #[arg(long)]
    cwd: Option<PathBuf>,
    /// Add to the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// With a terminal
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    tty: bool,
    /// As this user
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// In this group, too
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// A file that describes the process
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return when the program runs
    #[arg(short, long)]
    detach: bool,
    /// A file for the number of the process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// An SELinux label (not supported)
    #[arg(long)]
    process_label: Option<String>,
    /// An AppArmor profile
    #[arg(long)]
    apparmor: Option<String>,
    /// Never gain privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_new_privs: Option<bool>,
    /// Give a capability
    #[arg(short, long, value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// So many descriptors beyond 0-2 stay open
    #[arg(long, default_value_t = 0, value_name = "N")]
    preserve_fds: u32,
    /// A cgroup below the container's
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Also if the container is paused
    #[arg(long)]
    ignore_paused: bool,
}

impl ExecArgs {
    /// How many descriptors from 3 on are meant for the process.
    pub fn preserved_fds(&self) -> u32 {
        self.preserve_fds
    }
}

impl ExecArgs {
    /// The descriptor that the file with the process's description is given as, if it is.
    pub fn process_descriptor(&self) -> Option<u32> {
        let path = self.process.as_ref()?.to_str()?;
        let number = path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?;
        number.parse().ok()
    }
}

/// Runs a further process in a container, and ends the program with its exit status, unless it is left alone.
pub fn exec(store: &Store, args: &ExecArgs, log: &Log) -> Result<Infallible> {
    // Before there is any of our own.
    check_descriptors(args.preserve_fds)?;
    let mut container = store.find(&args.id)?;
    // First of all: a hook in the container's namespaces knows its first process by another number.
    if container.is_being_made()? {
        bail!("cannot exec in a container that is being created");
    }
    let init = container.init();
    // Looked at when it is held: its number may have become another's.
    let target = process::pidfd_open(init.pid).ok().filter(|_| process::is_alive(init));
    let target = target.context("cannot exec in a stopped container")?;
    let cgroup = container.cgroup();
    if !args.ignore_paused && cgroup.is_frozen() {
        bail!("cannot exec in a paused container (use --ignore-paused to override)");
    }
    let (process, unknown) = compose(&container, args)?;
    refuse_labels(&process)?;
    let terminal = process.terminal().unwrap_or(false);
    console::check_socket(terminal, args.detach, args.console_socket.as_deref())?;
    let linux = container.record.config.linux().as_ref().context("the container has no linux part")?;
    let kinds = Kinds::of(linux);
    let has_users = || kinds.foreign(init.pid) & libc::CLONE_NEWUSER != 0;
    values::warn_of_capabilities(unknown, &process, has_users, log);
    let plan = ProcessPlan::from_spec(&process)?;
    let plan = match container.record.filter.take() {
        Some(filter) => plan.in_container(linux, None)?.with_filter(filter),
        // As it was written down before filters were.
        None => plan.in_container(linux, linux.seccomp().clone())?,
    };
    let manner = Manner { preserved_fds: args.preserve_fds, ..Manner::default() };
    let cgroup = match args.cgroup.as_slice() {
        // Its first process has moved on then.
        [] if cgroup.version() == Version::V2 && !cgroup.takes_processes() => {
            Cgroup::from_pid(init.pid, Hierarchies::All)?
        }
        [] => cgroup,
        wishes => sub_cgroup(&container, wishes).context("exec failed")?,
    };
    log.debug(&format!("exec in container {}: joins process {}", args.id, container.record.init_process_pid));
    let signals = if args.detach { None } else { Some(Signals::all().context("receive signals")?) };
    let state = container.state(Status::Running);
    let visit = Visit { target, init: init.pid, kinds, cgroup: &cgroup, plan: &plan, manner, state: &state };
    let created = join::create(visit, None).map_err(starting).context("exec failed")?;
    log.debug(&format!("nsexec container setup: process {} is in the container's namespaces", created.child.pid));
    log.debug("child process in init(): it is set up, and starts");
    let exit =
        follow(&created, args, signals.as_ref(), log).inspect_err(|_| _ = created.abandon()).context("exec failed")?;
    // The program ends with it. To take apart first what the child shared would copy it page by page.
    process::exit_now(exit.map_or(0, |exit| exit.status()))
}

/// Tells whoever asked about a process, and stays with it to its end if there are signals to pass on to it.
fn follow(created: &Created, args: &ExecArgs, signals: Option<&Signals>, log: &Log) -> Result<Option<Exit>> {
    if let (Some(master), Some(socket)) = (&created.console, &args.console_socket) {
        console::send(socket, master)?;
    }
    // The terminal is ready before anybody writes to it.
    let relay = signals.is_some().then(|| Relay::new(created.console.as_ref())).transpose()?;
    log.debug("setns_init: about to exec");
    created.start().map_err(starting)?;
    args.pid_file.as_deref().map_or(Ok(()), |path| write_pid(path, created.child.pid))?;
    relay.zip(signals).map(|(relay, signals)| relay.serve(&created.child.pidfd, signals)).transpose()
}

/// The process, and the capabilities asked for that are unknown.
fn compose(container: &Container, args: &ExecArgs) -> Result<(Process, Vec<String>)> {
    if let Some(path) = &args.process {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let understood = values::process(&text).with_context(|| format!("understand {}", path.display()));
        let (mut process, unknown) = understood?;
        if process.capabilities().is_none() {
            let own = container.record.config.process().as_ref().and_then(|own| own.capabilities().clone());
            process.set_capabilities(own);
        }
        // Who says nothing of it is not to get out of the confinement.
        if process.apparmor_profile().is_none() {
            let own = container.record.config.process().as_ref().and_then(|own| own.apparmor_profile().clone());
            process.set_apparmor_profile(own);
        }
        return Ok((process, unknown));
    }
    if args.command.is_empty() {
        bail!("process args cannot be empty");
    }
    let mut process = container.record.config.process().clone().context("the container has no process to go by")?;
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(wish) = args.no_new_privs {
        process.set_no_new_privileges(Some(wish));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = args.apparmor.as_ref().filter(|profile| !profile.is_empty()) {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    set_user(&mut process, args)?;
    if !args.cap.is_empty() {
        let more = args.cap.iter().map(|c| capability(c)).collect::<Result<HashSet<_>>>()?;
        process.set_capabilities(Some(with(process.capabilities().as_ref(), &more)?));
    }
    Ok((process, Vec::new()))
}

fn set_user(process: &mut Process, args: &ExecArgs) -> Result<()> {
    if let Some(text) = &args.user {
        let (uid, gid) = user(text)?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut gids = process.user().additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        process.user_mut().set_additional_gids(Some(gids));
    }
    Ok(())
}

fn with(sets: Option<&LinuxCapabilities>, more: &HashSet<Capability>) -> Result<LinuxCapabilities> {
    let of = |get: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
        sets.and_then(|s| get(s).clone()).unwrap_or_default()
    };
    let plus = |set: HashSet<Capability>| set.union(more).copied().collect::<HashSet<_>>();
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(plus(of(LinuxCapabilities::bounding)))
        .effective(plus(of(LinuxCapabilities::effective)))
        .permitted(plus(of(LinuxCapabilities::permitted)))
        .inheritable(of(LinuxCapabilities::inheritable))
        .ambient(of(LinuxCapabilities::ambient))
        .build()?)
}

/// A cgroup below the container's, in all hierarchies or in some.
fn sub_cgroup(container: &Container, wishes: &[String]) -> Result<Cgroup> {
    let mut paths: BTreeMap<String, PathBuf> = container.record.cgroup_paths.clone();
    for wish in wishes {
        let (controllers, path) = match wish.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None if wishes.len() == 1 => (None, wish.as_str()),
            None => bail!("invalid --cgroup argument: {wish} (missing <controller>: prefix)"),
        };
        if Path::new(path).components().any(|part| part == Component::ParentDir) {
            bail!("bad sub cgroup path: {path} is not a sub cgroup path");
        }
        let below = clean(Path::new(path));
        let below = below.strip_prefix("/").unwrap_or(&below).to_owned();
        let named: Vec<String> = match controllers {
            None => paths.keys().cloned().collect(),
            Some(list) => list.split(',').map(str::to_owned).collect(),
        };
        for name in named {
            let dir = paths.get_mut(&name).with_context(|| format!("unknown controller {name} in --cgroup {wish}"))?;
            *dir = dir.join(&below);
            // The unified hierarchy beside the others is no controller's: it only follows where it can.
            if !dir.is_dir() && controllers.is_some() {
                return Err(missing(dir));
            }
        }
    }
    if let Some(dir) = paths.values().next().filter(|_| !paths.values().any(|dir| dir.is_dir())) {
        return Err(missing(dir));
    }
    paths.retain(|_, dir| dir.is_dir());
    let cgroup = Cgroup::from_paths(&paths);
    if let Some(dir) = paths.values().next().filter(|_| !cgroup.takes_processes()) {
        // The kernel would only say so of a process that is there already.
        bail!("adding pid of the process to cgroups: {}/cgroup.procs: device or resource busy", dir.display());
    }
    Ok(cgroup)
}

fn missing(dir: &Path) -> anyhow::Error {
    anyhow!("adding pid to its cgroup: open {}/cgroup.procs: no such file or directory", dir.display())
}
