//! Docker with minirun as the daemon's default runtime.

use crate::commands::behaviours;
use crate::support::{Engine, Room, Test, refuses_missing_capabilities};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The client of a daemon of our own, which is in the room. The client is not: it needs no more than the socket.
pub fn docker() -> &'static Engine {
    static DOCKER: OnceLock<Engine> = OnceLock::new();
    DOCKER.get_or_init(|| {
        let room = Room::get();
        let (socket, runtime) = (format!("unix://{}", room.text("docker.sock")), format!("minirun={}", room.runtime()));
        let (data, exec, pid) = (room.text("docker"), room.text("docker-exec"), room.text("dockerd.pid"));
        let places = ["--data-root", &data, "--exec-root", &exec, "--pidfile", &pid, "-H", &socket];
        let runtimes = ["--add-runtime", &runtime, "--default-runtime", "minirun"];
        // The client of Debian's package, if there are others.
        let client = Some("/usr/bin/docker").filter(|c| Path::new(c).exists()).unwrap_or("docker");
        let words = vec![client.into(), "-H".into(), socket.clone().into()];
        room.start("dockerd", &[&places[..], &runtimes].concat(), || {
            let mut probe = Command::new(client);
            probe.args(["-H", &socket, "version"]);
            probe
        });
        let engine = Engine { name: "docker", words };
        engine.import();
        engine
    })
}

behaviours! { docker:
    output_and_status_come_back
    what_cannot_be_executed_is_told
    input_is_read_to_its_end
    a_shell_runs_on_a_terminal
    a_terminal_is_left_and_attached_again
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
    let t = Test::new(docker());
    let name = t.start("whose", &[], &["sleep", "86000"]);
    assert_eq!(t.inspect(&name, "{{.HostConfig.Runtime}}"), "minirun");
}

#[test]
fn privileges_are_all_that_the_host_has() {
    let t = Test::new(docker());
    let done = t.once(
        &["--privileged"],
        &["sh", "-c", "mount -t tmpfs none /mnt && ls /dev/kmsg && grep CapEff /proc/self/status"],
    );
    let name = t.start("plain", &[], &["sleep", "86000"]);
    let within = t.run(&["exec", "--privileged", &name, "grep", "CapEff", "/proc/self/status"]);
    if refuses_missing_capabilities() {
        assert!(done.err.contains("unable to apply caps"), "{done:?}");
    } else {
        let expected = format!("/dev/kmsg\n{}", within.out);
        assert!(done.code == 0 && within.code == 0 && done.out == expected, "{done:?} {within:?}");
    }
}

#[test]
fn a_missing_directory_to_work_in_is_made() {
    let t = Test::new(docker());
    assert_eq!(t.output(&["-w", "/not/there/yet"], &["pwd"]), "/not/there/yet");
}

#[test]
fn limits_are_changed_while_it_runs() {
    let t = Test::new(docker());
    let name = t.start("updated", &["-m", "64m"], &["sleep", "86000"]);
    t.ok(&["update", "-m", "32m", "--memory-swap", "32m", "--cpus", "0.25", "--pids-limit", "9", &name]);
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max";
    assert_eq!(t.ok(&["exec", &name, "sh", "-c", script]), "33554432\n25000\n9");
}

#[test]
fn health_is_checked() {
    let t = Test::new(docker());
    let name = t.start("well", &["--health-cmd", "test -e /well", "--health-interval", "100ms"], &["sleep", "86000"]);
    t.ok(&["exec", &name, "touch", "/well"]);
    crate::base::eventually("health", || t.inspect(&name, "{{.State.Health.Status}}") == "healthy");
}

#[test]
fn a_port_is_published_and_a_name_is_linked() {
    let t = Test::new(docker());
    let script = "while :; do echo HELLO | nc -l -p 80; done";
    let server = t.start("linked", &["-p", "8099:80"], &["sh", "-c", script]);
    let link = format!("{server}:web");
    let script = "until nc web 80 </dev/null | grep HELLO; do usleep 10000; done";
    assert_eq!(t.output(&["--link", &link], &["sh", "-c", script]), "HELLO");
    let script = "until nc 127.0.0.1 8099 </dev/null | grep HELLO; do usleep 10000; done";
    assert_eq!(t.output(&["--network", "host"], &["sh", "-c", script]), "HELLO");
}

#[test]
fn a_daemon_that_is_asked_keeps_containers_that_cannot_start() {
    let t = Test::new(docker());
    let name = t.name("broken");
    let done = t.run(&t.arguments(&name, &["-d"], &["/no/such"]));
    assert_eq!(done.code, 127, "{done:?}");
    assert_eq!(t.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}"), "created 127");
    assert!(t.inspect(&name, "{{.State.Error}}").contains("no such file or directory"));
}
