//! `--filter key=value`.

use anyhow::{Result, bail};
use regex::Regex;
use std::collections::BTreeMap;

/// What the `--filter` flags of one command ask for: values of one key are alternatives.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    values: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Reads a list of `key=value` whose keys must be among `allowed`.
    ///
    /// # Errors
    /// An entry without `=`, or a key that the command does not know.
    pub fn parse(list: &[String], allowed: &[&str]) -> Result<Filters> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in list.iter().filter(|entry| !entry.is_empty()) {
            let Some((key, value)) = entry.split_once('=') else {
                bail!("bad format of filter (expected name=value)");
            };
            let key = key.trim().to_lowercase();
            if !allowed.contains(&key.as_str()) {
                bail!("Invalid filter '{key}'");
            }
            values.entry(key).or_default().push(value.trim().to_string());
        }
        Ok(Filters { values })
    }

    /// The values given for a key; none if it was not used.
    pub fn get(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// A yes-or-no filter such as `dangling`.
    ///
    /// # Errors
    /// A value that is neither, or both at once.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let mut found = None;
        for value in self.get(key) {
            let yes = match value.to_lowercase().as_str() {
                "1" | "t" | "true" => true,
                "0" | "f" | "false" => false,
                _ => bail!("Invalid filter '{key}={value}'"),
            };
            if found.is_some_and(|known| known != yes) {
                bail!("Invalid filter '{key}={value}'");
            }
            found = Some(yes);
        }
        Ok(found)
    }

    /// Whether `value` equals one of those given for `key`, or none was given.
    pub fn allows(&self, key: &str, value: &str) -> bool {
        self.allows_by(key, |wanted| wanted == value)
    }

    /// Whether `test` accepts one of the values given for `key`, or none was given.
    pub fn allows_by(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let wanted = self.get(key);
        wanted.is_empty() || wanted.iter().any(|value| test(value))
    }

    /// Whether a name fits one of the `name` filters, or none was given.
    pub fn allows_name(&self, name: &str) -> bool {
        self.allows_by("name", |pattern| matches_name(name, pattern))
    }

    /// Whether labels fit all `label` filters and none of the `label!` filters.
    pub fn allows_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.get("label").iter().all(|wanted| matches_label(labels, wanted))
            && !self.get("label!").iter().any(|unwanted| matches_label(labels, unwanted))
    }
}

/// Whether labels contain `key`, or `key=value`.
pub fn matches_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    }
}

/// Whether a regular expression is found in a name, which for Docker also begins with a `/`. What is no regular
/// expression is looked for as it is.
pub fn matches_name(name: &str, pattern: &str) -> bool {
    let name = name.strip_prefix('/').unwrap_or(name);
    match Regex::new(pattern) {
        Ok(pattern) => pattern.is_match(name) || pattern.is_match(&format!("/{name}")),
        Err(_) => name.contains(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters(list: &[&str], allowed: &[&str]) -> Result<Filters> {
        Filters::parse(&list.iter().map(|s| (*s).to_string()).collect::<Vec<_>>(), allowed)
    }

    #[test]
    fn parse() -> Result<()> {
        let found = filters(&["label=a=b", "Label = c ", "name=x", ""], &["label", "name"])?;
        assert_eq!(found.get("label"), ["a=b", "c"]);
        assert_eq!(found.get("name"), ["x"]);
        assert!(found.get("status").is_empty());
        for (entry, message) in [
            ("x=1", "Invalid filter 'x'"),
            ("label", "bad format of filter (expected name=value)"),
            ("=", "Invalid filter ''"),
        ] {
            assert_eq!(filters(&[entry], &["label"]).map(|_| ()).unwrap_err().to_string(), message);
        }
        Ok(())
    }

    #[test]
    fn flags() -> Result<()> {
        assert_eq!(filters(&["dangling=true"], &["dangling"])?.flag("dangling")?, Some(true));
        assert_eq!(filters(&["dangling=0"], &["dangling"])?.flag("dangling")?, Some(false));
        assert_eq!(filters(&[], &["dangling"])?.flag("dangling")?, None);
        assert!(filters(&["dangling=maybe"], &["dangling"])?.flag("dangling").is_err());
        assert!(filters(&["dangling=1", "dangling=0"], &["dangling"])?.flag("dangling").is_err());
        Ok(())
    }

    #[test]
    fn names() {
        for (name, pattern, fits) in [
            ("web1", "eb", true),
            ("web1", "^web", true),
            ("web1", "^eb", false),
            ("web1", "1$", true),
            ("web1", "^web1$", true),
            ("web10", "^web1$", false),
            ("web1", "/web1", true),
            ("web1", "^/web1$", true),
            ("web1", "/eb", false),
            ("web1", "^(web|db)[0-9]$", true),
            ("web1", "w(", false),
            ("w(1", "w(", true),
            ("web1", "", true),
        ] {
            assert_eq!(matches_name(name, pattern), fits, "{name} {pattern}");
        }
    }

    #[test]
    fn labels() -> Result<()> {
        let labels = BTreeMap::from([("a".to_string(), "1".to_string()), ("b".to_string(), String::new())]);
        for (wanted, fits) in [("a", true), ("a=1", true), ("a=2", false), ("b=", true), ("c", false)] {
            assert_eq!(matches_label(&labels, wanted), fits, "{wanted}");
        }
        assert!(filters(&["label=a", "label=b"], &["label"])?.allows_labels(&labels));
        assert!(!filters(&["label=a", "label=c"], &["label"])?.allows_labels(&labels));
        assert!(!filters(&["label!=a"], &["label!"])?.allows_labels(&labels));
        assert!(filters(&["status=a", "status=b"], &["status"])?.allows("status", "b"));
        Ok(())
    }

    proptest! {
        #[test]
        fn never_panics(list in prop::collection::vec(any::<String>(), 0..5), name: String, pattern: String) {
            let _ = Filters::parse(&list, &["a"]);
            let _ = matches_name(&name, &pattern);
        }
    }
}
