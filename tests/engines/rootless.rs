//! Podman of an ordinary user, with minirun as its runtime: root of a user namespace that podman makes, on a host where
//! he may make no cgroups.

use crate::base::{done, fixture};
use crate::commands::behaviours;
use crate::podman::settings;
use crate::support::{Engine, Room, Test};
use std::process::Command;
use std::sync::OnceLock;

const USER: &str = "54321";

/// He and what is his are known in the room alone.
fn podman() -> &'static Engine {
    static PODMAN: OnceLock<Engine> = OnceLock::new();
    PODMAN.get_or_init(|| {
        let room = Room::get();
        let home = room.path("his");
        std::fs::create_dir_all(home.join("run")).unwrap();
        std::fs::copy(std::fs::canonicalize(room.runtime()).unwrap(), home.join("minirun-oci")).unwrap();
        std::fs::copy(fixture("busybox.tar"), home.join("busybox.tar")).unwrap();
        let write = |name: &str, text: String| std::fs::write(home.join(name), text).unwrap();
        write("passwd", format!("root:x:0:0::/root:/bin/sh\nhis:x:{USER}:{USER}::{}:/bin/sh\n", home.display()));
        write("subid", "his:700000:65536\n".to_owned());
        write("containers.conf", settings("netns = \"none\"", &format!("{}/minirun-oci", home.display())));
        let furnish = "cd \"$1\"; chown -R \"$2:$2\" .; chmod 700 run
            mount --bind passwd /etc/passwd; mount --bind subid /etc/subuid; mount --bind subid /etc/subgid";
        let words = room.words();
        let mut shell = Command::new(&words[0]);
        shell.args(&words[1..]).args(["sh", "-ec", furnish, "-"]).arg(&home).arg(USER);
        let furnished = done(&mut shell);
        assert_eq!(furnished.code, 0, "{furnished:?}");
        let mut words = room.words();
        let of_him =
            ["env", "-C", room.dir.to_str().unwrap(), "setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"];
        words.extend(of_him.map(Into::into));
        words.extend(["env".into(), "-i".into(), format!("PATH={}", std::env::var("PATH").unwrap()).into()]);
        words.push(format!("HOME={}", home.display()).into());
        words.push(format!("XDG_RUNTIME_DIR={}/run", home.display()).into());
        words.push(format!("CONTAINERS_CONF={}/containers.conf", home.display()).into());
        words.extend(["podman", "--storage-driver", "vfs"].map(Into::into));
        let engine = Engine { name: "podman", words };
        engine.import_from(&home.join("busybox.tar"));
        engine
    })
}

behaviours! { podman:
    output_and_status_come_back
    what_cannot_be_executed_is_told
    input_is_read_to_its_end
    a_shell_runs_on_a_terminal
    the_user_and_the_directory_are_chosen
    a_read_only_tree_has_writable_places
    commands_are_executed_in_it
    what_cannot_be_executed_in_it_is_told
    a_shell_in_it_has_a_terminal
    stopping_asks_first
    signals_reach_it
    its_output_is_kept
}

#[test]
fn he_is_root_in_it_alone() {
    let t = Test::new(podman());
    let text = t.output(&[], &["sh", "-c", "id -u; cat /proc/self/uid_map; ls -l /dev/null"]);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..7], ["0", "0", USER, "1", "1", "700000", "65536"], "{text}");
    assert_eq!(t.inspect(&t.start("whose", &[], &["sleep", "86000"]), "{{.OCIRuntime}}"), "minirun");
}
