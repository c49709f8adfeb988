//! Shell patterns in `${NAME#…}`, `${NAME%…}` and `${NAME/…/…}`: `*`, `?`, and `\` before a character itself.

use regex::{Regex, RegexBuilder};

/// What a pattern may be long; a character of it takes a hundred times its size while it is compiled.
const LENGTH: usize = 64 << 10;
const TOO_LARGE: &str = "the pattern of a substitution is too large";

/// A pattern, as pieces of a regular expression between which stand its stars.
pub struct Pattern(Vec<String>);

impl Pattern {
    /// # Errors
    /// An escape with nothing behind it, and a pattern that is too long.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > LENGTH {
            return Err(TOO_LARGE.into());
        }
        let mut pieces = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = pieces.last_mut().expect("there is always one");
            match c {
                '*' => pieces.push(String::new()),
                '?' => piece.push('.'),
                '\\' => {
                    let Some(next) = chars.next() else { return Err("invalid escape in a pattern".into()) };
                    piece.push_str(&regex::escape(&next.to_string()));
                }
                _ => piece.push_str(&regex::escape(&c.to_string())),
            }
        }
        Ok(Pattern(pieces))
    }

    /// `value` without what the pattern matches at its start.
    pub fn without_prefix(&self, value: &str, is_longest: bool) -> Result<String, String> {
        let star = if is_longest { ".*" } else { ".*?" };
        let found = compile(&format!("^(?:{})", self.0.join(star)))?.find(value).map_or(0, |found| found.end());
        Ok(value[found..].to_owned())
    }

    /// `value` without what the pattern matches at its end.
    pub fn without_suffix(&self, value: &str, is_longest: bool) -> Result<String, String> {
        let before = if is_longest { ".*?" } else { ".*" };
        let regex = compile(&format!("^({before})(?:{})$", self.0.join(".*")))?;
        let kept = regex.captures(value).and_then(|found| found.get(1)).map_or(value, |kept| kept.as_str());
        Ok(kept.to_owned())
    }

    /// `value` with the first match, or all, replaced.
    ///
    /// # Errors
    /// What comes of it is longer than `limit`.
    pub fn replaced(&self, value: &str, by: &str, is_all: bool, limit: usize) -> Result<String, String> {
        let regex = compile(&self.0.join(".*"))?;
        let mut out = String::new();
        let mut copied = 0;
        for found in regex.find_iter(value).take(if is_all { usize::MAX } else { 1 }) {
            out.push_str(&value[copied..found.start()]);
            out.push_str(by);
            copied = found.end();
            if out.len() > limit {
                return Err(format!("the expanded text is longer than {limit} bytes"));
            }
        }
        out.push_str(&value[copied..]);
        Ok(out)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).dot_matches_new_line(true).size_limit(4 << 20).build();
    built.map_err(|_| TOO_LARGE.into())
}
