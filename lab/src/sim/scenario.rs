//! From objects to attached pods: what the lab's controller, the CNI plugin and the node agents do together.

use super::attached::Attached;
use super::node::Node;
use super::stack::StackConfig;
use super::turn::Event;
use super::{AttachedId, NodeId, Place, Sim};
use crate::probe::ProbeProtocol;
use control::controller;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::{self, Object, Problem, Sourced};
use policy::tables::{NodeEntry, Tables};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use switch::{PortConfig, PortId, PortKind, ShardId};
use wire::MacAddr;

/// Prefix lengths of the underlay as a node's own stack sees it; the first address of that network is its next hop. Any would do: the
/// switch answers for all.
const UNDERLAY_PREFIX_LENS: (u8, u8) = (24, 64);

/// A pod as the simulator runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodSpec {
    /// metadata.namespace.
    namespace: String,
    /// metadata.name.
    name: String,
    /// Name of its node.
    node: String,
    /// Its addresses.
    addresses: Vec<IpAddr>,
    /// What its test server listens on.
    listen: Vec<(ProbeProtocol, u16)>,
}

impl PodSpec {
    /// What the simulator runs of `pod`; `None` for a pod without a node, without an address of its own, or with the node's.
    fn of(pod: &Pod) -> Option<PodSpec> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        if spec.host_network == Some(true) {
            return None;
        }
        let addresses = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
        let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let listen = ports.filter_map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").parse().ok()?;
            Some((protocol, u16::try_from(port.container_port).ok()?))
        });
        Some(PodSpec {
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            node: spec.node_name.clone()?,
            addresses,
            listen: listen.collect(),
        })
    }
}

/// Compiled intent and the pods that run under it.
#[derive(Clone, Debug, Default)]
struct Scenario {
    /// Compiled objects; they name the nodes.
    policy: Arc<Tables>,
    /// The pods. Those whose node does not exist do not run.
    pods: Vec<PodSpec>,
}

/// What an application of manifests leaves for the next one.
#[derive(Debug, Default)]
pub(super) struct State {
    pods: BTreeMap<Place, PodSpec>,
    objects: Vec<Sourced<Object>>,
    epoch: u64,
}

impl Sim {
    /// Makes the cluster what `manifest` (YAML or JSON, any number of documents) says: everything that it leaves open is
    /// filled in by the lab's controller, compiled, and put in force on all nodes at once. Objects that were there before and are
    /// not in `manifest` go. Gives what was refused or looks wrong; the rest is in force.
    pub fn apply(&mut self, manifest: &str) -> Vec<Problem> {
        let parsed = objects::parse("manifest", manifest);
        let filled = controller::fill(&parsed.objects, &self.scenario.objects, &self.config.network);
        let (cluster, conflicts) = Cluster::from_objects(filled.objects.iter().cloned());
        self.scenario.epoch += 1;
        let (policy, refused) = compile(&cluster, self.scenario.epoch);
        let pods = filled.objects.iter().filter_map(|sourced| match &sourced.object {
            Object::Pod(pod) => PodSpec::of(pod),
            _ => None,
        });
        let scenario = Scenario { policy: Arc::new(policy), pods: pods.collect() };
        self.scenario.objects = filled.objects;
        self.install(&scenario);
        [parsed.problems, filled.problems, conflicts, refused].concat()
    }

    /// The objects in force, as the controller filled them in.
    pub fn objects(&self) -> &[Sourced<Object>] {
        &self.scenario.objects
    }

    /// Attaches and detaches pods until they are those of `scenario`, and puts its tables in force on every node. A pod that
    /// changed is detached and attached again; others keep their stacks, flows and connections.
    fn install(&mut self, scenario: &Scenario) {
        for entry in scenario.policy.nodes.iter() {
            if self.node_called(&entry.name).is_none() {
                self.add_node(entry);
            }
        }
        let desired: BTreeMap<Place, PodSpec> =
            scenario.pods.iter().map(|pod| (Place::pod(&pod.namespace, &pod.name), pod.clone())).collect();
        let current = std::mem::take(&mut self.scenario.pods);
        for place in current.iter().filter(|(place, pod)| desired.get(place) != Some(pod)).map(|(place, _)| place) {
            self.detach(place);
        }
        for (place, pod) in &desired {
            if current.get(place) != Some(pod)
                && let Some(node) = self.node_called(&pod.node)
            {
                self.attach_pod(place, pod, node);
            }
        }
        self.scenario.pods = desired;
        for node in 0..self.nodes.len() {
            self.put_in_force(NodeId(node), &scenario.policy);
        }
    }

