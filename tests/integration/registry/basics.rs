//! What works with a registry that works.

use super::servers::{Action, Client, Proxy, Registry, sha256};
use crate::support::{IMAGE, fixture, slurp};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// An image of two layers under a name of the registry.
fn two_layers(client: &Client, name: &str) {
    client.store.committed_image(IMAGE, name, "mkdir /more; head -c 300000 /dev/urandom > /more/noise");
}

#[test]
fn an_image_comes_back_as_it_went() {
    let (here, there) = (Client::with_image(), Client::empty());
    let registry = Registry::open(&here.store);
    let name = registry.name("team/app");
    two_layers(&here, &name);
    let id = here.store.inspect(&name, "{{.Id}}");
    let layers: Vec<String> = {
        let list: Value = serde_json::from_str(&here.store.inspect(&name, "{{json .RootFS.Layers}}")).unwrap();
        list.as_array().unwrap().iter().map(|l| l.as_str().unwrap()[7..19].to_owned()).collect()
    };
    let pushed = here.ok(&["push", &name]);
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(lines[0], "Using default tag: latest");
    assert_eq!(lines[1], format!("The push refers to repository [{name}]"));
    for layer in &layers {
        for state in ["Preparing", "Pushed"] {
            assert!(lines.contains(&format!("{layer}: {state}").as_str()), "{pushed}");
        }
    }
    let (_, manifest) = registry.manifest("team/app", "latest");
    let digest = sha256(manifest.as_bytes());
    assert_eq!(*lines.last().unwrap(), format!("latest: digest: {digest} size: {}", manifest.len()));

    let pulled = there.ok(&["pull", &name]);
    let lines: Vec<&str> = pulled.lines().collect();
    assert_eq!(&lines[..2], ["Using default tag: latest", "latest: Pulling from team/app"]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    for blob in manifest["layers"].as_array().unwrap() {
        let item = &blob["digest"].as_str().unwrap()[7..19];
        let of_item: Vec<_> = lines.iter().filter_map(|l| l.strip_prefix(&format!("{item}: "))).collect();
        assert_eq!(of_item, ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]);
    }
    let end = [&format!("Digest: {digest}"), &format!("Status: Downloaded newer image for {name}:latest")];
    assert_eq!(lines[lines.len() - 3..], [end[0].as_str(), end[1].as_str(), &format!("{name}:latest")]);
    assert_eq!(there.store.inspect(&name, "{{.Id}}"), id);
    assert_eq!(there.store.inspect(&name, "{{json .RepoDigests}}"), json!([format!("{name}@{digest}")]).to_string());
    assert_eq!(here.store.inspect(&name, "{{json .RepoDigests}}"), json!([format!("{name}@{digest}")]).to_string());
    assert_eq!(
        there.ok(&["images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]),
        format!("{name} latest {digest}")
    );
    let sum = |client: &Client| client.ok(&["run", "--rm", &name, "sha256sum", "/more/noise"]);
    assert_eq!(sum(&here), sum(&there));
    assert_eq!(there.list("partial"), Vec::<String>::new());

    let again = there.ok(&["pull", &format!("{name}:latest")]);
    let wanted = format!(
        "latest: Pulling from team/app\nDigest: {digest}\nStatus: Image is up to date for {name}:latest\n{name}:latest"
    );
    assert_eq!(again, wanted);
    assert_eq!(there.ok(&["pull", "-q", &name]), format!("{name}:latest"));
    for (client, action) in [(&here, "push"), (&there, "pull")] {
        let filter = format!("event={action}");
        let told = client.ok(&["events", "--since", "1h", "--until", "0s", "--filter", &filter]);
        let (_, event) = told.lines().next().unwrap().split_once(' ').unwrap();
        assert_eq!(event, format!("image {action} {name}:latest (name={name})"));
    }
}

#[test]
fn what_is_there_is_neither_sent_nor_fetched_again() {
    let (here, there) = (Client::with_image(), Client::empty());
    let registry = Registry::open(&here.store);
    let base = registry.name("base");
    here.ok(&["tag", IMAGE, &base]);
    here.ok(&["push", &base]);
    there.ok(&["pull", &base]);
    let more = registry.name("more:1");
    here.store.committed_image(&base, &more, "echo more > /more");
    let said = here.ok(&["push", &more]);
    assert!(said.contains(": Mounted from base\n") && said.contains(": Pushed\n"), "{said}");
    let said = here.ok(&["push", &more]);
    assert_eq!(said.matches(": Layer already exists\n").count(), 2, "{said}");
    let said = there.ok(&["pull", &more]);
    assert_eq!(said.matches(": Already exists\n").count(), 1, "{said}");
    assert_eq!(said.matches(": Pull complete\n").count(), 1, "{said}");
    // What was pulled goes back as it was, byte for byte, also elsewhere on the same registry.
    let copy = registry.name("copy:2");
    there.ok(&["tag", &more, &copy]);
    let said = there.ok(&["push", &copy]);
    assert_eq!(said.matches(": Mounted from ").count(), 2, "{said}");
    assert_eq!(registry.manifest("copy", "2"), registry.manifest("more", "1"));
    // The same bytes are always compressed to the same bytes.
    let other = Registry::open(&here.store);
    let elsewhere = other.name("elsewhere:1");
    there.ok(&["tag", &more, &elsewhere]);
    there.ok(&["push", "-q", &elsewhere]);
    assert_eq!(other.manifest("elsewhere", "1"), registry.manifest("more", "1"));
}

#[test]
fn run_and_create_get_what_is_missing() {
    let (here, there) = (Client::with_image(), Client::empty());
    let registry = Registry::open(&here.store);
    let name = registry.name("tool");
    here.ok(&["tag", IMAGE, &name]);
    here.ok(&["push", &name]);
    let done = there.run(&["run", "--rm", "--pull", "never", &name, "echo", "hello"]);
    assert_eq!((done.code, done.out.as_str()), (125, ""), "{done:?}");
    let done = there.run(&["run", "--rm", &name, "echo", "hello"]);
    assert_eq!((done.code, done.out.as_str()), (0, "hello\n"), "{done:?}");
    assert!(
        done.err.starts_with(&format!("Unable to find image '{name}:latest' locally\nlatest: Pulling from tool\n"))
    );
    assert!(done.err.ends_with(&format!("Status: Downloaded newer image for {name}:latest\n")), "{done:?}");
    let done = there.run(&["run", "--rm", &name, "echo", "hello"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("hello\n", ""));
    // The name means something else by now.
    here.store.committed_image(IMAGE, &name, "echo new > /new");
    here.ok(&["push", &name]);
    assert_eq!(there.run(&["run", "--rm", &name, "cat", "/new"]).code, 1);
    let done = there.run(&["run", "--rm", "--pull=always", "--quiet", &name, "cat", "/new"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "new\n", ""), "{done:?}");
    there.ok(&["rmi", "-f", &name]);
    let id = there.ok(&["create", "--pull", "missing", &name, "true"]);
    assert_eq!(id.len(), 64);
    let done = there.run(&["run", "--pull", "sometimes", &name, "true"]);
    assert_eq!(done.code, 125, "{done:?}");
}

#[test]
fn names_by_digest_and_all_tags() {
    let (here, there) = (Client::with_image(), Client::empty());
    let registry = Registry::open(&here.store);
    let (one, two) = (registry.name("many:1"), registry.name("many:two"));
    here.ok(&["tag", IMAGE, &one]);
    here.store.committed_image(IMAGE, &two, "echo two > /two");
    let said = here.ok(&["push", "-a", &registry.name("many")]);
    assert!(said.contains("\n1: digest: ") && said.contains("\ntwo: digest: "), "{said}");
    let digest = sha256(registry.manifest("many", "1").1.as_bytes());
    let by_digest = format!("{}@{digest}", registry.name("many"));
    let said = there.ok(&["pull", &by_digest]);
    assert!(said.starts_with(&format!("{digest}: Pulling from many\n")), "{said}");
    assert!(said.ends_with(&format!("Status: Downloaded newer image for {by_digest}\n{by_digest}")), "{said}");
    assert_eq!(there.ok(&["run", "--rm", &by_digest, "echo", "by digest"]), "by digest");
    assert_eq!(there.store.inspect(&by_digest, "{{json .RepoTags}}"), "[]");
    there.ok(&["pull", "--all-tags", &registry.name("many")]);
    assert_eq!(there.store.inspect(&one, "{{.Id}}"), here.store.inspect(&one, "{{.Id}}"));
    assert_eq!(there.store.inspect(&two, "{{.Id}}"), here.store.inspect(&two, "{{.Id}}"));
    assert!(there.fails(&["pull", "-a", &one]).contains("tag can't be used with --all-tags/-a"));
    assert!(there.fails(&["push", "-a", &one]).contains("tag can't be used with --all-tags/-a"));
    // The name by digest goes alone, the tag stays; after another pull they go together.
    let file = there.store.text("saved.tar");
    there.ok(&["save", "-o", &file, &by_digest]);
    let manifest = Command::new("tar").args(["-xOf", &file, "manifest.json"]).output().unwrap().stdout;
    assert!(String::from_utf8(manifest).unwrap().contains("\"RepoTags\":null"));
    assert_eq!(there.ok(&["rmi", &by_digest]), format!("Untagged: {by_digest}"));
    assert_eq!(there.store.inspect(&one, "{{len .RepoTags}} {{len .RepoDigests}}"), "1 0");
    assert!(there.fails(&["rmi", &by_digest]).contains("No such image"));
    there.ok(&["pull", &by_digest]);
    let said = there.ok(&["rmi", &one]);
    assert!(said.contains(&format!("Untagged: {one}\nUntagged: {by_digest}\n")), "{said}");
}

#[test]
fn wrong_names_are_told_in_dockers_words() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let name = registry.name("nosuch");
    let error = client.refuses(&["pull", &name]);
    let wanted = format!("Error: manifest for {name}:latest not found: manifest unknown: manifest unknown\n");
    assert_eq!(error, wanted);
    let error = client.refuses(&["pull", "localhost:1/x"]);
    assert_eq!(error, "Error: Get \"https://localhost:1/v2/\": connection refused\n");
    for (name, wanted) in [
        ("UPPER", "invalid reference format: repository name must be lowercase"),
        ("a/../b", "invalid reference format"),
        ("localhost:5000/../../etc", "invalid reference format"),
    ] {
        assert_eq!(client.refuses(&["pull", name]), format!("Error: {wanted}\n"));
        assert_eq!(client.fails(&["push", name]), format!("Error: {wanted}\n"));
    }
    let error = client.fails(&["push", &name]);
    assert_eq!(error, format!("Error: An image does not exist locally with the tag: {name}\n"));
    let error = client.refuses(&["pull", "--platform", "a/b/c/d", &name]);
    assert!(error.contains("invalid platform"), "{error}");
}

/// An image of one layer put into the registry by hand: its manifest's descriptor in an index.
fn by_hand(registry: &Registry, layer: (&str, &[u8]), diff_id: &str, architecture: &str, docker: bool) -> Value {
    let (config_type, media_type) = match docker {
        true => {
            ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
        }
        false => ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.manifest.v1+json"),
    };
    let config = json!({ "architecture": architecture, "os": "linux", "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] } })
    .to_string();
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type,
        "config": { "mediaType": config_type, "size": config.len(),
            "digest": registry.put_blob("hand", config.as_bytes()) },
        "layers": [{ "mediaType": layer.0, "size": layer.1.len(), "digest": registry.put_blob("hand", layer.1) }] })
    .to_string();
    let digest = registry.put_manifest("hand", &sha256(manifest.as_bytes()), media_type, &manifest);
    json!({ "mediaType": media_type, "size": manifest.len(), "digest": digest })
}

fn compressed(program: &str, tar: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let data = tar.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &data).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

#[test]
fn indexes_of_platforms_and_layers_of_every_kind() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let tar = slurp(fixture("busybox.tar"));
    let diff_id = sha256(&tar);
    let (gzip, zstd) = (compressed("gzip", &tar), compressed("zstd", &tar));
    // Each with another architecture, so that the images are told apart.
    let docker_layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let mut docker = by_hand(&registry, (docker_layer, &gzip), &diff_id, "amd64", true);
    let mut zstd = by_hand(&registry, ("application/vnd.oci.image.layer.v1.tar+zstd", &zstd), &diff_id, "arm64", false);
    let mut plain = by_hand(&registry, ("application/vnd.oci.image.layer.v1.tar", &tar), &diff_id, "arm", false);
    docker["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    zstd["platform"] = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    plain["platform"] = json!({ "os": "linux", "architecture": "arm", "variant": "v6" });
    let index_type = "application/vnd.oci.image.index.v1+json";
    let inner = json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": [plain, zstd, docker] }).to_string();
    let inner_digest = registry.put_manifest("hand", "all", index_type, &inner);
    let outer = json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": [
        { "mediaType": index_type, "size": inner.len(), "digest": inner_digest }] })
    .to_string();
    registry.put_manifest("hand", "nested", index_type, &outer);
    let name = registry.name("hand:all");
    // None of these layers is the one that the store has.
    client.ok(&["rmi", IMAGE]);
    for (platform, architecture) in [("", "amd64"), ("linux/arm64", "arm64"), ("linux/arm/v7", "arm")] {
        let said = match platform {
            "" => client.ok(&["pull", &registry.name("hand:nested")]) + &client.ok(&["pull", &name]),
            platform => client.ok(&["pull", "--platform", platform, &name]),
        };
        assert!(said.contains(&format!("Digest: {inner_digest}\n")) && said.contains("Pull complete"), "{said}");
        assert_eq!(client.store.inspect(&name, "{{.Architecture}}"), architecture);
        let digests = client.store.inspect(&name, "{{json .RepoDigests}}");
        assert!(digests.contains(&inner_digest), "{digests}");
        assert_eq!(client.ok(&["run", "--rm", &name, "echo", "runs"]), "runs");
        for image in client.store.ok(&["images", "-q"]).lines() {
            client.run(&["rmi", "-f", image]);
        }
    }
    let error = client.refuses(&["pull", "--platform", "linux/s390x", &name]);
    assert_eq!(error, "Error: no matching manifest for linux/s390x in the manifest list entries\n");
    // A name without an index: what it is must be what was asked for.
    let single = registry.name(&format!("hand@{}", docker_digest(&registry)));
    let error = client.refuses(&["pull", "--platform", "arm64", &single]);
    assert!(
        error.contains("does not match the specified platform: wanted linux/arm64, actual: linux/amd64"),
        "{error}"
    );
}

