//! Changes under live connections, and an orderly end.

use crate::shop;
use crate::support::Folder;
use crate::support::ingress::{Backend, CLASS, PATIENCE, Proxy, Script, ingress, own_address, service, takes_effect};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn a_change_takes_effect_within_a_second_and_nothing_is_reloaded() {
    let (folder, _backend, proxy) = shop(&[]);
    let other = Backend::start("other");
    let mut live = Live::open(&proxy);
    assert!(live.get("/").starts_with("shop\n"));
    folder.write(
        "other.yaml",
        &(service("other", &[other.address], "") + &ingress("other", "other.example", "other", None)),
    );
    let took = takes_effect("a route", PATIENCE, || proxy.status("http://other.example/", &[]) == "200 1.1");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    let moved = [CLASS, &service("shop", &[other.address], ""), &ingress("shop", "shop.example", "shop", None)];
    folder.write("shop.yaml", &moved.concat());
    let took = takes_effect("an endpoint", PATIENCE, || proxy.get("http://shop.example/", &[]).starts_with("other\n"));
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert!(live.get("/").starts_with("other\n"), "on the connection of before");
    std::fs::remove_file(folder.path().join("other.yaml")).expect("it is there");
    let took = takes_effect("no route", PATIENCE, || proxy.status("http://other.example/", &[]) == "404 1.1");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert!(live.get("/").starts_with("other\n"));
}

/// A Gateway's listener on a port of its own, and one that shares the port of HTTP.
#[test]
fn i17_gateways_are_served_on_their_own_ports_and_on_shared_ones() {
    let (folder, _backend, proxy) = shop(&[]);
    let backend = Backend::start("routed");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let shared = proxy.http.port();
    let gateway = format!(
        "{}---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: podplane}}
spec: {{controllerName: podplane.io/gateway}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: door, namespace: default}}
spec:
  gatewayClassName: podplane
  listeners:
  - {{name: own, port: {free}, protocol: HTTP}}
  - {{name: shared, port: {shared}, protocol: HTTP, hostname: gateway.example}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: routed, namespace: default}}
spec:
  parentRefs: [{{name: door}}]
  hostnames: [gateway.example]
  rules: [{{matches: [{{path: {{value: /api}}}}], backendRefs: [{{name: routed, port: 80}}]}}]
",
        service("routed", &[backend.address], "")
    );
    let file = folder.write("gateway.yaml", &gateway);
    let ask_own = || {
        let url = format!("http://gateway.example:{free}/api/x");
        let resolve = format!("gateway.example:{free}:127.0.0.1");
        let output =
            std::process::Command::new("curl").args(["-s", "--max-time", "5", "--resolve", &resolve, &url]).output();
        crate::support::text(&output.expect("curl is installed").stdout)
    };
    takes_effect("the own port", PATIENCE, || ask_own().starts_with("routed\nGET /api/x HTTP/1.1\r\n"));
    assert!(proxy.get("http://gateway.example/api", &[]).starts_with("routed\n"));
    assert_eq!(proxy.status("http://gateway.example/other", &[]), "404 1.1");
    assert!(proxy.get("http://shop.example/", &[]).starts_with("shop\n"));
    std::fs::remove_file(file).expect("it is there");
    takes_effect("the closed port", PATIENCE, || ask_own().is_empty());
    assert_eq!(proxy.status("http://gateway.example/api", &[]), "404 1.1");
}

/// A connection that is kept.
struct Live(TcpStream);

