//! Contexts and sources that are git repositories, from a server of git's own.

use super::{parts_cached, parts_done};
use crate::support::{Store, eventually};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A server of the repositories below a store's folder `served`.
struct Server {
    daemon: Child,
    port: u16,
}

impl Server {
    fn start(store: &Store) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let daemon = Command::new("git")
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", store.path("served").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the server of git", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Server { daemon, port }
    }

    fn at(&self, path: &str) -> String {
        format!("git://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is another program that serves, started by the one that we know.
        let pid = self.daemon.id();
        let _ = Command::new("pkill").args(["-P", &pid.to_string()]).status();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Runs a script in the repository `served/app`, and gives what it says.
fn script(store: &Store, text: &str) -> String {
    let folder = store.path("served/app");
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", text]).current_dir(folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "somebody").env(format!("GIT_{who}_EMAIL"), "somebody@example.org");
    }
    let done = crate::support::done(&mut command);
    assert_eq!(done.code, 0, "{text}: {done:?}");
    done.out.trim().to_owned()
}

const COMMIT: &str = "git add -A; git commit -q -m m; git rev-parse HEAD";

/// A repository whose branch `main` has a Dockerfile at the top and one in a folder; gives its first commit.
fn repository(store: &Store) -> String {
    let files = "git -c init.defaultBranch=main init -q
        mkdir sub; echo first > file; echo in the folder > sub/file
        printf 'FROM busybox\\nCOPY . /c/\\n' | tee Dockerfile > sub/Dockerfile; ln -s .. sub/up; ln -s / sub/out";
    script(store, &format!("{files}; {COMMIT}"))
}

#[test]
fn a_repository_is_a_context() {
    let store = Store::new();
    let first = repository(&store);
    script(&store, &format!("echo second > file; {COMMIT}; git tag v2; echo third > file; {COMMIT}"));
    let server = Server::start(&store);
    let app = server.at("app");
    let built = |address: &str| {
        store.ok(&["build", "-q", "-t", "i", address]);
        store.ok(&["run", "--rm", "i", "sh", "-c", "cat /c/file; ls -A /c"])
    };
    assert_eq!(built(&app), "third\nDockerfile\nfile\nsub");
    assert_eq!(built(&format!("{app}#v2")).lines().next(), Some("second"));
    assert_eq!(built(&format!("{app}#{first}")).lines().next(), Some("first"));
    assert_eq!(built(&format!("{app}#main:sub")), "in the folder\nDockerfile\nfile\nout\nup");
    store.ok(&["build", "-q", "-t", "i", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &app]);
    assert_eq!(store.ok(&["run", "--rm", "i", "ls", "-A", "/c"]), ".git\nDockerfile\nfile\nsub");
    for (address, word) in [
        (format!("{app}#nosuch"), "nosuch"),
        (format!("{app}#:nosuch"), "there is no folder \"nosuch\" in the repository"),
        (format!("{app}#:sub/out/etc"), "there is no folder"),
        (format!("{app}#--upload-pack=x"), "cannot begin with a dash"),
        (server.at("other"), "git fetch"),
    ] {
        let error = store.fails(1, &["build", "-q", &address]);
        assert!(error.contains(word) && error.contains(&address), "{address}: {error}");
    }
}

#[test]
fn what_a_repository_has_of_others_comes_with_it() {
    let store = Store::new();
    repository(&store);
    let server = Server::start(&store);
    let lib = store.path("served/lib");
    let make =
        format!("git -c init.defaultBranch=main init -q {0}; cd {0}; echo of another > part; {COMMIT}", lib.display());
    script(&store, &make);
    script(&store, &format!("git submodule --quiet add {} lib; {COMMIT}", server.at("lib")));
    store.ok(&["build", "-q", "-t", "i", &server.at("app")]);
    let said = store.ok(&["run", "--rm", "i", "sh", "-c", "cat /c/lib/part; ls -A /c/lib"]);
    assert_eq!(said, "of another\npart");
}

#[test]
fn a_repository_is_added() {
    let store = Store::new();
    repository(&store);
    let server = Server::start(&store);
    let app = server.at("app");
    let dockerfile = format!("FROM busybox\nADD {app}#main:sub /c/\nRUN cat /c/file; test ! -e /c/.git\n");
    let said = store.builds(&dockerfile, &[]);
    assert!(said.contains("in the folder") && parts_done(&said) > 0, "{said}");
    // It is known by its files.
    script(&store, &format!("echo other > file; {COMMIT}"));
    let said = store.builds(&dockerfile, &[]);
    assert_eq!(parts_cached(&said), 3, "{said}");
    script(&store, &format!("echo new > sub/file; {COMMIT}"));
    assert_eq!(parts_cached(&store.builds(&dockerfile, &[])), 1);
    let with_history =
        format!("FROM busybox\nADD --keep-git-dir {app} /c\nRUN test -d /c/.git && test -f /c/sub/file\n");
    store.builds(&with_history, &[]);
    let error = store.build_fails(&format!("FROM busybox\nCOPY {app} /c\n"), &[]);
    assert!(error.contains("source can't be a URL for COPY"), "{error}");
}
