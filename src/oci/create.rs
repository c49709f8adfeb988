//! `create` and `run`.

use super::console::{self, Relay};
use super::log::Log;
use super::record::{Container, DOOR, Record, Status, Store, note_cgroup};
use super::{delete, start, values};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::handshake::Failure;
use crate::runtime::launch::{self, Company, Created};
use crate::runtime::plan::{Face, Plan};
use crate::runtime::process::Manner;
use crate::runtime::seccomp::Filter;
use crate::sys::errors;
use crate::sys::file::{Durability, Lock, LockMode, write_atomic};
use crate::sys::process::{self, ProcessId};
use crate::sys::signal::Signals;
use crate::sys::socket::Listener;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp, LinuxSeccompAction, Process, Spec};
use std::cell::Cell;
use std::convert::Infallible;
use std::fs::File;
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Return when the program runs
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when it ends
    #[arg(long)]
    keep: bool,
    /// Ignored: the container's orphans are never ours
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

#[derive(Debug, Args)]
struct Common {
    /// The name of the container
    id: String,
    /// The folder that holds config.json
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// A socket to which the terminal is sent
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// A file for the number of the container's first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting into it, where the host's root is the kernel's initial one
    #[arg(long)]
    no_pivot: bool,
    /// Stay in the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// So many descriptors beyond 0-2 stay open
    #[arg(long, default_value_t = 0, value_name = "N")]
    preserve_fds: u32,
}

impl CreateArgs {
    /// How many descriptors from 3 on are meant for the container.
    pub fn preserved_fds(&self) -> u32 {
        self.common.preserved_fds()
    }
}

impl RunArgs {
    /// How many descriptors from 3 on are meant for the container.
    pub fn preserved_fds(&self) -> u32 {
        self.common.preserved_fds()
    }
}

impl Common {
    fn preserved_fds(&self) -> u32 {
        self.preserve_fds.saturating_add(listening_fds())
    }
}

/// Creates a container that waits to be started. Ends the program.
pub fn create(store: &Store, args: &CreateArgs, rootless: Option<bool>, log: &Log) -> Result<Infallible> {
    let order = Order::of(&args.common, true, rootless, log)?;
    let failed = "minirun-oci create failed";
    let (container, created) = order.carry_out(store, &args.common, true, log).context(failed)?;
    hand_over(&args.common, &created).inspect_err(|_| delete::abandon(&container, log)).context(failed)?;
    process::exit_now(0)
}

/// Creates a container, runs its program, and without `--detach` stays with it to its end. Ends the program.
pub fn run(store: &Store, args: &RunArgs, rootless: Option<bool>, log: &Log) -> Result<Infallible> {
    let order = Order::of(&args.common, args.detach, rootless, log)?;
    let signals = if args.detach { None } else { Some(Signals::all().context("receive signals")?) };
    let failed = "minirun-oci run failed";
    let (container, created) = order.carry_out(store, &args.common, false, log).context(failed)?;
    let ended = hand_over(&args.common, &created).and_then(|()| {
        // The terminal is ready before anybody writes to it.
        let relay = signals.is_some().then(|| Relay::new(created.console.as_ref())).transpose()?;
        start::begin(&container, &created, log).map_err(starting)?;
        relay.zip(signals.as_ref()).map(|(relay, signals)| relay.serve(&created.child.pidfd, signals)).transpose()
    });
    let ended = ended.inspect_err(|_| delete::abandon(&container, log)).context(failed)?;
    if ended.is_some() && !args.keep {
        delete::destroy(&container, Status::Stopped, log)?;
    }
    // To take apart first what the child shared would copy it page by page.
    process::exit_now(ended.map_or(0, |exit| exit.status()))
}

/// A specification that is checked against how it is asked for.
struct Order {
    spec: Spec,
    bundle: PathBuf,
    manner: Manner,
    /// Whether the caller may lack privileges; to be found out if it is not said.
    rootless: Option<bool>,
}

