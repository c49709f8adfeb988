//! Images that go to Docker, Podman, skopeo and umoci and come from them: the same id, and file by file the same tree.

use crate::base::{Done, Store, done};
use crate::docker::docker;
use crate::podman::podman;
use crate::support::{Engine, Room};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an image can hold, in two layers: the second one hides, replaces and adds.
const IMAGE: &str = "example.org/odd/things:v1";
const FIRST: &str = r#"
mkdir -p odd/empty odd/gone odd/hidden odd/sub/deep odd/sticky
echo gone >odd/gone/file; echo hidden >odd/hidden/file; echo keep >odd/keep; echo old >odd/replaced
echo data >odd/one; ln odd/one odd/two; ln odd/one odd/sub/three
ln -s ../etc/passwd odd/link; ln -s /nowhere/at/all odd/dangling
mknod odd/null c 1 3; mknod odd/loop b 7 200; mkfifo odd/fifo
cp bin/busybox odd/setuid; chmod 4755 odd/setuid; chown 12345:3000000 odd/keep odd/sub; chown -h 5:6 odd/link
chmod 0 odd/replaced; chmod 1777 odd/sticky; chmod 2750 odd/sub
touch -d 2001-02-03T04:05:06.789012345Z odd/keep; touch -h -d 1999-01-01T00:00:00Z odd/link
truncate -s 3M odd/holes; echo end >>odd/holes
touch "odd/$(printf 'bytes\377\376')" 'odd/with
newline' odd/ünïcödé 'odd/white space' "odd/$(printf '%0200d' 7)"
mkdir -p "odd/$(printf '%0120d/%0120d' 1 2)"; echo deep >"odd/$(printf '%0120d/%0120d' 1 2)/file"
python3 - <<'END'
import os
os.setxattr("odd/keep", "user.mine", b"value")
os.setxattr("odd/sub", "user.of.a.folder", bytes(range(1, 250)))
os.setxattr("odd/setuid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
END
touch -d 2010-10-10T10:10:10Z odd/sub odd/empty
"#;
const SECOND: &str = r#"
rm -r /odd/gone /odd/hidden /odd/dangling /odd/sub/three
mkdir /odd/hidden; echo new >/odd/hidden/new
rm /odd/replaced; mkdir /odd/replaced; echo in >/odd/replaced/inside
rm -r /odd/empty; ln -s keep /odd/empty; chown 77:88 /odd/one; echo more >/home/more
"#;
/// Where the engines put nothing of their own.
const WHERE: [&str; 6] = ["bin", "home", "odd", "root", "usr", "var"];

/// A store that has the image.
fn source() -> Store {
    let store = Store::empty();
    store.changed_image("base", FIRST);
    store.committed_image("base", IMAGE, SECOND);
    store
}

fn id(store: &Store, name: &str) -> String {
    store.inspect(name, "{{.Id}}")
}

fn fingerprint(words: &[&str], root: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/fingerprint.py");
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("python3").arg(script).arg(root).args(WHERE);
    let printed = succeeded(done(&mut command));
    assert!(printed.lines().count() > 40, "{printed}");
    printed
}

/// What an image of ours looks like to its containers.
fn tree(store: &Store, name: &str) -> String {
    let layers = store.inspect(name, "{{json .RootFS.Layers}}");
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    let folder = |layer: &String| store.root().join("layers").join(layer.strip_prefix("sha256:").unwrap()).join("fs");
    let lower: Vec<String> = layers.iter().rev().map(|l| folder(l).display().to_string()).collect();
    let at = store.path("mounted");
    std::fs::create_dir_all(&at).unwrap();
    let script = "mount -t overlay -o ro,lowerdir=\"$0\" none \"$1\"; shift; exec \"$@\"";
    fingerprint(&["unshare", "-m", "sh", "-ec", script, &lower.join(":"), at.to_str().unwrap()], &at)
}

/// Compares line by line: of two long texts only what differs is of interest.
fn same(left: &str, right: &str, what: &str) {
    let without = |a: &str, b: &str| a.lines().filter(|l| !b.lines().any(|o| o == *l)).collect::<Vec<_>>().join("\n");
    let (only_left, only_right) = (without(left, right), without(right, left));
    assert!(left == right, "{what}: on the left alone\n{only_left}\non the right alone\n{only_right}");
}

fn succeeded(done: Done) -> String {
    assert_eq!(done.code, 0, "{done:?}");
    done.out.trim_end().to_owned()
}

fn tool(program: &str, args: &[&str]) -> String {
    succeeded(done(Command::new(program).args(args)))
}

fn told(engine: &Engine, args: &[&str]) -> String {
    succeeded(done(&mut engine.command(args)))
}

/// A folder that this process alone uses, at the same place for engines in the room.
fn place(name: &str) -> PathBuf {
    let path = Room::get().path("interop").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Loads what a tool has written into a new store and compares it with what `expected` has.
fn comes_back(expected: &Store, path: &str, name: &str) {
    let store = Store::empty();
    let said = store.ok(&["load", "-i", path]);
    assert_eq!(id(&store, name), id(expected, IMAGE), "{path}: {said}");
    same(&tree(&store, name), &tree(expected, IMAGE), path);
}

fn unpacked_by_umoci(layout: &str, tag: &str, bundle: &Path) -> String {
    tool("umoci", &["unpack", "--image", &format!("{layout}:{tag}"), bundle.to_str().unwrap()]);
    fingerprint(&["env"], &bundle.join("rootfs"))
}

#[test]
fn docker_loads_what_we_save_and_we_load_what_it_saves() {
    let (store, docker, dir) = (source(), docker(), place("docker"));
    let archive = dir.join("ours.tar").display().to_string();
    store.ok(&["save", "-o", &archive, "base", IMAGE]);
    let said = told(docker, &["load", "-i", &archive]);
    assert!(said.contains(&format!("Loaded image: {IMAGE}")) && said.contains("Loaded image: base:latest"), "{said}");
    assert_eq!(told(docker, &["image", "inspect", "-f", "{{.Id}}", IMAGE]), id(&store, IMAGE));
    let container = told(docker, &["run", "-d", "--network", "none", IMAGE, "sleep", "1000"]);
    let merged = told(docker, &["inspect", "-f", "{{.GraphDriver.Data.MergedDir}}", &container]);
    let seen = fingerprint(&["env"], &Room::get().inside(&merged));
    told(docker, &["rm", "-f", &container]);
    same(&seen, &tree(&store, IMAGE), "docker");

    let theirs = dir.join("theirs.tar").display().to_string();
    told(docker, &["save", "-o", &theirs, IMAGE, "base"]);
    comes_back(&store, &theirs, IMAGE);
    for (program, suffix) in [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")] {
        tool(program, &["-1", "-k", &theirs]);
        comes_back(&store, &format!("{theirs}.{suffix}"), IMAGE);
    }
    told(docker, &["rmi", "-f", IMAGE, "base"]);
}

#[test]
fn docker_takes_an_archive_without_the_layers_that_it_has() {
    let (store, docker, dir) = (source(), docker(), place("thin"));
    store.ok(&["tag", IMAGE, "thin:top"]);
    store.ok(&["tag", "base", "thin:base"]);
    let (base, top) = (dir.join("base.tar").display().to_string(), dir.join("top.tar").display().to_string());
    store.ok(&["save", "-o", &base, "thin:base"]);
    store.ok(&["save", "-o", &top, "--exclude", "thin:base", "thin:top"]);
    told(docker, &["load", "-i", &base]);
    told(docker, &["load", "-i", &top]);
    assert_eq!(told(docker, &["image", "inspect", "-f", "{{.Id}}", "thin:top"]), id(&store, "thin:top"));
    told(docker, &["rmi", "-f", "thin:top", "thin:base"]);
}

#[test]
fn podman_loads_what_we_save_and_we_load_what_it_saves() {
    let (store, podman, dir) = (source(), podman(), place("podman"));
    let file = |name: &str| dir.join(name).display().to_string();
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let ours = file(&format!("ours-{format}"));
        store.ok(&["save", "--format", format, "-o", &ours, IMAGE]);
        let said = told(podman, &["load", "-i", &ours]);
        // It names what comes from a folder by the folder.
        let name = said.strip_prefix("Loaded image: ").expect(&said).to_owned();
        assert!(format == "oci-dir" || name == IMAGE, "{format}: {said}");
        assert_eq!(format!("sha256:{}", told(podman, &["inspect", "-f", "{{.Id}}", &name])), id(&store, IMAGE));
        let mounted = told(podman, &["image", "mount", &name]);
        let seen = fingerprint(&["env"], &Room::get().inside(&mounted));
        told(podman, &["image", "unmount", &name]);
        same(&seen, &tree(&store, IMAGE), format);

        told(podman, &["tag", &name, IMAGE]);
        let theirs = file(&format!("theirs-{format}"));
        told(podman, &["save", "--format", format, "-o", &theirs, IMAGE]);
        comes_back(&store, &theirs, IMAGE);
        told(podman, &["rmi", "-f", &name, IMAGE]);
    }
}

#[test]
fn skopeo_and_umoci_read_what_we_save_and_we_load_what_they_write() {
    let (store, dir) = (source(), place("skopeo"));
    let file = |name: &str| dir.join(name).display().to_string();
    let expected = tree(&store, IMAGE);
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let (ours, kind) = (file(&format!("ours-{format}")), if format == "oci-dir" { "oci" } else { format });
        store.ok(&["save", "--format", format, "-o", &ours, IMAGE]);
        let name = if format == "docker-archive" { IMAGE } else { "v1" };
        let layout = file(&format!("layout-{format}"));
        tool("skopeo", &["copy", "-q", &format!("{kind}:{ours}:{name}"), &format!("oci:{layout}:v1")]);
        same(&unpacked_by_umoci(&layout, "v1", &dir.join(format!("bundle-{format}"))), &expected, format);
    }
    // Ours without a detour.
    same(&unpacked_by_umoci(&file("ours-oci-dir"), "v1", &dir.join("bundle-direct")), &expected, "folder");
    tool("mkdir", &[&file("hybrid")]);
    tool("tar", &["-xf", &file("ours-docker-archive"), "-C", &file("hybrid")]);
    same(&unpacked_by_umoci(&file("hybrid"), "v1", &dir.join("bundle-hybrid")), &expected, "hybrid");
    comes_back(&store, &file("hybrid"), IMAGE);

    let from = format!("oci:{}:v1", file("ours-oci-dir"));
    for (number, (target, options)) in [
        ("docker-archive", &[][..]),
        ("oci-archive", &["--dest-compress-format", "gzip", "--dest-compress"]),
        ("oci-archive", &["--dest-compress-format", "zstd", "--dest-compress"]),
        ("oci", &["--dest-compress"]),
    ]
    .into_iter()
    .enumerate()
    {
        let theirs = file(&format!("theirs-{number}"));
        let to = format!("{target}:{theirs}:{IMAGE}");
        tool("skopeo", &[&["copy", "-q"], options, &[&from, &to]].concat());
        comes_back(&store, &theirs, IMAGE);
    }
}

