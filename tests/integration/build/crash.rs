//! Builds that are killed, and what is left of them.

use super::{Started, parts_cached};
use crate::support::{Store, eventually};
use std::time::Duration;

const STEPS: &str = "FROM busybox AS a\nRUN echo 1 > /1\nRUN echo 2 > /2; sleep 0.05\nRUN echo 3 > /3\n\
    FROM busybox AS b\nRUN echo 4 > /4; sleep 0.1\nFROM a\nRUN --mount=from=b,target=/b cp /b/4 /4\nRUN sleep 0.02\n";

fn start(store: &Store) -> Started {
    Started::build(store, &["-t", "i", &store.text("context")])
}

/// The cgroups of builds that run below a store.
fn cgroups(notes: &[String]) -> Vec<String> {
    notes.iter().filter(|id| !crate::support::cgroups_of(id).is_empty()).cloned().collect()
}

fn notes(store: &Store) -> Vec<String> {
    let state = store.root().with_file_name("state");
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.starts_with("build-")).collect()
}

fn workers(store: &Store) -> Vec<i32> {
    let processes = store.processes().into_iter();
    let workers: Vec<i32> =
        processes.filter(|(_, line)| line.starts_with("minirun-build ")).map(|(pid, _)| pid).collect();
    assert!(!workers.is_empty());
    workers
}

#[test]
fn a_killed_build_leaves_nothing_and_loses_nothing() {
    let store = Store::new();
    store.context("context", STEPS);
    for round in 0..8 {
        store.ok(&["builder", "prune", "-af"]);
        let mut child = start(&store);
        std::thread::sleep(Duration::from_millis(20 + 40 * round));
        let running = notes(&store);
        child.kill();
        store.rests();
        assert!(cgroups(&running).is_empty(), "{running:?}");
        assert!(notes(&store).is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(store.root().to_str().unwrap()), "{mounts}");
        let mut again = start(&store);
        assert_eq!(again.status(), Some(0));
        assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/1", "/2", "/3", "/4"]), "1\n2\n3\n4");
    }
}

#[test]
fn what_was_finished_is_not_done_again() {
    let store = Store::new();
    store.context("context", "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN sleep 60\n");
    let mut child = start(&store);
    eventually("two steps to be remembered", || {
        // What begins with a dot is only being written.
        let is_whole = |entry: &std::fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
        store.root().join("build/cache").read_dir().is_ok_and(|dir| dir.flatten().filter(is_whole).count() == 2)
    });
    child.kill();
    let said = store.builds("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN true\n", &[]);
    assert_eq!(parts_cached(&said), 3, "{said}");
}

#[test]
fn a_worker_that_is_killed_as_well_is_cleaned_up_after() {
    let store = Store::new();
    store.context("context", "FROM busybox\nRUN sleep 60\n");
    let mut child = start(&store);
    eventually("the command to run", || !cgroups(&notes(&store)).is_empty());
    let left = notes(&store);
    workers(&store).iter().for_each(|pid| crate::support::signal(*pid, libc::SIGKILL));
    assert_eq!(child.status(), Some(1));
    store.builds("FROM busybox\nRUN true\n", &[]);
    assert!(cgroups(&left).is_empty() && notes(&store).is_empty());
}

#[test]
fn two_builds_of_the_same_file_at_once() {
    let store = Store::new();
    store.context("context", STEPS);
    for _ in 0..3 {
        store.ok(&["builder", "prune", "-af"]);
        let mut both = [start(&store), start(&store)];
        both.iter_mut().for_each(|child| assert_eq!(child.status(), Some(0)));
        assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/4"]), "4");
    }
}

#[test]
fn what_was_given_up_has_ended_when_the_build_has() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS a\nRUN touch /shared/a; sleep 600\n\
        FROM busybox AS b\nRUN touch /shared/b; until [ -e /shared/go ]; do sleep 0.01; done; exit 3\n\
        FROM busybox\nCOPY --from=a /x /x\nCOPY --from=b /x /x\n";
    let path = store.context("fails", dockerfile);
    let shared = store.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let mut build = Started::build(&store, &["-v", &volume, path.to_str().unwrap()]);
    eventually("both commands to run", || ["a", "b"].iter().all(|name| shared.join(name).exists()));
    let runs_a = |worker: &i32| {
        let children = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children")).unwrap();
        let child = children.split_whitespace().next().unwrap();
        std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap().contains("600")
    };
    let slow = workers(&store).into_iter().find(runs_a).unwrap();
    crate::support::signal(slow, libc::SIGSTOP);
    std::fs::write(shared.join("go"), "").unwrap();
    // That it waits shows only in time.
    std::thread::sleep(Duration::from_secs(1));
    let is_waiting = build.is_running();
    crate::support::signal(slow, libc::SIGCONT);
    assert!(is_waiting);
    assert_eq!(build.status(), Some(1));
    assert_eq!(notes(&store), [""; 0]);
}

#[test]
fn a_cache_is_in_use_for_as_long_as_a_command_has_it() {
    let store = Store::new();
    let line = "RUN --mount=type=cache,id=c,target=/c,sharing=private";
    let path = store.context("killed", &format!("FROM busybox\n{line} touch /c/up /shared/up; sleep 600\n"));
    let shared = store.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let mut killed = Started::build(&store, &["-v", &volume, path.to_str().unwrap()]);
    eventually("the command to run", || shared.join("up").exists());
    // It cannot end the command for now.
    let stopped = workers(&store);
    stopped.iter().for_each(|pid| crate::support::signal(*pid, libc::SIGSTOP));
    killed.kill();
    let meanwhile = store.build(&format!("FROM busybox\n{line} echo sees $(ls /c)\n"), &[]);
    stopped.iter().for_each(|pid| crate::support::signal(*pid, libc::SIGCONT));
    store.rests();
    assert!(meanwhile.err.contains("sees\n"), "{}", meanwhile.err);
    let said = store.builds(&format!("FROM busybox\n{line} echo then $(ls /c)\n"), &[]);
    assert!(said.contains("then up\n"), "{said}");
}
