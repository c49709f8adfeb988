//! Volumes, host folders and memory in a container: what is shared, kept, filled, refused and left alone.

use crate::support::{IMAGE, Store, done, eventually};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The output of a shell script in a container made with these flags.
fn sh(store: &Store, flags: &[&str], script: &str) -> String {
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", script]].concat())
}

/// The names of the volumes in the store.
fn volumes(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(store.root().join("volumes")).unwrap();
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn anonymous(store: &Store) -> usize {
    volumes(store).iter().filter(|n| n.len() == 64 && n.bytes().all(|b| b.is_ascii_hexdigit())).count()
}

/// A new folder in the scratch directory.
fn folder(store: &Store, name: &str) -> String {
    std::fs::create_dir_all(store.path(name)).unwrap();
    store.text(name)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

// ---- host folders and files

#[test]
fn changes_in_a_host_folder_are_seen_both_ways_at_once() {
    let store = Store::new();
    let dir = folder(&store, "shared");
    std::fs::write(store.path("shared/from-host"), "1\n").unwrap();
    let wait = "cat /s/from-host; echo 2 >/s/from-container; until [ -e /s/later ]; do sleep 0.02; done; cat /s/later";
    let id = store.ok(&["run", "-d", "-v", &format!("{dir}:/s"), IMAGE, "sh", "-c", wait]);
    eventually("the container's file", || store.path("shared/from-container").exists());
    std::fs::write(store.path("shared/later.part"), "3\n").unwrap();
    std::fs::rename(store.path("shared/later.part"), store.path("shared/later")).unwrap();
    assert_eq!(store.ok(&["wait", &id]), "0");
    assert_eq!(store.ok(&["logs", &id]), "1\n3");
    assert_eq!(read(store.path("shared/from-container")), "2\n");
    std::fs::write(store.path("shared/from-host"), "while it is stopped\n").unwrap();
    store.ok(&["start", &id]);
    store.ok(&["wait", &id]);
    assert!(store.ok(&["logs", &id]).contains("while it is stopped"));
}

#[test]
fn a_host_file_can_be_mounted_over_a_file_or_nothing() {
    let store = Store::new();
    let file = store.write("file", "mine\n");
    let flags = ["-v", &format!("{file}:/etc/os-release"), "-v", &format!("{file}:/new/place/file")];
    assert_eq!(sh(&store, &flags, "cat /etc/os-release /new/place/file; echo more >>/etc/os-release"), "mine\nmine");
    assert_eq!(read(&file), "mine\nmore\n");
    assert!(sh(&store, &[], "cat /etc/os-release").contains("busybox"), "the image's own file is not touched");
}

#[test]
fn read_only_is_for_the_container_alone() {
    let store = Store::new();
    let dir = folder(&store, "ro");
    let file = store.write("file", "x");
    let ro = format!("{dir}:/ro:ro");
    for flags in [
        ["-v", ro.as_str()],
        ["--mount", &format!("type=bind,src={dir},dst=/ro,readonly")],
        ["--mount", &format!("type=bind,source={dir},target=/ro,ro=true")],
    ] {
        let out =
            store.ok(&[&["run", "--rm"], &flags[..], &[IMAGE, "probe", "mknod", "/ro/x", "c", "1", "3"]].concat());
        assert_eq!(out, "EROFS", "{flags:?}");
    }
    let out = store.ok(&["run", "--rm", "-v", &format!("{file}:/f:ro"), IMAGE, "probe", "open", "/f", "w"]);
    assert_eq!(out, "EROFS");
    let id = store.ok(&["run", "-d", "-v", &ro, IMAGE, "sh", "-c", "until [ -e /ro/go ]; do sleep 0.02; done"]);
    std::fs::write(store.path("ro/go"), "").unwrap();
    assert_eq!(store.ok(&["wait", &id]), "0");
    assert_eq!(sh(&store, &["-v", &format!("{dir}:/rw:rw")], "touch /rw/x && echo ok"), "ok");
}

#[test]
fn read_only_covers_what_is_mounted_below_on_the_host() {
    let store = Store::new();
    let dir = folder(&store, "outer/inner");
    let outer = store.text("outer");
    let script = r#"mount -t tmpfs nested "$DIR" && echo below >"$DIR/file" && exec "$0" "$@""#;
    let wrapper = format!("export DIR; exec unshare -m --propagation private bash -c '{script}' \"$0\" \"$@\"");
    let run = |spec: &str, command: &[&str]| {
        let mut shell = store.through_shell(&wrapper, &[&["run", "--rm", "-v", spec, IMAGE], command].concat());
        let done = done(shell.env("DIR", &dir));
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    };
    assert_eq!(run(&format!("{outer}:/x"), &["cat", "/x/inner/file"]), "below\n", "nested mounts are there");
    assert_eq!(run(&format!("{outer}:/x"), &["probe", "open", "/x/inner/file", "w"]), "ok\n");
    assert_eq!(run(&format!("{outer}:/x:ro"), &["cat", "/x/inner/file"]), "below\n");
    assert_eq!(run(&format!("{outer}:/x:ro"), &["probe", "open", "/x/inner/file", "w"]), "EROFS\n");
    assert_eq!(run(&format!("{outer}:/x:ro"), &["probe", "mknod", "/x/new", "c", "1", "3"]), "EROFS\n");
    assert!(!store.path("outer/inner/file").exists());
}

#[test]
fn mounts_are_passed_on_and_taken_over_as_asked() {
    let store = Store::new();
    let dir = folder(&store, "passed");
    let run = |script: &str, args: &[&str]| {
        let prepare = r#"mount -t tmpfs t "$DIR" && mount --make-shared "$DIR" && mkdir "$DIR/sub""#;
        let wrapper =
            format!("export DIR; exec unshare -m --propagation private bash -ec '{prepare}; {script}' \"$0\" \"$@\"");
        let done = done(store.through_shell(&wrapper, args).env("DIR", &dir));
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    };
    let passed = r#""$0" "$@"; grep -c "$DIR/sub" /proc/self/mountinfo || true"#;
    for (spec, count) in [("rshared", "1"), ("rslave", "0"), ("rprivate", "0")] {
        let spec = format!("{dir}:/m:{spec}");
        let args = ["run", "--rm", "--privileged", "-v", &spec, IMAGE, "mount", "-t", "tmpfs", "x", "/m/sub"];
        assert_eq!(run(passed, &args).trim(), count, "{spec}");
    }
    let taken = r#""$0" "$@" >/dev/null; mount -t tmpfs late "$DIR/sub"; touch "$DIR/sub/file"
        "$0" "${@:1:4}" exec taking ls /m/sub; "$0" "${@:1:4}" rm -f taking >/dev/null"#;
    for (spec, seen) in [("rshared", "file"), ("rslave", "file"), ("rprivate", "")] {
        let spec = format!("{dir}:/m:{spec}");
        let args = ["run", "-d", "--name", "taking", "-v", &spec, IMAGE, "sleep", "1000"];
        assert_eq!(run(taken, &args).trim(), seen, "{spec}");
    }
}

#[test]
fn outer_mounts_come_before_inner_ones_whatever_the_order_of_asking() {
    let store = Store::new();
    let (outer, inner) = (folder(&store, "outer"), folder(&store, "inner"));
    std::fs::write(store.path("inner/file"), "inner\n").unwrap();
    std::fs::write(store.path("outer/file"), "outer\n").unwrap();
    let (a, b) = (format!("{outer}:/x"), format!("{inner}:/x/y/z"));
    for flags in [["-v", &a, "-v", &b], ["-v", &b, "-v", &a]] {
        assert_eq!(sh(&store, &flags, "cat /x/file /x/y/z/file"), "outer\ninner");
    }
    assert!(store.path("outer/y/z").is_dir(), "the place to mount on is made in the outer folder");
    assert!(!store.path("outer/y/z/file").exists());
    let flags = ["--tmpfs", "/x/y", "-v", &a];
    assert_eq!(sh(&store, &flags, "ls -A /x/y; cat /x/file"), "outer");
}

#[test]
fn a_missing_host_folder_is_made_for_v_and_refused_for_mount() {
    let store = Store::new();
    let missing = store.text("made/deep");
    let mut shell = store.through_shell(
        "umask 077; exec \"$0\" \"$@\"",
        &["run", "--rm", "-v", &format!("{missing}:/x"), IMAGE, "touch", "/x/file"],
    );
    let result = done(&mut shell);
    assert_eq!(result.code, 0, "{result:?}");
    let meta = store.path("made/deep").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o755));
    assert!(store.path("made/deep/file").exists());
    let other = store.text("other");
    let spec = format!("type=bind,src={other},dst=/x");
    let error = store.fails(125, &["run", "--name", "refused", "--mount", &spec, IMAGE, "true"]);
    let text = format!("invalid mount config for type \"bind\": bind source path does not exist: {other}");
    assert!(error.contains(&text), "{error}");
    assert!(!store.path("other").exists());
    assert_eq!(store.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_relative_host_path_is_below_the_current_folder() {
    let store = Store::new();
    folder(&store, "here");
    std::fs::write(store.path("here/file"), "found\n").unwrap();
    let mut command = store.command(&["run", "--rm", "-v", "./here:/x", IMAGE, "cat", "/x/file"]);
    assert_eq!(done(command.current_dir(store.path(""))).out, "found\n");
    let mut command = store.command(&["run", "--rm", "-v", "../here:/x", IMAGE, "cat", "/x/file"]);
    assert_eq!(done(command.current_dir(store.path("here"))).out, "found\n");
}

#[test]
fn owners_and_modes_of_a_host_folder_are_as_on_the_host() {
    let store = Store::new();
    let dir = folder(&store, "owned");
    std::os::unix::fs::chown(&dir, Some(1000), Some(2000)).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o2770)).unwrap();
    let spec = format!("{dir}:/x");
    let out =
        sh(&store, &["-u", "tim", "-v", &spec], "stat -c '%a %u:%g' /x; touch /x/file && stat -c '%u:%g' /x/file");
    assert_eq!(out, "2770 1000:2000\n1000:2000");
}

