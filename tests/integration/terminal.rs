//! The user's terminal and signals while a command runs: raw mode, windows, job control, detaching, attaching.

use crate::support::{IMAGE, Store, Terminal, done, eventually, facts, signal};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;

const DETACH: &[u8] = b"\x10\x11";

/// A shell on a terminal at its first prompt.
fn shell(store: &Store, name: &str, options: &[&str]) -> Terminal {
    let args = [&["run", "-it", "--name", name], options, &[IMAGE, "sh"]].concat();
    let mut terminal = store.terminal(&args);
    terminal.expect("# ");
    terminal
}

fn status(store: &Store, name: &str) -> String {
    store.inspect(name, "{{.State.Status}}")
}

/// A line that a command wrote.
fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// `probe trap` in the foreground without a terminal, ready for signals.
fn trapper(store: &Store, options: &[&str]) -> (Child, impl BufRead) {
    let args = [&["run", "--name", "trap"], options, &[IMAGE, "probe", "trap"]].concat();
    let mut client = store.spawn(&args);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "ready\n");
    (client, output)
}

fn code(client: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let status = client.wait().unwrap();
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

// ---- raw mode

#[test]
fn the_terminal_is_raw_while_the_command_runs_and_restored_after_its_end() {
    let store = Store::new();
    let mut terminal = shell(&store, "raw", &["--rm"]);
    assert!(terminal.is_raw());
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), 5);
    assert!(!terminal.is_raw());
}

#[test]
fn the_end_of_input_key_ends_a_shell() {
    let store = Store::new();
    let mut terminal = shell(&store, "eof", &["--rm"]);
    terminal.send("(exit 6)\n");
    terminal.expect("# ");
    terminal.send("\x04");
    assert_eq!(terminal.wait(), 6);
    assert!(!terminal.is_raw());
}

#[test]
fn the_terminal_is_restored_when_the_container_is_killed_from_outside() {
    let store = Store::new();
    let mut terminal = shell(&store, "victim", &[]);
    store.ok(&["kill", "victim"]);
    assert_eq!(terminal.wait(), 137);
    assert!(!terminal.is_raw());
}

#[test]
fn the_terminal_is_restored_when_the_supervisor_is_killed() {
    let store = Store::new();
    let mut terminal = shell(&store, "lost", &[]);
    signal(store.supervisor("lost"), libc::SIGKILL);
    assert_ne!(terminal.wait(), 0);
    assert!(!terminal.is_raw());
    eventually("the end to be seen", || status(&store, "lost") == "exited");
}

#[test]
fn a_client_on_a_terminal_that_is_told_to_end_restores_it_and_leaves_the_container_running() {
    let store = Store::new();
    for (number, name) in [(libc::SIGTERM, "term"), (libc::SIGHUP, "hup"), (libc::SIGINT, "int")] {
        let mut terminal = shell(&store, name, &["--sig-proxy=false"]);
        signal(terminal.child.id() as i32, number);
        assert_eq!(terminal.wait(), 128 + number);
        assert!(!terminal.is_raw(), "after signal {number}");
        assert_eq!(status(&store, name), "running");
        assert_eq!(store.ok(&["exec", name, "echo", "alive"]), "alive");
    }
}

#[test]
fn a_container_that_cannot_be_started_leaves_the_terminal_as_it_was() {
    let store = Store::new();
    // Often: the window's size is sent to a supervisor that may be gone by then, with its last word still unheard.
    for _ in 0..40 {
        let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "/no/such"]);
        assert_eq!(terminal.wait(), 127);
        assert!(!terminal.is_raw());
        terminal.expect("/no/such");
    }
}

#[test]
fn the_status_comes_back_however_much_input_was_left_unread() {
    let store = Store::new();
    let input = vec![b'x'; 1_000_000];
    for _ in 0..20 {
        let done = store.run_with_input(&["run", "-i", "--rm", IMAGE, "sh", "-c", "echo out; exit 4"], &input);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (4, "out\n", ""));
    }
}

