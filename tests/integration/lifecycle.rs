//! A container's life: made, started, stopped, killed, started again, paused, named, listed, removed.

use crate::support::{Done, IMAGE, Store, cgroups_of, eventually, signal};
use std::io::Read;
use std::process::Stdio;

const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container that runs until somebody ends it.
fn sleeper(store: &Store, name: &str) -> String {
    store.ok(&["run", "-d", "--name", name, IMAGE, "sleep", "1000"])
}

/// A container of the probe that says which signals it gets and ends with 40 at SIGTERM, ready for them.
fn trapper(store: &Store, name: &str, options: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(options);
    args.extend([IMAGE, "probe", "trap"]);
    let id = store.ok(&args);
    logged(store, name, "ready");
    id
}

/// A container that has ended with this status.
fn ended(store: &Store, name: &str, code: i32) {
    let script = format!("exit {code}");
    assert_eq!(store.run(&["run", "--name", name, IMAGE, "sh", "-c", &script]).code, code);
}

/// Waits until a container has written a text.
fn logged(store: &Store, name: &str, text: &str) {
    eventually(&format!("{text:?} in the log of {name}"), || store.ok(&["logs", name]).contains(text));
}

fn status(store: &Store, name: &str) -> String {
    store.inspect(name, "{{.State.Status}}")
}

fn becomes(store: &Store, name: &str, wanted: &str) {
    eventually(&format!("{name} to be {wanted}"), || status(store, name) == wanted);
}

fn exit_code(store: &Store, name: &str) -> String {
    store.inspect(name, "{{.State.ExitCode}}")
}

/// The names that `ps` with these flags lists, in its order.
fn listed(store: &Store, flags: &[&str]) -> Vec<String> {
    let mut args = vec!["ps", "--format", "{{.Names}}"];
    args.extend(flags);
    store.ok(&args).lines().map(str::to_owned).collect()
}

fn shown_status(store: &Store, name: &str) -> String {
    store.ok(&["ps", "-a", "--filter", &format!("name=^{name}$"), "--format", "{{.Status}}"])
}

fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap_or_else(|e| panic!("{text:?} is no time: {e}"))
}

// ---- names and ids

#[test]
fn a_container_without_a_name_gets_one_of_an_adjective_and_a_surname() {
    let store = Store::new();
    let id = store.ok(&["create", IMAGE, "true"]);
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let name = store.inspect(&id, "{{.Name}}");
    let parts: Vec<&str> = name.strip_prefix('/').unwrap().split('_').collect();
    assert_eq!(parts.len(), 2, "{name}");
    assert!(parts.iter().all(|p| p.len() > 1 && p.bytes().all(|b| b.is_ascii_lowercase())), "{name}");
}

#[test]
fn a_container_is_found_by_name_id_short_id_and_three_digits() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "found", IMAGE, "true"]);
    for text in ["found", "/found", &id, &id[..12], &id[..3]] {
        assert_eq!(store.inspect(text, "{{.Id}}"), id, "by {text}");
    }
    assert_eq!(store.ok(&["rm", &id[..3]]), &id[..3]);
    assert_eq!(listed(&store, &["-a"]), [""; 0]);
}

#[test]
fn a_prefix_of_several_ids_is_refused() {
    let store = Store::new();
    let mut ids: Vec<String> = Vec::new();
    // Of 17 ids two begin with the same digit.
    let shared = loop {
        let id = store.ok(&["create", IMAGE, "true"]);
        if ids.iter().any(|other| other[..1] == id[..1]) {
            break id[..1].to_owned();
        }
        ids.push(id);
    };
    let error = store.fails(1, &["start", &shared]);
    assert!(error.contains(&format!("Multiple IDs found with provided prefix: {shared}")), "{error}");
    assert!(store.fails(1, &["rm", "-f", &shared]).contains("Multiple IDs"));
    assert_eq!(store.ok(&["ps", "-aq"]).lines().count(), ids.len() + 1);
}

#[test]
fn an_exact_name_beats_the_beginning_of_an_id() {
    let store = Store::new();
    let first = store.ok(&["create", "--name", "first", IMAGE, "true"]);
    let second = store.ok(&["create", "--name", &first[..5], IMAGE, "true"]);
    assert_eq!(store.inspect(&first[..5], "{{.Id}}"), second);
    assert_eq!(store.inspect(&first[..6], "{{.Id}}"), first);
}

#[test]
fn a_bad_name_is_refused() {
    let store = Store::new();
    for name in ["a", "_a", "-a", "a/b", "a b", "ä1"] {
        let error = store.fails(125, &["run", &format!("--name={name}"), IMAGE, "true"]);
        assert!(error.contains(&format!("Invalid container name ({name}), only")), "{error}");
    }
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_name_in_use_is_refused_with_the_id_of_its_owner() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "mine", IMAGE, "true"]);
    let error = store.fails(125, &["run", "--name", "mine", IMAGE, "true"]);
    let text = format!(
        "Conflict. The container name \"/mine\" is already in use by container \"{id}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    );
    assert!(error.contains(&text), "{error}");
    assert_eq!(store.ok(&["ps", "-aq", "--no-trunc"]), id);
    store.ok(&["rm", "mine"]);
    store.ok(&["run", "--name", "mine", IMAGE, "true"]);
}

#[test]
fn of_twenty_containers_made_at_once_with_one_name_exactly_one_wins() {
    let store = Store::new();
    let all: Vec<Done> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| store.run(&["run", "-d", "--name", "only", IMAGE, "sleep", "1000"]));
        let threads: Vec<_> = (0..20).map(|_| start()).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let winners: Vec<&Done> = all.iter().filter(|d| d.code == 0).collect();
    assert_eq!(winners.len(), 1, "{all:?}");
    let id = winners[0].out.trim();
    for loser in all.iter().filter(|d| d.code != 0) {
        assert_eq!(loser.code, 125, "{loser:?}");
        assert!(loser.err.contains("Conflict. The container name \"/only\""), "{loser:?}");
    }
    assert_eq!(store.ok(&["ps", "-aq", "--no-trunc"]), id);
    assert_eq!(store.inspect("only", "{{.Id}} {{.State.Running}}"), format!("{id} true"));
}

#[test]
fn thirty_runs_at_once_all_succeed_and_leave_nothing() {
    let store = Store::new();
    let all: Vec<(usize, Done)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..30)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    let script = format!("echo {n}; exit {n}");
                    (n, store.run(&["run", "--rm", IMAGE, "sh", "-c", &script]))
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (n, done) in &all {
        let got = (done.code as usize, done.out.as_str(), done.err.as_str());
        assert_eq!(got, (*n, format!("{n}\n").as_str(), ""));
    }
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    assert_eq!(std::fs::read_dir(store.root().join("names")).unwrap().flatten().filter(is_name).count(), 0);
    store.rests();
}

fn is_name(entry: &std::fs::DirEntry) -> bool {
    !entry.file_name().to_string_lossy().starts_with('.')
}

#[test]
fn a_renamed_container_is_found_by_its_new_name_alone() {
    let store = Store::new();
    let id = sleeper(&store, "old-name");
    assert_eq!(store.ok(&["rename", "old-name", "new-name"]), "");
    assert_eq!(store.inspect("new-name", "{{.Id}} {{.Name}}"), format!("{id} /new-name"));
    assert!(store.fails(1, &["inspect", "old-name"]).contains("No such object: old-name"));
    assert_eq!(listed(&store, &[]), ["new-name"]);
    // The old one is free, and the supervisor still finds its container.
    store.ok(&["create", "--name", "old-name", IMAGE, "true"]);
    store.ok(&["stop", "-t", "0", "new-name"]);
    assert_eq!(status(&store, "new-name"), "exited");
}

