//! `cp`: Docker's rules about paths, both ways, for containers that run and that do not, for images, and against
//! containers that try to lead it out.

use crate::support::{IMAGE, Store, done, fed, slurp};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

const TREE: &str = "mkdir -p /src/sub; echo 1 >/src/a; echo 2 >/src/sub/b; ln -s a /src/link; ln -s /src /sl; \
                    ln -s /nowhere /src/dangling; ln -s ../../../../../../../../etc /src/etc; mkdir /dst";

/// A store with a running container `c` that has something to copy.
fn running(flags: &[&str]) -> Store {
    let store = Store::new();
    let script = format!("{TREE}; touch /ready; exec sleep 1000");
    store.ok(&[&["run", "-d", "--name", "box"], flags, &[IMAGE, "sh", "-c", &script]].concat());
    crate::support::eventually("the container", || store.run(&["exec", "box", "ls", "/ready"]).code == 0);
    store
}

/// The same, ended.
fn ended(flags: &[&str]) -> Store {
    let store = Store::new();
    store.ok(&[&["run", "--name", "box"], flags, &[IMAGE, "sh", "-c", TREE]].concat());
    store
}

fn cp(store: &Store, args: &[&str]) {
    let done = store.run(&[&["cp"], args].concat());
    assert_eq!((done.code, done.out.as_str()), (0, ""), "cp {args:?}: {done:?}");
}

/// Everything below a folder of the host, links with their targets.
fn listing(dir: impl AsRef<Path>) -> String {
    let mut find = Command::new("find");
    find.current_dir(dir).args([".", "-mindepth", "1", "-printf", "%P %y%l\n"]);
    let mut lines: Vec<String> = done(&mut find).out.lines().map(str::to_owned).collect();
    lines.sort();
    lines.iter().map(|line| line.replacen(' ', "", 1)).collect::<Vec<_>>().join(" ")
}

/// Folders and files of the host to copy from.
fn host_tree(store: &Store) {
    std::fs::create_dir_all(store.path("d/sub")).unwrap();
    store.write("f", "f\n");
    store.write("d/a", "a\n");
    store.write("d/sub/b", "b\n");
    symlink("d", store.path("dl")).unwrap();
    symlink("f", store.path("fl")).unwrap();
}

// ---- the rules

#[test]
fn where_a_copy_out_goes_depends_on_both_paths() {
    let store = running(&[]);
    let whole = "af danglingl/nowhere etcl../../../../../../../../etc linkla subd sub/bf";
    for (number, (source, target, expected)) in [
        // The folder itself into a folder, its content to a new name, and its content anywhere.
        ("/src/sub", "there", "subd sub/bf"),
        ("/src/sub/", "there", "subd sub/bf"),
        ("/src/sub", "new", "newd new/bf"),
        ("/src/sub/.", "there", "bf"),
        ("/src/sub/.", "new", "newd new/bf"),
        ("/src/", "new/", "newd"),
        // Files.
        ("/src/a", "there", "af"),
        ("/src/a", "there/x", "xf"),
        ("src/a", "new", "newf"),
        ("/src/sub/../a", "new", "newf"),
        // Links are copied; what ends in a slash is where they lead.
        ("/sl", "new", "newl/src"),
        ("/src/link", "there", "linkla"),
        ("/src/dangling", "new", "newl/nowhere"),
    ]
    .into_iter()
    .enumerate()
    {
        let base = store.path(&format!("case{number}"));
        std::fs::create_dir_all(base.join("there")).unwrap();
        let done = store.run(&["cp", &format!("box:{source}"), &format!("{}/{target}", base.display())]);
        assert_eq!(done.code, 0, "{source} -> {target}: {done:?}");
        let found = listing(if target.starts_with("there") { base.join("there") } else { base.clone() });
        let found = found.replace(" thered", "").replace("thered ", "");
        match source {
            "/src/" => assert!(found.starts_with("newd new/af new/danglingl/nowhere"), "{found}"),
            _ => assert_eq!(found, expected, "{source} -> {target}"),
        }
    }
    for source in ["/sl/", "/sl/."] {
        let out = store.path("through");
        let _ = std::fs::remove_dir_all(&out);
        cp(&store, &[&format!("box:{source}"), out.to_str().unwrap()]);
        assert_eq!(listing(&out), whole, "{source}");
    }
}

