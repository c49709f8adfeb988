//! The system room: the only place with `unsafe` code and raw system calls.
//!
//! Everything here is a small, I/O-safe wrapper; it knows descriptors, paths and numbers, and nothing of
//! containers or images.

#![allow(unsafe_code)]

pub mod bpf;
mod caller;
pub mod conntrack;
pub mod depth;
pub mod dir;
pub mod entry;
pub mod errors;
pub mod file;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod nftables;
pub mod poll;
pub mod process;
pub mod procfs;
pub mod protect;
pub mod random;
pub mod route;
pub mod schedule;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod tty;
pub mod xtables;
