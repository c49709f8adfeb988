//! Networks of the user's own, and the other modes.

use super::host::{address, ask, free_port, is_address, port_of, serve};
use crate::support::{IMAGE, Store, eventually};

fn has_bridge(store: &Store) -> bool {
    std::path::Path::new("/sys/class/net").join(minirun::network::tag(&store.root())).exists()
}

#[test]
fn the_default_network_is_a_bridge_with_addresses_of_both_families() {
    let store = Store::new();
    let template = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}{{.EnableIPv6}} \
                    {{index .Options \"com.docker.network.bridge.name\"}}";
    let shown = || store.ok(&["network", "inspect", "-f", template, "bridge"]);
    let before = shown();
    assert!(!has_bridge(&store), "looking makes no bridge");
    let text = store.ok(&["run", "--rm", IMAGE, "sh", "-c", "ip addr; ip route; ip -6 route"]);
    assert!(has_bridge(&store));
    assert_eq!(before, shown(), "what was told beforehand has come");
    assert!(before.ends_with(&format!(" true {}", minirun::network::tag(&store.root()))), "{before}");
    for name in ["bridge", "host"] {
        let inspected = store.ok(&["network", "inspect", "-f", "{{.EnableIPv6}}", name]);
        let listed = store.ok(&["network", "ls", "-f", &format!("name={name}"), "--format", "{{.IPv6}}"]);
        assert_eq!(inspected, listed, "{name}");
    }
    assert!(text.contains("eth0@") && text.contains("inet 10.2") && text.contains("inet6 fd"), "{text}");
    assert!(text.contains("default via 10.2") && text.contains("default via fd"), "{text}");
    // All of it is there before the program runs.
    let script = "ping -c 1 -w 2 $(ip route | awk '/default/ { print $3 }')";
    store.ok(&["run", "--rm", IMAGE, "sh", "-c", script]);
    assert_eq!(store.ok(&["run", "--rm", "--network", "none", IMAGE, "ls", "/sys/class/net"]), "lo");
}

#[test]
fn addresses_are_those_that_were_asked_for() {
    let store = Store::new();
    let subnet = ["--subnet", "10.219.77.0/24", "--gateway", "10.219.77.9", "--ip-range", "10.219.77.128/30"];
    let made = store.ok(&[&["network", "create"], &subnet[..], &["--subnet", "fd77:77::/64", "mine"]].concat());
    assert_eq!(made.len(), 64);
    let flags =
        ["--network", "mine", "--ip", "10.219.77.50", "--ip6", "fd77:77::50", "--mac-address", "02:00:00:00:00:07"];
    store.ok(&[&["run", "-d", "--name", "fixed"], &flags[..], &[IMAGE, "sleep", "1000"]].concat());
    let shown = store.ok(&["exec", "fixed", "ip", "addr", "show", "eth0"]);
    for part in ["10.219.77.50/24", "fd77:77::50/64", "02:00:00:00:00:07"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(store.ok(&["exec", "fixed", "ip", "route"]).contains("default via 10.219.77.9"));
    let words = store.fails(125, &["run", "--rm", "--network", "mine", "--ip", "10.219.77.50", IMAGE, "true"]);
    assert!(words.contains("Address already in use"), "{words}");
    let words = store.fails(125, &["run", "--rm", "--network", "mine", "--ip", "10.1.1.1", IMAGE, "true"]);
    assert!(words.contains("does not belong to any of this network's subnets"), "{words}");
    for n in 1..=4 {
        store.ok(&["run", "-d", "--name", &format!("pool{n}"), "--network", "mine", IMAGE, "sleep", "1000"]);
        assert!(address(&store, &format!("pool{n}"), "mine").starts_with("10.219.77.1"), "{n}");
    }
    let words = store.fails(125, &["run", "--rm", "--network", "mine", IMAGE, "true"]);
    assert!(words.contains("no available IPv4 addresses"), "{words}");
    let words = store.fails(125, &["run", "--rm", "--ip", "10.219.77.50", IMAGE, "true"]);
    assert!(words.contains("supported on user defined networks only"), "{words}");
    store.ok(&["rm", "-f", "fixed", "pool1", "pool2", "pool3", "pool4"]);
    // With the address goes no old neighbour: the next one that has it is reached at once.
    for _ in 0..3 {
        let script = "ping -c 1 -w 1 10.219.77.9";
        store.ok(&["run", "--rm", "--network", "mine", "--ip", "10.219.77.50", IMAGE, "sh", "-c", script]);
    }
    store.ok(&["network", "rm", "mine"]);
}

#[test]
fn reserved_addresses_are_given_to_nobody() {
    let store = Store::new();
    let subnets = ["--subnet", "10.219.79.0/29", "--subnet", "fd77:79::/64"];
    let reserved =
        ["--aux-address", "router=10.219.79.2", "--aux-address", "b=10.219.79.4", "--aux-address", "c=fd77:79::3"];
    let more = ["--ipam-driver", "default", "--scope", "local", "mine"];
    store.ok(&[&["network", "create"], &subnets[..], &reserved, &more].concat());
    let template = "{{range .IPAM.Config}}{{.AuxiliaryAddresses}} {{end}}";
    let shown = store.ok(&["network", "inspect", "-f", template, "mine"]);
    assert_eq!(shown.trim_end(), "map[b:10.219.79.4 router:10.219.79.2] map[c:fd77:79::3]");
    for (name, v4) in [("first", "10.219.79.3"), ("second", "10.219.79.5")] {
        store.ok(&["run", "-d", "--name", name, "--network", "mine", IMAGE, "sleep", "1000"]);
        assert_eq!(address(&store, name, "mine"), v4);
        let v6 = store.inspect(name, "{{(index .NetworkSettings.Networks \"mine\").GlobalIPv6Address}}");
        assert!(v6 != "fd77:79::3" && v6.starts_with("fd77:79::"), "{v6}");
    }
    let asks = ["run", "--rm", "--network", "mine", "--ip", "10.219.79.2", IMAGE, "true"];
    assert!(store.fails(125, &asks).contains("Address already in use"));
    store.ok(&["rm", "-f", "first", "second"]);
    store.ok(&["network", "rm", "mine"]);
    for (flags, words) in [
        (
            &["--aux-address", "r=10.1.1.1", "--subnet", "10.219.79.0/29"][..],
            "no matching subnet for aux-address 10.1.1.1",
        ),
        (&["--aux-address", "10.1.1.1"], "invalid aux-address"),
        (
            &["--aux-address", "r=10.219.79.1", "--subnet", "10.219.79.0/29"],
            "the aux-address 10.219.79.1 is the gateway's",
        ),
        (&["--ipam-driver", "dhcp"], "ipam registry"),
        (&["--scope", "swarm"], "scope"),
    ] {
        let said = store.fails(1, &[&["network", "create"], flags, &["other"]].concat());
        assert!(said.contains(words), "{flags:?}: {said}");
    }
}

#[test]
fn an_internal_network_has_no_way_out_and_others_none_to_one_another() {
    let store = Store::new();
    for name in [&["--internal", "inner"][..], &["left"], &["right"]] {
        store.ok(&[&["network", "create"], name].concat());
    }
    serve(&store, "inside", &["--network", "inner", "-p", "80"]);
    serve(&store, "left1", &["--network", "left", "-p", "80"]);
    store.ok(&["run", "-d", "--name", "right1", "--network", "right", IMAGE, "sleep", "1000"]);
    store.ok(&["run", "-d", "--name", "inside2", "--network", "inner", IMAGE, "sleep", "1000"]);
    assert_eq!(store.ok(&["port", "inside"]), "");
    let asks = |who: &str, address: &str, port: &str| {
        store.run(&["exec", who, "probe", "ask", "tcp", address, port]).out.trim_end().to_owned()
    };
    assert!(is_address(&asks("inside2", &address(&store, "inside", "inner"), "80")));
    assert!(!is_address(&asks("right1", &address(&store, "left1", "left"), "80")));
    assert!(!is_address(&asks("right1", &address(&store, "inside", "inner"), "80")));
    // But a published port is there for everybody.
    let (port, own) = (port_of(&store, "left1", "80"), address(&store, "right1", "right"));
    let gateway = store.inspect("right1", "{{(index .NetworkSettings.Networks \"right\").Gateway}}");
    assert_eq!(asks("right1", &gateway, &port), own);
    assert!(!store.ok(&["exec", "inside", "ip", "route"]).contains("default"));
    let routed = "ip route add default via $(ip route | awk '{ print $1; exit }' | sed 's,0/.*,1,'); \
                  probe ask tcp \"$1\" 80";
    let target = address(&store, "left1", "left");
    let flags = ["run", "--rm", "--privileged", "--network", "inner", IMAGE, "sh", "-c", routed, "sh", &target];
    assert_ne!(store.run(&flags).code, 0);
    store.ok(&["rm", "-f", "inside", "inside2", "left1", "right1"]);
    store.ok(&["network", "rm", "inner", "left", "right"]);
}

#[test]
fn networks_are_made_shown_and_removed_as_dockers() {
    let store = Store::new();
    let id = store.ok(&["network", "create", "--label", "a=b", "--subnet", "10.219.78.0/24", "one"]);
    assert_eq!(store.ok(&["network", "ls", "-q", "--no-trunc", "-f", "label=a=b"]), id);
    let list = store.ok(&["network", "ls"]);
    assert!(list.starts_with("NETWORK ID     NAME      DRIVER    SCOPE\n"), "{list}");
    assert_eq!(store.ok(&["network", "ls", "--format", "{{.Name}}"]), "bridge\nhost\nnone\none");
    assert_eq!(store.ok(&["network", "ls", "-q", "-f", "label=a=c"]), "");
    for (filter, found) in [
        ("name=^one$", "one"),
        ("name=^on$", ""),
        ("name=o[mn]e", "none\none"),
        ("type=custom", "one"),
        ("type=builtin", "bridge\nhost\nnone"),
    ] {
        assert_eq!(store.ok(&["network", "ls", "--format", "{{.Name}}", "-f", filter]), found, "{filter}");
    }
    assert_eq!(
        store.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &id[..10]]),
        "10.219.78.0/24"
    );
    let no = |args: &[&str], words: &str| {
        let said = store.fails(1, &[&["network"], args].concat());
        assert!(said.contains(words), "{args:?}: {said}");
    };
    no(&["ls", "-f", "type=bogus"], "invalid filter 'type=bogus'");
    no(&["create", "one"], "network with name one already exists");
    no(&["create", "--subnet", "10.219.78.128/25", "two"], "Pool overlaps with other one on this address space");
    no(&["create", "--subnet", "10.219.79.0/24", "--gateway", "10.1.1.1", "two"], "no matching subnet for gateway");
    no(&["create", "--driver", "macvlan", "two"], "macvlan");
    no(&["create", "a/b"], "Invalid network name");
    no(&["rm", "nosuch"], "No such network: nosuch");
    no(&["rm", "bridge"], "bridge is a pre-defined network and cannot be removed");
    assert_eq!(store.run(&["network", "exists", "one"]).code, 0);
    assert_eq!(store.run(&["network", "exists", "two"]).code, 1);
    store.ok(&["run", "-d", "--name", "in-one", "--network", "one", IMAGE, "sleep", "1000"]);
    no(&["rm", "one"], "has active endpoints");
    for network in ["one", &id, &id[..8]] {
        assert_eq!(store.ok(&["ps", "-q", "-f", &format!("network={network}")]).len(), 12, "{network}");
    }
    assert_eq!(store.ok(&["ps", "-q", "-f", "network=on"]), "");
    let member =
        store.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", "one"]);
    assert_eq!(member, "in-one 10.219.78.2/24");
    no(&["connect", "one", "in-one"], "already exists in network one");
    store.ok(&["network", "create", "unused"]);
    for prune in ["network", "system"] {
        let told = store.ok(&[prune, "prune", "-f", "--filter", "until=1h"]);
        assert!(!told.contains("unused"), "{prune}: {told}");
    }
    assert_eq!(store.ok(&["network", "prune", "-f", "--filter", "until=0s"]), "Deleted Networks:\nunused\n");
    store.ok(&["rm", "-f", "in-one"]);
    store.ok(&["network", "rm", "one"]);
    let words = store.fails(125, &["run", "--rm", "--network", "one", IMAGE, "true"]);
    assert!(words.contains("network one not found"), "{words}");
}

