//! `update`: of running containers and of others.

use crate::support::{IMAGE, Store, eventually, slurp};
use std::path::Path;

/// What a file of a controller says in the container's cgroup, by its names in version 1 and 2.
fn limit(store: &Store, name: &str, v1: &str, v2: &str) -> String {
    let dir = format!("minirun-{}", store.inspect(name, "{{.Id}}"));
    let base = Path::new("/sys/fs/cgroup");
    let (controller, file) = v1.split_once('/').unwrap();
    let path = match base.join("cgroup.controllers").exists() {
        true => base.join(dir).join(v2),
        false => base.join(controller).join(dir).join(file),
    };
    String::from_utf8(slurp(path)).unwrap().trim().to_owned()
}

fn memory(store: &Store, name: &str) -> String {
    limit(store, name, "memory/memory.limit_in_bytes", "memory.max")
}

#[test]
fn a_running_container_has_its_new_limits_at_once_and_after_a_restart() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "running", "-m", "20m", IMAGE, "sleep", "1000"]);
    let pid = store.inspect("running", "{{.State.Pid}}");
    let mut args = vec!["update", "-m", "32m", "--memory-reservation", "16m", "--pids-limit", "77", "--cpus", "0.5"];
    args.extend(["--cpuset-cpus", "0", "--cpu-shares", "512", "running"]);
    assert_eq!(store.ok(&args), "running");
    let check = || {
        assert_eq!(memory(&store, "running"), (32 << 20).to_string());
        assert_eq!(limit(&store, "running", "pids/pids.max", "pids.max"), "77");
        let quota = limit(&store, "running", "cpu/cpu.cfs_quota_us", "cpu.max");
        assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    };
    check();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    let fields = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpusetCpus}}";
    assert_eq!(store.inspect("running", fields), "33554432 41943040 77 500000000 0");
    store.ok(&["restart", "-t", "0", "running"]);
    check();
}

#[test]
fn its_supervisor_starts_it_again_with_the_new_limits_and_policy() {
    let store = Store::new();
    let script = "test -e /again && exec sleep 1000; touch /again; sleep 1000 & trap 'exit 1' USR1; wait";
    store.ok(&["run", "-d", "--name", "policy", "-m", "20m", IMAGE, "sh", "-c", script]);
    store.ok(&["update", "-m", "24m", "--restart", "on-failure:5", "policy"]);
    assert_eq!(store.inspect("policy", "{{.HostConfig.RestartPolicy.Name}}"), "on-failure");
    eventually("the trap", || store.run(&["exec", "policy", "pidof", "sleep"]).code == 0);
    // Not by our own `kill`, which would be the user's wish that it ends.
    // That may be taken along by it.
    store.run(&["exec", "policy", "kill", "-USR1", "1"]);
    eventually("the restart", || store.inspect("policy", "{{.State.Running}} {{.RestartCount}}") == "true 1");
    eventually("the limit", || store.inspect("policy", "{{.State.Status}}") == "running");
    assert_eq!(memory(&store, "policy"), (24 << 20).to_string());
}

#[test]
fn what_contradicts_itself_changes_nothing() {
    let store = Store::new();
    store.ok(&["create", "--name", "still", "-m", "20m", IMAGE, "sleep", "1000"]);
    store.ok(&["create", "--name", "thrown", "--rm", IMAGE, "true"]);
    let before = store.inspect("still", "{{json .HostConfig}}");
    let refused = [
        (
            &["-m", "100m", "still"][..],
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (&["--memory-swap", "10m", "still"], "Minimum memoryswap limit should be larger than memory limit"),
        (&["-m", "1m", "still"], "Minimum memory limit allowed is 6MB."),
        (&["still"], "You must provide one or more flags when using this command."),
        (&["--blkio-weight", "5", "still"], "Range of blkio weight is from 10 to 1000"),
        (&["--restart", "sometimes", "still"], "invalid restart policy"),
        (&["--restart", "always", "thrown"], "Restart policy cannot be updated because AutoRemove is enabled"),
        (&["--cpus", "0.5", "--cpu-quota", "5000", "still"], "Conflicting options"),
        (&["--kernel-memory", "1g", "still"], "--kernel-memory is not supported"),
        (&["-m", "20m", "nosuch"], "No such container: nosuch"),
    ];
    for (args, expected) in refused {
        let err = store.fails(1, &[&["update"], args].concat());
        assert!(err.contains(expected), "{args:?}: {err}");
    }
    assert_eq!(store.inspect("still", "{{json .HostConfig}}"), before);
    store.ok(&["update", "-m", "100m", "--memory-swap", "-1", "-e", "COLOUR=red", "still"]);
    assert_eq!(store.inspect("still", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"), "104857600 -1");
    store.ok(&["start", "still"]);
    assert_eq!(memory(&store, "still"), (100 << 20).to_string());
    assert_eq!(store.ok(&["exec", "still", "sh", "-c", "echo $COLOUR"]), "red");
    // What the kernel refuses does not stay in the record either.
    let err = store.fails(1, &["update", "--cpuset-cpus", "4096", "still"]);
    assert!(err.contains("Cannot update container"), "{err}");
    assert_eq!(store.inspect("still", "{{.HostConfig.CpusetCpus}}"), "");
}

#[test]
fn what_the_kernel_refuses_changes_nothing() {
    let store = Store::new();
    // Version 2 takes any limit of memory, and ends processes until it is kept.
    let refusal = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => ["--cpuset-cpus", "4096"],
        false => ["-m", "8m"],
    };
    let script = "head -c 30000000 /dev/zero > /dev/shm/full && echo full && exec sleep 1000";
    store.ok(&["run", "-d", "--name", "busy", "-m", "64m", "--memory-swap", "64m", IMAGE, "sh", "-c", script]);
    eventually("its memory to be full", || store.ok(&["logs", "busy"]) == "full");
    let fields = "{{json .HostConfig}} {{.Config.Env}}";
    let before = store.inspect("busy", fields);
    let pids = limit(&store, "busy", "pids/pids.max", "pids.max");
    let args = ["--restart", "always", "-e", "A=1", "--pids-limit", "7"];
    let refused = store.run(&[&["update"], &args[..], &refusal[..], &["busy"]].concat());
    assert!(refused.code == 1 && refused.err.contains("Cannot update container"), "{refused:?}");
    assert_eq!(store.inspect("busy", fields), before);
    assert_eq!(limit(&store, "busy", "pids/pids.max", "pids.max"), pids);
}

#[test]
fn no_processors_are_no_limit_of_them() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "quota", "--cpus", "0", "--cpu-quota", "50000", IMAGE, "sleep", "1000"]);
    let quota = limit(&store, "quota", "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let several: Vec<_> = (0..8)
        .map(|n| {
            let args = match n % 2 {
                0 => ["update", "-m", "64m", "quota"],
                _ => ["update", "--pids-limit", "9", "quota"],
            };
            store.spawn(&args)
        })
        .collect();
    several.into_iter().for_each(|child| assert!(child.wait_with_output().unwrap().status.success()));
    assert_eq!(store.inspect("quota", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"), "67108864 9");
}
