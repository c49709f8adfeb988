//! Published ports: who reaches them, and whom the container sees.

use super::host::{Namespace, Neighbour, address, ask, free_port, is_address, port_of, serve};
use crate::support::{IMAGE, Store, eventually, signal};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

#[test]
fn a_published_port_is_reached_from_everywhere_and_the_client_is_seen_where_possible() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    serve(&store, "web", &["-p", "80", "-p", "80/udp"]);
    store.ok(&["run", "-d", "--name", "other", IMAGE, "sleep", "1000"]);
    let gateway = store.inspect("web", "{{.NetworkSettings.Gateway}}");
    let gateway_v6 = store.inspect("web", "{{.NetworkSettings.IPv6Gateway}}");
    for protocol in ["tcp", "udp"] {
        let port = port_of(&store, "web", &format!("80/{protocol}"));
        // From loopback the kernel cannot keep the address: nobody could answer it.
        assert_eq!(ask(protocol, "127.0.0.1", &port), gateway, "{protocol}");
        assert_eq!(ask(protocol, "::1", &port), gateway_v6, "{protocol}");
        for (here, there) in neighbour.here.iter().zip(&neighbour.there) {
            assert_eq!(ask(protocol, here, &port), *here, "{protocol} from this host");
            assert_eq!(neighbour.namespace.ask(protocol, here, &port), *there, "{protocol} from another host");
        }
        for (here, family) in neighbour.here.iter().zip(["IPAddress", "GlobalIPv6Address"]) {
            let own = store.inspect("other", &format!("{{{{.NetworkSettings.{family}}}}}"));
            let answer = store.ok(&["exec", "other", "probe", "ask", protocol, here, &port]);
            // Where the kernel filters what stays on a bridge, even this client's address is kept.
            assert!([&own, &gateway, &gateway_v6].contains(&&answer), "{protocol} from another container: {answer}");
            let answer = store.ok(&["exec", "web", "probe", "ask", protocol, here, &port]);
            assert!([&gateway, &gateway_v6].contains(&&answer), "{protocol} from the container itself: {answer}");
        }
    }
}

#[test]
fn containers_reach_other_hosts_by_this_hosts_address() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    let probe = crate::support::fixture("probe");
    let server = format!("{} serve 80 </dev/null >/dev/null 2>&1 & echo $!", probe.display());
    let server = neighbour.namespace.ok(&server);
    eventually("the server", || neighbour.namespace.ask("tcp", "127.0.0.1", "80") == "127.0.0.1");
    for (here, there) in neighbour.here.iter().zip(&neighbour.there) {
        for protocol in ["tcp", "udp"] {
            assert_eq!(store.ok(&["run", "--rm", IMAGE, "probe", "ask", protocol, there, "80"]), *here);
        }
    }
    neighbour.namespace.ok(&format!("kill {server}"));
}

#[test]
fn a_client_that_goes_on_sending_datagrams_is_led_to_who_has_the_port_now() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    let port = free_port();
    let places = [&neighbour.here[0], &neighbour.here[1], "127.0.0.1"];
    // Sockets that stay: to the kernel all of their packets are one flow.
    let clients = places.map(|place| {
        let from = if place.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let client = UdpSocket::bind(from).unwrap();
        client.connect((place.parse::<IpAddr>().unwrap(), port.parse::<u16>().unwrap())).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        client
    });
    let answers = |client: &UdpSocket| client.send(b"?").is_ok() && client.recv(&mut [0; 100]).is_ok();
    assert!(!clients.iter().any(answers), "nobody has the port yet");
    for name in ["first", "second"] {
        serve(&store, name, &["-p", &format!("{port}:80/udp")]);
        for (client, place) in clients.iter().zip(&places) {
            eventually(&format!("an answer of the {name} server by {place}"), || answers(client));
        }
        store.ok(&["rm", "-f", name]);
        assert!(!clients.iter().any(answers), "the {name} server is gone");
    }
    let own = UdpSocket::bind(("0.0.0.0", port.parse().unwrap())).unwrap();
    clients[2].send(b"?").unwrap();
    own.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    own.recv(&mut [0; 100]).expect("the host has its port back");
}

