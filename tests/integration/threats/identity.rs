//! Who a process is: by its configuration alone, whoever calls the runtime and however.

use super::bundle::Bundle;
use crate::support::{done, facts};
use serde_json::json;

const NONE: &str = "0000000000000000";

#[test]
fn no_capability_can_be_passed_on() {
    let mut bundle = Bundle::new();
    let caller = "exec setpriv --inh-caps=+net_admin,+sys_admin,+chown --ambient-caps=+net_admin,+chown \"$0\" \"$@\"";
    for uid in [0, 1000] {
        bundle.config["process"]["user"] = json!({"uid": uid, "gid": uid});
        let allowed = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": allowed, "effective": allowed, "permitted": allowed});
        for all in bundle.probe_both(caller) {
            assert_eq!((all["CapInh"].as_str(), all["CapAmb"].as_str()), (NONE, NONE), "{uid}");
            assert_eq!(all["CapBnd"], "0000000000000420", "{uid}");
            assert_eq!(all["CapEff"], if uid == 0 { "0000000000000420" } else { NONE }, "{uid}");
        }
        bundle.start_sleeping();
        let more = ["exec", "--cap", "CAP_NET_ADMIN", bundle.id(), "probe", "all"];
        let all = facts(&done(&mut bundle.through_shell(caller, &more)).out);
        assert_eq!((all["CapInh"].as_str(), all["CapAmb"].as_str()), (NONE, NONE), "exec --cap as {uid}");
        assert_eq!(all["CapBnd"], "0000000000001420", "exec --cap as {uid}");
        bundle.delete();
    }
}

#[test]
fn the_specification_that_is_written_passes_no_capability_on() {
    let bundle = Bundle::new();
    let sets = &bundle.config["process"]["capabilities"];
    assert!(sets["inheritable"].is_null() || sets["inheritable"] == json!([]), "{sets}");
}

#[test]
fn the_groups_of_the_caller_are_not_kept() {
    let mut bundle = Bundle::new();
    let caller = "exec setpriv --groups 3,44,1234 \"$0\" \"$@\"";
    for all in bundle.probe_both(caller) {
        assert_eq!(all["groups"], "");
    }
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [1000, 2000]});
    for all in bundle.probe_both(caller) {
        assert_eq!((all["uid"].as_str(), all["gid"].as_str(), all["groups"].as_str()), ("1000", "1000", "1000,2000"));
    }
}

#[test]
fn no_number_is_root_by_mistake() {
    let mut bundle = Bundle::new();
    for user in [
        json!({"uid": 4294967295u32, "gid": 0}),
        json!({"uid": 1000, "gid": 4294967295u32}),
        json!({"uid": 1000, "gid": 1000, "additionalGids": [4294967295u32]}),
        json!({"uid": 4294967296u64, "gid": 0}),
        json!({"uid": -1, "gid": 0}),
        json!({"uid": "1000", "gid": 0}),
    ] {
        bundle.config["process"]["user"] = user.clone();
        let run = bundle.run(&["true"]);
        assert_eq!(run.code, 1, "{user}: {run:?}");
    }
    bundle.config["process"]["user"] = json!({"uid": 0, "gid": 0});
    bundle.start_sleeping();
    for user in ["4294967295", "4294967296", "-1", "2147483648", "+1", " 1", "1 ", "root", "", ":", "1:", ":1", "0x10"]
    {
        let exec = bundle.exec(&["--user", user], &["true"]);
        assert_ne!(exec.code, 0, "{user:?}: {exec:?}");
    }
    for (user, uid, gid) in
        [("1", "1", "0"), ("1:1", "1", "1"), ("00002", "2", "0"), ("2147483647:5", "2147483647", "5")]
    {
        let all = facts(&bundle.exec(&["--user", user], &["probe", "all"]).out);
        assert_eq!((all["uid"].as_str(), all["euid"].as_str(), all["gid"].as_str()), (uid, uid, gid), "{user}");
    }
    // By a file that describes the process, too.
    let mut process = bundle.config["process"].clone();
    process["user"] = json!({"uid": 4294967295u32, "gid": 0});
    let file = bundle.store.write("process.json", process.to_string());
    let exec = done(&mut bundle.oci(&["exec", "--process", &file, bundle.id()]));
    assert_eq!(exec.code, 255, "{exec:?}");
}

#[test]
fn the_state_of_the_caller_does_not_get_in() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "ONE=1"]);
    let caller = "umask 0; ulimit -c 0; export LEAK=1 TERM=vt52 LD_PRELOAD=/x HOME=/leak; trap '' PIPE QUIT; \
                  exec env --block-signal=USR1,TERM,RTMIN,RTMAX --ignore-signal=HUP,USR2,CHLD \"$0\" \"$@\"";
    for all in bundle.probe_both(caller) {
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(all[set], NONE, "{set}");
        }
        assert_eq!(all["umask"], "0022");
        let env: Vec<_> = all.iter().filter(|(k, _)| k.starts_with("env.")).map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(env, ["env.HOME=/root", "env.ONE=1", "env.PATH=/bin"]);
        assert_eq!(all["pid"] == "1", all["sid"] == "1", "a session of its own");
    }
}

#[test]
fn the_terminal_and_the_keys_of_the_caller_are_out_of_reach() {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["seccomp"] = json!(null);
    let script = "probe open /dev/tty rw; probe syscall 250 0 -3 0";
    let host =
        done(std::process::Command::new(crate::support::fixture("probe")).args(["syscall", "250", "0", "-3", "0"]));
    bundle.set_args(&["sh", "-c", script]);
    bundle.save();
    let dir = bundle.dir();
    let mut rings = vec![host.out.trim().to_owned()];
    // On a terminal of its own, as a login has it.
    let on_terminal = |bundle: &Bundle, args: &[&str]| {
        let inner = bundle.oci(args);
        let words: Vec<_> = inner.get_args().map(|a| format!("'{}'", a.to_str().unwrap())).collect();
        let line = format!("{} {}", bundle.runtime().display(), words.join(" "));
        let said = done(
            std::process::Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null()),
        );
        said.out.replace('\r', "").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = on_terminal(&bundle, &["run", "-b", dir.to_str().unwrap(), bundle.id()]);
    bundle.start_sleeping();
    let exec = on_terminal(&bundle, &["exec", bundle.id(), "sh", "-c", script]);
    for said in [run, exec] {
        assert_eq!(said[0], "ENXIO", "{said:?}");
        said[1].parse::<i64>().expect("a session keyring");
        assert!(!rings.contains(&said[1]), "{said:?} {rings:?}");
        rings.push(said[1].clone());
    }
}
