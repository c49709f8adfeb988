//! A process inside a container: what it is to be, and how a child of ours becomes it.
//!
//! Used by a container's first process and by every process that joins it later.

use super::apparmor::{Entrance, Profile};
use super::capabilities::Capabilities;
use super::handshake::{ChildEnd, Stage};
use super::hooks::{self, Hook, State};
use super::scheduling::Treatment;
use super::seccomp::{Agent, Draft, Filter};
use super::{program, streams};
use crate::sys::dir::Dir;
use crate::sys::file::read_all_limited;
use crate::sys::poll;
use crate::sys::procfs::ProcFs;
use crate::sys::socket::{Listener, Socket};
use crate::sys::{process, signal};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Linux, LinuxSeccomp, Process};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Everything about one process, checked.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: PathBuf,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    capabilities: Capabilities,
    no_new_privs: bool,
    filter: Confinement,
    rlimits: Vec<Rlimit>,
    oom_score_adj: Option<i32>,
    profile: Option<Profile>,
    treatment: Treatment,
    /// Whether it gets a pseudo-terminal.
    pub terminal: bool,
    /// Rows and columns that the terminal starts with.
    pub console_size: Option<(u16, u16)>,
}

/// Its filter of system calls.
#[derive(Clone, Debug)]
enum Confinement {
    None,
    /// To be compiled, and sent to the process while it sets itself up.
    Draft(Draft),
    Ready(Filter),
}

/// Whether there will be another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Last,
}

#[derive(Clone, Debug)]
struct Rlimit {
    name: String,
    resource: u32,
    soft: u64,
    hard: u64,
}

/// What the face that starts a process wants of it, beside what the specification says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// It dies with its starter.
    pub tied: bool,
    /// So many descriptors from 3 on stay open in it.
    pub preserved_fds: u32,
    /// It stays in its starter's session keyring.
    pub keep_keyring: bool,
    /// The root is moved and changed into where a kernel's initial file system cannot be pivoted away.
    pub no_pivot: bool,
}

/// Files of the caller's own in `/proc`, opened while that is still the host's.
#[derive(Debug, Default)]
pub struct OwnFiles {
    /// For its OOM score adjustment.
    score: Option<File>,
    /// For its AppArmor profile.
    profile: Option<Entrance>,
}

/// What a process does last.
#[derive(Debug, Default)]
pub struct Last<'a> {
    /// As the face wants it.
    pub manner: Manner,
    /// Its parent has set its resource limits.
    pub limited: bool,
    /// Its user namespace has given up changing supplementary groups.
    pub groups_stay: bool,
    /// Where somebody will come and let it run; its parent does if there is none.
    pub door: Option<Listener>,
    /// Where the filter comes from that it awaits.
    pub filter: Option<Socket>,
    /// To be run right before the program.
    pub hooks: Option<(&'a [Hook], &'a State)>,
}

/// The longest command or environment that we pass on; the kernel has limits of its own below this.
const MAX_STRINGS: usize = 64 * 1024;

impl ProcessPlan {
    /// Understands the process of a specification (runtime-spec, "Process").
    ///
    /// # Errors
    /// What cannot be carried out, before anything is started.
    pub fn from_spec(spec: &Process) -> Result<ProcessPlan> {
        let args = strings(spec.args().as_deref().unwrap_or_default()).context("the arguments")?;
        if args.is_empty() {
            bail!("no command specified");
        }
        if !spec.cwd().is_absolute() {
            bail!("the working directory {:?} is not an absolute path", spec.cwd());
        }
        let user = spec.user();
        let ids = [user.uid(), user.gid()].into_iter().chain(user.additional_gids().iter().flatten().copied());
        // To the kernel this number means to leave things as they are, which is root.
        if ids.into_iter().any(|id| id == u32::MAX) {
            bail!("{} is no user's or group's number", u32::MAX);
        }
        let rlimits = spec.rlimits().iter().flatten().map(|limit| {
            let name = limit.typ().to_string();
            let resource = rlimit_number(&name).ok_or_else(|| anyhow!("unknown resource limit {name}"))?;
            Ok(Rlimit { name, resource, soft: limit.soft(), hard: limit.hard() })
        });
        let capabilities = match spec.capabilities() {
            Some(sets) => Capabilities::from_spec(sets)?,
            None => Capabilities::default(),
        };
        let (size, profile) = (spec.console_size(), spec.apparmor_profile());
        Ok(ProcessPlan {
            args,
            env: environment(spec.env().as_deref().unwrap_or_default()).context("the environment")?,
            cwd: spec.cwd().clone(),
            uid: spec.user().uid(),
            gid: spec.user().gid(),
            groups: spec.user().additional_gids().clone().unwrap_or_default(),
            umask: spec.user().umask().unwrap_or(0o022),
            capabilities,
            no_new_privs: spec.no_new_privileges().unwrap_or(false),
            filter: Confinement::None,
            rlimits: rlimits.collect::<Result<_>>()?,
            oom_score_adj: spec.oom_score_adj(),
            profile: Profile::named(profile.as_deref().unwrap_or_default()).context("process.apparmorProfile")?,
            treatment: Treatment::from_spec(spec)?,
            terminal: spec.terminal().unwrap_or(false),
            console_size: size.map(|s| (s.height() as u16, s.width() as u16)),
        })
    }

