//! What is told about the uplink: its state, and the node ports that could not be claimed.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use wire::{MacAddr, Protocol};

/// Whether traffic from and to the outside is carried, and through what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkStatus {
    /// Whether it works, or why not.
    pub state: UplinkState,
    /// Interfaces that it uses.
    pub interfaces: Vec<UplinkInterface>,
    /// Ports of Services that are held for the outside, per family and protocol.
    pub claimed_ports: u32,
    /// Source ports that are held for source NAT: TCP, UDP.
    pub source_ports: [u32; 2],
    /// Addresses that this node answers for on the underlay.
    pub announced: Vec<IpAddr>,
    /// TCP connections and UDP sessions of node processes that are relayed.
    pub relayed: u32,
}

/// Whether the uplink works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UplinkState {
    /// The configuration does not want it.
    #[default]
    Off,
    /// Frames from and to the outside are carried.
    Up,
    /// The node runs without it, for this reason.
    Missing(String),
}

/// An interface of the node that frames from and to the outside cross.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkInterface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The node's addresses on it.
    pub addresses: Vec<IpAddr>,
}

/// A port of a Service, or a pod's hostPort, that this node cannot serve to the outside, because the kernel would answer as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFailure {
    /// Of a hostPort the field that asks for it.
    pub host_port: Option<Arc<str>>,
    /// metadata.namespace of the Service or pod.
    pub namespace: Arc<str>,
    /// metadata.name of the Service or pod.
    pub name: Arc<str>,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Address that was to be claimed: unspecified for all addresses of the node in that family.
    pub address: IpAddr,
    /// Port that was to be claimed.
    pub port: u16,
    /// What the kernel said.
    pub error: io::ErrorKind,
}

impl fmt::Display for ClaimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClaimFailure { host_port, namespace, name, protocol, address, port, error } = self;
        let (kind, advice) = match host_port {
            None => ("Service", "give the Service another nodePort"),
            Some(_) => ("Pod", "give the pod another hostPort"),
        };
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        write!(f, "{kind} {namespace}/{name}: {family} port {port}/{protocol} of this node ")?;
        match error {
            io::ErrorKind::AddrInUse => write!(
                f,
                "is in use by another process, so it is not served to the outside here: stop that process, or {advice}",
            ),
            error => write!(f, "cannot be held ({error}), so it is not served to the outside here"),
        }
    }
}
