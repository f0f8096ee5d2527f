//! The server around the engine: ports that come and go with Gateways, and limits of time before there is HTTP.

use gateway::http::{HttpServer, ServerConfig, ServerProblem};
use policy::cluster::Cluster;
use policy::objects::parse;
use policy::routes::{RouteOptions, compile};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A port that is free at this moment.
fn free_port() -> u16 {
    TcpListener::bind(loopback(0)).expect("a free port").local_addr().expect("bound").port()
}

fn start(change: impl FnOnce(&mut ServerConfig)) -> HttpServer {
    let mut config = ServerConfig::new(loopback(0), loopback(0));
    config.workers = 2;
    change(&mut config);
    HttpServer::start(config).expect("a server")
}

/// Puts a Gateway with listeners on `ports` in force.
fn set_gateway(server: &mut HttpServer, ports: &[u16]) {
    let listeners: Vec<String> =
        ports.iter().map(|port| format!("{{name: p{port}, port: {port}, protocol: HTTP}}")).collect();
    let manifest = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: podplane}}, spec: {{controllerName: \
         podplane.io/gateway}}}}\n---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g, namespace: \
         default}}, spec: {{gatewayClassName: podplane, listeners: [{}]}}}}\n",
        listeners.join(", ")
    );
    let manifest = if ports.is_empty() { String::new() } else { manifest };
    let parsed = parse("gateway.yaml", &manifest);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let options = RouteOptions {
        http_port: server.http_address().port(),
        https_port: server.https_address().port(),
        ..RouteOptions::default()
    };
    server.set_routes(Arc::new(compile(&Cluster::from_objects(parsed.objects).0, &options).routes));
}

/// The status of a request to `port`; `None` if nothing listens there.
fn status(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(loopback(port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.get(9..12).map(str::to_owned)
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::yield_now();
    }
}

fn count(server: &HttpServer, name: &str) -> u64 {
    server.counts().into_iter().find(|count| count.name == name).expect("a counter").value
}

#[test]
fn ports_come_and_go_with_the_listeners_of_gateways() {
    let mut server = start(|_| {});
    let (one, two) = (free_port(), free_port());
    set_gateway(&mut server, &[one]);
    wait_for("the first port", || status(one).as_deref() == Some("404"));
    set_gateway(&mut server, &[one, two]);
    wait_for("the second port", || status(two).as_deref() == Some("404"));
    assert_eq!(status(one).as_deref(), Some("404"));
    set_gateway(&mut server, &[]);
    wait_for("closed ports", || status(one).is_none() && status(two).is_none());
    let http = server.http_address().port();
    assert_eq!(status(http).as_deref(), Some("404"), "the port of Ingresses stays");
    set_gateway(&mut server, &[two]);
    wait_for("the second port again", || status(two).as_deref() == Some("404"));
    assert_eq!(server.problems(), []);
}

#[test]
fn a_port_that_another_program_has_is_a_problem_and_is_had_later() {
    let mut server = start(|_| {});
    let holder = TcpListener::bind(loopback(0)).expect("a free port");
    let port = holder.local_addr().expect("bound").port();
    set_gateway(&mut server, &[port]);
    let problems = server.problems();
    assert!(matches!(&problems[..], [ServerProblem::Port(address, _)] if address.port() == port), "{problems:?}");
    let told = problems[0].to_string();
    assert!(told.starts_with(&format!("port {port}: cannot listen on 127.0.0.1:{port}: ")), "{told}");
    server.retry();
    assert_eq!(server.problems(), problems, "it is still held");
    drop(holder);
    server.retry();
    assert_eq!(server.problems(), []);
    wait_for("the port", || status(port).as_deref() == Some("404"));
}

#[test]
fn a_handshake_that_does_not_come_is_closed_and_counted() {
    let mut server = start(|config| config.handshake_timeout = Duration::from_millis(300));
    set_gateway(&mut server, &[]);
    for beginning in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(server.https_address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(beginning).expect("sent");
        assert_eq!(stream.read(&mut [0; 16]).ok(), Some(0), "{beginning:?}");
    }
    wait_for("both counted", || count(&server, "handshake_timeouts") == 2);
    let mut stream = TcpStream::connect(server.https_address()).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    wait_for("a failed handshake", || count(&server, "handshake_failures") == 1);
}

#[test]
fn a_proxy_protocol_header_that_does_not_come_is_closed_and_counted() {
    let mut server = start(|config| {
        config.handshake_timeout = Duration::from_millis(300);
        config.proxy_protocol = true;
        config.proxy.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    });
    set_gateway(&mut server, &[]);
    for beginning in [&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let mut stream = TcpStream::connect(server.http_address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(beginning).expect("sent");
        assert_eq!(stream.read(&mut [0; 16]).ok(), Some(0), "{beginning:?}");
    }
    wait_for("all counted", || count(&server, "handshake_timeouts") == 3);
    let mut stream = TcpStream::connect(server.http_address()).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    wait_for("a refused header", || count(&server, "proxy_protocol_refused") == 1);
    drop(TcpStream::connect(server.http_address()).expect("it listens"));
    wait_for("one that was gone", || count(&server, "gone_early") == 1);
}

/// Nobody is told of routes that nobody has read.
#[test]
fn nothing_is_accepted_before_there_are_routes() {
    let mut server = start(|_| {});
    let http = server.http_address().port();
    let asked = std::thread::spawn(move || status(http));
    let mut stream = TcpStream::connect(server.http_address()).expect("the kernel takes it");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    assert!(stream.read(&mut [0; 16]).is_err(), "no answer");
    assert_eq!(count(&server, "accepted"), 0);
    set_gateway(&mut server, &[]);
    assert_eq!(asked.join().expect("it ends").as_deref(), Some("404"));
}

#[test]
fn a_server_without_connections_stops_at_once() {
    let mut server = start(|_| {});
    set_gateway(&mut server, &[]);
    let http = server.http_address().port();
    assert_eq!(status(http).as_deref(), Some("404"));
    let began = Instant::now();
    assert_eq!(server.stop(Duration::from_secs(60)).wait(), 0);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(status(http), None);
}
