//! One simulated node: its switches, and what its kernel and its shell would do around them.

use super::envelope::{self, Envelope};
use super::{AttachedId, SimConfig};
use ipnet::IpNet;
use overlay::mtu::pod_mtu;
use overlay::peers::derive_vtep_mac;
use overlay::vxlan::{HEADER_BYTES, VXLAN_PORT, Vni};
use policy::tables::NodeEntry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use switch::{DropReason, PortConfig, PortId, PortKind, ShardId, SourcePool, Switch, SwitchConfig};
use wire::{Frame, Instant, MacAddr, Protocol, merge_received};

/// Source ports of what leaves the cluster, as a real node claims them: outside of what kernels give to clients.
const SOURCE_PORTS: RangeInclusive<u16> = 61_000..=65_535;

/// Datagrams that the kernel joins to one buffer at most (UDP_GRO), and the buffer's size.
const JOINED_MAX: usize = 64;
const JOINED_MAX_BYTES: usize = 65_507;

/// What happened to underlay frames between the link and the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KernelCounters {
    /// Frames that arrived.
    pub(super) received: u64,
    /// Of those, dropped because an outer checksum or length is wrong, or nobody listens on the port.
    pub(super) dropped: u64,
    /// Datagrams handed to the switch, in frames or dropped for their inner checksum.
    pub(super) datagrams: u64,
    /// Frames that the datagrams were merged to.
    pub(super) frames: u64,
    /// Datagrams with a wrong inner checksum.
    pub(super) bad_checksum: u64,
}

/// A node.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) underlay: Vec<IpAddr>,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) pod_cidrs: Vec<IpNet>,
    pub(super) pod_mtu: u16,
    pub(super) vni: Vni,
    pub(super) shards: Vec<Switch>,
    pub(super) ports: BTreeMap<PortId, AttachedId>,
    pub(super) tables: Option<Arc<switch::Tables>>,
    pub(super) kernel: KernelCounters,
    /// Frames that arrived since the last turn.
    pub(super) inbox: Vec<Vec<u8>>,
    /// When each shard is to look at what it holds, as far as that is planned.
    pub(super) due: Vec<Option<Instant>>,
    /// Shard and number of the port to the outside.
    pub(super) uplink: Option<(ShardId, PortId)>,
    ports_made: u32,
}

impl Node {
    pub(super) fn new(entry: &NodeEntry, config: &SimConfig) -> Node {
        let underlay = entry.addresses.clone();
        let pod_mtu = underlay.first().map_or(config.underlay_mtu, |addr| pod_mtu(config.underlay_mtu, *addr));
        let gateways: Vec<IpAddr> = entry.pod_cidrs.iter().map(control::ipam::gateway).collect();
        let vni = Vni::new(1).expect("1 is a VNI");
        let switch = |shard| {
            Switch::new(SwitchConfig {
                node_name: entry.name.to_string(),
                shard: ShardId(shard),
                shards: config.shards.max(1),
                vni,
                vxlan_port: VXLAN_PORT,
                vtep_mac: vtep_mac(entry),
                gateways: gateways.clone(),
                tunnel_mtu: pod_mtu,
                seed: config.seed,
                flows_per_port_max: config.flows_per_port_max,
                uplink_flows_max: config.flows_per_port_max,
                service_cidrs: config.network.services.clone(),
                non_masquerade: Vec::new(),
                masquerade_all: false,
                trusted_dns: Vec::new(),
            })
        };
        Node {
            name: entry.name.to_string(),
            underlay,
            pod_mtu,
            vni,
            shards: (0..config.shards.max(1)).map(switch).collect(),
            gateways,
            pod_cidrs: entry.pod_cidrs.clone(),
            ports: BTreeMap::new(),
            tables: None,
            kernel: KernelCounters::default(),
            inbox: Vec::new(),
            due: vec![None; usize::from(config.shards.max(1))],
            uplink: None,
            ports_made: 0,
        }
    }

    /// A port number that was never used, and the shard that it goes to.
    pub(super) fn allocate_port(&mut self) -> (PortId, ShardId) {
        self.ports_made += 1;
        let shard = self.ports_made as usize % self.shards.len();
        (PortId(self.ports_made), ShardId(shard as u16))
    }

    /// Adds the port to the outside, on the host port's `shard`.
    pub(super) fn add_uplink(&mut self, shard: ShardId, mac: MacAddr, mtu: u16) -> PortId {
        self.ports_made += 1;
        let id = PortId(self.ports_made);
        let addresses = self.underlay.clone();
        self.uplink = Some((shard, id));
        self.switch(shard).add_port(PortConfig { id, kind: PortKind::Uplink, mac, addresses, mtu });
        id
    }

    pub(super) fn switch(&mut self, shard: ShardId) -> &mut Switch {
        &mut self.shards[usize::from(shard.0)]
    }

