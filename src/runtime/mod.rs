//! The OCI runtime: from a bundle to a running process and back to nothing.
//!
//! ```text
//! Spec ──plan──▶ Plan ──launch──▶ init ──process──▶ the user's program
//!                  parent │ clone3  child
//! ```
//! [`launch`] is the parent's page, [`init`] the child's, [`handshake`] what they say to each other.

pub mod capabilities;
pub mod cgroup;
pub mod console;
pub mod devices;
pub mod handshake;
pub mod init;
pub mod join;
pub mod launch;
pub mod mounts;
pub mod plan;
pub mod process;
pub mod rootfs;
pub mod seccomp;
