//! The main job in a few lines.

use crate::support::{IMAGE, Store};

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
