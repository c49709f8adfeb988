//! Variables in a text, with shell quotes and escapes: `$NAME`, `${NAME}`, `${NAME:-word}` and the other modifiers.

use super::pattern::Pattern;
use std::iter::Peekable;
use std::str::Chars;

/// Substitutions in substitutions; honest files have two or three.
const DEPTH: u32 = 50;
/// What one text may grow to.
const LENGTH: usize = 16 << 20;

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands a text that stays one word: its quotes and escapes vanish.
pub fn word(text: &str, escape: char, lookup: Lookup) -> Result<String, String> {
    let mut expander = Expander::new(text, escape, lookup, Quotes::Shell);
    expander.until(None, false)?;
    Ok(expander.out.joined())
}

/// Expands a text and splits it at white space that is not quoted, also at that from a variable.
pub fn words(text: &str, escape: char, lookup: Lookup) -> Result<Vec<String>, String> {
    let mut expander = Expander::new(text, escape, lookup, Quotes::Shell);
    expander.until(None, false)?;
    Ok(expander.out.split())
}

/// Expands the body of a heredoc: quotes are ordinary characters, an escape counts only before `$` and itself.
pub fn heredoc(text: &str, lookup: Lookup) -> Result<String, String> {
    let mut expander = Expander::new(text, '\\', lookup, Quotes::None);
    expander.until(None, false)?;
    Ok(expander.out.joined())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Shell,
    None,
}

/// Characters, each with whether white space there separates words.
#[derive(Default)]
struct Output {
    text: String,
    /// Ranges of `text` that are white space outside of quotes.
    gaps: Vec<(usize, usize)>,
    /// Where quotes opened, so that an empty word in quotes is a word.
    quotes: Vec<usize>,
}

impl Output {
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.gaps.push((self.text.len(), self.text.len() + c.len_utf8()));
        }
        self.text.push(c);
    }

    fn joined(self) -> String {
        self.text
    }

    fn split(self) -> Vec<String> {
        let mut words = Vec::new();
        let mut start = 0;
        let end = (self.text.len(), self.text.len());
        for (from, to) in self.gaps.into_iter().chain([end]) {
            if from > start || self.quotes.iter().any(|at| (start..=from).contains(at)) {
                words.push(self.text[start..from].to_owned());
            }
            start = to;
        }
        words
    }
}

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: Lookup<'a>,
    quotes: Quotes,
    depth: u32,
    out: Output,
}

impl<'a> Expander<'a> {
    fn new(text: &'a str, escape: char, lookup: Lookup<'a>, quotes: Quotes) -> Expander<'a> {
        Expander { rest: text.chars().peekable(), escape, lookup, quotes, depth: 0, out: Output::default() }
    }

    /// Expands up to `stop`, which is consumed, or to the end. With `raw` escapes stay, for a pattern.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            if Some(c) == stop {
                return Ok(());
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| self.out.push(c));
                }
                '\'' if self.quotes == Quotes::Shell => self.single()?,
                '"' if self.quotes == Quotes::Shell => self.double()?,
                _ if c == self.escape || (raw && c == '\\') => self.escaped(c, raw),
                _ => self.out.push(c),
            }
            self.check_length()?;
        }
        match stop {
            None => Ok(()),
            Some(stop) => Err(format!("syntax error: missing '{stop}' in a substitution")),
        }
    }

    fn check_length(&self) -> Result<(), String> {
        match self.out.text.len() > LENGTH {
            true => Err(format!("the expanded text is longer than {LENGTH} bytes")),
            false => Ok(()),
        }
    }

    fn escaped(&mut self, escape: char, raw: bool) {
        let Some(next) = self.rest.next() else { return };
        let is_kept = raw || (self.quotes == Quotes::None && next != '$' && next != escape);
        if is_kept {
            self.out.text.push(escape);
        }
        self.out.text.push(next);
    }

    fn single(&mut self) -> Result<(), String> {
        self.out.quotes.push(self.out.text.len());
        loop {
            match self.rest.next() {
                None => return Err("unexpected end of statement while looking for matching single-quote".into()),
                Some('\'') => return Ok(()),
                Some(c) => self.out.text.push(c),
            }
        }
    }

    fn double(&mut self) -> Result<(), String> {
        self.out.quotes.push(self.out.text.len());
        loop {
            match self.rest.next() {
                None => return Err("unexpected end of statement while looking for matching double-quote".into()),
                Some('"') => return Ok(()),
                Some('$') => {
                    let value = self.dollar()?;
                    self.out.text.push_str(&value);
                    self.check_length()?;
                }
                Some(c) if c == self.escape => match self.rest.peek() {
                    None => {}
                    Some(next) if *next == '"' || *next == '$' || *next == self.escape => {
                        self.out.text.extend(self.rest.next());
                    }
                    Some(_) => self.out.text.push(c),
                },
                Some(c) => self.out.text.push(c),
            }
        }
    }

    /// What follows a `$`.
    fn dollar(&mut self) -> Result<String, String> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        self.rest.next();
        match self.rest.peek() {
            None => return Err("syntax error: missing '}' in a substitution".into()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".into()),
            _ => {}
        }
        let name = self.name();
        let value = (self.lookup)(&name);
        match self.rest.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.rest.next() {
                Some(modifier @ ('-' | '+' | '?')) => {
                    self.alternative(modifier, &name, value.filter(|value| !value.is_empty()))
                }
                other => Err(unsupported(&format!(":{}", other.map(String::from).unwrap_or_default()))),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.alternative(modifier, &name, value),
            Some(modifier @ ('#' | '%')) => self.trimmed(modifier, value.unwrap_or_default()),
            Some('/') => self.replaced(value.unwrap_or_default()),
            Some(other) => Err(unsupported(&other.to_string())),
            None => Err("syntax error: missing '}' in a substitution".into()),
        }
    }

    fn alternative(&mut self, modifier: char, name: &str, value: Option<String>) -> Result<String, String> {
        let word = self.inner('}', false)?;
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(format!("{name}: is not allowed to be unset")),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    fn trimmed(&mut self, modifier: char, value: String) -> Result<String, String> {
        let word = self.inner('}', true)?;
        let (word, is_longest) = match word.strip_prefix(modifier) {
            Some(word) => (word, true),
            None => (word.as_str(), false),
        };
        let pattern = Pattern::new(word)?;
        match modifier {
            '#' => pattern.without_prefix(&value, is_longest),
            _ => pattern.without_suffix(&value, is_longest),
        }
    }

    fn replaced(&mut self, value: String) -> Result<String, String> {
        let is_all = self.rest.next_if_eq(&'/').is_some();
        let pattern = Pattern::new(&self.inner('/', true)?)?;
        let by = self.inner('}', false)?;
        pattern.replaced(&value, &by, is_all, LENGTH)
    }

    /// The text up to `stop` of a substitution, expanded.
    fn inner(&mut self, stop: char, raw: bool) -> Result<String, String> {
        if self.depth == DEPTH {
            return Err("substitutions are nested too deeply".into());
        }
        self.depth += 1;
        let outer = std::mem::take(&mut self.out);
        let result = self.until(Some(stop), raw);
        self.depth -= 1;
        let inner = std::mem::replace(&mut self.out, outer);
        result.map(|()| inner.joined())
    }

    /// A name, a number, or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}
