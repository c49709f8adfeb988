//! Names: /etc/hosts, /etc/resolv.conf, and who knows whom.

use super::host::address;
use crate::support::{IMAGE, Store, eventually, signal};

fn knows(store: &Store, who: &str, name: &str) -> Option<String> {
    let hosts = store.ok(&["exec", who, "cat", "/etc/hosts"]);
    let line = hosts.lines().find(|l| l.split_ascii_whitespace().skip(1).any(|n| n == name))?;
    line.split_ascii_whitespace().next().map(str::to_owned)
}

#[test]
fn members_of_a_network_know_one_another_as_long_as_they_run() {
    let store = Store::new();
    store.ok(&["network", "create", "net"]);
    let flags = ["--network", "net", "--network-alias", "uno", "--hostname", "first", "--domainname", "example.org"];
    store.ok(&[&["run", "-d", "--name", "one"], &flags[..], &[IMAGE, "sleep", "1000"]].concat());
    store.ok(&["run", "-d", "--name", "two", "--network", "net", IMAGE, "sleep", "1000"]);
    store.ok(&["run", "-d", "--name", "stranger", IMAGE, "sleep", "1000"]);
    let id = store.inspect("one", "{{.Id}}")[..12].to_owned();
    for name in ["one", "uno", "first", id.as_str(), "one.net", "uno.net", "first.net"] {
        assert_eq!(knows(&store, "two", name), Some(address(&store, "one", "net")), "{name}");
        store.ok(&["exec", "two", "ping", "-c", "1", name]);
    }
    assert_eq!(knows(&store, "one", "two"), Some(address(&store, "two", "net")));
    assert_eq!((knows(&store, "stranger", "two"), knows(&store, "one", "stranger")), (None, None));
    // A host name does not hide another's name.
    store.ok(&["run", "-d", "--name", "sly", "--hostname", "late", "--network", "net", IMAGE, "sleep", "1000"]);
    assert_eq!(knows(&store, "two", "late"), Some(address(&store, "sly", "net")));
    store.ok(&["run", "-d", "--name", "late", "--network", "net", IMAGE, "sleep", "1000"]);
    assert_eq!(knows(&store, "two", "late"), Some(address(&store, "late", "net")));
    store.ok(&["rm", "-f", "late", "sly"]);
    assert_eq!((knows(&store, "stranger", "two.net"), knows(&store, "two", "one.bridge")), (None, None));
    // What a container writes there itself stays.
    store.ok(&["exec", "one", "sh", "-c", "echo 192.0.2.9 mine >> /etc/hosts"]);
    store.ok(&["network", "connect", "--alias", "fremd", "net", "stranger"]);
    assert_eq!(knows(&store, "one", "fremd"), Some(address(&store, "stranger", "net")));
    assert_eq!(knows(&store, "stranger", "two"), Some(address(&store, "two", "net")));
    store.ok(&["exec", "stranger", "ping", "-c", "1", "two"]);
    store.ok(&["network", "disconnect", "net", "stranger"]);
    assert_eq!((knows(&store, "one", "stranger"), knows(&store, "stranger", "two")), (None, None));
    store.ok(&["stop", "-t", "0", "two"]);
    assert_eq!(knows(&store, "one", "two"), None);
    store.ok(&["start", "two"]);
    assert_eq!(knows(&store, "one", "two"), Some(address(&store, "two", "net")));
    // After a supervisor was killed, whoever looks at its container tells the others.
    signal(store.supervisor("two"), libc::SIGKILL);
    eventually("the end", || store.inspect("two", "{{.State.Status}}") == "exited");
    assert_eq!(knows(&store, "one", "two"), None);
    assert_eq!(knows(&store, "one", "mine").as_deref(), Some("192.0.2.9"));
    store.ok(&["rm", "-f", "one", "two", "stranger"]);
    store.ok(&["network", "rm", "net"]);
}

