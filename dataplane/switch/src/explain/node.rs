//! One node of the fabric: what its shell would tell its switch.

use super::{End, Entry, Options, SEED};
use crate::{Attached, PortConfig, PortId, PortKind, ShardId, SourcePool, Switch, SwitchConfig, Tables};
use overlay::mtu::pod_mtu;
use overlay::peers::derive_vtep_mac;
use overlay::vxlan::{VXLAN_PORT, Vni};
use policy::tables::{self, NodeIndex, PodIndex};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use wire::{MacAddr, Protocol};

const HOST_PORT: PortId = PortId(1);
const UPLINK_PORT: PortId = PortId(2);
/// Pods have the numbers from here on.
const FIRST_POD_PORT: u32 = 3;

/// One shard is enough: shards do not change what becomes of a packet.
const SHARD: ShardId = ShardId(0);

/// MTU of the underlay, in bytes: Ethernet's. The packets of a walk are far smaller.
const UNDERLAY_MTU: u16 = 1_500;

/// Flows per port: a walk opens one.
const FLOWS_MAX: u32 = 16;

/// Source ports that a node has got from its kernel: some outside of the kernel's own range.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 61_000..=65_535;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: SwitchConfig,
    pub(super) tables: Arc<Tables>,
    ports: Vec<PortConfig>,
    /// The pod of each port from [`FIRST_POD_PORT`] on.
    pods: Vec<PodIndex>,
}

impl Node {
    pub(super) fn new(policy: &Arc<tables::Tables>, index: NodeIndex, options: &Options) -> Node {
        let entry = policy.node(index);
        let gateways: Vec<IpAddr> = entry.gateways().collect();
        let mtu = entry.addresses.first().map_or(UNDERLAY_MTU, |addr| pod_mtu(UNDERLAY_MTU, *addr));
        let port = |id: PortId, kind, addresses| PortConfig {
            id,
            kind,
            mac: MacAddr::local(u64::from(index.0) << 32 | u64::from(id.0)),
            addresses,
            mtu,
        };
        let own: Vec<IpAddr> = entry.addresses.iter().chain(&gateways).copied().collect();
        let mut ports = vec![port(HOST_PORT, PortKind::Host, own)];
        if !entry.addresses.is_empty() {
            ports.push(port(UPLINK_PORT, PortKind::Uplink, entry.addresses.clone()));
        }
        let mut pods = Vec::new();
        let mut local = HashMap::new();
        for (pod, object) in policy.pods() {
            if object.node != Some(index) || object.host_network {
                continue;
            }
            let id = PortId(FIRST_POD_PORT + pods.len() as u32);
            let kind = PortKind::Pod { namespace: object.namespace.to_string(), name: object.name.to_string() };
            local.extend(object.addresses.iter().map(|addr| (*addr, (SHARD, id))));
            ports.push(port(id, kind, object.addresses.clone()));
            pods.push(pod);
        }
        let attached = Attached {
            pods: Arc::new(local),
            host: Some((SHARD, HOST_PORT)),
            uplink: (!entry.addresses.is_empty()).then_some((SHARD, UPLINK_PORT)),
            ..Attached::default()
        };
        let config = SwitchConfig {
            node_name: entry.name.to_string(),
            shard: SHARD,
            shards: 1,
            vni: Vni::new(1).expect("1 is a VNI"),
            vxlan_port: VXLAN_PORT,
            vtep_mac: entry.vtep_mac.unwrap_or_else(|| derive_vtep_mac(&entry.name)),
            gateways,
            tunnel_mtu: mtu,
            seed: SEED,
            flows_per_port_max: FLOWS_MAX,
            uplink_flows_max: FLOWS_MAX,
            service_cidrs: options.service_cidrs.clone(),
            non_masquerade: options.non_masquerade.clone(),
            masquerade_all: options.masquerade_all,
            trusted_dns: Vec::new(),
        };
        let tables = Arc::new(Tables::new(&entry.name, policy.clone(), attached));
        Node { config, tables, ports, pods }
    }

    /// A switch that has seen nothing yet.
    pub(super) fn start(&self) -> Switch {
        let mut switch = Switch::new(self.config.clone());
        switch.set_tables(self.tables.clone());
        self.ports.iter().for_each(|port| switch.add_port(port.clone()));
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            for is_ipv4 in [true, false] {
                switch.grant_source_ports(SourcePool { protocol, is_ipv4 }, SOURCE_PORTS);
            }
        }
        switch
    }

    pub(super) fn port_of(&self, entry: Entry) -> Option<&PortConfig> {
        let id = match entry {
            Entry::Pod(pod) => self.port_of_pod(pod)?,
            Entry::Host(_) => HOST_PORT,
            Entry::Uplink(_) => UPLINK_PORT,
        };
        self.ports.iter().find(|port| port.id == id)
    }

    fn port_of_pod(&self, pod: PodIndex) -> Option<PortId> {
        let position = self.pods.iter().position(|other| *other == pod)?;
        Some(PortId(FIRST_POD_PORT + position as u32))
    }

    /// Who is behind a port.
    pub(super) fn end_at(&self, id: PortId) -> Option<End> {
        let own = self.tables.policy.find_node(&self.config.node_name)?;
        match id {
            HOST_PORT => Some(End::Host(own)),
            UPLINK_PORT => Some(End::Outside(own)),
            PortId(number) => self.pods.get((number - FIRST_POD_PORT) as usize).copied().map(End::Pod),
        }
    }
}
