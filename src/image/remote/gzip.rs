//! Compression by all processors: the same bytes always become the same compressed bytes.
//!
//! ```text
//! writer ──▶ blocks ──▶ deflate (many threads) ──▶ in their order: one gzip member ──▶ out
//! ```
//! Each block is compressed with the end of the one before as its dictionary, and ends on a byte. Where blocks end
//! depends on the bytes alone, so the result does not depend on the machine.

use anyhow::{Context, Result, anyhow};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

const BLOCK: usize = 1 << 20;
/// How far back deflate looks.
const WINDOW: usize = 32 << 10;
/// Of Debian's files level 6 makes one percent less, in twice the time.
const LEVEL: u32 = 4;
/// No name, no time; made on any system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last, empty block of deflate.
const LAST: [u8; 2] = [3, 0];

struct Job {
    block: Arc<Vec<u8>>,
    before: Arc<Vec<u8>>,
    done: SyncSender<io::Result<Compressed>>,
}

struct Compressed {
    data: Vec<u8>,
    crc: Crc,
}

/// Writes what `work` writes to `out`, compressed.
pub fn compress<T>(out: &mut (dyn Write + Send), work: impl FnOnce(&mut Blocks) -> Result<T>) -> Result<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    std::thread::scope(|scope| {
        let (jobs, waiting) = sync_channel::<Job>(threads);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = waiting.clone();
            let worker = move || loop {
                let job = waiting.lock().ok().and_then(|w| w.recv().ok());
                let Some(job) = job else { return };
                let _ = job.done.send(deflate(&job.block, &job.before));
            };
            Builder::new().spawn_scoped(scope, worker).context("start a thread")?;
        }
        let (order, results) = sync_channel(2 * threads);
        let writing = Builder::new().spawn_scoped(scope, move || join_up(&results, out));
        let writing = writing.context("start a thread")?;
        let mut blocks = Blocks { current: Vec::with_capacity(BLOCK), before: Arc::default(), jobs, order };
        let result = work(&mut blocks).and_then(|result| {
            blocks.send()?;
            Ok(result)
        });
        drop(blocks);
        let written = writing.join().map_err(|_| anyhow!("a thread has ended unexpectedly"))?;
        // If nobody writes any more, that is the reason.
        written.context("write what was compressed")?;
        result
    })
}

/// Cuts what is written into blocks.
pub struct Blocks {
    current: Vec<u8>,
    before: Arc<Vec<u8>>,
    jobs: SyncSender<Job>,
    order: SyncSender<Receiver<io::Result<Compressed>>>,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let block = Arc::new(std::mem::replace(&mut self.current, Vec::with_capacity(BLOCK)));
        let (done, result) = sync_channel(1);
        let job = Job { block: block.clone(), before: std::mem::replace(&mut self.before, block), done };
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.order.send(result).map_err(|_| gone())?;
        self.jobs.send(job).map_err(|_| gone())
    }
}

impl Write for Blocks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = data.len().min(BLOCK - self.current.len());
        self.current.extend_from_slice(&data[..length]);
        if self.current.len() == BLOCK {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn deflate(block: &[u8], before: &[u8]) -> io::Result<Compressed> {
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    if !before.is_empty() {
        compress.set_dictionary(&before[before.len().saturating_sub(WINDOW)..]).map_err(io::Error::other)?;
    }
    let mut data = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let read = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let status = compress.compress_vec(&block[read..], &mut data, FlushCompress::Sync);
        let status = status.map_err(io::Error::other)?;
        let is_read = compress.total_in() == block.len() as u64;
        // Room that is left over says that everything is out.
        if is_read && (data.len() < data.capacity() || status == Status::BufError) {
            break;
        }
        data.reserve(64 << 10);
    }
    let mut crc = Crc::new();
    crc.update(block);
    Ok(Compressed { data, crc })
}

fn join_up(results: &Receiver<Receiver<io::Result<Compressed>>>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&HEADER)?;
    let mut whole = Crc::new();
    for result in results {
        let block = result.recv().map_err(io::Error::other)??;
        whole.combine(&block.crc);
        out.write_all(&block.data)?;
    }
    out.write_all(&LAST)?;
    out.write_all(&whole.sum().to_le_bytes())?;
    out.write_all(&whole.amount().to_le_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn compressed(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(&mut out, |blocks| Ok(blocks.write_all(data)?)).unwrap();
        out
    }

    #[test]
    fn one_member_that_everybody_reads() {
        let mut noise = 1u32;
        let random: Vec<u8> = (0..5 * BLOCK / 2)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        let text: Vec<u8> = (0..700_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for data in [&b""[..], b"x", &text, &random, &[0; BLOCK], &vec![7; 2 * BLOCK + 1]] {
            let packed = compressed(data);
            let mut read = Vec::new();
            let mut decoder = flate2::bufread::GzDecoder::new(&packed[..]);
            decoder.read_to_end(&mut read).unwrap();
            assert!(read == data, "{} bytes", data.len());
            assert!(decoder.into_inner().is_empty());
            assert!(packed.len() < data.len() + data.len() / 1000 + 100);
            assert!(packed == compressed(data));
        }
    }

    #[test]
    fn whoever_cannot_write_says_why() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("no room"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let result = compress(&mut Full, |blocks| Ok(io::copy(&mut io::repeat(1).take(99 << 20), blocks).map(drop)?));
        assert!(format!("{:#}", result.unwrap_err()).contains("no room"));
    }
}
