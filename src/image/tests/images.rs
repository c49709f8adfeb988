//! Images as users handle them: import, commit, tag, load, remove.

use super::super::manifest::{Descriptor, Index, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME, plain_manifest};
use super::super::progress::{Amount, Progress, Step};
use super::super::tar::Kind::*;
use super::super::union::Union;
use super::super::*;
use super::{Folder, entry, tar_of, write};
use crate::sys::dir::is_whiteout;
use rustix::fs::FileType;
use std::io::{Read, Write};

fn base_tar() -> Vec<u8> {
    tar_of(&[
        (entry(Directory, "etc/", ""), b""),
        (entry(File, "etc/passwd", ""), b"root:x:0:0"),
        (entry(File, "etc/same", ""), b"same"),
        (entry(Directory, "opt/", ""), b""),
        (entry(File, "opt/tool", ""), b"tool"),
        (entry(Symlink, "bin", "usr/bin"), b""),
    ])
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn imported(folder: &Folder, reference: &str) -> Image {
    let options = ImportOptions {
        reference: Some(name(reference)),
        config: ContainerConfig { cmd: Some(vec!["sh".into()]), ..ContainerConfig::default() },
        ..ImportOptions::default()
    };
    let id = folder.store().import(&base_tar()[..], options).unwrap();
    folder.store().find(&id.to_string()).unwrap().unwrap()
}

fn committed(folder: &Folder, base: &Image, reference: Option<&str>) -> Image {
    let source = CommitSource { upper: &folder.path("upper"), base: &base.config, base_id: base.id };
    let new = NewImage { config: base.config.config.clone().unwrap(), message: "m".into(), ..NewImage::default() };
    let id = folder.store().commit(source, new, reference.map(name).as_ref()).unwrap();
    folder.store().find(&id.to_string()).unwrap().unwrap()
}

fn removed(folder: &Folder, what: &str, force: bool, uses: &[ImageUse]) -> Result<Vec<String>, String> {
    let steps = folder
        .store()
        .remove(what, RemoveHow { force, keep_parents: false }, &|| Ok(uses.to_vec()))
        .map_err(|e| e.to_string())?;
    Ok(steps
        .into_iter()
        .map(|s| match s {
            Removal::Untagged(name) => format!("U {name}"),
            Removal::Deleted(id) => format!("D {id}"),
        })
        .collect())
}

#[test]
fn an_import_is_an_image_of_one_layer() {
    let folder = Folder::new();
    let image = imported(&folder, "a");
    assert_eq!(image.layers().len(), 1);
    assert_eq!(image.config.history[0].comment, "Imported from -");
    assert_eq!(image.config.config.as_ref().unwrap().cmd, Some(vec!["sh".to_string()]));
    assert_eq!(folder.store().size(&image).unwrap(), 18);
    let dirs = folder.store().layer_dirs(&image).unwrap();
    assert_eq!(std::fs::read(dirs[0].join("opt/tool")).unwrap(), b"tool");
    let mut tar = Vec::new();
    folder.store().write_layer_tar(&image.layers()[0], &mut tar).unwrap();
    assert_eq!(Digest::of(&tar), image.layers()[0]);
    // The same tree is the same layer, compressed or in another order.
    let gzip = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&base_tar()).unwrap();
        gzip.finish().unwrap()
    };
    let again = folder.store().import(&gzip[..], ImportOptions::default()).unwrap();
    assert_eq!(folder.store().find(&again.hex()).unwrap().unwrap().layers(), image.layers());
}

#[test]
fn a_bad_import_leaves_nothing() {
    let folder = Folder::new();
    for bad in [&b""[..], b"garbage", &[7; 4096], &base_tar()[..700]] {
        assert!(folder.store().import(bad, ImportOptions::default()).is_err());
    }
    for sub in ["tmp", "layers", "blobs/sha256"] {
        assert!(folder.dir("root").dir_in_root(sub).unwrap().names().unwrap().is_empty());
    }
    assert!(folder.store().list().unwrap().images.is_empty());
}

