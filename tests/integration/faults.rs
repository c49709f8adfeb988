//! What happens between two steps of a command: others are faster, it is killed, or it gets no room, thread or file.

use crate::support::{IMAGE, Store, cgroups_of, done, eventually, fixture, slurp};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A lock of the store's in the hands of the test.
struct Held(File);

impl Held {
    fn of(path: &Path) -> Held {
        let file = File::open(path).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        Held(file)
    }

    /// Starts a command, and waits until it waits for this lock.
    fn stops(&self, store: &Store, args: &[&str]) -> Child {
        let mut command = store.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let inode = format!(":{} ", self.0.metadata().unwrap().ino());
        eventually("the command to wait for the lock", || {
            assert!(child.try_wait().unwrap().is_none(), "{args:?} does not wait");
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&inode))
        });
        child
    }
}

fn result(child: Child) -> (i32, String) {
    let done = crate::support::from_output(child.wait_with_output().unwrap());
    (done.code, done.err)
}

/// Where the addresses in use are.
fn ledger(store: &Store) -> PathBuf {
    let tag = minirun::network::tag(&store.root());
    store.root().with_file_name("state").join(format!("network-{tag}"))
}

fn definition(store: &Store, network: &str) -> PathBuf {
    store.root().join(format!("networks/{network}.json"))
}

fn bridge_of(store: &Store, network: &str) -> PathBuf {
    let template = "{{index .Options \"com.docker.network.bridge.name\"}}";
    Path::new("/sys/class/net").join(store.ok(&["network", "inspect", "-f", template, network]))
}

// ---- networks

#[test]
fn a_network_that_has_taken_the_name_of_a_removed_one_is_not_removed_in_its_place() {
    let store = Store::new();
    store.ok(&["network", "create", "one"]);
    store.ok(&["run", "-d", "--name", "inside", "--network", "one", IMAGE, "sleep", "1000"]);
    let own = slurp(definition(&store, "one"));
    let other = String::from_utf8(own.clone()).unwrap().replace("\"id\":\"", "\"id\":\"0");
    let held = Held::of(&store.root().join("networks/.lock"));
    std::fs::write(definition(&store, "one"), other.replacen("0\",\"name\"", "\",\"name\"", 1)).unwrap();
    let child = held.stops(&store, &["network", "rm", "one"]);
    std::fs::write(definition(&store, "one"), own).unwrap();
    drop(held);
    let (code, error) = result(child);
    assert!(code == 1 && error.contains("has active endpoints"), "{error}");
    store.ok(&["restart", "-t", "0", "inside"]);
    store.ok(&["rm", "-f", "inside"]);
    store.ok(&["network", "rm", "one"]);
}

#[test]
fn nobody_starts_in_a_network_that_was_removed_meanwhile() {
    let store = Store::new();
    store.ok(&["network", "create", "one"]);
    store.ok(&["network", "create", "two"]);
    store.ok(&["run", "-d", "--name", "other", "--network", "two", IMAGE, "sleep", "1000"]);
    let held = Held::of(&ledger(&store).join("lock"));
    let child = held.stops(&store, &["run", "--rm", "--network", "one", IMAGE, "true"]);
    // As whoever removes it does before he gives the ledger back.
    std::fs::remove_file(definition(&store, "one")).unwrap();
    drop(held);
    let (code, error) = result(child);
    assert!(code == 125 && error.contains("network one not found"), "{error}");
    assert!(!String::from_utf8(slurp(ledger(&store).join("state.json"))).unwrap().contains("\"one\""));
    store.ok(&["rm", "-f", "other"]);
    store.ok(&["network", "rm", "two"]);
}

#[test]
fn bridges_of_networks_that_are_no_more_go_with_the_next_that_is_removed() {
    let store = Store::new();
    for (name, prune) in [("one", false), ("two", true)] {
        store.ok(&["network", "create", name]);
        store.ok(&["run", "--rm", "--network", name, IMAGE, "true"]);
        let bridge = bridge_of(&store, name);
        assert!(bridge.exists());
        std::fs::remove_file(definition(&store, name)).unwrap();
        match prune {
            true => drop(store.ok(&["network", "prune", "-f"])),
            false => {
                store.ok(&["network", "create", "next"]);
                store.ok(&["network", "rm", "next"]);
            }
        }
        assert!(!bridge.exists(), "{name}");
    }
}

