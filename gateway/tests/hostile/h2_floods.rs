//! HTTP/2 clients that cost more than they pay: the connection is ended, or held to what it may have; others are served.

use crate::bench::{Bench, Client};
use crate::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, ORDINARY, PING, RST_STREAM, SETTINGS, block,
    connect, field, frame, frames,
};
use std::time::{Duration, Instant};

/// How much of a flood is sent at most; a server that takes it all has no limit.
const FLOOD_BYTES_MAX: usize = 64 << 20;

/// Sends `piece` (made of its number) until the proxy ends the connection; whether it did.
fn flood(client: &mut Client, mut piece: impl FnMut(u32) -> Vec<u8>) -> (bool, Vec<Frame>) {
    client.stream.set_nonblocking(false).expect("a socket");
    client.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a socket");
    let (mut sent, mut number) = (0, 0);
    let mut answers = Vec::new();
    while sent < FLOOD_BYTES_MAX {
        let mut pieces = Vec::new();
        while pieces.len() < 32_768 {
            pieces.extend(piece(number));
            number += 1;
        }
        if std::io::Write::write_all(&mut client.stream, &pieces).is_err() {
            break;
        }
        sent += pieces.len();
        let some = client.read_to_end(Duration::from_millis(1));
        answers.extend(some.bytes);
        if some.is_closed {
            return (true, frames(&answers));
        }
    }
    let rest = client.read_to_end(Duration::from_secs(3));
    answers.extend(rest.bytes);
    (rest.is_closed && sent < FLOOD_BYTES_MAX, frames(&answers))
}

fn went_away(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| frame.kind == GOAWAY)
}

/// CVE-2024-27316 and its relatives: a header block that never ends.
#[test]
fn a_block_of_continuations_without_an_end_ends_the_connection() {
    let bench = Bench::new();
    let mut client = connect(&bench);
    client.send(&frame(HEADERS, 0, 1, &block(&ORDINARY)));
    let (is_closed, _) =
        flood(&mut client, |number| frame(CONTINUATION, 0, 1, &field(format!("x-{number}").as_bytes(), &[b'y'; 100])));
    assert!(is_closed, "it takes continuations without an end");
    let mut client = connect(&bench);
    client.send(&frame(HEADERS, 0, 1, &block(&ORDINARY)));
    let (is_closed, _) = flood(&mut client, |_| frame(CONTINUATION, 0, 1, &[]));
    assert!(is_closed, "it takes empty continuations without an end");
    assert!(bench.seen().is_empty());
}

/// CVE-2023-44487: requests that are taken back as soon as they are made.
#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    let bench = Bench::new();
    let mut client = connect(&bench);
    let (is_closed, answers) = flood(&mut client, |number| {
        let stream = 2 * number + 1;
        let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&ORDINARY)), reset].concat()
    });
    assert!(is_closed || went_away(&answers), "it takes resets without an end");
    bench.is_alive();
}

/// The same by requests that the server has to reset (the MadeYouReset of 2025): broken frames on open streams.
#[test]
fn requests_that_the_proxy_must_reset_end_the_connection() {
    let bench = Bench::new();
    let mut client = connect(&bench);
    let (is_closed, answers) = flood(&mut client, |number| {
        let stream = 2 * number + 1;
        let fields = block(&[&ORDINARY[..], &[("content-length", "1")]].concat());
        [frame(HEADERS, END_HEADERS, stream, &fields), frame(DATA, END_STREAM, stream, b"too long")].concat()
    });
    assert!(is_closed || went_away(&answers), "it resets streams without an end");
    bench.is_alive();
}

/// More streams than were granted are refused one by one, and the backend sees no more requests at once than that.
#[test]
fn streams_over_the_maximum_are_refused() {
    let bench = Bench::with(|config| config.proxy.limits.streams_max = 10);
    let mut client = connect(&bench);
    // Without END_STREAM they stay open.
    for number in 0..100 {
        client.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, &block(&ORDINARY)));
    }
    let began = Instant::now();
    let mut bytes = Vec::new();
    let refused = |bytes: &[u8]| {
        let refused = |frame: &&Frame| frame.kind == RST_STREAM && frame.payload == 7u32.to_be_bytes();
        frames(bytes).iter().filter(refused).count()
    };
    let mut is_closed = false;
    while !is_closed && refused(&bytes) < 90 && began.elapsed() < Duration::from_secs(10) {
        let some = client.read_to_end(Duration::from_millis(20));
        bytes.extend(some.bytes);
        is_closed = some.is_closed || went_away(&frames(&bytes));
    }
    assert!(is_closed || refused(&bytes) >= 90, "{} refused", refused(&bytes));
    bench.is_alive();
}

/// Whoever asks for acknowledgements and does not read them is not given room for them without an end.
#[test]
fn pings_and_settings_without_a_reader_are_not_taken_without_an_end() {
    let bench = Bench::new();
    for piece in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut client = connect(&bench);
        client.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a socket");
        let pieces = piece.repeat(2000);
        let mut sent = 0;
        while sent < FLOOD_BYTES_MAX && std::io::Write::write_all(&mut client.stream, &pieces).is_ok() {
            sent += pieces.len();
        }
        assert!(
            sent < FLOOD_BYTES_MAX,
            "it takes {} frames without an end",
            if piece[3] == PING { "PING" } else { "SETTINGS" }
        );
        bench.is_alive();
    }
}

/// A window that stays shut holds an answer back, and nothing else.
#[test]
fn a_client_that_takes_no_data_holds_nobody_else() {
    let bench = Bench::new();
    let mut client = bench.connect();
    let window_of_zero = [0, 4, 0, 0, 0, 0];
    client.send(&[crate::h2::PREFACE, &frame(SETTINGS, 0, 0, &window_of_zero)].concat());
    for number in 0..50 {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block(&ORDINARY)));
    }
    bench.is_alive();
}

/// Empty DATA frames cost the receiver and move nothing.
#[test]
fn empty_data_without_an_end_holds_nobody_else() {
    let bench = Bench::new();
    let mut client = connect(&bench);
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&ORDINARY)));
    for _ in 0..200 {
        client.send(&frame(DATA, 0, 1, &[]).repeat(100));
    }
    bench.is_alive();
}

/// Half a preface, and HTTP/1 that turns into HTTP/2 by itself.
#[test]
fn a_preface_stands_at_the_beginning_or_nowhere() {
    let bench = Bench::new();
    let late = b"GET / HTTP/1.1\r\nHost: hostile.example\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut client = bench.connect();
    client.send(late);
    let answer = client.read_to_end(Duration::from_secs(10));
    assert!(answer.is_closed, "{answer:?}");
    assert!(matches!(answer.statuses()[..], [200] | [200, 400] | [200, 505]), "{answer:?}");
    bench.seen();
    bench.refuses("half a preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[400, 404, 405, 501, 505]);
}