#[test]
fn images_are_found_by_names_and_ids() {
    let folder = Folder::new();
    let image = imported(&folder, "name:1");
    let store = folder.store();
    store.tag(&image, &name("quay.io/x/y")).unwrap();
    let hex = image.id.hex();
    for text in
        ["name:1", "docker.io/library/name:1", "quay.io/x/y:latest", &hex, &hex[..5], &format!("sha256:{}", &hex[..9])]
    {
        assert_eq!(store.find(text).unwrap().unwrap().id, image.id, "{text}");
    }
    let by_digest = format!("quay.io/x/y@{}", image.manifest);
    assert_eq!(store.find(&by_digest).unwrap().unwrap().id, image.id);
    // None of these may be the beginning of an id by chance.
    for text in ["name", "name:2", "", "sha256:", "x", &"0".repeat(64), "../a"] {
        assert!(store.find(text).unwrap().is_none(), "{text}");
    }
    // A name that looks like the beginning of an id is a name.
    write(&folder, "upper/new", "x");
    let other = committed(&folder, &image, Some(&hex[..6]));
    assert_eq!(store.find(&hex[..6]).unwrap().unwrap().id, other.id);
}

#[test]
fn a_moved_tag_leaves_the_old_image_without_a_name() {
    let folder = Folder::new();
    let first = imported(&folder, "a");
    write(&folder, "upper/new", "x");
    let second = committed(&folder, &first, Some("a"));
    let listing = folder.store().list().unwrap();
    let mut seen: Vec<_> = listing.images.iter().map(|l| (l.reference.clone(), l.image.id)).collect();
    seen.sort();
    assert_eq!(seen, [(None, first.id), (Some(name("a")), second.id)]);
    assert_eq!(second.parent, Some(first.id));
    // With a name again, the nameless entry is gone.
    folder.store().tag(&first, &name("b")).unwrap();
    assert_eq!(folder.store().list().unwrap().images.len(), 2);
}

#[test]
fn a_commit_has_only_what_changed() {
    let folder = Folder::new();
    let base = imported(&folder, "a");
    let fs = folder.store().layer_dirs(&base).unwrap().remove(0);
    std::fs::create_dir(folder.path("upper")).unwrap();
    // Copied up and not changed, copied up and changed, deleted, new, and a whiteout of nothing.
    Union::new(vec![folder.dir(fs.strip_prefix(folder.path("")).unwrap().to_str().unwrap())])
        .copy_tree("/".as_ref(), &folder.dir("upper"))
        .unwrap();
    let upper = folder.dir("upper");
    upper.remove_tree("bin").unwrap();
    write(&folder, "upper/etc/passwd", "changed");
    folder.dir("upper/etc").set_mtime("passwd", 5, 0).unwrap();
    upper.set_mtime("etc", 1, 0).unwrap();
    folder.dir("upper/opt").unlink("tool").unwrap();
    folder.dir("upper/opt").mknod("tool", FileType::CharacterDevice, 0, 0).unwrap();
    upper.mknod("nothing", FileType::CharacterDevice, 0, 0).unwrap();
    upper.mkdir("made", 0o700).unwrap();
    super::marked_opaque(&folder, "upper/made");
    let image = committed(&folder, &base, None);
    let dirs = folder.store().layer_dirs(&image).unwrap();
    let layer = crate::sys::dir::Dir::open(&dirs[1]).unwrap();
    assert_eq!(layer.names().unwrap(), ["etc", "made", "opt"]);
    assert_eq!(layer.child("etc").unwrap().names().unwrap(), ["passwd"]);
    assert!(is_whiteout(&layer.child("opt").unwrap().stat("tool").unwrap()));
    assert!(layer.xattr("made", "trusted.overlay.opaque").unwrap().is_none());
    assert_eq!(layer.stat("etc").unwrap().st_mtime, 1);
    let mut tar = Vec::new();
    folder.store().write_layer_tar(&image.layers()[1], &mut tar).unwrap();
    assert_eq!(
        (Digest::of(&tar), folder.store().layer_tar_size(&image.layers()[1]).unwrap()),
        (image.layers()[1], tar.len() as u64)
    );
    assert_eq!(image.config.history.len(), 2);
    let union = Union::new(folder.store().open_layers(image.layers()).unwrap());
    let mut text = String::new();
    union.open_file("/etc/passwd".as_ref()).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "changed");
    assert!(union.stat("/opt/tool".as_ref()).unwrap().is_none());
}

#[test]
fn a_commit_of_nothing_adds_no_layer() {
    let folder = Folder::new();
    let base = imported(&folder, "a");
    std::fs::create_dir(folder.path("upper")).unwrap();
    let image = committed(&folder, &base, Some("b"));
    assert_eq!(image.layers(), base.layers());
    assert!(image.config.history[1].empty_layer);
}

