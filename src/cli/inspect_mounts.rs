//! The mounts of a container as `inspect` shows them.

use super::App;
use crate::container::options::{MountSource, Tuning};
use crate::container::record::{MountPoint, Record};
use crate::volume::Volumes;
use serde_json::{Map, Value, json};

/// `Mounts`: everything but what `--tmpfs` asked for, which Docker keeps elsewhere.
pub(super) fn mounts(app: &App, record: &Record) -> Value {
    record.mounts.iter().filter(|m| !is_plain_tmpfs(m)).filter_map(|m| mount(app, m)).collect()
}

/// `HostConfig.Tmpfs`.
pub(super) fn tmpfs(record: &Record) -> Value {
    let options = |m: &MountPoint| match &m.source {
        MountSource::Tmpfs { size, mode, options } => {
            let mut words: Vec<String> = options.clone();
            words.extend(size.map(|s| format!("size={s}")));
            words.extend(mode.map(|m| format!("mode={m:o}")));
            words.extend(m.read_only.then(|| "ro".to_owned()));
            words.join(",")
        }
        _ => String::new(),
    };
    let plain = record.mounts.iter().filter(|m| is_plain_tmpfs(m));
    let map: Map<String, Value> = plain.map(|m| (m.target.clone(), options(m).into())).collect();
    if map.is_empty() { Value::Null } else { Value::Object(map) }
}

/// `HostConfig.Binds`: what `-v` asked for, as it was written.
pub(super) fn binds(record: &Record) -> Vec<String> {
    let asked = record.options.mounts.iter().filter_map(|m| {
        let source = match &m.source {
            MountSource::Bind { path, .. } => path,
            MountSource::Volume(name) => name,
            _ => return None,
        };
        let mode = match (m.tuning.mode.as_str(), m.read_only) {
            ("" | "z", false) => String::new(),
            ("" | "z", true) => ":ro".to_owned(),
            (mode, _) => format!(":{mode}"),
        };
        Some(format!("{source}:{}{mode}", m.target))
    });
    asked.collect()
}

fn is_plain_tmpfs(point: &MountPoint) -> bool {
    matches!(point.source, MountSource::Tmpfs { .. }) && point.tuning.mode == Tuning::PLAIN_TMPFS
}

fn mount(app: &App, point: &MountPoint) -> Option<Value> {
    let common = |kind: &str, source: String| {
        json!({
            "Type": kind,
            "Source": source,
            "Destination": point.target,
            "Mode": point.tuning.mode,
            "RW": !point.read_only,
            "Propagation": if kind == "bind" { point.propagation.as_deref().unwrap_or("rprivate") } else { "" },
        })
    };
    match &point.source {
        MountSource::Bind { path, .. } => Some(common("bind", path.clone())),
        MountSource::Volume(name) => {
            let mut value = common("volume", Volumes::open(&app.root).data(name).display().to_string());
            value["Name"] = name.clone().into();
            value["Driver"] = "local".into();
            Some(value)
        }
        MountSource::Tmpfs { .. } => Some(common("tmpfs", String::new())),
        MountSource::Image { name, .. } => Some(common("image", name.clone())),
        MountSource::Anonymous => None,
    }
}
