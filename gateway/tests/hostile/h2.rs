//! HTTP/2 messages that would become other HTTP/1 messages on their way (RFC 9113 8.2, 8.3 and 8.1.1): each is an error of its stream
//! or connection, or is refused, and the backend sees nothing.

use crate::bench::{Answer, Bench, Client, PATIENCE};
use std::time::Duration;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field as a literal that is not indexed (RFC 7541 6.2.2), without Huffman coding: any bytes can be sent so.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for part in [name, value] {
        assert!(part.len() < 127, "lengths of one byte");
        bytes.push(part.len() as u8);
        bytes.extend(part);
    }
    bytes
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

/// The pseudo fields of an ordinary request.
pub const ORDINARY: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "hostile.example")];

/// A frame that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The whole frames of what came back.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let Some(payload) = bytes.get(9..9 + length) else { break };
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        frames.push(Frame { kind: bytes[3], flags: bytes[4], stream, payload: payload.to_vec() });
        bytes = &bytes[9 + length..];
    }
    frames
}

/// A connection that has begun HTTP/2 with prior knowledge.
pub fn connect(bench: &Bench) -> Client {
    let mut client = bench.connect();
    client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    client
}

/// What comes until a frame of `stream` ends it or the connection ends.
fn outcome(client: &mut Client, stream: u32) -> Answer {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    loop {
        let some = client.read_to_end(Duration::from_millis(20));
        bytes.extend(some.bytes);
        let ends = |frame: &Frame| {
            let of_stream = frame.stream == stream;
            (of_stream && (frame.kind == RST_STREAM || frame.flags & END_STREAM != 0 && frame.kind <= HEADERS))
                || frame.kind == GOAWAY
        };
        if some.is_closed || frames(&bytes).iter().any(ends) {
            return Answer { text: String::new(), bytes, is_closed: some.is_closed };
        }
        assert!(std::time::Instant::now() < deadline, "no outcome: {:?}", frames(&bytes));
    }
}

/// The status of an answer, from the first bytes of its block: the static table has the usual ones, others are literals.
fn status(frame: &Frame) -> u16 {
    match frame.payload[0] {
        0x88 => 200,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => {
            let text = String::from_utf8_lossy(&frame.payload);
            // Digits of a status coded by Huffman are not read here; what matters is that it is none of those above.
            text.get(2..5).and_then(|digits| digits.parse().ok()).unwrap_or(1)
        }
    }
}

/// Sends a request of these fields and data: the stream or the connection ends in an error or a refusal, and the backend saw no
/// whole request.
fn refuses(bench: &Bench, what: &str, fields: &[u8], data: Option<&[u8]>) {
    let mut client = connect(bench);
    let end = if data.is_some() { 0 } else { END_STREAM };
    client.send(&frame(HEADERS, END_HEADERS | end, 1, fields));
    if let Some(data) = data {
        client.send(&frame(DATA, END_STREAM, 1, data));
    }
    let answer = outcome(&mut client, 1);
    let frames = frames(&answer.bytes);
    let answered = frames.iter().find(|frame| frame.kind == HEADERS && frame.stream == 1).map(status);
    let is_error = frames.iter().any(|frame| matches!(frame.kind, RST_STREAM | GOAWAY)) || answer.is_closed;
    assert!(answered.map_or(is_error, |status| status != 200), "{what}: {answered:?}: {frames:?}");
    let seen = bench.seen();
    let whole = seen.iter().any(|seen| !seen.bodies.is_empty());
    assert!(!whole, "{what}: the backend saw {seen:?}");
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&ORDINARY, more].concat())
}

/// The ordinary pseudo fields with `name` replaced; removed if there is no `value`.
fn pseudo(name: &str, value: Option<&str>) -> Vec<u8> {
    let fields = ORDINARY.iter().filter_map(|(other, ordinary)| match (*other == name, value) {
        (false, _) => Some((*other, *ordinary)),
        (true, Some(value)) => Some((*other, value)),
        (true, None) => None,
    });
    block(&fields.collect::<Vec<_>>())
}

