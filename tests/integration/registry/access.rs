//! Who may: passwords, tokens, certificates, proxies, and what nobody may see.

use super::servers::{Action, Client, Message, Proxy, Registry};
use crate::support::{IMAGE, slurp};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Mutex;

/// `tim:secret` in base64.
const BASIC: &str = "Basic dGltOnNlY3JldA==";

fn login(client: &Client, server: &str, password: &str) -> crate::support::Done {
    crate::support::fed(client.command(&["login", "-u", "tim", "--password-stdin", server]), password.as_bytes())
}

#[test]
fn a_registry_with_passwords() {
    let client = Client::with_image();
    let registry = Registry::with_password(&client.store);
    let (server, name) = (format!("localhost:{}", registry.port), registry.name("private/app"));
    client.store.write("docker/config.json", r#"{"HttpHeaders":{"x":"y"},"auths":{"other":{"auth":"YTpi"}}}"#);
    client.ok(&["tag", IMAGE, &name]);
    assert!(client.fails(&["push", &name]).contains("unauthorized: authentication required"));
    let error = client.refuses(&["pull", &name]);
    assert!(error.starts_with(&format!("Error: pull access denied for {name}, repository does not exist or may")));

    let done = login(&client, &server, "wrong");
    assert_eq!((done.code, done.out.as_str()), (1, ""), "{done:?}");
    assert!(done.err.contains("unauthorized"), "{done:?}");
    let config = || -> Value { serde_json::from_slice(&slurp(client.store.path("docker/config.json"))).unwrap() };
    assert!(config()["auths"].get(&server).is_none());
    let done = login(&client, &format!("http://{server}/v1/"), "secret\n");
    assert_eq!((done.code, done.out.as_str()), (0, "Login Succeeded\n"), "{done:?}");
    assert!(done.err.contains("stored unencrypted in"), "{done:?}");
    let written = config();
    assert_eq!(written["auths"][&server]["auth"], BASIC[6..]);
    assert_eq!((&written["HttpHeaders"]["x"], &written["auths"]["other"]["auth"]), (&"y".into(), &"YTpi".into()));
    let mode = std::fs::metadata(client.store.path("docker/config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    client.ok(&["push", &name]);
    client.ok(&["rmi", &name, IMAGE]);
    client.ok(&["pull", &name]);
    assert_eq!(client.ok(&["logout", &server]), format!("Removing login credentials for {server}"));
    assert_eq!(client.ok(&["logout", &server]), format!("Not logged in to {server}"));
    assert!(client.fails(&["pull", &name]).contains("pull access denied"));
    assert!(config()["auths"].get("other").is_some());

    // Podman's file does as well, and an entry for a part of the registry.
    client.store.write("auth.json", format!(r#"{{"auths":{{"{server}/private":{{"auth":"{}"}}}}}}"#, &BASIC[6..]));
    client.ok(&["pull", &name]);
    assert!(client.fails(&["pull", &registry.name("public/app")]).contains("pull access denied"));
    let done = client.run(&["login", "-u", "tim", &server]);
    assert!(done.code == 1 && done.err.contains("non TTY"), "{done:?}");
}

#[test]
fn a_program_keeps_the_secrets() {
    let mut client = Client::with_image();
    let registry = Registry::with_password(&client.store);
    let (server, name) = (format!("localhost:{}", registry.port), registry.name("app"));
    let kept = client.store.text("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {kept};;\nget) read -r s; test -e {kept} && cat {kept} || {{ \
         echo credentials not found in native keychain; exit 1; }};;\nerase) rm {kept};;\nesac\n"
    );
    std::fs::create_dir(client.store.path("bin")).unwrap();
    let program = client.store.write("bin/docker-credential-test", script);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", client.store.text("bin"), std::env::var("PATH").unwrap());
    client.set("PATH", &path);
    client.store.write("docker/config.json", format!(r#"{{"credHelpers":{{"{server}":"test"}}}}"#));
    client.ok(&["tag", IMAGE, &name]);
    assert!(client.fails(&["push", &name]).contains("unauthorized"));
    let done = login(&client, &server, "secret");
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    let stored: Value = serde_json::from_slice(&slurp(&kept)).unwrap();
    assert_eq!((&stored["ServerURL"], &stored["Username"]), (&server.as_str().into(), &"tim".into()));
    client.ok(&["push", &name]);
    client.ok(&["logout", &server]);
    assert!(!std::path::Path::new(&kept).exists());
    client.store.write("docker/config.json", r#"{"credsStore":"../../bin/sh"}"#);
    assert!(client.fails(&["push", &name]).contains("no name of a credential helper"));
}

/// A server before an open registry that wants tokens and gives them at `/token`.
fn with_tokens(upstream: u16, grants: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Proxy {
    let valid = Mutex::new(Vec::new());
    Proxy::start(upstream, move |request| {
        let host = request.header("host").unwrap_or_default();
        if request.first.contains(" /token") {
            return match grants(request) {
                Some(answer) => {
                    let parsed: Value = serde_json::from_str(&answer).unwrap();
                    let token = parsed["token"].as_str().or(parsed["access_token"].as_str()).unwrap();
                    valid.lock().unwrap().push(format!("Bearer {token}"));
                    Action::Reply(200, String::new(), answer.into_bytes())
                }
                None => Action::Reply(401, String::new(), b"{\"details\":\"incorrect username or password\"}".to_vec()),
            };
        }
        let mut valid = valid.lock().unwrap();
        let given = request.header("authorization").unwrap_or_default();
        if let Some(at) = valid.iter().position(|t| t == given) {
            if given.ends_with("-once") {
                valid.remove(at);
            }
            return Action::Pass;
        }
        let challenge = format!(
            "WWW-Authenticate: Negotiate\r\nWww-Authenticate: Other x=\"1, 2\", Bearer \
             realm=\"http://{host}/token?from=test\",service=\"the, service\",scope=\"repository:x:pull\"\r\n"
        );
        Action::Reply(401, challenge, b"{}".to_vec())
    })
}

#[test]
fn tokens_are_got_kept_and_renewed() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let anonymous = with_tokens(registry.port, |request| {
        assert_eq!(request.header("authorization"), None);
        Some(r#"{"token":"abc","expires_in":300}"#.into())
    });
    let name = anonymous.name("team/app");
    client.ok(&["tag", IMAGE, &name]);
    client.ok(&["push", &name]);
    let asked = anonymous.seen("/token");
    let wanted =
        "GET /token?from=test&service=the%2C%20service&scope=repository:team/app:pull,push".replace("%2C", ",");
    assert!(asked.iter().any(|m| m.first == wanted), "{asked:?}");
    assert_eq!(asked.len(), 1, "one token is enough for all: {asked:?}");
    // A token that ends after one request is got anew, again and again.
    let fleeting = with_tokens(registry.port, |_| Some(r#"{"access_token":"x-once"}"#.into()));
    let there = Client::empty();
    there.ok(&["pull", &fleeting.name("team/app")]);
    assert!(fleeting.seen("/token").len() > 2);
}

#[test]
fn tokens_for_a_password_and_for_an_identity() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let for_password = with_tokens(registry.port, |request| {
        (request.header("authorization") == Some(BASIC)).then(|| r#"{"token":"for-tim"}"#.into())
    });
    let (server, name) = (format!("localhost:{}", for_password.port), for_password.name("app"));
    client.ok(&["tag", IMAGE, &name]);
    assert_eq!(login(&client, &server, "wrong").code, 1);
    assert!(client.fails(&["push", &name]).contains("incorrect username or password"));
    let done = login(&client, &server, "secret");
    assert_eq!(done.out, "Login Succeeded\n", "{done:?}");
    client.ok(&["push", &name]);
    assert!(for_password.seen("/v2/").iter().all(|m| m.header("authorization") != Some(BASIC)));

    let for_identity = with_tokens(registry.port, |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let good = "grant_type=refresh_token&service=the,%20service&client_id=minirun&scope=repository:app:pull&\
                    refresh_token=id%26entity";
        (request.first.starts_with("POST ") && body == good).then(|| r#"{"access_token":"for-identity"}"#.into())
    });
    let server = format!("localhost:{}", for_identity.port);
    let entry = format!(r#"{{"auths":{{"{server}":{{"auth":"dGltOg==","identitytoken":"id&entity"}}}}}}"#);
    client.store.write("docker/config.json", entry);
    client.ok(&["pull", &for_identity.name("app")]);
    assert_eq!(for_identity.seen("POST /token").len(), 1);
}

#[test]
fn secrets_do_not_follow_to_other_hosts() {
    let client = Client::with_image();
    let registry = Registry::open(&client.store);
    let storage = Proxy::start(registry.port, |_| Action::Pass);
    let elsewhere = storage.port;
    let front = Proxy::start(registry.port, move |request| match request.header("authorization") {
        None => Action::Reply(401, "WWW-Authenticate: Basic realm=x\r\n".into(), Vec::new()),
        Some(_) if request.first.starts_with("GET ") && request.first.contains("/blobs/") => {
            let path = request.first.split(' ').nth(1).unwrap();
            Action::Reply(307, format!("Location: http://127.0.0.1:{elsewhere}{path}\r\n"), Vec::new())
        }
        Some(_) => Action::Pass,
    });
    let (server, name) = (format!("localhost:{}", front.port), front.name("app"));
    assert_eq!(login(&client, &server, "secret").code, 0);
    client.ok(&["tag", IMAGE, &name]);
    client.ok(&["push", &name]);
    client.ok(&["rmi", &name, IMAGE]);
    client.ok(&["pull", &name]);
    let followed = storage.seen("/blobs/");
    assert!(followed.len() >= 2, "{followed:?}");
    assert!(followed.iter().all(|m| m.header("authorization").is_none()), "{followed:?}");
    // A token's realm that would carry the password in the clear, and one that is no place at all.
    for realm in ["http://registry.example/token", "file:///etc/passwd", "//x"] {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n");
        let greedy = Proxy::start(registry.port, move |_| Action::Reply(401, challenge.clone(), Vec::new()));
        let entry = format!(r#"{{"auths":{{"localhost:{}":{{"auth":"{}"}}}}}}"#, greedy.port, &BASIC[6..]);
        client.store.write("docker/config.json", entry);
        let error = client.refuses(&["pull", &greedy.name("app")]);
        assert!(greedy.seen("").iter().all(|m| m.header("authorization").is_none()));
        assert!(realm.starts_with("http:") || error.contains("realm") || error.contains("not safe"), "{error}");
    }
}

/// A certificate authority and a certificate of it for localhost, in the scratch folder.
fn certificates(client: &Client) {
    let script = "set -e; cd \"$1\"; mkdir certs
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout ca.key -out ca.crt
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt";
    let mut command = Command::new("bash");
    command.args(["-c", script, "sh", client.store.path("").to_str().unwrap()]);
    let made = crate::support::done(&mut command);
    assert_eq!(made.code, 0, "openssl is needed: {made:?}");
}

#[test]
fn a_registry_with_tls_is_who_its_certificate_says() {
    let client = Client::with_image();
    certificates(&client);
    let (certificate, key) = (client.store.text("server.crt"), client.store.text("server.key"));
    let tls = format!(", tls: {{certificate: {certificate}, key: {key}}}");
    let registry = Registry::with(&client.store, "", &tls);
    let (server, name) = (format!("localhost:{}", registry.port), registry.name("app"));
    client.ok(&["tag", IMAGE, &name]);
    let error = client.fails(&["push", &name]);
    assert!(error.contains("certificate") && error.contains("https://"), "{error}");
    // Unchecked, then by a certificate in the settings, then by one in a folder of Docker's form.
    client.ok(&["push", "--tls-verify=false", &name]);
    client.ok(&["manifest", "inspect", "--insecure", &name]);
    assert!(client.fails(&["manifest", "inspect", &name]).contains("certificate"));
    client.settings(&format!(r#"{{"registries":{{"{server}":{{"ca":"{}"}}}}}}"#, client.store.text("ca.crt")));
    client.ok(&["push", &name]);
    let folder = client.store.path("certs").join(&server);
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(client.store.path("ca.crt"), folder.join("ca.crt")).unwrap();
    client.settings(&format!(r#"{{"certificates":["{}"]}}"#, client.store.text("certs")));
    client.ok(&["rmi", &name, IMAGE]);
    client.ok(&["pull", &name]);
    assert_eq!(client.ok(&["run", "--rm", &name, "echo", "by tls"]), "by tls");
}

#[test]
fn without_tls_only_what_cannot_leave_the_machine_or_was_asked_for() {
    let mut client = Client::with_image();
    let registry = Registry::open(&client.store);
    let local = registry.name("app");
    client.ok(&["tag", IMAGE, &local]);
    client.ok(&["push", &local]);
    // Another machine's name, which only the proxy knows.
    let proxy = Proxy::start(registry.port, |_| Action::Pass);
    for variable in ["HTTP_PROXY", "https_proxy"] {
        client.set(variable, &format!("http://127.0.0.1:{}", proxy.port));
    }
    let name = "registry.example:5000/app";
    let error = client.refuses(&["pull", name]);
    assert!(error.contains("registry.example:5000 does not speak TLS; if that is right, set plainHttp"), "{error}");
    let seen = proxy.seen("");
    assert!(!seen.is_empty() && seen.iter().all(|m| m.first == "CONNECT registry.example:5000"), "{seen:?}");
    client.settings(r#"{"registries":{"registry.example:5000":{"plainHttp":true}}}"#);
    client.ok(&["pull", name]);
    assert_eq!(client.ok(&["run", "--rm", name, "echo", "by proxy"]), "by proxy");
    client.ok(&["pull", &local]);
    assert!(proxy.seen("localhost").is_empty());
    // Without the proxy there is no such host.
    client.set("NO_PROXY", ".example");
    let error = client.fails(&["pull", name]);
    assert!(error.contains("registry.example:5000"), "{error}");
}
