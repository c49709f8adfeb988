//! Instructions, stages and what is said about them.

use super::parts;
use crate::support::{Store, facts};

#[test]
fn instructions_make_the_image() {
    let store = Store::new();
    let dockerfile = r#"
ARG BASE=busybox
FROM $BASE AS first
ARG WHO=world
ENV GREETING="hello $WHO" SECOND=2
LABEL kind=test who=$WHO
WORKDIR /app
WORKDIR sub
RUN echo "$GREETING" > greeting
EXPOSE 80 53/udp
VOLUME /data
USER 1000:1000
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s CMD true
SHELL ["/bin/ash", "-c"]
ENTRYPOINT ["cat"]
CMD ["greeting"]
"#;
    store.builds(dockerfile, &["-t", "made", "-t", "made:second", "--build-arg", "WHO=tim", "--label", "more=1"]);
    assert_eq!(store.ok(&["run", "--rm", "made"]), "hello tim");
    let config = |template: &str| store.inspect("made:second", template);
    assert_eq!(config("{{json .Config.Env}}").matches("hello tim").count(), 1);
    assert_eq!(config("{{.Config.WorkingDir}} {{.Config.User}} {{.Config.StopSignal}}"), "/app/sub 1000:1000 SIGUSR1");
    assert_eq!(config("{{json .Config.ExposedPorts}}"), r#"{"53/udp":{},"80/tcp":{}}"#);
    assert_eq!(config("{{json .Config.Volumes}}"), r#"{"/data":{}}"#);
    assert_eq!(config("{{json .Config.Labels}}"), r#"{"kind":"test","more":"1","who":"tim"}"#);
    assert_eq!(config("{{json .Config.Shell}}"), r#"["/bin/ash","-c"]"#);
    assert_eq!(config("{{json .Config.Entrypoint}} {{json .Config.Cmd}}"), r#"["cat"] ["greeting"]"#);
    // Only the RUN and the directories that were missing made layers.
    assert_eq!(config("{{len .RootFS.Layers}}"), "4");
}

#[test]
fn what_every_container_has_can_be_made_by_a_step() {
    let store = Store::new();
    store.builds("FROM busybox\nRUN ln -s /proc/self/mounts /etc/mtab && mkdir /etc/made\n", &["-t", "made"]);
    assert_eq!(store.ok(&["run", "--rm", "made", "readlink", "/etc/mtab"]), "/proc/self/mounts");
    assert_eq!(store.ok(&["image", "diff", "busybox", "made"]), "C /etc\nA /etc/made\nA /etc/mtab");
}

#[test]
fn an_exposed_port_is_the_containers() {
    let store = Store::new();
    let ports = |image: &str| store.inspect(image, "{{json .Config.ExposedPorts}}");
    let said = store.builds("FROM busybox\nEXPOSE 8080:80 127.0.0.1:5353:53/udp\n", &["-t", "built"]);
    assert!(said.contains("WARN: ExposeInvalidFormat: ") && said.contains("found '8080:80' (line 2)"), "{said}");
    store.image("imported", &["EXPOSE 8080:80", "EXPOSE 127.0.0.1:5353:53/udp"]);
    for image in ["built", "imported"] {
        assert_eq!(ports(image), r#"{"53/udp":{},"80/tcp":{}}"#, "{image}");
    }
    let error = store.build_fails("FROM busybox\nEXPOSE nonsense:80\n", &[]);
    assert!(error.contains("invalid hostPort: nonsense"), "{error}");
}

#[test]
fn a_command_of_the_base_goes_with_a_new_entry_point() {
    let store = Store::empty();
    store.image("based", &["CMD [\"old\"]"]);
    store.builds("FROM based\nENTRYPOINT [\"e\"]\n", &["-t", "a"]);
    assert_eq!(store.inspect("a", "{{json .Config.Cmd}}"), "null");
    store.builds("FROM based\nCMD [\"new\"]\nENTRYPOINT [\"e\"]\n", &["-t", "b"]);
    assert_eq!(store.inspect("b", "{{json .Config.Cmd}}"), r#"["new"]"#);
}

#[test]
fn triggers_run_in_the_child() {
    let store = Store::new();
    store.builds("FROM busybox\nONBUILD RUN echo triggered > /trigger\nONBUILD ENV A=b\n", &["-t", "parent"]);
    assert_eq!(store.inspect("parent", "{{json .Config.OnBuild}}").matches("RUN echo").count(), 1);
    assert!(!store.ok(&["history", "parent"]).contains("ONBUILD"));
    let said = store.builds("FROM parent\nRUN cat /trigger; echo A=$A\n", &["-t", "child"]);
    assert!(said.contains("triggered") && said.contains("A=b"), "{said}");
    assert_eq!(store.inspect("child", "{{json .Config.OnBuild}}"), "null");
}

#[test]
fn triggers_of_a_stage_run_in_the_stage_on_top() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS files\nRUN echo copied > /f\nFROM busybox AS base\n\
        ONBUILD COPY --from=files /f /f\nONBUILD RUN echo x >> /trigger\nRUN [ ! -e /trigger ]\n\
        FROM base AS mid\nRUN cat /f; [ $(wc -l < /trigger) = 1 ]\nFROM mid\nRUN [ $(wc -l < /trigger) = 1 ]\n";
    let said = store.builds(dockerfile, &["-t", "i"]);
    assert!(said.contains(" copied\n") && said.contains("[mid 3/3] RUN cat /f"), "{said}");
    assert_eq!(store.inspect("i", "{{json .Config.OnBuild}}"), "null");
    let error = store.build_fails("FROM busybox AS a\nONBUILD RUN false\nFROM a\n", &[]);
    assert!(error.contains("process \"/bin/sh -c false\" did not complete successfully: exit code: 1\n"), "{error}");
}

#[test]
fn commands_have_arguments_and_variables_but_the_image_only_variables() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nARG A=1\nARG B\nENV A=env\nRUN echo A=$A B=$B P=$http_proxy\n";
    let said = store.builds(dockerfile, &["-t", "i", "--build-arg", "B=given", "--build-arg", "http_proxy=http://p"]);
    assert!(said.contains("A=env B=given P=http://p"), "{said}");
    let env = store.inspect("i", "{{json .Config.Env}}");
    assert!(!env.contains("given") && !env.contains("proxy"), "{env}");
    let said = store.builds("FROM busybox\nRUN true\n", &["--build-arg", "NOPE=1"]);
    assert!(said.contains("[Warning] One or more build-args [NOPE] were not consumed"), "{said}");
}

#[test]
fn a_proxy_in_one_spelling_counts_in_both() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nENV no_proxy=own\nRUN echo \"[$HTTP_PROXY $http_proxy] [$https_proxy $HTTPS_PROXY] \
        [$NO_PROXY $no_proxy] [$ftp_proxy$FTP_PROXY] [$ALL_PROXY $all_proxy]\"\n";
    let given = ["HTTP_PROXY=http://p", "https_proxy=http://s", "NO_PROXY=x", "ALL_PROXY=up", "all_proxy=low"];
    let args: Vec<&str> = given.iter().flat_map(|arg| ["--build-arg", arg]).collect();
    let said = store.builds(dockerfile, &args);
    assert!(said.contains("[http://p http://p] [http://s http://s] [x own] [] [up low]\n"), "{said}");
    assert!(!said.contains("[Warning]"), "{said}");
    let without = store.builds(dockerfile, &[]);
    assert_eq!(parts(&without).last().unwrap().1, "CACHED", "{without}");
}

#[test]
fn arguments_and_variables_overwrite_each_other() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS base\nARG X=1\nARG X\nENV E=env\nARG E=arg\nARG A=1 B=$A$X\n\
        RUN echo one X=$X E=$E B=$B\nFROM base\nARG X\nRUN echo two X=$X E=$E B=$B\n";
    let said = store.builds(dockerfile, &["-t", "i"]);
    assert!(said.contains("one X=1 E=arg B=11"), "{said}");
    // What a stage brings along as an image counts where another begins.
    assert!(said.contains("two X=1 E=env B=11"), "{said}");
    let env = store.inspect("i", "{{json .Config.Env}}");
    assert!(env.contains("\"E=env\"") && !env.contains("X=") && !env.contains("B="), "{env}");
    let history = store.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "i"]);
    assert!(history.contains("RUN |4 X=1 E=arg A=1 B=11 /bin/sh -c echo one"), "{history}");
    assert!(history.contains("RUN |4 X=1 E=env A=1 B=11 /bin/sh -c echo two"), "{history}");
}

#[test]
fn scripts_and_shells() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nRUN <<EOF\necho first\necho second\nEOF\n\
        RUN <<SCRIPT\n#!/bin/cat\nthe script itself\nSCRIPT\n\
        RUN <<-SCRIPT\n\t#!/bin/cat\n\tthe script without tabs\n\tSCRIPT\n\
        RUN [\"/bin/echo\", \"no $shell\"]\nSHELL [\"/bin/sh\", \"-xc\"]\nRUN echo traced\n";
    let said = store.builds(dockerfile, &[]);
    for expected in ["second", "the script itself", " the script without tabs", "no $shell", "+ echo traced"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn only_what_the_target_needs_is_built() {
    let store = Store::new();
    let dockerfile = "FROM busybox AS a\nRUN echo in-a\nFROM busybox AS unused\nRUN false\nFROM a AS c\nRUN echo in-c\n\
        FROM busybox AS d\nRUN echo in-d\n";
    let said = store.builds(dockerfile, &["--target", "c"]);
    assert!(said.contains("in-a") && said.contains("in-c") && !said.contains("in-d"), "{said}");
    let names: Vec<String> = parts(&said).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["[a 1/2] FROM docker.io/library/busybox:latest", "[a 2/2] RUN echo in-a", "[c 1/1] RUN echo in-c"]
    );
    store.builds(dockerfile, &["--target", "0"]);
    let error = store.build_fails(dockerfile, &["--target", "nosuch"]);
    assert!(error.contains("target stage \"nosuch\" could not be found"), "{error}");
}

#[test]
fn stages_are_built_at_the_same_time() {
    let store = Store::new();
    // Each waits for the other: one after the other they would wait for ever.
    let dockerfile = "FROM busybox AS a\nRUN --mount=type=cache,id=meet,target=/m touch /m/a; \
        for i in $(seq 600); do [ -e /m/b ] && exit 0; sleep 0.1; done; exit 1\n\
        FROM busybox AS b\nRUN --mount=type=cache,id=meet,target=/m touch /m/b; \
        for i in $(seq 600); do [ -e /m/a ] && exit 0; sleep 0.1; done; exit 1\n\
        FROM busybox\nRUN --mount=from=a,target=/a --mount=from=b,target=/b true\n";
    store.builds(dockerfile, &[]);
    // The cache begins anew for both together.
    store.builds(dockerfile, &["--no-cache"]);
}

#[test]
fn a_failure_says_where_and_how_to_look_around() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nARG X=5\nRUN echo kept > /kept\nRUN echo last words; \\\n  exit 7\nRUN never\n";
    let error = store.build_fails(dockerfile, &[]);
    assert!(error.contains(" > [3/4] RUN echo last words;"), "{error}");
    assert!(error.contains("Dockerfile:4") && error.contains(">>>   exit 7"), "{error}");
    assert!(error.contains("did not complete successfully: exit code: 7"), "{error}");
    let hint = error.lines().last().unwrap().trim();
    let words = hint.split(' ').collect::<Vec<_>>();
    let state = store.root().with_file_name("state");
    let places = ["--root", store.root().to_str().unwrap(), "--state", state.to_str().unwrap()].map(str::to_owned);
    assert!(words[1..5] == places && hint.contains(" run --rm -it -e 'X=5' --entrypoint /bin/sh "), "{hint}");
    let id = words.last().unwrap();
    assert_eq!(store.ok(&["run", "--rm", "--entrypoint", "/bin/sh", id, "-c", "cat /kept"]), "kept");
}

#[test]
fn a_shell_opens_where_it_failed() {
    let store = Store::new();
    store.context("context", "FROM busybox\nRUN echo here > /kept\nENV V=1\nRUN false\n");
    let path = store.text("context");
    let mut terminal = store.terminal(&["build", "--shell-on-error", &path]);
    terminal.expect("A shell in the state before this step");
    terminal.send("cat /kept; echo V is $V\n");
    terminal.expect("V is 1");
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 1);
}

