//! A container's way to its networks.

use super::compose::MANY_PORTS;
use super::containers::{Container, Containers, NoSuchContainer};
use super::options::NetworkMode;
use super::protocol::Request;
use super::record::Record;
use super::start::{AlreadyRunning, take_when_free};
use crate::layout::Root;
use crate::network::definition::{Definition, NoSuchNetwork};
use crate::network::endpoint::{Attachment, Connection, Guest};
use crate::network::{DEFAULT, Networks};
use crate::sys::file::{Lock, LockMode, Ownership};
use crate::sys::process::{self, ProcessId};
use crate::sys::socket::MAX_DESCRIPTORS;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// The networks of a store.
pub fn networks(root: &Root) -> Networks {
    Networks::open(root, |root, id| Ownership::is_taken(&lock_of(root, id)).unwrap_or(true))
}

/// What the ids of visitors begin with.
pub const VISITOR: &str = "build-";

/// What is owned by whoever answers for a container. A visitor has no folder, only a file among the volatile state.
fn lock_of(root: &Root, id: &str) -> PathBuf {
    match id.starts_with(VISITOR) {
        true => root.state().join(id),
        false => root.join("containers").join(id).join("lock"),
    }
}

/// A command that is in networks as a container would be but is none of the store: one of a build. Whoever runs it owns
/// the file of its id in the state folder meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Visitor {
    id: String,
    networks: Vec<Attachment>,
    names: Names,
    hosts: PathBuf,
}

impl Visitor {
    /// What this record asks for; `None` if it is in no network. `hosts` is its file of names.
    pub fn of(record: &Record, hosts: PathBuf) -> Option<Visitor> {
        let (id, networks) = (record.id.clone(), record.networks.clone());
        (!networks.is_empty()).then(|| Visitor { id, networks, names: Names::of(record), hosts })
    }

    /// Connects its first process; gives what the user should know.
    pub fn connect(&self, root: &Root, pid: i32) -> Result<Vec<String>> {
        let name = self.id.get(..VISITOR.len() + 12).unwrap_or(&self.id);
        let (own_names, host_names) = (&self.names.own, &self.names.host);
        let guest = Guest { id: &self.id, name, own_names, host_names, ports: &[], hosts: Some(&self.hosts) };
        Ok(networks(root).connect(&guest, &self.networks, pid)?.warnings)
    }

    /// Gives up the places of the visitor of this id. Can be repeated.
    pub fn release(root: &Root, id: &str) -> Result<()> {
        networks(root).release(id)
    }
}

/// Takes the default network's bridge away if no container is left that would use it. Call it when the user has his
/// answer: the kernel takes its time.
pub fn tidy(root: &Root) {
    let is_idle = || {
        Containers::open(root)
            .list()
            .is_ok_and(|(all, bad)| bad.is_empty() && all.iter().all(|c| c.record.networks.is_empty()))
    };
    let networks = networks(root);
    if networks.in_use() && is_idle() {
        // What cannot be taken away now is the next one's.
        let _ = networks.release_idle();
    }
}

/// What a container calls itself, and what it calls its host.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Names {
    own: Vec<String>,
    host: Vec<String>,
}

impl Names {
    fn of(record: &Record) -> Names {
        let name = record.hostname();
        let full = record.options.domainname.as_ref().map(|domain| format!("{name}.{domain}"));
        let host = extra_hosts(record).filter(|(_, address)| *address == HOST_GATEWAY);
        Names { own: full.into_iter().chain([name]).collect(), host: host.map(|(name, _)| name.to_owned()).collect() }
    }
}

/// The word for the host's address in a container's network.
pub const HOST_GATEWAY: &str = "host-gateway";

/// Names and addresses of `--add-host`.
pub(super) fn extra_hosts(record: &Record) -> impl Iterator<Item = (&str, &str)> {
    record.options.extra_hosts.iter().filter_map(|entry| entry.split_once(['=', ':']))
}

