//! Archives of images and root file systems: what is written, what is shown, and those that mean harm.

use crate::support::{IMAGE, Store, Terminal, done, fed, fixture, slurp};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

// ---- archives made by hand

fn sha256(data: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// One member of a tar: its type, name, link and content.
type Member<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);

const fn file<'a>(name: &'a str, data: &'a str) -> Member<'a> {
    (b'0', name.as_bytes(), b"", data.as_bytes())
}

const fn link<'a>(kind: u8, name: &'a str, target: &'a str) -> Member<'a> {
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

fn tar_of(members: &[Member]) -> Vec<u8> {
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

fn config(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).unwrap()
}

fn diff_id(layer: &[u8]) -> String {
    format!("sha256:{}", sha256(layer))
}

/// An archive of an image `hostile` with these layers, whose diff ids may be wrong.
fn archive_with(layers: &[Vec<u8>], diff_ids: &[String]) -> Vec<u8> {
    let config = config(diff_ids);
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["hostile:latest"], "Layers": names}]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut members: Vec<Member> = vec![(b'0', b"manifest.json", b"", &manifest), (b'0', b"config.json", b"", &config)];
    members.extend(names.iter().zip(layers).map(|(n, l)| (b'0', n.as_bytes(), &b""[..], l.as_slice())));
    tar_of(&members)
}

fn archive(layers: &[Vec<u8>]) -> Vec<u8> {
    archive_with(layers, &layers.iter().map(|l| diff_id(l)).collect::<Vec<_>>())
}

fn packed(program: &str, data: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(["-q", "-c"]);
    fed(command, data).raw
}

fn busybox() -> Vec<u8> {
    slurp(fixture("busybox.tar"))
}

/// Everything in the store, with its content.
fn state(store: &Store) -> String {
    let script =
        "cd \"$0\" && find blobs layers tmp trash index.json containers volumes 2>/dev/null | sort && cat index.json";
    done(Command::new("sh").args(["-c", script]).arg(store.root())).out
}

/// A store with something in it, and a file beside it that nothing may touch.
fn guarded() -> (Store, String) {
    let store = Store::new();
    store.write("outside", "untouched");
    let before = state(&store);
    (store, before)
}

/// Loads what must be refused with these words, and nothing must be left of it.
fn refused(store: &Store, before: &str, archive: &[u8], words: &str) {
    let path = store.write("hostile.tar", archive);
    for done in [store.run(&["load", "-i", &path]), store.run_with_input(&["load"], archive)] {
        assert_eq!(done.code, 1, "{words}: {done:?}");
        assert!(done.err.contains(words), "{words:?} is not in {:?}", done.err);
        assert_eq!(done.out, "");
        assert_eq!(state(store), before, "{words}");
    }
    assert_eq!(slurp(store.path("outside")), b"untouched");
}

// ---- hostile layers

#[test]
fn layers_that_lead_out_are_refused() {
    let (store, before) = guarded();
    let outside = store.text("outside");
    let up = format!("../../../../../../../..{outside}");
    let deep = format!("{}/", "d".repeat(250)).repeat(16);
    let too_long = "d/".repeat(3000);
    let deeper = format!("l/{deep}");
    let cases: [(&[Member], &str); 15] = [
        (&[file(&up, "evil")], "leads outside"),
        (&[file("a/../../b", "evil")], "leads outside"),
        (&[link(b'1', "a", &up)], "leads outside"),
        (&[link(b'1', "a", &outside)], "in the same layer"),
        (&[link(b'1', "a", "missing")], "in the same layer"),
        (&[link(b'2', "a", &outside), link(b'1', "b", "a/x")], "in the same layer"),
        (&[link(b'2', "d", "/nowhere"), file("d/x", "evil")], "make the folder"),
        (&[link(b'2', "d", "../../../.."), link(b'2', "e", "d/nowhere"), file("e/x", "evil")], "make the folder"),
        (&[file(".wh...", "")], "whiteout"),
        (&[file("a/.wh.", "")], "whiteout"),
        (&[file(".wh.a/b", "")], "whiteout"),
        (&[link(b'3', "null", "")], "device 0:0"),
        (&[file(&too_long, "")], "longer than"),
        (&[link(b'5', &deep, ""), link(b'2', "l", &deep), link(b'5', &deeper, "")], "too deep"),
        (&[(b'9', b"what", b"", b"")], "type '9' is not supported"),
    ];
    for (members, words) in cases {
        refused(&store, &before, &archive(&[busybox(), tar_of(members)]), words);
    }
    let layers = [busybox(), tar_of(&[file("a", "x")])];
    let wrong = [diff_id(&layers[0]), diff_id(b"other")];
    refused(&store, &before, &archive_with(&layers, &wrong), "is not what its digest");
    refused(&store, &before, &archive_with(&layers, &wrong[..1]), "2 layers");
}

