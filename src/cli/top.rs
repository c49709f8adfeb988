//! `top`: the processes of a container, in the columns that `ps` would show on the host.

use super::{App, output, table::printable};
use crate::container::containers::Containers;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Name or id
    container: String,
    /// Options as for ps: -ef, aux, -o pid,cmd
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    ps_options: Vec<String>,
}

/// `minirun top`.
pub fn run(app: &App, args: &TopArgs) -> Result<u8> {
    let columns = columns(&args.ps_options)?;
    let container = Containers::open(&app.root).find(&args.container)?;
    if !container.snapshot()?.status.is_up() {
        bail!("Container {} is not running", container.record.id);
    }
    let host = Host::new();
    let mut rows = vec![columns.iter().map(|c| c.heading.clone()).collect::<Vec<_>>()];
    for pid in container.cgroup()?.processes().context("list the processes")? {
        // One that has just ended is not missed.
        let Some(process) = Process::read(pid) else { continue };
        rows.push(columns.iter().map(|c| printable(&(c.value)(&process, &host))).collect());
    }
    container.tell("top", &[]);
    output::print(&render(&rows))?;
    Ok(0)
}

/// As Docker lays it out: columns at least 20 wide, three spaces apart.
fn render(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count() + 3).max();
    let widths: Vec<usize> = (0..count).map(|c| width(c).unwrap_or(0).max(20)).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths).take(count.saturating_sub(1)) {
            text += &format!("{cell:<width$}");
        }
        text += row.last().map_or("", String::as_str);
        text.push('\n');
    }
    text
}

type Value = fn(&Process, &Host) -> String;

struct Column {
    heading: String,
    value: Value,
}

/// Field, heading, value; fields of the same meaning have several names.
const FIELDS: &[(&[&str], &str, Value)] = &[
    (&["pid", "tgid"], "PID", |p, _| p.pid.to_string()),
    (&["ppid"], "PPID", |p, _| p.number(1).to_string()),
    (&["pgid", "pgrp"], "PGID", |p, _| p.number(2).to_string()),
    (&["sid", "sess", "session"], "SID", |p, _| p.number(3).to_string()),
    (&["user", "euser", "uname", "ruser"], "USER", |p, h| h.user(&p.uid)),
    (&["uid", "euid", "ruid"], "UID", |p, _| p.uid.clone()),
    (&["gid", "egid", "rgid"], "GID", |p, _| p.gid.clone()),
    (&["comm", "ucmd", "ucomm"], "COMMAND", |p, _| p.name.clone()),
    (&["cmd"], "CMD", |p, _| p.command.clone()),
    (&["args", "command"], "COMMAND", |p, _| p.command.clone()),
    (&["tty", "tt", "tname"], "TTY", |p, _| p.terminal()),
    (&["time", "cputime"], "TIME", |p, _| p.cpu_time()),
    (&["stime", "start_time"], "STIME", |p, h| p.started(h)),
    (&["start"], "START", |p, h| p.started(h)),
    (&["etime"], "ELAPSED", |p, h| elapsed(p.age(h))),
    (&["etimes"], "ELAPSED", |p, h| p.age(h).to_string()),
    (&["c"], "C", |p, h| (p.cpu_percent(h) as u64).to_string()),
    (&["pcpu", "%cpu"], "%CPU", |p, h| format!("{:.1}", p.cpu_percent(h))),
    (&["pmem", "%mem"], "%MEM", |p, h| format!("{:.1}", p.resident as f64 * 100.0 / h.memory.max(1) as f64)),
    (&["rss", "rssize", "rsz"], "RSS", |p, _| p.resident.to_string()),
    (&["vsz", "vsize"], "VSZ", |p, _| (p.number(20) / 1024).to_string()),
    (&["s", "state"], "S", |p, _| p.fields.first().cloned().unwrap_or_default()),
    (&["stat"], "STAT", |p, _| p.state()),
    (&["nlwp", "thcount"], "NLWP", |p, _| p.number(17).to_string()),
    (&["ni", "nice"], "NI", |p, _| p.number(16).to_string()),
    (&["pri"], "PRI", |p, _| (39 - p.number(15)).to_string()),
    (&["psr"], "PSR", |p, _| p.number(36).to_string()),
];

