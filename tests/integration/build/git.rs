//! Contexts and sources that are git repositories, from a server of git's own.

use super::{parts_cached, parts_done};
use crate::registry::servers::{Action, Message, Proxy};
use crate::support::{Store, eventually, fed};
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

/// What git's own program for servers of the web answers to a request.
fn served_by_git(folder: &std::path::Path, request: &Message) -> Action {
    let (method, place) = request.first.split_once(' ').unwrap();
    let (path, query) = place.split_once('?').unwrap_or((place, ""));
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", folder).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", method);
    for (name, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        backend.env(name, request.header(header).unwrap_or_default());
    }
    let answer = fed(backend, &request.body).raw;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let headers = String::from_utf8_lossy(&answer[..end + 2]).into_owned();
    let (status, headers): (Vec<_>, Vec<_>) = headers.lines().partition(|line| line.starts_with("Status: "));
    let status = status.first().and_then(|line| line["Status: ".len()..].get(..3)?.parse().ok()).unwrap_or(200);
    Action::Reply(status, headers.iter().map(|line| format!("{line}\r\n")).collect(), answer[end + 4..].to_vec())
}

#[test]
fn a_private_repository_is_got_with_what_the_build_was_given_and_no_password_stays() {
    let store = Store::new();
    repository(&store);
    let folder = store.path("served");
    let words = |text: &str| format!("Basic {}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text));
    let known = [words("me:pass@word"), words("x-access-token:TOKEN")];
    let web = Proxy::start(0, move |request| match request.header("authorization") {
        Some(said) if known.iter().any(|known| known == said) => served_by_git(&folder, request),
        _ => Action::Reply(401, "WWW-Authenticate: Basic realm=\"git\"\r\n".into(), Vec::new()),
    });
    let at = |user: &str| format!("http://{user}127.0.0.1:{}/app/.git", web.port);
    let add = |user: &str| format!("FROM busybox\nADD --keep-git-dir {} /c\n", at(user));
    let secret = "me:pass%40word@";
    store.builds(&add(secret), &["-t", "i"]);
    let config =
        store.ok(&["run", "--rm", "i", "sh", "-c", "cat /c/file; cat /c/.git/config; grep -r word /c || true"]);
    assert!(config.contains(&format!("url = {}", at(""))) && !config.contains("word"), "{config}");
    // What the user has himself is for contexts that he names, and not for a Dockerfile.
    let home = store.path("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join(".netrc"), "machine 127.0.0.1 login me password pass@word\n").unwrap();
    let context = store.context("context", &add("")).display().to_string();
    let as_user = |words: &[&str]| crate::support::done(store.command(words).env("HOME", &home));
    let done = as_user(&["build", "-q", &context]);
    assert!(done.code == 1 && done.err.contains("git fetch"), "{done:?}");
    assert_eq!(as_user(&["build", "-q", &at("")]).code, 0);
    let token = format!("id=GIT_AUTH_TOKEN,src={}", store.write("token", "TOKEN\n"));
    assert_eq!(as_user(&["build", "-q", "--secret", &token, &context]).code, 0);
}
