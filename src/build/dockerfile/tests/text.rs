//! Lines, directives, heredocs, excerpts and warnings.

use super::*;

fn run_text(text: &str) -> String {
    match instruction(text) {
        Kind::Run(Run { command: Command::Shell(text), .. }) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_are_continued_and_comments_dropped() {
    let cases = [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\\n# comment\n  # comment \\\n b", "a  b"),
        ("RUN a \\  \n&& b", "a && b"),
        ("RUN a\\\r\nb\r", "ab"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\", "a"),
        ("RUN echo \\\\", "echo \\\\"),
        ("   RUN a # b", "a # b"),
        ("\\\n RUN a", "a"),
        ("rUn\ta", "a"),
    ];
    for (text, expected) in cases {
        assert_eq!(run_text(text), expected, "{text:?}");
    }
}

#[test]
fn positions_span_all_lines() {
    let file = parsed("# c\n\nFROM a\nRUN x \\\n # c\n y\nCOPY <<A /b\n1\nA\nUSER u");
    let lines: Vec<_> = file.stages[0].instructions.iter().map(|i| (i.lines.first, i.lines.last)).collect();
    assert_eq!(file.stages[0].lines, Lines { first: 3, last: 3 });
    assert_eq!(lines, [(4, 6), (7, 9), (10, 10)]);
    assert_eq!(file.stages[0].instructions[0].original, "RUN x  y");
}

#[test]
fn directives_stand_at_the_top() {
    let file = parsed(
        "\u{feff}# syntax = docker/dockerfile:1 \r\n#ESCAPE=`\n# check=skip=all;error=true\nFROM a\nRUN a `\n b\\",
    );
    let expected = Directives {
        syntax: Some("docker/dockerfile:1".into()),
        escape: '`',
        check: Some("skip=all;error=true".into()),
    };
    assert_eq!(file.directives, expected);
    assert!(matches!(&file.stages[0].instructions[0].kind, Kind::Run(run) if run.command == shell("a  b\\")));
    for text in ["# a comment\n# escape=`\nFROM a", "\n# escape=`\nFROM a", "# unknown=1\n# escape=`\nFROM a"] {
        assert_eq!(parsed(text).directives.escape, '\\', "{text}");
    }
    assert!(refused("# escape=x\nFROM a").message.contains("invalid ESCAPE"));
    assert!(refused("# escape=`\n# escape=`\nFROM a").message.contains("only one escape"));
}

#[test]
fn heredocs_bring_their_bodies() {
    let Kind::Run(run) = instruction("RUN cat <<A <<-'B' > /x\n1 $x\nA\n\t2\n\tB") else { panic!() };
    assert_eq!(run.command, shell("cat <<A <<-'B' > /x"));
    let heredoc = |name: &str, content: &str, expand, strip_tabs| Heredoc {
        name: name.into(),
        content: content.into(),
        expand,
        strip_tabs,
    };
    assert_eq!(run.heredocs, [heredoc("A", "1 $x\n", true, false), heredoc("B", "\t2\n", false, true)]);
    assert_eq!(run.script(), Script::Shell("cat <<A <<-'B' > /x\n1 $x\nA\n\t2\nB".into()));
    let Kind::Copy(copy) = instruction("COPY <<a.txt src <<\"b\" /dest/\nA\na.txt\nB\nb") else { panic!() };
    let [TransferSource::Heredoc(a), TransferSource::Path(src), TransferSource::Heredoc(b)] = &copy.sources[..] else {
        panic!("{copy:?}")
    };
    assert_eq!((a.content.as_str(), src.as_str(), b.content.as_str(), b.expand), ("A\n", "src", "B\n", false));
    // Comments and continuation lines mean nothing in a body.
    let Kind::Run(run) = instruction("RUN <<EOF\n# no comment\na \\\n\nEOF") else { panic!() };
    assert_eq!(run.script(), Script::Shell("# no comment\na \\\n\n".into()));
    for text in ["RUN <<EOF\n#!/bin/x\na\nEOF", "RUN <<-EOF\n\t#!/bin/x\n\ta\n\tEOF"] {
        let Kind::Run(run) = instruction(text) else { panic!() };
        assert_eq!(run.script(), Script::File { name: "EOF".into(), content: "#!/bin/x\na\n".into() });
    }
    let Kind::Run(run) = instruction("RUN <<-EOF\n\ta\n\t\tb\n\tEOF") else { panic!() };
    assert_eq!(run.script(), Script::Shell("a\nb\n".into()));
    for text in ["RUN cat <<<EOF", "RUN echo $((1<<2))", "RUN echo \"a <<EOF\"", "CMD cat <<EOF"] {
        instruction(text);
    }
    assert!(message("RUN <<EOF\na").contains("unterminated heredoc: a line \"EOF\" was expected"));
}

#[test]
fn a_problem_shows_its_lines() {
    let problem = refused("FROM a\n\nUSER u\nFOO \\\n  x\nCMD y\nCMD z\nCMD a");
    assert_eq!(problem.to_string(), "dockerfile parse error on line 4: unknown instruction: FOO");
    let expected = "Dockerfile:4\n--------------------\n   2 |\n   3 |     USER u\n   4 | >>> FOO \\\n   5 | >>>   x\n   \
                    6 |     CMD y\n   7 |     CMD z\n--------------------\n";
    assert_eq!(problem.excerpt(), expected);
    assert_eq!(message("RNU x"), "unknown instruction: RNU (did you mean RUN?)");
    assert_eq!(message("COPPY x"), "unknown instruction: COPPY (did you mean COPY?)");
    assert!(!source("FROM a\n\u{1b}[2J").excerpt(Lines { first: 2, last: 2 }).contains('\u{1b}'));
}

#[test]
fn files_without_sense() {
    assert_eq!(refused("").message, "file with no instructions");
    assert_eq!(refused("# only\n\n").message, "file with no instructions");
    assert_eq!(refused("ARG a").message, "file has no FROM");
    assert!(refused("RUN a\nFROM b").message.starts_with("no build stage in current context"));
}

#[test]
fn warnings_name_their_rule() {
    let rules = |text: &str| -> Vec<(&str, u32)> {
        parsed(text).warnings.iter().map(|warning| (warning.rule, warning.lines.first)).collect()
    };
    assert_eq!(rules("FROM a AS b\nRUN x \\\n\n y\nCMD [\"z\"]"), [("NoEmptyContinuation", 2)]);
    assert_eq!(rules("FROM a\nrun b\nUSER c"), [("ConsistentInstructionCasing", 2)]);
    assert_eq!(rules("from a\nRUN b\nuser c"), [("ConsistentInstructionCasing", 2)]);
    assert_eq!(rules("FROM a as B\nCMD b"), [("FromAsCasing", 1), ("StageNameCasing", 1), ("JSONArgsRecommended", 2)]);
    assert_eq!(rules("FROM a AS b\nFROM a AS b"), [("DuplicateStageName", 2)]);
    assert_eq!(rules("FROM a\nENV A b\nENV DB_PASSWORD=x\nARG TOKEN\nENV PUBLIC_KEY=x").len(), 3);
    assert_eq!(rules("FROM a\nEXPOSE 80 8080:80 ${p:-80}/udp"), [("ExposeInvalidFormat", 2)]);
    assert_eq!(rules("FROM a\nCMD [\"a\"]\nCMD [\"b\"]"), [("MultipleInstructionsDisallowed", 2)]);
    assert_eq!(rules("# check=skip=JSONArgsRecommended\nFROM a\nCMD b\nMAINTAINER c"), [("MaintainerDeprecated", 4)]);
    assert_eq!(rules("# check=skip=all\nFROM a\nCMD b\nMAINTAINER c"), []);
}
