//! What a container cannot do and cannot reach, and that `exec` is no way round it.

use crate::support::{IMAGE, Store, cgroups_of, done, eventually, facts, fixture, program, slurp};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A running container with these flags.
fn running(store: &Store, flags: &[&str]) -> String {
    store.ok(&[&["run", "-d"], flags, &[IMAGE, "sleep", "1000"]].concat())
}

/// What the probe prints in a container made with these flags.
fn probe(store: &Store, flags: &[&str], args: &[&str]) -> String {
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "probe"], args].concat())
}

fn sh(store: &Store, flags: &[&str], script: &str) -> String {
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", script]].concat())
}

fn probe_all(store: &Store, flags: &[&str]) -> BTreeMap<String, String> {
    facts(&probe(store, flags, &["all"]))
}

const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

// ---- rights

#[test]
fn the_default_capabilities_are_dockers_and_none_can_be_passed_on() {
    let store = Store::new();
    let all = probe_all(&store, &[]);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(all[set], DEFAULT_CAPABILITIES, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(all[set], "0000000000000000", "{set}");
    }
    let tim = probe_all(&store, &["-u", "tim"]);
    assert_eq!(tim["CapBnd"], DEFAULT_CAPABILITIES);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(tim[set], "0000000000000000", "{set} of an ordinary user");
    }
}

#[test]
fn inheritable_capabilities_of_the_caller_do_not_get_in() {
    let store = Store::new();
    let id = running(&store, &[]);
    let wrapper = "exec setpriv --inh-caps=+net_admin,+sys_admin,+chown \"$0\" \"$@\"";
    for args in [&["run", "--rm", IMAGE, "probe", "all"][..], &["exec", &id, "probe", "all"]] {
        let result = done(&mut store.through_shell(wrapper, args));
        assert_eq!(result.code, 0, "{result:?}");
        let all = facts(&result.out);
        assert_eq!((all["CapInh"].as_str(), all["CapAmb"].as_str()), ("0000000000000000", "0000000000000000"));
        assert_eq!(all["CapBnd"], DEFAULT_CAPABILITIES);
    }
}

#[test]
fn a_set_user_id_program_does_not_work_without_new_privileges() {
    let store = Store::new();
    // busybox drops its rights itself, so the probe is made set-user-id.
    store.changed_image("suid", "cp bin/probe bin/suid; chown 0:0 bin/suid; chmod 4755 bin/suid");
    let euid = |flags: &[&str]| {
        let args = [&["run", "--rm", "-u", "tim"], flags, &["suid", "/bin/suid", "all"]].concat();
        facts(&store.ok(&args))["euid"].clone()
    };
    assert_eq!(euid(&[]), "0");
    assert_eq!(euid(&["--security-opt", "no-new-privileges"]), "1000");
}

#[test]
fn the_supplementary_groups_are_not_the_callers() {
    let store = Store::new();
    let id = running(&store, &[]);
    let wrapper = "exec setpriv --groups 3,44,1234 \"$0\" \"$@\"";
    for args in [&["run", "--rm", IMAGE, "probe", "all"][..], &["exec", &id, "probe", "all"]] {
        let all = facts(&done(&mut store.through_shell(wrapper, args)).out);
        assert_eq!(all["groups"], "0", "{args:?}");
    }
}

// ---- devices

#[test]
fn dev_holds_exactly_what_it_should() {
    let store = Store::new();
    let expected = "core l 0:0 0777 -> /proc/kcore\n\
                    fd l 0:0 0777 -> /proc/self/fd\n\
                    full c 1:7 0666\n\
                    mqueue d 0:0 1777\n\
                    null c 1:3 0666\n\
                    ptmx l 0:0 0777 -> pts/ptmx\n\
                    pts d 0:0 0755\n\
                    pts/ptmx c 5:2 0666\n\
                    random c 1:8 0666\n\
                    shm d 0:0 1777\n\
                    stderr l 0:0 0777 -> /proc/self/fd/2\n\
                    stdin l 0:0 0777 -> /proc/self/fd/0\n\
                    stdout l 0:0 0777 -> /proc/self/fd/1\n\
                    tty c 5:0 0666\n\
                    urandom c 1:9 0666\n\
                    zero c 1:5 0666";
    assert_eq!(probe(&store, &[], &["dev"]), expected);
    let with_terminal = probe(&store, &["-t"], &["dev"]).replace('\r', "");
    assert!(with_terminal.contains("\npts/0 c 136:0 "), "{with_terminal}");
    assert!(with_terminal.lines().any(|l| l.starts_with("console c ")), "{with_terminal}");
}

