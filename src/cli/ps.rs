//! `ps`.

use super::filter::Filters;
use super::template::Format;
use super::{App, client_config, local, output, ports, units};
use crate::container::connection::networks;
use crate::container::containers::{Container, Containers, in_parallel};
use crate::container::health::{Health, Verdict};
use crate::container::options::{MountSource, NetworkMode};
use crate::container::state::{Snapshot, Status};
use crate::image::{Digest, Lookup, Store};
use crate::network::definition::Definition;
use crate::network::ledger::{Endpoint, Ledger};
use crate::network::ports::Protocol;
use crate::sys::depth;
use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

/// `ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Show all, not only those that are up
    #[arg(short, long)]
    all: bool,
    /// Show only some (status=exited, name=web, label=k=v, ancestor=image, …)
    #[arg(short, long)]
    filter: Vec<String>,
    /// A template, `json`, or `table` with a template
    #[arg(long, default_value = "")]
    format: String,
    /// Show the newest so many, whatever their state
    #[arg(short = 'n', long, allow_hyphen_values = true)]
    last: Option<i64>,
    /// Show the newest, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// A table without its headings
    #[arg(long)]
    noheading: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show sizes
    #[arg(short, long)]
    size: bool,
}

/// What a row has.
pub const COLUMNS: [(&str, &str); 14] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
];

const FILTERS: [&str; 14] = [
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "health", "is-task", "network",
    "publish", "expose",
];

