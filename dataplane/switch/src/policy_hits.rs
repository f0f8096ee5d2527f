//! How often policies and their rules decided (N22, W25), for people. Kept under names that hold over table swaps.
//!
//! Counted are decisions, not packets of allowed flows: a flow that is opened, each packet of one that is not, a live flow that a
//! change cuts or lets go on. A rule in dry run is counted for what it would accept; what a dry run would deny is counted where it
//! would be denied.
//!
//! **Default deny.** When no rule of the NetworkPolicies that select a pod accepts a flow, all of them deny it. With a thousand of them
//! that would be a thousand counts per packet, so it is counted for the pod, and told to its policies when somebody asks or the
//! tables change.

use hashbrown::HashMap;
use policy::tables::{Direction, PodIndex, PolicyId, PolicyIndex, RuleRef, Tables, Tier};
use std::collections::BTreeMap;

/// Rules of policies that are gone are forgotten once there are this many more than at the last look.
const GONE_MAX: usize = 4_096;

/// What decided: a rule, or a NetworkPolicy because none of its rules accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decider {
    /// The policy.
    pub policy: PolicyId,
    /// Of what a pod receives (`ToPod`) or sends.
    pub direction: Direction,
    /// Position of the rule in spec.ingress or spec.egress; `None` for the default deny.
    pub rule: Option<u32>,
}

/// How often something decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyHits {
    /// Flows that were let through; of a policy in dry run, flows that its rule would accept.
    pub accepted: u64,
    /// Packets that were to open a flow and flows that were cut.
    pub denied: u64,
    /// Flows that were let through and would have been denied with the policies in dry run in force.
    pub would_deny: u64,
}

impl PolicyHits {
    /// Adds those of another shard.
    pub fn merge(&mut self, other: PolicyHits) {
        self.accepted += other.accepted;
        self.denied += other.denied;
        self.would_deny += other.would_deny;
    }
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Accepted,
    Denied,
    WouldDeny,
}

impl Outcome {
    fn field(self, hits: &mut PolicyHits) -> &mut u64 {
        match self {
            Outcome::Accepted => &mut hits.accepted,
            Outcome::Denied => &mut hits.denied,
            Outcome::WouldDeny => &mut hits.would_deny,
        }
    }
}

/// All counts of a shard.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    deciders: HashMap<Decider, PolicyHits>,
    /// Flows that default deny stopped, under the tables in force.
    isolated: HashMap<(PodIndex, Direction, Outcome), u64>,
    /// Deciders at the last look for those that are gone.
    looked_at: usize,
}

impl Tally {
    /// A rule decided.
    pub(crate) fn count_rule(&mut self, tables: &Tables, direction: Direction, rule: RuleRef, outcome: Outcome) {
        let policy = tables.policies[rule.policy.0 as usize].id;
        let decider = Decider { policy, direction, rule: Some(rule.index) };
        *outcome.field(self.deciders.entry(decider).or_default()) += 1;
    }

    /// None of the rules of the policies that select `pod` accepted.
    pub(crate) fn count_isolated(&mut self, pod: PodIndex, direction: Direction, outcome: Outcome) {
        *self.isolated.entry((pod, direction, outcome)).or_default() += 1;
    }

    /// The tables in force, `old`, give way to `new`.
    pub(crate) fn change(&mut self, old: &Tables, new: &Tables) {
        if !self.isolated.is_empty() {
            for (decider, outcome, count) in told(&self.isolated, old) {
                *outcome.field(self.deciders.entry(decider).or_default()) += count;
            }
            self.isolated.clear();
        }
        if self.deciders.len() > self.looked_at + GONE_MAX {
            self.deciders.retain(|decider, _| new.find_policy(decider.policy).is_some());
            self.looked_at = self.deciders.len();
        }
    }

    /// All counts under `tables`, the ones in force.
    pub(crate) fn all(&self, tables: &Tables) -> Vec<(Decider, PolicyHits)> {
        let mut all: BTreeMap<Decider, PolicyHits> = self.deciders.iter().map(|(of, hits)| (*of, *hits)).collect();
        for (decider, outcome, count) in told(&self.isolated, tables) {
            *outcome.field(all.entry(decider).or_default()) += count;
        }
        all.into_iter().collect()
    }
}

/// The counts of pods as those of the policies that select them. Pods that the same policies select are told together, so it costs
/// what the distinct groups of policies are long, not the pods times their policies.
fn told(isolated: &HashMap<(PodIndex, Direction, Outcome), u64>, tables: &Tables) -> Vec<(Decider, Outcome, u64)> {
    let mut by_group: BTreeMap<(Direction, Outcome, Vec<PolicyIndex>), u64> = BTreeMap::new();
    for ((pod, direction, outcome), count) in isolated {
        *by_group.entry((*direction, *outcome, deniers(tables, *direction, *pod, *outcome))).or_default() += count;
    }
    let of_group = |((direction, outcome, policies), count): ((Direction, Outcome, Vec<PolicyIndex>), u64)| {
        policies.into_iter().map(move |index| {
            let policy = tables.policies[index.0 as usize].id;
            (Decider { policy, direction, rule: None }, outcome, count)
        })
    };
    by_group.into_iter().flat_map(of_group).collect()
}

/// The NetworkPolicies that deny what none of their rules accepts: for a dry run those that are in dry run, unless it only lets
/// others decide.
fn deniers(tables: &Tables, direction: Direction, pod: PodIndex, outcome: Outcome) -> Vec<PolicyIndex> {
    if outcome == Outcome::WouldDeny {
        let is_rehearsed = |index: &PolicyIndex| {
            let policy = &tables.policies[index.0 as usize];
            policy.dry_run && policy.tier == Tier::NetworkPolicy
        };
        let rehearsed: Vec<_> = tables.selecting(direction, pod).into_iter().filter(is_rehearsed).collect();
        if !rehearsed.is_empty() {
            return rehearsed;
        }
    }
    tables.isolating(direction, pod).to_vec()
}