#[test]
fn a_terminal_shows_what_is_going_on() {
    let store = Store::new();
    store.context("context", "FROM busybox\nRUN echo visible; sleep 1\n");
    let path = store.text("context");
    let mut terminal = store.terminal(&["build", "-t", "x", &path]);
    terminal.expect("[+] Building");
    terminal.expect(" => => # visible");
    terminal.expect("FINISHED");
    terminal.expect(" => => naming to docker.io/library/x");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn commands_are_as_confined_as_those_of_run() {
    let store = Store::new();
    let script = "grep -E '^(Cap|Seccomp|NoNewPrivs|Groups)' /proc/self/status; ls /dev; cat /proc/self/limits; \
        ls -A /proc/acpi /sys/firmware 2>&1; cat /proc/mounts | cut -d' ' -f2,3 | sort";
    let of_run = store.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    let said = store.builds(&format!("FROM busybox\nRUN {script}\n"), &[]);
    let of_build: Vec<&str> = said.lines().filter_map(|l| Some(l.splitn(3, ' ').nth(2)?.trim_end())).collect();
    for line in of_run.lines() {
        assert!(of_build.contains(&line.trim_end()) || line.contains("Seccomp_filters"), "{line:?} is not in {said}");
    }
}

#[test]
fn limits_hold_in_builds() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nRUN ulimit -n; grep shm /proc/mounts; grep added /etc/hosts\n";
    let args = ["--ulimit", "nofile=123:124", "--shm-size", "3m", "--add-host", "added:1.2.3.4", "-m", "64m"];
    let said = store.builds(dockerfile, &args);
    assert!(said.contains(" 123\n") && said.contains("size=3072k") && said.contains("1.2.3.4\tadded"), "{said}");
    let dockerfile = "FROM busybox\nRUN cat /sys/fs/cgroup/cpu.max 2>/dev/null || \
        echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us)\n";
    let said = store.builds(dockerfile, &["--cpu-period", "50000", "--cpu-quota=20000", "-D", "--isolation=default"]);
    assert!(said.contains(" 20000 50000\n"), "{said}");
    let error = store.build_fails("FROM busybox\nRUN head -c 200m /dev/zero | tail\n", &["-m", "16m"]);
    assert!(error.contains("exit code: 137 (the memory limit was reached)\n"), "{error}");
}

