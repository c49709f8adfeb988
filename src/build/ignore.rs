//! `.dockerignore`: which paths of a context do not count.
//!
//! The last pattern that matches a path, or a folder above it, decides; `!` takes a path back in.

use super::glob::Glob;
use crate::sys::dir::clean;
use anyhow::{Context, Result};
use std::path::Path;

/// Patterns in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    glob: Glob,
    takes_back: bool,
    /// The components, for asking whether it can match below a folder.
    components: Vec<Component>,
}

#[derive(Clone, Debug)]
enum Component {
    One(Glob),
    Any,
}

/// Which patterns match a folder: what is in it they match, too.
#[derive(Clone, Debug)]
pub struct Level(Vec<bool>);

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Kept,
    /// It does not count, but if it is a folder then something in it may.
    Ignored,
    /// Neither it nor anything in it counts.
    Pruned,
}

impl Ignore {
    /// Reads a `.dockerignore` file.
    ///
    /// # Errors
    /// A pattern that makes no sense, with its line.
    pub fn parse(text: &str) -> Result<Ignore> {
        let mut patterns = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = if line.starts_with('#') { "" } else { line.trim() };
            let pattern = pattern(line).with_context(|| format!("line {number}"))?;
            patterns.extend(pattern);
        }
        Ok(Ignore { patterns })
    }

    /// Patterns that were given one by one, as by `--exclude`.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Ignore> {
        let patterns = lines.into_iter().filter_map(|line| pattern(line.trim()).transpose()).collect::<Result<_>>()?;
        Ok(Ignore { patterns })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The top of the tree, which no pattern matches.
    pub fn top(&self) -> Level {
        Level(vec![false; self.patterns.len()])
    }

    /// What becomes of `path`, relative to the top, in a folder that is at `above`.
    pub fn verdict(&self, above: &Level, path: &[u8]) -> Verdict {
        let decides = self.patterns.iter().zip(&above.0).rev().find(|(p, above)| **above || p.glob.matches(path));
        if decides.is_none_or(|(pattern, _)| pattern.takes_back) {
            return Verdict::Kept;
        }
        match self.patterns.iter().any(|pattern| pattern.takes_back && pattern.may_match_below(path)) {
            true => Verdict::Ignored,
            false => Verdict::Pruned,
        }
    }

    /// The level of the folder `path` in a folder that is at `above`.
    pub fn enter(&self, above: &Level, path: &[u8]) -> Level {
        Level(self.patterns.iter().zip(&above.0).map(|(p, above)| *above || p.glob.matches(path)).collect())
    }

    /// The level of the folder `path`.
    pub fn level_of(&self, path: &[u8]) -> Level {
        let mut level = self.top();
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            level = self.enter(&level, &path[..end]);
        }
        level
    }

    /// Whether a path without its folders being looked at is ignored.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        let parent = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.verdict(&self.level_of(&path[..parent]), path) != Verdict::Kept
    }
}

fn pattern(line: &str) -> Result<Option<Pattern>> {
    let (line, takes_back) = match line.strip_prefix('!') {
        Some(rest) => (rest.trim(), true),
        None => (line, false),
    };
    if line.is_empty() {
        return Ok(None);
    }
    let cleaned = clean(Path::new(line));
    let text = cleaned.to_str().unwrap_or_default().trim_start_matches('/');
    if text.is_empty() {
        return Ok(None);
    }
    let component = |text: &str| match text.contains("**") {
        true => Ok(Component::Any),
        false => Glob::new(text).map(Component::One),
    };
    let components = text.split('/').map(component).collect::<Result<_>>()?;
    Ok(Some(Pattern { glob: Glob::new(text)?, takes_back, components }))
}

