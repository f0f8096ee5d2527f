//! NetworkPolicies: identities of pods, the policies that select them, and the rule sets that follow.
//!
//! Every selector is matched once per identity, not per pod; every distinct peer once, however many policies name it;
//! identities that no peer tells apart become one class, so a wide peer (all namespaces) costs a rule set as little as a
//! narrow one; and a rule set is built once for all pods that the same policies select.

use super::pods::protocol;
use crate::cluster::Cluster;
use crate::objects::{Kind, ObjectRef, Problem, Severity, closed_rules};
use crate::rules::{AddressRules, Block};
use crate::rules::{Identity, PeerClass, PortMatch, PortRules, PortRulesIndex, RuleSet, RuleSets};
use crate::selector::{Labels, Selector};
use crate::tables::{Direction, PolicyEntry, PolicyId, PolicyIndex, PolicyObject, RuleRef, Tables, Tier};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespace, and the labels that some selector reads.
type Distinction<'a> = (&'a str, Vec<(&'a str, &'a str)>);

pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) {
    let mut policies = Vec::with_capacity(cluster.network_policies.len());
    let mut entries = Vec::with_capacity(cluster.network_policies.len());
    for ((namespace, name), sourced) in &cluster.network_policies {
        let mut policy = Policy::read(namespace, &sourced.object);
        for (field, message) in policy.mistakes.drain(..) {
            let object = ObjectRef::new("NetworkPolicy", &**namespace, &**name);
            problems.push(Problem::of(&sourced.source, object, field, message, Severity::Closed));
        }
        policies.push(policy);
        entries.push(PolicyEntry {
            id: PolicyId::of(Kind::NetworkPolicy, namespace, name),
            tier: Tier::NetworkPolicy,
            priority: 0,
            namespace: namespace.clone(),
            name: name.clone(),
            dry_run: false,
            keeps_established: false,
            object: PolicyObject::NetworkPolicy(sourced.object.clone()),
        });
    }
    tables.namespaces = Arc::new(namespaces(cluster));
    let groups = Groups::of(cluster, &policies, tables);
    let mut ids: Vec<_> = (0u32..).map(PolicyIndex).zip(&entries).map(|(index, entry)| (entry.id, index)).collect();
    ids.sort_unstable();
    tables.policy_ids = Arc::new(ids);
    tables.policies = Arc::new(entries);
    tables.rules = Arc::new(Builder::new(&policies, &groups).build());
}

/// Every namespace that has an object or pods, with its labels, in order.
fn namespaces(cluster: &Cluster) -> Vec<(Arc<str>, Labels)> {
    let defined = cluster.namespaces.keys().map(|(_, name)| name);
    let names: BTreeSet<&Arc<str>> = defined.chain(cluster.pods.keys().map(|(namespace, _)| namespace)).collect();
    let with_labels = names.into_iter().map(|name| {
        let object = cluster.namespaces.get(&(Arc::from(""), name.clone()));
        let mut labels = object.and_then(|sourced| sourced.object.metadata.labels.clone()).unwrap_or_default();
        // The API server sets this label on every namespace (KEP-2161).
        labels.insert("kubernetes.io/metadata.name".into(), name.to_string());
        (name.clone(), Labels::from(&labels))
    });
    with_labels.collect()
}

/// A NetworkPolicy with its selectors and ports read once.
struct Policy {
    namespace: String,
    selector: Selector,
    to_pod: Option<Vec<Rule>>,
    from_pod: Option<Vec<Rule>>,
    /// Fields that cannot be understood; the rule around each matches nothing.
    mistakes: Vec<(String, String)>,
}

/// One rule of spec.ingress or spec.egress.
struct Rule {
    peers: Vec<Peer>,
    ports: Vec<PortMatch>,
}

enum Peer {
    Everybody,
    Pods(PodsPeer),
    Addresses(Block),
}

/// Pods of the namespaces that a selector matches, or of one namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PodsPeer {
    namespaces: Namespaces,
    pods: Selector,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Namespaces {
    Own(String),
    Matching(Selector),
}

