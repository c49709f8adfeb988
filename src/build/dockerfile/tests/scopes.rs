//! Which value a name has where.

use super::*;
use std::collections::BTreeMap;

fn platforms() -> Platforms {
    Platforms { build: "linux/amd64".into(), target: "linux/arm/v7".into(), stage: "default".into() }
}

fn globals(file: &Dockerfile, given: &[(&str, &str)]) -> Globals {
    let given: BTreeMap<String, String> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Globals::new(file, &given, &platforms()).unwrap()
}

/// All steps of the last stage.
fn steps(text: &str, given: &[(&str, &str)]) -> Vec<Step> {
    let file = parsed(text);
    let globals = globals(&file, given);
    let mut scope = globals.scope();
    scope.begin_with(&["PATH=/bin".into()]);
    file.stages.last().unwrap().instructions.iter().map(|i| scope.evaluate(i).unwrap()).collect()
}

fn label(text: &str, given: &[(&str, &str)]) -> String {
    match steps(text, given).pop() {
        Some(Step::Label(pairs)) => pairs[0].1.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_before_the_first_from_are_for_from() {
    let file = parsed("ARG v=1\nARG img=base:$v\nFROM --platform=$TARGETPLATFORM ${img}-x AS a\nFROM $none");
    let base = globals(&file, &[]).base(&file.stages[0]).unwrap();
    assert_eq!(base, Base { name: "base:1-x".into(), platform: Some("linux/arm/v7".into()) });
    assert_eq!(globals(&file, &[("v", "2")]).base(&file.stages[0]).unwrap().name, "base:2-x");
    let problem = globals(&file, &[]).base(&file.stages[1]).unwrap_err();
    assert!(problem.to_string().starts_with("Dockerfile:4: base name ($none) should not be blank"));
}

#[test]
fn a_stage_imports_what_it_names() {
    assert_eq!(label("ARG v=1\nFROM a\nLABEL l=x$v", &[]), "x");
    assert_eq!(label("ARG v=1\nFROM a\nARG v\nLABEL l=x$v", &[]), "x1");
    assert_eq!(label("ARG v=1\nFROM a\nARG v=2\nLABEL l=x$v", &[]), "x2");
    assert_eq!(label("ARG v=1\nFROM a\nARG v=2\nLABEL l=x$v", &[("v", "3")]), "x3");
    assert_eq!(label("FROM a\nARG v=2\nFROM b\nLABEL l=x$v", &[]), "x");
    assert_eq!(label("FROM a\nLABEL l=x$TARGETARCH", &[]), "x");
    assert_eq!(
        label("FROM a\nARG TARGETOS TARGETARCH TARGETVARIANT\nLABEL l=$TARGETOS-$TARGETARCH-$TARGETVARIANT", &[]),
        "linux-arm-v7"
    );
    assert_eq!(label("FROM a\nARG BUILDARCH\nLABEL l=$BUILDARCH", &[]), "amd64");
    assert_eq!(label("FROM a\nLABEL l=$PATH", &[]), "/bin");
}

#[test]
fn the_last_of_env_and_arg_counts() {
    assert_eq!(label("FROM a\nARG v=arg\nENV v=env\nLABEL l=$v", &[]), "env");
    assert_eq!(label("FROM a\nENV v=env\nARG v=arg\nLABEL l=$v", &[]), "arg");
    assert_eq!(label("FROM a\nENV v=env\nARG v\nLABEL l=$v", &[("v", "given")]), "given");
    assert_eq!(label("ARG v=top\nFROM a\nENV v=env\nARG v\nLABEL l=$v", &[]), "top");
    assert_eq!(label("FROM a\nENV v=env\nARG v\nLABEL l=$v", &[]), "env");
    assert_eq!(label("FROM a\nARG v=1\nARG v\nLABEL l=$v", &[]), "1");
    assert_eq!(label("FROM a\nARG PATH=/mine\nLABEL l=$PATH", &[]), "/mine");
    assert_eq!(label("FROM a\nARG a=1 b=${a}2 a=3\nLABEL l=$a$b", &[]), "312");
}

#[test]
fn arguments_are_told_and_variables_are_given() {
    let file = parsed("FROM a\nARG v=arg\nARG w=arg\nARG none\nENV v=env\n");
    let globals = globals(&file, &[("HTTP_PROXY", "p"), ("unknown", "x")]);
    let mut scope = globals.scope();
    file.stages[0].instructions.iter().for_each(|i| drop(scope.evaluate(i).unwrap()));
    assert_eq!(scope.args().collect::<Vec<_>>(), [("v", "env"), ("w", "arg"), ("none", "")]);
    assert_eq!(scope.proxies().collect::<Vec<_>>(), [("HTTP_PROXY", "p"), ("http_proxy", "p")]);
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(scope.variables(), [pair("v", "env"), pair("w", "arg")]);
    assert_eq!(globals.unused(&file), ["unknown"]);
}

#[test]
fn a_stage_on_a_stage_begins_with_its_variables() {
    let file = parsed("FROM a\nARG v=1 w=2\nENV w=env\nARG w=arg\nFROM 0\nARG v\nLABEL l=$v$w");
    let globals = globals(&file, &[]);
    let mut scope = globals.scope();
    file.stages[0].instructions.iter().for_each(|i| drop(scope.evaluate(i).unwrap()));
    scope.begin_with(&["w=env".into()]);
    let last = file.stages[1].instructions.iter().map(|i| scope.evaluate(i).unwrap()).last();
    assert_eq!(last, Some(Step::Label(vec![("l".into(), "1env".into())])));
}

#[test]
fn an_instruction_sees_the_values_before_it() {
    let steps = steps("FROM a\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc", &[]);
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(steps[1], Step::Env(vec![pair("abc", "bye"), pair("def", "hello")]));
    assert_eq!(steps[2], Step::Env(vec![pair("ghi", "bye")]));
}

#[test]
fn who_expands_and_who_does_not() {
    let head = "FROM a\nENV x=\"1 2\"\n";
    let last = |text: &str| steps(&format!("{head}{text}"), &[]).pop().unwrap();
    assert_eq!(last("EXPOSE $x 3"), Step::Expose(strings(&["1", "2", "3"])));
    assert_eq!(last("VOLUME [\"/$x\"]"), Step::Volume(strings(&["/1 2"])));
    assert_eq!(last("WORKDIR /$x"), Step::Workdir("/1 2".into()));
    assert_eq!(last("USER $x"), Step::User("1 2".into()));
    assert_eq!(last("STOPSIGNAL $x"), Step::StopSignal("1 2".into()));
    assert_eq!(last("CMD $x"), Step::Cmd(shell("$x")));
    assert_eq!(last("ENTRYPOINT [\"$x\"]"), Step::Entrypoint(exec(&["$x"])));
    assert_eq!(last("ONBUILD USER $x"), Step::OnBuild("USER $x".into()));
    assert_eq!(last("ENV y 'a'  \\$x"), Step::Env(vec![("y".into(), "a  $x".into())]));
    let Step::Run { run, mounts } = last("RUN --mount=type=cache,target=/$x a $x") else { panic!() };
    assert_eq!((run.command, mounts[0].target.as_str()), (shell("a $x"), "/1 2"));
    let Step::Copy(copy) = last("COPY --chown=$x --exclude=$x $x <<E <<'F' /$x\n$x\nE\n$x\nF") else { panic!() };
    assert_eq!((copy.chown.as_deref(), copy.destination.as_str()), (Some("1 2"), "/1 2"));
    assert_eq!((&copy.excludes, &copy.sources[0]), (&strings(&["1 2"]), &TransferSource::Path("1 2".into())));
    let bodies = copy.sources.iter().filter_map(|source| match source {
        TransferSource::Heredoc(heredoc) => Some(heredoc.content.as_str()),
        _ => None,
    });
    assert_eq!(bodies.collect::<Vec<_>>(), ["1 2\n", "$x\n"]);
}

#[test]
fn a_problem_has_its_place() {
    let file = parsed("FROM a\n\nCOPY --from=$x a b\nENV a=${b:?c}\nRUN --mount=type=cache,target=$x y\n");
    let globals = globals(&file, &[]);
    let mut scope = globals.scope();
    let problems: Vec<String> =
        file.stages[0].instructions.iter().map(|i| scope.evaluate(i).unwrap_err().to_string()).collect();
    assert!(problems[0].starts_with("Dockerfile:3: variable expansion is not supported for --from"));
    assert_eq!(problems[1], "Dockerfile:4: b: c");
    assert_eq!(problems[2], "Dockerfile:5: a cache mount needs a target");
}

#[test]
fn a_file_does_not_grow_without_end() {
    let large = format!("FROM a\nENV a={}\nENV b=${{a//?/$a}}\n", "x".repeat(3000));
    let text = format!("{large}{}", "LABEL l=$b\n".repeat(1000));
    let file = parsed(&text);
    let globals = globals(&file, &[]);
    let mut scope = globals.scope();
    let all: Result<Vec<Step>, Problem> = file.stages[0].instructions.iter().map(|i| scope.evaluate(i)).collect();
    assert!(all.unwrap_err().message.contains("together longer than 67108864 bytes"));
}
