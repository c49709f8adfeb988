//! Variables and labels, from flags and from files.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `--env-file` and then `-e`: `NAME=value`, each name once, where the last one counts.
///
/// `-e NAME` takes the host's value. If the host has none the entry stays a bare `NAME`: it takes the image's
/// variable away. In a file such a line is skipped.
///
/// # Errors
/// A file that cannot be read, or a name that is empty or has white space.
pub fn env(list: &[String], files: &[PathBuf], host: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    let mut merged = Vec::new();
    for file in files {
        for (name, value) in read(file)? {
            if let Some(value) = value.or_else(|| host(&name)) {
                put(&mut merged, &name, Some(value));
            }
        }
    }
    for entry in list {
        let (name, value) = split(entry);
        if name.is_empty() {
            bail!("invalid environment variable: {entry}");
        }
        put(&mut merged, name, value.map(str::to_string).or_else(|| host(name)));
    }
    Ok(merged)
}

/// A variable of the caller's; what of it is not UTF-8 is replaced, as Docker does it.
pub fn of_host(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// `--label-file` and then `--label`: `key=value`, or `key` alone for an empty value.
///
/// # Errors
/// A file that cannot be read, or an empty key.
pub fn labels(list: &[String], files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut merged = BTreeMap::new();
    for file in files {
        merged.extend(read(file)?.into_iter().map(|(key, value)| (key, value.unwrap_or_default())));
    }
    for entry in list {
        let (key, value) = split(entry);
        if key.is_empty() {
            bail!("invalid label '{entry}': empty name");
        }
        merged.insert(key.to_string(), value.unwrap_or_default().to_string());
    }
    Ok(merged)
}

/// Adds the variables that are not named yet.
pub fn add_missing<'v>(env: &mut Vec<String>, variables: impl Iterator<Item = (String, &'v str)>) {
    for (name, value) in variables {
        if !env.iter().any(|entry| split(entry).0 == name) {
            env.push(format!("{name}={value}"));
        }
    }
}

/// `NAME=value` in two parts; without `=` there is no value.
fn split(entry: &str) -> (&str, Option<&str>) {
    match entry.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (entry, None),
    }
}

fn put(merged: &mut Vec<String>, name: &str, value: Option<String>) {
    let entry = match value {
        Some(value) => format!("{name}={value}"),
        None => name.to_string(),
    };
    match merged.iter_mut().find(|known| split(known).0 == name) {
        Some(known) => *known = entry,
        None => merged.push(entry),
    }
}

fn read(file: &Path) -> Result<Vec<(String, Option<String>)>> {
    let shown = file.display();
    let content = fs::read(file).with_context(|| format!("open {shown}"))?;
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    let mut entries = Vec::new();
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let entry = std::str::from_utf8(line).context("invalid utf8 bytes").and_then(file_line);
        entries.extend(entry.with_context(|| format!("{shown}, line {}", number + 1))?);
    }
    Ok(entries)
}

/// One line of a file: nothing is quoted, and only the start of the line is trimmed.
fn file_line(line: &str) -> Result<Option<(String, Option<String>)>> {
    let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = split(line);
    if name.is_empty() {
        bail!("poorly formatted environment: no variable name on line '{line}'");
    }
    if name.contains(char::is_whitespace) {
        bail!("poorly formatted environment: variable '{name}' contains whitespaces");
    }
    if line.contains('\0') {
        bail!("poorly formatted environment: variable '{}' contains a NUL byte", name.replace('\0', ""));
    }
    Ok(Some((name.to_string(), value.map(str::to_string))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(name: &str) -> Option<String> {
        (name == "HOSTED").then(|| "from host".to_string())
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_string()).collect()
    }

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("minirun-environment-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn flags() -> Result<()> {
        let found = env(&strings(&["A=1", "B=", "HOSTED", "GONE", "A=2=3"]), &[], &host)?;
        assert_eq!(found, ["A=2=3", "B=", "HOSTED=from host", "GONE"]);
        for bad in ["", "=x"] {
            let error = env(&strings(&[bad]), &[], &host).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid environment variable: {bad}"));
        }
        Ok(())
    }

    #[test]
    fn files() -> Result<()> {
        let path = file("good", b"\xef\xbb\xbfA=1\r\n\n  # note\nB=\"quoted\" # kept \nHOSTED\nGONE\n  C=3\nA=9");
        let found = env(&strings(&["C=flag"]), std::slice::from_ref(&path), &host)?;
        assert_eq!(found, ["A=9", "B=\"quoted\" # kept ", "HOSTED=from host", "C=flag"]);
        let found = labels(&strings(&["A=x", "k"]), std::slice::from_ref(&path))?;
        assert_eq!(found.get("A").map(String::as_str), Some("x"));
        assert_eq!(found.get("k").map(String::as_str), Some(""));
        assert_eq!(found.get("GONE").map(String::as_str), Some(""));
        fs::remove_file(path)?;
        Ok(())
    }

    #[test]
    fn bad_lines_are_located() -> Result<()> {
        for (name, content, message) in [
            ("export", &b"A=1\nexport B=1"[..], "variable 'export B' contains whitespaces"),
            ("blank", b"\nA =1", "variable 'A ' contains whitespaces"),
            ("nameless", b"#\n=1", "no variable name on line '=1'"),
            ("nul", b"\nA=\0", "variable 'A' contains a NUL byte"),
            ("bytes", b"A=1\n\xff=1", "invalid utf8 bytes"),
        ] {
            let path = file(name, content);
            let error = format!("{:#}", env(&[], std::slice::from_ref(&path), &host).unwrap_err());
            assert!(error.contains(message) && error.contains("line 2"), "{error}");
            fs::remove_file(path)?;
        }
        let error = format!("{:#}", env(&[], &["/nosuch/env".into()], &host).unwrap_err());
        assert!(error.starts_with("open /nosuch/env: No such file or directory"), "{error}");
        Ok(())
    }

    #[test]
    fn nameless_labels() {
        for bad in ["", "=v"] {
            let error = labels(&strings(&[bad]), &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid label '{bad}': empty name"));
        }
    }

    proptest! {
        #[test]
        fn never_panics(list in prop::collection::vec(any::<String>(), 0..5), line: String) {
            let _ = env(&list, &[], &host);
            let _ = labels(&list, &[]);
            let _ = file_line(&line);
        }
    }
}
