//! What the words mean.

use super::*;

const CONTEXT: [&str; 9] =
    ["a.c", "b.c", "c.h", "src/x.c", "src/deep/y.c", "src/deep/z.h", "[a]", "sp ace", "lib->src/deep"];

fn copied(text: &str) -> Vec<String> {
    let all = Bench::new(&CONTEXT, &[]).copy(text);
    all.iter().filter_map(|entry| Some(entry.strip_prefix("x/")?.split('=').next()?.to_owned())).collect::<Vec<_>>()
        [1..]
        .to_vec()
}

#[test]
fn patterns() {
    let cases: [(&str, &[&str]); 13] = [
        ("*.c", &["a.c", "b.c"]),
        ("?.[ch]", &["a.c", "b.c", "c.h"]),
        ("src/*.c", &["x.c"]),
        ("*/*/y.c", &["y.c"]),
        ("**/*.c", &["a.c", "b.c", "x.c", "y.c"]),
        ("src/**/*.h", &["z.h"]),
        ("s*c", &["deep/", "deep/y.c", "deep/z.h", "x.c"]),
        ("\\[a]", &["[a]"]),
        ("[[]a]", &["[a]"]),
        ("nothing* a.c", &["a.c"]),
        // A link that is named is followed, others are not.
        ("lib", &["y.c", "z.h"]),
        ("lib/y.c", &["y.c"]),
        ("/../../a.c", &["a.c"]),
    ];
    for (sources, expected) in cases {
        assert_eq!(copied(&format!("COPY {sources} /x/")), expected, "{sources}");
    }
    assert_eq!(copied("COPY [\"sp ace\", \"/x/\"]"), ["sp ace"]);
}

#[test]
fn what_is_not_there() {
    let bench = Bench::new(&CONTEXT, &[]).ignoring("b.c\nsrc");
    assert_eq!(bench.refused("COPY nope /x"), "\"/nope\": not found in the build context");
    for address in ["http://x.y/z", "https://x.y/z", "git@x.y:z", "ssh://x.y/z"] {
        let expected = format!("source can't be a URL for COPY: {address}; ADD gets files from the web");
        assert_eq!(bench.refused(&format!("COPY {address} /x")), expected);
    }
    assert!(bench.refused("COPY git@x /x").contains("not found in the build context"));
    assert_eq!(bench.refused("COPY ../../nope /x"), "\"/nope\": not found in the build context");
    let hint = ": it is excluded by .dockerignore";
    assert!(bench.refused("COPY b.c /x").ends_with(hint));
    assert!(bench.refused("COPY src/x.c /x").ends_with(hint));
    assert!(bench.refused("COPY lib /x").ends_with(hint));
    assert!(bench.refused("COPY a.c/x /x").contains("not found"));
    assert!(bench.refused("COPY [a /x").contains("is not closed"));
}

#[test]
fn links_of_the_context_do_not_lead_out() {
    let bench = Bench::new(&["a=in", "out->../low/secret", "abs->/etc/passwd", "up->..", "self->self"], &["secret"]);
    for name in ["out", "abs", "up/low/secret"] {
        assert!(bench.refused(&format!("COPY {name} /x")).contains("not found in the build context"), "{name}");
    }
    assert!(bench.refused("COPY self /x").contains("Too many levels"));
    assert_eq!(bench.copy("COPY up/a /x"), ["x=in"]);
}

#[test]
fn what_is_ignored_does_not_come() {
    let bench = Bench::new(&CONTEXT, &[]).ignoring("*\n!src/deep/*.c\n!c.h");
    assert_eq!(bench.copy("COPY . /"), ["c.h=c.h", "src/", "src/deep/", "src/deep/y.c=src/deep/y.c"]);
    let bench = Bench::new(&["a/b", "c/d"], &[]).ignoring("a/*");
    assert_eq!(bench.copy("COPY . /"), ["a/", "c/", "c/d=c/d"]);
    let bench = Bench::new(&["a/b", "c/d"], &[]).ignoring("*\n!c/x\n!a");
    assert_eq!(bench.copy("COPY . /"), ["a/", "a/b=a/b"]);
}

#[test]
fn excludes() {
    assert_eq!(copied("COPY --exclude=*.c *.c *.h /x/"), ["c.h"]);
    assert_eq!(copied("COPY --exclude=**/*.c --exclude=!src/x.c . /x/").len(), 8);
    assert_eq!(copied("COPY --exclude=deep src /x/"), ["x.c"]);
    assert_eq!(copied("COPY --exclude=deep/* --exclude=!deep/z.h src /x/"), ["deep/", "deep/z.h", "x.c"]);
}

#[test]
fn parents() {
    let cases: [(&str, &[&str]); 5] = [
        ("--parents src/deep/y.c a.c", &["a.c", "src/", "src/deep/", "src/deep/y.c"]),
        ("--parents ./src/./deep/y.c", &["deep/", "deep/y.c"]),
        ("--parents **/*.h", &["c.h", "src/", "src/deep/", "src/deep/z.h"]),
        ("--parents src/deep", &["src/", "src/deep/", "src/deep/y.c", "src/deep/z.h"]),
        ("--parents --exclude=src/*/*.h src", &["src/", "src/deep/", "src/deep/y.c", "src/x.c"]),
    ];
    for (words, expected) in cases {
        assert_eq!(copied(&format!("COPY {words} /x/")), expected, "{words}");
    }
    let bench = Bench::new(&["d/e/f"], &[]);
    bench.folder.dir("ctx").chmod("d", 0o700).unwrap();
    bench.copy("COPY --parents d/e/f /x/");
    assert_eq!(bench.stat("up/x/d").st_mode & 0o777, 0o700);
}

#[test]
fn nesting_has_a_limit() {
    let bench = Bench::new(&[], &[]);
    let mut dir = bench.folder.dir("ctx");
    for _ in 0..401 {
        dir.mkdir("d", 0o755).unwrap();
        dir = dir.child("d").unwrap();
    }
    let error = bench.plan("COPY . /").unwrap().known_by(None).unwrap_err();
    assert!(format!("{error:#}").contains("nested more than 400 levels deep"), "{error:#}");
    assert!(bench.plan("COPY d/d /").unwrap().known_by(None).is_ok());
}
