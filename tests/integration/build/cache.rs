//! What is done again and what is not.

use super::{parts, parts_cached, parts_done};
use crate::support::{Store, eventually};
use std::process::Stdio;

const STEPS: &str = "FROM busybox\nWORKDIR /w\nARG V=1\nRUN echo $V > a\nENV E=1\nRUN echo b > b\n";

#[test]
fn nothing_is_done_twice() {
    let store = Store::new();
    let first = store.builds(STEPS, &["-t", "i"]);
    assert_eq!((parts_done(&first), parts_cached(&first)), (3, 1), "{first}");
    let id = store.inspect("i", "{{.Id}}");
    let again = store.builds(STEPS, &["-t", "i"]);
    assert_eq!((parts_done(&again), parts_cached(&again)), (0, 4), "{again}");
    assert_eq!(store.inspect("i", "{{.Id}}"), id);
    let anew = store.builds(STEPS, &["--no-cache"]);
    assert_eq!(parts_cached(&anew), 1, "{anew}");
}

#[test]
fn a_single_stage_is_done_anew() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS a\nRUN echo a > /f\nFROM busybox AS Other\nRUN --mount=type=cache,target=/c \
        echo x >> /c/f; echo $(wc -l < /c/f) lines\nFROM busybox\nCOPY --from=a /f /\nRUN --mount=from=other,target=/o true\n";
    store.builds(dockerfile, &[]);
    let said = store.builds(dockerfile, &["--no-cache-filter", "b,OTHER"]);
    let anew: Vec<String> = parts(&said).into_iter().filter(|(_, end)| end != "CACHED").map(|(name, _)| name).collect();
    assert_eq!(anew.len(), 1, "{said}");
    assert!(anew[0].starts_with("[other 2/2] RUN") && said.contains(" 1 lines\n"), "{said}");
    assert!(said.contains("no stage is called b, as --no-cache-filter says"), "{said}");
    assert_eq!(parts_done(&store.builds(dockerfile, &["--no-cache-filter="])), 0);
}

#[test]
fn a_step_is_done_again_with_other_arguments_and_not_with_other_labels() {
    let store = Store::new();
    store.builds(STEPS, &[]);
    let changed = store.builds(STEPS, &["--build-arg", "V=2"]);
    let ends: Vec<String> = parts(&changed).into_iter().map(|(_, end)| end).collect();
    assert!(ends[1] == "CACHED" && ends[2].starts_with("DONE") && ends[3].starts_with("DONE"), "{changed}");
    let labelled = store.builds(&format!("{STEPS}LABEL x=y\n"), &["--label", "z=1"]);
    assert_eq!(parts_done(&labelled), 0, "{labelled}");
    let other_env = store.builds(&STEPS.replace("E=1", "E=2"), &[]);
    assert_eq!(parts_done(&other_env), 1, "{other_env}");
}

#[test]
fn another_base_is_another_beginning() {
    let store = Store::new();
    store.changed_image("other", "echo other > other");
    store.builds("FROM busybox\nRUN echo x > x\n", &[]);
    let said = store.builds("FROM other\nRUN echo x > x\n", &[]);
    assert_eq!(parts_done(&said), 1, "{said}");
}

