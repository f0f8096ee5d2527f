//! What a dataplane and a port are told once, and what a port became.

use ipnet::IpNet;
use overlay::vxlan::{VXLAN_PORT, Vni};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use switch::{PortId, PortKind, ShardId};
use wire::MacAddr;

/// Which kind of TAP the ports get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TapMode {
    /// Offload if the kernel grants it, else plain; decided per TAP when it is opened.
    #[default]
    Auto,
    /// Virtio-net header with checksum and segmentation offload; refused if the kernel refuses it.
    Offload,
    /// No virtio-net header: every frame is a whole packet of at most the MTU.
    Plain,
}

/// Which kind of TAP a port got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapKind {
    /// Super-frames and partial checksums cross it.
    Offload,
    /// Whole packets only.
    Plain,
}

/// Everything a dataplane is told when it starts.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    /// metadata.name of this node.
    pub node_name: String,
    /// Threads that carry traffic; 1 to [`DataplaneConfig::SHARDS_MAX`].
    pub shards: u16,
    /// Kind of TAP.
    pub tap_mode: TapMode,
    /// This node's own addresses on the underlay, at most one per family; each must be on a local interface.
    pub underlay: Vec<IpAddr>,
    /// VNI of the overlay.
    pub vni: Vni,
    /// UDP port of the overlay on every node.
    pub vxlan_port: u16,
    /// MAC of this node's VTEP.
    pub vtep_mac: MacAddr,
    /// Gateway addresses that this node's pods use, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// Name of the node's own TAP; at most 15 bytes.
    pub host_tap: String,
    /// Seed of the switch's hashes.
    pub seed: u64,
    /// Flows that one port may hold.
    pub flows_per_port_max: u32,
    /// Flows that the uplink may hold: those of all pods to the outside, and of all clients outside.
    pub uplink_flows_max: u32,
    /// MTU of the underlay in bytes; `None` reads it from the interface that owns `underlay`.
    pub underlay_mtu: Option<u16>,
    /// Carry traffic from and to the outside: NodePorts, LoadBalancer addresses, pods' connections out of the cluster.
    pub uplink: bool,
    /// The ranges that Services get their cluster addresses from: never outside, whether in use or not.
    pub service_cidrs: Vec<IpNet>,
    /// Destinations outside the cluster that pods reach with their own addresses, beside those of the cluster itself.
    pub non_masquerade: Vec<IpNet>,
    /// Traffic of Services always gets an address of the node as its source.
    pub masquerade_all: bool,
    /// Name servers that rules with domainNames believe, beside the cluster's own.
    pub trusted_dns: Vec<IpNet>,
    /// The cluster DNS, which this node answers for what is attached to it; `None` leaves it to pods.
    pub cluster_dns: Option<ClusterDns>,
    /// Source ports for pods' connections out of the cluster; `None` takes the ones that the kernel does not use first.
    pub snat_ports: Option<RangeInclusive<u16>>,
    /// Folder in which the flows of all ports are kept, so that a process with the same folder goes on with them; devices and routes
    /// then stay when this one ends. `None`: nothing outlives the process.
    pub state_dir: Option<PathBuf>,
}

impl DataplaneConfig {
    /// Most shards a node runs. A shard is a thread per core; the handover channels between all pairs grow with the square.
    pub const SHARDS_MAX: u16 = 64;

    /// A configuration for node `node_name` with the defaults: one shard, VNI 1, port 4789, host TAP `podplane0`,
    /// 65,536 flows per port and four times as many at the uplink, MTU from the underlay, with an uplink.
    pub fn new(node_name: &str, underlay: Vec<IpAddr>, gateways: Vec<IpAddr>) -> DataplaneConfig {
        DataplaneConfig {
            node_name: node_name.to_owned(),
            shards: 1,
            tap_mode: TapMode::Auto,
            underlay,
            vni: Vni::new(1).expect("1 fits 24 bits"),
            vxlan_port: VXLAN_PORT,
            vtep_mac: overlay::peers::derive_vtep_mac(node_name),
            gateways,
            host_tap: "podplane0".to_owned(),
            seed: 0,
            flows_per_port_max: 65_536,
            uplink_flows_max: 262_144,
            service_cidrs: Vec::new(),
            underlay_mtu: None,
            uplink: true,
            non_masquerade: Vec::new(),
            masquerade_all: false,
            trusted_dns: Vec::new(),
            cluster_dns: None,
            snat_ports: None,
            state_dir: None,
        }
    }
}

/// How a node answers the cluster DNS.
#[derive(Clone, Debug)]
pub struct ClusterDns {
    /// Where it is asked, the same on every node; at most [`gateway::dns::desk::ADDRESSES_MAX`].
    pub addresses: Vec<IpAddr>,
    /// How the cluster's names are answered.
    pub responder: gateway::dns::DnsConfig,
    /// Who is asked for all others.
    pub forward: gateway::dns::forward::ForwardConfig,
    /// Gets a sentence whenever something is wrong with those that a person should know.
    pub report: fn(&str),
}

/// A pod's interface as control asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// What is attached; [`PortKind::Pod`]. The host port is the dataplane's own.
    pub kind: PortKind,
    /// The pod's network namespace (a bind mount or `/proc/PID/ns/net`), as this process sees it.
    pub netns: PathBuf,
    /// Name of the interface inside, at most 15 bytes; usually `eth0`.
    pub ifname: String,
    /// The pod's addresses, set as /32 and /128.
    pub addresses: Vec<IpAddr>,
    /// MAC of the interface; `None` derives a locally administered one from the port's number and the seed.
    pub mac: Option<MacAddr>,
}

/// An attached port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Its number.
    pub id: PortId,
    /// Shard that serves it.
    pub shard: ShardId,
    /// What is attached.
    pub kind: PortKind,
    /// Network namespace of the interface; empty for the host port.
    pub netns: PathBuf,
    /// Name of the interface in its namespace.
    pub ifname: String,
    /// MAC of the interface.
    pub mac: MacAddr,
    /// Addresses the port may use.
    pub addresses: Vec<IpAddr>,
    /// Gateways set inside, of the families that `addresses` has.
    pub gateways: Vec<IpAddr>,
    /// MTU of the interface in bytes.
    pub mtu: u16,
    /// Kind of TAP it got.
    pub tap: TapKind,
}
