//! Mounts as `-v`, `--mount` and `--tmpfs` write them.

use super::values::{boolean, bytes, is_name};
use crate::container::options::{Below, MountRequest, MountSource, Tuning};
use crate::sys::dir::clean;
use crate::volume;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const KINDS: [&str; 4] = ["bind", "volume", "tmpfs", "image"];
/// What Docker shows for a volume that was given no mode, but for a nameless one of `-v`.
const DEFAULT_MODE: &str = "z";
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const CONSISTENCIES: [&str; 4] = ["consistent", "cached", "delegated", "default"];
const TMPFS_FLAGS: [&str; 15] = [
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "strictatime",
];
const TMPFS_KEYS: [&str; 5] = ["uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// `-v [source:]target[:mode,…]`. A source that begins with `.` is below `current_dir`.
///
/// # Errors
/// Docker's: empty parts, unknown modes, a target that is relative or `/`, a bad volume name.
pub fn volume(spec: &str, current_dir: &Path) -> Result<MountRequest> {
    if spec.is_empty() {
        bail!("invalid empty volume spec");
    }
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        bail!("invalid spec: {spec}: empty section between colons");
    }
    let (source, target, mode) = match parts[..] {
        [target] => (None, target, ""),
        // A mode behind a target alone looks like a target that is not absolute.
        [_, second] if !second.starts_with('/') && Mode::parse(second).is_ok() => {
            bail!("invalid volume specification: '{spec}'")
        }
        [source, target] => (Some(source), target, ""),
        [source, target, mode] => (Some(source), target, mode),
        _ => bail!("invalid volume specification: '{spec}'"),
    };
    let mode = Mode::parse(mode)?;
    let source = match source {
        None => MountSource::Anonymous,
        Some(path) => match host_path(path, current_dir)? {
            Some(path) => MountSource::Bind { path, create: true },
            None => {
                volume_name(path)?;
                MountSource::Volume(path.to_string())
            }
        },
    };
    let is_bind = matches!(source, MountSource::Bind { .. });
    let kind = if is_bind { "bind" } else { "volume" };
    let complete = || {
        if is_bind && mode.no_copy {
            bail!("field VolumeOptions must not be specified");
        }
        if !is_bind && mode.propagation.is_some() {
            bail!("field BindOptions must not be specified");
        }
        container_path(target)
    };
    let target = complete()
        .map_err(|error| anyhow!("invalid volume specification: '{spec}': {}", invalid_config(kind, &error)))?;
    let shown = match (&source, parts.get(2)) {
        (_, Some(mode)) => *mode,
        (MountSource::Volume(_), None) => DEFAULT_MODE,
        _ => "",
    };
    let tuning = Tuning { mode: shown.to_owned(), chown: mode.chown, map_owner: mode.map_owner, ..Tuning::default() };
    let Mode { read_only, propagation, no_copy, .. } = mode;
    Ok(MountRequest { source, target, read_only, propagation, no_copy, tuning })
}

/// The third part of `-v`.
#[derive(Default)]
struct Mode {
    read_only: bool,
    propagation: Option<String>,
    no_copy: bool,
    chown: bool,
    map_owner: bool,
}

impl Mode {
    /// At most one word of each sort.
    fn parse(text: &str) -> Result<Mode> {
        let mut mode = Mode::default();
        let mut sorts = BTreeSet::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let sort = match word {
                "ro" | "rw" => "access",
                // Labels of SELinux, which this program does not set.
                "z" | "Z" => "label",
                "nocopy" => "copy",
                // Everything in it becomes the container's user's, or only seems to.
                "U" | "idmap" => "owner",
                word if PROPAGATIONS.contains(&word) => "propagation",
                word if CONSISTENCIES.contains(&word) => "consistency",
                _ => bail!("invalid mode: {text}"),
            };
            if !sorts.insert(sort) {
                bail!("invalid mode: {text}");
            }
            mode.read_only |= word == "ro";
            mode.no_copy |= word == "nocopy";
            mode.chown |= word == "U";
            mode.map_owner |= word == "idmap";
            if sort == "propagation" {
                mode.propagation = Some(word.to_string());
            }
        }
        Ok(mode)
    }
}

/// `--mount type=…,source=…,target=…`: fields of a line of CSV. A source that begins with `.` is below `current_dir`.
///
/// # Errors
/// Docker's: unknown fields, missing ones, those of another type of mount.
pub fn mount(spec: &str, current_dir: &Path) -> Result<MountRequest> {
    let mut fields = Fields::default();
    for field in csv(spec)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        fields.set(&field, &key.to_lowercase(), value)?;
    }
    fields.finish(current_dir)
}

/// What `--mount` collected.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    propagation: Option<String>,
    no_copy: bool,
    size: Option<u64>,
    mode: Option<u32>,
    tuning: Tuning,
    /// `bind-recursive=readonly`.
    read_only_below: bool,
    /// The types of mount that the fields seen so far belong to.
    specific: Vec<&'static str>,
}

