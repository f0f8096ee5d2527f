use super::*;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[test]
fn targets_are_split_into_host_and_port() {
    let split = |text, protocol| split_target(text, protocol);
    assert_eq!(split("10.0.0.1:80", ProbeProtocol::Tcp).unwrap(), ("10.0.0.1".into(), 80));
    assert_eq!(split("[fd00::1]:80", ProbeProtocol::Udp).unwrap(), ("fd00::1".into(), 80));
    assert_eq!(split("fd00::1", ProbeProtocol::Icmp).unwrap(), ("fd00::1".into(), 0));
    assert_eq!(split("web.app.svc:8080", ProbeProtocol::Tcp).unwrap(), ("web.app.svc".into(), 8080));
    assert_eq!(split("node:node1:80", ProbeProtocol::Tcp).unwrap(), ("node:node1".into(), 80));
    assert_eq!(split("node:node1", ProbeProtocol::Icmp).unwrap(), ("node:node1".into(), 0));
    assert_eq!(split("shop/db-0:5432", ProbeProtocol::Tcp).unwrap(), ("shop/db-0".into(), 5432));
    for bad in
        ["node:node1", "10.0.0.1", "10.0.0.1:", ":80", "10.0.0.1:0", "10.0.0.1:99999", "[fd00::1:80", "fd00::1", "a:b"]
    {
        assert!(matches!(split(bad, ProbeProtocol::Tcp), Err(LabError::BadInput(_))), "{bad}");
    }
}

#[test]
fn a_connection_without_an_answer_is_still_connected() {
    let listener = TcpListener::bind(local(0)).unwrap();
    let target = listener.local_addr().unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let answer = attempt(target, ProbeProtocol::Tcp, None, deadline).unwrap();
    assert_eq!((answer.outcome, answer.sighting), (Outcome::Connected, None));
}

#[test]
fn a_closed_port_refuses_tcp_and_udp() {
    let free = TcpListener::bind(local(0)).unwrap().local_addr().unwrap();
    assert_eq!(attempt(free, ProbeProtocol::Tcp, None, soon()).unwrap().outcome, Outcome::Refused);
    let free = UdpSocket::bind(local(0)).unwrap().local_addr().unwrap();
    assert_eq!(attempt(free, ProbeProtocol::Udp, None, soon()).unwrap().outcome, Outcome::Refused);
}

#[test]
fn silence_is_a_timeout() {
    let silent = UdpSocket::bind(local(0)).unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    let answer = attempt(silent.local_addr().unwrap(), ProbeProtocol::Udp, None, deadline).unwrap();
    assert_eq!(answer.outcome, Outcome::Timeout);
}

#[test]
fn a_name_without_an_address_is_a_dns_error() {
    let request = Request {
        host: Host::Name("does-not-exist.invalid".into()),
        port: 80,
        protocol: ProbeProtocol::Tcp,
        source: None,
        timeout_ms: 5000,
    };
    assert_eq!(run(&request).unwrap().outcome, Outcome::DnsError);
}
