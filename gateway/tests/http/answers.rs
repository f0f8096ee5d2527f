//! What comes back of plain requests.

use crate::harness::{Backend, TestProxy, field};

#[test]
fn a_request_reaches_its_backend_and_the_answer_its_client() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nServer: theirs\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello");
    let proxy = TestProxy::to(&backend);
    let answer = proxy.client().get("/a/b?c=d");
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    assert_eq!((answer.field("server"), answer.field("x-a")), (Some("theirs"), Some("b")));
    let head = backend.head();
    assert!(head.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some("shop.example"));
}

#[test]
fn connections_of_both_sides_carry_one_request_after_the_other() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|served| {
        while let Some((head, _)) = served.read_request() {
            let path = head.split(' ').nth(1).unwrap();
            served.stream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests);
    for n in 0..20 {
        assert_eq!(client.read_answer().text(), format!("/{n}"));
    }
}

#[test]
fn an_answer_without_a_length_is_chunked_for_http_11_and_ends_the_connection_for_http_10() {
    let backend = Backend::start(|served| {
        served.read_request();
        served.stream.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    let proxy = TestProxy::to(&backend);
    let answer = proxy.client().get("/");
    assert_eq!((answer.field("transfer-encoding"), answer.text()), (Some("chunked"), "until the end"));
    let mut old = proxy.client();
    let answer = old.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(answer.head.starts_with("HTTP/1.0 200"), "{}", answer.head);
    assert_eq!((answer.field("transfer-encoding"), answer.text()), (None, "until the end"));
}

#[test]
fn answers_without_a_body_have_none_and_keep_their_fields() {
    let backend = Backend::start(|served| {
        while let Some((head, _)) = served.read_request() {
            served.stream.send(match head.split(' ').nth(1).unwrap() {
                "/204" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
            });
        }
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    let answer = client.get("/204");
    assert_eq!((answer.status(), answer.field("x-a"), answer.field("content-length")), (204, Some("b"), None));
    assert_eq!((client.get("/304").status(), client.get("/304").field("etag")), (304, Some("\"a\"")));
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.read_answer_to("HEAD");
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("5000")));
    assert_eq!(client.get("/204").status(), 204, "the connection goes on");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn interim_answers_of_a_backend_do_not_confuse_the_one_that_counts() {
    let backend = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let answer = TestProxy::to(&backend).client().get("/");
    assert_eq!((answer.status(), answer.text(), answer.field("link")), (200, "ok", None));
}

#[test]
fn what_no_rule_takes_is_not_found() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::to(&backend);
    proxy.set_rules(Vec::new());
    let mut client = proxy.client();
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.text()), (404, "404: no rule takes this host and path\n"));
    assert_eq!(client.get("/").status(), 404, "the connection goes on");
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_answer_to("HEAD").status(), 404);
    assert_eq!(client.read_answer().status(), 404);
    assert!(backend.is_untouched());
    assert_eq!(proxy.counts().no_route, 4);
}
