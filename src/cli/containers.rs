//! The short commands about containers: each takes names and reports them one by one.

use super::run::{start_detached, status_of};
use super::{App, output, values};
use crate::container::containers::{Container, Containers, NoSuchContainer};
use anyhow::{Context, Result, bail};
use clap::Args;

/// Names or ids, at least one.
#[derive(Debug, Args)]
pub struct Names {
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `stop` and `restart`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The signal that asks to stop, instead of the container's own
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds until it is killed; negative waits forever
    #[arg(short, long, alias = "timeout", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Kill running containers, and do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// Remove the containers' anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Name or id
    container: String,
    /// The new name
    name: String,
}

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Name or id
    container: String,
    /// Accepted for compatibility: the columns are always those of `ps -ef`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    ps_options: Vec<String>,
}

/// Does something to each container and prints its name; goes on after an error, and returns 1 then.
fn each(app: &App, names: &[String], action: impl Fn(&Container) -> Result<()>) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in names {
        match containers.find(name).and_then(|c| action(&c)) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}

/// `minirun stop`.
pub fn stop(app: &App, args: &StopArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(values::signal).transpose()?;
    each(app, &args.containers, |c| c.stop(signal, args.time))
}

/// `minirun kill`.
pub fn kill(app: &App, args: &KillArgs) -> Result<u8> {
    let signal = values::signal(&args.signal)?;
    each(app, &args.containers, |c| c.kill(signal))
}

/// `minirun restart`.
pub fn restart(app: &App, args: &StopArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(values::signal).transpose()?;
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.containers {
        let again = containers
            .find(name)
            .and_then(|c| c.stop(signal, args.time))
            .and_then(|()| start_detached(app, &containers, name));
        match again {
            Ok(()) => output::line(name)?,
            Err(error) => {
                status = status_of(&error).max(status);
                output::complain(&error);
            }
        }
    }
    Ok(status)
}

/// `minirun rm`.
pub fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.containers {
        let removed = match containers.find(name) {
            Ok(container) => container.remove(args.force, args.volumes),
            // What cannot be read can still be removed.
            Err(error) if args.force && !error.is::<NoSuchContainer>() => {
                containers.remove_damaged(name).map_err(|_| error)
            }
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::complain(&error);
                // It may also have gone while we looked at it.
                if !(args.force && error.is::<NoSuchContainer>()) {
                    status = 1;
                }
            }
        }
    }
    crate::container::connection::tidy(&app.root);
    app.root.empty_trash();
    Ok(status)
}

/// `minirun wait`.
pub fn wait(app: &App, args: &Names) -> Result<u8> {
    let containers = Containers::open(&app.root);
    let mut status = 0;
    for name in &args.containers {
        match containers.find(name).and_then(|c| c.wait()) {
            Ok(code) => output::line(&code.to_string())?,
            Err(error) => {
                output::complain(&error);
                status = 1;
            }
        }
    }
    Ok(status)
}

/// `minirun rename`.
pub fn rename(app: &App, args: &RenameArgs) -> Result<u8> {
    let name = values::container_name(&args.name)?;
    Containers::open(&app.root).find(&args.container)?.rename(&name)?;
    Ok(0)
}

/// `minirun pause`.
pub fn pause(app: &App, args: &Names) -> Result<u8> {
    each(app, &args.containers, Container::pause)
}

/// `minirun unpause`.
pub fn unpause(app: &App, args: &Names) -> Result<u8> {
    each(app, &args.containers, Container::unpause)
}

/// `minirun top`: what `ps -ef` would say of the container's processes, as the host sees them.
pub fn top(app: &App, args: &TopArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    if !container.snapshot()?.status.is_up() {
        bail!("Container {} is not running", container.record.id);
    }
    let mut text = columns(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"].map(str::to_owned));
    for pid in container.cgroup()?.processes().context("list the processes")? {
        // One that has just ended is not missed.
        if let Some(row) = process_row(pid) {
            text.push_str(&columns(row));
        }
    }
    output::print(&text)?;
    Ok(0)
}

fn columns(cells: [String; 8]) -> String {
    let [rest @ .., last] = &cells;
    let mut line: String = rest.iter().map(|c| format!("{c:<19} ")).collect();
    line.push_str(&super::table::printable(last));
    line.push('\n');
    line
}

fn process_row(pid: i32) -> Option<[String; 8]> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|f| f.parse::<i64>().ok());
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_ascii_whitespace().nth(1))?.to_owned();
    let command = read("cmdline")?;
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let command = if command.is_empty() { format!("[{name}]") } else { command };
    let ticks = number(11)? + number(12)?;
    let seconds = ticks / 100;
    let terminal = match number(4)? {
        0 => "?".to_owned(),
        device => format!("pts/{}", (device & 0xff) | ((device >> 12) & 0xfff00)),
    };
    let started = start_time(number(19)?);
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let ppid = number(1)?.to_string();
    Some([uid, pid.to_string(), ppid, "0".into(), started, terminal, time, command])
}

/// Hours and minutes of a moment given in clock ticks after boot.
fn start_time(ticks: i64) -> String {
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|l| l.strip_prefix("btime ")?.parse::<i64>().ok()).unwrap_or(0);
    let minutes = (boot + ticks / 100) / 60;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
