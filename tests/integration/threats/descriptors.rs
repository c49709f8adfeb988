//! Nothing of the host's that is open leads out of a container.

use super::bundle::Bundle;
use crate::support::{IMAGE, Store, done, facts};
use serde_json::json;

/// Twenty descriptors of folders and files of the host's, open in whoever calls the runtime.
const LEAKY: &str =
    "for n in $(seq 3 2 41); do eval \"exec $n</; exec $((n + 1))</etc/passwd\"; done; exec \"$0\" \"$@\"";

/// A program of the host's that says so, by a path that leads there from any folder of the host's.
fn hosts_program(store: &Store) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = store.write("outside", "#!/bin/sh\necho outside\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Static, so that it could run inside.
    std::fs::copy(crate::support::fixture("probe"), store.path("outside-probe")).unwrap();
    store.text("outside-probe")
}

const UP: &str = "/../../../../../../../..";

#[test]
fn no_descriptor_of_the_callers_is_in_the_program() {
    let mut bundle = Bundle::new();
    let run = bundle.run_through(LEAKY, &["probe", "fds"]);
    assert_eq!(facts(&run.out).into_keys().collect::<Vec<_>>(), ["0", "1", "2"], "{run:?}");
    bundle.start_through(LEAKY, &["sleep", "1000"]);
    let first: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", bundle.pid())).unwrap().flatten().collect();
    assert_eq!(first.len(), 3, "{first:?}");
    let exec = done(&mut bundle.through_shell(LEAKY, &["exec", bundle.id(), "probe", "fds"]));
    assert_eq!(facts(&exec.out).into_keys().collect::<Vec<_>>(), ["0", "1", "2"], "{exec:?}");
}

#[test]
fn a_program_named_through_a_descriptor_is_not_the_hosts() {
    let mut bundle = Bundle::new();
    let outside = hosts_program(&bundle.store);
    let path = |n: u32| format!("/proc/self/fd/{n}{UP}{outside}");
    for n in 0..48 {
        let run = bundle.run_through(LEAKY, &[&path(n), "exit", "77"]);
        assert!(run.code != 77 && run.code != 0, "descriptor {n} leads out: {run:?}");
    }
    bundle.start_sleeping();
    for n in 0..48 {
        let exec = done(&mut bundle.through_shell(LEAKY, &["exec", bundle.id(), &path(n), "exit", "77"]));
        assert!(exec.code != 77 && exec.code != 0, "descriptor {n} leads out of exec: {exec:?}");
    }
}

#[test]
fn a_program_named_through_a_descriptor_of_the_engine_is_not_the_hosts() {
    let store = Store::new();
    let outside = hosts_program(&store);
    let id = store.ok(&["run", "-d", IMAGE, "sleep", "1000"]);
    for n in 0..48 {
        let path = format!("/proc/self/fd/{n}{UP}{outside}");
        for args in [&["run", "--rm", IMAGE, &path, "exit", "77"][..], &["exec", &id, &path, "exit", "77"]] {
            let result = done(&mut store.through_shell(LEAKY, args));
            assert!(result.code != 77 && result.code != 0, "descriptor {n} leads out: {result:?}");
        }
    }
}

#[test]
fn a_working_directory_behind_a_descriptor_is_refused() {
    let mut bundle = Bundle::new();
    bundle.change("ln -s /proc/self/fd/7 out; ln -s /proc/self/fd out2");
    let mut paths: Vec<String> = (0..48).map(|n| format!("/proc/self/fd/{n}")).collect();
    paths.extend(["/out".to_owned(), "/out2/7".to_owned(), format!("/proc/self/fd/7{UP}")]);
    for path in &paths {
        bundle.config["process"]["cwd"] = json!(path);
        let run = bundle.run_through(LEAKY, &["true"]);
        assert_eq!(run.code, 1, "{path}: {run:?}");
    }
    bundle.config["process"]["cwd"] = json!("/");
    bundle.start_sleeping();
    for path in &paths {
        let exec = done(&mut bundle.through_shell(LEAKY, &["exec", "--cwd", path, bundle.id(), "true"]));
        assert_eq!(exec.code, 255, "{path}: {exec:?}");
    }
}

#[test]
fn a_folder_as_a_standard_stream_is_refused() {
    let mut bundle = Bundle::new();
    let outside = hosts_program(&bundle.store);
    let script = "exec 0</; exec \"$0\" \"$@\"";
    let path = format!("/proc/self/fd/0{UP}{outside}");
    let run = bundle.run_through(script, &[&path, "exit", "77"]);
    assert!(run.code == 1 && run.err.contains("standard input is a directory"), "{run:?}");
    bundle.start_sleeping();
    let exec = done(&mut bundle.through_shell(script, &["exec", bundle.id(), &path, "exit", "77"]));
    assert!(exec.code == 255 && exec.err.contains("standard input is a directory"), "{exec:?}");
}
