//! `--change`: Dockerfile instructions that alter an image's configuration, by Docker's rules.

use super::config::{ContainerConfig, Empty, Healthcheck};
use crate::sys::dir::clean;
use anyhow::{Context, Result, bail};
use std::path::Path;

const ALLOWED: [&str; 10] =
    ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "USER", "VOLUME", "WORKDIR"];

/// Applies the instructions to `config`, in order. An `ENTRYPOINT` drops the command that was there before all of
/// them.
///
/// # Errors
/// `… is not a valid change command`, and instructions that make no sense.
pub fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let mut changed = config.clone();
    let mut sets_command = false;
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        apply(&mut changed, &keyword.to_ascii_uppercase(), rest.trim(), &mut sets_command)?;
    }
    *config = changed;
    Ok(())
}

fn apply(config: &mut ContainerConfig, keyword: &str, rest: &str, sets_command: &mut bool) -> Result<()> {
    if !ALLOWED.contains(&keyword) {
        bail!("{} is not a valid change command", keyword.to_ascii_lowercase());
    }
    if rest.is_empty() && !matches!(keyword, "CMD" | "ENTRYPOINT") {
        bail!("{keyword} requires at least one argument");
    }
    match keyword {
        "CMD" => {
            config.cmd = Some(command(config, rest));
            *sets_command = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(config, rest)).filter(|e| !e.is_empty());
            if !*sets_command {
                config.cmd = None;
            }
        }
        "ENV" => {
            for (name, value) in pairs(keyword, rest)? {
                let prefix = format!("{name}=");
                config.env.retain(|old| !old.starts_with(&prefix));
                config.env.push(format!("{prefix}{value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(keyword, rest)?),
        "EXPOSE" => {
            for text in words(rest)? {
                expose(config, &text)?;
            }
        }
        "USER" => config.user = rest.to_owned(),
        "VOLUME" => {
            for path in json_form(rest).map_or_else(|| words(rest), Ok)? {
                if path.trim().is_empty() {
                    bail!("VOLUME specified can not be an empty string");
                }
                config.volumes.insert(path, Empty {});
            }
        }
        "WORKDIR" => config.working_dir = working_dir(&config.working_dir, rest),
        "HEALTHCHECK" => config.healthcheck = Some(health_check(rest)?),
        _ => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match trigger.as_str() {
                "ONBUILD" => bail!("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
                "MAINTAINER" | "FROM" => bail!("{trigger} isn't allowed as an ONBUILD trigger"),
                _ => config.on_build.push(rest.to_owned()),
            }
        }
    }
    Ok(())
}

/// `["a", "b"]` as it is; everything else is for a shell.
fn command(config: &ContainerConfig, rest: &str) -> Vec<String> {
    if rest.is_empty() {
        return Vec::new();
    }
    json_form(rest).unwrap_or_else(|| {
        let shell = config.shell.clone().filter(|s| !s.is_empty());
        let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        words.push(rest.to_owned());
        words
    })
}

fn json_form(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

fn words(rest: &str) -> Result<Vec<String>> {
    shell_words::split(rest).with_context(|| format!("read {rest:?}"))
}

/// `a=b c="d e"`, or the old form `a b c`, where all after the name is the value.
fn pairs(keyword: &str, rest: &str) -> Result<Vec<(String, String)>> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            bail!("{keyword} must have two arguments");
        };
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    let split = |word: String| match word.split_once('=') {
        Some(("", _)) => bail!("{keyword} names can not be blank"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"),
    };
    words(rest)?.into_iter().map(split).collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`.
pub fn expose(config: &mut ContainerConfig, text: &str) -> Result<()> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        bail!("invalid proto: {protocol}");
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = |text: &str| text.parse::<u16>().ok().with_context(|| format!("invalid containerPort: {text}"));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        bail!("invalid range specified for port: {ports}");
    }
    config.exposed_ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    Ok(())
}

/// A relative directory continues the one before.
pub fn working_dir(before: &str, rest: &str) -> String {
    let joined = if rest.starts_with('/') { rest.to_owned() } else { format!("{before}/{rest}") };
    clean(Path::new(&joined)).to_string_lossy().into_owned()
}

/// `NONE`, or options and `CMD` with a command in either form.
fn health_check(rest: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').with_context(|| format!("the flag --{option} has no value"))?;
        match name {
            "interval" => check.interval = duration(value)?,
            "timeout" => check.timeout = duration(value)?,
            "start-period" => check.start_period = duration(value)?,
            "start-interval" => {
                check.other.insert("StartInterval".into(), duration(value)?.into());
            }
            "retries" => check.retries = value.parse().with_context(|| format!("read the number {value:?}"))?,
            _ => bail!("unknown flag: --{name}"),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".into()],
        "NONE" => bail!("HEALTHCHECK NONE takes no arguments"),
        "CMD" if command.is_empty() => bail!("Missing command after HEALTHCHECK CMD"),
        "CMD" => match json_form(command) {
            Some(words) => ["CMD".to_owned()].into_iter().chain(words).collect(),
            None => vec!["CMD-SHELL".into(), command.to_owned()],
        },
        _ => bail!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"),
    };
    Ok(check)
}

/// Go's durations (`1m30s`, `500ms`) in nanoseconds.
fn duration(text: &str) -> Result<i64> {
    let invalid = || format!("invalid duration {text:?}");
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').with_context(invalid)?;
        let number: f64 = rest[..end].parse().ok().with_context(invalid)?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => bail!(invalid()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if text.is_empty() || total > i64::MAX as f64 {
        bail!(invalid());
    }
    Ok(total.round() as i64)
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
        assert_eq!(changed(&["RUN x"]).unwrap_err().to_string(), "run is not a valid change command");
        assert_eq!(changed(&["STOPSIGNAL 9"]).unwrap_err().to_string(), "stopsignal is not a valid change command");
        for bad in ["EXPOSE 99999", "EXPOSE 80/icmp", "VOLUME [\"\"]", "USER", "HEALTHCHECK FOO", "ONBUILD FROM x"] {
            assert!(changed(&[bad]).is_err(), "{bad}");
        }
    }
}