#[test]
fn renaming_to_a_name_in_use_its_own_or_a_bad_one_is_refused() {
    let store = Store::new();
    store.ok(&["create", "--name", "one", IMAGE, "true"]);
    let other = store.ok(&["create", "--name", "other", IMAGE, "true"]);
    let error = store.fails(1, &["rename", "one", "other"]);
    assert!(error.contains("Conflict. The container name \"/other\"") && error.contains(&other), "{error}");
    let error = store.fails(1, &["rename", "one", "one"]);
    assert!(error.contains("Renaming a container with the same name as its current name"), "{error}");
    assert!(store.fails(1, &["rename", "one", "a/b"]).contains("Invalid container name (a/b)"));
    assert!(store.fails(1, &["rename", "nosuch", "fine"]).contains("No such container: nosuch"));
    let mut names = listed(&store, &["-a"]);
    names.sort();
    assert_eq!(names, ["one", "other"]);
}

#[test]
fn renames_at_once_and_a_killed_one_leave_no_name_behind() {
    let store = Store::new();
    store.ok(&["create", "--name", "one", IMAGE, "true"]);
    let names = store.root().join("names");
    let link = std::fs::read_link(names.join("one")).unwrap();
    let all: Vec<String> = (0..8).map(|i| format!("new{i}")).collect();
    let id = store.inspect_id("one");
    let mut renames: Vec<_> = all.iter().map(|name| store.spawn(&["rename", &id, name])).collect();
    assert!(renames.iter_mut().all(|rename| rename.wait().unwrap().success()));
    let taken = || {
        let entries = std::fs::read_dir(&names).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| !name.starts_with('.')).collect::<Vec<_>>()
    };
    assert_eq!(taken(), [store.inspect(&id, "{{.Name}}").trim_start_matches('/')]);
    // As a rename leaves it that is killed before it has freed the old name.
    std::os::unix::fs::symlink(&link, names.join("one")).unwrap();
    store.ok(&["create", "--name", "one", IMAGE, "true"]);
    assert_ne!(store.inspect_id("one"), id);
}

#[test]
fn a_renamed_container_that_is_removed_at_its_end_frees_its_new_name() {
    let store = Store::new();
    trapper(&store, "before", &["--rm"]);
    store.ok(&["rename", "before", "after"]);
    store.ok(&["stop", "after"]);
    eventually("the container to be gone", || store.ok(&["ps", "-aq"]).is_empty());
    store.ok(&["create", "--name", "after", IMAGE, "true"]);
    store.ok(&["create", "--name", "before", IMAGE, "true"]);
}

#[test]
fn commands_on_unknown_containers_say_so() {
    let store = Store::new();
    let commands: [&[&str]; 16] = [
        &["start"],
        &["start", "-a"],
        &["stop"],
        &["kill"],
        &["restart"],
        &["rm"],
        &["logs"],
        &["attach"],
        &["wait"],
        &["pause"],
        &["unpause"],
        &["top"],
        &["commit"],
        &["container", "stop"],
        &["container", "inspect"],
        &["rename"],
    ];
    for command in commands {
        let mut args = command.to_vec();
        args.push("nosuch");
        if command == ["rename"] {
            args.push("newname");
        }
        let error = store.fails(1, &args);
        assert!(error.contains("No such container: nosuch"), "{command:?}: {error}");
    }
    assert!(store.fails(1, &["exec", "nosuch", "true"]).contains("No such container: nosuch"));
    // Of the form of an id.
    assert!(store.fails(1, &["stop", "0123456789ab"]).contains("No such container: 0123456789ab"));
    assert!(store.fails(1, &["stop", "../containers"]).contains("No such container: ../containers"));
}

// ---- removing

#[test]
fn rm_says_the_name_it_was_given_and_frees_it() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "gone", IMAGE, "true"]);
    store.ok(&["create", "--name", "gone-too", IMAGE, "true"]);
    assert_eq!(store.ok(&["rm", &id[..12], "gone-too"]), format!("{}\ngone-too", &id[..12]));
    assert!(store.fails(1, &["rm", "gone"]).contains("No such container: gone"));
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn rm_refuses_a_running_container_and_force_removes_it() {
    let store = Store::new();
    let id = sleeper(&store, "up");
    let error = store.fails(1, &["rm", "up"]);
    let text = format!(
        "You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
    );
    assert!(error.contains(&text), "{error}");
    assert_eq!(status(&store, "up"), "running");
    assert_eq!(store.ok(&["rm", "-f", "up"]), "up");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    assert!(cgroups_of(&id).is_empty());
    assert!(!store.root().join("containers").join(&id).exists());
}

#[test]
fn rm_refuses_a_paused_container_and_force_removes_it() {
    let store = Store::new();
    sleeper(&store, "frozen");
    store.ok(&["pause", "frozen"]);
    assert!(store.fails(1, &["rm", "frozen"]).contains("You cannot remove a paused container"));
    store.ok(&["rm", "-f", "frozen"]);
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn rm_force_does_not_mind_a_missing_container() {
    let store = Store::new();
    store.ok(&["create", "--name", "here", IMAGE, "true"]);
    let done = store.run(&["rm", "-f", "nosuch", "here"]);
    assert_eq!((done.code, done.out.as_str()), (0, "here\n"), "{done:?}");
    assert!(done.err.contains("No such container: nosuch"), "{done:?}");
    store.fails(1, &["rm", "-f"]);
}

#[test]
fn rm_goes_on_after_a_container_it_cannot_remove() {
    let store = Store::new();
    sleeper(&store, "busy");
    store.ok(&["create", "--name", "idle", IMAGE, "true"]);
    let done = store.run(&["rm", "nosuch", "busy", "idle"]);
    assert_eq!((done.code, done.out.as_str()), (1, "idle\n"), "{done:?}");
    assert_eq!(listed(&store, &["-a"]), ["busy"]);
}

#[test]
fn all_running_containers_are_removed_by_their_short_ids() {
    let store = Store::new();
    for name in ["r1", "r2", "r3", "r4"] {
        sleeper(&store, name);
    }
    store.ok(&["create", "--name", "stays", IMAGE, "true"]);
    let script = "\"$0\" \"$@\" rm -f $(\"$0\" \"$@\" ps -q)";
    let done = crate::support::done(&mut store.through_shell(script, &[]));
    assert_eq!((done.code, done.out.lines().count()), (0, 4), "{done:?}");
    assert_eq!(listed(&store, &["-a"]), ["stays"]);
}

#[test]
fn a_container_is_removed_only_once_by_many_at_once() {
    let store = Store::new();
    sleeper(&store, "wanted");
    let all: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.run(&["rm", "-f", "wanted"]))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.iter().all(|d| d.code == 0), "{all:?}");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_container_run_with_rm_is_gone_after_its_end() {
    let store = Store::new();
    let id = trapper(&store, "passing", &["--rm"]);
    assert_eq!(store.inspect("passing", "{{.HostConfig.AutoRemove}}"), "true");
    store.ok(&["stop", "passing"]);
    assert!(store.fails(1, &["inspect", &id]).contains("No such object"));
    assert!(!store.root().join("containers").join(&id).exists());
    store.ok(&["run", "--rm", "--name", "passing", IMAGE, "true"]);
}

