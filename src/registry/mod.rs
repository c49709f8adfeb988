//! The registry room: an HTTP client of the OCI distribution specification, and whom it says it is.
//!
//! ```text
//! repository, upload     manifests, blobs, tags; sending blobs whole, in pieces, or by mounting
//! session                one registry: scheme, tokens, redirects, repetition after what passes
//! token, challenge       what a 401 asks for, and getting it
//! web                    what is at any address, for `ADD`
//! address                what of an address may be shown
//! http                   one request to one host, by that host's TLS settings and proxy
//! credentials, helper    Docker's and Podman's files, and the programs that keep secrets
//! settings               our own file: mirrors and what differs from registry to registry
//! ```
//! Digests are text here: whoever receives content compares it. Nothing is read or connected before it is needed.

pub mod address;
mod challenge;
mod credentials;
mod errors;
mod helper;
mod http;
mod repository;
mod session;
mod settings;
mod token;
mod upload;
mod web;

pub use credentials::{CredentialStore, Credentials, HUB_KEY, Kept};
pub use errors::{Refused, is_passing, pause};
pub use http::Source;
pub use repository::{Part, Received, Repository};
pub use session::{Registries, Rights};
pub use settings::{Settings, Surroundings};
pub use web::Web;
