//! `volume …`, volumes shared between containers, and what is rarely asked of a mount.

use crate::support::{IMAGE, Store, done, eventually, slurp};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::process::{Command, Stdio};

fn volumes(store: &Store) -> Vec<String> {
    store.ok(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect()
}

fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn sh(store: &Store, flags: &[&str], script: &str) -> String {
    store.ok(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", script]].concat())
}

// ---- the commands

#[test]
fn volumes_are_made_listed_and_looked_at_as_dockers() {
    let store = Store::new();
    assert_eq!(store.ok(&["volume", "create", "--label", "a=b", "one"]), "one");
    assert_eq!(store.ok(&["volume", "create", "--label", "c=d", "one"]), "one", "it is there already");
    let generated = store.ok(&["volume", "create"]);
    assert!(is_anonymous(&generated), "{generated}");
    assert_eq!(store.ok(&["volume", "ls", "-f", "name=one"]), "DRIVER    VOLUME NAME\nlocal     one");
    assert_eq!(store.ok(&["volume", "ls", "-q", "-f", "name=^o[mn]e$"]), "one");
    assert_eq!(store.ok(&["volume", "ls", "-q", "-f", "name=^ne"]), "");
    let data = store.root().join("volumes/one/data");
    let shown = store.ok(&["volume", "inspect", "one"]);
    let created = store.ok(&["volume", "inspect", "-f", "{{.CreatedAt}}", "one"]);
    assert!(created.ends_with('Z') && created.len() == 20, "{created}");
    let expected = format!(
        "[\n    {{\n        \"CreatedAt\": \"{created}\",\n        \"Driver\": \"local\",\n        \"Labels\": {{\n            \
         \"a\": \"b\"\n        }},\n        \"Mountpoint\": \"{}\",\n        \"Name\": \"one\",\n        \
         \"Options\": {{}},\n        \"Scope\": \"local\"\n    }}\n]",
        data.display()
    );
    assert_eq!(shown, expected);
    let json = store.ok(&["volume", "ls", "--format", "{{json .}}", "-f", "label=a=b"]);
    assert!(json.contains("\"Labels\":\"a=b\"") && json.contains("\"Links\":\"N/A\""), "{json}");
    let done = store.run(&["volume", "inspect", "one", "nosuch"]);
    assert!(done.code == 1 && done.err == "Error: No such volume: nosuch\n", "{done:?}");
    assert_eq!(store.run(&["volume", "exists", "one"]).code, 0);
    assert_eq!(store.run(&["volume", "exists", "../one"]).code, 1);
    assert_eq!(store.run(&["volume", "exists", "nosuch"]).code, 1);
    store.ok(&["run", "--name", "user", "-v", "one:/x", IMAGE, "true"]);
    assert_eq!(store.ok(&["volume", "ls", "-q", "-f", "dangling=true"]), generated);
    assert_eq!(store.ok(&["volume", "ls", "-q", "-f", "dangling=false"]), "one");
    for (args, text) in [
        (&["create", "x"][..], "create x: volume name is too short"),
        (&["create", "../xx"], "includes invalid characters for a local volume name"),
        (&["create", "-d", "nosuch", "xx"], "error looking up volume plugin nosuch"),
        (&["create", "-o", "foo=bar", "xx"], "create xx: invalid option: \"foo\""),
        (&["create", "-o", "type=tmpfs", "xx"], "create xx: missing required option: \"device\""),
        (&["ls", "-f", "bad=1"], "Invalid filter 'bad'"),
    ] {
        let error = store.fails(1, &[&["volume"], args].concat());
        assert!(error.contains(text), "{args:?}: {error}");
    }
}

#[test]
fn a_volume_in_use_stays() {
    let store = Store::new();
    let id = store.ok(&["create", "--name", "user", "-v", "used:/x", IMAGE, "true"]);
    store.ok(&["volume", "create", "free"]);
    let done = store.run(&["volume", "rm", "used", "nosuch", "free"]);
    let expected = format!("Error: remove used: volume is in use - [{id}]\nError: No such volume: nosuch\n");
    assert_eq!((done.code, done.out.as_str(), done.err), (1, "free\n", expected));
    assert_eq!(store.ok(&["volume", "rm", "-f", "nosuch"]), "nosuch");
    let error = store.fails(1, &["volume", "rename", "used", "other"]);
    assert!(error.contains("volume is in use"), "{error}");
    store.ok(&["rm", "user"]);
    assert_eq!(store.ok(&["volume", "rm", "used"]), "used");
    assert_eq!(volumes(&store), Vec::<String>::new());
}

#[test]
fn unused_volumes_are_pruned_those_with_names_only_if_asked() {
    let store = Store::new();
    sh(&store, &["-v", "named:/x", "-v", "kept:/y"], "echo 12345 >/x/file");
    store.ok(&["run", "--name", "user", "-v", "kept:/y", "-v", "/anon", IMAGE, "true"]);
    store.ok(&["volume", "create", "--label", "keep", "labelled"]);
    let unused = store.ok(&["volume", "create"]);
    let asked = store.run_with_input(&["volume", "prune"], b"n\n");
    assert!(asked.out.contains("[y/N]") && volumes(&store).contains(&unused), "{asked:?}");
    let pruned = store.ok(&["volume", "prune", "-f"]);
    assert_eq!(pruned, format!("Deleted Volumes:\n{unused}\n\nTotal reclaimed space: 0B"));
    assert_eq!(store.ok(&["volume", "prune", "-f"]), "Total reclaimed space: 0B");
    let pruned = store.ok(&["volume", "prune", "-a", "-f", "--filter", "label!=keep"]);
    assert_eq!(pruned, "Deleted Volumes:\nnamed\n\nTotal reclaimed space: 6B");
    assert_eq!(volumes(&store).len(), 3, "those in use and the labelled one");
    store.ok(&["system", "prune", "-f"]);
    assert_eq!(volumes(&store).len(), 3, "a container is pruned without its volumes");
    let pruned = store.ok(&["system", "prune", "-f", "--volumes"]);
    assert!(pruned.starts_with("Deleted Volumes:\n"), "{pruned}");
    assert_eq!(volumes(&store), ["kept", "labelled"]);
}

#[test]
fn volumes_are_exported_imported_cloned_and_renamed() {
    let store = Store::new();
    let script = "cd /x; mkdir sub; echo 1 >sub/f; ln -s f sub/link; chown 7:8 sub/f; chmod 2750 sub; chmod 1777 .";
    sh(&store, &["-v", "from:/x"], script);
    let look =
        |name: &str| sh(&store, &["-v", &format!("{name}:/x")], "cd /x; stat -c '%n %a %u:%g' . sub sub/*; cat sub/f");
    let archive = store.run(&["volume", "export", "from"]);
    store.ok(&["volume", "export", "-o", &store.text("from.tar"), "from"]);
    assert_eq!(archive.raw, slurp(store.path("from.tar")));
    let made = store.run_with_input(&["volume", "import", "by-stream"], &archive.raw);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(done(Command::new("gzip").arg(store.path("from.tar"))).code == 0);
    store.ok(&["volume", "import", "by-file", &store.text("from.tar.gz")]);
    assert_eq!(store.ok(&["volume", "clone", "from", "by-clone"]), "by-clone");
    for name in ["by-stream", "by-file", "by-clone"] {
        let (found, original) = (look(name), look("from"));
        assert_eq!(found.lines().skip(1).collect::<Vec<_>>(), original.lines().skip(1).collect::<Vec<_>>(), "{name}");
    }
    // More is added to what is there.
    sh(&store, &["-v", "by-file:/x"], "rm /x/sub/f; echo mine >/x/mine");
    store.ok(&["volume", "import", "by-file", &store.text("from.tar.gz")]);
    assert_eq!(sh(&store, &["-v", "by-file:/x"], "cat /x/mine /x/sub/f"), "mine\n1");
    store.ok(&["volume", "rename", "by-clone", "renamed"]);
    assert_eq!(look("renamed").lines().count(), 5);
    assert!(!volumes(&store).contains(&"by-clone".to_owned()));
    for (args, text) in [
        (&["rename", "renamed", "from"][..], "already exists"),
        (&["clone", "from", "renamed"], "already exists"),
        (&["clone", "nosuch", "xx"], "No such volume: nosuch"),
        (&["export", "nosuch"], "No such volume: nosuch"),
        (&["import", "fresh", "/etc/passwd"], "import into the volume fresh"),
    ] {
        let error = store.fails(1, &[&["volume"], args].concat());
        assert!(error.contains(text), "{args:?}: {error}");
    }
    let broken = store.run_with_input(&["volume", "import", "from"], &archive.raw[..archive.raw.len() / 2]);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert_eq!(look("from").lines().count(), 5);
    assert!(!volumes(&store).contains(&"fresh".to_owned()), "a broken archive makes no volume");
}

#[test]
fn a_hostile_archive_stays_inside_the_volume() {
    let store = Store::new();
    let mark = format!("minirun-volume-{}", std::process::id());
    let script = format!(
        "ln -s /etc way; tar -c way >a.tar; rm way; mkdir way; echo x >way/{mark}; tar -rf a.tar way/{mark}; \
                          tar -cPf b.tar ../files/a.tar"
    );
    assert_eq!(done(Command::new("sh").args(["-c", &script]).current_dir(store.path(""))).code, 0);
    for archive in ["a.tar", "b.tar"] {
        store.fails(1, &["volume", "import", "victim", &store.text(archive)]);
    }
    assert!(!std::path::Path::new("/etc").join(mark).exists());
    assert_eq!(volumes(&store), Vec::<String>::new());
}

#[test]
fn options_of_a_volume_choose_what_is_mounted() {
    let store = Store::new();
    std::fs::create_dir(store.path("place")).unwrap();
    let device = format!("device={}", store.text("place"));
    store.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "folder"]);
    sh(&store, &["-v", "folder:/x"], "echo 1 >/x/file");
    assert_eq!(slurp(store.path("place/file")), b"1\n");
    assert_eq!(store.ok(&["volume", "create", "--name", "as-of-old"]), "as-of-old");
    store.ok(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", "memory"]);
    assert_eq!(
        sh(&store, &["-v", "memory:/x"], "stat -fc %T /x; stat -c %u /x; df -k /x | tail -1 | tr -s ' '"),
        "tmpfs\n7\ntmpfs 1024 0 1024 0% /x"
    );
    let flag = "type=volume,src=asked,dst=/x,volume-label=who=me,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
    assert_eq!(sh(&store, &["--mount", flag], "stat -fc %T /x"), "tmpfs");
    assert_eq!(store.ok(&["volume", "inspect", "-f", "{{.Labels.who}} {{.Options.type}}", "asked"]), "me tmpfs");
    store.ok(&["volume", "rm", "folder"]);
    assert!(store.path("place/file").exists(), "the volume goes, what it stood for stays");
}

#[test]
fn a_volume_is_read_only_if_its_options_say_so() {
    let store = Store::new();
    std::fs::create_dir(store.path("place")).unwrap();
    let device = format!("device={}", store.text("place"));
    for (name, options) in [("after", "bind,ro,noexec"), ("before", "ro,bind")] {
        let option = format!("o={options}");
        store.ok(&["volume", "create", "-o", "type=none", "-o", &option, "-o", &device, name]);
        let flag = format!("{name}:/home");
        let done = store.run(&["run", "--rm", "-v", &flag, IMAGE, "touch", "/home/oops"]);
        assert!(done.code == 1 && done.err.contains("Read-only file system"), "{done:?}");
    }
    assert!(sh(&store, &["-v", "after:/x"], "grep ' /x ' /proc/self/mountinfo").contains("ro,noexec"));
    store.ok(&["create", "--name", "box", "-v", "after:/x", IMAGE, "true"]);
    let error = store.fails(1, &["cp", "/etc/passwd", "box:/x/"]);
    assert!(error.contains("read-only"), "{error}");
    assert_eq!(std::fs::read_dir(store.path("place")).unwrap().count(), 0);
    store.ok(&["volume", "create", "-o", "type=tmpfs", "-o", "o=ro", "-o", "device=tmpfs", "memory"]);
    let done = store.run(&["run", "--rm", "-v", "memory:/x", IMAGE, "touch", "/x/oops"]);
    assert!(done.code == 1 && done.err.contains("Read-only file system"), "{done:?}");
    let asked = ["volume", "create", "-o", "type=none", "-o", "o=bind,uid=7", "-o", &device, "bad"];
    let error = store.fails(1, &asked);
    assert!(error.contains("a bind mount cannot be \"uid=7\""), "{error}");
    // One that is there keeps its own, also if they would be refused now.
    store.ok(&["volume", "create", "bad"]);
    assert_eq!(store.ok(&asked), "bad");
}

#[test]
fn a_volumes_options_are_all_that_a_bind_mount_may_have() {
    let store = Store::new();
    std::fs::create_dir(store.path("place")).unwrap();
    let device = format!("device={}", store.text("place"));
    for (words, mark) in [
        ("defaults,async,diratime,norelatime", None),
        ("private", None),
        ("rprivate", None),
        ("slave", Some("master:")),
        ("rslave", Some("master:")),
        ("shared", Some("shared:")),
        ("rshared", Some("shared:")),
    ] {
        let option = format!("o=bind,{words}");
        store.ok(&["volume", "create", "-o", "type=none", "-o", &option, "-o", &device, "passed"]);
        let wrapper = r#"exec unshare -m --propagation private bash -ec 'mount --bind "$DIR" "$DIR"
            mount --make-shared "$DIR"; exec "$0" "$@"' "$0" "$@""#;
        let script = ["run", "--rm", "-v", "passed:/x", IMAGE, "grep", " /x ", "/proc/self/mountinfo"];
        let shown = done(store.through_shell(wrapper, &script).env("DIR", store.path("place")));
        assert_eq!(shown.code, 0, "{shown:?}");
        let marks = ["master:", "shared:"].into_iter().find(|mark| shown.out.contains(mark));
        assert_eq!(marks, mark, "{words}: {shown:?}");
        store.ok(&["volume", "rm", "passed"]);
    }
}

#[test]
fn a_volume_with_options_holds_what_they_name() {
    let store = Store::new();
    std::fs::create_dir(store.path("place")).unwrap();
    store.write("place/file", "there\n");
    let device = format!("device={}", store.text("place"));
    store.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "folder"]);
    let archive = store.run(&["volume", "export", "folder"]);
    assert_eq!(store.run_with_input(&["volume", "import", "copy"], &archive.raw).code, 0);
    assert_eq!(sh(&store, &["-v", "copy:/x"], "cat /x/file"), "there");
    store.ok(&["volume", "clone", "folder", "clone"]);
    assert_eq!(sh(&store, &["-v", "clone:/x"], "cat /x/file; echo mine >/x/file"), "there");
    assert_eq!(slurp(store.path("place/file")), b"there\n", "a clone has its own");
    sh(&store, &["-v", "copy:/x"], "rm /x/file; echo added >/x/added");
    let archive = store.run(&["volume", "export", "copy"]);
    assert_eq!(store.run_with_input(&["volume", "import", "folder"], &archive.raw).code, 0);
    assert_eq!(slurp(store.path("place/added")), b"added\n");
    // On another file system, too, an empty one is filled from the image.
    let memory = Store::in_memory();
    std::fs::create_dir(memory.path("empty")).unwrap();
    let device = format!("device={}", memory.text("empty"));
    store.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "fresh"]);
    assert_eq!(
        sh(&store, &["-v", "fresh:/etc"], "cat /etc/os-release | grep -c ."),
        sh(&store, &[], "grep -c . /etc/os-release")
    );
    assert!(memory.path("empty/os-release").exists());
    store.ok(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"]);
    for args in [&["export", "memory"][..], &["clone", "memory", "other"], &["import", "memory", &store.text("tar")]] {
        std::fs::write(store.path("tar"), &archive.raw).unwrap();
        let error = store.fails(1, &[&["volume"], args].concat());
        assert!(error.contains("the volume memory is a file system (tmpfs on tmpfs)"), "{args:?}: {error}");
    }
}

