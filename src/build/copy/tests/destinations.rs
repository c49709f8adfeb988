//! Where things go.

use super::*;

#[test]
fn a_file_goes_to_a_name_or_into_a_folder() {
    let cases: [(&str, &[&str], &[&str]); 9] = [
        ("COPY a /x", &[], &["x=a"]),
        ("COPY a /x/y/z", &[], &["x/", "x/y/", "x/y/z=a"]),
        ("COPY a /x/", &[], &["x/", "x/a=a"]),
        ("COPY a /x", &["x/old"], &["x/", "x/a=a"]),
        ("COPY a x", &[], &["work/", "work/x=a"]),
        ("COPY a .", &[], &["work/", "work/a=a"]),
        ("COPY a ../x/./", &[], &["x/", "x/a=a"]),
        ("COPY a /../../x", &[], &["x=a"]),
        ("COPY a /x", &["x=old"], &["x=a"]),
    ];
    for (text, low, expected) in cases {
        assert_eq!(Bench::new(&["a"], low).copy(text), expected, "{text}");
    }
}

#[test]
fn a_folder_gives_its_content() {
    let context = ["d/a", "d/e/b", "d/l->a", "d/empty/"];
    let content = ["a=d/a", "e/", "e/b=d/e/b", "empty/", "l->a"];
    let below = |top: &str| -> Vec<String> {
        let tops = top.match_indices('/').map(|(at, _)| top[..=at].to_owned());
        tops.chain(content.iter().map(|path| format!("{top}{path}"))).collect()
    };
    for (text, top) in [("COPY d /", ""), ("COPY d/ /x", "x/"), ("COPY d /x/y/", "x/y/"), ("COPY ./d/. .", "work/")] {
        assert_eq!(Bench::new(&context, &[]).copy(text), below(top), "{text}");
    }
    assert_eq!(Bench::new(&["a", "b/c"], &[]).copy("COPY . /x"), ["x/", "x/a=a", "x/b/", "x/b/c=b/c"]);
    // What is there already stays, and is replaced name by name.
    let bench = Bench::new(&["d/a", "d/e/b"], &["x/a=old", "x/e/c=old"]);
    assert_eq!(bench.copy("COPY d /x"), ["x/", "x/a=d/a", "x/e/", "x/e/b=d/e/b"]);
}

#[test]
fn several_sources_need_a_folder() {
    let bench = Bench::new(&["a", "b", "d/c"], &[]);
    assert_eq!(bench.copy("COPY a b d /x/"), ["x/", "x/a=a", "x/b=b", "x/c=d/c"]);
    for text in ["COPY a b /y", "COPY ? /y", "COPY a <<E /y\nE"] {
        assert!(Bench::new(&["a", "b"], &[]).refused(text).contains("must be a directory and end with a /"), "{text}");
        assert!(Bench::new(&["a", "b"], &["y=old"]).refused(text).contains("must be a directory"), "{text}");
    }
    assert_eq!(Bench::new(&["ab"], &[]).copy("COPY a* /y"), ["y=ab"]);
}

#[test]
fn what_is_a_folder_already_needs_no_slash() {
    let cases: [(&str, &[&str]); 6] = [
        ("COPY a b /y", &["y/", "y/a=a", "y/b=b"]),
        ("COPY ? /y", &["y/", "y/a=a", "y/b=b"]),
        ("COPY ? /link", &["y/", "y/a=a", "y/b=b"]),
        ("COPY s* /new", &["new/", "new/c=s1/c", "new/d=s2/d"]),
        ("COPY s1 a /new", &["new/", "new/a=a", "new/c=s1/c"]),
        ("COPY --parents a s2 /new", &["new/", "new/a=a", "new/s2/", "new/s2/d=s2/d"]),
    ];
    for (text, expected) in cases {
        let bench = Bench::new(&["a", "b", "s1/c", "s2/d"], &["y/old", "link->y"]);
        assert_eq!(bench.copy(text), expected, "{text}");
    }
    let bench = Bench::new(&["a", "s1/c"], &[]);
    assert!(bench.refused("COPY a s1 /new").contains("cannot copy to non-directory"));
}

#[test]
fn links_of_the_target_are_followed_inside_of_it() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        ("COPY a /lib/x", &["usr/lib/", "lib->usr/lib"], &["usr/", "usr/lib/", "usr/lib/x=a"]),
        ("COPY a /lib/", &["usr/lib/", "lib->/usr/lib"], &["usr/", "usr/lib/", "usr/lib/a=a"]),
        ("COPY a /lib", &["usr/lib/", "lib->usr/lib"], &["usr/", "usr/lib/", "usr/lib/a=a"]),
        ("COPY d /lib", &["usr/lib/", "lib->../../usr/lib"], &["usr/", "usr/lib/", "usr/lib/b=d/b"]),
        ("COPY a /out/x", &["out->../../../../tmp"], &["tmp/", "tmp/x=a"]),
        ("COPY a /l", &["l->there/f"], &["there/", "there/f=a"]),
        // Only the destination itself: a link in a folder that is filled is replaced.
        ("COPY d /x", &["x/b->/etc/passwd"], &["x/", "x/b=d/b"]),
    ];
    for (text, low, expected) in cases {
        assert_eq!(Bench::new(&["a", "d/b"], low).copy(text), expected, "{text}");
    }
    let bench = Bench::new(&["a", "d/b/c"], &["loop->loop", "x/b->y", "f"]);
    assert!(bench.refused("COPY a /loop/x").contains("too many links"));
    assert!(bench.refused("COPY d /x").contains("cannot copy to non-directory: \"/x/b\""));
    assert!(bench.refused("COPY a /f/x").contains("\"f\" is not a folder"));
    assert!(bench.refused("COPY d /f").contains("cannot copy to non-directory"));
    let bench = Bench::new(&["d/b"], &["x/b/"]);
    assert!(bench.refused("COPY d /x").contains("cannot replace the directory \"/x/b\" with a file"));
}

#[test]
fn a_linked_layer_does_not_look_at_what_is_below() {
    let low = ["usr/lib/", "lib->usr/lib", "etc/passwd=u:x:7:8::/:/bin/sh"];
    let bench = Bench::new(&["a"], &low);
    assert_eq!(bench.copy("COPY --link --chown=u a /lib/x"), ["lib/", "lib/x=a"]);
    let stat = bench.stat("up/lib/x");
    assert_eq!((stat.st_uid, stat.st_gid), (7, 8));
}

#[test]
fn heredocs_are_files() {
    let bench = Bench::new(&["a"], &[]);
    let found = bench.copy("COPY <<one a <<-\"two\" /x/\n1\none\n\t2 $x\ntwo");
    assert_eq!(found, ["x/", "x/a=a", "x/one=1\n", "x/two=2 $x\n"]);
    assert_eq!(bench.stat("up/x/one").st_mode & 0o7777, 0o644);
    assert_eq!(Bench::new(&[], &[]).copy("ADD --chmod=755 <<E /y\n#!x\nE"), ["y=#!x\n"]);
}
