//! Archives of images and root file systems: what is written, what is read, and what is shown.

use crate::support::{IMAGE, Store, Terminal, done, eventually, fed, fixture, slurp};
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

// ---- archives made by hand

pub fn sha256(data: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// One member of a tar: its type, name, link and content.
pub type Member<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);

pub const fn file<'a>(name: &'a str, data: &'a str) -> Member<'a> {
    (b'0', name.as_bytes(), b"", data.as_bytes())
}

pub const fn link<'a>(kind: u8, name: &'a str, target: &'a str) -> Member<'a> {
    (kind, name.as_bytes(), target.as_bytes(), b"")
}

fn header(out: &mut Vec<u8>, kind: u8, name: &[u8], target: &[u8], size: usize) {
    let mut block = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name[..name.len().min(100)]);
    put(100, b"0000755\x000000000\x000000000\0");
    put(124, format!("{size:011o}\0{:011o}\0        ", 1_700_000_000).as_bytes());
    put(156, &[kind]);
    put(157, &target[..target.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(block);
}

pub fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    let body = |out: &mut Vec<u8>, data: &[u8]| {
        out.extend(data);
        out.resize(out.len().next_multiple_of(512), 0);
    };
    for (kind, name, target, data) in members {
        for (flag, text) in [(b'L', name), (b'K', target)] {
            if text.len() > 100 {
                header(&mut out, flag, b"././@LongLink", b"", text.len() + 1);
                body(&mut out, &[text, &b"\0"[..]].concat());
            }
        }
        header(&mut out, *kind, name, target, data.len());
        body(&mut out, data);
    }
    out.extend([0; 1024]);
    out
}

pub fn config(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).unwrap()
}

pub fn diff_id(layer: &[u8]) -> String {
    format!("sha256:{}", sha256(layer))
}

/// An archive of an image `hostile` with these layers, whose diff ids may be wrong.
pub fn archive_with(layers: &[Vec<u8>], diff_ids: &[String]) -> Vec<u8> {
    let config = config(diff_ids);
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["hostile:latest"], "Layers": names}]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut members: Vec<Member> = vec![(b'0', b"manifest.json", b"", &manifest), (b'0', b"config.json", b"", &config)];
    members.extend(names.iter().zip(layers).map(|(n, l)| (b'0', n.as_bytes(), &b""[..], l.as_slice())));
    tar_of(&members)
}

pub fn archive(layers: &[Vec<u8>]) -> Vec<u8> {
    archive_with(layers, &layers.iter().map(|l| diff_id(l)).collect::<Vec<_>>())
}

pub fn packed(program: &str, data: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(["-q", "-c"]);
    fed(command, data).raw
}

pub fn busybox() -> Vec<u8> {
    slurp(fixture("busybox.tar"))
}

// ---- save

fn members(tar: &Path) -> Vec<String> {
    done(Command::new("tar").arg("-tf").arg(tar)).out.lines().map(str::to_owned).collect()
}

/// Two images, the second one on the first.
fn family() -> Store {
    let store = Store::new();
    store.committed_image(IMAGE, "child:1", "echo new >/new");
    store
}

