//! The program's entry: which face was asked for, and its exit status.

use minirun::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_name().unwrap_or_default();
    if name == "docker-init" {
        return cli::reaper::main(args);
    }
    cli::main()
}
