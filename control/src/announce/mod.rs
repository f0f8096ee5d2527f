//! Announcing LoadBalancer addresses: one living node for each, as MetalLB's L2 mode does.
//!
//! # How it works
//! Two threads. *heartbeats* tells the other nodes every [`INTERVAL`] that this one lives, hears of them, and elects for every
//! address the node that announces it ([`election`]). *announcer* has the dataplane answer for the addresses that this node won
//! and looks after the uplink; it may wait for the dataplane, which heartbeats must never do, or a node that is merely busy would
//! lose its addresses. Without LoadBalancer addresses nothing is sent.
//!
//! A node takes part while it can: with an uplink and a socket to hear the others. One that ends says so, and its addresses move
//! at once; one that dies is missed after [`DEAD_AFTER`](heartbeat::DEAD_AFTER). Nodes that do not hear each other both announce,
//! and their neighbors follow whoever spoke last.

mod election;
mod heartbeat;

use crate::log::{Level, event};
use heartbeat::{INTERVAL, Kind, Liveness};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use node::{Dataplane, UplinkState};
use overlay::vxlan::Vni;
use policy::tables::Tables;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use election::Ballot;
pub use election::announcer;

/// Datagrams taken in one go before time is looked at again: a few beats of a large cluster.
const DATAGRAMS_MAX: usize = 256;

/// How often the uplink is looked at, and a socket that could not be opened is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a node that ends says so: it does not wait to learn whether the datagram arrived.
const FAREWELLS: usize = 3;

/// What is known about announcements, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announcements {
    /// Which node announces which address, as far as this one knows.
    pub(crate) owners: BTreeMap<IpAddr, String>,
    /// Other nodes that were heard of lately.
    pub(crate) alive: Vec<String>,
    /// Why this node takes no part.
    pub(crate) hindrance: Option<String>,
}

/// Who takes part, and where.
#[derive(Clone, Debug)]
pub(crate) struct AnnouncerConfig {
    /// metadata.name of this node.
    pub(crate) node_name: String,
    /// This node's addresses on the underlay.
    pub(crate) addresses: Vec<IpAddr>,
    /// UDP port of the heartbeats.
    pub(crate) port: u16,
    /// VNI of the overlay.
    pub(crate) vni: Vni,
    /// Whether another process goes on when this one ends: others are told nothing, and take over if it is silent for too long.
    pub(crate) is_succeeded: bool,
}

/// A running announcer. Stops, and tells the other nodes so unless it is succeeded, when it is dropped.
pub(crate) struct Announcer {
    shared: Arc<Shared>,
    wake: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    seen: Mutex<Announcements>,
}

impl Shared {
    /// Tells the state of the uplink; whether it is another one than before. Nobody waits with the inbox locked: the agent puts
    /// its tables in there.
    fn set_uplink(&self, uplink: Result<(), String>) -> bool {
        let mut inbox = lock(&self.inbox);
        let is_other = inbox.uplink != uplink;
        inbox.uplink = uplink;
        is_other
    }
}

/// What the heartbeats' thread is told.
struct Inbox {
    plan: Option<Plan>,
    uplink: Result<(), String>,
    stop: bool,
}

