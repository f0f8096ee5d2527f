//! The name server's desk of a node: what its shards cannot answer at once. One thread, which asks upstreams and is the other end of
//! DNS over TCP.
//!
//! # How it works
//! A shard answers datagrams about the cluster itself and hands everything else over as an [`Errand`]; what comes of it goes back as a
//! [`Reply`] through the shard's [`Outlet`]. The thread runs one task, which waits for errands, for look-ups that end, and for the
//! deadlines of [`connections`].
//!
//! Limits, each with its count: errands that wait ([`ERRANDS_MAX`]), look-ups under way in all and of one port ([`LOOKUPS_MAX`],
//! [`LOOKUPS_PER_PORT_MAX`]), connections. What is over a limit is not answered: its sender asks again.

mod connections;
mod device;
mod stream;

pub use connections::{ADDRESSES_MAX, ConnectionCounters};

use super::forward::{ForwardConfig, ForwardCounters, Forwarder};
use super::{DnsConfig, DnsCounters, Query as Message, Responder, Response, Target, Transport};
use connections::{ConnectionId, Connections, Event};
use policy::tables::Tables;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use switch::{PortId, Query, ShardId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where a name server listens.
const DNS_PORT: u16 = 53;

/// Errands that wait for the thread: some milliseconds of its work.
const ERRANDS_MAX: usize = 1_024;

/// Errands that are done before anything else is looked at.
const ERRANDS_PER_TURN: usize = 64;

/// Look-ups that wait for upstreams. A forwarder has 512 questions under way, each of which any number of askers may wait for.
const LOOKUPS_MAX: usize = 2_048;

/// Those of one port.
const LOOKUPS_PER_PORT_MAX: usize = LOOKUPS_MAX / 8;

/// What a desk is told once.
#[derive(Clone, Debug)]
pub struct DeskConfig {
    /// Addresses of the cluster DNS, at most [`ADDRESSES_MAX`].
    pub addresses: Vec<IpAddr>,
    /// Longest packet to a pod, in bytes.
    pub mtu: u16,
    /// How the cluster's names are answered.
    pub responder: DnsConfig,
    /// Who is asked for all others.
    pub forward: ForwardConfig,
    /// Seed of sequence numbers and of the order of addresses.
    pub seed: u64,
}

/// What a shard hands over.
#[derive(Debug)]
pub enum Errand {
    /// A datagram that asks for a name that is not the cluster's.
    Forward(ShardId, Query, Box<[u8]>),
    /// One that asks for a name that leads out of the cluster, the type of the records, the target, and the answer so far.
    Chase(ShardId, Query, Box<[u8]>, Target, Vec<u8>),
    /// An IP packet of a connection.
    Packet(ShardId, Query, Box<[u8]>),
    /// A port is gone.
    Gone(PortId),
}

/// What goes back to a shard.
#[derive(Debug)]
pub enum Reply {
    /// The answer to a datagram.
    Answer(Query, Vec<u8>),
    /// An answer that the next packets bring to that port, for rules that read names.
    Heard(PortId, Vec<u8>),
    /// An IP packet for that port.
    Packet(PortId, Vec<u8>),
}

/// Takes replies to a shard; `false` if they are too many.
pub type Outlet = Box<dyn Fn(Reply) -> bool + Send>;

/// What a desk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskCounters {
    /// Queries that came over TCP.
    pub responder: DnsCounters,
    /// Names that are not the cluster's.
    pub forward: ForwardCounters,
    /// Connections.
    pub connections: ConnectionCounters,
    /// Queries that were not answered because too many waited for upstreams.
    pub lookups_refused: u64,
    /// Replies that a shard did not take.
    pub replies_dropped: u64,
}

/// The tables in force; none before the first sync.
type InForce = Arc<Mutex<Option<Arc<Tables>>>>;

/// Where a shard gives up its errands. All have to be gone for the desk to end.
#[derive(Clone, Debug)]
pub struct Errands(mpsc::Sender<Errand>);

impl Errands {
    /// Hands an errand over; `false` if too many wait. Never waits itself.
    pub fn send(&self, errand: Errand) -> bool {
        self.0.try_send(errand).is_ok()
    }
}

