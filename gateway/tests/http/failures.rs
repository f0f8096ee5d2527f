//! Backends that fail: who is asked again, and what the client is told.

use crate::harness::{Backend, TestProxy, endpoints, eventually, nobody, rule, rule_of};
use gateway::http::{Config, Times};
use policy::routes::{BackendProtocol, Target, Timeouts};
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn an_endpoint_that_refuses_is_passed_over_whatever_the_method() {
    let backend = Backend::answering(OK);
    let rule = || rule(&[nobody(), nobody(), backend.address]);
    let proxy = TestProxy::start(Config::default(), vec![("/", rule())]);
    let mut client = proxy.client();
    let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    // Those that refused are known now, and not asked again as long as there is another.
    let retries = proxy.counts().retries;
    for _ in 0..10 {
        assert_eq!(client.get("/").status(), 200);
    }
    let again = proxy.counts().retries - retries;
    assert!(again <= 2 - retries, "{again} more after {retries}");
}

#[test]
fn nobody_to_connect_to_is_502() {
    let proxy = TestProxy::start(Config::default(), vec![("/", rule(&[nobody(), nobody()]))]);
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.text()), (502, "502: no endpoint of the Service could be reached\n"));
    assert_eq!((proxy.counts().unreachable, proxy.counts().backend_connect_failures), (1, 2));
}

#[test]
fn no_endpoint_and_no_service_are_503_and_an_unresolved_reference_is_what_its_rule_says() {
    let unresolved = |status| Target::Unresolved { status, why: "Service shop/x is not there".into() };
    let proxy = TestProxy::start(
        Config::default(),
        vec![
            ("/none", rule(&[])),
            ("/gone", rule_of(vec![(1, unresolved(503))])),
            ("/bad", rule_of(vec![(1, unresolved(500))])),
        ],
    );
    let mut client = proxy.client();
    assert_eq!(client.get("/none").text(), "503: the Service has no endpoint that is ready\n");
    assert_eq!(client.get("/gone").text(), "503: the Service of this rule is not there\n");
    let answer = client.get("/bad");
    assert_eq!(answer.status(), 500);
    assert!(!answer.text().contains("shop"), "clients learn nothing of the cluster: {}", answer.text());
    assert_eq!(proxy.counts().no_endpoint, 3);
}

#[test]
fn a_backend_that_is_not_http_or_breaks_off_is_502() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 999999 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let backend = Backend::start(move |served| {
            served.read_request();
            served.stream.send(answer);
        });
        let proxy = TestProxy::to(&backend);
        let mut client = proxy.client();
        let got = client.get("/");
        assert_eq!(
            (got.status(), got.text()),
            (502, "502: the backend broke off or did not answer in HTTP\n"),
            "{answer:?}"
        );
        assert_eq!(proxy.counts().bad_answers, 1);
        assert_eq!(backend.connections(), 1, "a fresh connection that fails is not tried again");
    }
}

/// A backend that closes its first connection after one answer, just when the next request has arrived.
fn closes_when_asked_again() -> Backend {
    Backend::start(|served| {
        while served.read_request().is_some() {
            served.stream.send(OK);
            if served.number == 0 {
                served.read_head();
                return;
            }
        }
    })
}

#[test]
fn a_kept_connection_that_closes_before_an_answer_costs_an_idempotent_request_nothing() {
    let backend = closes_when_asked_again();
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    assert_eq!(client.get("/a").status(), 200);
    assert_eq!(client.get("/b").status(), 200);
    assert_eq!((backend.connections(), proxy.counts().retries), (2, 1));
}

#[test]
fn a_request_that_is_not_idempotent_is_never_sent_twice() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "PATCH / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let backend = closes_when_asked_again();
        let proxy = TestProxy::to(&backend);
        let mut client = proxy.client();
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(client.ask(request).status(), 502, "{request:?}");
        assert_eq!(backend.connections(), 1);
    }
}

