//! `COPY` and `ADD`: which files they mean, what they are known by, and how they get into a layer.
//!
//! ```text
//! plan ──▶ select: words -> files and folders of the origin
//!      ──▶ digest: everything that the result depends on except times; walk goes through the files,
//!                  threads hash them, memo remembers hashes by the files' attributes
//!      ──▶ write:  into a new upper directory; target knows what lies there and below it; owner whose it will be
//! ```

mod digest;
mod file;
mod memo;
mod owner;
mod select;
mod target;
#[cfg(test)]
mod tests;
mod walk;
mod write;

pub use digest::Known;
pub use memo::Memo;
pub use select::{Fetched, Got, Origin, Plan, Request, plan};
pub use write::Options;