#[test]
fn a_container_that_is_renamed_is_known_by_its_new_name() {
    let store = Store::new();
    store.ok(&["network", "create", "net"]);
    let run = |name: &str| drop(store.ok(&["run", "-d", "--name", name, "--network", "net", IMAGE, "sleep", "1000"]));
    run("old");
    run("other");
    store.ok(&["rename", "old", "new"]);
    let renamed = address(&store, "new", "net");
    for who in ["new", "other"] {
        assert_eq!((knows(&store, who, "new"), knows(&store, who, "old")), (Some(renamed.clone()), None), "{who}");
    }
    run("old");
    let second = address(&store, "old", "net");
    assert_ne!(second, renamed);
    for who in ["new", "old", "other"] {
        let known = (knows(&store, who, "new"), knows(&store, who, "old"));
        assert_eq!(known, (Some(renamed.clone()), Some(second.clone())), "{who}");
    }
    store.ok(&["rm", "-f", "old", "new", "other"]);
    store.ok(&["network", "rm", "net"]);
}

#[test]
fn linked_containers_are_known_by_their_aliases() {
    let store = Store::new();
    store.ok(&["network", "create", "net"]);
    let sleep = |flags: &[&str]| drop(store.ok(&[&["run", "-d"], flags, &[IMAGE, "sleep", "1000"]].concat()));
    sleep(&["--name", "db"]);
    sleep(&["--name", "web", "--link", "db:store", "--link", "db"]);
    let known = |who: &str, network: &str| {
        let place = Some(address(&store, "db", network));
        for name in ["store", "db", &store.inspect("db", "{{.Id}}")[..12]] {
            assert_eq!(knows(&store, who, name), place, "{name}");
        }
    };
    known("web", "bridge");
    store.ok(&["exec", "web", "ping", "-c", "1", "store"]);
    assert_eq!((knows(&store, "db", "web"), knows(&store, "db", "store")), (None, None));
    // It is found where it is, also when it is elsewhere, or has another name.
    let before = address(&store, "db", "bridge");
    store.ok(&["stop", "-t", "0", "db"]);
    assert_eq!((knows(&store, "web", "store"), knows(&store, "web", "db")), (None, None));
    sleep(&["--name", "between"]);
    store.ok(&["start", "db"]);
    assert_ne!(address(&store, "db", "bridge"), before);
    known("web", "bridge");
    store.ok(&["rename", "db", "other"]);
    let renamed = (knows(&store, "web", "store"), knows(&store, "web", "other"));
    assert_eq!(renamed, (Some(address(&store, "other", "bridge")), Some(address(&store, "other", "bridge"))));
    store.ok(&["rename", "other", "db"]);
    let id = store.inspect("db", "{{.Id}}");
    let shown = store.inspect("web", "{{.NetworkSettings.Networks.bridge.Links}}");
    assert_eq!(shown, format!("[{id}:store {id}:db]"));
    // In networks of users, also before the other one is there.
    store.ok(&["network", "connect", "net", "db"]);
    sleep(&["--name", "web2", "--network", "net", "--link", "db:store", "--link", "late:soon"]);
    known("web2", "net");
    sleep(&["--name", "late", "--network", "net"]);
    assert_eq!(knows(&store, "web2", "soon"), Some(address(&store, "late", "net")));
    sleep(&["--name", "web3"]);
    store.ok(&["network", "connect", "--link", "db:store", "net", "web3"]);
    known("web3", "net");
    store.ok(&["rm", "-f", "web", "web2", "web3", "db", "late", "between"]);
    store.ok(&["network", "rm", "net"]);
    for (flags, words) in [
        (&["--link", "nosuch:x"][..], "could not get container for nosuch"),
        (&["--link", "a:b c"], "bad format for links: a:b c"),
        (&["--link", ":x"], "bad format for links: :x"),
        (&["--link", "web", "--network", "host"], "conflicting options: links and the network mode host"),
    ] {
        let said = store.fails(125, &[&["run", "--rm"], flags, &[IMAGE, "true"]].concat());
        assert!(said.contains(words), "{flags:?}: {said}");
    }
}

