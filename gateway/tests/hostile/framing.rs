//! Requests whose length two servers may read in two ways (RFC 9112 6.3 and 11.2).

use crate::bench::{Bench, SMUGGLED};

/// A request with these lines between its first ones and its body.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: hostile.example\r\n{fields}\r\n\r\n{body}").into_bytes()
}

#[test]
fn i14_content_length_and_transfer_encoding_together_are_refused() {
    let bench = Bench::new();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "content-length: 5\r\nX: y\r\ntransfer-encoding: chunked",
        "Transfer-Encoding: identity\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding:",
    ] {
        bench.refuses(fields, &post(fields, "0\r\n\r\n"), &[400, 501]);
    }
}

#[test]
fn i14_content_length_is_one_number() {
    let bench = Bench::new();
    for value in [
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "6\r\nX: y\r\ncontent-length: 5",
        "5, 5",
        "5,5",
        "5 5",
        "5,",
        ",5",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5.0",
        "5e0",
        "\u{0b}5",
        "5\u{0b}",
        "5\u{0c}",
        "\u{a0}5",
        "5;",
        "\"5\"",
        "",
        "five",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999999999999999",
        "\u{ff15}",
    ] {
        let fields = format!("Content-Length: {value}");
        // A length that nobody can send is no mistake of form: the rest of the connection is its body.
        if value == "18446744073709551615" {
            continue;
        }
        bench.refuses(&fields, &post(&fields, "hello"), &[400]);
    }
}

#[test]
fn i14_transfer_encoding_is_chunked_and_nothing_else() {
    let bench = Bench::new();
    for value in [
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked,",
        ", chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "chunked x",
        "\"chunked\"",
        "\u{0b}chunked",
        "chunked\u{0b}",
        "\u{0c}chunked",
        "\u{a0}chunked",
        "cow",
        "identity",
        "",
        "chunKed\r\n x",
        "\r\n chunked",
    ] {
        let fields = format!("Transfer-Encoding: {value}");
        bench.refuses(&fields, &post(&fields, "0\r\n\r\n"), &[400, 501]);
    }
}

#[test]
fn i14_white_space_around_the_names_of_lengths_is_refused() {
    let bench = Bench::new();
    for fields in [
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "\tContent-Length: 5",
        "Content-Length\u{0b}: 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "\u{0b}Transfer-Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer\u{ad}Encoding: chunked\0",
    ] {
        bench.refuses(fields, &post(fields, "0\r\n\r\n"), &[400]);
    }
}

#[test]
fn i14_names_that_a_backend_may_take_for_lengths_do_not_pass() {
    let bench = Bench::new();
    for fields in ["Content_Length: 5", "Transfer_Encoding: chunked", "content_length: 0"] {
        bench.refuses(fields, &post(fields, ""), &[400]);
    }
}

#[test]
fn i14_http_1_0_has_no_transfer_encoding() {
    let bench = Bench::new();
    let head = "POST / HTTP/1.0\r\nHost: hostile.example\r\nTransfer-Encoding: chunked\r\n";
    bench.refuses("HTTP/1.0", format!("{head}\r\n0\r\n\r\n").as_bytes(), &[400]);
    let keep_alive = format!("{head}Connection: keep-alive\r\n\r\n0\r\n\r\n");
    bench.refuses("HTTP/1.0 and keep-alive", keep_alive.as_bytes(), &[400]);
}

/// What stands in a body is a body, and what stands behind it is the next request.
#[test]
fn i14_what_a_body_holds_is_no_request() {
    let bench = Bench::new();
    let hidden = post(&format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED);
    bench.takes("in a body", &hidden, &["POST / "]);
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    bench.takes("in a chunk", &post("Transfer-Encoding: chunked", &chunk), &["POST / "]);
    let get =
        format!("GET / HTTP/1.1\r\nHost: hostile.example\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    bench.takes("in the body of a GET", get.as_bytes(), &["GET / "]);
    let next = [post("Content-Length: 5", "hello"), b"GET /next HTTP/1.1\r\nHost: hostile.example\r\n\r\n".to_vec()];
    bench.takes("behind a body", &next.concat(), &["POST / ", "GET /next "]);
}

/// The proxy frames what it sends by itself: what a client wrote about it is not passed on.
#[test]
fn i14_the_backend_sees_one_framing_that_is_the_proxys_own() {
    let bench = Bench::new();
    let body = "5;a=b;c=\"d;e\"\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n";
    let fields =
        "transfer-encoding: \tChUnKeD\t\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip";
    let mut client = bench.connect();
    client.send(&post(fields, body));
    assert_eq!(client.read_answers(1, crate::bench::PATIENCE).statuses(), [200]);
    let seen = bench.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let head = seen[0].heads[0].to_ascii_lowercase();
    assert_eq!(head.matches("transfer-encoding: chunked\r\n").count(), 1, "{head}");
    for gone in ["content-length", "x-hop", "keep-alive", "te: gzip"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(!String::from_utf8_lossy(&seen[0].bytes).contains("a=b"), "{seen:?}");
}
