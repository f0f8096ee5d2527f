//! The API of a node process: HTTP and JSON over a unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process runs |
//! | `GET /readyz` | 200 once tables are in force, else 503 with the reason |
//! | `GET /metrics` | what Prometheus scrapes; also over TCP at `--metrics-listen` |
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/ports` | list of [`Port`] |
//! | `POST /v1/ports` | [`AttachRequest`] in, [`Port`] out, when the port is judged by the pod's policies |
//! | `DELETE /v1/ports/{container_id}/{ifname}` | [`Detached`]; removing what is not there is no error |
//! | `GET /v1/services` | list of [`Service`] |
//! | `GET /v1/flows` | list of [`Flow`] |
//! | `GET /v1/drops[?since=UNIX_MS]` | list of [`Drop`], with recent ones of all time or since then |
//! | `POST /v1/cni/add`, `del`, `check`, `gc`, `GET /v1/cni/status` | see [`cni::api`] |
//! | `GET /v1/policies` | list of [`Policy`], in order of evaluation |
//!
//! Every answer that is not 2xx is an [`ApiError`]. [`Server`] serves it, [`Client`] asks. The types are the contract;
//! fields are added, never renamed.

mod client;
mod drops;
mod kubernetes;
mod policies;
mod server;
mod services;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use drops::{Drop, RecentDrop};
pub use kubernetes::{CachedObjects, Kubernetes, KubernetesResource};
pub use policies::{Policy, PolicyRule};
pub(crate) use server::Server;
pub use services::{Service, ServiceAddress, ServiceBackend, ServiceHits, ServicePort};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a node process is and has in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of podplane.
    pub version: String,
    /// metadata.name of the node.
    pub node: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// Bytes of memory that the process has resident; 0 if the kernel does not say.
    pub resident_bytes: u64,
    /// Whether tables are in force and the node forwards.
    pub ready: bool,
    /// What it waits for, while it is not ready.
    pub waiting_for: Option<String>,
    /// Where the intent comes from, and what the command line says about it.
    #[serde(default)]
    pub source: SourceStatus,
    /// The intent in force.
    pub config: ConfigStatus,
    /// The running dataplane; absent until the node's own Node object is known.
    pub dataplane: Option<DataplaneStatus>,
}

/// Where a node's objects come from, and the flags with which it compiles them: whoever reads the same objects with the same
/// flags gets the same tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The cluster directory, as an absolute path; `None` if the objects come from elsewhere.
    pub cluster_dir: Option<PathBuf>,
    /// The Kubernetes API server, if the objects come from one.
    #[serde(default)]
    pub kubernetes: Option<Kubernetes>,
    /// The ranges that Services get their cluster addresses from.
    pub service_cidrs: Vec<IpNet>,
    /// nodePorts are served on node addresses in these ranges; empty: on all.
    pub nodeport_addresses: Vec<IpNet>,
    /// externalIPs of Services that are served; empty: none.
    pub external_ips: Vec<IpNet>,
    /// Whether every packet to a Service gets the node's address as its source.
    pub masquerade_all: bool,
    /// Ranges outside the cluster that pods reach with their own address.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// Where the node answers the cluster DNS itself; empty: pods do.
    #[serde(default)]
    pub cluster_dns: Vec<IpAddr>,
}

/// The intent that is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Number of changes seen since the process started; 0 before the first.
    pub generation: u64,
    /// Number of the tables in force.
    pub epoch: u64,
    /// Identifies the files that the tables were made from, as [`crate::directory::Written::digest`].
    pub digest: String,
    /// Milliseconds since the tables were put in force.
    pub age_ms: u64,
    /// Microseconds that the change took: from the look at the source until every shard judged by the tables.
    pub took_us: u64,
    /// The part of `took_us` in which objects were judged and compiled.
    pub compile_us: u64,
    /// Nodes in the tables.
    pub nodes: usize,
    /// Pods in the tables.
    pub pods: usize,
    /// Service ports in the tables.
    pub service_ports: usize,
    /// Network policies in the tables.
    pub policies: usize,
    /// What is wrong with the source. The rest of it is in force.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `warning`, `closed`, `refused` or `unreadable`.
    pub severity: String,
    /// File that it is in.
    pub file: String,
    /// Object, such as `Pod default/web`; empty if it is about the file.
    pub object: String,
    /// Path of the field; empty if it is about the whole object.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl From<&policy::objects::Problem> for Problem {
    fn from(problem: &policy::objects::Problem) -> Problem {
        use policy::objects::Severity;
        let severity = match problem.severity {
            Severity::Warning => "warning",
            Severity::Closed => "closed",
            Severity::Refused => "refused",
            Severity::Unreadable => "unreadable",
        };
        Problem {
            severity: severity.to_owned(),
            file: problem.file.to_string(),
            object: problem.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            field: problem.field.clone(),
            message: match problem.position {
                Some((line, column)) => format!("line {line}, column {column}: {}", problem.message),
                None => problem.message.clone(),
            },
        }
    }
}

/// A running dataplane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataplaneStatus {
    /// The node's addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// Gateway addresses of its pods.
    pub gateways: Vec<IpAddr>,
    /// Name of the node's own TAP.
    pub host_interface: String,
    /// MTU of pods in bytes.
    pub pod_mtu: u16,
    /// Threads that carry traffic.
    pub shards: u16,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of the overlay.
    pub vxlan_port: u16,
    /// Ports, the host port included.
    pub ports: usize,
    /// Flows in the tables of all ports.
    pub flows: usize,
    /// Frames handed to the switch. `forwarded`, `answered`, `asked`, `dropped` and `held` add up to it.
    pub received: u64,
    /// Frames sent on.
    pub forwarded: u64,
    /// Frames turned into an answer.
    pub answered: u64,
    /// Queries and packets for the cluster DNS that this node answers.
    #[serde(default)]
    pub asked: u64,
    /// Frames discarded.
    pub dropped: u64,
    /// Records of drops ([`RecentDrop`]) that gave way to more recent ones.
    #[serde(default)]
    pub drops_forgotten: u64,
    /// What pods' DNS answers said, for rules with domainNames.
    #[serde(default)]
    pub names: NamesLearned,
    /// The cluster DNS; absent if pods answer it.
    #[serde(default)]
    pub dns: Option<DnsStatus>,
    /// Frames that wait at the moment, such as fragments that came before their first.
    pub held: u64,
    /// Tunnel datagrams received and the calls that took.
    pub tunnel_received: Transfers,
    /// Tunnel datagrams sent and the calls that took.
    pub tunnel_sent: Transfers,
    /// Traffic from and to the outside of the cluster.
    pub uplink: UplinkStatus,
}

/// What was learned from the DNS answers of pods that a rule with domainNames concerns: pairs of a name and an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesLearned {
    /// Pairs that are held.
    pub held: u64,
    /// Pairs that were learned, or whose time was prolonged.
    pub learned: u64,
    /// Pairs that were given up for want of room.
    pub forgotten: u64,
    /// Answers that could not be read.
    pub unreadable: u64,
}

/// The cluster DNS that a node answers itself, and what came to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// Where it is asked.
    pub addresses: Vec<IpAddr>,
    /// The cluster's zone.
    pub zone: String,
    /// Messages over UDP and over TCP.
    pub udp: u64,
    /// See `udp`.
    pub tcp: u64,
    /// Answers with records.
    pub no_error: u64,
    /// Answers that a name has no such records.
    pub no_data: u64,
    /// Answers that there is no such name.
    pub nx_domain: u64,
    /// Answers that it is not known yet, or cannot be.
    pub serv_fail: u64,
    /// Messages that were no proper query, and were answered so.
    pub refused: u64,
    /// Messages that were not answered at all.
    pub silent: u64,
    /// Answers over UDP with records that had no room.
    pub truncated: u64,
    /// Queries for names that are not the cluster's, or lead out of it.
    pub forwarded: u64,
    /// Those of them that were answered from memory.
    pub cached: u64,
    /// Questions that no upstream answered.
    pub upstream_failed: u64,
    /// Connections at the moment.
    pub connections: u64,
    /// Connections that came to be.
    pub connections_accepted: u64,
    /// Packets, queries and answers that were given up because there were too many.
    pub overloaded: u64,
}

/// What carries traffic from and to the outside of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// `up`, `off` or `missing`.
    pub state: String,
    /// Why it is missing.
    pub reason: Option<String>,
    /// Interfaces that it uses.
    pub interfaces: Vec<UplinkInterface>,
    /// Ports of Services that are held for the outside, per family and protocol.
    pub claimed_ports: u32,
    /// Source ports that are held for TCP connections that leave with the node's address.
    pub source_ports_tcp: u32,
    /// The same for UDP.
    pub source_ports_udp: u32,
    /// LoadBalancer addresses that this node answers for.
    pub announced: Vec<IpAddr>,
    /// Connections of the node's own processes to nodePorts.
    pub relayed: u32,
    /// Other nodes that are heard of, while there are LoadBalancer addresses.
    pub alive: Vec<String>,
    /// Why this node announces no LoadBalancer addresses, while there are some.
    pub hindrance: Option<String>,
}

/// An interface of the node that frames from and to the outside cross.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkInterface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The node's addresses on it.
    pub addresses: Vec<IpAddr>,
}

/// Datagrams and the system calls that moved them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfers {
    /// Datagrams.
    pub datagrams: u64,
    /// System calls.
    pub calls: u64,
}

/// Asks for a pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// metadata.namespace of the pod.
    pub namespace: String,
    /// metadata.name of the pod.
    pub name: String,
    /// Id of the sandbox, chosen by the caller; with `ifname` it names the port.
    pub container_id: String,
    /// The sandbox's network namespace, as the node process sees it.
    pub netns: PathBuf,
    /// Name of the interface inside, at most 15 bytes.
    pub ifname: String,
    /// The pod's addresses; without them those of the Pod's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpAddr>>,
}

/// An attached port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Number of the port on this node.
    pub id: u32,
    /// `pod` or `host`.
    pub kind: String,
    /// Namespace of the pod; empty for the host port.
    pub namespace: String,
    /// Name of the pod; empty for the host port.
    pub name: String,
    /// Id that the port was attached with; empty for the host port.
    pub container_id: String,
    /// Addresses that it may use.
    pub addresses: Vec<IpAddr>,
    /// Gateways that were set inside.
    pub gateways: Vec<IpAddr>,
    /// MAC of the interface.
    pub mac: String,
    /// Its network namespace; empty for the host port.
    pub netns: PathBuf,
    /// Name of the interface.
    pub ifname: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// `offload` or `plain`.
    pub mode: String,
    /// Shard that serves it.
    pub shard: u16,
    /// Frames from the pod to the switch; a super-frame counts once.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Of those, discarded.
    pub rx_dropped: u64,
    /// Frames from the switch to the pod.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
}

/// Result of a detach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Whether there was such a port.
    pub removed: bool,
}

/// One conversation in a port's flow table. A conversation between two pods of one node is in the tables of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Port whose table holds it.
    pub port: u32,
    /// `TCP`, `UDP`, ...
    pub protocol: String,
    /// Who opened it.
    pub from: Endpoint,
    /// What it was opened to.
    pub to: Endpoint,
    /// The Service behind `to` as `NAMESPACE/NAME`, if it is one.
    pub service: Option<String>,
    /// Who answers, where that is not `to`.
    pub backend: Option<Endpoint>,
    /// State in words, such as `established`.
    pub state: String,
    /// Packets and bytes from the opener.
    pub sent: Traffic,
    /// Packets and bytes back to it.
    pub answered: Traffic,
    /// Milliseconds since the last packet.
    pub idle_ms: u64,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// L4 port, or the identifier of an ICMP echo.
    pub port: u16,
    /// Who has the address: `NAMESPACE/POD` or `node:NAME`.
    pub owner: Option<String>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)?;
        match &self.owner {
            Some(owner) => write!(f, " ({owner})"),
            None => Ok(()),
        }
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets; a super-frame counts once.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of error.
    pub code: ErrorCode,
    /// What happened and what to do about it.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into() }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Kinds of errors, each with its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// 400: the request contradicts itself or cannot be read.
    BadRequest,
    /// 404: there is no such path.
    NotFound,
    /// 405: the path does not take this method.
    MethodNotAllowed,
    /// 409: a port of this name is attached.
    AlreadyAttached,
    /// 409: the pod is not one that this node may attach: unknown, elsewhere, or with other addresses.
    PodNotInForce,
    /// 503: the node is not ready; trying again helps.
    NotReady,
    /// 500: the kernel refused a step; nothing is left of it.
    Failed,
    /// 503: no address is free in the node's pod ranges.
    RangeExhausted,
    /// 409: the address that was asked for is another's, or none of this node's pods.
    AddressRefused,
    /// 404: the sandbox's network namespace is gone.
    NoSuchNamespace,
    /// 404: no such sandbox is attached.
    NotAttached,
    /// 409: an attachment is not as it was made.
    NotAsAdded,
    /// 500: the state folder cannot be written; nothing is left of what was asked for.
    NotWritten,
    /// 503: the node does not serve what is attached either.
    Degraded,
}

impl ErrorCode {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::BadRequest => 400,
            ErrorCode::NotFound | ErrorCode::NoSuchNamespace | ErrorCode::NotAttached => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::AlreadyAttached
            | ErrorCode::PodNotInForce
            | ErrorCode::AddressRefused
            | ErrorCode::NotAsAdded => 409,
            ErrorCode::NotReady | ErrorCode::RangeExhausted | ErrorCode::Degraded => 503,
            ErrorCode::Failed | ErrorCode::NotWritten => 500,
        }
    }
}
