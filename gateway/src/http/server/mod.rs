//! The proxy as a server: threads, ports, TLS, limits, and an orderly end.
//!
//! ```text
//! HttpServer ── set_routes ──> Proxy (routes of requests), TlsTable (certificates of handshakes), ports (bound and closed here)
//!     │ Command
//!     v
//! thread 1..N: accept ──> Permit ──> PROXY protocol ──> TLS ──> serve_connection
//! ```
//!
//! Every thread has a runtime and sockets of its own, and a connection stays on the thread that accepted it. The ports of HTTP and
//! HTTPS are bound by [`HttpServer::start`], so that a port 0 is a number before routes are compiled; nothing is accepted before
//! the first [`HttpServer::set_routes`]: clients wait in the kernel and are not told that there is no route.
//!
//! With the PROXY protocol on, a peer among the trusted proxies must begin with its header: guessing whether there is one would
//! let a client write it (specification, section 2). Other peers are clients that speak for themselves, such as pods that reach
//! the proxy past the load balancer; a header of theirs is not HTTP.

mod accept;
mod admission;
mod counters;
mod ports;
mod sockets;
mod stream;
mod thread;

use super::tls::{CertificateFault, CertificateProblem, TlsMaker, TlsTable};
use super::{Config, Proxy};
use crate::HealthServer;
use crate::metrics::{Count, Page};
use admission::Admission;
use counters::DoorCounters;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use policy::routes::{Certificate, Routes};
use ports::{PortChange, Ports};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use std::{fmt, io};
use thread::{Command, Thread};

/// What an operator may set about the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// About requests.
    pub proxy: Config,
    /// Where plain HTTP of Ingresses is served. Gateway listeners of other ports without TLS get the same address.
    pub http: SocketAddr,
    /// Where HTTPS of Ingresses is served. Gateway listeners of other ports with TLS get the same address.
    pub https: SocketAddr,
    /// Threads.
    pub workers: usize,
    /// Whether connections of trusted proxies begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// For a PROXY protocol header and a TLS handshake together.
    pub handshake_timeout: Duration,
    /// Client connections in all; more are closed.
    pub connections_max: usize,
    /// Connections of one client; more are closed. Trusted proxies may have any number.
    pub connections_per_client_max: usize,
}

impl ServerConfig {
    /// Defaults beside the addresses.
    pub fn new(http: SocketAddr, https: SocketAddr) -> ServerConfig {
        ServerConfig {
            proxy: Config::default(),
            http,
            https,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            proxy_protocol: false,
            // Go's and Envoy's defaults lie at 10 to 15 seconds; a lost segment on a slow link costs three.
            handshake_timeout: Duration::from_secs(10),
            // Some 20 KiB each with TLS; each may hold a second descriptor for its backend.
            connections_max: 32_768,
            // One address may be many people behind a NAT. It is kept from having all connections by itself.
            connections_per_client_max: 4096,
        }
    }
}

/// Why there is no server.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be bound.
    Bind(SocketAddr, io::Error),
    /// A thread or its runtime cannot be had.
    Thread(io::Error),
    /// There is no randomness for session tickets.
    Tls(rustls::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind(address, error) => write!(f, "cannot listen on {address}: {error}"),
            StartError::Thread(error) => write!(f, "cannot start a thread: {error}"),
            StartError::Tls(error) => write!(f, "cannot make session tickets: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What is not served although routes ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerProblem {
    /// About a certificate.
    Certificate(CertificateProblem),
    /// A listener's port cannot be bound; it is tried again.
    Port(SocketAddr, String),
}

impl fmt::Display for ServerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerProblem::Certificate(problem) => problem.fmt(f),
            ServerProblem::Port(address, error) => {
                write!(f, "port {}: cannot listen on {address}: {error}; it is tried again", address.port())
            }
        }
    }
}

/// What all threads share.
struct Shared {
    config: ServerConfig,
    proxy: Arc<Proxy>,
    tls: RwLock<Arc<TlsTable>>,
    admission: Arc<Admission>,
    counters: DoorCounters,
}

impl Shared {
    fn tls(&self) -> Arc<TlsTable> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> Vec<Count> {
        self.counters.list().into_iter().chain(self.proxy.counts().list()).collect()
    }

    fn metrics(&self) -> Page {
        const PREFIX: &str = "podplane_ingress_";
        let help = "Client connections that are open";
        let open = Count { name: "open_connections", help, value: self.admission.total() as u64 };
        Page::default().with(PREFIX, self.counts()).with_gauge(PREFIX, open)
    }
}

