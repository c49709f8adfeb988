//! Filters of system calls for containers: the one that each has unless told otherwise, and those in files of Docker's
//! format. Both become `linux.seccomp` of the specification.

mod builtin;
#[cfg(test)]
mod tests;

use crate::runtime::seccomp::Filter;
use anyhow::{Context, Result, bail};
pub use builtin::builtin;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// Major and minor number of a kernel.
pub type Version = (u32, u32);

/// What a profile depends on.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The capabilities that a process of the container can have.
    pub capabilities: &'a HashSet<Capability>,
    /// The machine, as Docker calls it.
    pub machine: &'a str,
    /// The kernel's version.
    pub kernel: Version,
}

/// This machine, as Docker calls it.
pub const MACHINE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// The version of the kernel that runs.
pub fn running_kernel() -> Version {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let digits = |c: char| !c.is_ascii_digit();
    parse_version(release.splitn(3, digits).take(2).collect::<Vec<_>>().join(".").as_str()).unwrap_or((0, 0))
}

fn parse_version(text: &str) -> Option<Version> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A profile as a user wrote it, before it meets a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: LinuxSeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_null")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "or_null")]
    arch_map: Vec<Family>,
    #[serde(default, deserialize_with = "or_null")]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default)]
    listener_path: Option<PathBuf>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    syscalls: Vec<Entry>,
}

/// A machine's own ABI and the others that it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    #[serde(default, deserialize_with = "or_null")]
    sub_architectures: Vec<Arch>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default, deserialize_with = "or_null")]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_null")]
    args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "or_null")]
    includes: Condition,
    #[serde(default, deserialize_with = "or_null")]
    excludes: Condition,
}

/// When an entry is part of the profile, or is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default, deserialize_with = "or_null")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Go writes lists without elements as `null`.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Profile {
    /// Understands a profile file.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn parse(text: &str) -> Result<Profile> {
        let profile: Profile = serde_json::from_str(text)?;
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            bail!("both architectures and archMap are specified");
        }
        for entry in &profile.syscalls {
            if entry.name.is_some() && !entry.names.is_empty() {
                bail!("both name and names are specified for {:?}", entry.names);
            }
            for version in [&entry.includes, &entry.excludes].into_iter().filter_map(|c| c.min_kernel.as_ref()) {
                parse_version(version).with_context(|| format!("minKernel {version:?} is not a version like 4.8"))?;
            }
        }
        // Whoever writes a profile hears of what it cannot do now and not when a container starts.
        Filter::compile(&profile.with(profile.syscalls.iter(), profile.architectures.clone()))?;
        Ok(profile)
    }

    /// The profile as it is for one container.
    pub fn resolve(&self, setting: &Setting<'_>) -> LinuxSeccomp {
        let mut architectures = self.architectures.clone();
        let own = match setting.machine {
            "amd64" => Arch::ScmpArchX86_64,
            "arm64" => Arch::ScmpArchAarch64,
            _ => Arch::ScmpArchNative,
        };
        if let Some(family) = self.arch_map.iter().find(|f| f.architecture == own) {
            architectures.push(own);
            architectures.extend(&family.sub_architectures);
        }
        self.with(self.syscalls.iter().filter(|e| e.is_for(setting)), architectures)
    }

    fn with<'a>(&self, entries: impl Iterator<Item = &'a Entry>, architectures: Vec<Arch>) -> LinuxSeccomp {
        let mut out = LinuxSeccomp::default();
        out.set_default_action(self.default_action).set_default_errno_ret(self.default_errno_ret);
        out.set_architectures(Some(architectures)).set_flags(Some(self.flags.clone()));
        out.set_listener_path(self.listener_path.clone()).set_listener_metadata(self.listener_metadata.clone());
        out.set_syscalls(Some(entries.map(Entry::rule).collect()));
        out
    }
}

impl Entry {
    fn is_for(&self, setting: &Setting<'_>) -> bool {
        let Condition { caps, arches, min_kernel } = &self.includes;
        let wanted = caps.iter().all(|c| has(setting, c))
            && (arches.is_empty() || arches.iter().any(|a| a == setting.machine))
            && min_kernel.as_ref().is_none_or(|v| reaches(setting, v));
        let Condition { caps, arches, min_kernel } = &self.excludes;
        let unwanted = caps.iter().any(|c| has(setting, c))
            || arches.iter().any(|a| a == setting.machine)
            || min_kernel.as_ref().is_some_and(|v| reaches(setting, v));
        wanted && !unwanted
    }

    fn rule(&self) -> LinuxSyscall {
        let mut rule = LinuxSyscall::default();
        rule.set_names(self.name.iter().chain(&self.names).cloned().collect());
        rule.set_action(self.action).set_errno_ret(self.errno_ret);
        if !self.args.is_empty() {
            rule.set_args(Some(self.args.clone()));
        }
        rule
    }
}

fn has(setting: &Setting<'_>, capability: &str) -> bool {
    let name = capability.strip_prefix("CAP_").unwrap_or(capability);
    name.parse().is_ok_and(|c: Capability| setting.capabilities.contains(&c))
}

fn reaches(setting: &Setting<'_>, version: &str) -> bool {
    parse_version(version).is_some_and(|v| setting.kernel >= v)
}
