//! NetworkPolicy word for word, from the API reference of `NetworkPolicySpec` and its parts, with podplane's decisions where
//! the text leaves room. Every question walks all objects: slow, and as close to the sentences as code can be.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use policy::objects::Object;
use policy::tables::Direction;
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::Protocol;

/// What the API text says about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    NotIsolated,
    Exempt,
    /// By the first rule, in the order of the policies' names and of the rules in each.
    Allowed {
        policy: String,
        rule: u32,
    },
    Denied,
}

pub(crate) struct Literal<'a> {
    objects: &'a [Object],
    policies: BTreeMap<(String, String), &'a NetworkPolicy>,
}

impl<'a> Literal<'a> {
    pub(crate) fn new(objects: &'a [Object]) -> Literal<'a> {
        let policies = objects.iter().filter_map(|object| match object {
            Object::NetworkPolicy(policy) => {
                let metadata = &policy.metadata;
                Some(((metadata.namespace.clone()?, metadata.name.clone()?), &**policy))
            }
            _ => None,
        });
        Literal { objects, policies: policies.collect() }
    }

    /// Pods that have not ended.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &'a Pod> {
        self.objects.iter().filter_map(|object| match object {
            Object::Pod(pod) if phase(pod) != "Failed" => Some(&**pod),
            _ => None,
        })
    }

    fn nodes(&self) -> impl Iterator<Item = &'a Node> {
        self.objects.iter().filter_map(|object| match object {
            Object::Node(node) => Some(&**node),
            _ => None,
        })
    }

    /// The pod that has `addr` for itself.
    fn pod_at(&self, addr: IpAddr) -> Option<&'a Pod> {
        self.pods().find(|pod| !is_host_network(pod) && addresses(pod).contains(&addr))
    }

    fn node_has(&self, name: &str, addr: IpAddr) -> bool {
        let node = self.nodes().find(|node| node.metadata.name.as_deref() == Some(name)).expect("a node");
        let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let listed = listed.map(|address| address.address.parse::<IpAddr>().expect("an address"));
        let cidrs = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
        let gateways = cidrs.map(|cidr| cidr.parse::<IpNet>().expect("a CIDR")).map(|cidr| match cidr {
            IpNet::V4(cidr) => cidr.hosts().next().map(IpAddr::from).expect("a first host"),
            IpNet::V6(cidr) => cidr.hosts().nth(1).map(IpAddr::from).expect("a first host"),
        });
        listed.chain(gateways).any(|address| address == addr)
    }

    pub(crate) fn judge(
        &self,
        direction: Direction,
        subject: &Pod,
        peer: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Opinion {
        if is_host_network(subject) {
            return Opinion::NotIsolated;
        }
        let selecting = || self.policies.iter().filter(|(_, policy)| selects(policy, direction, subject));
        if selecting().next().is_none() {
            return Opinion::NotIsolated;
        }
        let peer_pod = self.pod_at(peer);
        if peer_pod.is_some_and(|pod| std::ptr::eq(pod, subject)) {
            return Opinion::Exempt;
        }
        let own_node = subject.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).expect("a scheduled pod");
        if direction == Direction::ToPod && self.node_has(own_node, peer) {
            return Opinion::Exempt;
        }
        let receiver = if direction == Direction::ToPod { Some(subject) } else { peer_pod };
        for ((namespace, name), policy) in selecting() {
            for (index, (peers, ports)) in rules(policy, direction).into_iter().enumerate() {
                // "If this field is empty or missing, this rule matches all sources / destinations."
                let peers_match = peers.is_empty()
                    || peers.iter().any(|candidate| self.peer_matches(namespace, candidate, peer, peer_pod));
                // "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
                let ports_match =
                    ports.is_empty() || ports.iter().any(|candidate| port_matches(candidate, protocol, port, receiver));
                if peers_match && ports_match {
                    return Opinion::Allowed { policy: format!("{namespace}/{name}"), rule: index as u32 };
                }
            }
        }
        Opinion::Denied
    }

    fn peer_matches(&self, namespace: &str, peer: &NetworkPolicyPeer, addr: IpAddr, pod: Option<&Pod>) -> bool {
        if let Some(block) = &peer.ip_block {
            return block_matches(block, addr);
        }
        let Some(pod) = pod else { return false };
        let pod_namespace = pod.metadata.namespace.as_deref().expect("a namespace");
        let in_namespace = match &peer.namespace_selector {
            Some(selector) => matches(selector, &self.namespace_labels(pod_namespace)),
            None => pod_namespace == namespace,
        };
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &labels))
    }

    fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let found = self.objects.iter().find_map(|object| match object {
            Object::Namespace(namespace) if namespace.metadata.name.as_deref() == Some(name) => Some(namespace),
            _ => None,
        });
        let mut labels = found.and_then(|found: &std::sync::Arc<Namespace>| found.metadata.labels.clone());
        labels.get_or_insert_default().insert("kubernetes.io/metadata.name".into(), name.into());
        labels.unwrap_or_default()
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    ips.map(|ip| ip.ip.parse().expect("an address")).collect()
}

