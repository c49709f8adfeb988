//! Layers that depend on what else is in the store.

use super::servers::{Action, Client, Proxy, Registry, blob, sha256};
use crate::archives::{config, diff_id, file, link, packed, tar_of};
use crate::support::{IMAGE, Store, fixture, slurp};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Puts an image of busybox and these layers into the registry.
fn put(registry: &Registry, name: &str, layers: &[Vec<u8>]) {
    let layers = [&[slurp(fixture("busybox.tar"))], layers].concat();
    let config = config(&layers.iter().map(|l| diff_id(l)).collect::<Vec<_>>());
    let blob = |tar: &Vec<u8>| {
        let data = packed("gzip", tar);
        json!({ "mediaType": LAYER, "size": data.len(), "digest": registry.put_blob(name, &data) })
    };
    let layers: Vec<Value> = layers.iter().map(blob).collect();
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
        "digest": registry.put_blob(name, &config) });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    registry.put_manifest(name, "latest", MANIFEST, &manifest.to_string());
}

fn noise(length: usize) -> String {
    (0..length / 65 + 1).map(|n| format!("{}\n", &sha256(&n.to_le_bytes())[7..])).collect()
}

#[test]
fn a_layer_that_links_to_files_of_others_is_fetched_too() {
    let client = Client::empty();
    let registry = Registry::open(&client.store);
    let below = tar_of(&[link(b'5', "d/", ""), file("d/file", "below")]);
    // Small ones and those of which parts are kept, and one on the other.
    let large = noise(3 << 20);
    let top = tar_of(&[link(b'1', "other", "d/file"), file("large", &large)]);
    let highest = tar_of(&[link(b'1', "third", "other")]);
    put(&registry, "linked", &[below, top.clone(), highest]);
    let name = registry.name("linked");
    client.ok(&["pull", &name]);
    let script = "cat /other /d/file /third; [ /other -ef /third ]; sha256sum < /large";
    let said = client.ok(&["run", "--rm", &name, "sh", "-ec", script]);
    assert_eq!(said, format!("belowbelowbelow{}  -", &sha256(large.as_bytes())[7..]));
    assert_eq!(client.list("partial"), Vec::<String>::new());
    assert!(client.ok(&["pull", &name]).contains("Image is up to date"));
    // The layer belongs to those below it now: on others it is refused before anything comes.
    put(&registry, "others", &[tar_of(&[link(b'5', "d/", ""), file("d/file", "other")]), top.clone()]);
    let proxy = Proxy::start(registry.port, |_| Action::Pass);
    let error = client.refuses(&["pull", &proxy.name("others")]);
    assert!(error.contains("on other ones"), "{error}");
    assert_eq!(proxy.seen("/blobs/").len(), 1, "only the configuration");
    client.ok(&["rmi", &name]);
    client.ok(&["pull", &registry.name("others")]);
    assert_eq!(client.ok(&["run", "--rm", &registry.name("others"), "cat", "/other"]), "other");
}

#[test]
fn a_link_to_nothing_is_refused_and_what_breaks_off_goes_on() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    put(&registry, "nothing", &[tar_of(&[file("a", "b")]), tar_of(&[link(b'1', "other", "d/none")])]);
    let error = client.refuses(&["pull", &registry.name("nothing")]);
    assert!(error.contains("in the same layer"), "{error}");
    // The link comes first, so all of the rest is received before it is unpacked.
    let top = tar_of(&[link(b'1', "other", "d/file"), file("large", &noise(5 << 20))]);
    put(&registry, "cut", &[tar_of(&[link(b'5', "d/", ""), file("d/file", "below")]), top]);
    let cut = AtomicUsize::new(0);
    let proxy = Proxy::start(registry.port, move |request| {
        let is_blob = request.first.contains("/blobs/");
        match is_blob && cut.fetch_add(1, Ordering::Relaxed) < 8 {
            true => Action::Cut(900_000),
            false => Action::Pass,
        }
    });
    client.ok(&["pull", &proxy.name("cut")]);
    assert_eq!(client.ok(&["run", "--rm", &proxy.name("cut"), "cat", "/other"]), "below");
}

