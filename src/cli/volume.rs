//! `volume`: the commands about volumes.

use super::archives::Target;
use super::confirm::confirm;
use super::filter::Filters;
use super::template::Format;
use super::values::given;
use super::{App, client_config, environment, inspect, mount_spec, output, units};
use crate::container::containers::Containers;
use crate::sys::depth;
use crate::volume::{ANONYMOUS, Meta, Volume, Volumes, check_options};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// `volume …`.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume
    Create(CreateArgs),
    /// List volumes
    #[command(alias = "list")]
    Ls(ListArgs),
    /// Show details of volumes
    Inspect(InspectArgs),
    /// Remove volumes
    #[command(alias = "remove")]
    Rm(RemoveArgs),
    /// Remove volumes that no container uses
    Prune(PruneArgs),
    /// Tell by the exit status whether there is a volume
    Exists(NameArg),
    /// Write a volume's content as a tar archive
    Export(ExportArgs),
    /// Add the content of a tar archive to a volume
    Import(ImportArgs),
    /// Give a volume another name
    Rename(TwoNames),
    /// Make a volume with the content of another one
    Clone(TwoNames),
}

/// `volume create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Only local
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Set a label (name=value)
    #[arg(long)]
    label: Vec<String>,
    /// What is mounted for it (type=…, device=…, o=…)
    #[arg(short, long = "opt")]
    opt: Vec<String>,
    /// The name, as old scripts give it
    #[arg(long = "name", hide = true, value_name = "NAME")]
    old_name: Option<String>,
    /// The name; without one it gets a generated one
    name: Option<String>,
}

/// `volume ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some (dangling=true, driver=local, label=k=v, name=part)
    #[arg(short, long)]
    filter: Vec<String>,
    /// A template, `json`, or `table` with a template
    #[arg(long, default_value = "")]
    format: String,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

/// `volume inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A template for each volume
    #[arg(short, long)]
    format: Option<String>,
    /// Names
    #[arg(required = true)]
    volumes: Vec<String>,
}

/// `volume rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true)]
    volumes: Vec<String>,
}

/// `volume prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also those with a name
    #[arg(short, long)]
    all: bool,
    /// Only some (label=k=v, label!=k)
    #[arg(long)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// One volume.
#[derive(Debug, Args)]
pub struct NameArg {
    /// Its name
    name: String,
}

/// `volume export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write to a file instead of standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Its name
    name: String,
}

/// `volume import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Its name; it is made if it is missing
    name: String,
    /// The archive, plain or compressed; - is standard input
    #[arg(default_value = "-")]
    source: PathBuf,
}

/// `volume rename` and `volume clone`.
#[derive(Debug, Args)]
pub struct TwoNames {
    /// The volume
    name: String,
    /// The new name
    new_name: String,
}

impl VolumeCommand {
    /// Runs it and returns the exit status.
    pub(super) fn run(&self, app: &App) -> Result<u8> {
        let volumes = Volumes::open(&app.root);
        match self {
            VolumeCommand::Create(args) => create(&volumes, args),
            VolumeCommand::Ls(args) => list(app, &volumes, args),
            VolumeCommand::Inspect(args) => inspect(&volumes, args),
            VolumeCommand::Rm(args) => remove(app, args),
            VolumeCommand::Prune(args) => prune(app, args),
            VolumeCommand::Exists(args) => Ok(u8::from(volumes.get(&args.name).is_none())),
            VolumeCommand::Export(args) => export(&volumes, args),
            VolumeCommand::Import(args) => import(&volumes, args),
            VolumeCommand::Rename(args) => {
                find(&volumes, &args.name)?;
                mount_spec::volume_name(&args.new_name)?;
                let renamed = Containers::open(&app.root).rename_volume(&args.name, &args.new_name);
                renamed.with_context(|| format!("rename {}", args.name)).map(|()| 0)
            }
            VolumeCommand::Clone(args) => {
                mount_spec::volume_name(&args.new_name)?;
                let _using = volumes.lock_for_using()?;
                volumes.clone_volume(&find(&volumes, &args.name)?, &args.new_name)?;
                output::line(&args.new_name).map(|()| 0)
            }
        }
    }
}

fn find(volumes: &Volumes, name: &str) -> Result<Volume> {
    volumes.get(name).ok_or_else(|| anyhow!("No such volume: {name}"))
}