#[test]
fn a_damaged_network_stands_in_nobodys_way_and_can_be_removed() {
    let store = Store::new();
    store.ok(&["network", "create", "bad"]);
    std::fs::write(definition(&store, "bad"), "").unwrap();
    store.ok(&["network", "create", "good"]);
    assert_eq!(store.ok(&["network", "ls", "--format", "{{.Name}}"]), "bridge\ngood\nhost\nnone");
    assert!(store.fails(125, &["run", "--rm", "--network", "bad", IMAGE, "true"]).contains("bad.json is damaged"));
    assert!(store.fails(1, &["network", "create", "bad"]).contains("bad.json is damaged"));
    store.ok(&["network", "rm", "bad", "good"]);
    assert!(!definition(&store, "bad").exists());
}

#[test]
fn what_a_killed_connect_or_disconnect_has_left_undone_is_done_by_the_next() {
    let store = Store::new();
    store.ok(&["network", "create", "one"]);
    let id = store.ok(&["run", "-d", "--name", "inside", IMAGE, "sleep", "1000"]);
    let record = store.root().join("containers").join(&id).join("container.json");
    let networks = || store.ok(&["exec", "inside", "ls", "/sys/class/net"]);
    let listed = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let before = slurp(&record);
    for repair in [&["connect"][..], &["disconnect", "connect"]] {
        store.ok(&["network", "connect", "one", "inside"]);
        // The record is written last.
        std::fs::write(&record, &before).unwrap();
        repair.iter().for_each(|word| drop(store.ok(&["network", word, "one", "inside"])));
        assert_eq!((networks().as_str(), store.inspect("inside", listed).trim()), ("eth0\neth1\nlo", "bridge one"));
        let connected = slurp(&record);
        store.ok(&["network", "disconnect", "one", "inside"]);
        std::fs::write(&record, &connected).unwrap();
        repair.iter().rev().for_each(|word| drop(store.ok(&["network", word, "one", "inside"])));
        store.run(&["network", "disconnect", "one", "inside"]);
        assert_eq!((networks().as_str(), store.inspect("inside", listed).trim()), ("eth0\nlo", "bridge"));
        assert!(store.fails(1, &["network", "disconnect", "one", "inside"]).contains("is not connected"));
    }
    store.ok(&["rm", "-f", "inside"]);
    store.ok(&["network", "rm", "one"]);
}

// ---- containers

#[test]
fn a_container_keeps_its_name_for_as_long_as_it_is_there() {
    let store = Store::new();
    store.ok(&["create", "--name", "web", IMAGE, "true"]);
    let held = Held::of(&store.root().join("names/.lock"));
    let mut child = held.stops(&store, &["rm", "web"]);
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(held);
    assert!(store.fails(1, &["rm", "web"]).contains("No such container: web"));
    store.ok(&["create", "--name", "web", IMAGE, "true"]);
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Names}}"]), "web");
}

#[test]
fn a_start_that_was_killed_is_found_by_whoever_looks() {
    let store = Store::new();
    let state = store.root().with_file_name("state");
    let make = |name: &str, more: &[&str]| {
        let id = store.ok(&[&["create", "--name", name], more, &[IMAGE, "true"]].concat());
        std::fs::create_dir_all(state.join(&id)).unwrap();
        id
    };
    make("gone", &["--rm"]);
    let id = make("kept", &[]);
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]), "kept Created");
    assert!(store.inspect("kept", "{{.State.Error}}").contains("its supervisor was killed"));
    assert!(!state.join(&id).exists());
    // Nor does a record of processes that a power cut has emptied stand in the way.
    std::fs::create_dir_all(state.join(&id)).unwrap();
    std::fs::write(state.join(&id).join("run.json"), "").unwrap();
    assert_eq!(store.ok(&["ps", "-aq"]).lines().count(), 1);
    store.ok(&["start", "kept"]);
    store.ok(&["wait", "kept"]);
}

