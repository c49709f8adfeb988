//! The text of a Dockerfile, and what is said about its lines.

use std::fmt;
use std::sync::Arc;

/// Lines around a marked one that an excerpt shows.
const AROUND: u32 = 2;

/// A Dockerfile's text under the name that its user knows it by.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name as it was asked for, or `Dockerfile` if it came by standard input.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// Lines of a file, both ends included, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines {
    /// The first one.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Source {
    /// A source of this name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Source> {
        Arc::new(Source { name: name.into(), text: text.into() })
    }

    /// The marked lines with some around them, under the file's name: what is shown above an error.
    pub fn excerpt(&self, lines: Lines) -> String {
        let (from, to) = (lines.first.saturating_sub(AROUND).max(1), lines.last.saturating_add(AROUND));
        let mut out = format!("{}:{}\n--------------------\n", shown(&self.name), lines.first);
        for (number, text) in (1u32..).zip(self.text.lines()).skip_while(|(n, _)| *n < from) {
            if number > to {
                break;
            }
            let mark = if (lines.first..=lines.last).contains(&number) { ">>>" } else { "   " };
            out.push_str(format!("{number:4} | {mark} {}", shown(text)).trim_end());
            out.push('\n');
        }
        out.push_str("--------------------\n");
        out
    }
}

/// Text of others on its way to a terminal: no control characters.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// What is wrong with some lines of a Dockerfile.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The file.
    pub source: Arc<Source>,
    /// The lines; `None` if it is about the whole.
    pub lines: Option<Lines>,
    /// What is wrong, and what was expected.
    pub message: String,
    /// Whether the text could not even be read, as opposed to asking for something impossible.
    pub is_syntax: bool,
}

impl Problem {
    /// The lines in question and some around them, marked; empty if it is about the whole file.
    pub fn excerpt(&self) -> String {
        self.lines.map(|lines| self.source.excerpt(lines)).unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.lines, self.is_syntax) {
            (Some(lines), true) => write!(f, "dockerfile parse error on line {}: {}", lines.first, self.message),
            (Some(lines), false) => write!(f, "{}:{}: {}", shown(&self.source.name), lines.first, self.message),
            (None, _) => write!(f, "{}: {}", shown(&self.source.name), self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// Something that works but is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Docker's name for the rule, as in `# check=skip=NAME`.
    pub rule: &'static str,
    /// What is odd.
    pub message: String,
    /// Where.
    pub lines: Lines,
}
