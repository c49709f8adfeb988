//! What `inspect` tells of images and containers, as whole documents and through templates.

use crate::support::{IMAGE, Store};
use serde_json::Value;

fn document(store: &Store, args: &[&str]) -> Value {
    let text = store.ok(&[&["inspect"], args].concat());
    assert!(text.starts_with("[\n    {\n        \""), "{text}");
    let Value::Array(mut found) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn an_image_has_dockers_fields() {
    let store = Store::new();
    store.ok(&["run", "--name", "box", IMAGE, "touch", "/new"]);
    let changes =
        ["-c", "EXPOSE 80", "-c", "LABEL a=b", "-c", "ENTRYPOINT [\"sh\"]", "-a", "Me <me@host>", "-m", "why"];
    let id = store.ok(&[&["commit"], &changes[..], &["box", "made:1"]].concat());
    store.ok(&["tag", "made:1", "localhost:5000/other"]);
    let made = document(&store, &["made:1"]);
    let expected = "Architecture Author Comment Config Container ContainerConfig Created DockerVersion GraphDriver Id \
                    Metadata Os Parent RepoDigests RepoTags RootFS Size VirtualSize";
    assert_eq!(keys(&made).join(" "), expected);
    let config = "AttachStderr AttachStdin AttachStdout Cmd Domainname Entrypoint Env ExposedPorts Hostname Image Labels \
                  OnBuild OpenStdin StdinOnce Tty User Volumes WorkingDir";
    assert_eq!(keys(&made["Config"]).join(" "), config);
    assert_eq!(made["Id"], id.as_str());
    assert_eq!(made["RepoTags"], serde_json::json!(["made:1", "localhost:5000/other:latest"]));
    assert_eq!(made["RepoDigests"], serde_json::json!([]), "no registry knows it");
    assert_eq!(made["Parent"], store.inspect(IMAGE, "{{.Id}}").as_str());
    assert_eq!((&made["Author"], &made["Comment"]), (&"Me <me@host>".into(), &"why".into()));
    assert_eq!(made["Container"], store.inspect("box", "{{.Id}}").as_str());
    assert_eq!(made["Config"]["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!((&made["Os"], &made["RootFS"]["Type"]), (&"linux".into(), &"layers".into()));
    assert_eq!(made["Size"], made["VirtualSize"]);
    // The folders of the driver are there, and the upper one is the topmost layer.
    let upper = made["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap();
    assert!(std::path::Path::new(upper).join("new").exists());
    let lower = made["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    assert!(std::path::Path::new(lower).join("bin/busybox").exists());
}

#[test]
fn a_container_has_dockers_fields() {
    let store = Store::new();
    let host = store.text("host");
    std::fs::create_dir(&host).unwrap();
    let bind = format!("{host}:/host:ro");
    let flags = [
        "--name",
        "box",
        "-v",
        "named:/data",
        "-v",
        &bind,
        "--memory",
        "64m",
        "--restart",
        "on-failure:3",
        "--cap-add",
        "net_admin",
        "-e",
        "A=b",
        "-l",
        "k=v",
        "-w",
        "/tmp",
        "--ulimit",
        "nofile=10:20",
        "--read-only",
    ];
    store.ok(&[&["run", "-d"], &flags[..], &[IMAGE, "sleep", "1000"]].concat());
    let found = document(&store, &["box"]);
    let expected = "AppArmorProfile Args Config Created Driver ExecIDs GraphDriver HostConfig HostnamePath HostsPath Id Image \
                    LogPath MountLabel Mounts Name NetworkSettings Path Platform ProcessLabel ResolvConfPath RestartCount \
                    State";
    assert_eq!(keys(&found).join(" "), expected);
    let state = "Dead Error ExitCode FinishedAt OOMKilled Paused Pid Restarting Running StartedAt Status";
    assert_eq!(keys(&found["State"]).join(" "), state);
    assert_eq!((&found["State"]["Status"], &found["State"]["Running"]), (&"running".into(), &true.into()));
    assert!(std::path::Path::new(&format!("/proc/{}", found["State"]["Pid"])).exists());
    assert_eq!((&found["Path"], &found["Args"][0], &found["Name"]), (&"sleep".into(), &"1000".into(), &"/box".into()));
    let config = &found["Config"];
    assert_eq!(config["Env"], serde_json::json!(["A=b"]), "what the user and the image say, and nothing more");
    assert_eq!(
        (&config["WorkingDir"], &config["Labels"]["k"], &config["Image"]),
        (&"/tmp".into(), &"v".into(), &IMAGE.into())
    );
    assert_eq!(config["Hostname"].as_str(), found["Id"].as_str().map(|id| &id[..12]));
    let host_config = &found["HostConfig"];
    for key in [
        "Binds",
        "ContainerIDFile",
        "LogConfig",
        "NetworkMode",
        "PortBindings",
        "RestartPolicy",
        "AutoRemove",
        "VolumesFrom",
        "CapAdd",
        "CapDrop",
        "CgroupnsMode",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "IpcMode",
        "Links",
        "OomScoreAdj",
        "PidMode",
        "Privileged",
        "PublishAllPorts",
        "ReadonlyRootfs",
        "SecurityOpt",
        "UTSMode",
        "UsernsMode",
        "ShmSize",
        "Runtime",
        "CpuShares",
        "Memory",
        "NanoCpus",
        "CgroupParent",
        "CpuPeriod",
        "CpuQuota",
        "CpusetCpus",
        "CpusetMems",
        "Devices",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "OomKillDisable",
        "PidsLimit",
        "Ulimits",
        "MaskedPaths",
        "ReadonlyPaths",
    ] {
        assert!(host_config.get(key).is_some(), "{key}");
    }
    assert_eq!(host_config["Binds"], serde_json::json!(["named:/data", bind]));
    assert_eq!(host_config["RestartPolicy"], serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    assert_eq!((&host_config["Memory"], &host_config["CapAdd"][0]), (&(64 << 20).into(), &"CAP_NET_ADMIN".into()));
    assert_eq!(host_config["Ulimits"], serde_json::json!([{"Name": "nofile", "Soft": 10, "Hard": 20}]));
    assert_eq!((&host_config["ReadonlyRootfs"], &host_config["CapDrop"]), (&true.into(), &Value::Null));
    let mounts = found["Mounts"].as_array().unwrap();
    let volume = mounts.iter().find(|m| m["Destination"] == "/data").unwrap();
    assert_eq!((&volume["Type"], &volume["Name"], &volume["RW"]), (&"volume".into(), &"named".into(), &true.into()));
    assert!(std::path::Path::new(volume["Source"].as_str().unwrap()).is_dir());
    let bound = mounts.iter().find(|m| m["Destination"] == "/host").unwrap();
    assert_eq!(
        (&bound["Type"], &bound["Source"], &bound["RW"]),
        (&"bind".into(), &host.as_str().into(), &false.into())
    );
    for key in
        ["Bridge", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress", "Networks", "Ports", "SandboxKey"]
    {
        assert!(found["NetworkSettings"].get(key).is_some(), "{key}");
    }
    // Privileges are shown by what is not masked.
    store.ok(&["create", "--name", "free", "--privileged", IMAGE, "true"]);
    assert_eq!(store.inspect("free", "{{json .HostConfig.MaskedPaths}} {{.HostConfig.Privileged}}"), "null true");
    store.ok(&["rm", "-f", "box", "free"]);
}

#[test]
fn absent_fields_are_empty_in_templates_and_not_in_documents() {
    let store = Store::new();
    assert_eq!(store.run(&["run", "--name", "box", IMAGE, "sh", "-c", "exit 3"]).code, 3);
    for (template, shown) in [
        ("{{.State.ExitCode}} {{.State.Status}}", "3 exited"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{json .State.Health}}", "null"),
        ("{{.Config.Entrypoint}}{{.Config.Volumes}}{{.ExecIDs}}", "[]map[][]"),
        ("{{json .Config.Entrypoint}}", "null"),
        ("{{range .Mounts}}x{{end}}", ""),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", ""),
        ("{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", "bridge"),
        ("{{index .Config.Labels \"no.such\"}}", ""),
        ("{{.Config.Labels.nosuch}}", "<no value>"),
        ("{{.State.Health}}|{{.Config.StopSignal}}|{{.HostConfig.Init}}", "<nil>||<nil>"),
        ("{{.HostConfig.NanoCPUs}} {{.HostConfig.NanoCpus}} {{.HostConfig.DNSOptions}}", "0 0 []"),
        ("{{len .ID}} {{if eq .ID .Id}}same{{end}}", "64 same"),
        ("{{.NetworkSettings.SandboxKey}}", ""),
        ("{{len .Config.Cmd}} {{join .Config.Cmd \"|\"}}", "3 sh|-c|exit 3"),
        ("{{printf \"%s-%d\" (slice .Id 0 0) .State.ExitCode}}", "-3"),
        ("{{println .Name | upper}}", "/BOX\n"),
        ("{{with .HostConfig}}{{.Memory}}{{end}}", "0"),
    ] {
        let out = store.run(&["inspect", "-f", template, "box"]);
        assert_eq!((out.code, out.out), (0, format!("{shown}\n")), "{template}: {}", out.err);
    }
    store.ok(&["run", "-d", "--name", "up", "--network", "none", "--stop-signal", "INT", IMAGE, "sleep", "1000"]);
    let pid = store.inspect("up", "{{.State.Pid}}");
    let asked = store.inspect("up", "{{.NetworkSettings.SandboxKey}} {{.Config.StopSignal}}");
    assert_eq!(asked, format!("/proc/{pid}/ns/net SIGINT"));
    let found = document(&store, &["box"]);
    assert!(found["State"].get("Health").is_none() && found.get("SizeRw").is_none(), "{found}");
    assert!(found["Config"].get("Healthcheck").is_none() && found["Config"].get("ExposedPorts").is_none());
    let sized = document(&store, &["-s", "box"]);
    assert_eq!(sized["SizeRw"], 0);
    assert_eq!(sized["SizeRootFs"].to_string(), store.inspect(IMAGE, "{{.Size}}"));
    let error = store.fails(1, &["inspect", "-f", "{{.State.Bad}}", "box"]);
    assert!(error.contains("map has no entry for key \"Bad\""), "{error}");
    let line = store.ok(&["inspect", "--format", "json", "box"]);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()[0], found);
}

#[test]
fn every_kind_of_object_is_found_and_shown_alike() {
    let store = Store::new();
    store.ok(&["network", "create", "net"]);
    store.ok(&["volume", "create", "vol"]);
    assert_eq!(store.inspect("net", "{{.Name}} {{.Driver}} {{len .ID}}"), "net bridge 64");
    assert_eq!(store.ok(&["inspect", "--type", "network", "-f", "{{.Name}}", "net"]), "net");
    assert!(store.fails(1, &["inspect", "--type", "network", "vol"]).contains("vol"));
    assert_eq!(store.inspect(IMAGE, "{{.Os}}{{with .Variant}}/{{.}}{{end}}{{.OsVersion}}"), "linux");
    for (group, name) in [("network", "net"), ("volume", "vol"), ("image", IMAGE)] {
        let whole = store.ok(&[group, "inspect", name]);
        for args in [&["inspect", name][..], &["inspect", "-f", "", name], &[group, "inspect", "-f", "", name]] {
            assert_eq!(store.ok(args), whole, "{args:?}");
        }
        let document: Value = serde_json::from_str(&whole).unwrap();
        let line = store.ok(&[group, "inspect", "-f", "json", name]);
        assert_eq!((line.lines().count(), serde_json::from_str::<Value>(&line).unwrap()), (1, document), "{line}");
    }
}

#[test]
fn what_users_name_has_one_name() {
    let store = Store::new();
    let id = store.ok(&["create", "--label", "id=1", "--label", "Dns=2", IMAGE, "true"]);
    let labels = store.ok(&["inspect", "-f", "{{.ID}} {{json .HostConfig.DNS}} {{json .Config.Labels}}", &id]);
    assert_eq!(labels, format!(r#"{id} [] {{"Dns":"2","id":"1"}}"#));
}

#[test]
fn several_objects_are_one_list_and_missing_ones_are_told() {
    let store = Store::new();
    store.ok(&["create", "--name", "box", IMAGE, "true"]);
    store.ok(&["tag", IMAGE, "box"]);
    let both = store.run(&["inspect", "-f", "{{.Id}}", "box", "nosuch", IMAGE]);
    assert_eq!((both.code, both.out.lines().count()), (1, 2), "{both:?}");
    assert!(both.err.contains("No such object: nosuch"), "{both:?}");
    let container = store.inspect("box", "{{.Id}}");
    assert_eq!(container.len(), 64, "the container goes before the image of the same name");
    assert!(store.ok(&["inspect", "--type", "image", "-f", "{{.Id}}", "box"]).starts_with("sha256:"));
    assert!(store.ok(&["image", "inspect", "-f", "{{.Id}}", "box"]).starts_with("sha256:"));
    assert_eq!(store.ok(&["container", "inspect", "-f", "{{.Id}}", "box"]), container);
    store.ok(&["volume", "create", "box"]);
    store.ok(&["volume", "create", "pot"]);
    assert_eq!(store.ok(&["inspect", "--type", "volume", "-f", "{{.Name}} {{.Driver}}", "box"]), "box local");
    assert_eq!(store.ok(&["inspect", "-f", "{{.Scope}}", "pot"]), "local");
    for (args, message) in [
        (&["inspect", "--type", "volume", "nosuch"][..], "No such volume: nosuch"),
        (&["inspect", "nosuch"][..][..], "No such object: nosuch"),
        (&["image", "inspect", "nosuch"], "No such image: nosuch"),
        (&["container", "inspect", IMAGE], "No such container: busybox"),
    ] {
        let missing = store.run(args);
        assert_eq!((missing.code, missing.out.as_str()), (1, "[]\n"), "{args:?}");
        assert!(missing.err.contains(message), "{missing:?}");
    }
    assert!(store.fails(1, &["inspect", "--type", "foo", "box"]).contains("\"foo\" is not a valid value for --type"));
}
