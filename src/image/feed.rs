//! Reading, decompressing and hashing on threads of their own.
//!
//! ```text
//! source ──▶ [hash as stored] ──▶ decompress ──┬──▶ user of the Feed       (this thread)
//!            └────────── reading thread ─────┘ └──▶ hash of the plain bytes (hashing thread)
//!
//! writer to a HashSink (this thread) ──▶ hash of the plain bytes (hashing thread)
//! ```

use super::digest::{Digest, Hasher};
use super::progress::{Amount, Step, Watcher};
use super::tar::Source;
use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Bytes that go from thread to thread at once, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 16;

type Piece = Arc<Vec<u8>>;

/// Which digests [`with_feed`] computes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// That of the source as it is.
    pub stored: bool,
    /// That of the decompressed bytes.
    pub plain: bool,
}

/// What a whole stream turned out to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub stored: Option<Digest>,
    pub stored_bytes: u64,
    pub plain: Option<Digest>,
    pub plain_bytes: u64,
}

/// A decompressed stream.
pub struct Feed {
    pieces: Receiver<io::Result<Piece>>,
    current: Piece,
    at: usize,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            // The reading thread is gone when everything was read.
            self.current = self.pieces.recv().unwrap_or_else(|_| Ok(Arc::default()))?;
            self.at = 0;
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.current.len());
    }
}

impl Source for Feed {}

/// Reads `source` (plain or in any compression that [`Plain`] knows) while `work` uses its decompressed bytes, of which
/// there may be up to `limit`. `work` must read to the end.
pub fn with_feed<T>(
    source: impl Read + Send,
    wanted: Wanted,
    limit: u64,
    work: impl FnOnce(Feed) -> Result<T>,
) -> Result<(T, Seen)> {
    std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel(WAITING);
        let (hash_sender, hashing) = match wanted.plain {
            true => hashing_thread(scope).map(|(s, t)| (Some(s), Some(t)))?,
            false => (None, None),
        };
        let reading = Builder::new().spawn_scoped(scope, move || {
            let result = pump(source, wanted.stored, limit, &sender, hash_sender);
            result.unwrap_or_else(|error| {
                // If nobody listens any more, the user has given up for a reason of his own.
                let _ = sender.send(Err(error));
                Seen::default()
            })
        });
        let reading = reading.context("start a thread")?;
        let result = work(Feed { pieces, current: Arc::default(), at: 0 })?;
        let mut seen = join(reading)?;
        seen.plain = hashing.map(join).transpose()?;
        Ok((result, seen))
    })
}

/// Collects what is written to it for a hashing thread.
pub struct HashSink {
    sender: SyncSender<Piece>,
    buffer: Vec<u8>,
    bytes: u64,
    watcher: Watcher,
}

impl HashSink {
    /// Tells somebody from now on how many bytes of a container's changes were read.
    pub fn watched_by(&mut self, watcher: &Watcher) {
        self.watcher = watcher.clone();
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.bytes += piece.len() as u64;
        self.watcher.step(Step::Committing(Amount { done: self.bytes, total: None }));
        self.sender.send(Arc::new(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for HashSink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        let length = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what `work` writes; gives the digest and the number of bytes beside its result.
pub fn hashing<T>(work: impl FnOnce(&mut HashSink) -> Result<T>) -> Result<(T, Digest, u64)> {
    std::thread::scope(|scope| {
        let (sender, thread) = hashing_thread(scope)?;
        let mut sink = HashSink { sender, buffer: Vec::with_capacity(PIECE), bytes: 0, watcher: Watcher::default() };
        let result = work(&mut sink)?;
        sink.send()?;
        let bytes = sink.bytes;
        drop(sink);
        Ok((result, join(thread)?, bytes))
    })
}

type HashingThread<'scope> = ScopedJoinHandle<'scope, Digest>;

fn hashing_thread<'scope>(scope: &'scope Scope<'scope, '_>) -> Result<(SyncSender<Piece>, HashingThread<'scope>)> {
    let (sender, pieces) = sync_channel::<Piece>(WAITING);
    let thread = Builder::new().spawn_scoped(scope, move || {
        let mut hasher = Hasher::new();
        pieces.iter().for_each(|piece| hasher.update(&piece));
        hasher.finish()
    });
    Ok((sender, thread.context("start a thread")?))
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread has ended unexpectedly"))
}

/// Moves everything from the source to the listeners.
fn pump(
    source: impl Read,
    hash_stored: bool,
    limit: u64,
    pieces: &SyncSender<io::Result<Piece>>,
    hash: Option<SyncSender<Piece>>,
) -> io::Result<Seen> {
    let stored = Stored { source, hasher: hash_stored.then(Hasher::new), bytes: 0 };
    let mut plain = Plain::new(BufReader::with_capacity(PIECE, stored))?;
    let mut seen = Seen::default();
    loop {
        let mut piece = vec![0u8; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            match plain.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        piece.truncate(filled);
        if filled == 0 {
            break;
        }
        seen.plain_bytes += filled as u64;
        within(limit, seen.plain_bytes)?;
        let piece = Arc::new(piece);
        if let Some(hash) = &hash {
            let _ = hash.send(piece.clone());
        }
        if pieces.send(Ok(piece)).is_err() {
            return Ok(seen);
        }
    }
    let mut stored = plain.into_inner();
    io::copy(&mut stored, &mut io::sink())?;
    let stored = stored.into_inner();
    seen.stored_bytes = stored.bytes;
    seen.stored = stored.hasher.map(Hasher::finish);
    Ok(seen)
}

/// Refuses what unpacks to more than there may be: a few kilobytes can become any number of terabytes.
pub fn within(limit: u64, bytes: u64) -> io::Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("it has more than {limit} bytes when unpacked; the option --unpack-limit allows more");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
}

/// The source, counted and hashed as it passes.
struct Stored<R> {
    source: R,
    hasher: Option<Hasher>,
    bytes: u64,
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.bytes += length as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
        }
        Ok(length)
    }
}

/// A compressed or plain stream, told apart by its first bytes.
pub enum Plain<R: BufRead> {
    Raw(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<R>>),
    Xz(Box<lzma_rust2::XzReader<R>>),
}

/// What an xz stream may ask for to be decoded, in KiB: enough for every setting of the common tools.
const XZ_MEMORY: u32 = 1 << 20;

impl<R: BufRead> Plain<R> {
    /// # Errors
    /// The source cannot be read.
    pub fn new(mut source: R) -> io::Result<Plain<R>> {
        let magic = source.fill_buf()?;
        if magic.starts_with(&[0x1f, 0x8b]) {
            return Ok(Plain::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))));
        }
        let is_skippable = magic.len() >= 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == [0x2a, 0x4d, 0x18];
        if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable {
            return Ok(Plain::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(source)?)));
        }
        if magic.starts_with(b"BZh") {
            return Ok(Plain::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(source))));
        }
        if magic.starts_with(b"\xfd7zXZ\0") {
            return Ok(Plain::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY))));
        }
        Ok(Plain::Raw(source))
    }

    /// Whether the bytes are as stored.
    pub fn is_raw(&self) -> bool {
        matches!(self, Plain::Raw(_))
    }

    fn into_inner(self) -> R {
        match self {
            Plain::Raw(source) => source,
            Plain::Gzip(decoder) => decoder.into_inner(),
            Plain::Zstd(decoder) => decoder.finish(),
            Plain::Bzip2(decoder) => decoder.into_inner(),
            Plain::Xz(decoder) => decoder.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Plain::Raw(source) => source.read(buffer),
            Plain::Gzip(decoder) => decoder.read(buffer),
            Plain::Zstd(decoder) => decoder.read(buffer),
            Plain::Bzip2(decoder) => decoder.read(buffer),
            Plain::Xz(decoder) => decoder.read(buffer),
        }
    }
}