#[test]
fn the_network_of_another_container_is_shared_with_its_files() {
    let store = Store::new();
    serve(&store, "owner", &["--hostname", "shared", "-p", "80"]);
    let inside = ["run", "--rm", "--network", "container:owner", IMAGE];
    let see = |command: &[&str]| store.ok(&[&inside[..], command].concat());
    assert!(see(&["ip", "addr"]).contains(&address(&store, "owner", "bridge")));
    assert_eq!(see(&["probe", "ask", "tcp", "127.0.0.1", "80"]), "127.0.0.1");
    assert_eq!(see(&["hostname"]), "shared");
    assert_eq!(see(&["cat", "/etc/hosts"]), store.ok(&["exec", "owner", "cat", "/etc/hosts"]));
    // It can start again, also after the other one did.
    store.ok(&["run", "-d", "--name", "guest", "--network", "container:owner", IMAGE, "sleep", "1000"]);
    store.ok(&["restart", "-t", "0", "owner"]);
    store.ok(&["restart", "-t", "0", "guest"]);
    let answer = || store.run(&["exec", "guest", "probe", "ask", "tcp", "127.0.0.1", "80"]).code == 0;
    eventually("the server", answer);
    assert!(is_address(&ask("tcp", "127.0.0.1", &port_of(&store, "owner", "80"))));
    for (flag, words) in [
        ("--publish=80:80", "conflicting options: port publishing and the container type network mode"),
        ("--hostname=x", "conflicting options: hostname and the network mode"),
        ("--dns=192.0.2.1", "conflicting options: dns and the network mode"),
    ] {
        let said = store.fails(125, &["run", "--rm", "--network", "container:owner", flag, IMAGE, "true"]);
        assert!(said.contains(words), "{said}");
    }
    store.ok(&["stop", "-t", "0", "owner", "guest"]);
    let said = store.fails(1, &["start", "guest"]);
    assert!(said.contains("cannot join network of a non running container"), "{said}");
    assert!(store.fails(125, &["run", "--network", "container:nosuch", IMAGE, "true"]).contains("No such container"));
}

