//! The process that runs the commands of a build, one after the other, and what it and the build say to each other.
//!
//! ```text
//! build  ── locks ──────────────────────▶ worker     of caches, a few at a time: they are the command's until it ends
//! build  ── task (text, lock, output) ──▶ worker     a bundle to run; its words go to `output`
//! build  ◀─ ended (status, oom) ────────  worker
//! build  ◀─ failed (status, text) ──────  worker     it could not be run
//! build  ── end of stream ──────────────▶ worker     it is not wanted any more: all of it is ended, and the worker
//! ```
//! The locks that come with a task are held until nothing of its command is left, also if the build is killed.
//!
//! A process with one thread makes containers, and stages of a build are threads. A worker that outlives its build
//! still takes the container, its cgroup and its places in networks away; for the case that it is killed as well there
//! is a note in the state folder, by which the next build does.

use crate::container::compose::add_environment;
use crate::container::connection::{VISITOR, Visitor};
use crate::container::supervisor::{MANNER, status_of};
use crate::layout::{Root, Workshop, mkdir_all};
use crate::runtime::cgroup::{Cgroup, Hierarchies};
use crate::runtime::launch::{self, Company, Streams};
use crate::runtime::plan::{Face, Plan, specification};
use crate::runtime::seccomp::Filter;
use crate::sys::file::{Lock, Ownership, in_memory, read_all_limited};
use crate::sys::mount::{self, Attributes, Overlay, Propagation};
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Child};
use crate::sys::socket::{MAX_MESSAGE, Socket};
use anyhow::{Context, Result, bail};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The name that this program runs under as a worker.
pub const NAME: &str = "minirun-build";

/// What messages to a worker begin with.
const TASK: u8 = b'T';
const LOCKS: u8 = b'L';
/// Locks in one message.
const LOCKS_AT_ONCE: usize = 4;

/// The largest task in bytes.
const LIMIT: u64 = 64 << 20;

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// To run a command.
    Run(Box<Task>),
    /// To delete what was discarded in the store at this place, and then to end.
    Clean { root: PathBuf, state: PathBuf },
}

/// A command to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The container's name.
    pub id: String,
    /// The folder with its `config.json`.
    pub bundle: PathBuf,
    /// The store.
    pub root: PathBuf,
    /// Where notes are.
    pub state: PathBuf,
    /// Its place in networks.
    pub network: Option<Visitor>,
    /// Variables that no disk may see, beside those in its bundle.
    pub env: Vec<String>,
    /// What is mounted before, where only the container and the worker see it.
    pub prepared: Vec<Prepared>,
}

/// A mount that must be there before the container's own can be made of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Prepared {
    /// Trees of stages and images, with a writable layer that is thrown away if one is wanted.
    Overlay {
        /// The lowest first.
        lower: Vec<PathBuf>,
        /// Upper and work directory.
        writable: Option<(PathBuf, PathBuf)>,
        /// An empty folder.
        at: PathBuf,
    },
    /// Files that are never written to a disk.
    Memory {
        /// An empty folder.
        at: PathBuf,
        /// What is in it.
        files: Vec<MemoryFile>,
    },
}

/// A file of [`Prepared::Memory`].
#[derive(Debug, Serialize, Deserialize)]
pub struct MemoryFile {
    /// One component.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As a shell would see it.
    pub status: i32,
    /// Whether the memory limit ended something in it.
    pub out_of_memory: bool,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ended(Ended),
    Failed(i32, String),
}

/// A command that could not be run.
#[derive(Debug)]
pub struct NotRun {
    /// The exit status of `run` in this case.
    pub status: i32,
    /// Why.
    pub text: String,
}

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NotRun {}

/// The workers of one build.
#[derive(Debug)]
pub struct Workers {
    root: Root,
    idle: Mutex<Vec<(Socket, Child)>>,
}

/// A task that is being carried out.
pub struct Running {
    socket: Socket,
    child: Child,
    /// What the command writes.
    pub output: OwnedFd,
    is_last: bool,
}

impl Workers {
    /// None yet. Takes away what killed builds have left.
    pub fn new(root: &Root) -> Workers {
        clean_up_after_others(root);
        Workers { root: root.clone(), idle: Mutex::new(Vec::new()) }
    }

    /// Starts a worker that then is there when it is needed.
    pub fn prepare(&self) -> Result<()> {
        let mut idle = self.idle();
        let worker = spawn(&self.root)?;
        idle.push(worker);
        Ok(())
    }

