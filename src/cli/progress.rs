//! What is shown while images move: lines that change in place on a terminal, plain lines elsewhere.

use super::table::printable;
use super::units::exact_size;
use crate::image::progress::{Amount, Progress, Step};
use crate::sys::tty::{self, Size};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A terminal wider than this has room for bars.
const BAR_NEEDS: u16 = 110;
const BAR: usize = 50;
/// Amounts of one line are shown again no sooner than after this.
const PAUSE: Duration = Duration::from_millis(100);
/// What is shown only while it lasts is not shown at all if it does not last longer than this.
const PATIENCE: Duration = Duration::from_millis(300);
/// What a terminal is taken for that does not know its size.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// Which of the program's streams the lines go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Errors,
}

impl Stream {
    fn size(self) -> Option<Size> {
        let size = |fd: &dyn Fn() -> io::Result<Size>, is_terminal: bool| {
            let known = |size: &Size| size.rows > 0 && size.columns > 0;
            is_terminal.then(|| fd().ok().filter(known).unwrap_or(USUAL))
        };
        match self {
            Stream::Output => size(&|| tty::size(io::stdout()), tty::is_terminal(io::stdout())),
            Stream::Errors => size(&|| tty::size(io::stderr()), tty::is_terminal(io::stderr())),
        }
    }

    fn write(self, text: &str) -> io::Result<()> {
        let all = |out: &mut dyn Write| out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match self {
            Stream::Output => all(&mut io::stdout().lock()),
            Stream::Errors => all(&mut io::stderr().lock()),
        }
    }
}

/// How steps are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Quiet,
    /// A line for each change of state, without amounts.
    Plain,
    /// One line an item, written anew in place.
    InPlace,
    /// The same, and nothing is left of it in the end.
    Passing,
}

/// Shows steps as lines. Several threads may tell it about theirs.
pub struct Lines {
    stream: Stream,
    manner: Manner,
    since: Instant,
    state: Mutex<Vec<Line>>,
}

/// The line of one item.
struct Line {
    item: String,
    step: Step,
    /// What stands on the terminal, and since when.
    shown: Option<(String, Instant)>,
}

impl Lines {
    /// Lines for people who watch, and for files that keep what happened. No steps at all if `quiet`.
    pub fn new(stream: Stream, quiet: bool) -> Lines {
        let manner = match stream.size() {
            _ if quiet => Manner::Quiet,
            None => Manner::Plain,
            Some(_) => Manner::InPlace,
        };
        Lines::with(stream, manner)
    }

    /// Lines on the terminal that standard error is, while the work lasts. Without a terminal there are none.
    pub fn passing() -> Lines {
        let stream = Stream::Errors;
        Lines::with(stream, if stream.size().is_some() { Manner::Passing } else { Manner::Quiet })
    }

    fn with(stream: Stream, manner: Manner) -> Lines {
        Lines { stream, manner, since: Instant::now(), state: Mutex::default() }
    }

    /// Writes a whole line below everything that is there, quiet or not. Lines of items stay as they are from then on.
    ///
    /// # Errors
    /// The stream cannot be written to.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut lines = self.lock();
        self.forget(&mut lines);
        self.stream.write(&format!("{}\n", printable(text))).context("write what was done")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        // A thread that panicked in here has left nothing half done that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, lines: &mut Vec<Line>) {
        let shown = lines.iter().filter(|line| line.shown.is_some()).count();
        if self.manner == Manner::Passing && shown > 0 {
            let _ = self.stream.write(&"\x1b[1A\x1b[2K".repeat(shown));
        }
        lines.clear();
    }

    fn plain(&self, lines: &mut Vec<Line>, item: &str, step: Step) {
        let is_new = |line: &Line| std::mem::discriminant(&line.step) != std::mem::discriminant(&step);
        let known = lines.iter().position(|line| line.item == item);
        if known.is_none_or(|at| is_new(&lines[at])) && amount(&step).is_none() {
            let _ = self.stream.write(&format!("{}\n", text(item, &step, false)));
        }
        match known {
            Some(at) => lines[at].step = step,
            None => lines.push(Line { item: item.into(), step, shown: None }),
        }
    }

    fn in_place(&self, lines: &mut Vec<Line>, item: &str, step: Step) {
        let now = Instant::now();
        let at = lines.iter().position(|line| line.item == item).unwrap_or_else(|| {
            lines.push(Line { item: item.into(), step: step.clone(), shown: None });
            lines.len() - 1
        });
        let size = self.stream.size().unwrap_or(USUAL);
        let below = lines[at + 1..].iter().filter(|line| line.shown.is_some()).count();
        let line = &mut lines[at];
        let changed = std::mem::discriminant(&line.step) != std::mem::discriminant(&step);
        line.step = step;
        let is_end = amount(&line.step).is_none_or(|a| a.total.is_some_and(|total| a.done >= total));
        if let Some((_, when)) = &line.shown
            && !changed
            && !is_end
            && now.duration_since(*when) < PAUSE
        {
            return;
        }
        let mut text = text(item, &line.step, size.columns > BAR_NEEDS);
        truncate(&mut text, size.columns.into());
        let before = line.shown.replace((text.clone(), now));
        let out = match before {
            None => format!("{text}\n"),
            Some((old, _)) if old == text => return,
            // What has left the screen at its top cannot be reached any more.
            Some(_) if below + 1 >= usize::from(size.rows) => return,
            Some(_) => {
                let up = below + 1;
                let down = if below > 0 { format!("\x1b[{below}B") } else { String::new() };
                format!("\x1b[{up}A\x1b[2K\r{text}\n{down}")
            }
        };
        let _ = self.stream.write(&out);
    }
}

