//! Reading: a stream of entries, with metadata bounded and every number checked.

use super::header::{self, Block, Format};
use super::pax::{Records, Said};
use super::{BLOCK, Entry, Kind, Segment, sparse};
use anyhow::{Context, Result, bail};
use std::io::{self, BufRead, ErrorKind};

/// The records about one entry together are not larger, in bytes; nor are those about all entries.
const METADATA_LIMIT: u64 = 1 << 20;

/// Where an archive comes from.
pub trait Source: BufRead {
    /// Passes over `count` bytes.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let available = self.fill_buf()?.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            if available == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.consume(available);
            count -= available as u64;
        }
        Ok(())
    }
}

impl Source for &[u8] {}

/// Sees all of an archive that is not the content of a kept file.
pub trait Tap {
    /// The next such bytes.
    fn literal(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Tap for () {
    fn literal(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Reads the entries of an archive one after another.
pub struct Reader<S, T> {
    source: S,
    tap: T,
    globals: Records,
    /// Bytes read so far.
    position: u64,
    /// Content of the current entry that was not read yet, and what fills its last block.
    remaining: u64,
    padding: u64,
    /// Whether the current entry's content goes to the tap.
    tapped: bool,
}

/// What came before an entry about it.
#[derive(Default)]
struct About {
    records: Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: u64,
}

impl<S: Source, T: Tap> Reader<S, T> {
    pub fn new(source: S, tap: T) -> Reader<S, T> {
        Reader { source, tap, globals: Records::default(), position: 0, remaining: 0, padding: 0, tapped: true }
    }

    /// Goes to the next entry, passing over what is left of this one. `None` is the end of the archive.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.finish_content()?;
        let mut about = About::default();
        loop {
            let Some(block) = self.block()? else {
                if about.bytes > 0 {
                    bail!("the archive ends too early");
                }
                return Ok(None);
            };
            if block == [0; BLOCK] {
                if about.bytes > 0 {
                    bail!("the archive ends where an entry should be");
                }
                self.end()?;
                return Ok(None);
            }
            header::check(&block)?;
            match block[header::TYPE] {
                b'x' | b'X' => about.records = Records::parse(&self.metadata(&block, &mut about.bytes)?)?,
                b'g' => {
                    let mut bytes = 0;
                    let records = Records::parse(&self.metadata(&block, &mut bytes)?)?;
                    self.globals.merge(records);
                    if self.globals.bytes() as u64 > METADATA_LIMIT {
                        bail!("the records about all entries are larger than {METADATA_LIMIT} bytes");
                    }
                }
                b'L' => about.name = Some(until_zero(self.metadata(&block, &mut about.bytes)?)),
                b'K' => about.link = Some(until_zero(self.metadata(&block, &mut about.bytes)?)),
                b'V' => self.skip_body(&block)?,
                _ => return self.entry(&block, about).map(Some),
            }
        }
    }

    /// The next piece of the current entry's content, empty at its end. Call [`Reader::consume`] with what was used.
    pub fn content(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.source.fill_buf()?;
        if available.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        let length = available.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    /// Marks `count` bytes of [`Reader::content`] as used.
    pub fn consume(&mut self, count: usize) -> Result<()> {
        if self.tapped && count > 0 {
            // What was filled is still there: this only looks at it again.
            self.tap.literal(&self.source.fill_buf()?[..count])?;
        }
        self.source.consume(count);
        self.position += count as u64;
        self.remaining -= count as u64;
        Ok(())
    }

    /// Keeps the current entry's content away from the tap.
    pub fn leave_content_out(&mut self) {
        self.tapped = false;
    }

    /// Bytes of the archive read so far; at the start of an entry, where its content is.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn tap(&mut self) -> &mut T {
        &mut self.tap
    }

    /// Reads what follows the end of the archive, up to the end of the stream, and gives the tap back.
    pub fn finish(mut self) -> Result<T> {
        loop {
            let rest = self.source.fill_buf().context("read the archive")?;
            if rest.is_empty() {
                return Ok(self.tap);
            }
            self.tap.literal(rest)?;
            let length = rest.len();
            self.source.consume(length);
        }
    }

    fn finish_content(&mut self) -> Result<()> {
        if self.tapped {
            while self.remaining > 0 {
                let length = self.content().context("read the archive")?.len();
                self.consume(length)?;
            }
        } else if self.remaining > 0 {
            self.source.skip(self.remaining).context("the archive ends too early")?;
            self.position += self.remaining;
            self.remaining = 0;
        }
        self.tapped = true;
        let mut fill = [0u8; BLOCK];
        let padding = self.padding as usize;
        // An archive that ends in the padding of its last entry is accepted by the common tools.
        let got = self.read_up_to(&mut fill[..padding])?;
        self.padding = 0;
        self.tap.literal(&fill[..got])
    }

    /// After a block of zeros: another one, or the end of the stream.
    fn end(&mut self) -> Result<()> {
        match self.block()? {
            None => Ok(()),
            Some(block) if block == [0; BLOCK] => Ok(()),
            Some(_) => bail!("a block of zeros is in the middle of the archive"),
        }
    }

    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0u8; BLOCK];
        match self.read_up_to(&mut block)? {
            0 => Ok(None),
            BLOCK => self.tap.literal(&block).map(|()| Some(block)),
            short if self.position == short as u64 => bail!("this is no tar archive"),
            _ => bail!("the archive ends too early"),
        }
    }

    fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let available = self.source.fill_buf().context("read the archive")?;
            if available.is_empty() {
                break;
            }
            let length = available.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&available[..length]);
            self.source.consume(length);
            filled += length;
        }
        self.position += filled as u64;
        Ok(filled)
    }

    /// The body of a record header.
    fn metadata(&mut self, block: &Block, sum: &mut u64) -> Result<Vec<u8>> {
        let size = u64::try_from(header::number(&block[header::SIZE])?).context("a record has a negative size")?;
        *sum = sum.saturating_add(size).saturating_add(BLOCK as u64);
        if *sum > METADATA_LIMIT {
            bail!("the records about an entry are larger than {METADATA_LIMIT} bytes");
        }
        let mut data = vec![0u8; sparse::padded(size) as usize];
        if self.read_up_to(&mut data)? != data.len() {
            bail!("the archive ends too early");
        }
        self.tap.literal(&data)?;
        data.truncate(size as usize);
        Ok(data)
    }

    fn skip_body(&mut self, block: &Block) -> Result<()> {
        let size = u64::try_from(header::number(&block[header::SIZE])?).context("a label has a negative size")?;
        self.set_content(size)?;
        self.finish_content()
    }

    fn set_content(&mut self, size: u64) -> Result<()> {
        if i64::try_from(size).is_err() {
            bail!("an entry is too large");
        }
        self.remaining = size;
        self.padding = sparse::padded(size) - size;
        Ok(())
    }

    fn entry(&mut self, block: &Block, about: About) -> Result<Entry> {
        // The content of a sparse file may begin with its map, and is read while they are looked at.
        let global = std::mem::take(&mut self.globals);
        let entry = self.described(block, Said { own: &about.records, global: &global }, about.name, about.link);
        self.globals = global;
        entry
    }

    fn described(
        &mut self,
        block: &Block,
        records: Said,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let name = match records.get("GNU.sparse.name").or(records.get("path")) {
            Some(name) => name.to_vec(),
            None => name.unwrap_or_else(|| header::name(block)),
        };
        let mut entry = fields(block, records, name).with_context(|| describe(block))?;
        if let Some(link) = link.filter(|_| records.get("linkpath").is_none()) {
            entry.link = link;
        }
        let has_content = entry.kind == Kind::File;
        self.set_content(if has_content { entry.size } else { 0 })?;
        if !has_content {
            entry.size = 0;
            return Ok(entry);
        }
        if let Some(map) = self.sparse_map(block, records).with_context(|| describe(block))? {
            sparse::check(&map, self.remaining).with_context(|| describe(block))?;
            entry.size = map.0;
            entry.segments = Some(map.1);
        }
        Ok(entry)
    }

    fn sparse_map(&mut self, block: &Block, records: Said) -> Result<Option<(u64, Vec<Segment>)>> {
        if block[header::TYPE] == b'S' {
            let more = || self.block()?.context("the archive ends too early");
            return sparse::old_gnu(block, more).map(Some);
        }
        let before = self.remaining;
        let map = sparse::pax(records, || self.line())?;
        // A map in front of the content fills whole blocks.
        let used = before - self.remaining;
        for _ in used..sparse::padded(used).min(before) {
            self.byte()?;
        }
        Ok(map)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                _ if line.len() == 20 => return Err(io::Error::new(ErrorKind::InvalidData, "a sparse map is wrong")),
                byte => line.push(byte),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let byte = self.content()?.first().copied();
        let byte = byte.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "a sparse map is incomplete"))?;
        self.consume(1).map_err(io::Error::other)?;
        Ok(byte)
    }
}

