//! Which backend takes a request.
//!
//! Backends of a rule share by weight: the requests of a rule walk through its weights in steps of the golden ratio, which spreads
//! every share evenly over any stretch of requests and needs no state but a number. Endpoints of a Service take turns; of the one
//! whose turn it is and the next, the one with fewer requests under way is chosen. Turns reach every endpoint within as many requests as
//! there are, which random choices do not, and the comparison leads past an endpoint that is slow.

use super::backend::{Backend, BackendKey, Backends};
use hashbrown::HashMap;
use policy::routes::{Endpoints, Forward, Routes, WeightedTarget};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The routes in force as one worker holds them, with whose turn it is.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) generation: u64,
    pub(super) routes: Arc<Routes>,
    /// By the address of an [`Endpoints`] of `routes`, which stays where it is as long as they are held.
    groups: RefCell<HashMap<usize, Rc<Group>>>,
    /// By the address of a [`Forward`] or filter of `routes`.
    turns: RefCell<HashMap<usize, u64>>,
    first_turn: usize,
}

/// The endpoints of a Service's port.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<Rc<Backend>>,
    next: Cell<usize>,
}

impl Held {
    /// `routes`, nobody's turn yet. Workers differ in `first_turn`, so that they do not all begin with the same endpoint.
    pub(super) fn new(generation: u64, routes: Arc<Routes>, first_turn: usize) -> Held {
        Held { generation, routes, groups: RefCell::default(), turns: RefCell::default(), first_turn }
    }

    /// The target of the next request that goes by `forward`.
    pub(super) fn target<'a>(&self, forward: &'a Forward) -> Option<&'a WeightedTarget> {
        if let [only] = forward.targets.as_slice() {
            return Some(only);
        }
        at_weight(&forward.targets, self.point(std::ptr::from_ref(forward).addr(), forward.weight_total))
    }

    /// Whether the next request is one of the `numerator` of `denominator` to which the part of these routes at `address` applies.
    pub(super) fn is_due(&self, address: usize, numerator: u32, denominator: u32) -> bool {
        numerator >= denominator || self.point(address, denominator.into()) < u64::from(numerator)
    }

    /// The next number of a sequence that is spread evenly below `end`, for the part of these routes at `address`.
    fn point(&self, address: usize, end: u64) -> u64 {
        let mut turns = self.turns.borrow_mut();
        let turn = turns.entry(address).or_insert(self.first_turn as u64);
        *turn += 1;
        ((u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(end)) >> 64) as u64
    }

    /// The backends at `endpoints`, which are part of these routes.
    pub(super) fn group(&self, endpoints: &Arc<Endpoints>, backends: &Backends) -> Rc<Group> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.entry(Arc::as_ptr(endpoints).addr()).or_insert_with(|| {
            let key = |address: &_| BackendKey { address: *address, protocol: endpoints.protocol };
            let members = endpoints.addresses.iter().map(|address| backends.get(key(address))).collect();
            Rc::new(Group { members, next: Cell::new(self.first_turn) })
        });
        group.clone()
    }
}

/// The target whose share of the weights has `point`.
fn at_weight(targets: &[WeightedTarget], mut point: u64) -> Option<&WeightedTarget> {
    targets.iter().find(|target| {
        let weight = u64::from(target.weight);
        let is_in = point < weight;
        point = point.saturating_sub(weight);
        is_in
    })
}

impl Group {
    /// Who takes the next request; none of `tried`, and none that could not be reached lately if there are others.
    pub(super) fn choose(&self, tried: &[BackendKey]) -> Option<Rc<Backend>> {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        let is_left = |backend: &&Rc<Backend>| !tried.contains(&backend.key());
        let mut reachable = self.from(turn).filter(is_left).filter(|backend| !backend.is_skipped());
        let chosen = match (reachable.next(), reachable.next()) {
            (Some(first), Some(second)) if second.outstanding() < first.outstanding() => Some(second),
            (Some(first), _) => Some(first),
            (None, _) => self.from(turn).find(is_left),
        };
        chosen.cloned()
    }

