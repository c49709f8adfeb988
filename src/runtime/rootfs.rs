//! The root file system: the child's work between its new mount namespace and pivot_root.
//!
//! Every place in the container is reached from a descriptor of its root, resolved inside it, and mounted on by
//! descriptor: a link that the image or a volume puts in the way can only ever point back into the container.

use super::cgroup::Version;
use super::copy_up;
use super::devices::{self, Maker};
use super::mounts::{MountKind, MountOp};
use super::plan::Plan;
use super::sources::{self, Sources};
use crate::sys::dir::{Dir, file_type};
use crate::sys::mount::{self, Attributes, Propagation};
use crate::sys::procfs::{self, ProcFs};
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The root file system, mounted but not yet entered.
#[derive(Debug)]
pub struct Rootfs {
    /// The container's root.
    pub root: Dir,
    /// What we mounted at `/proc`, whatever its path leads to later.
    pub proc: Option<Dir>,
    /// What we mounted at `/sys`.
    pub sys: Option<Dir>,
    /// What we mounted at `/dev`.
    pub dev: Option<Dir>,
    /// The devpts that we mounted.
    pub devpts: Option<Dir>,
    /// Made read-only when nothing is to be made in them any more.
    late: Vec<OwnedFd>,
}

impl Rootfs {
    /// The folder `/dev`, which no link may stand for: nodes and terminals are not to appear anywhere else.
    pub fn dev(&self) -> Result<Dir> {
        match &self.dev {
            Some(dev) => Ok(dev.try_clone()?),
            None => self.root.dir_without_links("dev").context("open /dev"),
        }
    }

    /// Where a path begins: in what we mounted at its first folder, or else at the root.
    fn base<'a>(&self, path: &'a Path) -> (&Dir, &'a Path) {
        let mounted = [("/proc", &self.proc), ("/sys", &self.sys), ("/dev", &self.dev)];
        let found = mounted.into_iter().find_map(|(top, dir)| Some((dir.as_ref()?, path.strip_prefix(top).ok()?)));
        found.unwrap_or((&self.root, path))
    }
}

/// Mounts everything of the plan, in a mount namespace that is already the container's.
///
/// `opened` holds what the parent had to open.
pub fn assemble(plan: &Plan, opened: Option<Sources>) -> Result<Rootfs> {
    // Shared mounts of the host would carry ours out to it; of unbindable ones no root could be made.
    let host = match plan.root_propagation {
        Propagation::Shared | Propagation::Unbindable => Propagation::Slave,
        other => other,
    };
    // What mounts are to be passed on to or taken over from the host stays with the host's until then.
    let stays = |op: &MountOp| matches!(op.flags.propagation, Some(Propagation::Shared | Propagation::Slave));
    let early = if opened.is_some() { Vec::new() } else { sources::open(&plan.mounts, &stays)? };
    mount::set_propagation(Path::new("/"), host, true).context("make the host's mounts private")?;
    let mut sources = opened.map_or_else(|| sources::open(&plan.mounts, &|op| !stays(op)), Ok)?;
    for (source, early) in sources.iter_mut().zip(early).filter(|(_, early)| early.is_some()) {
        *source = early;
    }
    let root = mount_root(plan)?;
    let mut rootfs = Rootfs { root, proc: None, sys: None, dev: None, devpts: None, late: Vec::new() };
    for (op, source) in plan.mounts.iter().zip(sources) {
        match op.kind {
            MountKind::Overlay(_) => Ok(()),
            MountKind::Cgroup => place_cgroup(&rootfs, plan, op),
            _ => place(&mut rootfs, op, source),
        }
        .with_context(|| format!("mount {}", describe(op)))?;
    }
    furnish_dev(plan, &rootfs)?;
    // While /proc/sys is still what it is.
    set_sysctls(plan, &rootfs)?;
    protect(plan, &rootfs)?;
    Ok(rootfs)
}

