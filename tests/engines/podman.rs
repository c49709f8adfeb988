//! Podman with minirun as its runtime, by way of conmon.

use crate::commands::behaviours;
use crate::support::{Engine, IMAGE, Room, Test};
use std::sync::OnceLock;

/// Its settings: its own default limits are higher than what may be set everywhere.
pub fn settings(of_containers: &str, runtime: &str) -> String {
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:4096\"]\nlog_driver = \"k8s-file\"\n\
         {of_containers}\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"minirun\"\n\
         [engine.runtimes]\nminirun = [\"{runtime}\"]\n"
    )
}

/// Podman in the room, with storage of its own. It has no daemon: every command enters.
pub fn podman() -> &'static Engine {
    static PODMAN: OnceLock<Engine> = OnceLock::new();
    PODMAN.get_or_init(|| {
        let room = Room::get();
        std::fs::write(room.path("containers.conf"), settings("", &room.runtime())).unwrap();
        let mut words = room.words();
        words.extend(["env".into(), format!("CONTAINERS_CONF={}", room.text("containers.conf")).into()]);
        words.extend(["podman".into(), "--storage-driver".into(), "overlay".into()]);
        for (option, place) in [("--root", "podman"), ("--runroot", "podman-run"), ("--tmpdir", "podman-tmp")] {
            words.extend([option.into(), room.path(place).into()]);
        }
        let engine = Engine { name: "podman", words };
        engine.import();
        engine
    })
}

behaviours! { podman:
    output_and_status_come_back
    what_cannot_be_executed_is_told
    input_is_read_to_its_end
    a_shell_runs_on_a_terminal
    the_user_and_the_directory_are_chosen
    volumes_are_seen
    a_read_only_tree_has_writable_places
    the_namespaces_of_another_container_are_joined
    namespaces_of_the_host_are_kept
    networks_are_none_or_a_bridge
    confinement_is_asked_for
    an_init_reaps
    commands_are_executed_in_it
    what_cannot_be_executed_in_it_is_told
    a_shell_in_it_has_a_terminal
    stopping_asks_first
    signals_reach_it
    a_paused_one_stands_still
    its_processes_and_use_are_told
    its_output_is_kept
    limits_are_set
    too_much_memory_ends_it
    restart_policies_are_followed
    an_image_is_made_of_a_container
    an_image_is_built
    many_run_at_once
    images_travel_by_a_registry
}

#[test]
fn the_runtime_is_the_one_under_test() {
    let t = Test::new(podman());
    let name = t.start("whose", &[], &["sleep", "86000"]);
    assert_eq!(t.inspect(&name, "{{.OCIRuntime}}"), "minirun");
    assert!(t.ok(&["info", "-f", "{{.Host.OCIRuntime.Path}}"]).ends_with("/bin/minirun-oci"));
}

#[test]
fn privileges_are_all_that_the_host_has() {
    let t = Test::new(podman());
    assert_eq!(t.output(&["--privileged"], &["sh", "-c", "mount -t tmpfs none /mnt && ls /dev/kmsg"]), "/dev/kmsg");
    let name = t.start("plain", &[], &["sleep", "86000"]);
    t.ok(&["exec", "--privileged", &name, "mount", "-t", "tmpfs", "none", "/mnt"]);
}

#[test]
fn ids_are_mapped() {
    let t = Test::new(podman());
    let map = ["--uidmap", "0:100000:5000", "--gidmap", "0:200000:5000"];
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map; touch /x && stat -c %u:%g /x";
    let text = t.output(&map, &["sh", "-c", script]);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "5000", "0", "200000", "5000", "0:0"]);
    let name = t.start("mapped", &map, &["sleep", "86000"]);
    assert_eq!(t.ok(&["exec", "-u", "7", &name, "id", "-u"]), "7");
}

#[test]
fn a_pod_shares_namespaces() {
    let t = Test::new(podman());
    let pod = t.name("pod");
    t.ok(&["pod", "create", "--name", &pod, "--infra-image", IMAGE, "--infra-command", "/bin/sleep 86000"]);
    let script = "for n in net ipc uts; do readlink /proc/self/ns/$n; done";
    let member = || t.ok(&["run", "--rm", "--pod", &pod, IMAGE, "sh", "-c", script]);
    assert_eq!(member(), member());
    t.ok(&["pod", "rm", "-f", "-t", "0", &pod]);
}

#[test]
fn limits_are_changed_while_it_runs() {
    let t = Test::new(podman());
    let name = t.start("updated", &["-m", "64m"], &["sleep", "86000"]);
    t.ok(&["update", "--memory", "32m", "--cpus", "0.25", &name]);
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us";
    assert_eq!(t.ok(&["exec", &name, "sh", "-c", script]), "33554432\n25000");
}

#[test]
fn more_descriptors_are_passed() {
    let t = Test::new(podman());
    let mut command = std::process::Command::new("bash");
    let inner = t.engine.command(&["run", "--rm", "--preserve-fds", "1", IMAGE, "sh", "-c", "cat <&3"]);
    command.args(["-c", "exec \"$0\" \"$@\" 3<<<passed"]).arg(inner.get_program()).args(inner.get_args());
    let done = crate::base::done(&mut command);
    assert_eq!((done.code, done.out.as_str()), (0, "passed\n"), "{done:?}");
}
