//! Which flows a change of manifests opens and which it closes.
//!
//! In: the tables before and after. Out: every flow between pods, between pods and nodes, and between pods and addresses
//! outside that one of them allows and the other does not, put together where pods and ports share a fate, each with what
//! decides it. Nothing is sampled: ports and addresses are asked about piece by piece between all borders that rules draw
//! ([`crate::partition`]), pods group by group of those that no rule tells apart ([`Tables::alike`]). Pairs whose policies and
//! labels are the same on both sides are left out: they cannot differ.
//!
//! Pods are matched by namespace and name, then by workload in order (an edited template gives a Deployment's pods other
//! names). What exists on one side only opens and closes nothing; it is listed.

mod judge;
mod merge;
mod names;
mod pairs;
mod peers;
pub(crate) mod survey;

pub use names::Party;

use crate::partition::Cuts;
use crate::tables::{PodIndex, Tables};
use crate::workloads::Workloads;
use judge::Judge;
use names::Names;
use pairs::Pairs;
use peers::Peers;
use serde::Serialize;

/// One side of the comparison.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// What is in force.
    pub tables: &'a Tables,
    /// What its pods belong to.
    pub workloads: &'a Workloads,
}

/// What differs between two sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Flows that only the new side allows.
    pub opens: Vec<Change>,
    /// Flows that only the old side allows.
    pub closes: Vec<Change>,
    /// Pods that one side does not have.
    pub pods: Unmatched,
}

/// Pods without a counterpart, `NAMESPACE/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// Those that are no more.
    pub only_old: Vec<String>,
    /// Those that are new.
    pub only_new: Vec<String>,
}

/// Flows that open or close together: from every pod or address of `from` to every one of `to`. A pod always reaches itself, and
/// a node its own pods: those flows are not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Who opens the flows.
    pub from: Party,
    /// Who receives them.
    pub to: Party,
    /// 4 or 6 where only addresses of one family are concerned.
    pub family: Option<u8>,
    /// Protocols and the receiver's ports.
    pub flows: Vec<Flows>,
    /// What decides on the new side.
    pub now: String,
    /// What decided on the old side.
    pub before: String,
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Flows {
    /// TCP, UDP or SCTP; ICMP stands for every protocol without ports.
    pub protocol: String,
    /// `80` or `8000-8080`, ascending; empty for protocols without ports.
    pub ports: Vec<String>,
}

impl Diff {
    /// Whether no flow opens or closes.
    pub fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.closes.is_empty()
    }
}

/// Compares two sides.
pub fn diff(old: Side<'_>, new: Side<'_>) -> Diff {
    let mut cuts = Cuts::of(old.tables);
    cuts.add(&Cuts::of(new.tables));
    let pairs = Pairs::of(old, new, &cuts);
    let peers = Peers::of(old.tables, new.tables, &cuts);
    let names = Names::new(new, &pairs, &peers);
    let judged = Judge::new(old.tables, new.tables, &pairs, &peers, &cuts).run();
    let listed = |tables, pods: &[PodIndex]| pods.iter().map(|pod| names::of_pod(tables, *pod)).collect();
    Diff {
        opens: merge::changes(&judged, true, &names),
        closes: merge::changes(&judged, false, &names),
        pods: Unmatched {
            only_old: listed(old.tables, &pairs.only_old),
            only_new: listed(new.tables, &pairs.only_new),
        },
    }
}

#[cfg(test)]
mod tests;
