//! `ADD` of what is at an address.

use super::{parts_cached, parts_done};
use crate::support::Store;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Answers of a server: the head without the length, and the body.
type Answer = (String, Vec<u8>);

/// A server on the loopback that lasts as long as the tests.
struct Web {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// One that answers by the path, and by how often it was asked for that.
    fn start(answer: impl Fn(&str, usize) -> Answer + Send + 'static) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Web { port: listener.local_addr().unwrap().port(), seen: Arc::default() };
        let seen = web.seen.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let Some(path) = lines.next().and_then(|l| Some(l.split(' ').nth(1)?.to_owned())) else { continue };
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let count = seen.lock().unwrap().iter().filter(|p| **p == path).count();
                seen.lock().unwrap().push(path.clone());
                let (head, body) = answer(&path, count);
                let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(&body);
            }
        });
        web
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn whole(headers: &str, body: &[u8]) -> Answer {
    (format!("200 OK\r\nContent-Length: {}{headers}", body.len()), body.to_vec())
}

const DATED: &str = "\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT";

#[test]
fn files_are_added_from_the_web() {
    let store = Store::new();
    let tar = crate::support::slurp(crate::support::fixture("busybox.tar"));
    let web = Web::start(move |path, _| match path {
        "/dir/a%20file?key=1" => whole(DATED, b"content\n"),
        "/from" => ("302 Found\r\nContent-Length: 0\r\nLocation: over/there".into(), Vec::new()),
        "/over/there" => whole("", b"elsewhere\n"),
        "/some.tar" => whole("", &tar),
        _ => whole("", b""),
    });
    let dockerfile = format!(
        "FROM busybox\nADD {} {} /got/\nADD --chmod=755 --chown=7:8 {} /named\nADD {} /tar\n\
         ADD --unpack=true {} /unpacked/\nRUN stat -c '%n %a %u:%g %Y' '/got/a file' /named\n",
        web.at("/dir/a%20file?key=1"),
        web.at("/from"),
        web.at("/from"),
        web.at("/some.tar"),
        web.at("/some.tar").replace("//", "//me:word@")
    );
    let said = store.builds(&dockerfile, &["-t", "i"]);
    assert!(said.contains("/got/a file 600 0:0 1445412480") && said.contains("/named 755 7:8 "), "{said}");
    let show = "cat '/got/a file' /got/from /named; test -f /tar && test -d /unpacked/bin && echo both";
    let shown = store.ok(&["run", "--rm", "i", "sh", "-c", show]);
    assert_eq!(shown, "content\nelsewhere\nelsewhere\nboth");
    let history = store.ok(&["history", "--no-trunc", "i"]);
    assert!(history.contains("xxxxx:xxxxx@127.0.0.1") && !history.contains("word"), "{history}");
    assert_eq!(parts_done(&store.builds(&dockerfile, &[])), 0);
}

#[test]
fn steps_are_known_by_the_content_or_the_checksum() {
    let store = Store::new();
    let body = Arc::new(Mutex::new(b"one".to_vec()));
    let shared = body.clone();
    let web = Web::start(move |_, _| whole("", &shared.lock().unwrap()));
    let plain = format!("FROM busybox\nADD {} /f\n", web.at("/f"));
    let sum = |text: &str| minirun::image::Digest::of(text.as_bytes()).to_string();
    let checked = format!("FROM busybox\nADD --checksum={} {} /f\n", sum("one"), web.at("/f"));
    store.builds(&plain, &[]);
    store.builds(&checked, &[]);
    let before = web.count();
    assert_eq!(parts_cached(&store.builds(&plain, &[])), 2);
    assert_eq!(web.count(), before + 1);
    assert_eq!(parts_cached(&store.builds(&checked, &[])), 2);
    assert_eq!(web.count(), before + 1, "what has a checksum is fetched although it is cached");
    *body.lock().unwrap() = b"two".to_vec();
    store.builds(&plain, &["-t", "i"]);
    assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/f"]), "two");
    let said = store.build_fails(&checked, &["--no-cache"]);
    assert!(said.contains(&format!("has the digest {}, not {}", sum("two"), sum("one"))), "{said}");
}