// ---- links in the image

#[test]
fn links_in_the_image_lead_mounts_to_places_inside_it() {
    let store = Store::new();
    let dir = folder(&store, "src");
    std::fs::write(store.path("src/file"), "mounted\n").unwrap();
    let mark = format!("minirun-mark-{}", std::process::id());
    store.changed_image(
        "links",
        "ln -s /etc data; ln -s ../../../../../../../.. up; ln -s /etc/hostname direct; ln -s /nowhere/at/all dangling; \
         mkdir sub; ln -s ../../../../../../../../tmp sub/out",
    );
    for (target, place) in [
        (format!("/data/{mark}"), format!("/etc/{mark}")),
        (format!("/up/{mark}"), format!("/{mark}")),
        (format!("/sub/out/{mark}/deep"), format!("/tmp/{mark}/deep")),
        (format!("/up/var/{mark}"), format!("/var/{mark}")),
    ] {
        let spec = format!("{dir}:{target}");
        let out = store.ok(&["run", "--rm", "-v", &spec, "links", "cat", &format!("{place}/file")]);
        assert_eq!(out, "mounted", "{target}");
        assert!(!Path::new(&place).exists(), "{place} was made on the host");
    }
    // The links themselves as targets.
    let out = store.ok(&["run", "--rm", "-v", &format!("{dir}:/data"), "links", "cat", "/etc/file"]);
    assert_eq!(out, "mounted");
    store.run(&["run", "--rm", "-v", &format!("{dir}:/dangling"), "links", "true"]);
    assert!(!Path::new("/nowhere").exists(), "/nowhere was made on the host");
    store.run(&["run", "--rm", "-v", &format!("{dir}:/up"), "links", "true"]);
    let file = store.write("one", "one\n");
    let host_name = read("/etc/hostname");
    store.run(&["run", "--rm", "-v", &format!("{file}:/direct"), "links", "sh", "-c", "echo x >/direct"]);
    assert_eq!(read("/etc/hostname"), host_name);
}