    fn add_node(&mut self, entry: &NodeEntry) {
        let id = NodeId(self.nodes.len());
        let mut node = Node::new(entry, &self.config);
        let place = Place::Node(node.name.clone());
        let (port, shard) = node.allocate_port();
        let mac = MacAddr::local(0xfe_0000_0000 | id.0 as u64);
        let own = [true, false].iter().filter_map(|is_ipv4| node.underlay_of_family(*is_ipv4));
        let own: Vec<IpNet> = own.map(|addr| with_prefix(addr, UNDERLAY_PREFIX_LENS)).collect();
        let gateways: Vec<IpAddr> = own.iter().map(control::ipam::gateway).collect();
        let addresses = node.underlay.iter().chain(&node.gateways).copied().collect();
        let config = PortConfig { id: port, kind: PortKind::Host, mac, addresses, mtu: node.pod_mtu };
        node.switch(shard).add_port(config);
        let uplink = self.config.world.then(|| node.add_uplink(shard, mac, self.config.underlay_mtu));
        let stack = self.stack_config(Some(mac), own, gateways, node.pod_mtu);
        for shard in 0..node.shards.len() {
            self.events.push(self.now, Event::Expire(id, ShardId(shard as u16)));
        }
        self.nodes.push(node);
        self.attach(Attached::new(place, id, (port, shard), &stack, &[]));
        if let Some(port) = uplink {
            self.add_world(id, (port, shard));
        }
    }

    /// The world is behind the uplink of every node: one stack, made with the first of them.
    fn add_world(&mut self, id: NodeId, (port, shard): (PortId, ShardId)) {
        if let Some(world) = self.places.get(&Place::World) {
            self.nodes[id.0].ports.insert(port, *world);
            return;
        }
        let own = self.config.network.world_addresses().into_iter();
        let own: Vec<IpNet> = own.map(|addr| with_prefix(addr, UNDERLAY_PREFIX_LENS)).collect();
        let gateways = own.iter().map(control::ipam::gateway).collect();
        let stack = self.stack_config(None, own, gateways, self.config.underlay_mtu);
        self.attach(Attached::new(Place::World, id, (port, shard), &stack, &[]));
    }

    fn attach_pod(&mut self, place: &Place, pod: &PodSpec, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let (port, shard) = node.allocate_port();
        let mac = MacAddr::local((id.0 as u64) << 24 | u64::from(port.0));
        let kind = PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let (addresses, mtu, gateways) = (pod.addresses.clone(), node.pod_mtu, node.gateways.clone());
        node.switch(shard).add_port(PortConfig { id: port, kind, mac, addresses: addresses.clone(), mtu });
        let prefix_len = |addr: &IpAddr| node.pod_cidrs.iter().find(|c| c.contains(addr)).map(IpNet::prefix_len);
        let own = addresses.iter().map(|addr| {
            let len = prefix_len(addr).unwrap_or(if addr.is_ipv4() { 32 } else { 128 });
            with_prefix(*addr, (len, len))
        });
        let own = own.collect();
        let stack = self.stack_config(Some(mac), own, gateways, mtu);
        self.attach(Attached::new(place.clone(), id, (port, shard), &stack, &pod.listen));
    }

    fn stack_config(
        &mut self,
        mac: Option<MacAddr>,
        addresses: Vec<IpNet>,
        gateways: Vec<IpAddr>,
        mtu: u16,
    ) -> StackConfig {
        StackConfig { mac, addresses, gateways, mtu, seed: self.random.next(), offload: self.config.offload }
    }

    fn attach(&mut self, mut attached: Attached) {
        let id = AttachedId(self.attached.len());
        attached.spread_client_ports(id.0);
        self.nodes[attached.node.0].ports.insert(attached.port, id);
        self.places.insert(attached.place.clone(), id);
        self.attached.push(Some(attached));
        self.wake(id, self.now);
    }

    fn detach(&mut self, place: &Place) {
        let Some(attached) = self.places.remove(place).and_then(|id| self.attached[id.0].take()) else { return };
        let node = &mut self.nodes[attached.node.0];
        node.ports.remove(&attached.port);
        node.switch(attached.shard).remove_port(attached.port);
    }

    fn put_in_force(&mut self, id: NodeId, policy: &Arc<Tables>) {
        let mut local: HashMap<IpAddr, (ShardId, PortId)> = HashMap::new();
        let mut host = None;
        for attached in self.attached.iter().flatten().filter(|attached| attached.node == id) {
            match attached.place {
                Place::Node(_) => host = Some((attached.shard, attached.port)),
                Place::World => {}
                Place::Pod { .. } => {
                    local.extend(attached.addresses.iter().map(|addr| (*addr, (attached.shard, attached.port))));
                }
            }
        }
        self.nodes[id.0].set_tables(policy, local, host);
    }
}

fn with_prefix(addr: IpAddr, (ipv4_len, ipv6_len): (u8, u8)) -> IpNet {
    let len = if addr.is_ipv4() { ipv4_len } else { ipv6_len };
    IpNet::new(addr, len).expect("a prefix length of the family")
}
