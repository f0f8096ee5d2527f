//! One real connection, from wherever this process is: what `lab probe` and `lab matrix` do inside of a place.
//!
//! TCP connects and sends an HTTP request that the built-in test server, and any web server, answers; whoever accepts the
//! connection counts as connected. UDP sends a datagram until an answer comes (a datagram alone proves nothing). ICMP sends
//! an echo request, SCTP makes an association (our own, since few kernels have SCTP).

mod attempt;
mod icmp;

pub use attempt::attempt;
pub(crate) use attempt::left;

use crate::error::{LabError, Result};
use crate::server::{ServerProtocol, Sighting};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wire::Protocol;

/// Protocol of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeProtocol {
    /// A TCP connection.
    Tcp,
    /// A UDP datagram and its answer.
    Udp,
    /// An SCTP association.
    Sctp,
    /// An ICMP or ICMPv6 echo; there is no port.
    Icmp,
}

impl fmt::Display for ProbeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeProtocol::Tcp => "tcp",
            ProbeProtocol::Udp => "udp",
            ProbeProtocol::Sctp => "sctp",
            ProbeProtocol::Icmp => "icmp",
        })
    }
}

impl From<ServerProtocol> for ProbeProtocol {
    fn from(protocol: ServerProtocol) -> ProbeProtocol {
        match protocol {
            ServerProtocol::Tcp => ProbeProtocol::Tcp,
            ServerProtocol::Udp => ProbeProtocol::Udp,
            ServerProtocol::Sctp => ProbeProtocol::Sctp,
        }
    }
}

impl ProbeProtocol {
    /// Its IP protocol; the one of IPv4 for ICMP.
    pub fn on_the_wire(self) -> Protocol {
        match self {
            ProbeProtocol::Tcp => Protocol::TCP,
            ProbeProtocol::Udp => Protocol::UDP,
            ProbeProtocol::Sctp => Protocol::SCTP,
            ProbeProtocol::Icmp => Protocol::ICMP,
        }
    }
}

impl FromStr for ProbeProtocol {
    type Err = LabError;

    fn from_str(text: &str) -> Result<ProbeProtocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(ProbeProtocol::Tcp),
            "udp" => Ok(ProbeProtocol::Udp),
            "sctp" => Ok(ProbeProtocol::Sctp),
            "icmp" => Ok(ProbeProtocol::Icmp),
            _ => Err(LabError::BadInput(format!("protocol {text:?}: use tcp, udp, sctp or icmp"))),
        }
    }
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The other side answered.
    Connected,
    /// The other side, or the network for it, said that nobody listens.
    Refused,
    /// No answer in time.
    Timeout,
    /// The network said that there is no way.
    Unreachable,
    /// The name has no address.
    DnsError,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Connected => "connected",
            Outcome::Refused => "refused",
            Outcome::Timeout => "timeout",
            Outcome::Unreachable => "unreachable",
            Outcome::DnsError => "dns-error",
        })
    }
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name for the resolver of the place.
    Name(String),
}

/// A probe to run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whom to ask.
    pub host: Host,
    /// Port; 0 for ICMP.
    pub port: u16,
    /// Protocol.
    pub protocol: ProbeProtocol,
    /// Source address to use instead of the kernel's choice; the place has it.
    pub source: Option<IpAddr>,
    /// Time for everything, in milliseconds.
    pub timeout_ms: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// The address that was asked; `None` if the name has none.
    pub asked: Option<IpAddr>,
    /// What the test server said, if one answered.
    pub sighting: Option<Sighting>,
    /// Time until the connection stood, or until the answer to a datagram, in microseconds.
    pub rtt_us: Option<u64>,
}

/// A probe and what came of it, as the command line prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The place that asked.
    pub from: String,
    /// HOST:PORT as asked for.
    pub to: String,
    /// Protocol.
    pub protocol: ProbeProtocol,
    /// How it ended.
    pub outcome: Outcome,
    /// NAMESPACE/NAME of the pod that answered.
    pub server: Option<String>,
    /// Address on which it was reached, after Service translation.
    pub server_ip: Option<IpAddr>,
    /// Source address that the server saw.
    pub client_ip: Option<IpAddr>,
    /// Time until the connection stood, or until the answer to a datagram, in microseconds.
    pub rtt_us: Option<u64>,
}

impl Report {
    /// Puts question and answer together; `owner` is the pod that has the asked address. It stands for the server where no
    /// test server said more.
    pub(crate) fn new(
        from: String,
        to: String,
        protocol: ProbeProtocol,
        answer: &Answer,
        owner: Option<String>,
    ) -> Report {
        let sighting = answer.sighting.as_ref();
        let assumed = owner.filter(|_| answer.outcome == Outcome::Connected && sighting.is_none());
        Report {
            from,
            to,
            protocol,
            outcome: answer.outcome,
            server_ip: sighting.map(|s| s.server_ip).or(answer.asked.filter(|_| assumed.is_some())),
            server: sighting.map(|s| s.server.clone()).or(assumed),
            client_ip: sighting.map(|s| s.client_ip),
            rtt_us: answer.rtt_us,
        }
    }
}

/// Runs `request` here.
pub fn run(request: &Request) -> Result<Answer> {
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms);
    let address = match &request.host {
        Host::Address(address) => *address,
        Host::Name(name) => match resolve(name, deadline) {
            Some(address) => address,
            None => {
                return Ok(Answer { outcome: Outcome::DnsError, asked: None, sighting: None, rtt_us: None });
            }
        },
    };
    attempt(SocketAddr::new(address, request.port), request.protocol, request.source, deadline)
}

/// Asks the resolver of this place. The resolver cannot be told a deadline, so it is left behind on its thread.
fn resolve(name: &str, deadline: Instant) -> Option<IpAddr> {
    let (send, receive) = mpsc::channel();
    let name = name.to_owned();
    std::thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let _ = send.send(found);
    });
    let found = receive.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
    found.map(|address| address.ip())
}

/// Splits `HOST:PORT` (`[v6]:PORT`); for ICMP the port may be missing. Gives HOST without brackets.
pub fn split_target(text: &str, protocol: ProbeProtocol) -> Result<(String, u16)> {
    let bad = |why: &str| LabError::BadInput(format!("target {text:?}: {why}"));
    if let Some(rest) = text.strip_prefix("node:") {
        return split_target(rest, protocol).map(|(node, port)| (format!("node:{node}"), port));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| bad("']' is missing"))?;
            (host, rest.strip_prefix(':'))
        }
        // More than one colon without brackets is an IPv6 address without a port.
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(bad("use HOST:PORT"));
    }
    match (port, protocol) {
        (Some(port), _) => match port.parse() {
            Ok(port) if port > 0 || protocol == ProbeProtocol::Icmp => Ok((host.to_owned(), port)),
            _ => Err(bad("the port is a number from 1 to 65535")),
        },
        (None, ProbeProtocol::Icmp) => Ok((host.to_owned(), 0)),
        (None, _) => Err(bad("use HOST:PORT ([ADDRESS]:PORT for IPv6)")),
    }
}

#[cfg(test)]
mod tests;
