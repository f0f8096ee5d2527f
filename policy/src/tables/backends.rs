//! The endpoints behind one Service port, of one family, laid out so that every set of them that traffic may have to choose
//! from is a view: no copies, no allocation.
//!
//! One array holds them by state, and within a state by node. So "all that are ready" and "those of a node that are ready" are
//! ranges of it; endpoints that hints assign to a zone or node are positions in it. A second order, by address, answers whether
//! an address is listed. An endpoint takes 28 bytes, 4 more for each zone or node that a hint names.

use super::NodeIndex;
use crate::maglev::Maglev;
use std::net::IpAddr;
use std::ops::Range;

/// Number of a zone (label `topology.kubernetes.io/zone` of nodes), in order of the zones' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneIndex(pub u32);

/// What the conditions of an endpoint mean for traffic, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointState {
    /// Takes new flows.
    Ready,
    /// Terminating and still serving: takes new flows when none is ready (KEP-1669).
    Draining,
    /// Serving, but neither ready nor terminating.
    Serving,
    /// Listed, and takes nothing.
    Unready,
}

impl EndpointState {
    /// As the API would say it.
    pub fn as_str(self) -> &'static str {
        match self {
            EndpointState::Ready => "ready",
            EndpointState::Draining => "terminating",
            EndpointState::Serving => "serving",
            EndpointState::Unready => "unready",
        }
    }
}

/// One target of a Service port; 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Address that the packet is sent to.
    pub addr: IpAddr,
    /// Port that the packet is sent to (the resolved targetPort).
    pub port: u16,
    /// Whether it may be chosen.
    pub state: EndpointState,
    /// [`NODE_UNKNOWN`] or a node's index; without an Option's 4 bytes.
    node: u32,
}

/// Stands for "the slice names no node that there is", and sorts last.
const NODE_UNKNOWN: u32 = u32::MAX;

impl Backend {
    /// An endpoint on `node`, the one that its EndpointSlice names.
    pub fn new(addr: IpAddr, port: u16, state: EndpointState, node: Option<NodeIndex>) -> Backend {
        Backend { addr, port, state, node: node.map_or(NODE_UNKNOWN, |node| node.0) }
    }

    /// The node that the EndpointSlice names; `None` if it names none or one that does not exist.
    pub fn node(&self) -> Option<NodeIndex> {
        (self.node != NODE_UNKNOWN).then_some(NodeIndex(self.node))
    }

    /// Whether the endpoint is on `node`.
    pub fn is_on(&self, node: Option<NodeIndex>) -> bool {
        node.is_some() && self.node() == node
    }
}

/// An endpoint as it goes in: with the zones and nodes that its hints name.
#[derive(Clone, Debug)]
pub(crate) struct HintedBackend {
    pub(crate) backend: Backend,
    /// hints.forZones: `None` if there are none; zones without a node are left out.
    pub(crate) zones: Option<Vec<ZoneIndex>>,
    /// hints.forNodes, likewise.
    pub(crate) nodes: Option<Vec<NodeIndex>>,
}

/// All endpoints of a Service port and family.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    /// By state, node, address and port.
    all: Box<[Backend]>,
    /// Positions in `all` by address and port.
    by_address: Box<[u32]>,
    /// Where the ready ones end.
    ready_end: u32,
    /// Where the draining ones end.
    draining_end: u32,
    /// Consistent choice among all that are ready (or draining), for ports that are reached from outside.
    maglev: Option<Maglev>,
    /// Empty unless every ready endpoint has hints for zones.
    zones: Box<[(ZoneIndex, Subset)]>,
    /// Empty unless every ready endpoint has hints for nodes.
    nodes: Box<[(NodeIndex, Box<[u32]>)]>,
}

/// Ready endpoints that hints assign to a zone.
#[derive(Debug)]
struct Subset {
    positions: Box<[u32]>,
    maglev: Option<Maglev>,
}

