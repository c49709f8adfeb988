//! Starting a container: its bundle composed anew, its supervisor forked.

use super::compose::{self, World};
use super::connection::{HOST_GATEWAY, extra_hosts};
use super::containers::{Container, Containers};
use super::device_requests;
use super::options::NetworkMode;
use super::protocol::Event;
use super::record::Record;
use super::seccomp_profile;
use super::sharing;
use super::state::Status;
use super::supervisor;
use super::task::Waiting;
use super::users::Database;
use super::volumes;
use crate::image::Store;
use crate::image::union::Union;
use crate::layout::mkdir_all;
use crate::network::resolver;
use crate::runtime::handshake::{Failure, Stage};
use crate::sys::dir::{Dir, file_type};
use crate::sys::file::Ownership;
use crate::sys::signal;
use crate::sys::socket::Socket;
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a client starts a container.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Start {
    /// He hears its output.
    pub attached: bool,
    /// His input is its input.
    pub feeds: bool,
    /// Rows and columns of its terminal.
    pub terminal_size: Option<(u16, u16)>,
}

/// Starts a container and returns the connection to its supervisor, with no event read from it yet.
///
/// `program` is the path of this program's file.
///
/// # Errors
/// A container that is up already; what compose refuses. What goes wrong later is an event.
pub fn start(container: &Container, how: Start, program: &Path, supervisor: Waiting) -> Result<Socket> {
    container.snapshot()?;
    let ownership = take_when_free(container)?;
    mkdir_all(&container.bundle())?;
    compose_bundle(container, program).inspect_err(|_| container.forget_running())?;
    let (root, state) = (container.root.path().to_owned(), container.root.state().to_owned());
    let task = supervisor::Task { root, state, id: container.record.id.clone(), start: how };
    if how.attached {
        container.tell("attach", &[]);
    }
    supervisor.give(&task, &[ownership.as_fd()])
}

/// Somebody else has started the container; who only wants it up is content.
#[derive(Debug)]
pub struct AlreadyRunning(pub String);

impl std::fmt::Display for AlreadyRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "container {} is already running", self.0)
    }
}

impl std::error::Error for AlreadyRunning {}

/// Takes the container's lock. Somebody who copies files into it has it for a while.
///
/// # Errors
/// [`AlreadyRunning`] when it is up.
pub(super) fn take_when_free(container: &Container) -> Result<Ownership> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(ownership) = Ownership::take(&container.lock_path()).context("take the container's lock")? {
            return Ok(ownership);
        }
        if container.snapshot()?.status.is_up() {
            return Err(AlreadyRunning(container.record.name.clone()).into());
        }
        if Instant::now() > deadline {
            bail!("container {} is in use by another command", container.record.name);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the program runs, and returns what the user should know.
///
/// # Errors
/// Why it does not, as a [`Failure`] with the exit status of `run`.
pub fn wait_until_started(supervisor: &Socket) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    loop {
        let (message, _) = supervisor.receive_message().context("hear from the supervisor")?;
        match Event::decode(&message) {
            Some(Event::Started | Event::Exited(_)) => return Ok(warnings),
            Some(Event::Failed(status, text)) => return Err(failure(status, text)),
            Some(Event::Warning(text)) => warnings.push(text.to_owned()),
            _ if message.is_empty() => bail!("the container's supervisor died"),
            _ => {}
        }
    }
}

/// A failure that has already crossed one process border.
pub fn failure(status: i32, text: &str) -> anyhow::Error {
    let (stage, errno) = match status {
        127 => (Stage::Exec, Some(libc::ENOENT)),
        126 => (Stage::Exec, None),
        _ => (Stage::Isolation, None),
    };
    anyhow!(Failure { stage, errno, text: text.to_owned() })
}

/// Signal and seconds of patience for stopping: the user's, the image's, Docker's.
pub fn stop_settings(record: &Record) -> (i32, i64) {
    let config = record.config();
    let of_image = config.stop_signal.as_deref().and_then(signal::number);
    let signal = record.options.stop_signal.or(of_image).unwrap_or(libc::SIGTERM);
    (signal, record.options.stop_timeout.or(config.stop_timeout).unwrap_or(10))
}

fn compose_bundle(container: &Container, program: &Path) -> Result<()> {
    let record = &container.record;
    let store = Store::open(&container.root);
    let mut layers = vec![container.root.join("stubs")];
    layers.extend(store.dirs_of(container.layers())?);
    let identity = passwd(container, &store)?.resolve(&user_of(record), &record.options.group_add)?;
    let world = World {
        layers,
        directory: container.dir(),
        bundle: container.bundle(),
        network_files: network_files(container)?,
        mount_point: container.root.join("rootfs"),
        sources: volumes::prepare(&container.root, &record.mounts, &identity)?,
        identity,
        program: program.to_owned(),
        kernel: seccomp_profile::running_kernel(),
        devices: if record.options.privileged { host_devices()? } else { Vec::new() },
        granted: device_requests::find(&record.options)?,
        joined: sharing::find(container)?,
    };
    let spec = compose::compose(record, &world)?;
    write_network_files(record, &container.bundle())?;
    let json = serde_json::to_vec(&spec).context("write the bundle's config.json")?;
    write_new(&container.bundle().join("config.json"), &json, 0o600)?;
    reset_work_directory(container)
}

