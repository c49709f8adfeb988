//! `run`: what a command in a container sees and how its end comes back.

use crate::support::{Done, IMAGE, Store, cgroups_of, done, eventually, facts, fixture};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What the probe sees in a container made with these flags.
fn probe_all(store: &Store, flags: &[&str]) -> BTreeMap<String, String> {
    facts(&store.ok(&[&["run", "--rm"], flags, &[IMAGE, "probe", "all"]].concat()))
}

/// The output of a shell script in a container made with these flags.
fn sh(store: &Store, flags: &[&str], script: &str) -> String {
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", script]].concat())
}

fn containers(store: &Store) -> Vec<String> {
    store.ok(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
}

// ---- entry point and command

#[test]
fn the_command_replaces_cmd_and_follows_the_entry_point() {
    let store = Store::new();
    store.image("both", &[r#"ENTRYPOINT ["echo", "entry"]"#, r#"CMD ["cmd", "two"]"#]);
    assert_eq!(store.ok(&["run", "--rm", "both"]), "entry cmd two");
    assert_eq!(store.ok(&["run", "--rm", "both", "mine"]), "entry mine");
    assert_eq!(store.ok(&["run", "--rm", "--entrypoint", "echo", "both"]), "", "--entrypoint clears CMD");
    assert_eq!(store.ok(&["run", "--rm", "--entrypoint", "echo", "both", "a", "b"]), "a b");
    store.image("cmd", &[r#"CMD ["echo", "from cmd"]"#]);
    assert_eq!(store.ok(&["run", "--rm", "cmd"]), "from cmd");
    assert_eq!(store.ok(&["run", "--rm", "cmd", "echo", "other"]), "other");
}

#[test]
fn the_shell_form_runs_in_a_shell() {
    let store = Store::new();
    store.image("shell", &["CMD echo \"$((40 + 2))\" $HOME"]);
    assert_eq!(store.ok(&["run", "--rm", "shell"]), "42 /root");
    store.image("shell-entry", &["ENTRYPOINT echo entry $0 $1", r#"CMD ["a", "b"]"#]);
    assert_eq!(store.ok(&["run", "--rm", "shell-entry"]), "entry a b", "CMD becomes $0 and $1 of the shell");
}

#[test]
fn an_empty_entry_point_takes_the_images_away() {
    let store = Store::new();
    store.image("entry", &[r#"ENTRYPOINT ["echo", "entry"]"#, r#"CMD ["cmd"]"#]);
    assert_eq!(store.ok(&["run", "--rm", "--entrypoint", "", "entry", "echo", "plain"]), "plain");
    assert_eq!(store.ok(&["run", "--rm", "--entrypoint=", "entry", "echo", "plain"]), "plain");
    let error = store.fails(125, &["run", "--rm", "--entrypoint", "", "entry"]);
    assert!(error.contains("No command specified"), "{error}");
    assert!(containers(&store).is_empty());
}

#[test]
fn without_any_command_nothing_is_made() {
    let store = Store::new();
    let error = store.fails(125, &["run", "--name", "none", IMAGE]);
    assert!(error.contains("No command specified"), "{error}");
    assert!(containers(&store).is_empty());
}

#[test]
fn flags_after_the_image_belong_to_the_command() {
    let store = Store::new();
    assert_eq!(store.ok(&["run", "--rm", IMAGE, "echo", "--rm", "-it", "--name=x", "-v"]), "--rm -it --name=x -v");
    assert_eq!(store.ok(&["run", "--rm", IMAGE, "echo", "--", "--help"]), "-- --help");
    store.image("entry", &[r#"ENTRYPOINT ["echo", "got"]"#]);
    assert_eq!(store.ok(&["run", "--rm", "entry", "-d", "--rm"]), "got -d --rm");
    assert_eq!(store.ok(&["run", "--rm", "entry", "--", "x"]), "got -- x");
    let id = store.ok(&["run", "-d", IMAGE, "sleep", "1000"]);
    assert_eq!(store.ok(&["exec", &id, "echo", "-it", "--help"]), "-it --help");
    store.fails(1, &["exec", &id]);
    let error = store.fails(127, &["exec", &id, "-i", "true"]);
    assert!(error.contains("\"-i\""), "{error}");
}

// ---- environment

#[test]
fn the_environment_has_dockers_order() {
    let store = Store::new();
    store.image("env", &["ENV A=1 B=2", r#"CMD ["env"]"#]);
    let out = store.ok(&["run", "--rm", "-h", "box", "-e", "C=3", "-e", "A=x", "env"]);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(out.lines().collect::<Vec<_>>(), [path, "HOSTNAME=box", "A=x", "B=2", "C=3", "HOME=/root"]);
}

#[test]
fn a_terminal_sets_term_and_nothing_else_leaks_in() {
    let store = Store::new();
    let mut command = store.command(&["run", "--rm", "-t", "-h", "box", IMAGE, "env"]);
    command.env("TERM", "screen").env("LEAK", "1").env("LD_PRELOAD", "");
    let out = done(&mut command).out.replace('\r', "");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(out.lines().collect::<Vec<_>>(), [path, "HOSTNAME=box", "TERM=xterm", "HOME=/root"]);
}

#[test]
fn variables_come_from_image_then_file_then_flag() {
    let store = Store::new();
    store.image("env", &["ENV A=image B=image C=image", r#"CMD ["env"]"#]);
    let file = store.write("vars", "# a note\n\nB=file\nC=file\n  D=file\nE=\"quoted\" # kept\nHOSTED\nABSENT\n");
    let mut command = store.command(&["run", "--rm", "--env-file", &file, "-e", "C=flag", "env"]);
    let all = facts(&done(command.env("HOSTED", "from host")).out);
    for (name, value) in [
        ("A", "image"),
        ("B", "file"),
        ("C", "flag"),
        ("D", "file"),
        ("E", "\"quoted\" # kept"),
        ("HOSTED", "from host"),
    ] {
        assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!all.contains_key("ABSENT"));
}

#[test]
fn a_bare_name_copies_the_hosts_variable_or_removes_the_images() {
    let store = Store::new();
    store.image("env", &["ENV GONE=1 COPIED=image EMPTY=image", r#"CMD ["env"]"#]);
    let mut command = store.command(&["run", "--rm", "-e", "GONE", "-e", "COPIED", "-e", "EMPTY=", "env"]);
    let all = facts(&done(command.env("COPIED", "a=b c").env_remove("GONE")).out);
    assert_eq!(all.get("COPIED").map(String::as_str), Some("a=b c"));
    assert_eq!(all.get("EMPTY").map(String::as_str), Some(""));
    assert!(!all.contains_key("GONE"));
}

#[test]
fn a_bad_variable_file_is_refused_with_its_line() {
    let store = Store::new();
    let file = store.write("vars", "A=1\nexport B=2\n");
    let error = store.fails(125, &["run", "--name", "xx", "--env-file", &file, IMAGE, "env"]);
    assert!(error.contains("line 2") && error.contains("export B"), "{error}");
    let error = store.fails(125, &["run", "--name", "xx", "--env-file", &store.text("nosuch"), IMAGE, "env"]);
    assert!(error.contains("nosuch"), "{error}");
    store.fails(125, &["run", "--name", "xx", "-e", "=1", IMAGE, "env"]);
    assert!(containers(&store).is_empty());
}

// ---- working directory, user, names

#[test]
fn the_working_directory_is_made_if_it_is_missing() {
    let store = Store::new();
    let out = sh(&store, &["-w", "/made/for/this"], "pwd; stat -c '%a %u:%g' . ..");
    assert_eq!(out, "/made/for/this\n755 0:0\n755 0:0");
    let out = sh(&store, &["-w", "/made", "-u", "tim"], "pwd; stat -c '%a %u:%g' .");
    assert_eq!(out, "/made\n755 0:0");
    store.image("dir", &["WORKDIR /opt/app", r#"CMD ["pwd"]"#]);
    assert_eq!(store.ok(&["run", "--rm", "dir"]), "/opt/app");
    assert_eq!(store.ok(&["run", "--rm", "-w", "/etc", "dir"]), "/etc");
}

#[test]
fn a_working_directory_that_cannot_be_is_refused() {
    let store = Store::new();
    let error = store.fails(125, &["run", "--name", "xx", "-w", "relative", IMAGE, "pwd"]);
    assert!(error.contains("absolute"), "{error}");
    assert!(containers(&store).is_empty());
    let done = store.run(&["run", "--rm", "-w", "/etc/passwd", IMAGE, "pwd"]);
    assert!(matches!(done.code, 125 | 126), "{done:?}");
    let done = store.run(&["run", "--rm", "-u", "tim", "-w", "/root", IMAGE, "pwd"]);
    assert!(done.code == 0 && done.out == "/root\n", "one that only root may enter is entered before: {done:?}");
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let store = Store::new();
    for (user, uid, gid, groups, home) in [
        ("tim", "1000", "1000", "1000,2000", "/home/tim"),
        ("1000", "1000", "1000", "1000,2000", "/home/tim"),
        ("1000:50", "1000", "50", "50", "/home/tim"),
        ("tim:extra", "1000", "2000", "2000", "/home/tim"),
        ("4242", "4242", "0", "0", "/"),
        ("4242:4343", "4242", "4343", "4343", "/"),
        ("nobody", "65534", "65534", "65534", "/nonexistent"),
        ("0", "0", "0", "0", "/root"),
        ("2147483647", "2147483647", "0", "0", "/"),
    ] {
        let all = probe_all(&store, &["-u", user]);
        for (key, value) in [
            ("uid", uid),
            ("euid", uid),
            ("suid", uid),
            ("gid", gid),
            ("egid", gid),
            ("groups", groups),
            ("env.HOME", home),
        ] {
            assert_eq!(all[key], value, "{key} of {user}");
        }
    }
}

#[test]
fn an_unknown_user_or_group_is_refused() {
    let store = Store::new();
    let error = store.fails(125, &["run", "--rm", "-u", "nosuch", IMAGE, "id"]);
    assert!(error.contains("unable to find user nosuch: no matching entries in passwd file"), "{error}");
    let error = store.fails(125, &["run", "--rm", "-u", "tim:nosuch", IMAGE, "id"]);
    assert!(error.contains("unable to find group nosuch: no matching entries in group file"), "{error}");
    for bad in ["--user=-1", "--user=2147483648", "--user=4294967296", "--user=0x0", "--user=0:-1", "--user=1e3"] {
        store.fails(125, &["run", "--rm", bad, IMAGE, "id"]);
    }
    store.fails(125, &["run", "--rm", "--group-add", "nosuch", IMAGE, "id"]);
    assert!(containers(&store).is_empty());
}

#[test]
fn the_images_user_counts_and_groups_can_be_added() {
    let store = Store::new();
    store.image("tims", &["USER tim"]);
    let all = facts(&store.ok(&["run", "--rm", "--group-add", "tty", "--group-add", "77", "tims", "probe", "all"]));
    assert_eq!((all["uid"].as_str(), all["groups"].as_str()), ("1000", "5,77,1000,2000"));
    let all = facts(&store.ok(&["run", "--rm", "-u", "root", "tims", "probe", "all"]));
    assert_eq!((all["uid"].as_str(), all["groups"].as_str()), ("0", "0"));
}

#[test]
fn a_given_home_variable_is_kept() {
    let store = Store::new();
    assert_eq!(sh(&store, &["-e", "HOME=/mine"], "echo $HOME"), "/mine");
}

#[test]
fn the_host_name_is_the_short_id_unless_given() {
    let store = Store::new();
    let id = store.ok(&["run", "-d", IMAGE, "sh", "-c", "hostname; cat /etc/hostname"]);
    store.ok(&["wait", &id]);
    assert_eq!(store.ok(&["logs", &id]), format!("{0}\n{0}", &id[..12]));
    let out = sh(&store, &["-h", "box.example", "--domainname", "example"], "hostname; cat /etc/hostname");
    assert_eq!(out, "box.example\nbox.example");
    store.fails(125, &["run", "--rm", "-h", "bad name", IMAGE, "true"]);
}

#[test]
fn the_id_file_holds_the_id_and_is_never_overwritten() {
    let store = Store::new();
    let file = store.text("cid");
    let id = store.ok(&["run", "-d", "--cidfile", &file, IMAGE, "true"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    let error = store.fails(125, &["run", "--name", "second", "--cidfile", &file, IMAGE, "true"]);
    assert!(error.contains("container ID file found") && error.contains(&file), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    assert!(!containers(&store).contains(&"second".to_owned()));
    let other = store.text("other");
    store.fails(125, &["run", "--cidfile", &other, "nosuch", "true"]);
    assert!(!store.path("other").exists(), "no container, no id file");
}

#[test]
fn a_name_that_is_taken_is_refused_and_nothing_is_left() {
    let store = Store::new();
    let id = store.ok(&["run", "-d", "--name", "one", IMAGE, "true"]);
    let error = store.fails(125, &["run", "--name", "one", "-v", "/data", "-v", "named:/n", IMAGE, "true"]);
    assert!(error.contains("Conflict. The container name \"/one\" is already in use by container"), "{error}");
    assert!(error.contains(&id) && error.contains("remove (or rename) that container"), "{error}");
    assert_eq!(containers(&store), ["one"]);
    let anonymous = std::fs::read_dir(store.root().join("volumes")).unwrap().flatten();
    let anonymous = anonymous.filter(|v| v.file_name().len() == 64).count();
    assert_eq!(anonymous, 0, "an anonymous volume of a container that never was");
    let left: Vec<_> = std::fs::read_dir(store.root().join("tmp")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    store.ok(&["wait", "one"]);
    store.ok(&["rm", "one"]);
    store.ok(&["run", "--name", "one", IMAGE, "true"]);
}

#[test]
fn bad_names_are_refused() {
    let store = Store::new();
    for bad in ["a", "-x", "a b", "../x", "a/b", ".x", "x\n"] {
        let flag = format!("--name={bad}");
        let error = store.fails(125, &["run", &flag, IMAGE, "true"]);
        assert!(error.contains("Invalid container name"), "{error}");
    }
    assert!(containers(&store).is_empty());
}

// ---- exit statuses

#[test]
fn every_exit_status_comes_back_and_is_recorded() {
    let store = Store::new();
    for code in [0, 1, 2, 63, 64, 124, 125, 126, 127, 128, 129, 137, 143, 254, 255] {
        let done = store.run(&["run", "--name", "end", IMAGE, "probe", "exit", &code.to_string()]);
        assert_eq!(done.code, code, "{done:?}");
        assert_eq!(store.inspect("end", "{{.State.Status}} {{.State.ExitCode}}"), format!("exited {code}"));
        store.ok(&["rm", "end"]);
    }
}

#[test]
fn a_command_that_is_not_there_is_127() {
    let store = Store::new();
    let error = store.fails(127, &["run", "--rm", IMAGE, "nosuch"]);
    assert!(error.contains("exec: \"nosuch\": executable file not found in $PATH"), "{error}");
    let error = store.fails(127, &["run", "--rm", IMAGE, "/no/such"]);
    assert!(error.contains("/no/such") && error.to_lowercase().contains("no such file or directory"), "{error}");
    store.fails(127, &["run", "--rm", IMAGE, ""]);
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    let store = Store::new();
    let error = store.fails(126, &["run", "--rm", IMAGE, "/etc/passwd"]);
    assert!(error.contains("/etc/passwd") && error.to_lowercase().contains("permission denied"), "{error}");
    store.fails(126, &["run", "--rm", IMAGE, "/etc"]);
    store.changed_image(
        "broken",
        r"printf '#!/no/interpreter\n' >bin/script; printf 'neither' >bin/text; chmod 755 bin/script bin/text",
    );
    let error = store.fails(126, &["run", "--rm", "broken", "script"]);
    assert!(error.contains("interpreter"), "{error}");
    store.fails(126, &["run", "--rm", "broken", "/bin/text"]);
}

#[test]
fn the_first_process_is_deaf_to_signals_without_a_handler() {
    let store = Store::new();
    for signal in ["TERM", "INT", "KILL", "HUP"] {
        assert_eq!(store.ok(&["run", "--rm", IMAGE, "probe", "kill-self", signal]), "survived", "{signal}");
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    let store = Store::new();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("INT", 130), ("SEGV", 139), ("ABRT", 134)] {
        let done = store.run(&["run", "--rm", "--init", IMAGE, "probe", "kill-self", signal]);
        assert_eq!(done.code, code, "{signal}: {done:?}");
    }
    let id = store.ok(&["run", "-d", IMAGE, "sleep", "1000"]);
    store.ok(&["kill", &id]);
    assert_eq!(store.ok(&["wait", &id]), "137");
}

// ---- wrong use

#[test]
fn wrong_use_has_dockers_statuses() {
    let store = Store::new();
    store.fails(125, &["run", "--nosuch", IMAGE, "true"]);
    store.fails(125, &["run", "--rm=maybe", IMAGE, "true"]);
    store.fails(125, &["run", "-e"]);
    store.fails(1, &["run"]);
    store.fails(1, &["run", "--rm", "-i"]);
    let error = store.fails(125, &["run", "nosuch", "true"]);
    assert!(error.contains("Unable to find image 'nosuch:latest' locally"), "{error}");
    store.fails(125, &["run", "Upper/Case", "true"]);
    store.fails(125, &["run", "--rm", "--restart", "always", IMAGE, "true"]);
    assert!(containers(&store).is_empty());
}

#[test]
fn a_terminal_without_one_is_refused() {
    let store = Store::new();
    let error = store.fails(1, &["run", "--rm", "-it", IMAGE, "true"]);
    assert!(error.contains("the input device is not a TTY"), "{error}");
    assert!(containers(&store).is_empty());
}

#[test]
fn a_switch_may_carry_a_value() {
    let store = Store::new();
    store.ok(&["run", "--rm=false", "--name", "kept", IMAGE, "true"]);
    assert_eq!(containers(&store), ["kept"]);
    store.ok(&["run", "--rm=true", "--name", "gone", IMAGE, "true"]);
    assert_eq!(containers(&store), ["kept"]);
    assert_eq!(sh(&store, &["--read-only=false"], "touch /x && echo ok"), "ok");
    for flag in ["--sig-proxy", "--sig-proxy=true", "--sig-proxy=false"] {
        assert_eq!(sh(&store, &[flag], "echo ok"), "ok", "{flag}");
    }
}

#[test]
fn an_empty_value_is_none() {
    let store = Store::new();
    store.image("somebody", &["USER 1000", "WORKDIR /etc"]);
    let empty = "--name= --hostname= --workdir= --user= --platform= --cidfile= --pull= --stop-signal= --shm-size=0 \
                 --health-cmd=true --health-interval=0 --health-timeout=0s";
    let flags: Vec<&str> = empty.split_whitespace().collect();
    let look = "id -u; pwd; hostname | wc -c; df -k /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2";
    let run = [&["run", "-i", "--rm"], &flags[..], &["somebody", "sh", "-c", look]].concat();
    assert_eq!(store.ok(&run), "1000\n/etc\n13\n65536");
    store.ok(&["run", "-d", "--name", "box", "-u", "1001", "-w", "/bin", "somebody", "sleep", "1000"]);
    assert_eq!(store.ok(&["exec", "-u", "", "-w", "", "box", "sh", "-c", "id -u; pwd"]), "1001\n/bin");
    assert_eq!(store.ok(&["logs", "--since", "", "--until", "", "box"]), "");
    store.ok(&["kill", "-s", "", "box"]);
    assert_eq!(store.ok(&["wait", "box"]), "137");
}

#[test]
fn what_follows_an_option_is_its_value() {
    let store = Store::new();
    assert!(store.ok(&["run", "--rm", "-e", "-x=1", "-l", "-foo=bar", IMAGE, "env"]).contains("\n-x=1"));
    store.ok(&["create", "--name", "box", "--health-cmd", "-x", "-l", "-l=2", IMAGE, "true"]);
    assert_eq!(
        store.inspect("box", "{{json .Config.Labels}}{{json .Config.Healthcheck.Test}}"),
        r#"{"-l":"2"}["CMD-SHELL","-x"]"#
    );
}

#[test]
fn the_current_folder_may_be_gone() {
    let store = Store::new();
    std::fs::create_dir(store.path("gone")).unwrap();
    let in_nowhere = |args: &[&str]| {
        let script = format!("mkdir -p {0}; cd {0}; rmdir {0}; exec \"$0\" \"$@\"", store.text("gone"));
        done(&mut store.through_shell(&script, args))
    };
    let out = in_nowhere(&["run", "--rm", "-v", "/etc:/t:ro", IMAGE, "echo", "ok"]);
    assert_eq!((out.code, out.out.as_str()), (0, "ok\n"), "{out:?}");
    let out = in_nowhere(&["run", "--rm", "-v", "./x:/t", IMAGE, "true"]);
    assert!(out.code == 125 && out.err.contains("./x is relative, and the current directory is gone"), "{out:?}");
}

#[test]
fn short_flags_can_be_written_together() {
    let store = Store::new();
    let id = store.ok(&["run", "-itd", IMAGE, "sh"]);
    assert_eq!(id.len(), 64, "{id}");
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(store.inspect(&id, "{{.State.Status}} {{.Config.Tty}} {{.Config.OpenStdin}}"), "running true true");
    assert_eq!(sh(&store, &["-eA=1", "-w/etc"], "echo $A; pwd"), "1\n/etc");
}

#[test]
fn a_failed_start_leaves_a_record_only_without_rm() {
    let store = Store::new();
    store.fails(127, &["run", "--name", "failed", IMAGE, "nosuch"]);
    let line = store.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert!(line.starts_with("failed Created"), "{line}");
    assert_eq!(
        store.inspect("failed", "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}"),
        "created 127 false"
    );
    assert!(store.inspect("failed", "{{.State.Error}}").contains("nosuch"));
    store.fails(126, &["run", "--rm", "--name", "removed", IMAGE, "/etc"]);
    let failed = store.run(&["run", "-d", "--name", "detached", IMAGE, "nosuch"]);
    assert_eq!(failed.code, 127, "{failed:?}");
    assert_eq!(failed.out.trim_end(), store.inspect("detached", "{{.Id}}"), "the id is printed all the same");
    assert_eq!(containers(&store), ["detached", "failed"]);
    for words in [&["start", "failed"][..], &["start", "-a", "failed"], &["restart", "failed"]] {
        assert!(store.fails(1, words).contains("nosuch"));
    }
}

// ---- init

#[test]
fn the_reaper_reaps_and_without_it_nobody_does() {
    let store = Store::new();
    let with = facts(&store.ok(&["run", "--rm", "--init", IMAGE, "probe", "zombies"]));
    assert_eq!((with["orphans"].as_str(), with["zombies"].as_str()), ("3", "0"));
    let without = facts(&store.ok(&["run", "--rm", IMAGE, "probe", "zombies"]));
    assert_eq!(without["zombies"], "3");
}

#[test]
fn the_reaper_is_the_first_process_and_passes_signals_and_the_status_on() {
    let store = Store::new();
    assert_eq!(store.run(&["run", "--rm", "--init", IMAGE, "probe", "exit", "37"]).code, 37);
    assert_ne!(probe_all(&store, &["--init"])["pid"], "1");
    store.fails(127, &["run", "--rm", "--init", IMAGE, "nosuch"]);
    // Also where somebody else is the first process.
    let with = facts(&store.ok(&["run", "--rm", "--init", "--pid", "host", IMAGE, "probe", "zombies"]));
    assert_eq!(with["zombies"], "0", "{with:?}");
    let id = store.ok(&["run", "-d", "--init", IMAGE, "probe", "trap"]);
    eventually("the trap to be set", || store.ok(&["logs", &id]).contains("ready"));
    for (signal, number) in [("USR1", 10), ("HUP", 1), ("WINCH", 28)] {
        store.ok(&["kill", "-s", signal, &id]);
        let line = format!("signal {number}");
        eventually("the signal to arrive", || store.ok(&["logs", &id]).lines().any(|l| l == line));
    }
    store.ok(&["kill", "-s", "TERM", &id]);
    assert_eq!(store.ok(&["wait", &id]), "40");
}

// ---- file systems and limits

#[test]
fn a_read_only_root_leaves_the_rest_writable() {
    let store = Store::new();
    let script =
        "for f in /x /etc/x /etc/hosts /tmp/x /dev/shm/x /v/x /t/x; do (echo 1 >>$f) 2>/dev/null && echo $f; done";
    let out = sh(&store, &["--read-only", "-v", "/v", "--tmpfs", "/t"], &format!("{script}; true"));
    assert_eq!(out, "/dev/shm/x\n/v/x\n/t/x");
    let all = probe_open(&store, &["--read-only"], "/etc/passwd", "w");
    assert_eq!(all, "EROFS");
}

fn probe_open(store: &Store, flags: &[&str], path: &str, mode: &str) -> String {
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "probe", "open", path, mode]].concat())
}

#[test]
fn memory_can_be_mounted() {
    let store = Store::new();
    let mounts = sh(&store, &["--tmpfs", "/scratch:size=1m,mode=700,exec"], "grep ' /scratch ' /proc/self/mountinfo");
    assert!(mounts.contains("nosuid,nodev") && !mounts.contains("noexec"), "{mounts}");
    assert!(mounts.contains("size=1024k") && mounts.contains("mode=700"), "{mounts}");
    let mounts = sh(&store, &["--tmpfs", "/scratch"], "grep ' /scratch ' /proc/self/mountinfo; stat -c %a /scratch");
    assert!(mounts.contains("nosuid,nodev,noexec") && mounts.ends_with("1777"), "{mounts}");
    // What was private stays private, unless something else is asked for.
    store.changed_image("private", "mkdir mine; chmod 700 mine");
    for (flag, mode) in [
        ("--tmpfs=/mine", "700"),
        ("--tmpfs=/mine:size=1m", "700"),
        ("--tmpfs=/mine:mode=711", "711"),
        ("--mount=type=tmpfs,dst=/mine", "700"),
        ("--mount=type=tmpfs,dst=/mine,tmpfs-mode=750", "750"),
    ] {
        assert_eq!(store.ok(&["run", "--rm", flag, "private", "stat", "-c", "%a", "/mine"]), mode, "{flag}");
    }
    // Where the image has nothing it is open to all, also when it is mounted again.
    store.ok(&["run", "--name", "again", "-u", "1000", "--tmpfs", "/run/app", IMAGE, "touch", "/run/app/x"]);
    store.ok(&["start", "-a", "again"]);
    store.fails(125, &["run", "--rm", "--tmpfs", "/scratch:nosuch", IMAGE, "true"]);
    store.fails(125, &["run", "--rm", "--tmpfs", "scratch", IMAGE, "true"]);
}

#[test]
fn resource_limits_are_set() {
    let store = Store::new();
    let all = probe_all(&store, &["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "nproc=50:60"]);
    assert_eq!(all["rlimit.NOFILE"], "100:200");
    assert_eq!(all["rlimit.CORE"], "0:0");
    assert_eq!(all["rlimit.NPROC"], "50:60");
    store.fails(125, &["run", "--rm", "--ulimit", "nosuch=1", IMAGE, "true"]);
    store.fails(125, &["run", "--rm", "--ulimit", "nofile=2:1", IMAGE, "true"]);
    store.fails(125, &["run", "--rm", "--ulimit", "nofile", IMAGE, "true"]);
}

#[test]
fn a_limit_that_the_kernel_refuses_is_a_clear_error() {
    let store = Store::new();
    // Above fs.nr_open, whoever asks.
    let error = store.fails(125, &["run", "--rm", "--ulimit", "nofile=2147483647", IMAGE, "true"]);
    assert!(error.contains("NOFILE") && error.contains("2147483647"), "{error}");
    assert!(containers(&store).is_empty());
}

/// The content of a control file of a container by its name in version 1 or 2 of cgroups.
fn control(id: &str, v1: &str, v2: &str) -> String {
    let found = cgroups_of(id).into_iter().flat_map(|c| [c.join(v1), c.join(v2)]).find(|f| f.exists());
    let file = found.unwrap_or_else(|| panic!("neither {v1} nor {v2} in {:?}", cgroups_of(id)));
    std::fs::read_to_string(file).unwrap().trim_end().to_owned()
}

#[test]
fn cgroup_limits_are_set() {
    let store = Store::new();
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "77", "--memory-reservation", "32m"];
    let id = store.ok(&[&["run", "-d"], &flags[..], &[IMAGE, "sleep", "1000"]].concat());
    assert_eq!(control(&id, "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(control(&id, "memory.soft_limit_in_bytes", "memory.low"), "33554432");
    let cpu = control(&id, "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(cpu.split(' ').next(), Some("50000"), "{cpu}");
    assert_eq!(control(&id, "pids.max", "pids.max"), "77");
    let inside = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    assert_eq!(store.ok(&["exec", &id, "sh", "-c", inside]), "67108864");
    assert_eq!(store.inspect(&id, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"), "67108864 77");
}

#[test]
fn senseless_limits_are_refused() {
    let store = Store::new();
    for (flags, text) in [
        (&["--memory", "1m"][..], "Minimum memory limit allowed is 6MB"),
        (&["--memory", "much"], "much"),
        (&["--cpus", "1000000"], "Range of CPUs is from 0.01"),
        (&["--memory-swap", "1g"], "Memory"),
        (&["--memory", "100m", "--memory-swap", "50m"], "memoryswap"),
    ] {
        let error = store.fails(125, &[&["run", "--rm"], flags, &[IMAGE, "true"]].concat());
        assert!(error.contains(text), "{flags:?}: {error}");
    }
    assert!(containers(&store).is_empty());
}

#[test]
fn too_much_memory_ends_in_137_and_is_recorded() {
    let store = Store::new();
    let done = store.run(&["run", "--name", "greedy", "--memory", "32m", IMAGE, "probe", "alloc", "128"]);
    assert_eq!(done.code, 137, "{done:?}");
    assert_eq!(store.inspect("greedy", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    store.ok(&["run", "--name", "modest", "--memory", "32m", IMAGE, "probe", "alloc", "4"]);
    assert_eq!(store.inspect("modest", "{{.State.OOMKilled}}"), "false");
}

#[test]
fn the_number_of_processes_is_limited() {
    let store = Store::new();
    let all = facts(&store.ok(&["run", "--rm", "--pids-limit", "20", IMAGE, "probe", "forkbomb", "100"]));
    assert_eq!(all["stopped_by"], "EAGAIN");
    let forked: u32 = all["forked"].parse().unwrap();
    assert!((10..20).contains(&forked), "{forked}");
    let all = facts(&store.ok(&["run", "--rm", "--pids-limit", "-1", IMAGE, "probe", "forkbomb", "100"]));
    assert_eq!((all["forked"].as_str(), all["stopped_by"].as_str()), ("100", "limit"));
}

// ---- rights

/// The capabilities that this process, and so the engine, may have at most.
fn own_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

const DEFAULT_CAPABILITIES: u64 = 0xa80425fb;

#[test]
fn capabilities_are_added_and_dropped() {
    let store = Store::new();
    let (net_admin, chown, sys_time) = (1 << 12, 1, 1 << 25);
    for (flags, expected) in [
        (&[][..], DEFAULT_CAPABILITIES),
        (&["--cap-add", "NET_ADMIN"], DEFAULT_CAPABILITIES | net_admin),
        (&["--cap-add", "cap_net_admin"], DEFAULT_CAPABILITIES | net_admin),
        (&["--cap-drop", "CHOWN"], DEFAULT_CAPABILITIES & !chown),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop", "all", "--cap-add", "CAP_CHOWN"], chown),
        (&["--cap-add", "ALL"], u64::MAX),
        (&["--cap-add", "ALL", "--cap-drop", "SYS_TIME"], !sys_time),
        (&["--privileged"], u64::MAX),
    ] {
        let all = probe_all(&store, flags);
        let expected = format!("{:016x}", expected & own_capabilities());
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(all[set], expected, "{set} with {flags:?}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(all[set], "0000000000000000", "{set} with {flags:?}");
        }
    }
    let all = probe_all(&store, &["-u", "tim", "--cap-add", "NET_ADMIN"]);
    assert_eq!(all["CapEff"], "0000000000000000", "an ordinary user has none in effect");
    assert_eq!(all["CapBnd"], format!("{:016x}", (DEFAULT_CAPABILITIES | net_admin) & own_capabilities()));
}

#[test]
fn unknown_capabilities_are_refused() {
    let store = Store::new();
    let error = store.fails(125, &["run", "--rm", "--cap-add", "NOSUCH", IMAGE, "true"]);
    assert!(error.contains("invalid CapAdd: unknown capability: \"CAP_NOSUCH\""), "{error}");
    let error = store.fails(125, &["run", "--rm", "--cap-drop", "nosuch", IMAGE, "true"]);
    assert!(error.contains("invalid CapDrop: unknown capability: \"CAP_NOSUCH\""), "{error}");
}

#[test]
fn a_privileged_container_has_devices_and_nothing_is_masked() {
    let store = Store::new();
    let out = sh(&store, &["--privileged"], "ls -A /sys/firmware; cat /proc/self/mountinfo");
    for masked in ["/proc/kcore", "/proc/sys", "/proc/bus", "/sys/firmware", "/proc/keys", "/proc/sysrq-trigger"] {
        assert!(!out.contains(&format!(" {masked} ")), "{masked} is masked:\n{out}");
    }
    let sys = out.lines().find(|l| l.split(' ').nth(4) == Some("/sys")).unwrap();
    assert!(sys.split(' ').nth(5).unwrap().starts_with("rw"), "{sys}");
    let devices = store.ok(&["run", "--rm", "--privileged", IMAGE, "probe", "dev"]);
    let here = done(Command::new(fixture("probe")).arg("dev")).out;
    let nodes = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|l| [Some("b"), Some("c")].contains(&l.split(' ').nth(1)));
        let names = lines.map(|l| l.split(' ').take(3).collect::<Vec<_>>().join(" "));
        names.filter(|n| !n.starts_with("pts/") && !n.starts_with("console ") && !n.starts_with("ptmx ")).collect()
    };
    let (inside, outside) = (nodes(&devices), nodes(&here));
    assert!(outside.len() > 6, "{here}");
    for node in &outside {
        assert!(inside.contains(node), "{node} is missing in a privileged container:\n{devices}");
    }
    assert_eq!(probe_open(&store, &["--privileged=true"], "/dev/kmsg", "r"), "ok");
    assert_eq!(store.ok(&["run", "--rm", "--privileged", IMAGE, "probe", "mount"]), "ok");
    assert_eq!(store.ok(&["run", "--rm", IMAGE, "probe", "mount"]), "EPERM");
}

#[test]
fn new_privileges_can_be_forbidden() {
    let store = Store::new();
    assert_eq!(probe_all(&store, &[])["NoNewPrivs"], "0");
    assert_eq!(probe_all(&store, &["--security-opt", "no-new-privileges"])["NoNewPrivs"], "1");
    assert_eq!(probe_all(&store, &["--security-opt", "no-new-privileges:true"])["NoNewPrivs"], "1");
    assert_eq!(probe_all(&store, &["--security-opt=no-new-privileges=false"])["NoNewPrivs"], "0");
    store.fails(125, &["run", "--rm", "--security-opt", "nosuch", IMAGE, "true"]);
}

// ---- network

#[test]
fn without_a_network_there_is_only_the_loopback_interface() {
    let store = Store::new();
    let out = sh(&store, &["--network", "none"], "ls /sys/class/net; cat /sys/class/net/lo/flags; ping -c 1 127.0.0.1");
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("lo"));
    let flags = u32::from_str_radix(lines.next().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1, "lo is down");
    assert!(out.contains("1 packets received"), "{out}");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!own.to_str().unwrap().contains(&probe_all(&store, &[])["ns.net"]));
}

#[test]
fn the_hosts_network_is_the_hosts() {
    let store = Store::new();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let all = probe_all(&store, &["--network", "host"]);
    assert_eq!(own.to_str().unwrap(), format!("net:[{}]", all["ns.net"]));
    assert_eq!(
        sh(&store, &["--net=host"], "cat /etc/hosts"),
        std::fs::read_to_string("/etc/hosts").unwrap().trim_end_matches('\n')
    );
    store.fails(125, &["run", "--rm", "--network", "nosuch", IMAGE, "true"]);
}

#[test]
fn host_entries_are_added() {
    let store = Store::new();
    let out = sh(&store, &["--add-host", "db:10.0.0.7", "--add-host", "six:::1"], "cat /etc/hosts");
    assert!(out.lines().any(|l| l == "10.0.0.7\tdb"), "{out}");
    assert!(out.lines().any(|l| l == "::1\tsix"), "{out}");
    assert!(out.contains("127.0.0.1\tlocalhost"), "{out}");
}

// ---- labels, signals, settings

#[test]
fn labels_come_from_image_file_and_flag() {
    let store = Store::new();
    store.image("labelled", &["LABEL a=image b=image", r#"CMD ["true"]"#]);
    let file = store.write("labels", "b=file\nc=file\n# no\nbare\n");
    store.ok(&["run", "--name", "xx", "--label-file", &file, "--label", "c=flag", "-l", "empty", "labelled"]);
    let labels = store.inspect("xx", "{{json .Config.Labels}}");
    assert_eq!(labels, r#"{"a":"image","b":"file","bare":"","c":"flag","empty":""}"#);
    store.fails(125, &["run", "--label", "=x", "labelled"]);
    store.fails(125, &["run", "--label-file", &store.text("nosuch"), "labelled"]);
}

#[test]
fn the_stop_signal_is_the_users_or_the_images() {
    let store = Store::new();
    let script = "trap 'exit 9' USR1; trap 'exit 10' QUIT; echo ready; while :; do sleep 0.05; done";
    store.ok(&["run", "--name", "quitter", "--stop-signal", "SIGQUIT", IMAGE, "true"]);
    store.ok(&["commit", "quitter", "quit"]);
    for (image, flags, code) in
        [(IMAGE, &["--stop-signal", "USR1"][..], "9"), ("quit", &[], "10"), ("quit", &["--stop-signal", "10"], "9")]
    {
        let id = store.ok(&[&["run", "-d"], flags, &[image, "sh", "-c", script]].concat());
        eventually("the trap to be set", || store.ok(&["logs", &id]) == "ready");
        store.ok(&["stop", "-t", "600", &id]);
        assert_eq!(store.inspect(&id, "{{.State.ExitCode}}"), code, "{image} {flags:?}");
    }
    store.fails(125, &["run", "--stop-signal", "NOSUCH", IMAGE, "true"]);
}

#[test]
fn kernel_settings_of_the_own_namespaces_can_be_set() {
    let store = Store::new();
    let flags = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000"];
    let out = sh(&store, &flags, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax");
    assert_eq!(out, "1\n9000");
    let before = std::fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    store.fails(125, &["run", "--rm", "--sysctl", "kernel.panic=77", IMAGE, "true"]);
    store.fails(125, &["run", "--rm", "--network=host", "--sysctl", "net.ipv4.ip_forward=1", IMAGE, "true"]);
    store.fails(125, &["run", "--rm", "--sysctl", "net/../kernel/panic=77", IMAGE, "true"]);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/panic").unwrap(), before);
}

#[test]
fn the_oom_score_is_set() {
    let store = Store::new();
    assert_eq!(probe_all(&store, &["--oom-score-adj", "500"])["oom_score_adj"], "500");
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let store = Store::new();
    let out = sh(&store, &["--shm-size", "3m"], "grep ' /dev/shm ' /proc/self/mountinfo");
    assert!(out.contains("size=3072k"), "{out}");
    let out = sh(&store, &[], "grep ' /dev/shm ' /proc/self/mountinfo");
    assert!(out.contains("size=65536k"), "{out}");
}

// ---- what the caller must not pass on

#[test]
fn the_callers_umask_signals_and_descriptors_do_not_reach_the_command() {
    let store = Store::new();
    let wrapper = "umask 077; exec 7</etc 8</etc/passwd 9>>/dev/null; \
                   exec env --ignore-signal=HUP,INT,QUIT,PIPE,USR1,TERM --block-signal=HUP,USR2,CHLD,WINCH,PIPE \"$0\" \"$@\"";
    let check = |done: Done| {
        assert_eq!(done.code, 0, "{done:?}");
        let all = facts(&done.out);
        assert_eq!(all["umask"], "0022");
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(all[set], "0000000000000000", "{set}");
        }
        let fds: Vec<&str> = all.keys().filter_map(|k| k.strip_prefix("fd.")).collect();
        assert_eq!(fds, ["0", "1", "2"]);
    };
    check(done(&mut store.through_shell(wrapper, &["run", "--rm", IMAGE, "probe", "all"])));
    check(done(&mut store.through_shell(wrapper, &["run", "--rm", "--init", IMAGE, "probe", "all"])));
    let id = done(&mut store.through_shell(wrapper, &["run", "-d", IMAGE, "probe", "all"])).out;
    store.ok(&["wait", id.trim()]);
    check(store.run(&["logs", id.trim()]));
    let id = done(&mut store.through_shell(wrapper, &["run", "-d", IMAGE, "sleep", "1000"])).out;
    check(done(&mut store.through_shell(wrapper, &["exec", id.trim(), "probe", "all"])));
}

#[test]
fn without_i_the_input_is_empty() {
    let store = Store::new();
    let done = store.run_with_input(&["run", "--rm", IMAGE, "cat"], b"not for you");
    assert_eq!((done.code, done.out.as_str()), (0, ""));
    assert_eq!(probe_all(&store, &[])["fd.0"], "/dev/null");
    let done = store.run_with_input(&["run", "--rm", "-i", IMAGE, "cat"], b"for you");
    assert_eq!((done.code, done.out.as_str()), (0, "for you"));
}

#[test]
fn a_terminals_streams_are_terminals() {
    let store = Store::new();
    let out = store.ok(&["run", "--rm", "-t", IMAGE, "probe", "tty"]).replace('\r', "");
    let all = facts(&out);
    for name in ["stdin", "stdout", "stderr", "controlling"] {
        assert_eq!(all[name], "yes", "{name}");
    }
    assert_eq!(all["name"], "/dev/pts/0");
    let all = facts(&store.ok(&["run", "--rm", IMAGE, "probe", "tty"]));
    assert_eq!((all["stdout"].as_str(), all["controlling"].as_str()), ("no", "ENXIO"));
}

// ---- much data

const MUCH: &str = "64m";

/// What `cat-hash` says about the test data.
fn hash_of_much() -> String {
    let done = done(Command::new(fixture("probe")).args(["spew-hash", MUCH]));
    assert_eq!(done.code, 0);
    done.out.trim_end().to_owned()
}

#[expect(clippy::zombie_processes, reason = "it ends with its reader, and the test's process soon after")]
fn spewing() -> Stdio {
    let child = Command::new(fixture("probe")).args(["spew", MUCH]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.unwrap().into()
}

#[test]
fn much_input_arrives_unchanged() {
    let store = Store::new();
    let mut command = store.command(&["run", "--rm", "-i", IMAGE, "probe", "cat-hash"]);
    let done = done(command.stdin(spewing()));
    assert_eq!((done.code, done.out.trim_end()), (0, hash_of_much().as_str()));
}

#[test]
fn much_output_arrives_unchanged() {
    let store = Store::new();
    let mut command = store.through_shell(
        "\"$0\" \"$@\" | $PROBE cat-hash; exit ${PIPESTATUS[0]}",
        &["run", "--rm", IMAGE, "probe", "spew", MUCH],
    );
    let done = done(command.env("PROBE", fixture("probe")));
    assert_eq!((done.code, done.out.trim_end()), (0, hash_of_much().as_str()));
}

#[test]
fn data_both_ways_at_once_does_not_block() {
    let store = Store::new();
    let mut command = store.through_shell(
        "$PROBE spew 64m | \"$0\" \"$@\" | $PROBE cat-hash; exit ${PIPESTATUS[1]}",
        &["run", "--rm", "-i", IMAGE, "cat"],
    );
    let done = done(command.env("PROBE", fixture("probe")));
    assert_eq!((done.code, done.out.trim_end()), (0, hash_of_much().as_str()));
}

#[test]
fn a_reader_who_leaves_does_not_end_the_container() {
    let store = Store::new();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 5";
    let mut command =
        store.through_shell("\"$0\" \"$@\" | true", &["run", "--name", "left", IMAGE, "sh", "-c", script]);
    done(&mut command);
    eventually("the container to end", || store.inspect("left", "{{.State.Status}}") == "exited");
    assert_eq!(store.inspect("left", "{{.State.ExitCode}}"), "5");
    assert!(store.ok(&["logs", "left"]).ends_with("line 2999"), "the log has all of it");
}

#[test]
fn input_that_ends_early_does_not_end_the_container() {
    let store = Store::new();
    let done = store.run_with_input(&["run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo after; exit 4"], b"in\n");
    assert_eq!((done.code, done.out.as_str()), (4, "in\nafter\n"));
    // And a command that does not read it ends all the same.
    let mut command = store.command(&["run", "--rm", "-i", IMAGE, "true"]);
    assert_eq!(crate::support::done(command.stdin(spewing())).code, 0);
}

#[test]
fn a_caller_without_standard_streams_gets_none_of_our_files_for_them() {
    let store = Store::new();
    // The script does not contain what it writes: it is in files of ours, too.
    let script = "echo a''stray; echo a''stray >&2; exit 6";
    let run = ["run", "--name", "alone", "--log-driver", "none", IMAGE, "sh", "-c", script];
    let mut command = store.through_shell("exec \"$0\" \"$@\" <&- >&- 2>&-", &run);
    assert_eq!(done(&mut command).code, 6);
    assert_eq!(store.inspect("alone", "{{.State.Status}} {{.State.ExitCode}}"), "exited 6");
    let files_with = |text| done(Command::new("grep").args(["-rl", text]).arg(store.root().parent().unwrap())).out;
    assert!(files_with("a''stray").contains("container.json"), "this is where to look");
    assert_eq!(files_with("astray"), "", "the output went into a file of the store");
}