/// The entry that a header block and its records describe.
fn fields(block: &Block, records: Said, path: Vec<u8>) -> Result<Entry> {
    let kind = match block[header::TYPE] {
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => bail!("its type {:?} is not supported", other as char),
    };
    let plain = |range: std::ops::Range<usize>| header::number(&block[range]);
    let number = |key: &str, range| match records.number(key)? {
        Some(n) => Ok(n),
        None => u64::try_from(plain(range)?).with_context(|| format!("its {key} is negative")),
    };
    let owner = |key: &str, range| {
        let id = u32::try_from(number(key, range)?).ok().filter(|id| *id != u32::MAX);
        id.with_context(|| format!("its {key} is out of range"))
    };
    let has_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice) && header::format(block) != Format::Old;
    let device = |range| if has_device { u32::try_from(plain(range)?).context("its device is wrong") } else { Ok(0) };
    Ok(Entry {
        kind,
        link: records.get("linkpath").unwrap_or_else(|| header::text(&block[header::LINK])).to_vec(),
        mode: (plain(header::MODE)? & 0o7777) as u32,
        uid: owner("uid", header::UID)?,
        gid: owner("gid", header::GID)?,
        size: number("size", header::SIZE)?,
        mtime: match records.time("mtime")? {
            Some(time) => time,
            None => (plain(header::MTIME)?, 0),
        },
        device: (device(header::MAJOR)?, device(header::MINOR)?),
        xattrs: records.xattrs()?,
        segments: None,
        path,
    })
}

fn describe(block: &Block) -> String {
    format!("read the entry {:?}", String::from_utf8_lossy(&header::name(block)))
}

fn until_zero(mut data: Vec<u8>) -> Vec<u8> {
    data.truncate(header::text(&data).len());
    data
}