impl Container {
    /// Connects the container, whose first process is `pid`, to its networks. One that has places in them already, since
    /// it only starts again, is connected to these.
    pub(super) fn connect_networks(&self, pid: i32, connection: &mut Connection) -> Result<()> {
        // Somebody may have connected it to others since it was started.
        let record = Containers::open(&self.root).find(&self.record.id)?.record;
        if record.networks.is_empty() {
            // Of an earlier run.
            *connection = Connection::default();
            return Ok(());
        }
        let (names, ports) = (Names::of(&record), record.ports_to_publish());
        if ports.len() > MANY_PORTS {
            process::raise_descriptor_limit();
        }
        let guest = guest(&record, &names, &ports);
        let networks = networks(&self.root);
        if !networks.reconnect(&guest, &record.networks, pid)? {
            *connection = Connection::default();
            *connection = networks.connect(&guest, &record.networks, pid)?;
        }
        Ok(())
    }

    /// Gives up its places in networks. Can be repeated.
    pub(super) fn release_networks(&self) -> Result<()> {
        networks(&self.root).release(&self.record.id)
    }

    /// Connects it to one more network, now if it is running, and whenever it starts.
    pub fn join_network(&mut self, attachment: Attachment) -> Result<()> {
        let _alone = self.lock_networks()?;
        let networks = networks(&self.root);
        let definition = networks.check(&attachment)?;
        if !matches!(self.record.options.network, NetworkMode::Bridge | NetworkMode::Named(_)) {
            bail!(
                "container cannot be connected to multiple networks with one of the networks in {} mode",
                self.record.options.network.word()
            );
        }
        let mut attachment = Attachment { network: definition.name.clone(), ..attachment };
        settle_links(&self.root, &mut attachment)?;
        let (_kept, init) = self.settle()?;
        let (is_asked_for, has_place) =
            (self.is_in(&networks, &definition.id), self.has_place(&networks, &definition.id)?);
        if is_asked_for && (has_place || init.is_none()) {
            bail!("endpoint with name {} already exists in network {}", self.record.name, definition.name);
        }
        if let Some(init) = init {
            // Whoever was connecting it was killed.
            if has_place {
                self.unplug(&networks, &definition, init.pid)??;
            }
            self.plug_in(&networks, &attachment, &definition, init.pid)?;
        }
        self.rewrite(|record| {
            // Whoever was disconnecting it was killed.
            record.networks.retain(|a| a.network != definition.name);
            record.networks.push(attachment.clone());
            Ok(())
        })?;
        if init.is_none()
            && let Some(init) = self.started_meanwhile()?
            && !self.has_place(&networks, &definition.id)?
        {
            self.plug_in(&networks, &attachment, &definition, init.pid)?;
        }
        definition.tell(&self.root, "connect", Some(&self.record.id));
        Ok(())
    }

    /// Takes it out of a network.
    pub fn leave_network(&mut self, network: &str) -> Result<()> {
        let _alone = self.lock_networks()?;
        let networks = networks(&self.root);
        let asks_for = |a: &Attachment| a.network == network;
        let definition = match networks.find(network) {
            // The network went while nobody ran in it.
            Err(error) if error.is::<NoSuchNetwork>() && self.record.networks.iter().any(asks_for) => {
                return self.rewrite(|record| {
                    record.networks.retain(|a| !asks_for(a));
                    Ok(())
                });
            }
            found => found?,
        };
        if !self.is_in(&networks, &definition.id) && !self.has_place(&networks, &definition.id)? {
            bail!("container {} is not connected to network {}", self.record.id, definition.name);
        }
        let (kept, mut init) = self.settle()?;
        if init.is_none() && kept.is_none() {
            // One that is about to be started again keeps its places meanwhile.
            init = self.started_meanwhile()?;
        }
        let mut published = Ok(());
        if let Some(init) = init {
            published = self.unplug(&networks, &definition, init.pid)?;
        }
        self.rewrite(|record| {
            record.networks.retain(|a| !networks.find(&a.network).is_ok_and(|d| d.id == definition.id));
            Ok(())
        })?;
        if init.is_none() {
            // It gets the places that are left anew.
            self.ask(&[(Request::FreePorts, &[])])?;
            self.release_networks()?;
        }
        definition.tell(&self.root, "disconnect", Some(&self.record.id));
        published.with_context(|| format!("publish the ports of {} through its next network", self.record.name))
    }

    /// Disconnects it, while it runs. Whether its ports lead to it by its next network is another result.
    fn unplug(&self, networks: &Networks, from: &Definition, pid: i32) -> Result<Result<()>> {
        let (names, ports) = (Names::of(&self.record), self.record.ports_to_publish());
        let guest = guest(&self.record, &names, &ports);
        if !networks.leave(&guest, from, pid)? {
            return Ok(Ok(()));
        }
        let freed = self.ask(&[(Request::FreePorts, &[])]);
        Ok(freed.and_then(|()| networks.publish(&guest)).and_then(|connection| self.hand_over(&connection)))
    }

