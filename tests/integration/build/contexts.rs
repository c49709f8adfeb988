//! What a build is given, where its result goes, and what is wrong with either.

use super::{parts_cached, parts_done};
use crate::support::{Store, fixture};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

fn archive(store: &Store, name: &str, compression: &str) -> Vec<u8> {
    let output = Command::new("tar").args(["-C", &store.text(name), compression, "-cf", "-", "."]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn tar_names(path: &str) -> String {
    let listed = Command::new("tar").args(["-tf", path]).output().unwrap();
    assert!(listed.status.success());
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn contexts_come_as_folders_archives_and_not_at_all() {
    let store = Store::new();
    let dir = store.context("c", "FROM busybox\nCOPY f /copied\nRUN cat /copied\n");
    std::fs::write(dir.join("f"), "from the context\n").unwrap();
    std::fs::write(dir.join("Other"), "FROM busybox\nCOPY f /other\nRUN echo other; cat /other\n").unwrap();
    let path = store.text("c");
    let other = store.text("c/Other");
    let folder = store.run(&["build", &path]);
    assert!(folder.err.contains("from the context"), "{folder:?}");
    let named = store.run(&["build", "-f", &other, &path]);
    assert!(named.err.contains(" other\n") && named.err.contains("from the context"), "{named:?}");
    for compression in ["--gzip", "--format=gnu"] {
        let streamed = store.run_with_input(&["build", "-"], &archive(&store, "c", compression));
        // The same files, wherever they come from.
        assert_eq!((streamed.code, parts_cached(&streamed.err)), (0, 3), "{streamed:?}");
        let named = store.run_with_input(&["build", "-f", "Other", "-"], &archive(&store, "c", compression));
        assert_eq!((named.code, parts_cached(&named.err)), (0, 3), "{named:?}");
    }
    let alone = store.run_with_input(&["build", "-"], b"FROM busybox\nRUN echo alone\n");
    assert!(alone.code == 0 && alone.err.contains("alone"), "{alone:?}");
    let beside = store.run_with_input(&["build", "-f", "-", &path], b"FROM busybox\nCOPY f /x\nRUN echo beside\n");
    assert!(beside.code == 0 && beside.err.contains("beside"), "{beside:?}");
    let nothing = store.run_with_input(&["build", "-"], b"FROM busybox\nCOPY f /x\n");
    assert!(nothing.code == 1 && nothing.err.contains("not found in the build context"), "{nothing:?}");
}

#[test]
fn only_the_result_of_a_stage_is_added() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS make\nRUN head -c 3m /dev/urandom > /big; echo small > /result\n\
        FROM busybox\nCOPY --from=make /result /result\nCOPY --from=0 /result /second\nCOPY --from=busybox /bin/busybox /b\n";
    store.builds(dockerfile, &["-t", "two"]);
    store.builds(dockerfile, &["-t", "one", "--target", "make"]);
    let size = |name: &str| store.inspect(name, "{{.Size}}").parse::<u64>().unwrap();
    assert!(size("one") > size("busybox") + (3 << 20) && size("two") < size("busybox") * 2 + 100, "{}", size("two"));
    assert_eq!(store.ok(&["run", "--rm", "two", "cat", "/result", "/second"]), "small\nsmall");
}

#[test]
fn content_counts_and_times_do_not() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nCOPY f /f\nRUN cat /f\n";
    let dir = store.context("context", dockerfile);
    std::fs::write(dir.join("f"), "one").unwrap();
    assert_eq!(parts_done(&store.builds(dockerfile, &[])), 2);
    std::fs::write(dir.join("f"), "one").unwrap();
    assert_eq!(parts_done(&store.builds(dockerfile, &[])), 0);
    std::fs::write(dir.join("f"), "two").unwrap();
    assert_eq!(parts_done(&store.builds(dockerfile, &[])), 2);
    std::fs::set_permissions(dir.join("f"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(parts_done(&store.builds(dockerfile, &[])), 2);
}

#[test]
fn what_a_pattern_matches_goes_into_a_folder_that_is_there() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nWORKDIR /app\nCOPY p*.json /app\nRUN ls /app\nCOPY p* /file\n";
    let dir = store.context("context", dockerfile);
    for name in ["package.json", "package-lock.json"] {
        std::fs::write(dir.join(name), name).unwrap();
    }
    let error = store.build_fails(dockerfile, &[]);
    assert!(error.contains(" package-lock.json\n") && error.contains(" package.json\n"), "{error}");
    assert!(error.contains("when using COPY with more than one source file"), "{error}");
}

#[test]
fn what_is_ignored_is_not_there() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nCOPY . /all\nRUN ls -A /all\n";
    let dir = store.context("context", dockerfile);
    for name in ["kept", "dropped.log", "back.log"] {
        std::fs::write(dir.join(name), name).unwrap();
    }
    std::fs::write(dir.join(".dockerignore"), "*.log\n!back.log\n.dockerignore\n").unwrap();
    let said = store.builds(dockerfile, &["-t", "i"]);
    assert_eq!(store.ok(&["run", "--rm", "i", "ls", "-A", "/all"]), "Dockerfile\nback.log\nkept", "{said}");
    // A change of what is ignored is none.
    std::fs::write(dir.join("dropped.log"), "changed").unwrap();
    assert_eq!(parts_done(&store.builds(dockerfile, &[])), 0);
}

#[test]
fn the_context_is_mounted() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nRUN --mount=type=bind,target=/c cat /c/f; touch /c/x 2>&1 || true\n\
        RUN --mount=type=bind,source=d,target=/c,rw stat -c %a:%u:%g /c; touch /c/new; ls /c\n\
        RUN --mount=type=bind,source=f,target=/file cat /file; echo x 2>&1 > /file || true\n\
        RUN --mount=type=bind,source=f,target=/file,rw cat /file; echo changed > /file; cat /file\n";
    let dir = store.context("context", dockerfile);
    std::fs::write(dir.join("f"), "mounted file\n").unwrap();
    std::fs::create_dir(dir.join("d")).unwrap();
    std::fs::set_permissions(dir.join("d"), PermissionsExt::from_mode(0o1770)).unwrap();
    std::os::unix::fs::chown(dir.join("d"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::symlink("/etc", dir.join("out")).unwrap();
    let said = store.builds(dockerfile, &[]);
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    assert!(said.contains(" 1770:7:8\n") && said.contains(" new\n") && said.contains(" changed\n"), "{said}");
    assert_eq!(said.matches(" mounted file").count(), 3, "{said}");
    // What was written is thrown away.
    assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), "mounted file\n");
    assert!(std::fs::read_dir(dir.join("d")).unwrap().next().is_none());
    // A link does not lead out of the context.
    let error = store.build_fails("FROM busybox\nRUN --mount=type=bind,source=out,target=/m ls /m\n", &[]);
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn named_contexts() {
    let store = Store::new();
    let named = store.path("named");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("f"), "of a named context\n").unwrap();
    let dockerfile = "FROM base\nCOPY --from=other f /f\nRUN --mount=from=other,target=/m cat /f /m/f\n\
        RUN --mount=from=other,source=f,target=/f,rw echo changed > /f\n";
    let folder = format!("other={}", named.display());
    let args = ["--build-context", folder.as_str(), "--build-context", "base=docker-image://busybox"];
    let said = store.builds(dockerfile, &args);
    assert_eq!(said.matches("of a named context").count(), 2, "{said}");
    assert_eq!(std::fs::read_to_string(named.join("f")).unwrap(), "of a named context\n");
    // Such a folder has things that do not count of its own.
    std::fs::write(named.join(".dockerignore"), "secret\n").unwrap();
    std::fs::write(named.join("secret"), "").unwrap();
    store.builds("FROM base\nCOPY --from=other . /n/\nRUN test -f /n/f && test ! -e /n/secret\n", &args);
    let error = store.build_fails(dockerfile, &["--build-context", "other=/nosuch"]);
    assert!(error.contains("/nosuch"), "{error}");
}

