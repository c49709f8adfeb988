//! Images: brought in from archives, listed, named, removed, and made of containers.

use crate::registry::servers::{Action, Proxy};
use crate::support::{IMAGE, Store, done, eventually, fixture, slurp};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

// ---- archives made by hand

fn sha256(data: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A tar archive of these files, in the ustar form.
pub fn tar_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, data) in files {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, "0000644\x000000000\x000000000\0");
        put(124, &format!("{:011o}\0{:011o}\0        0", data.len(), 1_700_000_000));
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

pub fn base_layer() -> Vec<u8> {
    slurp(fixture("busybox.tar"))
}

fn config(layers: &[&[u8]], marker: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": {"Cmd": ["cat", "/marker"], "Env": [format!("MARKER={marker}")]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created_by": "test"})).collect::<Vec<_>>(),
    });
    serde_json::to_vec(&config).unwrap()
}

/// An archive in the form of `docker save`: each image with its name and its layers.
pub fn docker_archive(images: &[(Option<&str>, &[&[u8]])]) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut manifest = Vec::new();
    for (number, (name, layers)) in images.iter().enumerate() {
        let config = config(layers, &format!("image {number}"));
        let config_name = format!("{}.json", sha256(&config));
        let mut members = Vec::new();
        for layer in *layers {
            let member = format!("{}/layer.tar", sha256(layer));
            if !files.iter().any(|(n, _)| *n == member) {
                files.push((member.clone(), layer.to_vec()));
            }
            members.push(member);
        }
        files.push((config_name.clone(), config));
        manifest.push(json!({"Config": config_name, "RepoTags": name.map(|n| vec![n]), "Layers": members}));
    }
    files.push(("manifest.json".into(), serde_json::to_vec(&manifest).unwrap()));
    tar_of(files.iter().map(|(n, d)| (n.as_str(), d.as_slice())))
}

/// An OCI image layout with one image, each layer packed by `pack` and called `media`.
fn oci_layout(name: &str, layers: &[&[u8]], media: &str, pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let config = config(layers, "oci");
    let mut blobs = vec![config.clone()];
    let descriptor = |media: &str, data: &[u8]| json!({"mediaType": media, "digest": format!("sha256:{}", sha256(data)), "size": data.len()});
    let mut descriptors = Vec::new();
    for layer in layers {
        let packed = pack(layer);
        descriptors.push(descriptor(media, &packed));
        blobs.push(packed);
    }
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config), "layers": descriptors,
    }));
    let manifest = manifest.unwrap();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    blobs.push(manifest);
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]})).unwrap();
    let names: Vec<String> = blobs.iter().map(|b| format!("blobs/sha256/{}", sha256(b))).collect();
    let mut files: Vec<(&str, &[u8])> =
        vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", &index)];
    files.extend(names.iter().map(String::as_str).zip(blobs.iter().map(Vec::as_slice)));
    tar_of(files)
}

fn packed(program: &str, data: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn gzip(data: &[u8]) -> Vec<u8> {
    packed("gzip", data)
}

// ---- looking at the store

/// The names of the folders of layers, sorted.
pub fn layer_folders(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(store.root().join("layers")).unwrap();
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All files of images, layers and unfinished work in a store, by name.
pub fn everything(store: &Store) -> Vec<String> {
    eventually("the trash to be emptied", || store.root().join("trash").read_dir().unwrap().count() == 0);
    let mut found = Vec::new();
    for dir in ["blobs", "layers", "tmp", "trash", "volumes", "containers"] {
        let out = done(Command::new("find").arg(store.root().join(dir)).args(["-mindepth", "1", "-maxdepth", "2"])).out;
        found.extend(out.lines().map(str::to_owned));
    }
    found.sort();
    found.push(store.ok(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]));
    found
}

pub fn layers_of(store: &Store, image: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(&store.inspect(image, "{{json .RootFS.Layers}}")).unwrap();
    list.as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned()).collect()
}

