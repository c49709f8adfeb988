//! One logical line becomes one instruction.

use super::ast::*;
use super::flags::Flags;
use super::lines::Logical;
use super::suggest::suggestion;
use super::words::{self, Json};
use super::{health, mount};

/// Everything that may begin a line, in capitals.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// `FROM`, with what it says.
#[derive(Debug, PartialEq, Eq)]
pub struct From {
    pub base: String,
    pub name: Option<String>,
    pub platform: Option<String>,
}

/// What a line is.
#[derive(Debug)]
pub enum Parsed {
    From(From),
    Other(Kind),
}

/// The first word of a line as it stands, and the rest.
pub fn keyword(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

/// Reads one line.
///
/// # Errors
/// Why it is no instruction.
pub fn parse(line: &Logical, escape: char) -> Result<Parsed, String> {
    let (word, rest) = keyword(&line.text);
    let name = word.to_ascii_uppercase();
    if name == "ONBUILD" {
        return on_build(rest, line).map(|text| Parsed::Other(Kind::OnBuild(text)));
    }
    // Only these take flags of their own; what a flag is to HEALTHCHECK's command is not ours.
    let (flag_words, rest) = match name.as_str() {
        "ADD" | "COPY" | "FROM" | "HEALTHCHECK" | "RUN" => words::flags(rest),
        _ => (Vec::new(), rest),
    };
    let mut flags = Flags::new(flag_words);
    let parsed = match name.as_str() {
        "FROM" => Parsed::From(from(&mut flags, rest)?),
        "ADD" => Parsed::Other(Kind::Add(transfer("ADD", &mut flags, rest, line)?)),
        "COPY" => Parsed::Other(Kind::Copy(transfer("COPY", &mut flags, rest, line)?)),
        "RUN" => Parsed::Other(Kind::Run(run(&mut flags, rest, line)?)),
        "HEALTHCHECK" => Parsed::Other(Kind::Healthcheck(health::parse(&mut flags, rest)?)),
        _ => Parsed::Other(plain(&name, word, rest, escape)?),
    };
    flags.finish()?;
    Ok(parsed)
}

/// Instructions without flags.
fn plain(name: &str, word: &str, rest: &str, escape: char) -> Result<Kind, String> {
    let one = |kind: fn(String) -> Kind| match rest {
        "" => Err(format!("{name} requires exactly one argument")),
        _ => Ok(kind(rest.to_owned())),
    };
    if rest.is_empty() && matches!(name, "ARG" | "ENV" | "EXPOSE" | "LABEL" | "SHELL" | "VOLUME") {
        return Err(format!("{name} requires at least one argument"));
    }
    match name {
        "ARG" => words::quoted(rest, escape).iter().map(|word| arg(word)).collect::<Result<_, _>>().map(Kind::Arg),
        "CMD" => command(rest).map(Kind::Cmd),
        "ENTRYPOINT" => command(rest).map(Kind::Entrypoint),
        "ENV" => pairs("ENV", rest, escape).map(Kind::Env),
        "LABEL" => pairs("LABEL", rest, escape).map(Kind::Label),
        "EXPOSE" => Ok(Kind::Expose(rest.split_whitespace().map(str::to_owned).collect())),
        "MAINTAINER" => one(Kind::Maintainer),
        "SHELL" => match words::json(rest) {
            Json::List(list) if !list.is_empty() => Ok(Kind::Shell(list)),
            Json::List(_) => Err("SHELL requires at least one argument".into()),
            _ => Err("SHELL requires the arguments to be in JSON form".into()),
        },
        "STOPSIGNAL" => one(Kind::StopSignal),
        "USER" => one(Kind::User),
        "VOLUME" => volumes(rest),
        "WORKDIR" => one(Kind::Workdir),
        _ => Err(format!("unknown instruction: {word}{}", suggestion(name, &KEYWORDS))),
    }
}

fn from(flags: &mut Flags, rest: &str) -> Result<From, String> {
    let platform = flags.value("platform")?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match words[..] {
        [base] => (base, None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some(name)),
        _ => return Err("FROM requires either one or three arguments: FROM image, or FROM image AS name".into()),
    };
    let name = name.map(str::to_lowercase);
    if let Some(name) = &name {
        let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
        if !is_valid {
            return Err(format!(
                "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
            ));
        }
    }
    Ok(From { base: base.to_owned(), name, platform })
}

fn arg(word: &str) -> Result<Arg, String> {
    let (name, default) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    match name {
        "" => Err("ARG names can not be blank".into()),
        _ => Ok(Arg { name: name.to_owned(), default }),
    }
}

/// `a=b c="d e"`, or the old form `a b c`, where all after the name is the value.
fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = words::quoted(rest, escape);
    if !words.first().is_some_and(|word| word.contains('=')) {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            return Err(format!("{keyword} must have two arguments"));
        };
        return Ok(vec![Pair { name: name.to_owned(), value: value.trim_start().to_owned(), is_old_form: true }]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(format!("{keyword} names can not be blank")),
        Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned(), is_old_form: false }),
        None => Err(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")),
    };
    words.into_iter().map(pair).collect()
}

