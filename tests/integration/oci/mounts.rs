//! Mounts: options, propagation, owners, places.

use super::{in_user_namespace, namespaces, output};
use crate::threats::bundle::Bundle;
use serde_json::{Value, json};

/// The options of the mounts at these places, without those of the file system.
fn options(out: &str) -> Vec<(&str, Vec<&str>)> {
    out.lines()
        .map(|l| {
            let fields: Vec<&str> = l.split(' ').collect();
            (fields[4], fields[5].split(',').filter(|o| *o != "relatime").collect())
        })
        .collect()
}

#[test]
fn each_option_does_what_it_says_on_one_mount_or_on_all_below() {
    let mut b = Bundle::new();
    let source = b.dir().join("tree");
    std::fs::create_dir_all(source.join("below")).unwrap();
    // Something to be mounted below exists only in a namespace of the test's.
    let around = format!(
        "exec unshare -m sh -c 'mount -t tmpfs t {0} && mkdir {0}/below && mount -t tmpfs t {0}/below && exec \"$0\" \
         \"$@\"' \"$0\" \"$@\"",
        source.display()
    );
    let cases: [(&[&str], &[&str], &[&str]); 9] = [
        (&["rbind"], &["rw"], &["rw"]),
        (&["rbind", "ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"], &["rw"]),
        (
            &["rbind", "rro", "rnosuid", "rnodev", "rnoexec"],
            &["ro", "nosuid", "nodev", "noexec"],
            &["ro", "nosuid", "nodev", "noexec"],
        ),
        (&["rbind", "ro", "rw"], &["rw"], &["rw"]),
        (&["rbind", "rro", "rw"], &["ro"], &["ro"]),
        (&["rbind", "noatime", "nosymfollow"], &["rw", "noatime", "nosymfollow"], &["rw"]),
        (&["rbind", "rnoatime", "rnodiratime"], &["rw", "noatime", "nodiratime"], &["rw", "noatime", "nodiratime"]),
        (&["rbind", "rstrictatime"], &["rw"], &["rw"]),
        (&["bind", "rro"], &["ro"], &[]),
    ];
    for (asked, top, below) in cases {
        b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/m");
        b.add_mount(json!({"destination": "/m", "type": "bind", "source": source, "options": asked}));
        let result = b.run_through(&around, &["grep", " /m", "/proc/self/mountinfo"]);
        assert_eq!(result.code, 0, "{asked:?}: {result:?}");
        let mut expected = vec![("/m", top.to_vec())];
        if !below.is_empty() {
            expected.push(("/m/below", below.to_vec()));
        }
        assert_eq!(options(&result.out), expected, "{asked:?}");
    }
}

#[test]
fn the_root_has_the_propagation_asked_for() {
    // Where the host's mounts are shared, a slave of them gets what is mounted later, and gives nothing back.
    let around =
        "exec unshare -m --propagation shared sh -c 'mount --make-rshared / && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    for (asked, seen) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let mut b = Bundle::new();
        b.config["linux"]["rootfsPropagation"] = json!(asked);
        let result = b.run_through(around, &["cat", "/proc/self/mountinfo"]);
        assert_eq!(result.code, 0, "{asked}: {result:?}");
        let root = result.out.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
        let tags: Vec<&str> = root.split(" - ").next().unwrap().split(' ').skip(6).collect();
        assert!(
            if seen.is_empty() { tags.is_empty() } else { tags.iter().any(|t| t.starts_with(seen)) },
            "{asked}: {root}"
        );
    }
}

#[test]
fn a_mount_has_the_propagation_asked_for() {
    let around =
        "exec unshare -m --propagation shared sh -c 'mount --make-rshared / && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    for (asked, seen) in [("rprivate", None), ("rslave", Some("master:")), ("rshared", Some("shared:"))] {
        let mut b = Bundle::new();
        let source = b.dir();
        // What is private already has nothing left to be a slave of.
        b.config["linux"]["rootfsPropagation"] = json!(if seen == Some("master:") { "rslave" } else { "rprivate" });
        b.add_mount(json!({"destination": "/m", "type": "bind", "source": source, "options": ["rbind", asked]}));
        let result = b.run_through(around, &["grep", " /m ", "/proc/self/mountinfo"]);
        assert_eq!(result.code, 0, "{asked}: {result:?}");
        let tag = result.out.split(" - ").next().unwrap().split(' ').nth(6);
        assert_eq!(tag.map(|t| &t[..t.len().min(7)]), seen, "{asked}: {result:?}");
    }
}