#[test]
fn a_container_may_be_in_several_networks() {
    let store = Store::new();
    store.ok(&["network", "create", "front"]);
    store.ok(&["network", "create", "--internal", "back"]);
    let flags = ["--network", "name=back,alias=base", "--network", "front", "-p", "80"];
    serve(&store, "both", &flags);
    assert_eq!(store.ok(&["ps", "--format", "{{.Networks}}"]), "back,front");
    assert_eq!(store.ok(&["exec", "both", "ls", "/sys/class/net"]), "eth0\neth1\nlo");
    let gateway = store.inspect("both", "{{(index .NetworkSettings.Networks \"front\").Gateway}}");
    assert!(store.ok(&["exec", "both", "ip", "route"]).contains(&format!("default via {gateway}")));
    assert!(is_address(&ask("tcp", "127.0.0.1", &port_of(&store, "both", "80"))));
    store.ok(&["run", "--rm", "--network", "back", IMAGE, "ping", "-c", "1", "base"]);
    // A container that is not running is connected when it starts.
    store.ok(&["create", "--name", "later", "--network", "front", IMAGE, "sleep", "1000"]);
    store.ok(&["network", "connect", "--alias", "spaet", "back", "later"]);
    store.ok(&["start", "later"]);
    store.ok(&["exec", "later", "ping", "-c", "1", "base"]);
    // Its way out goes with its network, and comes with the next.
    store.ok(&["network", "connect", "bridge", "later"]);
    store.ok(&["network", "disconnect", "front", "later"]);
    let gateway = store.inspect("later", "{{.NetworkSettings.Gateway}}");
    assert!(store.ok(&["exec", "later", "ip", "route"]).contains(&format!("default via {gateway}")));
    let said = store.fails(125, &["run", "--rm", "--network", "front", "--network", "host", IMAGE, "true"]);
    assert!(said.contains("multiple networks"), "{said}");
    store.ok(&["rm", "-f", "both", "later"]);
    store.ok(&["network", "rm", "front", "back"]);
}

