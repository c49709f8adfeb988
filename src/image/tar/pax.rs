//! Pax records: `<length> <key>=<value>\n`, the length counting itself.

use anyhow::{Context, Result, bail};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Records in order; a later one of the same key wins.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Reads the body of one record header.
    pub fn parse(mut data: &[u8]) -> Result<Records> {
        let mut records = Records::default();
        while !data.is_empty() {
            let space = data.iter().take(20).position(|b| *b == b' ').context("a pax record has no length")?;
            let length: usize = decimal(&data[..space])?.try_into().context("a pax record is too long")?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                bail!("a pax record has a wrong length");
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').context("a pax record has no value")?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key.is_empty() || key.contains(&0) {
                bail!("a pax record has a wrong key");
            }
            records.0.push((key.to_vec(), value.to_vec()));
            data = &data[length..];
        }
        Ok(records)
    }

    /// Adds newer records; the older ones of the same keys go.
    pub fn merge(&mut self, newer: Records) {
        self.0.retain(|(key, _)| newer.0.iter().all(|(k, _)| k != key));
        self.0.extend(newer.0);
    }

    /// The value of `key`; an empty one means that there is none.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(k, _)| k == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The decimal number under `key`.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(decimal).transpose().with_context(|| format!("read the pax record {key}"))
    }

    /// The time under `key`: seconds since 1970 and nanoseconds.
    pub fn time(&self, key: &str) -> Result<Option<(i64, u32)>> {
        self.get(key).map(time).transpose().with_context(|| format!("read the pax record {key}"))
    }

    /// Every record in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(k, v)| (k.as_slice(), v.as_slice()))
    }

    /// Extended attributes, sorted by name.
    pub fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (key, value) in self.iter() {
            if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                out.retain(|(n, _)| n != name);
                out.push((name.to_vec(), value.to_vec()));
            }
        }
        out.sort();
        out
    }
}

/// The body of a record header, from keys and values in order.
pub fn encode(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        // The length counts its own digits, which can make it one digit longer.
        let mut length = rest + digits(rest);
        length = rest + digits(length);
        out.extend_from_slice(length.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// The key of the extended attribute `name`.
pub fn xattr_key(name: &[u8]) -> Vec<u8> {
    [XATTR, name].concat()
}

fn digits(mut n: usize) -> usize {
    let mut count = 1;
    while n >= 10 {
        n /= 10;
        count += 1;
    }
    count
}

/// An unsigned decimal number and nothing else.
pub fn decimal(text: &[u8]) -> Result<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        bail!("{:?} is not a number", String::from_utf8_lossy(text));
    }
    let parsed = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    parsed.with_context(|| format!("{} is out of range", String::from_utf8_lossy(text)))
}

/// `[-]seconds[.fraction]`.
fn time(text: &[u8]) -> Result<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..dot])?)?;
    let fraction = text.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        bail!("{:?} is not a time", String::from_utf8_lossy(text));
    }
    let nanos = (0..9).fold(0u32, |n, at| n * 10 + fraction.get(at).map_or(0, |b| u32::from(b - b'0')));
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_round_trip() {
        for size in [0, 1, 80, 90, 91, 92, 93, 980, 990, 991, 992, 5000] {
            let records = vec![(b"path".to_vec(), vec![b'x'; size]), (xattr_key(b"user.a"), vec![0, 10, 61, 255])];
            let parsed = Records::parse(&encode(&records)).unwrap();
            assert_eq!(parsed.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect::<Vec<_>>(), records);
        }
    }

    #[test]
    fn times_of_every_kind() {
        assert_eq!(time(b"12").unwrap(), (12, 0));
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"1.1234567899").unwrap(), (1, 123_456_789));
        for bad in [&b""[..], b"-", b"1.x", b"99999999999999999999"] {
            assert!(time(bad).is_err());
        }
    }

    #[test]
    fn hostile_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b",
            b"0 a=b\n",
            b"99 a=b\n",
            b"6 ab=\n0",
            b"5 a\n\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(Records::parse(bad).is_err(), "{bad:?}");
        }
    }
}
