//! Mounts as data: what a container's file systems are made of, before anything is mounted.

use super::idmap::IdMaps;
use crate::sys::dir::clean;
use crate::sys::mount::{Attributes, Overlay, Propagation, split_paths};
use anyhow::{Context, Result, bail};
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

/// One mount to make.
#[derive(Clone, Debug)]
pub struct MountOp {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// What appears there.
    pub kind: MountKind,
    /// How it may be used.
    pub flags: Flags,
    /// Files show under other owners.
    pub idmap: Option<MountMap>,
    /// What the image has there is copied into a new memory file system.
    pub copy_up: bool,
}

/// Under which owners the files of a mount show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountMap {
    /// Those of the container's user namespace if there are none.
    pub maps: Option<IdMaps>,
    /// Also on the mounts below it.
    pub recursive: bool,
}

/// An option of bind mounts, for our own specifications: a path in the source.
pub const SUBPATH: &str = "x-minirun.subpath=";

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// With everything that is mounted below it.
        recursive: bool,
        /// Only what is at this path in it, found as if the source were `/`.
        part: Option<PathBuf>,
    },
    /// A new instance of a file system, with options of its own.
    FileSystem {
        /// As in /proc/filesystems.
        kind: String,
        /// What shows as its device.
        source: String,
        /// `key=value` or a flag.
        options: Vec<String>,
    },
    /// The container's view of its cgroup.
    Cgroup,
    /// Image layers with a writable one; only as the root.
    Overlay(Overlay),
}

/// The attributes of a mount.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// Set on the mount itself.
    pub set: Attributes,
    /// Cleared on the mount itself.
    pub clear: Attributes,
    /// Set on it and all below it.
    pub set_recursive: Attributes,
    /// Cleared on it and all below it.
    pub clear_recursive: Attributes,
    /// Of the mount and all below it; a container's mounts are private unless asked otherwise.
    pub propagation: Option<Propagation>,
}

impl Flags {
    const NONE: Flags = Flags {
        set: Attributes::empty(),
        clear: Attributes::empty(),
        set_recursive: Attributes::empty(),
        clear_recursive: Attributes::empty(),
        propagation: None,
    };
}

impl MountOp {
    /// Understands one mount of the specification (runtime-spec, "Mounts" and "Linux mount options").
    /// Relative sources of bind mounts begin at `bundle`.
    ///
    /// # Errors
    /// Options that contradict each other or that are not known where they stand.
    pub fn from_spec(mount: &Mount, bundle: &Path) -> Result<MountOp> {
        let destination = clean(mount.destination());
        let what = || format!("mount at {}", destination.display());
        let mut flags = Flags::NONE;
        let (mut bind, mut data) = (None, Vec::new());
        let (mut mapped, mut copy_up) = (None, false);
        for option in mount.options().iter().flatten() {
            match option.as_str() {
                "bind" => bind = bind.or(Some(false)),
                "rbind" => bind = Some(true),
                "idmap" => mapped = mapped.or(Some(false)),
                "ridmap" => mapped = Some(true),
                "tmpcopyup" => copy_up = true,
                // Whoever asks for other owners must not get those of the host without a word.
                other if other.starts_with("idmap=") || other.starts_with("ridmap=") => {
                    bail!("{}: the option {other:?} is not supported: use uidMappings and gidMappings", what())
                }
                "" => {}
                other if flags.absorb(other) => {}
                other => data.push(other.to_owned()),
            }
        }
        let source = mount.source().clone().unwrap_or_default();
        let part = data.iter().find_map(|o| o.strip_prefix(SUBPATH)).map(PathBuf::from);
        let kind = match (mount.typ().as_deref().unwrap_or(""), bind) {
            (_, Some(recursive)) => MountKind::Bind { source: bundle.join(source), recursive, part },
            ("bind", None) => MountKind::Bind { source: bundle.join(source), recursive: true, part },
            ("cgroup" | "cgroup2", None) => MountKind::Cgroup,
            ("overlay", None) if destination == Path::new("/") => MountKind::Overlay(overlay(&data)?),
            ("", None) => bail!("{}: neither a type nor a bind mount", what()),
            (kind, None) => MountKind::FileSystem {
                kind: kind.to_owned(),
                source: source.to_string_lossy().into_owned(),
                options: data,
            },
        };
        let maps = IdMaps::from_spec(mount.uid_mappings(), mount.gid_mappings()).with_context(what)?;
        let idmap = match (maps, mapped) {
            (None, None) => None,
            (maps, recursive) => Some(MountMap { maps, recursive: recursive.unwrap_or(false) }),
        };
        if idmap.is_some() && !matches!(kind, MountKind::Bind { .. }) {
            bail!("{}: only bind mounts can have id mappings", what());
        }
        if copy_up && !matches!(&kind, MountKind::FileSystem { kind, .. } if kind == "tmpfs") {
            bail!("{}: tmpcopyup is for tmpfs", what());
        }
        Ok(MountOp { destination, kind, flags, idmap, copy_up })
    }
}