#[test]
fn manifest_inspect_shows_what_a_registry_has() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let name = registry.name("app:1");
    client.ok(&["tag", IMAGE, &name]);
    client.ok(&["push", &name]);
    let (media_type, manifest) = registry.manifest("app", "1");
    let shown = client.ok(&["manifest", "inspect", &name]);
    assert_eq!(shown.replace(['\n', '\t'], "").replace("\": ", "\":"), manifest);
    let head = format!("{{\n\t\"schemaVersion\": 2,\n\t\"mediaType\": \"{media_type}\",\n\t\"config\": {{\n\t\t\"");
    assert!(shown.starts_with(&head) && shown.ends_with("\n\t\t}\n\t]\n}"), "{shown}");
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let shown = read(&client.ok(&["manifest", "inspect", "-v", &name]));
    let wanted = json!({ "mediaType": media_type, "digest": sha256(manifest.as_bytes()), "size": manifest.len(),
        "platform": { "architecture": "amd64", "os": "linux" } });
    assert_eq!((&shown["Ref"], &shown["Descriptor"]), (&json!(name), &wanted));
    assert_eq!(shown["OCIManifest"], read(&manifest));
    assert!(shown["Raw"].as_str().unwrap().starts_with("eyJzY2hlbWFWZXJzaW9uIjoy"), "{shown}");
    // An index, and with -v what it lists, whose platforms it tells.
    let mut listed = by_hand(&registry, ("application/vnd.docker.image.rootfs.diff.tar", b"x"), "x", "amd64", true);
    listed["platform"] = json!({ "architecture": "arm", "os": "linux", "variant": "v7" });
    let index_type = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index = json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": [listed] });
    registry.put_manifest("hand", "all", index_type, &index.to_string());
    let all = registry.name("hand:all");
    let shown = client.ok(&["manifest", "inspect", &all]);
    assert!(shown.starts_with("{\n   \"manifests\": [\n      {\n"), "{shown}");
    assert_eq!(read(&shown), index);
    let shown = read(&client.ok(&["manifest", "inspect", "--verbose", &all]));
    let [image] = shown.as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!(image["Ref"], json!(format!("{all}@{}", listed["digest"].as_str().unwrap())));
    assert_eq!(image["Descriptor"], listed);
    assert_eq!(image["SchemaV2Manifest"]["layers"][0]["size"], 1);
    // Nothing of it comes here, and what is not there is told in Docker's words.
    let missing = registry.name("app:2");
    let error = client.refuses(&["manifest", "inspect", &missing]);
    assert_eq!(error, format!("Error: no such manifest: {missing}\n"));
    let error = client.refuses(&["manifest", "inspect", &registry.name("nosuch")]);
    assert_eq!(error, format!("Error: no such manifest: {}:latest\n", registry.name("nosuch")));
    assert!(client.fails(&["manifest", "create", &name, &name]).contains("create"));
}