#[test]
fn device_nodes_can_be_made_but_only_the_allowed_ones_opened() {
    let store = Store::new();
    let block = std::fs::read_to_string("/proc/partitions").unwrap();
    let block: Vec<String> = block.lines().skip(2).take(1).map(str::to_owned).collect();
    let numbers: Vec<&str> = block.iter().flat_map(|l| l.split_whitespace().take(2)).collect();
    let [major, minor] = numbers[..] else { panic!("this machine has no block device: {block:?}") };
    let id = running(&store, &[]);
    for (name, kind, major, minor, expected) in [
        ("disk", "b", major, minor, "EPERM"),
        ("kmsg", "c", "1", "11", "EPERM"),
        ("mem", "c", "1", "1", "EPERM"),
        ("port", "c", "1", "4", "EPERM"),
        ("tun", "c", "10", "200", "EPERM"),
        ("fuse", "c", "10", "229", "EPERM"),
        ("loop", "b", "7", "0", "EPERM"),
        ("null", "c", "1", "3", "ok"),
        ("zero", "c", "1", "5", "ok"),
        ("urandom", "c", "1", "9", "ok"),
    ] {
        let path = format!("/tmp/{name}");
        let make = ["probe", "mknod", &path, kind, major, minor];
        let script = format!("{}; probe open {path} r; probe open {path} rw", make.join(" "));
        assert_eq!(sh(&store, &[], &script), format!("ok\n{expected}\n{expected}"), "{name} in run");
        let out = store.ok(&["exec", &id, "sh", "-c", &script]);
        assert_eq!(out, format!("ok\n{expected}\n{expected}"), "{name} in exec");
    }
}

#[test]
fn a_device_node_of_the_image_cannot_be_used() {
    let store = Store::new();
    store.changed_image("nodes", "mknod kmsg c 1 11; chmod 666 kmsg");
    assert_eq!(store.ok(&["run", "--rm", "nodes", "probe", "open", "/kmsg", "r"]), "EPERM");
    assert_eq!(store.ok(&["run", "--rm", "--privileged", "nodes", "probe", "open", "/kmsg", "r"]), "ok");
}

// ---- /proc and /sys

#[test]
fn masked_paths_show_nothing() {
    let store = Store::new();
    let unmasked = ["--security-opt", "systempaths=unconfined"];
    for path in ["kcore", "keys", "timer_list", "interrupts", "latency_stats", "sched_debug"] {
        let path = format!("/proc/{path}");
        if !Path::new(&path).exists() {
            continue;
        }
        let look = format!("stat -c '%F %t:%T' {path}; head -c 1 {path} | wc -c");
        assert_eq!(sh(&store, &[], &look), "character special file 1:3\n0", "{path}");
        assert!(sh(&store, &unmasked, &look).starts_with("regular"), "{path} is not there without the mask");
    }
    for path in ["/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware", "/sys/devices/virtual/powercap"] {
        let look = format!("ls -A {path} | wc -l; touch {path}/x 2>/dev/null || echo no");
        if Path::new(path).exists() {
            assert_eq!(sh(&store, &[], &look), "0\nno", "{path}");
        }
    }
    assert!(Path::new("/proc/keys").exists() && Path::new("/sys/firmware").exists(), "nothing was compared");
}

#[test]
fn a_mask_is_no_way_to_the_hosts_null_device() {
    let store = Store::new();
    let before = std::fs::metadata("/dev/null").unwrap();
    let script = "rm /dev/null; chmod 600 /proc/keys; chown 1000 /proc/keys; touch -d @0 /proc/keys; cat /proc/keys";
    let result = store.run(&["run", "--rm", IMAGE, "sh", "-c", script]);
    assert_eq!(result.err.matches("Read-only file system").count(), 3, "{result:?}");
    check_null(&before);
}

