//! Builds as people have them: Debian's own packages, from the package source that this machine uses.

use super::{parts_cached, parts_done};
use crate::support::{Store, eventually, fixture};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const C: &str = "#include <stdio.h>\nint main(void) { puts(\"built by gcc\"); return 0; }\n";

/// How packages are got here, which is no part of an image.
const APT: [&str; 4] = ["-v", "/etc/apt:/etc/apt:ro", "-v", "/usr/share/keyrings:/usr/share/keyrings:ro"];

/// Whether a package source of this machine answers. Where none does the test is left out, and everybody is told.
fn has_packages(test: &str) -> bool {
    let folder = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|e| e.path());
    let files = std::iter::once("/etc/apt/sources.list".into()).chain(folder);
    let text: String =
        files.map(|path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default()).collect();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut hosts = lines.filter_map(|line| line.split_once("http://")?.1.split(['/', ' ']).next());
    let is_there = hosts.any(|host| {
        let name = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let mut addresses = name.to_socket_addrs().into_iter().flatten();
        addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok())
    });
    if !is_there {
        // Past the harness, which keeps the words of tests that pass to itself.
        let _ = writeln!(std::io::stderr(), "LEFT OUT {test}: no source of Debian packages can be reached");
    }
    is_there
}

#[test]
fn a_program_is_compiled_in_one_stage_and_shipped_in_another() {
    if !has_packages("a_program_is_compiled_in_one_stage_and_shipped_in_another") {
        return;
    }
    let store = Store::empty();
    store.ok(&["import", fixture("debian.tar").to_str().unwrap(), "debian"]);
    let dockerfile = "FROM debian AS build\n\
        RUN apt-get -q update && apt-get -qy install --no-install-recommends gcc libc6-dev >/dev/null\n\
        WORKDIR /src\nCOPY hello.c .\nRUN gcc -O2 -static -o hello hello.c\nCMD [\"./hello\"]\n\
        FROM scratch\nCOPY --from=build /src/hello /hello\nCMD [\"/hello\"]\n";
    let dir = store.context("context", dockerfile);
    std::fs::write(dir.join("hello.c"), C).unwrap();
    let host = [&["--network", "host"], &APT[..]].concat();
    store.builds(dockerfile, &[&host[..], &["-t", "two"]].concat());
    let one = store.builds(dockerfile, &[&host[..], &["-t", "one", "--target", "build"]].concat());
    assert_eq!(parts_done(&one), 0, "{one}");
    let size = |name: &str| store.inspect(name, "{{.Size}}").parse::<u64>().unwrap();
    assert!(size("one") > 100 * size("two"), "{} {}", size("one"), size("two"));
    for image in ["one", "two"] {
        assert_eq!(store.ok(&["run", "--rm", image]), "built by gcc");
    }
    // Another program needs the compiler, but not its installation.
    std::fs::write(dir.join("hello.c"), C.replace("gcc", "Debian")).unwrap();
    let again = store.builds(dockerfile, &[&host[..], &["-t", "two"]].concat());
    assert_eq!((parts_cached(&again), parts_done(&again)), (3, 3), "{again}");
    assert_eq!(store.ok(&["run", "--rm", "two"]), "built by Debian");
}

#[test]
fn a_web_server_is_installed_and_serves() {
    if !has_packages("a_web_server_is_installed_and_serves") {
        return;
    }
    let store = Store::empty();
    store.ok(&["import", fixture("debian.tar").to_str().unwrap(), "debian"]);
    let dockerfile = "FROM debian\n\
        RUN apt-get -q update && apt-get -qy install --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*\n\
        RUN ln -sf /dev/stdout /var/log/nginx/access.log && nginx -t\n\
        COPY index.html /var/www/html/\nEXPOSE 80\nSTOPSIGNAL SIGQUIT\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    std::fs::write(store.context("context", dockerfile).join("index.html"), "served by nginx\n").unwrap();
    store.builds(dockerfile, &[&APT[..], &["-t", "web"]].concat());
    store.ok(&["run", "-d", "--name", "server", "-p", "127.0.0.1::80", "web"]);
    let at = store.ok(&["port", "server", "80"]);
    let get = || {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(&at).ok()?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    };
    eventually("nginx to listen", || get().is_some());
    let answer = get().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nserved by nginx\n"), "{answer}");
    eventually("the request to be logged", || store.ok(&["logs", "server"]).contains("GET /index.html HTTP/1.0\" 200"));
    store.ok(&["stop", "server"]);
    assert_eq!(store.inspect("server", "{{.State.ExitCode}}"), "0");
}