#[test]
fn named_contexts_take_the_place_of_stages_and_images() {
    let store = Store::new();
    let named = store.path("named");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("f"), "of a named context\n").unwrap();
    std::fs::write(named.join("left"), "out").unwrap();
    std::fs::write(named.join(".dockerignore"), "left\n").unwrap();
    let folder = |name: &str| format!("{name}={}", named.display());
    let dockerfile = "FROM busybox AS st\nRUN false\nFROM busybox\nCOPY --from=st f /f\nCOPY --from=0 f /g\n\
        RUN --mount=from=st,target=/m cat /f /g /m/f\n";
    let said = store.builds(dockerfile, &["--build-context", &folder("st")]);
    assert_eq!(said.matches(" of a named context\n").count(), 3, "{said}");
    let image = ["--build-context", "foo=docker-image://docker.io/library/busybox"];
    let said = store.builds("FROM foo:latest\nRUN echo in foo\nFROM alpine AS foo\nRUN false\n", &image);
    assert!(said.contains("[foo 1/1] FROM docker.io/library/busybox:latest") && !said.contains("in foo"), "{said}");
    // As a base, a folder is an image of one layer.
    store.builds("FROM files:latest\nLABEL a=b\n", &["-t", "i", "--build-context", &folder("files")]);
    assert_eq!(store.inspect("i", "{{len .RootFS.Layers}} {{json .Config.Labels}}"), r#"1 {"a":"b"}"#);
    let id = store.ok(&["create", "i", "x"]);
    let listed = store.ok(&["export", &id, "-o", &store.text("tar")]) + &tar_names(&store.text("tar"));
    assert!(listed.contains("f\n") && !listed.contains("left"), "{listed}");
}

