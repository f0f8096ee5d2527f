//! Policies of both kinds, seen alike: whom they select, their rules in order, the peers and port names of each.

use crate::cluster::{Cluster, Key, Objects};
use crate::diff::survey::Survey;
use crate::objects::cluster_network_policy::{self as cnp, NamespacedPods};
use crate::objects::{Kind, Object, Source, Sourced, closed_rules, is_dry_run};
use crate::partition::Cuts;
use crate::selector::Selector;
use crate::tables::{Action, Direction, PodEntry, PodIndex, PolicyEntry, PolicyId, PolicyIndex, Tables, Tier};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use wire::Protocol;

/// A policy as it was written.
pub(super) struct PolicyView<'a> {
    pub(super) source: &'a Source,
    pub(super) kind: Kind,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) metadata: &'a ObjectMeta,
    pub(super) tier: Tier,
    pub(super) priority: u16,
    pub(super) index: PolicyIndex,
    pub(super) object: Written<'a>,
    /// Groups of the survey that it selects.
    pub(super) selected: BTreeSet<usize>,
    pub(super) is_dry_run: bool,
}

/// The object of a policy.
#[derive(Clone, Copy)]
pub(super) enum Written<'a> {
    NetworkPolicy(&'a NetworkPolicy),
    ClusterNetworkPolicy(&'a cnp::ClusterNetworkPolicy),
}

/// A rule of a policy.
pub(super) struct RuleView {
    /// Position in [`Policies::all`].
    pub(super) policy: usize,
    pub(super) direction: Direction,
    /// Position in its list.
    pub(super) index: usize,
    pub(super) action: Action,
    /// Where it stands, such as `spec.ingress[0]`.
    pub(super) field: String,
    pub(super) peers: Vec<PeerView>,
    /// Ports by name: field, protocol if it is asked for, name.
    pub(super) port_names: Vec<(String, Option<Protocol>, String)>,
}

/// A peer of a rule.
pub(super) struct PeerView {
    /// Where it stands, such as `spec.ingress[0].from[1]`.
    pub(super) field: String,
    pub(super) kind: PeerKind,
}

/// How a peer is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerKind {
    Pods,
    Nodes,
    Addresses,
    Names,
}

/// All policies, in the order in which they are evaluated, and their rules.
pub(super) struct Policies<'a> {
    pub(super) all: Vec<PolicyView<'a>>,
    /// In order of policy, direction and position. Closed rules are left out: `check` tells of them.
    pub(super) rules: Vec<RuleView>,
    /// By policy and direction: what its rules cut.
    pub(super) cuts: HashMap<(usize, Direction), Cuts>,
}

impl<'a> Policies<'a> {
    /// `cluster` holds the policies in force, `objects` all of them as they were written.
    pub(super) fn of(cluster: &'a Cluster, objects: &'a [Sourced<Object>], survey: &Survey<'_>) -> Policies<'a> {
        let dry: BTreeSet<(Kind, &str, &str)> = objects
            .iter()
            .filter(|sourced| is_dry_run(sourced.object.metadata()))
            .map(|sourced| {
                let metadata = sourced.object.metadata();
                let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
                (sourced.object.kind(), text(&metadata.namespace), text(&metadata.name))
            })
            .collect();
        let groups: Vec<PodIndex> = survey.groups().map(|pods| pods[0]).collect();
        let mut policies = Policies { all: Vec::new(), rules: Vec::new(), cuts: HashMap::new() };
        for (number, entry) in survey.tables.policies.iter().enumerate() {
            let key = (entry.namespace.clone(), entry.name.clone());
            let Some((kind, source, object)) = find(cluster, entry, &key) else { continue };
            let select = |pod: &PodIndex| object.selects(&entry.namespace, survey.tables, survey.tables.pod(*pod));
            policies.all.push(PolicyView {
                source,
                kind,
                namespace: entry.namespace.clone(),
                name: entry.name.clone(),
                metadata: object.metadata(),
                tier: entry.tier,
                priority: entry.priority,
                index: PolicyIndex(number as u32),
                object,
                selected: (0..groups.len()).filter(|group| select(&groups[*group])).collect(),
                is_dry_run: dry.contains(&(kind, &*entry.namespace, &*entry.name)),
            });
            for direction in [Direction::ToPod, Direction::FromPod] {
                let policy = policies.all.len() - 1;
                let mut cuts = Cuts::default();
                cuts.add_policy(entry, direction);
                policies.cuts.insert((policy, direction), cuts);
                policies.rules.extend(object.rules(policy, direction));
            }
        }
        policies
    }

    /// The policy of a rule.
    pub(super) fn of_rule(&self, rule: &RuleView) -> &PolicyView<'a> {
        &self.all[rule.policy]
    }
}

