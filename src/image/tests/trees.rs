//! Trees become tars and tars trees, and foreign tars come out again bit for bit.

use super::super::apply::{OPAQUE_XATTR, unpack};
use super::super::diff::write_tree;
use super::super::digest::Digest;
use super::super::layer::{self, NewLayer, Promise};
use super::super::tar::Kind::*;
use super::super::tar::{END, Kind};
use super::{Folder, entry, tar_of, write};
use crate::sys::dir::{Dir, file_type, is_whiteout};
use proptest::prelude::*;
use rustix::fs::FileType;
use std::ffi::{OsStr, OsString};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

fn canonical(fs: &Dir) -> Vec<u8> {
    let mut out = Vec::new();
    write_tree(fs, &mut out).unwrap();
    out
}

/// Unpacks a tar as a layer of a store and asks for it back. True if that took a recipe.
fn comes_back(folder: &Folder, tar: &[u8]) -> bool {
    let store = folder.store();
    let diff_id = Digest::of(tar);
    layer::unpack(&store.root, tar, Promise { diff_id, stored: None }).unwrap();
    let mut out = Vec::new();
    store.write_layer_tar(&diff_id, &mut out).unwrap();
    assert!(out == tar);
    let recipe = layer::folder(&store.root, &diff_id).join("recipe");
    recipe.exists()
}

/// A tree with one of everything.
fn zoo() -> Folder {
    let folder = Folder::new();
    write(&folder, "t/dir/file", "content");
    write(&folder, "t/empty", "");
    write(&folder, &format!("t/{}/{}", "long".repeat(50), "name".repeat(50)), "x");
    write(&folder, "t/ümlaut", "x");
    let t = folder.dir("t");
    t.create(OsStr::from_bytes(b"bad\xff\n"), 0o600).unwrap();
    t.symlink(OsStr::new("../../etc/passwd"), "link").unwrap();
    t.symlink(OsStr::new(&"far/".repeat(60)), "far").unwrap();
    t.mknod("fifo", FileType::Fifo, 0o620, 0).unwrap();
    t.mknod("null", FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3)).unwrap();
    t.mknod("gone", FileType::CharacterDevice, 0, 0).unwrap();
    t.set_mtime("gone", 0, 0).unwrap();
    t.link(&t, "empty", "other name").unwrap();
    t.chown("empty", 3_000_000, 70_000).unwrap();
    t.chmod("empty", 0o6755).unwrap();
    t.set_xattr("empty", "security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    t.set_xattr("dir", "user.on.dir", b"").unwrap();
    t.set_xattr("dir", OPAQUE_XATTR, b"y").unwrap();
    let mut sparse = std::fs::File::create(folder.path("t/sparse")).unwrap();
    for at in [1 << 20, 3 << 20] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(b"data").unwrap();
    }
    sparse.set_len(5 << 20).unwrap();
    t.set_mtime("ümlaut", -3, 250_000_000).unwrap();
    t.set_mtime("dir", 1_000_000_000, 1).unwrap();
    folder
}

#[test]
fn a_tree_survives_the_way_through_its_tar() {
    let folder = zoo();
    let tar = canonical(&folder.dir("t"));
    std::fs::create_dir(folder.path("again")).unwrap();
    unpack(&tar[..], &folder.dir("again"), None, u64::MAX, ()).unwrap();
    assert!(canonical(&folder.dir("again")) == tar);
    assert!(!comes_back(&folder, &tar), "a canonical tar needs no recipe");
    let again = folder.dir("again");
    assert_eq!(again.stat("empty").unwrap().st_nlink, 2);
    assert!(is_whiteout(&again.stat("gone").unwrap()));
    assert_eq!(again.stat("empty").unwrap().st_mode & 0o7777, 0o6755);
    assert!(again.xattr("empty", "security.capability").unwrap().is_some());
}

