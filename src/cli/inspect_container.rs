//! The document of a container, in Docker's form.

use super::inspect::{NEVER, full_config};
use super::inspect_host::host_config;
use super::inspect_network::network_settings;
use super::{App, inspect_mounts};
use crate::container::containers::Container;
use crate::container::record::Record;
use crate::container::start::{stop_settings, user_of};
use crate::container::state::{Snapshot, Status};
use crate::image::Store;
use crate::sys::depth;
use anyhow::Result;
use serde_json::{Value, json};

/// Everything about a container; its sizes, which have to be measured, if asked.
pub fn container_document(app: &App, container: &Container, size: bool) -> Result<Value> {
    let (record, snapshot) = (&container.record, container.snapshot()?);
    let command = record.command_line();
    // Its mounts are its own: from here they are seen through its first process.
    let merged = snapshot.init().map_or_else(String::new, |init| format!("/proc/{}/root", init.pid));
    let (dir, bundle) = (container.dir(), container.bundle());
    let path = |sub: &str| dir.join(sub).display().to_string();
    let of_run = |sub: &str| bundle.join(sub).display().to_string();
    let running = snapshot.running.as_ref();
    let restarts = running.map_or_else(|| snapshot.ended.as_ref().map_or(0, |e| e.restarts), |r| r.restarts);
    let lower: Vec<String> =
        Store::open(&app.root).dirs_of(container.layers())?.iter().rev().map(|d| d.display().to_string()).collect();
    let mut document = json!({
        "Id": record.id,
        "Created": record.created,
        "Path": command.first(),
        "Args": command.get(1..).unwrap_or_default(),
        "State": state(container, &snapshot),
        "Image": record.image.to_string(),
        "ResolvConfPath": of_run("resolv.conf"),
        "HostnamePath": of_run("hostname"),
        "HostsPath": of_run("hosts"),
        "LogPath": container.log_path().display().to_string(),
        "Name": format!("/{}", record.name),
        "RestartCount": restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": record.options.security.apparmor.as_deref().unwrap_or_default(),
        "ExecIDs": null,
        "HostConfig": host_config(container),
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "LowerDir": lower.join(":"), "UpperDir": path("upper"), "WorkDir": path("work"),
                      "MergedDir": merged },
        },
        "Mounts": inspect_mounts::mounts(app, record),
        "Config": config(container)?,
        "NetworkSettings": network_settings(app, container, snapshot.init().map(|init| init.pid))?,
        "SizeRw": null,
        "SizeRootFs": null,
    });
    if size {
        let store = Store::open(&app.root);
        depth::make_room();
        let own = container.writable_size()?;
        let image = container.layers().iter().filter_map(|l| store.layer_size(l).ok()).sum::<u64>();
        document["SizeRw"] = own.into();
        document["SizeRootFs"] = (own + image).into();
    }
    Ok(document)
}

fn state(container: &Container, snapshot: &Snapshot) -> Value {
    let (running, ended) = (snapshot.running.as_ref(), snapshot.ended.as_ref());
    let or_never = |t: Option<&String>| t.filter(|t| !t.is_empty()).cloned().unwrap_or_else(|| NEVER.to_owned());
    let is_up = snapshot.status.is_up();
    json!({
        // Before the first start nobody knows anything.
        "Health": container.health().filter(|_| is_up || ended.is_some()),
        "Status": snapshot.status.word(),
        "Running": is_up,
        "Paused": snapshot.status == Status::Paused,
        "Restarting": snapshot.status == Status::Restarting,
        "OOMKilled": !is_up && ended.is_some_and(|e| e.oom_killed),
        "Dead": false,
        "Pid": snapshot.init().map_or(0, |i| i.pid),
        "ExitCode": if is_up { running.and_then(|r| r.last_exit).unwrap_or(0) } else { ended.map_or(0, |e| e.exit_code) },
        "Error": if is_up { "" } else { ended.map_or("", |e| e.error.as_str()) },
        "StartedAt": or_never(running.map(|r| &r.started_at).or(ended.map(|e| &e.started_at))),
        "FinishedAt": or_never(ended.map(|e| &e.finished_at)),
    })
}

fn config(container: &Container) -> Result<Value> {
    let (record, o) = (&container.record, &container.record.options);
    let own = crate::container::commit::config(record);
    let mut config = full_config(serde_json::to_value(own)?);
    config["Hostname"] = record.hostname().into();
    config["Domainname"] = o.domainname.clone().unwrap_or_default().into();
    config["User"] = user_of(record).into();
    config["Tty"] = o.tty.into();
    config["OpenStdin"] = o.interactive.into();
    config["Image"] = record.image_name.clone().into();
    config["Labels"] = serde_json::to_value(record.labels())?;
    config["AttachStdin"] = o.interactive.into();
    config["AttachStdout"] = true.into();
    config["AttachStderr"] = true.into();
    config["StdinOnce"] = o.interactive.into();
    config["StopTimeout"] = stop_settings(record).1.into();
    if let Some(health) = health(record) {
        config["Healthcheck"] = health;
    }
    Ok(config)
}

/// The check as it is done, in the form of an image's.
fn health(record: &Record) -> Option<Value> {
    if record.options.health.off {
        return Some(json!({ "Test": ["NONE"] }));
    }
    let check = record.check()?;
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let test = match &record.options.health.command {
        Some(line) => json!(["CMD-SHELL", line]),
        None => json!(record.config().healthcheck.unwrap_or_default().test),
    };
    Some(json!({
        "Test": test,
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "Retries": check.retries,
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval),
    }))
}
