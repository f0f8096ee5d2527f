//! Requests that are refused before they get anywhere.

use crate::harness::{Backend, TestProxy, eventually, rule};
use gateway::http::{Config, Times};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn refused(request: &str, status: u16) {
    let backend = Backend::answering(OK);
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    let answer = client.ask(request);
    assert_eq!(answer.status(), status, "{request:?}");
    assert!(client.is_closed(), "nothing more is read after {request:?}");
    assert!(backend.is_untouched(), "{request:?} reached the backend");
    eventually("the refusal is counted", || proxy.counts().answers_4xx == 1);
}

#[test]
fn a_host_is_needed_once_and_valid() {
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400);
    refused("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400);
}

#[test]
fn a_path_cannot_climb_out_of_its_rule() {
    for path in ["/a/../b", "/a/%2e%2e/b", "/a/.%2E/b", "/./a", "/.."] {
        refused(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }
}

#[test]
fn tunnels_to_anywhere_are_not_opened() {
    refused("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405);
    refused("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

#[test]
fn what_is_too_large_is_told_by_its_name() {
    refused(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9_000)), 414);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "a".repeat(40_000)), 431);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)), 431);
}

#[test]
fn forms_that_smuggle_are_refused_before_the_backend() {
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    refused(
        &post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        400,
    );
    refused(&post("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"), 400);
    refused(&post("Content-Length: 0\r\nContent-Length: 5", "hello"), 400);
    refused(&post("Content-Length: +5", "hello"), 400);
    refused(&post("Transfer-Encoding: xchunked", "0\r\n\r\n"), 400);
    refused(&post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), 400);
    refused(&post("Transfer-Encoding : chunked", "0\r\n\r\n"), 400);
    refused(&post("X: a\r\n folded", ""), 400);
    refused(&post("X: a\nContent-Length: 5", "hello"), 400);
    refused(&post("X: a\0b", ""), 400);
    refused("GET / HTTP/1.1\nHost: a\n\n", 400);
    refused(&post("Transfer-Encoding: chunked", "5;a\nb\r\nhello\r\n0\r\n\r\n"), 400);
    refused(&post("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n"), 400);
}

#[test]
fn what_came_before_a_refused_request_is_answered() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\nHost: a\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_answer().status(), 200);
    assert_eq!(client.read_answer().status(), 400);
    assert!(client.is_closed());
    assert!(backend.head().starts_with("GET /a "));
    assert!(backend.is_untouched());
    eventually("the refusal is counted", || proxy.counts().refused_malformed == 1);
}

#[test]
fn a_chunk_that_breaks_the_rules_late_ends_the_request() {
    let backend = Backend::start(|served| {
        served.read_head();
        served.stream.read_to_end();
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    backend.head();
    client.send("5 \r\nworld\r\n0\r\n\r\n");
    assert_eq!(client.read_answer().status(), 400);
    assert!(client.is_closed());
}

#[test]
fn a_slow_head_is_given_up_and_counted() {
    let backend = Backend::answering(OK);
    let times = Times { head: Duration::from_millis(500), ..Times::default() };
    let config = Config { times, ..Config::default() };
    let proxy = TestProxy::start(config, vec![("/", rule(&[backend.address]))]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-");
    assert!(client.is_closed());
    assert_eq!(proxy.counts().slow_heads, 1);
}

#[test]
fn a_connection_without_requests_is_closed_in_time() {
    let backend = Backend::answering(OK);
    let times = Times { client_idle: Duration::from_millis(500), ..Times::default() };
    let config = Config { times, ..Config::default() };
    let proxy = TestProxy::start(config, vec![("/", rule(&[backend.address]))]);
    let mut never = proxy.client();
    let mut once = proxy.client();
    assert_eq!(once.get("/").status(), 200);
    assert!(once.is_closed());
    assert!(never.is_closed());
    assert_eq!(proxy.counts().slow_heads, 0);
}
