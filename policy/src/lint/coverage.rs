//! Rules that another rule makes superfluous or overrules, and ClusterNetworkPolicies whose order says nothing (W25).
//!
//! Compared are a rule and one other, for all pods that the rule's policy selects: the other must match every peer and port
//! that the rule matches. That several others together do, is not looked for: it is mostly chance.

use super::policies::{Policies, RuleView};
use super::stand_ins::StandIns;
use super::{Check, Finding};
use crate::tables::{Action, Tier};
use std::collections::HashSet;

pub(super) fn check(policies: &Policies<'_>, alone: &StandIns, findings: &mut Vec<Finding>) {
    let rules: Vec<(usize, &RuleView)> = policies.rules.iter().enumerate().collect();
    let compare = Comparison { policies, alone };
    for &(number, rule) in &rules {
        if compare.is_empty(number) {
            continue;
        }
        let policy = policies.of_rule(rule);
        let others = rules.iter().filter(|(other, view)| *other != number && view.direction == rule.direction);
        let mut others = others.filter_map(|&(other, view)| {
            let relation = compare.relation((number, rule), (other, view))?;
            compare.is_within(number, other).then_some((relation, view))
        });
        let Some((check, other)) = others.next() else { continue };
        let (by, action) = (policies.of_rule(other), other.action);
        let other =
            if by.index == policy.index { other.field.clone() } else { format!("{} {}", by.full_name(), other.field) };
        let message = match check {
            Check::RuleCovered => {
                format!("does nothing that {other} does not do for the same pods: remove it, or narrow one of them")
            }
            _ => format!(
                "never decides: {other} comes first, matches all of it and {}: reorder or remove it",
                does(action)
            ),
        };
        findings.push(policy.finding(check, rule.field.clone(), message));
    }
    equal_priorities(&compare, &rules, findings);
}

fn does(action: Action) -> &'static str {
    match action {
        Action::Accept => "accepts it",
        Action::Deny => "denies it",
        Action::Pass => "passes it on",
    }
}

struct Comparison<'a> {
    policies: &'a Policies<'a>,
    alone: &'a StandIns,
}

impl Comparison<'_> {
    /// What it means for a rule if another one matches all that it matches; `None` if it means nothing.
    fn relation(&self, (number, rule): (usize, &RuleView), (other, view): (usize, &RuleView)) -> Option<Check> {
        let (policy, by) = (self.policies.of_rule(rule), self.policies.of_rule(view));
        // A policy in dry run does nothing for one that is in force.
        if by.is_dry_run && !policy.is_dry_run || !policy.selected.is_subset(&by.selected) {
            return None;
        }
        let earlier = other < number;
        match (policy.tier, by.tier) {
            // Rules of NetworkPolicies have no order. Of two that cover each other the later one is told.
            (Tier::NetworkPolicy, Tier::NetworkPolicy) => {
                let mutual = by.selected.is_subset(&policy.selected)
                    && policy.is_dry_run == by.is_dry_run
                    && self.is_within(other, number);
                (earlier || !mutual).then_some(Check::RuleCovered)
            }
            (Tier::NetworkPolicy, Tier::Admin) => match view.action {
                Action::Accept => Some(Check::RuleCovered),
                Action::Deny => Some(Check::RuleShadowed),
                Action::Pass => None,
            },
            (tier, of) if tier == of && earlier => {
                Some(if rule.action == view.action { Check::RuleCovered } else { Check::RuleShadowed })
            }
            _ => None,
        }
    }

    /// Whether a rule matches nothing for any pod.
    fn is_empty(&self, rule: usize) -> bool {
        let groups = &self.policies.of_rule(&self.policies.rules[rule]).selected;
        groups
            .iter()
            .all(|group| self.alone.extent(rule, *group).is_none_or(|extent| extent.iter().all(|ports| *ports == 0)))
    }

    /// Whether `outer` matches all that `inner` matches, for every pod that `inner`'s policy selects.
    fn is_within(&self, inner: usize, outer: usize) -> bool {
        let groups = &self.policies.of_rule(&self.policies.rules[inner]).selected;
        groups.iter().all(|group| {
            let Some(extents) = self.alone.extent(inner, *group).zip(self.alone.extent(outer, *group)) else {
                return false;
            };
            extents.0.iter().zip(extents.1).all(|(inner, outer)| inner == outer || self.alone.is_within(*inner, *outer))
        })
    }

    /// Whether two rules match something in common, for a pod that both their policies select.
    fn meets(&self, one: usize, other: usize) -> bool {
        let policy = |rule: usize| self.policies.of_rule(&self.policies.rules[rule]);
        policy(one).selected.intersection(&policy(other).selected).any(|group| {
            let extents = self.alone.extent(one, *group).zip(self.alone.extent(other, *group));
            extents.is_some_and(|(one, other)| {
                one.iter().zip(other).any(|(one, other)| *one != 0 && *other != 0 && self.alone.meets(*one, *other))
            })
        })
    }
}

/// Pairs of ClusterNetworkPolicies between which only their names decide.
fn equal_priorities(compare: &Comparison<'_>, rules: &[(usize, &RuleView)], findings: &mut Vec<Finding>) {
    let mut known: HashSet<(usize, usize)> = HashSet::new();
    for (at, &(number, rule)) in rules.iter().enumerate() {
        let policy = compare.policies.of_rule(rule);
        if policy.tier == Tier::NetworkPolicy {
            continue;
        }
        for &(other, view) in &rules[..at] {
            let by = compare.policies.of_rule(view);
            let same_rank = by.tier == policy.tier && by.priority == policy.priority && view.policy != rule.policy;
            let differ = same_rank && view.direction == rule.direction && view.action != rule.action;
            if !differ || known.contains(&(view.policy, rule.policy)) || !compare.meets(number, other) {
                continue;
            }
            known.insert((view.policy, rule.policy));
            let message = format!(
                "has the tier and priority of {}, whose {} does something else with flows that {} matches too: give them \
                 different priorities (podplane goes by name then, others may not)",
                by.full_name(),
                view.field,
                rule.field
            );
            findings.push(policy.finding(Check::EqualPriority, "spec.priority", message));
        }
    }
}