    /// An idle worker, or a new one that nobody else can get. The list stays locked meanwhile, so that one worker is
    /// started at a time: what one is given must not reach another.
    fn take(&self) -> Result<(Socket, Child)> {
        let mut idle = self.idle();
        match idle.pop() {
            Some(worker) => Ok(worker),
            None => spawn(&self.root),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Socket, Child)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a task to a worker, with the locks of its caches.
    pub fn start<'l>(
        &self,
        task: Task,
        workshop: &Workshop,
        caches: impl Iterator<Item = &'l Lock>,
    ) -> Result<Running> {
        let (socket, child) = self.take()?;
        let caches: Vec<_> = caches.map(AsFd::as_fd).collect();
        for locks in caches.chunks(LOCKS_AT_ONCE) {
            socket.send_with(&[IoSlice::new(&[LOCKS])], locks).context("give the worker the locks of caches")?;
        }
        let is_last = !task.prepared.is_empty();
        let text = in_memory(&serde_json::to_vec(&Order::Run(Box::new(task))).context("write the worker's task")?)?;
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (output, theirs) = pipe.context("make a pipe")?;
        let fds = [text.as_fd(), workshop.lock().as_fd(), theirs.as_fd()];
        socket.send_with(&[IoSlice::new(&[TASK])], &fds).context("give the worker its task")?;
        Ok(Running { socket, child, output, is_last })
    }

    /// Waits for the end of a task whose output has ended.
    pub fn finish(&self, running: Running) -> Result<Ended> {
        let (message, _) = running.socket.receive_message().context("hear from the worker")?;
        if message.is_empty() {
            bail!("the process that ran the command was killed");
        }
        if running.is_last {
            process::reap(&running.child.pidfd).context("wait for the worker")?;
        } else {
            self.idle().push((running.socket, running.child));
        }
        match serde_json::from_slice(&message).context("understand the worker")? {
            Answer::Ended(ended) => Ok(ended),
            Answer::Failed(status, text) => Err(NotRun { status, text }.into()),
        }
    }
}

fn spawn(root: &Root) -> Result<(Socket, Child)> {
    let (ours, theirs) = Socket::pair().context("make a socket pair")?;
    let child = process::spawn_self(NAME, &theirs, root.path().as_os_str(), main).context("start a worker")?;
    Ok((ours, child))
}

impl Running {
    /// Ends the command, and waits until nothing of it is left.
    pub fn abandon(self) {
        let Running { socket, child, output, .. } = self;
        drop((socket, output));
        // A worker that cannot be waited for is gone.
        let _ = process::reap(&child.pidfd);
    }
}

/// Deletes what was discarded, without anybody having to wait for it.
pub fn clean_later(root: &Root) -> Result<()> {
    if !root.has_trash() {
        return Ok(());
    }
    let (ours, _) = spawn(root)?;
    let order = Order::Clean { root: root.path().to_owned(), state: root.state().to_owned() };
    let text = in_memory(&serde_json::to_vec(&order).context("write the worker's task")?)?;
    ours.send_with(&[IoSlice::new(&[TASK])], &[text.as_fd()]).context("give the worker its task")
}

/// The worker process, with its end of the connection to the build; returns its exit status.
pub fn main(build: OwnedFd) -> i32 {
    process::set_name(c"minirun-build");
    // There is nobody to tell: the build hears of failures over its connection.
    i32::from(serve(&Socket::from(build)).is_err())
}

