//! Asks both sides about every kind of flow that may differ, and keeps what does.

use super::Flows;
use super::pairs::{Group, Pairs, PodPair, addresses};
use super::peers::{NodeAddress, Peer, Peers};
use crate::conversation::{Conversation, End};
use crate::partition::{Cuts, TRANSPORTS};
use crate::tables::{Direction, PodIndex, PolicyIndex, RuleRef, Tables, VerdictReason};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use wire::Protocol;

/// One side of a change: pods or addresses that share every verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// A number in [`Pairs::groups`].
    Pods(u32),
    /// A number in [`Peers::peers`].
    Peer(u32),
    /// A number in [`Peers::names`].
    Name(u32),
}

/// A flow on both sides.
#[derive(Clone)]
pub(super) struct Example<'a> {
    pub(super) old: Conversation<'a>,
    pub(super) new: Conversation<'a>,
}

/// Flows between two places that open or close for one reason.
pub(super) struct Edge<'a> {
    pub(super) opens: bool,
    pub(super) from: Place,
    pub(super) to: Place,
    /// Set if only one family is concerned although both places have both.
    pub(super) family: Option<u8>,
    /// Protocols and ports.
    pub(super) flows: Arc<Vec<Flows>>,
    /// Equal numbers for equal reasons on both sides.
    pub(super) reason: u32,
    pub(super) example: Example<'a>,
}

/// What decides at one end.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Decision {
    Nobody,
    Rule(RuleRef),
    Exempt,
    Isolated(Vec<PolicyIndex>),
}

/// What decides at both ends on both sides.
type Reason = [Decision; 4];

/// Flows of one family with one reason, before they are put into words.
type Found<'a> = Vec<(Key, (Arc<Vec<Flows>>, Example<'a>))>;

/// Pieces of ports by the cuts of both ends and, where rules name ports, the receiver.
type PieceKey = (Option<u32>, Option<u32>, Option<(PodIndex, PodIndex)>);

/// Ports that all rules treat alike, by protocol.
type Ranges = Vec<(Protocol, RangeInclusive<u16>)>;

/// What tells differences apart: whether the flow opens, and the number of the reasons.
type Key = (bool, u32);

/// Compares flow by flow.
pub(super) struct Judge<'a> {
    old: &'a Tables,
    new: &'a Tables,
    pairs: &'a Pairs,
    peers: &'a Peers,
    cuts: &'a Cuts,
    reasons: HashMap<Reason, u32>,
    pieces: HashMap<PieceKey, Arc<Ranges>>,
    edges: Vec<Edge<'a>>,
    /// How many pairs of places were compared, for tests of what a change costs.
    pub(super) asked: usize,
}

