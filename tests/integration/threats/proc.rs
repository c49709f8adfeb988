//! What is written to `/proc`, shown of it, and reached through devices and cgroups.

use super::bundle::Bundle;
use crate::support::{done, eventually};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn masks_are_the_hosts_null_device_whatever_the_image_has() {
    let mut bundle = Bundle::new();
    let before = std::fs::metadata("/dev/null").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/secret", "/proc/../secret2", "/folder"]);
    bundle.change("echo hidden >secret; echo hidden >secret2; mkdir folder; echo hidden >folder/f");
    let look = "stat -c '%F %t:%T' /proc/keys /secret /secret2; cat /proc/keys /secret /secret2; ls -A /folder; \
                chmod 600 /secret; chown 1 /secret; true";
    let nulls = "character special file 1:3\n".repeat(3);
    assert_eq!(bundle.run(&["sh", "-c", look]).out, nulls);
    for trick in ["echo x >dev/null", "ln -s /etc/shadow dev/null", "ln -s /proc/sys/kernel/core_pattern dev/null"] {
        bundle.change(&format!("rm -rf dev/*; {trick}"));
        let run = bundle.run(&["sh", "-c", look]);
        // A node where something else is: no container at all.
        assert!(run.code == 1 && run.err.contains("something else is there already"), "{trick}: {run:?}");
    }
    // Where the whole folder is somebody else's, no node is made at all.
    let folder = bundle.store.path("dev");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("null"), "not null").unwrap();
    bundle.add_bind(&folder, "/dev");
    let input = ["sh", "-c", "cat /proc/keys /secret /secret2; stat -c %t:%T /secret"];
    assert_eq!(bundle.run_through("exec \"$0\" \"$@\" < <(:)", &input).out, "1:3\n");
    let now = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((now.mode(), now.uid()), (before.mode(), before.uid()));
}

#[test]
fn a_link_as_a_mask_or_read_only_path_is_refused() {
    let mut bundle = Bundle::new();
    bundle.change("ln -s /etc/passwd secret");
    for list in ["maskedPaths", "readonlyPaths"] {
        let original = bundle.config.clone();
        bundle.config["linux"][list] = json!(["/secret"]);
        let run = bundle.run(&["cat", "/secret"]);
        assert!(run.code == 1 && run.out.is_empty(), "{list}: {run:?}");
        bundle.config = original;
    }
}

#[test]
fn the_oom_score_of_a_joining_process_is_not_written_where_the_container_wants() {
    let mut bundle = Bundle::new();
    let all = json!(["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    bundle.start_sleeping();
    let lie = "mount -t tmpfs lie /proc && mkdir /proc/self && : >/proc/self/oom_score_adj";
    let covered = bundle.exec(&[], &["sh", "-c", lie]);
    assert_eq!(covered.code, 0, "{covered:?}");
    let mut process = bundle.config["process"].clone();
    process["oomScoreAdj"] = json!(345);
    process["args"] = json!(["sleep", "1000"]);
    let file = bundle.store.write("process.json", process.to_string());
    let pid_file = bundle.store.text("pid");
    let args = ["exec", "-d", "--pid-file", &pid_file, "--process", &file, bundle.id()];
    assert_eq!(bundle.quietly("exec \"$0\" \"$@\"", &args), 0);
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "345");
    assert_eq!(bundle.exec(&[], &["cat", "/proc/self/oom_score_adj"]).out, "");
}

#[test]
fn settings_of_the_kernel_are_those_of_the_containers_namespaces_alone() {
    let mut bundle = Bundle::new();
    let host = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let before = host();
    bundle.change("rm -rf proc; mkdir -p proc/sys/net/ipv4; echo 9 >proc/sys/net/ipv4/ip_forward");
    let other = if before.trim() == "1" { "0" } else { "1" };
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": other});
    assert_eq!(bundle.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).out.trim(), other);
    assert_eq!(host(), before);
    for key in ["kernel.core_pattern", "kernel/../vm/overcommit_memory", "net/../kernel/core_pattern", "vm.swappiness"]
    {
        bundle.config["linux"]["sysctl"] = json!({key: "1"});
        let run = bundle.run(&["true"]);
        assert!(run.code == 1 && run.err.contains("not in a separate kernel namespace"), "{key}: {run:?}");
    }
}

const UNWRITABLE: [&str; 7] = [
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/irq/default_smp_affinity",
    "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/uevent_helper",
    "/sys/class/net/lo/mtu",
];

