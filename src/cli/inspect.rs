//! `inspect`: the whole truth about containers and images, in Docker's form.

use super::template::render_one;
use super::{App, output};
use crate::container::containers::{Container, Containers, NoSuchContainer};
use crate::container::options::{
    LogDriver, MountSource, NetworkMode, RestartPolicy, RunOptions, Seccomp, SecurityOptions,
};
use crate::container::record::{MountPoint, Record};
use crate::container::start::{stop_settings, user_of};
use crate::container::state::{Snapshot, Status};
use crate::image::{Image, Store};
use crate::volume::Volumes;
use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A template for each object
    #[arg(short, long)]
    format: Option<String>,
    /// Show sizes of containers
    #[arg(short, long)]
    size: bool,
    /// Look only for a container or an image
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
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for name in &args.objects {
        match object(app, name, kind, args.size) {
            Ok(document) => found.push(document),
            Err(error) => errors.push(error),
        }
    }
    match &args.format {
        Some(template) => {
            for document in &found {
                output::line(&render_one(template, document)?)?;
            }
        }
        None => output::line(&pretty(&Value::Array(found))?)?,
    }
    for error in &errors {
        output::complain(error);
    }
    Ok(u8::from(!errors.is_empty()))
}

fn pretty(document: &Value) -> Result<String> {
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

fn image_document(store: &Store, image: &Image) -> Result<Value> {
    let listing = store.list()?;
    let names: Vec<_> =
        listing.images.iter().filter(|l| l.image.id == image.id).filter_map(|l| l.reference.as_ref()).collect();
    let tags: Vec<String> = names.iter().filter(|r| r.tag().is_some()).map(|r| r.familiar()).collect();
    let digests: Vec<String> = names.iter().map(|r| format!("{}@{}", r.familiar_name(), image.manifest)).collect();
    let config = &image.config;
    let size = store.size(image)?;
    let comment = config.history.last().map(|h| h.comment.clone()).unwrap_or_default();
    let dirs: Vec<String> = store.layer_dirs(image)?.iter().rev().map(|d| d.display().to_string()).collect();
    let data = match dirs.split_first() {
        Some((top, rest)) => json!({ "UpperDir": top, "LowerDir": rest.join(":") }),
        None => json!({}),
    };
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": image.parent.map(|p| p.to_string()).unwrap_or_default(),
        "Comment": comment,
        "Created": config.created,
        "Author": config.author,
        "Config": full_config(serde_json::to_value(config.config.clone().unwrap_or_default())?),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": { "Name": "overlay", "Data": data },
        "RootFS": { "Type": "layers", "Layers": image.layers() },
    }))
}

/// Docker shows these fields even when they are empty, and templates count on them.
fn full_config(config: Value) -> Value {
    let defaults = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": [], "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
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

fn container_document(app: &App, container: &Container, size: bool) -> Result<Value> {
    let (record, snapshot) = (&container.record, container.snapshot()?);
    let command = record.command_line();
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
        "AppArmorProfile": "",
        "HostConfig": host_config(container),
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "LowerDir": lower.join(":"), "UpperDir": path("upper"), "WorkDir": path("work"),
                      "MergedDir": app.root.join("rootfs").display().to_string() },
        },
        "Mounts": record.mounts.iter().filter_map(|m| mount(app, m)).collect::<Vec<_>>(),
        "Config": config(container)?,
        "NetworkSettings": network(container),
    });
    if size {
        let store = Store::open(&app.root);
        let own = container.writable_size()?;
        let image = container.layers().iter().filter_map(|l| store.layer_size(l).ok()).sum::<u64>();
        document["SizeRw"] = own.into();
        document["SizeRootFs"] = (own + image).into();
    }
    Ok(document)
}

const NEVER: &str = "0001-01-01T00:00:00Z";

fn state(container: &Container, snapshot: &Snapshot) -> Value {
    let (running, ended) = (snapshot.running.as_ref(), snapshot.ended.as_ref());
    let or_never = |t: Option<&String>| t.filter(|t| !t.is_empty()).cloned().unwrap_or_else(|| NEVER.to_owned());
    let is_up = snapshot.status.is_up();
    let mut state = json!({
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
    });
    // Before the first start nobody knows anything.
    if let Some(health) = container.health().filter(|_| is_up || ended.is_some()) {
        state["Health"] = json!(health);
    }
    state
}

