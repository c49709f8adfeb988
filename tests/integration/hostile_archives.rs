//! Archives that mean harm, or are just odd: refused with a word, or applied inside, and the store is as it was.

use crate::archives::{Member, archive, archive_with, busybox, config, diff_id, file, link, packed, sha256, tar_of};
use crate::support::{IMAGE, Store, done, slurp};
use serde_json::{Value, json};
use std::process::Command;

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
    inner = bomb(&archive(std::slice::from_ref(&layer)));
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

/// The body of a header with these records.
fn records(records: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..).map(|digits| rest + digits).find(|n| n.to_string().len() == n - rest).unwrap();
        out.extend(format!("{length} {key}={value}\n").into_bytes());
    }
    out
}

#[test]
fn records_about_all_entries_are_bounded() {
    let (store, before) = guarded();
    let long = "x".repeat(600_000);
    let tar = |keys: [&str; 2]| {
        let [first, second] = keys.map(|key| records(&[(key, &long)]));
        tar_of(&[(b'g', b"g", b"", &first), (b'g', b"g", b"", &second), file("f", "content")])
    };
    let words = "the records about all entries are larger than 1048576 bytes";
    let told = store.fails(1, &["import", &store.write("many.tar", tar(["a", "b"]))]);
    assert!(told.contains(words), "{told}");
    assert_eq!(state(&store), before);
    refused(&store, &before, &archive(&[busybox(), tar(["a", "b"])]), words);
    // What is replaced does not count.
    store.ok(&["import", &store.write("few.tar", tar(["a", "a"]))]);
}

/// A file of nothing but a hole.
fn hole(size: u64) -> Vec<u8> {
    let size = size.to_string();
    let sparse = records(&[
        ("GNU.sparse.major", "0"),
        ("GNU.sparse.minor", "1"),
        ("GNU.sparse.name", "hole"),
        ("GNU.sparse.size", &size),
        ("GNU.sparse.map", "0,0"),
    ]);
    tar_of(&[(b'x', b"x", b"", &sparse), file("hole", "")])
}

#[test]
fn holes_count_as_what_they_unpack_to() {
    let (store, before) = guarded();
    let (big, small) = (store.write("big.tar", hole(1 << 33)), store.write("small.tar", hole(1 << 24)));
    let limited = |args: &[&str]| store.run(&[&["--unpack-limit", "20MB"], args].concat());
    let image = store.write("image.tar", archive(&[busybox(), hole(1 << 33)]));
    std::fs::write(store.path("Dockerfile"), format!("FROM {IMAGE}\nARG name\nADD $name /\n")).unwrap();
    let context = store.text("");
    for args in [
        &["import", &big][..],
        &["load", "-i", &image],
        &["build", "--build-arg", "name=big.tar", "-t", "built", &context],
    ] {
        let told = limited(args);
        assert_eq!(told.code, 1, "{args:?}: {told:?}");
        assert!(told.err.contains("more than 20971520 bytes when unpacked; the option --unpack-limit"), "{told:?}");
    }
    store.ok(&["builder", "prune", "-af"]);
    assert_eq!(state(&store), before);
    // Several small ones are one big one.
    let whole = [hole(1 << 24), hole(1 << 24)].map(|tar| tar[..tar.len() - 1024].to_vec()).concat();
    assert_eq!(limited(&["import", &store.write("twice.tar", whole)]).code, 1);
    for args in [&["import", &small, "small"][..], &["build", "--build-arg", "name=small.tar", "-t", "built", &context]]
    {
        let told = limited(args);
        assert_eq!(told.code, 0, "{args:?}: {told:?}");
    }
    assert_eq!(store.ok(&["run", "--rm", "built", "stat", "-c", "%s %b", "/hole"]), "16777216 0");
}

#[test]
fn holes_are_copied_into_containers_without_reading_them() {
    let store = Store::new();
    store.ok(&["create", "--name", "box", IMAGE, "stat", "-c", "%s %b", "/hole"]);
    let told = store.run_with_input(&["cp", "-", "box:/"], &hole(1 << 42));
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(store.ok(&["start", "-a", "box"]), "4398046511104 0");
    // GNU's own: data between holes.
    let script = "cd \"$0\" && printf begin >s && truncate -s 1M s && printf middle >>s && truncate -s 3M s && \
                  tar -S -c s && sha256sum s >&2";
    let made = done(Command::new("sh").args(["-c", script]).arg(store.text("")));
    assert!(made.raw.len() < 100_000);
    assert_eq!(store.run_with_input(&["cp", "-", "box:/tmp"], &made.raw).code, 0);
    store.ok(&["cp", "box:/tmp/s", &store.text("again")]);
    assert_eq!(sha256(&slurp(store.path("again"))), made.err[..64]);
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
