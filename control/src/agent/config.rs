//! What a node process is told when it starts, and what it does if nothing is said.

use super::{ClusterDns, TapMode, Vni};
use crate::controller::LabNetwork;
use crate::pools::AddressPool;
use crate::sandboxes;
use crate::source::Origin;
use ipnet::IpNet;
use overlay::vxlan::VXLAN_PORT;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// UDP port of the heartbeats: the one after VXLAN's, so that one rule of a firewall opens both. IANA gives it to VXLAN-GPE,
/// which no node speaks beside us.
pub const HEARTBEAT_PORT: u16 = 4790;

/// Where kube-proxy serves its health, and load balancers of cloud providers look for it (KEP-3836), in both families.
pub const HEALTHZ_LISTEN: SocketAddr = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 10256, 0, 0));

/// Where kube-proxy serves its metrics: for scrapers on the node itself, because they tell the names of all pods.
pub const METRICS_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10249));

/// Everything a node process is told when it starts.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// metadata.name of this node's Node object.
    pub node_name: String,
    /// Where the objects come from.
    pub origin: Origin,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// Folder for what outlives the process: the seed of the hashes, so that MACs and backend choices stay, and the records of
    /// attached sandboxes with their addresses.
    pub state_dir: Option<PathBuf>,
    /// How long an address rests when its sandbox has gone.
    pub quarantine: Duration,
    /// Whether a sandbox that no Pod object describes is a pod all the same, as containers of podman and others are.
    pub implicit_pods: bool,
    /// Threads that carry traffic.
    pub shards: u16,
    /// Kind of TAP.
    pub tap_mode: TapMode,
    /// VNI of the overlay.
    pub vni: Vni,
    /// UDP port of the overlay on every node.
    pub vxlan_port: u16,
    /// Service ranges, which the node itself reaches through its TAP.
    pub service_cidrs: Vec<IpNet>,
    /// MTU of the underlay in bytes; `None` reads it from the interface.
    pub underlay_mtu: Option<u16>,
    /// nodePorts are served on node addresses in these ranges; empty: on all.
    pub nodeport_addresses: Vec<IpNet>,
    /// externalIPs of Services that are served; empty: none.
    pub external_ips: Vec<IpNet>,
    /// Whether every packet to a Service gets the node's address as its source.
    pub masquerade_all: bool,
    /// Ranges outside the cluster that pods reach with their own address.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// Name servers that rules with domainNames believe, beside the cluster's own.
    pub trusted_dns: Vec<IpNet>,
    /// The cluster DNS, which the node answers itself; `None`: pods do.
    pub cluster_dns: Option<ClusterDns>,
    /// Source ports of connections that leave with the node's address; `None` takes those that disturb nobody.
    pub snat_ports: Option<RangeInclusive<u16>>,
    /// UDP port of the heartbeats between nodes.
    pub heartbeat_port: u16,
    /// Where the node's health is served over HTTP; `None`: nowhere.
    pub healthz_listen: Option<SocketAddr>,
    /// Where metrics are served over HTTP; `None`: on the API's socket only.
    pub metrics_listen: Option<SocketAddr>,
    /// Folder in which the container runtime looks for network configurations: it gets podplane's when the node forwards. `None`:
    /// somebody else puts it there.
    pub cni_conf_dir: Option<PathBuf>,
    /// Addresses for Services of type LoadBalancer that have none, on an API server; of none: nobody gets one.
    pub load_balancer_pools: Vec<AddressPool>,
    /// Ranges of which nodes without a pod range get one, on an API server; of none: somebody else gives them.
    pub cluster_cidrs: Vec<IpNet>,
}

impl AgentConfig {
    /// A node process with the defaults: one shard, TAPs as the kernel allows, VNI 1, port 4789, the Service ranges of the
    /// lab's address plan, no state folder, implicit pods on a cluster directory, nodePorts on all node addresses, no
    /// externalIPs, the cluster DNS at the lab's addresses.
    pub fn new(node_name: &str, origin: impl Into<Origin>, socket: &Path) -> AgentConfig {
        let origin = origin.into();
        AgentConfig {
            node_name: node_name.to_owned(),
            implicit_pods: matches!(origin, Origin::Directory(_)),
            origin,
            socket: socket.to_owned(),
            state_dir: None,
            quarantine: sandboxes::QUARANTINE,
            shards: 1,
            tap_mode: TapMode::Auto,
            vni: Vni::new(1).expect("1 fits 24 bits"),
            vxlan_port: VXLAN_PORT,
            service_cidrs: LabNetwork::default().services,
            underlay_mtu: None,
            nodeport_addresses: Vec::new(),
            external_ips: Vec::new(),
            masquerade_all: false,
            non_masquerade_cidrs: Vec::new(),
            trusted_dns: Vec::new(),
            cluster_dns: Some(ClusterDns::default()),
            snat_ports: None,
            heartbeat_port: HEARTBEAT_PORT,
            healthz_listen: Some(HEALTHZ_LISTEN),
            metrics_listen: Some(METRICS_LISTEN),
            cni_conf_dir: None,
            load_balancer_pools: Vec::new(),
            cluster_cidrs: Vec::new(),
        }
    }
}
