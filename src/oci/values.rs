//! Values on the command line.

use super::log::Log;
use crate::runtime::capabilities::unavailable;
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Capability, Process, Spec};
use serde_json::{Value, json};

/// A capability by its name, with or without `CAP_`, in any case.
pub fn capability(name: &str) -> Result<Capability> {
    let upper = name.to_ascii_uppercase();
    upper.trim_start_matches("CAP_").parse().map_err(|_| anyhow!("unknown capability {name:?}"))
}

/// A specification, and the capabilities in it that are unknown: it may be meant for a newer kernel than ours, and is
/// carried out without them. What other runtimes let be left out may be left out.
pub fn spec(text: &[u8]) -> Result<(Spec, Vec<String>)> {
    // As text, whose strings need not be checked one by one.
    let text = std::str::from_utf8(text).context("it is not text")?;
    let error = match serde_json::from_str(text) {
        Ok(spec) => return Ok((spec, Vec::new())),
        Err(error) => error,
    };
    let mut value: Value = serde_json::from_str(text)?;
    let Some(process) = value.get_mut("process") else { return Err(error.into()) };
    let unknown = take_unknown(process);
    fill_in(process);
    respell(process);
    // The first attempt knows the line of what is wrong.
    let spec = serde_json::from_value(value).map_err(|e| if unknown.is_empty() { error } else { e })?;
    Ok((spec, unknown))
}

/// A process in the specification's form; otherwise as [`spec`].
pub fn process(text: &[u8]) -> Result<(Process, Vec<String>)> {
    let mut value: Value = serde_json::from_slice(text)?;
    let unknown = take_unknown(&mut value);
    fill_in(&mut value);
    respell(&mut value);
    Ok((serde_json::from_value(value)?, unknown))
}

/// The user is root unless said otherwise.
fn fill_in(process: &mut Value) {
    let Some(fields) = process.as_object_mut() else { return };
    let user = fields.entry("user").or_insert_with(|| json!({}));
    if let Some(user) = user.as_object_mut() {
        user.entry("uid").or_insert(json!(0));
        user.entry("gid").or_insert(json!(0));
    }
    fields.entry("cwd").or_insert(json!(""));
}

/// The crate of the specification's types has names of its own for two flags of schedulers.
fn respell(process: &mut Value) {
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = json!("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = json!("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
}

/// Takes unknown capabilities out of a process's sets.
fn take_unknown(process: &mut Value) -> Vec<String> {
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    let mut unknown = Vec::new();
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.retain(|name| match name.as_str() {
            Some(name) if capability(name).is_err() => {
                unknown.push(name.to_owned());
                false
            }
            _ => true,
        });
    }
    unknown.sort();
    unknown.dedup();
    unknown
}

/// Tells of capabilities that a process will be without: those unknown, and those that we cannot give. In a user
/// namespace of its own it can have all.
pub fn warn_of_capabilities(
    mut left_out: Vec<String>,
    process: &Process,
    in_user_namespace: impl FnOnce() -> bool,
    log: &Log,
) {
    // What cannot be understood is refused later.
    let lacking = process.capabilities().as_ref().and_then(|sets| unavailable(sets).ok()).unwrap_or_default();
    if !lacking.is_empty() && !in_user_namespace() {
        left_out.extend(lacking);
    }
    left_out.sort();
    if !left_out.is_empty() {
        log.warning(&format!("ignoring unknown or unavailable capabilities: [{}]", left_out.join(" ")));
    }
}

/// `uid[:gid]`, as numbers: the names are the container's business.
pub fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |n: &str| {
        let digits = n.bytes().all(|b| b.is_ascii_digit());
        let id = n.parse::<u32>().ok().filter(|id| digits && *id <= i32::MAX as u32);
        id.with_context(|| format!("{text:?} is not of the form UID[:GID]"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// Bytes with an optional unit in powers of 1024: `64M`, `1.5GiB`; -1 is without limit.
pub fn bytes(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => bail!("{text:?} is not an amount of memory"),
    };
    let number: f64 = number.parse().map_err(|_| anyhow!("{text:?} is not an amount of memory"))?;
    let all = number * 1024f64.powi(exponent);
    if all < i64::MAX as f64 { Ok(all as i64) } else { bail!("{text:?} is too much memory") }
}

/// A length of time: `5s`, `100ms`, `1m30s`.
pub fn duration(text: &str) -> Result<std::time::Duration> {
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => bail!("{text:?} is not a length of time"),
        };
        total += number.parse::<f64>().map_err(|_| anyhow!("{text:?} is not a length of time"))? * seconds;
        rest = after;
    }
    std::time::Duration::try_from_secs_f64(total).ok().filter(|d| !d.is_zero()).context("the time must be more than 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(bytes("64M").unwrap(), 64 << 20);
        assert_eq!(bytes("1.5KiB").unwrap(), 1536);
        assert_eq!(bytes("-1").unwrap(), -1);
        assert!(bytes("x").is_err() && bytes("-5").is_err() && bytes("99999999P").is_err() && bytes("").is_err());
        assert_eq!(user("1:2").unwrap(), (1, Some(2)));
        assert!(user("root").is_err() && user("4294967295").is_err());
        assert_eq!(duration("1m0.5s").unwrap().as_millis(), 60_500);
        assert!(duration("0s").is_err() && duration("5").is_err() && duration("").is_err());
        assert_eq!(capability("cap_net_raw").unwrap(), Capability::NetRaw);
    }
}