#[test]
fn rm_and_restart_exclude_each_other() {
    let store = Store::new();
    let error = store.fails(125, &["run", "--rm", "--restart", "always", IMAGE, "true"]);
    assert!(error.contains("Conflicting options: --restart and --rm"), "{error}");
}

// ---- starting

#[test]
fn a_created_container_is_started_and_ends() {
    let store = Store::new();
    store.ok(&["create", "--name", "later", IMAGE, "sh", "-c", "echo started; exit 4"]);
    assert_eq!(status(&store, "later"), "created");
    assert_eq!(store.ok(&["start", "later"]), "later");
    assert_eq!(store.ok(&["wait", "later"]), "4");
    assert_eq!(store.ok(&["logs", "later"]), "started");
    assert_eq!(status(&store, "later"), "exited");
}

#[test]
fn start_goes_on_after_an_unknown_name_and_tells_at_the_end() {
    let store = Store::new();
    store.ok(&["create", "--name", "aa", IMAGE, "sleep", "1000"]);
    store.ok(&["create", "--name", "bb", IMAGE, "sleep", "1000"]);
    let done = store.run(&["start", "aa", "nosuch", "bb"]);
    assert_eq!((done.code, done.out.as_str()), (1, "aa\nbb\n"), "{done:?}");
    assert!(done.err.contains("No such container: nosuch"), "{done:?}");
    assert!(done.err.contains("Error: failed to start containers: nosuch"), "{done:?}");
    assert_eq!((status(&store, "aa"), status(&store, "bb")), ("running".into(), "running".into()));
}

#[test]
fn starting_a_running_container_changes_nothing() {
    let store = Store::new();
    sleeper(&store, "once");
    let pid = store.inspect("once", "{{.State.Pid}}");
    assert_eq!(store.ok(&["start", "once"]), "once");
    assert_eq!(store.inspect("once", "{{.State.Pid}}"), pid);
}

#[test]
fn many_starts_at_once_start_a_container_once() {
    let store = Store::new();
    store.ok(&["create", "--name", "contended", IMAGE, "sh", "-c", "echo begun; exec sleep 1000"]);
    let all: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| store.run(&["start", "contended"]))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.iter().all(|d| (d.code, d.out.as_str()) == (0, "contended\n")), "{all:?}");
    logged(&store, "contended", "begun");
    assert_eq!(store.ok(&["logs", "contended"]), "begun");
    assert_eq!(store.ok(&["top", "contended"]).lines().count(), 2);
}

#[test]
fn start_attached_brings_output_and_status() {
    let store = Store::new();
    store.ok(&["create", "--name", "again", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 9"]);
    for _ in 0..2 {
        let done = store.run(&["start", "-a", "again"]);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (9, "out\n", "err\n"));
    }
    assert_eq!(store.run(&["logs", "again"]).out, "out\nout\n");
}

#[test]
fn start_attached_and_interactive_feeds_the_command() {
    let store = Store::new();
    store.ok(&["create", "-i", "--name", "fed", IMAGE, "sh", "-c", "cat; exit 6"]);
    let done = store.run_with_input(&["start", "-a", "-i", "fed"], b"some\0bytes");
    assert_eq!((done.code, done.raw.as_slice()), (6, &b"some\0bytes"[..]));
}

#[test]
fn start_attaches_to_what_runs_already() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "up", IMAGE, "probe", "trap"]);
    logged(&store, "up", "ready");
    let mut client = store.spawn(&["start", "-a", "up"]);
    eventually("the client to listen", || {
        let told = store.ok(&["events", "--since", "1h", "--until", "0s", "-f", "event=attach"]);
        told.lines().count() == 1
    });
    store.ok(&["kill", "-s", "TERM", "up"]);
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!((client.wait().unwrap().code(), out.as_str()), (Some(40), "signal 15\n"));
}

#[test]
fn start_attaches_to_one_container_only() {
    let store = Store::new();
    store.ok(&["create", "--name", "aa", IMAGE, "true"]);
    store.ok(&["create", "--name", "bb", IMAGE, "true"]);
    let error = store.fails(1, &["start", "-a", "aa", "bb"]);
    assert!(error.contains("you cannot start and attach multiple containers at once"), "{error}");
    assert_eq!(listed(&store, &["-a", "--filter", "status=created"]).len(), 2);
}

#[test]
fn a_container_whose_command_is_missing_stays_created() {
    let store = Store::new();
    let done = store.run(&["run", "-d", "--name", "broken", IMAGE, "/no/such"]);
    assert_eq!((done.code, done.out.trim().len()), (127, 64), "{done:?}");
    assert!(done.err.contains("/no/such"), "{done:?}");
    assert_eq!(status(&store, "broken"), "created");
    assert_eq!(exit_code(&store, "broken"), "127");
    assert!(store.inspect("broken", "{{.State.Error}}").contains("/no/such"));
    assert_eq!(shown_status(&store, "broken"), "Created");
    let done = store.run(&["start", "broken"]);
    assert!(done.code != 0 && done.err.contains("failed to start containers: broken"), "{done:?}");
    store.ok(&["rm", "broken"]);
}

#[test]
fn a_started_again_container_keeps_its_files() {
    let store = Store::new();
    let script = "echo x >> /count; mkdir -p /dir; cat /count; rm -f /etc/group";
    store.ok(&["run", "--name", "keeps", IMAGE, "sh", "-c", script]);
    assert_eq!(store.ok(&["start", "-a", "keeps"]), "x\nx");
    store.ok(&["restart", "keeps"]);
    store.ok(&["wait", "keeps"]);
    assert_eq!(store.ok(&["start", "-a", "keeps"]), "x\nx\nx\nx");
    let upper = store.root().join("containers").join(store.inspect("keeps", "{{.Id}}")).join("upper");
    assert!(upper.join("dir").is_dir());
}

#[test]
fn restart_gives_a_running_container_new_processes() {
    let store = Store::new();
    let id = trapper(&store, "renewed", &[]);
    let pid = store.inspect("renewed", "{{.State.Pid}}");
    assert_eq!(store.ok(&["restart", "renewed"]), "renewed");
    assert_ne!(store.inspect("renewed", "{{.State.Pid}}"), pid);
    assert_eq!(store.inspect("renewed", "{{.Id}} {{.State.Status}} {{.RestartCount}}"), format!("{id} running 0"));
    eventually("the second start's line", || store.ok(&["logs", "renewed"]).matches("ready").count() == 2);
}

#[test]
fn restart_starts_a_stopped_container_and_goes_on_after_an_unknown_one() {
    let store = Store::new();
    store.ok(&["create", "--name", "cold", IMAGE, "sleep", "1000"]);
    let done = store.run(&["restart", "-t", "0", "nosuch", "cold"]);
    assert_eq!((done.code, done.out.as_str()), (1, "cold\n"), "{done:?}");
    assert_eq!(status(&store, "cold"), "running");
}

// ---- stopping

#[test]
fn stop_asks_with_sigterm_and_the_command_decides_its_status() {
    let store = Store::new();
    trapper(&store, "polite", &[]);
    assert_eq!(store.ok(&["stop", "polite"]), "polite");
    assert_eq!((status(&store, "polite"), exit_code(&store, "polite")), ("exited".into(), "40".into()));
    assert_eq!(store.ok(&["logs", "polite"]), "ready\nsignal 15");
}

