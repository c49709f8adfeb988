//! What goes beyond Docker: squashing, comparing and mounting images, the same input giving the same image, and images
//! of hundreds of layers.

use crate::image_commands::made_at;
use crate::images::{docker_archive, everything, layers_of, tar_of};
use crate::support::{IMAGE, Store, done};
use serde_json::Value;
use std::process::Command;

/// Three layers on the image: files made, replaced, deleted, linked, renamed.
fn layered(store: &Store) {
    let steps = [
        "mkdir -p /a/b/c; echo 1 >/a/one; echo 2 >/a/b/two; dd if=/dev/zero of=/big bs=1k count=64; ln /a/one /a/hard",
        "rm /big; rm -r /a/b; mkdir /a/b; echo 3 >/a/b/three; chmod 700 /a; ln -s three /a/b/link; rm /etc/passwd",
        "mv /a/b /moved; echo x >>/etc/group; mknod /pipe p; chown 7:8 /pipe; echo 4 >/a/four; rm -r /home",
    ];
    let mut base = IMAGE.to_owned();
    for (number, step) in steps.iter().enumerate() {
        let name = format!("layered:{number}");
        store.committed_image(&base, &name, step);
        base = name;
    }
    store.ok(&["tag", &base, "layered"]);
}

/// Everything in an image's tree, as a host that mounts it sees it.
fn tree(store: &Store, image: &str) -> String {
    let place = store.ok(&["image", "mount", image]);
    let script = "cd \"$0\" && find . -printf '%p %y %m %U:%G %s %n %T@ %l\\n' | sort && \
                  find . -type f -exec sha256sum {} + | sort";
    let listed = done(Command::new("bash").args(["-c", script]).arg(&place));
    store.ok(&["image", "unmount", image]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.out.lines().count() > 100, "{listed:?}");
    // The size of a folder is the file system's own affair.
    listed.out.lines().filter(|l| !l.contains(" d ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_squashed_image_reads_the_same() {
    let store = Store::new();
    layered(&store);
    let before = tree(&store, "layered");
    let all = store.ok(&["image", "squash", "layered", "all"]);
    store.ok(&["image", "squash", "--keep", IMAGE, "layered", "own"]);
    store.ok(&["image", "squash", "--keep", "layered:1", "layered", "last"]);
    for (image, layers) in [("all", 1), ("own", 2), ("last", 4)] {
        assert_eq!(layers_of(&store, image).len(), layers, "{image}");
        assert_eq!(tree(&store, image), before, "{image}");
        assert_eq!(store.ok(&["image", "diff", "layered", image]), "", "{image}");
        assert_eq!(store.ok(&["run", "--rm", image, "cat", "/moved/link", "/a/four"]), "3\n4");
        for field in ["Created", "Config", "Author"] {
            let template = format!("{{{{json .{field}}}}}");
            assert_eq!(store.inspect(image, &template), store.inspect("layered", &template), "{image} {field}");
        }
    }
    assert_eq!(layers_of(&store, "own")[0], layers_of(&store, IMAGE)[0], "the base is shared");
    assert_eq!(store.ok(&["image", "squash", "layered"]), all, "the same image squashed is the same image");
    // What was deleted on the way takes no room any more.
    let size = |image: &str| store.inspect(image, "{{.Size}}").parse::<u64>().unwrap();
    assert!(size("all") + 64 * 1024 <= size("layered"));
    // The history has the same steps, and those of the squashed layers have no size of their own.
    let steps = store.ok(&["history", "-H=false", "--format", "{{.Size}} {{.Comment}}", "own"]);
    let steps: Vec<&str> = steps.lines().collect();
    assert!(steps[0].ends_with("squashed 3 layers") && !steps[0].starts_with('0'), "{steps:?}");
    assert_eq!(steps[1..4], ["0 ", "0 ", "0 "]);
    assert!(steps[4].ends_with("Imported from -"), "{steps:?}");
    // It does not need the image that it came from.
    store.ok(&["rmi", "last", "layered", "layered:2", "layered:1", "layered:0"]);
    assert_eq!(tree(&store, "all"), before);
    assert_eq!(tree(&store, "own"), before);
}

#[test]
fn what_cannot_be_squashed_changes_nothing() {
    let store = Store::new();
    layered(&store);
    store.ok(&["import", crate::support::fixture("busybox.tar").to_str().unwrap(), "-m", "other", "other"]);
    store.ok(&["run", "--name", "box", "layered:0", "true"]);
    store.committed_image(IMAGE, "aside", "echo aside >/aside");
    let before = everything(&store);
    let error = store.fails(1, &["image", "squash", "--keep", "aside", "layered", "bad"]);
    assert!(error.contains("does not stand on"), "{error}");
    store.fails(1, &["image", "squash", "nosuch", "bad"]);
    store.fails(1, &["image", "squash", "--keep", "nosuch", "layered"]);
    store.fails(1, &["image", "squash", "layered", "Bad/Name"]);
    store.fails(1, &["commit", "--squash", "--keep", "aside", "box", "bad"]);
    assert_eq!(everything(&store), before);
    // Squashing what is one layer already gives that layer.
    store.ok(&["image", "squash", IMAGE, "again"]);
    assert_eq!(layers_of(&store, "again"), layers_of(&store, IMAGE));
}

#[test]
fn a_container_is_committed_as_one_layer() {
    let store = Store::new();
    layered(&store);
    store.ok(&["run", "--name", "box", "layered", "sh", "-c", "rm /a/four; echo five >/a/five"]);
    store.ok(&["commit", "box", "plain"]);
    store.ok(&["commit", "--squash", "-m", "flat", "box", "flat"]);
    store.ok(&["commit", "-s", "--keep", IMAGE, "box", "own"]);
    assert_eq!([layers_of(&store, "flat").len(), layers_of(&store, "own").len()], [1, 2]);
    assert_eq!(layers_of(&store, "own")[0], layers_of(&store, IMAGE)[0]);
    for image in ["flat", "own"] {
        assert_eq!(store.ok(&["image", "diff", "plain", image]), "", "{image}");
        assert_eq!(tree(&store, image), tree(&store, "plain"), "{image}");
    }
    assert_eq!(store.inspect("flat", "{{.Comment}}"), "flat");
    store.ok(&["rm", "box"]);
    store.ok(&["rmi", "plain"]);
    assert_eq!(store.ok(&["run", "--rm", "flat", "cat", "/a/five"]), "five");
}

#[test]
fn two_images_are_compared() {
    let store = Store::new();
    layered(&store);
    let listed = store.ok(&["image", "diff", IMAGE, "layered:0"]);
    assert_eq!(listed, "A /a\nA /a/b\nA /a/b/c\nA /a/b/two\nA /a/hard\nA /a/one\nA /big");
    let back = store.ok(&["image", "diff", "layered:0", IMAGE]);
    assert_eq!(back, "D /a\nD /big");
    let next = store.ok(&["image", "diff", "layered:0", "layered:1"]);
    let expected = "C /a\nC /a/b\nD /a/b/c\nA /a/b/link\nA /a/b/three\nD /a/b/two\nD /big\nC /etc\nD /etc/passwd";
    assert_eq!(next, expected);
    assert_eq!(store.ok(&["image", "diff", "layered", "layered"]), "");
    let json: Value =
        serde_json::from_str(&store.ok(&["image", "diff", "--format", "json", IMAGE, "layered:1"])).unwrap();
    assert_eq!(json["deleted"], serde_json::json!(["/etc/passwd"]));
    assert_eq!(json["changed"], serde_json::json!(["/etc"]));
    assert_eq!(json["added"].as_array().unwrap().len(), 6, "{json}");
    // Attributes count, and also what has the same length and time.
    let changes = [("one", "abc"), ("two", "abd")];
    for (name, content) in changes {
        let layer = tar_of([("marker", content.as_bytes())]);
        let base = crate::images::base_layer();
        let full = format!("{name}:1");
        store.ok(&["load", "-i", &store.write("x.tar", docker_archive(&[(Some(&full), &[&base, &layer])]))]);
    }
    assert_eq!(store.ok(&["image", "diff", "one:1", "two:1"]), "C /marker");
    store.committed_image("one:1", "mode", "chmod 755 /marker");
    assert_eq!(store.ok(&["image", "diff", "one:1", "mode"]), "C /marker");
    assert!(store.fails(1, &["image", "diff", IMAGE, "nosuch"]).contains("No such image: nosuch"));
}

#[test]
fn an_image_is_mounted_on_the_host() {
    let store = Store::new();
    layered(&store);
    let place = store.ok(&["image", "mount", "layered"]);
    assert_eq!(store.ok(&["image", "mount", "layered"]), place, "once is enough");
    assert_eq!(store.ok(&["image", "mount"]), format!("layered:2 {place}"));
    assert_eq!(std::fs::read_to_string(format!("{place}/moved/three")).unwrap(), "3\n");
    assert!(!std::path::Path::new(&format!("{place}/etc/passwd")).exists());
    let error = std::fs::write(format!("{place}/new"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "it is read-only: {error}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|l| l.contains(&place)).unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    assert_eq!(store.inspect("layered", "{{.GraphDriver.Data.MergedDir}}"), place);
    // A mounted image stays, with whatever force.
    let id = store.inspect("layered", "{{.Id}}");
    let error = store.fails(1, &["rmi", "-f", &id]);
    assert!(error.contains(&format!("image is mounted on {place}")), "{error}");
    assert_eq!(store.ok(&["rmi", "layered", "layered:2"]), "Untagged: layered:latest\nUntagged: layered:2");
    store.ok(&["image", "prune", "-af"]);
    assert_eq!(std::fs::read_to_string(format!("{place}/moved/three")).unwrap(), "3\n");
    // Somebody is in it.
    let file = std::fs::File::open(format!("{place}/moved/three")).unwrap();
    let error = store.fails(1, &["image", "unmount", &id]);
    assert!(error.contains("busy") && error.contains("--force"), "{error}");
    assert_eq!(store.ok(&["image", "unmount", "--force", &id]), id);
    drop(file);
    assert!(store.fails(1, &["image", "unmount", &id]).contains("is not mounted"));
    assert_eq!(store.ok(&["image", "mount"]), "");
    // An image of one layer, several at once, and all away.
    store.ok(&["tag", &id, "layered"]);
    let single = store.ok(&["image", "squash", "layered", "flat"]);
    store.ok(&["image", "mount", "layered", "flat"]);
    let mut gone: Vec<String> = store.ok(&["image", "umount", "-a"]).lines().map(str::to_owned).collect();
    gone.sort();
    let mut expected = [id, single];
    expected.sort();
    assert_eq!(gone, expected);
    assert!(store.fails(1, &["image", "mount", "nosuch"]).contains("No such image: nosuch"));
    assert_eq!(store.fails(1, &["image", "unmount"]).lines().next().map(|l| l.starts_with("error:")), Some(true));
}

#[test]
fn the_same_input_makes_the_same_image() {
    let store = Store::new();
    let script = "mkdir /d; echo now >/d/f; touch -d '1999-01-01 00:00:00' /d/old; echo >>/etc/group";
    let moment = "1000000000";
    let first = made_at(&store, moment, IMAGE, script, &["first"]);
    let second = made_at(&store, moment, IMAGE, script, &["second"]);
    assert_eq!(first, second);
    assert_ne!(made_at(&store, "1000000001", IMAGE, script, &["third"]), first);
    assert_eq!(store.inspect("first", "{{.Created}}"), "2001-09-09T01:46:40Z");
    let times = store.ok(&["run", "--rm", "first", "stat", "-c", "%Y", "/d", "/d/f", "/d/old", "/etc/group"]);
    assert_eq!(times, "1000000000\n1000000000\n915148800\n1000000000", "what is newer is as old as the image");
    let flat = |name: &str| made_at(&store, moment, "first", "rm -r /d", &[name, "--squash"]);
    assert_eq!(flat("flat"), flat("flat2"));
    let mut command = store.command(&["commit", "box"]);
    store.ok(&["run", "--name", "box", IMAGE, "touch", "/x"]);
    let refused = done(command.env("SOURCE_DATE_EPOCH", "yesterday"));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("SOURCE_DATE_EPOCH is \"yesterday\""), "{refused:?}");
    let tar = crate::support::fixture("busybox.tar");
    let import = |name: &str| {
        let mut command = store.command(&["import", tar.to_str().unwrap(), name]);
        done(command.env("SOURCE_DATE_EPOCH", moment)).out
    };
    assert_eq!(import("imported"), import("imported2"));
    assert_eq!(store.inspect("imported", "{{.Created}}"), "2001-09-09T01:46:40Z");
}

/// An image of so many layers, the lowest of which is busybox.
fn tall(store: &Store, count: usize) -> String {
    let layers: Vec<Vec<u8>> = (1..count)
        .map(|number| {
            let text = format!("{number}\n");
            tar_of([(format!("srv/{number}").as_str(), &b"x"[..]), ("srv/last", text.as_bytes())])
        })
        .collect();
    let base = crate::images::base_layer();
    let all: Vec<&[u8]> = std::iter::once(base.as_slice()).chain(layers.iter().map(Vec::as_slice)).collect();
    let name = format!("tall:{count}");
    store.ok(&["load", "-q", "-i", &store.write("tall.tar", docker_archive(&[(Some(&name), &all)]))]);
    name
}

#[test]
fn hundreds_of_layers_are_no_obstacle() {
    let store = Store::in_memory();
    for count in [128, 500] {
        let image = tall(&store, count);
        let out = store.ok(&["run", "--name", "box", &image, "sh", "-c", "cat /srv/last; ls /srv | wc -l; rm /srv/5"]);
        assert_eq!(out, format!("{}\n{count}", count - 1), "{count}");
        store.ok(&["commit", "box", "more"]);
        store.ok(&["rm", "box"]);
        assert_eq!(store.ok(&["run", "--rm", "more", "sh", "-c", "ls /srv | wc -l"]), (count - 1).to_string());
        assert_eq!(store.ok(&["image", "diff", &image, "more"]), "C /srv\nD /srv/5");
        let place = store.ok(&["image", "mount", "more"]);
        assert_eq!(std::fs::read_dir(format!("{place}/srv")).unwrap().count(), count - 1);
        store.ok(&["image", "unmount", "more"]);
        store.ok(&["image", "squash", "more", "flat"]);
        assert_eq!(layers_of(&store, "flat").len(), 1);
        assert_eq!(store.ok(&["image", "diff", "more", "flat"]), "");
        assert_eq!(store.ok(&["history", "-q", "more"]).lines().count(), count + 1);
    }
}
