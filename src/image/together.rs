//! The same work on many things at once; the first failure ends it all.

use crate::sys::depth::STACK;
use anyhow::{Result, anyhow};
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

/// More at once only get in each other's way.
const AT_ONCE: usize = 8;

/// Says that the work has become useless.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// A stream that ends with an error once the work has become useless.
    pub fn watch<R: Read>(&self, stream: R) -> Stoppable<'_, R> {
        Stoppable { stream, stop: self }
    }
}

/// See [`Stop::watch`].
pub struct Stoppable<'a, R> {
    stream: R,
    stop: &'a Stop,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up: something else has failed"));
        }
        self.stream.read(buffer)
    }
}

/// Does `work` on each of `items`, the first ones first, and gives the results in the order of the items.
///
/// # Errors
/// Of several failures the first one to happen.
pub fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T, &Stop) -> Result<R> + Sync) -> Result<Vec<R>> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from).clamp(2, AT_ONCE);
    each_of(items, at_once, work)
}

/// As [`each`], with so many at once.
pub fn each_of<T: Send, R: Send>(
    items: Vec<T>,
    at_once: usize,
    work: impl Fn(T, &Stop) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let workers = at_once.min(items.len());
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate());
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(count));
    let failure = Mutex::new(None);
    let stop = Stop::default();
    let worker = || {
        while !stop.0.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((at, item)) = next else { return };
            match work(item, &stop) {
                Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result)),
                Err(error) => {
                    stop.0.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads =
            (0..workers).map(|_| Builder::new().stack_size(STACK).spawn_scoped(scope, worker)).collect::<Vec<_>>();
        let started = threads.into_iter().filter_map(Result::ok).map(|thread| thread.join().is_ok());
        let failures = started.filter(|ended| !ended).count();
        if failures == 0 { Ok(()) } else { Err(anyhow!("a thread has ended unexpectedly")) }
    })?;
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if results.len() != count {
        return Err(anyhow!("no thread could be started"));
    }
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_failure_counts() {
        let doubled = each((0..100).collect(), |n, _| Ok(n * 2)).unwrap();
        assert_eq!(doubled, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!(each(Vec::<u8>::new(), |n, _| Ok(n)).unwrap().is_empty());
        let done = Mutex::new(0);
        let failing = |n: u32, stop: &Stop| {
            if n == 1 {
                return Err(anyhow!("one"));
            }
            // An endless stream ends when another has failed.
            let ended = io::copy(&mut stop.watch(io::repeat(0)), &mut io::sink());
            *done.lock().unwrap() += 1;
            Ok(ended?)
        };
        assert_eq!(each((0..1000).collect(), failing).unwrap_err().to_string(), "one");
        assert!(*done.lock().unwrap() < 1000);
    }
}