#[test]
fn a_container_that_has_left_its_only_network_is_in_none_until_it_is_connected_again() {
    let store = Store::new();
    store.ok(&["network", "create", "only"]);
    store.ok(&["run", "-d", "--name", "lone", "--network", "only", IMAGE, "sleep", "1000"]);
    let shown = || {
        let inspected = store.inspect("lone", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}");
        let listed = store.ok(&["ps", "-a", "-f", "name=lone", "--format", "{{.Networks}}"]);
        let filtered = store.ok(&["ps", "-a", "-f", "network=only", "--format", "{{.Networks}}"]);
        assert_eq!((&listed, &filtered), (&inspected, &inspected));
        inspected
    };
    assert_eq!(shown(), "only");
    store.ok(&["network", "disconnect", "only", "lone"]);
    assert_eq!(shown(), "");
    assert_eq!(store.ok(&["exec", "lone", "ls", "/sys/class/net"]), "lo");
    store.ok(&["network", "connect", "only", "lone"]);
    assert_eq!(shown(), "only");
    let gateway = store.inspect("lone", "{{(index .NetworkSettings.Networks \"only\").Gateway}}");
    store.ok(&["exec", "lone", "ping", "-c", "1", &gateway]);
    // Its network may go while it does not run.
    store.ok(&["stop", "-t", "0", "lone"]);
    store.ok(&["network", "rm", "only"]);
    assert!(store.run(&["start", "lone"]).err.contains("network only not found"));
    assert!(store.fails(1, &["network", "disconnect", "other", "lone"]).contains("No such network: other"));
    store.ok(&["network", "disconnect", "only", "lone"]);
    assert_eq!(shown(), "");
    store.ok(&["start", "lone"]);
    assert_eq!(store.ok(&["exec", "lone", "ls", "/sys/class/net"]), "lo");
    store.ok(&["network", "connect", "bridge", "lone"]);
    assert_eq!(store.ok(&["ps", "--format", "{{.Networks}}"]), "bridge");
    store.ok(&["exec", "lone", "ip", "addr", "show", "eth0"]);
    store.ok(&["rm", "-f", "lone"]);
}

