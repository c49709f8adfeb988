//! Other hosts, as network namespaces with a cable to this one; and this host in a namespace of its own.

use crate::support::{Done, Store, done, eventually, fixture};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace that lives as long as this value.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Namespace {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", child.id());
        eventually("the namespace", || std::fs::read_link(&theirs).is_ok_and(|t| t != own));
        let namespace = Namespace(child);
        namespace.ok("ip link set lo up");
        namespace
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A command in it, not yet started.
    pub fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg(inner.get_program()).args(inner.get_args());
        command.stdin(Stdio::null());
        command
    }

    pub fn shell(&self, script: &str) -> Done {
        let mut inner = Command::new("sh");
        inner.args(["-ec", script]);
        done(&mut self.command(&inner))
    }

    pub fn ok(&self, script: &str) -> String {
        let done = self.shell(script);
        assert_eq!(done.code, 0, "{script}: {done:?}");
        done.out
    }

    /// Runs a command of the engine with this as its host.
    pub fn run(&self, store: &Store, args: &[&str]) -> Done {
        done(&mut self.command(&store.command(args)))
    }

    /// What a server answers to the probe from here.
    pub fn ask(&self, protocol: &str, address: &str, port: &str) -> String {
        let mut inner = Command::new(fixture("probe"));
        inner.args(["ask", protocol, address, port]);
        done(&mut self.command(&inner)).out.trim_end().to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another host, connected to this one by a cable of its own.
pub struct Neighbour {
    pub namespace: Namespace,
    /// This host's addresses on the cable.
    pub here: [String; 2],
    /// The other host's.
    pub there: [String; 2],
}

impl Neighbour {
    pub fn new() -> Neighbour {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() % 4096) * 8 + NUMBER.fetch_add(1, Ordering::Relaxed) % 8;
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number * 4;
        let v4 = |n: u32| Ipv4Addr::from(base + n).to_string();
        let v6 = |n: u32| format!("fd98:{number:x}::{n}");
        let namespace = Namespace::new();
        let (here, there) = ([v4(1), v6(1)], [v4(2), v6(2)]);
        let cable = format!("mrt{number:x}");
        let script = format!(
            "ip link add {cable} type veth peer name eth0 netns {pid}
             ip addr add {}/30 dev {cable}; ip addr add {}/64 dev {cable} nodad; ip link set {cable} up",
            here[0],
            here[1],
            pid = namespace.pid(),
        );
        let made = done(Command::new("sh").args(["-ec", &script]));
        assert_eq!(made.code, 0, "{made:?}");
        namespace.ok(&format!(
            "ip addr add {}/30 dev eth0; ip addr add {}/64 dev eth0 nodad; ip link set eth0 up
             ip route add default via {}; ip -6 route add default via {}",
            there[0], there[1], here[0], here[1]
        ));
        Neighbour { namespace, here, there }
    }
}

/// What a server answers to the probe on this host.
pub fn ask(protocol: &str, address: &str, port: &str) -> String {
    done(Command::new(fixture("probe")).args(["ask", protocol, address, port])).out.trim_end().to_owned()
}

/// A port that nobody has right now.
pub fn free_port() -> String {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Starts a container in which the probe serves port 80, and waits until it does.
pub fn serve(store: &Store, name: &str, flags: &[&str]) {
    let command = [crate::support::IMAGE, "probe", "serve", "80"];
    store.ok(&[&["run", "-d", "--name", name], flags, &command[..]].concat());
    eventually("the server", || store.ok(&["logs", name]).contains("ready"));
}

/// The port of the host that leads to port 80 of a container.
pub fn port_of(store: &Store, name: &str, port: &str) -> String {
    let line = store.ok(&["port", name, port]);
    line.lines().next().unwrap().rsplit_once(':').unwrap().1.to_owned()
}

/// An address of a running container.
pub fn address(store: &Store, name: &str, network: &str) -> String {
    store.inspect(name, &format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}"))
}

/// An address in words is one.
pub fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}
