//! One side by itself: its pods in groups, its nodes and the addresses outside in pieces, and the words for them.

use super::Side;
use super::judge::Place;
use super::names::{Names, Party};
use super::pairs::{Pairs, addresses};
use super::peers::{Peer, Peers};
use crate::partition::Cuts;
use crate::tables::{PodIndex, Tables};
use crate::workloads::Workloads;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that policies of `tables` may tell apart, told apart.
pub(crate) struct Survey<'a> {
    pub(crate) tables: &'a Tables,
    /// What all rules cut.
    pub(crate) cuts: Cuts,
    workloads: &'a Workloads,
    pairs: Pairs,
    peers: Peers,
}

/// An address, for all that no rule tells apart from it.
pub(crate) enum Spot {
    /// Of pods: the number of their group.
    Pods(usize),
    /// Of nodes.
    Nodes,
    /// Of nobody: the first and the last address of the stretch.
    Outside(IpAddr, IpAddr),
}

impl<'a> Survey<'a> {
    pub(crate) fn of(tables: &'a Tables, workloads: &'a Workloads) -> Survey<'a> {
        let side = Side { tables, workloads };
        let mut cuts = Cuts::of(tables);
        for cidr in tables.nodes.iter().flat_map(|node| &node.pod_cidrs) {
            cuts.add_net(*cidr);
        }
        let pairs = Pairs::of(side, side, &cuts);
        let peers = Peers::of(tables, tables, &cuts);
        Survey { tables, cuts, workloads, pairs, peers }
    }

    /// The pods of each group; those of the host network are in none.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Vec<PodIndex>> {
        let pods = |members: &Vec<usize>| members.iter().map(|member| self.pairs.pairs[*member].new).collect();
        self.pairs.groups.iter().map(move |group| pods(&group.members))
    }

    /// Addresses of all kinds, one for each kind and family.
    pub(crate) fn spots(&self) -> Vec<(IpAddr, Spot)> {
        let mut spots = Vec::new();
        for (number, pods) in self.groups().enumerate() {
            spots.extend(addresses(self.tables, pods[0]).iter().map(|addr| (*addr, Spot::Pods(number))));
        }
        for peer in &self.peers.peers {
            match peer {
                Peer::Nodes { addresses, .. } => spots.push((addresses[0].addr, Spot::Nodes)),
                Peer::Outside { first, last, example } => spots.push((*example, Spot::Outside(*first, *last))),
            }
        }
        spots
    }

    /// A name for each set of patterns that DNS names are told apart by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.peers.names.iter().map(|(name, _)| name)
    }

    /// Groups of pods in few words.
    pub(crate) fn party(&self, groups: impl IntoIterator<Item = usize>) -> Party {
        let places: BTreeSet<Place> = groups.into_iter().map(|group| Place::Pods(group as u32)).collect();
        let side = Side { tables: self.tables, workloads: self.workloads };
        Names::new(side, &self.pairs, &self.peers).party(&places)
    }
}