#[test]
fn odd_layers_are_applied_inside() {
    let (store, _) = guarded();
    let outside = store.text("outside");
    let long = "n".repeat(200) + "/" + &"m".repeat(200) + "/" + &"o".repeat(250);
    let deep = vec!["d".repeat(200); 20].join("/");
    let layer = tar_of(&[
        file("/etc/absolute", "absolute"),
        link(b'2', "out", "../../../../../../.."),
        file("out/through", "inside"),
        link(b'2', "abs", "/etc"),
        file("abs/added", "added"),
        link(b'2', "file", &outside),
        file("file", "replaced"),
        file("twice", "first"),
        file("twice", "second"),
        file("kind", "file"),
        link(b'5', "kind/", ""),
        file("kind/below", "below"),
        file(".wh.gone", ""),
        file(".wh..wh.plnk/x", ""),
        (b'0', b"bytes\xff\xfe\n", b"", b"odd name"),
        file(&long, "long"),
        file(&deep, "deep"),
        link(b'2', "long-link", &"t/".repeat(2000)),
    ]);
    // A link of one layer is a folder of the next, and the other way round.
    let (first, third) = (
        tar_of(&[link(b'2', "swap", &outside), link(b'5', "dir/", ""), file("dir/x", "x"), file("gone", "x")]),
        tar_of(&[link(b'5', "swap/", ""), file("swap/inside", "in"), link(b'2', "dir", "etc")]),
    );
    let path = store.write("odd.tar", archive(&[busybox(), first, layer, third]));
    assert_eq!(store.ok(&["load", "-i", &path]), "Loaded image: hostile:latest");
    let script = "cat /etc/absolute /through /etc/added /file /twice /kind/below /bytes* /n*/m*/o* /swap/inside; \
                  cat /dir/absolute; ls /gone /.wh* 2>&1 | wc -l; readlink /long-link | wc -c";
    let said = store.ok(&["run", "--rm", "hostile", "sh", "-c", script]);
    assert_eq!(said, "absoluteinsideaddedreplacedsecondbelowodd namelonginabsolute2\n4001");
    assert_eq!(slurp(store.path("outside")), b"untouched");
    // It comes out as it went in.
    let id = store.inspect("hostile", "{{.Id}}");
    store.ok(&["save", "-o", &store.text("again.tar"), "hostile"]);
    store.ok(&["rmi", "hostile"]);
    store.ok(&["load", "-i", &store.text("again.tar")]);
    assert_eq!(store.inspect("hostile", "{{.Id}}"), id);
}