/// That the host's null device is as it was; another test must not suffer if it is not.
fn check_null(before: &std::fs::Metadata) {
    let now = std::fs::metadata("/dev/null").unwrap();
    std::fs::set_permissions("/dev/null", before.permissions()).unwrap();
    std::os::unix::fs::chown("/dev/null", Some(before.uid()), Some(before.gid())).unwrap();
    assert_eq!((now.mode(), now.uid(), now.gid()), (before.mode(), before.uid(), before.gid()), "the host's /dev/null");
}

#[test]
fn the_empty_input_is_the_containers_null_device() {
    let store = Store::new();
    let before = std::fs::metadata("/dev/null").unwrap();
    let id = running(&store, &[]);
    let change = "chmod 640 /dev/stdin; chown 1000 /dev/stdin; stat -Lc '%a %u' /dev/stdin /dev/null";
    for args in [&["run", "--rm", IMAGE][..], &["exec", &id]] {
        assert_eq!(store.ok(&[args, &["sh", "-c", change]].concat()), "640 1000\n640 1000", "{args:?}");
        check_null(&before);
    }
    // A container without a null device still gets no other one.
    store.ok(&["exec", &id, "sh", "-c", "rm /dev/null; ln -s /etc/passwd /dev/null"]);
    assert_eq!(store.ok(&["exec", &id, "sh", "-c", "readlink /proc/self/fd/0 | cut -c1-5; cat"]), "pipe:");
    check_null(&before);
}

#[test]
fn kernel_settings_cannot_be_written() {
    let store = Store::new();
    let paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/uevent_helper",
        "/sys/class/net/lo/mtu",
    ];
    let id = running(&store, &[]);
    let mut compared = 0;
    for path in paths.into_iter().filter(|p| Path::new(p).exists()) {
        compared += 1;
        assert_eq!(probe(&store, &[], &["open", path, "w"]), "EROFS", "{path} in run");
        assert_eq!(store.ok(&["exec", &id, "probe", "open", path, "w"]), "EROFS", "{path} in exec");
    }
    assert!(compared >= 5, "only {compared} were compared");
    let open = ["open", "/proc/sys/kernel/core_pattern", "w"];
    assert_eq!(probe(&store, &["--security-opt", "systempaths=unconfined"], &open), "ok");
}

#[test]
fn read_only_paths_cannot_be_made_writable_from_inside() {
    let store = Store::new();
    let script = "mount -o remount,rw /proc/sys; umount /proc/sys; umount /proc/keys; mount -t proc p /mnt; \
                  probe open /proc/sys/kernel/core_pattern w; head -c1 /proc/keys | wc -c";
    let out = store.run(&["run", "--rm", IMAGE, "sh", "-c", script]).out;
    assert_eq!(out, "EROFS\n0\n");
}

#[test]
fn the_view_of_the_cgroup_is_read_only() {
    let store = Store::new();
    let script = "for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks -o -name release_agent); do \
                  probe open $f w; done | sort | uniq -c; find /sys/fs/cgroup -type d -maxdepth 1 -exec mkdir {}/sub ';' \
                  2>/dev/null; find /sys/fs/cgroup -name sub";
    for flags in [&[][..], &["--cap-add", "SYS_ADMIN"], &["-u", "tim"]] {
        let out = sh(&store, flags, script);
        let kinds: Vec<&str> = out.lines().filter_map(|l| l.split_whitespace().nth(1)).collect();
        let refused = [vec!["EROFS"], vec!["EACCES"], vec!["EACCES", "EROFS"]];
        assert!(refused.contains(&kinds), "{flags:?}: {out}");
    }
    let privileged =
        sh(&store, &["--privileged"], "f=$(find /sys/fs/cgroup -name cgroup.procs | head -n 1); probe open $f w");
    assert_eq!(privileged, "ok");
}

#[test]
fn the_cgroup_that_is_seen_is_the_own_one() {
    let store = Store::new();
    let id = running(&store, &[]);
    let own = store.ok(&["exec", &id, "cat", "/proc/1/cgroup"]);
    for line in own.lines() {
        assert!(!line.contains(&id), "the host's path of the cgroup shows: {line}");
    }
    let procs = store.ok(&["exec", &id, "sh", "-c", "cat $(find /sys/fs/cgroup -name cgroup.procs | head -n 1)"]);
    assert!(procs.lines().count() <= 3, "processes of others are seen: {procs}");
    assert!(procs.lines().any(|l| l == "1"), "{procs}");
}