    /// With what a container's specification says of all its processes: execution domain, filter of system calls.
    ///
    /// # Errors
    /// What the kernel does not have.
    pub fn in_container(mut self, linux: &Linux, seccomp: Option<LinuxSeccomp>) -> Result<ProcessPlan> {
        self.treatment = self.treatment.with_personality(linux.personality().as_ref())?;
        if let Some(seccomp) = seccomp {
            self.filter = Confinement::Draft(Draft::of(seccomp).context("linux.seccomp")?);
        }
        Ok(self)
    }

    /// With a filter that was compiled before.
    pub fn with_filter(self, filter: Filter) -> ProcessPlan {
        ProcessPlan { filter: Confinement::Ready(filter), ..self }
    }

    /// Whether its filter is yet to be compiled, and sent to it.
    pub fn awaits_filter(&self) -> bool {
        matches!(self.filter, Confinement::Draft(_))
    }

    /// Compiles the filter that the process awaits, if it does, and sends it there.
    ///
    /// # Errors
    /// What the kernel cannot carry out.
    pub fn send_filter(&self, to: Option<Socket>) -> Result<Option<Filter>> {
        let (Confinement::Draft(draft), Some(to)) = (&self.filter, to) else { return Ok(None) };
        let filter = draft.compile().context("linux.seccomp")?;
        match filter.send(&to) {
            // Why it is gone will be heard from it.
            Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(e).context("send the seccomp filter")
            }
            _ => Ok(Some(filter)),
        }
    }

    fn take_filter(&self, from: Option<Socket>) -> Result<Option<Cow<'_, Filter>>> {
        Ok(match (&self.filter, from) {
            (Confinement::None, _) => None,
            (Confinement::Draft(draft), from) => Some(Cow::Owned(draft.receive(&from.context("no filter is sent")?)?)),
            (Confinement::Ready(filter), _) => Some(Cow::Borrowed(filter)),
        })
    }

    /// Who is asked about system calls that the filter does not decide.
    pub fn agent(&self) -> Option<&Agent> {
        match &self.filter {
            Confinement::None => None,
            Confinement::Draft(draft) => draft.agent(),
            Confinement::Ready(filter) => filter.agent(),
        }
    }

    /// Its user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Where it starts.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Limits that are to hold for the process of this number, set by somebody who still may.
    pub fn limit(&self, pid: i32) -> Result<()> {
        for limit in &self.rlimits {
            process::set_rlimit(pid, limit.resource, limit.soft, limit.hard).with_context(|| {
                let hint = "raising a hard limit needs CAP_SYS_RESOURCE";
                format!("error setting rlimits: set {} to {}:{} ({hint})", limit.name, limit.soft, limit.hard)
            })?;
        }
        Ok(())
    }

    /// Opens the files through which the calling process, which is to become this one, will set what is only its own to
    /// set. It may have its OOM score by somebody else.
    pub fn open_own_files(&self, has_score: bool) -> Result<OwnFiles> {
        let open = |_| ProcFs::host().and_then(|proc| proc.open("self/oom_score_adj"));
        let score = self.oom_score_adj.filter(|_| !has_score).map(open).transpose();
        Ok(OwnFiles {
            score: score.context("open /proc/self/oom_score_adj")?,
            profile: self.profile.as_ref().map(Profile::open).transpose()?,
        })
    }

    /// Gives the caller the OOM score, for the process to inherit. That of a process that hides itself is only set by root.
    pub fn share_oom_score(&self) -> Result<()> {
        self.give_oom_score("self")
    }

    /// Gives the process of this number, or `self`, its OOM score. In a user namespace nobody may lower his own.
    pub fn give_oom_score(&self, pid: &str) -> Result<()> {
        let Some(score) = self.oom_score_adj else { return Ok(()) };
        let file = format!("{pid}/oom_score_adj");
        let written = ProcFs::host().and_then(|proc| proc.write(file, score.to_string().as_bytes()));
        written.with_context(|| setting_score(score))
    }

    /// Before a process that joins a container is in its cgroup.
    pub fn begin(&self) -> Result<()> {
        self.treatment.begin()
    }

    /// Turns the calling process, already inside the container, into this one. Tells the parent if that fails.
    pub fn become_it(&self, own: &OwnFiles, mut parent: ChildEnd, last: Last<'_>) -> ! {
        let (stage, error) = self.attempt(own, &mut parent, last);
        parent.send_failure(stage, &error);
        process::exit_now(1)
    }

    fn attempt(&self, own: &OwnFiles, parent: &mut ChildEnd, mut last: Last<'_>) -> (Stage, anyhow::Error) {
        let filter = match self.take_filter(last.filter.take()) {
            Err(error) => return (Stage::Identity, error),
            Ok(filter) => filter,
        };
        let program = match self.prepare(own, &last, filter.as_deref(), parent) {
            Err(failure) => return failure,
            Ok(program) => program,
        };
        if let Err(error) = parent.wait_for_go(last.door.take()) {
            return (Stage::Exec, error);
        }
        let env = self.environment();
        // As late as can be: a strict filter may allow hardly more than the program itself needs.
        if self.no_new_privs
            && let Err(error) = install(filter.as_deref(), parent)
        {
            return (Stage::Identity, error);
        }
        // They are as confined as the program itself.
        if let Err(error) = last.hooks.map_or(Ok(()), |(hooks, state)| hooks::run("startContainer", hooks, state)) {
            return (Stage::Hooks, error);
        }
        (Stage::Exec, program::execute(&program, &self.args, &env))
    }

    fn prepare(
        &self,
        own: &OwnFiles,
        last: &Last<'_>,
        filter: Option<&Filter>,
        parent: &ChildEnd,
    ) -> Result<CString, (Stage, anyhow::Error)> {
        let streams = streams::refuse_directories().and_then(|()| streams::replace_null());
        streams.and_then(|()| streams::give_to(self.uid)).map_err(|e| (Stage::Console, e))?;
        self.set_limits(own, last).map_err(|e| (Stage::Identity, e))?;
        // Hooks that follow are confined, too. A filter may not let it be written any more.
        if let (Some(profile), Some(entrance)) = (&self.profile, &own.profile) {
            profile.apply(entrance).map_err(|e| (Stage::Identity, e))?;
        }
        // Without no_new_privs it takes a capability that may be gone afterwards.
        if !self.no_new_privs {
            install(filter, parent).map_err(|e| (Stage::Identity, e))?;
        }
        let entered = self.enter_directory(Attempt::First).map_err(|e| (Stage::WorkingDirectory, e))?;
        self.change_identity(last.groups_stay).map_err(|e| (Stage::Identity, e))?;
        if !entered {
            self.enter_directory(Attempt::Last).map_err(|e| (Stage::WorkingDirectory, e))?;
        }
        self.finish(last, parent).map_err(|e| (Stage::Identity, e))?;
        program::find(&self.args, &self.env).map_err(|e| (Stage::Exec, e))
    }

    /// Programs count on a home.
    fn environment(&self) -> Vec<CString> {
        let mut env = self.env.clone();
        env.retain(|e| e.as_bytes() != b"HOME=");
        if !env.iter().any(|e| e.as_bytes().starts_with(b"HOME=")) {
            let home = home_of(self.uid).unwrap_or_else(|| "/".into());
            env.extend(CString::new(format!("HOME={home}")));
        }
        env
    }

    fn set_limits(&self, own: &OwnFiles, last: &Last<'_>) -> Result<()> {
        if let (Some(score), Some(mut file)) = (self.oom_score_adj, own.score.as_ref()) {
            // Whole: the kernel takes every write for a number of its own.
            file.write_all(score.to_string().as_bytes()).with_context(|| setting_score(score))?;
        }
        if !last.limited {
            self.limit(0)?;
        }
        self.treatment.apply()
    }

    /// Bounding set while we still may, then groups and user, then the sets that the change of user emptied.
    fn change_identity(&self, groups_stay: bool) -> Result<()> {
        self.capabilities.limit()?;
        let keep = self.uid != 0 && self.capabilities.any_permitted();
        process::keep_capabilities(keep).context("keep capabilities over the change of user")?;
        let groups = Some(self.groups.as_slice()).filter(|groups| !(groups_stay && groups.is_empty()));
        process::become_user(self.uid, self.gid, groups)
            .with_context(|| format!("become user {} in group {}", self.uid, self.gid))?;
        self.capabilities.apply()?;
        process::keep_capabilities(false).context("stop keeping capabilities")
    }

    /// It must be a real place inside. Once as root, for users whose directory is below one that they may not enter;
    /// once as the user, for those whose directory root may not enter: on a network file system, say.
    fn enter_directory(&self, attempt: Attempt) -> Result<bool> {
        let what = || format!("chdir to cwd ({:?}) set in config.json failed", self.cwd);
        match rustix::process::chdir(&self.cwd) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) if attempt == Attempt::First => return Ok(false),
            other => other.map_err(io::Error::from).with_context(what)?,
        }
        let reached = rustix::process::getcwd(Vec::new()).map_err(io::Error::from).with_context(what)?;
        if !reached.as_bytes().starts_with(b"/") {
            bail!("{}: it leads out of the container", what());
        }
        Ok(true)
    }

    fn finish(&self, last: &Last<'_>, parent: &ChildEnd) -> Result<()> {
        process::set_umask(self.umask);
        if self.no_new_privs {
            process::set_no_new_privs().context("forbid new privileges")?;
        }
        signal::reset();
        if last.manner.tied {
            // A change of user clears it, so it is set here; only a container that dies with its keeper is ever found.
            process::die_with_parent().context("tie the container to its supervisor")?;
            // Nobody is told who is tied to a parent that has gone before, whose word to go may be there nevertheless.
            if poll::is_hung_up(parent.as_fd()).context("look whether the supervisor is there")? {
                bail!("the parent is gone");
            }
        }
        let door = last.door.as_ref().map(AsFd::as_fd);
        let kept: Vec<_> = door.into_iter().chain([parent.as_fd()]).map(|fd| fd.as_raw_fd() as u32).collect();
        let first = 3u32.saturating_add(last.manner.preserved_fds);
        // Closed and not only marked: the program is yet to be looked up, by a path that may lead through them.
        process::close_all_but(first, &kept).context("close inherited descriptors")?;
        process::close_on_exec_from(first).context("have the last descriptors closed")
    }
}

