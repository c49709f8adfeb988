//! The options of a network's driver.

use super::host::{Namespace, Neighbour, address, ask, is_address, port_of, serve};
use crate::support::{Done, IMAGE, Store, eventually};
use std::path::Path;

const BRIDGE: &str = "com.docker.network.bridge";

fn create(store: &Store, name: &str, options: &[String]) {
    let flags: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
    store.ok(&[&["network", "create"], &flags[..], &[name]].concat());
}

#[test]
fn ports_that_name_no_address_are_published_at_the_networks() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    create(&store, "local", &[format!("{BRIDGE}.host_binding_ipv4=127.0.0.1")]);
    store.ok(&["network", "create", "open"]);
    serve(&store, "web", &["--network", "local", "-p", "80", "-p", &format!("{}::81", neighbour.here[0])]);
    let port = port_of(&store, "web", "80");
    let shown = store.ok(&["port", "web"]);
    assert!(shown.starts_with(&format!("80/tcp -> 127.0.0.1:{port}\n81/tcp -> {}:", neighbour.here[0])), "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(is_address(&ask("tcp", "127.0.0.1", &port)));
    assert!(!is_address(&ask("tcp", &neighbour.here[0], &port)));
    for here in &neighbour.here {
        assert!(!is_address(&neighbour.namespace.ask("tcp", here, &port)), "another host came in by {here}");
    }
    // Each network has its own.
    store.ok(&["network", "connect", "open", "web"]);
    store.ok(&["network", "disconnect", "local", "web"]);
    let port = port_of(&store, "web", "80");
    assert!(store.ok(&["port", "web", "80"]).starts_with("0.0.0.0:"));
    assert_eq!(neighbour.namespace.ask("tcp", &neighbour.here[0], &port), neighbour.there[0]);
    store.ok(&["network", "connect", "local", "web"]);
    store.ok(&["network", "disconnect", "open", "web"]);
    let port = port_of(&store, "web", "80");
    assert_eq!(store.ok(&["port", "web", "80"]), format!("127.0.0.1:{port}"));
    assert!(is_address(&ask("tcp", "127.0.0.1", &port)));
    assert!(!is_address(&neighbour.namespace.ask("tcp", &neighbour.here[0], &port)));
    store.ok(&["rm", "-f", "web"]);
    store.ok(&["network", "rm", "local", "open"]);
}

#[test]
fn members_are_kept_apart_where_icc_is_off() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    // Where the kernel filters what stays on a bridge, and where it does not.
    let host = Namespace::new();
    host.ok("cd /proc/sys/net/bridge 2>/dev/null || exit 0; for f in bridge-nf-call-ip*; do echo 0 > $f; done");
    let here = |args: &[&str]| store.run(args);
    let there = |args: &[&str]| host.run(&store, args);
    for (network, reaches) in [("apart", false), ("together", true)] {
        for (run, is_here) in [(&here as &dyn Fn(&[&str]) -> Done, true), (&there, false)] {
            let ok = |args: &[&str]| {
                let done = run(args);
                assert_eq!(done.code, 0, "{args:?}: {done:?}");
                done.out.trim_end().to_owned()
            };
            ok(&["network", "create", "-o", &format!("{BRIDGE}.enable_icc={reaches}"), network]);
            let flags = ["--network", network, "--privileged", "-p", "80"];
            for name in ["server", "client"] {
                ok(&[&["run", "-d", "--name", name], &flags[..], &[IMAGE, "probe", "serve", "80"]].concat());
                eventually("the server", || store.ok(&["logs", name]).contains("ready"));
            }
            let [server, client] = ["server", "client"].map(|name| address(&store, name, network));
            let asks = || is_address(run(&["exec", "client", "probe", "ask", "tcp", &server, "80"]).out.trim_end());
            assert_eq!(asks(), reaches, "{network}");
            // Nor does the host lead packets from one to the other, should both want it.
            let script = "ip route add $1/32 via $(ip route | awk '/default/ { print $3 }')";
            for (who, other) in [("client", &server), ("server", &client)] {
                ok(&["exec", who, "sh", "-c", script, "sh", other]);
            }
            assert_eq!(asks(), reaches, "{network}, through the host");
            let port = ok(&["port", "server", "80"]);
            let port = port.lines().next().unwrap().rsplit_once(':').unwrap().1;
            if is_here {
                // The host and others are reached, and reach them.
                assert!(is_address(&ask("tcp", &server, "80")), "{network}");
                assert_eq!(neighbour.namespace.ask("tcp", &neighbour.here[0], port), neighbour.there[0], "{network}");
                ok(&["exec", "client", "ping", "-c", "1", &neighbour.there[0]]);
            }
            ok(&["rm", "-f", "server", "client"]);
            ok(&["network", "rm", network]);
        }
    }
}

