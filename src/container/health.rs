//! Whether a container is well: a command that is run in it from time to time, as `exec` would, beside the container's
//! supervisor and heard by it over a socket. Nothing in the supervisor waits for it.
//!
//! The verdict and the last answers are in `health.json` of the container's folder.

use super::containers::Container;
use super::exec::{ExecOptions, exec_quietly};
use super::options::HealthOptions;
use super::protocol::Event;
use super::record::Record;
use super::state::{now, read_json};
use crate::sys::file::{Durability, write_atomic};
use crate::sys::process::{self, Child};
use crate::sys::socket::Socket;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How a container is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Failures in a row.
    pub retries: i64,
    /// Failures do not count for so long after the start.
    pub start_period: Duration,
    /// Between two checks in that time.
    pub start_interval: Duration,
}

/// A verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// None yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many failed.
    Unhealthy,
}

impl Verdict {
    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Starting => "starting",
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy => "unhealthy",
        }
    }
}

/// What is known; the fields are those that `inspect` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// The verdict.
    pub status: Verdict,
    /// Failures since the last success.
    pub failing_streak: i64,
    /// The last answers, the oldest first.
    pub log: VecDeque<Answer>,
}

/// What one check said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// Of the command; -1 if it took too long or could not be run.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

const ANSWERS_KEPT: usize = 5;
const OUTPUT_KEPT: usize = 4096;

impl Record {
    /// How it is to be checked: the user's wishes over the image's. `None` if not at all.
    pub fn check(&self) -> Option<Check> {
        let HealthOptions { off, command, interval, timeout, retries, start_period, start_interval } =
            &self.options.health;
        let config = self.base.config.as_ref();
        let image = config.and_then(|c| c.healthcheck.clone()).unwrap_or_default();
        let shell = || config.and_then(|c| c.shell.clone()).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        let command = match (command, image.test.split_first()) {
            (Some(line), _) => [shell(), vec![line.clone()]].concat(),
            (None, Some((kind, words))) if kind == "CMD-SHELL" => [shell(), vec![words.join(" ")]].concat(),
            (None, Some((kind, words))) if kind == "CMD" => words.to_vec(),
            _ => return None,
        };
        let of_image = image.other.get("StartInterval").and_then(serde_json::Value::as_i64).unwrap_or(0);
        let time = |own: &Option<i64>, image: i64, default: u64| {
            let chosen = own.or(Some(image)).and_then(|n| u64::try_from(n).ok()).filter(|n| *n != 0);
            chosen.map_or(Duration::from_secs(default), Duration::from_nanos)
        };
        let check = Check {
            command,
            interval: time(interval, image.interval, 30),
            timeout: time(timeout, image.timeout, 30),
            retries: retries.or(Some(image.retries)).filter(|n| *n > 0).unwrap_or(3),
            start_period: time(start_period, image.start_period, 0),
            start_interval: time(start_interval, of_image, 5),
        };
        (!off && !check.command.is_empty()).then_some(check)
    }
}

impl Container {
    /// What is known of its health; `None` if nobody checks it.
    pub fn health(&self) -> Option<Health> {
        self.record.check()?;
        Some(read_json(&self.dir().join("health.json")).ok().flatten().unwrap_or_default())
    }
}

impl Health {
    /// Takes in an answer; `true` if the verdict is another one now. A failure counts unless `early`.
    fn take(&mut self, answer: Answer, retries: i64, early: bool) -> bool {
        let before = self.status;
        if answer.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Verdict::Healthy;
        } else if !(early && self.status == Verdict::Starting) {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = Verdict::Unhealthy;
            }
        }
        self.log.push_back(answer);
        while self.log.len() > ANSWERS_KEPT {
            self.log.pop_front();
        }
        self.status != before
    }
}

/// The checks of one run of a container, from the supervisor's side.
#[derive(Debug)]
pub struct Monitor<'a> {
    container: &'a Container,
    check: Check,
    health: Health,
    started: Instant,
    next: Instant,
    asked: Option<Asked>,
    /// Supervisors of checks that are over, to be reaped.
    ended: Vec<Child>,
}