#[test]
fn an_ordinary_request_passes() {
    let bench = Bench::new();
    let mut client = connect(&bench);
    client.send(&frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "5")])));
    client.send(&frame(DATA, END_STREAM, 1, b"hello"));
    let answer = outcome(&mut client, 1);
    let answered = frames(&answer.bytes).iter().find(|frame| frame.kind == HEADERS).map(status);
    assert_eq!(answered, Some(200), "{:?}", frames(&answer.bytes));
    let seen = bench.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].heads[0].starts_with("POST / HTTP/1.1\r\n"), "{seen:?}");
}

#[test]
fn i14_fields_of_a_connection_have_no_place_in_http_2() {
    let bench = Bench::new();
    for (name, value) in [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
    ] {
        refuses(&bench, &format!("{name}: {value}"), &with(&[(name, value)]), None);
        refuses(&bench, &format!("{name}: {value} and data"), &with(&[(name, value)]), Some(b"0\r\n\r\n"));
    }
}

#[test]
fn i14_content_length_is_the_length_of_the_data() {
    let bench = Bench::new();
    for value in ["4", "6", "0", "-5", "+5", "5,5", "0x5", "", "five", "99999999999999999999"] {
        refuses(&bench, value, &with(&[("content-length", value)]), Some(b"hello"));
    }
    refuses(&bench, "twice", &with(&[("content-length", "5"), ("content-length", "6")]), Some(b"hello"));
    refuses(&bench, "no data", &with(&[("content-length", "5")]), None);
}

#[test]
fn i14_a_request_that_is_said_to_be_empty_waits_for_its_end() {
    let bench = Bench::new();
    let mut client = connect(&bench);
    client.send(&frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "0"), ("x-which", "held")])));
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &with(&[("x-which", "other")])));
    outcome(&mut client, 3);
    let heads = |bench: &Bench| bench.seen().into_iter().flat_map(|seen| seen.heads).collect::<Vec<_>>();
    let seen = heads(&bench);
    assert!(seen.len() == 1 && seen[0].contains("x-which: other"), "{seen:?}");
    client.send(&frame(DATA, END_STREAM, 1, &[]));
    outcome(&mut client, 1);
    let seen = heads(&bench);
    assert!(seen.iter().any(|head| head.contains("x-which: held")), "{seen:?}");
}

#[test]
fn i14_pseudo_fields_are_complete_and_come_first() {
    let bench = Bench::new();
    for name in [":method", ":scheme", ":path"] {
        refuses(&bench, &format!("no {name}"), &pseudo(name, None), None);
        let twice = with(&[ORDINARY.into_iter().find(|(other, _)| *other == name).expect("one of them")]);
        refuses(&bench, &format!("{name} twice"), &twice, None);
    }
    refuses(&bench, "no :authority and no host", &pseudo(":authority", None), None);
    refuses(&bench, "an unknown one", &with(&[(":evil", "x")]), None);
    refuses(&bench, "one of answers", &with(&[(":status", "200")]), None);
    let late = block(&[&ORDINARY[..3], &[("x", "y"), (":authority", "hostile.example")]].concat());
    refuses(&bench, "one behind a field", &late, None);
    refuses(&bench, "none", &block(&[("x", "y")]), None);
    refuses(&bench, "no fields", &[], None);
}