#[test]
fn hosts_says_what_was_asked_for() {
    let store = Store::new();
    let flags = ["--hostname", "web", "--domainname", "example.org", "--add-host", "db:192.0.2.7"];
    let more = ["--add-host", "v6:[2001:db8::7]", "--add-host", "host.docker.internal:host-gateway"];
    store.ok(&[&["run", "-d", "--name", "web"], &flags[..], &more, &[IMAGE, "sleep", "1000"]].concat());
    let own = address(&store, "web", "bridge");
    assert_eq!(knows(&store, "web", "web"), Some(own.clone()));
    assert_eq!(knows(&store, "web", "web.example.org"), Some(own));
    assert_eq!(knows(&store, "web", "db").as_deref(), Some("192.0.2.7"));
    assert_eq!(knows(&store, "web", "v6").as_deref(), Some("2001:db8::7"));
    let gateway = store.inspect("web", "{{.NetworkSettings.Gateway}}");
    assert_eq!(knows(&store, "web", "host.docker.internal"), Some(gateway));
    assert_eq!(store.ok(&["exec", "web", "sh", "-c", "hostname; dnsdomainname"]), "web\nexample.org");
    let words = store.fails(125, &["run", "--rm", "--add-host", "db:x", IMAGE, "true"]);
    assert!(words.contains("invalid IP address in add-host"), "{words}");
}

#[test]
fn the_host_is_known_by_the_gateway_of_the_first_network_whichever_that_is() {
    let store = Store::new();
    store.ok(&["network", "create", "left"]);
    store.ok(&["network", "create", "right"]);
    let flags = ["--network", "left", "--add-host", "outside:host-gateway"];
    store.ok(&[&["run", "-d", "--name", "one"], &flags[..], &[IMAGE, "sleep", "1000"]].concat());
    let check = |network: &str| {
        let template = format!("{{{{(index .NetworkSettings.Networks {network:?}).Gateway}}}}");
        assert_eq!(knows(&store, "one", "outside"), Some(store.inspect("one", &template)), "{network}");
    };
    check("left");
    store.ok(&["network", "connect", "right", "one"]);
    check("left");
    store.ok(&["network", "disconnect", "left", "one"]);
    check("right");
    store.ok(&["network", "disconnect", "right", "one"]);
    assert_eq!(knows(&store, "one", "outside"), None);
    store.ok(&["network", "connect", "left", "one"]);
    check("left");
    store.ok(&["rm", "-f", "one"]);
    store.ok(&["network", "rm", "left", "right"]);
}

#[test]
fn in_the_hosts_network_a_container_has_the_hosts_name_unless_it_is_given_one() {
    let store = Store::new();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim_end().to_owned();
    let script = "hostname; cat /etc/hostname; echo $HOSTNAME";
    let named = |flags: &[&str], name: &str| {
        store.ok(&[&["run", "--name", "one", "--network", "host"], flags, &[IMAGE, "sh", "-c", script]].concat());
        assert_eq!(store.ok(&["logs", "one"]), format!("{name}\n{name}\n{name}"));
        assert_eq!(store.inspect("one", "{{.Config.Hostname}}"), name);
        store.ok(&["rm", "one"]);
    };
    named(&[], &host);
    named(&["--uts", "host"], &host);
    named(&["--hostname", "other"], "other");
}

#[test]
fn the_resolver_is_the_hosts_or_the_users() {
    let store = Store::new();
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(store.ok(&["run", "--rm", "--network", "host", IMAGE, "cat", "/etc/resolv.conf"]), host.trim_end());
    let own = store.ok(&["run", "--rm", IMAGE, "cat", "/etc/resolv.conf"]);
    assert!(own.contains("nameserver ") && !own.contains("nameserver 127."), "{own}");
    let flags =
        ["--dns", "192.0.2.53", "--dns-search", "a.example", "--dns-search", "b.example", "--dns-option", "rotate"];
    let asked = store.ok(&[&["run", "--rm"], &flags[..], &[IMAGE, "cat", "/etc/resolv.conf"]].concat());
    assert_eq!(asked, "nameserver 192.0.2.53\nsearch a.example b.example\noptions rotate");
    let words = store.fails(125, &["run", "--rm", "--dns", "x", IMAGE, "true"]);
    assert!(words.contains("x is not an ip address"), "{words}");
}
