//! What one rule, or one peer of a rule, matches by itself, as the compiled tables have it: each is compiled alone, as the
//! only rule of a policy that selects one stand-in pod.
//!
//! Port names of an ingress rule are those of the pod that is judged, so such a rule has a stand-in for each list of named
//! ports among the pods that its policy selects ([`Variant`]).

use super::atoms::{Atom, Atoms};
use super::policies::{Policies, RuleView, Written};
use crate::cluster::Cluster;
use crate::compile::compile;
use crate::diff::survey::{Spot, Survey};
use crate::objects::cluster_network_policy::{self as cnp, NamespacedPods};
use crate::objects::{ClusterNetworkPolicy, Object, Source, Sourced};
use crate::partition::{Cuts, TRANSPORTS};
use crate::tables::{ContainerPort, Direction, PodIndex, Question, Tables, VerdictReason};
use k8s_openapi::api::core::v1::{Container, ContainerPort as ApiPort, Pod, PodSpec};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::{BTreeMap, HashMap};
use wire::Protocol;

/// Label by which a policy finds its stand-in.
const STAND_IN_LABEL: &str = "lint.podplane.io/stand-in";

/// Namespace of the stand-ins of policies without one.
const STAND_IN_NAMESPACE: &str = "podplane-lint";

/// Number of a list of named ports among [`StandIns::variants`].
pub(super) type Variant = u32;

/// What a rule matches, by atom: the number of a list of ports, 0 for nothing.
pub(super) type Extent = Vec<u32>;

/// Ports by protocol, ascending; `(protocol, first, last)`.
type Ports = Vec<(u8, u16, u16)>;

/// What each rule and each peer matches.
pub(super) struct StandIns {
    /// By rule (position in [`Policies::rules`]) and variant; variant 0 alone where the rule reads no names at its own pods.
    extents: HashMap<(usize, Variant), Extent>,
    /// By rule and peer: whether it matches each atom, on any port.
    peers: HashMap<(usize, usize), Vec<bool>>,
    /// By group: its named ports.
    variants: Vec<Variant>,
    /// Lists of ports by number.
    ports: Vec<Ports>,
}

impl StandIns {
    pub(super) fn new(
        objects: &[Sourced<Object>],
        policies: &Policies<'_>,
        survey: &Survey<'_>,
        atoms: &Atoms,
    ) -> StandIns {
        let (variants, lists) = variants(survey);
        let mut cast = Cast::default();
        for (number, rule) in policies.rules.iter().enumerate() {
            let reads_own_names = rule.direction == Direction::ToPod && !rule.port_names.is_empty();
            let mut own: Vec<Variant> = policies.of_rule(rule).selected.iter().map(|group| variants[*group]).collect();
            if !reads_own_names {
                own = vec![0];
            }
            own.sort_unstable();
            own.dedup();
            for variant in own {
                let ports = if reads_own_names { &lists[variant as usize][..] } else { &[] };
                cast.add(policies, rule, None, ports, Part::Rule(number, variant));
            }
            for peer in 0..rule.peers.len() {
                cast.add(policies, rule, Some(peer), &[], Part::Peer(number, peer));
            }
        }
        let is_policy = |sourced: &&Sourced<Object>| {
            matches!(sourced.object, Object::NetworkPolicy(_) | Object::ClusterNetworkPolicy(_))
        };
        let others = objects.iter().filter(|sourced| !is_policy(sourced)).cloned();
        let (cluster, _) = Cluster::from_objects(others.chain(cast.objects));
        let firsts: Vec<PodIndex> = survey.groups().map(|pods| pods[0]).collect();
        let (tables, _) = compile(&cluster, 1);
        let mut judged = StandIns { extents: HashMap::new(), peers: HashMap::new(), variants, ports: vec![Vec::new()] };
        let mut numbers: HashMap<Ports, u32> = HashMap::from([(Vec::new(), 0)]);
        for (namespace, name, part) in cast.parts {
            let Some(pod) = tables.find_pod(&namespace, &name) else { continue };
            match part {
                Part::Rule(rule, variant) => {
                    let view = &policies.rules[rule];
                    let cuts = &policies.cuts[&(view.policy, view.direction)];
                    let extent = atoms.all.iter().map(|atom| {
                        let named = match (view.direction, &atom.spot) {
                            (Direction::ToPod, _) => &tables.pod(pod).ports[..],
                            (Direction::FromPod, Spot::Pods(group)) => &survey.tables.pod(firsts[*group]).ports[..],
                            (Direction::FromPod, _) => &[],
                        };
                        let ports = matched(&tables, pod, view.direction, atom, cuts, named);
                        let next = numbers.len() as u32;
                        *numbers.entry(ports).or_insert_with_key(|ports| {
                            judged.ports.push(ports.clone());
                            next
                        })
                    });
                    let extent = extent.collect();
                    judged.extents.insert((rule, variant), extent);
                }
                Part::Peer(rule, peer) => {
                    let direction = policies.rules[rule].direction;
                    let any = |atom: &Atom| is_matched(&tables, pod, direction, atom, Protocol::ICMP, 0);
                    judged.peers.insert((rule, peer), atoms.all.iter().map(any).collect());
                }
            }
        }
        judged
    }

