//! The mounts of a `RUN`: what is prepared for them, and what the container's own mounts are then.

use super::agent::Forward;
use super::cache_mounts::{self, Held};
use super::dockerfile::{Mount, MountKind};
use super::key::Key;
use super::sandbox::{Below, Sandbox, resolve};
use super::session::Session;
use super::worker::{MemoryFile, Prepared};
use crate::container::options::{MountSource, Tuning};
use crate::container::record::MountPoint;
use crate::image::union::Union;
use crate::sys::dir::{Dir, file_type};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// What a build was given that is not to be found in its images.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// By their ids.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// Sockets of ssh agents, by their ids.
    pub agents: BTreeMap<String, PathBuf>,
}

/// Where a bind mount's source is.
pub enum Origin {
    /// A folder of the host: the context.
    Folder(PathBuf),
    /// A stage or an image.
    Tree(Below),
}

/// A mount whose origin is known.
pub struct Wanted {
    /// What the Dockerfile says, expanded.
    pub mount: Mount,
    /// Absolute.
    pub target: String,
    /// Of a bind mount, and of a cache that begins with something.
    pub origin: Option<Origin>,
    /// What the source's content is known by.
    pub content: Option<String>,
}

/// What comes of the mounts of one command.
#[derive(Default)]
pub struct Mounts {
    /// For the container.
    pub points: Vec<MountPoint>,
    /// For the worker.
    pub prepared: Vec<Prepared>,
    /// Variables that come with them, for the worker alone: there may be secrets in them.
    pub env: Vec<String>,
    /// Caches that are ours meanwhile, by their ids.
    pub held: BTreeMap<String, Held>,
    /// Ways to ssh agents that are open meanwhile.
    pub agents: Vec<Forward>,
    /// Sources that are no folders, but that the worker has yet to make.
    pub files: Vec<PathBuf>,
}

/// What of its origin a mount shows.
pub fn source(mount: &Mount) -> &str {
    mount.source.as_deref().unwrap_or("/")
}

/// Where a mount without a target is.
pub fn default_target(mount: &Mount, agents: usize) -> String {
    match mount.kind {
        MountKind::Secret => {
            let id = mount.id.as_deref().or(mount.source.as_deref()).unwrap_or_default();
            format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(id))
        }
        MountKind::Ssh => format!("/run/buildkit/ssh_agent.{agents}"),
        _ => "/".into(),
    }
}

/// What a mount adds to the key of its command: never what is in a secret or in a cache.
pub fn add_to_key(key: &mut Key, wanted: &Wanted) {
    let Wanted { mount, target, content, .. } = wanted;
    key.part("mount", format!("{:?}", mount.kind));
    key.part("target", target);
    let texts = [&mount.id, &mount.source, &mount.env, content];
    key.list("texts", texts.map(|text| text.as_deref().map_or_else(|| "-".into(), |text| format!("+{text}"))));
    let numbers = [mount.mode, mount.uid, mount.gid].map(|n| format!("{n:?}"));
    key.list("numbers", numbers);
    key.part("access", if mount.read_only { "ro" } else { "rw" });
    key.part("size", format!("{:?}", mount.size));
}

impl Mounts {
    /// Makes everything ready that can be made ready here; `anew` is for builds that use nothing of earlier ones.
    pub fn make(session: &Session<'_>, sandbox: &Sandbox, wanted: Vec<Wanted>, anew: bool) -> Result<Mounts> {
        let secrets = &session.wishes.secrets;
        let mut mounts = Mounts { held: hold_caches(session, &wanted, anew)?, ..Mounts::default() };
        let mut files = Vec::new();
        for (number, wanted) in wanted.into_iter().enumerate() {
            let target = wanted.target.clone();
            let what = || format!("mount {target}");
            match wanted.mount.kind {
                MountKind::Bind => mounts.bind(sandbox, number, wanted),
                MountKind::Cache => mounts.cache(&wanted),
                MountKind::Tmpfs => {
                    let source =
                        MountSource::Tmpfs { size: wanted.mount.size, mode: None, options: vec!["exec".into()] };
                    mounts.point(source, &wanted.target, false);
                    Ok(())
                }
                MountKind::Secret => mounts.secret(sandbox, wanted, secrets, &mut files),
                MountKind::Ssh => mounts.agent(sandbox, number, &wanted, secrets),
            }
            .with_context(what)?;
        }
        if !files.is_empty() {
            let at = sandbox.folder("secrets")?;
            mounts.prepared.push(Prepared::Memory { at, files });
        }
        Ok(mounts)
    }

