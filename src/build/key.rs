//! What the cache knows steps by: a digest of everything that their result depends on.

use crate::image::Digest;
use crate::image::digest::Hasher;

/// Changes when results of the same step would come out differently than by an earlier version.
const VERSION: &str = "minirun build 1";

/// A key in the making. Every part counts with its name and length, so that no two lists of parts are the same bytes.
pub struct Key(Hasher);

impl Key {
    /// Of a step of this kind on these layers.
    pub fn new(kind: &str, layers: &[Digest]) -> Key {
        let mut key = Key(Hasher::new());
        key.part("version", VERSION);
        key.part("kind", kind);
        key.list("layers", layers.iter().map(Digest::to_string));
        key
    }

    /// Adds something.
    pub fn part(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for bytes in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
    }

    /// Adds several things of one kind, in order.
    pub fn list(&mut self, name: &str, values: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let values: Vec<_> = values.into_iter().collect();
        self.part(name, values.len().to_string());
        values.iter().for_each(|value| self.part(name, value));
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> Digest {
        let mut key = Key::new("RUN", &[]);
        parts.iter().for_each(|(name, value)| key.part(name, value));
        key.finish()
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_eq!(key(&[("a", "bc")]), key(&[("a", "bc")]));
        let others: [&[(&str, &str)]; 4] = [&[("ab", "c")], &[("a", "b"), ("", "c")], &[("a", "bc"), ("", "")], &[]];
        others.iter().for_each(|other| assert_ne!(key(&[("a", "bc")]), key(other)));
    }
}