    /// What a rule matches for the pods of `group`.
    pub(super) fn extent(&self, rule: usize, group: usize) -> Option<&Extent> {
        self.extents.get(&(rule, self.variants[group])).or_else(|| self.extents.get(&(rule, 0)))
    }

    /// Whether a peer matches each atom.
    pub(super) fn peer(&self, rule: usize, peer: usize) -> &[bool] {
        self.peers.get(&(rule, peer)).map_or(&[], Vec::as_slice)
    }

    /// Whether a list of ports lies within another one.
    pub(super) fn is_within(&self, inner: u32, outer: u32) -> bool {
        let outer = &self.ports[outer as usize];
        self.ports[inner as usize].iter().all(|(protocol, first, last)| {
            outer.iter().any(|(of, start, end)| of == protocol && start <= first && last <= end)
        })
    }

    /// Whether two lists of ports have one in common.
    pub(super) fn meets(&self, one: u32, other: u32) -> bool {
        let other = &self.ports[other as usize];
        self.ports[one as usize].iter().any(|(protocol, first, last)| {
            other.iter().any(|(of, start, end)| of == protocol && start <= last && first <= end)
        })
    }
}

/// By group its variant, and what each variant is. Variant 0 has no named ports.
fn variants(survey: &Survey<'_>) -> (Vec<Variant>, Vec<Vec<ContainerPort>>) {
    let mut lists: Vec<Vec<ContainerPort>> = vec![Vec::new()];
    let of_group = survey.groups().map(|pods| {
        let named = survey.tables.pod(pods[0]).ports.iter();
        let named: Vec<ContainerPort> =
            named.filter(|port| survey.cuts.port_names.contains(&*port.name)).cloned().collect();
        let known = lists.iter().position(|list| *list == named).unwrap_or_else(|| {
            lists.push(named);
            lists.len() - 1
        });
        known as Variant
    });
    let of_group = of_group.collect();
    (of_group, lists)
}

fn is_matched(
    tables: &Tables,
    subject: PodIndex,
    direction: Direction,
    atom: &Atom,
    protocol: Protocol,
    port: u16,
) -> bool {
    let question = Question { direction, subject, peer: atom.addr, protocol, port, names: &atom.names };
    matches!(tables.check(&question).reason, VerdictReason::Rule(_))
}

/// The ports that the stand-in's rule matches at (or from) an atom; `named` are the receiver's.
fn matched(
    tables: &Tables,
    subject: PodIndex,
    direction: Direction,
    atom: &Atom,
    cuts: &Cuts,
    named: &[ContainerPort],
) -> Ports {
    let mut found: Ports = Vec::new();
    for protocol in TRANSPORTS.into_iter().chain([Protocol::ICMP]) {
        for piece in cuts.port_pieces(protocol, named.iter()) {
            if !is_matched(tables, subject, direction, atom, protocol, *piece.start()) {
                continue;
            }
            match found.last_mut() {
                Some((of, _, last)) if *of == protocol.0 && last.checked_add(1) == Some(*piece.start()) => {
                    *last = *piece.end();
                }
                _ => found.push((protocol.0, *piece.start(), *piece.end())),
            }
        }
    }
    found
}

/// What a stand-in stands for.
enum Part {
    Rule(usize, Variant),
    Peer(usize, usize),
}

/// All stand-ins and their policies.
#[derive(Default)]
struct Cast {
    objects: Vec<Sourced<Object>>,
    /// Namespace and name of the pod.
    parts: Vec<(String, String, Part)>,
}

