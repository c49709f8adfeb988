//! All logical lines become stages.

use super::ast::*;
use super::checks;
use super::instruction::{self, Parsed};
use super::lines::{self, Logical};
use super::source::{Lines, Problem, Source};
use std::sync::Arc;

/// Reads a whole Dockerfile.
///
/// # Errors
/// The first thing that is wrong with it, with its place.
pub fn parse(source: Arc<Source>) -> Result<Dockerfile, Problem> {
    let (directives, logical) = lines::read(&source)?;
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for line in &logical {
        let problem = |message| syntax(&source, line.lines, message);
        let kind = match instruction::parse(line, directives.escape).map_err(problem)? {
            Parsed::From(instruction::From { base, name, platform }) => {
                let original = line.text.trim().to_owned();
                stages.push(Stage { name, base, platform, lines: line.lines, original, instructions: Vec::new() });
                continue;
            }
            Parsed::Other(kind) => kind,
        };
        match (stages.last_mut(), kind) {
            (Some(stage), kind) => stage.instructions.push(place(line, kind)),
            (None, Kind::Arg(args)) => {
                global_args.extend(args.into_iter().map(|arg| GlobalArg { arg, lines: line.lines }));
            }
            (None, _) => {
                let message = "no build stage in current context: only ARG may come before the first FROM";
                return Err(problem(message.into()));
            }
        }
    }
    if stages.is_empty() {
        let message = if logical.is_empty() { "file with no instructions" } else { "file has no FROM" };
        return Err(Problem { source, lines: None, message: message.into(), is_syntax: true });
    }
    let warnings = checks::warnings(&directives, &logical, &stages);
    Ok(Dockerfile { source, directives, global_args, stages, warnings })
}

/// Reads the text of an `ONBUILD` trigger that an image brought; a problem is told about `lines` of `source`, the
/// `FROM` that brought it.
pub fn parse_trigger(text: &str, source: &Arc<Source>, lines: Lines) -> Result<Instruction, Problem> {
    let about = |message: &str| syntax(source, lines, format!("in the ONBUILD trigger {text:?}: {message}"));
    let (_, logical) = lines::read(&Source::new("ONBUILD", text)).map_err(|e| about(&e.message))?;
    let [line] = &logical[..] else { return Err(about("it is not one instruction")) };
    match instruction::parse(line, '\\').map_err(|e| about(&e))? {
        Parsed::Other(Kind::OnBuild(_)) => Err(about("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        Parsed::Other(Kind::Maintainer(_)) => Err(about("MAINTAINER isn't allowed as an ONBUILD trigger")),
        Parsed::From(_) => Err(about("FROM isn't allowed as an ONBUILD trigger")),
        Parsed::Other(kind) => Ok(Instruction { lines, ..place(line, kind) }),
    }
}

fn place(line: &Logical, kind: Kind) -> Instruction {
    Instruction { kind, lines: line.lines, original: line.text.trim().to_owned() }
}

fn syntax(source: &Arc<Source>, lines: Lines, message: String) -> Problem {
    Problem { source: source.clone(), lines: Some(lines), message, is_syntax: true }
}
