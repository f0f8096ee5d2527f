//! Bodies: streamed, framed, limited.

use crate::harness::{Backend, DEADLINE, TestProxy, field, rule};
use gateway::http::{Config, Limits};
use std::io::Write;
use std::sync::mpsc::channel;

#[test]
fn a_body_of_known_length_keeps_it() {
    let backend = echo();
    let proxy = TestProxy::to(&backend);
    let body = "b".repeat(100_000);
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = proxy.client().ask(&request);
    assert_eq!(answer.text(), body);
    let head = backend.head();
    assert_eq!((field(&head, "content-length"), field(&head, "transfer-encoding")), (Some("100000"), None));
}

#[test]
fn a_chunked_body_stays_chunked_and_loses_its_extensions() {
    let backend = echo();
    let proxy = TestProxy::to(&backend);
    let answer = proxy.client().ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    assert_eq!(answer.text(), "hello world");
    let head = backend.head();
    assert_eq!((field(&head, "content-length"), field(&head, "transfer-encoding")), (None, Some("chunked")));
}

#[test]
fn a_post_without_a_body_says_so() {
    let backend = echo();
    let proxy = TestProxy::to(&backend);
    assert_eq!(proxy.client().ask("POST / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    assert_eq!(field(&backend.head(), "content-length"), Some("0"));
}

#[test]
fn both_bodies_stream_while_the_other_goes_on() {
    let backend = Backend::start(|served| {
        served.read_head();
        served.stream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let size = usize::from_str_radix(&served.stream.read_line(), 16).unwrap();
            let piece = served.stream.read_bytes(size);
            served.stream.read_line();
            served.stream.send(format!("{size:x}\r\n{}\r\n", String::from_utf8(piece).unwrap()));
        }
        served.stream.send("0\r\n\r\n");
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let head = client.read_head().unwrap();
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    for piece in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        assert_eq!(client.read_line(), format!("{:x}", piece.len()));
        assert_eq!(client.read_line(), piece);
    }
    client.send("0\r\n\r\n");
    assert_eq!((client.read_line(), client.read_line()), ("0".into(), String::new()));
}

#[test]
fn a_large_answer_comes_whole_and_waits_for_a_slow_client() {
    const BYTES: usize = 20_000_000;
    let (sent, all_sent) = channel();
    let sent = std::sync::Mutex::new(sent);
    let backend = Backend::start(move |served| {
        served.read_request();
        served.stream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
        served.stream.stream.set_write_timeout(None).unwrap();
        for _ in 0..BYTES / 10_000 {
            served.stream.stream.write_all(&[b'x'; 10_000]).unwrap();
        }
        sent.lock().unwrap().send(()).unwrap();
        served.read_request();
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head().unwrap();
    // 20 MB are more than the sockets hold: as long as the client does not read, the backend cannot have sent all.
    assert!(all_sent.try_recv().is_err());
    assert_eq!(client.read_body(&head).len(), BYTES);
    all_sent.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn expect_100_continue_is_answered_when_the_backend_has_the_head() {
    let backend = echo();
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.read_answer().text(), "hello");
    assert_eq!(field(&backend.head(), "expect"), None);
}

#[test]
fn expect_100_continue_is_refused_without_asking_for_the_body() {
    let proxy = TestProxy::start(Config::default(), Vec::new());
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_answer().status(), 404);
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::start(|served| {
        served.read_head();
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.is_empty()) {
            lines.push(served.stream.read_line());
        }
        let trailer = lines[lines.len() - 2].clone();
        served.stream.send(format!(
            "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: {trailer}\r\n\r\n"
        ));
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-in\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-In: 7\r\n\r\n",
    );
    let head = client.read_head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let lines: Vec<String> = (0..5).map(|_| client.read_line()).collect();
    assert_eq!(lines, ["2", "ok", "0", "x-sum: x-in: 7", ""]);
}

#[test]
fn an_answer_before_the_body_is_passed_on_and_ends_the_connection_to_the_backend() {
    let backend = Backend::start(|served| {
        served.read_head();
        served.stream.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nno\n");
        served.stream.read_to_end();
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n0123456789");
    assert_eq!(client.read_answer().status(), 413);
    assert_eq!(proxy.open().1, 0);
}

#[test]
fn a_body_over_the_limit_is_refused_at_once_or_when_it_gets_there() {
    let backend = echo();
    let limits = Limits { body_bytes_max: Some(10), ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let proxy = TestProxy::start(config, vec![("/", rule(&[backend.address]))]);
    let mut client = proxy.client();
    let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert_eq!(answer.status(), 413);
    assert!(backend.is_untouched());
    assert!(client.is_closed());
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n6\r\nworld!\r\n");
    assert_eq!(client.read_answer().status(), 413);
    assert!(client.is_closed());
    let answer = proxy.client().ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(answer.text(), "0123456789");
    assert_eq!(proxy.counts().refused_large, 2);
}

#[test]
fn an_answer_that_breaks_off_breaks_off_at_the_client() {
    let backend = Backend::start(|served| {
        served.read_request();
        served.stream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let proxy = TestProxy::to(&backend);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let rest = String::from_utf8(client.read_to_end()).unwrap();
    assert!(!rest.ends_with("0\r\n\r\n"), "the client must not take {rest:?} for whole");
}

/// Answers a body with itself.
fn echo() -> Backend {
    Backend::start(|served| {
        while let Some((_, body)) = served.read_request() {
            served.stream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            served.stream.send(body);
        }
    })
}
