//! The proxy under test with one worker, one route and one backend, and raw connections to it.

use crate::backend::{Backend, Seen};
use gateway::http::{HttpServer, ServerConfig};
use policy::cluster::Cluster;
use policy::objects::{Object, parse};
use policy::routes::{RouteOptions, compile};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is hidden behind or in a hostile request: no backend may ever see it.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: hostile.example\r\n\r\n";

/// How long anything of these tests may take, unless it is about a limit of time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Slow heads are closed after this, in these tests.
pub const HEAD_TIME: Duration = Duration::from_millis(1500);

const CLUSTER: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}}]
ports: [{port: BACKEND}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: podplane}
spec: {controller: podplane.io/ingress}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: podplane
  rules:
  - host: hostile.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The proxy and its backend.
pub struct Bench {
    pub server: HttpServer,
    pub http: SocketAddr,
    pub backend: Backend,
}

impl Bench {
    /// A proxy that `change` has set up.
    pub fn with(change: impl FnOnce(&mut ServerConfig)) -> Bench {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Those of the test itself are told as ever; one of a worker would otherwise go unnoticed.
            if std::thread::current().name().is_some_and(|name| name.starts_with("http-")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(panic);
        }));
        let backend = Backend::start();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ServerConfig::new(loopback, loopback);
        config.workers = 1;
        config.proxy.times.head = HEAD_TIME;
        change(&mut config);
        let mut server = HttpServer::start(config).expect("a server");
        let options = RouteOptions {
            http_port: server.http_address().port(),
            https_port: server.https_address().port(),
            ..RouteOptions::default()
        };
        let compiled = compile(&cluster(backend.address), &options);
        assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
        server.set_routes(Arc::new(compiled.routes));
        Bench { http: server.http_address(), server, backend }
    }

    pub fn new() -> Bench {
        Bench::with(|_| {})
    }

    /// A connection to the HTTP port.
    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.http).expect("the proxy listens");
        stream.set_nodelay(true).expect("a socket");
        Client { stream }
    }

    /// The answer to a plain request on a connection of its own: the proxy is alive, and what the backend had been sent before is
    /// noted.
    pub fn is_alive(&self) {
        let mut client = self.connect();
        client.send(b"GET /alive HTTP/1.1\r\nHost: hostile.example\r\nConnection: close\r\n\r\n");
        let answer = client.read_to_end(PATIENCE);
        assert!(answer.text.starts_with("HTTP/1.1 200 ") && answer.is_closed, "not alive: {answer:?}");
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a worker panicked");
    }

    /// What the backend has seen beside `is_alive`.
    pub fn seen(&self) -> Vec<Seen> {
        self.is_alive();
        let mut seen = self.backend.take();
        for seen in &mut seen {
            seen.heads.retain(|head| !head.starts_with("GET /alive "));
        }
        seen.retain(|seen| !seen.heads.is_empty() || !seen.bytes.starts_with(b"GET /alive "));
        seen
    }

    /// Sends `bytes` and then [`SMUGGLED`]: one answer with one of `statuses`, the connection closed, nothing seen by the backend.
    pub fn refuses(&self, what: &str, bytes: &[u8], statuses: &[u16]) {
        let answer = self.exchange(bytes);
        assert_eq!(answer.statuses().len(), 1, "{what}: answers: {answer:?}");
        assert!(statuses.contains(&answer.statuses()[0]), "{what}: {answer:?}");
        assert!(answer.is_closed, "{what}: not closed: {answer:?}");
        let seen = self.seen();
        assert!(seen.is_empty(), "{what}: the backend saw {seen:?}");
    }

    /// Sends `bytes`, a head with a broken body, and then [`SMUGGLED`]: the connection is closed, and the backend saw no complete
    /// request and nothing of what was smuggled.
    pub fn refuses_body(&self, what: &str, bytes: &[u8]) {
        let answer = self.exchange(bytes);
        assert!(answer.is_closed, "{what}: not closed: {answer:?}");
        assert!(answer.statuses().iter().all(|status| (400..=502).contains(status)), "{what}: {answer:?}");
        assert!(answer.statuses().len() <= 1, "{what}: answers: {answer:?}");
        for seen in self.seen() {
            let text = String::from_utf8_lossy(&seen.bytes);
            assert!(!text.contains("smuggled"), "{what}: the backend saw {text:?}");
            assert!(seen.bodies.len() < seen.heads.len().max(1), "{what}: a complete request: {text:?}");
        }
    }

    /// Sends `bytes`: the answers are 200, and the backend saw exactly these requests, each by the beginning of its head.
    pub fn takes(&self, what: &str, bytes: &[u8], requests: &[&str]) {
        let mut client = self.connect();
        client.send(bytes);
        let answer = client.read_answers(requests.len(), PATIENCE);
        assert_eq!(answer.statuses(), vec![200; requests.len()], "{what}: {answer:?}");
        let seen = self.seen();
        let heads: Vec<&str> = seen.iter().flat_map(|seen| &seen.heads).map(String::as_str).collect();
        assert_eq!(heads.len(), requests.len(), "{what}: the backend saw {heads:?}");
        for (head, request) in heads.iter().zip(requests) {
            assert!(head.starts_with(request), "{what}: the backend saw {heads:?}");
        }
    }

    fn exchange(&self, bytes: &[u8]) -> Answer {
        let mut client = self.connect();
        client.send(&[bytes, SMUGGLED.as_bytes()].concat());
        client.read_to_end(PATIENCE)
    }
}