fn find<'a>(cluster: &'a Cluster, entry: &PolicyEntry, key: &Key) -> Option<(Kind, &'a Source, Written<'a>)> {
    fn get<'a, T>(objects: &'a Objects<T>, key: &Key) -> Option<(&'a Source, &'a T)> {
        objects.get(key).map(|sourced| (&sourced.source, &*sourced.object))
    }
    if entry.id == PolicyId::of(Kind::NetworkPolicy, &entry.namespace, &entry.name) {
        let (source, object) = get(&cluster.network_policies, key)?;
        return Some((Kind::NetworkPolicy, source, Written::NetworkPolicy(object)));
    }
    let (source, object) = get(&cluster.cluster_network_policies, key)?;
    Some((Kind::ClusterNetworkPolicy, source, Written::ClusterNetworkPolicy(object)))
}

impl<'a> Written<'a> {
    fn metadata(self) -> &'a ObjectMeta {
        match self {
            Written::NetworkPolicy(policy) => &policy.metadata,
            Written::ClusterNetworkPolicy(policy) => &policy.metadata,
        }
    }

    fn selects(self, namespace: &str, tables: &Tables, pod: &PodEntry) -> bool {
        let selects = |selector: &LabelSelector| Selector::compile(selector).selects(&pod.labels);
        let in_namespace = |selector: &LabelSelector| {
            let labels = tables.namespace_labels(&pod.namespace);
            labels.is_some_and(|labels| Selector::compile(selector).selects(labels))
        };
        match self {
            Written::NetworkPolicy(policy) => {
                let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
                *pod.namespace == *namespace && selector.is_none_or(selects)
            }
            Written::ClusterNetworkPolicy(policy) => match &policy.spec.subject {
                cnp::Subject { namespaces: Some(selector), .. } => in_namespace(selector),
                cnp::Subject { pods: Some(NamespacedPods { namespace_selector, pod_selector }), .. } => {
                    namespace_selector.as_ref().is_none_or(in_namespace) && selects(pod_selector)
                }
                _ => false,
            },
        }
    }

    fn rules(self, policy: usize, direction: Direction) -> Vec<RuleView> {
        let (list, peers_field) = match direction {
            Direction::ToPod => ("ingress", "from"),
            Direction::FromPod => ("egress", "to"),
        };
        let is_closed = closed_rules(self.metadata());
        let view = |index: usize, action, peers: Vec<PeerKind>, port_names: Vec<(String, Option<Protocol>, String)>| {
            let field = format!("spec.{list}[{index}]");
            let peers = peers.into_iter().enumerate().map(|(position, kind)| {
                let field = format!("{field}.{peers_field}[{position}]");
                PeerView { field, kind }
            });
            let port_names =
                port_names.into_iter().map(|(at, protocol, name)| (format!("{field}.{at}"), protocol, name)).collect();
            RuleView { policy, direction, index, action, peers: peers.collect(), field, port_names }
        };
        let rules: Vec<RuleView> = match (self, direction) {
            (Written::NetworkPolicy(policy), Direction::ToPod) => {
                let rules = policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten()).enumerate();
                let rules = rules.map(|(index, rule)| {
                    view(index, Action::Accept, kinds(rule.from.as_deref()), names(rule.ports.as_deref()))
                });
                rules.collect()
            }
            (Written::NetworkPolicy(policy), Direction::FromPod) => {
                let rules = policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten()).enumerate();
                let rules = rules.map(|(index, rule)| {
                    view(index, Action::Accept, kinds(rule.to.as_deref()), names(rule.ports.as_deref()))
                });
                rules.collect()
            }
            (Written::ClusterNetworkPolicy(policy), Direction::ToPod) => {
                let rules = policy.spec.ingress.iter().flatten().enumerate();
                let rules = rules.map(|(index, rule)| {
                    view(
                        index,
                        action(rule.action),
                        vec![PeerKind::Pods; rule.from.len()],
                        cluster_names(&rule.protocols),
                    )
                });
                rules.collect()
            }
            (Written::ClusterNetworkPolicy(policy), Direction::FromPod) => {
                let rules = policy.spec.egress.iter().flatten().enumerate();
                let rules = rules.map(|(index, rule)| {
                    let peers = rule.to.iter().map(|peer| match peer {
                        cnp::EgressPeer { nodes: Some(_), .. } => PeerKind::Nodes,
                        cnp::EgressPeer { networks: Some(_), .. } => PeerKind::Addresses,
                        cnp::EgressPeer { domain_names: Some(_), .. } => PeerKind::Names,
                        _ => PeerKind::Pods,
                    });
                    view(index, action(rule.action), peers.collect(), cluster_names(&rule.protocols))
                });
                rules.collect()
            }
        };
        rules.into_iter().filter(|rule| !is_closed(list, rule.index)).collect()
    }
}

