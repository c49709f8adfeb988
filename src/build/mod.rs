//! The build room: from a Dockerfile and a context to layers.
//!
//! ```text
//! context        the folder or archive, its Dockerfile and .dockerignore
//! copy           COPY and ADD: from a context, a stage or an image into a new layer
//! ignore, glob   `.dockerignore`, and patterns for paths
//! dockerfile     text -> instructions with their positions; variables; `Scope` evaluates one after another
//! ```

pub mod context;
pub mod copy;
pub mod dockerfile;
mod glob;
pub mod ignore;
