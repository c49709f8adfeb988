//! The file of the runtime cannot be written through a process of its that somebody inside can see, and what such a
//! process holds cannot be looked at.

use super::bundle::Bundle;
use crate::support::{done, eventually, slurp};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

/// What must stay as it is.
#[derive(PartialEq)]
struct Own(Vec<u8>, (i64, i64));

impl Own {
    fn of(bundle: &Bundle) -> Own {
        let meta = std::fs::metadata(bundle.runtime()).unwrap();
        Own(slurp(bundle.runtime()), (meta.mtime(), meta.mtime_nsec()))
    }

    fn check(&self, bundle: &Bundle) {
        assert!(*self == Own::of(bundle), "the program's file was changed");
    }
}

/// Numbers, as the container counts, of the processes in its pid namespace that are this program.
fn own_processes(bundle: &Bundle, first: i32) -> Vec<i32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    let ours = namespace(&first.to_string()).unwrap();
    let size = std::fs::metadata(bundle.runtime()).unwrap().len();
    let entries = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    let inside = entries.filter(|pid| namespace(pid).is_ok_and(|ns| ns == ours));
    let own = inside.filter(|pid| std::fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|m| m.len() == size));
    own.filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|l| l.starts_with("NSpid:"))?;
        line.split_whitespace().last()?.parse().ok()
    })
    .collect()
}

fn wait_for_own_process(bundle: &Bundle, first: i32) -> i32 {
    let mut found = Vec::new();
    eventually("this program to be in the container", || {
        found = own_processes(bundle, first);
        !found.is_empty()
    });
    found[0]
}

/// A socket for terminals that nobody takes: who connects to it waits.
fn busy_socket(bundle: &Bundle) -> (String, UnixListener, Vec<UnixStream>) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let path = bundle.store.text("busy");
    let address = SocketAddrUnix::new(path.as_str()).unwrap();
    let socket = || rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
    let listener = socket().unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = socket().unwrap();
        match rustix::net::connect(&client, &address) {
            Ok(()) => waiting.push(client.into()),
            Err(e) => {
                assert_eq!(e, rustix::io::Errno::AGAIN);
                return (path, listener.into(), waiting);
            }
        }
    }
}

