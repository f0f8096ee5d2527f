//! What the keeper does, turn by turn.

mod holding;

use super::{Request, ShardLine};
use crate::command::Command;
use crate::netlink::{Event, Events as KernelEvents, Netlink};
use crate::uplink::announce::{self, Announcer};
use crate::uplink::claims::Claim;
use crate::uplink::filter::{FilterSpec, add_ranges, ranges_of};
use crate::uplink::interfaces::{self, Interfaces, Survey};
use crate::uplink::link::Interface;
use crate::uplink::relay::{Chooser, Connections, Refusals, Sessions};
use crate::uplink::resolver::Resolver;
use crate::uplink::silence::{self, Silence};
use crate::uplink::source_ports::{self, SourcePorts};
use crate::uplink::status::{ClaimFailure, UplinkState, UplinkStatus};
use crate::{DataplaneConfig, sys};
use crossbeam_channel::Receiver;
use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use policy::tables::NodeFrontend;
use socket2::Socket;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::SourcePool;
use wire::Protocol;

/// Connections accepted from one listener per turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Descriptors that this process asks for: room for all nodePorts in both families and for what is relayed. Each thread that
/// holds source ports may have as many again.
const DESCRIPTORS: u64 = 65_536;

const EVENTS_MAX: usize = 256;
pub(super) const WAKE: Token = Token(0);
pub(super) const KERNEL: Token = Token(1);
/// Tokens of what hears connections that are refused, one per family.
const REFUSALS: [Token; 2] = [Token(2), Token(3)];
/// Tokens from here on are claims, by a number that grows.
const CLAIM_BASE: usize = 16;
/// Tokens from here on are relayed connections.
const CONNECTION_BASE: usize = 1 << 28;
/// Tokens from here on are relayed UDP sessions.
const SESSION_BASE: usize = 1 << 29;

/// A claim that is held.
struct HeldClaim {
    held: HeldSocket,
    token: Token,
    /// Its listener takes nothing: the Service has no usable endpoint, and [`Refusals`] answers.
    refuses: bool,
}

enum HeldSocket {
    Tcp(Socket),
    Udp(Arc<Socket>),
    Sctp,
}

/// The keeper; [`Thread::run`] is its thread.
pub(super) struct Thread {
    node_name: String,
    own: Vec<IpAddr>,
    tunnel_port: u16,
    shard: ShardLine,
    poll: Poll,
    inbox: Receiver<Request>,
    netlink: Netlink,
    kernel_events: KernelEvents,
    survey: Survey,
    interfaces: Interfaces,
    resolver: Resolver,
    announcer: Announcer,
    claims: BTreeMap<Claim, HeldClaim>,
    /// What the tables held last serve.
    wanted: BTreeMap<Claim, Vec<NodeFrontend>>,
    /// What of it could not be claimed.
    failures: Vec<ClaimFailure>,
    /// Which claim a token is of.
    tokens: HashMap<Token, Claim>,
    claims_so_far: usize,
    sctp: Vec<Socket>,
    /// TCP, UDP.
    source_ports: [SourcePorts; 2],
    source_ranges: [Vec<RangeInclusive<u16>>; 2],
    /// If another process goes on with what this one holds.
    silence: Option<Silence>,
    chooser: Chooser,
    connections: Connections,
    sessions: Sessions,
    refusals: Refusals,
    /// Claims and sessions that have more to give than their turn allowed.
    ready: Vec<Token>,
    expire_at: Option<Instant>,
    stopping: bool,
}

