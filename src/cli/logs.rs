//! `logs`.

use super::template::fill;
use super::values::given;
use super::{App, moment};
use crate::container::containers::{Container, Containers};
use crate::container::log::{Entry, Reader, Stream};
use crate::container::options::LogDriver;
use crate::container::record::Record;
use crate::sys::poll::{self, Interest};
use crate::sys::socket::Socket;
use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use regex::Regex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Show what --log-opt labels, env and tag ask for with each line
    #[arg(long)]
    details: bool,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only what was written since (42m, or a time)
    #[arg(long)]
    since: Option<String>,
    /// Only what was written until then
    #[arg(long)]
    until: Option<String>,
    /// So many lines from the end, or all
    #[arg(short = 'n', long, default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Name or id
    container: String,
}

/// `minirun logs`.
pub fn run(app: &App, args: &LogsArgs) -> Result<u8> {
    let now = Timestamp::now();
    let point = |text: &Option<String>| given(text.as_ref()).map(|t| moment::time_point(t, now)).transpose();
    let (since, until) = (point(&args.since)?, point(&args.until)?);
    // As Docker: what is no number means all.
    let tail = args.tail.parse::<usize>().ok();
    let container = Containers::open(&app.root).find(&args.container)?;
    if container.record.options.log_driver == LogDriver::None {
        bail!("configured logging driver does not support reading");
    }
    let wanted = |e: &Entry| since.is_none_or(|s| e.time >= s) && until.is_none_or(|u| e.time <= u);
    let details = if args.details { details(&container.record)? } else { String::new() };
    let mut printer = Printer { timestamps: args.timestamps, details, at_line_start: [true; 2] };
    // Connected before reading: an end that comes meanwhile is not missed.
    let supervisor = if args.follow { connect(&container)? } else { None };
    let mut reader = Reader::open(&container.log_path());
    let mut last = VecDeque::new();
    let mut lines = 0;
    while let Some(entry) = reader.read()? {
        if !wanted(&entry) {
            continue;
        }
        let Some(limit) = tail else {
            printer.print(&entry)?;
            continue;
        };
        lines += usize::from(entry.data.ends_with(b"\n"));
        last.push_back(entry);
        while lines > limit || (lines == limit && last.back().is_some_and(|e| !e.data.ends_with(b"\n"))) {
            lines -= usize::from(last.pop_front().is_some_and(|e: Entry| e.data.ends_with(b"\n")));
            if last.is_empty() {
                break;
            }
        }
    }
    for entry in &last {
        printer.print(entry)?;
    }
    if let Some(socket) = supervisor {
        follow(&mut reader, &socket, until, |e| if wanted(e) { printer.print(e) } else { Ok(()) })?;
    }
    Ok(0)
}

/// As Docker shows them: `key=value` in the order of the keys, percent-encoded, and a space.
fn details(record: &Record) -> Result<String> {
    let asked = &record.options.log_details;
    let (labels, config) = (record.labels(), record.config());
    let variables = config.env.iter().chain(&record.options.env).filter_map(|e| e.split_once('='));
    let variables: BTreeMap<String, String> = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let mut found = BTreeMap::new();
    for (all, names, pattern) in
        [(labels, &asked.labels, &asked.labels_regex), (variables, &asked.env, &asked.env_regex)]
    {
        let pattern = pattern.as_deref().map(Regex::new).transpose()?;
        let fits = |name: &String| names.contains(name) || pattern.as_ref().is_some_and(|p| p.is_match(name));
        found.extend(all.into_iter().filter(|(name, _)| fits(name)));
    }
    if let Some(tag) = &asked.tag {
        let fields = tag_fields(&record.id, &record.name, &record.image.to_string(), &record.image_name);
        found.insert("tag".to_owned(), fill(tag, &fields).map_or_else(|_| tag.clone(), |(text, _)| text));
    }
    let pairs: Vec<String> = found.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
    Ok(pairs.join(",") + " ")
}

/// What the template of `--log-opt tag=…` may ask for.
pub(super) fn tag_fields(id: &str, name: &str, image: &str, image_name: &str) -> Value {
    let short = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).get(..12).unwrap_or_default().to_owned();
    json!({
        "ID": short(id),
        "FullID": id,
        "Name": name,
        "ImageID": short(image),
        "ImageFullID": image,
        "ImageName": image_name,
        "DaemonName": "minirun",
    })
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn connect(container: &Container) -> Result<Option<Socket>> {
    if container.snapshot()?.status.is_up() { container.connect() } else { Ok(None) }
}

/// Shows what is added until the supervisor is gone, or that time has come.
fn follow(
    reader: &mut Reader,
    supervisor: &Socket,
    until: Option<Timestamp>,
    mut show: impl FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    const LOOK_AGAIN: Duration = Duration::from_millis(50);
    supervisor.set_nonblocking().context("listen to the supervisor")?;
    let mut over = false;
    loop {
        let is_late = until.is_some_and(|until| Timestamp::now() > until);
        while let Some(entry) = reader.read()? {
            show(&entry)?;
        }
        if over || is_late {
            return Ok(());
        }
        let ready = poll::wait(&[Interest { fd: supervisor.as_fd(), read: true, write: false }], Some(LOOK_AGAIN))?;
        // It tells of every end; only when it is gone itself will there be no more.
        over = ready[0].read && supervisor.receive_message().is_ok_and(|(message, _)| message.is_empty());
    }
}

struct Printer {
    timestamps: bool,
    details: String,
    at_line_start: [bool; 2],
}

impl Printer {
    fn print(&mut self, entry: &Entry) -> Result<()> {
        let index = usize::from(entry.stream == Stream::Err);
        let mut line = Vec::new();
        if self.timestamps && self.at_line_start[index] {
            write!(line, "{:.9} ", entry.time)?;
        }
        if self.at_line_start[index] {
            line.extend(self.details.as_bytes());
        }
        line.extend(&entry.data);
        self.at_line_start[index] = entry.data.ends_with(b"\n");
        let write = |out: &mut dyn Write| out.write_all(&line).and_then(|()| out.flush());
        match entry.stream {
            Stream::Out => write(&mut io::stdout().lock()),
            Stream::Err => write(&mut io::stderr().lock()),
        }
        .context("write the log")
    }
}