impl Live {
    fn open(proxy: &Proxy) -> Live {
        let stream = TcpStream::connect(proxy.http).expect("the proxy listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Live(stream)
    }

    fn ask(&mut self, path: &str) {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("sent");
    }

    /// Head and body of an answer of a [`Backend`].
    fn answer(&mut self) -> (String, String) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0usize) {
                    return (head.to_lowercase(), body.to_owned());
                }
            }
            let mut buffer = [0; 4096];
            let count = self.0.read(&mut buffer).expect("an answer");
            assert_ne!(count, 0, "the connection has ended: {text}");
            bytes.extend(&buffer[..count]);
        }
    }

    fn get(&mut self, path: &str) -> String {
        self.ask(path);
        self.answer().1
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

/// A WebSocket whose backend stays is not cut by whatever else changes: endpoints that come and go beside its own, other
/// routes, its own rule.
#[test]
fn w22_websockets_live_through_136_changes() {
    if !Script::has_library("websockets") {
        return;
    }
    let address = own_address();
    let mut server = Script::start("websocket_echo.py", &["serve", &address.to_string()]);
    let port: u16 = server.line().parse().expect("a port");
    let folder = Folder::new();
    let echo = |others: usize| {
        let others = (1..=others).map(|number| ([198, 51, 100, number as u8], port).into());
        let endpoints: Vec<_> = [(address, port).into()].into_iter().chain(others).collect();
        [CLASS, &service("echo", &endpoints, ""), &ingress("echo", "localhost", "echo", None)].concat()
    };
    folder.write("echo.yaml", &echo(0));
    let proxy = Proxy::start(&folder, &[]);
    let url = format!("ws://localhost:{}/", proxy.http.port());
    let mut sockets: Vec<Script> = (0..5).map(|_| Script::start("websocket_echo.py", &["talk", &url])).collect();
    for socket in &mut sockets {
        socket.say("before");
        assert_eq!(socket.line(), "before");
    }
    let backend = Backend::start("more");
    for change in 1..=136 {
        folder.write("echo.yaml", &echo(change % 7));
        let host = format!("h{change}.example");
        let route = service("more", &[backend.address], "") + &ingress("more", &host, "more", None);
        folder.write("more.yaml", &route);
        if change % 17 == 0 {
            // What was written last is in force, so what was written before has been too, or has been passed over.
            takes_effect("a route", PATIENCE, || proxy.status(&format!("http://{host}/"), &[]) == "200 1.1");
            for socket in &mut sockets {
                let message = format!("change {change}");
                socket.say(&message);
                assert_eq!(socket.line(), message);
            }
        }
    }
    for socket in &mut sockets {
        drop(socket.child.stdin.take());
        assert_eq!(socket.line(), "closed 1000");
    }
}

#[test]
fn i20_what_is_under_way_is_answered_before_the_end() {
    let (folder, _backend, mut proxy) = shop(&["--drain-timeout", "20", "--healthz-listen", "127.0.0.1:0"]);
    let gate = folder.write("gate", "");
    let (mut busy, mut idle) = (Live::open(&proxy), Live::open(&proxy));
    assert!(idle.get("/").starts_with("shop\n"));
    assert!(busy.get("/").starts_with("shop\n"));
    busy.ask(&format!("/slow?{gate}"));
    proxy.counts("requests_total", 3);
    proxy.terminate();
    takes_effect("closed ports", PATIENCE, || TcpStream::connect(proxy.http).is_err());
    assert!(idle.is_closed(), "a connection without a request is closed");
    std::fs::remove_file(&gate).expect("it is there");
    let (head, body) = busy.answer();
    assert!(head.starts_with("http/1.1 200") && body.starts_with("shop\n"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(busy.is_closed());
    assert_eq!(proxy.wait(), Some(0));
    assert_eq!(proxy.stderr(), "");
}

/// Browsers open connections before they need them.
#[test]
fn i20_a_connection_that_has_asked_nothing_keeps_nobody() {
    let (_folder, _backend, mut proxy) = shop(&["--drain-timeout", "25", "--healthz-listen", "127.0.0.1:0"]);
    let mut live = Live::open(&proxy);
    proxy.counts("open_connections", 1);
    let began = Instant::now();
    proxy.terminate();
    assert!(live.is_closed());
    drop(live);
    assert_eq!(proxy.wait(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn i20_http_2_streams_under_way_are_answered_before_the_end() {
    let (folder, _backend, mut proxy) = shop(&["--drain-timeout", "20", "--healthz-listen", "127.0.0.1:0"]);
    let gate = folder.write("gate", "");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let args = ["--http2-prior-knowledge", "-w", "%{http_version}"];
            proxy.get(&format!("http://shop.example/slow?{gate}"), &args)
        });
        proxy.counts("requests_total", 1);
        proxy.terminate();
        takes_effect("closed ports", PATIENCE, || TcpStream::connect(proxy.http).is_err());
        std::fs::remove_file(&gate).expect("it is there");
        let answer = asked.join().expect("curl ends");
        assert!(answer.starts_with("shop\nGET /slow?") && answer.ends_with('2'), "{answer}");
    });
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn i20_a_websocket_has_the_time_to_drain_and_no_more() {
    if !Script::has_library("websockets") {
        return;
    }
    let address = own_address();
    let mut server = Script::start("websocket_echo.py", &["serve", &address.to_string()]);
    let port: u16 = server.line().parse().expect("a port");
    let folder = Folder::new();
    let manifests =
        [CLASS, &service("echo", &[(address, port).into()], ""), &ingress("echo", "localhost", "echo", None)];
    folder.write("echo.yaml", &manifests.concat());
    let mut proxy = Proxy::start(&folder, &["--drain-timeout", "2"]);
    let url = format!("ws://localhost:{}/", proxy.http.port());
    let mut socket = Script::start("websocket_echo.py", &["talk", &url]);
    socket.say("before");
    assert_eq!(socket.line(), "before");
    let began = Instant::now();
    proxy.terminate();
    takes_effect("closed ports", PATIENCE, || TcpStream::connect(proxy.http).is_err());
    socket.say("meanwhile");
    assert_eq!(socket.line(), "meanwhile");
    assert_eq!(proxy.wait(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(proxy.stderr().contains("1 connection was still open after 2 s, and cut"), "{}", proxy.stderr());
    drop(socket.child.stdin.take());
    assert_eq!(socket.line(), "closed 1006");
}