#[test]
fn a_link_is_followed_if_asked_and_keeps_its_name() {
    let store = running(&[]);
    std::fs::create_dir(store.path("there")).unwrap();
    cp(&store, &["-L", "box:/src/link", &store.text("there")]);
    cp(&store, &["-L", "box:/sl", &store.text("there")]);
    assert_eq!(slurp(store.path("there/link")), b"1\n");
    assert!(store.path("there/link").symlink_metadata().unwrap().is_file());
    assert_eq!(slurp(store.path("there/sl/sub/b")), b"2\n");
    host_tree(&store);
    cp(&store, &["-L", &store.text("fl"), "box:/dst"]);
    cp(&store, &["-L", &store.text("dl"), "box:/dst/new"]);
    cp(&store, &[&store.text("fl"), "box:/dst/as-link"]);
    assert_eq!(store.ok(&["exec", "box", "cat", "/dst/fl", "/dst/new/a"]), "f\na");
    assert_eq!(store.ok(&["exec", "box", "readlink", "/dst/as-link"]), "f");
    let error = store.fails(1, &["cp", "-L", "box:/src/dangling", &store.text("x")]);
    assert!(error.contains("No such container:path: box:/src/dangling"), "{error}");
}

#[test]
fn where_a_copy_in_goes_depends_on_both_paths() {
    let store = running(&[]);
    host_tree(&store);
    let look =
        |path: &str| store.ok(&["exec", "box", "sh", "-c", &format!("cd {path} && find . | sort | tr '\\n' ' '")]);
    for (source, target, place, expected) in [
        ("f", "/dst", "/dst", ". ./f "),
        ("f", "/dst/g", "/dst", ". ./f ./g "),
        ("d", "/dst/n1", "/dst/n1", ". ./a ./sub ./sub/b "),
        ("d", "/dst/n1", "/dst/n1/d", ". ./a ./sub ./sub/b "),
        ("d/.", "/dst/n2", "/dst/n2", ". ./a ./sub ./sub/b "),
        ("d/.", "/dst/n2", "/dst/n2", ". ./a ./sub ./sub/b "),
        ("d/", "/dst/n3/", "/dst/n3", ". ./a ./sub ./sub/b "),
        ("dl/", "/dst/n4", "/dst/n4", ". ./a ./sub ./sub/b "),
        ("f", "/sl/sub", "/src/sub", ". ./b ./f "),
        ("f", "/sl", "/src/f", "./f "),
        ("f", "dst/n1/d/a", "/dst/n1/d", ". ./a ./sub ./sub/b "),
    ] {
        cp(&store, &[&store.text(source), &format!("box:{target}")]);
        if place.ends_with("/f") {
            assert_eq!(store.ok(&["exec", "box", "cat", place]), "f");
        } else {
            assert_eq!(look(place), expected, "{source} -> {target}");
        }
    }
    assert_eq!(store.ok(&["exec", "box", "cat", "/dst/n1/d/a"]), "f", "an existing file is replaced");
}

#[test]
fn what_cannot_be_copied_is_told_in_dockers_words() {
    let store = running(&[]);
    host_tree(&store);
    std::fs::create_dir_all(store.path("over/a")).unwrap();
    std::fs::create_dir_all(store.path("over2")).unwrap();
    store.write("over2/src", "a file");
    let path = |name: &str| store.text(name);
    let lstat = format!("lstat {}: no such file or directory", path("nosuch"));
    let parent = format!("invalid output path: directory {:?} does not exist", path("no/x"));
    for (source, target, text) in [
        ("box:/nosuch", path("x"), "No such container:path: box:/nosuch".to_owned()),
        ("box:/src/a", path("x/"), "no such directory".into()),
        ("box:/src/a", path("no/x/y"), parent),
        ("box:/src", path("f"), "cannot copy directory".into()),
        ("box:/src/a/", path("x"), "not a directory".into()),
        ("box:/src/a", "/dev/full".into(), "must be a directory or a regular file: got a device".into()),
        ("box:/src/a", path("over"), "cannot overwrite directory".into()),
        ("box:/src", path("over2"), "cannot overwrite non-directory".into()),
        (&path("nosuch"), "box:/dst".into(), lstat),
        (&path("f/"), "box:/dst".into(), "not a directory".into()),
        (&path("f"), "box:/dst/x/".into(), "no such directory".into()),
        (&path("f"), "box:/no/x/y".into(), "No such container:path: box:/no/x".into()),
        (&path("d"), "box:/src/a".into(), "cannot copy directory".into()),
        (&path("f"), "box:/dev/null".into(), "must be a directory or a regular file: got a device".into()),
        (&path("f"), "box:".into(), "no such directory".into()),
        (&path("f"), "nosuch:/x".into(), "No such container: nosuch".into()),
        (&path("f"), path("x"), "must specify at least one container source".into()),
        ("box:/src", "other:/x".into(), "copying between containers is not supported".into()),
        ("", "box:/x".into(), "source can not be empty".into()),
    ] {
        let error = store.fails(1, &["cp", source, &target]);
        assert!(error.contains(&text), "{source} -> {target}: {error}");
    }
    assert_eq!(store.fails(1, &["cp", "box:/src"]).lines().count(), 6);
    assert!(!store.path("x").exists());
}

