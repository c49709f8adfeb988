//! Names, paths and files that somebody else chose are neither paths of the host's nor configuration.

use super::bundle::Bundle;
use crate::support::{done, facts};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

#[test]
fn names_are_no_paths() {
    let mut bundle = Bundle::new();
    bundle.set_args(&["true"]);
    bundle.save();
    let dir = bundle.dir();
    let canary = bundle.store.path("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("state.json"), "{}").unwrap();
    let long = "x".repeat(300);
    for id in ["..", ".", "../canary", "/", "a/b", "a/../../canary", "", "a\nb", long.as_str(), "-x/..", "ü"] {
        for command in [
            &["run", "-b", dir.to_str().unwrap()][..],
            &["create", "-b", dir.to_str().unwrap()],
            &["delete", "--force"],
            &["kill"],
            &["state"],
            &["start"],
            &["exec"],
            &["pause"],
            &["ps"],
        ] {
            let tail: &[&str] = if command[0] == "exec" { &["true"] } else { &[] };
            let result = done(&mut bundle.oci(&[command, &["--", id], tail].concat()));
            assert_ne!(result.code, 0, "{command:?} {id:?}: {result:?}");
        }
    }
    assert!(canary.join("state.json").exists());
}

#[test]
fn paths_of_cgroups_do_not_climb() {
    let mut bundle = Bundle::new();
    let name = format!("{}-climb", bundle.id());
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/../../../../../../tmp/{name}"));
    let run = bundle.run(&["true"]);
    assert_eq!(run.code, 0, "{run:?}");
    bundle.start_sleeping();
    assert!(!Path::new("/tmp").join(&name).exists());
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(own.contains(&format!("/tmp/{name}")) && !own.contains(".."), "{own}");
    for below in ["..", "../../..", "/../..", "memory:/../.."] {
        let exec = bundle.exec(&["--cgroup", below], &["sleep", "0"]);
        let inside = bundle.exec(&["--cgroup", below], &["cat", "/proc/self/cgroup"]);
        if exec.code == 0 {
            assert!(inside.out.lines().all(|l| !l.contains("..")), "{below}: {inside:?}");
        }
    }
    bundle.delete();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("tmp"));
    }
    for path in ["/", "/..", "/a/.."] {
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        assert_eq!(bundle.run(&["true"]).code, 1, "{path}");
    }
}

#[test]
fn the_state_is_for_its_owner_alone() {
    let mut bundle = Bundle::new();
    bundle.set_args(&["sleep", "1000"]);
    bundle.save();
    let dir = bundle.dir();
    let create = ["create", "-b", dir.to_str().unwrap(), bundle.id()];
    assert_eq!(bundle.quietly("umask 0; exec \"$0\" \"$@\"", &create), 0);
    for path in [bundle.state_root(), bundle.state_root().join(bundle.id())] {
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, 0), "{}", path.display());
    }
    let record = bundle.state_root().join(bundle.id()).join("state.json");
    assert_eq!(std::fs::metadata(&record).unwrap().mode() & 0o777, 0o600);
    // Sockets are files there: nobody reaches one by a name in a network namespace.
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let abstracts = sockets.lines().filter(|l| l.contains(" @") && l.contains("minirun"));
    assert_eq!(abstracts.count(), 0, "{sockets}");
    let inside =
        bundle.exec(&[], &["sh", "-c", "cat /proc/net/unix | wc -l; find / -xdev -name door -o -name state.json"]);
    assert_eq!(inside.out.trim(), "1", "{inside:?}");
}

#[test]
fn nothing_in_the_root_is_configuration() {
    let mut bundle = Bundle::new();
    let lie = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["echo","lie"]}}"#;
    for name in ["config.json", "state.json", ".krun_config.json", "etc/config.json"] {
        std::fs::write(bundle.rootfs().join(name), lie).unwrap();
    }
    bundle.start_sleeping();
    let before = std::fs::read(bundle.state_root().join(bundle.id()).join("state.json")).unwrap();
    let exec = bundle.exec(&[], &["sh", "-c", "cp /config.json /state.json; echo {} >/config.json; echo fine"]);
    assert_eq!(exec.out.trim(), "fine", "{exec:?}");
    assert_eq!(std::fs::read(bundle.state_root().join(bundle.id()).join("state.json")).unwrap(), before);
}

#[test]
fn the_list_of_users_of_an_image_can_neither_hang_nor_mislead() {
    let mut bundle = Bundle::new();
    let outside = bundle.store.write("passwd", "root:x:0:0::/stolen:/bin/sh\n");
    let env = bundle.config["process"]["env"].clone();
    let home = |bundle: &mut Bundle| {
        let run = bundle.run(&["probe", "all"]);
        assert_eq!(run.code, 0, "{run:?}");
        facts(&run.out)["env.HOME"].clone()
    };
    bundle.config["process"]["env"] =
        json!(env.as_array().unwrap().iter().filter(|e| !e.as_str().unwrap().starts_with("HOME")).collect::<Vec<_>>());
    // What is read must fit in.
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_AS", "soft": 128 << 20, "hard": 128 << 20}]);
    assert_eq!(home(&mut bundle), "/root");
    let passwd = bundle.rootfs().join("etc/passwd");
    for trick in [
        "mkfifo etc/passwd",
        "mkdir etc/passwd",
        "truncate -s 1G etc/passwd",
        "mknod etc/passwd c 1 5",
        "ln -s /proc/self/fd/0 etc/passwd",
        "ln -s /dev/tty etc/passwd",
        "ln -s passwd etc/passwd",
        "printf 'root:x:0:0::rel\\0ative:/\\n' >etc/passwd",
    ] {
        bundle.change(&format!("rm -rf etc/passwd; {trick}"));
        assert_eq!(home(&mut bundle), "/", "{trick}");
    }
    for link in [outside.clone(), format!("{}{outside}", "../".repeat(12)), format!("/proc/1/root{outside}")] {
        bundle.change("rm -rf etc/passwd");
        symlink(&link, &passwd).unwrap();
        assert_eq!(home(&mut bundle), "/", "{link}");
    }
}
