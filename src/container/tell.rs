//! What the journal says about containers.

use super::containers::Container;
use super::record::Record;
use crate::journal;
use crate::layout::Root;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whom a happening is about: as much as somebody needs who has not the container's record at hand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Actor {
    id: String,
    attributes: BTreeMap<String, String>,
}

impl Actor {
    /// A container, with its labels, its image and its name.
    pub fn of(record: &Record) -> Actor {
        let mut attributes = record.labels();
        attributes.insert("image".into(), record.image_name.clone());
        attributes.insert("name".into(), record.name.clone());
        Actor { id: record.id.clone(), attributes }
    }

    /// Writes down that something happened to it.
    pub fn tell(&self, root: &Root, action: &str, more: &[(&str, String)]) {
        let mut attributes = self.attributes.clone();
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        journal::record(root, "container", action, &self.id, attributes);
    }
}

impl Container {
    /// Writes down that something happened to it, with what else there is to know.
    pub fn tell(&self, action: &str, more: &[(&str, String)]) {
        Actor::of(&self.record).tell(&self.root, action, more);
    }
}