#[test]
fn a_start_that_fails_does_not_make_the_last_run_unknown() {
    let store = Store::new();
    let file = store.write("file", "");
    store.run(&["run", "--name", "ran", "-v", &format!("{file}:/file"), IMAGE, "sh", "-c", "exit 3"]);
    let before = store.inspect("ran", "{{.State.StartedAt}} {{.State.FinishedAt}}");
    std::fs::remove_file(&file).unwrap();
    store.fails(1, &["start", "ran"]);
    assert_eq!(store.inspect("ran", "{{.State.StartedAt}} {{.State.FinishedAt}}"), before);
    let template = "{{.State.Status}} {{.State.ExitCode}} {{ne .State.Error \"\"}}";
    assert_eq!(store.inspect("ran", template), "exited 125 true");
}

#[test]
fn how_a_program_ended_is_told_whatever_keeps_its_cgroup() {
    let store = Store::new();
    let id = store.ok(&["run", "-d", "--name", "ends", IMAGE, "sh", "-c", "sleep 2; exit 3"]);
    let cgroup = cgroups_of(&id).into_iter().find(|path| !path.to_string_lossy().contains("devices")).unwrap();
    let mut foreign = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(cgroup.join("cgroup.procs"), foreign.id().to_string()).unwrap();
    let waited = store.ok(&["wait", "ends"]);
    let told = store.inspect("ends", "{{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}}");
    let why = store.inspect("ends", "{{.State.Error}}");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    store.ok(&["rm", "ends"]);
    eventually("the cgroup to go", || !cgroup.exists() || std::fs::remove_dir(&cgroup).is_ok());
    assert!(waited == "3" && told.starts_with("exited 3 2"), "{waited}: {told}: {why}");
}

// ---- limits of the caller

#[test]
fn who_gets_no_threads_works_without() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "up", IMAGE, "sleep", "1000"]);
    let groups = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
    let base = groups.iter().find(|base| base.join("cgroup.procs").exists()).unwrap();
    let group = base.join(format!("mrt-threads-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let tar = fixture("busybox.tar");
    // The shell is the one process that there may be, and becomes ours.
    let script = format!("echo $$ > {0}/cgroup.procs && echo 1 > {0}/pids.max; exec \"$0\" \"$@\"", group.display());
    let results = [&["stop", "-t", "0", "up"][..], &["import", tar.to_str().unwrap(), "more"], &["ps", "-a"]]
        .map(|args| done(&mut store.through_shell(&script, args)));
    eventually("the group to go", || std::fs::remove_dir(&group).is_ok());
    for result in results {
        assert!(!result.err.contains("panicked") && result.code != 134, "{result:?}");
    }
    assert_eq!(store.inspect("up", "{{.State.Status}}"), "exited");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_end() {
    let store = Store::new();
    let import = ["import", fixture("debian.tar").to_str().unwrap(), "more"].map(str::to_owned);
    let import: Vec<&str> = import.iter().map(String::as_str).collect();
    let result = done(&mut store.through_shell("ulimit -f 64; exec \"$0\" \"$@\"", &import));
    assert!(result.code == 1 && result.err.contains("File too large"), "{result:?}");
    // A program has the signal as ever.
    assert_eq!(
        store.run(&["run", "--rm", IMAGE, "sh", "-c", "ulimit -f 1; head -c 100000 /dev/zero > /big; exit $?"]).code,
        153
    );
}

#[test]
fn a_store_that_cannot_be_opened_is_the_engines_failure() {
    let store = Store::new();
    std::fs::write(store.root().join("format"), "something else").unwrap();
    store.fails(125, &["run", "--rm", IMAGE, "true"]);
    store.fails(125, &["container", "run", "--rm", IMAGE, "true"]);
    store.fails(1, &["create", IMAGE, "true"]);
    std::fs::write(store.root().join("format"), "minirun layout 1\n").unwrap();
}
