//! What is left and who is told when something goes wrong on the way.

use super::{create, says, status};
use crate::support::{done, eventually, signal};
use crate::threats::bundle::{Bundle, cgroups};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;

/// A hook that writes a line into a file whenever it is run.
fn with_poststop(b: &mut Bundle) -> PathBuf {
    let log = b.store.path("poststop");
    std::fs::write(&log, "").unwrap();
    let script = format!("grep -o '\"status\":\"[a-z]*\"' >> {}", log.display());
    b.config["hooks"]["poststop"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]);
    log
}

#[test]
fn a_limit_that_is_too_low_to_start_in_is_named() {
    let mut b = Bundle::new();
    // Enough to be made, and not enough for what is copied into memory.
    b.change("mkdir -p large && head -c 20000000 /dev/zero > large/file");
    b.add_mount(json!({"destination": "/large", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    b.config["linux"]["resources"]["memory"] = json!({"limit": 8 << 20, "swap": 8 << 20});
    let ended = b.run(&["true"]);
    let wrong = "container init was OOM-killed (memory limit too low?)";
    assert!(ended.code == 1 && ended.err.contains(wrong), "{ended:?}");
    assert!(cgroups(b.id()).is_empty());
    b.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    assert_eq!(b.run(&["true"]).code, 0);
}

#[test]
fn what_hooks_have_prepared_is_undone_when_the_creation_fails() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut b = Bundle::new();
        let log = with_poststop(&mut b);
        b.config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}]);
        assert_eq!(b.run(&["true"]).code, 1, "{kind}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "\"status\":\"stopped\"\n", "{kind}");
        assert_eq!(says(&b, &["list", "-q"]), "", "{kind}");
    }
    let mut b = Bundle::new();
    let log = with_poststop(&mut b);
    assert_eq!(b.run(&["nosuch"]).code, 1);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "\"status\":\"stopped\"\n");
    // Of a container that was never there, nothing is to be undone.
    b.config["root"]["path"] = json!("nosuch");
    assert_eq!(b.run(&["true"]).code, 1);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "\"status\":\"stopped\"\n");
}

#[test]
fn a_container_that_cannot_be_handed_over_is_taken_away() {
    let mut b = Bundle::new();
    let log = with_poststop(&mut b);
    b.set_args(&["sleep", "1000"]);
    for (terminal, option) in [(false, "--pid-file"), (true, "--console-socket")] {
        b.config["process"]["terminal"] = json!(terminal);
        b.save();
        for command in [&["create"][..], &["run", "--detach"]] {
            std::fs::write(&log, "").unwrap();
            let dir = b.dir();
            let args = [command, &[option, "/nosuch/file", "-b", dir.to_str().unwrap(), b.id()]].concat();
            let result = done(&mut b.oci(&args));
            assert!(result.code == 1 && result.err.contains("/nosuch/file"), "{args:?}: {result:?}");
            assert_eq!(says(&b, &["list", "-q"]), "", "{args:?}");
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "\"status\":\"stopped\"\n", "{args:?}");
        }
    }
}

#[test]
fn nothing_of_a_container_that_cannot_be_handed_over_has_run() {
    let mut b = Bundle::new();
    b.set_args(&["sh", "-c", "echo > /mark"]);
    b.save();
    let dir = b.dir();
    for detach in [&[][..], &["--detach"]] {
        let args = [&["run", "--pid-file", "/nosuch/file", "-b", dir.to_str().unwrap()], detach, &[b.id()]].concat();
        let result = done(&mut b.oci(&args));
        assert!(result.code == 1 && result.err.contains("/nosuch/file"), "{args:?}: {result:?}");
        assert!(!b.rootfs().join("mark").exists(), "{args:?}");
    }
    assert_eq!(b.run(&["sh", "-c", "echo > /mark"]).code, 0);
    assert!(b.rootfs().join("mark").exists());
}

/// Its first process may still be in the host's root.
#[test]
fn nobody_enters_a_container_that_is_being_created() {
    let mut b = Bundle::new();
    let log = b.store.path("entered");
    let exec = b.oci(&["exec", b.id(), "cat", "/etc/hostname"]);
    let words = [exec.get_program()].into_iter().chain(exec.get_args()).map(|word| word.to_str().unwrap());
    let script = format!("{} > {} 2>&1; true", words.collect::<Vec<_>>().join(" "), log.display());
    for kind in ["prestart", "createRuntime", "createContainer"] {
        b.config["hooks"] = json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]});
        create(&mut b, &["sleep", "1000"]);
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("cannot exec in a container that is being created"), "{kind}: {text}");
        assert_eq!(says(&b, &["exec", b.id(), "echo", "in"]), "in\n", "{kind}");
        b.delete();
    }
}

