//! Times in the time zone of whoever reads them: `TZ`, or `/etc/localtime`, as Go's programs find it.

use crate::sys::file::read_limited;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

/// Bytes of a zone's file; the largest has a few thousand.
const LIMIT: u64 = 1 << 20;
const ZONES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];

/// The time zone; UTC if none can be found.
pub fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| find(std::env::var_os("TZ")).unwrap_or(TimeZone::UTC))
}

fn find(name: Option<OsString>) -> Option<TimeZone> {
    let Some(name) = name else { return read(Path::new("/etc/localtime")) };
    let name = name.into_string().ok()?;
    let name = name.strip_prefix(':').unwrap_or(&name);
    if name.is_empty() {
        return None;
    }
    // An absolute name stands for itself.
    ZONES.iter().find_map(|folder| read(&Path::new(folder).join(name)))
}

fn read(path: &Path) -> Option<TimeZone> {
    TimeZone::tzif("", &read_limited(path, LIMIT).ok()?).ok()
}

/// The time here.
pub fn zoned(time: Timestamp) -> Zoned {
    time.to_zoned(zone().clone())
}

/// As Go shows a time: `2026-11-30 18:29:40 +0900 JST`, with what there is of a fraction.
pub fn full(time: Timestamp) -> String {
    zoned(time).strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// The same without a fraction.
pub fn to_the_second(time: Timestamp) -> String {
    zoned(time).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// RFC 3339 with so many digits of a fraction.
pub fn rfc3339(time: Timestamp, digits: u8) -> String {
    let here = zoned(time);
    let offset = if here.offset().is_zero() { "Z" } else { "%:z" };
    let fraction = if digits == 0 { String::new() } else { format!("%.{digits}f") };
    here.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}{offset}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_as_go_finds_them() {
        let at = |name: &str| {
            let zone = find(Some(name.into()))?;
            let time: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
            Some(time.to_zoned(zone).strftime("%z %Z").to_string())
        };
        for name in ["Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"] {
            assert_eq!(at(name).as_deref(), Some("+0200 CEST"), "{name}");
        }
        for name in ["", ":", "No/Such", "/", "/etc/passwd", "/dev/zero", "JST-9"] {
            assert_eq!(at(name), None, "{name}");
        }
    }
}