/// Both ends of a flow on both sides, with the cuts that concern it.
struct Flow<'a> {
    old: (End, End),
    new: (End, End),
    pieces: PieceKey,
    names: &'a [Arc<str>],
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        old: &'a Tables,
        new: &'a Tables,
        pairs: &'a Pairs,
        peers: &'a Peers,
        cuts: &'a Cuts,
    ) -> Judge<'a> {
        let (reasons, pieces) = (HashMap::new(), HashMap::new());
        Judge { old, new, pairs, peers, cuts, reasons, pieces, edges: Vec::new(), asked: 0 }
    }

    /// Everything that differs.
    pub(super) fn run(&mut self) -> Vec<Edge<'a>> {
        let pairs = self.pairs;
        for (from, sender) in pairs.groups.iter().enumerate() {
            for (to, receiver) in pairs.groups.iter().enumerate() {
                let may_differ = sender.sends_otherwise
                    || sender.is_otherwise
                    || receiver.receives_otherwise
                    || receiver.is_otherwise;
                if may_differ {
                    self.pods(from, to);
                }
            }
            for number in 0..self.peers.peers.len() {
                self.peer(from, number);
            }
            self.names(from);
        }
        std::mem::take(&mut self.edges)
    }

    fn pods(&mut self, from: usize, to: usize) {
        let Some((sender, receiver)) = self.pairs.examples(from, to) else { return };
        let cuts = (Some(self.pairs.groups[from].send_cuts), Some(self.pairs.groups[to].receive_cuts));
        let places = (Place::Pods(from as u32), Place::Pods(to as u32));
        // Where no rule names addresses, both families have the same answers.
        let families = if self.cuts.cuts_addresses() { &[true, false][..] } else { &[true][..] };
        let mut found = Vec::new();
        for &ipv4 in families {
            let any_family = !self.cuts.cuts_addresses();
            let ends = self.pod_ends(sender, ipv4, any_family).zip(self.pod_ends(receiver, ipv4, any_family));
            if let Some((sender_ends, receiver_ends)) = ends {
                let pieces = (cuts.0, cuts.1, Some((receiver.old, receiver.new)));
                let flow = Flow {
                    old: (sender_ends.0, receiver_ends.0),
                    new: (sender_ends.1, receiver_ends.1),
                    pieces,
                    names: &[],
                };
                found.push((ipv4, self.compare(&flow)));
            }
        }
        self.keep_families(places, found);
    }

    fn peer(&mut self, group: usize, number: usize) {
        let (pods, peer) = (&self.pairs.groups[group], &self.peers.peers[number]);
        let differs = matches!(peer, Peer::Nodes { is_otherwise: true, .. }) || pods.is_otherwise;
        let (place, other) = (Place::Pods(group as u32), Place::Peer(number as u32));
        if (differs || pods.sends_otherwise)
            && let Some((pod, addr)) = self.met(pods, peer, false)
        {
            let found = self.with_address(pod, addr, Direction::FromPod, pods.send_cuts, &[]);
            self.keep((place, other), None, found);
        }
        if (differs || pods.receives_otherwise)
            && let Some((pod, addr)) = self.met(pods, peer, true)
        {
            let found = self.with_address(pod, addr, Direction::ToPod, pods.receive_cuts, &[]);
            self.keep((other, place), None, found);
        }
    }

    /// Rules that name DNS names allow what is sent to addresses that were looked up by such a name.
    fn names(&mut self, group: usize) {
        let pods = &self.pairs.groups[group];
        let pair = self.pairs.pairs[pods.members[0]];
        let reads = self.old.reads_names(pair.old) || self.new.reads_names(pair.new);
        if !reads || !(pods.sends_otherwise || pods.is_otherwise) {
            return;
        }
        let mut seen = HashSet::new();
        for peer in &self.peers.peers {
            let Peer::Outside { example, .. } = peer else { continue };
            let unnamed: HashSet<_> =
                shapes(&self.with_address(pair, *example, Direction::FromPod, pods.send_cuts, &[]));
            for (number, name) in self.peers.names.iter().enumerate() {
                let names = std::slice::from_ref(&name.0);
                let mut found = self.with_address(pair, *example, Direction::FromPod, pods.send_cuts, names);
                found.retain(|(key, (flows, _))| {
                    let shape = (*key, flows.clone());
                    !unnamed.contains(&shape) && seen.insert((number, shape))
                });
                self.keep((Place::Pods(group as u32), Place::Name(number as u32)), None, found);
            }
        }
    }

    /// A pod of the group and an address of the peer that are asked for all of them. A pod's own node always reaches it, so
    /// what is received comes from another one where there is one, and there is nothing to ask where there is not.
    fn met(&self, pods: &Group, peer: &Peer, received: bool) -> Option<(PodPair, IpAddr)> {
        let first = self.pairs.pairs[pods.members[0]];
        match peer {
            Peer::Outside { example, .. } => Some((first, *example)),
            Peer::Nodes { addresses, .. } if !received => Some((first, addresses[0].addr)),
            Peer::Nodes { addresses, .. } => {
                let is_home = |pair: PodPair, at: &NodeAddress| {
                    let homes = (self.old.pod(pair.old).node, self.new.pod(pair.new).node);
                    homes == (Some(at.old), Some(at.new))
                };
                let mut all = pods.members.iter().flat_map(|member| {
                    let pair = self.pairs.pairs[*member];
                    addresses.iter().map(move |at| (pair, at))
                });
                all.find(|(pair, at)| !is_home(*pair, at)).map(|(pair, at)| (pair, at.addr))
            }
        }
    }

    fn with_address(
        &mut self,
        pod: PodPair,
        addr: IpAddr,
        direction: Direction,
        cuts: u32,
        names: &'a [Arc<str>],
    ) -> Found<'a> {
        let Some((old, new)) = self.pod_ends(pod, addr.is_ipv4(), false) else { return Vec::new() };
        let peer = End { addr, pod: None };
        let flow = match direction {
            Direction::FromPod => Flow { old: (old, peer), new: (new, peer), pieces: (Some(cuts), None, None), names },
            Direction::ToPod => {
                let receiver = Some((pod.old, pod.new));
                Flow { old: (peer, old), new: (peer, new), pieces: (None, Some(cuts), receiver), names }
            }
        };
        self.compare(&flow)
    }

    /// The pod as an end of a flow on both sides, if it has an address of the family on both.
    fn pod_ends(&self, pair: PodPair, ipv4: bool, any_family: bool) -> Option<(End, End)> {
        let of = |tables: &'a Tables, pod: PodIndex, ipv4: bool| {
            let addr = addresses(tables, pod).iter().copied().find(|addr| addr.is_ipv4() == ipv4)?;
            Some(End { addr, pod: Some(pod) })
        };
        let both = |ipv4| of(self.old, pair.old, ipv4).zip(of(self.new, pair.new, ipv4));
        both(ipv4).or_else(|| both(!ipv4).filter(|_| any_family))
    }

    /// What differs about a flow, in all protocols and ports.
    fn compare(&mut self, flow: &Flow<'a>) -> Found<'a> {
        self.asked += 1;
        let pieces = self.pieces(flow.pieces);
        let mut by_reason: Vec<(Key, Ranges, Example<'a>)> = Vec::new();
        for (protocol, ports) in pieces.iter() {
            let conversation = |tables, (from, to)| Conversation {
                tables,
                from,
                to,
                protocol: *protocol,
                port: *ports.start(),
                names: flow.names,
            };
            let (old, new) = (conversation(self.old, flow.old), conversation(self.new, flow.new));
            let opens = new.is_allowed();
            if opens == old.is_allowed() {
                continue;
            }
            let key = (opens, self.reason(&old, &new));
            let position = by_reason.iter().position(|(known, ..)| *known == key).unwrap_or_else(|| {
                by_reason.push((key, Vec::new(), Example { old, new }));
                by_reason.len() - 1
            });
            let ranges = &mut by_reason[position].1;
            match ranges.last_mut() {
                Some((last, range)) if last == protocol && range.end().checked_add(1) == Some(*ports.start()) => {
                    *range = *range.start()..=*ports.end();
                }
                _ => ranges.push((*protocol, ports.clone())),
            }
        }
        by_reason.into_iter().map(|(key, ranges, example)| (key, (Arc::new(told(&ranges)), example))).collect()
    }

    fn pieces(&mut self, mut key: PieceKey) -> Arc<Vec<(Protocol, RangeInclusive<u16>)>> {
        let of = |number: Option<u32>| number.map(|number| &self.pairs.cuts[number as usize]);
        let cuts = [of(key.0), of(key.1)];
        if cuts.iter().flatten().all(|cuts| cuts.port_names.is_empty()) {
            key.2 = None;
        }
        let known = self.pieces.entry(key).or_insert_with(|| {
            let mut all = Cuts::default();
            cuts.into_iter().flatten().for_each(|cuts| all.add(cuts));
            let receivers = key.2.map(|(old, new)| [&self.old.pod(old).ports, &self.new.pod(new).ports]);
            let named = || receivers.into_iter().flatten().flatten();
            let protocols = TRANSPORTS.into_iter().chain([Protocol::ICMP]);
            let pieces = protocols.flat_map(|protocol| {
                all.port_pieces(protocol, named()).into_iter().map(move |ports| (protocol, ports))
            });
            Arc::new(pieces.collect())
        });
        known.clone()
    }

    fn reason(&mut self, old: &Conversation<'_>, new: &Conversation<'_>) -> u32 {
        let mut reason = [Decision::Nobody, Decision::Nobody, Decision::Nobody, Decision::Nobody];
        for (side, conversation) in [old, new].into_iter().enumerate() {
            let allowed = conversation.is_allowed();
            for (end, direction) in [Direction::FromPod, Direction::ToPod].into_iter().enumerate() {
                let Some(verdict) = conversation.verdict(direction).filter(|verdict| verdict.allowed == allowed) else {
                    continue;
                };
                let subject = if direction == Direction::FromPod { conversation.from.pod } else { conversation.to.pod };
                reason[2 * side + end] = match (verdict.reason, subject) {
                    (VerdictReason::Rule(rule), _) => Decision::Rule(rule),
                    (VerdictReason::Exempt, _) => Decision::Exempt,
                    (VerdictReason::Isolated, Some(pod)) => {
                        Decision::Isolated(conversation.tables.isolating(direction, pod).to_vec())
                    }
                    _ => Decision::Nobody,
                };
            }
        }
        let next = self.reasons.len() as u32;
        *self.reasons.entry(reason).or_insert(next)
    }

    /// Says a family only where the families differ.
    fn keep_families(&mut self, places: (Place, Place), mut found: Vec<(bool, Found<'a>)>) {
        let same = match found.as_slice() {
            [(_, first), (_, second)] => shapes(first) == shapes(second),
            _ => true,
        };
        if same {
            found.truncate(1);
        }
        for (ipv4, found) in found {
            let family = (!same).then_some(if ipv4 { 4 } else { 6 });
            self.keep(places, family, found);
        }
    }

    fn keep(&mut self, (from, to): (Place, Place), family: Option<u8>, found: Found<'a>) {
        let edges = found.into_iter().map(|((opens, reason), (flows, example))| Edge {
            opens,
            from,
            to,
            family,
            flows,
            reason,
            example,
        });
        self.edges.extend(edges);
    }
}

/// What was found, without the examples.
fn shapes(found: &Found<'_>) -> HashSet<(Key, Arc<Vec<Flows>>)> {
    found.iter().map(|(key, (flows, _))| (*key, flows.clone())).collect()
}

/// Ranges of ports by protocol, as people write them.
fn told(ranges: &[(Protocol, RangeInclusive<u16>)]) -> Vec<Flows> {
    let mut flows: Vec<Flows> = Vec::new();
    for (protocol, ports) in ranges {
        let protocol = protocol.to_string();
        if flows.last().is_none_or(|last| last.protocol != protocol) {
            flows.push(Flows { protocol, ports: Vec::new() });
        }
        let listed = &mut flows.last_mut().expect("one was just added").ports;
        match (*ports.start(), *ports.end()) {
            (0, 0) => {}
            (first, last) if first == last => listed.push(first.to_string()),
            (first, last) => listed.push(format!("{first}-{last}")),
        }
    }
    flows
}
