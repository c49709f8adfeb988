//! Writing: one encoding only, so that the same tree gives the same bytes, today and in ten years.
//!
//! A ustar block; before it a pax record header if and only if something does not fit into the block.

use super::header::{self, Block};
use super::{BLOCK, Entry, Kind, pax};

/// What ends an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// How many zeros follow `size` bytes of content.
pub fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The header blocks of an entry without holes. A directory's path ends with a slash.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut block = [0u8; BLOCK];
    put_name(&mut block, &entry.path, &mut records);
    if entry.link.is_ascii() && entry.link.len() <= header::LINK.len() {
        put(&mut block[header::LINK], &entry.link);
    } else {
        records.push((b"linkpath".to_vec(), entry.link.clone()));
    }
    octal(&mut block[header::MODE], u64::from(entry.mode));
    for (key, range, value) in [
        ("uid", header::UID, u64::from(entry.uid)),
        ("gid", header::GID, u64::from(entry.gid)),
        ("size", header::SIZE, entry.size),
    ] {
        if !octal(&mut block[range], value) {
            records.push((key.into(), value.to_string().into_bytes()));
        }
    }
    let (seconds, nanos) = entry.mtime;
    let fits = octal(&mut block[header::MTIME], u64::try_from(seconds).unwrap_or(u64::MAX));
    if !fits || nanos != 0 {
        records.push((b"mtime".to_vec(), time(seconds, nanos)));
    }
    octal(&mut block[header::MAJOR], u64::from(entry.device.0));
    octal(&mut block[header::MINOR], u64::from(entry.device.1));
    records.extend(entry.xattrs.iter().map(|(name, value)| (pax::xattr_key(name), value.clone())));
    seal(&mut block, type_flag(entry.kind));
    if records.is_empty() {
        return block.to_vec();
    }
    records.sort();
    let mut out = record_header(&pax::encode(&records));
    out.extend_from_slice(&block);
    out
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn record_header(body: &[u8]) -> Vec<u8> {
    let mut block = [0u8; BLOCK];
    put(&mut block[header::NAME], b"././@PaxHeader");
    octal(&mut block[header::MODE], 0o644);
    for range in [header::UID, header::GID, header::MTIME, header::MAJOR, header::MINOR] {
        octal(&mut block[range], 0);
    }
    octal(&mut block[header::SIZE], body.len() as u64);
    seal(&mut block, b'x');
    let mut out = block.to_vec();
    out.extend_from_slice(body);
    out.resize(out.len() + padding(body.len() as u64), 0);
    out
}

/// The name, split between name and prefix if it must be, or as a record.
fn put_name(block: &mut Block, path: &[u8], records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    if path.is_ascii() {
        if path.len() <= header::NAME.len() {
            return put(&mut block[header::NAME], path);
        }
        let splits = path.iter().enumerate().filter(|(at, b)| **b == b'/' && (1..=header::PREFIX.len()).contains(at));
        for (at, _) in splits {
            let rest = &path[at + 1..];
            if !rest.is_empty() && rest.len() <= header::NAME.len() {
                put(&mut block[header::PREFIX], &path[..at]);
                return put(&mut block[header::NAME], rest);
            }
        }
    }
    let visible: Vec<u8> = path.iter().map(|b| if b.is_ascii() { *b } else { b'_' }).take(header::NAME.len()).collect();
    put(&mut block[header::NAME], &visible);
    records.push((b"path".to_vec(), path.to_vec()));
}

fn put(field: &mut [u8], text: &[u8]) {
    field[..text.len()].copy_from_slice(text);
}

/// Writes digits and a zero byte; a number that does not fit becomes 0 and gives false.
fn octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let fits = value.checked_shr(3 * digits as u32).unwrap_or(0) == 0;
    let value = if fits { value } else { 0 };
    for (place, byte) in field[..digits].iter_mut().rev().enumerate() {
        *byte = b'0' + (value >> (3 * place) & 7) as u8;
    }
    fits
}

fn time(seconds: i64, nanos: u32) -> Vec<u8> {
    let text = match (seconds, nanos) {
        (_, 0) => return seconds.to_string().into_bytes(),
        (0.., _) => format!("{seconds}.{nanos:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
    };
    text.trim_end_matches('0').as_bytes().to_vec()
}

fn seal(block: &mut Block, type_flag: u8) {
    block[header::TYPE] = type_flag;
    put(&mut block[header::MAGIC], b"ustar\x0000");
    let sum = header::sums(block).0 as u64;
    let field = &mut block[header::CHECKSUM];
    octal(&mut field[..7], sum);
    field[7] = b' ';
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let name = proptest::collection::vec(prop_oneof![Just(b'/'), 1u8..=255], 1..400);
        let xattrs = proptest::collection::btree_map("[a-z.=]{1,20}", any::<Vec<u8>>(), 0..3);
        (
            name,
            0u32..0o10000,
            any::<u32>(),
            any::<u32>(),
            0i64..1 << 60,
            -(1i64 << 40)..1 << 40,
            0u32..1_000_000_000,
            xattrs,
        )
            .prop_map(|(path, mode, uid, gid, size, seconds, nanos, xattrs)| Entry {
                path,
                kind: Kind::File,
                link: Vec::new(),
                mode,
                uid: uid.min(u32::MAX - 1),
                gid: gid.min(u32::MAX - 1),
                size: size as u64,
                mtime: (seconds, nanos),
                device: (0, 0),
                // A key ends at the first equals sign, so none can be in a name.
                xattrs: xattrs
                    .into_iter()
                    .map(|(k, v)| (k.replace('=', "-").into_bytes(), v))
                    .collect::<std::collections::BTreeMap<_, _>>()
                    .into_iter()
                    .collect(),
                segments: None,
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entry in entry()) {
            let bytes = encode(&entry);
            prop_assert_eq!(Reader::new(&bytes[..], ()).next().unwrap().unwrap(), entry);
        }

        #[test]
        fn no_input_is_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 512..2048), flag in any::<u8>()) {
            // With a right checksum the reader gets further.
            let mut block: Block = bytes[..BLOCK].try_into().unwrap();
            block[header::SIZE].fill(b'0');
            seal(&mut block, flag);
            bytes[..BLOCK].copy_from_slice(&block);
            let mut reader = Reader::new(&bytes[..], ());
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
