//! Docker's `config.json`: what holds when the command line says nothing.

use crate::support::{IMAGE, Store, done, eventually};

/// Writes the file where the store's commands look for it.
fn configure(store: &Store, text: &str) {
    std::fs::create_dir_all(store.path("docker")).unwrap();
    store.write("docker/config.json", text);
}

#[test]
fn listings_have_its_formats() {
    let store = Store::new();
    store.ok(&["run", "-d", "--name", "one", IMAGE, "sleep", "1000"]);
    store.ok(&["volume", "create", "vol"]);
    let is_plain = |table: &str| table.starts_with("REPOSITORY   TAG       IMAGE ID ");
    configure(
        &store,
        r#"{"psFormat": "P {{.Names}} {{.Size}}", "imagesFormat": "table {{.Repository}}\t{{.Tag}}",
            "networksFormat": "N {{.Name}}", "volumesFormat": "V {{.Name}}", "statsFormat": "S {{.Name}}"}"#,
    );
    assert!(store.ok(&["ps"]).starts_with("P one 0B (virtual "));
    assert_eq!(store.ok(&["images"]), "REPOSITORY   TAG\nbusybox      latest");
    assert!(store.ok(&["network", "ls"]).lines().any(|line| line == "N bridge"));
    assert_eq!(store.ok(&["volume", "ls"]), "V vol");
    assert_eq!(store.ok(&["stats", "--no-stream"]), "S one");
    // The command line comes first, and ids stay ids.
    assert_eq!(store.ok(&["ps", "--format", "{{.Image}}"]), IMAGE);
    assert!(is_plain(&store.ok(&["images", "--format", "table"])));
    assert_eq!(store.ok(&["ps", "-q", "--no-trunc"]), store.inspect("one", "{{.Id}}"));
    assert_eq!(store.ok(&["volume", "ls", "-q"]), "vol");
    // Another folder.
    std::fs::create_dir(store.path("other")).unwrap();
    store.write("other/config.json", r#"{"psFormat": "other", "imagesFormat": null}"#);
    assert_eq!(store.ok(&["--config", &store.text("other"), "ps"]), "other");
    assert!(is_plain(&store.ok(&["--config", &store.text("other"), "images"])));
    let mut home = store.command(&["ps"]);
    std::fs::rename(store.path("docker"), store.path(".docker")).unwrap();
    let shown = done(home.env_remove("DOCKER_CONFIG").env("HOME", store.path("")));
    assert!(shown.out.starts_with("P one"), "{shown:?}");
    assert!(store.ok(&["ps"]).starts_with("CONTAINER ID"));
    store.ok(&["volume", "rm", "vol"]);
}

#[test]
fn what_is_no_configuration_is_told_about() {
    let store = Store::new();
    let file = store.text("docker/config.json");
    for bad in ["{ bad", r#"{"psFormat": 3}"#] {
        configure(&store, bad);
        let shown = store.run(&["run", "--rm", IMAGE, "echo", "runs"]);
        assert_eq!((shown.code, shown.out.as_str()), (0, "runs\n"), "{shown:?}");
        let warning = format!("WARNING: Error parsing config file ({file}): ");
        assert!(shown.err.starts_with(&warning) && shown.err.lines().count() == 1, "{shown:?}");
    }
    configure(&store, "");
    assert_eq!(store.run(&["ps"]).err, "");
}

#[test]
fn its_keys_leave_a_container() {
    let store = Store::new();
    configure(&store, r#"{"detachKeys": "ctrl-x,y"}"#);
    let mut terminal = store.terminal(&["run", "-it", "--name", "keys", IMAGE, "sh"]);
    terminal.expect("# ");
    terminal.send("\x18y");
    assert_eq!(terminal.wait(), 0);
    terminal.expect("read escape sequence");
    for (args, keys) in [
        (&["attach", "keys"][..], "\x18y"),
        (&["exec", "-it", "keys", "sh"], "\x18y"),
        (&["attach", "--detach-keys", "ctrl-a", "keys"], "\x01"),
    ] {
        let mut terminal = store.terminal(args);
        eventually("the terminal to be raw", || terminal.is_raw());
        terminal.send(keys);
        terminal.wait();
        terminal.expect("read escape sequence");
    }
    configure(&store, r#"{"detachKeys": "ctrl-1"}"#);
    assert!(store.fails(125, &["run", IMAGE, "true"]).contains("invalid detach keys (ctrl-1)"));
    store.ok(&["run", "--rm", "--detach-keys", "ctrl-a", IMAGE, "true"]);
}

#[test]
fn its_proxies_are_those_of_containers_and_builds() {
    let store = Store::new();
    configure(
        &store,
        r#"{"auths": {}, "proxies": {"tcp://other": {"ftpProxy": "http://no:1"}, "default": {
            "httpProxy": "http://p:1", "httpsProxy": "http://p:2", "noProxy": "localhost", "allProxy": ""}}}"#,
    );
    let proxies = |text: &str| {
        let mut lines: Vec<&str> = text.lines().filter(|line| line.to_lowercase().contains("_proxy")).collect();
        lines.sort_unstable();
        lines.join(" ")
    };
    let all = "HTTPS_PROXY=http://p:2 HTTP_PROXY=http://p:1 NO_PROXY=localhost http_proxy=http://p:1 \
               https_proxy=http://p:2 no_proxy=localhost";
    assert_eq!(proxies(&store.ok(&["run", "--rm", IMAGE, "env"])), all);
    store.ok(&["create", "--name", "made", IMAGE, "env"]);
    assert_eq!(proxies(&store.ok(&["start", "-a", "made"])), all);
    // What is named counts, each spelling for itself; a bare name takes it away.
    let file = store.write("variables", "HTTPS_PROXY=file\n");
    let given = ["run", "--rm", "-e", "HTTP_PROXY=mine", "-e", "no_proxy", "--env-file", &file, IMAGE, "env"];
    let mut given = store.command(&given);
    let shown = done(given.env_remove("no_proxy")).out;
    let wanted = "HTTPS_PROXY=file HTTP_PROXY=mine NO_PROXY=localhost http_proxy=http://p:1 https_proxy=http://p:2";
    assert_eq!(proxies(&shown), wanted);
    // exec has what the container has.
    store.ok(&["run", "-d", "--name", "up", "-e", "HTTP_PROXY=mine", IMAGE, "sleep", "1000"]);
    assert!(proxies(&store.ok(&["exec", "up", "env"])).contains(" HTTP_PROXY=mine "));
    // Builds have them as arguments that need no ARG, and the image does not keep them.
    let said = store.builds("FROM busybox\nRUN echo \"<$HTTP_PROXY $no_proxy>\"\n", &["-t", "built"]);
    assert!(said.contains("<http://p:1 localhost>") && !said.contains("not consumed"), "{said}");
    assert!(!store.inspect("built", "{{json .Config}}").to_lowercase().contains("proxy"));
    let args = ["--build-arg", "HTTP_PROXY=mine", "--no-cache"];
    let said = store.builds("FROM busybox\nRUN echo \"<$HTTP_PROXY $no_proxy>\"\n", &args);
    assert!(said.contains("<mine localhost>"), "{said}");
    configure(&store, r#"{"proxies": {"default": null}}"#);
    let none = store.run(&["run", "--rm", IMAGE, "env"]);
    assert_eq!((none.err.as_str(), proxies(&none.out).as_str()), ("", ""));
    configure(&store, r#"{"proxies": {"default": {"httpProxy": "a\u0000b"}}}"#);
    store.fails(125, &["run", "--rm", IMAGE, "env"]);
}
