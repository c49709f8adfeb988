//! The OCI runtime: from a bundle to a running process and back to nothing.
//!
//! ```text
//! Spec ──plan──▶ Plan ──launch──▶ init ──process──▶ the user's program
//!                  parent │ clone3  child
//! ```
//! [`launch`] is the parent's page, [`init`] the child's, [`handshake`] what they say to each other.

pub mod apparmor;
pub mod capabilities;
pub mod cgroup;
pub mod console;
pub mod copy_up;
pub mod devices;
pub mod diagnosis;
pub mod elsewhere;
pub mod handshake;
pub mod hooks;
pub mod idmap;
pub mod init;
pub mod join;
pub mod launch;
pub mod mounts;
pub mod namespaces;
pub mod plan;
pub mod process;
pub mod program;
pub mod rootfs;
pub mod scheduling;
pub mod seccomp;
pub mod sources;
pub mod streams;