#[test]
fn a_name_is_no_number_and_no_beginning_of_an_id() {
    let store = Store::new();
    let id = store.inspect("busybox", "{{.Id}}");
    let short = id.strip_prefix("sha256:").unwrap().get(..12).unwrap();
    for (dockerfile, expected) in [
        ("FROM busybox\nCOPY --from=20 /x /\n", "invalid stage index 20"),
        ("FROM busybox\nFROM 0\n", "0:latest: not found"),
        (&format!("FROM {short}\n"), &format!("{short}:latest: not found")),
        (
            "FROM busybox AS a\nCOPY --from=later /x /\nFROM busybox AS later\nFROM a\n",
            "cannot copy from stage \"later\", it needs to be defined before current stage \"a\"",
        ),
    ] {
        let error = store.build_fails(dockerfile, &[]);
        assert!(error.contains(expected), "{dockerfile}: {error}");
    }
    let said = store.builds(&format!("FROM {id}\nRUN echo by its id\n"), &["--pull"]);
    assert!(said.contains("by its id"), "{said}");
}

#[test]
fn ids_files_and_folders_as_results() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS b\nRUN echo out > /made\nFROM scratch\nCOPY --from=b --chown=3:4 /made /made\n";
    let file = store.text("id");
    store.context("context", dockerfile);
    let quiet = store.run(&["build", "-q", "--iidfile", &file, "-t", "i", &store.text("context")]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""), "{quiet:?}");
    assert_eq!(quiet.out.trim(), store.inspect("i", "{{.Id}}"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), quiet.out.trim());
    // The folder itself stays its owner's.
    let out = store.text("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(&out, Some(1000), Some(1000)).unwrap();
    store.builds(dockerfile, &["-o", &out]);
    let folder = std::fs::metadata(&out).unwrap();
    assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (1000, 1000, 0o750));
    assert!(folder.mtime() > 1_700_000_000, "{folder:?}");
    let made = std::fs::metadata(store.path("out/made")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.len()), (3, 4, 4));
    // Again: what is there is written over, what is not the build's stays, and no link is followed.
    std::fs::write(store.path("out/mine"), "mine").unwrap();
    std::fs::remove_file(store.path("out/made")).unwrap();
    std::os::unix::fs::symlink(store.path("elsewhere"), store.path("out/made")).unwrap();
    store.builds(dockerfile, &["-o", &out]);
    assert_eq!(std::fs::read_to_string(store.path("out/made")).unwrap(), "out\n");
    assert_eq!(std::fs::read_to_string(store.path("out/mine")).unwrap(), "mine");
    assert!(!store.path("elsewhere").exists());
    std::fs::remove_file(store.path("out/made")).unwrap();
    std::fs::create_dir(store.path("out/made")).unwrap();
    let error = store.build_fails(dockerfile, &["-o", &out]);
    assert!(error.contains("made: there is a folder of this name in its place"), "{error}");
    let error = store.build_fails(dockerfile, &["-o", "type=nosuch,dest=x"]);
    assert!(error.contains("local and cacheonly are known"), "{error}");
}