fn cluster(backend: SocketAddr) -> Cluster {
    let parsed = parse("cluster.yaml", &CLUSTER.replace("BACKEND", &backend.port().to_string()));
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let mut objects = parsed.objects;
    for sourced in &mut objects {
        // An EndpointSlice with a loopback address would be refused, and rightly so; a test has no other.
        if let Object::EndpointSlice(slice) = &mut sourced.object {
            Arc::make_mut(slice).endpoints.as_mut().expect("it has one")[0].addresses = vec![backend.ip().to_string()];
        }
    }
    Cluster::from_objects(objects).0
}

/// A raw connection.
pub struct Client {
    pub stream: TcpStream,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub bytes: Vec<u8>,
    pub text: String,
    /// Whether the proxy closed the connection.
    pub is_closed: bool,
}

impl Answer {
    fn new(bytes: Vec<u8>, is_closed: bool) -> Answer {
        Answer { text: String::from_utf8_lossy(&bytes).into_owned(), bytes, is_closed }
    }

    /// Statuses of the answers, in order.
    pub fn statuses(&self) -> Vec<u16> {
        let mut parts = self.text.split("HTTP/1.");
        parts.next();
        parts.map(|part| part.get(2..5).and_then(|status| status.parse().ok()).unwrap_or(0)).collect()
    }
}

impl Client {
    /// Sends as much as the proxy takes: it may close before the end.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let _ = self.stream.write_all(bytes);
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        self.stream.write_all(bytes).is_ok()
    }

    /// That nothing more comes from the client.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// What comes until the proxy closes, for `limit` at most.
    pub fn read_to_end(&mut self, limit: Duration) -> Answer {
        self.read_while(limit, |_| true)
    }

    /// What comes until there are `count` answers of the backend, for `limit` at most.
    pub fn read_answers(&mut self, count: usize, limit: Duration) -> Answer {
        self.read_while(limit, |text| text.matches("\r\n\r\nok").count() < count)
    }

    pub fn read_while(&mut self, limit: Duration, more: impl Fn(&str) -> bool) -> Answer {
        let deadline = Instant::now() + limit;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 65_536];
        while more(&String::from_utf8_lossy(&bytes)) {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("a socket");
            match self.stream.read(&mut buffer) {
                Ok(0) => return Answer::new(bytes, true),
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Answer::new(bytes, false);
                }
                // Reset: closed while the client was still sending.
                Err(_) => return Answer::new(bytes, true),
            }
        }
        Answer::new(bytes, false)
    }
}