#[test]
fn stop_kills_what_ignores_sigterm() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "deaf", IMAGE, "probe", "ignore-term"]);
    logged(&store, "deaf", "ready");
    assert_eq!(store.ok(&["stop", "-t", "1", "deaf"]), "deaf");
    assert_eq!((status(&store, "deaf"), exit_code(&store, "deaf")), ("exited".into(), "137".into()));
}

#[test]
fn stop_timeout_of_the_container_is_used() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "short", "--stop-timeout", "1", IMAGE, "probe", "ignore-term"]);
    logged(&store, "short", "ready");
    assert_eq!(store.inspect("short", "{{.Config.StopTimeout}}"), "1");
    store.ok(&["stop", "short"]);
    assert_eq!(exit_code(&store, "short"), "137");
}

#[test]
fn stop_uses_the_stop_signal_of_container_image_and_command_line() {
    let store = Store::new();
    store.loaded_image("hup-image", r#"{"StopSignal":"SIGHUP"}"#);
    let script = "trap 'exit 1' HUP; trap 'exit 10' USR1; trap 'exit 12' USR2; trap 'exit 15' TERM; \
                  echo ready; sleep 1000 & wait";
    let run = |name: &str, options: &[&str], image: &str| {
        let args = [&["run", "-d", "--name", name], options, &[image, "sh", "-c", script]].concat();
        store.ok(&args);
        logged(&store, name, "ready");
    };
    run("by-option", &["--stop-signal", "USR1"], IMAGE);
    run("by-image", &[], "hup-image");
    run("by-option-over-image", &["--stop-signal", "SIGUSR1"], "hup-image");
    run("by-flag", &["--stop-signal", "10"], IMAGE);
    store.ok(&["stop", "by-option", "by-image", "by-option-over-image"]);
    store.ok(&["stop", "-s", "USR2", "by-flag"]);
    let codes = ["by-option", "by-image", "by-option-over-image", "by-flag"].map(|n| exit_code(&store, n));
    assert_eq!(codes, ["10", "1", "10", "12"]);
}

#[test]
fn stopping_what_does_not_run_is_fine() {
    let store = Store::new();
    ended(&store, "done", 3);
    store.ok(&["create", "--name", "never", IMAGE, "true"]);
    assert_eq!(store.ok(&["stop", "done", "never"]), "done\nnever");
    assert_eq!(exit_code(&store, "done"), "3");
    assert_eq!(status(&store, "never"), "created");
}

#[test]
fn stop_takes_several_and_goes_on_after_an_unknown_one() {
    let store = Store::new();
    trapper(&store, "s1", &[]);
    trapper(&store, "s2", &[]);
    let done = store.run(&["stop", "s1", "nosuch", "s2"]);
    assert_eq!((done.code, done.out.as_str()), (1, "s1\ns2\n"), "{done:?}");
    assert_eq!(listed(&store, &[]), [""; 0]);
}

#[test]
fn stop_asks_all_before_it_waits_for_one() {
    let store = Store::new();
    let waiter = |name: &str, on_term: &str| {
        let script = format!("trap '{on_term}; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        store.ok(&["run", "-d", "--name", name, "-v", "shared:/v", IMAGE, "sh", "-c", &script]);
        logged(&store, name, "ready");
    };
    waiter("first", "until [ -e /v/asked ]; do sleep 0.05; done");
    waiter("second", "touch /v/asked");
    assert_eq!(store.ok(&["stop", "-t", "60", "first", "second"]), "first\nsecond");
    assert_eq!((exit_code(&store, "first"), exit_code(&store, "second")), ("7".into(), "7".into()));
}

#[test]
fn a_paused_container_can_be_stopped_and_killed() {
    let store = Store::new();
    trapper(&store, "p1", &[]);
    trapper(&store, "p2", &[]);
    store.ok(&["pause", "p1", "p2"]);
    store.ok(&["stop", "p1"]);
    assert_eq!(exit_code(&store, "p1"), "40");
    store.ok(&["kill", "p2"]);
    assert_eq!((status(&store, "p2"), exit_code(&store, "p2")), ("exited".into(), "137".into()));
}

#[test]
fn kill_ends_with_137_and_says_the_name() {
    let store = Store::new();
    trapper(&store, "victim", &[]);
    assert_eq!(store.ok(&["kill", "victim"]), "victim");
    assert_eq!((status(&store, "victim"), exit_code(&store, "victim")), ("exited".into(), "137".into()));
}

#[test]
fn kill_sends_the_signal_it_is_given_in_any_spelling() {
    let store = Store::new();
    trapper(&store, "hears", &[]);
    for (spelling, number) in [("HUP", 1), ("SIGUSR1", 10), ("12", 12), ("int", 2), ("sigwinch", 28)] {
        assert_eq!(store.ok(&["kill", "-s", spelling, "hears"]), "hears");
        eventually(&format!("signal {number}"), || {
            store.ok(&["logs", "hears"]).lines().any(|l| l == format!("signal {number}"))
        });
    }
    assert_eq!(status(&store, "hears"), "running");
    assert!(store.fails(1, &["kill", "-s", "NOPE", "hears"]).contains("Invalid signal: NOPE"));
    assert!(store.fails(1, &["kill", "--signal=99", "hears"]).contains("Invalid signal: 99"));
    assert_eq!(status(&store, "hears"), "running");
}

#[test]
fn kill_of_a_container_that_does_not_run_is_an_error() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "still", IMAGE, "true"]);
    for _ in 0..2 {
        let error = store.fails(1, &["kill", "still"]);
        let text = format!("Cannot kill container: still: Container {id} is not running");
        assert!(error.contains(&text), "{error}");
        store.ok(&["start", "-a", "still"]);
    }
}

// ---- waiting