/// A running proxy.
pub struct HttpServer {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    tls: TlsMaker,
    ports: Ports,
    certificates: Vec<CertificateProblem>,
}

impl HttpServer {
    /// Binds the ports of HTTP and HTTPS and starts the threads.
    pub fn start(mut config: ServerConfig) -> Result<HttpServer, StartError> {
        config.workers = config.workers.max(1);
        let ports = Ports::bind(config.http, config.https, config.workers);
        let ports = ports.map_err(|(address, error)| StartError::Bind(address, error))?;
        raise_descriptors_max();
        let mut tls = TlsMaker::new().map_err(StartError::Tls)?;
        let (table, _) = tls.table(Arc::default(), SystemTime::now());
        let shared = Arc::new(Shared {
            proxy: Proxy::new(config.proxy.clone()),
            tls: RwLock::new(Arc::new(table)),
            admission: Admission::new(config.connections_max, config.connections_per_client_max),
            counters: DoorCounters::default(),
            config,
        });
        let threads = (0..shared.config.workers).map(|number| Thread::start(number, shared.clone()));
        let threads = threads.collect::<io::Result<Vec<_>>>().map_err(StartError::Thread)?;
        Ok(HttpServer { shared, threads, tls, ports, certificates: Vec::new() })
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.ports.http()
    }

    /// Where HTTPS is served.
    pub fn https_address(&self) -> SocketAddr {
        self.ports.https()
    }

    /// Whether `certificate` can be served, or why not; for the compiler of routes. What is found out is kept for the routes
    /// that come of it.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), String> {
        match self.tls.fault(certificate, SystemTime::now()) {
            Some(CertificateFault::Unusable(error)) => Err(format!("{}: {error}", error.field())),
            Some(CertificateFault::Doubtful(_)) | None => Ok(()),
        }
    }

    /// Puts `routes` in force: their certificates for handshakes that begin after this, their rules for requests, their ports.
    /// Connections under way go on. What of them cannot be served is in [`HttpServer::problems`].
    pub fn set_routes(&mut self, routes: Arc<Routes>) {
        let (table, certificates) = self.tls.table(routes.clone(), SystemTime::now());
        self.certificates = certificates;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        let changes = self.ports.follow(&routes);
        self.shared.proxy.set_routes(routes);
        self.apply(changes);
    }

    /// Tries again to bind ports that could not be bound.
    pub fn retry(&mut self) {
        let changes = self.ports.retry();
        self.apply(changes);
    }

    fn apply(&self, changes: Vec<PortChange>) {
        for change in changes {
            match change {
                PortChange::Open(port, sockets) => {
                    for (thread, listener) in self.threads.iter().zip(sockets) {
                        thread.tell(Command::Listen { port, listener });
                    }
                }
                PortChange::Close(port) => self.threads.iter().for_each(|thread| thread.tell(Command::Close { port })),
            }
        }
    }

    /// What routes ask for and is not served as they say.
    pub fn problems(&self) -> Vec<ServerProblem> {
        let certificates = self.certificates.iter().cloned().map(ServerProblem::Certificate);
        let ports = self.ports.problems().map(|(address, why)| ServerProblem::Port(address, why.to_owned()));
        certificates.chain(ports).collect()
    }

    /// What the door and the engine have counted.
    pub fn counts(&self) -> Vec<Count> {
        self.shared.counts()
    }

    /// Answers on `address` how this server is, and what it has counted.
    pub fn serve_health(&self, address: SocketAddr) -> Result<HealthServer, StartError> {
        let shared = Arc::downgrade(&self.shared);
        let page = move || shared.upgrade().map(|shared| shared.metrics().text()).unwrap_or_default();
        HealthServer::start(address, Arc::new(page)).map_err(|error| StartError::Bind(address, error))
    }

    /// Ends the server: ports close, requests under way are answered, and what is still open after `grace` is cut. Returns at
    /// once; [`Stopping`] says when it has ended.
    pub fn stop(self, grace: Duration) -> Stopping {
        self.threads.iter().for_each(|thread| thread.tell(Command::Drain { grace }));
        Stopping { threads: self.threads }
    }
}

/// Lets the process have as many descriptors as its hard limit allows. The soft one is often 1024, for programs that use
/// select(2). If it stays, there are fewer connections: accepting rests when descriptors run out.
fn raise_descriptors_max() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// A server that ends.
pub struct Stopping {
    threads: Vec<Thread>,
}

impl Stopping {
    /// Whether every thread has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(Thread::is_over)
    }

    /// Waits for the end. The number of connections that had to be cut.
    pub fn wait(self) -> usize {
        self.threads.into_iter().map(Thread::wait).sum()
    }
}