#[test]
fn a_client_that_is_resumed_makes_the_terminal_raw_again() {
    let store = Store::new();
    let mut terminal = shell(&store, "resumed", &[]);
    let pid = terminal.child.id() as i32;
    signal(pid, libc::SIGSTOP);
    // What the user's shell does when it takes over.
    let mut mode = rustix::termios::tcgetattr(&terminal.master).unwrap();
    mode.local_modes.insert(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO);
    rustix::termios::tcsetattr(&terminal.master, rustix::termios::OptionalActions::Now, &mode).unwrap();
    assert!(!terminal.is_raw());
    signal(pid, libc::SIGCONT);
    eventually("the terminal to be raw again", || terminal.is_raw());
    terminal.send("echo on-$((1+1))\n");
    terminal.expect("on-2");
}

// ---- the terminal inside

#[test]
fn the_command_has_a_controlling_terminal_on_all_three_streams() {
    let store = Store::new();
    let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "sh", "-c", "probe tty; echo $TERM; echo end"]);
    let text = terminal.expect("end\r\n").replace('\r', "");
    let facts = facts(&text);
    for (key, value) in [("stdin", "yes"), ("stdout", "yes"), ("stderr", "yes"), ("controlling", "yes")] {
        assert_eq!(facts[key], value, "{key} in {text}");
    }
    assert_eq!(facts["size"], "33x101");
    assert_eq!(facts["foreground"], facts["pgid"]);
    assert!(text.contains("\nxterm\n"), "{text}");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn the_window_has_its_size_from_the_start_and_follows() {
    let store = Store::new();
    let mut terminal = store.terminal(&["run", "-it", "--rm", "--name", "window", IMAGE, "probe", "winch"]);
    assert!(terminal.expect("x101\r\n").starts_with("33x101"));
    for (rows, columns) in [(50, 132), (1, 2), (333, 444)] {
        terminal.resize(rows, columns);
        terminal.expect(&format!("{rows}x{columns}\r\n"));
    }
    store.ok(&["stop", "window"]);
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn the_window_of_an_exec_has_its_size_from_the_start_and_follows() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "host", IMAGE, "sleep", "1000"]);
    let mut terminal = store.terminal(&["exec", "-it", "host", "probe", "winch"]);
    assert!(terminal.expect("x101\r\n").starts_with("33x101"));
    terminal.resize(44, 55);
    terminal.expect("44x55\r\n");
}

#[test]
fn attaching_gives_the_container_the_window_of_the_new_terminal() {
    let store = Store::new();
    store.ok(&["run", "-dit", "--name", "window", IMAGE, "probe", "winch"]);
    let mut terminal = store.terminal(&["attach", "window"]);
    terminal.expect("33x101\r\n");
    terminal.resize(20, 70);
    terminal.expect("20x70\r\n");
}

#[test]
fn ctrl_c_interrupts_the_foreground_job_but_not_the_shell() {
    let store = Store::new();
    let mut terminal = shell(&store, "jobs", &["--rm"]);
    terminal.send("echo going-$((1+1)); sleep 1000; echo status-$?\n");
    terminal.expect("going-2");
    eventually("the sleep", || foreground(&store, "jobs", "sleep 1000"));
    terminal.send("\x03");
    terminal.expect("# ");
    terminal.send("echo after-$?\n");
    terminal.expect("after-130");
    assert!(!store.ok(&["top", "jobs"]).contains("sleep 1000"));
    assert_eq!(status(&store, "jobs"), "running");
}

