//! Policies: identities of pods, the policies that select them, and the rule sets that follow.
//!
//! In steps, each of which knows only the one before: every policy is read by itself ([`read`], [`network_policy`],
//! [`cluster_network_policy`]); pods that no selector tells apart become one identity ([`identities`]), identities that no peer tells
//! apart one class ([`classes`]); a rule set is built once for all pods that the same policies of a tier select ([`rule_set`]); a selection
//! puts the sets of the tiers together.
//!
//! Everything is compiled at once where a policy or a node changes, which takes milliseconds for a thousand policies. Pods and
//! labels of namespaces change far more often and are followed: only identities that are new, or whose namespace has other
//! labels, are matched against the selectors, and only what nobody had before is built, beside what there is ([`crate::rules`],
//! module `late`). What nobody has any more stays until there is as much of it as of the rest; then everything is compiled at
//! once again.

mod classes;
mod cluster_network_policy;
mod identities;
mod network_policy;
mod read;
mod rule_set;

use super::pods::PodChange;
use crate::cluster::{Cluster, Delta};
use crate::objects::{ObjectRef, Problem, Source};
use crate::rules::{
    Identity, LateClass, PeerClass, PortRules, RuleSets, Selection, SelectionIndex, SetIndex, TierSets, View,
};
use crate::tables::{Direction, NodeEntry, PolicyIndex, PolicyObject, Tables};
use classes::{Classes, Peers};
use identities::{Identities, NamespaceLabels};
use read::Policy;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What may be added to the compiled policies before everything is compiled again, beside as much as there was from the start:
/// a small cluster would otherwise compile everything every few changes.
const ADDED_MIN: usize = 4096;

/// So many identities, beside a sixteenth of all, are matched one by one; from there on it takes longer than compiling everything.
const ONE_BY_ONE: usize = 64;

/// The policies and how they were compiled: what it takes to follow pods and namespaces.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// In order of evaluation.
    policies: Vec<Policy>,
    identities: Identities,
    classes: Classes,
    /// Rule sets by the policies that they are made of, which are all of one tier.
    sets: HashMap<(Direction, Vec<PolicyIndex>), SetIndex>,
    /// By set.
    directions: Vec<Direction>,
    /// By peer: the sets that name it, and the position of the rule that does.
    uses: Vec<Vec<(SetIndex, u32)>>,
    /// Selections by the policies that select.
    selections: HashMap<(Direction, Vec<PolicyIndex>), SelectionIndex>,
    alike: HashMap<(TierSets, TierSets, PeerClass), u32>,
    /// Identities and entries of rule sets, at the start and since then.
    size: usize,
    added: usize,
}

/// What a change of pods and namespaces was to the policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Followed {
    /// Identities that were matched against all selectors.
    pub(super) identities: usize,
    /// Rule sets that were built.
    pub(super) sets: usize,
}

