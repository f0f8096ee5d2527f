//! Requests that are too large, too many or too slow, and clients that have too many connections.

use crate::bench::{Bench, HEAD_TIME, PATIENCE};
use std::time::{Duration, Instant};

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: hostile.example\r\n{fields}\r\n").into_bytes()
}

#[test]
fn a_target_that_is_too_long_is_414() {
    let bench = Bench::new();
    bench.takes("8,000 bytes", &get(&format!("/{}", "a".repeat(7999)), ""), &["GET /aaaa"]);
    bench.refuses("20,000 bytes", &get(&format!("/{}", "a".repeat(20_000)), ""), &[414]);
    bench.refuses("a query", &get(&format!("/?{}", "a".repeat(20_000)), ""), &[414]);
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let bench = Bench::new();
    bench.takes("16 KiB", &get("/", &format!("Cookie: {}\r\n", "a".repeat(16_000))), &["GET / "]);
    bench.refuses("one field", &get("/", &format!("Cookie: {}\r\n", "a".repeat(200_000))), &[431]);
    bench.refuses("a name", &get("/", &format!("{}: y\r\n", "a".repeat(200_000))), &[431, 400]);
    bench.refuses("many fields", &get("/", &"X: y\r\n".repeat(50_000)), &[431]);
    bench.refuses("more fields than there may be", &get("/", &"X: y\r\n".repeat(500)), &[431]);
}

/// A line that never ends is refused when it is too long, not when the client says so.
#[test]
fn a_head_without_an_end_is_refused_in_time_and_room() {
    let bench = Bench::new();
    for beginning in ["GET /", "GET / HTTP/1.1\r\nHost: hostile.example\r\nX: ", "", "POST "] {
        let mut client = bench.connect();
        client.send(beginning.as_bytes());
        let block = vec![b'a'; 65_536];
        let began = Instant::now();
        while client.try_send(&block) {
            assert!(began.elapsed() < PATIENCE, "it takes bytes without an end");
        }
        bench.is_alive();
    }
}

#[test]
fn a_slow_head_is_closed() {
    let bench = Bench::new();
    for beginning in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: hostile.example\r\n", "\r\n"] {
        let mut client = bench.connect();
        let began = Instant::now();
        client.send(beginning.as_bytes());
        // A byte now and then does not prolong it.
        let mut answer = client.read_to_end(Duration::from_millis(100));
        while !answer.is_closed && began.elapsed() < PATIENCE {
            client.send(b"X");
            answer = client.read_to_end(Duration::from_millis(100));
        }
        let took = began.elapsed();
        assert!(answer.is_closed, "{beginning:?} is open after {took:?}");
        assert!(took > HEAD_TIME / 2 && took < HEAD_TIME * 4, "{beginning:?}: {took:?}");
    }
    assert!(bench.seen().is_empty());
}

/// The second request of a connection has the same time as the first.
#[test]
fn a_slow_second_head_is_closed() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.send(&get("/", ""));
    assert_eq!(client.read_answers(1, PATIENCE).statuses(), [200]);
    client.send(b"GET / HTTP/1.1\r\nHost: ");
    let began = Instant::now();
    assert!(client.read_to_end(PATIENCE).is_closed);
    assert!(began.elapsed() < HEAD_TIME * 4, "{:?}", began.elapsed());
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let bench = Bench::with(|config| config.proxy.times.client_idle = Duration::from_millis(700));
    let began = Instant::now();
    assert!(bench.connect().read_to_end(PATIENCE).is_closed);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn connections_over_the_maximum_are_closed_and_those_within_are_served() {
    let bench = Bench::with(|config| config.connections_max = 3);
    let mut clients: Vec<_> = (0..3).map(|_| bench.connect()).collect();
    for client in &mut clients {
        client.send(&get("/", ""));
        assert_eq!(client.read_answers(1, PATIENCE).statuses(), [200]);
    }
    let mut one_more = bench.connect();
    one_more.send(&get("/", ""));
    let answer = one_more.read_to_end(PATIENCE);
    assert!(answer.is_closed && answer.bytes.is_empty(), "{answer:?}");
    clients[0].send(&get("/", ""));
    assert_eq!(clients[0].read_answers(1, PATIENCE).statuses(), [200]);
    let over = bench.server.counts().into_iter().find(|count| count.name == "over_total");
    assert_eq!(over.map(|count| count.value), Some(1));
    // A connection that ends makes room.
    drop(clients.pop());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut next = bench.connect();
        next.send(&get("/", ""));
        if next.read_answers(1, PATIENCE).statuses() == [200] {
            break;
        }
        assert!(Instant::now() < deadline, "there is no room");
    }
}

#[test]
fn a_client_has_no_more_connections_than_its_share() {
    let bench = Bench::with(|config| config.connections_per_client_max = 2);
    let mut clients: Vec<_> = (0..2).map(|_| bench.connect()).collect();
    for client in &mut clients {
        client.send(&get("/", ""));
        assert_eq!(client.read_answers(1, PATIENCE).statuses(), [200]);
    }
    let answer = bench.connect().read_to_end(PATIENCE);
    assert!(answer.is_closed && answer.bytes.is_empty(), "{answer:?}");
    let over = bench.server.counts().into_iter().find(|count| count.name == "over_client");
    assert_eq!(over.map(|count| count.value), Some(1));
}

/// A body that is announced and does not come holds its own connection and no other one.
#[test]
fn a_slow_body_holds_nobody_else() {
    let bench = Bench::new();
    let mut slow: Vec<_> = (0..50).map(|_| bench.connect()).collect();
    for client in &mut slow {
        client.send(b"POST / HTTP/1.1\r\nHost: hostile.example\r\nContent-Length: 1000000\r\n\r\nhello");
    }
    bench.is_alive();
}

/// A client that asks and does not read gets no more than its buffers hold.
#[test]
fn requests_without_end_and_no_reader_are_not_answered_without_end() {
    let bench = Bench::new();
    let mut client = bench.connect();
    let many = get("/", "").repeat(1000);
    client.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    let mut sent = 0usize;
    while std::io::Write::write_all(&mut client.stream, &many).is_ok() && sent < 200 << 20 {
        sent += many.len();
    }
    assert!(sent < 200 << 20, "it takes requests without an end");
    bench.is_alive();
}
