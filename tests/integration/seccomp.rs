//! Which system calls a container may make, and that nothing in it gets round the filter.

use crate::support::{IMAGE, Store};

/// `syscall` of the probe in a container made with these flags.
fn call(store: &Store, flags: &[&str], number: i64, arguments: &[&str]) -> String {
    let number = number.to_string();
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "probe", "syscall", &number], arguments].concat()).trim().to_owned()
}

/// Number of the call, its arguments, and what an unprivileged container gets; all harmless where they are allowed.
const REFUSED: [(&str, i64, &[&str], &str); 14] = [
    ("unshare(CLONE_NEWUSER)", libc::SYS_unshare, &["0x10000000"], "EPERM"),
    ("mount", libc::SYS_mount, &[], "EPERM"),
    ("setns", libc::SYS_setns, &["-1", "0"], "EPERM"),
    ("keyctl", libc::SYS_keyctl, &["0", "-3", "0"], "EPERM"),
    ("add_key", libc::SYS_add_key, &[], "EPERM"),
    ("bpf", libc::SYS_bpf, &["0", "0", "0"], "EPERM"),
    ("io_uring_setup", libc::SYS_io_uring_setup, &["0", "0"], "EPERM"),
    ("userfaultfd", libc::SYS_userfaultfd, &["0xffff"], "EPERM"),
    ("clone(CLONE_NEWNS)", libc::SYS_clone, &["0x20000"], "EPERM"),
    ("clone3", libc::SYS_clone3, &["0", "0"], "ENOSYS"),
    ("socket(AF_ALG)", libc::SYS_socket, &["38", "5", "0"], "EPERM"),
    ("socket(AF_VSOCK)", libc::SYS_socket, &["40", "1", "0"], "EPERM"),
    // The kernel looks at 32 bits of it.
    ("socket(AF_ALG) and more", libc::SYS_socket, &["0x100000026", "5", "0"], "EPERM"),
    ("socket(AF_VSOCK) and more", libc::SYS_socket, &["0x100000028", "1", "0"], "EPERM"),
];

#[test]
fn every_container_has_a_filter_and_so_does_what_joins_it() {
    let store = Store::new();
    let id = store.ok(&["run", "-d", IMAGE, "sleep", "1000"]);
    let status = ["grep", "-E", "^Seccomp", "/proc/self/status"];
    let filtered = "Seccomp:\t2\nSeccomp_filters:\t1";
    assert_eq!(store.ok(&[&["exec", &id][..], &status].concat()).trim(), filtered);
    assert_eq!(store.ok(&[&["exec", "--privileged", &id][..], &status].concat()).trim(), filtered);
    for flags in [&[][..], &["-u", "tim"], &["--security-opt", "no-new-privileges"], &["--cap-drop", "ALL"], &["-t"]] {
        let out = store.ok(&[&["run", "--rm"], flags, &[IMAGE], &status].concat());
        assert_eq!(out.replace('\r', "").trim(), filtered, "{flags:?}");
    }
    for flags in [&["--privileged"][..], &["--security-opt", "seccomp=unconfined"]] {
        let out = store.ok(&[&["run", "--rm"], flags, &[IMAGE], &status].concat());
        assert_eq!(out.trim(), "Seccomp:\t0\nSeccomp_filters:\t0", "{flags:?}");
    }
}

#[test]
fn dangerous_calls_are_refused_in_run_and_exec() {
    let store = Store::new();
    let id = store.ok(&["run", "-d", IMAGE, "sleep", "1000"]);
    for (what, number, arguments, result) in REFUSED {
        assert_eq!(call(&store, &[], number, arguments), result, "{what}");
        let number = number.to_string();
        let out = store.ok(&[&["exec", &id, "probe", "syscall", &number], arguments].concat());
        assert_eq!(out.trim(), result, "{what} by exec");
    }
}

#[test]
fn without_the_filter_the_calls_reach_the_kernel() {
    let store = Store::new();
    let free = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(call(&store, &free, libc::SYS_clone3, &["0", "0"]), "EINVAL");
    assert_eq!(call(&store, &free, libc::SYS_unshare, &["0x10000000"]), "0");
    assert_ne!(call(&store, &free, libc::SYS_keyctl, &["0", "-3", "0"]), "EPERM");
}

#[test]
fn a_capability_opens_its_calls() {
    let store = Store::new();
    assert_eq!(call(&store, &["--cap-add", "SYS_ADMIN"], libc::SYS_clone3, &["0", "0"]), "EINVAL");
    assert_eq!(call(&store, &["--cap-add", "SYS_ADMIN"], libc::SYS_setns, &["-1", "0"]), "EBADF");
    assert_eq!(call(&store, &["--cap-drop", "SYS_CHROOT"], libc::SYS_chroot, &["0"]), "EPERM");
    assert_eq!(call(&store, &[], libc::SYS_chroot, &["0"]), "EFAULT");
}

#[test]
fn calls_that_no_kernel_has_yet_are_missing() {
    let store = Store::new();
    assert_eq!(call(&store, &[], 600, &[]), "ENOSYS");
    // The bit of another ABI is no way round the filter.
    let x32_unshare = (1 << 30) | libc::SYS_unshare;
    assert_eq!(call(&store, &[], x32_unshare, &["0x10000000"]), "EPERM");
}

