//! Policies in the shape of [`crate::api`].

use super::direction_text;
use crate::agent::Agent;
use crate::api::{ApiError, Policy, PolicyRule};
use policy::objects::cluster_network_policy;
use policy::tables::{Direction, NodeIndex, PolicyEntry, PolicyIndex, PolicyObject, Tables, Tier};
use std::collections::{BTreeMap, BTreeSet};
use switch::{Decider, PolicyHits};

impl Agent {
    /// All policies in force, in order of evaluation.
    pub(crate) fn policies(&self) -> Result<Vec<Policy>, ApiError> {
        let (running, tables) = self.running()?;
        let hits: BTreeMap<Decider, PolicyHits> = running.policy_hits().into_iter().collect();
        let selected = selected(&tables, tables.find_node(&self.config.node_name));
        let entries = (0u32..).map(PolicyIndex).zip(tables.policies.iter());
        Ok(entries.map(|(index, entry)| policy(entry, selected.get(&index).copied().unwrap_or(0), &hits)).collect())
    }
}

/// How many pods of the node `own` each policy selects, in either direction.
fn selected(tables: &Tables, own: Option<NodeIndex>) -> BTreeMap<PolicyIndex, usize> {
    let mut counts = BTreeMap::new();
    let local = tables.pods().filter(|(_, pod)| own.is_some() && pod.node == own);
    for (pod, _) in local {
        let both = [Direction::ToPod, Direction::FromPod].map(|direction| tables.selecting(direction, pod));
        let policies: BTreeSet<PolicyIndex> = both.into_iter().flatten().collect();
        policies.into_iter().for_each(|policy| *counts.entry(policy).or_default() += 1);
    }
    counts
}

fn policy(entry: &PolicyEntry, pods: usize, hits: &BTreeMap<Decider, PolicyHits>) -> Policy {
    let (kind, priority) = match &entry.object {
        PolicyObject::NetworkPolicy(_) => ("NetworkPolicy", None),
        PolicyObject::ClusterNetworkPolicy(_) => ("ClusterNetworkPolicy", Some(entry.priority)),
    };
    let of = |direction, rule| hits.get(&Decider { policy: entry.id, direction, rule }).copied().unwrap_or_default();
    let mut by_default = of(Direction::ToPod, None);
    by_default.merge(of(Direction::FromPod, None));
    let rule = |(direction, index, name, action): (Direction, u32, String, &str)| {
        let PolicyHits { accepted, denied, would_deny } = of(direction, Some(index));
        let (direction, action) = (direction_text(direction).to_owned(), action.to_owned());
        PolicyRule { direction, index, name, action, accepted, denied, would_deny }
    };
    Policy {
        kind: kind.to_owned(),
        namespace: entry.namespace.to_string(),
        name: entry.name.to_string(),
        tier: match entry.tier {
            Tier::Admin => "Admin",
            Tier::NetworkPolicy => "NetworkPolicy",
            Tier::Baseline => "Baseline",
        }
        .to_owned(),
        priority,
        dry_run: entry.dry_run,
        established: if entry.keeps_established { "keep" } else { "cut" }.to_owned(),
        pods,
        default_denied: by_default.denied,
        default_would_deny: by_default.would_deny,
        rules: rules(&entry.object).into_iter().map(rule).collect(),
    }
}

/// The rules of a policy with their positions, names and actions.
fn rules(object: &PolicyObject) -> Vec<(Direction, u32, String, &'static str)> {
    let mut rules = Vec::new();
    match object {
        PolicyObject::NetworkPolicy(policy) => {
            let spec = policy.spec.as_ref();
            let ingress = spec.and_then(|spec| spec.ingress.as_ref()).map_or(0, Vec::len);
            let egress = spec.and_then(|spec| spec.egress.as_ref()).map_or(0, Vec::len);
            for (direction, count) in [(Direction::ToPod, ingress), (Direction::FromPod, egress)] {
                rules.extend((0..count as u32).map(|index| (direction, index, String::new(), "Accept")));
            }
        }
        PolicyObject::ClusterNetworkPolicy(policy) => {
            let ingress = policy.spec.ingress.iter().flatten().map(|rule| (&rule.name, rule.action));
            let egress = policy.spec.egress.iter().flatten().map(|rule| (&rule.name, rule.action));
            let mut add = |direction, index, name: &Option<String>, action: cluster_network_policy::Action| {
                rules.push((direction, index, name.clone().unwrap_or_default(), action.as_str()));
            };
            (0u32..).zip(ingress).for_each(|(index, (name, action))| add(Direction::ToPod, index, name, action));
            (0u32..).zip(egress).for_each(|(index, (name, action))| add(Direction::FromPod, index, name, action));
        }
    }
    rules
}