#[test]
fn we_load_what_umoci_has_made() {
    let (store, dir) = (source(), place("umoci"));
    let layout = dir.join("layout").display().to_string();
    store.ok(&["save", "--format", "oci-dir", "-o", &layout, IMAGE]);
    let image = format!("{layout}:v1");
    let bundle = dir.join("bundle");
    let before = unpacked_by_umoci(&layout, "v1", &bundle);
    let script = "cd \"$1\"; rm -r odd/hidden odd/two; echo by-umoci >odd/new; ln odd/new odd/sub/other; chmod 700 odd
        # It writes whole seconds.
        touch -d 2024-01-01 odd/new odd/sub odd";
    tool("sh", &["-ec", script, "sh", bundle.join("rootfs").to_str().unwrap()]);
    tool("umoci", &["repack", "--image", &format!("{layout}:v2"), bundle.to_str().unwrap()]);
    tool("umoci", &["config", "--image", &image, "--config.cmd", "true"]);
    let after = fingerprint(&["env"], &bundle.join("rootfs"));
    assert_ne!(before, after);
    let target = Store::empty();
    let said = target.ok(&["load", "-i", &layout]);
    let renamed = IMAGE.replace(":v1", ":v2");
    assert_eq!(sorted(&said), [format!("Loaded image: {IMAGE}"), format!("Loaded image: {renamed}")]);
    same(&tree(&target, IMAGE), &before, "configured");
    same(&tree(&target, &renamed), &after, "changed");
    assert_eq!(target.inspect(IMAGE, "{{json .Config.Cmd}}"), "[\"true\"]");
}

