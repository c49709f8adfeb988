//! Pax records: `<length> <key>=<value>\n`, the length counting itself.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

const XATTR: &[u8] = b"SCHILY.xattr.";
/// The keys that a sparse file has once for each of its pieces.
const PIECE: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];

/// What a record takes beside its key and its value, at the least: the shortest is `5 a=\n`.
const OVERHEAD: usize = 4;

/// The kernel lists no more names of extended attributes than this, in bytes with a zero behind each.
const NAMES_LIMIT: usize = 64 << 10;

/// Records by their keys; a later one of the same key wins.
#[derive(Debug, Default)]
pub struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offsets and lengths of a sparse file, the only records that come more than once.
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

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
            if PIECE.contains(&key) {
                records.pieces.push(value.to_vec());
            } else {
                records.insert(key.to_vec(), value.to_vec());
            }
            data = &data[length..];
        }
        Ok(records)
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let (fixed, length) = (key.len() + OVERHEAD, value.len());
        match self.values.insert(key, value) {
            Some(older) => self.bytes -= older.len(),
            None => self.bytes += fixed,
        }
        self.bytes += length;
    }

    /// Adds newer records; the older ones of the same keys go. Pieces belong to one file and are not taken over.
    pub fn merge(&mut self, newer: Records) {
        newer.values.into_iter().for_each(|(key, value)| self.insert(key, value));
    }

    /// How long they are in an archive, at the least.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rest = self.values.range(XATTR.to_vec()..);
        let named = rest.map_while(|(key, value)| Some((key.strip_prefix(XATTR)?, value.as_slice())));
        named.filter(|(name, _)| !name.is_empty())
    }
}

/// What is said of one entry: in its own records, and in those about all entries where they have nothing of that key.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    pub own: &'a Records,
    pub global: &'a Records,
}

impl<'a> Said<'a> {
    /// The value of `key`; an empty one means that there is none.
    pub fn get(self, key: &str) -> Option<&'a [u8]> {
        let found = self.own.values.get(key.as_bytes()).or_else(|| self.global.values.get(key.as_bytes()));
        found.map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// The decimal number under `key`.
    pub fn number(self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(decimal).transpose().with_context(|| format!("read the pax record {key}"))
    }

    /// The time under `key`: seconds since 1970 and nanoseconds.
    pub fn time(self, key: &str) -> Result<Option<(i64, u32)>> {
        self.get(key).map(time).transpose().with_context(|| format!("read the pax record {key}"))
    }

    /// Offset and length of each piece of a sparse file, one after the other.
    pub fn pieces(self) -> impl Iterator<Item = &'a [u8]> {
        self.own.pieces.iter().map(Vec::as_slice)
    }

    /// Extended attributes, sorted by name.
    pub fn xattrs(self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (mut named, mut names) = (BTreeMap::new(), 0);
        for (name, value) in self.global.xattrs().chain(self.own.xattrs()) {
            if named.insert(name, value).is_none() {
                names += name.len() + 1;
            }
            if names > NAMES_LIMIT {
                bail!("the names of its extended attributes have more than {NAMES_LIMIT} bytes");
            }
        }
        Ok(named.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
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

    fn one(records: &Records) -> Said<'_> {
        static NONE: Records = Records { values: BTreeMap::new(), pieces: Vec::new(), bytes: 0 };
        Said { own: records, global: &NONE }
    }

    fn parsed<K: AsRef<str>>(records: &[(K, &str)]) -> Records {
        let owned = records.iter().map(|(key, value)| (key.as_ref().as_bytes().to_vec(), value.as_bytes().to_vec()));
        Records::parse(&encode(&owned.collect::<Vec<_>>())).unwrap()
    }

    #[test]
    fn records_survive_the_round_trip() {
        for size in [0, 1, 80, 90, 91, 92, 93, 980, 990, 991, 992, 5000] {
            let records = vec![(b"path".to_vec(), vec![b'x'; size]), (xattr_key(b"user.a"), vec![0, 10, 61, 255])];
            let parsed = Records::parse(&encode(&records)).unwrap();
            assert_eq!(one(&parsed).get("path").unwrap_or_default(), records[0].1);
            assert_eq!(one(&parsed).xattrs().unwrap(), [(b"user.a".to_vec(), vec![0, 10, 61, 255])]);
        }
    }

    #[test]
    fn later_records_win_and_empty_ones_hide() {
        let mut global = parsed(&[("path", "first"), ("path", "second"), ("mtime", "1"), ("uid", "7")]);
        global.merge(parsed(&[("mtime", "2"), ("SCHILY.xattr.b", "global"), ("SCHILY.xattr.c", "global")]));
        let own = parsed(&[("path", ""), ("SCHILY.xattr.c", ""), ("SCHILY.xattr.a", "own"), ("SCHILY.xattr.", "none")]);
        let said = Said { own: &own, global: &global };
        assert_eq!((said.get("path"), said.get("gid")), (None, None));
        assert_eq!((said.time("mtime").unwrap(), said.number("uid").unwrap()), (Some((2, 0)), Some(7)));
        let xattrs = [(&b"a"[..], &b"own"[..]), (b"b", b"global"), (b"c", b"")].map(|(k, v)| (k.to_vec(), v.to_vec()));
        assert_eq!(said.xattrs().unwrap(), xattrs);
        assert_eq!(one(&global).get("path"), Some(&b"second"[..]));
    }

    #[test]
    fn what_is_replaced_does_not_count() {
        let mut records = parsed(&[("comment", "long"), ("comment", "x"), ("a", "")]);
        let bytes = records.bytes();
        assert_eq!(bytes, "comment".len() + "x".len() + "a".len() + 2 * OVERHEAD);
        records.merge(parsed(&[("comment", "longer")]));
        assert_eq!(records.bytes(), bytes + 5);
        for _ in 0..1000 {
            records.merge(parsed(&[("comment", "y"), ("a", "")]));
        }
        assert_eq!(records.bytes(), bytes);
    }

    #[test]
    fn pieces_keep_their_order_and_belong_to_one_file() {
        let records =
            [("GNU.sparse.offset", "9"), ("GNU.sparse.numbytes", "1"), ("a", "b"), ("GNU.sparse.offset", "4")];
        let (own, mut global) = (parsed(&records), Records::default());
        assert_eq!(one(&own).pieces().collect::<Vec<_>>(), [&b"9"[..], b"1", b"4"]);
        global.merge(own);
        assert_eq!(one(&global).pieces().count(), 0);
    }

    #[test]
    fn tens_of_thousands_of_records_are_only_looked_up() {
        let many = |prefix: &str| {
            let keys: Vec<(String, &str)> = (0..80_000).map(|n| (format!("{prefix}{n:x}"), "")).collect();
            parsed(&keys)
        };
        let (mut global, own) = (many("g"), many("x"));
        for _ in 0..20 {
            global.merge(many("g"));
            let said = Said { own: &own, global: &global };
            assert!(said.get("path").is_none() && said.xattrs().unwrap().is_empty());
        }
        let error = one(&many("SCHILY.xattr.user.")).xattrs().unwrap_err();
        assert!(error.to_string().contains("extended attributes"), "{error}");
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
