//! Connections that break, servers that lie, and processes that are killed.

use super::servers::{Action, Client, Message, Proxy, Registry, sha256};
use crate::support::{IMAGE, eventually};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A registry with an image of a layer of 4 MB that does not compress, and the store that it came from.
fn stocked() -> (Client, Registry) {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let name = registry.name("app");
    client.store.committed_image(IMAGE, &name, "head -c 4000000 /dev/urandom > /noise");
    client.ok(&["push", &name]);
    (client, registry)
}

/// Whether a request is for a blob that is a large layer; the configuration is small.
fn is_layer(registry: &Registry) -> impl Fn(&Message) -> bool + Send + Sync + 'static {
    let manifest: Value = serde_json::from_str(&registry.manifest("app", "latest").1).unwrap();
    let layer = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
    move |request| request.first.starts_with("GET ") && request.first.ends_with(&layer)
}

/// A proxy that does something to the first `count` requests for the large layer.
fn faulty(registry: &Registry, count: usize, fault: impl Fn() -> Action + Send + Sync + 'static) -> Proxy {
    let (is_layer, done) = (is_layer(registry), AtomicUsize::new(0));
    Proxy::start(registry.port, move |request| {
        if is_layer(request) && done.fetch_add(1, Ordering::Relaxed) < count { fault() } else { Action::Pass }
    })
}

fn ranges(proxy: &Proxy) -> Vec<Option<String>> {
    let blobs = proxy.seen("/blobs/").into_iter().filter(|m| m.header("range").is_some());
    blobs.map(|m| m.header("range").map(str::to_owned)).collect()
}

fn is_whole(source: &Client, target: &Client, proxy: &Proxy, registry: &Registry) {
    let sum = |client: &Client, name: &str| client.ok(&["run", "--rm", name, "sha256sum", "/noise"]);
    assert_eq!(sum(source, &registry.name("app")), sum(target, &proxy.name("app")));
    assert_eq!(target.list("partial"), Vec::<String>::new());
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let (source, registry) = stocked();
    let target = Client::empty();
    target.settings(r#"{"patience": 1}"#);
    let proxy = faulty(&registry, 2, || Action::Cut(1_500_000));
    target.ok(&["pull", &proxy.name("app")]);
    is_whole(&source, &target, &proxy, &registry);
    let seen = ranges(&proxy);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].as_deref() == Some("bytes=1500000-") && seen[1] > seen[0], "{seen:?}");

    // A server that falls silent is left, one that sends the whole although a part was asked for is endured.
    let target = Client::empty();
    target.settings(r#"{"patience": 1}"#);
    let manifest: Value = serde_json::from_str(&registry.manifest("app", "latest").1).unwrap();
    let digest = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
    let (is_layer, done) = (is_layer(&registry), AtomicUsize::new(0));
    let port = registry.port;
    let proxy = Proxy::start(registry.port, move |request| match done.load(Ordering::Relaxed) {
        _ if !is_layer(request) => Action::Pass,
        0 => {
            done.store(1, Ordering::Relaxed);
            Action::Stall(1_000_000)
        }
        _ => Action::Reply(200, String::new(), super::servers::blob(port, "app", &digest)),
    });
    target.ok(&["pull", &proxy.name("app")]);
    is_whole(&source, &target, &proxy, &registry);
    assert_eq!(ranges(&proxy), [Some("bytes=1000000-".to_owned())]);
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let (source, registry) = stocked();
    let target = Client::empty();
    let proxy = faulty(&registry, 1, || Action::Stall(2_000_000));
    let mut pull = target.command(&["pull", "-q", &proxy.name("app")]).spawn().unwrap();
    let partial = || {
        let files = std::fs::read_dir(target.store.root().join("partial")).into_iter().flatten().flatten();
        files.map(|e| e.metadata().map_or(0, |m| m.len())).sum::<u64>()
    };
    eventually("a part of the layer", || partial() == 2_000_000);
    // What is in the making is nobody else's to sweep.
    target.store.ok(&["rmi", "-f", "nosuch"]);
    assert!(!target.list("tmp").is_empty());
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert_eq!(target.store.ok(&["images", "-q"]), "");
    target.ok(&["pull", &proxy.name("app")]);
    is_whole(&source, &target, &proxy, &registry);
    assert_eq!(ranges(&proxy), [Some("bytes=2000000-".to_owned())]);
}

