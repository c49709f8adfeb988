//! The mounts of a container as `inspect` shows them.

use super::App;
use crate::container::options::{Below, MountRequest, MountSource, Tuning};
use crate::container::record::{MountPoint, Record};
use crate::volume::Volumes;
use serde_json::{Map, Value, json};

/// `Mounts`: everything but what `--tmpfs` asked for, which Docker keeps elsewhere.
pub(super) fn mounts(app: &App, record: &Record) -> Value {
    record.mounts.iter().filter(|m| !is_plain_tmpfs(m)).filter_map(|m| mount(app, m)).collect()
}

/// Takes away what only templates may ask for.
pub(super) fn without_absent(document: &mut Value) {
    let mounts = document.get_mut("Mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten().filter_map(Value::as_object_mut) {
        mount.retain(|key, value| value != "" || !["Name", "Driver"].contains(&key.as_str()));
    }
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
    let asked = record.options.mounts.iter().filter(|m| !m.tuning.by_mount).filter_map(|m| {
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

/// `HostConfig.Mounts`: what `--mount` asked for.
pub(super) fn requests(record: &Record) -> Value {
    let asked: Vec<Value> = record.options.mounts.iter().filter(|m| m.tuning.by_mount).map(request).collect();
    if asked.is_empty() { Value::Null } else { asked.into() }
}

fn request(asked: &MountRequest) -> Value {
    let tuning = &asked.tuning;
    let (kind, source, options) = match &asked.source {
        MountSource::Bind { path, .. } => ("bind", path.as_str(), ("BindOptions", bind_options(asked))),
        MountSource::Volume(name) => ("volume", name.as_str(), ("VolumeOptions", volume_options(asked))),
        MountSource::Anonymous => ("volume", "", ("VolumeOptions", volume_options(asked))),
        MountSource::Tmpfs { size, mode, .. } => {
            ("tmpfs", "", ("TmpfsOptions", present([("SizeBytes", json!(size)), ("Mode", json!(mode))])))
        }
        MountSource::Image { name, .. } => {
            ("image", name.as_str(), ("ImageOptions", present([("Subpath", json!(tuning.subpath))])))
        }
    };
    let source = (!source.is_empty()).then_some(source);
    let (key, options) = options;
    present([
        ("Type", json!(kind)),
        ("Source", json!(source)),
        ("Target", json!(asked.target)),
        ("ReadOnly", json!(asked.read_only.then_some(true))),
        (key, if options == json!({}) { Value::Null } else { options }),
    ])
}

fn bind_options(asked: &MountRequest) -> Value {
    let below = asked.tuning.below;
    present([
        ("Propagation", json!(asked.propagation)),
        ("NonRecursive", json!((below == Below::Missing).then_some(true))),
        ("ReadOnlyNonRecursive", json!((below == Below::Writable).then_some(true))),
    ])
}

fn volume_options(asked: &MountRequest) -> Value {
    let Tuning { subpath, volume_labels, volume_options, .. } = &asked.tuning;
    let options = (!volume_options.is_empty()).then_some(json!({ "Options": volume_options }));
    present([
        ("NoCopy", json!(asked.no_copy.then_some(true))),
        ("Labels", json!((!volume_labels.is_empty()).then_some(volume_labels))),
        ("DriverConfig", json!(options)),
        ("Subpath", json!(subpath)),
    ])
}

/// The entries that have a value.
fn present<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let there = entries.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(there.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn is_plain_tmpfs(point: &MountPoint) -> bool {
    matches!(point.source, MountSource::Tmpfs { .. }) && point.tuning.mode == Tuning::PLAIN_TMPFS
}

fn mount(app: &App, point: &MountPoint) -> Option<Value> {
    let common = |kind: &str, source: String| {
        json!({
            "Type": kind,
            "Name": "",
            "Source": source,
            "Destination": point.target,
            "Driver": "",
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
