//! Sudden death of every process at any moment, and damaged files: the store stays whole and usable.

use crate::support::{IMAGE, Store, cgroups_of, eventually, fixture, signal};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Kills the supervisor of a container and waits until both it and the container's first process are gone.
fn kill_supervisor(store: &Store, name: &str) {
    let supervisor = store.supervisor(name);
    let init: i32 = store.inspect(name, "{{.State.Pid}}").parse().unwrap();
    signal(supervisor, libc::SIGKILL);
    eventually("the supervisor to be gone", || !lives(supervisor));
    if init != 0 {
        eventually("the container's process to die with it", || !lives(init));
    }
}

/// Whether a process exists and is no zombie.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|s| s.split_whitespace().next()).is_some_and(|state| state != "Z" && state != "X")
}

/// Starts a command and kills it after so long, unless it is faster.
fn kill_after(store: &Store, args: &[&str], delay: Duration) {
    let mut command = store.command(args);
    let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let _ = client.kill();
    client.wait().unwrap();
}

fn names(store: &Store, sub: &str) -> Vec<String> {
    let entries = std::fs::read_dir(store.root().join(sub)).unwrap().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn sleeper(store: &Store, name: &str, options: &[&str]) -> String {
    store.ok(&[&["run", "-d", "--name", name], options, &[IMAGE, "sleep", "1000"]].concat())
}

// ---- killed supervisors

#[test]
fn a_container_whose_supervisor_was_killed_has_ended_and_can_be_started_again() {
    let store = Store::new();
    let id =
        store.ok(&["run", "-d", "--name", "lost", IMAGE, "sh", "-c", "echo begun >> /log; cat /log; exec sleep 1000"]);
    eventually("its output", || store.ok(&["logs", "lost"]) == "begun");
    kill_supervisor(&store, "lost");
    let shown = store.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert!(shown.starts_with("lost Exited (137) "), "{shown}");
    assert!(cgroups_of(&id).is_empty(), "{:?}", cgroups_of(&id));
    assert_eq!(store.ok(&["ps", "-q"]), "");
    assert_eq!(store.inspect("lost", "{{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}"), "137 false 0");
    assert_ne!(store.inspect("lost", "{{.State.Error}}"), "");
    assert_eq!(store.ok(&["start", "lost"]), "lost");
    eventually("its further output", || store.ok(&["logs", "lost"]) == "begun\nbegun\nbegun");
    assert_eq!(store.inspect("lost", "{{.State.Status}} {{.State.Error}}"), "running ");
}

#[test]
fn any_command_may_be_the_first_after_the_supervisors_death() {
    let store = Store::new();
    let first: [(&[&str], i32); 7] = [
        (&["stop"], 0),
        (&["kill"], 1),
        (&["wait"], 0),
        (&["rm"], 0),
        (&["rm", "-f"], 0),
        (&["logs", "-f"], 0),
        (&["restart", "-t", "0"], 0),
    ];
    for (command, code) in first {
        let id = sleeper(&store, "lost", &[]);
        kill_supervisor(&store, "lost");
        let done = store.run(&[command, &["lost"]].concat());
        assert_eq!(done.code, code, "{command:?}: {done:?}");
        if command == ["wait"] {
            assert_eq!(done.out, "137\n");
        }
        if command != ["restart", "-t", "0"] {
            assert!(cgroups_of(&id).is_empty(), "{command:?}");
        }
        store.ok(&["rm", "-f", "lost"]);
    }
}

#[test]
fn a_container_to_be_removed_at_its_end_goes_with_its_supervisor() {
    let store = Store::new();
    let id = sleeper(&store, "lost", &["--rm", "-v", "/data"]);
    kill_supervisor(&store, "lost");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    assert!(cgroups_of(&id).is_empty());
    assert_eq!(names(&store, "containers"), [""; 0]);
    assert_eq!(names(&store, "volumes"), [""; 0]);
    store.ok(&["run", "--rm", "--name", "lost", IMAGE, "true"]);
}

#[test]
fn a_paused_container_whose_supervisor_was_killed_is_cleaned_up() {
    let store = Store::new();
    let id = sleeper(&store, "lost", &[]);
    store.ok(&["pause", "lost"]);
    let supervisor = store.supervisor("lost");
    signal(supervisor, libc::SIGKILL);
    eventually("the supervisor to be gone", || !lives(supervisor));
    assert!(store.ok(&["ps", "-a", "--format", "{{.Status}}"]).starts_with("Exited (137)"));
    assert!(cgroups_of(&id).is_empty());
    store.ok(&["start", "lost"]);
    assert_eq!(store.inspect("lost", "{{.State.Status}}"), "running");
}

#[test]
fn a_container_between_restarts_whose_supervisor_was_killed_has_ended() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "lost", "--restart", "always", IMAGE, "sh", "-c", "exit 3"]);
    eventually("a long pause", || store.inspect("lost", "{{.RestartCount}} {{.State.Status}}") == "5 restarting");
    kill_supervisor(&store, "lost");
    eventually("the end to be seen", || store.inspect("lost", "{{.State.Status}}") == "exited");
    store.ok(&["rm", "lost"]);
}

