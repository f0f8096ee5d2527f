//! NetworkPolicy and ClusterNetworkPolicy word for word, from the API reference of `NetworkPolicySpec`, the comments of the
//! v1alpha2 types of `policy.networking.k8s.io`, and podplane's decisions where those leave room. It reads the JSON that was
//! handed in. Every question walks all objects: slow, and as close to the sentences as code can be.

mod reading;

use policy::tables::{Direction, Tier};
use reading::{
    Known, addresses, block_matches, cidr_holds, domain_matches, flag, gateways, has_ended, is_host_network, items,
    labels, matches, named_port_matches, number_matches, same, text,
};
use serde_json::{Value, json};
use std::net::IpAddr;
use wire::Protocol;

/// What a rule of a ClusterNetworkPolicy does, or one of a NetworkPolicy: accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Accept,
    Deny,
    Pass,
}

/// A rule: `NAMESPACE/NAME` or `NAME` of its policy, and its position in spec.ingress or spec.egress.
pub(crate) type RuleName = (String, u32);

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// No rule and no NetworkPolicy: "all pods can communicate with each other".
    NotIsolated,
    /// The pod's own node, or the pod itself.
    Exempt,
    /// This rule, of a policy of that tier.
    Rule(RuleName),
    /// NetworkPolicies select the pod, and none of their rules accepts.
    Isolated,
}

/// What the text says about a flow in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opinion {
    pub(crate) allowed: bool,
    pub(crate) reason: Reason,
    /// It is denied, and would be allowed without the policies that keep established flows (W09).
    pub(crate) spares_established: bool,
    /// The first rule that matched in each tier where one did, in order.
    pub(crate) matched: Vec<(Tier, (RuleName, Act))>,
}

/// A question about a pod.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) direction: Direction,
    pub(crate) subject: &'a Value,
    pub(crate) peer: IpAddr,
    pub(crate) protocol: Protocol,
    /// The receiver's.
    pub(crate) port: u16,
    /// What the subject has resolved to `peer`.
    pub(crate) names: &'a [&'static str],
}

impl<'a> Asked<'a> {
    /// No flow: only what concerns the pod counts.
    pub(crate) fn about(direction: Direction, subject: &'a Value) -> Asked<'a> {
        let peer = IpAddr::from([0, 0, 0, 0]);
        Asked { direction, subject, peer, protocol: Protocol::TCP, port: 0, names: &[] }
    }

    fn list(&self) -> &'static str {
        list(self.direction)
    }
}

fn list(direction: Direction) -> &'static str {
    if direction == Direction::ToPod { "ingress" } else { "egress" }
}

/// In which field a rule of a NetworkPolicy fails to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NoRule,
    Closed,
    Peers,
    Ports,
    Both,
}

/// Which policies count.
#[derive(Clone, Copy, Debug)]
struct Force {
    /// Those that are dry-run too.
    dry_run: bool,
    /// Those that keep established flows too.
    keeping: bool,
}

impl Force {
    fn has(self, policy: &Value) -> bool {
        (self.dry_run || !is_dry_run(policy)) && (self.keeping || !keeps(policy))
    }
}

pub(crate) struct Literal<'a> {
    objects: &'a [Value],
    known: Known,
}

impl<'a> Literal<'a> {
    pub(crate) fn new(objects: &'a [Value]) -> Literal<'a> {
        Literal { objects, known: Known::new() }
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == *kind)
    }

