//! Mount points, folders and nodes are made inside the root, whatever links and races an image or a volume brings.

use super::bundle::Bundle;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A folder of the host's with one file in it; nothing may ever be added.
fn outside(bundle: &Bundle) -> PathBuf {
    let dir = bundle.store.path("outside");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("canary"), "alive").unwrap();
    dir
}

fn check_untouched(dir: &Path, what: &str) {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["canary"], "{what}");
    assert_eq!(std::fs::read_to_string(dir.join("canary")).unwrap(), "alive", "{what}");
}

/// The ways in which a link at some place of the image can name a folder of the host's.
fn links(target: &Path) -> [String; 4] {
    let target = target.to_str().unwrap();
    let up = "../".repeat(20);
    [target.to_owned(), format!("{up}{target}"), format!("/{up}{target}"), format!("/proc/1/root{target}")]
}

fn bind(source: &Path, destination: &str) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]})
}

/// The host's mounts, without those of other tests.
fn host_mounts() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|l| !l.contains("mrt-")).map(str::to_owned).collect()
}

#[test]
fn mount_points_behind_links_stay_in_the_root() {
    let mut bundle = Bundle::new();
    let outside = outside(&bundle);
    let folder = bundle.store.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let file = PathBuf::from(bundle.store.write("file", "mounted"));
    let before = host_mounts();
    let original = bundle.config.clone();
    for link in links(&outside) {
        bundle.change("rm -rf a b c; mkdir a");
        symlink(&link, bundle.rootfs().join("a/direct")).unwrap();
        symlink(format!("{link}/dangling"), bundle.rootfs().join("b")).unwrap();
        symlink(format!("{link}/canary"), bundle.rootfs().join("c")).unwrap();
        for mount in [
            bind(&folder, "/a/direct"),
            bind(&folder, "/a/direct/deeper/down"),
            bind(&file, "/a/direct/new-file"),
            bind(&folder, "/b"),
            bind(&file, "/b"),
            bind(&file, "/c"),
            json!({"destination": "/a/direct/tmp", "type": "tmpfs", "source": "tmpfs"}),
        ] {
            bundle.config = original.clone();
            bundle.add_mount(mount.clone());
            let run = bundle.run(&["true"]);
            check_untouched(&outside, &format!("{link} with {mount}: {run:?}"));
        }
    }
    assert_eq!(host_mounts(), before);
}

#[test]
fn the_working_directory_is_made_inside() {
    let mut bundle = Bundle::new();
    let outside = outside(&bundle);
    for link in links(&outside) {
        bundle.change("rm -rf way new");
        symlink(&link, bundle.rootfs().join("way")).unwrap();
        symlink(format!("{link}/new"), bundle.rootfs().join("new")).unwrap();
        for cwd in ["/way", "/way/a/b", "/new", "/new/x", "/way/../../../../../way/c"] {
            bundle.config["process"]["cwd"] = json!(cwd);
            let run = bundle.run(&["cat", "canary", "../canary"]);
            check_untouched(&outside, &format!("{cwd} by {link}"));
            assert!(!run.out.contains("alive"), "{cwd} by {link}: {run:?}");
        }
    }
}

#[test]
fn proc_and_sys_must_be_folders_of_the_root_itself() {
    let mut bundle = Bundle::new();
    let outside = outside(&bundle);
    let original = bundle.config.clone();
    for top in ["proc", "sys"] {
        for target in [outside.to_str().unwrap(), "/tmp", "../../../../tmp", "vol/x", "/vol"] {
            bundle.config = original.clone();
            bundle.change(&format!("rm -rf {top} vol; mkdir -p vol/x; ln -s {target} {top}"));
            let run = bundle.run(&["true"]);
            assert_eq!(run.code, 1, "/{top} to {target}: {run:?}");
            assert!(run.err.contains("must be mounted on ordinary directory"), "{run:?}");
            check_untouched(&outside, target);
            bundle.change(&format!("rm {top}; mkdir {top}"));
        }
        // Nor may a folder on the way be a link.
        bundle.change("rm -rf vol way; mkdir -p vol/p; ln -s vol way");
        let kind = if top == "proc" { "proc" } else { "sysfs" };
        bundle.add_mount(json!({"destination": "/way/p", "type": kind, "source": kind}));
        let run = bundle.run(&["true"]);
        assert!(run.code == 1 && run.err.contains("ordinary directory"), "{run:?}");
    }
}

#[test]
fn nothing_is_mounted_inside_proc() {
    let mut bundle = Bundle::new();
    let folder = bundle.store.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let file = PathBuf::from(bundle.store.write("file", "0"));
    bundle.change("ln -s /proc into; ln -s /proc/self/attr attr; ln -s /proc/sys/kernel kernel; ln -s /into/sys chain");
    let original = bundle.config.clone();
    for mount in [
        bind(&folder, "/proc/sys"),
        bind(&file, "/proc/self/oom_score_adj"),
        bind(&file, "/x/../proc/./sys/kernel/core_pattern"),
        bind(&folder, "/into/sys"),
        bind(&folder, "/into/self/attr"),
        bind(&folder, "/into"),
        bind(&folder, "/kernel"),
        bind(&file, "/kernel/core_pattern"),
        bind(&folder, "/chain"),
        bind(&folder, "/attr"),
        json!({"destination": "/into/sys", "type": "tmpfs", "source": "tmpfs"}),
    ] {
        bundle.config = original.clone();
        bundle.add_mount(mount.clone());
        let run = bundle.run(&["true"]);
        assert!(run.code == 1 && run.err.contains("inside /proc"), "{mount}: {run:?}");
    }
}

