//! Peers that match nothing, address blocks that cannot be meant, and port names that nobody has.

use super::atoms::Atoms;
use super::policies::{PeerKind, Policies, RuleView};
use super::stand_ins::StandIns;
use super::{Check, Finding};
use crate::diff::survey::{Spot, Survey};
use crate::tables::{Direction, PodIndex};
use std::net::IpAddr;
use wire::Protocol;

pub(super) fn check(
    policies: &Policies<'_>,
    alone: &StandIns,
    survey: &Survey<'_>,
    atoms: &Atoms,
    findings: &mut Vec<Finding>,
) {
    if survey.groups().next().is_none() {
        // That the policies select nothing is all that can be said.
        return;
    }
    let groups: Vec<Vec<PodIndex>> = survey.groups().collect();
    for (number, rule) in policies.rules.iter().enumerate() {
        let policy = policies.of_rule(rule);
        for (position, peer) in rule.peers.iter().enumerate() {
            let matched = alone.peer(number, position);
            let spots = || atoms.all.iter().zip(matched).filter(|(_, matched)| **matched).map(|(atom, _)| atom);
            let nothing = spots().next().is_none();
            let found = match (peer.kind, nothing) {
                (PeerKind::Pods, true) => {
                    let message =
                        "matches no pod: correct the labels (they hold for namespaces and pods at once), or remove it";
                    Some((Check::PeerMatchesNothing, message))
                }
                (PeerKind::Nodes, true) => {
                    Some((Check::PeerMatchesNothing, "matches no node: correct the labels, or remove it"))
                }
                (PeerKind::Addresses, true) => Some((
                    Check::IpBlockEmpty,
                    "matches no address: its exceptions leave nothing; correct or remove it",
                )),
                (PeerKind::Addresses, false) if spots().all(|atom| is_of_pods(&atom.spot, atom.addr, survey)) => {
                    let message = "matches only addresses that pods get, and which pod gets one may change: select pods by labels";
                    Some((Check::IpBlockOnlyPods, message))
                }
                _ => None,
            };
            if let Some((check, message)) = found {
                findings.push(policy.finding(check, peer.field.clone(), message));
            }
        }
        for (field, protocol, name) in &rule.port_names {
            let pods = concerned(policies, rule, number, alone, atoms);
            let mut ports =
                pods.iter().flat_map(|group| &groups[*group]).flat_map(|pod| &survey.tables.pod(*pod).ports);
            let is_it = |of: Protocol| protocol.is_none_or(|protocol| protocol == of);
            if pods.is_empty() || ports.any(|port| *port.name == **name && is_it(port.protocol)) {
                continue;
            }
            let whose =
                if rule.direction == Direction::ToPod { "that the policy selects" } else { "that the rule allows" };
            let protocol = protocol.map(|protocol| format!("{protocol} ")).unwrap_or_default();
            let message = format!(
                "no pod {whose} has a {protocol}port named {name:?}, so it matches nothing: name a port of theirs, or give its number"
            );
            findings.push(policy.finding(Check::NamedPortNowhere, field.clone(), message));
        }
    }
}

/// Groups of pods whose port names a rule reads.
fn concerned(policies: &Policies<'_>, rule: &RuleView, number: usize, alone: &StandIns, atoms: &Atoms) -> Vec<usize> {
    if rule.direction == Direction::ToPod {
        return policies.of_rule(rule).selected.iter().copied().collect();
    }
    let is_peer = |position: usize| {
        let any = (0..rule.peers.len()).any(|peer| alone.peer(number, peer).get(position) == Some(&true));
        rule.peers.is_empty() || any
    };
    let groups = atoms.all.iter().enumerate().filter(|(position, _)| is_peer(*position)).filter_map(|(_, atom)| {
        match atom.spot {
            Spot::Pods(group) => Some(group),
            _ => None,
        }
    });
    groups.collect()
}

/// Whether an address is a pod's, or in a range from which only pods get theirs.
fn is_of_pods(spot: &Spot, addr: IpAddr, survey: &Survey<'_>) -> bool {
    let mut ranges = survey.tables.nodes.iter().flat_map(|node| &node.pod_cidrs);
    match spot {
        Spot::Pods(_) => true,
        Spot::Outside(first, last) => ranges.any(|range| range.contains(first) && range.contains(last)),
        Spot::Nodes => ranges.any(|range| range.contains(&addr)),
    }
}
