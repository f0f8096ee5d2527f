//! Puts what differs together: many places that share a fate become one change.

use super::judge::{Edge, Place};
use super::names::Names;
use super::{Change, Flows};
use crate::conversation::Conversation;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What flows must share to be one change.
type Fate<'a> = (Option<u8>, &'a [Flows], u32);

/// The changes that open (or close) flows, in the order of their words.
pub(super) fn changes(edges: &[Edge<'_>], opens: bool, names: &Names<'_>) -> Vec<Change> {
    let mut senders: BTreeMap<(Fate<'_>, Place), BTreeSet<Place>> = BTreeMap::new();
    let mut examples: HashMap<(Fate<'_>, Place, Place), &Edge<'_>> = HashMap::new();
    for edge in edges.iter().filter(|edge| edge.opens == opens) {
        let fate = (edge.family, edge.flows.as_slice(), edge.reason);
        senders.entry((fate, edge.to)).or_default().insert(edge.from);
        examples.insert((fate, edge.from, edge.to), edge);
    }
    let mut receivers: BTreeMap<(Fate<'_>, BTreeSet<Place>), BTreeSet<Place>> = BTreeMap::new();
    // No pod sends to itself here, so a pod that is alone among its receivers' senders lacks only itself: with it the sets of
    // pods that all may reach each other are equal.
    let mut with_itself: HashMap<(Fate<'_>, BTreeSet<Place>), usize> = HashMap::new();
    for ((fate, to), from) in &senders {
        let mut all = from.clone();
        all.insert(*to);
        *with_itself.entry((*fate, all)).or_default() += 1;
    }
    for ((fate, to), from) in senders {
        let mut all = from.clone();
        all.insert(to);
        let key = (fate, all);
        let alone = matches!(to, Place::Pods(group) if names.is_alone(group));
        let from = if with_itself[&key] > 1 && (alone || from.contains(&to)) { key.1 } else { from };
        receivers.entry((fate, from)).or_default().insert(to);
    }
    let mut changes: Vec<Change> = receivers
        .into_iter()
        .map(|((fate, from), to)| {
            let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (fate, *from, *to)));
            let example = pairs.filter_map(|key| examples.get(&key)).next().expect("a change has a flow");
            Change {
                from: names.party(&from),
                to: names.party(&to),
                family: fate.0,
                flows: fate.1.to_vec(),
                now: reason(&example.example.new, fate.1),
                before: reason(&example.example.old, fate.1),
            }
        })
        .collect();
    changes.sort_by(|a, b| (&a.from, &a.to, a.family, &a.flows).cmp(&(&b.from, &b.to, b.family, &b.flows)));
    changes
}

/// What decided, in words that hold for all of `flows`.
fn reason(example: &Conversation<'_>, flows: &[Flows]) -> String {
    let is_one = |flows: &Flows| flows.ports.iter().all(|port| !port.contains('-')) && flows.ports.len() <= 1;
    if matches!(flows, [only] if is_one(only)) { example.reason() } else { example.reason_for_all() }
}