impl Policies {
    /// Compiles everything.
    pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) -> Policies {
        let policies = read_all(cluster, problems);
        let namespaces = Arc::new(identities::namespaces(cluster, tables.cluster_dns_pod().is_some()));
        let numbered = (0u32..).map(PolicyIndex).zip(&policies);
        let mut ids: Vec<_> = numbered.map(|(index, policy)| (policy.entry.id, index)).collect();
        ids.sort_unstable();
        tables.policy_ids = Arc::new(ids);
        tables.policies = Arc::new(policies.iter().map(|policy| policy.entry.clone()).collect());
        tables.namespaces = namespaces.clone();
        let (identities, of_pod) = Identities::of(tables, &policies);
        let (classes, of_identity) = Classes::of(&policies, &identities, &namespaces);
        let mut built = RuleSets { identities: of_pod, first_late: classes.len() as u32, ..RuleSets::default() };
        let uses = vec![Vec::new(); classes.peer_count()];
        let mut made = Policies { policies, identities, classes, uses, ..Policies::default() };
        for direction in [Direction::FromPod, Direction::ToPod] {
            let selecting = made.selecting(direction, &namespaces);
            let selections = selecting.into_iter().map(|policies| made.select(direction, policies, tables, &mut built));
            let selections = selections.collect();
            *built.selections_of(direction) = selections;
        }
        built.classes = of_identity;
        built.alike =
            (0..made.identities.len() as u32).map(|identity| made.alike(Identity(identity), &built)).collect();
        made.size = built.identities.len() + std::mem::take(&mut made.added);
        tables.rules = Arc::new(built);
        made
    }

    /// Has tables whose pods changed by `pods` follow, and the labels of the namespaces in `delta`. `None` if everything is to be
    /// compiled instead, because too much has been added.
    pub(super) fn follow(
        &mut self,
        cluster: &Cluster,
        delta: &Delta,
        pods: &[PodChange],
        tables: &mut Tables,
    ) -> Option<Followed> {
        if self.added > self.size + ADDED_MIN {
            return None;
        }
        let sets_before = tables.rules.sets.len();
        let answers_dns = tables.cluster_dns_pod().is_some();
        let relabelled = identities::follow_namespaces(cluster, delta, answers_dns, &mut tables.namespaces);
        let mut open: BTreeSet<Identity> =
            relabelled.iter().flat_map(|namespace| self.identities.in_namespace(namespace)).copied().collect();
        let known = self.identities.len();
        self.follow_pods(pods, tables);
        open.extend((known..self.identities.len()).map(|identity| Identity(identity as u32)));
        if open.len() > ONE_BY_ONE + known / 16 {
            return None;
        }
        for identity in &open {
            self.place(*identity, tables);
        }
        Some(Followed { identities: open.len(), sets: tables.rules.sets.len() - sets_before })
    }

    /// Finds the identities of pods that changed.
    fn follow_pods(&mut self, pods: &[PodChange], tables: &mut Tables) {
        let entries = tables.pods.clone();
        let rules = &mut tables.rules;
        for change in pods {
            match *change {
                PodChange::Came => {
                    let identity = self.identities.identify(&entries[rules.identities.len()]);
                    Arc::make_mut(rules).identities.push(identity);
                }
                PodChange::Replaced(pod) => {
                    let identity = self.identities.identify(&entries[pod.0 as usize]);
                    if rules.identity(pod) != identity {
                        Arc::make_mut(rules).identities[pod.0 as usize] = identity;
                    }
                }
                PodChange::Left(pod) => drop(Arc::make_mut(rules).identities.swap_remove(pod.0 as usize)),
            }
        }
    }

    /// Finds the class and the selections of an identity that is new, or whose namespace has other labels.
    fn place(&mut self, identity: Identity, tables: &mut Tables) {
        self.added += 1;
        let namespaces = tables.namespaces.clone();
        let mut rules = std::mem::take(&mut tables.rules);
        let built = Arc::make_mut(&mut rules);
        let (peers, selecting) = self.matching(identity, &namespaces);
        let class = self.classes.find(&peers).unwrap_or_else(|| {
            let late = self.late_class(&peers, built);
            self.added += late.len();
            built.late.push(Arc::new(late));
            self.classes.add(peers)
        });
        put(&mut built.classes, identity, class);
        for direction in [Direction::FromPod, Direction::ToPod] {
            let has_rules = |index: &PolicyIndex| self.policies[index.0 as usize].rules(direction).is_some();
            let selecting = selecting.iter().copied().filter(has_rules).collect();
            let selection = self.select(direction, selecting, tables, built);
            put(built.selections_of(direction), identity, selection);
        }
        let alike = self.alike(identity, built);
        put(&mut built.alike, identity, alike);
        tables.rules = rules;
    }

    /// The peers that hold an identity, and the policies that select it.
    fn matching(&self, identity: Identity, namespaces: &NamespaceLabels) -> (Peers, Vec<PolicyIndex>) {
        let matches = self.identities.matcher(identity, namespaces);
        let numbered = (0u32..).map(PolicyIndex).zip(&self.policies);
        let selecting = numbered.filter(|(_, policy)| matches(&policy.subject)).map(|(index, _)| index);
        (self.classes.holding(&matches), selecting.collect())
    }

    /// What all sets say about a class that `peers` hold.
    fn late_class(&self, peers: &Peers, built: &RuleSets) -> LateClass {
        let mut positions: BTreeMap<SetIndex, BTreeSet<u32>> = BTreeMap::new();
        for (set, position) in peers.iter().flat_map(|peer| &self.uses[*peer as usize]) {
            positions.entry(*set).or_default().insert(*position);
        }
        let rules = positions.into_iter().map(|(index, positions)| {
            let (set, direction) = (built.set(index), self.directions[index.0 as usize]);
            let matches = positions.iter().flat_map(|&position| {
                let (rule, _) = set.rules[position as usize];
                let rules = self.policies[rule.policy.0 as usize].rules(direction).unwrap_or_default();
                rules[rule.index as usize].ports.iter().map(move |port| (position, port))
            });
            (index, PortRules::build(matches))
        });
        LateClass::new(rules.collect())
    }

    /// By identity, the policies that select it in `direction`.
    fn selecting(&self, direction: Direction, namespaces: &NamespaceLabels) -> Vec<Vec<PolicyIndex>> {
        let mut selecting: Vec<Vec<PolicyIndex>> = vec![Vec::new(); self.identities.len()];
        for (index, policy) in (0u32..).map(PolicyIndex).zip(&self.policies) {
            if policy.rules(direction).is_some() {
                for identity in self.identities.matching(&policy.subject, namespaces) {
                    selecting[identity.0 as usize].push(index);
                }
            }
        }
        selecting
    }

    /// The selection of the pods that `policies`, in order of evaluation, select.
    fn select(
        &mut self,
        direction: Direction,
        policies: Vec<PolicyIndex>,
        tables: &Tables,
        built: &mut RuleSets,
    ) -> Option<SelectionIndex> {
        if policies.is_empty() {
            return None;
        }
        let key = (direction, policies);
        if let Some(&number) = self.selections.get(&key) {
            return Some(number);
        }
        let number = SelectionIndex(built.selections.len() as u32);
        let selection = self.selection(direction, &key.1, &tables.nodes, built);
        built.selections.push(selection);
        self.selections.insert(key, number);
        Some(number)
    }

    fn selection(
        &mut self,
        direction: Direction,
        policies: &[PolicyIndex],
        nodes: &[NodeEntry],
        built: &mut RuleSets,
    ) -> Selection {
        Selection::new(|view| {
            let mut sets = TierSets::default();
            let tier = |index: &PolicyIndex| self.policies[index.0 as usize].entry.tier;
            let of_tiers: Vec<&[PolicyIndex]> = policies.chunk_by(|one, other| tier(one) == tier(other)).collect();
            for of_tier in of_tiers {
                let tier = self.policies[of_tier[0].0 as usize].entry.tier;
                let is_in_force = |index: &&PolicyIndex| {
                    let entry = &self.policies[index.0 as usize].entry;
                    view.has(entry.dry_run, entry.keeps_established)
                };
                let in_force: Vec<PolicyIndex> = of_tier.iter().filter(is_in_force).copied().collect();
                if !in_force.is_empty() {
                    sets.0[tier as usize] = Some(self.set(direction, in_force, nodes, built));
                }
            }
            sets
        })
    }

    fn set(
        &mut self,
        direction: Direction,
        policies: Vec<PolicyIndex>,
        nodes: &[NodeEntry],
        built: &mut RuleSets,
    ) -> SetIndex {
        let key = (direction, policies);
        if let Some(&number) = self.sets.get(&key) {
            return number;
        }
        let read: Vec<_> = key.1.iter().map(|&index| (index, &self.policies[index.0 as usize])).collect();
        let number = SetIndex(built.sets.len() as u32);
        let (set, uses) = rule_set::build(direction, &read, &self.classes, nodes);
        self.added += 1 + set.by_class.len();
        uses.into_iter().for_each(|(peer, position)| self.uses[peer as usize].push((number, position)));
        built.sets.push(Arc::new(set));
        self.directions.push(direction);
        self.sets.insert(key, number);
        number
    }

    /// A number that is equal where the sets in force and the class are the same.
    fn alike(&mut self, identity: Identity, built: &RuleSets) -> u32 {
        let in_force = |selections: &[Option<SelectionIndex>]| {
            let selection = selections[identity.0 as usize];
            selection.map_or(TierSets::default(), |index| built.selections[index.0 as usize].in_view(View::ENFORCED))
        };
        let next = self.alike.len() as u32;
        let told_by = (in_force(&built.from_pod), in_force(&built.to_pod), built.classes[identity.0 as usize]);
        *self.alike.entry(told_by).or_insert(next)
    }
}

