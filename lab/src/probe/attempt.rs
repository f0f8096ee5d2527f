//! The connection itself.

use super::{Answer, Outcome, ProbeProtocol, icmp};
use crate::error::{LabError, Result};
use crate::sctp;
use crate::server::Sighting;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// What is sent over TCP. `Connection: close` ends the answer also where no test server is.
const HTTP_REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: podplane-probe\r\nUser-Agent: podplane-probe\r\nConnection: close\r\n\r\n";

/// What is sent over UDP.
const DATAGRAM: &[u8] = b"podplane-probe\n";

/// Most bytes of an answer that are looked at.
const ANSWER_LEN_MAX: u64 = 64 * 1024;

/// A datagram that was lost is sent again after this time.
const RESEND: Duration = Duration::from_millis(300);

/// Connects to `target` and asks who answers.
pub fn attempt(
    target: SocketAddr,
    protocol: ProbeProtocol,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<Answer> {
    let started = Instant::now();
    let result = match protocol {
        ProbeProtocol::Tcp => tcp(target, source, deadline),
        ProbeProtocol::Udp => udp(target, source, deadline),
        ProbeProtocol::Icmp => icmp::echo(target.ip(), source, deadline),
        ProbeProtocol::Sctp => sctp::probe::connect(target, source, deadline),
    };
    let (outcome, sighting, rtt) = match result {
        Ok((sighting, answered)) => (Outcome::Connected, sighting, Some(answered.duration_since(started))),
        Err(error) => (outcome_of(&error)?, None, None),
    };
    let rtt_us = rtt.map(|rtt| rtt.as_micros() as u64);
    Ok(Answer { outcome, asked: Some(target.ip()), sighting, rtt_us })
}

/// What the kernel's error says about the network; an error that says nothing about it is our own failure.
fn outcome_of(error: &io::Error) -> Result<Outcome> {
    use nix::errno::Errno;
    Ok(match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ENOPROTOOPT) => Outcome::Refused,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES | Errno::EPERM | Errno::EHOSTDOWN) => {
            Outcome::Unreachable
        }
        Some(Errno::ETIMEDOUT | Errno::EAGAIN | Errno::EINPROGRESS) => Outcome::Timeout,
        _ if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Refused,
        _ if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Outcome::Timeout,
        _ => return Err(LabError::Failed(format!("probe: {error}"))),
    })
}

/// Time left; an error once it is up, because a socket takes a timeout of zero for none.
pub(crate) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

type Answered = io::Result<(Option<Sighting>, Instant)>;

fn tcp(target: SocketAddr, source: Option<IpAddr>, deadline: Instant) -> Answered {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&target.into(), left(deadline)?)?;
    let connected = Instant::now();
    // The connection stands: whatever happens to the question is not the network's answer.
    Ok((ask(socket.into(), deadline).unwrap_or(None), connected))
}

fn ask(mut stream: TcpStream, deadline: Instant) -> io::Result<Option<Sighting>> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(HTTP_REQUEST)?;
    stream.set_read_timeout(Some(left(deadline)?))?;
    for line in BufReader::new(stream.take(ANSWER_LEN_MAX)).lines() {
        if let Ok(sighting) = serde_json::from_str(&line?) {
            return Ok(Some(sighting));
        }
    }
    Ok(None)
}

fn udp(target: SocketAddr, source: Option<IpAddr>, deadline: Instant) -> Answered {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
    socket.connect(target)?;
    let mut answer = [0; 2048];
    loop {
        socket.send(DATAGRAM)?;
        socket.set_read_timeout(Some(left(deadline)?.min(RESEND)))?;
        match socket.recv(&mut answer) {
            Ok(len) => return Ok((serde_json::from_slice(&answer[..len]).ok(), Instant::now())),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
}
