//! Pull and push: images move between the store and registries.
//!
//! ```text
//! pull        a name -> (index ->) manifest -> configuration -> layers -> the store
//! fetch       the layers that are missing, several at once, each verified and unpacked while it arrives
//! download    one blob as a stream that survives broken connections and, by `partial`, killed processes
//! push        layers that the registry lacks, then the configuration, then the manifest
//! provide     one layer to the registry: there already, mounted, or compressed and sent
//! origins     where a layer was seen, and as which blob
//! manifests   what `manifest inspect` shows
//! gzip        the same bytes always become the same compressed bytes, by all processors
//! ```
//! No lock of the store is held while anything moves: a layer is made in a scratch folder of its own, and what counts
//! is looked at again when the lock is held to give the image its name.

mod download;
mod fetch;
mod gzip;
mod manifests;
mod origins;
mod partial;
mod provide;
mod pull;
mod push;

pub use fetch::Interrupted;
pub use manifests::RemoteManifest;
pub(super) use partial::sweep as sweep_partial;
pub use pull::{PullOptions, Pulled};
pub use push::Pushed;
