//! The cluster DNS as a server of its own: UDP and TCP on addresses of the machine.
//!
//! In: tables, whenever they change ([`Server::set_tables`]), and queries. Out: answers, from the address that was asked.
//!
//! How it works: each address has one UDP socket, from which as many threads as there are processors read (`udp`). They answer what
//! is of the cluster, and what is remembered of other names, on the spot, so an answer costs two system calls and no hand-over. What has to
//! be asked for goes through a bounded queue to one more thread with a tokio runtime, which also serves TCP (`asking`, `tcp`). A
//! thread looks at one number per query to see that the tables have changed.
//!
//! Limits: [`WAITING_MAX`] queries wait for upstreams (one more is answered SERVFAIL), [`tcp::CONNECTIONS_MAX`] connections are open
//! (one more is closed at once), each with [`tcp::PIPELINE_MAX`] queries in flight. Connections that are silent, slow to speak
//! or slow to read are closed.
//!
//! What has no part here: zone transfers, DNS over TLS or HTTPS, access by source address.

mod asking;
mod bind;
mod tables;
pub mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use bind::{ListenError, Listener};

use super::count::counts;
use super::forward::{ForwardCounters, Forwarder};
use super::{DnsConfig, DnsCounters};
use crate::HealthServer;
use crate::metrics::Page;
use asking::{Asking, Pending};
use policy::tables::Tables;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tables::Current;
use tokio::sync::{mpsc, oneshot};

/// Queries that wait for upstreams: eight for each question that may be in flight, and each of them costs a few hundred bytes.
pub const WAITING_MAX: usize = 4096;

/// Threads for one address; more than this many processors do not read one socket faster.
const THREADS_MAX: usize = 8;

counts! {
    /// Counts of the sockets since the server started; they only grow.
    pub struct SocketCounters, Counters;
    overloaded, "Queries that were answered SERVFAIL because too many wait for upstreams.";
    unsent, "Answers that the kernel did not take.";
    connections, "TCP connections that were accepted.";
    connections_refused, "TCP connections that were closed because there were too many.";
    connections_timed_out, "TCP connections that were closed because the client was silent or slow.";
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// The names of the cluster.
    pub responder: DnsCounters,
    /// The sockets.
    pub sockets: SocketCounters,
    /// The names outside the cluster.
    pub forward: ForwardCounters,
}

/// What the responder of one thread has counted. Its thread alone writes, after each query.
#[derive(Debug, Default)]
struct Ledger(Mutex<DnsCounters>);

impl Ledger {
    fn write(&self, counters: DnsCounters) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    fn read(&self) -> DnsCounters {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    dns: DnsConfig,
    tables: Current,
    forwarder: Forwarder,
    counters: Counters,
    /// One of each thread that answers.
    ledgers: Mutex<Vec<Arc<Ledger>>>,
    stops: AtomicBool,
}

impl Shared {
    /// The ledger of one more thread.
    fn open_ledger(&self) -> Arc<Ledger> {
        let ledger = Arc::<Ledger>::default();
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner).push(ledger.clone());
        ledger
    }

    fn counters(&self) -> ServerCounters {
        let mut responder = DnsCounters::default();
        for ledger in self.ledgers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            responder.add(&ledger.read());
        }
        ServerCounters { responder, sockets: self.counters.read(), forward: self.forwarder.counters() }
    }

    fn metrics(&self) -> Page {
        let ServerCounters { responder, sockets, forward } = self.counters();
        Page::default()
            .with("podplane_dns_server_", responder.list())
            .with("podplane_dns_server_socket_", sockets.list())
            .with("podplane_dns_server_forward_", forward.list())
    }
}

/// A running server. Dropped, it stops.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    sockets: Vec<Arc<udp::Socket>>,
    threads: Vec<JoinHandle<()>>,
    /// Ends the thread with the runtime when it is dropped.
    stop_asking: Option<oneshot::Sender<()>>,
    asking: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Answers at `listeners` from here on; SERVFAIL for the cluster's names until there are tables.
    pub fn start(listeners: Vec<Listener>, dns: DnsConfig, forwarder: Forwarder) -> io::Result<Server> {
        let shared = Arc::new(Shared {
            dns,
            tables: Current::default(),
            forwarder,
            counters: Counters::default(),
            ledgers: Mutex::default(),
            stops: AtomicBool::new(false),
        });
        let addresses = listeners.iter().map(Listener::address).collect();
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let (stop_asking, stopped) = oneshot::channel();
        let (sockets, acceptors): (Vec<_>, Vec<_>) =
            listeners.into_iter().map(|listener| (Arc::new(listener.udp), listener.tcp)).unzip();
        let asking = Asking::new(shared.clone(), acceptors, waiting)?;
        let asking = thread::Builder::new().name("dns-asking".to_owned()).spawn(move || asking.run(stopped))?;
        let mut server = Server {
            shared,
            sockets,
            threads: Vec::new(),
            stop_asking: Some(stop_asking),
            asking: Some(asking),
            addresses,
        };
        server.start_threads(&queue)?;
        Ok(server)
    }

    fn start_threads(&mut self, queue: &mpsc::Sender<Pending>) -> io::Result<()> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        for socket in &self.sockets {
            for number in 0..count {
                let (socket, shared, queue) = (socket.clone(), self.shared.clone(), queue.clone());
                let thread = thread::Builder::new().name(format!("dns-udp-{number}"));
                self.threads.push(thread.spawn(move || udp::serve(&socket, &shared, &queue))?);
            }
        }
        Ok(())
    }

    /// Has the next query answered from `tables`.
    pub fn set_tables(&self, tables: Option<Arc<Tables>>) {
        self.shared.tables.set(tables);
    }

    /// Where it listens, with the ports that it got.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was done so far.
    pub fn counters(&self) -> ServerCounters {
        self.shared.counters()
    }

    /// Answers over HTTP on `address` how this server is, and what it has counted.
    pub fn serve_health(&self, address: SocketAddr) -> io::Result<HealthServer> {
        let shared = Arc::downgrade(&self.shared);
        let page = move || shared.upgrade().map(|shared| shared.metrics().text()).unwrap_or_default();
        HealthServer::start(address, Arc::new(page))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        // Wakes the threads that wait for datagrams.
        self.sockets.iter().for_each(|socket| socket.shut_down(Shutdown::Both));
        drop(self.stop_asking.take());
        for thread in self.threads.drain(..) {
            // What a thread panicked about has been written by the panic itself.
            let _ = thread.join();
        }
        if let Some(asking) = self.asking.take() {
            let _ = asking.join();
        }
    }
}
