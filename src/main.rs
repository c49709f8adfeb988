//! The program's entry: which face was asked for, and its exit status.

use minirun::build::worker;
use minirun::container::{exec, supervisor};
use minirun::sys::process;
use minirun::{cli, oci};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    minirun::sys::signal::default_child();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_name().unwrap_or_default().to_string_lossy();
    match &*name {
        REAPER => cli::reaper::main(args),
        supervisor::NAME => helper(args, supervisor::main),
        exec::NAME => helper(args, exec::main),
        worker::NAME => helper(args, worker::main),
        name if oci::NAMES.contains(&name) => ExitCode::from(oci::main(&std::env::args_os().collect::<Vec<_>>())),
        _ => cli::main(),
    }
}

/// A supervisor that was executed anew.
fn helper(args: impl Iterator<Item = OsString>, task: fn(OwnedFd) -> i32) -> ExitCode {
    process::inherited(args).map_or(ExitCode::FAILURE, |client| ExitCode::from(task(client) as u8))
}

const REAPER: &str = "docker-init";
