//! What a container wrote, read again: streams, lines, times, following, rotation.

use crate::support::{IMAGE, Store, done, eventually, slurp};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// A container that has run this script to its end.
fn wrote(store: &Store, name: &str, options: &[&str], script: &str) {
    let args = [&["run", "-d", "--name", name], options, &[IMAGE, "sh", "-c", script]].concat();
    store.ok(&args);
    store.ok(&["wait", name]);
}

/// The files of a container's log, the newest first.
fn files(store: &Store, name: &str) -> Vec<PathBuf> {
    let path = store.inspect(name, "{{.LogPath}}");
    let older = (1..).map(|n| PathBuf::from(format!("{path}.{n}"))).take_while(|p| p.exists());
    std::iter::once(PathBuf::from(&path)).chain(older).collect()
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

#[test]
fn each_stream_comes_back_as_itself() {
    let store = Store::new();
    wrote(&store, "both", &[], "echo out1; echo err1 >&2; echo out2; echo err2 >&2");
    let done = store.run(&["logs", "both"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "out1\nout2\n", "err1\nerr2\n"));
    assert_eq!(store.run(&["container", "logs", "both"]).out, "out1\nout2\n");
}

#[test]
fn an_unfinished_last_line_stays_unfinished() {
    let store = Store::new();
    wrote(&store, "partial", &[], "echo whole; printf part; printf problem >&2");
    let done = store.run(&["logs", "partial"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("whole\npart", "problem"));
}

#[test]
fn a_line_written_in_pieces_is_one_line() {
    let store = Store::new();
    wrote(&store, "pieces", &[], "printf one; sleep 0.1; printf two; sleep 0.1; echo three; echo next");
    assert_eq!(store.run(&["logs", "pieces"]).out, "onetwothree\nnext\n");
    assert_eq!(store.run(&["logs", "--tail", "2", "pieces"]).out, "onetwothree\nnext\n");
    let stamped = store.run(&["logs", "-t", "pieces"]).out;
    assert_eq!(stamped.lines().count(), 2, "{stamped}");
    assert!(stamped.lines().next().unwrap().ends_with("Z onetwothree"), "{stamped}");
}

#[test]
fn tail_shows_so_many_lines_from_the_end() {
    let store = Store::new();
    wrote(&store, "ten", &[], "seq 1 10");
    let tail = |n: &str| store.run(&["logs", "--tail", n, "ten"]).out;
    let all: String = (1..=10).map(|n| format!("{n}\n")).collect();
    assert_eq!(tail("0"), "");
    assert_eq!(tail("1"), "10\n");
    assert_eq!(tail("3"), "8\n9\n10\n");
    for everything in ["10", "11", "all", "-1"] {
        assert_eq!(tail(everything), all, "{everything}");
    }
    assert_eq!(store.run(&["logs", "-n", "2", "ten"]).out, "9\n10\n");
    assert_eq!(store.run(&["logs", "--tail=2", "ten"]).out, "9\n10\n");
}

#[test]
fn tail_counts_an_unfinished_line() {
    let store = Store::new();
    wrote(&store, "partial", &[], "seq 1 3; printf end");
    assert_eq!(store.run(&["logs", "--tail", "1", "partial"]).out, "end");
    assert_eq!(store.run(&["logs", "--tail", "2", "partial"]).out, "3\nend");
}

#[test]
fn tail_counts_the_lines_of_both_streams_together() {
    let store = Store::new();
    wrote(&store, "both", &[], "for i in 1 2 3; do echo out$i; sleep 0.1; echo err$i >&2; sleep 0.1; done");
    let done = store.run(&["logs", "--tail", "3", "both"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out3\n", "err2\nerr3\n"));
}

#[test]
fn timestamps_have_nanoseconds_and_grow() {
    let store = Store::new();
    let before = jiff::Timestamp::now();
    wrote(&store, "timed", &[], "echo one; sleep 0.05; echo two; sleep 0.05; echo three >&2");
    let done = store.run(&["logs", "-t", "timed"]);
    let mut last = before;
    for (text, word) in done.out.lines().chain(done.err.lines()).zip(["one", "two", "three"]) {
        let (stamp, rest) = text.split_once(' ').unwrap();
        assert_eq!(rest, word);
        // 2026-01-02T03:04:05.123456789Z
        assert!(stamp.len() == 30 && stamp.ends_with('Z') && stamp.as_bytes()[19] == b'.', "{stamp}");
        let time: jiff::Timestamp = stamp.parse().unwrap();
        assert!(time > last, "{stamp} after {last}");
        last = time;
    }
    assert!(last < jiff::Timestamp::now());
    assert_eq!((done.out.lines().count(), done.err.lines().count()), (2, 1));
}

#[test]
fn since_and_until_cut_by_time() {
    let store = Store::new();
    wrote(&store, "timed", &[], "for w in one two three; do echo $w; sleep 0.1; done");
    let stamped = store.run(&["logs", "-t", "timed"]).out;
    let second = stamped.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let logs = |flags: &[&str]| store.run(&[&["logs"], flags, &["timed"]].concat()).out;
    assert_eq!(logs(&["--since", &second]), "two\nthree\n");
    assert_eq!(logs(&["--until", &second]), "one\ntwo\n");
    assert_eq!(logs(&["--since", &second, "--until", &second]), "two\n");
    assert_eq!(logs(&["--since", &second, "--tail", "1"]), "three\n");
    assert_eq!(logs(&["--until", &second, "--tail", "1"]), "two\n");
    // Relative times, whole days, seconds since 1970.
    assert_eq!(logs(&["--since", "1h"]), "one\ntwo\nthree\n");
    assert_eq!(logs(&["--until", "1h"]), "");
    assert_eq!(logs(&["--since", "2001-02-03"]), "one\ntwo\nthree\n");
    assert_eq!(logs(&["--until", "2001-02-03T04:05:06"]), "");
    assert_eq!(logs(&["--until", "1000000000"]), "");
    let second: jiff::Timestamp = second.parse().unwrap();
    let unix = format!("{}.{:09}", second.as_second(), second.subsec_nanosecond());
    assert_eq!(logs(&["--since", &unix]), "two\nthree\n");
    let error = store.fails(1, &["logs", "--since", "yesterday-ish", "timed"]);
    assert!(error.contains("yesterday-ish"), "{error}");
}

#[test]
fn follow_shows_what_comes_and_ends_with_the_container() {
    let store = Store::new();
    let script = "echo early; exec 3<>/pipe; while read -r l <&3; do echo $l; test $l = end && exit 3; done";
    store.ok(&["run", "-d", "--name", "live", IMAGE, "sh", "-c", &format!("mkfifo /pipe; {script}")]);
    let mut client = store.spawn(&["logs", "-f", "live"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(line(&mut output), "early\n");
    for word in ["one", "two", "end"] {
        // The last word ends the container, and perhaps this command before it has returned.
        store.run(&["exec", "live", "sh", "-c", &format!("echo {word} > /pipe")]);
        assert_eq!(line(&mut output), format!("{word}\n"));
    }
    assert_eq!(line(&mut output), "");
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn follow_of_an_ended_container_ends_at_once() {
    let store = Store::new();
    wrote(&store, "over", &[], "echo all");
    assert_eq!(store.ok(&["logs", "-f", "over"]), "all");
    store.ok(&["create", "--name", "never", IMAGE, "true"]);
    assert_eq!(store.ok(&["logs", "--follow", "never"]), "");
}

#[test]
fn follow_with_a_tail_begins_with_the_last_lines() {
    let store = Store::new();
    let script = "seq 1 50; until test -e /go; do sleep 0.05; done; echo new";
    store.ok(&["run", "-d", "--name", "live", IMAGE, "sh", "-c", script]);
    eventually("the old lines", || store.ok(&["logs", "live"]).ends_with("50"));
    let mut client = store.spawn(&["logs", "-f", "--tail", "2", "live"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    assert_eq!([line(&mut output), line(&mut output)], ["49\n", "50\n"]);
    store.ok(&["exec", "live", "touch", "/go"]);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "new\n");
    client.wait().unwrap();
}

#[test]
fn follow_goes_on_over_the_restarts_of_a_policy() {
    let store = Store::new();
    let script =
        "echo run >> /runs; n=$(wc -l < /runs); until test -e /go-$n; do sleep 0.05; done; echo end-$n; exit 1";
    let args = ["run", "-d", "--name", "again", "--restart", "on-failure:2", IMAGE, "sh", "-c", script];
    store.ok(&args);
    let client = store.spawn(&["logs", "-f", "again"]);
    for n in 1..=3 {
        eventually("the next run", || store.run(&["exec", "again", "touch", &format!("/go-{n}")]).code == 0);
        eventually("its end", || store.ok(&["logs", "again"]).contains(&format!("end-{n}")));
    }
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "end-1\nend-2\nend-3\n");
}

#[test]
fn follow_sees_everything_across_rotations() {
    let store = Store::new();
    // Each batch is smaller than a file, and the next one waits until the last was seen.
    let script = "mkfifo /pipe; exec 3<>/pipe; while read -r b <&3; do test $b = end && exit; \
                  i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo batch $b line $i; done; done";
    let options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=3"];
    store.ok(&[&["run", "-d", "--name", "live"], &options[..], &[IMAGE, "sh", "-c", script]].concat());
    eventually("the pipe", || store.run(&["exec", "live", "test", "-p", "/pipe"]).code == 0);
    let mut client = store.spawn(&["logs", "-f", "live"]);
    let mut output = BufReader::new(client.stdout.take().unwrap());
    for batch in 1..=20 {
        store.ok(&["exec", "live", "sh", "-c", &format!("echo {batch} > /pipe")]);
        for n in 1..=100 {
            assert_eq!(line(&mut output), format!("batch {batch} line {n}\n"));
        }
    }
    store.run(&["exec", "live", "sh", "-c", "echo end > /pipe"]);
    assert_eq!(line(&mut output), "");
    client.wait().unwrap();
    assert_eq!(files(&store, "live").len(), 3);
}

#[test]
fn rotation_bounds_the_files_and_keeps_the_newest() {
    let store = Store::new();
    let options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=3"];
    wrote(&store, "much", &options, "seq 1 20000");
    let files = files(&store, "much");
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let size = std::fs::metadata(file).unwrap().len();
        assert!(size <= 10 * 1024, "{} has {size} bytes", file.display());
    }
    let out = store.ok(&["logs", "much"]);
    let lines: Vec<u32> = out.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(lines.last(), Some(&20000));
    assert!(lines.windows(2).all(|w| w[1] == w[0] + 1), "there is a gap");
    assert!(lines.len() > 300 && lines.len() < 20000, "{} lines", lines.len());
    assert_eq!(store.ok(&["logs", "--tail", "1", "much"]), "20000");
}

#[test]
fn a_log_of_one_file_begins_anew_when_it_is_full() {
    let store = Store::new();
    wrote(&store, "one", &["--log-opt", "max-size=10k", "--log-opt", "max-file=1"], "seq 1 20000");
    let files = files(&store, "one");
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(std::fs::metadata(&files[0]).unwrap().len() <= 10 * 1024);
    assert_eq!(store.ok(&["logs", "--tail", "1", "one"]), "20000");
}

#[test]
fn a_log_is_bounded_without_any_option() {
    let store = Store::new();
    store.ok(&["create", "--name", "plain", IMAGE, "true"]);
    let limits = store.inspect("plain", "{{json .HostConfig.LogConfig.Config}}");
    let limits: serde_json::Value = serde_json::from_str(&limits).unwrap();
    for key in ["max-size", "max-file"] {
        let value: u64 = limits[key].as_str().unwrap().parse().unwrap();
        assert!(value > 0 && value < 1 << 30, "{limits}");
    }
}

#[test]
fn bad_log_options_are_refused() {
    let store = Store::new();
    for option in ["max-size=much", "max-file=0", "max-file=x", "nosuch=1", "max-size"] {
        let done = store.run(&["run", "--log-opt", option, IMAGE, "true"]);
        assert_eq!(done.code, 125, "{option}: {done:?}");
    }
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn any_bytes_come_back_unchanged() {
    let store = Store::new();
    let command = ["sh", "-c", "probe spew 3m; printf 'a\\0b\\r\\n\\n\\377\\n'; probe spew 100k >&2"];
    let ran = store.command(&[&["run", "--name", "bytes", IMAGE], &command[..]].concat()).output().unwrap();
    let logs = store.command(&["logs", "bytes"]).output().unwrap();
    assert_eq!(ran.stdout.len(), 3 * 1024 * 1024 + 8);
    assert!(ran.stdout == logs.stdout, "the standard output differs: {} bytes", logs.stdout.len());
    assert_eq!(ran.stderr.len(), 100 * 1024);
    assert!(ran.stderr == logs.stderr, "the standard error differs: {} bytes", logs.stderr.len());
}

#[test]
fn a_long_line_comes_back_in_one_piece() {
    let store = Store::new();
    wrote(&store, "long", &[], "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo next");
    let out = store.run(&["logs", "long"]).out;
    assert_eq!(out.len(), 1_000_006);
    assert_eq!(store.run(&["logs", "--tail", "1", "long"]).out, "next\n");
    let last_two = store.run(&["logs", "--tail", "2", "long"]).out;
    assert!(last_two == out, "{} bytes", last_two.len());
}

#[test]
fn a_terminals_log_is_what_the_terminal_got() {
    let store = Store::new();
    wrote(&store, "tty", &["-t"], "echo out; echo err >&2");
    let done = store.run(&["logs", "tty"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\r\nerr\r\n", ""));
}

#[test]
fn what_was_typed_on_a_terminal_is_in_the_log_as_it_was_shown() {
    let store = Store::new();
    let mut terminal = store.terminal(&["run", "-it", "--name", "typed", IMAGE, "sh"]);
    terminal.expect("# ");
    terminal.send("echo answer-$((6*7)); exit\n");
    terminal.wait();
    let log = store.run(&["logs", "typed"]).out;
    assert!(log.contains("echo answer-$((6*7)); exit\r\n") && log.contains("answer-42\r\n"), "{log}");
}

#[test]
fn the_log_goes_on_with_the_next_start() {
    let store = Store::new();
    wrote(&store, "again", &[], "echo x; printf unfinished >&2");
    store.ok(&["start", "again"]);
    store.ok(&["wait", "again"]);
    let done = store.run(&["logs", "again"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("x\nx\n", "unfinishedunfinished"));
}

#[test]
fn what_an_exec_writes_is_not_in_the_log() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "host", IMAGE, "sh", "-c", "echo own; exec sleep 1000"]);
    assert_eq!(store.ok(&["exec", "host", "echo", "foreign"]), "foreign");
    eventually("its own line", || store.ok(&["logs", "host"]) == "own");
}

#[test]
fn the_log_goes_with_the_container() {
    let store = Store::new();
    wrote(&store, "gone", &[], "echo x");
    let file = store.inspect("gone", "{{.LogPath}}");
    assert!(String::from_utf8_lossy(&slurp(&file)).contains("stdout F x"));
    store.ok(&["rm", "gone"]);
    assert!(!std::path::Path::new(&file).exists());
    assert!(store.fails(1, &["logs", "gone"]).contains("No such container: gone"));
    store.ok(&["run", "--rm", "--name", "passing", IMAGE, "echo", "x"]);
    assert!(store.fails(1, &["logs", "-f", "passing"]).contains("No such container: passing"));
}

#[test]
fn the_log_is_for_root_alone() {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new();
    wrote(&store, "secret", &[], "echo x");
    let mode = std::fs::metadata(store.inspect("secret", "{{.LogPath}}")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_reader_that_leaves_early_ends_the_command() {
    let store = Store::new();
    wrote(&store, "much", &[], "seq 1 100000");
    let done = done(&mut store.through_shell("\"$0\" \"$@\" | head -n 1", &["logs", "much"]));
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "1\n", ""));
    // A follower that is killed leaves the container alone.
    store.ok(&["run", "-d", "--name", "live", IMAGE, "sh", "-c", "echo x; exec sleep 1000"]);
    let mut client = store.spawn(&["logs", "-f", "live"]);
    assert_eq!(line(&mut BufReader::new(client.stdout.take().unwrap())), "x\n");
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(store.inspect("live", "{{.State.Status}}"), "running");
}

#[test]
fn several_followers_all_see_everything() {
    let store = Store::new();
    let script = "until test -e /go; do sleep 0.05; done; seq 1 3000";
    store.ok(&["run", "-d", "--name", "live", IMAGE, "sh", "-c", script]);
    let clients: Vec<_> = (0..5).map(|_| store.spawn(&["logs", "-f", "live"])).collect();
    store.ok(&["exec", "live", "touch", "/go"]);
    let all: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), all);
    }
}

#[test]
fn following_ends_at_the_time_that_was_given() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "talker", IMAGE, "sh", "-c", "while :; do echo line; sleep 0.1; done"]);
    eventually("a line", || !store.ok(&["logs", "talker"]).is_empty());
    let before = std::time::Instant::now();
    assert!(store.ok(&["logs", "-f", "--until=0s", "talker"]).contains("line"));
    let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(1);
    assert!(store.ok(&["logs", "-f", "--until", &soon.to_string(), "talker"]).contains("line"));
    assert!(before.elapsed() < std::time::Duration::from_secs(20));
}
