//! The OCI runtime's face when an ordinary user calls it.

use crate::support::{Done, Store, done, eventually, fixture, program};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// Nobody on this host.
const USER: u32 = 54321;

/// A user with a bundle of his own, as `spec --rootless` describes it.
struct Person {
    store: Store,
    config: Value,
}

impl Person {
    fn new() -> Person {
        let store = Store::empty();
        for folder in ["bundle/rootfs", "run"] {
            std::fs::create_dir_all(store.path(folder)).unwrap();
        }
        std::fs::copy(program(), store.path("minirun-oci")).unwrap();
        let script = "tar -xf \"$1\" -C bundle/rootfs && chown -R \"$2:$2\" bundle run";
        let mut shell = Command::new("sh");
        shell.current_dir(store.path("")).args(["-ec", script, "-"]).arg(fixture("busybox.tar")).arg(USER.to_string());
        let made = done(&mut shell);
        assert_eq!(made.code, 0, "{made:?}");
        let mut person = Person { store, config: Value::Null };
        let dir = person.store.text("bundle");
        person.says(&["spec", "--rootless", "-b", &dir]);
        person.config =
            serde_json::from_slice(&std::fs::read(person.store.path("bundle/config.json")).unwrap()).unwrap();
        person.config["process"]["terminal"] = json!(false);
        person
    }

    /// The words that have him call the runtime.
    fn words(&self, args: &[&str]) -> Vec<OsString> {
        let user = USER.to_string();
        let mut words: Vec<OsString> =
            ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "env", "-i"].map(Into::into).into();
        words.push(format!("PATH={}", std::env::var("PATH").unwrap()).into());
        words.push(format!("XDG_RUNTIME_DIR={}", self.store.text("run")).into());
        words.push(self.store.path("minirun-oci").into());
        words.extend(args.iter().map(Into::into));
        words
    }

    fn oci(&self, args: &[&str]) -> Done {
        let words = self.words(args);
        done(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()))
    }

    fn says(&self, args: &[&str]) -> String {
        let result = self.oci(args);
        assert_eq!(result.code, 0, "{args:?}: {result:?}");
        result.out
    }

    fn refuses(&self, args: &[&str]) -> String {
        let result = self.oci(args);
        assert_ne!(result.code, 0, "{args:?}: {result:?}");
        result.err
    }

    fn save(&mut self, args: &[&str]) -> String {
        self.config["process"]["args"] = json!(args);
        self.store.write("bundle/config.json", self.config.to_string());
        self.store.text("bundle")
    }

    /// Runs a script in a container to its end.
    fn run(&mut self, script: &str) -> Done {
        let dir = self.save(&["sh", "-c", script]);
        self.oci(&["run", "-b", &dir, "his"])
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.says(&["state", "his"])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

#[test]
fn an_ordinary_user_is_root_of_his_container_alone() {
    let mut p = Person::new();
    let seen = p.run("id; cat /proc/self/uid_map; hostname; echo x >/dev/null; ls -l /dev/null; touch /no");
    let maps = format!("         0      {USER}          1\n");
    assert!(seen.out.starts_with(&format!("uid=0(root) gid=0(root)\n{maps}minirun\n")), "{seen:?}");
    assert!(seen.out.contains(" 1,   3 ") && seen.err.contains("Read-only file system"), "{seen:?}");
    p.config["root"]["readonly"] = json!(false);
    assert_eq!(p.run("touch /yes && exit 7").code, 7);
    let made = std::fs::metadata(p.store.path("bundle/rootfs/yes")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);
    // What he was not given he cannot have.
    p.config["process"]["user"]["additionalGids"] = json!([5]);
    assert!(p.run("true").err.contains("become user 0 in group 0"), "groups");
    p.config["process"]["user"] = json!({"uid": 0, "gid": 0});
    p.config["linux"]["resources"] = json!({"memory": {"limit": 100 << 20}});
    let refused = p.run("true");
    assert!(refused.code == 1 && refused.err.contains("name one in linux.cgroupsPath that you own"), "{refused:?}");
    p.config["linux"].as_object_mut().unwrap().remove("resources");
    p.config["linux"]["cgroupsPath"] = json!("/minirun-not-his");
    assert!(p.run("true").err.contains("make the cgroup"), "cgroup");
    // Nothing is left of what was refused.
    assert_eq!(p.says(&["list", "-q"]), "");
    assert_eq!(std::fs::read_dir(p.store.path("run/minirun-oci")).unwrap().count(), 0);
}

#[test]
fn an_ordinary_users_container_goes_through_its_states() {
    let mut p = Person::new();
    p.config["process"]["oomScoreAdj"] = json!(100);
    let dir = p.save(&["sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait"]);
    // The container keeps the output of its creator.
    let mut words = p.words(&["create", "-b", &dir, "his"]);
    words.splice(0..0, ["sh", "-c", "exec \"$@\" >/dev/null 2>&1", "-"].map(OsString::from));
    assert_eq!(done(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null())).code, 0);
    assert_eq!(p.status(), "created");
    p.says(&["start", "his"]);
    assert_eq!(p.status(), "running");
    assert_eq!(p.says(&["exec", "his", "id", "-u"]), "0\n");
    assert_eq!(p.says(&["exec", "his", "cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj"]), "100\n100\n");
    assert!(p.says(&["exec", "-t", "his", "tty"]).contains("/dev/pts/0"));
    assert_eq!(p.says(&["exec", "his", "sh", "-c", "kill -0 1 && hostname"]), "minirun\n");
    // Without a cgroup its processes are those of its pid namespace.
    eventually("its two processes to be there", || {
        let pids: Vec<i32> = serde_json::from_str(&p.says(&["ps", "--format", "json", "his"])).unwrap();
        pids.len() == 2
    });
    for needs_cgroup in [&["pause", "his"][..], &["events", "--stats", "his"], &["update", "--pids-limit", "9", "his"]]
    {
        assert!(p.refuses(needs_cgroup).contains("may make no cgroups"), "{needs_cgroup:?}");
    }
    p.says(&["kill", "--all", "his", "KILL"]);
    eventually("the container to have stopped", || p.status() == "stopped");
    p.says(&["delete", "his"]);
    assert_eq!(p.says(&["list", "-q"]), "");
}

