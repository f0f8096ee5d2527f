use super::*;
use crate::dns::forward::invariants::sample;
use crate::dns::forward::{ForwardConfig, Upstreams};
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::parse;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.7.7, clusterIPs: [10.96.7.7], ports: [{port: 80}]}
";

const NAME: &str = "web.default.svc.cluster.local";
const A: u16 = 1;

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

fn tables(text: &str) -> Option<Arc<Tables>> {
    let (cluster, problems) = Cluster::from_objects(parse("test", text).objects);
    assert_eq!(problems, []);
    Some(Arc::new(compile(&cluster, 1).0))
}

fn server(listen: &[&str], forward: ForwardConfig) -> Server {
    let listeners = listen.iter().map(|text| Listener::bind(text.parse().expect("an address")).expect("it is free"));
    let server = Server::start(listeners.collect(), DnsConfig::default(), Forwarder::new(forward)).expect("threads");
    server.set_tables(tables(SERVICE));
    server
}

fn to(upstream: SocketAddr) -> ForwardConfig {
    ForwardConfig { upstreams: Upstreams::Fixed(vec![upstream]), ..ForwardConfig::default() }
}

/// A socket that nobody answers at, and its address.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

/// A socket that hears answers from `address` alone.
fn client(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = UdpSocket::bind(any).expect("a socket");
    client.connect(address).expect("a way");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    client
}

fn ask(client: &UdpSocket, query: &[u8]) -> Vec<u8> {
    client.send(query).expect("sent");
    let mut answer = [0; 2048];
    let len = client.recv(&mut answer).expect("an answer");
    answer[..len].to_vec()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("a length");
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).expect("a message");
    message
}

fn rcode(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

/// Whether the other side has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
}

