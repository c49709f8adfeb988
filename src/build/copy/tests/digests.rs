//! What counts for the cache, and what does not.

use super::*;
use std::time::{Duration, SystemTime};

fn context() -> Bench {
    Bench::new(&["a=1", "d/b=2", "d/l->b", "c=3"], &[])
}

#[test]
fn times_do_not_count_and_all_else_does() {
    let bench = context();
    let all = "COPY . /";
    let before = bench.known(all).digest;
    bench.folder.dir("ctx").set_mtime("a", 5, 5).unwrap();
    bench.folder.dir("ctx").set_mtime("d", 5, 5).unwrap();
    assert_eq!(bench.known(all).digest, before);
    let mut seen = vec![before];
    type Change<'a> = &'a dyn Fn(&Dir);
    let changes: [(&str, Change); 8] = [
        ("content", &|dir| std::fs::write(dir_path(dir, "a"), "9").unwrap()),
        ("mode", &|dir| dir.chmod("a", 0o600).unwrap()),
        ("mode of a folder", &|dir| dir.chmod("d", 0o700).unwrap()),
        ("attribute", &|dir| dir.set_xattr("a", "user.x", b"1").unwrap()),
        ("attribute of a folder", &|dir| dir.set_xattr("d", "user.x", b"1").unwrap()),
        ("name", &|dir| dir.rename("a", dir, "z").unwrap()),
        ("target of a link", &|dir| {
            let d = dir.child("d").unwrap();
            d.unlink("l").unwrap();
            d.symlink("x".as_ref(), "l").unwrap();
        }),
        ("kind", &|dir| {
            dir.unlink("c").unwrap();
            dir.mkdir("c", 0o755).unwrap();
        }),
    ];
    for (what, change) in changes {
        change(&bench.folder.dir("ctx"));
        let now = bench.known(all).digest;
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    }
}

fn dir_path(dir: &Dir, name: &str) -> std::path::PathBuf {
    use std::os::fd::{AsFd, AsRawFd};
    format!("/proc/self/fd/{}/{name}", dir.as_fd().as_raw_fd()).into()
}

#[test]
fn only_what_is_copied_counts() {
    let bench = context().ignoring("c");
    let (all, one, folder) = ("COPY . /", "COPY a /", "COPY --exclude=b d /");
    let before = [all, one, folder].map(|text| bench.known(text).digest);
    write(&bench.folder, "ctx/c", "changed");
    assert_eq!([all, one, folder].map(|text| bench.known(text).digest), before);
    write(&bench.folder, "ctx/d/b", "changed");
    let after = [all, one, folder].map(|text| bench.known(text).digest);
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..]);
    // Owners count where they are kept.
    let mut bench = context();
    let roots = bench.known(all).digest;
    bench.folder.dir("ctx").chown("a", 7, 7).unwrap();
    assert_eq!(bench.known(all).digest, roots);
    bench.keeps_owner = true;
    assert_ne!(bench.known(all).digest, roots);
}

#[test]
fn names_of_one_file_count_if_they_are_copied() {
    let bench = Bench::new(&["d/a=1", "d/b=1", "d/c=1", "e/"], &[]);
    let link = |from: &str, to: &str| {
        let _ = std::fs::remove_file(bench.folder.path(to));
        std::fs::hard_link(bench.folder.path(from), bench.folder.path(to)).unwrap();
        bench.known("COPY d /").digest
    };
    let apart = bench.known("COPY d /").digest;
    assert_eq!(link("ctx/d/a", "ctx/e/a"), apart);
    let first = link("ctx/d/a", "ctx/d/b");
    let all = link("ctx/d/a", "ctx/d/c");
    write(&bench.folder, "ctx/d/new", "1");
    std::fs::rename(bench.folder.path("ctx/d/new"), bench.folder.path("ctx/d/b")).unwrap();
    let other = bench.known("COPY d /").digest;
    assert!(first != apart && all != apart && all != first && other != first && other != all);
}

#[test]
fn many_files_give_the_same_digest_on_any_number_of_threads() {
    let names: Vec<String> = (0..300).map(|n| format!("d{}/f{n}", n % 40)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bench = Bench::new(&names, &[]);
    let first = bench.known("COPY . /").digest;
    assert_eq!(bench.known("COPY . /").digest, first);
    write(&bench.folder, "ctx/d19/f299", "changed");
    assert_ne!(bench.known("COPY . /").digest, first);
}

#[test]
fn a_change_between_looking_and_copying_is_told() {
    let bench = context();
    let plan = bench.plan("COPY . /").unwrap();
    let known = plan.known_by(None).unwrap();
    write(&bench.folder, "ctx/d/b", "changed");
    let root = Root::open(&bench.folder.path("root"), &bench.folder.path("state")).unwrap();
    let options = Options { scratch: &|| root.scratch(), latest: None };
    let error = plan.perform(&known, &bench.union("low"), &bench.folder.dir("up"), &options).unwrap_err();
    assert!(error.to_string().contains("were changed while they were being copied"), "{error:#}");
}

#[test]
fn digests_are_remembered_for_files_that_do_not_change() {
    let bench = context();
    let path = bench.folder.path("memo");
    let stat = bench.stat("ctx/a");
    let memo = Memo::open(&path);
    let (digest, other) = (crate::image::Digest::of(b"x"), crate::image::Digest::of(b"y"));
    // A file that may still be changing is not.
    memo.put(&stat, other, SystemTime::now());
    assert_eq!(memo.get(&stat), None);
    memo.put(&stat, digest, SystemTime::now() + Duration::from_secs(10));
    memo.save().unwrap();
    let again = Memo::open(&path);
    assert_eq!(again.get(&stat), Some(digest));
    assert_eq!(again.get(&bench.stat("ctx/d/b")), None);
    bench.folder.dir("ctx").chmod("a", 0o600).unwrap();
    assert_eq!(again.get(&bench.stat("ctx/a")), None);
    // Damage is noticed.
    let mut data = std::fs::read(&path).unwrap();
    data[60] ^= 1;
    std::fs::write(&path, &data).unwrap();
    assert_eq!(Memo::open(&path).get(&stat), None);
    std::fs::write(&path, b"short").unwrap();
    assert_eq!(Memo::open(&path).get(&stat), None);
}

#[test]
fn a_remembered_digest_is_used() {
    let bench = context();
    let plan = bench.plan("COPY a /").unwrap();
    let memo = Memo::open(&bench.folder.path("memo"));
    memo.put(&bench.stat("ctx/a"), crate::image::Digest::of(b"x"), SystemTime::now() + Duration::from_secs(10));
    assert_ne!(plan.known_by(Some(&memo)).unwrap().digest, plan.known_by(None).unwrap().digest);
}