#[test]
fn the_cache_keeps_layers_until_it_is_pruned() {
    let store = Store::new();
    store.builds(STEPS, &["-t", "i"]);
    store.ok(&["rmi", "i"]);
    let said = store.builds(STEPS, &["-t", "i"]);
    assert_eq!(parts_done(&said), 0, "{said}");
    let layers = || std::fs::read_dir(store.root().join("layers")).unwrap().count();
    assert_eq!(layers(), 4);
    // Without -a what an image shares stays.
    assert!(store.ok(&["builder", "prune", "-f"]).ends_with("Total reclaimed space: 0B"));
    store.ok(&["rmi", "i"]);
    assert!(store.ok(&["builder", "du"]).contains("RUN echo b > b"));
    let pruned = store.ok(&["builder", "prune", "-f", "--filter", "until=1h"]);
    assert!(pruned.starts_with("Total reclaimed space"), "{pruned}");
    let pruned = store.ok(&["builder", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted build cache objects:") && pruned.lines().count() > 4, "{pruned}");
    assert_eq!(layers(), 1);
    assert_eq!(parts_done(&store.builds(STEPS, &[])), 3);
}

#[test]
fn pruning_keeps_what_was_used_last_within_a_budget() {
    let store = Store::new();
    for n in 0..3 {
        store.builds(&format!("FROM busybox\nRUN head -c 1000000 /dev/urandom > /f{n}\n"), &[]);
        store.ok(&["image", "ls"]);
    }
    for image in store.ok(&["images", "-q"]).lines().filter(|id| !store.inspect("busybox", "{{.Id}}").contains(*id)) {
        store.ok(&["rmi", image]);
    }
    let pruned = store.ok(&["builder", "prune", "-f", "--keep-storage", "2100000"]);
    assert!(pruned.ends_with("Total reclaimed space: 1MB"), "{pruned}");
    let said = store.builds("FROM busybox\nRUN head -c 1000000 /dev/urandom > /f2\n", &[]);
    assert_eq!(parts_done(&said), 0, "{said}");
}

#[test]
fn what_is_mounted_of_the_context_is_known_by_what_is_let_in() {
    let store = Store::new();
    let context =
        store.context("context", "FROM busybox\nRUN --mount=target=/x echo \"$(cat /x/let-in) $(cat /x/left-out)\"\n");
    let write = |name: &str, text: &str| std::fs::write(context.join(name), text).unwrap();
    let build = || store.run(&["build", context.to_str().unwrap()]).err;
    write(".dockerignore", "left-out\n");
    write("let-in", "a");
    write("left-out", "b");
    let first = build();
    assert!(first.contains(" a b\n"), "{first}");
    write("left-out", "c");
    let other = build();
    assert_eq!(parts_done(&other), 0, "{other}");
    write("let-in", "d");
    let changed = build();
    assert!(changed.contains(" d c\n"), "{changed}");
}

#[test]
fn a_build_for_the_cache_alone_makes_no_image() {
    let store = Store::new();
    let images = store.ok(&["images", "-a", "-q"]);
    let said = store.builds(STEPS, &["-t", "i", "-o", "type=cacheonly"]);
    assert!(parts_done(&said) == 3 && !said.contains("exporting"), "{said}");
    assert_eq!(store.ok(&["images", "-a", "-q"]), images);
    assert_eq!(parts_done(&store.builds(STEPS, &["-t", "i"])), 0);
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "b"]), "b");
    let error = store.build_fails(STEPS, &["-o", "type=cacheonly,dest=x"]);
    assert!(error.contains("the type cacheonly writes nothing"), "{error}");
}

#[test]
fn damaged_records_are_none() {
    let store = Store::new();
    store.builds(STEPS, &[]);
    for entry in std::fs::read_dir(store.root().join("build/cache")).unwrap().flatten() {
        std::fs::write(entry.path(), "{").unwrap();
    }
    assert_eq!(parts_done(&store.builds(STEPS, &[])), 3);
}