#[test]
fn wait_prints_the_statuses_of_ended_and_running_containers() {
    let store = Store::new();
    ended(&store, "ended", 3);
    trapper(&store, "running", &[]);
    let mut waiting = store.command(&["wait", "ended", "running"]);
    let mut waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(waiting.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert_eq!(line, "3\n");
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    store.ok(&["stop", "running"]);
    line.clear();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert_eq!(line, "40\n");
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    let done = store.run(&["wait", "nosuch", "ended"]);
    assert_eq!((done.code, done.out.as_str()), (1, "3\n"), "{done:?}");
}

#[test]
fn wait_knows_the_status_of_a_container_that_is_removed_at_its_end() {
    let store = Store::new();
    trapper(&store, "brief", &["--rm"]);
    let waiting = store.command(&["wait", "brief"]).stdout(Stdio::piped()).spawn().unwrap();
    // It is connected when the container's supervisor is: that shows in its open files.
    eventually("the waiter to be connected", || has_socket(waiting.id()));
    store.ok(&["stop", "brief"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"40\n"[..]));
}

/// Whether a process has a connected Unix socket.
fn has_socket(pid: u32) -> bool {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let is_socket =
        |e: std::fs::DirEntry| std::fs::read_link(e.path()).is_ok_and(|t| t.to_string_lossy().starts_with("socket:"));
    fds.flatten().any(is_socket)
}

// ---- pausing

#[test]
fn a_paused_container_is_frozen_until_it_is_unpaused() {
    let store = Store::new();
    trapper(&store, "still", &["--stop-signal", "TERM"]);
    assert_eq!(store.ok(&["pause", "still"]), "still");
    assert_eq!(store.inspect("still", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"), "paused true true");
    assert!(shown_status(&store, "still").ends_with(" (Paused)"));
    store.ok(&["kill", "-s", "USR1", "still"]);
    assert_eq!(store.ok(&["logs", "still"]), "ready");
    assert_eq!(status(&store, "still"), "paused");
    assert_eq!(store.ok(&["unpause", "still"]), "still");
    logged(&store, "still", "signal 10");
    assert_eq!(status(&store, "still"), "running");
}

#[test]
fn a_paused_container_refuses_exec_attach_start_and_a_second_pause() {
    let store = Store::new();
    let id = sleeper(&store, "cold");
    store.ok(&["pause", "cold"]);
    let error = store.fails(1, &["exec", "cold", "true"]);
    assert!(error.contains("Container cold is paused, unpause the container before exec"), "{error}");
    let error = store.fails(1, &["attach", "cold"]);
    assert!(error.contains("You cannot attach to a paused container, unpause it first"), "{error}");
    let error = store.fails(1, &["start", "cold"]);
    assert!(error.contains("cannot start a paused container, try unpause instead"), "{error}");
    let error = store.fails(1, &["pause", "cold"]);
    assert!(error.contains(&format!("Container {id} is already paused")), "{error}");
    store.ok(&["unpause", "cold"]);
    assert_eq!(store.ok(&["exec", "cold", "echo", "warm"]), "warm");
}

#[test]
fn pausing_what_does_not_run_and_unpausing_what_is_not_paused_are_errors() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "idle", IMAGE, "true"]);
    assert!(store.fails(1, &["pause", "idle"]).contains(&format!("Container {id} is not running")));
    assert!(store.fails(1, &["unpause", "idle"]).contains(&format!("Container {id} is not paused")));
    let id = sleeper(&store, "busy");
    assert!(store.fails(1, &["unpause", "busy"]).contains(&format!("Container {id} is not paused")));
    assert_eq!(status(&store, "busy"), "running");
}

// ---- restart policies

