//! The build room: from a Dockerfile and a context to layers.
//!
//! ```text
//! dockerfile   text -> instructions with their positions; variables; `Scope` evaluates one after another
//! ```

pub mod dockerfile;