    fn point(&mut self, source: MountSource, target: &str, read_only: bool) {
        let target = target.to_owned();
        let tuning = Tuning::default();
        self.points.push(MountPoint { source, anonymous: false, target, read_only, propagation: None, tuning });
    }

    fn bind_path(&mut self, path: &Path, target: &str, read_only: bool) -> Result<()> {
        let path = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?.to_owned();
        self.point(MountSource::Bind { path, create: false }, target, read_only);
        Ok(())
    }

    fn bind(&mut self, sandbox: &Sandbox, number: usize, wanted: Wanted) -> Result<()> {
        let source = Path::new(source(&wanted.mount));
        let read_only = wanted.mount.read_only;
        let origin = wanted.origin.context("it has no source")?;
        let (lower, inside, is_file) = match origin {
            Origin::Folder(folder) => {
                let place = inside(&folder, source)?;
                if read_only {
                    return self.bind_path(&place, &wanted.target, true);
                }
                // Only folders can have a layer above them: a file is taken from under that of its folder.
                match (place.is_dir(), place.parent(), place.file_name()) {
                    (false, Some(parent), Some(name)) => (vec![parent.to_owned()], PathBuf::from(name), true),
                    _ => (vec![place], PathBuf::new(), false),
                }
            }
            Origin::Tree(below) => {
                let (inside, is_file) = in_tree(&below.union, source)?;
                (below.dirs, inside, is_file)
            }
        };
        let at = sandbox.folder(&format!("mount-{number}"))?;
        let writable = match read_only {
            true => None,
            false => Some((upper(sandbox, number, &lower)?, sandbox.folder(&format!("work-{number}"))?)),
        };
        // An overlay without an upper directory wants two lower ones.
        let lower = match (lower.len(), read_only) {
            (0 | 1, true) => [vec![sandbox.folder(&format!("empty-{number}"))?], lower].concat(),
            _ => lower,
        };
        self.prepared.push(Prepared::Overlay { lower, writable, at: at.clone() });
        let place = at.join(inside);
        self.files.extend(is_file.then(|| place.clone()));
        self.bind_path(&place, &wanted.target, read_only)
    }

    fn cache(&mut self, wanted: &Wanted) -> Result<()> {
        let held = self.held.get(cache_id(wanted)).context("the cache is not ours")?;
        let data = held.data.clone();
        self.bind_path(&data, &wanted.target, wanted.mount.read_only)
    }

    fn secret(
        &mut self,
        sandbox: &Sandbox,
        wanted: Wanted,
        secrets: &Secrets,
        files: &mut Vec<MemoryFile>,
    ) -> Result<()> {
        let mount = &wanted.mount;
        let id = mount.id.as_deref().or(mount.source.as_deref()).context("a secret needs an id or a target")?;
        let Some(content) = secrets.contents.get(id) else {
            return match mount.required {
                true => Err(anyhow!("secret {id}: not found; give it with --secret id={id},src=FILE")),
                false => Ok(()),
            };
        };
        if let Some(name) = &mount.env {
            let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'));
            let text = text.with_context(|| format!("the secret {id} is no text, so it cannot be a variable"))?;
            self.env.push(format!("{name}={text}"));
            // A file as well only where one is asked for.
            if mount.target.is_empty() {
                return Ok(());
            }
        }
        let name = files.len().to_string();
        let place = sandbox.path().join("secrets").join(&name);
        self.files.push(place.clone());
        files.push(MemoryFile {
            name,
            content: content.clone(),
            mode: mount.mode.unwrap_or(0o400),
            owner: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
        });
        self.bind_path(&place, &wanted.target, true)
    }

