//! The program's entry: which face was asked for, and its exit status.
#![no_main]

use minirun::build::worker;
use minirun::container::{exec, supervisor};
use minirun::sys::{entry, process};
use minirun::{cli, oci};
use std::ffi::{OsString, c_char, c_int};
use std::os::fd::OwnedFd;

/// What the C library calls.
// It is the only function with that name.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    // SAFETY: these are the arguments that it calls its programs with.
    unsafe { entry::begin(count, words) };
    std::process::exit(i32::from(begun(entry::arguments())))
}

fn begun(arguments: &[OsString]) -> u8 {
    let name = arguments.first().map(std::path::Path::new).and_then(std::path::Path::file_name).unwrap_or_default();
    match &*name.to_string_lossy() {
        REAPER => cli::reaper::main(&arguments[1..]),
        supervisor::NAME => helper(&arguments[1..], supervisor::main),
        exec::NAME => helper(&arguments[1..], exec::main),
        worker::NAME => helper(&arguments[1..], worker::main),
        name if oci::NAMES.contains(&name) => oci::main(arguments),
        _ => cli::main(arguments),
    }
}

/// A supervisor that was executed anew.
fn helper(arguments: &[OsString], task: fn(OwnedFd) -> i32) -> u8 {
    process::inherited(arguments.iter().cloned()).map_or(1, |client| task(client) as u8)
}

const REAPER: &str = "docker-init";