#[test]
fn owners_are_shown_by_the_maps_of_the_mount_or_the_container() {
    let mut b = Bundle::new();
    let source = b.dir().join("owned");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "").unwrap();
    in_user_namespace(&mut b);
    std::os::unix::fs::chown(source.join("f"), Some(7), Some(8)).unwrap();
    for (place, options) in
        [("/one", json!(["bind", "idmap"])), ("/all", json!(["rbind", "ridmap"])), ("/not", json!(["bind"]))]
    {
        b.add_mount(json!({"destination": place, "type": "bind", "source": source, "options": options}));
    }
    b.add_mount(json!({"destination": "/file", "type": "bind", "source": source.join("f"), "options": ["bind"],
        "uidMappings": [{"containerID": 7, "hostID": 100_001, "size": 1}],
        "gidMappings": [{"containerID": 8, "hostID": 100_002, "size": 1}]}));
    let out = output(&mut b, "stat -c %u:%g /one/f /all/f /not/f /file; touch /one/new; stat -c %u /one/new /not/new");
    assert_eq!(out, "7:8\n7:8\n65534:65534\n1:2\n0\n65534\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(source.join("new")).unwrap().uid(), 0);
    let mut b = Bundle::new();
    b.add_mount(json!({"destination": "/m", "type": "bind", "source": "/etc", "options": ["bind", "idmap"]}));
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("needs mappings or a user namespace"), "{refused:?}");
}

#[test]
fn mounts_cover_each_other_in_their_order() {
    let mut b = Bundle::new();
    std::fs::write(b.dir().join("file"), "bound\n").unwrap();
    b.add_mount(json!({"destination": "/a", "type": "tmpfs", "source": "t", "options": ["mode=700", "size=64k"]}));
    b.add_mount(json!({"destination": "/a/b/c", "type": "tmpfs", "source": "t", "options": ["mode=711"]}));
    b.add_mount(json!({"destination": "/a/file", "type": "bind", "source": "file", "options": ["bind"]}));
    b.add_mount(json!({"destination": "relative/to/root", "type": "tmpfs", "source": "t"}));
    b.add_mount(json!({"destination": "/etc/passwd", "type": "bind", "source": "./file", "options": ["ro", "bind"]}));
    b.config["root"]["readonly"] = json!(true);
    let out = output(
        &mut b,
        "stat -c %a /a /a/b /a/b/c; cat /a/file /etc/passwd; grep -c /relative/to/root /proc/mounts; \
         for f in /x /etc/passwd /a/x; do (echo > $f) 2>/dev/null && echo $f; done",
    );
    assert_eq!(out, "700\n755\n711\nbound\nbound\n1\n/a/x\n");
}

#[test]
fn mounts_that_cannot_be_made_say_why() {
    let cases: [(Value, &str); 9] = [
        (json!({"destination": "/m", "type": "bind", "source": "/nosuch"}), "/nosuch: no such file or directory"),
        (json!({"destination": "/m", "type": "nosuchfs", "source": "x"}), "mount nosuchfs at /m"),
        (json!({"destination": "/m", "type": "tmpfs", "source": "x", "options": ["nosuch"]}), "nosuch"),
        (json!({"destination": "/m", "source": "x"}), "neither a type nor a bind mount"),
        (
            json!({"destination": "/m", "type": "bind", "source": "/etc", "options": ["tmpcopyup"]}),
            "tmpcopyup is for tmpfs",
        ),
        (
            json!({"destination": "/m", "type": "bind", "source": "/etc",
                "options": ["bind", "idmap=uids=0-1-10;gids=0-1-10"]}),
            "the option \\\"idmap=uids=0-1-10;gids=0-1-10\\\" is not supported: use uidMappings and gidMappings",
        ),
        (
            json!({"destination": "/m", "type": "bind", "source": "/etc", "options": ["ridmap=uids=@0-1-10", "rbind"]}),
            "ridmap=uids=@0-1-10",
        ),
        (json!({"destination": "/etc", "type": "bind", "source": "/etc/passwd", "options": ["bind"]}), "/etc"),
        (json!({"destination": "/proc/sys/x", "type": "bind", "source": "/etc", "options": ["bind"]}), "inside /proc"),
    ];
    for (mount, wrong) in cases {
        let mut b = Bundle::new();
        b.add_mount(mount.clone());
        let refused = b.run(&["true"]);
        assert!(refused.code == 1 && refused.err.contains(wrong), "{mount}: {refused:?}");
    }
    let mut b = Bundle::new();
    namespaces(&mut b, |list| list.retain(|n| n["type"] != "ipc"));
    assert_eq!(b.run(&["true"]).code, 0, "a message queue file system of the caller's namespace");
}

