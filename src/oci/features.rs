//! `features`: what this runtime can do, for engines that ask before they try (runtime-spec, "Features").

use super::print;
use anyhow::{Context, Result};
use serde_json::json;

/// The version of the specification that is carried out.
pub const SPECIFICATION: &str = "1.2.0";

/// Writes the document.
pub fn features() -> Result<()> {
    let capabilities: Vec<String> = {
        let mut all: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
        all.sort();
        all
    };
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": crate::runtime::mounts::known_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "memoryPolicy": {},
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": false },
        },
        "annotations": { "org.minirun.version": env!("CARGO_PKG_VERSION") },
        "potentiallyUnsafeConfigAnnotations": [],
    });
    print(&(serde_json::to_string_pretty(&document).context("write the features")? + "\n"))
}