const FULL: &[(&str, &str)] = &[
    ("user", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("cmd", "CMD"),
];
const USERS: &[(&str, &str)] = &[
    ("user", "USER"),
    ("pid", "PID"),
    ("%cpu", "%CPU"),
    ("%mem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tty", "TTY"),
    ("stat", "STAT"),
    ("start", "START"),
    ("time", "TIME"),
    ("command", "COMMAND"),
];
const SHORT: &[(&str, &str)] = &[("pid", "PID"), ("tty", "TTY"), ("time", "TIME"), ("comm", "CMD")];

/// What to show for the options of a call of `ps`. Which processes are meant is no question here.
fn columns(options: &[String]) -> Result<Vec<Column>> {
    let preset = |list: &[(&str, &str)]| list.iter().map(|(name, heading)| column(name, heading)).collect();
    if options.is_empty() {
        return preset(FULL);
    }
    let mut format: Option<&[(&str, &str)]> = None;
    let mut chosen = Vec::new();
    let mut words = options.iter().flat_map(|o| o.split_ascii_whitespace());
    while let Some(word) = words.next() {
        let (letters, is_dashed) = word.strip_prefix('-').map_or((word, false), |rest| (rest, true));
        let list = match (letters.strip_prefix("-format"), letters.split_once('o')) {
            (Some(rest), _) if is_dashed => Some(rest.trim_start_matches('=')),
            (_, Some((flags, list))) if flags.chars().all(|c| "eAadxfwj".contains(c)) => Some(list),
            _ => None,
        };
        if let Some(list) = list {
            let list = if list.is_empty() { words.next().context("ps: -o needs a list of columns")? } else { list };
            chosen.extend(fields(list)?);
            continue;
        }
        for letter in letters.chars() {
            match letter {
                'u' if !is_dashed => format = Some(USERS),
                'f' if is_dashed => format = Some(FULL),
                'e' | 'A' | 'a' | 'd' | 'x' | 'w' | 'f' | 'H' => {}
                _ => bail!("ps: the option {word:?} is not known here: it is -ef, aux, or -o with a list of columns"),
            }
        }
    }
    if chosen.is_empty() { preset(format.unwrap_or(SHORT)) } else { Ok(chosen) }
}

/// `pid,user=WHO,cmd`: after an `=` all is the heading.
fn fields(list: &str) -> Result<Vec<Column>> {
    let (list, heading) = list.split_once('=').map_or((list, None), |(l, h)| (l, Some(h)));
    let names: Vec<&str> = list.split(',').filter(|n| !n.is_empty()).collect();
    let last = names.len().saturating_sub(1);
    let one = |(at, name): (usize, &&str)| {
        let default = FIELDS.iter().find(|(names, ..)| names.contains(name)).map_or("", |(_, heading, _)| heading);
        column(name, heading.filter(|_| at == last).unwrap_or(default))
    };
    names.iter().enumerate().map(one).collect()
}

fn column(name: &str, heading: &str) -> Result<Column> {
    let found = FIELDS.iter().find(|(names, ..)| names.contains(&name));
    let (.., value) = found.with_context(|| format!("ps: unknown column {name:?}"))?;
    Ok(Column { heading: heading.to_owned(), value: *value })
}

const TICKS: i64 = 100;

/// What all processes have in common.
struct Host {
    users: BTreeMap<String, String>,
    boot: i64,
    now: i64,
    memory: u64,
}

impl Host {
    fn new() -> Host {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.to_owned(), name))
        };
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let memory = rustix::system::sysinfo();
        Host {
            users: passwd.lines().rev().filter_map(user).collect(),
            boot: stat.lines().find_map(|l| l.strip_prefix("btime ")?.parse().ok()).unwrap_or(0),
            now: jiff::Timestamp::now().as_second(),
            memory: memory.totalram as u64 * u64::from(memory.mem_unit) / 1024,
        }
    }

    /// The host's name for a number, as `ps` shows it; the container may call it something else.
    fn user(&self, uid: &str) -> String {
        self.users.get(uid).cloned().unwrap_or_else(|| uid.to_owned())
    }
}