#[test]
fn who_connects_a_container_at_the_same_time_as_others_does_it_after_them() {
    let store = Store::new();
    let names: Vec<String> = (0..6).map(|n| format!("net{n}")).collect();
    names.iter().for_each(|name| drop(store.ok(&["network", "create", name])));
    serve(&store, "web", &["-p", "80"]);
    for verb in ["connect", "disconnect", "connect"] {
        let twice = names.iter().chain(&names);
        let children: Vec<_> = twice.map(|name| store.spawn(&["network", verb, name, "web"])).collect();
        let codes = children.into_iter().map(|child| child.wait_with_output().unwrap().status.code());
        let mut codes: Vec<Option<i32>> = codes.collect();
        codes.sort_unstable();
        assert_eq!(codes, [[Some(0); 6], [Some(1); 6]].concat(), "{verb}: each once");
        let listed = store.ok(&["ps", "--format", "{{.Networks}}"]);
        assert_eq!(listed.split(',').count(), if verb == "connect" { 7 } else { 1 }, "{listed}");
        let inside = store.ok(&["exec", "web", "ls", "/sys/class/net"]);
        assert_eq!(inside.lines().count(), listed.split(',').count() + 1, "{inside}");
    }
    store.ok(&["network", "disconnect", "bridge", "web"]);
    assert!(is_address(&ask("tcp", "127.0.0.1", &port_of(&store, "web", "80"))));
    store.ok(&["rm", "-f", "web"]);
    store.ok(&[&["network", "rm"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
}

#[test]
fn a_container_that_is_being_started_is_connected_and_disconnected_all_the_same() {
    let store = Store::new();
    store.ok(&["network", "create", "first"]);
    store.ok(&["network", "create", "second"]);
    for round in 0..24 {
        let name = format!("box{round}");
        store.ok(&["create", "--name", &name, "--network", "first", IMAGE, "sleep", "1000"]);
        let (action, network) = if round % 2 == 0 { ("disconnect", "first") } else { ("connect", "second") };
        std::thread::scope(|scope| {
            let start = scope.spawn(|| store.ok(&["start", &name]));
            std::thread::sleep(std::time::Duration::from_millis(round));
            store.ok(&["network", action, network, &name]);
            start.join().unwrap();
        });
        let known = store.inspect(&name, "{{range $k, $v := .NetworkSettings.Networks}}{{$v.IPAddress}} {{end}}");
        let there = store.ok(&["exec", &name, "ip", "-4", "-o", "addr", "show", "scope", "global"]);
        assert_eq!(there.lines().count(), if round % 2 == 0 { 0 } else { 2 }, "{action} in round {round}: {there}");
        for address in known.split_whitespace() {
            assert!(there.contains(&format!(" {address}/")), "{action} in round {round}: {known} but {there}");
        }
        store.ok(&["rm", "-f", &name]);
    }
}

#[test]
fn a_container_between_two_runs_leaves_a_network_at_once() {
    let store = Store::new();
    let id = store.ok(&["network", "create", "net"]);
    let port = free_port();
    let publish = format!("{port}:80");
    let flags = ["--network", &id[..12], "--restart", "always", "-p", &publish];
    store.ok(&[&["run", "-d", "--name", "again"], &flags[..], &[IMAGE, "false"]].concat());
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Networks}}"]), "net", "by its name, however it was called");
    // By then it rests for longer than the following takes.
    eventually("a long rest", || {
        let state = store.inspect("again", "{{.State.Status}} {{.RestartCount}}");
        state.strip_prefix("restarting ").is_some_and(|count| count.parse::<u32>().unwrap() >= 5)
    });
    store.ok(&["network", "disconnect", "net", "again"]);
    assert_eq!(store.ok(&["port", "again"]), "");
    std::net::TcpListener::bind(("0.0.0.0", port.parse().unwrap())).expect("the port is free");
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Networks}}"]), "");
    store.ok(&["network", "rm", "net"]);
    store.ok(&["rm", "-f", "again"]);
}