// ---- namespaces

#[test]
fn processes_of_the_host_are_not_seen() {
    let store = Store::new();
    let all = probe_all(&store, &[]);
    assert_eq!((all["pid"].as_str(), all["ppid"].as_str(), all["sid"].as_str()), ("1", "0", "1"));
    assert_eq!(
        sh(&store, &[], "cd /proc; ls -d [0-9]* | sort -n | head -n 1; ls -d [0-9]* | wc -l").lines().next(),
        Some("1")
    );
    let count: u32 = sh(&store, &[], "cd /proc; ls -d [0-9]* | wc -l").parse().unwrap();
    assert!(count <= 3, "{count} processes are seen");
    let id = running(&store, &[]);
    let other = running(&store, &[]);
    assert_ne!(
        store.ok(&["exec", &id, "readlink", "/proc/1/ns/pid"]),
        store.ok(&["exec", &other, "readlink", "/proc/1/ns/pid"])
    );
}

#[test]
fn every_namespace_but_user_and_time_is_the_containers_own() {
    let store = Store::new();
    let all = probe_all(&store, &[]);
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(own.to_str().unwrap(), format!("{kind}:[{}]", all[&format!("ns.{kind}")]), "{kind}");
    }
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    sh(&store, &["--cap-add", "SYS_ADMIN"], "hostname changed; hostname");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host_name);
}

#[test]
fn the_session_keyring_is_not_shared() {
    let store = Store::new();
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING)
    let ask = ["syscall", "250", "0", "-3", "0"];
    let host = done(Command::new(fixture("probe")).args(ask)).out.trim().to_owned();
    host.parse::<i64>().expect("the host's session keyring");
    let free = ["--security-opt", "seccomp=unconfined"];
    let id = running(&store, &free);
    let rings = [
        probe(&store, &free, &ask),
        probe(&store, &free, &ask),
        store.ok(&[&["exec", &id, "probe"], &ask[..]].concat()),
    ];
    for ring in &rings {
        ring.parse::<i64>().unwrap_or_else(|_| panic!("no session keyring inside: {ring}"));
        assert_ne!(ring, &host, "the caller's session keyring is seen");
    }
    assert_ne!(rings[0], rings[1]);
    // Nor does a container get another's that lets everybody in: keyctl(KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, all).
    let script = "probe syscall 250 0 -3 0; probe syscall 250 5 -3 0x3f3f3f3f; exec sleep 1000";
    let inviting = store.ok(&[&["run", "-d"], &free[..], &[IMAGE, "sh", "-c", script]].concat());
    let said = || store.ok(&["logs", &inviting]);
    eventually("the keyring to be opened", || said().lines().count() == 2);
    assert_eq!(said().lines().nth(1), Some("0"), "{}", said());
    assert_ne!(said().lines().next(), Some(probe(&store, &free, &ask).as_str()));
}

// ---- mounts

/// The host's mounts, without those of other tests' stores.
fn host_mounts() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|l| !l.contains("mrt-")).map(str::to_owned).collect()
}

#[test]
fn mounts_of_a_container_stay_in_it() {
    let store = Store::new();
    let before = host_mounts();
    let id = running(&store, &["--privileged", "-v", "/tmp:/host-tmp"]);
    store.ok(&["exec", "--privileged", &id, "mount", "-t", "tmpfs", "inside", "/mnt"]);
    store.ok(&["exec", "--privileged", &id, "mkdir", "/host-tmp/minirun-mounted-on"]);
    store.ok(&["exec", "--privileged", &id, "mount", "-t", "tmpfs", "inside", "/host-tmp/minirun-mounted-on"]);
    let mine = store.root();
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!all.contains(mine.to_str().unwrap()), "{all}");
    assert_eq!(host_mounts(), before, "while it runs");
    store.ok(&["rm", "-f", &id]);
    std::fs::remove_dir("/tmp/minirun-mounted-on").unwrap();
    assert_eq!(host_mounts(), before, "afterwards");
}

