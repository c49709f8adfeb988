//! The yardstick of the start-up benchmark: the bare system calls of
//! `run --rm --network none IMAGE true`, with no engine around them.
//!
//! ```text
//! floor LOWERDIR WORKDIR [N]   N runs of LOWERDIR's /bin/true; microseconds of each
//! floor bundle ROOTFS WORKDIR  the same for a runtime on a bundle: no overlay, but every cgroup hierarchy there is
//! floor exec PID               a further process, /bin/true, in the container of a runtime whose first process PID is
//! floor peak COMMAND [ARG..]   the most memory that the command, or any child that it waited for, had; kB
//! floor time COMMAND [ARG..]   one run of a command, its output dropped; microseconds
//! ```
//!
//! Each run makes the cgroups with device rules, all namespaces, a volatile
//! overlay, /proc, /sys with the container's cgroups, /dev, masked and read-only
//! paths, a new root, loopback, a host name, a filter of system calls of the usual
//! size, Docker's default capabilities, and removes what it made; without `bundle`
//! also the three files about names and the two settings of the network that each
//! container of Docker's has. It leaves out what is an engine's own work: an image,
//! a record, a log, making the filter.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![no_main]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::ptr::null;
use std::time::Instant;

const V1: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "devices", "freezer"];
/// Those that a runtime joins beside them.
const OTHER_CONTROLLERS: [&str; 4] = ["cpuset", "cpuacct", "blkio", "systemd"];
const DEVICE_RULES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];
const NODES: [(&str, u32, u32); 6] = [
    ("dev/null", 1, 3),
    ("dev/zero", 1, 5),
    ("dev/full", 1, 7),
    ("dev/random", 1, 8),
    ("dev/urandom", 1, 9),
    ("dev/tty", 5, 0),
];
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("pts/ptmx", "dev/ptmx"),
    ("/proc/kcore", "dev/core"),
];
const MASKED: [&str; 12] = [
    "proc/asound",
    "proc/acpi",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];
/// libc's constant of this name overflowed its type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// Files about names that are mounted over the image's, and settings of the container's network.
const NAMES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
const SETTINGS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];
/// Docker's fourteen default capabilities, as a bit set.
const CAPS: u64 = 0xa804_25fb;

/// As minirun begins: what Rust does before its own `main` is none of the bare calls.
#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["time", program, ref rest @ ..] => time(program, rest),
        ["peak", program, ref rest @ ..] => peak(program, rest),
        ["exec", pid] => exec(pid),
        ["bundle", rootfs, work] => repeat(rootfs, work, 1, true),
        [lower, work] => repeat(lower, work, 1, false),
        [lower, work, n] => repeat(lower, work, n.parse().unwrap_or(1), false),
        // `cargo bench` names no directory: nothing to measure there.
        _ => eprintln!("usage: floor [bundle] LOWERDIR WORKDIR [N] | floor exec PID | floor time|peak COMMAND [ARG..]"),
    }
    0
}

fn time(program: &str, args: &[&str]) {
    let started = Instant::now();
    let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let micros = started.elapsed().as_micros();
    match status {
        Ok(status) if status.success() => println!("{micros}"),
        Ok(status) => die(&format!("{program}: {status}")),
        Err(e) => die(&format!("{program}: {e}")),
    }
}

fn peak(program: &str, args: &[&str]) {
    // A container that goes on must not hold our output open.
    let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    if !status.is_ok_and(|s| s.success()) {
        die(&format!("{program} failed"));
    }
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    check("getrusage", unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) } as i64);
    println!("{}", usage.ru_maxrss);
}

fn repeat(lower: &str, work: &str, n: usize, bundle: bool) {
    let stubs = Path::new(work).join("floor-stubs");
    for name in NAMES.iter().filter(|_| !bundle) {
        let stub = stubs.join(name);
        let made = fs::create_dir_all(stubs.join("etc")).and_then(|()| fs::write(&stub, ""));
        made.unwrap_or_else(|e| die(&format!("{}: {e}", stub.display())));
    }
    for i in 0..n {
        let name = format!("floor-{}-{i}", std::process::id());
        let started = Instant::now();
        let dir = Path::new(work).join(&name);
        run(Path::new(lower), &stubs, &dir, &name, bundle);
        println!("{}", started.elapsed().as_micros());
    }
}

