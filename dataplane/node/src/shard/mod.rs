//! One thread of the dataplane: its poll, its switch, its ports, its tunnel sockets.
//!
//! # How it works
//! [`Shard::run`] is the whole runtime: sleep until something is ready or a flow expires, then take one *turn*: commands
//! from control, frames from other shards, replies of the name server's desk, then every source (port or tunnel socket) that has something, each at most
//! [`FRAMES_PER_TURN`]; at the end what the switch held and now lets go, and the tunnel's batches, leave and other shards are
//! woken. Events are edge-triggered: a source that is not drained stays in the `ready` list, and the next turn begins without
//! sleeping.
//!
//! Time is read once per turn. Nothing is allocated, locked or logged per frame: buffers come from the pool, and a frame
//! stays in the buffer that it was read into until it is written.

mod hasher;
mod names;
mod uplink;

use self::hasher::PortHasher;
pub(crate) use self::names::NameServer;
use self::uplink::UplinkPort;
use crate::command::{Command, Handover, Neighbor};
use crate::pool::Pool;
use crate::sys::udp::Received as Datagrams;
use crate::tap::{Received, Tap};
use crate::tunnel::{self, Tunnel};
use crate::{Counters, DnsStatus};
use crossbeam_channel::Receiver;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use overlay::vxlan;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;
use switch::{DropReason, Exit, Fate, Origin, PortConfig, PortId, PortKind, ShardId, Switch};
use wire::{Frame, Instant};

/// Frames (of the tunnel: receive calls) of one source per turn. More raises the latency of the other sources, fewer the
/// share of a turn's fixed cost; 64 is where the gain levels off.
const FRAMES_PER_TURN: usize = 64;

/// Flow entries looked at per turn to find expired ones: some microseconds.
const EXPIRE_BUDGET: usize = 256;

/// After traffic expiry is looked at again at the latest by then, because flows that it opened may be due before those that
/// were known. An idle shard never wakes more often.
const EXPIRE_CHECK: Duration = Duration::from_secs(1);

/// Events taken from the kernel per turn; the next poll returns the rest.
const EVENTS_MAX: usize = 256;

/// Token of the waker: a command or a handover has arrived.
pub(crate) const WAKE: Token = Token(0);
/// Tokens from here on are the tunnel's receivers, at most one per family.
const TUNNEL_BASE: usize = 1;
/// Tokens from here on are the uplink's interfaces.
const UPLINK_BASE: usize = 8;
/// Tokens from here on are ports, by number.
const PORT_BASE: usize = 16;