#[test]
fn what_a_copied_folder_is_to_be_goes_before_what_it_was() {
    let mut b = Bundle::new();
    b.change("mkdir full && echo inside > full/file && chown 3:4 full full/file && chmod 775 full");
    for (options, expected) in [
        (&[][..], "775 3 4"),
        (&["mode=711"], "711 3 4"),
        (&["uid=5"], "775 5 4"),
        (&["mode=711", "uid=5", "gid=6", "size=1m", ""], "711 5 6"),
        (&["", "mode=1777"], "1777 3 4"),
    ] {
        b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/full");
        let options = [&["tmpcopyup"], options].concat();
        b.add_mount(json!({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": options}));
        let found = output(&mut b, "stat -c '%a %u %g' /full; stat -c '%u %g' /full/file; cat /full/file");
        assert_eq!(found, format!("{expected}\n3 4\ninside\n"), "{options:?}");
    }
}

#[test]
fn an_empty_option_is_none() {
    let mut b = Bundle::new();
    let source = b.dir();
    b.add_mount(json!({"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": [""]}));
    b.add_mount(json!({"destination": "/b", "type": "bind", "source": source, "options": ["", "bind", ""]}));
    assert_eq!(output(&mut b, "grep -c -e ' /a ' -e ' /b ' /proc/mounts"), "2\n");
}

#[test]
fn memory_can_hide_a_folder_of_proc_but_not_proc_itself() {
    let mut b = Bundle::new();
    b.config["linux"]["maskedPaths"] = json!([]);
    let original = b.config.clone();
    for place in ["/proc/tty", "/proc/sys/kernel"] {
        b.add_mount(json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}));
    }
    // A path that is to be read-only is so with what hides below it.
    let script = "ls /proc/tty /proc/sys/kernel; touch /proc/tty/x && echo made; touch /proc/sys/kernel/x 2>&1; \
                  ls /proc/sys | grep -c kernel";
    let read_only = "touch: /proc/sys/kernel/x: Read-only file system";
    assert_eq!(output(&mut b, script), format!("/proc/sys/kernel:\n\n/proc/tty:\nmade\n{read_only}\n1\n"));
    for (mount, wrong) in [
        (json!({"destination": "/proc", "type": "tmpfs"}), "inside /proc"),
        (json!({"destination": "/proc/tty", "type": "ramfs"}), "inside /proc"),
        (json!({"destination": "/proc/tty", "type": "tmpfs", "source": "/etc", "options": ["rbind"]}), "inside /proc"),
        (json!({"destination": "/proc/self", "type": "tmpfs"}), "must be mounted on ordinary directory"),
        (json!({"destination": "/proc/net/stat", "type": "tmpfs"}), "must be mounted on ordinary directory"),
        (json!({"destination": "/proc/self/cwd/x", "type": "tmpfs"}), "mount tmpfs at /proc/self/cwd/x"),
        (json!({"destination": "/proc/nosuch", "type": "tmpfs"}), "mount tmpfs at /proc/nosuch"),
    ] {
        b.config = original.clone();
        b.add_mount(mount.clone());
        let refused = b.run(&["true"]);
        assert!(refused.code == 1 && refused.err.contains(wrong), "{mount}: {refused:?}");
    }
}
