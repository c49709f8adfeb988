//! The document of an image, in Docker's form.

use super::inspect::{NEVER, full_config};
use crate::image::{Image, Store};
use anyhow::Result;
use serde_json::{Value, json};

/// Everything about an image.
pub fn image_document(store: &Store, image: &Image) -> Result<Value> {
    let lookup = store.lookup()?;
    let names: Vec<_> = lookup.entries(image.id).collect();
    let tags: Vec<String> = names.iter().filter(|(r, _)| r.tag().is_some()).map(|(r, _)| r.familiar()).collect();
    // What registries know it by: there are such names after a pull or a push only.
    let mut digests: Vec<String> =
        names.iter().filter_map(|(r, _)| Some(format!("{}@{}", r.familiar_name(), r.digest()?))).collect();
    digests.sort();
    digests.dedup();
    let config = &image.config;
    let size = store.size(image)?;
    let comment = config.history.last().map(|h| h.comment.clone()).unwrap_or_default();
    let dirs: Vec<String> = store.layer_dirs(image)?.iter().rev().map(|d| d.display().to_string()).collect();
    let mut data = match dirs.split_first() {
        Some((top, [])) => json!({ "UpperDir": top }),
        Some((top, rest)) => json!({ "UpperDir": top, "LowerDir": rest.join(":") }),
        None => json!({}),
    };
    if let Some((_, place)) = store.mounted()?.into_iter().find(|(mounted, _)| *mounted == image.id) {
        data["MergedDir"] = place.display().to_string().into();
    }
    let other = |key: &str| config.other.get(key).cloned().unwrap_or_else(|| "".into());
    let step = config.other.get("container_config").cloned().unwrap_or_else(|| json!({}));
    let mut document = json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": image.parent.map(|p| p.to_string()).unwrap_or_default(),
        "Comment": comment,
        "Created": config.created,
        "Container": other("container"),
        "ContainerConfig": full_config(step),
        "DockerVersion": other("docker_version"),
        "Author": config.author,
        "Config": full_config(serde_json::to_value(config.config.clone().unwrap_or_default())?),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": { "Name": "overlay", "Data": data },
        "RootFS": { "Type": "layers", "Layers": image.layers() },
        "Metadata": { "LastTagTime": NEVER },
    });
    for (key, name) in [("variant", "Variant"), ("os.version", "OsVersion")] {
        document[name] = other(key);
    }
    Ok(document)
}
