//! What this face says of itself: in the forms of runc's logger, which engines read.

use crate::sys::errors;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::ffi::OsString;
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
            let _ = io::stderr().write_all((lines.join("\n") + "\n").as_bytes());
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
        // In one piece: others may write to the same file. If even this cannot be written there is nobody to tell.
        let line = line + "\n";
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// Tells engines why a command line was not understood, which standard error has been told: in the log that it names, as
/// far as that can be understood.
pub fn note(arguments: &[OsString], text: &str) {
    let (path, format) = named(arguments);
    if let Some(Ok(log)) = path.map(|path| Log::open(Some(Path::new(&path)), format, false)) {
        log.write("error", text);
    }
}

/// The log that a line asks for before its command, and the form of the messages.
fn named(arguments: &[OsString]) -> (Option<OsString>, Format) {
    const WITH_VALUE: [&str; 5] = ["root", "log", "log-format", "rootless", "criu"];
    let (mut log, mut format) = (None, Format::Text);
    let mut words = arguments.iter().skip(1);
    while let Some(option) = words.next().and_then(|word| word.as_encoded_bytes().strip_prefix(b"-")) {
        let option = String::from_utf8_lossy(option.strip_prefix(b"-").unwrap_or(option));
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None if WITH_VALUE.contains(&&*option) => (&*option, words.next().cloned()),
            None => continue,
        };
        match (name, value) {
            ("log", Some(value)) => log = Some(value),
            ("log-format", Some(value)) => {
                format = value.to_str().and_then(|name| Format::from_str(name, false).ok()).unwrap_or(format);
            }
            _ => {}
        }
    }
    (log, format)
}
