//! `HEALTHCHECK`, and durations as Go writes them.

use super::ast::{Command, Healthcheck};
use super::flags::Flags;
use super::instruction::{command, keyword};

/// Shorter times are refused.
const SHORTEST: i64 = 1_000_000;

pub fn parse(flags: &mut Flags, rest: &str) -> Result<Healthcheck, String> {
    let mut time = |name: &'static str| match flags.value(name)? {
        None => Ok(0),
        Some(text) => match duration(&text)? {
            0 => Ok(0),
            short if short < SHORTEST => Err(format!("interval {name:?} cannot be less than 1ms")),
            time => Ok(time),
        },
    };
    let (interval, timeout) = (time("interval")?, time("timeout")?);
    let (start_period, start_interval) = (time("start-period")?, time("start-interval")?);
    let retries = match flags.value("retries")?.as_deref() {
        None | Some("") => 0,
        Some(text) => {
            let number: i64 = text.parse().map_err(|_| format!("--retries: {text:?} is not a number"))?;
            if number < 0 {
                return Err("--retries cannot be negative".into());
            }
            number
        }
    };
    let (kind, rest) = keyword(rest);
    match kind.to_ascii_uppercase().as_str() {
        "" => Err("HEALTHCHECK requires at least one argument".into()),
        "NONE" if rest.is_empty() => Ok(Healthcheck::Off),
        "NONE" => Err("HEALTHCHECK NONE takes no arguments".into()),
        "CMD" => match command(rest)? {
            Command::Exec(words) if words.is_empty() => Err("Missing command after HEALTHCHECK CMD".into()),
            command => Ok(Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries }),
        },
        _ => Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    }
}

/// `1m30s`, `500ms`, `1.5h` in nanoseconds.
fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}: a number with a unit was expected, as in 1m30s");
    if text == "0" {
        return Ok(0);
    }
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(invalid()),
            };
        rest = &rest[end..];
    }
    match text.is_empty() || total >= i64::MAX as f64 {
        true => Err(invalid()),
        false => Ok(total.round() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in
            [("0", 0), ("1m30s", 90_000_000_000), ("1.5h", 5_400_000_000_000), ("500ms", 500_000_000)]
        {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1x", "1s2", "99999999999h", "1..2s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