#[test]
fn an_export_leaves_devices_what_they_are() {
    let store = Store::new();
    store.ok(&["volume", "create", "vol"]);
    let node = store.text("null");
    assert_eq!(done(Command::new("mknod").args([node.as_str(), "c", "1", "3"])).code, 0);
    store.ok(&["volume", "export", "-o", &node, "vol"]);
    assert!(!std::fs::symlink_metadata(&node).unwrap().is_file());
}

#[test]
fn what_a_damaged_container_may_use_is_kept() {
    let store = Store::new();
    store.ok(&["create", "--name", "first", "-v", "/x", IMAGE, "true"]);
    let heir = store.ok(&["create", "--volumes-from", "first", IMAGE, "true"]);
    std::fs::write(store.root().join("containers").join(&heir).join("container.json"), "{").unwrap();
    store.ok(&["rm", "-v", "first"]);
    assert_eq!(volumes(&store).len(), 1);
    store.ok(&["rm", "-f", &heir]);
}

// ---- shared between containers

#[test]
fn data_volume_containers_inherit_from_one_another() {
    let store = Store::new();
    store.ok(&[
        "import",
        "-c",
        "VOLUME /dataVolume1 /dataVolume2",
        crate::support::fixture("busybox.tar").to_str().unwrap(),
        "data",
    ]);
    let run = |name: &str, flags: &[&str], script: &str| {
        store.ok(&[&["run", "-d", "--name", name], flags, &["data", "sh", "-c", &format!("{script}; exec sleep 1000")]]
            .concat())
    };
    run("dc01", &[], "echo dc01 >/dataVolume1/dc01");
    let names = volumes(&store);
    assert!(names.len() == 2 && names.iter().all(|n| is_anonymous(n)), "{names:?}");
    eventually("dc01", || store.run(&["exec", "dc01", "cat", "/dataVolume1/dc01"]).code == 0);
    run("dc02", &["--volumes-from", "dc01"], "echo dc02 >/dataVolume1/dc02");
    run("dc03", &["--volumes-from", "dc02"], "echo dc03 >/dataVolume1/dc03");
    assert_eq!(volumes(&store), names, "heirs have no volumes of their own");
    let all = "dc01\ndc02\ndc03";
    for name in ["dc01", "dc02", "dc03"] {
        eventually(name, || store.ok(&["exec", name, "ls", "/dataVolume1"]) == all);
    }
    let place = |name: &str| store.inspect(name, "{{range .Mounts}}{{.Destination}} {{.Name}} {{.RW}} {{end}}");
    assert_eq!(place("dc03"), place("dc01"));
    assert_eq!(store.inspect("dc03", "{{json .HostConfig.VolumesFrom}}"), "[\"dc02\"]");
    store.ok(&["rm", "-f", "-v", "dc01"]);
    assert_eq!(volumes(&store), names, "the others still use them");
    store.ok(&["exec", "dc02", "sh", "-c", "echo later >/dataVolume1/later"]);
    assert_eq!(store.ok(&["exec", "dc03", "cat", "/dataVolume1/dc01", "/dataVolume1/later"]), "dc01\nlater");
    store.ok(&["kill", "dc03"]);
    store.ok(&["rm", "-f", "dc02"]);
    store.ok(&["start", "dc03"]);
    assert_eq!(store.ok(&["exec", "dc03", "cat", "/dataVolume1/dc02"]), "dc02");
    assert_eq!(volumes(&store), names);
    store.ok(&["rm", "-f", "-v", "dc03"]);
    assert_eq!(volumes(&store), Vec::<String>::new(), "the last one takes them along if asked");
}

