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

mod commands;
mod hasher;
mod keeping;
mod names;
mod uplink;

use self::hasher::PortHasher;
use self::keeping::Run;
pub(crate) use self::names::NameServer;
use self::uplink::UplinkPort;
use crate::command::{Command, Handover, Neighbor};
use crate::pool::Pool;
use crate::state::PortFiles;
use crate::sys::{self, udp::Received as Datagrams};
use crate::tap::{Received, Tap};
use crate::tunnel::{self, Tunnel};
use crossbeam_channel::Receiver;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use overlay::vxlan;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;
use switch::{DropReason, Exit, Fate, Origin, PortId, ShardId, Switch};
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

/// The clock of all shards: time since the machine started, so that what a process before this one noted is in the past.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    started: std::time::Instant,
    machine_had_run: Duration,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { started: std::time::Instant::now(), machine_had_run: sys::clock::since_boot() }
    }

    fn now(self) -> Instant {
        // 584 years fit.
        Instant::from_nanos((self.machine_had_run + self.started.elapsed()).as_nanos() as u64)
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
    /// Where the flows of ports are kept, if they are, and the names that pods know.
    kept: HashMap<PortId, PortFiles, BuildHasherDefault<PortHasher>>,
    /// When what has changed is to be written.
    keep_at: Option<Instant>,
    /// Not before then names.
    names_after: Instant,
    run: Run,
    flow_writes_failed: u64,
    /// Nothing is read before there are tables: what ends say to each other waits in the kernel, instead of being refused.
    awaits_tables: bool,
}

/// The channels of a shard, made before its thread starts.
pub(crate) struct Channels {
    pub(crate) commands: Receiver<Command>,
    pub(crate) inbox: Receiver<Handover>,
    pub(crate) neighbors: Vec<Neighbor>,
}

impl Shard {
    /// A shard without ports. `poll` already has the waker. With `awaits_tables` it reads nothing before there are some.
    pub(crate) fn new(
        switch: Switch,
        poll: Poll,
        clock: Clock,
        channels: Channels,
        tunnel: Tunnel,
        pool: Pool,
        awaits_tables: bool,
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
            kept: HashMap::default(),
            keep_at: None,
            names_after: Instant::ZERO,
            run: Run::default(),
            flow_writes_failed: 0,
            awaits_tables,
        })
    }

    /// The life of the thread.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.stopping {
            self.turn(&mut events);
        }
        self.keep_everything();
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
        self.keep_flows();
        self.ask_for_source_ports();
        self.wake_neighbors();
    }

    /// Sleeps until there is something to do, and lists the sources that have something.
    fn wait(&mut self, events: &mut Events) {
        let has_ready = !self.ready.is_empty() && !self.awaits_tables;
        let timeout = if !has_ready && self.inbox.is_empty() && !self.has_replies() {
            let due = [self.expire_at, self.keep_at, self.switch.deadline()].into_iter().flatten().min();
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
        if self.awaits_tables {
            return;
        }
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
            self.keep_flows_soon();
        }
        if mem::take(&mut self.saw_traffic) {
            self.keep_flows_soon();
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
}

#[cfg(test)]
mod tests;