#[test]
fn hard_links_and_holes_survive_a_commit() {
    let folder = Folder::new();
    let base = imported(&folder, "a");
    write(&folder, "upper/d/one", "content");
    let d = folder.dir("upper/d");
    folder.dir("upper").link(&d, "one", "two").unwrap();
    std::fs::File::create(folder.path("upper/holes")).unwrap().set_len(8 << 20).unwrap();
    let image = committed(&folder, &base, None);
    let layer = crate::sys::dir::Dir::open(folder.store().layer_dirs(&image).unwrap().remove(1)).unwrap();
    assert_eq!(layer.stat("two").unwrap().st_nlink, 2);
    assert_eq!(layer.stat("holes").unwrap().st_blocks, 0);
    assert_eq!(folder.store().layer_size(&image.layers()[1]).unwrap(), 7 + (8 << 20));
    let mut tar = Vec::new();
    folder.store().write_layer_tar(&image.layers()[1], &mut tar).unwrap();
}

#[test]
fn removal_follows_dockers_rules() {
    let folder = Folder::new();
    let image = imported(&folder, "a:1");
    let store = folder.store();
    assert_eq!(removed(&folder, "nosuch", false, &[]).unwrap_err(), "No such image: nosuch:latest");
    store.tag(&image, &name("a:2")).unwrap();
    let id = image.id.to_string();
    let error = removed(&folder, &id, false, &[]).unwrap_err();
    let short = image.id.short();
    assert_eq!(
        error,
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    let user =
        |running| ImageUse { container_id: "c".repeat(64), image: image.id, running, layers: image.layers().to_vec() };
    // Another name is left: only that goes, whatever uses the image.
    assert_eq!(removed(&folder, "a:2", false, &[user(true)]).unwrap(), ["U a:2"]);
    let error = removed(&folder, "a:1", false, &[user(false)]).unwrap_err();
    assert_eq!(
        error,
        format!(
            "conflict: unable to remove repository reference \"a:1\" (must force) - container cccccccccccc is using its referenced image {short}"
        )
    );
    let error = removed(&folder, &id, true, &[user(true)]).unwrap_err();
    assert_eq!(
        error,
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
        )
    );
    let error = removed(&folder, &id, false, &[user(false)]).unwrap_err();
    assert_eq!(
        error,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container cccccccccccc"
        )
    );
    // Forced, the name goes and the image stays for its running container.
    assert_eq!(removed(&folder, "a:1", true, &[user(true)]).unwrap(), ["U a:1"]);
    assert!(store.find(&id).unwrap().is_some());
    // Forced with a stopped container the image goes, its layers stay for the container.
    assert_eq!(removed(&folder, &id, true, &[user(false)]).unwrap(), [format!("D {id}")]);
    assert!(store.has_layer(&image.layers()[0]));
    // The next removal sweeps them when the container is gone.
    imported(&folder, "other");
    write(&folder, "upper/x", "x");
    let child = committed(&folder, &image, Some("child"));
    let steps = removed(&folder, "other", false, &[]).unwrap();
    assert_eq!(steps.len(), 2, "the layer is still in use by the child: {steps:?}");
    let steps = removed(&folder, "child", false, &[]).unwrap();
    assert_eq!(steps[..2], ["U child:latest".to_string(), format!("D {}", child.id)]);
    assert_eq!(steps.len(), 4);
    assert!(steps[3].ends_with(&image.layers()[0].to_string()), "the chain id of the lowest layer is its diff id");
    for sub in ["layers", "blobs/sha256"] {
        assert!(folder.dir("root").dir_in_root(sub).unwrap().names().unwrap().is_empty());
    }
}

#[test]
fn parents_without_a_name_go_with_their_last_child() {
    let folder = Folder::new();
    let base = imported(&folder, "a");
    write(&folder, "upper/x", "x");
    let child = committed(&folder, &base, Some("b"));
    let error = removed(&folder, &base.id.to_string(), true, &[]).unwrap_err();
    assert!(error.contains("(cannot be forced) - image has dependent child images"));
    assert_eq!(removed(&folder, "a", false, &[]).unwrap(), ["U a:latest"]);
    assert!(folder.store().find(&base.id.to_string()).unwrap().is_some());
    let steps = removed(&folder, &child.id.short(), false, &[]).unwrap();
    assert_eq!(steps[..3], ["U b:latest".into(), format!("D {}", child.id), format!("D {}", base.id)]);
}

