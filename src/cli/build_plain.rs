//! A build as plain lines, in BuildKit's form, for logs and for those who read along.

use super::table::printable;
use crate::build::progress::{Event, Progress, StepId};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Instant;

/// Lines of a command that are quoted when it fails.
pub const QUOTED: usize = 20;

/// A part of the build that has begun.
#[derive(Debug)]
pub struct Part {
    /// `[stage 2/5] RUN make`.
    pub name: String,
    /// When.
    pub began: Instant,
    /// Its last lines, each with the seconds since it began.
    pub last: Vec<(f64, String)>,
    partial: Vec<u8>,
}

impl Part {
    /// It begins now.
    pub fn new(name: String) -> Part {
        Part { name, began: Instant::now(), last: Vec::new(), partial: Vec::new() }
    }

    /// Takes in what its command wrote; gives the lines that are complete now.
    pub fn absorb(&mut self, bytes: &[u8]) -> Vec<(f64, String)> {
        self.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(self.line(&line[..end]));
        }
        // Nobody's lines are that long; a program that writes none must not fill our memory.
        if self.partial.len() > 1 << 20 {
            let line = std::mem::take(&mut self.partial);
            lines.push(self.line(&line));
        }
        lines
    }

    /// The line that no line feed has ended.
    pub fn rest(&mut self) -> Option<(f64, String)> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| self.line(&rest))
    }

    fn line(&mut self, bytes: &[u8]) -> (f64, String) {
        let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned();
        let line = (self.began.elapsed().as_secs_f64(), text);
        self.last.push(line.clone());
        if self.last.len() > QUOTED {
            self.last.remove(0);
        }
        line
    }
}

/// What is printed so far.
#[derive(Debug, Default)]
struct State {
    parts: BTreeMap<StepId, Part>,
    current: Option<StepId>,
    out: String,
}

/// The lines of a build, or none of them if it is quiet: what has failed is remembered in any case.
#[derive(Debug)]
pub struct Plain {
    state: Mutex<State>,
    quiet: bool,
}

impl Plain {
    /// Nothing has happened yet.
    pub fn new(quiet: bool) -> Plain {
        Plain { state: Mutex::default(), quiet }
    }

    /// The last lines of a part, as they are quoted below its name when it has failed.
    pub fn quote(&self, name: &str) -> String {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.parts.values().rev().find(|part| part.name == name).map(quote).unwrap_or_default()
    }
}

/// The block that says what a failed part wrote last.
pub fn quote(part: &Part) -> String {
    let mut text = format!("------\n > {}:\n", printable(&part.name));
    for (seconds, line) in &part.last {
        text.push_str(&format!("{seconds:.3} {}\n", without_controls(line)));
    }
    text + "------\n"
}

impl Progress for Plain {
    fn tell(&self, step: StepId, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.event(step, event);
        let out = std::mem::take(&mut state.out);
        if !self.quiet {
            // When nobody reads it any more the build goes on all the same.
            let _ = io::stderr().lock().write_all(out.as_bytes());
        }
    }

    fn warn(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", printable(text));
        }
    }
}

impl State {
    fn event(&mut self, step: StepId, event: Event) {
        match event {
            Event::Started(name) => {
                self.parts.insert(step, Part::new(name));
                self.turn_to(step);
            }
            Event::Cached => self.end(step, "CACHED"),
            Event::Output(bytes) => {
                let lines = self.parts.get_mut(&step).map(|part| part.absorb(&bytes)).unwrap_or_default();
                self.lines(step, lines);
            }
            Event::Note(text) => {
                self.turn_to(step);
                self.out.push_str(&format!("#{step} {}\n", printable(&text)));
            }
            Event::Done => {
                self.rest(step);
                let seconds = self.parts.get(&step).map_or(0.0, |part| part.began.elapsed().as_secs_f64());
                self.end(step, &format!("DONE {seconds:.1}s"));
            }
            Event::Failed(why) => {
                self.rest(step);
                self.end(step, &format!("ERROR: {}", printable(why.lines().next().unwrap_or_default())));
            }
            Event::Canceled => {
                self.rest(step);
                self.end(step, "CANCELED");
            }
        }
    }

    fn rest(&mut self, step: StepId) {
        let rest = self.parts.get_mut(&step).and_then(Part::rest);
        self.lines(step, rest.into_iter().collect());
    }

    fn lines(&mut self, step: StepId, lines: Vec<(f64, String)>) {
        if !lines.is_empty() {
            self.turn_to(step);
        }
        for (seconds, line) in lines {
            self.out.push_str(&format!("#{step} {seconds:.3} {}\n", without_controls(&line)));
        }
    }

    fn end(&mut self, step: StepId, how: &str) {
        self.turn_to(step);
        self.out.push_str(&format!("#{step} {how}\n"));
        self.current = None;
        self.out.push('\n');
    }

    /// Says whose lines follow.
    fn turn_to(&mut self, step: StepId) {
        if self.current == Some(step) {
            return;
        }
        if let Some(other) = self.current.replace(step) {
            self.out.push_str(&format!("#{other} ...\n\n"));
        }
        let name = self.parts.get(&step).map_or("", |part| part.name.as_str());
        self.out.push_str(&format!("#{step} {}\n", printable(name)));
    }
}

/// Colours of a command's output may stay; what moves the cursor or titles the window may not.
fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        out.push_str(&rest[..at]);
        let colour = rest[at..].strip_prefix("\u{1b}[").and_then(|tail| {
            let end = tail.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
            tail[end..].starts_with('m').then_some(at + 2 + end + 1)
        });
        let end = colour.unwrap_or_else(|| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        match colour {
            Some(_) => out.push_str(&rest[at..end]),
            // A progress bar that is drawn anew each time: the drawings stand one after the other.
            None if rest[at..].starts_with('\r') => out.push(' '),
            None => {}
        }
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_turns() {
        let mut state = State::default();
        state.event(1, Event::Started("[a 1/1] RUN x".into()));
        state.event(1, Event::Output(b"one\ntw".to_vec()));
        state.event(2, Event::Started("[b 1/1] RUN y".into()));
        state.event(2, Event::Cached);
        state.event(1, Event::Output(b"o\n".to_vec()));
        state.event(1, Event::Done);
        let words: Vec<&str> = state.out.lines().map(|l| l.split(" 0.").next().unwrap()).collect();
        let expected = [
            "#1 [a 1/1] RUN x",
            "#1",
            "#1 ...",
            "",
            "#2 [b 1/1] RUN y",
            "#2 CACHED",
            "",
            "#1 [a 1/1] RUN x",
            "#1",
            "#1 DONE",
            "",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn colours_stay_and_tricks_go() {
        assert_eq!(without_controls("\u{1b}[1;31mred\u{1b}[0m"), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(without_controls("a\u{1b}]0;title\u{7}b\u{1b}[2Kc"), "a]0;titleb[2Kc");
        assert_eq!(without_controls("1%\r2%\u{1b}["), "1% 2%[");
    }
}