fn run(lower: &Path, stubs: &Path, dir: &Path, name: &str, bundle: bool) {
    let parts: &[&str] = if bundle { &[""] } else { &["", "upper", "work", "root", "etc"] };
    for part in parts {
        fs::create_dir(dir.join(part)).unwrap_or_else(|e| die(&format!("{}: {e}", dir.display())));
    }
    for name in NAMES.iter().filter(|_| !bundle) {
        fs::write(dir.join(name), "127.0.0.1\tlocalhost\n").unwrap_or_else(|e| die(&format!("{name}: {e}")));
    }
    let groups = make_cgroups(name, bundle);
    let overlay = (!bundle).then(|| {
        c(&format!(
            "volatile,lowerdir={}:{},upperdir={},workdir={}",
            lower.display(),
            stubs.display(),
            dir.join("upper").display(),
            dir.join("work").display()
        ))
    });
    let root = if bundle { lower.to_owned() } else { dir.join("root") };
    let root = CString::new(root.into_os_string().into_encoded_bytes()).expect("path");
    let into = groups.unified.as_ref().map(|group| fs::File::open(group).expect("open the cgroup"));

    let (pid, pidfd) = clone_all(into.as_ref().map(AsRawFd::as_raw_fd));
    if pid == 0 {
        child(&groups, overlay.as_ref(), dir, &root);
    }
    wait(pidfd);

    for group in groups.v1.iter().chain(&groups.unified) {
        remove_group(group);
    }
    fs::remove_dir_all(dir).unwrap_or_else(|e| die(&format!("remove {}: {e}", dir.display())));
}

/// A further process in a container: its cgroups, its namespaces, and what confines it.
fn exec(pid: &str) {
    let number: libc::pid_t = pid.parse().unwrap_or_else(|_| die("exec takes the number of a process"));
    let started = Instant::now();
    let target = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    check("pidfd_open", target);
    let groups = groups_of(pid);
    let into = groups.unified.as_ref().map(|group| fs::File::open(group).expect("open the cgroup"));
    let enter = |kinds| check("setns", unsafe { libc::setns(target as c_int, kinds) } as i64);
    enter(libc::CLONE_NEWPID);
    let (child, pidfd) = clone_into(0, into.as_ref().map(AsRawFd::as_raw_fd));
    if child == 0 {
        for group in &groups.v1 {
            fs::write(group.join("tasks"), "0").expect("join a cgroup");
        }
        check("setsid", unsafe { libc::setsid() } as i64);
        enter(libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP);
        become_true();
    }
    wait(pidfd);
    println!("{}", started.elapsed().as_micros());
}

fn groups_of(pid: &str) -> Groups {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_else(|e| die(&format!("{pid}: {e}")));
    let mut groups = Groups { v1: Vec::new(), unified: None };
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (name, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
        let below = path.trim_start_matches('/');
        match name.trim_start_matches("name=") {
            "" => {
                groups.unified = [V1, "/sys/fs/cgroup/unified"]
                    .map(|top| Path::new(top).join(below))
                    .into_iter()
                    .find(|d| d.join("cgroup.procs").exists())
            }
            name => groups.v1.extend(Some(Path::new(V1).join(name).join(below)).filter(|d| d.join("tasks").exists())),
        }
    }
    groups
}

/// A directory in each hierarchy that is joined.
struct Groups {
    v1: Vec<PathBuf>,
    unified: Option<PathBuf>,
}

// ---- the parent's part

fn make_cgroups(name: &str, all: bool) -> Groups {
    let top = Path::new(V1);
    let groups = if top.join("cgroup.controllers").exists() {
        Groups { v1: Vec::new(), unified: Some(top.join(name)) }
    } else {
        let controllers = CONTROLLERS.iter().chain(OTHER_CONTROLLERS.iter().filter(|_| all)).map(|c| top.join(c));
        let unified = Some(top.join("unified")).filter(|u| all && u.exists());
        Groups {
            v1: controllers.filter(|c| c.exists()).map(|c| c.join(name)).collect(),
            unified: unified.map(|u| u.join(name)),
        }
    };
    for group in groups.v1.iter().chain(&groups.unified) {
        fs::create_dir(group).unwrap_or_else(|e| die(&format!("{}: {e}", group.display())));
        if group.parent().is_some_and(|p| p.ends_with("cpuset")) {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = fs::read(top.join("cpuset").join(file)).expect("read the cpuset above");
                fs::write(group.join(file), above).expect("set the cpuset");
            }
        }
    }
    if let Some(devices) = groups.v1.get(3) {
        fs::write(devices.join("devices.deny"), "a").expect("deny devices");
        for rule in DEVICE_RULES {
            fs::write(devices.join("devices.allow"), rule).expect("allow a device");
        }
    }
    groups
}