#[test]
fn the_kernel_the_disks_and_the_cgroups_are_out_of_reach_in_run_and_exec() {
    let mut bundle = Bundle::new();
    let allowed = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": allowed, "effective": allowed, "permitted": allowed});
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    let disks = std::fs::read_to_string("/proc/partitions").unwrap();
    let disk: Vec<&str> = disks.lines().nth(2).expect("a disk").split_whitespace().take(2).collect();
    let paths: Vec<&str> = UNWRITABLE.into_iter().filter(|p| Path::new(p).exists()).collect();
    assert!(paths.len() >= 4, "{paths:?}");
    let mut script = String::new();
    for path in &paths {
        script += &format!("probe open {path} w; ");
    }
    script += &format!(
        "probe mknod /tmp/d b {} {}; probe mknod /tmp/m c 1 1; probe open /tmp/d r; probe open /tmp/d rw; \
         probe open /tmp/m r; rm /tmp/d /tmp/m; for f in $(find /sys/fs/cgroup -name release_agent -o -name tasks \
         -o -name cgroup.procs); do probe open $f w; done | sort -u; mkdir /sys/fs/cgroup/x \
         /sys/fs/cgroup/*/x 2>/dev/null && echo made; cut -d: -f3 /proc/self/cgroup | sort -u",
        disk[0], disk[1]
    );
    let mut expected = "EROFS\n".repeat(paths.len());
    expected += "ok\nok\nEPERM\nEPERM\nEPERM\nEROFS\n/\n";
    let run = bundle.run(&["sh", "-c", &script]);
    assert_eq!(run.out, expected, "{run:?}");
    bundle.start_sleeping();
    let exec = bundle.exec(&[], &["sh", "-c", &script]);
    assert_eq!(exec.out, expected, "{exec:?}");
}

#[test]
fn a_terminal_is_of_the_containers_own_file_system() {
    let mut bundle = Bundle::new();
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    bundle.start_sleeping();
    let terminal = |bundle: &Bundle| {
        let inner = bundle.oci(&["exec", "-t", bundle.id(), "sh", "-c", "tty; echo done"]);
        let words: Vec<_> = inner.get_args().map(|a| format!("'{}'", a.to_str().unwrap())).collect();
        let line = format!("{} {}", bundle.runtime().display(), words.join(" "));
        done(std::process::Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null()))
    };
    assert!(terminal(&bundle).out.contains("/dev/pts/0"), "{:?}", terminal(&bundle));
    let tricks = [
        "mkfifo /tmp/f; mount --bind /tmp/f /dev/pts/ptmx",
        "mount --bind /dev/full /dev/pts/ptmx",
        "mount -t tmpfs t /dev/pts; mknod /dev/pts/ptmx c 5 2",
    ];
    for trick in tricks {
        let set = bundle.exec(&[], &["sh", "-ec", trick]);
        if trick.contains("mknod") && set.code != 0 {
            // Without the right to make nodes the folder alone is the trick.
            assert!(set.err.contains("mknod"), "{set:?}");
        } else {
            assert_eq!(set.code, 0, "{trick}: {set:?}");
        }
        let result = terminal(&bundle);
        assert!(!result.out.contains("done") && result.out.contains("/dev/pts"), "{trick}: {result:?}");
        bundle.exec(&[], &["sh", "-c", "umount /dev/pts/ptmx || umount /dev/pts"]);
        assert!(terminal(&bundle).out.contains("done"));
    }
    eventually("no process to wait", || bundle.exec(&[], &["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).code == 0);
}

/// A program that makes a call by the 32-bit entry and returns the error number: `unshare(CLONE_NEWUSER)`.
fn call_by_the_32_bit_entry() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    #[rustfmt::skip]
    let code = [
        0xb8, 0x36, 0x01, 0, 0,       // mov eax, 310
        0xbb, 0, 0, 0, 0x10,          // mov ebx, CLONE_NEWUSER
        0xcd, 0x80,                   // int 0x80
        0xf7, 0xd8,                   // neg eax
        0x89, 0xc7,                   // mov edi, eax
        0xb8, 0x3c, 0, 0, 0,          // mov eax, exit
        0x0f, 0x05,                   // syscall
    ];
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend((BASE + 120).to_le_bytes());
    elf.extend(64u64.to_le_bytes());
    elf.extend(0u64.to_le_bytes());
    elf.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    let size = 120 + code.len() as u64;
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

#[cfg(target_arch = "x86_64")]
#[test]
fn no_other_entry_of_the_kernel_is_a_way_round_the_filter() {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::new();
    let file = bundle.rootfs().join("bin/old-entry");
    std::fs::write(&file, call_by_the_32_bit_entry()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let x32 = ((1u64 << 30) | 272).to_string();
    let without = bundle.run(&["/bin/old-entry"]);
    assert_eq!(without.code, 0, "the 32-bit entry: {without:?}");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 108}]
    });
    assert_eq!(bundle.run(&["/bin/old-entry"]).code, 108);
    assert_eq!(bundle.run(&["probe", "syscall", "272", "0x10000000"]).out.trim(), "errno-108");
    assert_eq!(bundle.run(&["probe", "syscall", &x32, "0x10000000"]).out.trim(), "errno-108");
    // An entry that the filter does not name is closed.
    bundle.config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    assert_ne!(bundle.run(&["/bin/old-entry"]).code, 0);
    assert_ne!(bundle.run(&["probe", "syscall", &x32, "0x10000000"]).out.trim(), "0");
}