#[test]
fn what_is_inherited_can_be_read_only_and_ones_own_comes_first() {
    let store = Store::new();
    let dir = store.text("bind");
    std::fs::create_dir(&dir).unwrap();
    let flags = ["-v", "vol:/vol", "-v", &format!("{dir}:/bind"), "-v", "ro:/ro:ro", "--tmpfs", "/mem"];
    store.ok(&[&["run", "--name", "base"], &flags[..], &[IMAGE, "sh", "-c", "echo 1 >/vol/f; echo 2 >/bind/f"]].concat());
    let write =
        "for d in /vol /bind /ro; do touch $d/x 2>/dev/null && echo $d; done; cat /vol/f /bind/f; ls -d /mem 2>&1";
    let missing = "ls: /mem: No such file or directory";
    let read = |from: &str| {
        let done = store.run(&["run", "--rm", "--volumes-from", from, IMAGE, "sh", "-c", write]);
        done.out
    };
    assert_eq!(read("base"), format!("/vol\n/bind\n1\n2\n{missing}\n"));
    assert_eq!(read("base:ro"), format!("1\n2\n{missing}\n"));
    assert_eq!(read("base:rw,z"), format!("/vol\n/bind\n1\n2\n{missing}\n"), "read-only stays read-only");
    assert_eq!(sh(&store, &["--volumes-from", "base", "-v", "other:/vol"], "ls /vol; cat /bind/f"), "2");
    store.ok(&["create", "--name", "second", "-v", "second:/vol", IMAGE, "true"]);
    store.ok(&["create", "--name", "heir", "--volumes-from", "base", "--volumes-from", "second", IMAGE, "true"]);
    let names = store.inspect("heir", "{{range .Mounts}}{{.Destination}}={{.Source}} {{end}}");
    assert!(names.contains("/second/data") && !names.contains("/vol/data"), "{names}");
    for (spec, text) in [
        ("nosuch", "No such container: nosuch"),
        ("base:zz", "invalid mode: zz"),
        ("base:nocopy", "invalid mode: nocopy"),
        ("", "volumes-from specification cannot be an empty string"),
    ] {
        let error = store.fails(125, &["run", "--volumes-from", spec, IMAGE, "true"]);
        assert!(error.contains(text), "{spec}: {error}");
    }
    assert_eq!(store.ok(&["ps", "-aq", "-f", "volume=vol"]).lines().count(), 1);
    assert_eq!(store.ok(&["ps", "-aq", "-f", &format!("volume={dir}")]).lines().count(), 2);
    assert_eq!(store.ok(&["ps", "-aq", "-f", "volume=/vol"]).lines().count(), 3);
}