/// A check under way.
#[derive(Debug)]
struct Asked {
    socket: Socket,
    supervisor: Child,
    began: String,
    until: Instant,
    output: Vec<u8>,
}

impl<'a> Monitor<'a> {
    /// For a container that has just been started; `None` if nobody wants it checked.
    pub fn new(container: &'a Container) -> Option<Monitor<'a>> {
        let check = container.record.check()?;
        let started = Instant::now();
        let mut monitor = Monitor {
            container,
            check,
            health: Health::default(),
            started,
            next: started,
            asked: None,
            ended: Vec::new(),
        };
        monitor.next = started + monitor.pause();
        monitor.save();
        Some(monitor)
    }

    /// How long nothing is to be done.
    pub fn patience(&self) -> Duration {
        let at = self.asked.as_ref().map_or(self.next, |a| a.until);
        at.saturating_duration_since(Instant::now())
    }

    /// To be called after its turn when it can be read.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.asked.as_ref().map(|a| a.socket.as_fd())
    }

    /// Starts a check or gives one up if it is time.
    pub fn tend(&mut self) {
        self.ended.retain(|child| !process::try_reap(&child.pidfd));
        if !self.patience().is_zero() {
            return;
        }
        match self.asked.is_some() {
            // Its supervisor ends it when we are gone.
            true => {
                let text = format!("Health check exceeded timeout ({})", go_duration(self.check.timeout));
                self.conclude(-1, Some(text));
            }
            false => self.ask(),
        }
    }

    fn ask(&mut self) {
        let began = now();
        let until = Instant::now() + self.check.timeout;
        // Frozen processes would not answer.
        if self.container.cgroup().is_ok_and(|c| c.is_frozen()) {
            self.next = Instant::now() + self.pause();
            return;
        }
        let options = ExecOptions { command: self.check.command.clone(), ..ExecOptions::default() };
        let asked = exec_quietly(self.container, &options).and_then(|(socket, supervisor)| {
            socket.set_nonblocking().context("listen to the check")?;
            Ok(Asked { socket, supervisor, began: began.clone(), until, output: Vec::new() })
        });
        match asked {
            Ok(asked) => self.asked = Some(asked),
            Err(error) => {
                let answer = Answer { start: began, end: now(), exit_code: -1, output: format!("{error:#}") };
                self.decide(answer);
            }
        }
        process::trim_heap();
    }

    /// Hears what the check has to say.
    pub fn hear(&mut self) {
        loop {
            let Some(asked) = &mut self.asked else { return };
            let message = match asked.socket.receive_message() {
                Ok((message, _)) => message,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => Vec::new(),
            };
            match Event::decode(&message) {
                Some(Event::Output(data) | Event::ErrorOutput(data)) => {
                    let room = OUTPUT_KEPT - asked.output.len().min(OUTPUT_KEPT);
                    asked.output.extend(&data[..data.len().min(room)]);
                }
                Some(Event::Exited(status)) => self.conclude(status, None),
                Some(Event::Failed(status, text)) => {
                    let text = text.to_owned();
                    self.conclude(status, Some(text));
                }
                Some(Event::Started | Event::Warning(_)) => {}
                None if message.is_empty() => self.conclude(-1, Some("the check was killed".into())),
                None => {}
            }
        }
    }

    fn conclude(&mut self, exit_code: i32, reason: Option<String>) {
        let Some(Asked { supervisor, began, output, .. }) = self.asked.take() else { return };
        self.ended.push(supervisor);
        let said = String::from_utf8_lossy(&output).into_owned();
        let output = match reason {
            Some(reason) if said.is_empty() => reason,
            Some(reason) => format!("{reason}: {said}"),
            None => said,
        };
        self.decide(Answer { start: began, end: now(), exit_code, output });
    }