impl Backends {
    /// Lays out `endpoints`; one that is listed twice (during a move between slices) counts once, in its best state.
    /// `outside` says whether flows from outside choose among them, which must be the same on every node.
    pub(crate) fn new(mut endpoints: Vec<HintedBackend>, outside: bool) -> Backends {
        endpoints.sort_by_key(|entry| {
            let backend = entry.backend;
            (backend.addr, backend.port, backend.state, backend.node)
        });
        endpoints.dedup_by_key(|entry| (entry.backend.addr, entry.backend.port));
        endpoints.sort_by_key(|entry| {
            let backend = entry.backend;
            (backend.state, backend.node, backend.addr, backend.port)
        });
        let all: Box<[Backend]> = endpoints.iter().map(|entry| entry.backend).collect();
        let mut by_address: Box<[u32]> = (0..all.len() as u32).collect();
        by_address.sort_by_key(|at| {
            let backend = &all[*at as usize];
            (backend.addr, backend.port)
        });
        let end_of = |state| all.partition_point(|backend| backend.state <= state);
        let (ready_end, draining_end) = (end_of(EndpointState::Ready), end_of(EndpointState::Draining));
        let ready = &endpoints[..ready_end];
        let zones = by_hint(ready, |entry| entry.zones.as_deref());
        let nodes = by_hint(ready, |entry| entry.nodes.as_deref());
        let mut backends = Backends {
            by_address,
            ready_end: ready_end as u32,
            draining_end: draining_end as u32,
            maglev: None,
            zones: Box::default(),
            nodes: nodes.into_iter().map(|(node, positions)| (node, positions.into())).collect(),
            all,
        };
        let consistent = |positions: &mut dyn Iterator<Item = u32>| -> Option<Maglev> {
            let keys: Vec<Backend> = positions.map(|at| backends.all[at as usize]).collect();
            outside.then(|| Maglev::new(keys.iter().map(|backend| (backend.addr, backend.port)))).flatten()
        };
        let subsets = zones.into_iter().map(|(zone, positions)| {
            let maglev = consistent(&mut positions.iter().copied());
            (zone, Subset { positions: positions.into(), maglev })
        });
        let subsets: Box<[_]> = subsets.collect();
        backends.maglev = consistent(&mut backends.usable());
        backends.zones = subsets;
        backends
    }

    /// Every listed endpoint, best state first.
    pub(crate) fn all(&self) -> &[Backend] {
        &self.all
    }

    /// Whether new flows could go anywhere in the cluster.
    #[inline]
    pub(crate) fn any_usable(&self) -> bool {
        self.draining_end > 0
    }

    /// All that are ready, else all that are draining.
    fn usable(&self) -> Range<u32> {
        if self.ready_end > 0 { 0..self.ready_end } else { 0..self.draining_end }
    }

    /// The endpoints that flows which enter on `node` may reach: those that hints assign to the node, else to its zone, if
    /// every ready endpoint has such hints and one matches; else all (KEP-2433, KEP-3015, KEP-4444).
    #[inline]
    pub(crate) fn cluster(&self, node: Option<NodeIndex>, zone: Option<ZoneIndex>) -> Candidates<'_> {
        let hinted = |wanted: NodeIndex| {
            let found = self.nodes.binary_search_by_key(&wanted, |(node, _)| *node).ok()?;
            Some(Candidates { of: self, set: Set::Positions(&self.nodes[found].1), maglev: None })
        };
        let zoned = |wanted: ZoneIndex| {
            let found = self.zones.binary_search_by_key(&wanted, |(zone, _)| *zone).ok()?;
            let subset = &self.zones[found].1;
            Some(Candidates { of: self, set: Set::Positions(&subset.positions), maglev: subset.maglev.as_ref() })
        };
        node.and_then(hinted).or_else(|| zone.and_then(zoned)).unwrap_or_else(|| Candidates {
            of: self,
            set: Set::Range(self.usable()),
            maglev: self.maglev.as_ref(),
        })
    }

    /// The endpoints on `node`: those that are ready, else those that are draining.
    #[inline]
    pub(crate) fn local(&self, node: Option<NodeIndex>) -> Candidates<'_> {
        let ready = self.on(node, 0..self.ready_end);
        let range = if ready.is_empty() { self.on(node, self.ready_end..self.draining_end) } else { ready };
        Candidates { of: self, set: Set::Range(range), maglev: None }
    }

    /// The ready endpoints on `node`.
    pub(crate) fn local_ready(&self, node: NodeIndex) -> &[Backend] {
        let range = self.on(Some(node), 0..self.ready_end);
        &self.all[range.start as usize..range.end as usize]
    }

    /// The part of `range`, which lies within one state, that is on `node`.
    #[inline]
    fn on(&self, node: Option<NodeIndex>, range: Range<u32>) -> Range<u32> {
        let Some(NodeIndex(node)) = node else { return range.start..range.start };
        let part = &self.all[range.start as usize..range.end as usize];
        let start = part.partition_point(|backend| backend.node < node);
        let count = part[start..].partition_point(|backend| backend.node == node);
        let start = range.start + start as u32;
        start..start + count as u32
    }

    /// The endpoint at `addr`:`port`, whatever its state.
    #[inline]
    pub(crate) fn find(&self, addr: IpAddr, port: u16) -> Option<&Backend> {
        let found = self.by_address.binary_search_by(|at| {
            let backend = &self.all[*at as usize];
            (backend.addr, backend.port).cmp(&(addr, port))
        });
        found.ok().map(|at| &self.all[self.by_address[at] as usize])
    }
}