#[test]
fn saved_images_share_their_layers_and_keep_their_ids() {
    let store = family();
    store.ok(&["tag", "child:1", "quay.io/other/name:v2"]);
    let ids = [IMAGE, "child:1"].map(|name| store.inspect(name, "{{.Id}}"));
    let (one, two) = (store.text("one.tar"), store.text("two.tar"));
    store.ok(&["save", "-o", &one, IMAGE, "child:1", "quay.io/other/name"]);
    assert_eq!(std::fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
    // Two manifests, two configurations, two layers.
    assert_eq!(members(one.as_ref()).iter().filter(|m| m.len() > 60).count(), 6);
    let saved = store.run(&["save", IMAGE, "child:1", "quay.io/other/name"]);
    assert!(saved.raw == slurp(&one), "the same images make the same bytes");
    let target = Store::empty();
    let said = target.run_with_input(&["load"], &saved.raw);
    let expected = "Loaded image: busybox:latest\nLoaded image: child:1\nLoaded image: quay.io/other/name:v2\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, expected, ""));
    assert_eq!([IMAGE, "child:1"].map(|name| target.inspect(name, "{{.Id}}")), ids);
    assert_eq!(target.inspect("quay.io/other/name:v2", "{{.Id}}"), ids[1]);
    assert_eq!(target.ok(&["run", "--rm", "child:1", "cat", "/new"]), "new");
    // By its id an image has no name.
    target.ok(&["save", "-o", &two, &ids[0][7..19]]);
    let empty = Store::empty();
    assert_eq!(empty.ok(&["load", "-q", "-i", &two]), format!("Loaded image ID: {}", ids[0]));
}

#[test]
fn a_repository_is_saved_with_all_of_its_tags() {
    let store = Store::new();
    for tag in ["a", "b"] {
        store.ok(&["tag", IMAGE, &format!("repo:{tag}")]);
    }
    let path = store.text("repo.tar");
    store.ok(&["save", "-o", &path, "repo"]);
    let target = Store::empty();
    assert_eq!(target.ok(&["load", "-i", &path]), "Loaded image: repo:a\nLoaded image: repo:b");
}

#[test]
fn what_cannot_be_saved_leaves_no_file() {
    let store = Store::new();
    let path = store.text("x.tar");
    assert_eq!(store.fails(1, &["save", "-o", &path, IMAGE, "missing"]), "Error: No such image: missing:latest\n");
    assert!(store.fails(1, &["save", "--format", "oci-dir", IMAGE]).contains("-o"));
    assert!(store.fails(1, &["save", "-o", &store.text("no/such"), IMAGE]).contains("No such file"));
    let full = store.fails(1, &["save", "-o", "/dev/full", IMAGE]);
    assert!(full.contains("No space left"), "{full}");
    std::fs::write(&path, "old").unwrap();
    // A layer that somebody has changed in the store.
    let layer = store.inspect(IMAGE, "{{index .RootFS.Layers 0}}");
    let passwd = store.root().join("layers").join(&layer[7..]).join("fs/etc/passwd");
    std::fs::write(&passwd, "changed").unwrap();
    let told = store.fails(1, &["save", "-o", &path, IMAGE]);
    assert!(told.contains(&layer), "{told}");
    assert_eq!(slurp(&path), b"old");
    let left = std::fs::read_dir(store.path("")).unwrap().flatten().map(|e| e.file_name());
    assert!(left.into_iter().all(|name| !name.as_bytes().starts_with(b".x")));
}

#[test]
fn layers_that_the_target_has_are_left_out() {
    let store = family();
    let (base, thin) = (store.text("base.tar"), store.text("thin.tar"));
    store.ok(&["save", "-o", &base, IMAGE]);
    store.ok(&["save", "-o", &thin, "--exclude", IMAGE, "child:1"]);
    assert!(std::fs::metadata(&thin).unwrap().len() < 30_000);
    let target = Store::empty();
    let told = target.fails(1, &["load", "-i", &thin]);
    assert!(told.contains("without the layers of busybox:latest"), "{told}");
    target.ok(&["load", "-i", &base]);
    assert_eq!(target.ok(&["load", "-i", &thin]), "Loaded image: child:1");
    assert_eq!(target.ok(&["run", "--rm", "child:1", "cat", "/new"]), "new");
}

#[test]
fn a_name_that_moves_is_told() {
    let store = Store::new();
    let old = store.inspect(IMAGE, "{{.Id}}");
    let path = store.write("moved.tar", archive(&[tar_of(&[file("a", "x")])]));
    store.ok(&["tag", IMAGE, "hostile"]);
    let expected = format!(
        "The image hostile:latest already exists, renaming the old one with ID {old} to empty string\n\
         Loaded image: hostile:latest"
    );
    assert_eq!(store.ok(&["load", "-i", &path]), expected);
}

// ---- terminals

#[test]
fn a_terminal_is_no_place_for_an_archive() {
    let store = Store::new();
    store.ok(&["create", "--name", "cc", IMAGE, "true"]);
    for args in [&["save", IMAGE][..], &["export", "cc"]] {
        let mut terminal = store.terminal(args);
        terminal.expect("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        assert_eq!(terminal.wait(), 1);
    }
    let mut terminal = store.terminal(&["load"]);
    terminal.expect("requested to read an archive from standard input, but that is a terminal");
    assert_eq!(terminal.wait(), 1);
}

#[test]
fn layers_are_shown_while_they_are_loaded() {
    let store = Store::new();
    let layers = [busybox(), tar_of(&[(b'0', b"big", b"", &vec![7; 3_000_000])])];
    let path = store.write("shown.tar", archive(&layers));
    let target = Store::empty();
    let mut terminal = target.terminal(&["load", "-i", &path]);
    let seen = terminal.expect("Loaded image: hostile:latest\r\n");
    assert_eq!(terminal.wait(), 0);
    for layer in &layers {
        let size = format!("{:.3}", layer.len() as f64 / 1e6);
        let line = format!("{}: Loading layer  {size}MB/{size}MB\r\n", &sha256(layer)[..12]);
        assert!(seen.contains(&line), "{line:?} is not in {seen:?}");
    }
    // On a wide terminal there are bars. With -q there is nothing, nor for a layer that is there.
    for (args, target, bars) in
        [(&["load", "-i"][..], Store::empty(), true), (&["load", "-q", "-i"], Store::empty(), false)]
    {
        let args = [args, &[&path]].concat();
        let mut terminal = Terminal::spawn(target.through_shell("stty cols 150 <&1; \"$0\" \"$@\"", &args));
        let seen = terminal.expect("Loaded image: hostile:latest\r\n");
        assert_eq!(terminal.wait(), 0);
        let bar = format!("Loading layer [{}>] ", "=".repeat(50));
        assert_eq!((seen.contains(&bar), seen.contains("Loading layer")), (bars, bars), "{seen:?}");
    }
    assert_eq!(target.ok(&["load", "-i", &path]), "Loaded image: hostile:latest");
}

// ---- export

#[test]
fn an_export_is_the_tree_that_the_container_sees() {
    let store = Store::new();
    store.ok(&["run", "--name", "cc", "-v", "/volume", "-v", &format!("{}:/bound", store.text("")), IMAGE, "sh", "-ec",
        "echo new >/etc/new; rm /bin/ls; rm -r /home; mkdir -p /d/e; ln /etc/new /d/link; echo v >/volume/v; echo h >>/etc/hosts"]);
    let path = store.text("c.tar");
    store.ok(&["export", "-o", &path, "cc"]);
    let names = members(path.as_ref());
    for there in
        [".dockerenv", "etc/hosts", "etc/resolv.conf", "d/e/", "d/link", "volume/", "bound/", "proc/", "bin/cat"]
    {
        assert!(names.iter().any(|n| n == there), "{there} is not in {names:?}");
    }
    for gone in ["bin/ls", "home/", "volume/v", "bound/c.tar", "./", "d/.wh..wh..opq"] {
        assert!(!names.iter().any(|n| n == gone), "{gone} is in {names:?}");
    }
    let shown = |name: &str| done(Command::new("tar").args(["-xOf", &path, name])).out;
    assert_eq!((shown("etc/hosts").as_str(), shown("d/link").as_str()), ("", "new\n"));
    let listed = done(Command::new("tar").args(["-tvf", &path, "etc/new"])).out;
    assert!(listed.starts_with('h') && listed.contains("link to d/link"), "{listed}");
    // Standard output gets the same, and an import of it has the same tree.
    assert!(store.run(&["export", "cc"]).raw == slurp(&path));
    store.ok(&["import", &path, "flat"]);
    assert_eq!(store.ok(&["run", "--rm", "flat", "cat", "/d/link"]), "new");
    assert!(store.fails(1, &["export", "nosuch"]).contains("No such container: nosuch"));
}

#[test]
fn a_container_that_runs_is_exported() {
    let store = Store::new();
    store.ok(&[
        "run",
        "-d",
        "--name",
        "cc",
        IMAGE,
        "sh",
        "-c",
        "while :; do echo x >>/grows; rm -f /b; mv /grows /b; done",
    ]);
    for _ in 0..5 {
        let done = store.run(&["export", "cc"]);
        assert_eq!(done.code, 0, "{done:?}");
        let mut list = Command::new("tar");
        list.arg("-t");
        assert_eq!(fed(list, &done.raw).code, 0);
    }
}

#[test]
fn who_waits_for_his_archive_keeps_nobody_waiting() {
    let store = Store::new();
    store.committed_image(IMAGE, "gone", "echo 1 > /1");
    let waiting = [&["load"][..], &["import", "-", "late"]].map(|words| {
        let mut command = store.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    // Both have begun when there are two folders for what they make.
    eventually("both to have begun", || store.root().join("tmp").read_dir().unwrap().count() == 2);
    let mut removal = store.command(&["rmi", "gone"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the removal", || removal.try_wait().unwrap().is_some());
    assert!(removal.wait().unwrap().success());
    for mut child in waiting {
        drop(child.stdin.take());
        assert!(!child.wait().unwrap().success(), "an empty archive is none");
    }
    assert_eq!(store.root().join("tmp").read_dir().unwrap().count(), 0);
}

#[test]
fn an_archive_goes_through_links_of_the_hosts() {
    let store = Store::new();
    let (link, stream) = (store.path("link"), store.path("stream"));
    store.write("file", "old");
    symlink("file", &link).unwrap();
    symlink("/proc/self/fd/1", &stream).unwrap();
    let loads = |name: &str| store.ok(&["load", "-i", &store.text(name)]).contains(IMAGE);
    store.ok(&["save", "-o", link.to_str().unwrap(), IMAGE]);
    assert!(link.is_symlink() && loads("file"));

    let mut command = store.command(&["save", "-o", stream.to_str().unwrap(), IMAGE]);
    let out = command.stdout(std::fs::File::create(store.path("out")).unwrap()).status().unwrap();
    assert!(out.success() && stream.is_symlink() && loads("out"));
}

#[test]
fn an_archive_is_added_to_where_our_output_goes() {
    let store = family();
    let saved = store.run(&["save", "child:1"]).raw;
    for to in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let log = store.write("log", "before\n");
        let file = std::fs::File::options().append(true).open(&log).unwrap();
        let done = store.command(&["save", "-o", to, "child:1"]).stdout(file).status().unwrap();
        assert!(done.success() && slurp(&log) == [&b"before\n"[..], &saved].concat(), "{to}");
    }
    let mut command = store.command(&["save", "-o", "/dev/stderr", "child:1"]);
    assert!(command.output().unwrap().stderr == saved);
    std::fs::create_dir(store.path("elsewhere")).unwrap();
    symlink("elsewhere/next", store.path("link")).unwrap();
    symlink("new", store.path("elsewhere/next")).unwrap();
    store.ok(&["save", "-o", &store.text("link"), "child:1"]);
    assert!(store.path("link").is_symlink() && store.path("elsewhere/next").is_symlink());
    assert!(slurp(store.path("elsewhere/new")) == saved);
    symlink("round", store.path("round")).unwrap();
    store.fails(1, &["save", "-o", &store.text("round"), "child:1"]);
    assert!(store.path("round").is_symlink());
}