fn host_config(container: &Container) -> Value {
    let o = &container.record.options;
    let binds: Vec<String> = container.record.mounts.iter().filter(|m| !m.anonymous).filter_map(bind).collect();
    let (policy, retries) = match o.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure(n) => ("on-failure", n),
    };
    let r = &o.resources;
    let mut config = json!({
        "Binds": binds,
        "AutoRemove": o.remove,
        "CapAdd": o.cap_add,
        "CapDrop": o.cap_drop,
        "CgroupParent": o.cgroup_parent.clone().unwrap_or_default(),
        "CpuShares": r.cpu_shares.unwrap_or(0),
        "CpusetCpus": r.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": r.cpuset_mems.clone().unwrap_or_default(),
        "ExtraHosts": o.extra_hosts,
        "GroupAdd": o.group_add,
        "Init": o.init,
        "LogConfig": {
            "Type": match o.log_driver {
                LogDriver::JsonFile => "json-file",
                LogDriver::Local => "local",
                LogDriver::None => "none",
            },
            "Config": { "max-size": o.log.max_size.to_string(), "max-file": o.log.max_files.to_string() },
        },
        "Memory": r.memory.unwrap_or(0),
        "MemoryReservation": r.memory_reservation.unwrap_or(0),
        "MemorySwap": r.memory_swap.or(r.memory.map(|m| m.saturating_mul(2))).unwrap_or(0),
        "NanoCpus": r.nano_cpus.unwrap_or(0),
        "NetworkMode": if o.network == NetworkMode::Host { "host" } else { "none" },
        "OomScoreAdj": o.oom_score_adj.unwrap_or(0),
        "PidsLimit": r.pids_limit,
        "PortBindings": {},
        "Privileged": o.privileged,
        "ReadonlyRootfs": o.read_only,
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": retries },
        "SecurityOpt": security_options(&o.security),
        "ShmSize": o.shm_size.unwrap_or(64 << 20),
        "Sysctls": o.sysctls,
        "Ulimits": o.ulimits.iter().map(|u| json!({ "Name": u.name, "Soft": u.soft, "Hard": u.hard })).collect::<Vec<_>>(),
        "VolumesFrom": null,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut config, finer_host_config(o)) {
        all.extend(more);
    }
    config
}

/// What is asked for less often.
fn finer_host_config(o: &RunOptions) -> Value {
    let r = &o.resources;
    let rates = |list: &[(String, u64)]| -> Vec<Value> {
        list.iter().map(|(path, rate)| json!({ "Path": path, "Rate": rate })).collect()
    };
    let weights = r.block_io.weight_devices.iter().map(|(path, weight)| json!({ "Path": path, "Weight": weight }));
    let devices = o
        .devices
        .iter()
        .map(|d| json!({ "PathOnHost": d.host, "PathInContainer": d.container, "CgroupPermissions": d.access }));
    json!({
        "Annotations": o.annotations,
        "BlkioDeviceReadBps": rates(&r.block_io.read_bps),
        "BlkioDeviceReadIOps": rates(&r.block_io.read_iops),
        "BlkioDeviceWriteBps": rates(&r.block_io.write_bps),
        "BlkioDeviceWriteIOps": rates(&r.block_io.write_iops),
        "BlkioWeight": r.block_io.weight.unwrap_or(0),
        "BlkioWeightDevice": weights.collect::<Vec<_>>(),
        "CgroupnsMode": o.cgroup_namespace.shown("private"),
        "CpuPeriod": r.cpu_period.unwrap_or(0),
        "CpuQuota": r.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": r.cpu_realtime_period.unwrap_or(0),
        "CpuRealtimeRuntime": r.cpu_realtime_runtime.unwrap_or(0),
        "DeviceCgroupRules": o.device_rules,
        "Devices": devices.collect::<Vec<_>>(),
        "IpcMode": o.ipc.shown("private"),
        "MemorySwappiness": r.memory_swappiness,
        "OomKillDisable": r.oom_kill_disable,
        "PidMode": o.pid.shown(""),
        "Runtime": "minirun",
        "UTSMode": o.uts.shown(""),
        "UsernsMode": "",
    })
}

fn security_options(security: &SecurityOptions) -> Vec<String> {
    let mut list = Vec::new();
    if security.no_new_privileges {
        list.push("no-new-privileges".to_owned());
    }
    match &security.seccomp {
        Seccomp::Builtin => {}
        Seccomp::Unconfined => list.push("seccomp=unconfined".into()),
        Seccomp::Profile(profile) => list.push(format!("seccomp={}", json!(profile))),
    }
    list
}

fn bind(point: &MountPoint) -> Option<String> {
    let source = match &point.source {
        MountSource::Bind { path, .. } => path,
        MountSource::Volume(name) => name,
        _ => return None,
    };
    Some(format!("{source}:{}{}", point.target, if point.read_only { ":ro" } else { "" }))
}

fn mount(app: &App, point: &MountPoint) -> Option<Value> {
    let common = |kind: &str, name: Option<&str>, source: String| {
        let mut value = json!({
            "Type": kind,
            "Source": source,
            "Destination": point.target,
            "Mode": if point.read_only { "ro" } else { "" },
            "RW": !point.read_only,
            "Propagation": if kind == "bind" { point.propagation.as_deref().unwrap_or("rprivate") } else { "" },
        });
        if let Some(name) = name {
            value["Name"] = name.into();
            value["Driver"] = "local".into();
        }
        value
    };
    match &point.source {
        MountSource::Bind { path, .. } => Some(common("bind", None, path.clone())),
        MountSource::Volume(name) => {
            let source = Volumes::open(&app.root).data(name).display().to_string();
            Some(common("volume", Some(name), source))
        }
        MountSource::Tmpfs { .. } => Some(common("tmpfs", None, String::new())),
        MountSource::Anonymous => None,
    }
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
    config["StopTimeout"] = stop_settings(record).1.into();
    if let Some(health) = health(record) {
        config["Healthcheck"] = health;
    }
    config["Env"] = serde_json::to_value(crate::container::compose::environment(record, "/root"))?;
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

fn network(container: &Container) -> Value {
    let name = if container.record.options.network == NetworkMode::Host { "host" } else { "none" };
    let endpoint = json!({ "IPAddress": "", "Gateway": "", "MacAddress": "" });
    json!({ "Ports": {}, "IPAddress": "", "Gateway": "", "MacAddress": "", "Networks": { name: endpoint } })
}
