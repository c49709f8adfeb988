//! Values of flags: sizes, limits, signals, policies. Mounts, variables and times have files of their own.

use super::logs::tag_fields;
use super::template::fill;
use crate::container::options::{LogDetails, LogOptions, RestartPolicy, Seccomp, SecurityOptions, Ulimit};
use crate::container::seccomp_profile::Profile;
use crate::runtime::apparmor;
use crate::sys::signal::number;
use anyhow::{Context, Result, anyhow, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use regex::Regex;
use std::path::PathBuf;

const MIN_MEMORY: i64 = 6 * 1024 * 1024;
const BILLION: i64 = 1_000_000_000;
const HOSTNAME_LIMIT: usize = 64;
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A size in binary units: `512m`, `1.5GiB`, `64 kb`.
///
/// # Errors
/// `invalid size: 'x'`.
pub fn bytes(text: &str) -> Result<i64> {
    match scaled(text, 1024.0) {
        Some(bytes) => Ok(bytes),
        None => bail!("invalid size: '{text}'"),
    }
}

/// The number and the unit of a size, where each unit is `base` times the one before.
fn scaled(text: &str, base: f64) -> Option<i64> {
    let at = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = text.split_at(at + 1);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    let unit = unit.to_ascii_lowercase();
    let mut unit = unit.chars();
    let power = match (unit.next(), unit.as_str()) {
        (None | Some('b'), "") => 0,
        (Some(letter), "" | "b" | "ib") => "kmgtp".find(letter)? as i32 + 1,
        _ => return None,
    };
    let bytes = number * base.powi(power);
    (bytes.is_sign_positive() && bytes < i64::MAX as f64).then_some(bytes as i64)
}

/// `--memory`: a size of nothing (no limit) or at least 6 MB.
///
/// # Errors
/// Not a size, or too small to start anything in.
pub fn memory_limit(text: &str) -> Result<i64> {
    match bytes(text)? {
        1..MIN_MEMORY => bail!("Minimum memory limit allowed is 6MB."),
        limit => Ok(limit),
    }
}

/// `--memory-swap`: a size, or -1 for no limit.
///
/// # Errors
/// Neither of them.
pub fn memory_swap(text: &str) -> Result<i64> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// `--cpus`: a decimal number of processors as billionths; zero is no limit.
///
/// # Errors
/// Not a number, finer than a billionth, or more than the host has.
pub fn cpus(text: &str, available: usize) -> Result<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        bail!("failed to parse {text} as a rational number");
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        bail!("value is too precise");
    }
    let available = i64::try_from(available).unwrap_or(i64::MAX);
    let nano: Option<i64> = format!("{whole}{fraction:0<9}").parse().ok();
    match nano {
        Some(0) => Ok(0),
        // The kernel takes no share below a hundredth.
        Some(nano @ 10_000_000..) if nano <= available.saturating_mul(BILLION) => Ok(nano),
        _ => bail!("Range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available."),
    }
}

/// `--ulimit name=soft[:hard]`, where -1 is no limit.
///
/// # Errors
/// Docker's, from `invalid ulimit argument: x` on.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let Some((name, limits)) = text.split_once('=').filter(|(_, limits)| !limits.is_empty()) else {
        bail!("invalid ulimit argument: {text}");
    };
    if !ULIMITS.contains(&name) {
        bail!("invalid ulimit type: {name}");
    }
    let number = |part: &str| match part.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => bail!("invalid ulimit argument: {text}"),
    };
    let (soft, hard) = match limits.split(':').collect::<Vec<_>>()[..] {
        [both] => (number(both)?, number(both)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => bail!("too many limit values - {limits}, can only have up to two, `soft[:hard]`"),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        bail!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
    }
    Ok(Ulimit { name: name.to_string(), soft, hard })
}

/// A signal by number or name, with or without `SIG`, in any case; also `RTMIN+n` and `RTMAX-n`.
///
/// # Errors
/// `Invalid signal: x`.
pub fn signal(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| anyhow!("Invalid signal: {text}"))
}

/// `--restart`: `no`, `always`, `unless-stopped` or `on-failure[:times]`.
///
/// # Errors
/// Docker's, from `invalid restart policy` on.
pub fn restart(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && text.contains(':') {
        bail!("invalid restart policy format: no policy provided before colon");
    }
    let count = match count {
        "" => 0,
        digits => match digits.parse::<i32>() {
            Ok(count) => count,
            Err(_) => bail!("invalid restart policy format: maximum retry count must be an integer"),
        },
    };
    let policy = match name {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => match u32::try_from(count) {
            Ok(count) => return Ok(RestartPolicy::OnFailure(count)),
            Err(_) => bail!("invalid restart policy: maximum retry count cannot be negative"),
        },
        other => bail!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ),
    };
    if count != 0 {
        bail!("invalid restart policy: maximum retry count can only be used with 'on-failure'");
    }
    Ok(policy)
}

/// `--name`: the name itself, without the leading slash that Docker allows.
///
/// # Errors
/// A name that is too short or has other characters.
pub fn container_name(text: &str) -> Result<String> {
    let name = text.strip_prefix('/').unwrap_or(text);
    if !is_name(name) {
        bail!("Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed.");
    }
    Ok(name.to_string())
}

