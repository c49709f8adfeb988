//! `events`: what has happened, and what happens.

use super::filter::{Filters, matches_label, matches_name};
use super::template::Format;
use super::{App, local, moment, output};
use crate::image::Reference;
use crate::journal::{Happening, Reader, Watch};
use crate::sys::poll::{self, Interest};
use anyhow::{Context, Result};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::time::Duration;

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Show only some (container=, image=, volume=, network=, type=, event=, label=)
    #[arg(short, long)]
    filter: Vec<String>,
    /// A template, or `json`
    #[arg(long, default_value = "")]
    format: String,
    /// Begin with what happened then (42m, or a time)
    #[arg(long)]
    since: Option<String>,
    /// End with what happens then
    #[arg(long)]
    until: Option<String>,
}

const FILTERS: [&str; 10] =
    ["container", "image", "volume", "network", "type", "event", "label", "scope", "daemon", "node"];

/// `minirun events`.
pub fn run(app: &App, args: &EventsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let now = Timestamp::now();
    let since = args.since.as_deref().map(|t| moment::time_point(t, now)).transpose()?;
    let until = args.until.as_deref().map(|t| moment::time_point(t, now)).transpose()?;
    let printer = Printer::new(&args.format)?;
    let watch = Watch::new(&app.root)?;
    let mut reader = Reader::open(&app.root)?;
    let nanoseconds = |t: Timestamp| i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX);
    let first = nanoseconds(since.unwrap_or(now));
    let last = until.map_or(i64::MAX, nanoseconds);
    loop {
        let mut text = String::new();
        while let Some(happening) = reader.read()? {
            if happening.time >= first && happening.time <= last && fits(&happening, &filters) {
                text += &printer.line(&happening)?;
            }
        }
        if !text.is_empty() {
            output::print(&text)?;
        }
        let left = until.map(|u| u.duration_since(Timestamp::now()));
        if left.is_some_and(|l| l <= SignedDuration::ZERO) {
            return Ok(0);
        }
        let left = left.map(|l| Duration::try_from(l).unwrap_or_default());
        let interest = [Interest { fd: watch.as_fd(), read: true, write: false }];
        poll::wait(&interest, left).context("wait for events")?;
        watch.reset().context("wait for events")?;
    }
}

fn fits(happening: &Happening, filters: &Filters) -> bool {
    let Happening { kind, action, id, attributes, .. } = happening;
    let name = attributes.get("name").map_or("", String::as_str);
    let of = |wanted_kind: &str| {
        filters.allows_by(wanted_kind, |wanted| {
            kind == wanted_kind
                && (id.starts_with(wanted) || (!wanted.is_empty() && matches_name(name, &exactly(wanted))))
        })
    };
    let image = |wanted: &str| {
        let of_container = attributes.get("image").filter(|_| kind == "container").map(String::as_str);
        let own = (kind == "image").then_some(name);
        let same = |given: &str| given == wanted || Reference::familiarize(given) == Reference::familiarize(wanted);
        of_container.into_iter().chain(own).any(same) || (kind == "image" && id.contains(wanted))
    };
    of("container")
        && of("volume")
        && of("network")
        && filters.allows_by("image", image)
        && filters.allows("type", kind)
        && filters.allows("scope", "local")
        && filters.allows_by("event", |wanted| action == wanted || action.split(':').next() == Some(wanted))
        && filters.get("label").iter().all(|wanted| matches_label(attributes, wanted))
}

fn exactly(name: &str) -> String {
    format!("^{}$", regex::escape(name.trim_start_matches('/')))
}

enum Printer {
    Lines,
    Template(Box<Format>),
}

impl Printer {
    fn new(format: &str) -> Result<Printer> {
        match format {
            "" => Ok(Printer::Lines),
            "{{json .}}" => Ok(Printer::Template(Box::new(Format::parse("json", &[], &[])?))),
            other => Ok(Printer::Template(Box::new(Format::parse(other, &[], &[])?))),
        }
    }

    fn line(&self, happening: &Happening) -> Result<String> {
        match self {
            Printer::Lines => Ok(line(happening) + "\n"),
            Printer::Template(format) => format.rows(&[document(happening)]),
        }
    }
}

/// Docker's form: `TIME container die ID (exitCode=0, image=busybox, name=web)`.
fn line(h: &Happening) -> String {
    let time = Timestamp::from_nanosecond(h.time.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    let attributes: Vec<String> = h.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut line = format!("{} {} {} {}", local::rfc3339(time, 9), h.kind, h.action, h.id);
    if !attributes.is_empty() {
        line += &format!(" ({})", attributes.join(", "));
    }
    super::table::printable(&line)
}

fn document(h: &Happening) -> Value {
    let mut document = json!({
        "Type": h.kind,
        "Action": h.action,
        "Actor": { "ID": h.id, "Attributes": h.attributes },
        "scope": "local",
        "time": h.time / 1_000_000_000,
        "timeNano": h.time,
    });
    // What older versions of Docker's call them.
    if matches!(h.kind.as_str(), "container" | "image") {
        document["status"] = h.action.clone().into();
        document["id"] = h.id.clone().into();
        if let Some(image) = h.attributes.get("image") {
            document["from"] = image.clone().into();
        }
    }
    document
}
