//! Owners, modes, times, links and the rest.

use super::*;
use std::ffi::OsStr;

fn attributes(bench: &Bench, path: &str) -> (u32, u32, u32) {
    let stat = bench.stat(path);
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

#[test]
fn owners() {
    let users = "etc/passwd=root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n";
    let groups = "etc/group=staff:x:50:\n";
    let with = |flag: &str, keeps_owner: bool| {
        let mut bench = Bench::new(&["d/a"], &[users, groups]);
        bench.keeps_owner = keeps_owner;
        bench.folder.dir("ctx/d").chown("a", 5, 6).unwrap();
        bench.copy(&format!("COPY {flag} d /x/y"));
        let (parent, file) = (attributes(&bench, "up/x"), attributes(&bench, "up/x/y/a"));
        assert_eq!(parent.0, 0o755);
        ((parent.1, parent.2), (file.1, file.2))
    };
    assert_eq!(with("", false), ((0, 0), (0, 0)));
    assert_eq!(with("", true), ((0, 0), (5, 6)));
    assert_eq!(with("--chown=web", true), ((33, 34), (33, 34)));
    assert_eq!(with("--chown=web:staff", false), ((33, 50), (33, 50)));
    assert_eq!(with("--chown=7", false), ((7, 7), (7, 7)));
    assert_eq!(with("--chown=33", false), ((33, 33), (33, 33)));
    assert_eq!(with("--chown=7:0", false), ((7, 0), (7, 0)));
    let bench = Bench::new(&["a"], &[users]);
    assert!(bench.refused("COPY --chown=nobody a /x").contains("unable to find user nobody"));
}

#[test]
fn modes() {
    let bench = Bench::new(&["d/a", "d/e/"], &["x/"]);
    bench.folder.dir("ctx/d").chmod("a", 0o4711).unwrap();
    bench.folder.dir("ctx/d").chmod("e", 0o2750).unwrap();
    bench.folder.dir("low").chmod("x", 0o1700).unwrap();
    bench.folder.dir("low").chown("x", 3, 4).unwrap();
    bench.copy("COPY d /x");
    assert_eq!(attributes(&bench, "up/x/a").0, 0o4711);
    assert_eq!(attributes(&bench, "up/x/e").0, 0o2750);
    // A folder that is only written to keeps what it has below.
    assert_eq!(attributes(&bench, "up/x"), (0o1700, 3, 4));
    let bench = Bench::new(&["d/a", "d/e/"], &[]);
    bench.copy("COPY --chmod=u=rwX,go=rX d /x");
    assert_eq!((attributes(&bench, "up/x/a").0, attributes(&bench, "up/x/e").0), (0o644, 0o755));
    assert!(bench.refused("COPY --chmod=9 d /x").contains("invalid chmod parameter"));
}

#[test]
fn times() {
    let mut bench = Bench::new(&["d/a", "d/e/b"], &[]);
    bench.folder.dir("ctx/d").set_mtime("a", 1_000, 7).unwrap();
    bench.folder.dir("ctx/d").set_mtime("e", 2_000, 0).unwrap();
    bench.copy("COPY d /x");
    let time = |path: &str| (bench.stat(path).st_mtime, bench.stat(path).st_mtime_nsec);
    assert_eq!(time("up/x/a"), (1_000, 7));
    assert_eq!(time("up/x/e"), (2_000, 0));
    assert!(time("up/x").0 > 1_000_000);
    std::fs::remove_dir_all(bench.folder.path("up/x")).unwrap();
    bench.latest = Some(1_500);
    bench.copy("COPY d <<F /x/\nF");
    let time = |path: &str| bench.stat(path).st_mtime;
    assert_eq!(["up/x/a", "up/x/e", "up/x/e/b", "up/x", "up/x/F"].map(time), [1_000, 1_500, 1_500, 1_500, 1_500]);
}

#[test]
fn hard_links_holes_nodes_and_attributes() {
    let bench = Bench::new(&["d/a", "d/e/"], &[]);
    let dir = bench.folder.dir("ctx/d");
    dir.link(&dir, "a", "b").unwrap();
    dir.set_xattr("a", "user.x", b"1").unwrap();
    dir.set_xattr("e", "user.y", b"2").unwrap();
    dir.mknod("fifo", FileType::Fifo, 0o640, 0).unwrap();
    let hole = dir.create("hole", 0o600).unwrap();
    hole.set_len(16 << 20).unwrap();
    std::os::unix::net::UnixListener::bind(bench.folder.path("ctx/d/socket")).unwrap();
    bench.perform("COPY d /x").unwrap();
    let made = bench.folder.dir("up/x");
    assert_eq!(made.names().unwrap(), ["a", "b", "e", "fifo", "hole"]);
    let (a, b, hole) = (made.stat("a").unwrap(), made.stat("b").unwrap(), made.stat("hole").unwrap());
    assert_eq!((a.st_ino, a.st_nlink), (b.st_ino, 2));
    assert_eq!((hole.st_size, hole.st_blocks < 64), (16 << 20, true));
    assert_eq!(file_type(&made.stat("fifo").unwrap()), FileType::Fifo);
    assert_eq!(made.xattr("a", OsStr::new("user.x")).unwrap().unwrap(), b"1");
    assert_eq!(made.xattr("e", OsStr::new("user.y")).unwrap().unwrap(), b"2");
}

#[test]
fn a_name_whose_place_another_file_has_taken_is_linked_to_nothing() {
    let bench = Bench::new(&["d1/x=one", "d2/x=two", "d3/"], &[]);
    std::fs::hard_link(bench.folder.path("ctx/d1/x"), bench.folder.path("ctx/d3/y")).unwrap();
    bench.perform("COPY d1 d2 d3 /to/").unwrap();
    assert_eq!(std::fs::read(bench.folder.path("up/to/x")).unwrap(), b"two");
    assert_eq!(std::fs::read(bench.folder.path("up/to/y")).unwrap(), b"one");
}

#[test]
fn large_files_come_whole() {
    let bench = Bench::new(&[], &[]);
    let content: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(bench.folder.path("ctx/big"), &content).unwrap();
    bench.perform("COPY big /").unwrap();
    assert!(std::fs::read(bench.folder.path("up/big")).unwrap() == content);
}
