//! The part of a container's document that is about what was asked of the host.

use super::inspect_mounts;
use super::ports;
use crate::container::compose::{MASKED, READ_ONLY};
use crate::container::containers::Container;
use crate::container::options::{LogDriver, Resources, RestartPolicy, RunOptions, Seccomp, SecurityOptions};
use serde_json::{Value, json};

/// `HostConfig`.
pub fn host_config(container: &Container) -> Value {
    let o = &container.record.options;
    let shown = !o.privileged && !o.security.unmasked_paths;
    let mut config = json!({
        "Binds": list(&inspect_mounts::binds(&container.record)),
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": match o.log_driver {
                LogDriver::JsonFile => "json-file",
                LogDriver::Local => "local",
                LogDriver::None => "none",
            },
            "Config": { "max-size": o.log.max_size.to_string(), "max-file": o.log.max_files.to_string() },
        },
        "NetworkMode": o.network.word(),
        "PortBindings": ports::bindings(container),
        "RestartPolicy": restart_policy(o),
        "AutoRemove": o.remove,
        "VolumeDriver": "",
        "VolumesFrom": list(&o.volumes_from),
        "CapAdd": list(&o.cap_add),
        "CapDrop": list(&o.cap_drop),
        "Annotations": (!o.annotations.is_empty()).then_some(&o.annotations),
        "CgroupnsMode": o.cgroup_namespace.shown("private"),
        "Dns": o.resolver.servers,
        "DnsOptions": o.resolver.options,
        "DnsSearch": o.resolver.search,
        "ExtraHosts": list(&o.extra_hosts),
        "GroupAdd": list(&o.group_add),
        "IpcMode": o.ipc.shown("private"),
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": o.oom_score_adj.unwrap_or(0),
        "PidMode": o.pid.shown(""),
        "Privileged": o.privileged,
        "PublishAllPorts": o.publish_all,
        "ReadonlyRootfs": o.read_only,
        "SecurityOpt": list(&security_options(&o.security)),
        "UTSMode": o.uts.shown(""),
        "UsernsMode": "",
        "ShmSize": o.shm_size.unwrap_or(64 << 20),
        "Runtime": "minirun",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "Init": o.init.then_some(true),
        "StorageOpt": null,
        "Sysctls": (!o.sysctls.is_empty()).then_some(&o.sysctls),
        "Tmpfs": inspect_mounts::tmpfs(&container.record),
        "Mounts": inspect_mounts::requests(&container.record),
        "MaskedPaths": if shown { json!(MASKED) } else { Value::Null },
        "ReadonlyPaths": if shown { json!(READ_ONLY) } else { Value::Null },
    });
    if let (Value::Object(config), Value::Object(limits)) = (&mut config, limits(o)) {
        config.extend(limits);
    }
    config
}

/// Go's form of a list that was never made is `null`.
fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

/// The fields that `update` changes.
fn limits(o: &RunOptions) -> Value {
    let r: &Resources = &o.resources;
    let rates = |list: &[(String, u64)]| -> Vec<Value> {
        list.iter().map(|(path, rate)| json!({ "Path": path, "Rate": rate })).collect()
    };
    let weights = r.block_io.weight_devices.iter().map(|(path, weight)| json!({ "Path": path, "Weight": weight }));
    let devices = o
        .devices
        .iter()
        .map(|d| json!({ "PathOnHost": d.host, "PathInContainer": d.container, "CgroupPermissions": d.access }));
    let ulimits: Vec<Value> =
        o.ulimits.iter().map(|u| json!({ "Name": u.name, "Soft": u.soft, "Hard": u.hard })).collect();
    json!({
        "CpuShares": r.cpu_shares.unwrap_or(0),
        "Memory": r.memory.unwrap_or(0),
        "NanoCpus": r.nano_cpus.unwrap_or(0),
        "CgroupParent": o.cgroup_parent.clone().unwrap_or_default(),
        "BlkioWeight": r.block_io.weight.unwrap_or(0),
        "BlkioWeightDevice": weights.collect::<Vec<_>>(),
        "BlkioDeviceReadBps": rates(&r.block_io.read_bps),
        "BlkioDeviceWriteBps": rates(&r.block_io.write_bps),
        "BlkioDeviceReadIOps": rates(&r.block_io.read_iops),
        "BlkioDeviceWriteIOps": rates(&r.block_io.write_iops),
        "CpuPeriod": r.cpu_period.unwrap_or(0),
        "CpuQuota": r.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": r.cpu_realtime_period.unwrap_or(0),
        "CpuRealtimeRuntime": r.cpu_realtime_runtime.unwrap_or(0),
        "CpusetCpus": r.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": r.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices.collect::<Vec<_>>(),
        "DeviceCgroupRules": list(&o.device_rules),
        "DeviceRequests": null,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "MemoryReservation": r.memory_reservation.unwrap_or(0),
        "MemorySwap": r.memory_swap.or(r.memory.map(|m| m.saturating_mul(2))).unwrap_or(0),
        "MemorySwappiness": r.memory_swappiness,
        "OomKillDisable": r.oom_kill_disable,
        "PidsLimit": r.pids_limit,
        "Ulimits": if ulimits.is_empty() { Value::Null } else { json!(ulimits) },
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

fn restart_policy(o: &RunOptions) -> Value {
    let (name, retries) = match o.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure(n) => ("on-failure", n),
    };
    json!({ "Name": name, "MaximumRetryCount": retries })
}

fn security_options(security: &SecurityOptions) -> Vec<String> {
    let mut list = Vec::new();
    if security.no_new_privileges {
        list.push("no-new-privileges".to_owned());
    }
    list.extend(security.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    match &security.seccomp {
        Seccomp::Builtin => {}
        Seccomp::Unconfined => list.push("seccomp=unconfined".into()),
        Seccomp::Profile(profile) => list.push(format!("seccomp={}", json!(profile))),
    }
    list
}
