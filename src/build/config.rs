//! What instructions change in an image's configuration, and how they are told in its history: by BuildKit's rules.

use super::dockerfile::{Command, Healthcheck, Step};
use crate::image::config::Empty;
use crate::image::{ContainerConfig, Healthcheck as Check};
use crate::sys::dir::clean;
use crate::sys::signal;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The shell of shell forms when nothing else is said.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The search path of images that have none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an instruction that makes no layer changes, and how the history tells it. `has_command` says whether there was a
/// `CMD` before it in the same file.
///
/// # Errors
/// Values that make no sense.
pub fn apply(config: &mut ContainerConfig, step: &Step, has_command: bool) -> Result<String> {
    Ok(match step {
        Step::Arg(args) => args.iter().fold("ARG".to_owned(), |told, (name, value)| match value {
            Some(value) => format!("{told} {name}={value}"),
            None => format!("{told} {name}"),
        }),
        Step::Cmd(command) => cmd(config, command),
        Step::Entrypoint(command) => entrypoint(config, command, has_command),
        Step::Env(pairs) => env(config, pairs),
        Step::Expose(list) => ports(config, list)?,
        Step::Healthcheck(check) => healthcheck(config, check),
        Step::Label(pairs) => label(config, pairs),
        Step::Maintainer(name) => format!("MAINTAINER {name}"),
        Step::OnBuild(text) => {
            config.on_build.push(text.clone());
            format!("ONBUILD {text}")
        }
        Step::Shell(words) => set_shell(config, words),
        Step::StopSignal(name) => stop_signal(config, name)?,
        Step::User(name) => user(config, name),
        Step::Volume(paths) => volumes(config, paths)?,
        Step::Workdir(path) => workdir(config, path),
        Step::Add(_) | Step::Copy(_) | Step::Run { .. } => bail!("a step was taken for one that makes no layer"),
    })
}

/// The words of the shell that shell forms are given to.
pub fn shell(config: &ContainerConfig) -> Vec<String> {
    match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => SHELL.map(str::to_owned).to_vec(),
    }
}

/// Program and arguments of either form.
fn command(config: &ContainerConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => {
            let mut words = shell(config);
            words.push(text.clone());
            words
        }
    }
}

/// Sets a variable at its old place or at the end.
fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|e| e.split('=').next() == Some(name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// `ENV`, with expanded pairs.
fn env(config: &mut ContainerConfig, pairs: &[(String, String)]) -> String {
    pairs.iter().for_each(|(name, value)| set_variable(&mut config.env, name, value));
    told_pairs("ENV", pairs)
}

/// `LABEL`, likewise.
fn label(config: &mut ContainerConfig, pairs: &[(String, String)]) -> String {
    config.labels.extend(pairs.iter().cloned());
    told_pairs("LABEL", pairs)
}

fn told_pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(keyword.to_owned(), |told, (name, value)| format!("{told} {name}={value}"))
}

/// `CMD`.
fn cmd(config: &mut ContainerConfig, given: &Command) -> String {
    let words = command(config, given);
    let told = format!("CMD {}", quoted(&words));
    config.cmd = Some(words);
    told
}

/// `ENTRYPOINT`: a command that the stage has not set itself goes.
fn entrypoint(config: &mut ContainerConfig, given: &Command, has_command: bool) -> String {
    let words = command(config, given);
    let told = format!("ENTRYPOINT {}", quoted(&words));
    config.entrypoint = Some(words).filter(|words| !words.is_empty());
    if !has_command {
        config.cmd = None;
    }
    told
}

/// `EXPOSE`.
fn ports(config: &mut ContainerConfig, ports: &[String]) -> Result<String> {
    let mut new = ContainerConfig::default();
    for port in ports {
        expose(&mut new, port)?;
    }
    let told: Vec<String> = new.exposed_ports.keys().map(|port| format!("{port}:{{}}")).collect();
    config.exposed_ports.append(&mut new.exposed_ports);
    Ok(format!("EXPOSE map[{}]", told.join(" ")))
}

/// `80`, `80/udp`, `8000-8010/tcp`; before it, as for `run -p`, an address and ports of the host, which mean nothing here.
fn expose(config: &mut ContainerConfig, text: &str) -> Result<()> {
    let (place, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        bail!("invalid proto: {protocol}");
    }
    let (host, ports) = place.rsplit_once(':').unwrap_or(("", place));
    if ports.is_empty() {
        bail!("no port specified: {text:?}");
    }
    let (first, last) = range(ports).with_context(|| format!("invalid containerPort: {ports}"))?;
    let (address, host) = host.rsplit_once(':').unwrap_or(("", host));
    if !address.is_empty() && !is_address(address) {
        bail!("invalid IP address: {address}");
    }
    if !host.is_empty() {
        let outer = range(host).with_context(|| format!("invalid hostPort: {host}"))?;
        if first != last && outer.1 - outer.0 != last - first {
            bail!("invalid ranges specified for container and host ports: {ports} and {host}");
        }
    }
    config.exposed_ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    Ok(())
}

/// A port or the first and the last of several.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// IPv4, or IPv6 in brackets.
fn is_address(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<Ipv4Addr>().is_ok(),
    }
}

/// `USER`.
fn user(config: &mut ContainerConfig, user: &str) -> String {
    user.clone_into(&mut config.user);
    format!("USER {user}")
}

/// `VOLUME`.
fn volumes(config: &mut ContainerConfig, paths: &[String]) -> Result<String> {
    for path in paths {
        if path.trim().is_empty() {
            bail!("VOLUME specified can not be an empty string");
        }
        config.volumes.insert(path.clone(), Empty {});
    }
    Ok(format!("VOLUME [{}]", paths.join(" ")))
}

