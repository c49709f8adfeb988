//! A store with many images and containers, to measure the commands that list them.
//!
//! ```text
//! many MINIRUN ROOT STATE TAR COUNT   fills ROOT with COUNT images of TAR and one layer more, and COUNT containers
//! ```
//! The first image and the first container are made by minirun itself, the others after their documents, without
//! any content: what lists read is all there.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

type Outcome<T> = Result<T, Box<dyn Error>>;

const FORMS: [&str; 4] = ["docker.io/library/img", "docker.io/team/app", "localhost:5000/a/b/c", "quay.io/org/name-"];

fn hex(data: &[u8]) -> String {
    digest(&SHA256, data).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn read(path: &Path) -> Outcome<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Puts a document among the blobs; its digest and its length.
fn put(root: &Path, document: &Value) -> Outcome<(String, usize)> {
    let data = serde_json::to_vec(document)?;
    let digest = hex(&data);
    fs::write(root.join("blobs/sha256").join(&digest), &data)?;
    Ok((format!("sha256:{digest}"), data.len()))
}

/// The form of everything that is made.
#[derive(Clone)]
struct Pattern {
    entry: Value,
    manifest: Value,
    config: Value,
    record: Value,
    exit: Value,
}

/// An image with a layer of its own, and a container of it; the image's entry in the index.
fn one(root: &Path, pattern: &Pattern, number: usize) -> Outcome<Value> {
    let layer = hex(format!("layer {number}").as_bytes());
    let folder = root.join("layers").join(&layer);
    fs::create_dir_all(folder.join("fs"))?;
    fs::write(folder.join("meta.json"), json!({"size": number, "files": 1, "tar": 2048}).to_string())?;
    let Pattern { mut entry, mut manifest, mut config, mut record, exit } = pattern.clone();
    config["created"] = format!("2024-01-{:02}T{:02}:{:02}:00Z", number % 27 + 1, number % 24, number % 60).into();
    config["rootfs"]["diff_ids"].as_array_mut().ok_or("no layers")?.push(format!("sha256:{layer}").into());
    let steps = (0..8).map(|step| json!({"created_by": format!("RUN step {step}"), "empty_layer": step > 0}));
    config["history"].as_array_mut().ok_or("no history")?.extend(steps);
    let (image, length) = put(root, &config)?;
    manifest["config"]["digest"] = image.clone().into();
    manifest["config"]["size"] = length.into();
    let mut descriptor = manifest["layers"][0].clone();
    descriptor["digest"] = format!("sha256:{layer}").into();
    manifest["layers"].as_array_mut().ok_or("no layers")?.push(descriptor);
    let (digest, size) = put(root, &manifest)?;
    let name = format!("{}{number}:v1", FORMS[number % FORMS.len()]);
    entry["digest"] = digest.into();
    entry["size"] = size.into();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name, "org.minirun.image": image.clone()});
    let id = hex(format!("container {number}").as_bytes());
    let folder = root.join("containers").join(&id);
    ["upper", "work"].iter().try_for_each(|sub| fs::create_dir_all(folder.join(sub)))?;
    record["id"] = id.clone().into();
    record["name"] = format!("box{number}").into();
    record["image"] = image.into();
    record["image_name"] = name.into();
    record["base"] = config;
    fs::write(folder.join("container.json"), record.to_string())?;
    fs::write(folder.join("exit.json"), exit.to_string())?;
    fs::write(folder.join("lock"), "")?;
    std::os::unix::fs::symlink(&id, root.join("names").join(format!("box{number}")))?;
    Ok(entry)
}

fn main() -> Outcome<()> {
    // Cargo passes flags of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [minirun, root, state, tar, count] = words.as_slice() else {
        println!("many MINIRUN ROOT STATE TAR COUNT");
        return Ok(());
    };
    let run = |args: &[&str]| -> Outcome<String> {
        let output = Command::new(minirun).args(["--root", root, "--state", state]).args(args).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    run(&["import", "-c", "ENV A=b", "-c", "LABEL key=value", tar, "base"])?;
    let first = run(&["run", "-d", "--name", "box0", "base", "true"])?;
    run(&["wait", &first])?;
    let root = Path::new(root);
    let mut index = read(&root.join("index.json"))?;
    let entry = index["manifests"][0].clone();
    let blob =
        |digest: &Value| root.join("blobs/sha256").join(digest.as_str().unwrap_or("").trim_start_matches("sha256:"));
    let folder = root.join("containers").join(&first);
    let pattern = Pattern {
        manifest: read(&blob(&entry["digest"]))?,
        config: read(&blob(&entry["annotations"]["org.minirun.image"]))?,
        record: read(&folder.join("container.json"))?,
        exit: read(&folder.join("exit.json"))?,
        entry,
    };
    for number in 1..count.parse()? {
        let entry = one(root, &pattern, number)?;
        index["manifests"].as_array_mut().ok_or("no images")?.push(entry);
    }
    fs::write(root.join("index.json"), index.to_string())?;
    Ok(())
}
