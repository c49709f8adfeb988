//! `diff`: what a container has added, changed and deleted.

use crate::support::{IMAGE, Store};

fn diff(store: &Store, script: &str) -> String {
    store.ok(&["run", "--name", "box", IMAGE, "sh", "-ec", script]);
    store.ok(&["diff", "box"])
}

#[test]
fn what_every_container_has_is_no_change() {
    let store = Store::new();
    assert_eq!(store.ok(&["run", "--name", "box", IMAGE, "readlink", "/etc/mtab"]), "/proc/mounts");
    assert_eq!(store.ok(&["diff", "box"]), "");
    store.ok(&["commit", "box", "same"]);
    assert_eq!(store.ok(&["image", "diff", IMAGE, "same"]), "");
}

#[test]
fn new_changed_and_deleted_names_are_told_with_what_they_are_in() {
    let store = Store::new();
    let script = "mkdir -p /new/sub; echo x >/new/sub/f; echo x >>/etc/group; rm /etc/os-release; chmod 700 /opt; \
                  ln -s /x /home/link; touch /tmp/t; rm /tmp/t";
    let expected = "C /etc\nC /etc/group\nD /etc/os-release\nC /home\nA /home/link\nA /new\nA /new/sub\nA /new/sub/f\n\
                    C /opt\nC /tmp";
    assert_eq!(diff(&store, script), expected);
}

#[test]
fn what_is_as_it_was_is_not_told() {
    let store = Store::new();
    // Opened for writing and so copied up, but not written.
    assert_eq!(diff(&store, ": >>/etc/passwd; cat /etc/group >/dev/null"), "");
}

#[test]
fn a_directory_in_the_place_of_another_hides_what_was_in_it() {
    let store = Store::new();
    store
        .changed_image("tree", "mkdir -p data/deep; echo 1 >data/a; echo 2 >data/b; echo 3 >data/deep/c; echo x >file");
    store.ok(&[
        "run",
        "--name",
        "box",
        "tree",
        "sh",
        "-ec",
        "rm -r /data; mkdir /data; echo 9 >/data/a; echo n >/data/n",
    ]);
    assert_eq!(store.ok(&["diff", "box"]), "C /data\nC /data/a\nA /data/n\nD /data/b\nD /data/deep");
    store.ok(&["run", "--name", "other", "tree", "sh", "-ec", "rm -r /data; echo f >/data; rm /file; mkdir /file"]);
    assert_eq!(store.ok(&["diff", "other"]), "C /data\nD /data/a\nD /data/b\nD /data/deep\nC /file");
}

#[test]
fn mounts_are_no_changes_but_the_places_that_were_made_for_them() {
    let store = Store::new();
    let script = "echo x >/vol/x; echo x >/mem/x; echo 127.0.0.1 me >>/etc/hosts";
    store.ok(&["run", "--name", "box", "-v", "vol:/vol", "--tmpfs", "/mem", IMAGE, "sh", "-c", script]);
    assert_eq!(store.ok(&["diff", "box"]), "A /mem\nA /vol");
    let error = store.fails(1, &["diff", "nosuch"]);
    assert!(error.contains("No such container: nosuch"), "{error}");
}

#[test]
fn a_running_container_is_told_about_too() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "box", IMAGE, "sleep", "1000"]);
    store.ok(&["exec", "box", "sh", "-c", "printf 'x\\n' >\"/tmp/with \u{1b}[31m colour\""]);
    assert_eq!(store.ok(&["container", "diff", "box"]), "C /tmp\nA /tmp/with \\u{1b}[31m colour");
}