/// `WORKDIR`; a relative one continues the one before.
pub fn workdir(config: &mut ContainerConfig, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", config.working_dir) };
    config.working_dir = clean(Path::new(&joined)).to_string_lossy().into_owned();
    format!("WORKDIR {}", config.working_dir)
}

/// `STOPSIGNAL`.
fn stop_signal(config: &mut ContainerConfig, name: &str) -> Result<String> {
    if signal::number(name).is_none() {
        bail!("Invalid signal: {name}");
    }
    config.stop_signal = Some(name.to_owned());
    Ok(format!("STOPSIGNAL {name}"))
}

/// `SHELL`.
fn set_shell(config: &mut ContainerConfig, words: &[String]) -> String {
    config.shell = Some(words.to_vec());
    format!("SHELL [{}]", words.join(" "))
}

/// `HEALTHCHECK`.
fn healthcheck(config: &mut ContainerConfig, given: &Healthcheck) -> String {
    let check = match given {
        Healthcheck::Off => Check { test: vec!["NONE".into()], ..Check::default() },
        Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                Command::Exec(words) => [&["CMD".to_owned()], words.as_slice()].concat(),
                Command::Shell(text) => vec!["CMD-SHELL".into(), text.clone()],
            };
            let mut check = Check {
                test,
                interval: *interval,
                timeout: *timeout,
                start_period: *start_period,
                retries: *retries,
                ..Check::default()
            };
            if *start_interval != 0 {
                check.other.insert("StartInterval".into(), (*start_interval).into());
            }
            check
        }
    };
    let start_interval = check.other.get("StartInterval").and_then(serde_json::Value::as_i64).unwrap_or(0);
    let times = [check.interval, check.timeout, check.start_period, start_interval];
    let times: Vec<String> = times.iter().map(|t| format!("{:?}", duration(*t))).collect();
    let words: Vec<String> = check.test.iter().map(|w| format!("{w:?}")).collect();
    let told = format!("HEALTHCHECK &{{[{}] {} '\\x00'}}", words.join(" "), times.join(" "));
    config.healthcheck = Some(check);
    told
}

/// As Go writes a time: `1m30s`, `0s`.
fn duration(nanos: i64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) if nanos % 1_000_000_000 != 0 => format!("{}ms", nanos / 1_000_000),
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// As Go writes a list of quoted words.
pub fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// Adds what the command line says after all instructions.
pub fn add_labels(config: &mut ContainerConfig, labels: &BTreeMap<String, String>) {
    config.labels.extend(labels.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn an_entry_point_drops_a_command_of_the_base() {
        let mut config = ContainerConfig { cmd: Some(words(&["old"])), ..ContainerConfig::default() };
        assert_eq!(entrypoint(&mut config, &Command::Exec(words(&["a b"])), false), "ENTRYPOINT [\"a b\"]");
        assert!(config.cmd.is_none());
        assert_eq!(cmd(&mut config, &Command::Shell("x y".into())), "CMD [\"/bin/sh\" \"-c\" \"x y\"]");
        entrypoint(&mut config, &Command::Exec(words(&["b"])), true);
        assert_eq!(config.cmd, Some(words(&["/bin/sh", "-c", "x y"])));
    }

    #[test]
    fn a_variable_keeps_its_place() {
        let mut config = ContainerConfig { env: words(&["A=1", "B=2"]), ..ContainerConfig::default() };
        assert_eq!(env(&mut config, &[("A".into(), "3 4".into()), ("C".into(), String::new())]), "ENV A=3 4 C=");
        assert_eq!(config.env, ["A=3 4", "B=2", "C="]);
    }

    #[test]
    fn ports_of_the_host_mean_nothing() {
        let exposed = |text: &str| {
            let mut config = ContainerConfig::default();
            expose(&mut config, text).map(|()| config.exposed_ports.into_keys().collect::<Vec<_>>().join(" "))
        };
        for (text, expected) in [
            ("8080:80", "80/tcp"),
            (":80/", "80/tcp"),
            ("127.0.0.1:8080:80/tcp", "80/tcp"),
            ("127.0.0.1::80/UDP", "80/udp"),
            ("[::1]:8080:80", "80/tcp"),
            ("8080-8081:80-81", "80/tcp 81/tcp"),
            ("8080-8082:80", "80/tcp"),
        ] {
            assert_eq!(exposed(text).unwrap(), expected, "{text}");
        }
        for (text, why) in [
            ("x:80", "invalid hostPort: x"),
            ("9-8:80", "invalid hostPort: 9-8"),
            ("8080:80-81", "invalid ranges specified for container and host ports: 80-81 and 8080"),
            ("1.2.3:8080:80", "invalid IP address: 1.2.3"),
            ("::1:8080:80", "invalid IP address: ::1"),
            ("8080:/tcp", "no port specified: \"8080:/tcp\""),
            ("80-79", "invalid containerPort: 80-79"),
        ] {
            assert_eq!(exposed(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn directories_continue_each_other() {
        let mut config = ContainerConfig::default();
        assert_eq!(workdir(&mut config, "a"), "WORKDIR /a");
        assert_eq!(workdir(&mut config, "b/../c"), "WORKDIR /a/c");
    }

    #[test]
    fn a_check_is_told_as_buildkit_tells_it() {
        let mut config = ContainerConfig::default();
        let check = Healthcheck::Check {
            command: Command::Shell("true".into()),
            interval: 90_000_000_000,
            timeout: 500_000_000,
            start_period: 0,
            start_interval: 0,
            retries: 2,
        };
        let told = healthcheck(&mut config, &check);
        assert!(told.starts_with("HEALTHCHECK &{[\"CMD-SHELL\" \"true\"] \"1m30s\" \"500ms\" \"0s\""), "{told}");
        assert_eq!(config.healthcheck.unwrap().retries, 2);
    }
}
