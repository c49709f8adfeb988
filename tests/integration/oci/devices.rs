//! Device nodes, paths that are masked or read-only, settings of the kernel.

use super::{in_user_namespace, output};
use crate::threats::bundle::Bundle;
use serde_json::json;

#[test]
fn devices_are_made_as_asked_even_where_default_ones_are() {
    let mut b = Bundle::new();
    b.config["linux"]["devices"] = json!([
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/below/block", "type": "b", "major": 7, "minor": 9, "fileMode": 0o600},
        {"path": "/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 1000, "gid": 1000},
        {"path": "/unbuffered", "type": "u", "major": 1, "minor": 3},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o604, "gid": 6},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 5},
    ]);
    b.config["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"},
    ]);
    let out = output(
        &mut b,
        "stat -c '%n %F %t:%T %a %u:%g' /dev/fifo /dev/below/block /zero /unbuffered /dev/full /dev/null; \
         head -c 3 /zero | wc -c; head -c 1 /dev/below/block 2>&1 || true",
    );
    let expected = [
        "/dev/fifo fifo 0:0 640 5:6",
        "/dev/below/block block special file 7:9 600 0:0",
        "/zero character special file 1:5 644 1000:1000",
        "/unbuffered character special file 1:3 666 0:0",
        "/dev/full character special file 1:7 604 0:6",
        "/dev/null character special file 1:5 666 0:0",
        "3",
        "head: /dev/below/block: Operation not permitted",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    b.config["linux"]["devices"] = json!([{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]);
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("make the device /etc/passwd: something else"), "{refused:?}");
}

#[test]
fn in_a_user_namespace_devices_are_the_hosts_and_a_fifo_is_new() {
    let mut b = Bundle::new();
    in_user_namespace(&mut b);
    b.config["linux"]["devices"] = json!([
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7},
    ]);
    let look = "stat -c '%F %t:%T %a %u:%g' /dev/fifo /dev/full /dev/null; echo x > /dev/null && echo written";
    let full = "character special file 1:7 666 65534:65534";
    let null = "character special file 1:3 666 65534:65534";
    assert_eq!(output(&mut b, look), format!("fifo 0:0 640 5:6\n{full}\n{null}\nwritten\n"));
    b.config["linux"]["devices"] = json!([{"path": "/dev/nosuch", "type": "c", "major": 1, "minor": 3}]);
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("make the device /dev/nosuch: find the host's"), "{refused:?}");
}

#[test]
fn paths_are_masked_and_made_read_only() {
    let mut b = Bundle::new();
    b.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/nosuch/path", "/etc/passwd", "/home", "/etc/passwd/x"]);
    b.config["linux"]["readonlyPaths"] = json!(["/tmp", "/etc/group", "/nosuch"]);
    let out = output(
        &mut b,
        "cat /etc/passwd /proc/keys | wc -c; ls -A /home | wc -l; for f in /tmp/x /etc/group /etc/passwd /home/x; do \
         (echo >> $f) 2>&1 | grep -o 'Read-only.*'; done; echo x > /etc/fine && cat /etc/fine",
    );
    assert_eq!(out, format!("0\n0\n{}x\n", "Read-only file system\n".repeat(3).as_str()), "writing to a mask is lost");
}

#[test]
fn kernel_settings_are_those_of_the_containers_namespaces() {
    let mut b = Bundle::new();
    b.config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_forward": "1", "kernel.shmmax": "12345678", "fs.mqueue.msg_max": "11",
        "net/ipv4/ping_group_range": "0 5", "kernel.domainname": "some.where",
    });
    let files = "/proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max \
                 /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/domainname";
    assert_eq!(output(&mut b, &format!("cat {files}")), "1\n12345678\n11\n0\t5\nsome.where\n");
    let host = std::fs::read_to_string("/proc/sys/kernel/shmmax").unwrap();
    assert_ne!(host, "12345678\n");
    for (namespace, key) in [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax"), ("ipc", "fs.mqueue.msg_max")]
    {
        let mut b = Bundle::new();
        b.config["linux"]["sysctl"] = json!({ key: "1" });
        super::namespaces(&mut b, |list| list.retain(|n| n["type"] != namespace));
        let refused = b.run(&["true"]);
        assert!(refused.code == 1 && refused.err.contains("not in a separate kernel namespace"), "{refused:?}");
        // The caller's own, by its path.
        let file = if namespace == "network" { "net" } else { namespace };
        let own = json!({"type": namespace, "path": format!("/proc/{}/ns/{file}", std::process::id())});
        super::namespaces(&mut b, |list| list.push(own));
        let refused = b.run(&["true"]);
        assert!(refused.code == 1 && refused.err.contains("not in a separate kernel namespace"), "{refused:?}");
    }
    let mut b = Bundle::new();
    b.config["linux"]["sysctl"] = json!({"net.ipv4.nosuch": "1"});
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("set the sysctl net/ipv4/nosuch"), "{refused:?}");
    b.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "many"});
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("invalid argument"), "{refused:?}");
}