#[test]
fn on_failure_restarts_so_often_and_then_gives_up() {
    let store = Store::new();
    let args = ["run", "-d", "--name", "fails", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo try; exit 3"];
    store.ok(&args);
    becomes(&store, "fails", "exited");
    assert_eq!(store.inspect("fails", "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    assert_eq!(store.ok(&["logs", "fails"]), "try\ntry\ntry");
    let policy = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(store.inspect("fails", policy), "on-failure 2");
    store.rests();
}

#[test]
fn on_failure_is_content_with_success() {
    let store = Store::new();
    let script = "echo try; test -e /second && exit 0; touch /second; exit 1";
    store.ok(&["run", "-d", "--name", "recovers", "--restart", "on-failure", IMAGE, "sh", "-c", script]);
    becomes(&store, "recovers", "exited");
    assert_eq!(store.inspect("recovers", "{{.RestartCount}} {{.State.ExitCode}}"), "1 0");
    assert_eq!(store.ok(&["logs", "recovers"]), "try\ntry");
}

#[test]
fn always_restarts_after_success_until_it_is_stopped() {
    let store = Store::new();
    for policy in ["always", "unless-stopped"] {
        store.ok(&["run", "-d", "--name", policy, "--restart", policy, IMAGE, "sh", "-c", "echo try; exit 0"]);
    }
    for policy in ["always", "unless-stopped"] {
        eventually("two restarts", || store.inspect(policy, "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
        store.ok(&["stop", policy]);
        assert_eq!(status(&store, policy), "exited");
    }
    store.rests();
    let tries = store.ok(&["logs", "always"]).lines().count();
    let restarts: usize = store.inspect("always", "{{.RestartCount}}").parse().unwrap();
    assert!(tries == restarts + 1 || tries == restarts, "{tries} lines of {restarts} restarts");
}

#[test]
fn a_container_that_is_restarted_keeps_its_files_and_id() {
    let store = Store::new();
    let script = "echo x >> /runs; test $(wc -l < /runs) -ge 3 && exec sleep 1000; exit 1";
    let id = store.ok(&["run", "-d", "--name", "keeps", "--restart", "always", IMAGE, "sh", "-c", script]);
    eventually("the third run", || store.inspect("keeps", "{{.RestartCount}} {{.State.Status}}") == "2 running");
    eventually("the third line", || store.run(&["exec", "keeps", "wc", "-l", "/runs"]).out == "3 /runs\n");
    assert_eq!(store.inspect("keeps", "{{.Id}} {{.State.ExitCode}}"), format!("{id} 0"));
}

#[test]
fn stop_of_a_running_container_disarms_its_policy_and_start_arms_it_again() {
    let store = Store::new();
    trapper(&store, "armed", &["--restart", "always"]);
    store.ok(&["stop", "armed"]);
    assert_eq!((status(&store, "armed"), exit_code(&store, "armed")), ("exited".into(), "40".into()));
    store.rests();
    store.ok(&["start", "armed"]);
    eventually("it to be ready again", || store.ok(&["logs", "armed"]).matches("ready").count() == 2);
    let pid = store.inspect("armed", "{{.State.Pid}}").parse().unwrap();
    signal(pid, libc::SIGKILL);
    eventually("a restart", || store.inspect("armed", "{{.RestartCount}} {{.State.Status}}") == "1 running");
}

#[test]
fn kill_disarms_the_policy_unless_a_stop_signal_was_chosen_and_it_is_another() {
    let store = Store::new();
    let script = "trap 'exit 7' USR1; echo ready; sleep 1000 & wait";
    store.ok(&["run", "-d", "--name", "soft", "--restart", "always", IMAGE, "sh", "-c", script]);
    logged(&store, "soft", "ready");
    store.ok(&["kill", "-s", "USR1", "soft"]);
    becomes(&store, "soft", "exited");
    assert_eq!((store.inspect("soft", "{{.RestartCount}}"), exit_code(&store, "soft")), ("0".into(), "7".into()));
    let mut args = vec!["run", "-d", "--name", "tough", "--restart", "always", "--stop-signal", "TERM"];
    args.extend([IMAGE, "sh", "-c", script]);
    store.ok(&args);
    logged(&store, "tough", "ready");
    store.ok(&["kill", "-s", "USR1", "tough"]);
    eventually("a restart", || store.inspect("tough", "{{.RestartCount}} {{.State.Status}}") == "1 running");
    store.ok(&["kill", "tough"]);
    assert_eq!((status(&store, "tough"), exit_code(&store, "tough")), ("exited".into(), "137".into()));
    store.rests();
}

/// A container in the long pauses between its restarts.
fn restarting(store: &Store, name: &str) {
    store.ok(&["run", "-d", "--name", name, "--restart", "always", IMAGE, "sh", "-c", "exit 3"]);
    eventually("a long pause between restarts", || {
        store.inspect(name, "{{.RestartCount}} {{.State.Status}}") == "5 restarting"
    });
}

#[test]
fn a_container_between_two_starts_shows_as_restarting() {
    let store = Store::new();
    restarting(&store, "crashes");
    let shown = shown_status(&store, "crashes");
    assert!(shown.starts_with("Restarting (3) ") && shown.ends_with(" ago"), "{shown}");
    let state = "{{.State.Restarting}} {{.State.Running}} {{.State.ExitCode}} {{.State.Pid}}";
    assert_eq!(store.inspect("crashes", state), "true true 3 0");
    assert_eq!(listed(&store, &["--filter", "status=restarting"]), ["crashes"]);
    let error = store.fails(1, &["exec", "crashes", "true"]);
    assert!(error.contains("is restarting, wait until the container is running"), "{error}");
    assert!(store.fails(1, &["rm", "crashes"]).contains("You cannot remove a restarting container"));
    assert_eq!(store.ok(&["rm", "-f", "crashes"]), "crashes");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    store.rests();
}

#[test]
fn a_restarting_container_can_be_stopped() {
    let store = Store::new();
    restarting(&store, "crashes");
    assert_eq!(store.ok(&["stop", "crashes"]), "crashes");
    assert_eq!((status(&store, "crashes"), exit_code(&store, "crashes")), ("exited".into(), "3".into()));
    store.rests();
}

#[test]
fn a_restarting_container_can_be_killed() {
    let store = Store::new();
    restarting(&store, "crashes");
    assert_eq!(store.ok(&["kill", "crashes"]), "crashes");
    assert_eq!(status(&store, "crashes"), "exited");
}

#[test]
fn the_first_start_must_work_whatever_the_policy() {
    let store = Store::new();
    let done = store.run(&["run", "-d", "--name", "never", "--restart", "always", IMAGE, "/no/such"]);
    assert_eq!(done.code, 127, "{done:?}");
    assert_eq!(store.inspect("never", "{{.State.Status}} {{.RestartCount}}"), "created 0");
}

#[test]
fn a_bad_restart_policy_is_refused() {
    let store = Store::new();
    for policy in ["sometimes", "on-failure:x", "always:3"] {
        let error = store.fails(125, &["run", "-d", "--restart", policy, IMAGE, "true"]);
        assert!(error.contains("restart"), "{policy}: {error}");
    }
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

// ---- what is shown of it

#[test]
fn status_and_times_follow_the_container() {
    let store = Store::new();
    let template =
        "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.StartedAt}} {{.State.FinishedAt}}";
    store.ok(&["create", "--name", "timed", IMAGE, "sh", "-c", "trap 'exit 3' TERM; echo ready; sleep 1000 & wait"]);
    let created = time(&store.inspect("timed", "{{.Created}}"));
    assert_eq!(store.inspect("timed", template), format!("created false 0 {NEVER} {NEVER}"));
    assert_eq!(shown_status(&store, "timed"), "Created");
    store.ok(&["start", "timed"]);
    let up = store.inspect("timed", template);
    let up: Vec<&str> = up.split(' ').collect();
    assert_eq!((up[0], up[1], up[2], up[4]), ("running", "true", "0", NEVER), "{up:?}");
    assert!(time(up[3]) >= created);
    assert!(shown_status(&store, "timed").starts_with("Up "), "{}", shown_status(&store, "timed"));
    logged(&store, "timed", "ready");
    store.ok(&["stop", "timed"]);
    let ended = store.inspect("timed", template);
    let ended: Vec<&str> = ended.split(' ').collect();
    assert_eq!(ended[..4], ["exited", "false", "3", up[3]], "{ended:?}");
    assert!(time(ended[4]) >= time(up[3]));
    let shown = shown_status(&store, "timed");
    assert!(shown.starts_with("Exited (3) ") && shown.ends_with(" ago"), "{shown}");
    assert_eq!(store.inspect("timed", "{{.State.Pid}}"), "0");
}

#[test]
fn ps_lists_running_containers_and_all_with_a() {
    let store = Store::new();
    assert_eq!(store.ok(&["ps"]).trim_end(), "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES");
    let up = store.ok(&["run", "-d", "--name", "upright", IMAGE, "sleep", "1000"]);
    ended(&store, "ended", 3);
    store.ok(&["create", "--name", "made", IMAGE, "true"]);
    let out = store.ok(&["ps"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    let row = lines[1];
    assert!(row.starts_with(&format!("{}   {IMAGE}   \"sleep 1000\"   ", &up[..12])), "{row}");
    assert!(row.contains(" ago ") && row.contains("   Up ") && row.ends_with("   upright"), "{row}");
    // The newest first.
    assert_eq!(listed(&store, &["-a"]), ["made", "ended", "upright"]);
    assert_eq!(listed(&store, &[]), ["upright"]);
    assert_eq!(store.ok(&["container", "ls", "-q"]), &up[..12]);
}

#[test]
fn ps_lists_the_newest_ones_with_l_and_n() {
    let store = Store::new();
    sleeper(&store, "eldest");
    for name in ["middle", "youngest"] {
        store.ok(&["create", "--name", name, IMAGE, "true"]);
    }
    assert_eq!(listed(&store, &["-l"]), ["youngest"]);
    assert_eq!(listed(&store, &["-n", "2"]), ["youngest", "middle"]);
    assert_eq!(listed(&store, &["--last", "9"]), ["youngest", "middle", "eldest"]);
    assert_eq!(listed(&store, &["-n", "-1"]), ["eldest"]);
    assert_eq!(listed(&store, &["-n", "1", "--filter", "name=middle"]), ["middle"]);
}

#[test]
fn ps_shortens_ids_and_commands_unless_told_not_to() {
    let store = Store::new();
    let id = store.ok(&["create", IMAGE, "echo", "a-rather-long-argument"]);
    assert_eq!(store.ok(&["ps", "-aq"]), &id[..12]);
    assert_eq!(store.ok(&["ps", "-aq", "--no-trunc"]), id);
    let format = "{{.ID}} {{.Command}}";
    assert_eq!(store.ok(&["ps", "-a", "--format", format]), format!("{} \"echo a-rather-long-…\"", &id[..12]));
    let full = store.ok(&["ps", "-a", "--no-trunc", "--format", format]);
    assert_eq!(full, format!("{id} \"echo a-rather-long-argument\""));
    store.ok(&["create", "--name", "quoted", IMAGE, "sh", "-c", "echo \"hi there\"; sleep 9", "it's", "a\tb"]);
    let quoted = store.ok(&["ps", "-a", "-f", "name=quoted", "--no-trunc", "--format", "{{.Command}}"]);
    assert_eq!(quoted, r#""sh -c 'echo \"hi there\"; sleep 9' it's a\tb""#);
    let short = store.ok(&["ps", "-a", "-f", "name=quoted", "--format", "{{.Command}}"]);
    assert_eq!(short, r#""sh -c 'echo \"hi the…""#);
    // What scripts would remove then.
    assert_eq!(store.ok(&["ps", "-aq", "-f", "id="]), "");
}

#[test]
fn ps_shows_the_size_of_what_a_container_wrote() {
    let store = Store::new();
    store.ok(&["run", "--name", "fat", IMAGE, "sh", "-c", "head -c 5000000 /dev/zero > /big"]);
    store.ok(&["create", "--name", "lean", IMAGE, "true"]);
    let size = |name: &str| store.ok(&["ps", "-as", "--filter", &format!("name={name}"), "--format", "{{.Size}}"]);
    assert!(size("fat").starts_with("5MB (virtual "), "{}", size("fat"));
    assert!(size("lean").starts_with("0B (virtual "), "{}", size("lean"));
    let table = store.ok(&["ps", "-a", "-s"]);
    assert!(table.lines().next().unwrap().trim_end().ends_with("NAMES     SIZE"), "{table}");
    assert!(table.lines().nth(1).unwrap().ends_with(")"), "{table}");
}

#[test]
fn ps_filters_by_id_and_name() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "web1", IMAGE, "true"]);
    store.ok(&["create", "--name", "web10", IMAGE, "true"]);
    store.ok(&["create", "--name", "other", IMAGE, "true"]);
    let by = |filter: &str| listed(&store, &["-a", "--filter", filter]);
    assert_eq!(by("name=web"), ["web10", "web1"]);
    assert_eq!(by("name=^web1$"), ["web1"]);
    assert_eq!(by("name=^/web1$"), ["web1"]);
    assert_eq!(by("name=ther"), ["other"]);
    assert_eq!(by("name=nosuch"), [""; 0]);
    assert_eq!(by(&format!("id={id}")), ["web1"]);
    assert_eq!(by(&format!("id={}", &id[..12])), ["web1"]);
    assert_eq!(listed(&store, &["-a", "--filter", "name=web10", "--filter", "name=other"]), ["other", "web10"]);
    assert_eq!(listed(&store, &["-a", "--filter", "name=web", "--filter", &format!("id={id}")]), ["web1"]);
}

#[test]
fn ps_filters_by_regular_expressions_of_names() {
    let store = Store::new();
    for name in ["db-1", "db-2", "db-x"] {
        store.ok(&["create", "--name", name, IMAGE, "true"]);
    }
    assert_eq!(listed(&store, &["-a", "--filter", "name=^db-[0-9]+$"]), ["db-2", "db-1"]);
    assert_eq!(listed(&store, &["-a", "--filter", "name=db.(1|x)"]), ["db-x", "db-1"]);
}

#[test]
fn ps_filters_by_label() {
    let store = Store::new();
    store.ok(&["create", "--name", "front", "-l", "tier=front", "-l", "own", IMAGE, "true"]);
    store.ok(&["create", "--name", "back", "--label", "tier=back", IMAGE, "true"]);
    store.ok(&["create", "--name", "bare", IMAGE, "true"]);
    let by = |filter: &str| listed(&store, &["-a", "--filter", filter]);
    assert_eq!(by("label=tier"), ["back", "front"]);
    assert_eq!(by("label=tier=front"), ["front"]);
    assert_eq!(by("label=own"), ["front"]);
    assert_eq!(by("label=tier=middle"), [""; 0]);
    assert_eq!(listed(&store, &["-a", "--filter", "label=tier", "--filter", "label=own"]), ["front"]);
    assert_eq!(store.ok(&["ps", "-a", "--filter", "name=back", "--format", "{{.Labels}}"]), "tier=back");
    let label = store.ok(&["ps", "-a", "--filter", "name=back", "--format", "{{.Label \"tier\"}}"]);
    assert_eq!(label, "back");
}

#[test]
fn ps_filters_by_status_and_exit_status() {
    let store = Store::new();
    sleeper(&store, "running");
    sleeper(&store, "paused");
    store.ok(&["pause", "paused"]);
    store.ok(&["run", "--name", "zero", IMAGE, "true"]);
    ended(&store, "three", 3);
    store.ok(&["create", "--name", "made", IMAGE, "true"]);
    // The filters show what is not running without -a, too.
    let by = |filter: &str| listed(&store, &["--filter", filter]);
    assert_eq!(by("status=running"), ["running"]);
    assert_eq!(by("status=paused"), ["paused"]);
    assert_eq!(by("status=created"), ["made"]);
    assert_eq!(by("status=exited"), ["three", "zero"]);
    assert_eq!(by("exited=3"), ["three"]);
    assert_eq!(by("exited=0"), ["zero"]);
    assert_eq!(listed(&store, &["--filter", "status=paused", "--filter", "status=created"]), ["made", "paused"]);
    let error = store.fails(1, &["ps", "--filter", "status=strange"]);
    assert!(error.contains("strange"), "{error}");
    assert!(store.fails(1, &["ps", "--filter", "nosuch=1"]).contains("nosuch"));
    assert!(store.fails(1, &["ps", "--filter", "status"]).contains("filter"));
}

#[test]
fn ps_filters_by_image_and_age() {
    let store = Store::new();
    store.image("derived", &["ENV x=1"]);
    store.ok(&["create", "--name", "c1", IMAGE, "true"]);
    store.ok(&["create", "--name", "c2", "derived", "true"]);
    store.ok(&["create", "--name", "c3", IMAGE, "true"]);
    let by = |filter: &str| listed(&store, &["-a", "--filter", filter]);
    assert_eq!(by(&format!("ancestor={IMAGE}")), ["c3", "c1"]);
    assert_eq!(by("ancestor=derived"), ["c2"]);
    let id = store.inspect("derived", "{{.Id}}");
    assert_eq!(by(&format!("ancestor={id}")), ["c2"]);
    assert_eq!(by("before=c2"), ["c1"]);
    assert_eq!(by("since=c2"), ["c3"]);
    assert_eq!(listed(&store, &["-a", "--filter", "since=c1", "--filter", "before=c3"]), ["c2"]);
    assert!(store.fails(1, &["ps", "-a", "--filter", "before=nosuch"]).contains("No such container: nosuch"));
}

#[test]
fn ps_counts_containers_of_images_made_from_the_ancestor() {
    let store = Store::new();
    store.committed_image(IMAGE, "child", "echo x > /x");
    store.ok(&["create", "--name", "of-child", "child", "true"]);
    assert_eq!(listed(&store, &["-a", "--filter", &format!("ancestor={IMAGE}")]), ["of-child"]);
}

#[test]
fn ps_prints_by_templates_tables_and_json() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "shown", "-l", "k=v", IMAGE, "echo", "hi"]);
    let ps = |format: &str| store.ok(&["ps", "-a", "--format", format]);
    assert_eq!(ps("{{.ID}}|{{.Image}}|{{.Names}}|{{.State}}|{{.Ports}}|{{.Networks}}"), {
        format!("{}|{IMAGE}|shown|created||bridge", &id[..12])
    });
    let table = ps("table {{.Names}}\\t{{.Status}}");
    assert_eq!(table.lines().map(str::trim_end).collect::<Vec<_>>(), ["NAMES     STATUS", "shown     Created"]);
    assert_eq!(ps("{{upper .Names}} {{if eq .State \"created\"}}new{{else}}old{{end}}"), "SHOWN new");
    for json in [ps("json"), ps("{{json .}}")] {
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["Names"], &value["Command"]), (&"shown".into(), &"\"echo hi\"".into()), "{json}");
        for key in ["ID", "Image", "CreatedAt", "RunningFor", "Ports", "State", "Status", "Labels", "Mounts", "Size"] {
            assert!(value[key].is_string(), "{key} in {json}");
        }
    }
    let error = store.fails(1, &["ps", "-a", "--format", "{{.Bad}}"]);
    assert!(error.contains("can't evaluate field Bad"), "{error}");
    assert!(store.fails(1, &["ps", "-a", "--format", "{{.ID"]).contains("template"));
}

#[test]
fn ps_shows_the_id_of_an_image_that_lost_its_name() {
    let store = Store::new();
    store.image("moving", &["ENV x=1"]);
    let old = store.inspect("moving", "{{.Id}}");
    store.ok(&["create", "--name", "stays", "moving", "true"]);
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Image}}"]), "moving");
    store.image("moving", &["ENV x=2"]);
    let short = old.strip_prefix("sha256:").unwrap()[..12].to_owned();
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Image}}"]), short);
    assert_eq!(store.inspect("stays", "{{.Image}}"), old);
}

