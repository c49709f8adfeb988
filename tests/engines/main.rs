//! Docker, Podman and containerd on top of minirun: the real programs of Debian's packages, driven as their users do.
//! `MINIRUN_ENGINE_RUNTIME` names another runtime for them; all tests but those of what it cannot do here must pass
//! with runc, too.

mod commands;
mod containerd;
mod cri;
mod docker;
mod interop;
mod podman;
mod registry;
mod rootless;
mod support;

#[path = "../integration/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod base;