impl Pattern {
    fn may_match_below(&self, folder: &[u8]) -> bool {
        let mut components = self.components.iter();
        for name in folder.split(|b| *b == b'/') {
            match components.next() {
                Some(Component::Any) => return true,
                Some(Component::One(glob)) if glob.matches(name) => {}
                _ => return false,
            }
        }
        components.next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ignored(patterns: &str, path: &str) -> bool {
        Ignore::parse(patterns).unwrap().is_ignored(path.as_bytes())
    }

    #[test]
    fn the_last_match_decides() {
        let yes = [
            ("a", "a"),
            ("a", "a/b/c"),
            ("/a/", "a"),
            ("./a", "a"),
            ("a/../b", "b"),
            ("*.md", "x.md"),
            ("*/temp*", "x/temporary"),
            ("**/*.go", "x/y/z.go"),
            ("**/*.go", "z.go"),
            ("temp?", "tempa"),
            ("!a\na", "a"),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"),
            ("a\n!a/b\na/b/c", "a/b/c"),
            ("  a  ", "a"),
            ("a\r\nb\r\n", "b"),
            ("\u{feff}a", "a"),
            ("a\\#", "a#"),
            ("*", "a"),
            ("**", "a/b"),
        ];
        for (patterns, path) in yes {
            assert!(ignored(patterns, path), "{patterns:?} {path}");
        }
        let no = [
            ("", "a"),
            ("# a\n#b", "a"),
            ("#a", "#a"),
            ("*/temp*", "temp"),
            ("*.md", "x/y.md"),
            ("a", "ab"),
            ("a\n!a", "a"),
            ("a\n!a/b", "a/b"),
            ("*\n!a", "a/b"),
            ("*.md\n!README.md", "README.md"),
            (".", "a"),
            ("/", "a"),
            ("!", "a"),
        ];
        for (patterns, path) in no {
            assert!(!ignored(patterns, path), "{patterns:?} {path}");
        }
        let error = Ignore::parse("a\n[\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2: a [ in the pattern"), "{error:#}");
    }

    #[test]
    fn a_folder_is_left_out_when_nothing_in_it_can_count() {
        let verdict = |patterns: &str, path: &str| {
            let ignore = Ignore::parse(patterns).unwrap();
            ignore.verdict(&ignore.top(), path.as_bytes())
        };
        assert_eq!(verdict("node_modules", "node_modules"), Verdict::Pruned);
        assert_eq!(verdict("node_modules\n!src", "node_modules"), Verdict::Pruned);
        assert_eq!(verdict("*\n!src/a", "src"), Verdict::Ignored);
        assert_eq!(verdict("*\n!s*/a", "src"), Verdict::Ignored);
        assert_eq!(verdict("*\n!**/a", "src"), Verdict::Ignored);
        assert_eq!(verdict("*\n!src/a", "lib"), Verdict::Pruned);
        assert_eq!(verdict("*\n!src", "src"), Verdict::Kept);
    }

    /// Each pattern against each folder above, one after another.
    fn model(lines: &[String], path: &str) -> bool {
        let mut ignored = false;
        for line in lines {
            let (pattern, takes_back) = line.strip_prefix('!').map_or((line.as_str(), false), |rest| (rest, true));
            let glob = Glob::new(pattern.trim_matches('/')).unwrap();
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            if !pattern.trim_matches('/').is_empty()
                && ends.into_iter().any(|end| glob.matches(&path.as_bytes()[..end]))
            {
                ignored = !takes_back;
            }
        }
        ignored
    }

    proptest! {
        #[test]
        fn it_is_as_in_the_simple_model(
            lines in prop::collection::vec("!?/?[ab*](/[ab*]){0,2}/?", 0..6),
            path in "[ab](/[ab]){0,3}",
        ) {
            let ignore = Ignore::parse(&lines.join("\n")).unwrap();
            prop_assert_eq!(ignore.is_ignored(path.as_bytes()), model(&lines, &path));
        }

        #[test]
        fn a_walk_that_prunes_misses_nothing(
            lines in prop::collection::vec("!?([ab*]|\\*\\*)(/([ab*]|\\*\\*)){0,2}", 0..6),
            path in "[ab](/[ab]){0,3}",
        ) {
            let ignore = Ignore::parse(&lines.join("\n")).unwrap();
            let mut level = ignore.top();
            for (at, _) in path.match_indices('/') {
                if ignore.verdict(&level, &path.as_bytes()[..at]) == Verdict::Pruned {
                    prop_assert!(ignore.is_ignored(path.as_bytes()));
                }
                level = ignore.enter(&level, &path.as_bytes()[..at]);
            }
        }
    }
}