/// Docker's grammar for the names of containers and volumes: two characters at least.
pub(super) fn is_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// `--hostname`.
///
/// # Errors
/// Longer than the kernel takes, or characters that no resolver would accept.
pub fn hostname(text: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.len() > HOSTNAME_LIMIT || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(fits)
    {
        bail!("invalid hostname format: {text}");
    }
    Ok(text.to_string())
}

/// A path that may be empty, which is none for who uses it.
pub fn maybe_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// An option's value; an empty one is none, as scripts write `--user "$USER_OR_NOTHING"`.
pub fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A capability as `CAP_NAME`, or `ALL`. `flag` is `CapAdd` or `CapDrop`.
///
/// # Errors
/// A name that the kernel does not have.
pub fn capability(flag: &str, text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" {
        return Ok(name.to_string());
    }
    if !CAPABILITIES.contains(&name) {
        bail!("invalid {flag}: unknown capability: \"CAP_{name}\"");
    }
    Ok(format!("CAP_{name}"))
}

/// `--security-opt`.
///
/// Switching off what there is not (SELinux, AppArmor on a host without it) is accepted; asking for it by name is not.
///
/// # Errors
/// Unknown options, and those that would promise more than is done.
pub fn security_opts(list: &[String]) -> Result<SecurityOptions> {
    let mut found = SecurityOptions::default();
    for text in list {
        if text == "no-new-privileges" {
            found.no_new_privileges = true;
            continue;
        }
        let Some((key, value)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            bail!("invalid --security-opt 1: \"{text}\"");
        };
        match (key, value) {
            ("no-new-privileges", value) => match boolean(value) {
                Some(yes) => found.no_new_privileges = yes,
                None => bail!("invalid --security-opt 2: \"{text}\""),
            },
            ("systempaths", "unconfined") => found.unmasked_paths = true,
            ("seccomp", "unconfined") => found.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => found.seccomp = Seccomp::Builtin,
            ("seccomp", file) => found.seccomp = Seccomp::Profile(Box::new(seccomp_profile(file)?)),
            ("label", _) => {}
            ("apparmor", "") => {}
            ("apparmor", _) if apparmor::is_enabled() => found.apparmor = Some(value.to_owned()),
            ("apparmor", apparmor::UNCONFINED | "docker-default") => {}
            ("apparmor", _) => bail!("AppArmor is not enabled on this host, so there is no profile {value}"),
            _ => bail!("invalid --security-opt 2: \"{text}\""),
        }
    }
    Ok(found)
}

fn seccomp_profile(file: &str) -> Result<Profile> {
    let text = std::fs::read_to_string(file).with_context(|| format!("opening seccomp profile ({file}) failed"))?;
    Profile::parse(&text).with_context(|| format!("decoding seccomp profile ({file}) failed"))
}

/// The words that Go takes for a truth value.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `--log-opt`: `max-size` in decimal units and `max-file`, and what `logs --details` shows.
///
/// # Errors
/// Another option, or a value without sense.
pub fn log_opts(list: &[String]) -> Result<(LogOptions, LogDetails)> {
    let mut found = LogOptions::default();
    let mut details = LogDetails::default();
    let names = |list: &str| list.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
    for text in list {
        match text.split_once('=').unwrap_or((text, "")) {
            ("max-size", value) => match scaled(value, 1000.0).and_then(|size| u64::try_from(size).ok()) {
                Some(size @ 1..) => found.max_size = size,
                Some(0) => bail!("max-size must be a positive number"),
                None => bail!("invalid size: '{value}'"),
            },
            ("max-file", value) => match value.parse() {
                Ok(files @ 1..) => found.max_files = files,
                Ok(0) => bail!("max-file cannot be less than 1"),
                Err(_) => bail!("invalid max-file: '{value}'"),
            },
            // The container never waits for its log here, and rotated files stay as they are.
            ("mode", "blocking" | "non-blocking") | ("max-buffer-size", _) | ("compress", "false") => {}
            ("compress", "true") => bail!("log opt 'compress' is not supported: rotated logs are kept as they are"),
            ("labels", list) => details.labels = names(list),
            ("env", list) => details.env = names(list),
            (name @ ("labels-regex" | "env-regex"), pattern) => {
                Regex::new(pattern).with_context(|| format!("read the log opt {name}"))?;
                let of = if name == "env-regex" { &mut details.env_regex } else { &mut details.labels_regex };
                *of = Some(pattern.to_owned()).filter(|pattern| !pattern.is_empty());
            }
            ("tag", text) => {
                // Of the length that they will have: the template may cut them.
                let id = "0".repeat(64);
                fill(text, &tag_fields(&id, "container", &format!("sha256:{id}"), "image"))?;
                details.tag = Some(text.to_owned());
            }
            (name, _) => bail!("unknown log opt '{name}' for json-file log driver"),
        }
    }
    Ok((found, details))
}

/// `--detach-keys`: characters and `ctrl-x`, parted by commas, as the bytes a terminal sends; empty is Docker's default.
///
/// # Errors
/// Another word.
pub fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let keys = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
    let byte = |key: &str| match key.as_bytes() {
        [byte @ 0x20..=0x7e] => Some(*byte),
        [b'c', b't', b'r', b'l', b'-', control @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => Some(control & 0x1f),
        _ => None,
    };
    let mut bytes = Vec::new();
    for key in keys.split(',') {
        match byte(key) {
            Some(byte) => bytes.push(byte),
            None => bail!("invalid detach keys ({text}): Unknown character: '{key}'"),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