#[test]
fn how_much_was_copied_is_told_on_a_terminal_unless_it_is_to_be_quiet() {
    let store = running(&[]);
    let mut terminal = store.terminal(&["cp", "box:/src/a", &store.text("x")]);
    terminal.expect(&format!("Successfully copied 2.05kB to {}\r\n", store.text("x")));
    assert_eq!(terminal.wait(), 0);
    for args in [&["cp"][..], &["cp", "-q"]] {
        let done = store.run(&[args, &[&store.text("x"), "box:/dst"]].concat());
        assert_eq!((done.code, done.out, done.err), (0, String::new(), String::new()));
    }
    let mut quiet = store.terminal(&["cp", "-q", &store.text("x"), "box:/dst"]);
    assert_eq!((quiet.wait(), quiet.output()), (0, String::new()));
}

// ---- containers in every state

#[test]
fn a_container_that_does_not_run_is_copied_from_and_to_as_well() {
    let store = ended(&["-v", "vol:/vol"]);
    host_tree(&store);
    cp(&store, &["box:/src/a", &store.text("out")]);
    assert_eq!(slurp(store.path("out")), b"1\n");
    cp(&store, &[&store.text("d"), "box:/src/d"]);
    cp(&store, &[&store.text("f"), "box:/vol/f"]);
    cp(&store, &[&store.text("f"), "box:/etc/passwd"]);
    assert_eq!(slurp(store.root().join("volumes/vol/data/f")), b"f\n", "what is in a volume is seen on both sides");
    cp(&store, &["box:/src/d/sub/b", &store.text("back")]);
    assert_eq!(slurp(store.path("back")), b"b\n");
    assert_eq!(store.ok(&["ps", "-a", "--format", "{{.State}}"]), "exited");
    assert_eq!(store.ok(&["diff", "box"]).lines().filter(|l| l.contains("/src/d/") || l.contains("passwd")).count(), 4);
    store.ok(&["commit", "box", "kept"]);
    assert_eq!(store.ok(&["run", "--rm", "kept", "cat", "/src/d/a", "/etc/passwd"]), "a\nf");
    store.ok(&["start", "box"]);
    store.ok(&["wait", "box"]);

    store.ok(&["create", "--name", "fresh", "-v", "/anon", IMAGE, "cat", "/put", "/anon/put"]);
    cp(&store, &[&store.text("f"), "fresh:/put"]);
    cp(&store, &[&store.text("f"), "fresh:/anon/put"]);
    cp(&store, &["fresh:/anon", &store.text("anon")]);
    assert_eq!(listing(store.path("anon")), "putf");
    assert_eq!(store.ok(&["start", "-a", "fresh"]), "f\nf");
}

#[test]
fn looking_at_a_container_that_does_not_run_changes_nothing_in_it() {
    let store = Store::new();
    store.ok(&["create", "--name", "box", "-v", "/new/place", IMAGE, "true"]);
    cp(&store, &["box:/new", &store.text("out")]);
    assert_eq!(listing(store.path("out")), "placed");
    assert_eq!(store.ok(&["diff", "box"]), "");
}

