//! Patterns for paths: Go's `filepath.Match`, and `**` for any number of components.
//!
//! A pattern is tried in all ways at once, so that no pattern takes long on any path.

use anyhow::{Result, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    All,
    /// `**/`: whole components, or none.
    Components,
    /// `[a-z]`, and whether it means everything else.
    Class(Vec<(char, char)>, bool),
}

/// A pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    tokens: Vec<Token>,
    /// The bytes of a pattern that has nothing special.
    literal: Option<Vec<u8>>,
}

impl Glob {
    /// # Errors
    /// A class that is not closed, an escape before nothing.
    pub fn new(pattern: &str) -> Result<Glob> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    while chars.next_if_eq(&'*').is_some() {}
                    let is_at_start = tokens.last().is_none_or(|t| matches!(t, Token::Byte(b'/') | Token::Components));
                    let token = match is_at_start && chars.next_if_eq(&'/').is_some() {
                        true => Token::Components,
                        false => Token::All,
                    };
                    if tokens.last() != Some(&token) {
                        tokens.push(token);
                    }
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut chars, pattern)?),
                '\\' => match chars.next() {
                    Some(next) => tokens.extend(bytes(next)),
                    None => bail!("the pattern {pattern:?} ends in an escape"),
                },
                _ => tokens.extend(bytes(c)),
            }
        }
        let literal = tokens.iter().map(|t| if let Token::Byte(b) = t { Some(*b) } else { None }).collect();
        Ok(Glob { tokens, literal })
    }

    /// Whether a text has anything that is special in a pattern, escapes aside.
    pub fn is_special(pattern: &str) -> bool {
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '*' | '?' | '[' => return true,
                _ => {}
            }
        }
        false
    }

    /// The pattern that means this text and nothing else.
    pub fn escape(text: &str) -> String {
        let is_special = |c| matches!(c, '\\' | '*' | '?' | '[');
        text.chars().flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c])).collect()
    }

    /// Whether the whole of `path` is as the pattern says.
    pub fn matches(&self, path: &[u8]) -> bool {
        if let Some(literal) = &self.literal {
            return literal == path;
        }
        let mut now = vec![false; self.tokens.len() + 1];
        self.enter(&mut now, 0);
        let mut at = 0;
        while at < path.len() {
            let (c, length) = decode(&path[at..]);
            let mut next = vec![false; self.tokens.len() + 1];
            let is_end_of_component = c == Some('/');
            for (state, token) in self.tokens.iter().enumerate().filter(|(state, _)| now[*state]) {
                match token {
                    // A longer character is compared byte by byte.
                    Token::Byte(byte) => {
                        let bytes = &path[at..at + length];
                        let same = |(i, b): (usize, &u8)| self.tokens.get(state + i) == Some(&Token::Byte(*b));
                        if *byte == bytes[0] && bytes.iter().enumerate().all(same) {
                            self.enter(&mut next, state + length);
                        }
                    }
                    Token::One if !is_end_of_component => self.enter(&mut next, state + 1),
                    Token::Star if !is_end_of_component => self.enter(&mut next, state),
                    Token::All => self.enter(&mut next, state),
                    Token::Components => {
                        next[state] = true;
                        if is_end_of_component {
                            self.enter(&mut next, state + 1);
                        }
                    }
                    Token::Class(ranges, is_negated) if !is_end_of_component => {
                        let is_in = c.is_some_and(|c| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)));
                        if is_in != *is_negated {
                            self.enter(&mut next, state + 1);
                        }
                    }
                    _ => {}
                }
            }
            now = next;
            at += length;
        }
        now[self.tokens.len()]
    }

    /// Marks a state, and those that follow it without a character.
    fn enter(&self, states: &mut [bool], state: usize) {
        states[state] = true;
        if matches!(self.tokens.get(state), Some(Token::Star | Token::All | Token::Components)) {
            self.enter(states, state + 1);
        }
    }
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars>, pattern: &str) -> Result<Token> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |chars: &mut std::iter::Peekable<std::str::Chars>| match chars.next() {
        Some('\\') => chars.next(),
        other => other,
    };
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Token::Class(ranges, is_negated));
        }
        let Some(from) = one(chars) else { bail!("a [ in the pattern {pattern:?} is not closed") };
        let to = match chars.next_if_eq(&'-') {
            None => from,
            Some(_) => match one(chars) {
                Some(to) if to != ']' => to,
                _ => bail!("a range in the pattern {pattern:?} has no end"),
            },
        };
        ranges.push((from, to));
    }
}

