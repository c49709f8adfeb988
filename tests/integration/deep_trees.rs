//! Trees that are deeper than any path can say: folders are made one inside the other without their paths.

use crate::support::{Done, IMAGE, Store, done};

/// A shell script that makes so many folders inside one another in `base`/deep. No shell goes further than its path is
/// long, so pieces of a tree are moved to the bottom of others.
fn nest(base: &str, levels: usize) -> String {
    let piece = levels.min(1000);
    format!(
        "[ ! -d {base}/deep ] || exit 0; cd {base}/; mkdir deep; n=0; \
         while [ $n -lt {} ]; do \
             mkdir {base}/top; cd {base}/top; i=1; while [ $i -lt {piece} ]; do mkdir d; cd d; i=$((i+1)); done; \
             mv {base}/deep d; cd {base}/; mv top deep; n=$((n+1)); \
         done",
        levels / piece
    )
}

/// A container `box` with such a tree.
fn with_tree(levels: usize) -> Store {
    let store = Store::new();
    store.ok(&["run", "--name", "box", IMAGE, "sh", "-ec", &nest("", levels)]);
    store
}

fn refused(args: &[&str], done: &Done) {
    assert_eq!(done.code, 1, "{args:?}: {done:?}");
    assert!(done.err.contains("the tree is too deep: "), "{args:?}: {done:?}");
    assert!(done.err.len() < 2000, "{args:?}: {} bytes of error", done.err.len());
}

fn dockerfile(store: &Store, levels: usize) -> String {
    let context = store.text("context");
    std::fs::create_dir(&context).unwrap();
    let text = format!("FROM {IMAGE}\nRUN set -e; {}\n", nest("", levels));
    std::fs::write(store.path("context/Dockerfile"), text).unwrap();
    context
}

#[test]
fn what_is_deeper_than_paths_reach_is_refused_and_can_be_removed() {
    let store = with_tree(5000);
    let (context, out) = (dockerfile(&store, 5000), store.text("out"));
    for args in [
        &["diff", "box"][..],
        &["export", "-o", &out, "box"],
        &["commit", "box", "committed"],
        &["cp", "box:/deep", "-"],
        &["cp", "box:/deep", &out],
        &["build", "-t", "built", &context],
    ] {
        refused(args, &store.run(args));
    }
    std::fs::remove_dir_all(&out).unwrap();
    for name in ["committed", "built"] {
        store.fails(1, &["image", "inspect", name]);
    }
    // What does not need to know what is in there works as ever.
    store.ok(&["start", "-a", "box"]);
    store.ok(&["logs", "box"]);
    store.ok(&["ps", "-a", "-s"]);
    store.ok(&["system", "df", "-v"]);
    store.ok(&["rm", "box"]);
    store.ok(&["system", "prune", "-f"]);
    store.rests();
    assert_eq!(std::fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn volumes_may_be_as_deep_and_can_be_removed() {
    let store = Store::new();
    store.ok(&["run", "--rm", "-v", "vol:/vol", IMAGE, "sh", "-ec", &nest("/vol", 5000)]);
    for args in [
        &["volume", "export", "vol"][..],
        &["run", "--rm", "--mount", "type=volume,source=vol,target=/v,volume-nocopy", "-v", "vol:/v2:U", IMAGE, "true"],
    ] {
        let done = store.run(args);
        assert!(done.code != 0 && done.err.contains("the tree is too deep"), "{args:?}: {done:?}");
    }
    store.ok(&["system", "df", "-v"]);
    store.ok(&["volume", "rm", "vol"]);
    store.rests();
}

#[test]
fn deep_trees_survive_every_way() {
    let store = with_tree(500);
    let path = format!("/deep{}", "/d".repeat(500));
    let shown = store.ok(&["diff", "box"]);
    assert_eq!((shown.lines().count(), shown.lines().last()), (501, Some(&*format!("A {path}"))));
    // Shells give 1024 descriptors.
    let limited = |args: &[&str]| {
        let done = done(&mut store.through_shell("ulimit -Sn 1024; \"$0\" \"$@\"", args));
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
    };
    let out = store.text("out");
    limited(&["commit", "box", "committed"]);
    limited(&["export", "-o", &store.text("exported.tar"), "box"]);
    limited(&["import", &store.text("exported.tar"), "imported"]);
    limited(&["cp", "box:/deep", &out]);
    limited(&["build", "-t", "built", &dockerfile(&store, 500)]);
    limited(&["save", "-o", &store.text("saved.tar"), "built"]);
    for image in ["committed", "imported", "built"] {
        store.ok(&["run", "--rm", image, "test", "-d", &path]);
    }
    assert!(std::fs::metadata(out + &"/d".repeat(500)).unwrap().is_dir());
}

#[test]
fn as_deep_as_paths_reach_is_not_too_deep() {
    let store = with_tree(2000);
    for args in [
        &["diff", "box"][..],
        &["commit", "box", "committed"],
        &["export", "-o", &store.text("exported.tar"), "box"],
        &["import", &store.text("exported.tar"), "imported"],
        &["image", "diff", "committed", "imported"],
        &["image", "squash", "committed", "squashed"],
        &["save", "-o", &store.text("saved.tar"), "committed"],
        &["cp", "box:/deep", &store.text("out")],
        &["build", "-t", "built", &dockerfile(&store, 2000)],
    ] {
        let done = store.run(args);
        assert_eq!(done.code, 0, "{args:?}: {:?}", &done.err[..done.err.len().min(500)]);
    }
}
