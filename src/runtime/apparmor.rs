//! AppArmor: under which profile a process runs its program.
//!
//! The kernel is told beforehand and changes over at the next execve, so that what this program does until then is not
//! confined by a profile that was written for another one.

use crate::sys::file::read_kernel_text;
use crate::sys::procfs::ProcFs;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// The name for being confined by no profile.
pub const UNCONFINED: &str = "unconfined";

/// The profile of a process, on a host that has AppArmor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile(String);

/// A process's own file that takes its profile.
#[derive(Debug)]
pub struct Entrance(File);

/// Whether the host's kernel confines by profiles.
pub fn is_enabled() -> bool {
    read_kernel_text("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

impl Profile {
    /// The one of this name; `None` if nothing is asked for, or only what is so anyway without AppArmor.
    ///
    /// # Errors
    /// A profile that the host cannot confine by.
    pub fn named(name: &str) -> Result<Option<Profile>> {
        match name {
            "" => Ok(None),
            // The kernel would read to it, and confine by another profile.
            name if name.contains('\0') => bail!("{name:?} is no name of a profile"),
            name if is_enabled() => Ok(Some(Profile(name.to_owned()))),
            UNCONFINED => Ok(None),
            name => bail!("the profile {name:?} is asked for, but AppArmor is not enabled on this host"),
        }
    }

    /// Opens the caller's own file for [`Profile::apply`]. Kernels without a folder for AppArmor share one file among
    /// all security modules.
    pub fn open(&self) -> Result<Entrance> {
        let proc = ProcFs::host().context("open /proc")?;
        let file = match proc.open("self/attr/apparmor/exec") {
            Err(e) if e.kind() == ErrorKind::NotFound => proc.open("self/attr/exec"),
            other => other,
        };
        Ok(Entrance(file.context("open /proc/self/attr/apparmor/exec")?))
    }

    /// Has the caller, who must have opened the file himself, confined from his next execve on.
    pub fn apply(&self, entrance: &Entrance) -> Result<()> {
        let Profile(name) = self;
        let written = (&entrance.0).write_all(format!("exec {name}").as_bytes());
        written.map_err(explain).with_context(|| format!("unable to apply apparmor profile {name:?}"))
    }
}

fn explain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => anyhow::Error::new(error).context("no such profile is loaded"),
        _ => error.into(),
    }
}