struct Process {
    pid: i32,
    name: String,
    /// From the state on, as `/proc/PID/stat` has them.
    fields: Vec<String>,
    uid: String,
    gid: String,
    command: String,
    /// Kilobytes.
    resident: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Process> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let effective = |key: &str| {
            status.lines().find_map(|l| l.strip_prefix(key)?.split_ascii_whitespace().nth(1)).map(str::to_owned)
        };
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        let command = read("cmdline")?;
        let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
        Some(Process {
            pid,
            command: if command.is_empty() { format!("[{name}]") } else { command },
            name: name.to_owned(),
            fields: fields.split_ascii_whitespace().map(str::to_owned).collect(),
            uid: effective("Uid:")?,
            gid: effective("Gid:")?,
            resident: resident.unwrap_or(0),
        })
    }

    fn number(&self, index: usize) -> i64 {
        self.fields.get(index).and_then(|f| f.parse().ok()).unwrap_or(0)
    }

    fn terminal(&self) -> String {
        match self.number(4) {
            0 => "?".to_owned(),
            device => format!("pts/{}", (device & 0xff) | ((device >> 12) & 0xfff00)),
        }
    }

    fn cpu_time(&self) -> String {
        let seconds = (self.number(11) + self.number(12)) / TICKS;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn start(&self, host: &Host) -> i64 {
        host.boot + self.number(19) / TICKS
    }

    fn age(&self, host: &Host) -> i64 {
        (host.now - self.start(host)).max(0)
    }

    fn cpu_percent(&self, host: &Host) -> f64 {
        let ticks = (self.number(11) + self.number(12)) as f64;
        ticks * 100.0 / (self.age(host).max(1) * TICKS) as f64
    }

    /// Hours and minutes, or month and day of another day.
    fn started(&self, host: &Host) -> String {
        let start = jiff::Timestamp::from_second(self.start(host)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let form = if self.age(host) < 86_400 { "%H:%M" } else { "%b%d" };
        super::local::zoned(start).strftime(form).to_string()
    }

    fn state(&self) -> String {
        let mut state = self.fields.first().cloned().unwrap_or_default();
        let nice = self.number(16);
        state += if nice < 0 {
            "<"
        } else if nice > 0 {
            "N"
        } else {
            ""
        };
        state += if self.number(3) == i64::from(self.pid) { "s" } else { "" };
        state += if self.number(17) > 1 { "l" } else { "" };
        state += if self.number(5) == self.number(2) && self.number(5) != -1 { "+" } else { "" };
        state
    }
}

/// `[[days-]hours:]minutes:seconds`.
fn elapsed(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let rest = format!("{minutes:02}:{:02}", seconds % 60);
    match (days, hours) {
        (0, 0) => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(options: &[&str]) -> Result<String> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        Ok(columns(&options)?.into_iter().map(|c| c.heading).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn options_choose_the_columns() {
        for (options, expected) in [
            (&[][..], "UID PID PPID C STIME TTY TIME CMD"),
            (&["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
            (&["aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["-e"], "PID TTY TIME CMD"),
            (&["-o", "pid,cmd"], "PID CMD"),
            (&["-opid,args"], "PID COMMAND"),
            (&["-eo", "pid,user=WHO"], "PID WHO"),
            (&["axo", "pid,rss"], "PID RSS"),
            (&["-o pid -o etime"], "PID ELAPSED"),
        ] {
            assert_eq!(headings(options).unwrap(), expected, "{options:?}");
        }
        for bad in [&["-Z"][..], &["-o"], &["-o", "nosuch"]] {
            assert!(headings(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans() {
        for (seconds, text) in [(5, "00:05"), (3_700, "01:01:40"), (90_061, "1-01:01:01")] {
            assert_eq!(elapsed(seconds), text);
        }
    }
}