impl Fields {
    fn set(&mut self, field: &str, key: &str, value: Option<&str>) -> Result<()> {
        let invalid = || anyhow!("invalid value for {key}: {}", value.unwrap_or_default());
        let switch = || value.map_or(Some(true), boolean).ok_or_else(invalid);
        let owner = key.split_once('-').map_or("", |(kind, _)| kind);
        self.specific.extend(KINDS.iter().filter(|kind| **kind == owner));
        match key {
            "readonly" | "ro" => self.read_only = switch()?,
            "volume-nocopy" => self.no_copy = switch()?,
            "bind-nonrecursive" => {
                if switch()? {
                    self.tuning.below = Below::Missing;
                }
            }
            "chown" | "u" => self.tuning.chown = switch()?,
            "idmap" => self.tuning.map_owner = switch()?,
            _ => {
                let Some(value) = value else { bail!("invalid field '{field}' must be a key=value pair") };
                self.set_valued(field, key, value)?;
            }
        }
        Ok(())
    }

    fn set_valued(&mut self, field: &str, key: &str, value: &str) -> Result<()> {
        let invalid = || anyhow!("invalid value for {key}: {value}");
        match key {
            "type" => self.kind = Some(value.to_lowercase()),
            "source" | "src" => self.source = Some(value.to_string()).filter(|source| !source.is_empty()),
            "target" | "dst" | "destination" => self.target = Some(value.to_string()),
            "consistency" => {}
            "bind-propagation" if PROPAGATIONS.contains(&value) => self.propagation = Some(value.to_string()),
            "bind-propagation" => return Err(invalid()),
            "bind-recursive" => self.below(value).ok_or_else(invalid)?,
            "volume-driver" if ["", "local"].contains(&value) => {}
            "volume-driver" => bail!("error looking up volume plugin {value}: plugin {value:?} not found"),
            "volume-label" => drop(pair(&mut self.tuning.volume_labels, value)),
            "volume-opt" => pair(&mut self.tuning.volume_options, value).ok_or_else(invalid)?,
            "volume-subpath" | "image-subpath" => {
                self.tuning.subpath = Some(subpath(value)?).filter(|path| !path.is_empty())
            }
            "tmpfs-size" => self.size = Some(bytes(value).ok().and_then(|n| n.try_into().ok()).ok_or_else(invalid)?),
            "tmpfs-mode" => self.mode = Some(octal(value).ok_or_else(invalid)?),
            _ => bail!("unexpected key '{key}' in '{field}'"),
        }
        Ok(())
    }

    fn finish(self, current_dir: &Path) -> Result<MountRequest> {
        let kind = self.kind.as_deref().unwrap_or("volume");
        if !KINDS.contains(&kind) {
            bail!("invalid mount config for type \"{kind}\": mount type unknown");
        }
        if let Some(other) = self.specific.iter().find(|other| **other != kind) {
            bail!("cannot mix '{other}-*' options with mount type '{kind}'");
        }
        self.check_below()?;
        let Some(target) = self.target.filter(|target| !target.is_empty()) else { bail!("target is required") };
        let source = match (kind, self.source) {
            ("bind", Some(source)) => host_path(&source, current_dir).and_then(|path| match path {
                Some(path) => Ok(MountSource::Bind { path, create: false }),
                None => bail!("invalid mount path: '{source}' mount path must be absolute"),
            }),
            ("bind", None) => Err(anyhow!("field Source must not be empty")),
            ("tmpfs", Some(_)) => Err(anyhow!("field Source must not be specified")),
            ("tmpfs", None) => Ok(MountSource::Tmpfs { size: self.size, mode: self.mode, options: Vec::new() }),
            ("image", Some(name)) => Ok(MountSource::Image { name, decided: None }),
            ("image", None) => Err(anyhow!("field Source must not be empty")),
            (_, Some(name)) => volume_name(&name).map(|()| MountSource::Volume(name)),
            (_, None) => Ok(MountSource::Anonymous),
        };
        let source = source.map_err(|error| invalid_config(kind, &error))?;
        let target = container_path(&target).map_err(|error| invalid_config(kind, &error))?;
        let mut tuning = Tuning { by_mount: true, ..self.tuning };
        if kind == "volume" {
            tuning.mode = DEFAULT_MODE.into();
        }
        volume::check_options(&tuning.volume_options).map_err(|error| invalid_config(kind, &error))?;
        let read_only = self.read_only || kind == "image";
        let (propagation, no_copy) = (self.propagation, self.no_copy);
        Ok(MountRequest { source, target, read_only, propagation, no_copy, tuning })
    }

    fn below(&mut self, value: &str) -> Option<()> {
        self.tuning.below = match value {
            "enabled" | "true" | "1" => Below::Same,
            "disabled" | "false" | "0" => Below::Missing,
            "writable" => Below::Writable,
            "readonly" => Below::Same,
            _ => return None,
        };
        self.read_only_below = value == "readonly";
        Some(())
    }

