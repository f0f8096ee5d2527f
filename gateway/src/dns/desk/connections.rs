//! The endpoint of DNS over TCP: the connections that pods of this node have with the cluster DNS.
//!
//! In: IP packets that policy has let through, answers, the time. Out: IP packets to the port that has the client's address, and
//! queries. The TCP is smoltcp's. Each connection has a stack's socket to itself, made when a packet comes that belongs to none: if
//! that was no SYN, the stack resets it and the socket goes again.
//!
//! Limits: connections in all and of one port, and those whose handshake goes on. One more is not answered, and its client tries
//! again: so a pod can use up its own share and not that of others.

use super::device::Queues;
use super::stream::Stream;
use smoltcp::iface::{Config, Interface};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use switch::{PortId, Query, ShardId};
use wire::FlowKey;

/// Connections of a node: 20 KiB each.
pub(super) const CONNECTIONS_MAX: usize = 1_024;

/// Connections of one port: eight ports can have their full share at once.
pub(super) const PER_PORT_MAX: usize = CONNECTIONS_MAX / 8;

/// Handshakes that go on at one port.
pub(super) const HALF_OPEN_PER_PORT_MAX: usize = 32;

/// Addresses of the cluster DNS: as many as smoltcp has room for.
pub const ADDRESSES_MAX: usize = 4;

/// A connection; the number is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ConnectionId(u64);

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// This IP packet is for what is attached to that port.
    Packet(ShardId, PortId, Vec<u8>),
    /// A client asks; to be answered with [`Connections::answer`], by nothing if there is no answer.
    Query(ConnectionId, Vec<u8>),
}

/// Counts of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounters {
    /// Connections at the moment.
    pub open: u64,
    /// Connections that came to be.
    pub accepted: u64,
    /// Packets that were not answered because too many connections were open.
    pub refused: u64,
}

#[derive(Debug)]
struct Connection {
    shard: ShardId,
    query: Query,
    stream: Stream,
    is_accepted: bool,
    /// Its place among the deadlines.
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    open: usize,
    half_open: usize,
}

/// All connections of a node.
pub(super) struct Connections {
    interface: Interface,
    device: Queues,
    ids: HashMap<(PortId, FlowKey), ConnectionId>,
    connections: HashMap<ConnectionId, Connection>,
    loads: HashMap<PortId, Load>,
    deadlines: BTreeSet<(Instant, ConnectionId)>,
    events: VecDeque<Event>,
    next: u64,
    counters: ConnectionCounters,
}

impl Connections {
    /// None yet, at these addresses, with packets of at most `mtu` bytes.
    pub(super) fn new(addresses: &[IpAddr], mtu: u16, seed: u64) -> Connections {
        let mut device = Queues::new(mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            // With a prefix of nothing every client is a neighbor: there is no route to choose.
            let all = addresses.iter().map(|addr| IpCidr::new(IpAddress::from(*addr), 0));
            all.for_each(|cidr| list.push(cidr).expect("there are at most ADDRESSES_MAX"));
        });
        Connections {
            interface,
            device,
            ids: HashMap::new(),
            connections: HashMap::new(),
            loads: HashMap::new(),
            deadlines: BTreeSet::new(),
            events: VecDeque::new(),
            next: 0,
            counters: ConnectionCounters::default(),
        }
    }

    /// A packet that a client sent.
    pub(super) fn handle_packet(&mut self, now: Instant, shard: ShardId, query: Query, packet: Vec<u8>) {
        let known = self.ids.get(&(query.port, query.asked)).copied();
        let Some(id) = known.or_else(|| self.open(now, shard, query)) else {
            self.counters.refused += 1;
            return;
        };
        self.device.received = Some(packet);
        self.drive(now, id);
    }

    /// The answer to a query; nothing if it gets none. No effect once the connection is over.
    pub(super) fn answer(&mut self, now: Instant, id: ConnectionId, message: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.stream.answer(now, message);
            self.drive(now, id);
        }
    }

    /// The client of a connection.
    pub(super) fn client(&self, id: ConnectionId) -> Option<(ShardId, PortId)> {
        self.connections.get(&id).map(|connection| (connection.shard, connection.query.port))
    }

    /// What is to be done next.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Connections::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Something is sent again, closed or given up.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            if let Some(connection) = self.connections.get_mut(&id)
                && connection.stream.until <= now
            {
                connection.stream.expire(now);
            }
            self.drive(now, id);
        }
    }

    /// A port is gone, and its connections with it.
    pub(super) fn forget_port(&mut self, port: PortId) {
        let of_port = self.connections.iter().filter(|(_, connection)| connection.query.port == port);
        let ids: Vec<ConnectionId> = of_port.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.remove(id));
    }

    pub(super) fn counters(&self) -> ConnectionCounters {
        ConnectionCounters { open: self.connections.len() as u64, ..self.counters }
    }

    /// Makes a place for a connection, if there is one left.
    fn open(&mut self, now: Instant, shard: ShardId, query: Query) -> Option<ConnectionId> {
        let load = self.loads.get(&query.port).copied().unwrap_or_default();
        if self.connections.len() >= CONNECTIONS_MAX
            || load.open >= PER_PORT_MAX
            || load.half_open >= HALF_OPEN_PER_PORT_MAX
        {
            return None;
        }
        let id = ConnectionId(self.next);
        self.next += 1;
        let stream = Stream::listen(now, query.asked.dst());
        let deadline = stream.until;
        self.ids.insert((query.port, query.asked), id);
        self.connections.insert(id, Connection { shard, query, stream, is_accepted: false, deadline });
        self.deadlines.insert((deadline, id));
        let load = self.loads.entry(query.port).or_default();
        load.open += 1;
        load.half_open += 1;
        Some(id)
    }

    /// Has the stack do what is to be done for one connection, and collects what comes of it.
    fn drive(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Connection { shard, query, stream, .. } = connection;
        self.interface.poll(now, &mut self.device, &mut stream.sockets);
        while let Some(message) = stream.take_query(now) {
            self.events.push_back(Event::Query(id, message));
        }
        stream.flush(now);
        self.interface.poll(now, &mut self.device, &mut stream.sockets);
        // What the client has room for is known only now.
        stream.flush(now);
        let (shard, port) = (*shard, query.port);
        let packets = self.device.transmitted.drain(..);
        self.events.extend(packets.map(|packet| Event::Packet(shard, port, packet)));
        if stream.is_listening() || stream.is_over() {
            return self.remove(id);
        }
        if !connection.is_accepted && !stream.is_half_open() {
            connection.is_accepted = true;
            connection.stream.until = now + super::stream::IDLE;
            self.counters.accepted += 1;
            self.loads.entry(port).and_modify(|load| load.half_open -= 1);
        }
        let stream = &connection.stream;
        let next = self.interface.poll_at(now, &stream.sockets);
        let deadline = next.map_or(stream.until, |at| at.max(now).min(stream.until));
        self.deadlines.remove(&(connection.deadline, id));
        connection.deadline = deadline;
        self.deadlines.insert((deadline, id));
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(Connection { query, is_accepted, deadline, .. }) = self.connections.remove(&id) else { return };
        self.ids.remove(&(query.port, query.asked));
        self.deadlines.remove(&(deadline, id));
        if let Some(load) = self.loads.get_mut(&query.port) {
            load.open -= 1;
            load.half_open -= usize::from(!is_accepted);
            if load.open == 0 {
                self.loads.remove(&query.port);
            }
        }
    }
}

#[cfg(test)]
mod tests;