fn action(action: cnp::Action) -> Action {
    match action {
        cnp::Action::Accept => Action::Accept,
        cnp::Action::Deny => Action::Deny,
        cnp::Action::Pass => Action::Pass,
    }
}

fn kinds(peers: Option<&[NetworkPolicyPeer]>) -> Vec<PeerKind> {
    let kind = |peer: &NetworkPolicyPeer| if peer.ip_block.is_some() { PeerKind::Addresses } else { PeerKind::Pods };
    peers.unwrap_or_default().iter().map(kind).collect()
}

fn names(ports: Option<&[NetworkPolicyPort]>) -> Vec<(String, Option<Protocol>, String)> {
    let named = ports.unwrap_or_default().iter().enumerate().filter_map(|(position, port)| match &port.port {
        Some(IntOrString::String(name)) => {
            let protocol = crate::compile::protocol(port.protocol.as_deref());
            Some((format!("ports[{position}].port"), protocol, name.clone()))
        }
        _ => None,
    });
    named.collect()
}

fn cluster_names(protocols: &Option<Vec<cnp::Protocol>>) -> Vec<(String, Option<Protocol>, String)> {
    let named = protocols.iter().flatten().enumerate().filter_map(|(position, protocol)| {
        let name = protocol.destination_named_port.clone()?;
        Some((format!("protocols[{position}].destinationNamedPort"), None, name))
    });
    named.collect()
}

impl PolicyView<'_> {
    /// The field that selects pods.
    pub(super) fn subject_field(&self) -> &'static str {
        match self.object {
            Written::NetworkPolicy(_) => "spec.podSelector",
            Written::ClusterNetworkPolicy(_) => "spec.subject",
        }
    }

    /// Why it selects nothing.
    pub(super) fn selects_nothing(&self, survey: &Survey<'_>) -> String {
        let pods = survey.tables.pods().map(|(_, pod)| pod);
        let selected = pods.filter(|pod| self.object.selects(&self.namespace, survey.tables, pod));
        let (host, ended): (Vec<_>, Vec<_>) = selected.partition(|pod| pod.host_network);
        if ended.is_empty() && !host.is_empty() {
            let (namespace, name) = (&host[0].namespace, &host[0].name);
            return format!(
                "selects only pods of the host network, such as {namespace}/{name}, to which no policy applies: remove it"
            );
        }
        let is_there =
            self.namespace.is_empty() || survey.tables.pods().any(|(_, pod)| pod.namespace == self.namespace);
        if is_there {
            "selects no pod: correct the labels, or remove the policy".to_owned()
        } else {
            format!("selects no pod: namespace {} has none in these manifests", self.namespace)
        }
    }

    /// `NAMESPACE/NAME` or `NAME`.
    pub(super) fn full_name(&self) -> String {
        if self.namespace.is_empty() { self.name.to_string() } else { format!("{}/{}", self.namespace, self.name) }
    }
}
