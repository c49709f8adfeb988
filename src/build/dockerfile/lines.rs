//! From the text to logical lines: directives, comments, continuation lines, and the bodies of heredocs.

use super::ast::{Directives, Heredoc};
use super::source::{Lines, Problem, Source};
use super::words;
use std::sync::Arc;

/// An instruction's text, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Continuation lines joined, comments dropped.
    pub text: String,
    pub lines: Lines,
    pub heredocs: Vec<Heredoc>,
    /// Whether an empty line stands within it.
    pub has_empty_line: bool,
}

/// Reads the directives and all logical lines.
pub fn read(source: &Arc<Source>) -> Result<(Directives, Vec<Logical>), Problem> {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let directives = directives(source, text)?;
    let mut reader = Reader { source, physical: text.split_inclusive('\n'), number: 0, escape: directives.escape };
    let mut logical = Vec::new();
    while let Some(line) = reader.next() {
        if let Some(found) = reader.logical(line)? {
            logical.push(found);
        }
    }
    Ok((directives, logical))
}

/// `# key=value` lines at the very top; the first line that is something else ends them.
fn directives(source: &Arc<Source>, text: &str) -> Result<Directives, Problem> {
    let mut found = Directives { syntax: None, escape: '\\', check: None };
    let mut seen: Vec<String> = Vec::new();
    for (number, line) in (1u32..).zip(text.lines()) {
        let Some((key, value)) = directive(line) else { break };
        let problem = |message: String| {
            let lines = Some(Lines { first: number, last: number });
            Problem { source: source.clone(), lines, message, is_syntax: true }
        };
        match key.as_str() {
            "syntax" => found.syntax = Some(value.to_owned()),
            "check" => found.check = Some(value.to_owned()),
            "escape" => match value {
                "\\" | "`" => found.escape = if value == "`" { '`' } else { '\\' },
                _ => return Err(problem(format!("invalid ESCAPE '{value}': it must be ` or \\"))),
            },
            _ => break,
        }
        if seen.contains(&key) {
            return Err(problem(format!("only one {key} parser directive can be used")));
        }
        seen.push(key);
    }
    Ok(found)
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (is_word && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    physical: std::str::SplitInclusive<'a, char>,
    /// Of the line that was read last.
    number: u32,
    escape: char,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let line = self.physical.next()?;
        self.number = self.number.saturating_add(1);
        Some(line)
    }

    /// The logical line that begins with `line`; `None` if it says nothing.
    fn logical(&mut self, line: &str) -> Result<Option<Logical>, Problem> {
        let first = self.number;
        let line = without_end(line).trim_start();
        let line = if line.starts_with('#') { "" } else { line };
        let (piece, mut continues) = continued(line, self.escape);
        if !continues && piece.is_empty() {
            return Ok(None);
        }
        let mut text = piece.to_owned();
        let mut has_empty_line = false;
        while continues {
            let Some(line) = self.next() else { break };
            let line = without_end(line);
            match line.trim_start() {
                comment if comment.starts_with('#') => continue,
                "" => has_empty_line = true,
                _ => {
                    let (piece, again) = continued(line, self.escape);
                    text.push_str(piece);
                    continues = again;
                }
            }
        }
        if text.trim().is_empty() {
            return Ok(None);
        }
        let heredocs = self.heredocs(&text, first)?;
        Ok(Some(Logical { text, lines: Lines { first, last: self.number }, heredocs, has_empty_line }))
    }

    fn heredocs(&mut self, text: &str, first: u32) -> Result<Vec<Heredoc>, Problem> {
        let mut heredocs = if may_have_heredoc(text) { words::heredocs(text) } else { Vec::new() };
        for heredoc in &mut heredocs {
            loop {
                let Some(line) = self.next() else {
                    let lines = Some(Lines { first, last: self.number });
                    let message = format!("unterminated heredoc: a line {:?} was expected", heredoc.name);
                    return Err(Problem { source: self.source.clone(), lines, message, is_syntax: true });
                };
                let end = without_end(line);
                let end = if heredoc.strip_tabs { end.trim_start_matches('\t') } else { end };
                if end == heredoc.name {
                    break;
                }
                heredoc.content.push_str(line);
            }
        }
        Ok(heredocs)
    }
}

fn may_have_heredoc(text: &str) -> bool {
    if !text.contains("<<") {
        return false;
    }
    let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
    let takes = |word: Option<String>| matches!(word.as_deref(), Some("RUN" | "COPY" | "ADD"));
    match words.next() {
        Some(word) if word == "ONBUILD" => takes(words.next()),
        first => takes(first),
    }
}

fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// Takes a single escape character off the end of a line.
fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}