/// Makes the container's root the root, for good.
pub fn enter(plan: &Plan, rootfs: &Rootfs) -> Result<()> {
    let (none, ro) = (Attributes::empty(), Attributes::MOUNT_ATTR_RDONLY);
    for tree in &rootfs.late {
        mount::set_attributes(tree, ro, none, None, false).context("make a mount read-only")?;
    }
    if plan.read_only_root {
        mount::set_attributes(&rootfs.root, ro, none, None, false).context("make the root read-only")?;
    }
    if plan.manner.no_pivot {
        // They would stay reachable below the new root, and let new ones be mounted that show everything.
        let place = plan.rootfs.canonicalize().with_context(|| format!("find {}", plan.rootfs.display()))?;
        mount::detach_kernel_views(&place).context("take the host's /proc and /sys away")?;
        mount::move_into(&rootfs.root).context("move the root")?;
    } else {
        mount::pivot_into(&rootfs.root).context("pivot_root")?;
    }
    if let Propagation::Shared | Propagation::Unbindable = plan.root_propagation {
        mount::set_propagation(Path::new("/"), plan.root_propagation, false).context("set the root's propagation")?;
    }
    Ok(())
}

/// Default devices and those asked for, unless `/dev` is somebody else's.
fn furnish_dev(plan: &Plan, rootfs: &Rootfs) -> Result<()> {
    let at_dev = plan.mounts.iter().rfind(|op| op.destination == Path::new("/dev"));
    if at_dev.is_some_and(|op| matches!(op.kind, MountKind::Bind { .. })) {
        return Ok(());
    }
    // Where the kernel lets us make no nodes that work, those of the host are shown.
    let maker = if plan.namespaces.has(libc::CLONE_NEWUSER) { Maker::Bind } else { Maker::Node };
    rootfs.root.mkdir_all_in_root("dev", 0o755).context("make /dev")?;
    devices::make_defaults(&rootfs.dev()?, &plan.devices, maker)?;
    // The multiplexer is the container's own, whatever is asked for.
    let mut asked = plan.devices.iter().filter(|device| device.path != Path::new("/dev/ptmx"));
    asked.try_for_each(|device| {
        let (base, path) = rootfs.base(&device.path);
        devices::make(base, path, device, maker)
    })
}

fn mount_root(plan: &Plan) -> Result<Dir> {
    let overlay = plan.mounts.iter().find_map(|op| match &op.kind {
        MountKind::Overlay(overlay) => Some(overlay),
        _ => None,
    });
    let open = || Dir::open(&plan.rootfs).with_context(|| format!("open {}", plan.rootfs.display()));
    if let Some(overlay) = overlay {
        overlay.attach(&plan.rootfs).context("mount the image's layers")?;
        return open();
    }
    // pivot_root wants a mount; the directory becomes one over itself.
    let target = open()?;
    let tree = mount::copy_tree(&plan.rootfs, true).with_context(|| format!("open {}", plan.rootfs.display()))?;
    mount::attach(&tree, &target).context("mount the root file system")?;
    Ok(Dir::from(reopen(&tree)?))
}