#[test]
fn what_has_come_stays_while_the_rest_is_on_its_way() {
    let (_source, registry) = stocked();
    let target = Client::empty();
    let proxy = faulty(&registry, usize::MAX, || Action::Stall(1000));
    let mut pull = target.command(&["pull", &proxy.name("app")]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the small layer to be there", || !target.list("layers").is_empty());
    target.store.ok(&["image", "prune", "-af"]);
    assert_eq!(target.list("layers").len(), 1);
    pull.kill().unwrap();
    pull.wait().unwrap();
    target.store.ok(&["image", "prune", "-af"]);
    assert_eq!(target.list("layers").len(), 0);
    target.ok(&["pull", &registry.name("app")]);
    target.ok(&["rmi", &registry.name("app")]);
}

#[test]
fn a_pull_may_be_killed_at_any_moment() {
    let (source, registry) = stocked();
    let target = Client::empty();
    let name = registry.name("app");
    for milliseconds in [10, 20, 30, 45, 60, 80, 100, 130, 160, 200] {
        let mut pull = target.command(&["pull", "-q", &name]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        pull.kill().unwrap();
        pull.wait().unwrap();
        // Either there is no image, or all of it.
        if !target.store.ok(&["images", "-q"]).is_empty() {
            target.ok(&["run", "--rm", &name, "true"]);
            target.ok(&["rmi", &name]);
        }
    }
    target.ok(&["pull", &name]);
    let sum = |client: &Client| client.ok(&["run", "--rm", &name, "sha256sum", "/noise"]);
    assert_eq!(sum(&source), sum(&target));
    assert_eq!(target.list("partial"), Vec::<String>::new());
}

#[test]
fn a_part_that_was_spoilt_is_got_anew() {
    let (source, registry) = stocked();
    let target = Client::empty();
    let proxy = faulty(&registry, 1, || Action::Stall(2_000_000));
    let mut pull = target.command(&["pull", "-q", &proxy.name("app")]).spawn().unwrap();
    let folder = target.store.root().join("partial");
    let file = || std::fs::read_dir(&folder).into_iter().flatten().flatten().next().map(|e| e.path());
    eventually("a part of the layer", || file().is_some_and(|f| f.metadata().is_ok_and(|m| m.len() == 2_000_000)));
    pull.kill().unwrap();
    pull.wait().unwrap();
    std::fs::write(file().unwrap(), vec![7; 1_234_567]).unwrap();
    target.ok(&["pull", &proxy.name("app")]);
    is_whole(&source, &target, &proxy, &registry);
}

#[test]
fn two_pulls_of_the_same_share_one_download() {
    let (source, registry) = stocked();
    let target = Client::empty();
    let proxy = faulty(&registry, 0, || Action::Pass);
    let name = proxy.name("app");
    let pull = || target.command(&["pull", "-q", &name]).stdout(Stdio::null()).spawn().unwrap();
    let pulls: Vec<_> = (0..4).map(|_| pull()).collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    is_whole(&source, &target, &proxy, &registry);
    let is_layer = is_layer(&registry);
    assert_eq!(proxy.seen("/blobs/").iter().filter(|m| is_layer(m)).count(), 1);
}

#[test]
fn what_passes_is_tried_again_and_what_stays_is_told() {
    let (source, registry) = stocked();
    let target = Client::empty();
    let count = AtomicUsize::new(0);
    let began = Instant::now();
    let proxy = Proxy::start(registry.port, move |_| match count.fetch_add(1, Ordering::Relaxed) {
        1 => Action::Reply(429, "Retry-After: 1\r\n".into(), Vec::new()),
        2 | 4 => Action::Reply(503, String::new(), b"<html>busy</html>".to_vec()),
        5 => Action::Cut(10),
        _ => Action::Pass,
    });
    target.ok(&["pull", &proxy.name("app")]);
    is_whole(&source, &target, &proxy, &registry);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let down = Proxy::start(registry.port, |request| match request.first.contains("/manifests/") {
        true => Action::Reply(500, String::new(), br#"{"errors":[{"code":"UNKNOWN","message":"it burns"}]}"#.to_vec()),
        false => Action::Pass,
    });
    let error = target.fails(&["pull", &down.name("app")]);
    assert!(error.contains("unknown: it burns"), "{error}");
    assert_eq!(down.seen("/manifests/").len(), 5);
    // An error in the middle of it all: what was complete is kept for the next attempt, the rest is continued.
    let target = Client::empty();
    let broken = faulty(&registry, 99, || Action::Cut(100_000));
    let error = target.fails(&["pull", &broken.name("app")]);
    assert!(error.contains("get the layer") && error.contains("of 4"), "{error}");
    assert_eq!((target.list("partial").len(), target.list("layers").len()), (1, 1));
    target.ok(&["pull", &registry.name("app")]);
    assert_eq!((target.list("partial").len(), target.list("layers").len()), (0, 2));
}

#[test]
fn every_byte_is_compared() {
    let (_source, registry) = stocked();
    let target = Client::empty();
    let proxy = faulty(&registry, 99, || Action::Spoil(1_700_000));
    let error = target.refuses(&["pull", &proxy.name("app")]);
    assert!(error.contains("get the layer sha256:"), "{error}");
    for part in ["/manifests/", "/blobs/"] {
        let spoiling = Proxy::start(registry.port, move |request| {
            if request.first.starts_with("GET") && request.first.contains(part) {
                Action::Spoil(40)
            } else {
                Action::Pass
            }
        });
        target.refuses(&["pull", &spoiling.name("app")]);
    }
    let manifest = registry.manifest("app", "latest").1;
    let parsed: Value = serde_json::from_str(&manifest).unwrap();
    // What is not what was asked for by digest.
    let other = manifest.clone().into_bytes();
    let swapped = Proxy::start(registry.port, move |request| match request.first.contains("/manifests/") {
        true => Action::Reply(200, String::new(), other.clone()),
        false => Action::Pass,
    });
    let wanted = format!("sha256:{:064}", 1);
    let error = target.refuses(&["pull", &format!("{}@{wanted}", swapped.name("app"))]);
    assert!(
        error.contains(&format!("not what its digest {wanted} says: it is {}", sha256(manifest.as_bytes()))),
        "{error}"
    );
    // Sizes that are too small, too large, and absurd; a diff id that is another layer's.
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = parsed.clone();
        change(&mut changed);
        let text = changed.to_string().into_bytes();
        let proxy = Proxy::start(registry.port, move |request| match request.first.contains("/manifests/") {
            true => Action::Reply(200, String::new(), text.clone()),
            false => Action::Pass,
        });
        target.refuses(&["pull", &proxy.name("app")])
    };
    let size = parsed["layers"][1]["size"].as_u64().unwrap();
    let error = with(&|m| m["layers"][1]["size"] = json!(size - 1));
    assert!(error.contains("larger than the"), "{error}");
    let error = with(&|m| m["config"]["size"] = json!(1u64 << 60));
    assert!(error.contains("too large"), "{error}");
    let error = with(&|m| m["layers"][0] = m["layers"][1].clone());
    assert!(error.contains("is not what its digest"), "{error}");
    let error = with(&|m| m["layers"] = json!([]));
    assert!(error.contains("0 layers but 2 diff ids"), "{error}");
    let error = with(&|m| m["manifests"] = json!([]));
    assert!(error.contains("both an index and a manifest"), "{error}");
    let error = with(&|m| m["schemaVersion"] = json!(1));
    assert!(error.contains("schema 1"), "{error}");
    let error = with(&|m| m["layers"][0]["digest"] = json!("sha256:../../etc/passwd"));
    assert!(error.contains("invalid checksum digest"), "{error}");
}

#[test]
fn hostile_servers_do_not_hold_us_for_ever() {
    let client = Client::empty();
    client.settings(r#"{"patience": 1}"#);
    let answers = |answer: fn(&Message) -> Action| {
        let proxy = Proxy::start(1, move |request| match request.first.ends_with(" /v2/") {
            true => Action::Reply(200, String::new(), Vec::new()),
            false => answer(request),
        });
        client.refuses(&["pull", &proxy.name("app")])
    };
    let error = answers(|_| Action::Reply(200, String::new(), vec![b' '; 5 << 20]));
    assert!(error.contains("larger than 4194304 bytes"), "{error}");
    let error = answers(|request| {
        let path = request.first.split(' ').nth(1).unwrap();
        Action::Reply(302, format!("Location: {path}\r\n"), Vec::new())
    });
    assert!(error.contains("sends us on and on"), "{error}");
    for location in ["file:///etc/passwd", "gopher://x/", "http://["] {
        let proxy = Proxy::start(1, move |_| Action::Reply(302, format!("Location: {location}\r\n"), Vec::new()));
        client.refuses(&["pull", &proxy.name("app")]);
    }
    answers(|_| Action::Reply(200, String::new(), b"[".repeat(1 << 20)));
    answers(|_| Action::Reply(401, "WWW-Authenticate: Basic realm=x\r\n".into(), vec![b'x'; 1 << 20]));
    let proxy = Proxy::start(1, |request| match request.first.contains("/tags/") {
        true => Action::Reply(200, String::new(), br#"{"tags":["good","../../../tmp/x"]}"#.to_vec()),
        false => Action::Reply(200, String::new(), Vec::new()),
    });
    let error = client.refuses(&["pull", "-a", &proxy.name("app")]);
    assert!(error.contains("invalid reference format"), "{error}");
    assert_eq!(proxy.seen("/manifests/").len(), 0);
    let error = {
        let proxy = Proxy::start(1, |_| Action::Reply(404, String::new(), b"<html>".to_vec()));
        client.refuses(&["pull", &proxy.name("app")])
    };
    assert!(error.contains("is no registry"), "{error}");
}

#[test]
fn a_broken_upload_goes_on_in_pieces() {
    let source = Client::with_image();
    let registry = Registry::open(&source.store);
    // More than one piece.
    source.store.committed_image(IMAGE, &registry.name("app"), "head -c 20000000 /dev/urandom > /noise");
    source.ok(&["push", &registry.name("app")]);
    let (whole, pieces) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let target = Registry::open(&source.store);
    let proxy = Proxy::start(target.port, move |request| {
        let is_large = request.header("content-length").is_some_and(|l| l.len() >= 8);
        if request.first.starts_with("PATCH ") && pieces.fetch_add(1, Ordering::Relaxed) == 1 {
            return Action::Reply(503, String::new(), Vec::new());
        }
        match is_large && whole.fetch_add(1, Ordering::Relaxed) == 0 {
            true => Action::CutUpload(1_000_000),
            false => Action::Pass,
        }
    });
    source.ok(&["tag", &registry.name("app"), &proxy.name("app")]);
    let said = source.ok(&["push", &proxy.name("app")]);
    assert!(said.contains(": Pushed"), "{said}");
    let pieces = proxy.seen("PATCH ");
    let ranges: Vec<&str> = pieces.iter().map(|piece| piece.header("content-range").unwrap()).collect();
    // The second was sent again, and the first was not.
    assert!(ranges.len() == 3 && ranges[0].starts_with("0-") && !ranges[1].starts_with("0-"), "{ranges:?}");
    assert_eq!(ranges[1], ranges[2]);
    assert_eq!(target.manifest("app", "latest"), registry.manifest("app", "latest"));
    let fresh = Client::empty();
    fresh.ok(&["pull", &target.name("app")]);
    // Whoever may not write is told so.
    let deaf = Proxy::start(target.port, |request| match request.first.starts_with("POST ") {
        true => Action::Reply(403, String::new(), br#"{"errors":[{"code":"DENIED","message":"read only"}]}"#.to_vec()),
        false => Action::Pass,
    });
    source.ok(&["tag", &registry.name("app"), &deaf.name("other")]);
    let error = source.fails(&["push", &deaf.name("other")]);
    assert!(error.contains("denied: read only"), "{error}");
}