#[test]
fn links_in_the_image_do_not_lead_the_working_directory_out() {
    let store = Store::new();
    let mark = format!("minirun-workdir-{}", std::process::id());
    store.changed_image("links", "ln -s ../../../../../../../../tmp up; ln -s /proc/1/root proclink");
    let out = store.ok(&["run", "--rm", "-w", &format!("/up/{mark}/a"), "links", "pwd"]);
    assert_eq!(out, format!("/tmp/{mark}/a"));
    store.run(&["run", "--rm", "-w", &format!("/proclink/{mark}"), "links", "pwd"]);
    for place in [format!("/tmp/{mark}"), format!("/{mark}")] {
        assert!(!Path::new(&place).exists(), "{place} was made on the host");
    }
}

#[test]
fn proc_and_sys_that_are_links_are_refused() {
    let store = Store::new();
    for dir in ["proc", "sys"] {
        let image = format!("link-{dir}");
        store.changed_image(&image, &format!("mkdir real; rmdir {dir}; ln -s /real {dir}"));
        let error = store.fails(125, &["run", "--rm", &image, "true"]);
        assert!(error.contains(&format!("/{dir}")), "{error}");
    }
    store.changed_image("file-proc", "rmdir proc; echo x >proc");
    store.fails(125, &["run", "--rm", "file-proc", "true"]);
}

