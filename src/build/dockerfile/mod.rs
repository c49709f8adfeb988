//! The Dockerfile language, as BuildKit's stable frontend reads it.
//!
//! ```text
//! source   the text, its lines, and what is said about them: errors and warnings with an excerpt
//! ast      what the text says, as plain data: nothing is expanded yet
//! ```

pub mod ast;
pub mod source;

pub use ast::*;
pub use source::{Lines, Problem, Source, Warning};