#[test]
fn archives_as_results() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS b\nRUN echo out > /made\nFROM scratch\nCOPY --from=b /made /made\nCMD [\"x\"]\n";
    for kind in ["docker", "oci"] {
        let file = store.text(kind);
        store.builds(dockerfile, &["-t", "sent:1", "-o", &format!("type={kind},dest={file}")]);
        let other = Store::empty();
        assert!(other.ok(&["load", "-i", &file]).contains("sent:1"));
        assert_eq!(other.inspect("sent:1", "{{json .Config.Cmd}}"), r#"["x"]"#);
    }
    assert_eq!(store.run(&["image", "inspect", "sent:1"]).code, 1);
    let tar = store.text("tar");
    store.builds(dockerfile, &["-o", &format!("type=tar,dest={tar}")]);
    assert_eq!(tar_names(&tar).trim(), "made");
    let error = store.build_fails(dockerfile, &["-o", "type=oci"]);
    assert!(error.contains("dest is required"), "{error}");
}

#[test]
fn squashed_layers_are_one() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nRUN head -c 1m /dev/zero > /big\nRUN rm /big; echo a > /a\nRUN rm /etc/group\n";
    store.builds(dockerfile, &["-t", "s", "--squash"]);
    assert_eq!(store.inspect("s", "{{len .RootFS.Layers}}"), "2");
    assert_eq!(store.ok(&["run", "--rm", "s", "sh", "-c", "cat /a; ls /big /etc/group 2>&1 | wc -l"]), "a\n2");
    let size = |name: &str| store.inspect(name, "{{.Size}}").parse::<u64>().unwrap();
    assert!(size("s") < size("busybox") + 1000);
}

#[test]
fn bad_input_makes_nothing() {
    let store = Store::new();
    let list = || -> BTreeSet<String> { store.ok(&["images", "-aq"]).lines().map(str::to_owned).collect() };
    let mut expected_images = list();
    for (dockerfile, expected) in [
        ("FROM busybox\nFOO x\n", "dockerfile parse error on line 2: unknown instruction: FOO"),
        ("", "cannot be empty"),
        ("RUN x\n", "no build stage in current context"),
        ("FROM busybox\nCOPY nosuch /\n", "\"/nosuch\": not found in the build context"),
        ("FROM busybox\nCOPY http://x.y/z /a\n", "source can't be a URL for COPY: http://x.y/z"),
        ("FROM busybox\nCOPY ../../etc/passwd /\n", "not found in the build context"),
        ("FROM busybox\nCOPY --from=nosuch:1 /x /\n", "nosuch:1: not found"),
        ("FROM nosuch/image\n", "nosuch/image:latest: not found"),
        ("FROM busybox\nUSER nosuch\nRUN true\n", "unable to find user nosuch"),
        ("FROM busybox\nRUN --security=insecure true\n", "--allow security.insecure"),
        ("FROM busybox\nRUN --network=host true\n", "--allow network.host"),
        ("FROM busybox\nRUN [\"/nosuch\"]\n", "exit code: 127"),
        ("FROM busybox\nWORKDIR /etc/passwd\n", "no directory"),
        ("FROM busybox\nSTOPSIGNAL NOSUCH\n", "Invalid signal: NOSUCH"),
        ("FROM busybox\nEXPOSE 99999\n", "invalid containerPort: 99999"),
    ] {
        let error = store.build_fails(dockerfile, &[]);
        assert!(error.contains(expected), "{dockerfile}: {error}");
        // Only the state before a command is kept, to look around in.
        if error.contains("To look around") {
            expected_images.extend(error.split_whitespace().last().map(str::to_owned));
        }
        assert_eq!(list(), expected_images, "{dockerfile}: {error}");
    }
    let link = store.path("context/link");
    std::os::unix::fs::symlink("/etc/hostname", link).unwrap();
    let error = store.build_fails("FROM busybox\nCOPY link /x\n", &[]);
    assert!(error.contains("not found"), "{error}");
    let error = store.fails(1, &["build", &store.text("nosuch")]);
    assert!(error.contains("unable to prepare context: path"), "{error}");
    assert!(store.fails(1, &["build", "https://localhost:1/x.git"]).contains("git fetch: "));
    assert!(store.fails(1, &["build", "-t", "UPPER", &store.text("context")]).contains("must be lowercase"));
    assert!(store.fails(1, &["build", "--progress", "x", &store.text("context")]).contains("invalid progress mode"));
    assert!(store.fails(1, &["build"]).contains("PATH"));
}

