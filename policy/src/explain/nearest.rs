//! Why rules do not match a flow: how near each came, and the field in which it failed. Which rules match is not decided here:
//! the tables have said that none of these does.

use super::reading::{self, Peer, Rule};
use super::words;
use super::{Flow, UNMATCHED_MAX, place};
use crate::tables::{Action, Direction, PolicyEntry, PolicyIndex, Tier, TierStep};

/// How near a rule came to accept a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    NoRule,
    Neither,
    Ports,
    Peers,
    /// Both match, so the rule is closed for a field that is not understood.
    Closed,
}

/// What is said of the policies that isolate a pod.
#[derive(Default)]
pub(super) struct Unmatched {
    /// The nearest rule of all and the field that failed.
    pub(super) rule: Option<String>,
    /// One for each policy, the nearest first; one more than [`UNMATCHED_MAX`] if there are more.
    pub(super) sentences: Vec<String>,
}

/// Why no rule of `policies` matches the flow.
pub(super) fn of_policies(flow: &Flow<'_>, policies: &[&PolicyEntry]) -> Unmatched {
    let mut nearest: Vec<(Nearness, String, usize)> = policies.iter().map(|policy| of_policy(flow, policy)).collect();
    // A stable sort: of equals the first.
    nearest.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    let rule = nearest.first().map(|(_, text, _)| text.clone());
    let sentences = nearest.into_iter().map(|(_, text, rules)| match rules {
        0 | 1 => text,
        _ => format!("{text} (the nearest of its {rules} rules)"),
    });
    Unmatched { rule, sentences: sentences.collect() }
}

/// The nearest rule of a policy, why it does not accept the flow, and how many rules there are.
fn of_policy(flow: &Flow<'_>, policy: &PolicyEntry) -> (Nearness, String, usize) {
    let direction = flow.question.direction;
    let rules = reading::rules(policy, direction);
    let mut nearest: Option<(Nearness, usize)> = None;
    for (index, rule) in rules.iter().enumerate() {
        let nearness = nearness(flow, rule);
        if nearest.is_none_or(|(found, _)| nearness > found) {
            nearest = Some((nearness, index));
        }
    }
    match nearest {
        None => {
            let text = format!("{policy} spec.{}: there is no rule, so nothing is allowed", super::list(direction));
            (Nearness::NoRule, text, 0)
        }
        Some((nearness, index)) => {
            (nearness, failure(flow, &place(policy, direction, index), &rules[index], nearness), rules.len())
        }
    }
}

fn nearness(flow: &Flow<'_>, rule: &Rule<'_>) -> Nearness {
    match (rule.matches_peer(flow), rule.matches_port(flow)) {
        (true, true) => Nearness::Closed,
        (true, false) => Nearness::Peers,
        (false, true) => Nearness::Ports,
        (false, false) => Nearness::Neither,
    }
}

/// The field of the rule at `place` that failed.
fn failure(flow: &Flow<'_>, place: &str, rule: &Rule<'_>, nearness: Nearness) -> String {
    if rule.closed || nearness == Nearness::Closed {
        return format!("{place}: is closed because of a field that is not understood: podplane check names it");
    }
    let (peers, ports) = (rule.peers_field, rule.ports_field);
    let wrong_peer = || format!("{} is not in [{}]", words::peer(flow, rule), words::peers(&rule.peers));
    let wrong_port = || format!("{} is not in [{}]", words::port(flow), words::ports(flow, &rule.ports));
    match nearness {
        Nearness::Peers => format!("{place}.{ports}: {}", wrong_port()),
        Nearness::Ports => format!("{place}.{peers}: {}", wrong_peer()),
        _ => format!("{place}.{peers}: {}; .{ports}: {}", wrong_peer(), wrong_port()),
    }
}

/// The rules that come before what decided and would accept the flow, had the pod looked up one of their names and got the
/// other end's address. `policies` are in order of evaluation.
pub(super) fn names_wanted(flow: &Flow<'_>, policies: &[PolicyIndex], tiers: &[TierStep]) -> Vec<String> {
    if flow.question.direction == Direction::ToPod {
        return Vec::new();
    }
    let mut found = Vec::new();
    for step in tiers.iter().filter(|step| step.tier != Tier::NetworkPolicy) {
        for index in policies.iter().filter(|index| flow.tables.policy(**index).tier == step.tier) {
            let policy = flow.tables.policy(*index);
            for (position, rule) in reading::rules(policy, Direction::FromPod).iter().enumerate() {
                let is_before = step.matched.is_none_or(|(end, _)| (*index, position as u32) < (end.policy, end.index));
                if !is_before || found.len() > UNMATCHED_MAX {
                    break;
                }
                found.extend(name_wanted(flow, policy, position, rule));
            }
        }
    }
    found
}

fn name_wanted(flow: &Flow<'_>, policy: &PolicyEntry, position: usize, rule: &Rule<'_>) -> Option<String> {
    let names = rule.peers.iter().filter_map(|peer| match peer {
        Peer::Names(names) => Some(*names),
        _ => None,
    });
    let names: Vec<String> = names.flatten().cloned().collect();
    if names.is_empty() || rule.closed || rule.action != Action::Accept || !rule.matches_port(flow) {
        return None;
    }
    let place = place(policy, Direction::FromPod, position);
    let known = match flow.question.names {
        [] => "none of these names is known to lead there".to_owned(),
        known => format!("it has only resolved {}", words::listed(known.iter().map(ToString::to_string).collect())),
    };
    let (title, names, peer) = (words::title(policy, rule), words::listed(names), flow.question.peer);
    Some(format!("{place}{title} would accept it if the pod had resolved {names} to {peer}: {known}"))
}
