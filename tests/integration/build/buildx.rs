//! `buildx`, and the flags that came with it.

use crate::support::{Store, done};
use serde_json::{Value, json};

#[test]
fn builds_are_the_same_by_the_name_of_the_plugin() {
    let store = Store::new();
    let context = store.context("context", "FROM busybox\nRUN echo built > /f\n");
    let path = context.to_str().unwrap();
    let done = store.run(&["buildx", "--builder", "default", "-D", "build", "--builder=default", "-t", "i", path]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/f"]), "built");
    let kept = store.ok(&["buildx", "du", "--builder", "default"]);
    assert!(kept.contains("RUN echo built > /f"), "{kept}");
    let ids = |table: &str| {
        table.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&kept), ids(&store.ok(&["builder", "du"])));
    let pruned = store.ok(&["buildx", "prune", "-f", "--reserved-space", "1GB"]);
    assert!(pruned.ends_with("Total reclaimed space: 0B"), "{pruned}");
    let pruned = store.ok(&["buildx", "prune", "-af"]);
    assert!(pruned.starts_with("Deleted build cache objects:"), "{pruned}");
    for command in [&["build", path][..], &["du"], &["prune", "-f"], &["inspect"], &["ls"]] {
        let error = store.fails(125, &[&["buildx"], command, &["--builder", "other"]].concat());
        assert!(error.contains("no builder \"other\" found"), "{error}");
    }
}

#[test]
fn there_is_one_builder() {
    let store = Store::empty();
    let list = store.ok(&["buildx", "ls"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "BUILDKIT", "PLATFORMS"]);
    assert_eq!(lines[1], ["default*", "docker"]);
    assert_eq!(lines[2][..5], ["\\_", "default", "\\_", "default", "running"]);
    for args in [&["buildx", "inspect"][..], &["buildx", "inspect", "--bootstrap", "default"]] {
        let shown = store.ok(args);
        assert!(
            shown.starts_with("Name:   default\nDriver: docker\n") && shown.contains("Status:    running"),
            "{shown}"
        );
    }
    let version = store.ok(&["buildx", "version"]);
    assert_eq!(version, format!("minirun v{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_file_tells_what_was_made() {
    let store = Store::new();
    let file = store.path("metadata.json");
    let flag = format!("--metadata-file={}", file.display());
    let told = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap();
    store.builds("FROM busybox\nRUN echo x > /x\n", &[&flag, "-t", "i", "-t", "i:2"]);
    let id = store.inspect("i", "{{.Id}}");
    assert_eq!(told()["containerimage.config.digest"], id.as_str());
    assert_eq!(told()["image.name"], "docker.io/library/i:latest,docker.io/library/i:2");
    let manifest = told()["containerimage.digest"].as_str().unwrap().to_owned();
    let blob = store.root().join("blobs/sha256").join(&manifest["sha256:".len()..]);
    let blob: Value = serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap();
    assert_eq!(blob["config"]["digest"], id.as_str());
    store.builds("FROM busybox\n", &[&flag]);
    assert_eq!(told().get("image.name"), None);
    store.builds("FROM busybox\n", &[&flag, "-o", "type=cacheonly"]);
    assert_eq!(told(), json!({}));
    store.builds("FROM busybox\n", &["--metadata-file="]);
}

#[test]
fn a_build_that_pushes_nothing_needs_no_registries() {
    let store = Store::new();
    let context = store.context("context", "FROM busybox\nRUN echo built > /f\n");
    let mut build = store.command(&["build", "-o", "", "-t", "i", context.to_str().unwrap()]);
    let built = done(build.env("MINIRUN_REGISTRIES", store.write("registries.json", "{ bad")));
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/f"]), "built");
}

#[test]
fn an_image_is_loaded_beside_another_result() {
    let store = Store::new();
    let out = store.text("out");
    store.builds("FROM busybox\nRUN echo x > /x\n", &["-t", "i", "-o", &out]);
    assert_eq!(store.run(&["image", "exists", "i"]).code, 1);
    store.builds("FROM busybox\nRUN echo x > /x\n", &["-t", "i", "--load", "-o", &out]);
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/x"]), "x");
    store.builds("FROM busybox\nRUN echo y > /x\n", &["-t", "i", "--load"]);
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/x"]), "y");
}

#[test]
fn what_the_image_would_lack_is_refused() {
    let store = Store::new();
    for (flag, why) in [
        ("--annotation=a=b", "manifests with annotations are not made"),
        ("--provenance=mode=max", "attestations are not made; give --provenance=false"),
        ("--provenance=true", "attestations are not made; give --provenance=false"),
        ("--sbom=true", "attestations are not made; give --sbom=false"),
        ("--attest=type=sbom", "attestations are not made"),
        ("--cache-to=type=registry,ref=cache", "caches are not exported"),
        ("--cache-to=type=local,dest=cache", "caches are not exported"),
    ] {
        let error = store.build_fails("FROM busybox\n", &["-t", "i", flag]);
        assert!(error.contains(why), "{flag}: {error}");
    }
    assert_eq!(store.run(&["image", "exists", "i"]).code, 1);
    let none = ["--provenance=false", "--sbom", "false", "--attest=type=provenance,disabled=true", "--cache-from="];
    let said = store.builds("FROM busybox\n", &none);
    assert!(!said.contains("[Warning]"), "{said}");
    let said = store.builds("FROM busybox\n", &["--cache-from", "other", "--cache-to", "type=inline"]);
    for flag in ["--cache-from", "--cache-to"] {
        assert_eq!(said.matches(&format!("[Warning] {flag} has no effect")).count(), 1, "{said}");
    }
    let said = store.builds("FROM busybox\n", &["-q", "--cache-from", "other"]);
    assert_eq!(said, "");
}

#[test]
fn a_dockerfile_is_checked_without_a_build() {
    let store = Store::new();
    let images = store.ok(&["images", "-a", "-q"]);
    let odd = "FROM busybox\nRUN false\nEXPOSE 8080:80\nMAINTAINER me\n";
    for check in ["--check", "--call=check"] {
        let done = store.build(odd, &["-t", "i", check]);
        assert_eq!(done.code, 1, "{done:?}");
        let expected = "Check complete, 2 warnings have been found!\n\nWARNING: ExposeInvalidFormat\n\
            EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80'\n\
            Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |     RUN false\n   3 | >>> EXPOSE 8080:80\n";
        assert!(done.out.starts_with(expected), "{}", done.out);
        assert!(done.out.contains("\nWARNING: MaintainerDeprecated\n"), "{}", done.out);
        let fine = store.build("FROM busybox\nRUN false\n", &[check]);
        assert_eq!((fine.code, fine.out.as_str()), (0, "Check complete, no warnings found.\n"));
        let error = store.build_fails("FROM busybox\nNONSENSE\n", &[check]);
        assert!(error.contains("unknown instruction: NONSENSE"), "{error}");
    }
    let out = store.text("out.tar");
    let done = store.build(odd, &["--check", "--secret", "id=nowhere", "-o", &format!("type=tar,dest={out}")]);
    assert!(done.code == 1 && !store.path("out.tar").exists(), "{done:?}");
    assert_eq!(store.ok(&["images", "-a", "-q"]), images);
    store.builds("FROM busybox\nMAINTAINER me\n", &["--call", "build"]);
    let error = store.build_fails("FROM busybox\n", &["--call", "outline"]);
    assert!(error.contains("unknown method \"outline\" for --call"), "{error}");
}
