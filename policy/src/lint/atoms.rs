//! Who may be at the other end of a flow, as far as rules tell it apart, and what ports there are.

use crate::diff::survey::{Spot, Survey};
use std::net::IpAddr;
use std::sync::Arc;

/// One of them.
pub(super) struct Atom {
    pub(super) addr: IpAddr,
    pub(super) spot: Spot,
    /// The name that it was looked up by, at most one.
    pub(super) names: Vec<Arc<str>>,
}

/// All of them.
pub(super) struct Atoms {
    pub(super) all: Vec<Atom>,
}

impl Atoms {
    pub(super) fn of(survey: &Survey<'_>) -> Atoms {
        let mut all: Vec<Atom> =
            survey.spots().into_iter().map(|(addr, spot)| Atom { addr, spot, names: Vec::new() }).collect();
        for name in survey.names() {
            for (addr, spot) in survey.spots() {
                if matches!(spot, Spot::Outside(..)) {
                    all.push(Atom { addr, spot, names: vec![name.clone()] });
                }
            }
        }
        Atoms { all }
    }
}
