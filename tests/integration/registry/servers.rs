//! Debian's registry, a proxy before it that makes every fault, and a client that knows nothing of images.

use crate::support::{Done, Store, done, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The user `tim` with the password `secret`.
pub const HTPASSWD: &str = "tim:$2y$05$/4NhEc4B7Dbvr0g14/q5wusKcKHq089JJexyzDTqg90.VS6dZORlm\n";

/// A registry of its own for one test.
pub struct Registry {
    pub port: u16,
    dir: PathBuf,
    child: Child,
}

impl Registry {
    /// One that everybody may use.
    pub fn open(store: &Store) -> Registry {
        Registry::with(store, "", "")
    }

    /// One for `tim` alone.
    pub fn with_password(store: &Store) -> Registry {
        let file = store.write("htpasswd", HTPASSWD);
        Registry::with(store, &format!("auth: {{htpasswd: {{realm: \"a, b\", path: {file}}}}}\n"), "")
    }

    /// `more` is added to its configuration, `http` to that of its server.
    pub fn with(store: &Store, more: &str, http: &str) -> Registry {
        let dir = store.path(&format!("registry-{}", free_port()));
        std::fs::create_dir(&dir).unwrap();
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{more}storage: {{filesystem: \
             {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:{port}\", secret: x{http}}}\n",
            dir.join("data").display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("config.yml")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().expect("Debian's package docker-registry is needed");
        eventually("the registry to listen", || {
            assert!(child.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(dir.join("log")).unwrap());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Registry { port, dir, child }
    }

    /// A name in it.
    pub fn name(&self, path: &str) -> String {
        format!("localhost:{}/{path}", self.port)
    }

    /// Puts a blob into it and returns its digest.
    pub fn put_blob(&self, repository: &str, data: &[u8]) -> String {
        let begun = http(self.port, "POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        let location = begun.header("location").unwrap();
        let path = location.split_once("//").and_then(|(_, rest)| rest.split_once('/')).unwrap().1;
        let digest = sha256(data);
        let put = http(self.port, "PUT", &format!("/{path}&digest={digest}"), "application/octet-stream", data);
        assert_eq!(put.status, 201, "{put:?}");
        digest
    }

    /// Puts a manifest or an index into it and returns its digest.
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, data: &str) -> String {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let put = http(self.port, "PUT", &path, media_type, data.as_bytes());
        assert_eq!(put.status, 201, "{put:?}");
        sha256(data.as_bytes())
    }

    /// A manifest as it is there: its type and its text.
    pub fn manifest(&self, repository: &str, reference: &str) -> (String, String) {
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let path = format!("/v2/{repository}/manifests/{reference}");
        let got = http_with(self.port, "GET", &path, &format!("Accept: {accept}\r\n"), b"");
        assert_eq!(got.status, 200, "{got:?}");
        (got.header("content-type").unwrap().to_owned(), String::from_utf8(got.body).unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn sha256(data: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// What a server was asked, or answered.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The method and the path.
    pub first: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    fn read_head(stream: &mut impl BufRead) -> Option<Message> {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split_whitespace();
        let (one, two) = (words.next()?, words.next()?);
        let mut message = Message { first: format!("{one} {two}"), ..Message::default() };
        message.status = two.parse().unwrap_or(0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => message.headers.push((name.to_owned(), value.trim().to_owned())),
                None => return Some(message),
            }
        }
    }

    fn length(&self) -> usize {
        self.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

fn http(port: u16, method: &str, path: &str, content_type: &str, body: &[u8]) -> Message {
    http_with(port, method, path, &format!("Content-Type: {content_type}\r\n"), body)
}

fn http_with(port: u16, method: &str, path: &str, headers: &str, body: &[u8]) -> Message {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut answer = Message::read_head(&mut reader).unwrap();
    reader.read_to_end(&mut answer.body).unwrap();
    answer
}

/// What happens to one request.
pub enum Action {
    /// It goes to the registry, and its answer comes back.
    Pass,
    /// It is answered here: status, headers, body.
    Reply(u16, String, Vec<u8>),
    /// The answer ends after so many bytes of its body, and with it the connection.
    Cut(usize),
    /// This byte of the body is another one.
    Spoil(usize),
    /// So many bytes of the body, and then nothing for as long as the test takes.
    Stall(usize),
    /// The connection ends after so many bytes of what is sent.
    CutUpload(usize),
}

type Rule = dyn Fn(&Message) -> Action + Send + Sync;

/// A server before a registry. Each connection is for one request.
pub struct Proxy {
    pub port: u16,
    seen: Arc<Mutex<Vec<Message>>>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// Begins to serve; `rule` is asked about each request.
    pub fn start(upstream: u16, rule: impl Fn(&Message) -> Action + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, stop) = (Arc::<Mutex<Vec<Message>>>::default(), Arc::<AtomicBool>::default());
        let rule: Arc<Rule> = Arc::new(rule);
        let (log, ended) = (seen.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (rule, log, ended) = (rule.clone(), log.clone(), ended.clone());
                std::thread::spawn(move || serve(stream, upstream, &*rule, &log, &ended));
            }
        });
        Proxy { port, seen, stop }
    }

    /// A name in the registry by way of this server.
    pub fn name(&self, path: &str) -> String {
        format!("localhost:{}/{path}", self.port)
    }

    /// All requests so far whose first line contains a text.
    pub fn seen(&self, text: &str) -> Vec<Message> {
        self.seen.lock().unwrap().iter().filter(|m| m.first.contains(text)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut client: TcpStream, upstream: u16, rule: &Rule, log: &Mutex<Vec<Message>>, ended: &AtomicBool) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let Some(mut request) = Message::read_head(&mut reader) else { return };
    let is_small = request.length() < 1 << 16;
    if is_small {
        request.body = vec![0; request.length()];
        if reader.read_exact(&mut request.body).is_err() {
            return;
        }
    }
    log.lock().unwrap().push(request.clone());
    if request.first.starts_with("CONNECT ") {
        return tunnel(client, reader, upstream);
    }
    let action = rule(&request);
    if let Action::Reply(status, headers, body) = action {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n");
        let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body));
        return;
    }
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
    let mut head = format!("{} HTTP/1.1\r\n", request.first);
    for (name, value) in request.headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("connection")) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
    let limit = if let Action::CutUpload(limit) = action { limit } else { usize::MAX };
    if is_small {
        let _ = server.write_all(&request.body);
    } else {
        let length = request.length().min(limit) as u64;
        let _ = std::io::copy(&mut reader.take(length), &mut server);
    }
    if limit != usize::MAX {
        let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
        return;
    }
    relay(server, client, &action, ended);
}

fn relay(server: TcpStream, mut client: TcpStream, action: &Action, ended: &AtomicBool) {
    let mut server = BufReader::new(server);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if server.read_until(b'\n', &mut head).is_err() || head.is_empty() {
            return;
        }
    }
    let _ = client.write_all(&head);
    let mut body = Vec::new();
    let _ = server.read_to_end(&mut body);
    match *action {
        Action::Cut(length) => body.truncate(length),
        Action::Spoil(at) if at < body.len() => body[at] ^= 0x55,
        Action::Stall(length) => {
            body.truncate(length);
            let _ = client.write_all(&body);
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            return;
        }
        _ => {}
    }
    let _ = client.write_all(&body);
    let _ = client.shutdown(Shutdown::Both);
}

/// What an HTTP proxy does for a client that wants to talk to somebody else by itself.
fn tunnel(mut client: TcpStream, mut reader: BufReader<TcpStream>, upstream: u16) {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let mut back = server.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(Shutdown::Both);
}

/// A store with an environment of its own: no credentials and settings of the machine.
pub struct Client {
    pub store: Store,
    env: Vec<(String, String)>,
}

impl Client {
    pub fn new(store: Store) -> Client {
        std::fs::create_dir_all(store.path("docker")).unwrap();
        let mut client = Client { env: Vec::new(), store };
        client.set("DOCKER_CONFIG", &client.store.text("docker"));
        client.set("REGISTRY_AUTH_FILE", &client.store.text("auth.json"));
        client.set("MINIRUN_REGISTRIES", &client.store.text("registries.json"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            client.set(name, "");
        }
        client
    }

    /// A client with an empty store.
    pub fn empty() -> Client {
        Client::new(Store::empty())
    }

    /// A client with the busybox image.
    pub fn with_image() -> Client {
        Client::new(Store::new())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.into(), value.into()));
    }

    /// Writes the settings file.
    pub fn settings(&self, text: &str) {
        self.store.write("registries.json", text);
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.store.command(args);
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        done(&mut self.command(args))
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "minirun {args:?} failed: {done:?}");
        done.out.trim_end().to_owned()
    }

    pub fn fails(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 1, "minirun {args:?} should fail: {done:?}");
        done.err
    }

    /// Names in a folder of the store.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.root().join(folder)).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Pulls, which must fail, and leaves the store as it was.
    pub fn refuses(&self, args: &[&str]) -> String {
        let before = (self.list("layers"), self.list("blobs/sha256"), self.store.ok(&["images", "-q"]));
        let error = self.fails(args);
        assert_eq!((self.list("layers"), self.list("blobs/sha256"), self.store.ok(&["images", "-q"])), before);
        assert_eq!(self.list("partial"), Vec::<String>::new());
        error
    }
}

/// A blob as it is in a registry.
pub fn blob(port: u16, repository: &str, digest: &str) -> Vec<u8> {
    http_with(port, "GET", &format!("/v2/{repository}/blobs/{digest}"), "", b"").body
}
