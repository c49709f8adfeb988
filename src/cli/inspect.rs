//! `inspect`: the whole truth about what there is, in Docker's form.

use super::inspect_container::container_document;
use super::inspect_image::image_document;
use super::template::{render, render_one};
use super::{App, inspect_mounts, networks, output, volume};
use crate::container::containers::{Containers, NoSuchContainer};
use crate::image::Store;
use crate::network::definition::NoSuchNetwork;
use crate::volume::Volumes;
use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};

/// A moment that never was, as Go writes it.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a template everything is shown as JSON. Templates are Go's, with json, join, split, lower, upper, title, index,
len, println and printf, for example
  minirun inspect -f '{{.State.Status}} {{.State.ExitCode}}' web
  minirun inspect -f '{{range .Mounts}}{{.Source}} -> {{.Destination}}{{println}}{{end}}' web
  minirun inspect -f '{{json .Config.Env}}' debian:12")]
pub struct InspectArgs {
    /// A Go template for each object, or `json`
    #[arg(short, long)]
    format: Option<String>,
    /// Show sizes of containers
    #[arg(short, long)]
    size: bool,
    /// Look only for a `container`, an `image`, a `network` or a `volume`
    #[arg(long = "type")]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    objects: Vec<String>,
}

/// `minirun inspect`, of both kinds or of one.
pub fn run(app: &App, args: &InspectArgs, kind: Option<&str>) -> Result<u8> {
    let kind = kind.or(args.kind.as_deref()).filter(|k| !k.is_empty());
    if let Some(bad) = kind.filter(|k| !["container", "image", "network", "volume"].contains(k)) {
        return Err(anyhow!("{bad:?} is not a valid value for --type: it is container, image, network or volume"));
    }
    let mut found: Vec<Value> = Vec::new();
    let mut errors = Vec::new();
    for name in &args.objects {
        match object(app, name, kind, args.size) {
            Ok(document) => found.push(document),
            Err(error) => errors.push(error),
        }
    }
    show(found, args.format.as_deref())?;
    for error in &errors {
        output::complain(error);
    }
    Ok(u8::from(!errors.is_empty()))
}

/// Documents through a template or, without one, as Docker prints them.
pub(super) fn show(mut found: Vec<Value>, format: Option<&str>) -> Result<()> {
    match format.unwrap_or_default() {
        format @ ("" | "json") => {
            found.iter_mut().for_each(without_absent);
            let found = Value::Array(found);
            output::line(&if format.is_empty() { pretty(&found)? } else { found.to_string() })
        }
        template => found.iter().try_for_each(|document| output::line(&through(template, document)?)),
    }
}

/// What a key shows as that a map does not have.
const NO_VALUE: &str = "<no value>";

/// A document through a template. What is absent shows as Docker's typed fields do: an empty list or map, or `<nil>`.
fn through(template: &str, document: &Value) -> Result<String> {
    let text = render_one(template, document)?;
    if !text.contains(NO_VALUE) {
        return Ok(text);
    }
    let mut filled = document.clone();
    fill(&mut filled);
    let (text, lacks_keys) = render(template, &filled)?;
    Ok(if lacks_keys { text } else { text.replace(NO_VALUE, "<nil>") })
}

/// Fields that are neither lists nor maps.
const SINGLE: [&str; 10] = [
    "Health",
    "Healthcheck",
    "PidsLimit",
    "MemorySwappiness",
    "OomKillDisable",
    "Init",
    "StopTimeout",
    "IPAMConfig",
    "SizeRw",
    "SizeRootFs",
];

const MAPS: [&str; 9] =
    ["Volumes", "Labels", "Options", "ExposedPorts", "Sysctls", "Tmpfs", "DriverOpts", "StorageOpt", "Annotations"];

fn fill(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::Null if SINGLE.contains(&key.as_str()) => {}
                    Value::Null if MAPS.contains(&key.as_str()) => *value = json!({}),
                    Value::Null => *value = json!([]),
                    other => fill(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fill),
        _ => {}
    }
}

/// Fields that templates may ask for, but which the document has only when they are set.
const OPTIONAL: [(&str, &[&str]); 5] = [
    ("ContainerConfig", &OPTIONAL_SETTINGS),
    ("", &["SizeRw", "SizeRootFs", "Variant", "OsVersion"]),
    ("State", &["Health"]),
    ("HostConfig", &["Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs"]),
    ("Config", &OPTIONAL_SETTINGS),
];

const OPTIONAL_SETTINGS: [&str; 7] =
    ["ExposedPorts", "Healthcheck", "MacAddress", "NetworkDisabled", "Shell", "StopSignal", "StopTimeout"];

fn without_absent(document: &mut Value) {
    inspect_mounts::without_absent(document);
    for (part, keys) in OPTIONAL {
        let part = if part.is_empty() { Some(&mut *document) } else { document.get_mut(part) };
        if let Some(Value::Object(map)) = part {
            let is_empty = |value: &Value| value.is_null() || *value == "" || *value == false;
            map.retain(|key, value| !(is_empty(value) && keys.contains(&key.as_str())));
        }
    }
}

/// A document as Docker prints it.
fn pretty(document: &Value) -> Result<String> {
    use serde::Serialize;
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut out, indent))?;
    Ok(String::from_utf8(out)?)
}

/// What a name means: a container, else an image, else a network, else a volume; or one of a kind.
fn object(app: &App, name: &str, kind: Option<&str>, size: bool) -> Result<Value> {
    let is_asked = |this: &str| kind.is_none_or(|kind| kind == this);
    if is_asked("container") {
        match Containers::open(&app.root).find(name) {
            Ok(container) => return container_document(app, &container, size),
            Err(error) if kind.is_none() && error.is::<NoSuchContainer>() => {}
            Err(error) => return Err(error),
        }
    }
    if is_asked("image") {
        let store = Store::open(&app.root);
        if let Some(image) = store.find(name).unwrap_or(None) {
            return image_document(&store, &image);
        }
    }
    if is_asked("network") {
        match networks::document_of(app, name) {
            Ok(document) => return Ok(document),
            Err(error) if kind.is_none() && error.is::<NoSuchNetwork>() => {}
            Err(error) => return Err(error),
        }
    }
    if is_asked("volume")
        && let Some(found) = Volumes::open(&app.root).get(name)
    {
        return Ok(volume::document(&found));
    }
    Err(anyhow!("No such {}: {name}", kind.unwrap_or("object")))
}

/// Docker shows these fields even when they are empty, and templates count on them.
pub fn full_config(config: Value) -> Value {
    let defaults = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": [], "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "ExposedPorts": null, "Healthcheck": null, "StopSignal": "", "StopTimeout": null, "Shell": null,
        "NetworkDisabled": false, "MacAddress": "",
    });
    let mut out = match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if let Value::Object(own) = config {
        out.extend(own);
    }
    Value::Object(out)
}