#[test]
fn a_kept_connection_that_the_backend_has_closed_is_not_used() {
    let backend = Backend::start(|served| {
        served.read_request();
        served.stream.send(OK);
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
        eventually("the sweep closes what the backend has closed", || proxy.open().1 == 0);
    }
}

#[test]
fn a_backend_that_says_close_is_believed() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.field("connection")), (200, None));
    }
    assert_eq!(backend.connections(), 3);
}

/// Answers nothing.
fn silent() -> Backend {
    Backend::start(|served| {
        served.read_request();
        served.stream.read_to_end();
    })
}

#[test]
fn a_backend_that_does_not_answer_in_the_proxys_time_is_504() {
    let backend = silent();
    let times = Times { answer_head: Duration::from_millis(200), ..Times::default() };
    let config = Config { times, ..Config::default() };
    let proxy = TestProxy::start(config, vec![("/", rule(&[backend.address]))]);
    let begun = Instant::now();
    let answer = proxy.client().get("/");
    assert_eq!((answer.status(), answer.text()), (504, "504: the backend did not answer in time\n"));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(proxy.counts().timeouts, 1);
}

#[test]
fn a_client_that_sends_slowly_is_not_the_backends_fault() {
    let backend = Backend::start(|served| {
        served.read_request();
        served.stream.send(OK);
    });
    let times = Times { answer_head: Duration::from_millis(100), ..Times::default() };
    let config = Config { times, ..Config::default() };
    let proxy = TestProxy::start(config, vec![("/", rule(&[backend.address]))]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    let begun = Instant::now();
    for byte in ["a", "b", "c", "d"] {
        // Three times the limit between two bytes: what is measured is time itself.
        let until = begun.elapsed() + Duration::from_millis(300);
        while begun.elapsed() < until {
            std::thread::yield_now();
        }
        client.send(byte);
    }
    assert_eq!(client.read_answer().status(), 200);
}

#[test]
fn a_rules_own_time_is_kept_to_the_millisecond() {
    let backend = silent();
    for timeouts in [
        Timeouts { request: Some(Duration::from_millis(50)), backend_request: None },
        Timeouts { request: None, backend_request: Some(Duration::from_millis(50)) },
    ] {
        let mut rule = rule(&[backend.address]);
        rule.timeouts = timeouts;
        let proxy = TestProxy::start(Config::default(), vec![("/", rule)]);
        let begun = Instant::now();
        assert_eq!(proxy.client().get("/").status(), 504, "{timeouts:?}");
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
}

#[test]
fn a_rules_time_holds_for_the_whole_answer() {
    let backend = Backend::start(|served| {
        served.read_request();
        served.stream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        served.stream.read_to_end();
    });
    let mut rule = rule(&[backend.address]);
    rule.timeouts.request = Some(Duration::from_millis(100));
    let proxy = TestProxy::start(Config::default(), vec![("/", rule)]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read_head().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(client.read_to_end(), b"hello");
}

#[test]
fn zero_is_no_limit() {
    let backend = Backend::answering(OK);
    let mut rule = rule(&[backend.address]);
    rule.timeouts = Timeouts { request: Some(Duration::ZERO), backend_request: Some(Duration::ZERO) };
    let proxy = TestProxy::start(Config::default(), vec![("/", rule)]);
    assert_eq!(proxy.client().get("/").status(), 200);
}

#[test]
fn a_client_that_goes_away_frees_the_backend() {
    let backend = silent();
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.head();
    drop(client);
    eventually("the connection ends with its client", || proxy.open() == (0, 0));
}

#[test]
fn a_tls_backend_that_does_not_speak_tls_is_502() {
    let backend = Backend::start(|served| served.stream.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let target = endpoints(&[backend.address], BackendProtocol::Https);
    let proxy = TestProxy::start(Config::default(), vec![("/", rule_of(vec![(1, target)]))]);
    assert_eq!(proxy.client().get("/").status(), 502);
}
