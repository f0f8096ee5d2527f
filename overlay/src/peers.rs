//! The other nodes: who may send to us, where we send to, which inner addresses live there.
//!
//! The table is compiled once from a list of peers and never changes: a changed node makes another table, which is swapped
//! in whole, so no entry of a node that moved stays behind, and there is nothing to resolve on the first packet to a peer.
//! Both lookups are a binary search over sorted, disjoint ranges; IPv4 is held in its IPv4-mapped IPv6 form.

use ipnet::IpNet;
use std::net::IpAddr;
use wire::MacAddr;

/// Position of a peer in its [`Peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// One remote node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Node name.
    pub name: String,
    /// Underlay addresses; the first is sent to, any is accepted as a sender.
    pub underlay: Vec<IpAddr>,
    /// Destination MAC of inner frames to this node.
    pub vtep_mac: MacAddr,
    /// Pod CIDRs that live there.
    pub pod_cidrs: Vec<IpNet>,
}

/// Addresses from `first` to `last`, both included, that belong to `peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u128,
    last: u128,
    peer: PeerId,
}

/// All remote nodes, immutable.
#[derive(Debug, Default)]
pub struct Peers {
    peers: Vec<Peer>,
    underlay: Vec<Span>,
    routes: Vec<Span>,
}

impl Peers {
    /// Builds the table. Later peers lose against earlier ones where an address or a CIDR is claimed twice.
    pub fn new(peers: Vec<Peer>) -> Peers {
        let ids = || (0u32..).map(PeerId).zip(&peers);
        let address = |(id, addr): (PeerId, &IpAddr)| Span { first: widen(*addr), last: widen(*addr), peer: id };
        let cidr =
            |(id, net): (PeerId, &IpNet)| Span { first: widen(net.network()), last: widen(net.broadcast()), peer: id };
        let underlay = ids().flat_map(|(id, peer)| peer.underlay.iter().map(move |a| (id, a))).map(address).collect();
        let routes = ids().flat_map(|(id, peer)| peer.pod_cidrs.iter().map(move |n| (id, n))).map(cidr).collect();
        let (underlay, routes) = (flatten(underlay), flatten(routes));
        Peers { peers, underlay, routes }
    }

    /// The peer at `id`.
    pub fn get(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.0 as usize)
    }

    /// All peers in order.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().enumerate().map(|(i, p)| (PeerId(i as u32), p))
    }

    /// The peer that owns the underlay address `addr` (a tunnel sender, or a node address to reach).
    pub fn find_by_underlay(&self, addr: IpAddr) -> Option<PeerId> {
        find(&self.underlay, addr)
    }

    /// The peer whose pod CIDR holds `addr` (longest match).
    pub fn route(&self, addr: IpAddr) -> Option<PeerId> {
        find(&self.routes, addr)
    }
}

fn widen(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn find(spans: &[Span], addr: IpAddr) -> Option<PeerId> {
    let addr = widen(addr);
    let span = spans[..spans.partition_point(|span| span.first <= addr)].last()?;
    (addr <= span.last).then_some(span.peer)
}

/// Sorted and disjoint spans that answer as the given ones would: the narrowest wins, then the first given. Prefixes are either
/// disjoint or nested, so one pass with a stack of the open ones is enough.
fn flatten(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.first, std::cmp::Reverse(span.last)));
    spans.dedup_by_key(|span| (span.first, span.last));
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    let mut open: Vec<Span> = Vec::new();
    // Everything before `at` has its answer; `None` once the last address has.
    let mut at = Some(0u128);
    let mut close = |at: &mut Option<u128>, span: Span| {
        if let Some(first) = at.filter(|first| *first <= span.last) {
            out.push(Span { first, ..span });
            *at = span.last.checked_add(1);
        }
    };
    for span in spans {
        while let Some(inner) = open.pop_if(|inner| inner.last < span.first) {
            close(&mut at, inner);
        }
        if let (Some(outer), Some(last)) = (open.last(), span.first.checked_sub(1)) {
            close(&mut at, Span { last, ..*outer });
        }
        at = Some(span.first);
        open.push(span);
    }
    while let Some(span) = open.pop() {
        close(&mut at, span);
    }
    out
}

/// The MAC of the VTEP of the node called `name`, the same wherever it is computed.
///
/// FNV-1a (64 bits): both ends of a tunnel compute it on their own, maybe by different builds of the program, so the hash must
/// be written down somewhere else than in a standard library that may change it. Two nodes with one MAC do no harm: a frame
/// is sent to a peer's underlay address, and the MAC is checked only by the node that receives it.
pub fn derive_vtep_mac(name: &str) -> MacAddr {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = name.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // The address has room for 40 bits; the upper ones are folded in.
    MacAddr::local(hash ^ (hash >> 40))
}

#[cfg(test)]
mod tests;