#[test]
fn processes_beside_the_first_one_die_with_the_supervisor_too() {
    let store = Store::new();
    let id = sleeper(&store, "lost", &[]);
    let mut client = store.spawn(&["exec", "lost", "sleep", "2000"]);
    eventually("the command", || store.ok(&["top", "lost"]).contains("sleep 2000"));
    store.ok(&["exec", "-d", "lost", "sh", "-c", "setsid sleep 3000 & setsid sleep 3001"]);
    eventually("the others", || store.ok(&["top", "lost"]).contains("sleep 3001"));
    kill_supervisor(&store, "lost");
    assert_eq!(client.wait().unwrap().code(), Some(137));
    assert!(store.ok(&["ps", "-a", "--format", "{{.Status}}"]).starts_with("Exited (137)"));
    assert!(cgroups_of(&id).is_empty());
    store.rests();
}

#[test]
fn the_death_of_an_execs_supervisor_ends_its_command_alone() {
    let store = Store::new();
    sleeper(&store, "host", &[]);
    let before: Vec<i32> = store.processes().iter().map(|(pid, _)| *pid).collect();
    let mut client = store.spawn(&["exec", "host", "sleep", "2000"]);
    eventually("the command", || store.ok(&["top", "host"]).contains("sleep 2000"));
    let new: Vec<i32> = store.processes().iter().map(|(pid, _)| *pid).collect();
    let new: Vec<i32> = new.into_iter().filter(|p| !before.contains(p) && *p != client.id() as i32).collect();
    assert_eq!(new.len(), 1, "{:?}", store.processes());
    signal(new[0], libc::SIGKILL);
    assert_ne!(client.wait().unwrap().code(), Some(0));
    eventually("the command to die", || !store.ok(&["top", "host"]).contains("sleep 2000"));
    assert_eq!(store.ok(&["exec", "host", "echo", "alive"]), "alive");
}

#[test]
fn a_client_that_waits_hears_of_its_supervisors_death() {
    let store = Store::new();
    let mut client = store.spawn(&["run", "--name", "lost", IMAGE, "sleep", "1000"]);
    eventually("the container", || store.run(&["inspect", "-f", "{{.State.Status}}", "lost"]).out == "running\n");
    kill_supervisor(&store, "lost");
    assert_ne!(client.wait().unwrap().code(), Some(0));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut client.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.contains("supervisor"), "{text}");
}

#[test]
fn a_supervisor_killed_at_any_moment_of_a_start_leaves_a_container_that_starts() {
    let store = Store::new();
    store.ok(&["create", "--name", "lost", IMAGE, "sleep", "1000"]);
    let id = store.inspect("lost", "{{.Id}}");
    for delay in 0..15u64 {
        let mut command = store.command(&["start", "lost"]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay * 2));
        kill_all(&store);
        client.wait().unwrap();
        let status = store.ok(&["ps", "-a", "--format", "{{.Status}}"]);
        assert!(status == "Created" || status.starts_with("Exited (137)"), "after {delay}: {status}");
    }
    store.ok(&["start", "lost"]);
    assert_eq!(store.ok(&["exec", "lost", "echo", "alive"]), "alive");
    store.ok(&["rm", "-f", "lost"]);
    assert!(cgroups_of(&id).is_empty(), "{:?}", cgroups_of(&id));
}

