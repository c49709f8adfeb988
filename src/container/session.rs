//! A running process and the people around it: its streams, its log, its clients, in one loop on one thread.
//!
//! Nothing is lost and nothing grows: a client that reads slowly makes the container wait, a container that reads
//! slowly makes the client wait, and what waits is one packet on each side.

use super::health::Monitor;
use super::log::{Stream, Writer};
use super::protocol::{Event, Request};
use crate::network::endpoint::Connection;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::launch::{Created, Streams};
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Exit};
use crate::sys::signal::Signals;
use crate::sys::socket::{Listener, MAX_MESSAGE, Socket};
use crate::sys::tty;
use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What is read at once from a container that says little, in bytes.
const LITTLE: usize = 4095;

/// A process that is still there after this is worth giving back the memory that its start took.
const SETTLING: Duration = Duration::from_millis(100);

/// Our ends of a process's standard streams.
#[derive(Debug, Default)]
pub struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: bool,
}

/// Pipes for a process without a terminal; without `interactive` its input is empty.
pub fn pipes(interactive: bool) -> Result<(Ends, Streams)> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).context("make a pipe");
    let (our_out, stdout) = pipe()?;
    let (our_err, stderr) = pipe()?;
    let (stdin, our_in) = if interactive {
        let (theirs, ours) = pipe()?;
        (theirs, Some(ours))
    } else {
        (std::fs::File::open("/dev/null").context("open /dev/null")?.into(), None)
    };
    let ends = Ends { stdin: our_in, stdout: Some(our_out), stderr: Some(our_err), terminal: false };
    for fd in [&ends.stdin, &ends.stdout, &ends.stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true).map_err(io::Error::from).context("make a pipe non-blocking")?;
    }
    Ok((ends, Streams { stdin, stdout, stderr }))
}

impl Ends {
    /// The master of a process's terminal.
    pub fn terminal(master: OwnedFd) -> Result<Ends> {
        rustix::io::ioctl_fionbio(&master, true).map_err(io::Error::from).context("make the terminal non-blocking")?;
        let writer = master.try_clone().context("open the terminal twice")?;
        Ok(Ends { stdin: Some(writer), stdout: Some(master), stderr: None, terminal: true })
    }
}

/// Somebody connected.
#[derive(Debug)]
struct Client {
    socket: Socket,
    attached: bool,
    feeds: bool,
    queue: VecDeque<Vec<u8>>,
}

/// What a client's requests amount to for the supervisor.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The user ended it: no restart.
    pub by_user: bool,
    /// The supervisor was asked to end, as at a shutdown: no restart now, but maybe after it.
    pub interrupted: bool,
    /// It was ended to be started again at once: it stays even if it is to be removed at its end.
    pub restart: bool,
    /// The signal that came when patience was lost.
    pub lost_patience: bool,
    /// When to lose patience.
    kill_at: Option<Instant>,
}

/// How a session treats its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// The input ends with the first client that feeds it.
    pub input_once: bool,
    /// The process does not outlive its only client.
    pub dies_with_client: bool,
    /// Nor do the others of its process group.
    pub group_dies_with_client: bool,
    /// How long after its end the output of those is awaited that it left behind.
    pub lingers: Duration,
}

/// The streams, the clients and the log of a supervised process.
#[derive(Debug)]
pub struct Session {
    ends: Ends,
    input: Vec<u8>,
    input_ends: bool,
    clients: Vec<Client>,
    listener: Option<Listener>,
    log: Option<Writer>,
    signals: Signals,
    manners: Manners,
    /// What was asked for.
    pub wishes: Wishes,
    buffer: Vec<u8>,
    stop_signal: (i32, i64),
    cgroup: Option<Cgroup>,
    /// Its place in the networks.
    pub connection: Connection,
}

impl Session {
    /// A session whose own stop signal and patience (for a supervisor that is asked to end) are given.
    pub fn new(log: Option<Writer>, listener: Option<Listener>, manners: Manners, stop: (i32, i64)) -> Result<Session> {
        Ok(Session {
            ends: Ends::default(),
            input: Vec::new(),
            input_ends: false,
            clients: Vec::new(),
            listener,
            log,
            signals: Signals::all().context("receive signals")?,
            manners,
            wishes: Wishes::default(),
            buffer: Vec::new(),
            stop_signal: stop,
            cgroup: None,
            connection: Connection::default(),
        })
    }