/// Puts what belongs to an identity at its place, which may be the first behind the end.
fn put<T>(list: &mut Vec<T>, identity: Identity, value: T) {
    match list.get_mut(identity.0 as usize) {
        Some(place) => *place = value,
        None => list.push(value),
    }
}

/// All policies in order of evaluation.
fn read_all(cluster: &Cluster, problems: &mut Vec<Problem>) -> Vec<Policy> {
    let network_policies = cluster
        .network_policies
        .iter()
        .map(|((namespace, name), sourced)| (&sourced.source, network_policy::read(namespace, name, &sourced.object)));
    let cluster_policies = cluster
        .cluster_network_policies
        .iter()
        .map(|((_, name), sourced)| (&sourced.source, cluster_network_policy::read(name, &sourced.object)));
    let mut policies = Vec::new();
    for (source, mut policy) in network_policies.chain(cluster_policies) {
        tell(source, &mut policy, problems);
        policies.push(policy);
    }
    let order = |policy: &Policy| {
        let entry = &policy.entry;
        (entry.tier, entry.priority, entry.namespace.clone(), entry.name.clone())
    };
    policies.sort_by_cached_key(order);
    policies
}

fn tell(source: &Source, policy: &mut Policy, problems: &mut Vec<Problem>) {
    let entry = &policy.entry;
    let kind = match entry.object {
        PolicyObject::NetworkPolicy(_) => "NetworkPolicy",
        PolicyObject::ClusterNetworkPolicy(_) => "ClusterNetworkPolicy",
    };
    for mistake in policy.mistakes.drain(..) {
        let object = ObjectRef::new(kind, &*entry.namespace, &*entry.name);
        problems.push(Problem::of(source, object, mistake.field, mistake.message, mistake.severity));
    }
}

#[cfg(test)]
mod tests;