impl Policy {
    fn read(namespace: &str, policy: &NetworkPolicy) -> Policy {
        let mut read = Policy {
            namespace: namespace.to_owned(),
            selector: Selector::default(),
            to_pod: None,
            from_pod: None,
            mistakes: Vec::new(),
        };
        let Some(spec) = &policy.spec else {
            read.to_pod = Some(Vec::new());
            return read;
        };
        read.selector = spec.pod_selector.as_ref().map(Selector::compile).unwrap_or_default();
        let is_closed = closed_rules(&policy.metadata);
        let types = spec.policy_types.iter().flatten().map(String::as_str).collect::<Vec<_>>();
        // Absent policyTypes: ingress always, egress if there are egress rules (N03).
        let isolates_to_pod = types.is_empty() || types.contains(&"Ingress");
        let isolates_from_pod = if types.is_empty() {
            spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
        } else {
            types.contains(&"Egress")
        };
        if isolates_to_pod {
            let rules = spec.ingress.iter().flatten().enumerate().map(|(index, rule)| {
                let field = format!("spec.ingress[{index}]");
                read.rule(&field, is_closed("ingress", index), ("from", &rule.from), &rule.ports)
            });
            read.to_pod = Some(rules.collect());
        }
        if isolates_from_pod {
            let rules = spec.egress.iter().flatten().enumerate().map(|(index, rule)| {
                let field = format!("spec.egress[{index}]");
                read.rule(&field, is_closed("egress", index), ("to", &rule.to), &rule.ports)
            });
            read.from_pod = Some(rules.collect());
        }
        read
    }

    fn rule(
        &mut self,
        field: &str,
        is_closed: bool,
        (list, peers): (&str, &Option<Vec<NetworkPolicyPeer>>),
        ports: &Option<Vec<NetworkPolicyPort>>,
    ) -> Rule {
        const CLOSED: Rule = Rule { peers: Vec::new(), ports: Vec::new() };
        if is_closed {
            return CLOSED;
        }
        let mut rule = CLOSED;
        let mut mistakes = Vec::new();
        match peers.as_deref().unwrap_or_default() {
            [] => rule.peers.push(Peer::Everybody),
            peers => {
                for (position, peer) in peers.iter().enumerate() {
                    match self.peer(peer) {
                        Ok(peer) => rule.peers.push(peer),
                        Err((part, message)) => mistakes.push((format!("{field}.{list}[{position}]{part}"), message)),
                    }
                }
            }
        }
        match ports.as_deref().unwrap_or_default() {
            [] => rule.ports.push(PortMatch::Everything),
            ports => {
                for (position, port) in ports.iter().enumerate() {
                    match port_match(port) {
                        Ok(port) => rule.ports.push(port),
                        Err(message) => mistakes.push((format!("{field}.ports[{position}]"), message)),
                    }
                }
            }
        }
        if mistakes.is_empty() {
            return rule;
        }
        self.mistakes
            .extend(mistakes.into_iter().map(|(at, message)| (at, format!("{message}; {field} matches nothing"))));
        CLOSED
    }

    fn peer(&self, peer: &NetworkPolicyPeer) -> Result<Peer, (&'static str, String)> {
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => Ok(Peer::Addresses(read_block(block)?)),
            (Some(_), ..) => Err(("", "ipBlock stands beside a selector".into())),
            (None, None, None) => Err(("", "has neither ipBlock nor a selector".into())),
            (None, namespaces, pods) => Ok(Peer::Pods(PodsPeer {
                namespaces: match namespaces {
                    Some(selector) => Namespaces::Matching(Selector::compile(selector)),
                    None => Namespaces::Own(self.namespace.clone()),
                },
                pods: pods.as_ref().map(Selector::compile).unwrap_or_default(),
            })),
        }
    }

    fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::ToPod => self.to_pod.as_deref(),
            Direction::FromPod => self.from_pod.as_deref(),
        }
    }

    /// Every selector of pods in the policy.
    fn pod_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.selector).chain(self.pods_peers().map(|peer| &peer.pods))
    }

    /// Every peer that is found by selectors.
    fn pods_peers(&self) -> impl Iterator<Item = &PodsPeer> {
        let rules = self.to_pod.iter().chain(&self.from_pod).flatten();
        rules.flat_map(|rule| &rule.peers).filter_map(|peer| match peer {
            Peer::Pods(peer) => Some(peer),
            Peer::Everybody | Peer::Addresses(_) => None,
        })
    }
}