fn setting_score(score: i32) -> String {
    format!("set the OOM score adjustment to {score} (to lower it needs CAP_SYS_RESOURCE)")
}

fn install(filter: Option<&Filter>, parent: &ChildEnd) -> Result<()> {
    match filter.map_or(Ok(None), Filter::install)? {
        Some(listener) => parent.hand_listener(&listener),
        None => Ok(()),
    }
}

/// What the container's own list of users says; the calling process is in its root already.
fn home_of(uid: u32) -> Option<String> {
    const LIMIT: u64 = 4 << 20;
    let mut file = Dir::open("/").ok()?.file_in_foreign_root("etc/passwd").ok()?;
    let text = read_all_limited(&mut file, LIMIT).ok()?;
    let (text, uid) = (String::from_utf8_lossy(&text), uid.to_string());
    let entry = text.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    entry.split(':').nth(5).filter(|home| home.starts_with('/') && !home.contains('\0')).map(str::to_owned)
}

fn strings(list: &[String]) -> Result<Vec<CString>> {
    if list.len() > MAX_STRINGS {
        bail!("more than {MAX_STRINGS} strings");
    }
    list.iter().map(|s| CString::new(s.as_bytes()).with_context(|| format!("{s:?} holds a zero byte"))).collect()
}

/// Of several values of one variable the last one counts; programs would disagree about it.
fn environment(list: &[String]) -> Result<Vec<CString>> {
    let mut seen = HashSet::new();
    let mut env = strings(list)?;
    env.reverse();
    env.retain(|e| seen.insert(e.as_bytes().split(|b| *b == b'=').next().unwrap_or_default().to_vec()));
    env.reverse();
    Ok(env)
}

/// The number of a limit by its name in the specification.
pub fn rlimit_number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}