#[test]
fn a_container_that_was_cut_off_in_its_start_leaves_nothing_when_it_is_removed() {
    let store = Store::new();
    for delay in 0..15u64 {
        let id = store.ok(&["create", IMAGE, "sleep", "1000"]);
        let mut command = store.command(&["start", &id]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        kill_all(&store);
        client.wait().unwrap();
        store.ok(&["rm", "-f", &id]);
        assert!(cgroups_of(&id).is_empty(), "after {delay}: {:?}", cgroups_of(&id));
    }
}

#[test]
fn whoever_is_killed_while_he_makes_a_bridge_leaves_it_to_be_found() {
    let store = Store::new();
    let bridge = Path::new("/sys/class/net").join(minirun::network::tag(&store.root()));
    for round in 0..10 {
        let id = store.ok(&["create", IMAGE, "sleep", "1000"]);
        let mut command = store.command(&["start", &id]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !bridge.exists() {
            assert!(client.try_wait().unwrap().is_none_or(|status| status.success()));
        }
        // At once: to look through all of /proc would take longer than there is.
        for pid in client.id()..client.id() + 30 {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if command.windows(id.len()).any(|part| part == id.as_bytes()) {
                let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        kill_all(&store);
        client.wait().unwrap();
        if round % 2 == 1 {
            // It is good for the next who wants it, whatever it still lacked.
            let ping = "ping -c 1 -W 5 $(ip route | awk '/default/ { print $3 }')";
            store.ok(&["run", "--rm", IMAGE, "sh", "-c", ping]);
        }
        store.ok(&["rm", "-f", &id]);
        store.ok(&["network", "prune", "-f"]);
        assert!(!bridge.exists(), "the bridge is left");
    }
}

/// Kills all processes of the store but those in containers, as long as there are any: one may just be starting the
/// next, and one that is just executing its program has no command line to be known by.
fn kill_all(store: &Store) {
    let mut quiet = 0;
    eventually("all processes of the store to end", || {
        quiet += 1;
        for (pid, _) in store.processes().iter().filter(|(pid, _)| lives(*pid)) {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            quiet = 0;
        }
        quiet == 5
    });
}

#[test]
fn a_removal_in_the_middle_of_a_start_leaves_nothing() {
    let store = Store::new();
    for delay in 0..20u64 {
        let id = store.ok(&["create", "--name", "hasty", IMAGE, "sleep", "1000"]);
        let client = store.spawn(&["start", "hasty"]);
        std::thread::sleep(Duration::from_millis(delay));
        store.ok(&["rm", "-f", "hasty"]);
        let output = client.wait_with_output().unwrap();
        assert_eq!(store.ok(&["ps", "-aq"]), "", "after {delay}: {output:?}");
        store.rests();
        assert!(cgroups_of(&id).is_empty(), "after {delay}: {:?}", cgroups_of(&id));
    }
}

// ---- killed makers

/// After a maker was killed: all is as before but for the image `made`, which is whole or not there.
fn check_store(store: &Store, made: &str, command: &[&str], result: &str) {
    assert_eq!(store.ok(&["run", "--rm", IMAGE, "echo", "usable"]), "usable");
    // The next maker sweeps.
    assert_eq!(names(store, "tmp"), [""; 0]);
    if store.run(&["inspect", "--type", "image", made]).code == 0 {
        assert_eq!(store.ok(&[&["run", "--rm", made], command].concat()), result);
        store.ok(&["rmi", made]);
    }
    assert_eq!(store.ok(&["images", "--format", "{{.Repository}}"]), IMAGE);
}

#[test]
fn a_commit_killed_at_any_moment_leaves_no_half_image() {
    let store = Store::new();
    let script = "probe spew 5m > /big; md5sum /big; i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i > /f$i; done";
    let sum = store.ok(&["run", "--name", "source", IMAGE, "sh", "-c", script]);
    for delay in 0..15 {
        kill_after(&store, &["commit", "source", "snap"], Duration::from_millis(delay * 12));
        check_store(&store, "snap", &["md5sum", "/big"], &sum);
    }
    store.ok(&["commit", "source", "snap"]);
    assert_eq!(store.ok(&["run", "--rm", "snap", "md5sum", "/big"]), sum);
    assert_eq!(store.ok(&["run", "--rm", "snap", "cat", "/f300"]), "300");
}

#[test]
fn a_commit_killed_at_any_moment_does_not_leave_the_container_paused() {
    let store = Store::new();
    let script = "probe spew 20m > /big; echo ready; exec sleep 1000";
    store.ok(&["run", "-d", "--name", "source", IMAGE, "sh", "-c", script]);
    eventually("it to be ready", || store.ok(&["logs", "source"]) == "ready");
    for delay in 0..15 {
        kill_after(&store, &["commit", "source", "snap"], Duration::from_millis(delay * 12));
        eventually("the container to run on", || store.inspect("source", "{{.State.Status}}") == "running");
    }
    // The next maker sweeps.
    store.ok(&["run", "--rm", IMAGE, "true"]);
}

#[test]
fn a_commit_that_is_interrupted_by_its_terminal_does_not_leave_the_container_paused() {
    let store = Store::new();
    let script = "probe spew 200m > /big; echo ready; exec sleep 1000";
    store.ok(&["run", "-d", "--name", "source", IMAGE, "sh", "-c", script]);
    eventually("it to be ready", || store.ok(&["logs", "source"]) == "ready");
    // It may be done before the key arrives.
    eventually("a commit that is interrupted", || {
        let mut terminal = store.session_terminal(&["commit", "source", "snap"]);
        eventually("the pause, or the end", || {
            store.inspect("source", "{{.State.Status}}") == "paused" || terminal.child.try_wait().unwrap().is_some()
        });
        terminal.send("\x03");
        let status = terminal.wait();
        eventually("the container to run on", || store.inspect("source", "{{.State.Status}}") == "running");
        check_store(&store, "snap", &["true"], "");
        assert!(matches!(status, 0 | 130), "{status}");
        status == 130
    });
}

#[test]
fn an_import_killed_at_any_moment_leaves_no_half_image() {
    let store = Store::new();
    let tar = fixture("busybox.tar");
    let sum = store.ok(&["run", "--rm", IMAGE, "md5sum", "/bin/busybox"]);
    // Other content than the image's that is there: nothing can be shared.
    store.ok(&["run", "--name", "other", IMAGE, "sh", "-c", "probe spew 5m > /big"]);
    let changed = store.text("changed.tar");
    let script = "set -e; mkdir \"$2.d\"; tar -xf \"$1\" -C \"$2.d\"; head -c 5000000 /dev/urandom > \"$2.d/big\"; \
                  tar -cf \"$2\" -C \"$2.d\" .";
    let made = std::process::Command::new("sh").args(["-c", script, "sh", tar.to_str().unwrap(), &changed]).status();
    assert!(made.unwrap().success());
    store.ok(&["rm", "other"]);
    for delay in 0..15 {
        kill_after(&store, &["import", &changed, "fresh"], Duration::from_millis(delay * 12));
        check_store(&store, "fresh", &["md5sum", "/bin/busybox"], &sum);
    }
    store.ok(&["import", &changed, "fresh"]);
    assert_eq!(store.ok(&["run", "--rm", "fresh", "stat", "-c", "%s", "/big"]), "5000000");
}

#[test]
fn a_load_killed_at_any_moment_leaves_no_half_image() {
    let store = Store::empty();
    let archive = store.archive("loaded", r#"{"Cmd":["echo","whole"]}"#);
    for delay in 0..15 {
        kill_after(&store, &["load", "-i", &archive], Duration::from_millis(delay * 12));
        if store.run(&["inspect", "loaded"]).code == 0 {
            assert_eq!(store.ok(&["run", "--rm", "loaded"]), "whole");
            store.ok(&["rmi", "loaded"]);
        }
        assert_eq!(store.ok(&["images", "-aq"]), "", "after {delay}");
    }
    store.ok(&["load", "-i", &archive]);
    assert_eq!(store.ok(&["run", "--rm", "loaded"]), "whole");
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn a_create_killed_at_any_moment_leaves_its_name_to_others() {
    let store = Store::new();
    for delay in 0..20 {
        kill_after(&store, &["create", "--name", "again", IMAGE, "true"], Duration::from_micros(delay * 700));
        // It is there as a whole or its name is free.
        if store.ok(&["ps", "-a", "--format", "{{.Names}}"]).is_empty() {
            store.ok(&["create", "--name", "again", IMAGE, "true"]);
        }
        store.ok(&["start", "-a", "again"]);
        store.ok(&["rm", "again"]);
        assert_eq!(names(&store, "containers"), [""; 0]);
    }
    store.ok(&["run", "--rm", IMAGE, "true"]);
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn a_removal_killed_at_any_moment_can_be_repeated() {
    let store = Store::new();
    for delay in 0..15 {
        let id = sleeper(&store, "going", &["-v", "/data"]);
        kill_after(&store, &["rm", "-f", "-v", "going"], Duration::from_millis(delay));
        store.ok(&["rm", "-f", "-v", "going", &id]);
        assert_eq!(store.ok(&["ps", "-aq"]), "", "after {delay}");
        assert!(cgroups_of(&id).is_empty(), "after {delay}");
    }
    store.ok(&["run", "--rm", "--name", "going", IMAGE, "true"]);
    store.ok(&["rm", "-f", "nosuch"]);
    assert_eq!(names(&store, "containers"), [""; 0]);
    assert_eq!(names(&store, "trash"), [""; 0]);
}

#[test]
fn an_image_removal_killed_at_any_moment_can_be_repeated() {
    let store = Store::new();
    store.committed_image(IMAGE, "keeper", "echo x > /x");
    for delay in 0..12 {
        store.committed_image("keeper", "going", "probe spew 1m > /big");
        kill_after(&store, &["rmi", "going"], Duration::from_millis(delay));
        store.run(&["rmi", "going"]);
        assert_eq!(store.ok(&["run", "--rm", "keeper", "cat", "/x"]), "x", "after {delay}");
        let images = store.ok(&["images", "--format", "{{.Repository}}"]);
        assert_eq!(images.lines().filter(|l| *l == "going").count(), 0, "after {delay}");
    }
}

// ---- damaged files

#[test]
fn a_damaged_record_hides_no_other_container_and_can_be_removed() {
    let store = Store::new();
    sleeper(&store, "sound", &[]);
    for content in ["", "{", "null", "{\"version\":1}", "\u{0}\u{0}\u{0}"] {
        let id = store.ok(&["create", "--name", "bad", IMAGE, "true"]);
        std::fs::write(store.root().join("containers").join(&id).join("container.json"), content).unwrap();
        let done = store.run(&["ps", "-a", "--format", "{{.Names}}"]);
        assert_eq!((done.code, done.out.as_str()), (0, "sound\n"), "{content:?}: {done:?}");
        assert!(done.err.contains(&id), "{done:?}");
        assert_eq!(store.ok(&["exec", "sound", "echo", "alive"]), "alive");
        assert_eq!(store.ok(&["run", "--rm", IMAGE, "echo", "usable"]), "usable");
        assert_eq!(store.run(&["start", &id]).code, 1);
        assert_eq!(store.ok(&["rm", "-f", &id]), id);
        assert_eq!(store.run(&["ps", "-a"]).err, "");
        assert_eq!(names(&store, "containers").len(), 1);
    }
    // Its name is free again.
    store.ok(&["run", "--rm", "--name", "bad", IMAGE, "true"]);
}

#[test]
fn a_damaged_record_of_an_end_hides_no_other_container_and_can_be_removed() {
    let store = Store::new();
    sleeper(&store, "sound", &[]);
    let id = store.ok(&["run", "-d", "--name", "bad", IMAGE, "true"]);
    store.ok(&["wait", "bad"]);
    // What a power cut can leave of a file.
    std::fs::write(store.root().join("containers").join(&id).join("exit.json"), "").unwrap();
    let names = store.ok(&["ps", "-a", "--format", "{{.Names}}"]);
    assert!(names.lines().any(|l| l == "sound"), "{names}");
    store.ok(&["start", "bad"]);
    store.ok(&["wait", "bad"]);
    std::fs::write(store.root().join("containers").join(&id).join("exit.json"), "").unwrap();
    assert_eq!(store.ok(&["rm", "-f", "bad"]), "bad");
}

#[test]
fn a_container_folder_without_a_record_is_no_container() {
    let store = Store::new();
    let id = "0".repeat(64);
    std::fs::create_dir(store.root().join("containers").join(&id)).unwrap();
    assert_eq!(store.ok(&["ps", "-aq"]), "");
    store.ok(&["run", "--rm", IMAGE, "true"]);
    std::fs::remove_dir(store.root().join("containers").join(&id)).unwrap();
}

#[test]
fn a_name_that_leads_nowhere_is_free() {
    let store = Store::new();
    std::os::unix::fs::symlink("1".repeat(64), store.root().join("names/dangling")).unwrap();
    assert!(store.fails(1, &["inspect", "dangling"]).contains("No such object"));
    store.ok(&["run", "--rm", "--name", "dangling", IMAGE, "true"]);
}

/// All paths below a folder with their kinds, sizes and times of change.
fn listing(dir: &std::path::Path) -> String {
    let mut command = std::process::Command::new("find");
    let output = command.arg(dir).args(["-printf", "%p %y %s %T@ %C@\n"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_store_of_another_version_is_refused_and_not_touched() {
    let store = Store::new();
    store.ok(&["create", "--name", "inside", IMAGE, "true"]);
    let format = store.root().join("format");
    let known = std::fs::read(&format).unwrap();
    for text in ["minirun layout 99\n", "", "something else"] {
        std::fs::write(&format, text).unwrap();
        let before = listing(&store.root());
        let fixture = fixture("busybox.tar");
        for args in [
            &["ps", "-a"][..],
            &["run", IMAGE, "true"],
            &["rm", "-f", "inside"],
            &["import", fixture.to_str().unwrap(), "more"],
            &["rmi", IMAGE],
        ] {
            let done = store.run(args);
            assert_ne!(done.code, 0, "{args:?}");
            assert!(done.err.contains("layout"), "{args:?}: {done:?}");
        }
        assert_eq!(listing(&store.root()), before);
    }
    std::fs::write(&format, known).unwrap();
    assert_eq!(store.ok(&["start", "inside"]), "inside");
    store.ok(&["wait", "inside"]);
}

#[test]
fn a_folder_of_somebody_elses_is_refused_and_not_touched() {
    let store = Store::empty();
    std::fs::create_dir(store.root()).unwrap();
    std::fs::write(store.root().join("precious"), "data").unwrap();
    let before = listing(&store.root());
    let done = store.run(&["ps", "-a"]);
    assert_ne!(done.code, 0);
    assert!(done.err.contains("not empty"), "{done:?}");
    assert_eq!(listing(&store.root()), before);
}

#[test]
fn a_store_whose_laying_out_was_cut_off_is_completed() {
    for delay in 0..10 {
        let store = Store::empty();
        kill_after(&store, &["ps"], Duration::from_micros(delay * 300));
        assert_eq!(store.ok(&["ps", "-aq"]), "");
        store.ok(&["import", fixture("busybox.tar").to_str().unwrap(), IMAGE]);
        assert_eq!(store.ok(&["run", "--rm", IMAGE, "echo", "usable"]), "usable");
    }
}