/// `minirun ps`.
pub fn run(app: &App, args: &PsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    check(&filters)?;
    let mut default = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if args.size {
        default.push("Size");
    }
    let template = client_config::format(&args.format, args.quiet, |config| &config.ps_format);
    let format = Format::parse(template, &COLUMNS, &default)?;
    let containers = Containers::open(&app.root);
    let (list, damaged) = containers.list()?;
    for d in &damaged {
        output::complain(&anyhow::anyhow!("the container {} cannot be read: {:#}", d.id, d.error));
    }
    let limit = if args.latest { Some(1) } else { args.last.and_then(|n| usize::try_from(n).ok().filter(|n| *n > 0)) };
    let everything =
        args.all || limit.is_some() || !filters.get("status").is_empty() || !filters.get("exited").is_empty();
    let before = moment_of(&containers, &filters, "before")?;
    let since = moment_of(&containers, &filters, "since")?;
    let store = Store::open(&app.root);
    let images = Images { lookup: store.lookup()?, store };
    let ancestors = images.ancestors(filters.get("ancestor"))?;
    let mut shown = Vec::new();
    let seen = in_parallel(&list, &Container::snapshot);
    let surroundings = Surroundings::new(app, &filters)?;
    for (container, snapshot) in seen {
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            // It was removed while we looked.
            Err(_) if !container.dir().exists() => continue,
            Err(error) => return Err(error),
        };
        let created = &container.record.created;
        let fits = (everything || snapshot.status.is_up())
            && before.as_ref().is_none_or(|b| created < b)
            && since.as_ref().is_none_or(|s| created > s)
            && fits(container, &snapshot, &filters, &surroundings)
            && (filters.get("ancestor").is_empty() || images.descends(container.record.image, &ancestors));
        if fits {
            shown.push((container, snapshot));
        }
    }
    shown.truncate(limit.unwrap_or(usize::MAX));
    if args.quiet {
        let id = |c: &Container| if args.no_trunc { c.record.id.clone() } else { c.record.short_id().to_owned() };
        output::print(&shown.iter().map(|(c, _)| id(c) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let with_size = args.size || template.contains(".Size");
    let ledger = &surroundings.ledger;
    let rows = shown.iter().map(|(c, s)| row(c, s, args.no_trunc, with_size, &images, ledger));
    let text = format.rows(&rows.collect::<Result<Vec<_>>>()?)?;
    let is_table = template.is_empty() || template.starts_with("table");
    let body = text.split_once('\n').filter(|_| args.noheading && is_table).map_or(text.as_str(), |(_, body)| body);
    output::print(body)?;
    Ok(0)
}

/// All containers with their rows, without sizes and with full ids.
pub fn all(app: &App) -> Result<Vec<(Container, Snapshot, Value)>> {
    let store = Store::open(&app.root);
    let images = Images { lookup: store.lookup()?, store };
    let ledger = networks(&app.root).ledger()?;
    let mut out = Vec::new();
    for container in Containers::open(&app.root).list()?.0 {
        // One that was removed while we looked is not missed.
        let Ok(snapshot) = container.snapshot() else { continue };
        let row = row(&container, &snapshot, false, false, &images, &ledger)?;
        out.push((container, snapshot, row));
    }
    Ok(out)
}

fn moment_of(containers: &Containers, filters: &Filters, key: &str) -> Result<Option<String>> {
    filters.get(key).first().map(|name| Ok(containers.find(name)?.record.created)).transpose()
}

/// Refuses values that no container can have.
fn check(filters: &Filters) -> Result<()> {
    const WORDS: [(&str, &[&str]); 3] = [
        ("status", &["created", "restarting", "running", "removing", "paused", "exited", "dead"]),
        ("health", &["none", "starting", "healthy", "unhealthy"]),
        ("is-task", &["true", "false", "1", "0"]),
    ];
    for (key, words) in WORDS {
        if let Some(bad) = filters.get(key).iter().find(|value| !words.contains(&value.as_str())) {
            bail!("invalid filter '{key}={bad}'");
        }
    }
    if let Some(bad) = filters.get("exited").iter().find(|value| value.parse::<i64>().is_err()) {
        bail!("invalid filter 'exited={bad}'");
    }
    for key in ["publish", "expose"] {
        if let Some(bad) = filters.get(key).iter().find(|value| ports_in(value).is_none()) {
            bail!("invalid filter '{key}={bad}'");
        }
    }
    Ok(())
}

/// What filters need of the networks.
struct Surroundings {
    ledger: Ledger,
    networks: Vec<Definition>,
}

impl Surroundings {
    fn new(app: &App, filters: &Filters) -> Result<Surroundings> {
        let networks = networks(&app.root);
        let named = !filters.get("network").is_empty();
        Ok(Surroundings { ledger: networks.ledger()?, networks: if named { networks.list()? } else { Vec::new() } })
    }

    /// Whether a container is in the network of this name or beginning of an id.
    fn is_in(&self, container: &Container, wanted: &str) -> bool {
        networks_of(container).iter().any(|network| {
            let mut known = self.networks.iter().filter(|d| d.name == *network || d.id == *network);
            network == wanted || known.any(|d| d.name == wanted || !wanted.is_empty() && d.id.starts_with(wanted))
        })
    }

    /// Whether a container that is up has a port of the host that one filter asks for, or a port that the other does.
    fn has_port(&self, container: &Container, filters: &Filters) -> bool {
        let record = &container.record;
        let mine = self.ledger.endpoints.iter().filter(|e| e.container == record.id);
        let mut published = mine.flat_map(|e| &e.ports);
        let is_wanted = |key: &str, number, protocol| {
            filters
                .get(key)
                .iter()
                .filter_map(|text| ports_in(text))
                .any(|(first, last, kind)| (first..=last).contains(&number) && kind == protocol)
        };
        published.any(|p| is_wanted("publish", p.host, p.protocol))
            || record.exposed_ports().iter().any(|(number, protocol)| is_wanted("expose", *number, *protocol))
    }
}

fn fits(container: &Container, snapshot: &Snapshot, filters: &Filters, surroundings: &Surroundings) -> bool {
    let record = &container.record;
    let exited = |wanted: &str| {
        snapshot.status == Status::Exited && snapshot.ended.as_ref().is_some_and(|e| e.exit_code.to_string() == wanted)
    };
    let health = |wanted: &str| container.health().map_or("none", |h| h.status.word()) == wanted;
    let volume = |wanted: &str| {
        let is_source = |m: &MountSource| mount_name(m).is_some_and(|name| name == wanted);
        record.mounts.iter().any(|m| m.target == wanted || is_source(&m.source))
    };
    filters.allows("status", snapshot.status.word())
        // Scripts remove what they find by an id that they may not have.
        && filters.allows_by("id", |wanted| !wanted.is_empty() && record.id.starts_with(wanted))
        && filters.allows_name(&record.name)
        && filters.allows_labels(&record.labels())
        && filters.allows_by("is-task", |wanted| matches!(wanted, "false" | "0"))
        && filters.allows_by("health", health)
        && filters.allows_by("exited", exited)
        && filters.allows_by("volume", volume)
        && filters.allows_by("network", |wanted| surroundings.is_in(container, wanted))
        && (filters.get("publish").is_empty() && filters.get("expose").is_empty()
            || snapshot.status.is_up() && surroundings.has_port(container, filters))
}

/// A filter's port or range of ports, with or without a protocol.
fn ports_in(text: &str) -> Option<(u16, u16, Protocol)> {
    let (ports, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    Some((first.parse().ok()?, last.parse().ok()?, kind.parse().ok()?))
}

/// What the names of images mean now.
struct Images {
    store: Store,
    lookup: Lookup,
}

impl Images {
    /// What these names mean; one that means nothing has no descendants.
    fn ancestors(&self, names: &[String]) -> Result<Vec<Digest>> {
        names.iter().filter_map(|name| self.lookup.id(name).transpose()).collect()
    }

    /// Whether an image is one of these or was made from one of them here.
    fn descends(&self, image: Digest, ancestors: &[Digest]) -> bool {
        self.lookup.lineage(image).any(|id| ancestors.contains(&id))
    }

    /// The name that the user gave, unless it now means another image.
    fn shown(&self, container: &Container) -> String {
        let record = &container.record;
        match self.lookup.id(&record.image_name) {
            Ok(Some(id)) if id == record.image => record.image_name.clone(),
            _ => record.image.short(),
        }
    }
}

/// The names of the networks that a container shall be in.
fn networks_of(container: &Container) -> Vec<String> {
    let record = &container.record;
    match record.options.network {
        NetworkMode::None | NetworkMode::Host => vec![record.options.network.word()],
        _ => record.networks.iter().map(|a| a.network.clone()).collect(),
    }
}

fn row(c: &Container, s: &Snapshot, full: bool, with_size: bool, images: &Images, ledger: &Ledger) -> Result<Value> {
    let places: Vec<Endpoint> = ledger.endpoints.iter().filter(|e| e.container == c.record.id).cloned().collect();
    let record = &c.record;
    let created: Option<Timestamp> = record.created.parse().ok();
    let labels: Vec<String> = record.labels().iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mounts: Vec<String> = record.mounts.iter().filter_map(|m| mount_name(&m.source)).collect();
    let size = if with_size { size(c, &images.store)? } else { String::new() };
    Ok(json!({
        "ID": if full { record.id.as_str() } else { record.short_id() },
        "Image": images.shown(c),
        "Command": command(&record.command_line(), full),
        "CreatedAt": created.map(local::to_the_second).unwrap_or_default(),
        "RunningFor": ago(&record.created),
        "Ports": if s.status.is_up() { ports::column(c, &places) } else { String::new() },
        "State": s.status.word(),
        "Status": status(s, c.health().as_ref()),
        "Size": size,
        "Names": record.name,
        "Labels": labels.join(","),
        "Mounts": mounts.join(","),
        "Networks": networks_of(c).join(","),
        "LocalVolumes": record.volumes().count().to_string(),
    }))
}

fn mount_name(source: &MountSource) -> Option<String> {
    match source {
        MountSource::Bind { path, .. } => Some(path.clone()),
        MountSource::Volume(name) => Some(name.clone()),
        _ => None,
    }
}

fn size(container: &Container, store: &Store) -> Result<String> {
    depth::make_room();
    let own = container.writable_size()?;
    let image = container.layers().iter().filter_map(|l| store.layer_size(l).ok()).sum::<u64>();
    Ok(format!("{} (virtual {})", units::size(own), units::size(own + image)))
}

/// In quotes as Go has them, and cut to 20 characters; an argument with a space is in quotes of its own.
fn command(words: &[String], full: bool) -> String {
    let spaced = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let line = words.iter().take(1).cloned().chain(words.iter().skip(1).map(spaced)).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(19) {
        Some((end, _)) if !full && line.chars().count() > 20 => quoted(&format!("{}…", &line[..end])),
        _ => quoted(&line),
    }
}

/// In Go's quotes, which differ from Rust's in control characters.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for part in text.split_inclusive(|c: char| c.is_ascii_control()) {
        let control = part.chars().next_back().filter(char::is_ascii_control);
        let shown = format!("{:?}", &part[..part.len() - control.map_or(0, char::len_utf8)]);
        out += &shown[1..shown.len() - 1];
        match control {
            None => {}
            Some('\x07') => out += "\\a",
            Some('\x08') => out += "\\b",
            Some('\x0b') => out += "\\v",
            Some('\x0c') => out += "\\f",
            Some(c @ ('\t' | '\n' | '\r')) => out.extend(c.escape_default()),
            Some(c) => out += &format!("\\x{:02x}", u32::from(c)),
        }
    }
    out + "\""
}

fn ago(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(t) => format!("{} ago", units::age(Timestamp::now().as_second() - t.as_second())),
        Err(_) => String::new(),
    }
}

