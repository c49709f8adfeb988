//! The tree keeps to the order that `src/lib.rs` gives: a room uses only rooms below it.

use std::path::{Path, PathBuf};

#[test]
fn no_room_uses_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    let rooms: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(rooms.len() > 5 && rooms.first() == Some(&"cli") && rooms.last() == Some(&"sys"), "{rooms:?}");
    let mut wrong = Vec::new();
    for (rank, room) in rooms.iter().enumerate() {
        let files = sources(&src.join(room)).into_iter().chain([src.join(format!("{room}.rs"))]);
        for file in files.filter(|f| f.exists()) {
            let text = std::fs::read_to_string(&file).unwrap();
            for above in &rooms[..rank] {
                if text.contains(&format!("crate::{above}::")) {
                    wrong.push(format!("{} uses {above}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_in_one_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowing: Vec<PathBuf> = sources(&src)
        .into_iter()
        .filter(|f| std::fs::read_to_string(f).unwrap().contains("allow(unsafe_code)"))
        .collect();
    // The program's entry has to have the name that the C library calls.
    assert_eq!(allowing, [src.join("main.rs"), src.join("sys/mod.rs")]);
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