fn bytes(c: char) -> impl Iterator<Item = Token> {
    c.to_string().into_bytes().into_iter().map(Token::Byte)
}

/// The first character and its length; a byte that is none counts as one of its own.
fn decode(bytes: &[u8]) -> (Option<char>, usize) {
    let length = match bytes[0] {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return (None, 1),
    };
    match bytes.get(..length).and_then(|b| std::str::from_utf8(b).ok()).and_then(|text| text.chars().next()) {
        Some(c) => (Some(c), length),
        None => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::new(pattern).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn patterns_are_gos() {
        let yes = [
            ("abc", "abc"),
            ("*", "abc"),
            ("*c", "abc"),
            ("a*/b", "abc/b"),
            ("a*b*c*d*e*/f", "axbxcxdxe/f"),
            ("a*b?c*x", "abxbbxdbxebxczzx"),
            ("ab[c]", "abc"),
            ("ab[b-d]", "abc"),
            ("ab[^e-g]", "abc"),
            ("a\\*b", "a*b"),
            ("a?b", "a☺b"),
            ("a[^a]b", "a☺b"),
            ("[a-ζ]*", "α"),
            ("[\\]a]", "]"),
            ("é*", "été"),
            ("", ""),
            ("**", "a/b"),
            ("**/b", "b"),
            ("**/b", "x/y/b"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("a/**", "a/b/c"),
            ("**/*.go", "x/y.go"),
            ("**.go", "x/y.go"),
            ("**/**/b", "b"),
        ];
        for (pattern, path) in yes {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        let no = [
            ("*", "a/b"),
            ("a?b", "a/b"),
            ("a[^x]b", "a/b"),
            ("ab[e-g]", "abc"),
            ("ab[^c]", "abc"),
            ("a*/b", "a/c/b"),
            ("", "a"),
            ("**/b", "xb"),
            ("a/**/b", "ab"),
            ("[^é]", "é"),
        ];
        for (pattern, path) in no {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        for bad in ["[", "[a", "[a-", "[a-]", "a\\", "[]", "[^]"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "**/*a".repeat(200);
        assert!(!matches(&pattern, &"a/".repeat(500)));
    }

    /// The textbook way, for patterns of letters, `?` and `*` only.
    fn naive(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.first() {
            None => path.is_empty(),
            Some(b'*') => {
                naive(&pattern[1..], path) || path.first().is_some_and(|b| *b != b'/' && naive(pattern, &path[1..]))
            }
            Some(b'?') => path.first().is_some_and(|b| *b != b'/') && naive(&pattern[1..], &path[1..]),
            Some(byte) => path.first() == Some(byte) && naive(&pattern[1..], &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_by_the_book(pattern in "[ab/?]?(\\*?[ab/?]){0,6}\\*?", path in "[ab/]{0,8}") {
            prop_assert_eq!(matches(&pattern, &path), naive(pattern.as_bytes(), path.as_bytes()));
        }

        #[test]
        fn an_escaped_text_means_itself(text in "[a*?\\[\\]\\\\/é]{0,12}", other in "[a*?\\[\\]\\\\/é]{0,12}") {
            let pattern = Glob::escape(&text);
            prop_assert!(!Glob::is_special(&pattern) && matches(&pattern, &text));
            prop_assert_eq!(matches(&pattern, &other), text == other);
        }

        #[test]
        fn nothing_panics(pattern in "[a*?\\[\\]^\\\\/é-]{0,12}", path in any::<Vec<u8>>()) {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches(&path);
            }
        }
    }
}