#[test]
fn layers_of_a_kernel_that_stopped_are_made_anew() {
    let store = Store::new();
    // A step that fails leaves the layers before it without the sync that an image brings.
    store.context("context", "FROM busybox\nRUN echo content > /file\nRUN sleep 60\n");
    let path = store.text("context");
    let mut child = store.command(&["build", &path]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let marks = || {
        let layers = std::fs::read_dir(store.root().join("layers")).unwrap().flatten();
        layers.map(|e| e.path().join("unsynced")).filter(|p| p.symlink_metadata().is_ok()).collect::<Vec<_>>()
    };
    eventually("a layer that is not synced", || !marks().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let mark = marks().remove(0);
    std::fs::remove_file(&mark).unwrap();
    std::os::unix::fs::symlink("another-boot", &mark).unwrap();
    // What a power cut does to files that were not synced.
    std::fs::write(mark.parent().unwrap().join("fs/file"), "").unwrap();
    let said = store.builds("FROM busybox\nRUN echo content > /file\nRUN cat /file\n", &["-t", "i"]);
    assert_eq!(parts_done(&said), 2, "{said}");
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/file"]), "content");
    // Nothing leads to the damaged one any more.
    assert!(marks().len() <= 1);
}

#[test]
fn the_same_epoch_gives_the_same_image_anywhere() {
    let dockerfile = "FROM busybox\nWORKDIR /w\nRUN echo x > a; mkdir d; ln -s a l; date > /dev/null\nLABEL a=b\n";
    let build = |store: &Store| {
        let context = store.context("context", dockerfile);
        let mut command = store.command(&["build", "-t", "i", context.to_str().unwrap()]);
        let done = crate::support::done(command.env("SOURCE_DATE_EPOCH", "1700000000"));
        assert_eq!(done.code, 0, "{}", done.err);
        store.inspect("i", "{{.Id}}")
    };
    // Imports say when they were made, so both get the same image.
    let (one, two) = (Store::new(), Store::empty());
    let blobs = one.root().join("blobs");
    two.ok(&["images"]);
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(&blobs).arg(one.root().join("layers")).arg(one.root().join("index.json")).arg(two.root());
    assert!(copy.status().unwrap().success());
    let first = build(&one);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(first, build(&two));
    assert_eq!(one.inspect("i", "{{.Created}}"), "2023-11-14T22:13:20Z");
}

#[test]
fn images_can_be_removed_while_a_build_runs() {
    let store = Store::new();
    store.ok(&["tag", "busybox", "again"]);
    store.context("context", "FROM busybox\nRUN echo a > /a\nRUN for i in $(seq 600); do [ -e /gate/go ] && break; sleep 0.1; done; cat /a\n");
    let gate = store.path("gate");
    std::fs::create_dir(&gate).unwrap();
    let (path, volume) = (store.text("context"), format!("{}:/gate", gate.display()));
    let mut child = store.command(&["build", "-t", "i", "-v", &volume, &path]);
    let child = child.stderr(Stdio::piped()).spawn().unwrap();
    eventually("the second command", || store.root().join("build/cache").read_dir().is_ok_and(|d| d.count() == 1));
    // Neither waits for the build nor takes anything from it.
    store.ok(&["rmi", "again", "busybox"]);
    store.ok(&["builder", "prune", "-af"]);
    std::fs::write(gate.join("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/a"]), "a");
}

#[test]
fn the_top_folder_is_the_same_in_all_layers_that_change_nothing() {
    let store = Store::new();
    store.builds("FROM busybox\nRUN chmod 700 / && touch /\n", &["-t", "a"]);
    store.builds("FROM busybox\nRUN true\n", &["-t", "b"]);
    for image in ["a", "b"] {
        assert_eq!(store.ok(&["run", "--rm", "-u", "1000", image, "stat", "-c", "%a %u", "/"]), "755 0");
    }
}

#[test]
fn what_is_mounted_of_a_stage_is_known_by_its_content() {
    let store = Store::new();
    let dockerfile = |says: &str| {
        format!(
            "FROM busybox AS a\nARG N\nRUN mkdir /d; echo {says} > /d/out; echo $N > /other\n\
             FROM busybox\nRUN --mount=from=a,source=/d,target=/o cat /o/out\n\
             RUN --mount=type=cache,from=a,source=/d,target=/c true\n"
        )
    };
    let done = |says: &str, n: &str| parts_done(&store.builds(&dockerfile(says), &["--build-arg", n]));
    assert_eq!(done("const", "N=1"), 3);
    assert_eq!(done("const", "N=1"), 0);
    assert_eq!(done("const", "N=2"), 1);
    assert_eq!(done("other", "N=2"), 3);
}
