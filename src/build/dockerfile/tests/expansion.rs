//! Variables in one text.

use super::super::expand;
use super::*;

fn value(name: &str) -> Option<String> {
    let value = match name {
        "a" => "one",
        "path" => "/usr/lib/x.tar.gz",
        "spaces" => "x  y",
        "empty" => "",
        "été" => "summer",
        _ => return None,
    };
    Some(value.into())
}

#[test]
fn words_are_expanded() {
    let cases = [
        ("$a", "one"),
        ("${a}b", "oneb"),
        ("$ab", ""),
        ("$été", "summer"),
        ("x$", "x$"),
        ("$ x", "$ x"),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ("\"$a\"", "one"),
        ("\"\\$a \\\" \\x\"", "$a \" \\x"),
        ("a\\ b", "a b"),
        ("'a'\"b\"c", "abc"),
        ("$1x", "x"),
        ("$$x", "x"),
        ("${none}", ""),
        ("${none-x}", "x"),
        ("${empty-x}", ""),
        ("${empty:-x}", "x"),
        ("${a:-x}", "one"),
        ("${a+x}", "x"),
        ("${empty+x}", "x"),
        ("${empty:+x}", ""),
        ("${none:+x}", ""),
        ("${a?x}", "one"),
        ("${empty?x}", ""),
        ("${none:-${a}}", "one"),
        ("${none:-'}'\"$a\"}", "}one"),
        ("${none:-\\}}", "}"),
        ("${path#*/}", "usr/lib/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%.*}", "/usr/lib/x.tar"),
        ("${path%%.*}", "/usr/lib/x"),
        ("${path%z}", "/usr/lib/x.tar.g"),
        ("${path%y}", "/usr/lib/x.tar.gz"),
        ("${path%.??}", "/usr/lib/x.tar"),
        ("${path/\\//-}", "-usr/lib/x.tar.gz"),
        ("${path//\\//-}", "-usr-lib-x.tar.gz"),
        ("${path/x.*/y}", "/usr/lib/y"),
        ("${path//./$a}", "/usr/lib/xonetaronegz"),
        ("${a/o/}", "ne"),
        ("${none#x}", ""),
        ("\\", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(expand::word(text, '\\', &value).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(expand::word("`$a \\x", '`', &value).as_deref(), Ok("$a \\x"));
}

#[test]
fn nonsense_is_refused() {
    let cases = [
        ("${", "missing '}'"),
        ("${a", "missing '}'"),
        ("${a:-x", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${a!x}", "unsupported modifier (!)"),
        ("${a:x}", "unsupported modifier (:x)"),
        ("${a:", "unsupported modifier (:)"),
        ("${a/x}", "missing '/'"),
        ("'x", "matching single-quote"),
        ("\"x", "matching double-quote"),
        ("${none?}", "none: is not allowed to be unset"),
        ("${empty:?give it}", "empty: give it"),
    ];
    for (text, expected) in cases {
        let message = expand::word(text, '\\', &value).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
    }
    let deep = format!("{}x{}", "${none:-".repeat(500), "}".repeat(500));
    assert!(expand::word(&deep, '\\', &value).unwrap_err().contains("nested too deeply"));
}

#[test]
fn nothing_grows_without_end() {
    let lookup = |_: &str| Some("x".repeat(1 << 20));
    for text in ["$a".repeat(100_000), format!("\"{}\"", "$a".repeat(100_000)), "${a//?/$a}".into()] {
        let message = expand::word(&text, '\\', &lookup).unwrap_err();
        assert!(message.contains("longer than 16777216 bytes"), "{message}");
    }
    for text in ["${a#$a}", "${a%$a}", "${a/$a/}"] {
        assert!(expand::word(text, '\\', &lookup).unwrap_err().contains("too large"), "{text}");
    }
    assert_eq!(expand::word("${a/?/$a}", '\\', &lookup).unwrap().len(), (2 << 20) - 1);
}

#[test]
fn words_are_split_where_no_quotes_are() {
    let split = |text: &str| expand::words(text, '\\', &value).unwrap();
    assert_eq!(split("$spaces z"), ["x", "y", "z"]);
    assert_eq!(split("\"$spaces\" z\\ w"), ["x  y", "z w"]);
    assert_eq!(split(" '' a"), ["", "a"]);
    assert_eq!(split("$none"), strings(&[]));
}

#[test]
fn heredocs_keep_their_quotes() {
    let text = "\"$a\" '$a' \\$a \\\\ \\n ${none:-x}\n\\\n";
    assert_eq!(expand::heredoc(text, &value).unwrap(), "\"one\" 'one' $a \\ \\n x\n\\\n");
}