#[test]
fn volumes_and_read_only_places_are_what_the_container_has() {
    let store = Store::new();
    let dir = store.text("bind");
    std::fs::create_dir(&dir).unwrap();
    let (bind, ro) = (format!("{dir}:/bind"), format!("{dir}:/ro:ro"));
    let file = store.write("file", "x\n");
    let flags = ["-v", &bind, "-v", &ro, "-v", "vol:/vol", "--tmpfs", "/mem", "-v", &format!("{file}:/one")];
    store.ok(&[&["run", "-d", "--name", "box"], &flags[..], &[IMAGE, "sleep", "1000"]].concat());
    for place in ["/bind/x", "/vol/x", "/mem/x", "/x"] {
        cp(&store, &[&file, &format!("box:{place}")]);
        assert_eq!(store.ok(&["exec", "box", "cat", place]), "x");
        cp(&store, &[&format!("box:{place}"), &store.text("back")]);
    }
    assert_eq!(slurp(store.path("bind/x")), b"x\n");
    assert_eq!(slurp(store.root().join("volumes/vol/data/x")), b"x\n");
    for state in ["running", "ended"] {
        let error = store.fails(1, &["cp", &file, "box:/ro/y"]);
        assert!(error.contains("mounted volume is marked read-only"), "{state}: {error}");
        // A mount is not taken away by what is put in its place.
        let other = store.write("other", "y\n");
        let error = store.fails(1, &["cp", &other, "box:/one"]);
        assert!(error.contains("device or resource busy"), "{state}: {error}");
        if state == "running" {
            store.fails(1, &["cp", &other, "box:/etc/hosts"]);
            assert_eq!(store.ok(&["exec", "box", "cat", "/one"]), "x");
            store.ok(&["kill", "box"]);
        }
    }
    assert_eq!(slurp(&file), b"x\n");
    store.ok(&["run", "-d", "--name", "closed", "--read-only", "-v", "/vol", IMAGE, "sleep", "1000"]);
    let error = store.fails(1, &["cp", &file, "closed:/tmp"]);
    assert!(error.contains("container rootfs is marked read-only"), "{error}");
    cp(&store, &[&file, "closed:/vol"]);
    store.ok(&["kill", "closed"]);
    let error = store.fails(1, &["cp", &file, "closed:/tmp"]);
    assert!(error.contains("container rootfs is marked read-only"), "{error}");
}

