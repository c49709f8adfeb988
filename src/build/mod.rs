//! The build room: from a Dockerfile and a context to layers.
//!
//! ```text
//! ignore, glob   `.dockerignore`, and patterns for paths
//! dockerfile     text -> instructions with their positions; variables; `Scope` evaluates one after another
//! ```

pub mod dockerfile;
mod glob;
pub mod ignore;