impl Flags {
    /// Takes in an option that is an attribute or a propagation; `false` if it is neither.
    fn absorb(&mut self, option: &str) -> bool {
        if let Some(propagation) = propagation(option) {
            self.propagation = Some(propagation);
            return true;
        }
        if matches!(option, "defaults" | "async" | "nostrictatime" | "remount" | "silent" | "loud") {
            return true;
        }
        let plain = attribute(option);
        let recursive = option.strip_prefix('r').and_then(attribute).filter(|_| plain.is_none());
        let (set, clear, found) = match (plain, recursive) {
            (Some(found), _) => (&mut self.set, &mut self.clear, found),
            (None, Some(found)) => (&mut self.set_recursive, &mut self.clear_recursive, found),
            (None, None) => return false,
        };
        let (bits, on) = found;
        if ATIME.contains(bits) || bits.is_empty() {
            // The access time modes are one field of the kernel's, not independent bits.
            *set = set.difference(ATIME) | bits;
            *clear |= ATIME;
        } else if on {
            *set |= bits;
            *clear = clear.difference(bits);
        } else {
            *set = set.difference(bits);
            *clear |= bits;
        }
        true
    }
}

const ATIME: Attributes = Attributes::from_bits_retain(0x70);

/// All options that have a meaning of ours; others are the file system's own.
pub fn known_options() -> Vec<String> {
    const PLAIN: [&str; 19] = [
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "nodiratime",
        "diratime",
        "nosymfollow",
        "symfollow",
        "noatime",
        "strictatime",
        "relatime",
        "atime",
        "norelatime",
        "async",
        "defaults",
    ];
    const OTHERS: [&str; 16] = [
        "bind",
        "rbind",
        "idmap",
        "ridmap",
        "tmpcopyup",
        "private",
        "rprivate",
        "slave",
        "rslave",
        "shared",
        "rshared",
        "unbindable",
        "runbindable",
        "remount",
        "nostrictatime",
        "silent",
    ];
    let recursive = PLAIN.iter().filter(|o| attribute(o).is_some()).map(|o| format!("r{o}"));
    let mut all: Vec<String> = PLAIN.iter().chain(&OTHERS).map(|o| (*o).to_owned()).chain(recursive).collect();
    all.sort();
    all
}

fn attribute(option: &str) -> Option<(Attributes, bool)> {
    Some(match option {
        "ro" => (Attributes::MOUNT_ATTR_RDONLY, true),
        "rw" => (Attributes::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (Attributes::MOUNT_ATTR_NOSUID, true),
        "suid" => (Attributes::MOUNT_ATTR_NOSUID, false),
        "nodev" => (Attributes::MOUNT_ATTR_NODEV, true),
        "dev" => (Attributes::MOUNT_ATTR_NODEV, false),
        "noexec" => (Attributes::MOUNT_ATTR_NOEXEC, true),
        "exec" => (Attributes::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => (Attributes::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (Attributes::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, false),
        "noatime" => (Attributes::MOUNT_ATTR_NOATIME, true),
        "strictatime" => (Attributes::MOUNT_ATTR_STRICTATIME, true),
        "relatime" | "atime" | "norelatime" => (Attributes::empty(), true),
        _ => return None,
    })
}

/// A propagation by its option, with or without the `r` for recursive: ours always covers what is below.
pub fn propagation(option: &str) -> Option<Propagation> {
    Some(match option {
        "private" | "rprivate" => Propagation::Private,
        "slave" | "rslave" => Propagation::Slave,
        "shared" | "rshared" => Propagation::Shared,
        "unbindable" | "runbindable" => Propagation::Unbindable,
        _ => return None,
    })
}

fn overlay(options: &[String]) -> Result<Overlay> {
    let mut overlay = Overlay { lower: Vec::new(), upper: None, work: None, volatile: false };
    for option in options {
        match option.split_once('=') {
            // The kernel lists the topmost first.
            Some(("lowerdir", list)) => overlay.lower = split_paths(list).into_iter().rev().collect(),
            Some(("upperdir", dir)) => overlay.upper = split_paths(dir).pop(),
            Some(("workdir", dir)) => overlay.work = split_paths(dir).pop(),
            None if option == "volatile" => overlay.volatile = true,
            _ => bail!("the overlay option {option:?} is not supported"),
        }
    }
    if overlay.lower.is_empty() {
        bail!("an overlay needs at least one lower directory");
    }
    Ok(overlay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn op(kind: &str, options: &[&str]) -> MountOp {
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        let mount = MountBuilder::default().destination("/a/../b/./c").typ(kind).source("/src").options(options);
        MountOp::from_spec(&mount.build().unwrap(), Path::new("/bundle")).unwrap()
    }

    #[test]
    fn options_are_sorted_into_attributes_and_data() {
        let m = op("tmpfs", &["nosuid", "ro", "rw", "noatime", "size=64k", "mode=1777"]);
        assert_eq!(m.destination, Path::new("/b/c"));
        assert_eq!(m.flags.set, Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOATIME);
        assert!(m.flags.clear.contains(Attributes::MOUNT_ATTR_RDONLY));
        let MountKind::FileSystem { options, .. } = m.kind else { panic!("{:?}", m.kind) };
        assert_eq!(options, ["size=64k", "mode=1777"]);
    }

    #[test]
    fn a_bind_is_told_by_its_options_and_rro_covers_what_is_below() {
        let m = op("none", &["rbind", "rro", "rslave"]);
        assert_eq!(m.kind, MountKind::Bind { source: "/src".into(), recursive: true, part: None });
        assert_eq!(m.flags.set_recursive, Attributes::MOUNT_ATTR_RDONLY);
        assert!(m.flags.set.is_empty());
        assert_eq!(m.flags.propagation, Some(Propagation::Slave));
        assert_eq!(op("bind", &["bind"]).kind, MountKind::Bind { source: "/src".into(), recursive: false, part: None });
    }
}