#[test]
fn a_link_to_a_file_of_a_lower_layer_is_applied_as_the_kernel_would() {
    let (store, before) = guarded();
    let first = tar_of(&[link(b'5', "d/", ""), file("d/file", "below"), link(b'2', "out", &store.text("outside"))]);
    let top = tar_of(&[link(b'1', "other", "d/file"), link(b'1', "sym", "out"), file("last", "x")]);
    let layers = [busybox(), first, tar_of(&[file("d/between", "x")]), top.clone()];
    let path = store.write("links.tar", archive(&layers));
    store.ok(&["load", "-i", &path]);
    let script =
        "cat /other /d/file /d/between; [ /other -ef /d/file ]; stat -c %h-%a-%Y /d/file; readlink /sym; stat -c %Y /d";
    let said = store.ok(&["run", "--rm", "hostile", "sh", "-ec", script]);
    assert_eq!(said, format!("belowbelowx2-755-1700000000\n{}\n1700000000", store.text("outside")));
    // The layer belongs to those below it now, but comes out as it went in.
    let id = store.inspect("hostile", "{{.Id}}");
    store.ok(&["save", "-o", &store.text("again.tar"), "hostile"]);
    let others = [busybox(), tar_of(&[link(b'5', "d/", ""), file("d/file", "other"), file("out", "x")]), top.clone()];
    let with_it = state(&store);
    let told = store.fails(1, &["load", "-i", &store.write("others.tar", archive(&others))]);
    assert!(told.contains("on other ones"), "{told}");
    assert_eq!(state(&store), with_it);
    store.ok(&["rmi", "hostile"]);
    assert_eq!(state(&store), before);
    store.ok(&["load", "-i", &store.text("again.tar")]);
    assert_eq!(store.inspect("hostile", "{{.Id}}"), id);
    store.ok(&["rmi", "hostile"]);
    // What is not there, is a folder, is hidden or lies behind a link is no target.
    for (members, hidden) in [
        (vec![link(b'1', "other", "d/none")], ""),
        (vec![link(b'1', "other", "d")], ""),
        (vec![link(b'1', "other", "l/file")], ""),
        (vec![link(b'1', "other", "d/file")], ".wh.d"),
        (vec![link(b'1', "other", "d/file")], "d/.wh.file"),
        (vec![file("d/.wh..wh..opq", ""), link(b'1', "other", "d/file")], ""),
    ] {
        let below = tar_of(&[link(b'5', "d/", ""), file("d/file", "x"), link(b'2', "l", "/d")]);
        let between = if hidden.is_empty() { tar_of(&[file("z", "")]) } else { tar_of(&[file(hidden, "")]) };
        refused(&store, &before, &archive(&[busybox(), below, between, tar_of(&members)]), "in the same layer");
    }
}