#[test]
fn jobs_are_stopped_continued_and_put_in_the_background() {
    let store = Store::new();
    let mut terminal = shell(&store, "jobs", &["--rm"]);
    terminal.send("sleep 1000\n");
    eventually("the sleep", || foreground(&store, "jobs", "sleep 1000"));
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.expect("# ");
    terminal.send("bg; echo bg-$?\n");
    terminal.expect("bg-0");
    terminal.send("jobs\n");
    terminal.expect("Running");
    terminal.send("fg\n");
    terminal.expect("sleep 1000\r\n");
    eventually("it to be in the foreground", || foreground(&store, "jobs", "sleep 1000"));
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.send("kill -9 %1; wait; echo left-$((1+1))\n");
    terminal.expect("left-2");
    // The shell may still warn of a stopped job the first time.
    terminal.send("exit 3\nexit 3\n");
    assert_eq!(terminal.wait(), 3);
}

/// Whether a container's process is in the foreground of its terminal.
fn foreground(store: &Store, name: &str, command: &str) -> bool {
    let top = store.ok(&["top", name]);
    let Some(pid) = top.lines().find(|l| l.ends_with(command)).and_then(|l| l.split_whitespace().nth(1)) else {
        return false;
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Its process group, and that of the terminal's foreground.
    fields.len() > 5 && fields[2] == fields[5]
}

#[test]
fn a_quit_key_ends_the_foreground_job() {
    let store = Store::new();
    let mut terminal = shell(&store, "quits", &["--rm"]);
    terminal.send("sleep 1000\n");
    eventually("the sleep", || foreground(&store, "quits", "sleep 1000"));
    terminal.send("\x1c");
    terminal.expect("# ");
    terminal.send("echo after-$?\n");
    terminal.expect("after-131");
}

#[test]
fn vi_edits_a_file() {
    let store = Store::new();
    let mut terminal = shell(&store, "edits", &[]);
    terminal.send("vi /note\n");
    terminal.expect("vi /note\r\n");
    // It draws a tilde in each empty row, and knows how many there are.
    assert!(terminal.expect("/note").matches("~").count() >= 30);
    terminal.send("ihello from vi\x1b");
    terminal.expect("hello from vi");
    terminal.send(":wq\r");
    terminal.expect("# ");
    terminal.send("cat /note\n");
    terminal.expect("hello from vi\r\n");
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn top_draws_and_quits() {
    let store = Store::new();
    let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "top"]);
    terminal.expect("Mem:");
    terminal.expect("Load average");
    terminal.expect("COMMAND");
    terminal.send("q");
    assert_eq!(terminal.wait(), 0);
    assert!(!terminal.is_raw());
}

#[test]
fn a_large_paste_arrives_unchanged() {
    let store = Store::new();
    let script = "stty raw -echo; echo ready; head -c 200000 | md5sum";
    let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "sh", "-c", script]);
    terminal.expect("ready");
    // All bytes but the keys that would detach.
    let pasted: Vec<u8> =
        (0..200_000u32).map(|n| (n * 7 % 256) as u8).map(|b| if b == 0x10 { 0x20 } else { b }).collect();
    terminal.send(&pasted);
    let expected = done(std::process::Command::new("md5sum").stdin(file(&store, &pasted)));
    terminal.expect(expected.out.split(' ').next().unwrap());
    assert_eq!(terminal.wait(), 0);
}

fn file(store: &Store, content: &[u8]) -> std::fs::File {
    std::fs::File::open(store.write("content", content)).unwrap()
}

#[test]
fn a_flood_of_output_arrives_unchanged() {
    let store = Store::new();
    let script = "stty raw; i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done; echo end";
    let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "sh", "-c", script]);
    let text = terminal.expect("end\n");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5001);
    assert!((1..=5000).all(|n| lines[n - 1] == format!("line {n}")));
    assert_eq!(terminal.wait(), 0);
}

// ---- with and without -i and -t

#[test]
fn a_terminal_without_input_still_is_a_terminal_for_the_command() {
    let store = Store::new();
    let done = store.run(&["run", "--rm", "-t", IMAGE, "sh", "-c", "probe tty; echo err >&2; exit 3"]);
    assert_eq!(done.code, 3, "{done:?}");
    let facts = facts(&done.out.replace('\r', ""));
    assert_eq!((facts["stdin"].as_str(), facts["stdout"].as_str()), ("yes", "yes"));
    // There is one stream, with a terminal's ends of lines.
    assert!(done.out.ends_with("err\r\n") && done.err.is_empty(), "{done:?}");
}