    /// All members, beginning with the one whose turn it is.
    fn from(&self, turn: usize) -> impl Iterator<Item = &Rc<Backend>> {
        let (before, after) = self.members.split_at(turn % self.members.len().max(1));
        after.iter().chain(before)
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::*;
    use policy::routes::{BackendProtocol, Target};
    use std::collections::HashMap as Counts;
    use std::time::Duration;

    fn endpoints(count: u16) -> Arc<Endpoints> {
        Arc::new(Endpoints {
            namespace: "a".into(),
            service: "b".into(),
            port: 80,
            protocol: BackendProtocol::Http1,
            addresses: (1..=count).map(|port| ([10, 0, 0, 1], port).into()).collect(),
        })
    }

    fn group(count: u16) -> (Rc<Clock>, Rc<Group>) {
        let clock = Rc::new(Clock::default());
        let backends = Backends::new(clock.clone(), 1);
        (clock, Held::new(0, Arc::default(), 3).group(&endpoints(count), &backends))
    }

    fn forward(weights: &[u32]) -> Forward {
        let target = |weight: &u32| WeightedTarget {
            weight: *weight,
            filters: Vec::new(),
            target: Target::Unresolved { status: 500, why: weight.to_string() },
        };
        Forward {
            targets: weights.iter().map(target).collect(),
            weight_total: weights.iter().map(|weight| u64::from(*weight)).sum(),
        }
    }

    fn check_shares(weights: &[u32], requests: u32) {
        let forward = forward(weights);
        let held = Held::new(0, Arc::default(), 0);
        let mut counts: Counts<u32, u32> = Counts::new();
        for _ in 0..requests {
            *counts.entry(held.target(&forward).unwrap().weight).or_default() += 1;
        }
        for weight in weights {
            let due = f64::from(requests) * f64::from(*weight) / forward.weight_total as f64;
            let got = f64::from(counts.get(weight).copied().unwrap_or_default());
            assert!((got - due).abs() <= 3.0, "weight {weight} of {weights:?}: {got} of {due} requests");
        }
    }

    #[test]
    fn requests_are_shared_by_weight_over_every_stretch() {
        check_shares(&[1, 9], 100);
        check_shares(&[70, 30, 0], 500);
        check_shares(&[1, 2, 3, 4], 50);
        check_shares(&[u32::MAX, u32::MAX - 1], 100);
    }

    #[test]
    fn every_endpoint_has_its_turn() {
        let (_, group) = group(10);
        let chosen: std::collections::HashSet<_> = (0..10).map(|_| group.choose(&[]).unwrap().key().address).collect();
        assert_eq!(chosen.len(), 10);
    }

    #[test]
    fn a_busy_endpoint_is_stepped_over() {
        let (_, group) = group(2);
        let busy = group.members[0].clone();
        let _leases = [busy.lease(), busy.lease()];
        for _ in 0..4 {
            assert_eq!(group.choose(&[]).unwrap().key(), group.members[1].key());
        }
    }

    #[test]
    fn an_endpoint_that_could_not_be_reached_is_skipped_while_there_are_others() {
        let (clock, group) = group(2);
        group.members[0].skip(Duration::from_secs(1));
        for _ in 0..4 {
            assert_eq!(group.choose(&[]).unwrap().key(), group.members[1].key());
        }
        assert_eq!(group.choose(&[group.members[1].key()]).unwrap().key(), group.members[0].key());
        (0..20).for_each(|_| clock.advance());
        assert!((0..2).any(|_| group.choose(&[]).unwrap().key() == group.members[0].key()));
    }

    #[test]
    fn nobody_is_chosen_twice_or_from_nothing() {
        let (_, one) = group(1);
        assert!(one.choose(&[one.members[0].key()]).is_none());
        let (_, none) = group(0);
        assert!(none.choose(&[]).is_none());
    }
}
