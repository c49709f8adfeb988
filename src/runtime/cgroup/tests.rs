//! Real cgroups on the kernel that runs the tests; they need root.

use super::*;
use crate::sys::poll::{Interest, wait};
use oci_spec::runtime::LinuxResources;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup that is gone with the test.
struct Owned(Cgroup);

impl Owned {
    fn new(which: Hierarchies) -> Owned {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("/minirun-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Owned(Cgroup::in_hierarchies(Path::new(&name), which).unwrap())
    }

    fn with(limits: &str) -> Owned {
        let owned = Owned::new(Hierarchies::All);
        owned.0.create(&limits_of(limits)).unwrap();
        owned
    }

    fn file(&self, v1: (&str, &str), v2: &str) -> Option<String> {
        let (dir, file) = match self.0.version {
            Version::V2 => (self.0.unified().unwrap().dir.clone(), v2),
            _ => (self.0.controller(v1.0).ok()?.to_owned(), v1.1),
        };
        Some(files::read(&dir, file).unwrap_or_else(|e| panic!("read {file} in {}: {e}", dir.display())))
    }

    fn is_v2(&self) -> bool {
        self.0.version == Version::V2
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let removed = self.0.remove();
        let left: Vec<PathBuf> = self.0.members.iter().map(|m| m.dir.clone()).filter(|d| d.exists()).collect();
        if !std::thread::panicking() {
            removed.unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn limits_of(resources: &str) -> Limits {
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    Limits::from_spec(&resources).unwrap()
}

/// A child that was moved into the cgroup.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn in_dirs(dirs: &[PathBuf], script: &str) -> Sleeper {
        let mut command = Command::new("sh");
        let joins: String =
            dirs.iter().map(|d| format!("echo 0 > {}/cgroup.procs || exit 99; ", d.display())).collect();
        command.args(["-c", &format!("{joins}echo in; {script}")]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Sleeper(child)
    }

    fn new(cgroup: &Cgroup) -> Sleeper {
        Sleeper::in_dirs(&cgroup.directories().into_iter().map(|(_, dir)| dir).collect::<Vec<_>>(), "exec sleep 1000")
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn limits_are_set_and_changed() {
    let owned = Owned::with(
        r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":33554432},
            "cpu":{"shares":1024,"quota":50000,"period":100000,"burst":10000,"cpus":"0","mems":"0"},
            "pids":{"limit":20}}"#,
    );
    let of = |v1, v2| owned.file(v1, v2).unwrap();
    let memory = || {
        let swap = if owned.is_v2() { ("", "memory.swap.max") } else { ("memory.memsw.limit_in_bytes", "") };
        let swap = owned.file(("memory", swap.0), swap.1).unwrap();
        (of(("memory", "memory.limit_in_bytes"), "memory.max"), swap)
    };
    let mb = |n: u64| (n << 20).to_string();
    let swap = |total: u64, limit: u64| mb(if owned.is_v2() { total - limit } else { total });
    assert_eq!(memory(), (mb(64), swap(128, 64)));
    assert_eq!(of(("memory", "memory.soft_limit_in_bytes"), "memory.low"), mb(32));
    assert_eq!(of(("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    assert_eq!(of(("pids", "pids.max"), "pids.max"), "20");
    assert_eq!(of(("cpu", "cpu.cfs_burst_us"), "cpu.max.burst"), "10000");
    assert_eq!(of(("cpu", "cpu.shares"), "cpu.weight"), if owned.is_v2() { "39" } else { "1024" });

    // Both at once above what memory and swap were, then below what memory was.
    for (limit, total) in [(256u64, 512u64), (32, 48)] {
        let (l, t) = (limit << 20, total << 20);
        owned.0.update(&limits_of(&format!(r#"{{"memory":{{"limit":{l},"swap":{t}}}}}"#))).unwrap();
        assert_eq!(memory(), (mb(limit), swap(total, limit)));
    }
    assert_eq!(of(("pids", "pids.max"), "pids.max"), "20", "an update changed what it does not name");
    owned.0.update(&limits_of(r#"{"memory":{"limit":-1},"pids":{"limit":-1}}"#)).unwrap();
    assert_eq!(of(("pids", "pids.max"), "pids.max"), "max");
    if owned.is_v2() {
        assert_eq!(memory(), ("max".into(), "max".into()));
    } else {
        assert!(memory().0.parse::<u64>().unwrap() > 1 << 60 && memory().1.parse::<u64>().unwrap() > 1 << 60);
    }
}

#[test]
fn one_of_quota_and_period_leaves_the_other_alone() {
    let owned = Owned::with(r#"{"cpu":{"quota":50000,"period":100000}}"#);
    let max = || match owned.is_v2() {
        true => owned.file(("", ""), "cpu.max").unwrap(),
        false => {
            let of = |file| owned.file(("cpu", file), "").unwrap();
            format!("{} {}", of("cpu.cfs_quota_us"), of("cpu.cfs_period_us"))
        }
    };
    assert_eq!(max(), "50000 100000");
    owned.0.update(&limits_of(r#"{"cpu":{"quota":20000}}"#)).unwrap();
    assert_eq!(max(), "20000 100000");
    owned.0.update(&limits_of(r#"{"cpu":{"period":50000}}"#)).unwrap();
    assert_eq!(max(), "20000 50000");
    // Together: a burst above the old quota.
    owned.0.update(&limits_of(r#"{"cpu":{"quota":90000,"burst":80000}}"#)).unwrap();
    assert_eq!(max(), "90000 50000");
    owned.0.update(&limits_of(r#"{"cpu":{"quota":-1,"burst":0}}"#)).unwrap();
    assert_eq!(max(), if owned.is_v2() { "max 50000" } else { "-1 50000" });
}

#[test]
fn a_period_that_the_parent_forbids_with_the_old_quota_is_set_after_it() {
    let pod = Owned::with(r#"{"cpu":{"quota":50000,"period":100000}}"#);
    let name = pod.0.to_string();
    let inner = Cgroup::in_hierarchies(&Path::new(&name).join("inner"), Hierarchies::All).unwrap();
    inner.create(&limits_of(r#"{"cpu":{"quota":40000,"period":100000}}"#)).unwrap();
    inner.update(&limits_of(r#"{"cpu":{"quota":20000,"period":50000}}"#)).unwrap();
    inner.remove().unwrap();
}

#[test]
fn block_devices_are_limited() {
    // Any disk will do; the partition of one is refused.
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let disk = disks.map(|e| e.path()).find(|p| p.join("device").exists()).expect("a disk");
    let number = std::fs::read_to_string(disk.join("dev")).unwrap();
    let (major, minor) = number.trim().split_once(':').unwrap();
    let device = format!(r#"{{"major":{major},"minor":{minor},"rate":1048576}}"#);
    let owned = Owned::with(&format!(
        r#"{{"blockIO":{{"throttleReadBpsDevice":[{device}],"throttleWriteIOPSDevice":[{device}]}}}}"#
    ));
    let of = |file| owned.file(("blkio", file), "io.max").unwrap();
    if owned.is_v2() {
        assert_eq!(of(""), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=1048576"));
    } else {
        assert_eq!(of("blkio.throttle.read_bps_device"), format!("{major}:{minor} 1048576"));
        assert_eq!(of("blkio.throttle.write_iops_device"), format!("{major}:{minor} 1048576"));
    }
    let weighted = ["blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight"];
    let dir = owned.0.controller("blkio").unwrap().to_owned();
    let result = owned.0.update(&limits_of(r#"{"blockIO":{"weight":500}}"#));
    match weighted.iter().find(|file| dir.join(file).exists()) {
        Some(file) => {
            result.unwrap();
            assert!(files::read(&dir, file).unwrap().contains(if *file == "io.weight" { "4950" } else { "500" }));
        }
        None => assert!(format!("{:#}", result.unwrap_err()).contains("weight")),
    }
}

#[test]
fn a_failure_names_file_and_value() {
    let owned = Owned::with("{}");
    let error = format!("{:#}", owned.0.update(&limits_of(r#"{"cpu":{"cpus":"4000"}}"#)).unwrap_err());
    assert!(error.contains("write \"4000\" to /") && error.contains("/cpuset.cpus"), "{error}");
}

#[test]
fn a_limit_of_the_other_version_is_refused() {
    let owned = Owned::new(Hierarchies::All);
    let refused = |resources| format!("{:#}", owned.0.create(&limits_of(resources)).unwrap_err());
    if owned.is_v2() {
        assert!(
            refused(r#"{"memory":{"swappiness":60}}"#).contains("memory.swappiness is not available with cgroup v2")
        );
        assert!(refused(r#"{"network":{"classID":1}}"#).contains("network.classID is not available"));
        assert!(refused(r#"{"memory":{"swap":1048576}}"#).contains("unable to set swap limit without memory limit"));
        let unified = refused(r#"{"unified":{"nothing.max":"1"}}"#);
        assert!(unified.contains(r#""nothing.max" can't be set: controller "nothing" not available"#), "{unified}");
        let unified = refused(r#"{"unified":{"memory.max":"much"}}"#);
        assert!(unified.contains(r#"unable to set unified resource "memory.max""#), "{unified}");
    } else {
        assert!(refused(r#"{"unified":{"memory.max":"1"}}"#).contains("cannot use unified on cgroup v1"));
        assert!(refused(r#"{"rdma":{"mlx":{"hcaHandles":1}}}"#).contains("no rdma controller"));
        assert!(refused(r#"{"cpu":{"shares":1}}"#).contains("the minimum allowed cpu-shares is 2"));
    }
    assert!(!owned.0.exists(), "a failed creation left something");
}

#[test]
fn files_of_version_2_are_written_as_they_are_asked_for() {
    let owned = Owned::new(Hierarchies::Needed);
    if !owned.is_v2() {
        return;
    }
    owned.0.create(&limits_of(r#"{"unified":{"memory.high":"33554432","cpuset.cpus":"0","pids.max":"7"}}"#)).unwrap();
    assert_eq!(owned.file(("", ""), "memory.high").unwrap(), "33554432");
    assert_eq!(owned.file(("", ""), "cpuset.cpus").unwrap(), "0");
    assert_eq!(owned.0.stats().unwrap().pids.limit, 7);
}

#[test]
fn a_limit_below_what_is_used_can_be_refused() {
    let owned = Owned::with("{}");
    let dirs: Vec<PathBuf> = owned.0.directories().into_iter().map(|(_, dir)| dir).collect();
    let eater = Sleeper::in_dirs(&dirs, "x=$(head -c 8000000 /dev/zero | tr '\\0' x); sleep 1000");
    let used = || owned.0.stats().unwrap().memory.usage.usage > 8_000_000;
    eventually("memory to be used", used);
    let error = owned.0.update(&limits_of(r#"{"memory":{"limit":4194304,"checkBeforeUpdate":true}}"#)).unwrap_err();
    assert!(format!("{error:#}").contains("rejecting memory limit 4194304 < usage"), "{error:#}");
    drop(eater);
}

#[test]
fn a_cgroup_in_use_is_not_taken() {
    let owned = Owned::with("{}");
    let first = Sleeper::new(&owned.0);
    let second = Sleeper::new(&owned.0);
    let error = owned.0.create(&Limits::default()).unwrap_err().to_string();
    assert_eq!(error, "container's cgroup is not empty: 2 process(es) found");
    owned.0.create_or_share(&Limits::default()).unwrap();
    drop((first, second));
    owned.0.create(&Limits::default()).unwrap();
    owned.0.freeze(true).unwrap();
    let error = owned.0.create(&Limits::default()).unwrap_err().to_string();
    assert_eq!(error, "container's cgroup unexpectedly frozen");
    owned.0.freeze(false).unwrap();
}

#[test]
fn a_child_enters_every_hierarchy_of_its_cgroup() {
    let owned = Owned::new(Hierarchies::All);
    owned.0.create(&Limits::default()).unwrap();
    let sleeper = Sleeper::new(&owned.0);
    let seen = Cgroup::from_pid(sleeper.pid(), Hierarchies::All).unwrap();
    assert_eq!(seen.paths(), owned.0.paths());
    assert_eq!(Cgroup::from_paths(&owned.0.paths()).processes().unwrap(), [sleeper.pid()]);
    let names: Vec<String> = owned.0.paths().into_keys().collect();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for line in own.lines() {
        let name = line.split(':').nth(1).unwrap().split(',').next().unwrap();
        assert!(name.starts_with("name=") || names.iter().any(|n| n == name) || owned.is_v2(), "{name} in {names:?}");
    }
}

#[test]
fn the_way_in_leads_into_all_of_them() {
    let owned = Owned::new(Hierarchies::All);
    let entrance = owned.0.create(&Limits::default()).unwrap();
    assert_eq!(entrance.clone_into().is_some(), owned.0.version != Version::V1);
    let tasks = owned.0.paths().values().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(entrance.tasks.len() + usize::from(entrance.into.is_some()), tasks);
    // A shell has one thread, as the child that is to enter.
    let ours = |fd: BorrowedFd<'_>| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()));
    let writes = entrance.tasks.iter().map(|file| format!("echo 0 > {} && ", ours(file.as_fd()).display()));
    let sleeper = Sleeper::in_dirs(&[], &format!("{} exec sleep 1000", writes.collect::<String>()));
    let entered = || std::fs::read_to_string(format!("/proc/{}/comm", sleeper.pid())).unwrap() == "sleep\n";
    eventually("a shell to enter", entered);
    let mut expected = owned.0.paths();
    let mut seen = Cgroup::from_pid(sleeper.pid(), Hierarchies::All).unwrap().paths();
    let (into, _) = (expected.remove(UNIFIED), seen.remove(UNIFIED));
    assert_eq!(seen, expected);
    assert_eq!(entrance.clone_into().map(|fd| std::fs::read_link(ours(fd)).unwrap()), into);
}

#[test]
fn processes_below_are_found_signalled_killed_and_removed() {
    let owned = Owned::with("{}");
    let below: Vec<PathBuf> = owned.0.directories().into_iter().map(|(_, dir)| dir.join("below/deeper")).collect();
    below.iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
    // Version 1 cpusets of the container's own making have to be filled first.
    let joined: Vec<PathBuf> = below.iter().filter(|dir| !dir.join("cpuset.cpu_exclusive").exists()).cloned().collect();
    let mut inner = Sleeper::in_dirs(&joined, "trap 'exit 7' USR1; while :; do sleep 0.01; done");
    let outer = Sleeper::new(&owned.0);
    let found = owned.0.processes().unwrap();
    assert!(found.contains(&inner.pid()) && found.contains(&outer.pid()), "{found:?}");
    owned.0.signal_all(libc::SIGUSR1).unwrap();
    assert_eq!(inner.0.wait().unwrap().code(), Some(7));
    let more = Sleeper::in_dirs(&joined, "while :; do sleep 0.01 & done");
    let waiter = std::thread::spawn(move || drop((more, outer, std::thread::sleep(Duration::from_millis(300)))));
    owned.0.freeze(true).unwrap();
    owned.0.kill_all().unwrap();
    assert_eq!(owned.0.processes().unwrap(), [0; 0]);
    owned.0.remove().unwrap();
    owned.0.remove().unwrap();
    assert!(!owned.0.exists());
    waiter.join().unwrap();
}

#[test]
fn frozen_is_what_it_is_itself() {
    let owned = Owned::with("{}");
    let inner = Cgroup::in_hierarchies(&Path::new(&owned.0.to_string()).join("inner"), Hierarchies::All).unwrap();
    inner.create(&Limits::default()).unwrap();
    let sleeper = Sleeper::new(&inner);
    owned.0.freeze(true).unwrap();
    assert!(owned.0.is_frozen() && !inner.is_frozen());
    inner.freeze(false).unwrap();
    owned.0.freeze(false).unwrap();
    inner.freeze(true).unwrap();
    inner.freeze(true).unwrap();
    assert!(!owned.0.is_frozen() && inner.is_frozen());
    inner.signal_all(libc::SIGTERM).unwrap();
    assert!(inner.is_frozen(), "a signal woke what was paused");
    inner.signal_all(libc::SIGKILL).unwrap();
    drop(sleeper);
    inner.remove().unwrap();
}

#[test]
fn use_is_told() {
    let owned = Owned::with(r#"{"memory":{"limit":67108864},"pids":{"limit":20}}"#);
    let dirs: Vec<PathBuf> = owned.0.directories().into_iter().map(|(_, dir)| dir).collect();
    let _busy = Sleeper::in_dirs(&dirs, "while :; do :; done");
    eventually("time to be used", || owned.0.stats().unwrap().cpu.usage.total > 20_000_000);
    eventually("user time to be counted", || {
        let usage = owned.0.stats().unwrap().cpu.usage;
        usage.user + usage.kernel > 0
    });
    let stats = owned.0.stats().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 20));
    assert_eq!(stats.memory.usage.limit, 64 << 20);
    assert!(stats.memory.usage.usage > 0 && stats.memory.raw.len() > 10);
    if owned.is_v2() {
        assert!(stats.memory.raw.contains_key("anon"));
    } else {
        assert!(stats.cpu.usage.percpu.iter().sum::<u64>() > 0);
        assert_eq!(stats.cpuset.mems, [0]);
        assert!(!stats.cpuset.cpus.is_empty());
    }
    owned.0.remove().unwrap_err();
    assert!(Owned::new(Hierarchies::All).0.stats().is_ok_and(|s| s.pids.current == 0) || owned.is_v2());
}

#[test]
fn running_out_of_memory_is_told() {
    let owned = Owned::with(r#"{"memory":{"limit":8388608,"swap":8388608}}"#);
    let mut watch = owned.0.oom_watch().unwrap();
    let quiet = Interest { fd: watch.as_fd(), read: true, write: false };
    assert!(!wait(&[quiet], Some(Duration::ZERO)).unwrap()[0].read);
    let dirs: Vec<PathBuf> = owned.0.directories().into_iter().map(|(_, dir)| dir).collect();
    let mut eater = Sleeper::in_dirs(&dirs, "exec dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null");
    let mut news = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !news.contains(&MemoryEvent::OutOfMemory) {
        assert!(Instant::now() < deadline, "no news");
        wait(&[Interest { fd: watch.as_fd(), read: true, write: false }], Some(Duration::from_secs(1))).unwrap();
        news.extend(watch.news().unwrap());
    }
    eater.0.wait().unwrap();
    eventually("the kill to be counted", || owned.0.oom_kills() == 1);
    owned.0.remove().unwrap();
    while !news.contains(&MemoryEvent::Ended) {
        assert!(Instant::now() < deadline, "the end is not told: {news:?}");
        wait(&[Interest { fd: watch.as_fd(), read: true, write: false }], Some(Duration::from_secs(1))).unwrap();
        news.extend(watch.news().unwrap());
    }
}

/// A device that no container has by default.
fn foreign_device() -> (&'static str, String) {
    use std::os::unix::fs::MetadataExt;
    let candidates = ["/dev/kmsg", "/dev/loop-control", "/dev/fuse", "/dev/rtc0", "/dev/snapshot"];
    let usable = candidates.into_iter().find(|path| File::open(path).is_ok()).expect("a device");
    let number = std::fs::metadata(usable).unwrap().rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    (usable, format!(r#"{{"allow":true,"type":"c","major":{major},"minor":{minor},"access":"r"}}"#))
}

/// Whether a process in the cgroup can read a device.
fn reads(cgroup: &Cgroup, device: &str) -> bool {
    let dirs: Vec<PathBuf> = cgroup.directories().into_iter().map(|(_, dir)| dir).collect();
    let mut child = Sleeper::in_dirs(&dirs, &format!("exec 2>/dev/null; exec <{device}"));
    child.0.wait().unwrap().success()
}

#[test]
fn device_rules_are_set_replaced_and_left_alone() {
    let owned = Owned::new(Hierarchies::All);
    let (foreign, allow) = foreign_device();
    let rules = |allowed: bool| {
        let deny = r#"{"allow":false,"access":"rwm"}"#;
        let list = if allowed { format!("{deny},{allow}") } else { deny.into() };
        limits_of(&format!(r#"{{"devices":[{list}]}}"#))
    };
    owned.0.create(&rules(false)).unwrap();
    assert!(reads(&owned.0, "/dev/zero") && !reads(&owned.0, foreign));
    owned.0.update(&limits_of(r#"{"pids":{"limit":100}}"#)).unwrap();
    assert!(reads(&owned.0, "/dev/zero") && !reads(&owned.0, foreign));
    for allowed in [true, false, true] {
        owned.0.update(&rules(allowed)).unwrap();
        assert!(reads(&owned.0, "/dev/zero"));
        assert_eq!(reads(&owned.0, foreign), allowed);
    }
    if owned.is_v2() {
        let dir = File::open(&owned.0.unified().unwrap().dir).unwrap();
        assert_eq!(crate::sys::bpf::count_device_rules(&dir).unwrap(), 1);
        // Somebody else's on top, then an update.
        crate::sys::bpf::attach_device_rules(&dir, &[]).unwrap();
        assert!(!reads(&owned.0, "/dev/zero"));
        owned.0.update(&rules(true)).unwrap();
        assert!(reads(&owned.0, "/dev/zero") && reads(&owned.0, foreign));
        assert_eq!(crate::sys::bpf::count_device_rules(&dir).unwrap(), 1);
    }
}

#[test]
fn a_relative_path_is_below_the_own_cgroup() {
    let cgroup = Cgroup::in_hierarchies(Path::new("../minirun-test-relative"), Hierarchies::All).unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for (name, dir) in cgroup.paths() {
        let above = host::membership(&own, &name).unwrap();
        let parent = if name.is_empty() { above.parent().unwrap_or(&above).to_owned() } else { above };
        assert!(dir.ends_with(host::clean(&parent).join("minirun-test-relative")), "{name}: {}", dir.display());
    }
    for nowhere in ["", "/", "..", "/a/.."] {
        assert!(Cgroup::at(Path::new(nowhere)).is_err(), "{nowhere:?}");
    }
    let outside = Cgroup::at(Path::new("/../../etc")).unwrap();
    assert!(outside.paths().values().all(|dir| dir.starts_with(MOUNT)));
}

#[test]
fn what_is_not_permitted_says_what_to_do() {
    let explained = |code| format!("{:#}", explain(io::Error::from_raw_os_error(code)));
    assert!(explained(libc::EROFS).contains("mounted read-only") && explained(libc::EROFS).contains("Read-only"));
    assert!(explained(libc::EACCES).contains("delegated"));
    assert!(!explained(libc::EINVAL).contains("root"));
}