#[test]
fn nothing_leaks_even_where_the_hosts_mounts_are_shared() {
    let store = Store::new();
    let script = "mount --make-rshared / && mount -t tmpfs minirun-shared \"$DIR\" && mount --make-shared \"$DIR\" && \
                  wc -l </proc/self/mountinfo && \"$0\" \"$@\" && wc -l </proc/self/mountinfo";
    let wrapper = format!("export DIR; exec unshare -m --propagation private bash -c '{script}' \"$0\" \"$@\"");
    let dir = store.path("shared");
    std::fs::create_dir(&dir).unwrap();
    let inside = "mkdir /s/sub; mount -t tmpfs inner /s/sub && mount -t tmpfs inner /mnt && echo mounted";
    let spec = format!("{}:/s", dir.display());
    let args = ["run", "--rm", "--privileged", "-v", &spec, IMAGE, "sh", "-c", inside];
    let result = done(store.through_shell(&wrapper, &args).env("DIR", &dir));
    let lines: Vec<&str> = result.out.lines().collect();
    assert_eq!(lines.len(), 3, "{result:?}");
    assert_eq!((lines[1], lines[0]), ("mounted", lines[2]), "the host's mount table grew");
}

#[test]
fn the_hosts_mounts_are_not_in_the_containers_table() {
    let store = Store::new();
    let mounts = probe(&store, &[], &["mounts"]);
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let known = ["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
        let ours = fields[4] == "/" || known.iter().any(|k| fields[4] == *k || fields[4].starts_with(&format!("{k}/")));
        assert!(ours, "{line}");
        assert!(!line.contains("shared:") && !line.contains("master:"), "it propagates: {line}");
    }
    assert_eq!(mounts.lines().filter(|l| l.split(' ').nth(4) == Some("/")).count(), 1, "{mounts}");
}

// ---- this program's file

/// A copy of the program, so that nobody else changes it meanwhile, and what must stay as it is.
fn own_program(store: &Store) -> (String, Vec<u8>, (i64, i64)) {
    let copy = store.text("engine");
    std::fs::copy(program(), &copy).unwrap();
    let meta = std::fs::metadata(&copy).unwrap();
    let content = slurp(&copy);
    (copy, content, (meta.mtime(), meta.mtime_nsec()))
}

fn with_program(store: &Store, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(store.command(args).get_args()).stdin(Stdio::null());
    command
}

fn check_unchanged(own: &(String, Vec<u8>, (i64, i64))) {
    let meta = std::fs::metadata(&own.0).unwrap();
    assert!(slurp(&own.0) == own.1, "the program's file was changed");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), own.2);
}

#[test]
fn the_programs_file_cannot_be_written_through_a_process_inside() {
    let store = Store::new();
    let own = own_program(&store);
    let id = running(&store, &["--privileged"]);
    // The joining process executes itself, which is this program, and waits for an archive.
    let again =
        ["exec", "-i", "--privileged", &id, "/proc/self/exe", "--root", "/r", "--state", "/s", "import", "-", "x"];
    let mut client = with_program(&store, &own.0, &again).stdin(Stdio::piped()).spawn().unwrap();
    let find =
        "for p in /proc/[0-9]*; do [ $(stat -Lc %s $p/exe 2>/dev/null || echo 0) = SIZE ] && echo $p && break; done";
    let find = find.replace("SIZE", &own.1.len().to_string());
    let mut found = String::new();
    eventually("this program to run inside", || {
        found = store.run(&["exec", &id, "sh", "-c", &find]).out.trim().to_owned();
        assert!(client.try_wait().unwrap().is_none(), "it has ended");
        !found.is_empty()
    });
    // Held open, so that the file is no longer busy when it is opened anew.
    let attack = format!(
        "exec 9<{found}/exe; probe open {found}/exe w; kill -9 ${{0##*/}}; \
         while [ \"$(probe open /proc/self/fd/9 w)\" = ETXTBSY ]; do :; done; \
         probe open /proc/self/fd/9 w; probe open /proc/self/fd/9 rw; echo x >>/proc/self/fd/9; true"
    );
    let result = store.run(&["exec", "--privileged", &id, "sh", "-c", &attack, &found]);
    let lines: Vec<&str> = result.out.lines().collect();
    assert!(["ETXTBSY", "EROFS"].contains(&lines[0]), "{result:?}");
    assert_eq!(lines[1..], ["EROFS", "EROFS"], "{result:?}");
    client.stdin.take();
    client.wait().unwrap();
    check_unchanged(&own);
}

