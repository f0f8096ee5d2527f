use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};

fn identity() -> Identity {
    Identity { pod: "app/web-0".into(), node: "node1".into(), addresses: vec![] }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn serve(protocol: ServerProtocol) -> u16 {
    let port = free_port();
    let failed = start(&identity(), &[ListenPort { protocol, port }]);
    assert!(failed.is_empty(), "{failed:?}");
    port
}

fn ask(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_line_is_answered_with_who_answers_and_who_was_seen() {
    let port = serve(ServerProtocol::Tcp);
    let answer = ask(port, b"hello\nagain\n");
    let lines: Vec<Sighting> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].server, "app/web-0");
    assert_eq!(lines[0].client_ip, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(lines[0].server_port, port);
}

#[test]
fn a_silent_client_is_answered_too() {
    let port = serve(ServerProtocol::Tcp);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{");
}

#[test]
fn http_requests_get_http_responses() {
    let port = serve(ServerProtocol::Tcp);
    let answer =
        ask(port, b"POST /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 3\r\n\r\nabc");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    let asked = serde_json::from_str::<Sighting>(body).unwrap().request.unwrap();
    assert_eq!((asked.target.as_str(), asked.fields["host"].as_str()), ("/x", "a"));
    assert_eq!(asked.fields["x-forwarded-for"], "192.0.2.1");
    assert!(ask(port, b"HEAD / HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n"));
}

#[test]
fn large_transfers_are_checked_byte_by_byte() {
    let port = serve(ServerProtocol::Tcp);
    let mut request = b"podplane-sink\n".to_vec();
    request.extend(pattern::bytes(1_000_003));
    let received: Received = serde_json::from_str(&ask(port, &request)).unwrap();
    assert_eq!(received, Received { bytes: 1_000_003, intact: true });
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(b"podplane-source 1000003\n").unwrap();
    assert_eq!(pattern::receive(&mut stream).unwrap(), (1_000_003, true));
}

#[test]
fn udp_answers_each_datagram() {
    let port = serve(ServerProtocol::Udp);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut answer = [0; 2048];
    socket.send(b"hello").unwrap();
    let len = socket.recv(&mut answer).unwrap();
    let seen: Sighting = serde_json::from_slice(&answer[..len]).unwrap();
    assert_eq!(seen.client_port, socket.local_addr().unwrap().port());
    socket.send(b"podplane-source 1200").unwrap();
    assert_eq!(socket.recv(&mut answer).unwrap(), 1200);
}