impl Thread {
    /// Holds nothing yet.
    pub(super) fn new(
        config: &DataplaneConfig,
        shard: ShardLine,
        poll: Poll,
        inbox: Receiver<Request>,
        mut netlink: Netlink,
        kernel_events: KernelEvents,
        survey: Survey,
    ) -> Thread {
        let local = source_ports::local_range();
        let candidates = source_ports::candidates(config.snat_ports.clone(), local.clone());
        let silence = config.state_dir.is_some().then(|| Silence::new(&mut netlink, local));
        if silence.is_none() {
            // What a process with a state folder has left. A kernel without such rules has none of them.
            let _ = silence::remove_all(&mut netlink);
        }
        // Where it is refused, claims and relayed connections have fewer; each failure is reported where it happens.
        let _ = sys::limits::raise_descriptors_max(DESCRIPTORS);
        Thread {
            node_name: config.node_name.clone(),
            own: config.underlay.clone(),
            tunnel_port: config.vxlan_port,
            shard,
            poll,
            inbox,
            netlink,
            kernel_events,
            survey,
            interfaces: Interfaces::default(),
            resolver: Resolver::default(),
            announcer: Announcer::default(),
            claims: BTreeMap::new(),
            wanted: BTreeMap::new(),
            failures: Vec::new(),
            tokens: HashMap::new(),
            claims_so_far: 0,
            sctp: Vec::new(),
            source_ports: [Protocol::TCP, Protocol::UDP].map(|protocol| SourcePorts::new(protocol, candidates.clone())),
            source_ranges: Default::default(),
            silence,
            chooser: Chooser::new(config.seed),
            connections: Connections::new(CONNECTION_BASE),
            sessions: Sessions::new(SESSION_BASE),
            refusals: Refusals::new(REFUSALS),
            ready: Vec::new(),
            expire_at: None,
            stopping: false,
        }
    }

    /// Opens the raw sockets, before the thread starts.
    pub(super) fn open_interfaces(&mut self) -> io::Result<()> {
        self.update_filter()?;
        self.interfaces.open(self.survey.interfaces.clone())
    }

    /// What the shard receives from and sends to.
    pub(super) fn interfaces_for_shard(&self) -> Vec<Interface> {
        self.interfaces.for_shard()
    }

