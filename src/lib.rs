//! minirun: a container engine and OCI runtime in one small binary, without a daemon.
//!
//! The rooms of the house from top to bottom; a room uses only those below it.

pub mod cli;
pub mod oci;

pub mod build;

pub mod container;
pub mod network;
pub mod volume;

pub mod image;
pub mod registry;

pub mod runtime;

pub mod journal;
pub mod layout;
pub mod sys;