impl Progress for Lines {
    fn step(&self, item: &str, step: Step) {
        let mut lines = self.lock();
        match self.manner {
            Manner::Quiet => {}
            Manner::Plain => self.plain(&mut lines, item, step),
            Manner::Passing if self.since.elapsed() < PATIENCE => {}
            Manner::InPlace | Manner::Passing => self.in_place(&mut lines, item, step),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut lines = self.lock();
        self.forget(&mut lines);
    }
}

fn text(item: &str, step: &Step, bars: bool) -> String {
    let mut out = String::new();
    if !item.is_empty() {
        let _ = write!(out, "{}: ", printable(item));
    }
    out.push_str(&words(step));
    if let Some(amount) = amount(step) {
        let _ = write!(out, " {}", shown(amount, bars));
    }
    out
}

fn words(step: &Step) -> String {
    let words = match step {
        Step::PullingFsLayer => "Pulling fs layer",
        Step::Waiting => "Waiting",
        Step::Downloading(_) => "Downloading",
        Step::VerifyingChecksum => "Verifying Checksum",
        Step::DownloadComplete => "Download complete",
        Step::Extracting(_) => "Extracting",
        Step::PullComplete => "Pull complete",
        Step::AlreadyExists => "Already exists",
        Step::Preparing => "Preparing",
        Step::Pushing(_) => "Pushing",
        Step::Pushed => "Pushed",
        Step::LayerAlreadyExists => "Layer already exists",
        Step::MountedFrom(repository) => return format!("Mounted from {}", printable(repository)),
        Step::Loading(_) => "Loading layer",
        Step::Writing(_) => "Saving layer",
        Step::Importing(_) => "Importing",
        Step::TransferringContext(_) => "Transferring context",
        Step::Exporting(_) => "Exporting",
        Step::Committing(_) => "Committing",
    };
    words.into()
}

fn amount(step: &Step) -> Option<Amount> {
    match step {
        Step::Downloading(amount)
        | Step::Extracting(amount)
        | Step::Pushing(amount)
        | Step::Loading(amount)
        | Step::Writing(amount)
        | Step::Importing(amount)
        | Step::TransferringContext(amount)
        | Step::Exporting(amount)
        | Step::Committing(amount) => Some(*amount),
        _ => None,
    }
}

/// `[=====>     ]  1.2MB/60MB`, and without the bar where there is no room for it.
fn shown(amount: Amount, bars: bool) -> String {
    let done = exact_size(amount.done);
    let Some(total) = amount.total.filter(|total| *total > 0) else {
        return if amount.done > 0 { format!("{done:>8}") } else { String::new() };
    };
    let mut out = String::new();
    if bars {
        let filled = (u128::from(amount.done) * BAR as u128 / u128::from(total)).min(BAR as u128) as usize;
        let _ = write!(out, "[{}>{}] ", "=".repeat(filled), " ".repeat(BAR - filled));
    }
    let _ = write!(out, "{done:>8}");
    // More than all makes no sense to a reader.
    if amount.done <= total {
        let _ = write!(out, "/{}", exact_size(total));
    }
    out
}

fn truncate(text: &mut String, columns: usize) {
    if let Some((at, _)) = text.char_indices().nth(columns) {
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(done: u64, total: u64) -> Amount {
        Amount { done, total: Some(total) }
    }

    #[test]
    fn amounts_in_dockers_form() {
        assert_eq!(shown(of(13_210_000, 60_020_000), false), " 13.21MB/60.02MB");
        assert_eq!(shown(of(135_700_000, 135_700_000), false), " 135.7MB/135.7MB");
        assert_eq!(shown(of(98_300, 8_084_000), false), "  98.3kB/8.084MB");
        assert_eq!(shown(of(3, 2), false), "      3B");
        assert_eq!(shown(Amount { done: 5, total: None }, true), "      5B");
        assert_eq!(shown(of(0, 0), true), "");
        let half = format!("[{}>{}]       1B/2B", "=".repeat(25), " ".repeat(25));
        assert_eq!(shown(of(1, 2), true), half);
        assert!(shown(of(u64::MAX, 1), true).starts_with(&format!("[{}>]", "=".repeat(50))));
    }

    #[test]
    fn lines_of_items() {
        assert_eq!(text("802db03d8d5e", &Step::Loading(of(1, 1)), false), "802db03d8d5e: Loading layer       1B/1B");
        assert_eq!(text("a", &Step::MountedFrom("b\x1b[2J".into()), false), "a: Mounted from b\\u{1b}[2J");
        assert_eq!(text("", &Step::Waiting, true), "Waiting");
        let mut wide = "äöü".to_string();
        truncate(&mut wide, 2);
        assert_eq!(wide, "äö");
    }
}
