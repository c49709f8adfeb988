//! An image's history with what is known of each step here.

use super::digest::Digest;
use super::store::{Image, Store};
use anyhow::Result;

/// One step of an image's making.
#[derive(Clone, Debug)]
pub struct HistoryStep {
    /// The image that the step ended with, if it is here.
    pub image: Option<Digest>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// By which command.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// Bytes of the regular files of its layer; zero if it made none.
    pub size: u64,
}

impl Store {
    /// The steps of an image's making, the last one first. Layers without a step in the history have one of their own.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryStep>> {
        let mut layers = image.layers().iter();
        let mut steps = Vec::new();
        let size = |layer: Option<&Digest>| layer.map_or(Ok(0), |layer| self.layer_size(layer));
        for step in &image.config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            steps.push(HistoryStep {
                image: None,
                created: step.created.clone(),
                created_by: step.created_by.clone(),
                comment: step.comment.clone(),
                size: size(layer)?,
            });
        }
        for layer in layers {
            let (created_by, comment) = (String::new(), String::new());
            steps.push(HistoryStep { image: None, created: None, created_by, comment, size: size(Some(layer))? });
        }
        self.name_steps(image, &mut steps)?;
        steps.reverse();
        Ok(steps)
    }

    /// Each image that this one was made from ends with one of its steps.
    fn name_steps(&self, image: &Image, steps: &mut [HistoryStep]) -> Result<()> {
        if let Some(last) = steps.last_mut() {
            last.image = Some(image.id);
        }
        let lookup = self.lookup()?;
        for parent in lookup.lineage(image.id).skip(1) {
            let Ok(Some(parent)) = self.find(&parent.to_string()) else { break };
            let known = parent.config.history.len().max(1);
            match steps.get_mut(known - 1) {
                Some(step) if step.image.is_none() => step.image = Some(parent.id),
                _ => break,
            }
        }
        Ok(())
    }
}