#[test]
fn scripts_and_entry_points_that_are_the_program_itself_do_no_harm() {
    let store = Store::new();
    let own = own_program(&store);
    // The known trick: whatever runs in the container first is this program, and a thief waits for it.
    let thief = r#"#!/bin/sh
for p in /proc/[0-9]*; do echo broken >$p/exe; done 2>/dev/null; echo done"#;
    std::fs::write(store.path("thief"), thief).unwrap();
    store.changed_image(
        "trick",
        &format!(
            "printf '#!/proc/self/exe\\n' >bin/trick; chmod 755 bin/trick; cp {} bin/thief; chmod 755 bin/thief",
            store.text("thief")
        ),
    );
    for entry in ["/proc/self/exe", "/bin/trick"] {
        let mut command = with_program(&store, &own.0, &["run", "--rm", "--entrypoint", entry, "trick", "--version"]);
        done(&mut command);
        check_unchanged(&own);
    }
    let mut command =
        with_program(&store, &own.0, &["run", "-d", "--privileged", "trick", "sh", "-c", "while :; do thief; done"]);
    let id = done(&mut command).out.trim().to_owned();
    for _ in 0..10 {
        for what in ["/proc/self/exe", "/bin/trick", "true"] {
            done(&mut with_program(&store, &own.0, &["exec", "--privileged", &id, what]));
        }
    }
    eventually("the thief to have tried", || store.ok(&["logs", &id]).contains("done"));
    check_unchanged(&own);
    done(&mut with_program(&store, &own.0, &["rm", "-f", &id]));
    check_unchanged(&own);
}

#[test]
fn the_reaper_cannot_be_written() {
    let store = Store::new();
    let own = own_program(&store);
    let script = "probe open /proc/1/exe w; probe open /sbin/docker-init w; echo x >/sbin/docker-init; rm -f /sbin/docker-init; true";
    let args = ["run", "--rm", "--init", "--privileged", IMAGE, "sh", "-c", script];
    let result = done(&mut with_program(&store, &own.0, &args));
    assert_eq!(result.code, 0, "{result:?}");
    for line in result.out.lines() {
        assert!(["ETXTBSY", "EROFS"].contains(&line), "{result:?}");
    }
    check_unchanged(&own);
}

// ---- what is left open

#[test]
fn a_working_directory_behind_a_descriptor_is_refused() {
    let store = Store::new();
    let id = running(&store, &[]);
    let wrapper = "exec 7</ 8</etc; exec \"$0\" \"$@\"";
    for number in 0..12 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../../..")] {
            let run = ["run", "--rm", "-w", &path, IMAGE, "cat", "../../../../etc/os-release", "etc/os-release"];
            let exec = ["exec", "-w", &path, &id, "cat", "../../../../etc/os-release", "etc/os-release"];
            for args in [&run[..], &exec] {
                let result = done(&mut store.through_shell(wrapper, args));
                assert!(!result.out.contains("Debian"), "{args:?} reaches the host: {result:?}");
                if !path.contains("..") {
                    assert!(matches!(result.code, 125..=127), "{args:?}: {result:?}");
                }
            }
        }
    }
    store.changed_image("link", "ln -s /proc/self/fd/7 out; ln -s /proc/self/fd/8/../../../../ up");
    for dir in ["/out", "/up"] {
        let result = done(&mut store.through_shell(wrapper, &["run", "--rm", "-w", dir, "link", "ls", "-a"]));
        assert!(result.code != 0 || result.out.contains("linuxrc"), "{result:?}");
    }
}

