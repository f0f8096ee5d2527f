//! Services as the API shows them: addresses, ports, backends, rules and hits.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A Service that has addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// `ClusterIP`, `NodePort` or `LoadBalancer`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Every address of its own that is in force; node addresses with nodePorts are not listed.
    pub addresses: Vec<ServiceAddress>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The timeout of session affinity in seconds; absent without affinity.
    pub affinity_seconds: Option<u64>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: String,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: String,
    /// As the Service says it, such as `PreferSameZone`.
    pub traffic_distribution: Option<String>,
    /// Where load balancers ask whether this node has endpoints.
    pub health_check_node_port: Option<u16>,
    /// Clients that may use the load balancer's addresses; absent if all may.
    pub source_ranges: Option<Vec<ipnet::IpNet>>,
    /// After how many milliseconds an unanswered connect goes to another backend; absent if never.
    pub connect_retry_ms: Option<u64>,
}

/// A virtual address of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// The address.
    pub address: IpAddr,
    /// `ClusterIP`, `LoadBalancer` or `ExternalIP`.
    pub kind: String,
    /// The node that answers for it on the underlay, as far as this node knows; LoadBalancer addresses only.
    pub announced_by: Option<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name, empty if unnamed.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port of the Service's addresses.
    pub port: u16,
    /// Port of every node's addresses.
    pub node_port: Option<u16>,
    /// Its endpoints in every state, IPv4 first.
    pub backends: Vec<ServiceBackend>,
    /// What came to it through this node.
    pub hits: ServiceHits,
}

/// An endpoint of a Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBackend {
    /// Address that packets are sent to.
    pub address: IpAddr,
    /// Port that packets are sent to.
    pub port: u16,
    /// Who has the address: `NAMESPACE/POD` or `node:NAME`; absent outside the cluster.
    pub owner: Option<String>,
    /// Node that it runs on.
    pub node: Option<String>,
    /// Whether that is this node.
    pub local: bool,
    /// `ready`; `terminating` while it serves its last; `serving`, not ready but not going away; or `unready`.
    pub state: String,
}

/// Flows to a Service port that were opened on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHits {
    /// Flows that were given a backend.
    pub opened: u64,
    /// Flows that were turned away: no endpoint, none on this node, or a client that may not.
    pub refused: u64,
    /// Of those opened, connections that took the place of one whose backend did not answer.
    pub retried: u64,
}
