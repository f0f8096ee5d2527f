//! Peer classes: identities in groups that no peer of a rule tells apart. A wide peer (all namespaces) then costs a rule set as
//! little as a narrow one.
//!
//! A class is what holds the same peers. All classes are found at once by cutting the identities finer with every peer; the class
//! of one more identity is found by the peers that hold it, or is one more.

use super::identities::{Identities, NamespaceLabels};
use super::read::{PodsPeer, Policy};
use crate::rules::{Identity, PeerClass};
use std::collections::{BTreeSet, HashMap};

/// Numbers of peers, ascending.
pub(super) type Peers = Vec<u32>;

/// The classes of all identities, and of which of them each distinct peer consists. Every peer is matched once, however many
/// policies name it.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// Every distinct peer, by number.
    peers: Vec<PodsPeer>,
    numbers: HashMap<PodsPeer, u32>,
    /// By peer.
    of_peer: Vec<Vec<PeerClass>>,
    by_peers: HashMap<Peers, PeerClass>,
}

impl Classes {
    /// Tells identities apart as far as the peers of `policies` do; with the class of each identity.
    pub(super) fn of(
        policies: &[Policy],
        identities: &Identities,
        namespaces: &NamespaceLabels,
    ) -> (Classes, Vec<PeerClass>) {
        let distinct: BTreeSet<&PodsPeer> = policies.iter().flat_map(Policy::pods_peers).collect();
        let peers: Vec<PodsPeer> = distinct.into_iter().cloned().collect();
        let members: Vec<Vec<Identity>> = peers.iter().map(|peer| identities.matching(peer, namespaces)).collect();
        let mut partition = Partition::new(identities.len());
        members.iter().for_each(|members| partition.refine(members));
        let mut held_by: Vec<Peers> = vec![Peers::new(); partition.sizes.len()];
        let mut of_peer = Vec::with_capacity(peers.len());
        for (number, members) in (0u32..).zip(&members) {
            let mut classes: Vec<PeerClass> = members.iter().map(|member| partition.class(*member)).collect();
            classes.sort_unstable();
            classes.dedup();
            classes.iter().for_each(|class| held_by[class.0 as usize].push(number));
            of_peer.push(classes);
        }
        let by_peers = held_by.into_iter().zip((0u32..).map(PeerClass)).collect();
        let numbers = peers.iter().cloned().zip(0u32..).collect();
        (Classes { peers, numbers, of_peer, by_peers }, partition.class_of)
    }

    /// How many classes there are.
    pub(super) fn len(&self) -> usize {
        self.by_peers.len()
    }

    /// How many peers there are.
    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// The number of a peer of one of the policies.
    pub(super) fn number(&self, peer: &PodsPeer) -> u32 {
        self.numbers[peer]
    }

    /// The classes that make up a peer.
    pub(super) fn of_peer(&self, number: u32) -> &[PeerClass] {
        &self.of_peer[number as usize]
    }

    /// The peers for which `is_held` says so.
    pub(super) fn holding(&self, is_held: impl Fn(&PodsPeer) -> bool) -> Peers {
        let holding = (0u32..).zip(&self.peers).filter(|(_, peer)| is_held(peer));
        holding.map(|(number, _)| number).collect()
    }

    /// The class of identities that `peers` hold.
    pub(super) fn find(&self, peers: &Peers) -> Option<PeerClass> {
        self.by_peers.get(peers).copied()
    }

    /// One more class.
    pub(super) fn add(&mut self, peers: Peers) -> PeerClass {
        let class = PeerClass(self.len() as u32);
        peers.iter().for_each(|peer| self.of_peer[*peer as usize].push(class));
        self.by_peers.insert(peers, class);
        class
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