#[test]
fn what_a_flag_says_about_the_platform_must_be_this_machine() {
    let store = Store::new();
    store.builds("FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nRUN echo is $TARGETARCH\n", &[]);
    let error = store.build_fails("FROM --platform=linux/s390x busybox\n", &[]);
    assert!(error.contains("linux/s390x is not this machine's"), "{error}");
}

#[test]
fn an_empty_value_is_none() {
    let store = Store::new();
    let empty = ["--target=", "--platform=", "--file=", "--iidfile=", "--network=", "--cgroup-parent="];
    let said = store.builds("FROM busybox AS a\nRUN false\nFROM busybox\nRUN echo last\n", &empty);
    assert!(said.contains(" last\n"), "{said}");
    store.builds("FROM busybox\n", &["--target", "", "-f", ""]);
}

#[test]
fn thirty_steps_make_thirty_layers() {
    let store = Store::new();
    let steps: String = (0..30).map(|n| format!("RUN echo {n} > /n{n}; [ $(ls /n* | wc -l) = {} ]\n", n + 1)).collect();
    store.builds(&format!("FROM busybox\n{steps}"), &["-t", "tall"]);
    assert_eq!(store.inspect("tall", "{{len .RootFS.Layers}}"), "31");
    assert_eq!(store.ok(&["run", "--rm", "tall", "sh", "-c", "cat /n* | wc -l"]), "30");
}

