//! The first process of a container with `--init`: starts the command, passes signals on, reaps orphans.
//!
//! It is this same program, mounted read-only into the container and run under the name `docker-init`.

use super::output;
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Exit, Forked};
use crate::sys::signal::{self, Signals};
use anyhow::{Context, Result, bail};
use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// The program's entry under this name: everything after `--` is the command.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.skip_while(|a| a == "--").collect();
    match run(&args) {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            output::complain(&error);
            ExitCode::from(125)
        }
    }
}

/// Runs `command` as a child until it ends, and returns its exit status.
///
/// # Errors
/// A caller that is not the first process of its pid namespace: nobody else should adopt orphans.
fn run(command: &[OsString]) -> Result<i32> {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        bail!("docker-init is the first process of a container, and nothing else");
    }
    let args = command.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let Some(name) = args.first() else { bail!("no command specified") };
    let signals = Signals::all().context("receive signals")?;
    let child = match process::fork_into(0, None).context("start the command")? {
        Forked::Child => {
            signal::reset();
            let error = nix::unistd::execvp(name, &args).err();
            let missing = error == Some(nix::Error::ENOENT);
            output::note(&format!("exec: {:?}: {}", command[0], error.map_or("", nix::Error::desc)));
            process::exit_now(if missing { 127 } else { 126 })
        }
        Forked::Parent(child) => child,
    };
    loop {
        let interest = [Interest { fd: signals.as_fd(), read: true, write: false }];
        poll::wait(&interest, None).context("wait for signals")?;
        while let Some(signal) = signals.next().context("receive signals")? {
            if signal != libc::SIGCHLD {
                let _ = process::kill(child.pid, signal);
            }
        }
        while let Ok(Some((pid, exit))) = process::reap_any() {
            if pid == child.pid {
                return Ok(Exit::status(exit));
            }
        }
    }
}
