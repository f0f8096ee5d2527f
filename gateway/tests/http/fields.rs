//! Header fields on their way to the backend.

use crate::harness::{Backend, TestProxy, field, fields, rule};
use gateway::http::Config;

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n";

/// The head that a backend gets of `request`.
fn sent(config: Config, request: &str) -> String {
    let backend = Backend::answering(OK);
    let proxy = TestProxy::start(config, vec![("/", rule(&[backend.address]))]);
    let answer = proxy.client().ask(request);
    assert_eq!(answer.status(), 200);
    assert_eq!(
        (answer.field("x-hop"), answer.field("keep-alive")),
        (None, None),
        "hop-by-hop fields of the answer end"
    );
    backend.head()
}

#[test]
fn the_backend_learns_who_asked_for_what() {
    let head = sent(
        Config::default(),
        "GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\r\n",
    );
    assert_eq!(fields(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(fields(&head, "x-real-ip"), ["127.0.0.1"]);
    assert_eq!(fields(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(fields(&head, "x-forwarded-host"), ["Shop.Example:8080"]);
    assert_eq!(fields(&head, "x-forwarded-port"), ["80"]);
    assert_eq!(fields(&head, "host"), ["Shop.Example:8080"]);
    assert_eq!(field(&head, "forwarded"), None);
    assert_eq!(field(&head, "x-request-id").unwrap().len(), 32);
    assert_eq!(field(&head, "via"), None);
}

#[test]
fn a_trusted_proxy_is_believed() {
    let config = Config { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..Config::default() };
    let head = sent(
        config,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 7\r\n\r\n",
    );
    assert_eq!(fields(&head, "x-forwarded-for"), ["1.2.3.4, 127.0.0.1"]);
    assert_eq!(fields(&head, "x-real-ip"), ["1.2.3.4"]);
    assert_eq!(fields(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(fields(&head, "x-request-id"), ["7"]);
}

#[test]
fn hop_by_hop_fields_end_here() {
    let head = sent(
        Config::default(),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nCookie: a=b\r\n\r\n",
    );
    for name in ["connection", "x-mine", "keep-alive", "upgrade", "proxy-connection"] {
        assert_eq!(field(&head, name), None, "{name} in {head}");
    }
    assert_eq!((field(&head, "te"), field(&head, "cookie")), (Some("trailers"), Some("a=b")));
}

#[test]
fn connection_cannot_take_away_what_the_proxy_says() {
    let head =
        sent(Config::default(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: Host, X-Forwarded-For, X-Real-IP\r\n\r\n");
    assert_eq!(
        (field(&head, "host"), field(&head, "x-forwarded-for"), field(&head, "x-real-ip")),
        (Some("a"), Some("127.0.0.1"), Some("127.0.0.1"))
    );
}

#[test]
fn a_whole_url_becomes_a_path_and_its_host() {
    let head = sent(Config::default(), "GET http://shop.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert_eq!(fields(&head, "host"), ["shop.example"]);
}

#[test]
fn a_path_goes_on_as_it_was_sent() {
    let head = sent(Config::default(), "GET //a/%2F/b;c=d/%20?x=%2e%2e&y HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("GET //a/%2F/b;c=d/%20?x=%2e%2e&y HTTP/1.1\r\n"), "{head}");
}