fn place(rootfs: &mut Rootfs, op: &MountOp, source: Option<OwnedFd>) -> Result<()> {
    let (tree, is_file) = match (&op.kind, source) {
        (MountKind::Bind { .. }, Some(tree)) => {
            let stat = rustix::fs::fstat(&tree).map_err(io::Error::from)?;
            if op.destination == Path::new("/proc") && !procfs::is_proc(&tree)? {
                bail!("it cannot be mounted because it is not of type proc");
            }
            (tree, file_type(&stat) != FileType::Directory)
        }
        (MountKind::FileSystem { kind, source, options }, _) => {
            let mut attributes = op.flags.set;
            if is_kind(op, "tmpfs") {
                // There may be more to be made in it: mount points, devices.
                attributes.remove(Attributes::MOUNT_ATTR_RDONLY);
            }
            (mount::new_file_system(kind, source, options, attributes)?, false)
        }
        _ => bail!("this cannot be mounted here"),
    };
    let inherits = inherits_mode(op);
    let find = |rootfs: &Rootfs| rootfs.root.dir_in_root(&op.destination);
    let covered = if inherits { find(rootfs).ok().map(|dir| dir.stat_self()).transpose()? } else { None };
    let target = mount_point(rootfs, op, is_file)?;
    let covered_type = file_type(&rustix::fs::fstat(&target).map_err(io::Error::from)?);
    if is_file == (covered_type == FileType::Directory) {
        let (this, that) = if is_file { ("file", "folder") } else { ("folder", "file") };
        bail!(
            "a {this} cannot be mounted on a {that}; check that the path on the host exists and is a {that} (what is \
             missing there is made as a folder)"
        );
    }
    if let (true, MountKind::FileSystem { options, .. }) = (op.copy_up, &op.kind) {
        let from = rootfs.root.dir_in_root(&op.destination)?;
        copy_up::fill(&from, &Dir::from(reopen(&tree)?), options).context("copy what the image has there")?;
    }
    if let Some(stat) = covered {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::fchmod(reopen(&tree)?, mode).map_err(io::Error::from).context("set the folder's mode")?;
    } else if inherits {
        // The next start finds the folder that this one has made, and shall have the same mode.
        let made = reopen(&find(rootfs)?)?;
        rustix::fs::fchmod(made, Mode::from_raw_mode(0o1777))
            .map_err(io::Error::from)
            .context("set the place's mode")?;
    }
    mount::attach(&tree, &target)?;
    // The root of a mount that we hold by descriptor is what we mounted, whatever is at the path later.
    apply_flags(&tree, op)?;
    let held = match op.destination.to_str() {
        _ if is_file => None,
        Some("/proc") => Some(&mut rootfs.proc),
        Some("/sys") => Some(&mut rootfs.sys),
        Some("/dev") => Some(&mut rootfs.dev),
        _ if is_kind(op, "devpts") => Some(&mut rootfs.devpts),
        _ => None,
    };
    if let Some(held) = held {
        *held = Some(Dir::from(reopen(&tree)?));
    }
    if is_kind(op, "tmpfs") && op.flags.set.contains(Attributes::MOUNT_ATTR_RDONLY) {
        rootfs.late.push(tree);
    }
    Ok(())
}

/// Whether a mount has the mode of the folder that it covers: what was private there stays private, unless something else
/// is asked for.
fn inherits_mode(op: &MountOp) -> bool {
    let MountKind::FileSystem { kind, options, .. } = &op.kind else { return false };
    kind == "tmpfs" && !options.iter().any(|o| o.starts_with("mode=")) && !op.copy_up
}

fn is_kind(op: &MountOp, name: &str) -> bool {
    matches!(&op.kind, MountKind::FileSystem { kind, .. } if kind == name)
}

fn reopen(tree: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(tree, c".", flags, Mode::empty()).map_err(io::Error::from)?)
}

/// Kernels refuse some changes on mounts that are not attached yet, so this comes after.
fn apply_flags(tree: &OwnedFd, op: &MountOp) -> Result<()> {
    let f = op.flags;
    let is_new = matches!(op.kind, MountKind::FileSystem { .. });
    let changes = f.set | f.clear;
    if !is_new && !changes.is_empty() {
        mount::set_attributes(tree, f.set, f.clear, None, false).context("set the mount's options")?;
    }
    // The host's mounts are private copies by now, so what is not asked for is private already.
    if f.propagation.is_none_or(|p| p == Propagation::Private)
        && f.set_recursive.is_empty()
        && f.clear_recursive.is_empty()
    {
        return Ok(());
    }
    let propagation = f.propagation.unwrap_or(Propagation::Private);
    mount::set_attributes(tree, f.set_recursive, f.clear_recursive, Some(propagation), true)
        .context("set the recursive mount options")
}