#[test]
fn layers_hold_what_their_steps_have_changed() {
    let store = Store::new();
    let dockerfile = "FROM busybox\nRUN head -c 1m /dev/zero > /big; mkdir /d; echo x > /d/x; ln /d/x /d/y\n\
        RUN rm /big; rm -r /d; mkdir /d; echo new > /d/new\n\
        RUN touch /etc/passwd.tmp; rm /etc/passwd.tmp; ls -la / > /dev/null\n";
    store.builds(dockerfile, &["-t", "i"]);
    assert_eq!(store.ok(&["run", "--rm", "i", "ls", "/d"]), "new");
    assert_eq!(store.run(&["run", "--rm", "i", "ls", "/big"]).code, 1);
    // What is deleted later still weighs.
    let size = |name: &str| store.inspect(name, "{{.Size}}").parse::<u64>().unwrap();
    assert!(size("i") >= size("busybox") + (1 << 20), "{} {}", size("i"), size("busybox"));
    let fact = store.ok(&["run", "--rm", "i", "sh", "-c", "echo mode=$(stat -c %a /d)"]);
    assert_eq!(facts(&fact)["mode"], "755");
}

#[test]
fn many_stages_at_once_each_get_a_worker_of_their_own() {
    let store = Store::new();
    let count = 24;
    let stages: String = (0..count).map(|n| format!("FROM busybox AS s{n}\nARG N\nRUN echo {n} > /{n}\n")).collect();
    let copies: String = (0..count).map(|n| format!("COPY --from=s{n} /{n} /\n")).collect();
    for round in 0..4 {
        store.builds(&format!("{stages}FROM busybox\n{copies}"), &["--build-arg", &format!("N={round}")]);
    }
}

#[test]
fn a_working_directory_leaves_the_folders_above_it_as_they_are() {
    let store = Store::new();
    let context = store.context("context", "FROM busybox\nCOPY c /\nWORKDIR /d/new\n");
    let folder = context.join("c/d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    let dir = minirun::sys::dir::Dir::open(&folder).unwrap();
    dir.set_xattr(".", "user.note", b"kept").unwrap();
    let out = store.path("out");
    let to = format!("type=local,dest={}", out.display());
    store.ok(&["build", "-o", &to, context.to_str().unwrap()]);
    let made = minirun::sys::dir::Dir::open(out.join("d")).unwrap();
    assert_eq!(made.xattr(".", "user.note").unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(
        (made.stat_self().unwrap().st_mode & 0o7777, made.stat("new").unwrap().st_mode & 0o7777),
        (0o750, 0o755)
    );
}
