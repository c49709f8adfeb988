//! Kubernetes' side of containerd: pods and their containers by the container runtime interface, as a kubelet asks for
//! them. The plugin that makes their network leaves it at the loopback interface.

use crate::base::{Done, Store, done, eventually};
use crate::support::{Room, runtime_name};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const IMAGE: &str = "docker.io/library/podded:latest";

/// The states of a container, and of a pod.
const RUNNING: u64 = 1;
const EXITED: u64 = 2;
const NOT_READY: u64 = 1;

/// Whose namespaces a container is in.
const POD: u64 = 0;
const ITS_OWN: u64 = 1;
const NODE: u64 = 2;

fn call(method: &str, request: &Value) -> Done {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/cri.py");
    let (client, socket) = (client.to_str().unwrap(), Room::get().text("cri.sock"));
    // Debian's, which has the package.
    done(&mut Room::get().command(&["/usr/bin/python3", client, &socket, method, &request.to_string()]))
}

fn ok(method: &str, request: &Value) -> Value {
    let done = call(method, request);
    assert_eq!(done.code, 0, "{method} {request}: {done:?}");
    serde_json::from_str(&done.out).unwrap()
}

/// A containerd for pods, whose only runtime is the one under test.
fn daemon() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let room = Room::get();
        let plugins = room.path("cni/bin");
        std::fs::create_dir_all(&plugins).unwrap();
        std::fs::create_dir_all(room.path("cni/net.d")).unwrap();
        let script = "#!/bin/sh\ncat >/dev/null\n[ \"$CNI_COMMAND\" != VERSION ] ||\n\
            exec echo '{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.4.0\"]}'\n\
            [ \"$CNI_COMMAND\" != ADD ] || nsenter \"--net=$CNI_NETNS\" ip link set lo up\n\
            [ \"$CNI_COMMAND\" != ADD ] || exec echo '{\"cniVersion\":\"0.4.0\",\"interfaces\":[{\"name\":\"eth0\"}],\
            \"ips\":[{\"version\":\"4\",\"address\":\"10.9.0.2/24\",\"interface\":0}]}'\n";
        for name in ["nothing", "loopback"] {
            std::fs::write(plugins.join(name), script).unwrap();
            std::fs::set_permissions(plugins.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        let network = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "nothing"}]});
        std::fs::write(room.path("cni/net.d/10-pods.conflist"), network.to_string()).unwrap();
        std::fs::write(room.path("cri.toml"), settings(room)).unwrap();
        let (config, root) = (room.text("cri.toml"), room.text("cri"));
        let (state, socket) = (room.text("cri-state"), room.text("cri.sock"));
        let args = ["--config", &config, "--root", &root, "--state", &state, "--address", &socket];
        let ctr = |args: &[&str]| room.command(&[&["ctr", "-a", &socket, "-n", "k8s.io"], args].concat());
        room.start_as("containerd-of-pods", "containerd", &args, || ctr(&["version"]));
        let scratch = Store::empty();
        let imported = done(&mut ctr(&[
            "images",
            "import",
            &scratch.archive("podded", r#"{"Cmd":["sleep","86000"],"Env":["PATH=/bin"]}"#),
        ]));
        assert_eq!(imported.code, 0, "{imported:?}");
        let python = done(&mut room.command(&["/usr/bin/python3", "-c", "import grpc"]));
        assert_eq!(python.code, 0, "{python:?}");
        // That part of containerd learns of the image from an event.
        eventually("pods to be possible", || {
            let images = done(&mut ctr(&["images", "ls"])).out;
            images.contains("io.cri-containerd.image=managed") && call("Version", &json!({})).code == 0
        });
    });
}

fn settings(room: &Room) -> String {
    // Without the right to raise limits nobody can lower an OOM score.
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}/bin"
    conf_dir = "{cni}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "tested"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
        BinaryName = "{runtime}"
"#,
        cni = room.text("cni"),
        runtime = room.runtime(),
    )
}

/// A pod and the containers in it. Dropping it removes them, and checks that nothing is left.
struct Pod {
    id: String,
    config: Value,
    logs: PathBuf,
    containers: RefCell<Vec<String>>,
}

