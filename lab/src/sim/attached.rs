//! A stack with its servers and clients, attached to a port.

use super::associations::SctpServer;
use super::clients::Client;
use super::servers::{TcpServer, UdpServer};
use super::stack::{Stack, StackConfig};
use super::{NodeId, Place, Report, TaskId};
use crate::probe::ProbeProtocol;
use ipnet::IpNet;
use std::net::IpAddr;
use switch::{PortId, ShardId};
use wire::{Frame, Instant};

/// Clients use ports from here up, servers those below: so who opened a conversation can be told from its ports.
pub(super) const CLIENT_PORTS_START: u16 = 32_768;

/// Client ports that a place uses before it comes to those of the next one.
const CLIENTS_PER_PLACE: usize = 251;

/// A pod or a node's own stack.
pub(super) struct Attached {
    pub(super) place: Place,
    pub(super) node: NodeId,
    pub(super) port: PortId,
    pub(super) shard: ShardId,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) stack: Stack,
    pub(super) clients: Vec<(TaskId, Client)>,
    /// When the stack is polled next.
    pub(super) wake_at: Option<Instant>,
    tcp: Vec<TcpServer>,
    udp: Vec<UdpServer>,
    sctp: Option<SctpServer>,
    clients_made: u16,
}

impl Attached {
    pub(super) fn new(
        place: Place,
        node: NodeId,
        (port, shard): (PortId, ShardId),
        config: &StackConfig,
        listen: &[(ProbeProtocol, u16)],
    ) -> Attached {
        let mut stack = Stack::new(config);
        let identity = place.to_string();
        let ports = |protocol| listen.iter().filter(move |(p, _)| *p == protocol).map(|(_, port)| *port);
        let tcp = ports(ProbeProtocol::Tcp).map(|port| TcpServer::new(&mut stack, port, &identity)).collect();
        let udp = ports(ProbeProtocol::Udp).map(|port| UdpServer::new(&mut stack, port, &identity)).collect();
        let sctp: Vec<u16> = ports(ProbeProtocol::Sctp).collect();
        let sctp = (!sctp.is_empty()).then(|| SctpServer::new(&mut stack, sctp, &identity, config.seed));
        Attached {
            place,
            node,
            port,
            shard,
            addresses: config.addresses.iter().map(IpNet::addr).collect(),
            stack,
            clients: Vec::new(),
            wake_at: None,
            tcp,
            udp,
            sctp,
            clients_made: 0,
        }
    }

    /// Lets the client ports of the place that was attached as number `index` begin elsewhere than those of another: a pod with the
    /// address of one that is gone would meet the connections which that one left behind at servers, and smoltcp's do not answer
    /// an opener that begins anew.
    pub(super) fn spread_client_ports(&mut self, index: usize) {
        self.clients_made = (index * CLIENTS_PER_PLACE % usize::from(u16::MAX - CLIENT_PORTS_START)) as u16;
    }

    /// A client port that was not used for a long time.
    pub(super) fn next_client_port(&mut self) -> u16 {
        self.clients_made = (self.clients_made + 1) % (u16::MAX - CLIENT_PORTS_START);
        CLIENT_PORTS_START + self.clients_made
    }

    /// Lets the stack, its servers and its clients do what is to do. Gives the frames that they sent; reports of clients are
    /// written to `reports`.
    pub(super) fn turn(&mut self, now: Instant, reports: &mut [Report]) -> Vec<Frame> {
        self.stack.poll(now);
        self.tcp.iter_mut().for_each(|server| server.step(&mut self.stack));
        self.udp.iter_mut().for_each(|server| server.step(&mut self.stack));
        self.sctp.iter_mut().for_each(|server| server.step(&mut self.stack));
        self.clients.retain_mut(|(task, client)| {
            let goes_on = client.step(&mut self.stack, now);
            reports[task.0].clone_from(&client.report);
            goes_on
        });
        self.stack.poll(now);
        self.stack.take_sent()
    }

    /// When the next turn is due without anything arriving.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(|(_, client)| client.wake_at()).min();
        [self.stack.poll_at(now), clients].into_iter().flatten().min()
    }
}