#[test]
fn a_killed_create_leaves_nothing_that_delete_does_not_find() {
    let mut b = Bundle::new();
    let mark = b.store.path("mark");
    let script = format!("echo $$ > {}; exec sleep 1000", mark.display());
    b.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]);
    b.set_args(&["true"]);
    b.save();
    let dir = b.dir();
    let mut killed = b.oci(&["create", "-b", dir.to_str().unwrap(), b.id()]).spawn().unwrap();
    let mut hook = String::new();
    eventually("the hook to run", || {
        hook = std::fs::read_to_string(&mark).unwrap_or_default();
        hook.ends_with('\n')
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    eventually("the first process to notice", || status(&b) == "stopped");
    signal(hook.trim().parse().unwrap(), libc::SIGKILL);
    says(&b, &["delete", b.id()]);
    b.config.as_object_mut().unwrap().remove("hooks");
    create(&mut b, &["true"]);
}

#[test]
fn a_create_that_is_killed_at_any_moment_can_be_deleted_and_made_again() {
    let mut b = Bundle::new();
    let cgroup = format!("/{}", b.id());
    b.config["linux"]["cgroupsPath"] = json!(cgroup);
    b.set_args(&["true"]);
    b.save();
    let dir = b.dir();
    // Some of these moments are between the making of the cgroup and the writing of the record.
    for delay in (1..30).step_by(2) {
        let mut killed = b.oci(&["create", "-b", dir.to_str().unwrap(), b.id()]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let state = b.state_root().join(b.id());
        says(&b, &["delete", "--force", b.id()]);
        assert!(!state.exists());
        eventually("the cgroups to be gone", || cgroups(b.id()).is_empty());
    }
    create(&mut b, &["true"]);
}

#[test]
fn hooks_without_variables_have_the_callers_and_begin_in_the_bundle() {
    let mut b = Bundle::new();
    let told = b.store.path("told");
    let script = format!("echo \"$FROM_THE_CALLER $PWD\" >{}", told.display());
    b.config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    b.set_args(&["true"]);
    b.save();
    let mut run = b.oci(&["run", "-b", b.dir().to_str().unwrap(), b.id()]);
    assert_eq!(done(run.env("FROM_THE_CALLER", "hello")).code, 0);
    let dir = b.dir().canonicalize().unwrap();
    assert_eq!(std::fs::read_to_string(told).unwrap(), format!("hello {}\n", dir.display()));
    // No time is too long.
    b.config["hooks"]["createRuntime"] = json!([{"path": "/bin/true", "timeout": i64::MAX}]);
    let run = b.run(&["true"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn a_hook_that_fails_ends_nobody_elses_container_in_the_same_cgroup() {
    let (mut one, mut other) = (Bundle::new(), Bundle::new());
    let cgroup = format!("/{}-shared", one.id());
    for b in [&mut one, &mut other] {
        b.config["linux"]["cgroupsPath"] = json!(cgroup);
    }
    one.start_sleeping();
    other.config["hooks"]["poststart"] = json!([{"path": "/bin/false"}]);
    other.set_args(&["sleep", "1000"]);
    other.save();
    let dir = other.dir();
    let args = ["run", "-d", "-b", dir.to_str().unwrap(), other.id()];
    assert_eq!(other.quietly("exec \"$0\" \"$@\"", &args), 1);
    assert_eq!(super::status(&one), "running");
}

#[test]
fn a_container_is_started_once() {
    let mut b = Bundle::new();
    b.config["hooks"]["startContainer"] = json!([{"path": "/bin/sleep", "args": ["sleep", "1"]}]);
    create(&mut b, &["sleep", "1000"]);
    let start = || b.oci(&["start", b.id()]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<_> = (0..3).map(|_| start()).collect();
    let ended: Vec<_> = all.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert_eq!(ended.iter().filter(|output| output.status.success()).count(), 1, "{ended:?}");
    for output in ended.iter().filter(|output| !output.status.success()) {
        assert!(String::from_utf8_lossy(&output.stderr).contains("already running"), "{output:?}");
    }
    assert_eq!(status(&b), "running");
}

#[test]
fn a_creation_that_fails_late_leaves_another_container_of_its_name_alone() {
    let mut b = Bundle::new();
    let dir = b.dir().to_str().unwrap().to_owned();
    let begun = b.store.path("begun");
    let script = format!("touch {}; sleep 1", begun.display());
    b.config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    b.set_args(&["sleep", "1000"]);
    b.save();
    let mut first = b.oci(&["create", "-b", &dir, b.id()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the hook to run", || begun.exists());
    says(&b, &["delete", "-f", b.id()]);
    b.config["hooks"] = json!({});
    b.start_sleeping();
    assert!(!first.wait().unwrap().success());
    assert_eq!(status(&b), "running");
}