#[test]
fn foreign_tars_come_back_bit_for_bit() {
    let folder = zoo();
    // A whiteout would be an ordinary device for them.
    folder.dir("t").unlink("gone").unwrap();
    let t = folder.path("t");
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=posix", "--xattrs", "--xattrs-include=*"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
        &["--format=gnu", "--label=volume", "--blocking-factor=1"],
    ] {
        let tar = Command::new("tar").args(options).arg("-C").arg(&t).args(["-c", "."]).output().unwrap().stdout;
        assert!(tar.len() > 5000);
        assert!(comes_back(&folder, &tar), "{options:?}");
    }
}

#[test]
fn sparse_files_of_every_format_are_unpacked_with_their_holes() {
    let folder = zoo();
    let expected = std::fs::read(folder.path("t/sparse")).unwrap();
    for version in ["gnu", "0.0", "0.1", "1.0"] {
        let mut command = Command::new("tar");
        match version {
            "gnu" => command.args(["--format=gnu", "-S"]),
            _ => command.args(["--format=posix", "-S", &format!("--sparse-version={version}")]),
        };
        let tar = command.arg("-C").arg(folder.path("t")).args(["-c", "sparse"]).output().unwrap().stdout;
        assert!(tar.len() < 100_000);
        std::fs::create_dir(folder.path(version)).unwrap();
        unpack(&tar[..], &folder.dir(version), None, u64::MAX, ()).unwrap();
        assert!(std::fs::read(folder.path(version).join("sparse")).unwrap() == expected, "{version}");
        assert!(folder.dir(version).stat("sparse").unwrap().st_blocks < 200);
    }
}

#[test]
fn python_tars_come_back_bit_for_bit() {
    let folder = zoo();
    folder.dir("t").unlink("gone").unwrap();
    for format in ["USTAR", "GNU", "PAX"] {
        let script = "import sys,tarfile\nt=tarfile.open(sys.argv[2],'w',format=getattr(tarfile,sys.argv[3]+'_FORMAT'))\n\
            t.add(sys.argv[1]+'/dir','dir')\nt.add(sys.argv[1]+'/link','link')\nt.add(sys.argv[1]+'/null','null')\nt.close()";
        let (t, out) = (folder.path("t"), folder.path("out.tar"));
        let Ok(status) = Command::new("python3").args(["-c", script]).arg(&t).arg(&out).arg(format).status() else {
            return;
        };
        assert!(status.success());
        comes_back(&folder, &std::fs::read(&out).unwrap());
    }
}

#[test]
fn content_of_replaced_files_is_kept_for_the_tar_only() {
    let folder = Folder::new();
    let tar = tar_of(&[
        (entry(File, "a", ""), b"first"),
        (entry(File, "d/x", ""), b"in a folder that goes"),
        (entry(HardLink, "b", "a"), b""),
        (entry(File, "a", ""), b"second"),
        (entry(File, "d", ""), b"third"),
        (entry(Symlink, "s", "e"), b""),
        (entry(Directory, "e/", ""), b""),
        (entry(File, "s/y", ""), b"through a link"),
    ]);
    assert!(comes_back(&folder, &tar));
    let fs = layer::folder(&folder.store().root, &Digest::of(&tar)).join("fs");
    assert_eq!(std::fs::read(fs.join("a")).unwrap(), b"second");
    assert_eq!(std::fs::read(fs.join("b")).unwrap(), b"first");
    assert_eq!(std::fs::read(fs.join("d")).unwrap(), b"third");
    assert_eq!(std::fs::read(fs.join("e/y")).unwrap(), b"through a link");
    assert_eq!(layer::meta(&folder.store().root, &Digest::of(&tar)).unwrap().size, 6 + 5 + 5 + 14);
}

#[test]
fn what_stands_behind_the_end_comes_back_too() {
    let folder = Folder::new();
    let mut tar = tar_of(&[(entry(File, "a", ""), b"x")]);
    assert!(!comes_back(&folder, &tar));
    tar.extend([0; 8192]);
    assert!(comes_back(&folder, &tar));
    tar.extend(b"rest");
    assert!(comes_back(&folder, &tar));
    tar.truncate(tar_of(&[(entry(File, "a", ""), b"x")]).len() - END.len());
    assert!(comes_back(&folder, &tar), "an archive without an end");
}

