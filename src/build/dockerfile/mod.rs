//! The Dockerfile language, as BuildKit's stable frontend reads it.
//!
//! ```text
//! scope             the values of variables; instruction -> step, expanded
//! expand, pattern   `$NAME` and its modifiers in one text
//! parser            the whole file -> stages
//! instruction       one logical line -> one instruction; with flags, mount, health
//! lines             text -> logical lines: directives, comments, continuation lines, heredocs
//! words             splitting: quotes, JSON lists
//! checks            warnings
//! ast               what the text says, as plain data: nothing is expanded yet
//! source            the text, its lines, and what is said about them: errors and warnings with an excerpt
//! ```

mod ast;
mod checks;
mod expand;
mod flags;
mod health;
mod instruction;
mod lines;
mod mount;
mod parser;
mod pattern;
mod scope;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod words;

pub use ast::*;
pub use parser::{parse, parse_trigger};
pub use scope::{Base, Globals, Platforms, Scope, Step};
pub use source::{Lines, Problem, Source, Warning};
