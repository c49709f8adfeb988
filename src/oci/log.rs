//! What this face says of itself: in the forms of runc's logger, which engines read.

use crate::sys::errors;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// One JSON object a line.
    Json,
}

/// Where messages go.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Opens the log; messages are added at its end.
    pub fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<Log> {
        let file = path.map(|path| {
            let opened = File::options().append(true).create(true).open(path);
            opened.with_context(|| format!("open the log {}", path.display()))
        });
        Ok(Log { file: file.transpose()?, format, debug })
    }

    /// Tells why the command failed, in the log, and on standard error for people.
    pub fn failure(&self, error: &anyhow::Error) {
        let text = errors::chain(error);
        self.write("error", &text);
        if self.file.is_some() {
            let lines: Vec<String> = text.lines().map(errors::printable).collect();
            let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
        }
    }

    /// Tells something that did not stop the command.
    pub fn warning(&self, text: &str) {
        self.write("warning", text);
    }

    /// Tells something to those who asked for more. The stages of a start are told in runc's words, which are what
    /// people look for in these logs.
    pub fn debug(&self, text: &str) {
        if self.debug {
            self.write("debug", text);
        }
    }

    fn write(&self, level: &str, text: &str) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let line = match self.format {
            Format::Json => serde_json::json!({ "level": level, "msg": text, "time": now }).to_string(),
            Format::Text => format!("time={now:?} level={level} msg={text:?}"),
        };
        // If even this cannot be written there is nobody to tell.
        let _ = match &self.file {
            Some(file) => writeln!(&*file, "{line}"),
            None => writeln!(io::stderr(), "{line}"),
        };
    }
}