#[test]
fn a_port_of_one_address_is_reached_at_that_one_alone() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    let [here, _] = &neighbour.here;
    serve(&store, "web", &["-p", "127.0.0.1::80", "-p", "[::1]::80/udp", "-p", &format!("{here}::80/tcp")]);
    let lines = store.ok(&["port", "web"]);
    let port = |start: &str| {
        let line = lines.lines().find(|l| l.contains(start)).unwrap_or_else(|| panic!("{start} in {lines}"));
        line.rsplit_once(':').unwrap().1.to_owned()
    };
    let (loopback, loopback_v6, outer) = (port("127.0.0.1"), port("[::1]"), port(here));
    assert!(is_address(&ask("tcp", "127.0.0.1", &loopback)));
    assert!(is_address(&ask("udp", "::1", &loopback_v6)));
    assert_eq!(neighbour.namespace.ask("tcp", here, &outer), neighbour.there[0]);
    assert!(!is_address(&ask("tcp", here, &loopback)));
    assert!(!is_address(&ask("udp", "127.0.0.1", &loopback_v6)));
    assert!(!is_address(&ask("tcp", "127.0.0.1", &outer)));
    // Somebody on the same cable can send packets for 127.0.0.1 here.
    neighbour.namespace.ok(&format!(
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip addr del 127.0.0.1/8 dev lo
         ip route add 127.0.0.1 via {here}"
    ));
    assert!(!is_address(&neighbour.namespace.ask("tcp", "127.0.0.1", &loopback)));
}

#[test]
fn what_is_not_published_is_not_reached_from_other_hosts() {
    let store = Store::new();
    let neighbour = Neighbour::new();
    serve(&store, "web", &[]);
    let direct = address(&store, "web", "bridge");
    assert!(is_address(&ask("tcp", &direct, "80")), "this host reaches its containers");
    assert!(!is_address(&neighbour.namespace.ask("tcp", &direct, "80")), "another host came in unasked");
    // Neither does a container reach what listens on the host's loopback only.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let gateway = store.inspect("web", "{{.NetworkSettings.Gateway}}");
    let script = "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via \"$1\"; probe ask tcp 127.0.0.1 \"$2\"";
    let done = store.run(&["run", "--rm", "--privileged", IMAGE, "sh", "-c", script, "sh", &gateway, &port]);
    assert_ne!(done.code, 0, "{done:?}");
}