#[test]
fn a_tree_that_is_exported_is_what_the_others_export() {
    let (store, docker, dir) = (source(), docker(), place("export"));
    let archive = dir.join("ours.tar").display().to_string();
    store.ok(&["tag", IMAGE, "exported"]);
    store.ok(&["save", "-o", &archive, "exported"]);
    told(docker, &["load", "-i", &archive]);
    let theirs = told(docker, &["create", "--name", "exported", "exported", "true"]);
    store.ok(&["create", "--name", "exported", "exported", "true"]);
    told(docker, &["export", "-o", &dir.join("docker.tar").display().to_string(), &theirs]);
    store.ok(&["export", "-o", &dir.join("minirun.tar").display().to_string(), "exported"]);
    let unpacked = ["docker", "minirun"].map(|engine| {
        let (tar, to) = (dir.join(format!("{engine}.tar")), dir.join(engine));
        std::fs::create_dir(&to).unwrap();
        // Docker's export has whole seconds, and of the extended attributes capabilities alone.
        let (tar, to) = (tar.display().to_string(), to.display().to_string());
        tool("tar", &["--numeric-owner", "--xattrs", "--xattrs-include=security.*", "-xpf", &tar, "-C", &to]);
        // Docker has devices of its own in there, and a link from /etc/mtab.
        let is_common = |line: &&str| !line.starts_with("dev/") && *line != "etc/mtab";
        let names = tool("tar", &["-tf", &tar]).lines().filter(is_common).collect::<Vec<_>>().join("\n");
        (fingerprint(&["env", "SECONDS=1"], Path::new(&to)), sorted(&names).join("\n"))
    });
    told(docker, &["rm", "-f", &theirs]);
    told(docker, &["rmi", "-f", "exported"]);
    same(&unpacked[0].0, &unpacked[1].0, "trees");
    same(&unpacked[0].1, &unpacked[1].1, "names");
}

fn sorted(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
