//! What a supervisor does for its container when something is in the way, and what it leaves.

use crate::support::{IMAGE, Store};

#[test]
fn restart_keeps_a_container_that_is_to_be_removed_at_its_end() {
    let store = Store::new();
    store.ok(&["run", "-d", "--rm", "--name", "kept", "-v", "/anonymous", IMAGE, "sleep", "1000"]);
    store.ok(&["exec", "kept", "touch", "/anonymous/kept"]);
    store.ok(&["restart", "-t", "0", "kept"]);
    assert_eq!(store.inspect("kept", "{{.State.Status}}"), "running");
    store.ok(&["exec", "kept", "test", "-e", "/anonymous/kept"]);
    store.ok(&["stop", "-t", "0", "kept"]);
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    assert_eq!(store.ok(&["volume", "ls", "-q"]), "");
}