/// The last task may still be leaving its groups when it can be waited for.
fn remove_group(group: &Path) {
    for _ in 0..1000 {
        match fs::remove_dir(group) {
            Ok(()) => return,
            Err(e) if e.kind() == ErrorKind::ResourceBusy => std::thread::yield_now(),
            Err(e) => die(&format!("{}: {e}", group.display())),
        }
    }
    die(&format!("{}: stays busy", group.display()));
}

fn clone_all(cgroup: Option<c_int>) -> (i64, c_int) {
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;
    clone_into(namespaces, cgroup)
}

fn clone_into(namespaces: c_int, cgroup: Option<c_int>) -> (i64, c_int) {
    let mut pidfd: c_int = -1;
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd as u64;
    }
    let size = size_of::<libc::clone_args>();
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    check("clone3", pid);
    (pid, pidfd)
}

fn wait(pidfd: c_int) {
    let mut poll = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    check("poll", unsafe { libc::poll(&mut poll, 1, -1) } as i64);
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let waited = unsafe { libc::waitid(libc::P_PIDFD, pidfd as u32, &mut info, libc::WEXITED) };
    check("waitid", waited as i64);
    unsafe { libc::close(pidfd) };
    if unsafe { info.si_status() } != 0 {
        die("the contained program failed");
    }
}

// ---- the child's part

fn child(groups: &Groups, overlay: Option<&CString>, dir: &Path, root: &CString) -> ! {
    unsafe {
        for group in &groups.v1 {
            fs::write(group.join("tasks"), "0").expect("join a cgroup");
        }
        // Only now, so that the namespace's root is the container's group.
        check("unshare", libc::unshare(libc::CLONE_NEWCGROUP) as i64);
        check("setsid", libc::setsid() as i64);
        check("sethostname", libc::sethostname(c"floor".as_ptr(), 5) as i64);
        loopback_up();

        mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE, "");
        let (kind, flags, data) = match overlay {
            Some(options) => (c"overlay".as_ptr(), 0, options.as_ptr().cast::<c_void>()),
            None => (null(), libc::MS_BIND | libc::MS_REC, null()),
        };
        check("mount the root", libc::mount(root.as_ptr(), root.as_ptr(), kind, flags, data) as i64);
        check("chdir", libc::chdir(root.as_ptr()) as i64);
        file_systems();
        cgroup_view(groups);
        if overlay.is_some() {
            for name in NAMES {
                let source = dir.join(name);
                mount(source.to_str().expect("a path that is text"), name, "", libc::MS_BIND, "");
            }
            for (setting, value) in SETTINGS {
                fs::write(Path::new("proc/sys").join(setting), value).expect("set a kernel setting");
            }
        }
        masks();

        let here = c".".as_ptr();
        check("pivot_root", libc::syscall(libc::SYS_pivot_root, here, here));
        check("umount", libc::umount2(here, libc::MNT_DETACH) as i64);
        check("chdir", libc::chdir(c"/".as_ptr()) as i64);
    }
    become_true()
}

fn become_true() -> ! {
    filter();
    capabilities();
    unsafe {
        check("close_range", libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0));
        let arg = [c"true".as_ptr(), null()];
        let env = [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), null()];
        check("execve", libc::execve(c"/bin/true".as_ptr(), arg.as_ptr(), env.as_ptr()) as i64);
    }
    unreachable!("execve returned")
}

