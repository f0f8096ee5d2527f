//! Peer classes: identities in groups that no peer of a rule tells apart. A wide peer (all namespaces) then costs a rule set as
//! little as a narrow one.

use super::identities::Identities;
use super::read::{PodsPeer, Policy};
use crate::rules::{Identity, PeerClass};
use std::collections::{BTreeSet, HashMap};

/// The classes of all identities, and of which of them each distinct peer consists. Every peer is matched once, however many
/// policies name it.
pub(super) struct Classes<'a> {
    /// By identity.
    pub(super) of_identity: Vec<PeerClass>,
    of_peer: HashMap<&'a PodsPeer, Vec<PeerClass>>,
}

impl<'a> Classes<'a> {
    pub(super) fn of(policies: &'a [Policy], identities: &Identities<'_>) -> Classes<'a> {
        let peers: BTreeSet<&PodsPeer> = policies.iter().flat_map(Policy::pods_peers).collect();
        let members: Vec<Vec<Identity>> = peers.iter().map(|peer| identities.matching(peer)).collect();
        let mut partition = Partition::new(identities.len());
        members.iter().for_each(|members| partition.refine(members));
        let of_peer = peers.into_iter().zip(&members).map(|(peer, members)| {
            let mut classes: Vec<PeerClass> = members.iter().map(|member| partition.class(*member)).collect();
            classes.sort_unstable();
            classes.dedup();
            (peer, classes)
        });
        Classes { of_peer: of_peer.collect(), of_identity: partition.class_of }
    }

    /// The classes that make up a peer of one of the policies.
    pub(super) fn of_peer(&self, peer: &PodsPeer) -> &[PeerClass] {
        &self.of_peer[peer]
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
