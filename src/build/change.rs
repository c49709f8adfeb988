//! `--change`: Dockerfile instructions that alter an image's configuration, by Docker's rules.

use super::config;
use super::dockerfile::{Globals, Kind, Platforms, Source, parse};
use crate::image::ContainerConfig;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;

/// Applies the instructions to `config`, in order. An `ENTRYPOINT` drops the command that was there before all of
/// them.
///
/// # Errors
/// `… is not a valid change command`, and instructions that make no sense: then nothing is changed.
pub fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let source = Source::new("change", format!("FROM scratch\n{}", changes.join("\n")));
    let file = parse(source).map_err(|problem| anyhow!(problem.message))?;
    if file.stages.len() > 1 || !file.global_args.is_empty() {
        bail!("from is not a valid change command");
    }
    let platform = || String::from("linux");
    let platforms = Platforms { build: platform(), target: platform(), stage: String::new() };
    let globals = Globals::new(&file, &BTreeMap::new(), &platforms).map_err(|problem| anyhow!(problem.message))?;
    let mut scope = globals.scope();
    // What a container has whose image says nothing.
    scope.begin_with(&[config::DEFAULT_PATH.to_owned()]);
    scope.begin_with(&config.env);
    let mut changed = config.clone();
    let mut has_command = false;
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let keyword = instruction.original.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if !is_allowed(&instruction.kind) {
            bail!("{keyword} is not a valid change command");
        }
        let step = scope.evaluate(instruction).map_err(|problem| anyhow!(problem.message))?;
        config::apply(&mut changed, &step, has_command)
            .with_context(|| format!("the change {:?}", instruction.original))?;
        has_command |= matches!(instruction.kind, Kind::Cmd(_));
    }
    *config = changed;
    Ok(())
}

fn is_allowed(kind: &Kind) -> bool {
    match kind {
        Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Env(_) | Kind::Expose(_) | Kind::Healthcheck(_) => true,
        Kind::Label(_) | Kind::OnBuild(_) | Kind::User(_) | Kind::Volume(_) | Kind::Workdir(_) => true,
        Kind::Add(_) | Kind::Arg(_) | Kind::Copy(_) | Kind::Maintainer(_) | Kind::Run(_) => false,
        Kind::Shell(_) | Kind::StopSignal(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig {
            cmd: Some(vec!["old".into()]),
            env: vec!["PATH=/bin".into(), "A=1".into()],
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
        apply_changes(&mut config, &changes).map(|()| config)
    }

    fn strings(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|w| w.to_string()).collect())
    }

    #[test]
    fn commands_in_both_forms() {
        assert_eq!(changed(&[r#"CMD ["a", "b c"]"#]).unwrap().cmd, strings(&["a", "b c"]));
        assert_eq!(changed(&["cmd a && b"]).unwrap().cmd, strings(&["/bin/sh", "-c", "a && b"]));
        assert_eq!(changed(&["CMD [not json]"]).unwrap().cmd, strings(&["/bin/sh", "-c", "[not json]"]));
        let config = changed(&[r#"ENTRYPOINT ["e"]"#]).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (strings(&["e"]), None));
        let config = changed(&["CMD [\"c\"]", r#"ENTRYPOINT ["e"]"#]).unwrap();
        assert_eq!(config.cmd, strings(&["c"]));
        assert_eq!(changed(&["CMD []"]).unwrap().cmd, strings(&[]));
    }

    #[test]
    fn names_and_values() {
        assert_eq!(changed(&["ENV A=2 B='x y'"]).unwrap().env, ["PATH=/bin", "A=2", "B=x y"]);
        assert_eq!(changed(&["ENV C some  words"]).unwrap().env[2], "C=some  words");
        assert_eq!(changed(&["LABEL a.b=1 \"c d\"=2"]).unwrap().labels["c d"], "2");
        assert!(changed(&["ENV A"]).is_err() && changed(&["ENV =1"]).is_err());
    }

    #[test]
    fn variables_have_the_values_that_they_have_in_the_container() {
        let config = changed(&["ENV PATH=$PATH:/opt B=$A", "ENV C=${B}2", "LABEL l=${C:-none} m='$C'"]).unwrap();
        assert_eq!(config.env, ["PATH=/bin:/opt", "A=1", "B=1", "C=12"]);
        assert_eq!((config.labels["l"].as_str(), config.labels["m"].as_str()), ("12", "$C"));
        let config = changed(&["WORKDIR \"/a $A\"", "USER \"me\"", "EXPOSE 8$A", "CMD echo $A"]).unwrap();
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/a 1", "me"));
        assert!(config.exposed_ports.contains_key("81/tcp"));
        let mut bare = ContainerConfig::default();
        apply_changes(&mut bare, &["ENV PATH=$PATH:/opt".into()]).unwrap();
        assert_eq!(bare.env, [format!("{}:/opt", config::DEFAULT_PATH)]);
        assert_eq!(config.cmd, strings(&["/bin/sh", "-c", "echo $A"]));
    }

    #[test]
    fn the_other_instructions() {
        let config =
            changed(&["EXPOSE 80 53/UDP 90-91", "VOLUME [\"/a b\"]", "VOLUME /c /d", "WORKDIR x/../y"]).unwrap();
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "90/tcp", "91/tcp"]);
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a b", "/c", "/d"]);
        assert_eq!(config.working_dir, "/srv/y");
        let check = changed(&["HEALTHCHECK --interval=1m30s --retries=3 CMD curl x"]).unwrap().healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 3));
        assert_eq!(check.test, ["CMD-SHELL", "curl x"]);
        assert_eq!(changed(&["ONBUILD RUN x", "USER 1:2"]).unwrap().on_build, ["RUN x"]);
    }

    #[test]
    fn refuses_with_dockers_words() {
        for (bad, word) in [
            ("RUN x", "run"),
            ("STOPSIGNAL 9", "stopsignal"),
            ("FROM x", "from"),
            ("ARG A=1", "arg"),
            ("CMD x\nCOPY a b", "copy"),
        ] {
            assert_eq!(changed(&[bad]).unwrap_err().to_string(), format!("{word} is not a valid change command"));
        }
        for bad in [
            "EXPOSE 99999",
            "EXPOSE 80/icmp",
            "VOLUME [\"\"]",
            "USER",
            "HEALTHCHECK FOO",
            "HEALTHCHECK --interval=1ns CMD x",
            "ONBUILD FROM x",
            "NONSENSE",
            "ENV A=${",
        ] {
            assert!(changed(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(changed(&["", "# nothing"]).unwrap().env, ["PATH=/bin", "A=1"]);
    }
}