/// The user's choice or the image's.
pub fn user_of(record: &Record) -> String {
    record.options.user.clone().unwrap_or(record.config().user)
}

/// Users as the container will see them: its own changes over the image.
fn passwd(container: &Container, store: &Store) -> Result<Database> {
    let mut dirs = vec![Dir::open(container.upper()).context("open the container's layer")?];
    dirs.extend(store.open_layers(container.layers())?);
    let union = Union::new(dirs);
    Database::read(|path| union.open_file(Path::new(path)))
}

/// A container that was mounted without syncing leaves a mark that forbids mounting again; its layer is ours to judge.
pub(super) fn reset_work_directory(container: &Container) -> Result<()> {
    let dir = Dir::open(container.dir()).context("open the container's folder")?;
    let left = match dir.child("work").and_then(|w| w.names()) {
        // A start that was killed just here.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.context("look at the work directory")?),
    };
    if left.is_some_and(|names| names.is_empty()) {
        return Ok(());
    }
    dir.remove_tree("work").context("empty the work directory")?;
    dir.mkdir("work", 0o700).context("make the work directory")
}

/// Where the files about its network are.
fn network_files(container: &Container) -> Result<PathBuf> {
    let NetworkMode::Container(id) = &container.record.options.network else { return Ok(container.bundle()) };
    let owner = Containers::open(&container.root).find(id)?;
    if owner.snapshot()?.init().is_none() {
        bail!("cannot join network of a non running container: {id}");
    }
    Ok(owner.bundle())
}

/// What other containers are called is added when it is connected.
pub fn write_network_files(record: &Record, bundle: &Path) -> Result<()> {
    let shares_network = record.options.network == NetworkMode::Host;
    let mut hosts = if shares_network {
        std::fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned()
    };
    for (name, address) in extra_hosts(record) {
        match address {
            HOST_GATEWAY if shares_network => hosts.push_str(&format!("127.0.0.1\t{name}\n")),
            HOST_GATEWAY => {}
            address => hosts.push_str(&format!("{address}\t{name}\n")),
        }
    }
    let resolver = resolver::file(&resolver::host_file(), &record.options.resolver, shares_network);
    let files = [("hosts", hosts), ("hostname", record.hostname() + "\n"), ("resolv.conf", resolver)];
    for (name, text) in files {
        write_new(&bundle.join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// The folder is ours alone for this start: nobody reads a file in it before it is whole.
pub(crate) fn write_new(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(data)?;
        file.set_permissions(PermissionsExt::from_mode(mode))
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Every device node of the host, for a container that may use them all.
fn host_devices() -> Result<Vec<LinuxDevice>> {
    let mut found = Vec::new();
    collect_devices(&Dir::open("/dev").context("open /dev")?, Path::new("/dev"), &mut found)?;
    Ok(found)
}

fn collect_devices(dir: &Dir, path: &Path, found: &mut Vec<LinuxDevice>) -> Result<()> {
    let device_id = dir.stat_self().context("look at /dev")?.st_dev;
    for name in dir.names().with_context(|| format!("list {}", path.display()))? {
        let (path, Ok(stat)) = (path.join(&name), dir.stat(&name)) else { continue };
        let kind = match file_type(&stat) {
            FileType::CharacterDevice => LinuxDeviceType::C,
            FileType::BlockDevice => LinuxDeviceType::B,
            FileType::Directory if stat.st_dev == device_id => {
                if let Ok(sub) = dir.child(&name) {
                    collect_devices(&sub, &path, found)?;
                }
                continue;
            }
            _ => continue,
        };
        // The container has a console and terminals of its own.
        if path == Path::new("/dev/console") || path == Path::new("/dev/ptmx") {
            continue;
        }
        let device = LinuxDeviceBuilder::default()
            .path(path)
            .typ(kind)
            .major(rustix::fs::major(stat.st_rdev))
            .minor(rustix::fs::minor(stat.st_rdev))
            .file_mode(stat.st_mode & 0o777)
            .uid(stat.st_uid)
            .gid(stat.st_gid)
            .build()?;
        found.push(device);
    }
    Ok(())
}

/// What a command tells a user about a container that is not running.
pub(super) fn not_running(record: &Record) -> anyhow::Error {
    anyhow!("Container {} is not running", record.id)
}

/// Refuses a container in a state that a command cannot work with.
pub(super) fn require_running(container: &Container, doing: &str) -> Result<super::state::Snapshot> {
    let snapshot = container.snapshot()?;
    match snapshot.status {
        Status::Running => Ok(snapshot),
        Status::Paused => {
            bail!("Container {} is paused, unpause the container before {doing}", container.record.name)
        }
        Status::Restarting => {
            bail!("Container {} is restarting, wait until the container is running", container.record.id)
        }
        _ => Err(not_running(&container.record)),
    }
}
