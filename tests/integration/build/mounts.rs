//! `RUN --mount`.

use super::{Started, parts_done};
use crate::support::{Store, done, eventually, fixture};
use std::io::{Read, Write};

/// Whether any file of the store, or of its volatile state, has a text in it.
fn is_written_down(store: &Store, text: &str) -> bool {
    let state = store.root().with_file_name("state");
    std::fs::create_dir_all(&state).unwrap();
    let found =
        std::process::Command::new("grep").args(["-r", "-l", text]).arg(store.root()).arg(state).output().unwrap();
    assert!(matches!(found.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&found.stderr));
    found.status.success()
}

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
fn a_cache_begins_anew_once_for_a_build_without_a_cache() {
    let store = Store::new();
    let add = |sharing: &str, n: usize| {
        let mounts = format!("--mount=type=cache,id={sharing},target=/c,sharing={sharing}");
        format!("RUN {mounts} echo x >> /c/f; echo \"{sharing} {n} has $(wc -l < /c/f)\"\n")
    };
    for sharing in ["shared", "private", "locked"] {
        let dockerfile = format!("FROM busybox\nARG N\n{}{}", add(sharing, 1), add(sharing, 2));
        store.builds(&dockerfile, &[]);
        let kept = store.builds(&dockerfile, &["--build-arg", "N=1"]);
        assert!(kept.contains(&format!("{sharing} 2 has 4\n")), "{kept}");
        let anew = store.builds(&dockerfile, &["--no-cache"]);
        for n in [1, 2] {
            assert!(anew.contains(&format!("{sharing} {n} has {n}\n")), "{anew}");
        }
    }
}

