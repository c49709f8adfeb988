//! Black-box tests: the real binary, as root, on real mounts. Each test has a store of its own, and dropping the
//! store checks that nothing is left of it on the host.

mod apparmor;
mod archives;
mod build;
mod client_config;
mod confinement;
mod cp;
mod crash;
mod daily;
mod diff;
mod errors;
mod events;
mod exec;
mod health;
mod hostile_archives;
mod image_commands;
mod image_tools;
mod images;
mod inspect;
mod lifecycle;
mod logs;
mod network;
mod oci;
mod registry;
mod rootless;
mod run;
mod seccomp;
mod smoke;
mod supervision;
mod support;
mod terminal;
mod threats;
mod update;
mod volume_commands;
mod volumes;
