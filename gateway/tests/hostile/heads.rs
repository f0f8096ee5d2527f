//! Request lines and header fields that two servers may read in two ways (RFC 9112 2.2, 3 and 5).

use crate::bench::{Bench, PATIENCE};

/// A whole request with this request line and fields.
fn request(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\n{fields}\r\n\r\n").into_bytes()
}

const HOST: &str = "Host: hostile.example";

#[test]
fn i14_request_lines_have_one_form() {
    let bench = Bench::new();
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /\u{0b}HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET /",
        "GET",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "GET / HTTP",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/2.0",
        "GET / HTTP/3",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP/1,1",
        "GET / ICY/1.1",
        "GE T / HTTP/1.1",
        "GE\0T / HTTP/1.1",
        "GE(T) / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET: / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /a\rb HTTP/1.1",
        "GET /a\u{e4} HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET \\ HTTP/1.1",
        "GET hostile HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET //\0 HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT / HTTP/1.1",
    ] {
        bench.refuses(line, &request(line, HOST), &[400, 404, 405, 501, 505]);
    }
}

/// Methods are case-sensitive (RFC 9110 9.1): `get` is a method that nobody has defined, not GET.
#[test]
fn a_method_in_lower_case_stays_what_it_is() {
    let bench = Bench::new();
    bench.takes("get", &request("get / HTTP/1.1", HOST), &["get / "]);
}

#[test]
fn i14_an_absolute_target_goes_before_host() {
    let bench = Bench::new();
    let line = "GET http://hostile.example/a HTTP/1.1";
    bench.takes("the same host", &request(line, HOST), &["GET /a "]);
    let seen_by_the_other = request("GET http://other.example/a HTTP/1.1", HOST);
    let mut client = bench.connect();
    client.send(&seen_by_the_other);
    client.end();
    let answer = client.read_to_end(PATIENCE);
    assert!(matches!(answer.statuses()[..], [400 | 404 | 421]), "routed by Host: {answer:?}");
    assert!(bench.seen().is_empty());
    for line in [
        "GET http://user@hostile.example/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http:hostile.example/a HTTP/1.1",
        "GET http://hostile.example:80a/ HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "GET http://hostile.example\\@other.example/ HTTP/1.1",
    ] {
        bench.refuses(line, &request(line, HOST), &[400]);
    }
}

#[test]
fn i14_there_is_one_host() {
    let bench = Bench::new();
    for fields in [
        "X: y",
        "Host: hostile.example\r\nHost: hostile.example",
        "Host: hostile.example\r\nHost: other.example",
        "Host: hostile.example\r\nhost: hostile.example",
        "Host: hostile.example, other.example",
        "Host: hostile.example other.example",
        "Host: user@hostile.example",
        "Host: hostile.example:port",
        "Host: hostile.example:80:80",
        "Host: hostile.example:99999",
        "Host: hostile.example/",
        "Host: hostile.example/a",
        "Host: hostile.example?a",
        "Host: hostile.example#a",
        "Host: hostile.example\\",
        "Host: http://hostile.example",
        "Host: hostile\0.example",
        "Host: hostile.example\u{1}",
        "Host: hostile.ex\u{e4}mple",
        "Host: hostile.example\u{0b}",
        "Host: [::1",
        "Host: ::1",
        "Host: <script>",
        "Host: \"hostile.example\"",
        "Host: hostile.example;",
        "Host : hostile.example",
        "Host\t: hostile.example",
        "Host: hostile.example\r\n other.example",
        " Host: hostile.example",
    ] {
        bench.refuses(fields, &request("GET / HTTP/1.1", fields), &[400]);
    }
}

/// RFC 9112 3.2: an empty Host is a host that nobody serves, not a mistake.
#[test]
fn an_empty_host_has_no_route() {
    let bench = Bench::new();
    for host in ["Host:", "Host: "] {
        let mut client = bench.connect();
        client.send(&request("GET / HTTP/1.1", &format!("{host}\r\nConnection: close")));
        assert_eq!(client.read_to_end(PATIENCE).statuses(), [404], "{host:?}");
    }
}

