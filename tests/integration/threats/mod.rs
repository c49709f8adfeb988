//! The known ways out of containers, tried through the real program: what `docs/security.md` lists.

pub mod bundle;
mod descriptors;
mod identity;
mod mounts;
mod own_program;
mod proc;
mod state;