    /// Pods that have not ended.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &'a Value> {
        self.of_kind("Pod").filter(|pod| !has_ended(pod))
    }

    /// The pod that has `addr` for itself.
    fn pod_at(&self, addr: IpAddr) -> Option<&'a Value> {
        self.pods().find(|pod| !is_host_network(pod) && addresses(pod).contains(&addr))
    }

    /// "NodeIPs ... present in the node.Status.Addresses", and the addresses with which its processes speak to pods.
    fn node_has(node: &Value, addr: IpAddr) -> bool {
        let listed =
            items(&node["status"]["addresses"]).iter().filter_map(|entry| text(&entry["address"]).parse().ok());
        listed.chain(gateways(node)).any(|address: IpAddr| address == addr)
    }

    /// Whether dry-run policies select the subject in this direction: only then there is something to rehearse.
    pub(crate) fn has_dry_run(&self, asked: &Asked<'_>) -> bool {
        !is_host_network(asked.subject) && self.selecting(asked, EVERYTHING).into_iter().any(is_dry_run)
    }

    /// The policies of all tiers that select the subject in this direction.
    fn selecting(&self, asked: &Asked<'_>, force: Force) -> Vec<&'a Value> {
        let of_cluster = [Tier::Admin, Tier::Baseline].into_iter().flat_map(|tier| self.of_tier(tier, asked, force));
        of_cluster.chain(self.network_policies(asked, force)).collect()
    }

    /// Judges, with dry-run policies in force or not.
    pub(crate) fn judge(&self, asked: &Asked<'_>, with_dry_run: bool) -> Opinion {
        let force = Force { dry_run: with_dry_run, ..EVERYTHING };
        let opinion = self.judge_under(asked, force);
        let spares = !opinion.allowed && self.judge_under(asked, Force { keeping: false, ..force }).allowed;
        Opinion { spares_established: spares, ..opinion }
    }

    fn judge_under(&self, asked: &Asked<'_>, force: Force) -> Opinion {
        let allowed = |reason, matched| Opinion { allowed: true, reason, spares_established: false, matched };
        // "Note that host-networked pods are not included in subject selection"; for NetworkPolicy it is ours to decide (N11).
        if is_host_network(asked.subject) || self.selecting(asked, force).is_empty() {
            return allowed(Reason::NotIsolated, Vec::new());
        }
        if self.is_exempt(asked) {
            return allowed(Reason::Exempt, Vec::new());
        }
        let mut all = Vec::new();
        for tier in [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline] {
            let Decided { matched, reason, allowed } = match tier {
                Tier::NetworkPolicy => self.judge_network_policies(asked, force),
                tier => self.judge_tier(tier, asked, force),
            };
            all.extend(matched.map(|matched| (tier, matched)));
            if let Some(reason) = reason {
                return Opinion { allowed, reason, spares_established: false, matched: all };
            }
        }
        // "If a given connection wasn't allowed or denied by any of the tiers, the default kubernetes policy is applied, which says
        // that all pods can communicate with each other."
        allowed(Reason::NotIsolated, all)
    }

    fn names(policies: &[&Value]) -> Vec<String> {
        policies.iter().map(|policy| full_name(policy)).collect()
    }

    /// What selects `pod`, in order of evaluation, those in dry run too or not.
    pub(crate) fn selecting_names(&self, direction: Direction, pod: &Value, dry_run: bool) -> Vec<String> {
        let (asked, force) = (Asked::about(direction, pod), Force { dry_run, ..EVERYTHING });
        let of_tiers = [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline].into_iter().flat_map(|tier| match tier {
            Tier::NetworkPolicy => self.network_policies(&asked, force),
            tier => self.of_tier(tier, &asked, force),
        });
        if is_host_network(pod) { Vec::new() } else { Self::names(&of_tiers.collect::<Vec<_>>()) }
    }

    /// The NetworkPolicies that isolate `pod`.
    pub(crate) fn isolating_names(&self, direction: Direction, pod: &Value) -> Vec<String> {
        let isolating = self.network_policies(&Asked::about(direction, pod), Force { dry_run: false, ..EVERYTHING });
        if is_host_network(pod) { Vec::new() } else { Self::names(&isolating) }
    }

    /// Whether an egress rule for `pod` names names and is understood.
    pub(crate) fn reads_names(&self, pod: &Value) -> bool {
        let asked = Asked::about(Direction::FromPod, pod);
        let policies = self.selecting(&asked, EVERYTHING).into_iter();
        let mut rules = policies
            .filter(|policy| policy["kind"] == "ClusterNetworkPolicy")
            .flat_map(|policy| items(&policy["spec"]["egress"]));
        !is_host_network(pod)
            && rules.any(|rule| {
                let names = items(&rule["to"]).iter().any(|peer| !peer["domainNames"].is_null());
                names && self.known.has_all_of("ClusterNetworkPolicy", "egress", rule)
            })
    }

    /// What there is in a rule, for whoever counts it.
    pub(crate) fn features(&self, (policy, index): &RuleName, direction: Direction) -> Vec<&'static str> {
        let policies = self.of_kind("NetworkPolicy").chain(self.of_kind("ClusterNetworkPolicy"));
        let policy = policies.into_iter().find(|object| full_name(object) == *policy).expect("it is there");
        let list = list(direction);
        let rule = &policy["spec"][list][*index as usize];
        let text = rule.to_string();
        let marks = [
            ("\"namespaces\"", "namespaces"),
            ("\"pods\"", "pods"),
            ("\"nodes\"", "nodes"),
            ("\"networks\"", "networks"),
            ("\"domainNames\"", "domainNames"),
            ("\"ports\"", "ports"),
            ("\"destinationNamedPort\"", "a port name"),
            ("\"port\":\"", "a port name"),
            ("\"sctp\"", "SCTP"),
            ("\"SCTP\"", "SCTP"),
            ("Selector\"", "a selector"),
            ("\"NotIn\"", "NotIn"),
            ("\"Exists\"", "Exists"),
            ("\"DoesNotExist\"", "DoesNotExist"),
            ("\"ipBlock\"", "ipBlock"),
            ("\"except\"", "except"),
            ("\"endPort\"", "endPort"),
        ];
        let kinds = ["NetworkPolicy", "ClusterNetworkPolicy"];
        let kind = kinds.into_iter().find(|kind| policy["kind"] == *kind).expect("it is a policy");
        let known = self.known.has_all_of(kind, list, rule);
        let strange = (!known).then_some("a field of a later version");
        strange
            .into_iter()
            .chain(marks.into_iter().filter(|(mark, _)| text.contains(mark)).map(|(_, name)| name))
            .collect()
    }

    /// The pod itself (N12), and its node as a source (N10).
    fn is_exempt(&self, asked: &Asked<'_>) -> bool {
        let own_node = &asked.subject["spec"]["nodeName"];
        let is_own = |node: &Value| !own_node.is_null() && node["metadata"]["name"] == *own_node;
        self.pod_at(asked.peer).is_some_and(|pod| same(pod, asked.subject))
            || asked.direction == Direction::ToPod
                && self.of_kind("Node").any(|node| is_own(node) && Self::node_has(node, asked.peer))
    }

    /// The ClusterNetworkPolicies of `tier` that select the subject, in order: "policies with lower priority values have higher
    /// precedence"; among equals, which the text leaves open, by name.
    fn of_tier(&self, tier: Tier, asked: &Asked<'_>, force: Force) -> Vec<&'a Value> {
        let name = if tier == Tier::Admin { "Admin" } else { "Baseline" };
        let selecting = self.of_kind("ClusterNetworkPolicy").filter(|policy| {
            let spec = &policy["spec"];
            // "CNPs with no ingress rules do not affect ingress traffic."
            spec["tier"] == name
                && !items(&spec[asked.list()]).is_empty()
                && self.is_in(&spec["subject"], asked.subject)
                && force.has(policy)
        });
        let mut policies: Vec<&Value> = selecting.collect();
        policies.sort_by_key(|policy| (policy["spec"]["priority"].as_u64(), text(&policy["metadata"]["name"])));
        policies
    }

    /// "All Admin tier rules have higher precedence than NetworkPolicy or Baseline tier rules."
    fn judge_tier(&self, tier: Tier, asked: &Asked<'_>, force: Force) -> Decided {
        for policy in self.of_tier(tier, asked, force) {
            for (index, rule) in items(&policy["spec"][asked.list()]).iter().enumerate() {
                let act = match text(&rule["action"]) {
                    "Accept" => Act::Accept,
                    "Deny" => Act::Deny,
                    "Pass" => Act::Pass,
                    other => panic!("the generator wrote action {other}"),
                };
                let act = if self.known.has_all_of("ClusterNetworkPolicy", asked.list(), rule) {
                    if !self.rule_matches(rule, asked) {
                        continue;
                    }
                    act
                } else {
                    // "For "Accept" rules, "fail closed" means: "treat the rule as matching no traffic". For "Deny" and "Pass" rules,
                    // "fail closed" means: "treat the rule as a 'Deny all' rule"."
                    if act == Act::Accept {
                        continue;
                    }
                    Act::Deny
                };
                let name = (full_name(policy), index as u32);
                let reason = (act != Act::Pass).then(|| Reason::Rule(name.clone()));
                return Decided { matched: Some((name, act)), reason, allowed: act == Act::Accept };
            }
        }
        NOTHING
    }

    fn rule_matches(&self, rule: &Value, asked: &Asked<'_>) -> bool {
        let peers = if asked.direction == Direction::ToPod { "from" } else { "to" };
        // "If any element matches the source of incoming traffic then the specified action is applied."
        items(&rule[peers]).iter().any(|peer| self.cluster_peer_matches(peer, asked))
            // "If unspecified, protocol-specific attributes will not be used to match traffic."
            && (rule["protocols"].is_null()
                || items(&rule["protocols"]).iter().any(|protocol| self.protocol_matches(protocol, asked)))
    }

    fn cluster_peer_matches(&self, peer: &Value, asked: &Asked<'_>) -> bool {
        let addr = asked.peer;
        if !peer["nodes"].is_null() {
            let mut nodes = self.of_kind("Node").filter(|node| matches(&peer["nodes"], labels(node)));
            return nodes.any(|node| Self::node_has(node, addr));
        }
        if !peer["networks"].is_null() {
            // "Networks matches both regular IP traffic and ICMP traffic"; "cluster-internal traffic will be checked against the rule
            // as well".
            return items(&peer["networks"]).iter().any(|cidr| cidr_holds(cidr, addr));
        }
        if !peer["domainNames"].is_null() {
            return items(&peer["domainNames"])
                .iter()
                .any(|pattern| asked.names.iter().any(|name| domain_matches(text(pattern), name)));
        }
        // "Note that host-networked pods are not included in this type of peer": their address is their node's.
        self.pod_at(addr).is_some_and(|pod| self.is_in(peer, pod))
    }

    /// Whether `pod` is among `choice`, which has `namespaces` or `pods`.
    fn is_in(&self, choice: &Value, pod: &Value) -> bool {
        let namespace = self.namespace_labels(text(&pod["metadata"]["namespace"]));
        if !choice["namespaces"].is_null() {
            return matches(&choice["namespaces"], &namespace);
        }
        let pods = &choice["pods"];
        matches(&pods["namespaceSelector"], &namespace) && matches(&pods["podSelector"], labels(pod))
    }

    fn protocol_matches(&self, protocol: &Value, asked: &Asked<'_>) -> bool {
        let named = &protocol["destinationNamedPort"];
        if !named.is_null() {
            // "DestinationNamedPort selects a destination port on a pod based on the ContainerPort name."
            return self.receiver(asked).is_some_and(|pod| named_port_matches(pod, text(named), None, asked));
        }
        let of = [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)];
        of.into_iter().any(|(field, number)| {
            let port = &protocol[field]["destinationPort"];
            let (first, last) = match port["number"].as_u64() {
                Some(number) => (number, number),
                None => (port["range"]["start"].as_u64().unwrap_or(1), port["range"]["end"].as_u64().unwrap_or(0)),
            };
            !port.is_null() && asked.protocol == number && (first..=last).contains(&u64::from(asked.port))
        })
    }

    fn receiver(&self, asked: &Asked<'a>) -> Option<&'a Value> {
        match asked.direction {
            Direction::ToPod => Some(asked.subject),
            Direction::FromPod => self.pod_at(asked.peer),
        }
    }

    /// The NetworkPolicies that select the subject in this direction, by name.
    fn network_policies(&self, asked: &Asked<'_>, force: Force) -> Vec<&'a Value> {
        let selecting = self.of_kind("NetworkPolicy").filter(|policy| {
            let spec = &policy["spec"];
            let types = items(&spec["policyTypes"]);
            let affects = match asked.direction {
                // "If no policyTypes are specified ... default to existence of ingress or egress rules; policies that contain an egress
                // section are assumed to affect egress, and all policies are assumed to affect ingress."
                Direction::ToPod => types.is_empty() || types.contains(&json!("Ingress")),
                Direction::FromPod if types.is_empty() => !items(&spec["egress"]).is_empty(),
                Direction::FromPod => types.contains(&json!("Egress")),
            };
            affects
                && policy["metadata"]["namespace"] == asked.subject["metadata"]["namespace"]
                && matches(&spec["podSelector"], labels(asked.subject))
                && force.has(policy)
        });
        let mut policies: Vec<&Value> = selecting.collect();
        policies.sort_by_key(|policy| text(&policy["metadata"]["name"]));
        policies
    }

    /// "v1.NetworkPolicy always makes a final decision for selected pods. Further evaluation only happens for Pods not selected by a
    /// v1.NetworkPolicy."
    fn judge_network_policies(&self, asked: &Asked<'_>, force: Force) -> Decided {
        let selecting = self.network_policies(asked, force);
        if selecting.is_empty() {
            return NOTHING;
        }
        for policy in &selecting {
            for (index, rule) in items(&policy["spec"][asked.list()]).iter().enumerate() {
                let understood = self.known.has_all_of("NetworkPolicy", asked.list(), rule);
                if understood && self.network_rule_matches(policy, rule, asked) == (true, true) {
                    let name = (full_name(policy), index as u32);
                    let reason = Some(Reason::Rule(name.clone()));
                    return Decided { matched: Some((name, Act::Accept)), reason, allowed: true };
                }
            }
        }
        Decided { matched: None, reason: Some(Reason::Isolated), allowed: false }
    }

    /// Whether the peers of a rule match, and whether its ports do.
    fn network_rule_matches(&self, policy: &Value, rule: &Value, asked: &Asked<'_>) -> (bool, bool) {
        let list = if asked.direction == Direction::ToPod { "from" } else { "to" };
        let namespace = text(&policy["metadata"]["namespace"]);
        let (peers, ports) = (items(&rule[list]), items(&rule["ports"]));
        // "If this field is empty or missing, this rule matches all sources / destinations."
        let peers_match = peers.is_empty() || peers.iter().any(|peer| self.peer_matches(namespace, peer, asked));
        // "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
        let ports_match = ports.is_empty() || ports.iter().any(|port| self.port_matches(port, asked));
        (peers_match, ports_match)
    }

    /// Why a rule of a NetworkPolicy does not match; `None` for a rule that is not there.
    pub(crate) fn failure(&self, policy: &str, index: Option<usize>, asked: &Asked<'_>) -> Option<Failure> {
        let policy = self.of_kind("NetworkPolicy").find(|object| full_name(object) == policy)?;
        let rules = items(&policy["spec"][asked.list()]);
        let Some(index) = index else { return rules.is_empty().then_some(Failure::NoRule) };
        let rule = rules.get(index)?;
        if !self.known.has_all_of("NetworkPolicy", asked.list(), rule) {
            return Some(Failure::Closed);
        }
        match self.network_rule_matches(policy, rule, asked) {
            (true, true) => None,
            (true, false) => Some(Failure::Ports),
            (false, true) => Some(Failure::Peers),
            (false, false) => Some(Failure::Both),
        }
    }

    fn peer_matches(&self, namespace: &str, peer: &Value, asked: &Asked<'_>) -> bool {
        if !peer["ipBlock"].is_null() {
            return block_matches(&peer["ipBlock"], asked.peer);
        }
        let Some(pod) = self.pod_at(asked.peer) else { return false };
        let pod_namespace = text(&pod["metadata"]["namespace"]);
        // "If PodSelector is also set ... selects the Pods matching PodSelector in the Namespaces selected by NamespaceSelector";
        // otherwise "in the policy's own Namespace".
        let in_namespace = match &peer["namespaceSelector"] {
            Value::Null => pod_namespace == namespace,
            selector => matches(selector, &self.namespace_labels(pod_namespace)),
        };
        in_namespace && matches(&peer["podSelector"], labels(pod))
    }

    fn port_matches(&self, port: &Value, asked: &Asked<'_>) -> bool {
        // "If not specified, this field defaults to TCP."
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["port"].as_str() {
            Some(name) => self.receiver(asked).is_some_and(|pod| named_port_matches(pod, name, Some(protocol), asked)),
            None => asked.protocol.to_string() == protocol && number_matches(port, asked.port),
        }
    }

    /// Every namespace has its name as a label (KEP-2161).
    fn namespace_labels(&self, name: &str) -> Value {
        let found = self.of_kind("Namespace").find(|namespace| namespace["metadata"]["name"] == *name);
        let mut labels = found.map_or(json!({}), |namespace| labels(namespace).clone());
        labels["kubernetes.io/metadata.name"] = name.into();
        labels
    }
}

/// What one tier says.
struct Decided {
    /// The first rule that matched.
    matched: Option<(RuleName, Act)>,
    /// What decided; nothing: the next tier is asked.
    reason: Option<Reason>,
    allowed: bool,
}

const NOTHING: Decided = Decided { matched: None, reason: None, allowed: true };

const EVERYTHING: Force = Force { dry_run: true, keeping: true };

/// `NAMESPACE/NAME`, or `NAME` of what has no namespace.
fn full_name(policy: &Value) -> String {
    let name = text(&policy["metadata"]["name"]);
    policy["metadata"]["namespace"].as_str().map_or(name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn is_dry_run(policy: &Value) -> bool {
    flag(policy, "podplane.io/dry-run", "true")
}

fn keeps(policy: &Value) -> bool {
    flag(policy, "podplane.io/established", "keep")
}
