//! What the profiles are for containers of several kinds.

use super::*;
use crate::runtime::seccomp::Filter;
use oci_spec::runtime::{LinuxSeccompOperator, LinuxSyscall};

const KERNEL: Version = (6, 1);

fn setting(capabilities: &HashSet<Capability>) -> Setting<'_> {
    Setting { capabilities, machine: "amd64", kernel: KERNEL }
}

/// The result of a call with this first argument: `ok`, or the number of an error.
fn verdict(profile: &LinuxSeccomp, call: &str, argument: u64) -> String {
    let holds = |rule: &LinuxSyscall| {
        rule.args().iter().flatten().all(|a| match a.op() {
            LinuxSeccompOperator::ScmpCmpEq => argument == a.value(),
            LinuxSeccompOperator::ScmpCmpLt => argument < a.value(),
            LinuxSeccompOperator::ScmpCmpGt => argument > a.value(),
            LinuxSeccompOperator::ScmpCmpMaskedEq => argument & a.value() == a.value_two().unwrap_or(0),
            other => panic!("{other:?} is not in the profile"),
        })
    };
    let mut rules = profile.syscalls().iter().flatten().filter(|r| r.names().iter().any(|n| n == call));
    match rules.find(|r| holds(r)).map(|r| (r.action(), r.errno_ret())) {
        Some((LinuxSeccompAction::ScmpActAllow, _)) => "ok".into(),
        Some((LinuxSeccompAction::ScmpActErrno, Some(number))) => number.to_string(),
        None => profile.default_errno_ret().unwrap_or(0).to_string(),
        other => panic!("{call}: {other:?}"),
    }
}

#[test]
fn an_ordinary_container_may_do_what_docker_lets_it() -> Result<()> {
    let capabilities = HashSet::from([Capability::SysChroot, Capability::Chown]);
    let profile = builtin(&setting(&capabilities))?;
    for call in [
        "read",
        "write",
        "execve",
        "fork",
        "vfork",
        "chroot",
        "ptrace",
        "process_vm_readv",
        "openat2",
        "futex_waitv",
        "landlock_create_ruleset",
        "cachestat",
        "fchmodat2",
        "map_shadow_stack",
        "mseal",
        "statmount",
        "setxattrat",
        "name_to_handle_at",
        "pkey_alloc",
        "memfd_secret",
        "arch_prctl",
        "modify_ldt",
        "seccomp",
        "rseq",
        "socketcall",
        "clock_gettime64",
        "close_range",
        "uretprobe",
    ] {
        assert_eq!(verdict(&profile, call, 0), "ok", "{call}");
    }
    for call in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "reboot",
        "init_module",
        "finit_module",
        "kexec_load",
        "open_by_handle_at",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "pivot_root",
        "swapon",
        "settimeofday",
        "clock_settime",
        "acct",
        "quotactl",
        "syslog",
        "kcmp",
        "pidfd_getfd",
        "process_madvise",
        "iopl",
        "mbind",
        "move_pages",
        "fsopen",
        "move_mount",
        "open_tree",
        "mount_setattr",
        "lsm_set_self_attr",
        "vhangup",
        "nfsservctl",
        "uselib",
        "sysfs",
    ] {
        assert_eq!(verdict(&profile, call, 0), "1", "{call}");
    }
    assert_eq!(verdict(&profile, "clone3", 0), libc::ENOSYS.to_string());
    Ok(())
}

#[test]
fn arguments_decide_about_families_domains_and_namespaces() -> Result<()> {
    let none = HashSet::new();
    let profile = builtin(&setting(&none))?;
    for (call, argument, result) in [
        ("socket", libc::AF_UNIX as u64, "ok"),
        ("socket", libc::AF_INET6 as u64, "ok"),
        ("socket", libc::AF_NETLINK as u64, "ok"),
        ("socket", libc::AF_ALG as u64, "1"),
        ("socket", libc::AF_NFC as u64, "ok"),
        ("socket", libc::AF_VSOCK as u64, "1"),
        ("socket", libc::AF_XDP as u64, "ok"),
        ("personality", 0, "ok"),
        ("personality", 0x0002_0008, "ok"),
        ("personality", 0xffff_ffff, "ok"),
        ("personality", 0x0004_0000, "1"),
        ("clone", libc::SIGCHLD as u64, "ok"),
        ("clone", libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64, "1"),
        ("clone", libc::CLONE_NEWNS as u64, "1"),
        ("clone", libc::CLONE_NEWNET as u64, "1"),
        ("clone", libc::CLONE_NEWCGROUP as u64, "1"),
        ("chroot", 0, "1"),
    ] {
        assert_eq!(verdict(&profile, call, argument), result, "{call} {argument:#x}");
    }
    Ok(())
}

