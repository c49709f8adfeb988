//! Images travel between an engine and minirun by a registry, in both directions.

use crate::base::{done, fixture, program};
use crate::support::{Engine, Room, Test};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const ADDRESS: &str = "localhost:5917";
/// What only a tree with everything in it shows.
const ODDITIES: &str = "mkdir -p /odd/deep; echo one > /odd/one; ln /odd/one /odd/two; ln -s ../../one /odd/deep/link; \
                        touch -d @1.5 /odd/old; chmod 4755 /odd/one; chown 12:34 /odd/deep; mkfifo /odd/fifo; \
                        rm /bin/wc; rm -rf /home; mkdir /home; touch /home/new";
const LIST: &str = "cd /; find odd home bin -exec stat -c '%n %F %a %u:%g %s %Y %h' {} + | sort; cat odd/deep/link/../one \
                    odd/two; readlink odd/deep/link";

/// Debian's registry in the room.
fn registry() {
    static REGISTRY: OnceLock<()> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let room = Room::get();
        let config = room.text("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: \
             {{rootdirectory: {}}}}}\nhttp: {{addr: \"{ADDRESS}\", secret: x}}\n",
            room.text("registry")
        );
        std::fs::write(&config, text).unwrap();
        room.start("docker-registry", &["serve", &config], || {
            let mut probe = in_room(&["bash", "-c", "exec 3<>/dev/tcp/localhost/5917"]);
            probe.stderr(Stdio::null());
            probe
        });
    });
}

fn in_room(args: &[&str]) -> Command {
    let words = Room::get().words();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(args).stdin(Stdio::null());
    command
}

/// A command of minirun in the room, with a store of this test's own; it must succeed.
fn minirun(test: &Test, args: &[&str]) -> String {
    let (root, state, program) = (test.path("root"), test.path("state"), program());
    let words = [&[program.to_str().unwrap(), "--root", &root, "--state", &state], args].concat();
    let done = done(&mut in_room(&words));
    assert_eq!(done.code, 0, "minirun {args:?}: {done:?}");
    done.out.trim_end().to_owned()
}

fn engine_moves(engine: &Engine, test: &Test, verb: &str, name: &str) {
    let unchecked: &[&str] = if engine.name == "podman" { &["--tls-verify=false"] } else { &[] };
    test.ok(&[&[verb, "-q"], unchecked, &[name]].concat());
}

pub fn images_travel_by_a_registry(test: &Test) {
    registry();
    let engine = test.engine;
    let id = |text: &str| text.trim_start_matches("sha256:").to_owned();
    let (ours, theirs) = (format!("{ADDRESS}/{}", test.name("ours")), format!("{ADDRESS}/{}", test.name("theirs")));
    // From minirun to the engine.
    minirun(test, &["import", fixture("busybox.tar").to_str().unwrap(), "base"]);
    minirun(test, &["run", "--name", "odd", "base", "sh", "-c", ODDITIES]);
    minirun(test, &["commit", "odd", &ours]);
    minirun(test, &["rm", "odd"]);
    minirun(test, &["push", "-q", &ours]);
    engine_moves(engine, test, "pull", &ours);
    assert_eq!(
        id(&test.ok(&["image", "inspect", "-f", "{{.Id}}", &ours])),
        id(&minirun(test, &["image", "inspect", "-f", "{{.Id}}", &ours]))
    );
    let here = minirun(test, &["run", "--rm", &ours, "sh", "-c", LIST]);
    assert!(
        here.contains("odd/one regular file 4755 0:0 4 ") && here.contains("odd/deep directory 755 12:34"),
        "{here}"
    );
    let there = test.ok(&["run", "--rm", "--network", "none", &ours, "sh", "-c", LIST]);
    assert_eq!(here, there);
    // And back, with a layer of the engine's own.
    let box_name = test.name("odd");
    let change = "echo more >> /odd/one; rm /odd/old; mkdir /odd/new";
    test.ok(&["run", "--network", "none", "--name", &box_name, &ours, "sh", "-c", change]);
    test.ok(&["commit", &box_name, &theirs]);
    test.ok(&["rm", &box_name]);
    engine_moves(engine, test, "push", &theirs);
    let said = minirun(test, &["pull", &theirs]);
    assert!(said.contains(": Pull complete"), "{said}");
    assert_eq!(
        id(&test.ok(&["image", "inspect", "-f", "{{.Id}}", &theirs])),
        id(&minirun(test, &["image", "inspect", "-f", "{{.Id}}", &theirs]))
    );
    let here = minirun(test, &["run", "--rm", &theirs, "sh", "-c", LIST]);
    assert_eq!(here, test.ok(&["run", "--rm", "--network", "none", &theirs, "sh", "-c", LIST]));
    // What came from the engine goes on byte for byte.
    let again = format!("{ADDRESS}/{}", test.name("again"));
    minirun(test, &["tag", &theirs, &again]);
    let digest = |said: String| said.rsplit("sha256:").next().map(|d| d[..64].to_owned());
    let said = minirun(test, &["push", &again]);
    assert_eq!(digest(said), digest(minirun(test, &["image", "inspect", "-f", "{{index .RepoDigests 0}}", &theirs])));
}
