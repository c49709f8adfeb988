//! The language: what is written, and what it means.

mod expansion;
mod instructions;
mod properties;
mod scopes;
mod text;

use super::*;
use std::sync::Arc;

fn parsed(text: &str) -> Dockerfile {
    parse(Source::new("Dockerfile", text)).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn refused(text: &str) -> Problem {
    match parse(Source::new("Dockerfile", text)) {
        Err(problem) => problem,
        Ok(file) => panic!("{text} was read as {file:?}"),
    }
}

/// The only instruction after `FROM scratch`.
fn instruction(text: &str) -> Kind {
    let file = parsed(&format!("FROM scratch\n{text}\n"));
    let mut instructions = file.stages[0].instructions.clone();
    assert_eq!(instructions.len(), 1, "{text}");
    instructions.remove(0).kind
}

/// Why a line after `FROM scratch` is refused.
fn message(text: &str) -> String {
    let problem = refused(&format!("FROM scratch\n{text}\n"));
    assert_eq!(problem.lines.unwrap().first, 2, "{text}");
    problem.message
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

fn shell(text: &str) -> Command {
    Command::Shell(text.into())
}

fn exec(words: &[&str]) -> Command {
    Command::Exec(strings(words))
}

fn source(text: &str) -> Arc<Source> {
    Source::new("Dockerfile", text)
}