#[test]
fn tars_in_another_order_need_a_recipe() {
    let orders: [&[(Kind, &str, &str)]; 7] = [
        &[(File, "b", ""), (File, "a", "")],
        &[(File, "d/a", "")],
        &[(Directory, "d/", ""), (File, "e", ""), (File, "d/a", "")],
        &[(Directory, "./", ""), (File, "a", "")],
        &[(File, "a", ""), (HardLink, "b", "a"), (HardLink, "c", "b")],
        &[(Directory, "d", ""), (File, "d/a", "")],
        &[(File, "a", ""), (File, "a", "")],
    ];
    for order in orders {
        let entries: Vec<_> = order.iter().map(|(kind, path, link)| (entry(*kind, path, link), &b""[..])).collect();
        assert!(comes_back(&Folder::new(), &tar_of(&entries)), "{order:?}");
    }
    let whiteouts = [".wh.a", "d/", "d/.wh..wh..opq", "d/.wh.x", "d/y"];
    let entries = whiteouts.map(|path| match path.strip_suffix('/') {
        Some(_) => (entry(Directory, path, ""), &b""[..]),
        None if path == "d/y" => (entry(File, path, ""), &b"y"[..]),
        None => (super::super::diff::marker(path.as_bytes().to_vec()), &b""[..]),
    });
    assert!(!comes_back(&Folder::new(), &tar_of(&entries)));
    let twice = [entries[1].clone(), entries[2].clone(), entries[2].clone()];
    assert!(comes_back(&Folder::new(), &tar_of(&twice)));
}

#[test]
fn whiteouts_are_about_lower_layers_only() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("fs")).unwrap();
    let tar = tar_of(&[
        (entry(File, "d/.wh.before", ""), b""),
        (entry(Directory, "d/before/", ""), b""),
        (entry(File, "d/.wh.file", ""), b""),
        (entry(File, "d/file", ""), b"new"),
        (entry(Directory, "d/after/", ""), b""),
        (entry(File, "d/after/x", ""), b"stays"),
        (entry(File, "d/.wh.after", ""), b""),
        (entry(File, "d/.wh..wh..opq", ""), b""),
        (entry(File, "d/.wh.implied", ""), b""),
        (entry(File, "d/implied/x", ""), b""),
    ]);
    unpack(&tar[..], &folder.dir("fs"), None, u64::MAX, ()).unwrap();
    let is_opaque = |path: &str| folder.dir(path).xattr(".", OPAQUE_XATTR).unwrap() == Some(b"y".to_vec());
    for dir in ["fs/d", "fs/d/before", "fs/d/after", "fs/d/implied"] {
        assert!(is_opaque(dir), "{dir}");
    }
    assert_eq!(std::fs::read(folder.path("fs/d/file")).unwrap(), b"new");
    assert_eq!(std::fs::read(folder.path("fs/d/after/x")).unwrap(), b"stays");
}

#[test]
fn directories_keep_children_times_and_owners() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("fs")).unwrap();
    let mut late = entry(Directory, "d", "");
    (late.mode, late.uid, late.mtime) = (0o2711, 9, (77, 5));
    let mut child = entry(File, "./d//c", "");
    child.gid = 4;
    let tar = tar_of(&[(entry(Directory, "d", ""), b""), (child, b"c"), (late, b""), (entry(File, "/d/e", ""), b"")]);
    unpack(&tar[..], &folder.dir("fs"), None, u64::MAX, ()).unwrap();
    let stat = folder.dir("fs").stat("d").unwrap();
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_mtime, stat.st_mtime_nsec), (0o2711, 9, 77, 5));
    assert_eq!(folder.dir("fs/d").names().unwrap(), ["c", "e"]);
    assert_eq!(folder.dir("fs/d").stat("c").unwrap().st_gid, 4);
    assert_eq!(folder.dir("fs/d").stat("e").unwrap().st_gid, 0, "not the folder's group");
}