#[test]
fn a_cache_that_another_build_uses_stays_until_that_has_ended() {
    let store = Store::new();
    let gate = store.path("gate");
    std::fs::create_dir(&gate).unwrap();
    let volume = format!("{}:/gate", gate.display());
    let line = "RUN --mount=type=cache,id=c,target=/c";
    let first = format!(
        "FROM busybox\n{line} touch /c/mine /gate/up; for i in $(seq 600); do [ -e /gate/go ] && break; sleep 0.1; done; \
         sleep 0.5; [ -e /c/mine ] && touch /gate/down\n"
    );
    store.context("first", &first);
    let mut first = Started::build(&store, &["-v", &volume, &store.text("first")]);
    eventually("the first command", || gate.join("up").exists());
    store.context("second", &format!("FROM busybox\nRUN touch /gate/go\n{line} [ -e /gate/down -a ! -e /c/mine ]\n"));
    let mut second = Started::build(&store, &["--no-cache", "-v", &volume, &store.text("second")]);
    assert_eq!((first.status(), second.status()), (Some(0), Some(0)));
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

const SEED: &str = "FROM busybox AS seed\nRUN mkdir /t; cd /t; for i in $(seq 3000); do : > $i; done\n";

#[test]
fn a_cache_is_seen_when_it_is_full() {
    let store = Store::new();
    store.builds(SEED, &[]);
    let line = "RUN --mount=type=cache,id=full,target=/c,from=seed,source=/t echo \"has $(ls /c | wc -l)\"\n";
    let last = "FROM busybox\nRUN --mount=from=a,target=/a --mount=from=b,target=/b true\n";
    let dockerfile = format!("{SEED}FROM busybox AS a\n{line}FROM busybox AS b\nENV B=1\n{line}{last}");
    let path = store.context("killed", &dockerfile);
    let mut killed = Started::build(&store, &[path.to_str().unwrap()]);
    eventually("the cache to be filled", || {
        let caches = store.root().join("build/mounts").read_dir().into_iter().flatten().flatten();
        let folders = caches.flat_map(|cache| ["data", "data.new"].map(|name| cache.path().join(name)));
        folders.filter_map(|folder| folder.read_dir().ok()).any(|mut files| files.next().is_some())
    });
    killed.kill();
    store.rests();
    // Of two at once, one waits for the other.
    let said = store.builds(&dockerfile, &["--no-cache"]);
    assert_eq!(said.matches("has 3000\n").count(), 2, "{said}");
    let error =
        store.build_fails(&format!("{SEED}FROM busybox\n{}", line.replace("full", "gone").replace("/t", "/x")), &[]);
    assert!(error.contains("/x"), "{error}");
    assert_eq!(store.ok(&["builder", "du", "--filter", "type=exec.cachemount"]).matches("cached mount").count(), 1);
}

#[test]
fn a_cache_that_is_mounted_twice_is_the_same() {
    let store = Store::new();
    for sharing in ["locked", "private", "shared"] {
        let mount = |target: &str| format!("--mount=type=cache,id={sharing},sharing={sharing},target={target}");
        // The ids of others come before and after it.
        let others =
            ["/1", "/2", "/3", "/4", "/5", "/z"].map(|at| format!("--mount=type=cache,target={at},sharing=locked"));
        let others = others.join(" ");
        let dockerfile = format!("FROM busybox\nRUN {} {others} {} touch /a/f && ls /b/f\n", mount("/b"), mount("/a"));
        store.builds(&dockerfile, &[]);
    }
    let error = store.build_fails("FROM busybox\nRUN --mount=type=cache,target=/ true\n", &[]);
    assert!(error.contains("invalid mount target \"/\""), "{error}");
}

#[test]
fn a_build_that_fails_does_not_wait_for_caches() {
    let store = Store::new();
    let line = "RUN --mount=type=cache,id=c,target=/c,sharing=locked";
    store.context("first", &format!("FROM busybox\n{line} touch /c/up; sleep 20; touch /c/down\n"));
    let mut first = Started::build(&store, &[&store.text("first")]);
    let has = |name: &str| {
        let mut caches = store.root().join("build/mounts").read_dir().into_iter().flatten().flatten();
        caches.any(|cache| cache.path().join("data").join(name).exists())
    };
    eventually("the command to run", || has("up"));
    let last = "FROM busybox\nRUN --mount=from=a,target=/a --mount=from=b,target=/b true\n";
    store
        .build_fails(&format!("FROM busybox AS a\nRUN sleep 0.2; exit 3\nFROM busybox AS b\n{line} true\n{last}"), &[]);
    assert!(!has("down"));
    first.kill();
    store.rests();
    store.builds("FROM busybox\n", &[]);
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
    assert!(error.contains("\"/nosuch\": not found in busybox"), "{error}");
}

#[test]
fn a_source_is_no_pattern() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nRUN --mount=type=bind,source=p[id]/*,target=/x cat /x/f\n";
    let dir = store.context("context", dockerfile).join("p[id]/*");
    std::fs::create_dir_all(&dir).unwrap();
    for content in ["one", "two"] {
        std::fs::write(dir.join("f"), content).unwrap();
        let said = store.builds(dockerfile, &[]);
        assert!(said.contains(&format!(" {content}\n")), "{said}");
    }
    let named = format!("n={}", store.text("context"));
    let dockerfile = "FROM busybox\nRUN --mount=from=n,source=p[id]/*,target=/x cat /x/f\n";
    for content in ["three", "four"] {
        std::fs::write(dir.join("f"), content).unwrap();
        let said = store.builds(dockerfile, &["--build-context", &named]);
        assert!(said.contains(&format!(" {content}\n")), "{said}");
    }
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
    store.rests();
    assert!(!is_written_down(&store, secret));
    store.fails(1, &["run", "--rm", "i", "ls", "/run/secrets", "/etc/token"]);
    // Its content is no part of what a step is known by; that it is missing is told.
    let file = store.write("secret", "other");
    let again = store.builds(dockerfile, &["--secret", &format!("id=s,src={file}")]);
    assert_eq!(parts_done(&again), 0, "{said}\nand then\n{again}");
    let required = "FROM busybox\nRUN --mount=type=secret,id=gone,required=true true\n";
    let error = store.build_fails(required, &[]);
    assert!(error.contains("secret gone: not found"), "{error}");
    let error = store.fails(1, &["build", "--secret", "id=s,src=/nosuch/file", &store.text("context")]);
    assert!(error.contains("read /nosuch/file: No such file or directory"), "{error}");
    // Whatever has no end is not read to it: with so little memory it would fail in another way.
    let endless = ["build", "--secret", "id=s,src=/dev/zero", &store.text("context")];
    let done = done(&mut store.through_shell("ulimit -v 1000000; exec \"$0\" \"$@\"", &endless));
    assert!(done.code == 1 && done.err.contains("read /dev/zero: larger than 512000 bytes"), "{done:?}");
}

#[test]
fn secrets_are_not_on_a_disk_while_they_are_used() {
    let store = Store::new();
    let secret = "a-secret-that-nobody-else-says";
    let source = format!("id=s,src={}", store.write("secret", secret));
    let dockerfile = "FROM busybox\nENV TOKEN=other\n\
        RUN --mount=type=secret,id=s,target=/t,env=TOKEN [ $TOKEN = $(cat /t) ] && touch /shared/up && sleep 60\n";
    store.context("context", dockerfile);
    let shared = store.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let mut build = Started::build(&store, &["--secret", &source, "-v", &volume, &store.text("context")]);
    eventually("the command to run", || shared.join("up").exists());
    assert!(!is_written_down(&store, secret));
    build.kill();
    store.rests();
    assert!(!is_written_down(&store, secret));
    // Takes away what the killed one has left.
    store.builds("FROM busybox\n", &[]);
}

/// Answers whoever connects with what he said; tells the user that each is, as the kernel sees it.
fn answer(listener: std::os::unix::net::UnixListener) -> std::sync::mpsc::Receiver<u32> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            tell.send(rustix::net::sockopt::socket_peercred(&client).unwrap().uid.as_raw()).unwrap();
            let mut words = String::new();
            client.read_to_string(&mut words).unwrap();
            client.write_all(words.repeat(2).as_bytes()).unwrap();
        }
    });
    told
}

#[test]
fn an_agent_is_reached_by_its_socket() {
    let store = Store::empty();
    store.ok(&["import", fixture("debian.tar").to_str().unwrap(), "debian"]);
    let socket = store.path("agent");
    let users = answer(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mode = || std::fs::metadata(&socket).unwrap().permissions();
    let before = mode();
    let ask = r#"perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un($ENV{SSH_AUTH_SOCK})) or die $!;
        syswrite(S, $ARGV[0]); shutdown(S, 1); print "heard ", <S>, "\n"'"#.replace('\n', " ");
    let dockerfile = format!(
        "FROM debian\nRUN --mount=type=ssh stat -c %a:%u:%g $SSH_AUTH_SOCK; {ask} one; chmod 777 $SSH_AUTH_SOCK\n\
         USER 1000\nRUN --mount=type=ssh {ask} nobody 2>&1 || true\n\
         RUN --mount=type=ssh,uid=1000,gid=7,mode=0640 stat -c %a:%u:%g $SSH_AUTH_SOCK; {ask} 'and two,'\n\
         RUN --mount=type=ssh,uid=1000 echo at $SSH_AUTH_SOCK; for i in 1 2 3; do {ask} $i & done; wait\n"
    );
    let said = store.builds(&dockerfile, &["--ssh", &format!("default={}", socket.display())]);
    for expected in [
        " 600:0:0\n",
        "heard oneone\n",
        "Permission denied",
        " 640:1000:7\n",
        "heard and two,and two,\n",
        "at /run/buildkit/ssh_agent.0\n",
    ] {
        assert!(said.contains(expected), "{expected:?}: {said}");
    }
    ["11", "22", "33"].iter().for_each(|answer| assert!(said.contains(&format!("heard {answer}\n")), "{said}"));
    // It hears its own user and root only, and its socket is none of the commands'.
    assert_eq!(users.try_iter().collect::<Vec<_>>(), [0; 5]);
    assert_eq!(mode(), before);
    let error = store.build_fails("FROM debian\nRUN --mount=type=ssh,required=true true\n", &[]);
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