fn file_systems() {
    let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount("proc", "proc", "proc", quiet, "");
    mount("sysfs", "sys", "sysfs", quiet | libc::MS_RDONLY, "");
    mount("tmpfs", "dev", "tmpfs", libc::MS_NOSUID | libc::MS_STRICTATIME, "mode=755,size=65536k");
    for dir in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        check("mkdir", unsafe { libc::mkdir(dir.as_ptr(), 0o755) } as i64);
    }
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "dev/pts", "devpts", libc::MS_NOSUID | libc::MS_NOEXEC, pts);
    mount("shm", "dev/shm", "tmpfs", quiet, "mode=1777,size=65536k");
    mount("mqueue", "dev/mqueue", "mqueue", quiet, "");
    unsafe { libc::umask(0) };
    for (path, major, minor) in NODES {
        let device = libc::makedev(major, minor);
        let made = unsafe { libc::mknod(c(path).as_ptr(), libc::S_IFCHR | 0o666, device) };
        check(path, made as i64);
    }
    for (target, path) in LINKS {
        check(path, unsafe { libc::symlink(c(target).as_ptr(), c(path).as_ptr()) } as i64);
    }
    unsafe { libc::umask(0o022) };
}

/// On version 2 those of the namespace, on version 1 a small directory with one of each hierarchy.
fn cgroup_view(groups: &Groups) {
    const VIEW: &str = "sys/fs/cgroup";
    let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    if groups.v1.is_empty() {
        return mount("cgroup", VIEW, "cgroup2", quiet | libc::MS_RDONLY, "");
    }
    mount("cgroup", VIEW, "tmpfs", quiet, "mode=755,size=64k");
    for group in groups.v1.iter().chain(&groups.unified) {
        let place = Path::new(VIEW).join(group.parent().and_then(Path::file_name).expect("a hierarchy"));
        fs::create_dir(&place).expect("make the place of a hierarchy");
        let (group, place) = (group.to_str().expect("a path"), place.to_str().expect("a path"));
        mount(group, place, "", libc::MS_BIND, "");
    }
    let read_only: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    let (path, size) = (c(VIEW), size_of_val(&read_only));
    let set = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), libc::AT_RECURSIVE, &read_only, size)
    };
    check("mount_setattr", set);
}

fn masks() {
    for path in MASKED {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => mount("tmpfs", path, "tmpfs", libc::MS_RDONLY, ""),
            Ok(_) => mount("dev/null", path, "", libc::MS_BIND, ""),
            Err(_) => {}
        }
    }
    let remount = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
    let keep = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    for path in READ_ONLY {
        if Path::new(path).exists() {
            mount(path, path, "", libc::MS_BIND | libc::MS_REC, "");
            mount(path, path, "", remount | keep, "");
        }
    }
}

fn loopback_up() {
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check("socket", socket as i64);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        check("bring lo up", libc::ioctl(socket, libc::SIOCSIFFLAGS, &request) as i64);
        libc::close(socket);
    }
}

/// As many instructions as Docker's default profile comes to here with its three kinds of system calls, and as many of
/// them on the way to allowing a call.
fn filter() {
    const LENGTH: usize = 341;
    const STEPS: usize = 16;
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    program.extend((2..STEPS).map(|i| step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, i as u32)));
    program.push(step(libc::BPF_JMP | libc::BPF_JA, (LENGTH - STEPS - 1) as u32));
    while program.len() < LENGTH - 1 {
        program.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: LENGTH as u16, filter: program.as_mut_ptr() };
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
    check("seccomp", done);
}

fn capabilities() {
    unsafe {
        for cap in (0..64).filter(|cap| CAPS & (1 << cap) == 0) {
            // The first number the kernel does not know is refused.
            if libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 {
                break;
            }
        }
        let groups: [libc::gid_t; 1] = [0];
        check("setgroups", libc::syscall(libc::SYS_setgroups, 1, groups.as_ptr()));
        check("setresgid", libc::syscall(libc::SYS_setresgid, 0, 0, 0));
        check("setresuid", libc::syscall(libc::SYS_setresuid, 0, 0, 0));
        let header: [u32; 2] = [0x2008_0522, 0];
        let (low, high) = (CAPS as u32, (CAPS >> 32) as u32);
        let sets: [u32; 6] = [low, low, 0, high, high, 0];
        check("capset", libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()));
    }
}

// ---- small helpers

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) {
    let (source, place, kind, data) = (c(source), c(target), c(kind), c(data));
    let done = unsafe { libc::mount(source.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    check(&format!("mount {target}"), done as i64);
}

fn c(s: &str) -> CString {
    CString::new(s).expect("a string without NUL")
}

fn check(what: &str, result: i64) {
    if result < 0 {
        die(&format!("{what}: {}", Error::last_os_error()));
    }
}

fn die(message: &str) -> ! {
    eprintln!("floor: {message}");
    exit(1)
}