#[test]
fn without_i_what_is_typed_stays_outside() {
    let store = Store::new();
    let mut terminal = store.terminal(&["run", "-t", "--name", "deaf", IMAGE, "sh"]);
    terminal.expect("# ");
    assert!(!terminal.is_raw());
    terminal.send("touch /typed\n");
    store.ok(&["exec", "deaf", "sh", "-c", "echo marker > /dev/console"]);
    terminal.expect("marker");
    assert_ne!(store.run(&["exec", "deaf", "test", "-e", "/typed"]).code, 0);
    store.ok(&["kill", "deaf"]);
    assert_eq!(terminal.wait(), 137);
}

#[test]
fn an_interactive_terminal_needs_one_outside() {
    let store = Store::new();
    store.ok(&["run", "-dit", "--name", "there", IMAGE, "sh"]);
    for args in [
        &["run", "-it", IMAGE, "sh"][..],
        &["run", "--rm", "-it", "--name", "never", IMAGE, "sh"],
        &["exec", "-it", "there", "sh"],
        &["attach", "there"],
    ] {
        let error = store.fails(1, args);
        assert!(error.contains("the input device is not a TTY"), "{args:?}: {error}");
    }
    // Nothing was made in vain.
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.Names}}"]), "there");
}

#[test]
fn a_detached_container_may_have_a_terminal_without_one_outside() {
    let store = Store::new();
    store.ok(&["run", "-dit", "--name", "there", IMAGE, "sh", "-c", "probe tty; exec sleep 1000"]);
    eventually("its facts", || store.ok(&["logs", "there"]).contains("sid="));
    let facts = facts(&store.ok(&["logs", "there"]).replace('\r', ""));
    assert_eq!((facts["stdin"].as_str(), facts["controlling"].as_str()), ("yes", "yes"));
}

#[test]
fn input_without_a_terminal_is_passed_to_its_end() {
    let store = Store::new();
    let bytes: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let done = store.run_with_input(&["run", "-i", "--rm", IMAGE, "cat"], &bytes);
    assert_eq!(done.code, 0, "{:?}", done.err);
    assert!(done.raw == bytes, "{} bytes came back", done.raw.len());
    // Without -i there is none.
    let done = store.run_with_input(&["run", "--rm", IMAGE, "cat"], b"unread");
    assert_eq!((done.code, done.out.as_str()), (0, ""));
}

#[test]
fn an_early_end_of_the_command_does_not_wait_for_more_input() {
    let store = Store::new();
    let mut client = store.spawn(&["run", "-i", "--rm", IMAGE, "sh", "-c", "read l; echo got $l; exit 4"]);
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(code(&mut client), 4);
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "got one\n");
    drop(stdin);
}

// ---- detaching and attaching

#[test]
fn detaching_leaves_the_container_running_and_it_can_be_attached_again() {
    let store = Store::new();
    let mut terminal = shell(&store, "left", &[]);
    terminal.send("value=kept\n");
    terminal.expect("# ");
    terminal.send(DETACH);
    assert_eq!(terminal.wait(), 0);
    assert!(!terminal.is_raw());
    terminal.expect("read escape sequence");
    assert_eq!(status(&store, "left"), "running");
    for _ in 0..2 {
        let mut terminal = store.terminal(&["attach", "left"]);
        eventually("the terminal to be raw", || terminal.is_raw());
        terminal.send("echo $value\n");
        terminal.expect("kept\r\n");
        terminal.send(DETACH);
        assert_eq!(terminal.wait(), 1);
        terminal.expect("read escape sequence");
        assert!(!terminal.is_raw());
    }
    let mut terminal = store.terminal(&["attach", "left"]);
    eventually("the terminal to be raw", || terminal.is_raw());
    terminal.send("exit 9\n");
    assert_eq!(terminal.wait(), 9);
    assert_eq!(store.inspect("left", "{{.State.ExitCode}}"), "9");
}