fn serve(socket: &Socket) -> Result<()> {
    rustix::process::setsid().map_err(io::Error::from).context("start a session")?;
    while let Some((order, mut fds)) = receive(socket)? {
        let task = match order {
            Order::Run(task) => task,
            Order::Clean { root, state } => {
                Root::open(&root, &state)?.empty_trash();
                return Ok(());
            }
        };
        let output = fds.pop().context("a task without its output")?;
        let answer = match carry_out(&task, output, socket) {
            Ok(Some(ended)) => Answer::Ended(ended),
            Ok(None) => return Ok(()),
            Err(error) => {
                let mut text = format!("{error:#}");
                text.truncate(text.floor_char_boundary(MAX_MESSAGE / 8));
                Answer::Failed(status_of(&error), text)
            }
        };
        drop(fds);
        socket.send(&serde_json::to_vec(&answer)?).context("answer the build")?;
        // Mounts of one task are none of another's.
        if !task.prepared.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The next order, with what it needs: locks, and last the output. `None` if there are no more.
fn receive(socket: &Socket) -> Result<Option<(Order, Vec<OwnedFd>)>> {
    let mut locks = Vec::new();
    let mut kind = [0];
    loop {
        let (length, fds) = socket.receive(&mut kind).context("wait for a task")?;
        match kind {
            _ if length == 0 => return Ok(None),
            [LOCKS] => locks.extend(fds),
            _ => {
                let mut fds = fds.into_iter();
                let mut text = File::from(fds.next().context("a task without its text")?);
                let text = read_all_limited(&mut text, LIMIT).context("read the task")?;
                locks.extend(fds);
                return Ok(Some((serde_json::from_slice(&text).context("understand the task")?, locks)));
            }
        }
    }
}

/// Runs a container to its end; `None` if nobody wants to know any more.
fn carry_out(task: &Task, output: OwnedFd, socket: &Socket) -> Result<Option<Ended>> {
    prepare(&task.prepared)?;
    let mut spec = specification(&task.bundle)?;
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        add_environment(&mut env, &task.env);
        process.set_env(Some(env));
    }
    let face = Face { id: &task.id, hierarchies: Hierarchies::Needed, may_lack_cgroup: Some(false), manner: MANNER };
    let plan = Plan::resolve(&mut spec, &task.bundle, &face)?;
    let note = Note::leave(&task.state, &task.id, spec.linux().as_ref().and_then(|l| l.cgroups_path().clone()))?;
    let root = Root::open(&task.root, &task.state)?;
    let result = run(&plan, output, socket, |pid| match &task.network {
        Some(visitor) => visitor.connect(&root, pid),
        None => Ok(Vec::new()),
    });
    let cleaned = plan.cgroup.kill_all().and_then(|()| plan.cgroup.remove());
    let released = task.network.as_ref().map_or(Ok(()), |_| Visitor::release(&root, &task.id));
    drop(note);
    let ended = result?;
    cleaned.context("remove the command's cgroup")?;
    released?;
    Ok(ended)
}

/// `connect` gives the first process its networks, and then what the user should know about them.
fn run(
    plan: &Plan,
    output: OwnedFd,
    socket: &Socket,
    connect: impl Fn(i32) -> Result<Vec<String>>,
) -> Result<Option<Ended>> {
    let mut to_user = File::from(output.try_clone().context("open the output once more")?);
    let mut beside = |pid, _: Option<&Filter>| {
        let warnings = connect(pid)?;
        // If nobody listens any more, nobody needs to know.
        warnings.iter().for_each(|text| drop(writeln!(to_user, "WARNING: {text}")));
        Ok(())
    };
    let streams = Streams {
        stdin: File::open("/dev/null").context("open /dev/null")?.into(),
        stderr: output.try_clone().context("open the output twice")?,
        stdout: output,
    };
    let (streams, beside) = (Some(streams), Some(&mut beside as &mut launch::Beside<'_>));
    let created = launch::create(plan, Company { streams, beside, at_once: true, ..Company::default() })?;
    drop(to_user);
    created.start()?;
    let pidfd = &created.child.pidfd;
    loop {
        let interest =
            [(pidfd.as_fd(), true), (socket.as_fd(), true)].map(|(fd, read)| Interest { fd, read, write: false });
        let ready = poll::wait(&interest, None).context("wait for the command")?;
        if ready[0].read {
            let exit = process::reap(pidfd).context("wait for the command")?;
            let out_of_memory = plan.cgroup.oom_kills() > 0;
            return Ok(Some(Ended { status: exit.status(), out_of_memory }));
        }
        if ready[1].read {
            created.abandon();
            return Ok(None);
        }
    }
}

fn prepare(mounts: &[Prepared]) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    process::unshare(libc::CLONE_NEWNS).context("make a mount namespace")?;
    mount::set_propagation(Path::new("/"), Propagation::Slave, true).context("keep mounts to ourselves")?;
    for prepared in mounts {
        match prepared {
            Prepared::Overlay { lower, writable, at } => {
                let (upper, work) = writable.clone().unzip();
                let overlay = Overlay { lower: lower.clone(), upper, work, volatile: writable.is_some() };
                overlay.attach(at).context("mount the source of a mount")?;
            }
            Prepared::Memory { at, files } => write_in_memory(at, files).context("keep secrets in memory")?,
        }
    }
    Ok(())
}

fn write_in_memory(at: &Path, files: &[MemoryFile]) -> Result<()> {
    let options = ["mode=0700".to_owned(), "noswap".to_owned()];
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC;
    // Kernels before 6.4 do not know how to keep it out of the swap.
    let tree = mount::new_file_system("tmpfs", "tmpfs", &options, attributes)
        .or_else(|_| mount::new_file_system("tmpfs", "tmpfs", &options[..1], attributes))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(at, flags, Mode::empty()).map_err(io::Error::from)?;
    mount::attach(&tree, &target)?;
    for MemoryFile { name, content, mode, owner } in files {
        let mut file = File::create_new(at.join(name))?;
        file.write_all(content)?;
        let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(user), Some(group)).map_err(io::Error::from)?;
        file.set_permissions(PermissionsExt::from_mode(*mode))?;
    }
    Ok(())
}

/// Says which cgroup there is, for those who clean up after us. It goes when we are done.
struct Note {
    path: PathBuf,
    _owned: Ownership,
}

impl Note {
    fn leave(state: &Path, id: &str, cgroup: Option<PathBuf>) -> Result<Note> {
        mkdir_all(state)?;
        let path = state.join(id);
        let owned = Ownership::take(&path).context("leave a note")?.context("another build has this number")?;
        let cgroup = cgroup.unwrap_or_default();
        std::fs::write(&path, cgroup.as_os_str().as_encoded_bytes()).context("leave a note")?;
        Ok(Note { path, _owned: owned })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes away the cgroups of workers that were killed, and gives back their places in networks; their containers died
/// with them.
fn clean_up_after_others(root: &Root) {
    for entry in std::fs::read_dir(root.state()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().filter(|name| name.starts_with(VISITOR)) else { continue };
        if !matches!(Ownership::is_taken(&entry.path()), Ok(false)) {
            continue;
        }
        let cgroup = std::fs::read_to_string(entry.path()).unwrap_or_default();
        // An empty one was left before there was anything.
        let gone = cgroup.is_empty()
            || Cgroup::at(Path::new(&cgroup)).and_then(|c| c.kill_all().and_then(|()| c.remove())).is_ok();
        if gone && Visitor::release(root, id).is_ok() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