#[test]
fn mounts_are_shown_as_docker_shows_them() {
    let store = Store::new();
    let dir = store.text("bind");
    std::fs::create_dir(&dir).unwrap();
    let (bind, ro) = (format!("{dir}:/a"), format!("{dir}:/b:ro"));
    let flags = ["-v", &bind, "-v", &ro, "-v", "vol:/c", "-v", "/d", "--mount", "type=volume,src=vol,dst=/e,readonly"];
    let more = ["--mount", "type=tmpfs,dst=/f", "--tmpfs", "/g:size=1m"];
    store.ok(&[&["create", "--name", "box"], &flags[..], &more, &[IMAGE, "true"]].concat());
    let template = "{{range .Mounts}}{{.Type}} {{.Destination}} {{.Mode}} {{.RW}} {{.Propagation}}\n{{end}}";
    let expected = "bind /a  true rprivate\nbind /b ro false rprivate\nvolume /c z true \nvolume /d  true \n\
                    volume /e z false \ntmpfs /f  true \n";
    assert_eq!(store.inspect("box", template), expected);
    assert_eq!(store.inspect("box", "{{json .HostConfig.Tmpfs}}"), "{\"/g\":\"size=1048576\"}");
    assert_eq!(store.inspect("box", "{{(index .Mounts 2).Driver}} {{(index .Mounts 2).Name}}"), "local vol");
}

