//! The other nodes: who may send to us, where we send to, which inner addresses live there.

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

/// All remote nodes, immutable.
#[derive(Debug, Default)]
pub struct Peers {
    peers: Vec<Peer>,
}

impl Peers {
    /// Builds the table. Later peers lose against earlier ones where an address or a CIDR is claimed twice.
    pub fn new(peers: Vec<Peer>) -> Peers {
        Peers { peers }
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
        let _ = addr;
        todo!("overlay")
    }

    /// The peer whose pod CIDR holds `addr` (longest match).
    pub fn route(&self, addr: IpAddr) -> Option<PeerId> {
        let _ = addr;
        todo!("overlay")
    }
}

/// The MAC of the VTEP of the node called `name`, the same wherever it is computed.
pub fn derive_vtep_mac(name: &str) -> MacAddr {
    let _ = name;
    todo!("overlay")
}
