//! Profiles of AppArmor, where the kernel has it: the emulated machine's does, and confines for real. Elsewhere what
//! asks for one is refused.

use crate::support::{Done, IMAGE, Store, done};
use crate::threats::bundle::Bundle;
use serde_json::{Value, json};
use std::path::Path;

fn is_enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// A profile in the kernel that lets no file be opened, gone with this value.
struct Loaded(String);

const KERNEL: &str = "/sys/kernel/security/apparmor";

impl Loaded {
    fn new() -> Loaded {
        let name = format!("mrt-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "");
        std::fs::write(Path::new(KERNEL).join(".replace"), compiled(&name)).unwrap();
        Loaded(name)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = std::fs::write(Path::new(KERNEL).join(".remove"), &self.0);
    }
}

/// As apparmor_parser writes it: version, name, flags, no capability, and no rule.
fn compiled(name: &str) -> Vec<u8> {
    let [number, name_of, string, structure, end] = [2, 4, 5, 7, 8];
    let mut bytes = Vec::new();
    let text = |bytes: &mut Vec<u8>, tag: u8, text: &str| {
        bytes.push(tag);
        bytes.extend((text.len() as u16 + 1).to_le_bytes());
        bytes.extend(text.bytes().chain([0]));
    };
    let numbers = |bytes: &mut Vec<u8>, numbers: &[u32]| {
        numbers.iter().for_each(|n| bytes.extend([&[number][..], &n.to_le_bytes()].concat()));
    };
    text(&mut bytes, name_of, "version");
    numbers(&mut bytes, &[5]);
    text(&mut bytes, name_of, "profile");
    bytes.push(structure);
    text(&mut bytes, string, name);
    text(&mut bytes, name_of, "flags");
    bytes.push(structure);
    numbers(&mut bytes, &[0; 3]);
    bytes.push(end);
    numbers(&mut bytes, &[0; 4]);
    bytes.push(end);
    bytes
}

/// Whether the shell could open a file, told without opening another.
const TRY: [&str; 3] = ["sh", "-c", "if read x </etc/passwd; then echo free; else echo confined; fi"];

fn run_under(b: &mut Bundle, profile: Value, args: &[&str]) -> Done {
    b.config["process"]["apparmorProfile"] = profile;
    b.run(args)
}

#[test]
fn to_be_unconfined_can_be_asked_for_anywhere() {
    let mut b = Bundle::new();
    for profile in [json!(null), json!(""), json!("unconfined")] {
        let result = run_under(&mut b, profile.clone(), &TRY);
        assert_eq!((result.code, result.out.as_str()), (0, "free\n"), "{profile}: {result:?}");
    }
    b.start_sleeping();
    for options in [&["--apparmor", "unconfined"][..], &["--apparmor", ""], &[]] {
        assert_eq!(b.exec(options, &TRY).out, "free\n", "{options:?}");
    }
    let store = Store::new();
    assert_eq!(store.ok(&["run", "--rm", "--security-opt", "apparmor=unconfined", IMAGE, "echo", "hello"]), "hello");
}

#[test]
fn a_profile_that_is_not_there_is_told() {
    let wrong = match is_enabled() {
        true => "unable to apply apparmor profile \\\"nosuch\\\": no such profile is loaded: no such file or directory",
        false => {
            "process.apparmorProfile: the profile \\\"nosuch\\\" is asked for, but AppArmor is not enabled on this host"
        }
    };
    let mut b = Bundle::new();
    let refused = run_under(&mut b, json!("nosuch"), &["true"]);
    assert!(refused.code == 1 && refused.err.contains(wrong), "{refused:?}");
    let cut = run_under(&mut b, json!("un\0confined"), &["true"]);
    assert!(cut.code == 1 && cut.err.contains("is no name of a profile"), "{cut:?}");
    b.config["process"]["apparmorProfile"] = json!(null);
    b.start_sleeping();
    let refused = b.exec(&["--apparmor", "nosuch"], &["true"]);
    assert!(refused.code == 255 && refused.err.contains(wrong), "{refused:?}");
    let store = Store::new();
    let refused = store.fails(125, &["run", "--rm", "--security-opt", "apparmor=nosuch", IMAGE, "true"]);
    let wrong = if is_enabled() { "no such profile is loaded" } else { "AppArmor is not enabled on this host" };
    assert!(refused.contains(wrong), "{refused}");
}

#[test]
#[ignore = "needs a kernel with AppArmor, as the emulated machine has it"]
fn a_profile_confines_the_program_and_all_that_follow() {
    let profile = Loaded::new();
    let Loaded(name) = &profile;
    let label = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    for (no_new_privileges, user, in_a_user_namespace) in [(true, 0, false), (false, 5, false), (true, 5, true)] {
        let mut b = Bundle::new();
        if in_a_user_namespace {
            crate::oci::in_user_namespace(&mut b);
        }
        b.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        b.config["process"]["user"] = json!({"uid": user, "gid": user});
        // What covers the process's own files in the container is not asked.
        b.add_mount(json!({"destination": "/proc/1/attr", "type": "tmpfs", "source": "tmpfs"}));
        let result = run_under(&mut b, json!(name), &TRY);
        assert_eq!((result.code, result.out.as_str()), (0, "confined\n"), "{result:?}");
        b.start_through("exec \"$0\" \"$@\"", &["sleep", "1000"]);
        assert_eq!(label(b.pid()), format!("{name} (enforce)\n"));
        let is = |options: &[&str]| b.exec(options, &TRY).out;
        assert_eq!(is(&[]), "confined\n");
        assert_eq!(is(&["--apparmor", name]), "confined\n");
        assert_eq!(is(&["--apparmor", "unconfined"]), "free\n");
        let by_file = |profile: Value| {
            let mut process = json!({"args": TRY, "env": ["PATH=/bin"], "cwd": "/"});
            if !profile.is_null() {
                process["apparmorProfile"] = profile;
            }
            let file = b.store.write("process.json", process.to_string());
            done(&mut b.oci(&["exec", "--process", &file, b.id()])).out
        };
        assert_eq!(by_file(Value::Null), "confined\n");
        assert_eq!(by_file(json!("unconfined")), "free\n");
        b.delete();
        b.config["process"]["apparmorProfile"] = json!(null);
        b.start_sleeping();
        assert_eq!(b.exec(&[], &TRY).out, "free\n");
        assert_eq!(b.exec(&["--apparmor", name], &TRY).out, "confined\n");
    }
}

#[test]
#[ignore = "needs a kernel with AppArmor, as the emulated machine has it"]
fn the_engines_containers_and_their_commands_have_the_profile_asked_for() {
    let profile = Loaded::new();
    let Loaded(name) = &profile;
    let store = Store::new();
    let option = format!("apparmor={name}");
    let run = |more: &[&str]| store.ok(&[&["run", "--rm"], more, &[IMAGE], &TRY[..]].concat());
    assert_eq!(run(&["--security-opt", &option]), "confined");
    assert_eq!(run(&["--security-opt", &option, "--privileged"]), "confined");
    assert_eq!(run(&[]), "free");
    store.ok(&["run", "-d", "--name", "confined", "--security-opt", &option, IMAGE, "sleep", "1000"]);
    assert_eq!(store.ok(&[&["exec", "confined"], &TRY[..]].concat()), "confined");
    assert_eq!(
        store.inspect("confined", "{{.AppArmorProfile}} {{.HostConfig.SecurityOpt}}"),
        format!("{name} [{option}]")
    );
    assert!(store.ok(&["info", "--format", "{{.SecurityOptions}}"]).contains("name=apparmor"));
    store.ok(&["rm", "-f", "confined"]);
}