impl Order {
    fn of(args: &Common, detached: bool, rootless: Option<bool>, log: &Log) -> Result<Order> {
        let bundle = args.bundle.canonicalize().with_context(|| format!("find {}", args.bundle.display()))?;
        let mut spec = load(&bundle, log)?;
        let process = spec.process_mut().as_mut().context("config.json has no process")?;
        let terminal = process.terminal().unwrap_or(false);
        console::check_socket(terminal, detached, args.console_socket.as_deref())?;
        pass_listening_on(process);
        let preserved_fds = args.preserved_fds();
        let manner = Manner { tied: false, preserved_fds, keep_keyring: args.no_new_keyring, no_pivot: args.no_pivot };
        Ok(Order { spec, bundle, manner, rootless })
    }

    fn carry_out(mut self, store: &Store, args: &Common, waits: bool, log: &Log) -> Result<(Box<Container>, Created)> {
        let hierarchies = Hierarchies::All;
        let face = Face { id: &args.id, hierarchies, may_lack_cgroup: self.rootless, manner: self.manner };
        // It is not taken apart: the child shares it, and it would be copied for that.
        let plan = ManuallyDrop::new(Plan::resolve(&mut self.spec, &self.bundle, &face)?);
        check_descriptors(self.manner.preserved_fds)?;
        let shares = shares_cgroup(&plan, log);
        let dir = store.claim(&args.id)?;
        log.debug(&format!("container {}: {} mounts in {}", args.id, plan.mounts.len(), plan.rootfs.display()));
        // As long as it is held no other folder is this one, and nobody enters the container.
        let lock =
            Lock::attempt_folder(&dir, LockMode::Exclusive).and_then(|lock| lock.ok_or(ErrorKind::WouldBlock.into()));
        let lock = lock.context("hold the container's folder").inspect_err(|_| {
            let _ = std::fs::remove_dir(&dir);
        })?;
        let is_ours = || File::open(&dir).and_then(|folder| lock.is_on(&folder)).unwrap_or(false);
        let launched = self.launch(&plan, &dir, waits, shares, &is_ours, log).inspect_err(|_| {
            if is_ours() {
                let _ = std::fs::remove_dir_all(&dir);
            }
        })?;
        lock.free().context("let go of the container's folder")?;
        Ok(launched)
    }

    fn launch(
        self,
        plan: &Plan,
        dir: &Path,
        waits: bool,
        shares_cgroup: bool,
        is_ours: &dyn Fn() -> bool,
        log: &Log,
    ) -> Result<(Box<Container>, Created)> {
        let door = waits.then(|| Listener::bind(dir, DOOR).context("make the container's door")).transpose()?;
        if !shares_cgroup {
            note_cgroup(dir, &plan.cgroup)?;
        }
        let (staged, container) = (Cell::new(None), Cell::new(None));
        let mut spec = Some(self.spec);
        let mut beside = |pid: i32, filter: Option<&Filter>| {
            let record = record(plan, self.bundle.clone(), spec.take().unwrap_or_default(), filter, pid)?;
            let made = Box::new(Container::new(dir.to_owned(), record));
            staged.set(Some((made.stage()?, made)));
            Ok(())
        };
        // Published before any hook runs: whoever is asked to delete a container that is being made finds it.
        let mut attend = || {
            let (record, made) = staged.take().context("there is no record")?;
            log.debug(&format!("nsexec container setup: process {} has its namespaces and mounts", made.init().pid));
            record.publish().context("write the container's record")?;
            container.set(Some(made));
            Ok(())
        };
        let company = Company {
            door,
            shares_cgroup,
            is_ours: Some(is_ours),
            beside: Some(&mut beside),
            attend: Some(&mut attend),
            ..Company::default()
        };
        let created = launch::create(plan, company).map_err(starting);
        match (created, container.take()) {
            (Ok(created), Some(container)) => {
                log.debug("child process in init(): it is set up, and waits to be started");
                Ok((container, created))
            }
            (Ok(_), None) => bail!("the container was not attended to"),
            (Err(error), attended) => {
                // Hooks may have prepared something that others are to undo.
                let attended = attended.filter(|_| is_ours());
                if let Some(Err(e)) = attended.map(|container| delete::forget(&container, log)) {
                    log.warning(&errors::chain(&e));
                }
                Err(error)
            }
        }
    }
}