const FILE: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
    "syscalls": [
        {"names": ["getppid", "not_a_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 108},
        {"names": ["sched_yield"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["setpriority"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_NICE"]}},
        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 36,
         "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]}
    ]
}"#;

#[test]
fn a_profile_file_replaces_the_default() {
    let store = Store::new();
    let option = format!("seccomp={}", store.write("profile.json", FILE));
    let own = ["--security-opt", option.as_str()];
    assert_eq!(call(&store, &own, libc::SYS_getppid, &[]), "errno-108");
    assert_eq!(call(&store, &own, libc::SYS_clone3, &["0", "0"]), "EINVAL");
    assert_eq!(call(&store, &own, libc::SYS_getpriority, &["2", "7"]), "ENAMETOOLONG");
    assert_ne!(call(&store, &own, libc::SYS_getpriority, &["1", "7"]), "ENAMETOOLONG");
    assert_ne!(call(&store, &own, libc::SYS_setpriority, &["0", "0", "5"]), "EPERM");
    let nice = ["--cap-add", "SYS_NICE", own[0], own[1]];
    assert_eq!(call(&store, &nice, libc::SYS_setpriority, &["0", "0", "5"]), "EPERM");
    // A privileged container has the filter that was asked for.
    assert_eq!(call(&store, &[&["--privileged"], &own[..]].concat(), libc::SYS_getppid, &[]), "errno-108");
    let killed = libc::SYS_sched_yield.to_string();
    let result = store.run(&["run", "--rm", own[0], own[1], IMAGE, "probe", "syscall", &killed]);
    assert_eq!(result.code, 128 + libc::SIGSYS, "{result:?}");
    let shown = store.ok(&["create", own[0], own[1], IMAGE, "true"]);
    assert!(store.inspect(&shown, "{{json .HostConfig.SecurityOpt}}").contains("SCMP_ACT_KILL_PROCESS"));
}

#[test]
fn a_profile_is_read_once_and_kept_with_the_container() {
    let store = Store::new();
    let file = store.write("profile.json", FILE);
    let number = libc::SYS_getppid.to_string();
    let option = format!("seccomp={file}");
    let id = store.ok(&["create", "--security-opt", &option, IMAGE, "probe", "syscall", &number]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(store.ok(&["start", "-a", &id]).trim(), "errno-108");
}

#[test]
fn a_strict_profile_lets_the_program_start() {
    let store = Store::new();
    // All that a static program needs, and what comes between the filter and the program.
    let strict = r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": [
        "execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlinkat",
        "readlink", "getrandom", "mprotect", "mmap", "munmap", "write", "writev", "exit", "exit_group", "getuid",
        "setuid", "setgid", "prctl", "fstat", "newfstatat", "sigaltstack", "rt_sigaction", "rt_sigprocmask", "poll",
        "ioctl", "sched_getaffinity", "gettid", "getpid", "futex", "uname"]}]}"#;
    let option = format!("seccomp={}", store.write("strict.json", strict));
    let flags = ["--security-opt", "no-new-privileges", "--security-opt", option.as_str()];
    assert_eq!(store.ok(&[&["run", "--rm"], &flags[..], &[IMAGE, "echo", "alive"]].concat()).trim(), "alive");
    let result = store.run(&[&["run", "--rm"], &flags[..], &[IMAGE, "mkdir", "/x"]].concat());
    assert_eq!(result.code, 128 + libc::SIGSYS, "{result:?}");
}

#[test]
fn a_bad_profile_is_refused_before_anything_is_made() {
    let store = Store::new();
    let cases = [
        (store.text("none.json"), "opening seccomp profile"),
        (store.write("text.json", "no profile"), "decoding seccomp profile"),
        (store.write("action.json", r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#), "SCMP_ACT_MAYBE"),
        (store.write("empty.json", "{}"), "defaultAction"),
        (store.write("notify.json", r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#), "cannot be used as default action"),
    ];
    for (file, wrong) in cases {
        let option = format!("seccomp={file}");
        for (command, code) in [("run", 125), ("create", 1)] {
            let error = store.fails(code, &[command, "--security-opt", &option, IMAGE, "true"]);
            assert!(error.contains(wrong), "{command}: {error}");
        }
    }
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn the_reaper_works_behind_the_filter() {
    let store = Store::new();
    let script = "grep Seccomp: /proc/1/status /proc/self/status | grep -c 2; exit 7";
    let result = store.run(&["run", "--rm", "--init", IMAGE, "sh", "-c", script]);
    assert_eq!((result.code, result.out.trim()), (7, "2"), "{result:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_calls_of_32_bit_programs_are_filtered_too() {
    let store = Store::new();
    let ask = |flags: &[&str], call: &[&str]| {
        store.run(&[&["run", "--rm"], flags, &[IMAGE, "probe", "syscall32"], call].concat())
    };
    let free = ["--security-opt", "seccomp=unconfined"];
    // Numbers of i386: getpid, unshare(CLONE_NEWUSER), keyctl, io_uring_setup, and one that only it has: vm86old.
    let (getpid, unshare) = (&["20"][..], &["310", "0x10000000"][..]);
    if ask(&free, getpid).code != 0 {
        // A kernel without these calls: nothing to be filtered.
        return;
    }
    assert_eq!(ask(&[], getpid).out.trim(), "1");
    assert_eq!(ask(&free, unshare).out.trim(), "0");
    for call in [unshare, &["288", "0"], &["425", "0"], &["113", "0"]] {
        assert_eq!(ask(&[], call).out.trim(), "EPERM", "{call:?}");
    }
    // A profile for other ABIs alone kills.
    let only = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let option = format!("seccomp={}", store.write("only.json", only));
    assert_eq!(ask(&["--security-opt", &option], getpid).code, 128 + libc::SIGSYS);
}