#[test]
fn a_container_that_was_left_is_still_removed_at_its_end() {
    let store = Store::new();
    let mut terminal = shell(&store, "left", &["--rm"]);
    terminal.send(DETACH);
    assert_eq!(terminal.wait(), 0);
    assert_eq!(status(&store, "left"), "running");
    store.ok(&["kill", "left"]);
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn other_detach_keys_can_be_chosen() {
    let store = Store::new();
    let mut terminal = shell(&store, "keys", &["--detach-keys", "ctrl-a,x,@"]);
    // The usual ones mean nothing now: the shell takes the first of them for the last line of its history.
    terminal.send(DETACH);
    terminal.send("\x01\x03echo $((6*7))\n");
    terminal.expect("42\r\n");
    terminal.send("\x01x@");
    assert_eq!(terminal.wait(), 0);
    terminal.expect("read escape sequence");
    assert_eq!(status(&store, "keys"), "running");
    let mut terminal = store.terminal(&["attach", "--detach-keys=ctrl-\\,ctrl-]", "keys"]);
    eventually("the terminal to be raw", || terminal.is_raw());
    terminal.send("\x1c\x1d");
    terminal.wait();
    terminal.expect("read escape sequence");
    assert_eq!(status(&store, "keys"), "running");
}

#[test]
fn bad_detach_keys_are_refused() {
    let store = Store::new();
    let done = store.run(&["run", "--detach-keys", "ctrl-abc", IMAGE, "true"]);
    assert_eq!(done.code, 125, "{done:?}");
    assert!(done.err.contains("ctrl-abc"), "{done:?}");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn the_first_detach_key_alone_is_passed_on_with_the_next_key() {
    let store = Store::new();
    let script = "stty raw -echo; echo ready; head -c 5 | od -An -tx1";
    let mut terminal = store.terminal(&["run", "-it", "--rm", IMAGE, "sh", "-c", script]);
    terminal.expect("ready");
    terminal.send("\x10");
    terminal.send("a");
    // Twice the first one: one of them may still be followed by the second.
    terminal.send("\x10\x10b");
    terminal.expect(" 10 61 10 10 62");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn detaching_from_an_exec_leaves_its_command_running() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "host", IMAGE, "sleep", "1000"]);
    let mut terminal = store.terminal(&["exec", "-it", "host", "sh"]);
    terminal.expect("# ");
    assert!(terminal.is_raw());
    terminal.send("(while test ! -e /go; do sleep 0.05; done; touch /went)\n");
    terminal.expect("went");
    terminal.send(DETACH);
    assert_eq!(terminal.wait(), 1);
    assert!(!terminal.is_raw());
    terminal.expect("read escape sequence");
    store.ok(&["exec", "host", "touch", "/go"]);
    eventually("the command that was left", || store.run(&["exec", "host", "test", "-e", "/went"]).code == 0);
}

#[test]
fn two_attached_clients_see_the_same_output() {
    let store = Store::new();
    store.ok(&["run", "-dit", "--name", "shared", IMAGE, "sh"]);
    let mut one = store.terminal(&["attach", "shared"]);
    let mut two = store.terminal(&["attach", "shared"]);
    // What comes back to each shows that it is attached.
    for terminal in [&mut one, &mut two] {
        terminal.send("echo here-$((1+1))\n");
        terminal.expect("here-2\r\n");
    }
    one.send("echo hello-$((40+2))\n");
    one.expect("hello-42\r\n");
    two.expect("hello-42\r\n");
    two.send("exit 7\n");
    assert_eq!((one.wait(), two.wait()), (7, 7));
}

