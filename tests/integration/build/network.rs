//! The networks of commands.

use super::parts_cached;
use crate::support::{Store, eventually};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;

/// A server of the host's on all its addresses: whoever connects is told a word. It ends with its test.
fn server(word: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len());
        }
    });
    port
}

impl Store {
    /// The places in networks of commands of builds.
    fn places_of_builds(&self) -> usize {
        let state =
            self.root().with_file_name("state").join(format!("network-{}", minirun::network::tag(&self.root())));
        let text = std::fs::read_to_string(state.join("state.json")).unwrap_or_default();
        text.matches("\"container\":\"build-").count()
    }
}

#[test]
fn commands_reach_the_host_and_know_its_name_and_their_own() {
    let store = Store::new();
    let port = server("from the host");
    let dockerfile = format!(
        "FROM busybox AS a\nRUN wget -qO /got http://outside:{port}/\nRUN ping -c1 -w5 $(hostname) >/dev/null\n\
         FROM busybox AS b\nRUN wget -qO /got http://outside:{port}/ && ip addr show eth0 | grep -q 'inet '\n\
         FROM a\nCOPY --from=b /got /other\n"
    );
    let args = ["--add-host", "outside:host-gateway", "--add-host", "fixed:192.0.2.7", "-t", "i"];
    store.builds(&dockerfile, &args);
    assert_eq!(store.places_of_builds(), 0);
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/got", "/other"]), "from the hostfrom the host");
    // What is cached needs no network.
    store.ok(&["network", "prune", "-f"]);
    assert_eq!(parts_cached(&store.builds(&dockerfile, &args)), 6);
    let bridge = minirun::network::tag(&store.root());
    assert!(!std::fs::read_to_string("/proc/net/dev").unwrap().contains(&bridge));
    // Names and servers are those of `run`, and no part of the image.
    let said =
        store.builds("FROM busybox\nRUN cat /etc/hosts /etc/resolv.conf\n", &[&args[..4], &["-t", "j"]].concat());
    let of_run = store.ok(&["run", "--rm", "busybox", "cat", "/etc/resolv.conf"]);
    for line in ["192.0.2.7\tfixed"].into_iter().chain(of_run.lines()) {
        assert!(said.contains(line), "{line}: {said}");
    }
    store.builds("FROM busybox\nRUN --mount=from=j,target=/j ! grep -s fixed /j/etc/hosts\n", &[]);
}

#[test]
fn networks_of_one_command_and_of_the_whole_build() {
    let store = Store::new();
    store.ok(&["network", "create", "--subnet", "10.223.252.0/24", "own"]);
    let interfaces =
        "RUN echo =$(cd /sys/class/net; ls | grep -v '^sit\\|^tunl' | wc -w)=$(ip -4 addr show eth0 2>&1)=\n";
    let build = |flag: &str, args: &[&str]| {
        let dockerfile = format!("FROM busybox\n{}", interfaces.replacen("RUN", &format!("RUN {flag}"), 1));
        store.builds(&dockerfile, &[&["--no-cache"], args].concat())
    };
    assert!(build("", &[]).contains("=2="));
    assert!(build("--network=none", &[]).contains("=1="));
    assert!(build("--network=default", &["--network", "none"]).contains("=1="));
    assert!(build("", &["--network", "default"]).contains("=2="));
    assert!(build("", &["--network", "own"]).contains("inet 10.223.252."));
    let port = server("on the loopback");
    let ask = format!("FROM busybox\nRUN wget -qO- http://127.0.0.1:{port}/\n");
    assert!(store.builds(&ask, &["--network", "host"]).contains("on the loopback"));
    assert!(store.build_fails(&ask, &[]).contains("exit code: 1"));
    assert!(store.build_fails("FROM busybox\nRUN true\n", &["--network", "nowhere"]).contains("nowhere not found"));
    let refused = store.build_fails("FROM busybox\nRUN true\n", &["--network", "container:x"]);
    assert!(refused.contains("cannot share the network"), "{refused}");
    assert_eq!(store.places_of_builds(), 0);
    store.ok(&["network", "rm", "own"]);
}

#[test]
fn a_killed_build_gives_its_places_back() {
    let store = Store::new();
    let path = store.context("long", "FROM busybox\nRUN sleep 1000\n");
    let start = || {
        let mut command = store.command(&["build", path.to_str().unwrap()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the command to be connected", || store.places_of_builds() == 1);
        child
    };
    // While it runs nobody takes its bridge away.
    let mut build = start();
    store.ok(&["network", "prune", "-f"]);
    assert_eq!(store.places_of_builds(), 1);
    build.kill().unwrap();
    build.wait().unwrap();
    store.rests();
    assert_eq!(store.places_of_builds(), 0);
    // With its worker killed as well the next command that looks finds out.
    for next in [&["network", "prune", "-f"][..], &["build", &store.text("other")]] {
        store.context("other", "FROM busybox\nRUN true\n");
        let mut build = start();
        let is_worker = |line: &str| line.starts_with("minirun-build ");
        let workers: Vec<i32> =
            store.processes().into_iter().filter(|(_, l)| is_worker(l)).map(|(pid, _)| pid).collect();
        assert!(!workers.is_empty());
        workers.iter().for_each(|pid| crate::support::signal(*pid, libc::SIGKILL));
        build.wait().unwrap();
        store.ok(next);
        assert_eq!(store.places_of_builds(), 0, "{next:?}");
        store.builds("FROM busybox\nRUN true\n", &["--no-cache"]);
    }
}