#[test]
fn a_host_with_a_port_or_in_capitals_is_the_same_host() {
    let bench = Bench::new();
    for host in ["hostile.example:8080", "HOSTILE.Example", "hostile.example."] {
        let mut client = bench.connect();
        client.send(&request("GET / HTTP/1.1", &format!("Host: {host}")));
        assert_eq!(client.read_answers(1, PATIENCE).statuses(), [200], "{host}");
    }
}

#[test]
fn i14_lines_end_with_cr_and_lf() {
    let bench = Bench::new();
    for bytes in [
        "GET / HTTP/1.1\nHost: hostile.example\n\n",
        "GET / HTTP/1.1\nHost: hostile.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\n\r\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\r\n\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\n\n",
        "GET / HTTP/1.1\rHost: hostile.example\r\r",
        "GET / HTTP/1.1\r\nHost: hostile.example\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\r\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: hostile.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\r\nX: y\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: hostile.example\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: hostile.example\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: hostile.example\r\n\r\n",
        "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: hostile.example\r\n\r\n",
    ] {
        bench.refuses(bytes, bytes.as_bytes(), &[400]);
    }
}

/// RFC 9112 2.2: an empty line before a request is to be ignored.
#[test]
fn an_empty_line_before_a_request_is_passed_over() {
    let bench = Bench::new();
    let bytes = [b"\r\n", &request("GET / HTTP/1.1", HOST)[..]].concat();
    bench.takes("an empty line", &bytes, &["GET / "]);
}

#[test]
fn i14_fields_have_one_form() {
    let bench = Bench::new();
    for field in [
        "X : y",
        "X\t: y",
        "X\u{0b}: y",
        "X\0: y",
        "X\u{7f}: y",
        "X(: y",
        "X\"Y: z",
        "X Y: z",
        ": y",
        "no colon",
        "X\u{e4}: y",
        " X: y",
        "\tX: y",
        "X: y\r\n folded",
        "X: y\r\n\tfolded",
        "X: a\0b",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "X: a\rb",
        "\0: y",
        "[X]: y",
        "{X}: y",
        "X@y: z",
        "X/y: z",
        "X,y: z",
        "X;y: z",
        "X=y: z",
        "X?y: z",
    ] {
        bench.refuses(field, &request("GET / HTTP/1.1", &format!("{HOST}\r\n{field}")), &[400]);
    }
}

/// A client does not say by which fields the next hop is trusted, nor which fields it is not to see.
#[test]
fn i14_connection_names_no_field_of_the_proxys_own() {
    let bench = Bench::new();
    let fields = format!(
        "{HOST}\r\nConnection: close, Host, X-Forwarded-For, X-Forwarded-Proto, Content-Length\r\nContent-Length: 0"
    );
    let mut client = bench.connect();
    client.send(&request("POST / HTTP/1.1", &fields));
    let answer = client.read_to_end(PATIENCE);
    let seen = bench.seen();
    match answer.statuses()[..] {
        [400] => assert!(seen.is_empty(), "{seen:?}"),
        [200] => {
            let head = seen[0].heads[0].to_ascii_lowercase();
            for kept in ["\r\nhost: hostile.example", "\r\nx-forwarded-for: 127.0.0.1", "\r\nx-forwarded-proto: http"] {
                assert_eq!(head.matches(kept).count(), 1, "{kept}: {head}");
            }
        }
        _ => panic!("{answer:?}"),
    }
}

/// Whom a client claims to speak for is not believed of one that is no trusted proxy.
#[test]
fn i12_forged_forwarding_fields_do_not_reach_a_backend() {
    let bench = Bench::new();
    let forged = "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Host: bank.example\r\nX-Forwarded-Proto: https\r\n\
                  x-forwarded-for: 203.0.113.2\r\nX-Real-IP: 203.0.113.3\r\nX-Forwarded-Port: 1\r\nForwarded: for=203.0.113.4";
    let mut client = bench.connect();
    client.send(&request("GET / HTTP/1.1", &format!("{HOST}\r\n{forged}")));
    assert_eq!(client.read_answers(1, PATIENCE).statuses(), [200]);
    let seen = bench.seen();
    let head = seen[0].heads[0].to_ascii_lowercase();
    assert!(!head.contains("203.0.113") && !head.contains("bank.example"), "{head}");
    assert!(!head.contains("https"), "{head}");
}