/// Finds or makes the place to mount on, inside the root.
fn mount_point(rootfs: &Rootfs, op: &MountOp, is_file: bool) -> Result<OwnedFd> {
    let (root, destination) = (&rootfs.root, op.destination.as_path());
    let found = find_or_make(root, destination, is_file)?;
    // Behind a link they could be anywhere: what reads and writes there by its well-known path would miss them.
    let is_inside_proc = is_kind(op, "tmpfs") && destination.starts_with("/proc");
    let is_known = ["/proc", "/sys"].iter().any(|p| destination == Path::new(p));
    if is_kind(op, "proc") || is_kind(op, "sysfs") || is_inside_proc || is_known {
        let place = root.dir_without_links(destination);
        let place =
            place.with_context(|| format!("{} must be mounted on ordinary directory", destination.display()))?;
        return reopen(&place);
    }
    if let Some(proc) = &rootfs.proc
        && !destination.starts_with("/proc")
        && rustix::fs::fstat(&found).map_err(io::Error::from)?.st_dev == proc.stat_self()?.st_dev
    {
        bail!("{} is a link to inside /proc", destination.display());
    }
    Ok(found)
}

/// Finds the place at `destination` inside `root`, or makes it and its parents: a folder, or an empty file.
pub fn find_or_make(root: &Dir, destination: &Path, is_file: bool) -> Result<OwnedFd> {
    let open = || root.open_in_root(destination, OFlags::PATH, Mode::empty());
    match open() {
        Ok(found) => return Ok(found),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).context("find the mount point"),
    }
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
        bail!("nothing can be mounted over the root");
    };
    let parent = root.mkdir_all_in_root(parent, 0o755).context("make the mount point's parents")?;
    let made = match (is_file, parent.stat_opt(name)?.map(|s| file_type(&s))) {
        // A dangling link: what it names is made, inside the root.
        (_, Some(FileType::Symlink)) => {
            let target = parent.readlink(name)?;
            let next = if target.as_encoded_bytes().starts_with(b"/") {
                Path::new(&target).to_owned()
            } else {
                destination.parent().unwrap_or(Path::new("/")).join(target)
            };
            return make_behind_link(root, &next, is_file);
        }
        (true, _) => parent.create(name, 0o644).map(drop),
        (false, _) => parent.mkdir(name, 0o755),
    };
    match made {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e).context("make the mount point"),
        _ => {}
    }
    open().context("open the mount point")
}

/// One step only: a chain of dangling links is nobody's honest image.
fn make_behind_link(root: &Dir, path: &Path, is_file: bool) -> Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("the mount point is a link to nowhere");
    };
    let parent = root.mkdir_all_in_root(parent, 0o755).context("make the mount point behind a link")?;
    if is_file { parent.create(name, 0o644).map(drop) } else { parent.mkdir(name, 0o755) }
        .context("make the mount point behind a link")?;
    Ok(parent.open_at(name, OFlags::PATH, 0)?)
}

/// The container's cgroups: on version 2 those of its namespace, on version 1 a small directory with one of each
/// hierarchy.
fn place_cgroup(rootfs: &Rootfs, plan: &Plan, op: &MountOp) -> Result<()> {
    let (none, set) = (Attributes::empty(), op.flags.set | op.flags.set_recursive);
    if plan.cgroup.version() == Version::V2 {
        if plan.namespaces.has(libc::CLONE_NEWUSER) && !plan.namespaces.has(libc::CLONE_NEWCGROUP) {
            // Root of a user namespace may mount none but his own anew; he sees what the host shows.
            let tree = mount::copy_tree(plan.cgroup.mount()?, true).context("open the host's cgroups")?;
            mount::attach(&tree, mount_point(rootfs, op, false)?)?;
            return Ok(mount::set_attributes(&tree, set, none, None, true)?);
        }
        let tree = mount::new_file_system("cgroup2", "cgroup", &[], set)?;
        return Ok(mount::attach(&tree, mount_point(rootfs, op, false)?)?);
    }
    let small = ["mode=755".to_owned(), "size=64k".to_owned()];
    let tree = mount::new_file_system("tmpfs", "cgroup", &small, set.difference(Attributes::MOUNT_ATTR_RDONLY))?;
    mount::attach(&tree, mount_point(rootfs, op, false)?)?;
    let view = Dir::from(reopen(&tree)?);
    for (name, directory) in plan.cgroup.directories() {
        let hierarchy = mount::copy_tree(&directory, false).with_context(|| format!("open {}", directory.display()))?;
        view.mkdir(&name, 0o755)?;
        mount::attach(&hierarchy, view.child(&name)?)?;
    }
    Ok(mount::set_attributes(&tree, set, none, None, true)?)
}