    /// Connects it, while it runs.
    fn plug_in(&self, networks: &Networks, attachment: &Attachment, to: &Definition, pid: i32) -> Result<()> {
        let (names, ports) = (Names::of(&self.record), self.record.ports_to_publish());
        let guest = guest(&self.record, &names, &ports);
        networks.join(&guest, attachment, pid)?;
        let published = networks.publish(&guest).and_then(|connection| self.hand_over(&connection));
        if published.is_err() {
            networks.leave(&guest, to, pid)?;
        }
        published
    }

    /// Waits while somebody starts it. It runs then, or cannot be started as long as its lock is kept, or waits, with
    /// neither, to be started again.
    fn settle(&self) -> Result<(Option<Ownership>, Option<ProcessId>)> {
        loop {
            match take_when_free(self) {
                Ok(kept) => return Ok((Some(kept), None)),
                Err(error) if error.is::<AlreadyRunning>() => {
                    let snapshot = self.snapshot()?;
                    if snapshot.status.is_up() {
                        return Ok((None, snapshot.init()));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The first process, if its supervisor has started it again by the time it answers.
    fn started_meanwhile(&self) -> Result<Option<ProcessId>> {
        self.ask(&[(Request::Detach, &[])])?;
        Ok(self.snapshot()?.init())
    }

    /// Nobody else connects or disconnects it meanwhile; what others have done before is known.
    fn lock_networks(&mut self) -> Result<Lock> {
        let path = self.dir().join("networks.lock");
        let lock = Lock::wait(&path, LockMode::Exclusive).context("lock the container's networks")?;
        self.record = Containers::open(&self.root).find(&self.record.id)?.record;
        Ok(lock)
    }

    /// Has its supervisor hold what was claimed for it.
    fn hand_over(&self, connection: &Connection) -> Result<()> {
        let holds: Vec<BorrowedFd<'_>> = connection.holds().iter().map(AsFd::as_fd).collect();
        let requests: Vec<_> = holds.chunks(MAX_DESCRIPTORS).map(|some| (Request::HoldPorts, some)).collect();
        self.ask(&requests)
    }

    /// Asks its supervisor, if it has one, and waits until that has heeded all: it hangs up when it has.
    fn ask(&self, requests: &[(Request<'_>, &[BorrowedFd<'_>])]) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let Some(socket) = self.connect()? else { return Ok(()) };
        let talk = || -> io::Result<()> {
            for (request, fds) in requests.iter().chain(&[(Request::Detach, &[][..])]) {
                socket.send_with(&[IoSlice::new(&request.encode())], fds)?;
            }
            while !socket.receive_message()?.0.is_empty() {}
            Ok(())
        };
        match talk() {
            // It has ended meanwhile, and holds nothing.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
            other => other.context("tell the supervisor of its ports"),
        }
    }

    /// Whether it is in a network now.
    fn has_place(&self, networks: &Networks, id: &str) -> Result<bool> {
        Ok(networks.endpoints_of(&self.record.id)?.iter().any(|endpoint| endpoint.network == id))
    }

    /// Whether it is to be in a network.
    fn is_in(&self, networks: &Networks, id: &str) -> bool {
        self.record.networks.iter().any(|a| networks.find(&a.network).is_ok_and(|d| d.id == id))
    }
}

/// Has links name containers by their ids. In users' networks a container may come later.
///
/// # Errors
/// One that is not there.
pub(super) fn settle_links(root: &Root, attachment: &mut Attachment) -> Result<()> {
    for link in &mut attachment.links {
        match Containers::open(root).find(&link.container) {
            Ok(found) => link.container = found.record.id,
            Err(error) if error.is::<NoSuchContainer>() && attachment.network != DEFAULT => {}
            Err(error) => return Err(error).with_context(|| format!("could not get container for {}", link.container)),
        }
    }
    Ok(())
}

fn guest<'a>(record: &'a Record, names: &'a Names, ports: &'a [crate::network::ports::Publish]) -> Guest<'a> {
    Guest { id: &record.id, name: &record.name, own_names: &names.own, host_names: &names.host, ports, hosts: None }
}