#[test]
fn attach_without_a_terminal_brings_both_streams_and_the_status() {
    let store = Store::new();
    let script = "until test -e /go; do echo tick; sleep 0.05; done; echo out; echo err >&2; exit 6";
    store.ok(&["run", "-d", "--name", "plain", IMAGE, "sh", "-c", script]);
    let mut client = store.spawn(&["attach", "plain"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "tick\n");
    store.ok(&["exec", "plain", "touch", "/go"]);
    let (mut rest, mut errors) = (String::new(), String::new());
    output.read_to_string(&mut rest).unwrap();
    client.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(rest.trim_start_matches("tick\n"), "out\n");
    assert_eq!((code(&mut client), errors.as_str()), (6, "err\n"));
}

#[test]
fn attach_without_input_only_listens() {
    let store = Store::new();
    let script = "(while :; do echo tick; sleep 0.05; done) & read l; touch /typed; wait";
    store.ok(&["run", "-dit", "--name", "heard", IMAGE, "sh", "-c", script]);
    let mut terminal = store.terminal(&["attach", "--no-stdin", "heard"]);
    terminal.expect("tick");
    terminal.send("typed\n");
    terminal.expect("typed");
    terminal.expect("tick");
    assert_ne!(store.run(&["exec", "heard", "test", "-e", "/typed"]).code, 0);
    assert!(!terminal.is_raw());
}

#[test]
fn attaching_to_a_stopped_container_is_refused() {
    let store = Store::new();
    store.ok(&["create", "--name", "idle", IMAGE, "true"]);
    let error = store.fails(1, &["attach", "idle"]);
    assert!(error.contains("You cannot attach to a stopped container, start it first"), "{error}");
}

#[test]
fn start_attached_and_interactive_is_a_session_on_the_terminal() {
    let store = Store::new();
    store.ok(&["create", "-it", "--name", "again", IMAGE, "sh"]);
    for code in [2, 3] {
        let mut terminal = store.terminal(&["start", "-ai", "again"]);
        terminal.expect("# ");
        assert!(terminal.is_raw());
        terminal.send("stty size\n");
        terminal.expect("33 101");
        terminal.send(format!("exit {code}\n"));
        assert_eq!(terminal.wait(), code);
        assert!(!terminal.is_raw());
    }
}

// ---- signals without a terminal

#[test]
fn signals_to_the_client_are_passed_on_to_the_command() {
    let store = Store::new();
    let (mut client, mut output) = trapper(&store, &[]);
    let pid = client.id() as i32;
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH] {
        signal(pid, number);
        assert_eq!(line(&mut output), format!("signal {number}\n"));
    }
    signal(pid, libc::SIGTERM);
    assert_eq!(line(&mut output), "signal 15\n");
    assert_eq!(code(&mut client), 40);
    assert_eq!(store.inspect("trap", "{{.State.Status}} {{.State.ExitCode}}"), "exited 40");
}

#[test]
fn signals_to_a_client_on_a_terminal_are_passed_on_too() {
    let store = Store::new();
    for flags in [&["-t"][..], &["-it"]] {
        let mut terminal =
            store.terminal(&[&["run", "--rm", "--name", "trap"], flags, &[IMAGE, "probe", "trap"]].concat());
        terminal.expect("ready");
        for number in [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGTERM] {
            signal(terminal.child.id() as i32, number);
            terminal.expect(&format!("signal {number}"));
        }
        assert_eq!(terminal.wait(), 40, "{flags:?}");
        assert_eq!(store.ok(&["ps", "-aq"]), "");
    }
    // Without -i the terminal is not raw: its keys make signals, here.
    let mut terminal = store.session_terminal(&["run", "--rm", "-t", IMAGE, "probe", "trap"]);
    terminal.expect("ready");
    terminal.send("\x03");
    terminal.expect(&format!("signal {}", libc::SIGINT));
    signal(terminal.child.id() as i32, libc::SIGTERM);
    assert_eq!(terminal.wait(), 40);
}