impl Cast {
    fn add(
        &mut self,
        policies: &Policies<'_>,
        rule: &RuleView,
        peer: Option<usize>,
        ports: &[ContainerPort],
        part: Part,
    ) {
        let view = policies.of_rule(rule);
        let name = format!("stand-in-{}", self.parts.len());
        let namespace = if view.namespace.is_empty() { STAND_IN_NAMESPACE } else { &view.namespace };
        let labels = BTreeMap::from([(STAND_IN_LABEL.to_owned(), name.clone())]);
        let metadata = |labels| ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.clone()),
            labels,
            ..ObjectMeta::default()
        };
        let selector = LabelSelector { match_labels: Some(labels.clone()), match_expressions: None };
        let policy: Object = match view.object {
            Written::NetworkPolicy(policy) => {
                NetworkPolicy { metadata: metadata(None), spec: network_policy(policy, rule, peer, selector) }.into()
            }
            Written::ClusterNetworkPolicy(policy) => {
                let mut metadata = metadata(None);
                metadata.namespace = None;
                ClusterNetworkPolicy {
                    metadata,
                    spec: cluster_network_policy(&policy.spec, rule, peer, selector),
                    status: None,
                    ..policy.clone()
                }
                .into()
            }
        };
        let ports = ports.iter().map(|port| ApiPort {
            container_port: port.port.into(),
            name: Some(port.name.to_string()),
            protocol: Some(port.protocol.to_string()),
            ..ApiPort::default()
        });
        let container = Container { name: "c".to_owned(), ports: Some(ports.collect()), ..Container::default() };
        let spec = Some(PodSpec { containers: vec![container], ..PodSpec::default() });
        let pod = Pod { metadata: metadata(Some(labels)), spec, status: None };
        let source = Source { file: "stand-in".into(), document: 0 };
        for object in [pod.into(), policy] {
            self.objects.push(Sourced { source: source.clone(), object });
        }
        self.parts.push((namespace.to_owned(), name, part));
    }
}

/// The policy with one rule, or with one peer of it and every port.
fn network_policy(
    policy: &NetworkPolicy,
    rule: &RuleView,
    peer: Option<usize>,
    selector: LabelSelector,
) -> Option<NetworkPolicySpec> {
    let spec = policy.spec.as_ref()?;
    let (mut ingress, mut egress) = (None, None);
    match rule.direction {
        Direction::ToPod => {
            let mut alone = spec.ingress.as_ref()?.get(rule.index)?.clone();
            if let Some(peer) = peer {
                alone.from = alone.from.map(|mut peers| vec![peers.swap_remove(peer)]);
                alone.ports = None;
            }
            ingress = Some(vec![alone]);
        }
        Direction::FromPod => {
            let mut alone = spec.egress.as_ref()?.get(rule.index)?.clone();
            if let Some(peer) = peer {
                alone.to = alone.to.map(|mut peers| vec![peers.swap_remove(peer)]);
                alone.ports = None;
            }
            egress = Some(vec![alone]);
        }
    }
    let direction = if rule.direction == Direction::ToPod { "Ingress" } else { "Egress" };
    Some(NetworkPolicySpec {
        pod_selector: Some(selector),
        policy_types: Some(vec![direction.to_owned()]),
        ingress,
        egress,
    })
}

/// The same for a policy of the cluster. Whatever the rule does with what it matches, here it accepts it: a rule that passes
/// would not be seen in a verdict.
fn cluster_network_policy(
    spec: &cnp::Spec,
    rule: &RuleView,
    peer: Option<usize>,
    selector: LabelSelector,
) -> cnp::Spec {
    let subject = cnp::Subject {
        namespaces: None,
        pods: Some(NamespacedPods { namespace_selector: None, pod_selector: selector }),
    };
    let mut alone = cnp::Spec { tier: cnp::Tier::Admin, priority: 0, subject, ingress: None, egress: None };
    match rule.direction {
        Direction::ToPod => {
            let rules = spec.ingress.iter().flatten().skip(rule.index).take(1).cloned();
            let rules = rules.map(|mut rule| {
                rule.action = cnp::Action::Accept;
                if let Some(peer) = peer {
                    rule.from = vec![rule.from.swap_remove(peer)];
                    rule.protocols = None;
                }
                rule
            });
            alone.ingress = Some(rules.collect());
        }
        Direction::FromPod => {
            let rules = spec.egress.iter().flatten().skip(rule.index).take(1).cloned();
            let rules = rules.map(|mut rule| {
                rule.action = cnp::Action::Accept;
                if let Some(peer) = peer {
                    rule.to = vec![rule.to.swap_remove(peer)];
                    rule.protocols = None;
                }
                rule
            });
            alone.egress = Some(rules.collect());
        }
    }
    alone
}
