//! The fields of one header block.

use super::BLOCK;
use anyhow::{Result, bail};
use std::ops::Range;

pub const NAME: Range<usize> = 0..100;
pub const MODE: Range<usize> = 100..108;
pub const UID: Range<usize> = 108..116;
pub const GID: Range<usize> = 116..124;
pub const SIZE: Range<usize> = 124..136;
pub const MTIME: Range<usize> = 136..148;
pub const CHECKSUM: Range<usize> = 148..156;
pub const TYPE: usize = 156;
pub const LINK: Range<usize> = 157..257;
pub const MAGIC: Range<usize> = 257..265;
pub const MAJOR: Range<usize> = 329..337;
pub const MINOR: Range<usize> = 337..345;
pub const PREFIX: Range<usize> = 345..500;

pub type Block = [u8; BLOCK];

/// Checks the sum; old programs added the bytes up as signed numbers.
pub fn check(block: &Block) -> Result<()> {
    let stated = number(&block[CHECKSUM]).ok();
    let (unsigned, signed) = sums(block);
    if stated != Some(unsigned) && stated != Some(signed) {
        bail!("the checksum of a header is wrong: this is no tar archive, or a damaged one");
    }
    Ok(())
}

/// The sums over the block with its checksum field as spaces.
pub fn sums(block: &Block) -> (i64, i64) {
    let bytes = block.iter().enumerate().map(|(at, b)| if CHECKSUM.contains(&at) { b' ' } else { *b });
    bytes.fold((0, 0), |(unsigned, signed), b| (unsigned + i64::from(b), signed + i64::from(b as i8)))
}

/// A number in octal digits, or in base 256 if the first bit is set.
pub fn number(field: &[u8]) -> Result<i64> {
    let Some(first) = field.first() else { return Ok(0) };
    if first & 0x80 != 0 {
        let start = i128::from((first & 0x7f) as i8 | if first & 0x40 != 0 { -128 } else { 0 });
        let value = field[1..].iter().fold(start, |n, b| n << 8 | i128::from(*b));
        return i64::try_from(value).map_err(|_| anyhow::anyhow!("a number in a header is out of range"));
    }
    let is_blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0i64, |n, b| match b {
        b'0'..=b'7' => Ok(n << 3 | i64::from(b - b'0')),
        _ => bail!("a number in a header is not octal"),
    })
}

/// A text field: up to its first zero byte.
pub fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// Which family of formats a block belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Before 1988: no magic, no prefix.
    Old,
    Ustar,
    Gnu,
}

pub fn format(block: &Block) -> Format {
    match &block[MAGIC] {
        b"ustar  \0" => Format::Gnu,
        magic if magic.starts_with(b"ustar\0") => Format::Ustar,
        _ => Format::Old,
    }
}

/// The name with its prefix.
pub fn name(block: &Block) -> Vec<u8> {
    let name = text(&block[NAME]);
    let prefix = match format(block) {
        // The "star" variant keeps times behind a shorter prefix.
        Format::Ustar if block[508..] == *b"tar\0" => text(&block[345..476]),
        Format::Ustar => text(&block[PREFIX]),
        _ => b"",
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_of_every_kind() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"777777777777").unwrap(), 0o777777777777);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]).unwrap(), -2);
        assert!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(number(b"12x\0").is_err());
        assert!(number(b"-1\0").is_err());
    }
}
