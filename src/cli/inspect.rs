//! `inspect`: the whole truth about containers and images, in Docker's form.

use super::inspect_container::container_document;
use super::inspect_image::image_document;
use super::template::render_one;
use super::{App, output};
use crate::container::containers::{Containers, NoSuchContainer};
use crate::image::Store;
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
    /// Look only for a `container` or an `image`
    #[arg(long = "type")]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true)]
    objects: Vec<String>,
}

/// `minirun inspect`, of both kinds or of one.
pub fn run(app: &App, args: &InspectArgs, kind: Option<&str>) -> Result<u8> {
    let kind = kind.or(args.kind.as_deref()).filter(|k| !k.is_empty());
    if let Some(bad) = kind.filter(|k| !["container", "image"].contains(k)) {
        return Err(anyhow!("{bad:?} is not a valid value for --type: it is container or image"));
    }
    let mut found: Vec<Value> = Vec::new();
    let mut errors = Vec::new();
    for name in &args.objects {
        match object(app, name, kind, args.size) {
            Ok(document) => found.push(document),
            Err(error) => errors.push(error),
        }
    }
    match args.format.as_deref().filter(|format| *format != "json") {
        Some(template) => {
            for document in &found {
                output::line(&through(template, document)?)?;
            }
        }
        None => {
            found.iter_mut().for_each(without_absent);
            let found = Value::Array(found);
            output::line(&if args.format.is_some() { found.to_string() } else { pretty(&found)? })?;
        }
    }
    for error in &errors {
        output::complain(error);
    }
    Ok(u8::from(!errors.is_empty()))
}

/// A document through a template. What is absent shows as Docker's typed fields do: an empty list or map.
fn through(template: &str, document: &Value) -> Result<String> {
    let text = render_one(template, document)?;
    if !text.contains("<no value>") {
        return Ok(text);
    }
    let mut filled = document.clone();
    fill(&mut filled);
    render_one(template, &filled)
}

/// Fields that are neither lists nor maps.
const SINGLE: [&str; 11] = [
    "Health",
    "Healthcheck",
    "PidsLimit",
    "MemorySwappiness",
    "OomKillDisable",
    "Init",
    "StopTimeout",
    "StopSignal",
    "IPAMConfig",
    "SizeRw",
    "SizeRootFs",
];

const MAPS: [&str; 8] =
    ["Volumes", "Labels", "ExposedPorts", "Sysctls", "Tmpfs", "DriverOpts", "StorageOpt", "Annotations"];

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
    ("ContainerConfig", &["ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout", "Shell"]),
    ("", &["SizeRw", "SizeRootFs"]),
    ("State", &["Health"]),
    ("HostConfig", &["Annotations", "Init", "Sysctls", "Tmpfs"]),
    ("Config", &["ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout", "Shell"]),
];

fn without_absent(document: &mut Value) {
    for (part, keys) in OPTIONAL {
        let part = if part.is_empty() { Some(&mut *document) } else { document.get_mut(part) };
        if let Some(Value::Object(map)) = part {
            map.retain(|key, value| !(value.is_null() && keys.contains(&key.as_str())));
        }
    }
}

/// A document as Docker prints it.
pub(super) fn pretty(document: &Value) -> Result<String> {
    use serde::Serialize;
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut out, indent))?;
    Ok(String::from_utf8(out)?)
}

fn object(app: &App, name: &str, kind: Option<&str>, size: bool) -> Result<Value> {
    if kind != Some("image") {
        match Containers::open(&app.root).find(name) {
            Ok(container) => return container_document(app, &container, size),
            Err(error) if kind.is_none() && error.is::<NoSuchContainer>() => {}
            Err(error) => return Err(error),
        }
    }
    let store = Store::open(&app.root);
    match store.find(name).unwrap_or(None) {
        Some(image) => image_document(&store, &image),
        None if kind == Some("image") => Err(anyhow!("No such image: {name}")),
        None => Err(anyhow!("No such object: {name}")),
    }
}

/// Docker shows these fields even when they are empty, and templates count on them.
pub fn full_config(config: Value) -> Value {
    let defaults = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": [], "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "ExposedPorts": null, "Healthcheck": null, "StopSignal": null, "StopTimeout": null, "Shell": null,
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
