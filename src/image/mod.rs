//! The image room: names, the store of images and layers, and what goes into it and comes out.
//!
//! From top to bottom:
//!
//! ```text
//! load, import, commit   archives and containers become images
//! remove, store          names -> manifests -> configs -> layers, on disk
//! layer                  one unpacked layer: made once, published by a rename, turned back into its tar
//! changes, place         what a container has changed, and the layer made of it
//! union                  stacked layers read as one tree, without mounting
//! unpack                 any archive into a folder
//! diff, apply, recipe    tree -> canonical tar, tar -> tree, and what it takes to make a foreign tar again
//! progress               what is told while images move
//! copy                   single files with all their attributes
//! tar                    the format itself, both ways
//! feed                   reading, decompressing and hashing on threads of their own
//! change, config, reference, digest, manifest   documents and names
//! ```

mod apply;
mod archive;
pub mod change;
mod changes;
mod commit;
pub mod config;
pub mod copy;
mod diff;
pub mod digest;
mod feed;
mod import;
mod index;
mod layer;
mod load;
mod manifest;
mod place;
pub mod progress;
mod recipe;
pub mod reference;
mod remove;
mod store;
mod tar;
#[cfg(test)]
pub(crate) mod tests;
pub mod union;
pub mod unpack;

pub use commit::{CommitSource, NewImage};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig};
pub use digest::Digest;
pub use import::ImportOptions;
pub use load::{LoadEvent, Loaded};
pub use reference::Reference;
pub use remove::{ImageUse, Removal};
pub use store::{Damaged, Image, Listed, Listing, Store};