#[test]
fn broken_streams_are_refused() {
    let (store, before) = guarded();
    let base = busybox();
    let whole = archive(&[base.clone(), tar_of(&[file("a", &"x".repeat(5000))])]);
    for length in [600, 3000, whole.len() / 2, whole.len() - 6000] {
        refused(&store, &before, &whole[..length], "");
    }
    let gzip = |data: &[u8]| packed("gzip", data);
    let packed = gzip(&whole);
    refused(&store, &before, &packed[..packed.len() / 2], "");
    // A layer whose stream is cut, whose header lies about a size, whose number is none, and that is no tar at all.
    let layer = tar_of(&[file("a", &"x".repeat(5000))]);
    let mut lying = layer.clone();
    lying[124..136].copy_from_slice(b"77777777777\0");
    let mut sum: u32 = lying[..148].iter().chain(&lying[156..512]).map(|b| u32::from(*b)).sum();
    sum += 8 * 32;
    lying[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut negative = layer.clone();
    negative[124] = 0xff;
    for (layer, words) in [
        (layer[..3000].to_vec(), "ends too early"),
        (lying, "ends too early"),
        (negative, "checksum"),
        (b"no tar".repeat(1000), "no tar archive"),
        (gzip(&layer)[..60].to_vec(), ""),
    ] {
        refused(&store, &before, &archive(&[base.clone(), layer]), words);
    }
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let (store, before) = guarded();
    let bomb = |data: &[u8]| packed("zstd", data);
    let layer = tar_of(&[(b'0', b"zeros", b"", &vec![0; 20 << 20])]);
    let packed = bomb(&layer);
    assert!(packed.len() < 10_000, "{}", packed.len());
    let mut inner = archive_with(&[packed], &[diff_id(&layer)]);
    let path = store.write("bomb.tar", &inner);
    let limited = |limit: &str| store.run(&["--unpack-limit", limit, "load", "-i", &path]);
    let told = limited("10MB");
    assert!(told.code == 1 && told.err.contains("--unpack-limit"), "{told:?}");
    assert_eq!(state(&store), before);
    // The whole archive is measured, too, and so is what is imported.
    inner = bomb(&archive(&[layer.clone()]));
    let whole = store.write("bomb.tar.zst", &inner);
    let mut command = store.command(&["load", "-i", &whole]);
    let told = done(command.env("MINIRUN_UNPACK_LIMIT", "10MB"));
    assert!(told.code == 1 && told.err.contains("--unpack-limit"), "{told:?}");
    let rootfs = store.write("rootfs.tar.zst", bomb(&layer));
    let told = store.fails(1, &["--unpack-limit", "10MB", "import", &rootfs]);
    assert!(told.contains("--unpack-limit"), "{told}");
    assert_eq!(state(&store), before);
    assert_eq!(limited("30MB").code, 0);
}

#[test]
fn five_hundred_layers_are_loaded_and_saved() {
    let store = Store::new();
    let layers: Vec<Vec<u8>> = (0..500).map(|n| tar_of(&[file(&format!("f{n}"), &n.to_string())])).collect();
    let path = store.write("many.tar", archive(&layers));
    store.ok(&["load", "-i", &path]);
    let count: Value = serde_json::from_str(&store.inspect("hostile", "{{json .RootFS.Layers}}")).unwrap();
    assert_eq!(count.as_array().unwrap().len(), 500);
    let id = store.inspect("hostile", "{{.Id}}");
    let saved = store.text("saved.tar");
    store.ok(&["save", "-o", &saved, "hostile"]);
    store.ok(&["rmi", "hostile"]);
    store.ok(&["load", "-i", &saved]);
    assert_eq!(store.inspect("hostile", "{{.Id}}"), id);
}

// ---- hostile archives

#[test]
fn members_do_not_lead_out_of_the_archive() {
    let (store, before) = guarded();
    let outside = store.text("outside");
    let layer = busybox();
    let config = config(&[diff_id(&layer)]);
    let with = |config_name: &str, layer_name: &str, more: &[Member]| {
        let manifest = json!([{"Config": config_name, "RepoTags": ["hostile:latest"], "Layers": [layer_name]}]);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut members: Vec<Member> = vec![
            (b'0', b"manifest.json", b"", &manifest),
            (b'0', b"config.json", b"", &config),
            (b'0', b"layer.tar", b"", &layer),
        ];
        members.extend(more);
        tar_of(&members)
    };
    let up = format!("../../../../../..{outside}");
    refused(&store, &before, &with(&outside, "layer.tar", &[]), "is not in the archive");
    refused(&store, &before, &with("config.json", &up, &[]), "is not in the archive");
    refused(&store, &before, &with("config.json", "x", &[link(b'2', "x", &outside)]), "is not a file");
    refused(&store, &before, &with("config.json", "x", &[link(b'2', "x", "x")]), "is not a file");
    refused(&store, &before, &with("config.json", "x", &[link(b'2', "x", &up)]), "is not a file");
    refused(&store, &before, &with("config.json", "layer.tar", &[file("../x", "")]), "leads outside");
    refused(&store, &before, &tar_of(&[file("manifest.json", "[]")]), "holds no images");
    refused(&store, &before, &tar_of(&[file("manifest.json", "[[[[[[")]), "read manifest.json");
    refused(&store, &before, &tar_of(&[file("index.json", r#"{"schemaVersion":2,"manifests":[]}"#)]), "no images");
    let deep = "[".repeat(100_000);
    refused(&store, &before, &tar_of(&[file("manifest.json", &deep)]), "read manifest.json");
    // A folder's links stay in the folder.
    let folder = store.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let manifest = r#"[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]"#;
    std::fs::write(folder.join("manifest.json"), manifest).unwrap();
    std::fs::write(folder.join("config.json"), &config).unwrap();
    let target = store.write("layer.tar", &layer);
    std::os::unix::fs::symlink(&target, folder.join("layer.tar")).unwrap();
    let told = store.fails(1, &["load", "-i", folder.to_str().unwrap()]);
    assert!(told.contains("layer.tar"), "{told}");
    assert_eq!(state(&store), before);
    std::fs::remove_file(folder.join("layer.tar")).unwrap();
    std::fs::write(folder.join("layer.tar"), &layer).unwrap();
    assert!(store.ok(&["load", "-i", folder.to_str().unwrap()]).starts_with("Loaded image ID: sha256:"));
}

#[test]
fn one_bad_layer_leaves_nothing_of_the_good_ones() {
    let (store, before) = guarded();
    let mut layers: Vec<Vec<u8>> = (0..20).map(|n| tar_of(&[file(&format!("f{n}"), "good")])).collect();
    layers.push(tar_of(&[file("../x", "bad")]));
    refused(&store, &before, &archive(&layers), "leads outside");
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