    fn decide(&mut self, answer: Answer) {
        let early = self.started.elapsed() < self.check.start_period;
        if self.health.take(answer, self.check.retries, early) {
            self.container.tell(&format!("health_status: {}", self.health.status.word()), &[]);
        }
        self.save();
        self.next = Instant::now() + self.pause();
        process::trim_heap();
        process::release_program_pages();
    }

    fn pause(&self) -> Duration {
        let starting = self.health.status == Verdict::Starting && self.started.elapsed() < self.check.start_period;
        if starting { self.check.start_interval.min(self.check.interval) } else { self.check.interval }
    }

    /// The container is over; what it says when it ends is that it is not well.
    pub fn end(mut self) {
        self.health.status = Verdict::Unhealthy;
        self.save();
        if let Some(asked) = self.asked.take() {
            self.ended.push(asked.supervisor);
        }
        // They end at once: their command is gone with the container, and so are we.
        for child in self.ended {
            let _ = process::reap(&child.pidfd);
        }
    }

    fn save(&self) {
        let path = self.container.dir().join("health.json");
        // It is only information, and nobody is here to be told.
        let _ = serde_json::to_vec(&self.health).map(|json| write_atomic(&path, &json, Durability::Atomic));
    }
}

/// As Go shows it, in whole seconds or milliseconds: `1m30s`.
fn go_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        _ if seconds == 0 => format!("{}ms", time.as_millis()),
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// Runs the check once, now, for a user: the answer is his alone.
///
/// # Errors
/// A container that is not running, or has no check.
pub fn check_now(container: &Container) -> Result<Answer> {
    let check = container
        .record
        .check()
        .with_context(|| format!("container {} has no defined healthcheck", container.record.name))?;
    let options = ExecOptions { command: check.command, ..ExecOptions::default() };
    let start = now();
    let (socket, supervisor) = exec_quietly(container, &options)?;
    let until = Instant::now() + check.timeout;
    let mut output = Vec::new();
    let mut exit_code = -1;
    loop {
        let interest = [crate::sys::poll::Interest { fd: socket.as_fd(), read: true, write: false }];
        let left = until.saturating_duration_since(Instant::now());
        let ready = crate::sys::poll::wait(&interest, Some(left)).context("wait for the check")?;
        if !ready.first().is_some_and(|r| r.read) {
            if left.is_zero() {
                break;
            }
            continue;
        }
        let (message, _) = socket.receive_message().context("hear from the check")?;
        match Event::decode(&message) {
            Some(Event::Output(data) | Event::ErrorOutput(data)) => output.extend(data),
            Some(Event::Exited(status)) => {
                exit_code = status;
                break;
            }
            Some(Event::Failed(status, text)) => {
                exit_code = status;
                output.extend(text.as_bytes());
                break;
            }
            _ if message.is_empty() => break,
            _ => {}
        }
    }
    drop(socket);
    let _ = process::reap(&supervisor.pidfd);
    Ok(Answer { start, end: now(), exit_code, output: String::from_utf8_lossy(&output).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(exit_code: i32) -> Answer {
        Answer { exit_code, ..Answer::default() }
    }

    #[test]
    fn failures_count_from_the_end_of_the_start_period_on() {
        let mut health = Health::default();
        assert!(!health.take(answer(1), 2, true));
        assert_eq!((health.status, health.failing_streak), (Verdict::Starting, 0));
        assert!(!health.take(answer(1), 2, false));
        assert!(health.take(answer(7), 2, false));
        assert_eq!((health.status, health.failing_streak), (Verdict::Unhealthy, 2));
        assert!(health.take(answer(0), 2, false));
        // Once it was well, an early failure counts like any other.
        assert!(!health.take(answer(1), 2, true));
        assert_eq!((health.status, health.failing_streak, health.log.len()), (Verdict::Healthy, 1, 5));
    }

    #[test]
    fn times_are_shown_as_go_shows_them() {
        for (ms, text) in [(500, "500ms"), (30_000, "30s"), (90_000, "1m30s"), (3_600_000, "1h0m0s")] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
