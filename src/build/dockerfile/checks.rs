//! What works but is probably not meant, under the names that Docker's checks have.

use super::ast::*;
use super::instruction::keyword;
use super::lines::Logical;
use super::source::{Lines, Warning};

/// All warnings about a file, in the order of its lines, without those that it asks to skip.
pub fn warnings(directives: &Directives, logical: &[Logical], stages: &[Stage]) -> Vec<Warning> {
    let mut found = Vec::new();
    for line in logical.iter().filter(|line| line.has_empty_line) {
        let message = format!("Empty continuation line found in: {}", line.text.trim());
        found.push(Warning { rule: "NoEmptyContinuation", message, lines: line.lines });
    }
    casing(logical, &mut found);
    for (at, stage) in stages.iter().enumerate() {
        check_stage(stage, &stages[..at], &mut found);
        for instruction in &stage.instructions {
            check_instruction(instruction, &mut found);
        }
        repeated(stage, &mut found);
    }
    found.retain(|warning| !is_skipped(directives, warning.rule));
    found.sort_by_key(|warning| warning.lines);
    found
}

fn is_skipped(directives: &Directives, rule: &str) -> bool {
    let options = directives.check.as_deref().unwrap_or_default().split(';');
    let mut skips = options.filter_map(|option| option.trim().strip_prefix("skip="));
    skips.any(|names| names.split(',').any(|name| name.trim() == "all" || name.trim().eq_ignore_ascii_case(rule)))
}

fn casing(logical: &[Logical], found: &mut Vec<Warning>) {
    let is_upper = |word: &str| !word.chars().any(|c| c.is_ascii_lowercase());
    let words: Vec<(&str, Lines)> = logical.iter().map(|line| (keyword(&line.text).0, line.lines)).collect();
    let upper = words.iter().filter(|(word, _)| is_upper(word)).count();
    let (wanted, is_odd): (_, fn(&str) -> bool) = match upper * 2 >= words.len() {
        true => ("uppercase", |word| word.chars().any(|c| c.is_ascii_lowercase())),
        false => ("lowercase", |word| word.chars().any(|c| c.is_ascii_uppercase())),
    };
    for (word, lines) in words.into_iter().filter(|(word, _)| is_odd(word)) {
        let message = format!("Command '{word}' should match the case of the command majority ({wanted})");
        found.push(Warning { rule: "ConsistentInstructionCasing", message, lines });
    }
}

fn check_stage(stage: &Stage, before: &[Stage], found: &mut Vec<Warning>) {
    let mut warn = |rule, message| found.push(Warning { rule, message, lines: stage.lines });
    let words: Vec<&str> = stage.original.split_whitespace().collect();
    let (Some(name), [.., word, written]) = (&stage.name, &words[..]) else { return };
    let as_is_upper = *word == word.to_uppercase();
    if as_is_upper != (words[0] == words[0].to_uppercase()) {
        warn("FromAsCasing", format!("'{word}' and '{}' keywords' casing do not match", words[0]));
    }
    if written != name {
        warn("StageNameCasing", format!("Stage name '{written}' should be lowercase"));
    }
    if before.iter().any(|other| other.name.as_ref() == Some(name)) {
        warn("DuplicateStageName", format!("Duplicate stage name {name:?}, stage names should be unique"));
    }
    if name == "scratch" || name == "context" {
        warn("ReservedStageName", format!("Stage name should not use the same name as reserved stage {name:?}"));
    }
}

fn check_instruction(instruction: &Instruction, found: &mut Vec<Warning>) {
    let mut warn = |rule, message| found.push(Warning { rule, message, lines: instruction.lines });
    match &instruction.kind {
        Kind::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            warn("MaintainerDeprecated", message.into());
        }
        Kind::Cmd(Command::Shell(_)) | Kind::Entrypoint(Command::Shell(_)) => {
            let name = keyword(&instruction.original).0.to_ascii_uppercase();
            let message =
                format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals");
            warn("JSONArgsRecommended", message);
        }
        Kind::Env(pairs) => {
            if pairs.iter().any(|pair| pair.is_old_form) {
                let message = "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format";
                warn("LegacyKeyValueFormat", message.into());
            }
            for pair in pairs.iter().filter(|pair| is_secret(&pair.name)) {
                warn("SecretsUsedInArgOrEnv", secret("ENV", &pair.name));
            }
        }
        Kind::Expose(ports) => {
            // What a variable holds is not known here.
            for port in ports.iter().filter(|port| port.contains(':') && !port.contains('$')) {
                let message =
                    format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
                warn("ExposeInvalidFormat", message);
            }
        }
        Kind::Label(pairs) if pairs.iter().any(|pair| pair.is_old_form) => {
            let message = "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format";
            warn("LegacyKeyValueFormat", message.into());
        }
        Kind::Arg(args) => {
            for arg in args.iter().filter(|arg| is_secret(&arg.name)) {
                warn("SecretsUsedInArgOrEnv", secret("ARG", &arg.name));
            }
        }
        _ => {}
    }
}

/// Of these only the last one of a stage counts.
fn repeated(stage: &Stage, found: &mut Vec<Warning>) {
    type Is = fn(&Kind) -> bool;
    let kinds: [(&str, Is); 3] = [
        ("CMD", |kind| matches!(kind, Kind::Cmd(_))),
        ("ENTRYPOINT", |kind| matches!(kind, Kind::Entrypoint(_))),
        ("HEALTHCHECK", |kind| matches!(kind, Kind::Healthcheck(_))),
    ];
    for (name, is_it) in kinds {
        let mut all: Vec<&Instruction> = stage.instructions.iter().filter(|i| is_it(&i.kind)).collect();
        all.pop();
        for instruction in all {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            found.push(Warning { rule: "MultipleInstructionsDisallowed", message, lines: instruction.lines });
        }
    }
}

fn secret(instruction: &str, name: &str) -> String {
    format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})")
}

/// A name with one of these words in it, unless it also says that it is public.
fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 8] = ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd"];
    const MORE: [&str; 2] = ["secret", "token"];
    let name = name.to_ascii_lowercase();
    let mut words = name.split('_');
    let is_public = words.clone().any(|word| matches!(word, "public" | "file" | "path"));
    !is_public && words.any(|word| SECRET.contains(&word) || MORE.contains(&word))
}
