//! Policies: identities of pods, the policies that select them, and the rule sets that follow.
//!
//! In steps, each of which knows only the one before: every policy is read by itself ([`read`], [`network_policy`],
//! [`cluster_network_policy`]); pods that no selector tells apart become one identity ([`identities`]), identities that no peer tells
//! apart one class ([`classes`]); a rule set is built once for all pods that the same policies of a tier select ([`rule_set`]); a selection
//! puts the sets of the tiers together.

mod classes;
mod cluster_network_policy;
mod identities;
mod network_policy;
mod read;
mod rule_set;

use crate::cluster::Cluster;
use crate::objects::{ObjectRef, Problem, Source};
use crate::rules::{RuleSets, Selection, SelectionIndex, SetIndex, TierSets, View};
use crate::tables::{Direction, NodeEntry, PolicyIndex, PolicyObject, Tables};
use classes::Classes;
use identities::Identities;
use read::Policy;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) {
    let policies = read_all(cluster, problems);
    tables.namespaces = Arc::new(identities::namespaces(cluster));
    let numbered = (0u32..).map(PolicyIndex).zip(&policies);
    let mut ids: Vec<_> = numbered.map(|(index, policy)| (policy.entry.id, index)).collect();
    ids.sort_unstable();
    tables.policy_ids = Arc::new(ids);
    tables.policies = Arc::new(policies.iter().map(|policy| policy.entry.clone()).collect());
    let identities = Identities::of(tables, &policies);
    let classes = Classes::of(&policies, &identities);
    let built = Builder::new(&policies, &identities, &classes, &tables.nodes).build();
    tables.rules = Arc::new(built);
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

/// Builds rule sets and selections, each once for all pods that have it.
struct Builder<'a> {
    policies: &'a [Policy],
    identities: &'a Identities<'a>,
    classes: &'a Classes<'a>,
    nodes: &'a [NodeEntry],
    /// Rule sets by the policies that they are made of, which are all of one tier.
    sets: HashMap<(Direction, Vec<PolicyIndex>), SetIndex>,
    built: RuleSets,
}

impl<'a> Builder<'a> {
    fn new(
        policies: &'a [Policy],
        identities: &'a Identities<'a>,
        classes: &'a Classes<'a>,
        nodes: &'a [NodeEntry],
    ) -> Builder<'a> {
        Builder { policies, identities, classes, nodes, sets: HashMap::new(), built: RuleSets::default() }
    }

    fn build(mut self) -> RuleSets {
        self.built.identities = self.identities.of_pod.clone();
        self.built.classes = self.classes.of_identity.clone();
        self.built.from_pod = self.select(Direction::FromPod);
        self.built.to_pod = self.select(Direction::ToPod);
        self.built.alike = alike(&self.built);
        self.built
    }

    /// By identity, the selection in `direction`.
    fn select(&mut self, direction: Direction) -> Vec<Option<SelectionIndex>> {
        let mut selecting: Vec<Vec<PolicyIndex>> = vec![Vec::new(); self.identities.len()];
        for (index, policy) in (0u32..).map(PolicyIndex).zip(self.policies) {
            if policy.rules(direction).is_some() {
                for identity in self.identities.matching(&policy.subject) {
                    selecting[identity.0 as usize].push(index);
                }
            }
        }
        let mut selections: HashMap<Vec<PolicyIndex>, SelectionIndex> = HashMap::new();
        let numbers = selecting.into_iter().map(|policies| {
            if policies.is_empty() {
                return None;
            }
            if let Some(&number) = selections.get(&policies) {
                return Some(number);
            }
            let number = SelectionIndex(self.built.selections.len() as u32);
            let selection = self.selection(direction, &policies);
            self.built.selections.push(selection);
            selections.insert(policies, number);
            Some(number)
        });
        numbers.collect()
    }

    /// The selection of the pods that `policies`, in order of evaluation, select.
    fn selection(&mut self, direction: Direction, policies: &[PolicyIndex]) -> Selection {
        Selection::new(|view| {
            let mut sets = TierSets::default();
            let policy = |index: &PolicyIndex| &self.policies[index.0 as usize].entry;
            for of_tier in policies.chunk_by(|one, other| policy(one).tier == policy(other).tier) {
                let is_in_force =
                    |index: &&PolicyIndex| view.has(policy(index).dry_run, policy(index).keeps_established);
                let in_force: Vec<PolicyIndex> = of_tier.iter().filter(is_in_force).copied().collect();
                if !in_force.is_empty() {
                    sets.0[policy(&of_tier[0]).tier as usize] = Some(self.set(direction, in_force));
                }
            }
            sets
        })
    }

    fn set(&mut self, direction: Direction, policies: Vec<PolicyIndex>) -> SetIndex {
        let key = (direction, policies);
        if let Some(&number) = self.sets.get(&key) {
            return number;
        }
        let read: Vec<_> = key.1.iter().map(|&index| (index, &self.policies[index.0 as usize])).collect();
        let number = SetIndex(self.built.sets.len() as u32);
        self.built.sets.push(Arc::new(rule_set::build(direction, &read, self.classes, self.nodes)));
        self.sets.insert(key, number);
        number
    }
}

/// By identity: equal numbers where the sets in force and the class are the same.
fn alike(built: &RuleSets) -> Vec<u32> {
    let mut numbers = HashMap::new();
    let in_force = |selection: &Option<SelectionIndex>| {
        selection.map_or(TierSets::default(), |index| built.selections[index.0 as usize].in_view(View::ENFORCED))
    };
    let told_by = built.from_pod.iter().zip(&built.to_pod).zip(&built.classes);
    let numbered = told_by.map(|((from_pod, to_pod), class)| {
        let next = numbers.len() as u32;
        *numbers.entry((in_force(from_pod), in_force(to_pod), *class)).or_insert(next)
    });
    numbered.collect()
}

#[cfg(test)]
mod tests;
