//! The built-in test server: what a lab's pod runs when its manifest gives no command. It listens on every containerPort and
//! says who it is and whom it saw, so that a client learns which pod answered and which source address arrived there.
//!
//! The answer is one line of JSON, [`Sighting`]. TCP, per line that the client sends:
//!
//! | the client sends | answer |
//! |---|---|
//! | `GET`, `HEAD`, `POST`, `PUT`, `DELETE` (HTTP/1.x) | an HTTP/1.1 response with the line as body, which tells the request too; the connection is closed |
//! | `podplane-source N` | N bytes of the [`pattern`]; the connection is closed |
//! | `podplane-sink` and then bytes | after the client's end of stream: one line with [`Received`] |
//! | any other line, or nothing for [`PATIENCE`] | the line; the connection stays, more lines are answered |
//!
//! UDP: any datagram is answered by one datagram with the line; `podplane-source N` by one of N bytes; `podplane-echo ...` is
//! sent back. SCTP: each message of an association is answered by the line.

pub mod pattern;
mod tcp;
mod udp;

use crate::error::LabError;
use crate::sctp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// How long a client may be silent before it is answered unasked (`nc HOST PORT` without input).
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Who the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The pod, as NAMESPACE/NAME.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// Its addresses, where UDP sockets are bound one by one so that answers leave from the address that was asked.
    pub addresses: Vec<IpAddr>,
}

/// A port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenPort {
    /// Transport protocol.
    pub protocol: ServerProtocol,
    /// Port number.
    pub port: u16,
}

/// Transport protocol of a containerPort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServerProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for ServerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerProtocol::Tcp => "TCP",
            ServerProtocol::Udp => "UDP",
            ServerProtocol::Sctp => "SCTP",
        })
    }
}

impl FromStr for ListenPort {
    type Err = LabError;

    /// Reads `PROTO/PORT`.
    fn from_str(text: &str) -> Result<ListenPort, LabError> {
        let bad = || LabError::BadInput(format!("port {text:?}: use PROTO/PORT, such as TCP/8080"));
        let (protocol, port) = text.split_once('/').ok_or_else(bad)?;
        let protocol = match protocol.to_ascii_uppercase().as_str() {
            "TCP" => ServerProtocol::Tcp,
            "UDP" => ServerProtocol::Udp,
            "SCTP" => ServerProtocol::Sctp,
            _ => return Err(bad()),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        Ok(ListenPort { protocol, port })
    }
}

/// What the server saw of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The pod that answers, as NAMESPACE/NAME.
    pub server: String,
    /// Its node.
    pub node: String,
    /// The address on which it was reached.
    pub server_ip: IpAddr,
    /// The port on which it was reached.
    pub server_port: u16,
    /// The client's address as it arrived.
    pub client_ip: IpAddr,
    /// The client's port as it arrived.
    pub client_port: u16,
    /// The transport protocol.
    pub protocol: ServerProtocol,
    /// What an HTTP request asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Asked>,
}

/// An HTTP request, as far as a proxy on the way may have changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// Its fields `host` and `x-forwarded-...`, the last of each.
    pub fields: BTreeMap<String, String>,
}

/// What a sink got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Number of bytes.
    pub bytes: u64,
    /// Whether they were the [`pattern`], every one.
    pub intact: bool,
}

impl Sighting {
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a sighting is plain data");
        line.push('\n');
        line
    }
}

/// Listens on `ports`, each on threads of its own, and gives back what could not be bound. Serves until the process ends.
pub fn start(identity: &Identity, ports: &[ListenPort]) -> Vec<(ListenPort, io::Error)> {
    let mut failed = Vec::new();
    for port in ports {
        let started = match port.protocol {
            ServerProtocol::Tcp => tcp::start(identity.clone(), port.port),
            ServerProtocol::Udp => udp::start(identity, port.port),
            // One raw socket serves all ports.
            ServerProtocol::Sctp => continue,
        };
        if let Err(error) = started {
            failed.push((*port, error));
        }
    }
    let sctp: Vec<ListenPort> = ports.iter().copied().filter(|port| port.protocol == ServerProtocol::Sctp).collect();
    if !sctp.is_empty() {
        let numbers: Vec<u16> = sctp.iter().map(|port| port.port).collect();
        if let Err(error) = sctp::server::start(identity, &numbers) {
            failed.push((sctp[0], error));
        }
    }
    failed
}

/// The argument N of a `podplane-source N` line.
fn source_len(line: &str) -> Option<u64> {
    line.trim().strip_prefix("podplane-source ")?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
