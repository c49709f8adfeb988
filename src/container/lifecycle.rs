//! What users do with a container that exists: stop, kill, wait, pause, remove.

use super::containers::Container;
use super::protocol::{Event, Request};
use super::start::{not_running, require_running, stop_settings};
use super::state::Status;
use crate::runtime::cgroup::Cgroup;
use crate::sys::file::Ownership;
use crate::sys::socket::Socket;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

impl Container {
    /// Connects to its supervisor; `None` if it has none.
    pub fn connect(&self) -> Result<Option<Socket>> {
        match Socket::connect(&self.state_dir(), "socket") {
            Ok(socket) => Ok(Some(socket)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(e) => Err(e).context("reach the container's supervisor"),
        }
    }

    /// Stops it: its stop signal, then SIGKILL after `timeout` seconds (negative: never). One that is not up is fine.
    pub fn stop(&self, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
        self.request_stop(signal, timeout, false)
    }

    /// The same before it is started again: one that is to be removed at its end stays.
    pub fn stop_for_restart(&self, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
        self.request_stop(signal, timeout, true)
    }

    fn request_stop(&self, signal: Option<i32>, timeout: Option<i64>, restart: bool) -> Result<()> {
        let (own_signal, own_timeout) = stop_settings(&self.record);
        let (signal, timeout) = (signal.unwrap_or(own_signal), timeout.unwrap_or(own_timeout));
        // One whose supervisor was killed is stopped by that.
        self.snapshot()?;
        let Some(socket) = self.connect()? else { return Ok(()) };
        self.tell("kill", &[("signal", signal.to_string())]);
        let request = Request::Stop { signal, timeout, restart };
        socket.send(&request.encode()).context("ask the supervisor to stop it")?;
        wait_for_end(&socket)?;
        self.tell("stop", &[]);
        Ok(())
    }

    /// Sends its first process a signal. After SIGKILL it waits until the container has ended.
    ///
    /// # Errors
    /// A container that is not running.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let socket = match self.snapshot()?.status {
            Status::Running | Status::Paused | Status::Restarting => self.connect()?,
            _ => None,
        };
        let Some(socket) = socket else {
            return Err(not_running(&self.record))
                .with_context(|| format!("Cannot kill container: {}", self.record.name));
        };
        self.tell("kill", &[("signal", signal.to_string())]);
        // As Docker sees it: only where somebody has chosen a stop signal, others are not meant to end the container.
        let chosen = self.record.options.stop_signal.is_some() || self.record.config().stop_signal.is_some();
        let final_one = !chosen || signal == libc::SIGKILL || signal == stop_settings(&self.record).0;
        socket.send(&Request::Signal { signal, final_one }.encode()).context("ask the supervisor to signal it")?;
        if signal == libc::SIGKILL {
            wait_for_end(&socket)?;
        }
        Ok(())
    }

    /// Waits until it has ended and returns its exit status; 0 for one that was never started.
    pub fn wait(&self) -> Result<i32> {
        if self.snapshot()?.status.is_up()
            && let Some(socket) = self.connect()?
            && let Some(status) = wait_for_end(&socket)?
        {
            return Ok(status);
        }
        Ok(self.snapshot()?.ended.map_or(0, |e| e.exit_code))
    }

    /// Freezes all its processes.
    pub fn pause(&self) -> Result<()> {
        if self.snapshot()?.status == Status::Paused {
            bail!("Container {} is already paused", self.record.id);
        }
        require_running(self, "pausing it again")?;
        self.cgroup()?.freeze(true)?;
        self.tell("pause", &[]);
        Ok(())
    }

    /// Lets its processes run again.
    pub fn unpause(&self) -> Result<()> {
        if self.snapshot()?.status != Status::Paused {
            bail!("Container {} is not paused", self.record.id);
        }
        self.cgroup()?.freeze(false)?;
        self.tell("unpause", &[]);
        Ok(())
    }

    /// Removes it, a running one only by `force`, and its anonymous volumes if asked.
    ///
    /// The files are only moved out of sight; [`crate::layout::Root::empty_trash`] deletes them.
    pub fn remove(&self, force: bool, volumes: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let _ownership = loop {
            let status = self.snapshot()?.status;
            if status.is_up() {
                if !force {
                    bail!(
                        "You cannot remove a {} container {}. Stop the container before attempting removal or force \
                         remove",
                        status.word(),
                        self.record.id
                    );
                }
                // It may end by itself meanwhile.
                let _ = self.kill(libc::SIGKILL);
            }
            match Ownership::take(&self.lock_path()) {
                Ok(Some(ownership)) => break ownership,
                // Somebody is just starting, ending or removing it.
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                Ok(None) => bail!("the container {} is in somebody else's hands", self.record.id),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e).context("take the container's lock"),
            }
        };
        // There is one if its supervisor was killed in the middle of a start.
        if let Ok(cgroup) = self.cgroup() {
            cgroup.kill_all()?;
            cgroup.remove()?;
        }
        let released = self.release_networks();
        if self.dir().try_exists().context("look for the container's folder")? {
            self.remove_files(volumes)?;
        }
        self.forget_running();
        released
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> Result<Cgroup> {
        let path = super::compose::cgroup_path(&self.record);
        Cgroup::at(Path::new(&path))
    }
}

/// Listens until the supervisor says that it has ended, or is gone.
fn wait_for_end(socket: &Socket) -> Result<Option<i32>> {
    loop {
        let (message, _) = socket.receive_message().context("hear from the supervisor")?;
        match Event::decode(&message) {
            Some(Event::Exited(status) | Event::Failed(status, _)) => return Ok(Some(status)),
            _ if message.is_empty() => return Ok(None),
            _ => {}
        }
    }
}