#[test]
fn what_was_asked_for_is_shown_as_docker_shows_it() {
    let store = Store::new();
    let asked = [
        ("volume,src=vol,dst=/a", r#"{"Source":"vol","Target":"/a","Type":"volume"}"#),
        (
            "volume,dst=/b,ro,volume-nocopy",
            r#"{"ReadOnly":true,"Target":"/b","Type":"volume","VolumeOptions":{"NoCopy":true}}"#,
        ),
        (
            "volume,src=new,dst=/c,volume-label=k=v,volume-opt=type=tmpfs,volume-opt=device=tmpfs",
            r#"{"Source":"new","Target":"/c","Type":"volume","VolumeOptions":{"DriverConfig":{"Options":{"device":"tmpfs","type":"tmpfs"}},"Labels":{"k":"v"}}}"#,
        ),
        (
            "bind,src=/etc,dst=/d,readonly,bind-propagation=rslave,bind-recursive=writable",
            r#"{"BindOptions":{"Propagation":"rslave","ReadOnlyNonRecursive":true},"ReadOnly":true,"Source":"/etc","Target":"/d","Type":"bind"}"#,
        ),
        (
            "tmpfs,dst=/e,tmpfs-size=1m,tmpfs-mode=700",
            r#"{"Target":"/e","TmpfsOptions":{"Mode":448,"SizeBytes":1048576},"Type":"tmpfs"}"#,
        ),
        ("tmpfs,dst=/f", r#"{"Target":"/f","Type":"tmpfs"}"#),
    ];
    let mounts: Vec<String> = asked.iter().map(|(words, _)| format!("--mount=type={words}")).collect();
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    store.ok(&[&["create", "--name", "box", "-v", "vol:/g", "-v", "/h"], &mounts[..], &[IMAGE, "true"]].concat());
    let expected: Vec<&str> = asked.iter().map(|(_, shown)| *shown).collect();
    assert_eq!(store.inspect("box", "{{json .HostConfig.Mounts}}"), format!("[{}]", expected.join(",")));
    assert_eq!(store.inspect("box", "{{json .HostConfig.Binds}}"), r#"["vol:/g"]"#);
    let modes = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Destination}}={{.Mode}} {{end}}{{end}}";
    assert_eq!(store.inspect("box", modes), "/g=z /h= /a=z /b=z /c=z ");

    store.ok(&["create", "--name", "without", IMAGE, "true"]);
    assert_eq!(store.inspect("without", "{{json .HostConfig.Mounts}}"), "null");
    assert!(!store.ok(&["inspect", "without"]).contains("\"Mounts\": null"));
}

// ---- rarely asked

#[test]
fn files_of_the_hosts_user_are_the_containers_users() {
    let store = Store::new();
    std::fs::create_dir_all(store.path("home/sub")).unwrap();
    store.write("home/file", "x\n");
    for name in ["home", "home/sub", "home/file"] {
        chown(store.path(name), Some(4321), Some(4322)).unwrap();
    }
    let spec = format!("{}:/home/tim:idmap", store.text("home"));
    let script = "stat -c '%u:%g' /home/tim /home/tim/file; echo y >>/home/tim/file; mkdir /home/tim/new";
    assert_eq!(sh(&store, &["-u", "tim", "-v", &spec], script), "1000:1000\n1000:1000");
    assert_eq!(sh(&store, &["-v", &spec], "stat -c '%u:%g' /home/tim"), "0:0");
    let owner = |name: &str| store.path(name).metadata().map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!((owner("home/file"), owner("home/new")), ((4321, 4322), (4321, 4322)), "on the host all is his");
    // Given away for good.
    symlink("/etc/passwd", store.path("home/link")).unwrap();
    let spec = format!("{}:/home/tim:U", store.text("home"));
    assert_eq!(sh(&store, &["-u", "tim", "-v", &spec], "stat -c '%u:%g' /home/tim/file"), "1000:1000");
    assert_eq!((owner("home/sub"), owner("home")), ((1000, 1000), (1000, 1000)));
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), 0, "links are not followed");
}