/// As Docker puts it: `Up 5 seconds`, `Exited (137) 2 minutes ago`.
pub fn status(s: &Snapshot, health: Option<&Health>) -> String {
    let ended = s.ended.as_ref();
    let since = |time: &str| match time.parse::<Timestamp>() {
        Ok(t) => units::age(Timestamp::now().as_second() - t.as_second()),
        Err(_) => units::age(0),
    };
    match s.status {
        Status::Created => "Created".into(),
        Status::Running | Status::Paused => {
            let up = s.running.as_ref().map(|r| since(&r.started_at)).unwrap_or_default();
            let health = match health.map(|h| h.status) {
                _ if s.status == Status::Paused => " (Paused)",
                Some(Verdict::Starting) => " (health: starting)",
                Some(Verdict::Healthy) => " (healthy)",
                Some(Verdict::Unhealthy) => " (unhealthy)",
                None => "",
            };
            format!("Up {up}{health}")
        }
        Status::Restarting => {
            let code = s.running.as_ref().and_then(|r| r.last_exit).unwrap_or(0);
            format!("Restarting ({code}) {} ago", ended.map(|e| since(&e.finished_at)).unwrap_or_default())
        }
        Status::Exited => {
            let (code, time) = ended.map_or((0, String::new()), |e| (e.exit_code, since(&e.finished_at)));
            format!("Exited ({code}) {time} ago")
        }
    }
}