#[test]
fn an_image_is_copied_from_without_a_container() {
    let store = Store::new();
    store.ok(&["tag", IMAGE, "localhost:5000/some/name:v1"]);
    for image in [IMAGE, "busybox:latest", "localhost:5000/some/name:v1"] {
        let done = store.run(&["cp", &format!("{image}:/etc/passwd"), "-"]);
        assert_eq!(done.code, 0, "{image}: {done:?}");
        assert!(done.out.contains("root:x:0:0"), "{image}");
    }
    let error = store.fails(1, &["cp", &store.write("f", ""), "busybox:latest:/x"]);
    assert!(error.contains("is an image"), "{error}");
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

// ---- what is copied

#[test]
fn owners_modes_times_and_links_are_kept() {
    let store = ended(&[]);
    let script = "set -e; mkdir t; cd t; echo x >f; ln f hard; mkfifo p; mknod n c 1 3; mkdir s; \
                  chmod 1770 s; setfattr -n user.k -v v f 2>/dev/null || true; truncate -s 9M holes; echo end >>holes; \
                  chown -h 1000:1001 f s; chmod 4751 f; touch -d @1234567890.5 f s; touch -d @1000000000 .";
    let made = done(Command::new("bash").args(["-c", script]).current_dir(store.path("")));
    assert_eq!(made.code, 0, "{made:?}");
    cp(&store, &[&store.text("t"), "box:/t"]);
    cp(&store, &["-a", "box:/t", &store.text("back")]);
    let look = |name: &str| {
        let mut stat = Command::new("sh");
        stat.args(["-c", "stat -c '%n %f %u %g %h %.Y %t %T %s' . * && cat f"]).current_dir(store.path(name));
        done(&mut stat).out
    };
    // Directories are as large as the file system likes.
    let without_sizes = |text: String| {
        text.lines().filter(|l| !l.starts_with(". ") && !l.starts_with("s ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_sizes(look("back")), without_sizes(look("t")));
    let folder = |name: &str| {
        let meta = store.path(name).metadata().unwrap();
        (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!(folder("back"), folder("t"));
    assert_eq!(folder("back/s"), folder("t/s"));
    assert_eq!(store.path("back/holes").metadata().unwrap().len(), (9 << 20) + 4);
    assert!(store.path("back/holes").metadata().unwrap().blocks() < 4096, "holes stay holes");
    // Without -a what comes out is the caller's.
    cp(&store, &["box:/t/f", &store.text("mine")]);
    let meta = store.path("mine").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777), (0, 0, 0o4751));
}

#[test]
fn archives_come_out_and_go_in_by_the_standard_streams() {
    let store = running(&[]);
    let names = |source: &str| {
        let out = store.run(&["cp", source, "-"]);
        assert_eq!((out.code, out.err.as_str()), (0, ""), "{source}");
        let mut tar = Command::new("tar");
        tar.arg("t");
        fed(tar, &out.raw).out.replace('\n', " ")
    };
    assert_eq!(names("box:/src/sub"), "sub/ sub/b ");
    assert_eq!(names("box:/src/sub/."), "./ ./b ");
    assert_eq!(names("box:/src/sub/b"), "b ");
    host_tree(&store);
    let archive = |flags: &[&str]| done(Command::new("tar").current_dir(store.path("")).args(flags)).raw;
    for flags in [&["-c", "d"][..], &["-cz", "d"]] {
        let put = store.run_with_input(&["cp", "-", "box:/dst"], &archive(flags));
        assert_eq!(put.code, 0, "{put:?}");
        assert_eq!(store.ok(&["exec", "box", "cat", "/dst/d/a", "/dst/d/sub/b"]), "a\nb");
        store.ok(&["exec", "box", "rm", "-r", "/dst/d"]);
    }
    for (input, target, text) in [
        (archive(&["-c", "d"]), "box:/nosuch", "destination \"box:/nosuch\" must be a directory"),
        (archive(&["-c", "d"]), "box:/src/a", "destination \"box:/src/a\" must be a directory"),
        (archive(&["-cP", "../files/f"]), "box:/dst", "is outside of \"/dst\""),
        (b"no archive".to_vec(), "box:/dst", "this is no tar archive"),
        (Vec::new(), "box:/dst", "unexpected EOF"),
    ] {
        let put = store.run_with_input(&["cp", "-", target], &input);
        assert!(put.code == 1 && put.err.contains(text), "{target}: {put:?}");
    }
}

#[test]
fn a_copy_that_is_killed_leaves_the_old_file_whole() {
    let store = running(&[]);
    store.ok(&["exec", "box", "sh", "-c", "echo old >/dst/big"]);
    let file = store.path("big");
    std::fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
    let whole = done(Command::new("tar").current_dir(store.path("")).args(["-c", "big"])).raw;
    let mut client = store.spawn(&["cp", "-", "box:/dst"]);
    use std::io::Write;
    client.stdin.as_mut().unwrap().write_all(&whole[..2 << 20]).unwrap();
    let partial = || store.ok(&["exec", "box", "sh", "-c", "ls -A /dst | wc -l"]) == "2";
    crate::support::eventually("a part of the file", partial);
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(store.ok(&["exec", "box", "cat", "/dst/big"]), "old");
    cp(&store, &[file.to_str().unwrap(), "box:/dst"]);
    assert_eq!(store.ok(&["exec", "box", "stat", "-c", "%s", "/dst/big"]), (3 << 20).to_string());
}

// ---- hostile containers

#[test]
fn links_in_the_container_never_lead_out() {
    for store in [running(&[]), ended(&[])] {
        let mark = format!("minirun-cp-{}", std::process::id());
        let file = store.write(&mark, "planted\n");
        let host = Path::new("/etc").join(&mark);
        // /src/etc climbs as far as it can: that is the container's /etc.
        for target in
            ["box:/src/etc", "box:/src/etc/", &format!("box:/src/etc/{mark}"), &format!("box:/src/./etc/../etc/{mark}")]
        {
            cp(&store, &[&file, target]);
            assert!(!host.exists(), "{target} was made on the host");
            cp(&store, &[&format!("box:/etc/{mark}"), &store.text("back")]);
        }
        cp(&store, &["box:/src/etc/passwd", &store.text("passwd")]);
        assert!(String::from_utf8(slurp(store.path("passwd"))).unwrap().contains("tim:"), "the host's file");
        // Through a link that the archive itself brings.
        let script = format!(
            "ln -s ../../../../../etc way; tar -c way >t.tar; rm way; mkdir way; echo x >way/{mark}2; \
                              tar -rf t.tar way/{mark}2"
        );
        assert_eq!(done(Command::new("sh").args(["-c", &script]).current_dir(store.path(""))).code, 0);
        store.run_with_input(&["cp", "-", "box:/dst"], &slurp(store.path("t.tar")));
        assert!(!Path::new("/etc").join(format!("{mark}2")).exists());
        // What is copied out stays where it was asked to.
        cp(&store, &["box:/src/", &store.text("out")]);
        assert!(store.path("out/etc").symlink_metadata().unwrap().is_symlink());
        assert_eq!(store.run(&["cp", "box:/src/", &store.text("out")]).code, 0, "links are replaced, not followed");
    }
}

#[test]
fn a_link_that_came_out_of_a_container_is_not_followed_by_the_next_copy() {
    let store = Store::new();
    let precious = store.text("precious");
    std::fs::write(&precious, "precious").unwrap();
    store.ok(&["run", "--name", "box", IMAGE, "ln", "-s", &precious, "/x"]);
    let out = store.text("out");
    for _ in 0..2 {
        store.ok(&["cp", "box:/x", &out]);
        assert_eq!(std::fs::read_link(&out).unwrap(), Path::new(&precious));
    }
    store.ok(&["cp", "box:/etc/passwd", &out]);
    assert!(store.path("out").symlink_metadata().unwrap().is_file());
    assert_eq!(slurp(&precious), b"precious");
}

#[test]
fn the_hosts_links_to_streams_stay() {
    let store = running(&[]);
    let link = store.path("stdout");
    symlink("/proc/self/fd/1", &link).unwrap();
    let done = store.run(&["cp", "box:/src/a", link.to_str().unwrap()]);
    assert!(done.code == 1 && done.err.contains("is a link into /proc"), "{done:?}");
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/proc/self/fd/1"));
}

#[test]
fn a_container_that_swaps_folders_and_links_gets_nothing_and_gives_nothing() {
    let store = Store::new();
    let secret = store.text("secret");
    std::fs::create_dir(&secret).unwrap();
    store.write("secret/file", "secret\n");
    let swap = format!(
        "mkdir /a /real; echo mine >/real/file; ln -s {secret} /link; touch /ready; \
         while :; do mv -T /real /a/x; mv -T /a/x /real; mv -T /link /a/x; mv -T /a/x /link; done"
    );
    store.ok(&["run", "-d", "--name", "box", IMAGE, "sh", "-c", &swap]);
    crate::support::eventually("the container", || store.run(&["exec", "box", "ls", "/ready"]).code == 0);
    let planted = store.write("planted", "planted\n");
    let mut honest = 0;
    for round in 0..15 {
        let out = store.text(&format!("out{round}"));
        store.run(&["cp", "box:/a/x/file", &out]);
        if let Ok(text) = std::fs::read_to_string(&out) {
            assert_ne!(text, "secret\n");
            honest += 1;
        }
        store.run(&["cp", &planted, "box:/a/x/planted"]);
        store.run(&["cp", &planted, "box:/a/x/file"]);
    }
    assert!(honest > 0, "the folder was never there");
    assert_eq!(listing(&secret), "filef");
    assert_eq!(slurp(store.path("secret/file")), b"secret\n");
}

#[test]
fn fifos_and_devices_do_not_hold_a_copy_up() {
    let store = running(&[]);
    store.ok(&["exec", "box", "sh", "-c", "mkfifo /src/fifo; mknod /src/null c 1 3"]);
    let mut client = store.command(&["cp", "box:/src", &store.text("out")]);
    assert!(client.stderr(Stdio::null()).status().unwrap().success());
    assert!(listing(store.path("out")).contains("fifop"));
    cp(&store, &["box:/proc/version", &store.text("version")]);
    assert_eq!(slurp(store.path("version")), slurp("/proc/version"), "a file without a size has content");
}