#[test]
fn a_part_of_a_volume_is_mounted_and_never_what_is_outside() {
    let store = Store::new();
    sh(
        &store,
        &["-v", "vol:/v"],
        "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s /etc /v/abs; ln -s ../../../.. /v/up; ln -s a /v/in",
    );
    let part = |path: &str, script: &str| {
        let flag = format!("type=volume,src=vol,dst=/x,volume-subpath={path}");
        store.run(&["run", "--rm", "--mount", &flag, IMAGE, "sh", "-c", script])
    };
    assert_eq!(part("a/b", "cat /x/f; echo new >/x/g").out, "deep\n");
    assert_eq!(part("in/b/g", "cat /x").out, "new\n", "a file, through a link that stays inside");
    let up = part("up", "ls /x");
    assert_eq!(up.out, "a\nabs\nin\nup\n", "above the volume there is nothing");
    let missing = part("abs", "ls /x");
    assert!(missing.code == 125 && missing.err.contains("cannot access path"), "{missing:?}");
    let error = store.fails(125, &["run", "--mount", "type=volume,src=vol,dst=/x,volume-subpath=../x", IMAGE, "true"]);
    assert!(error.contains("must be relative and stay in the volume"), "{error}");
}

#[test]
fn an_image_is_mounted_read_only_and_stays_while_it_is() {
    let store = Store::new();
    store.committed_image(IMAGE, "two", "echo 1 >/new; rm /etc/os-release");
    let run = |image: &str, more: &str, script: &str| {
        let flag = format!("type=image,source={image},target=/i{more}");
        store.run(&["run", "--name", "box", "--mount", &flag, IMAGE, "sh", "-c", script])
    };
    let done = run("two", "", "cat /i/new; ls /i/etc/os-release; touch /i/x");
    assert_eq!(done.out, "1\n");
    assert!(done.err.contains("/i/etc/os-release: No such file") && done.err.contains("Read-only"), "{done:?}");
    assert_eq!(store.inspect("box", "{{range .Mounts}}{{.Type}} {{.Source}} {{.RW}}{{end}}"), "image two false");
    let error = store.fails(1, &["rmi", "two"]);
    assert!(error.contains("is using its referenced image"), "{error}");
    store.ok(&["start", "box"]);
    store.ok(&["wait", "box"]);
    store.ok(&["rm", "box"]);
    store.ok(&["rmi", "two"]);
    let done = run(IMAGE, ",image-subpath=etc", "ls /i/passwd; touch /i/x");
    assert!(done.out == "/i/passwd\n" && done.err.contains("Read-only"), "{done:?}");
    store.ok(&["rm", "box"]);
    let done = run("nosuch", "", "true");
    assert!(done.code == 125 && done.err.contains("No such image: nosuch"), "{done:?}");
}

