//! Connections that change their protocol.

use crate::harness::{Backend, Client, TestProxy, eventually, field, rule};
use std::net::Shutdown;

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

/// Agrees to change, says hello, then sends back what it gets until that ends.
fn echoing() -> Backend {
    Backend::start(|served| {
        served.read_head();
        served.stream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s\r\n\r\nhello");
        loop {
            let bytes = served.stream.read_bytes(4);
            if bytes == b"stop" {
                served.stream.send("rest");
                return;
            }
            served.stream.send(bytes);
        }
    })
}

fn upgraded(proxy: &TestProxy) -> Client {
    let mut client = proxy.client();
    client.send(ASK);
    let head = client.read_head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert_eq!(field(&head, "connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(field(&head, "sec-websocket-accept"), Some("s"));
    assert_eq!(client.read_bytes(5), b"hello");
    client
}

#[test]
fn both_sides_are_joined_and_bytes_are_bytes() {
    let backend = echoing();
    let proxy = TestProxy::to(&backend);
    let mut client = upgraded(&proxy);
    let head = backend.head();
    assert_eq!(
        (field(&head, "upgrade"), field(&head, "connection"), field(&head, "sec-websocket-key")),
        (Some("websocket"), Some("upgrade"), Some("k"))
    );
    for bytes in [b"ping", b"\0\n\r\xff", b"GET "] {
        client.send(bytes);
        assert_eq!(client.read_bytes(4), bytes);
    }
    client.send("stop");
    assert_eq!(client.read_to_end(), b"rest");
    assert_eq!(proxy.counts().answers_1xx, 1);
}

#[test]
fn one_side_may_end_before_the_other() {
    let backend = Backend::start(|served| {
        served.read_head();
        served.stream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        let all = served.stream.read_to_end();
        served.stream.send(format!("got {}", all.len()));
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert!(client.read_head().unwrap().starts_with("HTTP/1.1 101 "));
    client.send("12345");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(), b"got 5");
}

#[test]
fn changed_routes_and_endpoints_that_are_gone_leave_it_alone() {
    let backend = echoing();
    let other = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    let proxy = TestProxy::to(&backend);
    let mut client = upgraded(&proxy);
    for _ in 0..136 {
        proxy.set_rules(vec![("/", rule(&[other.address]))]);
        assert_eq!(proxy.client().get("/").text(), "other");
        proxy.set_rules(Vec::new());
        client.send("ping");
        assert_eq!(client.read_bytes(4), b"ping");
    }
    assert!(proxy.open().0 >= 1, "it counts as open");
    drop(client);
    eventually("it ends with its client", || proxy.open().0 == 0);
}

#[test]
fn a_backend_that_does_not_want_to_answers_as_always() {
    let backend = Backend::answering("HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nno\n");
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.ask(ASK);
        assert_eq!((answer.status(), answer.text()), (426, "no\n"));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_upgrade_to_http_2_is_ignored() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    let head = backend.head();
    assert_eq!((field(&head, "upgrade"), field(&head, "http2-settings")), (None, None));
}