#[test]
fn files_that_are_copied_from_below_count_for_the_limit() {
    let client = Client::empty();
    let registry = Registry::open(&client.store);
    let names: Vec<String> = (0..50).map(|n| format!("name{n}")).collect();
    let new_names: Vec<String> = names.iter().map(|name| format!("{name}.new")).collect();
    let content = noise(1 << 20);
    let mut below = vec![file("file", &content)];
    below.extend(names.iter().map(|name| link(b'1', name, "file")));
    // Each name is a copy of its own up there, though all are one file below.
    let above: Vec<_> = new_names.iter().zip(&names).map(|(new, name)| link(b'1', new, name)).collect();
    put(&registry, "bomb", &[tar_of(&below), tar_of(&above)]);
    let name = registry.name("bomb");
    let error = client.refuses(&["--unpack-limit", "20MB", "pull", &name]);
    assert!(error.contains("more than 20971520 bytes when unpacked"), "{error}");
    client.ok(&["--unpack-limit", "80MB", "pull", &name]);
}

/// The marks of layers that are not synced yet, or where they would be.
fn marks(store: &Store, all: bool) -> Vec<PathBuf> {
    let layers = std::fs::read_dir(store.root().join("layers")).unwrap().flatten();
    layers.map(|e| e.path().join("unsynced")).filter(|p| all || p.symlink_metadata().is_ok()).collect()
}

#[test]
fn what_a_build_has_left_unsynced_is_synced_before_an_image_stands_on_it() {
    let (here, there) = (Client::with_image(), Client::with_image());
    let registry = Registry::open(&here.store);
    let boot = String::from_utf8(slurp("/proc/sys/kernel/random/boot_id")).unwrap();
    for (boot, fetched) in [(boot.trim(), 1), ("another-boot", 2)] {
        let name = registry.name(&format!("on-{fetched}"));
        here.store.committed_image(IMAGE, &name, &format!("echo {fetched} > /more"));
        here.ok(&["push", "-q", &name]);
        let mark = marks(&there.store, true).remove(0);
        std::os::unix::fs::symlink(boot, &mark).unwrap();
        let said = there.ok(&["pull", &name]);
        assert_eq!(said.matches(": Pull complete\n").count(), fetched, "{said}");
        assert_eq!(marks(&there.store, false), Vec::<PathBuf>::new());
        assert_eq!(there.ok(&["run", "--rm", &name, "cat", "/more"]), fetched.to_string());
        there.ok(&["rmi", &name]);
    }
}

#[test]
fn what_a_manifest_says_of_a_layer_that_is_there_is_not_passed_on() {
    let client = Client::empty();
    let registry = Registry::open(&client.store);
    put(&registry, "honest", &[tar_of(&[file("a", "honest")])]);
    client.ok(&["pull", &registry.name("honest")]);
    // An image of the same layers, but other blobs, which nobody gets who has the layers already.
    let mut manifest: Value = serde_json::from_str(&registry.manifest("honest", "latest").1).unwrap();
    let honest = manifest["layers"][1]["digest"].clone();
    for (at, data) in [packed("gzip", &slurp(fixture("busybox.tar"))), b"something else".to_vec()].iter().enumerate() {
        let digest = registry.put_blob("evil", data);
        manifest["layers"][at]["digest"] = digest.into();
        manifest["layers"][at]["size"] = data.len().into();
    }
    let config = blob(registry.port, "honest", manifest["config"]["digest"].as_str().unwrap());
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["author"] = "somebody else".into();
    manifest["config"]["size"] = config.to_string().len().into();
    manifest["config"]["digest"] = registry.put_blob("evil", config.to_string().as_bytes()).into();
    registry.put_manifest("evil", "latest", MANIFEST, &manifest.to_string());
    assert!(client.ok(&["pull", &registry.name("evil")]).contains(": Already exists"));
    client.store.committed_image(&registry.name("honest"), &registry.name("own"), "echo own > /own");
    client.ok(&["push", &registry.name("own")]);
    let pushed: Value = serde_json::from_str(&registry.manifest("own", "latest").1).unwrap();
    assert_eq!(pushed["layers"][1]["digest"], honest);
}
