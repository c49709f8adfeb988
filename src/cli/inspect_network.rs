//! The part of a container's document that is about its network.

use crate::container::containers::Container;
use crate::container::options::{NetworkMode, RunOptions};
use serde_json::{Value, json};

/// `NetworkSettings`.
pub fn network_settings(container: &Container) -> Value {
    let mut settings = json!({
        "Bridge": "", "SandboxID": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "Ports": {}, "SandboxKey": "", "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null, "EndpointID": "",
        "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0,
        "IPv6Gateway": "", "MacAddress": "",
    });
    settings["Networks"] = json!({ network_mode(&container.record.options): endpoint() });
    settings
}

/// One of `NetworkSettings.Networks`, as it is without an address.
fn endpoint() -> Value {
    json!({
        "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "", "EndpointID": "", "Gateway": "",
        "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "MacAddress": "", "DriverOpts": null,
    })
}

/// `HostConfig.NetworkMode`.
pub fn network_mode(options: &RunOptions) -> &str {
    if options.network == NetworkMode::Host { "host" } else { "none" }
}