impl Pod {
    fn new(namespaces: Value) -> Pod {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        daemon();
        let name = format!("pod-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let logs = Room::get().path(&format!("{name}-logs"));
        std::fs::create_dir(&logs).unwrap();
        let config = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "namespace": "default"},
            // Who is in the node's network has its name.
            "hostname": if namespaces["network"] == NODE { "" } else { &name },
            "log_directory": logs,
            "linux": {"cgroup_parent": format!("/kubepods/{name}"), "security_context": {"namespace_options": namespaces}},
        });
        let made = ok("RunPodSandbox", &json!({"config": config}));
        Pod { id: made["pod_sandbox_id"].as_str().unwrap().to_owned(), config, logs, containers: RefCell::default() }
    }

    /// A container that is created; `more` is added to its configuration.
    fn create(&self, name: &str, command: &[&str], more: Value) -> String {
        let made = ok("CreateContainer", &self.request(name, command, more));
        let id = made["container_id"].as_str().unwrap().to_owned();
        self.containers.borrow_mut().push(id.clone());
        id
    }

    fn request(&self, name: &str, command: &[&str], more: Value) -> Value {
        let mut config = json!({
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": command,
            "log_path": format!("{name}.log"),
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let namespaces = &self.config["linux"]["security_context"]["namespace_options"];
        config["linux"]["security_context"]["namespace_options"] = namespaces.clone();
        json!({"pod_sandbox_id": self.id, "config": config, "sandbox_config": self.config})
    }

    fn start(&self, name: &str, command: &[&str], more: Value) -> String {
        let id = self.create(name, command, more);
        ok("StartContainer", &json!({"container_id": id}));
        id
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.logs.join(format!("{name}.log"))).unwrap();
        // Time, stream, whether the line is whole, and the line.
        text.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n").collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let pod = json!({"pod_sandbox_id": self.id});
        let _ = call("StopPodSandbox", &pod);
        let removed = call("RemovePodSandbox", &pod);
        if !std::thread::panicking() {
            assert_eq!(removed.code, 0, "{removed:?}");
            for id in self.containers.take().iter().chain([&self.id]) {
                let traces = || Room::get().traces(id);
                eventually(&format!("{:?} to go", traces()), || traces().is_empty());
            }
        }
    }
}

fn status(container: &str) -> Value {
    ok("ContainerStatus", &json!({"container_id": container}))["status"].take()
}

/// The output of a command in a container, which must succeed.
fn exec(container: &str, script: &str) -> String {
    let request = json!({"container_id": container, "cmd": ["sh", "-c", script], "timeout": 20});
    let done = ok("ExecSync", &request);
    assert_eq!((&done["exit_code"], &done["stderr"]), (&json!(0), &json!("")), "{script}");
    done["stdout"].as_str().unwrap().to_owned()
}

fn of_room(namespace: &str) -> String {
    std::fs::read_link(Room::get().inside(&format!("/proc/1/ns/{namespace}"))).unwrap().display().to_string()
}

/// Whether one of these files of a container's cgroups says what is expected there.
fn is_limited(container: &str, files: &[(&str, &str)]) -> bool {
    let says = |path: PathBuf, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    Room::get().cgroups(container).iter().any(|dir| files.iter().any(|(file, value)| says(dir.join(file), value)))
}

fn namespace(container: &str, kind: &str) -> String {
    exec(container, &format!("readlink /proc/self/ns/{kind}"))
}

#[test]
fn containers_of_a_pod_share_what_the_pod_has() {
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let (one, other) =
        (pod.start("one", &["sleep", "86000"], json!({})), pod.start("other", &["sleep", "86000"], json!({})));
    for (kind, shared) in [("net", true), ("ipc", true), ("uts", true), ("pid", false), ("mnt", false)] {
        assert_eq!(namespace(&one, kind) == namespace(&other, kind), shared, "{kind}");
    }
    for kind in ["net", "ipc", "uts", "pid", "mnt"] {
        assert_ne!(namespace(&one, kind).trim(), of_room(kind), "{kind}");
    }
    assert_eq!(exec(&other, "hostname").trim(), pod.config["hostname"]);
    // What one of them listens at, the other reaches.
    exec(&one, "(echo hello | nc -l -p 800 >/dev/null 2>&1 &)");
    assert_eq!(exec(&other, "until nc 127.0.0.1 800 </dev/null 2>/dev/null; do sleep 0.1; done"), "hello\n");
}

#[test]
fn processes_of_a_pod_are_seen_where_it_is_asked_for() {
    let pod = Pod::new(json!({"pid": POD}));
    pod.start("one", &["sleep", "86001"], json!({}));
    let other = pod.start("other", &["sleep", "86002"], json!({}));
    let seen = exec(&other, "ps -o args");
    assert!(seen.contains("sleep 86001") && seen.contains("sleep 86002"), "{seen}");
}

#[test]
fn the_network_may_be_the_nodes() {
    let pod = Pod::new(json!({"network": NODE, "pid": ITS_OWN}));
    let container = pod.start("c", &["sleep", "86000"], json!({}));
    assert_eq!(namespace(&container, "net").trim(), of_room("net"));
}