    /// What is read-only below can be so only if the mount itself is, and nothing new comes in from the host.
    fn check_below(&self) -> Result<()> {
        let needs = match self.propagation.as_deref() {
            _ if !self.read_only_below => return Ok(()),
            _ if !self.read_only => "readonly",
            Some("rprivate") => return Ok(()),
            _ => "bind-propagation=rprivate",
        };
        bail!("option 'bind-recursive=readonly' requires '{needs}' to be specified in conjunction")
    }
}

/// Takes in `key=value`, or a key alone.
fn pair(into: &mut BTreeMap<String, String>, text: &str) -> Option<()> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    into.insert(key.to_owned(), value.to_owned());
    text.contains('=').then_some(())
}

/// A path in a volume.
fn subpath(text: &str) -> Result<String> {
    let path = Path::new(text);
    if path.is_absolute() || path.components().any(|c| c == std::path::Component::ParentDir) {
        bail!("invalid volume subpath {text:?}: it must be relative and stay in the volume");
    }
    Ok(text.to_owned())
}

/// The fields of one line of CSV, where a field in double quotes may hold commas.
fn csv(line: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let at_start = fields.last().is_none_or(String::is_empty);
        match (c, quoted) {
            ('"', true) if chars.next_if_eq(&'"').is_none() => quoted = false,
            ('"', false) if at_start => quoted = true,
            (',', false) => fields.push(String::new()),
            ('"', false) => bail!("parse error on line 1: bare \" in non-quoted field"),
            (c, _) => fields.last_mut().context("no field")?.push(c),
        }
    }
    if quoted {
        bail!("parse error on line 1: extraneous or missing \" in quoted field");
    }
    Ok(fields)
}

/// `--tmpfs target[:options]`.
///
/// # Errors
/// Options that a tmpfs does not have, or a target that is not absolute.
pub fn tmpfs(spec: &str) -> Result<MountRequest> {
    let (target, words) = spec.split_once(':').unwrap_or((spec, ""));
    let target = container_path(target).map_err(|error| invalid_config("tmpfs", &error))?;
    let (mut size, mut mode, mut options, mut read_only) = (None, None, Vec::new(), false);
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let known = match word.split_once('=') {
            None if TMPFS_FLAGS.contains(&word) => {
                options.push(word.to_string());
                true
            }
            None => {
                read_only = word == "ro" || (read_only && word != "rw");
                ["ro", "rw", "defaults"].contains(&word)
            }
            // A share of the memory is for the kernel to work out.
            Some(("size", share)) if share.strip_suffix('%').is_some_and(|n| n.parse::<u32>().is_ok()) => {
                options.push(word.to_string());
                true
            }
            Some(("size", value)) => {
                size = bytes(value).ok().and_then(|size| u64::try_from(size).ok());
                size.is_some()
            }
            Some(("mode", value)) => {
                mode = octal(value);
                mode.is_some()
            }
            Some((key, value)) => {
                options.push(word.to_string());
                TMPFS_KEYS.contains(&key) && !value.is_empty()
            }
        };
        if !known {
            bail!("invalid tmpfs option \"{word}\"");
        }
    }
    let source = MountSource::Tmpfs { size, mode, options };
    let tuning = Tuning { mode: Tuning::PLAIN_TMPFS.into(), ..Tuning::default() };
    Ok(MountRequest { read_only, tuning, ..MountRequest::new(source, &target) })
}

/// That no two mounts have the same target.
///
/// # Errors
/// `Duplicate mount point: /x`.
pub fn check_duplicates(mounts: &[MountRequest]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match mounts.iter().find(|mount| !seen.insert(&mount.target)) {
        Some(twice) => bail!("Duplicate mount point: {}", twice.target),
        None => Ok(()),
    }
}

/// That a volume may have this name.
///
/// # Errors
/// Too short, or other characters than Docker's.
pub fn volume_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    if name.len() == 1 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        bail!("volume name is too short, names should be at least two alphanumeric characters");
    }
    bail!(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )
}

fn invalid_config(kind: &str, error: &anyhow::Error) -> anyhow::Error {
    anyhow!("invalid mount config for type \"{kind}\": {error}")
}

/// Permission bits in octal.
fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// A path of the host, made absolute; nothing if it is none but perhaps the name of a volume.
fn host_path(text: &str, current_dir: &Path) -> Result<Option<String>> {
    if text.starts_with('/') {
        return Ok(Some(plain(text)));
    }
    if !matches!(text.split('/').next(), Some("." | "..")) {
        return Ok(None);
    }
    let base = current_dir.to_str().with_context(|| format!("{} is not UTF-8", current_dir.display()))?;
    if base.is_empty() {
        bail!("{text} is relative, and the current directory is gone");
    }
    Ok(Some(plain(&format!("{base}/{text}"))))
}

/// Where a mount goes in the container.
fn container_path(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        bail!("invalid mount path: '{text}' mount path must be absolute");
    }
    match plain(text) {
        root if root == "/" => bail!("invalid specification: destination can't be '/'"),
        path => Ok(path),
    }
}

fn plain(path: &str) -> String {
    clean(Path::new(path)).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
