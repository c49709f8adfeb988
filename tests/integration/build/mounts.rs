//! `RUN --mount`.

use super::parts_done;
use crate::support::Store;

#[test]
fn caches_outlive_builds() {
    let store = Store::new();
    let line =
        "RUN --mount=type=cache,target=/c,mode=1770,uid=5,gid=6 echo x >> /c/f; wc -l < /c/f; stat -c %a:%u:%g /c\n";
    let said = store.builds(&format!("FROM busybox\n{line}"), &["-t", "i"]);
    assert!(said.contains("1770:5:6"), "{said}");
    let said = store.builds(&format!("FROM busybox\nENV OTHER=1\n{line}"), &[]);
    assert!(said.contains(" 2\n"), "{said}");
    // Neither content nor mount point is in the image.
    assert_eq!(store.run(&["run", "--rm", "i", "ls", "/c"]).code, 1);
    assert!(store.ok(&["builder", "du", "--filter", "type=exec.cachemount"]).contains("cached mount /c"));
    store.ok(&["builder", "prune", "-f", "--filter", "type=exec.cachemount"]);
    let said = store.builds(&format!("FROM busybox\nENV OTHER=2\n{line}"), &[]);
    assert!(said.contains(" 1\n"), "{said}");
}

#[test]
fn a_locked_cache_is_used_by_one_at_a_time() {
    let store = Store::new();
    // A lost update would show: each reads, waits, and writes.
    let dockerfile = "FROM busybox\nARG N\nRUN --mount=type=cache,id=counter,target=/c,sharing=locked \
        n=$(cat /c/n 2>/dev/null || echo 0); sleep 0.3; echo $((n + 1)) > /c/n\n";
    store.context("context", dockerfile);
    let path = store.text("context");
    let children: Vec<_> = (0..4)
        .map(|n| {
            let arg = format!("N={n}");
            let mut command = store.command(&["build", "--build-arg", &arg, &path]);
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let said = store.builds("FROM busybox\nRUN --mount=type=cache,id=counter,target=/c echo n=$(cat /c/n)\n", &[]);
    assert!(said.contains("n=4"), "{said}");
}

#[test]
fn a_private_cache_that_is_in_use_gets_a_sibling() {
    let store = Store::new();
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id=own,target=/c,sharing=private \
             --mount=type=cache,id=meet,target=/m touch /c/{name} /m/{name}; \
             for i in $(seq 600); do [ $(ls /m | wc -l) = 2 ] && break; sleep 0.1; done; echo {name} sees $(ls /c)\n"
        )
    };
    let last = "FROM busybox\nRUN --mount=from=a,target=/a --mount=from=b,target=/b true\n";
    let said = store.builds(&format!("{}{}{last}", stage("a"), stage("b")), &[]);
    assert!(said.contains("a sees a\n") && said.contains("b sees b\n"), "{said}");
}

#[test]
fn stages_are_mounted_and_never_changed() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS a\nRUN mkdir /d; echo one > /d/f; ln -s d/f /l\nFROM busybox\n\
        RUN --mount=type=bind,from=a,source=/d,target=/m cat /m/f; touch /m/x 2>&1 || true\n\
        RUN --mount=from=a,source=/d,target=/m,rw echo two > /m/f; cat /m/f\n\
        RUN --mount=from=a,source=/l,target=/file cat /file\n\
        RUN --mount=from=a,target=/all cat /all/d/f; ls /m /all /file 2>&1 || true\n";
    let said = store.builds(dockerfile, &["-t", "i"]);
    assert!(said.contains("touch: /m/x: Read-only file system"), "{said}");
    assert_eq!(said.matches(" one\n").count(), 3, "{said}");
    assert_eq!(said.matches(" two\n").count(), 1, "{said}");
    for path in ["/m", "/file", "/all"] {
        assert_eq!(store.run(&["run", "--rm", "i", "ls", path]).code, 1, "{path}");
    }
    let error = store.build_fails("FROM busybox\nRUN --mount=from=busybox,source=/nosuch,target=/m true\n", &[]);
    assert!(error.contains("/nosuch: there is no such file or folder"), "{error}");
}