fn read_block(block: &IPBlock) -> Result<Block, (&'static str, String)> {
    let cidr = block.cidr.parse::<ipnet::IpNet>();
    let cidr = cidr.map_err(|_| (".ipBlock.cidr", format!("{:?} is not a CIDR", block.cidr)))?.trunc();
    let mut except = Vec::new();
    for text in block.except.iter().flatten() {
        let net = text.parse::<ipnet::IpNet>();
        except.push(net.map_err(|_| (".ipBlock.except", format!("{text:?} is not a CIDR")))?.trunc());
    }
    Ok(Block { cidr, except })
}

fn port_match(port: &NetworkPolicyPort) -> Result<PortMatch, String> {
    let protocol = protocol(port.protocol.as_deref())
        .ok_or_else(|| format!("unknown protocol {:?}", port.protocol.as_deref().unwrap_or_default()))?;
    let number = |number: i32| u16::try_from(number).map_err(|_| format!("{number} is not a port"));
    match (&port.port, port.end_port) {
        (None, None) => Ok(PortMatch::Range(protocol, 0..=u16::MAX)),
        (None, Some(_)) => Err("endPort without port".into()),
        (Some(IntOrString::Int(start)), end) => {
            let start = number(*start)?;
            let end = end.map_or(Ok(start), number)?;
            if end < start {
                Err(format!("endPort {end} is below port {start}"))
            } else {
                Ok(PortMatch::Range(protocol, start..=end))
            }
        }
        (Some(IntOrString::String(name)), None) => Ok(PortMatch::Named(protocol, name.as_str().into())),
        (Some(IntOrString::String(_)), Some(_)) => Err("endPort beside a named port".into()),
    }
}

/// Pods in groups that no selector can tell apart.
struct Groups<'a> {
    /// By pod.
    of_pod: Vec<Identity>,
    /// By identity: namespace, and the labels that some selector reads.
    groups: Vec<Distinction<'a>>,
    by_namespace: BTreeMap<&'a str, Vec<Identity>>,
    namespaces: Arc<Vec<(Arc<str>, Labels)>>,
}

impl<'a> Groups<'a> {
    fn of(cluster: &'a Cluster, policies: &[Policy], tables: &Tables) -> Groups<'a> {
        let keys: BTreeSet<&str> = policies.iter().flat_map(Policy::pod_selectors).flat_map(Selector::keys).collect();
        let mut numbers: HashMap<Distinction<'_>, Identity> = HashMap::new();
        let mut groups = Groups {
            of_pod: Vec::with_capacity(tables.pods.len()),
            groups: Vec::new(),
            by_namespace: BTreeMap::new(),
            namespaces: tables.namespaces.clone(),
        };
        for ((namespace, _), sourced) in &cluster.pods {
            if sourced.object.ended {
                continue;
            }
            let read: Vec<(&str, &str)> = sourced.object.labels.iter().filter(|(key, _)| keys.contains(key)).collect();
            let identity = *numbers.entry((&**namespace, read)).or_insert_with_key(|distinction| {
                let identity = Identity(groups.groups.len() as u32);
                groups.groups.push(distinction.clone());
                groups.by_namespace.entry(&**namespace).or_default().push(identity);
                identity
            });
            groups.of_pod.push(identity);
        }
        groups
    }

    /// The identities in `namespace` that `selector` matches.
    fn matching<'s>(&'s self, namespace: &str, selector: &'s Selector) -> impl Iterator<Item = Identity> + 's {
        let identities = self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let matches = |identity: &Identity| {
            let labels = &self.groups[identity.0 as usize].1;
            selector.matches_with(|key| labels.iter().find(|label| label.0 == key).map(|label| label.1))
        };
        identities.iter().copied().filter(matches)
    }

    fn matching_peer(&self, peer: &PodsPeer) -> Vec<Identity> {
        let namespaces: Vec<&str> = match &peer.namespaces {
            Namespaces::Own(namespace) => vec![namespace],
            Namespaces::Matching(selector) => {
                let matching = self.namespaces.iter().filter(|(_, labels)| selector.selects(labels));
                matching.map(|(namespace, _)| &**namespace).collect()
            }
        };
        namespaces.into_iter().flat_map(|namespace| self.matching(namespace, &peer.pods)).collect()
    }
}

struct Builder<'a> {
    policies: &'a [Policy],
    groups: &'a Groups<'a>,
    /// By identity: its class among the peers.
    class_of: Vec<PeerClass>,
    /// The classes that each distinct peer consists of.
    classes: HashMap<&'a PodsPeer, Vec<PeerClass>>,
    class_count: usize,
    /// Rule sets by the policies that they are made of.
    sets: HashMap<(Direction, Vec<PolicyIndex>), u32>,
}