#[test]
fn a_damaged_image_does_not_stop_the_others() {
    let folder = Folder::new();
    let good = imported(&folder, "good");
    write(&folder, "upper/x", "x");
    let bad = committed(&folder, &good, Some("bad"));
    std::fs::write(folder.store().blob_path(&bad.id), "{}").unwrap();
    let listing = folder.store().list().unwrap();
    assert_eq!((listing.images.len(), listing.damaged[0].name.as_str()), (1, "bad:latest"));
    assert!(folder.store().find("good").unwrap().is_some());
    assert!(folder.store().find("bad").is_err());
    removed(&folder, "bad", false, &[]).unwrap();
    assert!(folder.store().list().unwrap().damaged.is_empty());
}

/// An archive of plain members.
fn archive(folder: &Folder, members: &[(&str, &[u8])]) -> std::fs::File {
    let entries: Vec<_> = members.iter().map(|(path, content)| (entry(File, path, ""), *content)).collect();
    std::fs::write(folder.path("archive.tar"), tar_of(&entries)).unwrap();
    std::fs::File::open(folder.path("archive.tar")).unwrap()
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    // Spaces and unknown fields must survive: the bytes are the image's id.
    format!(
        r#"{{ "os":"linux", "architecture":"amd64", "x":1, "rootfs":{{"type":"layers","diff_ids":{}}} }}"#,
        serde_json::json!(ids)
    )
    .into_bytes()
}

fn loaded(folder: &Folder, file: std::fs::File) -> anyhow::Result<(Vec<Loaded>, Vec<String>)> {
    let heard = Heard::default();
    let loaded = folder.store().load(file, &heard, &mut |event| {
        heard.0.lock().unwrap().push(match event {
            LoadEvent::Renamed { reference, .. } => format!("renamed {}", reference.familiar()),
            LoadEvent::Image(image) => image.reference.map_or("image".into(), |r| format!("image {}", r.familiar())),
        });
    })?;
    Ok((loaded, heard.0.into_inner().unwrap()))
}

/// Keeps what begins.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<String>>);

impl Progress for Heard {
    fn step(&self, item: &str, step: Step) {
        if matches!(step, Step::Loading(Amount { done: 0, .. })) {
            self.0.lock().unwrap().push(format!("layer {item}"));
        }
    }
}

#[test]
fn docker_archives_load() {
    let folder = Folder::new();
    let (one, two) = (base_tar(), tar_of(&[(entry(File, "two", ""), b"2")]));
    let config = config_of(&[&one, &two]);
    let zstd = zstd::encode_all(&two[..], 1).unwrap();
    let id = Digest::of(&config);
    let manifest = format!(
        r#"[{{"Config":"{}.json","RepoTags":["x/y:1","z:latest"],"Layers":["1/layer.tar","2/layer.tar"]}}]"#,
        id.hex()
    );
    let members: [(&str, &[u8]); 4] = [
        ("1/layer.tar", &one),
        ("2/layer.tar", &zstd),
        (&format!("{}.json", id.hex()), &config),
        ("manifest.json", manifest.as_bytes()),
    ];
    let (images, events) = loaded(&folder, archive(&folder, &members)).unwrap();
    assert_eq!(images.iter().map(|l| l.image).collect::<Vec<_>>(), [id, id]);
    let layers = [Digest::of(&one).short(), Digest::of(&two).short()];
    assert_eq!(
        events,
        [format!("layer {}", layers[0]), format!("layer {}", layers[1]), "image x/y:1".into(), "image z:latest".into()]
    );
    let image = folder.store().find("z").unwrap().unwrap();
    let mut tar = Vec::new();
    folder.store().write_layer_tar(&image.layers()[0], &mut tar).unwrap();
    assert!(tar == one);
    // Again: nothing to unpack. From a stream, compressed: the same.
    let (_, events) = loaded(&folder, std::fs::File::open(folder.path("archive.tar")).unwrap()).unwrap();
    assert_eq!(events, ["image x/y:1", "image z:latest"]);
    let bytes = zstd::encode_all(std::fs::File::open(folder.path("archive.tar")).unwrap(), 1).unwrap();
    let (read, mut write) = std::io::pipe().unwrap();
    let writer = std::thread::spawn(move || write.write_all(&bytes));
    let fresh = Folder::new();
    let (images, _) = loaded(&fresh, std::fs::File::from(std::os::fd::OwnedFd::from(read))).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(images[0].image, id);
    assert!(fresh.dir("root/tmp").names().unwrap().is_empty());
}