/// The folder of an image's topmost layer.
fn top_folder(store: &Store, image: &str) -> PathBuf {
    let layers = layers_of(store, image);
    store.root().join("layers").join(layers.last().unwrap().strip_prefix("sha256:").unwrap()).join("fs")
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Names, modes, owners, times, attributes and content of all layers in one number.
pub fn fingerprint_of_layers(store: &Store) -> String {
    let mut command = Command::new("bash");
    let script = "set -o pipefail; cd \"$0\" && tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime \
                  --xattrs --xattrs-include='*' -cf - * | sha256sum";
    let result = done(command.args(["-c", script]).arg(store.root().join("layers")));
    assert_eq!(result.code, 0, "{result:?}");
    result.out
}

// ---- import

#[test]
fn a_tar_becomes_an_image_however_it_is_packed_and_given() {
    let store = Store::empty();
    let tar = base_layer();
    let plain = fixture("busybox.tar");
    let id = store.ok(&["import", plain.to_str().unwrap(), "plain"]);
    assert!(is_digest(&id), "{id}");
    assert_eq!(store.inspect("plain", "{{.Id}}"), id);
    let gz = store.write("image.tar.gz", gzip(&tar));
    let zst = store.write("image.tar.zst", packed("zstd", &tar));
    store.ok(&["import", &gz, "gz"]);
    store.ok(&["import", &zst, "zst:1"]);
    let from_stdin = store.run_with_input(&["import", "-", "stdin"], &gzip(&tar));
    assert_eq!(from_stdin.code, 0, "{from_stdin:?}");
    for image in ["gz", "zst:1", "stdin"] {
        assert_eq!(layers_of(&store, image), layers_of(&store, "plain"), "{image}");
        assert_eq!(store.ok(&["run", "--rm", image, "cat", "/etc/os-release"]).lines().next(), Some("ID=busybox"));
    }
    assert_eq!(layer_folders(&store).len(), 1, "one layer for all");
    let unnamed = store.ok(&["import", plain.to_str().unwrap()]);
    assert_eq!(store.ok(&["run", "--rm", &unnamed, "echo", "by id"]), "by id");
}

#[test]
fn an_imported_images_configuration_is_what_was_asked_for() {
    let store = Store::empty();
    let changes = [
        r#"CMD ["sh", "-c", "pwd; id -u; echo $GREETING"]"#,
        "ENV GREETING='hello there' OTHER=1",
        "WORKDIR /srv",
        "USER 1000",
        "LABEL a=b",
        "EXPOSE 80/tcp",
        r#"VOLUME ["/data"]"#,
    ];
    let mut args = vec!["import"];
    args.extend(changes.iter().flat_map(|c| ["--change", c]));
    let tar = fixture("busybox.tar");
    args.extend(["-m", "my remark", tar.to_str().unwrap(), "me/made:v1"]);
    store.ok(&args);
    assert_eq!(store.ok(&["run", "--rm", "me/made:v1"]), "/srv\n1000\nhello there");
    let config: Value = serde_json::from_str(&store.inspect("me/made:v1", "{{json .Config}}")).unwrap();
    assert_eq!(config["WorkingDir"], "/srv");
    assert_eq!(config["User"], "1000");
    assert_eq!(config["Labels"], json!({"a": "b"}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(store.inspect("me/made:v1", "{{.Comment}}"), "my remark");
    assert_eq!(store.inspect("me/made:v1", "{{.Architecture}} {{.Os}}"), "amd64 linux");
    store.ok(&["import", tar.to_str().unwrap(), "plain"]);
    assert_eq!(store.inspect("plain", "{{.Comment}}"), "Imported from -");
}

#[test]
fn an_import_comes_from_the_web_and_for_any_platform() {
    let store = Store::empty();
    let packed = gzip(&base_layer());
    let web = Proxy::start(0, move |request| match request.first.as_str() {
        "GET /moved" => Action::Reply(302, "Location: /root.tar.gz\r\n".into(), Vec::new()),
        "GET /root.tar.gz" | "GET /root.tar.gz?sig=TOKEN" => Action::Reply(200, String::new(), packed.clone()),
        _ => Action::Reply(404, String::new(), Vec::new()),
    });
    let at = |path: &str| format!("http://localhost:{}{path}", web.port);
    let got = store.run(&["import", &at("/moved"), "got"]);
    assert_eq!((got.code, got.err), (0, format!("Downloading from {}\n", at("/moved"))));
    assert_eq!(store.inspect("got", "{{.Id}}"), got.out.trim_end());
    assert_eq!(store.inspect("got", "{{.Comment}}"), format!("Imported from {}", at("/moved")));
    assert_eq!(store.ok(&["run", "--rm", "got", "echo", "runs"]), "runs");
    let secret = at("/root.tar.gz?sig=TOKEN").replace("//", "//user:secret@");
    let got = store.run(&["import", "--platform", "", &secret, "kept"]);
    assert_eq!((got.code, got.err), (0, format!("Downloading from {}\n", at("/root.tar.gz"))));
    assert_eq!(store.inspect("kept", "{{.Comment}}"), format!("Imported from {}", at("/root.tar.gz")));
    let before = everything(&store);
    for start in ["//", "//user:secret@"] {
        let error = store.fails(1, &["import", &at("/nosuch?sig=TOKEN").replace("//", start), "bad"]);
        assert!(error.contains(&format!("Get \"{}\": not found", at("/nosuch"))), "{error}");
    }
    let mut limited = store.command(&["import", &at("/moved"), "bad"]);
    let done = done(limited.env("MINIRUN_UNPACK_LIMIT", "1000"));
    assert!(done.code == 1 && done.err.contains("larger than 1000 bytes"), "{done:?}");
    let tar = fixture("busybox.tar");
    let tar = tar.to_str().unwrap();
    for (platform, why) in [("windows/amd64", "is not supported"), ("a/b/c/d", "invalid platform")] {
        let error = store.fails(1, &["import", "--platform", platform, tar, "bad"]);
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(everything(&store), before);
    store.ok(&["import", "--platform", "linux/arm/v7", "-m", "for another", tar, "arm"]);
    assert_eq!(store.inspect("arm", "{{.Os}} {{.Architecture}} {{.Variant}} {{.Comment}}"), "linux arm v7 for another");
}

#[test]
fn what_is_no_archive_is_refused_and_leaves_nothing() {
    let store = Store::new();
    let before = everything(&store);
    let tar = base_layer();
    let mut flipped = gzip(&tar);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let file = |name: &str, data: &[u8]| store.write(name, data);
    for source in [
        file("garbage", b"this is no archive at all, but long enough to be looked at".repeat(100).as_slice()),
        file("empty", b""),
        file("short", &tar[..tar.len() / 2]),
        file("short.gz", &gzip(&tar)[..10_000]),
        file("flipped.gz", &flipped),
        store.text("nosuch"),
        store.text(""),
    ] {
        store.fails(1, &["import", &source, "bad"]);
        assert_eq!(everything(&store), before, "{source}");
    }
    let garbage = store.run_with_input(&["import", "-", "bad"], b"garbage");
    assert_eq!(garbage.code, 1, "{garbage:?}");
    store.fails(1, &["import", fixture("busybox.tar").to_str().unwrap(), "Bad/Name"]);
    for change in ["RUN true", "NOSUCH x", "ENV", "CMD"] {
        store.run(&["import", "-c", change, "/nosuch", "bad"]);
        let result = store.run(&["import", "-c", change, fixture("busybox.tar").to_str().unwrap(), "bad"]);
        if change != "CMD" {
            assert_eq!(result.code, 1, "{change}: {result:?}");
            assert_eq!(everything(&store), before, "{change}");
        }
    }
}

// ---- load

#[test]
fn images_of_one_archive_share_their_layers() {
    let store = Store::empty();
    let (base, one, two) = (base_layer(), tar_of([("marker", &b"one\n"[..])]), tar_of([("marker", &b"two\n"[..])]));
    let archive = docker_archive(&[(Some("test/one:1"), &[&base, &one]), (Some("test/two:2"), &[&base, &two])]);
    let file = store.write("saved.tar", &archive);
    let out = store.ok(&["load", "-i", &file]);
    assert!(out.contains("Loaded image: test/one:1") && out.contains("Loaded image: test/two:2"), "{out}");
    assert_eq!(layer_folders(&store).len(), 3);
    assert_eq!(store.ok(&["run", "--rm", "test/one:1"]), "one");
    assert_eq!(store.ok(&["run", "--rm", "test/two:2"]), "two");
    let expected = config(&[&base, &one], "image 0");
    assert_eq!(store.inspect("test/one:1", "{{.Id}}"), format!("sha256:{}", sha256(&expected)), "the id is kept");
    assert_eq!(store.inspect("test/one:1", "{{.Created}}"), "2024-05-06T07:08:09Z");
    let before = everything(&store);
    let again = store.run_with_input(&["load"], &gzip(&archive));
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(everything(&store), before, "loading it again changes nothing");
    assert_eq!(store.run_with_input(&["load", "-q"], &archive).code, 0);
}

#[test]
fn an_image_without_a_name_is_loaded_by_its_id_and_a_name_moves() {
    let store = Store::empty();
    let (base, one, two) = (base_layer(), tar_of([("marker", &b"one\n"[..])]), tar_of([("marker", &b"two\n"[..])]));
    let file = store.write("unnamed.tar", docker_archive(&[(None, &[&base, &one])]));
    let id = format!("sha256:{}", sha256(&config(&[&base, &one], "image 0")));
    assert!(store.ok(&["load", "-i", &file]).contains(&format!("Loaded image ID: {id}")));
    assert_eq!(store.ok(&["run", "--rm", &id[7..19]]), "one");
    store.ok(&["tag", &id, "moving"]);
    let file = store.write("other.tar", docker_archive(&[(Some("moving:latest"), &[&base, &two])]));
    let out = store.ok(&["load", "-i", &file]);
    assert!(
        out.contains(&format!("The image moving:latest already exists, renaming the old one with ID {id}")),
        "{out}"
    );
    assert_eq!(store.ok(&["run", "--rm", "moving"]), "two");
    assert!(store.ok(&["images", "--no-trunc", "-q"]).contains(&id), "the old one is still there");
}

#[test]
fn an_oci_layout_is_loaded_plain_gzip_and_zstd() {
    let store = Store::empty();
    let (base, top) = (base_layer(), tar_of([("marker", &b"oci\n"[..])]));
    let media = "application/vnd.oci.image.layer.v1.tar";
    for (name, media, program) in [
        ("oci:plain", media.to_owned(), "cat"),
        ("oci:gz", format!("{media}+gzip"), "gzip"),
        ("oci:zst", format!("{media}+zstd"), "zstd"),
    ] {
        let pack = |data: &[u8]| if program == "cat" { data.to_vec() } else { packed(program, data) };
        let file = store.write("layout.tar", oci_layout(name, &[&base, &top], &media, pack));
        let out = store.ok(&["load", "-i", &file]);
        assert!(out.contains("Loaded image: "), "{out}");
        assert_eq!(store.ok(&["run", "--rm", name]), "oci", "{name}");
    }
    assert_eq!(layer_folders(&store).len(), 2, "a layer is the same however it is packed");
}

#[test]
fn broken_archives_leave_the_store_as_it_was() {
    let store = Store::new();
    let before = everything(&store);
    let (base, top) = (base_layer(), tar_of([("marker", &b"one\n"[..])]));
    let other = tar_of([("marker", &b"changed\n"[..])]);
    let good = docker_archive(&[(Some("broken:1"), &[&base, &top])]);
    let layout = oci_layout("broken:1", &[&base, &top], "application/vnd.oci.image.layer.v1.tar", <[u8]>::to_vec);
    let conf = config(&[&base, &top], "x");
    let manifest = |config: &str, layers: &[&str]| {
        serde_json::to_vec(&json!([{"Config": config, "RepoTags": ["broken:1"], "Layers": layers}])).unwrap()
    };
    let whole = manifest("c.json", &["a.tar", "b.tar"]);
    let fewer = manifest("c.json", &["a.tar"]);
    let escape = manifest("../../../../etc/passwd", &["a.tar", "b.tar"]);
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let of = |files: &[(&str, &[u8])]| tar_of(files.iter().copied());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("truncated", good[..good.len() - 40_000].to_vec()),
        ("truncated in the middle", good[..good.len() / 3].to_vec()),
        ("truncated layout", layout[..layout.len() / 2].to_vec()),
        ("wrong layer", of(&[("manifest.json", &whole), ("c.json", &conf), ("a.tar", &base), ("b.tar", &other)])),
        (
            "layers in the wrong order",
            of(&[("manifest.json", &whole), ("c.json", &conf), ("b.tar", &base), ("a.tar", &top)]),
        ),
        ("missing layer", of(&[("manifest.json", &whole), ("c.json", &conf), ("a.tar", &base)])),
        ("missing configuration", of(&[("manifest.json", &whole), ("a.tar", &base), ("b.tar", &top)])),
        ("too few layers", of(&[("manifest.json", &fewer), ("c.json", &conf), ("a.tar", &base)])),
        ("no manifest", of(&[("c.json", &conf), ("a.tar", &base), ("b.tar", &top)])),
        ("a configuration outside", of(&[("manifest.json", &escape), ("a.tar", &base), ("b.tar", &top)])),
        ("a manifest that is no json", of(&[("manifest.json", b"{{{"), ("c.json", &conf)])),
        ("a manifest of brackets", of(&[("manifest.json", &deep)])),
        ("an empty archive", of(&[])),
        ("not an archive", b"garbage".repeat(1000)),
    ];
    for (what, archive) in cases {
        let file = store.write("broken.tar", archive);
        let result = store.run(&["load", "-i", &file]);
        assert_eq!(result.code, 1, "{what}: {result:?}");
        assert!(!result.err.contains("panicked"), "{what}: {result:?}");
        assert_eq!(everything(&store), before, "{what}");
    }
    store.fails(1, &["load", "-i", &store.text("nosuch")]);
    let layout_with_wrong_blob = {
        let mut bytes = layout;
        let at =
            bytes.windows(4).rposition(|w| w == b"oci\n").or_else(|| bytes.windows(4).rposition(|w| w == b"one\n"));
        bytes[at.unwrap()] = b'X';
        bytes
    };
    let file = store.write("broken.tar", layout_with_wrong_blob);
    store.fails(1, &["load", "-i", &file]);
    assert_eq!(everything(&store), before, "a blob with a wrong digest");
}

#[test]
fn whiteouts_and_opaque_folders_of_layers_work() {
    let store = Store::empty();
    let base = base_layer();
    let middle = tar_of([("d/a", &b"a\n"[..]), ("d/b", b"b\n"), ("e/x", b"x\n"), ("gone", b"g\n"), ("marker", b"m\n")]);
    let top = tar_of([("d/.wh.a", &b""[..]), ("e/y", b"y\n"), ("e/.wh..wh..opq", b""), (".wh.gone", b"")]);
    let file = store.write("saved.tar", docker_archive(&[(Some("white:1"), &[&base, &middle, &top])]));
    store.ok(&["load", "-i", &file]);
    assert_eq!(store.ok(&["run", "--rm", "white:1", "sh", "-c", "ls -A d e; ls gone; true"]), "d:\nb\n\ne:\ny");
}

// ---- lists and names

#[test]
fn the_list_has_dockers_columns() {
    let store = Store::new();
    store.ok(&["tag", IMAGE, "repo/name:v1"]);
    let id = store.inspect(IMAGE, "{{.Id}}");
    let lines: Vec<String> = store.ok(&["images"]).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3);
    let words =
        |l: &str| l.split("   ").map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&lines[0]), ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    let row = words(&lines[1]);
    assert_eq!(row[..3], ["busybox", "latest", &id[7..19]], "{lines:?}");
    assert!(row[3].ends_with(" ago") && row[4].ends_with("MB"), "{row:?}");
    assert_eq!(words(&lines[2])[..2], ["repo/name", "v1"]);
    let short = format!("{0}\n{0}", &id[7..19]);
    assert_eq!(store.ok(&["images", "-q"]), short);
    assert_eq!(store.ok(&["image", "ls", "-q"]), short);
    assert_eq!(store.ok(&["images", "-q", "--no-trunc"]), format!("{id}\n{id}"));
    assert_eq!(store.ok(&["images", "-q", "repo/name"]), &id[7..19]);
    assert_eq!(store.ok(&["images", "-q", "repo/name:v2"]), "");
    assert_eq!(store.ok(&["images", "--format", "{{.Repository}}|{{.Tag}}", IMAGE]), "busybox|latest");
    let json: Value = serde_json::from_str(&store.ok(&["images", "--format", "{{json .}}", IMAGE])).unwrap();
    assert_eq!((json["Repository"].as_str(), json["ID"].as_str()), (Some("busybox"), Some(&id[7..19])));
    assert!(store.ok(&["images", "--digests", IMAGE]).lines().next().unwrap().contains("DIGEST"));
    let table = store.ok(&["images", "--format", "table {{.Tag}}\t{{.ID}}", IMAGE]);
    assert!(table.starts_with("TAG       IMAGE ID"), "{table}");
}

#[test]
fn an_empty_list_still_has_its_head() {
    let store = Store::empty();
    let out = store.ok(&["images"]);
    assert_eq!(out, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE");
    assert_eq!(store.ok(&["images", "-q"]), "");
}

#[test]
fn names_are_given_moved_and_refused() {
    let store = Store::new();
    assert_eq!(store.ok(&["tag", IMAGE, "localhost:5000/team/app:1.0_x-Y"]), "");
    let id = store.inspect(IMAGE, "{{.Id}}");
    assert_eq!(store.inspect("localhost:5000/team/app:1.0_x-Y", "{{.Id}}"), id);
    store.ok(&["tag", &id[7..15], "by-id"]);
    assert_eq!(store.inspect("by-id:latest", "{{.Id}}"), id);
    store.committed_image(IMAGE, "other", "echo 1 >/x");
    store.ok(&["tag", "other", "by-id"]);
    assert_ne!(store.inspect("by-id", "{{.Id}}"), id, "the name moves without a question");
    let error = store.fails(1, &["tag", "nosuch", "x"]);
    assert!(error.contains("No such image: nosuch:latest"), "{error}");
    for bad in ["Upper:y", "a b", "x:", "-x", "x:y:z", "", "../x", "x@sha256:12"] {
        let error = store.fails(1, &["tag", "--", IMAGE, bad]);
        assert!(error.contains("is not a valid repository/tag"), "{bad}: {error}");
    }
    for bad in ["", "sha256:", "nosuch", "../../etc"] {
        store.fails(1, &["inspect", bad]);
    }
}

// ---- removal

#[test]
fn removing_says_what_went() {
    let store = Store::new();
    let id = store.inspect(IMAGE, "{{.Id}}");
    store.ok(&["tag", IMAGE, "second:1"]);
    assert_eq!(store.ok(&["rmi", "second:1"]), "Untagged: second:1");
    let layer = layers_of(&store, IMAGE).remove(0);
    assert_eq!(store.ok(&["rmi", IMAGE]), format!("Untagged: busybox:latest\nDeleted: {id}\nDeleted: {layer}"));
    assert!(layer_folders(&store).is_empty());
    let blobs = std::fs::read_dir(store.root().join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 0, "documents are left");
    let error = store.fails(1, &["rmi", IMAGE]);
    assert!(error.contains("No such image: busybox:latest"), "{error}");
    assert_eq!(store.run(&["rmi", "-f", IMAGE]).code, 0);
}

#[test]
fn an_image_with_several_names_is_not_removed_by_its_id() {
    let store = Store::new();
    store.ok(&["tag", IMAGE, "second:1"]);
    let id = store.inspect(IMAGE, "{{.Id}}");
    let error = store.fails(1, &["rmi", &id[7..19]]);
    assert!(error.contains("(must be forced) - image is referenced in multiple repositories"), "{error}");
    let out = store.ok(&["rmi", "-f", &id[7..19]]);
    assert!(out.contains("Untagged: busybox:latest") && out.contains("Untagged: second:1"), "{out}");
    assert_eq!(store.ok(&["images", "-q"]), "");
}

#[test]
fn an_image_that_a_container_uses_is_kept() {
    let store = Store::new();
    let id = store.inspect(IMAGE, "{{.Id}}");
    let container = store.ok(&["run", "-d", IMAGE, "true"]);
    store.ok(&["wait", &container]);
    let error = store.fails(1, &["rmi", IMAGE]);
    let text = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its \
         referenced image {}",
        &container[..12],
        &id[7..19]
    );
    assert!(error.contains(&text), "{error}");
    let error = store.fails(1, &["rmi", &id[7..19]]);
    assert!(error.contains("(must be forced) - image is being used by stopped container"), "{error}");
    store.ok(&["tag", IMAGE, "second"]);
    assert_eq!(store.ok(&["rmi", "second"]), "Untagged: second:latest", "another name may go");
    let running = store.ok(&["run", "-d", IMAGE, "sleep", "1000"]);
    let error = store.fails(1, &["rmi", "-f", &id[7..19]]);
    assert!(error.contains("(cannot be forced) - image is being used by running container"), "{error}");
    assert_eq!(store.ok(&["rmi", "-f", IMAGE]), "Untagged: busybox:latest", "the name may go by force");
    assert_eq!(store.ok(&["exec", &running, "echo", "alive"]), "alive");
    store.ok(&["start", "-a", &container]);
    store.ok(&["rm", "-f", &container, &running]);
    store.ok(&["rmi", &id]);
    assert!(layer_folders(&store).is_empty());
}

#[test]
fn layers_that_another_image_needs_stay() {
    let store = Store::new();
    store.committed_image(IMAGE, "child", "echo child >/file");
    assert_eq!(layer_folders(&store).len(), 2);
    let out = store.ok(&["rmi", IMAGE]);
    assert_eq!(out, "Untagged: busybox:latest", "its child needs it");
    assert_eq!(store.ok(&["run", "--rm", "child", "cat", "/file"]), "child");
    store.ok(&["rmi", "child"]);
    assert!(layer_folders(&store).is_empty(), "the last one takes all");
    assert_eq!(store.ok(&["images", "-q"]), "");
}

#[test]
fn several_removals_go_on_after_a_failure() {
    let store = Store::new();
    store.ok(&["tag", IMAGE, "second"]);
    let result = store.run(&["rmi", "nosuch", "second"]);
    assert_eq!((result.code, result.out.as_str()), (1, "Untagged: second:latest\n"), "{result:?}");
    store.fails(1, &["rmi"]);
}

// ---- commit

#[test]
fn a_commit_runs_at_once_and_says_what_it_is() {
    let store = Store::new();
    store.ok(&["run", "--name", "maker", "-e", "A=1", IMAGE, "sh", "-c", "echo new >/file"]);
    let args =
        ["commit", "-m", "a remark", "-a", "Tim <tim@example.com>", "-c", r#"CMD ["cat", "/file"]"#, "-c", "ENV B=2"];
    let id = store.ok(&[&args[..], &["maker", "made:1.0"]].concat());
    assert!(is_digest(&id), "{id}");
    assert_eq!(store.ok(&["run", "--rm", "made:1.0"]), "new");
    assert_eq!(
        store.inspect("made:1.0", "{{.Id}} {{.Comment}} {{.Author}}"),
        format!("{id} a remark Tim <tim@example.com>")
    );
    let env = store.inspect("made:1.0", "{{json .Config.Env}}");
    assert!(env.contains("A=1") && env.contains("B=2"), "{env}");
    assert_eq!(store.inspect("made:1.0", "{{.Parent}}"), store.inspect(IMAGE, "{{.Id}}"));
    let layers = layers_of(&store, "made:1.0");
    assert_eq!((layers.len(), &layers[..1]), (2, &layers_of(&store, IMAGE)[..]));
    let unnamed = store.ok(&["commit", "maker"]);
    assert!(store.ok(&["images", "--no-trunc"]).lines().any(|l| l.starts_with("<none>") && l.contains(&unnamed)));
    for bad in ["RUN true", "STOPSIGNAL 9"] {
        let error = store.fails(1, &["commit", "-c", bad, "maker"]);
        assert!(error.contains("is not a valid change command"), "{error}");
    }
    store.fails(1, &["commit", "nosuch", "x"]);
    store.fails(1, &["commit", "maker", "Bad"]);
}

#[test]
fn what_was_deleted_stays_deleted() {
    let store = Store::new();
    let script = "rm /etc/os-release; rm -r /home; mkdir /home; echo 1 >/home/new; rm -r /srv; echo file >/srv; mkdir /a; \
                  rm /bin/vi; mkdir /bin/vi";
    store.committed_image(IMAGE, "one", script);
    let look = "ls /etc/os-release; ls -A /home; cat /srv; stat -c %F /bin/vi; ls -d /home/tim";
    let result = store.run(&["run", "--rm", "one", "sh", "-c", look]);
    assert_eq!(result.out, "new\nfile\ndirectory\n", "{result:?}");
    store.committed_image("one", "two", "rm -r /home /a; echo back >/etc/os-release");
    let result = store.run(&["run", "--rm", "two", "sh", "-c", "cat /etc/os-release; ls -d /home /a"]);
    assert_eq!(result.out, "back\n", "{result:?}");
}

#[test]
fn an_opaque_folder_hides_what_is_below_in_later_images_too() {
    let store = Store::new();
    store.committed_image(IMAGE, "one", "rm -r /var; mkdir /var; echo mine >/var/mine");
    store.committed_image("one", "two", "echo more >/var/more");
    let out = store.ok(&["run", "--rm", "two", "sh", "-c", "ls -A /var"]);
    assert_eq!(out, "mine\nmore");
    assert_eq!(layers_of(&store, "two").len(), 3);
}

#[test]
fn the_same_changes_make_the_same_layer() {
    let store = Store::new();
    let script = "for f in a b c; do echo $f >/srv/$f; touch -d @1700000000 /srv/$f; done; touch -d @1700000001 /srv";
    for name in ["first", "second"] {
        store.ok(&["run", "--name", name, IMAGE, "sh", "-c", script]);
        store.ok(&["commit", name, &format!("{name}-image")]);
    }
    assert_eq!(layers_of(&store, "first-image"), layers_of(&store, "second-image"));
    let again = store.ok(&["commit", "first"]);
    assert_eq!(layers_of(&store, &again), layers_of(&store, "first-image"));
    assert_eq!(layer_folders(&store).len(), 2);
}

#[test]
fn what_was_touched_but_not_changed_is_not_in_the_layer() {
    let store = Store::new();
    let script = "chmod 644 /etc/passwd; chown 0:0 /bin/busybox; mv /etc/group /etc/g; mv /etc/g /etc/group; \
                  touch -r /home /etc; cp -p /etc/os-release /tmp/o; cat /tmp/o >/etc/os-release; \
                  touch -r /tmp/o /etc/os-release; rm /tmp/o; echo x >/srv/new";
    store.committed_image(IMAGE, "made", script);
    let top = top_folder(&store, "made");
    assert!(top.join("srv/new").exists());
    for same in ["etc/passwd", "bin/busybox", "etc/group", "etc/os-release"] {
        assert!(!top.join(same).exists(), "{same} is in the layer though nothing of it has changed");
    }
    store.committed_image(IMAGE, "changed", "chmod 600 /etc/passwd");
    assert!(top_folder(&store, "changed").join("etc/passwd").exists());
}

#[test]
fn a_container_without_changes_adds_no_layer() {
    let store = Store::new();
    store.committed_image(IMAGE, "same", "true");
    assert_eq!(layers_of(&store, "same"), layers_of(&store, IMAGE));
    assert_eq!(store.ok(&["run", "--rm", "same", "echo", "runs"]), "runs");
}

#[test]
fn times_links_attributes_and_special_files_survive() {
    let store = Store::new();
    let script = "cd /srv; echo 1 >file; chmod 4711 file; ln file hard; ln -s file soft; ln -s /nowhere dangling; mkfifo fifo; \
                  probe mknod null c 1 3; dd if=/dev/zero of=sparse bs=1 count=1 seek=67108863 2>/dev/null; \
                  echo x >owned; chown 1000:2000 owned; mkdir -m 1770 dir; touch 'odd name
with a break'; cp /bin/probe able; probe setcap able; probe setxattr file user.note hello; probe setxattr dir user.d 1; \
                  touch -d @-5 old; echo far >far; touch -d @4294967400 far; touch -h -d @77 soft 2>/dev/null; true";
    store.ok(&["run", "--name", "maker", IMAGE, "sh", "-c", script]);
    let container = store.inspect("maker", "{{.Id}}");
    let upper = store.root().join("containers").join(&container).join("upper/srv");
    store.ok(&["commit", "maker", "made"]);
    let top = top_folder(&store, "made").join("srv");
    let mut compared = 0;
    for entry in std::fs::read_dir(&upper).unwrap().flatten() {
        let (a, b) =
            (entry.path().symlink_metadata().unwrap(), top.join(entry.file_name()).symlink_metadata().unwrap());
        let facts = |m: &std::fs::Metadata| (m.mode(), m.uid(), m.gid(), m.rdev(), m.mtime(), m.mtime_nsec());
        assert_eq!(facts(&a), facts(&b), "{:?}", entry.file_name());
        if !a.is_dir() {
            assert_eq!(a.len(), b.len(), "{:?}", entry.file_name());
        }
        compared += 1;
    }
    assert!(compared >= 13, "{compared}");
    assert_ne!(top.join("file").metadata().unwrap().mtime_nsec(), 0, "the test has no fractions to compare");
    let look = "cd /srv; stat -c %h file hard; probe getxattr file user.note; probe getxattr dir user.d; \
                probe getxattr able security.capability; readlink soft; readlink dangling; stat -c '%F %s' fifo sparse; \
                [ $(stat -c %b sparse) -lt 1000 ] && echo sparse; cat hard; probe open null rw; stat -c %Y old";
    let of_commit = store.ok(&["run", "--rm", "made", "sh", "-c", look]);
    let capability = "0x0100000200040000000000000000000000000000";
    let expected =
        format!("2\n2\nhello\n1\n{capability}\nfile\n/nowhere\nfifo 0\nregular file 67108864\nsparse\n1\nok\n-5");
    assert_eq!(of_commit, expected);
    // The capability works: an ordinary user's program has it.
    let caps = store.ok(&["run", "--rm", "-u", "tim", "made", "/srv/able", "caps"]);
    assert!(caps.contains("CapEff=0000000000000400"), "{caps}");
}

#[test]
fn a_running_container_can_be_committed_and_runs_on() {
    let store = Store::new();
    let script = "i=0; echo 1 >/file; while :; do i=$((i+1)); echo $i >/counter.part; mv /counter.part /counter; sleep 0.01; done";
    let id = store.ok(&["run", "-d", IMAGE, "sh", "-c", script]);
    let counter = || store.ok(&["exec", &id, "cat", "/counter"]).parse::<u64>().unwrap();
    eventually("the counter", || store.run(&["exec", &id, "cat", "/counter"]).code == 0);
    for (flags, name) in
        [(&[][..], "paused"), (&["-p=false"], "unpaused"), (&["--pause=false"], "long"), (&["-p"], "switch")]
    {
        store.ok(&[&["commit"], flags, &[&id, name]].concat());
        assert_eq!(store.inspect(&id, "{{.State.Status}} {{.State.Paused}}"), "running false", "{flags:?}");
        let seen = counter();
        eventually("the container to go on", || counter() > seen);
        assert_eq!(store.ok(&["run", "--rm", name, "cat", "/file"]), "1", "{name}");
    }
    store.ok(&["pause", &id]);
    store.ok(&["commit", &id, "while-paused"]);
    assert_eq!(store.inspect(&id, "{{.State.Status}}"), "paused", "one that was paused before stays so");
    store.ok(&["unpause", &id]);
    let seen = counter();
    eventually("the container to go on", || counter() > seen);
}

#[test]
fn many_commits_on_each_other_still_run() {
    let store = Store::new();
    let mut base = IMAGE.to_owned();
    for number in 0..12 {
        let name = format!("step:{number}");
        store.committed_image(&base, &name, &format!("echo {number} >/srv/{number}; echo {number} >/srv/last"));
        base = name;
    }
    assert_eq!(store.ok(&["run", "--rm", &base, "sh", "-c", "cat /srv/last; ls /srv | wc -l"]), "11\n13");
    assert_eq!(layers_of(&store, &base).len(), 13);
}

// ---- images never change

#[test]
fn containers_do_not_change_the_image() {
    let store = Store::new();
    store.committed_image(IMAGE, "two", "echo 2 >/srv/two; ln /srv/two /srv/hard");
    let before = fingerprint_of_layers(&store);
    let script = "echo x >>/etc/passwd; rm -r /home /srv/hard; chmod 000 /bin/probe; mv /etc /old; touch / /bin; \
                  chown -R 1000 /var; probe setxattr /srv/two user.x 1; echo y >>/srv/two; mkdir /new";
    for image in [IMAGE, "two"] {
        store.run(&["run", "--rm", image, "sh", "-c", script]);
        store.run(&["run", "--name", "kept", "--privileged", image, "sh", "-c", script]);
        store.ok(&["commit", "kept"]);
        store.ok(&["rm", "kept"]);
    }
    // The commits have added layers of their own; the ones from before must be the same.
    for id in store.ok(&["images", "-q", "--no-trunc"]).lines().map(str::to_owned).collect::<Vec<_>>() {
        if store.inspect(&id, "{{json .RepoTags}}") == "[]" {
            store.ok(&["rmi", &id]);
        }
    }
    assert_eq!(layer_folders(&store).len(), 2);
    assert_eq!(fingerprint_of_layers(&store), before);
}

#[test]
fn a_reader_of_a_broken_pipe_is_no_reason_to_panic() {
    let store = Store::new();
    for args in [&["images"][..], &["inspect", IMAGE], &["ps", "-a"], &["--help"], &["info"]] {
        let result = done(&mut store.through_shell("\"$0\" \"$@\" 2>&1 >&- ; \"$0\" \"$@\" 2>&1 | true", args));
        assert!(!result.out.contains("panicked"), "{args:?}: {result:?}");
    }
}
