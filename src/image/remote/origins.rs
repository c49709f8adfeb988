//! Where a layer was seen: as which blobs, and in which repositories those are.
//!
//! ```text
//! layers/<diff id>/origins.json = [{ "digest", "size", "mediaType", "places": ["registry/repository", …] }, …]
//! ```
//! Memories only: what a registry still has is asked when it matters, and nothing is lost with this file.

use super::super::digest::Digest;
use super::super::layer;
use crate::layout::Root;
use crate::sys::file::{Durability, read_limited, write_atomic};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const LIMIT: u64 = 1 << 20;
const BLOBS: usize = 8;
const PLACES: usize = 16;

/// One blob that a layer is when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    /// The latest first.
    #[serde(default)]
    pub places: Vec<String>,
}

fn path(root: &Root, diff_id: &Digest) -> PathBuf {
    layer::folder(root, diff_id).join("origins.json")
}

/// What is remembered of a layer, the latest first.
pub fn read(root: &Root, diff_id: &Digest) -> Vec<Origin> {
    let data = read_limited(&path(root, diff_id), LIMIT).ok();
    data.and_then(|data| serde_json::from_slice(&data).ok()).unwrap_or_default()
}

/// Remembers that a layer was seen as a blob in a repository.
pub fn remember(root: &Root, diff_id: &Digest, seen: Origin) {
    let old = read(root, diff_id);
    let mut all = old.clone();
    let known = all.iter().position(|o| o.digest == seen.digest).map(|at| all.remove(at));
    let mut places = seen.places.clone();
    places.extend(known.into_iter().flat_map(|o| o.places).filter(|p| !seen.places.contains(p)));
    places.truncate(PLACES);
    all.insert(0, Origin { places, ..seen });
    all.truncate(BLOBS);
    if all != old
        && let Ok(data) = serde_json::to_vec(&all)
    {
        // A memory that cannot be written is none.
        let _ = write_atomic(&path(root, diff_id), &data, Durability::Atomic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::Folder;

    #[test]
    fn the_latest_is_first_and_nothing_is_remembered_twice() {
        let folder = Folder::new();
        let store = folder.store();
        let layer = Digest::of(b"layer");
        std::fs::create_dir(layer::folder(&store.root, &layer)).unwrap();
        let seen = |blob: &[u8], place: &str| Origin {
            digest: Digest::of(blob),
            size: 1,
            media_type: "t".into(),
            places: vec![place.into()],
        };
        for (blob, place) in [(b"a", "r/1"), (b"b", "r/1"), (b"a", "r/2"), (b"a", "r/2")] {
            remember(&store.root, &layer, seen(blob, place));
        }
        let found = read(&store.root, &layer);
        assert_eq!(found.iter().map(|o| o.digest).collect::<Vec<_>>(), [Digest::of(b"a"), Digest::of(b"b")]);
        assert_eq!(found[0].places, ["r/2", "r/1"]);
    }
}