#[test]
fn an_ordinary_users_containers_share_namespaces() {
    let mut p = Person::new();
    p.config["process"]["oomScoreAdj"] = json!(50);
    let dir = p.save(&["sleep", "1000"]);
    let mut words = p.words(&["run", "--detach", "-b", &dir, "his"]);
    words.splice(0..0, ["sh", "-c", "exec \"$@\" >/dev/null 2>&1", "-"].map(OsString::from));
    assert_eq!(done(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null())).code, 0);
    let state: Value = serde_json::from_str(&p.says(&["state", "his"])).unwrap();
    let mut guest = Person::new();
    for namespace in guest.config["linux"]["namespaces"].as_array_mut().unwrap() {
        let kind = namespace["type"].as_str().unwrap();
        if ["user", "pid", "ipc", "uts"].contains(&kind) {
            namespace["path"] = json!(format!("/proc/{}/ns/{kind}", state["pid"]));
        }
    }
    for map in ["uidMappings", "gidMappings"] {
        guest.config["linux"].as_object_mut().unwrap().remove(map);
    }
    guest.config["process"]["oomScoreAdj"] = json!(60);
    let seen = guest.run("id -u; cat /proc/self/oom_score_adj; pidof sleep; tail -n1 /proc/self/uid_map");
    assert_eq!((seen.code, seen.out), (0, format!("0\n60\n1\n         0      {USER}          1\n")), "{}", seen.err);
    p.says(&["delete", "--force", "his"]);
}

#[test]
fn root_of_a_user_namespace_need_have_no_other_namespace() {
    let mut p = Person::new();
    p.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    p.config["linux"]["gidMappings"] = p.config["linux"]["uidMappings"].clone();
    let dir = p.save(&["id", "-u"]);
    let mut words = p.words(&["run", "-b", &dir, "his"]);
    let at = words.iter().position(|word| word == "env").unwrap();
    words.splice(at..at, ["unshare", "--map-root-user"].map(OsString::from));
    let ran = done(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()));
    assert_eq!((ran.code, ran.out.as_str()), (0, "0\n"), "{ran:?}");
}

#[test]
fn ids_that_a_user_was_given_are_mapped_by_the_hosts_programs() {
    let mut p = Person::new();
    let mappings =
        json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 700_000, "size": 9}]);
    p.config["linux"]["uidMappings"] = mappings.clone();
    p.config["linux"]["gidMappings"] = mappings;
    p.config["process"]["user"]["additionalGids"] = json!([7]);
    p.config["process"]["capabilities"]["effective"] = json!(["CAP_CHOWN"]);
    p.config["process"]["capabilities"]["permitted"] = json!(["CAP_CHOWN"]);
    p.config["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN"]);
    p.config["root"]["readonly"] = json!(false);
    let dir = p.save(&["sh", "-c", "id -G; tail -n1 /proc/self/gid_map; touch /given; chown 5:6 /given"]);
    let refused = p.oci(&["run", "-b", &dir, "his"]);
    assert!(refused.code == 1 && refused.err.contains("map the ids of the container: newuidmap"), "{refused:?}");
    // The host's lists, as this command alone sees them, know him.
    let given = p.store.write("given", format!("{USER}:700000:9\n"));
    let known = p.store.write("passwd", format!("root:x:0:0::/:/bin/sh\nhis:x:{USER}:{USER}::/:/bin/sh\n"));
    let lists = "mount --bind \"$1\" /etc/subuid; mount --bind \"$1\" /etc/subgid; mount --bind \"$2\" /etc/passwd
        shift 2; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", lists, "-", &given, &known]);
    let mapped = done(command.args(p.words(&["run", "-b", &dir, "his"])).stdin(Stdio::null()));
    assert_eq!((mapped.code, mapped.out.as_str()), (0, "0 7\n         1     700000          9\n"), "{mapped:?}");
    let made = std::fs::metadata(p.store.path("bundle/rootfs/given")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((made.uid(), made.gid()), (700_004, 700_005));
}