#[test]
fn what_is_bound_at_proc_is_a_proc() {
    let mut bundle = Bundle::new();
    let folder = bundle.store.path("folder");
    std::fs::create_dir(&folder).unwrap();
    bundle.add_mount(bind(&folder, "/proc"));
    let run = bundle.run(&["true"]);
    assert!(run.code == 1 && run.err.contains("not of type proc"), "{run:?}");
}

#[test]
fn nodes_are_made_in_the_containers_dev_and_nowhere_else() {
    let mut bundle = Bundle::new();
    let outside = outside(&bundle);
    let volume = bundle.store.path("volume");
    std::fs::create_dir(&volume).unwrap();
    bundle.add_bind(&volume, "/vol");
    let empty = |what: &str| assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0, "{what}");
    let original = bundle.config.clone();
    let without_dev = |bundle: &mut Bundle| {
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    };
    for target in ["/vol".to_owned(), outside.to_str().unwrap().to_owned(), format!("{}vol", "../".repeat(9))] {
        // A file system of its own comes over it, wherever the link leads.
        bundle.change(&format!("rm -rf dev vol; mkdir vol; ln -s {target} dev"));
        bundle.config = original.clone();
        bundle.run(&["true"]);
        empty(&target);
        // Without one, there is no place for nodes.
        without_dev(&mut bundle);
        let run = bundle.run(&["true"]);
        assert!(run.code == 1 && run.err.contains("/dev"), "{target}: {run:?}");
        empty(&target);
        // Also not for one that is asked for.
        bundle.change(&format!("rm -rf dev; mkdir dev; ln -s {target} dev/sub; ln -s {target}/node dev/node"));
        for path in ["/dev/sub/node", "/dev/node"] {
            bundle.config["linux"]["devices"] = json!([{"path": path, "type": "c", "major": 1, "minor": 3}]);
            let run = bundle.run(&["true"]);
            assert_eq!(run.code, 1, "{path} to {target}: {run:?}");
            empty(path);
            check_untouched(&outside, path);
        }
    }
}

#[test]
fn swapping_links_while_mounts_are_made_leads_nowhere() {
    let mut bundle = Bundle::new();
    let outside = outside(&bundle);
    let volume = bundle.store.path("volume");
    std::fs::create_dir_all(volume.join("real/sub")).unwrap();
    symlink(format!("{}{}", "../".repeat(20), outside.display()), volume.join("link")).unwrap();
    let folder = bundle.store.path("folder");
    std::fs::create_dir(&folder).unwrap();
    bundle.change("mkdir vol");
    bundle.add_bind(&volume, "/vol");
    bundle.add_mount(bind(&folder, "/vol/real/sub"));
    bundle.add_mount(bind(&folder, "/vol/real/new/deep"));
    bundle.add_mount(json!({"destination": "/vol/real/tmp", "type": "tmpfs", "source": "tmpfs"}));
    bundle.config["process"]["cwd"] = json!("/vol/real/cwd/x");
    bundle.config["linux"]["devices"] = json!([{"path": "/vol/real/node", "type": "c", "major": 1, "minor": 3}]);
    let before = host_mounts();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            let (real, link) = (volume.join("real"), volume.join("link"));
            let mut swaps = 0u64;
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..100 {
                let run = bundle.run(&["true"]);
                check_untouched(&outside, &format!("round {round}: {run:?}"));
                assert_eq!(host_mounts(), before, "round {round}");
            }
        }));
        done.store(true, Ordering::Relaxed);
        assert!(racer.join().unwrap() > 1000);
        ended.unwrap();
    });
}

#[test]
fn the_hosts_mount_table_does_not_change() {
    let mut bundle = Bundle::new();
    let shared = bundle.store.path("shared");
    std::fs::create_dir(&shared).unwrap();
    bundle.add_bind(&shared, "/s");
    bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    bundle.config["process"]["capabilities"]["effective"] = json!(["CAP_SYS_ADMIN"]);
    bundle.config["process"]["capabilities"]["permitted"] = json!(["CAP_SYS_ADMIN"]);
    bundle.set_args(&["sh", "-c", "mkdir /s/m && mount -t tmpfs t /s/m && mount -t tmpfs t /mnt && echo mounted"]);
    bundle.save();
    // All mounts of the caller's are shared, so that those of a container would come out.
    let script = "mount --make-rshared /; wc -l </proc/self/mountinfo; \"$0\" \"$@\"; wc -l </proc/self/mountinfo";
    let wrapper = format!("exec unshare -m --propagation private bash -c '{script}' \"$0\" \"$@\"");
    let dir = bundle.dir();
    let args = ["run", "-b", dir.to_str().unwrap(), bundle.id()];
    let result = crate::support::done(&mut bundle.through_shell(&wrapper, &args));
    let lines: Vec<&str> = result.out.lines().collect();
    assert_eq!(lines.len(), 3, "{result:?}");
    assert_eq!((lines[1], lines[0]), ("mounted", lines[2]), "{result:?}");
}