#[test]
fn what_happens_to_volumes_is_told() {
    let store = Store::new();
    store.ok(&["volume", "create", "told"]);
    store.ok(&["volume", "rm", "told"]);
    let shown = store.ok(&["events", "--since", "1", "--until", "0s", "--filter", "type=volume"]);
    let actions: Vec<&str> = shown.lines().filter_map(|l| l.split(' ').nth(2)).collect();
    assert_eq!(actions, ["create", "destroy"], "{shown}");
    assert!(shown.contains("volume create told (driver=local)"), "{shown}");
}

#[test]
fn mounts_below_a_host_folder_come_along_as_asked() {
    let store = Store::new();
    std::fs::create_dir_all(store.path("outer/inner")).unwrap();
    let script = r#"mount -t tmpfs nested "$DIR" && echo below >"$DIR/file" && exec "$0" "$@""#;
    let wrapper = format!("export DIR; exec unshare -m --propagation private bash -c '{script}' \"$0\" \"$@\"");
    let run = |options: &str, command: &[&str]| {
        let flag = format!("type=bind,src={},dst=/x{options}", store.text("outer"));
        let mut shell = store.through_shell(&wrapper, &[&["run", "--rm", "--mount", &flag, IMAGE], command].concat());
        done(shell.env("DIR", store.text("outer/inner"))).out
    };
    let write = ["probe", "open", "/x/inner/file", "w"];
    assert_eq!(run("", &write), "ok\n");
    assert_eq!(run(",readonly", &write), "EROFS\n");
    assert_eq!(run(",readonly,bind-recursive=writable", &write), "ok\n");
    assert_eq!(run(",readonly,bind-propagation=rprivate,bind-recursive=readonly", &write), "EROFS\n");
    for option in [",bind-nonrecursive", ",bind-recursive=disabled"] {
        assert_eq!(run(option, &["ls", "/x/inner"]), "", "{option}");
    }
}