#[test]
fn a_container_has_what_its_configuration_says() {
    let folder = Room::get().path("seen-by-pods");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "seen\n").unwrap();
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let more = json!({
        "working_dir": "/usr",
        "envs": [{"key": "A", "value": "b"}],
        "mounts": [{"container_path": "/seen", "host_path": folder, "readonly": true}],
        "linux": {
            "resources": {"memory_limit_in_bytes": 64 << 20, "cpu_quota": 50000, "cpu_period": 100_000},
            "security_context": {
                "run_as_user": {"value": 33},
                "readonly_rootfs": true,
                "no_new_privs": true,
                "seccomp": {"profile_type": 0},
                "capabilities": {"drop_capabilities": ["ALL"]},
            },
        },
    });
    let script = "pwd; echo $A; cat /seen/file; id -u; touch /x 2>/dev/null || echo read-only; \
        touch /seen/x 2>/dev/null || echo seen stays; grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status; \
        echo told >&2; until [ -e /seen/go ]; do sleep 0.1; done; exit 5";
    let container = pod.start("c", &["sh", "-c", script], more);
    eventually("its word", || pod.log("c").contains("told"));
    let text = pod.log("c");
    let lines = ["/usr", "b", "seen", "33", "read-only", "seen stays", "Seccomp:\t2", "NoNewPrivs:\t1"];
    for line in lines.iter().chain(&["CapBnd:\t0000000000000000"]) {
        assert!(text.lines().any(|l| l == *line), "{line}: {text}");
    }
    assert!(is_limited(&container, &[("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")]));
    assert!(is_limited(&container, &[("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")]));
    // It waits for this.
    std::fs::write(folder.join("go"), "").unwrap();
    eventually("its end", || status(&container)["state"] == EXITED);
    assert_eq!(status(&container)["exit_code"], 5);
}

#[test]
fn commands_end_with_their_status_and_output() {
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let container = pod.start("c", &["sleep", "86000"], json!({}));
    let request = json!({"container_id": container, "cmd": ["sh", "-c", "echo out; echo err >&2; exit 9"]});
    let done = ok("ExecSync", &request);
    assert_eq!(done, json!({"stdout": "out\n", "stderr": "err\n", "exit_code": 9}));
    // Its time is up.
    let late = call("ExecSync", &json!({"container_id": container, "cmd": ["sleep", "86001"], "timeout": 1}));
    assert!(late.code != 0 && late.err.contains("timeout 1s exceeded"), "{late:?}");
    eventually("its end", || !exec(&container, "ps -o args").contains("sleep 86001"));
    let missing = call("ExecSync", &json!({"container_id": container, "cmd": ["/no/such"]}));
    assert!(missing.code != 0 && missing.err.contains("/no/such"), "{missing:?}");
    assert!(missing.err.contains("no such file or directory"), "{missing:?}");
}

#[test]
fn limits_change_while_it_runs() {
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let container = pod.start("c", &["sleep", "86000"], json!({}));
    let used = ok("ContainerStats", &json!({"container_id": container}));
    assert!(used["stats"]["memory"]["working_set_bytes"]["value"].as_u64().unwrap() > 0, "{used}");
    ok(
        "UpdateContainerResources",
        &json!({"container_id": container, "linux": {"memory_limit_in_bytes": 96 << 20, "cpu_shares": 512}}),
    );
    assert!(is_limited(&container, &[("memory.limit_in_bytes", "100663296"), ("memory.max", "100663296")]));
    assert!(is_limited(&container, &[("cpu.shares", "512"), ("cpu.weight", "20")]));
}

#[test]
fn it_is_stopped_and_removed() {
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let container = pod.start("polite", &["sh", "-c", script], json!({}));
    eventually("its word", || pod.log("polite") == "ready\n");
    assert_eq!(status(&container)["state"], RUNNING);
    ok("StopContainer", &json!({"container_id": container, "timeout": 20}));
    assert_eq!((&status(&container)["state"], &status(&container)["exit_code"]), (&json!(EXITED), &json!(3)));
    eventually("its last word", || pod.log("polite") == "ready\nbye\n");
    ok("RemoveContainer", &json!({"container_id": container}));
    eventually("its traces to go", || Room::get().traces(&container).is_empty());
    // Who does not listen is killed.
    let stubborn = pod.start("stubborn", &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], json!({}));
    ok("StopContainer", &json!({"container_id": stubborn, "timeout": 1}));
    assert_eq!(status(&stubborn)["exit_code"], 137);
}

#[test]
fn a_pod_that_is_stopped_takes_its_containers_along() {
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let container = pod.start("c", &["sleep", "86000"], json!({}));
    ok("StopPodSandbox", &json!({"pod_sandbox_id": pod.id}));
    assert_eq!(status(&container)["state"], EXITED);
    assert_eq!(ok("PodSandboxStatus", &json!({"pod_sandbox_id": pod.id}))["status"]["state"], NOT_READY);
}

#[test]
fn what_cannot_be_executed_is_told() {
    let pod = Pod::new(json!({"pid": ITS_OWN}));
    let container = pod.create("c", &["/no/such"], json!({}));
    let failed = call("StartContainer", &json!({"container_id": container}));
    assert_ne!(failed.code, 0, "{failed:?}");
    assert!(failed.err.contains(&format!("{} create failed", runtime_name())), "{}", failed.err);
    assert!(failed.err.contains("/no/such"), "{}", failed.err);
    assert_eq!((&status(&container)["state"], &status(&container)["exit_code"]), (&json!(EXITED), &json!(128)));
}