fn create(volumes: &Volumes, args: &CreateArgs) -> Result<u8> {
    let name = given(args.name.as_ref());
    if name.is_some() && args.old_name.is_some() {
        bail!("conflicting options: either specify --name or provide positional arg, not both");
    }
    let name = name.or(given(args.old_name.as_ref()));
    let anonymous = name.is_none();
    let name = name.map_or_else(crate::sys::random::hex::<32>, str::to_owned);
    let make = || {
        if !["", "local"].contains(&args.driver.as_str()) {
            bail!("error looking up volume plugin {0}: plugin {0:?} not found", args.driver);
        }
        mount_spec::volume_name(&name)?;
        let options = environment::labels(&args.opt, &[])?;
        // One that is there keeps its own, whatever they are.
        if !volumes.exists(&name) {
            check_options(&options)?;
        }
        let mut labels = environment::labels(&args.label, &[])?;
        if anonymous {
            labels.insert(ANONYMOUS.into(), String::new());
        }
        volumes.ensure(&name, || Meta::new(labels, options), None)
    };
    make().with_context(|| format!("create {name}"))?;
    output::line(&name)?;
    Ok(0)
}

const COLUMNS: [(&str, &str); 8] = [
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
];

fn list(app: &App, volumes: &Volumes, args: &ListArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "label!", "name"])?;
    let template = client_config::format(&args.format, args.quiet, |config| &config.volumes_format);
    let format = Format::parse(template, &COLUMNS, &["Driver", "Name"])?;
    let dangling = filters.flag("dangling")?;
    let users = if dangling.is_some() { Containers::open(&app.root).volume_users()? } else { BTreeMap::new() };
    let fits = |v: &Volume| {
        filters.allows("driver", "local")
            && filters.allows_labels(&v.meta.labels)
            && filters.allows_name(&v.name)
            && dangling.is_none_or(|wanted| wanted != users.contains_key(&v.name))
    };
    let found: Vec<Volume> = volumes.list()?.into_iter().filter(fits).collect();
    if args.quiet {
        output::print(&found.iter().map(|v| v.name.clone() + "\n").collect::<String>())?;
        return Ok(0);
    }
    output::print(&format.rows(&found.iter().map(row).collect::<Vec<_>>())?)?;
    Ok(0)
}

fn row(volume: &Volume) -> Value {
    let labels: Vec<String> = volume.meta.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": volume.data.display().to_string(),
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
    })
}

/// One volume in Docker's form.
pub(super) fn document(volume: &Volume) -> Value {
    let created = volume.meta.created.parse::<jiff::Timestamp>().ok();
    json!({
        "CreatedAt": created.map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default(),
        "Driver": "local",
        "Labels": volume.meta.labels,
        "Mountpoint": volume.data.display().to_string(),
        "Name": volume.name,
        "Options": volume.meta.options,
        "Scope": "local",
    })
}

fn inspect(volumes: &Volumes, args: &InspectArgs) -> Result<u8> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in &args.volumes {
        match find(volumes, name) {
            Ok(volume) => found.push(document(&volume)),
            Err(error) => errors.push(error),
        }
    }
    inspect::show(found, args.format.as_deref())?;
    errors.iter().for_each(output::complain);
    Ok(u8::from(!errors.is_empty()))
}

fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.volumes {
        let removed = containers.remove_volume(name).with_context(|| format!("remove {name}"));
        match removed {
            Ok(existed) if existed || args.force => output::line(name)?,
            Ok(_) => {
                output::complain(&anyhow!("No such volume: {name}"));
                status = 1;
            }
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    app.root.empty_trash();
    Ok(status)
}

fn prune(app: &App, args: &PruneArgs) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["all", "label", "label!"])?;
    let all = args.all || filters.flag("all")? == Some(true);
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    let warning = format!("This will remove {which} not used by at least one container.");
    if !args.force && !confirm(&warning)? {
        output::line(&format!("Total reclaimed space: {}", units::size(0)))?;
        return Ok(0);
    }
    let wanted = |v: &Volume| (all || v.is_anonymous()) && filters.allows_labels(&v.meta.labels);
    let (names, freed) = Containers::open(&app.root).prune_volumes(&wanted)?;
    output::print(&told(&names))?;
    output::line(&format!("Total reclaimed space: {}", units::size(freed)))?;
    app.root.empty_trash();
    Ok(0)
}

/// What a prune says of volumes, with an empty line at the end if there is anything.
pub fn told(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("Deleted Volumes:\n{}\n\n", names.join("\n")) }
}

fn export(volumes: &Volumes, args: &ExportArgs) -> Result<u8> {
    let volume = find(volumes, &args.name)?;
    let target = Target::open(args.output.as_deref())?;
    let mut out = BufWriter::with_capacity(256 << 10, target.file());
    depth::make_room();
    volume.export(&mut out)?;
    out.flush().context("write the archive")?;
    drop(out);
    target.publish()?;
    Ok(0)
}

fn import(volumes: &Volumes, args: &ImportArgs) -> Result<u8> {
    mount_spec::volume_name(&args.name)?;
    let source = if args.source == Path::new("-") {
        File::from(std::io::stdin().as_fd().try_clone_to_owned().context("read standard input")?)
    } else {
        File::open(&args.source).with_context(|| format!("open {}", args.source.display()))?
    };
    volumes.import(&args.name, source)?;
    Ok(0)
}