/// Masks and read-only paths, each pinned by a descriptor, its type checked before use.
fn protect(plan: &Plan, rootfs: &Rootfs) -> Result<()> {
    let none = Attributes::empty();
    for path in &plan.read_only {
        let Some(target) = find(rootfs, path)? else { continue };
        // With what is mounted below it, which would show what it hides.
        let tree = mount::copy_with_all_below(&target).with_context(|| format!("protect {}", path.display()))?;
        mount::attach(&tree, &target).with_context(|| format!("protect {}", path.display()))?;
        mount::set_attributes(&tree, Attributes::MOUNT_ATTR_RDONLY, none, None, true)
            .with_context(|| format!("make {} read-only", path.display()))?;
    }
    let null = verified_null()?;
    let mut first_empty: Option<OwnedFd> = None;
    for path in &plan.masked {
        let Some(target) = find(rootfs, path)? else { continue };
        let what = || format!("mask {}", path.display());
        let is_directory = file_type(&rustix::fs::fstat(&target).map_err(io::Error::from)?) == FileType::Directory;
        let tree = match (is_directory, &first_empty) {
            (false, _) => mount::copy_of(&null),
            (true, Some(first)) => mount::copy_of(first),
            (true, None) => {
                let options = ["mode=555".to_owned(), "size=0".to_owned()];
                mount::new_file_system("tmpfs", "tmpfs", &options, Attributes::MOUNT_ATTR_NOSUID)
            }
        };
        let tree = tree.with_context(what)?;
        mount::attach(&tree, &target).with_context(what)?;
        // What covers a file is the host's null device: neither its mode nor its owner may be changed through it.
        mount::set_attributes(&tree, Attributes::MOUNT_ATTR_RDONLY, none, None, false).with_context(what)?;
        if is_directory && first_empty.is_none() {
            first_empty = Some(tree);
        }
    }
    Ok(())
}

/// The host's null device, checked: the container's own could be anything.
fn verified_null() -> Result<OwnedFd> {
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)?;
    let stat = rustix::fs::fstat(&null).map_err(io::Error::from)?;
    if file_type(&stat) != FileType::CharacterDevice || stat.st_rdev != rustix::fs::makedev(1, 3) {
        bail!("the host's /dev/null is not the null device");
    }
    Ok(null)
}

fn find(rootfs: &Rootfs, path: &Path) -> Result<Option<OwnedFd>> {
    let (base, below) = rootfs.base(path);
    match base.open_in_root(below, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(fd) if file_type(&rustix::fs::fstat(&fd).map_err(io::Error::from)?) == FileType::Symlink => {
            // To cover the link would leave open what it leads to.
            bail!("{} is a symbolic link and cannot be protected", path.display())
        }
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("find {}", path.display())),
    }
}

/// Makes the working directory if the image has none there, as Docker does.
pub fn make_directory(rootfs: &Rootfs, path: &Path) -> Result<()> {
    rootfs.root.mkdir_all_in_root(path, 0o755).map(drop).with_context(|| format!("make {}", path.display()))
}

/// Writes the kernel settings through our own procfs.
fn set_sysctls(plan: &Plan, rootfs: &Rootfs) -> Result<()> {
    for (path, value) in &plan.sysctls {
        let what = || format!("set the sysctl {} to {value:?}", path.display());
        let proc = rootfs.proc.as_ref().with_context(what)?;
        let proc = ProcFs::at(proc.as_fd().try_clone_to_owned().with_context(what)?).with_context(what)?;
        proc.write(Path::new("sys").join(path), value.as_bytes()).with_context(what)?;
    }
    Ok(())
}

fn describe(op: &MountOp) -> String {
    match &op.kind {
        MountKind::Bind { source, .. } => format!("{} at {}", source.display(), op.destination.display()),
        MountKind::FileSystem { kind, .. } => format!("{kind} at {}", op.destination.display()),
        MountKind::Cgroup => format!("cgroup at {}", op.destination.display()),
        MountKind::Overlay(_) => "the image's layers".to_owned(),
    }
}