    /// Puts tables in force on all shards; with the first ones the uplink gets its source ports.
    pub(super) fn set_tables(
        &mut self,
        policy: &Arc<policy::tables::Tables>,
        local: HashMap<IpAddr, (ShardId, PortId)>,
        host: Option<(ShardId, PortId)>,
    ) {
        let attached = switch::Attached { pods: Arc::new(local), host, uplink: self.uplink, ..Default::default() };
        let tables = Arc::new(switch::Tables::new(&self.name, policy.clone(), attached));
        for shard in &mut self.shards {
            shard.set_tables(tables.clone());
        }
        let is_first = self.tables.replace(tables).is_none();
        if let Some((shard, _)) = self.uplink.filter(|_| is_first) {
            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
                for is_ipv4 in [true, false] {
                    self.switch(shard).grant_source_ports(SourcePool { protocol, is_ipv4 }, SOURCE_PORTS);
                }
            }
        }
    }

    /// Own underlay address of a family.
    pub(super) fn underlay_of_family(&self, is_ipv4: bool) -> Option<IpAddr> {
        self.underlay.iter().copied().find(|own| own.is_ipv4() == is_ipv4)
    }

    /// What the tunnel sockets give for the frames that arrived: per shard, sender and frame, in order.
    pub(super) fn receive(&mut self) -> Vec<(ShardId, IpAddr, Frame)> {
        let frames = std::mem::take(&mut self.inbox);
        self.kernel.received += frames.len() as u64;
        let verified: Vec<Option<(Envelope, Range<usize>)>> =
            frames.iter().map(|frame| envelope::unwrap(frame)).collect();
        let mut datagrams: Vec<(Envelope, &[u8])> = Vec::new();
        for (verified, frame) in verified.into_iter().zip(&frames) {
            match verified {
                Some((envelope, payload)) if self.listens_on(envelope.dst) => {
                    datagrams.push((envelope, &frame[payload]))
                }
                _ => self.kernel.dropped += 1,
            }
        }
        let mut out = Vec::new();
        let mut rest = datagrams.as_slice();
        while let Some((envelope, first)) = rest.first() {
            let joined = joinable(rest);
            let buffer: Vec<u8> = rest[..joined].iter().flat_map(|(_, datagram)| datagram.iter().copied()).collect();
            let shard = usize::from(envelope.src.port()) % self.shards.len();
            rest = &rest[joined..];
            let mut frame = Frame::from_bytes(&buffer);
            let mut more = Vec::new();
            let fresh = || Frame::with_capacity(JOINED_MAX_BYTES);
            let report = merge_received(&mut frame, first.len(), HEADER_BYTES, fresh, &mut more);
            self.kernel.datagrams += u64::from(report.datagrams);
            self.kernel.frames += u64::from(report.frames);
            self.kernel.bad_checksum += u64::from(report.bad_checksum);
            for _ in 0..report.bad_checksum {
                self.shards[shard].count_drop(DropReason::BadChecksum);
            }
            let good = [frame].into_iter().filter(|frame| !frame.is_empty()).chain(more);
            out.extend(good.map(|frame| (ShardId(shard as u16), envelope.src.ip(), frame)));
        }
        out
    }

    fn listens_on(&self, dst: SocketAddr) -> bool {
        dst.port() == VXLAN_PORT && self.underlay.contains(&dst.ip())
    }

    /// Whether every underlay frame has one end.
    pub(super) fn check_balance(&self) -> Result<(), String> {
        let k = &self.kernel;
        let from_tunnel: u64 = self.shards.iter().map(|shard| shard.counters().tunnel.received.frames).sum();
        let balanced = k.received == k.dropped + k.datagrams && k.frames == from_tunnel;
        if balanced {
            Ok(())
        } else {
            Err(format!("{} does not balance: {k:?}, {from_tunnel} from the tunnel", self.name))
        }
    }
}

/// The VTEP MAC of a node.
fn vtep_mac(entry: &NodeEntry) -> MacAddr {
    entry.vtep_mac.unwrap_or_else(|| derive_vtep_mac(&entry.name))
}

/// How many of the first datagrams the kernel would join: one outer flow, equal lengths, only the last may be shorter.
fn joinable(datagrams: &[(Envelope, &[u8])]) -> usize {
    let (envelope, first) = datagrams[0];
    let mut total = first.len();
    for (count, (other, datagram)) in datagrams.iter().enumerate().skip(1) {
        total += datagram.len();
        let fits = count < JOINED_MAX && total <= JOINED_MAX_BYTES;
        if *other != envelope || datagram.len() > first.len() || !fits {
            return count;
        }
        if datagram.len() < first.len() {
            return count + 1;
        }
    }
    datagrams.len()
}
