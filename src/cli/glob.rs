//! Shell patterns as Go's `path.Match` knows them: a star does not reach over a slash.

use anyhow::{Result, bail};
use regex::Regex;

/// One pattern, which must fit a whole text.
#[derive(Clone, Debug)]
pub struct Glob(Regex);

impl Glob {
    /// Reads a pattern of `*`, `?`, `[a-z]`, `[^a]` and `\` before a character that stands for itself.
    ///
    /// # Errors
    /// A bracket that is not closed, or nothing after a `\`.
    pub fn parse(pattern: &str) -> Result<Glob> {
        let mut out = String::from("(?s)^");
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            match c {
                '*' => out += "[^/]*",
                '?' => out += "[^/]",
                '[' => out += &class(&mut rest, pattern)?,
                '\\' => match rest.next() {
                    Some(c) => out += &regex::escape(c.encode_utf8(&mut [0; 4])),
                    None => bail!("syntax error in pattern {pattern:?}"),
                },
                c => out += &regex::escape(c.encode_utf8(&mut [0; 4])),
            }
        }
        out.push('$');
        match Regex::new(&out) {
            Ok(regex) => Ok(Glob(regex)),
            Err(_) => bail!("syntax error in pattern {pattern:?}"),
        }
    }

    /// Whether it fits.
    pub fn fits(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn class(rest: &mut std::str::Chars<'_>, pattern: &str) -> Result<String> {
    let mut out = String::from("[");
    let mut is_first = true;
    while let Some(c) = rest.next() {
        match c {
            ']' if !is_first => return Ok(out + "]"),
            '^' if is_first => {
                out.push('^');
                continue;
            }
            '-' => out.push('-'),
            '\\' => out += &rest.next().map(|c| regex::escape(c.encode_utf8(&mut [0; 4]))).unwrap_or_default(),
            c => out += &regex::escape(c.encode_utf8(&mut [0; 4])),
        }
        is_first = false;
    }
    bail!("syntax error in pattern {pattern:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("busybox", "busybox", true),
            ("busybox", "busybox2", false),
            ("b*", "busybox", true),
            ("b*", "b/x", false),
            ("*/*", "me/app", true),
            ("*:1", "app:1", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a.c", "abc", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().fits(text), fits, "{pattern} {text}");
        }
        for bad in ["[", "a[b", "\\", "[]"] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_signs_fits_itself_alone(text in "[a-z0-9/:.]{0,20}", other in "[a-z0-9/:.]{0,20}") {
            let glob = Glob::parse(&text).unwrap();
            prop_assert!(glob.fits(&text));
            prop_assert_eq!(glob.fits(&other), text == other);
        }

        #[test]
        fn never_panics(pattern: String, text: String) {
            let _ = Glob::parse(&pattern).map(|glob| glob.fits(&text));
        }
    }
}