#[test]
fn names_are_answered_over_udp_and_tcp_in_both_families() {
    let server = server(&["127.0.0.1:0", "[::1]:0"], ForwardConfig::default());
    let query = sample::query(NAME, A);
    for address in server.addresses() {
        let answer = ask(&client(*address), &query);
        assert_eq!((rcode(&answer), &answer[6..8]), (0, &[0, 1][..]), "{address}");
        let mut stream = connect(*address);
        stream.write_all(&framed(&query)).expect("sent");
        assert_eq!(read_message(&mut stream)[..12], answer[..12], "{address}");
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let server = server(&["0.0.0.0:0", "[::]:0"], ForwardConfig::default());
    let query = sample::query(NAME, A);
    let port = |number: usize| server.addresses()[number].port();
    for address in [("127.0.0.1", port(0)), ("127.3.2.1", port(0)), ("::1", port(1))] {
        let address = SocketAddr::new(address.0.parse().expect("an address"), address.1);
        assert_eq!(rcode(&ask(&client(address), &query)), 0, "{address}");
    }
}

#[test]
fn the_next_query_is_answered_from_new_tables_and_none_are_servfail() {
    let server = server(&["127.0.0.1:0"], ForwardConfig::default());
    let client = client(server.addresses()[0]);
    let query = sample::query(NAME, A);
    for _ in 0..50 {
        assert_eq!(rcode(&ask(&client, &query)), 0);
        server.set_tables(tables(&SERVICE.replace("web", "other")));
        assert_eq!(rcode(&ask(&client, &query)), 3);
        server.set_tables(None);
        assert_eq!(rcode(&ask(&client, &query)), 2);
        server.set_tables(tables(SERVICE));
    }
}

#[test]
fn a_connection_takes_many_queries_at_once_and_answers_what_is_known_first() {
    let (_keep, upstream) = silent();
    let server = server(&["127.0.0.1:0"], to(upstream));
    let mut stream = connect(server.addresses()[0]);
    let mut slow = sample::query("outside.example", A);
    slow[..2].copy_from_slice(&[0xee, 0xee]);
    let mut message = framed(&slow);
    for _ in 0..100 {
        message.extend(framed(&sample::query(NAME, A)));
    }
    stream.write_all(&message).expect("sent");
    for number in 0..100 {
        let answer = read_message(&mut stream);
        assert_eq!((&answer[..2], rcode(&answer)), (&[0x12, 0x34][..], 0), "answer {number}");
    }
    stream.shutdown(Shutdown::Write).expect("half closed");
    let last = read_message(&mut stream);
    assert_eq!((&last[..2], rcode(&last)), (&[0xee, 0xee][..], 2), "what is under way is still answered");
}

#[test]
fn a_client_that_does_not_bring_a_query_to_its_end_is_closed() {
    let server = server(&["127.0.0.1:0"], ForwardConfig::default());
    let mut stream = connect(server.addresses()[0]);
    let began = Instant::now();
    stream.write_all(&framed(&sample::query(NAME, A))[..20]).expect("sent");
    assert!(is_closed(&mut stream) && began.elapsed() >= tcp::STALLED);
    let counted = || server.counters().sockets.connections_timed_out == 1;
    while !counted() {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
}

#[test]
fn no_more_connections_are_open_than_there_is_room_for() {
    let server = server(&["127.0.0.1:0"], ForwardConfig::default());
    let address = server.addresses()[0];
    let query = framed(&sample::query(NAME, A));
    let mut open = Vec::new();
    for _ in 0..tcp::CONNECTIONS_MAX {
        let mut stream = connect(address);
        stream.write_all(&query).expect("sent");
        read_message(&mut stream);
        open.push(stream);
        if open.len() > tcp::CONNECTIONS_MAX / 2 {
            // Whoever is idle is closed sooner while it is crowded.
            open.iter_mut().step_by(37).for_each(|stream| drop(stream.write_all(&query)));
        }
    }
    let refused = |server: &Server| server.counters().sockets.connections_refused;
    if refused(&server) == 0 && server.counters().sockets.connections_timed_out == 0 {
        assert!(is_closed(&mut connect(address)));
        assert_eq!(refused(&server), 1);
    }
    drop(open);
    let began = Instant::now();
    loop {
        let mut stream = connect(address);
        if stream.write_all(&query).is_ok() && stream.read_exact(&mut [0; 2]).is_ok() {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "there is room again");
    }
}

#[test]
fn what_waits_for_upstreams_is_bounded_and_one_more_is_told_so() {
    let (_keep, upstream) = silent();
    let server = server(&["127.0.0.1:0"], to(upstream));
    let client = client(server.addresses()[0]);
    let query = sample::query("outside.example", A);
    let began = Instant::now();
    while server.counters().sockets.overloaded == 0 {
        assert!(began.elapsed() < DEADLINE);
        (0..64).for_each(|_| drop(client.send(&query)));
    }
    let mut answer = [0; 512];
    let len = client.recv(&mut answer).expect("an answer");
    assert_eq!((rcode(&answer[..len]), &answer[..2]), (2, &query[..2]));
    assert_eq!(
        rcode(&ask(&self::client(server.addresses()[0]), &sample::query(NAME, A))),
        0,
        "the cluster's names are not concerned"
    );
}

#[test]
fn what_is_no_query_is_not_answered_and_what_is_broken_is_told() {
    let server = server(&["127.0.0.1:0"], ForwardConfig::default());
    let client = client(server.addresses()[0]);
    let query = sample::query(NAME, A);
    let mut response = query.clone();
    response[2] |= 0x80;
    for garbage in [&b""[..], &[0xff; 3], &[0xff; 600], &response] {
        client.send(garbage).expect("sent");
    }
    assert_eq!(rcode(&ask(&client, &query[..query.len() - 3])), 1, "the first thing that is heard");
    let mut stream = connect(server.addresses()[0]);
    stream.write_all(&[framed(&[]), framed(&[0xff; 40]), framed(&query)].concat()).expect("sent");
    assert_eq!(rcode(&read_message(&mut stream)), 0);
}

#[test]
fn an_address_that_cannot_be_had_is_told_with_what_to_do() {
    let server = server(&["127.0.0.1:0"], ForwardConfig::default());
    let taken = server.addresses()[0];
    let text = Listener::bind(taken).expect_err("it is taken").to_string();
    assert!(text.starts_with(&format!("{taken} (UDP): in use by another process")), "{text}");
    let text = Listener::bind("192.0.2.1:0".parse().expect("an address")).expect_err("nobody has it").to_string();
    assert!(text.ends_with("no interface of this machine has that address"), "{text}");
    drop(server);
    Listener::bind(taken).expect("it is free again");
}

#[test]
fn g11_every_name_is_documented_and_every_documented_name_is_there() {
    let page = server(&["127.0.0.1:0"], ForwardConfig::default()).shared.metrics().text();
    assert_eq!(crate::metrics::named(&page), crate::metrics::documented("The name server of its own"));
}

#[test]
fn queries_are_counted_for_whoever_asks_over_http() {
    let server = server(&["127.0.0.1:0"], ForwardConfig::default());
    let health = server.serve_health("127.0.0.1:0".parse().unwrap()).expect("a port");
    let get = |path: &str| {
        let mut stream = connect(health.address());
        write!(stream, "GET {path} HTTP/1.1\r\nhost: dns\r\nconnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    };
    assert!(get("/healthz").starts_with("HTTP/1.1 503 "));
    health.set_ready(true);
    assert!(get("/healthz").starts_with("HTTP/1.1 200 "));
    let address = server.addresses()[0];
    ask(&client(address), &sample::query(NAME, A));
    let mut stream = connect(address);
    stream.write_all(&framed(&sample::query(NAME, A))).expect("sent");
    read_message(&mut stream);
    let page = get("/metrics");
    for line in
        ["podplane_dns_server_udp_total 1", "podplane_dns_server_tcp_total 1", "podplane_dns_server_no_error_total 2"]
    {
        assert!(page.lines().any(|other| other == line), "{line} is not in {page}");
    }
}
