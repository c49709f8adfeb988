//! Archives that want out of their folder, or in where they do not belong.

use super::super::apply::unpack;
use super::super::tar::Kind::{self, *};
use super::super::tar::{Entry, encode};
use super::{Folder, entry, tar_of};
use crate::sys::dir::{Dir, is_whiteout};
use anyhow::Result;
use proptest::prelude::*;

/// Unpacks into `fs` below a folder whose other content must stay as it is.
fn unpacked(entries: &[(Entry, &[u8])]) -> (Folder, Result<()>) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("fs")).unwrap();
    std::fs::write(folder.path("outside"), "untouched").unwrap();
    let result = unpack(&tar_of(entries)[..], &folder.dir("fs"), None, u64::MAX, ()).map(drop);
    assert_eq!(std::fs::read(folder.path("outside")).unwrap(), b"untouched");
    assert_eq!(folder.dir(".").names().unwrap(), ["fs", "outside"]);
    (folder, result)
}

fn plain(kind: Kind, path: &str, link: &str) -> (Entry, &'static [u8]) {
    (entry(kind, path, link), b"")
}

#[test]
fn names_that_lead_out_are_refused() {
    for path in ["../outside", "a/../../outside", "/..", "..", "a/..", "a/b/../c"] {
        let (_, result) = unpacked(&[(entry(File, path, ""), b"evil")]);
        assert!(result.is_err(), "{path}");
    }
    for target in ["../outside", "/../outside", "a/../../outside", ""] {
        let (_, result) = unpacked(&[plain(HardLink, "a", target)]);
        assert!(result.is_err(), "{target}");
    }
}

#[test]
fn links_on_the_way_are_resolved_inside() {
    let (folder, result) = unpacked(&[
        plain(Directory, "etc/", ""),
        plain(Symlink, "abs", "/etc"),
        plain(Symlink, "up", "../../.."),
        (entry(File, "abs/passwd", ""), b"inside"),
        (entry(File, "up/outside", ""), b"inside"),
    ]);
    result.unwrap();
    assert_eq!(std::fs::read(folder.path("fs/etc/passwd")).unwrap(), b"inside");
    assert_eq!(std::fs::read(folder.path("fs/outside")).unwrap(), b"inside");
}

#[test]
fn a_link_is_replaced_and_not_written_through() {
    let (folder, result) = unpacked(&[plain(Symlink, "a", "../outside"), (entry(File, "a", ""), b"new")]);
    result.unwrap();
    assert_eq!(std::fs::read(folder.path("fs/a")).unwrap(), b"new");
    let (_, result) = unpacked(&[plain(Symlink, "a", "/nowhere"), (entry(File, "a/b", ""), b"new")]);
    assert!(result.is_err());
    // A hard link to a symbolic link is another name of the link.
    let (folder, result) = unpacked(&[plain(Symlink, "a", "../outside"), plain(HardLink, "b", "a")]);
    result.unwrap();
    assert!(folder.dir("fs").readlink("b").unwrap() == "../outside");
}

#[test]
fn whiteouts_have_one_plain_name() {
    for path in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        let (_, result) = unpacked(&[plain(File, path, "")]);
        assert!(result.is_err(), "{path}");
    }
    let (_, result) = unpacked(&[(entry(File, ".wh.a/b", ""), b"x")]);
    assert!(result.is_err());
    let (folder, result) = unpacked(&[plain(File, ".wh..wh.plnk/1.2", ""), plain(File, "d/.wh.x", "")]);
    result.unwrap();
    assert_eq!(folder.dir("fs").names().unwrap(), ["d"]);
    assert!(is_whiteout(&folder.dir("fs/d").stat("x").unwrap()));
}

#[test]
fn devices_and_attributes_that_steer_overlayfs_stay_out() {
    let (_, result) = unpacked(&[plain(CharDevice, "a", "")]);
    assert!(result.is_err());
    let mut file = entry(File, "f", "");
    file.xattrs = vec![
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"user.mine".to_vec(), b"\0\xff".to_vec()),
    ];
    let (folder, result) = unpacked(&[(file, b"")]);
    result.unwrap();
    let xattrs = folder.dir("fs").xattrs("f").unwrap();
    assert_eq!(xattrs, [("user.mine".into(), b"\0\xff".to_vec())]);
}

#[test]
fn trees_may_be_deeper_than_a_stack() {
    let folder = Folder::in_memory();
    std::fs::create_dir(folder.path("fs")).unwrap();
    let deep = "d/".repeat(2040);
    let tar = tar_of(&[plain(Directory, &deep, ""), (entry(File, &format!("{deep}f"), ""), b"bottom")]);
    // Threads have less stack than the process.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unpack(&tar[..], &folder.dir("fs"), None, u64::MAX, ()).unwrap();
            assert_eq!(folder.dir("fs").dir_in_root(&deep).unwrap().names().unwrap(), ["f"]);
            folder.dir(".").remove_tree("fs").unwrap();
        });
    });
    assert!(folder.dir(".").names().unwrap().is_empty());
}

#[test]
fn truncated_archives_are_errors() {
    let whole = tar_of(&[(entry(File, "a", ""), &[1; 2000]), (entry(File, &"long".repeat(60), ""), b"b")]);
    let folder = Folder::new();
    for length in (0..whole.len() - 1024).step_by(100) {
        let at_a_boundary = length == 0 || length == 512 + 2048;
        let name = length.to_string();
        std::fs::create_dir(folder.path(&name)).unwrap();
        let in_padding = (512 + 2000..512 + 2048).contains(&length);
        let result = unpack(&whole[..length], &folder.dir(&name), None, u64::MAX, ());
        assert!(result.is_err() || at_a_boundary || in_padding || length > whole.len() - 1536, "{length}");
    }
}

#[test]
fn records_about_an_entry_are_bounded() {
    let mut huge = entry(File, "a", "");
    huge.xattrs = vec![(b"user.x".to_vec(), vec![0; 2 << 20])];
    let folder = Folder::new();
    let error = unpack(&encode(&huge)[..], &folder.dir("."), None, u64::MAX, ()).unwrap_err();
    assert!(format!("{error:#}").contains("larger than"));
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let part = prop_oneof!["\\.\\.", "\\.", "a", "b", "c", "\\.wh\\.a", "\\.wh\\.\\.wh\\.\\.opq", "\\.wh\\.\\.\\.", ""];
    let path = || proptest::collection::vec(part.clone(), 1..4).prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![Just(File), Just(HardLink), Just(Symlink), Just(Directory), Just(Fifo)];
    (kind, path(), path(), any::<bool>())
        .prop_map(|(kind, path, link, absolute)| entry(kind, &path, &if absolute { format!("/{link}") } else { link }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_gets_out(entries in proptest::collection::vec(any_entry(), 1..12)) {
        let folder = Folder::new();
        std::fs::create_dir(folder.path("fs")).unwrap();
        let entries: Vec<_> = entries.into_iter().map(|e| (e, &b""[..])).collect();
        let _ = unpack(&tar_of(&entries)[..], &folder.dir("fs"), None, u64::MAX, ());
        prop_assert_eq!(Dir::open(folder.path(".")).unwrap().names().unwrap(), ["fs"]);
    }
}
