//! Nothing that anybody may write makes the readers panic.

use super::super::expand;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Texts made of what the language cares about.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "FROM ",
        "RUN ",
        "COPY ",
        "ENV ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "LABEL ",
        "a",
        "=",
        "$",
        "{",
        "}",
        ":-",
        "#",
        "%",
        "/",
        "*",
        "\\",
        "\"",
        "'",
        "`",
        "<<",
        "-",
        "EOF",
        "\n",
        "\r\n",
        " ",
        "--mount=",
        "--from=",
        "[",
        "]",
        ",",
        "type=",
        "target=",
        "é",
        "\u{feff}",
        "\0",
        "?",
        "+",
        "!",
        "1",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn parsing_never_panics(tail in text(), has_from in any::<bool>()) {
        let text = if has_from { format!("FROM a\n{tail}") } else { tail };
        match parse(source(&text)) {
            Err(problem) => drop((problem.to_string(), problem.excerpt())),
            Ok(file) => {
                let platforms = Platforms { build: "x".into(), target: String::new(), stage: String::new() };
                let Ok(globals) = Globals::new(&file, &BTreeMap::new(), &platforms) else { return Ok(()) };
                let mut scope = globals.scope();
                scope.begin_with(&["a=b".into()]);
                for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                    prop_assert!(instruction.lines.first <= instruction.lines.last);
                    let _ = scope.evaluate(instruction);
                }
            }
        }
    }

    #[test]
    fn expansion_never_panics(text in text()) {
        let lookup = |name: &str| (name == "a").then(|| "v /*".to_owned());
        let _ = expand::word(&text, '\\', &lookup);
        let _ = expand::words(&text, '`', &lookup);
        let _ = expand::heredoc(&text, &lookup);
    }

    #[test]
    fn what_is_in_single_quotes_stays(text in "[^']{0,20}") {
        prop_assert_eq!(expand::word(&format!("'{text}'"), '\\', &|_| None), Ok(text));
    }
}
