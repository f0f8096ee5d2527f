//! What load balancers outside the cluster ask over HTTP: whether a node has endpoints of a Service (healthCheckNodePort,
//! KEP-1669), and whether it takes new traffic at all (KEP-3836). And what the kubelet asks: whether the process lives (`/livez`, also
//! while it waits for its first tables, or it would be restarted for what a restart does not mend) and whether tables are in
//! force (`/readyz`).
//!
//! Paths, status codes, headers and bodies are kube-proxy's where it has them, because clients of cloud providers read them. Sockets are bound
//! by the caller of [`HealthServers::set`], which learns at once what cannot be bound; a thread of its own answers.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Connections at once over all ports; more wait in the backlog. A load balancer asks every node every few seconds.
const CONNECTIONS_MAX: usize = 128;

/// A client that connects and says nothing is dropped after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Header with the number of endpoints, for balancers that weigh nodes.
const WEIGHT_HEADER: &str = "X-Load-Balancing-Endpoint-Weight";

/// What is asked about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceHealth {
    /// metadata.namespace.
    pub(crate) namespace: Arc<str>,
    /// metadata.name.
    pub(crate) name: Arc<str>,
    /// Ready endpoints on this node.
    pub(crate) local_endpoints: usize,
}

/// What is to be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthPlan {
    /// Services by their healthCheckNodePort.
    pub(crate) services: BTreeMap<u16, ServiceHealth>,
    /// Addresses that they are served on; empty: all.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where the node's own health is served.
    pub(crate) node: Option<SocketAddr>,
    /// Whether tables are in force and the node forwards.
    pub(crate) healthy: bool,
    /// Whether the node takes new traffic: it is not being deleted.
    pub(crate) eligible: bool,
}

