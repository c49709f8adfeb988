//! Many at once, and what is left when somebody else, or nobody, has cleaned up.

use super::host::{Namespace, address, ask, is_address, port_of, serve};
use crate::support::{IMAGE, Store, eventually, from_output};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

#[test]
fn fifty_containers_start_at_once_with_published_ports() {
    let store = Store::new();
    let names: Vec<String> = (0..50).map(|n| format!("many{n}")).collect();
    let start = |name: &String| {
        let mut command = store.command(&["run", "-d", "--name", name, "-p", "80", IMAGE, "probe", "serve", "80"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = names.iter().map(start).collect();
    for child in children {
        let done = from_output(child.wait_with_output().unwrap());
        assert_eq!(done.code, 0, "{done:?}");
    }
    let all = [
        &[
            "inspect",
            "-f",
            "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.GlobalIPv6Address}} \
        {{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
        ],
        &names.iter().map(String::as_str).collect::<Vec<_>>()[..],
    ]
    .concat();
    let text = store.ok(&all);
    for column in 0..3 {
        let distinct: BTreeSet<&str> = text.lines().filter_map(|l| l.split(' ').nth(column)).collect();
        assert_eq!(distinct.len(), 50, "{text}");
    }
    for port in text.lines().filter_map(|l| l.split(' ').nth(2)) {
        eventually("the server", || is_address(&ask("tcp", "127.0.0.1", port)));
    }
    store.ok(&[&["rm", "-f"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    let ours = || std::fs::read_to_string("/proc/net/dev").unwrap().contains(&minirun::network::tag(&store.root()));
    assert!(!ours(), "the last container's end leaves the bridge");
}

#[test]
fn what_somebody_else_removed_is_made_anew() {
    let store = Store::new();
    let host = Namespace::new();
    let tag = minirun::network::tag(&store.root());
    let run = |args: &[&str]| {
        let done = host.run(&store, args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done.out.trim_end().to_owned()
    };
    let server = |name: &str| {
        run(&["run", "-d", "--name", name, "-p", "80", IMAGE, "probe", "serve", "80"]);
        eventually("the server", || run(&["logs", name]).contains("ready"));
        run(&["port", name, "80"]).lines().next().unwrap().rsplit_once(':').unwrap().1.to_owned()
    };
    let first = server("first");
    assert!(is_address(&host.ask("tcp", "127.0.0.1", &first)));
    let before = run(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "first"]);
    // As a firewall's reload does it: the table is gone, and the next start brings all of it back.
    remove_table(&host, &tag);
    assert!(!is_address(&host.ask("tcp", "127.0.0.1", &first)));
    let second = server("second");
    for port in [&first, &second] {
        assert!(is_address(&host.ask("tcp", "127.0.0.1", port)), "{port}");
    }
    run(&["rm", "-f", "second"]);
    host.ok(&format!("ip link del {tag}"));
    let third = server("third");
    assert!(is_address(&host.ask("tcp", "127.0.0.1", &third)));
    assert_eq!(run(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "third"]), before);
    run(&["rm", "-f", "first", "third"]);
}

/// With the library, since there may be no nft program; in a process of its own that is in the namespace.
fn remove_table(host: &Namespace, tag: &str) {
    let path = format!("/proc/{}/ns/net", host.pid());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::open(path).unwrap();
            minirun::sys::process::join_namespaces(&file, libc::CLONE_NEWNET).unwrap();
            let mut netlink = minirun::sys::nftables::open().unwrap();
            let mut batch = minirun::sys::nftables::Batch::new(tag);
            batch.remove_table();
            batch.carry_out(&mut netlink).unwrap();
        });
    });
}

#[test]
fn other_tables_and_their_rules_are_left_alone() {
    let store = Store::new();
    let host = Namespace::new();
    host.ok("iptables -A INPUT -p tcp --dport 99 -j DROP; iptables -t nat -A POSTROUTING -o nosuch -j MASQUERADE");
    let before = host.ok("iptables-save | grep -v '^#'");
    assert_eq!(host.run(&store, &["run", "--rm", "-p", "80", IMAGE, "true"]).code, 0);
    assert_eq!(host.ok("iptables-save | grep -v '^#'"), before);
    assert_eq!(host.run(&store, &["network", "prune", "-f"]).code, 0);
    assert_eq!(host.ok("ls /sys/class/net 2>/dev/null; ip -o link | wc -l").split_whitespace().last(), Some("1"));
}

#[test]
fn a_failed_start_gives_everything_back() {
    let store = Store::new();
    serve(&store, "stays", &["-p", "80"]);
    let port = port_of(&store, "stays", "80");
    let wanted = format!("{port}:80");
    for _ in 0..3 {
        store.fails(125, &["run", "--rm", "-p", "80/udp", "-p", &wanted, IMAGE, "true"]);
        store.fails(127, &["run", "--rm", "-p", "80/udp", IMAGE, "/no/such"]);
    }
    let members = store.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "bridge"]);
    assert_eq!(members.trim_end(), "stays");
    assert!(is_address(&address(&store, "stays", "bridge")) && is_address(&ask("tcp", "127.0.0.1", &port)));
}

#[test]
fn what_a_killed_writer_left_goes_with_the_rest() {
    let store = Store::new();
    store.ok(&["run", "--rm", IMAGE, "true"]);
    let folder = store.root().with_file_name("state").join(format!("network-{}", minirun::network::tag(&store.root())));
    std::fs::write(folder.join(".state.json.0123456789ab"), "").unwrap();
    store.ok(&["network", "prune", "-f"]);
    assert!(!folder.exists());
}

#[test]
fn ports_come_back_after_a_supervisors_death() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "web", "-p", "80", IMAGE, "probe", "serve", "80"]);
    for command in [&["start", "web"][..], &["restart", "-t", "0", "web"]] {
        let supervisor = store.supervisor("web");
        let init: i32 = store.inspect("web", "{{.State.Pid}}").parse().unwrap();
        crate::support::signal(supervisor, libc::SIGKILL);
        eventually("both to end", || !Path::new(&format!("/proc/{init}")).exists());
        store.ok(command);
        let port = store.ok(&["port", "web", "80"]);
        let port = port.lines().next().unwrap().rsplit_once(':').unwrap().1;
        eventually("the server", || is_address(&ask("tcp", "127.0.0.1", port)));
    }
}

#[test]
fn a_network_whose_only_container_could_not_start_can_be_removed() {
    let store = Store::new();
    let id = store.ok(&["network", "create", "n"]);
    let held = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let publish = format!("{}:80", held.local_addr().unwrap().port());
    let refused = store.run(&["run", "--rm", "--network", "n", "-p", &publish, IMAGE, "true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    store.ok(&["network", "rm", "n"]);
    assert!(!Path::new("/sys/class/net").join(format!("mr-{}", &id[..12])).exists());
}