fn docker_digest(registry: &Registry) -> String {
    let index: Value = serde_json::from_str(&registry.manifest("hand", "all").1).unwrap();
    index["manifests"][2]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_layer_that_is_kept_elsewhere() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let tar = slurp(fixture("busybox.tar"));
    let gzip = compressed("gzip", &tar);
    by_hand(&registry, ("application/vnd.docker.image.rootfs.diff.tar.gzip", &gzip), &sha256(&tar), "amd64", true);
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [sha256(&tar)] } });
    let config = config.to_string();
    let layer = json!({ "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": gzip.len(),
        "digest": sha256(&gzip), "urls": ["ftp://localhost/layer", "http://localhost:PORT/layer"] });
    let manifest = json!({ "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(),
            "digest": registry.put_blob("elsewhere", config.as_bytes()) },
        "layers": [layer] });
    let manifest = manifest.to_string();
    let proxy = Proxy::start(registry.port, move |request| {
        let port = request.header("host").unwrap().rsplit(':').next().unwrap();
        match request.first.as_str() {
            "GET /layer" => Action::Reply(200, String::new(), gzip.clone()),
            first if first.contains("/manifests/") => {
                Action::Reply(200, String::new(), manifest.replace("PORT", port).into_bytes())
            }
            _ => Action::Pass,
        }
    });
    client.ok(&["rmi", IMAGE]);
    client.ok(&["pull", &proxy.name("elsewhere")]);
    assert_eq!(client.ok(&["run", "--rm", &proxy.name("elsewhere"), "echo", "foreign"]), "foreign");
    assert_eq!(proxy.seen("GET /layer").len(), 1);
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_it_fails() {
    let (here, there) = (Client::with_image(), Client::empty());
    let registry = Registry::open(&here.store);
    let mirrored = registry.name("cache/library/busybox");
    here.ok(&["tag", IMAGE, &mirrored]);
    here.ok(&["push", &mirrored]);
    let port = registry.port;
    there.settings(&format!(
        r#"{{"registries": {{"docker.io": {{"mirrors": ["http://localhost:1", "http://localhost:{port}/cache"]}}}}}}"#
    ));
    let said = there.ok(&["pull", "busybox"]);
    assert!(said.ends_with("Status: Downloaded newer image for busybox:latest\ndocker.io/library/busybox:latest"));
    assert_eq!(there.ok(&["run", "--rm", "busybox", "echo", "mirrored"]), "mirrored");
    // A registry whose mirror is down is asked itself.
    there.settings(&format!(r#"{{"registries": {{"localhost:{port}": {{"mirrors": ["https://localhost:1"]}}}}}}"#));
    there.ok(&["pull", &mirrored]);
    there.settings(r#"{"registries": {"docker.io": {"mirror": []}}}"#);
    let error = there.refuses(&["pull", &mirrored]);
    assert!(error.contains("registries.json: unknown field `mirror`"), "{error}");
}

#[test]
fn a_build_is_pushed_under_all_of_its_names() {
    let (here, there) = (Client::with_image(), Client::empty());
    let registry = Registry::open(&here.store);
    let context = here.store.context("context", "FROM busybox\nRUN echo built > /f\n");
    let (path, metadata) = (context.to_str().unwrap(), here.store.text("metadata.json"));
    let names = ["app:1", "app:2", "other/app:latest"].map(|name| registry.name(name));
    let tags: Vec<&str> = names.iter().flat_map(|name| ["-t", name]).collect();
    let id = here.ok(&[&["build", "--push", "-q", "--metadata-file", &metadata, path], &tags[..]].concat());
    assert_eq!(id, here.store.inspect(&names[0], "{{.Id}}"));
    for name in &names {
        there.ok(&["pull", "-q", name]);
        assert_eq!(there.ok(&["run", "--rm", name, "cat", "/f"]), "built");
    }
    let (_, manifest) = registry.manifest("app", "1");
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    let expected = json!({
        "containerimage.config.digest": id,
        "containerimage.digest": sha256(manifest.as_bytes()),
        "image.name": names.join(","),
    });
    assert_eq!(told, expected);
    let by_output = registry.name("by-output");
    for (output, name) in [("type=registry", "a"), ("type=image,push=1", "b")] {
        let name = format!("{by_output}:{name}");
        here.ok(&["build", "-o", output, "-t", &name, path]);
        there.ok(&["pull", "-q", &name]);
    }
    let failed = here.run(&["build", "--push", "-t", "127.0.0.1:1/nobody", path]);
    assert!(failed.code == 1 && failed.err.contains("push 127.0.0.1:1/nobody:latest"), "{failed:?}");
    for args in [&["--push"][..], &["-o", "type=registry"]] {
        let error = here.fails(&[&["build", path], args].concat());
        assert!(error.contains("give one with --tag"), "{error}");
    }
}