impl<'a> Builder<'a> {
    /// Matches every distinct peer once and puts identities that the same peers hold into one class.
    fn new(policies: &'a [Policy], groups: &'a Groups<'a>) -> Builder<'a> {
        let peers: BTreeSet<&PodsPeer> = policies.iter().flat_map(Policy::pods_peers).collect();
        let members: Vec<Vec<Identity>> = peers.iter().map(|peer| groups.matching_peer(peer)).collect();
        let mut partition = Partition::new(groups.groups.len());
        members.iter().for_each(|members| partition.refine(members));
        let classes = peers.into_iter().zip(&members).map(|(peer, members)| {
            let mut classes: Vec<PeerClass> = members.iter().map(|member| partition.class(*member)).collect();
            classes.sort_unstable();
            classes.dedup();
            (peer, classes)
        });
        Builder {
            policies,
            groups,
            classes: classes.collect(),
            class_count: partition.sizes.len(),
            class_of: partition.class_of,
            sets: HashMap::new(),
        }
    }

    fn build(mut self) -> RuleSets {
        let mut built = RuleSets { identities: self.groups.of_pod.clone(), ..RuleSets::default() };
        built.from_pod = self.select(Direction::FromPod, &mut built.sets);
        built.to_pod = self.select(Direction::ToPod, &mut built.sets);
        built.classes = self.class_of;
        let mut numbers = HashMap::new();
        let told_by = built.from_pod.iter().zip(&built.to_pod).zip(&built.classes);
        let alike = told_by.map(|told_by| {
            let next = numbers.len() as u32;
            *numbers.entry(told_by).or_insert(next)
        });
        built.alike = alike.collect();
        built
    }

    /// By identity, the rule set of `direction`.
    fn select(&mut self, direction: Direction, sets: &mut Vec<RuleSet>) -> Vec<Option<u32>> {
        let mut selecting: Vec<Vec<PolicyIndex>> = vec![Vec::new(); self.groups.groups.len()];
        for (index, policy) in self.policies.iter().enumerate() {
            if policy.rules(direction).is_some() {
                for identity in self.groups.matching(&policy.namespace, &policy.selector) {
                    selecting[identity.0 as usize].push(PolicyIndex(index as u32));
                }
            }
        }
        let numbers = selecting.into_iter().map(|policies| {
            if policies.is_empty() {
                return None;
            }
            let key = (direction, policies);
            if let Some(&number) = self.sets.get(&key) {
                return Some(number);
            }
            let number = sets.len() as u32;
            sets.push(self.rule_set(direction, &key.1));
            self.sets.insert(key, number);
            Some(number)
        });
        numbers.collect()
    }

    fn rule_set(&mut self, direction: Direction, policies: &[PolicyIndex]) -> RuleSet {
        let mut set = RuleSet { policies: policies.to_vec(), ..RuleSet::default() };
        let mut rules: Vec<&'a Rule> = Vec::new();
        let mut everybody = BTreeSet::new();
        let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); self.class_count];
        let mut blocks = Vec::new();
        for &policy in policies {
            let of_policy = self.policies[policy.0 as usize].rules(direction).unwrap_or_default();
            for (index, rule) in of_policy.iter().enumerate() {
                let position = rules.len() as u32;
                rules.push(rule);
                set.rules.push(RuleRef { policy, index: index as u32 });
                for peer in &rule.peers {
                    match peer {
                        Peer::Everybody => {
                            everybody.insert(position);
                        }
                        Peer::Pods(peer) => {
                            for class in &self.classes[peer] {
                                let rules = &mut by_class[class.0 as usize];
                                if rules.last() != Some(&position) {
                                    rules.push(position);
                                }
                            }
                        }
                        Peer::Addresses(block) => blocks.push((position, block.clone())),
                    }
                }
            }
        }
        let mut interned = Interned { rules: &rules, numbers: HashMap::new(), port_rules: Vec::new() };
        let positions = |rules: &BTreeSet<u32>| rules.iter().copied().collect();
        set.everybody = if everybody.is_empty() { None } else { Some(interned.number(positions(&everybody))) };
        let by_class = (0u32..).map(PeerClass).zip(by_class).filter(|(_, rules)| !rules.is_empty());
        set.by_class = by_class.map(|(class, rules)| (class, interned.number(rules))).collect();
        set.by_address = AddressRules::build(&blocks, |rules| interned.number(positions(rules)));
        set.port_rules = interned.port_rules;
        set
    }
}