    /// The life of the thread.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.stopping {
            self.turn(&mut events);
        }
    }

    fn turn(&mut self, events: &mut Events) {
        if self.poll.poll(events, self.timeout()).is_err() {
            // Interrupted by a signal.
            return;
        }
        for event in events.iter() {
            match event.token() {
                WAKE => {}
                KERNEL => self.take_kernel_events(),
                Token(token) if token >= SESSION_BASE => self.ready.push(Token(token)),
                Token(token) if token >= CONNECTION_BASE => self.connections.handle(Token(token)),
                token => self.ready.push(token),
            }
        }
        self.take_requests();
        self.serve_ready();
        self.connections.serve();
        self.claim_source_ports();
        self.do_what_is_due();
    }

    /// How long to sleep: not at all while there is work, for ever while nothing is due.
    fn timeout(&self) -> Option<Duration> {
        let claiming = self.source_ports.iter().any(SourcePorts::is_busy);
        if claiming || !self.ready.is_empty() || self.connections.is_busy() {
            return Some(Duration::ZERO);
        }
        let next = [self.expire_at, self.announcer.next()].into_iter().flatten().min()?;
        // Rounded up, so that it is due when the thread wakes.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.inbox.try_recv() {
            match request {
                Request::Hold(tables, reply) => {
                    let _ = reply.send(self.hold(tables));
                }
                Request::LetGo => {
                    self.let_go();
                    self.end_silence();
                }
                Request::Announce(addresses) => {
                    self.announcer.set(Instant::now(), addresses);
                    self.set_filter();
                }
                Request::Begin(in_use, reply) => {
                    self.begin(&in_use);
                    let _ = reply.send(());
                }
                Request::Status(reply) => {
                    let _ = reply.send(self.status());
                }
                Request::Resolve(destination) => self.resolve(destination),
                Request::MoreSourcePorts(pool) => match pool.protocol {
                    Protocol::TCP => self.source_ports[0].want_more(),
                    Protocol::UDP => self.source_ports[1].want_more(),
                    _ => {}
                },
                Request::ServiceHits(reply) => {
                    let _ = reply.send(self.chooser.hits());
                }
                Request::Stop => self.stopping = true,
            }
        }
    }

    fn begin(&mut self, in_use: &[(Protocol, u16)]) {
        self.grant_sctp();
        self.let_source_ports_grow();
        for (source_ports, protocol) in self.source_ports.iter_mut().zip([Protocol::TCP, Protocol::UDP]) {
            let in_use = in_use.iter().filter(|(of, _)| *of == protocol).map(|(_, port)| *port);
            source_ports.want_first(in_use.collect());
            source_ports.want_more();
        }
        self.claim_source_ports();
        while self.source_ports.iter().any(SourcePorts::lacks_first) {
            self.claim_source_ports();
        }
    }

    fn resolve(&mut self, destination: IpAddr) {
        let ours: Vec<u32> = self.survey.interfaces.iter().map(|interface| interface.index).collect();
        if let Some(hop) = self.resolver.resolve(&mut self.netlink, destination, |link| ours.contains(&link)) {
            self.shard.tell(Command::NextHop(destination, hop));
        }
    }

    fn take_kernel_events(&mut self) {
        let mut events = Vec::new();
        self.kernel_events.receive(&mut events);
        if events.contains(&Event::Anything) {
            self.resolver.forget_all();
            self.shard.tell(Command::ForgetNextHops);
            return self.look_around();
        }
        for event in events {
            if let Event::Neighbor(hop, mac) = event
                && let Some((next_hop, destinations)) = self.resolver.notice(hop, mac)
            {
                for destination in destinations {
                    self.shard.tell(Command::NextHop(*destination, next_hop));
                }
            }
        }
    }

    /// Finds the node's addresses again; other interfaces get sockets of their own.
    fn look_around(&mut self) {
        let Ok(survey) = interfaces::survey(&mut self.netlink, &self.own) else { return };
        if survey == self.survey {
            return;
        }
        let moved = survey.interfaces != self.survey.interfaces;
        self.survey = survey;
        self.set_filter();
        if moved && self.interfaces.open(self.survey.interfaces.clone()).is_ok() {
            self.shard.tell(Command::SetInterfaces(self.interfaces.for_shard()));
            self.announcer.repeat_all(Instant::now());
        }
    }

    fn serve_ready(&mut self) {
        for token in std::mem::take(&mut self.ready) {
            let drained = match token.0 {
                session if session >= SESSION_BASE => self.sessions.answer(Instant::now(), token),
                _ if REFUSALS.contains(&token) => self.refusals.answer(Instant::now(), token, &mut self.chooser),
                _ => self.serve_claim(token),
            };
            if !drained {
                self.ready.push(token);
            }
        }
        if self.expire_at.is_none() && self.sessions.len() > 0 {
            self.expire_at = self.sessions.expire(Instant::now());
        }
    }

    /// Takes what node processes sent to a claimed port; `true` if none is left.
    fn serve_claim(&mut self, token: Token) -> bool {
        let Some(claim) = self.tokens.get(&token) else { return true };
        let Some(held) = self.claims.get(claim) else { return true };
        let now = Instant::now();
        match &held.held {
            HeldSocket::Tcp(listener) => {
                for _ in 0..ACCEPTS_PER_TURN {
                    match accept(listener) {
                        Ok((stream, client, asked)) => {
                            let backend = self.chooser.choose(now, Protocol::TCP, client, asked);
                            self.connections.open(self.poll.registry(), stream, backend);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                        Err(error) if is_short_of_descriptors(&error) => return true,
                        // The client has gone again.
                        Err(_) => {}
                    }
                }
                false
            }
            HeldSocket::Udp(socket) => {
                self.sessions.take(self.poll.registry(), now, claim.port, socket, &mut self.chooser, &self.refusals)
            }
            HeldSocket::Sctp => true,
        }
    }

    /// SCTP has no sockets in this kernel, so that its ports are all free.
    fn grant_sctp(&self) {
        for is_ipv4 in [true, false] {
            let pool = SourcePool { protocol: Protocol::SCTP, is_ipv4 };
            self.shard.tell(Command::GrantSourcePorts(pool, SCTP_SOURCE_PORTS));
        }
    }

    fn let_source_ports_grow(&self) {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            for is_ipv4 in [true, false] {
                self.shard.tell(Command::SourcePortsGrow(SourcePool { protocol, is_ipv4 }, true));
            }
        }
    }

    /// Claims a batch of source ports, if more are wanted, and grants them.
    fn claim_source_ports(&mut self) {
        for which in 0..2 {
            if !self.source_ports[which].is_busy() {
                continue;
            }
            let claimed = self.source_ports[which].claim();
            let protocol = [Protocol::TCP, Protocol::UDP][which];
            let pools = [true, false].map(|is_ipv4| SourcePool { protocol, is_ipv4 });
            if self.source_ports[which].is_final() {
                pools.into_iter().for_each(|pool| self.shard.tell(Command::SourcePortsGrow(pool, false)));
            }
            if claimed.is_empty() {
                continue;
            }
            let ranges = ranges_of(claimed);
            add_ranges(&mut self.source_ranges[which], &ranges);
            // Granted when their answers are let through, not before.
            self.set_filter();
            for range in ranges {
                for pool in pools {
                    self.shard.tell(Command::GrantSourcePorts(pool, range.clone()));
                }
            }
        }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if self.expire_at.is_some_and(|at| at <= now) {
            self.expire_at = self.sessions.expire(now);
        }
        for address in self.announcer.take_due(now) {
            self.interfaces.send_all(|mac| announce::announcement(mac, address));
        }
    }

    fn set_filter(&mut self) {
        // The kernel refuses it only for want of memory, and then the filter before it stays.
        let _ = self.update_filter();
        if let Some(silence) = &mut self.silence {
            silence.add(&mut self.netlink, self.claims.keys(), &self.source_ranges[0]);
        }
    }

    fn end_silence(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.remove_others(&mut self.netlink, self.claims.keys(), &self.source_ranges[0]);
        }
    }

    fn update_filter(&mut self) -> io::Result<()> {
        let held = |protocol: Protocol| {
            let of_protocol = self.claims.keys().filter(move |claim| claim.protocol == protocol);
            ranges_of(of_protocol.map(|claim| claim.port))
        };
        let with_source = |which: usize, protocol| {
            let mut ranges = held(protocol);
            add_ranges(&mut ranges, &self.source_ranges[which]);
            ranges
        };
        let served = self.claims.keys().map(|claim| claim.address).filter(|address| !address.is_unspecified());
        let own: BTreeSet<IpAddr> = self.own.iter().copied().chain(served).collect();
        let mut sctp = held(Protocol::SCTP);
        add_ranges(&mut sctp, &[SCTP_SOURCE_PORTS]);
        self.interfaces.set_filter(FilterSpec {
            others: self.survey.others.difference(&own).copied().collect(),
            own,
            announced: self.announcer.addresses().clone(),
            tcp: with_source(0, Protocol::TCP),
            udp: with_source(1, Protocol::UDP),
            sctp,
            tunnel_port: self.tunnel_port,
        })
    }

    fn status(&self) -> UplinkStatus {
        UplinkStatus {
            state: UplinkState::Up,
            interfaces: self.interfaces.described().into_iter().map(|described| described.info).collect(),
            claimed_ports: self.claims.len() as u32,
            source_ports: [0, 1].map(|which| self.source_ports[which].len() as u32),
            announced: self.announcer.addresses().iter().copied().collect(),
            relayed: (self.connections.len() + self.sessions.len()) as u32,
        }
    }
}

/// Source ports of SCTP: above the nodePorts.
const SCTP_SOURCE_PORTS: RangeInclusive<u16> = 32_768..=u16::MAX;

/// A connection of a node process, with its address and the address that it asked.
fn accept(listener: &Socket) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
    let (stream, client) = listener.accept()?;
    stream.set_nonblocking(true)?;
    let asked = stream.local_addr()?;
    let ends = client.as_socket().zip(asked.as_socket()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((TcpStream::from_std(stream.into()), ends.0, ends.1))
}

fn is_short_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