#[test]
fn a_dev_that_is_a_link_makes_nothing_outside() {
    let store = Store::new();
    let mark = format!("/tmp/minirun-dev-{}", std::process::id());
    std::fs::create_dir(&mark).unwrap();
    store.changed_image("link-dev", &format!("rmdir dev; mkdir -p .{mark}; ln -s {mark} dev"));
    store.run(&["run", "--rm", "link-dev", "true"]);
    store.run(&["run", "--rm", "--privileged", "link-dev", "true"]);
    let made = std::fs::read_dir(&mark).unwrap().count();
    std::fs::remove_dir_all(&mark).unwrap();
    assert_eq!(made, 0, "files in the host's {mark}");
}

// ---- named volumes

#[test]
fn a_named_volume_outlives_its_containers() {
    let store = Store::new();
    sh(&store, &["-v", "kept:/data"], "echo 1 >/data/file");
    assert_eq!(volumes(&store), ["kept"]);
    assert_eq!(sh(&store, &["-v", "kept:/other/place"], "cat /other/place/file"), "1");
    assert_eq!(
        sh(&store, &["--mount", "type=volume,src=kept,dst=/m,ro"], "cat /m/file; touch /m/x || echo no"),
        "1\nno"
    );
    store.ok(&["run", "--name", "user", "-v", "kept:/data", IMAGE, "true"]);
    store.ok(&["rm", "-v", "user"]);
    assert_eq!(volumes(&store), ["kept"], "rm -v is for anonymous volumes");
    let mounts = {
        store.ok(&["run", "--name", "user", "-v", "kept:/data", IMAGE, "true"]);
        store.inspect("user", "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}} {{.Source}}{{end}}")
    };
    let source = store.root().join("volumes/kept/data");
    assert_eq!(mounts, format!("volume kept /data true {}", source.display()));
}

#[test]
fn two_containers_share_a_volume_while_both_run() {
    let store = Store::new();
    let reader = "until [ -e /v/go ]; do sleep 0.02; done; cat /v/go";
    let id = store.ok(&["run", "-d", "-v", "both:/v:ro", IMAGE, "sh", "-c", reader]);
    sh(&store, &["-v", "both:/v"], "echo hello >/v/go.part; mv /v/go.part /v/go");
    store.ok(&["wait", &id]);
    assert_eq!(store.ok(&["logs", &id]), "hello");
}

#[test]
fn an_empty_volume_is_filled_from_the_image_with_owner_and_mode() {
    let store = Store::new();
    store.changed_image(
        "data",
        "mkdir -p data/sub; echo 1 >data/file; ln -s file data/link; ln data/file data/hard; \
         chmod 640 data/file; chmod 4755 data/sub; chown 1000:2000 data/file; chown 1000:1000 data; chmod 1777 data",
    );
    let look = "cd /data; stat -c '%n %a %u:%g %F' . file link sub; cat file; stat -c %h file hard; readlink link";
    let script = ["sh", "-c", look];
    let plain = store.ok(&[&["run", "--rm", "data"], &script[..]].concat());
    assert!(plain.starts_with(". 1777 1000:1000"), "{plain}");
    for volume in ["named:/data", "/data"] {
        assert_eq!(store.ok(&[&["run", "--rm", "-v", volume, "data"], &script[..]].concat()), plain, "{volume}");
    }
    // Filled once; what the user took away does not come back.
    store.ok(&["run", "--rm", "-v", "named:/data", "data", "rm", "/data/link"]);
    assert_eq!(store.ok(&["run", "--rm", "-v", "named:/data", "data", "ls", "/data"]), "file\nhard\nsub");
    assert_eq!(store.ok(&["run", "--rm", "-v", "empty:/data:nocopy", "data", "ls", "-A", "/data"]), "");
    let mount = "type=volume,src=empty-too,dst=/data,volume-nocopy";
    assert_eq!(store.ok(&["run", "--rm", "--mount", mount, "data", "ls", "-A", "/data"]), "");
    let dir = folder(&store, "bind");
    assert_eq!(store.ok(&["run", "--rm", "-v", &format!("{dir}:/data"), "data", "ls", "-A", "/data"]), "");
    assert!(PathBuf::from(dir).read_dir().unwrap().next().is_none(), "a host folder is never filled");
}

