//! `state`, `list` and `ps`.

use super::log::Log;
use super::print;
use super::record::{Container, Status, Store};
use crate::sys::errors;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub struct StateArgs {
    /// The container
    id: String,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// How they are shown
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Only their names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub struct PsArgs {
    /// The container
    id: String,
    /// How they are shown
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// What the host's ps is asked for
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ps options")]
    options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// What is shown of a container; runc's fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    oci_version: String,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl Shown {
    fn of(container: &Container) -> Shown {
        let state = container.state(container.status());
        Shown {
            oci_version: state.oci_version,
            id: state.id,
            pid: state.pid,
            status: state.status,
            bundle: state.bundle,
            rootfs: container.record.rootfs.clone(),
            created: container.record.created.clone(),
            annotations: state.annotations,
            owner: container.owner(),
        }
    }
}

/// Shows the state of one container.
pub fn state(store: &Store, args: &StateArgs) -> Result<()> {
    let shown = Shown::of(&store.find(&args.id)?);
    let text = serde_json::to_string_pretty(&shown).context("write the state")?;
    print(&(text + "\n"))
}

/// Lists all containers, and tells of those that cannot be read.
pub fn list(store: &Store, args: &ListArgs, log: &Log) -> Result<()> {
    let mut all = Vec::new();
    for container in store.all()? {
        match container {
            Ok(container) => all.push(container),
            Err(error) => log.warning(&format!("load container {}", errors::chain(&error))),
        }
    }
    if args.quiet {
        return print(&all.iter().map(|c| c.record.id.clone() + "\n").collect::<String>());
    }
    let shown: Vec<Shown> = all.iter().map(Shown::of).collect();
    if args.format == Format::Json {
        return print(&(serde_json::to_string(&shown).context("write the list")? + "\n"));
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for c in shown {
        let bundle = c.bundle.display().to_string();
        rows.push([c.id, c.pid.to_string(), c.status.to_owned(), bundle, c.created, c.owner]);
    }
    print(&table(&rows))
}

/// Columns of at least twelve characters, three apart at least.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Lists a container's processes: their numbers, or what the host's `ps` says of them.
pub fn ps(store: &Store, args: &PsArgs) -> Result<()> {
    let container = store.find(&args.id)?;
    if container.status() == Status::Stopped && !container.cgroup().exists() {
        bail!("container not running");
    }
    let pids = container.processes().context("list the container's processes")?;
    if args.format == Format::Json {
        return print(&(serde_json::to_string(&pids).context("write the list")? + "\n"));
    }
    let options: &[String] = if args.options.is_empty() { &["-ef".to_owned()] } else { &args.options };
    let output = Command::new("ps").args(options).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("run the host's ps")?;
    if !output.status.success() {
        bail!("ps {} failed: {}", options.join(" "), output.status);
    }
    print(&select(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The lines of a table of processes that are about these.
fn select(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|title| title == "PID");
    let column = column.context("the table of ps has no column PID")?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|p| p.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(header).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_selected() {
        let table = "UID   PID  CMD\nroot    1  init\nroot   22  sleep 1\nroot  122  sleep 22\n";
        assert_eq!(select(table, &[22]).unwrap(), "UID   PID  CMD\nroot   22  sleep 1\n");
        assert!(select("CMD\nx\n", &[1]).is_err());
    }
}
