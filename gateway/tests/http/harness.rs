//! A proxy on a thread of its own, backends that do as they are told, clients that see every byte.

use gateway::http::{Config, ConnectionInfo, Counts, Proxy, Worker, serve_connection};
use policy::objects::ObjectRef;
use policy::routes::{
    BackendProtocol, Endpoints, Filter, Forward, Outcome, Routes, Rule, RuleRef, Target, Timeouts, WeightedTarget,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions};

/// Port that routes know the listener by.
pub(crate) const PORT: u16 = 80;
/// How long anything may take. Reached only by a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A proxy with one worker.
pub(crate) struct TestProxy {
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Arc<Proxy>,
    commands: tokio::sync::mpsc::UnboundedSender<Command>,
}

enum Command {
    Drain,
    OpenConnections(Sender<(usize, usize)>),
}

impl TestProxy {
    /// A proxy with these rules under prefixes.
    pub(crate) fn start(config: Config, rules: Vec<(&str, Rule)>) -> TestProxy {
        let proxy = Proxy::new(config);
        proxy.set_routes(Arc::new(Routes::of_prefixes(PORT, rules)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (commands, waiting) = tokio::sync::mpsc::unbounded_channel();
        let served = proxy.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
            runtime.block_on(run(served, listener, waiting));
        });
        TestProxy { address, proxy, commands }
    }

    /// A proxy with the default configuration and one backend.
    pub(crate) fn to(backend: &Backend) -> TestProxy {
        TestProxy::start(Config::default(), vec![("/", rule(&[backend.address]))])
    }

    pub(crate) fn set_rules(&self, rules: Vec<(&str, Rule)>) {
        self.proxy.set_routes(Arc::new(Routes::of_prefixes(PORT, rules)));
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.proxy.counts()
    }

    /// Begins the end of all connections.
    pub(crate) fn drain(&self) {
        self.commands.send(Command::Drain).unwrap();
    }

    /// Client connections that are open, and backend connections that are kept.
    pub(crate) fn open(&self) -> (usize, usize) {
        let (reply, answer) = channel();
        self.commands.send(Command::OpenConnections(reply)).unwrap();
        answer.recv_timeout(DEADLINE).unwrap()
    }
}

async fn run(proxy: Arc<Proxy>, listener: TcpListener, mut commands: tokio::sync::mpsc::UnboundedReceiver<Command>) {
    let worker = Worker::start(&proxy);
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted.unwrap();
                let info = ConnectionInfo { peer, local_port: PORT, tls: None };
                tokio::task::spawn_local(serve_connection(stream, info, worker.clone()));
            }
            command = commands.recv() => match command {
                Some(Command::Drain) => worker.drain(),
                Some(Command::OpenConnections(reply)) => {
                    let _ = reply.send((worker.open_connections(), worker.kept_connections()));
                }
                None => return,
            }
        }
    }
}

/// A rule that forwards to HTTP/1.1 endpoints.
pub(crate) fn rule(addresses: &[SocketAddr]) -> Rule {
    rule_of(vec![(1, endpoints(addresses, BackendProtocol::Http1))])
}

pub(crate) fn endpoints(addresses: &[SocketAddr], protocol: BackendProtocol) -> Target {
    Target::Endpoints(Arc::new(Endpoints {
        namespace: "shop".into(),
        service: "backend".into(),
        port: 80,
        protocol,
        addresses: addresses.to_vec(),
    }))
}

/// A rule that forwards to targets by weight.
pub(crate) fn rule_of(targets: Vec<(u32, Target)>) -> Rule {
    let weight_total = targets.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let targets =
        targets.into_iter().map(|(weight, target)| WeightedTarget { weight, filters: Vec::new(), target }).collect();
    rule_with(Outcome::Forward(Forward { targets, weight_total }))
}

pub(crate) fn rule_with(outcome: Outcome) -> Rule {
    Rule {
        source: RuleRef {
            object: ObjectRef::new("Ingress", "shop", "web"),
            field: "spec.rules[0].http.paths[0]".into(),
            host: "*".into(),
            path: "/".into(),
            path_type: "Prefix",
        },
        filters: Vec::new(),
        outcome,
        timeouts: Timeouts::default(),
    }
}

pub(crate) fn with_filters(mut rule: Rule, filters: Vec<Filter>) -> Rule {
    rule.filters = filters;
    rule
}

/// A backend that does with each connection what it is told.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Receiver<String>>>,
}