#[test]
fn the_first_process_and_exec_have_no_descriptor_of_ours() {
    let store = Store::new();
    let wrapper = "exec 5</ 6>>/dev/null 7</etc/passwd; exec \"$0\" \"$@\"";
    let id = done(&mut store.through_shell(wrapper, &["run", "-d", "--init", IMAGE, "sleep", "1000"])).out;
    let id = id.trim();
    let list = store.ok(&["exec", id, "sh", "-c", "for f in /proc/1/fd/*; do readlink $f; done"]);
    for target in list.lines() {
        // Its streams, and what the reaper itself has opened.
        let known = target == "/dev/null" || target.starts_with("pipe:") || target.starts_with("anon_inode:");
        assert!(known, "{list}");
    }
    let fds = |args: &[&str]| facts(&done(&mut store.through_shell(wrapper, args)).out).into_keys().collect::<Vec<_>>();
    assert_eq!(fds(&["exec", id, "probe", "fds"]), ["0", "1", "2"]);
    assert_eq!(fds(&["exec", "-i", id, "probe", "fds"]), ["0", "1", "2"]);
    assert_eq!(fds(&["run", "--rm", "-i", IMAGE, "probe", "fds"]), ["0", "1", "2"]);
    assert_eq!(fds(&["run", "--rm", "-v", "/tmp:/x", "--privileged", IMAGE, "probe", "fds"]), ["0", "1", "2"]);
}

// ---- exec

#[test]
fn exec_is_confined_as_the_container_is() {
    let store = Store::new();
    for flags in [
        &[][..],
        &["--cap-drop", "ALL"],
        &["--cap-add", "NET_ADMIN", "--security-opt", "no-new-privileges"],
        &["-u", "tim"],
        &["--privileged"],
        &["--ulimit", "nofile=77:88", "--oom-score-adj", "300"],
    ] {
        let id = store.ok(&[&["run", "-d"], flags, &[IMAGE, "sh", "-c", "probe all; exec sleep 1000"]].concat());
        eventually("the first process's report", || store.ok(&["logs", &id]).contains("env.HOME"));
        let first = facts(&store.ok(&["logs", &id]));
        let exec = facts(&store.ok(&["exec", &id, "probe", "all"]));
        let compared = first.keys().filter(|k| {
            let prefixes = ["ns.", "Cap", "rlimit.", "uid", "euid", "gid", "groups", "NoNewPrivs", "Seccomp"];
            let whole = ["umask", "cgroup", "oom_score_adj", "hostname", "SigBlk", "SigIgn", "SigCgt", "cwd"];
            prefixes.iter().any(|p| k.starts_with(p)) || whole.contains(&k.as_str())
        });
        for key in compared {
            assert_eq!(exec.get(key), Some(&first[key]), "{key} with {flags:?}");
        }
        assert_ne!(exec["sid"], first["sid"], "a session of its own");
        store.ok(&["rm", "-f", &id]);
    }
}

#[test]
fn all_processes_are_in_the_containers_cgroups() {
    let store = Store::new();
    let id = running(&store, &[]);
    store.ok(&["exec", "-d", &id, "sleep", "1001"]);
    let dirs = cgroups_of(&id);
    assert!(!dirs.is_empty(), "no cgroup of the container");
    let first = store.inspect(&id, "{{.State.Pid}}");
    let sleeps = || -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let own = std::fs::read_link(format!("/proc/{first}/ns/pid")).unwrap();
        let same = entries.filter(|e| std::fs::read_link(e.path().join("ns/pid")).is_ok_and(|ns| ns == own));
        same.map(|e| e.file_name().into_string().unwrap()).filter(|n| n.parse::<u32>().is_ok()).collect()
    };
    eventually("the second process", || sleeps().len() == 2);
    for dir in &dirs {
        let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        for pid in sleeps() {
            assert!(procs.lines().any(|l| l == pid), "{pid} is not in {}", dir.display());
        }
    }
    // Every hierarchy with a controller that confines, not only those that have a folder.
    let text = std::fs::read_to_string(format!("/proc/{first}/cgroup")).unwrap();
    let mut confined = 0;
    for line in text.lines() {
        let controllers = line.split(':').nth(1).unwrap();
        if ["devices", "pids", "memory", "cpu", "freezer"].iter().any(|c| controllers.split(',').any(|k| k == *c)) {
            assert!(line.ends_with(&format!("/minirun-{id}")), "{line}");
            confined += 1;
        }
    }
    if confined == 0 {
        assert!(text.lines().any(|l| l == format!("0::/minirun-{id}")), "{text}");
    }
}

#[test]
fn nothing_of_the_environment_of_the_caller_reaches_exec() {
    let store = Store::new();
    let id = running(&store, &["-e", "KEPT=1"]);
    let mut command = store.command(&["exec", &id, "probe", "all"]);
    let all = facts(&done(command.env("LEAK", "1").env("TERM", "vt52")).out);
    let mut names: Vec<&str> = all.keys().filter_map(|k| k.strip_prefix("env.")).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "HOSTNAME", "KEPT", "PATH"]);
}