#[test]
fn what_does_not_match_its_digest_is_refused() {
    let folder = Folder::new();
    let one = base_tar();
    let config = config_of(&[b"something else"]);
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["1"]}]"#;
    let members: [(&str, &[u8]); 3] = [("c.json", &config), ("1", &one), ("manifest.json", manifest)];
    assert!(loaded(&folder, archive(&folder, &members)).is_err());
    let promised = format!("{}.json", Digest::of(b"other").hex());
    let manifest = format!(r#"[{{"Config":"{promised}","RepoTags":null,"Layers":[]}}]"#);
    let members: [(&str, &[u8]); 2] = [(&promised, &config_of(&[])), ("manifest.json", manifest.as_bytes())];
    assert!(loaded(&folder, archive(&folder, &members)).is_err());
    for members in [&[][..], &[("x", &b"y"[..])], &[("../manifest.json", b"[]")]] {
        assert!(loaded(&folder, archive(&folder, members)).is_err());
    }
    assert!(folder.dir("root/layers").names().unwrap().is_empty());
    assert!(folder.store().list().unwrap().images.is_empty());
}

#[test]
fn oci_layouts_load_with_their_own_manifest() {
    let folder = Folder::new();
    let layer = base_tar();
    let config = config_of(&[&layer]);
    let stored = zstd::encode_all(&layer[..], 1).unwrap();
    let manifest = plain_manifest(&config, &[]).unwrap();
    let manifest = String::from_utf8(manifest).unwrap().replace(
        "\"layers\":[]",
        &format!(
            "\"layers\":[{}]",
            serde_json::to_string(&Descriptor::of(&format!("{OCI_LAYER}+zstd"), &stored)).unwrap()
        ),
    );
    let mut inner = Descriptor::of(OCI_MANIFEST, manifest.as_bytes());
    let index = |descriptor: Descriptor| Index {
        schema_version: 2,
        media_type: String::new(),
        manifests: vec![descriptor],
        other: serde_json::Map::new(),
    };
    inner.annotations.clear();
    let nested = serde_json::to_vec(&index(inner)).unwrap();
    let mut outer = Descriptor::of(OCI_INDEX, &nested);
    outer.annotations.insert(REF_NAME.into(), "quay.io/a/b:v1".into());
    let top = serde_json::to_vec(&index(outer)).unwrap();
    let blob = |data: &[u8]| format!("blobs/sha256/{}", Digest::of(data).hex());
    let names = [blob(&config), blob(&stored), blob(manifest.as_bytes()), blob(&nested)];
    let members: [(&str, &[u8]); 6] = [
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &top),
        (&names[0], &config),
        (&names[1], &stored),
        (&names[2], manifest.as_bytes()),
        (&names[3], &nested),
    ];
    let (images, _) = loaded(&folder, archive(&folder, &members)).unwrap();
    assert_eq!(images[0].reference.as_ref().unwrap().familiar(), "quay.io/a/b:v1");
    let image = folder.store().find("quay.io/a/b:v1").unwrap().unwrap();
    assert_eq!((image.id, image.manifest), (Digest::of(&config), Digest::of(manifest.as_bytes())));
    // A blob that is not what its name says.
    let mut bad = members;
    bad[3].1 = b"other";
    assert!(loaded(&Folder::new(), archive(&folder, &bad)).is_err());
}

#[test]
fn many_at_once_lose_no_name() {
    let folder = Folder::new();
    let image = imported(&folder, "a:0");
    std::thread::scope(|scope| {
        for n in 1..9 {
            let (folder, image) = (&folder, &image);
            scope.spawn(move || folder.store().tag(image, &name(&format!("a:{n}"))).unwrap());
            scope.spawn(move || {
                folder
                    .store()
                    .import(
                        &base_tar()[..],
                        ImportOptions { reference: Some(name(&format!("b:{n}"))), ..ImportOptions::default() },
                    )
                    .unwrap()
            });
        }
    });
    let names = folder.store().list().unwrap().images.into_iter().filter(|l| l.reference.is_some()).count();
    assert_eq!(names, 17);
}