#[test]
fn i14_pseudo_fields_hold_no_request_line() {
    let bench = Bench::new();
    for (name, value) in [
        (":method", "GET /smuggled HTTP/1.1"),
        (":method", "GET\r\nX: y"),
        (":method", "GE T"),
        (":method", ""),
        (":method", "GET\0"),
        (":path", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"),
        (":path", "/a b"),
        (":path", "/a\tb"),
        (":path", "/a\0"),
        (":path", "/a\r\n"),
        (":path", "/a\n"),
        (":path", ""),
        (":path", "a"),
        (":path", "*"),
        (":path", "/\u{e4}"),
        (":authority", "hostile.example\r\nX: y"),
        (":authority", "hostile.example\0"),
        (":authority", "user@hostile.example"),
        (":authority", "hostile.example/"),
        (":authority", "hostile.example evil"),
        (":authority", "hostile.example:port"),
        (":authority", "hostile.example:80:80"),
        (":scheme", "http\r\n"),
        (":scheme", "http://hostile.example/smuggled?"),
        (":scheme", ""),
    ] {
        refuses(&bench, &format!("{name}: {value:?}"), &pseudo(name, Some(value)), None);
    }
}

#[test]
fn i14_authority_and_host_say_the_same() {
    let bench = Bench::new();
    refuses(&bench, "another host", &with(&[("host", "other.example")]), None);
    refuses(&bench, "two hosts", &with(&[("host", "hostile.example"), ("host", "other.example")]), None);
    let hosts = block(&[&ORDINARY[..3], &[("host", "hostile.example"), ("host", "hostile.example")]].concat());
    refuses(&bench, "two hosts and no authority", &hosts, None);
}

#[test]
fn i14_fields_hold_no_lines() {
    let bench = Bench::new();
    for (name, value) in [
        (&b"X"[..], &b"y"[..]),
        (b"Content-Length", b"0"),
        (b"Transfer-Encoding", b"chunked"),
        (b"x", b"y\r\nz: a"),
        (b"x", b"y\nz"),
        (b"x", b"y\rz"),
        (b"x", b"y\0"),
        (b"x\r\ny", b"z"),
        (b"x: y\r\nz", b"a"),
        (b"x\ny", b"z"),
        (b"x y", b"z"),
        (b"x:", b"y"),
        (b"x\0", b"y"),
        (b"x\x7f", b"y"),
        (b"x\xe4", b"y"),
        (b"", b"y"),
    ] {
        let fields = [with(&[]), field(name, value)].concat();
        refuses(&bench, &format!("{}: {value:?}", String::from_utf8_lossy(name)), &fields, None);
    }
}

/// What is not refused is not passed on either: names that a backend may take for lengths, and a fragment.
#[test]
fn i14_what_is_almost_a_length_or_no_path_does_not_reach_a_backend() {
    let bench = Bench::new();
    for (what, fields) in [
        ("content_length", with(&[("content_length", "5")])),
        ("transfer_encoding", with(&[("transfer_encoding", "chunked")])),
        ("#smuggled", pseudo(":path", Some("/a#smuggled"))),
        ("x_forwarded_for", with(&[("x_forwarded_for", "203.0.113.1")])),
    ] {
        let mut client = connect(&bench);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
        outcome(&mut client, 1);
        let seen = bench.seen();
        assert!(!seen.iter().any(|seen| String::from_utf8_lossy(&seen.bytes).contains(what)), "{what}: {seen:?}");
    }
}

#[test]
fn i14_connect_is_refused() {
    let bench = Bench::new();
    refuses(&bench, "CONNECT", &block(&[(":method", "CONNECT"), (":authority", "hostile.example:80")]), None);
    let extended = [(":method", "CONNECT"), (":protocol", "websocket")];
    refuses(&bench, "extended", &block(&[&extended[..], &ORDINARY[1..]].concat()), None);
}

/// Whether such trailers are an error or are passed over: nothing of them gets to a backend.
#[test]
fn i14_trailers_say_nothing_about_the_message() {
    let bench = Bench::new();
    for (name, value) in [
        (":path", "/smuggled"),
        ("Smuggled", "x"),
        ("content-length", "7"),
        ("transfer-encoding", "smuggled"),
        ("connection", "smuggled"),
        ("host", "smuggled"),
        ("x", "y\r\nsmuggled: z"),
        ("x\r\nsmuggled", "y"),
    ] {
        for data in [None, Some(b"hello")] {
            let mut client = connect(&bench);
            client.send(&frame(HEADERS, END_HEADERS, 1, &with(&[])));
            if let Some(data) = data {
                client.send(&frame(DATA, 0, 1, data));
            }
            client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(name, value)])));
            outcome(&mut client, 1);
            for seen in bench.seen() {
                let text = String::from_utf8_lossy(&seen.bytes).to_lowercase();
                assert!(!text.contains("smuggled") && !text.contains("content-length: 7"), "{name}: {text}");
            }
        }
    }
}