    /// Names the cgroup that is thawed for a signal that is to end the container.
    pub fn set_cgroup(&mut self, cgroup: Cgroup) {
        self.cgroup = Some(cgroup);
    }

    /// Takes in the client that started the session.
    pub fn add_client(&mut self, socket: Socket, attached: bool, feeds: bool) -> Result<()> {
        socket.set_nonblocking().context("make a client's socket non-blocking")?;
        self.clients.push(Client { socket, attached, feeds, queue: VecDeque::new() });
        Ok(())
    }

    /// Tells every client.
    pub fn announce(&mut self, event: &Event<'_>) {
        let packet = event.encode();
        for client in &mut self.clients {
            client.queue.push_back(packet.clone());
        }
        self.flush_clients();
    }

    /// Serves a started process until it ends, and reaps it. All its output is logged and queued by then.
    pub fn serve(&mut self, created: &Created, ends: Ends, mut monitor: Option<&mut Monitor<'_>>) -> Result<Exit> {
        self.ends = ends;
        self.input.clear();
        self.input_ends = false;
        self.wishes = Wishes::default();
        self.buffer.resize(LITTLE, 0);
        let mut settle_at = Some(Instant::now() + SETTLING);
        let exit = loop {
            let mut patience = self.wishes.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
            if patience == Some(Duration::ZERO) {
                self.wishes.kill_at = None;
                self.wishes.lost_patience = true;
                self.end_with(created, libc::SIGKILL);
            }
            if let Some(at) = settle_at {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    process::trim_heap();
                    process::release_program_pages();
                    settle_at = None;
                } else {
                    patience = Some(patience.map_or(left, |p| p.min(left)));
                }
            }
            if let Some(monitor) = monitor.as_deref_mut() {
                monitor.tend();
                let left = monitor.patience();
                patience = Some(patience.map_or(left, |p| p.min(left)));
            }
            if self.turn(Some(created), patience, monitor.as_deref_mut())? {
                break process::reap(&created.child.pidfd).context("reap the process")?;
            }
        };
        self.drain_output();
        self.linger()?;
        self.ends = Ends::default();
        // Waiting is the common case; the buffers come back with the next start.
        self.buffer = Vec::new();
        Ok(exit)
    }

    /// Between two runs: listens to requests for a while, or until one ends the waiting.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        self.wishes = Wishes::default();
        while !self.wishes.by_user && !self.wishes.interrupted && Instant::now() < until {
            self.turn(None, Some(until.saturating_duration_since(Instant::now())), None)?;
        }
        Ok(())
    }

    /// Waits until every client has taken what is queued for it, or has gone.
    pub fn finish(mut self) -> Result<()> {
        self.listener = None;
        loop {
            self.flush_clients();
            self.clients.retain(|c| !c.queue.is_empty());
            if self.clients.is_empty() {
                return Ok(());
            }
            self.turn(None, None, None)?;
        }
    }

    /// One round of waiting and serving; `true` when the process has ended.
    fn turn(
        &mut self,
        created: Option<&Created>,
        timeout: Option<Duration>,
        monitor: Option<&mut Monitor<'_>>,
    ) -> Result<bool> {
        let room = self.clients.iter().filter(|c| c.attached).all(|c| c.queue.is_empty());
        let mut interests = Vec::with_capacity(6 + self.clients.len());
        let mut add = |fd, read, write| {
            interests.push(Interest { fd, read, write });
            interests.len() - 1
        };
        let signals = add(self.signals.as_fd(), true, false);
        let child = created.map(|c| add(c.child.pidfd.as_fd(), true, false));
        let listener = self.listener.as_ref().map(|l| add(l.as_fd(), true, false));
        let check = monitor.as_ref().and_then(|m| m.fd()).map(|fd| add(fd, true, false));
        let stdin = self.ends.stdin.as_ref().filter(|_| !self.input.is_empty());
        let stdin = stdin.map(|f| add(f.as_fd(), false, true));
        let stdout = self.ends.stdout.as_ref().filter(|_| room).map(|f| add(f.as_fd(), true, false));
        let stderr = self.ends.stderr.as_ref().filter(|_| room).map(|f| add(f.as_fd(), true, false));
        let hungry = self.input.is_empty();
        let first = interests.len();
        for client in &self.clients {
            let (read, write) = (hungry || !client.feeds, !client.queue.is_empty());
            interests.push(Interest { fd: client.socket.as_fd(), read, write });
        }
        let ready = poll::wait(&interests, timeout).context("wait for the container")?;
        let readable = |at: Option<usize>| at.is_some_and(|i| ready[i].read);
        let clients: Vec<bool> = ready[first..].iter().map(|r| r.read).collect();
        let stdin_ready = stdin.is_some_and(|i| ready[i].write);
        let (out, err, new) = (readable(stdout), readable(stderr), readable(listener));
        if let (true, Some(monitor)) = (readable(check), monitor) {
            monitor.hear();
        }
        if readable(Some(signals)) {
            self.take_signals(created);
        }
        if stdin_ready {
            self.feed();
        }
        if out {
            self.pass_on(Stream::Out);
        }
        if err {
            self.pass_on(Stream::Err);
        }
        self.hear_clients(&clients, created);
        self.flush_clients();
        if new {
            self.welcome();
        }
        Ok(readable(child))
    }

    /// The supervisor itself is asked to end: the container is stopped in its own way first.
    fn take_signals(&mut self, created: Option<&Created>) {
        while let Ok(Some(signal)) = self.signals.next() {
            if signal == libc::SIGTERM {
                let (signal, timeout) = self.stop_signal;
                self.wishes.interrupted = true;
                self.stop(created, signal, timeout);
            }
        }
    }

    fn stop(&mut self, created: Option<&Created>, signal: i32, timeout: i64) {
        if let Some(created) = created {
            self.end_with(created, signal);
        }
        if let Ok(seconds) = u64::try_from(timeout) {
            self.wishes.kill_at = Instant::now().checked_add(Duration::from_secs(seconds));
        }
    }

    /// Sends a signal that is to end the container, also a paused one: frozen processes would not hear of it.
    fn end_with(&self, created: &Created, signal: i32) {
        let _ = process::pidfd_kill(&created.child.pidfd, signal);
        if let Some(cgroup) = self.cgroup.as_ref().filter(|c| c.is_frozen()) {
            let _ = cgroup.freeze(false);
        }
    }

    fn feed(&mut self) {
        let Some(stdin) = &self.ends.stdin else { return };
        match rustix::io::write(stdin, &self.input) {
            Ok(n) => drop(self.input.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it any more.
            Err(_) => {
                self.input.clear();
                self.close_input();
            }
        }
        if self.input.is_empty() && self.input_ends {
            self.close_input();
        }
    }

    /// A terminal has no end of input of its own; a program that waits for one is told by a key.
    fn close_input(&mut self) {
        if !self.ends.terminal {
            self.ends.stdin = None;
        }
    }

    /// Moves one piece of output to the log and the attached clients; `false` when there is none now.
    fn pass_on(&mut self, stream: Stream) -> bool {
        let end = if stream == Stream::Out { &mut self.ends.stdout } else { &mut self.ends.stderr };
        let Some(fd) = end else { return false };
        let n = match read_piece(&*fd, &mut self.buffer) {
            Ok(n) if n > 0 => n,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // The end; a terminal says EIO when the last process has closed it.
            _ => {
                *end = None;
                return false;
            }
        };
        let data = &self.buffer[..n];
        if let Some(log) = &mut self.log {
            // A full disk must stop neither the container nor its clients; there may be room again for the next piece.
            let _ = log.write(stream, data);
        }
        let event = if stream == Stream::Out { Event::Output(data) } else { Event::ErrorOutput(data) };
        let mut packet = None;
        for client in self.clients.iter_mut().filter(|c| c.attached) {
            client.queue.push_back(packet.get_or_insert_with(|| event.encode()).clone());
        }
        true
    }

    fn drain_output(&mut self) {
        while self.pass_on(Stream::Out) {}
        while self.pass_on(Stream::Err) {}
    }

    fn linger(&mut self) -> Result<()> {
        let until = Instant::now() + self.manners.lingers;
        while !self.ends.terminal
            && (self.ends.stdout.is_some() || self.ends.stderr.is_some())
            && self.clients.iter().any(|c| c.attached)
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.turn(None, Some(left), None)?;
        }
        Ok(())
    }

    fn flush_clients(&mut self) {
        let mut gone = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            while let Some(packet) = client.queue.front() {
                match client.socket.send(packet) {
                    Ok(()) => drop(client.queue.pop_front()),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        gone.push(index);
                        break;
                    }
                }
            }
        }
        for index in gone.into_iter().rev() {
            self.clients.remove(index);
        }
    }

    fn welcome(&mut self) {
        while let Some(Ok(Some(socket))) = self.listener.as_ref().map(Listener::accept) {
            self.clients.push(Client { socket, attached: false, feeds: false, queue: VecDeque::new() });
        }
    }

    fn hear_clients(&mut self, readable: &[bool], created: Option<&Created>) {
        let mut gone = Vec::new();
        for (index, _) in readable.iter().enumerate().filter(|(_, r)| **r) {
            let Some(client) = self.clients.get(index) else { continue };
            match client.socket.receive_message() {
                Ok((packet, _)) if packet.is_empty() => gone.push((index, true)),
                Ok((packet, fds)) => match Request::decode(&packet) {
                    Some(Request::Detach) => gone.push((index, false)),
                    Some(Request::HoldPorts) => self.connection.hold(fds),
                    Some(request) => self.heed(index, request, created),
                    None => {}
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => gone.push((index, true)),
            }
        }
        for (index, lost) in gone.into_iter().rev() {
            let client = self.clients.remove(index);
            if lost {
                self.lost(&client, created);
            }
        }
    }

    fn lost(&mut self, client: &Client, created: Option<&Created>) {
        if client.feeds && self.manners.input_once {
            self.input_ends = true;
            self.feed();
        }
        let Some(created) = created else { return };
        if self.manners.group_dies_with_client {
            // It leads the group and has not been reaped: the number is its own.
            let _ = process::kill(-created.child.pid, libc::SIGKILL);
        }
        if self.manners.dies_with_client {
            let _ = process::pidfd_kill(&created.child.pidfd, libc::SIGKILL);
        }
    }

    fn heed(&mut self, index: usize, request: Request<'_>, created: Option<&Created>) {
        match request {
            Request::Attach { stdin } => {
                if let Some(client) = self.clients.get_mut(index) {
                    client.attached = true;
                    client.feeds = stdin;
                }
            }
            Request::Input(data) => {
                if self.ends.stdin.is_some() {
                    self.input.extend(data);
                    self.feed();
                }
            }
            Request::EndOfInput => {
                if self.manners.input_once {
                    self.input_ends = true;
                    self.feed();
                }
            }
            Request::Resize(size) => {
                if let (true, Some(terminal)) = (self.ends.terminal, &self.ends.stdout) {
                    let _ = tty::set_size(terminal, size);
                }
            }
            Request::Signal { signal, final_one } => {
                self.wishes.by_user |= final_one;
                match created {
                    Some(created) if final_one => self.end_with(created, signal),
                    Some(created) => drop(process::pidfd_kill(&created.child.pidfd, signal)),
                    None => {}
                }
            }
            Request::Stop { signal, timeout, restart } => {
                self.wishes.by_user = true;
                self.wishes.restart |= restart;
                self.stop(created, signal, timeout);
            }
            Request::FreePorts => self.connection.free_ports(),
            Request::HoldPorts | Request::Detach => {}
        }
    }
}

