//! A build on a terminal: what is going on now, drawn anew while it changes, in BuildKit's form.

use super::build_plain::{Part, quote};
use super::table::printable;
use crate::build::progress::{Event, Progress, StepId};
use crate::sys::tty;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two drawings.
const PERIOD: Duration = Duration::from_millis(100);
/// Lines of a running command that are shown.
const TAIL: usize = 5;

/// How a part ended, and after how many seconds.
#[derive(Clone, Debug, PartialEq)]
enum End {
    Cached,
    Done(f64),
    Failed(f64),
    Canceled,
}

#[derive(Debug)]
struct View {
    parts: BTreeMap<StepId, (Part, Option<End>, Vec<String>)>,
    began: Instant,
    /// Lines of the last drawing that are drawn over.
    drawn: usize,
    warnings: Vec<String>,
}

/// The view and the thread that draws it.
#[derive(Debug)]
pub struct Live {
    view: Arc<Mutex<View>>,
    is_over: Arc<AtomicBool>,
    drawing: Option<JoinHandle<()>>,
}

impl Live {
    /// Begins to draw.
    pub fn start() -> Live {
        let view = View { parts: BTreeMap::new(), began: Instant::now(), drawn: 0, warnings: Vec::new() };
        let view = Arc::new(Mutex::new(view));
        let is_over = Arc::new(AtomicBool::new(false));
        let (of_thread, over) = (view.clone(), is_over.clone());
        let drawing = std::thread::Builder::new().spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(PERIOD);
                of_thread.lock().unwrap_or_else(|e| e.into_inner()).draw(false);
            }
        });
        Live { view, is_over, drawing: drawing.ok() }
    }

    /// Draws for the last time.
    pub fn finish(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.drawing.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.view.lock().unwrap_or_else(|e| e.into_inner()).draw(true);
    }

    /// As [`super::build_plain::Plain::quote`].
    pub fn quote(&self, name: &str) -> String {
        let view = self.view.lock().unwrap_or_else(|e| e.into_inner());
        view.parts.values().rev().find(|(part, ..)| part.name == name).map(|(p, ..)| quote(p)).unwrap_or_default()
    }
}

impl Progress for Live {
    fn tell(&self, step: StepId, event: Event) {
        self.view.lock().unwrap_or_else(|e| e.into_inner()).event(step, event);
    }

    fn warn(&self, text: &str) {
        self.view.lock().unwrap_or_else(|e| e.into_inner()).warnings.push(printable(text));
    }
}

impl View {
    fn event(&mut self, step: StepId, event: Event) {
        if let Event::Started(name) = event {
            self.parts.insert(step, (Part::new(name), None, Vec::new()));
            return;
        }
        let Some((part, end, notes)) = self.parts.get_mut(&step) else { return };
        let seconds = part.began.elapsed().as_secs_f64();
        match event {
            Event::Output(bytes) => drop(part.absorb(&bytes)),
            Event::Note(text) => notes.push(printable(&text)),
            Event::Cached => *end = Some(End::Cached),
            Event::Done => *end = Some(End::Done(seconds)),
            Event::Failed(_) => *end = Some(End::Failed(seconds)),
            Event::Canceled => *end = Some(End::Canceled),
            Event::Started(_) => {}
        }
        if end.is_some() {
            part.rest();
        }
    }

    fn draw(&mut self, is_last: bool) {
        let size = tty::size(rustix::stdio::stderr()).ok();
        let (rows, columns) = size.map_or((24, 80), |s| (usize::from(s.rows).max(4), usize::from(s.columns).max(20)));
        let mut lines = self.lines(is_last, columns);
        // What does not fit would scroll away and could not be drawn over: the newest is what matters.
        if !is_last && lines.len() >= rows {
            let surplus = lines.len() - (rows - 1);
            lines.drain(1..=surplus);
        }
        let mut out = match self.drawn {
            0 => String::new(),
            n => format!("\x1b[{n}A"),
        };
        for line in &lines {
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        out.push_str("\x1b[J");
        self.drawn = if is_last { 0 } else { lines.len() };
        let _ = io::stderr().lock().write_all(out.as_bytes());
    }

    fn lines(&self, is_last: bool, columns: usize) -> Vec<String> {
        let over = self.parts.values().filter(|(_, end, _)| end.is_some()).count();
        let word = if is_last { " FINISHED" } else { "" };
        let seconds = self.began.elapsed().as_secs_f64();
        let mut lines = vec![format!("[+] Building {seconds:.1}s ({over}/{}){word}", self.parts.len())];
        for (part, end, notes) in self.parts.values() {
            let (mark, time) = match end {
                None => ("", part.began.elapsed().as_secs_f64()),
                Some(End::Cached) => ("CACHED ", 0.0),
                Some(End::Done(seconds)) => ("", *seconds),
                Some(End::Failed(seconds)) => ("ERROR ", *seconds),
                Some(End::Canceled) => ("CANCELED ", 0.0),
            };
            lines.push(fitted(&format!(" => {mark}{}", printable(&part.name)), &format!("{time:.1}s"), columns));
            lines.extend(notes.iter().map(|note| fitted(&format!(" => => {note}"), "", columns)));
            if end.is_none() {
                let tail = part.last.len().saturating_sub(TAIL);
                let tail = part.last[tail..].iter().map(|(_, line)| format!(" => => # {}", printable(line)));
                lines.extend(tail.map(|line| fitted(&line, "", columns)));
            }
        }
        lines.extend(self.warnings.iter().map(|warning| fitted(warning, "", columns)));
        lines
    }
}

/// A line of exactly the terminal's width at most, with something at its right end.
fn fitted(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(right.len() + 1);
    let mut text: String = left.chars().take(room).collect();
    if !right.is_empty() {
        text.extend(std::iter::repeat_n(' ', room.saturating_sub(text.chars().count())));
        text.push_str(right);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_wraps() {
        assert_eq!(fitted(" => abc", "1.0s", 20), " => abc        1.0s");
        assert_eq!(fitted(&"x".repeat(50), "1.0s", 20).chars().count(), 19);
        assert_eq!(fitted("short", "", 20), "short");
    }
}
