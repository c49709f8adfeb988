//! The image room: names, the store of images and layers, and what goes into it and comes out.
//!
//! From top to bottom:
//!
//! ```text
//! adopt, cache           what builds make, and what they remember
//! remote                 pull and push
//! load, import, commit   archives and containers become images
//! squash, compare        several layers become one; two images side by side
//! mounts, prune          images seen on the host, and those that nobody needs
//! save, members, export  images and containers become archives
//! remove, store          names -> manifests -> configs -> layers, on disk
//! lookup, summary, usage   many names at once, and the room that their layers take
//! steps                  the history of one image
//! layer                  one unpacked layer: made once, published by a rename, turned back into its tar
//! difference             the names of what a container has changed
//! changes, place         what a container has changed, and the layer made of it
//! union                  stacked layers read as one tree, without mounting
//! unpack                 any archive into a folder
//! borrow                 what a layer takes from those below it
//! diff, apply, recipe    tree -> canonical tar, tar -> tree, and what it takes to make a foreign tar again
//! transfer               trees outside of layers as streams of entries: copies, archives of volumes
//! progress               what is told while images move
//! copy, content          single files with all their attributes
//! tar                    the format itself, both ways
//! together               the same work on many things at once
//! feed                   reading, decompressing and hashing on threads of their own
//! config, reference, digest, manifest, platform   documents and names
//! ```

mod adopt;
mod apply;
mod archive;
mod borrow;
mod cache;
mod changes;
mod commit;
mod compare;
pub mod config;
mod content;
pub mod copy;
mod diff;
pub mod difference;
pub mod digest;
mod export;
mod feed;
mod import;
mod index;
mod layer;
mod load;
mod lookup;
mod manifest;
mod members;
mod mounts;
mod place;
mod platform;
pub mod progress;
mod prune;
mod recipe;
pub mod reference;
mod remote;
mod remove;
mod save;
mod squash;
mod steps;
mod store;
mod summary;
mod tar;
#[cfg(test)]
pub(crate) mod tests;
mod together;
pub mod transfer;
pub mod union;
pub mod unpack;
mod usage;

pub use adopt::Draft;
pub use cache::{CacheEntry, Remembered};
pub use commit::{CommitSource, NewImage};
pub use compare::{Change, Difference};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig};
pub use digest::Digest;
pub use import::ImportOptions;
pub use load::{LoadEvent, Loaded};
pub use lookup::Lookup;
pub use manifest::host_architecture;
pub use members::{FolderMembers, Members, TarMembers};
pub use platform::Wanted;
pub use prune::{PruneChoice, Pruned};
pub use reference::Reference;
pub use remote::{Interrupted, PullOptions, Pulled, Pushed, RemoteManifest};
pub use remove::{ImageUse, Removal, RemoveHow};
pub use save::{Saving, Selected};
pub use squash::kept_layers;
pub use steps::HistoryStep;
pub use store::{Damaged, Image, Listed, Listing, Store};
pub use summary::{Summaries, Summary};
pub use usage::LayerUse;