#[test]
fn what_cannot_be_had_makes_nothing() {
    let store = Store::new();
    let web = Web::start(|path, count| match (path, count) {
        // The first time it breaks off.
        ("/broken", 0) => ("200 OK\r\nContent-Length: 100".into(), b"half".to_vec()),
        ("/busy", 0) => ("503 Busy\r\nContent-Length: 0".into(), Vec::new()),
        ("/broken" | "/busy", _) => whole("", b"all of it"),
        ("/circle", _) => ("301 Moved\r\nContent-Length: 0\r\nLocation: /circle".into(), Vec::new()),
        ("/file", _) => ("301 Moved\r\nContent-Length: 0\r\nLocation: ftp://127.0.0.1/f".into(), Vec::new()),
        ("/large", _) => whole("", &vec![0; 3 << 20]),
        _ => ("404 Not Found\r\nContent-Length: 0".into(), Vec::new()),
    });
    let add = |path: &str| format!("FROM busybox\nADD {} /f\n", web.at(path));
    for path in ["/broken", "/busy"] {
        store.builds(&add(path), &["-t", "i"]);
        assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/f"]), "all of it");
    }
    for (path, why) in
        [("/circle", "on and on"), ("/file", "not one of the web"), ("/missing", "not found"), ("/x/", "not found")]
    {
        let said = store.build_fails(&add(path), &[]);
        assert!(said.contains(why) && said.contains(&format!("get {}", web.at(path))), "{said}");
    }
    let secret = web.at("/missing?sig=SECRET").replace("//", "//me:SECRET@");
    for (dockerfile, context) in [
        (format!("FROM busybox\nARG WORD\nADD {} /f\n", secret.replace("SECRET", "$WORD")), None),
        (String::new(), Some(&secret)),
    ] {
        let context = context.cloned().unwrap_or_else(|| store.context("secret", &dockerfile).display().to_string());
        let said = store.fails(1, &["build", "--build-arg", "WORD=SECRET", &context]);
        assert!(said.contains(&web.at("/missing")) && !said.contains("SECRET"), "{said}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = store.build_fails(&format!("FROM busybox\nADD http://{nobody}/f /f\n"), &[]);
    assert!(said.contains("connection refused"), "{said}");
    let path = store.context("context", &add("/large"));
    let mut limited = store.command(&["build", path.to_str().unwrap()]);
    let done = crate::support::done(limited.env("MINIRUN_UNPACK_LIMIT", "1048576"));
    assert!(done.code == 1 && done.err.contains("larger than 1048576 bytes"), "{done:?}");
}

#[test]
fn contexts_and_dockerfiles_come_from_the_web() {
    let store = Store::new();
    let dir = store.context("context", "FROM busybox\nCOPY word /word\n");
    std::fs::write(dir.join("word"), "in an archive\n").unwrap();
    let mut tar = std::process::Command::new("tar");
    let made = crate::support::done(tar.arg("-czf").arg(store.path("c.tgz")).arg("-C").arg(&dir).arg("."));
    assert_eq!(made.code, 0, "{made:?}");
    let archive = crate::support::slurp(store.path("c.tgz"));
    let web = Web::start(move |path, _| match path {
        "/c.tgz" => whole("", &archive),
        "/Dockerfile" => whole("", b"FROM busybox\nRUN echo alone > /word\n"),
        "/empty" => whole("", b""),
        _ => ("404 Not Found\r\nContent-Length: 0".into(), Vec::new()),
    });
    for (path, word) in [("/c.tgz", "in an archive"), ("/Dockerfile", "alone")] {
        store.ok(&["build", "-q", "-t", "i", &web.at(path)]);
        assert_eq!(store.ok(&["run", "--rm", "i", "cat", "/word"]), word);
    }
    for (path, why) in [("/empty", "there is nothing"), ("/no", "not found"), ("/x.git", "git fetch: ")] {
        assert!(store.fails(1, &["build", &web.at(path)]).contains(why), "{path}");
    }
}
