//! Whatever a connection brings: no worker panics, and none hangs beyond its limits.

use crate::bench::{Bench, PATIENCE};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Pieces of messages, whole and broken ones, and bytes that are none.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "PUT http://hostile.example/ HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "Host: hostile.example\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "TE: trailers\r\n",
        "\r\n",
        "\n",
        "\r",
        "hello",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}",
        "\0\0\0\u{4}\0\0\0\0\0",
        "\0\0\u{8}\u{6}\0\0\0\0\0",
        "\0\0\u{1}\u{1}\u{5}\0\0\0\u{1}\u{82}",
    ]);
    prop_oneof![
        8 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn run(cases: u32, bytes: impl Strategy<Value = Vec<Vec<u8>>>) {
    let bench = Bench::new();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&bytes, |pieces| {
        let mut client = bench.connect();
        for piece in &pieces {
            client.send(piece);
        }
        client.end();
        let answer = client.read_to_end(PATIENCE);
        prop_assert!(answer.is_closed, "it hangs: {answer:?}");
        Ok(())
    });
    bench.is_alive();
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_bytes_end_a_connection_in_time_and_no_worker() {
    run(300, prop::collection::vec(piece(), 0..12));
}

#[test]
fn any_frames_end_a_connection_in_time_and_no_worker() {
    let frame = (0u8..12, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(kind, flags, stream, payload)| {
            let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
            frame.extend(stream.to_be_bytes());
            frame.extend(payload);
            frame
        },
    );
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    run(300, prop::collection::vec(frame, 1..12).prop_map(move |frames| [vec![preface.clone()], frames].concat()));
}
