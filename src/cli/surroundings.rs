//! What the environment says about registries: files, proxies, certificates.

use crate::registry::Surroundings;
use std::env::{var, var_os};
use std::path::PathBuf;
use std::sync::OnceLock;

const SETTINGS: &str = "/etc/minirun/registries.json";

static CONFIG: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Keeps what the command line says about the folder of Docker's client configuration.
pub fn remember(config: Option<PathBuf>) {
    // Once in a process; nobody looks before.
    let _ = CONFIG.set(config.filter(|path| !path.as_os_str().is_empty()));
}

/// What the environment says about it.
pub fn docker_config() -> Option<PathBuf> {
    path("DOCKER_CONFIG")
}

/// The folder of Docker's client configuration.
pub fn config_folder() -> PathBuf {
    CONFIG.get().cloned().flatten().unwrap_or_else(|| home().join(".docker"))
}

/// Reads the environment. `unverified` is what the command line says about certificates.
pub fn read(unverified: bool) -> Surroundings {
    let home = home();
    let runtime = path("XDG_RUNTIME_DIR");
    let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let user = rustix::process::getuid().as_raw();
    let auth_files = match path("REGISTRY_AUTH_FILE") {
        Some(file) => vec![file],
        None => [
            runtime.map(|dir| dir.join("containers/auth.json")),
            Some(PathBuf::from(format!("/run/containers/{user}/auth.json"))),
            Some(config.join("containers/auth.json")),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    Surroundings {
        settings: path("MINIRUN_REGISTRIES").unwrap_or_else(|| PathBuf::from(SETTINGS)),
        docker_config: config_folder(),
        auth_files,
        roots: path("SSL_CERT_FILE"),
        http_proxy: either("HTTP_PROXY", "http_proxy"),
        https_proxy: either("HTTPS_PROXY", "https_proxy"),
        no_proxy: either("NO_PROXY", "no_proxy").unwrap_or_default(),
        unverified,
    }
}

fn home() -> PathBuf {
    path("HOME").unwrap_or_else(|| PathBuf::from("/root"))
}

fn path(name: &str) -> Option<PathBuf> {
    var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A variable by the first of its two spellings that says something.
pub fn either(upper: &str, lower: &str) -> Option<String> {
    [upper, lower].iter().find_map(|name| var(name).ok().filter(|value| !value.is_empty()))
}