fn ends_a_line(store: &Store, command: &str) -> bool {
    store.ok(&["top", "busy"]).lines().any(|l| l.ends_with(&format!("  {command}")))
}

#[test]
fn top_shows_the_processes_of_a_container() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "busy", "-u", "54321", IMAGE, "sh", "-c", "sleep 1111 & exec sleep 2222"]);
    eventually("both processes", || ["sleep 1111", "sleep 2222"].iter().all(|c| ends_a_line(&store, c)));
    let out = store.ok(&["top", "busy"]);
    let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(lines.len(), 3, "{out}");
    for (row, command) in lines[1..].iter().zip(["2222", "1111"]) {
        assert_eq!((row[0], row[7], row[8]), ("54321", "sleep", command), "{out}");
    }
    assert_eq!(lines[1][1], store.inspect("busy", "{{.State.Pid}}"));
    assert_eq!(lines[2][2], lines[1][1], "the second is a child of the first: {out}");
    store.ok(&["stop", "-t", "0", "busy"]);
    assert!(store.fails(1, &["top", "busy"]).contains("is not running"));
}

// ---- independence of the client

#[test]
fn a_container_survives_the_death_of_the_client_of_run() {
    let store = Store::new();
    let script = "while read -r l < /pipe; do echo got $l; done";
    let script = format!("mkfifo /pipe; echo ready; while :; do {script}; done");
    let mut command = store.command(&["run", "--name", "orphan", IMAGE, "sh", "-c", &script]);
    let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the container", || store.run(&["logs", "orphan"]).out.contains("ready"));
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(status(&store, "orphan"), "running");
    store.ok(&["exec", "orphan", "sh", "-c", "echo news > /pipe"]);
    logged(&store, "orphan", "got news");
    store.ok(&["stop", "-t", "0", "orphan"]);
    assert_eq!(exit_code(&store, "orphan"), "137");
}

