//! What a process gets: environment, capabilities, descriptors.

use super::says;
use crate::support::{Done, done};
use crate::threats::bundle::Bundle;
use serde_json::json;
use std::process::Command;

#[test]
fn the_last_of_several_values_of_a_variable_counts_and_home_is_never_empty() {
    let mut b = Bundle::new();
    b.config["process"]["env"] = json!(["PATH=/nowhere", "A=1", "B=x", "A=2", "HOME=", "PATH=/bin"]);
    assert_eq!(b.run(&["/usr/bin/env"]).out, "B=x\nA=2\nPATH=/bin\nHOME=/root\n");
    b.start_sleeping();
    let result = b.exec(&["--env", "A=3", "-e", "HOME=/h", "--env", "B="], &["/usr/bin/env"]);
    assert_eq!(result.out, "PATH=/bin\nA=3\nHOME=/h\nB=\n", "{result:?}");
}

fn sets(text: &str) -> Vec<&str> {
    text.lines().filter_map(|l| l.strip_prefix("Cap")?.split_once(":\t")).map(|(_, set)| set).collect()
}

/// Inheritable, permitted, effective, bounding, ambient.
const SHOW_SETS: [&str; 3] = ["grep", "Cap", "/proc/self/status"];

#[test]
fn each_capability_set_is_the_one_asked_for() {
    let mut b = Bundle::new();
    b.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_NET_RAW", "CAP_KILL"], "effective": ["CAP_CHOWN"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"], "inheritable": ["CAP_CHOWN", "CAP_KILL"],
        "ambient": ["CAP_CHOWN", "CAP_NET_RAW"],
    });
    b.config["process"]["user"] = json!({"uid": 5, "gid": 5});
    let [chown, kill, raw] = [1u64, 1 << 5, 1 << 13];
    let hex = |sets: [u64; 5]| sets.map(|set| format!("{set:016x}")).to_vec();
    let expected = hex([chown | kill, chown, chown, chown | kill | raw, chown]);
    assert_eq!(sets(&b.run(&SHOW_SETS).out), expected);
    b.start_sleeping();
    assert_eq!(sets(&b.exec(&[], &SHOW_SETS).out), expected);
    let with = b.exec(&["--cap", "CAP_NET_ADMIN", "--cap", "sys_time", "--user", "0"], &SHOW_SETS);
    let more = (1 << 12) | (1 << 25);
    let held = chown | kill | more;
    assert_eq!(sets(&with.out), hex([chown | kill, held, held, chown | kill | raw | more, chown]));
    let unknown = b.exec(&["--cap", "CAP_NOSUCH"], &["true"]);
    assert!(unknown.code == 255 && unknown.err.contains("unknown capability \\\"CAP_NOSUCH\\\""), "{unknown:?}");
    b.delete();
    b.config["process"].as_object_mut().unwrap().remove("capabilities");
    b.config["process"]["user"] = json!({"uid": 0, "gid": 0});
    assert_eq!(sets(&b.run(&SHOW_SETS).out), hex([0; 5]));
}

#[test]
fn capabilities_of_another_kernel_are_told_and_left_out() {
    let mut b = Bundle::new();
    b.config["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_NOSUCH"], "permitted": ["CAP_NOSUCH"]});
    let result = b.run(&SHOW_SETS);
    assert_eq!((result.code, sets(&result.out)[3]), (0, "0000000000000020"), "{result:?}");
    let warning = "level=warning msg=\"ignoring unknown or unavailable capabilities: [CAP_NOSUCH]\"";
    assert_eq!(result.err.matches(warning).count(), 1, "{result:?}");
    b.config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL"]);
    b.config["process"]["capabilities"]["permitted"] = json!([]);
    b.start_sleeping();
    let process = json!({"args": SHOW_SETS, "env": ["PATH=/bin"], "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL", "CAP_OTHER"]}});
    let file = b.store.write("process.json", process.to_string());
    let result = done(&mut b.oci(&["exec", "--process", &file, b.id()]));
    assert_eq!((result.code, sets(&result.out)[3]), (0, "0000000000000020"), "{result:?}");
    assert!(result.err.contains("[CAP_OTHER]"), "{result:?}");
    b.delete();
    // Other mistakes stay mistakes.
    b.config["process"]["capabilities"]["bounding"] = json!([7]);
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("config.json: "), "{refused:?}");
}

