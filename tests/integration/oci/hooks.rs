//! Hooks: when and where they run, as what, and what becomes of those that fail.

use super::{create, says};
use crate::threats::bundle::Bundle;
use serde_json::{Value, json};

#[test]
fn hooks_run_in_their_order_and_places_and_know_the_state() {
    let mut b = Bundle::new();
    let log = b.store.path("hooks");
    std::fs::write(&log, "").unwrap();
    let hook = |name: &str| {
        let script = format!(
            "echo {name} $(readlink /proc/self/ns/net) $0 $MARK >> {log}; cat >> {log}; echo >> {log}",
            log = log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script, "zero"], "env": ["MARK=m", "PATH=/bin:/usr/bin"]}])
    };
    b.config["annotations"] = json!({"a.b": "c"});
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        b.config["hooks"][kind] = hook(kind);
    }
    // This one is looked for in the container.
    b.config["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > /seen"]}]);
    create(&mut b, &["sleep", "1000"]);
    let pid = b.pid();
    says(&b, &["start", b.id()]);
    b.delete();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let expected = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let statuses = ["creating", "creating", "creating", "running", "stopped"];
    for ((pair, name), status) in lines.chunks(2).zip(expected).zip(statuses) {
        let words: Vec<&str> = pair[0].split(' ').collect();
        assert_eq!((words[0], words[2], words[3]), (name, "zero", "m"), "{text}");
        assert_eq!(words[1] == own, name != "createContainer", "{text}");
        let state: Value = serde_json::from_str(pair[1]).unwrap();
        assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!(b.id())), "{text}");
        assert_eq!(state["annotations"]["a.b"], json!("c"));
        // Those in the container are told the number that it has there.
        let known_as = if name == "createContainer" { 1 } else { pid };
        assert_eq!(state["pid"].as_i64().unwrap_or(0) as i32, if status == "stopped" { 0 } else { known_as }, "{text}");
    }
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(b.rootfs().join("seen")).unwrap()).unwrap();
    assert_eq!((&seen["status"], &seen["pid"]), (&json!("created"), &json!(1)));
    // Also where it is the only one.
    let mut b = Bundle::new();
    b.config["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > /seen"]}]);
    let ran = b.run(&["true"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(b.rootfs().join("seen")).unwrap()).unwrap();
    assert_eq!(seen["pid"], json!(1), "{seen}");
}

#[test]
fn hooks_make_files_as_their_caller_does() {
    let mut b = Bundle::new();
    b.change("mkdir -p made");
    let moments = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for moment in moments {
        let made = if moment == "startContainer" { "/made".into() } else { b.rootfs().join("made") };
        let script = format!("umask > {}/{moment}", made.display());
        b.config["hooks"][moment] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    }
    // This one is made as the container's own program makes them.
    b.config["process"]["user"]["umask"] = json!(0o27);
    let ran = b.run_through("umask 077; exec \"$0\" \"$@\"", &["true"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for moment in moments {
        let said = std::fs::read_to_string(b.rootfs().join("made").join(moment)).unwrap();
        assert_eq!(said, if moment == "startContainer" { "0027\n" } else { "0077\n" }, "{moment}");
    }
}

#[test]
fn a_hook_that_fails_or_lingers_ends_the_creation() {
    for (kind, script, wrong) in [
        ("prestart", "echo no >&2; exit 4", "exit status 4, stdout: , stderr: no"),
        ("createRuntime", "sleep 100", "ran past specified timeout"),
        ("createContainer", "exit 1", "exit status 1"),
        ("startContainer", "kill -SYS $$", "bad system call"),
        ("poststart", "exit 2", "exit status 2"),
    ] {
        let mut b = Bundle::new();
        b.config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1}]);
        let result = b.run(&["sleep", "1000"]);
        assert!(result.code == 1 && result.err.contains(wrong), "{kind}: {result:?}");
        assert!(result.err.contains("error running hook #0"), "{kind}: {result:?}");
    }
}