    fn agent(&mut self, sandbox: &Sandbox, number: usize, wanted: &Wanted, secrets: &Secrets) -> Result<()> {
        let mount = &wanted.mount;
        let id = mount.id.as_deref().unwrap_or("default");
        let Some(agent) = secrets.agents.get(id) else {
            return match mount.required {
                true => Err(anyhow!("unset ssh forward key {id}: give the socket of an agent with --ssh {id}=SOCKET")),
                false => Ok(()),
            };
        };
        if !self.env.iter().any(|e| e.starts_with("SSH_AUTH_SOCK=")) {
            self.env.push(format!("SSH_AUTH_SOCK={}", wanted.target));
        }
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let (name, mode) = (format!("agent-{number}"), mount.mode.unwrap_or(0o600));
        let forward = Forward::start(sandbox.path(), &name, owner, mode, agent)?;
        self.bind_path(&forward.path, &wanted.target, false)?;
        self.agents.push(forward);
        Ok(())
    }
}

fn cache_id(wanted: &Wanted) -> &str {
    wanted.mount.id.as_deref().unwrap_or(&wanted.target)
}

/// Takes all caches of a command: each once, however often it is mounted, and in an order that all commands keep to, so
/// that no two wait for each other.
fn hold_caches(session: &Session<'_>, wanted: &[Wanted], anew: bool) -> Result<BTreeMap<String, Held>> {
    let mut caches: BTreeMap<&str, &Wanted> = BTreeMap::new();
    for wanted in wanted.iter().filter(|wanted| wanted.mount.kind == MountKind::Cache) {
        caches.entry(cache_id(wanted)).or_insert(wanted);
    }
    let emptied = anew.then_some(&session.emptied);
    let hold = |(id, wanted): (&str, &Wanted)| {
        let fill = |data: &Path| fill_cache(wanted, data);
        let held = cache_mounts::hold(session.root, id, wanted.mount.sharing, emptied, &fill, &|| session.go_on());
        Ok((id.to_owned(), held.with_context(|| format!("mount {}", wanted.target))?))
    };
    caches.into_iter().map(hold).collect()
}

/// What a new cache begins with.
fn fill_cache(Wanted { mount, origin, .. }: &Wanted, data: &Path) -> Result<()> {
    let source = Path::new(source(mount));
    match origin {
        Some(Origin::Tree(below)) => below.union.copy_tree(source, &Dir::open(data)?),
        Some(Origin::Folder(_)) => bail!("a cache cannot begin with files of a build context"),
        None => {
            chown(data, Some(mount.uid.unwrap_or(0)), Some(mount.gid.unwrap_or(0)))?;
            Ok(std::fs::set_permissions(data, PermissionsExt::from_mode(mount.mode.unwrap_or(0o755)))?)
        }
    }
}

/// The upper directory of a mount, with the owner and mode of what it hides.
fn upper(sandbox: &Sandbox, number: usize, lower: &[PathBuf]) -> Result<PathBuf> {
    let path = sandbox.folder(&format!("upper-{number}"))?;
    if let Some(hidden) = lower.last() {
        let stat = Dir::open(hidden).and_then(|dir| dir.stat_self()).context("look at the source")?;
        chown(&path, Some(stat.st_uid), Some(stat.st_gid)).context("set the owner of the mount")?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(stat.st_mode)).context("set its mode")?;
    }
    Ok(path)
}

/// A path in a folder of the host, with links resolved as if the folder were the root.
fn inside(folder: &Path, source: &Path) -> Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let what = || format!("find {} in the build context", source.display());
    let dir = Dir::open(folder).with_context(what)?;
    let found = dir.open_in_root(source, OFlags::PATH, Mode::empty()).with_context(what)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).with_context(what)
}

/// The same in a tree that is not mounted yet.
fn in_tree(union: &Union, source: &Path) -> Result<(PathBuf, bool)> {
    let path = resolve(union, source).with_context(|| format!("find {}", source.display()))?;
    match union.stat(&path) {
        Ok(Some(stat)) => {
            let is_file = file_type(&stat) != FileType::Directory;
            Ok((path.strip_prefix("/").unwrap_or(&path).to_owned(), is_file))
        }
        _ => bail!("{}: there is no such file or folder", source.display()),
    }
}
