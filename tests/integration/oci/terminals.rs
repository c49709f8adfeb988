//! Terminals: sent over a socket, or relayed to the caller's own.

use super::{in_user_namespace, refuses, says};
use crate::support::{Terminal, done, eventually};
use crate::threats::bundle::Bundle;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::OutputModes;
use serde_json::json;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What engines listen on for a terminal.
struct Taker {
    listener: UnixListener,
    path: PathBuf,
}

impl Taker {
    fn new(b: &Bundle) -> Taker {
        let path = b.store.path("console.sock");
        let _ = std::fs::remove_file(&path);
        Taker { listener: UnixListener::bind(&path).unwrap(), path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn take(&self) -> OwnedFd {
        let (stream, _) = self.listener.accept().unwrap();
        let mut name = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(&name[..got.bytes], b"/dev/ptmx");
        let mut fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|m| match m {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(fds.len(), 1);
        fds.pop().unwrap()
    }
}

/// All that is written to a terminal until nobody has it open any more.
fn all_of(master: &OwnedFd) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = rustix::io::read(master, &mut buffer) {
        all.extend(&buffer[..n]);
    }
    String::from_utf8(all).unwrap()
}

const LOOK: &str = "tty; stty size; stat -c '%u:%g %a' $(tty) /dev/console; echo told > /dev/tty; \
                    [ $(cut -d ' ' -f 6 /proc/self/stat) = $$ ] && echo leads";

#[test]
fn a_terminal_is_sent_to_who_listens_for_it() {
    let mut b = Bundle::new();
    b.config["process"]["terminal"] = json!(true);
    b.config["process"]["consoleSize"] = json!({"height": 12, "width": 34});
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.set_args(&["sh", "-c", LOOK]);
    b.save();
    let taker = Taker::new(&b);
    let dir = b.dir();
    let result = done(&mut b.oci(&["create", "--console-socket", taker.path(), "-b", dir.to_str().unwrap(), b.id()]));
    assert_eq!((result.code, result.out.as_str(), result.err.as_str()), (0, "", ""));
    let master = taker.take();
    // Whoever shows it decides about that: he may pass it on to a terminal in raw mode.
    assert!(rustix::termios::tcgetattr(&master).unwrap().output_modes.contains(OutputModes::ONLCR));
    says(&b, &["start", b.id()]);
    let seen = all_of(&master);
    assert_eq!(seen, "/dev/pts/0\r\n12 34\r\n1000:5 620\r\n1000:5 620\r\ntold\r\nleads\r\n");
}

#[test]
fn exec_sends_a_terminal_too() {
    let mut b = Bundle::new();
    b.start_sleeping();
    let taker = Taker::new(&b);
    let options = ["exec", "-d", "-t", "--user", "1000", "--console-socket", taker.path(), b.id(), "sh", "-c"];
    let script = "tty; stat -c '%u' $(tty); [ $(cut -d ' ' -f 6 /proc/self/stat) = $$ ] && echo leads";
    says(&b, &[&options[..], &[script]].concat());
    assert_eq!(all_of(&taker.take()), "/dev/pts/0\r\n1000\r\nleads\r\n");
    let described = json!({"terminal": true, "consoleSize": {"height": 7, "width": 77}, "cwd": "/",
        "user": {"uid": 0, "gid": 0}, "args": ["/bin/stty", "size"]});
    let file = b.store.write("process.json", described.to_string());
    says(&b, &["exec", "-d", "--console-socket", taker.path(), "--process", &file, b.id()]);
    assert_eq!(all_of(&taker.take()), "7 77\r\n");
}

#[test]
fn a_terminal_works_in_a_user_namespace() {
    let mut b = Bundle::new();
    in_user_namespace(&mut b);
    b.config["process"]["terminal"] = json!(true);
    b.set_args(&[
        "sh",
        "-c",
        "sleep 0; tty; stat -c '%u:%g' $(tty) /dev/console; echo told > /dev/tty; touch /dev/shm/told; sleep 1000",
    ]);
    b.save();
    let taker = Taker::new(&b);
    let dir = b.dir();
    says(&b, &["run", "-d", "--console-socket", taker.path(), "-b", dir.to_str().unwrap(), b.id()]);
    let master = taker.take();
    let mut exec = Terminal::spawn(b.oci(&["exec", "-t", b.id(), "sh", "-c", "tty; stat -c '%u:%g' $(tty)"]));
    exec.expect("/dev/pts/1\r\n0:5\r\n");
    assert_eq!(exec.wait(), 0);
    eventually("all to be told", || done(&mut b.oci(&["exec", b.id(), "test", "-e", "/dev/shm/told"])).code == 0);
    b.delete();
    assert_eq!(all_of(&master), "/dev/pts/0\r\n0:5\r\n0:5\r\ntold\r\n");
}

#[test]
fn in_the_foreground_the_callers_terminal_is_the_containers() {
    let mut b = Bundle::new();
    b.config["process"]["terminal"] = json!(true);
    b.config["process"]["consoleSize"] = json!({"height": 1, "width": 2});
    b.set_args(&[
        "sh",
        "-c",
        "trap 'echo win' WINCH; trap 'echo int' INT; stty size; while :; do read x && eval $x; done",
    ]);
    b.save();
    let dir = b.dir();
    let mut t = Terminal::spawn(b.oci(&["run", "-b", dir.to_str().unwrap(), b.id()]));
    // The caller's size, and each line from the left.
    t.expect("33 101\r\n");
    assert!(t.is_raw());
    t.send("echo one; echo two\r");
    t.expect("one\r\ntwo\r\n");
    t.resize(20, 60);
    t.expect("win\r\n");
    t.send("stty size\r");
    t.expect("20 60\r\n");
    t.send("\u{3}");
    t.expect("int\r\n");
    t.send("exit 9\r");
    assert_eq!(t.wait(), 9);
    assert!(!t.is_raw(), "the terminal is as before");
    assert_eq!(says(&b, &["list", "-q"]), "");
    b.config["process"]["terminal"] = json!(false);
    b.start_sleeping();
    let mut t = Terminal::spawn(b.oci(&["exec", "--tty", b.id(), "sh"]));
    t.send("stty size; tty\r");
    t.expect("33 101\r\n/dev/pts/0\r\n");
    t.send("kill -9 $$\r");
    assert_eq!(t.wait(), 137);
    assert!(!t.is_raw());
}

#[test]
fn a_program_that_does_not_read_does_not_keep_its_output_back() {
    const LENGTH: usize = 1 << 20;
    let mut b = Bundle::new();
    b.config["process"]["terminal"] = json!(true);
    b.set_args(&["sh", "-c", &format!("stty raw -echo; echo ready; head -c {LENGTH}")]);
    b.save();
    let dir = b.dir();
    let mut command = b.oci(&["run", "-b", dir.to_str().unwrap(), b.id()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut greeting = [0; 6];
    output.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"ready\n");
    let sent: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    // Everything is typed before anything is read.
    let typist = std::thread::spawn(move || input.write_all(&copy).map(|()| input));
    let mut got = vec![0; LENGTH];
    output.read_exact(&mut got).unwrap();
    assert!(got == sent);
    drop(typist.join().unwrap());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_who_goes_away_does_not_keep_the_program_from_ending() {
    let mut b = Bundle::new();
    b.config["process"]["terminal"] = json!(true);
    b.set_args(&["sh", "-c", "head -c 300000 /dev/zero; exit 6"]);
    b.save();
    let dir = b.dir();
    let mut command = b.oci(&["run", "-b", dir.to_str().unwrap(), b.id()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut status = None;
    eventually("the program to end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(6));
}

#[test]
fn the_last_words_on_a_terminal_are_shown() {
    let mut b = Bundle::new();
    b.config["process"]["terminal"] = json!(true);
    for _ in 0..5 {
        let result = b.run(&["sh", "-c", "head -c 20000 /dev/zero | tr '\\0' x; echo; echo last"]);
        assert_eq!(result.code, 0, "{result:?}");
        assert!(result.out.len() == 20006 && result.out.ends_with("x\nlast\n"), "{}", result.out.len());
    }
}

#[test]
fn a_terminal_needs_somebody_who_holds_its_other_end() {
    let mut b = Bundle::new();
    b.set_args(&["true"]);
    b.save();
    let dir = b.dir();
    let place = dir.to_str().unwrap();
    let unused = "cannot use console socket if minirun-oci will not detach or allocate tty";
    let cases = [
        (false, &["create", "--console-socket", "/x"][..], unused),
        (true, &["run", "--console-socket", "/x"], unused),
        (true, &["create"], "cannot allocate tty if minirun-oci will detach without setting console socket"),
        (true, &["run", "-d"], "cannot allocate tty if minirun-oci will detach without setting console socket"),
    ];
    for (terminal, command, wrong) in cases {
        b.config["process"]["terminal"] = json!(terminal);
        b.save();
        let error = refuses(&b, 1, &[command, &["-b", place, b.id()]].concat());
        assert!(error.contains(wrong), "{command:?}: {error}");
    }
    assert!(!Path::new(&b.state_root()).join(b.id()).exists());
    b.config["process"]["terminal"] = json!(true);
    b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/dev/pts");
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("a terminal needs a devpts at /dev/pts"), "{refused:?}");
}
