//! Routes that change, connections that are kept, an orderly end.

use crate::harness::{Backend, TestProxy, eventually, rule};
use std::sync::Mutex;
use std::sync::mpsc::channel;

#[test]
fn changed_routes_hold_for_the_next_request_on_the_same_connection() {
    let one = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    let two = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo");
    let proxy = TestProxy::to(&one);
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "one");
        proxy.set_rules(vec![("/", rule(&[two.address]))]);
        assert_eq!(client.get("/").text(), "two");
        proxy.set_rules(vec![("/", rule(&[one.address]))]);
    }
    assert_eq!((one.connections(), two.connections()), (1, 1), "kept connections outlive the change");
}

#[test]
fn a_request_under_way_goes_on_when_its_route_is_gone() {
    let (go, going) = channel::<()>();
    let going = Mutex::new(going);
    let backend = Backend::start(move |served| {
        served.read_request();
        going.lock().unwrap().recv().unwrap();
        served.stream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.head();
    proxy.set_rules(Vec::new());
    assert_eq!(proxy.client().get("/").status(), 404);
    go.send(()).unwrap();
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn draining_answers_what_is_under_way_and_closes_the_rest() {
    let (go, going) = channel::<()>();
    let going = Mutex::new(going);
    let backend = Backend::start(move |served| {
        served.read_request();
        going.lock().unwrap().recv().unwrap();
        served.stream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = TestProxy::to(&backend);
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.head();
    proxy.drain();
    assert!(idle.is_closed());
    go.send(()).unwrap();
    assert_eq!(busy.read_answer().text(), "ok");
    assert!(busy.is_closed());
    eventually("all connections are over", || proxy.open().0 == 0);
}

#[test]
fn unused_connections_to_a_backend_that_no_route_leads_to_are_closed() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::to(&backend);
    proxy.client().get("/");
    assert_eq!(proxy.open().1, 1);
    proxy.set_rules(Vec::new());
    eventually("the kept connection is closed", || proxy.open().1 == 0);
}