/// Identities in classes, cut finer by every list of identities that is to be told apart.
struct Partition {
    class_of: Vec<PeerClass>,
    /// By class.
    sizes: Vec<u32>,
}

impl Partition {
    /// All in one class.
    fn new(identities: usize) -> Partition {
        Partition { class_of: vec![PeerClass(0); identities], sizes: vec![identities as u32] }
    }

    fn class(&self, identity: Identity) -> PeerClass {
        self.class_of[identity.0 as usize]
    }

    /// Splits the classes that lie partly in `members`, which names no identity twice.
    fn refine(&mut self, members: &[Identity]) {
        let mut hits: HashMap<PeerClass, u32> = HashMap::new();
        for member in members {
            *hits.entry(self.class(*member)).or_default() += 1;
        }
        let mut split: HashMap<PeerClass, PeerClass> = HashMap::new();
        for member in members {
            let class = self.class(*member);
            if hits[&class] == self.sizes[class.0 as usize] {
                continue;
            }
            let part = *split.entry(class).or_insert_with(|| {
                self.sizes.push(0);
                PeerClass(self.sizes.len() as u32 - 1)
            });
            self.class_of[member.0 as usize] = part;
            self.sizes[part.0 as usize] += 1;
        }
        for (class, part) in split {
            self.sizes[class.0 as usize] -= self.sizes[part.0 as usize];
        }
    }
}

/// Port rules of a rule set, one for each list of rules that occurs.
struct Interned<'a> {
    rules: &'a [&'a Rule],
    numbers: HashMap<Vec<u32>, PortRulesIndex>,
    port_rules: Vec<PortRules>,
}

impl Interned<'_> {
    /// The number of the port rules of the rules at `positions`, which ascend.
    fn number(&mut self, positions: Vec<u32>) -> PortRulesIndex {
        if let Some(&number) = self.numbers.get(&positions) {
            return number;
        }
        let number = PortRulesIndex(self.port_rules.len() as u32);
        let matches = positions
            .iter()
            .flat_map(|&position| self.rules[position as usize].ports.iter().map(move |port| (position, port)));
        self.port_rules.push(PortRules::build(matches));
        self.numbers.insert(positions, number);
        number
    }
}