/// A process that has joined the container and waits there, as this program, until the client is killed.
fn joining(bundle: &Bundle, socket: &str) -> Child {
    let args = ["exec", "-d", "-t", "--console-socket", socket, bundle.id(), "true"];
    bundle.oci(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

const SECRETS: [&str; 7] = ["exe", "root", "cwd", "environ", "mem", "maps", "fd"];

#[test]
fn a_process_that_joins_cannot_be_looked_at() {
    let mut bundle = Bundle::with_own_program();
    bundle.start_sleeping();
    let (socket, _listener, _waiting) = busy_socket(&bundle);
    let mut client = joining(&bundle, &socket);
    let inside = wait_for_own_process(&bundle, bundle.pid());
    for file in SECRETS {
        let look = format!("ls -L /proc/{inside}/{file}/ || cat /proc/{inside}/{file}");
        let seen = bundle.exec(&[], &["sh", "-c", &look]);
        assert!(seen.code != 0 && seen.out.is_empty(), "{file}: {seen:?}");
    }
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn who_may_trace_all_processes_cannot_write_the_program_that_joins() {
    let mut bundle = Bundle::with_own_program();
    let own = Own::of(&bundle);
    bundle.start_sleeping();
    let (socket, _listener, _waiting) = busy_socket(&bundle);
    let mut client = joining(&bundle, &socket);
    let inside = wait_for_own_process(&bundle, bundle.pid());
    // Held open, so that the file can be opened anew when nobody executes it any more.
    let attack = format!(
        "exec 9</proc/{inside}/exe; probe open /proc/{inside}/exe w; mount --bind /proc/self/fd/9 /mnt; echo held; read x
         for i in $(seq 600); do [ \"$(probe open /proc/self/fd/9 w)\" = ETXTBSY ] || break; sleep 0.1; done
         probe open /proc/self/fd/9 w; probe open /proc/self/fd/9 rw; echo broken >>/proc/self/fd/9; echo end"
    );
    let caps = ["--cap", "CAP_SYS_PTRACE", "--cap", "CAP_DAC_OVERRIDE", "--cap", "CAP_SYS_ADMIN"];
    let args = [&["exec"], &caps[..], &[bundle.id(), "sh", "-c", &attack]].concat();
    let mut thief = bundle.oci_by_other(&args);
    let mut thief = thief.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    let mut out = std::io::BufReader::new(thief.stdout.take().unwrap());
    while said.last().is_none_or(|l| l != "held") {
        said.push(line(&mut out));
    }
    client.kill().unwrap();
    client.wait().unwrap();
    drop(thief.stdin.take());
    while said.last().is_none_or(|l| l != "end") {
        said.push(line(&mut out));
    }
    thief.wait().unwrap();
    assert!(["ETXTBSY", "EROFS"].contains(&said[0].as_str()), "{said:?}");
    assert_eq!(said[1..], ["held", "EROFS", "EROFS", "end"], "{said:?}");
    own.check(&bundle);
}

fn line(from: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    assert!(from.read_line(&mut line).unwrap() > 0, "no more lines");
    line.trim_end().to_owned()
}

#[test]
fn a_first_process_that_waits_cannot_be_looked_at_by_another_container() {
    let mut bundle = Bundle::with_own_program();
    bundle.start_sleeping();
    let first = bundle.pid();
    let mut other = Bundle::new();
    other.config["linux"]["namespaces"] = json!([
        {"type": "pid", "path": format!("/proc/{first}/ns/pid")}, {"type": "mount"}, {"type": "network"},
        {"type": "ipc"}, {"type": "uts"}
    ]);
    other.save();
    let dir = other.dir();
    let made = bundle_create(&bundle, &other, dir.to_str().unwrap());
    assert_eq!(made, Some(0));
    let inside = wait_for_own_process(&bundle, first);
    for file in SECRETS {
        let look = format!("ls -L /proc/{inside}/{file}/ || cat /proc/{inside}/{file}");
        let seen = bundle.exec(&[], &["sh", "-c", &look]);
        assert!(seen.code != 0 && seen.out.is_empty(), "{file}: {seen:?}");
    }
    done(&mut other.oci(&["delete", "-f", other.id()]));
}

/// Creates the container of `other` by the program of `bundle`, whose file tells it from others.
fn bundle_create(bundle: &Bundle, other: &Bundle, dir: &str) -> Option<i32> {
    let mut command = Command::new(bundle.runtime());
    command.arg("--root").arg(other.state_root()).args(["create", "-b", dir, other.id()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().code()
}

#[test]
fn programs_that_are_the_runtime_itself_do_no_harm() {
    let mut bundle = Bundle::with_own_program();
    let own = Own::of(&bundle);
    bundle.change("printf '#!/proc/self/exe\\n' >bin/trick; chmod 755 bin/trick; ln -s /proc/self/exe bin/itself");
    for program in ["/proc/self/exe", "/bin/trick", "/bin/itself"] {
        bundle.run(&[program, "--version"]);
        own.check(&bundle);
    }
    bundle.start_sleeping();
    for program in ["/proc/self/exe", "/bin/trick", "/bin/itself"] {
        bundle.exec(&[], &[program, "--version"]);
    }
    // It executes itself, now as the container's program that all may look at, and waits for an archive.
    let mut client = bundle
        .oci(&["exec", bundle.id(), "/proc/self/exe", "--root", "/r", "--state", "/s", "import", "-", "x"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let inside = wait_for_own_process(&bundle, bundle.pid());
    let attack = format!(
        "exec 9</proc/{inside}/exe; kill -9 {inside}
         for i in $(seq 600); do [ \"$(probe open /proc/self/fd/9 w)\" = ETXTBSY ] || break; sleep 0.1; done
         probe open /proc/self/fd/9 w; echo broken >>/proc/self/fd/9; chmod 777 /proc/self/fd/9; true"
    );
    let result = done(&mut bundle.oci_by_other(&["exec", bundle.id(), "sh", "-c", &attack]));
    client.wait().unwrap();
    assert_eq!(result.out.trim(), "EROFS", "{result:?}");
    own.check(&bundle);
    assert_eq!(std::fs::metadata(bundle.runtime()).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn a_read_only_mount_of_the_program_is_no_protection() {
    let mut bundle = Bundle::with_own_program();
    let own = Own::of(&bundle);
    let program = bundle.runtime().to_owned();
    let mounted = |what: &str| assert!(Command::new("sh").args(["-ec", what]).status().unwrap().success(), "{what}");
    let path = program.display();
    mounted(&format!("mount --bind {path} {path}; mount -o remount,bind,ro {path}"));
    bundle.set_args(&["sleep", "1000"]);
    bundle.save();
    let dir = bundle.dir();
    let code = bundle.quietly("exec \"$0\" \"$@\"", &["create", "-b", dir.to_str().unwrap(), bundle.id()]);
    let opened = (code == 0).then(|| std::fs::File::open(format!("/proc/{}/exe", bundle.pid())).unwrap());
    mounted(&format!("umount {path}"));
    assert_eq!(code, 0);
    done(&mut bundle.oci(&["delete", "-f", bundle.id()]));
    use std::os::fd::AsRawFd;
    let again = format!("/proc/self/fd/{}", opened.as_ref().unwrap().as_raw_fd());
    let error = std::fs::OpenOptions::new().write(true).open(again).expect_err("the program can be written");
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    own.check(&bundle);
}