/// A connection at a backend.
pub(crate) struct Served {
    pub(crate) stream: Client,
    /// Which of the backend's connections this is.
    pub(crate) number: usize,
    heads: Sender<String>,
}

impl Backend {
    /// `serve` is run for each connection, on a thread of its own.
    pub(crate) fn start(serve: impl Fn(&mut Served) + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (heads, received) = channel();
        let (counted, serve) = (connections.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let (heads, serve) = (heads.clone(), serve.clone());
                let mut served = Served { stream: Client::over(stream.unwrap()), number, heads };
                thread::spawn(move || serve(&mut served));
            }
        });
        Backend { address, connections, heads: Arc::new(Mutex::new(received)) }
    }

    /// Answers every request with `answer`, and keeps the connection.
    pub(crate) fn answering(answer: &'static str) -> Backend {
        Backend::start(move |served| {
            while served.read_request().is_some() {
                served.stream.send(answer);
            }
        })
    }

    /// A head that it received, in the order of arrival.
    pub(crate) fn head(&self) -> String {
        self.heads.lock().unwrap().recv_timeout(DEADLINE).expect("a request at the backend")
    }

    /// Whether it has received no head that was not asked for.
    pub(crate) fn is_untouched(&self) -> bool {
        self.heads.lock().unwrap().try_recv().is_err()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Served {
    /// The next request, head and body apart; `None` at the end of the connection.
    pub(crate) fn read_request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.stream.read_head()?;
        let _ = self.heads.send(head.clone());
        let body = self.stream.read_body(&head);
        Some((head, body))
    }

    /// The next head alone.
    pub(crate) fn read_head(&mut self) -> Option<String> {
        let head = self.stream.read_head()?;
        let _ = self.heads.send(head.clone());
        Some(head)
    }
}

/// One end of a connection that sees every byte.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The value of a field of a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    fields(head, name).into_iter().next()
}

/// All values of a field of a head.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).unwrap())
    }

    fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that has closed is seen by what is read next.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a GET and reads its answer.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
    }

    /// Sends a whole request and reads its answer.
    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.read_answer()
    }

    pub(crate) fn read_answer(&mut self) -> Answer {
        self.read_answer_to("GET")
    }

    pub(crate) fn read_answer_to(&mut self, method: &str) -> Answer {
        let head = self.read_head().expect("an answer");
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let has_body = method != "HEAD" && status >= 200 && status != 204 && status != 304;
        let body = match has_body {
            false => Vec::new(),
            true if is_framed(&head) => self.read_body(&head),
            true => self.read_to_end(),
        };
        Answer { head, body }
    }

    /// A head up to its empty line; `None` if the connection ends before it.
    pub(crate) fn read_head(&mut self) -> Option<String> {
        let end = self.read_until(|read| read.windows(4).position(|window| window == b"\r\n\r\n"))?;
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        Some(String::from_utf8(head).unwrap())
    }

    pub(crate) fn read_body(&mut self, head: &str) -> Vec<u8> {
        if let Some(length) = field(head, "content-length") {
            return self.read_bytes(length.parse().unwrap());
        }
        let mut body = Vec::new();
        if field(head, "transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.read_line(), 16).unwrap();
                if size == 0 {
                    while !self.read_line().is_empty() {}
                    break;
                }
                body.extend(self.read_bytes(size));
                assert_eq!(self.read_line(), "");
            }
        }
        body
    }

    pub(crate) fn read_line(&mut self) -> String {
        let end = self.read_until(|read| read.windows(2).position(|window| window == b"\r\n")).expect("a line");
        let line: Vec<u8> = self.read.drain(..end + 2).collect();
        String::from_utf8(line[..end].to_vec()).unwrap()
    }

    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        self.read_until(|read| (read.len() >= count).then_some(0)).expect("so many bytes");
        self.read.drain(..count).collect()
    }

    /// All that comes until the connection ends.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let end: Option<()> = self.read_until(|_| None);
        assert!(end.is_none());
        std::mem::take(&mut self.read)
    }

    /// Whether the other side ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read_to_end().is_empty()
    }

    fn read_until<T>(&mut self, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = found(&self.read) {
                return Some(found);
            }
            let mut bytes = [0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return None;
                }
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.read)),
            }
        }
    }
}

fn is_framed(head: &str) -> bool {
    field(head, "content-length").is_some() || field(head, "transfer-encoding").is_some()
}

/// Waits until `holds`.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        thread::yield_now();
    }
}

/// An address on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