#[test]
fn addresses_are_kept_on_the_way_out_where_masquerading_is_off() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    create(&store, "routed", &[format!("{BRIDGE}.enable_ip_masquerade=false")]);
    let probe = crate::support::fixture("probe");
    let server = neighbour.namespace.ok(&format!("{} serve 80 </dev/null >/dev/null 2>&1 & echo $!", probe.display()));
    eventually("the server", || neighbour.namespace.ask("tcp", "127.0.0.1", "80") == "127.0.0.1");
    store.ok(&["run", "-d", "--name", "client", "--network", "routed", IMAGE, "sleep", "1000"]);
    let own = ["IPAddress", "GlobalIPv6Address"]
        .map(|key| store.inspect("client", &format!("{{{{(index .NetworkSettings.Networks \"routed\").{key}}}}}")));
    for (there, own) in neighbour.there.iter().zip(own) {
        // The other host takes a moment to find its way to who is not on its cable.
        let answer = || store.run(&["exec", "client", "probe", "ask", "tcp", there, "80"]).out;
        eventually("an answer to the container's own address", || answer().trim_end() == own);
    }
    neighbour.namespace.ok(&format!("kill {server}"));
    store.ok(&["rm", "-f", "client"]);
    store.ok(&["network", "rm", "routed"]);
}

#[test]
fn bridges_and_interfaces_are_called_as_asked_and_packets_as_large() {
    let store = Store::new();
    let bridge = format!("mrt-{}", std::process::id());
    let interface = Path::new("/sys/class/net").join(&bridge);
    let more = ["com.docker.network.container_iface_prefix=lan", "com.docker.network.driver.mtu=1300"];
    create(&store, "named", &[&[format!("{BRIDGE}.name={bridge}")][..], &more.map(str::to_owned)].concat());
    let refused = |option: &str, words: &str| {
        let said = store.fails(1, &["network", "create", "-o", option, "other"]);
        assert!(said.contains(words), "{option}: {said}");
    };
    refused(&format!("{BRIDGE}.name={bridge}"), "is that of the network named");
    let flags = ["--network", "named", "--network", "bridge", IMAGE, "sh", "-c"];
    let script = "ls /sys/class/net; cat /sys/class/net/lan0/mtu; sleep 1000";
    store.ok(&[&["run", "-d", "--name", "one"], &flags[..], &[script]].concat());
    eventually("its output", || store.ok(&["logs", "one"]).lines().count() == 4);
    assert_eq!(store.ok(&["logs", "one"]), "eth0\nlan0\nlo\n1300");
    assert!(interface.exists());
    store.ok(&["rm", "-f", "one"]);
    store.ok(&["network", "rm", "named"]);
    assert!(!interface.exists(), "the bridge goes with its network");
    // An interface of somebody else's is left alone, also one that came later.
    refused(&format!("{BRIDGE}.name=lo"), "this host has an interface of that name");
    create(&store, "late", &[format!("{BRIDGE}.name={bridge}")]);
    let ip = |args: &[&str]| assert_eq!(crate::support::done(std::process::Command::new("ip").args(args)).code, 0);
    ip(&["link", "add", &bridge, "type", "bridge"]);
    let said = store.fails(125, &["run", "--rm", "--network", "late", IMAGE, "true"]);
    assert!(said.contains(&format!("the bridge {bridge} cannot be made")), "{said}");
    store.ok(&["network", "rm", "late"]);
    ip(&["link", "del", &bridge]);
    for (option, words) in [
        ("com.docker.network.bridge.enable_icc=maybe", "enable_icc: it is true or false"),
        ("com.docker.network.bridge.host_binding_ipv4=::1", "host_binding_ipv4: it is an IPv4 address"),
        ("com.docker.network.bridge.inhibit_ipv4=true", "inhibit_ipv4=true of a network is not supported"),
        ("com.docker.network.bridge.nosuch=1", "has no option com.docker.network.bridge.nosuch"),
        ("mtu=9", "invalid mtu"),
    ] {
        refused(option, words);
    }
}
