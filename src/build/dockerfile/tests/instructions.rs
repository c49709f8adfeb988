//! Each instruction with its flags.

use super::*;

#[test]
fn from() {
    let file = parsed("FROM --platform=$P a:1 As Build.1\nFROM scratch");
    let stage = &file.stages[0];
    assert_eq!((stage.base.as_str(), stage.name.as_deref()), ("a:1", Some("build.1")));
    assert_eq!(stage.platform.as_deref(), Some("$P"));
    assert_eq!(file.stages[1].name, None);
    for bad in ["FROM", "FROM a b", "FROM a AS", "FROM a FOR b", "FROM a AS 1b", "FROM a AS b/c", "FROM --x=1 a"] {
        refused(bad);
    }
    assert!(refused("FROM --plaform=x a").message.ends_with("unknown flag: --plaform (did you mean platform?)"));
    assert!(refused("FROM --platform a").message.contains("missing a value on flag: --platform"));
    assert!(refused("FROM --platform=a --platform=b a").message.contains("duplicate flag"));
}

#[test]
fn commands_in_both_forms() {
    let cases = [
        ("CMD [\"a\", \"b c\"]", Kind::Cmd(exec(&["a", "b c"]))),
        ("CMD [ ]", Kind::Cmd(exec(&[]))),
        ("CMD", Kind::Cmd(exec(&[]))),
        ("CMD ['a']", Kind::Cmd(shell("['a']"))),
        ("CMD [\"a\"] && b", Kind::Cmd(shell("[\"a\"] && b"))),
        ("CMD --x y", Kind::Cmd(shell("--x y"))),
        ("ENTRYPOINT [\"\\u0041\"]", Kind::Entrypoint(exec(&["A"]))),
        ("ENTRYPOINT exec $a", Kind::Entrypoint(shell("exec $a"))),
        ("SHELL [\"/bin/bash\", \"-c\"]", Kind::Shell(strings(&["/bin/bash", "-c"]))),
    ];
    for (text, expected) in cases {
        assert_eq!(instruction(text), expected, "{text}");
    }
    assert!(message("CMD [\"a\", 1]").contains("comprised of strings only"));
    assert!(message("SHELL /bin/bash -c").contains("JSON form"));
    assert!(message("SHELL []").contains("at least one"));
    assert!(message("RUN").contains("at least one"));
}

#[test]
fn names_and_values() {
    let pair = |name: &str, value: &str| Pair { name: name.into(), value: value.into(), is_old_form: false };
    let old = |name: &str, value: &str| Pair { is_old_form: true, ..pair(name, value) };
    let cases = [
        ("ENV a=1 b=\"x y\" c=x\\ y", Kind::Env(vec![pair("a", "1"), pair("b", "\"x y\""), pair("c", "x\\ y")])),
        ("ENV a  x  y=z", Kind::Env(vec![old("a", "x  y=z")])),
        ("ENV a=", Kind::Env(vec![pair("a", "")])),
        ("ENV a='=' b='x\\' c=1", Kind::Env(vec![pair("a", "'='"), pair("b", "'x\\'"), pair("c", "1")])),
        ("LABEL \"a b\"=c d.e=f", Kind::Label(vec![pair("\"a b\"", "c"), pair("d.e", "f")])),
        ("ENV a=x\\\n b=y", Kind::Env(vec![pair("a", "x"), pair("b", "y")])),
    ];
    for (text, expected) in cases {
        assert_eq!(instruction(text), expected, "{text}");
    }
    let arg = |name: &str, default: Option<&str>| Arg { name: name.into(), default: default.map(Into::into) };
    let expected = vec![arg("a", None), arg("b", Some("1")), arg("c", Some("\"x y\"")), arg("d", Some(""))];
    assert_eq!(instruction("ARG a b=1 c=\"x y\" d="), Kind::Arg(expected));
    let cases = [
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV =b", "ENV names can not be blank"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("LABEL a", "LABEL must have two arguments"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =1", "ARG names can not be blank"),
    ];
    for (text, expected) in cases {
        assert_eq!(message(text), expected);
    }
}

#[test]
fn copy_and_add() {
    let Kind::Copy(copy) = instruction(
        "COPY --from=b --chown=u:g --chmod=0644 --link --parents=true --exclude=*.o --exclude=\"x y\" a b/ /c/",
    ) else {
        panic!()
    };
    let path = |text: &str| TransferSource::Path(text.into());
    let expected = Transfer {
        sources: vec![path("a"), path("b/")],
        destination: "/c/".into(),
        from: Some("b".into()),
        chown: Some("u:g".into()),
        chmod: Some("0644".into()),
        link: true,
        parents: true,
        excludes: strings(&["*.o", "x y"]),
        ..Transfer::default()
    };
    assert_eq!(copy, expected);
    let Kind::Add(add) =
        instruction("ADD --checksum=sha256:0 --keep-git-dir --unpack=false --link=false [\"a b\", \"/c\"]")
    else {
        panic!()
    };
    let expected = Transfer {
        sources: vec![path("a b")],
        destination: "/c".into(),
        checksum: Some("sha256:0".into()),
        keep_git_dir: true,
        unpack: Some(false),
        ..Transfer::default()
    };
    assert_eq!(add, expected);
    for bad in ["COPY", "COPY a", "COPY --from a b", "COPY --link=maybe a b", "ADD --from=x a b", "COPY --unpack a b"] {
        message(bad);
    }
    assert!(message("COPY a").contains("Destination could not be determined"));
    assert!(message("COPY a <<E\nE").contains("only as sources"));
}