#[test]
fn a_full_disk_leaves_no_half_image() {
    let store = Store::empty();
    // A small file system of its own under the store.
    let image = store.path("disk");
    std::fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
    let script = "set -e; mkfs.ext4 -q \"$1\"; mkdir -p \"$2\"; mount -o loop \"$1\" \"$2\"; rmdir \"$2\"/lost+found; shift 2; \
        \"$@\" --root \"$ROOT\" import \"$TAR\" busybox >/dev/null; \
        ! \"$@\" --root \"$ROOT\" build -t big \"$BIG\"; \
        \"$@\" --root \"$ROOT\" images; ls \"$ROOT\"/tmp; \
        \"$@\" --root \"$ROOT\" build -t small \"$SMALL\"; \"$@\" --root \"$ROOT\" images; \
        \"$@\" --root \"$ROOT\" network prune -f";
    let big = store.context("big", "FROM busybox\nRUN head -c 100m /dev/zero > /big\n");
    let small = store.context("small", "FROM busybox\nRUN echo small > /s\n");
    let mount = store.path("mount");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&image).arg(&mount);
    command.arg(crate::support::program()).arg("--state").arg(store.path("full-state"));
    command.env("ROOT", &mount).env("TAR", fixture("busybox.tar")).env("BIG", &big).env("SMALL", &small);
    let done = crate::support::done(&mut command);
    assert_eq!(done.code, 0, "{done:?}");
    // The command itself hears of it, in busybox's words.
    assert!(done.err.contains("head: standard output: I/O error\n"), "{done:?}");
    assert!(done.err.contains("did not complete successfully: exit code: 1\n"), "{done:?}");
    assert!(!done.out.contains("big ") && done.out.contains("small "), "{done:?}");
    // This store is none that is looked after by the one above.
    let bridge = minirun::network::tag(&mount);
    assert!(!Path::new("/sys/class/net").join(&bridge).exists(), "the bridge {bridge} is left");
    let _ = std::fs::remove_dir_all(store.path("full-state"));
}

#[test]
fn twenty_thousand_files() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nCOPY files /files\nRUN find /files -type f | wc -l\n";
    let dir = store.context("context", dockerfile);
    for folder in 0..200 {
        let folder = dir.join(format!("files/{folder}"));
        std::fs::create_dir_all(&folder).unwrap();
        (0..100).for_each(|n| std::fs::write(folder.join(n.to_string()), format!("{n}")).unwrap());
    }
    let said = store.builds(dockerfile, &[]);
    assert!(said.contains(" 20000\n"), "{said}");
    assert_eq!(parts_done(&store.builds(dockerfile, &[])), 0);
}