/// Reads what there is, up to a message's length, in a buffer that grows when it turns out to be much.
fn read_piece(from: &OwnedFd, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    let mut n = rustix::io::read(from, &mut buffer[..])?;
    while n == buffer.len() && n < MAX_MESSAGE - 1 {
        buffer.resize((2 * n).min(MAX_MESSAGE - 1), 0);
        // An end or an error is met again when what has come is passed on.
        match rustix::io::read(from, &mut buffer[n..]) {
            Ok(more) if more > 0 => n += more,
            _ => break,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_read_as_one_piece_as_long_as_a_message() -> io::Result<()> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut buffer = vec![0; LITTLE];
        for (written, pieces) in
            [(1, vec![1]), (LITTLE, vec![LITTLE]), (9000, vec![9000]), (40_000, vec![32_767, 7233])]
        {
            let sent: Vec<u8> = (0..written).map(|i| i as u8).collect();
            assert_eq!(rustix::io::write(&writer, &sent)?, written);
            let mut heard: Vec<u8> = Vec::new();
            for piece in pieces {
                assert_eq!(read_piece(&reader, &mut buffer)?, piece, "{written}");
                heard.extend_from_slice(&buffer[..piece]);
            }
            assert!(heard == sent, "{written}");
        }
        assert_eq!(read_piece(&reader, &mut buffer), Err(Errno::AGAIN));
        rustix::io::write(&writer, b"last")?;
        drop(writer);
        assert_eq!((read_piece(&reader, &mut buffer)?, read_piece(&reader, &mut buffer)?), (4, 0));
        Ok(())
    }
}