#[test]
fn run_with_mounts() {
    let Kind::Run(run) = instruction(
        "RUN --mount=type=cache,target=/c,sharing=locked,id=x --mount=from=b,src=/s,dst=/d,rw --network=none \
         --security=insecure make --x",
    ) else {
        panic!()
    };
    assert_eq!(run.command, shell("make --x"));
    assert_eq!((run.network, run.security), (Some(RunNetwork::None), Some(RunSecurity::Insecure)));
    assert_eq!(run.mounts.len(), 2);
    let cases = [
        ("type=cash,target=/x", "unsupported mount type \"cash\" (did you mean cache?)"),
        ("type=cache", "a cache mount needs a target"),
        ("type=bind,target=/x,sharing=private", "sharing not allowed for \"bind\" type mounts"),
        ("type=bind,target=/x,mode=0700", "mode not allowed for \"bind\" type mounts"),
        ("type=secret", "invalid secret mount: one of source, id, target is required"),
        (
            "type=tmpfs,target=/x,size=big",
            "invalid value for size: \"big\", a number with a unit was expected, as in 64m",
        ),
        ("type=bind,trget=/x", "unexpected key 'trget' in 'trget=/x' (did you mean target?)"),
        ("from=$x,target=/y", "'from' doesn't support variable expansion, define alias stage instead"),
        ("type=cache,target", "invalid field 'target' must be a key=value pair"),
        (
            "type=cache,target=/x,sharing=all",
            "unsupported sharing value \"all\": shared, private or locked was expected",
        ),
    ];
    for (mount, expected) in cases {
        assert_eq!(message(&format!("RUN --mount={mount} x")), expected);
    }
    assert!(message("RUN --network=x y").contains("default, none or host"));
    // What holds a variable is checked when its value is known.
    instruction("RUN --mount=type=cache,target=$X,sharing=$Y z");
}

#[test]
fn the_others() {
    let cases = [
        ("EXPOSE 80 $p/udp", Kind::Expose(strings(&["80", "$p/udp"]))),
        ("VOLUME /a /b", Kind::Volume(strings(&["/a", "/b"]))),
        ("VOLUME [\"/a b\"]", Kind::Volume(strings(&["/a b"]))),
        ("WORKDIR /a b", Kind::Workdir("/a b".into())),
        ("USER a:b", Kind::User("a:b".into())),
        ("STOPSIGNAL SIGTERM", Kind::StopSignal("SIGTERM".into())),
        ("MAINTAINER A <a@b>", Kind::Maintainer("A <a@b>".into())),
        ("ONBUILD run x \\\n y", Kind::OnBuild("run x  y".into())),
        ("ONBUILD COPY <<E /x\n1\nE", Kind::OnBuild("COPY <<E /x\n1\nE".into())),
        ("HEALTHCHECK none", Kind::Healthcheck(Healthcheck::Off)),
    ];
    for (text, expected) in cases {
        assert_eq!(instruction(text), expected, "{text}");
    }
    let check = Healthcheck::Check {
        command: shell("curl --x y"),
        interval: 90_000_000_000,
        timeout: 0,
        start_period: 1_000_000_000,
        start_interval: 0,
        retries: 3,
    };
    let text = "HEALTHCHECK --interval=1m30s --retries=3 --start-period=1s CMD curl --x y";
    assert_eq!(instruction(text), Kind::Healthcheck(check));
    let bad = [
        "HEALTHCHECK",
        "HEALTHCHECK FOO",
        "HEALTHCHECK CMD",
        "HEALTHCHECK NONE x",
        "HEALTHCHECK --interval=1 CMD x",
        "HEALTHCHECK --interval=1us CMD x",
        "HEALTHCHECK --retries=-1 CMD x",
        "ONBUILD",
        "ONBUILD ONBUILD RUN x",
        "ONBUILD FROM x",
        "ONBUILD FOO",
        "VOLUME [\"\"]",
        "EXPOSE",
        "USER",
        "WORKDIR",
    ];
    for text in bad {
        message(text);
    }
}

#[test]
fn triggers_are_read_as_instructions() {
    let lines = Lines { first: 7, last: 7 };
    let found = parse_trigger("COPY <<E /x\n1\nE", &source("x"), lines).unwrap();
    assert!(matches!(&found.kind, Kind::Copy(copy) if copy.destination == "/x") && found.lines == lines);
    for bad in ["", "FROM x", "ONBUILD RUN x", "RUN a\nRUN b", "FOO"] {
        let problem = parse_trigger(bad, &source("x"), lines).unwrap_err();
        assert!(problem.message.contains("ONBUILD trigger"), "{problem}");
    }
}
