//! Namespaces, new and by path, and who is who in them.

use super::{in_user_namespace, namespaces, output, says};
use crate::support::eventually;
use crate::threats::bundle::Bundle;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

const LIST: &str = "for n in pid net ipc uts mnt user cgroup time; do echo $n=$(readlink /proc/self/ns/$n); done";

fn of_process(pid: i32) -> BTreeMap<String, String> {
    let link = |file: &str| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string();
    KINDS.iter().map(|(_, file)| ((*file).to_owned(), link(file))).collect()
}

fn listed(text: &str) -> BTreeMap<String, String> {
    crate::support::facts(text)
}

fn with_all(b: &mut Bundle) {
    in_user_namespace(b);
    namespaces(b, |list| {
        list.retain(|n| n["type"] != "cgroup");
        list.extend([json!({"type": "cgroup"}), json!({"type": "time"})]);
    });
}

#[test]
fn every_namespace_can_be_new_and_exec_joins_them_all() {
    let mut b = Bundle::new();
    with_all(&mut b);
    b.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 10_000_000}});
    b.start_sleeping();
    let (own, theirs) = (of_process(std::process::id() as i32), of_process(b.pid()));
    for (kind, file) in KINDS {
        assert_ne!(own[file], theirs[file], "{kind}");
    }
    let inside = b.exec(&[], &["sh", "-c", &format!("{LIST}; cut -d . -f 1 /proc/uptime; cat /proc/self/cgroup")]);
    let seen = listed(&inside.out);
    assert!(theirs.iter().all(|(file, link)| seen[file] == *link), "{inside:?}\n{theirs:?}");
    let uptime: u64 = inside.out.lines().nth(8).unwrap().parse().unwrap();
    assert!(uptime >= 10_000_000, "{inside:?}");
    let cgroups: Vec<&str> = inside.out.lines().skip(9).collect();
    assert!(!cgroups.is_empty() && cgroups.iter().all(|line| line.ends_with(":/")), "{cgroups:?}");
}

#[test]
fn every_namespace_can_be_one_that_is_there() {
    let mut owner = Bundle::new();
    with_all(&mut owner);
    owner.start_sleeping();
    let pid = owner.pid();
    let mut guest = Bundle::new();
    in_user_namespace(&mut guest);
    let by_path = |(kind, file): (&str, &str)| match kind {
        "mount" => json!({"type": kind}),
        _ => json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}),
    };
    namespaces(&mut guest, |list| *list = KINDS.into_iter().map(by_path).collect());
    guest.config.as_object_mut().unwrap().remove("hostname");
    let theirs = of_process(pid);
    let check = |text: &str| {
        let seen = listed(text);
        for (kind, file) in KINDS {
            assert_eq!(seen[file] == theirs[file], kind != "mount", "{kind}: {seen:?}");
        }
    };
    check(&output(&mut guest, LIST));
    guest.start_sleeping();
    let joined = of_process(guest.pid());
    let inside = guest.exec(&[], &["sh", "-c", LIST]);
    check(&inside.out);
    assert_eq!(listed(&inside.out)["mnt"], joined["mnt"]);
    // Its processes do not end with a pid namespace of its own, and are found nevertheless.
    let code = guest.quietly("exec \"$0\" \"$@\"", &["exec", "-d", guest.id(), "sleep", "999"]);
    assert_eq!(code, 0);
    let all: Vec<i32> = serde_json::from_str(&says(&guest, &["ps", "-f", "json", guest.id()])).unwrap();
    assert_eq!(all.len(), 2);
    guest.delete();
    let gone = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_err();
    eventually("both processes to end", || all.iter().all(gone));
    assert!(owner.exec(&[], &["true"]).code == 0, "the owner goes on");
}

#[test]
fn namespaces_that_make_no_sense_are_refused() {
    let cases = [
        (json!([{"type": "mount"}, {"type": "mount"}]), "listed twice"),
        (json!([{"type": "pid"}]), "needs a mount namespace"),
        (json!([{"type": "mount"}, {"type": "uts", "path": "proc/1/ns/uts"}]), "is not absolute"),
        (json!([{"type": "mount"}, {"type": "uts", "path": "/nosuch"}]), "open the namespace /nosuch: no such file"),
        (json!([{"type": "mount"}, {"type": "uts", "path": "/proc/self/ns/net"}]), "join the uts namespace"),
        (json!([{"type": "mount"}, {"type": "user"}]), "needs user and group id mappings"),
        (json!([{"type": "mount"}]), "unable to set hostname without a private UTS namespace"),
    ];
    for (list, wrong) in cases {
        let mut b = Bundle::new();
        let without_mounts: Vec<Value> = Vec::new();
        b.config["mounts"] = json!(without_mounts);
        b.config["linux"]["namespaces"] = list;
        let refused = b.run(&["true"]);
        assert!(refused.code == 1 && refused.err.contains(wrong), "{wrong}: {refused:?}");
    }
}

#[test]
fn ids_are_mapped_piece_by_piece() {
    let mut b = Bundle::new();
    in_user_namespace(&mut b);
    let uids =
        json!([{"containerID": 0, "hostID": 100_000, "size": 1000}, {"containerID": 1000, "hostID": 7, "size": 1}]);
    b.config["linux"]["uidMappings"] = uids;
    b.config["process"]["capabilities"]["effective"] = json!(["CAP_CHOWN"]);
    b.config["process"]["capabilities"]["permitted"] = json!(["CAP_CHOWN"]);
    b.config["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN"]);
    let out = output(&mut b, "touch /f; chown 1000:5 /f; stat -c %u:%g /f; chown 1001 /f 2>&1 | grep -o 'Invalid.*'");
    assert_eq!(out, "1000:5\nInvalid argument\n");
    let outside = std::fs::metadata(b.rootfs().join("f")).unwrap();
    assert_eq!((outside.uid(), outside.gid()), (7, 100_005));
    b.config["process"]["user"] = json!({"uid": 1001, "gid": 0});
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("become user 1001"), "{refused:?}");
}

#[test]
fn who_joins_follows_the_first_process_into_no_namespace_of_its_own_making() {
    let mut b = super::Bundle::new();
    namespaces(&mut b, |all| all.retain(|n| n["type"] != "user"));
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.config["linux"]["seccomp"] = Value::Null;
    super::create(&mut b, &["unshare", "-U", "sleep", "1000"]);
    super::says(&b, &["start", b.id()]);
    let pid = b.pid();
    let users = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    super::eventually("a user namespace", || users(&pid.to_string()) != users("self"));
    for user in ["0", "1000"] {
        let run = b.exec(&["--user", user], &["id", "-u"]);
        assert_eq!((run.code, run.out.trim()), (0, user), "{run:?}");
    }
}

#[test]
fn what_the_kernel_puts_into_namespaces_belongs_to_the_containers_root() {
    let mut b = Bundle::new();
    with_all(&mut b);
    let stat = output(&mut b, "stat -c '%u %g %a' /dev/mqueue; stat -c %u /proc/sys/kernel/msgmax /proc/sys/net/ipv4");
    assert_eq!(stat, "0 0 1777\n0\n0\n");
}

#[test]
fn cgroups_are_shown_in_a_user_namespace_that_has_none_of_its_own() {
    let mut b = Bundle::new();
    in_user_namespace(&mut b);
    namespaces(&mut b, |list| list.retain(|n| n["type"] != "cgroup"));
    let seen = output(&mut b, "ls -d /sys/fs/cgroup/*; mkdir /sys/fs/cgroup/mine 2>&1 || echo denied");
    assert!(seen.lines().count() > 2 && seen.ends_with("denied\n"), "{seen}");
}