#[test]
fn a_container_hears_of_the_end_of_the_terminal_that_it_was_started_on() {
    let store = Store::new();
    let mut terminal = store.session_terminal(&["run", "--rm", "-it", IMAGE, "probe", "trap"]);
    terminal.expect("ready");
    let name = store.ok(&["ps", "-q"]);
    let mut logs = BufReader::new(store.spawn(&["logs", "-f", &name]).stdout.take().unwrap());
    assert_eq!(line(&mut logs), "ready\r\n");
    terminal.hang_up();
    assert_eq!(line(&mut logs), format!("signal {}\r\n", libc::SIGHUP));
    store.ok(&["kill", "-s", "TERM", &name]);
    eventually("the container to end", || store.ok(&["ps", "-aq"]).is_empty());
    terminal.child.wait().unwrap();
}

#[test]
fn a_command_that_dies_of_a_passed_on_signal_gives_its_status() {
    let store = Store::new();
    // Under --init the command is no first process, which would be deaf to signals without a handler.
    let mut client = store.spawn(&["run", "--rm", "--init", IMAGE, "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "ready\n");
    signal(client.id() as i32, libc::SIGTERM);
    assert_eq!(code(&mut client), 143);
}

#[test]
fn signals_are_kept_from_the_command_with_sig_proxy_false() {
    let store = Store::new();
    let (mut client, _output) = trapper(&store, &["--sig-proxy=false"]);
    signal(client.id() as i32, libc::SIGTERM);
    assert_eq!(code(&mut client), 143);
    assert_eq!(store.inspect("trap", "{{.State.Status}}"), "running");
    assert_eq!(store.ok(&["logs", "trap"]), "ready");
}

#[test]
fn attached_clients_pass_signals_on_unless_told_not_to() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "trap", IMAGE, "probe", "trap"]);
    eventually("it to be ready", || store.ok(&["logs", "trap"]).contains("ready"));
    let mut deaf = store.spawn(&["attach", "--sig-proxy=false", "trap"]);
    eventually("the client to handle signals", || handles_signals(deaf.id()));
    signal(deaf.id() as i32, libc::SIGINT);
    assert_eq!(code(&mut deaf), 130);
    let mut client = store.spawn(&["attach", "trap"]);
    eventually("the client to handle signals", || handles_signals(client.id()));
    signal(client.id() as i32, libc::SIGUSR1);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "signal 10\n");
    signal(client.id() as i32, libc::SIGTERM);
    assert_eq!(line(&mut output), "signal 15\n");
    assert_eq!(code(&mut client), 40);
    assert_eq!(store.ok(&["logs", "trap"]), "ready\nsignal 10\nsignal 15");
}

/// Whether a process has blocked SIGTERM, to take it from a descriptor.
fn handles_signals(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap_or("0");
    u64::from_str_radix(blocked.trim(), 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
}

#[test]
fn start_attached_passes_signals_on() {
    let store = Store::new();
    store.ok(&["create", "--name", "trap", IMAGE, "probe", "trap"]);
    let mut client = store.spawn(&["start", "-a", "trap"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "ready\n");
    signal(client.id() as i32, libc::SIGUSR2);
    assert_eq!(line(&mut output), "signal 12\n");
    signal(client.id() as i32, libc::SIGTERM);
    assert_eq!(code(&mut client), 40);
}

#[test]
fn a_key_reaches_a_command_behind_an_init_once() {
    let store = Store::new();
    let script = "trap 'echo GOT' INT; echo ready; while :; do sleep 0.1; done";
    let mut terminal = store.terminal(&["run", "-it", "--init", "--name", "keyed", IMAGE, "sh", "-c", script]);
    terminal.expect("ready");
    terminal.send([3]);
    terminal.expect("GOT");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let log = store.ok(&["logs", "keyed"]);
    assert_eq!(log.matches("GOT").count(), 1, "{log}");
    store.ok(&["kill", "keyed"]);
    terminal.wait();
}