/// The positions in `ready` by what their hints name, in order; nothing if one of them has no hints.
fn by_hint<T: Copy + Ord>(
    ready: &[HintedBackend],
    hints: impl Fn(&HintedBackend) -> Option<&[T]>,
) -> Vec<(T, Vec<u32>)> {
    let mut sets = std::collections::BTreeMap::<T, Vec<u32>>::new();
    for (position, entry) in (0u32..).zip(ready) {
        let Some(named) = hints(entry) else { return Vec::new() };
        for name in named {
            let positions = sets.entry(*name).or_default();
            if positions.last() != Some(&position) {
                positions.push(position);
            }
        }
    }
    sets.into_iter().collect()
}

/// Exactly the backends that a flow may be sent to: a view of the tables.
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    of: &'a Backends,
    set: Set<'a>,
    maglev: Option<&'a Maglev>,
}

#[derive(Clone, Debug)]
enum Set<'a> {
    Range(Range<u32>),
    /// Ascending positions.
    Positions(&'a [u32]),
}

impl<'a> Candidates<'a> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.set {
            Set::Range(range) => range.len(),
            Set::Positions(positions) => positions.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at `index`, below [`Self::len`]; the order is the same on every node.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Backend> {
        let position = match &self.set {
            Set::Range(range) => range.clone().nth(index),
            Set::Positions(positions) => positions.get(index).copied(),
        }?;
        Some(self.of.all[position as usize])
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Backend> + use<'a> {
        let Candidates { of, set, .. } = self.clone();
        let count = match &set {
            Set::Range(range) => range.len(),
            Set::Positions(positions) => positions.len(),
        };
        (0..count).map(move |index| match &set {
            Set::Range(range) => of.all[range.start as usize + index],
            Set::Positions(positions) => of.all[positions[index] as usize],
        })
    }

    /// The candidate with address `addr`, of the lowest port if it has several: what session affinity asks.
    pub fn find(&self, addr: IpAddr) -> Option<Backend> {
        let first = self.of.by_address.partition_point(|at| self.of.all[*at as usize].addr < addr);
        let same = self.of.by_address[first..].iter().take_while(|at| self.of.all[**at as usize].addr == addr);
        let mut members = same.filter(|at| self.holds(**at));
        members.next().map(|at| self.of.all[*at as usize])
    }

    fn holds(&self, position: u32) -> bool {
        match &self.set {
            Set::Range(range) => range.contains(&position),
            Set::Positions(positions) => positions.binary_search(&position).is_ok(),
        }
    }

    /// Spreads evenly by the high bits of `hash`.
    #[inline]
    pub fn pick(&self, hash: u64) -> Option<Backend> {
        // Multiply and shift: uses the high bits of the hash and needs no division.
        self.get(((u128::from(hash) * self.len() as u128) >> 64) as usize)
    }

    /// Picks the same backend on every node for which the candidates are the same, and for most hashes the same one after
    /// another backend came or went. Sets that belong to one node alone are not worth a table: they are spread as by
    /// [`Self::pick`].
    #[inline]
    pub fn pick_consistently(&self, hash: u64) -> Option<Backend> {
        match self.maglev {
            Some(maglev) => self.get(maglev.pick(hash)),
            None => self.pick(hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_small_because_tables_hold_every_one_of_the_cluster_for_every_port() {
        assert_eq!(size_of::<Backend>(), 24);
        assert!(size_of::<Backends>() <= 112, "for each port and family: {}", size_of::<Backends>());
    }

    fn hinted(last: u8, state: EndpointState, node: Option<u32>) -> HintedBackend {
        let backend = Backend::new([10, 0, 0, last].into(), 80, state, node.map(NodeIndex));
        HintedBackend { backend, zones: None, nodes: None }
    }

    #[test]
    fn of_an_endpoint_that_is_listed_twice_the_better_entry_counts() {
        let entries = [
            hinted(1, EndpointState::Draining, Some(1)),
            hinted(1, EndpointState::Ready, None),
            hinted(1, EndpointState::Ready, Some(2)),
            hinted(2, EndpointState::Unready, None),
        ];
        for rotation in 0..entries.len() {
            let mut entries = entries.to_vec();
            entries.rotate_left(rotation);
            let backends = Backends::new(entries, false);
            assert_eq!(backends.all().len(), 2);
            let found = backends.find([10, 0, 0, 1].into(), 80).expect("it is listed");
            assert_eq!((found.state, found.node()), (EndpointState::Ready, Some(NodeIndex(2))));
        }
    }

    #[test]
    fn only_sets_that_are_reached_from_outside_have_a_table() {
        let entries: Vec<_> = (1..9).map(|last| hinted(last, EndpointState::Ready, Some(0))).collect();
        assert!(Backends::new(entries.clone(), false).cluster(None, None).maglev.is_none());
        let outside = Backends::new(entries, true);
        assert!(outside.cluster(None, None).maglev.is_some() && outside.local(Some(NodeIndex(0))).maglev.is_none());
    }
}
