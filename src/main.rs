//! The program's entry: which face was asked for, and its exit status.

use minirun::build::worker;
use minirun::container::{exec, supervisor};
use minirun::{cli, oci};
use std::process::ExitCode;

fn main() -> ExitCode {
    minirun::sys::signal::default_child();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_name().unwrap_or_default().to_string_lossy();
    let done = match &*name {
        REAPER => return cli::reaper::main(args),
        supervisor::NAME => supervisor::main(args),
        exec::NAME => exec::main(args),
        worker::NAME => worker::main(args),
        name if oci::NAMES.contains(&name) => {
            return ExitCode::from(oci::main(&std::env::args_os().collect::<Vec<_>>()));
        }
        _ => return cli::main(),
    };
    // There is nobody to tell: whoever started it hears of failures over his connection.
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const REAPER: &str = "docker-init";