#[test]
fn capabilities_that_the_caller_lacks_are_told_and_left_out() {
    let without = "exec setpriv --bounding-set=-kill,-net_raw \"$0\" \"$@\"";
    let warning = |names: &str| format!("ignoring unknown or unavailable capabilities: [{names}]");
    let mut b = Bundle::new();
    b.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_NET_RAW", "CAP_NOSUCH"], "effective": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
    });
    let result = b.run_through(without, &SHOW_SETS);
    assert_eq!((result.code, sets(&result.out)[3]), (0, "0000000000000001"), "{result:?}");
    assert_eq!(result.err.matches(&warning("CAP_KILL CAP_NET_RAW CAP_NOSUCH")).count(), 1, "{result:?}");
    b.config["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN"]});
    b.start_sleeping();
    let exec = |script: &str, options: &[&str]| {
        let command = [&["exec"], options, &[b.id(), "true"]].concat();
        let result = done(&mut b.through_shell(script, &command));
        assert_eq!(result.code, 0, "{result:?}");
        result.err
    };
    assert!(exec(without, &["--cap", "CAP_KILL"]).contains(&warning("CAP_KILL")));
    assert_eq!(exec(without, &[]), "");
    assert_eq!(exec("exec \"$0\" \"$@\"", &["--cap", "CAP_KILL"]), "");
    // In a user namespace of his own everybody has them.
    let mut b = Bundle::new();
    super::in_user_namespace(&mut b);
    b.config["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"]});
    let result = b.run_through(without, &SHOW_SETS);
    assert_eq!((sets(&result.out)[3], result.err.as_str()), ("0000000000000021", ""), "{result:?}");
}

#[test]
fn flags_of_schedulers_are_taken_by_their_names() {
    let mut b = Bundle::new();
    let show = ["probe", "syscall", &libc::SYS_sched_getscheduler.to_string(), "0"];
    let batch = i64::from(libc::SCHED_BATCH);
    let reset = batch | i64::from(libc::SCHED_RESET_ON_FORK);
    for (flags, expected) in [
        (&["SCHED_FLAG_RESET_ON_FORK"][..], reset),
        (&["SCHED_RESET_ON_FORK"], reset),
        (&["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"], batch),
        (&["SCHED_FLAG_KEEP_PARAMS"], 0),
        (&["SCHED_FLAG_KEEP_POLICY"], 0),
    ] {
        b.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5, "flags": flags});
        let result = b.run(&show);
        assert_eq!((result.code, result.out), (0, format!("{expected}\n")), "{flags:?}: {}", result.err);
    }
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        b.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": [flag]});
        // Not every kernel can.
        let result = b.run(&show);
        assert!(result.code == 0 || result.err.contains("operation not supported"), "{flag}: {result:?}");
    }
    b.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NOSUCH"]});
    let refused = b.run(&["true"]);
    assert!(refused.code == 1 && refused.err.contains("SCHED_FLAG_NOSUCH"), "{refused:?}");
    b.config["process"].as_object_mut().unwrap().remove("scheduler");
    b.start_sleeping();
    let process = json!({"args": show, "env": ["PATH=/bin"], "cwd": "/",
        "scheduler": {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]}});
    let file = b.store.write("process.json", process.to_string());
    assert_eq!(says(&b, &["exec", "--process", &file, b.id()]), format!("{reset}\n"));
}

#[test]
fn an_oom_score_below_the_callers_is_the_kernels_to_refuse() {
    // The least that processes without CAP_SYS_RESOURCE may have is what somebody with it has set last.
    let may_lower = done(Command::new("sh").args(["-c", "echo -1 >/proc/self/oom_score_adj"])).code == 0;
    let told = |result: &Done, code: i32| match may_lower {
        true => assert_eq!((result.code, result.out.as_str()), (0, "-7\n"), "{result:?}"),
        false => {
            let wrong = "set the OOM score adjustment to -7 (to lower it needs CAP_SYS_RESOURCE): permission denied";
            assert!(result.code == code && result.err.contains(wrong), "{result:?}");
        }
    };
    let show = ["cat", "/proc/self/oom_score_adj"];
    for in_a_user_namespace in [false, true] {
        let mut b = Bundle::new();
        if in_a_user_namespace {
            super::in_user_namespace(&mut b);
        }
        b.config["process"]["oomScoreAdj"] = json!(-7);
        told(&b.run(&show), 1);
        b.config["process"]["oomScoreAdj"] = json!(7);
        assert_eq!(b.run(&show).out, "7\n");
        b.start_sleeping();
        assert_eq!(b.exec(&[], &show).out, "7\n");
        let process = |score: i32| {
            let process = json!({"args": show, "env": ["PATH=/bin"], "cwd": "/", "oomScoreAdj": score});
            let file = b.store.write("process.json", process.to_string());
            done(&mut b.oci(&["exec", "--process", &file, b.id()]))
        };
        assert_eq!(process(9).out, "9\n");
        told(&process(-7), 255);
    }
}

