//! Points in time as `--since` and `--until` take them.

use super::local;
use anyhow::{Result, bail};
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A duration before `now` (`1h30m`), seconds since 1970 with a fraction or without, or a date with a time or without.
///
/// A time without a zone is one of the place where we are.
///
/// # Errors
/// Anything else, or a time that is too far away.
pub fn time_point(text: &str, now: Timestamp) -> Result<Timestamp> {
    point(text, now, local::zone())
}

fn point(text: &str, now: Timestamp, here: &TimeZone) -> Result<Timestamp> {
    let found = match duration(text) {
        Some(back) => now.checked_sub(back).ok(),
        None => unix(text).or_else(|| calendar(text, here)),
    };
    match found {
        Some(found) => Ok(found),
        None => bail!("failed to parse value as time or duration: \"{text}\""),
    }
}

/// Go's durations: `300ms`, `-1.5h`, `2h45m`.
pub(super) fn duration(text: &str) -> Option<SignedDuration> {
    let (mut rest, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        total = total.checked_add(scaled(number, nanoseconds(unit)?)?)?;
        rest = tail;
    }
    let total = if negative { -total } else { total };
    Some(SignedDuration::from_nanos(i64::try_from(total).ok()?))
}

fn nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number times a unit, cut off to whole nanoseconds.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut weight = unit;
    for digit in fraction.chars().take(18) {
        weight /= 10;
        total = total.checked_add(weight.checked_mul(i128::from(digit.to_digit(10)?))?)?;
    }
    Some(total)
}

fn unix(text: &str) -> Option<Timestamp> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let total = scaled(unsigned, 1_000_000_000)?;
    Timestamp::from_nanosecond(if text.starts_with('-') { -total } else { total }).ok()
}

fn calendar(text: &str, here: &TimeZone) -> Option<Timestamp> {
    // A complete date, or a date with hours or hours and minutes only, which the library does not take.
    let date: Date = text.get(..10)?.parse().ok()?;
    let (clock, offset) = split_zone(text.get(10..)?)?;
    let zone = offset.map_or_else(|| here.clone(), TimeZone::fixed);
    let clock = match clock.strip_prefix(['T', 't', ' ']) {
        None if clock.is_empty() => "00:00:00".to_string(),
        None => return None,
        Some(hours) if hours.len() == 2 => format!("{hours}:00:00"),
        Some(minutes) if minutes.len() == 5 => format!("{minutes}:00"),
        Some(full) => full.to_string(),
    };
    if !clock.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let moment: DateTime = format!("{date}T{clock}").parse().ok()?;
    Some(zone.to_zoned(moment).ok()?.timestamp())
}

/// The clock after a date, and the offset from UTC if there is one.
fn split_zone(text: &str) -> Option<(&str, Option<Offset>)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, Some(Offset::UTC)));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, None)) };
    let (clock, zone) = text.split_at(at);
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    let offset = Offset::from_seconds(if zone.starts_with('-') { -seconds } else { seconds }).ok()?;
    Some((clock, Some(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted() -> Result<()> {
        let now: Timestamp = "2026-05-06T12:00:00Z".parse()?;
        for (text, expected) in [
            ("10m", "2026-05-06T11:50:00Z"),
            ("1h30m", "2026-05-06T10:30:00Z"),
            ("1.5h", "2026-05-06T10:30:00Z"),
            ("-1s", "2026-05-06T12:00:01Z"),
            ("250ms", "2026-05-06T11:59:59.75Z"),
            (".5s", "2026-05-06T11:59:59.5Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1136073600", "2006-01-01T00:00:00Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
            ("2006-01-02T15:04:05Z", "2006-01-02T15:04:05Z"),
            ("2006-01-02T15:04:05.25+01:00", "2006-01-02T14:04:05.25Z"),
            ("2006-01-02T15:04:05", "2006-01-02T15:04:05Z"),
            ("2006-01-02T15:04", "2006-01-02T15:04:00Z"),
            ("2006-01-02T15", "2006-01-02T15:00:00Z"),
            ("2006-01-02", "2006-01-02T00:00:00Z"),
            ("2006-01-02Z", "2006-01-02T00:00:00Z"),
            ("2006-01-02-05:00", "2006-01-02T05:00:00Z"),
        ] {
            assert_eq!(point(text, now, &TimeZone::UTC)?, expected.parse::<Timestamp>()?, "{text}");
        }
        let here = TimeZone::fixed(Offset::from_hours(9)?);
        for (text, expected) in
            [("2006-01-02T09:00", "2006-01-02T00:00:00Z"), ("2006-01-02T09:00Z", "2006-01-02T09:00:00Z")]
        {
            assert_eq!(point(text, now, &here)?, expected.parse::<Timestamp>()?, "{text}");
        }
        Ok(())
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "x",
            "-",
            "1d",
            "m",
            ".",
            "1.2.3",
            "2006-13-01",
            "2006-01-02T",
            "2006-01-02T25",
            "9e99",
            "99999999999999h",
            "2006-01-02T10:00+1",
            "1..5s",
        ] {
            let error = time_point(text, Timestamp::UNIX_EPOCH).unwrap_err().to_string();
            assert_eq!(error, format!("failed to parse value as time or duration: \"{text}\""));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text: String, shaped in "[-+0-9.:TZhmsu ]{0,24}", date in "2006-0[0-9]-[0-9]{2}[-T+ 0-9:.Z]{0,16}") {
            for text in [text, shaped, date] {
                let _ = time_point(&text, Timestamp::MAX);
            }
        }
    }
}
