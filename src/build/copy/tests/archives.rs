//! `ADD`: archives and addresses.

use super::*;
use crate::image::Digest;
use std::process::Command;

fn pack(bench: &Bench, name: &str, flag: &str) {
    let status = Command::new("tar")
        .args(["--owner=5", "--group=6", flag])
        .arg("-cf")
        .arg(bench.folder.path("ctx").join(name))
        .arg("-C")
        .arg(bench.folder.path("ctx/d"))
        .args(["."])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn archives_of_the_context_are_unpacked() {
    for (name, flag) in [("a.tar", "-v"), ("a.tgz", "-z"), ("a.txt", "--zstd"), ("a.xz", "-J"), ("a.bz2", "-j")] {
        let bench = Bench::new(&["d/a", "d/e/b", "d/l->a"], &["x/e->elsewhere"]);
        pack(&bench, name, flag);
        let found = bench.copy(&format!("ADD {name} /x"));
        assert_eq!(found, ["x/", "x/a=d/a", "x/e/", "x/e/b=d/e/b", "x/l->a"], "{name}");
        let stat = bench.stat("up/x/e/b");
        assert_eq!((stat.st_uid, stat.st_gid), (5, 6));
    }
    let bench = Bench::new(&["d/a"], &[]);
    pack(&bench, "a.tar", "-v");
    bench.perform("ADD --chown=7:8 a.tar /x/").unwrap();
    assert_eq!((bench.stat("up/x/a").st_uid, bench.stat("up/x/a").st_gid), (7, 8));
}

#[test]
fn what_is_no_archive_or_not_to_be_unpacked_is_a_file() {
    let bench = Bench::new(&["d/a", "plain.tar=no archive", "empty.tar="], &[]);
    pack(&bench, "a.tar", "-v");
    for text in ["ADD --unpack=false a.tar /x/", "COPY a.tar /x/", "ADD plain.tar empty.tar /y/"] {
        bench.perform(text).unwrap();
    }
    let size = |path: &str| std::fs::metadata(bench.folder.path(path)).unwrap().len();
    assert_eq!(size("up/x/a.tar"), size("ctx/a.tar"));
    assert_eq!((size("up/y/plain.tar"), size("up/y/empty.tar")), (10, 0));
}

#[test]
fn a_broken_archive_is_an_error() {
    let bench = Bench::new(&["d/a"], &[]);
    pack(&bench, "a.tar", "-v");
    let path = bench.folder.path("ctx/a.tar");
    let content = std::fs::read(&path).unwrap();
    std::fs::write(&path, &content[..1025]).unwrap();
    let message = bench.refused("ADD a.tar /x");
    assert!(message.starts_with("copy \"a.tar\": ") && message.contains("too early"), "{message}");
    let left = std::fs::read_dir(bench.folder.path("root/tmp")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn addresses_are_fetched() {
    let bench = Bench::new(&["f=remote"], &[]);
    let digest = Digest::of(b"remote");
    assert_eq!(bench.copy("ADD http://files/ctx/f?q=1 /x/"), ["x/", "x/f=remote"]);
    let stat = bench.stat("up/x/f");
    assert_eq!((stat.st_mode & 0o777, stat.st_mtime), (0o600, 1_000_000_000));
    bench.perform(&format!("ADD --checksum={digest} --chmod=644 http://files/ctx/f /y")).unwrap();
    assert_eq!(bench.stat("up/y").st_mode & 0o777, 0o644);
    let wrong = Digest::of(b"else");
    let message = bench.refused(&format!("ADD --checksum={wrong} http://files/ctx/f /z"));
    assert!(message.contains(&format!("has the digest {digest}, not {wrong}")), "{message}");
    assert!(bench.refused("ADD http://other/f /z").contains("get http://other/f: no such host"));
    assert!(bench.refused("ADD http://files/ /z/").contains("ends with no file name"));
    assert!(bench.refused("ADD git@host:x /z").contains("get git@host:x: no such host"));
    assert!(bench.refused("ADD --checksum=sha256:00 f /z").contains("--checksum can only be used with an address"));
    assert!(bench.refused("COPY http://files/ctx/f /z").contains("source can't be a URL for COPY"));
}