#[test]
fn a_capability_brings_its_calls() -> Result<()> {
    for (capability, calls) in [
        (Capability::SysAdmin, &["mount", "unshare", "setns", "clone3", "bpf", "lsm_list_modules"][..]),
        (Capability::SysBoot, &["reboot"]),
        (Capability::SysModule, &["finit_module"]),
        (Capability::SysPtrace, &["kcmp", "pidfd_getfd"]),
        (Capability::SysTime, &["clock_settime64"]),
        (Capability::SysNice, &["set_mempolicy_home_node"]),
        (Capability::Syslog, &["syslog"]),
        (Capability::Bpf, &["bpf"]),
        (Capability::Perfmon, &["perf_event_open"]),
        (Capability::DacReadSearch, &["open_by_handle_at"]),
    ] {
        let (with, without) = (HashSet::from([capability]), HashSet::new());
        for call in calls {
            assert_eq!(verdict(&builtin(&setting(&with))?, call, 0), "ok", "{call}");
            assert_ne!(verdict(&builtin(&setting(&without))?, call, 0), "ok", "{call}");
        }
    }
    let with = HashSet::from([Capability::SysAdmin]);
    assert_eq!(verdict(&builtin(&setting(&with))?, "clone", libc::CLONE_NEWUSER as u64), "ok");
    Ok(())
}

#[test]
fn tracing_needs_a_kernel_on_which_it_is_no_way_round() -> Result<()> {
    let none = HashSet::new();
    let old = Setting { kernel: (4, 7), ..setting(&none) };
    assert_eq!(verdict(&builtin(&old)?, "ptrace", 0), "1");
    let arm = Setting { machine: "arm64", ..setting(&none) };
    assert_eq!(verdict(&builtin(&arm)?, "cacheflush", 0), "ok");
    assert_eq!(verdict(&builtin(&arm)?, "arch_prctl", 0), "1");
    Ok(())
}

#[test]
fn every_profile_compiles() -> Result<()> {
    for capabilities in [HashSet::new(), HashSet::from([Capability::SysAdmin, Capability::SysPtrace])] {
        Filter::compile(&builtin(&setting(&capabilities))?)?;
    }
    Ok(())
}

const FILE: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
    ],
    "syscalls": [
        {"name": "read", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "for all"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["write"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
        {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
         "args": [{"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ"}], "includes": {}, "excludes": {}}
    ]
}"#;

#[test]
fn a_file_is_for_whom_it_says() -> Result<()> {
    let profile = Profile::parse(FILE)?;
    let names = |setting: &Setting<'_>| -> Vec<String> {
        let resolved = profile.resolve(setting);
        resolved.syscalls().iter().flatten().flat_map(|r| r.names().clone()).collect()
    };
    let (none, admin) = (HashSet::new(), HashSet::from([Capability::SysAdmin]));
    assert_eq!(names(&setting(&none)), ["read", "write", "ptrace", "socket"]);
    assert_eq!(names(&setting(&admin)), ["read", "mount", "ptrace", "socket"]);
    let old_arm = Setting { machine: "arm64", kernel: (4, 4), capabilities: &none };
    assert_eq!(names(&old_arm), ["read", "write", "bpf", "cacheflush", "socket"]);
    let resolved = profile.resolve(&setting(&none));
    assert_eq!(resolved.architectures(), &Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]));
    assert_eq!(resolved.default_errno_ret(), Some(38));
    assert_eq!(verdict(&resolved, "socket", 16), "97");
    let again: Profile = serde_json::from_str(&serde_json::to_string(&profile)?)?;
    assert_eq!(again, profile);
    Ok(())
}

#[test]
fn a_bad_file_is_refused() {
    for (text, wrong) in [
        ("", "EOF"),
        ("{}", "defaultAction"),
        (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}"#, "SCMP_ARCH_PDP11"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "both architectures and archMap",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "both name and names",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}]}"#,
            "minKernel",
        ),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "cannot be used as default action"),
    ] {
        let error = format!("{:#}", Profile::parse(text).unwrap_err());
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn the_running_kernel_is_a_version_we_support() {
    assert!(running_kernel() >= (5, 0), "{:?}", running_kernel());
}