fn record(plan: &Plan, bundle: PathBuf, mut config: Spec, filter: Option<&Filter>, pid: i32) -> Result<Record> {
    if let (Some(_), Some(linux)) = (filter, config.linux_mut()) {
        // An older runtime, which does not know of the compiled one, gives a filter that allows nothing.
        let mut nothing = LinuxSeccomp::default();
        nothing.set_default_action(LinuxSeccompAction::ScmpActKillProcess);
        linux.set_seccomp(Some(nothing));
    }
    let init = ProcessId::of(pid).context("find the container's first process")?;
    Ok(Record {
        id: plan.state.id.clone(),
        init_process_pid: init.pid,
        init_process_start: init.start,
        created: jiff::Timestamp::now().to_string(),
        bundle,
        rootfs: plan.rootfs.canonicalize().unwrap_or_else(|_| plan.rootfs.clone()),
        cgroup_paths: plan.cgroup.paths(),
        config,
        filter: filter.cloned(),
    })
}

/// Other runtimes have always let containers share a cgroup, and some count on it.
fn shares_cgroup(plan: &Plan, log: &Log) -> bool {
    let others = plan.cgroup.processes().map_or(0, |p| p.len());
    if others > 0 {
        log.warning(&format!("container's cgroup is not empty: {others} process(es) found"));
    }
    others > 0
}

/// Terminal and number go where the caller wants them.
fn hand_over(args: &Common, created: &Created) -> Result<()> {
    if let (Some(master), Some(socket)) = (&created.console, &args.console_socket) {
        console::send(socket, master)?;
    }
    args.pid_file.as_deref().map_or(Ok(()), |path| write_pid(path, created.child.pid))
}

/// Writes a process's number, whole or not at all.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    // Others may know it, too.
    let public = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    write_atomic(path, pid.to_string().as_bytes(), Durability::Atomic)
        .and_then(|()| std::fs::set_permissions(path, public))
        .with_context(|| format!("write the pid file {}", path.display()))
}

/// Engines look for these words when a program cannot be run.
pub fn starting(error: anyhow::Error) -> anyhow::Error {
    match error.chain().any(|cause| cause.is::<Failure>()) {
        true => error.context("unable to start container process"),
        false => error,
    }
}

fn load(bundle: &Path, log: &Log) -> Result<Spec> {
    let path = bundle.join("config.json");
    let text = match std::fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!("JSON specification file config.json not found in {}", bundle.display())
        }
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    let (spec, unknown) = values::spec(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?;
    if let Some(process) = spec.process() {
        let mut namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
        let has_users = || namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        values::warn_of_capabilities(unknown, process, has_users, log);
    }
    Ok(spec)
}

/// The number of sockets that a service manager gave to this process and not to one that started it.
fn listening_fds() -> u32 {
    let own = std::process::id().to_string();
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid != own) {
        return 0;
    }
    std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// They go on to the container.
fn pass_listening_on(process: &mut Process) {
    let count = listening_fds();
    if count > 0 {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("LISTEN_FDS={count}"));
        env.push("LISTEN_PID=1".to_owned());
        process.set_env(Some(env));
    }
}

/// What is to stay open must be open.
pub fn check_descriptors(preserved: u32) -> Result<()> {
    for number in (3..).take(preserved as usize) {
        if !Path::new("/proc/self/fd").join(number.to_string()).exists() {
            bail!("please check that preserved-fd {} (of {preserved}) is present", number - 3);
        }
    }
    Ok(())
}