/// The handle of a desk. Dropped, it ends the thread.
#[derive(Debug)]
pub struct Desk {
    errands: Option<mpsc::Sender<Errand>>,
    tables: InForce,
    counters: Arc<Mutex<DeskCounters>>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    /// Starts the thread; there is an outlet for each shard, by number. `report` gets a sentence whenever something is wrong that a
    /// person should know.
    pub fn start(
        config: DeskConfig,
        outlets: Vec<Outlet>,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Desk> {
        let (errands, receiver) = mpsc::channel(ERRANDS_MAX);
        let (tables, counters) = (InForce::default(), Arc::new(Mutex::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker {
            errands: receiver,
            outlets,
            tables: Arc::clone(&tables),
            responder: Responder::new(config.responder, config.seed),
            forwarder: Forwarder::with_report(config.forward, report),
            connections: Connections::new(&config.addresses, config.mtu, config.seed),
            lookups: JoinSet::new(),
            lookups_by_port: HashMap::new(),
            started: Instant::now(),
            counted: DeskCounters::default(),
            counters: Arc::clone(&counters),
        };
        let thread = std::thread::Builder::new()
            .name("podplane-dns".to_owned())
            .spawn(move || runtime.block_on(worker.run()))?;
        Ok(Desk { errands: Some(errands), tables, counters, thread: Some(thread) })
    }

    /// Where errands are given up.
    pub fn errands(&self) -> Errands {
        Errands(self.errands.clone().expect("a desk has it until it is dropped"))
    }

    /// Queries over TCP are answered by these tables from here on.
    pub fn set_tables(&self, tables: Arc<Tables>) {
        *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Some(tables);
    }

    /// What was done so far.
    pub fn counters(&self) -> DeskCounters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Desk {
    /// The thread ends when all senders are gone: those of the shards before this one.
    fn drop(&mut self) {
        self.errands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who waits for a look-up.
enum Asker {
    Datagram(ShardId, Query),
    Connection(ConnectionId, PortId),
}

impl Asker {
    fn port(&self) -> PortId {
        match self {
            Asker::Datagram(_, query) => query.port,
            Asker::Connection(_, port) => *port,
        }
    }
}

/// What a look-up brought.
struct Found {
    asker: Asker,
    message: Box<[u8]>,
    /// Of an alias: the answer so far.
    begun: Option<Vec<u8>>,
    upstream: Vec<u8>,
}

/// The thread.
struct Worker {
    errands: mpsc::Receiver<Errand>,
    outlets: Vec<Outlet>,
    tables: InForce,
    responder: Responder,
    forwarder: Forwarder,
    connections: Connections,
    lookups: JoinSet<Found>,
    lookups_by_port: HashMap<PortId, usize>,
    started: Instant,
    counted: DeskCounters,
    counters: Arc<Mutex<DeskCounters>>,
}

impl Worker {
    async fn run(mut self) {
        let forwarder = self.forwarder.clone();
        tokio::spawn(async move { forwarder.find_loops().await });
        loop {
            let timeout = self.connections.poll_timeout().map(|at| self.started + micros(at));
            tokio::select! {
                errand = self.errands.recv() => match errand {
                    Some(errand) => self.take_errands(errand),
                    None => return,
                },
                Some(found) = self.lookups.join_next() => {
                    if let Ok(found) = found {
                        self.take_found(found);
                    }
                }
                () = sleep_until(timeout) => self.connections.handle_timeout(self.now()),
            }
            self.serve_connections();
            self.publish();
        }
    }

    fn now(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    fn take_errands(&mut self, first: Errand) {
        self.take_errand(first);
        for _ in 1..ERRANDS_PER_TURN {
            let Ok(errand) = self.errands.try_recv() else { return };
            self.take_errand(errand);
        }
    }

    fn take_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Forward(shard, query, message) => self.look_up(Asker::Datagram(shard, query), message, None),
            Errand::Chase(shard, query, message, target, begun) => {
                self.look_up(Asker::Datagram(shard, query), message, Some((target, begun)));
            }
            Errand::Packet(shard, query, packet) => {
                self.connections.handle_packet(self.now(), shard, query, packet.into_vec());
                self.serve_connections();
            }
            Errand::Gone(port) => self.connections.forget_port(port),
        }
    }

    /// Does what the connections have to be done, until there is nothing more.
    fn serve_connections(&mut self) {
        while let Some(event) = self.connections.poll_event() {
            match event {
                Event::Packet(shard, port, packet) => self.reply(shard, Reply::Packet(port, packet)),
                Event::Query(id, message) => self.answer_on_connection(id, message.into()),
            }
        }
    }

    fn answer_on_connection(&mut self, id: ConnectionId, message: Box<[u8]>) {
        let Some((_, port)) = self.connections.client(id) else { return };
        let mut answer = Vec::new();
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.responder.respond(tables.as_deref(), Transport::Tcp, &message, &mut answer);
        let asker = Asker::Connection(id, port);
        match response {
            Response::Answer | Response::Silence => self.give(asker, answer),
            Response::Forward => self.look_up(asker, message, None),
            Response::Chase(target) => self.look_up(asker, message, Some((target, answer))),
        }
    }

    /// Asks upstreams, for the question of `message` or for a target that it leads to.
    fn look_up(&mut self, asker: Asker, message: Box<[u8]>, chase: Option<(Target, Vec<u8>)>) {
        let of_port = self.lookups_by_port.entry(asker.port()).or_default();
        if self.lookups.len() >= LOOKUPS_MAX || *of_port >= LOOKUPS_PER_PORT_MAX {
            self.counted.lookups_refused += 1;
            return self.give(asker, Vec::new());
        }
        *of_port += 1;
        let forwarder = self.forwarder.clone();
        self.lookups.spawn(async move {
            let transport = match asker {
                Asker::Datagram(..) => Transport::Udp,
                Asker::Connection(..) => Transport::Tcp,
            };
            match chase {
                None => Found { upstream: forwarder.resolve(&message, transport).await, asker, message, begun: None },
                Some((target, begun)) => {
                    let upstream = match Message::parse(&message) {
                        Ok(query) => forwarder.chase(&target, query.qtype).await,
                        Err(_) => Vec::new(),
                    };
                    Found { asker, message, begun: Some(begun), upstream }
                }
            }
        });
    }

    fn take_found(&mut self, Found { asker, message, begun, upstream }: Found) {
        let port = asker.port();
        if let Some(of_port) = self.lookups_by_port.get_mut(&port) {
            *of_port -= 1;
            if *of_port == 0 {
                self.lookups_by_port.remove(&port);
            }
        }
        let transport = if let Asker::Datagram(..) = asker { Transport::Udp } else { Transport::Tcp };
        let answer = match begun {
            None => upstream,
            Some(mut answer) => {
                self.responder.complete(transport, &message, &mut answer, Some(&upstream));
                answer
            }
        };
        self.give(asker, answer);
    }

    /// Hands out an answer; nothing if there is none.
    fn give(&mut self, asker: Asker, answer: Vec<u8>) {
        match asker {
            Asker::Datagram(shard, query) if !answer.is_empty() => self.reply(shard, Reply::Answer(query, answer)),
            Asker::Datagram(..) => {}
            Asker::Connection(id, port) => {
                if let Some((shard, _)) = self.connections.client(id).filter(|_| !answer.is_empty()) {
                    self.reply(shard, Reply::Heard(port, answer.clone()));
                }
                self.connections.answer(self.now(), id, &answer);
            }
        }
    }

    fn reply(&mut self, shard: ShardId, reply: Reply) {
        let taken = self.outlets.get(usize::from(shard.0)).is_some_and(|outlet| outlet(reply));
        self.counted.replies_dropped += u64::from(!taken);
    }

    fn publish(&self) {
        let counters = DeskCounters {
            responder: self.responder.counters(),
            forward: self.forwarder.counters(),
            connections: self.connections.counters(),
            ..self.counted
        };
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

fn micros(at: smoltcp::time::Instant) -> Duration {
    Duration::from_micros(at.total_micros().max(0) as u64)
}

/// Never returns without a deadline.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
