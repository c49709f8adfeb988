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

/// The program's entry under this name: everything after `--` is the command.
pub fn main(args: &[OsString]) -> u8 {
    let separators = args.iter().take_while(|a| *a == "--").count();
    match run(&args[separators..]) {
        Ok(status) => status as u8,
        Err(error) => {
            output::complain(&error);
            125
        }
    }
}

/// Runs `command` as a child until it ends, and returns its exit status.
fn run(command: &[OsString]) -> Result<i32> {
    let own = rustix::process::getpid();
    if own.as_raw_nonzero().get() != 1 {
        // In somebody else's pid namespace orphans go to the first process of that one, unless they are asked for.
        rustix::process::set_child_subreaper(Some(own)).map_err(std::io::Error::from).context("adopt orphans")?;
    }
    let args = command.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let Some(name) = args.first() else { bail!("no command specified") };
    let signals = Signals::all().context("receive signals")?;
    let child = match process::fork_into(0, None).context("start the command")? {
        Forked::Child => {
            lead();
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

/// Makes the command's processes those that the terminal's keys are for: they are to get each signal once. All signals
/// are blocked, so that this does not stop us.
fn lead() {
    if rustix::process::setpgid(None, None).is_ok() {
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
    }
}