// ---- the store

#[test]
fn the_store_is_for_root_alone() {
    let store = Store::empty();
    let mut shell = store
        .through_shell("umask 000; exec \"$0\" \"$@\"", &["import", fixture("busybox.tar").to_str().unwrap(), IMAGE]);
    assert_eq!(done(&mut shell).code, 0);
    let run = ["run", "-d", "-v", "vol:/v", IMAGE, "sleep", "1000"];
    let id = done(&mut store.through_shell("umask 000; exec \"$0\" \"$@\"", &run)).out;
    let state = store.root().with_file_name("state");
    for dir in [store.root(), state.clone()] {
        let meta = std::fs::metadata(&dir).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, 0), "{}", dir.display());
    }
    for path in [state.join(id.trim()), store.root().join("containers").join(id.trim())] {
        if path.exists() {
            assert_eq!(path.metadata().unwrap().mode() & 0o077, 0, "{}", path.display());
        }
    }
}

#[test]
fn the_passwd_file_of_an_image_cannot_hang_or_mislead_the_engine() {
    let store = Store::new();
    store.changed_image("fifo", "rm etc/passwd etc/group; mkfifo etc/passwd etc/group");
    assert_eq!(facts(&store.ok(&["run", "--rm", "fifo", "probe", "all"]))["uid"], "0");
    store.fails(125, &["run", "--rm", "-u", "tim", "fifo", "true"]);
    let mut mine = std::fs::File::create(store.path("passwd")).unwrap();
    mine.write_all(b"thief:x:4711:4711::/:/bin/sh\n").unwrap();
    store.changed_image("link", &format!("ln -sf {} etc/passwd", store.text("passwd")));
    store.fails(125, &["run", "--rm", "-u", "thief", "link", "true"]);
    store.changed_image("zero", "rm etc/passwd; mknod etc/passwd c 1 5");
    assert_eq!(facts(&store.ok(&["run", "--rm", "zero", "probe", "all"]))["uid"], "0");
}

#[test]
fn nothing_depends_on_who_the_caller_is() {
    let store = Store::new();
    let look = "ulimit -Sa; cut -d' ' -f19 /proc/self/stat; grep Cpus_allowed_list /proc/self/status; uname -m; \
                cat /proc/self/timerslack_ns; exec cat /proc/self/oom_score_adj";
    let run = ["run", "--rm", IMAGE, "sh", "-c", look];
    let usual = store.ok(&run);
    assert!(usual.lines().any(|line| line.starts_with("open file") && line.ends_with(" 1024")), "{usual}");
    // To lower it is not everybody's right.
    let may_lower = "echo 300 >/proc/self/oom_score_adj; echo 0 2>/dev/null >/proc/self/oom_score_adj";
    let may_lower = Command::new("bash").args(["-c", may_lower]).status().unwrap().success();
    let expected = if may_lower { usual.clone() } else { usual.strip_suffix('0').unwrap().to_owned() + "300" };
    let as_somebody = "ulimit -Sn 100 -Ss 4096 -St 1000 -Sv 8000000 -Sc 0; echo 300 >/proc/self/oom_score_adj; \
                       exec nice -n 10 taskset -c 0 setarch linux32 \"$0\" \"$@\"";
    let by_somebody = |args: &[&str]| {
        let out = done(&mut store.through_shell(as_somebody, args));
        assert_eq!(out.code, 0, "{out:?}");
        out.out.trim_end().to_owned()
    };
    assert_eq!(by_somebody(&run), expected);
    by_somebody(&["run", "-d", "--name", "box", IMAGE, "sleep", "1000"]);
    assert_eq!(by_somebody(&["exec", "box", "sh", "-c", look]), expected);
    std::fs::create_dir(store.path("context")).unwrap();
    store.write("context/Dockerfile", format!("FROM {IMAGE}\nRUN [\"sh\", \"-c\", \"({look}) >/seen\"]\n"));
    by_somebody(&["build", "-q", "-t", "built", &store.text("context")]);
    assert_eq!(store.ok(&["run", "--rm", "built", "cat", "/seen"]), expected);
}