impl HealthPlan {
    /// The sockets that this takes. The unspecified IPv6 address stands for both families.
    fn sockets(&self) -> BTreeSet<SocketAddr> {
        let everywhere = [IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        let addresses = if self.addresses.is_empty() { &everywhere[..] } else { &self.addresses };
        let of_services = self.services.keys().flat_map(|port| addresses.iter().map(|a| SocketAddr::new(*a, *port)));
        of_services.chain(self.node).collect()
    }
}

/// A socket that cannot be bound.
#[derive(Debug)]
pub(crate) struct Unserved {
    /// Where.
    pub(crate) socket: SocketAddr,
    /// What the kernel said.
    pub(crate) error: io::Error,
}

/// The running servers. They stop when this is dropped.
pub(crate) struct HealthServers {
    answers: Arc<Mutex<HealthPlan>>,
    serving: BTreeMap<SocketAddr, Vec<AbortHandle>>,
    room: Arc<Semaphore>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HealthServers {
    /// Starts the thread; nothing is served yet.
    pub(crate) fn start() -> io::Result<HealthServers> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let serve = move || drop(runtime.block_on(stopped));
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(serve)?;
        Ok(HealthServers {
            answers: Arc::default(),
            serving: BTreeMap::new(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Serves exactly `plan`. What cannot be bound is tried again with the next plan.
    pub(crate) fn set(&mut self, plan: HealthPlan) -> Vec<Unserved> {
        let wanted = plan.sockets();
        *lock(&self.answers) = plan;
        self.serving.retain(|socket, servers| {
            let stays = wanted.contains(socket);
            if !stays {
                servers.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        let mut unserved = Vec::new();
        for socket in wanted {
            if self.serving.contains_key(&socket) {
                continue;
            }
            match bind(socket) {
                Ok(listeners) => {
                    let serve = |listener| {
                        let accepting = accept(listener, self.answers.clone(), self.room.clone());
                        self.runtime.spawn(accepting).abort_handle()
                    };
                    self.serving.insert(socket, listeners.into_iter().map(serve).collect());
                }
                Err(error) => unserved.push(Unserved { socket, error }),
            }
        }
        unserved
    }
}

impl Drop for HealthServers {
    fn drop(&mut self) {
        // The receiver is gone only if the thread is.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Binds `socket`; the unspecified IPv6 address means both families, whichever the kernel has.
fn bind(socket: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let open = |socket: SocketAddr| -> io::Result<TcpListener> {
        let listener = TcpListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    if socket.ip() != IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        return Ok(vec![open(socket)?]);
    }
    let (v6, v4) = (open(socket), open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), socket.port())));
    match (v6, v4) {
        // Usually one socket takes both families, and the second address is in use by the first.
        (Ok(v6), v4) => Ok([v6].into_iter().chain(v4.ok()).collect()),
        (Err(error), _) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A kernel without IPv6.
        (Err(_), v4) => Ok(vec![v4?]),
    }
}

async fn accept(listener: TcpListener, answers: Arc<Mutex<HealthPlan>>, room: Arc<Semaphore>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: some come back when connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (answers, local) = (answers.clone(), listener.local_addr());
        tokio::spawn(async move {
            let Ok(local) = local else { return };
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(&lock(&answers), local.port(), request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A connection that breaks is the client's affair.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

/// The answer of the server on `port`.
fn answer(plan: &HealthPlan, port: u16, path: &str) -> Response<Full<Bytes>> {
    if let Some(service) = plan.services.get(&port) {
        return of_service(service, plan.healthy);
    }
    match path.trim_end_matches('/') {
        "/healthz" => {
            let body = format!("{}, \"nodeEligible\": {}}}", times(), plan.eligible);
            respond(plan.healthy && plan.eligible, body, None)
        }
        "/livez" => respond(true, times() + "}", None),
        "/readyz" => respond(plan.healthy, times() + "}", None),
        _ => {
            let mut response = Response::new(Full::new(Bytes::from("404 page not found\n")));
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
            response
        }
    }
}

fn of_service(service: &ServiceHealth, healthy: bool) -> Response<Full<Bytes>> {
    let ServiceHealth { namespace, name, local_endpoints } = service;
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace:?},\n\t\t\"name\": {name:?}\n\t}},\n\t\"localEndpoints\": \
         {local_endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    respond(healthy && *local_endpoints > 0, body, Some(*local_endpoints))
}

/// The beginning of the body of /healthz, /livez and /readyz. Tables in force are always the last ones, so they are of this moment.
fn times() -> String {
    let now = jiff::Timestamp::now();
    format!("{{\"lastUpdated\": \"{now}\", \"currentTime\": \"{now}\"")
}

fn respond(is_healthy: bool, body: String, weight: Option<usize>) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(if is_healthy { 200 } else { 503 })
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(weight) = weight {
        response = response.header(WEIGHT_HEADER, weight);
    }
    response.body(Full::new(Bytes::from(body))).expect("a status and literal headers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    /// A port that is free at this moment.
    fn free_port() -> u16 {
        TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap().local_addr().unwrap().port()
    }

    /// Head and body of the answer.
    fn get(port: u16, path: &str) -> io::Result<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((head.to_ascii_lowercase(), body.to_owned()))
    }

    fn plan(port: u16, local_endpoints: usize) -> HealthPlan {
        let service = ServiceHealth { namespace: "shop".into(), name: "web".into(), local_endpoints };
        HealthPlan {
            services: BTreeMap::from([(port, service)]),
            healthy: true,
            eligible: true,
            ..HealthPlan::default()
        }
    }

    #[test]
    fn a_service_is_healthy_while_the_node_has_an_endpoint_of_it() {
        let (mut servers, port) = (HealthServers::start().unwrap(), free_port());
        for (count, status) in [(2, "200"), (0, "503")] {
            assert!(servers.set(plan(port, count)).is_empty());
            let (head, body) = get(port, "/").unwrap();
            assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
            assert!(head.contains(&format!("x-load-balancing-endpoint-weight: {count}")), "{head}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                body,
                serde_json::json!({"service": {"namespace": "shop", "name": "web"}, "localEndpoints": count,
                                   "serviceProxyHealthy": true})
            );
        }
    }

    #[test]
    fn a_port_is_closed_when_its_service_goes_and_one_in_use_is_told_and_had_later() {
        let (mut servers, port, other) = (HealthServers::start().unwrap(), free_port(), free_port());
        servers.set(plan(port, 1));
        get(port, "/").unwrap();
        let holder = TcpListener::bind(("127.0.0.1", other)).unwrap();
        let held = HealthPlan { addresses: vec!["127.0.0.1".parse().unwrap()], ..plan(other, 1) };
        let unserved = servers.set(held.clone());
        assert_eq!((unserved.len(), unserved[0].error.kind()), (1, io::ErrorKind::AddrInUse));
        let began = Instant::now();
        while get(port, "/").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "the port stays open");
        }
        drop(holder);
        assert!(servers.set(held).is_empty());
        get(other, "/").unwrap();
    }

    #[test]
    fn a_node_that_waits_or_is_being_deleted_is_alive_and_takes_no_new_traffic() {
        let (mut servers, port) = (HealthServers::start().unwrap(), free_port());
        let node = Some(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
        let status = |path: &str| get(port, path).unwrap().0[9..12].to_owned();
        let cases = [
            ((true, true), ["200", "200", "200"]),
            ((true, false), ["503", "200", "200"]),
            ((false, true), ["503", "200", "503"]),
        ];
        for ((healthy, eligible), expect) in cases {
            servers.set(HealthPlan { node, healthy, eligible, ..HealthPlan::default() });
            assert_eq!(["/healthz", "/livez", "/readyz"].map(status), expect, "healthy {healthy}, eligible {eligible}");
        }
        let body: Value = serde_json::from_str(&get(port, "/healthz").unwrap().1).unwrap();
        assert_eq!(body["nodeEligible"], true);
        assert!(body["currentTime"].is_string());
        assert_eq!(status("/"), "404");
    }
}
