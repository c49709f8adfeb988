//! What a supervisor does for its container when something is in the way, and what it leaves.

use crate::support::{IMAGE, Store, done, eventually, signal};
use std::ops::Deref;
use std::process::Command;

/// A store on a small disk of its own.
struct SmallStore(Store);

impl SmallStore {
    fn new() -> SmallStore {
        let store = Store::empty();
        std::fs::create_dir(store.root()).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m,mode=711", "tmpfs"]).arg(store.root());
        assert_eq!(done(&mut mount).code, 0);
        let small = SmallStore(store);
        small.ok(&["import", crate::support::fixture("busybox.tar").to_str().unwrap(), IMAGE]);
        small
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.root().join("tmp/ballast")).unwrap();
        assert!(std::io::copy(&mut std::io::repeat(b'x'), &mut file).is_err());
    }

    fn free(&self) {
        std::fs::remove_file(self.root().join("tmp/ballast")).unwrap();
    }
}

impl Deref for SmallStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0
    }
}

impl Drop for SmallStore {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "-af"]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.processes().is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = done(Command::new("umount").arg("-l").arg(self.root()));
    }
}

#[test]
fn restart_keeps_a_container_that_is_to_be_removed_at_its_end() {
    let store = Store::new();
    store.ok(&["run", "-d", "--rm", "--name", "kept", "-v", "/anonymous", IMAGE, "sleep", "1000"]);
    store.ok(&["exec", "kept", "touch", "/anonymous/kept"]);
    store.ok(&["restart", "-t", "0", "kept"]);
    assert_eq!(store.inspect("kept", "{{.State.Status}}"), "running");
    store.ok(&["exec", "kept", "test", "-e", "/anonymous/kept"]);
    store.ok(&["stop", "-t", "0", "kept"]);
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    assert_eq!(store.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_full_disk_stops_the_log_only_for_as_long_as_it_is_full() {
    let store = SmallStore::new();
    let fifo = store.text("input");
    assert_eq!(done(Command::new("mkfifo").arg(&fifo)).code, 0);
    let mut args = vec!["run", "-d", "--name", "teller"];
    let volume = format!("{fifo}:/input");
    args.extend(["-v", &volume, IMAGE, "sh", "-c", "while :; do cat /input; done"]);
    store.ok(&args);
    std::fs::write(&fifo, "before\n").unwrap();
    let logs = || store.ok(&["logs", "teller"]);
    eventually("the first line", || logs().contains("before"));
    store.fill();
    let long = "x".repeat(50_000) + "\n";
    std::fs::write(&fifo, &long).unwrap();
    std::fs::write(&fifo, &long).unwrap();
    store.free();
    eventually("the log to go on", || {
        std::fs::write(&fifo, "after\n").unwrap();
        logs().contains("after")
    });
    store.ok(&["rm", "-f", "teller"]);
}

#[test]
fn images_go_when_the_disk_is_full() {
    let store = SmallStore::new();
    for name in ["first", "second"] {
        store.committed_image(IMAGE, name, &format!("echo {name} > /file"));
    }
    store.fill();
    // Without its name it has less to say in the list, but that is written anew.
    store.ok(&["rmi", "first"]);
    assert_eq!(store.ok(&["run", "--rm", "second", "cat", "/file"]), "second");
    store.ok(&["system", "prune", "-af"]);
    assert_eq!(store.ok(&["images", "-aq"]), "");
    let made = store.run(&["import", crate::support::fixture("busybox.tar").to_str().unwrap(), IMAGE]);
    assert!(made.code == 0 || made.err.contains("No space left"), "{made:?}");
}

#[test]
fn an_end_on_a_full_disk_is_known_and_is_written_down_when_there_is_room() {
    let store = SmallStore::new();
    let wait = "while [ ! -e /gate/open ]; do sleep 0.05; done; exit 4";
    let volume = format!("{}:/gate", store.path("").display());
    let status = |name: &str| store.inspect(name, "{{.State.Status}} {{.State.ExitCode}}");
    store.ok(&["run", "-d", "--name", "failing", "-v", &volume, IMAGE, "sh", "-c", wait]);
    store.ok(&["run", "-d", "--name", "stopped", "--restart", "unless-stopped", IMAGE, "sleep", "1000"]);
    let again = ["run", "-d", "--name", "again", "--restart", "always", "-v", &volume, IMAGE, "sh", "-c", wait];
    store.ok(&again);
    store.fill();
    store.ok(&["stop", "-t", "0", "stopped"]);
    store.write("open", "");
    eventually("the end", || status("failing") == "exited 4");
    assert_eq!(status("stopped"), "exited 137");
    assert_eq!(store.ok(&["resume", "--dry-run"]), "");
    eventually("two restarts", || store.inspect("again", "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
    store.free();
    assert_eq!(status("failing"), "exited 4");
    let exit = store.root().join("containers").join(store.inspect_id("failing")).join("exit.json");
    assert!(std::fs::read_to_string(exit).unwrap().contains("\"exit_code\":4"));
    assert_eq!(store.ok(&["resume", "--dry-run"]), "");
}

#[test]
fn a_container_whose_mark_a_power_cut_has_emptied_comes_back() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "cut", "--restart", "unless-stopped", IMAGE, "sleep", "1000"]);
    let id = store.inspect_id("cut");
    signal(store.supervisor("cut"), libc::SIGKILL);
    let state = store.root().with_file_name("state").join(&id);
    eventually("the supervisor to be gone", || std::fs::remove_dir_all(&state).is_ok() || !state.exists());
    std::fs::write(store.root().join("containers").join(&id).join("up"), "").unwrap();
    eventually("the container to be dead", || store.ok(&["resume", "--dry-run"]) == "cut");
    let shown = store.inspect("cut", "{{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}}");
    assert!(shown.starts_with("exited 255 2"), "{shown}");
    store.ok(&["rm", "cut"]);
}

#[test]
fn a_paused_container_ends_when_its_supervisor_or_its_stop_signal_says_so() {
    let store = Store::new();
    let script = "trap 'exit 7' TERM; echo ready; sleep 1000 & wait";
    for name in ["supervised", "signalled"] {
        store.ok(&["run", "-d", "--name", name, IMAGE, "sh", "-c", script]);
        eventually("the trap", || store.ok(&["logs", name]) == "ready");
        store.ok(&["pause", name]);
    }
    signal(store.supervisor("supervised"), libc::SIGTERM);
    store.ok(&["kill", "-s", "TERM", "signalled"]);
    for name in ["supervised", "signalled"] {
        eventually("the end", || store.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 7");
    }
}