/// Compares a digest and a length with what a descriptor promised.
pub fn check(what: &str, promised: (Digest, Option<u64>), digest: Option<Digest>, bytes: u64) -> Result<()> {
    if promised.1.is_some_and(|size| size != bytes) {
        bail!("{what} has {bytes} bytes, not {}", promised.1.unwrap_or_default());
    }
    match digest {
        Some(digest) if digest != promised.0 => {
            bail!("{what} is not what its digest {} says: it is {digest}", promised.0)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(data: &[u8]) -> Result<(Vec<u8>, Seen)> {
        with_feed(data, Wanted { stored: true, plain: true }, 1 << 30, |mut feed| {
            let mut out = Vec::new();
            feed.read_to_end(&mut out)?;
            Ok(out)
        })
    }

    #[test]
    fn every_compression_gives_the_same_bytes_and_digests() {
        let plain: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain[..10]).unwrap();
        let mut two_members = gzip.finish().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain[10..]).unwrap();
        two_members.extend(gzip.finish().unwrap());
        let skippable =
            [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstd::encode_all(&plain[..], 1).unwrap()].concat();
        let twice = |program: &str| [packed_by(program, &plain[..10]), packed_by(program, &plain[10..])].concat();
        for stored in [plain.clone(), two_members, skippable, twice("xz"), twice("bzip2")] {
            let (read, seen) = read_all(&stored).unwrap();
            assert!(read == plain);
            assert_eq!((seen.plain, seen.plain_bytes), (Some(Digest::of(&plain)), plain.len() as u64));
            assert_eq!((seen.stored, seen.stored_bytes), (Some(Digest::of(&stored)), stored.len() as u64));
        }
    }

    fn packed_by(program: &str, data: &[u8]) -> Vec<u8> {
        use std::process::{Command, Stdio};
        let mut child =
            Command::new(program).args(["-1", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, data) = (child.stdin.take().unwrap(), data.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&data));
        let out = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap().unwrap();
        out
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let bomb = zstd::encode_all(io::repeat(0).take(50 << 20), 1).unwrap();
        assert!(bomb.len() < 50 << 10);
        let drain = |mut feed: Feed| Ok(io::copy(&mut feed, &mut io::sink())?);
        assert!(with_feed(&bomb[..], Wanted::default(), 50 << 20, drain).is_ok());
        let error = with_feed(&bomb[..], Wanted::default(), (50 << 20) - 1, drain).unwrap_err();
        assert!(error.to_string().contains("--unpack-limit"), "{error}");
    }

    #[test]
    fn damage_is_an_error_and_not_an_end() {
        let stored = zstd::encode_all(&[7u8; 100_000][..], 1).unwrap();
        assert!(read_all(&stored[..stored.len() - 5]).is_err());
        let xz = packed_by("xz", b"some bytes");
        assert!(read_all(&xz[..xz.len() - 5]).is_err());
        let bzip2 = packed_by("bzip2", b"some bytes");
        assert!(read_all(&bzip2[..bzip2.len() - 5]).is_err());
    }

    #[test]
    fn a_user_who_gives_up_does_not_hang() {
        let result = with_feed(io::repeat(1), Wanted::default(), u64::MAX, |_| -> Result<()> { bail!("enough") });
        assert_eq!(result.unwrap_err().to_string(), "enough");
    }
}