#[test]
fn a_layer_with_another_digest_leaves_nothing_behind() {
    let folder = Folder::new();
    let store = folder.store();
    let promise = Promise { diff_id: Digest::of(b"other"), stored: None };
    assert!(layer::unpack(&store.root, &tar_of(&[])[..], promise).is_err());
    assert!(folder.dir("root/layers").names().unwrap().is_empty());
    assert!(folder.dir("root/tmp").names().unwrap().is_empty());
}

/// A step that makes something in a tree.
#[derive(Clone, Debug)]
enum Step {
    File(Vec<u8>, Vec<u8>, u32, (i64, u32)),
    Directory(Vec<u8>, u32),
    Link(Vec<u8>, Vec<u8>),
    Hard(Vec<u8>),
    Gone(Vec<u8>),
    Enter,
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || {
        let byte = (1u8..=255).prop_filter("no slash", |b| *b != b'/');
        let name = proptest::collection::vec(byte, 1..120);
        name.prop_filter("a plain name", |n| n != b"." && n != b".." && !n.starts_with(b".wh."))
    };
    let time = (-1000i64..1 << 33, prop_oneof![Just(0u32), 0u32..1_000_000_000]);
    prop_oneof![
        (name(), any::<Vec<u8>>(), 0u32..0o10000, time).prop_map(|(n, c, m, t)| Step::File(n, c, m, t)),
        (name(), 0u32..0o10000).prop_map(|(n, m)| Step::Directory(n, m)),
        (name(), name()).prop_map(|(n, t)| Step::Link(n, t)),
        name().prop_map(Step::Hard),
        name().prop_map(Step::Gone),
        Just(Step::Enter),
        Just(Step::Leave),
    ]
}

fn grow(top: Dir, steps: &[Step]) -> std::io::Result<()> {
    let mut stack = vec![top];
    let mut file: Option<(Dir, OsString)> = None;
    let mut last: Option<OsString> = None;
    for step in steps {
        let here = stack.last().unwrap().try_clone()?;
        let os = |n: &Vec<u8>| OsString::from_vec(n.clone());
        match step {
            Step::File(name, content, mode, time) if here.stat_opt(os(name))?.is_none() => {
                here.create(os(name), 0o600)?.write_all(content)?;
                here.chmod(os(name), *mode)?;
                here.set_mtime(os(name), time.0, time.1)?;
                file = Some((here, os(name)));
            }
            Step::Directory(name, mode) if here.stat_opt(os(name))?.is_none() => {
                here.mkdir(os(name), 0o700)?;
                here.chmod(os(name), *mode)?;
                last = Some(os(name));
            }
            Step::Link(name, target) if here.stat_opt(os(name))?.is_none() => here.symlink(&os(target), os(name))?,
            Step::Hard(name) if here.stat_opt(os(name))?.is_none() => {
                if let Some((dir, first)) = &file {
                    here.link(dir, first, os(name))?;
                }
            }
            Step::Gone(name) if here.stat_opt(os(name))?.is_none() => {
                here.mknod(os(name), FileType::CharacterDevice, 0, 0)?;
            }
            Step::Enter => {
                if let Some(dir) = last.take().and_then(|name| here.child(name).ok()) {
                    stack.push(dir);
                }
            }
            Step::Leave if stack.len() > 1 => drop(stack.pop()),
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_tree_survives(steps in proptest::collection::vec(step(), 0..40)) {
        let folder = Folder::new();
        std::fs::create_dir(folder.path("t")).unwrap();
        grow(folder.dir("t"), &steps).unwrap();
        let tar = canonical(&folder.dir("t"));
        std::fs::create_dir(folder.path("again")).unwrap();
        unpack(&tar[..], &folder.dir("again"), None, u64::MAX, ()).unwrap();
        prop_assert!(canonical(&folder.dir("again")) == tar);
        prop_assert!(!comes_back(&folder, &tar));
    }
}

#[test]
fn a_new_layer_is_readable_by_all_whatever_the_umask() {
    let folder = Folder::new();
    let layer = NewLayer::begin(&folder.store().root).unwrap();
    let stat = layer.fs.stat_self().unwrap();
    assert_eq!((file_type(&stat), stat.st_mode & 0o7777), (FileType::Directory, 0o755));
}