#[test]
fn published_ports_move_with_the_networks_of_a_running_container() {
    let store = Store::new();
    for name in [&["left"][..], &["right"], &["--internal", "inner"]] {
        store.ok(&[&["network", "create"], name].concat());
    }
    // More ports than descriptors ride with one message.
    let flags = ["--network", "left", "-p", "80", "-p", "81", "-p", "82", "-p", "83", "-p", "84/udp"];
    serve(&store, "web", &flags);
    let port = port_of(&store, "web", "80");
    let shown = store.ok(&["port", "web"]);
    let network = |verb: &str, name: &str| drop(store.ok(&["network", verb, name, "web"]));
    let is_reached = |port: &str| is_address(&ask("tcp", "127.0.0.1", port));
    let bind = |port: &str| std::net::TcpListener::bind(("0.0.0.0", port.parse().unwrap()));
    network("connect", "right");
    assert_eq!(store.ok(&["port", "web"]), shown);
    network("disconnect", "left");
    assert_eq!(store.ok(&["port", "web"]), shown);
    assert!(is_reached(&port), "the port leads through the other network");
    assert!(bind(&port).is_err(), "the port is still held");
    let gateway = store.inspect("web", "{{(index .NetworkSettings.Networks \"right\").Gateway}}");
    assert!(is_address(&store.ok(&["exec", "web", "probe", "ask", "tcp", &gateway, &port])), "from itself");
    network("connect", "inner");
    network("disconnect", "right");
    assert_eq!(store.ok(&["port", "web"]), "");
    for port in shown.lines().map(|line| line.rsplit_once(':').unwrap().1) {
        drop(bind(port).expect("nobody holds the port any more"));
    }
    network("connect", "left");
    let port = port_of(&store, "web", "80");
    assert!(is_reached(&port) && bind(&port).is_err(), "the port is published by the next network");
    assert_eq!(store.ok(&["port", "web"]).lines().count(), shown.lines().count());
    store.ok(&["restart", "-t", "0", "web"]);
    eventually("the server", || is_reached(&port_of(&store, "web", "80")));
    network("disconnect", "left");
    store.ok(&["run", "-d", "--name", "rival", "-p", &format!("{port}:80"), IMAGE, "sleep", "1000"]);
    store.ok(&[
        "run",
        "-d",
        "--name",
        "fixed",
        "--network",
        "inner",
        "-p",
        &format!("{port}:80"),
        IMAGE,
        "sleep",
        "99",
    ]);
    let words = store.fails(1, &["network", "connect", "right", "fixed"]);
    assert!(words.contains("port is already allocated") && words.contains("rival"), "{words}");
    assert_eq!(store.ok(&["ps", "-f", "name=fixed", "--format", "{{.Networks}}"]), "inner");
    assert_eq!(store.ok(&["exec", "fixed", "ls", "/sys/class/net"]), "eth0\nlo");
    store.ok(&["rm", "-f", "web", "rival", "fixed"]);
    store.ok(&["network", "rm", "left", "right", "inner"]);
}