#[test]
fn an_empty_volume_is_filled_once_by_all_who_start_on_it() {
    let store = Store::new();
    store.changed_image("data", "mkdir data; (cd data; seq 1500 | xargs touch); echo image >data/a");
    for round in 0..4 {
        let volume = format!("v{round}");
        store.ok(&["volume", "create", &volume]);
        let mount = format!("{volume}:/data");
        let start = |_| store.spawn(&["run", "--rm", "-v", &mount, "data", "sh", "-c", "echo mine >>/data/a"]);
        let started: Vec<_> = (0..4).map(start).collect();
        for child in started {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let file = read(store.root().join("volumes").join(volume).join("data/a"));
        assert_eq!(file, "image\nmine\nmine\nmine\nmine\n", "round {round}");
    }
}

#[test]
fn filling_does_not_follow_links_of_the_image() {
    let store = Store::new();
    store.changed_image("links", "ln -s /etc data; mkdir real; ln -s /etc/passwd real/link");
    store.ok(&["run", "--rm", "-v", "one:/real", "links", "true"]);
    let link = store.root().join("volumes/one/data/link");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    store.ok(&["run", "--rm", "-v", "two:/data", "links", "true"]);
    let passwd = store.root().join("volumes/two/data/passwd");
    if passwd.exists() {
        assert!(read(passwd).contains("tim:"), "the image's /etc, not the host's");
    }
}

// ---- anonymous volumes

#[test]
fn the_images_volumes_are_anonymous_ones_of_each_container() {
    let store = Store::new();
    store.changed_image("tree", "mkdir one; echo 1 >one/file");
    store.ok(&["run", "--name", "make", "tree", "true"]);
    store.ok(&["commit", "-c", r#"VOLUME ["/one", "/two"]"#, "make", "vols"]);
    store.ok(&["rm", "make"]);
    assert_eq!(anonymous(&store), 0);
    store.ok(&["run", "--name", "user", "vols", "sh", "-c", "echo changed >/one/file; touch /two/new"]);
    assert_eq!(anonymous(&store), 2);
    assert_eq!(store.ok(&["run", "--rm", "vols", "cat", "/one/file"]), "1", "another container has others");
    assert_eq!(anonymous(&store), 2, "--rm takes its own away");
    store.ok(&["start", "-a", "user"]);
    assert_eq!(anonymous(&store), 2, "a second start uses the same");
    store.ok(&["rm", "user"]);
    assert_eq!(anonymous(&store), 2, "rm keeps every volume");
    store.ok(&["run", "--name", "user", "-v", "mine:/one", "-v", "/three", "vols", "true"]);
    assert_eq!(anonymous(&store), 4, "the user's mount takes the place of the image's volume");
    store.ok(&["rm", "-v", "user"]);
    assert_eq!((anonymous(&store), volumes(&store).contains(&"mine".to_owned())), (2, true));
}

#[test]
fn anonymous_volumes_go_with_the_container_only_if_asked() {
    let store = Store::new();
    store.ok(&["run", "--rm", "-v", "/data", "-v", "named:/n", IMAGE, "touch", "/data/x"]);
    assert_eq!(volumes(&store), ["named"]);
    let failed = store.run(&["run", "--rm", "-v", "/data", IMAGE, "nosuch"]);
    assert_eq!((failed.code, volumes(&store)), (127, vec!["named".to_owned()]));
    store.ok(&["run", "--name", "kept", "-v", "/data", IMAGE, "true"]);
    store.ok(&["rm", "kept"]);
    assert_eq!(anonymous(&store), 1);
    let id = store.ok(&["run", "-d", "-v", "/data", IMAGE, "sleep", "1000"]);
    assert_eq!(anonymous(&store), 2);
    store.ok(&["rm", "-f", "-v", &id]);
    assert_eq!(anonymous(&store), 1);
    let id = store.ok(&["run", "-d", "--rm", "-v", "/data", IMAGE, "sleep", "1000"]);
    store.ok(&["rm", "-f", &id]);
    eventually("the volume of the removed container to go", || anonymous(&store) == 1);
}

// ---- wrong use

#[test]
fn two_mounts_at_one_place_are_refused() {
    let store = Store::new();
    let dir = folder(&store, "src");
    let bind = format!("{dir}:/x");
    for flags in [
        ["-v", &bind, "-v", "name:/x"],
        ["-v", "/x", "--tmpfs", "/x"],
        ["-v", "/x/", "--mount", "type=tmpfs,dst=/y/../x"],
    ] {
        let error = store.fails(125, &[&["run"], &flags[..], &[IMAGE, "true"]].concat());
        assert!(error.contains("Duplicate mount point: /x"), "{flags:?}: {error}");
    }
    assert_eq!((store.ok(&["ps", "-aq"]), volumes(&store).len()), (String::new(), 0));
}

#[test]
fn bad_mounts_are_refused_in_dockers_words() {
    let store = Store::new();
    for (flag, value, text) in [
        ("-v", "/a:/b:zz", "invalid mode: zz"),
        ("-v", "/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("-v", "/a:/", "invalid specification: destination can't be '/'"),
        ("-v", "/a:relative", "invalid mount path: 'relative' mount path must be absolute"),
        ("-v", "relative/dir:/x", "includes invalid characters for a local volume name"),
        ("-v", "relative/dir:/x", "If you intended to pass a host directory, use absolute path"),
        ("-v", "../..:/..", "destination can't be '/'"),
        ("-v", "/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("-v", "/a::/b", "empty section between colons"),
        ("-v", "", "invalid empty volume spec"),
        ("-v", "/a:/b:nocopy", "invalid volume specification"),
        ("--mount", "type=bind,src=/a", "target is required"),
        ("--mount", "type=bind,dst=/x", "Source must not be empty"),
        ("--mount", "type=tmpfs,src=/a,dst=/x", "Source must not be specified"),
        ("--mount", "type=nosuch,dst=/x", "mount type unknown"),
        ("--mount", "type=volume,dst=/x,bad", "invalid field 'bad' must be a key=value pair"),
        ("--mount", "type=volume,dst=/x,bad=1", "unexpected key 'bad'"),
        ("--mount", "type=bind,src=rel,dst=/x", "mount path must be absolute"),
        ("--mount", "type=bind,src=/,dst=/x,tmpfs-size=1m", "cannot mix"),
        ("--mount", "type=bind,src=/,dst=/", "destination can't be '/'"),
        ("--mount", "type=volume,src=../x,dst=/x", "includes invalid characters"),
        ("--tmpfs", "/x:mode=9", "mode=9"),
    ] {
        let error = store.fails(125, &["run", flag, value, IMAGE, "true"]);
        assert!(error.contains(text), "{flag} {value}: {error}");
    }
    assert_eq!((store.ok(&["ps", "-aq"]), volumes(&store).len()), (String::new(), 0));
}

// ---- commit

#[test]
fn volumes_are_never_part_of_a_commit() {
    let store = Store::new();
    let dir = folder(&store, "bind");
    let flags = ["-v", "/anon", "-v", "named:/named", "-v", &format!("{dir}:/bind"), "--tmpfs", "/mem"];
    let script = "for d in /anon /named /bind /mem /plain; do mkdir -p $d; echo x >$d/file; done; echo x >>/etc/hosts";
    store.ok(&[&["run", "--name", "maker"], &flags[..], &[IMAGE, "sh", "-c", script]].concat());
    store.ok(&["commit", "maker", "made"]);
    let found = store.ok(&["run", "--rm", "made", "find", "/anon", "/named", "/bind", "/mem", "/plain"]);
    assert_eq!(found, "/anon\n/named\n/bind\n/mem\n/plain\n/plain/file");
    assert_eq!(store.inspect("made", "{{json .Config.Volumes}}"), r#"{"/anon":{}}"#);
    let layers = store.inspect("made", "{{join .RootFS.Layers \" \"}}");
    let top = layers.split(' ').next_back().unwrap().strip_prefix("sha256:").unwrap();
    let fs = store.root().join("layers").join(top).join("fs");
    assert!(fs.join("plain/file").exists());
    for absent in ["anon/file", "named/file", "bind/file", "mem/file", "etc/hosts", "etc/resolv.conf", "etc/hostname"] {
        let size = fs.join(absent).metadata().map_or(0, |m| m.len());
        assert_eq!(size, 0, "{absent} is in the layer");
    }
}

// ---- memory

#[test]
fn mounted_memory_has_its_size_and_mode_and_is_gone_afterwards() {
    let store = Store::new();
    let fill = "stat -c %a /m; dd if=/dev/zero of=/m/big bs=64k count=32 2>&1; stat -c %s /m/big; ls /m";
    for flags in [["--tmpfs", "/m:size=1m,mode=0750"], ["--mount", "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=750"]] {
        let out = sh(&store, &flags, fill);
        assert!(out.starts_with("750\n") && out.contains("No space left on device"), "{flags:?}: {out}");
        assert!(out.ends_with("1048576\nbig"), "{flags:?}: {out}");
    }
    let id = store.ok(&["run", "-d", "--tmpfs", "/m", IMAGE, "sh", "-c", "ls -A /m; touch /m/x"]);
    store.ok(&["wait", &id]);
    store.ok(&["start", &id]);
    store.ok(&["wait", &id]);
    assert_eq!(store.ok(&["logs", &id]), "", "a second run starts with an empty one");
    let out = store.ok(&["run", "--rm", "--tmpfs", "/m:ro", IMAGE, "probe", "mknod", "/m/x", "c", "1", "3"]);
    assert_eq!(out, "EROFS");
}

#[test]
fn programs_and_devices_in_mounted_memory_do_not_work_unless_asked() {
    let store = Store::new();
    let copy = "cp /bin/busybox /m/true && /m/true && echo runs";
    assert_eq!(store.run(&["run", "--rm", "--tmpfs", "/m", IMAGE, "sh", "-c", copy]).code, 126);
    assert_eq!(sh(&store, &["--tmpfs", "/m:exec"], copy), "runs");
    let node = "probe mknod /m/null c 1 3; probe open /m/null r";
    assert_eq!(sh(&store, &["--tmpfs", "/m"], node), "ok\nEACCES");
}

#[test]
fn a_mount_of_the_users_takes_the_place_of_a_default_one() {
    let store = Store::new();
    let hosts = store.write("hosts", "10.1.2.3 mine\n");
    assert_eq!(sh(&store, &["-v", &format!("{hosts}:/etc/hosts:ro")], "cat /etc/hosts"), "10.1.2.3 mine");
    let out = sh(&store, &["--tmpfs", "/dev/shm:size=2m"], "grep -c ' /dev/shm ' /proc/self/mountinfo; df -k /dev/shm");
    assert!(out.starts_with("1\n") && out.contains(" 2048 "), "{out}");
}

#[test]
fn the_hosts_devices_and_kernel_objects_are_shown_whole() {
    let store = Store::new();
    let names = |dir: &str| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.join("\n")
    };
    assert_eq!(sh(&store, &["-v", "/sys:/sys:ro"], "ls -A /sys/fs/cgroup | LC_ALL=C sort"), names("/sys/fs/cgroup"));
    // Who may write there may leave his limits.
    let escape =
        "for f in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs); do echo 0 >$f && echo $f; done 2>/dev/null";
    assert_eq!(sh(&store, &["-v", "/sys:/sys"], &format!("{escape}; true")), "");
    let mark = format!("/dev/shm/minirun-test-{}", std::process::id());
    std::fs::write(&mark, "marked\n").unwrap();
    let seen = store.run(&["run", "--rm", "-v", "/dev:/dev", IMAGE, "cat", &mark]);
    std::fs::remove_file(&mark).unwrap();
    assert_eq!((seen.code, seen.out.as_str()), (0, "marked\n"), "{seen:?}");
    let mut terminal = store.terminal(&["run", "--rm", "-t", "-v", "/dev:/dev", IMAGE, "tty"]);
    terminal.expect("/dev/pts/");
    assert_eq!(terminal.wait(), 0);
    std::fs::create_dir(store.path("mine")).unwrap();
    for place in ["/dev", "/sys"] {
        assert_eq!(sh(&store, &["-v", &format!("{}:{place}", store.text("mine"))], &format!("ls -A {place}")), "");
        assert_eq!(names(&store.text("mine")), "", "{place}");
    }
}

#[test]
fn no_image_has_a_volume_in_the_place_of_its_root() {
    let store = Store::new();
    for place in ["/", "/etc/.."] {
        store.image("odd", &[&format!("VOLUME {place}")]);
        let said = store.fails(125, &["run", "--rm", "odd", "true"]);
        assert!(said.contains("destination can't be '/'"), "{said}");
    }
}