/// A command in either form.
pub fn command(rest: &str) -> Result<Command, String> {
    match words::json(rest) {
        Json::List(list) => Ok(Command::Exec(list)),
        Json::Mixed => Err("when using JSON array syntax, arrays must be comprised of strings only".into()),
        Json::No if rest.is_empty() => Ok(Command::Exec(Vec::new())),
        Json::No => Ok(Command::Shell(rest.to_owned())),
    }
}

/// Words in JSON, or separated by white space.
fn list(rest: &str) -> Result<Vec<String>, String> {
    match words::json(rest) {
        Json::List(list) => Ok(list),
        Json::Mixed => Err("when using JSON array syntax, arrays must be comprised of strings only".into()),
        Json::No => Ok(rest.split_whitespace().map(str::to_owned).collect()),
    }
}

fn volumes(rest: &str) -> Result<Kind, String> {
    let paths = list(rest)?;
    match paths.iter().any(|path| path.trim().is_empty()) || paths.is_empty() {
        true => Err("VOLUME specified can not be an empty string".into()),
        false => Ok(Kind::Volume(paths)),
    }
}

fn transfer(name: &str, flags: &mut Flags, rest: &str, line: &Logical) -> Result<Transfer, String> {
    let mut found = Transfer {
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.switch("link")?.unwrap_or(false),
        excludes: flags.values("exclude")?,
        ..Transfer::default()
    };
    if name == "COPY" {
        found.from = flags.value("from")?;
        found.parents = flags.switch("parents")?.unwrap_or(false);
    } else {
        found.checksum = flags.value("checksum")?;
        found.keep_git_dir = flags.switch("keep-git-dir")?.unwrap_or(false);
        found.unpack = flags.switch("unpack")?;
    }
    if found.from.as_deref() == Some("") {
        return Err("missing a value on flag: --from".into());
    }
    let mut words = list(rest)?;
    let count = words.len();
    let Some(destination) = words.pop().filter(|_| count > 1) else {
        let hint = if count == 1 { ". Destination could not be determined" } else { "" };
        return Err(format!("{name} requires at least two arguments, but only {count} provided{hint}"));
    };
    let mut bodies = line.heredocs.iter();
    found.sources = words
        .into_iter()
        .map(|word| match words::heredoc(&word).and_then(|_| bodies.next()) {
            Some(heredoc) => TransferSource::Heredoc(heredoc.clone()),
            None => TransferSource::Path(word),
        })
        .collect();
    let has_heredoc = found.sources.iter().any(|source| matches!(source, TransferSource::Heredoc(_)));
    if bodies.next().is_some() || words::heredoc(&destination).is_some() {
        return Err(format!("{name} takes heredocs only as sources"));
    }
    if has_heredoc && found.from.is_some() {
        return Err("--from and heredocs do not go together: a heredoc is in the Dockerfile".into());
    }
    found.destination = destination;
    Ok(found)
}

fn run(flags: &mut Flags, rest: &str, line: &Logical) -> Result<Run, String> {
    let network = match flags.value("network")?.as_deref() {
        None => None,
        Some("default") => Some(RunNetwork::Default),
        Some("none") => Some(RunNetwork::None),
        Some("host") => Some(RunNetwork::Host),
        Some(other) => return Err(format!("invalid network mode {other:?}: default, none or host was expected")),
    };
    let security = match flags.value("security")?.as_deref() {
        None => None,
        Some("sandbox") => Some(RunSecurity::Sandbox),
        Some("insecure") => Some(RunSecurity::Insecure),
        Some(other) => return Err(format!("security {other:?} is not valid: sandbox or insecure was expected")),
    };
    let mounts = flags.values("mount")?.iter().map(|text| mount::fields(text)).collect::<Result<Vec<_>, _>>()?;
    let devices = flags.values("device")?;
    let command = command(rest)?;
    match &command {
        Command::Exec(words) if words.is_empty() => return Err("RUN requires at least one argument".into()),
        Command::Exec(_) if !line.heredocs.is_empty() => return Err("a heredoc needs the shell form of RUN".into()),
        _ => {}
    }
    Ok(Run { command, heredocs: line.heredocs.clone(), mounts, network, security, devices })
}

/// The text of a trigger, with the bodies of its heredocs.
fn on_build(rest: &str, line: &Logical) -> Result<String, String> {
    let (word, _) = keyword(rest);
    match word.to_ascii_uppercase().as_str() {
        "" => return Err("ONBUILD requires at least one argument".into()),
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        name @ ("FROM" | "MAINTAINER") => return Err(format!("{name} isn't allowed as an ONBUILD trigger")),
        name if !KEYWORDS.contains(&name) => {
            return Err(format!("unknown instruction: {word}{}", suggestion(name, &KEYWORDS)));
        }
        _ => {}
    }
    let bodies = line.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
    Ok(std::iter::once(rest.to_owned()).chain(bodies).collect())
}