#[test]
fn a_container_whose_client_died_while_it_wrote_much_goes_on() {
    let store = Store::new();
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 5";
    let mut command = store.command(&["run", "--name", "chatty", IMAGE, "sh", "-c", script]);
    let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 100];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut some).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(store.ok(&["wait", "chatty"]), "5");
    let log = store.ok(&["logs", "chatty"]);
    assert_eq!((log.lines().count(), log.lines().last()), (20000, Some("line 20000")));
}

#[test]
fn killing_the_client_of_a_detached_run_at_any_moment_leaves_a_manageable_container() {
    let store = Store::new();
    for delay in 0..15u64 {
        let name = format!("cut-{delay}");
        let mut command = store.command(&["run", "-d", "--name", &name, IMAGE, "sleep", "1000"]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay * 3));
        client.kill().unwrap();
        client.wait().unwrap();
    }
    // One that has begun to start may still be doing so.
    for name in listed(&store, &["-a"]) {
        if store.run(&["start", &name]).code != 0 {
            eventually("the start that was under way", || status(&store, &name) != "created");
        }
        assert_eq!(status(&store, &name), "running");
        assert_eq!(store.ok(&["exec", &name, "echo", "alive"]), "alive");
        store.ok(&["rm", "-f", &name]);
    }
    for delay in 0..15 {
        store.ok(&["run", "--rm", "--name", &format!("cut-{delay}"), IMAGE, "true"]);
    }
}

#[test]
fn a_container_survives_the_end_of_its_terminal() {
    let store = Store::new();
    let mut terminal = store.session_terminal(&["run", "-it", "--sig-proxy=false", "--name", "left", IMAGE, "sh"]);
    terminal.expect("# ");
    terminal.send("trap 'echo got hangup' HUP; echo set-$((1+1))\n");
    terminal.expect("set-2");
    terminal.hang_up();
    eventually("the client to end", || terminal.child.try_wait().unwrap().is_some());
    assert_eq!(status(&store, "left"), "running");
    assert_eq!(store.ok(&["exec", "left", "echo", "alive"]), "alive");
    assert!(!store.ok(&["logs", "left"]).contains("got hangup\r\n"));
    let mut terminal = store.terminal(&["attach", "left"]);
    terminal.send("echo back-$((1+1))\n");
    terminal.expect("back-2");
    terminal.send("exit 8\n");
    assert_eq!(terminal.wait(), 8);
}

#[test]
fn a_detached_container_does_not_hold_the_clients_pipes() {
    let store = Store::new();
    // The output ends although the container goes on.
    let done = crate::support::done(&mut store.through_shell(
        "\"$0\" \"$@\" | cat; echo end-of-output",
        &["run", "-d", "--name", "free", IMAGE, "sleep", "1000"],
    ));
    assert_eq!(done.out.lines().last(), Some("end-of-output"), "{done:?}");
    assert_eq!(status(&store, "free"), "running");
}

#[test]
fn a_supervisor_that_is_asked_to_end_stops_its_container_properly() {
    let store = Store::new();
    trapper(&store, "served", &["--restart", "always"]);
    signal(store.supervisor("served"), libc::SIGTERM);
    becomes(&store, "served", "exited");
    assert_eq!(exit_code(&store, "served"), "40");
}

#[test]
fn a_signal_from_outside_the_engine_is_seen_as_the_containers_end() {
    let store = Store::new();
    sleeper(&store, "hit");
    signal(store.inspect("hit", "{{.State.Pid}}").parse().unwrap(), libc::SIGKILL);
    becomes(&store, "hit", "exited");
    assert_eq!(exit_code(&store, "hit"), "137");
    store.ok(&["start", "hit"]);
    assert_eq!(status(&store, "hit"), "running");
}

#[test]
fn ps_refuses_values_that_make_no_sense_and_finds_nothing_of_what_is_not_there() {
    let store = Store::new();
    for filter in ["status=nosuch", "health=nosuch", "exited=x", "is-task=maybe"] {
        let error = store.fails(1, &["ps", "-a", "--filter", filter]);
        assert!(error.contains(&format!("invalid filter '{filter}'")), "{error}");
    }
    store.ok(&["run", "-d", "--name", "up", IMAGE, "sleep", "1000"]);
    assert_eq!(listed(&store, &["-a", "--filter", "ancestor=nosuch"]), Vec::<String>::new());
    assert_eq!(listed(&store, &["-n", "0"]), ["up"]);
    assert_eq!(listed(&store, &["--filter", "is-task=true"]), Vec::<String>::new());
}

#[test]
fn a_commit_has_the_ports_and_the_check_that_were_asked_for() {
    let store = Store::new();
    let check = ["--health-cmd", "true", "--health-interval", "7s"];
    store.ok(&[
        &["create", "--name", "one", "--expose", "80", "-p", "127.0.0.1::81/udp"],
        &check[..],
        &[IMAGE, "true"],
    ]
    .concat());
    store.ok(&["commit", "one", "with"]);
    let shown = store.inspect("with", "{{json .Config.ExposedPorts}} {{json .Config.Healthcheck}}");
    assert_eq!(shown, r#"{"80/tcp":{},"81/udp":{}} {"Interval":7000000000,"Test":["CMD-SHELL","true"]}"#);
    store.ok(&["create", "--name", "two", "--no-healthcheck", "with", "true"]);
    store.ok(&["commit", "two", "without"]);
    assert_eq!(store.inspect("without", "{{json .Config.Healthcheck}}"), r#"{"Test":["NONE"]}"#);
}
