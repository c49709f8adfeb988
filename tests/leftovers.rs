//! After all that can happen to a store, the host is as it was before. A program of its own, because the other tests
//! change what this one looks at.

#[path = "integration/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::{IMAGE, Store, eventually, fixture, signal};

/// What a container engine could leave behind on its host.
#[derive(Debug, PartialEq)]
struct Host {
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    interfaces: BTreeSet<String>,
    filters: BTreeSet<String>,
    namespaces: BTreeSet<PathBuf>,
    processes: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

impl Host {
    fn now() -> Host {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        Host {
            mounts: mounts.lines().map(str::to_owned).collect(),
            cgroups: cgroups(Path::new("/sys/fs/cgroup"), 0),
            interfaces: entries(Path::new("/sys/class/net")).iter().map(|p| p.display().to_string()).collect(),
            filters: filters(),
            namespaces: entries(Path::new("/run/netns")),
            processes: processes(),
            files: ["/run", "/var/lib", "/var/run", "/tmp", "/dev/shm"]
                .iter()
                .flat_map(|dir| entries(Path::new(dir)))
                .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains("minirun")))
                .collect(),
        }
    }
}

/// The base chains of all packet filters.
fn filters() -> BTreeSet<String> {
    let chains = minirun::sys::nftables::open().ok().and_then(|mut n| minirun::sys::nftables::base_chains(&mut n).ok());
    chains.into_iter().flatten().map(|c| format!("{c:?}")).collect()
}

fn entries(dir: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// The directories named `minirun` in all hierarchies with what is below them.
fn cgroups(dir: &Path, depth: u32) -> BTreeSet<PathBuf> {
    let below = entries(dir).into_iter().filter(|p| p.is_dir() && !p.is_symlink());
    let mut found = BTreeSet::new();
    for path in below {
        let ours = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("minirun"));
        if ours {
            found.insert(path.clone());
        }
        if depth < 4 {
            found.extend(cgroups(&path, depth + 1));
        }
    }
    found
}

/// The processes whose command or arguments have to do with the engine or with its containers.
fn processes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in entries(Path::new("/proc")) {
        let Some(pid) = path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()) else { continue };
        let read =
            |file: &str| String::from_utf8_lossy(&std::fs::read(path.join(file)).unwrap_or_default()).into_owned();
        let (name, line) = (read("comm"), read("cmdline").replace('\0', " "));
        let is_ours = name.starts_with("minirun") || line.contains("minirun-") || line.contains("mrt-");
        let is_contained = line.contains(MARK);
        // One that has ended is its parent's business.
        let has_ended = read("stat").rsplit(')').next().is_some_and(|s| s.trim_start().starts_with(['Z', 'X']));
        if pid != std::process::id() && !has_ended && (is_ours || is_contained) {
            found.insert(format!("{pid} {name} {line}"));
        }
    }
    found
}

/// Seconds that the containers' processes sleep: nothing else on the host sleeps so long.
const MARK: &str = "86399.25";

#[test]
fn nothing_is_left_on_the_host() {
    // The engine's own cgroup stays once it was made.
    drop({
        let store = Store::new();
        store.ok(&["run", "--rm", IMAGE, "true"]);
        store
    });
    let before = Host::now();
    let store = Store::new();
    scenario(&store);
    drop(store);
    // The last supervisors are still on their way out.
    eventually("the engine's processes to end", || processes() == before.processes);
    // The kernel takes interfaces away in its own time.
    eventually("the interfaces to go", || Host::now().interfaces == before.interfaces);
    assert_same(&before, &Host::now());
}

fn assert_same(before: &Host, after: &Host) {
    differ("mounts", &before.mounts, &after.mounts);
    differ("cgroups", &before.cgroups, &after.cgroups);
    differ("network interfaces", &before.interfaces, &after.interfaces);
    differ("packet filters", &before.filters, &after.filters);
    differ("network namespaces", &before.namespaces, &after.namespaces);
    differ("files", &before.files, &after.files);
    assert_eq!(before, after);
}

fn differ<T: Ord + std::fmt::Debug>(what: &str, before: &BTreeSet<T>, after: &BTreeSet<T>) {
    let (more, less): (Vec<_>, Vec<_>) = (after.difference(before).collect(), before.difference(after).collect());
    assert!(more.is_empty() && less.is_empty(), "{what}: {more:?} came, {less:?} went");
}

fn scenario(store: &Store) {
    let sleep = format!("sleep {MARK}");
    store.ok(&["run", "--rm", IMAGE, "true"]);
    assert_eq!(store.run(&["run", "--name", "failed", IMAGE, "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(store.run(&["run", "--rm", IMAGE, "/no/such"]).code, 127);
    store.ok(&["network", "create", "own"]);
    for name in ["worker", "limited", "removed", "crashed", "crashed-and-removed", "paused", "again"] {
        let options: &[&str] = match name {
            "again" => &["--restart", "always", "-p", "80", "--network", "own"],
            "limited" => &[
                "-p",
                "127.0.0.1::80/udp",
                "-m",
                "64m",
                "--pids-limit",
                "20",
                "--cpus",
                "0.5",
                "--read-only",
                "--tmpfs",
                "/t",
            ],
            "removed" | "crashed-and-removed" => &["--rm", "-v", "/anonymous"],
            "worker" => &["--privileged", "-v", "data:/data", "--init", "-it"],
            _ => &[],
        };
        store.ok(&[&["run", "-d", "--name", name], options, &[IMAGE, "sh", "-c", &sleep]].concat());
    }
    store.ok(&["exec", "worker", "sh", "-c", "echo x > /data/x; echo y > /y"]);
    store.ok(&["exec", "-d", "worker", "sh", "-c", &sleep]);
    store.ok(&["exec", "--privileged", "worker", "sh", "-c", "mount -t tmpfs none /mnt; echo z > /mnt/z"]);
    store.ok(&["commit", "worker", "made"]);
    assert_eq!(store.ok(&["run", "--rm", "made", "cat", "/y"]), "y");
    store.ok(&["pause", "paused"]);
    let mut client = store.spawn(&["exec", "limited", "sh", "-c", &sleep]);
    eventually("the command", || store.ok(&["top", "limited"]).lines().count() >= 3);
    client.kill().unwrap();
    client.wait().unwrap();
    for name in ["crashed", "crashed-and-removed"] {
        signal(store.supervisor(name), libc::SIGKILL);
    }
    signal(store.inspect("again", "{{.State.Pid}}").parse().unwrap(), libc::SIGKILL);
    store.ok(&["stop", "-t", "0", "removed"]);
    store.ok(&["import", fixture("busybox.tar").to_str().unwrap(), "other"]);
    let names = ["worker", "limited", "crashed", "crashed-and-removed", "paused", "again", "failed"];
    store.ok(&[&["rm", "-f", "-v"], &names[..]].concat());
    store.ok(&["network", "rm", "own"]);
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}