/// The clock of all shards: time since the dataplane started.
#[derive(Clone, Copy)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(std::time::Instant::now())
    }

    fn now(self) -> Instant {
        // 584 years fit.
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

/// Something that frames are read from.
#[derive(Clone, Copy)]
enum Source {
    Tunnel(usize),
    Port(PortId),
    /// The uplink's interface of this number.
    Uplink(usize),
}

/// A port's device.
struct Port {
    tap: Tap,
    is_host: bool,
    /// It is in the ready list.
    is_ready: bool,
}

/// One shard; [`Shard::run`] is its thread.
pub(crate) struct Shard {
    id: ShardId,
    switch: Switch,
    poll: Poll,
    clock: Clock,
    /// When this turn began.
    now: Instant,
    commands: Receiver<Command>,
    inbox: Receiver<Handover>,
    /// All shards by number, this one included.
    neighbors: Vec<Neighbor>,
    tunnel: Tunnel,
    pool: Pool,
    ports: HashMap<PortId, Port, BuildHasherDefault<PortHasher>>,
    /// On one shard of a node.
    uplink: Option<UplinkPort>,
    /// If the node answers the cluster DNS.
    names: Option<NameServer>,
    ready: VecDeque<Source>,
    /// Which of the tunnel's receivers are in the ready list.
    tunnel_ready: [bool; 2],
    /// Which other shards got frames in this turn.
    to_wake: Vec<bool>,
    expire_at: Option<Instant>,
    saw_traffic: bool,
    stopping: bool,
    /// What a receive call of the tunnel was split into.
    pieces: Vec<Frame>,
    /// A segment for a device without offload.
    scratch: Vec<u8>,
    ports_lost: u64,
}

/// The channels of a shard, made before its thread starts.
pub(crate) struct Channels {
    pub(crate) commands: Receiver<Command>,
    pub(crate) inbox: Receiver<Handover>,
    pub(crate) neighbors: Vec<Neighbor>,
}

impl Shard {
    /// A shard without ports. `poll` already has the waker.
    pub(crate) fn new(
        switch: Switch,
        poll: Poll,
        clock: Clock,
        channels: Channels,
        tunnel: Tunnel,
        pool: Pool,
    ) -> std::io::Result<Shard> {
        for (which, socket) in tunnel.receivers().iter().enumerate() {
            let token = Token(TUNNEL_BASE + which);
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        }
        Ok(Shard {
            id: switch.config().shard,
            switch,
            poll,
            clock,
            now: clock.now(),
            commands: channels.commands,
            inbox: channels.inbox,
            to_wake: vec![false; channels.neighbors.len()],
            neighbors: channels.neighbors,
            tunnel,
            pool,
            ports: HashMap::default(),
            uplink: None,
            names: None,
            ready: VecDeque::new(),
            tunnel_ready: [false; 2],
            expire_at: None,
            saw_traffic: false,
            stopping: false,
            pieces: Vec::new(),
            scratch: Vec::new(),
            ports_lost: 0,
        })
    }

    /// The life of the thread.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.stopping {
            self.turn(&mut events);
        }
    }

    /// One pass: sleep until there is something to do, then do a bounded part of it.
    fn turn(&mut self, events: &mut Events) {
        self.wait(events);
        self.now = self.clock.now();
        self.take_commands();
        self.take_handovers();
        self.take_replies();
        self.serve_ready();
        self.expire();
        self.release();
        self.tunnel.flush(self.now, &mut self.switch);
        self.ask_for_source_ports();
        self.wake_neighbors();
    }

    /// Sleeps until there is something to do, and lists the sources that have something.
    fn wait(&mut self, events: &mut Events) {
        let timeout = if self.ready.is_empty() && self.inbox.is_empty() && !self.has_replies() {
            let due = [self.expire_at, self.switch.deadline()].into_iter().flatten().min();
            due.map(|at| at.saturating_since(self.now))
        } else {
            Some(Duration::ZERO)
        };
        if self.poll.poll(events, timeout).is_err() {
            // Interrupted by a signal: the turn finds what is ready anyway.
            return;
        }
        for token in events.iter().map(|event| event.token()).filter(|token| *token != WAKE) {
            match token.0.checked_sub(PORT_BASE) {
                Some(number) => self.mark_port_ready(PortId(number as u32)),
                None if token.0 >= UPLINK_BASE => self.mark_uplink_ready(token.0 - UPLINK_BASE),
                None => self.mark_tunnel_ready(token.0 - TUNNEL_BASE),
            }
        }
    }

    fn mark_port_ready(&mut self, id: PortId) {
        if let Some(port) = self.ports.get_mut(&id)
            && !mem::replace(&mut port.is_ready, true)
        {
            self.ready.push_back(Source::Port(id));
        }
    }

    fn mark_tunnel_ready(&mut self, which: usize) {
        if !mem::replace(&mut self.tunnel_ready[which], true) {
            self.ready.push_back(Source::Tunnel(which));
        }
    }

    /// Gives every ready source its share of the turn; one that has more stays in the list.
    fn serve_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(source) = self.ready.pop_front() else { return };
            self.saw_traffic = true;
            let drained = match source {
                Source::Port(id) => self.serve_port(id),
                Source::Tunnel(which) => self.serve_tunnel(which),
                Source::Uplink(which) => self.serve_uplink(which),
            };
            match source {
                _ if !drained => self.ready.push_back(source),
                Source::Tunnel(which) => self.tunnel_ready[which] = false,
                Source::Uplink(which) => self.clear_uplink_ready(which),
                Source::Port(id) => {
                    if let Some(port) = self.ports.get_mut(&id) {
                        port.is_ready = false;
                    }
                }
            }
        }
    }

    /// Reads frames that a port's attached side sent; `true` if none is left.
    fn serve_port(&mut self, id: PortId) -> bool {
        let mut frame = self.pool.take();
        let mut drained = false;
        for _ in 0..FRAMES_PER_TURN {
            let Some(port) = self.ports.get(&id) else {
                drained = true;
                break;
            };
            match port.tap.receive(&mut frame) {
                Received::Frame => {
                    let fate = if port.is_host {
                        self.switch.from_host(self.now, id, &mut frame)
                    } else {
                        self.switch.from_pod(self.now, id, &mut frame)
                    };
                    self.dispatch(fate, &mut frame);
                }
                Received::Bad(reason) => self.switch.count_drop(reason),
                Received::Nothing | Received::Failed => {
                    drained = true;
                    break;
                }
                Received::Gone => self.lose_port(id),
            }
        }
        self.pool.put(frame);
        drained
    }

    /// Receives datagrams from peers; `true` if none is left.
    fn serve_tunnel(&mut self, which: usize) -> bool {
        let mut frame = self.pool.take();
        let mut pieces = mem::take(&mut self.pieces);
        let mut drained = false;
        for _ in 0..FRAMES_PER_TURN {
            let Some(datagrams) = self.tunnel.receive(which, &mut frame) else {
                drained = true;
                break;
            };
            if datagrams.truncated {
                self.switch.count_drop(DropReason::ReceiveTruncated);
                continue;
            }
            let stride = datagrams.segment_bytes.unwrap_or(0);
            let report =
                wire::merge_received(&mut frame, stride, vxlan::HEADER_BYTES, || self.pool.take(), &mut pieces);
            self.tunnel.counters.tunnel_rx_datagrams += u64::from(report.datagrams);
            for _ in 0..report.bad_checksum {
                self.switch.count_drop(DropReason::BadChecksum);
            }
            if !frame.is_empty() {
                self.take_from_peer(&datagrams, &mut frame);
            }
            for mut piece in pieces.drain(..) {
                self.take_from_peer(&datagrams, &mut piece);
                self.pool.put(piece);
            }
        }
        self.pieces = pieces;
        self.pool.put(frame);
        drained
    }

    fn take_from_peer(&mut self, datagrams: &Datagrams, frame: &mut Frame) {
        wire::adopt_super_frame(frame, vxlan::HEADER_BYTES, self.tunnel.mtu());
        let fate = self.switch.from_peer(self.now, datagrams.sender, frame);
        // The low bit is set in exactly the marks that the inner packet may have to take over: CE and ECT(1).
        if let Fate::Forward(_) = fate
            && datagrams.traffic_class & 1 != 0
            && let Err(reason) = tunnel::pop_ecn(frame, datagrams.traffic_class)
        {
            return self.switch.count_drop(reason);
        }
        self.dispatch(fate, frame);
    }

    /// Takes frames that other shards handed over, and gives their buffers back.
    fn take_handovers(&mut self) {
        for _ in 0..FRAMES_PER_TURN {
            let Ok(Handover { port, origin, mut frame, owner }) = self.inbox.try_recv() else { return };
            self.saw_traffic = true;
            let fate = self.switch.to_port(self.now, port, origin, &mut frame);
            self.dispatch(fate, &mut frame);
            // Full only if the owner has buffers enough; then this one is freed.
            let _ = self.neighbors[usize::from(owner.0)].returns.try_send(frame);
        }
    }

    /// Sends a frame where the switch said. Afterwards `frame` is a buffer without meaning.
    fn dispatch(&mut self, fate: Fate, frame: &mut Frame) {
        match fate {
            Fate::Forward(exit) | Fate::Answer(exit) => match exit {
                Exit::Port(id) => self.write(id, frame),
                Exit::Peer(peer) => self.tunnel.send(self.now, peer, frame, &mut self.switch),
                Exit::Shard(shard, port, origin) => self.hand_over(shard, port, origin, frame),
            },
            Fate::Ask(query) => self.ask(&query, frame),
            Fate::Held | Fate::Drop(_) => {}
        }
    }

    fn write(&mut self, id: PortId, frame: &mut Frame) {
        let Some(port) = self.ports.get(&id) else {
            if !self.write_uplink(id, frame) {
                self.switch.count_drop(DropReason::PortGone);
            }
            return;
        };
        if let Err(error) = port.tap.send(frame, &mut self.scratch) {
            self.switch.count_drop(error.reason);
            if error.gone {
                self.lose_port(id);
            }
        }
    }

    fn hand_over(&mut self, shard: ShardId, port: PortId, origin: Origin, frame: &mut Frame) {
        let index = usize::from(shard.0);
        let full = mem::replace(frame, self.pool.take());
        match self.neighbors[index].inbox.try_send(Handover { port, origin, frame: full, owner: self.id }) {
            Ok(()) => self.to_wake[index] = true,
            Err(refused) => {
                self.pool.put(refused.into_inner().frame);
                self.switch.count_drop(DropReason::HandoverFull);
            }
        }
    }

    fn wake_neighbors(&mut self) {
        for (wake, neighbor) in self.to_wake.iter_mut().zip(&self.neighbors) {
            if mem::take(wake) {
                // Fails only if the counter of the eventfd is full, and then the other side wakes anyway.
                let _ = neighbor.waker.wake();
            }
        }
    }

    fn expire(&mut self) {
        let due = [self.expire_at, self.switch.deadline()].into_iter().flatten().min();
        if due.is_none_or(|at| self.now >= at) {
            self.expire_at = self.switch.expire(self.now, EXPIRE_BUDGET);
        }
        if mem::take(&mut self.saw_traffic) {
            let check = self.now + EXPIRE_CHECK;
            self.expire_at = Some(self.expire_at.map_or(check, |at| at.min(check)));
        }
    }

    /// Sends what the switch held until now.
    fn release(&mut self) {
        if !self.switch.has_pending() {
            return;
        }
        let mut frame = self.pool.take();
        while let Some(fate) = self.switch.release(self.now, &mut frame) {
            self.dispatch(fate, &mut frame);
        }
        self.pool.put(frame);
    }

    /// A device vanished under us: somebody deleted it.
    fn lose_port(&mut self, id: PortId) {
        if self.remove_port(id) {
            self.ports_lost += 1;
        }
    }

    fn remove_port(&mut self, id: PortId) -> bool {
        // Closing the descriptor also takes it out of the poll.
        let known = self.ports.remove(&id).is_some();
        if known {
            self.switch.remove_port(id);
            if let Some(names) = &self.names {
                names.forget_port(id);
            }
        }
        known
    }

    fn add_port(&mut self, config: PortConfig, tap: Tap) -> std::io::Result<()> {
        let token = Token(PORT_BASE + config.id.0 as usize);
        self.poll.registry().register(&mut SourceFd(&tap.raw_fd()), token, Interest::READABLE)?;
        let is_host = config.kind == PortKind::Host;
        self.ports.insert(config.id, Port { tap, is_host, is_ready: false });
        self.switch.add_port(config);
        Ok(())
    }

    /// Does what control asked. An answer that nobody waits for is no error.
    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::AddPort(config, tap, reply) => {
                    let _ = reply.send(self.add_port(config, tap));
                }
                Command::RemovePort(id, reply) => {
                    self.remove_port(id);
                    let _ = reply.send(());
                }
                Command::AddUplink(config, uplink, reply) => {
                    let _ = reply.send(self.add_uplink(config, uplink));
                }
                Command::SetInterfaces(interfaces) => self.set_interfaces(interfaces),
                Command::NextHop(destination, hop) => {
                    if let Some(uplink) = &mut self.uplink {
                        uplink.io.learn(self.now, destination, hop);
                    }
                }
                Command::ForgetNextHops => {
                    if let Some(uplink) = &mut self.uplink {
                        uplink.io.forget_next_hops();
                    }
                }
                Command::GrantSourcePorts(pool, ports) => self.switch.grant_source_ports(pool, ports),
                Command::SourcePortsGrow(pool, grow) => self.switch.set_source_ports_growing(pool, grow),
                Command::SetTables(tables, reply) => {
                    self.tunnel.set_peers(&tables.peers, self.switch.config().vxlan_port);
                    let _ = reply.send(self.switch.set_tables(tables));
                }
                Command::Counters(reply) => {
                    let mut io = self.tunnel.counters;
                    io.ports_lost = self.ports_lost;
                    if let Some(uplink) = &self.uplink {
                        uplink.io.count(&mut io);
                    }
                    let shards = self.names.as_ref().map(NameServer::counters).unwrap_or_default();
                    let dns = DnsStatus { shards, ..DnsStatus::default() };
                    let _ = reply.send(Counters { switch: self.switch.counters(), io, dns });
                }
                Command::ServiceHits(reply) => {
                    let _ = reply.send(self.switch.service_hits());
                }
                Command::PolicyHits(reply) => {
                    let _ = reply.send(self.switch.policy_hits());
                }
                Command::DropsSeen(reply) => {
                    let _ = reply.send(self.switch.drops_seen(self.now));
                }
                Command::Flows(max, reply) => {
                    let _ = reply.send(self.switch.flows(self.now, max));
                }
                Command::Stop => self.stopping = true,
            }
        }
    }
}

#[cfg(test)]
mod tests;
