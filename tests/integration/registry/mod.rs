//! Pull and push against Debian's registry, and against servers that do everything wrong.

mod access;
mod basics;
mod faults;
mod layers;
pub mod servers;
