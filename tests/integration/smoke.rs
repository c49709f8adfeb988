//! The main job in a few lines.

use crate::support::{IMAGE, Store, done, fixture, program};

#[test]
fn a_command_runs_and_its_status_comes_back() {
    let store = Store::new();
    assert_eq!(store.ok(&["run", "--rm", IMAGE, "echo", "hello"]), "hello");
    let done = store.run(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
}

#[test]
fn a_terminal_works_both_ways() {
    let store = Store::new();
    let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "sh"]);
    terminal.expect("# ");
    assert!(terminal.is_raw());
    terminal.send("stty size; echo done-$((1+1))\n");
    assert!(terminal.expect("done-2\r").contains("33 101"));
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait(), 3);
    assert!(!terminal.is_raw());
}

#[test]
fn two_stores_may_keep_their_state_in_one_place() {
    let (one, other) = (Store::new(), Store::new());
    let state = one.text("state");
    let on = |store: &Store, args: &[&str]| {
        let mut command = std::process::Command::new(program());
        command.arg("--root").arg(store.root()).args(["--state", &state]).args(args);
        let done = done(&mut command);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done.out
    };
    on(&one, &["run", "-d", "--name", "first", IMAGE, "sleep", "1000"]);
    on(&other, &["run", "--rm", IMAGE, "true"]);
    on(&other, &["import", fixture("busybox.tar").to_str().unwrap(), "again"]);
    assert_eq!(on(&one, &["exec", "first", "echo", "reached"]), "reached\n");
    on(&one, &["rm", "-f", "first"]);
    on(&other, &["network", "prune", "-f"]);
}
