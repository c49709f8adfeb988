//! Errors that say what is wrong: programs that cannot be run, and file systems that are full.

use crate::support::{IMAGE, Store, done, program};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A header of a 64-bit program for a machine of this number.
fn elf(machine: u8) -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    (elf[16], elf[18]) = (2, machine);
    elf
}

/// The same with an INTERP segment that names a loader.
fn with_loader(name: &str) -> Vec<u8> {
    let mut elf = elf(if cfg!(target_arch = "aarch64") { 183 } else { 62 });
    (elf[20], elf[32], elf[54], elf[56]) = (1, 64, 56, 1);
    let mut header = vec![0; 56];
    (header[0], header[8], header[32], header[40]) = (3, 120, name.len() as u8 + 1, name.len() as u8 + 1);
    elf.extend(header);
    elf.extend(name.as_bytes());
    elf.push(0);
    elf
}

fn script(store: &Store, name: &str, content: &[u8], mode: u32) {
    let path = store.write(name, content);
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_program_that_does_not_run_is_explained() {
    let store = Store::new();
    let foreign = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    script(&store, "shebang", b"#!/usr/bin/nosuch -e\n", 0o755);
    script(&store, "windows", b"#!/bin/sh\r\necho\r\n", 0o755);
    script(&store, "plain", b"#!/bin/sh\necho\n", 0o644);
    script(&store, "bare", b"echo hi\n", 0o755);
    script(&store, "empty", b"", 0o755);
    script(&store, "foreign", &elf(foreign), 0o755);
    script(&store, "dynamic", &with_loader("/lib/ld-nosuch.so.2"), 0o755);
    script(&store, "chained", b"#!/t/dynamic\n", 0o755);
    script(&store, "private", b"#!/bin/sh\n", 0o700);
    std::fs::create_dir(store.path("folder")).unwrap();
    let mount = format!("{}:/t:ro", store.text(""));
    let run = |user: &str, file: &str| {
        let command = format!("/t/{file}");
        store.run(&["run", "--rm", "-u", user, "-v", &mount, IMAGE, &command])
    };
    for (user, file, code, expected) in [
        (
            "0",
            "shebang",
            126,
            "no such file or directory: the file exists, but the interpreter of its first line /usr/bin/nosuch does not",
        ),
        ("0", "windows", 126, "carriage return"),
        (
            "0",
            "plain",
            126,
            "the file is not executable (its mode is 0644): add the x bit with chmod +x: permission denied",
        ),
        ("0", "bare", 126, "it is a script without a first line such as #!/bin/sh: exec format error"),
        ("0", "empty", 126, "the file is empty: exec format error"),
        ("0", "foreign", 126, "the program is for another kind of processor"),
        (
            "0",
            "dynamic",
            126,
            "the ELF loader /lib/ld-nosuch.so.2 does not: the program was built for another C library",
        ),
        ("0", "chained", 126, "the ELF loader /lib/ld-nosuch.so.2 that this one needs"),
        ("0", "folder", 126, "it is a directory: permission denied"),
        ("1000", "private", 126, "user 1000 may not run it (owner 0:0, mode 0700): permission denied"),
        ("0", "absent", 127, "stat /t/absent: no such file or directory"),
    ] {
        let done = run(user, file);
        assert_eq!(done.code, code, "{file}: {done:?}");
        assert!(done.err.contains(expected), "{file}: {}", done.err);
        assert!(done.err.contains(&format!("exec: \"/t/{file}\"")), "{file}: {}", done.err);
    }
}

#[test]
fn exec_and_mounts_without_programs_are_explained_too() {
    let store = Store::new();
    let mut args = vec!["run", "-d", "--name", "host", "--tmpfs", "/data:noexec", IMAGE, "sh", "-c"];
    args.push("cp /bin/busybox /data/busybox; printf 'x' > /x; chmod +x /x; exec sleep 1000");
    store.ok(&args);
    crate::support::eventually("the copy", || store.run(&["exec", "host", "test", "-x", "/x"]).code == 0);
    let err = store.fails(126, &["exec", "host", "/data/busybox"]);
    assert!(err.contains("it is on a file system that is mounted with noexec: permission denied"), "{err}");
    let err = store.fails(126, &["exec", "host", "/x"]);
    assert!(err.contains("it is a script without a first line"), "{err}");
    assert!(store.fails(127, &["exec", "host", "nosuch"]).contains("executable file not found in $PATH"));
}

#[test]
fn a_folder_on_a_file_is_explained() {
    let store = Store::new();
    for (mount, words) in [
        (
            "/tmp:/etc/passwd",
            "a folder cannot be mounted on a file; check that the path on the host exists and is a file",
        ),
        ("/etc/passwd:/etc", "a file cannot be mounted on a folder"),
    ] {
        let error = store.fails(125, &["run", "--rm", "-v", mount, IMAGE, "true"]);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_other_face_says_so_too() {
    let store = Store::new();
    let bundle = store.path("bundle");
    std::fs::create_dir_all(bundle.join("rootfs/bin")).unwrap();
    let file = bundle.join("rootfs/bin/script");
    std::fs::write(&file, "#!/no/interpreter\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let oci = |args: &[&str]| {
        let mut command = Command::new(program());
        command.args(["oci", "--root", &store.text("oci")]).args(args).current_dir(&bundle);
        done(&mut command)
    };
    assert_eq!(oci(&["spec"]).code, 0);
    let spec = std::fs::read_to_string(bundle.join("config.json")).unwrap();
    let spec = spec.replace("\"sh\"", "\"/bin/script\"").replace("\"terminal\": true", "\"terminal\": false");
    std::fs::write(bundle.join("config.json"), spec).unwrap();
    let id = format!("errors-{}", std::process::id());
    let run = oci(&["run", &id]);
    assert_ne!(run.code, 0);
    let expected = "the interpreter of its first line /no/interpreter does not";
    assert!(run.err.contains(expected) && run.err.contains("no such file or directory"), "{run:?}");
    oci(&["delete", "--force", &id]);
}

#[test]
fn a_full_disk_is_named() {
    let store = Store::new();
    let small = store.path("small");
    std::fs::create_dir(&small).unwrap();
    // In a mount namespace of its own, which is gone with it.
    let script = "set -e; mount -t tmpfs -o size=400k none \"$1\"; shift; \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&small).arg(program());
    command.arg("--root").arg(small.join("root")).arg("--state").arg(small.join("state"));
    // Or it would be refused before it is tried.
    command.args(["--unpack-limit", "1000000000"]);
    command.args(["import", crate::support::fixture("busybox.tar").to_str().unwrap(), "x"]);
    let full = done(&mut command);
    assert_eq!(full.code, 1, "{full:?}");
    let expected = format!("the file system of {}", small.join("root").display());
    assert!(full.err.contains(&expected) && full.err.contains("tmpfs"), "{}", full.err);
}

#[test]
fn who_is_not_root_is_told_who_has_to_be() {
    let store = Store::new();
    let words = store.command(&["ps"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(words.get_program()).args(words.get_args());
    let done = done(&mut command);
    assert!(done.code == 1 && done.err.contains("need root"), "{done:?}");
}