#[test]
fn clashes_are_refused_with_the_name_of_who_has_the_port() {
    let store = Store::new();
    let port = free_port();
    let both = format!("{port}:80");
    store.ok(&["run", "-d", "--name", "first", "-p", &both, IMAGE, "sleep", "1000"]);
    let words = store.fails(125, &["run", "-d", "--name", "second", "-p", &both, IMAGE, "sleep", "1000"]);
    let docker = format!("Bind for 0.0.0.0:{port} failed: port is already allocated");
    assert!(words.contains(&docker) && words.contains("the container first"), "{words}");
    assert_eq!(store.inspect("second", "{{.State.Status}}"), "created");
    let own = format!("127.0.0.1:{port}:80");
    assert!(store.fails(125, &["run", "--rm", "-p", &own, IMAGE, "true"]).contains("already allocated"));
    store.ok(&["rm", "-f", "first"]);
    store.ok(&["start", "second"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let words = store.fails(125, &["run", "--rm", "-p", &format!("{port}:80"), IMAGE, "true"]);
    let holder = format!("(pid {})", std::process::id());
    assert!(words.contains("already allocated") && words.contains(&holder), "{words}");
    let words = store.fails(125, &["run", "--rm", "-p", "192.0.2.222:1:1", IMAGE, "true"]);
    assert!(words.contains("no such address"), "{words}");
}

#[test]
fn a_range_of_ports_gives_the_first_that_is_free() {
    let store = Store::new();
    let first: u16 = free_port().parse().unwrap();
    let _taken = TcpListener::bind(("0.0.0.0", first)).unwrap();
    let range = format!("{first}-{}:80", first + 20);
    store.ok(&["run", "-d", "--name", "web", "-p", &range, IMAGE, "sleep", "1000"]);
    let got: u16 = port_of(&store, "web", "80").parse().unwrap();
    assert!(got > first && got <= first + 20, "{got} of {range}");
    let words = store.fails(125, &["run", "--rm", "-p", "80-82:80-81", IMAGE, "true"]);
    assert!(words.contains("Invalid ranges specified"), "{words}");
}

#[test]
fn exposed_ports_are_published_by_one_flag_and_shown_everywhere() {
    let store = Store::new();
    store.image("exposing", &["EXPOSE 80 53/udp"]);
    store.ok(&["run", "-d", "--name", "web", "-P", "--expose", "8000-8001", "exposing", "sleep", "1000"]);
    let ports = store.ok(&["port", "web"]);
    for port in ["80/tcp", "53/udp", "8000/tcp", "8001/tcp"] {
        assert!(ports.contains(&format!("{port} -> 0.0.0.0:")), "{ports}");
    }
    let words = store.fails(1, &["port", "web", "99"]);
    assert!(words.contains("No public port '99/tcp' published for web"), "{words}");
    let (first, free) = (free_port(), free_port());
    let fold = [format!("{first}:{first}"), format!("{free}:9000/udp")];
    store.ok(&["run", "-d", "--name", "fold", "-p", &fold[0], "-p", &fold[1], "exposing", "sleep", "1000"]);
    let shown = store.ok(&["ps", "-f", "name=fold", "--format", "{{.Ports}}"]);
    let all = |outer: &str, inner: &str| format!("0.0.0.0:{outer}->{inner}, [::]:{outer}->{inner}");
    let (same, other) = (all(&first, &format!("{first}/tcp")), all(&free, "9000/udp"));
    assert_eq!(shown, format!("53/udp, 80/tcp, {same}, {other}"));
    let host = store.inspect("web", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
    assert_eq!(host, port_of(&store, "web", "80"));
    for (filter, found) in [
        (format!("publish={host}"), true),
        (format!("publish={host}/udp"), false),
        ("publish=80".to_owned(), false),
        ("expose=80".to_owned(), true),
        ("expose=8001-8002/tcp".to_owned(), true),
        (format!("expose={host}"), false),
    ] {
        let names = store.ok(&["ps", "-f", "name=web", "-f", &filter, "--format", "{{.Names}}"]);
        assert_eq!(names, if found { "web" } else { "" }, "{filter}");
    }
    assert!(store.fails(1, &["ps", "-f", "publish=http"]).contains("invalid filter 'publish=http'"));
    store.ok(&["run", "-d", "--name", "silent", "exposing", "sleep", "1000"]);
    assert_eq!(store.ok(&["ps", "-f", "name=silent", "--format", "{{.Ports}}"]), "53/udp, 80/tcp");
    store.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(store.ok(&["ps", "-a", "-f", "name=web", "--format", "{{.Ports}}"]), "");
    assert_eq!(store.ok(&["ps", "-a", "-q", "-f", "name=web", "-f", "expose=80"]), "");
    assert_eq!(store.ok(&["port", "web"]), "");
}

#[test]
fn a_port_is_free_again_however_its_container_ends() {
    let store = Store::new();
    let port = free_port();
    let both = format!("{port}:80");
    for ending in ["exit", "kill", "crash"] {
        serve(&store, ending, &["-p", &both]);
        assert!(is_address(&ask("tcp", "127.0.0.1", &port)), "{ending}");
        match ending {
            "exit" => drop(store.ok(&["stop", "-t", "0", ending])),
            "kill" => drop(store.ok(&["rm", "-f", ending])),
            _ => {
                signal(store.supervisor(ending), libc::SIGKILL);
                // Nobody has looked at the container since.
                eventually("the port", || TcpListener::bind(("0.0.0.0", port.parse().unwrap())).is_ok());
            }
        }
    }
    serve(&store, "last", &["-p", &both]);
    assert_eq!(ask("tcp", "127.0.0.1", &port), store.inspect("last", "{{.NetworkSettings.Gateway}}"));
    assert_eq!(store.inspect("crash", "{{.State.Status}}"), "exited");
    assert!(is_address(&ask("tcp", "::1", &port)), "cleaning up after one took the other's port");
}

#[test]
fn a_container_that_restarts_keeps_its_port_and_address() {
    let store = Store::new();
    serve(&store, "web", &["-p", "80", "--restart", "always"]);
    let (port, before) = (port_of(&store, "web", "80"), address(&store, "web", "bridge"));
    signal(store.inspect("web", "{{.State.Pid}}").parse().unwrap(), libc::SIGKILL);
    eventually("the restart", || store.inspect("web", "{{.RestartCount}} {{.State.Status}}") == "1 running");
    eventually("the server", || is_address(&ask("tcp", "127.0.0.1", &port)));
    assert_eq!((port_of(&store, "web", "80"), address(&store, "web", "bridge")), (port, before));
}

#[test]
fn ports_are_reached_in_the_same_ways_where_the_kernel_filters_no_bridges() {
    let store = Store::new();
    let host = Namespace::new();
    host.ok("cd /proc/sys/net/bridge 2>/dev/null || exit 0; for f in bridge-nf-call-ip*; do echo 0 > $f; done");
    let run = |args: &[&str]| {
        let done = host.run(&store, args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done.out.trim_end().to_owned()
    };
    for (name, command) in [("web", &["probe", "serve", "80"][..]), ("other", &["sleep", "1000"])] {
        run(&[&["run", "-d", "--name", name, "-p", "80", "-p", "80/udp", IMAGE], command].concat());
    }
    eventually("the server", || run(&["logs", "web"]).contains("ready"));
    let gateways = ["Gateway", "IPv6Gateway"].map(|g| store.inspect("web", &format!("{{{{.NetworkSettings.{g}}}}}")));
    for protocol in ["tcp", "udp"] {
        let port = run(&["port", "web", &format!("80/{protocol}")]);
        let port = port.lines().next().unwrap().rsplit_once(':').unwrap().1;
        for (loopback, gateway) in ["127.0.0.1", "::1"].iter().zip(&gateways) {
            assert_eq!(host.ask(protocol, loopback, port), **gateway, "{protocol} from {loopback}");
            for who in ["other", "web"] {
                let answer = run(&["exec", who, "probe", "ask", protocol, gateway, port]);
                assert_eq!(answer, **gateway, "{protocol} from the container {who}");
            }
        }
    }
    run(&["rm", "-f", "web", "other"]);
}

#[test]
fn without_ipv6_there_is_ipv4() {
    let store = Store::new();
    let host = Namespace::new();
    host.ok("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let started = host.run(&store, &["run", "-d", "--name", "web", "-p", "80", IMAGE, "probe", "serve", "80"]);
    assert_eq!(started.code, 0, "{started:?}");
    eventually("the server", || store.ok(&["logs", "web"]).contains("ready"));
    let port = host.run(&store, &["port", "web", "80"]).out;
    let port = port.trim_end().rsplit_once(':').unwrap().1;
    assert!(is_address(&host.ask("tcp", "127.0.0.1", port)));
    let addresses = store.ok(&["exec", "web", "ip", "-6", "addr", "show", "eth0"]);
    assert!(!addresses.contains("global"), "{addresses}");
    assert_eq!(host.run(&store, &["rm", "-f", "web"]).code, 0);
}

#[test]
fn a_firewall_that_drops_forwarding_is_named() {
    let store = Store::new();
    for program in ["iptables", "iptables-legacy", "ip6tables-legacy"] {
        let host = Namespace::new();
        host.ok(&format!("{program} -P FORWARD DROP"));
        let started = host.run(&store, &["run", "-d", "--name", "web", "-p", "80", IMAGE, "sleep", "1000"]);
        assert_eq!(started.code, 0, "{started:?}");
        assert!(started.err.contains("WARNING") && started.err.contains("FORWARD"), "{started:?}");
        let bridge = minirun::network::tag(&store.root());
        assert!(started.err.contains(&format!(" {program} -I FORWARD -i {bridge} -j ACCEPT")), "{started:?}");
        assert_eq!(host.run(&store, &["rm", "-f", "web"]).code, 0);
        // Who has let the bridge through is not told again.
        host.ok(&format!("{program} -I FORWARD -i {bridge} -j ACCEPT; {program} -I FORWARD -o {bridge} -j ACCEPT"));
        let again = host.run(&store, &["run", "--rm", IMAGE, "true"]);
        assert_eq!((again.code, again.err.as_str()), (0, ""));
        assert!(host.ok(&format!("{program} -S")).contains("-P FORWARD DROP"));
        assert_eq!(host.run(&store, &["network", "prune", "-f"]).code, 0);
    }
}

#[test]
fn as_many_ports_are_published_as_there_may_be_descriptors() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "wide", "-p", "61000-62100:61000-62100", IMAGE, "sleep", "1000"]);
    assert_eq!(store.ok(&["port", "wide", "62100"]).lines().next(), Some("0.0.0.0:62100"));
    // It has no use for so many itself, also when it is started again.
    for _ in 0..2 {
        assert_eq!(
            store.ok(&[
                "exec",
                "wide",
                "sh",
                "-c",
                "ulimit -Sn; grep 'open files' /proc/1/limits | tr -s ' ' | cut -d' ' -f4"
            ]),
            "1024\n1024"
        );
        store.ok(&["restart", "-t", "0", "wide"]);
    }
}
