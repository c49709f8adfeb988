//! `stats`: what containers use.

use super::template::Format;
use super::{App, client_config, output, units};
use crate::container::containers::{Container, Containers, NoSuchContainer};
use crate::container::stats::Sample;
use crate::sys::tty;
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show all containers, not only those that are up
    #[arg(short, long)]
    all: bool,
    /// A template, `json`, or `table` with a template
    #[arg(long, default_value = "")]
    format: String,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids; all that are up if there are none
    containers: Vec<String>,
}

const COLUMNS: [(&str, &str); 9] = [
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// What the processor has done is known between two looks.
const BETWEEN: Duration = Duration::from_millis(500);

/// `minirun stats`.
pub fn run(app: &App, args: &StatsArgs) -> Result<u8> {
    let default = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    let template = client_config::format(&args.format, false, |config| &config.stats_format);
    let format = Format::parse(template, &COLUMNS, &default)?;
    let containers = Containers::open(&app.root);
    let clears = !args.no_stream && tty::is_terminal(rustix::stdio::stdout());
    let mut before = samples(&containers, args)?;
    loop {
        std::thread::sleep(BETWEEN);
        let now = match samples(&containers, args) {
            Ok(now) => now,
            // All that were asked for are gone.
            Err(error) if !args.no_stream && error.is::<NoSuchContainer>() => return Ok(0),
            Err(error) => return Err(error),
        };
        let earlier: BTreeMap<&str, Sample> =
            before.iter().filter_map(|(_, c, s)| Some((c.record.id.as_str(), (*s)?))).collect();
        let rows: Vec<Value> = now
            .iter()
            .map(|(name, c, s)| row(name, c, s.as_ref(), earlier.get(c.record.id.as_str()), args.no_trunc))
            .collect();
        let clear = if clears { "\x1b[2J\x1b[H" } else { "" };
        output::print(&format!("{clear}{}", format.rows(&rows)?))?;
        if args.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

type Looked = (String, Container, Option<Sample>);

fn samples(containers: &Containers, args: &StatsArgs) -> Result<Vec<Looked>> {
    if !args.containers.is_empty() {
        let look = |name: &String| {
            let container = containers.find(name)?;
            let sample = container.sample()?;
            Ok((name.clone(), container, sample))
        };
        return args.containers.iter().map(look).collect();
    }
    let mut looked = Vec::new();
    for container in containers.list()?.0 {
        let sample = match container.sample() {
            Ok(sample) => sample,
            // It was removed while we looked.
            Err(_) if !container.dir().exists() => continue,
            Err(error) => return Err(error),
        };
        if args.all || sample.is_some() {
            looked.push((container.record.id.clone(), container, sample));
        }
    }
    Ok(looked)
}

fn row(name: &str, container: &Container, now: Option<&Sample>, before: Option<&Sample>, full: bool) -> Value {
    let record = &container.record;
    let id = if full { record.id.as_str() } else { record.short_id() };
    let shown = if !full && name == record.id { record.short_id() } else { name };
    let pair = |(one, other): (u64, u64)| format!("{} / {}", units::size(one), units::size(other));
    let percent = |value: f64| format!("{value:.2}%");
    let cpu = match (now, before) {
        (Some(now), Some(before)) => percent(now.cpu_percent(before)),
        (Some(_), None) => "--".into(),
        (None, _) => percent(0.0),
    };
    let memory = now.map_or((0, 0), |s| (s.memory, s.memory_limit));
    json!({
        "Container": shown,
        "ID": id,
        "Name": record.name,
        "CPUPerc": cpu,
        "MemUsage": format!("{} / {}", units::memory(memory.0), units::memory(memory.1)),
        "MemPerc": percent(now.map_or(0.0, Sample::memory_percent)),
        "NetIO": pair(now.map_or((0, 0), |s| s.network)),
        "BlockIO": pair(now.map_or((0, 0), |s| s.disk)),
        "PIDs": now.map_or(0, |s| s.tasks).to_string(),
    })
}