#[test]
fn memory_is_mounted() {
    let store = Store::new();
    let said = store.builds("FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m grep ' /t ' /proc/mounts\n", &[]);
    assert!(said.contains("tmpfs /t tmpfs") && said.contains("size=1024k"), "{said}");
}

#[test]
fn a_secret_is_known_by_its_target_where_nothing_else_is_said() {
    let store = Store::new();
    let file = store.write("secret", "in the file\n");
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,target=/root/token cat /root/token\n\
        RUN --mount=type=secret,source=token cat /run/secrets/token\n\
        RUN --mount=type=secret,target=/root/absent ls /root/absent 2>&1 || true\n";
    let said = store.builds(dockerfile, &["--secret", &format!("id=token,src={file}")]);
    assert_eq!(said.matches(" in the file\n").count(), 2, "{said}");
    assert!(said.contains("/root/absent: No such file or directory"), "{said}");
}

#[test]
fn secrets_are_seen_and_never_kept() {
    let store = Store::new();
    let secret = "a-secret-that-nobody-else-says";
    let file = store.write("secret", secret);
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=s [ $(wc -c < /run/secrets/s) = 30 ]; stat -c %a:%u /run/secrets/s\n\
        RUN --mount=type=secret,id=s,target=/etc/token,mode=0444,uid=7 stat -c %a:%u /etc/token\n\
        RUN --mount=type=secret,id=s,env=TOKEN [ ${#TOKEN} = 30 ]\n\
        RUN --mount=type=secret,id=absent ls /run/secrets 2>&1 || true\n";
    let source = format!("id=s,src={file}");
    let said = store.builds(dockerfile, &["-t", "i", "--secret", &source]);
    assert!(said.contains("400:0") && said.contains("444:7"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let found = std::process::Command::new("grep").args(["-r", "-l", secret]).arg(store.root()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
    assert_eq!(store.run(&["run", "--rm", "i", "ls", "/run/secrets", "/etc/token"]).code, 1);
    // Its content is no part of what a step is known by; that it is missing is told.
    let file = store.write("secret", "other");
    assert_eq!(parts_done(&store.builds(dockerfile, &["--secret", &format!("id=s,src={file}")])), 0);
    let required = "FROM busybox\nRUN --mount=type=secret,id=gone,required=true true\n";
    let error = store.build_fails(required, &[]);
    assert!(error.contains("secret gone: not found"), "{error}");
    let error = store.fails(1, &["build", "--secret", "id=s,src=/nosuch/file", &store.text("context")]);
    assert!(error.contains("read /nosuch/file: No such file or directory"), "{error}");
}

#[test]
fn an_agent_is_reached_by_its_socket() {
    let store = Store::new();
    let socket = store.path("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh [ -S $SSH_AUTH_SOCK ] && echo at $SSH_AUTH_SOCK\n";
    let said = store.builds(dockerfile, &["--ssh", &format!("default={}", socket.display())]);
    assert!(said.contains("at /run/buildkit/ssh_agent.0"), "{said}");
    let error = store.build_fails("FROM busybox\nRUN --mount=type=ssh,required=true true\n", &[]);
    assert!(error.contains("--ssh default=SOCKET"), "{error}");
}

#[test]
fn mounts_of_the_whole_build_are_no_part_of_the_image() {
    let store = Store::new();
    let folder = store.path("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("in"), "from outside").unwrap();
    let volume = format!("{}:/deep/inside", folder.display());
    store.builds("FROM busybox\nRUN cp /deep/inside/in /copied\n", &["-t", "i", "-v", &volume]);
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/copied"]), "from outside");
    assert_eq!(store.run(&["run", "--rm", "i", "ls", "/deep"]).code, 1);
}