/// What the tables in force mean for announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    ballots: Vec<Ballot>,
    /// Addresses of the other nodes, by name.
    peers: BTreeMap<String, Vec<IpAddr>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Announcer {
    /// Starts both threads. Nothing is announced until [`Announcer::set_tables`].
    pub(crate) fn start(config: AnnouncerConfig, dataplane: Arc<Dataplane>) -> io::Result<Announcer> {
        let inbox = Inbox { plan: None, uplink: Err("the uplink was not looked at yet".to_owned()), stop: false };
        let shared = Arc::new(Shared { inbox: Mutex::new(inbox), seen: Mutex::default() });
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (won, wins) = channel();
        let mut announcer = Announcer { shared: shared.clone(), wake: wake.try_clone()?, threads: Vec::new() };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let beats = Beats::new(config, shared.clone(), woken, won);
        announcer.threads.push(thread("heartbeats").spawn(move || beats.run())?);
        announcer.threads.push(thread("announcer").spawn(move || announce(&dataplane, &wins, &shared, &wake))?);
        Ok(announcer)
    }

    /// Announces by `tables` from here on.
    pub(crate) fn set_tables(&self, tables: &Tables, own: &str) {
        let others = tables.nodes.iter().filter(|node| *node.name != *own);
        let ballots = election::ballots(tables);
        let peers = match ballots.is_empty() {
            true => BTreeMap::new(),
            false => others.map(|node| (node.name.to_string(), node.addresses.clone())).collect(),
        };
        lock(&self.shared.inbox).plan = Some(Plan { ballots, peers });
        ring(&self.wake);
    }

    /// What is known.
    pub(crate) fn announcements(&self) -> Announcements {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        lock(&self.shared.inbox).stop = true;
        ring(&self.wake);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Wakes the heartbeats' thread. A full pipe wakes it as well.
fn ring(mut wake: &UnixStream) {
    let _ = wake.write(&[0]);
}

/// Has the dataplane answer for what was won, until the other thread ends.
fn announce(dataplane: &Dataplane, wins: &Receiver<BTreeSet<IpAddr>>, shared: &Shared, wake: &UnixStream) {
    loop {
        let uplink = match dataplane.uplink_status().state {
            UplinkState::Up => Ok(()),
            UplinkState::Off => Err("the node runs without uplink".to_owned()),
            UplinkState::Missing(reason) => Err(format!("there is no uplink: {reason}")),
        };
        if shared.set_uplink(uplink) {
            ring(wake);
        }
        let mut won = match wins.recv_timeout(LOOK_EVERY) {
            Ok(won) => won,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        won = wins.try_iter().last().unwrap_or(won);
        if dataplane.announce(&won).is_err() {
            return;
        }
    }
}

/// The heartbeats' thread.
struct Beats {
    config: AnnouncerConfig,
    shared: Arc<Shared>,
    woken: UnixStream,
    won: Sender<BTreeSet<IpAddr>>,
    plan: Plan,
    /// One per address of this node, or why not.
    sockets: Vec<Result<UdpSocket, String>>,
    liveness: Liveness,
    last_won: BTreeSet<IpAddr>,
    hindrance: Option<String>,
    /// Who took part in the last election; `None` if there is to be another one whoever does.
    electorate: Option<(bool, Vec<String>)>,
    next_beat: Instant,
    next_open: Instant,
}

impl Beats {
    fn new(config: AnnouncerConfig, shared: Arc<Shared>, woken: UnixStream, won: Sender<BTreeSet<IpAddr>>) -> Beats {
        let now = Instant::now();
        Beats {
            config,
            shared,
            woken,
            won,
            plan: Plan::default(),
            sockets: Vec::new(),
            liveness: Liveness::new(now),
            last_won: BTreeSet::new(),
            hindrance: None,
            electorate: None,
            next_beat: now,
            next_open: now,
        }
    }

    fn run(mut self) {
        while !self.take_orders() {
            let now = Instant::now();
            if !self.plan.ballots.is_empty() {
                self.open_sockets(now);
                self.receive(now);
                self.beat(now);
            }
            self.elect(now);
            self.wait();
        }
        if self.config.is_succeeded {
            return;
        }
        // No longer answering comes before others begin to.
        let _ = self.won.send(BTreeSet::new());
        self.tell(Kind::Leaving, FAREWELLS);
    }

    /// Takes over what changed; whether to stop.
    fn take_orders(&mut self) -> bool {
        let mut bytes = [0; 64];
        while self.woken.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
        let mut inbox = lock(&self.shared.inbox);
        let (plan, uplink, stop) = (inbox.plan.take(), inbox.uplink.clone(), inbox.stop);
        drop(inbox);
        if let Some(plan) = plan {
            if self.plan.ballots.is_empty() && !plan.ballots.is_empty() {
                self.liveness = Liveness::new(Instant::now());
                self.next_beat = Instant::now();
            }
            if plan.ballots.is_empty() {
                self.sockets.clear();
            }
            self.liveness.retain(|name| plan.peers.contains_key(name));
            self.plan = plan;
            self.electorate = None;
        }
        let errors: Vec<&str> =
            self.sockets.iter().filter_map(|socket| Some(socket.as_ref().err()?.as_str())).collect();
        let deaf = !self.sockets.is_empty() && errors.len() == self.sockets.len();
        let hindrance = uplink.err().or_else(|| deaf.then(|| errors.join("; ")));
        if self.hindrance.is_none() && hindrance.is_some() {
            self.tell(Kind::Leaving, 1);
        }
        if self.hindrance != hindrance {
            self.hindrance = hindrance;
            self.electorate = None;
        }
        stop
    }

    /// Opens the sockets that are not: one per address, so that the others see which node speaks. An IPv6 address cannot be used
    /// while the kernel looks for doubles of it, so it is tried again.
    fn open_sockets(&mut self, now: Instant) {
        if !self.sockets.is_empty() && (now < self.next_open || self.sockets.iter().all(Result::is_ok)) {
            return;
        }
        self.next_open = now + LOOK_EVERY;
        let before = std::mem::take(&mut self.sockets);
        let open = |address: &IpAddr| {
            let socket = UdpSocket::bind((*address, self.config.port))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let mut before = before.into_iter();
        for address in &self.config.addresses {
            let socket = match before.next() {
                Some(Ok(open)) => Ok(open),
                failed => {
                    let opened: io::Result<UdpSocket> = open(address);
                    let opened = opened.map_err(|error| {
                        format!("heartbeats on {}: {error}", SocketAddr::new(*address, self.config.port))
                    });
                    if let (Err(error), None) = (&opened, failed) {
                        event(Level::Warn, "not heard by other nodes yet", &[("reason", error)]);
                    }
                    opened
                }
            };
            self.sockets.push(socket);
        }
    }

    fn receive(&mut self, now: Instant) {
        let mut buffer = [0; heartbeat::DATAGRAM_BYTES_MAX + 1];
        for socket in self.sockets.iter().flatten() {
            for _ in 0..DATAGRAMS_MAX {
                let (len, from) = match socket.recv_from(&mut buffer) {
                    Ok(received) => received,
                    // What a peer's kernel says about our own datagrams while its node does not run.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                    Err(_) => break,
                };
                let Some((kind, name)) = heartbeat::decode(&buffer[..len], self.config.vni) else { continue };
                let of_node =
                    self.plan.peers.get(name).is_some_and(|addresses| addresses.contains(&from.ip().to_canonical()));
                if of_node {
                    self.liveness.handle(now, kind, name);
                }
            }
        }
    }

    fn beat(&mut self, now: Instant) {
        if now >= self.next_beat && self.hindrance.is_none() {
            self.tell(Kind::Alive, 1);
            // A thread that was late does not catch up.
            self.next_beat = now + INTERVAL;
        }
    }

    /// Sends to every other node, over every family in common. What does not arrive is sent again a moment later.
    fn tell(&self, kind: Kind, times: usize) {
        let datagram = heartbeat::encode(kind, self.config.vni, &self.config.node_name);
        let sockets = self.config.addresses.iter().zip(&self.sockets);
        let sockets: Vec<(&IpAddr, &UdpSocket)> =
            sockets.filter_map(|(address, socket)| Some((address, socket.as_ref().ok()?))).collect();
        for _ in 0..times {
            for addresses in self.plan.peers.values() {
                for (own, socket) in &sockets {
                    if let Some(to) = addresses.iter().find(|to| to.is_ipv4() == own.is_ipv4()) {
                        let _ = socket.send_to(&datagram, (*to, self.config.port));
                    }
                }
            }
        }
    }

    /// Holds an election if somebody came or went, or the addresses changed.
    fn elect(&mut self, now: Instant) {
        let own = self.config.node_name.as_str();
        let takes_part = self.hindrance.is_none();
        let peers = self.plan.peers.keys().filter(|name| self.liveness.is_alive(now, name));
        let electorate = Some((takes_part, peers.cloned().collect::<Vec<_>>()));
        if self.electorate == electorate {
            return;
        }
        self.electorate = electorate;
        let lives = |name: &str| if name == own { takes_part } else { self.liveness.is_alive(now, name) };
        let mut owners = BTreeMap::new();
        for ballot in &self.plan.ballots {
            if let Some(winner) = ballot.winner(lives) {
                owners.insert(ballot.address, winner.to_string());
            }
        }
        let won: BTreeSet<IpAddr> =
            owners.iter().filter(|(_, winner)| winner.as_str() == own).map(|(address, _)| *address).collect();
        let hindrance = self.hindrance.clone().filter(|_| !self.plan.ballots.is_empty());
        *lock(&self.shared.seen) = Announcements { owners, alive: self.liveness.alive(now), hindrance };
        if won == self.last_won {
            return;
        }
        for address in won.difference(&self.last_won) {
            event(Level::Info, "announcing", &[("address", address)]);
        }
        for address in self.last_won.difference(&won) {
            event(Level::Info, "no longer announcing", &[("address", address)]);
        }
        self.last_won = won.clone();
        // The other thread ends with the dataplane; then there is nothing to announce with.
        let _ = self.won.send(won);
    }

    /// Until something is heard, somebody is due for being taken for dead, or the next beat.
    fn wait(&self) {
        let now = Instant::now();
        let until = (!self.plan.ballots.is_empty()).then(|| {
            let death = self.liveness.next_death(now);
            let beat = self.next_beat.max(now);
            death.map_or(beat, |death| death.min(beat))
        });
        let timeout = match until {
            None => PollTimeout::NONE,
            // Rounded up, so that the moment has come when the wait is over.
            Some(until) => PollTimeout::from((until.saturating_duration_since(now).as_millis() + 1).min(1000) as u16),
        };
        let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.sockets.iter().flatten().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not, the loop looks at everything again.
        let _ = poll(&mut fds, timeout);
    }
}

#[cfg(test)]
mod tests;
