//! Ages and sizes in Docker's words.

const SECOND: i64 = 1;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const HOURS_A_DAY: i64 = 24;

const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A span of time as one rough word or number, e.g. `About a minute`; without the word "ago".
pub fn age(seconds: i64) -> String {
    if seconds < MINUTE {
        return match seconds {
            ..1 => "Less than a second".into(),
            1 => "1 second".into(),
            _ => format!("{seconds} seconds"),
        };
    }
    if seconds < HOUR {
        return match seconds / MINUTE {
            1 => "About a minute".into(),
            minutes => format!("{minutes} minutes"),
        };
    }
    // Hours are rounded, everything longer is cut off.
    let hours = seconds.saturating_add(HOUR / 2) / HOUR;
    match hours {
        1 => "About an hour".into(),
        ..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / HOURS_A_DAY),
        336..1440 => format!("{} weeks", hours / HOURS_A_DAY / 7),
        1440..17520 => format!("{} months", hours / HOURS_A_DAY / 30),
        _ => format!("{} years", seconds / HOUR / HOURS_A_DAY / 365),
    }
}

/// A size in decimal units with three significant digits: `13.3kB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// A size in decimal units with four significant digits: `3.306MB`.
pub fn exact_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// A size in binary units with four significant digits: `23.54GiB`.
pub fn memory(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut units = units.iter();
    let mut unit = units.next();
    // What would round to one digit too many (Docker prints `1e+03kB` there) is shown in the next unit.
    while value >= base || whole_digits(value.round()) > digits {
        let Some(larger) = units.next() else { break };
        value /= base;
        unit = Some(larger);
    }
    significant(value, digits) + unit.unwrap_or(&"")
}

/// `value` with so many significant digits and no zeros at the end of its fraction.
fn significant(value: f64, digits: usize) -> String {
    let text = format!("{value:.*}", digits.saturating_sub(whole_digits(value)));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

fn whole_digits(value: f64) -> usize {
    (value as u64).to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ages() {
        let day = 86_400;
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
            (i64::MAX, "292471208677 years"),
        ] {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1001, "1kB"),
            (13_256, "13.3kB"),
            (7_797_760, "7.8MB"),
            (231_268_856, "231MB"),
            (999_900, "1MB"),
            (135_676_416, "136MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn transfers() {
        for (bytes, text) in [(0, "0B"), (98_304, "98.3kB"), (7_797_760, "7.798MB"), (135_676_416, "135.7MB")] {
            assert_eq!(exact_size(bytes), text);
        }
    }

    #[test]
    fn memory_sizes() {
        for (bytes, text) in
            [(0, "0B"), (761_856, "744KiB"), (25_275_882_373, "23.54GiB"), (1023, "1023B"), (1 << 20, "1MiB")]
        {
            assert_eq!(memory(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn every_number_has_a_short_form(n: u64, seconds: i64) {
            prop_assert!(size(n).len() <= 7 && memory(n).len() <= 9);
            prop_assert!(!age(seconds).is_empty());
        }
    }
}