#[test]
fn sockets_of_a_service_manager_are_passed_on_by_those_they_were_meant_for() {
    let mut b = Bundle::new();
    let file = b.store.write("three", "given\n");
    let open = format!("exec 3<{file} 4<{file}; export LISTEN_FDS=1");
    let print = ["sh", "-c", "env | grep LISTEN; cat <&3; ls /proc/self/fd | wc -l"];
    for who in ["", "export LISTEN_PID=$$;"] {
        let result = b.run_through(&format!("{open}; {who} exec \"$0\" \"$@\""), &print);
        // Three streams, the socket, and the folder that is listed.
        assert_eq!(result.out, "LISTEN_FDS=1\nLISTEN_PID=1\ngiven\n5\n", "{who}: {result:?}");
    }
    let foreign = b.run_through(&format!("{open}; LISTEN_PID=1 exec \"$0\" \"$@\""), &print);
    assert!(foreign.code == 0 && foreign.out == "4\n" && foreign.err.contains("Bad file"), "{foreign:?}");
}

#[test]
fn whom_a_filter_keeps_from_leaving_groups_does_not_run() {
    let mut b = Bundle::new();
    b.config["process"]["noNewPrivileges"] = json!(false);
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["setgroups"], "action": "SCMP_ACT_ERRNO"}]
    });
    let kept = b.run(&["id"]);
    assert!(kept.code == 1 && kept.out.is_empty() && kept.err.contains("become user 0 in group 0"), "{kept:?}");
}

#[test]
fn every_further_process_has_the_filter_that_the_container_was_made_with() {
    let mut b = Bundle::new();
    b.change("mkdir -p made");
    b.config["process"]["noNewPrivileges"] = json!(false);
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ESTALE}]
    });
    b.start_sleeping();
    let refused = |options: &[&str], name: &str| {
        let made = b.exec(options, &["mkdir", &format!("/made/{name}")]);
        assert!(made.code == 1 && made.err.contains("Stale file handle"), "{name}: {made:?}");
    };
    refused(&[], "at-first");
    refused(&["--no-new-privs"], "without-new-privileges");
    let updated = done(&mut b.oci(&["update", "--pids-limit", "50", b.id()]));
    assert_eq!(updated.code, 0, "{updated:?}");
    refused(&[], "after-an-update");
    std::fs::write(b.dir().join("config.json"), "{}").unwrap();
    refused(&[], "without-the-bundle");
    assert_eq!(std::fs::read_dir(b.rootfs().join("made")).unwrap().count(), 0);
}

#[test]
fn a_filter_that_cannot_be_leaves_nothing_and_calls_nobody() {
    let mut b = Bundle::new();
    let mark = b.store.path("called");
    b.config["hooks"] = json!({"prestart": [{"path": "/bin/touch", "args": ["touch", mark]}]});
    for (rule, expected) in [
        (json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000}), "errnoRet 70000 is not an error"),
        (
            json!({"names": ["kill"], "action": "SCMP_ACT_KILL",
                "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}),
            "there is no argument 6",
        ),
    ] {
        b.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        let result = b.run(&["true"]);
        let told = result.err.contains("linux.seccomp") && result.err.contains(expected);
        assert!(result.code == 1 && told, "{expected}: {result:?}");
        let left = done(&mut b.oci(&["list", "-q"]));
        assert_eq!((left.out.as_str(), mark.exists()), ("", false), "{expected}");
    }
    b.config["linux"].as_object_mut().unwrap().remove("seccomp");
    assert_eq!(b.run(&["true"]).code, 0);
    assert!(mark.exists());
}

#[test]
fn the_number_of_a_process_that_does_not_run_is_not_left_in_its_file() {
    let mut b = Bundle::new();
    b.start_sleeping();
    let file = b.store.path("number");
    let options = ["--pid-file", file.to_str().unwrap()];
    let missing = b.exec(&options, &["/no/such/program"]);
    assert!(missing.code == 255 && missing.err.contains("/no/such/program"), "{missing:?}");
    assert!(!file.exists(), "{:?}", std::fs::read_to_string(&file));
    std::fs::write(&file, "another's").unwrap();
    assert_eq!(b.exec(&options, &["/no/such/program"]).code, 255);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "another's");
    let runs = b.exec(&options, &["sh", "-c", "readlink /proc/self/ns/pid"]);
    assert_eq!(runs.code, 0, "{runs:?}");
    assert!(std::fs::read_to_string(&file).unwrap().parse::<i32>().is_ok_and(|pid| pid > 1));
    let before = std::fs::read_to_string(&file).unwrap();
    let impossible = b.exec(&["--pid-file", "/dev/null/number"], &["true"]);
    assert!(impossible.code == 255 && impossible.err.contains("/dev/null/number"), "{impossible:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}