#[test]
fn a_commit_takes_the_volumes_along_if_asked() {
    let store = Store::new();
    store.changed_image("tree", "mkdir -p opt/data; echo image >opt/data/image; chmod 711 opt; ln -s opt link");
    let script = "echo 1 >/link/data/f; rm /opt/data/image; echo 2 >/anon/f; chmod 1770 /anon; echo 3 >/own";
    store.ok(&["run", "--name", "box", "-v", "named:/link/data", "-v", "/anon", "tree", "sh", "-ec", script]);
    store.ok(&["commit", "box", "plain"]);
    store.ok(&["commit", "--with-volumes", "-c", "LABEL a=b", "box", "full"]);
    let found = |image: &str| {
        let look = "ls /opt/data /anon; cat /own; stat -c '%n %a' /opt /anon";
        store.ok(&["run", "--rm", image, "sh", "-c", look])
    };
    assert_eq!(found("plain"), "/anon:\n\n/opt/data:\nimage\n3\n/opt 711\n/anon 755");
    assert_eq!(found("full"), "/anon:\nf\n\n/opt/data:\nf\n3\n/opt 711\n/anon 1770");
    assert_eq!(store.inspect("full", "{{len .RootFS.Layers}} {{.Config.Labels.a}}"), "3 b");
    assert_eq!(store.ok(&["commit", "--with-volumes", "box"]).len(), 71);
}

// ---- at the same time, and killed

#[test]
fn volumes_are_not_removed_from_under_containers_in_the_making() {
    let store = Store::new();
    let quiet = |args: &[&str]| {
        let mut command = store.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for _ in 0..4 {
        sh(&store, &["-v", "shared:/v"], "echo data >/v/f");
        let mut all: Vec<_> = (0..3)
            .map(|n| quiet(&["create", "--name", &format!("box{n}"), "-v", "shared:/v", IMAGE, "true"]))
            .collect();
        all.push(quiet(&["volume", "rm", "shared"]));
        all.push(quiet(&["volume", "prune", "-a", "-f"]));
        let codes: Vec<_> = all.iter_mut().map(|c| c.wait().unwrap().success()).collect();
        assert_eq!(codes[..3], [true; 3], "{codes:?}");
        assert!(store.root().join("volumes/shared/data").is_dir(), "in use, so it is there");
        store.ok(&["rm", "box0", "box1", "box2"]);
    }
    // The last user goes while an heir comes.
    for _ in 0..4 {
        store.ok(&["run", "--name", "first", "-v", "/anon", IMAGE, "sh", "-c", "echo data >/anon/f"]);
        let mut remove = quiet(&["rm", "-v", "first"]);
        let mut inherit = quiet(&["create", "--name", "heir", "--volumes-from", "first", IMAGE, "cat", "/anon/f"]);
        assert!(remove.wait().unwrap().success());
        if inherit.wait().unwrap().success() {
            assert_eq!(store.ok(&["start", "-a", "heir"]), "data");
            store.ok(&["rm", "-v", "heir"]);
        }
        assert_eq!(volumes(&store), ["shared"], "the last user takes it along");
    }
}

#[test]
fn a_volume_is_filled_whole_or_not_there() {
    let store = Store::new();
    store.changed_image("tree", "mkdir data; for i in $(seq 300); do echo $i >data/$i; done");
    for delay in 0..12 {
        let mut client = store.spawn(&["create", "--name", "box", "-v", "filled:/data", "tree", "true"]);
        std::thread::sleep(std::time::Duration::from_millis(delay * 3));
        let _ = client.kill();
        client.wait().unwrap();
        let data = store.root().join("volumes/filled/data");
        if data.exists() {
            assert_eq!(std::fs::read_dir(data).unwrap().count(), 300);
        }
        store.run(&["rm", "-f", "box"]);
        store.ok(&["volume", "rm", "-f", "filled"]);
    }
    // What they left is swept by the next one that makes something.
    store.ok(&["run", "--rm", IMAGE, "true"]);
}