/// Whether the policy isolates the pod in this direction.
fn selects(policy: &NetworkPolicy, direction: Direction, pod: &Pod) -> bool {
    let spec = policy.spec.as_ref().expect("a spec");
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let affects = match direction {
        // "If no policyTypes are specified ... default to existence of ingress or egress rules; policies that contain an
        // egress section are assumed to affect egress, and all policies are assumed to affect ingress."
        Direction::ToPod => types.is_empty() || types.iter().any(|kind| kind == "Ingress"),
        Direction::FromPod if types.is_empty() => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Direction::FromPod => types.iter().any(|kind| kind == "Egress"),
    };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    affects
        && policy.metadata.namespace == pod.metadata.namespace
        && spec.pod_selector.as_ref().is_none_or(|selector| matches(selector, &labels))
}

type Rule = (Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>);

fn rules(policy: &NetworkPolicy, direction: Direction) -> Vec<Rule> {
    let spec = policy.spec.as_ref().expect("a spec");
    match direction {
        Direction::ToPod => {
            let rules = spec.ingress.iter().flatten();
            rules.map(|rule| (rule.from.clone().unwrap_or_default(), rule.ports.clone().unwrap_or_default())).collect()
        }
        Direction::FromPod => {
            let rules = spec.egress.iter().flatten();
            rules.map(|rule| (rule.to.clone().unwrap_or_default(), rule.ports.clone().unwrap_or_default())).collect()
        }
    }
}

fn block_matches(block: &IPBlock, addr: IpAddr) -> bool {
    let holds = |text: &String| text.parse::<IpNet>().expect("a CIDR").contains(&addr);
    holds(&block.cidr) && !block.except.iter().flatten().any(holds)
}

fn port_matches(candidate: &NetworkPolicyPort, protocol: Protocol, port: u16, receiver: Option<&Pod>) -> bool {
    let wanted = candidate.protocol.as_deref().unwrap_or("TCP");
    if wanted != protocol.to_string() {
        return false;
    }
    match (&candidate.port, candidate.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(number)), None) => *number == i32::from(port),
        (Some(IntOrString::Int(number)), Some(end)) => (*number..=end).contains(&i32::from(port)),
        (Some(IntOrString::String(name)), _) => {
            let containers = receiver.iter().flat_map(|pod| pod.spec.iter().flat_map(|spec| &spec.containers));
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.any(|named| {
                named.name.as_ref() == Some(name)
                    && named.protocol.as_deref() == Some(wanted)
                    && named.container_port == i32::from(port)
            })
        }
    }
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|candidate| candidate == value));
        match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => panic!("the generator wrote operator {other}"),
        }
    });
    equal && expressions
}
